//! Writes a checkpoint whenever the log behind the last one has become long, and cleans where disk is out of proportion then.

use crate::base::error::Result;
use crate::base::event::Woken;
use crate::checkpoint::write::Checkpointer;
use crate::clean::Cleaner;
use crate::log::core::{LogCore, Patience};
use crate::page::materialize::Materializer;

/// Turns of cleaning behind a checkpoint, before it is looked whether another checkpoint is due.
const TURNS_MAX: usize = 16;

/// The name of the thread.
pub(crate) const THREAD: &str = "pagecache-ckpt";

pub(crate) fn run<M: Materializer>(log: &LogCore, checkpointer: &Checkpointer<M>, cleaner: &Cleaner<M>) {
    while log.behind.wait(None) != Woken::Over {
        let outcome = turn(log, checkpointer, cleaner);
        // Writers wait for what this thread can do; where it can do nothing they go on.
        log.allow(outcome.is_ok().then(|| cleaner.headroom()));
        super::shrug(outcome);
    }
    log.allow(None);
}

/// A checkpoint, if one is due; and behind it a turn of cleaning, if that is.
///
/// # Errors
/// As a checkpoint or the cleaning; the next is due some log later.
pub(crate) fn turn<M: Materializer>(log: &LogCore, checkpointer: &Checkpointer<M>, cleaner: &Cleaner<M>) -> Result<()> {
    match log.wants_checkpoint() || log.is_paced_out() {
        true => {
            // What is not stable yet would be replayed: where nobody asks for durability that may be much.
            log.flush(Patience::None)?;
            checkpointer.checkpoint()?;
            cleaner.pages_are_known()?;
            // Each turn gives back what it has emptied, so there is less to do behind it; where it is not, what is left cannot be moved.
            for _ in 0..TURNS_MAX {
                if !cleaner.is_due() || cleaner.turn()?.moved == 0 {
                    break;
                }
            }
            Ok(())
        }
        false => Ok(()),
    }
}
