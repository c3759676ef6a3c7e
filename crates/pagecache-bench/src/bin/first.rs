//! The first bench: append, durable append, `get` and `link`, each against a limit or a peer in the same run.
//!
//! `cargo run --release -p pagecache-bench --bin first [RUNS] [ROW..]`
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use pagecache::storage::MemoryStorage;
use pagecache::{ConfigBuilder, Log, PageCache, PageId, Version};
use pagecache_bench::measure::{alone, median, paired, row, together};
use pagecache_bench::plain::Plain;
use pagecache_bench::workload::{Bytes, uniform, zipf};

const PAGES: u64 = 100_000;

fn main() {
    let mut args = std::env::args().skip(1);
    let runs: usize = args.next().and_then(|runs| runs.parse().ok()).unwrap_or(5);
    let only: Vec<String> = args.collect();
    let wanted = |name: &str| only.is_empty() || only.iter().any(|row| name.contains(row.as_str()));
    let dir = std::env::temp_dir().join(format!("pagecache-bench-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a place for files");
    println!("{runs} runs each, medians, ours and peer in turn; files under {}", dir.display());
    if wanted("append-memory") {
        append_memory(runs);
    }
    if wanted("append-file") {
        append_file(runs, &dir);
    }
    if wanted("durable") {
        durable(runs, &dir);
    }
    if wanted("get") {
        get(runs);
    }
    if wanted("link") {
        link(runs);
    }
    std::fs::remove_dir_all(&dir).expect("the files go");
}

fn append_memory(runs: usize) {
    const COUNT: usize = 2_000_000;
    let rate = |threads: usize| {
        let log = Log::start(ConfigBuilder::new().storage(MemoryStorage::new()).build()).expect("a log");
        let record = [7u8; 128];
        let took = together(threads, |_| {
            for _ in 0..COUNT / threads {
                log.write(&record).expect("room");
            }
        });
        COUNT as f64 / took.as_secs_f64()
    };
    let (two, one) = paired(runs, || rate(2), || rate(1));
    alone("append-memory 128 B, 1 thread", "records/s", one);
    row("append-memory 128 B, 2 threads", "records/s", two, "1 thread", one);
}

fn append_file(runs: usize, dir: &std::path::Path) {
    for (len, count) in [(128usize, 2_000_000usize), (4096, 100_000)] {
        for threads in [1, 2] {
            let record = vec![7u8; len];
            let ours = || {
                let path = dir.join("log");
                let _ = std::fs::remove_dir_all(&path);
                let log = Log::start(ConfigBuilder::new().path(&path).flush_every_ms(None).build()).expect("a log");
                let took = together(threads, |_| {
                    for _ in 0..count / threads {
                        log.write(&record).expect("room");
                    }
                    log.flush().expect("a sync");
                });
                count as f64 / took.as_secs_f64()
            };
            let peer = || {
                let plain = Plain::create(&dir.join("plain"), (count * (len + 8)) as u64).expect("a file");
                let took = together(threads, |_| {
                    let mut end = 0;
                    for _ in 0..count / threads {
                        end = plain.append(&record);
                    }
                    plain.sync(end);
                });
                count as f64 / took.as_secs_f64()
            };
            let (a, b) = paired(runs, ours, peer);
            row(
                &format!("append-file {len} B, {threads} thr, flush at the end"),
                "records/s",
                a,
                "plain (file written)",
                b,
            );
        }
    }
}

fn durable(runs: usize, dir: &std::path::Path) {
    for threads in [1, 2, 16, 64] {
        let each = (6000 / threads).clamp(300, 3000);
        let record = [7u8; 128];
        let ours = || {
            let path: PathBuf = dir.join("durable");
            let _ = std::fs::remove_dir_all(&path);
            let log = Log::start(ConfigBuilder::new().path(&path).build()).expect("a log");
            let took = together(threads, |_| {
                for _ in 0..each {
                    let lsn = log.write(&record).expect("room");
                    log.make_stable(lsn).expect("a sync");
                }
            });
            (each * threads) as f64 / took.as_secs_f64()
        };
        let peer = || {
            let plain = Plain::create(&dir.join("plain"), 16 << 20).expect("a file");
            let took = together(threads, |_| {
                for _ in 0..each {
                    plain.sync(plain.append(&record));
                }
            });
            (each * threads) as f64 / took.as_secs_f64()
        };
        let (a, b) = paired(runs, ours, peer);
        row(&format!("durable append 128 B, {threads} threads"), "commits/s", a, "plain (file written)", b);
    }
}

fn filled(capacity: u64) -> PageCache<Bytes> {
    let config = ConfigBuilder::new().storage(MemoryStorage::new()).cache_capacity(capacity);
    let pc = PageCache::<Bytes>::start(config.build()).expect("a store");
    for page in 0..PAGES {
        let guard = pc.pin();
        let id = pc.allocate(&guard);
        pc.replace_at(id, Version::NONE, vec![page as u8; 1024], &guard).expect("room");
    }
    pc
}

/// The bare loop: the same bytes behind a plain array of boxes, a pin per read, all bytes summed.
fn get(runs: usize) {
    let pc = filled(1 << 30);
    let bare: Vec<Box<Vec<u8>>> = (0..PAGES).map(|page| Box::new(vec![page as u8; 1024])).collect();
    for (name, draw) in [("uniform", uniform as fn(u64, u64, usize) -> Vec<u64>), ("zipf .99", zipf)] {
        let ids: Vec<Vec<u64>> = (0..2).map(|thread| draw(thread, PAGES, 1_000_000)).collect();
        let total = ids.iter().map(Vec::len).sum::<usize>() as f64;
        let sum = |bytes: &[u8]| bytes.chunks_exact(8).fold(0u64, |sum, word| sum.wrapping_add(u64::from(word[0])));
        let sink = AtomicU64::new(0);
        let ours = || {
            let took = together(2, |thread| {
                let mut all = 0u64;
                for id in &ids[thread] {
                    let guard = pc.pin();
                    all = all.wrapping_add(sum(&pc.get(PageId(*id), &guard).expect("a page").0));
                }
                sink.fetch_add(all, Ordering::Relaxed);
            });
            total / took.as_secs_f64()
        };
        let peer = || {
            let took = together(2, |thread| {
                let mut all = 0u64;
                for id in &ids[thread] {
                    let _guard = pagecache::crossbeam_epoch::pin();
                    all = all.wrapping_add(sum(&bare[*id as usize]));
                }
                sink.fetch_add(all, Ordering::Relaxed);
            });
            total / took.as_secs_f64()
        };
        let (a, b) = paired(runs, ours, peer);
        row(&format!("get resident 1 KiB, {name}, 2 threads"), "pages/s", a, "bare array", b);
    }
}

fn link(runs: usize) {
    let rate = |threads: usize| {
        let pc = filled(1 << 30);
        const COUNT: usize = 400_000;
        let ids: Vec<Vec<u64>> = (0..threads).map(|thread| uniform(thread as u64, PAGES, COUNT / threads)).collect();
        let before = pc.stats();
        let took = together(threads, |thread| {
            let mut first = 0u64;
            for id in &ids[thread] {
                let guard = pc.pin();
                let (page, mut key) = pc.get(PageId(*id), &guard).expect("a page");
                first += u64::from(page[0]);
                let mut frag = vec![7u8; 64];
                while let Err(refused) = pc.link(PageId(*id), key, frag, &guard) {
                    match refused {
                        pagecache::Rejected::Conflict { token, rejected, .. } => (key, frag) = (token, rejected),
                        other => panic!("{other}"),
                    }
                }
            }
            assert!(first > 0);
        });
        pc.flush().expect("a sync");
        let after = pc.stats();
        let bytes = (after.tail.0 - before.tail.0) as f64 / (after.given_bytes - before.given_bytes) as f64;
        ((COUNT as f64) / took.as_secs_f64(), bytes)
    };
    let (mut one, mut two, mut bytes) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..runs {
        one.push(rate(1).0);
        let (rate, ratio) = rate(2);
        two.push(rate);
        bytes.push(ratio);
    }
    alone("get + link 64 B, memory, 1 thread", "links/s", median(one.clone()));
    row("get + link 64 B, memory, 2 threads", "links/s", median(two), "1 thread", median(one));
    alone("  log bytes per byte given", "x", median(bytes));
}
