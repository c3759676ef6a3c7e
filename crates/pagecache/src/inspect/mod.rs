//! Looking at a store from outside: is it sound, and where are its bytes? No user type is needed, and not a byte is written.
//!
//! - U1. A store that a crash has left behind is sound: what is torn above the last proven stable LSN is the end of the log,
//!   by the same table that recovery decides with.
//! - U2. No length, id or count is believed before the checksum over it was. Memory grows with the pages and the extents
//!   under way, never with what damaged bytes say.
//! - U3. A problem ends no more than it must: behind a damaged record the walk goes on at the next mark, behind a lost
//!   segment at the next one, and what could be a consequence of the stretch between is not reported again.

mod extents;
mod files;
mod images;
mod map;
mod pages;
mod report;
mod space;
mod walk;

#[cfg(all(test, not(loom)))]
mod image_tests;
#[cfg(all(test, not(loom)))]
mod map_tests;
#[cfg(all(test, not(loom)))]
mod tests;

pub use report::{Bytes, CheckpointReport, Evidence, Images, Pages, Problem, Purpose, Records, Report, SegmentReport};
pub use space::{space, stats};

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::base::error::{Error, Result};
use crate::base::ids::Lsn;
use crate::config::{Config, Create};
use crate::engine;
use crate::format::segment::{Purpose as Held, name};
use crate::recovery::survey::is_store;
use crate::storage::OpenMode;
use crate::store::handles::Handles;
use walk::Walk;

/// Checks every record of every segment of a store, whatever it holds: checksums, marks (what they call stable lies below them
/// and rises), page chains (a link names the version below it, the first fragment goes on top of nothing), versions that only
/// rise, ids that are used again only once their free is stable, extents with all their pieces and their checksum, both copies
/// of every segment's header, nothing behind the end of a log that was closed, every image, and that the last checkpoint says of
/// pages and segments what is there.
///
/// Of a store that was cleaned, the log below the redo point may be gone in part: pages whose records were there are checked by
/// what the checkpoint names, and counted by what it says.
///
/// The store is opened read only, with the shared lock, whatever the options say; several may look at once, none beside a
/// writer. What is found wrong is in [`Report::problems`], by segment and offset; a store with problems may still open.
///
/// What no check can see: the bytes of a pad between its head and its mark, which mean nothing; and damage to the very last
/// flush before a crash, which looks like a torn one.
///
/// # Errors
/// `NotFound`, `Locked`, `Io`; `Incompatible` for a newer format, or for something that is no store; `Config` for options that
/// cannot be read only.
pub fn verify(config: Config) -> Result<Report> {
    let config = Config { read_only: true, create: Create::Existing, ..config };
    config.validate()?;
    let storage = engine::storage(&config)?;
    if !is_store(storage.as_ref())? {
        return Err(Error::NotFound { path: storage.describe() });
    }
    let _lock = engine::lock(storage.as_ref(), true)?;
    let handles = Handles::new(storage, OpenMode::ReadOnly);
    let mut map = map::Map::default();
    let mut checkpoint = map.find(&handles)?;
    // Where there was one and it is damaged, nobody knows what was given back of the log's beginning.
    let is_known = map.problems.is_empty();
    let mut files = files::survey(&handles, checkpoint.as_ref(), walk::trimmed)?;
    let mut gone = BTreeSet::new();
    if let Some(found) = &mut checkpoint {
        let known = walk::Known { redo: found.root.redo, stable: found.root.stable };
        gone = walk::given_back(&files.links, known)?;
        let before = found.root.segments.len();
        found.root.segments.retain(|known| !gone.contains(&known.sequence));
        if found.root.segments.len() < before {
            files = files::survey(&handles, checkpoint.as_ref(), walk::trimmed)?;
        }
    }
    let begins = files.begins_after.map_or(Lsn(0), |(_, end)| end);
    let links = std::mem::take(&mut files.links);
    let known = checkpoint.as_ref().map(|found| walk::Known { redo: found.root.redo, stable: found.root.stable });
    let purpose = files.purpose.unwrap_or(Held::Pages);
    let mut walk = Walk::new(&handles, &links, purpose, begins, known);
    walk.all()?;
    let segments: Vec<_> = links.iter().map(|link| Arc::clone(&link.segment)).collect();
    let tail = std::mem::take(&mut walk.tail);
    let log = map::Log {
        segments: &segments,
        chains: &walk.chains,
        gaps: &walk.gaps,
        gone: &gone,
        problems: &files.problems,
        end: (files.problems.is_empty() && walk.problems.is_empty()).then_some(walk.end),
    };
    map.check(&handles, checkpoint, log, tail, std::mem::take(&mut files.others))?;
    map.learned.drain(..).for_each(|(page, said, bytes)| walk.chains.learn(page, said, bytes));
    files.leftovers.extend(map.unused.into_iter().map(name));
    files.problems.extend(map.problems);
    if let Some((sequence, end)) = files.begins_after
        && walk.trimmed < end
        && is_known
    {
        files.report_missing(sequence, Some(walk.trimmed));
    }
    let mut bytes = Bytes::default();
    for segment in &walk.segments {
        bytes.add(segment.bytes);
    }
    let (live, free, high_water) = walk.chains.counts();
    let evidence = Evidence { stable: walk.proven, end: walk.end, first: walk.trimmed, clean: walk.is_clean() };
    let mut problems = files.problems;
    problems.append(&mut walk.problems);
    problems.sort_by_key(|problem| (problem.segment, problem.offset));
    Ok(Report {
        purpose: files.purpose.map(|held| if held == Held::Log { Purpose::Log } else { Purpose::Pages }),
        segment_size: files.segment_size,
        segments: walk.segments,
        records: walk.records,
        bytes,
        images: map.images,
        live_bytes: (files.purpose == Some(Held::Pages)).then(|| walk.chains.live_bytes()),
        pages: Pages { live, free, unused: high_water.saturating_sub(live + free), high_water },
        evidence,
        checkpoint: map.report,
        leftovers: files.leftovers,
        problems,
    })
}
