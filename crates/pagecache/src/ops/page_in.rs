//! Bringing a cold page back: each of its records is read, checked against the page and the version it goes on, and put on
//! a chain. It counts only if the slot still says what it said before the read.

use crossbeam_epoch::Guard;

use super::Pages;
use super::misses::{Counted, Read, Reads, Turn};
use crate::base::aligned::AlignedBuf;
use crate::base::canary::{Canary, planted};
use crate::base::damage::Damage;
use crate::base::error::{Corruption, Error, Result};
use crate::base::ids::{Lsn, PageId, Version};
use crate::format::page::{ImageHead, PageHead, Payload};
use crate::format::piece::Piece;
use crate::format::record::{ExtentRef, Kind, PAYLOAD_MAX};
use crate::format::segment::Stream;
use crate::page::chain::{Chain, Fresh, Unpublished};
use crate::page::fragment::{Fragment, PageBytes};
use crate::page::materialize::Materializer;
use crate::page::pieces::Pieces;
use crate::page::slot::{Slot, Word};
use crate::store::extent::read_images;
use crate::store::stream::{self, corrupt, payload_max};

impl<M: Materializer> Pages<M> {
    /// Reads the pieces and publishes the chain; `None` where the slot has moved on meanwhile. Its bytes are counted, and room
    /// for them is left to the caller: to look for it at once may evict this very page, if it is more than the cache holds.
    ///
    /// # Errors
    /// `Corrupt` and `Decode` name the page; `Io`.
    pub(super) fn page_in<'g>(
        &self,
        id: PageId,
        slot: &Slot<M::PageFrag>,
        word: Word,
        pieces: &[Piece],
        guard: &'g Guard,
    ) -> Result<Option<(Word, Chain<'g, M::PageFrag>)>> {
        let Some(reads) = self.read_once(id, slot, word, pieces)? else { return Ok(None) };
        let mut building = Unpublished::empty();
        let mut version = Version::NONE;
        let mut weight = 0;
        let tag = self.queues.draw();
        for Read { version: at, bytes, piece, held } in reads.list {
            let frag = self.decode(bytes).map_err(|what| Error::Decode { page: Some(id), what })?;
            let first = building.chain().is_none();
            let at = if !first && planted(Canary::VersionRolledBack) { version } else { at };
            let heap = self.materializer.heap_size(&frag);
            let newest_first = held.iter().rev().copied().chain([piece]);
            let mut node = Fresh::base(at, frag, heap, Pieces::from_newest_first(held.len() + 1, newest_first));
            node.begin(tag);
            weight += node.weight();
            version = at;
            building.push(node);
        }
        drop(reads.counted);
        let head = building.into_raw();
        let resident = Word::resident(head);
        let swapped = !head.is_null() && slot.swap(word, resident);
        if !swapped && !planted(Canary::PageInWithoutCompare) {
            // SAFETY: it was not published.
            unsafe { resident.discard::<M::PageFrag>() };
            return Ok(None);
        }
        // SAFETY: loaded under `guard`.
        let list = unsafe { word.list_bytes() };
        self.budget.note(weight);
        self.budget.remove(list);
        match swapped {
            // SAFETY: the swap took the word's list, if it had one, out of the slot.
            true => unsafe { self.retire(word, list, guard) },
            // The planted bug; what it overwrites is leaked.
            false => slot.set(resident),
        }
        self.entered(id, tag, weight, guard);
        // SAFETY: published under `guard`, which keeps it even if it is evicted at once.
        Ok(Some((resident, unsafe { Chain::from_raw(head) })))
    }

    /// The page as it is on disk, merged, for a caller who keeps it for himself; `None` where the slot has moved on meanwhile. User code runs
    /// here: nothing is held but the guard that `word` was loaded under.
    ///
    /// # Errors
    /// As [`page_in`](Self::page_in).
    pub(super) fn read_through(
        &self,
        id: PageId,
        slot: &Slot<M::PageFrag>,
        word: Word,
        pieces: &[Piece],
    ) -> Result<Option<(M::PageFrag, Version)>> {
        let Some(reads) = self.read_once(id, slot, word, pieces)? else { return Ok(None) };
        let Some(version) = reads.list.last().map(|newest| newest.version) else { return Ok(None) };
        let frags: Result<Vec<M::PageFrag>, String> =
            reads.list.into_iter().map(|read| self.decode(read.bytes)).collect();
        let mut frags = frags.map_err(|what| Error::Decode { page: Some(id), what })?;
        let page = match frags.pop() {
            Some(one) if frags.is_empty() => one,
            newest => {
                frags.extend(newest);
                self.materializer.merge(&frags.iter().collect::<Vec<_>>())
            }
        };
        // It counts only if it is still the page (S1 of the misses).
        Ok((slot.load() == word).then_some((page, version)))
    }

    /// Reads the pieces, or takes what another thread reads of them now; `None` where the slot has moved on meanwhile.
    fn read_once(
        &self,
        id: PageId,
        slot: &Slot<M::PageFrag>,
        word: Word,
        pieces: &[Piece],
    ) -> Result<Option<Reads<'_>>> {
        Ok(Some(match self.misses.turn(id, word) {
            // A page-in of the same may have ended between the look at the slot and the turn.
            Turn::Read(_) if slot.load() != word => return Ok(None),
            Turn::Read(lead) => match self.read_pieces(id, pieces) {
                Ok(Reads { list, counted }) => Reads { list: lead.land(list), counted },
                // The page has moved, and what was read may have been given back meanwhile (S1).
                Err(_) if slot.load() != word => return Ok(None),
                Err(error) => return Err(error),
            },
            Turn::Shared(list) => {
                let mut counted = self.misses.count();
                counted.add(list.iter().map(|read| read.bytes.heap_size() as u64).sum());
                Reads { list, counted }
            }
            Turn::Look => return Ok(None),
        }))
    }

    /// A page's records, each checked to go on the one before it. What an image holds already goes with it.
    pub(super) fn read_pieces(&self, id: PageId, pieces: &[Piece]) -> Result<Reads<'_>> {
        let mut reads: Vec<Read> = Vec::with_capacity(pieces.len());
        let mut counted = self.misses.count();
        counted.add(pieces.iter().map(|piece| self.memory_of(*piece)).sum());
        // Everything up to here is in the image that the page begins with, if it does.
        let mut held = Version::NONE;
        for piece in pieces {
            let place = self.log.pool.at_address(piece.address());
            let in_log = place.is_none_or(|(segment, _)| segment.header.stream == Stream::Log);
            match reads.last_mut() {
                None if !in_log => {
                    let image = self.read_image(id, *piece, &mut counted)?;
                    held = image.version;
                    reads.push(image);
                }
                Some(below) if self.lsn(*piece).is_some_and(|lsn| Version::from(lsn) <= held) => {
                    below.held.push(*piece);
                }
                below => {
                    let below = below.map(|below| below.version);
                    let place = (below.unwrap_or(Version::NONE), below.is_none());
                    let (version, bytes) = self.read_piece(id, *piece, place, &mut counted)?;
                    reads.push(Read { version, bytes, piece: *piece, held: Vec::new() });
                }
            }
        }
        Ok(Reads { list: reads, counted })
    }

    /// An image of a page, and nothing of it but that it is whole and of which version.
    pub(super) fn image_version(&self, id: PageId, piece: Piece) -> Result<Version> {
        let mut counted = self.misses.count();
        counted.add(self.memory_of(piece));
        Ok(self.read_image(id, piece, &mut counted)?.version)
    }

    /// An image of a page.
    fn read_image(&self, id: PageId, piece: Piece, counted: &mut Counted<'_>) -> Result<Read> {
        let size = self.log.pool.segment_size();
        let damaged = |what| corrupt(size, piece.address(), what);
        let mine = |error: Error| match error {
            Error::Corrupt(at) => Error::Corrupt(Box::new(Corruption { page: Some(id), ..*at })),
            other => other,
        };
        let mut read = || {
            let place = self.log.pool.at_address(piece.address());
            let (segment, _) = place.ok_or_else(|| damaged(Damage::SegmentGone))?;
            let found = stream::read(&segment, piece)?;
            let decoded = ImageHead::decode(found.shape, found.body(), found.body_at());
            let (head, payload) = decoded.ok_or_else(|| damaged(Damage::PageElse))?;
            if head.page != id {
                return Err(damaged(Damage::OtherPage));
            }
            let bytes = match payload {
                Payload::Inline(at) => {
                    let (buf, body_at, body_len) = found.into_parts();
                    PageBytes::new(buf, body_at + at, body_at + body_len)
                }
                Payload::Extent(extent, _) => {
                    self.count_extent(&extent, counted);
                    self.whole(read_images(&self.log.pool, piece.address(), &extent)?)
                }
            };
            Ok(Read { version: head.version, bytes, piece, held: Vec::new() })
        };
        read().map_err(mine)
    }

    /// Says that a page's record, which goes on `below`, has no segment.
    fn segment_gone(&self, id: PageId, piece: Piece, below: Version) -> Error {
        Error::Corrupt(Box::new(Corruption {
            page: Some(id),
            segment: piece.address().0 / self.log.pool.segment_size(),
            offset: piece.address().0 % self.log.pool.segment_size(),
            lsns: Lsn(below.0)..Lsn(u64::MAX),
            what: Damage::SegmentGone.what(),
        }))
    }

    /// One record of a page: its version and its fragment's bytes.
    fn read_piece(
        &self,
        id: PageId,
        piece: Piece,
        (below, first): (Version, bool),
        counted: &mut Counted<'_>,
    ) -> Result<(Version, PageBytes)> {
        let Some((segment, lsn)) = self.log.pool.at_address(piece.address()) else {
            return Err(self.segment_gone(id, piece, below));
        };
        let damaged = |what: Damage| {
            Error::Corrupt(Box::new(Corruption {
                page: Some(id),
                segment: segment.header.sequence.0,
                offset: segment.offset(lsn),
                lsns: lsn..Lsn(lsn.0 + piece.len_max()),
                what: what.what(),
            }))
        };
        let mine = |error: Error| match error {
            Error::Corrupt(at) => Error::Corrupt(Box::new(Corruption { page: Some(id), ..*at })),
            Error::NotARecord { .. } => damaged(Damage::PageMisplaced),
            other => other,
        };
        let loaded = self.log.load(lsn, piece.len_max()).map_err(mine)?;
        let Some((head, payload)) = PageHead::decode(loaded.shape, loaded.body(), loaded.body_at) else {
            return Err(damaged(Damage::PageElse));
        };
        if head.page != id {
            return Err(damaged(Damage::OtherPage));
        }
        let fits = match loaded.shape.kind {
            Kind::Replace => first,
            Kind::Link => head.base == below,
            _ => false,
        };
        if !fits {
            return Err(damaged(Damage::OtherVersion));
        }
        let bytes = match payload {
            Payload::Inline(at) => {
                let (start, end) = (loaded.body_at + at, loaded.body_at + loaded.body_len);
                PageBytes::new(loaded.buf, start, end)
            }
            Payload::Extent(extent, _) => {
                self.count_extent(&extent, counted);
                self.whole(self.log.read_extent(lsn, &extent).map_err(mine)?)
            }
        };
        Ok((lsn.into(), bytes))
    }

    /// Bytes that the read of a record takes, whatever is said of its length.
    fn memory_of(&self, piece: Piece) -> u64 {
        piece.len_max().min(self.log.pool.segment_size())
    }

    /// Counts what it takes to read an extent: all of it, and beside it one piece after the other. What is said of its length was not checked yet.
    fn count_extent(&self, extent: &ExtentRef, counted: &mut Counted<'_>) {
        let len = extent.len.min(PAYLOAD_MAX);
        counted.add(len + len.min(payload_max(self.log.pool.segment_size())));
    }

    /// All of a buffer that was put together from pieces, whose own buffers were freed just now.
    fn whole(&self, buf: AlignedBuf) -> PageBytes {
        let end = buf.as_slice().len();
        self.log.freed.add(end as u64);
        PageBytes::new(buf, 0, end)
    }

    /// A fragment of what was read, which is freed by that, unless the fragment lies in it. User code.
    pub(super) fn decode(&self, bytes: PageBytes) -> Result<M::PageFrag, String> {
        let (place, heap) = (bytes.as_ptr_range(), bytes.heap_size());
        let frag = M::PageFrag::decode(bytes)?;
        if !frag.as_bytes().is_some_and(|own| place.contains(&own.as_ptr())) {
            self.log.freed.add(heap as u64);
        }
        Ok(frag)
    }
}
