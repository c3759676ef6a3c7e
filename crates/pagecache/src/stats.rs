//! What a store holds and has done, as plain numbers.

use std::sync::atomic::Ordering;

use crate::base::ids::Lsn;
use crate::engine::Engine;
use crate::ops::Pages;
use crate::ops::memory::Memory;
use crate::page::materialize::Materializer;
use crate::page::pins::OldestGuard;

/// A snapshot of a store. Bytes, counts and LSNs; weakly consistent with each other.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Stats {
    /// Pages that are allocated, empty ones included. After a start behind a checkpoint it may be off by pages that were replayed, until
    /// their leaves of the map were read, which [`page_count`](crate::PageCache::page_count) does.
    pub pages: u64,
    /// One more than the highest page id ever handed out.
    pub ids_high_water: u64,
    /// Bytes of resident pages by their real heap size, and of the lists of where cold ones are: `pages` of `memory`.
    pub resident_bytes: u64,
    /// Bytes that the store may hold in memory.
    pub cache_capacity: u64,
    /// Bytes that it holds, by kind.
    pub memory: Memory,
    /// The guard that is held longest, of those that [`pin`](crate::PageCache::pin) gave, if there is one: what `garbage` waits for.
    pub oldest_guard: Option<OldestGuard>,
    /// Reads of cold pages that were spared since the start: another thread was reading the same page.
    pub shared_reads: u64,
    /// Bytes of memory of the mapping table: 8 a page, what its growth in steps costs, and where the parts of long records are.
    pub map_bytes: u64,
    /// Bytes of the log's ring.
    pub ring_bytes: u64,
    /// Segments.
    pub segments: u64,
    /// Of those, the segments of pages: all but the map's.
    pub data_segments: u64,
    /// Bytes of records in use in them, each counted up to a thirty-second too long. After a start behind a checkpoint it is too low
    /// until every leaf of the map was read, which the background does when it cleans.
    pub live_bytes: u64,
    /// Bytes of a segment.
    pub segment_size: u64,
    /// Bytes of disk that the segments and the files kept for reuse occupy. No file is opened to tell: one that was not open since the
    /// start counts whole. [`space`](crate::PageCache::space) says what they are.
    pub disk_bytes: u64,
    /// Bytes of payload given since the start.
    pub given_bytes: u64,
    /// Bytes written to the log since the start.
    pub written_bytes: u64,
    /// Rounds synced since the start.
    pub rounds: u64,
    /// The next LSN.
    pub tail: Lsn,
    /// Everything below is durable.
    pub stable: Lsn,
    /// A start would replay the log from here.
    pub redo: Lsn,
    /// Checkpoints written since the start.
    pub checkpoints: u64,
    /// Bytes written for them, those that failed included.
    pub checkpoint_bytes: u64,
    /// Bytes written since the start for pages that were moved out of the log.
    pub fold_bytes: u64,
    /// Bytes written since the start for pages that were moved before and are moved again.
    pub survivor_bytes: u64,
    /// Bytes of log that the start replayed.
    pub replayed_bytes: u64,
    /// Whether the store had been closed cleanly.
    pub clean_start: bool,
}

impl Stats {
    pub(crate) fn of<M: Materializer>(engine: &Engine, pages: &Pages<M>) -> Stats {
        let log = &engine.log;
        let usage = log.usage();
        Stats {
            pages: pages.ids.allocated(),
            ids_high_water: pages.ids.high_water(),
            resident_bytes: pages.budget.resident(),
            cache_capacity: pages.budget.capacity(),
            memory: Memory::of(pages),
            oldest_guard: pages.pins.oldest(),
            shared_reads: pages.misses.shared(),
            map_bytes: pages.table.bytes() + pages.leaves.bytes() + log.pool.spans.bytes(),
            ring_bytes: log.memory(),
            segments: log.pool.all().len() as u64,
            data_segments: usage.segments,
            live_bytes: usage.live,
            segment_size: log.pool.segment_size(),
            disk_bytes: log.pool.disk_bytes(),
            given_bytes: log.given(),
            written_bytes: log.counters.written.load(Ordering::Relaxed),
            rounds: log.counters.rounds.load(Ordering::Relaxed),
            tail: log.tail(),
            stable: log.stable(),
            redo: Lsn(log.counters.redo.load(Ordering::Relaxed)),
            checkpoints: log.counters.checkpoints.load(Ordering::Relaxed),
            checkpoint_bytes: log.counters.checkpoint_bytes.load(Ordering::Relaxed),
            fold_bytes: log.counters.fold_bytes.load(Ordering::Relaxed),
            survivor_bytes: log.counters.survivor_bytes.load(Ordering::Relaxed),
            replayed_bytes: engine.recovered.walked,
            clean_start: engine.recovered.clean,
        }
    }
}
