//! A look at a store under load, from outside and as it says itself.

use std::path::Path;
use std::sync::atomic::Ordering;

use pagecache::{PageCache, Stats};
use serde::Serialize;

use super::content::Stripes;
use super::model::Model;
use super::work::Counts;
use crate::allocator::live;
use crate::files::{anonymous, occupied};

/// What the same process takes with an empty store, and the same threads waiting.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Empty {
    /// Bytes of anonymous memory.
    pub anonymous: u64,
}

impl Empty {
    /// A look now.
    pub fn now() -> Empty {
        Empty { anonymous: anonymous() }
    }
}

/// A sample; bytes.
#[derive(Clone, Debug, Serialize)]
pub struct Sample {
    /// Seconds since the threads began.
    pub at: f64,
    /// What they were doing.
    pub phase: &'static str,
    /// Anonymous memory beyond the empty store's.
    pub anonymous: u64,
    /// Asked of the allocator since the store was started, and not given back.
    pub asked: u64,
    /// The most of that since the sample before, looked at every millisecond.
    pub asked_peak: u64,
    /// What the store says of its memory, and what the threads have in hand; the more of two looks before and after.
    pub said: u64,
    /// Occupied by the files of the directory.
    pub disk: u64,
    /// Payload of all pages as the model knows.
    pub payload: u64,
    /// Pages as the model knows.
    pub pages: u64,
    /// The most that a guard which is held for long has kept.
    pub kept: u64,
    /// Most memory allowed.
    pub memory_allowed: u64,
    /// Most disk allowed.
    pub disk_allowed: u64,
    /// Operations of the steady state: get, link, replace, free.
    pub operations: [u64; 4],
    /// What the store says.
    pub stats: Stats,
}

/// Bytes asked of the allocator and not given back since counting began. Freeing what was asked for before counts below zero.
pub fn asked() -> u64 {
    live().max(0) as u64
}

impl Sample {
    /// A look now, with nothing said of time, phase, bounds and operations.
    pub fn now(cache: &PageCache<Stripes>, model: &Model, counts: &Counts, dir: &Path, empty: Empty) -> Sample {
        // What is allowed grows with what pages hold: of the two looks at it, before and after, the larger counts.
        let (payload, pages) = (model.bytes(), model.pages());
        let in_hand = || counts.in_hand.load(Ordering::Relaxed);
        let said = cache.stats().memory.total() + in_hand();
        let asked = asked();
        let also_in_hand = in_hand();
        let stats = cache.stats();
        let memory = anonymous();
        let disk = occupied(dir);
        Sample {
            at: 0.0,
            phase: "",
            anonymous: memory.saturating_sub(empty.anonymous),
            asked,
            asked_peak: 0,
            said: said.max(stats.memory.total() + also_in_hand),
            disk,
            payload: payload.max(model.bytes()),
            pages: pages.max(model.pages()),
            kept: 0,
            memory_allowed: 0,
            disk_allowed: 0,
            operations: [0; 4],
            stats,
        }
    }
}
