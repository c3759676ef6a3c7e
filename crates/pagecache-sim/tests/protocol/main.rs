//! A model of the protocol that keeps pages across checkpoints, moves, recycled segments and crashes, explored in every order at small
//! size.
//!
//! The drivers run the kit itself and meet some orders of its threads and some crashes. Here the protocol alone is written down as the
//! kit does it, one atomic action a step, and every order of all steps is gone through: users, rounds of the log, the cleaner,
//! checkpoints, crashes at any point, openings, which may crash as well. What must hold is checked in every state (`promises.rs`), and
//! each rule of the protocol is broken once (`bugs.rs`): the exploration must find a shortest way to a broken promise, or the rule or
//! the model is worth nothing.
//!
//! - `state.rs`: disk, memory, actors. `steps.rs`: what can happen next.
//! - `update.rs`, `clean.rs`, `checkpoint.rs`, `crash.rs`: the actors, each beside the files of the kit that it stands for.
//! - `explore.rs`: breadth first, each state once. `grounds.rs`: how much may happen, and what it begins with.
//!
//! One rule cannot be broken here: "the last record wins" at replay instead of "the higher version wins" is the same thing in one log that is
//! replayed in its order. What a leaf says is the other witness: `LeafOverReplay`, `ReplayAppliedTwice`, `ImageAppliedTwice`.
//!
//! And one that the kit had is not needed: an image may be made of what is not stable. A root waits until the log is stable past all that its leaves
//! hold (`NoWaitForStability`), and before that nothing durable names the image.
//!
//! Beside the rule by which checkpoints give back what is empty there is that by which the log does, too (`Recycling::ByLog`): moves are said in the log, and what they have
//! emptied goes once that is stable.
//!
//! Not in the model: evictions and page-ins (they change words, not what these name), leaves that are read later, batches, extents,
//! the user's recovery state, damage, the names of files, files that grow, marks as evidence.
//!
//! `PAGECACHE_PROTOCOL_RAISE=updates,crashes` raises bounds by one each, for a campaign by hand.

mod bugs;
mod checkpoint;
mod clean;
mod crash;
mod explore;
mod grounds;
mod promises;
mod state;
mod steps;
mod update;

use bugs::{Bounds, Bug, Rules};
use explore::{Counts, explore};
use grounds::{GROUNDS, HUNTS, SAID_GROUNDS};

/// Explores each of these, with no bug planted.
fn explore_all(grounds: &[Bounds]) -> Counts {
    let mut all = Counts::default();
    for bounds in grounds.iter().copied().map(grounds::raised) {
        let explored = explore(&Rules { bounds, bug: None });
        let counts = explored.unwrap_or_else(|violation| panic!("{}: {violation}", bounds.name));
        println!("{}: {counts}", bounds.name);
        all += counts;
    }
    println!("in all: {all}");
    all
}

#[test]
fn no_order_of_steps_and_no_crash_breaks_a_promise() {
    let all = explore_all(&GROUNDS);
    assert!(all.states > 16_000_000 && all.steps > 60_000_000 && all.depth >= 45, "{all}");
    assert!(all.crashes > 25_000_000 && all.openings > 400_000 && all.recycled > 50_000 && all.moved > 50_000, "{all}");
}

/// As in decision 0028: moves are said in the log, which gives back what they have emptied.
#[test]
fn no_order_of_steps_breaks_a_promise_where_moves_are_said_in_the_log() {
    let all = explore_all(&SAID_GROUNDS);
    assert!(all.states > 1_000_000 && all.recycled > 10_000 && all.moved > 10_000, "{all}");
}

#[test]
fn each_rule_of_the_protocol_is_needed() {
    let mut missed = Vec::new();
    for bug in Bug::ALL {
        let found = HUNTS.into_iter().find_map(|bounds| {
            let violation = explore(&Rules { bounds, bug: Some(bug) }).err()?;
            Some((bounds.name, violation))
        });
        match found {
            Some((name, violation)) => println!("{bug:?}, {name}: {violation}"),
            None => missed.push(bug),
        }
    }
    assert!(missed.is_empty(), "not found: {missed:?}");
}

#[test]
fn nothing_is_broken_where_the_bugs_are_hunted() {
    explore_all(&HUNTS);
}
