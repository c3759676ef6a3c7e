//! The verdict on the end of the log: a table over what was found there, proven exhaustive by the test below.

use crate::base::canary::{Canary, planted};

/// What stands where the walk ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Nothing valid, or the end of the newest segment.
    Hole,
    /// An intact record of an unknown kind.
    Unknown,
}

/// The highest stable LSN that any mark or header from there on carries, against the place where the walk ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Evidence {
    /// Something above the place was stable.
    Above,
    /// Nothing above the place is known to have been stable.
    NotAbove,
}

/// The last thing that was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Last {
    /// The mark of a clean close with nothing unproven before it.
    Close,
    /// Anything else.
    Other,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The log goes on right here.
    Continue,
    /// The tail is torn (or its end is not proven): cut here and go on in a new segment.
    Cut,
    /// Acknowledged records are missing.
    Damaged,
    /// A newer version wrote this.
    Newer,
}

pub(crate) fn decide(stop: Stop, evidence: Evidence, last: Last) -> Verdict {
    match (stop, evidence, last) {
        (Stop::Unknown, _, _) => Verdict::Newer,
        (Stop::Hole, Evidence::Above, _) if planted(Canary::DamageTakenForTornTail) => Verdict::Cut,
        (Stop::Hole, Evidence::Above, _) => Verdict::Damaged,
        (Stop::Hole, Evidence::NotAbove, Last::Close) => Verdict::Continue,
        (Stop::Hole, Evidence::NotAbove, Last::Other) if planted(Canary::TornSegmentContinued) => Verdict::Continue,
        (Stop::Hole, Evidence::NotAbove, Last::Other) => Verdict::Cut,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_of_the_table_keeps_the_promises() {
        let mut rows = 0;
        for stop in [Stop::Hole, Stop::Unknown] {
            for evidence in [Evidence::Above, Evidence::NotAbove] {
                for last in [Last::Close, Last::Other] {
                    let verdict = decide(stop, evidence, last);
                    rows += 1;
                    // A match without a wildcard: a new value anywhere does not compile before it has a row.
                    let allowed: &[Verdict] = match (stop, evidence, last) {
                        (Stop::Unknown, Evidence::Above | Evidence::NotAbove, Last::Close | Last::Other) => {
                            &[Verdict::Newer]
                        }
                        (Stop::Hole, Evidence::Above, Last::Close | Last::Other) => &[Verdict::Damaged],
                        (Stop::Hole, Evidence::NotAbove, Last::Close) => &[Verdict::Continue],
                        (Stop::Hole, Evidence::NotAbove, Last::Other) => &[Verdict::Cut],
                    };
                    assert!(allowed.contains(&verdict), "{stop:?} {evidence:?} {last:?}: {verdict:?}");
                    if verdict == Verdict::Continue {
                        assert!(
                            evidence == Evidence::NotAbove && last == Last::Close,
                            "only a clean close is continued"
                        );
                    }
                }
            }
        }
        assert_eq!(rows, 8);
    }
}
