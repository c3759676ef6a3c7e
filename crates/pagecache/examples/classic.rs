//! The classic program: a page made of three fragments, merged when it is read.
//!
//! `cargo run -p pagecache --example classic`

extern crate crossbeam_epoch as epoch;
extern crate pagecache;

use epoch::{Shared, pin};
use pagecache::Materializer;

/// Pages are text, and fragments are appended to it.
pub struct TestMaterializer;

impl Materializer for TestMaterializer {
    // A whole page, or a change to one: what is written to the log and kept in memory.
    type PageFrag = String;

    // What is to be found again at a start beside the pages. Nothing here.
    type Recovery = ();

    // Made at start, with what `recover` named last before.
    fn new(_last_recovery: &Option<Self::Recovery>) -> Self {
        TestMaterializer
    }

    // Fragments become one, oldest first.
    fn merge(&self, frags: &[&Self::PageFrag]) -> Self::PageFrag {
        frags.iter().map(|f| f.as_str()).collect()
    }

    // Asked about every fragment that is found in the log at start.
    fn recover(&self, _: &Self::PageFrag) -> Option<Self::Recovery> {
        None
    }
}

pub fn main() {
    let conf = pagecache::ConfigBuilder::new().temporary(true);
    let pc: pagecache::PageCache<TestMaterializer, _, _> = pagecache::PageCache::start(conf.build()).unwrap();
    {
        // What this guard's holder has seen stays in memory until the guard is dropped.
        let guard = pin();
        let id = pc.allocate(&guard);

        // The first fragment is a whole page; null says that the page holds no data yet.
        let key = pc.replace(id, Shared::null(), "a".to_owned(), &guard).unwrap();

        // Changes go on top, each on the version that the key of the one before stands for.
        let key = pc.link(id, key, "b".to_owned(), &guard).unwrap();
        let _key = pc.link(id, key, "c".to_owned(), &guard).unwrap();

        let (consolidated, _key) = pc.get(id, &guard).unwrap();
        println!("page {}: {consolidated}", id.0);
        assert_eq!(consolidated, "abc".to_owned());
    }
}
