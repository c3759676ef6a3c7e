//! What a store says of its long writes: a log alone is cold once it is written, that of a page store is read again.
#![cfg(not(loom))]

mod common;

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use pagecache::storage::{LockGuard, LockMode, MemoryStorage, OpenMode, Storage, StorageFile};
use pagecache::{Background, ConfigBuilder, Log, PageCache, PageId, Version};

use common::{Bytes, Joined};

/// Bytes that were said to be cold, those that were not, and those whose way to the disk was to begin.
#[derive(Debug, Default)]
struct Said {
    cold: AtomicU64,
    warm: AtomicU64,
    begun: AtomicU64,
}

#[derive(Clone, Debug)]
struct Listening {
    inner: MemoryStorage,
    said: Arc<Said>,
}

impl Listening {
    fn new() -> Listening {
        Listening { inner: MemoryStorage::new(), said: Arc::default() }
    }

    /// Cold, warm, begun.
    fn said(&self) -> [u64; 3] {
        [&self.said.cold, &self.said.warm, &self.said.begun].map(|bytes| bytes.load(Ordering::Relaxed))
    }
}

impl Storage for Listening {
    fn open(&self, name: &str, mode: OpenMode) -> io::Result<Arc<dyn StorageFile>> {
        let file = self.inner.open(name, mode)?;
        Ok(Arc::new(ListeningFile { file, said: Arc::clone(&self.said), waiting: Mutex::default() }))
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
        self.inner.sync_dir()
    }

    fn lock(&self, mode: LockMode) -> io::Result<Box<dyn LockGuard>> {
        self.inner.lock(mode)
    }

    fn describe(&self) -> String {
        self.inner.describe()
    }
}

#[derive(Debug)]
struct ListeningFile {
    file: Arc<dyn StorageFile>,
    said: Arc<Said>,
    /// Long writes whose way to the disk has not begun.
    waiting: Mutex<BTreeMap<u64, u64>>,
}

impl StorageFile for ListeningFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        self.said.warm.fetch_add(buf.len() as u64, Ordering::Relaxed);
        if buf.len() >= LONG {
            self.waiting.lock().unwrap().insert(offset, buf.len() as u64);
        }
        self.file.write_at(buf, offset)
    }

    fn write_cold_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        self.said.cold.fetch_add(buf.len() as u64, Ordering::Relaxed);
        self.file.write_cold_at(buf, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn begin_sync(&self, offset: u64, len: u64) {
        let mut waiting = self.waiting.lock().unwrap();
        let written: Vec<u64> = waiting.range(offset..offset + len).map(|(at, _)| *at).collect();
        let bytes: u64 = written.iter().filter_map(|at| waiting.remove(at)).sum();
        // Where the ring goes round, one of two pieces may be short.
        assert!(bytes <= len && bytes + LONG as u64 > len, "{offset}, {len}: {bytes} were written there");
        self.said.begun.fetch_add(bytes, Ordering::Relaxed);
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

const BYTES: u64 = 4 << 20;

/// What counts as long.
const LONG: usize = 64 << 10;

#[test]
fn a_log_alone_is_cold_once_it_is_written() {
    let storage = Listening::new();
    let config = ConfigBuilder::new().storage(storage.clone()).segment_size(1 << 20).background(Background::Caller);
    let log = Log::start(config.build()).unwrap();
    for _ in 0..BYTES >> 12 {
        log.write(&[7; 4096]).unwrap();
    }
    log.flush().unwrap();
    let [cold, warm, begun] = storage.said();
    assert!(cold >= BYTES, "{cold}");
    // Headers, and the like.
    assert!(warm < BYTES / 8, "{warm}");
    assert_eq!(begun, 0);
}

#[test]
fn the_log_of_a_page_store_is_read_again_and_its_way_to_the_disk_begins_with_the_write() {
    let storage = Listening::new();
    let config = ConfigBuilder::new().storage(storage.clone()).segment_size(1 << 20).background(Background::Caller);
    let cache = PageCache::<Joined>::start(config.build()).unwrap();
    for page in 0..BYTES >> 12 {
        let guard = cache.pin();
        assert_eq!(cache.allocate(&guard), PageId(page));
        cache.replace_at(PageId(page), Version::NONE, Bytes(vec![7; 4096]), &guard).unwrap();
    }
    cache.flush().unwrap();
    let [cold, warm, begun] = storage.said();
    assert_eq!(cold, 0);
    assert!(warm >= BYTES, "{warm}");
    assert!(begun >= BYTES * 3 / 4 && begun <= warm, "{begun} of {warm}");
    // A short one is synced at once, and needs no hint.
    let guard = cache.pin();
    let id = cache.allocate(&guard);
    cache.replace_at(id, Version::NONE, Bytes(vec![8; 100]), &guard).unwrap();
    cache.flush().unwrap();
    assert_eq!(storage.said()[2], begun);
}
