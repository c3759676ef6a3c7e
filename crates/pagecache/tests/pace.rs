//! Writers do not outrun the cleaner where pages have links: what a link costs to clean is its page, not its own bytes.

use pagecache::storage::MemoryStorage;
use pagecache::{ConfigBuilder, Materializer, PageCache, Version};

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
