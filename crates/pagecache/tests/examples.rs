//! The examples run, and what they assert holds.
#![cfg(not(loom))]

macro_rules! examples {
    ($($name:ident $path:literal;)*) => {
        $(
            #[allow(dead_code)]
            #[path = $path]
            mod $name;
        )*

        #[test]
        fn every_example_has_a_test_here() {
            let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/examples");
            let mut found: Vec<String> = std::fs::read_dir(dir)
                .unwrap()
                .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
                .collect();
            found.sort();
            assert_eq!(found, [$(stringify!($name)),*]);
        }
    };
}

examples! {
    classic "../examples/classic.rs";
    counter "../examples/counter.rs";
    custom_storage "../examples/custom_storage.rs";
    event_log "../examples/event_log.rs";
    own_layout "../examples/own_layout.rs";
    search_index "../examples/search_index.rs";
}

#[test]
fn the_classic_program_merges_three_fragments() {
    classic::main();
}

#[test]
fn a_counter_keeps_its_sum_over_a_restart() {
    counter::main().unwrap();
}

#[test]
fn a_storage_of_ones_own_sees_every_byte() {
    custom_storage::main().unwrap();
}

#[test]
fn a_follower_of_the_log_misses_nothing() {
    event_log::main().unwrap();
}

#[test]
fn pages_of_ones_own_layout_are_searched_in_place() {
    own_layout::main().unwrap();
}

#[test]
fn a_search_index_finds_documents_without_a_merge() {
    search_index::main().unwrap();
}
