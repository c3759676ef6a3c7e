//! An allocator that counts live bytes while it is asked to; else it costs one load of a word that nobody writes.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

// Relaxed throughout: a sum that is read when the threads that changed it are joined or idle.
static ON: AtomicBool = AtomicBool::new(false);
static LIVE: AtomicI64 = AtomicI64::new(0);

/// The system's allocator, counting. A binary makes it its own with `#[global_allocator]`.
#[derive(Debug)]
pub struct Counting;

/// Starts or stops counting. What was allocated before is not counted; freeing it meanwhile counts below zero.
pub fn count(on: bool) {
    LIVE.store(0, Ordering::Relaxed);
    ON.store(on, Ordering::Relaxed);
}

/// Bytes asked for and not given back since counting began.
pub fn live() -> i64 {
    LIVE.load(Ordering::Relaxed)
}

fn add(bytes: i64) {
    if ON.load(Ordering::Relaxed) {
        LIVE.fetch_add(bytes, Ordering::Relaxed);
    }
}

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        add(layout.size() as i64);
        // SAFETY: the caller's promise is the system's demand.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        add(layout.size() as i64);
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        add(-(layout.size() as i64));
        // SAFETY: as above.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        add(new_size as i64 - layout.size() as i64);
        // SAFETY: as above.
        unsafe { System.realloc(ptr, layout, new_size) }
    }
}
