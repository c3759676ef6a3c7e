//! What the exhaustive driver is given: an alphabet, and the states in which its sequences begin.

use super::{PageOp, Update, Wrong};
use crate::driver::Step;

/// What short sequences are made of.
pub fn alphabet() -> Vec<Step<PageOp>> {
    vec![
        Step::Do(PageOp::New(40)),
        Step::Do(PageOp::Link(0, 40)),
        Step::Do(PageOp::Link(1, 20_000)),
        Step::Do(PageOp::Replace(0, 5000)),
        Step::Do(PageOp::Free(0)),
        Step::Do(PageOp::Stale(0, Update::Link, Wrong::Old(0))),
        Step::Do(PageOp::Flush),
        Step::Do(PageOp::Tick),
        Step::Do(PageOp::Checkpoint),
        Step::Do(PageOp::Clean),
        Step::Restart,
        Step::Kill,
    ]
}

/// Where sequences begin: each is a state that the first operations of a store do not reach.
pub fn preludes() -> Vec<(&'static str, Vec<Step<PageOp>>)> {
    let each = |ops: &[PageOp]| ops.iter().map(|op| Step::Do(*op)).collect::<Vec<_>>();
    vec![
        ("an empty store", Vec::new()),
        ("a page in as many pieces as it may have", each(&[PageOp::New(40), PageOp::LinkMany(0, 63)])),
        (
            "a checkpoint, and more behind it",
            each(&[
                PageOp::New(40),
                PageOp::New(40),
                PageOp::Flush,
                PageOp::Checkpoint,
                PageOp::Link(0, 40),
                PageOp::Free(1),
                PageOp::Flush,
            ]),
        ),
        ("segments that hold little, below the redo point", each(&sparse())),
        ("more pages than the cache holds", each(&[PageOp::Flood(9000)])),
        (
            "ids that were freed, durably and not",
            each(&[PageOp::New(40), PageOp::New(40), PageOp::Free(0), PageOp::Flush, PageOp::New(24), PageOp::Free(0)]),
        ),
    ]
}

/// Where sequences under a pin of files begin: what is to be given back is there, and stays.
pub fn pinned() -> Vec<Step<PageOp>> {
    sparse().into_iter().chain([PageOp::Pin]).map(Step::Do).collect()
}

/// What is done under it.
pub fn pinned_alphabet() -> Vec<Step<PageOp>> {
    let ops = [PageOp::Clean, PageOp::Checkpoint, PageOp::Replace(0, 12_000), PageOp::Unpin, PageOp::Pin];
    ops.into_iter().map(Step::Do).chain([Step::Restart, Step::Kill]).collect()
}

/// Segments of which each holds one small page that is in use, below the redo point.
pub(super) fn sparse() -> Vec<PageOp> {
    let mut ops = vec![PageOp::New(12_000)];
    for round in 1..5 {
        // The large page is so many before the newest.
        ops.push(PageOp::New(40));
        ops.extend([PageOp::Replace(round, 12_000); 5]);
    }
    ops.extend([PageOp::Flush, PageOp::Checkpoint]);
    ops
}
