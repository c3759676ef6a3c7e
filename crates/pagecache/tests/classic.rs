//! The classic program, unchanged: the shape of the crate that this one succeeds.
#![cfg(not(loom))]

extern crate crossbeam_epoch as epoch;
extern crate pagecache;
use epoch::{Shared, pin};
use pagecache::Materializer;

pub struct TestMaterializer;
impl Materializer for TestMaterializer {
    type PageFrag = String;
    type Recovery = ();
    fn new(_last_recovery: &Option<Self::Recovery>) -> Self {
        TestMaterializer
    }
    fn merge(&self, frags: &[&Self::PageFrag]) -> Self::PageFrag {
        frags.iter().map(|f| f.as_str()).collect()
    }
    fn recover(&self, _: &Self::PageFrag) -> Option<Self::Recovery> {
        None
    }
}

fn main() {
    let conf = pagecache::ConfigBuilder::new().temporary(true);
    let pc: pagecache::PageCache<TestMaterializer, _, _> = pagecache::PageCache::start(conf.build()).unwrap();
    {
        let guard = pin();
        let id = pc.allocate(&guard);
        let key = pc.replace(id, Shared::null(), "a".to_owned(), &guard).unwrap();
        let key = pc.link(id, key, "b".to_owned(), &guard).unwrap();
        let _key = pc.link(id, key, "c".to_owned(), &guard).unwrap();
        let (consolidated, _key) = pc.get(id, &guard).unwrap();
        assert_eq!(consolidated, "abc".to_owned());
    }
}

#[test]
fn the_classic_program_runs() {
    main();
}
