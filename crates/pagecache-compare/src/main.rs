//! The kit, `plain` and the predecessors at the same work, in turn, in one process.
//!
//! `cargo run --release -- [--runs N] [--out FILE.jsonl] [--dir DIR] [--scale X]`
#![forbid(unsafe_code)]

mod page;
mod resident;
mod rows;
mod v02;
mod v19;

use std::process::ExitCode;

use pagecache_bench::options::{Options, USAGE};

fn options() -> Result<Options, String> {
    let options = Options::parse(std::env::args().skip(1))?;
    match options.words.first() {
        Some(word) => Err(format!("{word}: no such option")),
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
            eprintln!("{error}\npagecache-compare {USAGE}");
            return ExitCode::FAILURE;
        }
    };
    options.run("pagecache-compare", |bench| {
        rows::get(bench);
        rows::link(bench);
        rows::replace(bench);
        rows::append(bench);
        rows::durable(bench);
        resident::row(bench);
    });
    ExitCode::SUCCESS
}
