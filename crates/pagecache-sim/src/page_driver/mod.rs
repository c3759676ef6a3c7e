//! The page cache as a world: its operations done on a simulated disk and compared with the model.

mod capped;
mod cases;
mod check;
mod flips;
mod op;
mod perform;
mod pinned;
mod scenario;
mod settled;
mod swarm;
mod upkeep;
mod ways;

pub use capped::Capped;
pub use cases::cases;
pub use flips::{Flips, Moment, closed_store, flip_bits};
pub use op::{Bytes, Concat, FRAGMENT_MIN, PageOp, Pick, Update, Wrong};
pub use scenario::{alphabet, pinned, pinned_alphabet, preludes};

use std::fmt;

use pagecache::crossbeam_epoch::{Collector, LocalHandle};
use pagecache::{Background, Config, ConfigBuilder, Error, PageCache, PageId};

use crate::disk::SimDisk;
use crate::driver::{Blind, Checked, Mood, Trust, Upkeep, Violation, World};
use crate::page_model::{Body, PageModel};
use crate::rng::Rng;
use pinned::Pinned;
use settled::Held;

type Answer<T> = Result<T, Error>;

/// Bytes of the smallest segment, which every store here has; its ring is as long.
pub const SEGMENT: u64 = 64 << 10;

/// Bytes of pages that the cache has room for, about, so that pages are evicted and come back.
pub const CAPACITY: u64 = 64 << 10;

/// Bytes that the store may hold in all: the ring of every store here is as large as its pages may be, and the table takes about half as much.
pub const BUDGET: u64 = CAPACITY + (128 << 10);

/// The smallest limit of the log, so that ticks write checkpoints.
pub const LOG_LIMIT: u64 = 256 << 10;

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
    trust: Trust,
    /// Files are to stay.
    pinned: Option<Pinned>,
    /// Bytes on disk that it may not go beyond.
    cap: Option<u64>,
    /// It has refused an update for it, and taken none since.
    is_full: bool,
    held: Held,
    /// Counted since it was asked for.
    upkeep: Upkeep,
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
        .cache_capacity(BUDGET)
        .log_limit(LOG_LIMIT)
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
        PageWorld {
            disk,
            pages: None,
            collector,
            handle,
            model,
            seed,
            made: 0,
            trust: Trust::default(),
            pinned: None,
            cap: None,
            is_full: false,
            held: Held::default(),
            upkeep: Upkeep::default(),
        }
    }

    fn over(&self, disk: SimDisk) -> PageWorld {
        let mut other = PageWorld::new(disk, self.seed);
        (other.model, other.made, other.cap) = (self.model.clone(), self.made, self.cap);
        let mut trust = self.trust.clone();
        trust.look(&self.disk, self.model.stable());
        other.trust = trust.elsewhere();
        other
    }

    fn disk(&self) -> &SimDisk {
        &self.disk
    }

    fn is_open(&self) -> bool {
        self.pages.is_some() && !self.disk.crashed()
    }

    fn trust(&self) -> &Trust {
        &self.trust
    }

    fn start(&mut self) -> Result<bool, Violation> {
        self.pages = None;
        self.trust.look(&self.disk, self.model.stable());
        self.trust.opening(&self.disk);
        if self.trust.is_betrayed() {
            self.model.doubt(self.trust.promised(self.model.stable()));
        }
        let other_ways = self.by_other_ways()?;
        let (calls, struck) = (self.disk.io_count(), self.disk.struck().len());
        let started = PageCache::start(self.config());
        let Some(pages) = self.trust.excuse_start(&self.disk, started, self.model.stable())? else { return Ok(false) };
        let undisturbed = self.disk.struck().len() == struck;
        self.trust.opened(&self.disk);
        // What is found is judged on a disk that reads.
        self.disk.clear_faults();
        self.check_opened(&pages)?;
        if self.trust.is_lost() {
            return Ok(false);
        }
        for (way, other) in other_ways {
            self.check_same(&pages, &other).map_err(|broken| broken.within(&way))?;
            self.upkeep.ways += 1;
        }
        if undisturbed {
            self.check_calls_of_open(&pages, calls)?;
            self.check_space(&pages)?;
        }
        self.hold(&pages);
        self.pages = Some(pages);
        Ok(true)
    }

    fn close(&mut self) -> Checked {
        let Some(pages) = self.pages.take() else { return Ok(()) };
        self.pinned = None;
        let (tail, before) = (pages.stats().tail, self.disk.struck().len());
        let closed = pages.close();
        if self.excused(closed, before, Blind::Nothing)?.is_some() {
            self.model.acknowledged(tail);
        }
        Ok(())
    }

    fn apply(&mut self, op: &PageOp) -> Checked {
        let Some(pages) = self.pages.take() else { return Err(Violation::new("an operation on a closed store")) };
        let before = self.before(&pages, *op);
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

    fn mood(&mut self) -> Result<Mood, Violation> {
        let Some(pages) = self.pages.take() else { return Err(Violation::new("a closed store")) };
        let since = self.disk.struck().len();
        let wrote = self.write_one(&pages)?;
        let flushed = self.excused(pages.flush(), since, Blind::Nothing)?;
        self.pages = Some(pages);
        self.model.acknowledged(flushed.unwrap_or_default());
        Ok(match flushed {
            Some(_) if wrote => Mood::Works,
            _ if self.trust.is_poisoned() => Mood::Poisoned,
            _ => Mood::Refuses,
        })
    }

    fn upkeep(&mut self) -> Upkeep {
        std::mem::take(&mut self.upkeep)
    }
}

impl PageWorld {
    fn config(&self) -> Config {
        builder(&self.disk).collector(self.collector.clone()).max_disk_bytes(self.cap).build()
    }

    /// The process dies: what the store does while it is dropped reaches no disk.
    fn die(&mut self) {
        if let Some(pages) = self.pages.take() {
            self.disk.crash_at(0);
            self.pinned = None;
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
