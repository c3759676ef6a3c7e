//! What the random runs of all worlds share: kinds of steps with weights that each seed draws anew, and faults.

use crate::disk::{AfterSync, Call, Effect, Fault, When};
use crate::rng::Rng;

/// What the disk of a seed does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Temper {
    /// It loses what a crash may lose, and nothing else.
    Sound,
    /// It also fails, and says so.
    Fails,
    /// It also says `Ok` and has not done what it says.
    Lies,
}

impl Temper {
    /// Half of the seeds run on a sound disk; one in eight on one that lies.
    pub fn draw(rng: &mut Rng) -> Temper {
        *rng.pick(&[
            Temper::Sound,
            Temper::Sound,
            Temper::Sound,
            Temper::Sound,
            Temper::Fails,
            Temper::Fails,
            Temper::Fails,
            Temper::Lies,
        ])
    }
}

/// Kinds of steps, each with how often it comes.
#[derive(Clone, Debug)]
pub struct Weights<K>(Vec<(K, u64)>);

impl<K: Copy> Weights<K> {
    /// Of this seed: some kinds are left out, some come in bulk.
    pub fn draw(kinds: &[(K, u64)], rng: &mut Rng) -> Weights<K> {
        let factor = |rng: &mut Rng| *rng.pick(&[0, 1, 1, 1, 4]);
        Weights(kinds.iter().map(|(kind, weight)| (*kind, weight * factor(rng))).collect())
    }

    /// Changes weights.
    pub fn adjust(&mut self, change: impl Fn(K, u64) -> u64) {
        self.0.iter_mut().for_each(|(kind, weight)| *weight = change(*kind, *weight));
    }

    /// One of them; the last where all are left out.
    ///
    /// # Panics
    /// Where there are none.
    pub fn pick(&self, rng: &mut Rng) -> K {
        let mut at = rng.below(self.0.iter().map(|(_, weight)| weight).sum());
        for (kind, weight) in &self.0 {
            match at.checked_sub(*weight) {
                Some(rest) => at = rest,
                None => return *kind,
            }
        }
        self.0[self.0.len() - 1].0
    }
}

/// Something that goes wrong with the disk.
pub fn fault(rng: &mut Rng, temper: Temper) -> Fault {
    use Call::{Allocate, Create, Read, Remove, Rename, SetLen, SyncData, SyncDir, Write};
    let when = match rng.index(4) {
        0 => When::From(rng.below(8)),
        1 => When::Chance { one_in: 2 + rng.below(20), seed: rng.next_u64() },
        _ => When::Once(rng.below(12)),
    };
    if temper == Temper::Lies && rng.one_in(2) {
        return lie(rng, when);
    }
    match rng.index(11) {
        0 | 1 => {
            let after = *rng.pick(&[AfterSync::KeptClean, AfterSync::Dropped, AfterSync::LaterSyncLies]);
            Fault::new(*rng.pick(&[SyncData, SyncData, SyncDir]), when, Effect::SyncFails(after))
        }
        2 => Fault::new(*rng.pick(&[SyncData, SyncDir]), when, Effect::Eio),
        3 => Fault::new(Write, when, Effect::Eio),
        4 | 5 => Fault::new(*rng.pick(&[Read, Read, Write]), when, Effect::Eio),
        6 => Fault::new(*rng.pick(&[Allocate, Create, Remove, Rename, SetLen]), when, Effect::Eio),
        7 => Fault::new(*rng.pick(&[Write, Allocate]), when, Effect::Enospc),
        8 => {
            // An interruption that never ends is a hang by anyone's account.
            let when = if matches!(when, When::From(_)) { When::Once(0) } else { when };
            Fault::new(*rng.pick(&[Read, Write]), when, Effect::Eintr)
        }
        _ => Fault::new(*rng.pick(&[Read, Write]), when, Effect::Short),
    }
}

/// A wrong place is always ahead of the right one: what was acknowledged before the first lie is not hit.
fn lie(rng: &mut Rng, when: When) -> Fault {
    match rng.index(4) {
        0 => Fault::new(Call::Write, when, Effect::LostWrite),
        1 => {
            let delta = *rng.pick(&[512, 4096, 8192, 20_480, 1000]);
            Fault::new(Call::Write, when, Effect::MisdirectedWrite { delta })
        }
        2 => Fault::new(Call::SyncDir, when, Effect::LyingSync),
        _ => Fault::new(Call::SyncData, when, Effect::LyingSync),
    }
}
