//! Cleaning that meets updates, reads, evictions, checkpoints, a crash and a close. Whatever the schedule, a page that is moved is
//! what it was, nobody's update or read fails because of a move, and nothing is given back that is needed.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, OnceLock};

use pagecache::{Lsn, PageId};
use pagecache_sim::disk::SimDisk;
use pagecache_sim::page_driver::SEGMENT;
use shuttle::thread::JoinHandle;

use crate::checkpoints::{Author, Past, ROOMY, WIDE, by_the_whole_log, compare, find, placed, survival};
use crate::harness::{Store, chosen, count, join, made, options, scenarios};

/// Segments that each life of a store leaves behind with little in them.
const SPARSE: u64 = 3;

/// One large page, and two small ones for each of these segments.
const PAGES: u64 = 1 + 2 * SPARSE;

/// Fills segments of the log with a large page that is replaced again and again, and two small ones in each.
fn fill(author: &Author<'_>) {
    let tail = || author.store.pages.stats().tail;
    let large = PageId(0);
    if author.store.pages.stats().ids_high_water == 0 {
        (0..PAGES).for_each(|word| assert!(author.make(vec![word]) < PageId(PAGES)));
    }
    for round in 0..SPARSE {
        let end = Lsn((tail().0 / SEGMENT + 1) * SEGMENT);
        for small in [1 + 2 * round, 2 + 2 * round].map(PageId) {
            author.replace(small, author.newest(small).0, vec![10 + round]);
        }
        // With records in several segments.
        author.link(PageId(1), 20 + round);
        while tail() < end {
            author.replace(large, author.newest(large).0, vec![round; WIDE]);
        }
    }
    author.store.pages.flush().unwrap();
    author.store.pages.checkpoint().unwrap();
}

/// A store with sparse segments below the redo point: of the log alone, or of images too, by how many lives it had.
fn sparse(images: bool) -> (SimDisk, Past) {
    static LOG: OnceLock<(SimDisk, Past)> = OnceLock::new();
    static IMAGES: OnceLock<(SimDisk, Past)> = OnceLock::new();
    made(if images { &IMAGES } else { &LOG }, move |disk| {
        let past = Mutex::default();
        for life in 0..if images { 3 } else { 1 } {
            // A store that starts begins segments of its own, for images too.
            let store = Store::start(disk);
            if life > 0 {
                assert!(store.pages.clean().unwrap() > 0);
            }
            fill(&Author { store: &store, past: &past });
        }
        let mut past: Past = past.into_inner().unwrap();
        // All of it is stable: what the pages were before is of no use.
        for versions in past.values_mut() {
            let (at, _) = versions.last_key_value().unwrap();
            *versions = versions.clone().split_off(at);
        }
        past
    })
}

/// A store with something to clean, and what its pages are. Its whole log is there, or not any more.
struct Game {
    disk: SimDisk,
    store: Arc<Store>,
    past: Arc<Mutex<Past>>,
    segments: BTreeSet<String>,
}

impl Game {
    fn new(capacity: u64) -> Game {
        let (disk, past) = sparse(chosen(2) == 0);
        let store = Store::with(options(&disk).cache_capacity(capacity), &disk);
        let segments = segments(&disk);
        Game { disk, store, past: Arc::new(Mutex::new(past)), segments }
    }

    /// Moves pages, on a thread of its own. How many.
    fn clean(&self) -> JoinHandle<u64> {
        self.store.spawn(|store, _| store.pages.clean().unwrap())
    }

    /// Writes to two pages that nobody else writes to.
    fn writer(&self, own: [u64; 2], name: u64) -> JoinHandle<()> {
        let past = Arc::clone(&self.past);
        self.store.spawn(move |store, _| {
            let mut own = own.map(PageId);
            let author = Author { store, past: &past };
            (0..3).for_each(|turn| author.update(&mut own, name * 10 + turn));
        })
    }

    fn count_given_back(&self) {
        let left = segments(&self.disk);
        count("segments that were given back", self.segments.difference(&left).count() as u64);
    }

    /// All are done: each page is what it should be, and the accounts are right. Then the machine stops.
    fn end(self) {
        let past = self.past.lock().unwrap().clone();
        self.count_given_back();
        for (at, found) in find(&self.store).iter().enumerate() {
            let (id, now) = (PageId(at as u64), placed(Some(found)));
            let (version, content) = past[&id].last_key_value().unwrap();
            assert_eq!(now, (*version, content.clone()), "{id}");
        }
        self.store.pages.check_accounts().unwrap();
        if chosen(2) == 0 {
            self.store.pages.flush().unwrap();
        }
        let stable = self.store.pages.stable_lsn();
        let image = self.disk.crash(survival());
        drop(self.store);
        check(&image, stable, &past);
    }
}

fn segments(disk: &SimDisk) -> BTreeSet<String> {
    disk.file_names().into_iter().filter(|name| name.starts_with("seg-")).collect()
}

/// What is found in an image is what was there, and the accounts of the store that is opened are right.
fn check(image: &SimDisk, stable: Lsn, past: &Past) {
    let whole = by_the_whole_log(image);
    count("openings that the whole log is there for", whole.is_some().into());
    let store = compare(image, stable, past, whole.as_ref());
    store.pages.check_accounts().unwrap();
}

/// Pages are moved while two write to them, or free them.
fn cleaning_meets_updates() {
    let game = Game::new(ROOMY);
    let writers = [([1, 5], 100), ([2, 6], 200)].map(|(own, name)| game.writer(own, name));
    let cleaner = game.clean();
    join(writers);
    count("pages that were moved", cleaner.join().unwrap());
    game.end();
}

scenarios! {
    cleaning_meets_updates,
}
