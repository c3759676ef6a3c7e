//! Every bug that can be planted is planted somewhere and found by somebody: the lists are kept by this test, not by memory.

use std::fs;
use std::path::{Path, PathBuf};

/// All Rust files below a directory.
fn sources(at: &Path, found: &mut Vec<(PathBuf, String)>) {
    for entry in fs::read_dir(at).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push((path.clone(), fs::read_to_string(&path).unwrap()));
        }
    }
}

/// The names in the enumeration of canaries.
fn canaries(source: &str) -> Vec<&str> {
    let (_, body) = source.split_once("pub enum Canary {").unwrap();
    let (body, _) = body.split_once("\n}").unwrap();
    let names = body.lines().map(str::trim).filter(|line| !line.starts_with("///") && !line.is_empty());
    names.map(|line| line.split([',', ' ']).next().unwrap()).collect()
}

#[test]
fn every_canary_is_planted_and_has_a_finder() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut files = Vec::new();
    sources(&crates.join("pagecache"), &mut files);
    sources(&crates.join("pagecache-sim"), &mut files);
    let of_canaries = files.iter().find(|(path, _)| path.ends_with("base/canary.rs")).unwrap();
    let names = canaries(&of_canaries.1);
    let is_model =
        |path: &Path| path.to_str().is_some_and(|path| ["models", "schedules"].iter().any(|room| path.contains(room)));
    let is_finder = |path: &Path| is_model(path) || path.components().any(|part| part.as_os_str() == "tests");
    let mut by_models = 0;
    for name in &names {
        let mentions: Vec<_> = files
            .iter()
            .filter(|(path, source)| {
                let mentions =
                    |(at, _): (usize, &str)| !source[at + 8 + name.len()..].starts_with(char::is_alphanumeric);
                !path.ends_with("base/canary.rs") && source.match_indices(&format!("Canary::{name}")).any(mentions)
            })
            .map(|(path, _)| path)
            .collect();
        let finders: Vec<_> = mentions.iter().filter(|path| is_finder(path)).collect();
        assert!(mentions.len() > finders.len(), "{name} is planted nowhere");
        assert!(!finders.is_empty(), "{name} has no finder");
        let model = finders.iter().any(|path| is_model(path));
        by_models += usize::from(model);
        let finders: Vec<_> = finders.iter().filter_map(|path| path.file_name()?.to_str()).collect();
        println!("{name}: {}", finders.join(", "));
    }
    println!("{} canaries, {by_models} of them found by models of concurrency", names.len());
    assert!(names.len() >= 20 && by_models >= 6, "{} canaries, {by_models} by models", names.len());
}
