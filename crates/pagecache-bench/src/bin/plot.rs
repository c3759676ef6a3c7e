//! Draws results as SVG, a chart a group and one of all targets.
//!
//! `cargo run --release -p pagecache-bench --bin plot RESULTS.jsonl.. DIR`
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use pagecache_bench::{chart, report};

fn main() -> ExitCode {
    let mut args: Vec<PathBuf> = std::env::args().skip(1).map(PathBuf::from).collect();
    let (Some(dir), false) = (args.pop(), args.is_empty()) else {
        eprintln!("plot RESULTS.jsonl.. DIR");
        return ExitCode::FAILURE;
    };
    match draw(&args, &dir) {
        Ok(count) => {
            println!("{count} charts in {}", dir.display());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn draw(results: &[PathBuf], dir: &Path) -> std::io::Result<usize> {
    let mut lines = Vec::new();
    for path in results {
        lines.extend(report::read(path)?);
    }
    std::fs::create_dir_all(dir)?;
    let groups = chart::groups(&lines);
    for group in &groups {
        std::fs::write(dir.join(format!("{group}.svg")), chart::svg(&chart::blocks(&lines, group), None))?;
    }
    std::fs::write(dir.join("targets.svg"), chart::svg(&[chart::ratios(&lines)], Some(470.0)))?;
    Ok(groups.len() + 1)
}
