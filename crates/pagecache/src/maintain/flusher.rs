//! The background flusher: hands complete chunks to the operating system, keeps a segment ready, and bounds how long
//! unflushed work stays in memory. Nobody waits for it: whoever waits for the log leads a round of their own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::base::error::{Error, Result};
use crate::base::event::Woken;
use crate::base::sync::{JoinHandle, is_past, spawn};
use crate::log::core::LogCore;
use crate::log::flush::Patience;

#[derive(Debug)]
pub(crate) struct Flusher {
    log: Arc<LogCore>,
    thread: Option<JoinHandle<()>>,
}

impl Flusher {
    /// Starts the thread. `every` bounds how long a completed record stays unsynced; `None` syncs on request only.
    ///
    /// # Errors
    /// `Thread` where the system gives none.
    pub(crate) fn start(log: Arc<LogCore>, every: Option<Duration>) -> Result<Flusher> {
        let own = Arc::clone(&log);
        let thread = spawn("pagecache-flush", move || run(&own, every));
        let thread = thread.map_err(|error| Error::Thread { source: Arc::new(error) })?;
        Ok(Flusher { log, thread: Some(thread) })
    }

    /// Ends the thread and waits for it.
    pub(crate) fn stop(&mut self) {
        self.log.work.end();
        if let Some(thread) = self.thread.take() {
            // A panic there is a bug that tests meet; the store is closing and its state is on disk.
            let ended = thread.join();
            debug_assert!(ended.is_ok());
        }
    }
}

impl Drop for Flusher {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Whether unsynced work has waited for as long as it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    Now,
    NotYet,
}

/// One turn of the background: writes what is complete, flushes what is asked for or due, and keeps
/// space ready.
///
/// # Errors
/// As a flush; the next turn tries again.
pub(crate) fn turn(log: &LogCore, due: Due) -> Result<()> {
    log.write_out()?;
    if log.take_flush_asked() {
        log.flush(Patience::None)?;
    }
    if due == Due::Now {
        log.tick()?;
    }
    log.extend_ahead()
}

fn run(log: &LogCore, every: Option<Duration>) {
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
        // A full disk clears by itself: the next turn tries again. A failure has told everyone who waits.
        if let Err(_error) = turn(log, now) {
            #[cfg(feature = "tracing")]
            tracing::warn!(error = %_error, "background flush");
        }
    }
}
