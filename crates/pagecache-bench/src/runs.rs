//! One run of each kind of work, on any entrant: what `spine` and `pagecache-compare` time in the same way.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::engines::{Appends, Pages};
use crate::measure::{Figures, seconds, together};

/// Bytes of a linked fragment.
pub const FRAGMENT: usize = 64;

/// Appends `count` records on some threads and makes all durable; returns the seconds.
pub fn append(log: &impl Appends, threads: usize, count: usize, len: usize) -> f64 {
    let record = vec![7u8; len];
    let took = together(threads, |_| {
        for _ in 0..count / threads {
            log.append(&record);
        }
    });
    took.as_secs_f64() + seconds(|| log.flush())
}

/// Each thread appends and waits for its record, `each` times; commits a second.
pub fn durable(log: &impl Appends, threads: usize, each: usize, len: usize) -> f64 {
    let record = vec![7u8; len];
    let took = together(threads, |_| {
        for _ in 0..each {
            let at = log.append(&record);
            log.wait(at);
        }
    });
    (each * threads) as f64 / took.as_secs_f64()
}

/// Reads the pages of these ids, a list a thread; pages a second.
pub fn get(pages: &impl Pages, ids: &[Vec<u64>]) -> f64 {
    rate(ids, |id| pages.sum(id))
}

/// Does something that reads with each id, a list a thread, keeping what it read; ids a second.
pub fn rate(ids: &[Vec<u64>], read: impl Fn(u64) -> u64 + Sync) -> f64 {
    let sink = AtomicU64::new(0);
    let took = together(ids.len(), |thread| {
        let all = ids[thread].iter().fold(0u64, |all, id| all.wrapping_add(read(*id)));
        sink.fetch_add(all, Ordering::Relaxed);
    });
    std::hint::black_box(sink.into_inner());
    ids.iter().map(Vec::len).sum::<usize>() as f64 / took.as_secs_f64()
}

/// Links a fragment to the page of each id by `link`, a list a thread: links a second, and the 99th percentile of one in
/// microseconds.
pub fn link(ids: &[Vec<u64>], link: impl Fn(u64, Vec<u8>) -> u64 + Sync) -> Figures {
    let (rate, times) = link_timed(ids, None, link);
    vec![("links/s", rate), ("p99 us", times.value_at_quantile(0.99) as f64 / 1e3)]
}

/// As [`link`], each thread as fast as it can or at so many a second: what is due is done in a row, then it sleeps for a millisecond. Links a second,
/// and the nanoseconds of each.
pub fn link_timed(
    ids: &[Vec<u64>],
    pace: Option<f64>,
    link: impl Fn(u64, Vec<u8>) -> u64 + Sync,
) -> (f64, Histogram<u64>) {
    let all = Mutex::new(nanoseconds());
    let took = together(ids.len(), |thread| {
        let mut own = nanoseconds();
        let mut read = 0u64;
        let begun = Instant::now();
        let mut last = begun;
        for (at, id) in ids[thread].iter().enumerate() {
            while pace.is_some_and(|pace| (last - begun).as_secs_f64() < at as f64 / pace) {
                std::thread::sleep(Duration::from_millis(1));
                last = Instant::now();
            }
            read = read.wrapping_add(link(*id, vec![7u8; FRAGMENT]));
            let now = Instant::now();
            own.saturating_record((now - last).as_nanos() as u64);
            last = now;
        }
        std::hint::black_box(read);
        all.lock().expect("not poisoned").add(own).expect("equal bounds");
    });
    let count = ids.iter().map(Vec::len).sum::<usize>() as f64;
    (count / took.as_secs_f64(), all.into_inner().expect("not poisoned"))
}

fn nanoseconds() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 10_000_000_000, 3).expect("bounds in order")
}

/// Replaces the page of each id, a list a thread, and makes all durable; returns the seconds.
pub fn replace(pages: &impl Pages, ids: &[Vec<u64>], len: usize) -> f64 {
    let took = together(ids.len(), |thread| {
        for id in &ids[thread] {
            pages.replace(*id, vec![*id as u8; len]);
        }
    });
    took.as_secs_f64() + seconds(|| pages.flush())
}
