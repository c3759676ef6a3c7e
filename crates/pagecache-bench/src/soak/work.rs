//! What the threads of a soak do: load, then all kinds of updates and reads, then a look at every page. Each read is held against the
//! model.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use pagecache::{Error, PageCache, PageId, PageState, Version};
use pagecache_sim::rng::Rng;

use super::content::{Stripes, base, check, link};
use super::model::{Holds, Model, Place, Slot};

/// One slot of so many has long pages.
const LONG_EVERY: u32 = 2048;

/// The shortest and longest change of most pages, and what they grow to.
const SHORT: (u64, u64) = (100, 8 << 10);
const PAGE_MAX: u64 = 16 << 10;

/// The shortest and longest of the long ones.
pub const LONG: (u64, u64) = (100 << 10, 3 << 20);

/// Bytes that a page has on the average, long ones included, by the draws below: what room in the model is made for.
pub const PAGE_MEAN: u64 = 6000;

/// What was done, in numbers.
#[derive(Debug, Default)]
pub struct Counts {
    /// Pages read and compared in the steady state.
    pub gets: AtomicU64,
    /// Changes put on top; where a page would grow too long by it, it was written as a whole.
    pub links: AtomicU64,
    /// Pages written as a whole.
    pub replaces: AtomicU64,
    /// Pages freed, each followed by a new one.
    pub frees: AtomicU64,
    /// Reads of a page that another thread changes.
    pub foreign: AtomicU64,
    /// Pages compared at the end.
    pub checked: AtomicU64,
    /// Bytes that the threads own now: fragments that they give, pages that they got beside the cache.
    pub in_hand: AtomicU64,
}

impl Counts {
    /// Operations of the steady state.
    pub fn steady(&self) -> [u64; 4] {
        [&self.gets, &self.links, &self.replaces, &self.frees].map(|count| count.load(Ordering::Relaxed))
    }
}

impl Counts {
    /// Does something with so many bytes in hand.
    fn with_in_hand<T>(&self, bytes: usize, what: impl FnOnce() -> T) -> T {
        self.in_hand.fetch_add(bytes as u64, Ordering::Relaxed);
        let done = what();
        self.in_hand.fetch_sub(bytes as u64, Ordering::Relaxed);
        done
    }
}

fn one_more(count: &AtomicU64) {
    count.fetch_add(1, Ordering::Relaxed);
}

/// A thread: it alone changes the slots whose remainder by `threads` is `thread`.
pub struct Worker<'a> {
    cache: &'a PageCache<Stripes>,
    model: &'a Model,
    counts: &'a Counts,
    thread: u32,
    threads: u32,
    /// Slots of its own that have a page.
    own: u32,
    rng: Rng,
}

impl<'a> Worker<'a> {
    /// A thread that has done nothing.
    pub fn new(
        cache: &'a PageCache<Stripes>,
        model: &'a Model,
        counts: &'a Counts,
        (thread, threads): (usize, usize),
        seed: u64,
    ) -> Worker<'a> {
        let rng = Rng::new(seed.wrapping_mul(1000).wrapping_add(thread as u64));
        Worker { cache, model, counts, thread: thread as u32, threads: threads as u32, own: 0, rng }
    }

    /// Makes pages until all threads together have given so many bytes. They are as long as those that the steady state makes: half of
    /// them with a link, half of these with another.
    ///
    /// # Errors
    /// What the store refused.
    pub fn load(&mut self, data: u64, stop: &AtomicBool) -> Result<(), String> {
        while self.model.bytes() < data && !stop.load(Ordering::Relaxed) {
            let at = self.own * self.threads + self.thread;
            if at as usize >= self.model.room() {
                return Err(format!("the model has no room for more than {at} pages"));
            }
            self.enter(at)?;
            self.own += 1;
            while self.rng.one_in(2) {
                self.link(at)?;
            }
        }
        Ok(())
    }

    /// Reads and updates until it is told to stop: get 50 %, link 25 %, replace 20 %, free and allocate 5 %.
    ///
    /// # Errors
    /// What the store refused, and what it held that it should not.
    pub fn steady(&mut self, stop: &AtomicBool) -> Result<(), String> {
        while !stop.load(Ordering::Relaxed) {
            let at = self.draw() * self.threads + self.thread;
            let done = match self.rng.below(100) {
                0..50 => {
                    // A quarter of the reads are of pages that others may change meanwhile.
                    let of_any = self.rng.one_in(4);
                    let other = if of_any { self.rng.below(u64::from(self.threads)) as u32 } else { self.thread };
                    self.get(at - self.thread + other)?;
                    &self.counts.gets
                }
                50..75 => {
                    self.link(at)?;
                    &self.counts.links
                }
                75..95 => {
                    self.replace(at)?;
                    &self.counts.replaces
                }
                _ => {
                    self.free(at)?;
                    self.enter(at)?;
                    &self.counts.frees
                }
            };
            one_more(done);
        }
        Ok(())
    }

    /// Compares every page of its own.
    ///
    /// # Errors
    /// As for [`steady`](Self::steady).
    pub fn compare(&mut self, stop: &AtomicBool) -> Result<(), String> {
        for at in 0..self.own {
            if stop.load(Ordering::Relaxed) {
                return Ok(());
            }
            self.get(at * self.threads + self.thread)?;
            one_more(&self.counts.checked);
        }
        Ok(())
    }

    /// One of its own slots, half of the time uniformly and half of it by Zipf's law with exponent .99, ranks scattered.
    fn draw(&mut self) -> u32 {
        let own = u64::from(self.own.max(1));
        if self.rng.one_in(2) {
            return self.rng.below(own) as u32;
        }
        // The continuous law, inverted: no table of weights.
        let part = (self.rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        let rank = (((own as f64).powf(0.01) - 1.0) * part + 1.0).powf(100.0) as u64 - 1;
        // A prime far above any number of slots: each rank has a place of its own.
        (rank.wrapping_mul(2_654_435_761) % own) as u32
    }

    /// A length, log-uniform between two.
    fn between(&mut self, (least, most): (u64, u64)) -> u64 {
        let part = (self.rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        (least as f64 * (most as f64 / least as f64).powf(part)) as u64
    }

    /// The length of a whole page. Most are uniform, so that there is something of every length.
    fn len_of_base(&mut self, at: u32) -> usize {
        let is_long = (at / self.threads).is_multiple_of(LONG_EVERY);
        (if is_long { self.between(LONG) } else { SHORT.0 + self.rng.below(SHORT.1 - SHORT.0 + 1) }) as usize
    }

    fn id(&self, at: u32) -> Result<PageId, String> {
        self.model.slot(at).place().id().ok_or_else(|| format!("slot {at} has no page: a fault of the bench"))
    }

    fn enter(&mut self, at: u32) -> Result<(), String> {
        let len = self.len_of_base(at);
        let change = self.model.slot(at).holds().change + 1;
        let guard = self.cache.pin();
        let id = self.cache.try_allocate().map_err(|error| format!("allocate: {error}"))?;
        let written =
            self.counts.with_in_hand(len, || self.cache.replace_at(id, Version::NONE, base(at, change, len), &guard));
        let version =
            written.map_err(|refused| format!("first replace of page {id}, slot {at}: {}", refused.error()))?;
        self.model.enter(at, id, Holds { change, stripes: 1, len: len as u32 }, version);
        Ok(())
    }

    fn replace(&mut self, at: u32) -> Result<(), String> {
        let (id, len, slot) = (self.id(at)?, self.len_of_base(at), self.model.slot(at));
        let holds = Holds { change: slot.holds().change + 1, stripes: 1, len: len as u32 };
        let guard = self.cache.pin();
        let written = self
            .counts
            .with_in_hand(len, || self.cache.replace_at(id, slot.version(), base(at, holds.change, len), &guard));
        let version = written.map_err(|refused| format!("replace of page {id}, slot {at}: {}", refused.error()))?;
        self.model.change(at, holds, version);
        Ok(())
    }

    /// Puts a change on top, where the page does not grow too long by it; else the page is written anew.
    fn link(&mut self, at: u32) -> Result<(), String> {
        let len = self.between(SHORT);
        let (id, slot) = (self.id(at)?, self.model.slot(at));
        let before = slot.holds();
        let most = if (at / self.threads).is_multiple_of(LONG_EVERY) { LONG.1 + PAGE_MAX } else { PAGE_MAX };
        if u64::from(before.len) + len > most || before.stripes == u8::MAX {
            return self.replace(at);
        }
        let holds = Holds { change: before.change + 1, stripes: before.stripes + 1, len: before.len + len as u32 };
        let guard = self.cache.pin();
        let written = self.counts.with_in_hand(len as usize, || {
            self.cache.link_at(id, slot.version(), link(at, holds.change, len as usize), &guard)
        });
        let version = written.map_err(|refused| format!("link to page {id}, slot {at}: {}", refused.error()))?;
        self.model.change(at, holds, version);
        Ok(())
    }

    fn free(&mut self, at: u32) -> Result<(), String> {
        let (id, version) = (self.id(at)?, self.model.slot(at).version());
        self.model.leave(at);
        let guard = self.cache.pin();
        self.cache
            .free_at(id, version, &guard)
            .map_err(|refused| format!("free of page {id}, slot {at}: {}", refused.error()))?;
        Ok(())
    }

    fn get(&self, at: u32) -> Result<(), String> {
        let slot = self.model.slot(at);
        let is_own = at % self.threads == self.thread;
        let (place, before) = (slot.place(), slot.holds());
        if !is_own {
            one_more(&self.counts.foreign);
        }
        // A slot of another thread may have no page just now, or none yet.
        let Some(id) = place.id() else { return Ok(()) };
        let guard = self.cache.pin();
        let held = match self.cache.get(id, &guard) {
            Ok((page, _)) => {
                let own = if page.is_borrowed() { 0 } else { page.0.len() };
                self.counts.with_in_hand(own, || check(&page.0)).map(|found| (found, page.0.len()))
            }
            Err(Error::NoPage { state: PageState::Free(_) | PageState::Empty, .. }) if moved_on(slot, place) => {
                return Ok(());
            }
            Err(error) => Err(error.to_string()),
        };
        let said = |what: &str| format!("page {id}, slot {at}, {before:?}: {what}");
        let (found, len) = held.map_err(|what| said(&what))?;
        let as_known = (found.slot, found.change, found.stripes, len as u64)
            == (at, before.change, u32::from(before.stripes), u64::from(before.len));
        if as_known || !is_own && (moved_on(slot, place) || found.slot == at && is_between(slot, before, found.change))
        {
            return Ok(());
        }
        Err(said(&format!("holds {found:?}, {len} bytes")))
    }
}

/// Whether a slot has another page now.
fn moved_on(slot: &Slot, place: Place) -> bool {
    slot.place() != place
}

/// Whether a change is one that the page may have had meanwhile: not older than what was known before, and at most one newer than what
/// is known now.
fn is_between(slot: &Slot, before: Holds, change: u32) -> bool {
    (before.change..=slot.holds().change + 1).contains(&change)
}

#[cfg(test)]
mod tests {
    use pagecache::ConfigBuilder;
    use pagecache::storage::MemoryStorage;

    use super::*;

    const DATA: u64 = 2 << 20;

    /// A store that a thread has loaded, and what that says after something was done to a page behind its back.
    fn compared(harm: impl Fn(&PageCache<Stripes>, &Slot)) -> Result<(), String> {
        let cache = PageCache::start(ConfigBuilder::new().storage(MemoryStorage::new()).build()).expect("a store");
        let (model, counts, stop) = (Model::new(1000), Counts::default(), AtomicBool::new(false));
        let mut worker = Worker::new(&cache, &model, &counts, (0, 1), 1);
        worker.load(DATA, &stop)?;
        assert!(model.bytes() >= DATA && model.pages() == u64::from(worker.own));
        harm(&cache, model.slot(7));
        worker.compare(&stop)
    }

    #[test]
    fn what_a_page_should_not_be_is_found() {
        assert_eq!(compared(|_, _| {}), Ok(()));
        let id = |slot: &Slot| slot.place().id().expect("a page");
        let put = |what: fn(u32) -> crate::workload::Blob| {
            compared(|cache, slot| {
                let guard = cache.pin();
                cache.replace_at(id(slot), slot.version(), what(slot.holds().change), &guard).expect("room");
            })
        };
        // Another page, an older change of this one, the same change at another length.
        for what in [|_| base(8, 1, 100), |change| base(7, change - 1, 100), |change| base(7, change, 17)] {
            assert!(put(what).is_err());
        }
        let lost = compared(|cache, slot| {
            cache.free_at(id(slot), slot.version(), &cache.pin()).expect("room");
        });
        assert!(lost.is_err(), "a page that is gone");
    }

    #[test]
    fn draws_are_of_all_slots_and_of_few_often() {
        let cache = PageCache::start(ConfigBuilder::new().storage(MemoryStorage::new()).build()).expect("a store");
        let (model, counts) = (Model::new(1), Counts::default());
        let mut worker = Worker::new(&cache, &model, &counts, (0, 1), 1);
        worker.own = 1000;
        let mut drawn = vec![0u32; 1000];
        (0..100_000).for_each(|_| drawn[worker.draw() as usize] += 1);
        assert!(drawn.iter().all(|count| *count > 10) && drawn.iter().any(|count| *count > 4000));
    }
}
