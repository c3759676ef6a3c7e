//! The child: four threads that take the steps of their plans and append to a bare log, and say on a pipe what is durable.
//!
//! `pages THREAD STEPS` and `log THREAD NUMBER LSN` after each `make_stable`; `trim LSN` before each trim; `upkeep CHECKPOINTS FOLDS
//! SURVIVORS` where the store has done some of that by itself, with all since it was opened, in bytes where they are pages moved.

use std::collections::BTreeMap;
use std::path::PathBuf;

use pagecache::{Error, Log, Lsn, PageCache, PageId, Rejected, Version, version};

use super::Plant;
use super::plan::{BATCH, Plan, RECORDS, Step, entry, record, shared};
use super::stores::Stores;
use crate::child::say;
use crate::tour::ledger::{Entries, Entry, THREADS};
use crate::{Failure, SOUND};

/// Entries on the shared page before somebody writes it anew.
const SHARED_MAX: usize = 100;
/// Turns of the first thread between two trims, and records that it leaves.
const TRIM_EVERY: u64 = 64;

#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Args {
    /// The directory of both stores.
    #[arg(long)]
    pub(super) place: PathBuf,
    /// What the threads do.
    #[arg(long)]
    pub(super) seed: u64,
    /// Steps that each thread has taken.
    #[arg(long, value_delimiter = ',')]
    pub(super) steps: Vec<u64>,
    /// Records that each thread has appended.
    #[arg(long, value_delimiter = ',')]
    pub(super) records: Vec<u64>,
    /// Only open, and wait for the end.
    #[arg(long)]
    pub(super) open_only: bool,
    /// Acknowledge too early (a planted bug), on a slow disk.
    #[arg(long)]
    pub(super) lie: bool,
}

impl Args {
    /// The same, as arguments of a command line.
    pub(super) fn to_line(&self) -> Vec<std::ffi::OsString> {
        let list = |numbers: &[u64]| numbers.iter().map(u64::to_string).collect::<Vec<_>>().join(",");
        let mut line: Vec<std::ffi::OsString> =
            vec!["kills-writer".into(), "--place".into(), self.place.clone().into()];
        line.extend(["--seed".into(), self.seed.to_string().into()]);
        line.extend(["--steps".into(), list(&self.steps).into(), "--records".into(), list(&self.records).into()]);
        line.extend(self.open_only.then(|| "--open-only".into()));
        line.extend(self.lie.then(|| "--lie".into()));
        line
    }
}

pub(crate) fn run(args: &Args) -> Result<u8, Failure> {
    say("opening");
    let stores = if args.lie { Stores::open_slow(&args.place)? } else { Stores::open(&args.place, false)? };
    if args.lie {
        Plant::Early.plant()?;
    }
    say("open");
    if args.open_only {
        loop {
            std::thread::park();
        }
    }
    let pages = placed(&stores.pages)?;
    let write = |thread| -> Result<(), Failure> {
        let mut own = Own::new(&stores, &pages, args, thread)?;
        loop {
            own.turn()?;
        }
    };
    let write = &write;
    std::thread::scope(|scope| -> Result<(), Failure> {
        let threads: Vec<_> = (0..THREADS).map(|thread| scope.spawn(move || write(thread))).collect();
        for thread in threads {
            thread.join().map_err(|_| "a writing thread panicked")??;
        }
        Ok(())
    })?;
    Ok(SOUND)
}

/// Where every object is, and the shared page, made if it is not there.
fn placed(pc: &PageCache<Entries>) -> Result<BTreeMap<u64, (PageId, Version)>, Failure> {
    let mut pages = BTreeMap::new();
    let guard = pc.pin();
    for id in pc.page_ids() {
        let id = id?;
        let (entries, token) = pc.get(id, &guard)?;
        let object = entries.first().ok_or("an empty page")?.page;
        pages.insert(object.min(shared(0)), (id, version(token)));
    }
    if let std::collections::btree_map::Entry::Vacant(vacant) = pages.entry(shared(0)) {
        let id = pc.allocate(&guard);
        let at = pc.replace_at(id, Version::NONE, vec![entry(shared(0), u64::MAX)], &guard).map_err(Error::from)?;
        vacant.insert((id, at));
    }
    Ok(pages)
}

/// One thread.
struct Own<'a> {
    pc: &'a PageCache<Entries>,
    log: &'a Log,
    thread: u64,
    plan: Plan,
    shared: PageId,
    pages: BTreeMap<u64, (PageId, Version)>,
    records: u64,
    lsns: Vec<Lsn>,
    turns: u64,
    upkeep: [u64; 3],
}

impl<'a> Own<'a> {
    fn new(
        stores: &'a Stores,
        pages: &BTreeMap<u64, (PageId, Version)>,
        args: &Args,
        thread: u64,
    ) -> Result<Own<'a>, Failure> {
        let nth = |list: &[u64]| list.get(thread as usize).copied().unwrap_or_default();
        let plan = Plan::at(args.seed, thread, nth(&args.steps));
        let mine = plan.objects.keys().map(|object| Some((*object, *pages.get(object)?)));
        Ok(Own {
            pc: &stores.pages,
            log: &stores.log,
            thread,
            shared: pages.get(&shared(0)).ok_or("no shared page")?.0,
            pages: mine.collect::<Option<_>>().ok_or("an object is not there")?,
            plan,
            records: nth(&args.records),
            lsns: Vec::new(),
            turns: 0,
            upkeep: [0; 3],
        })
    }

    /// Some steps, made durable and acknowledged; some records, the same.
    fn turn(&mut self) -> Result<(), Failure> {
        let dice = self.plan.dice();
        let mut at = Version::NONE;
        for _ in 0..1 + dice % BATCH {
            at = self.step()?;
        }
        self.pc.make_stable(at)?;
        say(&format!("pages {} {}", self.thread, self.plan.done));
        let mut lsn = Lsn(0);
        for _ in 0..1 + dice / 8 % RECORDS {
            if dice & 1 << 20 == 0 {
                self.log.reserve(b"given up")?.abort();
            }
            lsn = self.log.write(&record(self.thread, self.records))?;
            self.records += 1;
        }
        self.log.make_stable(lsn)?;
        say(&format!("log {} {} {}", self.thread, self.records, lsn.0));
        self.lsns.push(lsn);
        self.turns += 1;
        if self.thread == 0 {
            self.tell_upkeep();
        }
        if self.thread == 0 && self.turns.is_multiple_of(TRIM_EVERY) {
            let to = self.lsns[self.lsns.len() / 2];
            say(&format!("trim {}", to.0));
            self.log.trim(to)?;
        }
        Ok(())
    }

    fn tell_upkeep(&mut self) {
        let stats = self.pc.stats();
        let upkeep = [stats.checkpoints, stats.fold_bytes, stats.survivor_bytes];
        if std::mem::replace(&mut self.upkeep, upkeep) != upkeep {
            let [checkpoints, folds, survivors] = upkeep;
            say(&format!("upkeep {checkpoints} {folds} {survivors}"));
        }
    }

    fn step(&mut self) -> Result<Version, Failure> {
        let (pc, guard, number) = (self.pc, self.pc.pin(), self.plan.done);
        let one = |object| vec![entry(object, number)];
        let step = self.plan.next();
        let at = match step {
            Step::Create { object, whole } => {
                let id = pc.allocate(&guard);
                let at = match whole {
                    true => pc.replace_at(id, Version::NONE, one(object), &guard),
                    false => pc.link_at(id, Version::NONE, one(object), &guard),
                };
                let at = at.map_err(Error::from)?;
                self.pages.insert(object, (id, at));
                at
            }
            Step::Link { object } | Step::Replace { object } => {
                let page = self.pages.get_mut(&object).ok_or("a step on an object that is not there")?;
                let at = match step {
                    Step::Link { .. } => pc.link_at(page.0, page.1, one(object), &guard),
                    _ => pc.replace_at(page.0, page.1, one(object), &guard),
                };
                page.1 = at.map_err(Error::from)?;
                page.1
            }
            Step::Free { object } => {
                let (id, at) = self.pages.remove(&object).ok_or("a free of an object that is not there")?;
                pc.free_at(id, at, &guard).map_err(Error::from)?
            }
            Step::Share => self.share(number)?,
        };
        self.plan.advance();
        Ok(at)
    }

    /// Links to the shared page, whoever else does; where it is long, writes it anew with the last entry of each thread.
    fn share(&self, number: u64) -> Result<Version, Failure> {
        let guard = self.pc.pin();
        let mine = entry(shared(self.thread), number);
        loop {
            let (page, token) = self.pc.get(self.shared, &guard)?;
            let done = match page.len() < SHARED_MAX {
                true => self.pc.link_at(self.shared, version(token), vec![mine.clone()], &guard),
                false => {
                    let mut last: Vec<Entry> = (0..THREADS)
                        .filter_map(|thread| page.iter().rfind(|entry| entry.page == shared(thread)).cloned())
                        .filter(|entry| entry.page != mine.page)
                        .collect();
                    last.push(mine.clone());
                    self.pc.replace_at(self.shared, version(token), last, &guard)
                }
            };
            match done {
                Ok(at) => return Ok(at),
                Err(Rejected::Conflict { .. }) => {}
                Err(other) => return Err(Error::from(other).into()),
            }
        }
    }
}
