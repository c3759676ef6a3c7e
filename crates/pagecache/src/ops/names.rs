//! Whether a page names a record: then the record is in use.

use crossbeam_epoch::Guard;

use super::Pages;
use crate::base::ids::{Address, PageId};
use crate::format::piece::Piece;
use crate::page::materialize::Materializer;
use crate::page::slot::Seen;

impl<M: Materializer> Pages<M> {
    /// The piece by which a page names the record at an address, if it does. The guard is of this store's collector. What leaves say that
    /// were not read yet is not seen.
    pub(crate) fn names(&self, id: PageId, address: Address, _guard: &Guard) -> Option<Piece> {
        let slot = self.table.get(id)?;
        let is_it = |piece: &Piece| piece.address() == address;
        // SAFETY: loaded just now under the guard, which is of this store's collector.
        match unsafe { slot.load().see::<M::PageFrag>() } {
            Seen::Resident(chain) => chain.each_piece().find(is_it),
            Seen::Cold(pieces) | Seen::Headless(pieces) => pieces.iter().find(|piece| is_it(piece)).copied(),
            Seen::ColdOne(piece) => Some(piece).filter(is_it),
            Seen::Absent | Seen::Free(_) | Seen::Empty(_) => None,
        }
    }
}
