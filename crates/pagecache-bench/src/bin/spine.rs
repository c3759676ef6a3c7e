//! The benches of the spine: every row of docs/BENCHMARKS.md against its limit or its peer, in one process.
//!
//! `cargo run --release -p pagecache-bench --bin spine -- [--runs N] [--out FILE] [--dir DIR] [--scale X] [GROUP..]`
#![forbid(unsafe_code)]

use std::process::ExitCode;

use pagecache_bench::allocator::Counting;
use pagecache_bench::options::{Options, USAGE};
use pagecache_bench::rows::GROUPS;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn options() -> Result<Options, String> {
    let options = Options::parse(std::env::args().skip(1))?;
    match options.words.iter().find(|word| GROUPS.iter().all(|(name, _)| name != word)) {
        Some(word) => {
            let groups: Vec<&str> = GROUPS.iter().map(|(name, _)| *name).collect();
            Err(format!("{word}: no such group; there are {}", groups.join(", ")))
        }
        None => Ok(options),
    }
}

fn main() -> ExitCode {
    let options = match options() {
        Ok(options) => options,
        Err(error) => {
            eprintln!("{error}\nspine {USAGE} [GROUP..]");
            return ExitCode::FAILURE;
        }
    };
    options.run("pagecache-bench", |bench| {
        for (name, rows) in GROUPS {
            if options.words.is_empty() || options.words.iter().any(|group| group == name) {
                rows(bench);
            }
        }
    });
    ExitCode::SUCCESS
}
