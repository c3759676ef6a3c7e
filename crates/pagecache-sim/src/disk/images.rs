//! Which crash images to look at from one point: all where they are few, else a fair choice of every kind.

use std::collections::BTreeSet;
use std::vec::IntoIter;

use super::crash::{Plan, Rest, Survival, next_sector};
use super::state::{Event, State};
use crate::rng::Rng;

/// Of every round of choices, how many are single-missing or single-kept, prefixes, torn, and random.
const SHARES: [usize; 4] = [4, 1, 2, 1];

/// Collects policies whose images differ.
struct Choice {
    limit: usize,
    seen: BTreeSet<Plan>,
    chosen: Vec<Survival>,
}

impl Choice {
    fn add(&mut self, state: &State, survival: Survival) -> bool {
        let new = self.chosen.len() < self.limit && self.seen.insert(state.plan(survival));
        if new {
            self.chosen.push(survival);
        }
        new
    }
}

impl State {
    pub(super) fn choose(&self, limit: usize, seed: u64) -> Vec<Survival> {
        let mut rng = Rng::new(seed);
        let count = self.pending.len();
        let mut choice = Choice { limit, seen: BTreeSet::new(), chosen: Vec::new() };
        choice.add(self, Survival::DropAll);
        choice.add(self, Survival::KeepAll);
        // Subsets may take half of the room, so that torn and scribbled images are seen too.
        let exhaustive = count < 20 && 1 << count <= limit / 2;
        let mut singles = Vec::new();
        let mut prefixes = Vec::new();
        if exhaustive {
            for bits in 0..1 << count {
                choice.add(self, Survival::Subset(bits));
            }
        } else {
            singles = (0..count).flat_map(|one| [Survival::AllBut(one), Survival::OnlyOne(one)]).collect();
            prefixes = (1..count).map(Survival::Prefix).collect();
        }
        let mut torn = self.torn(&mut rng);
        let random = if exhaustive { limit.min(4 * count) } else { limit };
        let mut randoms = vec![Survival::LengthsOnly(rng.next_u64())];
        randoms.extend((0..random).map(|_| Survival::Random(rng.next_u64())));
        if singles.len() > limit / 2 {
            rng.shuffle(&mut singles);
        }
        rng.shuffle(&mut prefixes);
        rng.shuffle(&mut torn);
        choice.take_in_rounds(self, [singles, prefixes, torn, randoms]);
        choice.chosen
    }

    /// Tears of every pending write: near its start, near its end, in the middle, and at sectors of the file.
    fn torn(&self, rng: &mut Rng) -> Vec<Survival> {
        let mut torn = Vec::new();
        for (event, pending) in self.pending.iter().enumerate() {
            let Event::Write { offset, bytes, .. } = pending else { continue };
            let len = bytes.len();
            let first = next_sector(*offset, 0);
            let random = next_sector(*offset, rng.index(len));
            let last = len - ((offset + len as u64 - 1) % 512 + 1).min(len as u64) as usize;
            let mut places = vec![first, random, last, 1, (len / 2) | 1, len - 1];
            places.sort_unstable();
            places.dedup();
            for bytes in places.into_iter().filter(|bytes| (1..len).contains(bytes)) {
                let rest = *rng.pick(&[Rest::Absent, Rest::Zeros, Rest::Garbage(u64::from(bytes as u32))]);
                torn.push(Survival::Torn { event, bytes, rest });
            }
        }
        torn
    }
}

impl Choice {
    fn take_in_rounds(&mut self, state: &State, lists: [Vec<Survival>; 4]) {
        let mut lists = lists.map(Vec::into_iter);
        while self.chosen.len() < self.limit && lists.iter().any(|list| list.len() > 0) {
            for (list, share) in lists.iter_mut().zip(SHARES) {
                self.take(state, list, share);
            }
        }
    }

    /// Takes `share` policies with images not chosen yet, or all that the list has.
    fn take(&mut self, state: &State, list: &mut IntoIter<Survival>, share: usize) {
        let mut taken = 0;
        while taken < share && self.chosen.len() < self.limit {
            let Some(survival) = list.next() else { return };
            taken += usize::from(self.add(state, survival));
        }
    }
}
