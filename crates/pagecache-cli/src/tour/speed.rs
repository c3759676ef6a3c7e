//! Latencies, and the operations that are measured beside the indexing: reads and durable commits.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use pagecache::{PageCache, PageId, PageState, Version};
use serde::Serialize;

use super::words::{Index, Posting, Words};
use crate::Failure;
use crate::show::{Table, count, time};

const THREADS: u64 = 4;

/// Times of one kind of operation, to three digits, up to a minute.
pub(super) struct Latencies {
    nanos: Histogram<u64>,
}

impl Latencies {
    pub(super) fn new() -> Latencies {
        let nanos = Histogram::new_with_bounds(1, 60_000_000_000, 3);
        Latencies { nanos: nanos.expect("the bounds are sound") }
    }

    pub(super) fn record(&mut self, took: Duration) {
        self.nanos.saturating_record(took.as_nanos().clamp(1, 60_000_000_000) as u64);
    }

    pub(super) fn add(&mut self, other: &Latencies) {
        // Both have the same bounds.
        let _ = self.nanos.add(&other.nanos);
    }

    pub(super) fn count(&self) -> u64 {
        self.nanos.len()
    }
}

/// One kind of operation, measured.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Speed {
    pub(super) operation: &'static str,
    pub(super) threads: u64,
    pub(super) count: u64,
    pub(super) per_second: f64,
    pub(super) p50_ns: u64,
    pub(super) p99_ns: u64,
    pub(super) max_ns: u64,
}

impl Speed {
    pub(super) fn new(operation: &'static str, threads: u64, latencies: &Latencies, took: Duration) -> Speed {
        let at = |quantile| latencies.nanos.value_at_quantile(quantile);
        let count = latencies.count();
        Speed {
            operation,
            threads,
            count,
            per_second: count as f64 / took.as_secs_f64().max(1e-9),
            p50_ns: at(0.5),
            p99_ns: at(0.99),
            max_ns: if count == 0 { 0 } else { latencies.nanos.max() },
        }
    }
}

pub(super) fn table(speeds: &[Speed]) -> Table {
    let mut table = Table::new(["operation", "threads", "count", "per second", "p50", "p99", "max"]);
    for speed in speeds {
        let nanos = |nanos| time(Duration::from_nanos(nanos));
        table.row([
            speed.operation.to_owned(),
            speed.threads.to_string(),
            count(speed.count),
            count(speed.per_second as u64),
            nanos(speed.p50_ns),
            nanos(speed.p99_ns),
            nanos(speed.max_ns),
        ]);
    }
    table
}

/// Runs a step from several threads for a while; each is given its thread and a random number.
fn measure(
    operation: &'static str,
    limit: Duration,
    step: impl Fn(u64, u64) -> Result<(), Failure> + Sync,
) -> Result<Speed, Failure> {
    let started = Instant::now();
    let run = |thread: u64| {
        let mut latencies = Latencies::new();
        let mut seed = thread + 1;
        let mut now = Instant::now();
        while now - started < limit {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            step(thread, seed >> 33)?;
            let after = Instant::now();
            latencies.record(after - now);
            now = after;
        }
        Ok::<_, Failure>(latencies)
    };
    let mut all = Latencies::new();
    std::thread::scope(|scope| -> Result<(), Failure> {
        let run = &run;
        let threads: Vec<_> = (0..THREADS).map(|thread| scope.spawn(move || run(thread))).collect();
        for thread in threads {
            all.add(&thread.join().map_err(|_| "a measured thread panicked")??);
        }
        Ok(())
    })?;
    Ok(Speed::new(operation, THREADS, &all, started.elapsed()))
}

/// Random pages that hold data, each under a guard of its own.
pub(super) fn gets(pc: &PageCache<Index>, limit: Duration) -> Result<Speed, Failure> {
    let ids = pc.page_ids().collect::<Result<Vec<PageId>, _>>()?;
    if ids.is_empty() {
        return Err("nothing was indexed: is there any text?".into());
    }
    measure("get", limit, |_, random| {
        let guard = pc.pin();
        let (page, _) = pc.get(ids[random as usize % ids.len()], &guard)?;
        std::hint::black_box(page.0.len());
        Ok(())
    })
}

/// A link to a page of the thread's own, and the wait until it is durable.
pub(super) fn commits(pc: &PageCache<Index>, limit: Duration) -> Result<Speed, Failure> {
    let ids: Vec<PageId> = {
        let guard = pc.pin();
        (0..THREADS * 64).map(|_| pc.allocate(&guard)).collect()
    };
    measure("durable commit", limit, |thread, random| {
        let id = ids[(thread * 64 + random % 64) as usize];
        let mut words = Words::default();
        words.add("commit", Posting { file: u32::MAX, line: random as u32 });
        let at = {
            let guard = pc.pin();
            let at = match pc.state(id, &guard)? {
                PageState::Live(version) => version,
                _ => Version::NONE,
            };
            pc.link_at(id, at, words, &guard).map_err(pagecache::Error::from)?
        };
        pc.make_stable(at)?;
        Ok(())
    })
}
