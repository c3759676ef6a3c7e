//! Writing and syncing: rounds led by whoever waits, shared by all who wait meanwhile.
//!
//! A round: seal the log with a pad up to a block's end, wait until everything below the seal is copied, write it (others
//! may be writing parts), sync every file written, move the stable LSN, wake everyone. There is no timer and no
//! dedicated thread: the background only leads rounds like anyone else.

use super::core::{LogCore, Patience};
use super::rounds::Rounds;
use super::tail::{Refused, Urgency};
use super::working::Leading;
use crate::base::canary::{Canary, planted};
use crate::base::error::{Error, Result};
use crate::base::ids::Lsn;
use crate::base::sync::Ordering;
use crate::format::mark::{MARK, Mark, MarkKind};
use crate::format::record::pad_block;
use crate::storage::write_all;

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
            Leading::begin(self).lead(|| self.lead(patience, None))?;
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
        Leading::begin(self).lead(|| self.lead(Patience::None, Some(kind)))
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
    fn lead(&self, patience: Patience, kind: Option<MarkKind>) -> Result<()> {
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
            let seen = self.tail.bound();
            let open = self.open.claim(seen);
            match self.tail.draw(Urgency::Seal, seen, |tail| self.geometry.place_seal(tail)) {
                Ok(place) => break (place, open),
                Err(Refused::Room { needed }) => {
                    drop(open);
                    if !self.make_room(needed, Urgency::Seal, patience)? {
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
            let (file, mut offset) = (segment.file()?, segment.offset(from));
            // SAFETY: below the prefix, and nothing else is written any more, so `written` stands still (L2).
            let written = unsafe {
                self.ring.read(from, end.0 - from.0, |piece| {
                    let wrote = write_all(file.as_ref(), piece, offset);
                    offset += piece.len() as u64;
                    wrote
                })
            };
            written.and_then(|()| file.sync_data()).map_err(|error| Error::io("write", segment.name(), error))?;
        }
        self.sync()
    }

    fn sync(&self) -> Result<()> {
        let dirty = self.rounds.lock().take_dirty();
        if planted(Canary::SkippedSync) {
            return Ok(());
        }
        for (segment, file) in &dirty {
            if let Err(error) = file.sync_data() {
                if planted(Canary::FailedSyncRepeated) {
                    self.rounds.lock().put_back_dirty(dirty);
                    return Err(Error::NoSpace { what: "sync" });
                }
                return Err(self.poison(Error::sync("sync", segment.name(), error)));
            }
        }
        Ok(())
    }
}
