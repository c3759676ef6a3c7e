//! Moving a page: its content is written as one image, which takes the place of the records that it was copied from. What was linked since stays on
//! top of it: so a page that is changed all the time is moved as well as any other.
//!
//! - N1. A page goes to an image only when that is synced: what a slot names can be read. The image may hold what is not stable in the log yet; no
//!   root names it before that is (C2).
//! - N2. A page goes to its image only if the records that were copied are still its oldest ones. The slot's word is loaded anew under the guard
//!   of the swap: an older one may mean something else by now. A newer record that is not stable stays in memory (G4).
//! - N3. The image counts as in use before the swap, the records that it stands for until after it and after the leaf's mark.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crossbeam_epoch::Guard;

use super::Pages;
use crate::base::aligned::AlignedBuf;
use crate::base::canary::{Canary, planted};
use crate::base::error::{Error, Result};
use crate::base::ids::{Address, Lsn, PageId, Sequence, Version};
use crate::format::page::{ImageHead, PageHead, Payload};
use crate::format::parts::Parts;
use crate::format::piece::Piece;
use crate::format::record::{ExtentRef, Head, Kind, Shape};
use crate::log::scan::Step;
use crate::page::budget::Fill;
use crate::page::chain::{Chain, Node};
use crate::page::fragment::{Fragment, PageBytes};
use crate::page::materialize::Materializer;
use crate::page::pieces::Pieces;
use crate::page::retired::Lot;
use crate::page::slot::{Seen, Slot, Word};
use crate::store::segment::Segment;
use crate::store::stream::{Writer, payload_max};

/// So often a page that is changed at the same moment is tried to be moved: each try may merge it.
const TRIES: u32 = 8;

/// A page's content as of a version.
#[derive(Debug)]
pub(crate) struct Copied {
    pub(crate) id: PageId,
    pub(crate) version: Version,
    /// What the page was at before its links, as far as that is seen: who was written long ago is likely to stay.
    pub(crate) prior: Version,
    /// The records that it stands for, oldest first.
    pieces: Vec<Piece>,
    payload: Vec<u8>,
    /// The bytes lie as they do in memory.
    aligned: bool,
}

/// Pages, each with its oldest record, by segments.
pub(crate) type Found = BTreeMap<Sequence, Vec<(Address, PageId)>>;

/// A page that is to be moved, and its records, oldest first.
enum Wanted<'g, P> {
    Resident(Chain<'g, P>, Vec<Piece>),
    Cold(Vec<Piece>),
}

/// A copy whose image is written.
#[derive(Debug)]
pub(crate) struct Written {
    copied: Copied,
    image: Piece,
    /// Where the rest of it is, if it has any.
    parts: Option<Arc<Parts>>,
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
}

impl<'a> PageRecord<'a> {
    /// None for what is no record of a page.
    pub(crate) fn of(segment: &Segment, step: &Step<'a>) -> Option<PageRecord<'a>> {
        let Step::Record { lsn, shape, body, body_at, .. } = *step else { return None };
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
        Some(PageRecord { id, address: segment.address(lsn), version, payload, aligned: shape.aligned })
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

impl<M: Materializer> Pages<M> {
    /// A page, if it has a record in a segment.
    ///
    /// # Errors
    /// Of the leaf's reading.
    fn wanted<'g>(
        &self,
        id: PageId,
        from: Sequence,
        _guard: &'g Guard,
    ) -> Result<Option<(Word, Wanted<'g, M::PageFrag>)>> {
        let Some(slot) = self.table.get(id) else { return Ok(None) };
        let word = self.look(id, slot)?;
        let is_there = |pieces: &[Piece]| pieces.iter().any(|piece| self.log.pool.is_in(*piece, from));
        // SAFETY: loaded just now under `guard`, which is of this store's collector.
        let wanted = match unsafe { word.see::<M::PageFrag>() } {
            Seen::Resident(chain) => {
                let mut pieces = Vec::new();
                chain.oldest_first(&mut pieces);
                is_there(&pieces).then_some(Wanted::Resident(chain, pieces))
            }
            Seen::Cold(pieces) if is_there(pieces) => Some(Wanted::Cold(pieces.to_vec())),
            Seen::ColdOne(piece) if is_there(&[piece]) => Some(Wanted::Cold(vec![piece])),
            _ => None,
        };
        Ok(wanted.map(|wanted| (word, wanted)))
    }

    /// The pages that have records in some segments, by the map: under the first of these segments that has one, each with its oldest record. None where many are
    /// cold: to walk the segments is faster than a read for each.
    ///
    /// # Errors
    /// Of a leaf's reading.
    pub(crate) fn pages_in(&self, segments: &[Arc<Segment>]) -> Result<Option<Found>> {
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
        let (mut found, mut all, mut cold) = (Found::new(), 0u64, 0u64);
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
            found.entry(wanted.header.sequence).or_default().push((oldest.address(), id));
            all += 1;
            cold += u64::from(!word.is_resident());
        }
        Ok((cold <= all / 16).then_some(found))
    }

    /// Copies a cold page out of the only record that it has, as stored.
    ///
    /// # Errors
    /// Of the leaf's reading.
    pub(crate) fn copy_record(&self, record: &PageRecord<'_>) -> Result<Harvest> {
        let Some(slot) = self.table.get(record.id) else { return Ok(Harvest::Dead) };
        let _guard = self.pin();
        let word = self.look(record.id, slot)?;
        let is_it = |piece: &Piece| piece.address() == record.address;
        // SAFETY: loaded just now under the guard, which is of this store's collector.
        let needed = match (unsafe { word.see::<M::PageFrag>() }, record.version) {
            (Seen::ColdOne(piece), Some(version)) if is_it(&piece) => {
                return Ok(Harvest::Copied(Copied {
                    id: record.id,
                    version,
                    prior: version,
                    pieces: vec![piece],
                    payload: record.payload.to_vec(),
                    aligned: record.aligned,
                }));
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

    /// Copies a page that has a record in a segment; none where it has none any more, or user code refuses.
    ///
    /// # Errors
    /// `Corrupt`, `Io`, `Decode` of the page.
    pub(crate) fn copy(&self, id: PageId, from: Sequence, guard: Guard) -> Result<Option<Copied>> {
        match self.wanted(id, from, &guard)? {
            None => Ok(None),
            Some((_, Wanted::Resident(chain, pieces))) => Ok(self.copy_resident(id, chain, pieces)),
            Some((word, Wanted::Cold(pieces))) => {
                // No guard is held while the disk is waited for.
                drop(guard);
                match self.copy_cold(id, pieces) {
                    // It has moved on, and what was read may have been given back meanwhile.
                    Err(_) if self.table.get(id).is_none_or(|slot| slot.load() != word) => Ok(None),
                    copied => copied,
                }
            }
        }
    }

    fn copy_resident(&self, id: PageId, chain: Chain<'_, M::PageFrag>, pieces: Vec<Piece>) -> Option<Copied> {
        let version = chain.head().version;
        // User code: its panic costs this page's move only.
        let encoded = catch_unwind(AssertUnwindSafe(|| match chain.head().is_base() {
            true => encode(&chain.head().frag),
            false => encode(&chain.with_frags(None, |frags| self.materializer.merge(frags))),
        }));
        let Ok(Ok((payload, aligned))) = encoded else { return None };
        let prior = chain.nodes().last().map_or(version, |base| base.version);
        Some(Copied { id, version, prior, pieces, payload, aligned })
    }

    fn copy_cold(&self, id: PageId, pieces: Vec<Piece>) -> Result<Option<Copied>> {
        let reads = self.read_pieces(id, &pieces)?;
        let Some([prior, version]) = reads.first().zip(reads.last()).map(|(first, last)| [first.version, last.version])
        else {
            return Ok(None);
        };
        let encoded = catch_unwind(AssertUnwindSafe(|| -> Result<_, String> {
            let frags: Result<Vec<M::PageFrag>, String> =
                reads.into_iter().map(|read| M::PageFrag::decode(read.bytes)).collect();
            let frags = frags?;
            match &frags[..] {
                [one] => encode(one),
                many => encode(&self.materializer.merge(&many.iter().collect::<Vec<_>>())),
            }
        }));
        match encoded {
            Ok(Ok((payload, aligned))) => Ok(Some(Copied { id, version, prior, pieces, payload, aligned })),
            Ok(Err(what)) => Err(Error::Decode { page: Some(id), what }),
            Err(_) => Ok(None),
        }
    }

    /// Writes the image of a copy, in parts where it is too long for one record. It is not synced yet.
    ///
    /// # Errors
    /// As [`Writer::put`].
    pub(crate) fn write_image(&self, copied: Copied, writer: &mut Writer) -> Result<Written> {
        let (pool, stable) = (&self.log.pool, self.log.stable());
        let mut head = ImageHead { page: copied.id, version: copied.version }.encode();
        if copied.payload.len() as u64 <= payload_max(pool.segment_size()) {
            let shape = Shape { aligned: copied.aligned, ..Shape::plain(Kind::Image) };
            let image = writer.put(pool, stable, shape, head, &copied.payload)?;
            return Ok(Written { copied, image, parts: None });
        }
        let (extent, parts) = self.write_parts(&copied.payload, writer)?;
        extent.push_to(&mut head);
        let shape = Shape { extent: true, ..Shape::plain(Kind::Image) };
        let image = writer.put(pool, stable, shape, head, &parts.encode())?.long();
        Ok(Written { copied, image, parts: Some(Arc::new(parts)) })
    }

    fn write_parts(&self, payload: &[u8], writer: &mut Writer) -> Result<(ExtentRef, Parts)> {
        let pool = &self.log.pool;
        let (mut first, mut last, mut parts) = (None, Lsn(0), Parts::default());
        // Less by the place of the piece before.
        for piece in payload.chunks(payload_max(pool.segment_size()) as usize - 8) {
            let mut head = Head::new();
            head.extend(&last.0.to_le_bytes());
            let at = writer.put(pool, self.log.stable(), Shape::plain(Kind::Extent), head, piece)?;
            parts.add(pool.sequence(at), at.len_max());
            last = Lsn(at.address().0);
            first.get_or_insert(last);
        }
        let crc = crc32c::crc32c(payload);
        Ok((ExtentRef { first: first.unwrap_or(last), last, len: payload.len() as u64, crc }, parts))
    }

    /// Makes a page go to its image, which is synced, if it is still what was copied. Whether it did; what it was before is in the lot then.
    pub(crate) fn go_to_image(&self, written: Written, lot: &mut Lot<M::PageFrag>, guard: &Guard) -> bool {
        let Written { copied, image, parts } = written;
        let pool = &self.log.pool;
        if let Some(parts) = parts {
            pool.spans.enter(image.address(), copied.id, parts);
        }
        // N3.
        pool.raise(std::iter::once(image));
        let moved = self.table.get(copied.id).is_some_and(|slot| self.swing(slot, &copied, image, lot, guard));
        if !moved {
            pool.lower(std::iter::once(image));
        }
        moved
    }

    fn swing(
        &self,
        slot: &Slot<M::PageFrag>,
        copied: &Copied,
        image: Piece,
        lot: &mut Lot<M::PageFrag>,
        guard: &Guard,
    ) -> bool {
        let mut pieces = Vec::new();
        for _ in 0..TRIES {
            let word = slot.load();
            // SAFETY: loaded just now under `guard`, which is of this store's collector (N2).
            let (newer, chain) = match unsafe { word.see::<M::PageFrag>() } {
                Seen::Resident(chain) => {
                    chain.oldest_first(&mut pieces);
                    (pieces.strip_prefix(&copied.pieces[..]), Some(chain))
                }
                Seen::Cold(pieces) => (pieces.strip_prefix(&copied.pieces[..]), None),
                Seen::ColdOne(piece) => ((copied.pieces[..] == [piece]).then_some(&[][..]), None),
                _ => (None, None),
            };
            let is_planted = planted(Canary::MovedWithoutCompare) && word.holds_data();
            let Some(newer) = newer.or(is_planted.then_some(&[])) else { return false };
            let Some((new, weight)) = self.at_image(copied, image, newer, chain) else { return false };
            if !slot.swap(word, new) {
                // SAFETY: it was not published.
                unsafe { new.discard::<M::PageFrag>() };
                continue;
            }
            if !planted(Canary::MoveNotMarked) {
                self.leaves.touch(copied.id);
            }
            self.log.pool.lower(copied.pieces.iter().copied());
            let old = chain.map_or(0, |chain| chain.weight());
            // SAFETY: loaded under `guard`.
            self.budget.remove(old + unsafe { word.list_bytes() });
            // SAFETY: the swap took it out of the slot.
            unsafe { lot.push(word, old) };
            self.read(weight, guard);
            return true;
        }
        false
    }

    /// The word of a page at its image, with the records that are newer, and what it weighs: in memory where it was used lately, or there is room, or
    /// not all of it is stable; else cold. None where it would have to be in memory, and user code does not make it.
    fn at_image(
        &self,
        copied: &Copied,
        image: Piece,
        newer: &[Piece],
        chain: Option<Chain<'_, M::PageFrag>>,
    ) -> Option<(Word, usize)> {
        let pieces = || {
            let newest_first = newer.iter().rev().copied().chain(std::iter::once(image));
            Pieces::from_newest_first(newer.len() + 1, newest_first)
        };
        let cold = || {
            let pieces = pieces();
            let heap = pieces.heap();
            (Word::cold(pieces), heap)
        };
        let Some(chain) = chain else { return Some(cold()) };
        let is_stable = newer.is_empty() || chain.head().version.0 < self.log.stable().0;
        if is_stable && !chain.head().is_used() && self.budget.fill() != Fill::Fits {
            return Some(cold());
        }
        // User code: where it does not succeed, the page comes back from disk when it is wanted.
        let renewed = catch_unwind(AssertUnwindSafe(|| {
            let frag = match (newer, chain.head().is_base()) {
                ([], _) => decode(&copied.payload)?,
                (_, true) => decode(&encode(&chain.head().frag).ok()?.0)?,
                (_, false) => chain.with_frags(None, |frags| self.materializer.merge(frags)),
            };
            let heap = self.materializer.heap_size(&frag);
            Some((frag, heap))
        }));
        let Ok(Some((frag, heap))) = renewed else { return is_stable.then(cold) };
        let mut node = Node::base(chain.head().version, frag, heap, pieces());
        node.follow(chain.head());
        let weight = node.weight();
        Some((Word::resident(Box::into_raw(node)), weight))
    }

    /// A guard of the collector these pages are freed by.
    pub(crate) fn pin(&self) -> Guard {
        match self.collector == *crossbeam_epoch::default_collector() {
            true => crossbeam_epoch::pin(),
            false => self.collector.register().pin(),
        }
    }
}

fn decode<P: Fragment>(payload: &[u8]) -> Option<P> {
    let mut buf = AlignedBuf::zeroed(payload.len());
    buf.as_mut_slice().copy_from_slice(payload);
    P::decode(PageBytes::new(buf, 0, payload.len())).ok()
}

/// A page's bytes, and whether they lie as they do in memory.
fn encode<P: Fragment>(page: &P) -> Result<(Vec<u8>, bool), String> {
    if let Some(bytes) = page.as_bytes() {
        return Ok((bytes.to_vec(), true));
    }
    let mut bytes = Vec::new();
    page.encode(&mut bytes)?;
    Ok((bytes, false))
}
