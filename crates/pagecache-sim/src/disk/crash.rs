//! What a crash leaves: a policy decides the fate of every pending event, and the next disk is built from the kept ones.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::content::{Gap, SECTOR};
use super::state::{Event, FileId, Names, Node, State};
use crate::rng::Rng;

/// Which pending events survive a crash. Events are numbered from 0 in the order of the calls, over all files and the
/// directory: writes, changes of length, allocations, creations, renames and removals that no sync has covered.
///
/// Where a kept write lies beyond the durable length, the length grows to cover it, and what grew without data is zero
/// unless the policy says otherwise. A rename that was lost is kept after all where something kept has taken its old
/// name: a file never loses both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Survival {
    /// None.
    DropAll,
    /// All.
    KeepAll,
    /// The first so many.
    Prefix(usize),
    /// This one.
    OnlyOne(usize),
    /// All but this one.
    AllBut(usize),
    /// Those whose bit is set; none past the 64th.
    Subset(u64),
    /// A random part of the events, some writes with only some of their sectors; with half of the seeds, what grew without
    /// data holds garbage.
    Random(u64),
    /// The directory and all lengths, but no data: garbage of this seed where files grew.
    LengthsOnly(u64),
    /// All before this write, and of it so many bytes.
    Torn {
        /// The write's number.
        event: usize,
        /// Bytes of it that survive, a multiple of 512 in the file or not.
        bytes: usize,
        /// What becomes of the rest, as far as it lies beyond the length.
        rest: Rest,
    },
}

/// What a torn write leaves beyond the length that the file had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rest {
    /// The file ends at the tear.
    Absent,
    /// The file is as long as the whole write, with zeros after the tear.
    Zeros,
    /// The file is as long as the whole write, with garbage of this seed wherever it grew without data.
    Garbage(u64),
}

/// The fate of every pending event. Two policies with equal plans leave the same image.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Plan {
    fates: Vec<Fate>,
    gap: Gap,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    Lost,
    Kept,
    /// The first bytes of a write, and no more length than they need.
    Cut(usize),
    /// The first bytes of a write, and its whole length.
    CutAndLong(usize),
    /// Random sectors of a write, and its whole length.
    Sectors(u64),
    /// The length of a write alone.
    Length,
}

impl State {
    pub(super) fn plan(&self, survival: Survival) -> Plan {
        let mut gap = Gap::Zeros;
        let mut fates = match survival {
            Survival::DropAll => self.fates(|_, _| false),
            Survival::KeepAll => self.fates(|_, _| true),
            Survival::Prefix(count) => self.fates(|number, _| number < count),
            Survival::OnlyOne(one) => self.fates(|number, _| number == one),
            Survival::AllBut(one) => self.fates(|number, _| number != one),
            Survival::Subset(bits) => self.fates(|number, _| number < 64 && bits >> number & 1 == 1),
            Survival::Random(seed) => {
                let mut rng = Rng::new(seed);
                if rng.one_in(2) {
                    gap = Gap::Garbage(rng.next_u64());
                }
                self.random_fates(&mut rng)
            }
            Survival::LengthsOnly(seed) => {
                gap = Gap::Garbage(seed);
                self.pending.iter().map(|event| self.length_fate(event)).collect()
            }
            Survival::Torn { event, bytes, rest } => {
                if let Rest::Garbage(seed) = rest {
                    gap = Gap::Garbage(seed);
                }
                let mut fates = self.fates(|number, _| number < event);
                if let (Some(fate), Some(write)) = (fates.get_mut(event), self.pending.get(event)) {
                    *fate = self.torn_fate(write, bytes, rest);
                }
                fates
            }
        };
        self.keep_renames(&mut fates);
        // A file that was cut and written again grows too.
        let may_grow = |event| self.grows(event) || matches!(event, Event::SetLen { .. });
        if !self.pending.iter().any(may_grow) {
            gap = Gap::Zeros;
        }
        Plan { fates, gap }
    }

    fn fates(&self, keep: impl Fn(usize, &Event) -> bool) -> Vec<Fate> {
        let fate = |(number, event)| if keep(number, event) { Fate::Kept } else { Fate::Lost };
        self.pending.iter().enumerate().map(fate).collect()
    }

    fn random_fates(&self, rng: &mut Rng) -> Vec<Fate> {
        // Sparse, even and dense subsets, each as likely.
        let keep_in_eight = *rng.pick(&[1, 4, 4, 7]);
        let fate = |event: &Event| match event {
            _ if rng.below(8) >= keep_in_eight => Fate::Lost,
            Event::Write { offset, bytes, .. } if crosses_sector(*offset, bytes.len()) && rng.one_in(3) => {
                Fate::Sectors(rng.next_u64())
            }
            _ => Fate::Kept,
        };
        self.pending.iter().map(fate).collect()
    }

    fn length_fate(&self, event: &Event) -> Fate {
        match event {
            Event::Write { .. } if self.grows(event) => Fate::Length,
            Event::Write { .. } => Fate::Lost,
            _ => Fate::Kept,
        }
    }

    fn torn_fate(&self, event: &Event, torn: usize, rest: Rest) -> Fate {
        let Event::Write { bytes, .. } = event else { return Fate::Lost };
        match rest {
            _ if torn >= bytes.len() => Fate::Kept,
            Rest::Zeros | Rest::Garbage(_) if self.grows(event) => Fate::CutAndLong(torn),
            _ if torn == 0 => Fate::Lost,
            _ => Fate::Cut(torn),
        }
    }

    /// Whether the event, alone, makes its file longer than the durable one.
    pub(super) fn grows(&self, event: &Event) -> bool {
        let longer = |file: &FileId, end: u64| self.files.get(file).is_some_and(|node| end > node.durable.len());
        match event {
            Event::Write { file, offset, bytes } => longer(file, offset + bytes.len() as u64),
            Event::SetLen { file, len } => longer(file, *len),
            Event::Allocate { file, offset, len } => longer(file, offset + len),
            Event::Create { .. } | Event::Rename { .. } | Event::Remove { .. } => false,
        }
    }

    /// Keeps each rename whose old name something kept has taken since, or the file would have no name.
    fn keep_renames(&self, fates: &mut [Fate]) {
        for number in (0..fates.len()).rev() {
            let taken = match &self.pending[number] {
                Event::Create { name, .. } => name,
                Event::Rename { to, .. } => to,
                _ => continue,
            };
            let left = |event: &Event| matches!(event, Event::Rename { from, .. } if from == taken);
            if fates[number] == Fate::Kept
                && let Some(earlier) = self.pending[..number].iter().rposition(left)
            {
                fates[earlier] = Fate::Kept;
            }
        }
    }

    /// The disk that the next process finds: all durable, no faults, unlocked.
    pub(super) fn image(&self, plan: &Plan) -> State {
        let mut names = self.dir.durable.clone();
        self.kept(plan).for_each(|(event, _)| event.apply_to_names(&mut names));
        let mut image = State::new(self.rng.clone());
        image.next_file = self.next_file;
        image.capacity = self.capacity;
        image.files = self.found(&names);
        image.dir.durable = names.clone();
        image.dir.current = names;
        for (event, fate) in self.kept(plan) {
            if let Some(file) = event.content_of()
                && let Some(node) = image.files.get_mut(&file)
            {
                // Files must not grow by the same garbage.
                let gap = match plan.gap {
                    Gap::Zeros => Gap::Zeros,
                    Gap::Garbage(seed) => Gap::Garbage(seed.wrapping_add(file << 40)),
                };
                fate.apply(event, node, gap);
            }
        }
        image.files.values_mut().for_each(|node| node.current = node.durable.clone());
        image
    }

    fn kept<'a>(&'a self, plan: &'a Plan) -> impl Iterator<Item = (&'a Event, Fate)> {
        let fates = plan.fates.iter().copied();
        self.pending.iter().zip(fates).filter(|(_, fate)| *fate != Fate::Lost)
    }

    fn found(&self, names: &Names) -> BTreeMap<FileId, Node> {
        let found = |(name, file): (&Arc<str>, &FileId)| {
            let content = self.files.get(file).map(|node| node.durable.clone()).unwrap_or_default();
            (*file, Node::new(Arc::clone(name), content))
        };
        names.iter().map(found).collect()
    }
}

impl Fate {
    fn apply(self, event: &Event, node: &mut Node, gap: Gap) {
        let content = &mut node.durable;
        let Event::Write { offset, bytes, .. } = event else {
            return event.apply_to(content, gap);
        };
        let end = offset + bytes.len() as u64;
        match self {
            Fate::Lost => {}
            Fate::Kept => event.apply_to(content, gap),
            Fate::Length => content.grow(end, gap),
            Fate::Cut(torn) => {
                content.grow(*offset, gap);
                content.write(&bytes[..torn], *offset);
            }
            Fate::CutAndLong(torn) => {
                content.grow(end, gap);
                content.write(&bytes[..torn], *offset);
            }
            Fate::Sectors(seed) => {
                content.grow(end, gap);
                let (mut rng, mut at) = (Rng::new(seed), 0);
                while at < bytes.len() {
                    let next = next_sector(*offset, at).min(bytes.len());
                    if rng.one_in(2) {
                        content.write(&bytes[at..next], offset + at as u64);
                    }
                    at = next;
                }
            }
        }
    }
}

/// The first position of a write after `at` that starts a sector of the file.
pub(super) fn next_sector(offset: u64, at: usize) -> usize {
    let place = offset + at as u64;
    at + (SECTOR - place % SECTOR) as usize
}

fn crosses_sector(offset: u64, len: usize) -> bool {
    next_sector(offset, 0) < len
}
