//! How far the log may go on before disk is cleaned, and those who wait for more.

use std::time::Duration;

use crate::base::sync::{AtomicU64, Condvar, Mutex, Ordering};

/// A look at whether the wait is over, where nobody says so: the background may have ended.
const LOOK: Duration = Duration::from_millis(50);

#[derive(Debug)]
pub(super) struct Pace {
    /// No segment is made that starts above. Relaxed: a limit that is seen late is a limit all the same.
    allowed: AtomicU64,
    waiting: Mutex<()>,
    moved: Condvar,
}

impl Pace {
    /// Without a limit.
    pub(super) fn new() -> Pace {
        Pace { allowed: AtomicU64::new(u64::MAX), waiting: Mutex::new(()), moved: Condvar::new() }
    }

    pub(super) fn set(&self, allowed: u64) {
        self.allowed.store(allowed, Ordering::Relaxed);
        self.wake();
    }

    /// Whether a log that is ready up to here may not go on.
    pub(super) fn is_out(&self, ready: u64) -> bool {
        ready >= self.allowed.load(Ordering::Relaxed)
    }

    /// Lets everyone who waits look around.
    pub(super) fn wake(&self) {
        // Under the lock, so that nobody is between looking and sleeping.
        drop(self.waiting.lock());
        self.moved.notify_all();
    }

    /// Waits until it is over; `ask` is called before each sleep.
    pub(super) fn wait(&self, over: impl Fn() -> bool, ask: impl Fn()) {
        while !over() {
            ask();
            let waiting = self.waiting.lock();
            if !over() {
                drop(self.moved.wait_timeout(waiting, LOOK));
            }
        }
    }
}
