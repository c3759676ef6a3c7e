//! Checkpoints: where every page is, written now and then, so that an opening walks the log from there and not from its beginning.
//!
//! - C1. The redo point is the stable LSN at the begin. Whatever is below it is in the leaves that the checkpoint names (D1).
//! - C2. Nothing that a durable checkpoint names is ahead of what is stable: the root is written only when the log is stable past the
//!   tail of after the scan.
//! - C3. Leaves are synced before the root is written, the root before a superblock names it, the first copy of the superblock before
//!   the second is written.
//! - C4. Nothing is given back before both copies name a checkpoint that does not need it, or the log says so (C7).
//! - C5. A checkpoint that fails leaves the one before as it was, and the marks that it took are set again.
//! - C6. No update waits for a checkpoint: it holds no lock that they take across I/O but that of births of segments, and no guard.
//! - C7. Between two checkpoints the log gives back what is empty, below the redo point of the last: it says so, and is stable up to there, before any file goes. Whoever
//!   replays knows then what is not there any more, and by the moves before why.

pub(crate) mod load;
pub(crate) mod replayer;
pub(crate) mod write;
