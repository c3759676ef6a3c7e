//! Has memory that was freed given back to the system, by a function of the user's.

use std::panic::catch_unwind;

use crate::base::event::Woken;
use crate::log::core::LogCore;

/// The name of the thread.
pub(crate) const THREAD: &str = "pagecache-free";

/// Part of the capacity, as a divisor, for which there is a call.
const MUCH: u64 = 8;

/// For less there never is.
const MUCH_MIN: u64 = 1 << 20;

/// Begins to count for it.
pub(crate) fn listen(log: &LogCore, capacity: u64) {
    log.freed.listen((capacity / MUCH).max(MUCH_MIN));
}

/// In a thread of its own: a call takes milliseconds, and nobody waits for it.
pub(crate) fn run(log: &LogCore, release: fn()) {
    while log.freed.bell.wait(None) != Woken::Over {
        call(release);
    }
}

/// The same on the caller's thread, if it is due.
pub(crate) fn turn(log: &LogCore, release: fn()) {
    if log.freed.bell.take() {
        call(release);
    }
}

/// User code: its panic was reported by the hook, and costs memory at most.
fn call(release: fn()) {
    if let Err(payload) = catch_unwind(release) {
        // What it carries may panic when it goes.
        std::mem::forget(payload);
    }
}
