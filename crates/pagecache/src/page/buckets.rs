//! An array that grows without moving and without a lock: buckets that double, all zeros until somebody writes there.

use std::marker::PhantomData;
use std::ptr;

use crate::base::sync::{AtomicPtr, AtomicU64, Ordering};
#[cfg(not(any(loom, shuttle)))]
use crate::base::zeroed;

/// Cells of the first bucket, as a power of two, where nothing else is said. Small under loom and shuttle, where each cell is made one
/// by one, and buckets are added.
const USUAL: u32 = if cfg!(any(loom, shuttle)) { 2 } else { 12 };
/// Numbers of cells are below 2 to this power.
pub(super) const BITS: u32 = 36;
/// As many as there are where the first one has one cell.
const BUCKETS: usize = BITS as usize + 1;

/// What may stand in a cell.
///
/// # Safety
/// All zero bytes are a valid value, and it needs no drop.
pub(super) unsafe trait Cell {
    /// The value of all zeros, for the models, whose atomics have to be made.
    #[cfg(any(loom, shuttle))]
    fn zero() -> Self;
}

// SAFETY: a number.
unsafe impl Cell for AtomicU64 {
    #[cfg(any(loom, shuttle))]
    fn zero() -> Self {
        AtomicU64::new(0)
    }
}

/// The first bucket has 2 to the power of `FIRST` cells.
#[derive(Debug)]
pub(super) struct Buckets<T, const FIRST: u32 = USUAL> {
    buckets: [AtomicPtr<T>; BUCKETS],
    _cells: PhantomData<T>,
}

/// Which bucket a number is in, at which place, and how many cells that bucket has.
fn locate<const FIRST: u32>(number: u64) -> Option<(usize, usize, usize)> {
    if number >= 1 << BITS {
        return None;
    }
    let bucket = (u64::BITS - (number >> FIRST).leading_zeros()) as usize;
    let len = bucket_len::<FIRST>(bucket);
    let first = if bucket == 0 { 0 } else { len as u64 };
    Some((bucket, (number - first) as usize, len))
}

fn bucket_len<const FIRST: u32>(bucket: usize) -> usize {
    1usize << (FIRST as usize + bucket.saturating_sub(1))
}

/// One more than the highest number in the bucket of a number.
pub(super) fn bucket_end(number: u64) -> u64 {
    locate::<USUAL>(number).map_or(number + 1, |(_, at, len)| number + (len - at) as u64)
}

impl<T: Cell, const FIRST: u32> Buckets<T, FIRST> {
    pub(super) fn new() -> Buckets<T, FIRST> {
        Buckets { buckets: std::array::from_fn(|_| AtomicPtr::new(ptr::null_mut())), _cells: PhantomData }
    }

    /// The cell of a number, if its bucket was ever needed.
    pub(super) fn get(&self, number: u64) -> Option<&T> {
        let (bucket, at, _) = locate::<FIRST>(number)?;
        // Acquire pairs with the release in `ensure`: the bucket's cells are seen initialized.
        let cells = self.buckets.get(bucket)?.load(Ordering::Acquire);
        if cells.is_null() {
            return None;
        }
        // SAFETY: `at` is below the bucket's length, and buckets live as long as the array.
        Some(unsafe { &*cells.add(at) })
    }

    /// Every cell of every bucket that was needed so far.
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        let made = self.buckets.iter().enumerate().filter_map(|(bucket, place)| {
            // Acquire pairs with the release in `ensure`.
            let cells = place.load(Ordering::Acquire);
            // SAFETY: so many cells were made, and buckets live as long as the array.
            (!cells.is_null()).then(|| unsafe { std::slice::from_raw_parts(cells, bucket_len::<FIRST>(bucket)) })
        });
        made.flatten()
    }

    /// The cell of a number, its bucket made if need be. `None` where there is no memory for it, or the number is too high.
    pub(super) fn ensure(&self, number: u64) -> Option<&T> {
        if let Some(cell) = self.get(number) {
            return Some(cell);
        }
        let (bucket, _, len) = locate::<FIRST>(number)?;
        let place = self.buckets.get(bucket)?;
        let fresh = make_cells::<T>(len);
        if fresh.is_null() {
            return None;
        }
        // Release publishes the zeroed cells. A loser gives its bucket back; the winner's is acquired by the look below.
        if place.compare_exchange(ptr::null_mut(), fresh, Ordering::Release, Ordering::Relaxed).is_err() {
            // SAFETY: `fresh` was made with this length and never shared.
            unsafe { free_cells(fresh, len) };
        }
        self.get(number)
    }
}

impl<T, const FIRST: u32> Buckets<T, FIRST> {
    /// Shows every cell of every bucket that was needed.
    pub(super) fn each(&mut self, mut show: impl FnMut(&T)) {
        for (bucket, place) in self.buckets.iter().enumerate() {
            // Relaxed: nobody else is here.
            let cells = place.load(Ordering::Relaxed);
            for at in 0..if cells.is_null() { 0 } else { bucket_len::<FIRST>(bucket) } {
                // SAFETY: within the bucket.
                show(unsafe { &*cells.add(at) });
            }
        }
    }

    /// Bytes of the buckets that were needed.
    pub(super) fn bytes(&self) -> u64 {
        let made = self.buckets.iter().enumerate().filter(|(_, place)| !place.load(Ordering::Relaxed).is_null());
        made.map(|(bucket, _)| (bucket_len::<FIRST>(bucket) * size_of::<T>()) as u64).sum()
    }
}

impl<T, const FIRST: u32> Drop for Buckets<T, FIRST> {
    fn drop(&mut self) {
        for (bucket, place) in self.buckets.iter().enumerate() {
            let cells = place.load(Ordering::Relaxed);
            if !cells.is_null() {
                // SAFETY: made with this length; nobody else can reach the array any more.
                unsafe { free_cells(cells, bucket_len::<FIRST>(bucket)) };
            }
        }
    }
}

/// Zeroed memory, which costs nothing as long as it is untouched.
#[cfg(not(any(loom, shuttle)))]
fn make_cells<T: Cell>(len: usize) -> *mut T {
    match std::alloc::Layout::array::<T>(len) {
        // SAFETY: the layout is not empty, and an all-zero cell is valid (the promise of `Cell`).
        Ok(layout) => unsafe { zeroed::zeroed(layout).cast() },
        Err(_) => ptr::null_mut(),
    }
}

/// # Safety
/// `cells` came from `make_cells(len)` and nobody else can reach it.
#[cfg(not(any(loom, shuttle)))]
unsafe fn free_cells<T>(cells: *mut T, len: usize) {
    if let Ok(layout) = std::alloc::Layout::array::<T>(len) {
        // SAFETY: the caller's promise; cells have no drop of their own.
        unsafe { zeroed::free(cells.cast(), layout) };
    }
}

#[cfg(any(loom, shuttle))]
fn make_cells<T: Cell>(len: usize) -> *mut T {
    Box::into_raw((0..len).map(|_| T::zero()).collect::<Box<[T]>>()).cast()
}

/// # Safety
/// As above.
#[cfg(any(loom, shuttle))]
unsafe fn free_cells<T>(cells: *mut T, len: usize) {
    // SAFETY: the caller's promise.
    drop(unsafe { Box::from_raw(ptr::slice_from_raw_parts_mut(cells, len)) });
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn each_has_a_place<const FIRST: u32>() {
        let mut next = (0, 0);
        for number in 0..(1 << 16) {
            let (bucket, at, len) = locate::<FIRST>(number).unwrap();
            assert_eq!((bucket, at), next, "{number}");
            next = if at + 1 == len { (bucket + 1, 0) } else { (bucket, at + 1) };
        }
        assert_eq!(locate::<FIRST>((1 << BITS) - 1).unwrap().0, BUCKETS - 1 - FIRST as usize);
        assert!(locate::<FIRST>(1 << BITS).is_none());
    }

    #[test]
    fn every_number_has_a_place_of_its_own() {
        each_has_a_place::<USUAL>();
        each_has_a_place::<3>();
        each_has_a_place::<0>();
    }
}
