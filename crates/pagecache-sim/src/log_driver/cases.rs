//! What is done to the log under every fault: each operation where it makes the most calls.

use super::{End, INLINE_MAX, LogOp, Which};
use crate::disk::Survival;
use crate::driver::strikes::{Case, Left, Target};

/// Segments that were trimmed: their files wait to be used again.
fn trimmed() -> Vec<LogOp> {
    let long = LogOp::Write(70_000);
    vec![LogOp::Write(5000), LogOp::Flush, long, long, LogOp::Flush, LogOp::Trim(Which::Stable)]
}

/// Every operation of a log.
pub fn cases() -> Vec<Case<LogOp>> {
    let case = |name, prelude: &[LogOp], target| Case { name, prelude: prelude.to_vec(), target, may_be_silent: false };
    let some = [LogOp::Write(300), LogOp::Flush, LogOp::Write(20_000)];
    let torn = |call, survival| Target::Start(Left::Crashed(LogOp::Flush, call, survival));
    // One more of these, and the next segment is made.
    let full = [LogOp::Write(8000); 4];
    vec![
        case("start: new", &[], Target::Start(Left::Nothing)),
        case("start: closed", &some, Target::Start(Left::Closed)),
        case("start: killed", &some, Target::Start(Left::Killed)),
        case("start: a torn end", &some, torn(1, Survival::Random(5))),
        case("start: an end that is whole and not proven", &some, torn(1, Survival::KeepAll)),
        case("start: files to be removed", &trimmed(), Target::Start(Left::Killed)),
        case("append: needs a segment", &full, Target::Do(LogOp::Write(8000))),
        case("append: uses a file again", &trimmed(), Target::Do(LogOp::Write(70_000))),
        case("append: an extent over two segments", &some, Target::Do(LogOp::Write(70_000))),
        case("reserve", &full, Target::Do(LogOp::Reserve { len: INLINE_MAX, end: End::Completed })),
        case("reserve, held elsewhere", &full, {
            Target::Do(LogOp::HeldElsewhere { len: 9000, beside: 4000, end: End::Aborted })
        }),
        case("make_stable", &some, Target::Do(LogOp::MakeStable(Which::Newest(0)))),
        case("flush", &some, Target::Do(LogOp::Flush)),
        case("trim", &trimmed()[..5], Target::Do(LogOp::Trim(Which::Stable))),
        case("tick: something new", &some, Target::Do(LogOp::Tick)),
        case("tick: at rest", &some[..2], Target::Do(LogOp::Tick)),
        case("read, iterate", &[&some[..], &[LogOp::Flush]].concat(), Target::Do(LogOp::Check)),
        case("close", &some, Target::Close),
    ]
}
