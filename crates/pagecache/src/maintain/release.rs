//! Has memory that was freed given back to the system, by a function of the user's.

use std::panic::catch_unwind;
use std::time::{Duration, Instant};

use crate::base::event::Woken;
use crate::log::core::LogCore;

/// The name of the thread.
pub(crate) const THREAD: &str = "pagecache-free";

/// Part of the capacity, as a divisor, for which there is a call.
const MUCH: u64 = 16;

/// For less there never is.
const MUCH_MIN: u64 = 1 << 20;

/// A call that took longer is followed by a rest.
const LONG: Duration = Duration::from_millis(50);

/// So many times as long.
const REST: u32 = 4;

/// Begins to count for it.
pub(crate) fn listen(log: &LogCore, capacity: u64) {
    log.freed.listen((capacity / MUCH).max(MUCH_MIN));
}

/// In a thread of its own: a call takes milliseconds, and nobody waits for it but those who allocate meanwhile. An allocator that has gigabytes to go over, as after
/// a guard that kept so much, takes long; what is freed during the rest behind that is given back by the next call.
pub(crate) fn run(log: &LogCore, release: fn()) {
    let bell = &log.freed.bell;
    let mut is_due = false;
    while is_due || bell.wait(None) != Woken::Over {
        let begun = Instant::now();
        call(release);
        let took = begun.elapsed();
        is_due = false;
        let until = Instant::now() + if took > LONG { took * REST } else { Duration::ZERO };
        while let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            match bell.wait(Some(left)) {
                Woken::Over => return,
                Woken::Rung => is_due = true,
                Woken::TimedOut => {}
            }
        }
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
