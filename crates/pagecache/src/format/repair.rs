//! Makes the checksums of changed bytes right again, for fuzzing: what a checksum keeps out is met by the checks behind it too.
//!
//! Nothing but checksums is changed. Places, lengths and kinds are taken as the bytes say them, valid or not.

use super::bytes::{Cursor, varint_len};
use super::mark::{self, MARK};
use super::record::{Body, NO_BODY, checksum};
use super::segment::LEN;
use super::{BLOCK, GRANULE, granular, superblock};
use crate::base::ids::Lsn;

fn put(bytes: &mut [u8], at: usize, sum: u32) {
    if let Some(target) = bytes.get_mut(at..at + 4) {
        target.copy_from_slice(&sum.to_le_bytes());
    }
}

/// One copy of a segment's header.
pub(crate) fn header(block: &mut [u8]) {
    if let Some(sum) = block.get(..LEN).map(crc32c::crc32c) {
        put(block, LEN, sum);
    }
}

/// One copy of the superblock.
pub(crate) fn superblock(block: &mut [u8]) {
    if let Some(sum) = block.get(..superblock::LEN).map(crc32c::crc32c) {
        put(block, superblock::LEN, sum);
    }
}

/// The mark that ends at `end`.
pub(crate) fn mark(bytes: &mut [u8], end: Lsn, salt: u64) {
    if let Some(sum) = bytes.get(..20).map(|body| mark::checksum(body, end, salt)) {
        put(bytes, 20, sum);
    }
}

/// The record or pad that starts at `lsn`, its mark included. Returns its length; `None` where none can be told.
pub(crate) fn record(bytes: &mut [u8], lsn: Lsn, salt: u64, room: u64) -> Option<u64> {
    let mut cursor = Cursor::new(bytes.get(4..)?);
    let kind = cursor.u8()?;
    let rest = cursor.array::<3>();
    let room = room.min(bytes.len() as u64);
    match (kind, rest) {
        (0, _) => None,
        (1, Some([a, b, c])) => {
            put(bytes, 0, checksum(NO_BODY, [kind, a, b, c], lsn, salt));
            Some(room)
        }
        (2, Some([count, mark_kind, zero])) => {
            let end = Lsn((lsn.0 / BLOCK + u64::from(count.clamp(1, 2))) * BLOCK);
            let len = end.0 - lsn.0;
            let tail = bytes.get_mut(len.checked_sub(MARK)? as usize..len as usize).filter(|_| len <= room)?;
            mark(tail, end, salt);
            let body = Body { len: 0, ..Body::of(tail) };
            put(bytes, 0, checksum(body, [kind, count, mark_kind, zero], lsn, salt));
            Some(len)
        }
        _ => {
            let mut cursor = Cursor::new(bytes.get(5..)?);
            let body_len = cursor.varint()?;
            let len = granular(body_len.checked_add(5 + varint_len(body_len) as u64)?.min(u64::MAX - GRANULE));
            let body = cursor.take(usize::try_from(body_len).ok()?).filter(|_| len <= room)?;
            put(bytes, 0, checksum(Body::of(body), [kind, 0, 0, 0], lsn, salt));
            Some(len)
        }
    }
}

/// A segment's whole file: both headers, then every record that can be told; behind what cannot, the next block.
pub(crate) fn segment(file: &mut [u8]) {
    header(file);
    let number = |at: usize| file.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map(u64::from_le_bytes);
    let (Some(size), Some(start), Some(salt)) = (number(32), number(48), number(56)) else { return };
    let size = size.min(file.len() as u64);
    let Some(data_end) = size.checked_sub(BLOCK) else { return };
    if let Some(last) = file.get_mut(data_end as usize..) {
        header(last);
    }
    let mut at = BLOCK;
    while at < data_end {
        let lsn = Lsn(start.wrapping_add(at) & (u64::MAX >> 1));
        let data = file.get_mut(at as usize..data_end as usize).unwrap_or_default();
        at = match record(data, lsn, salt, data_end - at) {
            Some(len) => at + len,
            None => (at / BLOCK + 1) * BLOCK,
        };
    }
}
