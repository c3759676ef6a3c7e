//! What checkpoints promise: openings that need little, writes in proportion to what has changed, nobody who waits.
#![cfg(not(loom))]

#[path = "../common/mod.rs"]
mod common;
mod hanging;
mod watched;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::{Bytes, Joined};
use pagecache::inspect::verify;
use pagecache::storage::{MemoryStorage, OpenMode, Storage, read_full};
use pagecache::{Background, ConfigBuilder, Error, Lsn, Materializer, PageCache, PageId, PageState, Version};
use watched::Watched;

type Pages = PageCache<Joined>;

const SEGMENT: u64 = 64 << 10;

/// Ids of a leaf in segments of this size.
const LEAF: u64 = 4;

fn small() -> ConfigBuilder {
    ConfigBuilder::new().segment_size(SEGMENT).background(Background::Caller)
}

fn bytes(page: u64, len: usize) -> Bytes {
    Bytes([&page.to_le_bytes()[..], &vec![7; len]].concat())
}

/// New pages of this length, durable.
fn put(pc: &Pages, count: u64, len: usize) -> Vec<(PageId, Version)> {
    let guard = pc.pin();
    let one = |_| {
        let id = pc.allocate(&guard);
        (id, pc.replace_at(id, Version::NONE, bytes(id.0, len), &guard).unwrap())
    };
    let pages = (0..count).map(one).collect();
    pc.flush().unwrap();
    pages
}

fn check(pc: &Pages, pages: &[(PageId, Version)], len: usize) {
    for (id, at) in pages {
        let guard = pc.pin();
        assert_eq!(pc.state(*id, &guard).unwrap(), PageState::Live(*at));
        assert_eq!(pc.get(*id, &guard).unwrap().0, bytes(id.0, len), "{id}");
    }
}

#[test]
fn a_start_touches_superblocks_checkpoint_and_tail_and_no_segment_besides() {
    let storage = Watched::default();
    let config = || small().storage(storage.clone()).build();
    let pc = Pages::start(config()).unwrap();
    let old = put(&pc, 200, 3000);
    let redo = pc.checkpoint().unwrap();
    let new = put(&pc, 20, 3000);
    pc.close().unwrap();
    let segments = storage.names().iter().filter(|name| name.starts_with("seg-")).count();
    storage.opened();
    let pc = Pages::start(config()).unwrap();
    let mut opened = storage.opened();
    opened.sort();
    opened.dedup();
    // The first get reads one leaf, and the segment of its page.
    check(&pc, &old[..1], 3000);
    let first_get = storage.opened();
    let stats = pc.stats();
    let tail = (stats.tail.0.div_ceil(SEGMENT) - redo.0 / SEGMENT) as usize;
    println!("of {segments} segments, {opened:?} were opened, {} bytes replayed", stats.replayed_bytes);
    // The map's, the log's from the redo point on, one ahead, and the superblocks.
    assert!(opened.len() <= 2 + 1 + tail + 2 && segments > 2 * opened.len(), "{opened:?} of {segments}");
    assert_eq!(stats.redo, redo);
    assert!(stats.replayed_bytes < 20 * 3100 + SEGMENT);
    assert!(first_get.len() <= 2, "{first_get:?}");
    check(&pc, &old, 3000);
    check(&pc, &new, 3000);
    assert_eq!(pc.page_count().unwrap(), 220);
}

/// What a segment's header says: its stream, and where it starts.
fn header(storage: &Watched, name: &str) -> (u8, u64) {
    let mut header = [0; 56];
    read_full(storage.open(name, OpenMode::ReadOnly).unwrap().as_ref(), &mut header, 0).unwrap();
    (header[13], u64::from_le_bytes(header[48..].try_into().unwrap()))
}

/// New versions of two pages of three, so that what the others lie in is worth cleaning, a checkpoint, and turns of cleaning behind it. Where a start would
/// replay from, and the segments that the checkpoint knows.
fn replace_and_clean(
    pc: &Pages,
    storage: &Watched,
    pages: &mut [(PageId, Version)],
    stays: usize,
) -> (Lsn, BTreeSet<String>) {
    for (_, (id, at)) in pages.iter_mut().enumerate().filter(|(nth, _)| nth % 3 != stays) {
        *at = pc.replace_at(*id, *at, bytes(id.0, 3000), &pc.pin()).unwrap();
    }
    pc.flush().unwrap();
    let redo = pc.checkpoint().unwrap();
    let (known, checkpoints, mut moved) = (segments(storage), pc.stats().checkpoints, 0);
    while let now @ 1.. = pc.clean().unwrap() {
        moved += now;
    }
    assert!(moved > 20 && pc.stats().checkpoints == checkpoints, "{moved} pages moved: {:?}", pc.stats());
    (redo, known)
}

fn segments(storage: &Watched) -> BTreeSet<String> {
    storage.names().into_iter().filter(|name| name.starts_with("seg-")).collect()
}

#[test]
fn a_start_behind_cleaning_reads_no_more_than_the_headers_of_images_besides() {
    const LOG: u8 = 0;
    const MAP: u8 = 3;
    let storage = Watched::default();
    let config = || small().storage(storage.clone()).fill_target(0.95).build();
    let pc = Pages::start(config()).unwrap();
    let mut pages = put(&pc, 400, 3000);
    // Images that the last checkpoint knows, and others that came behind it.
    replace_and_clean(&pc, &storage, &mut pages, 0);
    let (redo, known) = replace_and_clean(&pc, &storage, &mut pages, 1);
    pages.extend(put(&pc, 20, 3000));
    pc.close().unwrap();
    let report = verify(config()).unwrap();
    assert!(report.records.moves > 0 && report.records.given_back > 0, "{:?}", report.records);
    let there = segments(&storage);
    let gone = known.difference(&there).count();
    let headers: BTreeMap<_, _> = there.iter().map(|name| (name.clone(), header(&storage, name))).collect();
    storage.read();
    let pc = Pages::start(config()).unwrap();
    let read = storage.read();
    let (mut of_headers, mut of_tail, mut of_map) = (BTreeSet::new(), 0, 0);
    for (name, offset, count) in &read {
        let Some((stream, start)) = headers.get(name) else {
            assert!(name.starts_with("super-"), "{name}");
            continue;
        };
        match *stream {
            // From the redo point on.
            LOG => {
                assert!(start + SEGMENT > redo.0, "{name}, which starts at {start}, is read for a replay from {redo}");
                of_tail += count;
            }
            MAP => of_map += count,
            _ => {
                assert!(!known.contains(name), "{name} is read, which the checkpoint knows");
                assert!(*count <= 4096 && [0, SEGMENT - 4096].contains(offset), "{count} bytes of {name} at {offset}");
                of_headers.insert(name);
            }
        }
    }
    let images = headers.iter().filter(|(name, (stream, _))| ![LOG, MAP].contains(stream) && known.contains(*name));
    let images = images.count();
    println!(
        "{gone} of {} segments given back behind the checkpoint; {} headers of images read, {images} images known; {of_tail} bytes of the log, {of_map} of the map",
        known.len(),
        of_headers.len()
    );
    assert!(gone > 0 && !of_headers.is_empty() && images > 0);
    // Its blocks once to find the end, and once for what they say.
    let tail = pc.stats().tail.0 - redo.0;
    assert!(
        of_tail as u64 <= 2 * (tail + 2 * SEGMENT),
        "{of_tail} bytes of the log are read, of {tail} to be replayed"
    );
    assert!(of_map as u64 <= 2 * SEGMENT, "{of_map} bytes of the map");
    assert_eq!(pc.stats().redo, redo);
    check(&pc, &pages, 3000);
    pc.check_accounts().unwrap();
}

/// Bytes of the map of so many pages, and of what a checkpoint writes after links to 1 % of them, neighbours.
fn map_and_one_percent(count: u64) -> (u64, u64) {
    let storage = MemoryStorage::new();
    let config = || ConfigBuilder::new().storage(storage.clone()).background(Background::Caller).log_limit(1 << 40);
    let pc = Pages::start(config().build()).unwrap();
    // No guard is held for all of it.
    let pages: Vec<_> = (0..count / 100_000).flat_map(|_| put(&pc, 100_000, 0)).collect();
    let written = |pc: &Pages| pc.stats().checkpoint_bytes;
    pc.checkpoint().unwrap();
    let map = written(&pc);
    // About 8 bytes a page, root and all.
    assert!(map < count * 12, "{map}");
    let first = pages.len() / 5;
    for (id, at) in &pages[first..first + pages.len() / 100] {
        pc.link_at(*id, *at, Bytes(vec![1]), &pc.pin()).unwrap();
    }
    pc.flush().unwrap();
    pc.checkpoint().unwrap();
    let one_percent = written(&pc) - map;
    println!("map {map} bytes of {count} pages, written after links to one percent of them {one_percent}");
    // Nothing has changed: nothing is written.
    let before = (written(&pc), pc.checkpoint().unwrap());
    assert_eq!((written(&pc), pc.checkpoint().unwrap()), before);
    (map, one_percent)
}

#[test]
fn a_checkpoint_writes_in_proportion_to_the_leaves_that_have_changed() {
    let (map, one_percent) = map_and_one_percent(500_000);
    assert!(one_percent * 20 <= map, "{one_percent} of {map}");
}

#[test]
#[ignore = "ten seconds and 2 GB of memory"]
fn a_checkpoint_of_ten_million_pages_writes_in_proportion_too() {
    let (map, one_percent) = map_and_one_percent(10_000_000);
    assert!(one_percent * 20 <= map, "{one_percent} of {map}");
}

#[test]
fn the_background_writes_checkpoints_as_the_log_grows() {
    let storage = MemoryStorage::new();
    let config = || ConfigBuilder::new().storage(storage.clone()).segment_size(SEGMENT).log_limit(1 << 20);
    let pc = Pages::start(config().build()).unwrap();
    let pages = put(&pc, 2000, 1000);
    let until = Instant::now() + Duration::from_secs(60);
    while pc.stats().redo.0 + (1 << 20) < pc.stats().tail.0 {
        assert!(Instant::now() < until, "no checkpoint: {:?}", pc.stats());
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(pc.stats().checkpoints > 0);
    pc.close().unwrap();
    let pc = Pages::start(config().build()).unwrap();
    assert!(pc.stats().replayed_bytes <= (1 << 20) + SEGMENT);
    check(&pc, &pages, 1000);
    // The same for those who work themselves.
    pc.close().unwrap();
    let pc = Pages::start(config().background(Background::Caller).build()).unwrap();
    put(&pc, 1000, 1000);
    assert_eq!(pc.stats().checkpoints, 0);
    pc.tick().unwrap();
    assert_eq!(pc.stats().checkpoints, 1);
}

#[test]
fn ids_go_round_through_leaves_that_were_not_read() {
    let storage = MemoryStorage::new();
    let config = || small().storage(storage.clone()).build();
    let pc = Pages::start(config()).unwrap();
    let pages = put(&pc, 10 * LEAF, 10);
    let guard = pc.pin();
    // Every other page of every other leaf.
    let freed: Vec<PageId> = pages
        .iter()
        .map(|(id, _)| *id)
        .filter(|id| (id.0 / LEAF).is_multiple_of(2) && id.0.is_multiple_of(2))
        .collect();
    for id in &freed {
        pc.free_at(*id, pages[id.0 as usize].1, &guard).unwrap();
    }
    pc.flush().unwrap();
    pc.checkpoint().unwrap();
    // And one that only the log knows of, in a leaf without others.
    pc.free_at(PageId(LEAF), pages[LEAF as usize].1, &guard).unwrap();
    drop(guard);
    pc.close().unwrap();
    let pc = Pages::start(config()).unwrap();
    assert_eq!(pc.page_count().unwrap(), 10 * LEAF - freed.len() as u64 - 1);
    let mut taken: Vec<PageId> = (0..=freed.len()).map(|_| pc.try_allocate().unwrap()).collect();
    taken.sort();
    let mut expected = [&freed[..], &[PageId(LEAF)]].concat();
    expected.sort();
    assert_eq!(taken, expected);
    assert_eq!(pc.try_allocate().unwrap(), PageId(10 * LEAF));
    assert_eq!(pc.page_count().unwrap(), 10 * LEAF + 1);
}

static ASKED: AtomicU64 = AtomicU64::new(0);

/// Recovers the newest fragment, and panics at one.
struct Recovering;

impl Materializer for Recovering {
    type PageFrag = Bytes;
    type Recovery = Vec<u8>;
    fn new(_: &Option<Vec<u8>>) -> Self {
        Recovering
    }
    fn merge(&self, frags: &[&Bytes]) -> Bytes {
        Joined.merge(frags)
    }
    fn recover(&self, frag: &Bytes) -> Option<Vec<u8>> {
        ASKED.fetch_add(1, Ordering::Relaxed);
        assert_ne!(frag.0, b"panic");
        frag.0.starts_with(b"root").then(|| frag.0.clone())
    }
}

#[test]
fn the_recovered_state_is_that_of_the_checkpoint_and_the_log_behind_it() {
    let storage = MemoryStorage::new();
    let config = || small().storage(storage.clone()).build();
    let start = || PageCache::<Recovering>::start(config()).unwrap();
    let pc = start();
    let guard = pc.pin();
    let write = |pc: &PageCache<Recovering>, text: &[u8]| {
        let id = pc.allocate(&pc.pin());
        pc.replace_at(id, Version::NONE, Bytes(text.to_vec()), &pc.pin()).unwrap();
    };
    write(&pc, b"root one");
    (0..100).for_each(|_| write(&pc, b"else"));
    pc.flush().unwrap();
    pc.checkpoint().unwrap();
    drop(guard);
    pc.close().unwrap();
    ASKED.store(0, Ordering::Relaxed);
    let pc = start();
    assert_eq!(pc.recovered_state(), Some(&b"root one".to_vec()));
    assert_eq!(ASKED.load(Ordering::Relaxed), 0, "below the redo point nothing is asked about again");
    write(&pc, b"root two");
    pc.close().unwrap();
    let pc = start();
    assert_eq!(pc.recovered_state(), Some(&b"root two".to_vec()));
    assert_eq!(ASKED.load(Ordering::Relaxed), 1);
    // A panic costs the checkpoint, nothing else.
    write(&pc, b"panic");
    pc.flush().unwrap();
    for _ in 0..2 {
        let error = pc.checkpoint().unwrap_err();
        assert!(matches!(&error, Error::Decode { page: None, what } if what.contains("panicked")), "{error:?}");
    }
    write(&pc, b"else");
    pc.flush().unwrap();
    assert_eq!(pc.get(PageId(0), &pc.pin()).unwrap().0, Bytes(b"root one".to_vec()));
}

#[test]
fn a_map_that_changes_again_and_again_takes_bounded_disk() {
    let storage = MemoryStorage::new();
    let config = || small().storage(storage.clone()).log_limit(1 << 30).build();
    let pc = Pages::start(config()).unwrap();
    let mut pages = put(&pc, 4000, 0);
    let map_segments = |pc: &Pages| pc.stats().segments - pc.stats().tail.0.div_ceil(SEGMENT);
    pc.checkpoint().unwrap();
    let first = map_segments(&pc);
    let (mut most, mut seed) = (first, 1u64);
    for _ in 0..300 {
        // A few leaves anywhere: each segment of the map soon holds few that are not obsolete.
        let guard = pc.pin();
        for _ in 0..20 {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let (id, at) = &mut pages[(seed >> 33) as usize % 4000];
            *at = pc.replace_at(*id, *at, bytes(id.0, 0), &guard).unwrap();
        }
        pc.flush().unwrap();
        pc.checkpoint().unwrap();
        most = most.max(map_segments(&pc));
    }
    println!("{first} segments of the map at first, {most} at most in 300 checkpoints");
    assert!(most <= 2 * first + 5, "{most}, {first} at first");
    pc.close().unwrap();
    check(&Pages::start(config()).unwrap(), &pages, 0);
}

#[test]
fn who_only_reads_reads_behind_a_checkpoint_too() {
    let storage = MemoryStorage::new();
    let pc = Pages::start(small().storage(storage.clone()).build()).unwrap();
    let old = put(&pc, 30, 500);
    pc.checkpoint().unwrap();
    let new = put(&pc, 30, 500);
    pc.close().unwrap();
    let before = names(&storage);
    let pc = Pages::start(small().storage(storage.clone()).read_only(true).build()).unwrap();
    check(&pc, &old, 500);
    check(&pc, &new, 500);
    assert!(matches!(pc.checkpoint(), Err(Error::ReadOnly)));
    assert_eq!(pc.page_ids().collect::<Result<Vec<_>, _>>().unwrap().len(), 60);
    pc.close().unwrap();
    assert_eq!(names(&storage), before);
}

fn names(storage: &MemoryStorage) -> Vec<String> {
    let mut names = storage.list().unwrap();
    names.sort();
    names
}

#[test]
fn leaves_that_two_threads_capture_while_pages_change_are_as_the_pages_were() {
    let storage = MemoryStorage::new();
    let config = || small().background(Background::Threads).log_limit(8 << 20).storage(storage.clone()).build();
    let pc = Pages::start(config()).unwrap();
    let mut pages = put(&pc, 4000, 100);
    // Far more leaves than one thread captures alone.
    assert!(pages.len() as u64 / LEAF > 500);
    let before = pc.stats().checkpoints;
    let over = std::sync::atomic::AtomicBool::new(false);
    let checkpoints = std::thread::scope(|scope| {
        let checkpoints = scope.spawn(|| {
            let redo = (0..40).map(|_| pc.checkpoint()).collect::<Result<Vec<_>, _>>();
            over.store(true, Ordering::Relaxed);
            redo
        });
        let mut nth = 0;
        // Each page twice at least.
        while nth < 8000 || !over.load(Ordering::Relaxed) {
            let guard = pc.pin();
            let (id, at) = &mut pages[nth * 7919 % 4000];
            *at = pc.replace_at(*id, *at, bytes(id.0, 100), &guard).unwrap();
            nth += 1;
        }
        checkpoints.join().unwrap().unwrap()
    });
    assert!(checkpoints.is_sorted());
    pc.flush().unwrap();
    pc.checkpoint().unwrap();
    assert!(pc.stats().checkpoints > before + 1);
    pc.check_accounts().unwrap();
    pc.close().unwrap();
    let pc = Pages::start(config()).unwrap();
    check(&pc, &pages, 100);
    pc.check_accounts().unwrap();
}
