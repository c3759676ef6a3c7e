//! Drivers over any store that runs on a simulated disk: every short sequence of steps, or long random ones.
//!
//! A [`World`] is a store, the disk it runs on, and what is expected of it. The drivers know steps, crashes and images; the
//! world knows its operations and its promises.
//!
//! - [`exhaustive`]: all sequences over a small alphabet, stopped before and after every counted call.
//! - [`seeded`]: random steps, faults and crashes; a seed repeats a run, a failure comes with its shortest steps.
//! - [`strikes`]: every fault at every call of an operation, once and for good.
//! - [`torn_everywhere`]: the last flush, torn at every byte.
//! - [`aftermath`]: what they do where a process stops: all images, crashes inside recovery, life after it.
//! - [`share()`]: sequences and seeds know nothing of one another, so there are as many at once as there are processors.

pub mod aftermath;
pub mod exhaustive;
pub mod mix;
pub mod seeded;
mod share;
pub mod shrink;
pub mod strikes;
mod tally;
mod torn;
mod trust;

pub use share::share;
pub use tally::{Tally, Upkeep};
pub use torn::torn_everywhere;
pub use trust::{Blind, Trust, failed_since, has_struck, is_read_of_the_map};

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::disk::{Fault, SimDisk};

/// What a check says.
pub type Checked = Result<(), Violation>;

/// A promise that was broken, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    claim: String,
    trail: Vec<String>,
}

impl Violation {
    /// A broken promise.
    pub fn new(claim: impl Into<String>) -> Violation {
        Violation { claim: claim.into(), trail: Vec::new() }
    }

    /// What was promised and is not so.
    pub fn claim(&self) -> &str {
        &self.claim
    }

    /// The same, with where it happened; the innermost comes first.
    #[must_use]
    pub fn within(mut self, place: impl Into<String>) -> Violation {
        self.trail.push(place.into());
        self
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.claim)?;
        self.trail.iter().try_for_each(|place| write!(f, "\n  in {place}"))
    }
}

/// `Err` with the claim where it does not hold.
///
/// # Errors
/// A [`Violation`].
pub fn claim(holds: bool, claim: impl FnOnce() -> String) -> Checked {
    if holds { Ok(()) } else { Err(Violation::new(claim())) }
}

/// Runs it; a panic is a broken promise like any other.
///
/// # Errors
/// Its own, and the panic's message.
pub fn without_panic<T>(run: impl FnOnce() -> Result<T, Violation>) -> Result<T, Violation> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(Violation::new(format!("a panic: {}", text.unwrap_or_default())))
    })
}

/// A store on a simulated disk, with what is expected of it.
///
/// Every method that touches the store may meet the disk's crash point: it then returns `Ok` with the world closed, and
/// what is expected is what it was, plus whatever the interrupted call leaves open.
pub trait World: Sized {
    /// One call, or a few that belong together. It must mean something in every state, so that steps can be left out.
    type Op: Clone + fmt::Debug;

    /// A closed world over an empty disk. The seed decides contents.
    fn new(disk: SimDisk, seed: u64) -> Self;

    /// The same expectation of another disk; closed.
    fn over(&self, disk: SimDisk) -> Self;

    /// The disk.
    fn disk(&self) -> &SimDisk;

    /// Whether the store is open and its process alive.
    fn is_open(&self) -> bool;

    /// What it was told and may have lost.
    fn trust(&self) -> &Trust;

    /// Opens the store once, which recovers it. What is found must be allowed by what is expected; from then on exactly that
    /// is expected, all of it durable, and the armed faults are cleared. `false` where it failed and may have.
    ///
    /// # Errors
    /// A promise is broken.
    fn start(&mut self) -> Result<bool, Violation>;

    /// Opens the store. Where armed faults make it fail they are cleared, and it is opened again.
    ///
    /// # Errors
    /// A promise is broken: one of them is that opening succeeds.
    fn open(&mut self) -> Checked {
        trust::end_lies(self.disk());
        if self.start()? || self.is_over() {
            return Ok(());
        }
        self.disk().clear_faults();
        self.disk().set_capacity(None);
        let again = self.start()? || self.is_over();
        claim(again, || "a start failed on a disk without faults".to_owned())
    }

    /// Whether nothing more can be asked: the process has died, or the store was refused as damaged and rightly so.
    fn is_over(&self) -> bool {
        self.disk().crashed() || self.trust().is_lost()
    }

    /// Closes the store cleanly.
    ///
    /// # Errors
    /// A promise is broken.
    fn close(&mut self) -> Checked;

    /// Does one operation and checks what it answers.
    ///
    /// # Errors
    /// A promise is broken.
    fn apply(&mut self, op: &Self::Op) -> Checked;

    /// Shows that an open store takes, keeps and returns something new.
    ///
    /// # Errors
    /// It does not.
    fn prove(&mut self) -> Checked;

    /// Asks an open store for a little more and for a flush, whatever has become of it.
    ///
    /// # Errors
    /// It answers something else than [`Mood`] knows.
    fn mood(&mut self) -> Result<Mood, Violation>;

    /// What it has counted since it was asked last.
    fn upkeep(&mut self) -> Upkeep {
        Upkeep::default()
    }
}

/// What an open store answers to an update and a flush.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    /// `Ok`.
    Works,
    /// `NoSpace`, or the failure of a call that costs nobody else anything.
    Refuses,
    /// `Poisoned`.
    Poisoned,
}

/// One step of a run: the world's own operation, or something that happens to it.
#[derive(Clone, Debug, PartialEq)]
pub enum Step<Op> {
    /// An operation.
    Do(Op),
    /// A clean close and an open.
    Restart,
    /// The process dies and the machine goes on; then an open.
    Kill,
    /// The machine stops, now or at the counted call with this number from now; then an open of one of the images.
    Crash {
        /// 0 is before the next counted call, if any comes; `None` is now.
        after: Option<u64>,
        /// Decides the image.
        seed: u64,
    },
    /// Arms a fault.
    Fault(Fault),
    /// Leaves so many bytes of disk free.
    Room(u64),
    /// Clears faults and the limit on the disk.
    Heal,
}

/// Takes what a world has counted since it was asked last.
fn note<W: World>(world: &mut W, tally: &mut Tally) {
    tally.upkeep += world.upkeep();
}

/// Opens a world that must come up, its disk having no crash point, unless it is rightly refused as damaged.
fn must_open<W: World>(world: &mut W, tally: &mut Tally) -> Checked {
    tally.starts += 1;
    let opened = world.open();
    note(world, tally);
    opened?;
    tally.refused += u64::from(world.trust().is_lost());
    claim(world.is_open() || world.trust().is_lost(), || "a store did not open".to_owned())
}

/// Does a step that is no crash; `stop_after` stops the process at the counted call with this number within it.
fn perform<W: World>(world: &mut W, step: &Step<W::Op>, stop_after: Option<u64>, tally: &mut Tally) -> Checked {
    let arm = |disk: &SimDisk| {
        if let Some(calls) = stop_after {
            disk.crash_at(disk.io_count() + calls);
        }
    };
    match step {
        Step::Kill => {
            let disk = world.disk().kill();
            arm(&disk);
            *world = world.over(disk);
        }
        _ => arm(world.disk()),
    }
    match step {
        Step::Do(op) => {
            tally.operations += 1;
            let applied = world.apply(op);
            note(world, tally);
            return applied;
        }
        Step::Restart => {
            world.close()?;
            if world.disk().crashed() {
                return Ok(());
            }
        }
        Step::Kill => {}
        Step::Crash { after, .. } => {
            let disk = world.disk();
            disk.crash_at(after.map_or(0, |calls| disk.io_count() + calls));
            return Ok(());
        }
        Step::Fault(fault) => {
            world.disk().fault(fault.clone());
            return Ok(());
        }
        Step::Room(bytes) => {
            let disk = world.disk();
            disk.set_capacity(Some(disk.used_bytes() + bytes));
            return Ok(());
        }
        Step::Heal => {
            world.disk().clear_faults();
            world.disk().set_capacity(None);
            return Ok(());
        }
    }
    tally.starts += 1;
    let opened = world.open();
    note(world, tally);
    opened?;
    tally.refused += u64::from(world.trust().is_lost());
    Ok(())
}
