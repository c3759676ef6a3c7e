//! Making room: pages go in the order of two queues (S3-FIFO) until the resident bytes are under the capacity. Evicting does no I/O: a
//! page's records are on disk already, and only stable ones are let go (G4).

use crossbeam_epoch::Guard;

use super::Pages;
use crate::base::canary::{Canary, planted};
use crate::base::ids::PageId;
use crate::log::core::Patience;
use crate::page::budget::{Fill, Look};
use crate::page::chain::Chain;
use crate::page::materialize::Materializer;
use crate::page::queues::{Entry, Search, Tag, Which};
use crate::page::slot::{Seen, Slot, Word};

/// Entries that one thread looks at before it looks at the budget again. Few under shuttle, where there are few pages.
const BATCH: u64 = if cfg!(shuttle) { 2 } else { 64 };

/// Part of the capacity, as a divisor, after which it looks at the budget sooner.
const FREED: u64 = 1024;

/// Pages with unstable updates met before the log is flushed rather than looking further.
const UNSTABLE_MAX: u64 = 256;

/// Entries of each queue that one in eight who enter look at, where most entries mean nothing.
const SWEEP: u64 = if cfg!(shuttle) { 2 } else { 16 };

/// What a search for room has left undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
enum Left {
    Nothing,
    /// The budget does not fit, and there are pages that only a flush makes evictable.
    Unstable,
}

/// What became of an entry.
enum Evicted {
    /// So many bytes went.
    Yes(u64),
    /// Used since the last look, and to be looked at again.
    Kept,
    /// Its updates are not stable yet.
    Unstable,
    /// It meant nothing.
    Gone,
}

impl<M: Materializer> Pages<M> {
    /// Counts bytes that became resident by a write, and makes room where they do not fit: the writer flushes where only
    /// unstable pages are left.
    pub(super) fn wrote(&self, bytes: usize, guard: &Guard) {
        if self.budget.add(bytes) == Look::Now && self.look_for_room(guard) == Left::Unstable {
            // A log that cannot be flushed tells those who ask for durability; here it only means that the pages stay.
            if self.log.flush(Patience::Wait).is_ok() {
                let _ = self.make_room(guard);
            }
        }
    }

    /// The same for a read, which never flushes nor waits: it asks the background to.
    pub(super) fn read(&self, bytes: usize, guard: &Guard) {
        if self.budget.add(bytes) == Look::Now && self.look_for_room(guard) == Left::Unstable {
            self.log.ask_for_flush();
        }
    }

    /// Weighs everything, and evicts where it is too much.
    fn look_for_room(&self, guard: &Guard) -> Left {
        self.weigh();
        self.make_room(guard)
    }

    /// A page became resident by this thread, with this tag (E1). Where most entries are of pages that went by themselves, some of
    /// these are dropped: nobody may ever look for room.
    pub(super) fn entered(&self, id: PageId, tag: Tag, bytes: usize, guard: &Guard) {
        self.queues.enter(id, tag, bytes, guard);
        if tag.is_eighth() && self.queues.are_stale(self.budget.resident()) {
            for which in [Which::Small, Which::Main].into_iter().cycle().take(2 * SWEEP as usize) {
                let Some(entry) = self.queues.pop(which, guard) else { continue };
                if let Some((_, _, chain)) = self.entry(entry, guard) {
                    self.queues.put(which, entry.id(), entry.tag(), chain.weight(), guard);
                }
            }
        }
    }

    /// Evicts until the budget fits.
    fn make_room(&self, guard: &Guard) -> Left {
        let mut search = Search::new(&self.queues, self.budget.resident());
        let mut unstable = 0;
        while self.budget.fill() == Fill::Over {
            let mut freed = 0;
            for _ in 0..BATCH {
                let next = if unstable < UNSTABLE_MAX { search.next(&self.queues, guard) } else { None };
                let Some((which, entry)) = next else {
                    return if unstable > 0 { Left::Unstable } else { Left::Nothing };
                };
                match self.evict(which, entry, &mut search, guard) {
                    Evicted::Yes(bytes) => freed += bytes,
                    Evicted::Unstable => unstable += 1,
                    Evicted::Kept | Evicted::Gone => {}
                }
                if freed > self.budget.capacity() / FREED {
                    break;
                }
            }
        }
        Left::Nothing
    }

    /// What an entry is about, if it still means something.
    #[expect(clippy::type_complexity, reason = "three views of one slot")]
    fn entry<'g>(
        &'g self,
        entry: Entry,
        _guard: &'g Guard,
    ) -> Option<(&'g Slot<M::PageFrag>, Word, Chain<'g, M::PageFrag>)> {
        let slot = self.table.get(entry.id())?;
        let word = slot.load();
        // What else it owns may be another's to change (D3).
        if !word.is_resident() {
            return None;
        }
        // SAFETY: loaded just now under the guard, which is of this store's collector.
        let Seen::Resident(chain) = (unsafe { word.see::<M::PageFrag>() }) else { return None };
        (chain.head().tag() == entry.tag()).then_some((slot, word, chain))
    }

    /// Evicts a page, or puts it back where it is to be found again (E1).
    fn evict(&self, from: Which, entry: Entry, search: &mut Search, guard: &Guard) -> Evicted {
        let Some((slot, word, chain)) = self.entry(entry, guard) else { return Evicted::Gone };
        let weight = chain.weight();
        let back = |to| self.queues.put(to, entry.id(), entry.tag(), weight, guard);
        if chain.head().take_mark() {
            if from == Which::Small {
                search.moved();
            }
            back(Which::Main);
            return Evicted::Kept;
        }
        if chain.head().version.0 >= self.log.stable().0 && !planted(Canary::UnstableEvicted) {
            search.unstable(from);
            back(from);
            return Evicted::Unstable;
        }
        let cold = Word::cold(chain.pieces());
        // SAFETY: it is this thread's until it is published.
        let list = unsafe { cold.list_bytes() };
        if !slot.swap(word, cold) {
            // SAFETY: it was not published.
            unsafe { cold.discard::<M::PageFrag>() };
            // It was changed just now, or it is gone and nobody minds.
            back(from);
            return Evicted::Kept;
        }
        self.budget.remove(weight);
        self.budget.note(list);
        // SAFETY: the swap took the chain out of the slot.
        unsafe { self.retire(word, weight, guard) };
        self.queues.evicted(from, entry.id());
        Evicted::Yes(weight as u64)
    }
}
