//! What the commands answer to the shell, on stores that are sound, damaged, in use, or none at all.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use pagecache::{Background, ConfigBuilder, Materializer, PageCache, PageState, Version};
use serde_json::Value;

/// A directory of a test's own.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Place {
        let dir = std::env::temp_dir().join(format!("pagecache-cli-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        Place(dir)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

struct Concat;

impl Materializer for Concat {
    type PageFrag = String;
    type Recovery = ();
    fn new(_: &Option<()>) -> Self {
        Concat
    }
    fn merge(&self, frags: &[&String]) -> String {
        frags.iter().map(|frag| frag.as_str()).collect()
    }
    fn recover(&self, _: &String) -> Option<()> {
        None
    }
}

/// A closed store, and the offset of a record in its only segment.
fn store(path: &Path) -> u64 {
    let config = ConfigBuilder::new().path(path).segment_size(1 << 20).build();
    let pc = PageCache::<Concat>::start(config).unwrap();
    let guard = pc.pin();
    let mut places = Vec::new();
    for _ in 0..50 {
        let id = pc.allocate(&guard);
        let at = pc.replace_at(id, Version::NONE, "base ".repeat(20), &guard).unwrap();
        places.push(pc.link_at(id, at, "delta".to_owned(), &guard).unwrap());
    }
    drop(guard);
    pc.close().unwrap();
    places[25].0
}

fn run(args: &[&str], path: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_pagecache")).args(args).arg(path).output().unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_sound_store_is_0_and_a_damaged_one_2_named_by_segment_and_offset() {
    let place = Place::new("verify");
    let path = place.at("store");
    let record = store(&path);
    let sound = run(&["verify"], &path);
    assert_eq!(sound.status.code(), Some(0), "{sound:?}");
    assert!(text(&sound.stdout).contains("sound (50 pages in 100 records"), "{sound:?}");
    let answer = json(&run(&["verify", "--json"], &path));
    assert_eq!((&answer["sound"], &answer["pages"]["live"]), (&Value::Bool(true), &Value::from(50)));

    let segment = path.join("seg-0000000000000000");
    let mut bytes = fs::read(&segment).unwrap();
    bytes[record as usize + 9] ^= 0x10;
    fs::write(&segment, bytes).unwrap();
    let damaged = run(&["verify"], &path);
    assert_eq!(damaged.status.code(), Some(2), "{damaged:?}");
    let said = text(&damaged.stdout);
    assert!(said.contains(&format!("segment 0000000000000000, offset {record} ")), "{said}");
    let damaged = run(&["verify", "--json"], &path);
    assert_eq!(damaged.status.code(), Some(2));
    let problems = &json(&damaged)["problems"];
    assert_eq!(problems.as_array().unwrap().len(), 1, "{problems}");
    assert_eq!((&problems[0]["segment"], &problems[0]["offset"]), (&Value::from(0), &Value::from(record)));
}

#[test]
fn what_cannot_be_looked_at_is_1_and_says_why() {
    let place = Place::new("errors");
    let file = place.at("file");
    fs::write(&file, b"hello").unwrap();
    let foreign = place.at("foreign");
    fs::create_dir(&foreign).unwrap();
    fs::write(foreign.join("readme"), b"hello").unwrap();
    let held = place.at("held");
    store(&held);
    let _holder = PageCache::<Concat>::start(ConfigBuilder::new().path(&held).build()).unwrap();
    for (path, why) in [
        (place.at("nothing"), "there is no store"),
        (file, "not a directory"),
        (foreign.clone(), "readme"),
        (held, "open elsewhere"),
    ] {
        for command in ["verify", "stats"] {
            let output = run(&[command], &path);
            let said = text(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{command} {}: {said}", path.display());
            assert!(said.contains(why), "{command} {}: {said}", path.display());
        }
    }
    assert_eq!(fs::read_dir(&foreign).unwrap().count(), 1, "something was written into somebody else's directory");
    // Clap's own answer would be 2, which means damage here.
    let wrong = Command::new(env!("CARGO_BIN_EXE_pagecache")).arg("--nonsense").output().unwrap();
    assert_eq!(wrong.status.code(), Some(1));
    let help = Command::new(env!("CARGO_BIN_EXE_pagecache")).arg("--help").output().unwrap();
    assert_eq!(help.status.code(), Some(0));
    assert!(!text(&help.stdout).contains("tour-writer"));
}

#[test]
fn stats_say_where_every_byte_is() {
    let place = Place::new("stats");
    let path = place.at("store");
    store(&path);
    let answer = json(&run(&["stats", "--json"], &path));
    let of = |part: &str| answer["bytes"][part].as_u64().unwrap();
    let parts = ["payload", "headers", "segment_headers", "padding", "aborted", "damaged", "unused"];
    assert_eq!(parts.map(of).iter().sum::<u64>(), answer["file_bytes"].as_u64().unwrap());
    assert_eq!(answer["file_bytes"].as_u64().unwrap(), 1 << 20);
    assert!(answer["disk_bytes"].as_u64().unwrap() > 0);
    assert_eq!(answer["live_bytes"].as_u64().unwrap(), of("payload"));
    let shown = run(&["stats"], &path);
    assert_eq!(shown.status.code(), Some(0));
    assert!(text(&shown.stdout).contains("of live pages"), "{shown:?}");
}

#[test]
fn the_checkpoint_is_shown_with_what_a_start_replays() {
    let place = Place::new("checkpoint");
    let path = place.at("store");
    store(&path);
    for command in ["verify", "stats"] {
        let shown = text(&run(&[command], &path).stdout);
        assert!(shown.contains("  no checkpoint: replay from the beginning, "), "{shown}");
        let answer = json(&run(&[command, "--json"], &path));
        assert!(answer["checkpoint"].is_null());
        assert_eq!(answer["replay_bytes"], answer["evidence"]["end"]);
    }
    let pc = PageCache::<Concat>::start(ConfigBuilder::new().path(&path).build()).unwrap();
    let guard = pc.pin();
    let id = pc.allocate(&guard);
    pc.replace_at(id, Version::NONE, "in the map".to_owned(), &guard).unwrap();
    pc.flush().unwrap();
    let redo = pc.checkpoint().unwrap();
    let id = pc.allocate(&guard);
    pc.replace_at(id, Version::NONE, "behind it ".repeat(500), &guard).unwrap();
    drop(guard);
    pc.close().unwrap();
    for command in ["verify", "stats"] {
        let answer = json(&run(&[command, "--json"], &path));
        let of = |part: &str| answer["checkpoint"][part].as_u64().unwrap();
        let replayed = answer["replay_bytes"].as_u64().unwrap();
        // 52 ids of 64 a leaf.
        assert_eq!((of("number"), of("redo"), of("leaves"), of("segments")), (1, redo.0, 1, 1));
        assert_eq!(
            (&answer["checkpoint"]["copies_differ"], answer["pages"]["live"].as_u64()),
            (&Value::Bool(false), Some(52))
        );
        assert_eq!(replayed, answer["evidence"]["end"].as_u64().unwrap() - redo.0);
        assert!((5000..20_000).contains(&replayed) && of("allocated") >= 4096, "{answer}");
        let shown = text(&run(&[command], &path).stdout);
        let line = format!("  checkpoint 1: replay from {redo}, ");
        let line = shown.lines().find(|shown| shown.starts_with(&line)).unwrap_or_else(|| panic!("{shown}"));
        assert!(line.contains(" KiB of log behind it; 1 leaf in ") && line.ends_with(" of 1 segment"), "{line}");
    }
    fs::remove_file(path.join("super-b")).unwrap();
    let shown = run(&["verify"], &path);
    assert_eq!(shown.status.code(), Some(0), "{shown:?}");
    assert!(text(&shown.stdout).contains("one copy of the superblock, or its root, is older or damaged"), "{shown:?}");
    fs::write(path.join("super-b"), [1; 4096]).unwrap();
    fs::write(path.join("super-a"), [1; 4096]).unwrap();
    let shown = run(&["verify"], &path);
    assert_eq!(shown.status.code(), Some(2), "{shown:?}");
    assert!(text(&shown.stdout).contains("both copies of the superblock are damaged"), "{shown:?}");
}

#[test]
fn the_tour_loses_nothing_catches_a_liar_and_cleans_up() {
    let place = Place::new("tour");
    let (dir, temporary) = (place.at("dir"), place.at("temporary"));
    fs::create_dir_all(dir.join("below")).unwrap();
    fs::create_dir(&temporary).unwrap();
    let words = "materializer of torn pages\nand a checkpoint that follows the torn one\n";
    fs::write(dir.join("words.txt"), words.repeat(20)).unwrap();
    fs::write(dir.join("below/more.txt"), words.repeat(300)).unwrap();
    fs::write(dir.join("binary"), [0, 1, 2, 255]).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_pagecache"));
    let output =
        command.args(["tour", "--seconds", "0.3", "--json"]).arg(&dir).env("TMPDIR", &temporary).output().unwrap();
    let story = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{story}");
    let found = json(&output);
    let reopened = found["crashes"]["reopened"].as_array().unwrap();
    assert_eq!(reopened.len(), 3);
    for reopened in reopened {
        assert!(reopened["acknowledged"].as_u64().unwrap() >= 100, "{reopened}");
        assert_eq!(reopened["acknowledged"], reopened["found"], "{reopened}");
        assert_eq!(reopened["lost"], 0);
    }
    assert_eq!(found["proof"]["honest"]["lost"], 0);
    if cfg!(feature = "canary") {
        assert!(found["proof"]["lying"]["lost"].as_u64().unwrap() > 0, "{story}");
    }
    assert_eq!(found["problems"], 0);
    assert!(
        story.contains("1 x binary file") && story.contains("search \"materializer\": 320 lines of 2 files"),
        "{story}"
    );
    assert_eq!(fs::read_dir(&temporary).unwrap().count(), 0, "the tour left something behind");
}

#[test]
fn a_tour_of_nothing_is_1() {
    let place = Place::new("nothing");
    for dir in [place.0.clone(), place.at("missing")] {
        let output = run(&["tour", "--seconds", "0.1"], &dir);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(text(&output.stderr).contains("error: "), "{output:?}");
    }
}

#[test]
fn segments_of_images_are_shown_and_counted() {
    let place = Place::new("images");
    let path = place.at("store");
    let config = ConfigBuilder::new().path(&path).segment_size(64 << 10).background(Background::Caller).build();
    let pc = PageCache::<Concat>::start(config).unwrap();
    let ids: Vec<_> = (0..120).map(|_| pc.allocate(&pc.pin())).collect();
    for round in 0..20 {
        for (nth, id) in ids.iter().enumerate().filter(|(nth, _)| round == 0 || nth % 10 > 0) {
            let guard = pc.pin();
            let at = match pc.state(*id, &guard).unwrap() {
                PageState::Live(at) => at,
                _ => Version::NONE,
            };
            pc.replace_at(*id, at, format!("{nth} {}", "again ".repeat(200)), &guard).unwrap();
        }
        pc.flush().unwrap();
        pc.checkpoint().unwrap();
        pc.clean().unwrap();
    }
    pc.close().unwrap();
    for command in ["verify", "stats"] {
        let answer = json(&run(&[command, "--json"], &path));
        let of = |part: &str| answer["images"][part].as_u64().unwrap();
        let bytes = answer["images"]["bytes"].as_object().unwrap();
        let total: u64 = bytes.values().map(|part| part.as_u64().unwrap()).sum();
        assert_eq!(total, of("segments") * (64 << 10));
        assert!(of("records") >= 4 && of("allocated") > 0, "{answer}");
        assert_eq!((answer["problems"].as_array().unwrap().len(), answer["pages"]["live"].as_u64()), (0, Some(120)));
        let shown = text(&run(&[command], &path).stdout);
        let line = format!("  {} images of ", of("records"));
        let line = shown.lines().find(|shown| shown.starts_with(&line)).unwrap_or_else(|| panic!("{shown}"));
        assert!(line.contains(" KiB of ") && line.contains(" segment"), "{line}");
        if command == "stats" {
            let log = answer["segments"].as_array().unwrap().len() as u64;
            assert_eq!(answer["file_bytes"].as_u64().unwrap(), (log + of("segments")) * (64 << 10));
        }
    }
    // A byte of an image.
    let images = |name: &str| name.starts_with("seg-") && matches!(fs::read(path.join(name)).unwrap()[13], 1 | 2);
    let names = fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let file = path.join(names.filter(|name| images(name)).max().unwrap());
    let mut bytes = fs::read(&file).unwrap();
    bytes[4096 + 100] ^= 1;
    fs::write(&file, bytes).unwrap();
    let shown = run(&["verify"], &path);
    assert_eq!(shown.status.code(), Some(2), "{shown:?}");
    assert!(text(&shown.stdout).contains(", offset 4096: "), "{shown:?}");
}

#[test]
fn every_byte_is_explained_and_the_sum_is_the_files() {
    let place = Place::new("why-space");
    let path = place.at("store");
    let config = ConfigBuilder::new().path(&path).segment_size(64 << 10).background(Background::Caller).build();
    let pc = PageCache::<Concat>::start(config).unwrap();
    let mut pages = Vec::new();
    for nth in 0..120 {
        let id = pc.allocate(&pc.pin());
        let at = pc.replace_at(id, Version::NONE, format!("{nth} {}", "word ".repeat(200)), &pc.pin()).unwrap();
        pages.push((id, at));
    }
    for (id, at) in pages.iter_mut().step_by(2) {
        *at = pc.replace_at(*id, *at, "again ".repeat(200), &pc.pin()).unwrap();
    }
    pc.flush().unwrap();
    pc.checkpoint().unwrap();
    for (id, at) in pages.iter_mut().step_by(3) {
        *at = pc.link_at(*id, *at, " and on".to_owned(), &pc.pin()).unwrap();
    }
    pc.flush().unwrap();
    for flags in [["stats", "--json"], ["stats", "--why-space"]] {
        let output = run(&flags, &path);
        assert_eq!(output.status.code(), Some(1), "somebody writes there");
        assert!(text(&output.stderr).contains("open elsewhere"), "{output:?}");
    }
    pc.close().unwrap();
    fs::write(path.join("notes"), b"not of the store").unwrap();
    let mut lengths = 0;
    for entry in fs::read_dir(&path).unwrap().map(Result::unwrap).filter(|entry| entry.file_name() != "notes") {
        lengths += entry.metadata().unwrap().len();
    }

    let answer = json(&run(&["stats", "--json"], &path));
    let space = &answer["space"];
    let part = |name: &str| space["parts"][name].as_u64().unwrap_or_else(|| panic!("{name}: {answer}"));
    let parts = [
        ["live_images", "live_deltas", "dead", "log"],
        ["padding", "unwritten", "headers", "map_live"],
        ["map_dead", "superblocks", "spare", "leftovers"],
    ];
    let total: u64 = parts.iter().flatten().map(|name| part(name)).sum();
    assert_eq!(space["parts"].as_object().unwrap().len(), 13);
    assert_eq!((total, part("unreadable"), space["files_bytes"].as_u64()), (lengths, 0, Some(lengths)), "{answer}");
    assert!(part("live_images") > 120 * 1000 && part("dead") > 60 * 1000 && part("live_deltas") > 40 * 7, "{answer}");
    assert_eq!(space["lag_bytes"], answer["replay_bytes"]);
    let fill = space["fill"].as_f64().unwrap();
    assert!((0.3..0.8).contains(&fill) && space["predicted_moves"].as_f64().is_some(), "{answer}");
    for (key, value) in [("fill_target", Value::from(0.8)), ("foreign", Value::from(1)), ("amplification", Value::Null)]
    {
        assert_eq!(space[key], value);
    }
    assert_eq!((&space["written"]["given"], &space["restart_by"]), (&Value::from(0), &Value::from("default_rate")));
    let stats = &answer["stats"];
    assert_eq!((&stats["lag_bytes"], &stats["fill_target"]), (&space["lag_bytes"], &space["fill_target"]));
    assert_eq!(stats["clean_start"], true);

    let output = run(&["stats", "--why-space"], &path);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let shown = text(&output.stdout);
    let row = |name: &str| {
        let line =
            shown.lines().find(|line| line.starts_with(&format!("  {name} "))).unwrap_or_else(|| panic!("{shown}"));
        let bytes = line.trim_start()[name.len()..].split_whitespace().next().unwrap().replace(',', "");
        bytes.parse::<u64>().unwrap()
    };
    for (shown, name) in [("live images", "live_images"), ("dead", "dead"), ("log", "log"), ("map, live", "map_live")] {
        assert_eq!(row(shown), part(name));
    }
    assert_eq!((row("all parts"), row("the files' lengths")), (lengths, lengths));
    assert!(
        shown.contains("not looked at: 1 name")
            && shown.contains("fill: 0.")
            && shown.contains("too little to measure")
            && shown.contains("memory: "),
        "{shown}"
    );
    println!("{shown}");
}

/// A start that replays more than 1 MiB says how long the next one takes; memory is told by kind, and fill, lag and what cleaning costs once more.
#[test]
fn a_store_with_a_long_log_says_how_long_a_start_takes() {
    let place = Place::new("restart");
    let path = place.at("store");
    let config = ConfigBuilder::new().path(&path).segment_size(64 << 10).log_limit(16 << 20);
    let pc = PageCache::<Concat>::start(config.background(Background::Caller).build()).unwrap();
    let mut pages: Vec<_> = (0..100).map(|_| (pc.allocate(&pc.pin()), Version::NONE)).collect();
    let page = "word ".repeat(200);
    for round in 0..35 {
        for (id, at) in &mut pages {
            *at = pc.replace_at(*id, *at, page.clone(), &pc.pin()).unwrap();
        }
        if round == 9 {
            pc.flush().unwrap();
            pc.checkpoint().unwrap();
        }
    }
    let live = pc.stats();
    pc.close().unwrap();
    let amplified = live.amplification.unwrap();
    assert!((1.0..1.1).contains(&amplified.log) && amplified.map > 0.0 && amplified.whole > amplified.log, "{live:?}");
    assert!(live.lag_bytes > 2 << 20 && live.fill == Some(0.0), "{live:?}");

    let answer = json(&run(&["stats", "--json"], &path));
    let (stats, space) = (&answer["stats"], &answer["space"]);
    assert!(stats["lag_bytes"].as_u64().unwrap() > 2 << 20, "{answer}");
    for name in ["lag_bytes", "restart_by", "fill_target"] {
        assert_eq!(stats[name], space[name], "{name}");
    }
    assert_eq!((&stats["lag_bytes"], stats["restart_by"].as_str()), (&answer["replay_bytes"], Some("this_start")));
    assert!(space["restart_ms"].is_u64() && stats["restart_ms"].is_u64(), "{answer}");
    let kinds = stats["memory"].as_object().unwrap();
    assert_eq!(kinds.len(), 8);
    assert!(["map", "log", "segments"].iter().all(|kind| kinds[*kind].as_u64().unwrap() > 0), "{answer}");
    // Nothing of the checkpoint's past is in use, so nothing is to be moved.
    assert_eq!((stats["fill"].as_f64(), &stats["predicted_moves"]), (Some(0.0), &Value::Null));
    let shown = text(&run(&["stats", "--why-space"], &path).stdout);
    assert!(shown.contains(", as it took just now") && shown.contains("  memory: "), "{shown}");
}

#[test]
fn what_is_too_damaged_to_be_opened_has_no_parts_and_a_bare_log_neither() {
    let place = Place::new("no-space");
    let (path, log) = (place.at("store"), place.at("log"));
    let record = store(&path);
    let mut bytes = fs::read(path.join("seg-0000000000000000")).unwrap();
    bytes[record as usize + 9] ^= 0x10;
    fs::write(path.join("seg-0000000000000000"), bytes).unwrap();
    pagecache::Log::start(ConfigBuilder::new().path(&log).build()).unwrap().close().unwrap();
    for (path, why) in [(path, "seg"), (log, "a bare log")] {
        let answer = json(&run(&["stats", "--json"], &path));
        assert!(
            answer["space"].is_null() && answer["stats"].is_null() && answer["bytes"]["payload"].is_u64(),
            "{answer}"
        );
        let output = run(&["stats", "--why-space"], &path);
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output.stderr).contains(why), "{output:?}");
    }
}
