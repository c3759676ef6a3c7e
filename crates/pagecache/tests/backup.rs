//! Copies of a store that is in use, made under a pin of its files.
#![cfg(not(loom))]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use pagecache::inspect::verify;
use pagecache::{ConfigBuilder, Create, Fragment, Materializer, PageBytes, PageCache, PageId, Version};

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

struct Newest;

impl Materializer for Newest {
    type PageFrag = Bytes;
    type Recovery = ();
    const RECOVERS: bool = false;
    fn new(_: &Option<()>) -> Self {
        Newest
    }
    fn merge(&self, frags: &[&Bytes]) -> Bytes {
        Bytes(frags.last().unwrap().0.clone())
    }
    fn recover(&self, _: &Bytes) -> Option<()> {
        None
    }
}

type Pages = PageCache<Newest>;

fn config(path: &Path) -> ConfigBuilder {
    ConfigBuilder::new().path(path).segment_size(64 << 10).log_limit(256 << 10).cache_capacity(1 << 20)
}

/// A page's content: its number, how often it was changed, and a filling.
fn content(id: PageId, change: u64) -> Bytes {
    let filling = (0..1000u64).map(|at| (id.0 ^ change << 3 ^ at) as u8);
    Bytes([id.0, change].into_iter().flat_map(u64::to_le_bytes).chain(filling).collect())
}

/// How often the page was changed.
fn change(id: PageId, page: &Bytes) -> u64 {
    let change = u64::from_le_bytes(page.0[8..16].try_into().unwrap());
    assert_eq!(*page, content(id, change), "{id} is something that it never was");
    change
}

/// How files are brought over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Copy,
    Link,
}

fn back_up(from: &Path, to: &Path, by: By) {
    fs::create_dir(to).unwrap();
    for name in ["LOCK", "super-a", "super-b"] {
        if from.join(name).exists() {
            fs::copy(from.join(name), to.join(name)).unwrap();
        }
    }
    let names = fs::read_dir(from).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| name.starts_with("seg-")).collect();
    names.sort_unstable();
    for name in names.iter().rev() {
        match by {
            By::Copy => drop(fs::copy(from.join(name), to.join(name)).unwrap()),
            By::Link => fs::hard_link(from.join(name), to.join(name)).unwrap(),
        }
    }
}

fn check(backup: &Path, at_least: &BTreeMap<PageId, u64>) {
    let report = verify(config(backup).build()).unwrap();
    assert!(report.is_sound(), "{:#?}", report.problems);
    let pages = Pages::start(config(backup).create(Create::Existing).build()).unwrap();
    let guard = pages.pin();
    for (id, least) in at_least {
        let (page, _) = pages.get(*id, &guard).unwrap();
        let found = change(*id, &page);
        assert!(found >= *least, "{id}: change {found}, and {least} was durable when the copy began");
    }
    drop(guard);
    pages.check_accounts().unwrap();
}

#[test]
fn a_copy_made_under_a_pin_opens_with_all_that_was_durable_when_it_began() {
    for by in [By::Copy, By::Link] {
        let dir: PathBuf = std::env::temp_dir().join(format!("pagecache-backup-{}-{by:?}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir(&dir).unwrap();
        let store = dir.join("store");
        let pages = Pages::start(config(&store).build()).unwrap();
        let mut at: Vec<(PageId, Version, u64)> = (0..500)
            .map(|_| {
                let guard = pages.pin();
                let id = pages.allocate(&guard);
                (id, pages.replace_at(id, Version::NONE, content(id, 0), &guard).unwrap(), 0)
            })
            .collect();
        let done = AtomicBool::new(false);
        let backups = std::thread::scope(|scope| {
            let (done, pages, dir, store) = (&done, &pages, &dir, &store);
            let copies = scope.spawn(move || {
                let mut backups = Vec::new();
                for number in 0..6 {
                    std::thread::sleep(std::time::Duration::from_millis(60));
                    let pin = pages.pin_files();
                    let mut least = BTreeMap::new();
                    for id in (0..500).map(PageId) {
                        let guard = pages.pin();
                        least.insert(id, change(id, &pages.get(id, &guard).unwrap().0));
                    }
                    pages.flush().unwrap();
                    let to = dir.join(format!("backup-{number}"));
                    back_up(store, &to, by);
                    drop(pin);
                    backups.push((to, least));
                }
                done.store(true, Ordering::Relaxed);
                backups
            });
            let mut seed = 11u64;
            while !done.load(Ordering::Relaxed) {
                seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                let (id, version, change) = &mut at[(seed >> 33) as usize % 500];
                *change += 1;
                let guard = pages.pin();
                *version = pages.replace_at(*id, *version, content(*id, *change), &guard).unwrap();
            }
            // Until what the last backup has linked was given back, and more.
            for _ in 0..4 {
                for (id, version, change) in &mut at {
                    *change += 1;
                    let guard = pages.pin();
                    *version = pages.replace_at(*id, *version, content(*id, *change), &guard).unwrap();
                }
                pages.checkpoint().unwrap();
                pages.clean().unwrap();
            }
            copies.join().unwrap()
        });
        let left: Vec<_> = fs::read_dir(&store).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(left.len() < 60, "what was pinned is still there: {left:?}");
        for (backup, least) in &backups {
            check(backup, least);
        }
        println!(
            "{by:?}: {} backups of a store with {} changes",
            backups.len(),
            at.iter().map(|page| page.2).sum::<u64>()
        );
        pages.close().unwrap();
        fs::remove_dir_all(&dir).unwrap();
    }
}

/// Links stay what they were in the lives of the store after that in which they were made.
#[test]
fn links_made_under_a_pin_stay_a_backup_when_the_store_is_opened_again() {
    let dir: PathBuf = std::env::temp_dir().join(format!("pagecache-links-{}", std::process::id()));
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir(&dir).unwrap();
    let (store, backup) = (dir.join("store"), dir.join("backup"));
    let pages = Pages::start(config(&store).background(pagecache::Background::Caller).build()).unwrap();
    let mut at: Vec<(PageId, Version, u64)> = Vec::new();
    let write = |pages: &Pages, at: &mut Vec<(PageId, Version, u64)>, every: usize| {
        let guard = pages.pin();
        for (id, version, change) in at.iter_mut().step_by(every) {
            *change += 1;
            *version = pages.replace_at(*id, *version, content(*id, *change), &guard).unwrap();
        }
    };
    for _ in 0..500 {
        let guard = pages.pin();
        let id = pages.allocate(&guard);
        at.push((id, pages.replace_at(id, Version::NONE, content(id, 0), &guard).unwrap(), 0));
    }
    write(&pages, &mut at, 3);
    pages.flush().unwrap();
    pages.checkpoint().unwrap();
    let least: BTreeMap<PageId, u64> = at.iter().map(|(id, _, change)| (*id, *change)).collect();
    let pin = pages.pin_files();
    back_up(&store, &backup, By::Link);
    drop(pin);
    pages.close().unwrap();
    for _ in 0..3 {
        let pages = Pages::start(config(&store).background(pagecache::Background::Caller).build()).unwrap();
        while pages.clean().unwrap() > 0 {}
        write(&pages, &mut at, 1);
        pages.flush().unwrap();
        pages.checkpoint().unwrap();
        while pages.clean().unwrap() > 0 {}
        pages.close().unwrap();
    }
    check(&backup, &least);
    fs::remove_dir_all(&dir).unwrap();
}
