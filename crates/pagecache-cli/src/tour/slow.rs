//! A disk that takes its time with every write: files of the operating system behind a wait.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pagecache::storage::{FileStorage, LockGuard, LockMode, OpenMode, Storage, StorageFile};

/// What a write waits for before it begins.
const WAIT: Duration = Duration::from_millis(20);

/// A directory of the file system on a slow disk. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct SlowDisk {
    files: Arc<FileStorage>,
    slow: Arc<AtomicBool>,
}

impl SlowDisk {
    /// As fast as it is, for now.
    pub(crate) fn new(path: &Path) -> io::Result<SlowDisk> {
        Ok(SlowDisk { files: Arc::new(FileStorage::create(path)?), slow: Arc::default() })
    }

    pub(crate) fn slow_down(&self) {
        // Relaxed: nothing else hangs on when it begins.
        self.slow.store(true, Ordering::Relaxed);
    }
}

impl Storage for SlowDisk {
    fn open(&self, name: &str, mode: OpenMode) -> io::Result<Arc<dyn StorageFile>> {
        Ok(Arc::new(SlowFile { file: self.files.open(name, mode)?, slow: Arc::clone(&self.slow) }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.files.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.files.remove(name)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.files.list()
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.files.sync_dir()
    }

    fn lock(&self, mode: LockMode) -> io::Result<Box<dyn LockGuard>> {
        self.files.lock(mode)
    }

    fn describe(&self) -> String {
        self.files.describe()
    }
}

#[derive(Debug)]
struct SlowFile {
    file: Arc<dyn StorageFile>,
    slow: Arc<AtomicBool>,
}

impl StorageFile for SlowFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        if self.slow.load(Ordering::Relaxed) {
            std::thread::sleep(WAIT);
        }
        self.file.write_at(buf, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn begin_sync(&self, offset: u64, len: u64) {
        self.file.begin_sync(offset, len);
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        self.file.allocate(offset, len)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn allocated(&self) -> io::Result<u64> {
        self.file.allocated()
    }
}
