//! Files that stay: for backups.

use std::fmt;
use std::sync::Arc;

use crate::log::core::LogCore;

/// Keeps every file of a store, for whoever copies or links them while the store is in use: from
/// [`PageCache::pin_files`](crate::PageCache::pin_files). What is given back meanwhile stays on disk until this is dropped, and is not bound by
/// the fill target that long.
pub struct FilesPin {
    log: Arc<LogCore>,
}

impl FilesPin {
    pub(crate) fn new(log: &Arc<LogCore>) -> FilesPin {
        log.pool.pin();
        FilesPin { log: Arc::clone(log) }
    }
}

impl fmt::Debug for FilesPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FilesPin").finish_non_exhaustive()
    }
}

impl Drop for FilesPin {
    fn drop(&mut self) {
        // What was not given back is tried again with the next segment, or is removed by the next opening.
        let _ = self.log.pool.unpin();
    }
}
