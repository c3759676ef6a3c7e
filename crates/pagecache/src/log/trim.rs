//! Forgetting the beginning of the log: durable first, then the files.

use super::core::LogCore;
use super::tail::Urgency;
use crate::base::canary::{Canary, planted};
use crate::base::error::{Error, Result};
use crate::base::ids::Lsn;
use crate::base::sync::Ordering;
use crate::format::record::{Frame, Head, Kind, Shape};

impl LogCore {
    /// Forgets every record below `lsn`, as far as the log is stable, and gives back the segments that hold nothing else.
    /// Returns the first LSN that is kept.
    ///
    /// # Errors
    /// As for any record; the trim then has or has not happened.
    pub(crate) fn trim(&self, lsn: Lsn) -> Result<Lsn> {
        let to = Lsn(lsn.0.next_multiple_of(8)).min(self.stable());
        if to <= self.first() {
            return Ok(self.first());
        }
        let mut head = Head::new();
        head.extend(&to.0.to_le_bytes());
        let own = self.append(&Frame::new(Shape::plain(Kind::Trim), head, &[]), &[], Urgency::Urgent)?;
        if !planted(Canary::SegmentReusedEarly) {
            self.make_stable(own)?;
        }
        // Release pairs with the acquire in `first`: who reads the new first LSN no longer looks below.
        self.first.fetch_max(to.0, Ordering::Release);
        match self.pool.release_below(self.extents.keep_from(to)) {
            Ok(_) => Ok(to),
            // No later sync of the directory would be believed (L5).
            Err(error @ Error::Io { op: "sync_dir", .. }) => Err(self.poison(error)),
            Err(error) => Err(error),
        }
    }
}
