//! Appending: a ticket drawn, filled, completed or given up.

use super::core::{LogCore, Patience};
use super::geometry::Place;
use super::open::Open;
use super::rounds::CHUNK;
use super::tail::{Refused, Urgency};
use crate::base::canary::{Canary, planted};
use crate::base::error::{Error, Result};
use crate::base::ids::{Address, Lsn};
use crate::format::record::{Body, Frame};

impl LogCore {
    /// Draws a place for a record and copies its payload in. Waits, before an LSN exists, for room in the ring or makes a
    /// segment ready.
    ///
    /// # Errors
    /// `NoSpace`, `Closed`, `Poisoned`, `ReadOnly`; `WouldDeadlock` where the room is held up by this thread's own ticket.
    pub(crate) fn draw(&self, frame: &Frame<'_>, payload: &[u8], urgency: Urgency) -> Result<Ticket<'_>> {
        // Not only asserted: lengths may come from user code that answers differently each time (L2 hangs on them).
        if frame.len() > self.geometry.inline_max() {
            return Err(Error::TooLarge { len: payload.len() as u64, max: self.inline_max() });
        }
        if payload.len() as u64 != frame.payload_len() {
            return Err(Error::Encode { what: "the fragment's bytes changed while it was written".to_owned() });
        }
        loop {
            let seen = self.tail.bound();
            let open = self.open.claim(seen);
            match self.tail.draw(urgency, seen, |tail| self.geometry.place(tail, frame.len())) {
                Ok(place) => {
                    self.pad_to_segment_end(place);
                    open.count(if frame.is_given() { payload.len() as u64 } else { 0 });
                    let ticket = self.ticket(open, frame, payload, place);
                    return Ok(ticket);
                }
                Err(Refused::Room { needed }) => {
                    drop(open);
                    self.make_room(needed, urgency, Patience::Wait)?;
                }
                Err(refused) => {
                    drop(open);
                    return Err(self.refusal(refused));
                }
            }
        }
    }

    fn ticket<'c>(&'c self, open: Open<'c>, frame: &Frame<'_>, payload: &[u8], place: Place) -> Ticket<'c> {
        let open = (!planted(Canary::SlotClearedBeforeCopy)).then_some(open);
        let prefix = frame.prefix(place.start, self.lives.salt(place.start));
        // SAFETY: [start, end) belongs to this ticket, which is open (L2).
        unsafe { self.ring.put_record(place.start, place.end, prefix, frame.head(), payload) };
        Ticket { log: self, open, body: frame.body(), place, not_send: std::marker::PhantomData }
    }

    /// Draws and completes in one go.
    pub(crate) fn append(&self, frame: &Frame<'_>, payload: &[u8], urgency: Urgency) -> Result<Lsn> {
        Ok(self.draw(frame, payload, urgency)?.complete())
    }
}

/// A reservation: an LSN with its bytes in place, not yet part of the log. Dropping it gives it up.
///
/// It stays on its thread: the thread that holds it is the one that must not wait for it.
#[derive(Debug)]
pub(crate) struct Ticket<'c> {
    log: &'c LogCore,
    open: Option<Open<'c>>,
    body: Body,
    place: Place,
    not_send: std::marker::PhantomData<*mut ()>,
}

impl Ticket<'_> {
    pub(crate) fn lsn(&self) -> Lsn {
        self.place.start
    }

    /// Where the record will be on disk.
    pub(crate) fn address(&self) -> Address {
        self.log.lives.address(self.place.start)
    }

    /// Bytes of the record.
    pub(crate) fn len(&self) -> u64 {
        self.place.end.0 - self.place.start.0
    }

    /// Says that this ticket is held for long, since `since` (milliseconds of the caller's clock).
    pub(crate) fn hold(&self, since: u64) {
        if let Some(open) = &self.open {
            open.raise(self.place.start, since);
        }
    }

    /// Makes the record part of the log.
    pub(crate) fn complete(mut self) -> Lsn {
        self.close();
        self.place.start
    }

    /// Gives the record up; its place stays, marked as aborted.
    pub(crate) fn abort(self) {
        drop(self);
    }

    /// Frees the slot: from now on the record counts as what its bytes say.
    fn close(&mut self) {
        self.open = None;
        let chunk = CHUNK.min(self.log.geometry.ring / 4);
        if (self.place.from.0 ^ self.place.end.0) >= chunk {
            self.log.work.ring();
        }
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        if self.open.is_some() {
            let start = self.place.start;
            let aborted = self.body.aborted(start, self.log.lives.salt(start));
            // SAFETY: the first bytes of this ticket's record, whose slot is still open (L2).
            unsafe { self.log.ring.write(start, &aborted) };
            self.close();
        }
    }
}
