//! What an opening is for: those who keep something in memory of the log make it again, from a checkpoint and the records behind it.

use crate::base::damage::Damage;
use crate::base::error::{Corruption, Error, Result};
use crate::base::ids::{Lsn, Sequence};
use crate::format::record::Shape;
use crate::format::root::Root;
use crate::store::segment::Segment;

/// A record as the walk shows it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record<'a> {
    pub(crate) segment: &'a Segment,
    pub(crate) lsn: Lsn,
    pub(crate) shape: Shape,
    pub(crate) body: &'a [u8],
    pub(crate) body_at: usize,
    pub(crate) len: u64,
}

impl Record<'_> {
    /// Its checksum is right, what it says cannot be.
    pub(crate) fn corrupt(&self, what: Damage) -> Error {
        Error::Corrupt(Box::new(Corruption {
            page: None,
            segment: self.segment.header.sequence.0,
            offset: self.segment.offset(self.lsn),
            lsns: self.lsn..Lsn(self.lsn.0 + self.len),
            what: what.what(),
        }))
    }
}

/// What is made of a segment's records, on any thread, before the segments are joined in order.
pub(crate) trait Collect: Send {
    /// Takes one record, in LSN order within the segment.
    ///
    /// # Errors
    /// What ends the walk.
    fn record(&mut self, record: Record<'_>) -> Result<()>;
}

/// Something that is made again at an opening.
pub(crate) trait Rebuild {
    /// What is made of the records of one segment, on any thread.
    type Part: Collect + Default;

    /// Called first, with the checkpoint that the replay starts from, if there is one.
    ///
    /// # Errors
    /// What ends the opening.
    fn begin(&mut self, _segment_size: u64, _root: Option<&Root>) -> Result<()> {
        Ok(())
    }

    /// Whether the replayed log says that a segment was given back.
    fn gave_back(&self, sequence: Sequence) -> bool;

    /// The highest sequence that the replayed log names, of segments given back or of images that pages have moved to: none of these numbers is ever used again.
    fn highest_named(&self) -> Option<Sequence>;

    /// Whether the replayed log says that pages have moved to images in a segment.
    fn moved_to(&self, sequence: Sequence) -> bool;

    /// Looks for the segments of images that pages have gone to by what the replayed log says alone.
    ///
    /// # Errors
    /// `Corrupt` where one is not there.
    fn check_moved(&self, is_there: impl Fn(Sequence) -> bool) -> Result<()>;

    /// Called for each segment, in LSN order.
    ///
    /// # Errors
    /// What ends the opening.
    fn join(&mut self, part: Self::Part) -> Result<()>;
}
