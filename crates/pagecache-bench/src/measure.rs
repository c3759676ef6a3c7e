//! Measuring: threads that start together, medians over runs, rows that name what they are held against.

use std::sync::Barrier;
use std::time::{Duration, Instant};

/// Runs `work(thread)` on that many threads at once; returns the time from the common start to the last end.
pub fn together(threads: usize, work: impl Fn(usize) + Sync) -> Duration {
    let barrier = Barrier::new(threads + 1);
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads)
            .map(|thread| {
                let (barrier, work) = (&barrier, &work);
                scope.spawn(move || {
                    barrier.wait();
                    work(thread);
                })
            })
            .collect();
        barrier.wait();
        let start = Instant::now();
        for thread in running {
            thread.join().expect("a bench thread panicked");
        }
        start.elapsed()
    })
}

/// The median of some figures.
pub fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Runs two things in turn, `runs` times each, and returns the medians: a drifting machine hits both.
pub fn paired(runs: usize, mut ours: impl FnMut() -> f64, mut peer: impl FnMut() -> f64) -> (f64, f64) {
    let (mut a, mut b) = (Vec::new(), Vec::new());
    for _ in 0..runs {
        a.push(ours());
        b.push(peer());
    }
    (median(a), median(b))
}

/// Prints a row: ours, the peer's and the ratio.
pub fn row(name: &str, unit: &str, ours: f64, peer_name: &str, peer: f64) {
    println!("{name:<44} {:>12}  {peer_name:<22} {:>12}  {:>5.2}x  {unit}", round(ours), round(peer), ours / peer);
}

/// Prints a row without a peer.
pub fn alone(name: &str, unit: &str, ours: f64) {
    println!("{name:<44} {:>12}  {:<22} {:>12}  {:>6}  {unit}", round(ours), "", "", "");
}

fn round(figure: f64) -> String {
    match figure {
        figure if figure >= 1e6 => format!("{:.2} M", figure / 1e6),
        figure if figure >= 1e3 => format!("{:.1} k", figure / 1e3),
        figure => format!("{figure:.2}"),
    }
}
