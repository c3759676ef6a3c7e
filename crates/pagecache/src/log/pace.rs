//! How far the log may go on before disk is cleaned, and those who wait for more.

use std::time::Duration;

use crate::base::sync::{AtomicU64, Condvar, Mutex, Ordering};
use crate::base::upkeep::Upkeep;

/// A look at whether the wait is over, where nobody says so: the background may have ended.
const LOOK: Duration = Duration::from_millis(50);

#[derive(Debug)]
pub(super) struct Pace {
    /// No segment is made that starts here or above. Relaxed: a limit that is seen late is a limit all the same.
    allowed: AtomicU64,
    turns: Mutex<Turns>,
    moved: Condvar,
}

/// What those who wait look at, under the lock.
#[derive(Debug, Default)]
struct Turns {
    /// How many the cleaner has had.
    count: u64,
    /// Whether there is a thread that goes on having them.
    attended: bool,
}

impl Pace {
    /// Without a limit.
    pub(super) fn new() -> Pace {
        Pace { allowed: AtomicU64::new(u64::MAX), turns: Mutex::default(), moved: Condvar::new() }
    }

    pub(super) fn set(&self, allowed: u64) {
        self.allowed.store(allowed, Ordering::Relaxed);
        self.wake();
    }

    /// Where no segment starts any more; none without a limit.
    pub(super) fn allowed(&self) -> Option<u64> {
        Some(self.allowed.load(Ordering::Relaxed)).filter(|allowed| *allowed != u64::MAX)
    }

    /// Whether no segment is made that starts here.
    pub(super) fn is_out(&self, start: u64) -> bool {
        start >= self.allowed.load(Ordering::Relaxed)
    }

    /// Lets everyone who waits look around.
    pub(super) fn wake(&self) {
        // Under the lock, so that nobody is between looking and sleeping.
        drop(self.turns.lock());
        self.moved.notify_all();
    }

    /// Waits until it is over; `ask` is called before each sleep. Who is at upkeep does not: it may be what is waited for.
    pub(super) fn wait(&self, over: impl Fn() -> bool, ask: impl Fn()) {
        while !Upkeep::is_here() && !over() {
            ask();
            let turns = self.turns.lock();
            if !over() {
                drop(self.moved.wait_timeout(turns, LOOK));
            }
        }
    }

    /// Takes note of a turn of the cleaner, or of its end.
    pub(super) fn attend(&self, is_there: bool) {
        let mut turns = self.turns.lock();
        turns.count += 1;
        turns.attended = is_there;
        drop(turns);
        self.moved.notify_all();
    }

    /// Whether there is a thread that has turns.
    #[cfg(all(test, not(any(loom, shuttle))))]
    pub(super) fn is_attended(&self) -> bool {
        self.turns.lock().attended
    }

    /// Waits until a turn has passed that began after this; `ask` is called before each sleep. `false` where there is nobody to have one, or the turn may wait for this thread,
    /// which is at upkeep: its flush may need room, or user code that it runs.
    pub(super) fn wait_turn(&self, over: impl Fn() -> bool, ask: impl Fn()) -> bool {
        let is_there = |turns: &Turns| turns.attended && !Upkeep::is_here();
        let mut turns = self.turns.lock();
        // The one that is underway may have looked already.
        let until = turns.count + 2;
        while is_there(&turns) && turns.count < until && !over() {
            drop(turns);
            ask();
            turns = self.turns.lock();
            if is_there(&turns) && turns.count < until && !over() {
                turns = self.moved.wait_timeout(turns, LOOK);
            }
        }
        is_there(&turns)
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn who_is_at_upkeep_waits_for_no_turn_and_no_grant() {
        let pace = Pace::new();
        assert!(!pace.wait_turn(|| false, || {}), "there is nobody");
        pace.attend(true);
        let upkeep = Upkeep::begin();
        assert!(!pace.wait_turn(|| false, || {}), "it would be this thread");
        pace.wait(|| false, || {});
        drop(upkeep);
        let asked = AtomicU64::new(0);
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| pace.wait_turn(|| false, || _ = asked.fetch_add(1, Ordering::Relaxed)));
            while !waits.is_finished() {
                pace.attend(true);
            }
            assert!(waits.join().unwrap() && asked.load(Ordering::Relaxed) > 0);
        });
        pace.attend(false);
        assert!(!pace.wait_turn(|| false, || {}));
    }
}
