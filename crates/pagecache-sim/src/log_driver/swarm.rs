//! Random steps for the log: each seed has its own mix of operations, sizes, faults and crashes.

use super::{End, INLINE_MAX, LogOp, LogWorld, Which};
use crate::disk::{AfterSync, Call, Effect, Fault, When};
use crate::driver::Step;
use crate::driver::seeded::Swarm;
use crate::rng::Rng;

/// What a step can be; the weights of a seed stand in this order.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Write,
    Reserve,
    HeldElsewhere,
    ToSegmentEnd,
    Flush,
    MakeStable,
    Trim,
    Tick,
    Check,
    Restart,
    Kill,
    Crash,
    Fault,
    Room,
    Heal,
}

const KINDS: [(Kind, u64); 15] = [
    (Kind::Write, 24),
    (Kind::Reserve, 4),
    (Kind::HeldElsewhere, 1),
    (Kind::ToSegmentEnd, 2),
    (Kind::Flush, 8),
    (Kind::MakeStable, 8),
    (Kind::Trim, 5),
    (Kind::Tick, 4),
    (Kind::Check, 2),
    (Kind::Restart, 2),
    (Kind::Kill, 2),
    (Kind::Crash, 3),
    (Kind::Fault, 3),
    (Kind::Room, 1),
    (Kind::Heal, 2),
];

/// The mix of one seed.
struct Mix {
    weights: Vec<(Kind, u64)>,
    lens: Vec<u32>,
}

impl Mix {
    fn new(rng: &mut Rng) -> Mix {
        let factor = |rng: &mut Rng| *rng.pick(&[0, 1, 1, 1, 4]);
        let mut weights: Vec<_> = KINDS.iter().map(|(kind, weight)| (*kind, weight * factor(rng))).collect();
        weights[0].1 = weights[0].1.max(4);
        if rng.one_in(2) {
            // A disk without faults, and never full.
            weights.retain(|(kind, _)| !matches!(kind, Kind::Fault | Kind::Room | Kind::Heal));
        }
        let classes = [0, 1, 40, 300, 3000, 8000, INLINE_MAX - 1, INLINE_MAX, INLINE_MAX + 1, 40_000, 70_000, 150_000];
        let below = *rng.pick(&[3, 5, 6, 8, 9, classes.len()]);
        let mut lens = classes[..below].to_vec();
        // Twice the small ones: the long ones take the time.
        lens.extend_from_slice(&classes[..below.min(6)]);
        Mix { weights, lens }
    }

    fn kind(&self, rng: &mut Rng) -> Kind {
        let total = self.weights.iter().map(|(_, weight)| weight).sum();
        let mut at = rng.below(total);
        for (kind, weight) in &self.weights {
            match at.checked_sub(*weight) {
                Some(rest) => at = rest,
                None => return *kind,
            }
        }
        Kind::Write
    }

    fn len(&self, rng: &mut Rng) -> u32 {
        let class = *rng.pick(&self.lens);
        match rng.one_in(2) {
            true => class,
            false => (class + rng.index(64) as u32).saturating_sub(32),
        }
    }

    fn step(&self, rng: &mut Rng) -> Step<LogOp> {
        let op = match self.kind(rng) {
            Kind::Write => LogOp::Write(self.len(rng)),
            Kind::Reserve => LogOp::Reserve { len: self.len(rng), end: end(rng) },
            Kind::HeldElsewhere => {
                let (len, beside) = (self.len(rng).min(INLINE_MAX), self.len(rng).min(INLINE_MAX / 2));
                LogOp::HeldElsewhere { len, beside, end: end(rng) }
            }
            Kind::ToSegmentEnd => LogOp::ToSegmentEnd(over(rng)),
            Kind::Flush => LogOp::Flush,
            Kind::MakeStable => LogOp::MakeStable(which(rng)),
            Kind::Trim => LogOp::Trim(which(rng)),
            Kind::Tick => LogOp::Tick,
            Kind::Check => LogOp::Check,
            Kind::Restart => return Step::Restart,
            Kind::Kill => return Step::Kill,
            Kind::Crash => {
                let after = if rng.one_in(4) { None } else { Some(rng.below(40)) };
                return Step::Crash { after, seed: rng.next_u64() };
            }
            Kind::Fault => return Step::Fault(fault(rng)),
            Kind::Room => return Step::Room(rng.below(200_000)),
            Kind::Heal => return Step::Heal,
        };
        Step::Do(op)
    }
}

fn end(rng: &mut Rng) -> End {
    if rng.one_in(2) { End::Completed } else { End::Aborted }
}

/// Around the segment's end, or where one more block fits, or two.
fn over(rng: &mut Rng) -> i16 {
    rng.index(9) as i16 - 5 - *rng.pick(&[0, 0, 512, 1024])
}

fn which(rng: &mut Rng) -> Which {
    match rng.index(4) {
        0 => Which::Stable,
        1 => Which::Newest(0),
        _ => Which::Newest(rng.index(40)),
    }
}

fn fault(rng: &mut Rng) -> Fault {
    use Call::{Allocate, Create, Read, Remove, Rename, SetLen, SyncData, SyncDir, Write};
    let when = match rng.index(4) {
        0 => When::From(rng.below(8)),
        1 => When::Chance { one_in: 2 + rng.below(20), seed: rng.next_u64() },
        _ => When::Once(rng.below(12)),
    };
    match rng.index(10) {
        0 | 1 => {
            let after = *rng.pick(&[AfterSync::KeptClean, AfterSync::Dropped, AfterSync::LaterSyncLies]);
            Fault::new(*rng.pick(&[SyncData, SyncData, SyncDir]), when, Effect::SyncFails(after))
        }
        2 => Fault::new(*rng.pick(&[SyncData, SyncDir]), when, Effect::Eio),
        3 | 4 => Fault::new(*rng.pick(&[Read, Write, Write]), when, Effect::Eio),
        5 => Fault::new(*rng.pick(&[Allocate, Create, Remove, Rename, SetLen]), when, Effect::Eio),
        6 => Fault::new(*rng.pick(&[Write, Allocate]), when, Effect::Enospc),
        7 => {
            // An interruption that never ends is a hang by anyone's account.
            let when = if matches!(when, When::From(_)) { When::Once(0) } else { when };
            Fault::new(*rng.pick(&[Read, Write]), when, Effect::Eintr)
        }
        _ => Fault::new(*rng.pick(&[Read, Write]), when, Effect::Short),
    }
}

impl Swarm for LogWorld {
    fn plan(seed: u64, steps: usize) -> Vec<Step<LogOp>> {
        let mut rng = Rng::new(seed ^ 0x5eed);
        let mix = Mix::new(&mut rng);
        (0..steps).map(|_| mix.step(&mut rng)).collect()
    }
}
