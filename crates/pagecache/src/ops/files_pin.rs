//! Files that stay: for backups.

use std::fmt;
use std::sync::Arc;

use crate::log::core::LogCore;

/// Keeps every file of a store, for whoever copies or links them while the store is in use: from
/// [`PageCache::pin_files`](crate::PageCache::pin_files). What is given back meanwhile stays on disk until this is dropped, and is not bound by
/// the fill target that long.
///
/// It keeps files from the store that is open now, and from nobody else. One that is dropped after the store was closed touches no file: what it has kept is removed by the
/// next start, and that does not wait for it.
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
        // What was not given back is tried again with the next segment, or is removed by the next opening. A directory that cannot be synced ends the log, which tells
        // whoever comes next.
        let _ = self.log.given_back(self.log.pool.unpin());
    }
}
