//! Which segments are cleaned: declining cost (Lomet and Luo, "Efficiently Reclaiming Space in a Log Structured Store", 2020).

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
    /// Bytes in use.
    pub(super) live: u64,
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
    /// Bytes of room that are to become free.
    pub(super) wanted: u64,
    /// Bytes in use that are moved at most.
    pub(super) most: u64,
}

impl Candidate {
    /// The lowest goes first. Declining cost is `(1 - E) / (E^2 * age)`, where E is the part of the room that is not in use: what moving costs
    /// now against what waiting would spare.
    ///
    /// The age is that of the segment, counted in segments born since. The paper has the mean age of the updates before the last ones, to know hot
    /// from cold where both lie in one segment. Here they part: who is moved goes where others are that were moved, and is not taken for
    /// old on the day it comes. An age by versions would take it so, and move it again at once.
    fn score(&self, terms: &Terms) -> f64 {
        let live = self.live as f64 / terms.room as f64;
        let empty = (1.0 - live).max(f64::EPSILON);
        match terms.order {
            Order::DecliningCost => {
                live / (empty * empty * (1 + terms.now.0 - self.sequence.0.min(terms.now.0)) as f64)
            }
            Order::Age => self.sequence.0 as f64,
            Order::Greedy => live,
        }
    }
}

/// The cheapest candidates, until what is not in use in them makes up what is wanted, or `most` bytes would be moved. Empty ones cost nothing.
pub(super) fn choose(mut candidates: Vec<Candidate>, terms: &Terms) -> Vec<Sequence> {
    let room = terms.room;
    // What is all in use gives nothing.
    candidates.retain(|candidate| candidate.live < room - room / 32);
    candidates.sort_by(|a, b| a.score(terms).total_cmp(&b.score(terms)).then(a.sequence.cmp(&b.sequence)));
    let (mut gained, mut moved) = (0, 0);
    let mut chosen = Vec::new();
    for candidate in candidates {
        if candidate.live > 0 {
            if gained >= terms.wanted || moved + candidate.live > terms.most {
                break;
            }
            moved += candidate.live;
        }
        gained += room - candidate.live;
        chosen.push(candidate);
    }
    // What is moved fills segments again: where it would fill as many as it leaves, nothing is gained.
    let left = chosen.iter().filter(|candidate| candidate.live > 0).count() as u64;
    if left <= moved.div_ceil(terms.packed) {
        chosen.retain(|candidate| candidate.live == 0);
    }
    chosen.iter().map(|candidate| candidate.sequence).collect()
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    fn candidate(number: u64, live: u64) -> Candidate {
        Candidate { sequence: Sequence(number), live }
    }

    fn terms(wanted: u64, most: u64) -> Terms {
        Terms { order: Order::DecliningCost, now: Sequence(1000), room: 1000, packed: 1000, wanted, most }
    }

    #[test]
    fn the_emptiest_and_the_oldest_come_first_and_no_more_than_needed() {
        let all = vec![candidate(1, 900), candidate(2, 300), candidate(900, 300), candidate(901, 0)];
        let chosen = |terms: Terms| {
            let chosen = choose(all.clone(), &terms);
            chosen.into_iter().map(|sequence| sequence.0).collect::<Vec<_>>()
        };
        assert_eq!(chosen(terms(0, 1000)), [901], "what costs nothing");
        assert_eq!(chosen(terms(1701, 1000)), [901, 2, 900]);
        assert_eq!(chosen(terms(9000, 5000)), [901, 2, 900, 1]);
        assert_eq!(chosen(terms(9000, 700)), [901, 2, 900]);
        assert_eq!(chosen(terms(9000, 500)), [901], "one alone fills another one");
        assert_eq!(chosen(Terms { order: Order::Age, ..terms(2000, 5000) }), [1, 2, 900, 901]);
        assert_eq!(chosen(Terms { order: Order::Greedy, ..terms(1800, 5000) }), [901, 2, 900]);
    }

    #[test]
    fn nothing_is_moved_where_nothing_is_gained() {
        let chosen = |live: [u64; 2]| {
            let all = live.iter().zip(1..).map(|(live, number)| candidate(number, *live)).collect();
            choose(all, &Terms { packed: 900, ..terms(9000, 5000) }).len()
        };
        assert_eq!((chosen([900, 900]), chosen([600, 300]), chosen([0, 900])), (0, 2, 1));
        assert_eq!(chosen([600, 400]), 0, "there may not be room for both in one");
        assert_eq!(chosen([990, 1030]), 0, "all in use, by lengths that are a little too long");
    }

    #[test]
    fn one_that_is_old_goes_before_one_that_is_emptier_and_may_yet_be_emptier_still() {
        let all = vec![candidate(100, 700), candidate(990, 500)];
        assert_eq!(choose(all.clone(), &Terms { packed: 500, ..terms(1, 800) }), []);
        let score = |candidate: &Candidate| candidate.score(&terms(1, 1));
        assert!(score(&all[0]) < score(&all[1]));
    }
}
