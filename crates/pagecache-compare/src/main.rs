//! The kit, `plain` and the predecessors at the same work, in turn, in one process.
//!
//! `cargo run --release -- [--runs N] [--out FILE.jsonl] [--dir DIR] [--scale X]`
#![forbid(unsafe_code)]

mod page;
mod resident;
mod rows;
mod v02;
mod v19;

use std::path::PathBuf;
use std::process::ExitCode;

use pagecache_bench::report::Report;
use pagecache_bench::rows::Bench;

struct Options {
    runs: usize,
    out: Option<PathBuf>,
    dir: PathBuf,
    scale: f64,
}

fn options() -> Result<Options, String> {
    let mut options = Options { runs: 5, out: None, dir: std::env::temp_dir(), scale: 1.0 };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or(format!("{arg} wants a value"));
        match arg.as_str() {
            "--runs" => options.runs = value()?.parse().map_err(|_| "--runs wants a number")?,
            "--scale" => options.scale = value()?.parse().map_err(|_| "--scale wants a number")?,
            "--out" => options.out = Some(value()?.into()),
            "--dir" => options.dir = value()?.into(),
            _ => return Err(format!("{arg}: no such option")),
        }
    }
    Ok(options)
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
            eprintln!("{error}\npagecache-compare [--runs N] [--out FILE.jsonl] [--dir DIR] [--scale X]");
            return ExitCode::FAILURE;
        }
    };
    let dir = options.dir.join(format!("pagecache-compare-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a place for files");
    println!("medians of {} runs, everyone in turn; files under {}", options.runs, dir.display());
    let report = Report::new(options.runs, options.out.as_deref()).expect("a place for results");
    let mut bench = Bench { report, dir: dir.clone(), scale: options.scale };
    rows::get(&mut bench);
    rows::link(&mut bench);
    rows::replace(&mut bench);
    rows::append(&mut bench);
    rows::durable(&mut bench);
    resident::row(&mut bench);
    std::fs::remove_dir_all(&dir).expect("the files go");
    ExitCode::SUCCESS
}
