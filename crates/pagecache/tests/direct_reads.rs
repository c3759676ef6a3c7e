//! A store whose reads go past the system's cache: pages that were written just now, moved, and found after a start.
#![cfg(not(loom))]

use pagecache::storage::FileStorage;
use pagecache::{Background, ConfigBuilder, Materializer, PageCache, PageId, Version};

struct Joined;

impl Materializer for Joined {
    type PageFrag = Vec<u8>;
    type Recovery = ();
    const RECOVERS: bool = false;
    fn new(_: &Option<()>) -> Self {
        Joined
    }
    fn merge(&self, frags: &[&Vec<u8>]) -> Vec<u8> {
        frags.iter().flat_map(|frag| frag.iter().copied()).collect()
    }
    fn recover(&self, _: &Vec<u8>) -> Option<()> {
        None
    }
}

const PAGES: u64 = 300;

/// Of every length about a block and two of them.
fn content(page: u64, round: u64) -> Vec<u8> {
    vec![(page + 7 * round) as u8; 1000 + 31 * page as usize]
}

#[test]
fn pages_are_read_past_the_systems_cache_as_they_were_written() {
    let place = FileStorage::temporary().unwrap();
    let start = || {
        let storage = FileStorage::open(place.path()).unwrap().direct_reads(true);
        let config = ConfigBuilder::new().storage(storage).segment_size(256 << 10).log_limit(1 << 20);
        PageCache::<Joined>::start(config.cache_capacity(256 << 10).background(Background::Caller).build()).unwrap()
    };
    let cache = start();
    let mut versions = vec![Version::NONE; PAGES as usize];
    for page in 0..PAGES {
        assert_eq!(cache.allocate(&cache.pin()), PageId(page));
    }
    let mut rounds = vec![0; PAGES as usize];
    for round in 0..12 {
        // Some are left out, so that segments are never wholly dead.
        for page in (0..PAGES).filter(|page| round == 0 || (page * page + round) % 5 < 2) {
            let guard = cache.pin();
            let version = &mut versions[page as usize];
            *version = cache.replace_at(PageId(page), *version, content(page, round), &guard).unwrap();
            rounds[page as usize] = round;
            let other = page * 13 % (page + 1);
            assert_eq!(*cache.get(PageId(other), &guard).unwrap().0, content(other, rounds[other as usize]));
        }
        cache.flush().unwrap();
        cache.tick().unwrap();
    }
    let stats = cache.stats();
    assert!(stats.checkpoints > 0 && stats.fold_bytes + stats.survivor_bytes > 0, "pages were moved");
    cache.close().unwrap();
    let cache = start();
    for page in 0..PAGES {
        assert_eq!(*cache.get(PageId(page), &cache.pin()).unwrap().0, content(page, rounds[page as usize]));
    }
    drop(cache);
    std::fs::remove_dir_all(place.path()).unwrap();
}
