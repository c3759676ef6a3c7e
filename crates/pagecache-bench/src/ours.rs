//! The kit as an entrant: pages and log, in files or in memory.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use pagecache::storage::MemoryStorage;
use pagecache::{Config, ConfigBuilder, Log, Lsn, PageCache, PageId, Rejected, Version, version};

use crate::engines::{Appends, Pages};
use crate::workload::{Blob, Bytes, sum};

/// This name in tables.
pub const OURS: &str = "ours";

/// A cache that never needs to evict in these rows.
pub(crate) const AMPLE: u64 = 4 << 30;

/// A new log in files, synced on request only.
pub fn log_in_files(path: &Path) -> Log {
    Log::start(ConfigBuilder::new().path(path).flush_every_ms(None).build()).expect("a log")
}

/// A new log in memory.
pub fn log_in_memory() -> Log {
    Log::start(ConfigBuilder::new().storage(MemoryStorage::new()).build()).expect("a log")
}

impl Appends for Log {
    fn append(&self, record: &[u8]) -> u64 {
        self.write(record).expect("room").0
    }

    fn wait(&self, at: u64) {
        self.make_stable(Lsn(at)).expect("a sync");
    }

    fn flush(&self) {
        Log::flush(self).expect("a sync");
    }
}

/// The kit's pages, with the last version of each, for updates that do not read first.
pub struct OurPages {
    cache: PageCache<Bytes>,
    /// Relaxed: a page's version is written and read by one thread only.
    versions: Vec<AtomicU64>,
}

impl OurPages {
    /// Room for this many pages, in a store of these options.
    pub fn start(config: Config, pages: u64) -> OurPages {
        let versions = (0..pages).map(|_| AtomicU64::new(0)).collect();
        OurPages { cache: PageCache::start(config).expect("a store"), versions }
    }

    /// In files, with a cache that never needs to evict.
    pub fn in_files(path: &Path, pages: u64) -> OurPages {
        OurPages::in_files_with(path, pages, AMPLE)
    }

    /// In files, with a cache of some bytes.
    pub fn in_files_with(path: &Path, pages: u64, cache: u64) -> OurPages {
        OurPages::start(ConfigBuilder::new().path(path).cache_capacity(cache).flush_every_ms(None).build(), pages)
    }

    /// In memory.
    pub fn in_memory(pages: u64) -> OurPages {
        OurPages::start(ConfigBuilder::new().storage(MemoryStorage::new()).cache_capacity(AMPLE).build(), pages)
    }

    /// The store.
    pub fn cache(&self) -> &PageCache<Bytes> {
        &self.cache
    }

    /// Bytes of log drawn so far.
    pub fn log_bytes(&self) -> u64 {
        self.cache.stats().tail.0
    }

    /// Links with the version of this thread's last update, without a read.
    pub fn link_blind(&self, id: u64, fragment: Vec<u8>) {
        let guard = self.cache.pin();
        let last = &self.versions[id as usize];
        let at = Version(last.load(Ordering::Relaxed));
        let new = self.cache.link_at(PageId(id), at, Blob(fragment), &guard).expect("room, and a version that is last");
        last.store(new.0, Ordering::Relaxed);
    }
}

impl Pages for OurPages {
    fn fill(&self, pages: u64, len: usize) {
        for page in 0..pages {
            let guard = self.cache.pin();
            let id = self.cache.allocate(&guard);
            assert_eq!(id.0, page, "ids are counted from 0");
            self.replace(page, vec![page as u8; len]);
        }
    }

    fn sum(&self, id: u64) -> u64 {
        let guard = self.cache.pin();
        sum(&self.cache.get(PageId(id), &guard).expect("a page").0.0)
    }

    fn read_and_link(&self, id: u64, fragment: Vec<u8>) -> u64 {
        let guard = self.cache.pin();
        let (page, token) = self.cache.get(PageId(id), &guard).expect("a page");
        let mut read = sum(&page.0[..32]);
        let (mut at, mut fragment) = (version(token), Blob(fragment));
        while let Err(refused) = self.cache.link_at(PageId(id), at, fragment, &guard) {
            match refused {
                Rejected::Conflict { current, token, rejected, .. } => {
                    read = sum(&current.0[..32]);
                    (at, fragment) = (version(token), rejected);
                }
                other => panic!("{other}"),
            }
        }
        read
    }

    fn replace(&self, id: u64, page: Vec<u8>) {
        let guard = self.cache.pin();
        let last = &self.versions[id as usize];
        let at = Version(last.load(Ordering::Relaxed));
        let new = self.cache.replace_at(PageId(id), at, Blob(page), &guard).expect("room, and a version that is last");
        last.store(new.0, Ordering::Relaxed);
    }

    fn flush(&self) {
        self.cache.flush().expect("a sync");
    }
}
