//! The hunts: each bug is planted in a process of its own, which runs one model and must fail.

use std::process::Command;

use crate::base::canary::{Canary, plant};

const PLANT: &str = "PAGECACHE_PAGE_MODELS_PLANT";
const KNOWN: [Canary; 1] = [Canary::LeafTakenWithoutFence];

pub(super) fn plant_what_was_asked() {
    if let Ok(asked) = std::env::var(PLANT) {
        plant(KNOWN.into_iter().find(|canary| format!("{canary:?}") == asked));
    }
}

fn found(canary: Canary, model: &str, signs: &[&str]) {
    let test = format!("{}::{model}", module_path!().rsplit_once("::").unwrap().0);
    let test = test.split_once("::").unwrap().1;
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", test, "--nocapture"]).env(PLANT, format!("{canary:?}")).env("RUST_BACKTRACE", "0");
    let output = child.output().unwrap();
    // What a panic says of itself; loom's objects cannot be dropped outside a model, so the process may end at the next.
    let said = String::from_utf8_lossy(&output.stderr);
    let line = said.lines().find(|line| signs.iter().any(|sign| line.contains(sign))).unwrap_or("nothing");
    println!("{canary:?}: {model}: {line}");
    assert!(!output.status.success() && line != "nothing", "{canary:?}: {said}");
}

#[test]
fn a_leaf_taken_without_a_fence_is_found() {
    let signs = ["neither in the leaf", "replay does not see"];
    found(Canary::LeafTakenWithoutFence, "leaves::an_update_meets_checkpoints", &signs);
    found(Canary::LeafTakenWithoutFence, "leaves::two_updates_meet_a_checkpoint_of_a_marked_leaf", &signs);
}
