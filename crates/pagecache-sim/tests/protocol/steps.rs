//! What can happen next in a state: one atomic action of one actor, or a crash.
//!
//! Actions are merged only where nobody can tell: an action that no other actor reads and that a crash in between shows no differently
//! goes with its neighbour. Each merge says so where it is made.

use crate::bugs::{Bug, Rules};
use crate::state::{
    Checkpoint, Copy, Image, Kind, Lsn, MoveStage, NEVER, Next, Phase, Piece, Slot, Stage, State, TORN,
};
use crate::{checkpoint, clean, crash, promises, update};

/// An action, as a trace shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Draw { kind: Kind, page: u8, lsn: Lsn },
    Publish { page: u8, lsn: Lsn },
    GiveUp { lsn: Lsn },
    MarkLeaf { leaf: u8 },
    Complete { lsn: Lsn },
    LowerOld { page: u8 },
    FlushSyncs { stable: Lsn },
    CopyPage { page: u8, version: Lsn, image: u8 },
    MoveGoes { page: u8 },
    MoveIsLate { page: u8 },
    MoveMarksLeaf { leaf: u8 },
    MoveLowersOld { page: u8 },
    MoveFails { page: u8 },
    MoveSays { page: u8, lsn: Lsn },
    CheckpointBegins { redo: Lsn },
    CheckpointNotesEmptied { logs: u8, images: u8 },
    CheckpointTakesMark { leaf: u8 },
    CheckpointSkipsLeaf { leaf: u8 },
    CheckpointLooks { page: u8 },
    CheckpointMendsSecondCopy,
    CheckpointSyncsMendedCopy,
    CheckpointWritesRootAndFirstCopy,
    CheckpointWritesSecondCopy,
    CheckpointGivesBack { logs: u8, images: u8 },
    CheckpointFails { copy: u8, says: u8 },
    GiveBackAtOnce { logs: u8, images: u8 },
    Kill { log: Lsn },
    PowerFails { log: Lsn, copies: [u8; 2] },
    OpeningSyncsLogAndWritesFirstCopy,
    OpeningWritesSecondCopy,
    Opened { log: Lsn },
}

/// A promise that does not hold, and of what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken {
    pub promise: &'static str,
    pub of: u8,
}

pub type Outcome = Result<State, Broken>;

/// What can happen next, in an order that is always the same.
#[derive(Default)]
pub struct Steps {
    pub all: Vec<(Step, Outcome)>,
}

impl Steps {
    pub fn push(&mut self, step: Step, state: State) {
        self.all.push((step, Ok(state)));
    }

    /// Everything that can happen in a state.
    pub fn of(&mut self, state: &State, rules: &Rules) {
        self.all.clear();
        if state.phase == Phase::Open {
            update::steps(state, rules, self);
            clean::steps(state, rules, self);
            checkpoint::steps(state, rules, self);
        } else {
            crash::open(state, rules, self);
        }
        crash::steps(state, rules, self);
        for (_, outcome) in &mut self.all {
            if let Ok(state) = outcome {
                if state.phase == Phase::Open && rules.says_moves() {
                    clean::recycle(state, rules);
                }
                tidy(state);
                if let Err(broken) = promises::check(state, rules) {
                    *outcome = Err(broken);
                }
            }
        }
    }
}

/// Makes states equal that mean the same: actors at rest forget, users stand in one order (they are alike), and checkpoints that no
/// superblock may name are dropped, the others moved together in their order.
fn tidy(state: &mut State) {
    for user in &mut state.users {
        if user.stage == Stage::Idle {
            *user = Default::default();
        }
    }
    if (state.users[1].stage, state.users[1].lsn) < (state.users[0].stage, state.users[0].lsn) {
        state.users.swap(0, 1);
    }
    if state.moving.stage == MoveStage::Idle {
        state.moving = Default::default();
    }
    if state.writing.next == Next::Begin {
        state.writing = Default::default();
    }
    let mut named = state.copies.iter().fold(0, |named, copy| named | copy.may | 1 << copy.now);
    named &= !(1 << TORN | 1 << NEVER);
    if state.current != NEVER {
        named |= 1 << state.current;
    }
    let is_rooted = matches!(state.writing.next, Next::WriteSecond | Next::SyncSecond);
    if is_rooted {
        named |= 1 << state.writing.checkpoint;
    }
    let place = |at: u8| if at < TORN { (named & ((1 << at) - 1)).count_ones() as u8 } else { at };
    let old = state.checkpoints;
    state.checkpoints = Default::default();
    for (at, checkpoint) in old.into_iter().enumerate().filter(|(at, _)| named & 1 << at != 0) {
        state.checkpoints[place(at as u8) as usize] = checkpoint;
    }
    for copy in &mut state.copies {
        let may = (0..8).filter(|at| copy.may & 1 << at != 0).fold(0, |may, at| may | 1 << place(at));
        *copy = Copy { now: place(copy.now), may };
    }
    state.current = place(state.current);
    if is_rooted {
        state.writing.checkpoint = place(state.writing.checkpoint);
    }
}

impl State {
    /// The first place for a checkpoint behind all that a superblock may name.
    pub fn next_checkpoint(&self) -> u8 {
        let used = self.checkpoints.iter().rposition(|checkpoint| *checkpoint != Checkpoint::default());
        used.map_or(0, |at| at as u8 + 1)
    }

    /// Takes segments away for good.
    pub fn give_back(&mut self, logs: u8, images: u8) {
        self.gone |= logs;
        for (at, image) in self.images.iter_mut().enumerate() {
            if images & 1 << at != 0 {
                *image = Image::default();
            }
        }
        for (segment, live) in self.live.iter_mut().enumerate() {
            if logs & 1 << segment != 0 {
                *live = 0;
            }
        }
    }

    /// The version of a page whose records these are, each read and checked to go on the one before it, as a page-in does it. None where
    /// one cannot be read, or is not this page's.
    pub fn materialize(&self, page: u8, slot: &Slot, rules: &Rules) -> Option<Lsn> {
        let (mut version, mut held) = (0, 0);
        for (at, piece) in slot.pieces().enumerate() {
            match piece {
                Piece::None => {}
                Piece::Image(image) => {
                    let image = self.images[image as usize];
                    if at > 0 || !image.bytes.can_be_read() || image.page != page {
                        return None;
                    }
                    (version, held) = (image.version, image.version);
                }
                // What the image holds already.
                Piece::Log(lsn) if lsn <= held && !rules.planted(Bug::ImageAppliedTwice) => {}
                Piece::Log(lsn) => {
                    if lsn > self.drawn || self.gone & 1 << rules.segment(lsn) != 0 {
                        return None;
                    }
                    let record = self.record(lsn);
                    let fits = match record.kind {
                        Kind::Replace => at == 0,
                        Kind::Link => record.base == version && at > 0,
                        Kind::Free | Kind::Void | Kind::Move => false,
                    };
                    if record.page != page || !fits {
                        return None;
                    }
                    version = lsn;
                }
            }
        }
        (version > 0).then_some(version)
    }
}
