//! A lock-free pagecache and log for high-performance databases: a construction kit for databases.
#![deny(missing_docs)]
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]
#[cfg(not(target_pointer_width = "64"))]
compile_error!("pagecache runs on 64-bit targets only: tokens and slots hold 64-bit numbers");

mod base;
mod format;
pub mod storage;

pub use base::error::{Corruption, Error, PageState, Result};
pub use base::ids::{Lsn, PageId, Version};
