//! Walking the chain: each segment on its own, several at once, collected in LSN order.

use std::sync::Arc;

use super::decide::{Evidence, Last, Stop};
use super::rebuild::{Collect, Rebuild, Record};
use super::survey::Survey;
use crate::base::canary::{Canary, planted};
use crate::base::damage::Damage;
use crate::base::error::Result;
use crate::base::ids::Lsn;
use crate::format::mark::{Mark, MarkKind};
use crate::format::record::Kind;
use crate::log::scan::{Scanner, Step, evidence};
use crate::store::segment::Segment;

/// Where a segment's walk ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended {
    pub(crate) at: Lsn,
    /// The last thing accepted, if it is a mark, and the content's end before it.
    pub(crate) last: Option<(Mark, Option<Lsn>)>,
    /// Where the last record or mark ends, if there is any: a pad up to the segment's end is no content.
    pub(crate) content: Option<Lsn>,
    /// The highest stable LSN that a mark in this segment carries, as far as it was walked.
    pub(crate) proven: Lsn,
    /// What ended it before the end of its records.
    pub(crate) stop: Option<(Stop, u8)>,
    /// The highest LSN that a trim names.
    pub(crate) trimmed: Lsn,
}

fn walk<C: Collect>(segment: &Arc<Segment>, redo: Lsn, mut collect: C) -> Result<(C, Ended)> {
    let from = segment.data_start().max(redo);
    let mut scanner = Scanner::from(Arc::clone(segment), from, segment.records_end());
    let header = segment.header;
    let mut ended = Ended {
        at: scanner.position(),
        last: None,
        content: None,
        proven: header.stable,
        stop: None,
        trimmed: header.first,
    };
    loop {
        match scanner.step()? {
            Step::Record { lsn, shape, body, body_at, len, .. } => {
                ended.last = None;
                let record = Record { segment, lsn, shape, body, body_at, len };
                if shape.kind == Kind::Trim && !planted(Canary::TrimForgottenAtReplay) {
                    ended.trimmed = ended.trimmed.max(trim(&record)?);
                }
                collect.record(record)?;
                ended.content = Some(Lsn(lsn.0 + len));
            }
            Step::Mark { mark } => {
                ended.last = Some((mark, ended.content));
                ended.proven = ended.proven.max(mark.stable);
                ended.content = Some(scanner.position());
            }
            Step::End => break,
            Step::Hole => {
                ended.stop = Some((Stop::Hole, 0));
                break;
            }
            Step::Unknown { kind } => {
                ended.stop = Some((Stop::Unknown, kind));
                break;
            }
        }
    }
    ended.at = scanner.position();
    Ok((collect, ended))
}

/// What a trim forgets: believed as far as it lies below the trim, or it would forget what is yet to be written.
fn trim(record: &Record<'_>) -> Result<Lsn> {
    match record.body.try_into().map(u64::from_le_bytes) {
        Ok(to) if to <= record.lsn.0 => Ok(Lsn(to)),
        _ => Err(record.corrupt(Damage::TrimAhead)),
    }
}

/// Where the whole walk ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Findings {
    /// The segment of the chain it ended in.
    pub(crate) index: usize,
    pub(crate) at: Lsn,
    pub(crate) stop: Stop,
    pub(crate) unknown_kind: u8,
    pub(crate) evidence: Evidence,
    /// The highest stable LSN known to any mark or header.
    pub(crate) proven: Lsn,
    pub(crate) last: Last,
    pub(crate) trimmed: Lsn,
}

/// Walks the chain from the redo point up to its first hole, `threads` segments at a time; what is made of each segment is joined in
/// order.
///
/// # Errors
/// `Io`, and what `rebuild` or the collections say.
pub(crate) fn replay<R: Rebuild>(survey: &Survey, threads: usize, rebuild: &mut R) -> Result<Findings> {
    let (mut proven, mut trimmed, mut content, mut last) = (survey.stable, Lsn(0), survey.redo, Last::Other);
    let mut end = Findings {
        index: 0,
        at: Lsn(0),
        stop: Stop::Hole,
        unknown_kind: 0,
        evidence: Evidence::NotAbove,
        proven,
        last: Last::Other,
        trimmed,
    };
    let mut first = 0;
    'chain: while first < survey.chain.len() {
        let batch = survey.chain.get(first..(first + threads.max(1)).min(survey.chain.len())).unwrap_or_default();
        for (step, walked) in walk_batch::<R::Part>(batch, survey.redo).into_iter().enumerate() {
            let (collected, ended) = walked?;
            rebuild.join(collected)?;
            proven = proven.max(ended.proven);
            trimmed = trimmed.max(ended.trimmed);
            // An empty segment ahead of the tail says nothing about the last thing accepted.
            if let Some(reached) = ended.content {
                last = Last::Other;
                if let Some((mark, before)) = ended.last {
                    // Clean where nothing but padding lies between what the mark calls stable and the mark itself.
                    let nothing_unproven = mark.stable == before.unwrap_or(content);
                    if mark.kind == MarkKind::Close && nothing_unproven {
                        last = Last::Close;
                    }
                }
                content = reached;
            }
            end = Findings { index: first + step, at: ended.at, ..end };
            if let Some((stop, kind)) = ended.stop {
                end = Findings { stop, unknown_kind: kind, ..end };
                break 'chain;
            }
        }
        first += batch.len();
    }
    let mut seen = proven;
    for (index, segment) in survey.chain.iter().enumerate().skip(end.index) {
        let from = if index == end.index { end.at } else { segment.header.start };
        seen = seen.max(evidence(segment, from)?.unwrap_or_default());
        seen = seen.max(if index == end.index { Lsn(0) } else { segment.header.stable });
    }
    let above = if seen > end.at { Evidence::Above } else { Evidence::NotAbove };
    Ok(Findings { evidence: above, proven: seen, last, trimmed, ..end })
}

type Walked<C> = Result<(C, Ended)>;

/// One thread a segment, the caller's own for the first; with one segment no thread at all.
fn walk_batch<C: Collect + Default>(batch: &[Arc<Segment>], redo: Lsn) -> Vec<Walked<C>> {
    let Some((own, others)) = batch.split_first() else { return Vec::new() };
    if others.is_empty() {
        return vec![walk(own, redo, C::default())];
    }
    std::thread::scope(|scope| {
        let spawned: Vec<_> = others
            .iter()
            .map(|segment| {
                let thread = std::thread::Builder::new().name("pagecache-replay".to_owned());
                (segment, thread.spawn_scoped(scope, move || walk(segment, redo, C::default())))
            })
            .collect();
        let mut walked = vec![walk(own, redo, C::default())];
        for (segment, thread) in spawned {
            walked.push(match thread.map(|thread| thread.join()) {
                Ok(Ok(result)) => result,
                // No thread to be had, or user code panicked in it: here, where the panic goes to the caller.
                _ => walk(segment, redo, C::default()),
            });
        }
        walked
    })
}
