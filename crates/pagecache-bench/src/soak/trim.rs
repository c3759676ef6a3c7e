//! The system's heap is trimmed where the process is large; where that takes long, for a half of the time at most.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::allocator::glibc;
use crate::files::anonymous;

/// Anonymous memory of the process beyond which the heap is trimmed.
static LARGE: AtomicU64 = AtomicU64::new(u64::MAX);

/// A trim that took longer is followed by a rest.
const LONG: Duration = Duration::from_millis(50);

/// Before that it is not trimmed again.
static RESTS_UNTIL: Mutex<Option<Instant>> = Mutex::new(None);

/// Says how large the process may be.
pub fn beyond(bytes: u64) {
    LARGE.store(bytes, Ordering::Relaxed);
}

/// What the store calls when it has freed much. What is given back has to be asked for again, so it is done where it has to be; and whoever allocates meanwhile
/// waits. A heap of gigabytes, as after a guard that kept so much, takes long to go over: done each time that a little was freed it would leave nobody else any time.
pub fn release() {
    let mut rests_until = RESTS_UNTIL.lock().unwrap_or_else(PoisonError::into_inner);
    let began = Instant::now();
    if rests_until.is_none_or(|until| until <= began) && anonymous() > LARGE.load(Ordering::Relaxed) {
        glibc::trim();
        *rests_until = Some(began.elapsed()).filter(|took| *took > LONG).map(|took| Instant::now() + took);
    }
}
