//! Which segments are cleaned: declining cost (Lomet and Luo, "Efficiently Reclaiming Space in a Log Structured Store", 2020).

use std::collections::BTreeSet;

use crate::base::ids::Sequence;

/// Which segments come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Those that are cheap to move now, and would not soon be cheaper.
    DecliningCost,
    /// The oldest.
    Age,
    /// The emptiest.
    Greedy,
}

/// A segment that could be cleaned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) sequence: Sequence,
    /// Bytes in use; and how many of them are links on top of pages.
    pub(super) live: u64,
    pub(super) deltas: u64,
}

/// What a turn is to do, and with what.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    pub(super) order: Order,
    /// The newest segment.
    pub(super) now: Sequence,
    /// Bytes of a segment that records may take; and those that they take at least, whatever stays empty at its end.
    pub(super) room: u64,
    pub(super) packed: u64,
    /// Segments that there are to be fewer; and how many of these even if links have to be folded for it.
    pub(super) wanted: u64,
    pub(super) pressing: u64,
    /// Bytes of links that are to be folded into their pages.
    pub(super) overdue: u64,
    /// Segments missing below a cap: where nothing else gives so many, pages are chosen from all segments of links.
    pub(super) missing: u64,
    /// Bytes in use that are moved at most.
    pub(super) most: u64,
}

/// What a turn cleans.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Chosen {
    /// By what moving them costs and gains.
    pub(super) moved: BTreeSet<Sequence>,
    /// Those of links. What they cost is not known before, so they come last: what is gained for certain is gained first.
    pub(super) folds: BTreeSet<Sequence>,
}

impl Candidate {
    /// The lowest goes first. Declining cost is `(1 - E) / (E^2 * age)`, where E is the part of the room that is not in use: what moving costs
    /// now against what waiting would spare.
    ///
    /// The age is that of the segment, counted in segments born since. The paper has the mean age of the updates before the last ones, to know hot
    /// from cold where both lie in one segment. Here they part: who is moved goes where others are that were moved, and is not taken for
    /// old on the day it comes. An age by versions would take it so, and move it again at once.
    fn score(&self, terms: &Terms, order: Order) -> f64 {
        let live = self.live as f64 / terms.room as f64;
        let empty = (1.0 - live).max(f64::EPSILON);
        match order {
            Order::DecliningCost => {
                live / (empty * empty * (1 + terms.now.0 - self.sequence.0.min(terms.now.0)) as f64)
            }
            Order::Age => self.sequence.0 as f64,
            Order::Greedy => live,
        }
    }
}

/// Segments of links to be folded, the oldest first: their pages have had the most time to get more links, which the same fold takes in. Moving
/// them gains next to nothing where they are, so no score would ever choose them; what is gained is the images that they lie on. So many that
/// `overdue` bytes are folded and `pressing` segments given back.
fn folds(links: &[Candidate], pressing: u64, most: u64, terms: &Terms) -> BTreeSet<Sequence> {
    let mut links: Vec<&Candidate> = links.iter().collect();
    links.sort_unstable_by_key(|candidate| candidate.sequence);
    let (mut count, mut folded, mut moved) = (0, 0, 0);
    let enough = |candidate: &&&Candidate| {
        // One is begun in any case: no more of it is moved than the turn may.
        let fits = most > 0 && (count == 0 || moved + candidate.live <= most);
        let goes_on = (folded < terms.overdue || count < pressing) && fits;
        (count, folded, moved) = (count + 1, folded + candidate.deltas, moved + candidate.live);
        goes_on
    };
    links.iter().take_while(enough).map(|candidate| candidate.sequence).collect()
}

/// The cheapest candidates, until so many segments are gained as are wanted, or `most` bytes would be moved. Empty ones cost nothing.
/// And those of links that have waited long enough, or where nothing else is to be gained: a fold of a few links for each page writes pages for next to nothing.
pub(super) fn choose(candidates: Vec<Candidate>, terms: &Terms) -> Chosen {
    let (empty, candidates): (Vec<_>, Vec<_>) = candidates.into_iter().partition(|candidate| candidate.live == 0);
    let (links, mut candidates): (Vec<_>, Vec<_>) =
        candidates.into_iter().partition(|candidate| candidate.deltas > candidate.live / 2);
    // What is all in use gives nothing.
    candidates.retain(|candidate| candidate.live < terms.room - terms.room / 32);
    let wanted = terms.wanted.saturating_sub(empty.len() as u64);
    let order = |a: &Candidate, b: &Candidate, by: Order| {
        a.score(terms, by).total_cmp(&b.score(terms, by)).then(a.sequence.cmp(&b.sequence))
    };
    candidates.sort_by(|a, b| order(a, b, terms.order));
    let (mut chosen, mut gained) = first(&candidates, wanted, terms);
    if chosen.is_empty() && wanted > 0 && terms.order == Order::DecliningCost {
        // The old ones are too full for so short a turn.
        candidates.sort_by(|a, b| order(a, b, Order::Greedy));
        (chosen, gained) = first(&candidates, wanted, terms);
    }
    let most = terms.most.saturating_sub(chosen.iter().map(|candidate| candidate.live).sum());
    let gained = empty.len() as u64 + gained;
    let folds = match terms.missing > gained {
        true => links.iter().map(|candidate| candidate.sequence).collect(),
        false => folds(&links, terms.pressing.saturating_sub(gained), most, terms),
    };
    Chosen { moved: empty.iter().chain(chosen).map(|candidate| candidate.sequence).collect(), folds }
}

/// The first of these, as many as are wanted or as may be moved, and how many segments are gained; none where nothing is.
fn first<'a>(candidates: &'a [Candidate], wanted: u64, terms: &Terms) -> (&'a [Candidate], u64) {
    let (mut gained, mut moved, mut count) = (0, 0, 0);
    for candidate in candidates {
        if gained >= wanted || moved + candidate.live > terms.most {
            break;
        }
        (moved, count) = (moved + candidate.live, count + 1);
        // What is moved fills segments again.
        gained = (count as u64).saturating_sub(moved.div_ceil(terms.packed));
    }
    let chosen = if gained > 0 { count } else { 0 };
    (candidates.get(..chosen).unwrap_or_default(), gained)
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    fn candidate(number: u64, live: u64) -> Candidate {
        Candidate { sequence: Sequence(number), live, deltas: 0 }
    }

    fn terms(wanted: u64, most: u64) -> Terms {
        let (order, now) = (Order::DecliningCost, Sequence(1000));
        Terms { order, now, room: 1000, packed: 1000, wanted, pressing: wanted, overdue: 0, missing: 0, most }
    }

    fn chosen(all: &[Candidate], terms: Terms) -> Vec<u64> {
        let Chosen { moved, folds } = choose(all.to_vec(), &terms);
        moved.union(&folds).map(|sequence| sequence.0).collect()
    }

    #[test]
    fn the_emptiest_and_the_oldest_come_first_and_no_more_than_needed() {
        let all = [candidate(1, 900), candidate(2, 300), candidate(900, 300), candidate(901, 0)];
        assert_eq!(chosen(&all, terms(0, 1000)), [901], "what costs nothing");
        assert_eq!(chosen(&all, terms(2, 1000)), [2, 900, 901]);
        assert_eq!(chosen(&all, terms(9, 5000)), [1, 2, 900, 901]);
        assert_eq!(chosen(&all, terms(9, 700)), [2, 900, 901]);
        assert_eq!(chosen(&all, terms(9, 500)), [901], "one alone fills another one");
        let all = [candidate(1, 700), candidate(2, 600), candidate(3, 500), candidate(4, 100)];
        assert_eq!(chosen(&all, Terms { order: Order::Age, ..terms(1, 5000) }), [1, 2, 3]);
        assert_eq!(chosen(&all, Terms { order: Order::Greedy, ..terms(1, 5000) }), [3, 4]);
    }

    #[test]
    fn an_old_segment_goes_before_one_that_is_emptier_and_will_be_emptier_still() {
        let all =
            [candidate(100, 700), candidate(101, 700), candidate(102, 300), candidate(990, 500), candidate(991, 500)];
        assert_eq!(chosen(&all, terms(1, 5000)), [100, 102]);
        assert_eq!(chosen(&all, Terms { order: Order::Greedy, ..terms(1, 5000) }), [102, 990]);
    }

    #[test]
    fn where_the_old_ones_are_too_full_for_a_turn_the_emptiest_are_taken() {
        let all = [candidate(100, 800), candidate(101, 800), candidate(998, 450), candidate(999, 500)];
        assert_eq!(chosen(&all, terms(1, 1650)), [998, 999]);
        assert_eq!(chosen(&all, Terms { order: Order::Age, ..terms(1, 1650) }), [0; 0], "as it was asked for");
    }

    #[test]
    fn nothing_is_moved_where_nothing_is_gained() {
        let count = |live: [u64; 2]| {
            let all: Vec<Candidate> = live.iter().zip(1..).map(|(live, number)| candidate(number, *live)).collect();
            chosen(&all, Terms { packed: 900, ..terms(9, 5000) }).len()
        };
        assert_eq!((count([900, 900]), count([600, 300]), count([0, 900])), (0, 2, 1));
        assert_eq!(count([600, 400]), 0, "there may not be room for both in one");
        assert_eq!(count([990, 1030]), 0, "all in use, by lengths that are a little too long");
    }

    #[test]
    fn links_are_folded_for_room_only_where_it_is_pressing_and_nothing_else_gives_it() {
        let links = |number, live| Candidate { deltas: live, ..candidate(number, live) };
        let all = [links(7, 100), links(6, 900), links(5, 300), candidate(4, 600), candidate(3, 300), candidate(2, 0)];
        let chosen = |wanted, pressing| chosen(&all, Terms { pressing, ..terms(wanted, 5000) });
        assert_eq!(chosen(2, 0), [2, 3, 4]);
        assert_eq!(chosen(2, 2), [2, 3, 4], "two are gained as it is");
        assert_eq!(chosen(3, 3), [2, 3, 4, 5], "the oldest of the links, not the emptiest");
        assert_eq!(chosen(4, 4), [2, 3, 4, 5, 6]);
        assert_eq!(chosen(4, 0), [2, 3, 4]);
        let below_a_cap = |missing| self::chosen(&all, Terms { pressing: 0, missing, ..terms(4, 5000) });
        assert_eq!(below_a_cap(2), [2, 3, 4], "two are gained as it is");
        assert_eq!(below_a_cap(3), [2, 3, 4, 5, 6, 7]);
    }

    #[test]
    fn links_that_have_waited_too_long_are_folded_the_oldest_first() {
        let links = |number, live, deltas| Candidate { deltas, ..candidate(number, live) };
        let all = [links(7, 990, 300), links(6, 990, 990), links(5, 990, 800), links(4, 990, 100), links(3, 700, 700)];
        let overdue = |overdue, most| chosen(&all, Terms { overdue, ..terms(0, most) });
        assert_eq!(overdue(0, 5000), [0; 0]);
        assert_eq!(overdue(1, 5000), [3]);
        assert_eq!(overdue(701, 5000), [3, 5]);
        assert_eq!(overdue(9000, 5000), [3, 5, 6], "where links are few, whole pages would be moved for them");
        assert_eq!(overdue(9000, 1700), [3, 5]);
    }
}
