//! Every state that can be reached, breadth first, each once. A state is known by 64 bits of its hash: among ten million states the chance
//! that any two share theirs, so that one is missed, is one in 400,000.

use std::fmt;
use std::hash::{Hash, Hasher};

use crate::bugs::Rules;
use crate::grounds::beginning;
use crate::state::{Piece, Slot, State};
use crate::steps::{Broken, Step, Steps};

/// What an exploration has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub states: u64,
    pub steps: u64,
    pub crashes: u64,
    /// Openings that were finished; of these, those of stores that had given segments of the log back, and that found a page in an image.
    pub openings: u64,
    pub recycled: u64,
    pub moved: u64,
    /// Steps of the longest of all shortest ways to a state.
    pub depth: u32,
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Counts) {
        self.states += other.states;
        self.steps += other.steps;
        self.crashes += other.crashes;
        self.openings += other.openings;
        self.recycled += other.recycled;
        self.moved += other.moved;
        self.depth = self.depth.max(other.depth);
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts { states, steps, crashes, openings, recycled, moved, depth } = self;
        write!(
            f,
            "{states} states, {steps} steps, {crashes} crashes, {openings} openings ({recycled} recycled, {moved} moved), {depth} deep"
        )
    }
}

/// A shortest way to a broken promise.
#[derive(Debug)]
pub struct Violation {
    pub broken: Broken,
    pub trace: Vec<Step>,
    pub seen: Counts,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "not so: {} ({}), in {} steps, {}",
            self.broken.promise,
            self.broken.of,
            self.trace.len(),
            self.seen
        )?;
        self.trace.iter().try_for_each(|step| writeln!(f, "    {step:?}"))
    }
}

/// Mixes eight bytes at a time, in two rounds: states differ in few bits, and with one round hundreds of them were missed. What a state is
/// made of are bytes, and which variant comes next is a byte too.
#[derive(Default)]
struct Mix {
    mixed: u64,
    gathered: u64,
    count: u32,
}

impl Mix {
    fn mix(&mut self, word: u64) {
        let mut mixed = (self.mixed.rotate_left(5) ^ word).wrapping_mul(0xff51_afd7_ed55_8ccd);
        mixed = (mixed ^ mixed >> 32).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        self.mixed = mixed ^ mixed >> 29;
    }
}

impl Hasher for Mix {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u8(*byte));
    }

    fn write_u8(&mut self, byte: u8) {
        self.gathered = self.gathered << 8 | u64::from(byte);
        self.count += 1;
        if self.count.is_multiple_of(8) {
            self.mix(self.gathered);
        }
    }

    fn write_usize(&mut self, length: usize) {
        self.write_u8(length as u8);
    }

    fn write_isize(&mut self, variant: isize) {
        self.write_u8(variant as u8);
    }

    fn finish(&self) -> u64 {
        let mut last = Mix { ..*self };
        last.mix(self.gathered);
        last.mix(self.count.into());
        last.mixed
    }
}

/// Hashes that were seen: a table with open places.
struct Seen {
    places: Vec<u64>,
    count: usize,
}

impl Seen {
    fn new() -> Seen {
        Seen { places: vec![0; 1 << 16], count: 0 }
    }

    /// Whether it is new.
    fn enter(&mut self, hash: u64) -> bool {
        if self.count * 3 > self.places.len() * 2 {
            let old = std::mem::take(&mut self.places);
            self.places = vec![0; old.len() * 2];
            old.into_iter().filter(|hash| *hash != 0).for_each(|hash| self.place(hash));
        }
        let hash = hash.max(1);
        let mask = self.places.len() - 1;
        let mut at = hash as usize & mask;
        while self.places[at] != 0 {
            if self.places[at] == hash {
                return false;
            }
            at = (at + 1) & mask;
        }
        self.places[at] = hash;
        self.count += 1;
        true
    }

    fn place(&mut self, hash: u64) {
        let mask = self.places.len() - 1;
        let mut at = hash as usize & mask;
        while self.places[at] != 0 {
            at = (at + 1) & mask;
        }
        self.places[at] = hash;
    }
}

/// How a state was reached first: from which, and by which of its steps.
type Way = (u32, u16);

/// Explores everything, or up to a broken promise.
pub fn explore(rules: &Rules) -> Result<Counts, Box<Violation>> {
    let (mut seen, mut ways, mut steps) = (Seen::new(), Vec::<Way>::new(), Steps::default());
    let mut counts = Counts::default();
    let first = beginning(rules);
    seen.enter(hash(&first));
    ways.push((u32::MAX, 0));
    let mut layer = vec![first];
    let mut layer_at = 0;
    while !layer.is_empty() {
        let mut next = Vec::new();
        for (at, state) in layer.iter().enumerate() {
            steps.of(state, rules);
            counts.steps += steps.all.len() as u64;
            for (index, (step, outcome)) in steps.all.iter().enumerate() {
                counts.crashes += u64::from(matches!(step, Step::Kill { .. } | Step::PowerFails { .. }));
                let way = ((layer_at + at) as u32, index as u16);
                match outcome {
                    Err(broken) => {
                        counts.states = ways.len() as u64;
                        let trace = trace(&ways, way, rules);
                        return Err(Box::new(Violation { broken: *broken, trace, seen: counts }));
                    }
                    Ok(reached) => {
                        if let Step::Opened { .. } = step {
                            let is_image = |piece: Piece| matches!(piece, Piece::Image(_));
                            counts.openings += 1;
                            counts.recycled += u64::from(reached.gone != 0);
                            counts.moved += u64::from(reached.slots.iter().flat_map(Slot::pieces).any(is_image));
                        }
                        if seen.enter(hash(reached)) {
                            ways.push(way);
                            next.push(*reached);
                        }
                    }
                }
            }
        }
        layer_at += layer.len();
        counts.depth += u32::from(!next.is_empty());
        layer = next;
    }
    counts.states = ways.len() as u64;
    Ok(counts)
}

fn hash(state: &State) -> u64 {
    let mut mix = Mix::default();
    state.hash(&mut mix);
    mix.finish()
}

/// The steps of a way, found by going it again.
fn trace(ways: &[Way], last: Way, rules: &Rules) -> Vec<Step> {
    let mut indexes = vec![last.1];
    let mut at = last.0;
    while let Some((before, index)) = ways.get(at as usize).filter(|(before, _)| *before != u32::MAX) {
        indexes.push(*index);
        at = *before;
    }
    let (mut state, mut steps) = (beginning(rules), Steps::default());
    indexes
        .iter()
        .rev()
        .map_while(|index| {
            steps.of(&state, rules);
            let (step, outcome) = steps.all.get(*index as usize)?;
            state = outcome.unwrap_or(state);
            Some(*step)
        })
        .collect()
}
