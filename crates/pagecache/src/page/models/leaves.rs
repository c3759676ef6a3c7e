//! Leaves of the map under loom: the shipped marks, set by updates and taken by checkpoints that race (D1, D2), and leaves that are
//! read by whoever comes first (D3).

use std::sync::Arc;
use std::sync::atomic::AtomicU64 as Counter;

use loom::thread::spawn;

use super::{Watched, explore, link, piece, sum_of};
use crate::base::ids::PageId;
use crate::base::sync::{AtomicU64, Ordering};
use crate::format::root::LeafAt;
use crate::page::leaves::Leaves;
use crate::page::pieces::Pieces;
use crate::page::slot::{Slot, Word};

/// The page of these models, in the leaf 0 of four ids.
const PAGE: PageId = PageId(1);
const LEAF: u64 = 0;

/// A page, the mark of its leaf, and as much of a log as a checkpoint needs.
struct Map {
    slot: Slot<Watched>,
    leaves: Leaves,
    /// Fragments whose records are stable.
    stable: AtomicU64,
}

impl Map {
    /// The page holds the fragment 1, of which no checkpoint knows.
    fn new() -> Map {
        let map = Map { slot: Slot::new(), leaves: Leaves::new(4), stable: AtomicU64::new(0) };
        map.leaves.ensure(PAGE).unwrap();
        map.update(8, 1);
        map
    }

    /// As `install` does it: the swap, the mark, and only then the end of the record, which may be stable at once.
    fn update(&self, version: u64, value: u64) {
        link(&self.slot, version, value);
        self.leaves.touch(PAGE);
        self.stable.fetch_or(value, Ordering::Release);
    }

    /// As a checkpoint does it: the redo point, the mark, the slot. What the leaf on disk says after that, and what is below the
    /// redo point.
    fn checkpoint(&self, before: u64) -> (u64, u64) {
        let below = self.stable.load(Ordering::Acquire);
        let leaf = if self.leaves.take(LEAF) { sum_of(&self.slot) } else { before };
        (leaf, below)
    }

    /// The same, where what is below the redo point has to be in the leaf, since the log before it is not replayed.
    fn checked(&self, before: u64) -> u64 {
        let (leaf, below) = self.checkpoint(before);
        assert_eq!(
            leaf & below,
            below,
            "a leaf says {leaf} and not all of {below}, which replay does not see any more"
        );
        leaf
    }
}

/// These update the page while checkpoints are made; each update is in the last checkpoint, or the leaf is marked for the next.
fn updates_and_checkpoints(name: &str, updates: &'static [(u64, u64)], checkpoints: usize, taken: bool) {
    explore(name, move || {
        let map = Arc::new(Map::new());
        let mut leaf = if taken { map.checked(0) } else { 0 };
        let threads: Vec<_> = updates
            .iter()
            .map(|(version, value)| {
                let map = Arc::clone(&map);
                spawn(move || map.update(*version, *value))
            })
            .collect();
        for _ in 0..checkpoints {
            leaf = map.checked(leaf);
        }
        for thread in threads {
            thread.join().unwrap();
        }
        let all = updates.iter().fold(1, |all, (_, value)| all | value);
        let (next, _) = map.checkpoint(leaf);
        assert_eq!(next, all, "an update is neither in the leaf, which says {leaf}, nor is the leaf marked");
    });
}

#[test]
fn an_update_meets_checkpoints() {
    updates_and_checkpoints("update, two checkpoints", &[(16, 2)], 2, false);
}

#[test]
fn two_updates_meet_a_checkpoint_of_a_marked_leaf() {
    updates_and_checkpoints("update, update, checkpoint", &[(16, 2), (24, 4)], 1, false);
}

#[test]
fn two_updates_meet_a_checkpoint_of_a_leaf_without_a_mark() {
    updates_and_checkpoints("update, update, checkpoint of what is not marked", &[(16, 2), (24, 4)], 1, true);
}

#[test]
fn two_updates_meet_two_checkpoints() {
    updates_and_checkpoints("update, update, two checkpoints", &[(16, 2), (24, 4)], 2, false);
}

/// A checkpoint fails and gives the mark back while an update looks at it: the update is in the next one.
#[test]
fn an_update_meets_a_checkpoint_that_fails() {
    explore("update, failed checkpoint", || {
        let map = Arc::new(Map::new());
        let other = Arc::clone(&map);
        let update = spawn(move || other.update(16, 2));
        if map.leaves.take(LEAF) {
            sum_of(&map.slot);
            map.leaves.give_back(LEAF);
        }
        let leaf = map.checked(0);
        update.join().unwrap();
        assert_eq!(
            map.checkpoint(leaf).0,
            3,
            "an update is neither in the leaf, which says {leaf}, nor is the leaf marked"
        );
    });
}

/// A page of a leaf that a start has found and that nobody has read yet.
struct Unread {
    slot: Slot<Watched>,
    leaves: Leaves,
    reads: Counter,
}

impl Unread {
    fn new() -> Unread {
        let mut leaves = Leaves::new(4);
        leaves.find(vec![Some(LeafAt { piece: piece(1), vacant: 3 })]).unwrap();
        Unread { slot: Slot::new(), leaves, reads: Counter::new(0) }
    }

    /// As `read_leaf` does it. What the slot is set to is a list on the heap, which nothing but the leaf's word publishes.
    fn read(&self) {
        let _reading = self.leaves.reading(LEAF);
        if self.leaves.is_unread(LEAF) {
            self.reads.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            self.slot.set(Word::cold(Pieces::from_newest_first(2, [piece(2), piece(1)].into_iter())));
            self.leaves.read(LEAF);
        }
    }

    /// As `look` does it: what is then in the slot.
    fn look(&self) -> u64 {
        let word = self.slot.load();
        if !word.is_resident() && !self.leaves.is_read(PAGE) {
            self.read();
        }
        sum_of(&self.slot)
    }
}

/// One wants a page of a leaf that was not read, another wants it too and changes it: the leaf is read once, and each sees all of it.
#[test]
fn a_leaf_is_read_once_and_seen_whole_by_who_changes_it() {
    explore("look, look and link", || {
        let unread = Arc::new(Unread::new());
        let other = Arc::clone(&unread);
        let links = spawn(move || {
            assert_eq!(other.look(), 3, "a leaf was read and is not seen whole");
            link(&other.slot, 16, 4);
            other.leaves.touch(PAGE);
        });
        let seen = unread.look();
        assert_eq!(seen & 3, 3, "a leaf was read and is not seen whole");
        links.join().unwrap();
        assert_eq!(sum_of(&unread.slot), 7);
        assert!(!unread.leaves.is_unread(LEAF) && unread.leaves.take(LEAF), "the leaf was read, and then changed");
        assert_eq!(unread.reads.load(std::sync::atomic::Ordering::Relaxed), 1, "a leaf is read once");
    });
}

/// The same where nobody changes it, and three want it.
#[test]
fn three_want_a_leaf_that_was_not_read() {
    explore("look, look, look", || {
        let unread = Arc::new(Unread::new());
        let looks = [(); 2].map(|()| {
            let unread = Arc::clone(&unread);
            spawn(move || unread.look())
        });
        assert_eq!(unread.look(), 3, "a leaf was read and is not seen whole");
        for look in looks {
            assert_eq!(look.join().unwrap(), 3, "a leaf was read and is not seen whole");
        }
        assert_eq!(unread.reads.load(std::sync::atomic::Ordering::Relaxed), 1, "a leaf is read once");
    });
}
