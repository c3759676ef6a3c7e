//! Zeroed memory for long arrays that are reached everywhere, in no order.
//!
//! What is as long as a huge page is mapped so that it can consist of them, and the system is asked to have it so (on Linux; decision 0029). Anywhere else, and where it is shorter, it is the
//! allocator's. Either way memory that is never touched is never had.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ptr;

/// Memory of all zeros, or null where there is none.
///
/// # Safety
/// The layout is not empty.
pub(crate) unsafe fn zeroed(layout: Layout) -> *mut u8 {
    if huge::is_for(layout) {
        return huge::map(layout.size());
    }
    // SAFETY: the caller's promise.
    unsafe { alloc_zeroed(layout) }
}

/// # Safety
/// The memory came from [`zeroed`] with this layout, and nobody else can reach it.
pub(crate) unsafe fn free(memory: *mut u8, layout: Layout) {
    if huge::is_for(layout) {
        // SAFETY: it was mapped, and the caller's promise.
        return unsafe { huge::unmap(memory, layout.size()) };
    }
    // SAFETY: the caller's promise.
    unsafe { dealloc(memory, layout) };
}

#[cfg(target_os = "linux")]
mod huge {
    use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};

    use super::{Layout, ptr};

    /// Bytes of a huge page on most machines. Where they are longer nothing is gained, or lost.
    const HUGE: usize = 2 << 20;

    pub(super) fn is_for(layout: Layout) -> bool {
        layout.size() >= HUGE && layout.size().is_multiple_of(HUGE) && layout.align() <= HUGE
    }

    pub(super) fn map(bytes: usize) -> *mut u8 {
        let Some(with_edges) = bytes.checked_add(HUGE) else { return ptr::null_mut() };
        let (read_write, private) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
        // SAFETY: a new mapping, at a place of the system's choice.
        let Ok(mapped) = (unsafe { mmap_anonymous(ptr::null_mut(), with_edges, read_write, private) }) else {
            return ptr::null_mut();
        };
        let mapped = mapped.cast::<u8>();
        let before = mapped.addr().wrapping_neg() % HUGE;
        let memory = mapped.wrapping_add(before);
        // SAFETY: both edges are of the new mapping, and outside of what is used of it.
        unsafe {
            unmap(mapped, before);
            unmap(memory.wrapping_add(bytes), HUGE - before);
        }
        // SAFETY: advice for the new mapping, which changes nothing of what is read there. Whatever comes of it.
        let _ = unsafe { madvise(memory.cast(), bytes, Advice::LinuxHugepage) };
        memory
    }

    /// # Safety
    /// So many bytes are mapped there, in whole pages, and nobody reaches them any more.
    pub(super) unsafe fn unmap(memory: *mut u8, bytes: usize) {
        if bytes > 0 {
            // SAFETY: the caller's promise. It fails where the system has no room to note a mapping of two parts: then it stays, and is not used.
            let _ = unsafe { munmap(memory.cast(), bytes) };
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod huge {
    use super::{Layout, ptr};

    pub(super) fn is_for(_: Layout) -> bool {
        false
    }

    pub(super) fn map(_: usize) -> *mut u8 {
        ptr::null_mut()
    }

    pub(super) unsafe fn unmap(_: *mut u8, _: usize) {}
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn long_and_short_ones_are_zero_and_can_be_written() {
        for bytes in [8, 4096, (2 << 20) - 8, 2 << 20, (2 << 20) + 8, 16 << 20] {
            let layout = Layout::from_size_align(bytes, 8).unwrap();
            let align = if huge::is_for(layout) { 2 << 20 } else { 8 };
            // Others' memory too, once it was given back.
            for _ in 0..20 {
                // SAFETY: it is not empty, and used within its length while it is there.
                unsafe {
                    let memory = zeroed(layout);
                    assert!(!memory.is_null() && memory.addr().is_multiple_of(align));
                    for at in [0, bytes / 2, bytes - 1] {
                        let byte = memory.add(at);
                        assert_eq!(byte.read(), 0, "{at} of {bytes}");
                        byte.write(7);
                    }
                    free(memory, layout);
                }
            }
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn what_was_mapped_is_given_back() {
        // In all 2^47 bytes and more, which is all that a process may map on most machines; nothing is touched.
        let layout = Layout::from_size_align(2 << 30, 8).unwrap();
        for _ in 0..70_000 {
            // SAFETY: it is not empty, and nobody has it any more when it is freed.
            unsafe {
                let memory = zeroed(layout);
                assert!(!memory.is_null());
                free(memory, layout);
            }
        }
    }

    #[test]
    fn what_cannot_be_had_is_null() {
        let layout = Layout::from_size_align((isize::MAX as usize) >> 21 << 21, 8).unwrap();
        // SAFETY: it is not empty.
        assert!(unsafe { zeroed(layout) }.is_null());
    }
}
