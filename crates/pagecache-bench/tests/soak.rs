//! A soak too small to say anything of memory and disk: it runs to its end, and what it compares is right.

use pagecache_bench::allocator::Counting;
use pagecache_bench::soak::options::Options;
use pagecache_bench::soak::plot::svg;
use pagecache_bench::soak::run::run;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn a_small_soak_comes_to_its_end_and_finds_every_page() {
    let results = std::env::temp_dir().join(format!("pagecache-bench-soak-{}.jsonl", std::process::id()));
    let args = ["--seconds", "1", "--budget", "8", "--out", results.to_str().unwrap()];
    let options = Options::parse(args.into_iter().map(str::to_owned)).unwrap();
    let outcome = run(&options);
    let of_bounds = |what: &&String| ["memory: ", "disk: ", "asked of "].iter().any(|bound| what.starts_with(bound));
    let of_content = outcome.failures.iter().filter(|what| !of_bounds(what));
    assert_eq!(of_content.collect::<Vec<_>>(), Vec::<&String>::new());
    let last = outcome.last.as_ref().unwrap();
    assert!(last.asked > last.stats.ring_bytes && last.disk > last.payload, "{last:?}");
    assert!(outcome.loaded < outcome.stopped && outcome.memory.found > 0);
    assert!(svg(&outcome.points, "a soak", outcome.loaded).contains("<polyline"));
    assert_eq!(std::fs::read_to_string(&results).unwrap().lines().count(), outcome.points.len());
    std::fs::remove_file(&results).unwrap();
}
