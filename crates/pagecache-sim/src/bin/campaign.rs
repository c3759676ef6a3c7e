//! Long runs of the drivers: `campaign log|pages --seeds N --ops M --start S`; every failure is printed with its shortest steps.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Instant;

use pagecache_sim::driver::Tally;
use pagecache_sim::driver::seeded::{Swarm, run_seed};
use pagecache_sim::log_driver::LogWorld;
use pagecache_sim::page_driver::PageWorld;

const USAGE: &str = "campaign log|pages [--seeds N] [--ops M] [--start S]";

struct Options {
    seeds: u64,
    ops: usize,
    start: u64,
}

fn options(arguments: &[String]) -> Option<Options> {
    let mut options = Options { seeds: 10_000, ops: 200, start: 0 };
    for pair in arguments.chunks(2) {
        let [name, value] = pair else { return None };
        match name.as_str() {
            "--seeds" => options.seeds = value.parse().ok()?,
            "--ops" => options.ops = value.parse().ok()?,
            "--start" => options.start = value.parse().ok()?,
            _ => return None,
        }
    }
    Some(options)
}

fn campaign<W: Swarm>(options: &Options) -> bool {
    let begun = Instant::now();
    let mut tally = Tally::default();
    // How many seeds broke each promise: many failures are often one.
    let mut broken: BTreeMap<String, u64> = BTreeMap::new();
    for (done, seed) in (options.start..options.start + options.seeds).enumerate() {
        let report = run_seed::<W>(seed, options.ops);
        tally += report.tally;
        if let Some(failure) = report.failure {
            println!("{failure}");
            let kind: String = failure.broken.claim().chars().filter(|char| !char.is_ascii_digit()).take(60).collect();
            *broken.entry(kind).or_default() += 1;
        }
        if (done + 1).is_multiple_of(1000) {
            println!("{tally}, {:.0?}", begun.elapsed());
        }
    }
    println!("{tally}, {:.1?}", begun.elapsed());
    broken.iter().for_each(|(kind, seeds)| println!("broken by {seeds} seeds: {kind}"));
    broken.is_empty()
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let whole = match arguments.split_first() {
        Some((world, rest)) if world == "log" => options(rest).map(|options| campaign::<LogWorld>(&options)),
        Some((world, rest)) if world == "pages" => options(rest).map(|options| campaign::<PageWorld>(&options)),
        _ => None,
    };
    match whole {
        Some(true) => ExitCode::SUCCESS,
        Some(false) => ExitCode::FAILURE,
        None => {
            eprintln!("{USAGE}");
            ExitCode::from(2)
        }
    }
}
