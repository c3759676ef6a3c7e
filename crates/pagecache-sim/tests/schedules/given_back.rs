//! Segments that the log alone gives back, and whose files are written over by the next births, while others read, write, and write checkpoints.
//! Whatever the schedule, who holds an old address finds the page, and what a crash leaves is what the log says.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pagecache::inspect::verify;
use pagecache::{Lsn, PageId, PageState};
use pagecache_sim::disk::SimDisk;
use pagecache_sim::page_driver::{CAPACITY, SEGMENT};
use shuttle::thread::JoinHandle;

use crate::checkpoints::{Author, ROOMY, WIDE, newest, survival};
use crate::cleaning::{Game, check, renew};
use crate::harness::{Store, chosen, count, join, options, scenarios};

/// Bytes of log that are left in its segment: the next one is born behind two pages.
const LEFT: u64 = 8 << 10;

/// Moments until most of what is done at once is done.
const MOMENTS: u64 = 600;

/// What became of a turn of cleaning, and of the births behind it.
#[derive(Debug)]
struct Turn {
    moved: u64,
    /// Segments that went, where no checkpoint was written meanwhile.
    given_back: u64,
    /// Files of these that were kept, and are those of other segments by now.
    reused: u64,
    /// What was stable behind the turn, and what a crash leaves there; now and then.
    crashed: Option<(Lsn, SimDisk)>,
}

fn names(store: &Store, prefix: &str) -> BTreeSet<String> {
    let names = store.disk.file_names();
    names.iter().filter_map(|name| name.strip_prefix(prefix)).map(str::to_owned).collect()
}

/// Cleans, and writes on until the file of a segment that went is that of another one, where there is one.
fn clean_and_go_on(author: &Author<'_>, written_over: &AtomicBool) -> Turn {
    let store = author.store;
    let (segments, checkpoints) = (names(store, "seg-"), store.pages.stats().checkpoints);
    let moved = store.pages.clean().unwrap();
    let crashed = (chosen(2) == 0).then(|| (store.pages.stable_lsn(), store.disk.crash(survival())));
    let is_by_log = store.pages.stats().checkpoints == checkpoints;
    let gone = &segments - &names(store, "seg-");
    let kept = &names(store, "tmp-") & &gone;
    let until = store.pages.stats().tail.0 + SEGMENT;
    let reused = loop {
        let reused = &kept - &names(store, "tmp-");
        if !reused.is_empty() || store.pages.stats().tail.0 > until {
            break reused;
        }
        renew(author, PageId(0), vec![7; WIDE]);
    };
    written_over.store(!reused.is_empty(), Ordering::SeqCst);
    let given_back = if is_by_log { gone.len() as u64 } else { 0 };
    Turn { moved, given_back, reused: reused.len() as u64, crashed }
}

/// A store in which everything that is to be cleaned was written since its start, as was the segment that the log goes on in: there are no links to
/// any of it, so the log says what is moved and given back, and files are used again.
fn game(capacity: u64) -> Game {
    let disk = SimDisk::new(0);
    let store: Arc<Store> = Store::with(options(&disk).cache_capacity(capacity), &disk);
    let game = Game::filled(disk, store);
    let author = Author { store: &game.store, past: &game.past };
    while SEGMENT - game.store.pages.stats().tail.0 % SEGMENT > LEFT {
        renew(&author, PageId(0), vec![6; WIDE]);
    }
    game.store.pages.flush().unwrap();
    game
}

/// Cleans on a thread of its own. The flag is set once files were written over.
fn cleaner(game: &Game, written_over: &Arc<AtomicBool>) -> JoinHandle<Turn> {
    let (past, written_over) = (Arc::clone(&game.past), Arc::clone(written_over));
    game.store.spawn(move |store, _| clean_and_go_on(&Author { store, past: &past }, &written_over))
}

fn count_turn(turn: &Turn) {
    count("pages that were moved", turn.moved);
    count("segments that the log gave back", turn.given_back);
    count("files that were used again", turn.reused);
}

/// What the crashes have left is what was there, and sound, and says what was given back.
fn check_crashed(game: &Game, turn: Turn, crash: (Lsn, SimDisk)) {
    let past = game.past.lock().unwrap().clone();
    for (stable, image) in turn.crashed.into_iter().chain([crash]) {
        let as_found = image.kill();
        check(&image, stable, &past);
        let report = verify(options(&as_found).build()).unwrap();
        assert!(report.is_sound(), "{:?}", report.problems);
        count("records of moves", report.records.moves);
        count("records of segments given back", report.records.given_back);
    }
    game.store.pages.check_accounts().unwrap();
}

/// Two read pages, without room for them, while these are moved, their segments given back, and the files written over.
fn readers_hold_addresses_that_are_written_over() {
    let game = game(CAPACITY);
    let expected = game.past.lock().unwrap().clone();
    // Not an atomic of the kit's door: nobody is switched away by looking.
    let written_over = Arc::new(AtomicBool::new(false));
    let readers = [[1, 3, 2], [3, 4, 1]].map(|ids| {
        let (expected, written_over) = (expected.clone(), Arc::clone(&written_over));
        game.store.spawn(move |store, local| {
            let mut met = 0;
            // Some begin late: what they read first is what the others are done with.
            for _ in 0..chosen(MOMENTS) {
                shuttle::thread::sleep(Duration::ZERO);
            }
            for id in ids.map(PageId) {
                let before = written_over.load(Ordering::SeqCst);
                let (at, words) = newest(&expected, id);
                match chosen(3) {
                    0 => assert_eq!(store.pages.state(id, &local.pin()).unwrap(), PageState::Live(at), "{id}"),
                    _ => assert_eq!(store.read(id, local), (at, words), "{id}"),
                }
                met += u64::from(!before && written_over.load(Ordering::SeqCst));
            }
            met
        })
    });
    let cleaner = cleaner(&game, &written_over);
    let met: u64 = join(readers).into_iter().sum();
    count("reads that files were written over under", met);
    count_turn(&cleaner.join().unwrap());
    count("reads of pages and leaves", game.store.page_ins());
    game.end();
}

/// One writes to pages that are moved and given back by the log; the machine stops at any moment, or right behind the turn.
fn what_the_log_gives_back_is_cut_short_at_any_moment() {
    let game = game(ROOMY);
    let writer = game.writer([1, 3], 100);
    let cleaner = cleaner(&game, &Arc::default());
    let crash = game.crash(MOMENTS);
    writer.join().unwrap();
    let turn = cleaner.join().unwrap();
    count_turn(&turn);
    let (stable, _, image) = crash.join().unwrap();
    check_crashed(&game, turn, (stable, image));
}

/// The same beside a checkpoint: what it lists is there, or is said to be given back behind its redo point.
fn a_checkpoint_meets_what_the_log_gives_back() {
    let game = game(ROOMY);
    let writer = game.writer([1, 3], 100);
    let cleaner = cleaner(&game, &Arc::default());
    let checkpoint = game.store.spawn(|store, _| store.pages.checkpoint().unwrap());
    let crash = game.crash(MOMENTS);
    writer.join().unwrap();
    let turn = cleaner.join().unwrap();
    count_turn(&turn);
    checkpoint.join().unwrap();
    let (stable, _, image) = crash.join().unwrap();
    check_crashed(&game, turn, (stable, image));
}

scenarios! {
    readers_hold_addresses_that_are_written_over,
    what_the_log_gives_back_is_cut_short_at_any_moment,
    a_checkpoint_meets_what_the_log_gives_back,
}
