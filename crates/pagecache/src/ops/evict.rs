//! Making room: a clock over the resident pages that keeps their bytes under the capacity. Evicting does no I/O: a page's
//! records are on disk already, and only stable ones are let go (G4).

use crossbeam_epoch::Guard;

use super::Pages;
use crate::base::canary::{Canary, planted};
use crate::base::ids::PageId;
use crate::log::core::Patience;
use crate::page::budget::{Fill, Look};
use crate::page::materialize::Materializer;
use crate::page::slot::{Seen, Slot, Word};

/// Ids that one thread looks at before it looks at the budget again. Few under shuttle, where there are few pages.
const BATCH: u64 = if cfg!(shuttle) { 2 } else { 64 };

/// Pages with unstable updates met before the log is flushed rather than looking further.
const UNSTABLE_MAX: u64 = 256;

/// What a search for room has left undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
enum Left {
    Nothing,
    /// The budget does not fit, and there are pages that only a flush makes evictable.
    Unstable,
}

enum Evicted {
    Yes,
    /// Used since the last look, or not resident.
    No,
    /// Its updates are not stable yet.
    Unstable,
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

    /// Evicts until the budget fits.
    fn make_room(&self, guard: &Guard) -> Left {
        let around = self.ids.high_water().next_multiple_of(BATCH);
        let (mut walked, mut unstable) = (0, 0);
        // Twice around: the first time may only take marks.
        while walked < 2 * around && unstable < UNSTABLE_MAX {
            if self.budget.fill() == Fill::Fits {
                return Left::Nothing;
            }
            let first = self.budget.advance(BATCH, around);
            for id in first..first + BATCH {
                let Some(slot) = self.table.get(PageId(id)) else { continue };
                match self.evict(slot, guard) {
                    Evicted::Unstable => unstable += 1,
                    Evicted::Yes | Evicted::No => {}
                }
            }
            walked += BATCH;
        }
        if unstable > 0 { Left::Unstable } else { Left::Nothing }
    }

    fn evict(&self, slot: &Slot<M::PageFrag>, guard: &Guard) -> Evicted {
        let word = slot.load();
        // What else it owns may be another's to change (D3).
        if !word.is_resident() {
            return Evicted::No;
        }
        // SAFETY: loaded just now under `guard`, which is of this store's collector.
        let Seen::Resident(chain) = (unsafe { word.see::<M::PageFrag>() }) else { return Evicted::No };
        if chain.head().take_mark() {
            return Evicted::No;
        }
        if chain.head().version.0 >= self.log.stable().0 && !planted(Canary::UnstableEvicted) {
            return Evicted::Unstable;
        }
        let weight = chain.weight();
        let cold = Word::cold(chain.pieces());
        // SAFETY: it is this thread's until it is published.
        let list = unsafe { cold.list_bytes() };
        if !slot.swap(word, cold) {
            // SAFETY: it was not published.
            unsafe { cold.discard::<M::PageFrag>() };
            return Evicted::No;
        }
        self.budget.remove(weight);
        self.budget.note(list);
        // SAFETY: the swap took the chain out of the slot.
        unsafe { word.retire::<M::PageFrag>(guard) };
        self.count_garbage(weight, guard);
        Evicted::Yes
    }
}
