//! A piece: where one of a page's records is on disk, in one packed word.

use crate::base::ids::Address;

/// The most pieces a page has on disk; the next link writes the folded page.
pub(crate) const PIECES_MAX: usize = 64;

const CLASS_BITS: u32 = 7;
const TAG_BITS: u32 = 3;
/// Granules of ever-written space that a piece can name: 2^54 x 8 bytes.
const GRANULE_BITS: u32 = 64 - CLASS_BITS - TAG_BITS;

/// A record's place and, roughly, its length: granule of the address, length class, three free bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub(crate) struct Piece(u64);

impl Piece {
    pub(crate) fn new(address: Address, len: u64) -> Piece {
        debug_assert!(address.0 / 8 < 1 << GRANULE_BITS);
        Piece((address.0 / 8) << (CLASS_BITS + TAG_BITS) | class(len) << TAG_BITS)
    }

    pub(crate) fn from_word(word: u64) -> Piece {
        Piece(word & !((1 << TAG_BITS) - 1))
    }

    pub(crate) fn word(self) -> u64 {
        self.0
    }

    pub(crate) fn address(self) -> Address {
        Address((self.0 >> (CLASS_BITS + TAG_BITS)) * 8)
    }

    /// At least the record's length, at most a quarter more: one read suffices.
    pub(crate) fn len_max(self) -> u64 {
        class_len(self.0 >> TAG_BITS & ((1 << CLASS_BITS) - 1))
    }
}

/// The longest length of a class: four classes for each power of two.
const fn class_len(class: u64) -> u64 {
    (4 + class % 4 + 1) << (class / 4)
}

/// The lowest class that holds a length.
fn class(len: u64) -> u64 {
    let mut low = 0;
    let mut high = (1 << CLASS_BITS) - 1;
    while low < high {
        let middle = (low + high) / 2;
        if class_len(middle) < len { low = middle + 1 } else { high = middle }
    }
    low
}

const _: () = assert!(class_len((1 << CLASS_BITS) - 1) > 1 << 31 && GRANULE_BITS == 54);

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_piece_keeps_its_place_and_bounds_its_length() {
        for len in (8..5000).step_by(8).chain([1 << 20, (1 << 26) + 8]) {
            let piece = Piece::new(Address((1 << 56) + 8), len);
            assert_eq!(piece.address(), Address((1 << 56) + 8));
            assert!(piece.len_max() >= len && piece.len_max() <= (len + len / 4).max(8), "{len}: {}", piece.len_max());
            assert_eq!(Piece::from_word(piece.word() | 5), piece);
        }
    }
}
