//! The newest segment, how much of it is set aside, and what recent rounds say about those to come.

use std::sync::Arc;

use super::geometry::Geometry;
use crate::base::ids::Lsn;
use crate::store::segment::Segment;

/// Disk set aside for the first segment of a store, and for the one after a cut, in bytes; it doubles from there. Others are
/// set aside whole.
pub(super) const FIRST_STEP: u64 = 512 << 10;

/// Rounds of fewer bytes than this are short.
const SHORT_ROUND: u64 = 64 << 10;

/// The newest segment, and how much of it is set aside.
#[derive(Debug, Default)]
pub(crate) struct Supply {
    pub(super) newest: Option<Arc<Segment>>,
    pub(super) grown: u64,
    /// It was made for frees where there was no room for users, who do not have it yet.
    pub(super) of_frees: bool,
    /// The tail and the rounds so far when it was last looked whether rounds are short.
    looked_at: (Lsn, u64),
}

/// Whether new space is written before it is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fill {
    Nothing,
    Zeros,
}

impl Supply {
    /// A supply that goes on in `newest`, of which `grown` bytes are set aside.
    pub(crate) fn new(newest: Arc<Segment>, grown: u64) -> Supply {
        let start = newest.header.start;
        Supply { newest: Some(newest), grown, of_frees: false, looked_at: (start, 0) }
    }

    /// Bytes to set aside for a store's first segment, so that what ends at `offset` is in.
    pub(crate) fn first_step(segment_size: u64, offset: u64) -> u64 {
        FIRST_STEP.max((offset + 1).next_power_of_two()).min(segment_size)
    }

    /// What the rounds since the last look say about the next ones.
    pub(super) fn look(&mut self, tail: Lsn, rounds: u64) -> Fill {
        let (tail_before, rounds_before) = std::mem::replace(&mut self.looked_at, (tail, rounds));
        let bytes = tail.0.saturating_sub(tail_before.0);
        match bytes < rounds.saturating_sub(rounds_before) * SHORT_ROUND {
            true => Fill::Zeros,
            false => Fill::Nothing,
        }
    }

    /// Draws may go up to here.
    pub(crate) fn ready(&self, geometry: &Geometry) -> Lsn {
        match &self.newest {
            Some(newest) => {
                newest.data_end().min(Lsn(newest.header.start.0 + self.grown / geometry.block * geometry.block))
            }
            None => Lsn(0),
        }
    }
}
