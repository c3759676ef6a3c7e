//! Writers do not outrun the cleaner where pages have links: what a link costs to clean is its page, not its own bytes.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak, mpsc};
use std::time::Duration;

use pagecache::storage::MemoryStorage;
use pagecache::{Background, ConfigBuilder, Fragment, Materializer, PageBytes, PageCache, Version};

struct Append;

impl Materializer for Append {
    type PageFrag = Vec<u8>;
    type Recovery = ();
    const RECOVERS: bool = false;

    fn new(_: &Option<()>) -> Self {
        Append
    }

    fn merge(&self, frags: &[&Vec<u8>]) -> Vec<u8> {
        frags.iter().flat_map(|frag| frag.iter().copied()).collect()
    }

    fn recover(&self, _: &Vec<u8>) -> Option<()> {
        None
    }
}

/// As the defaults are: the limit of the log is eight segments.
const SEGMENT: u64 = 256 << 10;
const LOG_LIMIT: u64 = 8 * SEGMENT;

/// The most of disk for each byte promised while pages of 4 KiB are replaced and, between two replaces, get so many links of 1.8 KiB.
fn most_of_promised(links: u64) -> f64 {
    let config = ConfigBuilder::new().storage(MemoryStorage::new()).segment_size(SEGMENT).log_limit(LOG_LIMIT);
    let store = PageCache::<Append>::start(config.cache_capacity(2 << 20).build()).unwrap();
    let mut pages = Vec::new();
    let mut payload = 0;
    for _ in 0..4000u64 {
        let guard = store.pin();
        let id = store.allocate(&guard);
        pages.push((id, store.replace_at(id, Version::NONE, vec![1; 4096], &guard).unwrap(), 0));
        payload += 4096;
    }
    let (mut random, mut most) = (1u64, 0f64);
    for count in 0..60_000u64 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (id, version, linked) = &mut pages[(random >> 33) as usize % 4000];
        let guard = store.pin();
        if *linked < links {
            *version = store.link_at(*id, *version, vec![2; 1800], &guard).unwrap();
            (*linked, payload) = (*linked + 1, payload + 1800);
        } else {
            *version = store.replace_at(*id, *version, vec![3; 4096], &guard).unwrap();
            (*linked, payload) = (0, payload - *linked * 1800);
        }
        if count % 64 == 0 {
            // The fill is that of what a segment has room for.
            let live = (payload + 4000 * 24) as f64 * SEGMENT as f64 / (SEGMENT - 8192) as f64;
            let promised = live / 0.80 + (LOG_LIMIT + 4 * SEGMENT) as f64;
            most = most.max(store.stats().disk_bytes as f64 / promised);
        }
    }
    store.close().unwrap();
    most
}

#[test]
fn disk_stays_within_its_bound_with_links_and_without() {
    let (without, with) = (most_of_promised(0), most_of_promised(1));
    println!("disk for each byte promised: {without:.3} without links, {with:.3} with one for each replace");
    assert!(without <= 1.0 && with <= 1.0, "{without:.3}, {with:.3}");
}

/// Pages of which a fragment overwrites the beginning.
struct Newest;

impl Materializer for Newest {
    type PageFrag = Vec<u8>;
    type Recovery = ();
    const RECOVERS: bool = false;

    fn new(_: &Option<()>) -> Self {
        Newest
    }

    fn merge(&self, frags: &[&Vec<u8>]) -> Vec<u8> {
        let mut page = frags[0].clone();
        frags[1..].iter().for_each(|frag| page[..frag.len()].copy_from_slice(frag));
        page
    }

    fn recover(&self, _: &Vec<u8>) -> Option<()> {
        None
    }
}

/// The most of disk for each byte promised while pages of so many bytes get links alone: by what is in use at that moment; and by what was in use lately, since what is folded is in use no
/// more at once, and given back when the log or a checkpoint has said so.
fn most_of_promised_by_links(count: u64, page: usize, link: usize) -> (f64, f64) {
    let config = ConfigBuilder::new().storage(MemoryStorage::new()).segment_size(SEGMENT).log_limit(LOG_LIMIT);
    let store = PageCache::<Newest>::start(config.cache_capacity(32 << 20).build()).unwrap();
    let mut pages = Vec::new();
    for _ in 0..count {
        let guard = store.pin();
        let id = store.allocate(&guard);
        pages.push((id, store.link_at(id, Version::NONE, vec![1; page], &guard).unwrap()));
    }
    // Tails, and what was in use then.
    let mut lately = VecDeque::new();
    let (mut random, mut at_once, mut by_then) = (1u64, 0f64, 0f64);
    for nth in 0..200_000u64 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (id, version) = &mut pages[((random >> 33) % count) as usize];
        *version = store.link_at(*id, *version, vec![2; link], &store.pin()).unwrap();
        if nth % 32 == 0 {
            let stats = store.stats();
            let live = stats.live_bytes + stats.map_bytes;
            lately.push_back((stats.tail.0, live));
            // Two turns are in a quarter of the limit each.
            while lately.front().is_some_and(|(tail, _)| tail + LOG_LIMIT / 2 < stats.tail.0) {
                lately.pop_front();
            }
            let most = lately.iter().map(|(_, live)| *live).max().unwrap();
            let of = |live: u64| {
                let packed = live as f64 * SEGMENT as f64 / (SEGMENT - 8192) as f64;
                stats.disk_bytes as f64 / (packed / 0.80 + (LOG_LIMIT + 4 * SEGMENT) as f64)
            };
            (at_once, by_then) = (at_once.max(of(live)), by_then.max(of(most)));
        }
    }
    let stats = store.stats();
    assert!(stats.fold_bytes > 0 && stats.written_bytes > 4 * stats.disk_bytes, "{stats:?}");
    store.close().unwrap();
    (at_once, by_then)
}

#[test]
fn disk_stays_within_its_bound_with_nothing_but_links() {
    for (count, page, link) in [(4000, 1024, 200), (400, 4096, 400)] {
        let (at_once, by_then) = most_of_promised_by_links(count, page, link);
        println!(
            "{count} pages of {page}, links of {link}: {by_then:.3} of what is promised, {at_once:.3} at the moment of a fold"
        );
        assert!(by_then <= 1.0, "{by_then:.3}");
    }
}

/// A page of which a thread of the kit that merges, decodes or drops it writes more than the log may grow by.
struct Busy(Vec<u8>);

struct BusyPages;

static BUSY: Mutex<Option<Weak<PageCache<BusyPages>>>> = Mutex::new(None);

/// How often a thread of the kit has written so.
static WRITTEN: AtomicU64 = AtomicU64::new(0);

/// More would have the cleaner clean for ever what comes of its own merges.
const WRITES_MAX: u64 = 40;

/// Writes, and gives back, four segments of pages, where this thread is one of the kit.
fn write_from_within() {
    if !std::thread::current().name().is_some_and(|name| ["pagecache-ckpt", "pagecache-move"].contains(&name)) {
        return;
    }
    let Some(store) = BUSY.lock().unwrap().as_ref().and_then(Weak::upgrade) else { return };
    if WRITTEN.fetch_add(1, Ordering::Relaxed) >= WRITES_MAX {
        return;
    }
    let guard = store.pin();
    for _ in 0..4 * SEGMENT / 16_000 {
        let id = store.allocate(&guard);
        let at = store.link_at(id, Version::NONE, Busy(vec![1; 16_000]), &guard);
        store.free_at(id, at.map_err(|refused| refused.error().clone()).unwrap(), &guard).unwrap();
    }
}

impl Fragment for Busy {
    fn encode(&self, to: &mut Vec<u8>) -> Result<(), String> {
        to.extend_from_slice(&self.0);
        Ok(())
    }

    fn decode(bytes: PageBytes) -> Result<Busy, String> {
        write_from_within();
        Ok(Busy(bytes.to_vec()))
    }

    fn heap_size(&self) -> usize {
        self.0.capacity()
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        if self.0.len() < 16_000 {
            write_from_within();
        }
    }
}

impl Materializer for BusyPages {
    type PageFrag = Busy;
    type Recovery = ();
    const RECOVERS: bool = false;

    fn new(_: &Option<()>) -> Self {
        BusyPages
    }

    fn merge(&self, frags: &[&Busy]) -> Busy {
        write_from_within();
        Busy(frags.last().map(|newest| newest.0.clone()).unwrap_or_default())
    }

    fn recover(&self, _: &Busy) -> Option<()> {
        None
    }
}

/// Class: a wait for oneself. Who grants writers more log is the cleaner; what its own user code writes, and that of the thread beside it, waits for no grant.
#[test]
fn user_code_that_the_cleaner_runs_waits_for_no_grant() {
    let (tells, told) = mpsc::channel();
    let run = move || {
        let config = ConfigBuilder::new().storage(MemoryStorage::new()).segment_size(SEGMENT).log_limit(LOG_LIMIT);
        let config = config.cache_capacity(2 << 20).background(Background::Threads);
        let store = Arc::new(PageCache::<BusyPages>::start(config.build()).unwrap());
        *BUSY.lock().unwrap() = Some(Arc::downgrade(&store));
        let mut pages = Vec::new();
        for _ in 0..2000 {
            let guard = store.pin();
            let id = store.allocate(&guard);
            let at = store.replace_at(id, Version::NONE, Busy(vec![1; 4096]), &guard);
            pages.push((id, at.map_err(|refused| refused.error().clone()).unwrap()));
        }
        let mut random = 1u64;
        while WRITTEN.load(Ordering::Relaxed) < WRITES_MAX {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let (id, version) = &mut pages[(random >> 33) as usize % 2000];
            let guard = store.pin();
            let at = match random >> 20 & 1 {
                0 => store.replace_at(*id, *version, Busy(vec![3; 4096]), &guard),
                _ => store.link_at(*id, *version, Busy(vec![2; 1800]), &guard),
            };
            *version = at.map_err(|refused| refused.error().clone()).unwrap();
        }
        *BUSY.lock().unwrap() = None;
        // A thread of the kit may hold the store for a moment.
        while Arc::strong_count(&store) > 1 {
            std::thread::yield_now();
        }
        drop(store);
        tells.send(()).unwrap();
    };
    let runs = std::thread::spawn(run);
    told.recv_timeout(Duration::from_secs(60)).expect("somebody waits for ever");
    runs.join().unwrap();
}
