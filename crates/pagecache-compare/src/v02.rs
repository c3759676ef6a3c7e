//! pagecache 0.2.7 as an entrant.

use std::path::Path;
use std::sync::OnceLock;

use pagecache_bench::engines::{Appends, Pages};
use pagecache_bench::workload::{append_cut, sum};
use v02::{ConfigBuilder, Error, Log, Materializer, PageCache, PageGet, PageID, SegmentMode};
use v02_epoch::{Shared, pin};

use crate::page::Page;

/// This name in tables.
pub const V02: &str = "0.2.7";

/// Its user's part.
pub struct Merge;

impl Materializer for Merge {
    type PageFrag = Page;
    type Recovery = ();

    fn new(_: &Option<()>) -> Merge {
        Merge
    }

    fn merge(&self, frags: &[&Page]) -> Page {
        let mut page = Vec::with_capacity(1024);
        for frag in frags {
            append_cut(&mut page, &frag.0);
        }
        Page(page)
    }

    fn recover(&self, _: &Page) -> Option<()> {
        None
    }
}

/// A cache in which everything fits.
const AMPLE: u64 = 4 << 30;

/// Its defaults (three buffers of 8 MiB), no compression, and no timer that flushes.
fn config(path: &Path, cache: usize) -> ConfigBuilder {
    ConfigBuilder::new().path(path).cache_capacity(cache).use_compression(false).flush_every_ms(None)
}

/// Its pages.
pub struct V02Pages {
    cache: PageCache<Merge, Page, ()>,
    first: OnceLock<PageID>,
}

impl V02Pages {
    /// With a cache in which everything fits.
    pub fn start(path: &Path) -> V02Pages {
        Self::with_cache(path, AMPLE)
    }

    pub fn with_cache(path: &Path, bytes: u64) -> V02Pages {
        let config = config(path, bytes as usize).build();
        V02Pages { cache: PageCache::start(config).expect("a store"), first: OnceLock::new() }
    }

    fn id(&self, id: u64) -> PageID {
        self.first.get().expect("filled") + id as usize
    }
}

impl Pages for V02Pages {
    fn fill(&self, pages: u64, len: usize) {
        for page in 0..pages {
            let guard = pin();
            let id = self.cache.allocate(&guard).expect("room");
            assert_eq!(id, self.first.get_or_init(|| id) + page as usize, "ids are in a row");
            let written = self.cache.replace(id, Shared::null(), Page(vec![page as u8; len]), &guard);
            assert!(written.is_ok(), "a new page is nobody else's");
        }
        self.cache.flush().expect("a sync");
    }

    fn sum(&self, id: u64) -> u64 {
        let guard = pin();
        match self.cache.get(self.id(id), &guard) {
            Ok(PageGet::Materialized(page, _)) => sum(&page.0),
            _ => panic!("a page"),
        }
    }

    fn read_and_link(&self, id: u64, fragment: Vec<u8>) -> u64 {
        let guard = pin();
        let id = self.id(id);
        loop {
            let Ok(PageGet::Materialized(page, token)) = self.cache.get(id, &guard) else { panic!("a page") };
            let read = sum(&page.0[..32]);
            match self.cache.link(id, token, Page(fragment.clone()), &guard) {
                Ok(_) => return read,
                Err(Error::CasFailed(_)) => {}
                Err(_) => panic!("room"),
            }
        }
    }

    fn replace(&self, id: u64, page: Vec<u8>) {
        let guard = pin();
        let id = self.id(id);
        loop {
            let Ok(PageGet::Materialized(_, token)) = self.cache.get(id, &guard) else { panic!("a page") };
            match self.cache.replace(id, token, Page(page.clone()), &guard) {
                Ok(_) => return,
                Err(Error::CasFailed(_)) => {}
                Err(_) => panic!("room"),
            }
        }
    }

    fn flush(&self) {
        self.cache.flush().expect("a sync");
    }
}

/// Its log.
pub struct V02Log(Log);

impl V02Log {
    pub fn start(path: &Path) -> V02Log {
        V02Log(
            Log::start_raw_log(config(path, AMPLE as usize).segment_mode(SegmentMode::Linear).build()).expect("a log"),
        )
    }
}

impl Appends for V02Log {
    fn append(&self, record: &[u8]) -> u64 {
        self.0.write(record.to_vec()).expect("room").0 as u64
    }

    fn wait(&self, at: u64) {
        self.0.make_stable(at as isize).expect("a sync");
    }

    fn flush(&self) {
        self.0.flush().expect("a sync");
    }
}
