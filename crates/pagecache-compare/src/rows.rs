//! The rows: the work of `pagecache-bench`, everybody in files on the same disk.

use std::path::Path;

use pagecache_bench::engines::{Appends, Pages};
use pagecache_bench::files::{fresh, written};
use pagecache_bench::measure::{Entrant, Figures, entrant, in_turn};
use pagecache_bench::ours::{OURS, OurPages, log_in_files};
use pagecache_bench::plain::{PLAIN, Plain};
use pagecache_bench::report::{Aim, Target};
use pagecache_bench::rows::Bench;
use pagecache_bench::runs;
use pagecache_bench::workload::{Draw, PAGE, PAGES, own, uniform, zipf};

use crate::v02::{V02, V02Log, V02Pages};
use crate::v19::{V19, V19Log, V19Pages};

const THREADS: usize = 2;

/// Whole pages of the `replace` row.
const LARGE: usize = 4096;
const LARGE_PAGES: u64 = 10_000;

fn row(bench: &mut Bench, row: &str, entrants: Vec<Entrant<'_>>, targets: &[Aim<'_>]) {
    let series = in_turn(bench.report.runs, entrants);
    bench.report.take(("predecessors", row), &series, targets, true);
}

pub fn get(bench: &mut Bench) {
    let ours = OurPages::in_files(&fresh(&bench.dir, "ours"), PAGES);
    let v19 = V19Pages::start(&fresh(&bench.dir, "v19"));
    let v02 = V02Pages::start(&v02_path(&bench.dir));
    ours.fill(PAGES, PAGE);
    v19.fill(PAGES, PAGE);
    v02.fill(PAGES, PAGE);
    for (name, draw) in [("uniform", uniform as Draw), ("zipf .99", zipf)] {
        let ids: Vec<Vec<u64>> = (0..THREADS).map(|seed| draw(seed as u64, PAGES, bench.count(1_000_000))).collect();
        let entrants = vec![
            entrant(OURS, || vec![("pages/s", runs::get(&ours, &ids))]),
            entrant(V19, || vec![("pages/s", runs::get(&v19, &ids))]),
            entrant(V02, || vec![("pages/s", runs::get(&v02, &ids))]),
        ];
        let targets = [(OURS, "pages/s", Target::TimesPeer(V19, 1.0)), (OURS, "pages/s", Target::Beside(V02))];
        row(bench, &format!("get, resident 1 KiB, {name}, 2 threads"), entrants, &targets);
    }
}

pub fn link(bench: &mut Bench) {
    let count = bench.count(400_000);
    let ids: Vec<Vec<u64>> = (0..THREADS).map(|seed| uniform(seed as u64, PAGES, count / THREADS)).collect();
    let dir = bench.dir.clone();
    let entrants = vec![
        entrant(OURS, || linked(&OurPages::in_files(&fresh(&dir, "ours"), PAGES), &ids)),
        entrant(V19, || linked(&V19Pages::start(&fresh(&dir, "v19")), &ids)),
        entrant(V02, || linked(&V02Pages::start(&v02_path(&dir)), &ids)),
    ];
    let targets = [
        (OURS, "links/s", Target::TimesPeer(V19, 8.0)),
        (OURS, "links/s", Target::Beside(V02)),
        (OURS, "p99 us", Target::AtMost(20.0)),
        (OURS, "disk B/B", Target::AtMost(1.5)),
    ];
    row(bench, "get + link 64 B, random pages, files, 2 threads", entrants, &targets);
}

fn linked(pages: &impl Pages, ids: &[Vec<u64>]) -> Figures {
    pages.fill(PAGES, PAGE);
    pages.flush();
    let before = written();
    let mut figures = runs::link(ids, |id, fragment| pages.read_and_link(id, fragment));
    pages.flush();
    let given = ids.iter().map(Vec::len).sum::<usize>() * runs::FRAGMENT;
    figures.push(("disk B/B", (written() - before) as f64 / given as f64));
    figures
}

pub fn replace(bench: &mut Bench) {
    let count = bench.count(100_000);
    let ids: Vec<Vec<u64>> = (0..THREADS).map(|thread| own(thread, THREADS, LARGE_PAGES, count / THREADS)).collect();
    let dir = bench.dir.clone();
    let entrants = vec![
        entrant(OURS, || replaced(&OurPages::in_files(&fresh(&dir, "ours"), LARGE_PAGES), &ids)),
        entrant(V19, || replaced(&V19Pages::start(&fresh(&dir, "v19")), &ids)),
        entrant(V02, || replaced(&V02Pages::start(&v02_path(&dir)), &ids)),
    ];
    let targets = [
        (OURS, "pages/s", Target::Beside(V19)),
        (OURS, "pages/s", Target::Beside(V02)),
        (OURS, "disk B/B", Target::AtMost(1.02)),
    ];
    row(bench, "replace 4 KiB, files, 2 threads", entrants, &targets);
}

fn replaced(pages: &impl Pages, ids: &[Vec<u64>]) -> Figures {
    pages.fill(LARGE_PAGES, LARGE);
    pages.flush();
    let before = written();
    let took = runs::replace(pages, ids, LARGE);
    let count = ids.iter().map(Vec::len).sum::<usize>() as f64;
    vec![("pages/s", count / took), ("disk B/B", (written() - before) as f64 / (count * LARGE as f64))]
}

pub fn append(bench: &mut Bench) {
    for (len, full) in [(128, 2_000_000), (4096, 100_000)] {
        let count = bench.count(full) / THREADS * THREADS;
        let dir = bench.dir.clone();
        let plain_bytes = (count * (len + 8)) as u64;
        let appended = |log: &dyn Fn() -> Box<dyn LogRun>| {
            let log = log();
            let before = written();
            let took = log.append(count, len);
            vec![("records/s", count as f64 / took), ("disk B/B", (written() - before) as f64 / (count * len) as f64)]
        };
        let entrants = vec![
            entrant(OURS, || appended(&|| Box::new(log_in_files(&fresh(&dir, "ours"))))),
            entrant(V19, || appended(&|| Box::new(V19Log::start(&fresh(&dir, "v19"))))),
            entrant(V02, || appended(&|| Box::new(V02Log::start(&v02_path(&dir))))),
            entrant(PLAIN, || appended(&|| Box::new(plain(&dir, plain_bytes)))),
        ];
        let targets = [
            (OURS, "records/s", Target::TimesPeer(PLAIN, 1.0)),
            (OURS, "records/s", Target::Beside(V19)),
            (OURS, "records/s", Target::Beside(V02)),
        ];
        row(bench, &format!("log append {len} B, files, flush at the end, 2 thr"), entrants, &targets);
    }
}

pub fn durable(bench: &mut Bench) {
    const LEN: usize = 128;
    for threads in [1, 2, 16, 64] {
        let each = bench.count((8000 / threads).clamp(400, 4000));
        let dir = bench.dir.clone();
        let waited = |log: &dyn Fn() -> Box<dyn LogRun>| vec![("commits/s", log().durable(threads, each, LEN))];
        let entrants = vec![
            entrant(OURS, || waited(&|| Box::new(log_in_files(&fresh(&dir, "ours"))))),
            entrant(V19, || waited(&|| Box::new(V19Log::start(&fresh(&dir, "v19"))))),
            entrant(V02, || waited(&|| Box::new(V02Log::start(&v02_path(&dir))))),
            entrant(PLAIN, || waited(&|| Box::new(plain(&dir, 16 << 20)))),
        ];
        let targets = [
            (OURS, "commits/s", Target::TimesPeer(PLAIN, 0.95)),
            (OURS, "commits/s", Target::Beside(V19)),
            (OURS, "commits/s", Target::Beside(V02)),
        ];
        row(bench, &format!("durable append 128 B, each waits, {threads} thr"), entrants, &targets);
    }
}

/// One run of a log, whichever it is; the runs themselves know its type.
trait LogRun {
    fn append(&self, count: usize, len: usize) -> f64;
    fn durable(&self, threads: usize, each: usize, len: usize) -> f64;
}

impl<L: Appends> LogRun for L {
    fn append(&self, count: usize, len: usize) -> f64 {
        runs::append(self, THREADS, count, len)
    }

    fn durable(&self, threads: usize, each: usize, len: usize) -> f64 {
        runs::durable(self, threads, each, len)
    }
}

/// 0.2.7 takes the name of a file, not of a directory, and puts others beside it.
fn v02_path(dir: &Path) -> std::path::PathBuf {
    let path = fresh(dir, "v02");
    std::fs::create_dir_all(&path).expect("a directory");
    path.join("store")
}

fn plain(dir: &Path, bytes: u64) -> Plain {
    Plain::written_before(&dir.join("plain"), bytes).expect("a file")
}
