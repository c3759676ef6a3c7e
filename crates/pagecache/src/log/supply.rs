//! Segments made ready ahead of the tail, so that `NoSpace` is known before an LSN exists.

use std::sync::Arc;

use super::core::LogCore;
use super::flush::Patience;
use super::geometry::Geometry;
use super::rounds::Rounds;
use super::tail::Urgency;
use crate::base::error::{Error, Result};
use crate::base::ids::Lsn;
use crate::base::sync::Ordering;
use crate::store::pool::{Birth, Segment};

/// Disk set aside for the first segment of a store, and for the one after a cut, in bytes; it doubles from there. Others are
/// set aside whole.
const FIRST_STEP: u64 = 512 << 10;

/// The newest segment, and how much of it is set aside.
#[derive(Debug, Default)]
pub(crate) struct Supply {
    newest: Option<Arc<Segment>>,
    grown: u64,
}

impl Supply {
    /// A supply that goes on in `newest`, of which `grown` bytes are set aside.
    pub(crate) fn new(newest: Arc<Segment>, grown: u64) -> Supply {
        Supply { newest: Some(newest), grown }
    }

    /// Bytes to set aside for a store's first segment, so that what ends at `offset` is in.
    pub(crate) fn first_step(segment_size: u64, offset: u64) -> u64 {
        FIRST_STEP.max((offset + 1).next_power_of_two()).min(segment_size)
    }

    /// Draws may go up to here.
    pub(crate) fn ready(&self, geometry: &Geometry) -> Lsn {
        match &self.newest {
            Some(newest) => {
                newest.data_end().min(Lsn(newest.header.start.0 + self.grown / geometry.block * geometry.block))
            }
            None => Lsn(0),
        }
    }
}

impl LogCore {
    /// Bytes below the ready LSN that only frees and pads may take.
    fn set_aside(&self) -> u64 {
        (256 << 10).min(self.geometry.segment / 4)
    }

    pub(super) fn refresh_limits(&self, rounds: &Rounds) {
        // Acquire pairs with the release in `extend_to`: whoever raises the limits has seen the lives of the segments below
        // `ready`, and hands them on with the release in `raise`.
        let ready = self.ready.load(Ordering::Acquire);
        let ring = rounds.written.0 + self.geometry.ring;
        self.tail.raise(Lsn(ready.saturating_sub(self.set_aside()).min(ring)), Lsn(ready.min(ring)));
    }

    /// Waits or works until a ticket that ends at `needed` may be drawn.
    pub(super) fn make_room(&self, needed: Lsn, urgency: Urgency, patience: Patience) -> Result<bool> {
        let set_aside = if urgency == Urgency::Normal { self.set_aside() } else { 0 };
        // Relaxed: a look; `refresh_limits` reads it again.
        if self.ready.load(Ordering::Relaxed) < needed.0 + set_aside {
            self.extend_to(Lsn(needed.0 + set_aside))?;
        }
        self.make_ring_room(needed, patience)
    }

    /// Makes segments ready until `needed` is below the ready LSN.
    pub(super) fn extend_to(&self, needed: Lsn) -> Result<()> {
        let mut supply = self.supply.lock();
        while supply.ready(&self.geometry) < needed {
            if let Err(error) = self.extend(&mut supply) {
                // A failed sync tells nothing about what is on disk: no later one is believed (L5).
                if matches!(&error, Error::Io { op: "sync" | "sync_dir", .. }) {
                    return Err(self.poison(error));
                }
                return Err(error);
            }
            let ready = supply.ready(&self.geometry);
            // Release pairs with the acquire in `refresh_limits`: the new segment's life comes before.
            self.ready.store(ready.0, Ordering::Release);
            self.refresh_limits(&self.rounds.lock());
        }
        Ok(())
    }

    fn extend(&self, supply: &mut Supply) -> Result<()> {
        let Some(newest) = &supply.newest else { return Err(Error::ReadOnly) };
        let size = self.geometry.segment;
        if supply.grown < size {
            let grown = (supply.grown * 2).clamp(FIRST_STEP.min(size), size);
            let step = newest.file.allocate(supply.grown, grown - supply.grown);
            step.map_err(|error| Error::io("allocate", newest.name(), error))?;
            supply.grown = grown;
            return Ok(());
        }
        let birth = Birth {
            start: Lsn(newest.header.start.0 + size),
            previous: Some(newest.as_previous(newest.data_end())),
            stable: self.stable(),
            first: self.first(),
            allocate: size,
        };
        let segment = self.pool.birth(birth)?;
        self.lives.publish(segment.header.start, segment.header.salt, segment.header.sequence);
        *supply = Supply::new(segment, size);
        Ok(())
    }

    /// Makes the next stretch ready in the background, when less than half of what is ready in this segment is left. An idle
    /// log takes no more disk than it has.
    pub(crate) fn extend_ahead(&self) -> Result<()> {
        // Relaxed: a look, to decide whether to take the lock.
        let (ready, tail) = (self.ready.load(Ordering::Relaxed), self.tail().0);
        let low = (ready & (self.geometry.segment - 1)) / 2;
        match ready.saturating_sub(tail) < low {
            true => self.extend_to(Lsn(ready + 1)),
            false => Ok(()),
        }
    }
}
