//! What pages cost in memory beyond their own bytes, as asked of the allocator.

use pagecache::ConfigBuilder;

use super::Bench;
use crate::allocator::{count, live};
use crate::engines::Pages;
use crate::files::fresh;
use crate::measure::{Figures, entrant, in_turn};
use crate::ours::{OURS, OurPages};
use crate::report::Target;
use crate::runs::FRAGMENT;
use crate::workload::PAGE;

/// Deltas on each page; fewer than a writer would fold.
const DELTAS: u64 = 3;

pub(super) fn rows(bench: &mut Bench) {
    let series = in_turn(bench.report.runs, vec![entrant(OURS, || cold(bench))]);
    bench.report.take(("memory", "a cold page"), &series, &[(OURS, "bytes", Target::AtMost(16.0))], true);
    let series = in_turn(bench.report.runs, vec![entrant(OURS, || resident(bench))]);
    let targets = [(OURS, "B beyond page", Target::AtMost(96.0)), (OURS, "B beyond delta", Target::AtMost(64.0))];
    bench.report.take(("memory", "a resident page of 1 KiB; a delta of 64 B on it"), &series, &targets, true);
}

/// Full buckets of the mapping table: what it grows by is in the figure, what it grows by ahead is not.
fn cold(bench: &Bench) -> Figures {
    let pages_count = bench.count(1 << 20).next_power_of_two() as u64;
    let path = fresh(&bench.dir, "memory");
    let config = ConfigBuilder::new().path(path).cache_capacity(1 << 20).build();
    count(true);
    let pages = OurPages::start(config, pages_count);
    let empty = live();
    pages.fill(pages_count, FRAGMENT);
    pages.flush();
    // Pages are evicted by those who read or write once they are stable; what was retired waits for its epoch.
    for id in 0..pages_count.min(1000) {
        pages.sum(id);
    }
    collect(&pages);
    let resident = pages.cache().stats().resident_bytes as i64;
    let cost = (live() - empty - resident) as f64 / pages_count as f64;
    count(false);
    vec![("bytes", cost)]
}

fn resident(bench: &Bench) -> Figures {
    let pages_count = bench.count(1 << 17).next_power_of_two() as u64;
    let path = fresh(&bench.dir, "memory");
    count(true);
    let pages = OurPages::in_files(&path, pages_count);
    let empty = live();
    pages.fill(pages_count, PAGE);
    pages.flush();
    collect(&pages);
    let filled = live();
    for id in (0..DELTAS).flat_map(|_| 0..pages_count) {
        pages.link_blind(id, vec![7; FRAGMENT]);
    }
    pages.flush();
    collect(&pages);
    let linked = live();
    count(false);
    let per_page = (filled - empty) as f64 / pages_count as f64 - PAGE as f64;
    let per_delta = (linked - filled) as f64 / (DELTAS * pages_count) as f64 - FRAGMENT as f64;
    vec![("B beyond page", per_page), ("B beyond delta", per_delta)]
}

/// Lets the epoch move on until what was retired is freed.
fn collect(pages: &OurPages) {
    for _ in 0..2000 {
        pages.cache().pin().flush();
    }
}
