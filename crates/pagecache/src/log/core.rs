//! The log in memory, put together: drawing tickets, filling them, completing them.

use std::sync::Arc;
use std::sync::atomic::AtomicU64 as PlainU64;

use crossbeam_utils::CachePadded;

use super::extents::Extents;
use super::geometry::{Geometry, Place};
use super::lives::Lives;
use super::open::{OpenSlots, Seen};
use super::pace::Pace;
use super::ring::Ring;
use super::rounds::Rounds;
use super::supply::Supply;
use super::tail::{Refused, Tail, Urgency};
use crate::base::canary::{Canary, planted};
use crate::base::error::{Error, Result};
use crate::base::event::Event;
use crate::base::freed::Freed;
use crate::base::ids::Lsn;
use crate::base::sync::{AtomicBool, AtomicU64, Condvar, Mutex, MutexGuard, Ordering};
use crate::format::record::pad_segment;
use crate::format::segment::Stream;
use crate::store::in_use::InUse;
use crate::store::pool::Pool;
use crate::store::segment::Segment;

/// Blocks of what is set aside that are left to pads: the end of a round, which may have to skip the rest of a block, the mark that proves it, the one of a
/// close, and the segment's last block, which is nobody's. The segments of the models are too short for that.
const PADS: u64 = if cfg!(any(loom, shuttle)) { 1 } else { 5 };

/// A log that is open. Everything is shared; nothing here starts a thread.
#[derive(Debug)]
pub(crate) struct LogCore {
    pub(super) geometry: Geometry,
    pub(super) tail: Tail,
    pub(super) open: OpenSlots,
    pub(super) ring: Ring,
    pub(crate) lives: Lives,
    pub(crate) pool: Pool,
    /// Everything below is synced (L4). Moved by the leader of a round, after the sync, with release.
    pub(super) stable: CachePadded<AtomicU64>,
    /// Everything below was trimmed.
    pub(super) first: AtomicU64,
    /// Draws may go up to here as far as segments are concerned. Moved under the lock of `supply`.
    pub(super) ready: AtomicU64,
    /// What of it is for updates: not what was made for frees where there was no room for users.
    pub(super) for_users: AtomicU64,
    pub(super) rounds: Mutex<Rounds>,
    /// A write has landed or failed.
    pub(super) landed: Condvar,
    /// The stable LSN has moved, a round has ended, or the log closes or has failed.
    pub(super) moved: Condvar,
    pub(super) supply: Mutex<Supply>,
    pub(super) extents: Extents,
    pub(super) closing: AtomicBool,
    max_record: u64,
    read_only: bool,
    /// Rung when a chunk is complete, or a flush is asked for.
    pub(crate) work: Event,
    /// Rung when little of the ready space is left.
    pub(crate) short: Event,
    pub(super) pace: Pace,
    /// Rung when a checkpoint is due.
    pub(crate) behind: Event,
    /// Memory that pages and their upkeep gave back to the allocator.
    pub(crate) freed: Arc<Freed>,
    /// A checkpoint is due when the tail is here; never for a log alone. Relaxed: it orders nothing.
    due: AtomicU64,
    /// Bytes of log from one checkpoint to the next.
    pub(super) checkpoint_every: u64,
    /// It is looked for something to clean when the tail is here, at first when the first checkpoint is due. Relaxed, as above.
    clean_at: AtomicU64,
    /// Where the tail was when it was asked last for room that nobody needs yet. Relaxed: a number to compare with.
    pub(super) asked_at: AtomicU64,
    /// Where the last record starts that says what has moved. Relaxed: see `has_said`.
    said: AtomicU64,
    flush_asked: AtomicBool,
    pub(crate) counters: Counters,
}

/// Whether a leader waits for tickets that others hold open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    /// Until they are done, or the log closes.
    Wait,
    /// Not at all: what is whole now is flushed.
    None,
}

/// What the log has done since it was opened.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Bytes handed to the storage.
    pub(crate) written: PlainU64,
    /// Rounds synced.
    pub(crate) rounds: PlainU64,
    /// Checkpoints that are durable.
    pub(crate) checkpoints: PlainU64,
    /// Bytes of checkpoints handed to the storage, whatever became of them.
    pub(crate) checkpoint_bytes: PlainU64,
    /// Bytes of images of pages that were in the log, handed to the storage; and of those that were images already.
    pub(crate) fold_bytes: PlainU64,
    pub(crate) survivor_bytes: PlainU64,
    /// Where replay would start now.
    pub(crate) redo: PlainU64,
    /// Bytes of memory of what is gathered to be written, beside the ring.
    pub(crate) buffers: PlainU64,
}

/// What pages take on disk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    pub(crate) segments: u64,
    /// Bytes of records in use.
    pub(crate) live: u64,
}

/// Where and how a log goes on.
#[derive(Debug)]
pub(crate) struct Restart {
    pub(crate) tail: Lsn,
    pub(crate) first: Lsn,
    pub(crate) supply: Option<Supply>,
    pub(crate) max_record: u64,
    pub(crate) read_only: bool,
    pub(crate) extents: Extents,
    /// Where replay would start.
    pub(crate) redo: Lsn,
    /// Bytes of log from one checkpoint to the next; none for a log alone.
    pub(crate) checkpoint_every: Option<u64>,
}

impl LogCore {
    /// A log whose records end at `restart.tail`, all of them stable.
    pub(crate) fn new(pool: Pool, restart: Restart) -> Arc<LogCore> {
        let segment = pool.segment_size();
        let geometry = Geometry::new(segment);
        let lives = Lives::new(segment);
        let newest = pool.log();
        for found in newest.iter().rev().take(8).rev() {
            lives.publish(found.header.start, found.header.salt, found.header.sequence);
        }
        let supply = restart.supply.unwrap_or_default();
        let due = restart.checkpoint_every.map_or(u64::MAX, |every| restart.redo.0.saturating_add(every));
        // In its place at once: it is large.
        let log = Arc::new(LogCore {
            geometry,
            tail: Tail::new(restart.tail),
            open: OpenSlots::new(),
            // A log that is only read needs no ring.
            ring: Ring::new(if restart.read_only { 64 } else { geometry.ring }),
            lives,
            pool,
            stable: CachePadded::new(AtomicU64::new(restart.tail.0)),
            first: AtomicU64::new(restart.first.0),
            ready: AtomicU64::new(supply.ready(&geometry).0),
            for_users: AtomicU64::new(supply.ready(&geometry).0),
            rounds: Mutex::new(Rounds::new(restart.tail)),
            landed: Condvar::new(),
            moved: Condvar::new(),
            supply: Mutex::new(supply),
            extents: restart.extents,
            closing: AtomicBool::new(false),
            max_record: restart.max_record,
            read_only: restart.read_only,
            work: Event::new(),
            short: Event::new(),
            pace: Pace::new(),
            behind: Event::new(),
            freed: Arc::new(Freed::new()),
            due: AtomicU64::new(due),
            checkpoint_every: restart.checkpoint_every.unwrap_or(u64::MAX),
            // Of its own from the beginning: where users write checkpoints often enough none is ever due.
            clean_at: AtomicU64::new(due),
            asked_at: AtomicU64::new(0),
            said: AtomicU64::new(0),
            flush_asked: AtomicBool::new(false),
            counters: Counters { redo: PlainU64::new(restart.redo.0), ..Counters::default() },
        });
        match restart.read_only {
            true => log.tail.close(),
            false => log.refresh_limits(&log.rounds.lock()),
        }
        log
    }

    /// The tail: the next LSN to be drawn.
    pub(crate) fn tail(&self) -> Lsn {
        self.tail.now()
    }

    /// Everything below is whole: drawn, copied and completed (L3).
    pub(crate) fn prefix(&self) -> Lsn {
        self.prefix_and_limit().0
    }

    /// The prefix, and the open ticket that keeps it from being higher. Who sleeps for a higher prefix sleeps on that very
    /// ticket: one looked up later may hold up nothing, and its owner may be waiting for the sleeper.
    pub(super) fn prefix_and_limit(&self) -> (Lsn, Option<Seen<'_>>) {
        // The order is L3: the tail first, the slots after.
        let tail = self.tail.now();
        let oldest = self.open.oldest();
        let tail = if planted(Canary::TailReadAfterSlots) { self.tail.now() } else { tail };
        match oldest {
            Some(oldest) if oldest.bound() <= tail => (oldest.bound(), Some(oldest)),
            _ => (tail, None),
        }
    }

    /// Everything below is durable.
    pub(crate) fn stable(&self) -> Lsn {
        // Acquire pairs with the leader's release: what is stable has been written.
        Lsn(self.stable.load(Ordering::Acquire))
    }

    /// Everything below was trimmed.
    pub(crate) fn first(&self) -> Lsn {
        Lsn(self.first.load(Ordering::Acquire))
    }

    /// Bytes given by callers as payload since the log was opened.
    pub(crate) fn given(&self) -> u64 {
        self.open.given()
    }

    /// The longest payload that goes into one record, in bytes; longer ones become extents.
    pub(crate) fn inline_max(&self) -> u64 {
        self.geometry.inline_max() - 128
    }

    /// The longest payload at all, in bytes.
    pub(crate) fn max_record(&self) -> u64 {
        self.max_record
    }

    /// Bytes of memory that the log holds whatever happens.
    pub(crate) fn memory(&self) -> u64 {
        self.ring.len()
    }

    /// What every call answers that finds the log closed or failed.
    pub(crate) fn refusal(&self, refused: Refused) -> Error {
        match refused {
            Refused::Failed => self.poison_error(),
            _ if self.read_only => Error::ReadOnly,
            _ => Error::Closed,
        }
    }

    /// Fills what a place skips at the end of a segment.
    pub(super) fn pad_to_segment_end(&self, place: Place) {
        let end = self.geometry.data_end(place.from);
        if place.start == place.from || place.from >= end {
            return;
        }
        let pad = pad_segment(place.from, self.lives.salt(place.from));
        // SAFETY: [from, start) belongs to this place's ticket, which is open (L2).
        unsafe {
            self.ring.write(place.from, &pad);
            self.ring.zero(Lsn(place.from.0 + 8), end.0 - place.from.0 - 8);
        }
    }

    /// Asks the background for a flush, without waiting for it.
    pub(crate) fn ask_for_flush(&self) {
        // Relaxed: the bell carries it; a second ring is not needed while the first is unheard.
        if !self.flush_asked.swap(true, Ordering::Relaxed) {
            self.work.ring();
        }
    }

    /// Whether somebody asked for a flush since the last time.
    pub(crate) fn take_flush_asked(&self) -> bool {
        self.flush_asked.swap(false, Ordering::Relaxed)
    }

    pub(crate) fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// # Errors
    /// `Poisoned`, where the log has failed.
    pub(crate) fn check_failed(&self) -> Result<()> {
        self.check(&self.rounds.lock())
    }

    /// Whether the log behind the last checkpoint is long enough for another.
    pub(crate) fn wants_checkpoint(&self) -> bool {
        self.tail.bound().0 >= self.due.load(Ordering::Relaxed)
    }

    /// Whether there may be something to clean.
    pub(crate) fn wants_cleaning(&self) -> bool {
        self.tail.bound().0 >= self.clean_at.load(Ordering::Relaxed)
    }

    /// The next look for something to clean comes so many bytes of log from here.
    pub(crate) fn clean_after(&self, bytes: u64) {
        self.clean_at.store(self.tail.bound().0.saturating_add(bytes), Ordering::Relaxed);
    }

    /// Takes note of a checkpoint that is durable.
    pub(crate) fn checkpointed(&self, redo: Lsn) {
        self.counters.redo.store(redo.0, Ordering::Relaxed);
        self.counters.checkpoints.fetch_add(1, Ordering::Relaxed);
        // Not before: where a checkpoint fails, replay starts where it would have started.
        self.extents.forget_below(redo);
        self.due.store(redo.0.saturating_add(self.checkpoint_every), Ordering::Relaxed);
    }

    /// Takes note of a record that says what has moved, by the one thread that has pages moved.
    pub(crate) fn has_said(&self, lsn: Lsn) {
        // Relaxed: what was moved counts as dead with release, behind this.
        self.said.store(lsn.0, Ordering::Relaxed);
    }

    /// Where the last record starts that says what has moved, of moves at least whose remains were seen as dead.
    pub(crate) fn said(&self) -> Lsn {
        Lsn(self.said.load(Ordering::Relaxed))
    }

    /// Takes note of a checkpoint that has failed: the next try is due soon, but not at once.
    pub(crate) fn checkpoint_failed(&self) {
        self.due.store(self.tail.bound().0.saturating_add(self.checkpoint_every / 4), Ordering::Relaxed);
    }

    /// Refuses new tickets, and wakes all who wait.
    pub(crate) fn close(&self) {
        self.tail.close();
        // Release pairs with the acquire in `is_open` of a walk.
        self.closing.store(true, Ordering::Release);
        self.wake_everyone();
    }

    pub(super) fn wake_everyone(&self) {
        // Under the lock, so that nobody is between looking and sleeping.
        drop(self.rounds.lock());
        self.landed.notify_all();
        self.moved.notify_all();
        self.open.wake_all();
        self.pace.wake();
        self.work.ring();
    }

    /// The oldest ticket that is still open: its lowest possible LSN, and when it was made if it is held for long.
    pub(crate) fn oldest_open(&self) -> Option<(Lsn, u64)> {
        self.open.oldest().map(|seen| (seen.bound(), seen.since()))
    }

    /// What was published in a segment of the log and is not in its account yet.
    pub(crate) fn raised(&self, segment: &Segment) -> InUse {
        match segment.header.stream {
            Stream::Log => self.lives.raised(segment.header.start, segment.header.sequence),
            _ => InUse::default(),
        }
    }

    /// The segments of pages, and what is in use in them as far as it is known.
    pub(crate) fn usage(&self) -> Usage {
        let all = self.pool.all();
        let live = all.iter().map(|segment| segment.account.live(self.raised(segment))).sum();
        let segments = all.iter().filter(|segment| segment.header.stream != Stream::Map).count() as u64;
        Usage { segments, live }
    }

    /// Bytes of records that have died since the start, in segments that are there still.
    pub(crate) fn dead(&self) -> u64 {
        self.pool.all().iter().map(|segment| segment.account.dead()).sum()
    }

    /// Takes note that somebody holds so many bytes for writing now, who held `was` before.
    pub(crate) fn hold(&self, was: &mut u64, now: u64) {
        self.counters.buffers.fetch_add(now.wrapping_sub(*was), std::sync::atomic::Ordering::Relaxed);
        if now < *was {
            self.freed.add(*was - now);
        }
        *was = now;
    }

    /// What whoever finds the log failed is told.
    pub(crate) fn poison_error(&self) -> Error {
        match &self.rounds.lock().poison {
            Some(cause) => Error::Poisoned { cause: Arc::clone(cause) },
            None => Error::Closed,
        }
    }

    /// Bytes below the ready LSN that are left to others: updates leave some to what cleaning says, most of which that leaves to frees; and all leave the last to
    /// pads: whatever else finds no room, a round can end, be proven, and the log be closed.
    pub(super) fn spared(&self, urgency: Urgency) -> u64 {
        let all = (256 << 10).min(self.geometry.segment / 4);
        // Of the shortest segments as much is left to frees: where nobody knows how full the disk is, that is all that they have, and a round may have begun to fill it.
        let pads = (PADS * self.geometry.block).min(all / 2);
        match urgency {
            Urgency::Normal => all,
            Urgency::Said => pads + (all - pads) / 4,
            Urgency::Urgent => pads,
            Urgency::Seal => 0,
        }
    }

    pub(super) fn refresh_limits(&self, rounds: &Rounds) {
        // Acquire pairs with the release in `extend_filled`: whoever raises the limits has seen the lives of the segments below
        // `ready`, and hands them on with the release in `raise`.
        let ready = self.ready.load(Ordering::Acquire);
        let written = if planted(Canary::RingReusedEarly) { rounds.claimed() } else { rounds.written };
        let ring = written.0 + self.geometry.ring;
        // Relaxed: of it no more counts than is ready, and the lives of that are known by now.
        let for_users = self.for_users.load(Ordering::Relaxed).min(ready);
        self.tail.raise(|urgency| {
            let ready = if urgency == Urgency::Normal { for_users } else { ready };
            Lsn(ready.saturating_sub(self.spared(urgency)).min(ring))
        });
    }

    /// # Errors
    /// `Poisoned`, where the log has failed.
    pub(super) fn check(&self, rounds: &Rounds) -> Result<()> {
        match &rounds.poison {
            Some(cause) => Err(Error::Poisoned { cause: Arc::clone(cause) }),
            None => Ok(()),
        }
    }

    /// Ends the log: a user's storage panicked, and what it has done of its work nobody knows.
    pub(crate) fn fail_by_panic(&self) {
        let source = Arc::new(std::io::Error::other("the storage panicked"));
        let _ = self.poison(Error::Io { op: "flush", path: self.pool.describe(), source });
    }

    /// Ends the log where files that were to be given back have left a directory that cannot be synced: no later sync of it would be believed (L5).
    ///
    /// # Errors
    /// The outcome's, or `Poisoned`.
    pub(crate) fn given_back<T>(&self, outcome: Result<T>) -> Result<T> {
        outcome.map_err(|error| match error {
            error @ Error::Io { op: "sync_dir", .. } => self.poison(error),
            error => error,
        })
    }

    /// Ends the log (L5): the first cause is kept and told to everyone.
    pub(crate) fn poison(&self, cause: Error) -> Error {
        self.poison_locked(self.rounds.lock(), cause)
    }

    pub(super) fn poison_locked(&self, mut rounds: MutexGuard<'_, Rounds>, cause: Error) -> Error {
        let cause = Arc::clone(rounds.poison.get_or_insert_with(|| Arc::new(cause)));
        self.tail.fail();
        drop(rounds);
        if !planted(Canary::WaitersForgottenAtFailure) {
            self.wake_everyone();
        }
        Error::Poisoned { cause }
    }
}
