//! A leaf of the map: where the pages of a range of ids are, one entry an id.
//!
//! | entry | bytes |
//! |---|---|
//! | ids that hold nothing and never did | 0, how many of them in a row |
//! | a freed id | 1, the version of its free / 8 |
//! | a page | 1 + how many pieces, then each of them, oldest first |
//!
//! A piece is the distance of its granule from the one before it in the leaf (of the first: from 0), then its length class,
//! 1,024 more where the record names an extent. All
//! numbers are varints, distances zigzag: 0, -1, 1, -2 are 0, 1, 2, 3.

use super::bytes::{Cursor, push_varint};
use super::piece::Piece;
use super::record::Head;
use crate::base::ids::Version;

/// The most ids that a leaf may have.
pub(crate) const IDS_MAX: u64 = 512;

/// What a leaf says of an id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    Absent,
    Free(Version),
    /// Its records, oldest first; never none.
    Data(Vec<Piece>),
}

/// Which leaf it is, and of which checkpoint: the head of its record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LeafHead {
    pub(crate) number: u64,
    pub(crate) checkpoint: u64,
}

impl LeafHead {
    pub(crate) fn encode(self) -> Head {
        let mut head = Head::new();
        head.varint(self.number);
        head.varint(self.checkpoint);
        head
    }

    /// Reads the head of a body; the rest is entries.
    pub(crate) fn decode(body: &[u8]) -> Option<(LeafHead, &[u8])> {
        let mut cursor = Cursor::new(body);
        let head = LeafHead { number: cursor.varint()?, checkpoint: cursor.varint()? };
        Some((head, cursor.rest()))
    }
}

/// A leaf under construction.
#[derive(Debug, Default)]
pub(crate) struct LeafWriter {
    bytes: Vec<u8>,
    absent: u64,
    granule: u64,
    /// Ids without data.
    vacant: u64,
}

impl LeafWriter {
    /// Writes where another leaf was.
    pub(crate) fn over(mut room: Vec<u8>) -> LeafWriter {
        room.clear();
        LeafWriter { bytes: room, ..LeafWriter::default() }
    }

    pub(crate) fn absent(&mut self) {
        self.absent += 1;
        self.vacant += 1;
    }

    pub(crate) fn free(&mut self, version: Version) {
        self.end_run();
        self.vacant += 1;
        push_varint(&mut self.bytes, 1);
        push_varint(&mut self.bytes, version.0 / 8);
    }

    /// A page of `count` pieces.
    pub(crate) fn data(&mut self, count: usize, pieces: impl Iterator<Item = Piece>) {
        self.end_run();
        push_varint(&mut self.bytes, 1 + count as u64);
        for piece in pieces {
            push_varint(&mut self.bytes, zigzag(piece.granule().wrapping_sub(self.granule) as i64));
            push_varint(&mut self.bytes, piece.class());
            self.granule = piece.granule();
        }
    }

    fn end_run(&mut self) {
        if self.absent > 0 {
            push_varint(&mut self.bytes, 0);
            push_varint(&mut self.bytes, std::mem::take(&mut self.absent));
        }
    }

    /// The entries, and how many ids hold no data.
    pub(crate) fn finish(mut self) -> (Vec<u8>, u64) {
        self.end_run();
        (self.bytes, self.vacant)
    }
}

/// Reads the entries of a leaf of `ids` ids. `None` where they are not what a writer makes.
pub(crate) fn entries(bytes: &[u8], ids: u64) -> Option<Vec<Entry>> {
    let mut cursor = Cursor::new(bytes);
    // Bounded by what a root may say of its leaves, not by what these bytes say.
    let mut entries = Vec::with_capacity(ids as usize);
    let mut granule = 0u64;
    let mut ran = false;
    while (entries.len() as u64) < ids {
        let kind = cursor.varint()?;
        match kind {
            0 => {
                let run = cursor.varint()?;
                if ran || run == 0 || run > ids - entries.len() as u64 {
                    return None;
                }
                entries.resize(entries.len() + run as usize, Entry::Absent);
            }
            1 => entries.push(Entry::Free(Version(cursor.varint()?.checked_mul(8)?))),
            _ => {
                // Each piece takes two bytes at least.
                let count = kind - 1;
                if count > cursor.rest().len() as u64 / 2 {
                    return None;
                }
                let mut pieces = Vec::with_capacity(count as usize);
                for _ in 0..count {
                    granule = granule.wrapping_add(unzigzag(cursor.varint()?) as u64);
                    pieces.push(Piece::from_parts(granule, cursor.varint()?)?);
                }
                entries.push(Entry::Data(pieces));
            }
        }
        ran = kind == 0;
    }
    cursor.rest().is_empty().then_some(entries)
}

pub(super) fn zigzag(number: i64) -> u64 {
    (number << 1 ^ number >> 63) as u64
}

pub(super) fn unzigzag(number: u64) -> i64 {
    (number >> 1) as i64 ^ -((number & 1) as i64)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::base::ids::Address;

    fn written(entries: &[Entry]) -> (Vec<u8>, u64) {
        let mut writer = LeafWriter::default();
        for entry in entries {
            match entry {
                Entry::Absent => writer.absent(),
                Entry::Free(version) => writer.free(*version),
                Entry::Data(pieces) => writer.data(pieces.len(), pieces.iter().copied()),
            }
        }
        writer.finish()
    }

    fn leaf() -> Vec<Entry> {
        let piece = |at: u64, len| Piece::new(Address(at * 8), len);
        vec![
            Entry::Absent,
            Entry::Absent,
            Entry::Data(vec![piece(1 << 49, 4112)]),
            Entry::Free(Version(1 << 40)),
            Entry::Data(vec![piece(5, 64), piece((1 << 50) - 1, 8).long(), piece(0, 1 << 30)]),
            Entry::Absent,
        ]
    }

    #[test]
    fn a_leaf_comes_back() {
        let (bytes, vacant) = written(&leaf());
        assert_eq!((entries(&bytes, 6).unwrap(), vacant), (leaf(), 4));
        for len in 0..bytes.len() {
            assert_eq!(entries(&bytes[..len], 6), None);
        }
        for ids in [1, 5, 7] {
            assert_eq!(entries(&bytes, ids), None);
        }
        let head = LeafHead { number: 300, checkpoint: 1 << 40 };
        let body = [head.encode().as_slice(), &bytes].concat();
        assert_eq!(LeafHead::decode(&body), Some((head, &bytes[..])));
    }

    #[test]
    fn a_leaf_that_no_writer_makes_is_refused() {
        for (bytes, ids) in [
            (&[0, 0][..], 1),
            (&[0, 1, 0, 1], 2),
            (&[0, 3], 2),
            (&[200, 1, 0, 0], 1),
            (&[2, 1, 1], 1),
            (&[2, 0, 0x80, 0x10], 1),
            (&[0, 1, 0], 1),
        ] {
            assert_eq!(entries(bytes, ids), None, "{bytes:?}");
        }
    }

    #[test]
    fn a_page_with_one_piece_takes_few_bytes() {
        let mut writer = LeafWriter::default();
        for id in 0..512u64 {
            // Anywhere in 16 GiB.
            writer.data(1, std::iter::once(Piece::new(Address(id * 0x9e37_79b9 % (16 << 30) / 8 * 8), 1040)));
        }
        let (bytes, _) = writer.finish();
        assert!(bytes.len() < 512 * 9, "{}", bytes.len());
    }
}
