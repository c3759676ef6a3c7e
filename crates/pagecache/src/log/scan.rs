//! Walking a segment's records in order, for recovery, iteration and verification.

use std::sync::Arc;

use super::geometry::Geometry;
use crate::base::aligned::AlignedBuf;
use crate::base::error::{Error, Result};
use crate::base::ids::Lsn;
use crate::format::BLOCK;
use crate::format::mark::{MARK, Mark};
use crate::format::record::{Body, Parsed, Shape, parse, peek, wanted};
use crate::storage::read_full;
use crate::store::segment::Segment;

/// Bytes read at once.
const WINDOW: u64 = 256 << 10;

/// Walks from a record's start towards an end that is itself a record boundary.
#[derive(Debug)]
pub(crate) struct Scanner {
    segment: Arc<Segment>,
    at: Lsn,
    end: Lsn,
    /// A length that no record may have is not believed, nor read.
    longest: u64,
    window: AlignedBuf,
    /// The LSN of the window's first byte, and how many bytes of it are filled.
    base: Lsn,
    filled: u64,
}

/// One step of a walk.
#[derive(Debug)]
pub(crate) enum Step<'a> {
    Record {
        lsn: Lsn,
        shape: Shape,
        body: &'a [u8],
        body_at: usize,
        len: u64,
        sum: Body,
    },
    /// A pad that ends in a mark.
    Mark {
        mark: Mark,
    },
    /// The end, or a pad up to the segment's end.
    End,
    /// Nothing valid here; the walk stays.
    Hole,
    /// Intact and not understood.
    Unknown {
        kind: u8,
    },
}

impl Scanner {
    /// From the segment's first record up to `end` or the end of its records, whatever comes first.
    pub(crate) fn new(segment: Arc<Segment>, end: Lsn) -> Scanner {
        let at = segment.data_start();
        Self::from(segment, at, end)
    }

    /// From the record at `at`.
    pub(crate) fn from(segment: Arc<Segment>, at: Lsn, end: Lsn) -> Scanner {
        let end = end.min(segment.records_end());
        let longest = Geometry::new(segment.header.segment_size).inline_max().max(2 * BLOCK);
        Scanner { segment, at, end, longest, window: AlignedBuf::default(), base: at, filled: 0 }
    }

    /// Where the next step looks.
    pub(crate) fn position(&self) -> Lsn {
        self.at
    }

    /// Whether the walk is at its end.
    pub(crate) fn is_done(&self) -> bool {
        self.at >= self.end
    }

    pub(crate) fn segment(&self) -> &Arc<Segment> {
        &self.segment
    }

    /// Whether the next step has to read.
    pub(crate) fn is_at_edge(&self) -> bool {
        let view = self.view();
        !self.is_done() && (view.len() as u64) < wanted(view, self.at).max(16)
    }

    /// # Errors
    /// `Io` only: what is wrong with the bytes is a step, not an error.
    pub(crate) fn step(&mut self) -> Result<Step<'_>> {
        if self.at >= self.end {
            return Ok(Step::End);
        }
        let room = self.end.0 - self.at.0;
        self.fill_up()?;
        let (lsn, salt) = (self.at, self.segment.header.salt);
        let view = {
            let skip = (self.at.0 - self.base.0) as usize;
            let view = self.window.as_slice().get(skip..self.filled as usize).unwrap_or_default();
            view.get(..self.longest as usize).unwrap_or(view)
        };
        Ok(match parse(view, lsn, salt, room) {
            Parsed::Record { shape, body, body_at, len, sum } => {
                self.at = Lsn(lsn.0 + len);
                Step::Record { lsn, shape, body, body_at, len, sum }
            }
            Parsed::PadBlock { len, mark } => {
                self.at = Lsn(lsn.0 + len);
                Step::Mark { mark }
            }
            Parsed::PadSegment => {
                self.at = self.end;
                Step::End
            }
            Parsed::Unknown { kind } => Step::Unknown { kind },
            Parsed::Short { .. } | Parsed::Hole => Step::Hole,
        })
    }

    /// Passes by the record at the position if `is_wanted` says no to what its first bytes say that it is. Nothing of them is checked: whoever does this must
    /// lose nothing where they are wrong, also of what stands behind. Returns whether it did; never where the next step has to read.
    pub(crate) fn pass_by(&mut self, is_wanted: impl FnOnce(Lsn, Shape, &[u8]) -> bool) -> bool {
        if self.is_done() || self.is_at_edge() {
            return false;
        }
        let view = self.view();
        let len = wanted(view, self.at);
        let Some((shape, body)) = peek(view) else { return false };
        let fits = len <= self.longest && self.at.0 + len <= self.end.0;
        if !fits || is_wanted(self.at, shape, body) {
            return false;
        }
        self.at = Lsn(self.at.0 + len);
        true
    }

    /// Reads what the next step needs.
    ///
    /// # Errors
    /// `Io`.
    pub(crate) fn fill_up(&mut self) -> Result<()> {
        let room = self.end.0.saturating_sub(self.at.0);
        let most = room.min(self.longest);
        let mut need = 16.min(room);
        loop {
            self.fill(need)?;
            let more = wanted(self.view(), self.at);
            if more <= need || more > most {
                return Ok(());
            }
            need = more;
        }
    }

    fn view(&self) -> &[u8] {
        let skip = (self.at.0 - self.base.0) as usize;
        self.window.as_slice().get(skip..self.filled as usize).unwrap_or_default()
    }

    /// Has at least `need` bytes from the position on in the window, if the file has them.
    fn fill(&mut self, need: u64) -> Result<()> {
        if self.view().len() as u64 >= need {
            return Ok(());
        }
        let count = need.max(WINDOW).min(self.end.0 - self.at.0);
        if (self.window.as_slice().len() as u64) < count {
            self.window = AlignedBuf::zeroed(count as usize);
        }
        self.base = self.at;
        let target = self.window.as_mut_slice().get_mut(..count as usize).unwrap_or_default();
        self.filled = read_full(self.segment.file()?.as_ref(), target, self.segment.offset(self.at))
            .map_err(|error| Error::io("read", self.segment.name(), error))? as u64;
        Ok(())
    }
}

/// The highest stable LSN that any valid mark at or above `from` in this segment carries.
///
/// # Errors
/// `Io`.
pub(crate) fn evidence(segment: &Arc<Segment>, from: Lsn) -> Result<Option<Lsn>> {
    let mut best: Option<Lsn> = None;
    let mut end = (from.0 / BLOCK + 1) * BLOCK;
    let mut window = AlignedBuf::zeroed(WINDOW as usize);
    while end <= segment.records_end().0 {
        let start = end - BLOCK;
        let count = WINDOW.min(segment.records_end().0 - start);
        let target = window.as_mut_slice().get_mut(..count as usize).unwrap_or_default();
        let filled = read_full(segment.file()?.as_ref(), target, segment.offset(Lsn(start)))
            .map_err(|error| Error::io("read", segment.name(), error))? as u64;
        let mut at = BLOCK;
        while at <= filled {
            let bytes = window.as_slice().get((at - MARK) as usize..at as usize).unwrap_or_default();
            if let Some(mark) = Mark::decode(bytes, Lsn(start + at), segment.header.salt) {
                best = best.max(Some(mark.stable));
            }
            at += BLOCK;
        }
        if filled < count {
            break;
        }
        end = start + count + BLOCK;
    }
    Ok(best)
}
