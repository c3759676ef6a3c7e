//! A byte buffer whose first byte lies at a multiple of 8, so that a page's own layout can be read in place.

/// Zeroed bytes, aligned to 8.
#[derive(Clone, Debug, Default)]
pub(crate) struct AlignedBuf {
    words: Vec<u64>,
    len: usize,
}

impl AlignedBuf {
    pub(crate) fn zeroed(len: usize) -> AlignedBuf {
        AlignedBuf { words: vec![0; len.div_ceil(8)], len }
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        // SAFETY: `words` owns at least `len` initialized bytes, and a byte has no alignment nor invalid value.
        unsafe { std::slice::from_raw_parts(self.words.as_ptr().cast(), self.len) }
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: as above; the borrow is unique, and every bit pattern of a `u64` is valid.
        unsafe { std::slice::from_raw_parts_mut(self.words.as_mut_ptr().cast(), self.len) }
    }

    /// Bytes of heap behind it.
    pub(crate) fn heap(&self) -> usize {
        self.words.capacity() * 8
    }

    /// Makes it longer, the new bytes zero.
    pub(crate) fn grow(&mut self, len: usize) {
        if len > self.len {
            self.words.resize(len.div_ceil(8), 0);
            self.len = len;
        }
    }
}
