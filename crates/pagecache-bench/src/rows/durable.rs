//! Appending records that are waited for, one by one, on few and on many threads.

use pagecache::{ConfigBuilder, Log};

use super::{BARE, Bench, plain_is_worthy};
use crate::files::fresh;
use crate::measure::{entrant, in_turn};
use crate::ours::OURS;
use crate::plain::{GROWING, PLAIN, Plain, bare_durable};
use crate::report::Target;
use crate::runs;

const LEN: usize = 128;

/// Of the file that plain writes into.
const FILE: u64 = 16 << 20;

pub(super) fn rows(bench: &mut Bench) {
    let file = bench.dir.join("plain");
    let mut worthy = true;
    for threads in [1, 2, 16, 64] {
        let each = bench.count((8000 / threads).clamp(400, 4000));
        let ours = || {
            let path = fresh(&bench.dir, "durable");
            let log = Log::start(ConfigBuilder::new().path(path).build()).expect("a log");
            vec![("commits/s", runs::durable(&log, threads, each, LEN))]
        };
        let rates = |log: Plain| {
            let rate = runs::durable(&log, threads, each, LEN);
            vec![("commits/s", rate), ("MB/s", rate * (LEN + 8) as f64 / 1e6)]
        };
        let plain = || rates(Plain::written_before(&file, FILE).expect("a file"));
        let growing = || rates(Plain::growing(&file).expect("a file"));
        let mut entrants = vec![entrant(OURS, ours), entrant(PLAIN, plain), entrant(GROWING, growing)];
        if threads == 1 {
            // With one thread plain and the bare loop do the same; with more there is no bare loop, and the verdict stands.
            entrants.push(entrant(BARE, || vec![("MB/s", bare_durable(&file, LEN, each).expect("a file"))]));
        }
        let series = in_turn(bench.report.runs, entrants);
        if threads == 1 {
            worthy = plain_is_worthy(&series);
        }
        let targets =
            [(OURS, "commits/s", Target::TimesPeer(PLAIN, 0.95)), (OURS, "commits/s", Target::Beside(GROWING))];
        let row = format!("durable append 128 B, each waits, {threads} thr");
        bench.report.take(("durable", &row), &series, &targets, worthy);
    }
}
