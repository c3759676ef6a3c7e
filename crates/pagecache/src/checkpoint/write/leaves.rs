//! Leaves as they are written: as their slots are, and which of them are written though nothing has changed in them.

use std::collections::{BTreeMap, BTreeSet};

use crossbeam_epoch::LocalHandle;

use super::Checkpointer;
use crate::base::canary::{Canary, planted};
use crate::base::error::{Error, Result};
use crate::base::ids::{PageId, Sequence, Version};
use crate::base::sync::mpsc::sync_channel;
use crate::base::sync::{AtomicU64, Help, Ordering, with_help};
use crate::base::upkeep::Upkeep;
use crate::format::leaf::LeafWriter;
use crate::format::root::LeafAt;
use crate::page::leaves::Leaves;
use crate::page::materialize::Materializer;
use crate::page::pieces::PIECES_MAX;
use crate::page::slot::Seen;
use crate::store::stream::Writer;

/// So many leaves that have changed are captured by two threads: fewer take less time than a thread takes to start. Under shuttle, whose stores are small, all are.
const MANY: u64 = if cfg!(shuttle) { 1 } else { 64 };

/// So many leaves wait at most until they are written.
const AHEAD: usize = 8;

/// The name of the thread that captures leaves beside the one that captures and writes.
const HELPER: &str = "pagecache-leaf";

/// Marks that were taken, given back when dropped.
pub(super) struct Taken<'a> {
    leaves: &'a Leaves,
    numbers: Vec<u64>,
}

impl Taken<'_> {
    /// What they stood for is durable.
    pub(super) fn keep(&mut self) {
        self.numbers.clear();
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if !planted(Canary::MarksLostWithCheckpoint) {
            self.numbers.iter().for_each(|leaf| self.leaves.give_back(*leaf));
        }
    }
}

/// A leaf as its slots were.
pub(super) struct Captured {
    pub(super) entries: Vec<u8>,
    /// Ids without data.
    pub(super) vacant: u64,
    /// One more than the highest id of which it says anything.
    pub(super) high_water: u64,
}

impl<M: Materializer> Checkpointer<M> {
    /// Captures every leaf below `count` that has changed, and those of `sparse`, in any order. `put` writes one, and gives back its memory. Where many have
    /// changed another thread captures too, if the store has any.
    ///
    /// # Errors
    /// Of `put`, and of reading a leaf; all marks are given back then.
    pub(super) fn capture_all(
        &self,
        count: u64,
        sparse: &BTreeSet<u64>,
        put: &mut dyn FnMut(u64, Captured) -> Result<Vec<u8>>,
    ) -> Result<Taken<'_>> {
        let (next, leaves) = (&AtomicU64::new(0), &self.pages.leaves);
        let mut taken = Taken { leaves, numbers: Vec::new() };
        if self.help == Help::Thread && leaves.dirty() >= MANY {
            let (sender, receiver) = sync_channel(AHEAD);
            let beside = move || {
                let _upkeep = Upkeep::begin();
                let mut taken = Taken { leaves, numbers: Vec::new() };
                let captured = self.capture_next(next, count, sparse, &mut taken, |leaf, captured| {
                    let room = Vec::with_capacity(captured.entries.len());
                    // Where nobody takes it, who writes has ended, and what it says is what counts.
                    sender.send((leaf, captured)).map_err(|_| Error::Closed)?;
                    Ok(room)
                });
                captured.map(|()| taken)
            };
            let (put, mine) = (&mut *put, &mut taken);
            let here = move || {
                self.capture_next(next, count, sparse, mine, |leaf, captured| {
                    let room = put(leaf, captured)?;
                    while let Ok((leaf, captured)) = receiver.try_recv() {
                        put(leaf, captured)?;
                    }
                    Ok(room)
                })?;
                receiver.into_iter().try_for_each(|(leaf, captured)| put(leaf, captured).map(drop))
            };
            if let Ok((others, here)) = with_help(HELPER, beside, here) {
                let mut others = here.and(others)?;
                taken.numbers.append(&mut others.numbers);
                return Ok(taken);
            }
        }
        self.capture_next(next, count, sparse, &mut taken, put)?;
        Ok(taken)
    }

    /// Captures leaves one after the other, each of which `next` names to one thread.
    fn capture_next(
        &self,
        next: &AtomicU64,
        count: u64,
        sparse: &BTreeSet<u64>,
        taken: &mut Taken<'_>,
        mut put: impl FnMut(u64, Captured) -> Result<Vec<u8>>,
    ) -> Result<()> {
        let (handle, mut room) = (self.pages.collector.register(), Vec::new());
        loop {
            // Relaxed: a number that nobody else gets. Who takes a leaf's mark looks at its slots in the same thread.
            let leaf = next.fetch_add(1, Ordering::Relaxed);
            if leaf >= count {
                return Ok(());
            }
            let has_changed = self.pages.leaves.take(leaf);
            if has_changed {
                taken.numbers.push(leaf);
            } else if !sparse.contains(&leaf) {
                continue;
            }
            match self.pages.read_leaf(leaf) {
                // Only its place was to change: it stays where it is.
                Err(Error::Corrupt(_) | Error::Io { .. }) if !has_changed => continue,
                read => read?,
            }
            room = put(leaf, self.capture(leaf, room, &handle))?;
        }
    }

    /// A leaf as its slots are now, in the room of another. The guard ends here, before any I/O (C6).
    fn capture(&self, leaf: u64, room: Vec<u8>, handle: &LocalHandle) -> Captured {
        let guard = handle.pin();
        let (mut writer, mut high_water, mut pieces) = (LeafWriter::over(room), 0, Vec::with_capacity(PIECES_MAX));
        for id in self.pages.leaves.range(leaf) {
            let Some(slot) = self.pages.table.get(PageId(id)) else {
                writer.absent();
                continue;
            };
            // SAFETY: loaded just now under `guard`, which is of this store's collector; the leaf was read.
            let seen = unsafe { slot.load().see::<M::PageFrag>() };
            if !matches!(seen, Seen::Absent | Seen::Empty(Version::NONE)) {
                high_water = id + 1;
            }
            match seen {
                Seen::Absent => writer.absent(),
                Seen::Free(version) => writer.free(version),
                // Nothing is logged for an id without data: after a restart it is what it was before.
                Seen::Empty(Version::NONE) => writer.absent(),
                Seen::Empty(version) => writer.free(version),
                Seen::ColdOne(piece) => writer.data(1, std::iter::once(piece)),
                Seen::Cold(pieces) | Seen::Headless(pieces) => writer.data(pieces.len(), pieces.iter().copied()),
                Seen::Resident(chain) => {
                    chain.oldest_first(&mut pieces);
                    writer.data(pieces.len(), pieces.iter().copied());
                }
            }
        }
        drop(guard);
        let (entries, vacant) = writer.finish();
        Captured { entries, vacant, high_water }
    }

    /// Leaves to be written again though they have not changed, so that the map's segments stay half full, or four fifths where users have no room: those in the
    /// emptiest of them, as many as it takes.
    pub(super) fn sparse(&self, leaves: &[Option<LeafAt>], writer: &Writer) -> BTreeSet<u64> {
        let size = self.pages.log.pool.segment_size();
        let live = live(leaves, size);
        let mut total: u64 = live.values().sum();
        let mut by_fill: Vec<(u64, Sequence)> = live.into_iter().map(|(sequence, bytes)| (bytes, sequence)).collect();
        by_fill.sort_unstable();
        let mut segments = by_fill.len() as u64;
        let mut moved = BTreeSet::new();
        let (is_tight, mut spare) = (self.is_tight(), self.spare_bytes());
        let most = |total: u64| if is_tight { total + total / 4 } else { 2 * total };
        for (bytes, sequence) in by_fill {
            if segments * size <= most(total) + 2 * size || bytes > spare {
                break;
            }
            if writer.segment().is_some_and(|open| open.header.sequence == sequence) {
                continue;
            }
            moved.insert(sequence);
            spare -= bytes;
            (segments, total) = (segments - 1, total.saturating_sub(bytes));
        }
        if moved.is_empty() {
            return BTreeSet::new();
        }
        let place = |at: &Option<LeafAt>| at.map(|at| Sequence(at.piece.address().0 / size));
        let found = (0..).zip(leaves).filter(|(_, at)| place(at).is_some_and(|sequence| moved.contains(&sequence)));
        found.map(|(leaf, _)| leaf).collect()
    }
}

/// Bytes of leaves in each segment that holds any.
pub(super) fn live(leaves: &[Option<LeafAt>], segment_size: u64) -> BTreeMap<Sequence, u64> {
    let mut live = BTreeMap::new();
    for at in leaves.iter().flatten() {
        *live.entry(Sequence(at.piece.address().0 / segment_size)).or_default() += at.piece.len_max();
    }
    live
}
