//! Segments made ready ahead of the tail, so that `NoSpace` is known before an LSN exists.
//!
//! Space that was set aside and never written costs a sync more: the file system has to note that it holds data now. A log
//! whose rounds are short pays that with each commit, so the background writes zeros there first, a step at a time. A log
//! whose rounds are long would only write everything twice.

use std::sync::Arc;

use super::core::LogCore;
use super::geometry::Geometry;
use super::supply::{FIRST_STEP, Fill, Supply};
use crate::base::error::{Error, Result};
use crate::base::ids::Lsn;
use crate::base::sync::Ordering;
use crate::storage::write_all;
use crate::store::birth::Birth;
use crate::store::in_use::InUse;
use crate::store::limit::{CAPPED, Claim, FULL};
use crate::store::segment::Segment;

/// The most that is filled with zeros in one step, in bytes; a quarter of a smaller segment.
const FILL_STEP: u64 = 1 << 20;

/// Whether somebody needs what is made ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ahead {
    No,
    Yes,
}

impl LogCore {
    /// Makes segments ready until `needed` is below the ready LSN.
    pub(super) fn extend_to(&self, needed: Lsn, claim: Claim) -> Result<()> {
        self.extend_filled(&mut self.supply.lock(), needed, Fill::Nothing, claim, Ahead::No)
    }

    fn extend_filled(&self, supply: &mut Supply, needed: Lsn, fill: Fill, claim: Claim, ahead: Ahead) -> Result<()> {
        let is_enough = |supply: &Supply| match claim {
            // Relaxed: it moves under the lock of the supply.
            Claim::User => self.for_users.load(Ordering::Relaxed) >= needed.0,
            _ => supply.ready(&self.geometry) >= needed,
        };
        while !is_enough(supply) {
            let before = self.next_made();
            let ready = supply.ready(&self.geometry);
            let extended = match claim == Claim::User && self.for_users.load(Ordering::Relaxed) < ready.0 {
                true => self.pool.give_to_users().map(|()| supply.of_frees = false),
                false => self.extend(supply, fill, claim),
            };
            if extended.is_ok() && !supply.of_frees {
                self.for_users.store(supply.ready(&self.geometry).0, Ordering::Relaxed);
            }
            // Also where it failed half-way: a segment that was born and not filled is ready as far as it goes.
            // Release pairs with the acquire in `refresh_limits`: the new segment's life comes before.
            self.ready.store(supply.ready(&self.geometry).0, Ordering::Release);
            self.refresh_limits(&self.rounds.lock());
            if self.next_made() != before && self.is_short_of_grant() {
                self.behind.ring();
            }
            match extended {
                Ok(()) => {}
                Err(error @ Error::NoSpace { what: CAPPED | FULL }) => {
                    // There may be something to clean. Where nobody needs the segment yet it is looked for each so often.
                    let (tail, every) = (self.tail.bound().0, self.geometry.segment / 8);
                    if ahead == Ahead::No || tail >= self.asked_at.load(Ordering::Relaxed).saturating_add(every) {
                        self.asked_at.store(tail, Ordering::Relaxed);
                        self.clean_after(0);
                        self.behind.ring();
                    }
                    return Err(error);
                }
                // A failed sync tells nothing about what is on disk: no later one is believed (L5).
                Err(error @ Error::Io { op: "sync" | "sync_dir" | "fill", .. }) => return Err(self.poison(error)),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn extend(&self, supply: &mut Supply, fill: Fill, claim: Claim) -> Result<()> {
        let Some(newest) = &supply.newest else { return Err(Error::ReadOnly) };
        let size = self.geometry.segment;
        if supply.grown < size {
            let grown = match fill {
                Fill::Nothing => (supply.grown * 2).max(FIRST_STEP),
                Fill::Zeros => supply.grown + self.fill_step(),
            };
            let grown = grown.min(size);
            let step = newest.file()?.allocate(supply.grown, grown - supply.grown);
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
            first: self.first(),
            claim,
            stable: self.stable(),
            allocate: size,
        };
        let segment = self.pool.birth(birth)?;
        // To the account first: whoever looks at both meanwhile counts too much, never too little.
        let (settled, raised) = self.lives.replaced(segment.header.start);
        if raised != InUse::default()
            && let Some(settled) = self.pool.get(settled)
        {
            settled.account.raise(raised);
        }
        self.lives.publish(segment.header.start, segment.header.salt, segment.header.sequence);
        let grown = match fill {
            Fill::Zeros if !segment.recycled => self.fill_step(),
            _ => size,
        };
        // It is there, whatever becomes of the zeros.
        supply.of_frees = claim != Claim::User && self.pool.is_of_frees(segment.header.sequence);
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

    /// Makes the next stretch ready in the background, where less is ready than should be. An idle log takes no more disk than it
    /// has.
    pub(crate) fn extend_ahead(&self) -> Result<()> {
        let mut supply = self.supply.lock();
        // Under the lock: who waited for it may find that another has seen to it.
        if !self.wants_extension() || self.is_paced_out() {
            return Ok(());
        }
        let rounds = self.counters.rounds.load(Ordering::Relaxed);
        let fill = supply.look(self.tail(), rounds);
        let needed = Lsn(supply.ready(&self.geometry).0 + 1);
        self.extend_filled(&mut supply, needed, fill, Claim::User, Ahead::Yes)
    }

    /// Whether less is ready than should be: half of a segment that still grows; behind one that is whole another one, so that
    /// those who write fast fill a segment in the time that the next is made.
    pub(crate) fn wants_extension(&self) -> bool {
        // Relaxed: a look, to decide whether to ring; who extends looks under the lock that the ready LSN moves under.
        let (ready, tail) = (self.ready.load(Ordering::Relaxed), self.tail.bound().0);
        let Geometry { segment, block, .. } = self.geometry;
        let grown = ready & (segment - 1);
        let wanted = if grown + block == segment { segment } else { grown / 2 };
        ready.saturating_sub(tail) < wanted
    }
}

/// Writes zeros and syncs them, so that the file system has nothing left to note when data comes.
fn fill_with_zeros(segment: &Segment, from: u64, to: u64) -> Result<()> {
    static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
    let file = segment.file()?;
    let mut at = from;
    while at < to {
        let zeros = ZEROS.get(..(to - at).min(ZEROS.len() as u64) as usize).unwrap_or_default();
        write_all(file.as_ref(), zeros, at).map_err(|error| Error::io("fill", segment.name(), error))?;
        at += zeros.len() as u64;
    }
    file.sync_data().map_err(|error| Error::sync("sync", segment.name(), error))
}
