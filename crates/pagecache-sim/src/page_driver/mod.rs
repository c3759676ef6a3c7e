//! The page cache as a world: its operations done on a simulated disk and compared with the model.

mod check;
mod flips;
mod op;
mod perform;
mod scenario;
mod swarm;

pub use flips::{Flips, Moment, closed_store, flip_bits};
pub use op::{Bytes, Concat, FRAGMENT_MIN, PageOp, Pick, Update, Wrong};
pub use scenario::{alphabet, preludes};

use std::fmt;

use pagecache::crossbeam_epoch::{Collector, LocalHandle};
use pagecache::{Background, Config, ConfigBuilder, Error, PageCache, PageId};

use crate::disk::{AfterSync, Effect, SimDisk};
use crate::driver::{Checked, Violation, World, claim};
use crate::page_model::{Body, PageModel};
use crate::rng::Rng;

use check::Blind;

type Answer<T> = Result<T, Error>;

/// Bytes of the smallest segment, which every store here has; its ring is as long.
pub const SEGMENT: u64 = 64 << 10;

/// The smallest cache, so that pages are evicted and come back.
pub const CAPACITY: u64 = 64 << 10;

/// A page cache, its disk and its model.
pub struct PageWorld {
    disk: SimDisk,
    pages: Option<PageCache<Concat>>,
    // Of this world alone, so that garbage is collected at the same places in every run.
    collector: Collector,
    handle: LocalHandle,
    model: PageModel,
    seed: u64,
    /// Fragments made so far: each has its own bytes.
    made: u64,
    /// What had struck when the store was opened.
    struck_before: usize,
    /// The store has said that it has failed, or has to.
    poisoned: bool,
}

impl fmt::Debug for PageWorld {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PageWorld").field("disk", &self.disk).field("pages", &self.pages).finish_non_exhaustive()
    }
}

/// The options of every store here, the collector aside.
pub fn builder(disk: &SimDisk) -> ConfigBuilder {
    ConfigBuilder::new()
        .storage(disk.clone())
        .segment_size(SEGMENT)
        .cache_capacity(CAPACITY)
        .background(Background::Caller)
}

impl Drop for PageWorld {
    fn drop(&mut self) {
        self.die();
    }
}

impl World for PageWorld {
    type Op = PageOp;

    fn new(disk: SimDisk, seed: u64) -> PageWorld {
        let collector = Collector::new();
        let handle = collector.register();
        let model = PageModel::new();
        PageWorld { disk, pages: None, collector, handle, model, seed, made: 0, struck_before: 0, poisoned: false }
    }

    fn over(&self, disk: SimDisk) -> PageWorld {
        let mut other = PageWorld::new(disk, self.seed);
        (other.model, other.made) = (self.model.clone(), self.made);
        other
    }

    fn disk(&self) -> &SimDisk {
        &self.disk
    }

    fn is_open(&self) -> bool {
        self.pages.is_some() && !self.disk.crashed()
    }

    fn open(&mut self) -> Checked {
        self.pages = None;
        self.poisoned = false;
        self.struck_before = self.disk.struck().len();
        if self.disk.struck().iter().any(|(_, effect)| *effect == Effect::SyncFails(AfterSync::LaterSyncLies)) {
            // No recovery can do anything about a disk that goes on lying.
            self.disk.clear_faults();
        }
        let (calls, struck) = (self.disk.io_count(), self.disk.struck().len());
        let mut started = PageCache::start(self.config());
        if let Err(error) = &started
            && !self.disk.crashed()
        {
            let excused = self.disk.capacity().is_some() || self.has_struck(self.struck_before);
            claim(excused, || format!("the start failed, and no call of the disk did: {error}"))?;
            self.disk.clear_faults();
            self.disk.set_capacity(None);
            started = PageCache::start(self.config());
        }
        self.struck_before = self.disk.struck().len();
        if self.disk.crashed() {
            return Ok(());
        }
        let undisturbed = self.struck_before == struck;
        let pages = started.map_err(|error| Violation::new(format!("the start failed: {error}")))?;
        // What is found is judged on a disk that reads.
        self.disk.clear_faults();
        self.check_opened(&pages)?;
        if undisturbed {
            self.check_calls_of_open(&pages, calls)?;
        }
        self.pages = Some(pages);
        Ok(())
    }

    fn close(&mut self) -> Checked {
        let Some(pages) = self.pages.take() else { return Ok(()) };
        let (tail, before) = (pages.stats().tail, self.disk.struck().len());
        let closed = pages.close();
        if self.excused(closed, before, Blind::Nothing)?.is_some() {
            self.model.acknowledged(tail);
        }
        Ok(())
    }

    fn apply(&mut self, op: &PageOp) -> Checked {
        let Some(pages) = self.pages.take() else { return Err(Violation::new("an operation on a closed store")) };
        let before = self.before(&pages);
        let done = self.perform(&pages, *op).and_then(|()| self.check_after(&pages, *op, before));
        self.pages = Some(pages);
        done
    }

    fn prove(&mut self) -> Checked {
        let Some(pages) = self.pages.take() else { return Err(Violation::new("a closed store")) };
        let proven = self.write_and_read(&pages);
        self.pages = Some(pages);
        proven
    }
}

impl PageWorld {
    fn config(&self) -> Config {
        builder(&self.disk).collector(self.collector.clone()).build()
    }

    /// The process dies: what the store does while it is dropped reaches no disk.
    fn die(&mut self) {
        if let Some(pages) = self.pages.take() {
            self.disk.crash_at(0);
            drop(pages);
        }
    }

    /// The next fragment's bytes: random, or all the same, and told from all others.
    fn body(&mut self, page: PageId, len: u32) -> Body {
        self.made += 1;
        let mut rng = Rng::new(self.seed ^ self.made << 20);
        let mut bytes = vec![if rng.one_in(2) { 0 } else { 0xff }; len.max(FRAGMENT_MIN) as usize];
        if !rng.one_in(4) {
            rng.fill(&mut bytes);
        }
        op::write_head(&mut bytes, self.made, page);
        bytes.into()
    }

    /// The page that is meant, if any is allocated.
    fn pick(&self, pick: Pick) -> Option<PageId> {
        let count = self.model.allocated().count();
        self.model.allocated().rev().nth(pick % count.max(1))
    }
}
