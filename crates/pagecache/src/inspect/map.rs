//! The last checkpoint: its superblock's copies, its root, and every leaf with every record that it names; whether all of them
//! say what the log below the redo point says; and the segments of images.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use super::files::problem;
use super::images;
use super::pages::{Chains, Said};
use super::report::{CheckpointReport, Images, Problem};
use crate::base::error::{Error, Result};
use crate::base::ids::{Address, Lsn, PageId, Sequence, Version};
use crate::checkpoint::load::{Checkpoint, Copies, find};
use crate::format::leaf::{Entry, LeafHead, entries};
use crate::format::moves::Move;
use crate::format::page::{ImageHead, PageHead, Payload};
use crate::format::piece::Piece;
use crate::format::record::Kind;
use crate::format::root::{Known, LeafAt, Root};
use crate::format::segment::{Purpose, Stream};
use crate::recovery::pages::{Entries, Replay, Replayed};
use crate::recovery::rebuild::Rebuild;
use crate::store::extent::{read_log, walk_images};
use crate::store::handles::Handles;
use crate::store::pool::Pool;
use crate::store::segment::{Identity, Segment};
use crate::store::stream::{Found, read};

/// What was found of the map.
#[derive(Debug, Default)]
pub(super) struct Map {
    pub(super) report: Option<CheckpointReport>,
    pub(super) problems: Vec<Problem>,
    /// Segments that no checkpoint which counts has a use for.
    pub(super) unused: Vec<Sequence>,
    pub(super) images: Images,
    /// What leaves say of pages, and the bytes of payload that they name, where the log does not say everything.
    pub(super) learned: Vec<(PageId, Said, u64)>,
    /// Segments of which it was said that they are not there.
    lost: BTreeSet<Sequence>,
    /// The offsets of images that leaves name.
    needed: BTreeMap<Sequence, BTreeSet<u64>>,
}

/// What was found of the log.
#[derive(Clone, Copy)]
pub(super) struct Log<'a> {
    pub(super) segments: &'a [Arc<Segment>],
    pub(super) chains: &'a Chains,
    /// Stretches that were reported.
    pub(super) gaps: &'a [Range<Lsn>],
    /// Segments that it says were given back since the checkpoint.
    pub(super) gone: &'a BTreeSet<Sequence>,
    pub(super) problems: &'a [Problem],
    /// Where it ends, if nothing was wrong with it.
    pub(super) end: Option<Lsn>,
}

/// What leaves are compared with.
struct Beside<'a> {
    pool: &'a Pool,
    log: Log<'a>,
    root: &'a Root,
    /// What a replay makes of the log behind the checkpoint, and the pages that have moved by that.
    replayed: &'a Replayed<()>,
    moved: &'a BTreeSet<PageId>,
}

impl Map {
    /// The checkpoint that an opening would start from.
    ///
    /// # Errors
    /// `Io`, `Incompatible`.
    pub(super) fn find(&mut self, handles: &Arc<Handles>) -> Result<Option<Checkpoint>> {
        find(handles).or_else(|error| self.corrupt(error).map(|()| None))
    }

    /// Looks at a checkpoint. `others` are the segments in the directory that are not of the log. What was said of the log is not said
    /// again.
    ///
    /// # Errors
    /// `Io`.
    pub(super) fn check(
        &mut self,
        handles: &Arc<Handles>,
        checkpoint: Option<Checkpoint>,
        log: Log<'_>,
        tail: Entries,
        others: Vec<Segment>,
    ) -> Result<()> {
        let Some(Checkpoint { superblock, root, holds_root, copies, .. }) = checkpoint else {
            // Where there was one and it is damaged, nobody knows what it had a use for.
            if self.problems.is_empty() {
                self.unused = others.iter().map(|segment| segment.header.sequence).collect();
                return Ok(());
            }
            let others: Vec<_> = others.into_iter().map(Arc::new).collect();
            return self.walk_images(&others, log.end);
        };
        let known = |sequence| {
            let in_root = holds_root.iter().any(|segment| segment.header.sequence == sequence);
            in_root || root.segments.binary_search_by_key(&sequence, |known| known.sequence).is_ok()
        };
        let (others, unused): (Vec<Segment>, Vec<Segment>) = others.into_iter().partition(|segment| {
            let sequence = segment.header.sequence;
            // Images that were made since.
            known(sequence) || is_of_images(segment) && !log.gone.contains(&sequence)
        });
        let others: Vec<Arc<Segment>> = others.into_iter().map(Arc::new).collect();
        self.unused = unused.iter().map(|segment| segment.header.sequence).collect();
        let mut report = CheckpointReport {
            number: superblock.number,
            redo: root.redo,
            copies_differ: copies == Copies::Differ,
            leaves: root.leaves.iter().flatten().count() as u64,
            segments: 0,
            allocated: 0,
        };
        for segment in others.iter().filter(|segment| segment.header.stream == Stream::Map) {
            report.segments += 1;
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
        self.check_segments(&root, log.segments, &others);
        let identity = Identity { purpose: newest.purpose, store: superblock.store };
        let segments = log.segments.iter().chain(&others).map(Arc::clone);
        let pool = Pool::new(Arc::clone(handles), identity, superblock.segment_size, segments, root.next_sequence);
        let mut replayed = Replayed::<()>::new(1);
        replayed.begin(superblock.segment_size, Some(&root))?;
        replayed.join(tail)?;
        let moved = replayed.moved();
        let beside = Beside { pool: &pool, log, root: &root, replayed: &replayed, moved: &moved };
        for (number, leaf) in (0..).zip(&root.leaves) {
            if let Some(at) = leaf
                && let Err(error) = self.check_leaf(&beside, number, *at)
            {
                self.corrupt(error)?;
            }
        }
        self.check_pages(&beside, place);
        // Made since, or given back long ago and there still: nothing leads to them.
        let (others, unused): (Vec<Arc<Segment>>, Vec<Arc<Segment>>) = others.into_iter().partition(|segment| {
            let sequence = segment.header.sequence;
            known(sequence) || self.needed.contains_key(&sequence)
        });
        self.unused.extend(unused.iter().map(|segment| segment.header.sequence));
        self.walk_images(&others, log.end)
    }

    fn walk_images(&mut self, others: &[Arc<Segment>], end: Option<Lsn>) -> Result<()> {
        for segment in others.iter().filter(|segment| is_of_images(segment)) {
            let needed = self.needed.remove(&segment.header.sequence).unwrap_or_default();
            images::walk(segment, &needed, end, &mut self.images, &mut self.problems)?;
        }
        Ok(())
    }

    /// What the root knows of segments must be there, and be what their headers say.
    fn check_segments(&mut self, root: &Root, log: &[Arc<Segment>], others: &[Arc<Segment>]) {
        let there = || log.iter().chain(others);
        let sequences: BTreeSet<Sequence> = there().map(|segment| segment.header.sequence).collect();
        let ends = |start: Lsn| log.last().map_or(start, |newest| Lsn(start.0 + newest.header.segment_size));
        // From the redo point on the chain says what is missing: what a recovery cut off was there.
        let needed = |known: &&Known| known.stream != Stream::Log || ends(known.start) <= root.redo;
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
                        header.stream != Stream::Log || ends(header.start) > root.redo || known.cut_off == cut_off;
                    cut && (known.stream, known.start, known.salt) == (header.stream, header.start, header.salt)
                }
                // Born later, or for the root itself.
                None => header.stream != Stream::Log || header.sequence >= root.next_sequence,
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
        let waiting = beside.replayed.waiting(number);
        for (id, entry) in (number * ids..).map(PageId).zip(entries) {
            let entry = match entry {
                Entry::Data(pieces) if beside.moved.contains(&id) => {
                    self.check_moved(beside, id, (pieces, &waiting), (&segment, at_address.0 % size))?;
                    continue;
                }
                entry => entry,
            };
            // The page was replaced or freed since, and where it was may be gone.
            let is_past = beside.replayed.says_all(id);
            let said = match entry {
                Entry::Absent => Some((Said::Nothing, 0)),
                Entry::Free(version) => Some((Said::Free(version), 0)),
                Entry::Data(pieces) => self.check_pieces(beside, id, &pieces, is_past)?,
            };
            let Some((said, bytes)) = said else { continue };
            if !beside.log.chains.is_whole() {
                self.learned.push((id, said, bytes));
            }
            if agrees(beside, id, said) {
                continue;
            }
            let what = format!("the map does not say of {id} what the log says ({said:?})");
            self.problems.push(problem(segment.header.sequence, at_address.0 % size, None, what));
        }
        Ok(())
    }

    /// The records of a page that has moved since must be there as those of any other, and make of it what the log says of it.
    fn check_moved(
        &mut self,
        beside: &Beside<'_>,
        id: PageId,
        (leaf, waiting): (Vec<Piece>, &[Move]),
        (segment, offset): (&Segment, u64),
    ) -> Result<()> {
        let lsn = |piece: Piece| {
            let (segment, lsn) = beside.pool.at_address(piece.address())?;
            (segment.header.stream == Stream::Log).then_some(lsn)
        };
        let (Replay::Leaf(pieces) | Replay::Whole(pieces)) = beside.replayed.replay(id, leaf, waiting, lsn) else {
            return Ok(());
        };
        let Some((said, bytes)) = self.check_pieces(beside, id, &pieces, false)? else { return Ok(()) };
        if !beside.log.chains.is_whole() {
            self.learned.push((id, said, bytes));
        }
        if beside.log.chains.is_at(id, said) {
            return Ok(());
        }
        let what = format!("{id} has moved, and is not there what the log says ({said:?})");
        self.problems.push(problem(segment.header.sequence, offset, None, what));
        Ok(())
    }

    /// The records that a leaf names must be there, be the page's, and each go on the one before; the first may be an image. Returns
    /// what they make of the page, and the bytes of payload that it needs; `None` where something was reported.
    fn check_pieces(
        &mut self,
        beside: &Beside<'_>,
        id: PageId,
        pieces: &[Piece],
        is_past: bool,
    ) -> Result<Option<(Said, u64)>> {
        let is_gone = |sequence: &Sequence| is_past && beside.log.gone.contains(sequence);
        let size = beside.pool.segment_size();
        let mut page = Page::default();
        for piece in pieces {
            let at = piece.address();
            let Some((segment, lsn)) = beside.pool.at_address(at) else {
                let sequence = Sequence(at.0 / size);
                if !self.lost.contains(&sequence) && !is_gone(&sequence) {
                    let what = format!("the map says that a record of {id} is here, and there is no segment");
                    self.problems.push(problem(sequence, at.0 % size, None, what));
                }
                return Ok(None);
            };
            if segment.header.stream == Stream::Log && beside.log.gaps.iter().any(|gap| gap.contains(&lsn)) {
                return Ok(None);
            }
            if is_of_images(&segment) {
                self.needed.entry(segment.header.sequence).or_default().insert(at.0 % size);
            }
            let record = match read(&segment, *piece) {
                Err(error @ Error::Corrupt(_)) => {
                    self.corrupt(error)?;
                    return Ok(None);
                }
                found => found?,
            };
            let is_log = segment.header.stream == Stream::Log;
            let fits = match is_log {
                true => page.goes_on(id, lsn.into(), &record),
                false => is_of_images(&segment) && page.begins(id, &record),
            };
            if fits && !self.check_parts(beside, (at, lsn), &record, is_gone)? {
                return Ok(None);
            }
            if !fits {
                let what = format!("the map says that a record of {id} is here, and it is something else");
                self.problems.push(problem(segment.header.sequence, at.0 % size, is_log.then_some(lsn), what));
                return Ok(None);
            }
        }
        Ok(page.version.map(|version| (Said::Data(version), page.bytes)))
    }

    /// The parts of a record that has some must add up. Whether they do; what is wrong was reported.
    fn check_parts(
        &mut self,
        beside: &Beside<'_>,
        (at, lsn): (Address, Lsn),
        record: &Found,
        is_gone: impl Fn(&Sequence) -> bool,
    ) -> Result<bool> {
        let (shape, body, body_at) = (record.shape, record.body(), record.body_at());
        let image = ImageHead::decode(shape, body, body_at).map(|(_, payload)| payload);
        let is_image = image.is_some();
        let logged = || PageHead::decode(shape, body, body_at).map(|(_, payload)| payload);
        let Some(Payload::Extent(extent, parts)) = image.or_else(logged) else { return Ok(true) };
        let is_gap = |gap: &Range<Lsn>| !is_image && gap.start <= extent.last && extent.first < gap.end;
        if parts.iter().any(|(sequence, _)| self.lost.contains(&sequence) || is_gone(&sequence))
            || beside.log.gaps.iter().any(is_gap)
        {
            return Ok(false);
        }
        let size = beside.pool.segment_size();
        let read = match is_image {
            true => walk_images(beside.pool, at, &extent, |piece| {
                self.needed.entry(Sequence(piece.0 / size)).or_default().insert(piece.0 % size);
            }),
            false => read_log(beside.pool, lsn, &extent),
        };
        match read {
            Ok(_) => Ok(true),
            Err(error) => self.corrupt(error).map(|()| false),
        }
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
        if beside.log.chains.is_whole() && root.high_water > highest.map_or(0, |highest| highest.0 + 1) {
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

fn is_of_images(segment: &Segment) -> bool {
    matches!(segment.header.stream, Stream::Folds | Stream::Survivors)
}

/// What the records of a page that a leaf names make of it, oldest first.
#[derive(Debug, Default)]
struct Page {
    version: Option<Version>,
    /// Everything up to here is in the image that it begins with, if it does.
    held: Version,
    bytes: u64,
}

impl Page {
    /// Takes an image. Whether it is one of this page, with nothing below it.
    fn begins(&mut self, id: PageId, record: &Found) -> bool {
        let body = record.body();
        let head = ImageHead::decode(record.shape, body, record.body_at()).filter(|(head, _)| head.page == id);
        let Some((head, payload)) = head.filter(|_| self.version.is_none()) else { return false };
        (self.version, self.held) = (Some(head.version), head.version);
        self.bytes = match payload {
            Payload::Inline(at) => body.len().saturating_sub(at) as u64,
            Payload::Extent(extent, _) => extent.len,
        };
        true
    }

    /// Takes a record of the log. Whether it is one of this page, and goes on what was taken before; what an image holds goes with it.
    fn goes_on(&mut self, id: PageId, version: Version, record: &Found) -> bool {
        let head = PageHead::decode(record.shape, record.body(), record.body_at());
        let Some((head, payload)) = head.filter(|(head, _)| head.page == id) else { return false };
        let is_held = version <= self.held;
        let fits = match record.shape.kind {
            Kind::Replace => self.version.is_none(),
            Kind::Link if is_held => head.base != Version::NONE,
            Kind::Link => head.base == self.version.unwrap_or(Version::NONE),
            _ => false,
        };
        if fits && !is_held {
            self.version = Some(version);
            self.bytes += match payload {
                Payload::Inline(at) => record.body().len().saturating_sub(at) as u64,
                Payload::Extent(extent, _) => extent.len,
            };
        }
        fits
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
