//! The child of the tour: four threads that link fragments to their own pages and say on a pipe what is durable.
//!
//! It speaks in lines: `opening` before it opens the store, `open` when it has, and `ack PAGE NUMBER` after each
//! `make_stable`. It runs until it is killed, or nobody listens any more.

use std::path::PathBuf;
use std::sync::Barrier;
use std::time::Duration;

use pagecache::{ConfigBuilder, PageCache, PageId, Version, version};

use super::ledger::{Entries, Entry, THREADS};
use super::slow::SlowDisk;
use crate::child::say;
use crate::{Failure, SOUND};

/// Pages of one thread.
const PAGES: u64 = 8;

#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Args {
    /// The directory of the store.
    #[arg(long)]
    pub(super) store: PathBuf,
    /// The most bytes of filler in a fragment.
    #[arg(long)]
    pub(super) filler: u64,
    /// The most fragments between two acknowledgements of a thread.
    #[arg(long)]
    pub(super) batch: u64,
    /// Work on a slow disk, and kill this process at once when something is acknowledged.
    #[arg(long)]
    pub(super) die: bool,
    /// Plant the bug of a store that acknowledges before it has written.
    #[arg(long)]
    pub(super) lie: bool,
}

impl Args {
    /// The same, as arguments of a command line.
    pub(super) fn to_line(&self) -> Vec<std::ffi::OsString> {
        let mut line: Vec<std::ffi::OsString> = vec!["tour-writer".into(), "--store".into(), self.store.clone().into()];
        line.extend(["--filler".into(), self.filler.to_string().into()]);
        line.extend(["--batch".into(), self.batch.to_string().into()]);
        line.extend(self.die.then(|| "--die".into()));
        line.extend(self.lie.then(|| "--lie".into()));
        line
    }
}

pub(crate) fn run(args: &Args) -> Result<u8, Failure> {
    let disk = SlowDisk::new(&args.store)?;
    say("opening");
    let pc = PageCache::<Entries>::start(ConfigBuilder::new().storage(disk.clone()).build())?;
    begin(&pc, args.filler)?;
    say("open");
    if args.die {
        disk.slow_down();
    }
    if args.lie {
        lie()?;
    }
    let (pc, linked) = (&pc, &Barrier::new(THREADS as usize));
    let work = |thread| if args.die { die_in_a_round(pc, thread, args, linked) } else { write(pc, thread, args) };
    std::thread::scope(|scope| -> Result<(), Failure> {
        let work = &work;
        let threads: Vec<_> = (0..THREADS).map(|thread| scope.spawn(move || work(thread))).collect();
        for thread in threads {
            thread.join().map_err(|_| "a writing thread panicked")??;
        }
        Ok(())
    })?;
    Ok(SOUND)
}

/// Gives every page its first entry, durably.
fn begin(pc: &PageCache<Entries>, filler: u64) -> Result<(), Failure> {
    let guard = pc.pin();
    let mut begun = Vec::new();
    for page in pc.page_ids().count() as u64..THREADS * PAGES {
        let id = pc.allocate(&guard);
        if id != PageId(page) {
            return Err(format!("{id} came where page {page} was due").into());
        }
        pc.link_at(id, Version::NONE, vec![Entry::new(page, 0, filler)], &guard).map_err(pagecache::Error::from)?;
        begun.push(page);
    }
    pc.flush()?;
    for page in begun {
        say(&format!("ack {page} 0"));
    }
    Ok(())
}

/// A page, its next number and its version.
struct Own {
    page: u64,
    next: u64,
    at: Version,
}

impl Own {
    fn load(pc: &PageCache<Entries>, page: u64) -> Result<Own, Failure> {
        let guard = pc.pin();
        let (entries, token) = pc.get(PageId(page), &guard)?;
        Ok(Own { page, next: entries.len() as u64, at: version(token) })
    }

    fn link(&mut self, pc: &PageCache<Entries>, count: u64, filler: u64) -> Result<(), Failure> {
        for _ in 0..count {
            let guard = pc.pin();
            let entry = vec![Entry::new(self.page, self.next, filler)];
            self.at = pc.link_at(PageId(self.page), self.at, entry, &guard).map_err(pagecache::Error::from)?;
            self.next += 1;
        }
        Ok(())
    }

    /// Only after everything linked is durable.
    fn acknowledge(&self) {
        say(&format!("ack {} {}", self.page, self.next - 1));
    }
}

/// Adds to the pages of one thread, for ever.
fn write(pc: &PageCache<Entries>, thread: u64, args: &Args) -> Result<(), Failure> {
    let pages = (thread..THREADS * PAGES).step_by(THREADS as usize);
    let mut own = pages.map(|page| Own::load(pc, page)).collect::<Result<Vec<_>, _>>()?;
    for turn in 0u64.. {
        let page = &mut own[(turn % PAGES) as usize];
        page.link(pc, 1 + turn * 7 % args.batch, args.filler)?;
        pc.make_stable(page.at)?;
        page.acknowledge();
    }
    Ok(())
}

/// All threads link, one leads a round, and whoever learns first that its own fragments are durable says so and dies: on a disk
/// this slow, a store that lies has not written yet.
fn die_in_a_round(pc: &PageCache<Entries>, thread: u64, args: &Args, linked: &Barrier) -> Result<(), Failure> {
    let mut page = Own::load(pc, thread)?;
    page.link(pc, args.batch, args.filler)?;
    linked.wait();
    while thread > 0 && pc.stable_lsn().0 <= page.at.0 {
        std::thread::sleep(Duration::from_micros(100));
    }
    pc.make_stable(page.at)?;
    page.acknowledge();
    die();
    Ok(())
}

/// The end of this process, without any last words.
fn die() {
    #[cfg(unix)]
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    std::process::abort();
}

#[cfg(feature = "canary")]
fn lie() -> Result<(), Failure> {
    pagecache::canary::plant(Some(pagecache::canary::Canary::EarlyAcknowledgement));
    Ok(())
}

#[cfg(not(feature = "canary"))]
fn lie() -> Result<(), Failure> {
    Err("built without the feature canary".into())
}
