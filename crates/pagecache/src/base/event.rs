//! A bell for a background thread: rung any number of times, heard at least once.

use std::time::Duration;

use super::sync::{Condvar, Mutex};

#[derive(Debug, Default)]
pub(crate) struct Event {
    state: Mutex<State>,
    rung: Condvar,
}

#[derive(Debug, Default)]
struct State {
    rung: bool,
    over: bool,
}

/// Why a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Woken {
    Rung,
    TimedOut,
    /// No more bells: the thread shall end.
    Over,
}

impl Event {
    pub(crate) fn new() -> Event {
        Event { state: Mutex::new(State::default()), rung: Condvar::new() }
    }

    pub(crate) fn ring(&self) {
        self.state.lock().rung = true;
        self.rung.notify_all();
    }

    pub(crate) fn end(&self) {
        self.state.lock().over = true;
        self.rung.notify_all();
    }

    /// Whether it was rung since somebody heard it last; then it is heard.
    pub(crate) fn take(&self) -> bool {
        std::mem::take(&mut self.state.lock().rung)
    }

    /// Waits for a bell, at most `limit` (one wake-up: a spurious one counts as a time-out).
    pub(crate) fn wait(&self, limit: Option<Duration>) -> Woken {
        let mut state = self.state.lock();
        if !state.rung && !state.over {
            state = match limit {
                Some(limit) => self.rung.wait_timeout(state, limit),
                None => self.rung.wait(state),
            };
        }
        match (state.over, std::mem::take(&mut state.rung)) {
            (true, _) => Woken::Over,
            (false, true) => Woken::Rung,
            (false, false) => Woken::TimedOut,
        }
    }
}
