//! The superblock: which checkpoint counts, and where its root is. Two copies in files of their own, written one after the other.

use super::BLOCK;
use super::bytes::{Cursor, Small};
use super::piece::Piece;
use super::segment::{FORMAT, LSN_MAX, SEGMENT_MAX, SEGMENT_MIN};
use crate::base::ids::Lsn;

const MAGIC: [u8; 8] = *b"PGCSUPR\x1a";
/// Bytes before the checksum. All of them lie in one sector of 512, so a copy is never half new.
pub(super) const LEN: usize = 72;

/// A checkpoint that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Superblock {
    pub(crate) store: u128,
    pub(crate) segment_size: u64,
    /// Of the checkpoint: the first has 1, and each later one a higher number.
    pub(crate) number: u64,
    /// Replay starts here; what lies below is in the map.
    pub(crate) redo: Lsn,
    /// Everything below was synced before the root was written.
    pub(crate) stable: Lsn,
    /// Where the last part of the root is.
    pub(crate) root: Piece,
}

/// What a copy says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Valid(Superblock),
    /// The magic is ours and the checksum is right, the format is not.
    Newer(u32),
    Nothing,
}

impl Superblock {
    /// One block: the superblock, then zeros.
    pub(crate) fn encode(&self) -> Box<[u8]> {
        let mut out = Small::<{ LEN + 4 }>::new();
        out.extend(&MAGIC);
        out.extend(&FORMAT.to_le_bytes());
        out.extend(&[0; 4]);
        out.extend(&self.store.to_le_bytes());
        let numbers = [self.segment_size, self.number, self.redo.0, self.stable.0, self.root.word()];
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

    /// Reads one copy. Its checksum is where it is in every format, so that a version that is damaged is not taken for a newer one:
    /// the other copy would be left alone for it.
    pub(crate) fn decode(block: &[u8]) -> Found {
        let Some((body, rest)) = block.split_at_checked(LEN) else { return Found::Nothing };
        if Cursor::new(rest).u32() != Some(crc32c::crc32c(body)) {
            return Found::Nothing;
        }
        if let Some(superblock) = Self::fields(&mut Cursor::new(body)) {
            return Found::Valid(superblock);
        }
        let mut cursor = Cursor::new(body);
        match (cursor.array(), cursor.u32()) {
            (Some(MAGIC), Some(version)) if version > FORMAT => Found::Newer(version),
            _ => Found::Nothing,
        }
    }

    fn fields(cursor: &mut Cursor<'_>) -> Option<Superblock> {
        if cursor.array::<8>()? != MAGIC || cursor.u32()? != FORMAT || cursor.u32()? != 0 {
            return None;
        }
        let store = u128::from_le_bytes(cursor.array()?);
        let (segment_size, number) = (cursor.u64()?, cursor.u64()?);
        let (redo, stable) = (Lsn(cursor.u64()?), Lsn(cursor.u64()?));
        let root = cursor.u64()?;
        let superblock = Superblock { store, segment_size, number, redo, stable, root: Piece::from_word(root) };
        (superblock.root.word() == root && superblock.is_sound()).then_some(superblock)
    }

    fn is_sound(&self) -> bool {
        let size = self.segment_size;
        let root = self.root.address().0 % size.max(1);
        size.is_power_of_two()
            && (SEGMENT_MIN..=SEGMENT_MAX).contains(&size)
            && self.number > 0
            && self.redo <= self.stable
            && self.stable.0 <= LSN_MAX
            && self.redo.0.is_multiple_of(8)
            && root >= BLOCK
            && root < size - BLOCK
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::base::ids::Address;

    fn superblock() -> Superblock {
        Superblock {
            store: 0x0123_4567_89ab_cdef_0011_2233_4455_6677,
            segment_size: 1 << 16,
            number: 7,
            redo: Lsn(8192),
            stable: Lsn(12288),
            root: Piece::new(Address((5 << 16) + 4096), 400),
        }
    }

    #[test]
    fn a_superblock_comes_back_and_no_flipped_bit_does() {
        let block = superblock().encode();
        assert_eq!(Superblock::decode(&block), Found::Valid(superblock()));
        for bit in 0..(LEN + 4) * 8 {
            let mut flipped = block.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(!matches!(Superblock::decode(&flipped), Found::Valid(_)), "bit {bit}");
        }
        assert_eq!(Superblock::decode(&[]), Found::Nothing);
        let mut newer = block;
        newer[8] = 2;
        assert_eq!(Superblock::decode(&newer), Found::Nothing, "the checksum is that of another version");
        let sum = crc32c::crc32c(&newer[..LEN]).to_le_bytes();
        newer[LEN..LEN + 4].copy_from_slice(&sum);
        assert_eq!(Superblock::decode(&newer), Found::Newer(2));
    }

    #[test]
    fn a_superblock_that_no_writer_makes_is_refused() {
        let wrong = [
            Superblock { segment_size: 1 << 15, ..superblock() },
            Superblock { segment_size: (1 << 16) + 8, ..superblock() },
            Superblock { number: 0, ..superblock() },
            Superblock { redo: Lsn(12296), ..superblock() },
            Superblock { stable: Lsn(LSN_MAX + 8), ..superblock() },
            Superblock { redo: Lsn(8193), ..superblock() },
            Superblock { root: Piece::new(Address(5 << 16), 400), ..superblock() },
            Superblock { root: Piece::new(Address((6 << 16) - 4096), 400), ..superblock() },
        ];
        for superblock in wrong {
            assert_eq!(Superblock::decode(&superblock.encode()), Found::Nothing, "{superblock:?}");
        }
    }
}

const _: () = assert!(LEN + 4 <= 512);
