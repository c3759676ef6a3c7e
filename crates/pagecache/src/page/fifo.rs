//! A queue of numbers without a lock, first in, first out: chunks of cells, which go through the epoch once they are used up.
//!
//! After Ramalhete's FAAArrayQueue ("FAAArrayQueue - MPMC lock-free queue", 2016), with the tail moved on as in the queue of Michael
//! and Scott (PODC 1996).
//!
//! - F1. A cell is empty, then holds an entry or not, then is spent; whoever has drawn it to pop spends it, once, and has what it
//!   held. So each entry is had once. Whoever finds the cell that it has drawn to push spent already draws another one.
//! - F2. Head and tail move on from a chunk to its next one only, and the head leaves no chunk on which the tail still is. A chunk
//!   goes to the epoch when the head has left it: who loaded it under a guard may look at it as long as the guard lives.
//!
//! Nobody waits for anybody: a cell that was drawn to push and not filled is passed over. One who pushes fills the first cell of a new
//! chunk before others see it, so at most a chunk's cells are lost to those who pop.

use std::ptr;

use crossbeam_epoch::Guard;
use crossbeam_utils::CachePadded;

use crate::base::sync::{AtomicPtr, AtomicU64, Ordering};

/// Cells of a chunk. Few in models and schedules, so that chunks come and go.
const CELLS: usize = if cfg!(any(loom, shuttle)) { 2 } else { 64 };

const EMPTY: u64 = 0;
const SPENT: u64 = u64::MAX;

#[derive(Debug)]
struct Chunk {
    /// Cells drawn to push and to pop; both may be more than there are.
    pushed: AtomicU64,
    popped: AtomicU64,
    /// Null until the cells are used up.
    next: AtomicPtr<Chunk>,
    cells: [AtomicU64; CELLS],
}

/// The queue. Neither 0 nor the highest number can be an entry.
#[derive(Debug)]
pub(super) struct Fifo {
    /// Never null, each from `Box::into_raw`.
    head: CachePadded<AtomicPtr<Chunk>>,
    tail: CachePadded<AtomicPtr<Chunk>>,
    chunks: AtomicU64,
}

impl Chunk {
    fn holding(first: u64) -> *mut Chunk {
        Box::into_raw(Box::new(Chunk {
            pushed: AtomicU64::new(u64::from(first != EMPTY)),
            popped: AtomicU64::new(0),
            next: AtomicPtr::new(ptr::null_mut()),
            cells: std::array::from_fn(|at| AtomicU64::new(if at == 0 { first } else { EMPTY })),
        }))
    }
}

impl Fifo {
    pub(super) fn new() -> Fifo {
        let chunk = Chunk::holding(EMPTY);
        let place = || CachePadded::new(AtomicPtr::new(chunk));
        Fifo { head: place(), tail: place(), chunks: AtomicU64::new(1) }
    }

    pub(super) fn push(&self, entry: u64, _guard: &Guard) {
        debug_assert!(entry != EMPTY && entry != SPENT);
        loop {
            // Acquire pairs with the releases that move the tail: a chunk is seen as it was made.
            let tail = self.tail.load(Ordering::Acquire);
            // SAFETY: loaded under the guard (F2).
            let chunk = unsafe { &*tail };
            // Relaxed: it only has to hand out distinct cells.
            let at = chunk.pushed.fetch_add(1, Ordering::Relaxed);
            if let Some(cell) = chunk.cells.get(at as usize) {
                // Release: who pops the entry sees what it is about. A failure says that the cell is spent.
                if cell.compare_exchange(EMPTY, entry, Ordering::Release, Ordering::Relaxed).is_ok() {
                    return;
                }
                continue;
            }
            // Acquire pairs with the release below.
            let next = chunk.next.load(Ordering::Acquire);
            if !next.is_null() {
                self.move_tail(tail, next);
                continue;
            }
            let fresh = Chunk::holding(entry);
            // Relaxed: a counter; before others see the chunk, so that it is never counted as gone before it has come.
            self.chunks.fetch_add(1, Ordering::Relaxed);
            // Release publishes the chunk. Relaxed: who loses loads the winner's anew.
            if chunk.next.compare_exchange(ptr::null_mut(), fresh, Ordering::Release, Ordering::Relaxed).is_ok() {
                self.move_tail(tail, fresh);
                return;
            }
            self.chunks.fetch_sub(1, Ordering::Relaxed);
            // SAFETY: it was not published.
            drop(unsafe { Box::from_raw(fresh) });
        }
    }

    /// The oldest entry. `None` where there is none, or where those there are have not been put into their cells yet.
    pub(super) fn pop(&self, guard: &Guard) -> Option<u64> {
        loop {
            // Acquire pairs with the release that moves the head.
            let head = self.head.load(Ordering::Acquire);
            // SAFETY: loaded under the guard (F2).
            let chunk = unsafe { &*head };
            // Relaxed: a look that spares cells; a stale one says that there is nothing, or spends a cell in vain.
            let popped = chunk.popped.load(Ordering::Relaxed);
            if popped < CELLS as u64 {
                if popped >= chunk.pushed.load(Ordering::Relaxed) {
                    return None;
                }
                // Relaxed: it only has to hand out distinct cells.
                let at = chunk.popped.fetch_add(1, Ordering::Relaxed);
                if let Some(cell) = chunk.cells.get(at as usize) {
                    // Acquire pairs with the push.
                    match cell.swap(SPENT, Ordering::Acquire) {
                        EMPTY => continue,
                        entry => return Some(entry),
                    }
                }
            }
            // Acquire pairs with the release that publishes the chunk.
            let next = chunk.next.load(Ordering::Acquire);
            if next.is_null() {
                return None;
            }
            // F2. Relaxed: the head was acquired, and whoever moved it there knew the tail there or further on.
            if self.tail.load(Ordering::Relaxed) == head {
                self.move_tail(head, next);
            }
            // Release hands on the chunk's contents, and where the tail is.
            if self.head.compare_exchange(head, next, Ordering::Release, Ordering::Relaxed).is_ok() {
                self.chunks.fetch_sub(1, Ordering::Relaxed);
                // SAFETY: the head has just left it, and the tail had before (F2).
                unsafe { retire(head, guard) };
            }
        }
    }

    /// Moves the tail on from a chunk, if it is there still.
    fn move_tail(&self, from: *mut Chunk, next: *mut Chunk) {
        // Release hands on the chunk's contents. Relaxed: a failure says that another has moved it.
        let _ = self.tail.compare_exchange(from, next, Ordering::Release, Ordering::Relaxed);
    }

    /// Bytes of memory of the chunks.
    pub(super) fn memory(&self) -> u64 {
        self.chunks.load(Ordering::Relaxed) * size_of::<Chunk>() as u64
    }
}

/// Hands a chunk to the epoch.
///
/// # Safety
/// Neither head nor tail names it any more, for good; `guard` is of the collector whose guards all others hold.
unsafe fn retire(chunk: *mut Chunk, guard: &Guard) {
    // The models have no epoch: there it stays.
    if cfg!(loom) {
        return;
    }
    let chunk = SendChunk(chunk);
    // SAFETY: the caller's promise; the closure owns it from then on.
    unsafe {
        guard.defer_unchecked(move || {
            let chunk = chunk;
            drop(Box::from_raw(chunk.0));
        });
    }
}

struct SendChunk(*mut Chunk);

// SAFETY: plain numbers, and the closure is the only owner.
unsafe impl Send for SendChunk {}

impl Drop for Fifo {
    fn drop(&mut self) {
        // Relaxed: nobody else is here.
        let mut next = self.head.load(Ordering::Relaxed);
        while !next.is_null() {
            // SAFETY: chunks from the head on are this queue's alone, each from `Box::into_raw`.
            let chunk = unsafe { Box::from_raw(next) };
            next = chunk.next.load(Ordering::Relaxed);
        }
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn what_comes_first_goes_first_and_chunks_that_are_used_up_go() {
        let (fifo, guard) = (Fifo::new(), crossbeam_epoch::pin());
        assert_eq!(fifo.pop(&guard), None);
        for round in 0..1000 {
            (1..=round).for_each(|entry| fifo.push(entry, &guard));
            assert!(fifo.memory() <= (round / CELLS as u64 + 2) * size_of::<Chunk>() as u64);
            (1..=round).for_each(|entry| assert_eq!(fifo.pop(&guard), Some(entry)));
            assert_eq!(fifo.pop(&guard), None);
        }
        assert!(fifo.memory() <= 2 * size_of::<Chunk>() as u64);
        (1..=1000).for_each(|entry| fifo.push(entry, &guard));
    }

    #[test]
    fn of_many_who_push_and_pop_each_entry_is_had_once_and_each_pusher_in_order() {
        const EACH: u64 = 50_000;
        let fifo = Fifo::new();
        let had: Vec<Vec<u64>> = std::thread::scope(|scope| {
            let threads: Vec<_> = (1..=4u64)
                .map(|thread| {
                    let fifo = &fifo;
                    scope.spawn(move || {
                        let mut had = Vec::new();
                        for at in 0..EACH {
                            let guard = crossbeam_epoch::pin();
                            fifo.push(thread << 32 | at, &guard);
                            if at % 3 > 0 {
                                had.extend(fifo.pop(&guard));
                            }
                        }
                        had
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let in_order = |had: &[u64], thread| {
            let own: Vec<u64> = had.iter().copied().filter(|entry| entry >> 32 == thread).collect();
            own.windows(2).all(|pair| pair[0] < pair[1])
        };
        assert!(had.iter().all(|had| (1..=4).all(|thread| in_order(had, thread))));
        let guard = crossbeam_epoch::pin();
        let mut all: Vec<u64> = had.concat();
        all.extend(std::iter::from_fn(|| fifo.pop(&guard)));
        all.sort_unstable();
        assert!(all.into_iter().eq((1..=4u64).flat_map(|thread| (0..EACH).map(move |at| thread << 32 | at))));
    }
}
