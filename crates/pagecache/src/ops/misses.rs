//! Reads of cold pages that are under way: who misses a page that is being read takes what that read finds instead of doing it
//! again.
//!
//! - S1. A read is shared by page and slot word, and counts for each who took part only if the slot still says the same: an unchanged
//!   word proves that the read was of the right life.
//! - S2. What is waited for is I/O alone. A read has landed before anything is decoded: decoders are user code, and may ask for
//!   pages, or wait for who asks for them.
//! - S3. A read that fails is nobody else's: who waited for it looks again.

use std::sync::Arc;
use std::sync::atomic::AtomicU64 as PlainU64;

use crossbeam_utils::CachePadded;

use crate::base::canary::{Canary, planted};
use crate::base::ids::{PageId, Version};
use crate::base::sync::{Condvar, Mutex, Ordering};
use crate::format::piece::Piece;
use crate::page::fragment::PageBytes;
use crate::page::slot::Word;

/// A record of a page as it was read.
#[derive(Clone, Debug)]
pub(super) struct Read {
    pub(super) version: Version,
    /// Its fragment's bytes.
    pub(super) bytes: PageBytes,
    pub(super) piece: Piece,
    /// Behind an image, records that the image holds already.
    pub(super) held: Vec<Piece>,
}

#[derive(Debug, Default)]
pub(crate) struct Misses {
    list: Mutex<List>,
    /// A read that somebody waits for has landed or failed.
    landed: Condvar,
    /// Reads that were spared.
    shared: PlainU64,
    /// Bytes of memory of all reads under way. Relaxed: nothing is ordered by it.
    memory: CachePadded<PlainU64>,
}

/// A page's records as they were read, and their memory, which is counted as long as they are looked at.
#[derive(Debug)]
pub(super) struct Reads<'a> {
    pub(super) list: Vec<Read>,
    pub(super) counted: Counted<'a>,
}

/// Memory of reads.
#[derive(Debug)]
pub(super) struct Counted<'a> {
    misses: &'a Misses,
    bytes: u64,
}

impl Counted<'_> {
    pub(super) fn add(&mut self, bytes: u64) {
        self.bytes += bytes;
        self.misses.memory.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.misses.memory.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[derive(Debug, Default)]
struct List {
    reads: Vec<Reading>,
    /// Of the next read.
    number: u64,
}

/// A read, from its begin until it has landed and nobody waits for it any more.
#[derive(Debug)]
struct Reading {
    number: u64,
    id: PageId,
    /// What the slot said, to be compared.
    word: usize,
    waiting: u64,
    state: State,
}

#[derive(Clone, Debug)]
enum State {
    Reading,
    /// For those who wait. Behind a pointer, so that nothing long is copied under the lock.
    Landed(Arc<Vec<Read>>),
    Failed,
}

/// What is to be done about a miss.
#[derive(Debug)]
#[must_use]
pub(super) enum Turn<'a> {
    /// Read it; others may wait for that.
    Read(Lead<'a>),
    /// Somebody else has read it.
    Shared(Vec<Read>),
    /// Somebody else's read has failed: look at the slot again.
    Look,
}

/// A read that others may wait for. Dropping it tells them that there is nothing to be had.
#[derive(Debug)]
pub(super) struct Lead<'a> {
    misses: &'a Misses,
    number: u64,
    landed: bool,
}

impl List {
    fn position(&self, number: u64) -> Option<usize> {
        self.reads.iter().position(|read| read.number == number)
    }

    /// A read that whoever misses this page may wait for.
    fn same(&mut self, id: PageId, word: usize) -> Option<&mut Reading> {
        self.reads.iter_mut().find(|read| {
            let is_same = read.id == id && (read.word == word || planted(Canary::SharedReadByPage));
            is_same && matches!(read.state, State::Reading)
        })
    }

    fn begin(&mut self, id: PageId, word: usize) -> u64 {
        self.number += 1;
        self.reads.push(Reading { number: self.number, id, word, waiting: 0, state: State::Reading });
        self.number
    }

    fn is_reading(&self, number: u64) -> bool {
        self.reads.iter().any(|read| read.number == number && matches!(read.state, State::Reading))
    }

    /// What a read that is over has found, for one who has waited for it.
    fn leave(&mut self, number: u64) -> Option<Arc<Vec<Read>>> {
        let at = self.position(number)?;
        let read = self.reads.get_mut(at)?;
        read.waiting -= 1;
        let state = match read.waiting {
            0 => self.reads.swap_remove(at).state,
            _ => read.state.clone(),
        };
        match state {
            State::Landed(found) => Some(found),
            State::Reading | State::Failed => None,
        }
    }
}

impl Misses {
    pub(super) fn turn(&self, id: PageId, word: Word) -> Turn<'_> {
        let word = word.bits();
        let mut list = self.list.lock();
        let Some(same) = list.same(id, word) else {
            let number = list.begin(id, word);
            return Turn::Read(Lead { misses: self, number, landed: false });
        };
        same.waiting += 1;
        let number = same.number;
        while list.is_reading(number) {
            list = self.landed.wait(list);
        }
        let found = list.leave(number);
        drop(list);
        match found {
            Some(found) => {
                // Relaxed: a counter.
                self.shared.fetch_add(1, Ordering::Relaxed);
                Turn::Shared(Arc::unwrap_or_clone(found))
            }
            None => Turn::Look,
        }
    }

    /// Begins to count the memory of a read.
    pub(super) fn count(&self) -> Counted<'_> {
        Counted { misses: self, bytes: 0 }
    }

    /// Bytes of memory of all reads under way.
    pub(crate) fn memory(&self) -> u64 {
        self.memory.load(Ordering::Relaxed)
    }

    /// Reads that were spared, as somebody else was reading the same.
    pub(crate) fn shared(&self) -> u64 {
        self.shared.load(Ordering::Relaxed)
    }

    fn end(&self, number: u64, found: Option<&Vec<Read>>) {
        let mut list = self.list.lock();
        let Some(at) = list.position(number) else { return };
        if list.reads.get(at).is_some_and(|read| read.waiting == 0) {
            list.reads.swap_remove(at);
            return;
        }
        drop(list);
        let state = found.map_or(State::Failed, |found| State::Landed(Arc::new(found.clone())));
        let mut list = self.list.lock();
        // Who waits stays until the state changes.
        if let Some(read) = list.position(number).and_then(|at| list.reads.get_mut(at)) {
            read.state = state;
        }
        drop(list);
        self.landed.notify_all();
    }
}

impl Lead<'_> {
    /// The read has found this, for those who wait too.
    pub(super) fn land(mut self, found: Vec<Read>) -> Vec<Read> {
        self.landed = true;
        self.misses.end(self.number, Some(&found));
        found
    }
}

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        if !self.landed {
            self.misses.end(self.number, None);
        }
    }
}
