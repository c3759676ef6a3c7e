//! Odd fragments, ids and tokens: each has its own answer.

use pagecache::crossbeam_epoch::Shared;
use pagecache::storage::MemoryStorage;
use pagecache::{
    Background, ConfigBuilder, Error, Fragment, Materializer, PageBytes, PageCache, PageId, PageState, Rejected,
    Version, version,
};

use crate::harness::{Concat, Texts, within_a_minute};

fn small(storage: &MemoryStorage) -> ConfigBuilder {
    ConfigBuilder::new().storage(storage.clone()).segment_size(64 << 10).background(Background::Caller)
}

fn texts() -> Texts {
    Texts::start(small(&MemoryStorage::new()).build()).unwrap()
}

/// Bytes that are stored as they are.
struct Bytes(PageBytes);

impl Fragment for Bytes {
    fn as_bytes(&self) -> Option<&[u8]> {
        Some(&self.0)
    }
    fn encode(&self, _: &mut Vec<u8>) -> Result<(), String> {
        Err("never asked".into())
    }
    fn decode(bytes: PageBytes) -> Result<Self, String> {
        Ok(Bytes(bytes))
    }
    fn heap_size(&self) -> usize {
        self.0.heap_size()
    }
}

struct Joined;

impl Materializer for Joined {
    type PageFrag = Bytes;
    type Recovery = ();
    const RECOVERS: bool = false;
    fn new(_: &Option<()>) -> Self {
        Joined
    }
    fn merge(&self, frags: &[&Bytes]) -> Bytes {
        let mut joined = PageBytes::zeroed(frags.iter().map(|frag| frag.0.len()).sum());
        let mut rest = joined.as_mut_slice();
        for frag in frags {
            let (now, later) = rest.split_at_mut(frag.0.len());
            now.copy_from_slice(&frag.0);
            rest = later;
        }
        Bytes(joined)
    }
    fn recover(&self, _: &Bytes) -> Option<()> {
        None
    }
}

fn bytes(len: usize, seed: usize) -> Bytes {
    let mut bytes = PageBytes::zeroed(len);
    bytes.as_mut_slice().iter_mut().enumerate().for_each(|(at, byte)| *byte = (at * 31 + at / 256 + seed) as u8);
    Bytes(bytes)
}

#[test]
fn fragments_of_no_bytes_are_fragments() {
    let storage = MemoryStorage::new();
    let pc = PageCache::<Joined>::start(small(&storage).build()).unwrap();
    let guard = pc.pin();
    let (all_empty, one) = (pc.allocate(&guard), pc.allocate(&guard));
    let at = pc.replace_at(all_empty, Version::NONE, bytes(0, 0), &guard).unwrap();
    let empty_at = pc.link_at(all_empty, at, bytes(0, 0), &guard).unwrap();
    let at = pc.link_at(one, Version::NONE, bytes(0, 0), &guard).unwrap();
    let at = pc.link_at(one, at, bytes(5, 3), &guard).unwrap();
    let one_at = pc.link_at(one, at, bytes(0, 0), &guard).unwrap();
    drop(guard);
    pc.close().unwrap();
    let pc = PageCache::<Joined>::start(small(&storage).build()).unwrap();
    let guard = pc.pin();
    let (page, token) = pc.get(all_empty, &guard).unwrap();
    assert!(page.0.is_empty() && version(token) == empty_at);
    assert_eq!(pc.fragments(one, &guard).unwrap().0.count(), 3);
    let (page, token) = pc.get(one, &guard).unwrap();
    assert!(page.0[..] == bytes(5, 3).0[..] && version(token) == one_at);
}

#[test]
fn a_fragment_of_64_mebibytes_is_stored_and_one_byte_more_is_too_large() {
    within_a_minute(|| {
        const MAX: usize = 64 << 20;
        let dir = crate::harness::Dir::new();
        let config = || ConfigBuilder::new().path(dir.store()).build();
        let pc = PageCache::<Joined>::start(config()).unwrap();
        let guard = pc.pin();
        let id = pc.allocate(&guard);
        match pc.replace_at(id, Version::NONE, bytes(MAX + 1, 1), &guard) {
            Err(Rejected::Failed { error: Error::TooLarge { len, max }, rejected }) => {
                assert_eq!((len, max, rejected.0.len()), (MAX as u64 + 1, MAX as u64, MAX + 1));
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(pc.state(id, &guard).unwrap(), PageState::Empty);
        let at = pc.replace_at(id, Version::NONE, bytes(MAX, 1), &guard).unwrap();
        pc.make_stable(at).unwrap();
        drop(guard);
        pc.close().unwrap();
        let pc = PageCache::<Joined>::start(config()).unwrap();
        let guard = pc.pin();
        assert!(pc.get(id, &guard).unwrap().0.0[..] == bytes(MAX, 1).0[..]);
    });
}

#[test]
fn an_update_of_a_page_that_holds_no_data_says_what_the_page_is() {
    let pc = texts();
    let guard = pc.pin();
    let state = |result: Result<Version, Rejected<'_, String>>| match result {
        Err(Rejected::Failed { error: Error::NoPage { page, state }, rejected }) => {
            assert_eq!(rejected, "mine");
            (page, state)
        }
        other => panic!("{other:?}"),
    };
    let free_state = |id, at| match pc.free_at(id, at, &guard) {
        Err(Rejected::Failed { error: Error::NoPage { page, state }, .. }) => (page, state),
        other => panic!("{other:?}"),
    };
    for unknown in [PageId(0), PageId(1 << 39), PageId(1 << 40), PageId(u64::MAX)] {
        let told = (unknown, PageState::Unallocated);
        assert_eq!(state(pc.link_at(unknown, Version::NONE, "mine".into(), &guard)), told);
        assert_eq!(state(pc.replace_at(unknown, Version(4096), "mine".into(), &guard)), told);
        assert_eq!(free_state(unknown, Version::NONE), told);
        assert_eq!(pc.state(unknown, &guard).unwrap(), PageState::Unallocated);
        assert!(matches!(pc.get(unknown, &guard), Err(Error::NoPage { state: PageState::Unallocated, .. })));
        assert!(matches!(pc.fragments(unknown, &guard), Err(Error::NoPage { state: PageState::Unallocated, .. })));
    }
    // Empty: a version that it does not have.
    let id = pc.allocate(&guard);
    assert_eq!(state(pc.link_at(id, Version(4096), "mine".into(), &guard)), (id, PageState::Empty));
    assert_eq!(state(pc.replace_at(id, Version(4096), "mine".into(), &guard)), (id, PageState::Empty));
    assert_eq!(free_state(id, Version(4096)), (id, PageState::Empty));
    // Live: null.
    let at = pc.link_at(id, Version::NONE, "data".into(), &guard).unwrap();
    for rejected in
        [pc.link(id, Shared::null(), "mine".into(), &guard), pc.replace(id, Shared::null(), "mine".into(), &guard)]
    {
        match rejected {
            Err(Rejected::Conflict { current, token, rejected, error: Error::Conflict { page, current: now } }) => {
                assert_eq!((page, now, version(token), &*rejected), (id, at, at, "mine"));
                assert_eq!(current, "data".to_owned());
            }
            other => panic!("{other:?}"),
        }
    }
    match pc.free(id, Shared::null(), &guard) {
        Err(Rejected::Conflict { token, .. }) => assert_eq!(version(token), at),
        other => panic!("{other:?}"),
    }
    // Free: any version, the one it had included.
    let freed = pc.free_at(id, at, &guard).unwrap();
    for old in [Version::NONE, at, freed] {
        assert_eq!(state(pc.link_at(id, old, "mine".into(), &guard)), (id, PageState::Free(freed)));
        assert_eq!(state(pc.replace_at(id, old, "mine".into(), &guard)), (id, PageState::Free(freed)));
        assert_eq!(free_state(id, old), (id, PageState::Free(freed)));
    }
    assert_eq!(pc.page_count().unwrap(), 0);
}

/// Class: freeing an id twice; id free-list ABA (noisepage 399).
#[test]
fn a_page_freed_by_many_at_once_is_freed_once() {
    within_a_minute(|| {
        let pc = Texts::start(ConfigBuilder::new().storage(MemoryStorage::new()).build()).unwrap();
        let mut ids: Vec<_> = (0..200).map(|_| pc.allocate(&pc.pin())).collect();
        let at: Vec<_> = ids.iter().map(|id| pc.link_at(*id, Version::NONE, "x".into(), &pc.pin()).unwrap()).collect();
        let freed = std::sync::atomic::AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for (id, at) in ids.iter().zip(&at) {
                        let guard = pc.pin();
                        if pc.free_at(*id, *at, &guard).is_ok() {
                            freed.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        assert_eq!(freed.into_inner(), 200);
        assert_eq!(pc.page_count().unwrap(), 0);
        pc.flush().unwrap();
        let mut again: Vec<_> = (0..400).map(|_| pc.allocate(&pc.pin())).collect();
        again.sort_unstable();
        again.dedup();
        assert_eq!(again.len(), 400, "an id was handed out twice");
        ids.sort_unstable();
        assert_eq!(again[..200], ids);
    });
}

#[test]
fn an_empty_page_can_be_freed_and_its_id_comes_back() {
    let storage = MemoryStorage::new();
    let pc = Texts::start(small(&storage).build()).unwrap();
    let guard = pc.pin();
    let id = pc.allocate(&guard);
    pc.free(id, Shared::null(), &guard).unwrap();
    assert!(matches!(pc.state(id, &guard).unwrap(), PageState::Free(_)));
    assert_ne!(pc.allocate(&guard), id, "its free is not durable yet");
    pc.flush().unwrap();
    assert_eq!(pc.allocate(&guard), id);
    pc.link_at(id, Version::NONE, "x".into(), &guard).unwrap();
    drop(guard);
    pc.close().unwrap();
    let pc = Texts::start(small(&storage).build()).unwrap();
    assert_eq!(pc.get(id, &pc.pin()).unwrap().0, "x".to_owned());
    assert_eq!(pc.page_ids().map(Result::unwrap).collect::<Vec<_>>(), [id]);
}

#[test]
fn a_store_of_another_fragment_type_says_so_page_by_page() {
    struct Numbers;
    impl Materializer for Numbers {
        type PageFrag = Vec<u64>;
        type Recovery = ();
        const RECOVERS: bool = false;
        fn new(_: &Option<()>) -> Self {
            Numbers
        }
        fn merge(&self, frags: &[&Vec<u64>]) -> Vec<u64> {
            frags.iter().flat_map(|frag| frag.iter().copied()).collect()
        }
        fn recover(&self, _: &Vec<u64>) -> Option<()> {
            None
        }
    }
    let storage = MemoryStorage::new();
    let pc = PageCache::<Concat>::start(small(&storage).build()).unwrap();
    let guard = pc.pin();
    let id = pc.allocate(&guard);
    let at = pc.link_at(id, Version::NONE, "\u{ff}".repeat(7), &guard).unwrap();
    drop(guard);
    pc.close().unwrap();
    let pc = PageCache::<Numbers>::start(small(&storage).build()).unwrap();
    let guard = pc.pin();
    assert!(matches!(pc.get(id, &guard), Err(Error::Decode { page: Some(page), .. }) if page == id));
    match pc.link_at(id, at, vec![7], &guard) {
        Err(Rejected::Failed { error: Error::Decode { page: Some(page), .. }, rejected }) => {
            assert_eq!((page, rejected), (id, vec![7]));
        }
        other => panic!("{other:?}"),
    }
    // The others are none the worse for it, and its bytes are still what they were.
    let new = pc.allocate(&guard);
    pc.link_at(new, Version::NONE, vec![1, 2], &guard).unwrap();
    drop(guard);
    pc.close().unwrap();
    let pc = PageCache::<Concat>::start(small(&storage).build()).unwrap();
    assert_eq!(pc.get(id, &pc.pin()).unwrap().0, "\u{ff}".repeat(7));
}
