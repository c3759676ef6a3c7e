//! Open slots: who has drawn an LSN and not yet completed it; together with the tail, the prefix that is whole.
//!
//! One word a slot, a value with three states: free, a bound (the LSN of the reservation is at or above it), and a bound
//! that somebody sleeps on. A slot is claimed before its owner draws and freed when the bytes are in the ring.
//!
//! - O1. A slot's bound is set before its owner draws, so whoever sees the draw in the tail sees the bound.
//! - O2. Freeing is a release, so whoever sees the slot free (or claimed again) sees the bytes.
//! - O3. A sleeper first swaps the awaited bound for the same bound with `AWAITED`. It fails where the slot moved on;
//!   where it succeeds the freeing swap returns the flag and wakes. There is no window in between (L6).

use std::cell::Cell;

use crossbeam_utils::CachePadded;

use crate::base::canary::{Canary, planted};
use crate::base::ids::Lsn;
use crate::base::sync::{AtomicPtr, AtomicU64, Condvar, Mutex, Ordering, thread_ordinal};

/// Slots of one chunk; when all are taken, a chunk is added. Few under loom and shuttle, so that chunks are added there.
const SLOTS: usize = if cfg!(any(loom, shuttle)) { 2 } else { 64 };

const FREE: u64 = u64::MAX;
const AWAITED: u64 = 1;

#[derive(Debug)]
struct Slot {
    word: AtomicU64,
    /// The thread that owns the reservation, 0 when free. Cleared before the word is freed, so a stale name is never seen
    /// together with a newer bound.
    owner: AtomicU64,
    /// When a long-held reservation was made, in the facade's milliseconds.
    since: AtomicU64,
    /// Payload bytes of all reservations that had this slot: a count without a line that all threads share.
    given: AtomicU64,
}

#[derive(Debug)]
struct Chunk {
    slots: [CachePadded<Slot>; SLOTS],
    next: AtomicPtr<Chunk>,
}

impl Chunk {
    fn new() -> Chunk {
        let slot = || Slot {
            word: AtomicU64::new(FREE),
            owner: AtomicU64::new(0),
            since: AtomicU64::new(0),
            given: AtomicU64::new(0),
        };
        let slots = std::array::from_fn(|_| CachePadded::new(slot()));
        Chunk { slots, next: AtomicPtr::new(std::ptr::null_mut()) }
    }
}

/// All open slots of a log.
#[derive(Debug)]
pub(crate) struct OpenSlots {
    first: Chunk,
    closed: Mutex<()>,
    wake: Condvar,
}

thread_local! {
    /// Slots that this thread holds for long, of whatever log; one that was forgotten counts for ever. Who holds none need not
    /// look for its own among all.
    static HELD: Cell<usize> = const { Cell::new(0) };
}

/// A claimed slot. Dropping it frees the slot and wakes who sleeps on it.
#[derive(Debug)]
pub(crate) struct Open<'a> {
    slot: &'a Slot,
    slots: &'a OpenSlots,
    held: Cell<bool>,
}

/// An open slot as seen from outside.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen<'a> {
    slot: &'a Slot,
    word: u64,
}

impl OpenSlots {
    pub(crate) fn new() -> OpenSlots {
        OpenSlots { first: Chunk::new(), closed: Mutex::new(()), wake: Condvar::new() }
    }

    /// Claims a slot with a bound at or below the LSN that will be drawn.
    pub(crate) fn claim(&self, bound: Lsn) -> Open<'_> {
        let me = thread_ordinal();
        let mut chunk = &self.first;
        loop {
            for turn in 0..SLOTS {
                let at = (me as usize).wrapping_add(turn) % SLOTS;
                let Some(slot) = chunk.slots.get(at) else { continue };
                // Relaxed look first, so that a taken slot's line is not bounced.
                if slot.word.load(Ordering::Relaxed) != FREE {
                    continue;
                }
                // Acquire: the last owner's cleared name and count come before ours. Its bytes stay visible through us
                // without a release of our own (O2): a read-modify-write of any order continues its release sequence. And
                // there is nothing of ours to release: whoever is in order with our draw is in order with this.
                let claimed = slot.word.compare_exchange(FREE, bound.0, Ordering::Acquire, Ordering::Relaxed);
                if claimed.is_ok() {
                    // Relaxed: only this thread compares it with its own name.
                    slot.owner.store(me, Ordering::Relaxed);
                    return Open { slot, slots: self, held: Cell::new(false) };
                }
            }
            chunk = Self::next_or_add(chunk);
        }
    }

    /// The chunk after this one. Release publishes a new chunk's slots; Acquire sees them.
    fn next_or_add(chunk: &Chunk) -> &Chunk {
        let mut next = chunk.next.load(Ordering::Acquire);
        if next.is_null() {
            let fresh = Box::into_raw(Box::new(Chunk::new()));
            next = match chunk.next.compare_exchange(next, fresh, Ordering::Release, Ordering::Acquire) {
                Ok(_) => fresh,
                Err(found) => {
                    // SAFETY: `fresh` came from `Box::into_raw` above and was never shared.
                    drop(unsafe { Box::from_raw(fresh) });
                    found
                }
            };
        }
        // SAFETY: a chunk that was linked is freed only when the whole list is dropped, which outlives `chunk`.
        unsafe { &*next }
    }

    fn each<'a>(&'a self, mut visit: impl FnMut(Seen<'a>)) {
        self.each_slot(|slot| {
            // Acquire pairs with the release that freed or claimed it (O1, O2).
            let word = slot.word.load(Ordering::Acquire);
            if word != FREE {
                visit(Seen { slot, word });
            }
        });
    }

    fn each_slot<'a>(&'a self, mut visit: impl FnMut(&'a Slot)) {
        let mut chunk = Some(&self.first);
        while let Some(now) = chunk {
            for slot in &now.slots {
                visit(slot);
            }
            let next = now.next.load(Ordering::Acquire);
            // SAFETY: as in `next_or_add`; null is `None`.
            chunk = unsafe { next.as_ref() };
        }
    }

    /// The open slot with the lowest bound.
    pub(crate) fn oldest(&self) -> Option<Seen<'_>> {
        let mut oldest: Option<Seen<'_>> = None;
        self.each(|seen| {
            if oldest.is_none_or(|old| seen.bound() < old.bound()) {
                oldest = Some(seen);
            }
        });
        oldest
    }

    /// The lowest bound of this thread's own open slots that it holds for long; others are closed before it asks.
    pub(crate) fn own_oldest(&self) -> Option<Lsn> {
        if HELD.get() == 0 {
            return None;
        }
        let me = thread_ordinal();
        let mut oldest: Option<Lsn> = None;
        self.each(|seen| {
            // Relaxed: a thread always sees its own name, and O1's acquire rules out a stale one.
            if seen.slot.owner.load(Ordering::Relaxed) == me && oldest.is_none_or(|old| seen.bound() < old) {
                oldest = Some(seen.bound());
            }
        });
        oldest
    }

    /// Payload bytes of all reservations so far.
    pub(crate) fn given(&self) -> u64 {
        let mut sum = 0;
        self.each_slot(|slot| sum += slot.given.load(Ordering::Relaxed));
        sum
    }

    /// Sleeps until this slot has moved on, or `stop` says so after a wake-up (see [`wake_all`](Self::wake_all)).
    pub(crate) fn wait(&self, seen: Seen<'_>, stop: impl Fn() -> bool) {
        let awaited = seen.word | AWAITED;
        if planted(Canary::LostWakeup) {
            let guard = self.closed.lock();
            drop(self.wake.wait(guard));
            return;
        }
        // Relaxed: only the word itself matters here; the caller reads the slot again with acquire (O3).
        let marked = seen.word == awaited
            || seen.slot.word.compare_exchange(seen.word, awaited, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if !marked {
            return;
        }
        let mut guard = self.closed.lock();
        while seen.slot.word.load(Ordering::Relaxed) == awaited && !stop() {
            guard = self.wake.wait(guard);
        }
    }

    /// Lets every sleeper look around: the log closes or has failed.
    pub(crate) fn wake_all(&self) {
        drop(self.closed.lock());
        self.wake.notify_all();
    }
}

impl Drop for OpenSlots {
    fn drop(&mut self) {
        // Relaxed: exclusive access.
        let mut next = self.first.next.load(Ordering::Relaxed);
        while !next.is_null() {
            // SAFETY: each linked chunk came from `Box::into_raw` and is dropped once, here.
            let chunk = unsafe { Box::from_raw(next) };
            next = chunk.next.load(Ordering::Relaxed);
        }
    }
}

impl Open<'_> {
    /// Counts the payload of this reservation. Relaxed and not a read-modify-write: the slot is this thread's for now, and a
    /// later owner acquires the slot's word first.
    pub(crate) fn count(&self, bytes: u64) {
        let given = self.slot.given.load(Ordering::Relaxed);
        self.slot.given.store(given.wrapping_add(bytes), Ordering::Relaxed);
    }

    /// Raises the bound of a reservation that will be held for long to its very LSN, and notes when it was made.
    pub(crate) fn raise(&self, lsn: Lsn, since: u64) {
        if !self.held.replace(true) {
            HELD.set(HELD.get() + 1);
        }
        self.slot.since.store(since, Ordering::Relaxed);
        // Relaxed: a look; the CAS decides and keeps a sleeper's flag.
        let mut word = self.slot.word.load(Ordering::Relaxed);
        // Release: the pad that this reservation left at a segment's end lies below the higher bound, so it comes before.
        // No acquire: what others leave in the word is a flag.
        while let Err(found) =
            self.slot.word.compare_exchange(word, lsn.0 | (word & AWAITED), Ordering::Release, Ordering::Relaxed)
        {
            word = found;
        }
        if word & AWAITED != 0 && word & !AWAITED != lsn.0 {
            self.slots.wake_all();
        }
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        if self.held.get() {
            HELD.set(HELD.get().saturating_sub(1));
        }
        self.slot.owner.store(0, Ordering::Relaxed);
        // Release: the bytes in the ring and the cleared name come before (O2). No acquire: the lock in `wake_all` puts us
        // in order with the sleeper.
        let word = self.slot.word.swap(FREE, Ordering::Release);
        if word & AWAITED != 0 {
            self.slots.wake_all();
        }
    }
}

impl Seen<'_> {
    /// A lower bound of the reservation's LSN, itself a record boundary.
    pub(crate) fn bound(&self) -> Lsn {
        Lsn(self.word & !AWAITED)
    }

    /// When it was made, where it is held for long, in the facade's milliseconds.
    pub(crate) fn since(&self) -> u64 {
        self.slot.since.load(Ordering::Relaxed)
    }

    pub(crate) fn is_own(&self) -> bool {
        self.slot.owner.load(Ordering::Relaxed) == thread_ordinal()
    }
}
