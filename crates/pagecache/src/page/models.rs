//! The slot under loom: the shipped word, slot and nodes, linked, folded and evicted by threads that race; the table that
//! slots are in; the ids that are free; the queues of pages; and the marks of leaves. Nothing is reclaimed here: the epoch has models of its own.

use std::sync::Arc;
use std::time::Instant;

use super::chain::{Fresh, Node};
use super::fifo::Fifo;
use super::ids::Ids;
use super::pieces::Pieces;
use super::slot::{Seen, Slot, Word};
use super::table::Table;
use crate::base::ids::{Lsn, PageId, Version};
use crate::base::sync::UnsafeCell;
use crate::format::piece::Piece;

mod leaves;
#[cfg(feature = "canary")]
mod planted_bugs;

/// A fragment that loom watches: it is written before its node is published, and read by whoever finds the node.
struct Watched(UnsafeCell<u64>);

// SAFETY: loom checks that reads come after the write.
unsafe impl Send for Watched {}
// SAFETY: as above.
unsafe impl Sync for Watched {}

impl Watched {
    fn read(&self) -> u64 {
        // SAFETY: loom checks it.
        self.0.with(|value| unsafe { *value })
    }
}

fn node(version: u64, value: u64, pieces: Pieces) -> Fresh<Watched> {
    let watched = Watched(UnsafeCell::new(0));
    // SAFETY: not shared yet; loom checks it.
    watched.0.with_mut(|cell| unsafe { *cell = value });
    Fresh::base(Version(version), watched, 0, pieces)
}

fn piece(value: u64) -> Piece {
    Piece::from_word(value << 10)
}

fn sum_of(slot: &Slot<Watched>) -> u64 {
    // SAFETY: nodes are never freed in these models.
    match unsafe { slot.load().see::<Watched>() } {
        Seen::Resident(chain) => chain.with_frags(None, |frags| frags.iter().map(|frag| frag.read()).sum()),
        Seen::ColdOne(piece) => piece.word() >> 10,
        Seen::Cold(pieces) => pieces.iter().map(|piece| piece.word() >> 10).sum(),
        _ => 0,
    }
}

/// Puts a fragment on the page, bringing it back first where it was evicted.
fn link(slot: &Slot<Watched>, version: u64, value: u64) {
    let mut fresh = node(version, value, Pieces::one(piece(value)));
    loop {
        let word = slot.load();
        // SAFETY: as above.
        match unsafe { word.see::<Watched>() } {
            Seen::Resident(chain) => fresh.put_on(chain),
            Seen::ColdOne(_) | Seen::Cold(_) => {
                let base = node(8, sum_of(slot), Pieces::one(piece(sum_of(slot))));
                let _ = slot.swap(word, Word::resident(base.into_raw()));
                continue;
            }
            _ => fresh.take_off(),
        }
        let raw = fresh.into_raw();
        if slot.swap(word, Word::resident(raw)) {
            return;
        }
        // SAFETY: it was not published.
        fresh = unsafe { Fresh::from_raw(raw) };
        fresh.take_off();
    }
}

/// Merges the chain into one node, as a reader does: once, and not again where the slot has moved on.
fn fold(slot: &Slot<Watched>) {
    let word = slot.load();
    // SAFETY: as above.
    if let Seen::Resident(chain) = unsafe { word.see::<Watched>() } {
        let sum = chain.with_frags(None, |frags| frags.iter().map(|frag| frag.read()).sum());
        let folded = node(chain.head().version.0, sum, chain.pieces());
        let _ = slot.swap(word, Word::resident(folded.into_raw()));
    }
}

fn evict(slot: &Slot<Watched>) {
    let word = slot.load();
    // SAFETY: as above.
    if let Seen::Resident(chain) = unsafe { word.see::<Watched>() } {
        let _ = slot.swap(word, Word::cold(chain.pieces()));
    }
}

/// The page goes to an image of all that it has on disk, its fragments stay.
fn mark(slot: &Slot<Watched>) {
    let word = slot.load();
    // SAFETY: as above.
    if let Seen::Resident(chain) = unsafe { word.see::<Watched>() } {
        let image = piece(chain.each_piece().map(|piece| piece.word() >> 10).sum());
        let marker = Box::into_raw(Node::marker(chain, Pieces::one(image)));
        if !slot.swap(word, Word::resident(marker)) {
            // SAFETY: it was not published; what is below it stays.
            drop(unsafe { Box::from_raw(marker) });
        }
    }
}

fn explore(name: &str, run: impl Fn() + Send + Sync + 'static) {
    #[cfg(feature = "canary")]
    planted_bugs::plant_what_was_asked();
    let schedules = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let counted = Arc::clone(&schedules);
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    let started = Instant::now();
    model.check(move || {
        counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        run();
    });
    let schedules = schedules.load(std::sync::atomic::Ordering::Relaxed);
    println!("{name}: {schedules} schedules, {:.1} s", started.elapsed().as_secs_f64());
    assert!(schedules > 1);
}

/// Runs these on a slot that holds the fragment 1; at the end everything that was linked is there, once.
fn race(name: &str, works: &'static [fn(&Slot<Watched>)], total: u64) {
    explore(name, move || {
        let slot = Arc::new(Slot::<Watched>::new());
        link(&slot, 8, 1);
        let threads: Vec<_> = works
            .iter()
            .map(|work| {
                let slot = Arc::clone(&slot);
                loom::thread::spawn(move || work(&slot))
            })
            .collect();
        let seen = sum_of(&slot);
        assert!(seen & 1 == 1, "the first fragment is never missing: {seen}");
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(sum_of(&slot), total);
    });
}

#[test]
fn two_links_meet() {
    race("link, link", &[|slot| link(slot, 16, 2), |slot| link(slot, 24, 4)], 7);
}

#[test]
fn a_link_meets_a_fold() {
    race("link, fold", &[|slot| link(slot, 16, 2), fold], 3);
}

#[test]
fn a_link_meets_an_eviction() {
    race("link, evict", &[|slot| link(slot, 16, 2), evict], 3);
}

#[test]
fn a_link_meets_a_move() {
    race("link, mark", &[|slot| link(slot, 16, 2), mark], 3);
}

#[test]
fn a_move_and_an_eviction_meet_a_link() {
    race("link, mark, evict", &[|slot| link(slot, 16, 2), |slot| (mark(slot), evict(slot)).0], 3);
}

#[test]
fn a_move_and_a_fold_meet_a_link() {
    race("link, mark, fold", &[|slot| link(slot, 16, 2), |slot| (mark(slot), fold(slot), evict(slot)).0], 3);
}

#[test]
fn a_fold_meets_an_eviction_and_a_link() {
    race("link, fold, evict", &[|slot| link(slot, 16, 2), |slot| (fold(slot), evict(slot)).0], 3);
}

/// Two want the same bucket at once and link in it; whoever finds the bucket finds its slots made, and the same ones for ever.
#[test]
fn two_make_a_bucket_under_a_reader() {
    explore("bucket, bucket, look", || {
        let table = Arc::new(Table::<Watched>::new());
        let threads = [(9, 2), (10, 4)].map(|(id, value)| {
            let table = Arc::clone(&table);
            loom::thread::spawn(move || link(table.ensure(PageId(id)).unwrap(), 16, value))
        });
        let seen = table.get(PageId(10)).map_or(0, sum_of);
        assert!(seen == 0 || seen == 4, "what was linked, or nothing: {seen}");
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!([9, 10, 11].map(|id| sum_of(table.get(PageId(id)).unwrap())), [2, 4, 0]);
    });
}

/// Two give ids back while two take: whoever takes one that was given back finds it whole, and nobody finds it twice.
#[test]
fn ids_are_given_back_and_taken() {
    explore("give back, give back and take, take", || {
        let ids = Arc::new(Ids::new(2, [].into(), 2));
        let one = Arc::clone(&ids);
        let one = loom::thread::spawn(move || one.give_back(PageId(0), Lsn(8)));
        let two = Arc::clone(&ids);
        let two = loom::thread::spawn(move || {
            two.give_back(PageId(1), Lsn(16));
            two.reuse(Lsn(24)).unwrap_or_else(|| two.fresh())
        });
        let take = || ids.reuse(Lsn(24)).unwrap_or_else(|| ids.fresh());
        let mut taken = vec![take()];
        one.join().unwrap();
        taken.push(two.join().unwrap());
        taken.extend([take(), take()]);
        taken.sort();
        assert!(taken.windows(2).all(|pair| pair[0] != pair[1]), "an id has two owners: {taken:?}");
        assert!(taken.starts_with(&[PageId(0), PageId(1)]), "an id is lost: {taken:?}");
    });
}

/// Two push, over the end of a chunk, while one pops: each entry is had once, in its pusher's order, with what was done before its push.
#[test]
fn a_queue_is_pushed_to_and_popped() {
    explore("push twice, push, pop twice", || {
        let things = || [(); 4].map(|()| Watched(UnsafeCell::new(0)));
        let queue = Arc::new((Fifo::new(), things()));
        let push = |queue: &(Fifo, [Watched; 4]), entry: u64| {
            // SAFETY: only this entry's pusher writes there; loom checks it.
            queue.1[entry as usize].0.with_mut(|cell| unsafe { *cell = entry });
            // SAFETY: nothing is reclaimed here.
            queue.0.push(entry, unsafe { crossbeam_epoch::unprotected() });
        };
        let pop = |queue: &(Fifo, [Watched; 4])| {
            // SAFETY: as above.
            let entry = queue.0.pop(unsafe { crossbeam_epoch::unprotected() })?;
            assert_eq!(queue.1[entry as usize].read(), entry);
            Some(entry)
        };
        let threads = [&[1, 2][..], &[3]].map(|entries| {
            let queue = Arc::clone(&queue);
            loom::thread::spawn(move || entries.iter().for_each(|entry| push(&queue, *entry)))
        });
        let mut had: Vec<u64> = [pop(&queue), pop(&queue)].into_iter().flatten().collect();
        for thread in threads {
            thread.join().unwrap();
        }
        had.extend(std::iter::from_fn(|| pop(&queue)));
        assert!(had.iter().position(|entry| *entry == 1) < had.iter().position(|entry| *entry == 2), "{had:?}");
        had.sort_unstable();
        assert_eq!(had, [1, 2, 3]);
    });
}
