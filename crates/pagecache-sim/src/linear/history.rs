//! What threads asked and were told, and when.

use std::sync::atomic::{AtomicU64, Ordering};

/// A clock that only counts: no two readings are equal, and their order is that of the readings.
#[derive(Debug, Default)]
pub struct Clock(AtomicU64);

impl Clock {
    /// The next moment.
    pub fn tick(&self) -> u64 {
        // SeqCst: one order of all readings, that of real time.
        self.0.fetch_add(1, Ordering::SeqCst)
    }
}

/// One call of one thread on one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call<Q, A> {
    /// Who called.
    pub thread: usize,
    /// Read from the clock before the call.
    pub begun: u64,
    /// What was asked.
    pub ask: Q,
    /// Read from the clock after the call, and what it answered; `None` for a call that never returned.
    pub ended: Option<(u64, A)>,
}

impl<Q, A> Call<Q, A> {
    /// The answer, if there was one.
    pub fn answer(&self) -> Option<&A> {
        self.ended.as_ref().map(|(_, answer)| answer)
    }

    /// Whether it had returned by then.
    pub fn ended_before(&self, time: u64) -> bool {
        self.ended.as_ref().is_some_and(|(ended, _)| *ended < time)
    }

    /// Whether both were under way at some moment.
    pub fn overlaps(&self, other: &Call<Q, A>) -> bool {
        !self.ended_before(other.begun) && !other.ended_before(self.begun)
    }
}
