//! `soak`: a store of eight times its memory under all kinds of updates, its memory and disk held against their bounds every tenth of a second.
//!
//! `cargo run --release -p pagecache-bench --bin soak -- [--seconds 60] [--budget MIB] [--multiple 8] [--threads 2] [--hold SECONDS] [--segment MIB]
//! [--log-limit MIB] [--release by-store|as-it-is] [--dir DIR] [--seed N] [--out FILE.jsonl] [--plot FILE.svg]`: seconds of the steady state, between load and a comparison of every page; a budget of 512 MiB.
//! With `--hold` a reader holds a guard that long: memory may be more by what it keeps, everything else is as without it.
//! Fails where a bound is broken, a page is not what was written last, or nothing was done. See `docs/BENCHMARKS.md`.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use pagecache_bench::allocator::Counting;
use pagecache_bench::soak::bounds::Worst;
use pagecache_bench::soak::options::Options;
use pagecache_bench::soak::plot::svg;
use pagecache_bench::soak::run::{Outcome, run};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(what) => {
            eprintln!("{what}");
            return ExitCode::FAILURE;
        }
    };
    let outcome = run(&options);
    tell(&options, &outcome);
    if let Some(path) = &options.plot {
        let title = format!(
            "{} MiB of pages with {} MiB of memory, {} threads; {} allocator, {}",
            options.data() >> 20,
            options.budget >> 20,
            options.threads,
            outcome.allocator,
            outcome.setting
        );
        std::fs::write(path, svg(&outcome.points, &title, outcome.loaded)).expect("a place for the chart");
    }
    for failure in &outcome.failures {
        println!("FAILED: {failure}");
    }
    if outcome.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn tell(options: &Options, outcome: &Outcome) {
    println!("an empty store with its threads, and the bench itself: {:.1} MiB", mebibytes(outcome.empty.anonymous));
    let (memory, disk) = (outcome.memory, outcome.disk);
    let worst = |what: &str, worst: Worst| {
        println!(
            "{what}: at most {:.1} MiB of {:.1} allowed ({:.3}) at {:.1} s",
            mebibytes(worst.found),
            mebibytes(worst.allowed),
            worst.part(),
            worst.at
        );
    };
    worst(&format!("memory, {} allocator, {}", outcome.allocator, outcome.setting), memory);
    worst("disk", disk);
    worst("asked of the allocator, against what the store says and a tenth", outcome.asked);
    if let Some(classes) = &outcome.most_asked {
        println!("then by length, up to: {} MiB", by_class(classes));
    }
    if let Some(held) = &outcome.held {
        println!(
            "a guard of {} was held for {:.1} s and kept {:.1} MiB; {:.1} were left {:.1} s later",
            held.taken_at,
            held.age_ms as f64 / 1e3,
            mebibytes(held.garbage),
            mebibytes(held.left),
            held.gone_after.as_secs_f64()
        );
    }
    if let Some((sample, classes)) = &outcome.fullest {
        let stats = &sample.stats;
        let said = stats.resident_bytes + stats.map_bytes + stats.ring_bytes;
        println!(
            "at its most: {:.1} MiB resident = {:.3} of the budget; {:.1} asked of the allocator, with peaks of {:.1}; {:.1} of resident \
             pages, {:.1} of the map, {:.1} of the ring, {:.1} asked beyond these",
            mebibytes(sample.anonymous),
            sample.anonymous as f64 / options.budget as f64,
            mebibytes(sample.asked),
            mebibytes(sample.asked_peak),
            mebibytes(stats.resident_bytes),
            mebibytes(stats.map_bytes),
            mebibytes(stats.ring_bytes),
            mebibytes(sample.asked.saturating_sub(said)),
        );
        println!("asked by length, up to: {} MiB", by_class(classes));
    }
    if let Some(last) = &outcome.last {
        let [gets, links, replaces, frees] = last.operations;
        let seconds = (outcome.stopped - outcome.loaded).max(0.1);
        println!(
            "{} pages, {:.0} MiB loaded in {:.1} s; {gets} gets, {links} links, {replaces} replaces, {frees} frees in {seconds:.1} s, \
             {:.0} a second; {} checkpoints; written for each byte given {:.2}",
            last.pages,
            mebibytes(options.data()),
            outcome.loaded,
            (gets + links + replaces + frees) as f64 / seconds,
            last.stats.checkpoints,
            (last.stats.written_bytes + last.stats.fold_bytes + last.stats.survivor_bytes + last.stats.checkpoint_bytes)
                as f64
                / last.stats.given_bytes.max(1) as f64,
        );
        println!(
            "live: {:.1} MiB said, {:.1} of payload known",
            mebibytes(last.stats.live_bytes),
            mebibytes(last.payload)
        );
    }
}

/// What is more than 256 KiB of a class.
fn by_class(classes: &[i64]) -> String {
    let many = classes.iter().enumerate().filter(|(_, bytes)| **bytes > 1 << 18);
    let many: Vec<String> =
        many.map(|(class, bytes)| format!("{} {:.1}", bytes_of(class), mebibytes(*bytes as u64))).collect();
    many.join(", ")
}

/// The end of a class of lengths.
fn bytes_of(class: usize) -> String {
    match class {
        0..=10 => format!("{} B", 1u64 << class),
        11..=20 => format!("{} KiB", 1u64 << (class - 10)),
        _ => format!("{} MiB", 1u64 << (class - 20).min(43)),
    }
}
