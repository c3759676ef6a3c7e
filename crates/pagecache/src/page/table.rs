//! The mapping table: page id -> slot.

use super::buckets::{BITS, Buckets, Cell, bucket_end};
use super::slot::Slot;
use crate::base::error::{Error, Result};
use crate::base::ids::PageId;

/// The highest number of pages, free ones included.
pub(crate) const PAGES_MAX: u64 = 1 << BITS;

#[derive(Debug)]
pub(crate) struct Table<P> {
    slots: Buckets<Slot<P>>,
}

// SAFETY: an all-zero slot (a null pointer) is an absent page; what a slot owns is dropped by the table.
unsafe impl<P> Cell for Slot<P> {
    #[cfg(any(loom, shuttle))]
    fn zero() -> Self {
        Slot::new()
    }
}

impl<P> Drop for Table<P> {
    fn drop(&mut self) {
        // SAFETY: nobody else can reach the table any more.
        self.slots.each(|slot| unsafe { slot.load().discard::<P>() });
    }
}

impl<P> Table<P> {
    /// One more than the highest id in the bucket of an id.
    pub(crate) fn bucket_end(id: PageId) -> u64 {
        bucket_end(id.0)
    }

    pub(crate) fn new() -> Table<P> {
        Table { slots: Buckets::new() }
    }

    /// The slot of an id, if its bucket was ever needed.
    pub(crate) fn get(&self, id: PageId) -> Option<&Slot<P>> {
        self.slots.get(id.0)
    }

    /// The slot of an id, its bucket made if need be.
    ///
    /// # Errors
    /// `NoSpace` where there is no memory for it, or the id is over the limit.
    pub(crate) fn ensure(&self, id: PageId) -> Result<&Slot<P>> {
        let what = if id.0 < PAGES_MAX { "memory for the mapping table" } else { "page ids" };
        self.slots.ensure(id.0).ok_or(Error::NoSpace { what })
    }

    /// Bytes of memory of the slots.
    pub(crate) fn bytes(&self) -> u64 {
        self.slots.bytes()
    }
}
