//! Room for a ticket, made before there is an LSN: in a segment, and in the ring.

use super::core::{LogCore, Patience};
use super::geometry::Geometry;
use super::tail::Urgency;
use crate::base::error::{Error, Result};
use crate::base::ids::Lsn;
use crate::base::sync::Ordering;
use crate::store::limit::{CAPPED, Claim, FULL};

/// How far the log may go on before disk is cleaned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Grant {
    /// So many segments behind a place, and no more.
    Exactly(Lsn, u64),
    /// So many behind a place, or what was granted before.
    AtLeast(Lsn, u64),
    /// There is nobody to wait for.
    Unlimited,
}

impl LogCore {
    /// Where the next segment of the log starts that is made.
    pub(crate) fn next_made(&self) -> Lsn {
        // Relaxed: a segment that is made at this moment is counted by who counts after this, so that too few are granted, not too many.
        Lsn(self.ready.load(Ordering::Relaxed).next_multiple_of(self.geometry.segment))
    }

    /// Says how far the log may go on. Writers that are faster than the cleaner wait for it so: those who need a new segment, before there is an LSN.
    /// Seals and frees go on.
    pub(crate) fn grant(&self, grant: Grant) {
        let end = |next: Lsn, segments: u64| next.0.saturating_add(segments.saturating_mul(self.geometry.segment));
        match grant {
            Grant::Exactly(next, segments) => self.pace.set(end(next, segments)),
            Grant::AtLeast(next, segments) => {
                // One thread grants.
                if self.pace.allowed().is_some_and(|allowed| allowed < end(next, segments)) {
                    self.pace.set(end(next, segments));
                }
            }
            Grant::Unlimited => self.pace.set(u64::MAX),
        }
    }

    /// Segments that the log may still make; none where there is no limit.
    pub(crate) fn granted(&self) -> Option<u64> {
        self.pace.allowed().map(|allowed| allowed.saturating_sub(self.next_made().0) / self.geometry.segment)
    }

    /// Whether the grant is nearly used up, so that it is time to look whether there is room for more.
    pub(super) fn is_short_of_grant(&self) -> bool {
        let few = (self.checkpoint_every / 8 / self.geometry.segment).max(1);
        self.granted().is_some_and(|left| left <= few)
    }

    /// Whether the log is ready as far as is allowed.
    pub(crate) fn is_paced_out(&self) -> bool {
        // Relaxed: a look.
        self.is_out(Lsn(self.ready.load(Ordering::Relaxed) + 1))
    }

    /// Whether a ticket that ends here asks for a segment beyond what is allowed. The last block of a segment has no room for any.
    fn is_out(&self, needed: Lsn) -> bool {
        let Geometry { segment, block, .. } = self.geometry;
        self.pace.is_out((needed.0 - 1 + block) & !(segment - 1))
    }

    /// What is ready of the log for who draws: a look. `refresh_limits` looks at the same words again, and finds no less.
    fn ready_for(&self, urgency: Urgency) -> Lsn {
        let ready = self.ready.load(Ordering::Relaxed);
        match urgency {
            Urgency::Normal => Lsn(ready.min(self.for_users.load(Ordering::Relaxed))),
            Urgency::Said | Urgency::Urgent | Urgency::Seal => Lsn(ready),
        }
    }

    /// Waits until the log may go on to `needed`, has failed or closes.
    fn await_pace(&self, needed: Lsn) {
        // Relaxed, all of them: looks, and the next one comes soon.
        let over = || {
            needed <= self.ready_for(Urgency::Normal)
                || !self.is_out(needed)
                || self.closing.load(Ordering::Relaxed)
                || self.tail.has_failed()
        };
        self.pace.wait(over, || self.behind.ring());
    }

    /// Waits until the cleaner has had a whole turn. `false` where there is none.
    fn await_turn(&self) -> bool {
        // Relaxed, both: as above.
        let over = || self.closing.load(Ordering::Relaxed) || self.tail.has_failed();
        self.pace.wait_turn(over, || self.behind.ring())
    }

    /// Says that the cleaner is there, and has just had a turn; or that it is gone.
    pub(crate) fn attend(&self, is_there: bool) {
        self.pace.attend(is_there);
    }

    #[cfg(all(test, not(any(loom, shuttle))))]
    pub(crate) fn is_attended(&self) -> bool {
        self.pace.is_attended()
    }

    /// Waits or works until a ticket that ends at `needed` may be drawn.
    pub(super) fn make_room(&self, needed: Lsn, urgency: Urgency, patience: Patience) -> Result<bool> {
        let needed_ready = Lsn(needed.0 + self.spared(urgency));
        if self.ready_for(urgency) < needed_ready {
            if urgency == Urgency::Normal {
                self.await_pace(needed_ready);
            }
            let claim = match urgency {
                Urgency::Normal | Urgency::Said => Claim::User,
                Urgency::Urgent => Claim::Frees,
                Urgency::Seal => Claim::Upkeep,
            };
            let waits = matches!(urgency, Urgency::Normal | Urgency::Urgent);
            match self.extend_to(needed_ready, claim) {
                // What is cleaned meanwhile may be what is needed.
                Err(Error::NoSpace { what: CAPPED | FULL }) if waits && self.await_turn() => {
                    self.extend_to(needed_ready, claim)?;
                }
                extended => extended?,
            }
        }
        self.make_ring_room(needed, patience)
    }

    /// Waits until a ticket that ends at `needed` has room in the ring, writing blocks meanwhile. `false` where it would have
    /// to wait for a ticket, without the patience to.
    fn make_ring_room(&self, needed: Lsn, patience: Patience) -> Result<bool> {
        let mut rounds = self.rounds.lock();
        while rounds.written.0 + self.geometry.ring < needed.0 {
            self.check(&rounds)?;
            let (prefix, limit) = self.prefix_and_limit();
            rounds = match rounds.take_off(prefix, &self.geometry) {
                Some(flight) => {
                    drop(rounds);
                    self.fly(flight)?;
                    self.rounds.lock()
                }
                None if rounds.in_flight() => self.landed.wait(rounds),
                None if patience == Patience::None => return Ok(false),
                None => {
                    drop(rounds);
                    self.await_ticket(limit)?;
                    self.rounds.lock()
                }
            };
        }
        // Whoever made the room may not have raised the limits yet; without this the draw would spin until it does.
        self.refresh_limits(&rounds);
        Ok(true)
    }
}
