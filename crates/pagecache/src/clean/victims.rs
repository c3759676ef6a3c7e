//! Which segments are cleaned: declining cost (Lomet and Luo, "Efficiently Reclaiming Space in a Log Structured Store", 2020).

use crate::base::ids::{Lsn, Sequence};

/// A segment that could be cleaned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) sequence: Sequence,
    /// Bytes in use.
    pub(super) live: u64,
    /// When its records were written, on the average: an LSN.
    pub(super) written: Lsn,
}

impl Candidate {
    /// `(1 - E) / (E^2 * age)`, where E is the part that is not in use: what moving it costs now against what waiting would spare.
    fn score(&self, size: u64, now: Lsn) -> f64 {
        let live = self.live as f64 / size as f64;
        let empty = (1.0 - live).max(f64::EPSILON);
        let age = now.0.saturating_sub(self.written.0).max(1) as f64;
        live.max(0.0) / (empty * empty * age)
    }
}

/// The cheapest candidates, until their bytes that are not in use make up the excess, or `most` bytes would be moved. Empty ones cost nothing.
///
/// `room` is what a new segment takes of them at least.
pub(super) fn choose(
    mut candidates: Vec<Candidate>,
    size: u64,
    room: u64,
    now: Lsn,
    excess: u64,
    most: u64,
) -> Vec<Sequence> {
    // What is all in use gives nothing.
    candidates.retain(|candidate| candidate.live < size - size / 32);
    candidates.sort_by(|a, b| a.score(size, now).total_cmp(&b.score(size, now)).then(a.sequence.cmp(&b.sequence)));
    let (mut gained, mut moved) = (0, 0);
    let mut chosen = Vec::new();
    for candidate in candidates {
        if candidate.live > 0 {
            if gained >= excess || moved + candidate.live > most {
                break;
            }
            moved += candidate.live;
        }
        gained += size.saturating_sub(candidate.live);
        chosen.push(candidate);
    }
    // What is moved fills segments again: where it would fill as many as it leaves, nothing is gained.
    let left = chosen.iter().filter(|candidate| candidate.live > 0).count() as u64;
    if left <= moved.div_ceil(room) {
        chosen.retain(|candidate| candidate.live == 0);
    }
    chosen.iter().map(|candidate| candidate.sequence).collect()
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    fn candidate(number: u64, live: u64, written: u64) -> Candidate {
        Candidate { sequence: Sequence(number), live, written: Lsn(written) }
    }

    #[test]
    fn the_emptiest_and_the_oldest_come_first_and_no_more_than_needed() {
        let all = vec![candidate(0, 900, 0), candidate(1, 300, 0), candidate(2, 300, 900), candidate(3, 0, 900)];
        let chosen = |excess, most| {
            let chosen = choose(all.clone(), 1000, 1000, Lsn(1000), excess, most);
            chosen.into_iter().map(|sequence| sequence.0).collect::<Vec<_>>()
        };
        assert_eq!(chosen(0, 1000), [3], "what costs nothing");
        assert_eq!(chosen(1701, 1000), [3, 1, 2]);
        assert_eq!(chosen(9000, 5000), [3, 1, 2, 0]);
        assert_eq!(chosen(9000, 700), [3, 1, 2]);
        assert_eq!(chosen(9000, 500), [3], "one alone fills another one");
        let gained = |live: [u64; 2]| {
            let all = live.iter().zip(0..).map(|(live, number)| candidate(number, *live, 0)).collect();
            choose(all, 1000, 900, Lsn(1000), 9000, 5000).len()
        };
        assert_eq!((gained([900, 900]), gained([600, 300]), gained([0, 900])), (0, 2, 1));
        assert_eq!(gained([600, 400]), 0, "there may not be room for both in one");
    }
}
