//! What must hold after a kill: each thread's steps up to some place and none beyond, at least those that were acknowledged; the
//! same of the records; and nothing wrong with either store.

use std::collections::BTreeMap;

use pagecache::inspect;
use pagecache::{Lsn, PageCache};
use serde::Serialize;

use super::plan::{BATCH, Plan, RECORDS, claimed, entry, record, shared};
use super::stores::{Stores, config};
use crate::Failure;
use crate::tour::ledger::{Entries, THREADS};

/// What the children acknowledged, and what was found after each of them.
#[derive(Clone, Debug)]
pub(super) struct Ledger {
    /// Each thread as it was found last.
    pub(super) plans: Vec<Plan>,
    /// Steps of each thread that are durable.
    pub(super) steps: Vec<u64>,
    /// Records of each thread that are durable, and the LSN of each that was told.
    pub(super) records: Vec<u64>,
    lsns: Vec<Vec<(u64, Lsn)>>,
    /// The highest LSN that a trim was asked for.
    trimmed: Lsn,
    /// What the child's store did by itself.
    pub(super) upkeep: Upkeep,
}

/// What the stores of pages did by themselves before they were killed, as far as it was told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Upkeep {
    pub(super) checkpoints: u64,
    /// Bytes of pages that were moved out of the log.
    pub(super) fold_bytes: u64,
    /// Bytes of pages that were moved before.
    pub(super) survivor_bytes: u64,
}

impl Upkeep {
    pub(super) fn add(&mut self, other: Upkeep) {
        self.checkpoints += other.checkpoints;
        self.fold_bytes += other.fold_bytes;
        self.survivor_bytes += other.survivor_bytes;
    }
}

/// What a check found, in steps and records.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Found {
    pub(super) acknowledged: u64,
    pub(super) found: u64,
    pub(super) lost: u64,
    /// There, though nobody was told so yet.
    pub(super) more: u64,
}

impl Ledger {
    pub(super) fn new(seed: u64) -> Ledger {
        Ledger {
            plans: (0..THREADS).map(|thread| Plan::new(seed, thread)).collect(),
            steps: vec![0; THREADS as usize],
            records: vec![0; THREADS as usize],
            lsns: vec![Vec::new(); THREADS as usize],
            trimmed: Lsn(0),
            upkeep: Upkeep::default(),
        }
    }

    /// Takes a line of a child; whether it was an acknowledgement.
    pub(super) fn note(&mut self, words: &[&str]) -> bool {
        let numbers: Option<Vec<u64>> = words.iter().skip(1).map(|word| word.parse().ok()).collect();
        let numbers = numbers.unwrap_or_default();
        let (what, thread) = (words.first(), numbers.first().map_or(usize::MAX, |thread| *thread as usize));
        match (what, numbers.as_slice()) {
            (Some(&"pages"), [_, steps]) if thread < self.steps.len() => self.steps[thread] = *steps,
            (Some(&"log"), [_, records, lsn]) if thread < self.records.len() => {
                self.records[thread] = *records;
                self.lsns[thread].push((records - 1, Lsn(*lsn)));
            }
            (Some(&"trim"), [lsn]) => {
                self.trimmed = self.trimmed.max(Lsn(*lsn));
                return false;
            }
            (Some(&"upkeep"), [checkpoints, fold_bytes, survivor_bytes]) => {
                let (checkpoints, fold_bytes, survivor_bytes) = (*checkpoints, *fold_bytes, *survivor_bytes);
                self.upkeep = Upkeep { checkpoints, fold_bytes, survivor_bytes };
                return false;
            }
            _ => return false,
        }
        true
    }

    /// Compares both stores with the books, which go on from what was found.
    ///
    /// # Errors
    /// Says what is there that no prefix explains.
    pub(super) fn compare(&mut self, stores: &Stores, found: &mut Found) -> Result<(), Failure> {
        let pages = objects(&stores.pages)?;
        for thread in 0..THREADS {
            self.compare_thread(thread, &pages, found)?;
        }
        self.compare_log(stores, found)
    }

    fn compare_thread(&mut self, thread: u64, pages: &Pages, found: &mut Found) -> Result<(), Failure> {
        let nth = thread as usize;
        let acknowledged = self.steps[nth];
        let before = self.plans[nth].done;
        let own: BTreeMap<u64, Vec<u64>> = pages
            .objects
            .iter()
            .filter(|(object, _)| *object % THREADS == thread)
            .map(|(k, v)| (*k, v.clone()))
            .collect();
        let on_shared = pages.shared.get(&thread).and_then(|numbers| numbers.last().copied());
        let mut plan = self.plans[nth].clone();
        // The latest that fits: a page that was made and freed again leaves nothing to tell by.
        let mut fits = None;
        while plan.done <= acknowledged + BATCH {
            if plan.objects == own && plan.shared == on_shared {
                fits = Some(plan.clone());
            }
            plan.advance();
        }
        let Some(plan) = fits else {
            let wanted = Plan::clone(&self.plans[nth]);
            return Err(format!(
                "thread {thread}: no prefix of its steps from {} to {} gives what is there: {own:?}, shared {on_shared:?}; \
                 it was {:?}",
                wanted.done,
                acknowledged + BATCH,
                wanted.objects
            )
            .into());
        };
        found.acknowledged += acknowledged - before;
        found.found += plan.done.min(acknowledged) - before;
        found.lost += acknowledged.saturating_sub(plan.done);
        found.more += plan.done.saturating_sub(acknowledged);
        self.steps[nth] = plan.done;
        self.plans[nth] = plan;
        Ok(())
    }

    fn compare_log(&mut self, stores: &Stores, found: &mut Found) -> Result<(), Failure> {
        let first = stores.log.first_lsn();
        if first > self.trimmed {
            return Err(format!("the log begins at {first}, but was trimmed to {} at most", self.trimmed).into());
        }
        let mut there: Vec<Vec<(u64, Lsn)>> = vec![Vec::new(); THREADS as usize];
        for next in stores.log.iter_from(Lsn(0)) {
            let (lsn, bytes) = next?;
            let (thread, number) = claimed(&bytes).ok_or("a record that nobody wrote")?;
            if thread >= THREADS || bytes != record(thread, number) {
                return Err(format!("the record at {lsn} is not what thread {thread} wrote as number {number}").into());
            }
            there[thread as usize].push((number, lsn));
        }
        for (thread, there) in there.iter().enumerate() {
            if there.windows(2).any(|pair| pair[0].0 + 1 != pair[1].0) {
                return Err(format!("records of thread {thread} are missing in the middle: {there:?}").into());
            }
            let acknowledged = self.records[thread];
            let found_to = there.last().map_or(0, |(number, _)| number + 1);
            if found_to > acknowledged + RECORDS {
                return Err(format!("thread {thread} has {found_to} records, though it was at {acknowledged}").into());
            }
            // Every one that was told of and not trimmed, where it was said to be.
            let kept = self.lsns[thread].iter().filter(|(_, lsn)| *lsn >= first);
            let missing = kept.filter(|told| there.binary_search(told).is_err()).count() as u64;
            let new = self.lsns[thread].len() as u64;
            found.acknowledged += new;
            found.found += new - missing.min(new);
            found.lost += missing;
            found.more += found_to.saturating_sub(acknowledged);
            self.lsns[thread].clear();
            self.records[thread] = found_to.max(if there.is_empty() { acknowledged } else { 0 });
        }
        Ok(())
    }
}

/// What the pages hold.
struct Pages {
    objects: BTreeMap<u64, Vec<u64>>,
    /// For each thread.
    shared: BTreeMap<u64, Vec<u64>>,
}

fn objects(pc: &PageCache<Entries>) -> Result<Pages, Failure> {
    let mut pages = Pages { objects: BTreeMap::new(), shared: BTreeMap::new() };
    let guard = pc.pin();
    let mut count = 0;
    for id in pc.page_ids() {
        let id = id?;
        count += 1;
        let (page, _) = pc.get(id, &guard)?;
        let object = page.first().ok_or_else(|| format!("{id} is empty"))?.page;
        for found in page.iter() {
            let number = found.number;
            if *found != entry(found.page, number) || (found.page != object && found.page.min(object) < shared(0)) {
                return Err(format!("{id} of object {object} has an entry that nobody made: {}", found.page).into());
            }
            let numbers = match object < shared(0) {
                true => pages.objects.entry(object).or_default(),
                // The one that the page began with is nobody's.
                false if number == u64::MAX => continue,
                false => pages.shared.entry(found.page - shared(0)).or_default(),
            };
            // Also where two pages claim to be the same object.
            if numbers.last().is_some_and(|last| *last >= number) {
                return Err(format!("{id}: entry {number} of object {} comes after {numbers:?}", found.page).into());
            }
            numbers.push(number);
        }
    }
    let allocated = pc.page_count()?;
    if allocated != count {
        return Err(format!("{count} pages hold data, {allocated} are allocated").into());
    }
    Ok(pages)
}

/// Problems that a look at both stores from outside finds.
pub(super) fn problems(place: &std::path::Path) -> Result<Vec<String>, Failure> {
    let mut problems = Vec::new();
    for name in ["pages", "log"] {
        let report = inspect::verify(config(place, name).build())?;
        problems.extend(report.problems.iter().map(|problem| format!("{name}: {problem}")));
    }
    Ok(problems)
}
