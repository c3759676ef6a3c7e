//! How much of a segment is in use.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::base::canary::{Canary, planted};
use crate::store::in_use::InUse;

/// What is in use in a segment. Raised before an address in it is published and lowered after it was unpublished, so it is
/// too high at times and never too low.
#[derive(Debug, Default)]
pub(crate) struct Account {
    /// Bytes of records that were published, those that the log's lives still count left out.
    raised: AtomicU64,
    /// Those of them that were deltas, the ones that lie on top of a page.
    deltas: AtomicU64,
    /// Bytes of records that were unpublished.
    dead: AtomicU64,
    /// Records are being written to it that are not counted yet. A segment outside of the log is born so.
    growing: AtomicBool,
    /// Bytes in use that could not be moved when it was tried last.
    stuck: AtomicU64,
}

impl Account {
    // Relaxed where not said otherwise: counters. Who looks at one for whether its segment is empty comes after all raises: below the redo point
    // by the log's own order, elsewhere on the thread that raises. A lowering that is not seen yet keeps the segment a little longer.
    pub(crate) fn raise(&self, more: InUse) {
        self.raised.fetch_add(more.bytes(), Ordering::Relaxed);
        self.deltas.fetch_add(more.deltas(), Ordering::Relaxed);
    }

    pub(crate) fn lower(&self, bytes: u64) {
        // Release: what the log says of it comes before.
        self.dead.fetch_add(bytes, Ordering::Release);
    }

    /// Bytes that were unpublished since the start, whatever is known of those that are in use.
    pub(crate) fn dead(&self) -> u64 {
        self.dead.load(Ordering::Relaxed)
    }

    pub(crate) fn set_stuck(&self, live: u64) {
        self.stuck.store(live, Ordering::Relaxed);
    }

    /// Whether as much is in use as could not be moved when it was tried last.
    pub(crate) fn is_stuck(&self, live: u64) -> bool {
        live > 0 && self.stuck.load(Ordering::Relaxed) == live
    }

    pub(crate) fn set_growing(&self, growing: bool) {
        self.growing.store(growing, Ordering::Release);
    }

    /// Whether records may still be written to it: never of the log, of which the tail says it.
    pub(crate) fn is_growing(&self) -> bool {
        self.growing.load(Ordering::Acquire)
    }

    /// Whether nothing in it is in use, nor will be again. Release and Acquire: what was raised before it stopped growing is seen.
    pub(crate) fn is_empty(&self, more: InUse) -> bool {
        let growing = self.growing.load(Ordering::Acquire) && !planted(Canary::GrowingSegmentEmpty);
        !growing && self.live(more) == 0
    }

    /// Bytes in use; `more` are raised and counted elsewhere.
    pub(crate) fn live(&self, more: InUse) -> u64 {
        let raised = self.raised.load(Ordering::Relaxed) + more.bytes();
        // Acquire pairs with the release in `lower`.
        raised.saturating_sub(self.dead.load(Ordering::Acquire))
    }

    /// Bytes of deltas in use, as many as there are if they die as fast as the rest.
    pub(crate) fn live_deltas(&self, more: InUse) -> u64 {
        let deltas = self.deltas.load(Ordering::Relaxed) + more.deltas();
        let raised = self.raised.load(Ordering::Relaxed) + more.bytes();
        match deltas {
            0 => 0,
            _ => (deltas as f64 / raised.max(deltas) as f64 * self.live(more) as f64) as u64,
        }
    }
}
