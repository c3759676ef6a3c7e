//! The log: reservation in one atomic step, a ring of bytes, writes in flight, group commit, and reading back.
//!
//! A record's way: [`tail`] draws its LSN, its bytes go into the [`ring`], its slot in [`open`] closes, a round of
//! [`flush`] writes and syncs. Nothing here starts a thread or looks at a clock.
//!
//! - L1. LSNs only rise; each belongs to one ticket. A ticket exists only where its bytes have room in the ring and its
//!   segment is durable by name and header.
//! - L2. Bytes of an open ticket belong to its owner alone. Bytes below the prefix never change again until the ring
//!   goes round, and the ring goes round only over what was written.
//! - L3. The prefix is min(tail, read first; bounds of open slots, read after). It is always a record boundary, and every
//!   byte below it was copied before.
//! - L4. The stable LSN is the end of a pad that lies at or below the prefix, with every file below it synced since the
//!   last write. So it is a block's end and a record's end, and a block with acknowledged bytes is never written again.
//! - L5. The first failed sync, or a failed write other than a full disk, ends the log until it is reopened: nothing is
//!   acknowledged after it, and everyone who waits is told.
//! - L6. Nobody sleeps on a slot without having left a mark in the slot's own word, and every close of a slot sees it.

pub(crate) mod append;
pub(crate) mod core;
mod extend;
pub(crate) mod extent;
pub(crate) mod extents;
pub(crate) mod flush;
pub(crate) mod geometry;
pub(crate) mod held;
pub(crate) mod iter;
pub(crate) mod lives;
#[cfg(all(test, loom))]
mod models;
pub(crate) mod open;
mod pace;
pub(crate) mod read;
pub(crate) mod ring;
pub(crate) mod room;
pub(crate) mod rounds;
pub(crate) mod scan;
pub(crate) mod supply;
pub(crate) mod tail;
pub(crate) mod trim;
mod working;
mod write;
