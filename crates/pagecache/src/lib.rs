//! A lock-free pagecache and log for high-performance databases: a construction kit for databases.
//!
//! For those who write storage engines, indexes, queues and embedded databases. It is no key-value store: what a page means is the user's, and so is what
//! refers to it. The kit keeps pages under stable ids, in memory up to a budget and on disk in a log with checkpoints and cleaning, and finds them again after
//! a crash.
//!
//! # How the parts go together
//!
//! - [`Materializer`] is the user's part: the type of a fragment, and how fragments merge to a page. A fragment is a whole page, or a change to one. Every type
//!   that is `Serialize + DeserializeOwned` is one; a type with a byte layout of its own implements [`Fragment`].
//! - [`PageCache`] holds the pages. [`allocate`](PageCache::allocate) gives a [`PageId`], [`replace`](PageCache::replace) a page its content, [`link`](PageCache::link)
//!   puts a fragment on top, [`get`](PageCache::get) merges what there is, [`free`](PageCache::free) gives the id back.
//! - A token ([`PagePtr`]), or the [`Version`] that it stands for, says which state of a page an update goes on. Where the page has moved on, [`Rejected`] brings
//!   the page as it is, its token, and the fragment that was refused.
//! - A guard ([`PageCache::pin`], or one of [`crossbeam_epoch`]) keeps what its holder has seen in memory: a [`PageRef`] borrows store and guard. What is
//!   replaced meanwhile waits for guards to be dropped, so hold them for a few operations, not for minutes.
//! - [`flush`](PageCache::flush) and [`make_stable`](PageCache::make_stable) make updates durable, many with one sync. After a crash the store is the state after some
//!   prefix of the order of updates ([`Lsn`]), with all that was acknowledged.
//! - [`Log`] is the log alone: a durable, ordered sequence of byte records, to be reserved, read, followed and trimmed.
//! - [`ConfigBuilder`] has the options of both. By default a store has background threads that flush, make segments, write checkpoints and clean; with
//!   [`Background::Caller`] it has none, and the user calls `tick`.
//! - [`storage`] is where bytes go: files, memory, or a [`storage::Storage`] of one's own. [`inspect`] looks at a store from outside; [`Stats`] and [`Space`] say what an
//!   open one holds.
//! - [`Error`] is the one error; each variant says what to do. Nothing panics on a bad disk, a full one or a damaged file.
//!
//! ```
//! use pagecache::storage::MemoryStorage;
//! use pagecache::{ConfigBuilder, Error, Materializer, PageCache, Rejected, Version, version};
//!
//! /// A page is a text; a fragment is text at its end.
//! struct Texts;
//!
//! impl Materializer for Texts {
//!     type PageFrag = String;
//!     type Recovery = ();
//!     // Nothing is to be found again beside the pages.
//!     const RECOVERS: bool = false;
//!
//!     fn new(_: &Option<()>) -> Self {
//!         Texts
//!     }
//!     fn merge(&self, frags: &[&String]) -> String {
//!         frags.iter().map(|frag| frag.as_str()).collect()
//!     }
//!     fn recover(&self, _: &String) -> Option<()> {
//!         None
//!     }
//! }
//!
//! fn main() -> Result<(), Error> {
//!     let disk = MemoryStorage::new();
//!     let open = || PageCache::<Texts>::start(ConfigBuilder::new().storage(disk.clone()).build());
//!
//!     let pages = open()?;
//!     let guard = pages.pin();
//!     let id = pages.allocate(&guard);
//!     let first = pages.replace_at(id, Version::NONE, "a page".to_owned(), &guard)?;
//!     pages.link_at(id, first, ", longer".to_owned(), &guard)?;
//!     // On a version that is not current any more: the refused fragment comes back, and is tried on what is there.
//!     if let Err(Rejected::Conflict { token, rejected, .. }) = pages.link_at(id, first, ".".to_owned(), &guard) {
//!         pages.link_at(id, version(token), rejected, &guard)?;
//!     }
//!     pages.flush()?;
//!     drop(guard);
//!     pages.close()?;
//!
//!     let pages = open()?;
//!     let guard = pages.pin();
//!     let (page, _) = pages.get(id, &guard)?;
//!     assert_eq!(page, "a page, longer.".to_owned());
//!     Ok(())
//! }
//! ```
//!
//! # Features
//!
//! - `tracing`, off by default: work of the background threads that has failed and is tried again is a warning of the crate `tracing`. The library never prints.
//! - `canary` is for the kit's own tests.
//!
//! # Where to read more
//!
//! In the repository: the README (guarantees, limits, figures), `crates/pagecache/examples`, and in `docs` ARCHITECTURE (the way of a link, a read, an opening, a
//! checkpoint), DURABILITY (what is promised after what), FORMAT, CONCURRENCY, TESTING, BENCHMARKS, MIGRATING (from `pagecache` 0.2.7 and 0.19.4) and the decisions.
//!
//! Linux is tested; other Unixes and Windows have their code paths and are not. 64-bit targets only.
#![deny(missing_docs)]
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]
#[cfg(not(target_pointer_width = "64"))]
compile_error!("pagecache runs on 64-bit targets only: tokens and slots hold 64-bit numbers");

mod base;
mod cache;
mod checkpoint;
mod clean;
mod config;
mod engine;
mod event_log;
mod format;
/// What the fuzz targets need of the inside; not there in ordinary builds.
#[cfg(any(fuzzing, test))]
#[doc(hidden)]
pub mod fuzzing;
pub mod inspect;
mod log;
mod maintain;
mod ops;
mod page;
mod recovery;
mod restart;
pub mod space;
mod stats;
pub mod storage;
mod store;

pub use crossbeam_epoch;

pub use base::error::{Corruption, Error, PageState, Result};
pub use base::ids::{Lsn, PageId, Version};
pub use cache::{Found, PageCache};
#[doc(hidden)]
pub use clean::Order as CleaningOrder;
pub use config::{Background, Config, ConfigBuilder, Create};
pub use event_log::{Log, LogIter, LogRead, LogTail, Reservation, Tailed};
pub use ops::files_pin::FilesPin;
pub use ops::memory::Memory;
pub use ops::rejected::Rejected;
pub use page::fragment::{Fragment, PageBytes};
pub use page::materialize::Materializer;
pub use page::page_ref::{Fragments, PageRef};
pub use page::pins::{OldestGuard, Pin};
pub use page::token::{PagePtr, PageVersion, version};
pub use restart::RestartBy;
pub use space::Space;
pub use stats::Stats;

/// The README's programs run as tests.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;

/// Planted bugs for the kit's own drivers.
#[cfg(feature = "canary")]
#[doc(hidden)]
pub mod canary {
    pub use crate::base::canary::{Canary, plant};
}
