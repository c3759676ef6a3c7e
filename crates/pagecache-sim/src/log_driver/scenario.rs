//! What the exhaustive driver is given: an alphabet, and the states in which its sequences begin.

use super::{End, INLINE_MAX, LogOp, Which};
use crate::driver::Step;

/// What short sequences are made of.
pub fn alphabet() -> Vec<Step<LogOp>> {
    vec![
        Step::Do(LogOp::Write(40)),
        Step::Do(LogOp::Write(INLINE_MAX + 1)),
        Step::Do(LogOp::Write(70_000)),
        Step::Do(LogOp::Reserve { len: 0, end: End::Completed }),
        Step::Do(LogOp::Reserve { len: 5000, end: End::Aborted }),
        Step::Do(LogOp::Flush),
        Step::Do(LogOp::Trim(Which::Stable)),
        Step::Do(LogOp::Tick),
        Step::Restart,
        Step::Kill,
    ]
}

/// Where sequences begin: each place is one that the first operations of a log do not reach.
pub fn preludes() -> Vec<(&'static str, Vec<Step<LogOp>>)> {
    let records_up_to = |granules: i16| Step::Do(LogOp::ToSegmentEnd(granules));
    let flush = || Step::Do(LogOp::Flush);
    vec![
        ("an empty log", Vec::new()),
        ("records up to the segment's last byte", vec![records_up_to(0)]),
        ("no room for a mark", vec![records_up_to(-3)]),
        ("a segment full after a flush", vec![records_up_to(-100), flush()]),
        ("room for one more mark", vec![records_up_to(-612), flush()]),
        (
            "files to be reused, full of old records",
            vec![
                Step::Do(LogOp::Write(5000)),
                flush(),
                Step::Do(LogOp::Write(70_000)),
                Step::Do(LogOp::Write(70_000)),
                flush(),
                Step::Do(LogOp::Trim(Which::Stable)),
            ],
        ),
    ]
}
