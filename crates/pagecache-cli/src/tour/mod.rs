//! `pagecache tour [DIR]`: index, search, crash, verify, measure; every number is of this run.

mod crash;
mod files;
mod index;
pub(crate) mod ledger;
mod liar;
pub(crate) mod place;
pub(crate) mod slow;
mod speed;
mod words;
pub(crate) mod writer;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pagecache::inspect::{self, Report};
use pagecache::{Config, ConfigBuilder, PageCache, Stats};
use serde::Serialize;

use crate::show::{self, Table, bytes, count, time};
use crate::{FAILED, Failure, SOUND, verify};
use place::Place;
use speed::Speed;
use words::Index;

/// Seconds of indexing where nothing else is said.
const SECONDS: f64 = 6.0;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The directory whose text files are indexed.
    #[arg(default_value = ".")]
    dir: PathBuf,
    /// The most seconds to index for; the other parts shrink with it.
    #[arg(long, default_value_t = SECONDS)]
    seconds: f64,
    /// Print what was found and measured as JSON, and the story to stderr.
    #[arg(long)]
    json: bool,
}

/// Where the story goes.
#[derive(Clone, Copy)]
struct Say {
    json: bool,
}

impl Say {
    fn line(self, line: impl AsRef<str>) {
        if self.json { eprintln!("{}", line.as_ref()) } else { show::line(line) }
    }
}

/// All that the tour found and measured.
#[derive(Serialize)]
struct Found {
    file_system: Option<String>,
    speeds: Vec<Speed>,
    index: Stats,
    index_recovery_ms: f64,
    index_replayed_bytes: u64,
    resident_set_bytes: Option<u64>,
    crashes: crash::Crashes,
    proof: liar::Proof,
    problems: u64,
    seconds: f64,
}

impl Found {
    /// Why the tour failed, if it did.
    fn failures(&self) -> Vec<&'static str> {
        let mut failures = Vec::new();
        if self.crashes.lost() > 0 || self.proof.honest.outcome.lost > 0 {
            failures.push("something acknowledged was LOST");
        }
        if self.proof.lying.as_ref().is_some_and(|lying| lying.outcome.lost == 0) {
            failures.push("a store that lies was not caught");
        }
        if self.problems > 0 {
            failures.push("a store is DAMAGED");
        }
        failures
    }
}

pub(crate) fn run(args: &Args) -> Result<u8, Failure> {
    if !(args.seconds > 0.0 && args.seconds <= 3600.0) {
        return Err("--seconds takes a number above 0, up to 3600".into());
    }
    let say = Say { json: args.json };
    let started = Instant::now();
    let place = Place::new()?;
    let shrink = (args.seconds / SECONDS).min(1.0);
    let found = stroll(say, args, &place, shrink, started)?;
    let failures = found.failures();
    if args.json {
        show::line(serde_json::to_string_pretty(&found)?);
    }
    say.line("");
    say.line(match failures.as_slice() {
        [] => format!("Nothing was lost and nothing is damaged. {} in all.", time(started.elapsed())),
        failures => format!("FAILED: {}.", failures.join("; ")),
    });
    Ok(if failures.is_empty() { SOUND } else { FAILED })
}

fn stroll(say: Say, args: &Args, place: &Place, shrink: f64, started: Instant) -> Result<Found, Failure> {
    let file_system = place.file_system();
    let on = file_system.as_deref().unwrap_or("a file system of unknown type");
    say.line(format!("A tour of pagecache, in {} ({on})", place.path().display()));
    say.line(format!("\n1. An index of the words below {}: a page for each bucket of words", args.dir.display()));
    let store = place.store("index");
    let config = || ConfigBuilder::new().path(&store).build();
    let pc = PageCache::<Index>::start(config())?;
    let indexed = index::build(say, &pc, &args.dir, Duration::from_secs_f64(args.seconds))?;
    index::search(say, &pc, &indexed.files)?;
    index::fragments(say, &pc)?;
    let links = Speed::new("link, while indexing", 4, &indexed.links, indexed.took);
    let gets = speed::gets(&pc, Duration::from_secs_f64(1.5 * shrink))?;
    let commits = speed::commits(&pc, Duration::from_secs_f64(2.5 * shrink))?;
    let index = pc.stats();
    let resident_set_bytes = place::resident_set();
    pc.close()?;
    let (index_recovery_ms, index_replayed_bytes) = restart(config())?;

    say.line("\n2. A writer with 4 threads is killed three times; a ledger here knows what it acknowledged");
    let crashed = place.store("crashed");
    let crashes = crash::run(say, &crashed, Duration::from_secs_f64(3.0 * shrink))?;
    let proof = liar::run(say, place)?;

    say.line("\n3. Every record of every segment is checked");
    let problems = check(say, "index", &store)? + check(say, "killed store", &crashed)?;

    let found = Found {
        file_system: file_system.clone(),
        speeds: vec![links, gets, commits],
        index,
        index_recovery_ms,
        index_replayed_bytes,
        resident_set_bytes,
        crashes,
        proof,
        problems,
        seconds: started.elapsed().as_secs_f64(),
    };
    say.line("\n4. Measured on the way");
    say.line(speed::table(&found.speeds).render());
    say.line(figures(&found).render().trim_end());
    Ok(found)
}

/// Milliseconds to open the index again after its close, and the bytes replayed.
fn restart(config: Config) -> Result<(f64, u64), Failure> {
    let started = Instant::now();
    let pc = PageCache::<Index>::start(config)?;
    let took = started.elapsed();
    let replayed = pc.stats().replayed_bytes;
    pc.close()?;
    Ok((took.as_secs_f64() * 1e3, replayed))
}

fn check(say: Say, what: &str, store: &Path) -> Result<u64, Failure> {
    let started = Instant::now();
    let report: Report = inspect::verify(ConfigBuilder::new().path(store).build())?;
    let took = time(started.elapsed());
    say.line(format!("  {what}: {}, {} in {took}", verify::summary(&report), bytes(report.bytes.total())));
    for problem in &report.problems {
        say.line(format!("    {problem}"));
    }
    Ok(report.problems.len() as u64)
}

fn figures(found: &Found) -> Table {
    let mut table = Table::new(["figure", "value"]);
    let mut row = |what: &str, value: String| table.row([what.to_owned(), value]);
    let index = &found.index;
    row("index: given, as encoded", bytes(index.given_bytes));
    row("index: written to the log", bytes(index.written_bytes));
    row("index: on disk", bytes(index.disk_bytes));
    row("index: pages", count(index.pages));
    row("index: pages resident", bytes(index.resident_bytes));
    row("index: the log's ring", bytes(index.ring_bytes));
    if let Some(resident_set) = found.resident_set_bytes {
        row("process: resident set", bytes(resident_set));
    }
    let recovery =
        |ms: f64, replayed| format!("{} ({} replayed)", time(Duration::from_secs_f64(ms / 1e3)), bytes(replayed));
    row("reopening the index", recovery(found.index_recovery_ms, found.index_replayed_bytes));
    if let Some(last) = found.crashes.reopened.iter().max_by(|a, b| a.recovery_ms.total_cmp(&b.recovery_ms)) {
        row("reopening after a kill, longest", recovery(last.recovery_ms, last.replayed_bytes));
    }
    row("acknowledgements per second", count(found.crashes.acknowledgements_per_second as u64));
    table
}
