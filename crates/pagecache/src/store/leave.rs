//! Segments that nobody needs any more: out of the table, and their files kept for another life, removed, or left where somebody wants them to stay.

use std::sync::Arc;

use super::pool::Pool;
use crate::base::canary::{Canary, planted};
use crate::base::error::Result;
use crate::base::ids::Lsn;
use crate::format::segment::Stream;
use crate::store::births::Keep;
use crate::store::files;
use crate::store::segment::Segment;
use crate::store::table::Table;

impl Pool {
    /// Takes every segment of the log that ends at or below `keep` out of the table, the newest never, and gives its file back.
    pub(crate) fn release_below(&self, keep: Lsn) -> Result<u64> {
        self.give_back(|table| {
            let mut gone = Vec::new();
            while table.log.len() > 1 && table.log.front().is_some_and(|segment| segment.data_end() <= keep) {
                gone.extend(table.log.pop_front());
            }
            gone
        })
    }

    /// Takes the segments that nobody needs any more out of the table, and gives their files back.
    ///
    /// # Errors
    /// `Io`: what was not given back is a file that means nothing, for the next opening to remove.
    pub(crate) fn release(&self, unwanted: impl Fn(&Segment) -> bool) -> Result<u64> {
        self.give_back(|table| {
            let gone: Vec<Arc<Segment>> = table.all().filter(|segment| unwanted(segment)).map(Arc::clone).collect();
            for segment in &gone {
                table.others.remove(&segment.header.sequence);
            }
            if gone.iter().any(|segment| segment.header.stream == Stream::Log) {
                table.log.retain(|segment| !gone.iter().any(|gone| Arc::ptr_eq(gone, segment)));
            }
            gone
        })
    }

    /// What is taken out of the table is counted as leaving at once, and nobody makes it stay in between.
    fn give_back(&self, take: impl FnOnce(&mut Table) -> Vec<Arc<Segment>>) -> Result<u64> {
        let _one_at_a_time = self.leaving.lock();
        let (gone, leaving) = {
            let (mut births, mut table) = (self.births.lock(), self.table_mut());
            let gone = take(&mut table);
            let leaving = births.leave(&gone, table.len());
            (gone, leaving)
        };
        let has_changed = !leaving.is_empty();
        let (left, given_back) = files::leave(self.storage(), leaving);
        // Before any of them is used for another segment.
        let synced = match has_changed && !planted(Canary::SegmentReusedEarly) {
            true => self.sync_dir(),
            false => Ok(()),
        };
        self.births.lock().left_behind(left);
        synced.and(given_back).map(|()| gone.len() as u64)
    }

    /// Removes files beyond those that are to be kept for reuse.
    ///
    /// # Errors
    /// As [`release`](Self::release).
    pub(crate) fn trim(&self) -> Result<()> {
        self.give_back(|_| Vec::new()).map(|_| ())
    }

    /// Says how many files are kept for reuse, from the next that are given back on.
    pub(crate) fn keep(&self, keep: Keep) {
        self.births.lock().keep(keep);
    }

    /// Keeps all files of segments until [`unpin`](Self::unpin): those that are given back meanwhile are removed then, and none that is there
    /// now, or made meanwhile, is ever used for another segment.
    pub(crate) fn pin(&self) {
        // What is leaving has left then, or stays.
        let _nothing_leaves = self.leaving.lock();
        let mut births = self.births.lock();
        births.pin();
        self.table().all().for_each(|segment| segment.link());
    }

    /// # Errors
    /// As [`release`](Self::release).
    pub(crate) fn unpin(&self) -> Result<u64> {
        self.births.lock().unpin();
        self.give_back(|_| Vec::new())
    }
}
