//! Pieces of records that are too long for one, until the record comes that names them: they are in use if it is.

use std::collections::HashMap;
use std::ops::Range;

use crate::base::ids::Lsn;
use crate::format::record::ExtentRef;

/// Bytes of pieces, by what they were taken for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Pieces {
    pub(super) dead: u64,
    pub(super) log: u64,
}

/// Pieces that no record has named yet, by the LSN of the last of them.
#[derive(Debug, Default)]
pub(super) struct Long {
    pending: HashMap<Lsn, Pieces>,
}

impl Long {
    /// Takes a piece, whose body begins with the LSN of the one before.
    pub(super) fn piece(&mut self, lsn: Lsn, body: &[u8], bytes: u64, is_log: bool) {
        let before = body.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        let mut pieces = self.pending.remove(&Lsn(before)).unwrap_or_default();
        if is_log {
            pieces.log += bytes
        } else {
            pieces.dead += bytes
        }
        self.pending.insert(lsn, pieces);
    }

    /// The pieces that a record names.
    pub(super) fn named(&mut self, extent: &ExtentRef) -> Pieces {
        self.pending.remove(&extent.last).unwrap_or_default()
    }

    /// Pieces whose last is in a segment that is gone are nobody's.
    pub(super) fn forget(&mut self, lsns: Range<Lsn>) {
        self.pending.retain(|last, _| !lsns.contains(last));
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_records_that_are_written_at_the_same_time_are_told_apart() {
        let mut long = Long::default();
        let mut piece =
            |lsn: u64, before: u64, bytes, is_log| long.piece(Lsn(lsn), &before.to_le_bytes(), bytes, is_log);
        piece(8, 0, 100, false);
        piece(16, 0, 200, false);
        piece(24, 8, 100, false);
        piece(32, 16, 200, true);
        piece(40, 0, 7, true);
        let mut named = |last: u64| long.named(&ExtentRef { first: Lsn(8), last: Lsn(last), len: 0, crc: 0 });
        assert_eq!((named(24), named(32)), (Pieces { dead: 200, log: 0 }, Pieces { dead: 200, log: 200 }));
        assert_eq!(named(24), Pieces::default(), "they are named once");
        long.forget(Lsn(40)..Lsn(48));
        assert_eq!(long.pending, HashMap::new());
    }
}
