//! Segments on disk: the names of a store's files, and the header that stands in their first and again in their last block.

use super::BLOCK;
use super::bytes::{Cursor, Small};
use crate::base::ids::{Lsn, Sequence};

/// The format this build writes and reads.
pub(crate) const FORMAT: u32 = 1;

const MAGIC: [u8; 8] = *b"PGCACHE\x1a";
pub(super) const LEN: usize = 104;

/// The smallest and the largest segment, in bytes.
pub(crate) const SEGMENT_MIN: u64 = 64 << 10;
pub(crate) const SEGMENT_MAX: u64 = 1 << 30;

/// No segment ends above this LSN, so that an LSN and a length never overflow.
pub(super) const LSN_MAX: u64 = 1 << 62;
/// No segment ends above this place in ever-written space, so that a piece can name it.
pub(super) const PLACE_MAX: u64 = 8 << super::piece::GRANULE_BITS;

/// The segment before this one in its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Previous {
    pub(crate) sequence: Sequence,
    pub(crate) salt: u64,
    /// Where its records end: what stands behind is not part of the log.
    pub(crate) end: Lsn,
}

/// What a store holds; neither is opened as the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A bare log of a user's records.
    Log = 1,
    /// Pages.
    Pages = 2,
}

/// Which of a store's streams a segment belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    /// What users do, in the order of LSNs.
    Log = 0,
    /// Images of pages that had records in the log.
    Folds = 1,
    /// Images that were moved again.
    Survivors = 2,
    /// Leaves of the map, and the roots of checkpoints.
    Map = 3,
}

impl Stream {
    pub(crate) fn parse(byte: u8) -> Option<Stream> {
        match byte {
            0 => Some(Stream::Log),
            1 => Some(Stream::Folds),
            2 => Some(Stream::Survivors),
            3 => Some(Stream::Map),
            _ => None,
        }
    }
}

/// The head of one life of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) purpose: Purpose,
    pub(crate) stream: Stream,
    pub(crate) store: u128,
    pub(crate) segment_size: u64,
    pub(crate) sequence: Sequence,
    /// The LSN of the segment's first byte, a multiple of the segment size. Outside the log there are no LSNs: there it is the
    /// address of that byte, and what says LSN of a place means its address.
    pub(crate) start: Lsn,
    pub(crate) salt: u64,
    pub(crate) previous: Option<Previous>,
    /// Everything below was synced when this life began.
    pub(crate) stable: Lsn,
    /// Everything below was trimmed when this life began.
    pub(crate) first: Lsn,
}

/// What a header block says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Valid(SegmentHeader),
    /// The magic is ours, the format is not.
    Newer(u32),
    Nothing,
}

impl SegmentHeader {
    /// One block: the header, then zeros. Its first 108 bytes fit a sector, so one copy is never half new.
    pub(crate) fn encode(&self) -> Box<[u8]> {
        let mut out = Small::<{ LEN + 4 }>::new();
        out.extend(&MAGIC);
        out.extend(&FORMAT.to_le_bytes());
        out.extend(&[self.purpose as u8, self.stream as u8, 0, 0]);
        out.extend(&self.store.to_le_bytes());
        let (sequence, salt, end) = match self.previous {
            Some(previous) => (previous.sequence.0, previous.salt, previous.end.0),
            None => (u64::MAX, 0, 0),
        };
        let numbers = [
            self.segment_size,
            self.sequence.0,
            self.start.0,
            self.salt,
            sequence,
            salt,
            end,
            self.stable.0,
            self.first.0,
        ];
        for number in numbers {
            out.extend(&number.to_le_bytes());
        }
        out.extend(&crc32c::crc32c(out.as_slice()).to_le_bytes());
        let mut block = vec![0; BLOCK as usize].into_boxed_slice();
        if let Some(target) = block.get_mut(..out.len()) {
            target.copy_from_slice(out.as_slice());
        }
        block
    }

    /// Reads one copy.
    pub(crate) fn decode(block: &[u8]) -> Found {
        let Some(body) = block.get(..LEN) else { return Found::Nothing };
        let mut cursor = Cursor::new(block);
        match Self::fields(&mut cursor) {
            Some(header) if crc32c::crc32c(body) == cursor.u32().unwrap_or_default() => Found::Valid(header),
            _ => match (body.get(..8), body.get(8..12).and_then(|bytes| bytes.try_into().ok())) {
                (Some(magic), Some(version)) if magic == MAGIC && u32::from_le_bytes(version) > FORMAT => {
                    Found::Newer(u32::from_le_bytes(version))
                }
                _ => Found::Nothing,
            },
        }
    }

    fn fields(cursor: &mut Cursor<'_>) -> Option<SegmentHeader> {
        if cursor.array::<8>()? != MAGIC || cursor.u32()? != FORMAT {
            return None;
        }
        let (purpose, stream) = match cursor.array::<4>()? {
            [1, 0, 0, 0] => (Purpose::Log, Stream::Log),
            [2, stream, 0, 0] => (Purpose::Pages, Stream::parse(stream)?),
            _ => return None,
        };
        let store = u128::from_le_bytes(cursor.array()?);
        let segment_size = cursor.u64()?;
        let (sequence, start, salt) = (Sequence(cursor.u64()?), Lsn(cursor.u64()?), cursor.u64()?);
        let (before, before_salt, before_end) = (cursor.u64()?, cursor.u64()?, cursor.u64()?);
        let previous = match (before, before_salt, before_end) {
            (u64::MAX, 0, 0) => None,
            (u64::MAX, ..) => return None,
            (sequence, salt, end) => Some(Previous { sequence: Sequence(sequence), salt, end: Lsn(end) }),
        };
        let (stable, first) = (Lsn(cursor.u64()?), Lsn(cursor.u64()?));
        let header =
            SegmentHeader { purpose, stream, store, segment_size, sequence, start, salt, previous, stable, first };
        header.is_sound().then_some(header)
    }

    /// Whether a segment may have these numbers: none is read, and none is made, that has others.
    pub(crate) fn is_sound(&self) -> bool {
        let size = self.segment_size;
        size.is_power_of_two()
            && (SEGMENT_MIN..=SEGMENT_MAX).contains(&size)
            && self.start.0.is_multiple_of(size)
            && self.start.0 <= LSN_MAX - size
            && self.sequence.0 < PLACE_MAX / size
            && match self.stream {
                Stream::Log => {
                    let before = |previous: Previous| previous.sequence < self.sequence && previous.end <= self.start;
                    self.stable.max(self.first) <= self.start && self.previous.is_none_or(before)
                }
                Stream::Folds | Stream::Survivors | Stream::Map => {
                    let at_address = self.start.0 == self.sequence.0 * size;
                    at_address && self.stable.0 <= LSN_MAX && self.first == Lsn(0) && self.previous.is_none()
                }
            }
    }
}

/// The names of the superblock's two copies, in the order in which they are written.
pub(crate) const SUPERBLOCKS: [&str; 2] = ["super-a", "super-b"];

/// The file name of a segment's life.
pub(crate) fn name(sequence: Sequence) -> String {
    format!("seg-{:016x}", sequence.0)
}

/// The name of a file that is not yet, or no longer, part of the store. Leftovers are removed at open.
pub(crate) fn scratch_name(sequence: Sequence) -> String {
    format!("tmp-{:016x}", sequence.0)
}

/// What a file name says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Named {
    Segment(Sequence),
    Scratch,
    /// A copy of the superblock, by its index.
    Superblock(usize),
    Foreign,
}

pub(crate) fn parse_name(name: &str) -> Named {
    let number = |digits: &str| {
        let canonical = digits.len() == 16 && digits.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        canonical.then(|| u64::from_str_radix(digits, 16).ok()).flatten()
    };
    if let Some(copy) = SUPERBLOCKS.iter().position(|copy| *copy == name) {
        return Named::Superblock(copy);
    }
    match name.split_once('-') {
        Some(("seg", digits)) => number(digits).map_or(Named::Foreign, |n| Named::Segment(Sequence(n))),
        Some(("tmp", digits)) => number(digits).map_or(Named::Foreign, |_| Named::Scratch),
        _ => Named::Foreign,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> SegmentHeader {
        SegmentHeader {
            purpose: Purpose::Pages,
            stream: Stream::Log,
            store: 0x0123_4567_89ab_cdef_0011_2233_4455_6677,
            segment_size: 1 << 16,
            sequence: Sequence(9),
            start: Lsn(7 << 16),
            salt: 0xfeed,
            previous: Some(Previous { sequence: Sequence(7), salt: 0xbeef, end: Lsn((7 << 16) - 4096) }),
            stable: Lsn(4096),
            first: Lsn(8),
        }
    }

    #[test]
    fn a_header_comes_back_and_no_flipped_bit_does() {
        let map = SegmentHeader {
            stream: Stream::Map,
            start: Lsn(9 << 16),
            previous: None,
            stable: Lsn(1 << 50),
            first: Lsn(0),
            ..header()
        };
        for given in [header(), SegmentHeader { previous: None, ..header() }, map] {
            let block = given.encode();
            assert_eq!(SegmentHeader::decode(&block), Found::Valid(given));
            for bit in 0..(LEN + 4) * 8 {
                let mut flipped = block.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                assert!(!matches!(SegmentHeader::decode(&flipped), Found::Valid(_)), "bit {bit}");
            }
        }
        assert_eq!(SegmentHeader::decode(&[]), Found::Nothing);
    }

    #[test]
    fn a_header_that_no_writer_makes_is_refused() {
        let previous = header().previous.unwrap();
        let map = SegmentHeader { stream: Stream::Map, start: Lsn(9 << 16), previous: None, first: Lsn(0), ..header() };
        let wrong = [
            SegmentHeader { start: Lsn(8 << 16), ..map },
            SegmentHeader { previous: header().previous, ..map },
            SegmentHeader { first: Lsn(8), ..map },
            SegmentHeader { purpose: Purpose::Log, ..map },
            SegmentHeader { segment_size: SEGMENT_MIN / 2, ..header() },
            SegmentHeader { segment_size: SEGMENT_MAX * 2, ..header() },
            SegmentHeader { segment_size: SEGMENT_MIN + 4096, ..header() },
            SegmentHeader { start: Lsn((7 << 16) + 8), ..header() },
            SegmentHeader { start: Lsn(LSN_MAX), ..header() },
            SegmentHeader { sequence: Sequence(PLACE_MAX >> 16), ..header() },
            SegmentHeader { stable: Lsn((7 << 16) + 8), ..header() },
            SegmentHeader { first: Lsn((7 << 16) + 8), ..header() },
            SegmentHeader { previous: Some(Previous { sequence: Sequence(9), ..previous }), ..header() },
            SegmentHeader { previous: Some(Previous { end: Lsn((7 << 16) + 8), ..previous }), ..header() },
            SegmentHeader { previous: Some(Previous { sequence: Sequence(u64::MAX), ..previous }), ..header() },
        ];
        for header in wrong {
            assert_eq!(SegmentHeader::decode(&header.encode()), Found::Nothing, "{header:?}");
        }
    }

    #[test]
    fn a_newer_format_is_named() {
        let mut block = header().encode();
        block[8] = 2;
        assert_eq!(SegmentHeader::decode(&block), Found::Newer(2));
    }

    #[test]
    fn names_are_canonical() {
        assert_eq!(parse_name(&name(Sequence(255))), Named::Segment(Sequence(255)));
        assert_eq!(parse_name(&scratch_name(Sequence(255))), Named::Scratch);
        assert_eq!(parse_name("super-b"), Named::Superblock(1));
        for foreign in ["super-c", "seg-ff", "seg-00000000000000FF", "seg-+000000000000001", "readme", "seg-"] {
            assert_eq!(parse_name(foreign), Named::Foreign, "{foreign}");
        }
    }
}
