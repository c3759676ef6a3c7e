//! A soak from beginning to end: its threads in step, a sample every tenth of a second, a verdict.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Barrier, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use pagecache::{ConfigBuilder, PageCache};

use super::bounds::{Bounds, SYSTEM, Worst, allocator};
use super::content::Stripes;
use super::hold::{Held, hold};
use super::model::Model;
use super::options::{Options, Release};
use super::plot::Point;
use super::sample::{Empty, Sample, asked};
use super::trim;
use super::work::{Counts, LONG, PAGE_MEAN, Worker};
use crate::allocator::{CLASSES, count, glibc, live_by_class};
use crate::files::fresh;

/// From one sample to the next.
const EVERY: Duration = Duration::from_millis(100);

/// From one look at what is asked of the allocator to the next.
const LOOK: Duration = Duration::from_millis(1);

/// From one line of progress to the next, in samples.
const TOLD: usize = 100;

/// What the threads do, one after the other.
pub const PHASES: [&str; 3] = ["load", "steady", "compare"];

/// The store's default.
const FILL_TARGET: f64 = 0.80;

/// Segments beside the fill target.
const RESERVE: u64 = 4;

/// What a soak has found.
#[derive(Debug)]
pub struct Outcome {
    /// What was wrong.
    pub failures: Vec<String>,
    /// Memory against its bound.
    pub memory: Worst,
    /// Disk against its bound.
    pub disk: Worst,
    /// What was asked of the allocator against what the store says of its memory.
    pub asked: Worst,
    /// By class, when that was worst.
    pub most_asked: Option<[i64; CLASSES]>,
    /// What the guard that was held has shown, if one was.
    pub held: Option<Held>,
    /// The sample with the most memory, and what was asked of the allocator then, by class.
    pub fullest: Option<(Sample, [i64; CLASSES])>,
    /// The last sample.
    pub last: Option<Sample>,
    /// What is drawn.
    pub points: Vec<Point>,
    /// Seconds until pages held what was asked for, and until the steady state ended.
    pub loaded: f64,
    /// When the steady state ended.
    pub stopped: f64,
    /// The allocator's name.
    pub allocator: &'static str,
    /// What it was told.
    pub setting: &'static str,
    /// What was subtracted.
    pub empty: Empty,
}

/// What the threads and the one that watches share.
struct Shared<'a> {
    cache: &'a PageCache<Stripes>,
    model: &'a Model,
    counts: Counts,
    /// The threads and the one that watches begin.
    go: Barrier,
    in_step: Barrier,
    /// Which phase it is; one more than the last when all is done.
    phase: AtomicU64,
    /// The steady state is over.
    stop: AtomicBool,
    /// Something is wrong: everyone comes to an end.
    failed: AtomicBool,
    /// Bytes that a guard that is held for long keeps.
    kept: AtomicU64,
    failures: Mutex<Vec<String>>,
}

impl Shared<'_> {
    fn fail(&self, what: String) {
        self.failed.store(true, Ordering::Relaxed);
        self.stop.store(true, Ordering::Relaxed);
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).push(what);
    }

    /// One thread, through all phases in step with the others, whatever happens to it.
    fn work(&self, options: &Options, thread: usize) {
        let mut worker = Worker::new(self.cache, self.model, &self.counts, (thread, options.threads), options.seed);
        self.go.wait();
        for (phase, name) in PHASES.into_iter().enumerate() {
            if self.in_step.wait().is_leader() {
                self.phase.store(phase as u64, Ordering::Relaxed);
            }
            let done = catch_unwind(AssertUnwindSafe(|| match phase {
                0 => worker.load(options.data(), &self.failed),
                1 => worker.steady(&self.stop),
                _ => worker.compare(&self.failed),
            }));
            match done {
                Ok(Ok(())) => {}
                Ok(Err(what)) => self.fail(format!("{name}: {what}")),
                Err(_) => self.fail(format!("{name}: thread {thread} panicked")),
            }
        }
        if self.in_step.wait().is_leader() {
            self.phase.store(PHASES.len() as u64, Ordering::Relaxed);
        }
    }
}

/// Runs a soak in a directory of its own.
///
/// # Panics
/// Where there is no place for files or results.
pub fn run(options: &Options) -> Outcome {
    let dir = fresh(&options.dir, &format!("soak-{}", std::process::id()));
    let model = Model::new((options.data() / PAGE_MEAN * 5 / 4) as usize + 64 * options.threads);
    let mut points = vec![Point::default(); (options.seconds as usize + 600) * 10];
    std::hint::black_box(&mut points).clear();
    let mut lines = options.out.as_ref().map(|path| BufWriter::new(File::create(path).expect("a place for results")));
    let (allocator, slack) = allocator();
    let releases = allocator == SYSTEM && options.release == Release::ByStore;
    if releases {
        glibc::one_heap();
    }
    let Options { budget, segment, log_limit, .. } = *options;
    let bounds = Bounds { budget, slack, fill_target: FILL_TARGET, log_limit, reserve: RESERVE * segment };
    count(true);
    let config = ConfigBuilder::new().path(&dir).cache_capacity(budget).segment_size(segment);
    let config = config.fill_target(FILL_TARGET).log_limit(log_limit);
    let config = if releases { config.release_memory(trim::release) } else { config };
    let cache = PageCache::<Stripes>::start(config.build()).expect("a store");
    let shared = Shared {
        cache: &cache,
        model: &model,
        counts: Counts::default(),
        go: Barrier::new(options.threads + 1),
        in_step: Barrier::new(options.threads),
        phase: AtomicU64::new(0),
        stop: AtomicBool::new(false),
        failed: AtomicBool::new(false),
        kept: AtomicU64::new(0),
        failures: Mutex::new(Vec::new()),
    };
    let mut outcome = thread::scope(|scope| {
        for thread in 0..options.threads {
            let shared = &shared;
            scope.spawn(move || shared.work(options, thread));
        }
        let holder = (options.hold > 0).then(|| {
            let shared = &shared;
            scope.spawn(move || hold(shared.cache, options.hold, &shared.phase, &shared.kept, options.budget / 8))
        });
        let mut outcome = watch(&shared, options, &bounds, &dir, points, &mut lines);
        match holder.map(thread::ScopedJoinHandle::join) {
            Some(Ok(Ok(held))) => outcome.held = Some(held),
            Some(Ok(Err(what))) => shared.fail(format!("hold: {what}")),
            Some(Err(_)) => shared.fail("hold: it panicked".to_owned()),
            None => {}
        }
        outcome
    });
    outcome.allocator = allocator;
    outcome.setting =
        if releases { "one heap, trimmed by the store where the process is too large" } else { "as it is" };
    judge(&shared, options, &mut outcome);
    outcome.failures.append(&mut shared.failures.lock().unwrap_or_else(PoisonError::into_inner));
    drop(shared);
    if let Err(error) = cache.close() {
        outcome.failures.push(format!("close: {error}"));
    }
    std::fs::remove_dir_all(&dir).expect("the files go");
    if let Some(mut lines) = lines {
        lines.flush().expect("a place for results");
    }
    outcome
}

/// Lets the threads go from phase to phase, and looks at the store until they are done.
fn watch(
    shared: &Shared<'_>,
    options: &Options,
    bounds: &Bounds,
    dir: &Path,
    points: Vec<Point>,
    lines: &mut Option<BufWriter<File>>,
) -> Outcome {
    // The store's threads have begun by then, and the others wait.
    thread::sleep(5 * EVERY);
    let empty = Empty::now();
    // The slack is for what comes until the heap is trimmed.
    trim::beyond(empty.anonymous + options.budget);
    let mut outcome = Outcome {
        failures: Vec::new(),
        memory: Worst::default(),
        disk: Worst::default(),
        asked: Worst::default(),
        most_asked: None,
        held: None,
        fullest: None,
        last: None,
        points,
        loaded: 0.0,
        stopped: 0.0,
        allocator: "",
        setting: "",
        empty,
    };
    let began = Instant::now();
    shared.go.wait();
    let (mut due, mut asked_peak) = (began, 0);
    for turn in 0.. {
        let phase = shared.phase.load(Ordering::Relaxed) as usize;
        let at = began.elapsed().as_secs_f64();
        if phase == 0 {
            outcome.loaded = at;
        }
        if phase <= 1 {
            outcome.stopped = at;
        }
        if phase == 1 && at - outcome.loaded >= options.seconds as f64 {
            shared.stop.store(true, Ordering::Relaxed);
        }
        let mut sample = Sample::now(shared.cache, shared.model, &shared.counts, dir, empty);
        (sample.at, sample.phase) = (at, PHASES.get(phase).copied().unwrap_or("done"));
        sample.disk_allowed = bounds.disk(sample.payload, sample.pages);
        sample.kept = shared.kept.load(Ordering::Relaxed);
        sample.memory_allowed = bounds.memory() + bounds.with_slack(sample.kept);
        sample.operations = shared.counts.steady();
        sample.asked_peak = std::mem::take(&mut asked_peak).max(sample.asked);
        outcome.take(sample, lines);
        if turn % TOLD == 0
            && let Some(sample) = &outcome.last
        {
            tell(sample);
        }
        if phase == PHASES.len() {
            break;
        }
        due = (due + EVERY).max(Instant::now());
        while Instant::now() < due {
            thread::sleep(LOOK);
            asked_peak = asked_peak.max(asked());
        }
    }
    outcome
}

impl Outcome {
    fn take(&mut self, sample: Sample, lines: &mut Option<BufWriter<File>>) {
        self.disk.note(sample.at, sample.disk, sample.disk_allowed);
        // The collector's bags are in nobody's account: 2 KiB for each 8 of garbage.
        let bags = sample.kept / 4;
        if self.asked.note(sample.at, sample.asked, sample.said + sample.said / 10 + bags) {
            self.most_asked = Some(live_by_class());
        }
        if self.memory.note(sample.at, sample.anonymous, sample.memory_allowed) {
            self.fullest = Some((sample.clone(), live_by_class()));
        }
        if let Some(lines) = lines {
            serde_json::to_writer(&mut *lines, &sample).expect("a place for results");
            writeln!(lines).expect("a place for results");
        }
        self.points.push(Point::of(&sample));
        self.last = Some(sample);
    }
}

fn tell(sample: &Sample) {
    println!(
        "{:6.1} s {:7}: memory {:.2}, disk {:.2} of what is allowed; {} MiB in {} pages; get, link, replace, free {:?}",
        sample.at,
        sample.phase,
        sample.anonymous as f64 / sample.memory_allowed as f64,
        sample.disk as f64 / sample.disk_allowed as f64,
        sample.payload >> 20,
        sample.pages,
        sample.operations,
    );
}

/// Bounds, and that there was something to hold against them.
fn judge(shared: &Shared<'_>, options: &Options, outcome: &mut Outcome) {
    let mut wrong = |is_wrong: bool, what: String| {
        if is_wrong {
            outcome.failures.push(what);
        }
    };
    for (what, worst) in [("memory", outcome.memory), ("disk", outcome.disk)] {
        wrong(worst.broken > 0, format!("{what}: more than allowed in {} samples", worst.broken));
    }
    let (asked, samples) = (outcome.asked, outcome.points.len() as u64);
    // What a read makes of what it has read, fragments and the page that they are merged to, is in nobody's account: of long pages that is much, for a moment.
    let reads = 2 * LONG.1 * (options.threads as u64 + 1);
    wrong(
        asked.broken > samples / 20 || asked.found > asked.allowed + reads,
        format!(
            "asked of the allocator: more than the store says and a tenth in {} of {samples} samples",
            asked.broken
        ),
    );
    let stats = shared.cache.stats();
    let (model, counts) = (shared.model, &shared.counts);
    wrong(model.bytes() < options.data() / 10 * 9, format!("pages hold {} bytes only", model.bytes()));
    for (count, what) in counts.steady().into_iter().zip(["gets", "links", "replaces", "frees"]) {
        wrong(count < options.seconds * 20, format!("{count} {what} only"));
    }
    let checked = counts.checked.load(Ordering::Relaxed);
    wrong(checked != model.pages(), format!("{checked} of {} pages were compared at the end", model.pages()));
    wrong(stats.checkpoints == 0, "no checkpoint".to_owned());
    wrong(stats.fold_bytes + stats.survivor_bytes == 0, "nothing was cleaned".to_owned());
    match shared.cache.page_count() {
        Ok(pages) => wrong(pages != model.pages(), format!("{pages} pages instead of {}", model.pages())),
        Err(error) => wrong(true, format!("page_count: {error}")),
    }
}
