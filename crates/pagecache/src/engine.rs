//! An open log with its lock and its background threads: what the bare log and the page cache have in common.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::base::canary::{Canary, planted};
use crate::base::error::{Error, Result};
use crate::base::sync::Mutex;
use crate::config::{Background, Config, Create, SEGMENT_DEFAULT};
use crate::format::mark::MarkKind;
use crate::format::segment::Purpose;
use crate::log::core::{LogCore, Patience};
use crate::maintain::{Workers, turn};
use crate::recovery::open::{Options, Recovered, open};
use crate::recovery::rebuild::Rebuild;
use crate::recovery::survey::is_store;
use crate::storage::{FileStorage, LockGuard, LockMode, Storage};

#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) log: Arc<LogCore>,
    pub(crate) recovered: Recovered,
    pub(crate) read_only: bool,
    storage: Arc<dyn Storage>,
    lock: Mutex<Option<Box<dyn LockGuard>>>,
    workers: Mutex<Option<Workers>>,
    temporary: bool,
    started: Instant,
}

impl Engine {
    /// Checks the options, takes the lock, recovers, starts the background.
    ///
    /// # Errors
    /// `Config`, `Locked`, `NotFound`, `Exists`, `Incompatible`, `Corrupt`, `Io`, `NoSpace`, `Thread`.
    pub(crate) fn start(config: &Config, purpose: Purpose, rebuild: &mut impl Rebuild) -> Result<Engine> {
        config.validate()?;
        let storage = storage(config)?;
        // The lock leaves a file behind: not in a directory that is somebody else's, nor where there shall be nothing new.
        let is_new = !is_store(storage.as_ref())?;
        if is_new && (config.read_only || config.create == Create::Existing) {
            return Err(Error::NotFound { path: storage.describe() });
        }
        if is_new && config.segment_size.is_none() {
            config.check_cap(SEGMENT_DEFAULT)?;
        }
        let lock = lock(storage.as_ref(), config.read_only)?;
        let create = if config.temporary { Create::New } else { config.create };
        let options = Options {
            purpose,
            segment_size: config.segment_size,
            default_segment_size: SEGMENT_DEFAULT,
            max_record: config.max_record,
            checkpoint_every: config.checkpoint_every(),
            create,
            read_only: config.read_only,
            threads: config.background.replay_threads(),
        };
        let (log, recovered) = open(Arc::clone(&storage), options, rebuild)?;
        config.check_cap(log.pool.segment_size())?;
        if let Some(cap) = config.max_disk_bytes {
            log.pool.cap(cap, config.reserve);
        }
        let workers = match config.background {
            Background::Threads if !config.read_only => Some(Workers::start(Arc::clone(&log), config.flush_every())?),
            _ => None,
        };
        Ok(Engine {
            log,
            recovered,
            read_only: config.read_only,
            storage,
            lock: Mutex::new(Some(lock)),
            workers: Mutex::new(workers),
            temporary: config.temporary,
            started: Instant::now(),
        })
    }

    /// Milliseconds since the start, for the age of what is held.
    pub(crate) fn clock(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    /// Runs a worker beside the others, where the store has threads, until it closes.
    ///
    /// # Errors
    /// `Thread`.
    pub(crate) fn work(&self, name: &str, run: impl FnOnce() + Send + 'static) -> Result<()> {
        match &mut *self.workers.lock() {
            Some(workers) => workers.spawn(name, move |_| run()),
            None => Ok(()),
        }
    }

    /// Whether there are threads that work in the background.
    pub(crate) fn has_threads(&self) -> bool {
        self.workers.lock().is_some()
    }

    /// What the background does at its tick, on the caller's thread.
    pub(crate) fn tick(&self) -> Result<()> {
        turn(&self.log)
    }

    /// Joins the threads, flushes, says that the close was clean and frees the lock, in this order and whatever fails on the
    /// way. The second call does nothing.
    ///
    /// # Errors
    /// `Held`, `Poisoned`, `NoSpace`, `Io`; the lock is free in any case.
    pub(crate) fn close(&self) -> Result<()> {
        let workers = self.workers.lock().take();
        if let Some(mut workers) = workers {
            workers.stop();
        }
        let Some(lock) = self.lock.lock().take() else { return Ok(()) };
        let flushed = if self.read_only { Ok(()) } else { self.finish() };
        self.log.close();
        // Who keeps all files may live longer than the lock.
        self.log.pool.end();
        let destroyed = match self.temporary {
            true => self.storage.destroy().map_err(|error| Error::io("remove", self.storage.describe(), error)),
            false => Ok(()),
        };
        drop(lock);
        flushed.and(destroyed)
    }

    fn finish(&self) -> Result<()> {
        // Whoever still holds a reservation here has forgotten it: nothing borrows the store any more.
        if let Some((lsn, since)) = self.log.oldest_open() {
            self.log.flush_below_open()?;
            let age = Duration::from_millis(self.clock().saturating_sub(since));
            return Err(Error::Held { lsn, age });
        }
        self.log.flush(Patience::Wait)?;
        if planted(Canary::CloseUnmarked) {
            return Ok(());
        }
        self.log.mark(MarkKind::Close)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // Who wants to know calls `close`.
        let _ = self.close();
    }
}

pub(crate) fn storage(config: &Config) -> Result<Arc<dyn Storage>> {
    if let Some(storage) = &config.storage {
        return Ok(Arc::clone(storage));
    }
    let Some(path) = &config.path else {
        let made = FileStorage::temporary();
        return Ok(Arc::new(made.map_err(|error| Error::io("create", "a temporary directory", error))?));
    };
    let shown = path.display().to_string();
    let opened = match config.read_only || config.create == Create::Existing {
        true => FileStorage::open(path),
        false => FileStorage::create(path),
    };
    match opened {
        Ok(storage) => Ok(Arc::new(storage)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Error::NotFound { path: shown }),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => Err(Error::Incompatible {
            found: format!("{shown}, which is not a directory"),
            expected: "a directory".to_owned(),
        }),
        Err(error) => Err(Error::io("open", shown, error)),
    }
}

pub(crate) fn lock(storage: &dyn Storage, read_only: bool) -> Result<Box<dyn LockGuard>> {
    let mode = if read_only { LockMode::Shared } else { LockMode::Exclusive };
    let path = storage.describe();
    storage.lock(mode).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => Error::Locked { path },
        io::ErrorKind::NotFound if read_only => Error::NotFound { path },
        _ => Error::io("lock", path, error),
    })
}
