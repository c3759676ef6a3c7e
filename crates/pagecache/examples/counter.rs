//! A counter page: four threads add to one page without a lock, the store is closed, and the sum is found again by name.
//!
//! A fragment is an amount, and merging is addition, so adding never reads the whole history: it links. Which page the counter
//! is, the program learns from its own fragments at the next start.
//!
//! `cargo run -p pagecache --example counter`

use pagecache::{ConfigBuilder, Error, Materializer, PageCache, PageId, Rejected, Version, version};
use serde::{Deserialize, Serialize};

const THREADS: u64 = 4;
const EACH: u64 = 500;

/// An amount; the first fragment of a page also says which page it is.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Amount {
    page: Option<u64>,
    sum: u64,
}

struct Adding;

impl Materializer for Adding {
    type PageFrag = Amount;
    type Recovery = u64;

    fn new(_: &Option<u64>) -> Self {
        Adding
    }

    fn merge(&self, frags: &[&Amount]) -> Amount {
        let page = frags.iter().find_map(|frag| frag.page);
        Amount { page, sum: frags.iter().map(|frag| frag.sum).sum() }
    }

    fn recover(&self, frag: &Amount) -> Option<u64> {
        frag.page
    }
}

/// Adds one, on whatever version the page is at. Returns how often somebody else came first.
fn add_one(pc: &PageCache<Adding>, counter: PageId) -> Result<u64, Error> {
    let guard = pc.pin();
    let (_, token) = pc.fragments(counter, &guard)?;
    let (mut at, mut frag) = (version(token), Amount { page: None, sum: 1 });
    let mut conflicts = 0;
    loop {
        match pc.link_at(counter, at, frag, &guard) {
            Ok(_) => return Ok(conflicts),
            // The refused fragment comes back with the token of what is there now.
            Err(Rejected::Conflict { token, rejected, .. }) => (at, frag) = (version(token), rejected),
            Err(other) => return Err(other.into()),
        }
        conflicts += 1;
    }
}

pub fn main() -> Result<(), Error> {
    let dir = std::env::temp_dir().join(format!("pagecache-counter-{}", std::process::id()));
    let open = || PageCache::<Adding>::start(ConfigBuilder::new().path(&dir).build());

    let pc = open()?;
    assert_eq!(pc.recovered_state(), None, "a new store");
    let counter = {
        let guard = pc.pin();
        let id = pc.allocate(&guard);
        pc.replace_at(id, Version::NONE, Amount { page: Some(id.0), sum: 0 }, &guard)?;
        id
    };
    let conflicts: u64 = std::thread::scope(|scope| {
        let adding = || (0..EACH).map(|_| add_one(&pc, counter)).sum::<Result<u64, Error>>();
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(adding)).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).sum::<Result<u64, Error>>()
    })?;
    println!("{THREADS} threads added {EACH} each; {conflicts} times somebody else came first");
    pc.close()?;

    let pc = open()?;
    let counter = PageId(*pc.recovered_state().expect("the counter's page was named"));
    let sum = pc.get(counter, &pc.pin())?.0.sum;
    println!("after a restart, page {} counts {sum}", counter.0);
    assert_eq!(sum, THREADS * EACH);
    pc.close()?;
    std::fs::remove_dir_all(&dir).expect("the store goes");
    Ok(())
}
