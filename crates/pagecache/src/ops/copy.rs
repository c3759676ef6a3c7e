//! Copying a page: what there is of it in memory or on disk, merged and encoded, with the records that the copy stands for.

use std::collections::BTreeMap;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crossbeam_epoch::Guard;

use super::Pages;
use crate::base::error::{Error, Result};
use crate::base::ids::{Address, PageId, Sequence, Version};
use crate::format::bytes::Cursor;
use crate::format::page::{ImageHead, PageHead, Payload};
use crate::format::piece::Piece;
use crate::format::record::{Body, Kind, Shape};
use crate::log::core::LogCore;
use crate::log::held::Held;
use crate::log::scan::Step;
use crate::page::chain::Chain;
use crate::page::fragment::Fragment;
use crate::page::materialize::Materializer;
use crate::page::slot::{Seen, Word};
use crate::store::segment::Segment;

/// A page's content as of a version.
#[derive(Debug)]
pub(crate) struct Copied {
    pub(crate) id: PageId,
    pub(crate) version: Version,
    /// What the page was at before its links, as far as that is seen: who was written long ago is likely to stay.
    pub(crate) prior: Version,
    /// The records that it stands for, oldest first, and its bytes: where they are among those of other copies.
    pieces: Range<usize>,
    payload: Range<usize>,
    /// The bytes lie as they do in memory.
    pub(super) aligned: bool,
    /// What the checksum knows of the image that it was copied from as it stood there, if it was.
    pub(super) sum: Option<Body>,
}

/// What pages are copied to, one behind the other: who copies asks for memory now and then, and not for each page, since the allocator is shared
/// with users' threads.
#[derive(Debug)]
pub(crate) struct Content {
    pieces: Vec<Piece>,
    bytes: Vec<u8>,
    /// Bytes of pages that come to it, but for the last page.
    expects: usize,
    /// The page that is looked at: its records, and its bytes as user code encodes them.
    found: Vec<Piece>,
    scratch: Vec<u8>,
}

/// Room for encoding above this many bytes is not kept.
const SCRATCH_KEPT: usize = 1 << 20;

/// Room for the page that ends a batch, beyond which memory grows page by page.
const LAST_PAGE: usize = 64 << 10;

/// Part of the pages, as a divisor, that may be cold where each is looked for, and so many that always may.
const COLD_SHARE: u64 = 16;
const COLD_FEW: u64 = 64;

/// How many of the pages that are looked for in the map may be cold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cold {
    /// As many as are read one by one faster than their segments are walked.
    Few,
    /// All of them.
    Any,
}

/// Pages, each with its oldest record, by segments.
pub(crate) struct Found {
    by_segment: BTreeMap<Sequence, Vec<(Address, PageId)>>,
    /// Entries that there is room for.
    room: usize,
    held: Held,
}

impl Found {
    fn none(log: &Arc<LogCore>) -> Found {
        Found { by_segment: BTreeMap::new(), room: 0, held: Held::none(log) }
    }

    fn push(&mut self, segment: Sequence, oldest: Address, id: PageId) {
        let pages = self.by_segment.entry(segment).or_default();
        let before = pages.capacity();
        pages.push((oldest, id));
        self.room += pages.capacity() - before;
        self.held.set((self.room * size_of::<(Address, PageId)>()) as u64);
    }

    /// Those of a segment, once; they count until all do no more.
    pub(crate) fn take(&mut self, segment: Sequence) -> Vec<(Address, PageId)> {
        self.by_segment.remove(&segment).unwrap_or_default()
    }
}

/// A page that is to be moved.
enum Wanted<'g, P> {
    Resident(Chain<'g, P>),
    Cold,
}

/// A record of a page, as a walk over its segment shows it.
#[derive(Debug)]
pub(crate) struct PageRecord<'a> {
    pub(crate) id: PageId,
    address: Address,
    /// The version, where the record is the whole page.
    version: Option<Version>,
    payload: &'a [u8],
    aligned: bool,
    /// What the checksum knows of it, where it is an image.
    sum: Option<Body>,
}

impl<'a> PageRecord<'a> {
    /// The page that the first bytes of a record name; none for what is no record of a page.
    fn id(shape: Shape, body: &[u8]) -> Option<PageId> {
        let is_of_page = matches!(shape.kind, Kind::Image | Kind::Replace | Kind::Link);
        Cursor::new(body).varint().filter(|_| is_of_page).map(PageId)
    }

    /// None for what is no record of a page.
    pub(crate) fn of(segment: &Segment, step: &Step<'a>) -> Option<PageRecord<'a>> {
        let Step::Record { lsn, shape, body, body_at, sum, .. } = *step else { return None };
        let (id, version, payload) = match shape.kind {
            Kind::Image => {
                let (head, payload) = ImageHead::decode(shape, body, body_at)?;
                (head.page, Some(head.version), payload)
            }
            Kind::Replace | Kind::Link => {
                let (head, payload) = PageHead::decode(shape, body, body_at)?;
                let is_whole = shape.kind == Kind::Replace || head.base == Version::NONE;
                (head.page, is_whole.then_some(lsn.into()), payload)
            }
            _ => return None,
        };
        let (version, payload) = match payload {
            Payload::Inline(at) => (version, body.get(at..).unwrap_or_default()),
            // It is elsewhere: the page has to be read.
            Payload::Extent(..) => (None, &[][..]),
        };
        let sum = (shape.kind == Kind::Image).then_some(sum);
        Some(PageRecord { id, address: segment.address(lsn), version, payload, aligned: shape.aligned, sum })
    }
}

/// What a record is to its page now.
#[derive(Debug)]
pub(crate) enum Harvest {
    /// It is the page, which was copied from it.
    Copied(Copied),
    /// The page needs it, and has to be looked at as a whole. Its oldest record is here.
    Scattered(Address),
    /// The page does not need it any more.
    Dead,
}

impl Copied {
    /// Bytes of the page.
    pub(crate) fn len(&self) -> usize {
        self.payload.len()
    }
}

impl Content {
    /// For so many bytes of pages and one page more.
    pub(crate) fn of(bytes: u64) -> Content {
        let (pieces, found, scratch) = (Vec::new(), Vec::new(), Vec::new());
        Content { pieces, bytes: Vec::new(), expects: bytes as usize, found, scratch }
    }

    /// Forgets the pages, and keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.pieces.clear();
        self.bytes.clear();
    }

    /// Bytes of pages.
    pub(crate) fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Bytes of what is known of their records.
    pub(crate) fn listed(&self) -> u64 {
        (self.pieces.len() * size_of::<Piece>()) as u64
    }

    /// Bytes of memory.
    pub(crate) fn memory(&self) -> u64 {
        let pieces = (self.pieces.capacity() + self.found.capacity()) * size_of::<Piece>();
        (pieces + self.bytes.capacity() + self.scratch.capacity()) as u64
    }

    pub(super) fn pieces(&self, of: &Copied) -> &[Piece] {
        self.pieces.get(of.pieces.clone()).unwrap_or_default()
    }

    pub(super) fn payload(&self, of: &Copied) -> &[u8] {
        self.bytes.get(of.payload.clone()).unwrap_or_default()
    }

    /// Takes the page that was looked at, of these bytes.
    fn take(&mut self, id: PageId, [prior, version]: [Version; 2], payload: &[u8], aligned: bool) -> Copied {
        let begun = self.bytes.len();
        let end = begun + payload.len();
        if end > self.bytes.capacity() {
            // By doubling, but not beyond what is to come.
            let room = end.max((2 * self.bytes.capacity()).min(self.expects + LAST_PAGE));
            self.bytes.reserve_exact(room - begun);
        }
        self.bytes.extend_from_slice(payload);
        let first = self.pieces.len();
        self.pieces.extend_from_slice(&self.found);
        let (pieces, payload) = (first..self.pieces.len(), begun..self.bytes.len());
        Copied { id, version, prior, pieces, payload, aligned, sum: None }
    }

    /// The same, as user code encodes it.
    fn encode<P: Fragment>(&mut self, id: PageId, versions: [Version; 2], page: &P) -> Result<Copied, String> {
        if let Some(bytes) = page.as_bytes() {
            return Ok(self.take(id, versions, bytes, true));
        }
        // Not behind other pages' bytes, which are none of its business.
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        page.encode(&mut scratch)?;
        let copied = self.take(id, versions, &scratch, false);
        if scratch.capacity() <= SCRATCH_KEPT {
            self.scratch = scratch;
        }
        Ok(copied)
    }
}

impl<M: Materializer> Pages<M> {
    /// A page, if it has a record in a segment. Its records come to `found`, oldest first.
    ///
    /// # Errors
    /// Of the leaf's reading.
    fn wanted<'g>(
        &self,
        id: PageId,
        from: Sequence,
        found: &mut Vec<Piece>,
        _guard: &'g Guard,
    ) -> Result<Option<(Word, Wanted<'g, M::PageFrag>)>> {
        let Some(slot) = self.table.get(id) else { return Ok(None) };
        let word = self.look(id, slot)?;
        found.clear();
        // SAFETY: loaded just now under `guard`, which is of this store's collector.
        let wanted = match unsafe { word.see::<M::PageFrag>() } {
            Seen::Resident(chain) => {
                chain.oldest_first(found);
                Wanted::Resident(chain)
            }
            Seen::Cold(pieces) => {
                found.extend_from_slice(pieces);
                Wanted::Cold
            }
            Seen::ColdOne(piece) => {
                found.push(piece);
                Wanted::Cold
            }
            _ => return Ok(None),
        };
        let is_there = found.iter().any(|piece| self.log.pool.is_in(*piece, from));
        Ok(is_there.then_some((word, wanted)))
    }

    /// The pages that have records in some segments, by the map: under the first of these segments that has one, each with its oldest record. None as soon as more
    /// of those that were found are cold than may be: to walk the segments is faster than a read for each.
    ///
    /// # Errors
    /// Of a leaf's reading.
    pub(crate) fn pages_in(&self, segments: &[Arc<Segment>], may_be: Cold) -> Result<Option<Found>> {
        let mut places: Vec<(Sequence, usize)> =
            segments.iter().map(|segment| segment.header.sequence).zip(0..).collect();
        places.sort_unstable();
        let place = |piece: &Piece| match piece.is_long() {
            false => {
                let at =
                    places.binary_search_by_key(&self.log.pool.sequence(*piece), |(sequence, _)| *sequence).ok()?;
                places.get(at).map(|(_, place)| *place)
            }
            true => segments.iter().position(|segment| self.log.pool.is_in(*piece, segment.header.sequence)),
        };
        // Behind the oldest, which may be an image, they follow in the order of their segments.
        let first = |pieces: &[Piece]| {
            let (oldest, links) = pieces.split_first()?;
            place(oldest).into_iter().chain(links.iter().find_map(place)).min()
        };
        let mut pieces = Vec::new();
        let (mut found, mut all, mut cold) = (Found::none(&self.log), 0u64, 0u64);
        let mut guard = self.pin();
        for id in (0..self.ids.high_water()).map(PageId) {
            if id.0.is_multiple_of(64) {
                guard.repin();
            }
            let Some(slot) = self.table.get(id) else { continue };
            let word = self.look(id, slot)?;
            // SAFETY: loaded just now under `guard`, which is of this store's collector.
            let wanted = match unsafe { word.see::<M::PageFrag>() } {
                Seen::Resident(chain) => {
                    chain.oldest_first(&mut pieces);
                    first(&pieces).zip(pieces.first().copied())
                }
                Seen::Cold(pieces) => first(pieces).zip(pieces.first().copied()),
                Seen::ColdOne(piece) => place(&piece).zip(Some(piece)),
                _ => continue,
            };
            let Some((at, oldest)) = wanted else { continue };
            let Some(wanted) = segments.get(at) else { continue };
            found.push(wanted.header.sequence, oldest.address(), id);
            all += 1;
            cold += u64::from(!word.is_resident());
            if may_be == Cold::Few && cold > COLD_FEW + all / COLD_SHARE {
                return Ok(None);
            }
        }
        Ok(Some(found))
    }

    /// Whether a record, as its first bytes show it, unchecked, is of a page that needs it, or of none. What does not is dead for good: nothing goes back to it.
    pub(crate) fn is_wanted(&self, address: Address, shape: Shape, body: &[u8], _guard: &Guard) -> bool {
        let Some(id) = PageRecord::id(shape, body) else { return true };
        let Some(slot) = self.table.get(id) else { return true };
        let is_it = |piece: &Piece| piece.address() == address;
        // SAFETY: loaded just now under the guard, which is of this store's collector; every leaf was read before anything is cleaned.
        match unsafe { slot.load().see::<M::PageFrag>() } {
            Seen::ColdOne(piece) => is_it(&piece),
            Seen::Cold(pieces) => pieces.iter().any(is_it),
            Seen::Resident(chain) => chain.each_piece().any(|piece| is_it(&piece)),
            Seen::Headless(_) => true,
            Seen::Absent | Seen::Empty(_) | Seen::Free(_) => false,
        }
    }

    /// Copies a cold page out of the only record that it has, as stored.
    ///
    /// # Errors
    /// Of the leaf's reading.
    pub(crate) fn copy_record(&self, record: &PageRecord<'_>, to: &mut Content, _guard: &Guard) -> Result<Harvest> {
        let Some(slot) = self.table.get(record.id) else { return Ok(Harvest::Dead) };
        let word = self.look(record.id, slot)?;
        let is_it = |piece: &Piece| piece.address() == record.address;
        // SAFETY: loaded just now under the guard, which is of this store's collector.
        let needed = match (unsafe { word.see::<M::PageFrag>() }, record.version) {
            (Seen::ColdOne(piece), Some(version)) if is_it(&piece) => {
                to.found.clear();
                to.found.push(piece);
                let copied = to.take(record.id, [version, version], record.payload, record.aligned);
                return Ok(Harvest::Copied(Copied { sum: record.sum, ..copied }));
            }
            (Seen::ColdOne(piece), _) => is_it(&piece).then_some(piece),
            (Seen::Cold(pieces), _) => pieces.first().copied().filter(|_| pieces.iter().any(is_it)),
            (Seen::Resident(chain), _) => {
                let is_needed = chain.each_piece().any(|piece| is_it(&piece));
                chain.each_piece().last().filter(|_| is_needed)
            }
            _ => None,
        };
        Ok(needed.map_or(Harvest::Dead, |oldest| Harvest::Scattered(oldest.address())))
    }

    /// Copies a page that has a record in a segment; none where it has none any more, or user code refuses. The guard is let go of while the disk is
    /// waited for.
    ///
    /// # Errors
    /// `Corrupt`, `Io`, `Decode` of the page.
    pub(crate) fn copy(
        &self,
        id: PageId,
        from: Sequence,
        to: &mut Content,
        guard: &mut Guard,
    ) -> Result<Option<Copied>> {
        match self.wanted(id, from, &mut to.found, guard)? {
            None => Ok(None),
            Some((_, Wanted::Resident(chain))) => Ok(self.copy_resident(id, chain, to)),
            Some((word, Wanted::Cold)) => match guard.repin_after(|| self.copy_cold(id, to)) {
                // It has moved on, and what was read may have been given back meanwhile.
                Err(_) if self.table.get(id).is_none_or(|slot| slot.load() != word) => Ok(None),
                copied => copied,
            },
        }
    }

    fn copy_resident(&self, id: PageId, chain: Chain<'_, M::PageFrag>, to: &mut Content) -> Option<Copied> {
        let versions = [chain.base_version(), chain.head().version];
        // User code: its panic costs this page's move only.
        let copied = catch_unwind(AssertUnwindSafe(|| match chain.head().whole() {
            Some(page) => to.encode(id, versions, page),
            None => to.encode(id, versions, &chain.with_frags(None, |frags| self.materializer.merge(frags))),
        }));
        copied.ok()?.ok()
    }

    fn copy_cold(&self, id: PageId, to: &mut Content) -> Result<Option<Copied>> {
        let reads = self.read_pieces(id, &to.found)?;
        let Some((first, last)) = reads.list.first().zip(reads.list.last()) else { return Ok(None) };
        let versions = [first.version, last.version];
        let copied = catch_unwind(AssertUnwindSafe(|| -> Result<_, String> {
            let frags: Result<Vec<M::PageFrag>, String> =
                reads.list.into_iter().map(|read| self.decode(read.bytes)).collect();
            match &frags?[..] {
                [one] => to.encode(id, versions, one),
                many => to.encode(id, versions, &self.materializer.merge(&many.iter().collect::<Vec<_>>())),
            }
        }));
        match copied {
            Ok(Ok(copied)) => Ok(Some(copied)),
            Ok(Err(what)) => Err(Error::Decode { page: Some(id), what }),
            Err(_) => Ok(None),
        }
    }
}
