//! The tail: one word that draws LSNs, and the limits up to which it may be drawn.
//!
//! The word is the LSN of the next free byte (a multiple of 8), with two flags in its low bits, so that a draw learns in its
//! one atomic step that the log is closed or has failed.

use crossbeam_utils::CachePadded;

use super::geometry::Place;
use crate::base::ids::Lsn;
use crate::base::sync::{AtomicU64, Ordering};

const CLOSED: u64 = 1;
const FAILED: u64 = 2;
const FLAGS: u64 = CLOSED | FAILED;

/// Who draws: frees may use most of the bytes that are set aside, so that a full disk can be emptied, and the log's own pads the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Urgency {
    Normal,
    Urgent,
    /// What the cleaner says: it waits for nothing, neither a pace nor a turn, which would be its own; and it takes no segment that users may not, nor the last of what is set aside.
    Said,
    /// The end of a round: there is always room for it, and it waits for no turn, since a turn waits for rounds.
    Seal,
}

/// Why nothing was drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    Closed,
    Failed,
    /// The ticket would end at `needed`, which is above the limit.
    Room {
        needed: Lsn,
    },
}

#[derive(Debug)]
pub(crate) struct Tail {
    word: CachePadded<AtomicU64>,
    limits: CachePadded<Limits>,
}

#[derive(Debug)]
struct Limits {
    normal: AtomicU64,
    said: AtomicU64,
    urgent: AtomicU64,
    seal: AtomicU64,
}

impl Tail {
    pub(crate) fn new(at: Lsn) -> Tail {
        let at_first = || AtomicU64::new(at.0);
        let limits = Limits { normal: at_first(), said: at_first(), urgent: at_first(), seal: at_first() };
        Tail { word: CachePadded::new(AtomicU64::new(at.0)), limits: CachePadded::new(limits) }
    }

    /// Draws a ticket in one step. `seen` is the [`bound`](Self::bound) that the caller's open slot holds already (L3): the first
    /// try goes by it, as another load would only call in the line that all drawers share once more.
    pub(crate) fn draw(&self, urgency: Urgency, seen: Lsn, place: impl Fn(Lsn) -> Place) -> Result<Place, Refused> {
        let limit = match urgency {
            Urgency::Normal => &self.limits.normal,
            Urgency::Said => &self.limits.said,
            Urgency::Urgent => &self.limits.urgent,
            Urgency::Seal => &self.limits.seal,
        };
        let mut word = seen.0;
        loop {
            if word & FLAGS != 0 {
                return Err(if word & FAILED != 0 { Refused::Failed } else { Refused::Closed });
            }
            let place = place(Lsn(word));
            // Acquire pairs with the release in `raise`: whoever reads the raised limit finds the ring's old bytes read
            // and the new segment's life published.
            if place.end.0 > limit.load(Ordering::Acquire) {
                // Only a tail that stands refuses, and it may be closed meanwhile. Relaxed: the next turn looks at it.
                let now = self.word.load(Ordering::Relaxed);
                if now == word {
                    return Err(Refused::Room { needed: place.end });
                }
                word = now;
                continue;
            }
            // Release: the bound in the slot comes before the draw; pairs with the acquire in `now`, and later draws
            // carry it on (a read-modify-write continues the release sequence).
            match self.word.compare_exchange_weak(word, place.end.0, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return Ok(place),
                Err(found) => word = found,
            }
        }
    }

    /// The tail, in order with the slots: a bound that was set before a draw below this is seen by a later slot read.
    pub(crate) fn now(&self) -> Lsn {
        // Acquire pairs with the release of the draws.
        Lsn(self.word.load(Ordering::Acquire) & !FLAGS)
    }

    /// A value the tail had: a lower bound of every LSN that will be drawn.
    pub(crate) fn bound(&self) -> Lsn {
        // Relaxed: any earlier value is a bound too.
        Lsn(self.word.load(Ordering::Relaxed) & !FLAGS)
    }

    /// Lets draws go up to an LSN that depends on who draws. Called under the lock of the rounds, so the values only rise.
    pub(crate) fn raise(&self, most: impl Fn(Urgency) -> Lsn) {
        let [normal, said, urgent, seal] = [Urgency::Normal, Urgency::Said, Urgency::Urgent, Urgency::Seal].map(most);
        // Release pairs with the acquire in `draw`.
        self.limits.normal.store(normal.0, Ordering::Release);
        self.limits.said.store(said.0, Ordering::Release);
        self.limits.urgent.store(urgent.0, Ordering::Release);
        self.limits.seal.store(seal.0, Ordering::Release);
    }

    /// Refuses every later draw.
    pub(crate) fn close(&self) {
        // Relaxed: nothing follows from the flag but a refusal, and a read-modify-write of any order continues the release
        // sequence of the draws.
        self.word.fetch_or(CLOSED, Ordering::Relaxed);
    }

    /// Refuses every later draw, because the log has failed. Called under the lock of the rounds, which guards the cause.
    pub(crate) fn fail(&self) {
        // Relaxed: as in `close`. Who sees the flag takes the lock for the cause, and is behind whoever set both under it.
        self.word.fetch_or(FAILED, Ordering::Relaxed);
    }

    /// Whether the log has failed.
    pub(crate) fn has_failed(&self) -> bool {
        // Relaxed: as in `fail`.
        self.word.load(Ordering::Relaxed) & FAILED != 0
    }
}
