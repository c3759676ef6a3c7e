//! How many segments there may be: a cap on disk, and what of it is left to upkeep.

use crate::base::canary::{Canary, planted};
use crate::format::BLOCK;

/// What could not be had where the cap on disk is reached.
pub(crate) const CAPPED: &str = "max_disk_bytes";

/// What could not be had where the disk has no more room than upkeep needs.
pub(crate) const FULL: &str = "disk";

/// Segments outside the fill target, so that the cleaner has room to work in, where nothing else is said: as many as it takes to pack those of five segments that
/// are four fifths full. With fewer nothing may be gained.
pub(crate) const RESERVE: u64 = 4;

/// The most that may be asked for.
pub(crate) const RESERVE_MAX: u64 = 1 << 16;

/// Of what upkeep has, the segments that images leave: for the checkpoint without which nothing that they replace is given back, one for the map and one for the
/// log.
pub(crate) const CHECKPOINT: u64 = 2;

/// Segments that upkeep needs at least, so that frees, checkpoints and cleaning go on where nothing else does.
pub(crate) const UPKEEP: u64 = RESERVE + CHECKPOINT;

/// The fewest segments that a cap may allow.
pub(crate) fn segments_min(reserve: u64) -> u64 {
    reserve + 12
}

/// What a segment is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// Updates of users.
    User,
    /// Images of pages that are moved.
    Images,
    /// What gives space back in the end.
    Upkeep,
}

/// How many segments there may be for each claim, files kept for reuse included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limit {
    user: u64,
    upkeep: u64,
}

impl Limit {
    pub(crate) const NONE: Limit = Limit { user: u64::MAX, upkeep: u64::MAX };

    /// Of a cap in bytes, for a store that has `there` segments. Users leave the reserve to upkeep, and what a checkpoint takes. A store that is over the cap
    /// already may take a little more, or it could never become smaller.
    pub(crate) fn new(max_disk_bytes: u64, segment_size: u64, there: u64, reserve: u64) -> Limit {
        let all = segments(max_disk_bytes, segment_size);
        let left = if planted(Canary::ReserveCountedAsSpace) { 0 } else { reserve + CHECKPOINT };
        Limit { user: all.saturating_sub(left), upkeep: all.max(there + UPKEEP) }
    }

    fn most(self, claim: Claim) -> u64 {
        match claim {
            Claim::User => self.user,
            Claim::Images => self.upkeep.saturating_sub(CHECKPOINT),
            Claim::Upkeep => self.upkeep,
        }
    }

    /// Whether there may be so many.
    pub(crate) fn allows(self, segments: u64, claim: Claim) -> bool {
        segments <= self.most(claim)
    }

    /// Segments that may still be made for a claim where so many are there; none where there is no limit.
    pub(crate) fn left(self, there: u64, claim: Claim) -> Option<u64> {
        (self != Limit::NONE).then(|| self.most(claim).saturating_sub(there))
    }
}

/// Segments that a cap in bytes has room for, beside the two copies of the superblock.
pub(crate) fn segments(max_disk_bytes: u64, segment_size: u64) -> u64 {
    max_disk_bytes.saturating_sub(2 * BLOCK) / segment_size
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn users_leave_the_reserve_to_upkeep_and_a_store_over_its_cap_can_still_shrink() {
        const SIZE: u64 = 64 << 10;
        let limit = Limit::new(20 * SIZE + 2 * BLOCK, SIZE, 3, RESERVE);
        assert!(limit.allows(14, Claim::User) && !limit.allows(15, Claim::User));
        assert!(limit.allows(20, Claim::Upkeep) && !limit.allows(21, Claim::Upkeep));
        assert!(limit.allows(18, Claim::Images) && !limit.allows(19, Claim::Images), "a checkpoint comes behind");
        assert_eq!((limit.left(10, Claim::User), limit.left(18, Claim::User)), (Some(4), Some(0)));
        // A byte less is a segment less.
        assert!(!Limit::new(20 * SIZE + 2 * BLOCK - 1, SIZE, 3, RESERVE).allows(20, Claim::Upkeep));
        let over = Limit::new(20 * SIZE + 2 * BLOCK, SIZE, 30, RESERVE);
        assert!(!over.allows(15, Claim::User) && over.allows(36, Claim::Upkeep) && !over.allows(37, Claim::Upkeep));
        let wide = Limit::new(40 * SIZE + 2 * BLOCK, SIZE, 37, 10);
        assert!(wide.allows(28, Claim::User) && !wide.allows(29, Claim::User) && wide.allows(38, Claim::Images));
        assert!(wide.allows(43, Claim::Upkeep) && !wide.allows(44, Claim::Upkeep), "a longer reserve is no longer cap");
        assert!(
            Limit::NONE.allows(u64::MAX - CHECKPOINT, Claim::Images)
                && Limit::NONE.allows(u64::MAX, Claim::User)
                && Limit::NONE.left(5, Claim::User).is_none()
        );
    }
}
