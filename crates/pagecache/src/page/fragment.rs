//! What a page is made of: fragments, how they become bytes, and what they weigh in memory.

use std::any::Any;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::base::aligned::AlignedBuf;

/// Bytes as they were read from disk, owned, the first at a multiple of 8.
///
/// A page type with its own layout keeps these and looks into them; nothing is decoded nor copied.
#[derive(Clone, Debug, Default)]
pub struct PageBytes {
    buf: AlignedBuf,
    start: usize,
    end: usize,
}

impl PageBytes {
    pub(crate) fn new(buf: AlignedBuf, start: usize, end: usize) -> PageBytes {
        let end = end.min(buf.as_slice().len());
        PageBytes { start: start.min(end), end, buf }
    }

    /// `len` zero bytes.
    pub fn zeroed(len: usize) -> PageBytes {
        PageBytes::new(AlignedBuf::zeroed(len), 0, len)
    }

    /// The bytes, to change before the page is handed to the store.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        self.buf.as_mut_slice().get_mut(self.start..self.end).unwrap_or_default()
    }

    /// Bytes of heap behind it, the record's header included.
    pub fn heap_size(&self) -> usize {
        self.buf.heap()
    }
}

impl std::ops::Deref for PageBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.buf.as_slice().get(self.start..self.end).unwrap_or_default()
    }
}

/// A page fragment: a whole page, or a change to one.
///
/// Every `Serialize + DeserializeOwned` type is one, stored in postcard's format. A type with a byte layout of its own does
/// not implement `Serialize` but this trait: see [`as_bytes`](Fragment::as_bytes) and [`decode`](Fragment::decode).
pub trait Fragment: Sized + Send + Sync + 'static {
    /// The fragment's bytes where they lie in memory as they shall lie on disk, stored aligned to 8: nothing is encoded.
    fn as_bytes(&self) -> Option<&[u8]> {
        None
    }

    /// Appends the fragment's bytes, where [`as_bytes`](Fragment::as_bytes) has none.
    ///
    /// # Errors
    /// Says why it cannot be encoded; nothing is written then.
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), String>;

    /// Makes a fragment of bytes that were stored. They are known to be what was written.
    ///
    /// # Errors
    /// Says why these bytes are none.
    fn decode(bytes: PageBytes) -> Result<Self, String>;

    /// Bytes of heap that the fragment owns, beside its own `size_of`.
    fn heap_size(&self) -> usize;
}

impl<T: Serialize + DeserializeOwned + Send + Sync + 'static> Fragment for T {
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), String> {
        // The buffer is taken apart and put back, so that its capacity is reused.
        let bytes = postcard::to_extend(self, std::mem::take(out)).map_err(|error| error.to_string())?;
        *out = bytes;
        Ok(())
    }

    fn decode(bytes: PageBytes) -> Result<Self, String> {
        match postcard::take_from_bytes(&bytes) {
            Ok((fragment, [])) => Ok(fragment),
            Ok((_, rest)) => Err(format!("{} bytes are left over", rest.len())),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Exact for `String`, `Vec` and `Box<[_]>` of bytes and numbers; the encoded length for everything else.
    fn heap_size(&self) -> usize {
        exact_heap(self).unwrap_or_else(|| encoded_len(self))
    }
}

fn exact_heap<T: 'static>(fragment: &T) -> Option<usize> {
    let any: &dyn Any = fragment;
    macro_rules! numbers {
        ($($number:ty)*) => {
            $(
                if let Some(vec) = any.downcast_ref::<Vec<$number>>() {
                    return Some(vec.capacity() * size_of::<$number>());
                }
                if let Some(slice) = any.downcast_ref::<Box<[$number]>>() {
                    return Some(size_of_val::<[$number]>(slice));
                }
                if any.is::<$number>() {
                    return Some(0);
                }
            )*
        };
    }
    if let Some(string) = any.downcast_ref::<String>() {
        return Some(string.capacity());
    }
    numbers!(u8 u16 u32 u64 i8 i16 i32 i64 f32 f64);
    None
}

fn encoded_len<T: Serialize>(fragment: &T) -> usize {
    postcard::serialize_with_flavor(fragment, postcard::ser_flavors::Size::default()).unwrap_or(0)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn heap_sizes_are_real() {
        let mut text = String::with_capacity(1000);
        text.push('a');
        assert_eq!(Fragment::heap_size(&text), text.capacity());
        assert_eq!(Fragment::heap_size(&vec![0u64; 10]), 80);
        assert_eq!(Fragment::heap_size(&vec![1u8; 10].into_boxed_slice()), 10);
        assert!(Fragment::heap_size(&vec!["abc".to_owned(); 10]) >= 30);
    }

    #[test]
    fn left_over_bytes_are_refused() {
        let mut out = Vec::new();
        Fragment::encode(&7u32, &mut out).unwrap();
        out.push(0);
        let mut bytes = PageBytes::zeroed(out.len());
        bytes.as_mut_slice().copy_from_slice(&out);
        assert!(<u32 as Fragment>::decode(bytes).is_err());
    }
}
