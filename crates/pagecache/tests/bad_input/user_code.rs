//! User code that panics or errs ends its own operation; the store goes on.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};

use pagecache::storage::MemoryStorage;
use pagecache::{
    Background, ConfigBuilder, Error, Fragment, Materializer, PageBytes, PageCache, PageId, Rejected, Version,
};

use crate::harness::within_a_minute;

thread_local! {
    /// The user code that fails on this thread now.
    static ARMED: Cell<&'static str> = const { Cell::new("") };
}

/// Silences the panics that are planted here, and only those.
fn quiet() {
    static ONCE: AtomicBool = AtomicBool::new(false);
    if !ONCE.swap(true, Ordering::Relaxed) {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if info.payload().downcast_ref::<&str>() != Some(&"planted") {
                usual(info);
            }
        }));
    }
}

fn strike(place: &'static str) {
    let armed = ARMED.with(Cell::get);
    if armed == place && !std::thread::panicking() {
        std::panic::panic_any("planted");
    }
}

/// Runs with one piece of user code armed; whether it panicked.
fn armed<T>(place: &'static str, run: impl FnOnce() -> T) -> Option<T> {
    quiet();
    ARMED.set(place);
    let outcome = catch_unwind(AssertUnwindSafe(run));
    ARMED.set("");
    match outcome {
        Ok(value) => Some(value),
        Err(panic) if panic.downcast_ref::<&str>() == Some(&"planted") => None,
        Err(other) => std::panic::resume_unwind(other),
    }
}

#[derive(Debug, PartialEq)]
struct Touchy(String);

impl Drop for Touchy {
    fn drop(&mut self) {
        strike("drop");
    }
}

impl Fragment for Touchy {
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), String> {
        out.extend(b"half of ");
        strike("encode");
        if ARMED.with(Cell::get) == "encode errs" {
            return Err("planted".into());
        }
        out.extend(self.0.as_bytes());
        Ok(())
    }
    fn decode(bytes: PageBytes) -> Result<Self, String> {
        strike("decode");
        if ARMED.with(Cell::get) == "decode errs" {
            return Err("planted".into());
        }
        let text = bytes.strip_prefix(b"half of ").ok_or("no prefix")?;
        Ok(Touchy(String::from_utf8(text.to_vec()).map_err(|error| error.to_string())?))
    }
    fn heap_size(&self) -> usize {
        strike("heap size");
        self.0.capacity()
    }
}

struct Touchies;

impl Materializer for Touchies {
    type PageFrag = Touchy;
    type Recovery = String;
    fn new(_: &Option<String>) -> Self {
        strike("new");
        Touchies
    }
    fn merge(&self, frags: &[&Touchy]) -> Touchy {
        strike("merge");
        Touchy(frags.iter().map(|frag| &*frag.0).collect())
    }
    fn recover(&self, frag: &Touchy) -> Option<String> {
        strike("recover");
        Some(frag.0.clone())
    }
}

type Pc = PageCache<Touchies>;

fn config(storage: &MemoryStorage) -> ConfigBuilder {
    ConfigBuilder::new().storage(storage.clone()).segment_size(64 << 10).background(Background::Caller)
}

fn touchy(text: &str) -> Touchy {
    Touchy(text.to_owned())
}

fn text(pc: &Pc, id: PageId) -> String {
    pc.get(id, &pc.pin()).unwrap().0.0.clone()
}

/// Makes a page of three fragments.
fn page(pc: &Pc, name: &str) -> (PageId, Version) {
    let guard = pc.pin();
    let id = pc.allocate(&guard);
    let at = pc.replace_at(id, Version::NONE, touchy(name), &guard).unwrap();
    let at = pc.link_at(id, at, touchy("+"), &guard).unwrap();
    (id, pc.link_at(id, at, touchy("+"), &guard).unwrap())
}

#[test]
fn an_encoding_that_errs_gives_the_fragment_back_and_nothing_happened() {
    let pc = Pc::start(config(&MemoryStorage::new()).build()).unwrap();
    let (id, at) = page(&pc, "a");
    let tail = pc.stats().tail;
    let guard = pc.pin();
    for write in [Pc::link_at, Pc::replace_at] {
        match armed("encode errs", || write(&pc, id, at, touchy("mine"), &guard)).unwrap() {
            Err(Rejected::Failed { error: Error::Encode { what }, rejected }) => {
                assert_eq!((&*what, rejected), ("planted", touchy("mine")));
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(pc.stats().tail, tail);
    pc.link_at(id, at, touchy("!"), &guard).unwrap();
    assert_eq!(text(&pc, id), "a++!");
}

/// A type of serde's that errs: the whole way through postcard.
#[test]
fn a_serialize_that_errs_gives_the_fragment_back() {
    #[derive(Debug)]
    struct Errs(bool);
    impl serde::Serialize for Errs {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            match self.0 {
                true => Err(serde::ser::Error::custom("planted")),
                false => serializer.serialize_bool(false),
            }
        }
    }
    impl<'de> serde::Deserialize<'de> for Errs {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            bool::deserialize(deserializer).map(Errs)
        }
    }
    struct Last;
    impl Materializer for Last {
        type PageFrag = Errs;
        type Recovery = ();
        fn new(_: &Option<()>) -> Self {
            Last
        }
        fn merge(&self, frags: &[&Errs]) -> Errs {
            Errs(frags.iter().any(|frag| frag.0))
        }
        fn recover(&self, _: &Errs) -> Option<()> {
            None
        }
    }
    let pc = PageCache::<Last>::start(config(&MemoryStorage::new()).build()).unwrap();
    let guard = pc.pin();
    let id = pc.allocate(&guard);
    match pc.link_at(id, Version::NONE, Errs(true), &guard) {
        Err(Rejected::Failed { error: Error::Encode { .. }, rejected: Errs(true) }) => {}
        other => panic!("{other:?}"),
    }
    pc.link_at(id, Version::NONE, Errs(false), &guard).unwrap();
}

#[test]
fn user_code_that_panics_during_an_update_leaves_the_page_as_it_was() {
    within_a_minute(|| {
        let storage = MemoryStorage::new();
        let pc = Pc::start(config(&storage).build()).unwrap();
        let (id, mut at) = page(&pc, "a");
        let (other, other_at) = page(&pc, "other");
        let guard = pc.pin();
        let mut expected = "a++".to_owned();
        for place in ["encode", "heap size", "merge"] {
            for _ in 0..70 {
                for write in [Pc::link_at, Pc::replace_at] {
                    // A merge runs only now and then: then the update succeeds.
                    match armed(place, || write(&pc, id, at, touchy("?"), &guard).unwrap()) {
                        None => {}
                        Some(now) => {
                            assert_eq!(place, "merge");
                            (at, expected) = (now, text(&pc, id));
                        }
                    }
                    assert_eq!(text(&pc, id), expected, "{place}");
                }
                at = pc.link_at(id, at, touchy("."), &guard).unwrap();
                expected.push('.');
            }
        }
        assert_eq!(text(&pc, other), "other++");
        pc.link_at(other, other_at, touchy("!"), &guard).unwrap();
        drop(guard);
        pc.close().unwrap();
        let pc = Pc::start(config(&storage).build()).unwrap();
        assert_eq!((text(&pc, id), text(&pc, other)), (expected, "other++!".to_owned()));
    });
}

#[test]
fn a_merge_that_panics_for_a_page_of_many_pieces_keeps_every_fragment() {
    let storage = MemoryStorage::new();
    let pc = Pc::start(config(&storage).build()).unwrap();
    let guard = pc.pin();
    let id = pc.allocate(&guard);
    let (mut at, mut expected, mut refused) = (Version::NONE, String::new(), 0);
    for link in 0..400 {
        let frag = format!("{link},");
        let linked = armed("merge", || pc.link_at(id, at, touchy(&frag), &guard).unwrap());
        refused += u32::from(linked.is_none());
        at = linked.unwrap_or_else(|| pc.link_at(id, at, touchy(&frag), &guard).unwrap());
        expected.push_str(&frag);
    }
    assert!(refused > 50);
    drop(guard);
    pc.close().unwrap();
    assert_eq!(text(&Pc::start(config(&storage).build()).unwrap(), id), expected);
}

#[test]
fn user_code_that_panics_or_errs_during_a_page_in_can_be_asked_again() {
    within_a_minute(|| {
        let storage = MemoryStorage::new();
        let pc = Pc::start(config(&storage).build()).unwrap();
        let (id, at) = page(&pc, "a");
        pc.close().unwrap();
        for place in ["decode", "heap size", "merge", "decode errs"] {
            let pc = Pc::start(config(&storage).build()).unwrap();
            let guard = pc.pin();
            let resident = pc.stats().resident_bytes;
            match armed(place, || pc.get(id, &guard).map(drop)) {
                None => assert_ne!(place, "decode errs"),
                Some(Err(Error::Decode { page: Some(page), what })) => assert_eq!((page, &*what), (id, "planted")),
                other => panic!("{place}: {other:?}"),
            }
            if place != "merge" {
                assert_eq!(pc.stats().resident_bytes, resident, "half a page stayed");
            }
            match armed(place, || pc.link_at(id, at, touchy("?"), &guard)) {
                None => {}
                Some(Err(Rejected::Failed { error: Error::Decode { .. }, rejected })) => {
                    assert_eq!(rejected, touchy("?"));
                }
                // A link merges nothing here.
                Some(Ok(_)) if place == "merge" => {
                    assert_eq!(text(&pc, id), "a++?");
                    drop(guard);
                    continue;
                }
                other => panic!("{place}: {other:?}"),
            }
            assert!(text(&pc, id).starts_with("a++"), "{place}");
            drop(guard);
            pc.close().unwrap();
            if place == "merge" {
                return;
            }
        }
    });
}

#[test]
fn user_code_that_panics_during_a_start_ends_the_start_and_the_next_one_succeeds() {
    within_a_minute(|| {
        let storage = MemoryStorage::new();
        let pc = Pc::start(config(&storage).build()).unwrap();
        let (id, _) = page(&pc, "a");
        pc.close().unwrap();
        for place in ["new", "recover", "decode"] {
            assert!(armed(place, || Pc::start(config(&storage).build()).map(drop)).is_none(), "{place}");
        }
        match armed("decode errs", || Pc::start(config(&storage).build()).map(drop)).unwrap() {
            Err(Error::Decode { page: Some(page), .. }) => assert_eq!(page, id),
            other => panic!("{other:?}"),
        }
        let pc = Pc::start(config(&storage).build()).unwrap();
        assert_eq!(text(&pc, id), "a++");
        assert_eq!(pc.recovered_state().unwrap(), "+");
        pc.close().unwrap();
    });
}

#[test]
fn a_drop_that_panics_harms_nobody_who_happens_to_collect_it() {
    within_a_minute(|| {
        let storage = MemoryStorage::new();
        let pc = Pc::start(config(&storage).cache_capacity(64 << 10).build()).unwrap();
        let (kept, _) = page(&pc, "kept");
        let (id, mut at) = page(&pc, "a");
        let mut ids = Vec::new();
        // Replaces, frees and evictions hand chains to whoever collects; that must be this very thread.
        let ended = armed("drop", || {
            for turn in 0..3000 {
                let guard = pc.pin();
                at = pc.replace_at(id, at, touchy(&"x".repeat(turn % 100)), &guard).unwrap();
                let new = pc.allocate(&guard);
                let new_at = pc.link_at(new, Version::NONE, touchy(&"y".repeat(200)), &guard).unwrap();
                match turn % 3 {
                    0 => drop(pc.free_at(new, new_at, &guard).unwrap()),
                    _ => ids.push(new),
                }
                guard.flush();
            }
            pc.flush().unwrap();
        });
        assert!(ended.is_some(), "a panic came out of the store");
        assert_eq!(text(&pc, id).len(), 2999 % 100);
        assert_eq!(text(&pc, kept), "kept++");
        armed("drop", || pc.close().unwrap()).unwrap();
        let pc = Pc::start(config(&storage).build()).unwrap();
        assert_eq!((text(&pc, id).len(), text(&pc, kept)), (2999 % 100, "kept++".to_owned()));
        assert!(ids.iter().all(|id| text(&pc, *id).len() == 200));
    });
}

/// Class: livelock when an error hits inside the reserve loop (sled 239).
#[test]
fn a_thread_that_dies_in_user_code_holds_nobody_up() {
    within_a_minute(|| {
        let storage = MemoryStorage::new();
        let pc = Pc::start(config(&storage).background(Background::Threads).flush_every_ms(1).build()).unwrap();
        let (id, at) = page(&pc, "a");
        std::thread::scope(|scope| {
            for place in ["encode", "heap size"] {
                let pc = &pc;
                scope.spawn(move || {
                    let ended = armed(place, || {
                        let guard = pc.pin();
                        drop(pc.link_at(id, at, touchy("?"), &guard));
                    });
                    assert!(ended.is_none());
                });
            }
        });
        let now = pc.link_at(id, at, touchy("!"), &pc.pin()).unwrap();
        assert!(pc.make_stable(now).unwrap().0 > now.0);
        pc.close().unwrap();
        assert_eq!(text(&Pc::start(config(&storage).build()).unwrap(), id), "a++!");
    });
}
