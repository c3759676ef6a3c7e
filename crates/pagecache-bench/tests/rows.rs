//! Every row runs: an instrument that was never switched on measures nothing.

use pagecache_bench::allocator::Counting;
use pagecache_bench::chart;
use pagecache_bench::report::{Line, Report};
use pagecache_bench::rows::{Bench, GROUPS};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn every_group_gives_figures_and_verdicts_and_a_chart() {
    let dir = std::env::temp_dir().join(format!("pagecache-bench-rows-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let results = dir.join("results.jsonl");
    let report = Report::new(1, Some(&results)).unwrap();
    let mut bench = Bench { report, dir: dir.clone(), scale: 0.002 };
    for (name, rows) in GROUPS {
        let before = bench.report.lines().len();
        rows(&mut bench);
        let found = &bench.report.lines()[before..];
        assert!(found.iter().all(|line| line.group == *name), "{name}");
        assert!(found.iter().any(|line| !line.verdicts.is_empty()), "{name} is held against something");
        let broken = found.iter().find(|line| !line.median.is_finite());
        assert_eq!(broken, None);
        assert!(!chart::blocks(found, name).is_empty(), "{name} can be drawn");
    }
    let read = pagecache_bench::report::read(&results).unwrap();
    let names = |lines: &[Line]| -> Vec<String> {
        lines.iter().map(|line| format!("{} {} {} {:.6e}", line.row, line.engine, line.unit, line.median)).collect()
    };
    assert_eq!(names(&read), names(bench.report.lines()), "what was written is what was found");
    println!("{} lines of results", read.len());
    std::fs::remove_dir_all(&dir).unwrap();
}
