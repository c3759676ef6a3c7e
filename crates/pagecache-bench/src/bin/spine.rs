//! The benches of the spine: every row of docs/BENCHMARKS.md against its limit or its peer, in one process.
//!
//! `cargo run --release -p pagecache-bench --bin spine -- [--runs N] [--out FILE] [--dir DIR] [--scale X] [GROUP..]`
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;

use pagecache_bench::allocator::Counting;
use pagecache_bench::report::Report;
use pagecache_bench::rows::{Bench, GROUPS};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const USAGE: &str = "spine [--runs N] [--out FILE.jsonl] [--dir DIR] [--scale X] [GROUP..]";

struct Options {
    runs: usize,
    out: Option<PathBuf>,
    dir: PathBuf,
    scale: f64,
    groups: Vec<String>,
}

fn options() -> Result<Options, String> {
    let mut options = Options { runs: 5, out: None, dir: std::env::temp_dir(), scale: 1.0, groups: Vec::new() };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or(format!("{arg} wants a value"));
        match arg.as_str() {
            "--runs" => options.runs = value()?.parse().map_err(|_| "--runs wants a number")?,
            "--scale" => options.scale = value()?.parse().map_err(|_| "--scale wants a number")?,
            "--out" => options.out = Some(value()?.into()),
            "--dir" => options.dir = value()?.into(),
            group if GROUPS.iter().any(|(name, _)| *name == group) => options.groups.push(arg),
            _ => {
                let groups: Vec<&str> = GROUPS.iter().map(|(name, _)| *name).collect();
                return Err(format!("{arg}: no such group; there are {}", groups.join(", ")));
            }
        }
    }
    Ok(options)
}

fn main() -> ExitCode {
    let options = match options() {
        Ok(options) => options,
        Err(error) => {
            eprintln!("{error}\n{USAGE}");
            return ExitCode::FAILURE;
        }
    };
    let dir = options.dir.join(format!("pagecache-bench-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a place for files");
    println!("medians of {} runs, everyone in turn; files under {}", options.runs, dir.display());
    let report = Report::new(options.runs, options.out.as_deref()).expect("a place for results");
    let mut bench = Bench { report, dir: dir.clone(), scale: options.scale };
    for (name, rows) in GROUPS {
        if options.groups.is_empty() || options.groups.iter().any(|group| group == name) {
            rows(&mut bench);
        }
    }
    std::fs::remove_dir_all(&dir).expect("the files go");
    ExitCode::SUCCESS
}
