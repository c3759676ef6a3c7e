//! Small changes to random pages, on memory storage: after a read, and blind.

use super::Bench;
use crate::engines::Pages;
use crate::measure::{Figures, entrant, in_turn};
use crate::ours::{OURS, OurPages};
use crate::report::{Aim, Target};
use crate::runs::{FRAGMENT, link};
use crate::workload::{PAGE, PAGES, own, uniform};

const COUNT: usize = 400_000;

/// The name in tables of the same work on one thread.
const ONE: &str = "ours, 1 thread";

pub(super) fn rows(bench: &mut Bench) {
    let after_get = [
        (OURS, "links/s", Target::TimesPeer(ONE, 1.6)),
        (OURS, "p99 us", Target::AtMost(20.0)),
        (OURS, "log B/B", Target::AtMost(1.5)),
    ];
    row(bench, "get + link 64 B, random pages, memory storage", &after_get, |threads, count| {
        let ids: Vec<Vec<u64>> = (0..threads).map(|thread| uniform(thread as u64, PAGES, count / threads)).collect();
        measure(&ids, |pages, id, fragment| pages.read_and_link(id, fragment))
    });
    let blind = [(OURS, "links/s", Target::Beside(ONE)), (OURS, "log B/B", Target::AtMost(1.5))];
    row(bench, "link 64 B with the last token, no get", &blind, |threads, count| {
        let ids: Vec<Vec<u64>> = (0..threads).map(|thread| own(thread, threads, PAGES, count / threads)).collect();
        measure(&ids, |pages, id, fragment| {
            pages.link_blind(id, fragment);
            0
        })
    });
}

fn row(bench: &mut Bench, work: &str, targets: &[Aim<'_>], run: impl Fn(usize, usize) -> Figures) {
    let count = bench.count(COUNT);
    let series = in_turn(bench.report.runs, vec![entrant(OURS, || run(2, count)), entrant(ONE, || run(1, count))]);
    bench.report.take(("link", &format!("{work}, 2 thr")), &series, targets, true);
}

fn measure(ids: &[Vec<u64>], step: impl Fn(&OurPages, u64, Vec<u8>) -> u64 + Sync) -> Figures {
    let pages = OurPages::in_memory(PAGES);
    pages.fill(PAGES, PAGE);
    pages.flush();
    let before = pages.log_bytes();
    let mut figures = link(ids, |id, fragment| step(&pages, id, fragment));
    pages.flush();
    let given = ids.iter().map(Vec::len).sum::<usize>() * FRAGMENT;
    figures.push(("log B/B", (pages.log_bytes() - before) as f64 / given as f64));
    figures
}
