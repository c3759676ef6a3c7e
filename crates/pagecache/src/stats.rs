//! What a store holds and has done, as plain numbers.

use std::sync::atomic::Ordering;

use crate::base::ids::Lsn;
use crate::engine::Engine;
use crate::format::BLOCK;
use crate::format::segment::Stream;
use crate::log::core::LogCore;
use crate::ops::Pages;
use crate::ops::memory::Memory;
use crate::page::materialize::Materializer;
use crate::page::pins::OldestGuard;
use crate::restart::{Restart, RestartBy};
use crate::space::{Amplification, Written, moved_per_byte};

/// A snapshot of a store. Bytes, counts and LSNs; weakly consistent with each other.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
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
    /// The share in use of the room in the segments that cleaning may choose from: those of images, and those of the log behind the redo LSN. Nothing where
    /// there is none. As `live_bytes`, from which it comes, it is too low until every leaf was read, and up to a thirty-second too high after;
    /// [`Space::fill`](crate::Space::fill) counts every record, but takes what is in use of the log before the redo LSN in, too.
    pub fill: Option<f64>,
    /// The share that cleaning keeps up, as [configured](crate::ConfigBuilder::fill_target).
    pub fill_target: f64,
    /// Bytes that cleaning has to copy for each byte that fills the space again, at the fill now, where all pages are overwritten equally often: see
    /// [`Space::predicted_moves`](crate::Space::predicted_moves).
    pub predicted_moves: Option<f64>,
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
    /// What was written since the start for each byte given, by stream. Nothing where nothing was given.
    pub amplification: Option<Amplification>,
    /// How far the last checkpoint lags behind: bytes of log from the redo LSN to the tail, which a start would replay.
    pub lag_bytes: u64,
    /// How long a start would take now, in milliseconds: this start's time, its replay left out, and a replay of `lag_bytes` at the rate that
    /// `restart_by` names.
    pub restart_ms: u64,
    /// By what rate.
    pub restart_by: RestartBy,
    /// Bytes of log that the start replayed.
    pub replayed_bytes: u64,
    /// Whether the store had been closed cleanly.
    pub clean_start: bool,
}

impl Stats {
    pub(crate) fn of<M: Materializer>(engine: &Engine, pages: &Pages<M>, fill_target: f64, restart: &Restart) -> Stats {
        let log = &engine.log;
        let usage = log.usage();
        let (redo, tail) = (Lsn(log.counters.redo.load(Ordering::Relaxed)), log.tail());
        let lag_bytes = tail.0.saturating_sub(redo.0);
        let (restart_ms, restart_by) = restart.expected(lag_bytes);
        let fill = fill(log, redo);
        let written = Written::of(log);
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
            fill,
            fill_target,
            predicted_moves: fill.and_then(moved_per_byte),
            segment_size: log.pool.segment_size(),
            disk_bytes: log.pool.disk_bytes(),
            given_bytes: written.given,
            written_bytes: written.log,
            rounds: log.counters.rounds.load(Ordering::Relaxed),
            tail,
            stable: log.stable(),
            redo,
            checkpoints: log.counters.checkpoints.load(Ordering::Relaxed),
            checkpoint_bytes: written.map,
            fold_bytes: written.folds,
            survivor_bytes: written.survivors,
            amplification: written.amplification(),
            lag_bytes,
            restart_ms,
            restart_by,
            replayed_bytes: engine.recovered.walked,
            clean_start: engine.recovered.clean,
        }
    }
}

/// The share in use of the room in the segments behind the redo LSN.
fn fill(log: &LogCore, redo: Lsn) -> Option<f64> {
    let size = log.pool.segment_size();
    let (mut live, mut room) = (0, 0);
    for segment in log.pool.all() {
        let is_behind = match segment.header.stream {
            Stream::Map => false,
            Stream::Log => segment.header.start.0 + size <= redo.0,
            Stream::Folds | Stream::Survivors => true,
        };
        if is_behind {
            live += segment.account.live(log.raised(&segment));
            room += size - 2 * BLOCK;
        }
    }
    (room > 0).then(|| (live as f64 / room as f64).min(1.0))
}
