//! The search for an order refuses planted bad histories and takes their good twins.

use pagecache::Version;
use pagecache_sim::linear::history::Call;
use pagecache_sim::linear::page::{Answer, Ask, Page, PageCall, explain_crash, explain_page};

fn v(version: u64) -> Version {
    Version(version)
}

/// A call of this thread, from and to these times.
fn call(thread: usize, begun: u64, ended: u64, ask: Ask, answer: Answer) -> PageCall {
    Call { thread, begun, ask, ended: Some((ended, answer)) }
}

fn pending(thread: usize, begun: u64, ask: Ask) -> PageCall {
    Call { thread, begun, ask, ended: None }
}

/// A page with the word 1 at version 8, made by thread 0 before anything else.
fn made(more: impl IntoIterator<Item = PageCall>) -> Vec<PageCall> {
    let mut calls = vec![call(0, 0, 1, Ask::Replace(v(0), 1), Answer::Done(v(8)))];
    calls.extend(more);
    calls
}

fn page(version: u64, words: &[u64]) -> Answer {
    Answer::Page(v(version), words.to_vec())
}

fn accepted(calls: &[PageCall]) {
    explain_page(calls).unwrap_or_else(|unexplained| panic!("{unexplained}"));
}

fn refused(calls: &[PageCall]) {
    assert!(explain_page(calls).is_err(), "{calls:?}");
}

#[test]
fn a_lost_update_is_refused() {
    let link = || call(1, 2, 3, Ask::Link(v(8), 2), Answer::Done(v(16)));
    accepted(&made([link(), call(2, 4, 5, Ask::Get, page(16, &[1, 2]))]));
    refused(&made([link(), call(2, 4, 5, Ask::Get, page(8, &[1]))]));
    // Under way at the same time, it may be seen or not.
    let slow = || call(1, 2, 9, Ask::Link(v(8), 2), Answer::Done(v(16)));
    accepted(&made([slow(), call(2, 4, 5, Ask::Get, page(8, &[1]))]));
}

#[test]
fn a_stale_read_after_a_later_one_is_refused() {
    let slow = || call(1, 2, 9, Ask::Link(v(8), 2), Answer::Done(v(16)));
    let [old, new] = [
        |begun| call(2, begun, begun + 1, Ask::Get, page(8, &[1])),
        |begun| call(2, begun, begun + 1, Ask::Get, page(16, &[1, 2])),
    ];
    accepted(&made([slow(), old(3), new(5)]));
    refused(&made([slow(), new(3), old(5)]));
}

#[test]
fn a_read_of_what_nobody_wrote_is_refused() {
    let link = || call(1, 2, 3, Ask::Link(v(8), 2), Answer::Done(v(16)));
    accepted(&made([link(), call(2, 4, 5, Ask::Get, page(16, &[1, 2]))]));
    refused(&made([link(), call(2, 4, 5, Ask::Get, page(16, &[1, 3]))]));
    refused(&made([link(), call(2, 4, 5, Ask::Get, page(16, &[2, 1]))]));
    refused(&made([link(), call(2, 4, 5, Ask::Get, page(24, &[1, 2]))]));
}

#[test]
fn a_link_on_a_version_that_is_not_current_is_refused() {
    let first = || call(1, 2, 3, Ask::Link(v(8), 2), Answer::Done(v(16)));
    accepted(&made([first(), call(2, 4, 5, Ask::Link(v(16), 3), Answer::Done(v(24)))]));
    accepted(&made([first(), call(2, 4, 5, Ask::Link(v(8), 3), Answer::Conflict(v(16), vec![1, 2]))]));
    refused(&made([first(), call(2, 4, 5, Ask::Link(v(8), 3), Answer::Done(v(24)))]));
    // Nor is a conflict with the very version that was named, nor one with a page that is not there yet.
    refused(&made([call(2, 4, 5, Ask::Link(v(8), 3), Answer::Conflict(v(8), vec![1]))]));
    refused(&made([
        call(2, 2, 3, Ask::Link(v(0), 3), Answer::Conflict(v(16), vec![1, 2])),
        call(1, 4, 5, Ask::Link(v(8), 2), Answer::Done(v(16))),
    ]));
}

#[test]
fn what_is_seen_after_a_free_is_refused() {
    let free = || call(1, 2, 3, Ask::Free(v(8)), Answer::Done(v(16)));
    accepted(&made([free(), call(2, 4, 5, Ask::Get, Answer::Free(v(16)))]));
    accepted(&made([free(), call(2, 4, 5, Ask::Link(v(8), 2), Answer::Free(v(16)))]));
    refused(&made([free(), call(2, 4, 5, Ask::Get, page(8, &[1]))]));
    refused(&made([free(), call(2, 4, 5, Ask::Link(v(8), 2), Answer::Done(v(24)))]));
    refused(&made([free(), call(2, 4, 5, Ask::Free(v(8)), Answer::Done(v(24)))]));
    refused(&made([free(), call(2, 4, 5, Ask::Get, Answer::Empty)]));
}

#[test]
fn two_updates_of_one_version_are_refused() {
    let first = || call(1, 2, 9, Ask::Link(v(8), 2), Answer::Done(v(16)));
    accepted(&made([first(), call(2, 3, 8, Ask::Link(v(8), 3), Answer::Conflict(v(16), vec![1, 2]))]));
    refused(&made([first(), call(2, 3, 8, Ask::Link(v(8), 3), Answer::Done(v(24)))]));
    refused(&made([first(), call(2, 3, 8, Ask::Replace(v(8), 3), Answer::Done(v(24)))]));
}

#[test]
fn a_version_that_falls_is_refused() {
    accepted(&made([call(1, 2, 3, Ask::Link(v(8), 2), Answer::Done(v(16)))]));
    refused(&made([call(1, 2, 3, Ask::Link(v(8), 2), Answer::Done(v(8)))]));
    refused(&made([call(1, 2, 3, Ask::Link(v(8), 2), Answer::Done(v(0)))]));
}

#[test]
fn what_never_returned_may_have_happened_but_not_by_halves() {
    let lost = || pending(1, 2, Ask::Link(v(8), 2));
    let get = |begun, answer| call(2, begun, begun + 1, Ask::Get, answer);
    accepted(&made([lost(), get(3, page(8, &[1]))]));
    accepted(&made([lost(), get(3, page(16, &[1, 2]))]));
    accepted(&made([lost(), get(3, page(8, &[1])), get(5, page(16, &[1, 2]))]));
    refused(&made([lost(), get(3, page(16, &[1, 2])), get(5, page(8, &[1]))]));
    refused(&made([pending(1, 2, Ask::Link(v(0), 2)), get(3, page(16, &[1, 2]))]));
}

#[test]
fn a_call_that_failed_and_happened_is_refused() {
    let failed = || call(1, 2, 3, Ask::Link(v(8), 2), Answer::Failed);
    accepted(&made([failed(), call(2, 4, 5, Ask::Get, page(8, &[1]))]));
    refused(&made([failed(), call(2, 4, 5, Ask::Get, page(16, &[1, 2]))]));
}

#[test]
fn a_crash_keeps_what_was_acknowledged_and_a_prefix_of_the_rest() {
    let found = |version, words: &[u64]| Page::Live { version: Some(v(version)), words: words.to_vec() };
    let calls = made([
        call(1, 2, 3, Ask::Link(v(8), 2), Answer::Done(v(16))),
        call(1, 4, 5, Ask::Link(v(16), 3), Answer::Done(v(24))),
        pending(2, 6, Ask::Link(v(24), 4)),
    ]);
    // A flush began at 4 and was acknowledged: the first link is kept.
    let kept = |call: &PageCall| call.ended_before(4);
    let check = |found: Page| explain_crash(&calls, found, kept);
    for good in [found(16, &[1, 2]), found(24, &[1, 2, 3]), found(32, &[1, 2, 3, 4])] {
        check(good).unwrap_or_else(|unexplained| panic!("{unexplained}"));
    }
    for bad in
        [Page::Empty, found(8, &[1]), found(24, &[1, 3]), found(24, &[1, 2]), found(40, &[1, 2, 4]), Page::Free(None)]
    {
        assert!(check(bad.clone()).is_err(), "{bad:?}");
    }
    // With nothing acknowledged, less may be left; never what no prefix makes.
    for (good, less) in [(true, Page::Empty), (true, found(8, &[1])), (false, found(16, &[2]))] {
        assert_eq!(explain_crash(&calls, less, |_| false).is_ok(), good);
    }
}

#[test]
fn a_read_before_the_flush_keeps_what_it_saw() {
    let calls = made([pending(1, 2, Ask::Link(v(8), 2)), call(2, 3, 4, Ask::Get, page(16, &[1, 2]))]);
    let found = |version, words: &[u64]| Page::Live { version: Some(v(version)), words: words.to_vec() };
    let check = |found: Page| explain_crash(&calls, found, |call| call.ended_before(5));
    assert!(check(found(16, &[1, 2])).is_ok());
    assert!(check(found(8, &[1])).is_err());
}
