//! What is done to pages under every fault: each operation where it makes the most calls.

use super::PageOp::{
    self, Alloc, Check, Checkpoint, Clean, Flood, Flush, Fragments, Free, Get, Link, LinkMany, MakeStable, New,
    Replace, Tick,
};
use super::scenario::sparse;
use crate::disk::Survival;
use crate::driver::strikes::{Case, Left, Target};

/// So many large pages that the first ones are cold, then a flush: the pages that the last picks mean are cold.
fn cold() -> Vec<PageOp> {
    // One that nobody has used since it came.
    vec![New(20_000), New(50), Flood(6000), Flush]
}

/// Of the pages of [`cold`], the first one: behind the last `pages` of them.
fn oldest(prelude: &[PageOp]) -> usize {
    let floods = prelude.iter().filter(|op| matches!(op, Flood(_))).count();
    // A flood of 6000 bytes a page is 14 pages of about 80 KiB.
    1 + 14 * floods
}

/// Every operation of a page cache.
pub fn cases() -> Vec<Case<PageOp>> {
    let case =
        |name, prelude: &[PageOp], target| Case { name, prelude: prelude.to_vec(), target, may_be_silent: false };
    // An update may have to make room among pages that only a flush makes evictable: nobody asked for that flush.
    let update = |name, prelude: &[PageOp], op| Case { may_be_silent: true, ..case(name, prelude, Target::Do(op)) };
    let some = [New(300), Flush, Link(0, 40), New(9000), Link(0, 20_000), Free(1)];
    let torn = |call, survival| Target::Start(Left::Crashed(Flush, call, survival));
    // One more of these, and the next segment is made.
    let nearly_full = [New(15_000), New(15_000)];
    let scattered = [New(40), LinkMany(0, 63), New(13_000), New(11_000), New(10_400)];
    // Pages of three leaves, behind a checkpoint whose segments and superblocks the next one goes on with.
    let mapped: Vec<PageOp> = [New(40); 9].into_iter().chain([Checkpoint, Link(0, 40), Free(5), Flush]).collect();
    let more: Vec<PageOp> = mapped.iter().copied().chain([Link(2, 40), Replace(8, 300)]).collect();
    // Segments that hold little, below the redo point.
    let sparse = sparse();
    let cleaned: Vec<PageOp> = sparse.iter().copied().chain([Clean, Link(2, 40), Flush]).collect();
    let cold = cold();
    let first = oldest(&cold);
    vec![
        case("start: new", &[], Target::Start(Left::Nothing)),
        case("start: closed", &some, Target::Start(Left::Closed)),
        case("start: killed", &some, Target::Start(Left::Killed)),
        case("start: a torn end", &some, torn(1, Survival::Random(5))),
        case("start: an end that is whole and not proven", &some, torn(1, Survival::KeepAll)),
        update("allocate", &cold, Alloc),
        update("new page: needs a segment", &nearly_full, New(15_000)),
        update("replace of a cold page", &cold, Replace(first, 70_000)),
        update("replace by an extent", &some, Replace(0, 40_000)),
        update("link to a cold page", &cold, Link(first, 40)),
        update("link to a page in 64 pieces", &scattered, LinkMany(3, 20)),
        update("link that is an extent", &some, Link(0, 30_000)),
        update("free of a cold page", &cold, Free(first)),
        update("more pages than the cache holds", &[New(40)], Flood(9000)),
        case("get of a cold page", &cold, Target::Do(Get(first))),
        case("fragments of a cold page", &cold, Target::Do(Fragments(first))),
        case("read everything", &cold, Target::Do(Check)),
        case("make_stable", &some, Target::Do(MakeStable(0))),
        case("flush", &some, Target::Do(Flush)),
        case("tick: something new", &some, Target::Do(Tick)),
        case("tick: at rest", &some[..2], Target::Do(Tick)),
        case("checkpoint: the first", &some, Target::Do(Checkpoint)),
        case("checkpoint: another", &more, Target::Do(Checkpoint)),
        case("start behind a checkpoint: closed", &more, Target::Start(Left::Closed)),
        case("start behind a checkpoint: killed", &more, Target::Start(Left::Killed)),
        case(
            "start: the superblock's copies differ",
            &more,
            Target::Start(Left::Crashed(Checkpoint, 8, Survival::KeepAll)),
        ),
        // A file that cannot be removed is nobody's concern: it is tried again, by the next opening at last.
        update("clean", &sparse, Clean),
        case("start behind a cleaning: killed", &cleaned, Target::Start(Left::Killed)),
        case("close", &some, Target::Close),
    ]
}
