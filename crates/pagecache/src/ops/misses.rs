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

use crate::base::canary::{Canary, planted};
use crate::base::ids::{PageId, Version};
use crate::base::sync::{Condvar, Mutex, Ordering};
use crate::page::fragment::PageBytes;
use crate::page::slot::Word;

/// A record of a page as it was read: its version, and its fragment's bytes.
pub(super) type Read = (Version, PageBytes);

#[derive(Debug, Default)]
pub(crate) struct Misses {
    under_way: Mutex<Vec<UnderWay>>,
    /// Reads that were spared.
    shared: PlainU64,
}

#[derive(Debug)]
struct UnderWay {
    id: PageId,
    /// What the slot said, to be compared.
    word: usize,
    flight: Arc<Flight>,
}

#[derive(Debug, Default)]
struct Flight {
    state: Mutex<State>,
    landed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: u64,
    landed: bool,
    /// For those who wait, if there are any and it did not fail.
    found: Option<Vec<Read>>,
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
    flight: Arc<Flight>,
}

impl Misses {
    pub(super) fn turn(&self, id: PageId, word: Word) -> Turn<'_> {
        let word = word.bits();
        let mut under_way = self.under_way.lock();
        let is_same = |other: &&UnderWay| other.id == id && (other.word == word || planted(Canary::SharedReadByPage));
        let Some(same) = under_way.iter().find(is_same) else {
            let flight = Arc::<Flight>::default();
            under_way.push(UnderWay { id, word, flight: Arc::clone(&flight) });
            return Turn::Read(Lead { misses: self, flight });
        };
        let flight = Arc::clone(&same.flight);
        // Under the lock of the list: a read that is on it has not landed.
        flight.state.lock().waiting += 1;
        drop(under_way);
        let mut state = flight.state.lock();
        while !state.landed {
            state = flight.landed.wait(state);
        }
        state.waiting -= 1;
        let found = if state.waiting == 0 { state.found.take() } else { state.found.clone() };
        drop(state);
        match found {
            Some(found) => {
                // Relaxed: a counter.
                self.shared.fetch_add(1, Ordering::Relaxed);
                Turn::Shared(found)
            }
            None => Turn::Look,
        }
    }

    /// Reads that were spared, as somebody else was reading the same.
    pub(crate) fn shared(&self) -> u64 {
        self.shared.load(Ordering::Relaxed)
    }

    fn end(&self, flight: &Arc<Flight>, found: Option<&Vec<Read>>) {
        self.under_way.lock().retain(|other| !Arc::ptr_eq(&other.flight, flight));
        let mut state = flight.state.lock();
        state.landed = true;
        if state.waiting > 0 {
            state.found = found.cloned();
        }
        drop(state);
        flight.landed.notify_all();
    }
}

impl Lead<'_> {
    /// The read has found this, for those who wait too.
    pub(super) fn land(self, found: Vec<Read>) -> Vec<Read> {
        self.misses.end(&self.flight, Some(&found));
        found
    }
}

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        // After a landing this finds nobody left.
        self.misses.end(&self.flight, None);
    }
}
