//! Where every byte of a store is, what its writing has cost so far, and what the next start will.
//!
//! - A1. Every file is counted once, at the length that it has when it is looked at, and every byte of it in one part: the parts add up to
//!   the lengths by construction, whatever else is going on.
//! - A2. A record is in use if the slot of its page names it when the walk comes by. Nothing else decides, so nothing has to be kept for
//!   it: no account, no list.

mod files;
mod long;
mod parts;
mod predict;
mod walk;

use serde::Serialize;

pub use parts::Parts;

use crate::base::error::Result;
use crate::base::ids::Lsn;
use crate::base::sync::Ordering;
use crate::checkpoint::write::Checkpointer;
use crate::log::core::LogCore;
use crate::ops::Pages;
use crate::page::materialize::Materializer;
use crate::restart::{Restart, RestartBy};
pub(crate) use predict::moved_per_byte;
use walk::Walk;

/// Where the bytes of a store are, and what that costs. From [`PageCache::space`](crate::PageCache::space), or from
/// [`inspect::space`](crate::inspect::space) for a store that is not open.
///
/// To make it is for looking, not for a loop ([`stats`](crate::PageCache::stats) reads nothing): every leaf of the map that was not read yet is
/// read, then every segment once from end to end, on the caller's thread, which takes as long as the disk takes to be read. Memory
/// grows by the map only. A checkpoint that is being written is waited for.
///
/// Updates, reads and cleaning go on meanwhile. The parts add up whatever they do; but a page that is changed or moved meanwhile may be
/// met twice or not at all, and what is not durable yet counts as log: [`flush`](crate::PageCache::flush) first where that matters.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Space {
    /// The store's files by what their bytes are; they add up to `files_bytes`.
    pub parts: Parts,
    /// The lengths of the store's files together. `LOCK` is empty.
    pub files_bytes: u64,
    /// Bytes of disk that these files occupy, as the file system says: fewer where not everything was set aside.
    pub occupied_bytes: u64,
    /// Files of the store.
    pub files: u64,
    /// Names in the directory that are not the store's. They are not opened, nor counted in anything else.
    pub foreign: u64,
    /// The share in use of the segments of pages: what is in use, against that and what is dead, padding and headers there. What only
    /// the next start needs (`log`), and what is not written yet, is left out. Nothing where no page is on disk.
    pub fill: Option<f64>,
    /// The share that cleaning keeps up, as [configured](crate::ConfigBuilder::fill_target).
    pub fill_target: f64,
    /// What was written since the start, by stream.
    pub written: Written,
    /// What was written for each byte given since the start, by stream. Nothing where nothing was given.
    pub amplification: Option<Amplification>,
    /// Bytes that cleaning has to copy for each byte that fills the space again, at the fill now, where all pages are overwritten equally often:
    /// `(1 - E) / E` with `E = 1 - exp(-E / fill)`. Where some pages are hotter than others it is less. Nothing where `fill` is
    /// nothing.
    pub predicted_moves: Option<f64>,
    /// How far the last checkpoint lags behind: bytes of log from the redo LSN to the tail, which a start would replay.
    pub lag_bytes: u64,
    /// How long a start would take now, in milliseconds: this start's time, its replay left out, and a replay of `lag_bytes` at the rate that
    /// `restart_by` names.
    pub restart_ms: u64,
    /// By what rate.
    pub restart_by: RestartBy,
}

/// Bytes handed to the storage since the start, by stream, and what was given for them.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Written {
    /// What users gave as payload.
    pub given: u64,
    /// To the log.
    pub log: u64,
    /// Images of pages that were moved out of the log.
    pub folds: u64,
    /// Images of pages that were images before.
    pub survivors: u64,
    /// Leaves and roots of checkpoints.
    pub map: u64,
}

/// Bytes written for each byte given.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Amplification {
    /// To the log: heads, pads and marks make it more than 1.
    pub log: f64,
    /// Images of pages that were moved out of the log.
    pub folds: f64,
    /// Images of pages that were images before.
    pub survivors: f64,
    /// Leaves and roots of checkpoints.
    pub map: f64,
    /// All together.
    pub whole: f64,
}

impl Written {
    pub(crate) fn of(log: &LogCore) -> Written {
        let counters = &log.counters;
        Written {
            given: log.given(),
            log: counters.written.load(Ordering::Relaxed),
            folds: counters.fold_bytes.load(Ordering::Relaxed),
            survivors: counters.survivor_bytes.load(Ordering::Relaxed),
            map: counters.checkpoint_bytes.load(Ordering::Relaxed),
        }
    }

    pub(crate) fn amplification(&self) -> Option<Amplification> {
        let per_given = |bytes: u64| bytes as f64 / self.given as f64;
        (self.given > 0).then(|| Amplification {
            log: per_given(self.log),
            folds: per_given(self.folds),
            survivors: per_given(self.survivors),
            map: per_given(self.map),
            whole: per_given(self.log + self.folds + self.survivors + self.map),
        })
    }
}

impl Space {
    /// Looks at every file of a store.
    ///
    /// # Errors
    /// `Corrupt` where a leaf of the map cannot be read; `Io`.
    pub(crate) fn of<M: Materializer>(
        pages: &Pages<M>,
        checkpointer: &Checkpointer<M>,
        fill_target: f64,
        restart: &Restart,
    ) -> Result<Space> {
        let log = &*pages.log;
        pages.read_all_leaves()?;
        let counts = checkpointer.counts();
        let redo = Lsn(log.counters.redo.load(Ordering::Relaxed));
        let mut walk = Walk::new(pages, counts, redo);
        let files = files::take(&log.pool, &mut walk)?;
        let lag_bytes = log.tail().0.saturating_sub(redo.0);
        let (written, fill) = (Written::of(log), walk.of_pages.fill());
        let (restart_ms, restart_by) = restart.expected(lag_bytes);
        Ok(Space {
            parts: walk.of_pages.and(walk.of_map).and(files.parts),
            files_bytes: files.bytes,
            occupied_bytes: files.occupied,
            files: files.count,
            foreign: files.foreign,
            fill,
            fill_target,
            written,
            amplification: written.amplification(),
            predicted_moves: fill.and_then(moved_per_byte),
            lag_bytes,
            restart_ms,
            restart_by,
        })
    }
}
