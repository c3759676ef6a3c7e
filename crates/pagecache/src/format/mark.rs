//! The mark at the end of a flush round: evidence, in the last bytes of a block, of what was stable before it.

use super::BLOCK;
use super::bytes::{Cursor, Small};
use crate::base::ids::Lsn;

/// Bytes of a mark. It ends where its block ends.
pub(crate) const MARK: u64 = 24;

/// Why a mark was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MarkKind {
    /// A flush round, or an idle tick after one.
    Round = 0,
    /// A clean close: nothing follows, so the log may go on right behind it.
    Close = 1,
    /// A writer has opened the log here: what follows may be torn.
    Open = 2,
}

/// What a flush round leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    /// Everything below was synced when this mark was made.
    pub(crate) stable: Lsn,
    /// Where the pad starts that ends in this mark.
    pub(crate) own: Lsn,
    pub(crate) kind: MarkKind,
}

impl Mark {
    /// The bytes of a mark that ends at `end`, in a segment's life `salt`.
    pub(crate) fn encode(&self, end: Lsn, salt: u64) -> [u8; MARK as usize] {
        let mut out = Small::<20>::new();
        out.extend(&self.stable.0.to_le_bytes());
        out.extend(&self.own.0.to_le_bytes());
        out.extend(&[self.kind as u8, 0, 0, 0]);
        let crc = checksum(out.as_slice(), end, salt);
        let mut mark = [0; MARK as usize];
        let (body, sum) = mark.split_at_mut(20);
        body.copy_from_slice(out.as_slice());
        sum.copy_from_slice(&crc.to_le_bytes());
        mark
    }

    /// Reads the mark that ends at `end`; `None` where there is none.
    pub(crate) fn decode(bytes: &[u8], end: Lsn, salt: u64) -> Option<Mark> {
        let mut cursor = Cursor::new(bytes);
        let body = cursor.take(20)?;
        if cursor.u32()? != checksum(body, end, salt) {
            return None;
        }
        let mut cursor = Cursor::new(body);
        let (stable, own) = (Lsn(cursor.u64()?), Lsn(cursor.u64()?));
        let kind = match cursor.array::<4>()? {
            [0, 0, 0, 0] => MarkKind::Round,
            [1, 0, 0, 0] => MarkKind::Close,
            [2, 0, 0, 0] => MarkKind::Open,
            _ => return None,
        };
        (stable <= own && own < end && end.0 - own.0 < 2 * BLOCK).then_some(Mark { stable, own, kind })
    }
}

/// Seeded apart from records (`MARK` in the high half), so that no record's bytes are ever a mark.
pub(super) fn checksum(body: &[u8], end: Lsn, salt: u64) -> u32 {
    let mut seed = Small::<24>::new();
    seed.extend(&salt.to_le_bytes());
    seed.extend(&end.0.to_le_bytes());
    seed.extend(b"pagemark");
    crc32c::crc32c_append(crc32c::crc32c(seed.as_slice()), body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_valid_in_its_place_and_life_only() {
        let mark = Mark { stable: Lsn(4096), own: Lsn(8000), kind: MarkKind::Close };
        let bytes = mark.encode(Lsn(8192), 7);
        assert_eq!(Mark::decode(&bytes, Lsn(8192), 7), Some(mark));
        assert_eq!(Mark::decode(&bytes, Lsn(12288), 7), None);
        assert_eq!(Mark::decode(&bytes, Lsn(8192), 8), None);
        for bit in 0..MARK as usize * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Mark::decode(&flipped, Lsn(8192), 7), None, "bit {bit}");
        }
    }
}
