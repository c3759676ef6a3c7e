//! What a soak holds the store against, and the worst that it met.

use std::fs;

/// Bytes of a page that are in use on disk beside its payload: the head of its record, the rest of its last granule, its entry in a
/// leaf of the map.
const BESIDE: u64 = 24;

/// The limits of a store.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounds {
    /// Bytes of memory that the store was given.
    pub budget: u64,
    /// Part of it that the allocator may have on top.
    pub slack: f64,
    /// Bytes in use for each byte of disk.
    pub fill_target: f64,
    /// Bytes of log, and of the segments of the reserve.
    pub log_limit: u64,
    /// Bytes of the reserve.
    pub reserve: u64,
}

impl Bounds {
    /// Bytes of anonymous memory beyond those of an empty store.
    pub fn memory(&self) -> u64 {
        self.with_slack(self.budget)
    }

    /// So many bytes, and what the allocator may have on top.
    pub fn with_slack(&self, bytes: u64) -> u64 {
        (bytes as f64 * (1.0 + self.slack)) as u64
    }

    /// Bytes of disk of a store that holds so many bytes of payload in so many pages.
    pub fn disk(&self, bytes: u64, pages: u64) -> u64 {
        ((bytes + pages * BESIDE) as f64 / self.fill_target) as u64 + self.log_limit + self.reserve
    }
}

/// The name of the allocator that comes with the system.
pub const SYSTEM: &str = "the system's";

/// The allocator that serves this process, and the part of the budget that it may have on top: a tenth, or a quarter for the system's own.
/// Another one than the system's comes in by `LD_PRELOAD`.
pub fn allocator() -> (&'static str, f64) {
    let maps = fs::read_to_string("/proc/self/maps").expect("the system's account of this process");
    for name in ["mimalloc", "jemalloc", "tcmalloc"] {
        if maps.contains(name) {
            return (name, 0.10);
        }
    }
    (SYSTEM, 0.25)
}

/// The most of something in proportion to what was allowed, and when that was.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Worst {
    /// Seconds since the threads began.
    pub at: f64,
    /// Bytes found.
    pub found: u64,
    /// Bytes allowed.
    pub allowed: u64,
    /// How often more was found than allowed.
    pub broken: u64,
}

impl Worst {
    /// Takes note; says whether it is the worst so far.
    pub fn note(&mut self, at: f64, found: u64, allowed: u64) -> bool {
        let broken = self.broken + u64::from(found > allowed);
        let is_worst = self.allowed == 0 || found as f64 / allowed as f64 > self.part();
        if is_worst {
            *self = Worst { at, found, allowed, broken };
        }
        self.broken = broken;
        is_worst
    }

    /// What was found for each byte allowed.
    pub fn part(&self) -> f64 {
        self.found as f64 / self.allowed.max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_is_by_proportion_and_every_breach_counts() {
        let mut worst = Worst::default();
        assert!(worst.note(0.1, 50, 100));
        assert!(!worst.note(0.2, 80, 200));
        assert!(worst.note(0.3, 120, 100));
        assert!(!worst.note(0.4, 110, 100));
        assert_eq!(worst, Worst { at: 0.3, found: 120, allowed: 100, broken: 2 });
    }

    #[test]
    fn bounds_are_those_of_the_promise() {
        let bounds = Bounds { budget: 1000, slack: 0.25, fill_target: 0.8, log_limit: 64, reserve: 32 };
        assert_eq!((bounds.memory(), bounds.disk(800 - 24, 1)), (1250, 1000 + 64 + 32));
    }
}
