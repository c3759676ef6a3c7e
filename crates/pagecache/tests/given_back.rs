//! Segments given back between two checkpoints: by the log, which says what has moved and what is gone, and is believed by whoever opens.
#![cfg(not(loom))]

mod common;

use std::collections::BTreeMap;

use common::{Bytes, Joined};
use pagecache::inspect::{Report, verify};
use pagecache::storage::{MemoryStorage, OpenMode, Storage, read_full, write_all};
use pagecache::{Background, ConfigBuilder, Create, Error, PageCache, PageId, PageState, Version};

type Pages = PageCache<Joined>;

const SEGMENT: u64 = 64 << 10;

fn config(storage: &MemoryStorage) -> ConfigBuilder {
    let config = ConfigBuilder::new().storage(storage.clone()).segment_size(SEGMENT).log_limit(64 << 20);
    config.fill_target(0.95).cache_capacity(64 << 10).background(Background::Caller)
}

fn start(storage: &MemoryStorage) -> Pages {
    Pages::start(config(storage).build()).unwrap()
}

/// The files as they are, as a process that dies now leaves them.
fn copied(storage: &MemoryStorage) -> MemoryStorage {
    let copy = MemoryStorage::new();
    for name in storage.list().unwrap() {
        let from = storage.open(&name, OpenMode::ReadOnly).unwrap();
        let mut bytes = vec![0; from.len().unwrap() as usize];
        read_full(from.as_ref(), &mut bytes, 0).unwrap();
        write_all(copy.open(&name, OpenMode::CreateNew).unwrap().as_ref(), &bytes, 0).unwrap();
    }
    copy
}

fn report(storage: &MemoryStorage) -> Report {
    verify(config(&copied(storage)).build()).unwrap()
}

/// Some are too long for one record.
fn mixed(id: PageId) -> u64 {
    if id.0 % 40 == 7 { 30_000 } else { 900 }
}

fn content(id: PageId, len: u64, change: u64) -> Vec<u8> {
    (0..len).map(|at| (id.0 ^ (change << 4) ^ (at / 3)) as u8).collect()
}

/// Pages as they must be.
#[derive(Clone, Debug)]
struct Model {
    len: fn(PageId) -> u64,
    pages: BTreeMap<PageId, (Version, Vec<u8>)>,
    freed: Vec<PageId>,
}

impl Model {
    /// So many pages, every third of which stays, in a checkpoint.
    fn new(pc: &Pages, pages: u64) -> Model {
        Model::of(pc, pages, mixed)
    }

    fn of(pc: &Pages, pages: u64, len: fn(PageId) -> u64) -> Model {
        let (mut model, guard) = (Model { len, pages: BTreeMap::new(), freed: Vec::new() }, pc.pin());
        for _ in 0..pages {
            let id = pc.allocate(&guard);
            let at = pc.replace_at(id, Version::NONE, Bytes(content(id, len(id), 0)), &guard).unwrap();
            model.pages.insert(id, (at, content(id, len(id), 0)));
        }
        drop(guard);
        model.replace(pc, 1, |id| id.0 % 3 != 0);
        pc.flush().unwrap();
        pc.checkpoint().unwrap();
        model
    }

    fn replace(&mut self, pc: &Pages, change: u64, which: impl Fn(PageId) -> bool) {
        let guard = pc.pin();
        for (id, (at, bytes)) in self.pages.iter_mut().filter(|(id, _)| which(**id)) {
            *bytes = content(*id, (self.len)(*id), change);
            *at = pc.replace_at(*id, *at, Bytes(bytes.clone()), &guard).unwrap();
        }
    }

    fn link(&mut self, pc: &Pages, which: impl Fn(PageId) -> bool) {
        let guard = pc.pin();
        for (id, (at, bytes)) in self.pages.iter_mut().filter(|(id, _)| which(**id)) {
            bytes.extend(b"linked");
            *at = pc.link_at(*id, *at, Bytes(b"linked".to_vec()), &guard).unwrap();
        }
    }

    fn free(&mut self, pc: &Pages, which: impl Fn(PageId) -> bool) {
        let guard = pc.pin();
        for id in self.pages.keys().copied().filter(|id| which(*id)).collect::<Vec<_>>() {
            let (at, _) = self.pages.remove(&id).unwrap();
            pc.free_at(id, at, &guard).unwrap();
            self.freed.push(id);
        }
    }

    /// The pages in this order, so that leaves are read one by one.
    #[track_caller]
    fn check(&self, pc: &Pages) {
        let guard = pc.pin();
        for (id, (at, bytes)) in &self.pages {
            assert_eq!(pc.state(*id, &guard).unwrap(), PageState::Live(*at), "{id}");
            assert!(pc.get(*id, &guard).unwrap().0.0 == *bytes, "{id} is not what it was");
        }
        for id in &self.freed {
            assert!(matches!(pc.state(*id, &guard).unwrap(), PageState::Free(_)), "{id} came back");
        }
        pc.check_accounts().unwrap();
    }

    /// What a process that dies now leaves is sound and opens, read only and not.
    #[track_caller]
    fn check_crash(&self, storage: &MemoryStorage) -> Report {
        let report = report(storage);
        assert!(report.is_sound(), "{:#?}", report.problems);
        let copy = copied(storage);
        self.check(&Pages::start(config(&copy).read_only(true).create(Create::Existing).build()).unwrap());
        self.check(&start(&copy));
        report
    }
}

/// Moves all that there is to be moved, without a checkpoint. How many pages that were.
fn clean(pc: &Pages) -> u64 {
    let before = pc.stats();
    let mut moved = 0;
    loop {
        let now = pc.clean().unwrap();
        moved += now;
        if now == 0 {
            break;
        }
    }
    let after = pc.stats();
    assert_eq!(after.checkpoints, before.checkpoints, "none is due");
    pc.check_accounts().unwrap();
    moved
}

#[test]
fn disk_is_given_back_without_a_checkpoint_and_the_store_opens_from_the_log() {
    let storage = MemoryStorage::new();
    let pc = start(&storage);
    let model = Model::new(&pc, 500);
    let before = pc.stats();
    assert!(clean(&pc) > 100);
    let after = pc.stats();
    assert!(after.segments + 4 < before.segments, "{} of {}", after.segments, before.segments);
    assert_eq!(after.redo, before.redo);
    let report = model.check_crash(&storage);
    assert!(report.records.moves > 0 && report.records.given_back > 0, "{:?}", report.records);
    pc.close().unwrap();
    model.check(&start(&storage));
}

#[test]
fn whatever_comes_of_pages_after_they_moved_comes_of_them_at_a_start() {
    let storage = MemoryStorage::new();
    let pc = start(&storage);
    let mut model = Model::new(&pc, 500);
    // Links that a move takes along, and others that stay on top of it.
    model.link(&pc, |id| id.0 % 12 == 0);
    assert!(clean(&pc) > 100);
    model.link(&pc, |id| id.0 % 12 < 6);
    model.replace(&pc, 2, |id| id.0 % 9 == 3);
    model.free(&pc, |id| id.0 % 15 == 6);
    pc.flush().unwrap();
    model.check_crash(&storage);
    // Moved again, from images, behind the same checkpoint: most of what was replaced is above its redo point.
    model.replace(&pc, 3, |id| id.0 % 4 == 0 || id.0 % 40 == 7);
    pc.flush().unwrap();
    let moved = clean(&pc);
    model.check_crash(&storage);
    // And by a store that was opened from moves alone, whose own are behind these; several times.
    drop(pc);
    let mut storage = copied(&storage);
    for life in 0..4 {
        let pc = start(&storage);
        model.link(&pc, |id| id.0 % 7 == life);
        model.replace(&pc, 4 + life, |id| id.0 % 5 == life);
        pc.flush().unwrap();
        clean(&pc);
        model.check_crash(&storage);
        storage = copied(&storage);
    }
    let pc = start(&storage);
    assert_eq!(pc.checkpoint().unwrap(), pc.stats().redo);
    clean(&pc);
    pc.close().unwrap();
    let report = report(&storage);
    assert!(report.is_sound() && moved > 0, "{:#?}", report.problems);
    model.check(&start(&storage));
}

#[test]
fn leaves_that_are_written_before_they_were_read_say_what_the_log_has_said_of_them() {
    let storage = MemoryStorage::new();
    let pc = start(&storage);
    let mut model = Model::new(&pc, 500);
    assert!(clean(&pc) > 100);
    model.link(&pc, |id| id.0 % 6 == 0);
    pc.flush().unwrap();
    let storage = copied(&storage);
    let pc = start(&storage);
    // Behind it nothing of the moves is replayed any more.
    pc.checkpoint().unwrap();
    pc.close().unwrap();
    let pc = start(&storage);
    assert!(pc.stats().replayed_bytes <= 4096, "{}", pc.stats().replayed_bytes);
    model.check(&pc);
    model.check_crash(&storage);
}

#[test]
fn an_image_that_the_log_has_moved_pages_to_is_missed() {
    let storage = MemoryStorage::new();
    let pc = start(&storage);
    Model::new(&pc, 300);
    let before: Vec<String> = storage.list().unwrap();
    assert!(clean(&pc) > 50);
    let made: Vec<String> = storage.list().unwrap().into_iter().filter(|name| !before.contains(name)).collect();
    let is_of_images = |name: &String| {
        let mut header = [0; 14];
        let file = storage.open(name, OpenMode::ReadOnly).unwrap();
        name.starts_with("seg-")
            && read_full(file.as_ref(), &mut header, 0).unwrap() == 14
            && matches!(header[13], 1 | 2)
    };
    let images: Vec<String> = made.into_iter().filter(is_of_images).collect();
    assert!(!images.is_empty());
    let mut told = 0;
    for missing in &images {
        let copy = copied(&storage);
        copy.remove(missing).unwrap();
        let found = report(&copy);
        assert!(!found.is_sound(), "{missing}");
        match Pages::start(config(&copy).build()) {
            Err(Error::Corrupt(at)) => assert_eq!(at.what, "a segment is missing"),
            Err(other) => panic!("{missing}: {other}"),
            // Leaves that were not read: each of its pages says so.
            Ok(pc) => {
                let guard = pc.pin();
                let lost = (0..300).filter(|id| matches!(pc.get(PageId(*id), &guard), Err(Error::Corrupt(_)))).count();
                assert!(lost > 0, "{missing}");
            }
        }
        told += 1;
    }
    assert_eq!(told, images.len());
}

/// Every file as it is.
fn files(storage: &MemoryStorage) -> BTreeMap<String, Vec<u8>> {
    let read = |name: String| {
        let file = storage.open(&name, OpenMode::ReadOnly).unwrap();
        let mut bytes = vec![0; file.len().unwrap() as usize];
        read_full(file.as_ref(), &mut bytes, 0).unwrap();
        (name, bytes)
    };
    storage.list().unwrap().into_iter().map(read).collect()
}

/// Overwrites what says what a segment is.
fn wreck_headers(storage: &MemoryStorage, name: &str) {
    let file = storage.open(name, OpenMode::ReadWrite).unwrap();
    for at in [0, SEGMENT - 4096] {
        write_all(file.as_ref(), &[0xa5; 64], at).unwrap();
    }
}

/// It was found only when the store had been written to: each start that failed so made other files of it.
#[test]
fn a_start_that_misses_images_writes_nothing() {
    let storage = MemoryStorage::new();
    let pc = start(&storage);
    let mut model = Model::new(&pc, 500);
    // Links that a move takes along: of these pages the log says all.
    model.link(&pc, |id| id.0 % 6 == 0);
    assert!(clean(&pc) > 100);
    pc.flush().unwrap();
    model.check_crash(&storage);
    let is_of_images = |bytes: &Vec<u8>| matches!(bytes[13], 1 | 2);
    let images: Vec<String> =
        files(&storage).into_iter().filter(|(_, bytes)| is_of_images(bytes)).map(|(name, _)| name).collect();
    let mut told = 0;
    for name in &images {
        for is_there in [false, true] {
            let copy = copied(&storage);
            match is_there {
                false => copy.remove(name).unwrap(),
                true => wreck_headers(&copy, name),
            }
            let before = files(&copy);
            for _ in 0..2 {
                match Pages::start(config(&copy).build()) {
                    Err(Error::Corrupt(_)) => {
                        assert!(files(&copy) == before, "{name}");
                        told += 1;
                    }
                    Err(other) => panic!("{name}: {other}"),
                    // Leaves that are read later.
                    Ok(_) => assert_eq!(before.get(name), files(&copy).get(name)),
                }
            }
        }
    }
    println!("{told} starts failed, of {}", 4 * images.len());
    assert!(told >= 4);
}

#[test]
fn a_segment_that_the_log_did_not_give_back_is_missed_beside_others_that_it_did() {
    let storage = MemoryStorage::new();
    let pc = start(&storage);
    let model = Model::new(&pc, 500);
    clean(&pc);
    let report = model.check_crash(&storage);
    // Of the log, below the redo point: pages that stay are in there still.
    let needed: Vec<u64> =
        report.segments.iter().filter(|segment| segment.end <= pc.stats().redo).map(|of| of.sequence).collect();
    assert!(!needed.is_empty());
    for sequence in needed {
        let copy = copied(&storage);
        copy.remove(&format!("seg-{sequence:016x}")).unwrap();
        match Pages::start(config(&copy).build()) {
            Err(Error::Corrupt(at)) => assert_eq!((at.segment, at.what), (sequence, "a segment is missing")),
            other => panic!("{sequence}: {:?}", other.map(|_| ())),
        }
    }
}

/// What a crash has left of a turn: images that the log does not know of. Nobody needs them, and they do not stay.
#[test]
fn images_that_the_log_does_not_say_anything_of_are_given_back() {
    let storage = MemoryStorage::new();
    let pc = start(&storage);
    let model = Model::new(&pc, 500);
    let before = copied(&storage);
    clean(&pc);
    // As if nothing of the log behind the checkpoint were there, and all of the images.
    let mut strange = 0;
    for name in storage.list().unwrap().into_iter().filter(|name| name.starts_with("seg-")) {
        if before.open(&name, OpenMode::ReadOnly).is_ok() {
            continue;
        }
        let from = storage.open(&name, OpenMode::ReadOnly).unwrap();
        let mut bytes = vec![0; from.len().unwrap() as usize];
        read_full(from.as_ref(), &mut bytes, 0).unwrap();
        if matches!(bytes[13], 1 | 2) {
            write_all(before.open(&name, OpenMode::CreateNew).unwrap().as_ref(), &bytes, 0).unwrap();
            strange += 1;
        }
    }
    assert!(strange > 1);
    let report = model.check_crash(&before);
    assert_eq!(report.leftovers.iter().filter(|name| name.starts_with("seg-")).count(), strange);
    let pc = start(&before);
    let with = pc.stats().segments;
    clean(&pc);
    assert!(pc.stats().segments + strange as u64 <= with, "{} of {with}", pc.stats().segments);
    model.check(&pc);
}

/// Who copies files under a pin has the names first, and the end of the log after.
#[test]
fn under_a_pin_a_checkpoint_says_what_has_moved() {
    let storage = MemoryStorage::new();
    let pc = start(&storage);
    let model = Model::new(&pc, 500);
    let (pin, before) = (pc.pin_files(), pc.stats().checkpoints);
    let names = storage.list().unwrap();
    assert!(pc.clean().unwrap() > 50);
    assert!(pc.stats().checkpoints > before);
    let whole = report(&storage);
    assert_eq!((whole.records.moves, whole.records.given_back), (0, 0));
    // What was there when it began suffices, with the superblocks of then or of now.
    assert!(names.iter().all(|name| storage.open(name, OpenMode::ReadOnly).is_ok()));
    drop(pin);
    model.check_crash(&storage);
}

/// A leaf names the image of a long page that was replaced since, and of which the segments of some parts are gone.
#[test]
fn a_long_page_whose_parts_are_gone_and_that_was_replaced_since_is_missed_by_nobody() {
    let storage = MemoryStorage::new();
    let pc = start(&storage);
    let mut model = Model::of(&pc, 90, |_| 30_000);
    assert!(clean(&pc) > 20);
    pc.checkpoint().unwrap();
    pc.close().unwrap();
    // Nothing is moved any more.
    let pc = Pages::start(config(&storage).fill_target(0.2).build()).unwrap();
    let mut shrunk = 0;
    for first in (0..90).step_by(10) {
        model.replace(&pc, 2, |id| (first..first + 7).contains(&id.0));
        pc.flush().unwrap();
        let before = pc.stats().segments;
        assert_eq!(clean(&pc), 0);
        shrunk += u64::from(pc.stats().segments < before);
        model.check_crash(&storage);
    }
    assert!(shrunk > 0);
}

/// A machine that dies in the flush of a turn: the end of one segment is lost, the beginning of the next is not, and says what was given back.
#[test]
fn what_stands_behind_the_end_of_the_log_gives_nothing_back() {
    let storage = MemoryStorage::new();
    let pc = start(&storage);
    let mut model = Model::of(&pc, 2000, |_| 900);
    while pc.stable_lsn().0 % SEGMENT != SEGMENT - 2 * 4096 {
        let first = *model.pages.keys().next().unwrap();
        model.link(&pc, |id| id == first);
        pc.flush().unwrap();
    }
    let before = copied(&storage);
    pc.clean().unwrap();
    let crashed = MemoryStorage::new();
    let bytes = |storage: &MemoryStorage, name: &str| {
        let file = storage.open(name, OpenMode::ReadOnly).ok()?;
        let mut bytes = vec![0; file.len().unwrap() as usize];
        read_full(file.as_ref(), &mut bytes, 0).unwrap();
        Some(bytes)
    };
    let names: std::collections::BTreeSet<String> =
        storage.list().unwrap().into_iter().chain(before.list().unwrap()).collect();
    let mut is_first = true;
    for name in names {
        let (was, is) = (bytes(&before, &name), bytes(&storage, &name));
        let has_grown = was.is_some() && is.is_some() && was != is && name.starts_with("seg-");
        let keeps_old = is.is_none() || has_grown && std::mem::take(&mut is_first);
        let kept = if keeps_old { was } else { is };
        write_all(crashed.open(&name, OpenMode::CreateNew).unwrap().as_ref(), &kept.unwrap(), 0).unwrap();
    }
    assert!(!is_first, "it has flushed over the end of a segment");
    model.check_crash(&crashed);
}
