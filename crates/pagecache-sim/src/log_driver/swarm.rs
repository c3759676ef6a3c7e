//! Random steps for the log: each seed has its own mix of operations, sizes, faults and crashes.

use super::{End, INLINE_MAX, LogOp, LogWorld, Which};
use crate::driver::Step;
use crate::driver::mix::{Temper, Weights, fault};
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
    weights: Weights<Kind>,
    temper: Temper,
    lens: Vec<u32>,
}

impl Mix {
    fn new(rng: &mut Rng) -> Mix {
        let mut weights = Weights::draw(&KINDS, rng);
        let temper = Temper::draw(rng);
        weights.adjust(|kind, weight| match kind {
            Kind::Write => weight.max(4),
            Kind::Fault | Kind::Room | Kind::Heal if temper == Temper::Sound => 0,
            Kind::Fault if temper == Temper::Lies => weight.max(3),
            // The model forgets what is trimmed, and a trim that was lied about may not have been.
            Kind::Trim if temper == Temper::Lies => 0,
            _ => weight,
        });
        let classes = [0, 1, 40, 300, 3000, 8000, INLINE_MAX - 1, INLINE_MAX, INLINE_MAX + 1, 40_000, 70_000, 150_000];
        let below = *rng.pick(&[3, 5, 6, 8, 9, classes.len()]);
        let mut lens = classes[..below].to_vec();
        // Twice the small ones: the long ones take the time.
        lens.extend_from_slice(&classes[..below.min(6)]);
        Mix { weights, temper, lens }
    }

    fn len(&self, rng: &mut Rng) -> u32 {
        let class = *rng.pick(&self.lens);
        match rng.one_in(2) {
            true => class,
            false => (class + rng.index(64) as u32).saturating_sub(32),
        }
    }

    fn step(&self, rng: &mut Rng) -> Step<LogOp> {
        let op = match self.weights.pick(rng) {
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
            Kind::Fault => return Step::Fault(fault(rng, self.temper)),
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

impl Swarm for LogWorld {
    fn plan(seed: u64, steps: usize) -> Vec<Step<LogOp>> {
        let mut rng = Rng::new(seed ^ 0x5eed);
        let mix = Mix::new(&mut rng);
        (0..steps).map(|_| mix.step(&mut rng)).collect()
    }
}
