//! The salts and sequences of the newest segments, for writers who just drew a place in one of them.
//!
//! An entry is published before the limit lets anyone draw in its segment (L1), so relaxed loads after a draw see it. It is
//! replaced [`RECENT`] segments later, long after the ring has gone round over everything in its segment.

use crate::base::ids::{Address, Lsn, Sequence};
use crate::base::sync::{AtomicU64, Ordering};

/// More than the segments that may be ready ahead of the tail plus those the ring can span.
const RECENT: usize = 16;

#[derive(Debug, Default)]
struct Life {
    salt: AtomicU64,
    sequence: AtomicU64,
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

    /// Enters a segment before anyone may draw in it.
    pub(crate) fn publish(&self, start: Lsn, salt: u64, sequence: Sequence) {
        let life = self.of(start);
        // Relaxed: the release of the limit that is raised next publishes both.
        life.salt.store(salt, Ordering::Relaxed);
        life.sequence.store(sequence.0, Ordering::Relaxed);
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
