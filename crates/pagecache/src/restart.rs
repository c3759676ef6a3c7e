//! How long the next start will take, by how long this one did.

use std::time::{Duration, Instant};

use crate::base::error::Result;
use crate::format::root::Root;
use crate::recovery::rebuild::Rebuild;

/// Bytes that a start must have replayed before it says anything of another: with fewer, what does not depend on them hides the rest.
const ENOUGH: u64 = 1 << 20;

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
    /// How long a start takes that replays so many bytes, as fast as this one did and with the same for everything else. Nothing where
    /// this one replayed too little to tell.
    pub(crate) fn expected(&self, bytes: u64) -> Option<Duration> {
        let scaled = self.replaying.as_secs_f64() * bytes as f64 / self.replayed as f64;
        let scaled = Duration::try_from_secs_f64(scaled).ok().filter(|_| self.replayed >= ENOUGH)?;
        self.whole.saturating_sub(self.replaying).checked_add(scaled)
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
        assert_eq!(restart.expected(0), Some(millis(20)));
        assert_eq!(restart.expected(4 << 20), Some(millis(60)));
        assert_eq!(restart.expected(80 << 20), Some(millis(820)));
        assert_eq!(
            Restart { replayed: ENOUGH - 1, ..restart }.expected(1 << 20),
            None,
            "too little was replayed to tell"
        );
        assert_eq!(Restart::default().expected(1 << 20), None);
    }
}
