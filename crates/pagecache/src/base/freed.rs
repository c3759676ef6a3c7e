//! Memory that was given back to the allocator: whoever hands it on to the system is told when it is much.

use std::sync::atomic::{AtomicU64, Ordering};

use super::event::Event;

/// Where nobody listens.
const NEVER: u64 = u64::MAX;

/// Counters, relaxed: nothing is ordered by them.
#[derive(Debug)]
pub(crate) struct Freed {
    /// Since the bell was rung.
    bytes: AtomicU64,
    /// The bell is rung for so many.
    much: AtomicU64,
    /// Rung when it is much.
    pub(crate) bell: Event,
}

impl Freed {
    pub(crate) fn new() -> Freed {
        Freed { bytes: AtomicU64::new(0), much: AtomicU64::new(NEVER), bell: Event::new() }
    }

    /// From now on somebody listens.
    pub(crate) fn listen(&self, much: u64) {
        self.much.store(much, Ordering::Relaxed);
    }

    /// Counts bytes that were given back just now.
    pub(crate) fn add(&self, bytes: u64) {
        let much = self.much.load(Ordering::Relaxed);
        if much == NEVER || self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes < much {
            return;
        }
        // Two may come here at once: one of them takes what there is.
        if self.bytes.swap(0, Ordering::Relaxed) >= much {
            self.bell.ring();
        }
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn the_bell_rings_once_for_each_lot_and_never_before_somebody_listens() {
        let freed = Freed::new();
        freed.add(1 << 40);
        assert!(!freed.bell.take());
        freed.listen(100);
        freed.add(99);
        assert!(!freed.bell.take());
        freed.add(1);
        assert!(freed.bell.take());
        assert!(!freed.bell.take());
        freed.add(500);
        freed.add(99);
        assert!(freed.bell.take());
        assert!(!freed.bell.take());
    }
}
