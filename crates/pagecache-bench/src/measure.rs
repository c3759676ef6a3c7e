//! Measuring: threads that start together, engines that take turns, medians.

use std::sync::Barrier;
use std::time::{Duration, Instant};

/// Runs `work(thread)` on that many threads at once; returns the time from the first start to the last end, as the threads
/// themselves saw it: on a busy machine whoever started them may wake up late.
pub fn together(threads: usize, work: impl Fn(usize) + Sync) -> Duration {
    let barrier = Barrier::new(threads);
    let times: Vec<(Instant, Instant)> = std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads)
            .map(|thread| {
                let (barrier, work) = (&barrier, &work);
                scope.spawn(move || {
                    barrier.wait();
                    let start = Instant::now();
                    work(thread);
                    (start, Instant::now())
                })
            })
            .collect();
        running.into_iter().map(|thread| thread.join().expect("a bench thread panicked")).collect()
    });
    let start = times.iter().map(|time| time.0).min();
    let end = times.iter().map(|time| time.1).max();
    start.zip(end).map_or(Duration::ZERO, |(start, end)| end - start)
}

/// The time that something takes, in seconds.
pub fn seconds(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_secs_f64()
}

/// The median of some figures.
pub fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The quarters between which half of some figures lie; none of fewer than four.
pub fn quarters(figures: &[f64]) -> Option<(f64, f64)> {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let quarter = sorted.len() / 4;
    (quarter > 0).then(|| (sorted[quarter], sorted[sorted.len() - 1 - quarter]))
}

/// What one run found: a figure for each unit.
pub type Figures = Vec<(&'static str, f64)>;

/// Somebody who takes part in a row.
pub struct Entrant<'a> {
    /// The engine's name.
    pub name: &'static str,
    /// One run.
    pub run: Box<dyn FnMut() -> Figures + 'a>,
}

/// An entrant.
pub fn entrant<'a>(name: &'static str, run: impl FnMut() -> Figures + 'a) -> Entrant<'a> {
    Entrant { name, run: Box::new(run) }
}

/// All figures of one engine in one unit, a figure a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// The engine's name.
    pub engine: &'static str,
    /// The unit.
    pub unit: &'static str,
    /// A figure a run.
    pub runs: Vec<f64>,
}

/// Lets the entrants run in turn, so that a drifting machine hits all of them.
pub fn in_turn(runs: usize, mut entrants: Vec<Entrant<'_>>) -> Vec<Series> {
    let mut all: Vec<Series> = Vec::new();
    for _ in 0..runs {
        for entrant in &mut entrants {
            for (unit, figure) in (entrant.run)() {
                match all.iter_mut().find(|series| series.engine == entrant.name && series.unit == unit) {
                    Some(series) => series.runs.push(figure),
                    None => all.push(Series { engine: entrant.name, unit, runs: vec![figure] }),
                }
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entrants_take_turns_and_every_figure_is_kept() {
        let order = std::cell::RefCell::new(Vec::new());
        let step = |name: &'static str| {
            order.borrow_mut().push(name);
            vec![("x/s", order.borrow().len() as f64)]
        };
        let found = in_turn(3, vec![entrant("a", || step("a")), entrant("b", || step("b"))]);
        assert_eq!(*order.borrow(), ["a", "b", "a", "b", "a", "b"]);
        assert_eq!(found[0].runs, [1.0, 3.0, 5.0]);
        assert_eq!(found[1].runs, [2.0, 4.0, 6.0]);
        assert_eq!(median(&found[1].runs), 4.0);
        assert_eq!(quarters(&found[1].runs), None);
        assert_eq!(quarters(&[9.0, 1.0, 2.0, 4.0, 3.0]), Some((2.0, 4.0)));
    }
}
