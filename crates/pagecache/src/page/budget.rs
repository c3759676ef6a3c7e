//! What resident pages weigh, counted without a line that all threads share.

use std::sync::Arc;

use crossbeam_epoch::Guard;
use crossbeam_utils::CachePadded;

use super::garbage::Garbage;
use crate::base::freed::Freed;
use crate::base::sync::{AtomicU64, Ordering, thread_ordinal};

/// Few under shuttle, for which each look at one is a place to switch threads.
const STRIPES: usize = if cfg!(shuttle) { 2 } else { 16 };

/// Bytes of garbage a thread hands over before it pushes them to the collector (a thread's bag is invisible). Whoever pushes also
/// frees what is due, so this bounds the longest update: with 64 KiB the slowest hundredth took over 25 us, with this 7.
const GARBAGE_MAX: u64 = 8 << 10;

#[derive(Debug, Default)]
struct Stripe {
    /// Added minus removed, modulo 2^64; only the sum over all stripes means something.
    bytes: AtomicU64,
    /// Added since the last look at the sum.
    unseen: AtomicU64,
    garbage: AtomicU64,
}

#[derive(Debug)]
pub(crate) struct Budget {
    capacity: u64,
    /// What the stripes may hide; and what writers add while one of them waits for the next segment, whose guard keeps all that they replace: the
    /// rest of this one in the log, and the pages that these updates are of. What is read, merged and copied just now is in there, too.
    slack: u64,
    /// Bytes that the store holds beside resident pages, as they were when somebody looked last. Relaxed, as all here.
    beside: AtomicU64,
    handed_over: Garbage,
    /// What waits to be freed by the background: no push to the collector makes it less.
    kept: Garbage,
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
    pub(crate) fn new(capacity: u64, segment_size: u64, freed: Arc<Freed>) -> Budget {
        let stripes = std::array::from_fn(|_| CachePadded::new(Stripe::default()));
        let slack = capacity / 8 + (2 * segment_size).min(capacity / 4);
        let (handed_over, kept) = (Garbage::new(Arc::clone(&freed)), Garbage::new(freed));
        Budget { capacity, slack, beside: AtomicU64::new(0), handed_over, kept, stripes }
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
        (self.capacity / 16).max(16 * GARBAGE_MAX)
    }

    pub(crate) fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Counts bytes handed to the collector. Where they are many they are pushed to it, which also frees what is due.
    pub(crate) fn retire(&self, bytes: usize, guard: &Guard) {
        let own = self.own();
        let garbage = own.garbage.fetch_add(bytes as u64, Ordering::Relaxed) + bytes as u64;
        if garbage < GARBAGE_MAX {
            return;
        }
        // Another thread may share the stripe: what is taken is handed over once.
        self.handed_over.hand_over(own.garbage.swap(0, Ordering::Relaxed), guard);
        guard.flush();
        if self.handed_over.bytes() > self.capacity / 16 {
            // Each push frees a few bags of what is due: where much waits, more.
            (0..3).for_each(|_| guard.flush());
        }
    }

    /// Whether pages that are evicted make room. Where guards keep much garbage already they would only be more of it, and each page that comes in
    /// costs one.
    pub(crate) fn gains_by_evicting(&self) -> bool {
        // In small caches a page or two that have just gone are much already. What the background frees by itself says nothing of guards.
        self.retired() <= self.garbage_max().max(1 << 20)
    }

    /// Bytes taken out of slots and not freed yet.
    pub(crate) fn garbage(&self) -> u64 {
        self.retired() + self.kept.bytes()
    }

    /// Those that the collector frees.
    fn retired(&self) -> u64 {
        let own: u64 = self.stripes.iter().map(|stripe| stripe.garbage.load(Ordering::Relaxed)).sum();
        own + self.handed_over.bytes()
    }

    /// Bytes that wait to be freed by the background.
    pub(crate) fn kept(&self) -> &Garbage {
        &self.kept
    }
}
