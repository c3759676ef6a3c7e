//! Allocating an id: nothing is written until its first fragment.

use crate::base::error::Result;
use crate::base::ids::{PageId, Version};
use crate::ops::Pages;
use crate::page::materialize::Materializer;
use crate::page::slot::{Seen, Word};

impl<M: Materializer> Pages<M> {
    /// Takes an id that nobody else has, empty.
    ///
    /// # Errors
    /// `NoSpace` where the id space or the memory for the table is at its end.
    pub(crate) fn allocate(&self) -> Result<PageId> {
        loop {
            let id = self.ids.take(self.log.stable());
            let slot = self.table.ensure(id).inspect_err(|_| self.ids.lose())?;
            let word = slot.load();
            // SAFETY: only the variants without pointers are looked at, so no guard is needed.
            let empty = match unsafe { word.see::<M::PageFrag>() } {
                Seen::Absent => Word::empty(Version::NONE),
                Seen::Free(version) => Word::empty(version),
                // Not reachable: an id on the list is free. It is left alone rather than overwritten.
                Seen::Resident(_) | Seen::Cold(_) | Seen::ColdOne(_) | Seen::Empty => continue,
            };
            if slot.swap(word, empty) {
                return Ok(id);
            }
        }
    }
}
