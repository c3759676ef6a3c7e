//! pagecache 0.19.4 as an entrant.

use std::path::Path;
use std::sync::OnceLock;

use pagecache_bench::engines::{Appends, Pages};
use pagecache_bench::workload::{append_cut, sum};
use v19::{ConfigBuilder, Log, LogKind, Materializer, PageCache, PageId, SegmentMode, pin};

use crate::page::Page;

/// This name in tables.
pub const V19: &str = "0.19.4";

impl Materializer for Page {
    fn merge(&mut self, other: &Page) {
        append_cut(&mut self.0, &other.0);
    }
}

/// A cache in which everything fits.
const AMPLE: u64 = 4 << 30;

/// Its defaults (8 MiB buffers, no compression, no metrics), and no timer that flushes.
fn config(path: &Path, cache: u64) -> ConfigBuilder {
    ConfigBuilder::new().path(path).cache_capacity(cache).use_compression(false).flush_every_ms(None)
}

/// Its pages.
pub struct V19Pages {
    cache: PageCache<Page>,
    first: OnceLock<PageId>,
}

impl V19Pages {
    /// With a cache in which everything fits.
    pub fn start(path: &Path) -> V19Pages {
        Self::with_cache(path, AMPLE)
    }

    pub fn with_cache(path: &Path, bytes: u64) -> V19Pages {
        let config = config(path, bytes).build();
        V19Pages { cache: PageCache::start(config).expect("a store"), first: OnceLock::new() }
    }

    fn id(&self, id: u64) -> PageId {
        self.first.get().expect("filled") + id
    }
}

impl Pages for V19Pages {
    fn fill(&self, pages: u64, len: usize) {
        for page in 0..pages {
            let guard = pin();
            let (id, _) = self.cache.allocate(Page(vec![page as u8; len]), &guard).expect("room");
            assert_eq!(id, self.first.get_or_init(|| id) + page, "ids are in a row");
        }
        self.cache.flush().expect("a sync");
    }

    fn sum(&self, id: u64) -> u64 {
        let guard = pin();
        let (_, page, _) = self.cache.get(self.id(id), &guard).expect("no damage").expect("a page");
        sum(&page.0)
    }

    fn read_and_link(&self, id: u64, fragment: Vec<u8>) -> u64 {
        let guard = pin();
        let id = self.id(id);
        let mut fragment = Page(fragment);
        loop {
            let (token, page, _) = self.cache.get(id, &guard).expect("no damage").expect("a page");
            let read = sum(&page.0[..32]);
            match self.cache.link(id, token, fragment, &guard).expect("room") {
                Ok(_) => return read,
                Err(refused) => fragment = refused.expect("the page lives").1,
            }
        }
    }

    fn replace(&self, id: u64, page: Vec<u8>) {
        let guard = pin();
        let id = self.id(id);
        let mut page = Page(page);
        loop {
            let (token, _, _) = self.cache.get(id, &guard).expect("no damage").expect("a page");
            match self.cache.replace(id, token, page, &guard).expect("room") {
                Ok(_) => return,
                Err(refused) => page = refused.expect("the page lives").1,
            }
        }
    }

    fn flush(&self) {
        self.cache.flush().expect("a sync");
    }
}

/// Its log.
pub struct V19Log(Log);

impl V19Log {
    pub fn start(path: &Path) -> V19Log {
        V19Log(Log::start_raw_log(config(path, AMPLE).segment_mode(SegmentMode::Linear).build()).expect("a log"))
    }
}

impl Appends for V19Log {
    fn append(&self, record: &[u8]) -> u64 {
        let reservation = self.0.reserve(LogKind::Replace, PageId::MAX, record).expect("room");
        reservation.complete().expect("a record").0 as u64
    }

    fn wait(&self, at: u64) {
        self.0.make_stable(at as i64).expect("a sync");
    }

    fn flush(&self) {
        self.0.flush().expect("a sync");
    }
}
