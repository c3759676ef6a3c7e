//! The tables of `docs/TESTING.md` name tests and bugs that exist: this test keeps them, not memory.

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().to_path_buf()
}

/// All Rust files below a directory, as text.
fn sources(at: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(at).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target" && name != "vendor") {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(fs::read_to_string(&path).unwrap());
        }
    }
}

/// The cells of the rows of the table in a section.
fn rows<'d>(document: &'d str, section: &str) -> Vec<Vec<&'d str>> {
    let (_, after) = document.split_once(&format!("\n## {section}\n")).unwrap_or_else(|| panic!("no {section}"));
    let of_section = after.split_once("\n## ").map_or(after, |(of_section, _)| of_section);
    let rows = of_section.lines().filter(|line| line.starts_with("| ")).skip(1);
    rows.map(|row| row.trim_matches('|').split(" | ").map(str::trim).collect()).collect()
}

/// What stands between backticks.
fn quoted(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

#[test]
fn every_test_that_the_tables_name_is_here() {
    let document = fs::read_to_string(root().join("docs/TESTING.md")).unwrap();
    let mut files = Vec::new();
    sources(&root().join("crates"), &mut files);
    let is_here = |name: &str| files.iter().any(|source| source.contains(&format!("fn {name}(")));
    let (mut named, mut missing) = (0, Vec::new());
    let bugs = rows(&document, "Real bugs of real stores");
    for row in &bugs {
        let [bug, carrier] = row[..] else { panic!("{row:?}") };
        let tests: Vec<_> = quoted(carrier).filter(|name| name.contains('_')).collect();
        assert!(!tests.is_empty() || carrier.starts_with("with "), "{bug}: neither a test nor a reason");
        missing.extend(tests.iter().filter(|name| !is_here(name)).map(|name| (bug, *name)));
        named += tests.len();
    }
    println!("{} bugs, {named} tests", bugs.len());
    assert!(missing.is_empty(), "named and not here: {missing:?}");
    assert!(bugs.len() >= 35, "{} bugs", bugs.len());
}

#[test]
fn every_bug_that_can_be_planted_has_a_row_and_every_row_a_bug() {
    let document = fs::read_to_string(root().join("docs/TESTING.md")).unwrap();
    let planted = fs::read_to_string(root().join("crates/pagecache/src/base/canary.rs")).unwrap();
    let (_, body) = planted.split_once("pub enum Canary {").unwrap();
    let (body, _) = body.split_once("\n}").unwrap();
    let lines = body.lines().map(str::trim).filter(|line| !line.starts_with("///") && !line.is_empty());
    let mut planted: Vec<_> = lines.map(|line| line.split([',', ' ']).next().unwrap()).collect();
    let table = rows(&document, "Canaries");
    let mut named: Vec<_> = table.iter().map(|row| quoted(row[0]).next().unwrap()).collect();
    planted.sort_unstable();
    named.sort_unstable();
    assert_eq!(named, planted);
    // Each finder is a file that says this name.
    for row in &table {
        let (canary, finders) = (quoted(row[0]).next().unwrap(), row[2]);
        assert!(quoted(finders).count() > 0, "{canary} has no finder");
        for finder in quoted(finders) {
            let source = fs::read_to_string(root().join("crates").join(finder));
            let source = source.unwrap_or_else(|error| panic!("{finder}: {error}"));
            assert!(source.contains(&format!("Canary::{canary}")), "{finder} does not plant {canary}");
        }
    }
}
