//! Records too long for the ring: written first as a chain of pieces in the log itself, then named by one short record.
//!
//! The pieces lie below the record that names them, so whatever makes that record durable or lost decides for all of them;
//! pieces without it mean nothing. A trim keeps the pieces of every record that it keeps.

use super::core::LogCore;
use super::extents::Underway;
use super::tail::Urgency;
use crate::base::aligned::AlignedBuf;
use crate::base::damage::Damage;
use crate::base::error::{Error, Result};
use crate::base::ids::{Lsn, Sequence};
use crate::format::parts::Parts;
use crate::format::record::{ExtentRef, Frame, Head, Kind, Shape};
use crate::store::extent::assemble;
use crate::store::in_use::InUse;

/// Pieces that are written, and that no record names yet.
#[derive(Debug)]
pub(crate) struct Extent<'a> {
    log: &'a LogCore,
    pub(crate) reference: ExtentRef,
    /// How much of it is in each segment.
    pub(crate) parts: Parts,
    is_named: bool,
    _underway: Underway<'a>,
}

impl Extent<'_> {
    /// A record that names it is published: who unpublishes that lowers the accounts.
    pub(crate) fn named(&mut self) {
        self.is_named = true;
    }
}

impl Drop for Extent<'_> {
    fn drop(&mut self) {
        if !self.is_named {
            self.log.pool.lower_parts(&self.parts);
        }
    }
}

impl LogCore {
    /// Writes a payload as an extent; the reference goes into the record that names it. Its pieces count as in use.
    ///
    /// # Errors
    /// `TooLarge`, and as for any record.
    pub(crate) fn write_extent(&self, payload: &[u8]) -> Result<Extent<'_>> {
        let len = payload.len() as u64;
        if len > self.max_record() {
            return Err(Error::TooLarge { len, max: self.max_record() });
        }
        let underway = self.extents.begin(self.tail());
        let reference = ExtentRef { first: Lsn(0), last: Lsn(0), len, crc: crc32c::crc32c(payload) };
        let mut extent = Extent { log: self, reference, parts: Parts::default(), is_named: false, _underway: underway };
        for piece in payload.chunks(self.inline_max() as usize) {
            let mut head = Head::new();
            head.extend(&extent.reference.last.0.to_le_bytes());
            let frame = Frame::new(Shape::plain(Kind::Extent), &mut head, piece);
            let ticket = self.draw(&frame, piece, Urgency::Normal)?;
            // Before it completes: what is below the redo point of a checkpoint is counted.
            self.lives.raise(ticket.lsn(), InUse::of_part(ticket.len()));
            extent.parts.add(Sequence(ticket.address().0 / self.pool.segment_size()), ticket.len());
            extent.reference.last = ticket.complete();
            if extent.reference.first == Lsn(0) {
                extent.reference.first = extent.reference.last;
            }
        }
        Ok(extent)
    }

    /// Notes a record that names an extent, so that who keeps it keeps both.
    pub(crate) fn note_extent(&self, lsn: Lsn, extent: &ExtentRef) {
        self.extents.note(lsn, extent.first);
    }

    /// The lowest LSN that is needed by records at or above another one.
    pub(crate) fn keep_from(&self, lsn: Lsn) -> Lsn {
        self.extents.keep_from(lsn)
    }

    /// Whether a payload goes into one record; a longer one needs an extent, or is too large.
    pub(crate) fn is_inline(&self, payload: &[u8]) -> bool {
        payload.len() as u64 <= self.inline_max().min(self.max_record())
    }

    /// Reads an extent back, last piece first, into one buffer.
    ///
    /// # Errors
    /// `Corrupt` where a piece, the chain or the whole does not fit.
    pub(crate) fn read_extent(&self, named_by: Lsn, extent: &ExtentRef) -> Result<AlignedBuf> {
        let damaged = |at: Lsn, what| self.corrupt_at(at, Lsn(at.0.saturating_add(8)), what);
        // No length is believed that the log between the first piece and the reference cannot hold. LSNs may jump from a segment
        // to the next, so the segments count too.
        let span =
            extent.last.0.checked_sub(extent.first.0).and_then(|span| span.checked_add(self.geometry.inline_max()));
        let span = span.map_or(0, |span| span.min(self.pool.data_between(extent.first, extent.last)));
        let most = if extent.last < named_by { span } else { 0 };
        assemble(extent, most, damaged, |at| {
            let record = self.load(at, 0).map_err(|error| match error {
                // Nobody but the extent says that one starts there.
                Error::NotARecord { .. } => damaged(at, Damage::PieceElse),
                other => other,
            })?;
            match record.shape.kind {
                Kind::Extent => Ok((record.buf, record.body_at, record.body_len)),
                _ => Err(damaged(at, Damage::PieceElse)),
            }
        })
    }
}
