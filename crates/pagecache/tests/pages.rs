//! What the page cache promises, one claim a test.
#![cfg(not(loom))]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pagecache::crossbeam_epoch::{Collector, Guard, Shared};
use pagecache::storage::MemoryStorage;
use pagecache::{
    Background, ConfigBuilder, Error, Fragment, Lsn, Materializer, PageBytes, PageCache, PageId, PageState, Rejected,
    Version, version,
};

struct Concat;

impl Materializer for Concat {
    type PageFrag = String;
    type Recovery = String;
    fn new(_: &Option<String>) -> Self {
        Concat
    }
    fn merge(&self, frags: &[&String]) -> String {
        frags.iter().map(|frag| frag.as_str()).collect()
    }
    fn recover(&self, frag: &String) -> Option<String> {
        frag.starts_with("root").then(|| frag.clone())
    }
}

fn small(storage: &MemoryStorage) -> ConfigBuilder {
    ConfigBuilder::new().storage(storage.clone()).segment_size(64 << 10).background(Background::Caller)
}

fn text(pc: &PageCache<Concat>, id: PageId, guard: &Guard) -> String {
    pc.get(id, guard).unwrap().0.clone()
}

#[test]
fn pages_survive_a_restart_with_their_fragments_and_versions() {
    let storage = MemoryStorage::new();
    let mut expected = Vec::new();
    {
        let pc = PageCache::<Concat>::start(small(&storage).build()).unwrap();
        let guard = pc.pin();
        for page in 0..300u64 {
            let id = pc.allocate(&guard);
            let mut at = pc.replace_at(id, Version::NONE, format!("<{page}>"), &guard).unwrap();
            let mut content = format!("<{page}>");
            for link in 0..page % 90 {
                let frag = format!(".{link}");
                content.push_str(&frag);
                at = pc.link_at(id, at, frag, &guard).unwrap();
                if link % 7 == 0 {
                    assert_eq!(text(&pc, id, &guard), content);
                }
            }
            if page % 5 == 0 {
                pc.free_at(id, at, &guard).unwrap();
            } else {
                expected.push((id, content, at));
            }
        }
        drop(guard);
        pc.close().unwrap();
    }
    for read_only in [true, false, false] {
        let pc = PageCache::<Concat>::start(small(&storage).read_only(read_only).build()).unwrap();
        let guard = pc.pin();
        assert_eq!(pc.page_ids().map(Result::unwrap).count(), expected.len());
        assert_eq!(pc.page_count().unwrap(), expected.len() as u64);
        for (id, content, at) in &expected {
            assert_eq!(pc.state(*id, &guard).unwrap(), PageState::Live(*at));
            let (page, token) = pc.get(*id, &guard).unwrap();
            assert_eq!(page, *content);
            assert_eq!(version(token), *at);
        }
        assert!(matches!(pc.state(PageId(0), &guard).unwrap(), PageState::Free(_)));
        drop(guard);
        pc.close().unwrap();
    }
}

#[test]
fn a_stale_token_gets_the_current_page_and_its_own_fragment_back() {
    let pc = PageCache::<Concat>::start(small(&MemoryStorage::new()).build()).unwrap();
    let guard = pc.pin();
    let id = pc.allocate(&guard);
    let old = pc.replace(id, Shared::null(), "a".into(), &guard).unwrap();
    let new = pc.link(id, old, "b".into(), &guard).unwrap();
    match pc.link(id, old, "mine".into(), &guard) {
        Err(Rejected::Conflict { current, token, rejected, .. }) => {
            assert_eq!(current, "ab".to_owned());
            assert_eq!(token, new);
            assert_eq!(rejected, "mine");
            pc.link(id, token, rejected, &guard).unwrap();
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(text(&pc, id, &guard), "abmine");
    assert!(matches!(pc.replace(id, Shared::null(), "x".into(), &guard), Err(Rejected::Conflict { .. })));
    assert!(matches!(pc.free(id, old, &guard), Err(Rejected::Conflict { .. })));
}

#[test]
fn a_page_that_holds_no_data_says_what_it_is() {
    let pc = PageCache::<Concat>::start(small(&MemoryStorage::new()).build()).unwrap();
    let guard = pc.pin();
    let state = |id| match pc.get(id, &guard) {
        Err(Error::NoPage { state, .. }) => state,
        other => panic!("{other:?}"),
    };
    assert_eq!(state(PageId(0)), PageState::Unallocated);
    assert_eq!(state(PageId(u64::MAX)), PageState::Unallocated);
    let id = pc.allocate(&guard);
    assert_eq!(state(id), PageState::Empty);
    let at = pc.link_at(id, Version::NONE, "x".into(), &guard).unwrap();
    let freed = pc.free_at(id, at, &guard).unwrap();
    assert_eq!(state(id), PageState::Free(freed));
    assert!(matches!(
        pc.free_at(id, at, &guard).map_err(Error::from),
        Err(Error::NoPage { state: PageState::Free(_), .. })
    ));
    assert!(matches!(pc.link_at(id, at, "y".into(), &guard).map_err(Error::from), Err(Error::NoPage { .. })));
    let next = pc.allocate(&guard);
    assert_ne!(next, id, "its free is not durable yet");
    pc.flush().unwrap();
    assert_eq!(pc.allocate(&guard), id);
    assert_eq!(state(id), PageState::Empty);
    assert!(pc.link_at(id, Version::NONE, "z".into(), &guard).unwrap() > freed);
}

#[test]
fn forged_tokens_are_conflicts_or_states_never_undefined_behaviour() {
    let other = PageCache::<Concat>::start(small(&MemoryStorage::new()).build()).unwrap();
    let pc = PageCache::<Concat>::start(small(&MemoryStorage::new()).build()).unwrap();
    let guard = pc.pin();
    let (one, two) = (pc.allocate(&guard), pc.allocate(&guard));
    pc.replace(one, Shared::null(), "one".into(), &guard).unwrap();
    let of_two = pc.replace(two, Shared::null(), "two".into(), &guard).unwrap();
    let foreign_id = other.allocate(&guard);
    other.replace(foreign_id, Shared::null(), "x".repeat(5000), &guard).unwrap();
    let foreign =
        other.link_at(foreign_id, version(other.get(foreign_id, &guard).unwrap().1), "y".into(), &guard).unwrap();
    let real = Box::new(0u64);
    let mut tokens = vec![of_two.as_raw().addr(), foreign.0 as usize, &raw const *real as usize, usize::MAX & !7, 8];
    let mut seed = 1usize;
    tokens.extend((0..2000).map(|_| {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        seed & !7
    }));
    let current = version(pc.get(one, &guard).unwrap().1);
    for address in tokens.into_iter().filter(|address| *address as u64 != current.0) {
        let forged = Shared::from(std::ptr::without_provenance(address)).with_tag(address >> 5 & 7);
        assert!(matches!(pc.link(one, forged, "!".into(), &guard), Err(Rejected::Conflict { .. })));
        assert!(matches!(pc.replace(one, forged, "!".into(), &guard), Err(Rejected::Conflict { .. })));
        assert!(matches!(pc.free(one, forged, &guard), Err(Rejected::Conflict { .. })));
        let unknown = pc.link(PageId(address as u64), forged, "!".into(), &guard).map_err(Error::from);
        assert!(matches!(unknown, Err(Error::NoPage { .. } | Error::Conflict { .. })), "{unknown:?}");
    }
    assert_eq!(text(&pc, one, &guard), "one");
    assert_eq!(text(&pc, two, &guard), "two");
}

#[test]
fn foreign_and_unprotected_guards_are_refused() {
    let pc = PageCache::<Concat>::start(small(&MemoryStorage::new()).build()).unwrap();
    let foreign = Collector::new().register().pin();
    let id = pc.allocate(&foreign);
    assert!(matches!(pc.get(id, &foreign), Err(Error::ForeignGuard)));
    assert!(matches!(pc.link(id, Shared::null(), "x".into(), &foreign).map_err(Error::from), Err(Error::ForeignGuard)));
    // SAFETY: the guard is refused before anything is done under it; that is the claim.
    let unprotected = unsafe { pagecache::crossbeam_epoch::unprotected() };
    assert!(matches!(pc.get(id, unprotected), Err(Error::ForeignGuard)));
    let own = Collector::new();
    let pc = PageCache::<Concat>::start(small(&MemoryStorage::new()).collector(own.clone()).build()).unwrap();
    let guard = pc.pin();
    let id = pc.allocate(&guard);
    pc.link(id, Shared::null(), "x".into(), &guard).unwrap();
    assert_eq!(text(&pc, id, &guard), "x");
}

#[test]
fn a_page_that_is_more_than_the_cache_holds_is_read_and_changed_all_the_same() {
    let storage = MemoryStorage::new();
    let config = || small(&storage).cache_capacity(64 << 10).build();
    let big = "x".repeat(100_000);
    let id = {
        let pc = PageCache::<Concat>::start(config()).unwrap();
        let guard = pc.pin();
        let id = pc.allocate(&guard);
        pc.replace(id, Shared::null(), big.clone(), &guard).unwrap();
        id
    };
    let pc = PageCache::<Concat>::start(config()).unwrap();
    let fits = || assert!(pc.stats().resident_bytes <= 64 << 10, "{}", pc.stats().resident_bytes);
    let guard = pc.pin();
    let token = {
        let (page, token) = pc.get(id, &guard).unwrap();
        assert_eq!(page, big);
        token
    };
    fits();
    let linked = pc.link(id, token, "+".into(), &guard).unwrap();
    fits();
    assert!(matches!(pc.link(id, token, "-".into(), &guard), Err(Rejected::Conflict { .. })));
    fits();
    let frags = pc.fragments(id, &guard).unwrap().0;
    assert_eq!(frags.iter().map(String::len).sum::<usize>(), 100_001);
    fits();
    let replaced = pc.replace(id, linked, big.clone(), &guard).unwrap();
    fits();
    pc.free(id, replaced, &guard).unwrap();
    assert_eq!(pc.stats().resident_bytes, 0);
}

#[test]
fn the_cache_keeps_its_bytes_under_the_capacity_and_loses_no_page() {
    let storage = MemoryStorage::new();
    let config = small(&storage).cache_capacity(256 << 10).segment_size(1 << 20);
    let pc = PageCache::<Concat>::start(config.build()).unwrap();
    let mut ids = Vec::new();
    for page in 0..4000u64 {
        let guard = pc.pin();
        let id = pc.allocate(&guard);
        let at = pc.replace_at(id, Version::NONE, format!("{page:0500}"), &guard).unwrap();
        pc.link_at(id, at, "+".into(), &guard).unwrap();
        ids.push(id);
        assert!(pc.stats().resident_bytes <= 256 << 10, "{}", pc.stats().resident_bytes);
    }
    for (page, id) in ids.iter().enumerate().rev() {
        let guard = pc.pin();
        assert_eq!(text(&pc, *id, &guard), format!("{page:0500}+"));
        assert!(pc.stats().resident_bytes <= 256 << 10);
    }
}

#[test]
fn no_page_has_more_than_64_pieces_on_disk() {
    let storage = MemoryStorage::new();
    let pc = PageCache::<Concat>::start(small(&storage).build()).unwrap();
    let guard = pc.pin();
    let id = pc.allocate(&guard);
    let mut at = Version::NONE;
    for link in 0..1000 {
        at = pc.link_at(id, at, format!("{link},"), &guard).unwrap();
    }
    let expected: String = (0..1000).map(|link| format!("{link},")).collect();
    drop(guard);
    pc.close().unwrap();
    let pc = PageCache::<Concat>::start(small(&storage).build()).unwrap();
    let guard = pc.pin();
    let (fragments, _) = pc.fragments(id, &guard).unwrap();
    assert!((2..=64).contains(&fragments.count()), "{}", fragments.count());
    let unmerged: Vec<_> = fragments.iter().cloned().collect();
    assert_eq!(unmerged.iter().rev().map(String::as_str).collect::<String>(), expected);
    assert_eq!(text(&pc, id, &guard), expected);
}

#[test]
fn recover_sees_every_fragment_in_order_and_the_last_some_wins() {
    let storage = MemoryStorage::new();
    let pc = PageCache::<Concat>::start(small(&storage).build()).unwrap();
    assert_eq!(pc.recovered_state(), None);
    let guard = pc.pin();
    for name in ["x", "root1", "y", "root2", "z"] {
        let id = pc.allocate(&guard);
        pc.replace_at(id, Version::NONE, name.into(), &guard).unwrap();
    }
    let long = pc.allocate(&guard);
    pc.replace_at(long, Version::NONE, format!("root3{}", "x".repeat(200_000)), &guard).unwrap();
    drop(guard);
    pc.close().unwrap();
    let pc = PageCache::<Concat>::start(small(&storage).build()).unwrap();
    assert_eq!(pc.recovered_state().unwrap().len(), 200_005);
    let guard = pc.pin();
    assert_eq!(text(&pc, long, &guard).len(), 200_005);
}

#[test]
fn many_threads_link_to_the_same_pages_and_nothing_is_lost() {
    let storage = MemoryStorage::new();
    let config = || ConfigBuilder::new().storage(storage.clone()).segment_size(1 << 20).cache_capacity(256 << 10);
    let pc = PageCache::<Concat>::start(config().build()).unwrap();
    let ids: Vec<_> = (0..32).map(|_| pc.allocate(&pc.pin())).collect();
    const EACH: usize = 4000;
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (pc, ids) = (&pc, &ids);
            scope.spawn(move || {
                for link in 0..EACH {
                    let guard = pc.pin();
                    let id = ids[(link * 7 + thread) % ids.len()];
                    let mut frag = format!("{thread}:{link};");
                    let mut key = match pc.get(id, &guard) {
                        Ok((_, key)) => key,
                        Err(Error::NoPage { state: PageState::Empty, .. }) => Shared::null(),
                        Err(error) => panic!("{error}"),
                    };
                    loop {
                        match pc.link(id, key, frag, &guard) {
                            Ok(_) => break,
                            Err(Rejected::Conflict { token, rejected, .. }) => (key, frag) = (token, rejected),
                            Err(other) => panic!("{other:?}"),
                        }
                    }
                }
            });
        }
    });
    let check = |pc: &PageCache<Concat>| {
        let guard = pc.pin();
        let mut seen = [0usize; 4];
        for id in &ids {
            let page = text(pc, *id, &guard);
            let mut last = [-1i64; 4];
            for part in page.split_terminator(';') {
                let (thread, link) = part.split_once(':').unwrap();
                let (thread, link): (usize, i64) = (thread.parse().unwrap(), link.parse().unwrap());
                assert!(link > last[thread], "out of order");
                last[thread] = link;
                seen[thread] += 1;
            }
        }
        assert_eq!(seen, [EACH; 4]);
    };
    check(&pc);
    pc.close().unwrap();
    check(&PageCache::<Concat>::start(config().build()).unwrap());
}

/// A page with a layout of its own.
struct Fixed(PageBytes);

impl Fragment for Fixed {
    fn as_bytes(&self) -> Option<&[u8]> {
        Some(&self.0)
    }
    fn encode(&self, _: &mut Vec<u8>) -> Result<(), String> {
        Err("never encoded".into())
    }
    fn decode(bytes: PageBytes) -> Result<Self, String> {
        Ok(Fixed(bytes))
    }
    fn heap_size(&self) -> usize {
        self.0.heap_size()
    }
}

struct FixedPages;
static MERGES: AtomicU64 = AtomicU64::new(0);

impl Materializer for FixedPages {
    type PageFrag = Fixed;
    type Recovery = ();
    const RECOVERS: bool = false;
    fn new(_: &Option<()>) -> Self {
        FixedPages
    }
    fn merge(&self, frags: &[&Fixed]) -> Fixed {
        MERGES.fetch_add(1, Ordering::Relaxed);
        Fixed(frags.last().map(|frag| frag.0.clone()).unwrap_or_default())
    }
    fn recover(&self, _: &Fixed) -> Option<()> {
        None
    }
}

#[test]
fn a_layout_of_ones_own_is_stored_and_read_in_place_aligned() {
    let storage = MemoryStorage::new();
    let config = || ConfigBuilder::new().storage(storage.clone());
    let pc = PageCache::<FixedPages>::start(config().build()).unwrap();
    let guard = pc.pin();
    let mut ids = Vec::new();
    for len in [16 << 10, 1, 100, 8 << 20] {
        let mut page = PageBytes::zeroed(len);
        page.as_mut_slice().iter_mut().enumerate().for_each(|(at, byte)| *byte = (at * 7) as u8);
        let id = pc.allocate(&guard);
        pc.link_at(id, Version::NONE, Fixed(page), &guard).unwrap();
        ids.push((id, len));
    }
    drop(guard);
    pc.close().unwrap();
    let pc = PageCache::<FixedPages>::start(config().build()).unwrap();
    let guard = pc.pin();
    for (id, len) in ids {
        let (page, _) = pc.get(id, &guard).unwrap();
        assert!(page.is_borrowed());
        assert_eq!(page.0.len(), len);
        assert!(page.0.as_ptr().addr().is_multiple_of(8), "{len}");
        assert!(page.0.iter().enumerate().all(|(at, byte)| *byte == (at * 7) as u8));
    }
    assert_eq!(MERGES.load(Ordering::Relaxed), 0);
}

#[test]
fn user_code_that_panics_ends_its_operation_only() {
    struct Touchy;
    impl Materializer for Touchy {
        type PageFrag = String;
        type Recovery = ();
        fn new(_: &Option<()>) -> Self {
            Touchy
        }
        fn merge(&self, frags: &[&String]) -> String {
            assert!(!frags.iter().any(|frag| frag.contains("bomb")), "planted");
            frags.iter().map(|frag| frag.as_str()).collect()
        }
        fn recover(&self, _: &String) -> Option<()> {
            None
        }
    }
    let storage = MemoryStorage::new();
    let pc = Arc::new(PageCache::<Touchy>::start(small(&storage).build()).unwrap());
    let guard = pc.pin();
    let (bad, good) = (pc.allocate(&guard), pc.allocate(&guard));
    let at = pc.link_at(bad, Version::NONE, "a".into(), &guard).unwrap();
    let at = pc.link_at(bad, at, "bomb".into(), &guard).unwrap();
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| pc.get(bad, &guard).map(|_| ()))).is_err();
    assert!(panicked);
    pc.link_at(good, Version::NONE, "fine".into(), &guard).unwrap();
    assert_eq!(*pc.get(good, &guard).unwrap().0, "fine");
    pc.replace_at(bad, at, "mended".into(), &guard).unwrap();
    assert_eq!(*pc.get(bad, &guard).unwrap().0, "mended");
    assert!(pc.flush().unwrap() > Lsn(at.0));
}

/// A fragment that answers with more bytes each time it is asked once overran the ring: the frame and the copy asked apart.
#[test]
fn bytes_that_change_their_length_between_questions_harm_nobody() {
    struct Shifty(Vec<u8>, AtomicU64);
    impl Fragment for Shifty {
        fn as_bytes(&self) -> Option<&[u8]> {
            let asked = self.1.fetch_add(1, Ordering::Relaxed) as usize;
            self.0.get(..(asked * 4099 + 16).min(self.0.len()))
        }
        fn encode(&self, _: &mut Vec<u8>) -> Result<(), String> {
            Err("it has bytes".into())
        }
        fn decode(bytes: PageBytes) -> Result<Self, String> {
            Ok(Shifty(bytes.to_vec(), AtomicU64::new(1 << 20)))
        }
        fn heap_size(&self) -> usize {
            self.0.len()
        }
    }
    struct Pages;
    impl Materializer for Pages {
        type PageFrag = Shifty;
        type Recovery = ();
        fn new(_: &Option<()>) -> Self {
            Pages
        }
        fn merge(&self, frags: &[&Shifty]) -> Shifty {
            Shifty(frags.last().map(|frag| frag.0.clone()).unwrap_or_default(), AtomicU64::new(0))
        }
        fn recover(&self, _: &Shifty) -> Option<()> {
            None
        }
    }
    let storage = MemoryStorage::new();
    let pc = PageCache::<Pages>::start(small(&storage).build()).unwrap();
    let guard = pc.pin();
    for asked in 0..12 {
        let id = pc.allocate(&guard);
        // Some fit when they are measured and not when they are written: refused, nothing else.
        let _ = pc.link_at(id, Version::NONE, Shifty(vec![asked as u8; 100_000], AtomicU64::new(asked)), &guard);
        let fine = pc.allocate(&guard);
        pc.link_at(fine, Version::NONE, Shifty(vec![7; 10], AtomicU64::new(1 << 20)), &guard).unwrap();
    }
    drop(guard);
    pc.close().unwrap();
    PageCache::<Pages>::start(small(&storage).build()).unwrap().close().unwrap();
}

#[test]
fn reads_never_flush() {
    let storage = MemoryStorage::new();
    let pc =
        PageCache::<Concat>::start(small(&storage).segment_size(4 << 20).cache_capacity(64 << 10).build()).unwrap();
    let guard = pc.pin();
    let mut ids = Vec::new();
    for _ in 0..400 {
        let id = pc.allocate(&guard);
        let at = pc.replace_at(id, Version::NONE, "x".repeat(500), &guard).unwrap();
        ids.push((id, at));
    }
    pc.flush().unwrap();
    for (id, at) in ids.iter().take(20) {
        let at = pc.link_at(*id, *at, "y".into(), &guard).unwrap();
        pc.link_at(*id, at, "z".into(), &guard).unwrap();
    }
    let stable = pc.stable_lsn();
    for _ in 0..2 {
        for (id, _) in &ids {
            pc.get(*id, &guard).unwrap();
        }
    }
    assert_eq!(pc.stable_lsn(), stable);
}

#[test]
fn files_that_only_look_like_ours_are_left_alone() {
    let dir = std::env::temp_dir().join(format!("pagecache-foreign-{}", std::process::id()));
    let config = || ConfigBuilder::new().path(&dir).segment_size(64 << 10);
    PageCache::<Concat>::start(config().build()).unwrap().close().unwrap();
    std::fs::write(dir.join("tmp-notes.txt"), b"mine").unwrap();
    std::fs::create_dir(dir.join("tmp-dir")).unwrap();
    PageCache::<Concat>::start(config().build()).unwrap().close().unwrap();
    assert_eq!(std::fs::read(dir.join("tmp-notes.txt")).unwrap(), b"mine");
    std::fs::remove_dir_all(&dir).unwrap();
}
