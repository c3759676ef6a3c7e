//! What a process weighs that has written many more pages than its cache may hold: each engine in a process of its own.

use std::path::Path;
use std::process::Command;

use pagecache_bench::engines::Pages;
use pagecache_bench::files::{fresh, resident};
use pagecache_bench::measure::{Figures, entrant, in_turn};
use pagecache_bench::ours::{OURS, OurPages};
use pagecache_bench::report::Target;
use pagecache_bench::rows::Bench;

use crate::v02::{V02, V02Pages};
use crate::v19::{V19, V19Pages};

/// Bytes that the cache may hold.
const CAPACITY: u64 = 256 << 20;
const LEN: usize = 4096;

/// The first argument of a process that is one engine.
pub const CHILD: &str = "resident";

pub fn row(bench: &mut Bench) {
    let pages = bench.count(1 << 19) as u64;
    let dir = bench.dir.clone();
    let weigh = |engine: &str| weigh(engine, &dir, pages);
    let entrants = vec![entrant(OURS, || weigh(OURS)), entrant(V19, || weigh(V19)), entrant(V02, || weigh(V02))];
    // Once: it is a matter of bytes, not of time.
    let series = in_turn(1, entrants);
    let targets = [(OURS, "MB resident", Target::Beside(V19)), (OURS, "MB resident", Target::Beside(V02))];
    let title = format!("{} MiB of 4 KiB pages written, cache 256 MiB", (pages * LEN as u64) >> 20);
    bench.report.take(("predecessors", &title), &series, &targets, true);
}

fn weigh(engine: &str, dir: &Path, pages: u64) -> Figures {
    let path = fresh(dir, "resident");
    let exe = std::env::current_exe().expect("this program");
    let child = Command::new(exe).args([CHILD, engine]).arg(&path).arg(pages.to_string()).output().expect("a process");
    let said = String::from_utf8_lossy(&child.stdout);
    let bytes = said.lines().last().and_then(|line| line.parse::<u64>().ok());
    let bytes = bytes.unwrap_or_else(|| panic!("{engine}: {}", String::from_utf8_lossy(&child.stderr)));
    std::fs::remove_dir_all(&path).expect("the files go");
    vec![("MB resident", bytes as f64 / 1e6)]
}

/// Writes the pages, and prints what this process weighs with all of them durable.
pub fn child(engine: &str, path: &Path, pages: u64) {
    std::fs::create_dir_all(path).expect("a directory");
    match engine {
        OURS => fill(&OurPages::in_files_with(path, pages, CAPACITY), pages),
        V19 => fill(&V19Pages::with_cache(path, CAPACITY), pages),
        V02 => fill(&V02Pages::with_cache(&path.join("store"), CAPACITY), pages),
        _ => panic!("{engine}: no such engine"),
    }
}

fn fill(store: &impl Pages, pages: u64) {
    store.fill(pages, LEN);
    store.flush();
    println!("{}", resident());
}
