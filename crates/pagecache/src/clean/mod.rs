//! Cleaning: pages are moved out of the segments that hold least of them, so that disk stays in proportion to what is in use.
//!
//! - X1. What is in use in a segment is told by the map alone: a record counts if a page's slot names it.
//! - X2. A segment is a victim only below the redo point, or of images that grow no more: nothing new is published in it.
//! - X3. Victims are given back by a checkpoint that begins after they are empty (C4 of the checkpoints), never here.

mod victims;

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::base::canary::{Canary, planted};
use crate::base::error::{Error, Result};
use crate::base::ids::{Lsn, PageId, Sequence};
use crate::base::sync::{Mutex, Ordering};
use crate::checkpoint::write::Checkpointer;
use crate::format::BLOCK;
use crate::format::segment::Stream;
use crate::log::core::{Patience, Usage};
use crate::log::scan::{Scanner, Step};
use crate::ops::Pages;
use crate::ops::relocate::{Copied, Harvest, PageRecord};
use crate::page::materialize::Materializer;
use crate::store::pool::{Keep, Segment};
use crate::store::stream::Writer;
pub use victims::Order;
use victims::{Candidate, Terms, choose};

/// Segments that are outside the fill target, so that the cleaner has room to work in.
pub(crate) const RESERVE: u64 = 4;

/// Bytes of pages that are copied before they are written and synced together.
const BATCH: usize = 8 << 20;

/// Bytes of pages for each byte of links on top of them, beyond which links are folded. As in memory: deltas that weigh more than a quarter
/// of their base.
const LINKS_SHARE: u64 = 4;

/// Moves pages, and has checkpoints give back what they leave behind.
pub(crate) struct Cleaner<M: Materializer> {
    pages: Arc<Pages<M>>,
    checkpointer: Arc<Checkpointer<M>>,
    goal: Goal,
    books: Mutex<Books>,
}

/// What cleaning is for, and how it goes about it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Goal {
    pub(crate) fill_target: f64,
    pub(crate) log_limit: u64,
    pub(crate) order: Order,
}

/// Where images go: those of pages that were in the log, and those that are moved again.
struct Books {
    folds: Writer,
    survivors: Writer,
    /// The longest page of late: so much may stay empty at a segment's end.
    longest: u64,
}

/// How a turn ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// With a checkpoint, which is due.
    Checkpoint,
    /// With a checkpoint, where there is something that it gives back.
    GiveBack,
}

/// What a turn has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cleaned {
    /// Segments that were chosen.
    pub(crate) victims: u64,
    /// Pages that were moved.
    pub(crate) moved: u64,
}

impl<M: Materializer> Cleaner<M> {
    pub(crate) fn new(pages: Arc<Pages<M>>, checkpointer: Arc<Checkpointer<M>>, goal: Goal) -> Cleaner<M> {
        let books = Books { folds: Writer::new(Stream::Folds), survivors: Writer::new(Stream::Survivors), longest: 0 };
        Cleaner { pages, checkpointer, goal, books: Mutex::new(books) }
    }

    /// Moves pages out of the segments that cost least, as many as the fill target asks for, and gives back what is empty.
    ///
    /// # Errors
    /// `NoSpace` and `Io`, after which a later turn may succeed; `Corrupt` where a leaf of the map is damaged; `Poisoned`.
    pub(crate) fn turn(&self, then: Then) -> Result<Cleaned> {
        let log = &self.pages.log;
        if log.is_read_only() {
            return Err(Error::ReadOnly);
        }
        let mut books = self.books.lock();
        log.check_failed()?;
        self.pages.read_all_leaves()?;
        self.keep_spares();
        let victims = self.victims(&books);
        books.longest -= books.longest / 8;
        let before = (books.folds.written(), books.survivors.written());
        let mut left = Vec::new();
        let moved = self.empty(&mut books, &victims, &mut left);
        log.counters.fold_bytes.fetch_add(books.folds.written() - before.0, Ordering::Relaxed);
        log.counters.survivor_bytes.fetch_add(books.survivors.written() - before.1, Ordering::Relaxed);
        let moved = moved.map_err(|error| {
            books.folds.give_up(&log.pool);
            books.survivors.give_up(&log.pool);
            match error {
                error @ Error::Io { op: "sync" | "sync_dir", .. } => log.poison(error),
                error => error,
            }
        })?;
        for victim in victims.iter().filter(|victim| !left.contains(&victim.header.sequence)) {
            // What could not be moved is not tried again before something in there has changed.
            victim.account.set_stuck(victim.account.live(log.raised(victim)));
        }
        let cleaned = Cleaned { victims: victims.len() as u64, moved };
        // Under the lock of the books: no other turn's images are on their way.
        if then == Then::Checkpoint || !victims.is_empty() || self.has_empty() {
            log.flush(Patience::Wait)?;
            if planted(Canary::RecycledBeforeCheckpoint) {
                self.checkpointer.release_empty();
            }
            self.checkpointer.checkpoint()?;
        }
        Ok(cleaned)
    }

    /// Bytes of log from one turn to the next. Small turns leave writers room while one runs: what a turn writes is on disk before what it
    /// gives back is gone.
    pub(crate) fn step(&self) -> u64 {
        (self.goal.log_limit / 8).max(self.pages.log.pool.segment_size())
    }

    /// Bytes in use that a turn moves at most: each ends in a checkpoint, which gives its victims back. Of too few victims nothing is
    /// gained, and their pages are sorted in vain.
    fn most(&self) -> u64 {
        let size = self.pages.log.pool.segment_size();
        (self.goal.log_limit / 4).max((16 * size).min(64 << 20)).max(4 * size)
    }

    /// Whether there is more on disk than what is in use asks for.
    pub(crate) fn is_due(&self) -> bool {
        self.pages.leaves.are_all_read() && (self.excess() > 0 || self.overdue() > 0)
    }

    /// Bytes of links, in segments that can be cleaned, beyond what pages may have on top of them.
    fn overdue(&self) -> u64 {
        let log = &self.pages.log;
        let redo = Lsn(log.counters.redo.load(Ordering::Relaxed));
        let movable = log.pool.log().into_iter().filter(|segment| self.is_movable(segment, redo));
        let links: u64 = movable.map(|segment| segment.account.live_deltas(log.raised(&segment))).sum();
        let (_, live) = self.usage();
        links - links.min(live.saturating_sub(links) / LINKS_SHARE)
    }

    /// Bytes on disk beyond what is in use at the fill target, the log behind the redo point and half of the reserve.
    fn excess(&self) -> u64 {
        let log = &self.pages.log;
        let size = log.pool.segment_size();
        let (data, live) = self.usage();
        let tail = log.tail().0.saturating_sub(log.counters.redo.load(Ordering::Relaxed));
        data.saturating_sub(self.at_target(live) + tail + RESERVE / 2 * size)
    }

    /// Bytes of log that may be written before there is more on disk than is promised, with what the next turn writes; never less than a few segments, so that
    /// nobody waits for what cannot be helped.
    pub(crate) fn headroom(&self) -> u64 {
        let log = &self.pages.log;
        let size = log.pool.segment_size();
        let (data, live) = self.usage();
        let promised = self.at_target(live) + self.goal.log_limit + RESERVE * size;
        promised.saturating_sub(data + self.most()).max(RESERVE * size)
    }

    /// Has as many files kept for reuse as a turn gives back, and the next takes: to make and to remove files costs more than to write them.
    /// Never more than there may be segments.
    fn keep_spares(&self) {
        let pool = &self.pages.log.pool;
        let size = pool.segment_size();
        let (_, live) = self.usage();
        let promised = self.at_target(live) + self.goal.log_limit + RESERVE / 2 * size;
        pool.keep(Keep { spares: self.most() / size, files: promised / size });
    }

    /// Bytes on disk that so many in use ask for. A segment's headers are beside its fill: in small segments they are much, and who
    /// asked for more than there is room for would have everything moved again and again.
    fn at_target(&self, live: u64) -> u64 {
        let size = self.pages.log.pool.segment_size();
        (live as f64 / self.goal.fill_target * size as f64 / self.room() as f64) as u64
    }

    /// Bytes of a segment that records may take.
    fn room(&self) -> u64 {
        self.pages.log.pool.segment_size() - 2 * BLOCK
    }

    /// Bytes of the segments of pages, and bytes in use in them.
    fn usage(&self) -> (u64, u64) {
        let log = &self.pages.log;
        let Usage { segments, live } = log.usage();
        (segments * log.pool.segment_size(), live)
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

    /// Compares the accounts with what the map says is in use (I6 of the tests). For a store that nobody is using.
    ///
    /// # Errors
    /// The first segment where they differ.
    pub(crate) fn check_accounts(&self) -> Result<(), String> {
        use std::collections::BTreeMap;

        use crate::page::slot::Seen;
        let _books = self.books.lock();
        let (pages, log) = (&*self.pages, &*self.pages.log);
        pages.read_all_leaves().map_err(|error| error.to_string())?;
        let guard = pages.pin();
        let mut in_use: BTreeMap<Sequence, u64> = BTreeMap::new();
        for id in (0..pages.ids.high_water()).map(PageId) {
            let Some(slot) = pages.table.get(id) else { continue };
            // SAFETY: loaded just now under `guard`, which is of this store's collector.
            let pieces: Vec<_> = match unsafe { slot.load().see::<M::PageFrag>() } {
                Seen::Resident(chain) => chain.pieces().iter().collect(),
                Seen::Cold(pieces) => pieces.to_vec(),
                Seen::ColdOne(piece) => vec![piece],
                _ => continue,
            };
            for piece in pieces {
                *in_use.entry(log.pool.sequence(piece)).or_default() += piece.len_max();
                let parts = log.pool.spans.parts(piece.address()).filter(|_| piece.is_long());
                if piece.is_long() && parts.is_none() {
                    return Err(format!("the parts of {id} are not known"));
                }
                for (sequence, bytes) in parts.iter().flat_map(|parts| parts.iter()) {
                    *in_use.entry(sequence).or_default() += bytes;
                }
            }
        }
        drop(guard);
        for segment in log.pool.all() {
            let (sequence, live) = (segment.header.sequence, segment.account.live(log.raised(&segment)));
            let expected = in_use.remove(&sequence).unwrap_or(0);
            if live != expected {
                return Err(format!("{sequence}: {live} bytes are counted as in use and {expected} are"));
            }
        }
        match in_use.first_key_value() {
            Some((sequence, bytes)) => Err(format!("{sequence} is gone with {bytes} bytes that are in use")),
            None => Ok(()),
        }
    }

    fn victims(&self, books: &Books) -> Vec<Arc<Segment>> {
        let log = &self.pages.log;
        let (size, redo) = (log.pool.segment_size(), Lsn(log.counters.redo.load(Ordering::Relaxed)));
        let open = [books.folds.segment(), books.survivors.segment()];
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
        let room = self.room();
        let terms = Terms {
            order: self.goal.order,
            now: all.iter().map(|segment| segment.header.sequence).max().unwrap_or_default(),
            room,
            packed: room - books.longest.min(size / 4),
            // Whole segments: for less than one nothing is moved.
            wanted: self.excess() / size * room,
            overdue: self.overdue(),
            most: self.most(),
        };
        let chosen = choose(candidates.collect(), &terms);
        all.into_iter().filter(|segment| chosen.contains(&segment.header.sequence)).collect()
    }

    /// Moves every page that has a record in one of these segments, as far as it can be moved now. Returns how many were. Segments of links
    /// stand for many times their bytes of pages: what is more than a turn of those is `left` for the next, since images take room
    /// before those they replace give any.
    fn empty(&self, books: &mut Books, victims: &[Arc<Segment>], left: &mut Vec<Sequence>) -> Result<u64> {
        let (mut batch, mut moved, mut folded) = (Batch::default(), 0, 0);
        // Pages with records in several places: once in a turn is enough.
        let mut seen = BTreeSet::new();
        for victim in victims {
            if victim.account.is_empty(self.pages.log.raised(victim)) {
                continue;
            }
            // In one pass over the segment: pages that are one record here need no read of their own.
            let mut others = self.pages.log.pool.spans.pages_in(victim.header.sequence);
            let mut scanner = Scanner::new(Arc::clone(victim), victim.records_end());
            // What stands behind damage is not found: the segment stays.
            loop {
                let step = match scanner.step() {
                    Ok(step @ (Step::Record { .. } | Step::Mark { .. })) => step,
                    Ok(_) => break,
                    // It has become empty, and a checkpoint has given it back meanwhile.
                    Err(_) if self.is_gone(victim) => break,
                    Err(error) => return Err(error),
                };
                let Some(record) = PageRecord::of(victim, &step) else { continue };
                match self.pages.copy_record(&record)? {
                    Harvest::Copied(copied) => batch.push(victim, copied),
                    Harvest::Scattered(oldest) => others.push((oldest, record.id)),
                    Harvest::Dead => {}
                }
                moved += self.move_full(books, &mut batch)?;
            }
            // Batches of pages of an age, where there are more than fit one; and images that lie beside each other are read so.
            others.sort_unstable();
            for (_, id) in others {
                if !seen.insert(id) {
                    continue;
                }
                if folded > self.most() {
                    left.push(victim.header.sequence);
                    break;
                }
                match self.pages.copy(id, victim.header.sequence, self.pages.pin()) {
                    Ok(copied) => copied.into_iter().for_each(|copied| {
                        let is_logged = victim.header.stream == Stream::Log;
                        folded += if is_logged { copied.len() as u64 } else { 0 };
                        batch.push(victim, copied);
                    }),
                    // A page that is damaged stays where it is, and so does its segment.
                    Err(Error::Corrupt(_) | Error::Decode { .. }) => {}
                    Err(error) => return Err(error),
                }
                moved += self.move_full(books, &mut batch)?;
            }
        }
        Ok(moved + self.move_all(books, &mut batch)?)
    }

    fn is_gone(&self, victim: &Segment) -> bool {
        self.pages.log.pool.get(victim.header.sequence).is_none()
    }

    fn move_full(&self, books: &mut Books, batch: &mut Batch) -> Result<u64> {
        if batch.bytes < BATCH { Ok(0) } else { self.move_all(books, batch) }
    }

    fn move_all(&self, books: &mut Books, batch: &mut Batch) -> Result<u64> {
        let Batch { folds, survivors, .. } = std::mem::take(batch);
        let mut written = Vec::with_capacity(folds.len() + survivors.len());
        for (mut copies, writer) in [(folds, &mut books.folds), (survivors, &mut books.survivors)] {
            // Those that were written at the same time are likely to die at the same time. What is in the log has links that came just now: of
            // these pages it is the time before that tells.
            copies.sort_by_key(|copied| copied.prior);
            for copied in copies {
                books.longest = books.longest.max(copied.len() as u64 + 64);
                written.push(self.pages.write_image(copied, writer)?);
            }
            // N1.
            match planted(Canary::ImageUnsynced) {
                true => writer.name_unsynced(&self.pages.log.pool)?,
                false => writer.sync(&self.pages.log.pool)?,
            }
        }
        let mut moved = 0;
        for image in written {
            moved += u64::from(self.pages.go_to_image(image, &self.pages.pin()));
        }
        books.folds.settle();
        books.survivors.settle();
        Ok(moved)
    }
}

/// Copies that are not written yet.
#[derive(Debug, Default)]
struct Batch {
    /// Of pages that were in the log.
    folds: Vec<Copied>,
    /// Of pages that were images.
    survivors: Vec<Copied>,
    bytes: usize,
}

impl Batch {
    fn push(&mut self, from: &Segment, copied: Copied) {
        self.bytes += copied.len();
        match from.header.stream {
            Stream::Log | Stream::Map => self.folds.push(copied),
            Stream::Folds | Stream::Survivors => self.survivors.push(copied),
        }
    }
}
