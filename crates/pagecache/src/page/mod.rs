//! Pages in memory: ids, slots, chains of fragments, what they weigh and which of them go. No I/O happens here.
//!
//! - G1. A slot's word is the whole truth about a page; it changes by compare-and-swap only, except while a store opens and by the
//!   reader of a leaf that was not read yet (D3).
//! - G2. A node is immutable once it is published, but for its use mark. It is freed through the epoch after it was
//!   unpublished, so whoever loaded it under a guard may keep looking as long as the guard lives.
//! - G3. The version of a page is that of its newest node, and rises with every logical change. Folding, paging in and
//!   evicting keep it.
//! - G4. A piece enters a slot's word as a place on disk only when it is stable, an image when it is synced (N1); until then the page stays in memory.
//! - G5. A node's pieces name every record, oldest first, that is needed to build it again, unless a marker stands above it.
//! - G6. A page that was moved under deltas gets a marker on top: a node without a fragment, whose pieces are all of the page's as of then, and stand for those
//!   of every node below, which stay as they are. A chain has one at most; a fold takes it away with the rest.

mod buckets;
pub(crate) mod budget;
pub(crate) mod chain;
mod fifo;
pub(crate) mod fragment;
pub(crate) mod frees;
mod garbage;
mod ghost;
pub(crate) mod ids;
pub(crate) mod leaves;
pub(crate) mod materialize;
#[cfg(all(test, loom))]
mod models;
pub(crate) mod page_ref;
pub(crate) mod pieces;
pub(crate) mod pins;
pub(crate) mod queues;
pub(crate) mod retired;
pub(crate) mod slot;
pub(crate) mod table;
pub(crate) mod token;
