//! Allocating an id: nothing is written until its first fragment.

use crate::base::error::Result;
use crate::base::ids::PageId;
use crate::ops::Pages;
use crate::page::materialize::Materializer;
use crate::page::slot::Word;

impl<M: Materializer> Pages<M> {
    /// Takes an id that nobody else has, empty.
    ///
    /// # Errors
    /// `NoSpace` where the id space or the memory for the table is at its end.
    pub(crate) fn allocate(&self) -> Result<PageId> {
        loop {
            let id = match self.ids.reuse(self.log.stable()) {
                Some(id) => id,
                None => match self.leaves.vacant() {
                    // A leaf that cannot be read keeps its ids: there are others.
                    Some(leaf) if self.read_leaf(leaf).is_ok() => continue,
                    _ => self.ids.fresh(),
                },
            };
            // The last leaf that the start has found may have ids beyond the highest. If it cannot be read, nor can they be used.
            if !self.leaves.is_read(id) && self.read_leaf(self.leaves.of(id)).is_err() {
                self.ids.lose();
                continue;
            }
            let ensured = self.table.ensure(id).and_then(|slot| self.leaves.ensure(id).map(|()| slot));
            let slot = ensured.inspect_err(|_| self.ids.lose())?;
            let word = slot.load();
            // Always so: an id on the list is free. Where it is not, it is left alone rather than overwritten.
            let Some(version) = word.vacant() else { continue };
            if slot.swap(word, Word::empty(version)) {
                return Ok(id);
            }
        }
    }
}
