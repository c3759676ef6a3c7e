//! Whole pages of 4 KiB into files, against a plain log of the same bytes.

use super::{BARE, Bench, plain_is_worthy};
use crate::engines::{Appends, Pages};
use crate::files::{fresh, written};
use crate::measure::{entrant, in_turn, seconds, together};
use crate::ours::{OURS, OurPages};
use crate::plain::{PLAIN, Plain, bare_bulk};
use crate::report::Target;
use crate::runs;
use crate::workload::own;

const THREADS: usize = 2;
const LEN: usize = 4096;
const PAGES: u64 = 10_000;

pub(super) fn rows(bench: &mut Bench) {
    let count = bench.count(100_000);
    let ids: Vec<Vec<u64>> = (0..THREADS).map(|thread| own(thread, THREADS, PAGES, count / THREADS)).collect();
    let given = (count / THREADS * THREADS * LEN) as f64;
    let file = bench.dir.join("plain");
    let plain_bytes = (count * (LEN + 8)) as u64;
    let ours = || {
        let pages = OurPages::in_files(&fresh(&bench.dir, "replace"), PAGES);
        pages.fill(PAGES, LEN);
        pages.flush();
        let before = written();
        let took = runs::replace(&pages, &ids, LEN);
        vec![("pages/s", count as f64 / took), ("disk B/B", (written() - before) as f64 / given)]
    };
    let plain = || {
        let log = Plain::written_before(&file, plain_bytes).expect("a file");
        // A page is made for each, as it is for those who replace it.
        let took = together(THREADS, |thread| {
            for id in &ids[thread] {
                log.append(&vec![*id as u8; LEN]);
            }
        });
        let took = took.as_secs_f64() + seconds(|| log.flush());
        vec![("pages/s", count as f64 / took), ("MB/s", plain_bytes as f64 / took / 1e6)]
    };
    let bare = || vec![("MB/s", bare_bulk(&file, plain_bytes).expect("a file"))];
    let entrants = vec![entrant(OURS, ours), entrant(PLAIN, plain), entrant(BARE, bare)];
    let series = in_turn(bench.report.runs, entrants);
    let worthy = plain_is_worthy(&series);
    let targets = [(OURS, "pages/s", Target::TimesPeer(PLAIN, 0.9)), (OURS, "disk B/B", Target::AtMost(1.02))];
    bench.report.take(("replace", "replace 4 KiB, files, 2 threads"), &series, &targets, worthy);
}
