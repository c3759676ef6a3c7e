//! In which order pages are looked at to be evicted: a small queue for those that are new, a main queue for those that were used since
//! or came back soon, and a ghost that knows who was evicted from the small one.
//!
//! After S3-FIFO (Yang, Zhang, Qiu, Yue, Vinayak: "FIFO queues are all you need for cache eviction", SOSP 2023), by bytes, and with one
//! use mark where the paper counts to three. Queues name pages, and know nothing of them; `ops/evict.rs` looks.
//!
//! - E1. A page enters when it becomes resident, by whoever made it so, after the swap. From then on it has one entry, or is in the hands
//!   of whoever popped that. So whatever is resident is found.
//! - E2. An entry bears the tag that the page's nodes bear since they became resident, the same in all of them that come until it is
//!   evicted. An entry whose page is not resident, or bears another tag, is of an earlier stay, and means nothing.
//! - E3. What an entry adds to its queue's bytes is in the entry, and goes with it.

use crossbeam_epoch::Guard;
use crossbeam_utils::CachePadded;

use super::fifo::Fifo;
use super::ghost::{Ghost, mix};
use crate::base::ids::PageId;
use crate::base::sync::{AtomicU64, Ordering};

/// The share of all bytes that the small queue may have, as a divisor.
const SMALL: u64 = 10;

/// Unstable pages met in the small queue before a search leaves it alone as long as the main one has any.
const UNSTABLE_SMALL: u32 = 8;

/// Which stay of a page in memory it is, as far as eight bits say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tag(pub(super) u8);

impl Tag {
    pub(crate) const NONE: Tag = Tag(0);

    /// One of 8: what is not worth doing each time is done then.
    pub(crate) fn is_eighth(self) -> bool {
        self.0.is_multiple_of(8) || cfg!(shuttle)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    Small,
    Main,
}

/// A page in a queue: its id in 36 bits, its tag in 8, its bytes at that time in 20.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry(u64);

const WEIGHT_BITS: u32 = 20;
/// Of those, what the rest is shifted by.
const SHIFT_BITS: u32 = 5;
const DIGIT_BITS: u32 = WEIGHT_BITS - SHIFT_BITS;

impl Entry {
    fn new(id: PageId, tag: Tag, bytes: usize) -> Entry {
        // 15 bits of bytes, and by how much they are shifted: exact below 32 KiB, above that to a sixteen-thousandth.
        let bytes = (bytes as u64).clamp(1, 1 << 45);
        let shift = (u64::BITS - bytes.leading_zeros()).saturating_sub(DIGIT_BITS);
        let weight = u64::from(shift) << DIGIT_BITS | bytes >> shift;
        Entry(id.0 << (8 + WEIGHT_BITS) | u64::from(tag.0) << WEIGHT_BITS | weight)
    }

    pub(crate) fn id(self) -> PageId {
        PageId(self.0 >> (8 + WEIGHT_BITS))
    }

    pub(crate) fn tag(self) -> Tag {
        Tag((self.0 >> WEIGHT_BITS) as u8)
    }

    fn bytes(self) -> u64 {
        let weight = self.0 & ((1 << WEIGHT_BITS) - 1);
        (weight & ((1 << DIGIT_BITS) - 1)) << (weight >> DIGIT_BITS)
    }
}

#[derive(Debug)]
struct Queue {
    fifo: Fifo,
    /// Counted before an entry comes and after it has gone, so never less than there are. Relaxed: counters.
    entries: AtomicU64,
    bytes: AtomicU64,
}

impl Queue {
    fn new() -> Queue {
        Queue { fifo: Fifo::new(), entries: AtomicU64::new(0), bytes: AtomicU64::new(0) }
    }

    fn push(&self, entry: Entry, guard: &Guard) {
        self.entries.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(entry.bytes(), Ordering::Relaxed);
        self.fifo.push(entry.0, guard);
    }

    fn pop(&self, guard: &Guard) -> Option<Entry> {
        let entry = Entry(self.fifo.pop(guard)?);
        self.entries.fetch_sub(1, Ordering::Relaxed);
        self.bytes.fetch_sub(entry.bytes(), Ordering::Relaxed);
        Some(entry)
    }

    fn entries(&self) -> u64 {
        self.entries.load(Ordering::Relaxed)
    }

    fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

#[derive(Debug)]
pub(crate) struct Queues {
    small: CachePadded<Queue>,
    main: CachePadded<Queue>,
    ghost: Ghost,
    /// Tags drawn so far.
    drawn: AtomicU64,
}

impl Queues {
    pub(crate) fn new() -> Queues {
        let queue = || CachePadded::new(Queue::new());
        Queues { small: queue(), main: queue(), ghost: Ghost::new(), drawn: AtomicU64::new(0) }
    }

    fn queue(&self, which: Which) -> &Queue {
        match which {
            Which::Small => &self.small,
            Which::Main => &self.main,
        }
    }

    /// A tag for a page that becomes resident.
    pub(crate) fn draw(&self) -> Tag {
        // Relaxed: a counter. Mixed, so that ids that come round at any pace meet the tag of an earlier stay by chance only.
        Tag(mix(self.drawn.fetch_add(1, Ordering::Relaxed)) as u8)
    }

    /// A page became resident (E1).
    pub(crate) fn enter(&self, id: PageId, tag: Tag, bytes: usize, guard: &Guard) {
        let which = if self.ghost.take(id) { Which::Main } else { Which::Small };
        self.put(which, id, tag, bytes, guard);
    }

    /// Puts a page that was popped at the end of a queue.
    pub(crate) fn put(&self, which: Which, id: PageId, tag: Tag, bytes: usize, guard: &Guard) {
        self.queue(which).push(Entry::new(id, tag, bytes), guard);
    }

    /// The oldest entry of a queue; who has it puts it back, or evicts its page, or finds that it means nothing (E2).
    pub(crate) fn pop(&self, which: Which, guard: &Guard) -> Option<Entry> {
        self.queue(which).pop(guard)
    }

    /// A page was evicted from a queue.
    pub(crate) fn evicted(&self, which: Which, id: PageId) {
        if which == Which::Small {
            self.ghost.remember(id, self.entries());
        }
    }

    fn entries(&self) -> u64 {
        self.small.entries() + self.main.entries()
    }

    /// Whether entries that mean nothing are more than those that do, where so many bytes are resident.
    pub(crate) fn are_stale(&self, resident: u64) -> bool {
        self.small.bytes().saturating_add(self.main.bytes()) / 2 > resident
    }

    /// Bytes of memory of queues and ghost.
    pub(crate) fn memory(&self) -> u64 {
        self.small.fifo.memory() + self.main.fifo.memory() + self.ghost.memory()
    }
}

/// One search for room: whose turn it is, and when all have been asked.
#[derive(Debug)]
pub(crate) struct Search {
    /// Entries to look at still.
    small: u64,
    main: u64,
    /// What the small queue may hold.
    share: u64,
    /// Unstable pages to be met still in the small queue.
    patience: u32,
}

impl Search {
    /// Where so many bytes are resident.
    pub(crate) fn new(queues: &Queues, resident: u64) -> Search {
        // Twice around the main queue: the first time may only take marks.
        let (small, main) = (queues.small.entries(), 2 * queues.main.entries());
        Search { small, main, share: resident / SMALL, patience: UNSTABLE_SMALL }
    }

    /// The next page to look at.
    pub(crate) fn next(&mut self, queues: &Queues, guard: &Guard) -> Option<(Which, Entry)> {
        loop {
            let is_large = || self.patience > 0 && queues.small.bytes() > self.share;
            let which = match (self.small > 0, self.main > 0) {
                (true, true) if is_large() => Which::Small,
                (true, false) => Which::Small,
                (_, true) => Which::Main,
                (false, false) => return None,
            };
            let turns = if which == Which::Small { &mut self.small } else { &mut self.main };
            match queues.pop(which, guard) {
                Some(entry) => {
                    *turns -= 1;
                    return Some((which, entry));
                }
                None => *turns = 0,
            }
        }
    }

    /// What came last went from the small queue to the main one.
    pub(crate) fn moved(&mut self) {
        self.main += 1;
    }

    /// What came last cannot be evicted yet.
    pub(crate) fn unstable(&mut self, which: Which) {
        if which == Which::Small {
            self.patience = self.patience.saturating_sub(1);
        }
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn an_entry_says_what_it_was_made_of() {
        for id in [0, 1, 77, (1 << 36) - 1] {
            for bytes in [1usize, 16, 4096, 32767, 32768, 65_535, 1_000_003, 1 << 40] {
                let entry = Entry::new(PageId(id), Tag(id as u8 ^ 3), bytes);
                assert_eq!((entry.id(), entry.tag()), (PageId(id), Tag(id as u8 ^ 3)));
                let (told, bytes) = (entry.bytes(), bytes as u64);
                assert!(told <= bytes && bytes - told <= bytes >> (DIGIT_BITS - 1), "{bytes} became {told}");
                assert!(entry.0 != 0 && entry.0 != u64::MAX);
            }
        }
        assert_eq!(Entry::new(PageId(0), Tag::NONE, 0).bytes(), 1);
        assert_ne!(Entry::new(PageId((1 << 36) - 1), Tag(255), usize::MAX).0, u64::MAX);
    }

    #[test]
    fn sums_of_bytes_come_out_even_whatever_was_put_in() {
        let (queues, guard) = (Queues::new(), crossbeam_epoch::pin());
        for id in 0..10_000u64 {
            let which = if id % 3 == 0 { Which::Main } else { Which::Small };
            queues.put(which, PageId(id), queues.draw(), (mix(id) >> (id % 60)) as usize, &guard);
        }
        assert!(queues.small.bytes() > 0 && queues.main.bytes() > 0);
        for which in [Which::Small, Which::Main] {
            let mut rising = std::iter::from_fn(|| queues.pop(which, &guard)).map(Entry::id);
            assert!(rising.by_ref().is_sorted());
            assert_eq!((queues.queue(which).entries(), queues.queue(which).bytes()), (0, 0));
        }
        assert!(queues.memory() < 4096, "{} bytes for nothing", queues.memory());
    }

    #[test]
    fn who_was_evicted_as_new_comes_back_to_the_main_queue_once() {
        let (queues, guard) = (Queues::new(), crossbeam_epoch::pin());
        let come = |id| queues.enter(PageId(id), queues.draw(), 100, &guard);
        (0..8).for_each(come);
        assert_eq!((queues.small.entries(), queues.main.entries()), (8, 0));
        let gone = queues.pop(Which::Small, &guard).unwrap();
        queues.evicted(Which::Small, gone.id());
        let moved = queues.pop(Which::Small, &guard).unwrap();
        queues.evicted(Which::Main, moved.id());
        (0..2).for_each(come);
        assert_eq!((queues.small.entries(), queues.main.entries()), (7, 1));
        assert_eq!(queues.pop(Which::Main, &guard).map(Entry::id), Some(PageId(0)));
        come(0);
        assert_eq!((queues.small.entries(), queues.main.entries()), (8, 0));
    }

    /// The queues and how many of a search's looks are at which.
    fn looks(search: &mut Search, queues: &Queues, guard: &Guard, mut at: impl FnMut(&mut Search, Which)) -> [u32; 2] {
        let mut looks = [0; 2];
        while let Some((which, entry)) = search.next(queues, guard) {
            looks[usize::from(which == Which::Main)] += 1;
            queues.put(which, entry.id(), entry.tag(), 100, guard);
            at(search, which);
            assert!(looks.iter().sum::<u32>() < 1000, "no end");
        }
        looks
    }

    #[test]
    fn a_search_looks_at_the_small_queue_first_if_it_is_large_and_ends_though_all_are_put_back() {
        let (queues, guard) = (Queues::new(), crossbeam_epoch::pin());
        (0..100).for_each(|id| queues.put(Which::Small, PageId(id), queues.draw(), 100, &guard));
        (100..200).for_each(|id| queues.put(Which::Main, PageId(id), queues.draw(), 100, &guard));
        let mut order = Vec::new();
        let both = looks(&mut Search::new(&queues, 20_000), &queues, &guard, |_, which| order.push(which));
        assert_eq!((both, order[99], order[100]), ([100, 200], Which::Small, Which::Main));
        // Where it is not, it comes last.
        order.clear();
        let both = looks(&mut Search::new(&queues, 1_000_000), &queues, &guard, |_, which| order.push(which));
        assert_eq!((both, order[199], order[200]), ([100, 200], Which::Main, Which::Small));
        // And where it is full of what cannot go yet.
        order.clear();
        let both = looks(&mut Search::new(&queues, 20_000), &queues, &guard, |search, which| {
            search.unstable(which);
            order.push(which);
        });
        let first = order.iter().position(|which| *which == Which::Main).unwrap();
        assert_eq!((both, first), ([100, 200], UNSTABLE_SMALL as usize));
        assert_eq!(order[first..first + 200], [Which::Main; 200]);
    }

    #[test]
    fn a_search_looks_again_at_what_has_moved() {
        let (queues, guard) = (Queues::new(), crossbeam_epoch::pin());
        (0..10).for_each(|id| queues.put(Which::Small, PageId(id), queues.draw(), 100, &guard));
        let (mut search, mut evicted) = (Search::new(&queues, 1000), 0);
        while let Some((which, entry)) = search.next(&queues, &guard) {
            match which {
                Which::Small => {
                    search.moved();
                    queues.put(Which::Main, entry.id(), entry.tag(), 100, &guard);
                }
                Which::Main => evicted += 1,
            }
        }
        assert_eq!(evicted, 10);
    }

    #[test]
    fn tags_of_ids_that_come_round_at_any_pace_meet_by_chance_only() {
        let queues = Queues::new();
        let tags: Vec<Tag> = (0..20_000).map(|_| queues.draw()).collect();
        for pace in 1..600 {
            let same = tags.iter().zip(&tags[pace..]).filter(|(one, other)| one == other).count();
            assert!(same * 100 < tags.len() * 2, "{same} of {} at a pace of {pace}", tags.len());
        }
    }
}
