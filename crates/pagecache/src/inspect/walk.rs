//! The walk over every record of every segment: what ends it, what it goes on behind, and where the bytes are.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use super::extents::{Extents, Named};
use super::files::{Link, problem};
use super::pages::Chains;
use super::report::{Bytes, Problem, Records, SegmentReport};
use crate::base::aligned::AlignedBuf;
use crate::base::error::{Error, Result};
use crate::base::ids::{Lsn, Sequence};
use crate::format::BLOCK;
use crate::format::mark::{MARK, Mark, MarkKind};
use crate::format::moves::decode_given_back;
use crate::format::page::{PageHead, Payload};
use crate::format::record::{ExtentRef, Kind, Shape};
use crate::format::segment::Purpose;
use crate::log::read::unknown_kind;
use crate::log::scan::{Scanner, Step, evidence};
use crate::recovery::decide::{Evidence, Last, Stop, Verdict, decide};
use crate::recovery::pages::Entries;
use crate::recovery::rebuild::{Collect, Record};
use crate::storage::read_full;
use crate::store::handles::Handles;
use crate::store::segment::Segment;

/// What was learnt so far.
#[derive(Debug)]
pub(super) struct Walk<'a> {
    handles: &'a Arc<Handles>,
    links: &'a [Link],
    purpose: Purpose,
    /// LSNs below which the log is known to have been trimmed before it begins.
    begins: Lsn,
    pub(super) segments: Vec<SegmentReport>,
    pub(super) records: Records,
    pub(super) chains: Chains,
    pub(super) problems: Vec<Problem>,
    extents: Extents,
    /// Stretches that could not be read.
    pub(super) gaps: Vec<Range<Lsn>>,
    /// Problems with records that a trim further up may have forgotten.
    unless_trimmed: Vec<(Lsn, Problem)>,
    /// The highest stable LSN so far, and the highest of all once the walk had to ask.
    pub(super) proven: Lsn,
    proven_anywhere: Option<Lsn>,
    pub(super) trimmed: Lsn,
    /// What a checkpoint says: where replay starts, and what was stable when it was written.
    checkpoint: Option<Known>,
    /// What a replay would make of it, from where it starts: for what the checkpoint's leaves lead to since.
    pub(super) tail: Entries,
    last: Option<Mark>,
    /// Where the log ends, once that is known.
    ended: bool,
    pub(super) end: Lsn,
}

/// What a checkpoint says of the log.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    pub(super) redo: Lsn,
    pub(super) stable: Lsn,
}

/// A record's place, for problems.
#[derive(Clone, Copy)]
struct At {
    segment: Sequence,
    offset: u64,
    lsn: Lsn,
}

impl At {
    fn new(segment: &Segment, lsn: Lsn) -> At {
        At { segment: segment.header.sequence, offset: segment.offset(lsn), lsn }
    }

    fn problem(self, what: impl Into<String>) -> Problem {
        problem(self.segment, self.offset, self.lsn, what)
    }
}

impl<'a> Walk<'a> {
    pub(super) fn new(
        handles: &'a Arc<Handles>,
        links: &'a [Link],
        purpose: Purpose,
        begins: Lsn,
        checkpoint: Option<Known>,
    ) -> Walk<'a> {
        Walk {
            handles,
            links,
            purpose,
            begins,
            segments: Vec::new(),
            records: Records::default(),
            chains: Chains::new(checkpoint.map_or(Lsn(0), |checkpoint| checkpoint.redo)),
            problems: Vec::new(),
            extents: Extents::default(),
            gaps: Vec::new(),
            unless_trimmed: Vec::new(),
            proven: Lsn(0),
            proven_anywhere: None,
            trimmed: Lsn(0),
            checkpoint,
            tail: Entries::default(),
            last: None,
            ended: false,
            end: Lsn(0),
        }
    }

    /// Every segment, oldest first.
    ///
    /// # Errors
    /// `Io`; `Incompatible` for an intact record of a kind that this build does not know.
    pub(super) fn all(&mut self) -> Result<()> {
        for (index, link) in self.links.iter().enumerate() {
            let header = link.segment.header;
            if let Some(missing) = &link.missing {
                self.gap(missing.clone());
            }
            self.trimmed = self.trimmed.max(header.first);
            let mut bytes = Bytes { segment_headers: 2 * BLOCK, ..Bytes::default() };
            let records = self.records.total();
            let mut end = link.segment.data_start();
            if !self.ended {
                self.proven = self.proven.max(header.stable);
                end = self.segment(index, link, &mut bytes)?;
                self.end = end.max(self.end);
            }
            bytes.unused = link.segment.data_end().0 - end.0;
            self.segments.push(SegmentReport {
                sequence: header.sequence.0,
                start: header.start,
                end,
                allocated: link
                    .segment
                    .file()?
                    .allocated()
                    .map_err(|error| Error::io("stat", link.segment.name(), error))?,
                records: self.records.total() - records,
                bytes,
            });
        }
        self.check_end();
        self.proven = self.proven.max(self.proven_anywhere.unwrap_or_default()).max(self.known_stable());
        let kept = self.unless_trimmed.drain(..).filter(|(lsn, _)| *lsn >= self.trimmed);
        self.problems.extend(kept.map(|(_, problem)| problem));
        self.check_beginning()?;
        if self.is_clean() { self.nothing_behind() } else { Ok(()) }
    }

    /// Everything that a checkpoint calls stable is below this.
    fn known_stable(&self) -> Lsn {
        self.checkpoint.map_or(Lsn(0), |checkpoint| checkpoint.stable)
    }

    /// The end of the newest segment is no end of the log where a checkpoint proves more.
    fn check_end(&mut self) {
        let (stable, end) = (self.known_stable(), self.end);
        if let Some(newest) = self.links.last()
            && !self.ended
            && end < stable
        {
            let what = format!("the log ends here, and a checkpoint proves more to be stable ({stable})");
            self.problems.push(At::new(&newest.segment, end).problem(what));
        }
    }

    /// Replay starts at a record, or where one is to be written next.
    fn check_redo(&mut self, segment: &Segment, from: Lsn, to: Lsn) {
        if let Some(redo) = self.checkpoint.map(|checkpoint| checkpoint.redo)
            && from < redo
            && redo < to
        {
            self.problems.push(At::new(segment, redo).problem("replay would start here, inside a record"));
        }
    }

    /// What a trim keeps begins with a record: a reader starts there.
    fn check_beginning(&mut self) -> Result<()> {
        let first = self.trimmed;
        let inside =
            |link: &&Link| first > link.segment.data_start() && first < link.segment.records_end().min(self.end);
        let Some(link) = self.links.iter().find(inside) else { return Ok(()) };
        let mut scanner = Scanner::new(Arc::clone(&link.segment), link.segment.records_end());
        while scanner.position() < first && !matches!(scanner.step()?, Step::End | Step::Hole | Step::Unknown { .. }) {}
        // A hole below it was trimmed, or was reported.
        if scanner.position() > first {
            let what = "what was trimmed ends inside a record";
            self.problems.push(At::new(&link.segment, first).problem(what));
        }
        Ok(())
    }

    /// Whether the last thing in the log is the mark of a close with nothing unproven before it.
    pub(super) fn is_clean(&self) -> bool {
        self.last.is_some_and(|mark| mark.kind == MarkKind::Close && mark.stable == mark.own)
            && self.links.last().is_some_and(|link| link.bounded)
    }

    fn gap(&mut self, missing: Range<Lsn>) {
        self.chains.gap(missing.end);
        self.gaps.push(missing);
    }

    /// One segment. Returns where it ends.
    fn segment(&mut self, index: usize, link: &Link, bytes: &mut Bytes) -> Result<Lsn> {
        let segment = &link.segment;
        let end = segment.records_end();
        let mut scanner = Scanner::new(Arc::clone(segment), end);
        loop {
            let from = scanner.position();
            match scanner.step()? {
                Step::Record { lsn, shape, body, body_at, len, .. } => {
                    self.last = None;
                    self.check_redo(segment, from, Lsn(from.0 + len));
                    if self.checkpoint.is_some_and(|known| lsn >= known.redo)
                        && let Err(Error::Corrupt(at)) =
                            self.tail.record(Record { segment: segment.as_ref(), lsn, shape, body, body_at, len })
                        // Of pages' records it is said below.
                        && matches!(shape.kind, Kind::Moves | Kind::GivenBack)
                    {
                        self.problems.push(At::new(segment, lsn).problem(at.what));
                    }
                    self.record(At::new(segment, lsn), shape, body, body_at, len, bytes);
                }
                Step::Mark { mark } => {
                    self.mark(At::new(segment, from), mark);
                    self.check_redo(segment, from, scanner.position());
                    bytes.padding += scanner.position().0 - from.0;
                }
                Step::End => {
                    self.check_redo(segment, from, scanner.position());
                    bytes.padding += scanner.position().0 - from.0;
                    break;
                }
                Step::Unknown { kind } => return Err(unknown_kind(kind)),
                Step::Hole => {
                    let proven = self.proven_at_a_hole(index, from)?;
                    let above = if proven > from { Evidence::Above } else { Evidence::NotAbove };
                    if decide(Stop::Hole, above, Last::Other) != Verdict::Damaged {
                        self.ended = link.bounded;
                        return Ok(from);
                    }
                    let what = format!("a record that was stable is not there, or not what was written ({proven})");
                    self.problems.push(At::new(segment, from).problem(what));
                    let resume = next_mark(segment, from)?.unwrap_or(end);
                    bytes.damaged += resume.0 - from.0;
                    self.gap(from..resume);
                    self.last = None;
                    scanner = Scanner::from(Arc::clone(segment), resume, end);
                }
            }
        }
        self.check_cut(segment)?;
        Ok(end)
    }

    /// The highest stable LSN that is known at a hole: from everywhere, or where the segment behind this one is gone and may
    /// have cut it, from its own marks.
    fn proven_at_a_hole(&mut self, index: usize, hole: Lsn) -> Result<Lsn> {
        let rest = self.links.get(index..).unwrap_or_default();
        let Some((own, later)) = rest.split_first() else { return Ok(self.proven) };
        if !own.bounded {
            return Ok(evidence(&own.segment, hole)?.unwrap_or_default().max(self.known_stable()));
        }
        if let Some(proven) = self.proven_anywhere {
            return Ok(proven);
        }
        let mut proven = self.proven.max(evidence(&own.segment, hole)?.unwrap_or_default()).max(self.known_stable());
        for link in later {
            let marks = evidence(&link.segment, link.segment.header.start)?;
            proven = proven.max(link.segment.header.stable).max(marks.unwrap_or_default());
        }
        self.proven_anywhere = Some(proven);
        Ok(proven)
    }

    /// What a recovery cut off must not have been stable.
    fn check_cut(&mut self, segment: &Arc<Segment>) -> Result<()> {
        let Some(cut) = segment.cut else { return Ok(()) };
        let uncut = Arc::new(Segment::found(segment.header, segment.file()?, self.handles));
        if evidence(&uncut, cut)?.is_some_and(|stable| stable > cut) {
            self.problems
                .push(At::new(segment, cut).problem("records were cut off here that a mark proves to be stable"));
        }
        Ok(())
    }

    /// Behind the mark of a close nothing was ever written, but for the pad of an opening that was torn.
    fn nothing_behind(&mut self) -> Result<()> {
        for link in self.links.iter().filter(|link| link.segment.data_end() > self.end) {
            let from = self.end.max(link.segment.data_start());
            let mut found = None;
            marks(&link.segment, from, |at, mark| {
                found = (mark.own != from).then_some(at);
                found.is_none()
            })?;
            if let Some(at) = found {
                let what = "a valid mark stands behind the end of a log that was closed";
                self.problems.push(At::new(&link.segment, Lsn(at.0 - MARK)).problem(what));
            }
        }
        Ok(())
    }

    fn mark(&mut self, at: At, mark: Mark) {
        self.records.marks += 1;
        if mark.stable < self.proven {
            let what = format!("a mark says that {} was stable, and {} was before it", mark.stable, self.proven);
            self.problems.push(at.problem(what));
        }
        self.proven = self.proven.max(mark.stable);
        self.chains.mark(mark.own);
        self.last = Some(mark);
    }

    fn record(&mut self, at: At, shape: Shape, body: &[u8], body_at: usize, len: u64, bytes: &mut Bytes) {
        let mut payload = 0;
        match shape.kind {
            Kind::Aborted => {
                self.records.aborted += 1;
                bytes.aborted += len;
                return;
            }
            Kind::Raw => {
                self.records.raw += 1;
                self.belongs(at, Purpose::Log);
                match shape.extent {
                    true => self.extent(at, ExtentRef::decode(body)),
                    false => payload = body.len() as u64,
                }
            }
            Kind::Extent => {
                self.records.extent += 1;
                match body.split_at_checked(8).and_then(|(before, piece)| Some((before.try_into().ok()?, piece))) {
                    Some((before, piece)) => {
                        payload = piece.len() as u64;
                        self.extents.piece(at.lsn, Lsn(u64::from_le_bytes(before)), piece);
                    }
                    None => self.problems.push(at.problem("a piece of an extent does not say what comes before")),
                }
            }
            Kind::Trim => {
                self.records.trim += 1;
                match body.try_into().map(u64::from_le_bytes) {
                    Ok(to) if to <= at.lsn.0 => self.trimmed = self.trimmed.max(Lsn(to)),
                    _ => self.problems.push(at.problem("a trim does not say where to")),
                }
            }
            Kind::Replace | Kind::Link | Kind::Free => payload = self.page(at, shape, body, body_at),
            Kind::Moves => {
                self.records.moves += 1;
                self.belongs(at, Purpose::Pages);
            }
            Kind::GivenBack => {
                self.records.given_back += 1;
                self.belongs(at, Purpose::Pages);
            }
            Kind::Image | Kind::Leaf | Kind::Root => {
                self.problems.push(at.problem("a record of another stream stands in the log"))
            }
            Kind::PadSegment | Kind::PadBlock => self.problems.push(at.problem("a pad in the shape of a record")),
        }
        bytes.payload += payload;
        bytes.headers += len - payload;
    }

    /// A page's record. Returns its payload's bytes in this place.
    fn page(&mut self, at: At, shape: Shape, body: &[u8], body_at: usize) -> u64 {
        match shape.kind {
            Kind::Replace => self.records.replace += 1,
            Kind::Link => self.records.link += 1,
            _ => self.records.free += 1,
        }
        self.belongs(at, Purpose::Pages);
        let Some((head, payload)) = PageHead::decode(shape, body, body_at) else {
            self.problems.push(at.problem("a page's record has no page"));
            return 0;
        };
        let (here, whole) = match payload {
            Payload::Inline(from) => {
                let len = body.len().saturating_sub(from) as u64;
                (len, len)
            }
            Payload::Extent(extent, _) => {
                self.extent(at, Some(extent));
                (0, extent.len)
            }
        };
        if let Some(what) = self.chains.apply(at.lsn, shape.kind, head, whole) {
            self.problems.push(at.problem(what));
        }
        here
    }

    fn belongs(&mut self, at: At, purpose: Purpose) {
        if self.purpose != purpose {
            self.problems.push(at.problem("a record of a bare log among pages, or of a page in a bare log"));
        }
    }

    fn extent(&mut self, at: At, extent: Option<ExtentRef>) {
        let Some(extent) = extent.filter(|extent| extent.last < at.lsn) else {
            return self.problems.push(at.problem("a reference to an extent is malformed"));
        };
        let what = match self.extents.named(&extent) {
            Named::Whole => return,
            Named::Wrong => "the pieces of an extent do not add up to what was written",
            // Below the redo point it may be needed no more, and its pieces given back; leaves that need it say so.
            Named::Missing if self.checkpoint.is_some_and(|known| at.lsn < known.redo) => return,
            Named::Missing => "a piece of an extent is missing",
        };
        if extent.first < self.begins {
            // Sound, if the record itself is forgotten too.
            self.unless_trimmed.push((at.lsn, at.problem(what)));
        } else if !self.gaps.iter().any(|gap| gap.start <= extent.last && extent.first < gap.end) {
            self.problems.push(at.problem(what));
        }
    }
}

/// Shows every valid mark of a segment whose block ends above `from`, with that end, until `more` says no.
fn marks(segment: &Arc<Segment>, from: Lsn, mut more: impl FnMut(Lsn, Mark) -> bool) -> Result<()> {
    let mut window = AlignedBuf::zeroed(64 * BLOCK as usize);
    let mut start = Lsn((from.0 / BLOCK * BLOCK).max(segment.data_start().0));
    while start < segment.records_end() {
        let count = (segment.records_end().0 - start.0).min(window.as_slice().len() as u64) as usize;
        let target = window.as_mut_slice().get_mut(..count).unwrap_or_default();
        let filled = read_full(segment.file()?.as_ref(), target, segment.offset(start))
            .map_err(|error| Error::io("read", segment.name(), error))?;
        for (nth, block) in window.as_slice().get(..filled).unwrap_or_default().chunks_exact(BLOCK as usize).enumerate()
        {
            let end = Lsn(start.0 + (nth as u64 + 1) * BLOCK);
            let bytes = block.get((BLOCK - MARK) as usize..).unwrap_or_default();
            if let Some(mark) = Mark::decode(bytes, end, segment.header.salt)
                && end > from
                && !more(end, mark)
            {
                return Ok(());
            }
        }
        if filled < count {
            return Ok(());
        }
        start = Lsn(start.0 + count as u64);
    }
    Ok(())
}

/// The first place above a hole where a record starts for certain: behind the next valid mark.
fn next_mark(segment: &Arc<Segment>, hole: Lsn) -> Result<Option<Lsn>> {
    let mut found = None;
    marks(segment, hole, |end, _| {
        found = Some(end);
        false
    })?;
    Ok(found)
}

/// The segments of which the log says, from where replay starts, that they were given back since the checkpoint.
///
/// # Errors
/// `Io`.
pub(super) fn given_back(links: &[Link], checkpoint: Known) -> Result<BTreeSet<Sequence>> {
    let (redo, mut given_back) = (checkpoint.redo, BTreeSet::new());
    for (index, Link { segment, .. }) in links.iter().enumerate().filter(|(_, link)| link.segment.data_end() > redo) {
        let end = segment.records_end();
        let mut scanner = Scanner::from(Arc::clone(segment), segment.data_start().max(redo), end);
        loop {
            match scanner.step()? {
                Step::Record { shape, body, .. } if shape.kind == Kind::GivenBack => {
                    given_back.extend(decode_given_back(body).unwrap_or_default());
                }
                Step::Record { .. } | Step::Mark { .. } => {}
                Step::End | Step::Unknown { .. } => break,
                Step::Hole => {
                    let hole = scanner.position();
                    if !is_proven(links.get(index..).unwrap_or_default(), hole, checkpoint.stable)? {
                        // The end of the log: what stands behind was never acknowledged, and a start does not read it.
                        return Ok(given_back);
                    }
                    // What stands behind damage counts: it is said once what is missing is.
                    match next_mark(segment, hole)? {
                        Some(resume) => scanner = Scanner::from(Arc::clone(segment), resume, end),
                        None => break,
                    }
                }
            }
        }
    }
    Ok(given_back)
}

/// Whether anything proves that more was stable than what lies below a hole in the first of these segments.
fn is_proven(links: &[Link], hole: Lsn, stable: Lsn) -> Result<bool> {
    let mut proven = stable;
    for (nth, Link { segment, .. }) in links.iter().enumerate() {
        let from = if nth == 0 { hole } else { segment.header.start };
        let header = if nth == 0 { Lsn(0) } else { segment.header.stable };
        proven = proven.max(header).max(evidence(segment, from)?.unwrap_or_default());
    }
    Ok(proven > hole)
}

/// What the given segments say was trimmed.
pub(super) fn trimmed(links: &[Link]) -> Result<Lsn> {
    let mut trimmed = Lsn(0);
    for link in links {
        trimmed = trimmed.max(link.segment.header.first);
        let mut scanner = Scanner::new(Arc::clone(&link.segment), link.segment.records_end());
        loop {
            match scanner.step()? {
                Step::Record { lsn, shape, body, .. } => {
                    if shape.kind == Kind::Trim
                        && let Ok(to) = body.try_into().map(u64::from_le_bytes)
                        && to <= lsn.0
                    {
                        trimmed = trimmed.max(Lsn(to));
                    }
                }
                Step::Mark { .. } => {}
                Step::End | Step::Hole | Step::Unknown { .. } => break,
            }
        }
    }
    Ok(trimmed)
}
