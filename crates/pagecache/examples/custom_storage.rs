//! A storage of one's own: files in memory that count what passes through them, so that a program can say what its updates cost.
//!
//! Everything that a store reads and writes goes through the two traits here. A block device, a cache before an object store, or
//! encryption by block would be put in the same place.
//!
//! `cargo run -p pagecache --example custom_storage`

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pagecache::storage::{LockGuard, LockMode, MemoryStorage, OpenMode, Storage, StorageFile};
use pagecache::{ConfigBuilder, Error, Log, Lsn};

/// What passed through. Relaxed: figures, read when the log is closed.
#[derive(Debug, Default)]
struct Counts {
    written: AtomicU64,
    writes: AtomicU64,
    read: AtomicU64,
    syncs: AtomicU64,
}

/// Counts, and leaves the work to another storage.
#[derive(Clone, Debug)]
struct Counting<S> {
    inner: S,
    counts: Arc<Counts>,
}

impl<S: Storage> Storage for Counting<S> {
    fn open(&self, name: &str, mode: OpenMode) -> io::Result<Arc<dyn StorageFile>> {
        let file = self.inner.open(name, mode)?;
        Ok(Arc::new(CountingFile { file, counts: Arc::clone(&self.counts) }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.inner.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.inner.remove(name)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.inner.list()
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.counts.syncs.fetch_add(1, Ordering::Relaxed);
        self.inner.sync_dir()
    }

    fn lock(&self, mode: LockMode) -> io::Result<Box<dyn LockGuard>> {
        self.inner.lock(mode)
    }

    fn describe(&self) -> String {
        format!("counted {}", self.inner.describe())
    }
}

#[derive(Debug)]
struct CountingFile {
    file: Arc<dyn StorageFile>,
    counts: Arc<Counts>,
}

impl StorageFile for CountingFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let count = self.file.read_at(buf, offset)?;
        self.counts.read.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        let count = self.file.write_at(buf, offset)?;
        self.counts.writes.fetch_add(1, Ordering::Relaxed);
        self.counts.written.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }

    // Both have defaults; a storage in front of another one hands them on.
    fn write_cold_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        let count = self.file.write_cold_at(buf, offset)?;
        self.counts.writes.fetch_add(1, Ordering::Relaxed);
        self.counts.written.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }

    fn begin_sync(&self, offset: u64, len: u64) {
        self.file.begin_sync(offset, len);
    }

    fn sync_data(&self) -> io::Result<()> {
        self.counts.syncs.fetch_add(1, Ordering::Relaxed);
        self.file.sync_data()
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
}

pub fn main() -> Result<(), Error> {
    const RECORDS: u64 = 2000;
    let storage = Counting { inner: MemoryStorage::new(), counts: Arc::default() };
    let config = || ConfigBuilder::new().storage(storage.clone()).flush_every_ms(None).build();

    let log = Log::start(config())?;
    for number in 0..RECORDS {
        log.write(&[number as u8; 100])?;
    }
    log.flush()?;
    log.close()?;
    let (given, counts) = (RECORDS * 100, &storage.counts);
    let written = counts.written.load(Ordering::Relaxed);
    println!(
        "{RECORDS} records of 100 bytes: {:.2} bytes written for each given, in {} writes, made durable by {} syncs",
        written as f64 / given as f64,
        counts.writes.load(Ordering::Relaxed),
        counts.syncs.load(Ordering::Relaxed),
    );
    assert!(written > given && written < 2 * given);
    assert!(counts.syncs.load(Ordering::Relaxed) < 100, "records share their syncs");

    let before = counts.read.load(Ordering::Relaxed);
    let log = Log::start(config())?;
    assert_eq!(log.iter_from(Lsn(0)).count() as u64, RECORDS);
    println!("opening and reading all of it: {} bytes read", counts.read.load(Ordering::Relaxed) - before);
    assert!(counts.read.load(Ordering::Relaxed) - before > given);
    log.close()
}
