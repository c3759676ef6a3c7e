//! Guards that were taken through the store: so that the one that is held longest can be named.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::panic::Location;
use std::ptr;

use crossbeam_epoch::Guard;
use crossbeam_utils::CachePadded;

use crate::base::sync::{AtomicPtr, AtomicU64, Ordering, thread_ordinal};

/// Places to register at, for one thread each: the first so many of the process. A guard is taken and dropped for each page that is read, and an atomic
/// exchange of its own waits for the reads before it.
const OWN: usize = if cfg!(any(loom, shuttle)) { 2 } else { 64 };

/// Those for all others. Threads that share one are told apart no more while both hold a guard: the older one counts for both.
const SHARED: usize = if cfg!(any(loom, shuttle)) { 2 } else { 32 };

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
    /// Whether one thread alone writes here.
    own: bool,
}

impl Place {
    fn new(own: bool) -> CachePadded<Place> {
        CachePadded::new(Place { held: AtomicU64::new(0), taken_at: AtomicPtr::new(ptr::null_mut()), own })
    }

    /// Changes what is held. Returns what it was.
    fn change(&self, to: impl Fn(Held) -> Held) -> Held {
        let mut was = self.held.load(Ordering::Relaxed);
        if self.own {
            self.held.store(to(Held(was)).0, Ordering::Relaxed);
            return Held(was);
        }
        while let Err(found) =
            self.held.compare_exchange_weak(was, to(Held(was)).0, Ordering::Relaxed, Ordering::Relaxed)
        {
            was = found;
        }
        Held(was)
    }
}

/// Where guards are registered. All orders relaxed: looks for people, nothing is ordered by them. What `taken_at` points to is
/// constant.
#[derive(Debug)]
pub(crate) struct Pins {
    own: [CachePadded<Place>; OWN],
    shared: [CachePadded<Place>; SHARED],
    clock: Clock,
}

/// Milliseconds, a few of them more or less: it is asked for each guard.
#[derive(Debug)]
struct Clock {
    #[cfg(not(target_os = "linux"))]
    started: std::time::Instant,
}

impl Clock {
    #[cfg(target_os = "linux")]
    fn new() -> Clock {
        Clock {}
    }

    /// As of the kernel's last tick, which costs a load and no look at the processor's counter.
    #[cfg(target_os = "linux")]
    fn now(&self) -> u64 {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::MonotonicCoarse);
        now.tv_sec as u64 * 1000 + now.tv_nsec as u64 / 1_000_000
    }

    #[cfg(not(target_os = "linux"))]
    fn new() -> Clock {
        Clock { started: std::time::Instant::now() }
    }

    #[cfg(not(target_os = "linux"))]
    fn now(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }
}

/// The guard that is held longest, of those that were taken by [`PageCache::pin`](crate::PageCache::pin).
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct OldestGuard {
    /// How long it has been held, in milliseconds, about: the system's clock may go in steps of 10.
    pub age_ms: u64,
    /// The place in the source where it was taken: file, line, column.
    pub taken_at: String,
}

impl Pins {
    pub(crate) fn new() -> Pins {
        let [own, shared] = [true, false];
        Pins {
            own: std::array::from_fn(|_| Place::new(own)),
            shared: std::array::from_fn(|_| Place::new(shared)),
            clock: Clock::new(),
        }
    }

    /// Registers a guard.
    #[track_caller]
    pub(crate) fn register(&self, guard: Guard) -> Pin<'_> {
        // No two threads ever have the same ordinal, and a guard is dropped by the thread that took it.
        let nth = thread_ordinal() as usize;
        let place = self.own.get(nth).or_else(|| self.shared.get(nth % SHARED)).unwrap_or(&self.shared[0]);
        let now = self.clock.now();
        if place.change(|held| held.more(now)).count() == 0 {
            place.taken_at.store(ptr::from_ref(Location::caller()).cast_mut(), Ordering::Relaxed);
        }
        Pin { guard, place }
    }

    /// The guard that is held longest, if any is.
    pub(crate) fn oldest(&self) -> Option<OldestGuard> {
        let held = |place: &&CachePadded<Place>| Held(place.held.load(Ordering::Relaxed));
        let places = self.own.iter().chain(&self.shared);
        let oldest = places.filter(|place| held(place).count() > 0).min_by_key(|place| held(place).since())?;
        let at = oldest.taken_at.load(Ordering::Relaxed);
        // SAFETY: null, or a location of the program, which lives for ever and never changes.
        let taken_at = unsafe { at.as_ref() }.map(Location::to_string).unwrap_or_default();
        Some(OldestGuard { age_ms: self.clock.now().saturating_sub(held(&oldest).since()), taken_at })
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
        self.place.change(Held::less);
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
                assert!(oldest.age_ms + 10 >= LONG.as_millis() as u64, "{oldest:?}");
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
