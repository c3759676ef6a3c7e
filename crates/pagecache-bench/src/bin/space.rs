//! `space`: pages overwritten again and again; how much disk that takes at most, and how much is written for each byte given.
//!
//! `cargo run --release -p pagecache-bench --bin space -- [DIRECTORY] [MIB] [ROUNDS]`: 4 KiB pages, so many MiB of them (512), each overwritten so many
//! times on the average (10), uniformly and by Zipf's law, in segments of 2 MiB, with a cache of an eighth.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use pagecache::{ConfigBuilder, PageCache, PageId, Version};
use pagecache_bench::files::{fresh, occupied, written};
use pagecache_bench::measure::median;
use pagecache_bench::workload::{Blob, Bytes, Draw, uniform, zipf};

const LEN: u64 = 4096;

const SEGMENT: u64 = 2 << 20;

fn blob(number: u64) -> Blob {
    let mut bytes = vec![number as u8; LEN as usize];
    bytes.iter_mut().zip(number.to_le_bytes()).for_each(|(byte, of)| *byte = of);
    Blob(bytes)
}

/// How often a plain file is written before a store is, and behind that. One alone may be half as fast as the median, or one and a half times.
const PLAIN: usize = 5;

/// MB/s of writing so many bytes to a new file, in pieces of 1 MiB, synced at the end.
fn plain(dir: &Path, bytes: u64) -> f64 {
    use std::io::Write;
    let path = dir.join("plain");
    let mut file = fs::File::create(&path).expect("a file");
    let piece = vec![7u8; 1 << 20];
    let begun = Instant::now();
    for _ in 0..bytes >> 20 {
        file.write_all(&piece).expect("room");
    }
    file.sync_all().expect("a sync");
    let took = begun.elapsed().as_secs_f64();
    fs::remove_file(&path).expect("it is there");
    bytes as f64 / 1e6 / took
}

fn run(dir: &Path, name: &str, draw: Draw, mebibytes: u64, rounds: u64) {
    let path = fresh(dir, name);
    let live = mebibytes << 20;
    let pages = live / LEN;
    let plain_len = live.max(256 << 20);
    // The first is not counted: its pages of the system's cache come from memory that a virtual machine may have to be given first, which says nothing of the
    // disk.
    plain(dir, plain_len);
    let mut sequential: Vec<f64> = (0..PLAIN).map(|_| plain(dir, plain_len)).collect();
    let config = ConfigBuilder::new().path(&path).segment_size(SEGMENT).cache_capacity(live / 8).build();
    let cache = PageCache::<Bytes>::start(config).expect("a store");
    let mut versions = vec![Version::NONE; pages as usize];
    for version in &mut versions {
        let guard = cache.pin();
        let id = cache.allocate(&guard);
        *version = cache.replace_at(id, Version::NONE, blob(id.0), &guard).expect("room");
    }
    cache.flush().expect("a sync");
    let ids = draw(1, pages, (pages * rounds) as usize);
    let (before, begun, mut peak) = (written(), Instant::now(), 0);
    for (count, id) in ids.iter().enumerate() {
        let guard = cache.pin();
        let version = &mut versions[*id as usize];
        *version = cache.replace_at(PageId(*id), *version, blob(*id), &guard).expect("room");
        if count % 4096 == 0 {
            peak = peak.max(occupied(&path));
        }
    }
    cache.flush().expect("a sync");
    let took = begun.elapsed().as_secs_f64();
    let given = (ids.len() as u64 * LEN) as f64;
    let (total, speed) = ((written() - before) as f64 / given, given / 1e6 / took);
    peak = peak.max(occupied(&path));
    let stats = cache.stats();
    cache.close().expect("a clean close");
    sequential.extend((0..PLAIN).map(|_| plain(dir, plain_len)));
    let (middle, best) = (median(&sequential), sequential.iter().copied().fold(0.0, f64::max));
    println!(
        "{name}: disk peak {:.2}x of live, written {total:.2}x of given, {speed:.0} MB/s given; sequential {middle:.0} MB/s, {best:.0} at best; {:.2} of \
         sequential / written, {:.2} of the best; {} checkpoints, {} segments at the end",
        peak as f64 / live as f64,
        speed / (middle / total),
        speed / (best / total),
        stats.checkpoints,
        stats.segments,
    );
    fs::remove_dir_all(&path).expect("it is there");
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, default: u64| arguments.get(at).map_or(default, |text| text.parse().expect("a number"));
    let dir = arguments.first().map_or_else(std::env::temp_dir, PathBuf::from);
    let (mebibytes, rounds) = (number(1, 512), number(2, 10));
    run(&dir, "uniform", uniform, mebibytes, rounds);
    run(&dir, "zipf .99", zipf, mebibytes, rounds);
}
