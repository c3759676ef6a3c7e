//! Leaves of the map: which ranges of ids have changed since a checkpoint took them, and which were not read yet since the start.
//!
//! - D1. A leaf is dirty from after the swap that publishes an update until a checkpoint takes it; the mark is set before the
//!   update's record completes. So whatever is below the redo point of a checkpoint is in its leaves, or was in those before.
//! - D2. A checkpoint takes the mark first and looks at the slots after, each update swaps its slot first and looks at the mark after,
//!   with a full fence between the two on both sides: one of them sees the other.
//! - D3. Slots of a leaf that was not read yet are changed by nobody but its reader, and say what the replayed log says. None of
//!   them is resident. What they mean is known only once the leaf is read.

use std::collections::{BTreeMap, VecDeque};

use super::buckets::Buckets;
use crate::base::canary::{Canary, planted};
use crate::base::error::{Error, Result};
use crate::base::ids::PageId;
use crate::base::sync::{AtomicU64, Mutex, MutexGuard, Ordering, fence};
use crate::format::leaf::IDS_MAX;
use crate::format::moves::Move;
use crate::format::root::LeafAt;

/// Changed since the last checkpoint.
const DIRTY: u64 = 1;
/// On disk, and not read yet.
const UNREAD: u64 = 2;
/// The replayed log has touched it.
const REPLAYED: u64 = 4;

/// Leaves that may be read at the same time.
const READERS: usize = 16;

/// Ids of a leaf: few in small segments, so that a leaf of pages in many pieces has room in one.
pub(crate) fn leaf_ids(segment_size: u64) -> u64 {
    (segment_size >> 14).next_power_of_two().clamp(4, IDS_MAX)
}

#[derive(Debug)]
pub(crate) struct Leaves {
    ids: u64,
    words: Buckets<AtomicU64>,
    /// Where the leaves are that the start found; not needed any more for those that were read.
    found: Vec<Option<LeafAt>>,
    /// How many were not read yet.
    unread: AtomicU64,
    /// Leaves that may have ids to give, and were not asked yet.
    vacant: Mutex<VecDeque<u64>>,
    /// Of unread leaves: moves that the replayed log says, of records that it does not hold.
    waiting: Mutex<BTreeMap<u64, Vec<Move>>>,
    /// How many these are. Relaxed: a number to weigh.
    waiting_count: AtomicU64,
    reading: [Mutex<()>; READERS],
}

impl Leaves {
    pub(crate) fn new(ids: u64) -> Leaves {
        Leaves {
            ids,
            words: Buckets::new(),
            found: Vec::new(),
            unread: AtomicU64::new(0),
            vacant: Mutex::new(VecDeque::new()),
            waiting: Mutex::new(BTreeMap::new()),
            waiting_count: AtomicU64::new(0),
            reading: std::array::from_fn(|_| Mutex::new(())),
        }
    }

    /// Ids of a leaf.
    pub(crate) fn ids(&self) -> u64 {
        self.ids
    }

    /// The number of an id's leaf.
    pub(crate) fn of(&self, id: PageId) -> u64 {
        id.0 / self.ids
    }

    /// The ids of a leaf.
    pub(crate) fn range(&self, leaf: u64) -> std::ops::Range<u64> {
        leaf * self.ids..(leaf + 1) * self.ids
    }

    /// Has room for the mark of an id's leaf.
    ///
    /// # Errors
    /// `NoSpace`.
    pub(crate) fn ensure(&self, id: PageId) -> Result<()> {
        let made = self.words.ensure(self.of(id));
        made.map(drop).ok_or(Error::NoSpace { what: "memory for the mapping table" })
    }

    /// Marks the leaf of a page whose slot was just swapped (D1).
    pub(crate) fn touch(&self, id: PageId) {
        let Some(word) = self.words.get(self.of(id)) else { return };
        // D2: the swap comes before the look.
        fence(Ordering::SeqCst);
        // Relaxed: the fence orders it; and whoever takes the mark looks at the slots, not at what came before the mark.
        if word.load(Ordering::Relaxed) & DIRTY == 0 {
            word.fetch_or(DIRTY, Ordering::Relaxed);
        }
    }

    /// Takes a leaf's mark; `false` where there was none. Whoever took it looks at the slots next (D2).
    pub(crate) fn take(&self, leaf: u64) -> bool {
        let Some(word) = self.words.get(leaf) else { return false };
        if word.load(Ordering::Relaxed) & DIRTY == 0 {
            return false;
        }
        word.fetch_and(!DIRTY, Ordering::Relaxed);
        if !planted(Canary::LeafTakenWithoutFence) {
            fence(Ordering::SeqCst);
        }
        true
    }

    /// Whether any leaf was changed since it was taken.
    pub(crate) fn is_any_dirty(&self) -> bool {
        self.words.iter().any(|word| word.load(Ordering::Relaxed) & DIRTY != 0)
    }

    /// How many leaves were changed since they were taken, about.
    pub(crate) fn dirty(&self) -> u64 {
        self.words.iter().filter(|word| word.load(Ordering::Relaxed) & DIRTY != 0).count() as u64
    }

    /// Gives a mark back: what was taken was not made durable.
    pub(crate) fn give_back(&self, leaf: u64) {
        if let Some(word) = self.words.get(leaf) {
            word.fetch_or(DIRTY, Ordering::Relaxed);
        }
    }

    /// Says where the leaves are that a start has found. None of them was read.
    ///
    /// # Errors
    /// `NoSpace`.
    pub(crate) fn find(&mut self, found: Vec<Option<LeafAt>>) -> Result<()> {
        for (leaf, _) in found.iter().enumerate().filter(|(_, at)| at.is_some()) {
            let word = self.words.ensure(leaf as u64);
            let word = word.ok_or(Error::NoSpace { what: "memory for the mapping table" })?;
            word.store(UNREAD, Ordering::Relaxed);
            self.unread.fetch_add(1, Ordering::Relaxed);
        }
        self.found = found;
        Ok(())
    }

    /// Where an unread leaf is.
    pub(crate) fn found(&self, leaf: u64) -> Option<LeafAt> {
        self.found.get(usize::try_from(leaf).ok()?).copied().flatten()
    }

    /// The leaves that a start has found.
    pub(crate) fn all_found(&self) -> &[Option<LeafAt>] {
        &self.found
    }

    /// Marks what replay has touched: dirty, since no checkpoint has it, and to be read before pages are counted.
    pub(crate) fn replayed(&self, id: PageId) {
        if let Some(word) = self.words.get(self.of(id)) {
            // Relaxed: at the start, and handed on with the table.
            word.fetch_or(DIRTY | REPLAYED, Ordering::Relaxed);
        }
    }

    /// Marks the leaf of a page of which replay says that it has moved: no checkpoint has that, and it holds as many pages as before.
    pub(crate) fn moved(&self, id: PageId) {
        if let Some(word) = self.words.get(self.of(id)).filter(|_| !planted(Canary::MoveReplayedUnmarked)) {
            // Relaxed: as above.
            word.fetch_or(DIRTY, Ordering::Relaxed);
        }
    }

    /// Keeps a move for who reads the leaf: it is of what that says. Those of a page come in the order in which they were said.
    pub(crate) fn wait(&self, said: Move) {
        if planted(Canary::MoveDoesNotWait) {
            return;
        }
        self.waiting.lock().entry(self.of(said.page)).or_default().push(said);
        self.waiting_count.fetch_add(1, Ordering::Relaxed);
    }

    /// The moves that wait for a leaf.
    pub(crate) fn waiting(&self, leaf: u64) -> Vec<Move> {
        self.waiting.lock().get(&leaf).cloned().unwrap_or_default()
    }

    fn has(&self, leaf: u64, flags: u64) -> bool {
        // Acquire pairs with the release in `read`: the slots of a leaf that was read say all.
        self.words.get(leaf).is_some_and(|word| word.load(Ordering::Acquire) & flags == flags)
    }

    /// Whether the slots of an id's leaf say all there is to know.
    pub(crate) fn is_read(&self, id: PageId) -> bool {
        !self.has(self.of(id), UNREAD)
    }

    /// Whether a leaf has still to be read.
    pub(crate) fn is_unread(&self, leaf: u64) -> bool {
        self.has(leaf, UNREAD)
    }

    /// Whether a leaf has still to be read, and may hold more or fewer pages than the checkpoint says.
    pub(crate) fn is_unread_and_replayed(&self, leaf: u64) -> bool {
        self.has(leaf, UNREAD | REPLAYED)
    }

    /// Keeps others from reading the same leaf at the same time.
    pub(crate) fn reading(&self, leaf: u64) -> MutexGuard<'_, ()> {
        let at = leaf as usize % READERS;
        self.reading.get(at).unwrap_or(&self.reading[0]).lock()
    }

    /// The slots of a leaf say all there is to know.
    pub(crate) fn read(&self, leaf: u64) {
        let served = self.waiting.lock().remove(&leaf);
        self.waiting_count.fetch_sub(served.map_or(0, |moves| moves.len()) as u64, Ordering::Relaxed);
        if let Some(word) = self.words.get(leaf) {
            // Release pairs with the acquire in `has`.
            word.fetch_and(!(UNREAD | REPLAYED), Ordering::Release);
            // Release: what was counted of its pages comes before.
            self.unread.fetch_sub(1, Ordering::Release);
        }
    }

    /// Whether every leaf was read: then what is in use is known of every segment.
    pub(crate) fn are_all_read(&self) -> bool {
        self.unread.load(Ordering::Acquire) == 0
    }

    /// Notes leaves that may have ids to give.
    pub(crate) fn offer(&mut self, leaves: impl Iterator<Item = u64>) {
        self.vacant.lock().extend(leaves);
    }

    /// An unread leaf that may have ids to give; each is named once.
    pub(crate) fn vacant(&self) -> Option<u64> {
        let mut vacant = self.vacant.lock();
        while let Some(leaf) = vacant.pop_front() {
            if self.is_unread(leaf) {
                return Some(leaf);
            }
        }
        None
    }

    /// Bytes of memory.
    pub(crate) fn bytes(&self) -> u64 {
        let waiting = self.waiting_count.load(Ordering::Relaxed) * size_of::<Move>() as u64;
        self.words.bytes() + (self.found.len() * size_of::<Option<LeafAt>>()) as u64 + waiting
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn leaves_are_small_in_small_segments() {
        assert_eq!([64 << 10, 1 << 20, 8 << 20, 1 << 30].map(leaf_ids), [4, 64, 512, 512]);
    }

    #[test]
    fn a_mark_is_taken_once_and_comes_back() {
        let leaves = Leaves::new(4);
        assert!(!leaves.take(0));
        leaves.ensure(PageId(5)).unwrap();
        leaves.touch(PageId(5));
        leaves.touch(PageId(6));
        assert!(leaves.take(1) && !leaves.take(1) && !leaves.take(0));
        leaves.give_back(1);
        assert!(leaves.take(1));
    }
}
