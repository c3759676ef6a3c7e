//! User code that panics, as an update or a collection calls it, leaks nothing and breaks nobody else's.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicI64, Ordering};

use pagecache::crossbeam_epoch::Collector;
use pagecache::storage::MemoryStorage;
use pagecache::{Background, ConfigBuilder, Fragment, Materializer, PageBytes, PageCache, Version};

/// Fragments that are there.
static ALIVE: AtomicI64 = AtomicI64::new(0);

thread_local! {
    /// How many more times a fragment shows its bytes before it panics; negative for ever.
    static SHOWN: Cell<i64> = const { Cell::new(-1) };
    /// Whether what is dropped panics, with what panics when it is dropped.
    static BOMBS: Cell<bool> = const { Cell::new(false) };
}

/// A payload of a panic whose own drop panics.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        resume_unwind(Box::new("the payload's drop"));
    }
}

#[derive(Debug)]
struct Shown(Vec<u8>);

impl Shown {
    fn new(bytes: Vec<u8>) -> Shown {
        ALIVE.fetch_add(1, Ordering::SeqCst);
        Shown(bytes)
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        ALIVE.fetch_sub(1, Ordering::SeqCst);
        if BOMBS.get() && !std::thread::panicking() {
            resume_unwind(Box::new(Bomb));
        }
    }
}

impl Fragment for Shown {
    fn as_bytes(&self) -> Option<&[u8]> {
        let left = SHOWN.get();
        SHOWN.set((left - 1).max(-1));
        if left == 0 {
            resume_unwind(Box::new("planted"));
        }
        Some(&self.0)
    }
    fn encode(&self, _: &mut Vec<u8>) -> Result<(), String> {
        Err("it shows its bytes".to_owned())
    }
    fn decode(bytes: PageBytes) -> Result<Shown, String> {
        Ok(Shown::new(bytes.to_vec()))
    }
    fn heap_size(&self) -> usize {
        self.0.capacity()
    }
}

struct Joined;

impl Materializer for Joined {
    type PageFrag = Shown;
    type Recovery = ();
    const RECOVERS: bool = false;
    fn new(_: &Option<()>) -> Joined {
        Joined
    }
    fn merge(&self, frags: &[&Shown]) -> Shown {
        Shown::new(frags.iter().flat_map(|frag| frag.0.iter().copied()).collect())
    }
    fn recover(&self, _: &Shown) -> Option<()> {
        None
    }
}

/// One test, since both count the same fragments.
#[test]
fn user_code_that_panics_leaks_no_fragment_and_a_payload_that_panics_stops_no_collection() {
    let config = ConfigBuilder::new().storage(MemoryStorage::new()).segment_size(64 << 10);
    let config = config.background(Background::Caller).collector(Collector::new());
    let pc = PageCache::<Joined>::start(config.build()).unwrap();
    let guard = pc.pin();
    let id = pc.allocate(&guard);
    let mut at = pc.replace_at(id, Version::NONE, Shown::new(vec![1]), &guard).unwrap();
    for turn in 0..200 {
        // At each of the times that an update asks; some of them while a fold is in hand.
        SHOWN.set(turn % 5);
        let linked = catch_unwind(AssertUnwindSafe(|| pc.link_at(id, at, Shown::new(vec![2]), &guard)));
        SHOWN.set(-1);
        match linked {
            Ok(linked) => at = linked.unwrap(),
            // Linked all the same, as it comes to a fold.
            Err(_) => at = pc.link_at(id, at, Shown::new(vec![3]), &guard).unwrap(),
        }
    }
    assert_eq!(pc.get(id, &guard).unwrap().0.0.len(), 201);
    // Everything that was retired goes, whatever becomes of the payloads.
    drop(guard);
    BOMBS.set(true);
    let guard = pc.pin();
    at = pc.replace_at(id, at, Shown::new(vec![4]), &guard).unwrap();
    drop(guard);
    let collected = catch_unwind(AssertUnwindSafe(|| (0..1000).for_each(|_| pc.pin().flush())));
    BOMBS.set(false);
    assert!(collected.is_ok(), "a panic came out of a collection");
    (0..1000).for_each(|_| pc.pin().flush());
    pc.make_stable(at).unwrap();
    pc.close().unwrap();
    assert_eq!(ALIVE.load(Ordering::SeqCst), 0, "fragments are leaked");
}
