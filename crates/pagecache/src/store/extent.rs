//! Payloads too long for one record, put together from their pieces, last one first; and where such a payload is outside of the log.

use std::sync::Arc;

use super::pool::Pool;
use super::segment::Segment;
use super::stream::{self, corrupt, payload_max};
use crate::base::aligned::AlignedBuf;
use crate::base::damage::Damage;
use crate::base::error::{Error, Result};
use crate::base::ids::{Address, Lsn, PageId};
use crate::format::page::{ImageHead, Payload};
use crate::format::piece::Piece;
use crate::format::record::{ExtentRef, Kind};
use crate::format::segment::Stream;

/// A piece's record in a buffer, and where its body is: the place of the piece before, then bytes.
pub(crate) type Loaded = (AlignedBuf, usize, usize);

/// Reads an extent into one buffer, piece by piece through `load`. `most` is how long it may be by what is on disk.
///
/// # Errors
/// What `load` says; what `damaged` makes of a place where the chain or the whole does not fit.
pub(crate) fn assemble(
    extent: &ExtentRef,
    most: u64,
    damaged: impl Fn(Lsn, Damage) -> Error,
    mut load: impl FnMut(Lsn) -> Result<Loaded>,
) -> Result<AlignedBuf> {
    if extent.len > most {
        return Err(damaged(extent.last, Damage::ExtentTooLong));
    }
    let mut whole = AlignedBuf::zeroed(extent.len as usize);
    let (mut at, mut rest) = (extent.last, extent.len as usize);
    loop {
        let (buf, body_at, body_len) = load(at)?;
        let body = buf.as_slice().get(body_at..body_at + body_len).unwrap_or_default();
        let Some((before, piece)) = body.split_at_checked(8) else { return Err(damaged(at, Damage::PieceElse)) };
        let from = rest.checked_sub(piece.len()).filter(|_| !piece.is_empty());
        let Some((from, target)) = from.and_then(|from| Some((from, whole.as_mut_slice().get_mut(from..rest)?))) else {
            return Err(damaged(at, Damage::PiecesTooLong));
        };
        target.copy_from_slice(piece);
        rest = from;
        let before = Lsn(before.try_into().map_or(0, u64::from_le_bytes));
        if rest == 0 {
            break;
        }
        // Each piece lies below the one after, so the chain ends.
        if before >= at || before < extent.first {
            return Err(damaged(at, Damage::ChainBroken));
        }
        at = before;
    }
    match crc32c::crc32c(whole.as_slice()) == extent.crc {
        true => Ok(whole),
        false => Err(damaged(extent.last, Damage::ExtentChecksum)),
    }
}

/// What an image holds.
///
/// # Errors
/// `Corrupt`, `Io`.
pub(crate) fn image_payload(segment: &Segment, piece: Piece) -> Result<Option<Payload>> {
    let found = stream::read(segment, piece)?;
    Ok(ImageHead::decode(found.shape, found.body(), found.body_at()).map(|(_, payload)| payload))
}

/// Has it known which segments the parts of a page's image are in, as a replay does that finds its move.
///
/// # Errors
/// `Io`.
pub(crate) fn know_image(pool: &Pool, id: PageId, piece: Piece) -> Result<()> {
    let Some((segment, _)) = pool.at_address(piece.address()) else { return Ok(()) };
    enter_parts(pool, id, piece, image_payload(&segment, piece))
}

/// Has it known where the parts of a record are, as it says itself.
///
/// # Errors
/// `Io`.
pub(crate) fn enter_parts(pool: &Pool, id: PageId, piece: Piece, payload: Result<Option<Payload>>) -> Result<()> {
    match payload {
        Ok(Some(Payload::Extent(_, parts))) => {
            pool.spans.enter(piece.address(), id, Arc::new(parts));
            Ok(())
        }
        Err(error @ Error::Io { .. }) => Err(error),
        // The page is lost without this record, and its parts mean nothing any more. Whoever reads it is told.
        _ => Ok(()),
    }
}

/// Reads the extent that the image at `named_by` names, whose pieces are among images too.
///
/// # Errors
/// `Corrupt`, `Io`.
pub(crate) fn read_images(pool: &Pool, named_by: Address, extent: &ExtentRef) -> Result<AlignedBuf> {
    walk_images(pool, named_by, extent, |_| {})
}

/// As [`read_images`]; shows each piece's place before it is read.
///
/// # Errors
/// `Corrupt`, `Io`.
pub(crate) fn walk_images(
    pool: &Pool,
    named_by: Address,
    extent: &ExtentRef,
    mut show: impl FnMut(Address),
) -> Result<AlignedBuf> {
    let most = match extent.last.0 < named_by.0 {
        true => pool.images_between(Address(extent.first.0), Address(extent.last.0)),
        false => 0,
    };
    let is_images = |stream| matches!(stream, Stream::Folds | Stream::Survivors);
    read(pool, extent, most, |at| {
        show(Address(at.0));
        let (segment, _) = pool.at_address(Address(at.0))?;
        is_images(segment.header.stream).then_some(segment)
    })
}

/// Reads the extent that a record of the log at `named_by` names, all of it written.
///
/// # Errors
/// `Corrupt`, `Io`.
pub(crate) fn read_log(pool: &Pool, named_by: Lsn, extent: &ExtentRef) -> Result<AlignedBuf> {
    let most = if extent.last < named_by { pool.data_between(extent.first, extent.last) } else { 0 };
    read(pool, extent, most, |at| pool.at_lsn(at))
}

fn read(
    pool: &Pool,
    extent: &ExtentRef,
    most: u64,
    mut find: impl FnMut(Lsn) -> Option<Arc<Segment>>,
) -> Result<AlignedBuf> {
    let size = pool.segment_size();
    // The place by the segment that was found last.
    let offset = std::cell::Cell::new(0);
    let damaged = |at: Lsn, what| corrupt(size, Address(at.0.wrapping_add(offset.get())), what);
    assemble(extent, most, damaged, |at| {
        let segment = find(at).filter(|_| at.0.is_multiple_of(8)).ok_or_else(|| damaged(at, Damage::PieceElse))?;
        offset.set(segment.address(at).0.wrapping_sub(at.0));
        // All but the last are as long as may be.
        let found = stream::read(&segment, Piece::new(segment.address(at), payload_max(size) + 64))?;
        match found.shape.kind {
            Kind::Extent => Ok(found.into_parts()),
            _ => Err(damaged(at, Damage::PieceElse)),
        }
    })
}
