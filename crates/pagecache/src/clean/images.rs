//! Images on their way: batches of copies written to streams, and the pages that go to them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::batch::Batch;
use crate::base::canary::{Canary, planted};
use crate::base::error::{Error, Result};
use crate::base::sync::Ordering;
use crate::format::segment::Stream;
use crate::log::core::LogCore;
use crate::ops::Pages;
use crate::ops::relocate::Going;
use crate::page::materialize::Materializer;
use crate::store::limit::{CAPPED, Claim, FULL};
use crate::store::segment::Segment;
use crate::store::stream::{self, Writer};

/// Whether the log says what is moved and given back. Not where what is left below a cap, or of the disk, is for the checkpoint; nor in a segment that was there while
/// files were pinned, or before the start: who copies or links them has the names first and the log after, and what that says by then may be of files that have come since.
pub(super) fn says_moves(log: &LogCore) -> bool {
    log.pool.left(Claim::User) != Some(0) && !log.pool.is_linked_at(log.tail())
}

/// Where images go: those of pages that were in the log, and those that are moved again.
pub(super) struct Images {
    folds: Writer,
    survivors: Writer,
    /// The longest page of late: so much may stay empty at a segment's end.
    longest: u64,
    /// A cap, or the disk, has left no room for more in this turn.
    full: bool,
    /// Pages have gone of which the log does not say so: what they left behind is given back by a checkpoint alone.
    unsaid: bool,
    /// Bytes of memory held, as they were counted last.
    held: u64,
}

impl Images {
    pub(super) fn new() -> Images {
        let (folds, survivors) = (Writer::new(Stream::Folds), Writer::new(Stream::Survivors));
        Images { folds, survivors, longest: 0, full: false, unsaid: false, held: 0 }
    }

    /// Bytes that may stay empty at a segment's end.
    pub(super) fn longest(&self) -> u64 {
        self.longest
    }

    /// Takes note of the beginning of a turn: what there was no room for in the last one there may be room for now.
    pub(super) fn begin(&mut self) {
        self.full = false;
    }

    /// Whether a cap, or the disk, has left no room for more.
    pub(super) fn are_full(&self) -> bool {
        self.full
    }

    /// Whether pages have gone of which the log does not say so.
    pub(super) fn are_unsaid(&self) -> bool {
        self.unsaid
    }

    /// Takes note of a checkpoint that has begun behind all moves so far.
    pub(super) fn set_said(&mut self) {
        self.unsaid = false;
    }

    /// The segments that are appended to.
    pub(super) fn open(&self) -> [Option<&Arc<Segment>>; 2] {
        [self.folds.segment(), self.survivors.segment()]
    }

    /// Has a turn write, and counts what it wrote. Where it fails the segments are left behind; a panic of the storage ends the log.
    pub(super) fn turn(&mut self, log: &LogCore, turn: impl FnOnce(&mut Images) -> Result<u64>) -> Result<u64> {
        self.longest -= self.longest / 8;
        let before = (self.folds.written(), self.survivors.written());
        let moved = catch_unwind(AssertUnwindSafe(|| turn(self)));
        log.counters.fold_bytes.fetch_add(self.folds.written() - before.0, Ordering::Relaxed);
        log.counters.survivor_bytes.fetch_add(self.survivors.written() - before.1, Ordering::Relaxed);
        let moved = moved.unwrap_or_else(|_| {
            // What panicked is the user's storage, and what it has done of its work nobody knows: the log ends, as it does where a write of its own panics.
            log.fail_by_panic();
            Err(log.poison_error())
        });
        let moved = moved.map_err(|error| {
            self.folds.give_up(&log.pool);
            self.survivors.give_up(&log.pool);
            match error {
                error @ Error::Io { op: "sync" | "sync_dir", .. } => log.poison(error),
                error => error,
            }
        });
        self.hold(log);
        moved
    }

    /// Writes the images of a batch and has their pages go there. Returns how many went. Where a cap, or the disk, leaves no room for all of them the others
    /// stay where they are.
    ///
    /// # Errors
    /// As a write and a sync of a stream.
    pub(super) fn write<M: Materializer>(&mut self, pages: &Pages<M>, mut batch: Batch) -> Result<u64> {
        let log = &*pages.log;
        let (copies, mut written) = batch.take();
        for (mut copies, writer) in copies.into_iter().zip([&mut self.folds, &mut self.survivors]) {
            // Those that were written at the same time are likely to die at the same time. What is in the log has links that came just now: of
            // these pages it is the time before that tells. In place: a sort that keeps an order has lists of its own.
            copies.sort_unstable_by_key(|copied| (copied.prior, copied.id));
            for copied in copies {
                self.longest = self.longest.max(copied.len() as u64 + 64);
                match pages.write_image(copied, batch.content(), writer) {
                    Ok(image) => written.push(image),
                    Err(Error::NoSpace { what: CAPPED | FULL }) => {
                        self.full = true;
                        break;
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        // N1.
        let writers = [&mut self.folds, &mut self.survivors];
        match planted(Canary::ImageUnsynced) {
            true => stream::name(writers, &log.pool)?,
            false => stream::sync(writers, &log.pool)?,
        }
        self.hold(log);
        let mut going = Going::new(batch.content());
        // One guard, pinned anew for each page: whoever pins one again and again frees what others have retired.
        let mut guard = pages.pin();
        written.retain(|image| {
            guard.repin();
            pages.go_to_image(image, &mut going, &guard)
        });
        drop(guard);
        let lot = going.into_lot();
        // N4.
        if !planted(Canary::MoveUnsaid) && !written.is_empty() && !self.unsaid {
            let said = written.iter().filter_map(|image| image.said(batch.content()));
            self.unsaid = !says_moves(log) || pages.say_moves(said).is_err();
        }
        pages.leave_behind(&written, batch.content());
        pages.retire_lot(lot);
        batch.end();
        self.folds.settle();
        self.survivors.settle();
        Ok(written.len() as u64)
    }

    /// Takes note of the memory that is held: what is gathered to be written.
    fn hold(&mut self, log: &LogCore) {
        let now = self.folds.memory() + self.survivors.memory();
        log.hold(&mut self.held, now);
    }
}
