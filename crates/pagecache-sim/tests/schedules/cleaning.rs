//! Cleaning that meets updates, reads, evictions, checkpoints, a crash and a close. Whatever the schedule, a page that is moved is
//! what it was, nobody's update or read fails because of a move, and nothing is given back that is needed.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use pagecache::{Background, Error, Lsn, PageId, PageState, Version};
use pagecache_sim::disk::{SimDisk, Survival};
use pagecache_sim::linear::player::Words;
use pagecache_sim::page_driver::{CAPACITY, SEGMENT};
use shuttle::thread::JoinHandle;

use crate::checkpoints::{
    Author, CHECKPOINT_DUE, Past, ROOMY, WIDE, by_the_whole_log, compare, find, newest, note, placed, survival,
};
use crate::harness::{Store, chosen, count, join, made, options, scenarios};

/// Segments that each life of a store leaves behind with little in them.
const SPARSE: u64 = 3;

/// One large page, and two small ones for each of these segments.
const PAGES: u64 = 1 + 2 * SPARSE;

/// Words of a page that is longer than one record may be: half a segment.
const LONG: usize = SEGMENT as usize / 16;

/// Replaces a page, whatever it is.
pub fn renew(author: &Author<'_>, id: PageId, words: Vec<u64>) -> Version {
    author.replace(id, author.newest(id).0, words)
}

/// Fills segments of the log with a large page that is replaced again and again, and two small ones in each.
fn fill(author: &Author<'_>, wide: usize) {
    let tail = || author.store.pages.stats().tail;
    let large = PageId(0);
    if author.store.pages.stats().ids_high_water == 0 {
        (0..PAGES).for_each(|word| assert!(author.make(vec![word]) < PageId(PAGES)));
    }
    for round in 0..SPARSE {
        let end = Lsn((tail().0 / SEGMENT + 1) * SEGMENT);
        for small in [1 + 2 * round, 2 + 2 * round].map(PageId) {
            renew(author, small, vec![10 + round]);
        }
        // With records in several segments.
        author.link(PageId(1), 20 + round);
        while tail() < end {
            renew(author, large, vec![round; wide]);
        }
    }
    author.store.pages.flush().unwrap();
    author.store.pages.checkpoint().unwrap();
}

/// What a store has behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lives {
    /// One life: its sparse segments are of the log.
    One,
    /// Three, with cleaning: some are of images too, and the begin of the log is given back.
    Three,
    /// One, and the log behind its checkpoint is nearly as long as it may be.
    LongLog,
}

/// A store with sparse segments below the redo point.
fn sparse(lives: Lives) -> (SimDisk, Past) {
    static ONE: OnceLock<(SimDisk, Past)> = OnceLock::new();
    static THREE: OnceLock<(SimDisk, Past)> = OnceLock::new();
    static LONG_LOG: OnceLock<(SimDisk, Past)> = OnceLock::new();
    let place = match lives {
        Lives::One => &ONE,
        Lives::Three => &THREE,
        Lives::LongLog => &LONG_LOG,
    };
    made(place, move |disk| {
        let past = Mutex::default();
        for life in 0..if lives == Lives::Three { 3 } else { 1 } {
            // A store that starts begins segments of its own, for images too.
            let store = Store::start(disk);
            let author = Author { store: &store, past: &past };
            if life > 0 {
                assert!(store.pages.clean().unwrap() > 0);
            }
            fill(&author, WIDE);
            let due = Lsn(store.pages.stats().redo.0 + CHECKPOINT_DUE - (16 << 10));
            while lives == Lives::LongLog && store.pages.stats().tail < due {
                renew(&author, PageId(0), vec![SPARSE; WIDE]);
            }
        }
        let mut past: Past = past.into_inner().unwrap();
        // A store that was closed has the newest of each page.
        for versions in past.values_mut() {
            let (at, _) = versions.last_key_value().unwrap();
            *versions = versions.clone().split_off(at);
        }
        past
    })
}

/// A store with something to clean, and what its pages are. Its whole log is there, or not any more.
pub struct Game {
    pub disk: SimDisk,
    pub store: Arc<Store>,
    pub past: Arc<Mutex<Past>>,
    segments: BTreeSet<String>,
}

impl Game {
    fn new(capacity: u64) -> Game {
        let (disk, past) = sparse([Lives::One, Lives::Three][chosen(2) as usize]);
        let store = Store::with(options(&disk).cache_capacity(capacity), &disk);
        let segments = segments(&disk);
        Game { disk, store, past: Arc::new(Mutex::new(past)), segments }
    }

    /// One whose sparse segments are written in this life.
    pub fn filled(disk: SimDisk, store: Arc<Store>) -> Game {
        let past = Mutex::default();
        fill(&Author { store: &store, past: &past }, LONG);
        let segments = segments(&disk);
        Game { disk, store, past: Arc::new(past), segments }
    }

    /// Moves pages, on a thread of its own. How many.
    fn clean(&self) -> JoinHandle<u64> {
        self.store.spawn(|store, _| store.pages.clean().unwrap())
    }

    /// Writes to two pages that nobody else writes to.
    pub fn writer(&self, own: [u64; 2], name: u64) -> JoinHandle<()> {
        let past = Arc::clone(&self.past);
        self.store.spawn(move |store, _| {
            let mut own = own.map(PageId);
            let author = Author { store, past: &past };
            (0..3).for_each(|turn| author.update(&mut own, name * 10 + turn));
        })
    }

    /// Stops the machine at some moment. What was stable then, whether anything had been given back, and the image.
    pub fn crash(&self, moments: u64) -> JoinHandle<(Lsn, bool, SimDisk)> {
        let (survival, moment, begun) = (survival(), chosen(moments), self.segments.clone());
        self.store.spawn(move |store, _| {
            for _ in 0..moment {
                shuttle::thread::sleep(Duration::ZERO);
            }
            let names = segments(&store.disk);
            let is_on_its_way = names.difference(&begun).next().is_some() && begun.difference(&names).next().is_none();
            (store.pages.stable_lsn(), is_on_its_way, store.disk.crash(survival))
        })
    }

    fn count_given_back(&self) {
        let left = segments(&self.disk);
        count("segments that were given back", self.segments.difference(&left).count() as u64);
    }

    /// All are done: each page is what it should be, and the accounts are right. Then the machine stops.
    pub fn end(self) {
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
pub fn check(image: &SimDisk, stable: Lsn, past: &Past) -> Arc<Store> {
    let (store, _) = compare(image, stable, past, by_the_whole_log(image).as_ref());
    store.pages.check_accounts().unwrap();
    store
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

/// The same, and the machine stops at any moment.
fn cleaning_is_cut_short_at_any_moment() {
    let game = Game::new(ROOMY);
    let writers = [([1, 5], 100), ([2, 6], 200)].map(|(own, name)| game.writer(own, name));
    let cleaner = game.clean();
    let crash = game.crash(200);
    let checkpoint = game.store.spawn(|store, _| store.pages.checkpoint().unwrap());
    join(writers);
    let moved = cleaner.join().unwrap();
    checkpoint.join().unwrap();
    let (stable, begun, image) = crash.join().unwrap();
    count("images with new segments and none given back", (begun && moved > 0).into());
    check(&image, stable, &game.past.lock().unwrap());
}

/// Checkpoints are written by another thread in the middle of a move: segments with images on their way stay.
fn checkpoints_meet_cleaning() {
    let game = Game::new(ROOMY);
    let writer = game.writer([1, 2], 100);
    // Not an atomic of the kit's door: nobody is switched away by looking.
    let ended = Arc::new(AtomicBool::new(false));
    let over = Arc::clone(&ended);
    let checkpoints = game.store.spawn(move |store, _| {
        let checkpoints = [(); 2].map(|()| {
            store.pages.checkpoint().unwrap();
            u64::from(!ended.load(Ordering::SeqCst))
        });
        checkpoints.into_iter().sum::<u64>()
    });
    let cleaner = game.store.spawn(move |store, _| {
        let moved = store.pages.clean().unwrap();
        over.store(true, Ordering::SeqCst);
        moved
    });
    writer.join().unwrap();
    count("checkpoints that ended before the move", checkpoints.join().unwrap());
    count("pages that were moved", cleaner.join().unwrap());
    game.end();
}

/// Who reads holds addresses of pages that are moved, in segments that are given back: each read finds the page.
fn readers_hold_addresses_that_are_given_back() {
    let game = Game::new(CAPACITY);
    let expected = game.past.lock().unwrap().clone();
    // Not an atomic of the kit's door: nobody is switched away by looking.
    let given_back = Arc::new(AtomicBool::new(false));
    let readers = [[1, 3, 1], [3, 4, 5]].map(|ids| {
        let (expected, given_back) = (expected.clone(), Arc::clone(&given_back));
        game.store.spawn(move |store, local| {
            let mut met = 0;
            for id in ids.map(PageId) {
                let before = given_back.load(Ordering::SeqCst);
                let (at, words) = newest(&expected, id);
                match chosen(3) {
                    0 => assert_eq!(store.pages.state(id, &local.pin()).unwrap(), PageState::Live(at), "{id}"),
                    _ => assert_eq!(store.read(id, local), (at, words), "{id}"),
                }
                met += u64::from(!before && given_back.load(Ordering::SeqCst));
            }
            met
        })
    });
    let cleaner = game.store.spawn(move |store, _| {
        let moved = store.pages.clean().unwrap();
        given_back.store(true, Ordering::SeqCst);
        moved
    });
    let met: u64 = join(readers).into_iter().sum();
    count("reads that segments were given back under", met);
    count("pages that were moved", cleaner.join().unwrap());
    game.end();
}

/// Pages come in and go, and are folded, while they are moved.
fn cleaning_meets_page_ins_and_evictions() {
    let game = Game::new(CAPACITY);
    let expected = game.past.lock().unwrap().clone();
    // In memory when the move begins.
    let local = game.store.local();
    for id in [3, 4].map(PageId) {
        assert_eq!(game.store.read(id, &local), newest(&expected, id));
    }
    drop(local);
    let reader = game.store.spawn(move |store, local| {
        for id in [2, 3, 4, 3].map(PageId) {
            assert_eq!(store.read(id, local), newest(&expected, id), "{id}");
        }
    });
    let writer = game.writer([1, 5], 100);
    let cleaner = game.clean();
    join([reader, writer]);
    count("pages that were moved", cleaner.join().unwrap());
    count("reads of pages and leaves", game.store.page_ins());
    game.end();
}

/// The process dies at some call of the disk, in the middle of a move or beside it.
fn a_process_dies_at_any_call_of_cleaning() {
    let game = Game::new(ROOMY);
    game.disk.crash_at(game.disk.io_count() + chosen(60));
    let past = Arc::clone(&game.past);
    let writer = game.store.spawn(move |store, local| {
        for turn in 0..3 {
            let id = PageId(1 + chosen(2));
            let (at, mut words) = newest(&past.lock().unwrap(), id);
            words.push(turn);
            // Who is refused has changed nothing.
            if let Ok(made) = store.pages.link_at(id, at, Words(vec![turn]), &local.pin()) {
                note(&mut past.lock().unwrap(), id, made, Some(words));
            }
        }
    });
    let cleaner = game.store.spawn(|store, _| match store.pages.clean() {
        Ok(_) => (0, 1),
        Err(Error::Io { .. } | Error::Poisoned { .. }) => (1, 0),
        Err(error) => panic!("{error}"),
    });
    writer.join().unwrap();
    let (cut_short, ended) = cleaner.join().unwrap();
    count("moves that were cut short", cut_short);
    count("moves that ended", ended);
    let stable = game.store.pages.stable_lsn();
    let image = game.disk.crash(survival());
    drop(game.store);
    check(&image, stable, &game.past.lock().unwrap());
}

/// The last of the writers closes the store, whatever the thread that writes checkpoints and cleans is doing.
fn a_close_meets_cleaning_of_the_background() {
    let (disk, past) = sparse(Lives::LongLog);
    let begun = segments(&disk);
    let threads = options(&disk).cache_capacity(ROOMY).background(Background::Threads);
    let store = Store::with(threads.flush_every_ms(1).log_limit(2 * CHECKPOINT_DUE), &disk);
    let past = Arc::new(Mutex::new(past));
    let given_back = move |disk: &SimDisk| begun.difference(&segments(disk)).next().is_some();
    let writers = [1, 5].map(|id| {
        let (past, given_back) = (Arc::clone(&past), given_back.clone());
        store.spawn(move |store, _| {
            let author = Author { store, past: &past };
            for turn in 0..3 {
                renew(&author, PageId(id), vec![100 * id + turn; WIDE]);
            }
            (store.pages.stats().checkpoints > 0, given_back(&store.disk))
        })
    });
    drop(store);
    // What the last of them saw.
    let before = join(writers).into_iter().max().unwrap();
    let again = check(&disk.crash(Survival::DropAll), Lsn(u64::MAX), &past.lock().unwrap());
    assert!(again.pages.stats().clean_start);
    count("cleaning that ended before the close began", before.1.into());
    count("cleaning that a close met", (before == (true, false) && given_back(&disk)).into());
}

/// The log goes on for so long that what its first segment holds is counted elsewhere from then on: whenever a checkpoint looks, it is
/// in use.
fn counts_move_on_beside_a_checkpoint() {
    let disk = SimDisk::new(0);
    let (store, past) = (Store::with(options(&disk).cache_capacity(ROOMY), &disk), Arc::new(Mutex::default()));
    let author = Author { store: &store, past: &past };
    let (small, large) = (author.make(vec![1]), author.make(vec![2]));
    let tail = || store.pages.stats().tail;
    // No pieces of longer ones: these keep their segments.
    while tail() < Lsn(SEGMENT) {
        renew(&author, large, vec![2; WIDE]);
    }
    while tail() < Lsn(5 * SEGMENT / 2) {
        renew(&author, large, vec![2; LONG]);
    }
    store.pages.flush().unwrap();
    let begun = segments(&disk).len() as u64;
    let writer = {
        let past = Arc::clone(&past);
        store.spawn(move |store, _| {
            let author = Author { store, past: &past };
            for _ in 0..3 {
                renew(&author, large, vec![3; LONG]);
            }
        })
    };
    store.pages.checkpoint().unwrap();
    let met = segments(&disk).len() as u64 - begun;
    writer.join().unwrap();
    count("segments that were born beside checkpoints", met);
    assert_eq!(store.read(small, &store.local()).1, [1]);
    store.pages.check_accounts().unwrap();
}

/// A page is written in pieces, of which the first ends a segment that holds nothing else: it stays, though a checkpoint begins before
/// anything names the piece.
fn pieces_keep_their_segment_beside_a_checkpoint() {
    let disk = SimDisk::new(0);
    let (store, past) = (Store::with(options(&disk).cache_capacity(ROOMY), &disk), Arc::new(Mutex::default()));
    let author = Author { store: &store, past: &past };
    let (long, large) = (author.make(vec![1]), author.make(vec![2]));
    while store.pages.stats().tail < Lsn(2 * SEGMENT - (12 << 10)) {
        renew(&author, large, vec![2; WIDE]);
    }
    let writer = {
        let past = Arc::clone(&past);
        store.spawn(move |store, _| renew(&Author { store, past: &past }, long, vec![3; LONG]))
    };
    for _ in 0..3 {
        renew(&author, large, vec![4; WIDE]);
    }
    store.pages.flush().unwrap();
    let before = past.lock().unwrap()[&long].len();
    store.pages.checkpoint().unwrap();
    count("checkpoints before the page was written", u64::from(before == 1));
    writer.join().unwrap();
    let stable = store.pages.flush().unwrap();
    let image = disk.crash(survival());
    drop(store);
    check(&image, stable, &past.lock().unwrap());
}

scenarios! {
    counts_move_on_beside_a_checkpoint,
    pieces_keep_their_segment_beside_a_checkpoint,
    cleaning_meets_updates,
    cleaning_is_cut_short_at_any_moment,
    checkpoints_meet_cleaning,
    readers_hold_addresses_that_are_given_back,
    cleaning_meets_page_ins_and_evictions,
    a_process_dies_at_any_call_of_cleaning,
    a_close_meets_cleaning_of_the_background,
}
