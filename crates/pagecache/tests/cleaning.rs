//! What cleaning promises: disk in proportion to what is in use, and nobody who notices but by that.
#![cfg(not(loom))]

use std::time::{Duration, Instant};

use pagecache::storage::{MemoryStorage, Storage};
use pagecache::{
    Background, ConfigBuilder, Error, Fragment, Materializer, PageBytes, PageCache, PageId, PageState, Version,
};

/// Pages of bytes, stored as they are.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Bytes(Vec<u8>);

impl Fragment for Bytes {
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), String> {
        out.extend_from_slice(&self.0);
        Ok(())
    }
    fn decode(bytes: PageBytes) -> Result<Bytes, String> {
        Ok(Bytes(bytes.to_vec()))
    }
    fn heap_size(&self) -> usize {
        self.0.capacity()
    }
}

/// Merges by appending; not where a page holds the number 13.
struct Joined;

impl Materializer for Joined {
    type PageFrag = Bytes;
    type Recovery = ();
    const RECOVERS: bool = false;
    fn new(_: &Option<()>) -> Self {
        Joined
    }
    fn merge(&self, frags: &[&Bytes]) -> Bytes {
        let merged: Vec<u8> = frags.iter().flat_map(|frag| frag.0.iter().copied()).collect();
        assert!(merged.first() != Some(&13), "unlucky");
        Bytes(merged)
    }
    fn recover(&self, _: &Bytes) -> Option<()> {
        None
    }
}

type Pages = PageCache<Joined>;

const SEGMENT: u64 = 64 << 10;

const LOG_LIMIT: u64 = 256 << 10;

fn config(storage: &MemoryStorage) -> ConfigBuilder {
    let builder = ConfigBuilder::new().storage(storage.clone()).segment_size(SEGMENT).log_limit(LOG_LIMIT);
    builder.cache_capacity(256 << 10).background(Background::Caller)
}

/// What a page holds after so many changes.
fn content(page: u64, change: u64) -> Bytes {
    Bytes((0..1000).map(|at| (page ^ change << 3 ^ at) as u8 | 64).collect())
}

struct Store {
    pages: Pages,
    versions: Vec<(PageId, Version, u64)>,
    seed: u64,
}

impl Store {
    fn new(storage: &MemoryStorage, count: u64) -> Store {
        Store::with(config(storage), count)
    }

    fn with(config: ConfigBuilder, count: u64) -> Store {
        let pages = Pages::start(config.build()).unwrap();
        let guard = pages.pin();
        let one = |_| {
            let id = pages.allocate(&guard);
            (id, pages.replace_at(id, Version::NONE, content(id.0, 0), &guard).unwrap(), 0)
        };
        let versions = (0..count).map(one).collect();
        drop(guard);
        Store { pages, versions, seed: 1 }
    }

    fn next(&mut self) -> usize {
        self.seed = self.seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.seed >> 33) as usize % self.versions.len()
    }

    /// So many pages at random get another content; a tick now and then, as the background would.
    fn overwrite(&mut self, count: u64) -> u64 {
        let mut most = 0;
        for number in 0..count {
            let at = self.next();
            let (id, version, change) = &mut self.versions[at];
            *change += 1;
            *version = self.pages.replace_at(*id, *version, content(id.0, *change), &self.pages.pin()).unwrap();
            if number % 32 == 0 {
                self.pages.tick().unwrap();
                most = most.max(self.pages.stats().segments);
            }
        }
        most
    }

    fn check(&self) {
        for (id, version, change) in &self.versions {
            let guard = self.pages.pin();
            assert_eq!(self.pages.state(*id, &guard).unwrap(), PageState::Live(*version));
            assert_eq!(self.pages.get(*id, &guard).unwrap().0, content(id.0, *change), "{id}");
        }
        self.pages.check_accounts().unwrap();
    }

    /// Bytes of the pages as they are encoded.
    fn live(&self) -> u64 {
        self.versions.len() as u64 * 1016
    }
}

/// Segments for live data at a fill target, of which the headers take an eighth here; the log, the reserve, and what is not of pages: the
/// map, and files kept for reuse.
fn promised_at(fill: f64, live: u64) -> u64 {
    (live as f64 / fill) as u64 / (SEGMENT - 2 * 4096) + LOG_LIMIT / SEGMENT + 4 + 6
}

fn promised(live: u64) -> u64 {
    promised_at(0.8, live)
}

#[test]
fn pages_overwritten_again_and_again_take_bounded_disk() {
    let storage = MemoryStorage::new();
    let mut store = Store::new(&storage, 2000);
    let most = store.overwrite(40_000);
    let (stats, files) = (store.pages.stats(), storage.list().unwrap().len() as u64);
    println!(
        "{most} segments at most, {} promised, {files} files; {} checkpoints",
        promised(store.live()),
        stats.checkpoints
    );
    assert!(most <= promised(store.live()), "{most} segments");
    assert!(files <= promised(store.live()) + 2, "{files} files");
    // The log alone was twenty times as long.
    assert!(stats.tail.0 > 20 * store.live());
    store.check();
    store.pages.flush().unwrap();
    let versions = std::mem::take(&mut store.versions);
    store.pages.close().unwrap();
    for read_only in [true, false] {
        let pages = Pages::start(config(&storage).read_only(read_only).build()).unwrap();
        assert!(pages.stats().replayed_bytes <= LOG_LIMIT + 2 * SEGMENT);
        let store = Store { pages, versions: versions.clone(), seed: 0 };
        store.check();
        store.pages.close().unwrap();
    }
}

/// Who writes checkpoints by hand, each before one is due, had nothing cleaned: 204 segments for three of pages.
#[test]
fn checkpoints_by_hand_do_not_keep_the_background_from_cleaning() {
    let pages = Pages::start(config(&MemoryStorage::new()).build()).unwrap();
    let (hot, mut at) = (pages.allocate(&pages.pin()), Version::NONE);
    let mut most = 0;
    for cold in 1..201 {
        let guard = pages.pin();
        // In each segment one page stays in use.
        pages.replace_at(pages.allocate(&guard), Version::NONE, content(cold, 0), &guard).unwrap();
        for _ in 0..6 {
            at = pages.replace_at(hot, at, Bytes(vec![1; 10_000]), &guard).unwrap();
        }
        drop(guard);
        pages.flush().unwrap();
        pages.checkpoint().unwrap();
        pages.tick().unwrap();
        most = most.max(pages.stats().segments);
    }
    println!("{most} segments at most, {} promised", promised(200 * 1016));
    assert!(most <= promised(200 * 1016), "{most} segments");
    pages.check_accounts().unwrap();
}

#[test]
fn files_go_round_and_those_that_wait_for_it_are_within_the_bound() {
    let storage = MemoryStorage::new();
    let mut store = Store::new(&storage, 2000);
    let (mut kept, mut files) = (0, 0);
    for _ in 0..200 {
        store.overwrite(100);
        let names = storage.list().unwrap();
        kept = kept.max(names.iter().filter(|name| name.starts_with("tmp-")).count());
        files = files.max(names.len() as u64);
    }
    println!("{files} files at most, {kept} of them kept for reuse, {} promised", promised(store.live()));
    assert!(kept > 2, "{kept} files were kept");
    assert!(files <= promised(store.live()) + 2, "{files} files");
    store.check();
}

#[test]
fn an_idle_store_gives_back_the_files_that_it_kept_for_the_next_turn() {
    let storage = MemoryStorage::new();
    let kept = || storage.list().unwrap().iter().filter(|name| name.starts_with("tmp-")).count();
    let mut store = Store::with(config(&storage).background(Background::Threads), 2000);
    let mut most = 0;
    while most <= 2 {
        store.overwrite(1000);
        most = most.max(kept());
    }
    let begun = Instant::now();
    while kept() > 2 {
        assert!(begun.elapsed() < Duration::from_secs(60), "{} files are still kept", kept());
        std::thread::sleep(Duration::from_millis(10));
    }
    store.check();
}

#[test]
fn a_lower_fill_target_takes_more_disk_and_less_writing() {
    let held = |fill: f64| {
        let mut store = Store::with(config(&MemoryStorage::new()).fill_target(fill), 3000);
        let most = store.overwrite(30_000);
        store.check();
        let promised = promised_at(fill, store.live());
        assert!(most <= promised, "{most} segments at {fill}, {promised} promised");
        let stats = store.pages.stats();
        (most, stats.fold_bytes + stats.survivor_bytes)
    };
    let (sparse, dense) = (held(0.4), held(0.9));
    println!("segments and bytes of images at 0.4: {sparse:?}, at 0.9: {dense:?}");
    assert!(sparse.0 > dense.0 + 40 && sparse.1 * 2 < dense.1, "{sparse:?}, {dense:?}");
}

#[test]
fn a_mass_of_frees_shrinks_the_directory() {
    let storage = MemoryStorage::new();
    let mut store = Store::new(&storage, 3000);
    store.pages.flush().unwrap();
    let before = storage.list().unwrap().len();
    let kept = store.versions.split_off(2900);
    for (id, version, _) in &store.versions {
        store.pages.free_at(*id, *version, &store.pages.pin()).unwrap();
    }
    // The free records are in the log: the next checkpoint is behind them.
    for _ in 0..3 {
        store.pages.flush().unwrap();
        store.pages.checkpoint().unwrap();
        store.pages.clean().unwrap();
    }
    let after = storage.list().unwrap().len();
    println!("{before} files before, {after} after");
    assert!(before > 40 && after < 14, "{before}, {after}");
    let freed = std::mem::replace(&mut store.versions, kept);
    store.check();
    let versions = std::mem::take(&mut store.versions);
    store.pages.close().unwrap();
    let pages = Pages::start(config(&storage).build()).unwrap();
    for (id, _, _) in freed {
        assert!(matches!(pages.state(id, &pages.pin()).unwrap(), PageState::Free(_)), "{id} is back");
    }
    Store { pages, versions, seed: 0 }.check();
}

/// Files on disk, those kept for reuse too, once there are no more of them than `most`, or after so long.
fn files_within(storage: &MemoryStorage, most: u64, seconds: u64) -> u64 {
    let files = || storage.list().unwrap().len() as u64;
    let begun = Instant::now();
    while files() > most && begun.elapsed() < Duration::from_secs(seconds) {
        std::thread::sleep(Duration::from_millis(10));
    }
    files()
}

#[test]
fn a_store_that_is_left_alone_after_a_mass_of_frees_shrinks_by_itself() {
    let storage = MemoryStorage::new();
    // All of the frees are less log than a turn waits for.
    let log_limit = 4 << 20;
    let mut store = Store::with(config(&storage).log_limit(log_limit).background(Background::Threads), 20_000);
    // What is due after the load is not what is looked for.
    let mut before = u64::MAX;
    while std::mem::replace(&mut before, store.pages.stats().checkpoints) != before {
        std::thread::sleep(Duration::from_secs(1));
    }
    let files = storage.list().unwrap().len();
    // Every tenth stays, so that hardly any segment is empty: they have to be moved.
    let mut kept = Vec::new();
    for (at, page) in std::mem::take(&mut store.versions).into_iter().enumerate() {
        match at % 10 {
            0 => kept.push(page),
            _ => drop(store.pages.free_at(page.0, page.1, &store.pages.pin()).unwrap()),
        }
    }
    store.versions = kept;
    // And the superblocks, and files kept for reuse.
    let most = promised_at(0.8, store.live()) + (log_limit - LOG_LIMIT) / SEGMENT + 4;
    let left = files_within(&storage, most, 60);
    println!("{files} files before, {left} after, {most} promised; {:?}", store.pages.stats().checkpoints);
    assert!(files as u64 > 2 * most && left <= most, "{files} before, {left} after");
    store.check();
}

#[test]
fn a_tick_after_a_mass_of_frees_shrinks_the_store() {
    let storage = MemoryStorage::new();
    let log_limit = 4 << 20;
    let mut store = Store::with(config(&storage).log_limit(log_limit), 20_000);
    store.pages.tick().unwrap();
    let kept = store.versions.split_off(19_900);
    for (id, version, _) in std::mem::replace(&mut store.versions, kept) {
        store.pages.free_at(id, version, &store.pages.pin()).unwrap();
    }
    let before = store.pages.stats();
    store.pages.tick().unwrap();
    let after = store.pages.stats();
    println!("{} segments before, {} after", before.segments, after.segments);
    let most = promised_at(0.8, store.live()) + (log_limit - LOG_LIMIT) / SEGMENT;
    assert!(before.segments > 2 * most && after.segments <= most, "{after:?}");
    // Nothing else has died: the next tick has nothing to do.
    store.pages.tick().unwrap();
    assert_eq!(store.pages.stats().checkpoints, after.checkpoints);
    store.check();
}

/// Nobody knew what is in use before the first turn, which comes with half of the log's limit.
#[test]
fn frees_behind_a_start_shrink_the_store_too() {
    for background in [Background::Threads, Background::Caller] {
        let storage = MemoryStorage::new();
        let log_limit = 4 << 20;
        let with = || config(&storage).log_limit(log_limit).background(background);
        let mut store = Store::with(config(&storage).log_limit(log_limit), 20_000);
        store.pages.tick().unwrap();
        store.pages.close().unwrap();
        store.pages = Pages::start(with().build()).unwrap();
        let files = storage.list().unwrap().len() as u64;
        let mut kept = Vec::new();
        for (at, page) in std::mem::take(&mut store.versions).into_iter().enumerate() {
            // A part of the map is never looked at by these.
            match at >= 17_000 || at % 10 == 0 {
                true => kept.push(page),
                _ => drop(store.pages.free_at(page.0, page.1, &store.pages.pin()).unwrap()),
            }
        }
        store.versions = kept;
        if background == Background::Caller {
            store.pages.tick().unwrap();
        }
        let most = promised_at(0.8, store.live()) + (log_limit - LOG_LIMIT) / SEGMENT + 4;
        let left = files_within(&storage, most, if background == Background::Caller { 0 } else { 60 });
        println!("{files} files before, {left} after, {most} promised");
        assert!(files * 2 > most * 3 && left <= most, "{background:?}: {files} before, {left} after, {most} promised");
        store.check();
    }
}

/// What the cleaner may take beside all else is as much as was asked for, and it is used.
#[test]
fn a_longer_reserve_is_room_for_writers_and_is_held() {
    let held = |reserve| {
        let mut store = Store::with(config(&MemoryStorage::new()).reserve(reserve), 3000);
        let mut most = 0;
        for _ in 0..60 {
            store.overwrite(500);
            store.pages.tick().unwrap();
            most = most.max(store.pages.stats().segments);
        }
        store.check();
        let promised = promised_at(0.8, store.live()) + reserve - 4;
        assert!(most <= promised, "{most} segments with a reserve of {reserve}, {promised} promised");
        most
    };
    let (short, long) = (held(4), held(24));
    println!("{short} and {long} segments");
    assert!(long > short + 10 && long <= short + 24, "{short}, {long}");
}

#[test]
fn a_move_keeps_the_version_and_fails_no_update() {
    let storage = MemoryStorage::new();
    // So much log is promised that nothing is moved but by hand.
    let mut store = Store::with(config(&storage).log_limit(16 << 20), 1000);
    store.overwrite(10_000);
    store.pages.flush().unwrap();
    store.pages.checkpoint().unwrap();
    let before = store.versions.clone();
    let mut moved = 0;
    for _ in 0..4 {
        store.overwrite(300);
        store.pages.flush().unwrap();
        store.pages.checkpoint().unwrap();
        moved += store.pages.clean().unwrap();
    }
    assert!(moved > 50, "{moved} pages were moved");
    // Tokens from before are good for every page that nobody else has changed.
    let guard = store.pages.pin();
    for (old, now) in before.iter().zip(&mut store.versions) {
        if old.1 == now.1 {
            now.2 += 1;
            now.1 = store.pages.replace_at(old.0, old.1, content(old.0.0, now.2), &guard).unwrap();
        } else {
            let refused = store.pages.link_at(old.0, old.1, Bytes(vec![1]), &guard).unwrap_err();
            assert!(matches!(Error::from(refused), Error::Conflict { .. }));
        }
    }
    drop(guard);
    store.check();
}

/// What sled 786 was about: readers that keep their guards kept segments from being used again until the disk was full.
#[test]
fn readers_that_stand_still_keep_no_segment() {
    let storage = MemoryStorage::new();
    let mut store = Store::new(&storage, 1000);
    let still = pagecache::crossbeam_epoch::pin();
    let held: Vec<_> = store.versions[..10].iter().map(|(id, ..)| *id).collect();
    let most = store.overwrite(20_000);
    drop(held);
    drop(still);
    assert!(most <= promised(store.live()), "{most} segments");
    store.check();
}

#[test]
fn a_merge_that_panics_costs_the_move_of_its_page_alone() {
    let storage = MemoryStorage::new();
    let mut store = Store::new(&storage, 1000);
    let guard = store.pages.pin();
    let unlucky = store.pages.allocate(&guard);
    let mut at = store.pages.replace_at(unlucky, Version::NONE, Bytes(vec![13; 10]), &guard).unwrap();
    at = store.pages.link_at(unlucky, at, Bytes(vec![14; 10]), &guard).unwrap();
    drop(guard);
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let most = store.overwrite(20_000);
    std::panic::set_hook(hook);
    assert!(most <= promised(store.live()) + 1, "{most} segments");
    store.check();
    let guard = store.pages.pin();
    let (fragments, token) = store.pages.fragments(unlucky, &guard).unwrap();
    assert_eq!(fragments.iter().map(|frag| frag.0[0]).collect::<Vec<_>>(), [14, 13]);
    assert_eq!(pagecache::version(token), at);
}

#[test]
fn writers_who_are_faster_than_the_background_wait_for_it() {
    let storage = MemoryStorage::new();
    let config = || config(&storage).background(Background::Threads);
    let pages = Pages::start(config().build()).unwrap();
    const EACH: u64 = 1000;
    let all: Vec<Vec<(PageId, Version, u64)>> = std::thread::scope(|scope| {
        let writer = |seed: u64| {
            let pages = &pages;
            move || {
                let mut mine: Vec<(PageId, Version, u64)> = Vec::new();
                let mut seed = seed;
                for number in 0..30 * EACH {
                    let guard = pages.pin();
                    if number < EACH {
                        let id = pages.allocate(&guard);
                        let at = pages.replace_at(id, Version::NONE, content(id.0, 0), &guard).unwrap();
                        mine.push((id, at, 0));
                        continue;
                    }
                    seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                    let (id, at, change) = &mut mine[(seed >> 33) as usize % EACH as usize];
                    *change += 1;
                    *at = pages.replace_at(*id, *at, content(id.0, *change), &guard).unwrap();
                }
                mine
            }
        };
        let writers = [1, 2].map(|seed| scope.spawn(writer(seed)));
        writers.map(|writer| writer.join().unwrap()).into()
    });
    let segments = pages.stats().segments;
    let mut store = Store { pages, versions: all.concat(), seed: 0 };
    println!("{segments} segments, {} promised", promised(store.live()));
    // Threads that are at a segment's end when the limit is set go on to the next.
    assert!(segments <= promised(store.live()) + 4, "{segments} segments");
    store.check();
    let versions = std::mem::take(&mut store.versions);
    store.pages.close().unwrap();
    Store { pages: Pages::start(config().build()).unwrap(), versions, seed: 0 }.check();
}

/// Pages of which four fit a segment were packed again and again, and so was what lay beside pages that are too long to be moved.
#[test]
fn cleaning_comes_to_an_end() {
    for lens in [&[12_000][..], &[9000, 15_000], &[12_000, 40_000], &[100, 16_100, 16_200]] {
        let storage = MemoryStorage::new();
        let pages = Pages::start(config(&storage).build()).unwrap();
        let guard = pages.pin();
        let bytes = |number: usize| Bytes(vec![64; lens[number % lens.len()]]);
        let mut versions: Vec<(PageId, Version)> = Vec::new();
        for number in 0..40 {
            let id = pages.allocate(&guard);
            versions.push((id, pages.replace_at(id, Version::NONE, bytes(number), &guard).unwrap()));
        }
        for round in 0..400 {
            let (id, at) = &mut versions[round * 7 % 40];
            *at = pages.replace_at(*id, *at, bytes(id.0 as usize), &guard).unwrap();
            if round % 8 == 0 {
                let (id, at) = &mut versions[round % 40];
                *at = pages.link_at(*id, *at, Bytes(vec![65; 500]), &guard).unwrap();
            }
            pages.tick().unwrap();
        }
        drop(guard);
        pages.flush().unwrap();
        pages.checkpoint().unwrap();
        let turns = (0..30).take_while(|_| pages.clean().unwrap() > 0).count();
        println!("{lens:?}: {turns} turns");
        assert!(turns < 10, "{lens:?}: it goes on and on");
        pages.check_accounts().unwrap();
    }
}
