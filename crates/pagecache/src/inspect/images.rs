//! The segments of images: every record in them, though the map needs only some.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::files::problem;
use super::report::{Bytes, Images, Problem};
use crate::base::error::{Error, Result};
use crate::base::ids::Lsn;
use crate::format::BLOCK;
use crate::format::page::{ImageHead, Payload};
use crate::format::record::Kind;
use crate::log::read::unknown_kind;
use crate::log::scan::{Scanner, Step};
use crate::page::table::PAGES_MAX;
use crate::store::segment::Segment;

/// Walks a segment of images. `needed` are the offsets of those that leaves name, which were read already: what was synced before
/// the last of them is there, what is behind it may be torn. `end` is where the log ends, as far as that is known.
///
/// # Errors
/// `Io`; `Incompatible` for an intact record of a kind that this build does not know.
pub(super) fn walk(
    segment: &Arc<Segment>,
    needed: &BTreeSet<u64>,
    end: Option<Lsn>,
    images: &mut Images,
    problems: &mut Vec<Problem>,
) -> Result<()> {
    let sequence = segment.header.sequence;
    let mut bytes = Bytes { segment_headers: 2 * BLOCK, ..Bytes::default() };
    let mut scanner = Scanner::new(Arc::clone(segment), segment.data_end());
    loop {
        let from = scanner.position();
        let offset = segment.offset(from);
        let mut say = |what: &str| problems.push(problem(sequence, offset, None, what));
        match scanner.step()? {
            Step::Record { shape, len, .. } if shape.kind == Kind::Aborted => bytes.padding += len,
            // Of an image that a leaf names it was put together already.
            Step::Record { shape, body, len, .. } if shape.kind == Kind::Extent => {
                let payload = body.len().saturating_sub(8) as u64;
                bytes.payload += payload;
                bytes.headers += len - payload;
            }
            Step::Record { shape, body, body_at, len, .. } => {
                let head = ImageHead::decode(shape, body, body_at).filter(|(head, _)| head.page.0 < PAGES_MAX);
                let mut payload = 0;
                match head {
                    Some((head, content)) => {
                        images.records += 1;
                        payload = match content {
                            Payload::Inline(at) => body.len().saturating_sub(at) as u64,
                            Payload::Extent(..) => 0,
                        };
                        // What no leaf names may be ahead of a log that was cut off by a crash: its checkpoint was never written.
                        if needed.contains(&offset) && end.is_some_and(|end| head.version >= end.into()) {
                            say("an image is of a version that the log does not have");
                        }
                    }
                    None if shape.kind == Kind::Image => say("an image has no page"),
                    None => say("a record of another stream stands among images"),
                }
                bytes.payload += payload;
                bytes.headers += len - payload;
            }
            Step::Mark { .. } => {
                say("a mark of the log stands among images");
                bytes.padding += scanner.position().0 - from.0;
            }
            Step::End => {
                bytes.padding += scanner.position().0 - from.0;
                break;
            }
            Step::Unknown { kind } => return Err(unknown_kind(kind)),
            Step::Hole if needed.range(offset..).next().is_none() => {
                bytes.unused = segment.data_end().0 - from.0;
                break;
            }
            Step::Hole => {
                // One that a leaf names was reported with the leaf.
                if !needed.contains(&offset) {
                    say("an image that was synced is not there, or not what was written");
                }
                let next = needed.range(offset + 1..).next();
                let resume = next.map_or(segment.data_end(), |next| Lsn(segment.header.start.0 + next));
                bytes.damaged += resume.0 - from.0;
                scanner = Scanner::from(Arc::clone(segment), resume, segment.data_end());
            }
        }
    }
    images.segments += 1;
    let allocated = segment.file()?.allocated();
    images.allocated += allocated.map_err(|error| Error::io("stat", segment.name(), error))?;
    images.bytes.add(bytes);
    Ok(())
}
