//! The bounds of an exploration, and the bugs that can be planted in the model: each breaks one rule of the protocol.

use crate::state::Lsn;

/// How much may happen, and in what store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    pub name: &'static str,
    pub begin: Beginning,
    pub pages: u8,
    /// Pages that share a leaf.
    pub leaf: u8,
    /// Records that share a segment of the log.
    pub segment: u8,
    /// Threads that update.
    pub users: u8,
    pub updates: u8,
    pub kinds: Kinds,
    pub moves: u8,
    pub recycling: Recycling,
    pub checkpoints: u8,
    /// Checkpoints and moves that fail.
    pub failures: u8,
    pub crashes: u8,
}

/// Where an exploration begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beginning {
    /// An empty store.
    Empty,
    /// Each page has one record, and there is a checkpoint of that.
    Checkpointed,
}

/// What gives back what is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recycling {
    /// A checkpoint that begins behind it: as the kit did at first, and does where the log cannot say it.
    ByCheckpoint,
    /// That, or the log, in which moves are said, once it is stable up to where its tail was then: as the kit does (decision 0028).
    ByLog,
}

/// What users do beside replacing pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kinds {
    Replace,
    Free,
    Link,
    FreeAndLink,
}

/// What a state and its steps are judged by.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    pub bounds: Bounds,
    pub bug: Option<Bug>,
}

impl Rules {
    pub fn planted(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    /// Whether moves are said in the log.
    pub fn says_moves(&self) -> bool {
        self.bounds.recycling == Recycling::ByLog
    }

    /// The segment that an LSN is in.
    pub fn segment(&self, lsn: Lsn) -> usize {
        (lsn - 1) as usize / self.bounds.segment as usize
    }

    pub fn segments(&self, drawn: Lsn) -> usize {
        drawn.div_ceil(self.bounds.segment) as usize
    }

    /// Whether a segment of the log ends at or below an LSN. (The kit counts the header of the next one in, and so keeps one more.)
    pub fn is_below(&self, segment: usize, redo: Lsn) -> bool {
        (segment + 1) * self.bounds.segment as usize <= redo as usize
    }

    pub fn leaf(&self, page: u8) -> u8 {
        page / self.bounds.leaf
    }
}

/// One rule that does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// A segment is given back as soon as it is empty.
    RecycledAtOnce,
    /// A checkpoint gives back what is empty when its leaves are written, not what was when it began.
    EmptiedTakenAfterTheScan,
    /// The same, as of when both superblocks are durable.
    EmptiedTakenAtTheEnd,
    /// What is empty is given back when the first copy of the superblock is durable.
    RecycledAfterFirstCopy,
    /// Segments of the log count as empty above the redo point too.
    RecycledAboveRedo,
    /// A page goes to its image before that is synced.
    ImageUnsynced,
    /// A page that has data goes to its image, whatever its records are by then.
    MovedWithoutCompare,
    /// So does one that has none any more.
    MovedOverAFree,
    /// A move does not mark the leaf.
    MoveNotMarked,
    /// A move counts the old records as dead before it marks the leaf.
    LoweredBeforeMark,
    /// Images that no slot names yet count as dead.
    GrowingSegmentEmpty,
    /// An update counts the old records as dead before it is published.
    LoweredBeforePublish,
    /// An update counts its record as in use when it is published, and no sooner.
    RaisedAfterPublish,
    /// A leaf is marked before the update is published.
    MarkedBeforePublish,
    /// A leaf is marked after the update's record is complete.
    MarkedAfterCompletion,
    /// A checkpoint looks at the slots and takes the mark after.
    MarkTakenAfterTheLook,
    /// A checkpoint does not wait until what its leaves name is stable.
    NoWaitForStability,
    /// The redo point is what is stable when the leaves are written.
    RedoPointTooHigh,
    /// A checkpoint that fails keeps the marks it took.
    MarksKeptByFailure,
    /// A checkpoint that fails with a superblock written gives back what only it needs.
    FailureBehindFirstCopyForgotten,
    /// The next one that fails before its superblocks does.
    UncertaintyForgotten,
    /// Superblocks are written before the root is synced.
    RootUnsynced,
    /// The root is written before the leaves are synced.
    LeavesUnsynced,
    /// Both copies of the superblock are written before one is synced.
    CopiesWrittenTogether,
    /// A checkpoint writes the first copy while the second may be torn by one that failed.
    TornCopyLeft,
    /// An opening leaves copies that differ as they are.
    CopiesLeftDifferent,
    /// An opening removes what its checkpoint does not know before the copies are the same.
    SweptBeforeCopiesAreSame,
    /// An opening does not sync the end of the log that it found.
    UnsyncedBytesTrusted,
    /// An id is handed out before the free is stable.
    IdReusedBeforeFreeStable,
    /// What a leaf says comes after what the replayed log says.
    LeafOverReplay,
    /// Records that a leaf's records include are applied once more.
    ReplayAppliedTwice,
    /// So are those that a leaf's image includes.
    ImageAppliedTwice,
    /// Replay does not apply frees.
    FreeForgottenAtReplay,
    /// A move counts the old records as dead before it is said.
    MoveSaidAfterLowering,
    /// A move is said before the page goes, which it may not.
    MoveSaidBeforeSwap,
    /// What is empty is given back though the log is not stable up to there.
    GivenBackUnstable,
    /// Replay applies a move and does not mark the leaf.
    MoveReplayedUnmarked,
    /// An opening removes the images that its checkpoint does not know, whatever the log says.
    SweptByCheckpointAlone,
}

impl Bug {
    pub const ALL: [Bug; 38] = [
        Bug::RecycledAtOnce,
        Bug::EmptiedTakenAfterTheScan,
        Bug::EmptiedTakenAtTheEnd,
        Bug::RecycledAfterFirstCopy,
        Bug::RecycledAboveRedo,
        Bug::ImageUnsynced,
        Bug::MovedWithoutCompare,
        Bug::MovedOverAFree,
        Bug::MoveNotMarked,
        Bug::LoweredBeforeMark,
        Bug::GrowingSegmentEmpty,
        Bug::LoweredBeforePublish,
        Bug::RaisedAfterPublish,
        Bug::MarkedBeforePublish,
        Bug::MarkedAfterCompletion,
        Bug::MarkTakenAfterTheLook,
        Bug::NoWaitForStability,
        Bug::RedoPointTooHigh,
        Bug::MarksKeptByFailure,
        Bug::FailureBehindFirstCopyForgotten,
        Bug::UncertaintyForgotten,
        Bug::RootUnsynced,
        Bug::LeavesUnsynced,
        Bug::CopiesWrittenTogether,
        Bug::TornCopyLeft,
        Bug::CopiesLeftDifferent,
        Bug::SweptBeforeCopiesAreSame,
        Bug::UnsyncedBytesTrusted,
        Bug::IdReusedBeforeFreeStable,
        Bug::LeafOverReplay,
        Bug::ReplayAppliedTwice,
        Bug::ImageAppliedTwice,
        Bug::FreeForgottenAtReplay,
        Bug::MoveSaidAfterLowering,
        Bug::MoveSaidBeforeSwap,
        Bug::GivenBackUnstable,
        Bug::MoveReplayedUnmarked,
        Bug::SweptByCheckpointAlone,
    ];
}
