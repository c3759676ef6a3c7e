//! What is being written, what is sealed and what needs a sync: the flush's books, behind one lock that is never held
//! across I/O.

use std::collections::VecDeque;
use std::sync::Arc;

use super::geometry::Geometry;
use crate::base::error::Error;
use crate::base::ids::Lsn;
use crate::format::BLOCK;
use crate::storage::StorageFile;
use crate::store::segment::Segment;

/// The most that one write takes, in bytes. A block under loom and shuttle, so that several are in flight there.
pub(crate) const CHUNK: u64 = if cfg!(any(loom, shuttle)) { BLOCK } else { 1 << 20 };

/// A stretch that one thread writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Flight {
    /// Where the flight before ended; differs from `from` across a segment's end.
    pub(crate) start: Lsn,
    pub(crate) from: Lsn,
    pub(crate) end: Lsn,
    state: FlightState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FlightState {
    Flying,
    Landed,
    /// The disk was full: the same bytes are to be written again.
    Stranded,
}

/// A segment that was written to, and the very file: a sync of another one might not tell of a write that failed.
pub(crate) type Written = (Arc<Segment>, Arc<dyn StorageFile>);

#[derive(Debug)]
pub(crate) struct Rounds {
    /// Everything below is written.
    pub(crate) written: Lsn,
    /// Everything below is written or in flight.
    claimed: Lsn,
    flights: VecDeque<Flight>,
    /// Ends of pads that are drawn and not yet stable, rising.
    pub(crate) seals: VecDeque<Lsn>,
    /// The end of the newest pad.
    pub(crate) sealed: Lsn,
    /// The newest pad followed another with nothing between: the log is at rest and says so.
    pub(crate) at_rest: bool,
    /// Segments with writes that no sync has covered.
    dirty: Vec<Written>,
    /// Somebody leads a round.
    pub(crate) leading: bool,
    /// The first failure (L5).
    pub(crate) poison: Option<Arc<Error>>,
}

impl Rounds {
    pub(crate) fn new(at: Lsn) -> Rounds {
        Rounds {
            written: at,
            claimed: at,
            flights: VecDeque::new(),
            seals: VecDeque::new(),
            sealed: at,
            at_rest: false,
            dirty: Vec::new(),
            leading: false,
            poison: None,
        }
    }

    /// Takes the next stretch to write: one that a full disk stranded, else whole blocks below the prefix.
    pub(crate) fn take_off(&mut self, prefix: Lsn, geometry: &Geometry) -> Option<Flight> {
        if let Some(stranded) = self.flights.iter_mut().find(|flight| flight.state == FlightState::Stranded) {
            stranded.state = FlightState::Flying;
            return Some(*stranded);
        }
        let start = self.claimed;
        let from = match start == geometry.data_end(start) {
            true => geometry.next_data_start(start),
            false => start,
        };
        let end = geometry.floor_block(prefix).min(Lsn(from.0 + CHUNK)).min(geometry.data_end(from));
        if end <= from {
            return None;
        }
        let flight = Flight { start, from, end, state: FlightState::Flying };
        self.claimed = end;
        self.flights.push_back(flight);
        Some(flight)
    }

    /// Notes that a stretch is written, and moves `written` over all that have landed in order.
    pub(crate) fn land(&mut self, flight: Flight, written: Written) {
        self.settle(flight, FlightState::Landed);
        if !self.dirty.iter().any(|(_, dirty)| Arc::ptr_eq(dirty, &written.1)) {
            self.dirty.push(written);
        }
        while let Some(first) = self.flights.front().filter(|first| first.state == FlightState::Landed) {
            self.written = first.end;
            self.flights.pop_front();
        }
    }

    /// Notes that a stretch is to be written again.
    pub(crate) fn strand(&mut self, flight: Flight) {
        self.settle(flight, FlightState::Stranded);
    }

    fn settle(&mut self, flight: Flight, state: FlightState) {
        if let Some(found) = self.flights.iter_mut().find(|found| found.start == flight.start) {
            found.state = state;
        }
    }

    /// Whether somebody is writing.
    pub(crate) fn in_flight(&self) -> bool {
        self.flights.iter().any(|flight| flight.state == FlightState::Flying)
    }

    /// The newest seal at or below `prefix`, if it is above `stable`.
    pub(crate) fn seal_below(&self, prefix: Lsn, stable: Lsn) -> Option<Lsn> {
        self.seals.iter().rev().copied().find(|seal| *seal <= prefix).filter(|seal| *seal > stable)
    }

    pub(crate) fn take_dirty(&mut self) -> Vec<Written> {
        std::mem::take(&mut self.dirty)
    }

    /// What a planted bug does after a sync that failed.
    pub(crate) fn put_back_dirty(&mut self, dirty: Vec<Written>) {
        self.dirty.extend(dirty);
    }

    /// Everything below is written or in flight.
    pub(crate) fn claimed(&self) -> Lsn {
        self.claimed
    }

    /// Forgets seals that are stable.
    pub(crate) fn unseal(&mut self, stable: Lsn) {
        while self.seals.front().is_some_and(|seal| *seal <= stable) {
            self.seals.pop_front();
        }
    }
}
