//! Leaves as they are written: as their slots are, and which of them are written though nothing has changed in them.

use std::collections::{BTreeMap, BTreeSet};

use crossbeam_epoch::LocalHandle;

use super::Checkpointer;
use crate::base::ids::{PageId, Sequence, Version};
use crate::format::leaf::LeafWriter;
use crate::format::root::LeafAt;
use crate::page::materialize::Materializer;
use crate::page::pieces::PIECES_MAX;
use crate::page::slot::Seen;
use crate::store::stream::Writer;

/// A leaf as its slots were.
pub(super) struct Captured {
    pub(super) entries: Vec<u8>,
    /// Ids without data.
    pub(super) vacant: u64,
    /// One more than the highest id of which it says anything.
    pub(super) high_water: u64,
}

impl<M: Materializer> Checkpointer<M> {
    /// A leaf as its slots are now, in the room of another. The guard ends here, before any I/O (C6).
    pub(super) fn capture(&self, leaf: u64, room: Vec<u8>, handle: &LocalHandle) -> Captured {
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

    /// Leaves to be written again though they have not changed, so that the map's segments stay half full: those in the emptiest of
    /// them, as many as it takes.
    pub(super) fn sparse(&self, leaves: &[Option<LeafAt>], writer: &Writer) -> BTreeSet<u64> {
        let size = self.pages.log.pool.segment_size();
        let live = live(leaves, size);
        let mut total: u64 = live.values().sum();
        let mut by_fill: Vec<(u64, Sequence)> = live.into_iter().map(|(sequence, bytes)| (bytes, sequence)).collect();
        by_fill.sort_unstable();
        let mut segments = by_fill.len() as u64;
        let mut moved = BTreeSet::new();
        for (bytes, sequence) in by_fill {
            if segments * size <= 2 * total + 2 * size {
                break;
            }
            if writer.segment().is_some_and(|open| open.header.sequence == sequence) {
                continue;
            }
            moved.insert(sequence);
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

pub(super) fn weigh(leaves: &[Option<LeafAt>]) -> u64 {
    leaves.iter().flatten().map(|at| at.piece.len_max()).sum()
}

/// Bytes of leaves in each segment that holds any.
pub(super) fn live(leaves: &[Option<LeafAt>], segment_size: u64) -> BTreeMap<Sequence, u64> {
    let mut live = BTreeMap::new();
    for at in leaves.iter().flatten() {
        *live.entry(Sequence(at.piece.address().0 / segment_size)).or_default() += at.piece.len_max();
    }
    live
}
