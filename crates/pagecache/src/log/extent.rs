//! Records too long for the ring: written first as a chain of pieces in the log itself, then named by one short record.
//!
//! The pieces lie below the record that names them, so whatever makes that record durable or lost decides for all of them;
//! pieces without it mean nothing. A trim keeps the pieces of every record that it keeps.

use super::core::LogCore;
use super::extents::Underway;
use super::tail::Urgency;
use crate::base::damage::Damage;
use crate::base::error::{Error, Result};
use crate::base::ids::Lsn;
use crate::format::record::{ExtentRef, Frame, Head, Kind, Shape};

impl LogCore {
    /// Writes a payload as an extent; the reference goes into the record that names it.
    ///
    /// # Errors
    /// `TooLarge`, and as for any record.
    pub(crate) fn write_extent(&self, payload: &[u8]) -> Result<(ExtentRef, Underway<'_>)> {
        let len = payload.len() as u64;
        if len > self.max_record() {
            return Err(Error::TooLarge { len, max: self.max_record() });
        }
        let underway = self.extents.begin(self.tail());
        let (mut first, mut last) = (None, Lsn(0));
        for piece in payload.chunks(self.inline_max() as usize) {
            let mut head = Head::new();
            head.extend(&last.0.to_le_bytes());
            let frame = Frame::new(Shape::plain(Kind::Extent), &mut head, piece);
            let ticket = self.draw(&frame, piece, Urgency::Normal)?;
            // Before it completes: what is below the redo point of a checkpoint, and counted nowhere, is known to be kept.
            if let Some(segment) = self.pool.at_lsn(ticket.lsn()) {
                segment.account.keep();
            }
            last = ticket.complete();
            first.get_or_insert(last);
        }
        Ok((ExtentRef { first: first.unwrap_or(last), last, len, crc: crc32c::crc32c(payload) }, underway))
    }

    /// Notes a record that names an extent, so that a trim keeps both.
    pub(crate) fn note_extent(&self, lsn: Lsn, extent: &ExtentRef) {
        self.extents.note(lsn, extent.first);
    }

    /// Whether a payload goes into one record; a longer one needs an extent, or is too large.
    pub(crate) fn is_inline(&self, payload: &[u8]) -> bool {
        payload.len() as u64 <= self.inline_max().min(self.max_record())
    }

    /// Reads an extent back, last piece first, into one buffer.
    ///
    /// # Errors
    /// `Corrupt` where a piece, the chain or the whole does not fit.
    pub(crate) fn read_extent(&self, named_by: Lsn, extent: &ExtentRef) -> Result<crate::base::aligned::AlignedBuf> {
        let damaged = |at: Lsn, what| self.corrupt_at(at, Lsn(at.0.saturating_add(8)), what);
        // No length is believed that the log between the first piece and the reference cannot hold. LSNs may jump from a segment
        // to the next, so the segments count too.
        let span =
            extent.last.0.checked_sub(extent.first.0).and_then(|span| span.checked_add(self.geometry.inline_max()));
        let span = span.map(|span| span.min(self.pool.data_between(extent.first, extent.last)));
        if extent.last >= named_by || span.is_none_or(|span| extent.len > span) {
            return Err(damaged(extent.last, Damage::ExtentTooLong));
        }
        let mut whole = crate::base::aligned::AlignedBuf::zeroed(extent.len as usize);
        let (mut at, mut rest) = (extent.last, extent.len as usize);
        loop {
            let record = self.load(at, 0).map_err(|error| match error {
                // Nobody but the extent says that one starts there.
                Error::NotARecord { .. } => damaged(at, Damage::PieceElse),
                other => other,
            })?;
            let body = record.body();
            let Some((before, piece)) = body.split_at_checked(8).filter(|_| record.shape.kind == Kind::Extent) else {
                return Err(damaged(at, Damage::PieceElse));
            };
            let from = rest.checked_sub(piece.len()).filter(|_| !piece.is_empty());
            let Some((from, target)) = from.and_then(|from| Some((from, whole.as_mut_slice().get_mut(from..rest)?)))
            else {
                return Err(damaged(at, Damage::PiecesTooLong));
            };
            target.copy_from_slice(piece);
            rest = from;
            let before = Lsn(before.try_into().map_or(0, u64::from_le_bytes));
            if rest == 0 {
                break;
            }
            // Each piece lies below the one after, so the chain ends.
            if before >= at || before < extent.first {
                return Err(damaged(at, Damage::ChainBroken));
            }
            at = before;
        }
        match crc32c::crc32c(whole.as_slice()) == extent.crc {
            true => Ok(whole),
            false => Err(damaged(extent.last, Damage::ExtentChecksum)),
        }
    }
}
