//! Moving a page: its content is written as one image, which takes the place of the records that it was copied from. What was linked since stays on
//! top of it: so a page that is changed all the time is moved as well as any other.
//!
//! - N1. A page goes to an image only when that is synced: what a slot names can be read. The image may hold what is not stable in the log yet; no
//!   root names it before that is (C2).
//! - N2. A page goes to its image only if the records that were copied are still its oldest ones. The slot's word is loaded anew under the guard
//!   of the swap: an older one may mean something else by now. A newer record that is not stable stays in memory (G4).
//! - N3. The image counts as in use before the swap, the records that it stands for until after it, after the leaf's mark, and after the log says so (N4).
//! - N4. The log says of pages that they have gone, after the fact and before what they leave behind counts as dead: who sees a segment empty has the moves that emptied it
//!   below the log's tail. Before the swap it may not: one that fails would be believed by a replay. The image is told by its place and stands for the
//!   records up to one, told by its own: a link may have its LSN before the move's and come behind its swap.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crossbeam_epoch::Guard;

use super::Pages;
use super::copy::{Content, Copied};
use crate::base::aligned::AlignedBuf;
use crate::base::canary::{Canary, planted};
use crate::base::error::Result;
use crate::base::ids::Lsn;
use crate::format::moves::{self, Move};
use crate::format::page::ImageHead;
use crate::format::parts::Parts;
use crate::format::piece::Piece;
use crate::format::record::{ExtentRef, Frame, Head, Kind, Shape};
use crate::log::tail::Urgency;
use crate::page::budget::Fill;
use crate::page::chain::{Chain, Fresh, Node};
use crate::page::fragment::{Fragment, PageBytes};
use crate::page::materialize::Materializer;
use crate::page::pieces::Pieces;
use crate::page::retired::Lot;
use crate::page::slot::{Seen, Slot, Word};
use crate::store::stream::{Writer, payload_max};

/// So often a page that is changed at the same moment is tried to be moved: each try may merge it.
const TRIES: u32 = 8;

/// A copy whose image is written.
#[derive(Debug)]
pub(crate) struct Written {
    copied: Copied,
    image: Piece,
    /// Where the rest of it is, if it has any.
    parts: Option<Arc<Parts>>,
}

impl Written {
    /// What the log is to say of it.
    pub(crate) fn said(&self, content: &Content) -> Option<Move> {
        let upto = content.pieces(&self.copied).last()?.address();
        Some(Move { page: self.copied.id, upto, image: self.image })
    }
}

/// Pages on the way to their images.
#[derive(Debug)]
pub(crate) struct Going<'a, P> {
    /// That of their copies.
    content: &'a Content,
    /// What they have left behind.
    lot: Lot<P>,
    /// The records of the one that is looked at.
    found: Vec<Piece>,
}

impl<'a, P> Going<'a, P> {
    pub(crate) fn new(content: &'a Content) -> Going<'a, P> {
        Going { content, lot: Lot::new(), found: Vec::new() }
    }

    /// What they have left behind.
    pub(crate) fn into_lot(self) -> Lot<P> {
        self.lot
    }
}

/// What a moved page's slot is to say.
enum Place<P> {
    /// In place of what it says, which goes: so many bytes.
    Instead(Word, usize),
    /// A marker on top of its chain, not published yet.
    OnTop(*mut Node<P>),
}

impl<P> Place<P> {
    /// The word, and what there is more of in memory by it.
    fn to_publish(&self) -> (Word, usize) {
        match *self {
            Place::Instead(word, weight) => (word, weight),
            // SAFETY: made by `place`, and nobody else's.
            Place::OnTop(marker) => (Word::resident(marker), unsafe { (*marker).weight() }),
        }
    }

    /// Frees it.
    ///
    /// # Safety
    /// It was not published.
    unsafe fn discard(self) {
        match self {
            // SAFETY: the caller's promise.
            Place::Instead(word, _) => unsafe { word.discard::<P>() },
            // SAFETY: as above; what is below is the slot's.
            Place::OnTop(marker) => drop(unsafe { Box::from_raw(marker) }),
        }
    }
}

impl<M: Materializer> Pages<M> {
    /// Writes the image of a copy, which is among others' content, in parts where it is too long for one record. It is not synced yet.
    ///
    /// # Errors
    /// As [`Writer::put`].
    pub(crate) fn write_image(&self, copied: Copied, content: &Content, writer: &mut Writer) -> Result<Written> {
        let (pool, stable, payload) = (&self.log.pool, self.log.stable(), content.payload(&copied));
        let mut head = ImageHead { page: copied.id, version: copied.version }.encode();
        if payload.len() as u64 <= payload_max(pool.segment_size()) {
            let shape = Shape { aligned: copied.aligned, ..Shape::plain(Kind::Image) };
            let frame = match copied.sum {
                // The same image in another place.
                Some(sum) => Frame::again(shape, &mut head, payload, sum),
                None => Frame::new(shape, &mut head, payload),
            };
            let image = writer.put_frame(pool, stable, &frame, payload)?;
            return Ok(Written { copied, image, parts: None });
        }
        let (extent, parts) = self.write_parts(payload, writer)?;
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

    /// Makes a page go to its image, which is synced, if it is still what was copied. Whether it did.
    pub(crate) fn go_to_image(&self, written: &Written, going: &mut Going<'_, M::PageFrag>, guard: &Guard) -> bool {
        let (image, pool) = (written.image, &self.log.pool);
        if let Some(parts) = &written.parts {
            pool.spans.enter(image.address(), written.copied.id, Arc::clone(parts));
        }
        // N3.
        pool.raise(std::iter::once(image));
        let slot = self.table.get(written.copied.id);
        let moved = slot.is_some_and(|slot| self.swing(slot, &written.copied, image, going, guard));
        if !moved {
            pool.lower(std::iter::once(image));
        }
        moved
    }

    /// Counts what pages have left behind as dead, once the log says that they have gone (N4), or cannot: then a checkpoint has to, before anything is given back.
    pub(crate) fn leave_behind(&self, gone: &[Written], content: &Content) {
        for gone in gone {
            self.log.pool.lower(content.pieces(&gone.copied).iter().copied());
        }
    }

    /// Says in the log that pages have gone to images.
    ///
    /// # Errors
    /// As for any record that makes room.
    pub(crate) fn say_moves(&self, moves: impl Iterator<Item = Move>) -> Result<()> {
        let max = self.log.inline_max().min(moves::RECORD_MAX) as usize;
        for body in moves::encode(moves, max) {
            let lsn = self.log.append(&Frame::bare(Kind::Moves, &body), &body, Urgency::Said)?;
            self.log.has_said(lsn);
        }
        Ok(())
    }

    fn swing(
        &self,
        slot: &Slot<M::PageFrag>,
        copied: &Copied,
        image: Piece,
        going: &mut Going<'_, M::PageFrag>,
        guard: &Guard,
    ) -> bool {
        let Going { content, lot, found } = going;
        let was = content.pieces(copied);
        for _ in 0..TRIES {
            let word = slot.load();
            // SAFETY: loaded just now under `guard`, which is of this store's collector (N2).
            let (newer, chain) = match unsafe { word.see::<M::PageFrag>() } {
                Seen::Resident(chain) => {
                    chain.oldest_first(found);
                    (found.strip_prefix(was), Some(chain))
                }
                Seen::Cold(pieces) => (pieces.strip_prefix(was), None),
                Seen::ColdOne(piece) => ((was == [piece]).then_some(&[][..]), None),
                _ => (None, None),
            };
            let is_planted = planted(Canary::MovedWithoutCompare) && word.holds_data();
            let Some(newer) = newer.or(is_planted.then_some(&[])) else { return false };
            let Some(place) = self.place(content.payload(copied), image, newer, chain) else { return false };
            let (new, weight) = place.to_publish();
            if !slot.swap(word, new) {
                // SAFETY: it was not published.
                unsafe { place.discard() };
                continue;
            }
            if !planted(Canary::MoveNotMarked) {
                self.leaves.touch(copied.id);
            }
            if let Place::Instead(..) = place {
                // SAFETY: loaded under `guard`.
                let old = chain.map_or(0, |chain| chain.weight()) + unsafe { word.list_bytes() };
                self.budget.remove(old);
                if word.owns() {
                    // SAFETY: the swap took it out of the slot.
                    unsafe { lot.push(word, old) };
                }
            }
            self.read(weight, guard);
            return true;
        }
        false
    }

    /// A page at its image, with the records that are newer: in memory where it was used lately, or there is room, or not all of it is stable; else
    /// cold. What has deltas stays as it is, under a marker: what is freed here was allocated by those who link, and allocators do not like that. None where
    /// it would have to be in memory, and user code does not make it.
    fn place(
        &self,
        payload: &[u8],
        image: Piece,
        newer: &[Piece],
        chain: Option<Chain<'_, M::PageFrag>>,
    ) -> Option<Place<M::PageFrag>> {
        let pieces = || {
            let newest_first = newer.iter().rev().copied().chain(std::iter::once(image));
            Pieces::from_newest_first(newer.len() + 1, newest_first)
        };
        let cold = || {
            let pieces = pieces();
            let heap = pieces.heap();
            Place::Instead(Word::cold(pieces), heap)
        };
        let Some(chain) = chain else { return Some(cold()) };
        let is_stable = newer.is_empty() || chain.head().version.0 < self.log.stable().0;
        if is_stable && !chain.head().is_used() && self.budget.fill() != Fill::Fits {
            return Some(cold());
        }
        if chain.head().whole().is_none() && !chain.is_marked() {
            return Some(Place::OnTop(Box::into_raw(Node::marker(chain, pieces()))));
        }
        // User code: where it does not succeed, the page comes back from disk when it is wanted.
        let renewed = catch_unwind(AssertUnwindSafe(|| {
            let frag = match (newer, chain.head().whole()) {
                ([], _) => decode(payload)?,
                (_, Some(page)) => decode(&encode(page)?)?,
                (_, None) => chain.with_frags(None, |frags| self.materializer.merge(frags)),
            };
            let heap = self.materializer.heap_size(&frag);
            Some((frag, heap))
        }));
        let Ok(Some((frag, heap))) = renewed else { return is_stable.then(cold) };
        let mut node = Fresh::base(chain.head().version, frag, heap, pieces());
        node.follow(chain.head());
        let weight = node.weight();
        Some(Place::Instead(Word::resident(node.into_raw()), weight))
    }

    /// A guard of the collector these pages are freed by.
    pub(crate) fn pin(&self) -> Guard {
        match self.collector == *crossbeam_epoch::default_collector() {
            true => crossbeam_epoch::pin(),
            false => self.collector.register().pin(),
        }
    }
}

/// A page's bytes.
fn encode<P: Fragment>(page: &P) -> Option<Vec<u8>> {
    if let Some(bytes) = page.as_bytes() {
        return Some(bytes.to_vec());
    }
    let mut bytes = Vec::new();
    page.encode(&mut bytes).ok()?;
    Some(bytes)
}

fn decode<P: Fragment>(payload: &[u8]) -> Option<P> {
    let mut buf = AlignedBuf::zeroed(payload.len());
    buf.as_mut_slice().copy_from_slice(payload);
    P::decode(PageBytes::new(buf, 0, payload.len())).ok()
}
