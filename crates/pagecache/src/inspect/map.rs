//! The last checkpoint: its superblock's copies, its root, and every leaf with every record that it names.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::files::problem;
use super::report::{CheckpointReport, Problem};
use crate::base::error::{Error, Result};
use crate::base::ids::{PageId, Sequence};
use crate::checkpoint::load::{Checkpoint, Copies, find};
use crate::format::leaf::{Entry, LeafHead, entries};
use crate::format::page::PageHead;
use crate::format::piece::Piece;
use crate::format::record::Kind;
use crate::format::root::Known;
use crate::format::segment::Stream;
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
}

/// Looks at the checkpoint that an opening would start from. `map` are the segments of the map in the directory, `log` those of
/// the log.
///
/// # Errors
/// `Io`, `Incompatible`.
pub(super) fn check(handles: &Arc<Handles>, log: &[Arc<Segment>], map: Vec<Segment>) -> Result<Map> {
    let mut found = Map::default();
    let checkpoint = match find(handles) {
        Err(error @ Error::Corrupt(_)) => {
            found.problem(&error);
            None
        }
        checkpoint => checkpoint?,
    };
    let Some(checkpoint) = checkpoint else {
        found.unused = map.iter().map(|segment| segment.header.sequence).collect();
        return Ok(found);
    };
    let known = |sequence| {
        let root = checkpoint.holds_root.iter().any(|segment| segment.header.sequence == sequence);
        root || checkpoint.root.segments.binary_search_by_key(&sequence, |known| known.sequence).is_ok()
    };
    let (map, unused): (Vec<Segment>, Vec<Segment>) =
        map.into_iter().partition(|segment| known(segment.header.sequence));
    found.unused = unused.iter().map(|segment| segment.header.sequence).collect();
    let mut report = CheckpointReport {
        number: checkpoint.superblock.number,
        redo: checkpoint.root.redo,
        copies_differ: checkpoint.copies == Copies::Differ,
        leaves: checkpoint.root.leaves.iter().flatten().count() as u64,
        segments: map.len() as u64,
        allocated: 0,
    };
    let there: BTreeSet<Sequence> =
        log.iter().map(Arc::as_ref).chain(&map).map(|segment| segment.header.sequence).collect();
    // From the redo point on the chain says what is missing: what a recovery cut off was there.
    let (redo, size) = (checkpoint.root.redo, checkpoint.superblock.segment_size);
    let needed = |known: &&Known| known.stream == Stream::Map || known.start.0 + size <= redo.0;
    for missing in checkpoint.root.segments.iter().filter(needed).filter(|known| !there.contains(&known.sequence)) {
        let lsn = (missing.stream == Stream::Log).then_some(missing.start);
        found.problems.push(problem(missing.sequence, 0, lsn, "the segment is missing"));
    }
    for segment in &map {
        let allocated = segment.file()?.allocated();
        report.allocated += allocated.map_err(|error| Error::io("stat", segment.name(), error))?;
    }
    let Checkpoint { superblock, root, .. } = &checkpoint;
    if let Some(newest) = log.last() {
        let identity = Identity { purpose: newest.header.purpose, store: superblock.store };
        let segments = log.iter().map(Arc::clone).chain(map.into_iter().map(Arc::new));
        let pool = Pool::new(Arc::clone(handles), identity, superblock.segment_size, segments, root.next_sequence);
        for (number, leaf) in (0..).zip(&root.leaves) {
            if let Some(at) = leaf
                && let Err(error) = check_leaf(&pool, number, at.piece, root.leaf_ids, &mut found)
            {
                found.corrupt(error)?;
            }
        }
    }
    found.report = Some(report);
    Ok(found)
}

fn check_leaf(pool: &Pool, number: u64, piece: Piece, ids: u64, found: &mut Map) -> Result<()> {
    let size = pool.segment_size();
    let at = piece.address();
    let mut say = |what| found.problems.push(problem(Sequence(at.0 / size), at.0 % size, None, what));
    // One that is missing was reported.
    let Some((segment, _)) = pool.at_address(at) else { return Ok(()) };
    let record = read(&segment, piece)?;
    let head =
        LeafHead::decode(record.body()).filter(|(head, _)| record.shape.kind == Kind::Leaf && head.number == number);
    let Some(entries) = head.and_then(|(_, bytes)| entries(bytes, ids)) else {
        say("a leaf of the map is not what the root says");
        return Ok(());
    };
    for (id, entry) in (number * ids..).map(PageId).zip(entries) {
        let Entry::Data(pieces) = entry else { continue };
        for piece in pieces {
            if let Err(error) = check_piece(pool, id, piece, found) {
                found.corrupt(error)?;
            }
        }
    }
    Ok(())
}

/// A record that a leaf names must be there, and be the page's.
fn check_piece(pool: &Pool, id: PageId, piece: Piece, found: &mut Map) -> Result<()> {
    let size = pool.segment_size();
    let at = piece.address();
    let Some((segment, lsn)) = pool.at_address(at) else {
        let what = format!("the map says that a record of {id} is here, and there is no segment");
        found.problems.push(problem(Sequence(at.0 / size), at.0 % size, None, what));
        return Ok(());
    };
    let record = read(&segment, piece)?;
    // Where its body starts in its record matters to a reader of its payload only.
    let head = PageHead::decode(record.shape, record.body(), record.body_at());
    if head.is_none_or(|(head, _)| head.page != id) || record.shape.kind == Kind::Free {
        let what = format!("the map says that a record of {id} is here, and it is something else");
        found.problems.push(problem(segment.header.sequence, at.0 % size, lsn, what));
    }
    Ok(())
}

impl Map {
    fn problem(&mut self, error: &Error) {
        if let Error::Corrupt(at) = error {
            self.problems.push(problem(Sequence(at.segment), at.offset, None, at.what));
        }
    }

    /// Reports damage, and passes on what is none.
    fn corrupt(&mut self, error: Error) -> Result<()> {
        match &error {
            Error::Corrupt(_) => {
                self.problem(&error);
                Ok(())
            }
            _ => Err(error),
        }
    }
}
