//! Which segments are being born, which files are kept for another life, and which are to go: numbers and names, under one lock that nobody holds
//! while the disk works.
//!
//! What is under way is counted as if it were done, so that nobody makes more than there may be.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::base::canary::{Canary, planted};
use crate::base::error::{Error, Result};
use crate::base::ids::{Lsn, Sequence};
use crate::format::segment::{Previous, Stream};
use crate::store::limit::{CAPPED, Claim, FREES, FULL, Limit, RESERVE, Shares};
use crate::store::segment::{Linked, Segment};

/// Files kept for reuse in any case.
const SPARES: u64 = 2;

/// How many files are kept for reuse, beyond a few that always are; more are removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Keep {
    pub(crate) spares: u64,
    /// Only where there are at most so many files, with those of segments.
    pub(crate) files: u64,
}

/// A segment to be made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Order {
    pub(super) stream: Stream,
    /// Of the log only: where it starts and what is before it. Any other starts at its address.
    pub(super) start: Option<Lsn>,
    pub(super) previous: Option<Previous>,
    pub(super) first: Lsn,
    pub(super) stable: Lsn,
    pub(super) claim: Claim,
    /// Bytes of disk to set aside now.
    pub(super) allocate: u64,
}

/// What there is of files, with those that are in the pool's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stock {
    /// Of segments, those that could not be removed yet among them.
    pub(crate) segments: u64,
    /// Kept for reuse.
    pub(crate) spares: u64,
}

/// A birth that has begun: its number, and the file of an earlier life that it gets, if there is one.
#[derive(Debug)]
pub(super) struct Drawn {
    pub(super) sequence: Sequence,
    pub(super) spare: Option<String>,
    /// How often all files had been made to stay before.
    pub(super) pins_ever: u64,
}

/// A segment that is not in the table yet.
#[derive(Debug)]
struct Underway {
    stream: Stream,
    /// None until it has a file.
    segment: Option<Arc<Segment>>,
}

/// Files of segments that nobody needs any more, taken to be kept or removed.
#[derive(Debug, Default)]
pub(super) struct Leaving {
    /// To be kept for reuse.
    pub(super) keep: Vec<Sequence>,
    pub(super) remove: Vec<(Sequence, Linked)>,
    /// Kept ones that are too many now.
    pub(super) surplus: Vec<String>,
}

impl Leaving {
    pub(super) fn is_empty(&self) -> bool {
        self.keep.is_empty() && self.remove.is_empty() && self.surplus.is_empty()
    }
}

/// What has become of them.
#[derive(Debug, Default)]
pub(super) struct Left {
    /// Kept for reuse, under these names.
    pub(super) spares: Vec<String>,
    /// Still there: they are tried again with the next.
    pub(super) stay: Vec<(Sequence, Linked)>,
}

/// What the lock of births guards.
#[derive(Debug)]
pub(super) struct Births {
    segment_size: u64,
    next: Sequence,
    spares: Vec<String>,
    keep: Keep,
    /// Being made, or written and without a name yet.
    underway: BTreeMap<Sequence, Underway>,
    /// Files of segments that nobody needs any more, and whether there may be other links to them.
    unwanted: Vec<(Sequence, Linked)>,
    /// Files that are being kept or removed just now: of segments, and of those that were kept before.
    leaving: Stock,
    /// Who wants all files to stay, and how many ever did.
    pins: u64,
    pins_ever: u64,
    /// The store was closed: no file is given back any more.
    over: bool,
    limit: Limit,
    shares: Shares,
    /// Segments of the log that frees have for themselves.
    of_frees: BTreeSet<Sequence>,
}

impl Births {
    pub(super) fn new(segment_size: u64, next: Sequence) -> Births {
        Births {
            segment_size,
            next,
            spares: Vec::new(),
            keep: Keep::default(),
            underway: BTreeMap::new(),
            unwanted: Vec::new(),
            leaving: Stock { segments: 0, spares: 0 },
            pins: 0,
            pins_ever: 0,
            over: false,
            limit: Limit::NONE,
            shares: Shares::new(RESERVE),
            of_frees: BTreeSet::new(),
        }
    }

    /// The first sequence that is not given out.
    pub(super) fn next(&self) -> Sequence {
        self.next
    }

    /// Whether a segment of the log has its number and is not in the table.
    pub(super) fn is_log_underway(&self) -> bool {
        self.underway.values().any(|underway| underway.stream == Stream::Log)
    }

    /// What there is of files, where so many segments are in the pool's table.
    pub(super) fn stock(&self, named: usize, unwanted: Unwanted) -> Stock {
        let stays = unwanted == Unwanted::Counts || self.pins == 0;
        let unwanted = if stays { self.unwanted.len() } else { 0 };
        Stock {
            segments: (named + self.underway.len() + unwanted) as u64 + self.leaving.segments,
            spares: self.spares.len() as u64 + self.leaving.spares,
        }
    }

    /// Caps the bytes on disk from now on, so many segments of which are the reserve.
    pub(super) fn cap(&mut self, max_disk_bytes: u64, reserve: u64, named: usize) {
        let Stock { segments, spares } = self.stock(named, Unwanted::Counts);
        self.limit = Limit::new(max_disk_bytes, self.segment_size, segments + spares);
        self.shares = Shares::new(reserve);
    }

    /// Leaves the map so many segments to be written anew from now on.
    pub(super) fn leave_for_map(&mut self, segments: u64) {
        self.shares.set_map(segments);
    }

    /// The same, where the store is opened.
    pub(super) fn begin_with_map(&mut self, segments: u64, named: usize) {
        let Stock { segments: there, spares } = self.stock(named, Unwanted::Counts);
        self.limit = self.limit.with_map(segments, there + spares);
        self.leave_for_map(segments);
    }

    /// What each claim leaves to others.
    pub(super) fn shares(&self) -> Shares {
        self.shares.with_frees(self.of_frees.len() as u64)
    }

    /// Segments that may still be made for this; none where there is no cap.
    pub(super) fn left(&self, claim: Claim, named: usize) -> Option<u64> {
        self.limit.left(self.stock(named, Unwanted::Counts).segments, claim, self.shares())
    }

    pub(super) fn is_of_frees(&self, sequence: Sequence) -> bool {
        self.of_frees.contains(&sequence)
    }

    /// What frees have is for users too, if there is room for users.
    ///
    /// # Errors
    /// `NoSpace` where there is none.
    pub(super) fn give_to_users(&mut self, named: usize) -> Result<()> {
        if self.left(Claim::User, named) == Some(0) {
            return Err(Error::NoSpace { what: CAPPED });
        }
        self.of_frees.clear();
        Ok(())
    }

    /// Begins a birth. `is_beyond` says that the disk has no room for users.
    ///
    /// # Errors
    /// `NoSpace` where there may not be one more.
    pub(super) fn draw(&mut self, order: &Order, named: usize, is_beyond: bool) -> Result<Drawn> {
        // Files kept for reuse are used first, and are there already.
        if !self.limit.allows(self.stock(named, Unwanted::Counts).segments + 1, order.claim, self.shares()) {
            return Err(Error::NoSpace { what: CAPPED });
        }
        let is_capped = self.left(Claim::User, named) == Some(0);
        let is_of_frees = order.stream == Stream::Log && order.claim != Claim::User && (is_capped || is_beyond);
        if is_of_frees && order.claim == Claim::Frees && self.of_frees.len() as u64 >= FREES {
            return Err(Error::NoSpace { what: if is_capped { CAPPED } else { FULL } });
        }
        let sequence = self.next;
        if is_of_frees {
            self.of_frees.insert(sequence);
        }
        self.next = Sequence(sequence.0 + 1);
        self.underway.insert(sequence, Underway { stream: order.stream, segment: None });
        Ok(Drawn { sequence, spare: self.spares.pop(), pins_ever: self.pins_ever })
    }

    /// It has a file. Somebody may have looked at that while it was made.
    pub(super) fn made(&mut self, segment: &Arc<Segment>, pins_ever: u64) {
        if self.pins > 0 || self.pins_ever != pins_ever {
            segment.link();
        }
        if let Some(underway) = self.underway.get_mut(&segment.header.sequence) {
            underway.segment = Some(Arc::clone(segment));
        }
    }

    /// It is in the table now, or never will be. A file of an earlier life that it did not take is kept for the next.
    pub(super) fn ended(&mut self, sequence: Sequence, spare: Option<String>) {
        self.underway.remove(&sequence);
        self.spares.extend(spare);
    }

    /// It will not be born, and no file bears its name. A number of the log that nobody has seen is given out again, so that a disk that is full for long uses up none:
    /// no directory is listed before its birth ends. A root may have come by the numbers of others.
    pub(super) fn failed(&mut self, sequence: Sequence, spare: Option<String>) {
        self.of_frees.remove(&sequence);
        let is_of_the_log = self.underway.get(&sequence).is_some_and(|underway| underway.stream == Stream::Log);
        self.ended(sequence, spare);
        if is_of_the_log && self.next.0 == sequence.0 + 1 {
            self.next = sequence;
        }
    }

    /// Says how many files are kept from the next that are given back on.
    pub(super) fn keep(&mut self, keep: Keep) {
        self.keep = keep;
    }

    /// Takes the files of segments that nobody needs any more, with those that could not be given back before, unless somebody wants all of them to stay.
    pub(super) fn leave(&mut self, gone: &[Arc<Segment>], named: usize) -> Leaving {
        // Whoever made all files stay before these came here may have a link to them.
        let linked = |segment: &Segment| if self.pins > 0 { Linked::Maybe } else { segment.linked() };
        self.of_frees.retain(|of| gone.iter().all(|segment| segment.header.sequence != *of));
        let gone: Vec<_> = gone.iter().map(|segment| (segment.header.sequence, linked(segment))).collect();
        self.unwanted.extend(gone);
        let mut leaving = Leaving::default();
        if self.pins > 0 && !planted(Canary::FilesPinIgnored) {
            return leaving;
        }
        let most = self.most(named);
        for (sequence, linked) in std::mem::take(&mut self.unwanted) {
            let is_kept = linked == Linked::No && ((self.spares.len() + leaving.keep.len()) as u64) < most;
            match is_kept {
                true => leaving.keep.push(sequence),
                false => leaving.remove.push((sequence, linked)),
            }
        }
        while self.spares.len() as u64 > most
            && let Some(spare) = self.spares.pop()
        {
            leaving.surplus.push(spare);
        }
        self.leaving = Stock {
            segments: (leaving.keep.len() + leaving.remove.len()) as u64,
            spares: leaving.surplus.len() as u64,
        };
        leaving
    }

    /// They have left.
    pub(super) fn left_behind(&mut self, left: Left) {
        self.leaving = Stock { segments: 0, spares: 0 };
        self.spares.extend(left.spares);
        self.unwanted.extend(left.stay);
    }

    /// Files kept for reuse at most.
    fn most(&self, named: usize) -> u64 {
        let used = (named + self.underway.len()) as u64;
        let capped = self.limit.left(used, Claim::User, self.shares()).unwrap_or(u64::MAX);
        SPARES.max(self.keep.spares.min(self.keep.files.saturating_sub(used)).min(capped))
    }

    /// Nothing that is under way or made from now on is ever used for another segment, nor is anything removed.
    pub(super) fn pin(&mut self) {
        self.pins += 1;
        self.pins_ever += 1;
        self.underway.values().filter_map(|underway| underway.segment.as_ref()).for_each(|segment| segment.link());
    }

    pub(super) fn unpin(&mut self) {
        self.pins -= 1;
    }

    /// Has no file given back any more.
    pub(super) fn end(&mut self) {
        self.over = true;
    }

    pub(super) fn are_over(&self) -> bool {
        self.over
    }
}

/// Whether files that only stay because somebody wants them to are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unwanted {
    Counts,
    NotIfPinned,
}
