//! Reading leaves of the map, each when one of its pages is wanted first: what the leaf says and what the replayed log says become
//! one (D3).

use crate::base::canary::{Canary, planted};
use crate::base::damage::Damage;
use crate::base::error::Result;
use crate::base::ids::{Lsn, PageId};
use crate::format::leaf::{Entry, LeafHead, entries};
use crate::format::page::{PageHead, Payload};
use crate::format::piece::Piece;
use crate::format::record::Kind;
use crate::format::segment::Stream;
use crate::ops::Pages;
use crate::page::materialize::Materializer;
use crate::page::pieces::{Pieces, joined};
use crate::page::slot::{Seen, Slot, Word};
use crate::store::extent::{enter_parts, image_payload};
use crate::store::stream::{self, corrupt};

impl<M: Materializer> Pages<M> {
    /// A slot's word that says all there is to know: where its leaf was not read yet, it is read now.
    ///
    /// # Errors
    /// `Corrupt` where the leaf is damaged, which concerns all its pages; `Io`.
    pub(super) fn look(&self, id: PageId, slot: &Slot<M::PageFrag>) -> Result<Word> {
        let word = slot.load();
        if word.is_resident() {
            return Ok(word);
        }
        if !self.leaves.is_read(id) {
            self.read_leaf(self.leaves.of(id))?;
        }
        // Once more: what was loaded before the leaf was known to be read may be less than it says.
        Ok(slot.load())
    }

    /// Reads a leaf, if it was not read yet.
    ///
    /// # Errors
    /// As [`look`](Self::look), and `NoSpace` for memory.
    pub(crate) fn read_leaf(&self, leaf: u64) -> Result<()> {
        let _reading = self.leaves.reading(leaf);
        if !self.leaves.is_unread(leaf) {
            return Ok(());
        }
        let Some(at) = self.leaves.found(leaf) else { return Ok(()) };
        let mut entries = self.entries(leaf, at.piece)?;
        let range = self.leaves.range(leaf);
        // What the log has said of them since, in its order, before it is looked at what it goes on.
        for said in self.leaves.waiting(leaf) {
            if let Some(Entry::Data(pieces)) = entries.get_mut((said.page.0 - range.start) as usize) {
                said.apply(pieces);
            }
        }
        // Before anything is changed.
        for id in range.clone() {
            self.table.ensure(PageId(id))?;
        }
        for (id, entry) in range.clone().map(PageId).zip(&entries) {
            let (Entry::Data(pieces), Some(slot)) = (entry, self.table.get(id)) else { continue };
            // SAFETY: as in `join`: this thread is the only one at this slot.
            if !matches!(unsafe { slot.load().see::<M::PageFrag>() }, Seen::Absent | Seen::Headless(_)) {
                // The log says all.
                continue;
            }
            pieces.iter().filter(|piece| piece.is_long()).try_for_each(|piece| self.know_parts(id, *piece))?;
        }
        let mut pages = 0;
        for (id, entry) in range.clone().zip(entries) {
            let Some(slot) = self.table.get(PageId(id)) else { continue };
            self.join(slot, entry);
            // SAFETY: as in `join`: this thread is the only one at this slot.
            match unsafe { slot.load().see::<M::PageFrag>() } {
                Seen::Cold(pieces) => self.log.pool.raise(pieces.iter().copied()),
                Seen::ColdOne(piece) => self.log.pool.raise(std::iter::once(piece)),
                _ => continue,
            }
            pages += 1;
        }
        let vacant = |id: &u64| !self.table.get(PageId(*id)).is_some_and(|slot| slot.load().holds_data());
        self.ids.settle(range.filter(vacant), self.leaves.ids() - at.vacant, pages);
        self.leaves.read(leaf);
        Ok(())
    }

    fn entries(&self, leaf: u64, piece: Piece) -> Result<Vec<Entry>> {
        let size = self.log.pool.segment_size();
        let damaged = |what| corrupt(size, piece.address(), what);
        let (segment, _) = self.log.pool.at_address(piece.address()).ok_or_else(|| damaged(Damage::SegmentGone))?;
        let found = stream::read(&segment, piece)?;
        let head = LeafHead::decode(found.body()).filter(|_| found.shape.kind == Kind::Leaf);
        let (_, bytes) = head.filter(|(head, _)| head.number == leaf).ok_or_else(|| damaged(Damage::LeafElse))?;
        entries(bytes, self.leaves.ids()).ok_or_else(|| damaged(Damage::LeafMalformed))
    }

    /// Has it known which segments the parts of a page's record are in, before the accounts are asked.
    fn know_parts(&self, id: PageId, piece: Piece) -> Result<()> {
        if planted(Canary::PartsForgottenInLeaf) {
            return Ok(());
        }
        let read = || -> Result<Option<Payload>> {
            let Some((segment, lsn)) = self.log.pool.at_address(piece.address()) else { return Ok(None) };
            if segment.header.stream == Stream::Log {
                let loaded = self.log.load(lsn, piece.len_max())?;
                return Ok(PageHead::decode(loaded.shape, loaded.body(), loaded.body_at).map(|(_, payload)| payload));
            }
            image_payload(&segment, piece)
        };
        enter_parts(&self.log.pool, id, piece, read())
    }

    /// What a leaf says of an id and what the replayed log says of it, in one word.
    fn join(&self, slot: &Slot<M::PageFrag>, entry: Entry) {
        let word = slot.load();
        // SAFETY: nobody changes this slot but whoever reads its leaf (D3), which is this thread.
        let seen = unsafe { word.see::<M::PageFrag>() };
        let joined = match (seen, entry) {
            // The log goes on what the leaf says.
            (Seen::Headless(newer), Entry::Data(pieces)) => cold(&joined(pieces, newer, |piece| self.lsn(piece))),
            // On a page that the leaf does not have: a damaged log. Whoever reads the page is told.
            (Seen::Headless(newer), Entry::Absent | Entry::Free(_)) => cold(newer),
            (Seen::Absent, Entry::Absent) => return,
            (Seen::Absent, Entry::Free(_)) if planted(Canary::FreedPageInLeaf) => return,
            (Seen::Absent, Entry::Free(version)) => Word::free(version),
            (Seen::Absent, Entry::Data(pieces)) => cold(&pieces),
            (_, Entry::Data(pieces)) if planted(Canary::LeafOverReplay) => cold(&pieces),
            // The log says all: it holds the page from its beginning, or its free.
            _ => return,
        };
        // SAFETY: both are this thread's: nobody follows what an unread leaf's slots own but the thread that reads it.
        let (before, after) = unsafe { (word.list_bytes(), joined.list_bytes()) };
        self.budget.remove(before);
        self.budget.note(after);
        slot.set(joined);
        // SAFETY: just taken out of the slot, and nobody follows what an unread leaf's slots own but the thread that reads it.
        unsafe { word.discard::<M::PageFrag>() };
    }

    /// The LSN of a record in the log; none for one elsewhere.
    pub(super) fn lsn(&self, piece: Piece) -> Option<Lsn> {
        let (segment, lsn) = self.log.pool.at_address(piece.address())?;
        (segment.header.stream == Stream::Log).then_some(lsn)
    }

    /// Reads every leaf of which it is not known how many pages it holds.
    ///
    /// # Errors
    /// As [`read_leaf`](Self::read_leaf).
    pub(crate) fn settle(&self) -> Result<()> {
        for leaf in 0..self.leaves.all_found().len() as u64 {
            if self.leaves.is_unread_and_replayed(leaf) {
                self.read_leaf(leaf)?;
            }
        }
        Ok(())
    }

    /// Reads every leaf that was not read yet: then what is in use is known of every segment.
    ///
    /// # Errors
    /// As [`read_leaf`](Self::read_leaf).
    pub(crate) fn read_all_leaves(&self) -> Result<()> {
        if self.leaves.are_all_read() {
            return Ok(());
        }
        (0..self.leaves.all_found().len() as u64).try_for_each(|leaf| self.read_leaf(leaf))
    }

    /// Whether a page holds data now.
    ///
    /// # Errors
    /// As [`look`](Self::look).
    pub(crate) fn holds_data(&self, id: PageId) -> Result<bool> {
        if !self.leaves.is_read(id) {
            self.read_leaf(self.leaves.of(id))?;
        }
        Ok(self.table.get(id).is_some_and(|slot| slot.load().holds_data()))
    }
}

/// A word of these pieces, oldest first; never none.
fn cold(pieces: &[Piece]) -> Word {
    Word::cold(Pieces::from_newest_first(pieces.len(), pieces.iter().rev().copied()))
}
