//! The rows: one file a group, each against its limit or its peer in the same run.

mod append;
mod cold;
mod durable;
mod get;
mod link;
mod memory;
mod replace;
mod replay;
mod steady;

use std::path::PathBuf;

use crate::measure::{Series, median};
use crate::plain::{PLAIN, WORTHY};
use crate::report::Report;

/// A bench that is being run.
#[derive(Debug)]
pub struct Bench {
    /// Where results go.
    pub report: Report,
    /// A directory for files.
    pub dir: PathBuf,
    /// How much of the full work is done: 1 for figures, less to see that everything runs.
    pub scale: f64,
}

/// A group of rows.
pub type Group = (&'static str, fn(&mut Bench));

/// Every group, in the order of the table.
pub const GROUPS: &[Group] = &[
    ("get", get::rows),
    ("cold", cold::rows),
    ("link", link::rows),
    ("steady", steady::rows),
    ("replace", replace::rows),
    ("append-memory", append::in_memory),
    ("append-files", append::in_files),
    ("durable", durable::rows),
    ("replay", replay::rows),
    ("memory", memory::rows),
];

impl Bench {
    /// A number of steps at this scale, at least one for each of 64 threads.
    pub fn count(&self, full: usize) -> usize {
        ((full as f64 * self.scale) as usize).max(64)
    }
}

/// Says how `plain` did beside the bare loop, and whether it is a peer at all.
pub fn plain_is_worthy(series: &[Series]) -> bool {
    let of = |engine: &str| {
        let found = series.iter().find(|one| one.engine == engine && one.unit == "MB/s");
        found.map_or(f64::NAN, |one| median(&one.runs))
    };
    let (plain, bare) = (of(PLAIN), of(BARE));
    let worthy = plain >= WORTHY * bare;
    let verdict = if worthy { "a peer" } else { "too slow here: its row does not count" };
    println!("  plain {plain:.1} MB/s, bare write loop {bare:.1} MB/s: {:.2}x, {verdict}", plain / bare);
    worthy
}

/// This name in tables.
pub const BARE: &str = "bare loop";
