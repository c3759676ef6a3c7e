//! Which pages stay in memory: hot ones through a scan, about those of an exact LRU under a skewed load; and what it takes to know them.
#![cfg(not(loom))]

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap, VecDeque};

use pagecache::crossbeam_epoch::Collector;
use pagecache::storage::MemoryStorage;
use pagecache::{Background, ConfigBuilder, Fragment, Materializer, PageBytes, PageCache, PageId, Version};

thread_local! {
    /// Fragments decoded by this thread: pages that were not in memory when it wanted them.
    static DECODED: Cell<u64> = const { Cell::new(0) };
}

/// So many bytes, the first eight of which say which.
#[derive(Debug)]
struct Bytes(Vec<u8>);

impl Bytes {
    fn new(number: u64, len: usize) -> Bytes {
        let mut bytes = vec![7; len];
        bytes[..8].copy_from_slice(&number.to_le_bytes());
        Bytes(bytes)
    }
}

impl Fragment for Bytes {
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), String> {
        out.extend_from_slice(&self.0);
        Ok(())
    }
    fn decode(bytes: PageBytes) -> Result<Bytes, String> {
        DECODED.set(DECODED.get() + 1);
        Ok(Bytes(bytes.to_vec()))
    }
    fn heap_size(&self) -> usize {
        self.0.capacity()
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
        Bytes(frags.iter().flat_map(|frag| frag.0.iter().copied()).collect())
    }
    fn recover(&self, _: &Bytes) -> Option<()> {
        None
    }
}

type Pages = PageCache<Joined>;

const LEN: usize = 1000;
/// What a page of so many bytes is counted as.
const WEIGHT: u64 = 1008 + 64;

/// What the store holds beside pages, more or less: the ring above all.
const BESIDE: u64 = 5 << 19;

/// Pages of `LEN` bytes in a store that has room for so many of them, all cold.
fn store(pages: u64, room: u64) -> (Pages, Vec<PageId>) {
    let storage = MemoryStorage::new();
    let config = || {
        // A collector of its own: what other tests hold is not waited for.
        let builder = ConfigBuilder::new().storage(storage.clone()).segment_size(1 << 20).collector(Collector::new());
        builder.cache_capacity(room * WEIGHT + BESIDE).background(Background::Caller).build()
    };
    let pc = Pages::start(config()).unwrap();
    let guard = pc.pin();
    let ids = (0..pages).map(|page| {
        let id = pc.allocate(&guard);
        pc.replace_at(id, Version::NONE, Bytes::new(page, LEN), &guard).unwrap();
        id
    });
    let ids = ids.collect();
    drop(guard);
    pc.close().unwrap();
    (Pages::start(config()).unwrap(), ids)
}

/// Reads a page; whether it was in memory.
fn is_hit(pc: &Pages, id: PageId) -> bool {
    let before = DECODED.get();
    pc.get(id, &pc.pin()).unwrap();
    DECODED.get() == before
}

/// splitmix64.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// A hot set of 60 % of the cache, of which each page is read again and again, while 10 times the cache is read once.
#[test]
fn a_hot_set_stays_while_a_scan_goes_by() {
    let room = 2000;
    let hot = room * 6 / 10;
    let (pc, ids) = store(hot + 10 * room, room);
    let (hot, scan) = ids.split_at(hot as usize);
    for round in 0..3 {
        assert_eq!(hot.iter().filter(|id| is_hit(&pc, **id)).count(), if round == 0 { 0 } else { hot.len() });
    }
    let (mut hits, mut reads, mut at) = (0, 0, 0);
    for id in scan {
        assert!(!is_hit(&pc, *id));
        // One read of a hot page for each two of the scan: nine rounds of them in all.
        if at % 2 == 0 {
            hits += u64::from(is_hit(&pc, hot[at / 2 % hot.len()]));
            reads += 1;
        }
        at += 1;
    }
    let before = DECODED.get();
    let stayed = hot.iter().filter(|id| is_hit(&pc, **id)).count();
    println!("{stayed} of {} stayed, {hits} of {reads} reads were hits, {} decoded", hot.len(), DECODED.get() - before);
    assert!(stayed * 10 >= hot.len() * 9, "{stayed} of {} stayed", hot.len());
    assert!(hits * 10 >= reads * 9, "{hits} of {reads} reads were hits");
}

/// Hits of a cache of so many pages that throws out the one that was used longest ago.
fn lru(reads: &[usize], room: usize) -> u64 {
    let (mut used, mut order, mut hits) = (HashMap::new(), BTreeMap::new(), 0);
    for (now, page) in reads.iter().enumerate() {
        if let Some(before) = used.insert(*page, now) {
            order.remove(&before);
            hits += 1;
        }
        order.insert(now, *page);
        if used.len() > room {
            let (_, oldest) = order.pop_first().unwrap();
            used.remove(&oldest);
        }
    }
    hits
}

/// The same for the one that came first.
fn fifo(reads: &[usize], room: usize) -> u64 {
    let (mut held, mut order, mut hits) = (HashMap::new(), VecDeque::new(), 0);
    for page in reads {
        if held.contains_key(page) {
            hits += 1;
            continue;
        }
        held.insert(*page, ());
        order.push_back(*page);
        if held.len() > room {
            held.remove(&order.pop_front().unwrap());
        }
    }
    hits
}

#[test]
fn under_a_skewed_load_hits_are_more_than_with_fifo_and_about_those_of_an_exact_lru() {
    for (skew, share) in [(0.8, 10), (0.99, 10), (0.99, 3), (1.2, 10)] {
        let pages = 20_000;
        let (pc, ids) = store(pages, pages * share / 100);
        let mut sums: Vec<f64> = (1..=pages).map(|rank| (rank as f64).powf(-skew)).collect();
        for at in 1..sums.len() {
            sums[at] += sums[at - 1];
        }
        let (total, mut rng) = (sums[sums.len() - 1], Rng(share));
        // Neighbours in rank are not neighbours in the store.
        let mut draw = || {
            let unit = rng.unit() * total;
            sums.partition_point(|sum| *sum < unit) * 7919 % pages as usize
        };
        let reads: Vec<usize> = (0..400_000).map(|_| draw()).collect();
        let (mut hits, mut most) = (0, 0);
        for page in &reads {
            hits += u64::from(is_hit(&pc, ids[*page]));
            most = most.max(pc.stats().resident_bytes);
        }
        // The others get what this one has used at most.
        let room = most.div_ceil(WEIGHT) as usize;
        let rate = |hits: u64| hits as f64 / reads.len() as f64;
        let (ours, lru, fifo) = (rate(hits), rate(lru(&reads, room)), rate(fifo(&reads, room)));
        println!("zipf {skew}, {room} of {pages} pages: {ours:.4}, LRU {lru:.4}, FIFO {fifo:.4}");
        assert!(ours > fifo, "{ours} of ours, {fifo} of FIFO");
        assert!(ours >= 0.97 * lru, "{ours} of ours, {lru} of LRU");
    }
}
