//! The system's heap is trimmed where the process is large.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::allocator::glibc;
use crate::files::anonymous;

/// Anonymous memory of the process beyond which the heap is trimmed.
static LARGE: AtomicU64 = AtomicU64::new(u64::MAX);

/// Says how large the process may be.
pub fn beyond(bytes: u64) {
    LARGE.store(bytes, Ordering::Relaxed);
}

/// What the store calls when it has freed much. What is given back has to be asked for again, so it is done where it has to be.
pub fn release() {
    if anonymous() > LARGE.load(Ordering::Relaxed) {
        glibc::trim();
    }
}
