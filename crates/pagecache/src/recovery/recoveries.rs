//! Asking the user's `recover` about every replayed fragment, in LSN order.

use std::sync::Arc;

use crate::base::aligned::AlignedBuf;
use crate::base::damage::Damage;
use crate::base::error::{Error, Result};
use crate::format::page::{PageHead, Payload};
use crate::format::record::Kind;
use crate::log::core::LogCore;
use crate::log::scan::{Scanner, Step};
use crate::page::fragment::{Fragment, PageBytes};
use crate::page::materialize::Materializer;

/// Walks the log once more and returns the last `Some`, starting from `state`.
///
/// # Errors
/// `Corrupt`, `Decode`, `Io`.
pub(crate) fn recover<M: Materializer>(log: &LogCore, state: Option<M::Recovery>) -> Result<Option<M::Recovery>> {
    if !M::RECOVERS {
        return Ok(state);
    }
    let replayer = M::new(&state);
    let mut last = state;
    for segment in log.pool.all() {
        let mut scanner = Scanner::new(Arc::clone(&segment), log.stable());
        loop {
            let (shape, body, body_at, lsn) = match scanner.step()? {
                Step::Record { shape, body, body_at, lsn, .. } => (shape, body, body_at, lsn),
                Step::Mark { .. } => continue,
                Step::End => break,
                // The log was walked up to here a moment ago: to go on without the rest would recover an older state.
                Step::Hole | Step::Unknown { .. } => {
                    let at = scanner.position();
                    return Err(log.corrupt_at(at, log.stable(), Damage::StableMissing));
                }
            };
            if !matches!(shape.kind, Kind::Replace | Kind::Link) {
                continue;
            }
            let Some((head, payload)) = PageHead::decode(shape, body, body_at) else { continue };
            let buf = match payload {
                Payload::Inline(at) => {
                    let bytes = body.get(at..).unwrap_or_default();
                    let mut buf = AlignedBuf::zeroed(bytes.len());
                    buf.as_mut_slice().copy_from_slice(bytes);
                    buf
                }
                Payload::Extent(extent) => log.read_extent(lsn, &extent)?,
            };
            let end = buf.as_slice().len();
            let decoded = M::PageFrag::decode(PageBytes::new(buf, 0, end));
            let frag =
                decoded.map_err(|what| Error::Decode { page: Some(head.page), what: format!("{what} ({lsn})") })?;
            if let Some(recovery) = replayer.recover(&frag) {
                last = Some(recovery);
            }
        }
    }
    Ok(last)
}
