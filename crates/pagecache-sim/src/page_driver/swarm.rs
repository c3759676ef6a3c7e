//! Random steps for pages: each seed has its own mix of operations, sizes, faults and crashes.

use super::{FRAGMENT_MIN, PageOp, PageWorld, Pick, Update, Wrong};
use crate::disk::{AfterSync, Call, Effect, Fault, When};
use crate::driver::Step;
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
    Check,
    Restart,
    Kill,
    Crash,
    Fault,
    Room,
    Heal,
}

const KINDS: [(Kind, u64); 21] = [
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
    /// Pages that are picked.
    spread: usize,
}

impl Mix {
    fn new(rng: &mut Rng) -> Mix {
        let factor = |rng: &mut Rng| *rng.pick(&[0, 1, 1, 1, 4]);
        let mut weights: Vec<_> = KINDS.iter().map(|(kind, weight)| (*kind, weight * factor(rng))).collect();
        weights[0].1 = weights[0].1.max(2);
        weights[1].1 = weights[1].1.max(4);
        for (kind, weight) in &mut weights {
            // They are many operations each.
            if matches!(kind, Kind::Flood | Kind::LinkMany) {
                *weight = (*weight).min(1);
            }
        }
        if rng.one_in(2) {
            // A disk without faults, and never full.
            weights.retain(|(kind, _)| !matches!(kind, Kind::Fault | Kind::Room | Kind::Heal));
        }
        // The longest inline fragment is somewhat below 16 KiB.
        let classes = [FRAGMENT_MIN, 40, 300, 1200, 4000, 9000, 16_250, 16_400, 40_000];
        let below = *rng.pick(&[2, 3, 4, 6, classes.len()]);
        let mut lens = classes[..below].to_vec();
        // Small ones again and again: the long ones take the time.
        (0..4).for_each(|_| lens.extend_from_slice(&classes[..below.min(4)]));
        Mix { weights, lens, spread: *rng.pick(&[1, 3, 10, 100]) }
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
        Kind::Link
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
        let op = match self.kind(rng) {
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
            Kind::Check => PageOp::Check,
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

fn fault(rng: &mut Rng) -> Fault {
    use Call::{Allocate, Create, Read, Remove, Rename, SetLen, SyncData, SyncDir, Write};
    let when = match rng.index(4) {
        0 => When::From(rng.below(8)),
        1 => When::Chance { one_in: 2 + rng.below(20), seed: rng.next_u64() },
        _ => When::Once(rng.below(12)),
    };
    match rng.index(11) {
        0 | 1 => {
            let after = *rng.pick(&[AfterSync::KeptClean, AfterSync::Dropped, AfterSync::LaterSyncLies]);
            Fault::new(*rng.pick(&[SyncData, SyncData, SyncDir]), when, Effect::SyncFails(after))
        }
        2 => Fault::new(*rng.pick(&[SyncData, SyncDir]), when, Effect::Eio),
        3 => Fault::new(Write, when, Effect::Eio),
        4 | 5 => Fault::new(Read, when, Effect::Eio),
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

impl Swarm for PageWorld {
    fn plan(seed: u64, steps: usize) -> Vec<Step<PageOp>> {
        let mut rng = Rng::new(seed ^ 0x9a9e_5eed);
        let mix = Mix::new(&mut rng);
        (0..steps).map(|_| mix.step(&mut rng)).collect()
    }
}
