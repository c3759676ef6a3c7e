//! Bytes that no slot names any more and that guards may still see: handed to the collector, and not freed by it yet.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_epoch::Guard;

use crate::base::freed::Freed;

/// Plain counters, relaxed: nothing is ordered by them.
#[derive(Debug)]
pub(crate) struct Garbage {
    waiting: Arc<AtomicU64>,
    freed: Arc<Freed>,
}

impl Garbage {
    pub(crate) fn new(freed: Arc<Freed>) -> Garbage {
        Garbage { waiting: Arc::default(), freed }
    }

    /// Takes note of bytes that this thread has retired since the last time; they are freed before what is deferred here runs, or with it.
    pub(crate) fn hand_over(&self, bytes: u64, guard: &Guard) {
        self.waiting.fetch_add(bytes, Ordering::Relaxed);
        let (waiting, freed) = (Arc::clone(&self.waiting), Arc::clone(&self.freed));
        guard.defer(move || {
            waiting.fetch_sub(bytes, Ordering::Relaxed);
            freed.add(bytes);
        });
    }

    /// Takes note of bytes that wait elsewhere.
    pub(crate) fn keep(&self, bytes: u64) {
        self.waiting.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Some of these were freed.
    pub(crate) fn let_go(&self, bytes: u64) {
        self.waiting.fetch_sub(bytes, Ordering::Relaxed);
        self.freed.add(bytes);
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.waiting.load(Ordering::Relaxed)
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use crossbeam_epoch::Collector;

    use super::*;

    #[test]
    fn garbage_waits_as_long_as_a_guard_is_held_and_no_longer() {
        let (collector, garbage) = (Collector::new(), Garbage::new(Arc::new(Freed::new())));
        let [reader, writer] = [collector.register(), collector.register()];
        let held = reader.pin();
        for _ in 0..100 {
            let guard = writer.pin();
            garbage.hand_over(1000, &guard);
            guard.flush();
        }
        assert_eq!(garbage.bytes(), 100_000);
        // Handles that come and go, as the store's own do.
        for _ in 0..1000 {
            let guard = collector.register().pin();
            garbage.hand_over(1, &guard);
            guard.flush();
        }
        assert_eq!(garbage.bytes(), 101_000);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..1000 {
                    let guard = collector.register().pin();
                    garbage.hand_over(1, &guard);
                    guard.flush();
                }
            });
        });
        assert_eq!(garbage.bytes(), 102_000);
        drop(held);
        for _ in 0..1000 {
            writer.pin().flush();
        }
        assert_eq!(garbage.bytes(), 0);
    }
}
