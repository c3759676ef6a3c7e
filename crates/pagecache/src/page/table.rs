//! The mapping table: page id -> slot, in buckets that double, so that it grows without moving and without a lock.

use std::ptr;

use super::slot::{Slot, Word};
use crate::base::error::{Error, Result};
use crate::base::ids::PageId;
use crate::base::sync::{AtomicPtr, Ordering};

/// Slots of the first bucket, as a power of two. Small under loom and shuttle, where each slot is made one by one, and buckets are
/// added.
const FIRST: u32 = if cfg!(any(loom, shuttle)) { 2 } else { 12 };
/// Ids are below 2 to this power.
const ID_BITS: u32 = 36;
const BUCKETS: usize = (ID_BITS - FIRST + 1) as usize;

/// The highest number of pages, free ones included.
pub(crate) const PAGES_MAX: u64 = 1 << ID_BITS;

#[derive(Debug)]
pub(crate) struct Table<P> {
    buckets: [AtomicPtr<Slot<P>>; BUCKETS],
}

/// Which bucket an id is in, at which place, and how many slots that bucket has.
fn locate(id: PageId) -> Option<(usize, usize, usize)> {
    if id.0 >= PAGES_MAX {
        return None;
    }
    let bucket = (u64::BITS - (id.0 >> FIRST).leading_zeros()) as usize;
    let len = 1usize << (FIRST as usize + bucket.saturating_sub(1));
    let first = if bucket == 0 { 0 } else { len as u64 };
    Some((bucket, (id.0 - first) as usize, len))
}

impl<P> Table<P> {
    pub(crate) fn new() -> Table<P> {
        Table { buckets: std::array::from_fn(|_| AtomicPtr::new(ptr::null_mut())) }
    }

    /// One more than the highest id in the bucket of an id.
    pub(crate) fn bucket_end(id: PageId) -> u64 {
        locate(id).map_or(id.0 + 1, |(_, at, len)| id.0 + (len - at) as u64)
    }

    /// The slot of an id, if its bucket was ever needed.
    pub(crate) fn get(&self, id: PageId) -> Option<&Slot<P>> {
        let (bucket, at, _) = locate(id)?;
        // Acquire pairs with the release in `ensure`: the bucket's slots are seen initialized.
        let slots = self.buckets.get(bucket)?.load(Ordering::Acquire);
        if slots.is_null() {
            return None;
        }
        // SAFETY: `at` is below the bucket's length, and buckets live as long as the table.
        Some(unsafe { &*slots.add(at) })
    }

    /// The slot of an id, its bucket made if need be.
    ///
    /// # Errors
    /// `NoSpace` where there is no memory for it, or the id is over the limit.
    pub(crate) fn ensure(&self, id: PageId) -> Result<&Slot<P>> {
        if let Some(slot) = self.get(id) {
            return Ok(slot);
        }
        let Some((bucket, _, len)) = locate(id) else { return Err(Error::NoSpace { what: "page ids" }) };
        let Some(cell) = self.buckets.get(bucket) else { return Err(Error::NoSpace { what: "page ids" }) };
        let fresh = make_slots::<P>(len);
        if fresh.is_null() {
            return Err(Error::NoSpace { what: "memory for the mapping table" });
        }
        // Release publishes the zeroed slots. A loser gives its bucket back; the winner's is acquired by the look below.
        if cell.compare_exchange(ptr::null_mut(), fresh, Ordering::Release, Ordering::Relaxed).is_err() {
            // SAFETY: `fresh` was made with this length and never shared.
            unsafe { free_slots(fresh, len) };
        }
        self.get(id).ok_or(Error::NoSpace { what: "page ids" })
    }
}

impl<P> Drop for Table<P> {
    fn drop(&mut self) {
        for (bucket, cell) in self.buckets.iter().enumerate() {
            let slots = cell.load(Ordering::Relaxed);
            if slots.is_null() {
                continue;
            }
            let len = 1usize << (FIRST as usize + bucket.saturating_sub(1));
            for at in 0..len {
                // SAFETY: within the bucket; nobody else can reach the table any more.
                unsafe {
                    let word: Word = (*slots.add(at)).load();
                    word.discard::<P>();
                }
            }
            // SAFETY: made with this length.
            unsafe { free_slots(slots, len) };
        }
    }
}

/// Zeroed memory: an all-zero slot is an absent page, and untouched memory costs nothing.
#[cfg(not(any(loom, shuttle)))]
fn make_slots<P>(len: usize) -> *mut Slot<P> {
    match std::alloc::Layout::array::<Slot<P>>(len) {
        // SAFETY: the layout is not empty, and an all-zero `Slot` (a null pointer) is valid.
        Ok(layout) => unsafe { std::alloc::alloc_zeroed(layout).cast() },
        Err(_) => ptr::null_mut(),
    }
}

/// # Safety
/// `slots` came from `make_slots(len)` and nobody else can reach it.
#[cfg(not(any(loom, shuttle)))]
unsafe fn free_slots<P>(slots: *mut Slot<P>, len: usize) {
    if let Ok(layout) = std::alloc::Layout::array::<Slot<P>>(len) {
        // SAFETY: the caller's promise; slots have no drop of their own.
        unsafe { std::alloc::dealloc(slots.cast(), layout) };
    }
}

#[cfg(any(loom, shuttle))]
fn make_slots<P>(len: usize) -> *mut Slot<P> {
    Box::into_raw((0..len).map(|_| Slot::new()).collect::<Box<[Slot<P>]>>()).cast()
}

/// # Safety
/// As above.
#[cfg(any(loom, shuttle))]
unsafe fn free_slots<P>(slots: *mut Slot<P>, len: usize) {
    // SAFETY: the caller's promise.
    drop(unsafe { Box::from_raw(ptr::slice_from_raw_parts_mut(slots, len)) });
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn every_id_has_a_place_of_its_own() {
        let mut next = (0, 0);
        for id in 0..(1 << 16) {
            let (bucket, at, len) = locate(PageId(id)).unwrap();
            assert_eq!((bucket, at), next, "{id}");
            next = if at + 1 == len { (bucket + 1, 0) } else { (bucket, at + 1) };
        }
        assert_eq!(locate(PageId(PAGES_MAX - 1)).unwrap().0, BUCKETS - 1);
        assert!(locate(PageId(PAGES_MAX)).is_none());
    }
}
