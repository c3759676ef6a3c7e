//! The kit, `plain` and the predecessors at the same work, in turn, in one process.
//!
//! `cargo run --release [--features mimalloc] -- [--runs N] [--out FILE.jsonl] [--dir DIR] [--scale X] [GROUP..]`
#![forbid(unsafe_code)]

mod page;
mod resident;
mod rows;
mod v02;
mod v19;

use std::process::ExitCode;

use pagecache_bench::options::{Options, USAGE};
use pagecache_bench::rows::Group;

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Whose memory everyone's is.
const ALLOCATOR_NAME: &str = if cfg!(feature = "mimalloc") { "mimalloc" } else { "the system's allocator" };

const GROUPS: &[Group] = &[
    ("get", rows::get),
    ("link", rows::link),
    ("replace", rows::replace),
    ("append", rows::append),
    ("durable", rows::durable),
    ("resident", resident::row),
];

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
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [word, engine, path, pages] = args.as_slice()
        && word == resident::CHILD
    {
        resident::child(engine, path.as_ref(), pages.parse().expect("a number of pages"));
        return ExitCode::SUCCESS;
    }
    let options = match options() {
        Ok(options) => options,
        Err(error) => {
            eprintln!("{error}\npagecache-compare {USAGE} [GROUP..]");
            return ExitCode::FAILURE;
        }
    };
    println!("with {ALLOCATOR_NAME}");
    options.run("pagecache-compare", |bench| {
        for (name, rows) in GROUPS {
            if options.words.is_empty() || options.words.iter().any(|group| group == name) {
                rows(bench);
            }
        }
    });
    ExitCode::SUCCESS
}
