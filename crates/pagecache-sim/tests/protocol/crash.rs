//! A crash at any point, what it leaves, and the opening after it, which may crash too: `checkpoint/load.rs`, `recovery/`,
//! `ops/settle.rs`.

use crate::bugs::{Bug, Rules};
use crate::promises;
use crate::state::{
    Bytes, Checkpoint, Copy, Doubt, Holds, Kind, Lsn, Move, NEVER, PAGES, Phase, Piece, RECORDS, Slot, Stage, State,
    TORN, Update, Writing,
};
use crate::steps::{Broken, Outcome, Step, Steps};

fn broken(promise: &'static str, of: u8) -> Broken {
    Broken { promise, of }
}

pub fn steps(state: &State, rules: &Rules, steps: &mut Steps) {
    if state.left.crashes == 0 {
        return;
    }
    let mut down = *state;
    down.left.crashes -= 1;
    forget(&mut down);
    // Of the log what stands behind the first hole is cut, so a length says all.
    for end in state.synced..=state.whole() {
        // The process dies: the operating system keeps what was written, and has not synced it.
        steps.all.push((Step::Kill { log: end }, cut_log(down, end, rules)));
        // The machine does: each write that was not synced is there or not.
        let mut down = down;
        down.synced = end;
        each_choice(down, steps, &mut |mut down, steps| {
            down.copies.iter_mut().for_each(|copy| copy.sync());
            let step = Step::PowerFails { log: end, copies: down.copies.map(|copy| copy.now) };
            steps.all.push((step, cut_log(down, end, rules)));
        });
    }
}

/// What is only in memory.
fn forget(state: &mut State) {
    state.phase = Phase::Found;
    state.slots = [Slot::default(); PAGES];
    (state.dirty, state.live, state.stable, state.redo, state.current) = (0, Default::default(), 0, 0, NEVER);
    state.doubt = Doubt::None;
    (state.users, state.moving, state.writing) = ([Update::default(); 2], Move::default(), Writing::default());
    state.emptied = Default::default();
    for image in &mut state.images {
        (image.live, image.growing) = (0, false);
    }
}

/// Every choice of what a crash leaves beside the log. Images that no leaf names are read by nobody: of them one choice does.
fn each_choice(down: State, steps: &mut Steps, then: &mut impl FnMut(State, &mut Steps)) {
    let mut named = 0u8;
    for checkpoint in &down.checkpoints {
        for piece in checkpoint.entries.iter().flat_map(Slot::pieces) {
            if let Piece::Image(image) = piece {
                named |= 1 << image;
            }
        }
    }
    for record in down.log.iter().filter(|record| record.kind == Kind::Move) {
        named |= 1 << record.image;
    }
    let mut down = down;
    for (at, image) in down.images.iter_mut().enumerate() {
        if named & 1 << at == 0 && image.bytes == Bytes::Written {
            image.bytes = Bytes::Lost;
        }
    }
    choose(down, 0, steps, then);
}

/// Goes through what is written and not synced, from the unit `at` on: images, then leaves and roots, then copies.
fn choose(down: State, at: usize, steps: &mut Steps, then: &mut impl FnMut(State, &mut Steps)) {
    let (images, checkpoints) = (down.images.len(), down.checkpoints.len());
    if at < images + 2 * checkpoints {
        let bytes = |state: &mut State, set: Option<Bytes>| {
            let place = match at {
                _ if at < images => &mut state.images[at].bytes,
                _ if at < images + checkpoints => &mut state.checkpoints[at - images].root,
                _ => &mut state.checkpoints[at - images - checkpoints].leaves,
            };
            if let Some(set) = set {
                *place = set;
            }
            *place
        };
        let mut next = down;
        if bytes(&mut next, None) != Bytes::Written {
            return choose(down, at + 1, steps, then);
        }
        for left in [Bytes::Lost, Bytes::Durable] {
            bytes(&mut next, Some(left));
            choose(next, at + 1, steps, then);
        }
        return;
    }
    let copy = at - images - 2 * checkpoints;
    if copy == down.copies.len() {
        return then(down, steps);
    }
    for says in (0..8).filter(|says| down.copies[copy].may & 1 << says != 0) {
        let mut next = down;
        next.copies[copy].now = says;
        choose(next, at + 1, steps, then);
    }
}

/// The log ends here. LSNs above were never told of but for what the promises look at next, so they may be used again in the model.
fn cut_log(mut down: State, end: Lsn, rules: &Rules) -> Outcome {
    down.log.iter_mut().skip(end as usize).for_each(|record| *record = Default::default());
    down.drawn = end;
    down.synced = down.synced.min(end);
    // Where the copies differ, the older one has to serve as well: the newer may be damaged.
    let [first, second] = down.copies.map(|copy| copy.now);
    if first < TORN && second < TORN && first != second {
        let mut by_older = down;
        by_older.copies[usize::from(second > first)] = Copy::of(TORN);
        find(&mut by_older, rules)?;
    }
    find(&mut down, rules)?;
    Ok(down)
}

/// Which checkpoint counts.
fn counts(down: &State) -> Result<Option<u8>, Broken> {
    let [first, second] = down.copies.map(|copy| copy.now);
    let is_valid = |copy: u8| copy < TORN;
    let (newer, older) = match (is_valid(first), is_valid(second)) {
        (false, false) if second == NEVER => return Ok(None),
        (false, false) => return Err(broken("one copy of the superblock is whole", 0)),
        (true, true) => (first.max(second), Some(first.min(second)).filter(|_| first != second)),
        (true, false) => (first, None),
        (false, true) => (second, None),
    };
    let has_root = |at: &u8| down.checkpoints[*at as usize].root.can_be_read();
    match [Some(newer), older].into_iter().flatten().find(has_root) {
        Some(counts) => Ok(Some(counts)),
        None => Err(broken("the root that a superblock names can be read", newer)),
    }
}

/// What an opening finds: the checkpoint, the log behind it, and what the pages are then.
fn find(down: &mut State, rules: &Rules) -> Result<(), Broken> {
    let counts = counts(down)?;
    let mut found = Checkpoint { leaves: Bytes::Durable, ..Checkpoint::default() };
    if let Some(at) = counts {
        found = down.checkpoints[at as usize];
        (down.current, down.redo) = (at, found.redo);
    }
    if !found.leaves.can_be_read() {
        return Err(broken("the leaves that a root names can be read", down.current));
    }
    for segment in 0..rules.segments(down.drawn) {
        // Where the log gives segments back too, it may have done so with those that a checkpoint knows.
        let is_known = found.logs & 1 << segment != 0 && !rules.says_moves() || !rules.is_below(segment, found.redo);
        if is_known && down.gone & 1 << segment != 0 {
            return Err(broken(
                "a segment of the log that a checkpoint knows, or that is replayed, is there",
                segment as u8,
            ));
        }
    }
    for at in (0..down.images.len()).filter(|at| found.images & 1 << at != 0) {
        if down.images[at].bytes == Bytes::Gone && !rules.says_moves() {
            return Err(broken("a segment of images that a checkpoint knows is there", at as u8));
        }
    }
    for page in 0..rules.bounds.pages {
        let (replayed, before, touched) = replay(down, page, found.redo, counts.is_some(), rules);
        if touched {
            down.dirty |= 1 << rules.leaf(page);
        }
        let entry = found.entries[page as usize];
        let entry = before.into_iter().fold(entry, |entry, (upto, image)| entry.moved(upto, image).unwrap_or(entry));
        let joined =
            join(replayed, entry, rules).ok_or(broken("links that are replayed have a page to go on", page))?;
        down.slots[page as usize] = joined;
        if joined.holds == Holds::Data {
            let version = down.materialize(page, &joined, rules);
            let version = version.ok_or(broken("a page that is found can be read", page))?;
            down.slots[page as usize].version = version;
            joined.pieces().for_each(|piece| down.count(piece, 1, rules));
        }
    }
    promises::check_found(down, rules)?;
    forget_unnamed_images(down);
    Ok(())
}

/// Nobody reads an image that neither a page nor a checkpoint names.
fn forget_unnamed_images(down: &mut State) {
    let entries = down.checkpoints.iter().flat_map(|checkpoint| checkpoint.entries.iter());
    let mut named: Vec<Piece> = down.slots.iter().chain(entries).flat_map(Slot::pieces).collect();
    let said = down.log.iter().filter(|record| record.kind == Kind::Move);
    named.extend(said.map(|record| Piece::Image(record.image)));
    for (at, image) in (0..).zip(&mut down.images) {
        if image.bytes != Bytes::Gone && !named.contains(&Piece::Image(at)) {
            (image.bytes, image.page, image.version) = (Bytes::Lost, 0, 0);
        }
    }
}

/// What the log from the redo point on says of a page: a slot, and whether that goes on what the leaf says.
#[derive(Clone, Copy)]
enum Replayed {
    Nothing,
    /// Links without the page they go on.
    Headless(Slot),
    All(Slot),
}

/// With moves of what the leaf says, which come before that, and whether the leaf is to be written again.
fn replay(down: &State, page: u8, redo: Lsn, has_leaves: bool, rules: &Rules) -> (Replayed, Vec<(Piece, u8)>, bool) {
    let (mut said, mut moves, mut touched) = (Replayed::Nothing, Vec::new(), false);
    for lsn in redo + 1..=down.drawn {
        let record = down.record(lsn);
        if record.page != page || record.kind == Kind::Void {
            continue;
        }
        touched |= record.is_update() || !rules.planted(Bug::MoveReplayedUnmarked);
        let piece = Piece::Log(lsn);
        said = match (record.kind, said) {
            (Kind::Move, Replayed::All(slot)) => Replayed::All(slot.moved(record.upto, record.image).unwrap_or(slot)),
            (Kind::Move, said) => {
                let whole = match said {
                    Replayed::Headless(slot) => slot.moved(record.upto, record.image),
                    _ => None,
                };
                // With the record that it stands for all before that is known. Else that is for the leaf to say.
                whole.map_or_else(
                    || {
                        moves.push((record.upto, record.image));
                        said
                    },
                    Replayed::All,
                )
            }
            (Kind::Free, said) if rules.planted(Bug::FreeForgottenAtReplay) => said,
            (Kind::Free, _) => Replayed::All(Slot::free(lsn)),
            (Kind::Link, Replayed::All(slot)) if slot.holds == Holds::Data => Replayed::All(slot.and(piece)),
            (Kind::Link, Replayed::Headless(slot)) => Replayed::Headless(slot.and(piece)),
            (Kind::Link, Replayed::Nothing) if has_leaves => Replayed::Headless(Slot::data(0, piece)),
            _ => Replayed::All(Slot::data(0, piece)),
        };
    }
    (said, moves, touched)
}

/// What a leaf says of a page and what the replayed log says of it, in one.
fn join(replayed: Replayed, entry: Slot, rules: &Rules) -> Option<Slot> {
    match (replayed, entry.holds) {
        (Replayed::Headless(newer), Holds::Data) => {
            let known = match entry.pieces().last() {
                Some(Piece::Log(lsn)) => lsn,
                _ => 0,
            };
            let is_new = |piece: &Piece| match piece {
                Piece::Log(lsn) => rules.planted(Bug::ReplayAppliedTwice) || *lsn > known,
                _ => true,
            };
            Some(newer.pieces().filter(is_new).fold(entry, Slot::and))
        }
        (Replayed::Headless(_), _) => None,
        (Replayed::Nothing, _) => Some(entry),
        (Replayed::All(_), Holds::Data) if rules.planted(Bug::LeafOverReplay) => Some(entry),
        (Replayed::All(slot), _) => Some(slot),
    }
}

/// What an opening does next.
pub fn open(state: &State, rules: &Rules, steps: &mut Steps) {
    let mut next = *state;
    match state.phase {
        Phase::Open => return,
        Phase::Found => {
            if !rules.planted(Bug::UnsyncedBytesTrusted) {
                next.synced = next.drawn;
            }
            if state.current != NEVER && !rules.planted(Bug::CopiesLeftDifferent) {
                if rules.planted(Bug::SweptBeforeCopiesAreSame) {
                    sweep(&mut next, rules);
                }
                // The log is synced and the first copy written: of the sync nobody but a crash could tell.
                next.copies[0].write(state.current);
                next.phase = Phase::FirstWritten;
                steps.push(Step::OpeningSyncsLogAndWritesFirstCopy, next);
                return;
            }
        }
        Phase::FirstWritten => {
            next.copies[0].sync();
            next.copies[1].write(state.current);
            next.phase = Phase::SecondWritten;
            steps.push(Step::OpeningWritesSecondCopy, next);
            return;
        }
        Phase::SecondWritten => next.copies[1].sync(),
    }
    // The rest together: removals are of what nobody needs, in whatever order they become durable.
    sweep(&mut next, rules);
    next.acknowledged = next.drawn;
    // A new segment follows.
    let end = (next.drawn.div_ceil(rules.bounds.segment) * rules.bounds.segment).min(RECORDS as u8);
    if next.synced == next.drawn {
        next.synced = end;
    }
    (next.drawn, next.stable) = (end, end);
    next.handed = Default::default();
    next.phase = Phase::Open;
    debug_assert!(next.users.iter().all(|user| user.stage == Stage::Idle));
    steps.push(Step::Opened { log: end }, next);
}

/// Removes what the checkpoint does not know and nobody replays.
fn sweep(state: &mut State, rules: &Rules) {
    let known = match state.current {
        NEVER => Checkpoint::default(),
        current => state.checkpoints[current as usize],
    };
    let below = (0..rules.segments(state.drawn)).filter(|segment| rules.is_below(*segment, known.redo));
    let below = below.fold(0, |below, segment| below | 1 << segment);
    let found = state.slots.iter().flat_map(Slot::pieces).fold(0, |found, piece| match piece {
        Piece::Image(image) => found | 1 << image,
        _ => found,
    });
    let found = if rules.planted(Bug::SweptByCheckpointAlone) { 0 } else { found };
    state.give_back(below & !known.logs, !(known.images | found));
    for (at, checkpoint) in state.checkpoints.iter_mut().enumerate() {
        if at != state.current as usize && checkpoint.root != Bytes::Gone {
            (checkpoint.root, checkpoint.leaves) = (Bytes::Gone, Bytes::Gone);
        }
    }
}
