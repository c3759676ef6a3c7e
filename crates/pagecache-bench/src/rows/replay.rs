//! Opening a store whose files are cold: large records against reading the same files, small ones by their number.

use std::path::{Path, PathBuf};

use pagecache::{Background, ConfigBuilder, Log};

use super::Bench;
use crate::engines::Pages;
use crate::files::{fresh, make_cold, read_all};
use crate::measure::{Figures, entrant, in_turn, seconds};
use crate::ours::{OURS, OurPages, log_in_files};
use crate::report::Target;
use crate::runs::FRAGMENT;
use crate::workload::uniform;

const LEN: usize = 4096;

/// The name in tables of the peer: the files of the store, each read from its beginning to its end.
const READING: &str = "plain reading";

/// Pages that the links are for; few, so that the opening is about records.
const PAGES: u64 = 100_000;

pub(super) fn rows(bench: &mut Bench) {
    large(bench);
    small(bench);
}

fn large(bench: &mut Bench) {
    let count = bench.count(100_000);
    let path = fresh(&bench.dir, "replay-large");
    let log = log_in_files(&path);
    let record = [7u8; LEN];
    for _ in 0..count {
        log.write(&record).expect("room");
    }
    log.close().expect("a clean close");
    let megabytes = (count * LEN) as f64 / 1e6;
    let open = || -> Figures {
        make_cold(&path);
        let mut opened = None;
        let took = seconds(|| opened = Some(Log::start(ConfigBuilder::new().path(&path).build()).expect("the log")));
        drop(opened);
        vec![("MB/s", megabytes / took)]
    };
    let read = || -> Figures {
        make_cold(&path);
        let mut bytes = 0;
        let took = seconds(|| bytes = read_all(&path));
        assert!(bytes as f64 >= megabytes * 1e6, "the files hold the records");
        vec![("MB/s", megabytes / took)]
    };
    let entrants = vec![entrant(OURS, open), entrant(READING, read)];
    let series = in_turn(bench.report.runs, entrants);
    let targets = [(OURS, "MB/s", Target::TimesPeer(READING, 0.7))];
    bench.report.take(("replay", "replay of 4 KiB records, cold files"), &series, &targets, true);
}

fn small(bench: &mut Bench) {
    let count = bench.count(3_000_000);
    let path: PathBuf = fresh(&bench.dir, "replay-small");
    let config = |path: &Path| {
        // On the caller's thread alone: a rate a core.
        ConfigBuilder::new().path(path).background(Background::Caller).cache_capacity(64 << 20).build()
    };
    let pages = OurPages::start(config(&path), PAGES);
    pages.fill(PAGES, FRAGMENT);
    for id in uniform(1, PAGES, count) {
        pages.link_blind(id, vec![7; FRAGMENT]);
    }
    pages.flush();
    drop(pages);
    let records = count as f64 + PAGES as f64;
    let open = || {
        make_cold(&path);
        let mut opened = None;
        let took = seconds(|| opened = Some(OurPages::start(config(&path), 0)));
        // Closing it again is not in the time.
        assert_eq!(opened.and_then(|pages| pages.cache().page_count().ok()), Some(PAGES));
        vec![("records/s", records / took)]
    };
    let series = in_turn(bench.report.runs, vec![entrant(OURS, open)]);
    let targets = [(OURS, "records/s", Target::AtLeast(3e6))];
    bench.report.take(("replay", "replay of 64 B links, cold files, one core"), &series, &targets, true);
}
