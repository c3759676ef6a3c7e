//! `restart`: how long a start takes after a crash, first `get` included, in stores of several sizes with as much log behind the checkpoint.
//!
//! `cargo run --release -p pagecache-bench --bin restart -- [DIRECTORY] [GIB..]`: pages of 4 KiB (1, 4 and 10 GiB of them), then a checkpoint, then 64 MiB of replaces at
//! random, then the process is aborted; files cold; medians of five starts.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use pagecache::{Background, ConfigBuilder, PageCache, PageId, Version};
use pagecache_bench::files::{fresh, make_cold};
use pagecache_bench::workload::{Blob, Bytes, uniform};

const LEN: u64 = 4096;

/// Log behind the checkpoint.
const TAIL: u64 = 64 << 20;

fn config(path: &Path) -> ConfigBuilder {
    // Whoever opens works alone, so that nothing but the start is timed; nothing but what is asked for is written either.
    ConfigBuilder::new().path(path).background(Background::Caller).log_limit(1 << 40)
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
    cache.flush().expect("a sync");
    cache.checkpoint().expect("a checkpoint");
    for id in uniform(1, pages, (TAIL / LEN) as usize) {
        let version = &mut versions[id as usize];
        *version = cache.replace_at(PageId(id), *version, blob.clone(), &cache.pin()).expect("room");
    }
    cache.flush().expect("a sync");
    std::process::abort();
}

fn measure(dir: &Path, gibibytes: u64) -> f64 {
    let path = fresh(dir, "restart");
    let myself = std::env::current_exe().expect("a program");
    let died = Command::new(myself).args(["fill", &path.display().to_string(), &gibibytes.to_string()]).status();
    assert!(!died.expect("a process").success(), "it was to be aborted");
    let mut took = Vec::new();
    let mut replayed = 0;
    for round in 0..5u64 {
        make_cold(&path);
        let begun = Instant::now();
        // Read only, so that each start finds what the crash has left.
        let cache = PageCache::<Bytes>::start(config(&path).read_only(true).build()).expect("a store");
        let first = (gibibytes << 30) / LEN / 7 * (round + 1);
        let found = cache.get(PageId(first), &cache.pin()).expect("a page").0.0.len();
        took.push(begun.elapsed().as_secs_f64() * 1e3);
        assert_eq!(found as u64, LEN);
        replayed = cache.stats().replayed_bytes;
    }
    took.sort_by(f64::total_cmp);
    println!("{gibibytes} GiB: {:.0} ms ({:.0} to {:.0}), {} MiB replayed", took[2], took[0], took[4], replayed >> 20);
    std::fs::remove_dir_all(&path).expect("it is there");
    took[2]
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
    let took: Vec<f64> = sizes.iter().map(|size| measure(&dir, *size)).collect();
    let (least, most) = took.iter().fold((f64::MAX, 0f64), |(least, most), ms| (least.min(*ms), most.max(*ms)));
    println!("the slowest takes {:.2}x of the fastest", most / least);
}
