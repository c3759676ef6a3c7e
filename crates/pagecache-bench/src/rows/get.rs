//! Reading resident pages, against the same nodes behind a plain array of pointers.

use pagecache::crossbeam_epoch;

use super::{BARE, Bench};
use crate::engines::Pages;
use crate::measure::{entrant, in_turn};
use crate::ours::{OURS, OurPages};
use crate::report::Target;
use crate::runs;
use crate::workload::{Draw, PAGE, PAGES, sum, uniform, zipf};

const THREADS: u64 = 2;

/// A node as the kit has one: six words of head, then the page.
struct Node {
    _head: [u64; 6],
    page: Vec<u8>,
}

pub(super) fn rows(bench: &mut Bench) {
    let ours = OurPages::in_memory(PAGES);
    ours.fill(PAGES, PAGE);
    let bare: Vec<Box<Node>> =
        (0..PAGES).map(|page| Box::new(Node { _head: [page; 6], page: vec![page as u8; PAGE] })).collect();
    for (name, draw) in [("uniform", uniform as Draw), ("zipf .99", zipf)] {
        let ids: Vec<Vec<u64>> = (0..THREADS).map(|seed| draw(seed, PAGES, bench.count(1_000_000))).collect();
        let bare_sum = |id: u64| {
            let _guard = crossbeam_epoch::pin();
            sum(&bare[id as usize].page)
        };
        let series = in_turn(
            bench.report.runs,
            vec![
                entrant(OURS, || vec![("pages/s", runs::get(&ours, &ids))]),
                entrant(BARE, || vec![("pages/s", runs::rate(&ids, bare_sum))]),
            ],
        );
        let row = format!("get, resident 1 KiB, {name}, 2 threads");
        bench.report.take(("get", &row), &series, &[(OURS, "pages/s", Target::TimesPeer(BARE, 0.8))], true);
    }
}
