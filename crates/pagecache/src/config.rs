//! The options: few, plain, and checked when a store starts, not before.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_epoch::Collector;

use crate::base::error::{Error, Result};
use crate::base::sync::parallelism;
use crate::clean::Order;
use crate::format::BLOCK;
use crate::format::record::PAYLOAD_MAX;
use crate::format::segment::{SEGMENT_MAX, SEGMENT_MIN};
use crate::storage::Storage;
use crate::store::limit::{RESERVE, RESERVE_MAX, segments, segments_min};

/// Whether a store may, must or must not exist.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Create {
    /// Open what is there, or make a new store.
    #[default]
    Either,
    /// Make a new store; one that is there is [`Error::Exists`].
    New,
    /// Open what is there; nothing there is [`Error::NotFound`].
    Existing,
}

/// Who does the work behind the scenes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Background {
    /// Three threads of the store (two of a [`Log`](crate::Log); one more while pages are moved, one while a checkpoint captures much of the map, and one
    /// for [`release_memory`](ConfigBuilder::release_memory)), and replay on as many as there are processors.
    #[default]
    Threads,
    /// Nobody: no thread is ever started, replay runs on the thread that starts the store, and what
    /// [`flush_every_ms`](ConfigBuilder::flush_every_ms) asks for is done when the user calls `tick()`. For simulation and for
    /// programs with a loop of their own. No writer waits for a cleaner that is not there: between two ticks disk grows with the log, and only
    /// [`max_disk_bytes`](ConfigBuilder::max_disk_bytes) bounds it.
    Caller,
}

impl Background {
    /// Threads that an opening may use, the caller's own included.
    pub(crate) fn replay_threads(self) -> usize {
        match self {
            Background::Threads => parallelism().min(16),
            Background::Caller => 1,
        }
    }
}

/// Collects options; [`build`](ConfigBuilder::build) never fails and touches nothing.
///
/// | option | default | allowed |
/// |---|---|---|
/// | `path` | none | a directory, or a name for a new one |
/// | `temporary` | `false` | |
/// | `storage` | files at `path` | any [`Storage`] |
/// | `create` | `Either` | |
/// | `read_only` | `false` | |
/// | `cache_capacity` | 256 MiB | 64 KiB and up |
/// | `flush_every_ms` | 200 | 1 and up, or `None` |
/// | `segment_size` | 8 MiB | a power of two, 64 KiB to 1 GiB |
/// | `max_record` | 64 MiB | 1 KiB to 1 GiB |
/// | `log_limit` | 64 MiB | 256 KiB to 1 TiB |
/// | `fill_target` | 0.80 | 0.10 to 0.95 |
/// | `reserve` | 4 segments | 4 to 65,536 |
/// | `max_disk_bytes` | none | `reserve` and 12 segments and 8,192 bytes, and up, or `None` |
/// | `background` | `Threads` | |
/// | `collector` | crossbeam's default | any |
/// | `release_memory` | none | a function |
#[derive(Clone, Debug)]
pub struct ConfigBuilder {
    config: Config,
}

/// The options of a store, as plain data.
#[derive(Clone, Debug)]
pub struct Config {
    pub(crate) path: Option<PathBuf>,
    pub(crate) temporary: bool,
    pub(crate) storage: Option<Arc<dyn Storage>>,
    pub(crate) create: Create,
    pub(crate) read_only: bool,
    pub(crate) cache_capacity: u64,
    pub(crate) flush_every_ms: Option<u64>,
    pub(crate) segment_size: Option<u64>,
    pub(crate) max_record: u64,
    pub(crate) log_limit: u64,
    pub(crate) fill_target: f64,
    pub(crate) reserve: u64,
    pub(crate) max_disk_bytes: Option<u64>,
    pub(crate) cleaning_order: Order,
    pub(crate) background: Background,
    pub(crate) collector: Option<Collector>,
    pub(crate) release_memory: Option<fn()>,
}

/// Bytes of a segment where nothing else is said.
pub(crate) const SEGMENT_DEFAULT: u64 = 8 << 20;

impl Default for ConfigBuilder {
    fn default() -> Self {
        ConfigBuilder::new()
    }
}

impl ConfigBuilder {
    /// The defaults.
    pub fn new() -> ConfigBuilder {
        ConfigBuilder {
            config: Config {
                path: None,
                temporary: false,
                storage: None,
                create: Create::Either,
                read_only: false,
                cache_capacity: 256 << 20,
                flush_every_ms: Some(200),
                segment_size: None,
                max_record: 64 << 20,
                log_limit: 64 << 20,
                fill_target: 0.80,
                reserve: RESERVE,
                max_disk_bytes: None,
                cleaning_order: Order::DecliningCost,
                background: Background::Threads,
                collector: None,
                release_memory: None,
            },
        }
    }

    /// The directory of the store. It is created (mode 0700) where it does not exist.
    pub fn path(mut self, path: impl Into<PathBuf>) -> Self {
        self.config.path = Some(path.into());
        self
    }

    /// A store that is removed when it is closed or dropped. Without `path` it lives in a new directory with an unpredictable
    /// name under the system's place for temporary files; with one, the store there must be new.
    pub fn temporary(mut self, temporary: bool) -> Self {
        self.config.temporary = temporary;
        self
    }

    /// Where the bytes go, instead of files at `path`.
    pub fn storage(mut self, storage: impl Storage) -> Self {
        self.config.storage = Some(Arc::new(storage));
        self
    }

    /// Whether the store may, must or must not exist.
    pub fn create(mut self, create: Create) -> Self {
        self.config.create = create;
        self
    }

    /// Takes a shared lock and writes not a byte; several such openers may read at once, and none beside a writer.
    pub fn read_only(mut self, read_only: bool) -> Self {
        self.config.read_only = read_only;
        self
    }

    /// Bytes of memory that the store may hold, everything counted: pages by their real heap size, the mapping table, the log's ring, what is gathered
    /// for checkpoints and by cleaning, pages that are being read, and what was replaced or evicted and waits for guards to be dropped; see
    /// [`Memory`](crate::Memory). Pages get what the rest leaves, less a part that is kept free for what comes between two looks at the sum (an eighth of it, and
    /// two segments or a quarter, whichever is less), and a quarter at least. What guards keep that are held for long may go beyond
    /// it; and what the allocator keeps of what was freed is not in it: see [`release_memory`](Self::release_memory).
    ///
    /// Some is there whatever this says, and a smaller capacity is not refused but exceeded: the log's ring, of a segment or 8 MiB, whichever is less; the
    /// mapping table, 64 KiB for the first 8,192 pages and 8 to 16 bytes for each where there are more; a quarter of this for pages, and one page;
    /// and what a turn of cleaning or a checkpoint has gathered. So a store
    /// with small memory wants small segments.
    pub fn cache_capacity(mut self, bytes: u64) -> Self {
        self.config.cache_capacity = bytes;
        self
    }

    /// Milliseconds after which a completed update is written *and* synced without being asked for; `None` syncs on request
    /// only.
    pub fn flush_every_ms(mut self, milliseconds: impl Into<Option<u64>>) -> Self {
        self.config.flush_every_ms = milliseconds.into();
        self
    }

    /// Bytes of a segment file. Decided when a store is made; an existing store opened with another explicit size is refused.
    pub fn segment_size(mut self, bytes: u64) -> Self {
        self.config.segment_size = Some(bytes);
        self
    }

    /// Bytes of log that an opening after a crash may have to replay. A checkpoint is written each time half of it has been filled;
    /// where the disk does not keep up with the log it may become longer. A bare log has no checkpoints and no use for it.
    ///
    /// Cleaning goes by it, too: it is part of the bound on disk, and so of what writers may write before they wait for the cleaner; a turn comes
    /// with each quarter of it, and moves
    /// about as much at least; and links are folded for their age only where they weigh more than half of it. Of fewer than eight segments all is
    /// kept free for turns.
    pub fn log_limit(mut self, bytes: u64) -> Self {
        self.config.log_limit = bytes;
        self
    }

    /// How full the segments of pages are to be: bytes in use for each byte of room. The log, by `log_limit`, and the `reserve` come on top. Room is
    /// what a segment has
    /// beside its two headers, of 4 KiB each. A higher target takes less disk and more writing: uniform updates of whole pages have 0.9
    /// bytes of survivors moved for each byte given at 0.70, 1.7 at 0.80 and 4.2 at 0.90. A bare log has no use for it.
    pub fn fill_target(mut self, fill: f64) -> Self {
        self.config.fill_target = fill;
        self
    }

    /// Segments that may be there beside what `fill_target` and `log_limit` ask for, so that the cleaner has room to work in. It is part of the bound on disk. With
    /// more of them writers may go on for longer before they wait for the cleaner, and turns may be longer: for bursts of writing into a store whose
    /// `log_limit` is short. Below `max_disk_bytes` two more than these are left to frees, checkpoints and cleaning. Of a
    /// bare log only the cap goes by it.
    pub fn reserve(mut self, segments: u64) -> Self {
        self.config.reserve = segments;
        self
    }

    /// In which order segments are cleaned: the others are there to be measured against.
    #[doc(hidden)]
    pub fn cleaning_order(mut self, order: Order) -> Self {
        self.config.cleaning_order = order;
        self
    }

    /// Bytes that the store's files may take, files kept for reuse included: the `reserve`, 12 segments and the two superblocks, of 4 KiB each, at least. Without it what
    /// is left on the disk is the limit ([`Storage::available`](crate::storage::Storage::available); on Linux what the file system has for users that are not
    /// privileged). Two segments more than the `reserve`, six of what is left on the disk, and as many more as the map weighs beyond
    /// one, are left to frees, checkpoints and cleaning. An update that needs more is [`Error::NoSpace`] before anything has happened, once
    /// the cleaner has had a turn; reads and frees go on, and so do updates once pages were freed. Near the cap segments are made
    /// fuller than `fill_target`, at the cost of more writing. A store that is over it already opens, and takes no updates
    /// before enough was freed. With [`Background::Caller`] it is `tick` and `clean` that make room.
    pub fn max_disk_bytes(mut self, bytes: impl Into<Option<u64>>) -> Self {
        self.config.max_disk_bytes = bytes.into();
        self
    }

    /// The longest record or encoded fragment, in bytes. A page's fragment that is longer than a quarter of the ring is written in pieces, and the record that names
    /// them lists the segments that they are in. So in segments of 64 KiB one of over about 40 MiB may be [`Error::TooLarge`] below this, too, if its
    /// pieces come to lie between those of many other writers.
    pub fn max_record(mut self, bytes: u64) -> Self {
        self.config.max_record = bytes;
        self
    }

    /// Who does the work behind the scenes.
    pub fn background(mut self, background: Background) -> Self {
        self.config.background = background;
        self
    }

    /// The collector whose guards the page cache takes.
    pub fn collector(mut self, collector: Collector) -> Self {
        self.config.collector = Some(collector);
        self
    }

    /// A function that has the allocator give freed memory back to the system, where it does not do so by itself: called by a thread of the
    /// store's own each time a sixteenth of `cache_capacity` (1 MiB at least) was freed, reads that were decoded included, under no lock and no guard of the store. A call that
    /// takes more than 50 ms is followed by a rest of four times as long.
    ///
    /// Without it a process may be much larger than what its stores hold: glibc keeps a heap for each thread, what a thread has allocated goes back there
    /// whoever frees it, and the other threads cannot use that room. A program whose allocator is glibc's stays close to what its stores hold with one
    /// heap that is trimmed. What is given back costs a fault when it is used again: where that is often, look first how large the process is (`RssAnon`
    /// in `/proc/self/status`), and trim where it is too large.
    ///
    /// ```
    /// # #[cfg(all(target_os = "linux", target_env = "gnu"))]
    /// # fn main() {
    /// // SAFETY: as in `malloc.h`; both may be called at any time.
    /// unsafe extern "C" {
    ///     safe fn malloc_trim(pad: usize) -> i32;
    ///     safe fn mallopt(param: i32, value: i32) -> i32;
    /// }
    /// // M_ARENA_MAX: one heap for all threads that come.
    /// mallopt(-8, 1);
    /// let config = pagecache::ConfigBuilder::new().release_memory(|| {
    ///     malloc_trim(0);
    /// });
    /// # }
    /// # #[cfg(not(all(target_os = "linux", target_env = "gnu")))]
    /// # fn main() {}
    /// ```
    ///
    /// Where much is freed at once, as after a guard that has kept gigabytes, it is called many times in a row, and each call may take long then: a
    /// function that goes over a whole heap, while nobody can allocate there, does well to rest for as long as it took before it does so again.
    ///
    /// It is no default: a call goes over all heaps of the process, also what the program itself has there, and whoever allocates in one of them
    /// meanwhile waits. With [`Background::Caller`] `tick` calls it, also in a store that is only read, where the rest of `tick` is refused; such a store
    /// has no threads. A panic in it is reported and does no more harm. A bare log has no use for it.
    pub fn release_memory(mut self, release: fn()) -> Self {
        self.config.release_memory = Some(release);
        self
    }

    /// The options, unchecked: [`PageCache::start`](crate::PageCache::start) and [`Log::start`](crate::Log::start) check them.
    pub fn build(self) -> Config {
        self.config
    }
}

impl Config {
    /// # Errors
    /// `Config`, naming the first option that cannot work.
    pub(crate) fn validate(&self) -> Result<()> {
        let refuse =
            |option, found: String, allowed: &str| Err(Error::Config { option, found, allowed: allowed.to_owned() });
        if let Some(size) = self.segment_size
            && !(size.is_power_of_two() && (SEGMENT_MIN..=SEGMENT_MAX).contains(&size))
        {
            return refuse("segment_size", size.to_string(), "a power of two from 65536 to 1073741824");
        }
        if !((1 << 10)..=PAYLOAD_MAX).contains(&self.max_record) {
            return refuse("max_record", self.max_record.to_string(), "1024 to 1073741824");
        }
        if !((256 << 10)..=(1 << 40)).contains(&self.log_limit) {
            return refuse("log_limit", self.log_limit.to_string(), "262144 to 1099511627776");
        }
        if !(RESERVE..=RESERVE_MAX).contains(&self.reserve) {
            return refuse("reserve", self.reserve.to_string(), "4 to 65536");
        }
        // Where there is a store already it says how long its segments are.
        let is_new = self.path.as_ref().is_some_and(|path| !path.exists());
        self.check_cap(self.segment_size.unwrap_or(if is_new { SEGMENT_DEFAULT } else { SEGMENT_MIN }))?;
        // Not a number is in no range.
        if !(0.10..=0.95).contains(&self.fill_target) {
            return refuse("fill_target", self.fill_target.to_string(), "0.10 to 0.95");
        }
        if self.cache_capacity < 64 << 10 {
            return refuse("cache_capacity", self.cache_capacity.to_string(), "65536 and up");
        }
        if self.flush_every_ms == Some(0) {
            return refuse("flush_every_ms", "0".to_owned(), "1 and up, or None");
        }
        if self.path.is_none() && self.storage.is_none() && !self.temporary {
            return refuse("path", "nothing".to_owned(), "a directory, unless the store is temporary or has a storage");
        }
        if self.path.is_some() && self.storage.is_some() {
            return refuse("storage", "a storage beside a path".to_owned(), "one of the two");
        }
        if self.temporary && self.read_only {
            return refuse("read_only", "true".to_owned(), "false for a temporary store");
        }
        if self.read_only && self.create == Create::New {
            return refuse("create", "New".to_owned(), "Existing or Either for a store that is only read");
        }
        if self.temporary && self.create == Create::Existing {
            return refuse("create", "Existing".to_owned(), "New or Either for a temporary store");
        }
        Ok(())
    }

    /// Whether the cap on disk has room for a store with segments of this size.
    ///
    /// # Errors
    /// `Config`.
    pub(crate) fn check_cap(&self, segment_size: u64) -> Result<()> {
        let least = segments_min(self.reserve);
        let fits = |cap: u64| segments(cap, segment_size) >= least;
        match self.max_disk_bytes.filter(|cap| !fits(*cap)) {
            Some(cap) => Err(Error::Config {
                option: "max_disk_bytes",
                found: cap.to_string(),
                allowed: format!("{} and up, or None", least * segment_size + 2 * BLOCK),
            }),
            None => Ok(()),
        }
    }

    /// Bytes of log from one checkpoint to the next: half of the limit, so that there is time to write one.
    pub(crate) fn checkpoint_every(&self) -> u64 {
        self.log_limit / 2
    }

    pub(crate) fn flush_every(&self) -> Option<Duration> {
        self.flush_every_ms.map(Duration::from_millis)
    }
}
