//! Changing a page: replace, link and free, in the order of K1.

use crossbeam_epoch::Guard;

use super::encoded::Encoded;
use super::rejected::Rejected;
use super::{Pages, conflict, no_page};
use crate::base::canary::{Canary, planted};
use crate::base::error::{Error, PageState, Result};
use crate::base::ids::{PageId, Version};
use crate::format::page::PageHead;
use crate::format::piece::Piece;
use crate::format::record::{Frame, Kind, Shape};
use crate::log::tail::Urgency;
use crate::page::chain::{Chain, Fresh, Unpublished};
use crate::page::materialize::Materializer;
use crate::page::pieces::Pieces;
use crate::page::slot::{Seen, Slot, Word};
use crate::page::token::token;
use crate::store::in_use::{InUse, Part};

/// What a write does to the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Write {
    Replace,
    Link,
}

/// What a slot allows an update to do.
enum Ground<'g, P> {
    /// The page holds no data, and none was expected.
    Empty,
    /// The page is at the expected version, in memory.
    Chain(Chain<'g, P>),
    /// It is at the expected version, on disk, and nobody needs to read it.
    Cold,
}

/// What an update needs of the page it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    /// Its version alone: so a page whose bytes are damaged can be replaced or freed.
    Version,
    /// Its fragments.
    Content,
}

impl<M: Materializer> Pages<M> {
    /// Replaces a page or links a fragment to it, if it is at `expected`.
    pub(crate) fn write<'g>(
        &'g self,
        id: PageId,
        expected: Version,
        write: Write,
        frag: M::PageFrag,
        guard: &'g Guard,
    ) -> Result<Version, Rejected<'g, M::PageFrag>> {
        let encoded = self.check(guard).and_then(|()| self.encode(&frag));
        let encoded = match encoded {
            Ok(encoded) => encoded,
            Err(error) => return Err(Rejected::Failed { error, rejected: frag }),
        };
        let heap = self.materializer.heap_size(&frag);
        // The version and the place are filled in once they are known.
        let nowhere = Pieces::one(Piece::NONE);
        let node = Fresh::base(Version::NONE, frag, heap, nowhere);
        self.publish(id, expected, write, encoded, node, guard)
            .or_else(|(error, node)| self.reject(id, error, node.into_frag(), guard))
    }

    /// Adds the current page to a conflict.
    fn reject<'g, F>(
        &'g self,
        id: PageId,
        error: Error,
        rejected: F,
        guard: &'g Guard,
    ) -> Result<Version, Rejected<'g, M::PageFrag, F>> {
        if matches!(error, Error::Conflict { .. }) {
            // The page may have come in for nothing.
            self.read(0, guard);
            return match self.get(id, guard) {
                Ok((current, now)) => {
                    Err(Rejected::Conflict { current, token: token(now), rejected, error: conflict(id, now) })
                }
                // Freed since, or its bytes are damaged: that is what the caller has to know.
                Err(error) => Err(Rejected::Failed { error, rejected }),
            };
        }
        Err(Rejected::Failed { error, rejected })
    }

    fn ground<'g>(
        &'g self,
        id: PageId,
        slot: &Slot<M::PageFrag>,
        expected: Version,
        need: Need,
        guard: &'g Guard,
    ) -> Result<(Word, Ground<'g, M::PageFrag>)> {
        let cold = |current: Version| match current == expected {
            true => Ok(Ground::Cold),
            false => Err(conflict(id, current)),
        };
        loop {
            let word = self.look(id, slot)?;
            // SAFETY: loaded just now under `guard`, which is of this store's collector.
            let (word, chain) = match unsafe { word.see() } {
                Seen::Resident(chain) => {
                    chain.head().touch();
                    (word, chain)
                }
                Seen::Cold(pieces) if need == Need::Version => {
                    match self.cold_version(id, slot, word, pieces, Some(expected))? {
                        Some(current) => return Ok((word, cold(current)?)),
                        None => continue,
                    }
                }
                Seen::ColdOne(piece) if need == Need::Version => {
                    match self.cold_version(id, slot, word, &[piece], Some(expected))? {
                        Some(current) => return Ok((word, cold(current)?)),
                        None => continue,
                    }
                }
                // Room is made once the update is through: before, it could be had of this page.
                Seen::Cold(pieces) => match self.page_in(id, slot, word, pieces, guard)? {
                    Some(came) => came,
                    None => continue,
                },
                Seen::ColdOne(piece) => match self.page_in(id, slot, word, &[piece], guard)? {
                    Some(came) => came,
                    None => continue,
                },
                Seen::Empty(_) if expected == Version::NONE => return Ok((word, Ground::Empty)),
                // Not of a leaf that was read.
                Seen::Headless(_) => continue,
                Seen::Empty(_) => return Err(no_page(id, PageState::Empty)),
                Seen::Free(version) => return Err(no_page(id, PageState::Free(version))),
                Seen::Absent => return Err(no_page(id, PageState::Unallocated)),
            };
            let current = chain.head().version;
            return match current == expected || planted(Canary::StaleTokenAccepted) {
                true => Ok((word, Ground::Chain(chain))),
                false => Err(conflict(id, current)),
            };
        }
    }

    /// K1, until it succeeds or the page has moved on. Gives the node back where nothing happened.
    fn publish(
        &self,
        id: PageId,
        expected: Version,
        write: Write,
        mut encoded: Encoded<'_>,
        mut node: Fresh<M::PageFrag>,
        guard: &Guard,
    ) -> Result<Version, (Error, Fresh<M::PageFrag>)> {
        let slot = match self.slot(id) {
            Ok(slot) => slot,
            Err(error) => return Err((error, node)),
        };
        loop {
            let need = if write == Write::Link { Need::Content } else { Need::Version };
            let (word, ground) = match self.ground(id, slot, expected, need, guard) {
                Ok(found) => found,
                Err(error) => return Err((error, node)),
            };
            let below = match (write, &ground) {
                (Write::Link, Ground::Chain(chain)) => Some(*chain),
                _ => None,
            };
            if let Some(chain) = below.filter(|chain| chain.is_scattered()) {
                match self.rewrite(id, slot, word, chain, node.frag(), guard) {
                    Ok(Some(version)) => return Ok(version),
                    Ok(None) => continue,
                    Err(error) => return Err((error, node)),
                }
            }
            // User code: before the ticket (K2).
            let folded = below.filter(|chain| chain.wants_fold()).map(|chain| Unpublished::of(self.merge(chain)));
            let folded = folded.unwrap_or_else(Unpublished::empty);
            let folded_weight = folded.chain().map_or(0, Chain::weight);
            if let Some(below) = folded.chain().or(below) {
                node.put_on(below);
            }
            let kind = if write == Write::Link { Kind::Link } else { Kind::Replace };
            let tag = match &ground {
                Ground::Chain(old) => {
                    node.follow(old.head());
                    None
                }
                Ground::Cold | Ground::Empty => {
                    let tag = self.queues.draw();
                    node.begin(tag);
                    Some(tag)
                }
            };
            // Asked for once: user code may answer differently the next time.
            let payload = encoded.payload(node.frag());
            let mut head = encoded.head(kind, id, expected);
            let frame = Frame::new(encoded.shape(kind), &mut head, payload);
            let ticket = match self.log.draw(&frame, payload, Urgency::Normal) {
                Ok(ticket) => ticket,
                Err(error) => {
                    node.take_off();
                    return Err((error, node));
                }
            };
            let version = Version::from(ticket.lsn());
            let piece = encoded.enter(&self.log, id, &ticket);
            node.logged(version, piece);
            let weight = node.weight() + folded_weight;
            let part = if node.is_base() { Part::Base } else { Part::Delta };
            let record = InUse::of(piece, part);
            let raw = node.into_raw();
            self.log.lives.raise(ticket.lsn(), record);
            if self.install(id, slot, word, Word::resident(raw)) {
                ticket.complete();
                encoded.named();
                let folded = !folded.into_raw().is_null();
                match ground {
                    Ground::Chain(old) if write == Write::Replace || folded => {
                        if write == Write::Replace {
                            self.log.pool.lower(old.each_piece());
                        }
                        self.retire_chain(word, old, guard);
                    }
                    Ground::Cold => self.retire_cold(word, guard),
                    Ground::Chain(_) | Ground::Empty => {}
                }
                if let Some(tag) = tag {
                    self.entered(id, tag, weight, guard);
                }
                self.wrote(weight, guard);
                return Ok(version);
            }
            self.log.lives.unraise(ticket.lsn(), record);
            encoded.leave(&self.log.pool.spans, piece);
            ticket.abort();
            if planted(Canary::FailedSwapTakenForSuccess) {
                return Ok(version);
            }
            // SAFETY: it was not published.
            node = unsafe { Fresh::from_raw(raw) };
            node.take_off();
        }
    }

    /// Links to a page that has too many pieces: the folded page, this fragment included, is written as a replace.
    /// `None` where the slot has moved on.
    fn rewrite(
        &self,
        id: PageId,
        slot: &Slot<M::PageFrag>,
        word: Word,
        chain: Chain<'_, M::PageFrag>,
        frag: &M::PageFrag,
        guard: &Guard,
    ) -> Result<Option<Version>> {
        let merged = chain.with_frags(Some(frag), |frags| self.materializer.merge(frags));
        let heap = self.materializer.heap_size(&merged);
        let mut encoded = self.encode(&merged)?;
        let mut node = Fresh::base(Version::NONE, merged, heap, Pieces::one(Piece::NONE));
        let payload = encoded.payload(node.frag());
        let mut head = encoded.head(Kind::Replace, id, Version::NONE);
        let frame = Frame::new(encoded.shape(Kind::Replace), &mut head, payload);
        let ticket = self.log.draw(&frame, payload, Urgency::Normal)?;
        let version = Version::from(ticket.lsn());
        let piece = encoded.enter(&self.log, id, &ticket);
        node.logged(version, piece);
        node.follow(chain.head());
        let weight = node.weight();
        let raw = node.into_raw();
        let record = InUse::of(piece, Part::Base);
        self.log.lives.raise(ticket.lsn(), record);
        if self.install(id, slot, word, Word::resident(raw)) {
            ticket.complete();
            encoded.named();
            self.log.pool.lower(chain.each_piece());
            self.retire_chain(word, chain, guard);
            self.wrote(weight, guard);
            return Ok(Some(version));
        }
        self.log.lives.unraise(ticket.lsn(), record);
        encoded.leave(&self.log.pool.spans, piece);
        ticket.abort();
        // SAFETY: it was not published.
        drop(unsafe { Fresh::from_raw(raw) });
        Ok(None)
    }

    /// Frees a page, if it is at `expected`. The id comes back once the free is durable.
    pub(crate) fn free<'g>(
        &'g self,
        id: PageId,
        expected: Version,
        guard: &'g Guard,
    ) -> Result<Version, Rejected<'g, M::PageFrag, ()>> {
        self.check(guard)
            .and_then(|()| self.unpublish(id, expected, guard))
            .or_else(|error| self.reject(id, error, (), guard))
    }

    fn unpublish(&self, id: PageId, expected: Version, guard: &Guard) -> Result<Version> {
        let slot = self.slot(id)?;
        loop {
            let (word, ground) = self.ground(id, slot, expected, Need::Version, guard)?;
            let mut head = PageHead { page: id, base: Version::NONE }.encode(Kind::Free);
            let frame = Frame::new(Shape::plain(Kind::Free), &mut head, &[]);
            let ticket = self.log.draw(&frame, &[], Urgency::Urgent)?;
            let version = Version::from(ticket.lsn());
            if self.install(id, slot, word, Word::free(version)) {
                let lsn = ticket.complete();
                match ground {
                    Ground::Chain(old) => {
                        self.log.pool.lower(old.each_piece());
                        self.retire_chain(word, old, guard);
                    }
                    Ground::Cold => self.retire_cold(word, guard),
                    Ground::Empty => {}
                }
                self.ids.give_back(id, lsn);
                return Ok(version);
            }
            ticket.abort();
        }
    }

    /// Publishes an update, and marks its leaf before the update's record completes (D1).
    fn install(&self, id: PageId, slot: &Slot<M::PageFrag>, old: Word, new: Word) -> bool {
        if planted(Canary::DirtyBeforePublish) {
            self.leaves.touch(id);
            return slot.swap(old, new);
        }
        let installed = slot.swap(old, new);
        if installed {
            self.leaves.touch(id);
        }
        installed
    }

    /// Hands what a cold word owns to the epoch, just swapped out with the page it stood for: its records are in use no more.
    fn retire_cold(&self, word: Word, guard: &Guard) {
        // SAFETY: loaded under `guard`, which keeps what it owns though it was swapped out.
        match unsafe { word.see::<M::PageFrag>() } {
            Seen::Cold(pieces) => self.log.pool.lower(pieces.iter().copied()),
            Seen::ColdOne(piece) => self.log.pool.lower(std::iter::once(piece)),
            _ => {}
        }
        // SAFETY: as above.
        let list = unsafe { word.list_bytes() };
        self.budget.remove(list);
        // SAFETY: the swap took the word's list, if it had one, out of the slot.
        unsafe { self.retire(word, list, guard) };
    }

    /// Hands a chain that was just swapped out to the epoch.
    fn retire_chain(&self, word: Word, old: Chain<'_, M::PageFrag>, guard: &Guard) {
        let weight = old.weight();
        self.budget.remove(weight);
        // SAFETY: the swap took it out of its slot, and nothing published goes on below a whole chain's head.
        unsafe { self.retire(word, weight, guard) };
    }
}
