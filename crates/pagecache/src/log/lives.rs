//! The salts and sequences of the newest segments, for writers who just drew a place in one of them.
//!
//! An entry is published before the limit lets anyone draw in its segment (L1), so relaxed loads after a draw see it. It is
//! replaced [`RECENT`] segments later, long after the ring has gone round over everything in its segment.

use std::sync::atomic::AtomicU64 as PlainU64;

use crossbeam_utils::CachePadded;

use crate::base::ids::{Address, Lsn, Sequence};
use crate::base::sync::{AtomicU64, Ordering, thread_ordinal};
use crate::store::in_use::InUse;

/// More than the segments that may be ready ahead of the tail plus those the ring can span. Few under shuttle, where the ring is a part
/// of a segment.
const RECENT: usize = if cfg!(shuttle) { 4 } else { 16 };

/// Few lines for each life, so that writers on different processors do not share one.
const STRIPES: usize = if cfg!(any(loom, shuttle)) { 1 } else { 4 };

#[derive(Debug, Default)]
struct Life {
    salt: AtomicU64,
    sequence: AtomicU64,
    /// What was published in it, as a word of [`InUse`]. Plain counters: see the accounts of the pool.
    raised: [CachePadded<PlainU64>; STRIPES],
}

#[derive(Debug)]
pub(crate) struct Lives {
    segment: u64,
    recent: [Life; RECENT],
}

impl Lives {
    pub(crate) fn new(segment: u64) -> Lives {
        Lives { segment, recent: std::array::from_fn(|_| Life::default()) }
    }

    fn of(&self, lsn: Lsn) -> &Life {
        let at = (lsn.0 >> self.segment.trailing_zeros()) as usize % RECENT;
        self.recent.get(at).unwrap_or(&self.recent[0])
    }

    /// Enters a segment before anyone may draw in it. What was raised in the life that it replaces is counted elsewhere by now.
    pub(crate) fn publish(&self, start: Lsn, salt: u64, sequence: Sequence) {
        let life = self.of(start);
        // Release: who sees it counted here no more sees it counted in its account.
        life.raised.iter().for_each(|stripe| stripe.store(0, Ordering::Release));
        // Relaxed: the release of the limit that is raised next publishes it.
        life.salt.store(salt, Ordering::Relaxed);
        life.sequence.store(sequence.0, Ordering::Release);
    }

    /// What was raised in the life that is replaced next by one that starts at `start`: all of it, since no ticket that far behind is
    /// open.
    pub(crate) fn replaced(&self, start: Lsn) -> (Sequence, InUse) {
        let life = self.of(start);
        let raised = life.raised.iter().map(|stripe| stripe.load(Ordering::Relaxed)).fold(0, u64::wrapping_add);
        (Sequence(life.sequence.load(Ordering::Relaxed)), InUse::from_word(raised))
    }

    /// Counts a record that is about to be published, by its own ticket.
    pub(crate) fn raise(&self, lsn: Lsn, record: InUse) {
        self.stripe(lsn).fetch_add(record.word(), Ordering::Relaxed);
    }

    /// Takes back what was counted for a record that was not published.
    pub(crate) fn unraise(&self, lsn: Lsn, record: InUse) {
        self.stripe(lsn).fetch_sub(record.word(), Ordering::Relaxed);
    }

    fn stripe(&self, lsn: Lsn) -> &PlainU64 {
        let stripes = &self.of(lsn).raised;
        stripes.get(thread_ordinal() as usize % STRIPES).unwrap_or(&stripes[0])
    }

    /// What was raised in a segment and is counted here still. To be asked before its account: what goes from here to there is
    /// counted twice for a while, and never not at all.
    pub(crate) fn raised(&self, start: Lsn, sequence: Sequence) -> InUse {
        let life = self.of(start);
        // Acquire, of either: pairs with `publish`.
        let sum = life.raised.iter().map(|stripe| stripe.load(Ordering::Acquire)).fold(0, u64::wrapping_add);
        InUse::from_word(if life.sequence.load(Ordering::Acquire) == sequence.0 { sum } else { 0 })
    }

    pub(crate) fn salt(&self, lsn: Lsn) -> u64 {
        // Relaxed: the draw acquired the limit that came after `publish`.
        self.of(lsn).salt.load(Ordering::Relaxed)
    }

    pub(crate) fn address(&self, lsn: Lsn) -> Address {
        let sequence = self.of(lsn).sequence.load(Ordering::Relaxed);
        Address(sequence * self.segment + (lsn.0 & (self.segment - 1)))
    }
}
