//! Which checkpoint counts: the superblock's copies, and the root that the newer one names.
//!
//! A copy is written over only when the other is whole, and nothing that the older of two different copies needs is given back
//! before both are of the same checkpoint. So of two copies one is valid, and where they differ the older one serves as well. Each copy names a root of its
//! own: of two that say the same either serves.

use std::io;
use std::sync::Arc;

use crate::base::aligned::AlignedBuf;
use crate::base::damage::Damage;
use crate::base::error::{Corruption, Error, Result};
use crate::base::ids::{Address, Lsn, Sequence};
use crate::format::BLOCK;
use crate::format::piece::Piece;
use crate::format::record::Kind;
use crate::format::root::{PartHead, Root};
use crate::format::segment::{FORMAT, Found as Header, SUPERBLOCKS, SegmentHeader, Stream, name};
use crate::format::superblock::{Found, Superblock};
use crate::storage::{OpenMode, Storage, read_full, write_all};
use crate::store::handles::Handles;
use crate::store::segment::Segment;
use crate::store::stream::{corrupt, read};

/// The checkpoint that an opening starts from.
#[derive(Clone, Debug)]
pub(crate) struct Checkpoint {
    pub(crate) superblock: Superblock,
    pub(crate) root: Root,
    /// The segments that the root itself is in, and the other one.
    pub(crate) holds_root: Vec<Arc<Segment>>,
    /// Whether both copies of the superblock are of the same checkpoint.
    pub(crate) copies: Copies,
    /// The segment of a root of the same checkpoint that cannot be read, or of its last part: nothing is known of it, and nothing of it is needed.
    pub(crate) lost_root: Option<Sequence>,
    /// The highest number that a copy says a checkpoint has.
    pub(crate) number_max: u64,
}

/// How the two copies of the superblock compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Copies {
    Same,
    /// One is older, damaged or missing, or its root is damaged.
    Differ,
}

fn damaged(what: Damage) -> Error {
    let nowhere = Lsn(0)..Lsn(0);
    Error::Corrupt(Box::new(Corruption { page: None, segment: u64::MAX, offset: 0, lsns: nowhere, what: what.what() }))
}

/// One copy: `None` where there is no such file.
fn copy(storage: &dyn Storage, name: &str) -> Result<Option<Found>> {
    let file = match storage.open(name, OpenMode::ReadOnly) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(|error| Error::io("open", name, error))?,
    };
    let mut block = AlignedBuf::zeroed(BLOCK as usize);
    read_full(file.as_ref(), block.as_mut_slice(), 0).map_err(|error| Error::io("read", name, error))?;
    Ok(Some(Superblock::decode(block.as_slice())))
}

/// Both copies. `None` for a store without a checkpoint.
///
/// # Errors
/// `Corrupt` where there was one and both copies are damaged; `Incompatible`, `Io`.
fn copies(storage: &dyn Storage) -> Result<Option<(Superblock, Option<Superblock>)>> {
    let [first, second] = SUPERBLOCKS.map(|name| copy(storage, name));
    let (first, second) = (first?, second?);
    for found in [first, second].into_iter().flatten() {
        if let Found::Newer(version) = found {
            return Err(Error::Incompatible {
                found: format!("a superblock of format {version}"),
                expected: format!("format {FORMAT}"),
            });
        }
    }
    let valid = |found| match found {
        Some(Found::Valid(superblock)) => Some(superblock),
        _ => None,
    };
    match (valid(first), valid(second)) {
        (Some(a), Some(b)) if b.number > a.number => Ok(Some((b, Some(a)))),
        (Some(a), other) => Ok(Some((a, other))),
        (None, Some(b)) => Ok(Some((b, None))),
        // The second is made once the first is whole: so far there was no checkpoint.
        (None, None) if second.is_none() => Ok(None),
        (None, None) => Err(damaged(Damage::Superblocks)),
    }
}

/// The checkpoint that counts, and its root.
///
/// # Errors
/// `Corrupt` where there was one and it cannot be read; `Incompatible`, `Io`.
pub(crate) fn find(handles: &Arc<Handles>) -> Result<Option<Checkpoint>> {
    let storage = handles.storage();
    let Some((newer, other)) = copies(storage)? else { return Ok(None) };
    let with = |superblock: Superblock, (root, holds_root), copies, lost: Option<&Superblock>| {
        let lost_root = lost.map(|lost| Sequence(lost.root.address().0 / lost.segment_size));
        Ok(Some(Checkpoint { superblock, root, holds_root, copies, lost_root, number_max: newer.number }))
    };
    let checkpoint = |superblock, found, copies| with(superblock, found, copies, None);
    let found = root(handles, &newer);
    let Some(other) = other else { return checkpoint(newer, found?, Copies::Differ) };
    if other.number < newer.number {
        return match found {
            // What the older one needs is all there as long as they differ.
            Err(Error::Corrupt(_) | Error::Io { .. }) => checkpoint(other, root(handles, &other)?, Copies::Differ),
            found => checkpoint(newer, found?, Copies::Differ),
        };
    }
    // Both are read: the other one's segments are kept as well, and damage is known while one is whole.
    match (found, root(handles, &other)) {
        (Ok((root, mut segments)), Ok((_, others))) => {
            let is_new = |segment: &Arc<Segment>| !segments.iter().any(|known| is_same(known, segment));
            let new: Vec<_> = others.into_iter().filter(is_new).collect();
            segments.extend(new);
            checkpoint(newer, (root, segments), Copies::Same)
        }
        // Damaged, or not to be read.
        (Ok(found), Err(_)) => with(newer, found, Copies::Differ, Some(&other)),
        (Err(_), Ok(found)) => with(other, found, Copies::Differ, Some(&newer)),
        (Err(error), Err(_)) => Err(error),
    }
}

fn is_same(a: &Segment, b: &Segment) -> bool {
    a.header.sequence == b.header.sequence
}

/// Reads a root from its last part back.
fn root(handles: &Arc<Handles>, superblock: &Superblock) -> Result<(Root, Vec<Arc<Segment>>)> {
    let size = superblock.segment_size;
    let mut segments: Vec<Arc<Segment>> = Vec::new();
    let mut parts: Vec<Vec<u8>> = Vec::new();
    let mut at: Option<(Piece, Option<u64>)> = Some((superblock.root, None));
    let mut behind = Address(u64::MAX);
    while let Some((piece, index)) = at {
        let damaged = |what| corrupt(size, piece.address(), what);
        let segment = segment(handles, superblock, piece, &mut segments)?;
        let found = read(&segment, piece)?;
        let part = PartHead::decode(found.body()).filter(|_| found.shape.kind == Kind::Root);
        // Each part ends before the next begins, so together they are no longer than their segments.
        let ends_before = found.end(piece.address()) <= behind;
        let fits = |head: &PartHead| {
            ends_before && head.checkpoint == superblock.number && index.is_none_or(|index| head.index == index)
        };
        let (head, bytes) = part.filter(|(head, _)| fits(head)).ok_or_else(|| damaged(Damage::RootElse))?;
        parts.push(bytes.to_vec());
        behind = piece.address();
        // Each part has a lower index than the one behind it, so they end.
        at = head.previous.map(|previous| (previous, Some(head.index - 1)));
    }
    parts.reverse();
    let root = Root::decode(&parts.concat(), size);
    let fits = |root: &Root| root.redo == superblock.redo && root.stable == superblock.stable;
    match root.filter(fits) {
        Some(root) => Ok((root, segments)),
        None => Err(corrupt(size, superblock.root.address(), Damage::RootMalformed)),
    }
}

/// The segment that a part of the root is in, told by its own header.
fn segment(
    handles: &Arc<Handles>,
    superblock: &Superblock,
    piece: Piece,
    segments: &mut Vec<Arc<Segment>>,
) -> Result<Arc<Segment>> {
    let size = superblock.segment_size;
    let sequence = Sequence(piece.address().0 / size);
    if let Some(segment) = segments.iter().find(|segment| segment.header.sequence == sequence) {
        return Ok(Arc::clone(segment));
    }
    let name = name(sequence);
    let file = match handles.open(&name, handles.mode()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(corrupt(size, piece.address(), Damage::SegmentMissing));
        }
        opened => opened.map_err(|error| Error::io("open", &name, error))?,
    };
    let mut unreadable = None;
    for offset in [0, size - BLOCK] {
        let mut block = AlignedBuf::zeroed(BLOCK as usize);
        if let Err(error) = read_full(file.as_ref(), block.as_mut_slice(), offset) {
            unreadable = Some(Error::io("read", &name, error));
            continue;
        }
        if let Header::Valid(header) = SegmentHeader::decode(block.as_slice())
            && is_of(&header, superblock, sequence)
        {
            let segment = Arc::new(Segment::found(header, file, handles));
            // Before a length is believed that only the header justifies.
            segment.check_length()?;
            segments.push(Arc::clone(&segment));
            return Ok(segment);
        }
    }
    Err(unreadable.unwrap_or_else(|| corrupt(size, piece.address(), Damage::RootElse)))
}

fn is_of(header: &SegmentHeader, superblock: &Superblock, sequence: Sequence) -> bool {
    header.stream == Stream::Map
        && header.sequence == sequence
        && header.segment_size == superblock.segment_size
        && header.store == superblock.store
}

/// Writes one copy, durable by name and content.
///
/// # Errors
/// `NoSpace` and `Io`; an `Io` of a `sync` says that nothing is known of what is on disk.
pub(crate) fn write_copy(storage: &dyn Storage, name: &str, superblock: &Superblock) -> Result<()> {
    let opened = match storage.open(name, OpenMode::ReadWrite) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            storage.open(name, OpenMode::CreateNew).map(|file| (file, true))
        }
        opened => opened.map(|file| (file, false)),
    };
    let (file, is_new) = opened.map_err(|error| Error::io("open", name, error))?;
    write_all(file.as_ref(), &superblock.encode(), 0).map_err(|error| Error::io("write", name, error))?;
    file.sync_data().map_err(|error| Error::sync("sync", name, error))?;
    if is_new {
        storage.sync_dir().map_err(|error| Error::sync("sync_dir", storage.describe(), error))?;
    }
    Ok(())
}

/// Makes both copies say the same, for a writer that opens: before anything is given back, and before the older could be taken
/// for the newer again.
///
/// # Errors
/// As [`write_copy`].
pub(crate) fn equalize(storage: &dyn Storage, superblock: &Superblock) -> Result<()> {
    SUPERBLOCKS.iter().try_for_each(|name| write_copy(storage, name, superblock))
}
