//! What cleaning promises to those who call for it: what others do meanwhile is no failure of its own.
#![cfg(not(any(loom, shuttle)))]

mod common;

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex};

use common::{Bytes, Joined};
use pagecache::inspect::verify;
use pagecache::storage::{LockGuard, LockMode, MemoryStorage, OpenMode, Storage, StorageFile, read_full, write_all};
use pagecache::{Background, ConfigBuilder, Error, PageCache, PageId, Version, version};

type Pages = PageCache<Joined>;

/// What happens once, right before a segment is opened or named.
type Before = Arc<Mutex<Option<Box<dyn FnOnce() + Send>>>>;

/// Memory, with something that happens in the middle.
#[derive(Clone, Default)]
struct Interrupted {
    memory: MemoryStorage,
    before_open: Before,
    before_name: Before,
}

impl Interrupted {
    fn interrupt(before: &Before, name: &str) {
        let before = before.lock().unwrap().take_if(|_| name.starts_with("seg-"));
        if let Some(before) = before {
            before();
        }
    }
}

impl fmt::Debug for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.memory.fmt(f)
    }
}

impl Storage for Interrupted {
    fn open(&self, name: &str, mode: OpenMode) -> io::Result<Arc<dyn StorageFile>> {
        Interrupted::interrupt(&self.before_open, name);
        self.memory.open(name, mode)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        Interrupted::interrupt(&self.before_name, to);
        self.memory.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.memory.remove(name)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.memory.list()
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.memory.sync_dir()
    }

    fn lock(&self, mode: LockMode) -> io::Result<Box<dyn LockGuard>> {
        self.memory.lock(mode)
    }

    fn describe(&self) -> String {
        self.memory.describe()
    }
}

/// A page: its version and what is in it.
type Found = (PageId, Version, Vec<u8>);

/// All files as they are.
fn copy(from: &MemoryStorage) -> MemoryStorage {
    let to = MemoryStorage::new();
    for name in from.list().unwrap() {
        let file = from.open(&name, OpenMode::ReadOnly).unwrap();
        let mut bytes = vec![0; file.len().unwrap() as usize];
        read_full(file.as_ref(), &mut bytes, 0).unwrap();
        write_all(to.open(&name, OpenMode::CreateNew).unwrap().as_ref(), &bytes, 0).unwrap();
    }
    to
}

/// A hundred pages of 3,000 bytes, of which so many of each twenty are left, one segment about; behind a checkpoint.
fn sparse(pc: &Pages, of_twenty: u64) -> Vec<(PageId, Version)> {
    let guard = pc.pin();
    let pages: Vec<(PageId, Version)> = (0..100)
        .map(|byte| {
            let id = pc.allocate(&guard);
            (id, pc.replace_at(id, Version::NONE, Bytes(vec![byte; 3000]), &guard).unwrap())
        })
        .collect();
    let (left, gone): (Vec<_>, Vec<_>) = pages.into_iter().partition(|(id, _)| id.0 % 20 < of_twenty);
    for (id, at) in gone {
        pc.free_at(id, at, &guard).unwrap();
    }
    drop(guard);
    pc.flush().unwrap();
    pc.checkpoint().unwrap();
    left
}

#[test]
fn a_segment_that_is_given_back_before_it_is_walked_is_no_failure() {
    let storage = Interrupted::default();
    let config = || ConfigBuilder::new().segment_size(64 << 10).background(Background::Caller).storage(storage.clone());
    let pc = Pages::start(config().build()).unwrap();
    let left = sparse(&pc, 1);
    pc.close().unwrap();

    // Which segments are there is known by the checkpoint, and none of them is open.
    let pc = Arc::new(Pages::start(config().build()).unwrap());
    for (id, _) in &left {
        pc.state(*id, &pc.pin()).unwrap();
    }
    let (other, ids) = (Arc::clone(&pc), left.clone());
    let happened = Arc::new(Mutex::new(false));
    let happens = Arc::clone(&happened);
    *storage.before_open.lock().unwrap() = Some(Box::new(move || {
        for (id, at) in ids {
            other.replace_at(id, at, Bytes(vec![1]), &other.pin()).unwrap();
        }
        other.flush().unwrap();
        let segments = other.stats().segments;
        other.checkpoint().unwrap();
        *happens.lock().unwrap() = other.stats().segments < segments;
    }));
    assert_eq!(pc.clean().unwrap(), 0, "what was to be moved has been replaced");
    assert!(*happened.lock().unwrap(), "nothing was given back meanwhile");
    for (id, at) in left {
        let guard = pc.pin();
        let (page, token) = pc.get(id, &guard).unwrap();
        assert_eq!((&page.0, version(token) > at), (&vec![1], true), "{id}");
    }
    pc.check_accounts().unwrap();
}

/// Pages that are linked to all the time were never moved: each had changed by the time its image was written, and their segments stayed.
#[test]
fn a_page_that_changes_between_its_copy_and_its_move_is_moved_with_what_came_since() {
    let storage = Interrupted::default();
    let config = || ConfigBuilder::new().segment_size(64 << 10).background(Background::Caller).storage(storage.clone());
    let pc = Arc::new(Pages::start(config().build()).unwrap());
    let left = sparse(&pc, 4);

    // A fourth each is linked to; linked to and merged; linked to until it is folded and its links are durable; replaced.
    let (other, ids) = (Arc::clone(&pc), left.clone());
    let changed: Arc<Mutex<Vec<Found>>> = Arc::default();
    let changes = Arc::clone(&changed);
    *storage.before_name.lock().unwrap() = Some(Box::new(move || {
        for (id, mut at) in ids {
            let guard = other.pin();
            let mut content = vec![id.0 as u8; 3000];
            match id.0 % 4 {
                3 => {
                    content = vec![1];
                    at = other.replace_at(id, at, Bytes(vec![1]), &guard).unwrap();
                }
                kind => {
                    for link in 0..[1, 2, 9][kind as usize] {
                        content.push(link);
                        at = other.link_at(id, at, Bytes(vec![link]), &guard).unwrap();
                    }
                    if kind == 1 {
                        other.get(id, &guard).unwrap();
                    }
                }
            }
            changes.lock().unwrap().push((id, at, content));
        }
    }));
    let before = pc.stats();
    assert_eq!(pc.clean().unwrap(), left.len() as u64 * 3 / 4, "what was replaced is dead, and all else is moved");
    let changed = changed.lock().unwrap().clone();
    assert_eq!(changed.len(), left.len());
    assert!(pc.stats().segments < before.segments, "they left their segments");
    let check = |pc: &Pages| {
        for (id, at, content) in &changed {
            let guard = pc.pin();
            let (page, token) = pc.get(*id, &guard).unwrap();
            assert_eq!((&page.0, version(token)), (content, *at), "{id}");
        }
        pc.check_accounts().unwrap();
    };
    check(&pc);
    // From the disk, by the map and by the log.
    pc.flush().unwrap();
    let copied = ConfigBuilder::new().segment_size(64 << 10).read_only(true).storage(copy(&storage.memory));
    check(&Pages::start(copied.build()).unwrap());
    pc.checkpoint().unwrap();
    Arc::into_inner(pc).unwrap().close().unwrap();
    check(&Pages::start(config().build()).unwrap());
}

/// An image may hold what is not stable in the log yet: pages that change all the time are moved as well as any other, and their segments given back.
#[test]
fn a_page_whose_links_are_not_stable_is_moved_all_the_same() {
    let storage = MemoryStorage::new();
    let config = || ConfigBuilder::new().segment_size(64 << 10).flush_every_ms(None).background(Background::Caller);
    let pc = Pages::start(config().storage(storage.clone()).build()).unwrap();
    let left = sparse(&pc, 1);
    let before = pc.stats().data_segments;
    let guard = pc.pin();
    for (id, at) in &left {
        pc.link_at(*id, *at, Bytes(vec![1]), &guard).unwrap();
        // Merged in memory, so that what is stable of it is not to be told apart.
        pc.get(*id, &guard).unwrap();
    }
    drop(guard);
    assert_eq!(pc.clean().unwrap(), left.len() as u64);
    assert!(pc.stats().data_segments < before / 2, "{} of {before}", pc.stats().data_segments);
    let check = |pc: &Pages| {
        for (id, _) in &left {
            let guard = pc.pin();
            let (page, _) = pc.get(*id, &guard).unwrap();
            assert_eq!((page.0.len(), page.0.last()), (3001, Some(&1)), "{id}");
        }
        pc.check_accounts().unwrap();
    };
    check(&pc);
    // By the checkpoint that ended the turn, which names only what is stable.
    let crashed = copy(&storage);
    drop(pc);
    check(&Pages::start(config().storage(crashed).build()).unwrap());
}

/// The process dies when images are synced and the log is not: they are in a segment that the last checkpoint knows, and ahead of the log. Nobody names them.
#[test]
fn a_crash_with_images_that_are_ahead_of_the_log_leaves_a_sound_store() {
    let storage = Interrupted::default();
    let config = || ConfigBuilder::new().segment_size(64 << 10).flush_every_ms(None).background(Background::Caller);
    let pc = Pages::start(config().storage(storage.clone()).build()).unwrap();
    let first = sparse(&pc, 1);
    assert_eq!(pc.clean().unwrap(), first.len() as u64, "the segment of images is begun, and named by a checkpoint");
    let second = sparse(&pc, 5);
    let guard = pc.pin();
    for (id, at) in &second {
        pc.link_at(*id, *at, Bytes(vec![1]), &guard).unwrap();
    }
    drop(guard);
    let crashed: Arc<Mutex<Option<MemoryStorage>>> = Arc::default();
    let (keep, memory) = (Arc::clone(&crashed), storage.memory.clone());
    *storage.before_name.lock().unwrap() = Some(Box::new(move || *keep.lock().unwrap() = Some(copy(&memory))));
    assert!(pc.clean().unwrap() > 0);
    let crashed = crashed.lock().unwrap().take().expect("more images than have room in the first segment");
    let report = verify(config().storage(crashed.clone()).build()).unwrap();
    assert!(report.problems.is_empty(), "{:#?}", report.problems);
    let again = Pages::start(config().storage(crashed).build()).unwrap();
    for (ids, len) in [(&first, 3000), (&second, 3000)] {
        for (id, _) in ids {
            let guard = again.pin();
            assert_eq!(again.get(*id, &guard).unwrap().0.0.len(), len, "the links were lost with the log");
        }
    }
    again.check_accounts().unwrap();
}

/// A checkpoint between the number of a segment of images and its name does not know it, and has a higher number for the next one. With its headers damaged it was
/// taken for what a checkpoint had given back, and removed.
#[test]
fn images_without_a_header_are_not_removed_where_the_log_has_moved_pages_to_them() {
    for linked in [true, false] {
        let storage = Interrupted::default();
        let config = || ConfigBuilder::new().segment_size(64 << 10).flush_every_ms(None).background(Background::Caller);
        let pc = Arc::new(Pages::start(config().storage(storage.clone()).build()).unwrap());
        let left = sparse(&pc, 1);
        let guard = pc.pin();
        for (id, at) in left.iter().filter(|_| linked) {
            pc.link_at(*id, *at, Bytes(vec![1]), &guard).unwrap();
        }
        // Or there would be nothing for a checkpoint.
        pc.replace_at(pc.allocate(&guard), Version::NONE, Bytes(vec![2; 10]), &guard).unwrap();
        drop(guard);
        let before = storage.memory.list().unwrap();
        let other = Arc::clone(&pc);
        *storage.before_name.lock().unwrap() = Some(Box::new(move || {
            other.checkpoint().unwrap();
        }));
        assert_eq!(pc.clean().unwrap(), left.len() as u64);
        pc.flush().unwrap();
        let is_of_images = |name: &String| {
            let file = storage.memory.open(name, OpenMode::ReadOnly).unwrap();
            let mut header = [0; 14];
            name.starts_with("seg-")
                && read_full(file.as_ref(), &mut header, 0).unwrap() == 14
                && matches!(header[13], 1 | 2)
        };
        let made: Vec<String> = storage.memory.list().unwrap();
        let made: Vec<String> = made.into_iter().filter(|name| !before.contains(name) && is_of_images(name)).collect();
        assert_eq!(made.len(), 1, "{made:?}");
        let crashed = copy(&storage.memory);
        let file = crashed.open(&made[0], OpenMode::ReadWrite).unwrap();
        for at in [0, (64 << 10) - 4096] {
            write_all(file.as_ref(), &[0xa5; 64], at).unwrap();
        }
        for _ in 0..2 {
            match Pages::start(config().storage(crashed.clone()).build()) {
                Err(Error::Corrupt(at)) => assert_eq!((at.what, linked), ("a segment is missing", true)),
                Err(other) => panic!("{other}"),
                Ok(pc) => {
                    assert!(!linked, "the log says where these pages are");
                    for (id, _) in &left {
                        assert!(pc.get(*id, &pc.pin()).unwrap_err().is_corrupt(), "{id}");
                    }
                }
            }
            assert!(crashed.list().unwrap().contains(&made[0]), "what is in it can be saved");
        }
    }
}
