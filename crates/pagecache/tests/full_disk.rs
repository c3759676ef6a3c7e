//! A disk that is full and stays as large as it is: what was there stays, and once pages were freed there is room again.
#![cfg(not(loom))]

mod common;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{Bytes, Joined};
use pagecache::storage::{LockGuard, LockMode, MemoryStorage, OpenMode, Storage, StorageFile};
use pagecache::{Background, ConfigBuilder, Error, PageCache, PageId, Version};

type Pages = PageCache<Joined>;

const SEGMENT: u64 = 64 << 10;
const CAPACITY: u64 = 64 * SEGMENT;

/// Files in memory that are together no longer than the disk.
#[derive(Clone, Debug, Default)]
struct Disk(MemoryStorage);

impl Disk {
    fn used(&self) -> u64 {
        let len = |name: &String| self.0.open(name, OpenMode::ReadOnly).and_then(|file| file.len()).unwrap_or(0);
        self.0.list().unwrap().iter().map(len).sum()
    }
}

/// One of them.
#[derive(Debug)]
struct File {
    disk: Disk,
    file: Arc<dyn StorageFile>,
}

impl File {
    /// Whether it may be so long.
    fn reach(&self, len: u64) -> io::Result<()> {
        let more = len.saturating_sub(self.file.len()?);
        match more > 0 && self.disk.used() + more > CAPACITY {
            true => Err(io::ErrorKind::StorageFull.into()),
            false => Ok(()),
        }
    }
}

impl Storage for Disk {
    fn open(&self, name: &str, mode: OpenMode) -> io::Result<Arc<dyn StorageFile>> {
        Ok(Arc::new(File { disk: self.clone(), file: self.0.open(name, mode)? }))
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.0.rename(from, to)
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.0.remove(name)
    }
    fn list(&self) -> io::Result<Vec<String>> {
        self.0.list()
    }
    fn sync_dir(&self) -> io::Result<()> {
        self.0.sync_dir()
    }
    fn lock(&self, mode: LockMode) -> io::Result<Box<dyn LockGuard>> {
        self.0.lock(mode)
    }
    fn describe(&self) -> String {
        "a small disk".to_owned()
    }
    fn available(&self) -> io::Result<Option<u64>> {
        Ok(Some(CAPACITY.saturating_sub(self.used())))
    }
}

impl StorageFile for File {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buf, offset)
    }
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        self.reach(offset + buf.len() as u64)?;
        self.file.write_at(buf, offset)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }
    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        self.reach(offset + len)?;
        self.file.allocate(offset, len)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.reach(len)?;
        self.file.set_len(len)
    }
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
}

fn start(disk: &Disk, background: Background, cap: Option<u64>) -> Pages {
    let builder = ConfigBuilder::new().storage(disk.clone()).segment_size(SEGMENT).log_limit(256 << 10);
    Pages::start(builder.max_disk_bytes(cap).cache_capacity(256 << 10).flush_every_ms(5).background(background).build())
        .unwrap()
}

type Expected = BTreeMap<PageId, (Version, u64)>;

fn content(id: PageId, change: u64) -> Bytes {
    Bytes((0..1000).map(|at| (id.0 ^ change << 3 ^ at) as u8).collect())
}

fn check(pages: &Pages, expected: &Expected) {
    let guard = pages.pin();
    for (id, (_, change)) in expected {
        assert_eq!(*pages.get(*id, &guard).unwrap().0, content(*id, *change), "{id}");
    }
    assert_eq!(pages.page_count().unwrap(), expected.len() as u64);
}

/// What can be done of the work behind the scenes, which a full disk may refuse and nothing else.
fn upkeep(pages: &Pages) {
    for outcome in [pages.flush().map(drop), pages.checkpoint().map(drop), pages.clean().map(drop)] {
        assert!(matches!(outcome, Ok(()) | Err(Error::NoSpace { .. })), "{outcome:?}");
    }
}

/// Whether there was room.
fn done<T>(outcome: Result<T, impl Into<Error>>) -> Option<T> {
    match outcome.map_err(Into::into) {
        Ok(done) => Some(done),
        Err(Error::NoSpace { .. }) => None,
        Err(other) => panic!("{other:?}"),
    }
}

/// New pages until there is no room for more, whatever is done for it.
fn fill(pages: &Pages, background: Background, expected: &mut Expected) {
    let mut refused = 0;
    let mut id = pages.allocate(&pages.pin());
    while refused < 8 {
        let guard = pages.pin();
        match done(pages.replace_at(id, Version::NONE, content(id, 0), &guard)) {
            Some(at) => {
                expected.insert(id, (at, 0));
                id = pages.allocate(&guard);
                drop(guard);
                if background == Background::Caller && expected.len().is_multiple_of(100) {
                    let _ = done(pages.tick());
                }
            }
            None => {
                refused += 1;
                drop(guard);
                upkeep(pages);
            }
        }
    }
    // Nothing was ever written for it.
    within_reason(pages, || done(pages.free_at(id, Version::NONE, &pages.pin())));
}

/// Again and again with what makes room in between, for as long as it may take.
fn within_reason<T>(pages: &Pages, mut attempt: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + Duration::from_secs(30);
    for _ in 0.. {
        if let Some(done) = attempt() {
            return done;
        }
        upkeep(pages);
        assert!(Instant::now() < until, "no room: {:?}", pages.stats());
    }
    unreachable!()
}

/// Fills the disk, frees some pages, goes on with the rest; several times, then opens what is left.
fn fill_and_free(background: Background, cap: Option<u64>, is_freed: impl Fn(usize, usize, usize) -> bool) {
    let disk = Disk::default();
    let pages = start(&disk, background, cap);
    let mut expected = Expected::new();
    let mut full = Vec::new();
    for round in 0..3 {
        fill(&pages, background, &mut expected);
        full.push(expected.len());
        check(&pages, &expected);
        let ids: Vec<PageId> = expected.keys().copied().collect();
        for (_, id) in ids.iter().enumerate().filter(|(nth, _)| is_freed(*nth, ids.len(), round)) {
            let (at, _) = expected[id];
            within_reason(&pages, || done(pages.free_at(*id, at, &pages.pin())));
            expected.remove(id);
        }
        // Each page that is left is changed once, which is as much as was freed.
        for (id, (at, change)) in &mut expected {
            *at = within_reason(&pages, || done(pages.replace_at(*id, *at, content(*id, *change + 1), &pages.pin())));
            *change += 1;
        }
        check(&pages, &expected);
        assert!(disk.used() <= CAPACITY);
    }
    println!("{full:?} pages when it was full, on {} bytes of {CAPACITY}", disk.used());
    within_reason(&pages, || done(pages.flush()));
    pages.check_accounts().unwrap();
    pages.close().unwrap();
    let pages = start(&disk, background, cap);
    check(&pages, &expected);
    pages.check_accounts().unwrap();
}

/// Half of the pages, the older ones: segments are empty after that.
fn older(nth: usize, of: usize, _: usize) -> bool {
    nth < of / 2
}

/// No segment is empty after that: room is made by moving what is left, which takes room.
fn every_second(nth: usize, _: usize, round: usize) -> bool {
    nth % 2 == round % 2
}

/// A store that was told how large its disk is has kept what it takes to make room.
#[test]
fn below_a_cap_as_large_as_the_disk_frees_give_room_for_updates() {
    for background in [Background::Caller, Background::Threads] {
        fill_and_free(background, Some(CAPACITY), older);
        fill_and_free(background, Some(CAPACITY), every_second);
    }
}

/// A store that was told nothing asks how much room there is.
#[test]
fn without_a_cap_frees_give_room_for_updates() {
    for background in [Background::Caller, Background::Threads] {
        fill_and_free(background, None, older);
        fill_and_free(background, None, every_second);
    }
}
