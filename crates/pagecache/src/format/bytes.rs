//! Little-endian integers and varints, read with a check and written into buffers that grow.

/// A reader over bytes that may end too early: every step says so instead of panicking.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Cursor { rest: bytes }
    }

    pub(crate) fn rest(self) -> &'a [u8] {
        self.rest
    }

    pub(crate) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (now, later) = self.rest.split_at_checked(count)?;
        self.rest = later;
        Some(now)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(u8::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// LEB128, shortest form only, so that every value has one encoding.
    pub(crate) fn varint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for place in 0..10u32 {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if place == 9 && bits > 1 {
                return None;
            }
            value |= bits << (7 * place);
            if byte & 0x80 == 0 {
                return (byte != 0 || place == 0).then_some(value);
            }
        }
        None
    }
}

/// A small buffer on the stack for headers; what does not fit is a bug that tests meet, and is dropped in production
/// by no caller: every head is shorter than its capacity by construction (see the asserts at the callers).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Small<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> Small<N> {
    pub(crate) fn new() -> Self {
        Small { bytes: [0; N], len: 0 }
    }

    pub(crate) fn push(&mut self, byte: u8) {
        debug_assert!(self.len < N, "a head outgrew its buffer");
        if let Some(slot) = self.bytes.get_mut(self.len) {
            *slot = byte;
            self.len += 1;
        }
    }

    pub(crate) fn extend(&mut self, bytes: &[u8]) {
        debug_assert!(self.len + bytes.len() <= N, "a head outgrew its buffer");
        if let Some(target) = self.bytes.get_mut(self.len..self.len + bytes.len()) {
            target.copy_from_slice(bytes);
            self.len += bytes.len();
        }
    }

    pub(crate) fn varint(&mut self, mut value: u64) {
        while value >> 56 != 0 {
            self.push(value as u8 | 0x80);
            value >>= 7;
        }
        let (bytes, len) = varint(value);
        self.extend(bytes.to_le_bytes().get(..len).unwrap_or_default());
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }
}

/// Bytes that [`Small::varint`] takes for a value.
pub(crate) const fn varint_len(value: u64) -> usize {
    (70 - (value | 1).leading_zeros() as usize) / 7
}

/// The varint of a value below 2^56, in the order of memory, and its length.
#[inline]
pub(crate) fn varint(value: u64) -> (u64, usize) {
    debug_assert!(value >> 56 == 0);
    let len = varint_len(value);
    // Groups of seven bits to bytes, by halves: of 28 bits each to 32, of 14 to 16, of 7 to 8.
    let halves = (value & 0x0fff_ffff) | (value & 0x0fff_ffff << 28) << 4;
    let quarters = (halves & 0x3fff_0000_3fff) | (halves & 0x3fff_0000_3fff << 14) << 2;
    let groups = (quarters & 0x7f_007f_007f_007f) | (quarters & 0x7f_007f_007f_007f << 7) << 1;
    // The high bit of every byte but the last.
    let more = 0x8080_8080_8080_8080 & ((1u64 << (8 * (len - 1))) - 1);
    (groups | more, len)
}

/// Adds a varint to a buffer that grows.
#[inline]
pub(crate) fn push_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >> 56 != 0 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    // Eight bytes at once, of which those count that it has.
    let (bytes, len) = varint(value);
    let end = out.len() + len;
    out.extend_from_slice(&bytes.to_le_bytes());
    out.truncate(end);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_come_back_and_have_one_encoding() {
        for shift in 0..64 {
            for value in [1u64 << shift, (1 << shift) - 1, u64::MAX >> shift] {
                let mut out = Small::<10>::new();
                out.varint(value);
                let mut grown = vec![1];
                push_varint(&mut grown, value);
                assert_eq!((out.len(), &grown[1..]), (varint_len(value), out.as_slice()));
                assert_eq!(Cursor::new(out.as_slice()).varint(), Some(value));
                assert_eq!(Cursor::new(&out.as_slice()[..out.len() - 1]).varint(), None);
            }
        }
        assert_eq!(Cursor::new(&[0x80, 0]).varint(), None, "a longer form of zero");
        assert_eq!(Cursor::new(&[0xff; 11]).varint(), None, "more than 64 bits");
    }
}
