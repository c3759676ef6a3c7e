//! What users do with pages: here the log meets the pages.
//!
//! - K1. An update's order is: encode, make the node, draw the LSN, publish by CAS, complete the record. So whoever sees an
//!   update comes after it, and what is stable is a prefix of the order of updates.
//! - K2. Between the draw and the completion there is no user code, no I/O and no wait.
//! - K3. Logical changes compare versions; physical ones (fold, page-in, eviction) compare the slot's word. So nobody's
//!   physical change ever fails a caller's update: it is tried again inside.

mod allocate;
pub(crate) mod copy;
mod encoded;
mod evict;
pub(crate) mod files_pin;
mod get;
pub(crate) mod memory;
mod misses;
mod names;
mod page_in;
pub(crate) mod rejected;
pub(crate) mod relocate;
mod settle;
pub(crate) mod update;

use std::sync::Arc;

use crossbeam_epoch::{Collector, Guard};

use crate::base::error::{Error, PageState, Result};
use crate::base::ids::{PageId, Version};
use crate::log::core::LogCore;
use crate::page::budget::Budget;
use crate::page::frees::Frees;
use crate::page::ids::Ids;
use crate::page::leaves::Leaves;
use crate::page::materialize::Materializer;
use crate::page::pins::Pins;
use crate::page::queues::Queues;
use crate::page::retired::{Lot, Retired};
use crate::page::slot::Word;
use crate::page::table::Table;
use memory::Memory;
pub(crate) use misses::Misses;

/// Pushes to the collector until what moves have retired may be free: two epochs, and what others have handed over before.
const PUSHES_MAX: u32 = 16;

/// Pushes that free nothing, after which who collects gives up: somebody holds a guard, or what others have pushed before is in the way, eight bags at a time.
const IN_VAIN_MAX: u32 = 64;

/// Pushes to the collector after which who collects leaves the rest to others: they may retire as fast.
const COLLECT_MAX: u32 = 1000;

/// The pages of a store and the log under them.
pub(crate) struct Pages<M: Materializer> {
    pub(crate) log: Arc<LogCore>,
    pub(crate) table: Table<M::PageFrag>,
    pub(crate) retired: Retired<M::PageFrag>,
    pub(crate) frees: Frees<M::PageFrag>,
    pub(crate) leaves: Leaves,
    pub(crate) ids: Ids,
    pub(crate) budget: Budget,
    pub(crate) queues: Queues,
    pub(crate) misses: Misses,
    pub(crate) pins: Pins,
    pub(crate) materializer: M,
    pub(crate) collector: Collector,
}

impl<M: Materializer> Pages<M> {
    /// Refuses guards that do not keep this store's nodes alive.
    fn check(&self, guard: &Guard) -> Result<()> {
        match guard.collector() == Some(&self.collector) {
            true => Ok(()),
            false => Err(Error::ForeignGuard),
        }
    }

    /// Frees what a word owns, so many bytes, once nobody can see it: it was just taken out of its slot.
    ///
    /// # Safety
    /// No slot names it any more, and nothing else frees what it owns.
    unsafe fn retire(&self, word: Word, bytes: usize, guard: &Guard) {
        // SAFETY: the caller's promise; readers' guards are of this collector, which `check` sees to.
        unsafe { self.frees.retire(word, bytes, guard) };
    }

    /// Bytes taken out of slots and not freed yet.
    pub(crate) fn garbage(&self) -> u64 {
        self.frees.bytes() + self.retired.bytes()
    }

    /// Weighs everything that is not a page, so that pages get what that leaves.
    pub(crate) fn weigh(&self) {
        let memory = Memory::of(self);
        self.budget.set_beside(memory.beside() - memory.garbage, memory.garbage);
    }

    /// Keeps what moves have taken out of slots until nobody can see it, and frees what was taken before and nobody sees any more.
    pub(crate) fn retire_lot(&self, lot: Lot<M::PageFrag>) {
        self.retired.free();
        if !lot.is_empty() {
            // SAFETY: as in `retire`.
            unsafe { self.retired.enter(lot, &self.pin()) };
        }
    }

    /// Frees what moves have taken out of slots as far as nobody sees it.
    pub(crate) fn collect_retired(&self) {
        self.retired.free();
        for _ in 0..PUSHES_MAX {
            if self.retired.bytes() == 0 {
                break;
            }
            self.pin().flush();
            self.retired.free();
        }
    }

    /// Frees what nobody can see any more, where nobody else comes by.
    pub(crate) fn collect(&self) {
        // Each push frees a few bags of what is due, and moves the epoch on by one at most: what was retired is free two epochs later.
        let (mut left, mut in_vain) = (self.garbage(), 0);
        for _ in 0..COLLECT_MAX {
            if left == 0 || in_vain == IN_VAIN_MAX {
                break;
            }
            let guard = self.pin();
            self.frees.enter_all(&guard);
            guard.flush();
            drop(guard);
            self.frees.free();
            self.retired.free();
            let now = self.garbage();
            in_vain = if now < left { 0 } else { in_vain + 1 };
            left = now;
        }
    }
}

fn no_page(page: PageId, state: PageState) -> Error {
    Error::NoPage { page, state }
}

fn conflict(page: PageId, current: Version) -> Error {
    Error::Conflict { page, current }
}
