//! A piece: where a record is on disk and how long it is, in one packed word; what a slot holds of a cold page, and a map leaf of any.

use crate::base::ids::Address;

const CLASS_BITS: u32 = 10;
const TAG_BITS: u32 = 3;
/// Granules of ever-written space that a piece can name: 2^50 x 8 bytes.
pub(crate) const GRANULE_BITS: u32 = 64 - 1 - CLASS_BITS - TAG_BITS;

/// Added to the class of a record that names an extent.
const LONG: u64 = 1 << CLASS_BITS;

const GRANULE_AT: u32 = 1 + CLASS_BITS + TAG_BITS;

/// The highest class of one length, that many granules; above, each power of two has [`STEPS`] of them.
const EXACT: u64 = 2 * STEPS;
const STEPS: u64 = 32;

/// A record's place and, to a thirty-second, its length: granule of the address, whether the record names an extent, length class, three
/// free bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub(crate) struct Piece(u64);

impl Piece {
    /// Names nothing.
    pub(crate) const NONE: Piece = Piece(0);

    pub(crate) fn new(address: Address, len: u64) -> Piece {
        debug_assert!(address.0 / 8 < 1 << GRANULE_BITS);
        Piece((address.0 / 8) << GRANULE_AT | class(len) << TAG_BITS)
    }

    /// The same place of a record that names an extent: it has parts elsewhere.
    pub(crate) fn long(self) -> Piece {
        Piece(self.0 | LONG << TAG_BITS)
    }

    /// Whether the record names an extent.
    pub(crate) fn is_long(self) -> bool {
        self.0 & LONG << TAG_BITS != 0
    }

    pub(crate) fn from_word(word: u64) -> Piece {
        Piece(word & !((1 << TAG_BITS) - 1))
    }

    /// Of the parts that a leaf stores; `None` where they are too large for a word.
    pub(crate) fn from_parts(granule: u64, class: u64) -> Option<Piece> {
        let fits = granule < 1 << GRANULE_BITS && class < 2 * LONG;
        fits.then_some(Piece(granule << GRANULE_AT | class << TAG_BITS))
    }

    pub(crate) fn word(self) -> u64 {
        self.0
    }

    /// The address in granules.
    pub(crate) fn granule(self) -> u64 {
        self.0 >> GRANULE_AT
    }

    /// The length class, 1,024 more for a record that names an extent.
    pub(crate) fn class(self) -> u64 {
        self.0 >> TAG_BITS & (2 * LONG - 1)
    }

    pub(crate) fn address(self) -> Address {
        Address(self.granule() * 8)
    }

    /// At least the record's length, at most a thirty-second more; exact up to 512 bytes. One read suffices.
    pub(crate) fn len_max(self) -> u64 {
        8 * class_granules(self.class() & (LONG - 1))
    }
}

/// The most granules of a class.
const fn class_granules(class: u64) -> u64 {
    if class <= EXACT {
        return class;
    }
    let above = class - EXACT - 1;
    (STEPS + above % STEPS + 1) << (above / STEPS + 1)
}

/// The lowest class that holds a length.
fn class(len: u64) -> u64 {
    let granules = len.div_ceil(8);
    if granules <= EXACT {
        return granules;
    }
    // The highest six bits, rounded up.
    let shift = u64::from((granules - 1).ilog2()) - 5;
    EXACT + 1 + (shift - 1) * STEPS + ((granules - 1) >> shift) - STEPS
}

const _: () = assert!(8 * class_granules((1 << CLASS_BITS) - 1) > 1 << 31 && GRANULE_BITS == 50);

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_piece_keeps_its_place_and_bounds_its_length() {
        for len in (8..70_000).step_by(8).chain([1 << 20, (1 << 26) + 8, 1 << 31]) {
            let piece = Piece::new(Address((1 << 52) + 8), len);
            assert_eq!(piece.address(), Address((1 << 52) + 8));
            let max = piece.len_max();
            assert!(max >= len && max <= len + len / 32, "{len}: {max}");
            assert!(max == len || len > 512);
            assert_eq!(Piece::from_word(piece.word() | 5), piece);
            for piece in [piece, piece.long()] {
                assert_eq!(Piece::from_parts(piece.granule(), piece.class()), Some(piece));
                assert_eq!((piece.address(), piece.len_max()), (Address((1 << 52) + 8), max));
            }
            assert!(piece.long().is_long() && !piece.is_long());
        }
        assert_eq!(Piece::from_parts(1 << GRANULE_BITS, 0), None);
        assert_eq!(Piece::from_parts(0, 2 * LONG), None);
    }

    #[test]
    fn classes_rise_without_a_gap() {
        for number in 1..(1 << CLASS_BITS) - 1 {
            let most = 8 * class_granules(number);
            assert_eq!(class(most), number);
            assert_eq!(class(most + 1), number + 1);
        }
    }
}
