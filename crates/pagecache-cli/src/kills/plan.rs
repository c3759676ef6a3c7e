//! What a writer's threads do, as a function of a seed: the writer does it, and who checks knows the state after any number of
//! steps.

use std::collections::BTreeMap;

use crate::tour::ledger::{Entry, THREADS, mix};

/// Objects of one thread at a time.
const OBJECTS_MAX: usize = 40;
/// The most steps between two acknowledgements of a thread.
pub(super) const BATCH: u64 = 6;
/// The most records that a thread appends between two acknowledgements.
pub(super) const RECORDS: u64 = 4;

/// One step of a thread. An object lives on a page of whatever id it gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Allocates a page and gives it its first entry, by a link or a replace.
    Create {
        object: u64,
        whole: bool,
    },
    Link {
        object: u64,
    },
    Replace {
        object: u64,
    },
    Free {
        object: u64,
    },
    /// Links to the page that all threads share.
    Share,
}

/// A thread after some number of steps.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    seed: u64,
    thread: u64,
    pub(super) done: u64,
    created: u64,
    /// The numbers of the entries that each object's page holds.
    pub(super) objects: BTreeMap<u64, Vec<u64>>,
    /// The last entry on the shared page.
    pub(super) shared: Option<u64>,
}

impl Plan {
    pub(super) fn new(seed: u64, thread: u64) -> Plan {
        Plan { seed, thread, done: 0, created: 0, objects: BTreeMap::new(), shared: None }
    }

    /// After this many steps.
    pub(super) fn at(seed: u64, thread: u64, done: u64) -> Plan {
        let mut plan = Plan::new(seed, thread);
        while plan.done < done {
            plan.advance();
        }
        plan
    }

    /// Dice of the step to come.
    pub(super) fn dice(&self) -> u64 {
        mix(mix(self.seed ^ self.thread) ^ self.done)
    }

    pub(super) fn next(&self) -> Step {
        let dice = self.dice();
        let nth = (dice >> 8) as usize % self.objects.len().max(1);
        let Some(object) = self.objects.keys().nth(nth).copied() else { return self.create(dice) };
        match dice % 100 {
            0..25 if self.objects.len() < OBJECTS_MAX => self.create(dice),
            0..65 => Step::Link { object },
            65..78 => Step::Replace { object },
            78..90 => Step::Free { object },
            _ => Step::Share,
        }
    }

    fn create(&self, dice: u64) -> Step {
        Step::Create { object: self.created * THREADS + self.thread, whole: dice & 64 == 0 }
    }

    /// Takes the next step.
    pub(super) fn advance(&mut self) {
        let number = self.done;
        match self.next() {
            Step::Create { object, .. } => {
                self.created += 1;
                self.objects.insert(object, vec![number]);
            }
            Step::Link { object } => self.objects.entry(object).or_default().push(number),
            Step::Replace { object } => drop(self.objects.insert(object, vec![number])),
            Step::Free { object } => drop(self.objects.remove(&object)),
            Step::Share => self.shared = Some(number),
        }
        self.done += 1;
    }
}

/// The page that all threads share holds entries of these objects, one for each thread.
pub(super) fn shared(thread: u64) -> u64 {
    (1 << 40) + thread
}

/// The entry of an object with this number; now and then one too long for a record.
pub(super) fn entry(object: u64, number: u64) -> Entry {
    let filler = if mix(object ^ number).is_multiple_of(200) { 150_000 } else { 300 };
    Entry::new(object, number, filler)
}

/// A record of the bare log.
pub(super) fn record(thread: u64, number: u64) -> Vec<u8> {
    let dice = mix(mix(!thread) ^ number);
    let len = if dice.is_multiple_of(300) { 80_000 } else { dice % 500 };
    let mut bytes = [thread.to_le_bytes(), number.to_le_bytes()].concat();
    bytes.extend((0..len.div_ceil(8)).flat_map(|nth| mix(dice ^ nth).to_le_bytes()).take(len as usize));
    bytes
}

/// The thread and the number that a record claims to be.
pub(super) fn claimed(record: &[u8]) -> Option<(u64, u64)> {
    let (thread, rest) = record.split_first_chunk::<8>()?;
    Some((u64::from_le_bytes(*thread), u64::from_le_bytes(*rest.first_chunk::<8>()?)))
}
