//! What updates and reads take out of slots, freed a little at a time by those who took it.
//!
//! A collector has whoever comes by free all that is due. A page is a chain of many nodes, and where a guard was held for a moment hundreds of pages become due
//! at once: that would be one operation's to free. And who comes by is often another thread than the one that allocated them, which allocators are slow with.
//! So the collector only says when a lot is due (H1), and each who retires something frees a little more than that.

use std::cell::Cell;
use std::sync::Arc;

use crossbeam_epoch::Guard;
use crossbeam_utils::CachePadded;

use super::garbage::Garbage;
use super::retired::{Lot, Waiting};
use super::slot::Word;
use crate::base::canary::{Canary, planted};
use crate::base::freed::Freed;
use crate::base::sync::{AtomicU64, Mutex, MutexGuard, Ordering, thread_ordinal};

/// Few under shuttle, for which each look at one is a place to switch threads.
const STRIPES: usize = if cfg!(shuttle) { 2 } else { 16 };

/// Bytes of a lot: so many a thread gathers before it asks the collector.
pub(crate) const LOT: u64 = 8 << 10;

/// What is freed for each that is retired: more than comes, so that what has waited for a guard goes.
const PAID: usize = 2;

thread_local! {
    /// Whether this thread is freeing.
    static PAYS: Cell<bool> = const { Cell::new(false) };
}

/// Lots of threads: each has one that it fills, those that guards may still see, and one of which it frees a little now and then.
#[derive(Debug)]
pub(crate) struct Frees<P> {
    stripes: [CachePadded<Stripe<P>>; STRIPES],
    /// Lots, and what was handed to the collector in place of one.
    garbage: Garbage,
    /// Beyond so many bytes whole lots are freed, also of those who come by no more.
    much: u64,
    /// Whose were looked at last. Relaxed: any will do.
    looked_at: AtomicU64,
}

#[derive(Debug)]
struct Stripe<P> {
    /// Only tried, never waited for: any stripe will do, and the collector is still there.
    own: Mutex<Own<P>>,
    /// Bytes of the lot that is being filled, and how many others there are. As of the last one who had the lock; relaxed, to be looked at.
    filling: AtomicU64,
    others: AtomicU64,
}

#[derive(Debug)]
struct Own<P> {
    filling: Lot<P>,
    waiting: Waiting<P>,
    /// Nobody can see what is in it.
    due: Lot<P>,
}

impl<P: Send + 'static> Frees<P> {
    /// Of a cache of so many bytes.
    pub(crate) fn new(capacity: u64, freed: Arc<Freed>) -> Frees<P> {
        let stripe = || {
            let own = Own { filling: Lot::new(), waiting: Waiting::new(), due: Lot::new() };
            CachePadded::new(Stripe { own: Mutex::new(own), filling: AtomicU64::new(0), others: AtomicU64::new(0) })
        };
        Frees {
            stripes: std::array::from_fn(|_| stripe()),
            garbage: Garbage::new(freed),
            much: capacity / 16,
            looked_at: AtomicU64::new(0),
        }
    }

    /// Bytes taken out of slots and not freed yet.
    pub(crate) fn bytes(&self) -> u64 {
        let filling: u64 = self.stripes.iter().map(|stripe| stripe.filling.load(Ordering::Relaxed)).sum();
        filling + self.garbage.bytes()
    }

    /// Frees what a word owns, which was just taken out of its slot, once nobody can see it; and a little of what nobody sees any more.
    ///
    /// # Safety
    /// It was in a slot of a table of `P`, none names it any more, and nothing else frees what it owns. Who reads that table holds a guard of the collector of
    /// `guard`.
    pub(crate) unsafe fn retire(&self, word: Word, bytes: usize, guard: &Guard) {
        if !word.owns() {
            return;
        }
        if planted(Canary::MissingPin) {
            // SAFETY: none: this is the bug.
            return unsafe { word.discard::<P>() };
        }
        let Some((stripe, mut own)) = self.beginning_at(thread_ordinal() as usize).find_map(Stripe::try_lock) else {
            // SAFETY: the caller's promise.
            unsafe { word.retire::<P>(guard) };
            self.garbage.hand_over(bytes as u64, guard);
            // Nobody else could.
            return guard.flush();
        };
        // SAFETY: the caller's promise.
        unsafe { own.filling.push(word, bytes) };
        let is_full = own.filling.bytes() >= LOT;
        if is_full {
            // SAFETY: the caller's promise, of each word in it.
            unsafe { self.enter(&mut own, guard) };
        }
        // A user's `drop` may change pages, and is not to free others from within.
        let pays = !PAYS.replace(true);
        let mut few = [const { None }; PAID];
        if pays {
            few.fill_with(|| self.due(&mut own));
        }
        let lot = if pays && self.garbage.bytes() > self.much { own.waiting.next() } else { None };
        stripe.note(&own);
        // User code may run from here on: that of `drop`, and what others have given the collector.
        drop(own);
        if pays {
            // SAFETY: H1.
            few.into_iter().flatten().for_each(|word| unsafe { word.discard::<P>() });
            match lot {
                Some(lot) => self.free_lot(lot),
                None if self.garbage.bytes() > self.much => self.free_anothers(),
                None => {}
            }
            PAYS.set(false);
        }
        if is_full {
            guard.flush();
        }
    }

    /// Frees some of what nobody sees any more, whoever retired it: for who comes by without retiring anything. As many lots as there are stripes at most, so that
    /// what a guard was held for is not one operation's to free.
    pub(crate) fn free_some(&self) {
        // As in `retire`.
        if PAYS.replace(true) {
            return;
        }
        (0..STRIPES).for_each(|_| self.free_anothers());
        PAYS.set(false);
    }

    /// Frees everything that nobody sees any more, whoever retired it.
    pub(crate) fn free(&self) {
        for stripe in &self.stripes {
            while let Some((_, mut own)) = stripe.try_lock() {
                let next = own.next();
                stripe.note(&own);
                drop(own);
                let Some(lot) = next else { break };
                self.free_lot(lot);
            }
        }
    }

    /// Has what threads gather become due, too.
    pub(crate) fn enter_all(&self, guard: &Guard) {
        for (stripe, mut own) in self.stripes.iter().filter_map(|stripe| stripe.try_lock()) {
            // SAFETY: `retire` was promised that readers' guards are of this collector.
            unsafe { self.enter(&mut own, guard) };
            stripe.note(&own);
        }
    }

    /// The stripes, from one on.
    fn beginning_at(&self, first: usize) -> impl Iterator<Item = &Stripe<P>> {
        self.stripes.iter().cycle().skip(first % STRIPES).take(STRIPES).map(|stripe| &**stripe)
    }

    /// Frees a lot of a thread that may come by no more.
    fn free_anothers(&self) {
        let first = self.looked_at.fetch_add(1, Ordering::Relaxed) as usize;
        let next = self
            .beginning_at(first)
            .find(|stripe| stripe.others.load(Ordering::Relaxed) > 0)
            .and_then(Stripe::try_lock);
        let Some((stripe, mut own)) = next else { return };
        let next = own.next();
        stripe.note(&own);
        drop(own);
        if let Some(lot) = next {
            self.free_lot(lot);
        }
    }

    /// # Safety
    /// Who reads the table of its words holds a guard of the collector of `guard`.
    unsafe fn enter(&self, own: &mut Own<P>, guard: &Guard) {
        if own.filling.is_empty() {
            return;
        }
        let lot = std::mem::replace(&mut own.filling, Lot::new());
        self.garbage.keep(lot.bytes());
        // SAFETY: the caller's promise.
        unsafe { own.waiting.enter(lot, guard) };
    }

    /// A word that nobody sees any more. Its lot counts until it is empty.
    fn due(&self, own: &mut Own<P>) -> Option<Word> {
        if own.due.is_empty() {
            own.due = own.waiting.next()?;
        }
        let word = own.due.pop();
        if own.due.is_empty() {
            self.garbage.let_go(std::mem::replace(&mut own.due, Lot::new()).bytes());
        }
        word
    }

    fn free_lot(&self, lot: Lot<P>) {
        let bytes = lot.bytes();
        // SAFETY: H1, of every lot that comes here.
        unsafe { lot.free() };
        self.garbage.let_go(bytes);
    }
}

impl<P> Stripe<P> {
    fn try_lock(&self) -> Option<(&Stripe<P>, MutexGuard<'_, Own<P>>)> {
        self.own.try_lock().map(|own| (self, own))
    }

    fn note(&self, own: &Own<P>) {
        self.filling.store(own.filling.bytes(), Ordering::Relaxed);
        self.others.store(own.waiting.len() as u64 + u64::from(!own.due.is_empty()), Ordering::Relaxed);
    }
}

impl<P> Own<P> {
    /// A lot that nobody sees any more: what is left of the one of which a little was freed comes first.
    fn next(&mut self) -> Option<Lot<P>> {
        match self.due.is_empty() {
            true => self.waiting.next(),
            false => Some(std::mem::replace(&mut self.due, Lot::new())),
        }
    }
}

impl<P> Drop for Own<P> {
    fn drop(&mut self) {
        for lot in [&mut self.filling, &mut self.due] {
            // SAFETY: as of those that wait.
            unsafe { std::mem::replace(lot, Lot::new()).free() };
        }
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use std::sync::Weak;

    use crossbeam_epoch::Collector;

    use super::*;
    use crate::base::ids::Version;
    use crate::format::piece::Piece;
    use crate::page::chain::Fresh;
    use crate::page::pieces::Pieces;

    /// A page of which it is counted how often it was dropped.
    type Counted = Arc<()>;

    const BYTES: usize = 1000;

    fn frees(capacity: u64) -> Frees<Counted> {
        Frees::new(capacity, Arc::new(Freed::new()))
    }

    fn retire(frees: &Frees<Counted>, of: &Counted, guard: &Guard) {
        let node = Fresh::base(Version::NONE, Arc::clone(of), BYTES, Pieces::one(Piece::from_word(8)));
        // SAFETY: made for this, in no slot; who reads it holds guards of this collector.
        unsafe { frees.retire(Word::resident(node.into_raw()), BYTES, guard) };
    }

    #[test]
    fn nothing_goes_while_a_guard_may_see_it_and_all_of_it_a_little_at_a_time_afterwards() {
        let (collector, of, frees) = (Collector::new(), Counted::default(), frees(1 << 30));
        let [reader, writer] = [collector.register(), collector.register()];
        let held = reader.pin();
        for nth in 1..=1000 {
            retire(&frees, &of, &writer.pin());
            assert_eq!((Arc::strong_count(&of), frees.bytes()), (1 + nth, (nth * BYTES) as u64));
        }
        drop(held);
        let mut before = Arc::strong_count(&of);
        let mut went = Vec::new();
        for _ in 0..2000 {
            retire(&frees, &of, &writer.pin());
            let now = Arc::strong_count(&of);
            went.push(before + 1 - now);
            before = now;
        }
        assert!(went.iter().all(|went| *went <= PAID), "{went:?}");
        // What is left are lots that are not due yet.
        assert!(before < 100, "{before}");
        assert!(frees.bytes() < 100 * BYTES as u64);
    }

    #[test]
    fn much_goes_in_lots() {
        let (collector, of, frees) = (Collector::new(), Counted::default(), frees(16 * 100 * BYTES as u64));
        let [reader, writer] = [collector.register(), collector.register()];
        let held = reader.pin();
        (0..1000).for_each(|_| retire(&frees, &of, &writer.pin()));
        drop(held);
        (0..200).for_each(|_| retire(&frees, &of, &writer.pin()));
        assert!(frees.bytes() <= 200 * BYTES as u64, "{}", frees.bytes());
    }

    #[test]
    fn who_comes_by_frees_what_other_threads_have_left() {
        let (collector, of, frees) = (Collector::new(), Counted::default(), frees(1 << 30));
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| (0..5).for_each(|_| retire(&frees, &of, &collector.register().pin())));
            }
        });
        assert_eq!(Arc::strong_count(&of), 16);
        let handle = collector.register();
        for _ in 0..10 {
            let guard = handle.pin();
            frees.enter_all(&guard);
            guard.flush();
            frees.free();
        }
        assert_eq!((Arc::strong_count(&of), frees.bytes()), (1, 0));
    }

    /// Class: one operation that frees all that a guard was held for.
    #[test]
    fn who_reads_beside_the_cache_frees_a_few_lots_at_a_time_and_all_of_them_by_and_by() {
        let (collector, of, frees) = (Collector::new(), Counted::default(), frees(1 << 20));
        let [reader, writer] = [collector.register(), collector.register()];
        let held = reader.pin();
        (0..10_000).for_each(|_| retire(&frees, &of, &writer.pin()));
        drop(held);
        let mut before = Arc::strong_count(&of);
        assert_eq!(before, 10_001);
        let a_lot = LOT as usize / BYTES + 1;
        for _ in 0..10_000 / STRIPES {
            writer.pin().flush();
            frees.free_some();
            let now = Arc::strong_count(&of);
            assert!(before - now <= STRIPES * a_lot, "{} at once", before - now);
            before = now;
        }
        // But for the lot that is not full.
        assert!(before <= 1 + a_lot, "{before}");
    }

    #[test]
    fn who_goes_on_frees_what_others_have_left_where_it_is_much() {
        let (collector, of, frees) = (Collector::new(), Counted::default(), frees(16 * 100 * BYTES as u64));
        let [reader, writer] = [collector.register(), collector.register()];
        let held = reader.pin();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let handle = collector.register();
                (0..5000).for_each(|_| retire(&frees, &of, &handle.pin()));
            });
        });
        drop(held);
        assert!(frees.bytes() >= 5_000_000);
        (0..2000).for_each(|_| retire(&frees, &of, &writer.pin()));
        assert!(frees.bytes() <= 200 * BYTES as u64, "{}", frees.bytes());
    }

    /// A page whose `drop` retires another.
    #[derive(Debug)]
    struct Chained(Weak<(Frees<Chained>, Collector)>, u32);

    impl Drop for Chained {
        fn drop(&mut self) {
            if let (Some(all), 1..) = (self.0.upgrade(), self.1) {
                chained(&all, self.1 - 1);
            }
        }
    }

    fn chained(all: &Arc<(Frees<Chained>, Collector)>, left: u32) {
        let page = Chained(Arc::downgrade(all), left);
        let node = Fresh::base(Version::NONE, page, BYTES, Pieces::one(Piece::from_word(8)));
        // SAFETY: made for this, in no slot; who reads it holds guards of this collector.
        unsafe { all.0.retire(Word::resident(node.into_raw()), BYTES, &all.1.register().pin()) };
    }

    /// Class: a stack that is as deep as there is garbage.
    #[test]
    fn a_drop_that_changes_pages_frees_no_others_from_within() {
        let all = Arc::new((Frees::new(1 << 20, Arc::new(Freed::new())), Collector::new()));
        (0..50_000).for_each(|_| chained(&all, 2));
        for _ in 0..10_000 {
            chained(&all, 0);
        }
    }

    #[test]
    fn what_waits_goes_with_the_table() {
        let (collector, of, frees) = (Collector::new(), Counted::default(), frees(1 << 30));
        let handle = collector.register();
        let held = handle.pin();
        (0..100).for_each(|_| retire(&frees, &of, &held));
        assert_eq!(Arc::strong_count(&of), 101);
        drop(frees);
        assert_eq!(Arc::strong_count(&of), 1);
    }
}
