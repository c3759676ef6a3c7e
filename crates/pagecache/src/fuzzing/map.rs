//! A store with a checkpoint, whose superblock, root and leaves can be written over by hand, checksums right.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::forge::{Pages, SIZE};
use crate::base::error::Error;
use crate::base::ids::{Lsn, PageId, Version};
use crate::checkpoint::load::{Checkpoint, equalize, find, write_copy};
use crate::config::{Background, Config, ConfigBuilder};
use crate::format::BLOCK;
use crate::format::leaf::LeafHead;
use crate::format::piece::Piece;
use crate::format::record::{Frame, Head, Kind, Shape};
use crate::format::root::{PartHead, Root};
use crate::format::segment::SUPERBLOCKS;
use crate::format::segment::SegmentHeader;
use crate::format::superblock::Superblock;
use crate::inspect::{Report, verify};
use crate::storage::{MemoryStorage, OpenMode, Storage, read_full, write_all};
use crate::store::handles::Handles;

/// Pages of which every one is in the last checkpoint, closed.
pub(crate) struct Mapped {
    pub(crate) storage: MemoryStorage,
    pub(crate) checkpoint: Checkpoint,
}

impl Mapped {
    pub(crate) fn new() -> Mapped {
        let storage = MemoryStorage::new();
        let pages = Pages::start(config(&storage)).unwrap();
        let guard = pages.pin();
        for number in 0..10 {
            let id = pages.allocate(&guard);
            pages.replace_at(id, Version::NONE, format!("page {number}"), &guard).unwrap();
        }
        pages.flush().unwrap();
        pages.checkpoint().unwrap();
        drop(guard);
        pages.close().unwrap();
        let handles = Handles::new(Arc::new(storage.clone()), OpenMode::ReadWrite);
        let checkpoint = find(&handles).unwrap().unwrap();
        assert_eq!((checkpoint.root.leaves.len(), checkpoint.root.leaf_ids), (3, 4));
        // Both copies name one root: what is wrong with that is seen.
        equalize(&storage, &checkpoint.superblock).unwrap();
        Mapped { storage, checkpoint }
    }

    pub(crate) fn leaf(&self, number: usize) -> Piece {
        self.checkpoint.root.leaves[number].unwrap().piece
    }

    /// Writes a record over what a piece names.
    pub(crate) fn put(&self, piece: Piece, kind: Kind, mut head: Head, payload: &[u8]) {
        let segment = self.checkpoint.holds_root.first().unwrap();
        assert_eq!(segment.header.sequence.0, piece.address().0 / SIZE);
        let frame = Frame::new(Shape::plain(kind), &mut head, payload);
        let bytes = frame.bytes(payload, Lsn(piece.address().0), segment.header.salt);
        write_all(segment.file().unwrap().as_ref(), &bytes, piece.address().0 % SIZE).unwrap();
    }

    pub(crate) fn put_leaf(&self, number: usize, head: u64, entries: &[u8]) {
        let head = LeafHead { number: head, checkpoint: 1 }.encode();
        self.put(self.leaf(number), Kind::Leaf, head, entries);
    }

    /// Writes a root over the one there is.
    pub(crate) fn put_root(&self, change: impl FnOnce(&mut Root)) {
        let mut root = self.checkpoint.root.clone();
        change(&mut root);
        let head = PartHead { checkpoint: 1, index: 0, previous: None }.encode();
        self.put(self.checkpoint.superblock.root, Kind::Root, head, &root.encode(SIZE));
    }

    /// Writes both headers of the segment that holds root and leaves.
    pub(crate) fn put_header(&self, change: impl FnOnce(&mut SegmentHeader)) {
        let segment = self.checkpoint.holds_root.first().unwrap();
        let mut header = segment.header;
        change(&mut header);
        for offset in [0, SIZE - BLOCK] {
            write_all(segment.file().unwrap().as_ref(), &header.encode(), offset).unwrap();
        }
    }

    /// Writes both copies of the superblock.
    pub(crate) fn put_superblock(&self, change: impl FnOnce(&mut Superblock)) {
        let mut superblock = self.checkpoint.superblock;
        change(&mut superblock);
        SUPERBLOCKS.iter().for_each(|name| write_copy(&self.storage, name, &superblock).unwrap());
    }

    pub(crate) fn start(&self) -> Result<Pages, Error> {
        Pages::start(config(&self.storage))
    }

    pub(crate) fn verify(&self) -> Report {
        verify(config(&self.storage)).unwrap()
    }

    /// Every file's bytes.
    pub(crate) fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let read = |name: &String| {
            let file = self.storage.open(name, OpenMode::ReadOnly).unwrap();
            let mut bytes = vec![0; file.len().unwrap() as usize];
            read_full(file.as_ref(), &mut bytes, 0).unwrap();
            bytes
        };
        self.storage.list().unwrap().into_iter().map(|name| (name.clone(), read(&name))).collect()
    }

    /// Turns a bit of a file over.
    pub(crate) fn flip(&self, name: &str, offset: u64) {
        let file = self.storage.open(name, OpenMode::ReadWrite).unwrap();
        let mut byte = [0];
        read_full(file.as_ref(), &mut byte, offset).unwrap();
        write_all(file.as_ref(), &[byte[0] ^ 4], offset).unwrap();
    }

    /// What the reading of a page says.
    pub(crate) fn get(&self, page: u64) -> Error {
        let pages = self.start().unwrap();
        let guard = pages.pin();
        pages.get(PageId(page), &guard).unwrap_err()
    }
}

pub(crate) fn config(storage: &MemoryStorage) -> Config {
    ConfigBuilder::new().storage(storage.clone()).segment_size(SIZE).background(Background::Caller).build()
}
