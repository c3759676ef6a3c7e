//! Writing and syncing: rounds led by whoever waits, shared by all who wait meanwhile.
//!
//! A round: seal the log with a pad up to a block's end, wait until everything below the seal is copied, write it (others
//! may be writing parts), sync every file written, move the stable LSN, wake everyone. There is no timer and no
//! dedicated thread: the background only leads rounds like anyone else.

use std::sync::Arc;

use super::core::LogCore;
use super::open::Seen;
use super::rounds::{Flight, Rounds};
use super::tail::{Refused, Urgency};
use super::working::{Leading, Working};
use crate::base::canary::{Canary, planted};
use crate::base::error::{Error, Result};
use crate::base::ids::Lsn;
use crate::base::sync::{MutexGuard, Ordering};
use crate::format::mark::{MARK, Mark, MarkKind};
use crate::format::record::pad_block;
use crate::storage::write_all;

/// Whether a leader waits for tickets that others hold open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    /// Until they are done, or the log closes.
    Wait,
    /// Not at all: what is whole now is flushed.
    None,
}

impl LogCore {
    /// Returns once the record at `lsn` is durable; where nothing was written there yet, once everything that is written
    /// now is. Never waits for what nobody wrote.
    ///
    /// # Errors
    /// `Poisoned`, `NoSpace` (try again), `WouldDeadlock`, `Closed`.
    pub(crate) fn make_stable(&self, lsn: Lsn) -> Result<Lsn> {
        if self.stable() > lsn {
            return Ok(self.stable());
        }
        let wanted = Lsn(lsn.0.saturating_add(1)).min(self.tail());
        self.await_stable(wanted, Patience::Wait)
    }

    /// Makes everything durable that is complete now.
    pub(crate) fn flush(&self, patience: Patience) -> Result<Lsn> {
        self.await_stable(self.tail(), patience)
    }

    fn await_stable(&self, wanted: Lsn, patience: Patience) -> Result<Lsn> {
        loop {
            let stable = self.stable();
            if stable >= wanted {
                return Ok(stable);
            }
            let mut rounds = self.rounds.lock();
            self.check(&rounds)?;
            if self.stable() >= wanted {
                continue;
            }
            self.check_own_tickets(&rounds, wanted)?;
            if rounds.leading {
                if patience == Patience::None {
                    return Ok(stable);
                }
                drop(self.moved.wait(rounds));
                continue;
            }
            rounds.leading = true;
            drop(rounds);
            Leading::begin(self).lead(patience, None)?;
            if patience == Patience::None {
                return Ok(self.stable());
            }
        }
    }

    /// Writes one more mark, so that the last round is proven: at an idle tick, at open and at close.
    ///
    /// # Errors
    /// As [`flush`](Self::flush).
    pub(crate) fn mark(&self, kind: MarkKind) -> Result<()> {
        let mut rounds = self.rounds.lock();
        while rounds.leading {
            rounds = self.moved.wait(rounds);
        }
        self.check(&rounds)?;
        rounds.leading = true;
        drop(rounds);
        Leading::begin(self).lead(Patience::None, Some(kind))
    }

    /// What a background tick does: flush what is new; at rest, prove the last round once.
    pub(crate) fn tick(&self) -> Result<()> {
        if self.stable() < self.tail() {
            return self.flush(Patience::None).map(drop);
        }
        let at_rest = self.rounds.lock().at_rest;
        match at_rest {
            true => Ok(()),
            false => self.mark(MarkKind::Round),
        }
    }

    /// Writes complete blocks to the operating system, without a sync, so that the ring has room.
    pub(crate) fn write_out(&self) -> Result<()> {
        loop {
            let mut rounds = self.rounds.lock();
            self.check(&rounds)?;
            let Some(flight) = rounds.take_off(self.prefix(), &self.geometry) else { return Ok(()) };
            drop(rounds);
            self.fly(flight)?;
        }
    }

    fn check(&self, rounds: &Rounds) -> Result<()> {
        match &rounds.poison {
            Some(cause) => Err(Error::Poisoned { cause: Arc::clone(cause) }),
            None => Ok(()),
        }
    }

    /// Refuses to wait for a ticket of this very thread: the wanted LSN must have a seal at or below it.
    fn check_own_tickets(&self, rounds: &Rounds, wanted: Lsn) -> Result<()> {
        match self.open.own_oldest() {
            Some(bound) if !rounds.seals.iter().any(|seal| (wanted..=bound).contains(seal)) => {
                Err(Error::WouldDeadlock { lsn: bound })
            }
            _ => Ok(()),
        }
    }

    /// One round. `leading` is set, so nobody else is here.
    pub(super) fn lead(&self, patience: Patience, kind: Option<MarkKind>) -> Result<()> {
        let sealed = self.rounds.lock().sealed;
        if kind.is_some() || self.tail() > sealed {
            // No leader sleeps for room while an earlier seal waits to be flushed: the owner of the ticket that takes the room may
            // be waiting for that seal.
            let kind = kind.unwrap_or(MarkKind::Round);
            if !self.seal(kind, Patience::None)? && !self.has_seals() && !self.seal(kind, patience)? {
                return Ok(());
            }
        }
        let Some(end) = self.whole_seal(patience)? else { return Ok(()) };
        if planted(Canary::EarlyAcknowledgement) {
            self.acknowledge(end);
        }
        self.write_below(end)?;
        self.sync()?;
        self.acknowledge(end);
        self.rounds.lock().unseal(end);
        self.counters.rounds.fetch_add(1, Ordering::Relaxed);
        if self.wants_extension() {
            self.short.ring();
        }
        Ok(())
    }

    fn acknowledge(&self, end: Lsn) {
        // Release: whoever reads the stable LSN finds the bytes written (and below the prefix).
        self.stable.fetch_max(end.0, Ordering::Release);
    }

    /// Whether a seal is drawn that is not yet stable.
    fn has_seals(&self) -> bool {
        let stable = self.stable();
        self.rounds.lock().seals.back().is_some_and(|seal| *seal > stable)
    }

    /// Draws the pad that ends this round in a mark. `false` where there is no room for it, and nobody waits.
    fn seal(&self, kind: MarkKind, patience: Patience) -> Result<bool> {
        let place = loop {
            let open = self.open.claim(self.tail.bound());
            match self.tail.draw(Urgency::Urgent, |tail| self.geometry.place_seal(tail)) {
                Ok(place) => break (place, open),
                Err(Refused::Room { needed }) => {
                    drop(open);
                    if !self.make_room(needed, Urgency::Urgent, patience)? {
                        return Ok(false);
                    }
                }
                Err(refused) => {
                    drop(open);
                    return Err(self.refusal(refused));
                }
            }
        };
        let (place, open) = place;
        self.pad_to_segment_end(place);
        let stable = if planted(Canary::MarkProvesItself) { place.start } else { self.stable() };
        let mark = Mark { stable, own: place.start, kind };
        let (head, tail) = pad_block(mark, place.end, self.lives.salt(place.start));
        // SAFETY: [start, end) belongs to this place's ticket, which is open (L2).
        unsafe {
            self.ring.write(place.start, &head);
            self.ring.zero(Lsn(place.start.0 + 8), place.end.0 - place.start.0 - 8 - MARK);
            self.ring.write(Lsn(place.end.0 - MARK), &tail);
        }
        drop(open);
        let mut rounds = self.rounds.lock();
        rounds.at_rest = rounds.sealed == place.from && mark.stable == place.from;
        rounds.sealed = place.end;
        rounds.seals.push_back(place.end);
        Ok(true)
    }

    /// The newest seal with nothing open below it, waiting for the oldest ticket where there is none.
    fn whole_seal(&self, patience: Patience) -> Result<Option<Lsn>> {
        loop {
            let (prefix, limit) = self.prefix_and_limit();
            if planted(Canary::StableInsideRecord) {
                return Ok(Some(self.geometry.floor_block(prefix)));
            }
            let rounds = self.rounds.lock();
            self.check(&rounds)?;
            if let Some(seal) = rounds.seal_below(prefix, self.stable()) {
                return Ok(Some(seal));
            }
            drop(rounds);
            if patience == Patience::None {
                return Ok(None);
            }
            self.await_ticket(limit)?;
        }
    }

    /// Sleeps until the ticket that limits the prefix has moved on.
    fn await_ticket(&self, limit: Option<Seen<'_>>) -> Result<()> {
        let Some(limit) = limit else { return Ok(()) };
        if limit.is_own() {
            return Err(Error::WouldDeadlock { lsn: limit.bound() });
        }
        // Relaxed, both: the lock in `wait` and `wake_all` lets no sleeper miss the flag, and only a refusal follows from it.
        let stop = || self.closing.load(Ordering::Relaxed) || self.tail.has_failed();
        self.open.wait(limit, stop);
        match self.closing.load(Ordering::Relaxed) {
            true => Err(Error::Closed),
            false => Ok(()),
        }
    }

    /// Writes everything below `end`, with whoever else is writing.
    fn write_below(&self, end: Lsn) -> Result<()> {
        let mut rounds = self.rounds.lock();
        while rounds.written < end {
            self.check(&rounds)?;
            rounds = match rounds.take_off(end, &self.geometry) {
                Some(flight) => {
                    drop(rounds);
                    self.fly(flight)?;
                    self.rounds.lock()
                }
                None => self.landed.wait(rounds),
            };
        }
        Ok(())
    }

    /// Waits until a ticket that ends at `needed` has room in the ring, writing blocks meanwhile. `false` where it would have
    /// to wait for a ticket, without the patience to.
    pub(super) fn make_ring_room(&self, needed: Lsn, patience: Patience) -> Result<bool> {
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

    /// Writes one stretch from the ring.
    fn fly(&self, flight: Flight) -> Result<()> {
        let Some(segment) = self.pool.at_lsn(flight.from) else {
            return Err(self.poison(Error::Closed));
        };
        let mut offset = segment.offset(flight.from);
        let working = Working::begin(self);
        if planted(Canary::RingReusedEarly) {
            self.refresh_limits(&self.rounds.lock());
        }
        // SAFETY: the stretch is below the prefix and above `written`, which only `land` below moves over it (L2).
        let written = unsafe {
            self.ring.read(flight.from, flight.end.0 - flight.from.0, |piece| {
                let wrote = write_all(segment.file.as_ref(), piece, offset);
                offset += piece.len() as u64;
                wrote
            })
        };
        working.finish();
        let mut rounds = self.rounds.lock();
        let outcome = match written {
            Ok(()) => {
                rounds.land(flight, &segment);
                self.refresh_limits(&rounds);
                Ok(())
            }
            Err(error) => match Error::io("write", segment.name(), error) {
                full @ Error::NoSpace { .. } if !planted(Canary::FullDiskForGood) => {
                    rounds.strand(flight);
                    Err(full)
                }
                failed if planted(Canary::FailedWriteRepeated) => {
                    rounds.strand(flight);
                    Err(failed)
                }
                other => Err(self.poison_locked(rounds, other)),
            },
        };
        if outcome.is_ok() {
            self.counters.written.fetch_add(flight.end.0 - flight.from.0, Ordering::Relaxed);
        }
        self.landed.notify_all();
        outcome
    }

    /// Writes and syncs everything below the oldest open ticket, into a block that is not full. Only for a close over a
    /// leaked reservation: nothing is ever written after it.
    ///
    /// # Errors
    /// As [`flush`](Self::flush).
    pub(crate) fn flush_below_open(&self) -> Result<()> {
        let end = self.prefix();
        self.write_below(self.geometry.floor_block(end))?;
        let written = self.rounds.lock().written;
        let from = match written == self.geometry.data_end(written) {
            true => self.geometry.next_data_start(written),
            false => written,
        };
        if from < end
            && let Some(segment) = self.pool.at_lsn(from)
        {
            let mut offset = segment.offset(from);
            // SAFETY: below the prefix, and nothing else is written any more, so `written` stands still (L2).
            let written = unsafe {
                self.ring.read(from, end.0 - from.0, |piece| {
                    let wrote = write_all(segment.file.as_ref(), piece, offset);
                    offset += piece.len() as u64;
                    wrote
                })
            };
            written
                .and_then(|()| segment.file.sync_data())
                .map_err(|error| Error::io("write", segment.name(), error))?;
        }
        self.sync()
    }

    fn sync(&self) -> Result<()> {
        let dirty = self.rounds.lock().take_dirty();
        if planted(Canary::SkippedSync) {
            return Ok(());
        }
        for segment in &dirty {
            if let Err(error) = segment.file.sync_data() {
                if planted(Canary::FailedSyncRepeated) {
                    self.rounds.lock().put_back_dirty(dirty);
                    return Err(Error::NoSpace { what: "sync" });
                }
                return Err(self.poison(Error::sync("sync", segment.name(), error)));
            }
        }
        Ok(())
    }

    /// Ends the log: a user's storage panicked, and what it has done of its work nobody knows.
    pub(crate) fn fail_by_panic(&self) {
        let source = Arc::new(std::io::Error::other("the storage panicked"));
        let _ = self.poison(Error::Io { op: "flush", path: self.pool.describe(), source });
    }

    /// Ends the log (L5): the first cause is kept and told to everyone.
    pub(super) fn poison(&self, cause: Error) -> Error {
        self.poison_locked(self.rounds.lock(), cause)
    }

    fn poison_locked(&self, mut rounds: MutexGuard<'_, Rounds>, cause: Error) -> Error {
        let cause = Arc::clone(rounds.poison.get_or_insert_with(|| Arc::new(cause)));
        self.tail.fail();
        drop(rounds);
        if !planted(Canary::WaitersForgottenAtFailure) {
            self.wake_everyone();
        }
        Error::Poisoned { cause }
    }
}
