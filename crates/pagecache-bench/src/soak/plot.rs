//! Lines over time as SVG: what a soak found and what was allowed, memory above and disk below.

use std::fmt::Write;

use super::sample::Sample;
use crate::chart::text;

const WIDTH: f64 = 880.0;
const HEIGHT: f64 = 210.0;
const LEFT: f64 = 60.0;
const RIGHT: f64 = 175.0;
const TOP: f64 = 40.0;

/// Points of a line.
const POINTS: usize = 300;

/// What is drawn of a sample, in MiB: memory, then disk.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Point {
    at: f64,
    memory: [f64; 4],
    disk: [f64; 3],
}

const MEMORY: [(&str, &str); 4] = [
    ("allowed", "#c53030"),
    ("resident, anonymous", "#2b6cb0"),
    ("of that, asked for", "#38a169"),
    ("resident pages", "#a0aec0"),
];
const DISK: [(&str, &str); 3] = [("allowed", "#c53030"), ("occupied", "#2b6cb0"), ("payload of pages", "#a0aec0")];

impl Point {
    /// What is drawn of a sample.
    pub fn of(sample: &Sample) -> Point {
        let mebibytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        Point {
            at: sample.at,
            memory: [
                mebibytes(sample.memory_allowed),
                mebibytes(sample.anonymous),
                mebibytes(sample.asked_peak),
                mebibytes(sample.stats.resident_bytes),
            ],
            disk: [mebibytes(sample.disk_allowed), mebibytes(sample.disk), mebibytes(sample.payload)],
        }
    }
}

/// The chart, and where the load ended, in seconds.
pub fn svg(points: &[Point], title: &str, loaded: f64) -> String {
    let last = points.last().map_or(1.0, |point| point.at.max(0.1));
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {:.0}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n",
        2.0 * (HEIGHT + TOP) + 40.0
    );
    text(&mut out, 10.0, 16.0, "start", "bold", title);
    let memory: Vec<_> = points.iter().map(|point| (point.at, point.memory)).collect();
    let disk: Vec<_> = points.iter().map(|point| (point.at, point.disk)).collect();
    panel(&mut out, TOP, &memory, MEMORY, "memory, MiB", (last, loaded));
    panel(&mut out, 2.0 * TOP + HEIGHT, &disk, DISK, "disk, MiB", (last, loaded));
    out += "</svg>\n";
    out
}

/// One of the two: its lines from `top` down, times scaled to the last one.
fn panel<const LINES: usize>(
    out: &mut String,
    top: f64,
    points: &[(f64, [f64; LINES])],
    lines: [(&str, &str); LINES],
    title: &str,
    (last, loaded): (f64, f64),
) {
    let most = points.iter().flat_map(|point| point.1).fold(1.0, f64::max) * 1.05;
    let (x, y) =
        (|at: f64| LEFT + at / last * (WIDTH - LEFT - RIGHT), |value: f64| top + HEIGHT * (1.0 - value / most));
    text(out, LEFT, top - 6.0, "start", "normal", title);
    let step = step(most);
    for mark in (0..=(most / step) as u32).map(|count| f64::from(count) * step) {
        rule(out, (LEFT, y(mark)), (WIDTH - RIGHT, y(mark)), "#e2e8f0");
        text(out, LEFT - 6.0, y(mark) + 4.0, "end", "normal", &format!("{mark}"));
    }
    rule(out, (x(loaded), top), (x(loaded), top + HEIGHT), "#718096");
    text(out, x(loaded) + 4.0, top + HEIGHT - 5.0, "start", "normal", "loaded");
    text(out, WIDTH - RIGHT, top + HEIGHT + 14.0, "end", "normal", &format!("{last:.0} s"));
    // Of several samples that share a place, the highest is drawn.
    let each = points.len().div_ceil(POINTS).max(1);
    for (at, (name, colour)) in lines.into_iter().enumerate() {
        let mut path = String::new();
        for chunk in points.chunks(each) {
            let highest = chunk.iter().map(|point| point.1[at]).fold(0.0, f64::max);
            let _ = write!(path, "{:.0},{:.1} ", x(chunk[0].0), y(highest));
        }
        let _ = writeln!(out, "<polyline fill=\"none\" stroke=\"{colour}\" points=\"{}\"/>", path.trim_end());
        let legend = top + 14.0 + 18.0 * at as f64;
        rule(out, (WIDTH - RIGHT + 8.0, legend - 4.0), (WIDTH - RIGHT + 26.0, legend - 4.0), colour);
        text(out, WIDTH - RIGHT + 30.0, legend, "start", "normal", name);
    }
}

/// A round number, about a fifth of the most.
fn step(most: f64) -> f64 {
    let ten = 10f64.powf((most / 5.0).log10().floor());
    [1.0, 2.0, 5.0, 10.0].map(|of| of * ten).into_iter().find(|step| most / step <= 6.0).unwrap_or(ten)
}

fn rule(out: &mut String, from: (f64, f64), to: (f64, f64), colour: &str) {
    let _ = writeln!(
        out,
        "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" stroke=\"{colour}\"/>",
        from.0, from.1, to.0, to.1
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_of_many_samples_is_drawn() {
        let mut points: Vec<Point> = (0..6000)
            .map(|at| Point { at: f64::from(at) / 10.0, memory: [100.0, 50.0, 40.0, 30.0], disk: [9.0; 3] })
            .collect();
        points[3001].memory[1] = 100.0;
        let svg = svg(&points, "a soak", 5.0);
        assert_eq!(svg.matches("<polyline").count(), 7);
        assert!(svg.len() < 40_000, "{} bytes", svg.len());
        let height = |value: f64| TOP + HEIGHT * (1.0 - value / 105.0);
        let found = svg.lines().find(|line| line.contains("#2b6cb0") && line.contains("polyline")).unwrap();
        assert!(found.contains(&format!(",{:.1} ", height(100.0))), "{found}");
    }

    #[test]
    fn steps_are_round() {
        assert_eq!([5.0, 640.0, 5300.0, 100.0].map(step), [1.0, 200.0, 1000.0, 20.0]);
    }
}
