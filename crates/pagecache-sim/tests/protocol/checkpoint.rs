//! A checkpoint from its redo point to what it gives back: `checkpoint/write/mod.rs`.

use crate::bugs::{Bug, Rules};
use crate::state::{Bytes, CHECKPOINTS, Checkpoint, Doubt, NEVER, Next, PAGES, Set, Slot, State, TORN, Writing};
use crate::steps::{Step, Steps};

pub fn steps(state: &State, rules: &Rules, steps: &mut Steps) {
    if rules.planted(Bug::RecycledAtOnce) {
        give_back_at_once(state, rules, steps);
    }
    if state.left.failures > 0 {
        fail(state, rules, steps);
    }
    let writing = state.writing;
    let mut next = *state;
    match writing.next {
        Next::Begin => begin(state, rules, steps),
        Next::NoteEmptied => {
            let (logs, images) = emptied(state, writing.redo, rules);
            (next.writing.logs, next.writing.images) = (logs, images);
            next.writing.next = Next::TakeMark(0);
            steps.push(Step::CheckpointNotesEmptied { logs, images }, next);
        }
        Next::TakeMark(leaf) if state.dirty & 1 << leaf == 0 => {
            go_to_leaf(&mut next, leaf + 1, rules);
            steps.push(Step::CheckpointSkipsLeaf { leaf }, next);
        }
        Next::TakeMark(leaf) => {
            if !rules.planted(Bug::MarkTakenAfterTheLook) {
                take(&mut next, leaf);
            }
            next.writing.next = Next::Look(leaf * rules.bounds.leaf);
            steps.push(Step::CheckpointTakesMark { leaf }, next);
        }
        Next::Look(page) => {
            let leaf = rules.leaf(page);
            next.writing.entries[page as usize] = state.slots[page as usize].as_entry();
            let is_last = page + 1 == rules.bounds.pages || rules.leaf(page + 1) != leaf;
            match is_last {
                false => next.writing.next = Next::Look(page + 1),
                true if rules.planted(Bug::MarkTakenAfterTheLook) => next.writing.next = Next::TakeMarkLate(leaf),
                true => go_to_leaf(&mut next, leaf + 1, rules),
            }
            steps.push(Step::CheckpointLooks { page }, next);
        }
        Next::TakeMarkLate(leaf) => {
            take(&mut next, leaf);
            go_to_leaf(&mut next, leaf + 1, rules);
            steps.push(Step::CheckpointTakesMark { leaf }, next);
        }
        // What may be torn is made what the first copy says, before that is touched: one of the two is whole at any time.
        Next::AwaitStable if must_mend(state, rules) => {
            next.copies[1].write(state.copies[0].now);
            next.writing.next = Next::SyncMended;
            steps.push(Step::CheckpointMendsSecondCopy, next);
        }
        Next::SyncMended => {
            next.copies[1].sync();
            next.doubt = Doubt::First;
            next.writing.next = Next::AwaitStable;
            steps.push(Step::CheckpointSyncsMendedCopy, next);
        }
        Next::AwaitStable => write_first(state, rules, steps),
        // The first copy is synced and the second written: of the sync nobody but a crash could tell.
        Next::WriteSecond => {
            next.copies[0].sync();
            next.copies[1].write(writing.checkpoint);
            next.writing.next = Next::SyncSecond;
            if rules.planted(Bug::RecycledAfterFirstCopy) {
                release(&mut next, writing.logs, writing.images, writing.checkpoint);
            }
            steps.push(Step::CheckpointWritesSecondCopy, next);
        }
        Next::SyncSecond => end(state, rules, steps),
    }
}

fn must_mend(state: &State, rules: &Rules) -> bool {
    state.doubt == Doubt::Second && !rules.planted(Bug::TornCopyLeft)
}

fn take(state: &mut State, leaf: u8) {
    state.dirty &= !(1 << leaf);
    state.writing.taken |= 1 << leaf;
}

/// Segments in which nothing is in use, nor will be again. What is empty stays so: that the kit asks one account after the other gives
/// a part of what this gives, and less is given back.
pub fn emptied(state: &State, redo: u8, rules: &Rules) -> (Set, Set) {
    let is_closed = |segment: usize| rules.is_below(segment, redo) || rules.planted(Bug::RecycledAboveRedo);
    let logs = (0..rules.segments(state.drawn))
        .filter(|segment| is_closed(*segment) && state.live[*segment] == 0 && state.gone & 1 << segment == 0);
    let logs = logs.fold(0, |logs, segment| logs | 1 << segment);
    let is_empty = |at: &usize| {
        let image = &state.images[*at];
        let grows = image.growing && !rules.planted(Bug::GrowingSegmentEmpty);
        image.bytes != Bytes::Gone && !grows && image.live == 0
    };
    let images = (0..state.images.len()).filter(is_empty).fold(0, |images, at| images | 1 << at);
    (logs, images)
}

fn give_back_at_once(state: &State, rules: &Rules, steps: &mut Steps) {
    let (logs, images) = emptied(state, state.redo, rules);
    if logs | images != 0 {
        let mut next = *state;
        next.give_back(logs, images);
        steps.push(Step::GiveBackAtOnce { logs, images }, next);
    }
}

fn begin(state: &State, rules: &Rules, steps: &mut Steps) {
    let redo = state.stable;
    let is_needless = redo <= state.redo && state.dirty == 0 && emptied(state, redo, rules) == (0, 0);
    if state.left.checkpoints == 0 || is_needless {
        return;
    }
    let mut next = *state;
    next.left.checkpoints -= 1;
    let entries = match state.current {
        NEVER => [Slot::default(); PAGES],
        current => state.checkpoints[current as usize].entries,
    };
    next.writing = Writing { next: Next::NoteEmptied, redo, entries, ..Writing::default() };
    steps.push(Step::CheckpointBegins { redo }, next);
}

/// Behind the last leaf the tail is read, in the step that looked at its last slot: who reads it later waits for more.
fn go_to_leaf(state: &mut State, leaf: u8, rules: &Rules) {
    state.writing.next = Next::TakeMark(leaf);
    if leaf * rules.bounds.leaf >= rules.bounds.pages {
        state.writing.next = Next::AwaitStable;
        state.writing.tail = state.drawn;
    }
}

/// The log is stable, the leaves are synced, the directory is read, the root is written and synced, and the first copy of the superblock
/// is written. Together: before that nothing names the root. What the first copy is, is for a crash to say.
fn rooted(state: &State, rules: &Rules) -> Option<State> {
    let writing = state.writing;
    let waits = !rules.planted(Bug::NoWaitForStability);
    let place = state.next_checkpoint();
    if waits && state.stable < writing.tail {
        return None;
    }
    assert!((place as usize) < CHECKPOINTS, "room for more checkpoints");
    let mut next = *state;
    if rules.planted(Bug::RedoPointTooHigh) {
        next.writing.redo = state.stable;
    }
    if rules.planted(Bug::EmptiedTakenAfterTheScan) {
        (next.writing.logs, next.writing.images) = emptied(state, writing.redo, rules);
    }
    let logs = (0..rules.segments(state.drawn)).fold(0, |logs, segment| logs | 1 << segment);
    let present = |at: &usize| state.images[*at].bytes != Bytes::Gone;
    let images = (0..state.images.len()).filter(present).fold(0, |images, at| images | 1 << at);
    let synced = |bug| if rules.planted(bug) { Bytes::Written } else { Bytes::Durable };
    next.checkpoints[place as usize] = Checkpoint {
        root: synced(Bug::RootUnsynced),
        leaves: synced(Bug::LeavesUnsynced),
        redo: next.writing.redo,
        entries: writing.entries,
        logs: logs & !state.gone & !next.writing.logs,
        images: images & !next.writing.images,
    };
    next.writing.checkpoint = place;
    Some(next)
}

fn write_first(state: &State, rules: &Rules, steps: &mut Steps) {
    let Some(mut next) = rooted(state, rules) else { return };
    let checkpoint = next.writing.checkpoint;
    next.copies[0].write(checkpoint);
    next.writing.next = Next::WriteSecond;
    if rules.planted(Bug::CopiesWrittenTogether) {
        next.copies[1].write(checkpoint);
        next.writing.next = Next::SyncSecond;
    }
    steps.push(Step::CheckpointWritesRootAndFirstCopy, next);
}

/// The second copy is synced, and what nobody needs is given back. Together: a crash between the two leaves what one with the second
/// copy kept leaves.
fn end(state: &State, rules: &Rules, steps: &mut Steps) {
    let Writing { redo, checkpoint, .. } = state.writing;
    let mut next = *state;
    next.copies.iter_mut().for_each(|copy| copy.sync());
    let place = &mut next.checkpoints[checkpoint as usize];
    (place.root, place.leaves) = (Bytes::Durable, Bytes::Durable);
    (next.current, next.redo, next.doubt) = (checkpoint, redo, Doubt::None);
    let (logs, images) = match rules.planted(Bug::EmptiedTakenAtTheEnd) {
        true => emptied(state, redo, rules),
        false => (state.writing.logs, state.writing.images),
    };
    release(&mut next, logs, images, checkpoint);
    next.writing.next = Next::Begin;
    steps.push(Step::CheckpointGivesBack { logs, images }, next);
}

/// Of the map everything goes that is not of the checkpoint to keep. Which of an old checkpoint's records share a file with what is kept is
/// chance: the worst is that its root is there and leads nowhere.
fn release(state: &mut State, logs: Set, images: Set, keep: u8) {
    state.give_back(logs, images);
    for (at, checkpoint) in state.checkpoints.iter_mut().enumerate() {
        if at != keep as usize && checkpoint.root != Bytes::Gone {
            checkpoint.leaves = Bytes::Gone;
        }
    }
}

/// A write that fails: of leaves or root, or of a copy of the superblock, which may say anything then. (A sync that fails ends the log
/// until it is opened again: as a crash does.)
fn fail(state: &State, rules: &Rules, steps: &mut Steps) {
    match state.writing.next {
        Next::Begin | Next::NoteEmptied | Next::SyncMended | Next::SyncSecond => {}
        Next::TakeMark(_) | Next::TakeMarkLate(_) | Next::Look(_) => fail_before_copies(state, rules, steps),
        Next::AwaitStable => {
            fail_before_copies(state, rules, steps);
            if must_mend(state, rules) {
                fail_at_copy(state, 1, state.copies[0].now, rules, steps);
            } else if let Some(next) = rooted(state, rules) {
                fail_at_copy(&next, 0, next.writing.checkpoint, rules, steps);
            }
        }
        Next::WriteSecond => {
            let mut next = *state;
            next.copies[0].sync();
            fail_at_copy(&next, 1, next.writing.checkpoint, rules, steps);
        }
    }
}

fn fail_before_copies(state: &State, rules: &Rules, steps: &mut Steps) {
    let mut next = *state;
    give_marks_back(&mut next, rules);
    if state.doubt == Doubt::None || rules.planted(Bug::UncertaintyForgotten) {
        release(&mut next, 0, 0, state.current);
    }
    steps.push(Step::CheckpointFails { copy: NEVER, says: NEVER }, next);
}

fn fail_at_copy(state: &State, copy: u8, checkpoint: u8, rules: &Rules, steps: &mut Steps) {
    let at = copy as usize;
    for says in [state.copies[at].now, TORN, checkpoint] {
        let mut next = *state;
        match says {
            TORN => next.copies[at].tear(),
            _ if says == checkpoint => next.copies[at].write(checkpoint),
            _ => {}
        }
        give_marks_back(&mut next, rules);
        match rules.planted(Bug::FailureBehindFirstCopyForgotten) {
            true => release(&mut next, 0, 0, state.current),
            false => next.doubt = if copy == 0 { Doubt::First } else { Doubt::Second },
        }
        steps.push(Step::CheckpointFails { copy, says }, next);
    }
}

fn give_marks_back(state: &mut State, rules: &Rules) {
    state.left.failures -= 1;
    if !rules.planted(Bug::MarksKeptByFailure) {
        state.dirty |= state.writing.taken;
    }
    state.writing.next = Next::Begin;
}
