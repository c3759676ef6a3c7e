//! What is on disk against what is promised, in whole segments.

use crate::store::births::{Keep, Stock};
use crate::store::limit::RESERVE;

/// A turn of the cleaner moves no more bytes than this: those who wait for what it gives back wait for all of it.
const TURN_MAX: u64 = 64 << 20;

/// The sums, as they were at one look.
///
/// What is promised is what is in use at the fill target, the log's limit and the reserve. Everything is held against it, the map, the log and what
/// a turn writes before it gives anything back; only files kept for reuse are not, since whatever is written goes there first. A turn begins a step
/// after the last, when there is room for another: so writers go on by a step while it runs, and who is faster waits for its end.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Ledger {
    /// Bytes of a segment; those that records may take; and those that they take at least, whatever stays empty at its end.
    pub(super) size: u64,
    pub(super) room: u64,
    pub(super) packed: u64,
    pub(super) fill_target: f64,
    pub(super) log_limit: u64,
    /// Segments.
    pub(super) reserve: u64,
    /// Bytes in use: of pages' records by the lengths in their slots, and of leaves of the map.
    pub(super) live: u64,
    pub(super) map: u64,
    /// Bytes that the last checkpoint wrote.
    pub(super) checkpoint: u64,
    pub(super) stock: Stock,
    /// Segments of log that may be made meanwhile.
    pub(super) granted: u64,
}

impl Ledger {
    /// Segments that may be there.
    fn promised(&self) -> u64 {
        // Lengths in slots are up to a thirty-second too long: a promise is kept by what is there at least.
        let live = self.live - self.live / 33 + self.map;
        (self.at_target(live) + self.log_limit) / self.size + self.reserve
    }

    /// Bytes on disk that so many in use ask for. A segment's headers are beside its fill: in small segments they are much, and who
    /// asked for more than there is room for would have everything moved again and again.
    fn at_target(&self, live: u64) -> u64 {
        (live as f64 / self.fill_target * self.size as f64 / self.room as f64) as u64
    }

    /// Segments beyond what is in use at the fill target, a log of so many bytes and a few that are being filled.
    pub(super) fn beyond_target(&self, log: u64) -> u64 {
        let wanted = (self.at_target(self.live + self.map) + log) / self.size + RESERVE / 2;
        self.stock.segments.saturating_sub(wanted)
    }

    /// Bytes of log from one turn to the next. Small turns leave writers room while one runs.
    pub(super) fn step(&self) -> u64 {
        (self.log_limit / 4).max(self.size)
    }

    /// Bytes in use that there is always room for a turn to move: each ends in a sync of the log, or a checkpoint, which gives its victims back, and the fewer victims the more of
    /// these. What is kept for this is not there for writers; a turn that finds more takes it.
    fn least(&self) -> u64 {
        // Of fewer segments nothing may be gained: of those as full as is aimed at, `fill / (1 - fill)` are moved to gain one. Victims are emptier than the others.
        // Where these are many, log and reserve may not leave so much room, and writers would get none.
        let gainful = (self.size as f64 * (0.75 * self.fill_target / (1.0 - self.fill_target)).clamp(2.0, 4.0)) as u64;
        (self.log_limit / 4).clamp(gainful, TURN_MAX.max(gainful))
    }

    /// Bytes in use that this turn may move: more than the least where there is room for it.
    pub(super) fn most(&self) -> u64 {
        let taken = self.stock.segments.saturating_add(self.granted) + self.beside();
        (self.promised().saturating_sub(taken) * self.packed).min(TURN_MAX).max(self.least())
    }

    /// Segments that a turn may take beside those that its images fill: of two streams each may leave one behind that is not full, and the map's open
    /// one has room for half of one.
    fn beside(&self) -> u64 {
        1 + self.checkpoint.div_ceil(self.room)
    }

    /// Segments that the least of turns takes before it gives any back.
    fn turn(&self) -> u64 {
        self.least().min(self.live).div_ceil(self.packed) + self.beside()
    }

    pub(super) fn is_beyond_promise(&self) -> bool {
        self.stock.segments > self.promised()
    }

    /// Whether there may be so many segments whatever is in use.
    pub(super) fn is_within_any_promise(&self) -> bool {
        !Ledger { live: 0, map: 0, ..*self }.is_beyond_promise()
    }

    /// Segments beyond those with which writers would have room for two steps.
    pub(super) fn excess(&self) -> u64 {
        let goal = self.promised().saturating_sub(self.turn() + 2 * self.step().div_ceil(self.size));
        self.stock.segments.saturating_sub(goal)
    }

    /// Segments of log that may be made before the next turn has ended.
    pub(super) fn headroom(&self) -> u64 {
        self.promised().saturating_sub(self.stock.segments + self.turn())
    }

    /// Files to be kept for reuse: as many as a turn gives back and the next takes, since to make and to remove files costs more than to write
    /// them. Never more than there may be segments.
    pub(super) fn keep(&self) -> Keep {
        Keep { spares: self.turn() + self.step() / self.size, files: self.promised() }
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    const SIZE: u64 = 8 << 20;

    fn ledger(live: u64, segments: u64) -> Ledger {
        Ledger {
            size: SIZE,
            room: SIZE - 8192,
            packed: SIZE - 8192 - 16384,
            fill_target: 0.8,
            log_limit: 64 << 20,
            reserve: RESERVE,
            live,
            map: 0,
            checkpoint: 100,
            stock: Stock { segments, spares: 0 },
            granted: 0,
        }
    }

    #[test]
    fn whatever_a_turn_writes_and_writers_were_given_is_within_what_is_promised() {
        for live in [0, 1 << 20, 100 << 20, 10 << 30] {
            for segments in [0, 10, 100, 2000] {
                let ledger = ledger(live, segments);
                let least = live - live / 33;
                assert!(ledger.promised() * SIZE <= (least as f64 / 0.79) as u64 + (64 << 20) + 4 * SIZE);
                let headroom = ledger.headroom();
                assert!(headroom == 0 || segments + ledger.turn() + headroom <= ledger.promised());
                // What is not too much leaves writers two steps.
                assert!(ledger.excess() > 0 || headroom * SIZE >= 2 * ledger.step());
                assert!(ledger.excess() <= segments);
            }
        }
    }

    #[test]
    fn a_turn_is_as_long_as_the_log_leaves_room_for_it() {
        let turn = |live, log_limit, segments, granted| {
            let ledger = Ledger { log_limit, granted, ..ledger(live, segments) };
            (ledger.turn(), ledger.most() / SIZE)
        };
        assert_eq!(turn(0, 64 << 20, 12, 0), (2, 3), "there is nothing to be moved");
        assert_eq!(turn(1 << 30, 64 << 20, 1000, 0), (6, 3));
        assert_eq!(turn(1 << 30, 1 << 30, 1000, 0), (11, 8));
        assert_eq!(turn(1 << 30, SIZE, 1000, 0), (6, 3), "of fewer nothing would be gained");
        let promised = ledger(1 << 30, 0).promised();
        assert_eq!(turn(1 << 30, 64 << 20, promised - 9, 0), (6, 6), "there is room for more");
        assert_eq!(turn(1 << 30, 64 << 20, promised - 9, 1), (6, 5), "if nobody else takes it");
        let wide = Ledger { reserve: 10, ..ledger(1 << 30, promised - 9) };
        assert_eq!(wide.promised(), promised + 6, "a longer reserve is promised");
        assert_eq!(
            wide.beyond_target(0),
            ledger(1 << 30, promised - 9).beyond_target(0),
            "who cleans by hand wants the target"
        );
        assert_eq!(wide.headroom(), ledger(1 << 30, promised - 9).headroom() + 6, "and is room for writers meanwhile");
    }
}
