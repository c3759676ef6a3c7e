//! Reading a page: from its chain, folded at most once, paged in where it is cold.

use std::convert::Infallible;

use crossbeam_epoch::Guard;

use super::{Pages, no_page};
use crate::base::error::{Error, PageState, Result};
use crate::base::ids::{PageId, Version};
use crate::format::page::ImageHead;
use crate::format::piece::Piece;
use crate::format::segment::Stream;
use crate::page::chain::{Chain, Fresh};
use crate::page::materialize::Materializer;
use crate::page::page_ref::{Fragments, PageRef};
use crate::page::slot::{Seen, Slot, Word};
use crate::store::segment::Segment;
use crate::store::stream;

/// A page that was looked for.
enum Found<'g, P, A> {
    Resident((&'g Slot<P>, Word, Chain<'g, P>)),
    Aside(A),
}

impl<M: Materializer> Pages<M> {
    /// The page, merged, and its version.
    ///
    /// # Errors
    /// `NoPage`, `ForeignGuard`, `Corrupt`, `Decode`, `Io`.
    pub(crate) fn get<'g>(&'g self, id: PageId, guard: &'g Guard) -> Result<(PageRef<'g, M::PageFrag>, Version)> {
        self.check(guard)?;
        // What comes in would drive something out, which guards keep.
        let aside = |slot: &_, word, pieces: &[Piece]| match self.budget.gains_by_evicting(self.frees.bytes()) {
            true => Ok(None),
            false => {
                // Nobody may retire anything meanwhile, and free on the way what has become free.
                guard.flush();
                self.frees.free_some();
                self.read_through(id, slot, word, pieces)
            }
        };
        let (slot, word, chain) = match self.find(id, guard, aside)? {
            Found::Resident(found) => found,
            Found::Aside((page, version)) => return Ok((PageRef::owned(page), version)),
        };
        let head = chain.head();
        if let Some(page) = head.whole() {
            return Ok((PageRef::resident(page), head.version));
        }
        Ok((self.fold(slot, word, chain, guard), head.version))
    }

    /// The page's fragments as they are.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub(crate) fn fragments<'g>(
        &'g self,
        id: PageId,
        guard: &'g Guard,
    ) -> Result<(Fragments<'g, M::PageFrag>, Version)> {
        self.check(guard)?;
        let Found::Resident((_, _, chain)) = self.find(id, guard, |_, _, _| Ok(None::<Infallible>))?;
        Ok((Fragments::new(chain), chain.head().version))
    }

    /// A page's chain. One that is cold may be had `aside` of the cache, for the caller alone; else it is paged in.
    fn find<'g, A>(
        &'g self,
        id: PageId,
        guard: &'g Guard,
        aside: impl Fn(&'g Slot<M::PageFrag>, Word, &[Piece]) -> Result<Option<A>>,
    ) -> Result<Found<'g, M::PageFrag, A>> {
        let slot = self.slot(id)?;
        loop {
            let word = self.look(id, slot)?;
            let one;
            // SAFETY: loaded just now under `guard`, which is of this store's collector.
            let pieces = match unsafe { word.see() } {
                Seen::Resident(chain) => {
                    chain.head().touch();
                    return Ok(Found::Resident((slot, word, chain)));
                }
                Seen::Cold(pieces) => pieces,
                Seen::ColdOne(piece) => {
                    one = [piece];
                    &one
                }
                Seen::Absent => return Err(no_page(id, PageState::Unallocated)),
                Seen::Free(version) => return Err(no_page(id, PageState::Free(version))),
                Seen::Empty(_) => return Err(no_page(id, PageState::Empty)),
                // Not of a leaf that was read.
                Seen::Headless(_) => continue,
            };
            if let Some(page) = aside(slot, word, pieces)? {
                return Ok(Found::Aside(page));
            }
            if let Some((word, chain)) = self.page_in(id, slot, word, pieces, guard)? {
                // The guard keeps the chain, though it may be the first to go.
                self.read(0, guard);
                return Ok(Found::Resident((slot, word, chain)));
            }
        }
    }

    /// Merges a chain and publishes the result in its place, so that the next read is one pointer. Where the slot has moved
    /// on, the caller keeps the merged page for itself.
    fn fold<'g>(
        &'g self,
        slot: &Slot<M::PageFrag>,
        word: Word,
        chain: Chain<'g, M::PageFrag>,
        guard: &'g Guard,
    ) -> PageRef<'g, M::PageFrag> {
        let folded = self.merge(chain);
        let added = folded.weight();
        let raw = folded.into_raw();
        if !slot.swap(word, Word::resident(raw)) {
            // SAFETY: it was not published, so this thread is its owner still.
            let folded = unsafe { Fresh::from_raw(raw) };
            return PageRef::owned(folded.into_frag());
        }
        let old = chain.weight();
        self.budget.remove(old);
        // SAFETY: the swap took the chain out of the slot, its only place.
        unsafe { self.retire(word, old, guard) };
        self.read(added, guard);
        // SAFETY: published; `guard` was pinned before that and keeps it even if it is retired at once.
        PageRef::resident(unsafe { Fresh::published(raw) })
    }

    /// A chain in one node, of the same version and the same pieces. User code runs here: nothing is held.
    pub(super) fn merge(&self, chain: Chain<'_, M::PageFrag>) -> Fresh<M::PageFrag> {
        let merged = chain.with_frags(None, |frags| self.materializer.merge(frags));
        let heap = self.materializer.heap_size(&merged);
        let mut node = Fresh::base(chain.head().version, merged, heap, chain.pieces());
        node.follow(chain.head());
        node
    }

    /// What a page is now. A cold page is not read, but for one that is an image alone.
    pub(crate) fn state(&self, id: PageId, guard: &Guard) -> Result<PageState> {
        self.check(guard)?;
        let slot = match self.slot(id) {
            Err(Error::NoPage { state, .. }) => return Ok(state),
            found => found?,
        };
        loop {
            let word = self.look(id, slot)?;
            // SAFETY: loaded just now under `guard`, which is of this store's collector.
            let version = match unsafe { word.see::<M::PageFrag>() } {
                Seen::Resident(chain) => Some(chain.head().version),
                Seen::Cold(pieces) => self.cold_version(id, slot, word, pieces, None)?,
                Seen::ColdOne(piece) => self.cold_version(id, slot, word, &[piece], None)?,
                Seen::Free(version) => return Ok(PageState::Free(version)),
                Seen::Empty(_) => return Ok(PageState::Empty),
                // Not of a leaf that was read.
                Seen::Absent | Seen::Headless(_) => return Ok(PageState::Unallocated),
            };
            if let Some(version) = version {
                return Ok(PageState::Live(version));
            }
        }
    }

    /// The version of a cold page: where its newest record is in the log says when it was written. An image has to be read for it: its head where that
    /// says `expected`, which nobody has to be told then, else all of it, so that it is checked. None where the page has moved meanwhile, and its record
    /// cannot be found any more. `word` was loaded under a guard that is held.
    ///
    /// # Errors
    /// `Corrupt` and `Io`, for an image.
    pub(super) fn cold_version(
        &self,
        id: PageId,
        slot: &Slot<M::PageFrag>,
        word: Word,
        pieces: &[Piece],
        expected: Option<Version>,
    ) -> Result<Option<Version>> {
        let Some(newest) = pieces.last() else { return Ok(Some(Version::NONE)) };
        match self.log.pool.at_address(newest.address()) {
            Some((segment, lsn)) if segment.header.stream == Stream::Log => Ok(Some(lsn.into())),
            Some((segment, _)) if expected.is_some_and(|expected| self.says(&segment, *newest, id, expected)) => {
                Ok(expected)
            }
            _ => match self.image_version(id, *newest) {
                Ok(version) => Ok(Some(version)),
                // What was to be read may have been given back (S1).
                Err(_) if slot.load() != word => Ok(None),
                Err(error) => Err(error),
            },
        }
    }

    /// Whether an image's head says that it is of this page as of this version. Its checksum is not looked at.
    fn says(&self, segment: &Segment, image: Piece, id: PageId, version: Version) -> bool {
        let head = stream::look(segment, image, ImageHead::decode_front);
        matches!(head, Ok(Some((head, _))) if head == ImageHead { page: id, version })
    }

    /// The slot of a page. There is none in memory for ids that were never handed out, nor for those of leaves that were not read
    /// yet.
    pub(super) fn slot(&self, id: PageId) -> Result<&Slot<M::PageFrag>> {
        if let Some(slot) = self.table.get(id) {
            return Ok(slot);
        }
        if !self.leaves.is_read(id) {
            self.read_leaf(self.leaves.of(id))?;
        }
        self.table.get(id).ok_or(no_page(id, PageState::Unallocated))
    }
}
