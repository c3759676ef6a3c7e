//! Moving a page out of a segment: `clean/mod.rs`, `ops/copy.rs`, `ops/relocate.rs`.

use crate::bugs::{Bug, Rules};
use crate::checkpoint::emptied;
use crate::state::{Bytes, Holds, Image, Kind, Lsn, Move, MoveStage, Piece, RECORDS, Record, Slot, State};
use crate::steps::{Step, Steps};

pub fn steps(state: &State, rules: &Rules, steps: &mut Steps) {
    let moving = state.moving;
    let (page, leaf) = (moving.page, rules.leaf(moving.page));
    let mut next = *state;
    match moving.stage {
        MoveStage::Idle => copy(state, rules, steps),
        MoveStage::Written if rules.planted(Bug::MoveSaidBeforeSwap) && rules.says_moves() => {
            // Its image is synced, so that nothing is wrong but the order.
            next.images[moving.image as usize].bytes = Bytes::Durable;
            say(&next, MoveStage::SaidFirst, steps);
        }
        MoveStage::SaidFirst => go_to_image(state, rules, steps),
        MoveStage::Written => {
            go_to_image(state, rules, steps);
            if state.left.failures > 0 {
                next.left.failures -= 1;
                end(&mut next);
                steps.push(Step::MoveFails { page }, next);
            }
        }
        MoveStage::Swapped if rules.planted(Bug::LoweredBeforeMark) => {
            next.moving.stage = MoveStage::Marked;
            lower(&mut next, rules);
            steps.push(Step::MoveLowersOld { page }, next);
        }
        MoveStage::Swapped => {
            next.moving.stage = MoveStage::Marked;
            if !rules.planted(Bug::MoveNotMarked) {
                next.dirty |= 1 << leaf;
            }
            steps.push(Step::MoveMarksLeaf { leaf }, next);
        }
        MoveStage::Marked if rules.planted(Bug::LoweredBeforeMark) => {
            next.dirty |= 1 << leaf;
            end(&mut next);
            steps.push(Step::MoveMarksLeaf { leaf }, next);
        }
        MoveStage::Marked if rules.says_moves() && rules.planted(Bug::MoveSaidAfterLowering) => {
            lower(&mut next, rules);
            next.moving.stage = MoveStage::Counted;
            steps.push(Step::MoveLowersOld { page }, next);
        }
        MoveStage::Counted => say(state, MoveStage::Idle, steps),
        // Before what it leaves behind counts as dead: who sees that empty has the move below the log's tail.
        MoveStage::Marked if rules.says_moves() && !rules.planted(Bug::MoveSaidBeforeSwap) => {
            say(state, MoveStage::Said, steps);
        }
        // The image's segment grows no more, in the same step: it may count as empty later or sooner, for it is as good as in use here.
        MoveStage::Marked | MoveStage::Said => {
            lower(&mut next, rules);
            end(&mut next);
            steps.push(Step::MoveLowersOld { page }, next);
        }
    }
}

/// Says in the log that a page has gone to its image. Drawn and complete in one: a round that waits for it waits for it as for any other.
fn say(state: &State, stage: MoveStage, steps: &mut Steps) {
    if state.drawn as usize == RECORDS {
        return;
    }
    let Move { page, image, copied, .. } = state.moving;
    let Some(upto) = copied.pieces().last() else { return };
    let mut next = *state;
    next.drawn += 1;
    next.log[state.drawn as usize] = Record { kind: Kind::Move, page, base: 0, upto, image };
    next.moving.stage = stage;
    if stage == MoveStage::Idle {
        end(&mut next);
    }
    steps.push(Step::MoveSays { page, lsn: next.drawn }, next);
}

/// Where moves are said: what is empty is given back as soon as the log is stable up to where its tail was when that was to be seen. Who sees it later, or gives it back
/// later, does less harm; so there is no choice in it. Segments of the log that are not below the redo point stay, as they are replayed.
pub fn recycle(state: &mut State, rules: &Rules) {
    let (logs, images) = emptied(state, state.redo, rules);
    let all = u16::from(logs) | u16::from(images) << RECORDS;
    let mut ready = 0u16;
    for (at, tail) in state.emptied.iter_mut().enumerate() {
        match all & 1 << at != 0 {
            true if *tail == 0 => *tail = state.drawn + 1,
            true => {}
            false => *tail = 0,
        }
        if *tail > 0 && (state.stable + 1 >= *tail || rules.planted(Bug::GivenBackUnstable)) {
            ready |= 1 << at;
            *tail = 0;
        }
    }
    state.give_back(ready as u8, (ready >> RECORDS) as u8);
}

fn lower(state: &mut State, rules: &Rules) {
    let copied = state.moving.copied;
    copied.pieces().for_each(|piece| state.count(piece, -1, rules));
}

/// Each segment holds one image, and is left behind when that is counted.
fn end(state: &mut State) {
    state.images[state.moving.image as usize].growing = false;
    state.moving.stage = MoveStage::Idle;
}

/// A page is copied, stable or not, and its image written. Together: what changes the page between the two is found later.
/// Victims are told when they are needed, not when the turn begins: what was one then is one still.
fn copy(state: &State, rules: &Rules, steps: &mut Steps) {
    if state.left.moves == 0 {
        return;
    }
    let image = rules.bounds.moves - state.left.moves;
    for page in 0..rules.bounds.pages {
        let copied = state.slots[page as usize];
        if copied.holds != Holds::Data {
            continue;
        }
        let is_sparse = copied.pieces().any(|piece| match piece {
            Piece::None => false,
            Piece::Log(lsn) => rules.is_below(rules.segment(lsn), state.redo),
            Piece::Image(_) => true,
        });
        if !is_sparse {
            continue;
        }
        let mut next = *state;
        next.left.moves -= 1;
        let version: Lsn = copied.version;
        next.images[image as usize] = Image { bytes: Bytes::Written, page, version, live: 0, growing: true };
        next.moving = Move { stage: MoveStage::Written, page, image, copied };
        steps.push(Step::CopyPage { page, version, image }, next);
    }
}

/// The image is synced, counted, and the page goes there. Together: of the sync nobody but a crash could tell, which may keep what is
/// not synced too; and before it is counted its segment grows, so that it does not count as empty.
fn go_to_image(state: &State, rules: &Rules, steps: &mut Steps) {
    let Move { page, image, copied, .. } = state.moving;
    let mut next = *state;
    if !rules.planted(Bug::ImageUnsynced) {
        let bytes = &mut next.images[image as usize].bytes;
        *bytes = if *bytes == Bytes::Written { Bytes::Durable } else { *bytes };
    }
    let slot = state.slots[page as usize];
    let moved = Slot::data(copied.version, Piece::Image(image));
    let moved = match slot.holds {
        // What is newer than the copy stays on top.
        Holds::Data if copied.pieces().eq(slot.pieces().take(copied.pieces().count())) => {
            let newer = slot.pieces().skip(copied.pieces().count());
            Some(newer.fold(Slot { version: slot.version, ..moved }, Slot::and))
        }
        Holds::Data => rules.planted(Bug::MovedWithoutCompare).then_some(moved),
        Holds::Nothing | Holds::Free | Holds::Empty => rules.planted(Bug::MovedOverAFree).then_some(moved),
    };
    let Some(moved) = moved else {
        end(&mut next);
        steps.push(Step::MoveIsLate { page }, next);
        return;
    };
    next.images[image as usize].live += 1;
    next.slots[page as usize] = moved;
    next.moving.stage = MoveStage::Swapped;
    steps.push(Step::MoveGoes { page }, next);
}
