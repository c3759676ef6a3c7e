//! Whether there is anything to clean, and how much: what is on disk against what is promised, wanted, or allowed by a cap.

use super::Cleaner;
use super::ledger::Ledger;
use crate::base::ids::Lsn;
use crate::base::sync::Ordering;
use crate::checkpoint::write::Weight;
use crate::format::BLOCK;
use crate::page::materialize::Materializer;
use crate::store::limit::Claim;

/// Bytes of pages for each byte of links on top of them, beyond which links are folded, as in memory: deltas that weigh more than a quarter
/// of their base. Where that is less than half of the log's limit they wait until they are so many, and more of a page's links go into one image.
const LINKS_SHARE: u64 = 4;

impl<M: Materializer> Cleaner<M> {
    /// Whether there is more on disk than leaves room for the next turn and for writers meanwhile, or links have waited long enough.
    pub(crate) fn is_due(&self) -> bool {
        if !self.pages.leaves.are_all_read() {
            return false;
        }
        let ledger = self.ledger(0);
        self.excess(&ledger) > 0 || self.overdue(&ledger) > 0
    }

    /// Whether there is more on disk than is promised (the ledger's sum), since pages were freed: what is written keeps within it. Not where a turn has just found that
    /// it cannot be helped, and no more than a segment has died since, nor before a step of the log has come since one has failed. Behind a start it takes a look at
    /// the whole map to say so, once a segment has died.
    pub(crate) fn is_beyond_promise(&self) -> bool {
        if !self.pages.leaves.are_all_read() && (self.ledger(0).is_within_any_promise() || !self.read_rest_if_due()) {
            return false;
        }
        if self.pages.log.tail().0 < self.retry_at.load(Ordering::Relaxed) {
            return false;
        }
        let ledger = self.ledger(0);
        ledger.is_beyond_promise() && ledger.live.saturating_add(ledger.size) <= self.in_vain.load(Ordering::Relaxed)
    }

    /// After some time what has failed may do better, whatever has come of the log.
    pub(crate) fn retry(&self) {
        self.retry_at.store(0, Ordering::Relaxed);
    }

    /// So it may where nothing has come of the log since the last call.
    pub(crate) fn retry_at_rest(&self) {
        let tail = self.pages.log.tail().0;
        if self.rested_at.swap(tail, Ordering::Relaxed) == tail {
            self.retry();
        }
    }

    /// Reads what was not read yet of the map, where so much has died since the start, or since it failed, that it may matter. Returns whether all is read.
    fn read_rest_if_due(&self) -> bool {
        let log = &self.pages.log;
        let dead = log.dead();
        if log.is_read_only() || dead < self.look_at.load(Ordering::Relaxed) {
            return false;
        }
        self.look_at.store(dead.saturating_add(log.pool.segment_size()), Ordering::Relaxed);
        self.pages.read_all_leaves().is_ok()
    }

    /// Bytes of links, in segments that can be cleaned, beyond what pages may have on top of them.
    pub(super) fn overdue(&self, ledger: &Ledger) -> u64 {
        let log = &self.pages.log;
        let redo = Lsn(log.counters.redo.load(Ordering::Relaxed));
        let movable = log.pool.log().into_iter().filter(|segment| self.is_movable(segment, redo));
        let links: u64 = movable.map(|segment| segment.account.live_deltas(log.raised(&segment))).sum();
        let share = ledger.live.saturating_sub(links) / LINKS_SHARE;
        links.saturating_sub(share.max(ledger.log_limit / 2))
    }

    /// Segments on disk beyond what is promised and needed until the next turn.
    fn excess(&self, ledger: &Ledger) -> u64 {
        ledger.excess().max(self.missing(ledger))
    }

    /// Those below a cap: there is to be room for what is written until the next turn, however full that makes the segments.
    pub(super) fn missing(&self, ledger: &Ledger) -> u64 {
        let wanted = ledger.step().div_ceil(ledger.size) + 1;
        let missing = self.pages.log.pool.left(Claim::User).map_or(0, |left| wanted.saturating_sub(left));
        let unused = (ledger.stock.segments * ledger.room).saturating_sub(ledger.live + ledger.map) / ledger.room;
        missing.min(unused)
    }

    /// Whether a cap, or the disk, leaves little: less than is written until the fourth turn from now.
    pub(crate) fn lacks_room(&self) -> bool {
        self.missing(&self.ledger(0)) > 0
    }

    /// Leaves what the next checkpoint may take of a cap, or of the disk.
    pub(crate) fn leave_room(&self) {
        self.checkpointer.leave_room();
    }

    /// Whether it is known what is in use, since all of the map was read.
    pub(crate) fn knows_all(&self) -> bool {
        self.pages.leaves.are_all_read()
    }

    /// Segments of log that may be made before the next turn has ended, so that disk stays within what is promised.
    pub(crate) fn headroom(&self) -> u64 {
        self.ledger(0).headroom()
    }

    /// Segments that are there, whatever is in them.
    pub(crate) fn segments(&self) -> u64 {
        self.pages.log.pool.stock().segments
    }

    /// `longest` bytes may stay empty at a segment's end.
    pub(super) fn ledger(&self, longest: u64) -> Ledger {
        let log = &self.pages.log;
        let size = log.pool.segment_size();
        let room = size - 2 * BLOCK;
        let Weight { live: map, written: checkpoint } = self.checkpointer.weight();
        Ledger {
            size,
            room,
            packed: room - longest.min(size / 4),
            fill_target: self.goal.fill_target,
            log_limit: self.goal.log_limit,
            reserve: self.goal.reserve,
            live: log.usage().live,
            map,
            checkpoint,
            stock: log.pool.stock(),
            // Without a limit nobody waits: half of a step, about, comes meanwhile.
            granted: log.granted().unwrap_or(self.goal.log_limit / 8 / size + 1),
        }
    }
}
