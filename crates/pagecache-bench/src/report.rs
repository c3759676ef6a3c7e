//! Results: a table for the eye as the rows come, and JSON lines for plots and for those who compare.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::measure::{Series, median, quarters};

/// What one engine did in one row, in one unit.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct Line {
    /// The rows that belong together.
    pub group: String,
    /// The row.
    pub row: String,
    /// The engine.
    pub engine: String,
    /// What is counted.
    pub unit: String,
    /// The median of the runs.
    pub median: f64,
    /// A figure a run.
    pub runs: Vec<f64>,
    /// What it was held against.
    pub verdicts: Vec<Verdict>,
}

/// A figure held against a peer or a bound.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct Verdict {
    /// A peer's name, or `bound`.
    pub against: String,
    /// The peer's median, or the bound.
    pub reference: f64,
    /// At least, or at most, this many times the reference.
    pub factor: f64,
    /// Whether less is better.
    pub at_most: bool,
    /// How many times the reference was found.
    pub found: f64,
    /// Whether that reaches the target.
    pub holds: bool,
    /// Whether the peer was worthy of comparison.
    pub counts: bool,
    /// Times the peer, run by run: the quarters between which half of them lie.
    #[serde(default)]
    pub spread: Option<(f64, f64)>,
}

/// What a row must reach.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Target {
    /// This many times a peer's figure, or more.
    TimesPeer(&'static str, f64),
    /// This many times a peer's figure, or less.
    AtMostPeer(&'static str, f64),
    /// As `TimesPeer`, without a target: shown beside.
    Beside(&'static str),
    /// A figure of at least this.
    AtLeast(f64),
    /// A figure of at most this.
    AtMost(f64),
}

/// A target, and the engine and unit that it is for.
pub type Aim<'a> = (&'a str, &'a str, Target);

/// Collects results.
#[derive(Debug)]
pub struct Report {
    /// How often each entrant runs.
    pub runs: usize,
    out: Option<File>,
    lines: Vec<Line>,
}

impl Report {
    /// Results of that many runs each, appended to a file if one is given.
    ///
    /// # Errors
    /// What the system says.
    pub fn new(runs: usize, out: Option<&Path>) -> io::Result<Report> {
        let out = out.map(|path| File::options().create(true).append(true).open(path)).transpose()?;
        println!("{:<58} {:<20} {:>10} {:<11} targets", "row", "engine", "median", "unit");
        Ok(Report { runs, out, lines: Vec::new() })
    }

    /// Everything so far.
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// Takes the series of a row, with its targets; `worthy` says whether its peers count.
    pub fn take(&mut self, (group, row): (&str, &str), series: &[Series], targets: &[Aim<'_>], worthy: bool) {
        for one in series {
            let mine = targets.iter().filter(|(engine, unit, _)| one.engine == *engine && one.unit == *unit);
            let value = median(&one.runs);
            let verdicts: Vec<Verdict> =
                mine.filter_map(|(_, unit, target)| verdict(one, *target, unit, series, worthy)).collect();
            let line = Line {
                group: group.to_owned(),
                row: row.to_owned(),
                engine: one.engine.to_owned(),
                unit: one.unit.to_owned(),
                median: value,
                runs: one.runs.clone(),
                verdicts,
            };
            println!("{}", text(&line));
            if let Some(out) = &mut self.out {
                let json = serde_json::to_string(&line).expect("plain data");
                writeln!(out, "{json}").expect("room for results");
            }
            self.lines.push(line);
        }
    }
}

fn verdict(mine: &Series, target: Target, unit: &str, series: &[Series], worthy: bool) -> Option<Verdict> {
    let mut spread = None;
    let (against, reference, factor, at_most) = match target {
        Target::TimesPeer(peer, _) | Target::AtMostPeer(peer, _) | Target::Beside(peer) => {
            let peer_series = series.iter().find(|other| other.engine == peer && other.unit == unit)?;
            let pairs = mine.runs.iter().zip(&peer_series.runs);
            spread = quarters(&pairs.map(|(mine, peer)| mine / peer).collect::<Vec<f64>>());
            let (factor, at_most) = match target {
                Target::TimesPeer(_, factor) => (factor, false),
                Target::AtMostPeer(_, factor) => (factor, true),
                _ => (0.0, false),
            };
            (peer, median(&peer_series.runs), factor, at_most)
        }
        Target::AtLeast(bound) => ("bound", bound, 1.0, false),
        Target::AtMost(bound) => ("bound", bound, 1.0, true),
    };
    let found = median(&mine.runs) / reference;
    let holds = if at_most { found <= factor } else { found >= factor };
    let counts = worthy || against == "bound";
    Some(Verdict { against: against.to_owned(), reference, factor, at_most, found, holds, counts, spread })
}

fn text(line: &Line) -> String {
    let mut text = format!("{:<58} {:<20} {:>10} {:<11}", line.row, line.engine, round(line.median), line.unit);
    for verdict in &line.verdicts {
        let mark = if verdict.holds { "reached" } else { "MISSED" };
        let sign = if verdict.at_most { "<=" } else { ">=" };
        let spread = verdict.spread.map_or(String::new(), |(low, high)| format!(" ({low:.2} to {high:.2})"));
        text += &match (verdict.against.as_str(), verdict.factor) {
            ("bound", _) => format!(" {:.2}x of {}, {sign} 1x: {mark};", verdict.found, round(verdict.reference)),
            (peer, 0.0) => format!(" {:.2}x of {peer}{spread};", verdict.found),
            (peer, factor) => format!(" {:.2}x of {peer}{spread}, {sign} {factor}x: {mark};", verdict.found),
        };
        if !verdict.counts && verdict.factor != 0.0 {
            text += " does not count, as was said;";
        }
    }
    text
}

/// A figure in three or four digits.
pub fn round(figure: f64) -> String {
    match figure {
        figure if figure >= 1e6 => format!("{:.2} M", figure / 1e6),
        figure if figure >= 1e3 => format!("{:.1} k", figure / 1e3),
        figure => format!("{figure:.2}"),
    }
}

/// The results in a file.
///
/// # Errors
/// What the system says; a line that is none.
pub fn read(path: &Path) -> io::Result<Vec<Line>> {
    let text = std::fs::read_to_string(path)?;
    text.lines().map(|line| serde_json::from_str(line).map_err(io::Error::other)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(engine: &'static str, figure: f64) -> Series {
        Series { engine, unit: "x/s", runs: vec![figure] }
    }

    #[test]
    fn a_row_says_what_it_reached_and_what_it_missed() {
        let mut report = Report::new(1, None).unwrap();
        let found = [series("ours", 8.0), series("plain", 10.0)];
        let targets = [
            ("ours", "x/s", Target::TimesPeer("plain", 0.8)),
            ("ours", "x/s", Target::TimesPeer("plain", 0.9)),
            ("ours", "x/s", Target::AtLeast(9.0)),
            ("ours", "x/s", Target::AtMost(8.0)),
            ("ours", "x/s", Target::AtMostPeer("plain", 0.7)),
        ];
        report.take(("g", "r"), &found, &targets, false);
        let holds: Vec<bool> = report.lines()[0].verdicts.iter().map(|verdict| verdict.holds).collect();
        assert_eq!(holds, [true, false, false, true, false]);
        let counts: Vec<bool> = report.lines()[0].verdicts.iter().map(|verdict| verdict.counts).collect();
        assert_eq!(counts, [false, false, true, true, false], "an unworthy peer spoils its own rows only");
        assert!(text(&report.lines()[0]).contains("does not count"));
        assert!(report.lines()[1].verdicts.is_empty());
    }

    #[test]
    fn lines_come_back_from_json() {
        let mut report = Report::new(1, None).unwrap();
        report.take(("g", "r"), &[series("ours", 2.0)], &[("ours", "x/s", Target::AtLeast(1.0))], true);
        let json = serde_json::to_string(&report.lines()[0]).unwrap();
        assert_eq!(serde_json::from_str::<Line>(&json).unwrap(), report.lines()[0]);
    }
}
