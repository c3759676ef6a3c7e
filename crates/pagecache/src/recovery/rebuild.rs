//! What an opening is for: those who keep something in memory of the log make it again, from a checkpoint and the records behind it.

use super::replay::Collect;
use crate::base::error::Result;
use crate::format::root::Root;

/// Something that is made again at an opening.
pub(crate) trait Rebuild {
    /// What is made of the records of one segment, on any thread.
    type Part: Collect + Default;

    /// Called first, with the checkpoint that the replay starts from, if there is one.
    ///
    /// # Errors
    /// What ends the opening.
    fn begin(&mut self, _segment_size: u64, _root: Option<&Root>) -> Result<()> {
        Ok(())
    }

    /// Called for each segment, in LSN order.
    ///
    /// # Errors
    /// What ends the opening.
    fn join(&mut self, part: Self::Part) -> Result<()>;
}
