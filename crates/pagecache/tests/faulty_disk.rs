//! A disk with faults below a store that goes on: sectors that cannot be read, and directories that cannot be synced.
#![cfg(not(loom))]

mod common;

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::{Bytes, Joined};
use pagecache::storage::{LockGuard, LockMode, MemoryStorage, OpenMode, Storage, StorageFile, read_full, write_all};
use pagecache::{Background, ConfigBuilder, Error, PageCache, PageId, PageState, Version};

type Pages = PageCache<Joined>;

const SEGMENT: u64 = 64 << 10;
const LOG_LIMIT: u64 = 256 << 10;

/// Files in memory, below what goes wrong.
#[derive(Clone, Debug, Default)]
struct Disk {
    files: MemoryStorage,
    faults: Arc<Faults>,
}

#[derive(Debug, Default)]
struct Faults {
    /// Bytes of files that cannot be read, by the names that these had when they were opened.
    unreadable: Mutex<Vec<(String, Range<u64>)>>,
    refuses_renames: AtomicBool,
    refuses_dir_syncs: AtomicBool,
    dir_syncs_refused: AtomicU64,
    /// Files that were made, renamed or removed.
    changes: AtomicU64,
}

#[derive(Debug)]
struct File {
    name: String,
    faults: Arc<Faults>,
    file: Arc<dyn StorageFile>,
}

impl Disk {
    fn break_sector(&self, (name, at): &(String, u64)) {
        self.faults.unreadable.lock().unwrap().push((name.clone(), *at..at + 8));
    }

    fn mend(&self) {
        self.faults.unreadable.lock().unwrap().clear();
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        let file = self.files.open(name, OpenMode::ReadOnly).unwrap();
        let mut bytes = vec![0; file.len().unwrap() as usize];
        read_full(file.as_ref(), &mut bytes, 0).unwrap();
        bytes
    }

    fn segments(&self) -> Vec<String> {
        self.files.list().unwrap().into_iter().filter(|name| name.starts_with("seg-")).collect()
    }

    /// Where some bytes stand, which stand nowhere else: file and byte.
    fn find(&self, wanted: &[u8]) -> (String, u64) {
        let places = self.segments().into_iter().filter_map(|name| {
            let at = self.bytes(&name).windows(wanted.len()).position(|window| window == wanted)?;
            Some((name, at as u64))
        });
        let places: Vec<_> = places.collect();
        assert_eq!(places.len(), 1, "{places:?}");
        places[0].clone()
    }

    /// All files, as a process that dies now leaves them.
    fn copied(&self) -> Disk {
        let copy = Disk::default();
        for name in self.files.list().unwrap() {
            let file = copy.files.open(&name, OpenMode::CreateNew).unwrap();
            write_all(file.as_ref(), &self.bytes(&name), 0).unwrap();
        }
        copy
    }

    fn refuse_dir_syncs(&self, refuse: bool) {
        self.faults.refuses_dir_syncs.store(refuse, Ordering::Relaxed);
    }

    fn changes(&self) -> u64 {
        self.faults.changes.load(Ordering::Relaxed)
    }

    fn change(&self) {
        self.faults.changes.fetch_add(1, Ordering::Relaxed);
    }
}

impl Storage for Disk {
    fn open(&self, name: &str, mode: OpenMode) -> io::Result<Arc<dyn StorageFile>> {
        if mode == OpenMode::CreateNew {
            self.change();
        }
        let (name, faults) = (name.to_owned(), Arc::clone(&self.faults));
        Ok(Arc::new(File { file: self.files.open(&name, mode)?, name, faults }))
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        // To be kept for another life.
        if to.starts_with("tmp-") && self.faults.refuses_renames.load(Ordering::Relaxed) {
            return Err(io::Error::other("a rename that fails"));
        }
        self.change();
        self.files.rename(from, to)
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.change();
        self.files.remove(name)
    }
    fn list(&self) -> io::Result<Vec<String>> {
        self.files.list()
    }
    fn sync_dir(&self) -> io::Result<()> {
        match self.faults.refuses_dir_syncs.load(Ordering::Relaxed) {
            true => {
                self.faults.dir_syncs_refused.fetch_add(1, Ordering::Relaxed);
                Err(io::Error::other("a sync that fails"))
            }
            false => self.files.sync_dir(),
        }
    }
    fn lock(&self, mode: LockMode) -> io::Result<Box<dyn LockGuard>> {
        self.files.lock(mode)
    }
    fn describe(&self) -> String {
        "a faulty disk".to_owned()
    }
}

impl StorageFile for File {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let end = offset + buf.len() as u64;
        let is_hit =
            |(name, range): &(String, Range<u64>)| *name == self.name && range.start < end && offset < range.end;
        let is_hit = self.faults.unreadable.lock().unwrap().iter().any(is_hit);
        match is_hit {
            true => Err(io::Error::other("a sector that cannot be read")),
            false => self.file.read_at(buf, offset),
        }
    }
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        self.file.write_at(buf, offset)
    }
    fn write_cold_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        self.file.write_cold_at(buf, offset)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }
    fn begin_sync(&self, offset: u64, len: u64) {
        self.file.begin_sync(offset, len);
    }
    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        self.file.allocate(offset, len)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
    fn allocated(&self) -> io::Result<u64> {
        self.file.allocated()
    }
}

fn config(disk: &Disk) -> ConfigBuilder {
    let builder = ConfigBuilder::new().storage(disk.clone()).segment_size(SEGMENT).log_limit(LOG_LIMIT);
    builder.cache_capacity(64 << 10).background(Background::Caller)
}

fn start(disk: &Disk) -> Pages {
    Pages::start(config(disk).build()).unwrap()
}

/// What a page holds after so many changes; nothing else holds any of it.
fn content(id: PageId, change: u64) -> Vec<u8> {
    format!("page {} after {change};", id.0).bytes().cycle().take(1000).collect()
}

/// Segments for so many pages at the fill target, the log, the reserve, and what is not of pages: the map, and files kept for reuse.
fn promised(pages: u64) -> u64 {
    ((pages * 1016) as f64 / 0.8) as u64 / (SEGMENT - 2 * 4096) + LOG_LIMIT / SEGMENT + 4 + 6
}

/// Pages as they must be.
#[derive(Debug, Default)]
struct Model(BTreeMap<PageId, (Version, u64)>);

impl Model {
    fn new(pc: &Pages, count: u64) -> Model {
        let guard = pc.pin();
        let one = |_| {
            let id = pc.allocate(&guard);
            (id, (pc.replace_at(id, Version::NONE, Bytes(content(id, 0)), &guard).unwrap(), 0))
        };
        Model((0..count).map(one).collect())
    }

    fn replace(&mut self, pc: &Pages, id: PageId) {
        let (at, change) = self.0.get_mut(&id).unwrap();
        *change += 1;
        *at = pc.replace_at(id, *at, Bytes(content(id, *change)), &pc.pin()).unwrap();
    }

    #[track_caller]
    fn check(&self, pc: &Pages, but: &[PageId]) {
        let guard = pc.pin();
        for (id, (at, change)) in self.0.iter().filter(|(id, _)| !but.contains(id)) {
            assert_eq!(pc.state(*id, &guard).unwrap(), PageState::Live(*at));
            assert!(pc.get(*id, &guard).unwrap().0.0 == content(*id, *change), "{id}");
        }
        for id in but {
            assert!(matches!(pc.get(*id, &guard), Err(Error::Io { op: "read", .. })), "{id}");
        }
    }
}

/// A store of so many cold pages in a checkpoint.
fn cold(disk: &Disk, count: u64) -> (Pages, Model) {
    let pc = start(disk);
    let model = Model::new(&pc, count);
    pc.flush().unwrap();
    pc.checkpoint().unwrap();
    pc.close().unwrap();
    (start(disk), model)
}

/// In the middle of the record of a page as it is.
fn place(disk: &Disk, model: &Model, id: PageId) -> (String, u64) {
    let (name, at) = disk.find(&content(id, model.0[&id].1));
    (name, at + 500)
}

/// Pages are found by the map where they are few for their segments, else by walks: of the oldest segment, of one among others, of images. The first page is where a walk begins.
#[test]
fn a_page_that_cannot_be_read_stays_and_all_others_of_its_segment_are_moved() {
    for (count, bad) in [(200, 0), (200, 124), (2000, 0), (2000, 404)] {
        let disk = Disk::default();
        let (pc, mut model) = cold(&disk, count);
        let bad = PageId(bad);
        let broken = place(&disk, &model, bad);
        disk.break_sector(&broken);
        (0..count).map(PageId).filter(|id| id.0 % 4 != 0).for_each(|id| model.replace(&pc, id));
        pc.flush().unwrap();
        pc.checkpoint().unwrap();
        let (mut moved, mut turns) = (0, 0);
        loop {
            let now = pc.clean().unwrap_or_else(|error| panic!("{count} pages, {bad}: {error}"));
            (moved, turns) = (moved + now, turns + 1);
            assert!(turns < 1000, "it comes to an end");
            if now == 0 {
                break;
            }
        }
        assert!(moved > count / 8, "{moved} moved of {count}");
        pc.checkpoint().unwrap();
        // The good ones are not read where they were: it may go, but for the one that cannot.
        let left = disk.bytes(&broken.0);
        let neighbour = PageId(bad.0 + 4);
        assert!(left.windows(1000).any(|window| window == content(neighbour, 0)), "as it was written");
        disk.faults.unreadable.lock().unwrap().push((broken.0.clone(), 4096..SEGMENT));
        model.check(&pc, &[bad]);
        pc.check_accounts().unwrap();
        disk.mend();
        model.check(&pc, &[]);
        pc.close().unwrap();
        model.check(&start(&disk), &[]);
    }
}

#[test]
fn a_sector_in_which_nothing_is_in_use_keeps_no_segment() {
    for count in [200, 2000] {
        let disk = Disk::default();
        let (pc, mut model) = cold(&disk, count);
        let dead = PageId(21);
        let broken = place(&disk, &model, dead);
        disk.break_sector(&broken);
        (0..count).map(PageId).filter(|id| id.0 % 4 != 0).for_each(|id| model.replace(&pc, id));
        pc.flush().unwrap();
        pc.checkpoint().unwrap();
        while pc.clean().unwrap() > 0 {}
        pc.checkpoint().unwrap();
        assert!(!disk.segments().contains(&broken.0), "{count} pages: {} is still there", broken.0);
        model.check(&pc, &[]);
        pc.check_accounts().unwrap();
    }
}

/// Each turn met the sector and failed, and writers were let go on without a bound.
#[test]
fn disk_stays_bounded_beside_sectors_that_cannot_be_read() {
    let disk = Disk::default();
    let count = 2000;
    let (pc, mut model) = cold(&disk, count);
    let bad: Vec<PageId> = [0, 700, 701, 1999].map(PageId).into();
    bad.iter().for_each(|id| disk.break_sector(&place(&disk, &model, *id)));
    let (mut most, mut seed) = (0, 7u64);
    for number in 0..30_000 {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let id = PageId((seed >> 33) % count);
        if !bad.contains(&id) {
            model.replace(&pc, id);
        }
        if number % 32 == 0 {
            pc.tick().unwrap();
            most = most.max(pc.stats().segments);
        }
    }
    println!("{most} segments at most, {} promised", promised(count));
    assert!(most <= promised(count), "{most} segments");
    model.check(&pc, &bad);
    pc.check_accounts().unwrap();
    disk.mend();
    model.check(&pc, &[]);
}

/// Of the map: one that has not changed stays where it is, however few others are beside it.
#[test]
fn checkpoints_go_on_without_a_leaf_that_cannot_be_read() {
    let disk = Disk::default();
    let (pc, mut model) = cold(&disk, 100);
    pc.close().unwrap();
    // The first record of the first segment of the map: the leaf of the first ids.
    let of_map: Vec<String> = disk.segments().into_iter().filter(|name| disk.bytes(name)[13] == 3).collect();
    disk.break_sector(&(of_map[0].clone(), 4096));
    let pc = start(&disk);
    let lost: Vec<PageId> = (0..4).map(PageId).collect();
    let guard = pc.pin();
    for id in &lost {
        assert!(matches!(pc.get(*id, &guard), Err(Error::Io { op: "read", .. })), "{id}");
    }
    drop(guard);
    for round in 0..300 {
        model.replace(&pc, PageId(4 + round * 4 % 96));
        pc.flush().unwrap();
        pc.checkpoint().unwrap_or_else(|error| panic!("checkpoint {round}: {error}"));
    }
    disk.mend();
    model.check(&pc, &[]);
}

/// Overwrites pages until there is something to give back, and has it given back.
fn turn_over(pc: &Pages, model: &mut Model) {
    for _ in 0..3 {
        model.0.keys().copied().collect::<Vec<_>>().into_iter().for_each(|id| model.replace(pc, id));
        pc.flush().unwrap();
        pc.checkpoint().unwrap();
    }
}

/// What was renamed to be used again was used again, though its old name might have come back with a crash, on another life's bytes.
#[test]
fn a_directory_that_cannot_be_synced_when_a_pin_is_dropped_ends_the_log() {
    for stays in [false, true] {
        let disk = Disk::default();
        let pc = start(&disk);
        let mut model = Model::new(&pc, 500);
        // Files that could not be renamed stay until the next are given back.
        disk.faults.refuses_renames.store(stays, Ordering::Relaxed);
        if stays {
            turn_over(&pc, &mut model);
        }
        let pin = pc.pin_files();
        disk.faults.refuses_renames.store(false, Ordering::Relaxed);
        if !stays {
            turn_over(&pc, &mut model);
        }
        pc.flush().unwrap();
        let before = disk.changes();
        disk.refuse_dir_syncs(true);
        drop(pin);
        disk.refuse_dir_syncs(false);
        assert!(disk.changes() > before, "something was given back");
        let (changes, guard) = (disk.changes(), pc.pin());
        let mut at = Version::NONE;
        let id = pc.allocate(&guard);
        let written = (0..1000).try_for_each(|change| {
            at = pc.replace_at(id, at, Bytes(content(id, change)), &guard)?;
            pc.make_stable(at).map(drop)
        });
        assert!(matches!(written, Err(Error::Poisoned { .. })), "{written:?}");
        assert_eq!(disk.changes(), changes, "no file is used for anything else");
        model.check(&start(&disk.copied()), &[]);
    }
}

#[test]
fn a_directory_that_cannot_be_synced_while_a_store_is_idle_ends_the_log() {
    let disk = Disk::default();
    let pc = Pages::start(config(&disk).background(Background::Threads).build()).unwrap();
    let mut model = Model::new(&pc, 2000);
    let kept = || disk.files.list().unwrap().iter().filter(|name| name.starts_with("tmp-")).count();
    let refused = || disk.faults.dir_syncs_refused.load(Ordering::Relaxed);
    let begun = Instant::now();
    let wait = |what: &str| {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "{what}: {} files kept, {} syncs refused",
            kept(),
            refused()
        );
        std::thread::sleep(Duration::from_millis(1));
    };
    // The last turn may take all that was kept.
    while refused() == 0 {
        disk.refuse_dir_syncs(false);
        while kept() <= 3 {
            (0..2000).map(PageId).for_each(|id| model.replace(&pc, id));
        }
        pc.flush().unwrap();
        disk.refuse_dir_syncs(true);
        while refused() == 0 && kept() > 2 {
            wait("idle");
        }
    }
    disk.refuse_dir_syncs(false);
    while !matches!(pc.clean(), Err(Error::Poisoned { .. })) {
        wait("nobody is told");
    }
    // A thread of the kit may be about to name what it has made.
    drop(pc);
    model.check(&start(&disk.copied()), &[]);
}

/// It gave back files of a store that was closed, and perhaps open again elsewhere.
#[test]
fn a_pin_that_outlives_its_store_touches_no_file() {
    for is_open_again in [false, true] {
        let disk = Disk::default();
        let pc = start(&disk);
        let mut model = Model::new(&pc, 500);
        pc.flush().unwrap();
        pc.checkpoint().unwrap();
        let pin = pc.pin_files();
        turn_over(&pc, &mut model);
        while pc.clean().unwrap() > 0 {}
        let pinned = disk.segments().len();
        pc.close().unwrap();
        // What the pin has kept the next start removes, whether it is still there or not.
        let again = is_open_again.then(|| start(&disk));
        let (before, changes) = (disk.files.list().unwrap(), disk.changes());
        drop(pin);
        assert_eq!((disk.files.list().unwrap(), disk.changes()), (before, changes));
        let pc = again.unwrap_or_else(|| start(&disk));
        assert!(disk.segments().len() < pinned, "{} of {pinned} are left", disk.segments().len());
        model.check(&pc, &[]);
        turn_over(&pc, &mut model);
        model.check(&pc, &[]);
        pc.close().unwrap();
        model.check(&start(&disk), &[]);
    }
}
