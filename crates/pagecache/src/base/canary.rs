//! Planted bugs, picked at run time, in the one build the drivers run: a driver that finds none has proven nothing.
//!
//! Without the feature `canary` every question is the constant `false` and leaves no trace in the code.

/// A bug that can be planted. The place that asks is the place that would break.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Canary {
    /// A flush round moves the stable LSN without syncing its files.
    SkippedSync = 1,
    /// A round acknowledges before it syncs.
    EarlyAcknowledgement,
    /// A record's checksum does not know its place nor its segment's life.
    WrongCrcSeed,
    /// A trimmed segment is reused before the trim is durable.
    SegmentReusedEarly,
    /// A page id is handed out before the free of its last owner is durable.
    IdReusedBeforeFreeStable,
    /// A leader parks without looking at the open slot again.
    LostWakeup,
    /// A checkpoint lists the segments while one of the log is being born.
    DirectoryDuringBirth,
    /// A record may run one granule over the end of its segment's data.
    OffByOneAtSegmentEnd,
    /// The stable LSN follows written bytes, not whole records.
    StableInsideRecord,
    /// An open slot is cleared before its bytes are in the ring.
    SlotClearedBeforeCopy,
    /// Recovery trusts bytes that were never proven synced.
    UnsyncedBytesTrusted,
    /// The directory entry of a new segment is not synced.
    SkippedDirectorySync,
    /// A torn segment is continued in place instead of cut.
    TornSegmentContinued,
    /// A hole below the evidence is taken for a torn tail.
    DamageTakenForTornTail,
    /// An update does not compare its token with the page's version.
    StaleTokenAccepted,
    /// Replay does not apply frees.
    FreeForgottenAtReplay,
    /// A page-in is published over whatever the slot says by then.
    PageInWithoutCompare,
    /// A page is evicted before its updates are stable.
    UnstableEvicted,
    /// An update whose swap has failed is acknowledged.
    FailedSwapTakenForSuccess,
    /// Those who wait are not told that the log has failed.
    WaitersForgottenAtFailure,
    /// A free gives its id back twice.
    IdGivenBackTwice,
    /// The prefix looks at the slots first and at the tail after.
    TailReadAfterSlots,
    /// A chain is freed at once, whoever holds a guard.
    MissingPin,
    /// A failed write is repeated as if nothing had been.
    FailedWriteRepeated,
    /// A failed sync is repeated as if nothing had been.
    FailedSyncRepeated,
    /// A full disk ends the log for good.
    FullDiskForGood,
    /// The second copy of a segment's header is never written.
    SecondHeaderMissing,
    /// The mark of a round says that its own round is synced.
    MarkProvesItself,
    /// A trim gives back the pieces of an extent that it keeps.
    PiecesFreedEarly,
    /// A page that comes in has the version of its oldest fragment.
    VersionRolledBack,
    /// A clean close writes no mark.
    CloseUnmarked,
    /// Replay does not apply trims.
    TrimForgottenAtReplay,
    /// The ring goes round over bytes that are still being written.
    RingReusedEarly,
    /// A read of a page is shared with those whose slot has moved on.
    SharedReadByPage,
    /// An update marks its leaf before it is published, not after.
    DirtyBeforePublish,
    /// A checkpoint looks at a leaf's slots without a fence behind the taking of its mark.
    LeafTakenWithoutFence,
    /// A checkpoint does not wait until what its leaves name is stable.
    LeafCapturedUnstable,
    /// The redo point of a checkpoint is the end of the log when it was done, not when it began.
    RedoPointTooHigh,
    /// A superblock is written before the root it names is synced.
    SuperblockBeforeRoot,
    /// Segments of the map are given back when the first copy of the superblock is written.
    MapReleasedEarly,
    /// A checkpoint that has failed keeps the marks it took.
    MarksLostWithCheckpoint,
    /// Copies of the superblock that differ are left so.
    SuperblocksLeftDifferent,
    /// A leaf that is read writes over what the replayed log says.
    LeafOverReplay,
    /// Records that a leaf holds already are applied to it once more.
    ReplayAppliedTwice,
    /// A page that was freed is allocated still for who reads its leaf.
    FreedPageInLeaf,
    /// The user's recovered state in a checkpoint is that of the log's end, without what the log holds from the redo point on.
    StateNotAdvanced,
    /// A segment that is empty is given back before a checkpoint or the log says so.
    RecycledBeforeCheckpoint,
    /// A checkpoint gives back segments that became empty while it was written.
    RecycledByCheckpointUnderway,
    /// A page that was moved goes to its new place whatever has become of it meanwhile.
    MovedWithoutCompare,
    /// A page goes to its new place before its image is synced.
    ImageUnsynced,
    /// A move does not mark the page's leaf.
    MoveNotMarked,
    /// The log does not say which pages have moved, and what they left behind is given back all the same.
    MoveUnsaid,
    /// What is empty is given back though the log, which says so, is not stable up to there.
    GivenBackUnstable,
    /// Replay applies a move and does not mark the page's leaf.
    MoveReplayedUnmarked,
    /// A move of a page whose leaf was not read yet is forgotten.
    MoveDoesNotWait,
    /// A checkpoint gives back images to which moves behind its redo point go.
    ReplayedImagesReleased,
    /// An opening removes the images that its checkpoint does not know, whatever the log says of them.
    SweptByCheckpointAlone,
    /// The pieces of nodes below a marker count.
    PiecesBelowMarker,
    /// Segments whose images are not in the map yet count as empty.
    GrowingSegmentEmpty,
    /// Who reads a leaf does not learn where the parts of its long pages are.
    PartsForgottenInLeaf,
    /// Pages that were moved are freed though guards may see them.
    LotFreedEarly,
    /// A copy of the superblock whose write has failed is left torn while the other one is written over.
    TornCopyLeft,
    /// Below a cap users may take the segments that are left to upkeep, too.
    ReserveCountedAsSpace,
    /// Files go although somebody wants them to stay.
    FilesPinIgnored,
}

#[cfg(feature = "canary")]
mod armed {
    // Outside the door on purpose: loom must not see the switch of the experiment.
    use std::sync::atomic::{AtomicU8, Ordering};

    static ARMED: AtomicU8 = AtomicU8::new(0);

    pub(crate) fn is(canary: super::Canary) -> bool {
        ARMED.load(Ordering::Relaxed) == canary as u8
    }

    /// Plants one bug in this process, or none.
    pub fn plant(canary: Option<super::Canary>) {
        ARMED.store(canary.map_or(0, |canary| canary as u8), Ordering::SeqCst);
    }
}

#[cfg(feature = "canary")]
pub use armed::plant;

/// Whether this bug is planted now.
#[inline(always)]
pub(crate) fn planted(canary: Canary) -> bool {
    #[cfg(feature = "canary")]
    return armed::is(canary);
    #[cfg(not(feature = "canary"))]
    {
        let _ = canary;
        false
    }
}
