//! Where a record goes, given the tail: pure arithmetic on segments, blocks and the ring.

use crate::base::canary::{Canary, planted};
use crate::base::ids::Lsn;
use crate::format::BLOCK;
use crate::format::record::PAD_MIN;

/// The largest ring, in bytes; a store with smaller segments has a ring of one segment. Under loom and shuttle four blocks, the
/// least that a place across a segment's end fits in.
const RING_MAX: u64 = if cfg!(any(loom, shuttle)) { 4 * BLOCK } else { 8 << 20 };

/// The sizes that decide places, in bytes, each a power of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Geometry {
    pub(crate) segment: u64,
    pub(crate) ring: u64,
    pub(crate) block: u64,
}

/// A stretch of the log that one drawer owns: a pad from `from` to the end of its segment where `start` is in the next
/// one, then the record from `start` to `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) from: Lsn,
    pub(crate) start: Lsn,
    pub(crate) end: Lsn,
}

impl Geometry {
    /// The sizes of a log with segments of this many bytes.
    pub(crate) fn new(segment: u64) -> Geometry {
        Geometry { segment, ring: segment.min(RING_MAX), block: BLOCK }
    }

    pub(crate) fn segment_start(&self, lsn: Lsn) -> u64 {
        lsn.0 & !(self.segment - 1)
    }

    /// The LSN behind the last data in the segment that holds `lsn`: before the header's second copy.
    pub(crate) fn data_end(&self, lsn: Lsn) -> Lsn {
        Lsn(self.segment_start(lsn) + self.segment - self.block)
    }

    /// The first LSN of data in the segment after the one that holds `lsn`.
    pub(crate) fn next_data_start(&self, lsn: Lsn) -> Lsn {
        Lsn(self.segment_start(lsn) + self.segment + self.block)
    }

    /// The longest record that is not an extent.
    pub(crate) fn inline_max(&self) -> u64 {
        self.ring / 4
    }

    pub(crate) fn floor_block(&self, lsn: Lsn) -> Lsn {
        Lsn(lsn.0 & !(self.block - 1))
    }

    /// Where a record of `len` bytes goes.
    pub(crate) fn place(&self, tail: Lsn, len: u64) -> Place {
        let over = if planted(Canary::OffByOneAtSegmentEnd) { 8 } else { 0 };
        let start = match tail.0 + len <= self.data_end(tail).0 + over {
            true => tail,
            false => self.next_data_start(tail),
        };
        Place { from: tail, start, end: Lsn(start.0 + len) }
    }

    /// Where a pad goes that ends a flush: up to the next block's end that leaves room for its mark.
    pub(crate) fn place_seal(&self, tail: Lsn) -> Place {
        let mut end = self.floor_block(tail).0 + self.block;
        if end - tail.0 < PAD_MIN {
            end += self.block;
        }
        match end <= self.data_end(tail).0 {
            true => Place { from: tail, start: tail, end: Lsn(end) },
            false => {
                let start = self.next_data_start(tail);
                Place { from: tail, start, end: Lsn(start.0 + self.block) }
            }
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const SMALL: Geometry = Geometry { segment: 1 << 16, ring: 1 << 16, block: 4096 };

    #[test]
    fn no_place_ever_crosses_a_segments_end_nor_touches_a_header() {
        for tail in (4096..=(1 << 16) - 4096).step_by(8).map(Lsn) {
            for place in
                [8, 136, 4096, 16384].map(|len| SMALL.place(tail, len)).into_iter().chain([SMALL.place_seal(tail)])
            {
                assert!(place.start.0 % SMALL.segment >= 4096, "{place:?}");
                assert!(place.end <= SMALL.data_end(place.start), "{place:?}");
                assert!(place.from == place.start || place.start == SMALL.next_data_start(tail), "{place:?}");
            }
            let seal = SMALL.place_seal(tail);
            assert!(seal.end.0.is_multiple_of(4096) && seal.end.0 - seal.start.0 >= PAD_MIN, "{seal:?}");
        }
    }
}
