//! Forgetting the beginning of the log: durable first, then the files.

use super::core::LogCore;
use super::scan::{Scanner, Step};
use super::tail::Urgency;
use crate::base::canary::{Canary, planted};
use crate::base::damage::Damage;
use crate::base::error::Result;
use crate::base::ids::Lsn;
use crate::base::sync::Ordering;
use crate::format::record::{Frame, Kind};

impl LogCore {
    /// Forgets every record that starts below `lsn`, as far as the log is stable, and gives back the segments that hold nothing else.
    /// Returns the first LSN that is kept.
    ///
    /// # Errors
    /// As for any record; the trim then has or has not happened.
    pub(crate) fn trim(&self, lsn: Lsn) -> Result<Lsn> {
        let to = self.boundary(lsn.min(self.stable()))?;
        if to <= self.first() {
            return Ok(self.first());
        }
        let own = self.append(&Frame::bare(Kind::Trim, &to.0.to_le_bytes()), &to.0.to_le_bytes(), Urgency::Urgent)?;
        if !planted(Canary::SegmentReusedEarly) {
            self.make_stable(own)?;
        }
        // Release pairs with the acquire in `first`: who reads the new first LSN no longer looks below.
        self.first.fetch_max(to.0, Ordering::Release);
        self.extents.forget_below(to);
        self.given_back(self.pool.release_below(self.extents.keep_from(to))).map(|_| to)
    }

    /// The first place at or above a stable LSN where a record or a pad starts, or where no segment has any.
    fn boundary(&self, lsn: Lsn) -> Result<Lsn> {
        let at = Lsn(lsn.0.next_multiple_of(8));
        let Some(segment) = self.pool.at_lsn(at) else { return Ok(at) };
        let end = segment.records_end().min(self.stable());
        if at <= segment.data_start() || at >= end || self.at(at, 0).is_ok() {
            return Ok(at);
        }
        let mut scanner = Scanner::new(segment, end);
        while scanner.position() < at {
            match scanner.step()? {
                Step::Record { .. } | Step::Mark { .. } => {}
                Step::End => return Ok(end),
                Step::Hole | Step::Unknown { .. } => return Err(self.corrupt_at(at, end, Damage::TrimUnwalked)),
            }
        }
        Ok(scanner.position())
    }
}
