//! A fragment's bytes on the way to the log: where it lies, in scratch, or written ahead as an extent.

use std::cell::Cell;
use std::sync::Arc;

use super::Pages;
use crate::base::error::{Error, Result};
use crate::base::ids::{PageId, Version};
use crate::format::page::PageHead;
use crate::format::parts::Parts;
use crate::format::piece::Piece;
use crate::format::record::{Head, Kind, Shape};
use crate::log::append::Ticket;
use crate::log::core::LogCore;
use crate::log::extent::Extent;
use crate::page::fragment::Fragment;
use crate::page::materialize::Materializer;
use crate::store::spans::Spans;

thread_local! {
    /// Room for encoding, taken for the length of an encoding and given back, so that a panic of user code loses it only.
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Scratch above this many bytes is not kept.
const SCRATCH_KEPT: usize = 1 << 20;

/// A fragment's bytes, ready for a record.
pub(super) struct Encoded<'a> {
    log: &'a LogCore,
    scratch: Vec<u8>,
    /// The fragment lies in memory as it shall lie on disk: its own bytes are taken.
    own: bool,
    extent: Option<Long<'a>>,
}

/// A payload that is written already, and what goes into the record in its place.
struct Long<'a> {
    extent: Extent<'a>,
    parts: Arc<Parts>,
    /// The parts, encoded.
    payload: Vec<u8>,
}

impl Drop for Encoded<'_> {
    fn drop(&mut self) {
        let mut scratch = std::mem::take(&mut self.scratch);
        if scratch.capacity() <= SCRATCH_KEPT {
            scratch.clear();
            // A thread past the end of its locals just drops it.
            let _ = SCRATCH.try_with(|kept| kept.set(scratch));
            return;
        }
        let bytes = scratch.capacity() as u64;
        drop(scratch);
        self.log.freed.add(bytes);
    }
}

impl Encoded<'_> {
    pub(super) fn payload<'p, P: Fragment>(&'p self, frag: &'p P) -> &'p [u8] {
        match (&self.extent, self.own) {
            (Some(long), _) => &long.payload,
            (None, true) => frag.as_bytes().unwrap_or_default(),
            (None, false) => &self.scratch,
        }
    }

    pub(super) fn shape(&self, kind: Kind) -> Shape {
        Shape { kind, aligned: self.own && self.extent.is_none(), extent: self.extent.is_some() }
    }

    pub(super) fn head(&self, kind: Kind, page: PageId, base: Version) -> Head {
        let mut head = PageHead { page, base }.encode(kind);
        if let Some(long) = &self.extent {
            long.extent.reference.push_to(&mut head);
        }
        head
    }

    /// The record's place, entered where it is to be found before it is published (Y1).
    pub(super) fn enter(&self, log: &LogCore, page: PageId, ticket: &Ticket<'_>) -> Piece {
        let piece = Piece::new(ticket.address(), ticket.len());
        let Some(long) = &self.extent else { return piece };
        log.note_extent(ticket.lsn(), &long.extent.reference);
        log.pool.spans.enter(piece.address(), page, Arc::clone(&long.parts));
        piece.long()
    }

    /// It is published.
    pub(super) fn named(&mut self) {
        if let Some(long) = &mut self.extent {
            long.extent.named();
        }
    }

    /// It was not published.
    pub(super) fn leave(&self, spans: &Spans, piece: Piece) {
        if self.extent.is_some() {
            spans.take(piece.address());
        }
    }
}

impl<M: Materializer> Pages<M> {
    /// Encodes a fragment; one that is too long for the ring is written as an extent already.
    pub(super) fn encode(&self, frag: &M::PageFrag) -> Result<Encoded<'_>> {
        let scratch = SCRATCH.try_with(Cell::take).unwrap_or_default();
        let mut encoded = Encoded { log: &self.log, scratch, own: frag.as_bytes().is_some(), extent: None };
        if !encoded.own {
            frag.encode(&mut encoded.scratch).map_err(|what| Error::Encode { what })?;
        }
        let payload = encoded.payload(frag);
        if payload.len() as u64 > self.log.max_record() {
            return Err(Error::TooLarge { len: payload.len() as u64, max: self.log.max_record() });
        }
        if !self.log.is_inline(payload) {
            let len = payload.len() as u64;
            let extent = self.log.write_extent(payload)?;
            let (parts, payload) = (Arc::new(extent.parts.clone()), extent.parts.encode());
            if !self.log.is_inline(&payload) {
                // In so many small segments that the record that names it would be too long itself.
                return Err(Error::TooLarge { len, max: self.log.inline_max() });
            }
            encoded.extent = Some(Long { extent, parts, payload });
        }
        Ok(encoded)
    }
}
