//! What a read and a page of one's own layout cost in allocations: counted, not believed.
#![cfg(not(loom))]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ops::Range;

use pagecache::crossbeam_epoch::Collector;
use pagecache::storage::{FileStorage, MemoryStorage, Storage};
use pagecache::{Background, ConfigBuilder, Fragment, Materializer, PageBytes, PageCache, PageId, Version, version};

const PAGE: usize = 16 << 10;
const LARGE: usize = 8 << 10;

/// Counts the allocations of the threads that ask for it.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    all: usize,
    /// Of at least 8 KiB.
    large: usize,
    /// The address of the last large one and its length.
    last: (usize, usize),
}

thread_local! {
    static COUNTS: Cell<Option<Counts>> = const { Cell::new(None) };
}

fn note(pointer: *mut u8, len: usize) {
    // A thread past the end of its locals is not counted.
    let _ = COUNTS.try_with(|cell| {
        if let Some(mut counts) = cell.get() {
            counts.all += 1;
            if len >= LARGE {
                counts.large += 1;
                counts.last = (pointer.addr(), len);
            }
            cell.set(Some(counts));
        }
    });
}

// SAFETY: everything is handed to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        let pointer = unsafe { System.alloc(layout) };
        note(pointer, layout.size());
        pointer
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        let pointer = unsafe { System.alloc_zeroed(layout) };
        note(pointer, layout.size());
        pointer
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, len: usize) -> *mut u8 {
        // SAFETY: the caller's promise.
        let pointer = unsafe { System.realloc(old, layout, len) };
        note(pointer, len);
        pointer
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) };
    }
}

fn counted<T>(run: impl FnOnce() -> T) -> (T, Counts) {
    COUNTS.set(Some(Counts::default()));
    let value = run();
    (value, COUNTS.take().unwrap_or_default())
}

/// A page with a fixed layout: it must never be encoded.
struct Fixed(PageBytes);

impl Fragment for Fixed {
    fn as_bytes(&self) -> Option<&[u8]> {
        Some(&self.0)
    }
    fn encode(&self, _: &mut Vec<u8>) -> Result<(), String> {
        panic!("a page with a layout of its own is never encoded")
    }
    fn decode(bytes: PageBytes) -> Result<Self, String> {
        // Taken over, not looked at: nothing is decoded.
        Ok(Fixed(bytes))
    }
    fn heap_size(&self) -> usize {
        self.0.heap_size()
    }
}

struct FixedPages;

impl Materializer for FixedPages {
    type PageFrag = Fixed;
    type Recovery = ();
    const RECOVERS: bool = false;
    fn new(_: &Option<()>) -> Self {
        FixedPages
    }
    fn merge(&self, _: &[&Fixed]) -> Fixed {
        panic!("a page in one piece is never merged")
    }
    fn recover(&self, _: &Fixed) -> Option<()> {
        None
    }
}

struct Concat;

impl Materializer for Concat {
    type PageFrag = String;
    type Recovery = ();
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

fn page(seed: usize) -> Fixed {
    let mut page = PageBytes::zeroed(PAGE);
    page.as_mut_slice().iter_mut().enumerate().for_each(|(at, byte)| *byte = (at * 7 + at / 256 + seed) as u8);
    Fixed(page)
}

fn place(page: &[u8]) -> Range<usize> {
    let start = page.as_ptr().addr();
    start..start + page.len()
}

fn config(storage: &(impl Storage + Clone)) -> ConfigBuilder {
    ConfigBuilder::new().storage(storage.clone()).segment_size(1 << 20).background(Background::Caller)
}

#[test]
fn the_counter_counts() {
    assert_eq!(counted(|| ()).1, Counts::default());
    let (made, counts) = counted(|| (Box::new(1u8), vec![1u8; LARGE]));
    assert_eq!((counts.all, counts.large, counts.last.1), (2, 1, LARGE));
    assert_eq!(counts.last.0, made.1.as_ptr().addr());
}

#[test]
fn a_get_of_a_resident_page_in_one_piece_allocates_nothing() {
    let pc = PageCache::<Concat>::start(config(&MemoryStorage::new()).build()).unwrap();
    let guard = pc.pin();
    let id = pc.allocate(&guard);
    let mut at = pc.replace_at(id, Version::NONE, "base".into(), &guard).unwrap();
    for turn in 0..100 {
        // The first get may fold; from then on the page is in one piece.
        pc.get(id, &guard).unwrap();
        let ((page, token), counts) = counted(|| pc.get(id, &guard).unwrap());
        assert_eq!(counts, Counts::default(), "turn {turn}");
        assert!(page.is_borrowed() && version(token) == at);
        let (state, counts) = counted(|| pc.state(id, &guard).unwrap());
        assert_eq!((state, counts), (pagecache::PageState::Live(at), Counts::default()));
        at = pc.link_at(id, at, "+".into(), &guard).unwrap();
        let (fragments, counts) =
            counted(|| pc.fragments(id, &guard).unwrap().0.iter().map(String::len).sum::<usize>());
        assert_eq!((fragments, counts), (5 + turn, Counts::default()));
    }
}

#[test]
fn a_page_of_ones_own_layout_is_linked_without_a_buffer_beside_its_node() {
    // All fits the ring: a storage in memory allocates when it is written to.
    let roomy = config(&MemoryStorage::new()).segment_size(8 << 20);
    let pc = PageCache::<FixedPages>::start(roomy.build()).unwrap();
    let guard = pc.pin();
    for turn in 0..50 {
        let id = pc.allocate(&guard);
        let fixed = page(turn);
        let given = place(&fixed.0);
        let (at, counts) = counted(|| pc.link_at(id, Version::NONE, fixed, &guard).unwrap());
        assert_eq!(counts.large, 0, "{counts:?}");
        assert!(counts.all <= 2, "{counts:?}");
        let (now, counts) = counted(|| pc.get(id, &guard).unwrap().0);
        assert_eq!(counts, Counts::default());
        // The very bytes that were given.
        assert_eq!(place(&now.0), given);
        let fixed = page(turn + 1);
        let given = place(&fixed.0);
        let (_, counts) = counted(|| pc.replace_at(id, at, fixed, &guard).unwrap());
        assert_eq!(counts.large, 0, "{counts:?}");
        assert_eq!(place(&pc.get(id, &guard).unwrap().0.0), given);
    }
}

fn paged_in(pc: &PageCache<FixedPages>, ids: &[PageId]) {
    let guard = pc.pin();
    for (seed, id) in ids.iter().enumerate() {
        let ((page_in, _), counts) = counted(|| pc.get(*id, &guard).unwrap());
        assert_eq!(counts.large, 1, "{counts:?}");
        assert!(counts.last.1 >= PAGE && counts.last.1 < PAGE + PAGE / 4 + 64, "{counts:?}");
        assert!(counts.all <= 4, "{counts:?}");
        let (buffer, place) = (counts.last.0..counts.last.0 + counts.last.1, place(&page_in.0));
        assert!(buffer.start <= place.start && place.end <= buffer.end, "{place:?} is not in {buffer:?}");
        assert!(page_in.is_borrowed() && place.start.is_multiple_of(8));
        assert!(page_in.0[..] == page(seed).0[..]);
        let ((again, _), counts) = counted(|| pc.get(*id, &guard).unwrap());
        assert_eq!(counts, Counts::default());
        assert_eq!(again.0.as_ptr(), page_in.0.as_ptr());
    }
}

fn check_page_in(storage: &(impl Storage + Clone)) {
    let pc = PageCache::<FixedPages>::start(config(storage).build()).unwrap();
    let ids: Vec<_> = (0..100)
        .map(|seed| {
            let guard = pc.pin();
            let id = pc.allocate(&guard);
            pc.replace_at(id, Version::NONE, page(seed), &guard).unwrap();
            id
        })
        .collect();
    pc.close().unwrap();
    let pc = PageCache::<FixedPages>::start(config(storage).build()).unwrap();
    paged_in(&pc, &ids);
}

#[test]
fn a_page_in_allocates_one_buffer_and_the_page_points_into_it() {
    check_page_in(&MemoryStorage::new());
}

#[test]
fn so_it_does_from_files() {
    /// A directory that can be opened twice.
    #[derive(Clone, Debug)]
    struct Shared(std::sync::Arc<FileStorage>);
    impl Storage for Shared {
        fn open(
            &self,
            name: &str,
            mode: pagecache::storage::OpenMode,
        ) -> std::io::Result<std::sync::Arc<dyn pagecache::storage::StorageFile>> {
            self.0.open(name, mode)
        }
        fn rename(&self, from: &str, to: &str) -> std::io::Result<()> {
            self.0.rename(from, to)
        }
        fn remove(&self, name: &str) -> std::io::Result<()> {
            self.0.remove(name)
        }
        fn list(&self) -> std::io::Result<Vec<String>> {
            self.0.list()
        }
        fn sync_dir(&self) -> std::io::Result<()> {
            self.0.sync_dir()
        }
        fn lock(&self, mode: pagecache::storage::LockMode) -> std::io::Result<Box<dyn pagecache::storage::LockGuard>> {
            self.0.lock(mode)
        }
        fn describe(&self) -> String {
            self.0.describe()
        }
    }
    let storage = Shared(std::sync::Arc::new(FileStorage::temporary().unwrap()));
    check_page_in(&storage);
    storage.0.destroy().unwrap();
}

#[test]
fn an_evicted_page_comes_back_in_one_buffer_too() {
    let storage = MemoryStorage::new();
    // A collector of its own: what the guards of other tests keep would have pages read without a place in the cache.
    let config = config(&storage).cache_capacity(256 << 10).collector(Collector::new());
    let pc = PageCache::<FixedPages>::start(config.build()).unwrap();
    let ids: Vec<_> = (0..64)
        .map(|seed| {
            let guard = pc.pin();
            let id = pc.allocate(&guard);
            pc.replace_at(id, Version::NONE, page(seed), &guard).unwrap();
            pc.flush().unwrap();
            id
        })
        .collect();
    let mut cold = 0;
    for (seed, id) in ids.iter().enumerate() {
        let guard = pc.pin();
        let ((found, _), counts) = counted(|| pc.get(*id, &guard).unwrap());
        assert!(counts.large <= 1, "{counts:?}");
        cold += counts.large;
        assert!(found.is_borrowed() && found.0[..] == page(seed).0[..]);
    }
    assert!(cold > 32, "{cold} of 64 were cold");
}
