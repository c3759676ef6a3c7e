//! Histories of page caches under shuttle: each has an order that explains it, and what a crash at any moment leaves is a cut
//! through one, behind everything that was acknowledged.

use std::sync::{Arc, Mutex};

use pagecache::{PageCache, PageId};
use pagecache_sim::disk::{AfterSync, Call, Effect, Fault, SimDisk, Survival, When};
use pagecache_sim::linear::crash::find;
use pagecache_sim::linear::history::Clock;
use pagecache_sim::linear::page::{Answer, Page, PageCall};
use pagecache_sim::linear::player::{Joined, Player, Story};
use shuttle::rand::{RngCore, thread_rng};
use shuttle::thread::{JoinHandle, spawn};

use crate::harness::{Store, chosen, count, join, options, scenarios};

const THREADS: usize = 3;
const TURNS: usize = 8;

/// A store, its pages and its clock, with players at work.
struct Game {
    store: Arc<Store>,
    ids: Vec<PageId>,
    clock: Arc<Clock>,
    turns: Arc<Mutex<Story>>,
}

impl Game {
    fn new(disk: &SimDisk, pages: u64) -> Game {
        let store = Store::start(disk);
        let local = store.local();
        let ids: Vec<_> = (0..pages).map(|_| store.pages.allocate(&local.pin())).collect();
        drop(local);
        let turns = Arc::new(Mutex::new(Story::new(ids.len())));
        Game { store, ids, clock: Arc::default(), turns }
    }

    /// Starts the players. What they were told is in the story at once, so that a crash at any moment finds it.
    fn play(&self, flushes: u64) -> Vec<JoinHandle<()>> {
        let seed = thread_rng().next_u64();
        let player = |thread| {
            let (ids, clock, turns) = (self.ids.clone(), Arc::clone(&self.clock), Arc::clone(&self.turns));
            self.store.spawn(move |store, local| {
                let mut player = Player::new(thread, ids.len(), seed);
                for _ in 0..TURNS {
                    let turn = player.turn(&store.pages, &ids, &local.pin(), &clock, flushes);
                    turns.lock().unwrap().add(turn);
                }
            })
        };
        (0..THREADS).map(player).collect()
    }

    fn story(&self) -> Story {
        self.turns.lock().unwrap().clone()
    }

    fn note(&self, story: &Story) {
        count("histories", 1);
        count("with calls that overlap", story.overlaps().into());
        count("with page-ins", (self.store.page_ins() > 0).into());
        count("conflicts", story.count(|answer| matches!(answer, Answer::Conflict(..))));
        count("answers of freed pages", story.count(|answer| matches!(answer, Answer::Free(..))));
    }
}

fn note_crash(story: &Story, crashed: u64) {
    let acknowledged = story.flushes.iter().any(|(_, ended)| *ended < crashed);
    count("crashes behind an acknowledged flush", acknowledged.into());
    let under_way = |call: &PageCall| call.begun < crashed && !call.ended_before(crashed);
    count("crashes with calls under way", story.pages.iter().flatten().any(under_way).into());
}

fn recovered(image: &SimDisk, ids: &[PageId]) -> Vec<Page> {
    let pages = PageCache::<Joined>::start(options(image).collector(Default::default()).build()).unwrap();
    find(&pages, ids).unwrap()
}

fn survival() -> Survival {
    [Survival::DropAll, Survival::KeepAll, Survival::Random(thread_rng().next_u64())][chosen(3) as usize]
}

/// The whole story has an order.
fn a_history_has_an_order() {
    let disk = SimDisk::new(0);
    let game = Game::new(&disk, 1 + chosen(2));
    join(game.play(4));
    let story = game.story();
    story.explain().unwrap_or_else(|unexplained| panic!("{unexplained}"));
    assert_eq!(story.count(|answer| *answer == Answer::Failed), 0);
    game.note(&story);
}

/// The image of a crash is taken while all go on.
fn a_crash_at_any_moment_leaves_a_cut() {
    let disk = SimDisk::new(0);
    let game = Game::new(&disk, 2);
    let players = game.play(15);
    let (own, clock, survival, moment) = (disk.clone(), Arc::clone(&game.clock), survival(), chosen(400));
    let crash = spawn(move || {
        for _ in 0..moment {
            shuttle::thread::sleep(std::time::Duration::ZERO);
        }
        let crashed = clock.tick();
        (crashed, own.crash(survival))
    });
    let (crashed, image) = crash.join().unwrap();
    join(players);
    let (story, found) = (game.story(), recovered(&image, &game.ids));
    story.explain_crash(&found, crashed).unwrap_or_else(|wrong| panic!("{survival:?} at {crashed}: {wrong}"));
    game.note(&story);
    note_crash(&story, crashed);
}

/// The process dies at some call of the disk: from there on every call fails, and whoever waits is told.
fn a_crash_at_any_call_leaves_a_cut() {
    let disk = SimDisk::new(0);
    let game = Game::new(&disk, 2);
    disk.crash_at(disk.io_count() + chosen(40));
    join(game.play(15));
    check_end(&game, &disk, survival());
}

/// One call of the disk will fail, on a segment of the log or of the map.
fn fail_one_call(disk: &SimDisk) {
    let (call, effect) = [
        (Call::Write, Effect::Eio),
        (Call::Write, Effect::Enospc),
        (Call::Read, Effect::Eio),
        (Call::SyncData, Effect::SyncFails(AfterSync::KeptClean)),
        (Call::SyncData, Effect::SyncFails(AfterSync::Dropped)),
        (Call::SyncData, Effect::SyncFails(AfterSync::LaterSyncLies)),
    ][chosen(6) as usize];
    disk.fault(Fault::new(call, When::Once(chosen(10)), effect).on("seg-"));
}

/// The process dies at some call, or one call fails, beside one who writes checkpoints, whose calls of the disk are among these; or the
/// machine stops at the end.
fn a_crash_beside_checkpoints_leaves_a_cut() {
    let disk = SimDisk::new(0);
    let game = Game::new(&disk, 2);
    match chosen(4) {
        0 => {}
        1 => fail_one_call(&disk),
        _ => disk.crash_at(disk.io_count() + chosen(60)),
    }
    let players = game.play(15);
    let checkpoints = game.store.spawn(|store, _| (0..3).filter(|_| store.pages.checkpoint().is_ok()).count());
    join(players);
    count("checkpoints", checkpoints.join().unwrap() as u64);
    check_end(&game, &disk, survival());
}

/// One call of the disk fails, and the machine stops once everyone has been told.
fn a_failure_and_a_crash_leave_a_cut() {
    let disk = SimDisk::new(0);
    let game = Game::new(&disk, 2);
    fail_one_call(&disk);
    join(game.play(15));
    check_end(&game, &disk, survival());
}

fn check_end(game: &Game, disk: &SimDisk, survival: Survival) {
    let (story, crashed) = (game.story(), game.clock.tick());
    story.explain().unwrap_or_else(|unexplained| panic!("{unexplained}"));
    let found = recovered(&disk.crash(survival), &game.ids);
    story.explain_crash(&found, crashed).unwrap_or_else(|wrong| panic!("{survival:?}: {wrong}"));
    game.note(&story);
    count("with calls that failed", story.count(|answer| *answer == Answer::Failed));
    count("crashes behind an acknowledged flush", u64::from(!story.flushes.is_empty()));
}

scenarios! {
    a_history_has_an_order,
    a_crash_at_any_moment_leaves_a_cut,
    a_crash_at_any_call_leaves_a_cut,
    a_crash_beside_checkpoints_leaves_a_cut,
    a_failure_and_a_crash_leave_a_cut,
}
