//! Writing a checkpoint: the leaves that have changed, the root, the superblock's two copies.

mod leaves;
mod roots;
mod weight;

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use self::leaves::{Captured, live};
use self::weight::Weighed;
pub(crate) use self::weight::Weight;
use crate::base::canary::{Canary, planted};
use crate::base::error::{Error, Result};
use crate::base::ids::{Lsn, Sequence};
use crate::base::sync::{Help, Mutex, Ordering};
use crate::base::upkeep::Upkeep;
use crate::checkpoint::load::{Checkpoint, write_copy};
use crate::checkpoint::replayer::Replayer;
use crate::format::leaf::LeafHead;
use crate::format::moves::{RECORD_MAX, encode_given_back};
use crate::format::record::{Frame, Kind, Shape};
use crate::format::root::{LeafAt, Root};
use crate::format::segment::{SUPERBLOCKS, Stream};
use crate::format::superblock::Superblock;
use crate::log::core::Patience;
use crate::log::tail::Urgency;
use crate::ops::Pages;
use crate::page::materialize::Materializer;
use crate::store::segment::Segment;
use crate::store::stream::Writer;

/// Writes the checkpoints of a store, one after the other.
pub(crate) struct Checkpointer<M: Materializer> {
    pages: Arc<Pages<M>>,
    help: Help,
    books: Mutex<Books<M>>,
    weighed: Weighed,
}

/// What the last checkpoint has left behind for the next.
struct Books<M: Materializer> {
    /// The highest number that a checkpoint ever had, finished or not.
    number: u64,
    /// The number of the one that counts.
    counts: u64,
    leaves: Vec<Option<LeafAt>>,
    /// The segments that the root is in.
    holds_root: BTreeSet<Sequence>,
    redo: Lsn,
    /// One more than the highest id that a leaf says anything of.
    high_water: u64,
    /// A later checkpoint has failed with its superblock written or not: either may count, and what either needs is kept.
    uncertain: bool,
    /// What the first copy of the superblock says, where the second may be torn: the first is not written over before the second is whole.
    doubtful: Option<Superblock>,
    writer: Writer,
    replayer: Replayer<M>,
    /// Bytes of memory held, as they were counted last.
    held: u64,
}

/// How far a checkpoint has come: what may be given back where it fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reached {
    /// No superblock was touched: the one before counts.
    Nothing,
    /// It may count, or the one before.
    Superblock,
}

impl<M: Materializer> Checkpointer<M> {
    /// Goes on behind the checkpoint that the store was opened by, if there was one.
    pub(crate) fn new(
        pages: Arc<Pages<M>>,
        found: Option<Checkpoint>,
        replayer: Replayer<M>,
        help: Help,
    ) -> Checkpointer<M> {
        let mut books = Books {
            number: 0,
            counts: 0,
            leaves: Vec::new(),
            holds_root: BTreeSet::new(),
            redo: Lsn(0),
            high_water: 0,
            uncertain: false,
            doubtful: None,
            writer: Writer::new(Stream::Map),
            replayer,
            held: 0,
        };
        if let Some(found) = found {
            (books.number, books.counts) = (found.number_max, found.superblock.number);
            books.leaves = found.root.leaves;
            books.holds_root = found.holds_root.iter().map(|segment| segment.header.sequence).collect();
            books.redo = found.root.redo;
            books.high_water = found.root.high_water;
        }
        let weighed = Weighed::default();
        weighed.set(&books.leaves);
        let checkpointer = Checkpointer { pages, help, books: Mutex::new(books), weighed };
        checkpointer.pages.log.pool.begin_with_map(checkpointer.needs());
        checkpointer
    }

    /// Writes a checkpoint, if the log has become longer since the last. Returns the LSN from which an opening would replay.
    ///
    /// # Errors
    /// `NoSpace` and `Io`, after which the next one may succeed; `Corrupt` where a leaf that has to be written again is damaged;
    /// `Poisoned`, `ReadOnly`; `Decode` where the user's `recover` panics.
    pub(crate) fn checkpoint(&self) -> Result<Lsn> {
        let log = &self.pages.log;
        if log.is_read_only() {
            return Err(Error::ReadOnly);
        }
        let mut books = self.books.lock();
        // Under the lock that the end of a turn of cleaning may wait for.
        let _upkeep = Upkeep::begin();
        // A failed sync says that nothing is known of what is on disk: no later one is believed.
        log.check_failed()?;
        let redo = log.stable();
        let is_new = redo > books.redo || self.pages.leaves.is_any_dirty() || !self.emptied(redo).is_empty();
        if !is_new && (!self.is_tight() || self.sparse(&books.leaves, &books.writer).is_empty()) {
            return Ok(books.redo);
        }
        let (mut reached, written) = (Reached::Nothing, books.writer.written());
        let result = catch_unwind(AssertUnwindSafe(|| self.write(&mut books, redo, &mut reached)));
        let written = books.writer.written() - written;
        let leaves = books.leaves.capacity() * size_of::<Option<LeafAt>>();
        let now = books.writer.memory() + leaves as u64;
        log.hold(&mut books.held, now);
        log.counters.checkpoint_bytes.fetch_add(written, Ordering::Relaxed);
        let Ok(result) = result else {
            books.writer.give_up(&log.pool);
            // What panicked is the user's storage: the log ends, as it does where a write of its own panics.
            log.fail_by_panic();
            return Err(log.poison_error());
        };
        self.weighed.set_written(written);
        let error = match result {
            Ok(redo) => {
                self.weighed.set(&books.leaves);
                self.leave_room();
                return Ok(redo);
            }
            Err(error @ Error::Io { op: "sync" | "sync_dir", .. }) => log.poison(error),
            Err(error) => error,
        };
        books.writer.give_up(&log.pool);
        log.checkpoint_failed();
        books.uncertain |= reached == Reached::Superblock;
        if !books.uncertain {
            // On a full disk this may be what is needed.
            let live = live(&books.leaves, log.pool.segment_size());
            if let Err(unsynced) = self.release(&books, &live, &BTreeSet::new()) {
                return Err(log.poison(unsynced));
            }
        }
        Err(error)
    }

    /// Gives back the segments that are empty, without a checkpoint: the log says so first, and is stable up to there, and so with all that has emptied them (C7).
    /// Returns how many there were.
    ///
    /// # Errors
    /// `NoSpace`, `Io`, `Poisoned`, `Closed`.
    pub(crate) fn give_back(&self) -> Result<u64> {
        let log = &self.pages.log;
        // A checkpoint that is being written may list what goes, with a redo point behind what the log says of it.
        let books = self.books.lock();
        log.check_failed()?;
        let emptied = self.emptied(books.redo);
        if emptied.is_empty() {
            return Ok(0);
        }
        let result = catch_unwind(AssertUnwindSafe(|| self.say_and_release(&emptied)));
        result.unwrap_or_else(|_| {
            // As in a checkpoint.
            log.fail_by_panic();
            Err(log.poison_error())
        })
    }

    fn say_and_release(&self, emptied: &BTreeSet<Sequence>) -> Result<u64> {
        let log = &self.pages.log;
        let max = log.inline_max().min(RECORD_MAX) as usize;
        for said in encode_given_back(emptied.iter().copied(), max) {
            log.append(&Frame::bare(Kind::GivenBack, &said), &said, Urgency::Said)?;
        }
        if !planted(Canary::GivenBackUnstable) {
            log.flush(Patience::Wait)?;
        }
        match log.pool.release(|segment| emptied.contains(&segment.header.sequence)) {
            Err(error @ Error::Io { op: "sync_dir", .. }) => Err(log.poison(error)),
            // What was not given back is a file that means nothing any more.
            _ => Ok(emptied.len() as u64),
        }
    }

    /// The leaves that the checkpoint names which counts, and its number. Waits for one that is being written.
    pub(crate) fn counts(&self) -> (Vec<Option<LeafAt>>, u64) {
        let books = self.books.lock();
        (books.leaves.clone(), books.counts)
    }

    fn write(&self, books: &mut Books<M>, redo: Lsn, reached: &mut Reached) -> Result<Lsn> {
        let (pages, log) = (&*self.pages, &*self.pages.log);
        // C4: what is empty now, before any leaf is looked at. What becomes so later is for the next.
        let mut emptied = self.emptied(redo);
        if redo <= log.said() && !planted(Canary::ReplayedImagesReleased) {
            // A replay from here meets moves to images that others may have left again, of which the log may not say so.
            let is_of_log =
                |sequence: &Sequence| log.pool.get(*sequence).is_some_and(|of| of.header.stream == Stream::Log);
            emptied.retain(is_of_log);
        }
        books.number += 1;
        let number = books.number;
        // Read after the redo point: every page with a record below that has an id below this.
        let count = pages.ids.high_water().div_ceil(pages.leaves.ids());
        let mut high_water = books.high_water;
        let mut leaves = books.leaves.clone();
        leaves.resize(count as usize, None);
        let sparse = self.sparse(&leaves, &books.writer);
        let mut taken = self.capture_all(count, &sparse, &mut |leaf, captured: Captured| {
            let Captured { entries, vacant, high_water: highest } = captured;
            high_water = high_water.max(highest);
            let head = LeafHead { number: leaf, checkpoint: number }.encode();
            let piece = books.writer.put(&log.pool, log.stable(), Shape::plain(Kind::Leaf), head, &entries)?;
            if let Some(place) = leaves.get_mut(leaf as usize) {
                *place = Some(LeafAt { piece, vacant });
            }
            Ok(entries)
        })?;
        // C2.
        if !planted(Canary::LeafCapturedUnstable) {
            log.flush(Patience::Wait)?;
        }
        let stable = log.stable();
        let redo = if planted(Canary::RedoPointTooHigh) { stable } else { redo };
        // Ids that were handed out and never written are what they were before, also where nothing was.
        leaves.truncate(high_water.div_ceil(pages.leaves.ids()) as usize);
        let state = books.replayer.advance(log, redo)?;
        books.writer.sync(&log.pool)?;
        if planted(Canary::RecycledByCheckpointUnderway) {
            emptied = self.emptied(redo);
        }
        let live = live(&leaves, log.pool.segment_size());
        let (segments, next_sequence) = log.pool.directory(|segment| match segment.header.stream {
            Stream::Map => live.contains_key(&segment.header.sequence),
            _ => !emptied.contains(&segment.header.sequence),
        });
        let root =
            Root { redo, stable, next_sequence, high_water, leaf_ids: pages.leaves.ids(), state, segments, leaves };
        let (roots, holds_root) = self.write_roots(books, number, &root)?;
        let identity = log.pool.identity();
        let superblocks = roots.map(|root| Superblock {
            store: identity.store,
            segment_size: log.pool.segment_size(),
            number,
            redo,
            stable,
            root,
        });
        *reached = Reached::Superblock;
        let ([_, second], [first_says, _]) = (SUPERBLOCKS, superblocks);
        if let Some(first) = books.doubtful.filter(|_| !planted(Canary::TornCopyLeft)) {
            write_copy(log.pool.storage(), second, &first)?;
            books.doubtful = None;
        }
        for (name, superblock) in SUPERBLOCKS.into_iter().zip(superblocks) {
            if name == second {
                books.doubtful = Some(first_says);
            }
            write_copy(log.pool.storage(), name, &superblock)?;
            if planted(Canary::MapReleasedEarly) {
                books.holds_root = holds_root.clone();
                self.release(books, &live, &emptied)?;
            }
        }
        if planted(Canary::SuperblockBeforeRoot) {
            books.writer.sync(&log.pool)?;
        }
        taken.keep();
        (books.leaves, books.holds_root, books.counts) = (root.leaves, holds_root, number);
        (books.redo, books.high_water, books.uncertain, books.doubtful) = (redo, high_water, false, None);
        books.writer.settle();
        log.checkpointed(redo);
        self.release(books, &live, &emptied)?;
        Ok(redo)
    }

    /// What a planted bug does in place of a checkpoint.
    pub(crate) fn release_empty(&self) {
        let emptied = self.emptied(self.pages.log.stable());
        let _ = self.pages.log.pool.release(|segment| emptied.contains(&segment.header.sequence));
    }

    /// Segments of pages in which nothing is in use, nor will be again: of the log they are below the redo point.
    fn emptied(&self, redo: Lsn) -> BTreeSet<Sequence> {
        let log = &self.pages.log;
        if !self.pages.leaves.are_all_read() {
            return BTreeSet::new();
        }
        // What is asked of the user's `recover` again has its parts, needed or not.
        let keep = log.keep_from(redo);
        let is_empty = |segment: &&Arc<Segment>| {
            let header = &segment.header;
            match header.stream {
                Stream::Map => false,
                Stream::Log if header.start.0 + header.segment_size > keep.0 => false,
                _ => segment.account.is_empty(log.raised(segment)),
            }
        };
        log.pool.all().iter().filter(is_empty).map(|segment| segment.header.sequence).collect()
    }

    /// Gives back segments of the map that hold no leaf and no root, and those of pages that are empty (C4).
    fn release(&self, books: &Books<M>, live: &BTreeMap<Sequence, u64>, emptied: &BTreeSet<Sequence>) -> Result<()> {
        let unwanted = |segment: &Segment| {
            let sequence = segment.header.sequence;
            let is_open = books.writer.segment().is_some_and(|open| open.header.sequence == sequence);
            match segment.header.stream {
                Stream::Map => !is_open && !live.contains_key(&sequence) && !books.holds_root.contains(&sequence),
                _ => emptied.contains(&sequence),
            }
        };
        match self.pages.log.pool.release(unwanted) {
            Err(error @ Error::Io { op: "sync_dir", .. }) => Err(error),
            // What was not given back is a file that means nothing any more.
            _ => Ok(()),
        }
    }
}
