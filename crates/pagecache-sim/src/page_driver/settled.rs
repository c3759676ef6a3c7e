//! What a store may take of disk and of memory.

use pagecache::{Lsn, PageCache, Stats};

use super::check::Before;
use super::op::SETTLED;
use super::{BUDGET, Concat, LOG_LIMIT, PageOp, PageWorld, SEGMENT};
use crate::driver::{Blind, Checked, Violation, claim, has_struck};

/// As the options are where nobody says otherwise.
const FILL_TARGET: f64 = 0.8;

/// Segments beside the fill target, in which cleaning works.
const RESERVE: u64 = 4;

/// Segments below a cap that users leave to upkeep.
const UPKEEP: u64 = 6;

/// The map is less than a segment here.
const MAP: u64 = 1;

/// Files kept for reuse in any case.
const SPARES: u64 = 2;

/// Files beside those that there were: the log's next one and one of a birth, the superblocks, two of the map, and what a turn writes before
/// it gives anything back.
const FILES: u64 = 12;

/// Bytes that every store here holds beside its pages: the ring, the table, as long at first as half a budget of so few pages would be, what both streams
/// of images gather in (a segment each, in a vector that has doubled), and what a checkpoint gathers in.
const FIXED: u64 = SEGMENT + (72 << 10) + 4 * SEGMENT + (8 << 10);

/// Garbage that no guard keeps, behind a tick: what is not handed over yet.
const GARBAGE: u64 = 16 << 10;

/// What was there when disk was within its bound, or not this store's doing yet.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Held {
    /// Where the log ended when the store was opened.
    pub(super) opened: Lsn,
    /// And how many files there were.
    pub(super) at_start: u64,
    /// Where it ended then, and how many files there were.
    pub(super) tail: Lsn,
    pub(super) files: u64,
    /// What had struck the disk when it was opened, or has settled since.
    pub(super) struck: usize,
}

/// Segments that there may be: what is in use at the fill target, the log's limit and the reserve. Lengths in slots are up to a thirty-second too
/// long, and the fill is of what has room beside the two headers.
fn promised(stats: &Stats) -> u64 {
    let live = (stats.live_bytes - stats.live_bytes / 33) as f64 / FILL_TARGET;
    (live * SEGMENT as f64 / (SEGMENT - 2 * 4096) as f64 + LOG_LIMIT as f64) as u64 / SEGMENT + RESERVE + MAP
}

impl PageWorld {
    /// Writes a checkpoint, below which everything can be moved, and cleans until nothing is.
    pub(super) fn settle(&mut self, pages: &PageCache<Concat>) -> Checked {
        let since = self.disk.struck().len();
        if self.excused(pages.flush(), since, Blind::Nothing)?.is_none()
            || self.excused(pages.checkpoint(), since, Blind::Nothing)?.is_none()
        {
            return Ok(());
        }
        for _ in 0..SETTLED {
            match self.clean(pages)? {
                Some(0) => {
                    self.calm_down(pages, since);
                    return Ok(());
                }
                Some(_) => {}
                None => return Ok(()),
            }
        }
        Err(Violation::new(format!("{SETTLED} turns of cleaning have moved pages, and there are more")))
    }

    /// A disk that is well again, on which all has been done that there was to do, excuses nothing any more.
    fn calm_down(&mut self, pages: &PageCache<Concat>, since: usize) {
        let struck = self.disk.struck().len();
        if self.is_undisturbed() || struck > since || self.disk.capacity().is_some() {
            return;
        }
        let (tail, files) = (pages.stats().tail, self.disk.file_names().len() as u64);
        self.held = Held { tail, files, struck, ..self.held };
        self.upkeep.calmed += u64::from(self.is_undisturbed());
    }

    /// Nothing that has happened to this store since it was opened, or has settled, excuses it.
    pub(super) fn is_undisturbed(&self) -> bool {
        let trust = &self.trust;
        let has_struck = has_struck(&self.disk, self.held.struck);
        !trust.is_poisoned() && !trust.is_betrayed() && !has_struck && self.disk.capacity().is_none()
    }

    /// What was there when a store was opened.
    pub(super) fn hold(&mut self, pages: &PageCache<Concat>) {
        let tail = pages.stats().tail;
        let files = self.disk.file_names().len() as u64;
        self.held = Held { opened: tail, at_start: files, tail, files, struck: self.disk.struck().len() };
    }

    /// Disk is within what is promised where the store has had its turns: a settled store has; a tick has them once half of the
    /// log's limit has been written since the start, and then after each quarter. Between two of them the log grows, and nothing else does.
    pub(super) fn check_disk(&mut self, stats: &Stats, op: PageOp, before: &Before) -> Checked {
        if self.pinned.is_some() {
            // Whoever holds the pin answers for what it keeps.
            return self.check_pinned();
        }
        let names = self.disk.file_names();
        let (files, len) = (names.len() as u64, self.disk.total_len());
        // A store that opens nearly full takes a little more, or it could not become less full.
        let cap = self.cap.map_or(u64::MAX, |cap| cap.max((self.held.at_start + UPKEEP) * SEGMENT));
        claim(len <= cap, || format!("{len} bytes on disk, over the cap of {cap}"))?;
        if !self.is_undisturbed() {
            // What is cleaned is there twice until it is given back. A write that went astray may have made a file longer.
            let most = 2 * (stats.tail.0 / SEGMENT) + 1 + FILES;
            let fits = files <= most && len <= most * SEGMENT || self.trust.is_betrayed();
            return claim(fits, || format!("{files} files of {len} bytes up to {}", stats.tail));
        }
        let most = self.held.files + (stats.tail.0 - self.held.tail.0) / SEGMENT + FILES;
        claim(files <= most && len <= most * SEGMENT, || {
            format!("{files} files of {len} bytes, {:?} before", self.held)
        })?;
        let had_turns = match op {
            PageOp::Settle => true,
            PageOp::Tick => stats.tail.0 - self.held.opened.0 >= LOG_LIMIT / 2,
            _ => false,
        };
        if !had_turns {
            return Ok(());
        }
        self.upkeep.bounded += 1;
        let segments = names.iter().filter(|name| name.starts_with("seg-")).count() as u64;
        let spares = names.iter().filter(|name| name.starts_with("tmp-")).count() as u64;
        let now = promised(stats);
        claim(segments <= now, || format!("{segments} segments behind {op:?} and {now} promised: {stats:?}"))?;
        // Files are kept for reuse within what was promised before the turn, which folds links and is promised less.
        let most = now.max(promised(&before.stats)) + SPARES;
        claim(segments + spares <= most, || format!("{segments} segments and {spares} files to be, of {most}"))?;
        self.held = Held { tail: stats.tail, files, ..self.held };
        Ok(())
    }

    /// Memory is within its budget, or as far beyond as a budget this small is below what a store cannot do without: pages get a quarter whatever
    /// the rest takes. What guards keep is the caller's, and goes with the next tick.
    pub(super) fn check_memory(&self, stats: &Stats, op: PageOp) -> Checked {
        // Who is refused by a cap has read the page, however long, and makes no room for it any more.
        if !self.is_undisturbed() || self.is_full {
            return Ok(());
        }
        let memory = stats.memory;
        // A thread may have added a little since it was looked, and what it read besides.
        let pages = BUDGET / 4 + BUDGET / 32;
        let fixed = FIXED + 64 * stats.ids_high_water + (1 << 10) * stats.segments;
        let held = memory.total() - memory.garbage;
        claim(memory.pages <= pages, || format!("{} bytes of pages, over {pages}: {memory:?}", memory.pages))?;
        claim(held <= BUDGET.max(pages + fixed), || {
            format!("{held} bytes are held, over {pages} and {fixed}: {memory:?}")
        })?;
        let is_kept = op != PageOp::Tick || memory.garbage <= GARBAGE;
        claim(is_kept, || format!("{} bytes of garbage are left by a tick", memory.garbage))
    }
}
