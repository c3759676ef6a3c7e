//! Bytes of records that pages need, and how many of them are of records on top of a page: one number, so that both are counted at once.

use crate::format::piece::Piece;
use crate::format::segment::SEGMENT_MAX;

/// What a record is to its page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Its beginning: an image, a replace, or the first link of all.
    Base,
    /// A link on top.
    Delta,
}

/// Bytes of the records of a segment, all of them in the lower half, those of deltas in the upper.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct InUse(u64);

// Neither half is ever more than a segment, counted a thirty-second too long, holds.
const _: () = assert!(SEGMENT_MAX + SEGMENT_MAX / 32 < 1 << 32);

impl InUse {
    pub(crate) fn of(piece: Piece, part: Part) -> InUse {
        let bytes = piece.len_max();
        InUse(if part == Part::Delta { bytes << 32 | bytes } else { bytes })
    }

    /// Of a part of a longer record.
    pub(crate) fn of_part(bytes: u64) -> InUse {
        InUse(bytes)
    }

    pub(crate) fn from_word(word: u64) -> InUse {
        InUse(word)
    }

    pub(crate) fn word(self) -> u64 {
        self.0
    }

    pub(crate) fn bytes(self) -> u64 {
        self.0 & u64::from(u32::MAX)
    }

    /// Those of deltas.
    pub(crate) fn deltas(self) -> u64 {
        self.0 >> 32
    }
}

/// The parts of a page's records, oldest first.
pub(crate) fn parts(pieces: impl Iterator<Item = Piece>) -> impl Iterator<Item = (Piece, Part)> {
    pieces.enumerate().map(|(at, piece)| (piece, if at == 0 { Part::Base } else { Part::Delta }))
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;
    use crate::base::ids::Address;

    #[test]
    fn deltas_are_counted_among_all() {
        let piece = |len| Piece::new(Address(0), len);
        let sum = parts([piece(4096), piece(64), piece(128)].into_iter())
            .fold(0, |sum, (piece, part)| sum + InUse::of(piece, part).word());
        let sum = InUse::from_word(sum);
        assert_eq!((sum.bytes(), sum.deltas()), (4288, 192));
        let back = InUse::from_word(sum.word() - InUse::of(piece(64), Part::Delta).word());
        assert_eq!((back.bytes(), back.deltas()), (4224, 128));
    }
}
