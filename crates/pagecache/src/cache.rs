//! The page cache: open, close, and what users call, each a line or two that names the room where it happens.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Instant;

use crossbeam_epoch::{Guard, default_collector};

use crate::base::error::{PageState, Result};
use crate::base::ids::{Lsn, PageId, Version};
use crate::base::sync::Help;
use crate::checkpoint::replayer::Replayer;
use crate::checkpoint::write::Checkpointer;
use crate::clean::{Aim, Cleaner, Goal, Then};
use crate::config::{Background, Config};
use crate::engine::Engine;
use crate::format::segment::Purpose;
use crate::log::core::Patience;
use crate::maintain::{checkpoints, release};
use crate::ops::files_pin::FilesPin;
use crate::ops::rejected::Rejected;
use crate::ops::update::Write;
use crate::ops::{Misses, Pages};
use crate::page::budget::Budget;
use crate::page::frees::Frees;
use crate::page::materialize::Materializer;
use crate::page::page_ref::{Fragments, PageRef};
use crate::page::pins::{Pin, Pins};
use crate::page::queues::Queues;
use crate::page::retired::Retired;
use crate::page::token::{PagePtr, token, version};
use crate::recovery::pages::{Rebuilt, Replayed};
use crate::restart::{Restart, Timed};
use crate::space::Space;
use crate::stats::Stats;

/// A page, or its fragments, and the token of the version that they are.
pub type Found<'g, P, T> = (T, PagePtr<'g, P>);

/// A lock-free cache of pages over a log.
///
/// Pages have stable ids and are made of fragments. [`replace`](PageCache::replace) gives a page its whole content,
/// [`link`](PageCache::link) puts a fragment on top, [`get`](PageCache::get) merges what there is. Every update names the version
/// it is made on by a token; one that is not current any more gets the current page and its own fragment back.
///
/// Updates are durable after [`flush`](PageCache::flush) or [`make_stable`](PageCache::make_stable), and on their own after
/// `flush_every_ms`. After a crash the store is exactly the state after some prefix of the order of updates, and that prefix
/// holds everything that was acknowledged.
///
/// Threads share a store by reference, or in an `Arc`: all that is done with it takes `&self`. Only [`close`](PageCache::close) takes it by value, so
/// whoever has shared it in an `Arc` has to be the last one who holds it (`Arc::into_inner`), and what borrows it, guards of [`pin`](PageCache::pin) and pages, has to be gone.
/// Dropping the last one closes it as well.
///
/// The second and third parameter follow from the first: `PageCache<M>` is what people write.
pub struct PageCache<M: Materializer, P = <M as Materializer>::PageFrag, R = <M as Materializer>::Recovery> {
    // Before the engine, so that pages are gone when it closes.
    pages: Arc<Pages<M>>,
    checkpointer: Arc<Checkpointer<M>>,
    cleaner: Arc<Cleaner<M>>,
    engine: Engine,
    recovered: Option<M::Recovery>,
    fill_target: f64,
    /// What this start took, to tell what the next one will.
    restart: Restart,
    release_memory: Option<fn()>,
    _shape: PhantomData<fn() -> (P, R)>,
}

impl<M: Materializer> std::fmt::Debug for PageCache<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PageCache").field("engine", &self.engine).finish_non_exhaustive()
    }
}

impl<M: Materializer> PageCache<M, M::PageFrag, M::Recovery> {
    /// Opens or creates a store.
    ///
    /// # Errors
    /// `Config` names an option to change; `Locked`, `NotFound`, `Exists` and `Incompatible` say what is at the path instead;
    /// `Corrupt` where the replayed log is damaged; `Decode` where a fragment is none of this materializer's; `Io`, `NoSpace`; `Thread` where the system
    /// gives no thread for the background.
    pub fn start(config: Config) -> Result<Self> {
        let began = Instant::now();
        let mut replayed = Timed::new(Replayed::new(config.background.replay_threads()));
        let mut engine = Engine::start(&config, Purpose::Pages, &mut replayed)?;
        let checkpoint = engine.recovered.checkpoint.take();
        let root = checkpoint.as_ref().map(|checkpoint| &checkpoint.root);
        let redo = root.map_or(Lsn(0), |root| root.redo);
        let replay = Instant::now();
        let mut replayer = Replayer::<M>::new(redo, root.and_then(|root| root.state.as_deref()))?;
        replayer.walk(&engine.log, engine.log.stable())?;
        let recovered = replayer.state().clone();
        let replaying = replayed.replaying;
        let Rebuilt { table, leaves, ids, lists } = replayed.inner.finish(&engine.log)?;
        let replaying = replaying + replay.elapsed();
        let pages = Arc::new(Pages {
            log: Arc::clone(&engine.log),
            table,
            retired: Retired::new(Arc::clone(&engine.log.freed)),
            frees: Frees::new(config.cache_capacity, Arc::clone(&engine.log.freed)),
            leaves,
            ids,
            budget: Budget::new(config.cache_capacity, engine.log.pool.segment_size()),
            queues: Queues::new(),
            misses: Misses::default(),
            pins: Pins::new(),
            materializer: M::new(&recovered),
            collector: config.collector.unwrap_or_else(|| default_collector().clone()),
        });
        pages.budget.note(lists as usize);
        pages.weigh();
        let goal = Goal {
            fill_target: config.fill_target,
            log_limit: config.log_limit,
            reserve: config.reserve,
            order: config.cleaning_order,
        };
        let help = match config.background {
            Background::Threads => Help::Thread,
            Background::Caller => Help::None,
        };
        let checkpointer = Arc::new(Checkpointer::new(Arc::clone(&pages), checkpoint, replayer, help));
        let cleaner = Arc::new(Cleaner::new(Arc::clone(&pages), Arc::clone(&checkpointer), goal, help));
        let (log, cleans) = (Arc::clone(&engine.log), Arc::clone(&cleaner));
        if engine.has_threads() {
            checkpoints::prepare(&log, &cleans);
        }
        engine.work(checkpoints::THREAD, move || checkpoints::run(&log, &cleans))?;
        let release_memory = config.release_memory;
        if let Some(release_memory) = release_memory {
            let log = Arc::clone(&engine.log);
            release::listen(&log, config.cache_capacity);
            engine.work(release::THREAD, move || release::run(&log, release_memory))?;
        }
        let restart = Restart { replayed: engine.recovered.walked, replaying, whole: began.elapsed() };
        let fill_target = config.fill_target;
        Ok(PageCache {
            pages,
            checkpointer,
            cleaner,
            engine,
            recovered,
            fill_target,
            restart,
            release_memory,
            _shape: PhantomData,
        })
    }

    /// What [`Materializer::recover`] last answered at start.
    pub fn recovered_state(&self) -> Option<&M::Recovery> {
        self.recovered.as_ref()
    }

    /// The materializer that serves.
    pub fn materializer(&self) -> &M {
        &self.pages.materializer
    }

    /// A guard of this store's collector. What a guard's holder has seen stays in memory until the guard is dropped, and what is replaced, freed
    /// or evicted meanwhile does, too: [`Stats::oldest_guard`](crate::Stats::oldest_guard) names the one that is held longest.
    #[track_caller]
    pub fn pin(&self) -> Pin<'_> {
        self.pages.pins.register(self.pages.pin())
    }

    /// Takes an id for a new page, empty. Nothing is written before its first `replace` or `link`, so an id that never had one
    /// is free again after a restart. A leaf of the map that may have ids to give is read for it, each once since the start, which is I/O. The guard is not relied on.
    ///
    /// # Aborts
    /// The process, as an allocation does for which there is no memory, where memory or the space of 2^36 ids is at its end:
    /// [`try_allocate`](Self::try_allocate) says it by an error.
    pub fn allocate(&self, _guard: &Guard) -> PageId {
        match self.pages.allocate() {
            Ok(id) => id,
            Err(_) => std::alloc::handle_alloc_error(std::alloc::Layout::new::<[u64; 4096]>()),
        }
    }

    /// As [`allocate`](Self::allocate), with the end of memory or ids as an error.
    ///
    /// # Errors
    /// `NoSpace`.
    pub fn try_allocate(&self) -> Result<PageId> {
        self.pages.allocate()
    }

    /// Gives a page its whole content, if it is at the token's version; null for a page that holds no data.
    ///
    /// It may wait before it has an LSN: for room in the log's ring, for a segment that is being made, and, in a store with threads, for the cleaner where disk would
    /// grow beyond its bound. Of a cold page it reads as much as says its version. Where the cache is full it evicts, and flushes first where nothing else may go.
    ///
    /// # Errors
    /// [`Rejected::Conflict`] with the current page; else `NoPage`, `TooLarge`, `Encode`, `NoSpace`, `Io`, `Poisoned`, `ReadOnly`,
    /// `ForeignGuard`. Where the page or its leaf of the map has to be read, for its version or for the conflict, what [`get`](Self::get) says of that: `Corrupt`, `Decode`,
    /// `Incompatible`, `Io`. The fragment comes back in any case.
    pub fn replace<'g>(
        &'g self,
        id: PageId,
        key: PagePtr<'g, M::PageFrag>,
        page: M::PageFrag,
        guard: &'g Guard,
    ) -> Result<PagePtr<'g, M::PageFrag>, Rejected<'g, M::PageFrag>> {
        self.replace_at(id, version(key), page, guard).map(token)
    }

    /// Puts a fragment on top of a page, if it is at the token's version; null for a page that holds no data. It waits as [`replace`](Self::replace) does; a cold page is
    /// read whole, a long chain is merged, and the link behind a page's 64th record on disk is written as a replace of the whole page.
    ///
    /// # Errors
    /// As [`replace`](Self::replace).
    pub fn link<'g>(
        &'g self,
        id: PageId,
        key: PagePtr<'g, M::PageFrag>,
        fragment: M::PageFrag,
        guard: &'g Guard,
    ) -> Result<PagePtr<'g, M::PageFrag>, Rejected<'g, M::PageFrag>> {
        self.link_at(id, version(key), fragment, guard).map(token)
    }

    /// Frees a page, if it is at the token's version. Its id is handed out again once the free is durable. It waits as [`replace`](Self::replace) does, but for no bound on disk;
    /// where a cap is reached or the disk is full, in a store with threads, for one turn of the cleaner.
    ///
    /// # Errors
    /// As [`replace`](Self::replace); a page that is free already is `NoPage`.
    pub fn free<'g>(
        &'g self,
        id: PageId,
        key: PagePtr<'g, M::PageFrag>,
        guard: &'g Guard,
    ) -> Result<(), Rejected<'g, M::PageFrag, ()>> {
        self.free_at(id, version(key), guard).map(drop)
    }

    /// [`replace`](Self::replace) for those who hold a version beyond a guard. Returns the new version.
    ///
    /// # Errors
    /// As [`replace`](Self::replace).
    pub fn replace_at<'g>(
        &'g self,
        id: PageId,
        at: Version,
        page: M::PageFrag,
        guard: &'g Guard,
    ) -> Result<Version, Rejected<'g, M::PageFrag>> {
        self.pages.write(id, at, Write::Replace, page, guard)
    }

    /// [`link`](Self::link) for those who hold a version beyond a guard. Returns the new version.
    ///
    /// # Errors
    /// As [`replace`](Self::replace).
    pub fn link_at<'g>(
        &'g self,
        id: PageId,
        at: Version,
        fragment: M::PageFrag,
        guard: &'g Guard,
    ) -> Result<Version, Rejected<'g, M::PageFrag>> {
        self.pages.write(id, at, Write::Link, fragment, guard)
    }

    /// [`free`](Self::free) for those who hold a version beyond a guard. Returns the version of the free.
    ///
    /// # Errors
    /// As [`free`](Self::free).
    pub fn free_at<'g>(
        &'g self,
        id: PageId,
        at: Version,
        guard: &'g Guard,
    ) -> Result<Version, Rejected<'g, M::PageFrag, ()>> {
        self.pages.free(id, at, guard)
    }

    /// The page, merged, and its token. A resident page in one piece is handed out without a copy, a lock or I/O; fragments are merged by the first who reads them;
    /// a cold page is read from disk, or another thread's read of it waited for, and others may be evicted for it. A read never flushes.
    ///
    /// # Errors
    /// `NoPage` with what the page is instead; `Corrupt` and `Decode` for this page alone, `Incompatible` where a newer version has
    /// written a record of it; `Io`; `NoSpace` where there is no memory for the mapping table of a leaf that is read; `ForeignGuard`.
    pub fn get<'g>(&'g self, id: PageId, guard: &'g Guard) -> Result<Found<'g, M::PageFrag, PageRef<'g, M::PageFrag>>> {
        self.pages.get(id, guard).map(|(page, at)| (page, token(at)))
    }

    /// The page's fragments unmerged, newest first, and its token: to search base and deltas without a fold.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn fragments<'g>(
        &'g self,
        id: PageId,
        guard: &'g Guard,
    ) -> Result<Found<'g, M::PageFrag, Fragments<'g, M::PageFrag>>> {
        self.pages.fragments(id, guard).map(|(fragments, at)| (fragments, token(at)))
    }

    /// What a page is now. Its leaf of the map is read, if it was not yet. The page is not, but for a cold one whose newest record is an image: nothing else says
    /// its version, so the image is read whole.
    ///
    /// # Errors
    /// `Corrupt`, `Io`, where that leaf or that image cannot be read; `NoSpace` as in [`get`](Self::get); `ForeignGuard`.
    pub fn state(&self, id: PageId, guard: &Guard) -> Result<PageState> {
        self.pages.state(id, guard)
    }

    /// The ids of pages that hold data, rising. Weakly consistent: what changes meanwhile may or may not be seen. Leaves of the map
    /// that were not needed since the start are read on the way; ids of one that cannot be read are errors, as those of [`page_count`](Self::page_count).
    pub fn page_ids(&self) -> impl Iterator<Item = Result<PageId>> + '_ {
        (0..self.pages.ids.high_water()).map(PageId).filter_map(|id| match self.pages.holds_data(id) {
            Ok(true) => Some(Ok(id)),
            Ok(false) => None,
            Err(error) => Some(Err(error)),
        })
    }

    /// Pages that are allocated now, empty ones included. Leaves of the map with pages that the start has replayed are read, if they
    /// were not yet.
    ///
    /// # Errors
    /// `Corrupt`, `Io`, where such a leaf cannot be read; `NoSpace` where there is no memory for the mapping table.
    pub fn page_count(&self) -> Result<u64> {
        self.pages.settle()?;
        Ok(self.pages.ids.allocated())
    }

    /// Writes a checkpoint of what is durable now, on this thread, if there is anything new: a start after that replays the log from
    /// there. [`flush`](Self::flush) first where it shall be everything. The background does the same by itself, see
    /// [`log_limit`](crate::ConfigBuilder::log_limit). Updates go on meanwhile. It waits for another checkpoint that is being written,
    /// one at the end of a turn of cleaning too, and for a flush. Returns the LSN from which a start would replay.
    ///
    /// # Errors
    /// `NoSpace` and `Io`, after which the checkpoint before counts and a later one may succeed; `Corrupt` where a leaf of the map that
    /// has to be written again is damaged; `Poisoned`, `ReadOnly`; `Decode`, `Encode` for what [`Materializer::recover`] is asked.
    pub fn checkpoint(&self) -> Result<Lsn> {
        self.checkpointer.checkpoint()
    }

    /// Moves pages out of the segments that hold least of them, as many as the fill target asks for, and gives back what is empty, on
    /// this thread and, where the store has threads, another one. The background does the same by itself, as far as disk is to stay within its bound.
    /// Updates and reads go on meanwhile; versions stay. Returns how many pages were moved. One call moves so much only: for the whole of it call
    /// again until it returns 0. The log behind the last [`checkpoint`](Self::checkpoint) stays as it is. It waits for another turn of
    /// cleaning, and for a checkpoint that is being written; where one is due it ends with one of its own.
    ///
    /// # Errors
    /// `NoSpace` and `Io`, after which a later call may succeed; `Corrupt` where a leaf of the map is damaged (a page that is damaged
    /// or cannot be read stays where it is); `Poisoned`, `ReadOnly`; `Decode`, `Encode` of its checkpoint, as in [`checkpoint`](Self::checkpoint).
    pub fn clean(&self) -> Result<u64> {
        // Also where nobody else writes checkpoints: the log behind the last one can be cleaned by the next call.
        let is_due = self.engine.log.wants_checkpoint();
        self.cleaner.turn(Aim::Target, if is_due { Then::Checkpoint } else { Then::GiveBack })
    }

    /// Keeps all files as long as what is returned lives, so that they can be copied while the store is in use. Copy `LOCK`, and `super-a` and `super-b`
    /// where they are there, then list the directory and copy the segments, `seg-*`, the highest name first: so no segment is older than one behind it. The
    /// copy opens, with all that was durable when it began and perhaps more. Segments may be linked instead of copied, where the file system
    /// can, the superblocks not: no segment that was there is written over for another one after it was given back. Open such links read only, or copy them first: a writer
    /// appends to the newest segment, which is this store's too.
    pub fn pin_files(&self) -> FilesPin {
        FilesPin::new(&self.engine.log)
    }

    /// Compares the accounts of the segments with what the map says is in use; for the kit's own drivers.
    ///
    /// # Errors
    /// Where they differ.
    #[doc(hidden)]
    pub fn check_accounts(&self) -> Result<(), String> {
        self.cleaner.check_accounts()
    }

    /// Returns once the update of this version is durable, and with it everything before: it waits for updates that are under way and came first, for a write and
    /// for a sync, its own or one that others lead. Returns the stable LSN.
    ///
    /// # Errors
    /// `Poisoned` (reopen), `NoSpace` (free something, try again), `Io` where a file cannot be opened (try again).
    pub fn make_stable(&self, at: Version) -> Result<Lsn> {
        self.engine.log.make_stable(Lsn(at.0))
    }

    /// Makes every update durable that is complete now, and waits as [`make_stable`](Self::make_stable) does. Returns the stable LSN.
    ///
    /// # Errors
    /// As [`make_stable`](Self::make_stable).
    pub fn flush(&self) -> Result<Lsn> {
        self.engine.log.flush(Patience::Wait)
    }

    /// Everything below is durable.
    pub fn stable_lsn(&self) -> Lsn {
        self.engine.log.stable()
    }

    /// Does what the background threads do, for stores with
    /// [`Background::Caller`](crate::Background::Caller): a flush of what is new, a checkpoint and cleaning where they are due. That is nothing most of
    /// the time, and up to 16 turns of cleaning where much has come since the last call. Updates do not wait for it, so disk
    /// is within its bound
    /// after a tick, not before. Files that it keeps for reuse stay; threads would remove them when nobody comes by for a while.
    ///
    /// # Errors
    /// As [`make_stable`](Self::make_stable), [`clean`](Self::clean) and [`checkpoint`](Self::checkpoint): the next call tries again. `ReadOnly` of a store that is only read,
    /// after memory was given back.
    pub fn tick(&self) -> Result<()> {
        // First: memory is to be freed whatever becomes of the rest.
        self.cleaner.collect();
        self.cleaner.retry_at_rest();
        if let Some(release_memory) = self.release_memory {
            release::turn(&self.engine.log, release_memory);
        }
        let ticked = self.engine.tick();
        // Where the log finds no room, this is what makes some.
        let turned = checkpoints::turn(&self.engine.log, &self.cleaner, |_| {});
        // What was moved was in memory, perhaps: nobody may come by for long.
        self.pages.collect();
        turned.and(ticked)
    }

    /// A snapshot of what the store holds and has done. No data is read. All segments are looked at, some times each, and the system is asked how long each file
    /// is that is open, 256 at most: the time grows with the number of segments.
    pub fn stats(&self) -> Stats {
        Stats::of(&self.engine, &self.pages, self.fill_target, &self.restart)
    }

    /// Says where every byte on disk is; the parts add up to the lengths of the files. Every segment is read for it: see [`Space`].
    ///
    /// # Errors
    /// `Corrupt` where a leaf of the map is damaged (a damaged record is in a part of its own); `Io`.
    pub fn space(&self) -> Result<Space> {
        Space::of(&self.pages, &self.checkpointer, self.fill_target, &self.restart)
    }

    /// Flushes, joins the background threads and frees the lock; the next start of the same path succeeds at once. Nothing may borrow the store any more, see
    /// [`PageCache`]. Dropping the store does the same and keeps the errors to itself.
    ///
    /// # Errors
    /// `Poisoned`, `NoSpace`, `Io`: what was acknowledged is durable all the same.
    pub fn close(self) -> Result<()> {
        self.engine.close()
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;
    use crate::config::{Background, ConfigBuilder};
    use crate::storage::MemoryStorage;

    struct Numbers;

    impl Materializer for Numbers {
        type PageFrag = u64;
        type Recovery = ();
        const RECOVERS: bool = false;
        fn new(_: &Option<()>) -> Self {
            Numbers
        }
        fn merge(&self, frags: &[&u64]) -> u64 {
            frags.iter().copied().sum()
        }
        fn recover(&self, _: &u64) -> Option<()> {
            None
        }
    }

    /// A page is its first fragment, with the last byte of the last one.
    struct Newest;

    impl Materializer for Newest {
        type PageFrag = Vec<u8>;
        type Recovery = ();
        const RECOVERS: bool = false;
        fn new(_: &Option<()>) -> Self {
            Newest
        }
        fn merge(&self, frags: &[&Vec<u8>]) -> Vec<u8> {
            let mut page = frags[0].clone();
            if let (Some(to), Some(from)) = (page.last_mut(), frags[frags.len() - 1].last()) {
                *to = *from;
            }
            page
        }
        fn recover(&self, _: &Vec<u8>) -> Option<()> {
            None
        }
    }

    fn start() -> PageCache<Numbers> {
        start_with(1 << 20)
    }

    fn start_with(segment_size: u64) -> PageCache<Numbers> {
        let config = ConfigBuilder::new().storage(MemoryStorage::new()).segment_size(segment_size);
        let config = config.cache_capacity(1 << 30);
        PageCache::start(config.background(Background::Caller).build()).unwrap()
    }

    /// The thread may begin long after the first writers: these were told that there is no room, on a machine with much to do, and wrote without a pace until then.
    #[test]
    fn writers_wait_for_a_cleaner_that_has_not_begun_yet() {
        for _ in 0..20 {
            let config = ConfigBuilder::new().storage(MemoryStorage::new()).segment_size(64 << 10);
            let pc = PageCache::<Numbers>::start(config.background(Background::Threads).build()).unwrap();
            let log = &pc.engine.log;
            assert!(log.is_attended() && log.granted().is_some(), "{:?}", log.granted());
            pc.close().unwrap();
        }
    }

    /// Nobody ever looks for room here: entries of pages that are gone have to go by themselves.
    #[test]
    fn pages_that_come_and_go_leave_nothing_in_the_queues() {
        let pc = start();
        let kept = 100;
        let mut pages = std::collections::VecDeque::new();
        let mut most = 0;
        for round in 0..1_000_000 {
            let guard = pc.pin();
            let id = pc.allocate(&guard);
            pages.push_back((id, pc.replace_at(id, Version::NONE, round, &guard).unwrap()));
            if pages.len() > kept {
                let (id, at) = pages.pop_front().unwrap();
                pc.free_at(id, at, &guard).unwrap();
            }
            if round % 1000 == 0 {
                drop(guard);
                pc.flush().unwrap();
                pc.tick().unwrap();
            }
            most = most.max(pc.pages.queues.memory());
        }
        println!("{most} bytes of queues at most, for {kept} pages; {} ids", pc.stats().ids_high_water);
        assert!(most < 32 << 10, "{most} bytes");
    }

    /// All pages go at once; what comes after them sweeps.
    #[test]
    fn queues_shrink_with_the_pages() {
        let pc = start();
        let guard = pc.pin();
        let pages: Vec<_> = (0..100_000)
            .map(|page| {
                let id = pc.allocate(&guard);
                (id, pc.replace_at(id, Version::NONE, page, &guard).unwrap())
            })
            .collect();
        let full = pc.pages.queues.memory();
        assert!(full < 100_000 * 10, "{full} bytes");
        for (id, at) in &pages {
            pc.free_at(*id, *at, &guard).unwrap();
        }
        for page in 0..60_000 {
            let id = pc.allocate(&guard);
            let at = pc.replace_at(id, Version::NONE, page, &guard).unwrap();
            if page % 3 > 0 {
                pc.free_at(id, at, &guard).unwrap();
            }
        }
        let less = pc.pages.queues.memory();
        println!("{full} bytes for 100,000 pages, {less} for 20,000 others");
        // Two entries a page.
        assert!(less < 2 * 20_000 * 10, "{less} bytes");
    }
    /// Each checkpoint writes the leaf anew, and after a few of them a segment of the map is empty.
    #[test]
    fn segments_of_the_map_that_are_given_back_are_forgotten() {
        let pc = start_with(64 << 10);
        let mut seen = std::collections::BTreeMap::new();
        let mut at = Vec::new();
        for round in 0..300 {
            let guard = pc.pin();
            match at.first_mut() {
                None => at.extend((0..100).map(|page| {
                    let id = pc.allocate(&guard);
                    (id, pc.replace_at(id, Version::NONE, page, &guard).unwrap())
                })),
                Some((id, at)) => *at = pc.replace_at(*id, *at, round, &guard).unwrap(),
            }
            drop(guard);
            pc.checkpoint().unwrap();
            let all = pc.pages.log.pool.all().into_iter();
            seen.extend(all.map(|segment| (segment.header.sequence, Arc::downgrade(&segment))));
        }
        let held = seen.values().filter(|segment| segment.strong_count() > 0).count();
        println!("{} segments, {} of them are there, {held} are held", seen.len(), pc.stats().segments);
        assert!(seen.len() > 30 && held < 10, "{held} of {}", seen.len());
    }
    /// Pages of so many bytes that get links and nothing else, below a cap: how many links were refused, of how many.
    fn links_below_a_cap(pages: u64, len: usize, segments: u64, log_limit: u64) -> (u64, u64) {
        let config = ConfigBuilder::new().storage(MemoryStorage::new()).segment_size(64 << 10).log_limit(log_limit);
        let config = config.max_disk_bytes(segments * (64 << 10)).cache_capacity(64 << 20);
        let pc = PageCache::<Newest>::start(config.background(Background::Caller).build()).unwrap();
        let guard = pc.pin();
        let mut at: Vec<_> = (0..pages)
            .map(|page| {
                let id = pc.allocate(&guard);
                (id, pc.replace_at(id, Version::NONE, vec![page as u8; len], &guard).unwrap())
            })
            .collect();
        drop(guard);
        let (mut refused, mut random, links) = (0, 88_172_645_463_325_252u64, 200_000);
        for round in 0..links {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let (id, at) = &mut at[(random % pages) as usize];
            match pc.link_at(*id, *at, vec![7; 16], &pc.pin()) {
                Ok(new) => *at = new,
                Err(_) => refused += 1,
            }
            if round % 500 == 0 {
                let _ = pc.flush().and_then(|_| pc.tick());
            }
        }
        let end = pc.flush().and_then(|_| pc.tick());
        pc.check_accounts().unwrap();
        let stats = pc.stats();
        println!(
            "{end:?} {pages} pages of {len}, {segments} segments: {refused} links were refused; {} checkpoints, {} segments, {} MB moved",
            stats.checkpoints,
            stats.segments,
            (stats.fold_bytes + stats.survivor_bytes) >> 20
        );
        (refused, links)
    }

    /// Nothing but links, so that only folds make room: a tick makes it ahead, not when a writer has met the cap, and images that it writes for that do not
    /// take the room that there is for good.
    #[test]
    fn below_a_cap_links_are_folded_before_there_is_no_room() {
        for (pages, len, segments, log_limit) in [
            (2000, 8, 17, 2 << 20),
            (300, 1000, 20, 256 << 10),
            (900, 1000, 40, 256 << 10),
            (1000, 1000, 40, 1 << 20),
            (1100, 1000, 40, 256 << 10),
            (1200, 1000, 40, 256 << 10),
            (1200, 1000, 40, 1 << 20),
            (600, 2000, 40, 1 << 20),
            (2000, 400, 40, 2 << 20),
        ] {
            let (refused, links) = links_below_a_cap(pages, len, segments, log_limit);
            assert!(refused * 100 <= links, "{refused} of {links} were refused: {pages} pages of {len}");
        }
    }
}
