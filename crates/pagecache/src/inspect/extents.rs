//! Extents put together from their pieces as the log goes by: nothing is held but the sums.

use std::collections::HashMap;

use crate::base::ids::Lsn;
use crate::format::record::ExtentRef;

/// The pieces so far of an extent that no record has named yet.
#[derive(Clone, Copy, Debug)]
struct Pending {
    first: Lsn,
    len: u64,
    crc: u32,
    /// The first piece was seen, and every one after.
    whole: bool,
}

/// What a record's reference to an extent turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Named {
    Whole,
    /// A piece is not there.
    Missing,
    /// All pieces are there and are not what the record says.
    Wrong,
}

/// Extents by the LSN of their newest piece.
#[derive(Debug, Default)]
pub(super) struct Extents {
    pending: HashMap<Lsn, Pending>,
}

impl Extents {
    /// Takes a piece and the LSN of the one before, zero at the first.
    pub(super) fn piece(&mut self, lsn: Lsn, before: Lsn, bytes: &[u8]) {
        let fresh = Pending { first: lsn, len: 0, crc: crc32c::crc32c(&[]), whole: before == Lsn(0) };
        let so_far = self.pending.remove(&before).unwrap_or(fresh);
        let crc = crc32c::crc32c_append(so_far.crc, bytes);
        self.pending.insert(lsn, Pending { len: so_far.len + bytes.len() as u64, crc, ..so_far });
    }

    /// Takes the record that names an extent: its pieces are done.
    pub(super) fn named(&mut self, extent: &ExtentRef) -> Named {
        match self.pending.remove(&extent.last) {
            None => Named::Missing,
            Some(pending) if !pending.whole => Named::Missing,
            Some(Pending { first, len, crc, .. }) => {
                match (first, len, crc) == (extent.first, extent.len, extent.crc) {
                    true => Named::Whole,
                    false => Named::Wrong,
                }
            }
        }
    }
}
