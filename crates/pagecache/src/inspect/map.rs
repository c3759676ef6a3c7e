//! The last checkpoint: its superblock's copies, its root, and every leaf with every record that it names; and whether all of
//! them say what the log below the redo point says.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use super::files::problem;
use super::pages::{Chains, Said};
use super::report::{CheckpointReport, Problem};
use crate::base::error::{Error, Result};
use crate::base::ids::{Lsn, PageId, Sequence, Version};
use crate::checkpoint::load::{Checkpoint, Copies, find};
use crate::format::leaf::{Entry, LeafHead, entries};
use crate::format::page::PageHead;
use crate::format::piece::Piece;
use crate::format::record::Kind;
use crate::format::root::{Known, LeafAt, Root};
use crate::format::segment::{Purpose, Stream};
use crate::store::handles::Handles;
use crate::store::pool::{Identity, Pool, Segment};
use crate::store::stream::read;

/// What was found of the map.
#[derive(Debug, Default)]
pub(super) struct Map {
    pub(super) report: Option<CheckpointReport>,
    pub(super) problems: Vec<Problem>,
    /// Segments that no checkpoint which counts has a use for.
    pub(super) unused: Vec<Sequence>,
    /// Segments of which it was said that they are not there.
    lost: BTreeSet<Sequence>,
}

/// What was found of the log.
#[derive(Clone, Copy)]
pub(super) struct Log<'a> {
    pub(super) segments: &'a [Arc<Segment>],
    pub(super) chains: &'a Chains,
    /// Stretches that were reported.
    pub(super) gaps: &'a [Range<Lsn>],
    pub(super) problems: &'a [Problem],
}

/// What leaves are compared with.
struct Beside<'a> {
    pool: &'a Pool,
    log: Log<'a>,
    root: &'a Root,
}

impl Map {
    /// The checkpoint that an opening would start from.
    ///
    /// # Errors
    /// `Io`, `Incompatible`.
    pub(super) fn find(&mut self, handles: &Arc<Handles>) -> Result<Option<Checkpoint>> {
        find(handles).or_else(|error| self.corrupt(error).map(|()| None))
    }

    /// Looks at a checkpoint. `map` are the segments of the map in the directory. What was said of the log is not said again.
    ///
    /// # Errors
    /// `Io`.
    pub(super) fn check(
        &mut self,
        handles: &Arc<Handles>,
        checkpoint: Option<Checkpoint>,
        log: Log<'_>,
        map: Vec<Segment>,
    ) -> Result<()> {
        let Some(Checkpoint { superblock, root, holds_root, copies, .. }) = checkpoint else {
            // Where there was one and it is damaged, nobody knows what it had a use for.
            if self.problems.is_empty() {
                self.unused = map.iter().map(|segment| segment.header.sequence).collect();
            }
            return Ok(());
        };
        let known = |sequence| {
            let in_root = holds_root.iter().any(|segment| segment.header.sequence == sequence);
            in_root || root.segments.binary_search_by_key(&sequence, |known| known.sequence).is_ok()
        };
        let (map, unused): (Vec<Segment>, Vec<Segment>) =
            map.into_iter().partition(|segment| known(segment.header.sequence));
        self.unused = unused.iter().map(|segment| segment.header.sequence).collect();
        let mut report = CheckpointReport {
            number: superblock.number,
            redo: root.redo,
            copies_differ: copies == Copies::Differ,
            leaves: root.leaves.iter().flatten().count() as u64,
            segments: map.len() as u64,
            allocated: 0,
        };
        for segment in &map {
            let allocated = segment.file()?.allocated();
            report.allocated += allocated.map_err(|error| Error::io("stat", segment.name(), error))?;
        }
        self.report = Some(report);
        let at = superblock.root.address();
        let place = (Sequence(at.0 / superblock.segment_size), at.0 % superblock.segment_size);
        let mut say = |what: String| self.problems.push(problem(place.0, place.1, None, what));
        let Some(newest) = log.segments.last().map(|newest| newest.header) else { return Ok(()) };
        if (newest.store, newest.segment_size) != (superblock.store, superblock.segment_size) {
            say("the checkpoint is of another store than the log".to_owned());
            return Ok(());
        }
        if newest.purpose == Purpose::Log {
            say("a checkpoint stands beside a bare log".to_owned());
            return Ok(());
        }
        let holds_redo = |known: &Known| known.start <= root.redo && root.redo.0 < known.start.0 + newest.segment_size;
        if !root.segments.iter().any(|known| known.stream == Stream::Log && holds_redo(known)) {
            say("the root does not know the segment that replay starts in".to_owned());
        }
        let lost = log.problems.iter().filter(|problem| problem.offset == 0);
        self.lost = lost.map(|problem| Sequence(problem.segment)).collect();
        self.check_segments(&root, log.segments, &map);
        let identity = Identity { purpose: newest.purpose, store: superblock.store };
        let segments = log.segments.iter().map(Arc::clone).chain(map.into_iter().map(Arc::new));
        let pool = Pool::new(Arc::clone(handles), identity, superblock.segment_size, segments, root.next_sequence);
        let beside = Beside { pool: &pool, log, root: &root };
        for (number, leaf) in (0..).zip(&root.leaves) {
            if let Some(at) = leaf
                && let Err(error) = self.check_leaf(&beside, number, *at)
            {
                self.corrupt(error)?;
            }
        }
        self.check_pages(&beside, place);
        Ok(())
    }

    /// What the root knows of segments must be there, and be what their headers say.
    fn check_segments(&mut self, root: &Root, log: &[Arc<Segment>], map: &[Segment]) {
        let there = || log.iter().map(Arc::as_ref).chain(map);
        let sequences: BTreeSet<Sequence> = there().map(|segment| segment.header.sequence).collect();
        let ends = |start: Lsn| log.last().map_or(start, |newest| Lsn(start.0 + newest.header.segment_size));
        // From the redo point on the chain says what is missing: what a recovery cut off was there.
        let needed = |known: &&Known| known.stream == Stream::Map || ends(known.start) <= root.redo;
        for missing in root.segments.iter().filter(needed).filter(|known| !sequences.contains(&known.sequence)) {
            if !self.lost.insert(missing.sequence) {
                continue;
            }
            let lsn = (missing.stream == Stream::Log).then_some(missing.start);
            self.problems.push(problem(missing.sequence, 0, lsn, "the segment is missing"));
        }
        for segment in there() {
            let header = &segment.header;
            let known = root.segments.binary_search_by_key(&header.sequence, |known| known.sequence).ok();
            let same = match known.and_then(|at| root.segments.get(at)) {
                Some(known) => {
                    let cut_off = segment.data_end().0 - segment.records_end().0;
                    // What a recovery cut off since then is behind the redo point.
                    let cut =
                        header.stream == Stream::Map || ends(header.start) > root.redo || known.cut_off == cut_off;
                    cut && (known.stream, known.start, known.salt) == (header.stream, header.start, header.salt)
                }
                // Born later, or for the root itself.
                None => header.stream == Stream::Map || header.sequence >= root.next_sequence,
            };
            if !same {
                self.problems.push(problem(header.sequence, 0, None, "the segment is not what the root says"));
            }
        }
    }

    fn check_leaf(&mut self, beside: &Beside<'_>, number: u64, at: LeafAt) -> Result<()> {
        let size = beside.pool.segment_size();
        let (piece, ids) = (at.piece, beside.root.leaf_ids);
        let at_address = piece.address();
        let segment = match beside.pool.at_address(at_address) {
            Some((segment, _)) => segment,
            None => {
                let sequence = Sequence(at_address.0 / size);
                if !self.lost.contains(&sequence) {
                    let what = "the root says that a leaf is here, and there is no segment";
                    self.problems.push(problem(sequence, at_address.0 % size, None, what));
                }
                return Ok(());
            }
        };
        let record = read(&segment, piece)?;
        let head = LeafHead::decode(record.body())
            .filter(|(head, _)| record.shape.kind == Kind::Leaf && head.number == number);
        let entries = head.and_then(|(_, bytes)| entries(bytes, ids));
        let vacant = |entries: &Vec<Entry>| {
            at.vacant == entries.iter().filter(|entry| !matches!(entry, Entry::Data(_))).count() as u64
        };
        let Some(entries) = entries.filter(vacant) else {
            let what = "a leaf of the map is not what the root says";
            self.problems.push(problem(segment.header.sequence, at_address.0 % size, None, what));
            return Ok(());
        };
        for (id, entry) in (number * ids..).map(PageId).zip(entries) {
            let said = match entry {
                Entry::Absent => Some(Said::Nothing),
                Entry::Free(version) => Some(Said::Free(version)),
                Entry::Data(pieces) => self.check_pieces(beside, id, &pieces)?,
            };
            let Some(said) = said.filter(|said| !agrees(beside, id, *said)) else { continue };
            let what = format!("the map does not say of {id} what the log says ({said:?})");
            self.problems.push(problem(segment.header.sequence, at_address.0 % size, None, what));
        }
        Ok(())
    }

    /// The records that a leaf names must be there, be the page's, and each go on the one before. Returns what they make of the page;
    /// `None` where something was reported.
    fn check_pieces(&mut self, beside: &Beside<'_>, id: PageId, pieces: &[Piece]) -> Result<Option<Said>> {
        let size = beside.pool.segment_size();
        let mut below = None;
        for piece in pieces {
            let at = piece.address();
            let Some((segment, lsn)) = beside.pool.at_address(at) else {
                let sequence = Sequence(at.0 / size);
                if !self.lost.contains(&sequence) {
                    let what = format!("the map says that a record of {id} is here, and there is no segment");
                    self.problems.push(problem(sequence, at.0 % size, None, what));
                }
                return Ok(None);
            };
            if segment.header.stream == Stream::Log && beside.log.gaps.iter().any(|gap| gap.contains(&lsn)) {
                return Ok(None);
            }
            let record = match read(&segment, *piece) {
                Err(error @ Error::Corrupt(_)) => {
                    self.corrupt(error)?;
                    return Ok(None);
                }
                found => found?,
            };
            // Where its body starts in its record matters to a reader of its payload only.
            let head = PageHead::decode(record.shape, record.body(), record.body_at());
            let fits = head.filter(|(head, _)| head.page == id).is_some_and(|(head, _)| match record.shape.kind {
                Kind::Replace => below.is_none(),
                Kind::Link => head.base == below.unwrap_or(Version::NONE),
                _ => false,
            });
            if !fits || segment.header.stream != Stream::Log {
                let what = format!("the map says that a record of {id} is here, and it is something else");
                self.problems.push(problem(segment.header.sequence, at.0 % size, lsn, what));
                return Ok(None);
            }
            below = Some(Version::from(lsn));
        }
        Ok(below.map(Said::Data))
    }

    /// Every page that the log below the redo point holds is in a leaf, and no id beyond those of the log is.
    fn check_pages(&mut self, beside: &Beside<'_>, (segment, offset): (Sequence, u64)) {
        let mut say = |what: String| self.problems.push(problem(segment, offset, None, what));
        let root = beside.root;
        let mut highest = None;
        for id in beside.log.chains.named() {
            highest = highest.max(Some(id));
            let leaf = root.leaves.get((id.0 / root.leaf_ids) as usize).copied().flatten();
            let said = beside.log.chains.at_redo(id);
            let is_held = leaf.is_some() && id.0 < root.high_water;
            if !is_held && said.is_some_and(|said| said != Said::Nothing) {
                say(format!("the root has no leaf for {id}"));
            }
        }
        // Where the log is not whole its highest id is not known.
        let is_known = beside.log.chains.at_redo(PageId(0)).is_some();
        if is_known && root.high_water > highest.map_or(0, |highest| highest.0 + 1) {
            say(format!("the root knows ids below {}, and the log has none so high", root.high_water));
        }
    }

    /// Reports damage, and passes on what is none.
    fn corrupt(&mut self, error: Error) -> Result<()> {
        match error {
            Error::Corrupt(at) => {
                self.problems.push(problem(Sequence(at.segment), at.offset, None, at.what));
                Ok(())
            }
            other => Err(other),
        }
    }
}

/// Whether a leaf says of a page what the log says of it. A leaf may be newer than the redo point, and is no older.
fn agrees(beside: &Beside<'_>, id: PageId, said: Said) -> bool {
    match (beside.log.chains.at_redo(id), said) {
        (None, _) => true,
        (Some(at_redo), said) if at_redo == said => true,
        (Some(_), Said::Free(version) | Said::Data(version)) => {
            version >= beside.root.redo.into() && version < beside.root.stable.into()
        }
        (Some(_), Said::Nothing) => false,
    }
}
