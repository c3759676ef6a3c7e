//! Records of pages whose payload is elsewhere, in parts: which segments those parts are in.
//!
//! - Y1. A record that a slot may name and that has parts is in here: it is entered before it is published, and taken out by who has
//!   unpublished it. So whoever lowers the accounts for it finds its parts.
//!
//! There are few: each stands for many bytes. Nobody holds the lock while waiting for anything.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::base::ids::{Address, PageId, Sequence};
use crate::base::sync::Mutex;
use crate::format::parts::Parts;

/// Memory of an entry beside its parts, in bytes, nodes of the tree included.
const ENTRY: usize = 96;

#[derive(Clone, Debug)]
struct Span {
    page: PageId,
    parts: Arc<Parts>,
}

#[derive(Debug, Default)]
pub(crate) struct Spans {
    named: Mutex<BTreeMap<Address, Span>>,
    /// Bytes of memory of them. Relaxed: changed under the lock, looked at without it.
    bytes: AtomicU64,
}

impl Spans {
    /// Enters the record at an address.
    pub(crate) fn enter(&self, at: Address, page: PageId, parts: Arc<Parts>) {
        let more = (ENTRY + parts.heap()) as u64;
        let mut named = self.named.lock();
        if named.insert(at, Span { page, parts }).is_none() {
            self.bytes.fetch_add(more, Ordering::Relaxed);
        }
    }

    /// Takes a record out.
    pub(crate) fn take(&self, at: Address) -> Option<Arc<Parts>> {
        let mut named = self.named.lock();
        let span = named.remove(&at)?;
        self.bytes.fetch_sub((ENTRY + span.parts.heap()) as u64, Ordering::Relaxed);
        Some(span.parts)
    }

    pub(crate) fn parts(&self, at: Address) -> Option<Arc<Parts>> {
        self.named.lock().get(&at).map(|span| Arc::clone(&span.parts))
    }

    /// The pages with parts in a segment, and the records that name them.
    pub(crate) fn pages_in(&self, sequence: Sequence) -> Vec<(Address, PageId)> {
        let named = self.named.lock();
        named.iter().filter(|(_, span)| span.parts.is_in(sequence)).map(|(at, span)| (*at, span.page)).collect()
    }

    /// Bytes of parts in a segment.
    pub(crate) fn bytes_in(&self, sequence: Sequence) -> u64 {
        let named = self.named.lock();
        let parts = named.values().flat_map(|span| span.parts.iter());
        parts.filter(|(at, _)| *at == sequence).map(|(_, bytes)| bytes).sum()
    }

    /// Bytes of memory.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}
