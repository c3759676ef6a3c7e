//! What must hold: in each state of an open store, and of what an opening finds.

use crate::bugs::Rules;
use crate::state::{Holds, Kind, Lsn, Phase, Piece, Stage, State};
use crate::steps::Broken;

/// A page is what its last record says, among those up to an LSN that were published.
fn last_record(state: &State, page: u8, end: Lsn) -> Option<(Kind, Lsn)> {
    let is_unpublished = |lsn: Lsn| {
        let unpublished = |stage: Stage| matches!(stage, Stage::Drawn | Stage::MarkedFirst);
        state.users.iter().any(|user| user.lsn == lsn && unpublished(user.stage))
    };
    (1..=end).rev().find_map(|lsn| {
        let record = state.record(lsn);
        let counts = record.page == page && record.is_update() && !is_unpublished(lsn);
        counts.then_some((record.kind, lsn))
    })
}

/// Whether each page is what the order of updates up to an LSN makes of it.
fn check_pages(state: &State, end: Lsn, rules: &Rules) -> Result<(), Broken> {
    for page in 0..rules.bounds.pages {
        let slot = state.slots[page as usize];
        let is_right = match last_record(state, page, end) {
            None => slot.holds == Holds::Nothing,
            Some((Kind::Free, lsn)) => matches!(slot.holds, Holds::Free | Holds::Empty) && slot.version == lsn,
            Some((_, lsn)) => slot.holds == Holds::Data && slot.version == lsn,
        };
        if !is_right {
            return Err(Broken { promise: "a page is what the order of updates makes of it", of: page });
        }
    }
    Ok(())
}

/// What holds while the store is open.
pub fn check(state: &State, rules: &Rules) -> Result<(), Broken> {
    if state.phase != Phase::Open {
        return Ok(());
    }
    check_pages(state, state.drawn, rules)?;
    let mut live = state.live;
    let mut images = state.images;
    for page in 0..rules.bounds.pages {
        let slot = &state.slots[page as usize];
        if slot.holds != Holds::Data {
            continue;
        }
        if state.materialize(page, slot, rules) != Some(slot.version) {
            return Err(Broken { promise: "what a page names can be read, and is that page", of: page });
        }
        for piece in slot.pieces() {
            let live = match piece {
                Piece::None => continue,
                Piece::Log(lsn) => &mut live[rules.segment(lsn)],
                Piece::Image(image) => &mut images[image as usize].live,
            };
            match live.checked_sub(1) {
                Some(rest) => *live = rest,
                None => return Err(Broken { promise: "no account is too low", of: page }),
            }
        }
    }
    Ok(())
}

/// What an opening finds is the state after some prefix of the updates, and everything acknowledged is in that.
pub fn check_found(state: &State, rules: &Rules) -> Result<(), Broken> {
    if state.drawn < state.acknowledged {
        return Err(Broken { promise: "what was acknowledged is there", of: state.acknowledged });
    }
    for page in 0..rules.bounds.pages {
        let at = page as usize;
        if state.slots[at].version < state.handed[at] {
            return Err(Broken { promise: "a page whose id was handed out again does not come back", of: page });
        }
    }
    check_pages(state, state.drawn, rules)
}
