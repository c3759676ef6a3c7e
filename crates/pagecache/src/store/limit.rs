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

/// Segments that frees may have of their own where users have none: a checkpoint gives back one that is full of them, but not the last of the log.
pub(crate) const FREES: u64 = 2;

/// Of these, what images leave to them; the other is whose comes first.
const OF_FREES: u64 = 1;

/// Segments that upkeep needs at least, so that frees, checkpoints and cleaning go on where nothing else does: the last for a map that fits it.
pub(crate) const UPKEEP: u64 = RESERVE + OF_FREES + 1;

/// The fewest segments that a cap may allow.
pub(crate) fn segments_min(reserve: u64) -> u64 {
    reserve + 12
}

/// What a segment is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// Updates of users.
    User,
    /// Frees and trims, which give space back once it is cleaned.
    Frees,
    /// Images of pages that are moved.
    Images,
    /// The map, and the log's own pads.
    Upkeep,
}

/// Segments that each claim leaves to others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shares {
    reserve: u64,
    /// To frees, less those that they have.
    frees: u64,
    /// As many as a checkpoint may write of the map: without one nothing that is freed or moved is given back.
    map: u64,
}

impl Shares {
    /// Of a map that fits one segment.
    pub(crate) fn new(reserve: u64) -> Shares {
        Shares { reserve, frees: OF_FREES, map: 1 }
    }

    /// Where frees have so many segments of their own.
    pub(crate) fn with_frees(self, there: u64) -> Shares {
        Shares { frees: OF_FREES.saturating_sub(there), ..self }
    }

    pub(crate) fn set_map(&mut self, segments: u64) {
        self.map = segments.max(1);
    }

    /// Of so many that there may be for users, and so many for upkeep, as many as there may be for this claim.
    fn most(self, claim: Claim, users: u64, upkeep: u64) -> u64 {
        match claim {
            Claim::User => users.saturating_sub(self.reserve + OF_FREES + self.map),
            Claim::Images => upkeep.saturating_sub(self.frees + self.map),
            Claim::Frees => upkeep.saturating_sub(self.map),
            Claim::Upkeep => upkeep,
        }
    }

    /// Of so many segments that the disk has room for.
    pub(crate) fn of(self, all: u64, claim: Claim) -> u64 {
        // However long a reserve was asked for, the disk is for users.
        Shares { reserve: RESERVE, ..self }.most(claim, all, all)
    }
}

/// How many segments there may be for each claim, files kept for reuse included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limit {
    users: u64,
    upkeep: u64,
}

impl Limit {
    pub(crate) const NONE: Limit = Limit { users: u64::MAX, upkeep: u64::MAX };

    /// Of a cap in bytes, for a store that has `there` segments. A store that is over the cap already may take a little more, or it could never become smaller.
    pub(crate) fn new(max_disk_bytes: u64, segment_size: u64, there: u64) -> Limit {
        let users = segments(max_disk_bytes, segment_size);
        Limit { users, upkeep: users.max(there + UPKEEP) }
    }

    /// A store that is over its cap may take as much more as its map takes.
    pub(crate) fn with_map(self, segments: u64, there: u64) -> Limit {
        match self == Limit::NONE {
            true => self,
            false => Limit { upkeep: self.upkeep.max(there + UPKEEP + segments.saturating_sub(1)), ..self },
        }
    }

    fn most(self, claim: Claim, shares: Shares) -> u64 {
        match (self == Limit::NONE, claim) {
            (true, _) => u64::MAX,
            (false, Claim::User) if planted(Canary::ReserveCountedAsSpace) => self.users,
            _ => shares.most(claim, self.users, self.upkeep),
        }
    }

    /// Whether there may be so many.
    pub(crate) fn allows(self, segments: u64, claim: Claim, shares: Shares) -> bool {
        segments <= self.most(claim, shares)
    }

    /// Segments that may still be made for a claim where so many are there; none where there is no limit.
    pub(crate) fn left(self, there: u64, claim: Claim, shares: Shares) -> Option<u64> {
        (self != Limit::NONE).then(|| self.most(claim, shares).saturating_sub(there))
    }
}

/// Segments that a cap in bytes has room for, beside the two copies of the superblock.
pub(crate) fn segments(max_disk_bytes: u64, segment_size: u64) -> u64 {
    max_disk_bytes.saturating_sub(2 * BLOCK) / segment_size
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    const SIZE: u64 = 64 << 10;

    /// Of each claim, the most segments that there may be.
    fn most(limit: Limit, shares: Shares) -> [u64; 4] {
        [Claim::User, Claim::Images, Claim::Frees, Claim::Upkeep].map(|claim| {
            let most = limit.left(0, claim, shares).unwrap();
            assert!(limit.allows(most, claim, shares) && !limit.allows(most + 1, claim, shares));
            assert_eq!(limit.left(most + 5, claim, shares), Some(0));
            most
        })
    }

    #[test]
    fn each_leaves_what_those_below_need_and_a_store_over_its_cap_can_still_shrink() {
        let (twenty, short) = (20 * SIZE + 2 * BLOCK, Shares::new(RESERVE));
        let limit = Limit::new(twenty, SIZE, 3);
        assert_eq!(most(limit, short), [14, 18, 19, 20], "frees come behind images, and a checkpoint behind both");
        // A byte less is a segment less.
        assert_eq!(most(Limit::new(twenty - 1, SIZE, 3), short), [13, 17, 18, 19]);
        assert_eq!(most(Limit::new(twenty, SIZE, 30), short), [14, 34, 35, 36]);
        let wide = Limit::new(40 * SIZE + 2 * BLOCK, SIZE, 37);
        assert_eq!(most(wide, Shares::new(10)), [28, 41, 42, 43], "a longer reserve is no longer cap");
        assert_eq!(most(limit, short.with_frees(1)), [14, 19, 19, 20], "what frees have is left to images no more");
        assert_eq!(most(limit, short.with_frees(3)), [14, 19, 19, 20]);
        let none = Limit::NONE.with_map(5, 9);
        assert!(none.allows(u64::MAX, Claim::User, short) && none.left(5, Claim::User, short).is_none());
    }

    #[test]
    fn a_map_of_many_segments_is_left_room_to_be_written_anew() {
        let (twenty, mut shares) = (20 * SIZE + 2 * BLOCK, Shares::new(RESERVE));
        shares.set_map(5);
        assert_eq!(most(Limit::new(twenty, SIZE, 3).with_map(5, 3), shares), [10, 14, 15, 20]);
        assert_eq!(most(Limit::new(twenty, SIZE, 30).with_map(5, 30), shares), [10, 34, 35, 40], "over its cap too");
        assert_eq!(
            [Claim::User, Claim::Images, Claim::Frees, Claim::Upkeep].map(|of| shares.of(20, of)),
            [10, 14, 15, 20]
        );
        shares.set_map(0);
        assert_eq!(shares, Shares::new(RESERVE));
    }
}
