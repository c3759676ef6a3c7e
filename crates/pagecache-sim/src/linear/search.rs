//! The search for an order: Wing and Gong's algorithm with Lowe's memory of what was tried.
//!
//! Wing and Gong: "Testing and verifying concurrent objects" (1993); Lowe: "Testing for linearizability" (2017).

use std::collections::HashSet;
use std::fmt;
use std::hash::Hash;

use super::history::Call;

/// An object as one thread alone would see it.
pub trait Model {
    /// What the object is between two calls.
    type State: Clone + Eq + Hash + fmt::Debug;
    /// What is asked of it.
    type Ask: fmt::Debug;
    /// What it answers.
    type Answer: fmt::Debug;

    /// What the object is after this call, or `None` where it would not answer so. A call without an answer never returned, and
    /// may have been told anything.
    fn step(&self, state: &Self::State, ask: &Self::Ask, answer: Option<&Self::Answer>) -> Option<Self::State>;
}

/// The calls on one object.
pub type Calls<M> = [Call<<M as Model>::Ask, <M as Model>::Answer>];

/// The most calls on one object.
pub const CALLS_MAX: usize = 128;

/// What was found of the object after a crash.
#[derive(Clone, Debug)]
pub struct Found<S> {
    /// Its state.
    pub state: S,
    /// Calls whose effect must have survived, by their places in the history.
    pub kept: Vec<usize>,
}

/// No order explains the answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unexplained {
    /// As far as an order got, and all calls: for people.
    pub story: String,
}

impl fmt::Display for Unexplained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no order explains this:\n{}", self.story)
    }
}

/// Finds an order of the calls in which each takes effect between its begin and its end and every answer is what the object
/// would say; calls that never returned may take effect or not. With `found`, the order must at some point leave the object in
/// that state, with all that must be kept before that point.
///
/// # Errors
/// There is none.
///
/// # Panics
/// With more than [`CALLS_MAX`] calls.
pub fn explain<M: Model>(
    model: &M,
    initial: M::State,
    calls: &Calls<M>,
    found: Option<Found<M::State>>,
) -> Result<Vec<usize>, Unexplained> {
    assert!(calls.len() <= CALLS_MAX, "{} calls on one object", calls.len());
    let returned = mask((0..calls.len()).filter(|at| calls[*at].ended.is_some()));
    let kept = found.as_ref().map_or(0, |found| mask(found.kept.iter().copied()));
    let cut = found.is_none();
    let found = found.map(|found| found.state);
    let mut search =
        Search { model, calls, returned, kept, found, tried: HashSet::new(), order: Vec::new(), best: Vec::new() };
    match search.go(0, cut, initial) {
        true => Ok(search.order),
        false => Err(Unexplained { story: search.tell() }),
    }
}

fn mask(calls: impl Iterator<Item = usize>) -> u128 {
    calls.fold(0, |mask, at| mask | 1 << at)
}

/// Calls that have taken effect, whether the cut is behind us, and the state.
type Tried<S> = (u128, bool, S);

struct Search<'a, M: Model> {
    model: &'a M,
    calls: &'a Calls<M>,
    returned: u128,
    kept: u128,
    found: Option<M::State>,
    tried: HashSet<Tried<M::State>>,
    order: Vec<usize>,
    /// The longest order so far, for the story.
    best: Vec<usize>,
}

impl<M: Model> Search<'_, M> {
    fn go(&mut self, done: u128, cut: bool, state: M::State) -> bool {
        if cut && self.returned & !done == 0 {
            return true;
        }
        if !self.tried.insert((done, cut, state.clone())) {
            return false;
        }
        if self.order.len() > self.best.len() {
            self.best.clone_from(&self.order);
        }
        if !cut && self.kept & !done == 0 && self.found.as_ref() == Some(&state) && self.go(done, true, state.clone()) {
            return true;
        }
        let waiting = |at: &usize| done & 1 << *at == 0;
        let end = |at: usize| self.calls[at].ended.as_ref().map_or(u64::MAX, |(ended, _)| *ended);
        // Whoever began after another had ended comes after it.
        let horizon = (0..self.calls.len()).filter(waiting).map(end).min().unwrap_or(u64::MAX);
        for at in (0..self.calls.len()).filter(waiting) {
            let call = &self.calls[at];
            if call.begun > horizon {
                continue;
            }
            let Some(next) = self.model.step(&state, &call.ask, call.answer()) else { continue };
            self.order.push(at);
            if self.go(done | 1 << at, cut, next) {
                return true;
            }
            self.order.pop();
        }
        false
    }

    fn tell(&self) -> String {
        let line = |at: &usize| {
            let call = &self.calls[*at];
            let ended = call.ended.as_ref().map_or("never".to_owned(), |(ended, _)| ended.to_string());
            let kept = if self.kept & 1 << *at == 0 { "" } else { ", to be kept" };
            format!("  thread {} {}..{ended}{kept}: {:?} -> {:?}\n", call.thread, call.begun, call.ask, call.answer())
        };
        let rest: Vec<usize> = (0..self.calls.len()).filter(|at| !self.best.contains(at)).collect();
        let (ordered, rest): (String, String) = (self.best.iter().map(line).collect(), rest.iter().map(line).collect());
        let found = self.found.as_ref().map_or(String::new(), |found| format!(" found after the crash: {found:?}\n"));
        format!(" in order, as far as it goes:\n{ordered} not explained:\n{rest}{found}")
    }
}
