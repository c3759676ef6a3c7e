//! Long random runs: a seed decides the steps, what they hold, the faults and the images, and nothing else does.

use std::fmt;
use std::ops::Range;

use super::aftermath::{crash_inside, recover};
use super::shrink::shrink;
use super::{Checked, Step, Tally, Violation, World, must_open, perform, share, without_panic};
use crate::disk::SimDisk;
use crate::rng::Rng;

/// A world that can make up its own steps.
pub trait Swarm: World {
    /// So many steps of a run. Each seed leaves out and favours others, so that rare things come in bulk.
    fn plan(seed: u64, steps: usize) -> Vec<Step<Self::Op>>;
}

/// What one seed did.
#[derive(Clone, Debug)]
pub struct Report<Op> {
    /// Counts.
    pub tally: Tally,
    /// A hash of every call of every disk: equal for equal seeds.
    pub trace: u64,
    /// What went wrong, if anything did.
    pub failure: Option<Failure<Op>>,
}

/// A broken promise and the steps that lead there.
#[derive(Clone, Debug)]
pub struct Failure<Op> {
    /// Repeats it.
    pub seed: u64,
    /// Of the shrunk steps.
    pub broken: Violation,
    /// What is left of the steps.
    pub steps: Vec<Step<Op>>,
    /// How many there were.
    pub planned: usize,
}

impl<Op: fmt::Debug> fmt::Display for Failure<Op> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}: {}", self.seed, self.broken)?;
        writeln!(f, "{} of {} steps:", self.steps.len(), self.planned)?;
        self.steps.iter().try_for_each(|step| writeln!(f, "  {step:?}"))
    }
}

/// How often a failing run is repeated to find its shortest steps.
const SHRINK_ATTEMPTS: usize = 400;

/// Runs one seed, and shrinks its steps where it fails.
pub fn run_seed<W: Swarm>(seed: u64, steps: usize) -> Report<W::Op> {
    let planned = W::plan(seed, steps);
    let mut tally = Tally { runs: 1, ..Tally::default() };
    let outcome = run_steps::<W>(seed, &planned, &mut tally);
    let (trace, failure) = match outcome {
        Ok(trace) => (trace, None),
        Err(_) => {
            let fails = |steps: &[Step<W::Op>]| run_steps::<W>(seed, steps, &mut Tally::default()).is_err();
            let steps = shrink(&planned, SHRINK_ATTEMPTS, fails);
            let again = run_steps::<W>(seed, &steps, &mut Tally::default());
            let broken = again.err().unwrap_or_else(|| Violation::new("a run that failed passes when repeated"));
            (0, Some(Failure { seed, broken, steps, planned: planned.len() }))
        }
    };
    Report { tally, trace, failure }
}

/// Runs these seeds, as many at once as there are processors.
///
/// # Errors
/// The lowest seed that fails, with its shrunk steps.
pub fn run_seeds<W>(seeds: Range<u64>, steps: usize) -> Result<Tally, Failure<W::Op>>
where
    W: Swarm,
    W::Op: Send,
{
    let (first, mut tally) = (seeds.start, Tally::default());
    let count = seeds.end.saturating_sub(first) as usize;
    share(count, &mut tally, |number, tally| {
        let report = run_seed::<W>(first + number as u64, steps);
        *tally += report.tally;
        report.failure.map_or(Ok(()), Err)
    })?;
    Ok(tally)
}

/// Runs these steps; the hash of all calls.
///
/// # Errors
/// The first broken promise; a panic is one too.
pub fn run_steps<W: World>(seed: u64, steps: &[Step<W::Op>], tally: &mut Tally) -> Result<u64, Violation> {
    without_panic(|| {
        let mut run = Run::<W> { world: W::new(SimDisk::new(seed), seed), trace: 0, image_seed: seed, tally };
        run.all(steps).map(|()| run.trace)
    })
}

struct Run<'a, W: World> {
    world: W,
    trace: u64,
    /// Of the crash that is armed.
    image_seed: u64,
    tally: &'a mut Tally,
}

impl<W: World> Run<'_, W> {
    fn all(&mut self, steps: &[Step<W::Op>]) -> Checked {
        must_open(&mut self.world, self.tally)?;
        for (number, step) in steps.iter().enumerate() {
            self.step(step).map_err(|broken| broken.within(format!("step {number}, {step:?}")))?;
        }
        self.step(&Step::Heal)?;
        self.step(&Step::Restart).map_err(|broken| broken.within("the restart at the end"))?;
        self.crash(self.image_seed).map_err(|broken| broken.within("the crash at the end"))?;
        self.note_disk();
        Ok(())
    }

    fn step(&mut self, step: &Step<W::Op>) -> Checked {
        let before = self.world.disk().clone();
        if let Step::Crash { seed, .. } = step {
            self.image_seed = *seed;
        }
        perform(&mut self.world, step, None, self.tally)?;
        if matches!(step, Step::Kill) {
            self.note(&before);
        }
        if self.world.trust().is_lost() {
            return self.begin_anew();
        }
        match self.world.disk().crashed() || matches!(step, Step::Crash { after: None, .. }) {
            true => self.crash(self.image_seed),
            false => Ok(()),
        }
    }

    /// Looks at some images of this moment and goes on with one.
    fn crash(&mut self, seed: u64) -> Checked {
        let mut rng = Rng::new(seed);
        let disk = self.world.disk().clone();
        self.tally.points += 1;
        let choice = disk.images(16, seed);
        for look in 0..2 {
            let survival = *rng.pick(&choice);
            let image = || self.world.over(disk.crash(survival));
            self.tally.images += 1;
            let checked = match look {
                0 if rng.one_in(64) => crash_inside(&image, 1 + rng.index(2) as u32, 3, seed, self.tally),
                _ => recover(image(), seed, self.tally),
            };
            checked.map_err(|broken| broken.within(format!("the image {survival:?}")))?;
        }
        let survival = *rng.pick(&choice);
        let next = self.world.over(disk.crash(survival));
        self.world = next;
        self.tally.images += 1;
        self.note(&disk);
        must_open(&mut self.world, self.tally).map_err(|broken| broken.within(format!("the image {survival:?}")))?;
        match self.world.trust().is_lost() {
            true => self.begin_anew(),
            false => Ok(()),
        }
    }

    /// The store is gone, and rightly so: the run goes on with a new one.
    fn begin_anew(&mut self) -> Checked {
        self.note_disk();
        let seed = self.image_seed;
        self.world = W::new(SimDisk::new(seed), seed);
        must_open(&mut self.world, self.tally)
    }

    fn note_disk(&mut self) {
        let disk = self.world.disk().clone();
        self.note(&disk);
    }

    /// Takes what a disk has seen into the hash, when the world leaves it.
    fn note(&mut self, disk: &SimDisk) {
        self.trace = (self.trace.rotate_left(5) ^ disk.trace_hash()).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.tally.faults += disk.struck().len() as u64;
    }
}
