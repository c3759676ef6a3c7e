//! A bound on every single allocation, set by each target to what its input can justify.
//!
//! - B1. While a [`Bound`] lives, no allocation of this process is longer than it says: one that is ends the process, which the
//!   fuzzer reports with the input.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

struct Bounded;

/// Bytes; the targets run on one thread, so the order of accesses is the program's.
static LIMIT: AtomicUsize = AtomicUsize::new(usize::MAX);

#[global_allocator]
static ALLOCATOR: Bounded = Bounded;

fn check(len: usize) {
    let limit = LIMIT.load(Ordering::Relaxed);
    // A panic allocates what it says, backtrace and all.
    if len > limit && !std::thread::panicking() {
        LIMIT.store(usize::MAX, Ordering::Relaxed);
        panic!("an allocation of {len} bytes; the input justifies {limit}");
    }
}

// SAFETY: every call goes to the system's allocator as it came, or never returns.
unsafe impl GlobalAlloc for Bounded {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        check(layout.size());
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        check(layout.size());
        // SAFETY: the caller's promise.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, len: usize) -> *mut u8 {
        check(len);
        // SAFETY: the caller's promise.
        unsafe { System.realloc(old, layout, len) }
    }

    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(old, layout) }
    }
}

/// A bound in bytes, until it is dropped.
pub struct Bound(());

impl Bound {
    pub fn new(bytes: usize) -> Bound {
        LIMIT.store(bytes, Ordering::Relaxed);
        Bound(())
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        LIMIT.store(usize::MAX, Ordering::Relaxed);
    }
}
