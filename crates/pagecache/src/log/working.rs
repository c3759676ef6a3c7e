//! Work that others wait for: a round and who leads it, a write out of the ring. Its end is told however it comes.

use super::core::LogCore;
use crate::base::canary::{Canary, planted};
use crate::base::error::Result;

/// Work on the storage that others may wait for. A storage that panics ends the log rather than everyone who waits: whoever drops
/// this without having [`finished`](Working::finish) is unwinding out of the work. (To ask whether the thread is panicking would
/// not do: it may have been before it came here.)
pub(super) struct Working<'a> {
    log: &'a LogCore,
    finished: bool,
}

impl<'a> Working<'a> {
    pub(super) fn begin(log: &'a LogCore) -> Working<'a> {
        Working { log, finished: false }
    }

    pub(super) fn finish(mut self) {
        self.finished = true;
    }
}

impl Drop for Working<'_> {
    fn drop(&mut self) {
        if !self.finished {
            self.log.fail_by_panic();
        }
    }
}

/// The lead of a round, given up when dropped.
pub(super) struct Leading<'a> {
    log: &'a LogCore,
}

impl<'a> Leading<'a> {
    /// The caller has just taken the lead.
    pub(super) fn begin(log: &'a LogCore) -> Leading<'a> {
        Leading { log }
    }

    /// One round, led to its end.
    pub(super) fn lead(self, round: impl FnOnce() -> Result<()>) -> Result<()> {
        let working = Working::begin(self.log);
        let led = round();
        working.finish();
        led
    }
}

impl Drop for Leading<'_> {
    fn drop(&mut self) {
        let mut rounds = self.log.rounds.lock();
        rounds.leading = false;
        if rounds.poison.is_some() && planted(Canary::WaitersForgottenAtFailure) {
            return;
        }
        drop(rounds);
        self.log.moved.notify_all();
    }
}
