//! What is said of space: every byte of every file is somewhere, exactly once, and where it is said to be.
#![cfg(not(loom))]

mod common;

use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, Ordering};

use common::{Bytes, Joined};
use pagecache::space::Parts;
use pagecache::storage::{MemoryStorage, OpenMode, Storage, read_full, write_all};
use pagecache::{Background, ConfigBuilder, Lsn, PageCache, PageId, RestartBy, Space, Version, inspect};

type Pages = PageCache<Joined>;

const SEGMENT: u64 = 64 << 10;

fn config(storage: &MemoryStorage) -> ConfigBuilder {
    let builder = ConfigBuilder::new().storage(storage.clone()).segment_size(SEGMENT).log_limit(256 << 10);
    builder.background(Background::Caller)
}

fn start(storage: &MemoryStorage) -> Pages {
    Pages::start(config(storage).build()).unwrap()
}

/// New pages of 1000 bytes.
fn put(pc: &Pages, count: u64) -> Vec<(PageId, Version)> {
    let guard = pc.pin();
    let one = |_| {
        let id = pc.allocate(&guard);
        (id, pc.replace_at(id, Version::NONE, Bytes(vec![7; 1000]), &guard).unwrap())
    };
    (0..count).map(one).collect()
}

/// Bytes of such a page's record in the log: 4 of checksum, 1 of kind, 2 of length, the page id, the page.
fn record(id: PageId) -> u64 {
    let id = if id.0 < 128 { 1 } else { 2 };
    4 + 1 + 2 + id + 1000
}

fn records(pages: &[(PageId, Version)]) -> u64 {
    pages.iter().map(|(id, _)| record(*id)).sum()
}

fn overwrite(pc: &Pages, pages: &mut [(PageId, Version)]) {
    for (id, at) in pages {
        *at = pc.replace_at(*id, *at, Bytes(vec![8; 1000]), &pc.pin()).unwrap();
    }
}

/// Different pages each round, spread over all, so that segments thin out and none is empty at once.
fn thin_out(pc: &Pages, pages: &mut [(PageId, Version)], round: usize) {
    for (nth, page) in pages.chunks_mut(1).enumerate() {
        if nth % 10 > 0 && !(nth + round).is_multiple_of(3) {
            overwrite(pc, page);
        }
    }
}

fn checkpoint(pc: &Pages) {
    pc.flush().unwrap();
    pc.checkpoint().unwrap();
}

fn lengths(storage: &MemoryStorage) -> u64 {
    let len = |name: String| storage.open(&name, OpenMode::ReadOnly).unwrap().len().unwrap();
    storage.list().unwrap().into_iter().map(len).sum()
}

/// What is said of a store, if it is all there.
fn space(pc: &Pages, storage: &MemoryStorage, when: &str) -> Space {
    let space = pc.space().unwrap();
    assert_eq!(space.parts.total(), lengths(storage), "{when}: {space:#?}");
    assert_eq!(space.files_bytes, lengths(storage), "{when}");
    assert_eq!((space.files, space.foreign), (storage.list().unwrap().len() as u64, 0), "{when}");
    assert_eq!((space.parts.leftovers, space.parts.unreadable), (0, 0), "{when}: {space:#?}");
    assert_eq!(space.lag_bytes, pc.stats().tail.0 - pc.stats().redo.0, "{when}");
    space
}

/// A directory as it is now, as after a kill.
fn killed(storage: &MemoryStorage) -> MemoryStorage {
    let copy = MemoryStorage::new();
    for name in storage.list().unwrap() {
        let file = storage.open(&name, OpenMode::ReadOnly).unwrap();
        let mut bytes = vec![0; file.len().unwrap() as usize];
        read_full(file.as_ref(), &mut bytes, 0).unwrap();
        write_all(copy.open(&name, OpenMode::CreateNew).unwrap().as_ref(), &bytes, 0).unwrap();
    }
    copy
}

fn flip(storage: &MemoryStorage, name: &str, offset: u64) {
    let file = storage.open(name, OpenMode::ReadWrite).unwrap();
    let mut byte = [0];
    read_full(file.as_ref(), &mut byte, offset).unwrap();
    write_all(file.as_ref(), &[byte[0] ^ 1], offset).unwrap();
}

/// The names of segments of these streams.
fn of_streams(storage: &MemoryStorage, streams: RangeInclusive<u8>) -> Vec<String> {
    let is_one = |name: &String| {
        let mut stream = [0];
        let file = storage.open(name, OpenMode::ReadOnly).unwrap();
        name.starts_with("seg-")
            && read_full(file.as_ref(), &mut stream, 13).unwrap() == 1
            && streams.contains(&stream[0])
    };
    storage.list().unwrap().into_iter().filter(is_one).collect()
}

#[test]
fn the_parts_add_up_to_the_files_at_every_moment() {
    let storage = MemoryStorage::new();
    let pc = start(&storage);
    let fresh = space(&pc, &storage, "fresh");
    assert_eq!((fresh.parts.live(), fresh.parts.dead, fresh.fill), (0, 0, None));
    let mut pages = put(&pc, 300);
    space(&pc, &storage, "not flushed");
    pc.flush().unwrap();
    space(&pc, &storage, "flushed");
    checkpoint(&pc);
    space(&pc, &storage, "behind a checkpoint");
    for round in 0..12 {
        thin_out(&pc, &mut pages, round);
        for (id, at) in &mut pages[round * 20..][..20] {
            *at = pc.link_at(*id, *at, Bytes(vec![9; 50]), &pc.pin()).unwrap();
        }
        pc.flush().unwrap();
        space(&pc, &storage, "overwritten");
        pc.checkpoint().unwrap();
        space(&pc, &storage, "overwritten, behind a checkpoint");
        pc.clean().unwrap();
        space(&pc, &storage, "cleaned");
    }
    let cleaned = space(&pc, &storage, "cleaned often");
    assert!(cleaned.parts.spare > 0 && cleaned.written.folds > 0, "{cleaned:#?}");
    for (id, at) in pages.drain(100..) {
        pc.free_at(id, at, &pc.pin()).unwrap();
    }
    space(&pc, &storage, "freed");
    for _ in 0..3 {
        checkpoint(&pc);
        pc.clean().unwrap();
        space(&pc, &storage, "freed and cleaned");
    }
    // Fills a segment, so that another is made ready.
    overwrite(&pc, &mut pages);
    pc.tick().unwrap();
    let before = space(&pc, &storage, "before it is closed");
    assert!(before.parts.unwritten > SEGMENT, "{before:#?}");
    pc.close().unwrap();
    for read_only in [true, false, true] {
        let pc = Pages::start(config(&storage).read_only(read_only).build()).unwrap();
        let again = space(&pc, &storage, "opened again");
        assert_eq!(again.parts.live(), before.parts.live());
        assert!(again.parts.unwritten >= SEGMENT - 2 * 4096, "{again:#?}");
        assert_eq!(again.parts, if read_only { inspect(&storage).parts } else { again.parts });
        pc.close().unwrap();
    }
}

/// A store that nobody has open.
fn inspect(storage: &MemoryStorage) -> Space {
    inspect::space(ConfigBuilder::new().storage(storage.clone()).build()).unwrap()
}

#[test]
fn every_record_is_in_the_part_that_it_belongs_to() {
    let storage = MemoryStorage::new();
    let pc = start(&storage);
    let mut pages = put(&pc, 200);
    let unflushed = space(&pc, &storage, "not flushed").parts;
    assert!(unflushed.live() < records(&pages), "what is not durable is log: {unflushed:?}");
    pc.flush().unwrap();
    let given = space(&pc, &storage, "given").parts;
    assert_eq!((given.live_images, given.live_deltas, given.dead), (records(&pages), 0, 0));
    assert!(given.padding == 0 && given.log > 200 * 7 && given.log < SEGMENT, "{given:?}");
    assert_eq!((given.map_live, given.superblocks), (0, 0));

    // Of every second page another record is in use now, and what was before is dead once no start needs it.
    let mut before = 0;
    for page in pages.chunks_mut(2) {
        before += records(&page[..1]);
        overwrite(&pc, &mut page[..1]);
    }
    pc.flush().unwrap();
    let overwritten = space(&pc, &storage, "overwritten").parts;
    assert_eq!((overwritten.live_images, overwritten.dead), (records(&pages), 0));
    assert!(overwritten.log >= given.log + before, "{overwritten:?}");
    checkpoint(&pc);
    let behind = space(&pc, &storage, "behind a checkpoint").parts;
    assert_eq!((behind.live_images, behind.dead), (records(&pages), before));
    assert!(behind.log <= 2 * 4096 && behind.padding >= 300 * 7, "{behind:?}");
    assert!(behind.map_live > 100 && behind.map_dead == 0, "{behind:?}");
    assert_eq!(behind.superblocks, 2 * 4096);

    // A link, of an id of two bytes and a base of two or three.
    let (id, at) = pages[151];
    let linked = pc.link_at(id, at, Bytes(vec![1; 100]), &pc.pin()).unwrap();
    pc.flush().unwrap();
    let base = if at.0 / 8 < 1 << 14 { 2 } else { 3 };
    let with_link = space(&pc, &storage, "linked").parts;
    assert_eq!((with_link.live_images, with_link.live_deltas), (records(&pages), 4 + 1 + 1 + 2 + base + 100));
    checkpoint(&pc);
    let with_link = space(&pc, &storage, "linked, behind a checkpoint").parts;
    assert!(with_link.live_deltas > 100 && with_link.map_dead > 100, "{with_link:?}");

    // A free leaves nothing in use.
    pc.free_at(id, linked, &pc.pin()).unwrap();
    pc.flush().unwrap();
    let freed = space(&pc, &storage, "freed").parts;
    assert_eq!((freed.live_images, freed.live_deltas), (records(&pages) - record(id), 0));
}

#[test]
fn moved_pages_are_images_in_use_and_what_they_left_is_given_back() {
    let storage = MemoryStorage::new();
    let pc = start(&storage);
    let mut pages = put(&pc, 1000);
    for round in 0..20 {
        thin_out(&pc, &mut pages, round);
        checkpoint(&pc);
        pc.clean().unwrap();
    }
    let space = space(&pc, &storage, "cleaned");
    // An image says its version, too.
    let most = records(&pages) + 1000 * 4;
    assert!((records(&pages)..most).contains(&space.parts.live_images), "{space:#?}");
    assert!(space.written.folds > 0 && space.written.survivors > 0 && space.written.map > 0);
    let fill = space.fill.unwrap();
    assert!(fill > 0.5 && fill < 0.95 && space.fill_target == 0.80, "{space:#?}");
    assert!(space.predicted_moves.unwrap() > 0.2, "{space:#?}");
    let by_stream = space.amplification.unwrap();
    assert!(by_stream.log > 1.0 && by_stream.log < 1.1 && by_stream.folds > 0.0, "{by_stream:?}");
    let whole = by_stream.log + by_stream.folds + by_stream.survivors + by_stream.map;
    assert!((whole - by_stream.whole).abs() < 1e-9);
    assert_eq!(space.written.given, 13_000 * 1000);
    // What is promised of disk is told apart from what it is taken for.
    assert!(space.files_bytes < (space.parts.live() as f64 / 0.8) as u64 + (256 << 10) + 8 * SEGMENT);
}

#[test]
fn pieces_of_long_records_are_in_use_with_the_record_that_names_them() {
    let storage = MemoryStorage::new();
    let pc = start(&storage);
    const LONG: u64 = 300_000;
    let guard = pc.pin();
    let id = pc.allocate(&guard);
    let at = pc.replace_at(id, Version::NONE, Bytes(vec![3; LONG as usize]), &guard).unwrap();
    pc.flush().unwrap();
    let of = |when: &str| space(&pc, &storage, when).parts;
    let in_log = of("a long page");
    assert!((LONG..LONG + 1000).contains(&in_log.live_images) && in_log.live_deltas == 0, "{in_log:?}");
    checkpoint(&pc);
    assert_eq!(of("a long page behind a checkpoint").live_images, in_log.live_images);
    let at = pc.link_at(id, at, Bytes(vec![4; LONG as usize / 2]), &guard).unwrap();
    pc.flush().unwrap();
    let linked = of("a long change");
    assert_eq!(linked.live_images, in_log.live_images);
    assert!((LONG / 2..LONG / 2 + 1000).contains(&linked.live_deltas), "{linked:?}");
    pc.replace_at(id, at, Bytes(vec![5; 10]), &guard).unwrap();
    checkpoint(&pc);
    let replaced = of("a short page in its place");
    assert!(replaced.live() < 100 && replaced.total() + LONG < linked.total(), "{replaced:?}");
    drop(guard);
    pc.close().unwrap();
    assert_eq!(inspect(&storage).parts.total(), lengths(&storage));
}

#[test]
fn what_a_kill_has_cut_off_is_counted_too() {
    let storage = MemoryStorage::new();
    let pc = start(&storage);
    let mut pages = put(&pc, 150);
    checkpoint(&pc);
    overwrite(&pc, &mut pages[..60]);
    pc.flush().unwrap();
    let killed = killed(&storage);
    let torn = inspect(&killed);
    assert_eq!((torn.parts.total(), torn.parts.live_images), (lengths(&killed), records(&pages)), "{torn:#?}");
    let again = start(&killed);
    let cut = space(&again, &killed, "after a kill").parts;
    assert_eq!(cut.live_images, records(&pages));
    // The log goes on in another segment: what was left of the old one is nobody's.
    assert!(cut.padding > 4096 && cut.unwritten > SEGMENT / 2, "{cut:?}");
    let more = put(&again, 100);
    checkpoint(&again);
    let on = space(&again, &killed, "after a kill, written on").parts;
    // One segment was all dead, and was given back. Somebody may have a link to its file, which was there before the start: it is not used again.
    assert_eq!((on.live_images, on.spare), (records(&pages) + records(&more), 0));
    assert!(on.total() < cut.total() + records(&more) + SEGMENT, "{on:?}");
    assert!(on.dead > 0 && on.dead < records(&pages[..60]), "{on:?}");
    again.close().unwrap();
    pc.close().unwrap();
}

#[test]
fn damage_is_a_part_of_its_own_and_ends_nothing() {
    let storage = MemoryStorage::new();
    let pc = start(&storage);
    let pages = put(&pc, 150);
    checkpoint(&pc);
    pc.close().unwrap();
    let sound = inspect(&storage).parts;
    // Behind the checkpoint: no start looks there.
    flip(&storage, "seg-0000000000000000", pages[10].1.0 + 100);
    let damaged = inspect(&storage).parts;
    assert_eq!(damaged.total(), lengths(&storage));
    assert!(damaged.unreadable > 0 && damaged.unreadable < SEGMENT, "{damaged:?}");
    let lost = sound.live_images + sound.padding - damaged.live_images - damaged.padding;
    assert_eq!(damaged.unreadable, lost, "{sound:?} {damaged:?}");
}

#[test]
fn a_damaged_image_is_told_from_a_segment_that_ends_early() {
    let storage = MemoryStorage::new();
    let pc = start(&storage);
    let mut pages = put(&pc, 400);
    for round in 0..6 {
        thin_out(&pc, &mut pages, round);
        checkpoint(&pc);
        pc.clean().unwrap();
    }
    pc.close().unwrap();
    let sound = inspect(&storage).parts;
    assert!(sound.unreadable == 0 && sound.live_images > 400 * 1000, "{sound:?}");
    let images = of_streams(&storage, 1..=2);
    assert!(!images.is_empty());
    for name in &images {
        flip(&storage, name, 4096 + 200);
        let damaged = inspect(&storage).parts;
        assert_eq!(damaged.total(), lengths(&storage));
        assert!(damaged.unreadable > 0 && damaged.live_images < sound.live_images, "{damaged:?}");
        flip(&storage, name, 4096 + 200);
    }
    assert_eq!(inspect(&storage).parts, sound);
}

#[test]
fn a_leaf_behind_a_damaged_one_that_nobody_needs_is_missed() {
    let storage = MemoryStorage::new();
    let pc = start(&storage);
    let mut pages = put(&pc, 40);
    checkpoint(&pc);
    overwrite(&pc, &mut pages);
    checkpoint(&pc);
    pc.close().unwrap();
    let sound = inspect(&storage).parts;
    assert!(sound.map_dead > 0 && sound.unreadable == 0, "{sound:?}");
    let [map] = &of_streams(&storage, 3..=3)[..] else { panic!("more than one segment of the map") };
    flip(&storage, map, 4096 + 10);
    let damaged = inspect(&storage).parts;
    assert_eq!((damaged.total(), damaged.map_live, damaged.map_dead), (lengths(&storage), 0, 0));
    assert!(damaged.unreadable > sound.map_live + sound.map_dead, "{damaged:?}");
    assert_eq!(damaged.live(), sound.live());
}

#[test]
fn files_that_are_not_of_the_store_are_said_to_be_there_and_left_alone() {
    let storage = MemoryStorage::new();
    let pc = start(&storage);
    put(&pc, 10);
    pc.flush().unwrap();
    let before = space(&pc, &storage, "alone");
    for (name, len) in [("notes", 100), ("tmp-00000000000000ff", 4096)] {
        let file = storage.open(name, OpenMode::CreateNew).unwrap();
        write_all(file.as_ref(), &vec![1; len], 0).unwrap();
    }
    // What a crash has left of a segment that was given back.
    let file = storage.open("seg-00000000000000fe", OpenMode::CreateNew).unwrap();
    file.set_len(SEGMENT).unwrap();
    let now = pc.space().unwrap();
    assert_eq!((now.foreign, now.files, now.parts.total()), (1, before.files + 2, now.files_bytes));
    assert_eq!((now.parts.spare, now.parts.leftovers), (before.parts.spare + 4096, SEGMENT));
    assert_eq!(now.files_bytes, lengths(&storage) - 100);
}

#[test]
fn the_next_start_is_told_by_this_one_where_it_replayed_enough() {
    let storage = MemoryStorage::new();
    let log_limit = 8 << 20;
    let config = || config(&storage).log_limit(log_limit).build();
    let pc = Pages::start(config()).unwrap();
    let mut pages = put(&pc, 100);
    pc.flush().unwrap();
    assert_eq!(pc.space().unwrap().restart_by, RestartBy::DefaultRate, "nothing was replayed");
    pc.close().unwrap();
    let pc = Pages::start(config()).unwrap();
    assert_eq!(pc.space().unwrap().restart_by, RestartBy::DefaultRate, "little was replayed");
    while pc.stats().tail < Lsn(2 << 20) {
        overwrite(&pc, &mut pages);
    }
    pc.close().unwrap();
    let pc = Pages::start(config()).unwrap();
    assert!(pc.stats().replayed_bytes > 1 << 20);
    let before = pc.space().unwrap();
    assert_eq!((before.restart_by, pc.stats().restart_by), (RestartBy::ThisStart, RestartBy::ThisStart));
    assert!(before.lag_bytes >= pc.stats().replayed_bytes, "{before:#?}");
    checkpoint(&pc);
    let after = pc.space().unwrap();
    assert!(after.lag_bytes < 16 << 10 && after.restart_ms <= before.restart_ms, "{after:#?}");
}

/// What is cheap to know is in `Stats`, too, and says the same as far as it can.
#[test]
fn the_counters_say_what_the_walk_over_the_files_says() {
    let storage = MemoryStorage::new();
    let pc = start(&storage);
    let none = pc.stats();
    assert_eq!((none.fill, none.predicted_moves, none.amplification, none.fill_target), (None, None, None, 0.80));
    let mut pages = put(&pc, 600);
    for round in 0..6 {
        thin_out(&pc, &mut pages, round);
        checkpoint(&pc);
    }
    // Behind the redo LSN there is everything but what is open.
    let (stats, space) = (pc.stats(), pc.space().unwrap());
    assert_eq!(stats.amplification, space.amplification);
    assert!(stats.amplification.unwrap().log > 1.0 && stats.lag_bytes == space.lag_bytes);
    let (cheap, counted) = (stats.fill.unwrap(), space.fill.unwrap());
    println!("{cheap} by accounts, {counted} by a walk");
    assert!((cheap - counted).abs() < 0.15 && stats.predicted_moves.unwrap() > 0.0, "{cheap}, {counted}");
    let memory = stats.memory;
    let of_pages = [memory.pages, memory.garbage, memory.map, memory.queues, memory.reads];
    let others = [memory.log, memory.segments, memory.buffers];
    assert_eq!(memory.total(), of_pages.iter().chain(&others).sum::<u64>());
}

/// Files come and go while they are looked at.
#[test]
fn the_parts_add_up_beside_writers_checkpoints_and_cleaning() {
    let storage = MemoryStorage::new();
    let pc = Pages::start(config(&storage).background(Background::Threads).build()).unwrap();
    let mut pages = put(&pc, 600);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for mine in pages.chunks_mut(300) {
            let (pc, done) = (&pc, &done);
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    overwrite(pc, mine);
                }
            });
        }
        let mut seen: Vec<Parts> = Vec::new();
        while seen.len() < 60 || pc.stats().survivor_bytes == 0 {
            let space = pc.space().unwrap();
            assert_eq!(space.parts.total(), space.files_bytes, "{space:#?}");
            assert_eq!(space.parts.unreadable, 0, "{space:#?}");
            seen.push(space.parts);
        }
        done.store(true, Ordering::Relaxed);
    });
    pc.close().unwrap();
    // A page that was moved meanwhile may have been met twice, or not at all. Now none is.
    let parts = inspect(&storage).parts;
    assert_eq!(parts.total(), lengths(&storage));
    assert!(parts.live_images >= records(&pages) && parts.live_images < records(&pages) + 600 * 5, "{parts:?}");
}
