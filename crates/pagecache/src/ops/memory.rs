//! What a store holds in memory, by kind.

use std::sync::atomic::Ordering;

use super::Pages;
use crate::page::materialize::Materializer;

/// Bytes of memory that a store holds, by kind: everything that [`cache_capacity`](crate::ConfigBuilder::cache_capacity) counts. Weakly
/// consistent. What the allocator adds to them is not in here, nor what is made of a page that was read until the cache has it, nor what callers own:
/// fragments before they are given, and pages that a `get` could not leave in the cache.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Memory {
    /// Resident pages by their real heap size, with the nodes around them, and lists of the places of cold ones.
    pub pages: u64,
    /// What was taken out of its slot, and that guards may still see: it goes once they are dropped.
    pub garbage: u64,
    /// The mapping table, 8 bytes a page and what its growth in steps costs; which leaves have changed; ids to be used again; where the parts of
    /// long records are.
    pub map: u64,
    /// The order in which pages go, and which went of late.
    pub queues: u64,
    /// The log's ring.
    pub log: u64,
    /// Segments: what is known of each, and its account.
    pub segments: u64,
    /// Bytes gathered for checkpoints and by cleaning, until they are written.
    pub buffers: u64,
    /// Pages that are being read, as they lie on disk, until they are decoded. Pages leave room for these at any time, and are not evicted for them.
    pub reads: u64,
}

impl Memory {
    pub(crate) fn of<M: Materializer>(pages: &Pages<M>) -> Memory {
        let log = &pages.log;
        Memory {
            pages: pages.budget.resident(),
            garbage: pages.garbage(),
            map: pages.table.bytes() + pages.leaves.bytes() + pages.ids.bytes() + log.pool.spans.bytes(),
            queues: pages.queues.memory(),
            log: log.memory(),
            segments: log.pool.bytes(),
            buffers: log.counters.buffers.load(Ordering::Relaxed),
            reads: pages.misses.memory(),
        }
    }

    /// All kinds together.
    pub fn total(&self) -> u64 {
        self.pages + self.beside() + self.reads
    }

    /// All but the pages, and what is there for the length of a read: what would be evicted for that could not be freed before its guard is gone.
    pub(crate) fn beside(&self) -> u64 {
        self.garbage + self.map + self.queues + self.log + self.segments + self.buffers
    }
}
