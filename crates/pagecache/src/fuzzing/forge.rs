//! Stores written by hand, record by record: checksums right, contents as a test wants them.

use std::sync::Arc;

use crate::base::error::Result;
use crate::base::ids::{Lsn, PageId, Sequence, Version};
use crate::config::{Background, ConfigBuilder, Create};
use crate::format::BLOCK;
use crate::format::mark::{Mark, MarkKind};
use crate::format::page::PageHead;
use crate::format::record::{ExtentRef, Frame, Head, Kind, Shape, pad_block};
use crate::format::segment::{Previous, Purpose, SegmentHeader, Stream, name};
use crate::inspect::{Report, verify};
use crate::page::materialize::Materializer;
use crate::storage::{MemoryStorage, OpenMode, Storage, StorageFile, write_all};
use crate::{Log, PageCache};

pub(crate) const SIZE: u64 = 64 << 10;

/// Pages of bytes; a merge is a concatenation.
#[derive(Debug)]
pub(crate) struct Concat<const RECOVERS: bool>;

impl<const RECOVERS: bool> Materializer for Concat<RECOVERS> {
    type PageFrag = String;
    type Recovery = ();
    const RECOVERS: bool = RECOVERS;
    fn new(_: &Option<()>) -> Self {
        Concat
    }
    fn merge(&self, frags: &[&String]) -> String {
        frags.iter().map(|frag| frag.as_str()).collect()
    }
    fn recover(&self, _: &String) -> Option<()> {
        None
    }
}

pub(crate) type Pages = PageCache<Concat<false>>;

/// The header of a store's n-th segment, on the one before.
pub(crate) fn header(purpose: Purpose, nth: u64) -> SegmentHeader {
    let (start, salt) = (Lsn(nth * SIZE), 77 + nth);
    let previous = nth.checked_sub(1).map(|before| Previous {
        sequence: Sequence(before),
        salt: salt - 1,
        end: Lsn(start.0 - BLOCK),
    });
    let (sequence, stable, first) = (Sequence(nth), Lsn(0), Lsn(0));
    let stream = Stream::Log;
    SegmentHeader { purpose, stream, store: 1, segment_size: SIZE, sequence, start, salt, previous, stable, first }
}

/// A store, written segment by segment.
pub(crate) struct Forge {
    pub(crate) storage: MemoryStorage,
    /// Of the segment that is written now.
    pub(crate) file: Arc<dyn StorageFile>,
    header: SegmentHeader,
    /// Where the next record goes.
    pub(crate) at: Lsn,
}

impl Forge {
    pub(crate) fn new(purpose: Purpose) -> Forge {
        Forge::with(header(purpose, 0), |_| {})
    }

    /// With something else in the first header.
    pub(crate) fn with(mut header: SegmentHeader, change: impl FnOnce(&mut SegmentHeader)) -> Forge {
        change(&mut header);
        let storage = MemoryStorage::new();
        let file = Forge::file(&storage, &header, header.sequence);
        Forge { storage, file, header, at: Lsn(header.start.0 + BLOCK) }
    }

    fn file(storage: &MemoryStorage, header: &SegmentHeader, named: Sequence) -> Arc<dyn StorageFile> {
        let file = storage.open(&name(named), OpenMode::CreateNew).unwrap();
        for offset in [0, header.segment_size - BLOCK] {
            write_all(file.as_ref(), &header.encode(), offset).unwrap();
        }
        file
    }

    /// Goes on in another segment.
    pub(crate) fn segment(&mut self, mut header: SegmentHeader, change: impl FnOnce(&mut SegmentHeader)) {
        change(&mut header);
        self.file = Forge::file(&self.storage, &header, header.sequence);
        (self.at, self.header) = (Lsn(header.start.0 + BLOCK), header);
    }

    pub(crate) fn record(&mut self, shape: Shape, mut head: Head, payload: &[u8]) -> Lsn {
        let (lsn, frame) = (self.at, Frame::new(shape, &mut head, payload));
        let bytes = frame.bytes(payload, lsn, self.header.salt);
        write_all(self.file.as_ref(), &bytes, lsn.0 - self.header.start.0).unwrap();
        self.at = Lsn(lsn.0 + frame.len());
        lsn
    }

    pub(crate) fn raw(&mut self, payload: &[u8]) -> Lsn {
        self.record(Shape::plain(Kind::Raw), Head::new(), payload)
    }

    pub(crate) fn page(&mut self, kind: Kind, page: u64, base: u64) -> Lsn {
        let head = PageHead { page: PageId(page), base: Version(base) }.encode(kind);
        self.record(Shape::plain(kind), head, if kind == Kind::Free { b"" } else { b"\x08fragment" })
    }

    /// A piece of an extent behind the one at `before`.
    pub(crate) fn piece(&mut self, before: Lsn, bytes: &[u8]) -> Lsn {
        let mut head = Head::new();
        head.extend(&before.0.to_le_bytes());
        self.record(Shape::plain(Kind::Extent), head, bytes)
    }

    /// A raw record that names an extent.
    pub(crate) fn extent(&mut self, first: Lsn, last: Lsn, len: u64, crc: u32) -> Lsn {
        let mut head = Head::new();
        ExtentRef { first, last, len, crc }.push_to(&mut head);
        self.record(Shape { extent: true, ..Shape::plain(Kind::Raw) }, head, b"")
    }

    pub(crate) fn trim(&mut self, to: u64) -> Lsn {
        let mut head = Head::new();
        head.extend(&to.to_le_bytes());
        self.record(Shape::plain(Kind::Trim), head, b"")
    }

    pub(crate) fn mark(&mut self, stable: Lsn, kind: MarkKind) {
        let end = Lsn((self.at.0 / BLOCK + 1) * BLOCK);
        let (head, tail) = pad_block(Mark { stable, own: self.at, kind }, end, self.header.salt);
        write_all(self.file.as_ref(), &head, self.at.0 - self.header.start.0).unwrap();
        write_all(self.file.as_ref(), &tail, end.0 - self.header.start.0 - tail.len() as u64).unwrap();
        self.at = end;
    }

    pub(crate) fn close(&mut self) {
        self.mark(self.at, MarkKind::Close);
    }

    pub(crate) fn config(&self) -> ConfigBuilder {
        let builder = ConfigBuilder::new().storage(self.storage.clone()).create(Create::Existing);
        builder.background(Background::Caller)
    }

    pub(crate) fn verify(&self) -> Report {
        verify(self.config().build()).unwrap()
    }

    pub(crate) fn log(&self) -> Result<Log> {
        Log::start(self.config().build())
    }

    pub(crate) fn pages(&self) -> Result<Pages> {
        Pages::start(self.config().build())
    }
}
