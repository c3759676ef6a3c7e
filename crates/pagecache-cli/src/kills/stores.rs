//! The two stores that are written to: pages and a bare log, of small segments, with a small cache and a short log, so that checkpoints and
//! cleaning are met by kills, too.

use std::path::Path;

use pagecache::{ConfigBuilder, Error, Log, PageCache, Result};

use crate::Failure;
use crate::tour::ledger::Entries;
use crate::tour::slow::SlowDisk;

/// Bytes of a segment.
const SEGMENT: u64 = 64 << 10;

pub(super) struct Stores {
    pub(super) pages: PageCache<Entries>,
    pub(super) log: Log,
}

/// The options of one of the two.
pub(super) fn config(place: &Path, name: &str) -> ConfigBuilder {
    ConfigBuilder::new().path(place.join(name)).cache_capacity(1 << 20).log_limit(1 << 20)
}

impl Stores {
    /// On disks that take their time with every write once the stores are open.
    pub(super) fn open_slow(place: &Path) -> Result<Stores, Failure> {
        let disks = [SlowDisk::new(&place.join("pages"))?, SlowDisk::new(&place.join("log"))?];
        let config = |disk: &SlowDisk| ConfigBuilder::new().storage(disk.clone()).segment_size(SEGMENT).build();
        let stores = Stores { pages: PageCache::start(config(&disks[0]))?, log: Log::start(config(&disks[1]))? };
        disks.iter().for_each(SlowDisk::slow_down);
        Ok(stores)
    }

    pub(super) fn open(place: &Path, read_only: bool) -> Result<Stores> {
        let config = |name| {
            let config = config(place, name).read_only(read_only);
            if read_only { config.build() } else { config.segment_size(SEGMENT).build() }
        };
        Ok(Stores { pages: PageCache::start(config("pages"))?, log: Log::start(config("log"))? })
    }

    pub(super) fn close(self) -> Result<(), Error> {
        self.pages.close()?;
        self.log.close()
    }
}
