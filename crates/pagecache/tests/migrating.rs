//! docs/MIGRATING.md has a row for every public name of pagecache 0.2.7 and 0.19.4, and points only to names that are here.
//!
//! The lists beside this file are the names in rustdoc's index of the published crates, hidden ones included, and the features of
//! their manifests. What the rows point to is compiled below.
#![cfg(not(loom))]

use std::collections::{BTreeMap, BTreeSet};

use pagecache::Materializer;

const TABLE: &str = include_str!("../../../docs/MIGRATING.md");
const VERSIONS: [(&str, &str); 2] =
    [("0.2.7", include_str!("migrating/names-0.2.7.txt")), ("0.19.4", include_str!("migrating/names-0.19.4.txt"))];

/// Stands for a user's own.
struct Any;

impl Materializer for Any {
    type PageFrag = String;
    type Recovery = ();

    fn new(_: &Option<()>) -> Self {
        Any
    }

    fn merge(&self, frags: &[&String]) -> String {
        frags.iter().map(|frag| frag.as_str()).collect()
    }

    fn recover(&self, _: &String) -> Option<()> {
        None
    }
}

/// The kit's names as rows use them: those with parameters get some.
#[allow(unused_imports)]
mod here {
    pub use pagecache::{
        Background, Config, ConfigBuilder, Create, Error, Log, LogRead, Lsn, PageId, PageState, Reservation, Stats,
        crossbeam_epoch, inspect, version,
    };
    pub type PageCache = pagecache::PageCache<super::Any>;
    pub type PagePtr<'g> = pagecache::PagePtr<'g, String>;
    pub type Rejected<'g> = pagecache::Rejected<'g, String>;
    pub type Result = pagecache::Result<()>;
}

/// Names, each used in the way of its kind, so that one that is gone does not compile.
macro_rules! names {
    (
        types { $($type:ident)* }
        functions { $($of:ident :: $function:ident)* }
        traits { $($trait:ident :: $item:ident)* }
        variants { $($enum:ident :: $variant:ident)* }
        fields { $($struct:ident :: $field:ident)* }
    ) => {
        fn compiled() -> BTreeSet<String> {
            $(let _: Option<here::$type> = None;)*
            $(let _ = here::$of::$function;)*
            $(let _ = <Any as pagecache::$trait>::$item;)*
            $(let _ = |value: &here::$enum| matches!(value, here::$enum::$variant { .. });)*
            $(let _ = |value: here::$struct| value.$field;)*
            let names = [
                $(stringify!($type),)*
                $(concat!(stringify!($of), "::", stringify!($function)),)*
                $(concat!(stringify!($trait), "::", stringify!($item)),)*
                $(concat!(stringify!($enum), "::", stringify!($variant)),)*
                $(concat!(stringify!($struct), "::", stringify!($field)),)*
            ];
            names.into_iter().map(str::to_owned).collect()
        }
    };
}

names! {
    types {
        Background Config ConfigBuilder Create Error Log LogRead Lsn PageCache PageId PagePtr PageState Rejected Reservation Result
    }
    functions {
        PageCache::start PageCache::allocate PageCache::try_allocate PageCache::replace PageCache::link PageCache::free PageCache::get
        PageCache::flush PageCache::make_stable PageCache::stable_lsn PageCache::recovered_state PageCache::state PageCache::stats
        PageCache::space PageCache::clean PageCache::checkpoint
        PageCache::fragments PageCache::pin
        Log::start Log::write Log::reserve Log::read Log::iter_from Log::flush Log::make_stable Log::stable_lsn Log::trim
        Reservation::abort Reservation::complete Reservation::lsn
        ConfigBuilder::new ConfigBuilder::build ConfigBuilder::temporary ConfigBuilder::read_only
        ConfigBuilder::cache_capacity ConfigBuilder::segment_size ConfigBuilder::max_record
        ConfigBuilder::log_limit ConfigBuilder::fill_target ConfigBuilder::reserve
        ConfigBuilder::collector
        inspect::verify crossbeam_epoch::pin
    }
    traits { Materializer::new Materializer::merge Materializer::recover Materializer::RECOVERS }
    variants {
        PageState::Live PageState::Free PageState::Empty PageState::Unallocated
        LogRead::Record LogRead::Aborted LogRead::Padding
        Error::Corrupt Error::Config Error::Io Error::Poisoned Error::ForeignGuard Error::ReadOnly Error::Incompatible Error::NoPage
        Rejected::Conflict Create::New Create::Existing
    }
    fields { Stats::disk_bytes Stats::clean_start }
}

/// Names that are used in a way of their own.
fn compiled_apart() -> [&'static str; 10] {
    fn _materializer<M: pagecache::Materializer>(_: M::PageFrag, _: M::Recovery) {}
    fn _fragment<F: pagecache::Fragment>() {}
    fn _storage<S: pagecache::storage::Storage>() {}
    let _ = || here::ConfigBuilder::new().path("here").flush_every_ms(500);
    let _ = here::version::<String>;
    let _: Option<here::crossbeam_epoch::Shared<'_, u64>> = None;
    // A feature: the manifest has it.
    assert!(include_str!("../Cargo.toml").contains("\ntracing = "));
    [
        "Materializer",
        "Materializer::PageFrag",
        "Materializer::Recovery",
        "Fragment",
        "storage::Storage",
        "version",
        "crossbeam_epoch::Shared",
        "feature tracing",
        "ConfigBuilder::path",
        "ConfigBuilder::flush_every_ms",
    ]
}

/// What stands in backquotes.
fn quoted(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

/// The rows of the tables of names under a version's heading: names, what they became, what to do.
fn rows(version: &str) -> Vec<[&'static str; 3]> {
    let from = TABLE.split(&format!("\n## From {version}\n")).nth(1).expect("a part for the version");
    let part = from.split("\n## ").next().unwrap_or_default();
    let cells =
        |line: &'static str| -> Vec<&'static str> { line.trim_matches('|').split(" | ").map(str::trim).collect() };
    let lines = part.lines().filter(|line| line.starts_with("| `"));
    lines.map(|line| cells(line).try_into().unwrap_or_else(|_| panic!("three cells: {line}"))).collect()
}

#[test]
fn every_public_name_of_the_predecessors_has_one_row_and_no_row_names_another() {
    for (version, list) in VERSIONS {
        let wanted: BTreeSet<&str> = list.lines().collect();
        let mut found: BTreeMap<&str, usize> = BTreeMap::new();
        for row in rows(version) {
            for name in quoted(row[0]) {
                *found.entry(name).or_default() += 1;
            }
        }
        let missing: Vec<_> = wanted.iter().filter(|name| !found.contains_key(*name)).collect();
        let unknown: Vec<_> = found.keys().filter(|name| !wanted.contains(*name)).collect();
        let twice: Vec<_> = found.iter().filter(|(_, times)| **times > 1).collect();
        assert!(missing.is_empty(), "{version}: no row for {missing:?}");
        assert!(unknown.is_empty(), "{version}: not a name of it: {unknown:?}");
        assert!(twice.is_empty(), "{version}: two rows for {twice:?}");
        println!("{version}: {} names", wanted.len());
        assert!(wanted.len() > 150, "the list is whole");
    }
}

#[test]
fn what_a_row_points_to_is_here() {
    let mut here = compiled();
    here.extend(compiled_apart().map(str::to_owned));
    let mut checked = 0;
    for (version, _) in VERSIONS {
        for [was, now, _] in rows(version) {
            let now: Vec<&str> = match now {
                "gone" => continue,
                "same" => quoted(was).collect(),
                _ => quoted(now).collect(),
            };
            assert!(!now.is_empty(), "{version}: {was} became something, or is gone");
            for name in now {
                assert!(here.contains(name), "{version}: {was} -> {name}, which is not compiled here");
                checked += 1;
            }
        }
    }
    println!("{checked} names that are here");
    assert!(checked > 100);
}

#[test]
fn the_kits_names_in_the_advice_are_here() {
    let mut here = compiled();
    here.extend(compiled_apart().map(str::to_owned));
    for (version, list) in VERSIONS {
        let theirs: BTreeSet<&str> = list.lines().collect();
        for [was, _, advice] in rows(version) {
            for name in quoted(advice)
                .filter(|name| name.contains("::") && name.chars().all(|c| c.is_alphanumeric() || ":_".contains(c)))
            {
                let known = here.contains(name) || theirs.contains(name) || name.starts_with("pagecache::");
                assert!(known, "{version}: the advice for {was} names {name}");
            }
        }
    }
}
