//! An allocator that counts live bytes while it is asked to; else it costs one load of a word that nobody writes.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

// Relaxed throughout: a sum that is read when the threads that changed it are joined or idle.
static ON: AtomicBool = AtomicBool::new(false);
static LIVE: [AtomicI64; CLASSES] = [const { AtomicI64::new(0) }; CLASSES];

/// Classes of lengths: class `n` is of those below `2^n` and not below half of it.
pub const CLASSES: usize = 65;

/// The system's allocator, counting. A binary makes it its own with `#[global_allocator]`.
#[derive(Debug)]
pub struct Counting;

/// Starts or stops counting. What was allocated before is not counted; freeing it meanwhile counts below zero.
pub fn count(on: bool) {
    LIVE.iter().for_each(|class| class.store(0, Ordering::Relaxed));
    ON.store(on, Ordering::Relaxed);
}

/// Bytes asked for and not given back since counting began.
pub fn live() -> i64 {
    live_by_class().iter().sum()
}

/// The same by the class of what was asked for.
pub fn live_by_class() -> [i64; CLASSES] {
    std::array::from_fn(|class| LIVE[class].load(Ordering::Relaxed))
}

fn add(size: usize) {
    count_one(size, size as i64);
}

fn remove(size: usize) {
    count_one(size, -(size as i64));
}

fn count_one(size: usize, bytes: i64) {
    if ON.load(Ordering::Relaxed) {
        LIVE[(usize::BITS - size.leading_zeros()) as usize].fetch_add(bytes, Ordering::Relaxed);
    }
}

/// What glibc's allocator may be told, and asked for. Elsewhere all of it does nothing.
pub mod glibc {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    mod c {
        /// How many heaps there are.
        pub const M_ARENA_MAX: i32 = -8;

        // SAFETY: both as in `malloc.h`. The one changes a word under the lock of the main heap, the other takes the lock of each heap.
        unsafe extern "C" {
            pub safe fn mallopt(param: i32, value: i32) -> i32;
            pub safe fn malloc_trim(pad: usize) -> i32;
        }
    }

    /// One heap for all threads from now on: what one of them frees the others can use.
    pub fn one_heap() {
        #[cfg(all(target_os = "linux", target_env = "gnu"))]
        c::mallopt(c::M_ARENA_MAX, 1);
    }

    /// Gives the system those pages of the heap that nothing is in.
    pub fn trim() {
        #[cfg(all(target_os = "linux", target_env = "gnu"))]
        c::malloc_trim(0);
    }
}

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        add(layout.size());
        // SAFETY: the caller's promise is the system's demand.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        add(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        remove(layout.size());
        // SAFETY: as above.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        remove(layout.size());
        add(new_size);
        // SAFETY: as above.
        unsafe { System.realloc(ptr, layout, new_size) }
    }
}
