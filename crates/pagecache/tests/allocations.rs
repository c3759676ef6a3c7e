//! What a read and a page of one's own layout cost in allocations: counted, not believed.
#![cfg(not(loom))]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::sync::Arc;

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

/// Bytes that a thread has allocated and not freed, less those that it has freed and others allocated; and the most of them.
#[derive(Clone, Copy, Debug, Default)]
struct Net {
    now: isize,
    most: isize,
}

thread_local! {
    static COUNTS: Cell<Option<Counts>> = const { Cell::new(None) };
    static NET: Cell<Option<Net>> = const { Cell::new(None) };
}

/// Takes note of bytes more, or fewer.
fn weigh(bytes: isize) {
    // As below.
    let _ = NET.try_with(|cell| {
        cell.set(cell.get().map(|Net { now, most }| Net { now: now + bytes, most: most.max(now + bytes) }));
    });
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
        weigh(layout.size() as isize);
        pointer
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        let pointer = unsafe { System.alloc_zeroed(layout) };
        note(pointer, layout.size());
        weigh(layout.size() as isize);
        pointer
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, len: usize) -> *mut u8 {
        // SAFETY: the caller's promise.
        let pointer = unsafe { System.realloc(old, layout, len) };
        note(pointer, len);
        weigh(len as isize - layout.size() as isize);
        pointer
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        weigh(-(layout.size() as isize));
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

/// A page that has the store say what it holds, now and then, while cleaning has it encoded or decoded.
struct Told(Vec<u8>);

/// Pages of these.
struct TellingPages;

/// What a store says that it holds, against what the thread that cleans it does.
struct Watch {
    pages: Arc<PageCache<TellingPages>>,
    before: u64,
    looks: u64,
    /// The most that was not counted.
    uncounted: isize,
}

thread_local! {
    static WATCH: RefCell<Option<Watch>> = const { RefCell::new(None) };
}

fn look() {
    WATCH.with_borrow_mut(|watch| {
        let Some(watch) = watch else { return };
        watch.looks += 1;
        if watch.looks.is_multiple_of(512) {
            let held = NET.get().unwrap_or_default().now;
            let counted = watch.pages.stats().memory.total() as isize - watch.before as isize;
            watch.uncounted = watch.uncounted.max(held - counted);
        }
    });
}

impl Fragment for Told {
    fn as_bytes(&self) -> Option<&[u8]> {
        None
    }
    fn encode(&self, to: &mut Vec<u8>) -> Result<(), String> {
        look();
        to.extend_from_slice(&self.0);
        Ok(())
    }
    fn decode(bytes: PageBytes) -> Result<Told, String> {
        look();
        Ok(Told(bytes.to_vec()))
    }
    fn heap_size(&self) -> usize {
        self.0.capacity()
    }
}

impl Materializer for TellingPages {
    type PageFrag = Told;
    type Recovery = ();
    const RECOVERS: bool = false;
    fn new(_: &Option<()>) -> Self {
        TellingPages
    }
    fn merge(&self, frags: &[&Told]) -> Told {
        Told(frags[frags.len() - 1].0.clone())
    }
    fn recover(&self, _: &Told) -> Option<()> {
        None
    }
}

/// Cleans a store that has so many pages of this length in use, and as many that are free. Returns how many were moved, the most that cleaning held, and the
/// most of it that was not counted.
fn cleaned(count: u64, len: usize, capacity: u64) -> (u64, isize, isize) {
    let storage = FileStorage::temporary().unwrap();
    let dir = storage.path().to_owned();
    let config = ConfigBuilder::new().storage(storage).segment_size(1 << 20).background(Background::Caller);
    let config = config.log_limit(256 << 20).fill_target(0.95).flush_every_ms(None).cache_capacity(capacity);
    let pages = Arc::new(PageCache::<TellingPages>::start(config.collector(Collector::new()).build()).unwrap());
    for number in 0..2 * count {
        let guard = pages.pin();
        let id = pages.allocate(&guard);
        let at = pages.replace_at(id, Version::NONE, Told(vec![1; len]), &guard);
        let at = at.map_err(|refused| refused.error().clone()).unwrap();
        if number.is_multiple_of(2) {
            pages.free_at(id, at, &guard).unwrap();
        }
        drop(guard);
        if number.is_multiple_of(500) {
            pages.flush().unwrap();
        }
    }
    pages.checkpoint().unwrap();
    // Lists that grow while pages are moved have grown.
    (0..4).for_each(|_| pages.tick().unwrap());
    let before = pages.stats().memory.total();
    WATCH.set(Some(Watch { pages: Arc::clone(&pages), before, looks: 0, uncounted: 0 }));
    NET.set(Some(Net::default()));
    let moved = pages.clean().unwrap();
    let net = NET.take().unwrap();
    let watch = WATCH.take().unwrap();
    println!(
        "{moved} pages of {len} moved in a cache of {capacity}: {net:?}, {} looks, {} uncounted",
        watch.looks, watch.uncounted
    );
    drop(watch.pages);
    drop(pages);
    std::fs::remove_dir_all(dir).unwrap();
    (moved, net.most, watch.uncounted)
}

/// Class: lists of small pages that no budget counts.
#[test]
fn what_cleaning_holds_of_small_pages_is_bounded_and_counted() {
    for len in [0, 16] {
        // A batch of a small cache is of a mebibyte.
        for capacity in [8 << 20, 256 << 20] {
            let (moved, most, uncounted) = cleaned(100_000, len, capacity);
            assert!(moved > 50_000, "{moved}");
            assert!(uncounted < 1 << 20, "{len}: {uncounted} bytes that nobody counts");
            assert!(most < 16 << 20, "{len}: {most} bytes");
        }
    }
}
