//! Real threads at few pages that come and go: every history has an order that explains it, and what a crash leaves is a cut
//! through one.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use pagecache::crossbeam_epoch::Collector;
use pagecache::{Background, ConfigBuilder, PageCache, PageId, Version};
use pagecache_sim::disk::{SimDisk, Survival};
use pagecache_sim::linear::crash::find;
use pagecache_sim::linear::history::Clock;
use pagecache_sim::linear::page::Answer;
use pagecache_sim::linear::player::{Joined, Player, Story, Words};
use pagecache_sim::page_driver::CAPACITY;
use pagecache_sim::rng::Rng;

const HISTORIES: usize = 10_000;
const CRASHES: usize = 4_000;
const TURNS: usize = 8;
/// The first of the second half.
const TURN_2: usize = TURNS / 2;
/// Histories on one store, each on pages of its own.
const A_STORE: usize = 50;

fn start(disk: &SimDisk) -> PageCache<Joined> {
    let options = ConfigBuilder::new().storage(disk.clone()).segment_size(64 << 10).cache_capacity(CAPACITY);
    PageCache::start(options.background(Background::Caller).collector(Collector::new()).build()).unwrap()
}

/// One history in so many has a thread beside it that writes checkpoints and cleans.
const KEPT: usize = 17;
/// Segments of which each holds one small page, behind those of the players.
const SPARSE: usize = 6;

/// Writes segments that hold little, so that those before are worth cleaning: in each is one of these pages, and what was in the last one. Their ids
/// are taken before anyone plays: one that a player frees may be handed out again.
fn scatter(pages: &PageCache<Joined>, ids: &[PageId]) -> Vec<(PageId, Version)> {
    let put = |id, at, words| pages.replace_at(id, at, Words(vec![7; words]), &pages.pin()).unwrap();
    let Some((filler, ids)) = ids.split_last() else { return Vec::new() };
    let mut at = Version::NONE;
    let mut left = Vec::new();
    for id in ids {
        left.push((*id, put(*id, Version::NONE, 1)));
        for _ in 0..5 {
            at = put(*filler, at, 1500);
        }
    }
    pages.free_at(*filler, at, &pages.pin()).unwrap();
    left
}

/// Waits for all others without falling asleep, so that all begin at once.
fn meet(waiting: &AtomicUsize) {
    waiting.fetch_sub(1, Ordering::SeqCst);
    while waiting.load(Ordering::SeqCst) > 0 {
        std::thread::yield_now();
    }
}

/// What one round of threads did, and the reads of the disk meanwhile.
struct Round {
    story: Story,
    reads: u64,
}

/// Lets so many threads play at these pages; `meanwhile` runs beside them, where they wait for `half_way` before their second half.
fn play(
    pages: &PageCache<Joined>,
    disk: &SimDisk,
    (threads, ids): (usize, &[PageId]),
    (seed, flushes): (u64, u64),
    clock: &Clock,
    half_way: Option<&AtomicUsize>,
    meanwhile: impl FnOnce(),
) -> Round {
    let reads = disk.read_count();
    let waiting = AtomicUsize::new(threads + 1);
    let mut story = Story::new(ids.len());
    std::thread::scope(|scope| {
        let players: Vec<_> = (0..threads)
            .map(|thread| {
                let waiting = &waiting;
                scope.spawn(move || {
                    let mut player = Player::new(thread, ids.len(), seed);
                    meet(waiting);
                    let turn = |nth| {
                        if let (TURN_2, Some(half_way)) = (nth, half_way) {
                            meet(half_way);
                        }
                        player.turn(pages, ids, &pages.pin(), clock, flushes)
                    };
                    (0..TURNS).map(turn).collect::<Vec<_>>()
                })
            })
            .collect();
        meet(&waiting);
        meanwhile();
        players.into_iter().flat_map(|player| player.join().unwrap()).for_each(|turn| story.add(turn));
    });
    Round { story, reads: disk.read_count() - reads }
}

/// How much of what the histories are for has happened in them.
#[derive(Debug, Default)]
struct Seen {
    histories: usize,
    overlapping: usize,
    with_page_ins: usize,
    page_ins: u64,
    conflicts: u64,
    frees: u64,
    /// Checkpoints beside players, turns of cleaning that moved more than the pages scattered for them, and the pages they moved.
    checkpoints: u64,
    turns: u64,
    moved: u64,
}

impl Seen {
    fn add(&mut self, round: &Round) {
        self.histories += 1;
        self.overlapping += usize::from(round.story.overlaps());
        self.with_page_ins += usize::from(round.reads > 0);
        self.page_ins += round.reads;
        self.conflicts += round.story.count(|answer| matches!(answer, Answer::Conflict(..)));
        self.frees += round.story.count(|answer| matches!(answer, Answer::Free(..)));
        assert_eq!(round.story.count(|answer| *answer == Answer::Failed), 0);
    }
}

#[test]
fn every_history_of_real_threads_has_an_order() {
    let begun = Instant::now();
    let mut seen = Seen::default();
    for store in 0..HISTORIES.div_ceil(A_STORE) {
        let disk = SimDisk::new(store as u64);
        let pages = start(&disk);
        let clock = Clock::default();
        for history in 0..A_STORE {
            let seed = (store * A_STORE + history) as u64;
            let ids: Vec<_> = (0..1 + history % 2).map(|_| pages.allocate(&pages.pin())).collect();
            let is_kept = history % KEPT == 3;
            let others: Vec<_> =
                (0..if is_kept { SPARSE + 1 } else { 0 }).map(|_| pages.allocate(&pages.pin())).collect();
            let threads = 3 + history / 2 % 2;
            // Their pages are in a segment that can be cleaned by then, and go on changing while it is.
            let half_way = is_kept.then(|| AtomicUsize::new(threads + 1));
            let round = play(&pages, &disk, (threads, &ids), (seed, 4), &clock, half_way.as_ref(), || {
                let Some(half_way) = &half_way else { return };
                let left = scatter(&pages, &others);
                let mut keep = || {
                    pages.flush().unwrap();
                    pages.checkpoint().unwrap();
                    seen.checkpoints += 1;
                };
                keep();
                meet(half_way);
                let moved = pages.clean().unwrap();
                keep();
                (seen.turns, seen.moved) = (seen.turns + u64::from(moved > left.len() as u64), seen.moved + moved);
                for (id, at) in left {
                    pages.free_at(id, at, &pages.pin()).unwrap();
                }
            });
            if let Err(unexplained) = round.story.explain() {
                panic!("history {seed}: {unexplained}");
            }
            if is_kept {
                pages.check_accounts().unwrap_or_else(|differ| panic!("history {seed}: {differ}"));
            }
            seen.add(&round);
        }
        pages.check_accounts().unwrap_or_else(|differ| panic!("store {store}: {differ}"));
        pages.close().unwrap();
    }
    println!("{seen:?} in {:.1?}", begun.elapsed());
    assert!(seen.histories >= HISTORIES);
    assert!(seen.overlapping > 0 && seen.with_page_ins > 0 && seen.conflicts > 0 && seen.frees > 0, "{seen:?}");
    assert!(seen.checkpoints as usize >= HISTORIES / KEPT && seen.turns > 0 && seen.moved > 0, "{seen:?}");
}

#[test]
fn what_a_crash_leaves_is_a_cut_behind_all_that_was_acknowledged() {
    let begun = Instant::now();
    let (mut seen, mut cut_short, mut acknowledged) = (Seen::default(), 0, 0);
    for seed in 0..CRASHES as u64 {
        let mut rng = Rng::new(seed);
        let disk = SimDisk::new(seed);
        let pages = start(&disk);
        let clock = Clock::default();
        let ids: Vec<_> = (0..2).map(|_| pages.allocate(&pages.pin())).collect();
        let survival = *rng.pick(&[Survival::DropAll, Survival::KeepAll, Survival::Random(seed)]);
        let (calls, mut image) = (rng.below(12), None);
        let round = play(&pages, &disk, (3, &ids), (seed, 12), &clock, None, || {
            // So far on the way, where it gets as far; the image is taken after the time is.
            let from = disk.io_count();
            let until = Instant::now() + std::time::Duration::from_millis(1);
            while disk.io_count() < from + calls && Instant::now() < until {
                std::thread::yield_now();
            }
            let crashed = clock.tick();
            image = Some((crashed, disk.crash(survival)));
        });
        let (crashed, image) = image.unwrap();
        cut_short += usize::from(round.story.pages.iter().flatten().any(|call| !call.ended_before(crashed)));
        acknowledged += usize::from(round.story.flushes.iter().any(|(_, ended)| *ended < crashed));
        let again = start(&image);
        let found = find(&again, &ids).unwrap();
        if let Err(wrong) = round.story.explain_crash(&found, crashed) {
            panic!("crash {seed}, {survival:?} at {crashed}: {wrong}\n{found:?}");
        }
        for (pages, which) in [(&pages, "that went on"), (&again, "that a crash left")] {
            pages.check_accounts().unwrap_or_else(|differ| panic!("crash {seed}: the store {which}: {differ}"));
        }
        seen.add(&round);
    }
    println!("{seen:?}, {cut_short} crashes under way, {acknowledged} behind a flush, in {:.1?}", begun.elapsed());
    assert!(seen.histories >= CRASHES);
    assert!(cut_short > 0 && acknowledged > 0 && seen.overlapping > 0 && seen.with_page_ins > 0, "{seen:?}");
}
