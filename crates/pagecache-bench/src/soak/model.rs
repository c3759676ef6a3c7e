//! What the store has to hold, in 24 bytes a page, all of them there from the beginning.
//!
//! A slot stands for a page; when that is freed another one takes its place. One thread changes a slot, all may look.

use std::sync::atomic::{AtomicU64, Ordering};

use pagecache::{PageId, Version};

/// Bits of a page id.
const ID_BITS: u32 = 36;

/// Where a slot's page is: its id, and which of the slot's pages it is, so that an id that comes back is told from the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place(u64);

impl Place {
    /// A slot without a page.
    pub const NONE: Place = Place(0);

    /// A page that began with a change.
    pub fn new(id: PageId, change: u32) -> Place {
        Place(u64::from(change) << ID_BITS | id.0)
    }

    /// The page, if there is one.
    pub fn id(self) -> Option<PageId> {
        (self != Place::NONE).then_some(PageId(self.0 & ((1 << ID_BITS) - 1)))
    }
}

/// What a slot's page holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holds {
    /// The newest change, counted from 1 through all pages of the slot.
    pub change: u32,
    /// Changes since the last whole one, that one included.
    pub stripes: u8,
    /// Bytes, fewer than 16 MiB.
    pub len: u32,
}

impl Holds {
    fn word(self) -> u64 {
        u64::from(self.change) << 32 | u64::from(self.stripes) << 24 | u64::from(self.len)
    }

    fn of(word: u64) -> Holds {
        Holds { change: (word >> 32) as u32, stripes: (word >> 24) as u8, len: word as u32 & 0xff_ffff }
    }
}

/// A page's place in the model.
///
/// Stores are releases and loads acquires: who has seen a page in the store then sees at least what was known of it before it was
/// written.
#[derive(Debug)]
pub struct Slot {
    place: AtomicU64,
    holds: AtomicU64,
    version: AtomicU64,
}

impl Slot {
    /// Where its page is.
    pub fn place(&self) -> Place {
        Place(self.place.load(Ordering::Acquire))
    }

    /// What its page holds, or the last one held.
    pub fn holds(&self) -> Holds {
        Holds::of(self.holds.load(Ordering::Acquire))
    }

    /// The version of its page; for its own thread.
    pub fn version(&self) -> Version {
        Version(self.version.load(Ordering::Acquire))
    }
}

/// All pages.
#[derive(Debug)]
pub struct Model {
    slots: Vec<Slot>,
    // Relaxed: sums.
    bytes: AtomicU64,
    pages: AtomicU64,
}

impl Model {
    /// Room for some pages.
    pub fn new(slots: usize) -> Model {
        // Each is written, so that the system has given the memory before anything is measured.
        let slot = || Slot { place: AtomicU64::new(0), holds: AtomicU64::new(0), version: AtomicU64::new(0) };
        let slots = (0..slots).map(|_| std::hint::black_box(slot())).collect();
        Model { slots, bytes: AtomicU64::new(0), pages: AtomicU64::new(0) }
    }

    /// How many pages there is room for.
    pub fn room(&self) -> usize {
        self.slots.len()
    }

    /// A page's place.
    pub fn slot(&self, at: u32) -> &Slot {
        &self.slots[at as usize]
    }

    /// Bytes that all pages hold.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Pages that there are.
    pub fn pages(&self) -> u64 {
        self.pages.load(Ordering::Relaxed)
    }

    /// A page is about to be freed.
    pub fn leave(&self, at: u32) {
        let slot = self.slot(at);
        slot.place.store(Place::NONE.0, Ordering::Release);
        self.bytes.fetch_sub(u64::from(slot.holds().len), Ordering::Relaxed);
        self.pages.fetch_sub(1, Ordering::Relaxed);
    }

    /// A new page has its first content.
    pub fn enter(&self, at: u32, id: PageId, holds: Holds, version: Version) {
        let slot = self.slot(at);
        slot.version.store(version.0, Ordering::Release);
        slot.holds.store(holds.word(), Ordering::Release);
        slot.place.store(Place::new(id, holds.change).0, Ordering::Release);
        self.bytes.fetch_add(u64::from(holds.len), Ordering::Relaxed);
        self.pages.fetch_add(1, Ordering::Relaxed);
    }

    /// A page has changed.
    pub fn change(&self, at: u32, holds: Holds, version: Version) {
        let slot = self.slot(at);
        let before = u64::from(slot.holds().len);
        slot.version.store(version.0, Ordering::Release);
        slot.holds.store(holds.word(), Ordering::Release);
        // Modulo 2^64: it may be less than before.
        self.bytes.fetch_add(u64::from(holds.len).wrapping_sub(before), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_hold_what_is_put_into_them() {
        let holds = Holds { change: u32::MAX, stripes: 255, len: (1 << 24) - 1 };
        assert_eq!(Holds::of(holds.word()), holds);
        let (first, second) = (Place::new(PageId(5), 1), Place::new(PageId(5), 9));
        assert_eq!((first.id(), second.id(), first == second), (Some(PageId(5)), Some(PageId(5)), false));
        assert_eq!(Place::NONE.id(), None);
    }

    #[test]
    fn bytes_are_those_of_the_pages_that_there_are() {
        let model = Model::new(2);
        model.enter(1, PageId(0), Holds { change: 1, stripes: 1, len: 100 }, Version(8));
        model.change(1, Holds { change: 2, stripes: 1, len: 40 }, Version(16));
        assert_eq!((model.bytes(), model.pages()), (40, 1));
        model.leave(1);
        assert_eq!((model.bytes(), model.pages()), (0, 0));
    }
}
