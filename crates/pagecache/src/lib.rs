//! A lock-free pagecache and log for high-performance databases: a construction kit for databases.
#![deny(missing_docs)]
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]
#[cfg(not(target_pointer_width = "64"))]
compile_error!("pagecache runs on 64-bit targets only: tokens and slots hold 64-bit numbers");

mod base;
mod config;
mod engine;
mod event_log;
mod format;
mod log;
mod maintain;
mod recovery;
pub mod storage;
mod store;

pub use base::error::{Corruption, Error, PageState, Result};
pub use base::ids::{Lsn, PageId, Version};
pub use config::{Background, Config, ConfigBuilder, Create};
pub use event_log::{Log, LogIter, LogRead, LogTail, Reservation, Tailed};

/// Planted bugs for the kit's own drivers.
#[cfg(feature = "canary")]
#[doc(hidden)]
pub mod canary {
    pub use crate::base::canary::{Canary, plant};
}
