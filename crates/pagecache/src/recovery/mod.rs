//! Opening a store: find the checkpoint, survey the files, walk the log from the redo point, decide what the walk's end means, go on.
//!
//! - V1. What a valid mark or a later segment says was stable must be there: less is damage, never a torn tail.
//! - V2. What is accepted above the last proven stable LSN is written again, byte for byte, and synced before the first
//!   new record: it may be only in the cache of the operating system.
//! - V3. A torn segment is never continued: the log goes on in a new segment with a new salt, above every LSN seen.
//! - V4. Nothing is written before the verdict, and crashing anywhere in here changes no later verdict.

pub(crate) mod decide;
pub(crate) mod open;
pub(crate) mod pages;
pub(crate) mod rebuild;
pub(crate) mod replay;
pub(crate) mod survey;
