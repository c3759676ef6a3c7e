//! What was taken out of slots, gathered to lots until no guard can see it.
//!
//! - H1. A lot is freed only when something that was deferred after its last word had been taken out of a slot has run: by then every guard that could
//!   see one of them is gone.

use std::collections::VecDeque;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_epoch::Guard;

use super::garbage::Garbage;
use super::slot::Word;
use crate::base::canary::{Canary, planted};
use crate::base::freed::Freed;
use crate::base::sync::Mutex;

/// Words that were taken out of slots. Dropped, it leaves in memory what they own: nobody knows who sees it.
#[derive(Debug)]
pub(crate) struct Lot<P> {
    words: Vec<Word>,
    bytes: u64,
    _pages: PhantomData<P>,
}

// SAFETY: the words own nodes and lists, which are `Send` where `P` is, and no slot names them.
unsafe impl<P: Send> Send for Lot<P> {}

/// Lots that guards may still see, oldest first.
#[derive(Debug)]
pub(super) struct Waiting<P> {
    lots: VecDeque<(Lot<P>, Arc<AtomicBool>)>,
}

/// What moves take out of slots. The background frees it, lot by lot.
#[derive(Debug)]
pub(crate) struct Retired<P> {
    waiting: Mutex<Waiting<P>>,
    garbage: Garbage,
}

impl<P> Lot<P> {
    pub(crate) fn new() -> Lot<P> {
        Lot { words: Vec::new(), bytes: 0, _pages: PhantomData }
    }

    /// Adds a word that was just taken out of its slot, and the bytes of what it owns.
    ///
    /// # Safety
    /// It was in a slot of a table of `P`, none names it any more, and nothing else frees what it owns.
    pub(crate) unsafe fn push(&mut self, word: Word, bytes: usize) {
        self.words.push(word);
        self.bytes += bytes as u64;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// Bytes of all that it ever had.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Takes a word out of it.
    pub(super) fn pop(&mut self) -> Option<Word> {
        self.words.pop()
    }

    /// Frees what the words own.
    ///
    /// # Safety
    /// Nobody can reach any of it.
    pub(super) unsafe fn free(self) {
        // SAFETY: the caller's promise, and that of `push`, word by word.
        self.words.into_iter().for_each(|word| unsafe { word.discard::<P>() });
    }
}

impl<P> Waiting<P> {
    pub(super) fn new() -> Waiting<P> {
        Waiting { lots: VecDeque::new() }
    }

    /// Keeps a lot until no guard can see it. The guard is to be flushed by and by.
    ///
    /// # Safety
    /// Who reads the table of its words holds a guard of the collector of `guard`.
    pub(super) unsafe fn enter(&mut self, lot: Lot<P>, guard: &Guard) {
        let gone = Arc::new(AtomicBool::new(false));
        let says = Arc::clone(&gone);
        self.lots.push_back((lot, gone));
        // Release: whoever sees it frees what was read before by those whose guards this has waited for.
        guard.defer(move || says.store(true, Ordering::Release));
    }

    pub(super) fn len(&self) -> usize {
        self.lots.len()
    }

    /// The oldest lot, where nobody can see it any more (H1).
    pub(super) fn next(&mut self) -> Option<Lot<P>> {
        // Acquire: see `enter`.
        let is_gone = self.lots.front().is_some_and(|(_, gone)| gone.load(Ordering::Acquire));
        let next = if is_gone || planted(Canary::LotFreedEarly) { self.lots.pop_front() } else { None };
        next.map(|(lot, _)| lot)
    }
}

impl<P> Drop for Waiting<P> {
    fn drop(&mut self) {
        for (lot, _) in self.lots.drain(..) {
            // SAFETY: it goes with its table, which nobody can reach any more: nor what was in it, since all who read borrow the table too.
            unsafe { lot.free() };
        }
    }
}

impl<P: Send + 'static> Retired<P> {
    pub(crate) fn new(freed: Arc<Freed>) -> Retired<P> {
        Retired { waiting: Mutex::new(Waiting::new()), garbage: Garbage::new(freed) }
    }

    /// Bytes that wait.
    pub(crate) fn bytes(&self) -> u64 {
        self.garbage.bytes()
    }

    /// Keeps a lot until no guard can see it.
    ///
    /// # Safety
    /// Who reads the table of its words holds a guard of the collector of `guard`.
    pub(crate) unsafe fn enter(&self, lot: Lot<P>, guard: &Guard) {
        self.garbage.keep(lot.bytes());
        // SAFETY: the caller's promise.
        unsafe { self.waiting.lock().enter(lot, guard) };
        guard.flush();
    }

    /// Frees the lots that nobody can see any more, unless another thread is at it.
    pub(crate) fn free(&self) {
        loop {
            let Some(mut waiting) = self.waiting.try_lock() else { return };
            let next = waiting.next();
            drop(waiting);
            let Some(lot) = next else { return };
            let bytes = lot.bytes();
            // SAFETY: H1. User code may run here: the lock is not held.
            unsafe { lot.free() };
            self.garbage.let_go(bytes);
        }
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use crossbeam_epoch::Collector;

    use super::*;
    use crate::base::ids::Version;
    use crate::format::piece::Piece;
    use crate::page::chain::Fresh;
    use crate::page::pieces::Pieces;

    /// A page of which it is counted how often it was dropped.
    type Counted = Arc<()>;

    fn lot(of: &Counted, pages: usize) -> Lot<Counted> {
        let mut lot = Lot::new();
        for _ in 0..pages {
            let node = Fresh::base(Version::NONE, Arc::clone(of), 100, Pieces::one(Piece::from_word(8)));
            let bytes = node.weight();
            // SAFETY: made for this, in no slot.
            unsafe { lot.push(Word::resident(node.into_raw()), bytes) };
        }
        lot
    }

    #[test]
    fn a_lot_goes_when_no_guard_can_see_it_and_never_before() {
        let (collector, of) = (Collector::new(), Counted::default());
        let [reader, mover] = [collector.register(), collector.register()];
        let retired = Retired::new(Arc::new(Freed::new()));
        let held = reader.pin();
        let lot = lot(&of, 10);
        let bytes = lot.bytes();
        assert!(bytes >= 1000);
        // SAFETY: who reads it holds guards of this collector.
        unsafe { retired.enter(lot, &mover.pin()) };
        for _ in 0..100 {
            mover.pin().flush();
            retired.free();
        }
        assert_eq!((retired.bytes(), Arc::strong_count(&of)), (bytes, 11));
        drop(held);
        for _ in 0..100 {
            mover.pin().flush();
            retired.free();
        }
        assert_eq!((retired.bytes(), Arc::strong_count(&of)), (0, 1));
    }

    #[test]
    fn what_waits_goes_with_the_table() {
        let (collector, of) = (Collector::new(), Counted::default());
        let (handle, retired) = (collector.register(), Retired::new(Arc::new(Freed::new())));
        let held = handle.pin();
        // SAFETY: who reads it holds guards of this collector.
        unsafe { retired.enter(lot(&of, 3), &held) };
        assert_eq!(Arc::strong_count(&of), 4);
        drop(retired);
        assert_eq!(Arc::strong_count(&of), 1);
    }
}
