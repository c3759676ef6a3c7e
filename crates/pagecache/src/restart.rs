//! How long the next start will take, by how long this one did, or by a rate that is known of starts.

use std::time::{Duration, Instant};

use crate::base::error::Result;
use crate::base::ids::Sequence;
use crate::format::root::Root;
use crate::recovery::rebuild::Rebuild;

/// Bytes that a start must have replayed before it says anything of another: with fewer, what does not depend on them hides the rest.
const ENOUGH: u64 = 1 << 20;

/// Bytes that are replayed in a second, where this start does not say it: what links of 64 bytes take on one core (`docs/BENCHMARKS.md`).
const RATE: u64 = 512 << 20;

/// By what rate the time of the next start is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RestartBy {
    /// This start replayed 1 MiB of log or more, and the next one is taken to be as fast.
    ThisStart,
    /// This start replayed less, which says too little. The next one is taken to replay 512 MiB a second: what a single core of 2026 makes of records of 64 bytes.
    /// Longer records, more cores and files that are cached make it faster, a slow disk slower.
    DefaultRate,
}

/// What this start took.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Restart {
    /// Bytes of log that were replayed.
    pub(crate) replayed: u64,
    /// How long that took.
    pub(crate) replaying: Duration,
    /// How long everything took.
    pub(crate) whole: Duration,
}

impl Restart {
    /// How many milliseconds a start takes that replays so many bytes, with the same for everything else as this one.
    pub(crate) fn expected(&self, bytes: u64) -> (u64, RestartBy) {
        let (a_byte, by) = match self.replayed {
            ENOUGH.. => (self.replaying.as_secs_f64() / self.replayed as f64, RestartBy::ThisStart),
            _ => (1.0 / RATE as f64, RestartBy::DefaultRate),
        };
        let rest = self.whole.saturating_sub(self.replaying).as_secs_f64();
        // A cast to what is too large gives the largest.
        (((rest + a_byte * bytes as f64) * 1e3) as u64, by)
    }
}

/// What an opening makes again, and how long the replay takes, on all its threads.
#[derive(Debug)]
pub(crate) struct Timed<R> {
    pub(crate) inner: R,
    begun: Option<Instant>,
    pub(crate) replaying: Duration,
}

impl<R> Timed<R> {
    pub(crate) fn new(inner: R) -> Timed<R> {
        Timed { inner, begun: None, replaying: Duration::ZERO }
    }
}

impl<R: Rebuild> Rebuild for Timed<R> {
    type Part = R::Part;

    fn begin(&mut self, segment_size: u64, root: Option<&Root>) -> Result<()> {
        self.begun = Some(Instant::now());
        self.inner.begin(segment_size, root)
    }

    fn gave_back(&self, sequence: Sequence) -> bool {
        self.inner.gave_back(sequence)
    }

    fn highest_named(&self) -> Option<Sequence> {
        self.inner.highest_named()
    }

    fn moved_to(&self, sequence: Sequence) -> bool {
        self.inner.moved_to(sequence)
    }

    fn check_moved(&self, is_there: impl Fn(Sequence) -> bool) -> Result<()> {
        self.inner.check_moved(is_there)
    }

    fn join(&mut self, part: R::Part) -> Result<()> {
        let joined = self.inner.join(part);
        // Up to the last of them.
        self.replaying = self.begun.map_or(Duration::ZERO, |begun| begun.elapsed());
        joined
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_start_is_expected_to_go_on_as_fast_as_the_last() {
        let millis = Duration::from_millis;
        let restart = Restart { replayed: 8 << 20, replaying: millis(80), whole: millis(100) };
        assert_eq!(restart.expected(0), (20, RestartBy::ThisStart));
        assert_eq!(restart.expected(4 << 20), (60, RestartBy::ThisStart));
        assert_eq!(restart.expected(80 << 20), (820, RestartBy::ThisStart));
        let little = Restart { replayed: ENOUGH - 1, ..restart };
        assert_eq!(little.expected(512 << 20), (1020, RestartBy::DefaultRate), "too little was replayed to tell");
        assert_eq!(Restart::default().expected(64 << 20), (125, RestartBy::DefaultRate));
        assert_eq!(restart.expected(u64::MAX).1, RestartBy::ThisStart);
    }
}
