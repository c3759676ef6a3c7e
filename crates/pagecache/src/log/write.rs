//! From the ring to the files: complete blocks, in stretches that several threads write at once. Nothing is synced here.
//!
//! A log alone is cold once it is written. That of a page store is read again when pages are moved, so it may stay in the system's cache
//! (decision 0027).

use std::sync::Arc;

use super::core::LogCore;
use super::open::Seen;
use super::rounds::Flight;
use super::working::Working;
use crate::base::canary::{Canary, planted};
use crate::base::error::{Error, Result};
use crate::base::ids::Lsn;
use crate::base::sync::Ordering;
use crate::storage::{StorageFile, write_all, write_all_cold};
use crate::store::segment::Segment;

/// From this length on the way to the disk begins with the write, in bytes. A shorter stretch is synced at once, or is one of few.
const LONG: u64 = 64 << 10;

impl LogCore {
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

    /// Writes everything below `end`, with whoever else is writing.
    pub(super) fn write_below(&self, end: Lsn) -> Result<()> {
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

    /// Writes one stretch from the ring.
    pub(super) fn fly(&self, flight: Flight) -> Result<()> {
        let Some(segment) = self.pool.at_lsn(flight.from) else {
            return Err(self.poison(Error::Closed));
        };
        let file = match segment.file() {
            Ok(file) => file,
            // Nothing was written: the same bytes are written again by whoever comes next.
            Err(error) => {
                self.rounds.lock().strand(flight);
                self.landed.notify_all();
                return Err(error);
            }
        };
        let mut offset = segment.offset(flight.from);
        let working = Working::begin(self);
        if planted(Canary::RingReusedEarly) {
            self.refresh_limits(&self.rounds.lock());
        }
        // SAFETY: the stretch is below the prefix and above `written`, which only `land` below moves over it (L2).
        let written = unsafe {
            self.ring.read(flight.from, flight.end.0 - flight.from.0, |piece| {
                let wrote = self.put_down(file.as_ref(), piece, offset);
                offset += piece.len() as u64;
                wrote
            })
        };
        working.finish();
        let outcome = self.land(flight, &segment, &file, written);
        self.landed.notify_all();
        outcome?;
        let len = flight.end.0 - flight.from.0;
        if self.pool.is_read_again() && len >= LONG {
            let working = Working::begin(self);
            file.begin_sync(segment.offset(flight.from), len);
            working.finish();
        }
        Ok(())
    }

    /// Says what became of a stretch: the ring has room where it was, or it is written again, or the log has failed.
    fn land(
        &self,
        flight: Flight,
        segment: &Arc<Segment>,
        file: &Arc<dyn StorageFile>,
        written: std::io::Result<()>,
    ) -> Result<()> {
        let mut rounds = self.rounds.lock();
        let Err(error) = written else {
            rounds.land(flight, (Arc::clone(segment), Arc::clone(file)));
            self.counters.written.fetch_add(flight.end.0 - flight.from.0, Ordering::Relaxed);
            self.refresh_limits(&rounds);
            return Ok(());
        };
        match Error::io("write", segment.name(), error) {
            full @ Error::NoSpace { .. } if !planted(Canary::FullDiskForGood) => {
                rounds.strand(flight);
                Err(full)
            }
            failed if planted(Canary::FailedWriteRepeated) => {
                rounds.strand(flight);
                Err(failed)
            }
            other => Err(self.poison_locked(rounds, other)),
        }
    }

    fn put_down(&self, file: &dyn StorageFile, piece: &[u8], offset: u64) -> std::io::Result<()> {
        match self.pool.is_read_again() {
            true => write_all(file, piece, offset),
            false => write_all_cold(file, piece, offset),
        }
    }

    /// Sleeps until the ticket that limits the prefix has moved on.
    pub(super) fn await_ticket(&self, limit: Option<Seen<'_>>) -> Result<()> {
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
}
