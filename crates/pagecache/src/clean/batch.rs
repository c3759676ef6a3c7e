//! Copies gathered to batches, and the memory that they are copied to, which is used again: memory that is mapped for each batch and unmapped behind it
//! is zeroed by the system for each.

use std::sync::Arc;

use crate::base::error::Result;
use crate::base::sync::Mutex;
use crate::format::segment::Stream;
use crate::log::core::LogCore;
use crate::log::held::Held;
use crate::ops::copy::{Content, Copied};
use crate::ops::relocate::Written;
use crate::store::segment::Segment;

/// One batch is copied while another is written.
const KEPT_MAX: usize = 2;

/// Bytes of pages that are worth a sync.
const MIN: u64 = 1 << 20;

/// And those beyond which larger batches gain nothing.
const MAX: u64 = 4 << 20;

/// Not much of a small cache is for batches.
const CACHE_SHARE: u64 = 16;

/// Copies that are not written yet.
pub(super) struct Batch {
    /// Of pages that were in the log.
    folds: Vec<Copied>,
    /// Of pages that were images.
    survivors: Vec<Copied>,
    /// Memory of what is known of each, and of its image later.
    lists: Held,
    buffer: Buffer,
    buffers: Arc<Buffers>,
}

/// Where batches get the memory that they are copied to.
pub(super) struct Buffers {
    log: Arc<LogCore>,
    /// Bytes of pages that are written and synced together, about.
    batch: u64,
    /// How many are kept from one batch to another, until the background has nothing to do.
    keeps: usize,
    kept: Mutex<Vec<Buffer>>,
}

struct Buffer {
    content: Content,
    held: Held,
}

impl Batch {
    pub(super) fn new(buffers: &Arc<Buffers>) -> Batch {
        Batch::to(buffers.take(), buffers)
    }

    fn to(buffer: Buffer, buffers: &Arc<Buffers>) -> Batch {
        let lists = Held::none(&buffers.log);
        Batch { folds: Vec::new(), survivors: Vec::new(), lists, buffer, buffers: Arc::clone(buffers) }
    }

    /// What pages are copied to.
    pub(super) fn content(&mut self) -> &mut Content {
        &mut self.buffer.content
    }

    /// Adds a page that was found in a segment. A batch that is full is handed over.
    pub(super) fn push(
        &mut self,
        from: &Segment,
        copied: Copied,
        hand_over: &mut dyn FnMut(Batch) -> Result<()>,
    ) -> Result<()> {
        match from.header.stream {
            Stream::Log | Stream::Map => self.folds.push(copied),
            Stream::Folds | Stream::Survivors => self.survivors.push(copied),
        }
        self.buffer.count();
        self.lists.set(bytes(&self.folds) + bytes(&self.survivors));
        if self.is_full() { self.hand_over(hand_over) } else { Ok(()) }
    }

    /// Whether it has as many bytes of pages as it is for; or what is known of these is as much: small pages are many.
    fn is_full(&self) -> bool {
        let copies = (self.folds.len() + self.survivors.len()) * (size_of::<Copied>() + size_of::<Written>());
        self.buffer.content.len().max(copies as u64 + self.buffer.content.listed()) >= self.buffers.batch
    }

    /// Takes out its copies, those of pages that were in the log first, and room for as many images. All of it counts until the batch ends.
    pub(super) fn take(&mut self) -> ([Vec<Copied>; 2], Vec<Written>) {
        let copies = [std::mem::take(&mut self.folds), std::mem::take(&mut self.survivors)];
        let written = Vec::with_capacity(copies.iter().map(Vec::len).sum());
        self.lists.set(copies.iter().map(bytes).sum::<u64>() + bytes(&written));
        (copies, written)
    }

    /// Hands over what there is, and goes on with an empty one.
    fn hand_over(&mut self, hand_over: &mut dyn FnMut(Batch) -> Result<()>) -> Result<()> {
        let full = std::mem::replace(self, Batch::to(self.buffers.empty(), &self.buffers));
        hand_over(full)?;
        // Once somebody has taken it: what is written has left its memory then.
        self.buffer = self.buffers.take();
        Ok(())
    }

    /// Leaves its memory to the next.
    pub(super) fn end(self) {
        self.buffers.give_back(self.buffer);
    }
}

impl Buffers {
    /// For a cache of so many bytes.
    pub(super) fn new(log: &Arc<LogCore>, cache_capacity: u64) -> Buffers {
        let share = cache_capacity / CACHE_SHARE;
        // What is more than its share is not kept.
        let keeps = if share < MIN { 0 } else { KEPT_MAX };
        Buffers { log: Arc::clone(log), batch: share.clamp(MIN, MAX), keeps, kept: Mutex::default() }
    }

    fn take(&self) -> Buffer {
        let kept = self.kept.lock().pop();
        kept.unwrap_or_else(|| self.empty())
    }

    /// One without memory.
    fn empty(&self) -> Buffer {
        Buffer { content: Content::of(self.batch), held: Held::none(&self.log) }
    }

    fn give_back(&self, mut buffer: Buffer) {
        buffer.content.clear();
        buffer.count();
        let mut kept = self.kept.lock();
        // A long page has taken more than others need.
        if kept.len() < self.keeps && buffer.held.bytes() <= 2 * self.batch {
            kept.push(buffer);
        }
    }

    /// Frees what is kept.
    pub(super) fn free(&self) {
        let kept = std::mem::take(&mut *self.kept.lock());
        drop(kept);
    }
}

impl Buffer {
    /// Takes note of the memory that it holds.
    fn count(&mut self) {
        self.held.set(self.content.memory());
    }
}

/// Bytes of memory of a list.
fn bytes<T>(list: &Vec<T>) -> u64 {
    (list.capacity() * size_of::<T>()) as u64
}
