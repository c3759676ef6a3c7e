//! What a store holds in memory: everything is counted, the sum stays under `cache_capacity`, and what guards keep is told.
#![cfg(not(loom))]

mod common;

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use common::{Bytes, Joined};
use pagecache::crossbeam_epoch::Collector;
use pagecache::storage::MemoryStorage;
use pagecache::{Background, ConfigBuilder, Error, Fragment, Materializer, PageBytes, PageCache, PageId, Version};

type Pages = PageCache<Joined>;

fn config(storage: &MemoryStorage, capacity: u64) -> ConfigBuilder {
    let builder = ConfigBuilder::new().storage(storage.clone()).segment_size(256 << 10).log_limit(2 << 20);
    let builder = builder.background(Background::Caller).flush_every_ms(None).cache_capacity(capacity);
    // One of its own: what other tests hold is not waited for.
    builder.collector(Collector::new())
}

/// So many pages of so many bytes.
fn fill(pages: &Pages, count: u64, len: usize) -> Vec<(PageId, Version)> {
    let one = |number: u64| {
        let guard = pages.pin();
        let id = pages.allocate(&guard);
        let at = pages.replace_at(id, Version::NONE, Bytes(vec![number as u8; len]), &guard).unwrap();
        drop(guard);
        if number.is_multiple_of(500) {
            pages.tick().unwrap();
        }
        (id, at)
    };
    (0..count).map(one).collect()
}

#[test]
fn everything_together_stays_under_the_capacity_whatever_the_pages_leave() {
    const CAPACITY: u64 = 8 << 20;
    let storage = MemoryStorage::new();
    let pages = Pages::start(config(&storage, CAPACITY).build()).unwrap();
    // The table alone grows to a quarter of it.
    let mut at = fill(&pages, 200_000, 60);
    let mut most = 0;
    let mut seed = 5u64;
    for number in 0..100_000u64 {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let nth = (seed >> 33) as usize % at.len();
        let (id, version) = &mut at[nth];
        let guard = pages.pin();
        match number % 4 {
            0 => drop(pages.get(*id, &guard).unwrap()),
            1 => *version = pages.replace_at(*id, *version, Bytes(vec![7; 100]), &guard).unwrap(),
            _ => *version = pages.link_at(*id, *version, Bytes(vec![7; 20]), &guard).unwrap(),
        }
        drop(guard);
        if number % 500 == 0 {
            pages.tick().unwrap();
        }
        if number % 50 == 0 {
            let memory = pages.stats().memory;
            most = most.max(memory.total());
            assert!(memory.total() <= CAPACITY, "{memory:?}");
        }
    }
    let memory = pages.stats().memory;
    println!("{most} bytes at most of {CAPACITY}: {memory:?}");
    assert!(memory.map >= 200_000 * 8 && memory.pages > CAPACITY / 4, "{memory:?}");
    assert!(memory.log == 256 << 10 && memory.segments > 0 && memory.buffers > 0, "{memory:?}");
    pages.check_accounts().unwrap();
    // Lists of where pages in several records are count after a start, too: nothing else of them is in memory.
    pages.flush().unwrap();
    pages.close().unwrap();
    let pages = Pages::start(config(&storage, CAPACITY).build()).unwrap();
    pages.check_accounts().unwrap();
    let memory = pages.stats().memory;
    assert!(memory.pages > 10_000 && memory.total() <= CAPACITY, "{memory:?}");
}

#[test]
fn a_budget_smaller_than_a_page_serves_it_all_the_same() {
    let storage = MemoryStorage::new();
    let pages = Pages::start(config(&storage, 64 << 10).build()).unwrap();
    let at = fill(&pages, 10, 200_000);
    for (id, _) in &at {
        assert_eq!(pages.get(*id, &pages.pin()).unwrap().0.0.len(), 200_000);
    }
    assert!(pages.stats().memory.pages <= 64 << 10);
    pages.check_accounts().unwrap();
}

#[test]
fn runs_of_unused_ids_count_when_their_leaves_are_read() {
    const PAGES: u64 = 100_000;
    let storage = MemoryStorage::new();
    let pages = Pages::start(config(&storage, 64 << 20).build()).unwrap();
    for (id, version) in fill(&pages, PAGES, 10).into_iter().step_by(2) {
        pages.free_at(id, version, &pages.pin()).unwrap();
    }
    pages.checkpoint().unwrap();
    pages.close().unwrap();
    let pages = Pages::start(config(&storage, 64 << 20).build()).unwrap();
    let before = pages.stats().memory.map;
    pages.clean().unwrap();
    let with_leaves = pages.stats().memory.map;
    // Every second id is a run of its own, of 16 bytes.
    assert!(with_leaves >= before + PAGES / 2 * 16, "{before}, {with_leaves}");
    for _ in 0..PAGES / 2 {
        pages.allocate(&pages.pin());
    }
    let taken = pages.stats().memory.map;
    assert!(taken <= with_leaves - PAGES / 2 * 16, "{with_leaves}, {taken}");
}

/// What is there whatever the budget is: the ring, the first stretch of the table, and a quarter of the budget for pages.
#[test]
fn a_budget_smaller_than_what_is_there_anyway_goes_beyond_it_by_no_more_than_that() {
    const CAPACITY: u64 = 64 << 10;
    for segment in [64 << 10, 256 << 10, 8 << 20] {
        let config = config(&MemoryStorage::new(), CAPACITY).segment_size(segment).log_limit(1 << 20);
        let pages = Pages::start(config.build()).unwrap();
        let empty = pages.stats().memory;
        let ring = segment.min(8 << 20);
        assert_eq!(empty.log, ring, "{empty:?}");
        assert!(empty.total() <= ring + (4 << 10), "{empty:?}");
        let mut at = fill(&pages, 500, 1000);
        let mut most = 0;
        for round in 0..20 {
            for (id, version) in &mut at {
                *version = pages.replace_at(*id, *version, Bytes(vec![round; 1000]), &pages.pin()).unwrap();
                let memory = pages.stats().memory;
                assert!(memory.pages <= CAPACITY / 4 + 2000, "{memory:?}");
                most = most.max(memory.total() - memory.buffers);
            }
            pages.tick().unwrap();
        }
        println!("segments of {segment}: {} bytes when empty, {most} at most beside buffers", empty.total());
        // What guards that were just dropped had kept is in the rest.
        assert!(most <= ring + (64 << 10) + CAPACITY / 4 + (32 << 10), "{most}");
        pages.check_accounts().unwrap();
    }
}

#[test]
fn garbage_that_a_guard_keeps_is_counted_and_its_holder_named_and_goes_with_it() {
    const CAPACITY: u64 = 8 << 20;
    let pages = Pages::start(config(&MemoryStorage::new(), CAPACITY).build()).unwrap();
    let at = fill(&pages, 100, 10_000);
    for _ in 0..10 {
        pages.tick().unwrap();
    }
    let quiet = pages.stats();
    assert_eq!(quiet.oldest_guard, None);
    let line = line!() + 1;
    let held = pages.pin();
    let (page, _) = pages.get(at[0].0, &held).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut at = at.clone();
            for round in 0..20 {
                for (id, version) in &mut at {
                    let guard = pages.pin();
                    *version = pages.replace_at(*id, *version, Bytes(vec![round; 10_000]), &guard).unwrap();
                }
                pages.tick().unwrap();
            }
            for (id, version) in at {
                pages.free_at(id, version, &pages.pin()).unwrap();
            }
        });
    });
    let stats = pages.stats();
    // 20 times 100 pages of 10,000 bytes: nobody could free one.
    assert!(stats.memory.garbage >= 20_000_000, "{:?}", stats.memory);
    let oldest = stats.oldest_guard.unwrap();
    assert!(oldest.taken_at.contains(&format!("memory.rs:{line}:")), "{oldest:?}");
    assert_eq!(page.0, vec![0; 10_000], "what was seen stays");
    drop(page);
    drop(held);
    for _ in 0..10 {
        pages.tick().unwrap();
    }
    let stats = pages.stats();
    assert_eq!(stats.oldest_guard, None);
    assert!(stats.memory.garbage < 200_000, "{:?}", stats.memory);
    assert!(stats.memory.total() <= CAPACITY);
}

#[test]
fn an_idle_store_with_threads_frees_its_garbage_by_itself() {
    let config = config(&MemoryStorage::new(), 64 << 20).background(Background::Threads);
    let pages = Pages::start(config.build()).unwrap();
    let mut at = fill(&pages, 100, 10_000);
    let held = pages.pin();
    for (id, version) in &mut at {
        *version = pages.replace_at(*id, *version, Bytes(vec![1; 10_000]), &held).unwrap();
    }
    assert!(pages.stats().memory.garbage >= 900_000);
    drop(held);
    let until = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while pages.stats().memory.garbage > 100_000 {
        assert!(std::time::Instant::now() < until, "{:?}", pages.stats().memory);
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

#[test]
fn who_reads_much_under_one_guard_holds_no_more_than_the_capacity() {
    const CAPACITY: u64 = 8 << 20;
    let pages = Pages::start(config(&MemoryStorage::new(), CAPACITY).build()).unwrap();
    let mut at = fill(&pages, 4000, 10_000);
    for (id, version) in &mut at {
        *version = pages.link_at(*id, *version, Bytes(vec![1; 10]), &pages.pin()).unwrap();
    }
    pages.flush().unwrap();
    // What is in memory is folded then: that costs as much again, once.
    for (id, _) in &at {
        pages.get(*id, &pages.pin()).unwrap();
    }
    pages.tick().unwrap();
    let held = pages.pin();
    let mut most = 0;
    for (number, (id, version)) in at.iter().enumerate() {
        let (page, token) = pages.get(*id, &held).unwrap();
        assert_eq!(page.0, [vec![number as u8; 10_000], vec![1; 10]].concat(), "{number}");
        assert_eq!(pagecache::version(token), *version);
        most = most.max(pages.stats().memory.total());
    }
    println!("{most} bytes at most");
    // Five times the capacity was read, and nothing of it could be freed.
    assert!(most <= CAPACITY, "{most}");
    drop(held);
    // Those who read free the garbage by themselves, and then what they read is kept again.
    let kept = at.iter().filter(|(id, _)| pages.get(*id, &pages.pin()).unwrap().0.is_borrowed()).count();
    assert!(kept > 3900, "{kept}");
    assert!(pages.stats().memory.garbage <= 1 << 20, "{:?}", pages.stats().memory);
    pages.check_accounts().unwrap();
}

/// Replaces one page until so many bytes were freed.
fn free_bytes(pages: &Pages, bytes: u64) {
    let (id, mut at) = fill(pages, 1, 10_000)[0];
    for number in 0..bytes / 10_000 {
        at = pages.replace_at(id, at, Bytes(vec![number as u8; 10_000]), &pages.pin()).unwrap();
        if number.is_multiple_of(10) {
            pages.tick().unwrap();
        }
    }
    (0..10).for_each(|_| pages.tick().unwrap());
}

#[test]
fn memory_is_released_once_for_each_sixteenth_of_the_capacity_that_was_freed() {
    static CALLS: AtomicU64 = AtomicU64::new(0);
    let config = config(&MemoryStorage::new(), 32 << 20).release_memory(|| {
        CALLS.fetch_add(1, Ordering::Relaxed);
    });
    let pages = Pages::start(config.build()).unwrap();
    let at = fill(&pages, 100, 10_000);
    for (id, _) in at.iter().cycle().take(10_000) {
        pages.get(*id, &pages.pin()).unwrap();
    }
    pages.tick().unwrap();
    assert_eq!(CALLS.load(Ordering::Relaxed), 0, "nothing was freed");
    free_bytes(&pages, 20 << 20);
    // Of 20 MiB, in lots of 2 and what a tick finds beyond. Copies that were cleaned count, too.
    let calls = CALLS.load(Ordering::Relaxed);
    assert!((7..=14).contains(&calls), "{calls}");
}

/// A page that lies in what was read, and says what the store held for reads meanwhile.
struct Kept(PageBytes);

/// Pages of these.
struct Keeping;

thread_local! {
    /// The store that this thread reads, and the most that it held for reads while a page was decoded.
    static READS: RefCell<Option<(Arc<PageCache<Keeping>>, u64)>> = const { RefCell::new(None) };
}

impl Fragment for Kept {
    fn as_bytes(&self) -> Option<&[u8]> {
        Some(&self.0)
    }
    fn encode(&self, _: &mut Vec<u8>) -> Result<(), String> {
        Err("it lies there as it is".to_owned())
    }
    fn decode(bytes: PageBytes) -> Result<Kept, String> {
        READS.with_borrow_mut(|reads| {
            if let Some((pages, most)) = reads {
                *most = pages.stats().memory.reads.max(*most);
            }
        });
        Ok(Kept(bytes))
    }
    fn heap_size(&self) -> usize {
        self.0.heap_size()
    }
}

impl Materializer for Keeping {
    type PageFrag = Kept;
    type Recovery = ();
    const RECOVERS: bool = false;
    fn new(_: &Option<()>) -> Self {
        Keeping
    }
    fn merge(&self, frags: &[&Kept]) -> Kept {
        let newest = frags[frags.len() - 1];
        let mut bytes = PageBytes::zeroed(newest.0.len());
        bytes.as_mut_slice().copy_from_slice(&newest.0);
        Kept(bytes)
    }
    fn recover(&self, _: &Kept) -> Option<()> {
        None
    }
}

/// Writes pages of these lengths, and reads them in another life of the store; returns how often memory was released behind the reads of each length, a
/// sixteenth of the capacity being a mebibyte.
fn releases_behind_reads<M: Materializer>(
    lens: [(u64, usize); 2],
    page: impl Fn(usize) -> M::PageFrag,
    calls: &'static AtomicU64,
    release: fn(),
    before: impl Fn(&Arc<PageCache<M>>),
) -> [u64; 2] {
    let storage = MemoryStorage::new();
    let pages = PageCache::<M>::start(config(&storage, 16 << 20).build()).unwrap();
    let ids = lens.map(|(count, len)| {
        let one = |_| {
            let guard = pages.pin();
            let id = pages.allocate(&guard);
            pages.replace_at(id, Version::NONE, page(len), &guard).map_err(|refused| refused.error().clone()).unwrap();
            id
        };
        (0..count).map(one).collect::<Vec<_>>()
    });
    pages.close().unwrap();
    let pages = Arc::new(PageCache::<M>::start(config(&storage, 16 << 20).release_memory(release).build()).unwrap());
    before(&pages);
    // What is due behind a start is done first.
    for _ in 0..4 {
        pages.tick().unwrap();
    }
    ids.map(|ids| {
        let so_far = calls.load(Ordering::Relaxed);
        for id in ids {
            pages.get(id, &pages.pin()).unwrap();
            assert_eq!(pages.stats().memory.reads, 0, "what was read is gone, or is the page's");
        }
        pages.tick().unwrap();
        calls.load(Ordering::Relaxed) - so_far
    })
}

/// Pages of a record each, 1.2 MiB of them in all, and a page of many pieces.
const LENS: [(u64, usize); 2] = [(30, 40_000), (1, 1 << 20)];

#[test]
fn what_a_read_has_decoded_counts_as_freed() {
    static CALLS: AtomicU64 = AtomicU64::new(0);
    let release = || _ = CALLS.fetch_add(1, Ordering::Relaxed);
    let calls = releases_behind_reads::<Joined>(LENS, |len| Bytes(vec![7; len]), &CALLS, release, |_| {});
    // All of it stays in memory, so nothing else is freed.
    assert_eq!(calls, [1, 1]);
}

#[test]
fn what_a_page_keeps_of_a_read_is_counted_while_it_is_read_and_not_as_freed() {
    static CALLS: AtomicU64 = AtomicU64::new(0);
    let release = || _ = CALLS.fetch_add(1, Ordering::Relaxed);
    let watch = |pages: &Arc<PageCache<Keeping>>| READS.set(Some((Arc::clone(pages), 0)));
    let calls = releases_behind_reads::<Keeping>(LENS, |len| Kept(PageBytes::zeroed(len)), &CALLS, release, watch);
    let (_, most) = READS.take().unwrap();
    // But for the pieces that the long one was put together from.
    assert_eq!(calls, [0, 1]);
    assert!(((1 << 20)..(3 << 19)).contains(&most), "{most}");
}

#[test]
fn what_a_long_page_was_encoded_to_counts_as_freed() {
    static CALLS: AtomicU64 = AtomicU64::new(0);
    let release = || _ = CALLS.fetch_add(1, Ordering::Relaxed);
    let pages = Pages::start(config(&MemoryStorage::new(), 32 << 20).release_memory(release).build()).unwrap();
    let guard = pages.pin();
    let id = pages.allocate(&guard);
    // A sixteenth is 2 MiB; the page itself stays.
    pages.replace_at(id, Version::NONE, Bytes(vec![7; 3 << 20]), &guard).unwrap();
    drop(guard);
    pages.tick().unwrap();
    assert_eq!(CALLS.load(Ordering::Relaxed), 1);
}

#[test]
fn a_store_with_threads_releases_memory_in_one_of_its_own_and_survives_a_panic_of_it() {
    static CALLS: AtomicU64 = AtomicU64::new(0);
    static ELSEWHERE: AtomicU64 = AtomicU64::new(0);
    let config = config(&MemoryStorage::new(), 1 << 20).background(Background::Threads).release_memory(|| {
        CALLS.fetch_add(1, Ordering::Relaxed);
        if std::thread::current().name() != Some("pagecache-free") {
            ELSEWHERE.fetch_add(1, Ordering::Relaxed);
        }
        panic!("a user's");
    });
    let pages = Pages::start(config.build()).unwrap();
    let until = std::time::Instant::now() + std::time::Duration::from_secs(60);
    let (id, mut at) = fill(&pages, 1, 10_000)[0];
    while CALLS.load(Ordering::Relaxed) < 3 {
        assert!(std::time::Instant::now() < until);
        at = pages.replace_at(id, at, Bytes(vec![1; 10_000]), &pages.pin()).unwrap();
    }
    assert_eq!(ELSEWHERE.load(Ordering::Relaxed), 0);
    pages.flush().unwrap();
    pages.close().unwrap();
}

#[test]
fn a_release_that_takes_long_is_followed_by_a_rest() {
    use std::sync::Mutex;
    use std::time::{Duration, Instant};
    static CALLS: Mutex<Vec<(Instant, Instant)>> = Mutex::new(Vec::new());
    let config = config(&MemoryStorage::new(), 1 << 20).background(Background::Threads).release_memory(|| {
        let begun = Instant::now();
        std::thread::sleep(Duration::from_millis(60));
        CALLS.lock().unwrap().push((begun, Instant::now()));
    });
    let pages = Pages::start(config.build()).unwrap();
    let until = Instant::now() + Duration::from_secs(60);
    let (id, mut at) = fill(&pages, 1, 10_000)[0];
    while CALLS.lock().unwrap().len() < 4 {
        assert!(Instant::now() < until);
        at = pages.replace_at(id, at, Bytes(vec![1; 10_000]), &pages.pin()).unwrap();
    }
    for pair in CALLS.lock().unwrap().windows(2) {
        assert!(pair[1].0 - pair[0].1 >= 4 * Duration::from_millis(59), "{pair:?}");
    }
    // Nobody waits for the rest to be over.
    pages.close().unwrap();
}

#[test]
fn garbage_that_a_guard_keeps_drives_no_pages_out() {
    let pages = Pages::start(config(&MemoryStorage::new(), 16 << 20).build()).unwrap();
    let mut at = fill(&pages, 800, 10_000);
    pages.flush().unwrap();
    pages.tick().unwrap();
    let before = pages.stats().memory.pages;
    let held = pages.pin();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (id, version) = &mut at[0];
            for _ in 0..2000 {
                *version = pages.replace_at(*id, *version, Bytes(vec![1; 10_000]), &pages.pin()).unwrap();
            }
        });
    });
    let memory = pages.stats().memory;
    // More than the capacity: without what was evicted for it there would be as much.
    assert!(memory.garbage > 16 << 20 && memory.pages > before / 10 * 9, "{before}: {memory:?}");
    drop(held);
}

#[test]
fn a_store_that_is_only_read_releases_memory_at_a_tick() {
    static CALLS: AtomicU64 = AtomicU64::new(0);
    let storage = MemoryStorage::new();
    let pages = Pages::start(config(&storage, 8 << 20).build()).unwrap();
    let at = fill(&pages, 2000, 10_000);
    pages.close().unwrap();
    let config = config(&storage, 8 << 20).read_only(true).release_memory(|| {
        CALLS.fetch_add(1, Ordering::Relaxed);
    });
    let pages = Pages::start(config.build()).unwrap();
    for (id, _) in &at {
        pages.get(*id, &pages.pin()).unwrap();
    }
    assert!(matches!(pages.tick(), Err(Error::ReadOnly)));
    assert_eq!(CALLS.load(Ordering::Relaxed), 1);
}

/// Bytes of buffers behind a turn of cleaning that moves nearly a mebibyte, and behind a tick with nothing to do.
fn buffers_of_a_turn(capacity: u64) -> [u64; 2] {
    let pages = Pages::start(config(&MemoryStorage::new(), capacity).fill_target(0.95).build()).unwrap();
    let at = fill(&pages, 4000, 2000);
    for (id, version) in at.iter().step_by(2) {
        pages.free_at(*id, *version, &pages.pin()).unwrap();
    }
    let moved = pages.clean().unwrap();
    assert!(moved > 400, "{moved}");
    let behind = pages.stats().memory.buffers;
    // The first may find that something is due.
    for _ in 0..3 {
        pages.tick().unwrap();
    }
    [behind, pages.stats().memory.buffers]
}

#[test]
fn what_a_turn_copies_to_is_kept_for_the_next_and_given_up_where_there_is_none() {
    let [kept, idle] = buffers_of_a_turn(64 << 20);
    let [few, none] = buffers_of_a_turn(8 << 20);
    println!("a large cache: {kept}, then {idle}; a small one: {few}, then {none}");
    // Where a batch is more than a part of the cache nothing is kept: what is left is of streams and the checkpoint.
    assert!(kept >= idle + 400 * 2000 && few.max(none).max(idle) < 400 << 10, "{kept} {idle} {few} {none}");
}
