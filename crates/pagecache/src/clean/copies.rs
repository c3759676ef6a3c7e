//! Copying pages out of victims: which they are, by a walk or by the map, and how they come to who writes their images.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use super::Cleaner;
use super::batch::Batch;
use super::images::Images;
use crate::base::error::{Error, Result};
use crate::base::ids::{Address, PageId, Sequence};
use crate::base::sync::{Help, mpsc::sync_channel, with_help};
use crate::base::upkeep::Upkeep;
use crate::log::held::Held;
use crate::log::scan::{Scanner, Step};
use crate::ops::copy::{Cold, Found, Harvest, PageRecord};
use crate::page::materialize::Materializer;
use crate::store::segment::Segment;

/// Bytes of victims for each page, above which pages are looked for in the map and not in the log. Guessed: links are shorter, and a look at a page
/// takes longer than one at a link.
const RECORD: u64 = 256;

/// A page counts as so many bytes at least: its image takes about as many whatever its length. So pages of no bytes fill a share, too.
const PAGE_MIN: u64 = 24;

/// The name of the thread that writes images beside the one that cleans and copies.
const HELPER: &str = "pagecache-move";

/// So many segments are looked at for whether anything can be read.
const PROBES: usize = 8;

/// Which pages are copied first, where not all can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    /// Those of the first victim.
    Victim,
    /// Those whose oldest records come first, whichever victim they are found in. What links lie on is emptied segment by segment so: where there is little
    /// room, what is written has to give as much back.
    Oldest,
}

/// What a turn moves.
pub(super) struct Share {
    /// Bytes of pages that it may copy, and those that it has copied.
    pub(super) most: u64,
    pub(super) copied: u64,
    pub(super) order: By,
    /// Victims that were not looked at to the end.
    pub(super) left: BTreeSet<Sequence>,
}

/// Pages that are to be looked at as a whole.
struct Scattered<'v> {
    /// Those with records in several places: once in a turn is enough, and a look at each of their records would cost more than the move.
    seen: HashSet<PageId>,
    /// Each with its oldest record and the victim that it was found in, until it is copied.
    pages: Vec<(Address, PageId, &'v Arc<Segment>)>,
    held: Held,
}

impl<'v> Scattered<'v> {
    /// Adds a page, the first time.
    fn see(&mut self, oldest: Address, id: PageId, victim: &'v Arc<Segment>) {
        if self.seen.insert(id) {
            self.pages.push((oldest, id, victim));
            self.count();
        }
    }

    /// Adds pages that were found once each.
    fn add(&mut self, found: Vec<(Address, PageId)>, victim: &'v Arc<Segment>) {
        self.pages.extend(found.into_iter().map(|(oldest, id)| (oldest, id, victim)));
        self.count();
    }

    /// Takes note of the memory that it holds. A set of hashes has a byte beside each, and leaves an eighth of its room empty.
    fn count(&mut self) {
        let seen = self.seen.capacity() / 7 * 8 * (size_of::<PageId>() + 1);
        let pages = self.pages.capacity() * size_of::<(Address, PageId, &Arc<Segment>)>();
        self.held.set((seen + pages) as u64);
    }
}

impl<M: Materializer> Cleaner<M> {
    /// Moves every page that has a record in one of these segments, as far as it can be moved now; with help one batch is written while the next is
    /// copied. Returns how many were.
    ///
    /// # Errors
    /// As a copy, a write and a sync of images.
    pub(super) fn move_pages(&self, images: &mut Images, victims: &[Arc<Segment>], share: &mut Share) -> Result<u64> {
        if victims.is_empty() {
            return Ok(0);
        }
        if self.help == Help::Thread {
            let (sender, receiver) = sync_channel(0);
            let (images, share) = (&mut *images, &mut *share);
            let write = || {
                let _upkeep = Upkeep::begin();
                receiver.into_iter().try_fold(0, |moved, batch| Ok(moved + images.write(&self.pages, batch)?))
            };
            let copy = move || {
                // Where nobody takes it, who writes has ended, and what it says is what counts.
                let mut hand_over = |batch| sender.send(batch).map_err(|_| Error::Closed);
                self.copy(victims, share, &mut hand_over)
            };
            if let Ok((moved, copied)) = with_help(HELPER, write, copy) {
                return moved.and_then(|moved| copied.map(|()| moved));
            }
        }
        let mut moved = 0;
        self.copy(victims, share, &mut |batch| {
            moved += images.write(&self.pages, batch)?;
            Ok(())
        })?;
        Ok(moved)
    }

    /// Copies the pages of segments, in batches. Segments of links stand for many times their bytes of pages: what is more than the turn's share is
    /// left for the next turn, since images take room before those they replace give any.
    fn copy(
        &self,
        victims: &[Arc<Segment>],
        share: &mut Share,
        hand_over: &mut dyn FnMut(Batch) -> Result<()>,
    ) -> Result<()> {
        let mut batch = Batch::new(&self.buffers);
        let mut found = self.found(victims)?;
        let mut scattered = Scattered { seen: HashSet::new(), pages: Vec::new(), held: Held::none(&self.pages.log) };
        for victim in victims {
            if victim.account.is_empty(self.pages.log.raised(victim)) {
                continue;
            }
            if share.copied >= share.most {
                share.left.insert(victim.header.sequence);
                continue;
            }
            match &mut found {
                Some(found) => scattered.add(found.take(victim.header.sequence), victim),
                None => self.walk(victim, &mut scattered, &mut batch, share, hand_over)?,
            }
            if share.order == By::Victim {
                self.copy_pages(&mut scattered.pages, &mut batch, share, hand_over)?;
            }
        }
        self.copy_pages(&mut scattered.pages, &mut batch, share, hand_over)?;
        hand_over(batch)
    }

    /// Copies pages, those first whose oldest records come first: batches of pages of an age, where there are more than fit one; and images that lie beside each
    /// other are read so.
    fn copy_pages(
        &self,
        pages: &mut Vec<(Address, PageId, &Arc<Segment>)>,
        batch: &mut Batch,
        share: &mut Share,
        hand_over: &mut dyn FnMut(Batch) -> Result<()>,
    ) -> Result<()> {
        pages.sort_unstable_by_key(|(oldest, id, _)| (*oldest, *id));
        let handle = self.pages.collector.register();
        let mut guard = handle.pin();
        for (_, id, victim) in pages.drain(..) {
            if share.copied >= share.most {
                share.left.insert(victim.header.sequence);
                continue;
            }
            guard.repin();
            match self.pages.copy(id, victim.header.sequence, batch.content(), &mut guard) {
                Ok(None) => {}
                Ok(Some(copied)) => {
                    share.copied += PAGE_MIN.max(copied.len() as u64);
                    guard.repin_after(|| batch.push(victim, copied, hand_over))?;
                }
                // A page that is damaged or cannot be read stays where it is, and so does its segment. Nothing is written here.
                Err(Error::Corrupt(_) | Error::Decode { .. }) => {}
                Err(Error::Io { .. }) if guard.repin_after(|| self.is_readable()) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The pages of segments by the map, where that is shorter than to walk the segments: where they are full of links to few pages.
    fn found(&self, victims: &[Arc<Segment>]) -> Result<Option<Found>> {
        let bytes: u64 = victims.iter().map(|victim| victim.header.segment_size).sum();
        match self.pages.ids.high_water() < bytes / RECORD {
            true => self.pages.pages_in(victims, Cold::Few),
            false => Ok(None),
        }
    }

    /// Walks a segment: pages that are one record here are copied on the way, and need no read of their own. The others are told: those that have more, and from
    /// where the segment cannot be read on all that are left.
    fn walk<'v>(
        &self,
        victim: &'v Arc<Segment>,
        scattered: &mut Scattered<'v>,
        batch: &mut Batch,
        share: &mut Share,
        hand_over: &mut dyn FnMut(Batch) -> Result<()>,
    ) -> Result<()> {
        for (oldest, id) in self.pages.log.pool.spans.pages_in(victim.header.sequence) {
            scattered.see(oldest, id, victim);
        }
        let mut scanner = Scanner::new(Arc::clone(victim), victim.records_end());
        let mut hole = None;
        let handle = self.pages.collector.register();
        let mut guard = handle.pin();
        // What stands behind damage is not found: the segment stays.
        loop {
            guard.repin();
            // No guard is held while the disk is waited for.
            let filled = match scanner.is_at_edge() {
                true => guard.repin_after(|| scanner.fill_up()),
                false => Ok(()),
            };
            let is_wanted = |lsn, shape, body: &[u8]| self.pages.is_wanted(victim.address(lsn), shape, body, &guard);
            if filled.is_ok() && scanner.pass_by(is_wanted) {
                continue;
            }
            let step = match filled.and_then(|()| scanner.step()) {
                Ok(step @ (Step::Record { .. } | Step::Mark { .. })) => step,
                Ok(_) => break,
                // It has become empty, and was given back meanwhile.
                Err(_) if self.is_gone(victim) => break,
                // One sector may be all that is wrong.
                Err(_) if guard.repin_after(|| self.is_readable()) => {
                    hole = Some(victim.address(scanner.position()));
                    break;
                }
                Err(error) => return Err(error),
            };
            let record = PageRecord::of(victim, &step).filter(|record| !scattered.seen.contains(&record.id));
            let Some(record) = record else { continue };
            match self.pages.copy_record(&record, batch.content(), &guard)? {
                Harvest::Copied(copied) => {
                    share.copied += PAGE_MIN.max(copied.len() as u64);
                    guard.repin_after(|| batch.push(victim, copied, hand_over))?;
                }
                Harvest::Scattered(oldest) => scattered.see(oldest, record.id, victim),
                Harvest::Dead => {}
            }
        }
        drop(guard);
        match hole {
            Some(hole) => self.behind(hole, victim, scattered),
            None => Ok(()),
        }
    }

    /// The pages of a segment that a walk has not met which came so far: by the map, to be read one by one.
    fn behind<'v>(&self, hole: Address, victim: &'v Arc<Segment>, scattered: &mut Scattered<'v>) -> Result<()> {
        let met = victim.address(victim.data_start())..hole;
        let Some(mut found) = self.pages.pages_in(std::slice::from_ref(victim), Cold::Any)? else { return Ok(()) };
        for (oldest, id) in found.take(victim.header.sequence) {
            if !met.contains(&oldest) {
                scattered.see(oldest, id, victim);
            }
        }
        Ok(())
    }

    /// Whether anything can be read: then it was one place that could not, and what lies there stays. Else it is the disk, and a later turn may do better.
    fn is_readable(&self) -> bool {
        self.pages.log.pool.all().iter().take(PROBES).any(|segment| segment.is_readable())
    }

    fn is_gone(&self, victim: &Segment) -> bool {
        self.pages.log.pool.get(victim.header.sequence).is_none()
    }
}
