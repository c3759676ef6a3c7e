//! Writes a checkpoint whenever the log behind the last one has become long.

use crate::base::error::Result;
use crate::base::event::Woken;
use crate::checkpoint::write::Checkpointer;
use crate::log::core::{LogCore, Patience};
use crate::page::materialize::Materializer;

/// The name of the thread.
pub(crate) const THREAD: &str = "pagecache-ckpt";

pub(crate) fn run<M: Materializer>(log: &LogCore, checkpointer: &Checkpointer<M>) {
    while log.behind.wait(None) != Woken::Over {
        super::shrug(turn(log, checkpointer));
    }
}

/// A checkpoint, if one is due.
///
/// # Errors
/// As a checkpoint; the next is due some log later.
pub(crate) fn turn<M: Materializer>(log: &LogCore, checkpointer: &Checkpointer<M>) -> Result<()> {
    match log.wants_checkpoint() {
        true => {
            // What is not stable yet would be replayed: where nobody asks for durability that may be much.
            log.flush(Patience::None)?;
            checkpointer.checkpoint().map(drop)
        }
        false => Ok(()),
    }
}
