//! Pages too long for one record: their parts are counted, moved and given back as whole pages are.
#![cfg(not(loom))]

use std::cell::RefCell;
use std::collections::BTreeMap;

use pagecache::inspect::verify;
use pagecache::storage::{MemoryStorage, OpenMode, Storage};
use pagecache::{Background, ConfigBuilder, Error, Fragment, Materializer, PageBytes, PageCache, PageId, Version};

/// Pages of bytes, stored as they are.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Bytes(Vec<u8>);

thread_local! {
    /// Done when a fragment's size is asked for: between its bytes being written and the record that names them.
    static BETWEEN: RefCell<Option<Box<dyn FnOnce()>>> = const { RefCell::new(None) };
}

impl Fragment for Bytes {
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), String> {
        out.extend_from_slice(&self.0);
        Ok(())
    }
    fn decode(bytes: PageBytes) -> Result<Bytes, String> {
        Ok(Bytes(bytes.to_vec()))
    }
    fn heap_size(&self) -> usize {
        let between = BETWEEN.with_borrow_mut(Option::take);
        if let Some(between) = between {
            between();
        }
        self.0.capacity()
    }
}

/// Merges by appending; recovers the length of the last fragment.
struct Joined;

impl Materializer for Joined {
    type PageFrag = Bytes;
    type Recovery = u64;
    fn new(_: &Option<u64>) -> Self {
        Joined
    }
    fn merge(&self, frags: &[&Bytes]) -> Bytes {
        Bytes(frags.iter().flat_map(|frag| frag.0.iter().copied()).collect())
    }
    fn recover(&self, frag: &Bytes) -> Option<u64> {
        Some(frag.0.len() as u64)
    }
}

type Pages = PageCache<Joined>;

const SEGMENT: u64 = 64 << 10;

const LOG_LIMIT: u64 = 256 << 10;

fn config(storage: &MemoryStorage) -> ConfigBuilder {
    let builder = ConfigBuilder::new().storage(storage.clone()).segment_size(SEGMENT).log_limit(LOG_LIMIT);
    builder.cache_capacity(256 << 10).background(Background::Caller).flush_every_ms(None)
}

fn content(seed: u64, len: usize) -> Bytes {
    let mut state = seed | 1;
    let next = |_| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) as u8
    };
    Bytes((0..len).map(next).collect())
}

/// Some that are one record, some in two parts to twenty, some over several segments.
fn len(number: u64) -> usize {
    [900, 20_000, 40_000, 3000, 16_200, 300_000, 100][number as usize % 7]
}

fn check(pages: &Pages, expected: &BTreeMap<PageId, (Version, Bytes)>) {
    let guard = pages.pin();
    for (id, (version, bytes)) in expected {
        let (page, token) = pages.get(*id, &guard).unwrap();
        assert!(*page == *bytes, "{id} is another");
        assert_eq!(pagecache::version(token), *version, "{id}");
    }
    pages.check_accounts().unwrap();
    let parts = pages.space().unwrap().parts;
    let (live, bytes) =
        (parts.live_images + parts.live_deltas, expected.values().map(|(_, bytes)| bytes.0.len() as u64));
    let bytes: u64 = bytes.sum();
    assert!(bytes <= live && live < bytes + bytes / 50 + 4096, "{bytes} bytes of pages, {live} in use");
    assert_eq!(parts.unreadable, 0);
}

#[test]
fn long_pages_overwritten_again_and_again_take_bounded_disk() {
    let storage = MemoryStorage::new();
    let mut expected: BTreeMap<PageId, (Version, Bytes)> = BTreeMap::new();
    let (mut seed, mut most, mut written) = (7u64, 0, 0);
    let mut pick = |below: u64| {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (seed >> 33) % below
    };
    for life in 0..4 {
        let pages = Pages::start(config(&storage).build()).unwrap();
        check(&pages, &expected);
        for round in 0..400 {
            let guard = pages.pin();
            if expected.len() < 40 {
                let id = pages.allocate(&guard);
                let bytes = content(id.0, len(id.0));
                let at = pages.replace_at(id, Version::NONE, bytes.clone(), &guard).unwrap();
                expected.insert(id, (at, bytes));
            }
            let id = *expected.keys().nth(pick(expected.len() as u64) as usize).unwrap();
            let (at, bytes) = expected.get_mut(&id).unwrap();
            match pick(8) {
                0 => {
                    pages.free_at(id, *at, &guard).unwrap();
                    expected.remove(&id);
                }
                1 | 2 => {
                    let more = content(round, len(pick(7)) / 4);
                    *at = pages.link_at(id, *at, more.clone(), &guard).unwrap();
                    bytes.0.extend(more.0);
                }
                _ => {
                    *bytes = content(round * 1000 + id.0, len(id.0));
                    *at = pages.replace_at(id, *at, bytes.clone(), &guard).unwrap();
                }
            }
            written += 1;
            drop(guard);
            pages.tick().unwrap();
            most = most.max(pages.stats().segments);
        }
        pages.flush().unwrap();
        check(&pages, &expected);
        if life % 2 == 0 {
            pages.close().unwrap();
        }
    }
    let live: u64 = expected.values().map(|(_, bytes)| bytes.0.len() as u64).sum();
    let ever = verify(config(&storage).build()).unwrap();
    assert!(ever.is_sound(), "{:#?}", ever.problems);
    let ever = ever.segments.last().unwrap().sequence;
    // A page of five segments leaves up to one of them unused, and so does one that is just over a segment's end.
    let promised = (live * 100 / 80 * 6 / 5 + LOG_LIMIT) / SEGMENT + 4 + 6;
    println!("{written} updates, {live} bytes live: {most} segments at most of {ever} ever made, {promised} promised");
    assert!(most <= promised && ever > 4 * most, "{most} segments of {ever}, {promised} promised");
}

/// A record that names parts is asked for the user's state again after a crash, whether its page needs it still or not. The parts may lie below the redo
/// point and the record above.
#[test]
fn parts_are_kept_while_a_start_may_ask_for_them() {
    let storage = MemoryStorage::new();
    // Room for all, so that nobody flushes for more.
    let config = |storage: &MemoryStorage| config(storage).cache_capacity(8 << 20);
    let pages: &'static Pages = Box::leak(Box::new(Pages::start(config(&storage).build()).unwrap()));
    let guard = pages.pin();
    let id = pages.allocate(&guard);
    BETWEEN.set(Some(Box::new(|| {
        // The parts are durable, and replay starts behind them.
        let stable = pages.flush().unwrap();
        assert_eq!(pages.checkpoint().unwrap(), stable);
    })));
    let at = pages.replace_at(id, Version::NONE, content(1, 150_000), &guard).unwrap();
    assert!(BETWEEN.with_borrow(Option::is_none));
    let at = pages.replace_at(id, at, content(2, 50), &guard).unwrap();
    // Nothing was flushed since: this one starts where the one before did, and the parts are of no use to any page.
    let (before, redo) = (pages.stats().segments, pages.stats().redo);
    assert_eq!(pages.checkpoint().unwrap(), redo);
    let image = MemoryStorage::new();
    copy(&storage, &image);
    let again = Pages::start(config(&image).build()).unwrap();
    assert_eq!(again.recovered_state(), Some(&50));
    check(&again, &BTreeMap::from([(id, (at, content(2, 50)))]));
    pages.flush().unwrap();
    let _ = [pages.checkpoint().unwrap(), pages.checkpoint().unwrap()];
    assert!(pages.stats().segments < before, "its parts are not needed any more");
    let image = MemoryStorage::new();
    copy(&storage, &image);
    let again = Pages::start(config(&image).build()).unwrap();
    assert_eq!(again.recovered_state(), Some(&50));
    check(&again, &BTreeMap::from([(id, (at, content(2, 50)))]));
}

/// As a crash of the process leaves it.
fn copy(from: &MemoryStorage, to: &MemoryStorage) {
    for name in from.list().unwrap().iter().filter(|name| *name != "LOCK") {
        let file = from.open(name, OpenMode::ReadOnly).unwrap();
        let mut bytes = vec![0; file.len().unwrap() as usize];
        assert_eq!(file.read_at(&mut bytes, 0).unwrap(), bytes.len());
        let copied = to.open(name, OpenMode::CreateNew).unwrap();
        let mut at = 0;
        while at < bytes.len() {
            at += copied.write_at(&bytes[at..], at as u64).unwrap();
        }
    }
}

#[test]
fn a_long_page_that_was_moved_is_read_from_its_parts_and_damage_of_one_is_that_page_s() {
    let storage = MemoryStorage::new();
    let pages = Pages::start(config(&storage).build()).unwrap();
    let guard = pages.pin();
    let mut expected = BTreeMap::new();
    // Beside each long page that stays a short one that goes.
    let mut gone = Vec::new();
    for number in 0..20 {
        let (id, other) = (pages.allocate(&guard), pages.allocate(&guard));
        let at = pages.replace_at(id, Version::NONE, content(number, 30_000), &guard).unwrap();
        expected.insert(id, (at, content(number, 30_000)));
        gone.push((other, pages.replace_at(other, Version::NONE, content(99, 14_000), &guard).unwrap()));
    }
    for (id, at) in gone {
        for _ in 0..2 {
            // Twice as much log, none of it of use.
            let other = pages.allocate(&guard);
            let at = pages.replace_at(other, Version::NONE, content(98, 14_000), &guard).unwrap();
            pages.free_at(other, at, &guard).unwrap();
        }
        pages.free_at(id, at, &guard).unwrap();
    }
    drop(guard);
    pages.flush().unwrap();
    pages.checkpoint().unwrap();
    let mut moved = 0;
    for _ in 0..20 {
        moved += pages.clean().unwrap();
    }
    assert!(moved >= 10, "{moved} were moved");
    check(&pages, &expected);
    pages.close().unwrap();
    let report = verify(config(&storage).build()).unwrap();
    assert!(report.is_sound() && report.images.records > 5, "{:#?}", report.problems);
    let pages = Pages::start(config(&storage).build()).unwrap();
    check(&pages, &expected);
    pages.close().unwrap();
    // A byte in the middle of every segment of images, one at a time.
    let mut lost = 0;
    for name in storage.list().unwrap().into_iter().filter(|name| name.starts_with("seg-")) {
        let file = storage.open(&name, OpenMode::ReadWrite).unwrap();
        let mut head = [0; 14];
        file.read_at(&mut head, 0).unwrap();
        if !matches!(head[13], 1 | 2) {
            continue;
        }
        let mut byte = [0];
        file.read_at(&mut byte, SEGMENT / 3).unwrap();
        file.write_at(&[byte[0] ^ 4], SEGMENT / 3).unwrap();
        let told = verify(config(&storage).build()).unwrap();
        let pages = Pages::start(config(&storage).read_only(true).build()).unwrap();
        let guard = pages.pin();
        let mut damaged = 0;
        for (id, (_, bytes)) in &expected {
            match pages.get(*id, &guard) {
                Ok((page, _)) => assert!(*page == *bytes),
                Err(Error::Corrupt(at)) => {
                    assert_eq!(at.page, Some(*id));
                    assert_eq!((told.problems[0].segment, told.problems[0].offset), (at.segment, at.offset));
                    damaged += 1;
                }
                Err(error) => panic!("{error}"),
            }
        }
        assert!(damaged <= 1, "{damaged} pages by one byte");
        assert_eq!(told.problems.len(), damaged, "{:#?}", told.problems);
        lost += damaged;
        file.write_at(&byte, SEGMENT / 3).unwrap();
    }
    assert!(lost > 3, "{lost} pages were lost for a while");
}
