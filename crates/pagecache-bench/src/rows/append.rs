//! Appending to the log, durable at the end: in memory by itself, in files against a plain log.

use super::{BARE, Bench, plain_is_worthy};
use crate::files::{fresh, written};
use crate::measure::{Figures, entrant, in_turn, seconds, together};
use crate::ours::{OURS, log_in_files, log_in_memory};
use crate::plain::{GROWING, PLAIN, Plain, bare_bulk, bare_fresh};
use crate::report::Target;
use crate::runs;

/// Records between two trims of the log in memory: 16 MiB of two segments, which then serve again.
const TRIM_EVERY: usize = 120_000;

/// Bytes of records between two trims of the log in files.
const TRIM_EVERY_BYTES: usize = 16 << 20;

/// The name in tables of the same work on one thread.
const ONE: &str = "ours, 1 thread";

/// The name in tables of the bare loop that writes new files as a log's segments are.
const FRESH: &str = "bare loop, new files";

/// The name in tables of the log that is trimmed as it goes: its segments were written before, as plain's file was.
const RECYCLED: &str = "ours, segments recycled";

pub(super) fn in_memory(bench: &mut Bench) {
    let count = bench.count(4_000_000);
    let entrants = vec![entrant(OURS, || recycled(2, count)), entrant(ONE, || recycled(1, count))];
    let series = in_turn(bench.report.runs, entrants);
    let targets = [
        (OURS, "records/s", Target::TimesPeer(ONE, 1.1)),
        (OURS, "log B/B", Target::AtMost(1.125)),
        (ONE, "records/s", Target::AtLeast(12e6)),
    ];
    let row = "log append 128 B, memory, segments recycled, 2 thr";
    bench.report.take(("append-memory", row), &series, &targets, true);
}

/// Appends to a log that is trimmed as it goes, once it has segments to use again.
pub(super) fn recycled(threads: usize, count: usize) -> Figures {
    let log = log_in_memory();
    let record = [7u8; 128];
    let append = |count: usize| {
        together(threads, |thread| {
            for at in 0..count / threads {
                log.write(&record).expect("room");
                if thread == 0 && at % (TRIM_EVERY / threads) == 0 {
                    log.trim(log.stable_lsn()).expect("a shorter log");
                }
            }
        })
    };
    append(4 * TRIM_EVERY);
    let before = log.tail_lsn().0;
    let took = append(count);
    let given = (count / threads * threads * record.len()) as f64;
    vec![("records/s", count as f64 / took.as_secs_f64()), ("log B/B", (log.tail_lsn().0 - before) as f64 / given)]
}

pub(super) fn in_files(bench: &mut Bench) {
    for (len, full, most) in [(128, 2_000_000, Some(1.125)), (4096, 100_000, None)] {
        for threads in [1, 2] {
            file_row(bench, len, full, threads, most);
        }
    }
}

fn file_row(bench: &mut Bench, len: usize, full: usize, threads: usize, most: Option<f64>) {
    let count = bench.count(full) / threads * threads;
    let file = bench.dir.join("plain");
    let plain_bytes = (count * (len + 8)) as u64;
    let ours = || {
        let log = log_in_files(&fresh(&bench.dir, "log"));
        let before = written();
        let took = runs::append(&log, threads, count, len);
        let disk = (written() - before) as f64;
        vec![("records/s", count as f64 / took), ("disk B/B", disk / (count * len) as f64), ("MB/s", disk / took / 1e6)]
    };
    let recycled = || {
        let log = log_in_files(&fresh(&bench.dir, "log"));
        trimmed(&log, threads, 4 * TRIM_EVERY_BYTES / len, len);
        log.flush().expect("a sync");
        vec![("records/s", count as f64 / trimmed(&log, threads, count, len))]
    };
    let growing = || {
        let log = Plain::growing(&file).expect("a file");
        vec![("records/s", count as f64 / runs::append(&log, threads, count, len))]
    };
    let plain = || {
        let log = Plain::written_before(&file, plain_bytes).expect("a file");
        let took = runs::append(&log, threads, count, len);
        vec![("records/s", count as f64 / took), ("MB/s", plain_bytes as f64 / took / 1e6)]
    };
    let bare = || vec![("MB/s", bare_bulk(&file, plain_bytes).expect("a file"))];
    let bare_new = || vec![("MB/s", bare_fresh(&fresh(&bench.dir, "bare"), plain_bytes).expect("files"))];
    let entrants = vec![
        entrant(OURS, ours),
        entrant(RECYCLED, recycled),
        entrant(PLAIN, plain),
        entrant(GROWING, growing),
        entrant(BARE, bare),
        entrant(FRESH, bare_new),
    ];
    let series = in_turn(bench.report.runs, entrants);
    let worthy = plain_is_worthy(&series);
    let mut targets = vec![
        (OURS, "records/s", Target::TimesPeer(PLAIN, 1.0)),
        (OURS, "records/s", Target::Beside(GROWING)),
        (OURS, "MB/s", Target::Beside(FRESH)),
        (RECYCLED, "records/s", Target::TimesPeer(PLAIN, 1.0)),
    ];
    targets.extend(most.map(|most| (OURS, "disk B/B", Target::AtMost(most))));
    let row = format!("log append {len} B, files, flush at the end, {threads} thr");
    bench.report.take(("append-files", &row), &series, &targets, worthy);
}

/// Appends to a log in files that is trimmed as it goes, and makes all durable; returns the seconds.
pub(super) fn trimmed(log: &pagecache::Log, threads: usize, count: usize, len: usize) -> f64 {
    let record = vec![7u8; len];
    let every = (TRIM_EVERY_BYTES / len / threads).max(1);
    let took = together(threads, |thread| {
        for at in 0..count / threads {
            log.write(&record).expect("room");
            if thread == 0 && at % every == 0 {
                log.trim(log.stable_lsn()).expect("a shorter log");
            }
        }
    });
    took.as_secs_f64() + seconds(|| log.flush().map(drop).expect("a sync"))
}
