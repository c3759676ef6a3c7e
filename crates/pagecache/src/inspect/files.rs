//! What is in the directory, with as little trust as possible: both copies of every header, and a chain that goes on past
//! a segment that cannot be read.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use super::report::Problem;
use crate::base::aligned::AlignedBuf;
use crate::base::error::{Error, Result};
use crate::base::ids::{Lsn, Sequence};
use crate::checkpoint::load::Checkpoint;
use crate::format::BLOCK;
use crate::format::root::Known;
use crate::format::segment::{
    FORMAT, Found, Named, Purpose, SEGMENT_MAX, SEGMENT_MIN, SegmentHeader, Stream, name, parse_name,
};
use crate::recovery::survey::holds_records;
use crate::storage::{OpenMode, StorageFile, read_full};
use crate::store::handles::Handles;
use crate::store::segment::Segment;

/// The files of a store.
#[derive(Debug)]
pub(super) struct Files {
    pub(super) purpose: Option<Purpose>,
    pub(super) segment_size: u64,
    /// The chain, oldest first.
    pub(super) links: Vec<Link>,
    /// The segments of other streams, by sequence.
    pub(super) others: Vec<Segment>,
    pub(super) leftovers: Vec<String>,
    pub(super) problems: Vec<Problem>,
    /// The log begins behind something that is not there, which is sound only where this LSN was trimmed.
    pub(super) begins_after: Option<(Sequence, Lsn)>,
}

/// One segment of the chain.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) segment: Arc<Segment>,
    /// LSNs below this segment that are not there: between the segment before and this one, or before the first.
    pub(super) missing: Option<Range<Lsn>>,
    /// Whether it is known where its records end: not, where the segment behind it is gone.
    pub(super) bounded: bool,
}

/// What the last checkpoint says of segments of the log, if there is one and it is of this store.
#[derive(Clone, Copy)]
struct Said<'a>(Option<&'a Checkpoint>);

impl<'a> Said<'a> {
    /// What the root knows of a segment that ends at or below the redo point.
    fn known(self, sequence: Sequence) -> Option<&'a Known> {
        let Checkpoint { superblock, root, .. } = self.0?;
        let at = root.segments.binary_search_by_key(&sequence, |known| known.sequence).ok()?;
        let below =
            |known: &&Known| known.stream == Stream::Log && known.start.0 + superblock.segment_size <= root.redo.0;
        root.segments.get(at).filter(below)
    }

    /// Whether a segment of the log that ends here was given back, or is about to be: nothing in it is needed.
    fn gave_back(self, sequence: Sequence, end: Lsn) -> bool {
        self.0.is_some_and(|Checkpoint { root, .. }| {
            end <= root.redo && root.segments.binary_search_by_key(&sequence, |known| known.sequence).is_err()
        })
    }
}

/// A segment's file whose header could be read.
struct Candidate {
    segment: Segment,
    problems: Vec<Problem>,
}

pub(super) fn problem(segment: Sequence, offset: u64, lsn: impl Into<Option<Lsn>>, what: impl Into<String>) -> Problem {
    Problem { segment: segment.0, offset, lsn: lsn.into(), what: what.into() }
}

/// Reads every name and header, and follows the predecessors back from the newest segment. `trimmed` says what the given
/// segments, newest first, prove to be trimmed: so that a beginning that is gone is told from a hole in the chain. Below the redo
/// point of the checkpoint what its root does not name may be gone, or is a leftover.
///
/// # Errors
/// `NotFound` where there is no store, `Incompatible` for something else or a newer format, `Io`.
pub(super) fn survey(
    handles: &Arc<Handles>,
    checkpoint: Option<&Checkpoint>,
    trimmed: impl Fn(&[Link]) -> Result<Lsn>,
) -> Result<Files> {
    let storage = handles.storage();
    let mut names = storage.list().map_err(|error| Error::io("list", storage.describe(), error))?;
    names.sort_unstable();
    let (mut leftovers, mut sequences, mut foreign) = (Vec::new(), Vec::new(), None);
    for file in names {
        match parse_name(&file) {
            Named::Segment(sequence) => sequences.push(sequence),
            Named::Scratch => leftovers.push(file),
            Named::Superblock(_) => {}
            Named::Foreign => foreign = Some(file),
        }
    }
    if sequences.is_empty() {
        return Err(match foreign {
            Some(file) => Error::Incompatible {
                found: format!("{} with a file {file}", storage.describe()),
                expected: "a store".to_owned(),
            },
            None => Error::NotFound { path: storage.describe() },
        });
    }
    let (mut candidates, mut problems) = (BTreeMap::new(), Vec::new());
    let newest = sequences.iter().max().copied().unwrap_or_default();
    for sequence in sequences {
        let file_name = name(sequence);
        let file =
            handles.open(&file_name, OpenMode::ReadOnly).map_err(|error| Error::io("open", &file_name, error))?;
        let mut found = Vec::new();
        match copies(file.as_ref(), sequence, &file_name, &mut found)? {
            Some(header) if header.sequence == sequence => {
                candidates
                    .insert(sequence, Candidate { segment: Segment::found(header, file, handles), problems: found });
            }
            Some(header) => match holds_records(&Arc::new(Segment::found(header, file, handles)))? {
                true => problems.push(problem(sequence, 0, header.start, "the segment bears another one's name")),
                // A recycled file whose rename was lost: the life under this name is over, the other never began.
                false => leftovers.push(file_name),
            },
            None => problems.extend(found),
        }
    }
    let mut files = Files {
        purpose: None,
        segment_size: 0,
        links: Vec::new(),
        others: Vec::new(),
        leftovers,
        problems,
        begins_after: None,
    };
    let store = files.only_own(&mut candidates);
    let is_own = |checkpoint: &&Checkpoint| {
        let superblock = &checkpoint.superblock;
        Some((superblock.store, superblock.segment_size)) == store
    };
    let said = Said(checkpoint.filter(is_own));
    let (others, mut candidates): (BTreeMap<_, _>, _) =
        candidates.into_iter().partition(|(_, candidate)| candidate.segment.header.stream != Stream::Log);
    if candidates.is_empty() && files.problems.is_empty() {
        // Leftovers and segments of other streams are what is there beside a log; here there is none.
        files.problems.push(problem(newest, 0, None, "no segment is what its name says"));
    }
    for candidate in others.into_values() {
        files.problems.extend(candidate.problems);
        files.others.push(candidate.segment);
    }
    candidates.retain(|sequence, Candidate { segment, .. }| {
        let end = Lsn(segment.header.start.0 + segment.header.segment_size);
        let is_needed = !said.gave_back(*sequence, end);
        if !is_needed {
            files.leftovers.push(name(*sequence));
        }
        is_needed
    });
    files.link(candidates, said, trimmed)?;
    Ok(files)
}

/// Reads both copies of a header and says where they do not agree.
fn copies(
    file: &dyn StorageFile,
    sequence: Sequence,
    file_name: &str,
    problems: &mut Vec<Problem>,
) -> Result<Option<SegmentHeader>> {
    let io = |error| Error::io("read", file_name, error);
    let block_at = |offset| -> Result<AlignedBuf> {
        let mut block = AlignedBuf::zeroed(BLOCK as usize);
        read_full(file, block.as_mut_slice(), offset).map_err(io)?;
        Ok(block)
    };
    let first = block_at(0)?;
    let header = match SegmentHeader::decode(first.as_slice()) {
        Found::Valid(header) => header,
        other => {
            let last = last_copy(&block_at)?;
            let Some(header) = last else {
                if let Found::Newer(version) = other {
                    return Err(Error::Incompatible {
                        found: format!("segment {file_name} of format {version}"),
                        expected: format!("format {FORMAT}"),
                    });
                }
                problems.push(problem(sequence, 0, None, "the segment has no valid header, neither first nor last"));
                return Ok(None);
            };
            header
        }
    };
    let block = header.encode();
    let (len, size) = (file.len().map_err(io)?, header.segment_size);
    if first.as_slice() != &*block {
        problems.push(problem(sequence, 0, None, "the first copy of the header is damaged"));
    }
    if len < size {
        problems.push(problem(sequence, len, None, "the file is shorter than its segment"));
    } else if block_at(size - BLOCK)?.as_slice() != &*block {
        problems.push(problem(sequence, size - BLOCK, None, "the last copy of the header is damaged"));
    }
    if len > size {
        problems.push(problem(sequence, size, None, "the file goes on behind the end of its segment"));
    }
    Ok(Some(header))
}

/// The last copy of a header, looked for at the end of every size that a segment may have.
fn last_copy(block_at: &impl Fn(u64) -> Result<AlignedBuf>) -> Result<Option<SegmentHeader>> {
    let mut size = SEGMENT_MIN;
    while size <= SEGMENT_MAX {
        if let Found::Valid(header) = SegmentHeader::decode(block_at(size - BLOCK)?.as_slice())
            && header.segment_size == size
        {
            return Ok(Some(header));
        }
        size *= 2;
    }
    Ok(None)
}

impl Files {
    /// Keeps what is of the same store as the newest segment. Returns which that is, and how long its segments are.
    fn only_own(&mut self, candidates: &mut BTreeMap<Sequence, Candidate>) -> Option<(u128, u64)> {
        let identity = candidates.last_entry().map(|newest| newest.get().segment.header)?;
        self.purpose = Some(identity.purpose);
        self.segment_size = identity.segment_size;
        candidates.retain(|sequence, Candidate { segment: Segment { header, .. }, .. }| {
            let own = (header.store, header.segment_size) == (identity.store, identity.segment_size)
                && header.purpose == identity.purpose;
            if !own {
                self.problems.push(problem(*sequence, 0, None, "the segment is of another store"));
            }
            own
        });
        Some((identity.store, identity.segment_size))
    }

    /// Follows the predecessors back from the newest segment, over what is missing.
    fn link(
        &mut self,
        mut candidates: BTreeMap<Sequence, Candidate>,
        said: Said<'_>,
        trimmed: impl Fn(&[Link]) -> Result<Lsn>,
    ) -> Result<()> {
        let newest = candidates.last_key_value().map(|(newest, _)| *newest);
        let lost = self.problems.iter().map(|problem| Sequence(problem.segment)).max();
        let mut bounded = lost <= newest;
        let mut wanted = newest;
        let mut next: Option<SegmentHeader> = None;
        while let Some(Candidate { mut segment, problems }) = wanted.and_then(|wanted| candidates.remove(&wanted)) {
            let header = segment.header;
            self.problems.extend(problems);
            if let Some(next) = next {
                bounded = self.join(&mut segment, &next, said);
            }
            next = Some(header);
            self.links.push(Link { segment: Arc::new(segment), missing: None, bounded });
            wanted = header.previous.map(|previous| previous.sequence);
            let Some(previous) = header.previous.filter(|previous| !candidates.contains_key(&previous.sequence)) else {
                continue;
            };
            let below = candidates.range(..previous.sequence).rev();
            wanted = below
                .map(|(sequence, candidate)| (*sequence, candidate.segment.header.start))
                .find_map(|(sequence, start)| (start < previous.end).then_some(sequence));
            if said.gave_back(previous.sequence, previous.end) {
                // The next one says what is missing in between; below the last it is everything.
                if let Some(link) = self.links.last_mut().filter(|_| wanted.is_none()) {
                    link.missing = Some(Lsn(0)..previous.end);
                }
                continue;
            }
            if wanted.is_none() || trimmed(&self.links)? >= previous.end {
                self.begins_after = Some((previous.sequence, previous.end));
                if let Some(link) = self.links.last_mut() {
                    link.missing = Some(Lsn(0)..previous.end);
                }
                break;
            }
            self.report_missing(previous.sequence, None);
        }
        self.links.reverse();
        self.leftovers.extend(candidates.into_keys().map(name));
        Ok(())
    }

    /// Fits a segment to the one after it. Returns whether it is known where its records end.
    fn join(&mut self, segment: &mut Segment, next: &SegmentHeader, said: Said<'_>) -> bool {
        let header = segment.header;
        let known = said.known(header.sequence);
        if let Some(known) = known.filter(|known| known.cut_off > 0) {
            segment.cut = Some(Lsn(segment.data_end().0.saturating_sub(known.cut_off)));
        }
        if header.stable > next.stable || header.first > next.first {
            let what = "the header says that less was stable or trimmed than the one before";
            self.problems.push(problem(next.sequence, 0, next.start, what));
        }
        let previous = next.previous.filter(|previous| previous.sequence == header.sequence);
        let fits = previous.filter(|previous| {
            previous.salt == header.salt
                && header.start < next.start
                && previous.end >= segment.data_start()
                && previous.end <= segment.data_end()
        });
        match fits {
            Some(previous) => segment.cut = (previous.end < segment.data_end()).then_some(previous.end),
            None => {
                if previous.is_some() {
                    let what = "the segment is not what its successor says it is";
                    self.problems.push(problem(header.sequence, 0, header.start, what));
                }
                if let Some(link) = self.links.last_mut() {
                    link.missing = Some(segment.records_end().min(next.start)..next.start);
                }
            }
        }
        fits.is_some() || known.is_some()
    }

    /// Says that a segment is missing, where nothing else was said of it.
    pub(super) fn report_missing(&mut self, sequence: Sequence, lsn: Option<Lsn>) {
        if !self.problems.iter().any(|problem| problem.segment == sequence.0) {
            self.problems.push(problem(sequence, 0, lsn, "the segment is missing"));
        }
    }
}
