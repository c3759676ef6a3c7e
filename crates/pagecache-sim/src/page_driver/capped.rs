//! The same below a cap on disk: updates may be refused for want of room, and then nothing has happened; frees and all upkeep never are.

use pagecache::{Error, PageCache};

use super::{Concat, PageOp, PageWorld, Pick, SEGMENT, Update};
use crate::disk::SimDisk;
use crate::driver::seeded::Swarm;
use crate::driver::{Checked, Mood, Step, Trust, Upkeep, Violation, World, claim};
use crate::rng::Rng;

/// Segments that there may be, and the superblocks.
const CAP: u64 = 20 * SEGMENT + 2 * 4096;

/// Turns after which there must be room where nothing is in use.
const TURNS: usize = 8;

/// A page cache below a cap that is met soon.
#[derive(Debug)]
pub struct Capped(PageWorld);

impl World for Capped {
    type Op = PageOp;

    fn new(disk: SimDisk, seed: u64) -> Capped {
        let mut world = PageWorld::new(disk, seed);
        world.cap = Some(CAP);
        Capped(world)
    }

    fn over(&self, disk: SimDisk) -> Capped {
        Capped(self.0.over(disk))
    }

    fn disk(&self) -> &SimDisk {
        self.0.disk()
    }

    fn is_open(&self) -> bool {
        self.0.is_open()
    }

    fn trust(&self) -> &Trust {
        self.0.trust()
    }

    fn start(&mut self) -> Result<bool, Violation> {
        self.0.start()
    }

    fn close(&mut self) -> Checked {
        self.0.close()
    }

    fn apply(&mut self, op: &PageOp) -> Checked {
        self.0.apply(op)
    }

    /// Where there is no room, pages are freed until there is.
    fn prove(&mut self) -> Checked {
        let Some(pages) = self.0.pages.take() else { return Err(Violation::new("a closed store")) };
        let proven = self.0.make_room(&pages).and_then(|()| self.0.write_and_read(&pages));
        self.0.pages = Some(pages);
        proven
    }

    fn mood(&mut self) -> Result<Mood, Violation> {
        self.0.mood()
    }

    fn upkeep(&mut self) -> Upkeep {
        self.0.upkeep()
    }
}

impl Swarm for Capped {
    /// As without a cap, on a sound disk, with much more that is long and comes to stay.
    fn plan(seed: u64, steps: usize) -> Vec<Step<PageOp>> {
        let mut rng = Rng::new(seed ^ 0xca99_ed00);
        let more = |step: Step<PageOp>| {
            let step = match step {
                Step::Fault(_) | Step::Room(_) | Step::Heal => Step::Do(PageOp::New(9000)),
                // What stays for a backup takes the room of everything else.
                Step::Do(PageOp::Pin | PageOp::Unpin) => Step::Do(PageOp::Clean),
                step => step,
            };
            let pick: Pick = rng.index(40);
            let next = match rng.index(12) {
                0 => PageOp::Flood(6000),
                1 | 2 => PageOp::New(16_000),
                3..6 => PageOp::Free(pick),
                6 => PageOp::Replace(pick, 9000),
                7 => PageOp::Tick,
                _ => return vec![step],
            };
            vec![step, Step::Do(next)]
        };
        PageWorld::plan(seed, steps).into_iter().flat_map(more).collect()
    }
}

impl PageWorld {
    /// Whether the cap on disk has refused an update. Frees go on whatever the cap.
    pub(super) fn is_capped_out<T>(&mut self, answer: &Result<T, Error>, update: Update) -> bool {
        match answer {
            Err(Error::NoSpace { what: "max_disk_bytes" }) if self.cap.is_some() && update != Update::Free => {
                self.upkeep.capped += 1;
                self.is_full = true;
                true
            }
            Ok(_) if update != Update::Free => {
                self.upkeep.lifted += u64::from(std::mem::take(&mut self.is_full));
                false
            }
            _ => false,
        }
    }

    /// Frees pages, and has what they took cleaned away, until an update finds room. It does at the latest where nothing is in use.
    fn make_room(&mut self, pages: &PageCache<Concat>) -> Checked {
        let mut turns = 0;
        while !self.write_one(pages)? {
            let live = self.model.live().count();
            for _ in 0..live.div_ceil(2) {
                self.perform(pages, PageOp::Free(0))?;
            }
            for op in [PageOp::Flush, PageOp::Checkpoint, PageOp::Clean, PageOp::Tick] {
                self.perform(pages, op)?;
            }
            turns += usize::from(live == 0);
            claim(turns < TURNS, || "there is no room where nothing is in use".to_owned())?;
        }
        Ok(())
    }
}
