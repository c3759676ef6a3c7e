//! A guard that is held for long in the middle of a soak: what it has seen stays, what it keeps is told and named, and goes with it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use pagecache::PageCache;

use super::content::{Stripes, check};

/// From one look to the next.
const LOOK: Duration = Duration::from_millis(50);

/// What is kept must be gone so long after the guard was dropped, or as long as that was held, whichever is longer.
const GONE_AFTER: u64 = 10;

/// So much longer what was gone may still be in the process: it is given back to the system by and by.
const GRACE: Duration = Duration::from_secs(5);

/// Seconds of the steady state that it takes.
pub fn seconds(hold: u64) -> u64 {
    hold + hold.max(GONE_AFTER) + 2 * GRACE.as_secs()
}

/// What came of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Held {
    /// The age of the oldest guard before it was dropped, in milliseconds.
    pub age_ms: u64,
    /// Where that was taken.
    pub taken_at: String,
    /// Bytes of garbage then.
    pub garbage: u64,
    /// Bytes of garbage after.
    pub left: u64,
    /// How long that took.
    pub gone_after: Duration,
}

/// Holds a guard for so many seconds of the steady state, as soon as that begins. `kept` says how many bytes of garbage may be there for it meanwhile.
///
/// # Errors
/// Says what was wrong.
pub fn hold(
    cache: &PageCache<Stripes>,
    seconds: u64,
    phase: &AtomicU64,
    kept: &AtomicU64,
    few: u64,
) -> Result<Held, String> {
    while phase.load(Ordering::Relaxed) == 0 {
        sleep(LOOK);
    }
    let began = Instant::now();
    let guard = cache.pin();
    let id = cache.page_ids().next().ok_or("no page to hold")?.map_err(|error| error.to_string())?;
    let (page, _) = cache.get(id, &guard).map_err(|error| format!("the held page: {error}"))?;
    let seen = page.0.clone();
    while began.elapsed() < Duration::from_secs(seconds) {
        if phase.load(Ordering::Relaxed) > 1 {
            return Err(format!("the steady state was over after {:.1} s of the guard", began.elapsed().as_secs_f64()));
        }
        kept.fetch_max(cache.stats().memory.garbage, Ordering::Relaxed);
        sleep(LOOK);
    }
    if page.0 != seen || check(&page.0).is_err() {
        return Err("what the guard has seen has changed".to_owned());
    }
    let stats = cache.stats();
    let oldest = stats.oldest_guard.ok_or("nobody is said to hold a guard")?;
    drop(page);
    drop(guard);
    let dropped = Instant::now();
    while cache.stats().memory.garbage > few {
        if dropped.elapsed() > Duration::from_secs(seconds.max(GONE_AFTER)) {
            let left = cache.stats().memory.garbage;
            return Err(format!("{left} bytes of garbage are left {:.1} s later", dropped.elapsed().as_secs_f64()));
        }
        sleep(LOOK);
    }
    let (left, gone_after) = (cache.stats().memory.garbage, dropped.elapsed());
    sleep(GRACE);
    kept.store(0, Ordering::Relaxed);
    let held =
        Held { age_ms: oldest.age_ms, taken_at: oldest.taken_at, garbage: stats.memory.garbage, left, gone_after };
    // Its own place, and no younger one's.
    match held.age_ms >= seconds * 1000 && held.taken_at.contains(file!()) {
        true if held.garbage > few => Ok(held),
        true => Err(format!("it kept {} bytes only", held.garbage)),
        false => Err(format!("the oldest guard is said to be {} ms old, from {}", held.age_ms, held.taken_at)),
    }
}
