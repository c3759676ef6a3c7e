//! Charts of results as SVG: bars, an engine each, with a mark where the target is.

use std::fmt::Write;

use crate::report::{Line, round};

const WIDTH: f64 = 880.0;
const LABEL: f64 = 150.0;
const BAR: f64 = 18.0;
const SCALE: f64 = WIDTH - LABEL - 120.0;

/// Bars that are drawn to one scale, under a title.
#[derive(Clone, Debug, PartialEq)]
pub struct Block {
    /// What the bars are about.
    pub title: String,
    /// A name, a length, and what is written behind the bar.
    pub bars: Vec<(String, f64, String)>,
    /// Where a vertical line goes, and what it says.
    pub mark: Option<(f64, String)>,
    /// Whether every bar is ours; else those are whose names say so.
    pub all_ours: bool,
}

/// The groups of some results, in the order of their first line.
pub fn groups(lines: &[Line]) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for line in lines {
        if !names.contains(&line.group.as_str()) {
            names.push(&line.group);
        }
    }
    names
}

/// A block for each row and unit of a group that has a verdict: every engine's median, and the target.
pub fn blocks(lines: &[Line], group: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    for line in lines.iter().filter(|line| line.group == group && !line.verdicts.is_empty()) {
        let title = format!("{} [{}]", line.row, line.unit);
        if blocks.iter().any(|block| block.title == title) {
            continue;
        }
        let same = lines
            .iter()
            .filter(|other| (&other.group, &other.row, &other.unit) == (&line.group, &line.row, &line.unit));
        let bars = same.map(|one| (one.engine.clone(), one.median, round(one.median))).collect();
        let target = line.verdicts.iter().find(|verdict| verdict.factor > 0.0);
        let mark = target.map(|target| {
            let sign = if target.at_most { "at most" } else { "at least" };
            (target.reference * target.factor, format!("{sign} {}", round(target.reference * target.factor)))
        });
        blocks.push(Block { title, bars, mark, all_ours: false });
    }
    blocks
}

/// A block of what was held against peers: times the peer, and times the target where one is set.
pub fn ratios(lines: &[Line]) -> Block {
    let mut bars = Vec::new();
    for line in lines {
        for verdict in line.verdicts.iter().filter(|verdict| verdict.factor > 0.0 && verdict.found > 0.0) {
            let reached = if verdict.at_most { verdict.factor / verdict.found } else { verdict.found / verdict.factor };
            let against = match verdict.against.as_str() {
                "bound" => format!("{}, {}", line.row, line.unit),
                peer => format!("{} : {peer}", line.row),
            };
            let said = if verdict.counts { format!("{reached:.2}") } else { format!("{reached:.2} (does not count)") };
            bars.push((against, reached.min(3.0), said));
        }
    }
    Block {
        title: "Targets: 1 is reached (bars end at 3)".to_owned(),
        bars,
        mark: Some((1.0, "target".to_owned())),
        all_ours: true,
    }
}

/// The SVG of some blocks, one below the other.
pub fn svg(blocks: &[Block], label: Option<f64>) -> String {
    let label = label.unwrap_or(LABEL);
    let width = WIDTH - LABEL + label;
    let height: f64 = blocks.iter().map(|block| 54.0 + BAR * 1.25 * block.bars.len() as f64).sum::<f64>() + 10.0;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height:.0}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    let mut y = 10.0;
    for block in blocks {
        y = draw(&mut out, block, label, y);
    }
    out += "</svg>\n";
    out
}

fn draw(out: &mut String, block: &Block, label: f64, top: f64) -> f64 {
    let longest = block.bars.iter().map(|bar| bar.1).chain(block.mark.iter().map(|mark| mark.0)).fold(0.0, f64::max);
    let scale = if longest > 0.0 { SCALE / longest } else { 0.0 };
    text(out, 10.0, top + 14.0, "start", "bold", &block.title);
    let mut y = top + 36.0;
    for (name, length, said) in &block.bars {
        let fill = if block.all_ours || name.starts_with("ours") { "#2b6cb0" } else { "#a0aec0" };
        text(out, label - 8.0, y + 13.0, "end", "normal", name);
        let _ = writeln!(
            out,
            "<rect x=\"{label}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{BAR}\" fill=\"{fill}\"/>",
            (length * scale).max(1.0)
        );
        text(out, label + length * scale + 6.0, y + 13.0, "start", "normal", said);
        y += BAR * 1.25;
    }
    if let Some((at, said)) = &block.mark {
        let x = label + at * scale;
        let _ = writeln!(
            out,
            "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{:.1}\" y2=\"{y:.1}\" stroke=\"#c53030\" stroke-dasharray=\"4 2\"/>",
            top + 30.0
        );
        text(out, x, top + 28.0, "middle", "normal", said);
    }
    y + 18.0
}

pub(crate) fn text(out: &mut String, x: f64, y: f64, anchor: &str, weight: &str, said: &str) {
    let said = said.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(
        out,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" font-weight=\"{weight}\">{said}</text>"
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Verdict;

    fn line(engine: &str, median: f64, factor: Option<f64>) -> Line {
        let verdict = |factor: f64| Verdict {
            against: "plain".to_owned(),
            reference: 10.0,
            factor,
            at_most: false,
            found: median / 10.0,
            holds: median / 10.0 >= factor,
            counts: true,
            spread: None,
        };
        Line {
            group: "append".to_owned(),
            row: "append <128>".to_owned(),
            engine: engine.to_owned(),
            unit: "records/s".to_owned(),
            median,
            runs: vec![median],
            verdicts: factor.map(verdict).into_iter().collect(),
        }
    }

    #[test]
    fn a_block_has_a_bar_for_each_engine_and_a_mark_at_the_target() {
        let lines = [line("ours", 8.0, Some(0.9)), line("plain", 10.0, None)];
        let blocks = blocks(&lines, "append");
        assert_eq!(blocks.len(), 1);
        assert_eq!(blocks[0].bars.len(), 2);
        assert_eq!(blocks[0].mark.as_ref().map(|mark| mark.0), Some(9.0));
        let svg = svg(&blocks, None);
        assert_eq!(svg.matches("<rect").count(), 3, "a ground and two bars");
        assert!(svg.contains("&lt;128>") && svg.contains("stroke-dasharray"));
    }

    #[test]
    fn ratios_are_of_the_target() {
        let block = ratios(&[line("ours", 8.0, Some(0.8)), line("plain", 10.0, None)]);
        assert_eq!(block.bars.len(), 1);
        assert!((block.bars[0].1 - 1.0).abs() < 1e-9);
    }
}
