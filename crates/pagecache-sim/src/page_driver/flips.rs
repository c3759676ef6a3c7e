//! Bits turned over in the files of a store that is not open: the right pages or a typed refusal, never anything else.

use std::fmt;

use pagecache::crossbeam_epoch::{Collector, Guard, LocalHandle};
use pagecache::{Error, Materializer, PageCache, PageId, PageState, version};

use super::check::same;
use super::op::{Bytes, Concat};
use super::{PageWorld, builder};
use crate::disk::SimDisk;
use crate::driver::{Checked, Violation, World, claim};
use crate::page_model::{Page, PageModel};

/// How often each answer came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flips {
    /// Bits turned over.
    pub tried: u64,
    /// All pages, as written.
    pub right: u64,
    /// The start refused with `Corrupt`.
    pub corrupt: u64,
    /// The start refused with `Incompatible`.
    pub incompatible: u64,
    /// The start went well; one page or more answered `Corrupt`, all others as written.
    pub pages_corrupt: u64,
}

impl fmt::Display for Flips {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Flips { tried, right, corrupt, incompatible, pages_corrupt } = self;
        write!(f, "{tried} flips: {right} right, {corrupt} corrupt, {incompatible} incompatible, ")?;
        write!(f, "{pages_corrupt} with a corrupt page")
    }
}

/// When a bit turns over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Before the store is opened.
    Closed,
    /// While it is open, and before any page was read.
    Open,
}

/// Turns over each of these bits of a file of a closed world, one at a time, opens the store read only and reads every page.
/// `flips` is counted up.
///
/// # Errors
/// Another page, a silent loss, or another error.
pub fn flip_bits(
    world: &PageWorld,
    name: &str,
    bits: impl IntoIterator<Item = u64>,
    moment: Moment,
    flips: &mut Flips,
) -> Checked {
    claim(!world.is_open(), || "a store is open whose bits are to be turned over".to_owned())?;
    let disk = &world.disk;
    let handle = Collector::new().register();
    let len = disk.read_file(name).len() as u64 * 8;
    for bit in bits.into_iter().take_while(|bit| *bit < len) {
        flips.tried += 1;
        let outcome = flip_one(disk, name, bit, moment, &handle, &world.model, flips);
        outcome.map_err(|broken| broken.within(format!("bit {} of byte {} of {name}", bit % 8, bit / 8)))?;
    }
    Ok(())
}

fn flip_one(
    disk: &SimDisk,
    name: &str,
    bit: u64,
    moment: Moment,
    handle: &LocalHandle,
    model: &PageModel,
    flips: &mut Flips,
) -> Checked {
    let config = builder(disk).collector(handle.collector().clone()).read_only(true);
    let flipped = Flipped { disk, name, bit };
    let started = match moment {
        Moment::Closed => {
            flipped.turn();
            PageCache::<Plain>::start(config.build())
        }
        Moment::Open => {
            let started = PageCache::<Plain>::start(config.build());
            claim(started.is_ok(), || format!("an undamaged store answers {started:?}"))?;
            flipped.turn();
            started
        }
    };
    match started {
        Ok(pages) => match read_all(&pages, &handle.pin(), model)? {
            0 => flips.right += 1,
            _ => flips.pages_corrupt += 1,
        },
        Err(Error::Corrupt(_)) => flips.corrupt += 1,
        Err(Error::Incompatible { .. }) => flips.incompatible += 1,
        Err(other) => return Err(Violation::new(format!("a damaged store answers {other}"))),
    }
    Ok(())
}

/// As [`Concat`], without a look at every fragment at the start: half a million starts take long enough.
struct Plain;

impl Materializer for Plain {
    type PageFrag = Bytes;
    type Recovery = u64;

    const RECOVERS: bool = false;

    fn new(_: &Option<u64>) -> Plain {
        Plain
    }

    fn merge(&self, frags: &[&Bytes]) -> Bytes {
        Concat.merge(frags)
    }

    fn recover(&self, _: &Bytes) -> Option<u64> {
        None
    }
}

/// Turns the bit back in the end.
struct Flipped<'a> {
    disk: &'a SimDisk,
    name: &'a str,
    bit: u64,
}

impl Flipped<'_> {
    fn turn(&self) {
        self.disk.flip_bit(self.name, self.bit);
    }
}

impl Drop for Flipped<'_> {
    fn drop(&mut self) {
        self.turn();
    }
}

/// How many pages are corrupt, where all others are as they should be.
fn read_all(pages: &PageCache<Plain>, guard: &Guard, model: &PageModel) -> Result<u64, Violation> {
    let mut corrupt = 0;
    for id in (0..model.high_water() + 1).map(PageId) {
        match (model.page(id), pages.get(id, guard)) {
            (Some(Page::Live { .. }), Err(Error::Corrupt(at))) if at.page == Some(id) => corrupt += 1,
            (Some(Page::Live { version: at, bodies }), Ok((page, token))) => {
                claim(version(token) == *at, || format!("{id} is {}, and {at} is its version", version(token)))?;
                let same = same(bodies, [&*page].into_iter());
                same.map_err(|differs| Violation::new(format!("{id}: {differs}")))?;
            }
            (Some(Page::Empty(None)), Err(Error::NoPage { state: PageState::Unallocated, .. })) => {}
            (_, Err(Error::NoPage { state, .. })) if state == model.state(id) => {}
            (_, Err(other)) => return Err(Violation::new(format!("{id} answers {other}"))),
            (_, Ok(_)) => return Err(Violation::new(format!("{id} is there, which is {:?}", model.state(id)))),
        }
    }
    Ok(corrupt)
}

/// A closed store in one segment: whole pages, chains, an extent, a page that was written anew, freed and used ids, several
/// flushes, the last of which is of one record.
///
/// # Errors
/// A broken promise: there is none on a disk without faults.
pub fn closed_store() -> Result<PageWorld, Violation> {
    use super::PageOp::{Alloc, Flush, Free, Link, LinkMany, New, Replace};
    let mut world = PageWorld::new(SimDisk::new(13), 13);
    world.open()?;
    let ops = [New(17), New(300), Flush, Link(0, 40), Free(1), Flush, New(127), New(16_500), New(1000), Link(0, 128)];
    let rest = [LinkMany(3, 70), Replace(2, 900), Link(0, 200), Alloc, Flush, Link(2, 16)];
    for op in ops.into_iter().chain(rest) {
        world.apply(&op)?;
    }
    world.close()?;
    Ok(world)
}
