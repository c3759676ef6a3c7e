//! How far the log may go on before disk is cleaned: writers that are faster than the cleaner wait for it, before there is an LSN.
//!
//! Only those wait who need a new segment, and none whose room others wait for: seals, frees and the cleaner's own records go on.

use std::time::Duration;

use super::core::LogCore;
use crate::base::ids::Lsn;
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
    pub(super) fn new() -> Pace {
        Pace { allowed: AtomicU64::new(u64::MAX), waiting: Mutex::new(()), moved: Condvar::new() }
    }

    pub(super) fn wake(&self) {
        // Under the lock, so that nobody is between looking and sleeping.
        drop(self.waiting.lock());
        self.moved.notify_all();
    }
}

impl LogCore {
    /// Lets the log go on for so many bytes from here; without a limit where there is none to be held.
    pub(crate) fn allow(&self, bytes: Option<u64>) {
        let allowed = bytes.map_or(u64::MAX, |bytes| self.tail.bound().0.saturating_add(bytes));
        self.pace.allowed.store(allowed, Ordering::Relaxed);
        self.pace.wake();
    }

    /// Whether the next segment would start above what is allowed.
    pub(crate) fn is_paced_out(&self) -> bool {
        // Relaxed: both only rise, but for a limit that is set anew.
        self.ready.load(Ordering::Relaxed) >= self.pace.allowed.load(Ordering::Relaxed)
    }

    /// Waits until the log may go on to `needed`, the log has failed or it closes.
    pub(super) fn await_pace(&self, needed: Lsn) {
        let over = || {
            needed.0 <= self.ready.load(Ordering::Relaxed)
                || !self.is_paced_out()
                || self.closing.load(Ordering::Relaxed)
                || self.tail.has_failed()
        };
        let mut waiting = None;
        while !over() {
            self.behind.ring();
            let guard = waiting.take().unwrap_or_else(|| self.pace.waiting.lock());
            if !over() {
                waiting = Some(self.pace.moved.wait_timeout(guard, LOOK));
            }
        }
    }
}
