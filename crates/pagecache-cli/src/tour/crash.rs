//! The second part of the tour: a writer is killed, three times, once while it reopens; nothing acknowledged may be lost.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use pagecache::{ConfigBuilder, PageCache};
use serde::Serialize;

use super::ledger::{Entries, Ledger, Outcome};
use super::place::random;
use super::writer;
use crate::child::{Child, lock};
use crate::show::{bytes, count, many, time};
use crate::{Failure, tour::Say};

const FILLER: u64 = 200;
const BATCH: u64 = 4;

/// Starts a writer; what it acknowledges goes into the ledger as it is said.
pub(super) fn start(args: &writer::Args, ledger: &Arc<Mutex<Ledger>>) -> Result<Child, Failure> {
    let ledger = Arc::clone(ledger);
    Child::start(args.to_line(), move |words| match words {
        ["ack", page, number] => match (page.parse(), number.parse()) {
            (Ok(page), Ok(number)) => {
                lock(&ledger).acknowledge(page, number);
                true
            }
            _ => false,
        },
        _ => false,
    })
}

/// A reopening by the tour after a kill.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Reopened {
    pub(super) kill: &'static str,
    pub(super) recovery_ms: f64,
    pub(super) replayed_bytes: u64,
    #[serde(flatten)]
    pub(super) outcome: Outcome,
}

/// What came of the crash part.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Crashes {
    pub(super) reopened: Vec<Reopened>,
    pub(super) acknowledgements_per_second: f64,
}

impl Crashes {
    pub(super) fn lost(&self) -> u64 {
        self.reopened.iter().map(|reopened| reopened.outcome.lost).sum()
    }
}

/// Opens the store of a dead writer and compares.
pub(super) fn reopen(
    store: &Path,
    ledger: &Ledger,
    filler: u64,
    read_only: bool,
    kill: &'static str,
) -> Result<Reopened, Failure> {
    let started = Instant::now();
    let pc = PageCache::<Entries>::start(ConfigBuilder::new().path(store).read_only(read_only).build())?;
    let took = started.elapsed();
    let outcome = ledger.compare(&pc, filler)?;
    let replayed_bytes = pc.stats().replayed_bytes;
    pc.close()?;
    Ok(Reopened { kill, recovery_ms: took.as_secs_f64() * 1e3, replayed_bytes, outcome })
}

/// Kills a writer while it writes, again, and then while it reopens what the second kill has left.
pub(super) fn run(say: Say, store: &Path, unit: Duration) -> Result<Crashes, Failure> {
    let args = writer::Args { store: store.to_owned(), filler: FILLER, batch: BATCH, die: false, lie: false };
    let ledger = Arc::new(Mutex::new(Ledger::default()));
    let (mut reopened, mut acknowledgements, mut writing) = (Vec::new(), 0, Duration::ZERO);
    for (kill, read_only) in [("while writing", false), ("while writing again", true)] {
        let writer = start(&args, &ledger)?;
        writer.wait("its first acknowledgements", |heard| heard.acknowledgements >= 100)?;
        let moment = unit.mul_f64(0.5 + (random() % 1000) as f64 / 1000.0);
        watch(&writer, &ledger, moment);
        {
            let heard = writer.heard();
            acknowledgements += heard.acknowledgements;
            writing += heard.open.map(|open| open.elapsed()).unwrap_or_default();
        }
        writer.kill()?;
        // What the second kill has left stays as it is, for the writer to reopen.
        let found = reopen(store, &lock(&ledger), FILLER, read_only, kill)?;
        say.line(format!("  {}", shown(&found)));
        reopened.push(found);
    }
    let usual = reopened.last().map_or(1.0, |last| last.recovery_ms);
    let after = kill_in_reopening(&args, &ledger, usual)?;
    let found = reopen(store, &lock(&ledger), FILLER, false, "while reopening")?;
    say.line(format!("  {}", shown(&found)));
    say.line(format!("    the kill came {} after the writer began to reopen, before it was done", time(after)));
    reopened.push(found);
    let acknowledgements_per_second = acknowledgements as f64 / writing.as_secs_f64().max(1e-9);
    Ok(Crashes { reopened, acknowledgements_per_second })
}

fn shown(reopened: &Reopened) -> String {
    let outcome = &reopened.outcome;
    format!(
        "killed {:<20} {:>8} acknowledged, {:>8} found, {} lost ({} more found, in order); {} replayed in {}",
        reopened.kill,
        count(outcome.acknowledged),
        count(outcome.found),
        count(outcome.lost),
        count(outcome.unacknowledged),
        bytes(reopened.replayed_bytes),
        time(Duration::from_secs_f64(reopened.recovery_ms / 1e3)),
    )
}

/// Shows how the ledger grows until the moment has come.
fn watch(writer: &Child, ledger: &Mutex<Ledger>, moment: Duration) {
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("  {spinner} {msg}") {
        bar.set_style(style);
    }
    let until = Instant::now() + moment;
    while Instant::now() < until && !writer.heard().ended {
        bar.set_message(format!("{} acknowledged", many(lock(ledger).count(), "fragment")));
        bar.tick();
        std::thread::sleep(Duration::from_millis(20).min(until.saturating_duration_since(Instant::now())));
    }
    bar.finish_and_clear();
}

/// Kills a writer before it says that it is open; tries again where the kill came too late. Returns how long it had.
fn kill_in_reopening(args: &writer::Args, ledger: &Arc<Mutex<Ledger>>, usual_ms: f64) -> Result<Duration, Failure> {
    let mut share = (random() % 1000) as f64 / 1000.0;
    for _ in 0..20 {
        let writer = start(args, ledger)?;
        writer.wait("its opening", |heard| heard.opening.is_some())?;
        let began = writer.heard().opening.unwrap_or_else(Instant::now);
        let moment = Duration::from_secs_f64(usual_ms * share / 1e3);
        std::thread::sleep(moment.saturating_sub(began.elapsed()));
        let after = began.elapsed();
        if writer.kill()?.open.is_none() {
            return Ok(after);
        }
        share /= 2.0;
    }
    Err("the writer reopens too fast to be killed meanwhile".into())
}
