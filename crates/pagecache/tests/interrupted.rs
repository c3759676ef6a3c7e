//! What cleaning promises to those who call for it: what others do meanwhile is no failure of its own.
#![cfg(not(any(loom, shuttle)))]

mod common;

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex};

use common::{Bytes, Joined};
use pagecache::storage::{LockGuard, LockMode, MemoryStorage, OpenMode, Storage, StorageFile};
use pagecache::{Background, ConfigBuilder, PageCache, PageId, Version, version};

type Pages = PageCache<Joined>;

/// What happens once, right before a segment is opened.
type Before = Arc<Mutex<Option<Box<dyn FnOnce() + Send>>>>;

/// Memory, with something that happens in the middle.
#[derive(Clone, Default)]
struct Interrupted {
    memory: MemoryStorage,
    before: Before,
}

impl fmt::Debug for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.memory.fmt(f)
    }
}

impl Storage for Interrupted {
    fn open(&self, name: &str, mode: OpenMode) -> io::Result<Arc<dyn StorageFile>> {
        let before = self.before.lock().unwrap().take_if(|_| name.starts_with("seg-"));
        if let Some(before) = before {
            before();
        }
        self.memory.open(name, mode)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
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

#[test]
fn a_segment_that_is_given_back_before_it_is_walked_is_no_failure() {
    let storage = Interrupted::default();
    let config = || ConfigBuilder::new().segment_size(64 << 10).background(Background::Caller).storage(storage.clone());
    let pc = Pages::start(config().build()).unwrap();
    let guard = pc.pin();
    let pages: Vec<(PageId, Version)> = (0..100)
        .map(|byte| {
            let id = pc.allocate(&guard);
            (id, pc.replace_at(id, Version::NONE, Bytes(vec![byte; 3000]), &guard).unwrap())
        })
        .collect();
    // One page in each segment is left.
    let (left, gone): (Vec<_>, Vec<_>) = pages.into_iter().partition(|(id, _)| id.0 % 20 == 0);
    for (id, at) in gone {
        pc.free_at(id, at, &guard).unwrap();
    }
    drop(guard);
    pc.flush().unwrap();
    pc.checkpoint().unwrap();
    pc.close().unwrap();

    // Which segments are there is known by the checkpoint, and none of them is open.
    let pc = Arc::new(Pages::start(config().build()).unwrap());
    for (id, _) in &left {
        pc.state(*id, &pc.pin()).unwrap();
    }
    let (other, ids) = (Arc::clone(&pc), left.clone());
    let happened = Arc::new(Mutex::new(false));
    let happens = Arc::clone(&happened);
    *storage.before.lock().unwrap() = Some(Box::new(move || {
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
