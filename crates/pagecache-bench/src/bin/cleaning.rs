//! `cleaning`: what cleaning moves for each page that is updated, in a store of more than a thousand segments, against the formula and the figures of
//! the literature. Bytes are counted, not time: one run is enough, and gives the same wherever it runs.
//!
//! `cargo run --release -p pagecache-bench --bin cleaning -- [--out FILE] [--scale X] [formula|replace|link ..]`
#![forbid(unsafe_code)]

use std::process::ExitCode;

use pagecache::CleaningOrder;
use pagecache_bench::cleaning::{Setup, Taken, Update, run, uniform_by_age};
use pagecache_bench::measure::Series;
use pagecache_bench::options::Options;
use pagecache_bench::report::{Aim, Report, Target};
use pagecache_bench::workload::{Draw, eighty_twenty, uniform, zipf};

const OURS: &str = "ours";

/// Pages moved for each that is updated.
const MOVED: &str = "moved";

/// Pages written for each that is updated by a link, moves left out.
const FOLDED: &str = "folded";

/// Pages for a hundred that there is room for.
const FILL: &str = "% full";

/// A workload, the fill that makes pages four fifths of the room, and how much may be moved.
type Row = (&'static str, Draw, f64, f64);

/// What the log says of moves takes room as well, and a turn empties a little more than it has to.
const REPLACE: [Row; 3] =
    [("uniform", uniform, 0.795, 1.80), ("80:20", eighty_twenty, 0.795, 1.52), ("zipf .99", zipf, 0.795, 1.25)];

/// Links that are not folded yet take room beside the pages: more, where there are many pages that seldom get one.
const LINK: [Row; 2] = [("80:20", eighty_twenty, 0.905, 1.35), ("zipf .99", zipf, 0.85, 0.85)];

struct Bench {
    report: Report,
    segments: u64,
}

impl Bench {
    fn setup(&self, order: CleaningOrder, draw: Draw, fill: f64) -> Setup {
        Setup { segments: self.segments, fill, order, update: Update::Replace, draw, every: 8.0, rounds: (6, 6) }
    }

    fn take(&mut self, row: &str, found: &[(&'static str, Taken)], aims: &[Aim<'_>]) {
        let series = |unit: &'static str, of: fn(&Taken) -> f64| {
            let one = move |(engine, taken): &(&'static str, Taken)| Series { engine, unit, runs: vec![of(taken)] };
            found.iter().map(one).filter(|series| series.runs[0] > 0.0).collect::<Vec<_>>()
        };
        let all = [
            series(MOVED, |taken| taken.moved),
            series(FOLDED, |taken| taken.folded),
            series(FILL, |taken| 100.0 * taken.fill),
        ];
        self.report.take(("cleaning", row), &all.concat(), aims, true);
    }

    /// Whether the store moves what it must where age and fullness are all there is to know.
    fn formula(&mut self) {
        for fill in [0.5, 0.7, 0.8, 0.9] {
            for (name, order) in [("age", CleaningOrder::Age), ("greedy", CleaningOrder::Greedy)] {
                let taken = run(&self.setup(order, uniform, fill));
                let known = uniform_by_age(taken.fill);
                let aims = [
                    (name, MOVED, Target::Beside("formula")),
                    (name, MOVED, Target::AtLeast(0.97 * known)),
                    (name, MOVED, Target::AtMost(1.03 * known)),
                ];
                let formula = Taken { fill: taken.fill, moved: known, folded: 0.0 };
                self.take(&format!("uniform, replace, {name}, {fill}"), &[(name, taken), ("formula", formula)], &aims);
            }
        }
    }

    fn replace(&mut self) {
        for (name, draw, fill, limit) in REPLACE {
            let found = [(OURS, CleaningOrder::DecliningCost), ("greedy", CleaningOrder::Greedy)]
                .map(|(engine, order)| (engine, run(&self.setup(order, draw, fill))));
            let aims = [(OURS, MOVED, Target::AtMost(limit)), (OURS, MOVED, Target::Beside("greedy"))];
            self.take(&format!("{name}, replace"), &found, &aims);
        }
    }

    fn link(&mut self) {
        for (name, draw, fill, limit) in LINK {
            let setup = self.setup(CleaningOrder::DecliningCost, draw, fill);
            // A turn for each segment of log: of links it holds many, and each may stand for a page.
            let taken = run(&Setup { update: Update::Link, every: 1.0, rounds: (24, 12), ..setup });
            self.take(&format!("{name}, link"), &[(OURS, taken)], &[(OURS, MOVED, Target::AtMost(limit))]);
        }
    }
}

type Group = (&'static str, fn(&mut Bench));

const GROUPS: [Group; 3] = [("formula", Bench::formula), ("replace", Bench::replace), ("link", Bench::link)];

fn options() -> Result<Options, String> {
    let options = Options::parse(std::env::args().skip(1))?;
    match options.words.iter().find(|word| GROUPS.iter().all(|(name, _)| name != word)) {
        Some(word) => Err(format!("{word}: no such group; there are {}", GROUPS.map(|(name, _)| name).join(", "))),
        None => Ok(options),
    }
}

fn main() -> ExitCode {
    let options = match options() {
        Ok(options) => options,
        Err(error) => {
            eprintln!("{error}\ncleaning [--out FILE.jsonl] [--scale X] [GROUP..]");
            return ExitCode::FAILURE;
        }
    };
    let report = Report::new(1, options.out.as_deref()).expect("a place for results");
    let mut bench = Bench { report, segments: (1040.0 * options.scale) as u64 };
    for (name, rows) in GROUPS {
        if options.words.is_empty() || options.words.iter().any(|group| group == name) {
            rows(&mut bench);
        }
    }
    ExitCode::SUCCESS
}
