//! What the tests share: stores on a simulated disk, their expected content, and a watchdog.

use std::time::Duration;

use pagecache::{
    Background, ConfigBuilder, Error, Log, Lsn, Materializer, PageCache, PageId, Rejected, Version, version,
};
use pagecache_sim::disk::SimDisk;

/// Pages of text; a merge is a concatenation.
pub struct Concat;

impl Materializer for Concat {
    type PageFrag = String;
    type Recovery = ();
    const RECOVERS: bool = false;
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

pub type Texts = PageCache<Concat>;

/// Runs a test on a thread of its own, and ends the process where it hangs.
pub fn within_a_minute(run: impl FnOnce() + Send + 'static) {
    let name = std::thread::current().name().unwrap_or("a test").to_owned();
    let (done, waiting) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run));
        // The test may have given up waiting: then the process is ending.
        let _ = done.send(outcome);
    });
    match waiting.recv_timeout(Duration::from_secs(60)) {
        Ok(Ok(())) => {}
        Ok(Err(panic)) => std::panic::resume_unwind(panic),
        Err(_) => {
            eprintln!("{name} hangs");
            std::process::abort();
        }
    }
}

/// Small segments and no thread: every call of the disk is made by the test's own calls.
pub fn config(disk: &SimDisk) -> ConfigBuilder {
    ConfigBuilder::new().storage(disk.clone()).segment_size(64 << 10).background(Background::Caller)
}

pub fn pages(disk: &SimDisk) -> Texts {
    Texts::start(config(disk).build()).unwrap()
}

pub fn log(disk: &SimDisk) -> Log {
    Log::start(config(disk).build()).unwrap()
}

pub struct Page {
    pub id: PageId,
    pub at: Version,
    pub text: String,
}

/// Makes pages of about `len` bytes in two fragments each.
pub fn fill(pc: &Texts, name: &str, count: usize, len: usize) -> Vec<Page> {
    let guard = pc.pin();
    (0..count)
        .map(|number| {
            let id = pc.allocate(&guard);
            let (base, delta) = (format!("{name}{number};").repeat(len / 8 + 1), format!("+{name}{number}"));
            let at = pc.replace_at(id, Version::NONE, base.clone(), &guard).unwrap();
            Page { id, at: pc.link_at(id, at, delta.clone(), &guard).unwrap(), text: base + &delta }
        })
        .collect()
}

/// Every page is there as it was.
pub fn check(pc: &Texts, expected: &[Page]) {
    let guard = pc.pin();
    for page in expected {
        let (found, token) = pc.get(page.id, &guard).unwrap();
        assert!(found == page.text, "{} is {:.60?}, not {:.60?}", page.id, *found, page.text);
        assert_eq!(version(token), page.at);
    }
}

/// The text of a page, where it holds data.
pub fn text(pc: &Texts, id: PageId) -> Option<String> {
    pc.get(id, &pc.pin()).ok().map(|(page, _)| page.clone())
}

/// All records of a log.
pub fn records(log: &Log) -> Vec<(Lsn, Vec<u8>)> {
    log.iter_from(Lsn(0)).map(Result::unwrap).collect()
}

/// The refusal of an update, with what came back.
pub fn failed<T: std::fmt::Debug, F>(result: Result<T, Rejected<'_, String, F>>) -> (Error, F) {
    match result {
        Err(Rejected::Failed { error, rejected }) => (error, rejected),
        Err(other) => panic!("{other:?}"),
        Ok(at) => panic!("it succeeded: {at:?}"),
    }
}

/// A fragment's bytes that no other has.
pub fn bytes(seed: usize, len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 31 + at / 256 + seed * 7) as u8).collect()
}
