//! Every fault at every call: an operation is done again and again, and each time another call of it goes wrong, once or for
//! good. After each the process stops in some ways, and in another it goes on.
//!
//! What must hold is the fault table: interruptions and short transfers are nobody's business; a full disk refuses and clears
//! by itself; a failed sync, or a failed write of the log, ends the store until it is opened again; any other failure is its
//! call's alone. Nothing acknowledged is lost, and every failure is told. Where the disk says `Ok` and has not done what it says,
//! what was acknowledged before that is there, and nothing wrong is shown; or the store says that it is damaged.

use std::fmt;

use super::aftermath::recover;
use super::{Checked, Mood, Tally, Violation, World, claim, failed_since, is_read_of_the_map, must_open};
use crate::disk::{AfterSync, Call, Effect, Fault, SimDisk, Strike, Survival, When};

/// What is done under faults.
#[derive(Clone, Debug)]
pub enum Target<Op> {
    /// An operation on an open store.
    Do(Op),
    /// A clean close.
    Close,
    /// A start of what was left.
    Start(Left<Op>),
}

/// How a store was left.
#[derive(Clone, Debug)]
pub enum Left<Op> {
    /// There is none: a start makes it.
    Nothing,
    /// Closed cleanly.
    Closed,
    /// Its process died.
    Killed,
    /// The machine stopped within this operation, at its counted call of this number.
    Crashed(Op, u64, Survival),
}

/// One operation in one place.
#[derive(Clone, Debug)]
pub struct Case<Op> {
    /// What it is called.
    pub name: &'static str,
    /// What is done before, without faults.
    pub prelude: Vec<Op>,
    /// What is done.
    pub target: Target<Op>,
    /// Whether it may keep a full disk to itself, since the flush that met it was nobody's wish.
    pub may_be_silent: bool,
}

/// The columns of the table: what goes wrong, and at which calls.
const COLUMNS: [(&str, Effect, &[Call]); 10] = [
    ("EIO", Effect::Eio, &Call::ALL),
    (
        "ENOSPC",
        Effect::Enospc,
        &[Call::Write, Call::Allocate, Call::SetLen, Call::Create, Call::SyncData, Call::SyncDir],
    ),
    ("short", Effect::Short, &[Call::Read, Call::Write]),
    ("EINTR", Effect::Eintr, &[Call::Read, Call::Write]),
    ("sync: kept", Effect::SyncFails(AfterSync::KeptClean), &SYNCS),
    ("sync: dropped", Effect::SyncFails(AfterSync::Dropped), &SYNCS),
    ("sync: lies on", Effect::SyncFails(AfterSync::LaterSyncLies), &SYNCS),
    ("lying sync", Effect::LyingSync, &SYNCS),
    ("lost write", Effect::LostWrite, &[Call::Write]),
    ("misdirected", Effect::MisdirectedWrite { delta: 4096 }, &[Call::Write]),
];

const SYNCS: [Call; 2] = [Call::SyncData, Call::SyncDir];

/// What came of one operation.
#[derive(Clone, Copy, Debug, Default)]
pub struct Row {
    /// For each column, runs in which a call was struck: once, and from then on.
    pub struck: [[u64; 2]; COLUMNS.len()],
    /// Runs in which the operation itself failed.
    pub told: u64,
    /// Runs that ended the store.
    pub poisoned: u64,
    /// Runs in which a failure was kept to itself, and rightly.
    pub silent: u64,
    /// Images that were recovered from.
    pub images: u64,
    /// Images that were refused as damaged, and rightly.
    pub refused: u64,
}

impl Row {
    /// Runs in which a call was struck.
    pub fn runs(&self) -> u64 {
        self.struck.iter().flatten().sum()
    }

    /// The names of the columns.
    pub fn heads() -> String {
        let heads: Vec<_> = COLUMNS.iter().map(|(name, ..)| *name).collect();
        format!("{} (once+sticky) | told, ended, silent | images, refused", heads.join(" | "))
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cells: Vec<_> = self.struck.iter().map(|[once, sticky]| format!("{once}+{sticky}")).collect();
        let Row { told, poisoned, silent, images, refused, .. } = self;
        write!(f, "{} | {told}, {poisoned}, {silent} | {images}, {refused}", cells.join(" | "))
    }
}

/// Does the operation under every fault at every call.
///
/// # Errors
/// The first broken promise, with the fault and the call's number.
pub fn strike_everywhere<W: World>(case: &Case<W::Op>, tally: &mut Tally) -> Result<Row, Violation> {
    let mut row = Row::default();
    for (column, (name, effect, calls)) in COLUMNS.into_iter().enumerate() {
        for (call, sticky) in calls.iter().flat_map(|call| [(*call, false), (*call, true)]) {
            if sticky && effect == Effect::Eintr {
                // An interruption that never ends is a hang by anyone's account.
                continue;
            }
            for nth in 0.. {
                let when = if sticky { When::From(nth) } else { When::Once(nth) };
                let fault = Fault::new(call, when, effect);
                let struck = strike::<W>(case, fault, nth, &mut row, tally)
                    .map_err(|broken| broken.within(format!("{}: {name} at {call:?}, {when:?}", case.name)))?;
                if !struck {
                    break;
                }
                row.struck[column][usize::from(sticky)] += 1;
            }
        }
    }
    Ok(row)
}

/// A world as it is before the target.
fn prepare<W: World>(case: &Case<W::Op>, tally: &mut Tally) -> Result<W, Violation> {
    let mut world = W::new(SimDisk::new(7), 7);
    if matches!(case.target, Target::Start(Left::Nothing)) {
        return Ok(world);
    }
    must_open(&mut world, tally)?;
    for op in &case.prelude {
        tally.operations += 1;
        world.apply(op)?;
    }
    match &case.target {
        Target::Do(_) | Target::Close | Target::Start(Left::Nothing) => return Ok(world),
        Target::Start(Left::Closed) => world.close()?,
        Target::Start(Left::Killed) => world = world.over(world.disk().kill()),
        Target::Start(Left::Crashed(op, call, survival)) => {
            world.disk().crash_at(world.disk().io_count() + call);
            world.apply(op)?;
            claim(world.disk().crashed(), || format!("{op:?} has no call {call}"))?;
            world = world.over(world.disk().crash(*survival));
        }
    }
    Ok(world)
}

/// One run. `false` where no call was struck: the operation has no more.
fn strike<W: World>(
    case: &Case<W::Op>,
    fault: Fault,
    nth: u64,
    row: &mut Row,
    tally: &mut Tally,
) -> Result<bool, Violation> {
    let mut world = prepare::<W>(case, tally)?;
    let (told, before) = (world.trust().told(), world.disk().struck().len());
    world.disk().fault(fault);
    tally.runs += 1;
    match &case.target {
        Target::Do(op) => world.apply(op)?,
        Target::Close => world.close()?,
        Target::Start(_) => drop(world.start()?),
    }
    if world.disk().struck().len() == before {
        return Ok(false);
    }
    tally.faults += 1;
    let failed = failed_since(world.disk(), before);
    let is_told = world.trust().told() > told;
    row.told += u64::from(is_told);
    let lied = world.disk().struck().iter().any(|strike| strike.effect.lies());
    claim(!is_told || lied || !failed.is_empty(), || "a transfer that is only repeated made a call fail".to_owned())?;
    let refused = tally.refused;
    stop_here(&world, nth, row, tally)?;
    row.refused += tally.refused - refused;
    if world.is_open() && lied {
        world.close()?;
    } else if world.is_open() {
        let poisons = live_on(&mut world, before)?;
        row.poisoned += u64::from(poisons);
        if !failed.is_empty() && !is_told && !poisons {
            let is_there_twice = failed.iter().all(|strike| is_read_of_the_map(world.disk(), strike));
            claim(case.may_be_silent || is_there_twice, || format!("nobody was told of {failed:?}"))?;
            row.silent += 1;
        }
        world.close()?;
    }
    // In this process, on the disk as it is now, whatever a failed sync has made of it.
    must_open(&mut world, tally)?;
    if !world.trust().is_lost() {
        world.prove().map_err(|broken| broken.within("the store after its next start"))?;
    }
    Ok(true)
}

/// The machine stops, or the process dies.
fn stop_here<W: World>(world: &W, seed: u64, row: &mut Row, tally: &mut Tally) -> Checked {
    let disk = world.disk();
    for survival in disk.images(4, seed) {
        tally.images += 1;
        row.images += 1;
        let recovered = recover(world.over(disk.crash(survival)), seed, tally);
        recovered.map_err(|broken| broken.within(format!("the image {survival:?}")))?;
    }
    recover(world.over(disk.kill()), seed, tally).map_err(|broken| broken.within("the state after a kill"))
}

/// The process lives on, first on the disk as it is, then on one without faults. Whether the store has ended.
fn live_on<W: World>(world: &mut W, before: usize) -> Result<bool, Violation> {
    let ends = |world: &W| failed_since(world.disk(), before).iter().any(|strike| ends_the_store(world.disk(), strike));
    let mood = world.mood().map_err(|broken| broken.within("the store on its failing disk"))?;
    claim((mood == Mood::Poisoned) == ends(world), || format!("{mood:?} after {:?}", world.disk().struck()))?;
    world.disk().clear_faults();
    let mood = world.mood().map_err(|broken| broken.within("the store once its disk works again"))?;
    let expected = if ends(world) { Mood::Poisoned } else { Mood::Works };
    claim(mood == expected, || format!("{mood:?} after {:?} is over", world.disk().struck()))?;
    Ok(mood == Mood::Poisoned)
}

/// A failed sync, and a failed write of the log itself. One of the map costs a checkpoint only.
fn ends_the_store(disk: &SimDisk, strike: &Strike) -> bool {
    // One that is gone was of the map, given back by the checkpoint that failed.
    let is_there = || disk.file_names().iter().any(|name| **name == *strike.file);
    let is_log =
        || strike.file.starts_with("seg-") && is_there() && disk.read_file(&strike.file).get(STREAM) == Some(&0);
    strike.fails_sync() || strike.call == Call::Write && strike.effect == Effect::Eio && is_log()
}

/// Where a segment's header says which stream it is of; 0 is the log.
const STREAM: usize = 13;
