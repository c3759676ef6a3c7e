//! Guards that were taken through the store: so that the one that is held longest can be named.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::panic::Location;
use std::ptr;
use std::time::Instant;

use crossbeam_epoch::Guard;
use crossbeam_utils::CachePadded;

use crate::base::sync::{AtomicPtr, AtomicU64, Ordering, thread_ordinal};

/// Places to register at. Threads that share one are told apart no more while both hold a guard: the older one counts for both.
const PLACES: usize = if cfg!(any(loom, shuttle)) { 2 } else { 64 };

const COUNT_BITS: u32 = 16;

/// Guards held now: how many in the low bits, above them when the first of them was taken, in milliseconds since the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Held(u64);

impl Held {
    fn count(self) -> u64 {
        self.0 & ((1 << COUNT_BITS) - 1)
    }

    fn since(self) -> u64 {
        self.0 >> COUNT_BITS
    }

    /// One more, taken now.
    fn more(self, now: u64) -> Held {
        match self.count() {
            0 => Held(now << COUNT_BITS | 1),
            // As many as there is room for: those beyond are as old as these.
            count if count + 1 == 1 << COUNT_BITS => self,
            _ => Held(self.0 + 1),
        }
    }

    fn less(self) -> Held {
        Held(self.0 - self.count().min(1))
    }
}

#[derive(Debug)]
struct Place {
    held: AtomicU64,
    /// Where the first of them was taken.
    taken_at: AtomicPtr<Location<'static>>,
}

impl Place {
    fn new() -> Place {
        Place { held: AtomicU64::new(0), taken_at: AtomicPtr::new(ptr::null_mut()) }
    }
}

/// Where guards are registered. All orders relaxed: looks for people, nothing is ordered by them. What `taken_at` points to is
/// constant.
#[derive(Debug)]
pub(crate) struct Pins {
    places: [CachePadded<Place>; PLACES],
    started: Instant,
}

/// The guard that is held longest, of those that were taken by [`PageCache::pin`](crate::PageCache::pin).
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct OldestGuard {
    /// How long it has been held, in milliseconds.
    pub age_ms: u64,
    /// The place in the source where it was taken: file, line, column.
    pub taken_at: String,
}

impl Pins {
    pub(crate) fn new() -> Pins {
        Pins { places: std::array::from_fn(|_| CachePadded::new(Place::new())), started: Instant::now() }
    }

    fn now(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    /// Registers a guard.
    #[track_caller]
    pub(crate) fn register(&self, guard: Guard) -> Pin<'_> {
        let nth = thread_ordinal() as usize % PLACES;
        let place = self.places.get(nth).unwrap_or(&self.places[0]);
        let now = self.now();
        let mut held = place.held.load(Ordering::Relaxed);
        while let Err(found) =
            place.held.compare_exchange_weak(held, Held(held).more(now).0, Ordering::Relaxed, Ordering::Relaxed)
        {
            held = found;
        }
        if Held(held).count() == 0 {
            place.taken_at.store(ptr::from_ref(Location::caller()).cast_mut(), Ordering::Relaxed);
        }
        Pin { guard, place }
    }

    /// The guard that is held longest, if any is.
    pub(crate) fn oldest(&self) -> Option<OldestGuard> {
        let held = |place: &&CachePadded<Place>| Held(place.held.load(Ordering::Relaxed));
        let oldest =
            self.places.iter().filter(|place| held(place).count() > 0).min_by_key(|place| held(place).since())?;
        let at = oldest.taken_at.load(Ordering::Relaxed);
        // SAFETY: null, or a location of the program, which lives for ever and never changes.
        let taken_at = unsafe { at.as_ref() }.map(Location::to_string).unwrap_or_default();
        Some(OldestGuard { age_ms: self.now().saturating_sub(held(&oldest).since()), taken_at })
    }
}

/// A guard of the store's collector, registered while it is held: [`Stats`](crate::Stats) names the oldest. It is a
/// [`crossbeam_epoch::Guard`] to whoever asks for one.
pub struct Pin<'a> {
    guard: Guard,
    place: &'a Place,
}

impl fmt::Debug for Pin<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.guard.fmt(f)
    }
}

impl Deref for Pin<'_> {
    type Target = Guard;

    fn deref(&self) -> &Guard {
        &self.guard
    }
}

impl DerefMut for Pin<'_> {
    fn deref_mut(&mut self) -> &mut Guard {
        &mut self.guard
    }
}

impl Drop for Pin<'_> {
    fn drop(&mut self) {
        let held = &self.place.held;
        let mut now = held.load(Ordering::Relaxed);
        while let Err(found) = held.compare_exchange_weak(now, Held(now).less().0, Ordering::Relaxed, Ordering::Relaxed)
        {
            now = found;
        }
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use std::time::Duration;

    use super::*;

    const LONG: Duration = Duration::from_millis(30);

    #[test]
    fn the_oldest_guard_is_named_by_where_it_was_taken() {
        let pins = Pins::new();
        assert_eq!(pins.oldest(), None);
        let collector = crossbeam_epoch::Collector::new();
        let pin = || collector.register().pin();
        let line = line!() + 1;
        let first = pins.register(pin());
        std::thread::sleep(LONG);
        let second = pins.register(pin());
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let _other = pins.register(pin());
                let oldest = pins.oldest().unwrap();
                assert!(oldest.age_ms >= LONG.as_millis() as u64, "{oldest:?}");
                assert!(oldest.taken_at.contains(&format!("pins.rs:{line}:")), "{oldest:?}");
            });
        });
        drop(first);
        assert!(pins.oldest().is_some());
        drop(second);
        assert_eq!(pins.oldest(), None);
    }

    #[test]
    fn a_count_that_is_full_stays_and_one_that_is_empty_does() {
        let full = Held(7 << COUNT_BITS | ((1 << COUNT_BITS) - 1));
        assert_eq!((full.more(9), full.since()), (full, 7));
        assert_eq!(Held(7 << COUNT_BITS).less().count(), 0);
        assert_eq!(Held(7 << COUNT_BITS).more(9).since(), 9);
    }
}
