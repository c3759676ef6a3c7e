//! What cleaning takes out of slots, freed by the background again. The collector has whoever pins a guard free what is due: of a turn's
//! pages, which are chains of many nodes, that would be the users' threads, hundreds of chains within one operation.
//!
//! - H1. A lot is freed only when something that was deferred after its last word had been taken out of a slot has run: by then every guard that could
//!   see one of them is gone.

use std::collections::VecDeque;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_epoch::Guard;

use super::slot::Word;
use crate::base::canary::{Canary, planted};
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
pub(crate) struct Retired<P> {
    lots: Mutex<VecDeque<(Lot<P>, Arc<AtomicBool>)>>,
}

impl<P> Lot<P> {
    pub(crate) fn new() -> Lot<P> {
        Lot { words: Vec::new(), bytes: 0, _pages: PhantomData }
    }

    /// Adds a word that was just taken out of its slot, and the bytes of its chain, if it has one.
    ///
    /// # Safety
    /// It was in a slot of a table of `P`, none names it any more, and nothing else frees what it owns.
    pub(crate) unsafe fn push(&mut self, word: Word, bytes: usize) {
        self.words.push(word);
        self.bytes += bytes as u64;
    }

    /// Bytes of chains.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Frees what the words own.
    ///
    /// # Safety
    /// Nobody can reach any of it.
    unsafe fn free(self) {
        // SAFETY: the caller's promise, and that of `push`, word by word.
        self.words.into_iter().for_each(|word| unsafe { word.discard::<P>() });
    }
}

impl<P: Send + 'static> Retired<P> {
    pub(crate) fn new() -> Retired<P> {
        Retired { lots: Mutex::new(VecDeque::new()) }
    }

    /// Keeps a lot until no guard can see it.
    ///
    /// # Safety
    /// Who reads the table of its words holds a guard of the collector of `guard`.
    pub(crate) unsafe fn enter(&self, lot: Lot<P>, guard: &Guard) {
        let gone = Arc::new(AtomicBool::new(false));
        let says = Arc::clone(&gone);
        self.lots.lock().push_back((lot, gone));
        // Release: whoever sees it frees what was read before by those whose guards this has waited for.
        guard.defer(move || says.store(true, Ordering::Release));
        guard.flush();
    }

    /// Frees the lots that nobody can see any more, unless another thread is at it. Bytes of chains that went.
    pub(crate) fn free(&self) -> u64 {
        let mut freed = 0;
        loop {
            let Some(mut lots) = self.lots.try_lock() else { return freed };
            // Acquire: see `enter`.
            let is_gone = lots.front().is_some_and(|(_, gone)| gone.load(Ordering::Acquire));
            let next = if is_gone || planted(Canary::LotFreedEarly) { lots.pop_front() } else { None };
            drop(lots);
            let Some((lot, _)) = next else { return freed };
            freed += lot.bytes;
            // SAFETY: the promise of `enter`, and H1. User code may run here: the lock is not held.
            unsafe { lot.free() };
        }
    }
}

impl<P> Drop for Retired<P> {
    fn drop(&mut self) {
        for (lot, _) in self.lots.lock().drain(..) {
            // SAFETY: it goes with its table, which nobody can reach any more: nor what was in it, since all who read borrow the table too.
            unsafe { lot.free() };
        }
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use crossbeam_epoch::Collector;

    use super::*;
    use crate::base::ids::Version;
    use crate::format::piece::Piece;
    use crate::page::chain::Node;
    use crate::page::pieces::Pieces;

    /// A page of which it is counted how often it was dropped.
    type Counted = Arc<()>;

    fn lot(of: &Counted, pages: usize) -> Lot<Counted> {
        let mut lot = Lot::new();
        for _ in 0..pages {
            let node = Node::base(Version::NONE, Arc::clone(of), 100, Pieces::one(Piece::from_word(8)));
            let bytes = node.weight();
            // SAFETY: made for this, in no slot.
            unsafe { lot.push(Word::resident(Box::into_raw(node)), bytes) };
        }
        lot
    }

    #[test]
    fn a_lot_goes_when_no_guard_can_see_it_and_never_before() {
        let (collector, of) = (Collector::new(), Counted::default());
        let [reader, mover] = [collector.register(), collector.register()];
        let retired = Retired::new();
        let held = reader.pin();
        let lot = lot(&of, 10);
        let bytes = lot.bytes();
        assert!(bytes >= 1000);
        // SAFETY: who reads it holds guards of this collector.
        unsafe { retired.enter(lot, &mover.pin()) };
        for _ in 0..100 {
            mover.pin().flush();
            assert_eq!(retired.free(), 0);
        }
        assert_eq!(Arc::strong_count(&of), 11);
        drop(held);
        let mut freed = 0;
        for _ in 0..100 {
            mover.pin().flush();
            freed += retired.free();
        }
        assert_eq!((freed, Arc::strong_count(&of)), (bytes, 1));
    }

    #[test]
    fn what_waits_goes_with_the_table() {
        let (collector, of) = (Collector::new(), Counted::default());
        let (handle, retired) = (collector.register(), Retired::new());
        let held = handle.pin();
        // SAFETY: who reads it holds guards of this collector.
        unsafe { retired.enter(lot(&of, 3), &held) };
        assert_eq!(Arc::strong_count(&of), 4);
        drop(retired);
        assert_eq!(Arc::strong_count(&of), 1);
    }
}
