//! The work of the spine where checkpoints, folds and cleaning run all the time, against the same where they have nothing to do.

use std::sync::atomic::{AtomicBool, Ordering};

use hdrhistogram::Histogram;
use pagecache::ConfigBuilder;
use pagecache::storage::MemoryStorage;

use super::{Bench, append};
use crate::engines::Pages;
use crate::files::fresh;
use crate::measure::{Figures, Series, entrant, in_turn, median};
use crate::ours::{AMPLE, OURS, OurPages, log_in_files};
use crate::report::{Aim, Target};
use crate::runs::{self, FRAGMENT};
use crate::workload::{PAGE, own};

/// Pages of a store: few enough that the links of a run weigh more than a quarter of them, which is when they are folded.
const COUNT: usize = 50_000;

/// Links of a run: as many as several turns fold.
const LINKS: usize = 5_000_000;

/// Links beside the reads or appends of a run, which by themselves leave nothing to clean, and so many a second.
const BESIDE: (usize, f64) = (600_000, 200_000.0);

/// Reads of each thread that are timed together, again and again while it is linked.
const READS: usize = 200_000;

/// The same of records, in memory and to files.
const RECORDS: (usize, usize) = (2_000_000, 1_000_000);

/// Bytes that a link takes in the log, about.
const LINK: u64 = 80;

/// Limits of log written before anything is measured.
const WARM: u64 = 4;

/// A limit of the log that no run reaches: no checkpoint, and no cleaning.
const NEVER: u64 = 1 << 40;

/// The name in tables of a fresh store of that limit.
const IDLE: &str = "ours, nothing due";

/// Checkpoints in the time of a run, and bytes of pages that were moved in it.
const CHECKPOINTS: &str = "checkpoints";
const MOVED: &str = "moved MB";

/// Where a store lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Memory,
    Files,
}

impl Place {
    fn name(self) -> &'static str {
        match self {
            Place::Memory => "memory",
            Place::Files => "files",
        }
    }
}

pub(super) fn rows(bench: &mut Bench) {
    for place in [Place::Memory, Place::Files] {
        for threads in [1, 2] {
            get(bench, place, threads);
        }
        log(bench, place);
        for threads in [1, 2] {
            link(bench, place, threads);
        }
    }
}

/// Resident pages that nobody changes, between those that are linked to.
fn get(bench: &mut Bench, place: Place, threads: u64) {
    let pages = page_count(bench);
    let reads = bench.count(READS);
    let ids: Vec<Vec<u64>> = (0..threads)
        .map(|seed| own(0, 2, pages, reads).into_iter().map(|id| (id + 2 * seed) % pages).collect())
        .collect();
    let row = format!("get, resident 1 KiB, {}, {threads} thr", place.name());
    let targets = [(OURS, "pages/s", Target::TimesPeer(IDLE, 0.9)), (OURS, "links/s", Target::Beside(IDLE))];
    beside(bench, place, &row, &targets, |pages| vec![("pages/s", runs::get(pages, &ids))]);
}

/// A log by itself, trimmed as it goes.
fn log(bench: &mut Bench, place: Place) {
    let (in_memory, in_files) = (bench.count(RECORDS.0), bench.count(RECORDS.1));
    let dir = bench.dir.clone();
    let row = format!("log append 128 B, trimmed, {}, 1 thr", place.name());
    let targets = [(OURS, "records/s", Target::TimesPeer(IDLE, 0.95)), (OURS, "links/s", Target::Beside(IDLE))];
    beside(bench, place, &row, &targets, |_| match place {
        Place::Memory => append::recycled(1, in_memory),
        Place::Files => {
            let log = log_in_files(&fresh(&dir, "steady-log"));
            vec![("records/s", in_files as f64 / append::trimmed(&log, 1, in_files, 128))]
        }
    });
}

/// A row of work beside a thread that links at a fixed rate: the work is done again and again until the links are; medians.
fn beside(bench: &mut Bench, place: Place, row: &str, targets: &[Aim<'_>], work: impl Fn(&OurPages) -> Figures) {
    let ids = [own(1, 2, page_count(bench), bench.count(BESIDE.0))];
    let run = |pages: &OurPages| {
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let links = scope.spawn(|| {
                let (rate, _) = runs::link_timed(&ids, Some(BESIDE.1), |id, fragment| {
                    pages.link_blind(id, fragment);
                    0
                });
                // Relaxed: it says when, and nothing else.
                done.store(true, Ordering::Relaxed);
                rate
            });
            let mut times = vec![work(pages)];
            while !done.load(Ordering::Relaxed) {
                times.push(work(pages));
            }
            let of = |nth: usize| times.iter().map(|figures| figures[nth].1).collect::<Vec<f64>>();
            let mut figures: Figures = times[0].iter().enumerate().map(|(at, one)| (one.0, median(&of(at)))).collect();
            figures.push(("links/s", links.join().expect("a bench thread panicked")));
            figures
        })
    };
    let series = both(bench, place, run);
    take(bench, &format!("{row} + links"), &series, targets);
}

/// Links as fast as they go, then at half of that rate: there nobody waits for the bound on disk.
fn link(bench: &mut Bench, place: Place, threads: usize) {
    let (factor, tail) = if threads == 1 { (0.85, P999) } else { (0.6, P99) };
    let count = bench.count(LINKS) / threads;
    let ids: Vec<Vec<u64>> = (0..threads).map(|thread| own(thread, threads, page_count(bench), count)).collect();
    let run = |pages: &OurPages, pace| {
        let (rate, times) = runs::link_timed(&ids, pace, |id, fragment| {
            pages.link_blind(id, fragment);
            0
        });
        latencies(rate, &times)
    };
    let name = |what: &str| format!("link 64 B, {what}, {}, {threads} thr", place.name());
    let series = both(bench, place, |pages| run(pages, None));
    let besides = [P99, P999, MOST].map(|unit| (OURS, unit, Target::Beside(IDLE)));
    let mut targets = vec![(OURS, "links/s", Target::TimesPeer(IDLE, factor))];
    targets.extend(besides);
    take(bench, &name("saturated"), &series, &targets);
    let full = series.iter().find(|one| one.engine == OURS && one.unit == "links/s");
    let pace = full.map(|full| median(&full.runs) / 2.0 / threads as f64);
    let series = both(bench, place, |pages| run(pages, pace));
    let mut targets = vec![(OURS, tail, Target::AtMostPeer(IDLE, 2.0)), (OURS, "links/s", Target::Beside(IDLE))];
    targets.extend(besides.into_iter().filter(|(_, unit, _)| *unit != tail));
    take(bench, &name("half of that rate"), &series, &targets);
}

const P99: &str = "p99 us";
const P999: &str = "p99.9 us";
const MOST: &str = "most us";

fn latencies(rate: f64, times: &Histogram<u64>) -> Figures {
    let at = |quantile| times.value_at_quantile(quantile) as f64 / 1e3;
    vec![("links/s", rate), (P99, at(0.99)), (P999, at(0.999)), (MOST, at(1.0))]
}

/// The same work on a store in its steady state, which lives on from run to run, and on a fresh one in each run.
fn both(bench: &Bench, place: Place, run: impl Fn(&OurPages) -> Figures) -> Vec<Series> {
    let count = page_count(bench);
    let segment = segment_size(bench);
    let start = |name: &str, log_limit: u64| {
        let config = ConfigBuilder::new().segment_size(segment).log_limit(log_limit).cache_capacity(AMPLE);
        let config = match place {
            Place::Memory => config.storage(MemoryStorage::new()),
            Place::Files => config.path(fresh(&bench.dir, name)),
        };
        let pages = OurPages::start(config.build(), count);
        pages.fill(count, PAGE);
        pages.flush();
        pages
    };
    let log_limit = 8 * segment;
    let steady = start("steady", log_limit);
    for id in own(0, 1, count, (WARM * log_limit / LINK) as usize) {
        steady.link_blind(id, vec![7; FRAGMENT]);
    }
    let ours = || {
        let before = steady.cache().stats();
        let mut figures = run(&steady);
        let after = steady.cache().stats();
        let moved = |stats: &pagecache::Stats| stats.fold_bytes + stats.survivor_bytes;
        figures.push((CHECKPOINTS, (after.checkpoints - before.checkpoints) as f64));
        figures.push((MOVED, (moved(&after) - moved(&before)) as f64 / 1e6));
        figures
    };
    let idle = || {
        let pages = start("idle", NEVER);
        let figures = run(&pages);
        assert_eq!(pages.cache().stats().checkpoints, 0, "nothing is due");
        figures
    };
    in_turn(bench.report.runs, vec![entrant(OURS, ours), entrant(IDLE, idle)])
}

/// Takes a row, which counts only if there was a checkpoint in each of its runs, and pages were moved in most.
fn take(bench: &mut Bench, row: &str, series: &[Series], targets: &[Aim<'_>]) {
    let of = |unit: &str| series.iter().find(|one| one.unit == unit).map_or(&[][..], |one| &one.runs);
    let without = of(CHECKPOINTS).iter().filter(|count| **count < 1.0).count();
    let moving = of(MOVED).iter().filter(|bytes| **bytes > 0.0).count();
    let runs = of(MOVED).len();
    let is_steady = without == 0 && 2 * moving > runs;
    if !is_steady {
        println!("  of {runs} runs {without} had no checkpoint and {moving} had pages moved: the row does not count");
    }
    let mut targets = targets.to_vec();
    targets.push((OURS, CHECKPOINTS, Target::AtLeast(1.0)));
    bench.report.take(("steady", row), series, &targets, is_steady);
}

fn page_count(bench: &Bench) -> u64 {
    bench.count(COUNT) as u64
}

/// The default at full scale; smaller where less is written.
fn segment_size(bench: &Bench) -> u64 {
    (bench.count(8 << 20) as u64).next_power_of_two().max(64 << 10)
}
