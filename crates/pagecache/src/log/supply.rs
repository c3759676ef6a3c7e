//! Segments made ready ahead of the tail, so that `NoSpace` is known before an LSN exists.
//!
//! Space that was set aside and never written costs a sync more: the file system has to note that it holds data now. A log
//! whose rounds are short pays that with each commit, so the background writes zeros there first, a step at a time. A log
//! whose rounds are long would only write everything twice.

use std::sync::Arc;

use super::core::LogCore;
use super::flush::Patience;
use super::geometry::Geometry;
use super::rounds::Rounds;
use super::tail::Urgency;
use crate::base::canary::{Canary, planted};
use crate::base::error::{Error, Result};
use crate::base::ids::Lsn;
use crate::base::sync::Ordering;
use crate::storage::write_all;
use crate::store::pool::{Birth, Segment};

/// Disk set aside for the first segment of a store, and for the one after a cut, in bytes; it doubles from there. Others are
/// set aside whole.
const FIRST_STEP: u64 = 512 << 10;

/// The most that is filled with zeros in one step, in bytes; a quarter of a smaller segment.
const FILL_STEP: u64 = 1 << 20;

/// Rounds of fewer bytes than this are short.
const SHORT_ROUND: u64 = 64 << 10;

/// The newest segment, and how much of it is set aside.
#[derive(Debug, Default)]
pub(crate) struct Supply {
    newest: Option<Arc<Segment>>,
    grown: u64,
    /// The tail and the rounds so far when it was last looked whether rounds are short.
    looked_at: (Lsn, u64),
}

/// Whether new space is written before it is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fill {
    Nothing,
    Zeros,
}

impl Supply {
    /// A supply that goes on in `newest`, of which `grown` bytes are set aside.
    pub(crate) fn new(newest: Arc<Segment>, grown: u64) -> Supply {
        let start = newest.header.start;
        Supply { newest: Some(newest), grown, looked_at: (start, 0) }
    }

    /// Bytes to set aside for a store's first segment, so that what ends at `offset` is in.
    pub(crate) fn first_step(segment_size: u64, offset: u64) -> u64 {
        FIRST_STEP.max((offset + 1).next_power_of_two()).min(segment_size)
    }

    /// What the rounds since the last look say about the next ones.
    fn look(&mut self, tail: Lsn, rounds: u64) -> Fill {
        let (tail_before, rounds_before) = std::mem::replace(&mut self.looked_at, (tail, rounds));
        let bytes = tail.0.saturating_sub(tail_before.0);
        match bytes < rounds.saturating_sub(rounds_before) * SHORT_ROUND {
            true => Fill::Zeros,
            false => Fill::Nothing,
        }
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
        let written = if planted(Canary::RingReusedEarly) { rounds.claimed() } else { rounds.written };
        let ring = written.0 + self.geometry.ring;
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
        self.extend_filled(&mut self.supply.lock(), needed, Fill::Nothing)
    }

    fn extend_filled(&self, supply: &mut Supply, needed: Lsn, fill: Fill) -> Result<()> {
        while supply.ready(&self.geometry) < needed {
            let extended = self.extend(supply, fill);
            // Also where it failed half-way: a segment that was born and not filled is ready as far as it goes.
            // Release pairs with the acquire in `refresh_limits`: the new segment's life comes before.
            self.ready.store(supply.ready(&self.geometry).0, Ordering::Release);
            self.refresh_limits(&self.rounds.lock());
            match extended {
                Ok(()) => {}
                // A failed sync tells nothing about what is on disk: no later one is believed (L5).
                Err(error @ Error::Io { op: "sync" | "sync_dir" | "fill", .. }) => return Err(self.poison(error)),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn extend(&self, supply: &mut Supply, fill: Fill) -> Result<()> {
        let Some(newest) = &supply.newest else { return Err(Error::ReadOnly) };
        let size = self.geometry.segment;
        if supply.grown < size {
            let grown = match fill {
                Fill::Nothing => (supply.grown * 2).max(FIRST_STEP),
                Fill::Zeros => supply.grown + self.fill_step(),
            };
            let grown = grown.min(size);
            let step = newest.file.allocate(supply.grown, grown - supply.grown);
            step.map_err(|error| Error::io("allocate", newest.name(), error))?;
            if fill == Fill::Zeros {
                // Nobody may draw there yet, and the last block is the header's second copy.
                fill_with_zeros(newest, supply.grown, grown.min(size - self.geometry.block))?;
            }
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
        let grown = match fill {
            Fill::Zeros if !segment.recycled => self.fill_step(),
            _ => size,
        };
        // It is there, whatever becomes of the zeros.
        (supply.newest, supply.grown) = (Some(Arc::clone(&segment)), self.geometry.block);
        if grown < size {
            fill_with_zeros(&segment, self.geometry.block, grown)?;
        }
        supply.grown = grown;
        Ok(())
    }

    fn fill_step(&self) -> u64 {
        FILL_STEP.min(self.geometry.segment / 4)
    }

    /// Makes the next stretch ready in the background, when less than half of what is ready in this segment is left. An idle
    /// log takes no more disk than it has.
    pub(crate) fn extend_ahead(&self) -> Result<()> {
        if !self.wants_extension() {
            return Ok(());
        }
        let mut supply = self.supply.lock();
        let rounds = self.counters.rounds.load(Ordering::Relaxed);
        let fill = supply.look(self.tail(), rounds);
        let needed = Lsn(supply.ready(&self.geometry).0 + 1);
        self.extend_filled(&mut supply, needed, fill)
    }

    /// Whether less than half of what is ready in this segment is left.
    pub(crate) fn wants_extension(&self) -> bool {
        // Relaxed: a look, to decide whether to take the lock or to ring.
        let (ready, tail) = (self.ready.load(Ordering::Relaxed), self.tail.bound().0);
        ready.saturating_sub(tail) < (ready & (self.geometry.segment - 1)) / 2
    }
}

/// Writes zeros and syncs them, so that the file system has nothing left to note when data comes.
fn fill_with_zeros(segment: &Segment, from: u64, to: u64) -> Result<()> {
    static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
    let mut at = from;
    while at < to {
        let zeros = ZEROS.get(..(to - at).min(ZEROS.len() as u64) as usize).unwrap_or_default();
        write_all(segment.file.as_ref(), zeros, at).map_err(|error| Error::io("fill", segment.name(), error))?;
        at += zeros.len() as u64;
    }
    segment.file.sync_data().map_err(|error| Error::sync("sync", segment.name(), error))
}
