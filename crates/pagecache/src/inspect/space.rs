//! Where the bytes of a store are that nobody has open: it is opened read only, whatever its pages are.

use crate::base::error::Result;
use crate::cache::PageCache;
use crate::config::{Config, Create};
use crate::page::fragment::{Fragment, PageBytes};
use crate::page::materialize::Materializer;
use crate::space::Space;
use crate::stats::Stats;

/// Pages that nobody looks into.
struct Unread(PageBytes);

impl Fragment for Unread {
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), String> {
        out.extend_from_slice(&self.0);
        Ok(())
    }

    fn decode(bytes: PageBytes) -> Result<Unread, String> {
        Ok(Unread(bytes))
    }

    fn heap_size(&self) -> usize {
        self.0.heap_size()
    }
}

struct Opaque;

impl Materializer for Opaque {
    type PageFrag = Unread;
    type Recovery = ();
    const RECOVERS: bool = false;

    fn new(_: &Option<()>) -> Opaque {
        Opaque
    }

    fn merge(&self, frags: &[&Unread]) -> Unread {
        Unread(frags.last().map(|last| last.0.clone()).unwrap_or_default())
    }

    fn recover(&self, _: &Unread) -> Option<()> {
        None
    }
}

/// Says where the bytes of a [`PageCache`]'s store are, as [`PageCache::space`] does. No user type is needed.
///
/// The store is opened read only, with the shared lock, whatever the options say, and its log replayed in memory: several may look at
/// once, none beside a writer. Nothing was written since that start, so `written` is zero; `fill_target` is what the options say.
///
/// # Errors
/// As [`PageCache::start`] and [`PageCache::space`]: `NotFound`, `Locked`, `Incompatible` for a bare log too, `Corrupt`, `Io`; `Config` for
/// options that cannot be read only.
pub fn space(config: Config) -> Result<Space> {
    look(config)?.space()
}

/// The same, and what such an opening says of itself: [`PageCache::stats`] with every leaf of the map read. Its `memory` is what a start takes before any
/// page is read, with the `cache_capacity` of the options.
///
/// # Errors
/// As [`space`].
pub fn stats(config: Config) -> Result<(Stats, Space)> {
    let pages = look(config)?;
    let space = pages.space()?;
    Ok((pages.stats(), space))
}

fn look(config: Config) -> Result<PageCache<Opaque>> {
    PageCache::start(Config { read_only: true, create: Create::Existing, ..config })
}
