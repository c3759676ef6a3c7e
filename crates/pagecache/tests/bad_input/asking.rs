//! A fragment whose decoder asks for other pages, which ask back.

use std::cell::Cell;
use std::sync::{OnceLock, mpsc};
use std::time::Duration;

use pagecache::storage::MemoryStorage;
use pagecache::{ConfigBuilder, Error, Fragment, Materializer, PageBytes, PageCache, PageId, Version};

static STORE: OnceLock<PageCache<Asks>> = OnceLock::new();

thread_local! {
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

/// Bytes of the page with the number that is their first one; two of them do not fit the cache.
struct Asking(Vec<u8>);

impl Fragment for Asking {
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), String> {
        out.extend_from_slice(&self.0);
        Ok(())
    }

    fn decode(bytes: PageBytes) -> Result<Asking, String> {
        let other = PageId(1 - u64::from(bytes[0]));
        // The asked one asks back for this very page, and that is enough.
        if DEPTH.get() < 2 {
            DEPTH.set(DEPTH.get() + 1);
            let store = STORE.get().expect("started");
            let found = store.get(other, &store.pin()).map(|(page, _)| page.0[0]);
            DEPTH.set(DEPTH.get() - 1);
            assert_eq!(found.map_err(|error| error.to_string())?, other.0 as u8);
        }
        Ok(Asking(bytes.to_vec()))
    }

    fn heap_size(&self) -> usize {
        self.0.len()
    }
}

struct Asks;

impl Materializer for Asks {
    type PageFrag = Asking;
    type Recovery = ();
    const RECOVERS: bool = false;

    fn new(_: &Option<()>) -> Asks {
        Asks
    }

    fn merge(&self, frags: &[&Asking]) -> Asking {
        Asking(frags.iter().flat_map(|frag| frag.0.iter().copied()).collect())
    }

    fn recover(&self, _: &Asking) -> Option<()> {
        None
    }
}

/// Reads are shared: two threads that each decode a page, and want the one that the other is decoding, must not wait for each
/// other.
#[test]
fn decoders_that_ask_for_each_others_pages_hang_nobody() -> Result<(), Error> {
    let storage = MemoryStorage::new();
    let config = || ConfigBuilder::new().storage(storage.clone()).cache_capacity(64 << 10).build();
    let writer = PageCache::<Asks>::start(config())?;
    for page in 0..2u8 {
        let guard = writer.pin();
        let id = writer.allocate(&guard);
        writer.replace_at(id, Version::NONE, Asking(vec![page; 40_000]), &guard).map_err(Error::from)?;
    }
    writer.close()?;
    STORE.set(PageCache::start(config())?).expect("one test");
    let (done, all_done) = mpsc::channel();
    for thread in 0..2u64 {
        let done = done.clone();
        std::thread::spawn(move || {
            let store = STORE.get().expect("started");
            for turn in 0..300 {
                let id = PageId((thread + turn) % 2);
                let read = store.get(id, &store.pin()).map(|(page, _)| page.0.len());
                assert_eq!(read.expect("a page"), 40_000);
            }
            done.send(()).expect("somebody waits");
        });
    }
    for _ in 0..2 {
        all_done.recv_timeout(Duration::from_secs(60)).expect("a reader hangs or has failed");
    }
    Ok(())
}
