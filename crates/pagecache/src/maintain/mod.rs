//! Background work: the only threads of the kit. Who needs durability or a segment now works for it; only
//! writers beyond the pace wait for the cleaner (`log/pace.rs`).

pub(crate) mod checkpoints;
mod flusher;
pub(crate) mod release;
mod supplier;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use crate::base::error::{Error, Result};
use crate::base::sync::{JoinHandle, spawn};
use crate::log::core::LogCore;
use crate::store::limit::{CAPPED, FULL};
use flusher::Due;

/// The threads of an open log: one writes, one keeps segments ready. Making a segment waits for the disk several times, and
/// what is written meanwhile need not wait with it.
#[derive(Debug)]
pub(crate) struct Workers {
    log: Arc<LogCore>,
    threads: Vec<JoinHandle<()>>,
}

impl Workers {
    /// Starts the threads. `flush_every` bounds how long a completed record stays unsynced; `None` syncs on request only.
    ///
    /// # Errors
    /// `Thread` where the system gives none.
    pub(crate) fn start(log: Arc<LogCore>, flush_every: Option<Duration>) -> Result<Workers> {
        let mut workers = Workers { log, threads: Vec::new() };
        workers.spawn("pagecache-flush", move |log| flusher::run(log, flush_every))?;
        workers.spawn("pagecache-space", supplier::run)?;
        Ok(workers)
    }

    /// Starts one more. It ends when a bell of the log says that it is over.
    ///
    /// # Errors
    /// `Thread` where the system gives none.
    pub(crate) fn spawn(&mut self, name: &str, run: impl FnOnce(&LogCore) + Send + 'static) -> Result<()> {
        let log = Arc::clone(&self.log);
        let run = move || {
            // A user's storage that panics ends the log, not only this thread: nobody else would know that its work is not done
            // any more. What is held on the way is locks, which are not poisoned, and the lead, which ends the log by itself.
            if catch_unwind(AssertUnwindSafe(|| run(&log))).is_err() {
                log.fail_by_panic();
            }
        };
        let thread = spawn(name, run).map_err(|error| Error::Thread { source: Arc::new(error) })?;
        self.threads.push(thread);
        Ok(())
    }

    /// Ends the threads and waits for them.
    pub(crate) fn stop(&mut self) {
        self.log.work.end();
        self.log.short.end();
        self.log.behind.end();
        self.log.freed.bell.end();
        for thread in self.threads.drain(..) {
            // A panic there is a bug that tests meet; the store is closing and its state is on disk.
            let ended = thread.join();
            debug_assert!(ended.is_ok());
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.stop();
    }
}

/// What the threads do, all of it once, on the caller's thread.
///
/// # Errors
/// As a flush; the next turn tries again.
pub(crate) fn turn(log: &LogCore) -> Result<()> {
    flusher::turn(log, Due::Now)?;
    match log.extend_ahead() {
        // Nobody needs it yet; who does is told.
        Err(Error::NoSpace { what: CAPPED | FULL }) => Ok(()),
        extended => extended,
    }
}

/// A full disk clears by itself: the next turn tries again. A failure has told everyone who waits.
fn shrug(outcome: Result<()>) {
    if let Err(_error) = outcome {
        #[cfg(feature = "tracing")]
        tracing::warn!(error = %_error, "background work");
    }
}
