//! Page ids: fresh ones, and freed ones that wait until their free is durable: only then are they used again.

use std::collections::VecDeque;
use std::ops::Range;
use std::ptr;

use crate::base::canary::{Canary, planted};
use crate::base::ids::{Lsn, PageId};
use crate::base::sync::{AtomicPtr, AtomicU64, Mutex, Ordering};

#[derive(Debug)]
pub(crate) struct Ids {
    /// The lowest id that was never handed out.
    next: AtomicU64,
    /// The same at the start: what is unused below is said by the start, or by leaves of the map that are read later.
    known: u64,
    /// Pages that are allocated: empty ones and those with data.
    allocated: AtomicU64,
    /// Freed ids, pushed by anyone, taken as a whole by whoever allocates: so no id can be taken twice.
    freed: AtomicPtr<Freed>,
    /// Ids to be taken again. Only tried: whoever finds it locked takes a fresh id.
    waiting: Mutex<Waiting>,
    /// Ids in the list of the freed. Relaxed: a counter.
    listed: AtomicU64,
    /// Bytes of what waits, as of the last one who had the lock. Relaxed: a number to be looked at.
    held: AtomicU64,
}

/// Lists of fewer entries than this keep their room.
const ROOM_KEPT: usize = 64;

#[derive(Debug)]
struct Waiting {
    /// Ids that were free or unused at the start, in runs, rising.
    unused: VecDeque<Range<u64>>,
    /// Ids freed since, in about the order of their frees.
    freed: VecDeque<(PageId, Lsn)>,
}

impl Waiting {
    fn unused(&mut self) -> Option<PageId> {
        let run = self.unused.front_mut()?;
        let id = run.next().map(PageId);
        if run.is_empty() {
            self.unused.pop_front();
            give_up_room(&mut self.unused);
        }
        id
    }

    /// Bytes of memory.
    fn bytes(&self) -> u64 {
        let [unused, freed] = [size_of::<Range<u64>>(), size_of::<(PageId, Lsn)>()];
        (self.unused.capacity() * unused + self.freed.capacity() * freed) as u64
    }
}

/// Gives up half of a list's room where not even a quarter is in use: so each entry moves a few times at most.
fn give_up_room<T>(list: &mut VecDeque<T>) {
    let room = list.capacity();
    if room > ROOM_KEPT && list.len() < room / 4 {
        list.shrink_to(room / 2);
    }
}

#[derive(Debug)]
struct Freed {
    id: PageId,
    at: Lsn,
    next: *mut Freed,
    /// Touched when the node is written and when it is read: plain memory is nothing that loom watches.
    #[cfg(loom)]
    watched: crate::base::sync::UnsafeCell<()>,
}

impl Ids {
    /// Ids below `next` that are not in the runs of `unused`, none of which is empty, are in use, or it is not known yet whether they
    /// are. So many are `allocated`.
    pub(crate) fn new(next: u64, unused: VecDeque<Range<u64>>, allocated: u64) -> Ids {
        let waiting = Waiting { unused, freed: VecDeque::new() };
        Ids {
            next: AtomicU64::new(next),
            known: next,
            allocated: AtomicU64::new(allocated),
            freed: AtomicPtr::new(ptr::null_mut()),
            held: AtomicU64::new(waiting.bytes()),
            waiting: Mutex::new(waiting),
            listed: AtomicU64::new(0),
        }
    }

    /// An id that was used before, or passed over; its free, if it had one, is below `stable`.
    pub(crate) fn reuse(&self, stable: Lsn) -> Option<PageId> {
        let id = self.waiting(stable)?;
        // Relaxed: a counter.
        self.allocated.fetch_add(1, Ordering::Relaxed);
        Some(id)
    }

    fn waiting(&self, stable: Lsn) -> Option<PageId> {
        let mut waiting = self.waiting.try_lock()?;
        let before = waiting.bytes();
        let id = waiting.unused().or_else(|| self.freed(&mut waiting.freed, stable));
        self.note(&waiting, before);
        id
    }

    fn freed(&self, freed: &mut VecDeque<(PageId, Lsn)>, stable: Lsn) -> Option<PageId> {
        self.collect(freed);
        let durable = |at: Lsn| at < stable || planted(Canary::IdReusedBeforeFreeStable);
        freed.front().filter(|(_, at)| durable(*at))?;
        let id = freed.pop_front().map(|(id, _)| id);
        give_up_room(freed);
        id
    }

    /// Takes note of what waits, where it is not what it was.
    fn note(&self, waiting: &Waiting, before: u64) {
        if waiting.bytes() != before {
            self.held.store(waiting.bytes(), Ordering::Relaxed);
        }
    }

    /// An id that was never handed out.
    pub(crate) fn fresh(&self) -> PageId {
        // Relaxed: counters.
        self.allocated.fetch_add(1, Ordering::Relaxed);
        PageId(self.next.fetch_add(1, Ordering::Relaxed))
    }

    /// Takes note of a leaf that was read: its unused ids, rising, and that it holds `pages` where `assumed` were counted.
    pub(crate) fn settle(&self, unused: impl Iterator<Item = u64>, assumed: u64, pages: u64) {
        // Relaxed: a counter; modulo 2^64 the sum comes out right.
        self.allocated.fetch_add(pages.wrapping_sub(assumed), Ordering::Relaxed);
        let mut runs = VecDeque::new();
        for id in unused.take_while(|id| *id < self.known) {
            push_run(&mut runs, id..id + 1);
        }
        let mut waiting = self.waiting.lock();
        let before = waiting.bytes();
        waiting.unused.extend(runs);
        self.note(&waiting, before);
    }

    /// Takes back the count of an id for which there is no slot. The id itself is not handed out again before a restart.
    pub(crate) fn lose(&self) {
        self.allocated.fetch_sub(1, Ordering::Relaxed);
    }

    /// Gives an id back, freed by the record at `at`. Never waits.
    pub(crate) fn give_back(&self, id: PageId, at: Lsn) {
        self.allocated.fetch_sub(1, Ordering::Relaxed);
        if planted(Canary::IdGivenBackTwice) {
            self.push(id, at);
        }
        self.push(id, at);
    }

    /// Bytes of memory of the ids to be used again: one that was freed of late is in a node of its own, all others in lists with room to grow.
    pub(crate) fn bytes(&self) -> u64 {
        self.held.load(Ordering::Relaxed) + self.listed.load(Ordering::Relaxed) * size_of::<Freed>() as u64
    }

    fn push(&self, id: PageId, at: Lsn) {
        self.listed.fetch_add(1, Ordering::Relaxed);
        let node = Freed {
            id,
            at,
            next: ptr::null_mut(),
            #[cfg(loom)]
            watched: crate::base::sync::UnsafeCell::new(()),
        };
        #[cfg(loom)]
        node.watched.with_mut(|_| ());
        let node = Box::into_raw(Box::new(node));
        let mut head = self.freed.load(Ordering::Relaxed);
        loop {
            // SAFETY: `node` is not shared before the swap below.
            unsafe { (*node).next = head };
            // Release publishes the node; pairs with the acquire in `collect`.
            match self.freed.compare_exchange_weak(head, node, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return,
                Err(found) => head = found,
            }
        }
    }

    /// Moves what was given back into the queue, oldest first.
    fn collect(&self, waiting: &mut VecDeque<(PageId, Lsn)>) {
        // Acquire pairs with the release in `give_back`. The whole list is taken, so there is no ABA.
        let mut next = self.freed.swap(ptr::null_mut(), Ordering::Acquire);
        let (from, mut collected) = (waiting.len(), 0);
        while !next.is_null() {
            // SAFETY: nodes come from `Box::into_raw`, and the swap made this thread their only owner.
            let node = unsafe { Box::from_raw(next) };
            #[cfg(loom)]
            node.watched.with(|_| ());
            waiting.push_back((node.id, node.at));
            next = node.next;
            collected += 1;
        }
        if collected > 0 {
            // Each was counted before it was pushed.
            self.listed.fetch_sub(collected, Ordering::Relaxed);
        }
        waiting.make_contiguous().get_mut(from..).unwrap_or_default().reverse();
    }

    /// One more than the highest id ever handed out.
    pub(crate) fn high_water(&self) -> u64 {
        // Relaxed: a number; nothing is published with it.
        self.next.load(Ordering::Relaxed)
    }

    pub(crate) fn allocated(&self) -> u64 {
        self.allocated.load(Ordering::Relaxed)
    }
}

/// Adds a run behind others, to the last of them where it goes on there.
pub(crate) fn push_run(runs: &mut VecDeque<Range<u64>>, run: Range<u64>) {
    match runs.back_mut().filter(|last| last.end == run.start) {
        Some(last) => last.end = run.end,
        None => runs.push_back(run),
    }
}

impl Drop for Ids {
    fn drop(&mut self) {
        let mut rest = VecDeque::new();
        self.collect(&mut rest);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn an_id_comes_back_only_after_its_free_is_durable_and_only_once() {
        let ids = Ids::new(3, VecDeque::new(), 3);
        let take = |stable| ids.reuse(stable).unwrap_or_else(|| ids.fresh());
        ids.give_back(PageId(0), Lsn(100));
        ids.give_back(PageId(1), Lsn(200));
        assert_eq!(take(Lsn(100)), PageId(3));
        assert_eq!(take(Lsn(104)), PageId(0));
        assert_eq!(take(Lsn(104)), PageId(4));
        assert_eq!(take(Lsn(300)), PageId(1));
        assert_eq!(take(Lsn(300)), PageId(5));
        assert_eq!(ids.allocated(), 6);
    }

    #[test]
    fn unused_ids_of_a_start_are_taken_first_in_order_and_cost_nothing_each() {
        let ids = Ids::new(1 << 35, [1..3, 5..6, 1 << 30..(1 << 35) - 1].into(), 7);
        let taken: Vec<u64> = (0..5).map(|_| ids.reuse(Lsn(0)).unwrap().0).collect();
        assert_eq!(taken, [1, 2, 5, 1 << 30, (1 << 30) + 1]);
        assert_eq!(ids.allocated(), 12);
    }

    #[test]
    fn every_list_of_ids_counts_as_long_as_it_has_room() {
        let ids = Ids::new(100_000, [0..1, 2..3].into(), 49_999);
        let run = size_of::<Range<u64>>() as u64;
        assert!(ids.bytes() >= 2 * run);
        ids.settle((4..100_000).step_by(2), 0, 0);
        assert!((50_000 * run..200_000 * run).contains(&ids.bytes()), "{}", ids.bytes());
        let before = ids.bytes();
        let one = size_of::<Freed>() as u64;
        (0..1000).for_each(|id| ids.give_back(PageId(2 * id + 1), Lsn(8)));
        assert_eq!(ids.bytes(), before + 1000 * one);
        // What is taken leaves its room to nobody for long.
        (0..50_000).for_each(|_| _ = ids.reuse(Lsn(100)).unwrap());
        assert!(ids.bytes() <= 1000 * one + ROOM_KEPT as u64 * run, "{}", ids.bytes());
        let node = size_of::<(PageId, Lsn)>() as u64;
        assert_eq!(ids.reuse(Lsn(100)), Some(PageId(1)));
        assert!((1000 * node..3000 * node).contains(&ids.bytes()), "{}", ids.bytes());
        while ids.reuse(Lsn(100)).is_some() {}
        assert!(ids.bytes() <= ROOM_KEPT as u64 * (run + node), "{}", ids.bytes());
    }

    #[test]
    fn a_leaf_that_is_read_gives_its_unused_ids_once() {
        let ids = Ids::new(10, VecDeque::new(), 6);
        assert_eq!(ids.reuse(Lsn(0)), None);
        ids.settle([4, 5, 7, 10, 11].into_iter(), 2, 1);
        assert_eq!(ids.allocated(), 5);
        let taken: Vec<Option<u64>> = (0..4).map(|_| ids.reuse(Lsn(0)).map(|id| id.0)).collect();
        assert_eq!(taken, [Some(4), Some(5), Some(7), None]);
        assert_eq!((ids.fresh(), ids.allocated()), (PageId(10), 9));
    }
}
