//! Hands complete chunks to the operating system, and bounds how long unflushed work stays in memory.

use std::time::{Duration, Instant};

use crate::base::error::Result;
use crate::base::event::Woken;
use crate::base::sync::is_past;
use crate::log::core::{LogCore, Patience};

/// Whether unsynced work has waited for as long as it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    Now,
    NotYet,
}

/// Writes what is complete, flushes what is asked for or due, and says where space runs short.
///
/// # Errors
/// As a flush; the next turn tries again.
pub(super) fn turn(log: &LogCore, due: Due) -> Result<()> {
    if log.wants_extension() {
        log.short.ring();
    }
    if log.wants_checkpoint() || log.wants_cleaning() {
        log.behind.ring();
    }
    // Taken first: a request that stayed while this turn fails would keep later ones from ringing.
    let asked = log.take_flush_asked();
    log.write_out()?;
    if asked {
        log.flush(Patience::None)?;
    }
    match due {
        Due::Now => log.tick(),
        Due::NotYet => Ok(()),
    }
}

pub(super) fn run(log: &LogCore, every: Option<Duration>) {
    let mut due = every.map(|every| Instant::now() + every);
    loop {
        let left = due.map(|due| due.saturating_duration_since(Instant::now()));
        let woken = log.work.wait(left);
        if woken == Woken::Over {
            return;
        }
        let mut now = Due::NotYet;
        if let (Some(at), Some(every)) = (due, every)
            && is_past(at)
        {
            now = Due::Now;
            due = Some(Instant::now() + every);
        }
        super::shrug(turn(log, now));
    }
}
