//! What users do, and the rounds that make it durable: `ops/update.rs`, `ops/allocate.rs`, `log/flush.rs`.

use crate::bugs::{Bug, Kinds, Rules};
use crate::state::{Holds, Kind, Lsn, Piece, RECORDS, Record, Slot, Stage, State, Update};
use crate::steps::{Step, Steps};

pub fn steps(state: &State, rules: &Rules, steps: &mut Steps) {
    let users = rules.bounds.users as usize;
    // Users are alike: of those at rest the first begins. They stand in order, those at rest first.
    let at_rest = state.users.iter().rposition(|user| user.stage == Stage::Idle);
    for (at, user) in state.users.iter().enumerate() {
        let busy = state.users.iter().filter(|user| user.stage != Stage::Idle).count();
        match user.stage {
            Stage::Idle if at_rest == Some(at) && busy < users => begin(state, rules, at, steps),
            Stage::Idle => {}
            _ => go_on(state, rules, at, steps),
        }
    }
    flush(state, steps);
}

/// A look at the slot, and a draw. A page that was freed has its id handed out first, where the free is stable. Together: what changes the slot between the two makes the update give up its record behind the
/// draw as well. The account is raised with them: nobody asks for it before the record is below a redo point.
fn begin(state: &State, rules: &Rules, at: usize, steps: &mut Steps) {
    if state.left.updates == 0 || state.drawn as usize == RECORDS {
        return;
    }
    let (frees, links) = match rules.bounds.kinds {
        Kinds::Replace => (false, false),
        Kinds::Free => (true, false),
        Kinds::Link => (false, true),
        Kinds::FreeAndLink => (true, true),
    };
    for page in 0..rules.bounds.pages {
        let mut found = state.slots[page as usize];
        let is_reused = found.holds == Holds::Free;
        if is_reused && found.version > state.stable && !rules.planted(Bug::IdReusedBeforeFreeStable) {
            continue;
        }
        found.holds = if is_reused { Holds::Empty } else { found.holds };
        let holds_data = found.holds == Holds::Data;
        let allowed = [(Kind::Replace, true), (Kind::Link, links && holds_data), (Kind::Free, frees && holds_data)];
        for (kind, _) in allowed.into_iter().filter(|(_, allowed)| *allowed) {
            let mut next = *state;
            let lsn = state.drawn + 1;
            next.left.updates -= 1;
            next.drawn = lsn;
            if is_reused {
                next.slots[page as usize] = found;
                next.handed[page as usize] = found.version;
            }
            let base = if holds_data { found.version } else { 0 };
            next.log[lsn as usize - 1] = Record { kind, page, base, ..Record::default() };
            if kind != Kind::Free && !rules.planted(Bug::RaisedAfterPublish) {
                next.count(Piece::Log(lsn), 1, rules);
            }
            if rules.planted(Bug::LoweredBeforePublish) {
                lower_old(&mut next, kind, &found, rules);
            }
            next.users[at] = Update { stage: Stage::Drawn, kind, page, lsn, found };
            steps.push(Step::Draw { kind, page, lsn }, next);
        }
    }
}

/// A link leaves the records that it goes on in use.
fn lower_old(state: &mut State, kind: Kind, found: &Slot, rules: &Rules) {
    if kind != Kind::Link {
        found.pieces().for_each(|piece| state.count(piece, -1, rules));
    }
}

fn go_on(state: &State, rules: &Rules, at: usize, steps: &mut Steps) {
    let user = state.users[at];
    let leaf = rules.leaf(user.page);
    let mut next = *state;
    let to = &mut next.users[at].stage;
    match user.stage {
        Stage::Idle => {}
        Stage::Drawn if rules.planted(Bug::MarkedBeforePublish) => {
            *to = Stage::MarkedFirst;
            next.dirty |= 1 << leaf;
            steps.push(Step::MarkLeaf { leaf }, next);
        }
        Stage::Drawn | Stage::MarkedFirst => publish(state, rules, at, steps),
        Stage::Published if rules.planted(Bug::MarkedAfterCompletion) => {
            *to = Stage::MarkedLast;
            steps.push(Step::Complete { lsn: user.lsn }, next);
        }
        Stage::Published | Stage::MarkedLast => {
            *to = if user.stage == Stage::Published { Stage::Marked } else { Stage::Completed };
            next.dirty |= 1 << leaf;
            steps.push(Step::MarkLeaf { leaf }, next);
        }
        Stage::Marked => {
            *to = Stage::Completed;
            let raises = rules.planted(Bug::RaisedAfterPublish) && user.kind != Kind::Free;
            if raises {
                next.count(Piece::Log(user.lsn), 1, rules);
            }
            steps.push(Step::Complete { lsn: user.lsn }, next);
        }
        Stage::Completed => {
            *to = Stage::Idle;
            if !rules.planted(Bug::LoweredBeforePublish) {
                lower_old(&mut next, user.kind, &user.found, rules);
            }
            steps.push(Step::LowerOld { page: user.page }, next);
        }
    }
}

fn publish(state: &State, rules: &Rules, at: usize, steps: &mut Steps) {
    let Update { stage, kind, page, lsn, found } = state.users[at];
    let mut next = *state;
    let slot = &mut next.slots[page as usize];
    if *slot != found {
        // It tries again, which is an update like any other.
        next.users[at].stage = Stage::Idle;
        next.log[lsn as usize - 1] = Record::default();
        next.left.updates += 1;
        if kind != Kind::Free {
            next.count(Piece::Log(lsn), -1, rules);
        }
        steps.push(Step::GiveUp { lsn }, next);
        return;
    }
    *slot = match kind {
        Kind::Free => Slot::free(lsn),
        Kind::Link => Slot { version: lsn, ..found.and(Piece::Log(lsn)) },
        Kind::Replace | Kind::Void | Kind::Move => Slot::data(lsn, Piece::Log(lsn)),
    };
    next.users[at].stage = if stage == Stage::MarkedFirst { Stage::Marked } else { Stage::Published };
    steps.push(Step::Publish { page, lsn }, next);
}

/// A round writes and syncs up to where the log was whole when it began, and moves the stable LSN there. One step: in between nobody but a
/// crash could tell, and a crash before it may keep what is written too.
fn flush(state: &State, steps: &mut Steps) {
    for stable in state.synced + 1..=state.whole() {
        let mut next = *state;
        (next.synced, next.stable) = (stable, stable);
        next.acknowledged = next.acknowledged.max(stable);
        steps.push(Step::FlushSyncs { stable }, next);
    }
}

impl State {
    /// Below the oldest record that is not complete.
    pub fn whole(&self) -> Lsn {
        let is_open = |user: &&Update| !matches!(user.stage, Stage::Idle | Stage::Completed | Stage::MarkedLast);
        self.users.iter().filter(is_open).map(|user| user.lsn - 1).min().unwrap_or(self.drawn)
    }
}
