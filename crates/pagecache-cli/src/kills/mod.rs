//! `pagecache kills`: a writer of pages and of a bare log is killed again and again, also while it recovers; what it acknowledged
//! is kept in a ledger here, and must be there each time.

mod check;
mod plan;
mod stores;
pub(crate) mod writer;

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::child::{Child, lock};
use crate::show::{self, bytes, count, many};
use crate::tour::ledger::{THREADS, mix};
use crate::tour::place::{Place, random};
use crate::{DAMAGED, FAILED, Failure, SOUND};
use check::{Found, Ledger, Upkeep, problems};
use plan::Plan;
use stores::Stores;

/// Cycles on one store, before a new one: long enough for images to be moved again; and the birth of a store is killed, too.
const CYCLES_A_STORE: u64 = 25;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Writers to kill.
    #[arg(long, default_value_t = 50)]
    cycles: u64,
    /// Repeats what the writers do, and when they are killed as far as a clock can.
    #[arg(long)]
    seed: Option<u64>,
    /// The longest that a writer writes, in milliseconds.
    #[arg(long, default_value_t = 250)]
    write_ms: u64,
    /// Plant a bug, which must be found.
    #[arg(long)]
    plant: Option<Plant>,
    /// Print what came of it as JSON.
    #[arg(long)]
    json: bool,
}

/// Bugs that a kill must bring to light.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Plant {
    /// The writer acknowledges before it writes.
    Early,
    /// Who reopens the store forgets what was freed.
    Frees,
}

impl Plant {
    #[cfg(feature = "canary")]
    fn plant(self) -> Result<(), Failure> {
        use pagecache::canary::{Canary, plant};
        plant(Some(if self == Plant::Early { Canary::EarlyAcknowledgement } else { Canary::FreeForgottenAtReplay }));
        Ok(())
    }

    #[cfg(not(feature = "canary"))]
    fn plant(self) -> Result<(), Failure> {
        Err("built without the feature canary".into())
    }
}

/// What came of it.
#[derive(Clone, Debug, Default, Serialize)]
struct Sum {
    seed: u64,
    cycles: u64,
    threads: u64,
    /// Kills of a child that had said `opening` and not yet `open`.
    kills_in_recovery: u64,
    kills: u64,
    /// Acknowledgements, in steps on pages and messages of the log.
    acknowledged: u64,
    found: u64,
    lost: u64,
    /// Found, though the kill came before the acknowledgement.
    unacknowledged: u64,
    #[serde(flatten)]
    upkeep: Upkeep,
    seconds: f64,
}

pub(crate) fn run(args: &Args) -> Result<u8, Failure> {
    let seed = args.seed.unwrap_or_else(random);
    if !args.json {
        show::line(format!("seed {seed}"));
    }
    if args.plant == Some(Plant::Frees) {
        Plant::Frees.plant()?;
    }
    let started = Instant::now();
    let mut sum = Sum { seed, threads: THREADS, ..Sum::default() };
    while sum.cycles < args.cycles {
        let place = Place::new()?;
        let cycles = CYCLES_A_STORE.min(args.cycles - sum.cycles);
        let mut store = Store::new(place.path(), mix(seed ^ sum.cycles), args);
        for _ in 0..cycles {
            if let Err(broken) = store.cycle(&mut sum) {
                eprintln!("seed {seed}, cycle {}: {broken}", sum.cycles);
                if args.plant.is_none() {
                    eprintln!("the stores are kept in {}", place.keep().display());
                }
                return Ok(DAMAGED);
            }
            sum.cycles += 1;
        }
    }
    sum.seconds = started.elapsed().as_secs_f64();
    show::line(if args.json { serde_json::to_string_pretty(&sum)? } else { shown(&sum) });
    let missing = missing(&sum);
    if !missing.is_empty() {
        eprintln!("the run says nothing: there was {}", missing.join(", "));
    }
    Ok(if sum.lost == 0 && missing.is_empty() { SOUND } else { FAILED })
}

/// What a run must have met to say anything.
fn missing(sum: &Sum) -> Vec<&'static str> {
    [
        (sum.kills_in_recovery, "no kill during recovery"),
        (sum.upkeep.checkpoints, "no checkpoint"),
        (sum.upkeep.fold_bytes, "no page moved out of the log"),
        (sum.upkeep.survivor_bytes, "no page moved a second time"),
    ]
    .into_iter()
    .filter_map(|(number, what)| (number == 0).then_some(what))
    .collect()
}

fn shown(sum: &Sum) -> String {
    format!(
        "{} cycles, {} kills, {} of them during recovery; {} acknowledged, {} found, {} lost ({} more found, in order); \
         before the kills {}, {} of pages moved out of the log and {} moved again",
        count(sum.cycles),
        count(sum.kills),
        count(sum.kills_in_recovery),
        count(sum.acknowledged),
        count(sum.found),
        count(sum.lost),
        count(sum.unacknowledged),
        many(sum.upkeep.checkpoints, "checkpoint"),
        bytes(sum.upkeep.fold_bytes),
        bytes(sum.upkeep.survivor_bytes),
    )
}

/// Two stores that are killed together.
struct Store<'a> {
    place: &'a Path,
    seed: u64,
    dice: u64,
    write_ms: u64,
    lie: bool,
    ledger: Arc<Mutex<Ledger>>,
    /// How long the last opening that was let finish took.
    opening: Duration,
}

impl<'a> Store<'a> {
    fn new(place: &'a Path, seed: u64, args: &Args) -> Store<'a> {
        let ledger = Arc::new(Mutex::new(Ledger::new(seed)));
        let (write_ms, lie) = (args.write_ms, args.plant == Some(Plant::Early));
        Store { place, seed, dice: seed, write_ms, lie, ledger, opening: Duration::from_millis(5) }
    }

    fn dice(&mut self, below: u64) -> u64 {
        self.dice = mix(self.dice);
        self.dice % below.max(1)
    }

    fn start(&self, open_only: bool) -> Result<Child, Failure> {
        let ledger = lock(&self.ledger);
        let steps = ledger.plans.iter().map(|plan: &Plan| plan.done).collect();
        let args = writer::Args {
            place: self.place.to_owned(),
            seed: self.seed,
            steps,
            records: ledger.records.clone(),
            open_only,
            lie: self.lie && !open_only,
        };
        drop(ledger);
        let shared = Arc::clone(&self.ledger);
        Child::start(args.to_line(), move |words| lock(&shared).note(words))
    }

    /// A writer is killed, half of the time then once or more while it recovers; everything is checked.
    fn cycle(&mut self, sum: &mut Sum) -> Result<(), Failure> {
        let writer = self.start(false)?;
        // Some are killed at once, whatever they are doing.
        if self.dice(8) > 0 {
            writer.wait("its first acknowledgement", |heard| heard.acknowledgements > 0)?;
        }
        std::thread::sleep(Duration::from_micros(self.dice(self.write_ms * 1000)));
        let heard = writer.kill()?;
        sum.kills += 1;
        sum.upkeep.add(std::mem::take(&mut lock(&self.ledger).upkeep));
        sum.kills_in_recovery += u64::from(heard.opening.is_some() && heard.open.is_none());
        if let (Some(opening), Some(open)) = (heard.opening, heard.open) {
            self.opening = open - opening;
        }
        for _ in 0..self.dice(4) {
            self.kill_in_recovery(sum)?;
        }
        self.check(sum)
    }

    fn kill_in_recovery(&mut self, sum: &mut Sum) -> Result<(), Failure> {
        let opener = self.start(true)?;
        opener.wait("its opening", |heard| heard.opening.is_some())?;
        let moment = self.dice(self.opening.as_micros() as u64);
        std::thread::sleep(Duration::from_micros(moment));
        let heard = opener.kill()?;
        sum.kills += 1;
        sum.kills_in_recovery += u64::from(heard.open.is_none());
        Ok(())
    }

    /// A reader first, half of the time; then a writer, which must find the same; then a look from outside.
    fn check(&mut self, sum: &mut Sum) -> Result<(), Failure> {
        let mut ledger = lock(&self.ledger).clone();
        // A store that was never born has nothing to read.
        let there = ["pages", "log"].iter().all(|name| self.place.join(name).join("LOCK").exists());
        if there && self.dice.is_multiple_of(2) && ledger.steps.iter().any(|steps| *steps > 0) {
            let mut seen = Found::default();
            ledger.clone().compare(&Stores::open(self.place, true)?, &mut seen)?;
            if seen.lost > 0 {
                return Err(format!("a reader misses {} of {} acknowledged", seen.lost, seen.acknowledged).into());
            }
        }
        let mut found = Found::default();
        let stores = Stores::open(self.place, false)?;
        let compared = ledger.compare(&stores, &mut found);
        let accounts = stores.pages.check_accounts();
        stores.close()?;
        compared?;
        accounts?;
        let problems = problems(self.place)?;
        if !problems.is_empty() {
            return Err(problems.join("; ").into());
        }
        *lock(&self.ledger) = ledger;
        sum.acknowledged += found.acknowledged;
        sum.found += found.found;
        sum.lost += found.lost;
        sum.unacknowledged += found.more;
        Ok(())
    }
}
