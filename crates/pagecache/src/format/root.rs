//! The root of a checkpoint: its leaves, the segments that hold what they name, and what else an opening has to know.
//!
//! A root is written in parts, each a record that names the one before it. Put together they are the root's bytes. All numbers are varints, but for salts of 8 bytes. In this order: version of this layout (1); redo LSN / 8, stable LSN / 8; the
//! first sequence that is not given out; one more than the highest page id; ids of a leaf; the user's recovered state: 0, or its length + 1
//! and its bytes; how many segments, then of each, rising: sequence less the one before less 1 (of the first: the sequence), stream,
//! for the log its start / segment size, salt, bytes that a recovery cut off its data / 8; how many leaves, then of each: granule of its
//! piece as in a leaf and its length class + 1, or one 0 where it was never written; ids of it that hold no data.

use super::BLOCK;
use super::bytes::{Cursor, push_varint};
use super::leaf::IDS_MAX;
use super::piece::Piece;
use super::record::Head;
use super::segment::{LSN_MAX, PLACE_MAX, Stream};
use crate::base::ids::{Lsn, Sequence};

const LAYOUT: u64 = 1;

/// A segment, as far as it must be known without looking at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) sequence: Sequence,
    pub(crate) stream: Stream,
    /// Of the log: the LSN of its first byte. Of others: the address.
    pub(crate) start: Lsn,
    pub(crate) salt: u64,
    /// Bytes at the end of its data that a recovery cut off.
    pub(crate) cut_off: u64,
}

/// Where a leaf is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LeafAt {
    pub(crate) piece: Piece,
    /// Ids of it that hold no data.
    pub(crate) vacant: u64,
}

/// What a checkpoint knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Root {
    pub(crate) redo: Lsn,
    pub(crate) stable: Lsn,
    pub(crate) next_sequence: Sequence,
    /// One more than the highest page id handed out.
    pub(crate) high_water: u64,
    pub(crate) leaf_ids: u64,
    /// The user's recovered state as of the redo LSN, encoded.
    pub(crate) state: Option<Vec<u8>>,
    /// By sequence.
    pub(crate) segments: Vec<Known>,
    /// By number; `None` for one whose ids never held anything.
    pub(crate) leaves: Vec<Option<LeafAt>>,
}

/// Which part of which checkpoint's root a record is: the head of its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PartHead {
    pub(crate) checkpoint: u64,
    /// How many parts come before it.
    pub(crate) index: u64,
    /// The part before.
    pub(crate) previous: Option<Piece>,
}

impl PartHead {
    pub(crate) fn encode(self) -> Head {
        let mut head = Head::new();
        head.varint(self.checkpoint);
        head.varint(self.index);
        if let Some(previous) = self.previous {
            head.varint(previous.granule());
            head.varint(previous.class());
        }
        head
    }

    /// Reads the head of a body; the rest is a part of the root's bytes.
    pub(crate) fn decode(body: &[u8]) -> Option<(PartHead, &[u8])> {
        let mut cursor = Cursor::new(body);
        let (checkpoint, index) = (cursor.varint()?, cursor.varint()?);
        let previous = match index {
            0 => None,
            _ => Some(Piece::from_parts(cursor.varint()?, cursor.varint()?).filter(|piece| !piece.is_long())?),
        };
        Some((PartHead { checkpoint, index, previous }, cursor.rest()))
    }
}

impl Root {
    pub(crate) fn encode(&self, segment_size: u64) -> Vec<u8> {
        let mut out = Vec::with_capacity(64 + self.segments.len() * 20 + self.leaves.len() * 10);
        for number in [LAYOUT, self.redo.0 / 8, self.stable.0 / 8, self.next_sequence.0, self.high_water, self.leaf_ids]
        {
            push_varint(&mut out, number);
        }
        push_varint(&mut out, self.state.as_ref().map_or(0, |state| state.len() as u64 + 1));
        out.extend_from_slice(self.state.as_deref().unwrap_or_default());
        push_varint(&mut out, self.segments.len() as u64);
        let mut next = 0;
        for known in &self.segments {
            push_varint(&mut out, known.sequence.0 - next);
            next = known.sequence.0 + 1;
            push_varint(&mut out, known.stream as u64);
            if known.stream == Stream::Log {
                push_varint(&mut out, known.start.0 / segment_size);
            }
            out.extend_from_slice(&known.salt.to_le_bytes());
            push_varint(&mut out, known.cut_off / 8);
        }
        push_varint(&mut out, self.leaves.len() as u64);
        for leaf in &self.leaves {
            match leaf {
                None => push_varint(&mut out, 0),
                Some(LeafAt { piece, vacant }) => {
                    push_varint(&mut out, piece.class() + 1);
                    push_varint(&mut out, piece.granule());
                    push_varint(&mut out, *vacant);
                }
            }
        }
        out
    }

    /// Reads a root. `None` where it is not what a writer of segments of this size makes.
    pub(crate) fn decode(bytes: &[u8], segment_size: u64) -> Option<Root> {
        let mut cursor = Cursor::new(bytes);
        if cursor.varint()? != LAYOUT {
            return None;
        }
        let lsn = |cursor: &mut Cursor<'_>| cursor.varint()?.checked_mul(8).map(Lsn);
        let (redo, stable) = (lsn(&mut cursor)?, lsn(&mut cursor)?);
        let (next_sequence, high_water) = (Sequence(cursor.varint()?), cursor.varint()?);
        let leaf_ids = cursor.varint()?;
        let state = match cursor.varint()?.checked_sub(1) {
            None => None,
            Some(len) => Some(cursor.take(usize::try_from(len).ok()?)?.to_vec()),
        };
        let mut segments = Vec::new();
        let mut next = 0u64;
        for _ in 0..cursor.varint()? {
            let sequence = next.checked_add(cursor.varint()?)?;
            next = sequence.checked_add(1)?;
            let stream = Stream::parse(u8::try_from(cursor.varint()?).ok()?)?;
            let start = match stream {
                Stream::Log => cursor.varint()?,
                Stream::Folds | Stream::Survivors | Stream::Map => sequence,
            };
            let (salt, cut_off) = (cursor.u64()?, cursor.varint()?.checked_mul(8)?);
            let start = Lsn(start.checked_mul(segment_size)?);
            segments.push(Known { sequence: Sequence(sequence), stream, start, salt, cut_off });
        }
        let mut leaves = Vec::new();
        for _ in 0..cursor.varint()? {
            leaves.push(match cursor.varint()?.checked_sub(1) {
                None => None,
                Some(class) => {
                    let piece = Piece::from_parts(cursor.varint()?, class).filter(|piece| !piece.is_long())?;
                    let vacant = cursor.varint().filter(|vacant| *vacant <= leaf_ids)?;
                    Some(LeafAt { piece, vacant })
                }
            });
        }
        let root = Root { redo, stable, next_sequence, high_water, leaf_ids, state, segments, leaves };
        (cursor.rest().is_empty() && root.is_sound(segment_size)).then_some(root)
    }

    /// Whether a root may have these numbers: sums of them never overflow, and none justifies more memory than its own bytes do.
    fn is_sound(&self, segment_size: u64) -> bool {
        let ids = self.leaf_ids;
        let log = || self.segments.iter().filter(|known| known.stream == Stream::Log);
        let data = segment_size.saturating_sub(2 * BLOCK);
        let fits = |known: &Known| {
            let most = if known.stream == Stream::Log { data } else { 0 };
            known.sequence.0 < PLACE_MAX / segment_size
                && known.start.0 <= LSN_MAX.saturating_sub(segment_size)
                && known.cut_off <= most
        };
        self.redo <= self.stable
            && self.stable.0 <= LSN_MAX
            && ids.is_power_of_two()
            && ids <= IDS_MAX
            && self.segments.iter().all(fits)
            && self.leaves.len() as u64 == self.high_water.div_ceil(ids)
            && self.segments.last().is_none_or(|last| last.sequence < self.next_sequence)
            && log().zip(log().skip(1)).all(|(before, after)| before.start < after.start)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::base::ids::Address;

    const SIZE: u64 = 1 << 16;

    fn root() -> Root {
        let known = |sequence: u64, stream, start: u64, cut_off| Known {
            sequence: Sequence(sequence),
            stream,
            start: Lsn(start * SIZE),
            salt: 77 << 40 | sequence,
            cut_off,
        };
        let leaf = |at: u64, vacant| Some(LeafAt { piece: Piece::new(Address(at), 900), vacant });
        Root {
            redo: Lsn(8192),
            stable: Lsn(12288),
            next_sequence: Sequence(10),
            high_water: 11,
            leaf_ids: 4,
            state: Some(vec![1, 2, 3]),
            segments: vec![
                known(0, Stream::Log, 0, 0),
                known(1, Stream::Log, 3, 4096),
                known(5, Stream::Map, 5, 0),
                known(6, Stream::Folds, 6, 0),
                known(9, Stream::Log, 4, 0),
            ],
            leaves: vec![leaf(5 * SIZE + 4096, 4), None, leaf(5 * SIZE + 8192, 0)],
        }
    }

    #[test]
    fn a_root_comes_back_and_no_part_of_one_does() {
        for given in [root(), Root { state: None, ..root() }, Root { state: Some(Vec::new()), ..root() }] {
            let bytes = given.encode(SIZE);
            assert_eq!(Root::decode(&bytes, SIZE), Some(given));
            for len in 0..bytes.len() {
                assert_eq!(Root::decode(&bytes[..len], SIZE), None);
            }
            assert_eq!(Root::decode(&[&bytes[..], &[0]].concat(), SIZE), None);
        }
    }

    #[test]
    fn a_root_that_no_writer_makes_is_refused() {
        let known = |at: usize, change: fn(&mut Known)| {
            let mut segments = root().segments;
            change(&mut segments[at]);
            segments
        };
        let wrong = [
            Root { redo: Lsn(16384), ..root() },
            Root { leaf_ids: 3, ..root() },
            Root { high_water: 13, ..root() },
            Root { next_sequence: Sequence(9), ..root() },
            Root { segments: known(1, |known| known.cut_off = SIZE - 2 * BLOCK + 8), ..root() },
            Root { segments: known(0, |known| known.start = Lsn(LSN_MAX)), ..root() },
            Root { segments: known(4, |known| known.sequence = Sequence(PLACE_MAX / SIZE)), ..root() },
            Root { stable: Lsn(LSN_MAX + 8), ..root() },
            Root { leaf_ids: 2 * IDS_MAX, leaves: vec![None], ..root() },
            Root { segments: known(4, |known| known.start = Lsn(3 * SIZE)), ..root() },
            Root { leaves: vec![Some(LeafAt { piece: Piece::new(Address(8), 8), vacant: 5 }), None, None], ..root() },
        ];
        for root in wrong {
            assert_eq!(Root::decode(&root.encode(SIZE), SIZE), None, "{root:?}");
        }
    }

    #[test]
    fn a_part_says_which_one_it_is() {
        for (index, previous) in [(0, None), (300, Some(Piece::new(Address(1 << 40), 4096)))] {
            let head = PartHead { checkpoint: 1 << 50, index, previous };
            let body = [head.encode().as_slice(), b"bytes"].concat();
            assert_eq!(PartHead::decode(&body), Some((head, &b"bytes"[..])));
        }
        assert_eq!(PartHead::decode(&[1, 1, 0]), None);
    }

    /// Lengths are believed as far as there are bytes for them.
    #[test]
    fn a_root_of_lengths_alone_allocates_nothing() {
        let mut bytes = Vec::new();
        for number in [LAYOUT, 1, 1, 1, 0, 4, 0, u64::MAX] {
            push_varint(&mut bytes, number);
        }
        assert_eq!(Root::decode(&bytes, SIZE), None);
    }
}
