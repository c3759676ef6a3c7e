//! Images and the links behind them, written over by hand, checksums right: what a leaf may name, and what not.

use std::sync::Arc;

use super::{Report, verify};
use crate::base::damage::Damage;
use crate::base::error::Error;
use crate::base::ids::{Lsn, PageId, Sequence, Version};
use crate::checkpoint::load::find;
use crate::format::BLOCK;
use crate::format::leaf::{Entry, LeafHead, entries};
use crate::format::page::{ImageHead, PageHead, Payload};
use crate::format::piece::Piece;
use crate::format::record::{Frame, Head, Kind, Shape};
use crate::format::segment::{Found, SegmentHeader, Stream, name};
use crate::fuzzing::forge::{Pages, SIZE};
use crate::fuzzing::map::config;
use crate::storage::{MemoryStorage, OpenMode, Storage, StorageFile, read_full, write_all};
use crate::store::handles::Handles;
use crate::store::segment::Segment;
use crate::store::stream::read;

/// The page that has moved.
const PAGE: PageId = PageId(0);

/// A closed store in which a page is an image and two links.
struct Moved {
    storage: MemoryStorage,
    image: Piece,
    links: [Piece; 2],
    head: ImageHead,
    /// The versions of the links.
    versions: [Version; 2],
}

impl Moved {
    fn new() -> Moved {
        let storage = MemoryStorage::new();
        let pages = Pages::start(config(&storage)).unwrap();
        let guard = || pages.pin();
        let ids: Vec<PageId> = (0..120).map(|_| pages.allocate(&guard())).collect();
        for round in 0..20 {
            for id in ids.iter().filter(|id| round < 2 || id.0 % 20 > 0) {
                let at = match pages.state(*id, &guard()).unwrap() {
                    crate::PageState::Live(at) => at,
                    _ => Version::NONE,
                };
                pages.replace_at(*id, at, "whole ".repeat(200), &guard()).unwrap();
            }
            pages.flush().unwrap();
            pages.checkpoint().unwrap();
            pages.clean().unwrap();
        }
        let crate::PageState::Live(at) = pages.state(PAGE, &guard()).unwrap() else { panic!("it holds data") };
        let first = pages.link_at(PAGE, at, "first".to_owned(), &guard()).unwrap();
        let second = pages.link_at(PAGE, first, "second".to_owned(), &guard()).unwrap();
        pages.flush().unwrap();
        pages.checkpoint().unwrap();
        pages.close().unwrap();
        let root = find(&handles(&storage)).unwrap().unwrap().root;
        let leaf = root.leaves[0].unwrap().piece;
        let record = read(&segment(&storage, leaf), leaf).unwrap();
        let (_, bytes) = LeafHead::decode(record.body()).unwrap();
        let Entry::Data(pieces) = &entries(bytes, root.leaf_ids).unwrap()[0] else { panic!("it holds data") };
        let [image, one, two] = pieces[..] else { panic!("{pieces:?}") };
        let segment = segment(&storage, image);
        assert_ne!(segment.header.stream, Stream::Log);
        let record = read(&segment, image).unwrap();
        let (head, _) = ImageHead::decode(record.shape, record.body(), record.body_at()).unwrap();
        assert_eq!(head, ImageHead { page: PAGE, version: at });
        Moved { storage, image, links: [one, two], head, versions: [first, second] }
    }

    /// Writes another record over the image, of the same length.
    fn put(&self, shape: Shape, mut head: Head) {
        let segment = segment(&self.storage, self.image);
        let record = read(&segment, self.image).unwrap();
        let (_, payload) = ImageHead::decode(record.shape, record.body(), record.body_at()).unwrap();
        let Payload::Inline(at) = payload else { panic!("it is short") };
        let payload = &record.body()[at..];
        assert_eq!(head.as_slice().len(), self.head.encode().as_slice().len());
        let place = Lsn(self.image.address().0);
        let bytes = Frame::new(shape, &mut head, payload).bytes(payload, place, segment.header.salt);
        write_all(segment.file().unwrap().as_ref(), &bytes, place.0 % SIZE).unwrap();
    }

    fn put_version(&self, version: Version) {
        self.put(Shape::plain(Kind::Image), ImageHead { version, ..self.head }.encode());
    }

    fn report(&self) -> Report {
        verify(config(&self.storage)).unwrap()
    }

    fn get(&self) -> Result<String, Error> {
        let pages = Pages::start(config(&self.storage)).unwrap();
        let guard = pages.pin();
        pages.get(PAGE, &guard).map(|(page, _)| page.to_string())
    }

    #[track_caller]
    fn assert_sound(&self, page: &str) {
        let report = self.report();
        assert!(report.is_sound(), "{:#?}", report.problems);
        assert_eq!(self.get().unwrap(), page);
    }

    /// All problems are where a piece is, and one of them says this. A get says that the page is damaged.
    #[track_caller]
    fn assert_found(&self, piece: Piece, what: &str, damage: Damage) {
        let problems = self.report().problems;
        let place = (piece.address().0 / SIZE, piece.address().0 % SIZE);
        assert!(problems.iter().all(|found| (found.segment, found.offset) == place), "{problems:#?}");
        assert!(problems.iter().any(|found| found.what.contains(what)), "{problems:#?}");
        match self.get() {
            Err(Error::Corrupt(at)) => {
                assert_eq!((at.page, at.segment, at.offset, at.what), (Some(PAGE), place.0, place.1, damage.what()));
            }
            other => panic!("{other:?}"),
        }
    }
}

fn handles(storage: &MemoryStorage) -> Arc<Handles> {
    Handles::new(Arc::new(storage.clone()), OpenMode::ReadWrite)
}

/// The segment that a piece is in.
fn segment(storage: &MemoryStorage, piece: Piece) -> Arc<Segment> {
    let file: Arc<dyn StorageFile> =
        storage.open(&name(Sequence(piece.address().0 / SIZE)), OpenMode::ReadWrite).unwrap();
    let mut block = [0; BLOCK as usize];
    read_full(file.as_ref(), &mut block, 0).unwrap();
    let Found::Valid(header) = SegmentHeader::decode(&block) else { panic!("a segment") };
    Arc::new(Segment::found(header, file, &handles(storage)))
}

fn whole(links: &str) -> String {
    format!("{}{links}", "whole ".repeat(200))
}

#[test]
fn links_behind_an_image_go_on_its_version_or_are_held_by_it() {
    let moved = Moved::new();
    moved.assert_sound(&whole("firstsecond"));
    moved.put_version(moved.versions[0]);
    moved.assert_sound(&whole("second"));
    moved.put_version(moved.versions[1]);
    moved.assert_sound(&whole(""));
    // No record is of that version: the first link neither goes on it nor is held.
    moved.put_version(Version(moved.versions[0].0 - 8));
    moved.assert_found(moved.links[0], "something else", Damage::OtherVersion);
}

#[test]
fn an_image_of_another_page_or_what_is_no_image_is_found_where_it_is() {
    let moved = Moved::new();
    moved.put(Shape::plain(Kind::Image), ImageHead { page: PageId(1), ..moved.head }.encode());
    moved.assert_found(moved.image, "something else", Damage::OtherPage);
    let moved = Moved::new();
    // As long as an image's head.
    let base = Version(moved.head.version.0);
    moved.put(Shape::plain(Kind::Link), PageHead { page: PAGE, base }.encode(Kind::Link));
    moved.assert_found(moved.image, "another stream", Damage::PageElse);
    assert_eq!(moved.report().problems.len(), 2);
}

#[test]
fn an_image_of_a_version_that_the_log_does_not_have_is_found() {
    let moved = Moved::new();
    let end = moved.report().evidence.end;
    moved.put_version(end.into());
    let problems = moved.report().problems;
    let place = |found: &&super::Problem| (found.segment, found.offset);
    let at_image = (moved.image.address().0 / SIZE, moved.image.address().0 % SIZE);
    let found: Vec<_> = problems.iter().filter(|found| place(found) == at_image).collect();
    assert_eq!(found.len(), 1, "{problems:#?}");
    assert!(found[0].what.contains("a version that the log does not have"), "{}", found[0]);
    moved.put_version(moved.head.version);
    moved.assert_sound(&whole("firstsecond"));
}
