//! All sequences of steps up to a length, each stopped before and after every counted call of its last step.
//!
//! The calls of the steps before the last are the last step's calls of shorter sequences, which are run too: so every
//! call of every sequence is a point, once.

use std::time::Instant;

use super::aftermath::{Explore, explore};
use super::{Checked, Step, Tally, Violation, World, must_open, perform, share, without_panic};
use crate::disk::SimDisk;

/// Images that a sequence is taken to have more than the one before, as far as it matters which of them are crashed again: no divisor of the rates that are asked for.
const STRIDE: u64 = 37;

/// Runs all sequences of up to `length` steps of the alphabet, each after the steps of the prelude, whose calls are no points. As many at once as there are
/// processors. Steps that crash or arm faults do not belong here.
///
/// # Errors
/// The first broken promise, with the sequence and the call.
pub fn run<W>(
    prelude: &[Step<W::Op>],
    alphabet: &[Step<W::Op>],
    length: u32,
    limits: &Explore,
    tally: &mut Tally,
) -> Result<(), Violation>
where
    W: World,
    W::Op: Sync,
{
    let of_length = |steps: u32| {
        (0..alphabet.len().pow(steps)).map(move |number| -> Vec<_> {
            (0..steps).map(|at| &alphabet[number / alphabet.len().pow(at) % alphabet.len()]).collect()
        })
    };
    let sequences: Vec<_> = (0..=length).flat_map(of_length).collect();
    share(sequences.len(), tally, |number, tally| {
        let sequence = &sequences[number];
        tally.runs += 1;
        without_panic(|| all_points::<W>(prelude, sequence, limits, number as u64 * STRIDE, tally))
            .map_err(|broken| broken.within(format!("the sequence {sequence:?} after {prelude:?}")))
    })
}

/// Runs all sequences of up to three steps from the first prelude, an empty store, and of up to two from the others, the first
/// step of which is in the right place already. Every image is crashed at every call of its recovery, one in 100 three deep.
/// What each prelude came to is printed.
///
/// # Errors
/// The first broken promise.
pub fn every_prelude<W>(preludes: &[(&str, Vec<Step<W::Op>>)], alphabet: &[Step<W::Op>]) -> Result<Tally, Violation>
where
    W: World,
    W::Op: Sync,
{
    let limits = Explore { images: 32, nested_every: 1, deep_every: 100, nested_images: 2 };
    let mut all = Tally::default();
    for (at, (place, prelude)) in preludes.iter().enumerate() {
        let (begun, mut tally) = (Instant::now(), Tally::default());
        let length = if at == 0 { 3 } else { 2 };
        run::<W>(prelude, alphabet, length, &limits, &mut tally)?;
        println!("from {place}: {tally}, {:.1?}", begun.elapsed());
        all += tally;
    }
    Ok(all)
}

fn all_points<W: World>(
    prelude: &[Step<W::Op>],
    sequence: &[&Step<W::Op>],
    limits: &Explore,
    mut looked: u64,
    tally: &mut Tally,
) -> Checked {
    let steps: Vec<_> = prelude.iter().chain(sequence.iter().copied()).collect();
    // Before the first call of a step stands the last state of the sequence without it.
    let first = if steps.is_empty() { 0 } else { 1 };
    for call in first.. {
        let mut world = W::new(SimDisk::new(7), 7);
        let ended = stop_at(&mut world, &steps, call, tally).and_then(|()| {
            explore(&world, limits, call, &mut looked, tally)?;
            Ok(!world.disk().crashed())
        });
        if ended.map_err(|broken| broken.within(format!("call {call} of the last step")))? {
            return Ok(());
        }
    }
    Ok(())
}

fn stop_at<W: World>(world: &mut W, steps: &[&Step<W::Op>], call: u64, tally: &mut Tally) -> Checked {
    let Some((last, before)) = steps.split_last() else {
        world.disk().crash_at(call);
        tally.starts += 1;
        return world.open();
    };
    must_open(world, tally)?;
    for step in before {
        perform(world, step, None, tally)?;
    }
    perform(world, last, Some(call), tally)
}
