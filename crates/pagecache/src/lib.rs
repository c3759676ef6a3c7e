//! A lock-free pagecache and log for high-performance databases: a construction kit for databases.
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
