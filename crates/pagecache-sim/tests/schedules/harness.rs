//! Runs a scenario under many schedules, and says how to run a failing one again.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::panic;
use std::sync::{Arc, Once, OnceLock};
use std::time::Instant;

use pagecache::crossbeam_epoch::{Collector, LocalHandle};
use pagecache::{Background, ConfigBuilder, Materializer, PageCache, PageId, Rejected, Version, version};
use pagecache_sim::disk::SimDisk;
use pagecache_sim::linear::player::{Joined, Words};
use pagecache_sim::page_driver::{CAPACITY, SEGMENT};
use shuttle::rand::{RngCore, thread_rng};
use shuttle::scheduler::{
    PctScheduler, RandomScheduler, ReplayScheduler, RoundRobinScheduler, Scheduler,
    UncontrolledNondeterminismCheckScheduler,
};
use shuttle::thread::{JoinHandle, spawn};
use shuttle::{Config, Runner};

use super::planted_bugs::plant_what_was_asked;

/// How many schedules of each of the two kinds; more for campaigns.
pub const SCHEDULES: &str = "PAGECACHE_SCHEDULES";
pub const SCHEDULES_DEFAULT: usize = 10_000;
/// Where the random choices begin; another one for campaigns.
const SEED: &str = "PAGECACHE_SCHEDULES_SEED";
/// A schedule as shuttle printed it, to run it again.
const REPLAY: &str = "PAGECACHE_REPLAY";

/// Depths of bugs that the second kind of schedules is made for: so many switches at wrong places.
const DEPTHS: std::ops::RangeInclusive<usize> = 3..=10;

thread_local! {
    /// The scenario that runs on this thread, under which scheduler, and its schedules so far.
    static RUNNING: Cell<(&'static str, &'static str, usize)> = const { Cell::new(("", "", 0)) };
}

thread_local! {
    /// What a scenario is for, and how often that came about, over all schedules.
    static COUNTS: RefCell<BTreeMap<&'static str, u64>> = const { RefCell::new(BTreeMap::new()) };
}

/// Counts what a scenario is for. What is named and never happens fails the run: then the schedules have shown nothing.
pub fn count(what: &'static str, happened: u64) {
    COUNTS.with_borrow_mut(|counts| *counts.entry(what).or_default() += happened);
}

fn number(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// Tells what is known of a failure before anything is unwound.
fn announce_failures() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let (name, scheduler, schedule) = RUNNING.replace(("", "", 0));
            if !name.is_empty() {
                let (text, literal) = (info.payload().downcast_ref::<String>(), info.payload().downcast_ref::<&str>());
                let text = text.map(String::as_str).or(literal.copied()).unwrap_or_default();
                println!("{name}: fails in schedule {schedule} ({scheduler}): {text}");
                println!(
                    "to run it again: {REPLAY}='the schedule that is printed above, without its quotes' RUSTFLAGS=\"--cfg \
                     shuttle\" cargo test -p pagecache-sim --test schedules --target-dir target/shuttle {name}"
                );
            }
            before(info);
        }));
    });
}

fn run(name: &'static str, scheduler: &'static str, scenario: fn(), schedules: impl Scheduler + 'static) -> usize {
    let mut config = Config::new();
    config.stack_size = 256 << 10;
    config.silence_warnings = true;
    RUNNING.set((name, scheduler, 0));
    Runner::new(schedules, config).run(move || {
        let (name, scheduler, schedules) = RUNNING.get();
        RUNNING.set((name, scheduler, schedules + 1));
        scenario();
    });
    RUNNING.replace(("", "", 0)).2
}

/// Runs a scenario under random schedules and under ones made for bugs of each depth.
pub fn explore(name: &'static str, scenario: fn()) {
    announce_failures();
    plant_what_was_asked();
    if let Ok(schedule) = std::env::var(REPLAY) {
        run(name, "replay", scenario, ReplayScheduler::new_from_encoded(schedule.trim()));
        return;
    }
    let (count, seed) = (number(SCHEDULES, SCHEDULES_DEFAULT), number(SEED, 0) as u64);
    COUNTS.take();
    let begun = Instant::now();
    let random = run(name, "random", scenario, RandomScheduler::new_from_seed(seed, count));
    let between = begun.elapsed();
    let mut pct = 0;
    let each = count.div_ceil(DEPTHS.count());
    for depth in DEPTHS {
        pct += run(name, "PCT", scenario, PctScheduler::new_from_seed(seed + depth as u64, depth, each));
    }
    let (one, two) = (between.as_secs_f64(), (begun.elapsed() - between).as_secs_f64());
    println!("{name}: {random} random schedules in {one:.1} s, {pct} of PCT depth {DEPTHS:?} in {two:.1} s");
    let counts = COUNTS.take();
    if !counts.is_empty() {
        println!("{name}: {counts:?}");
    }
    assert!(random >= count && pct >= count && counts.values().all(|count| *count > 0));
}

/// Runs some schedules twice: shuttle panics where the second run does anything else than the first, so that what it prints of a
/// failure can be run again.
pub fn repeat(name: &'static str, scenario: fn()) {
    announce_failures();
    let schedules = RandomScheduler::new_from_seed(1, 20);
    run(name, "twice", scenario, UncontrolledNondeterminismCheckScheduler::new(schedules));
}

macro_rules! scenarios {
    ($($name:ident,)*) => {
        mod every_schedule {
            $(#[test]
            fn $name() {
                crate::harness::explore(stringify!($name), super::$name);
            })*
        }
        mod the_same_schedule_twice {
            $(#[test]
            fn $name() {
                crate::harness::repeat(stringify!($name), super::$name);
            })*
        }
    };
}
pub(crate) use scenarios;

/// A store that was made and closed once, outside of all schedules: what one thread alone does needs none of its own. Each asker
/// gets a disk of its own.
pub fn made<T: Clone + Send + Sync + 'static>(
    place: &'static OnceLock<(SimDisk, T)>,
    make: impl Fn(&SimDisk) -> T + Send + Sync + 'static,
) -> (SimDisk, T) {
    let (disk, told) = place.get_or_init(|| {
        let disk = SimDisk::new(0);
        let (own, told) = (disk.clone(), Arc::new(OnceLock::new()));
        let tell = Arc::clone(&told);
        // Shuttle runs one scenario at a time on a thread of the system.
        let maker = std::thread::spawn(move || {
            let mut config = Config::new();
            config.stack_size = 256 << 10;
            Runner::new(RoundRobinScheduler::new(1), config).run(move || drop(tell.set(make(&own))));
        });
        maker.join().unwrap();
        (disk, told.get().unwrap().clone())
    });
    (disk.kill(), told.clone())
}

/// A choice of the schedule: a number that a replay draws again.
pub fn chosen(below: u64) -> u64 {
    thread_rng().next_u64() % below
}

/// A store on a disk of its own, with a collector of its own: crossbeam's keeps its threads' state by threads of the system, and
/// shuttle has one of these for all of its own.
pub struct Store<M: Materializer = Joined> {
    pub pages: PageCache<M>,
    pub disk: SimDisk,
    collector: Collector,
    /// Reads of the disk that the start made.
    reads: u64,
}

/// The smallest of everything.
pub fn options(disk: &SimDisk) -> ConfigBuilder {
    let options = ConfigBuilder::new().storage(disk.clone()).segment_size(SEGMENT).cache_capacity(CAPACITY);
    options.background(Background::Caller)
}

impl<M: Materializer> Store<M> {
    pub fn with(options: ConfigBuilder, disk: &SimDisk) -> Arc<Store<M>> {
        Store::try_with(options, disk).unwrap()
    }

    pub fn try_with(options: ConfigBuilder, disk: &SimDisk) -> pagecache::Result<Arc<Store<M>>> {
        let collector = Collector::new();
        let pages = PageCache::start(options.collector(collector.clone()).build())?;
        Ok(Arc::new(Store { pages, disk: disk.clone(), collector, reads: disk.read_count() }))
    }

    pub fn start(disk: &SimDisk) -> Arc<Store<M>> {
        Store::with(options(disk), disk)
    }

    /// Reads of the disk since the start: pages that came in, each after an eviction.
    pub fn page_ins(&self) -> u64 {
        self.disk.read_count() - self.reads
    }

    /// What a simulated thread needs to pin.
    pub fn local(&self) -> LocalHandle {
        self.collector.register()
    }

    /// Starts a simulated thread; it lets go of the store before it ends.
    pub fn spawn<T: 'static>(
        self: &Arc<Store<M>>,
        work: impl FnOnce(&Store<M>, &LocalHandle) -> T + Send + 'static,
    ) -> JoinHandle<T>
    where
        T: Send,
    {
        let store = Arc::clone(self);
        spawn(move || {
            let local = store.local();
            let done = work(&store, &local);
            drop(local);
            drop(store);
            done
        })
    }
}

pub fn join<T>(threads: impl IntoIterator<Item = JoinHandle<T>>) -> Vec<T> {
    threads.into_iter().map(|thread| thread.join().unwrap()).collect()
}

impl Store {
    /// A page with this one word.
    pub fn page(&self, word: u64) -> (PageId, Version) {
        let local = self.local();
        let guard = local.pin();
        let id = self.pages.allocate(&guard);
        let made = self.pages.replace_at(id, Version::NONE, Words(vec![word]), &guard).unwrap();
        (id, made)
    }

    /// The page's version and words.
    pub fn read(&self, id: PageId, local: &LocalHandle) -> (Version, Vec<u64>) {
        let guard = local.pin();
        let (page, token) = self.pages.get(id, &guard).unwrap();
        (version(token), page.0.clone())
    }

    /// Links a word on top of whatever the page is by then, from a version that it once had.
    pub fn link(&self, id: PageId, at: Version, word: u64, local: &LocalHandle) -> Version {
        self.link_all(id, at, vec![word], local)
    }

    /// The same with several words, of which nobody else has the first.
    pub fn link_all(&self, id: PageId, mut at: Version, words: Vec<u64>, local: &LocalHandle) -> Version {
        loop {
            let guard = local.pin();
            match self.pages.link_at(id, at, Words(words.clone()), &guard) {
                Ok(made) => return made,
                Err(Rejected::Conflict { token, current, .. }) => {
                    let now = version(token);
                    assert!(now > at, "a conflict of {at} with {now}");
                    assert!(!current.0.contains(&words[0]), "{} was refused and is there: {current:?}", words[0]);
                    at = now;
                }
                Err(Rejected::Failed { error, .. }) => panic!("a link failed: {error}"),
            }
        }
    }
}
