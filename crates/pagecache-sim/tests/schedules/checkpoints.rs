//! Checkpoints that meet updates, page-ins, evictions and a close; and leaves of the map that several want at once. Whatever the
//! schedule, a store opened by its checkpoint is what its whole log says, with everything that was acknowledged.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, OnceLock};

use pagecache::storage::Storage;
use pagecache::{Background, Error, Lsn, PageId, PageState, Version, version};
use pagecache_sim::disk::{Call, Effect, Fault, SimDisk, Survival, When};
use pagecache_sim::linear::player::Words;
use pagecache_sim::page_driver::CAPACITY;
use shuttle::rand::{RngCore, thread_rng};
use shuttle::thread::JoinHandle;

use crate::harness::{Store, chosen, count, join, made, options, scenarios};

/// The files that say where the checkpoint is.
const SUPERBLOCKS: [&str; 2] = ["super-a", "super-b"];

/// What is said of a log whose begin was given back.
const MISSING: &str = "a segment is missing";

/// Ids of a leaf in the smallest segments.
pub const LEAF: u64 = 4;

/// Bytes of a cache that holds all.
pub const ROOMY: u64 = 16 << 20;

/// Bytes of log after which a checkpoint is due, with the lowest limit that there is.
pub const CHECKPOINT_DUE: u64 = 128 << 10;

/// Words of a fragment that is nearly as long as one may be in the ring.
pub const WIDE: usize = 480;

/// What a page was at a version: its words, or nothing where that was its free.
pub type Content = Option<Vec<u64>>;

/// What each page was, at each of its versions.
pub type Past = BTreeMap<PageId, BTreeMap<Version, Content>>;

pub fn note(past: &mut Past, id: PageId, at: Version, content: Content) {
    assert_eq!(past.entry(id).or_default().insert(at, content), None, "{id} at {at} twice");
}

/// The newest version of a page that holds data, and its words.
pub fn newest(past: &Past, id: PageId) -> (Version, Vec<u64>) {
    let (at, content) = past[&id].last_key_value().unwrap();
    (*at, content.clone().unwrap())
}

/// Writes to pages that nobody else writes to, and notes what becomes of them. Not a lock of the kit's door: nobody is switched away
/// inside.
pub struct Author<'a> {
    pub store: &'a Store,
    pub past: &'a Mutex<Past>,
}

impl Author<'_> {
    fn note(&self, id: PageId, at: Version, content: Content) -> Version {
        note(&mut self.past.lock().unwrap(), id, at, content);
        at
    }

    pub fn newest(&self, id: PageId) -> (Version, Vec<u64>) {
        newest(&self.past.lock().unwrap(), id)
    }

    pub fn replace(&self, id: PageId, at: Version, words: Vec<u64>) -> Version {
        let local = self.store.local();
        let guard = local.pin();
        let made = self.store.pages.replace_at(id, at, Words(words.clone()), &guard);
        self.note(id, made.unwrap_or_else(|error| panic!("a replace of {id} failed: {error}")), Some(words))
    }

    pub fn link(&self, id: PageId, word: u64) -> Version {
        let (at, mut words) = self.newest(id);
        words.push(word);
        let local = self.store.local();
        let guard = local.pin();
        let made = self.store.pages.link_at(id, at, Words(vec![word]), &guard);
        self.note(id, made.unwrap_or_else(|error| panic!("a link to {id} failed: {error}")), Some(words))
    }

    pub fn free(&self, id: PageId) -> Version {
        let (at, _) = self.newest(id);
        let local = self.store.local();
        let guard = local.pin();
        let freed = self.store.pages.free_at(id, at, &guard);
        self.note(id, freed.unwrap_or_else(|error| panic!("a free of {id} failed: {error}")), None)
    }

    pub fn make(&self, words: Vec<u64>) -> PageId {
        let id = self.store.pages.allocate(&self.store.local().pin());
        self.replace(id, Version::NONE, words);
        id
    }

    /// One of the updates there are, on one of these pages; a page that is freed gets another in its place.
    pub fn update(&self, own: &mut [PageId], word: u64) {
        let id = &mut own[chosen(own.len() as u64) as usize];
        match chosen(5) {
            0 => {
                self.free(*id);
                *id = self.make(vec![word]);
            }
            1 | 2 => {
                self.replace(*id, self.newest(*id).0, vec![word]);
            }
            _ => {
                self.link(*id, word);
            }
        }
    }
}

/// Six pages in two leaves, some of them as they are since the last checkpoint and some not, if there was one.
fn six_pages(disk: &SimDisk, checkpoint: bool) -> Past {
    let (store, past) = (Store::start(disk), Mutex::default());
    let author = Author { store: &store, past: &past };
    for word in 1..=6 {
        author.make(vec![word]);
    }
    author.link(PageId(4), 40);
    author.free(PageId(2));
    if checkpoint {
        store.pages.checkpoint().unwrap();
    }
    author.link(PageId(1), 10);
    author.free(PageId(3));
    drop(store);
    past.into_inner().unwrap()
}

/// The same pages, found by a checkpoint or by the whole log.
fn six_pages_found(checkpoint: bool) -> (SimDisk, Past) {
    static WITH: OnceLock<(SimDisk, Past)> = OnceLock::new();
    static WITHOUT: OnceLock<(SimDisk, Past)> = OnceLock::new();
    made(if checkpoint { &WITH } else { &WITHOUT }, move |disk| six_pages(disk, checkpoint))
}

/// Each page, with its version and words, or what it is instead.
pub type Found = Vec<Result<(Version, Vec<u64>), PageState>>;

pub fn find(store: &Store) -> Found {
    let local = store.local();
    let guard = local.pin();
    let find = |id| match store.pages.get(PageId(id), &guard) {
        Ok((page, token)) => Ok((version(token), page.0.clone())),
        Err(Error::NoPage { state, .. }) => Err(state),
        Err(error) => panic!("page {id} cannot be read: {error}"),
    };
    (0..store.pages.stats().ids_high_water).map(find).collect()
}

/// A page as a version and what it was then; the first of all versions where it never was anything.
pub fn placed(found: Option<&Result<(Version, Vec<u64>), PageState>>) -> (Version, Content) {
    match found {
        Some(Ok((at, words))) => (*at, Some(words.clone())),
        Some(Err(PageState::Free(at))) => (*at, None),
        _ => (Version::NONE, None),
    }
}

/// What an image says without a checkpoint; none where the log does not go back to its begin any more.
pub fn by_the_whole_log(image: &SimDisk) -> Option<Found> {
    let plain = image.kill();
    for copy in SUPERBLOCKS {
        // Not there where no checkpoint came so far.
        let _ = plain.remove(copy);
    }
    match Store::try_with(options(&plain).read_only(true), &plain) {
        Ok(store) => Some(find(&store)),
        Err(Error::Corrupt(damage)) if damage.what == MISSING => None,
        Err(error) => panic!("the whole log cannot be opened: {error}"),
    }
}

/// Opens an image by its checkpoint and by its whole log: both are the same, and behind everything that was stable.
fn check(image: &SimDisk, stable: Lsn, past: &Past) -> Arc<Store> {
    let whole = by_the_whole_log(image).unwrap_or_else(|| panic!("a segment of the log is gone"));
    let (store, found) = compare(image, stable, past, Some(&whole));
    let redo = store.pages.stats().redo;
    let behind = |at: &Version| *at < Version(redo.0);
    let (before, after): (Vec<_>, Vec<_>) = found.iter().map(|found| placed(Some(found)).0).partition(behind);
    count(
        "openings by a checkpoint that had updates before and behind it",
        (!before.is_empty() && !after.is_empty()).into(),
    );
    store
}

/// Opens an image by its checkpoint: it is what its whole log says, as far as that is known, and behind everything that was stable.
pub fn compare(image: &SimDisk, stable: Lsn, past: &Past, by_the_whole_log: Option<&Found>) -> (Arc<Store>, Found) {
    let store = Store::with(options(image).cache_capacity(ROOMY), image);
    let (found, redo) = (find(&store), store.pages.stats().redo);
    if let Some(whole) = by_the_whole_log {
        assert_eq!(&found, whole, "by the checkpoint at {redo}, and by the whole log");
    }
    for (id, versions) in past {
        let (at, content) = placed(found.get(id.0 as usize));
        let acknowledged = versions.range(..Version(stable.0)).next_back().map_or(Version::NONE, |(at, _)| *at);
        assert!(at >= acknowledged, "{id} is found at {at}, and {acknowledged} was stable");
        let known = versions.get(&at).cloned().unwrap_or_default();
        assert_eq!(content, known, "{id} at {at}");
    }
    (store, found)
}

/// Writes two checkpoints. Where each begins, and everything below what was stable at its end.
fn checkpoints(store: &Arc<Store>) -> JoinHandle<Vec<(Lsn, Lsn)>> {
    store.spawn(|store, _| [(); 2].map(|()| (store.pages.checkpoint().unwrap(), store.pages.stable_lsn())).to_vec())
}

fn count_met(past: &Past, checkpoints: &[(Lsn, Lsn)]) {
    let versions = || past.values().flat_map(BTreeMap::keys);
    let met = |(redo, end): &&(Lsn, Lsn)| versions().any(|at| (Version(redo.0)..Version(end.0)).contains(at));
    count("checkpoints with updates meanwhile", checkpoints.iter().filter(met).count() as u64);
}

pub fn survival() -> Survival {
    [Survival::DropAll, Survival::KeepAll, Survival::Random(thread_rng().next_u64())][chosen(3) as usize]
}

/// A store of six pages, and what they were.
fn game(capacity: u64) -> (SimDisk, Arc<Store>, Arc<Mutex<Past>>) {
    let (disk, past) = six_pages_found(chosen(2) == 0);
    let store = Store::with(options(&disk).cache_capacity(capacity), &disk);
    (disk, store, Arc::new(Mutex::new(past)))
}

fn writer(store: &Arc<Store>, past: &Arc<Mutex<Past>>, own: [u64; 2], name: u64) -> JoinHandle<()> {
    let past = Arc::clone(past);
    store.spawn(move |store, _| {
        let mut own = own.map(PageId);
        let author = Author { store, past: &past };
        (0..3).for_each(|turn| author.update(&mut own, name * 10 + turn));
    })
}

/// The machine stops once all are done; some of it may not be stable then.
fn stop(disk: &SimDisk, store: Arc<Store>, past: &Mutex<Past>) {
    if chosen(2) == 0 {
        store.pages.flush().unwrap();
    }
    let stable = store.pages.stable_lsn();
    let image = disk.crash(survival());
    drop(store);
    check(&image, stable, &past.lock().unwrap());
}

/// Two write to pages of the same two leaves while two checkpoints are made.
fn a_checkpoint_meets_updates() {
    let (disk, store, past) = game(ROOMY);
    let writers = [([0, 4], 100), ([1, 5], 200)].map(|(own, name)| writer(&store, &past, own, name));
    let checkpoints = checkpoints(&store);
    join(writers);
    let told = checkpoints.join().unwrap();
    count_met(&past.lock().unwrap(), &told);
    stop(&disk, store, &past);
}

/// Segments of the log are born while two checkpoints list what there is.
fn checkpoints_meet_births() {
    let (disk, store, past) = game(ROOMY);
    let before = store.pages.stats().segments;
    let authored = Arc::clone(&past);
    let writer = store.spawn(move |store, _| {
        let author = Author { store, past: &authored };
        // New pages: nothing of the log becomes empty, and all of it stays.
        for word in 0..20 {
            author.make(vec![word; WIDE]);
        }
    });
    let checkpoints = checkpoints(&store);
    writer.join().unwrap();
    let told = checkpoints.join().unwrap();
    // Two of them are of the map.
    count("births", store.pages.stats().segments.saturating_sub(before + 2));
    count_met(&past.lock().unwrap(), &told);
    stop(&disk, store, &past);
}

/// Two write and two checkpoints are made, and the machine stops at any moment.
fn a_checkpoint_is_cut_short_at_any_moment() {
    let (_, store, past) = game(ROOMY);
    let writers = [([0, 4], 100), ([1, 5], 200)].map(|(own, name)| writer(&store, &past, own, name));
    let checkpoints = checkpoints(&store);
    let (survival, moment) = (survival(), chosen(200));
    let crash = store.spawn(move |store, _| {
        for _ in 0..moment {
            shuttle::thread::sleep(std::time::Duration::ZERO);
        }
        (store.pages.stable_lsn(), store.pages.stats().redo, store.disk.crash(survival))
    });
    let (stable, redo, image) = crash.join().unwrap();
    join(writers);
    let told = checkpoints.join().unwrap();
    count("images from before the end of a checkpoint", (redo < told[1].0).into());
    check(&image, stable, &past.lock().unwrap());
}

/// The cache holds two of the fragments: pages come in and go while checkpoints look at their slots.
fn a_checkpoint_meets_page_ins_and_evictions() {
    let (disk, store, past) = game(CAPACITY);
    let expected = past.lock().unwrap().clone();
    let reader = store.spawn(move |store, local| {
        for id in [4, 0, 4, 0].map(PageId) {
            assert_eq!(store.read(id, local), newest(&expected, id));
        }
    });
    let writer = writer(&store, &past, [1, 5], 100);
    let checkpoints = checkpoints(&store);
    join([reader, writer]);
    let told = checkpoints.join().unwrap();
    count("reads of pages and leaves", store.page_ins());
    count_met(&past.lock().unwrap(), &told);
    stop(&disk, store, &past);
}

/// A checkpoint that finds no room for its superblock gives back the marks that it took; another one follows.
fn a_checkpoint_that_fails_meets_updates() {
    let (disk, store, past) = game(ROOMY);
    disk.fault(Fault::new(Call::Write, When::Once(chosen(2)), Effect::Enospc).on("super-"));
    let writers = [([0, 4], 100), ([1, 5], 200)].map(|(own, name)| writer(&store, &past, own, name));
    let checkpoints = store.spawn(|store, _| {
        let failed = [(); 2].map(|()| match store.pages.checkpoint() {
            Ok(_) => 0,
            Err(Error::NoSpace { .. }) => 1,
            Err(error) => panic!("{error}"),
        });
        failed.into_iter().sum::<u64>()
    });
    join(writers);
    count("checkpoints that failed", checkpoints.join().unwrap());
    stop(&disk, store, &past);
}

/// What a thread needs that looks at a leaf first.
struct Look<'a> {
    author: &'a Author<'a>,
    /// Ids that somebody has.
    owned: &'a Mutex<BTreeSet<PageId>>,
    /// What the pages were at the start.
    begun: &'a Past,
    reads_pages: bool,
}

/// What a thread does with the pages of a leaf that nobody has read yet. It has a page of its own there, or none.
fn first_look(look: &Look<'_>, own: Option<PageId>, word: u64) {
    let Look { author, owned, begun, reads_pages } = *look;
    let (store, local) = (author.store, author.store.local());
    let make = |words| {
        let id = author.make(words);
        assert!(owned.lock().unwrap().insert(id), "{id} is handed out twice");
    };
    match (chosen(4), own) {
        (0, _) => make(vec![word]),
        (1, Some(id)) => {
            author.replace(id, author.newest(id).0, vec![word]);
        }
        (2, Some(id)) if reads_pages => {
            author.link(id, word);
            assert_eq!(store.read(id, &local), author.newest(id));
        }
        (2, Some(id)) => {
            // Before the free: the id may be somebody else's before it returns.
            owned.lock().unwrap().remove(&id);
            author.free(id);
            make(vec![word]);
        }
        _ => {
            // What the leaf and the replayed log say together, or what became of it since.
            for (id, versions) in begun.range(PageId(0)..PageId(LEAF)) {
                let (first, content) = versions.last_key_value().unwrap();
                match store.pages.state(*id, &local.pin()).unwrap() {
                    PageState::Live(at) => assert!(at > *first || at == *first && content.is_some(), "{id} at {at}"),
                    PageState::Free(at) => assert!(at > *first || at == *first && content.is_none(), "{id} at {at}"),
                    PageState::Empty => {}
                    PageState::Unallocated => panic!("{id} is of a leaf that was read, and is unknown"),
                }
            }
        }
    }
}

/// Three want pages, and ids, of a leaf that was not read since the start: it is read once, and everyone sees what is on it.
fn first_looks_at_a_leaf_meet() {
    let (disk, begun) = six_pages_found(true);
    let store = Store::with(options(&disk).cache_capacity(ROOMY), &disk);
    let (past, owned) =
        (Arc::new(Mutex::new(begun.clone())), Arc::new(Mutex::new(BTreeSet::from([0, 1, 4, 5].map(PageId)))));
    // To replace or free a page nobody reads it: then all reads are of leaves.
    let reads_pages = chosen(2) == 0;
    let threads = [(Some(0), 100), (Some(1), 200), (None, 300)].map(|(own, word)| {
        let (past, owned, begun) = (Arc::clone(&past), Arc::clone(&owned), begun.clone());
        store.spawn(move |store, _| {
            let author = Author { store, past: &past };
            let look = Look { author: &author, owned: &owned, begun: &begun, reads_pages };
            first_look(&look, own.map(PageId), word);
            let id = author.store.pages.allocate(&author.store.local().pin());
            assert!(owned.lock().unwrap().insert(id), "{id} is handed out twice");
            author.replace(id, Version::NONE, vec![word + 1]);
            id
        })
    });
    let made = join(threads);
    let past = past.lock().unwrap();
    if !reads_pages {
        // Fresh ids are in the second leaf, which was not read either.
        let second = past.keys().any(|id| (6..8).contains(&id.0));
        assert_eq!(store.page_ins(), 1 + u64::from(second), "reads of leaves");
        count("schedules with no reads but those of leaves", 1);
    }
    count("ids from a leaf that was not read", made.iter().filter(|id| id.0 < LEAF).count() as u64);
    let now =
        |past: &Past| past.values().map(|versions| versions.last_key_value().unwrap().1.clone()).collect::<Vec<_>>();
    let contents = find(&store).iter().map(|found| placed(Some(found)).1).collect::<Vec<_>>();
    assert_eq!(contents, now(&past));
    let live = contents.iter().flatten().count();
    assert_eq!((store.pages.page_count().unwrap(), owned.lock().unwrap().len()), (live as u64, live));
    store.pages.flush().unwrap();
    let again = check(&disk.crash(Survival::DropAll), store.pages.stable_lsn(), &past);
    for store in [store, again] {
        let mut taken = owned.lock().unwrap().clone();
        let local = store.local();
        for _ in 0..store.pages.stats().ids_high_water + 2 {
            let id = store.pages.allocate(&local.pin());
            assert!(taken.insert(id), "{id} is handed out twice");
        }
    }
}

/// Three leaves in as many segments of the map: few enough bytes for the next checkpoint to move one of them.
fn scattered_leaves() -> (SimDisk, Past) {
    static MADE: OnceLock<(SimDisk, Past)> = OnceLock::new();
    made(&MADE, |disk| {
        let past = Mutex::default();
        for leaf in 0..3 {
            // A store that starts begins a segment of the map of its own.
            let store = Store::start(disk);
            let author = Author { store: &store, past: &past };
            match leaf {
                0 => (1..=3 * LEAF).for_each(|word| assert!(author.make(vec![word]).0 < 3 * LEAF)),
                _ => (0..2).for_each(|page| assert!(author.link(PageId(leaf * LEAF + page), leaf) > Version::NONE)),
            }
            store.pages.checkpoint().unwrap();
        }
        past.into_inner().unwrap()
    })
}

/// Leaves are moved, and their segments given back, while others look at them first.
fn a_checkpoint_moves_leaves_that_others_want() {
    let (disk, past) = scattered_leaves();
    let store = Store::with(options(&disk).cache_capacity(ROOMY), &disk);
    let segments = disk.file_names().into_iter().filter(|name| name.starts_with("seg-")).collect::<BTreeSet<_>>();
    let past = Arc::new(Mutex::new(past));
    let writers = [([4, 8], 100), ([9, 5], 200)].map(|(own, name)| {
        let past = Arc::clone(&past);
        store.spawn(move |store, local| {
            let mut own = own.map(PageId);
            let author = Author { store, past: &past };
            for turn in 0..2 {
                let id = own[chosen(2) as usize];
                assert_eq!(store.read(id, local), author.newest(id));
                author.update(&mut own, name * 10 + turn);
            }
        })
    });
    let checkpoints = checkpoints(&store);
    join(writers);
    let told = checkpoints.join().unwrap();
    count_met(&past.lock().unwrap(), &told);
    let left = disk.file_names().into_iter().collect();
    count("segments of the map that were given back", segments.difference(&left).count() as u64);
    stop(&disk, store, &past);
}

/// A leaf cannot be read for once: one of those who want it is told, and the others find it.
fn a_leaf_that_cannot_be_read_is_one_readers() {
    let (disk, past) = six_pages_found(true);
    let store: Arc<Store> = Store::with(options(&disk), &disk);
    let failures = chosen(2);
    if failures > 0 {
        disk.fault(Fault::new(Call::Read, When::Once(0), Effect::Eio));
    }
    let looks = [0, 1, 1].map(PageId).map(|id| {
        let at = newest(&past, id).0;
        store.spawn(move |store, local| match store.pages.state(id, &local.pin()) {
            Ok(state) => {
                assert_eq!(state, PageState::Live(at), "{id}");
                0
            }
            Err(Error::Io { .. }) => 1,
            Err(error) => panic!("{error}"),
        })
    });
    let failed: u64 = join(looks).into_iter().sum();
    count("leaves that could not be read", failed);
    assert_eq!((failed, store.page_ins()), (failures, 1 + failures), "looks that failed, and reads of the leaf");
}

/// A log that is nearly as long as it may be without a checkpoint.
fn long_log() -> (SimDisk, Past) {
    static MADE: OnceLock<(SimDisk, Past)> = OnceLock::new();
    made(&MADE, |disk| {
        let (store, past) = (Store::start(disk), Mutex::default());
        let author = Author { store: &store, past: &past };
        let id = author.make(vec![1]);
        author.make(vec![2]);
        while store.pages.stats().tail < Lsn(CHECKPOINT_DUE - (16 << 10)) {
            author.replace(id, author.newest(id).0, vec![1; WIDE]);
        }
        drop(store);
        past.into_inner().unwrap()
    })
}

/// The last of the writers closes the store, whatever the thread that writes checkpoints is doing.
fn a_close_meets_a_checkpoint_of_the_background() {
    let (disk, past) = long_log();
    let threads = options(&disk).cache_capacity(ROOMY).background(Background::Threads);
    let store = Store::with(threads.flush_every_ms(1).log_limit(2 * CHECKPOINT_DUE), &disk);
    let past = Arc::new(Mutex::new(past));
    let writers = [0, 1].map(|id| {
        let past = Arc::clone(&past);
        store.spawn(move |store, _| {
            let author = Author { store, past: &past };
            for turn in 0..3 {
                let (at, _) = author.newest(PageId(id));
                author.replace(PageId(id), at, vec![100 * id + turn; WIDE]);
            }
            store.pages.stats().checkpoints
        })
    });
    drop(store);
    let ended: u64 = join(writers).into_iter().max().unwrap();
    // The thread cleans behind its checkpoint: the begin of the log may be gone.
    let image = disk.crash(Survival::DropAll);
    let (again, _) = compare(&image, Lsn(u64::MAX), &past.lock().unwrap(), by_the_whole_log(&image).as_ref());
    let stats = again.pages.stats();
    assert!(stats.clean_start);
    count("checkpoints that ended before the close began", ended);
    count("checkpoints that a close met", (ended == 0 && stats.redo > Lsn(0)).into());
}

scenarios! {
    a_checkpoint_meets_updates,
    checkpoints_meet_births,
    a_checkpoint_is_cut_short_at_any_moment,
    a_checkpoint_that_fails_meets_updates,
    a_checkpoint_meets_page_ins_and_evictions,
    first_looks_at_a_leaf_meet,
    a_checkpoint_moves_leaves_that_others_want,
    a_leaf_that_cannot_be_read_is_one_readers,
    a_close_meets_a_checkpoint_of_the_background,
}
