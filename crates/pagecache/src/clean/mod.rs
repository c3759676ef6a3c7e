//! Cleaning: pages are moved out of the segments that hold least of them, so that disk stays in proportion to what is in use.
//!
//! - X1. What is in use in a segment is told by the map alone: a record counts if a page's slot names it.
//! - X2. A segment is a victim only below the redo point, or of images that grow no more: nothing new is published in it.
//! - X3. Victims are given back by a checkpoint that begins after they are empty (C4 of the checkpoints), or by the log, once it is stable up to where its tail
//!   was then (C7): never here.

mod batch;
mod check;
mod copies;
mod due;
mod images;
mod ledger;
mod victims;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::base::canary::{Canary, planted};
use crate::base::error::{Error, Result};
use crate::base::ids::{Lsn, Sequence};
use crate::base::sync::{AtomicU64, Help, Mutex, Ordering};
use crate::base::upkeep::Upkeep;
use crate::checkpoint::write::Checkpointer;
use crate::format::BLOCK;
use crate::format::segment::Stream;
use crate::log::core::Patience;
use crate::ops::Pages;
use crate::page::materialize::Materializer;
use crate::store::births::Keep;
use crate::store::limit::Claim;
use crate::store::segment::Segment;
use batch::Buffers;
use copies::{By, Share};
use images::{Images, says_moves};
use ledger::Ledger;
pub use victims::Order;
use victims::{Candidate, Terms, choose};

/// Part of a segment, as a divisor, that is nearly nothing.
const DRAINED: u64 = 8;

/// So many of those are emptied in a turn: each may have to be walked.
const DRAINED_MAX: usize = 16;

/// Of what a cap leaves to images: one that a stream begins, and one in which images can be packed that are left where folds have gained nothing.
const FOLDS_LEAVE: u64 = 2;

/// And one for the other stream.
const DRAIN_LEAVES: u64 = 3;

/// Moves pages, and has the log, or a checkpoint, give back what they leave behind.
pub(crate) struct Cleaner<M: Materializer> {
    pages: Arc<Pages<M>>,
    checkpointer: Arc<Checkpointer<M>>,
    goal: Goal,
    images: Mutex<Images>,
    buffers: Arc<Buffers>,
    help: Help,
    /// Bytes in use at the end of the last turn, where it has given back nothing. Relaxed: a number to compare with.
    in_vain: AtomicU64,
    /// Where the log's tail is when a turn that has failed is tried again. Relaxed, as above.
    retry_at: AtomicU64,
    /// Where the tail was at the last tick. Relaxed, as above.
    rested_at: AtomicU64,
    /// Bytes that have died when the rest of the map is worth reading. Relaxed, as above.
    look_at: AtomicU64,
}

/// What cleaning is for, and how it goes about it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Goal {
    pub(crate) fill_target: f64,
    pub(crate) log_limit: u64,
    /// Segments outside the fill target.
    pub(crate) reserve: u64,
    pub(crate) order: Order,
}

/// How a turn ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// With a checkpoint, which is due.
    Checkpoint,
    /// Where there is something to give back, with that.
    GiveBack,
}

/// What says that segments are given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    ByLog,
    ByCheckpoint,
}

/// How much a turn is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Aim {
    /// To keep what is promised, with room for writers to go on: no more is moved than that takes.
    Promise,
    /// The fill target, whatever else is promised.
    Target,
}

impl<M: Materializer> Cleaner<M> {
    pub(crate) fn new(pages: Arc<Pages<M>>, checkpointer: Arc<Checkpointer<M>>, goal: Goal, help: Help) -> Cleaner<M> {
        let look_at = AtomicU64::new(pages.log.pool.segment_size());
        Cleaner {
            look_at,
            buffers: Arc::new(Buffers::new(&pages.log, pages.budget.capacity())),
            pages,
            checkpointer,
            goal,
            images: Mutex::new(Images::new()),
            help,
            in_vain: AtomicU64::new(u64::MAX),
            retry_at: AtomicU64::new(0),
            rested_at: AtomicU64::new(u64::MAX),
        }
    }

    /// Moves pages out of the segments that cost least, as many as the aim asks for, and gives back what is empty.
    /// Returns how many pages were moved.
    ///
    /// # Errors
    /// `NoSpace` and `Io`, after which a later turn may succeed; `Corrupt` where a leaf of the map is damaged; `Poisoned`.
    pub(crate) fn turn(&self, aim: Aim, then: Then) -> Result<u64> {
        let log = &self.pages.log;
        if log.is_read_only() {
            return Err(Error::ReadOnly);
        }
        let mut images = self.images.lock();
        // Under the lock that the next turn waits for, whoever has this one.
        let _upkeep = Upkeep::begin();
        log.check_failed()?;
        if let Err(error) = self.pages.read_all_leaves() {
            // Nothing can be cleaned, and the log goes on: a checkpoint is as due as ever.
            log.clean_after(self.step());
            if then == Then::Checkpoint {
                log.flush(Patience::Wait)?;
                self.checkpointer.checkpoint()?;
            }
            return Err(error);
        }
        let (ledger, made) = (self.ledger(images.longest()), log.next_made());
        log.pool.keep(ledger.keep());
        // One look: what is chosen, and in which order it is copied, are of the same.
        let missing = self.missing(&ledger);
        let victims = self.victims(&images, &ledger, aim, missing);
        let none = victims.iter().all(Vec::is_empty);
        let share = Share { most: self.most(&ledger), copied: 0, order: By::Victim, left: BTreeSet::new() };
        let folds = if missing > 0 { By::Oldest } else { By::Victim };
        let mut moved = self.move_out(&mut images, victims, folds, share);
        // Under the lock of the images: no other turn's images are on their way. Where moving has failed what it has emptied is given back all the same, and what a checkpoint
        // can besides: it may be all that there is to be had.
        let then = if moved.is_err() { Then::Checkpoint } else { then };
        let mut by_log = false;
        if then == Then::Checkpoint || !none || self.has_empty() {
            let given_back = self.give_back(&mut images, then);
            by_log = matches!(given_back, Ok(Said::ByLog));
            moved = moved.and_then(|moved| given_back.map(|_| moved));
        }
        self.pages.collect_retired();
        // One that failed, or found no room for all, may do better the next time; so may one beside writers, and one without a checkpoint.
        let is_complete = moved.is_ok() && !images.are_full() && log.next_made() == made && !by_log;
        let is_in_vain = is_complete && self.segments() >= ledger.stock.segments;
        self.in_vain.store(if is_in_vain { log.usage().live } else { u64::MAX }, Ordering::Relaxed);
        self.retry_at.store(if moved.is_err() { log.tail().0 + self.step() } else { 0 }, Ordering::Relaxed);
        moved
    }

    /// Gives back what is empty: where a checkpoint is due, or the log does not say what has moved, by a checkpoint; else by the log, which says that too.
    fn give_back(&self, images: &mut Images, then: Then) -> Result<Said> {
        if planted(Canary::RecycledBeforeCheckpoint) {
            self.checkpointer.release_empty();
        }
        if then == Then::GiveBack && !images.are_unsaid() && says_moves(&self.pages.log) {
            match self.checkpointer.give_back() {
                // What is left of a cap or the disk is for the checkpoint.
                Err(Error::NoSpace { .. }) => {}
                given_back => return given_back.map(|_| Said::ByLog),
            }
        }
        self.pages.log.flush(Patience::Wait)?;
        self.checkpointer.checkpoint()?;
        images.set_said();
        Ok(Said::ByCheckpoint)
    }

    /// Moves pages out of victims, and then out of what has become nearly empty by that. Returns how many were.
    fn move_out(
        &self,
        images: &mut Images,
        [scored, folds]: [Vec<Arc<Segment>>; 2],
        order: By,
        mut share: Share,
    ) -> Result<u64> {
        let before = self.in_use();
        images.begin();
        let mut moved = self.empty(images, &scored, &mut share)?;
        if !folds.is_empty() && !images.are_full() {
            // What they give is not known before, so they come last, and leave what the next turn needs to gain anything at all.
            share.order = order;
            moved += self.within(&mut share, FOLDS_LEAVE, |share| self.empty(images, &folds, share))?;
            if moved == 0 && !images.are_full() {
                share.left.retain(|left| folds.iter().all(|fold| fold.header.sequence != *left));
                // Next time there would be as little: what is left may be enough to gain something now.
                moved += self.within(&mut share, FOLDS_LEAVE - 1, |share| self.empty(images, &folds, share))?;
            }
            share.order = By::Victim;
        }
        if images.are_full() {
            // What had no room can be moved when there is some.
            return Ok(moved);
        }
        self.set_stuck(&[scored, folds].concat(), &before, &share);
        if moved > 0 {
            moved += self.drain(images, &before, &mut share)?;
        }
        Ok(moved)
    }

    /// Bytes of log from one turn to the next.
    pub(crate) fn step(&self) -> u64 {
        self.ledger(0).step()
    }

    /// Bytes in use that a turn moves at most.
    fn most(&self, ledger: &Ledger) -> u64 {
        let capped = self.pages.log.pool.left(Claim::Images).unwrap_or(u64::MAX);
        ledger.most().min(capped.saturating_mul(ledger.room))
    }

    /// Does a part of a turn within what is left of its share, and of what a cap leaves to images beside so many segments.
    fn within<T>(&self, share: &mut Share, leave: u64, part: impl FnOnce(&mut Share) -> T) -> T {
        let pool = &self.pages.log.pool;
        let left = pool.left(Claim::Images).map_or(u64::MAX, |left| left.saturating_sub(leave));
        let room = share.most.saturating_sub(share.copied).min(left.saturating_mul(pool.segment_size() - 2 * BLOCK));
        let most = std::mem::replace(&mut share.most, share.copied + room);
        let done = part(share);
        share.most = most;
        done
    }

    /// Frees memory that nobody can see any more, or that was kept for the next turn, and weighs what is held.
    pub(crate) fn collect(&self) {
        self.buffers.free();
        self.pages.collect();
        self.pages.weigh();
    }

    /// Removes files that were kept for the next turn: there will not be one soon.
    ///
    /// # Errors
    /// `Io`: what was not removed means nothing, and is tried again. `Poisoned` where the directory could not be synced.
    pub(crate) fn rest(&self) -> Result<()> {
        let log = &self.pages.log;
        log.pool.keep(Keep::default());
        log.given_back(log.pool.trim())
    }

    fn has_empty(&self) -> bool {
        let log = &self.pages.log;
        let redo = Lsn(log.counters.redo.load(Ordering::Relaxed));
        let is_empty = |segment: &Arc<Segment>| {
            segment.header.stream != Stream::Map
                && self.is_closed(segment, redo)
                && segment.account.is_empty(log.raised(segment))
        };
        log.pool.all().iter().any(is_empty)
    }

    /// Whether nothing new is published in a segment (X2).
    fn is_closed(&self, segment: &Segment, redo: Lsn) -> bool {
        match segment.header.stream {
            Stream::Map => false,
            Stream::Log => segment.header.start.0 + segment.header.segment_size <= redo.0,
            Stream::Folds | Stream::Survivors => true,
        }
    }

    /// Whether it may be a victim, as far as is known.
    fn is_movable(&self, segment: &Segment, redo: Lsn) -> bool {
        let live = segment.account.live(self.pages.log.raised(segment));
        self.is_closed(segment, redo) && !segment.account.is_stuck(live)
    }

    /// Those that are moved by what it costs, and those of links.
    fn victims(&self, images: &Images, ledger: &Ledger, aim: Aim, missing: u64) -> [Vec<Arc<Segment>>; 2] {
        let log = &self.pages.log;
        let redo = Lsn(log.counters.redo.load(Ordering::Relaxed));
        let open = images.open();
        let all = log.pool.all();
        let candidates = all.iter().filter(|segment| {
            let is_open = open.iter().flatten().any(|open| Arc::ptr_eq(open, segment));
            self.is_movable(segment, redo) && !is_open
        });
        let candidates = candidates.map(|segment| Candidate {
            sequence: segment.header.sequence,
            live: segment.account.live(log.raised(segment)),
            deltas: segment.account.live_deltas(log.raised(segment)),
        });
        let (excess, beyond) = (ledger.excess().max(missing), ledger.beyond_target(log.tail().0 - redo.0));
        let terms = Terms {
            order: self.goal.order,
            now: all.iter().map(|segment| segment.header.sequence).max().unwrap_or_default(),
            room: ledger.room,
            packed: ledger.packed,
            wanted: match aim {
                Aim::Promise => excess,
                Aim::Target => excess.max(beyond),
            },
            pressing: match aim {
                Aim::Promise => ledger.excess().saturating_sub(ledger.step() / ledger.size),
                Aim::Target => excess.max(beyond),
            },
            overdue: self.overdue(ledger),
            missing,
            most: self.most(ledger),
        };
        let chosen = choose(candidates.collect(), &terms);
        let of = |chosen: &BTreeSet<Sequence>| {
            let is_chosen = |segment: &&Arc<Segment>| chosen.contains(&segment.header.sequence);
            all.iter().filter(is_chosen).map(Arc::clone).collect::<Vec<_>>()
        };
        [of(&chosen.moved), of(&chosen.folds)]
    }

    /// Bytes in use of each segment that may be a victim.
    fn in_use(&self) -> BTreeMap<Sequence, u64> {
        let log = &self.pages.log;
        let in_use = |segment: Arc<Segment>| (segment.header.sequence, segment.account.live(log.raised(&segment)));
        log.pool.all().into_iter().map(in_use).collect()
    }

    /// Empties segments of the log that are nearly empty since: pages that were moved have taken along what links of theirs were in these. With what is left
    /// moved too they are given back with the rest of the turn. No more is moved than the turn may.
    fn drain(&self, images: &mut Images, before: &BTreeMap<Sequence, u64>, share: &mut Share) -> Result<u64> {
        let log = &self.pages.log;
        let redo = Lsn(log.counters.redo.load(Ordering::Relaxed));
        let live = |segment: &Arc<Segment>| segment.account.live(log.raised(segment));
        let is_drained = |segment: &Arc<Segment>| {
            let (now, size) = (live(segment), segment.header.segment_size);
            let was = before.get(&segment.header.sequence).copied().unwrap_or(0);
            0 < now && now < was && now <= size / DRAINED && self.is_movable(segment, redo)
        };
        let mut drained: Vec<Arc<Segment>> = log.pool.log().into_iter().filter(is_drained).collect();
        drained.sort_by_key(live);
        drained.truncate(DRAINED_MAX);
        self.within(share, DRAIN_LEAVES, |share| self.empty(images, &drained, share))
    }

    /// Where nothing could be moved it is not tried again before something in there has changed. What was changed meanwhile can be.
    fn set_stuck(&self, victims: &[Arc<Segment>], before: &BTreeMap<Sequence, u64>, share: &Share) {
        for victim in victims.iter().filter(|victim| !share.left.contains(&victim.header.sequence)) {
            let live = victim.account.live(self.pages.log.raised(victim));
            if before.get(&victim.header.sequence) == Some(&live) {
                victim.account.set_stuck(live);
            }
        }
    }

    /// Moves every page that has a record in one of these segments, as far as it can be moved now. Returns how many were.
    fn empty(&self, images: &mut Images, victims: &[Arc<Segment>], share: &mut Share) -> Result<u64> {
        images.turn(&self.pages.log, |images| self.move_pages(images, victims, share))
    }
}
