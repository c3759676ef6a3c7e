//! A cap on disk: held at every moment, told by `NoSpace` before anything has happened, and lifted by frees.
#![cfg(not(loom))]

mod common;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use common::{Bytes, Joined};
use pagecache::storage::{MemoryStorage, OpenMode, Storage};
use pagecache::{Background, ConfigBuilder, Error, Log, LogRead, Lsn, PageCache, PageId, Version};

type Pages = PageCache<Joined>;

const SEGMENT: u64 = 64 << 10;

fn config(storage: &MemoryStorage) -> ConfigBuilder {
    let builder = ConfigBuilder::new().storage(storage.clone()).segment_size(SEGMENT).log_limit(256 << 10);
    builder.cache_capacity(256 << 10).flush_every_ms(None).background(Background::Caller)
}

/// The lengths of all files.
fn on_disk(storage: &MemoryStorage) -> u64 {
    let len = |name: &String| storage.open(name, OpenMode::ReadOnly).map_or(0, |file| file.len().unwrap());
    storage.list().unwrap().iter().map(len).sum()
}

fn content(id: PageId, change: u64) -> Bytes {
    Bytes((0..1000).map(|at| (id.0 ^ change << 3 ^ at) as u8).collect())
}

fn check(pages: &Pages, expected: &BTreeMap<PageId, (Version, u64)>) {
    let guard = pages.pin();
    for (id, (_, change)) in expected {
        assert_eq!(*pages.get(*id, &guard).unwrap().0, content(*id, *change), "{id}");
    }
    assert_eq!(pages.page_count().unwrap(), expected.len() as u64);
    pages.check_accounts().unwrap();
}

/// New pages until there is no room for more, whatever the background does.
fn fill(pages: &Pages, expected: &mut BTreeMap<PageId, (Version, u64)>, mut each: impl FnMut()) {
    let mut refused = 0;
    while refused < 8 {
        let guard = pages.pin();
        let id = pages.allocate(&guard);
        match pages.replace_at(id, Version::NONE, content(id, 0), &guard) {
            Ok(at) => drop(expected.insert(id, (at, 0))),
            Err(refusal) => {
                let error = Error::from(refusal);
                assert!(matches!(error, Error::NoSpace { what: "max_disk_bytes" }), "{error:?}");
                // The id goes back: nothing was ever written for it, and nothing more than its free is.
                pages.free_at(id, Version::NONE, &guard).unwrap();
                refused += 1;
                drop(guard);
                pages.tick().unwrap();
            }
        }
        each();
    }
}

#[test]
fn the_cap_is_held_and_frees_lift_it() {
    const CAP: u64 = 40 * SEGMENT;
    let storage = MemoryStorage::new();
    let mut most = 0;
    let mut look = || {
        most = on_disk(&storage).max(most);
        assert!(most <= CAP, "{most} bytes on disk");
    };
    let start = || Pages::start(config(&storage).max_disk_bytes(CAP).build()).unwrap();
    let pages = start();
    let mut expected = BTreeMap::new();
    let mut full = Vec::new();
    for round in 0..4 {
        fill(&pages, &mut expected, &mut look);
        full.push(expected.len());
        check(&pages, &expected);
        // No room for a change of what is there either, but in place of what it changes there is once that is cleaned away.
        let (id, (at, change)) = expected.iter_mut().next().unwrap();
        let guard = pages.pin();
        let changed = (0..20).find_map(|_| {
            pages.tick().unwrap();
            pages.replace_at(*id, *at, content(*id, *change + 1), &guard).ok()
        });
        if let Some(changed) = changed {
            (*at, *change) = (changed, *change + 1);
        }
        // Every second page, by records that find room; then it goes on.
        let gone: Vec<PageId> = expected.keys().copied().skip(round % 2).step_by(2).collect();
        for id in gone {
            let (at, _) = expected.remove(&id).unwrap();
            pages.free_at(id, at, &guard).unwrap();
        }
        drop(guard);
        pages.flush().unwrap();
        look();
    }
    println!("{most} bytes at most of {CAP}; {full:?} pages of 1,016 bytes when it was full");
    // Two thirds of the cap less what is left to upkeep, every time.
    assert!(full.iter().all(|count| *count as u64 * 1016 * 3 > 34 * SEGMENT * 2), "{full:?}");
    check(&pages, &expected);
    pages.close().unwrap();
    check(&start(), &expected);
}

/// What is reserved is not for users, and what is on disk beyond the cap does not grow with it.
#[test]
fn a_longer_reserve_is_left_to_upkeep_and_takes_nothing_beyond_the_cap() {
    const CAP: u64 = 60 * SEGMENT + 8192;
    let filled = |reserve| {
        let storage = MemoryStorage::new();
        let start = |reserve| Pages::start(config(&storage).reserve(reserve).max_disk_bytes(CAP).build()).unwrap();
        let pages = start(reserve);
        let mut expected = BTreeMap::new();
        fill(&pages, &mut expected, || assert!(on_disk(&storage) <= CAP, "{} bytes", on_disk(&storage)));
        pages.close().unwrap();
        let before = on_disk(&storage);
        // Another time all of it is reserved that may be, and there is more than is left to users.
        let pages = start(48);
        fill(&pages, &mut expected, || assert!(on_disk(&storage) <= CAP.max(before + 6 * SEGMENT)));
        let gone: Vec<PageId> = expected.keys().copied().step_by(2).collect();
        for id in gone {
            let (at, _) = expected.remove(&id).unwrap();
            pages.free_at(id, at, &pages.pin()).unwrap();
        }
        pages.tick().unwrap();
        check(&pages, &expected);
        before / SEGMENT
    };
    let (short, long) = (filled(4), filled(24));
    println!("{short} and {long} segments when full");
    assert!(short > 50 && (30..=60).contains(&long) && long + 14 <= short, "{short}, {long}");
}

#[test]
fn a_writer_beside_the_background_never_meets_a_cap_that_its_pages_fit() {
    let storage = MemoryStorage::new();
    // 32 segments of pages, three fifths of what is not left to upkeep.
    const CAP: u64 = 60 * SEGMENT;
    let pages = Pages::start(config(&storage).background(Background::Threads).max_disk_bytes(CAP).build()).unwrap();
    let over = AtomicBool::new(false);
    let done = AtomicBool::new(false);
    let mut expected = BTreeMap::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                // Weakly consistent: what is made in place of what goes may be seen beside it.
                over.fetch_or(on_disk(&storage) > CAP + 4 * SEGMENT, Ordering::Relaxed);
            }
        });
        let mut seed = 3u64;
        for number in 0..40_000 {
            let guard = pages.pin();
            if number < 1800 {
                let id = pages.allocate(&guard);
                expected.insert(id, (pages.replace_at(id, Version::NONE, content(id, 0), &guard).unwrap(), 0));
                continue;
            }
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let id = PageId((seed >> 33) % 1800);
            let (at, change) = expected.get_mut(&id).unwrap();
            *change += 1;
            *at = pages.replace_at(id, *at, content(id, *change), &guard).unwrap_or_else(|refusal| {
                done.store(true, Ordering::Relaxed);
                panic!("{number}: {}", Error::from(refusal))
            });
        }
        done.store(true, Ordering::Relaxed);
    });
    assert!(!over.load(Ordering::Relaxed) && on_disk(&storage) <= CAP);
    check(&pages, &expected);
}

#[test]
fn a_store_that_is_over_its_cap_opens_takes_frees_and_shrinks_below_it() {
    const CAP: u64 = 24 * SEGMENT;
    let storage = MemoryStorage::new();
    let pages = Pages::start(config(&storage).build()).unwrap();
    let mut expected = BTreeMap::new();
    for _ in 0..3000 {
        let guard = pages.pin();
        let id = pages.allocate(&guard);
        expected.insert(id, (pages.replace_at(id, Version::NONE, content(id, 0), &guard).unwrap(), 0));
    }
    pages.close().unwrap();
    let before = on_disk(&storage);
    assert!(before > 2 * CAP);
    let pages = Pages::start(config(&storage).max_disk_bytes(CAP).build()).unwrap();
    check(&pages, &expected);
    fill(&pages, &mut expected, || {});
    assert!(on_disk(&storage) <= before + 6 * SEGMENT);
    let gone: Vec<PageId> = expected.keys().copied().take(2500).collect();
    for id in gone {
        let (at, _) = expected.remove(&id).unwrap();
        pages.free_at(id, at, &pages.pin()).unwrap();
    }
    for _ in 0..10 {
        pages.flush().unwrap();
        pages.checkpoint().unwrap();
        pages.clean().unwrap();
    }
    assert!(on_disk(&storage) <= CAP, "{} bytes", on_disk(&storage));
    let count = expected.len();
    fill(&pages, &mut expected, || assert!(on_disk(&storage) <= CAP));
    assert!(expected.len() > count + 100);
    check(&pages, &expected);
}

#[test]
fn a_bare_log_is_capped_and_a_trim_makes_room() {
    const CAP: u64 = 16 * SEGMENT + 8192;
    let storage = MemoryStorage::new();
    let config = || {
        let builder = ConfigBuilder::new().storage(storage.clone()).segment_size(SEGMENT).max_disk_bytes(CAP);
        builder.background(Background::Caller).build()
    };
    let log = Log::start(config()).unwrap();
    for _ in 0..3 {
        let mut last = Lsn(0);
        let refused = loop {
            match log.write(&[7; 5000]) {
                Ok(lsn) => last = lsn,
                Err(error) => break error,
            }
            assert!(on_disk(&storage) <= CAP);
        };
        assert!(matches!(refused, Error::NoSpace { what: "max_disk_bytes" }), "{refused:?}");
        log.flush().unwrap();
        assert_eq!(log.read(last).unwrap(), LogRead::Record(vec![7; 5000]));
        log.trim(last).unwrap();
    }
    log.close().unwrap();
    Log::start(config()).unwrap().write(b"more").unwrap();
}

fn tiny_content(id: PageId, len: usize) -> Bytes {
    Bytes(id.0.to_le_bytes().repeat(len / 8))
}

/// A full store of pages that are so short that the records of frees, and the map, weigh something.
fn tiny(storage: &MemoryStorage, cap: u64, len: usize) -> (Pages, BTreeMap<PageId, Version>) {
    let pages = Pages::start(config(storage).max_disk_bytes(cap).cache_capacity(16 << 20).build()).unwrap();
    let (mut there, mut refused) = (BTreeMap::new(), 0);
    while refused < 8 {
        let guard = pages.pin();
        let id = pages.allocate(&guard);
        match pages.replace_at(id, Version::NONE, tiny_content(id, len), &guard) {
            Ok(at) => drop(there.insert(id, at)),
            Err(refusal) => {
                assert!(matches!(Error::from(refusal), Error::NoSpace { what: "max_disk_bytes" }));
                pages.free_at(id, Version::NONE, &guard).unwrap();
                refused += 1;
                drop(guard);
                pages.tick().unwrap();
            }
        }
        if there.len() % 1000 == 0 {
            pages.tick().unwrap();
        }
        assert!(on_disk(storage) <= cap, "{} bytes on disk", on_disk(storage));
    }
    (pages, there)
}

/// Frees a page, with as many ticks as that takes where there is no room. Returns how many.
#[track_caller]
fn free(pages: &Pages, id: PageId, at: Version) -> u64 {
    for ticks in 0..20 {
        match pages.free_at(id, at, &pages.pin()) {
            Ok(_) => return ticks,
            Err(refusal) => {
                let error = Error::from(refusal);
                assert!(matches!(error, Error::NoSpace { what: "max_disk_bytes" }), "{error:?}");
            }
        }
        pages.flush().unwrap();
        pages.tick().unwrap();
    }
    panic!("no room for the free of {id}, for good");
}

fn check_tiny(pages: &Pages, there: &BTreeMap<PageId, Version>, len: usize) {
    let guard = pages.pin();
    for id in there.keys() {
        assert_eq!(*pages.get(*id, &guard).unwrap().0, tiny_content(*id, len), "{id}");
    }
    assert_eq!(pages.page_count().unwrap(), there.len() as u64);
    pages.check_accounts().unwrap();
}

/// Frees are records too: where nobody cleans between them they meet the cap, and leave what the end of a round takes and a checkpoint, by which they give room.
#[test]
fn frees_never_take_the_room_in_which_they_are_flushed_and_given_back() {
    const CAP: u64 = 40 * SEGMENT;
    for flushes in [false, true] {
        let (storage, len) = (MemoryStorage::new(), 8);
        let (pages, mut there) = tiny(&storage, CAP, len);
        let (count, mut ticks) = (there.len(), 0);
        while !there.is_empty() && (!flushes || there.len() + 1000 > count) {
            let (id, at) = there.pop_first().unwrap();
            ticks += free(&pages, id, at);
            if flushes {
                pages.flush().unwrap();
            }
            assert!(on_disk(&storage) <= CAP);
        }
        println!("{} of {count} pages are left, frees waited for {ticks} ticks", there.len());
        assert!(count > 20_000 && ticks > 0);
        check_tiny(&pages, &there, len);
        pages.close().unwrap();
    }
}

/// The map of many pages that are small is many segments, and all of it is written anew where all leaves have changed.
#[test]
fn the_map_has_room_to_be_written_anew_whatever_it_weighs() {
    const CAP: u64 = 60 * SEGMENT;
    let (storage, len) = (MemoryStorage::new(), 64);
    let (pages, mut there) = tiny(&storage, CAP, len);
    let ids: Vec<PageId> = there.keys().copied().collect();
    let (mut random, mut refused) = (88_172_645_463_325_252u64, 0);
    let mut change = |pages: &Pages, there: &mut BTreeMap<PageId, Version>, ids: &[PageId], count: u64| {
        refused = 0;
        for nth in 0..count {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let id = ids[(random % ids.len() as u64) as usize];
            let at = there[&id];
            match pages.replace_at(id, at, tiny_content(id, len), &pages.pin()) {
                Ok(at) => drop(there.insert(id, at)),
                Err(refusal) => {
                    assert!(matches!(Error::from(refusal), Error::NoSpace { what: "max_disk_bytes" }));
                    refused += 1;
                }
            }
            if nth % 500 == 0 {
                pages.flush().unwrap();
                pages.tick().unwrap();
            }
            assert!(on_disk(&storage) <= CAP);
        }
        refused
    };
    let full = change(&pages, &mut there, &ids, 50_000);
    let mut ticks = 0;
    // A third goes, and there is room again for all who ask.
    let (gone, kept): (Vec<PageId>, Vec<PageId>) = ids.iter().partition(|id| id.0 % 3 == 0);
    for id in gone {
        ticks += free(&pages, id, there.remove(&id).unwrap());
        if id.0 % 1000 == 0 {
            pages.tick().unwrap();
        }
    }
    for _ in 0..40 {
        pages.tick().unwrap();
    }
    let since = change(&pages, &mut there, &kept, 50_000);
    println!(
        "{} pages; refused of 50,000: {full} where it was full, {since} since; frees waited for {ticks} ticks",
        ids.len()
    );
    assert!(since < 2_500, "{since} were refused");
    check_tiny(&pages, &there, len);
    pages.close().unwrap();
    let reopened = Pages::start(config(&storage).max_disk_bytes(CAP).build()).unwrap();
    check_tiny(&reopened, &there, len);
}
