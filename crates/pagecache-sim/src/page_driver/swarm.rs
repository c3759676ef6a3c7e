//! Random steps for pages: each seed has its own mix of operations, sizes, faults and crashes.

use super::{FRAGMENT_MIN, PageOp, PageWorld, Pick, Update, Wrong};
use crate::driver::Step;
use crate::driver::mix::{Temper, Weights, fault};
use crate::driver::seeded::Swarm;
use crate::rng::Rng;

/// What a step can be; the weights of a seed stand in this order.
#[derive(Clone, Copy, Debug)]
enum Kind {
    New,
    Link,
    Replace,
    Free,
    Alloc,
    LinkMany,
    Stale,
    Missing,
    Get,
    Fragments,
    Flood,
    Flush,
    MakeStable,
    Tick,
    Checkpoint,
    Clean,
    Settle,
    Pin,
    Unpin,
    Check,
    Restart,
    Kill,
    Crash,
    Fault,
    Room,
    Heal,
}

const KINDS: [(Kind, u64); 26] = [
    (Kind::New, 10),
    (Kind::Link, 24),
    (Kind::Replace, 8),
    (Kind::Free, 7),
    (Kind::Alloc, 3),
    (Kind::LinkMany, 1),
    (Kind::Stale, 5),
    (Kind::Missing, 2),
    (Kind::Get, 8),
    (Kind::Fragments, 4),
    (Kind::Flood, 1),
    (Kind::Flush, 5),
    (Kind::MakeStable, 5),
    (Kind::Tick, 3),
    (Kind::Checkpoint, 4),
    (Kind::Clean, 4),
    (Kind::Settle, 1),
    (Kind::Pin, 1),
    (Kind::Unpin, 2),
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
    /// Pages that are picked.
    spread: usize,
}

impl Mix {
    fn new(rng: &mut Rng) -> Mix {
        let mut weights = Weights::draw(&KINDS, rng);
        let temper = Temper::draw(rng);
        weights.adjust(|kind, weight| match kind {
            Kind::New => weight.max(2),
            Kind::Link => weight.max(4),
            // They are many operations each.
            Kind::Flood | Kind::LinkMany => weight.min(1),
            Kind::Fault | Kind::Room | Kind::Heal if temper == Temper::Sound => 0,
            Kind::Fault if temper == Temper::Lies => weight.max(3),
            _ => weight,
        });
        // The longest inline fragment is somewhat below 16 KiB.
        let classes = [FRAGMENT_MIN, 40, 300, 1200, 4000, 9000, 16_250, 16_400, 40_000];
        let below = *rng.pick(&[2, 3, 4, 6, classes.len()]);
        let mut lens = classes[..below].to_vec();
        // Small ones again and again: the long ones take the time.
        (0..4).for_each(|_| lens.extend_from_slice(&classes[..below.min(4)]));
        Mix { weights, temper, lens, spread: *rng.pick(&[1, 3, 10, 100]) }
    }

    fn len(&self, rng: &mut Rng) -> u32 {
        let class = *rng.pick(&self.lens);
        match rng.one_in(2) {
            true => class,
            false => (class + rng.index(200) as u32).saturating_sub(100),
        }
    }

    fn pick(&self, rng: &mut Rng) -> Pick {
        rng.index(self.spread)
    }

    fn step(&self, rng: &mut Rng) -> Step<PageOp> {
        let op = match self.weights.pick(rng) {
            Kind::New => PageOp::New(self.len(rng)),
            Kind::Link => PageOp::Link(self.pick(rng), self.len(rng)),
            Kind::Replace => PageOp::Replace(self.pick(rng), self.len(rng)),
            Kind::Free => PageOp::Free(self.pick(rng)),
            Kind::Alloc => PageOp::Alloc,
            Kind::LinkMany => PageOp::LinkMany(self.pick(rng), 20 + rng.index(60) as u32),
            Kind::Stale => PageOp::Stale(self.pick(rng), update(rng), wrong(rng)),
            Kind::Missing => PageOp::Missing,
            Kind::Get => PageOp::Get(self.pick(rng)),
            Kind::Fragments => PageOp::Fragments(self.pick(rng)),
            Kind::Flood => PageOp::Flood(*rng.pick(&[2000, 6000, 12_000])),
            Kind::Flush => PageOp::Flush,
            Kind::MakeStable => PageOp::MakeStable(self.pick(rng)),
            Kind::Tick => PageOp::Tick,
            Kind::Checkpoint => PageOp::Checkpoint,
            Kind::Clean => PageOp::Clean,
            Kind::Settle => PageOp::Settle,
            Kind::Pin => PageOp::Pin,
            Kind::Unpin => PageOp::Unpin,
            Kind::Check => PageOp::Check,
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

fn update(rng: &mut Rng) -> Update {
    *rng.pick(&[Update::Replace, Update::Link, Update::Free])
}

fn wrong(rng: &mut Rng) -> Wrong {
    match rng.index(4) {
        0 => Wrong::Null,
        1 => Wrong::Foreign,
        _ => Wrong::Old(rng.index(3)),
    }
}

impl Swarm for PageWorld {
    fn plan(seed: u64, steps: usize) -> Vec<Step<PageOp>> {
        let mut rng = Rng::new(seed ^ 0x9a9e_5eed);
        let mix = Mix::new(&mut rng);
        // What a disk that is well again excuses ends with what can be done then.
        let settled = |step| match step {
            Step::Heal => vec![Step::Heal, Step::Do(PageOp::Settle)],
            step => vec![step],
        };
        (0..steps).flat_map(|_| settled(mix.step(&mut rng))).collect()
    }
}
