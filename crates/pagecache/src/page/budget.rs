//! What resident pages weigh, counted without a line that all threads share.

use crossbeam_utils::CachePadded;

use super::frees::LOT;
use crate::base::sync::{AtomicU64, Ordering, thread_ordinal};

/// Few under shuttle, for which each look at one is a place to switch threads.
const STRIPES: usize = if cfg!(shuttle) { 2 } else { 16 };

#[derive(Debug, Default)]
struct Stripe {
    /// Added minus removed, modulo 2^64; only the sum over all stripes means something.
    bytes: AtomicU64,
    /// Added since the last look at the sum.
    unseen: AtomicU64,
}

#[derive(Debug)]
pub(crate) struct Budget {
    capacity: u64,
    /// What the stripes may hide; and what writers add while one of them waits for the next segment, whose guard keeps all that they replace: the
    /// rest of this one in the log, and the pages that these updates are of. What is read, merged and copied just now is in there, too.
    slack: u64,
    /// Bytes that the store holds beside resident pages, as they were when somebody looked last. Relaxed, as all here.
    beside: AtomicU64,
    stripes: [CachePadded<Stripe>; STRIPES],
}

/// Whether it is time to make room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Fill {
    Fits,
    Over,
}

/// Whether it is time to look at what everything weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Look {
    Later,
    Now,
}

impl Budget {
    pub(crate) fn new(capacity: u64, segment_size: u64) -> Budget {
        let stripes = std::array::from_fn(|_| CachePadded::new(Stripe::default()));
        let slack = capacity / 8 + (2 * segment_size).min(capacity / 4);
        Budget { capacity, slack, beside: AtomicU64::new(0), stripes }
    }

    fn own(&self) -> &Stripe {
        let at = thread_ordinal() as usize % STRIPES;
        self.stripes.get(at).unwrap_or(&self.stripes[0])
    }

    /// Counts bytes that became resident. All orders relaxed: counters.
    pub(crate) fn add(&self, bytes: usize) -> Look {
        let own = self.own();
        own.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        let unseen = own.unseen.fetch_add(bytes as u64, Ordering::Relaxed) + bytes as u64;
        // Each stripe may hide a little: all of them together less than an eighth of the capacity.
        if unseen < (self.capacity / 128).min(16 << 10) {
            return Look::Later;
        }
        own.unseen.store(0, Ordering::Relaxed);
        Look::Now
    }

    /// Counts bytes that became resident; the next [`add`](Self::add) of this thread, of nothing even, looks at the sum.
    pub(crate) fn note(&self, bytes: usize) {
        let own = self.own();
        own.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        own.unseen.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Counts bytes that are not resident any more.
    pub(crate) fn remove(&self, bytes: usize) {
        self.own().bytes.fetch_sub(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn fill(&self) -> Fill {
        if self.resident() > self.goal() { Fill::Over } else { Fill::Fits }
    }

    /// Bytes resident now.
    pub(crate) fn resident(&self) -> u64 {
        let sum = self.stripes.iter().fold(0u64, |sum, stripe| sum.wrapping_add(stripe.bytes.load(Ordering::Relaxed)));
        // Between two stripes' reads a removal may be seen before its addition.
        if sum > i64::MAX as u64 { 0 } else { sum }
    }

    /// Where eviction stops: what the rest leaves of the capacity, less the slack. Pages always get a quarter: a cache that holds nothing serves
    /// nobody.
    fn goal(&self) -> u64 {
        let beside = self.beside.load(Ordering::Relaxed);
        (self.capacity - self.slack).saturating_sub(beside).max(self.capacity / 4)
    }

    /// Takes note of what the store holds beside resident pages. Garbage counts only as far as it goes by itself: what guards keep beyond that
    /// would be joined by all that is evicted for it.
    pub(crate) fn set_beside(&self, bytes: u64, garbage: u64) {
        self.beside.store(bytes + garbage.min(self.garbage_max()), Ordering::Relaxed);
    }

    /// Bytes of garbage that there may be without a guard that is held for long: what threads have not handed over yet, and what is free two
    /// epochs later.
    fn garbage_max(&self) -> u64 {
        (self.capacity / 16).max(16 * LOT)
    }

    pub(crate) fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Whether pages that are evicted make room. Where guards keep much garbage already they would only be more of it, and each page that comes in
    /// costs one. What the background frees by itself says nothing of guards.
    pub(crate) fn gains_by_evicting(&self, garbage: u64) -> bool {
        // In small caches a page or two that have just gone are much already.
        garbage <= self.garbage_max().max(1 << 20)
    }
}
