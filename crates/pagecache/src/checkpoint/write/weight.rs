//! What the map takes, and how many segments a checkpoint may have to write of it.

use super::Checkpointer;
use crate::base::sync::{AtomicU64, Ordering};
use crate::format::BLOCK;
use crate::format::root::LeafAt;
use crate::page::materialize::Materializer;
use crate::store::limit::Claim;

/// Bytes that an id takes in a leaf, where none was written yet.
const ID: u64 = 4;

/// Bytes that a leaf takes in each root.
const IN_ROOT: u64 = 16;

/// Bytes of log, for each byte by which the map may have grown with it.
const LOG: u64 = 16;

/// What the map takes, as of the last checkpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Weight {
    /// Bytes of the leaves that count.
    pub(crate) live: u64,
    /// Bytes that were written for it.
    pub(crate) written: u64,
}

// Relaxed, all of them: sums that are looked at.
#[derive(Debug, Default)]
pub(super) struct Weighed {
    live: AtomicU64,
    /// Leaves that count, written or not.
    count: AtomicU64,
    written: AtomicU64,
}

impl Weighed {
    pub(super) fn set(&self, leaves: &[Option<LeafAt>]) {
        self.live.store(leaves.iter().flatten().map(|at| at.piece.len_max()).sum(), Ordering::Relaxed);
        self.count.store(leaves.len() as u64, Ordering::Relaxed);
    }

    pub(super) fn set_written(&self, bytes: u64) {
        self.written.store(bytes, Ordering::Relaxed);
    }

    /// Segments of so much room that so many leaves may take, of so many ids each, where so much log has come since they were weighed.
    fn needs(&self, count: u64, ids: u64, log: u64, room: u64) -> u64 {
        let (live, then) = (self.live.load(Ordering::Relaxed), self.count.load(Ordering::Relaxed));
        let each = match then {
            0 => ids * ID,
            _ => live.div_ceil(then),
        };
        // Of a whole leaf there may be no room at a segment's end.
        let packed = room.saturating_sub(each).max(room / 2);
        (count * (each + IN_ROOT) + log / LOG).div_ceil(packed)
    }

    fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }
}

impl<M: Materializer> Checkpointer<M> {
    /// What the map takes.
    pub(crate) fn weight(&self) -> Weight {
        let Weighed { live, written, .. } = &self.weighed;
        Weight { live: live.load(Ordering::Relaxed), written: written.load(Ordering::Relaxed) }
    }

    /// Has the map left as much below a cap, or of the disk, as it may take to write all of it anew before what it was goes: a checkpoint that finds no room gives
    /// none.
    pub(crate) fn leave_room(&self) {
        self.pages.log.pool.leave_for_map(self.needs());
    }

    /// Whether users have no room below a cap, or on the disk: then the map lies closer, and what that gives is theirs.
    pub(super) fn is_tight(&self) -> bool {
        self.pages.log.pool.left(Claim::User) == Some(0)
    }

    /// Bytes of leaves that a checkpoint may write though they have not changed.
    pub(super) fn spare_bytes(&self) -> u64 {
        let pool = &self.pages.log.pool;
        let Some(left) = pool.left(Claim::Upkeep) else { return u64::MAX };
        let changed = self.weighed.needs(self.pages.leaves.dirty(), self.pages.leaves.ids(), 0, self.room());
        // Root and leaves begin a segment each.
        left.saturating_sub(changed + 2).saturating_mul(self.room())
    }

    fn room(&self) -> u64 {
        self.pages.log.pool.segment_size() - 2 * BLOCK
    }

    /// Segments that all leaves may take, about.
    pub(super) fn needs(&self) -> u64 {
        let (log, leaves) = (&self.pages.log, &self.pages.leaves);
        let count = self.pages.ids.high_water().div_ceil(leaves.ids());
        // Relaxed: as what it is compared with.
        let since = log.tail().0.saturating_sub(log.counters.redo.load(Ordering::Relaxed));
        self.weighed.needs(count.max(self.weighed.count()), leaves.ids(), since, self.room())
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn a_map_needs_what_it_takes_and_what_has_come_since() {
        let weighed = Weighed::default();
        let room = 56 << 10;
        assert_eq!(weighed.needs(0, 512, 0, room), 0);
        assert_eq!(weighed.needs(20, 512, 0, room), 1);
        assert_eq!(weighed.needs(100, 512, 0, room), 4, "none was written yet");
        weighed.live.store(600 << 10, Ordering::Relaxed);
        weighed.count.store(100, Ordering::Relaxed);
        assert_eq!(
            weighed.needs(100, 512, 0, room),
            13,
            "10.7, what the root takes, and what is left at segments' ends"
        );
        assert_eq!(weighed.needs(200, 512, 0, room), 25, "leaves that came since");
        assert_eq!(weighed.needs(100, 512, 1 << 20, room), 14);
    }
}
