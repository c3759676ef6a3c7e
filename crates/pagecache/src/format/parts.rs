//! Where the parts of an extent are, for the accounts: bytes in each segment, behind the reference in a page's record.
//!
//! Pairs of varints to the end of the body, rising by segment: sequence less the one before less 1 (of the first: the sequence), bytes / 8.

use super::bytes::{Cursor, push_varint};
use crate::base::ids::Sequence;

/// Bytes of an extent's records in each segment, rising by sequence; never none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Parts {
    parts: Vec<(Sequence, u64)>,
}

impl Parts {
    /// Adds a record that lies behind all others.
    pub(crate) fn add(&mut self, sequence: Sequence, bytes: u64) {
        match self.parts.last_mut() {
            Some((last, sum)) if *last == sequence => *sum += bytes,
            _ => self.parts.push((sequence, bytes)),
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Sequence, u64)> + '_ {
        self.parts.iter().copied()
    }

    pub(crate) fn is_in(&self, sequence: Sequence) -> bool {
        self.parts.binary_search_by_key(&sequence, |(at, _)| *at).is_ok()
    }

    /// Bytes of heap behind it.
    pub(crate) fn heap(&self) -> usize {
        self.parts.capacity() * size_of::<(Sequence, u64)>()
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let (mut out, mut next) = (Vec::with_capacity(self.parts.len() * 4), 0);
        for (sequence, bytes) in &self.parts {
            push_varint(&mut out, sequence.0.wrapping_sub(next));
            push_varint(&mut out, bytes / 8);
            next = sequence.0 + 1;
        }
        out
    }

    /// Reads all of `bytes`. `None` where they are not what a writer makes.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Parts> {
        let mut cursor = Cursor::new(bytes);
        // As many as there are: they are kept as long as the page is, and its bytes count.
        let varints = bytes.iter().filter(|byte| **byte < 0x80).count();
        let (mut parts, mut next) = (Vec::with_capacity(varints / 2), 0u64);
        while !cursor.rest().is_empty() {
            let sequence = next.checked_add(cursor.varint()?)?;
            let bytes = cursor.varint().filter(|granules| *granules > 0)?.checked_mul(8)?;
            next = sequence.checked_add(1)?;
            parts.push((Sequence(sequence), bytes));
        }
        (!parts.is_empty()).then_some(Parts { parts })
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn parts_come_back_one_a_segment() {
        let mut parts = Parts::default();
        for (sequence, bytes) in [(0, 8), (0, 16), (1, 1 << 30), (500, 16_384), (500, 8), (1 << 40, 72)] {
            parts.add(Sequence(sequence), bytes);
        }
        let flat: Vec<_> = parts.iter().map(|(sequence, bytes)| (sequence.0, bytes)).collect();
        assert_eq!(flat, [(0, 24), (1, 1 << 30), (500, 16_392), (1 << 40, 72)]);
        assert!(parts.is_in(Sequence(500)) && !parts.is_in(Sequence(2)));
        let decoded = Parts::decode(&parts.encode()).unwrap();
        assert_eq!(decoded.heap(), 4 * size_of::<(Sequence, u64)>());
        assert_eq!(decoded, parts);
    }

    #[test]
    fn what_no_writer_makes_is_refused() {
        for bytes in [&[][..], &[1], &[1, 0], &[0x80], &[1, 1, 0x81], &[0xff; 10]] {
            assert_eq!(Parts::decode(bytes), None, "{bytes:?}");
        }
    }
}
