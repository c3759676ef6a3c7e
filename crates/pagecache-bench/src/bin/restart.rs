//! `restart`: how long a start takes after a crash, first `get` included, in stores of several sizes with as much log behind the checkpoint.
//!
//! `cargo run --release -p pagecache-bench --bin restart -- [DIRECTORY] [GIB..]`: pages of 4 KiB (1, 4 and 10 GiB of them), replaced at random, with cleaning, until the disk is
//! as full as it may be and a third more; then a checkpoint, then 64 MiB of replaces at random, with cleaning and no checkpoint, so that the log behind it says what has moved
//! and been given back; then the process is aborted; files cold; medians of five starts that only read, each of what the crash has left, and of five that write, each of a
//! copy of that. Until 2026-11-27 nothing was replaced before the checkpoint and nothing cleaned: the log behind it held replaces alone.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use pagecache::{Background, ConfigBuilder, PageCache, PageId, Version};
use pagecache_bench::files::{fresh, make_cold};
use pagecache_bench::workload::{Blob, Bytes, uniform};

const LEN: u64 = 4096;

/// Log behind the checkpoint.
const TAIL: u64 = 64 << 20;

/// Bytes of log from one turn of cleaning to the next, as where the background works and the log's limit is as long.
const STEP: u64 = TAIL / 4;

/// Starts of each kind.
const ROUNDS: u64 = 5;

/// Segments that a start may write to, or whose files it may put to another use: those of the log behind the checkpoint, of images and the map since, and what is ahead.
const WRITTEN: u64 = 64;

fn config(path: &Path) -> ConfigBuilder {
    // Whoever opens works alone, so that nothing but the start is timed; nothing but what is asked for is written either. A checkpoint is due behind half of the limit.
    ConfigBuilder::new().path(path).background(Background::Caller).log_limit(4 * TAIL)
}

/// The number of the newest segment.
fn newest(path: &Path) -> u64 {
    let names = fs::read_dir(path).expect("a store").map(|entry| entry.expect("a file").file_name());
    let number = |name: OsString| u64::from_str_radix(name.to_str()?.strip_prefix("seg-")?, 16).ok();
    names.filter_map(number).max().expect("a segment")
}

/// Fills a store, and dies.
fn fill(path: &Path, gibibytes: u64) -> ! {
    let cache = PageCache::<Bytes>::start(config(path).build()).expect("a store");
    let pages = (gibibytes << 30) / LEN;
    let blob = Blob(vec![7; LEN as usize]);
    let mut versions = Vec::with_capacity(pages as usize);
    for _ in 0..pages {
        let guard = cache.pin();
        let id = cache.allocate(&guard);
        versions.push(cache.replace_at(id, Version::NONE, blob.clone(), &guard).expect("room"));
    }
    let replace = |versions: &mut [Version], seed, bytes: u64, upkeep: &dyn Fn()| {
        for (nth, id) in (1..).zip(uniform(seed, pages, (bytes / LEN) as usize)) {
            let version = &mut versions[id as usize];
            *version = cache.replace_at(PageId(id), *version, blob.clone(), &cache.pin()).expect("room");
            if nth % (STEP / LEN) == 0 {
                upkeep();
            }
        }
        cache.flush().expect("a sync");
    };
    // A quarter more than the pages is the disk at the fill that cleaning keeps up.
    replace(&mut versions, 1, (gibibytes << 30) / 4 + (gibibytes << 30) / 3, &|| cache.tick().expect("a turn"));
    cache.checkpoint().expect("a checkpoint");
    let (before, newest_before) = (cache.stats(), newest(path));
    replace(&mut versions, 2, TAIL, &|| _ = cache.clean().expect("a turn"));
    let after = cache.stats();
    let moved = after.fold_bytes + after.survivor_bytes - before.fold_bytes - before.survivor_bytes;
    assert!(
        moved > STEP && after.segments < before.segments + TAIL / after.segment_size,
        "nothing is cleaned: {after:?}"
    );
    assert_eq!(after.redo, before.redo, "a checkpoint came");
    // The one that was filled then, and the one that was ahead.
    assert!(
        newest(path) - newest_before + 2 <= WRITTEN,
        "{} segments since the checkpoint",
        newest(path) - newest_before
    );
    std::process::abort();
}

/// What the crash has left, once more: files that no start writes to are links.
fn copy(of: &Path, to: &Path) {
    fs::create_dir(to).expect("a place");
    let mut names: Vec<_> =
        fs::read_dir(of).expect("a store").map(|entry| entry.expect("a file").file_name()).collect();
    // Segments by age, whatever is no segment behind them.
    names.sort_by_key(|name| (!name.to_string_lossy().starts_with("seg-"), name.clone()));
    let segments = names.iter().filter(|name| name.to_string_lossy().starts_with("seg-")).count() as u64;
    for (nth, name) in names.iter().enumerate() {
        let (from, to) = (of.join(name), to.join(name));
        match nth as u64 + WRITTEN < segments {
            true => fs::hard_link(from, to).expect("a link"),
            false => _ = fs::copy(from, to).expect("room"),
        }
    }
}

/// One start, its first `get` included, in milliseconds; bytes that it replayed.
fn start(path: &Path, read_only: bool, page: u64) -> (f64, u64) {
    make_cold(path);
    let begun = Instant::now();
    let cache = PageCache::<Bytes>::start(config(path).read_only(read_only).build()).expect("a store");
    let found = cache.get(PageId(page), &cache.pin()).expect("a page").0.0.len();
    let took = begun.elapsed().as_secs_f64() * 1e3;
    assert_eq!(found as u64, LEN);
    assert!(!cache.stats().clean_start, "it is no crash");
    (took, cache.stats().replayed_bytes)
}

/// The median, and the ends.
fn shown(took: &mut [f64]) -> (f64, String) {
    took.sort_by(f64::total_cmp);
    let (least, median, most) = (took[0], took[took.len() / 2], took[took.len() - 1]);
    (median, format!("{median:.0} ms ({least:.0} to {most:.0})"))
}

/// Medians of starts that read and of starts that write.
fn measure(dir: &Path, gibibytes: u64) -> [f64; 2] {
    let path = fresh(dir, "restart");
    let myself = std::env::current_exe().expect("a program");
    let died = Command::new(myself).args(["fill", &path.display().to_string(), &gibibytes.to_string()]).status();
    assert!(!died.expect("a process").success(), "it was to be aborted");
    let (mut reading, mut writing, mut replayed) = (Vec::new(), Vec::new(), 0);
    for round in 0..ROUNDS {
        let page = (gibibytes << 30) / LEN / 7 * (round + 1);
        let (took, bytes) = start(&path, true, page);
        reading.push(took);
        replayed = bytes;
        let again = fresh(dir, "restart-again");
        copy(&path, &again);
        let (took, bytes) = start(&again, false, page);
        writing.push(took);
        assert_eq!(bytes, replayed, "both replay the same");
        fs::remove_dir_all(&again).expect("it is there");
    }
    let ((read, reading), (written, writing)) = (shown(&mut reading), shown(&mut writing));
    println!("{gibibytes} GiB: {reading} to read, {writing} to write; {} MiB replayed", replayed >> 20);
    fs::remove_dir_all(&path).expect("it is there");
    [read, written]
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [command, path, gibibytes] = &arguments[..]
        && command == "fill"
    {
        fill(Path::new(path), gibibytes.parse().expect("a number"));
    }
    let dir = arguments.first().map_or_else(std::env::temp_dir, PathBuf::from);
    let sizes: Vec<u64> = arguments.iter().skip(1).map(|size| size.parse().expect("a number")).collect();
    let sizes = if sizes.is_empty() { vec![1, 4, 10] } else { sizes };
    let took: Vec<[f64; 2]> = sizes.iter().map(|size| measure(&dir, *size)).collect();
    for (nth, what) in ["to read", "to write"].into_iter().enumerate() {
        let took = took.iter().map(|took| took[nth]);
        let (least, most) = took.fold((f64::MAX, 0f64), |(least, most), ms| (least.min(ms), most.max(ms)));
        println!("{what}, the slowest takes {:.2}x of the fastest", most / least);
    }
}
