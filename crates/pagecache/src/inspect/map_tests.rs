//! Checkpoints that are damaged, or say what no sound writer says: each found, at its place, and nothing else is.

use crate::base::damage::Damage;
use crate::base::error::Error;
use crate::base::ids::{Lsn, Sequence, Version};
use crate::format::leaf::{Entry, LeafHead, LeafWriter, entries};
use crate::format::piece::Piece;
use crate::format::record::Kind;
use crate::format::root::Root;
use crate::format::segment::SUPERBLOCKS;
use crate::format::segment::{Stream, name};
use crate::fuzzing::forge::SIZE;
use crate::fuzzing::map::Mapped;
use crate::inspect::Report;
use crate::storage::Storage;
use crate::store::stream::read;

impl Mapped {
    /// Verifies, and nothing is written.
    #[track_caller]
    fn report(&self) -> Report {
        let before = self.files();
        let report = self.verify();
        assert!(self.files() == before, "a verification has written");
        report
    }

    #[track_caller]
    fn assert_found(&self, (segment, offset): (u64, u64), what: &str) {
        let problems = self.report().problems;
        assert_eq!(problems.len(), 1, "{problems:#?}");
        assert_eq!((problems[0].segment, problems[0].offset), (segment, offset), "{}", problems[0]);
        assert!(problems[0].what.contains(what), "{}", problems[0]);
    }

    fn root_at(&self) -> (u64, u64) {
        place(self.checkpoint.superblock.root)
    }

    /// The entries of the last leaf: pages 8 and 9. Nothing stands behind it in its block.
    fn last_leaf(&self) -> Vec<Entry> {
        let segment = self.checkpoint.holds_root.first().unwrap();
        let record = read(segment, self.leaf(2)).unwrap();
        let (head, bytes) = LeafHead::decode(record.body()).unwrap();
        assert_eq!((record.shape.kind, head), (Kind::Leaf, LeafHead { number: 2, checkpoint: 1 }));
        entries(bytes, 4).unwrap()
    }

    /// Changes the last leaf.
    fn change_leaf(&self, change: impl FnOnce(&mut Vec<Entry>)) {
        let mut entries = self.last_leaf();
        change(&mut entries);
        let mut writer = LeafWriter::default();
        for entry in &entries {
            match entry {
                Entry::Absent => writer.absent(),
                Entry::Free(version) => writer.free(*version),
                Entry::Data(pieces) => writer.data(pieces.len(), pieces.iter().copied()),
            }
        }
        self.put_leaf(2, 2, &writer.finish().0);
    }

    /// Changes what root and superblock both say.
    fn change_both(&self, redo: Lsn, stable: Lsn) {
        self.put_root(|root| (root.redo, root.stable) = (redo, stable));
        self.put_superblock(|superblock| (superblock.redo, superblock.stable) = (redo, stable));
    }
}

type Change = fn(&mut Root);

fn place(piece: Piece) -> (u64, u64) {
    (piece.address().0 / SIZE, piece.address().0 % SIZE)
}

fn is_corrupt(error: &Error, damage: Damage) -> bool {
    matches!(error, Error::Corrupt(at) if at.what == damage.what())
}

#[test]
fn a_sound_checkpoint_is_reported_as_it_is() {
    let mapped = Mapped::new();
    let report = mapped.report();
    assert!(report.is_sound() && report.leftovers.is_empty(), "{report:#?}");
    let found = report.checkpoint.unwrap();
    assert_eq!((found.number, found.redo, found.copies_differ), (1, mapped.checkpoint.root.redo, false));
    assert_eq!((found.leaves, found.segments, report.segments.len()), (3, 1, 1));
    assert!(found.allocated > 0 && found.allocated <= SIZE, "{found:?}");
    assert!(found.redo > Lsn(8192) && found.redo < report.evidence.end);
    // A second one, of what has changed since.
    let pages = mapped.start().unwrap();
    let guard = pages.pin();
    let id = pages.allocate(&guard);
    pages.replace_at(id, Version::NONE, "one more".into(), &guard).unwrap();
    pages.flush().unwrap();
    let redo = pages.checkpoint().unwrap();
    drop(guard);
    pages.close().unwrap();
    let found = mapped.report();
    assert!(found.is_sound(), "{found:#?}");
    assert_eq!(found.checkpoint.map(|found| (found.number, found.redo, found.leaves)), Some((2, redo, 3)));
}

#[test]
fn one_copy_of_the_superblock_damaged_or_missing_is_sound_and_said() {
    for copy in SUPERBLOCKS {
        let mapped = Mapped::new();
        mapped.flip(copy, 30);
        let damaged = mapped.report();
        mapped.storage.remove(copy).unwrap();
        for found in [damaged, mapped.report()] {
            assert!(found.is_sound(), "{found:#?}");
            assert!(found.checkpoint.is_some_and(|found| found.copies_differ && found.number == 1), "{found:#?}");
        }
        // The next writer makes it good.
        mapped.start().unwrap().close().unwrap();
        assert!(mapped.report().checkpoint.is_some_and(|found| !found.copies_differ));
    }
}

#[test]
fn both_copies_of_the_superblock_damaged_are_one_problem_and_no_leftovers() {
    let mapped = Mapped::new();
    SUPERBLOCKS.iter().for_each(|copy| mapped.flip(copy, 30));
    mapped.assert_found((u64::MAX, 0), Damage::Superblocks.what());
    let report = mapped.report();
    assert!(report.checkpoint.is_none() && report.leftovers.is_empty(), "{report:#?}");
    assert_eq!(report.pages.live, 10);
    assert!(is_corrupt(&mapped.start().unwrap_err(), Damage::Superblocks));
}

#[test]
fn a_damaged_root_is_found_where_it_is() {
    let mapped = Mapped::new();
    let (segment, offset) = mapped.root_at();
    mapped.flip(&name(Sequence(segment)), offset + 9);
    mapped.assert_found((segment, offset), Damage::Checksum.what());
    assert_eq!(mapped.report().checkpoint, None);
    assert!(is_corrupt(&mapped.start().unwrap_err(), Damage::Checksum));
}

#[test]
fn a_damaged_leaf_is_found_where_it_is_and_the_others_are_checked() {
    let mapped = Mapped::new();
    let (segment, offset) = place(mapped.leaf(1));
    mapped.flip(&name(Sequence(segment)), offset + 9);
    mapped.assert_found((segment, offset), Damage::Checksum.what());
    assert!(mapped.report().checkpoint.is_some_and(|found| found.leaves == 3));
    assert!(is_corrupt(&mapped.get(5), Damage::Checksum));
    mapped.change_leaf(|entries| entries.swap(0, 1));
    assert_eq!(mapped.report().problems.len(), 3, "the damage, and two pages in each other's place");
}

#[test]
fn a_segment_of_the_map_that_is_missing_is_found() {
    let mapped = Mapped::new();
    let (segment, offset) = mapped.root_at();
    mapped.storage.remove(&name(Sequence(segment))).unwrap();
    // The root was in it: where, is all that is known.
    mapped.assert_found((segment, offset), Damage::SegmentMissing.what());
}

#[test]
fn a_leaf_that_names_records_of_other_pages_is_found_at_each() {
    let mapped = Mapped::new();
    let pieces: Vec<Piece> = (mapped.last_leaf().iter())
        .filter_map(|entry| if let Entry::Data(pieces) = entry { pieces.first().copied() } else { None })
        .collect();
    mapped.change_leaf(|entries| entries.swap(0, 1));
    let problems = mapped.report().problems;
    let places: Vec<_> = problems.iter().map(|problem| (problem.segment, problem.offset)).collect();
    assert_eq!(places, [place(pieces[0]), place(pieces[1])], "{problems:#?}");
    assert!(problems.iter().all(|problem| problem.what.contains("something else")), "{problems:#?}");
    assert!(is_corrupt(&mapped.get(8), Damage::OtherPage));
}

#[test]
fn a_leaf_that_says_less_than_the_log_below_the_redo_point_is_found() {
    let cases: [fn(&mut Vec<Entry>); 3] = [
        |entries| (entries[0], entries[2]) = (Entry::Absent, entries[0].clone()),
        |entries| (entries[1], entries[3]) = (Entry::Free(Version(8192)), entries[0].clone()),
        |entries| entries[3] = Entry::Free(Version(8192)),
    ];
    for (nth, change) in cases.into_iter().enumerate() {
        let mapped = Mapped::new();
        mapped.change_leaf(change);
        let problems = mapped.report().problems;
        assert_eq!(problems.len(), if nth == 2 { 1 } else { 2 }, "{problems:#?}");
        let at_leaf = |problem: &&crate::inspect::Problem| (problem.segment, problem.offset) == place(mapped.leaf(2));
        let said = problems.iter().filter(at_leaf).filter(|problem| problem.what.contains("what the log says"));
        assert_eq!(said.count(), 1, "{problems:#?}");
    }
    // The page's own record twice.
    let mapped = Mapped::new();
    let twice = |entry: &Entry| match entry {
        Entry::Data(pieces) => Entry::Data(vec![pieces[0], pieces[0]]),
        _ => panic!("page 9 holds data"),
    };
    mapped.put_root(|root| root.leaves[2].as_mut().unwrap().vacant = 3);
    mapped.change_leaf(|entries| (entries[0], entries[1]) = (Entry::Absent, twice(&entries[1])));
    assert_eq!(mapped.report().problems.len(), 2, "{:#?}", mapped.report().problems);
    assert!(is_corrupt(&mapped.get(9), Damage::OtherVersion));
}

#[test]
fn a_root_that_does_not_fit_the_log_is_found() {
    let at_root: [(&str, Change); 4] = [
        ("the log has none so high", |root| root.high_water += 2),
        ("no leaf for", |root| root.high_water = 9),
        ("no leaf for", |root| (root.leaves[2], root.high_water) = (None, 9)),
        ("replay starts in", |root| root.segments.retain(|known| known.stream == Stream::Map)),
    ];
    for (what, change) in at_root {
        let mapped = Mapped::new();
        mapped.put_root(change);
        let problems = mapped.report().problems;
        let (segment, offset) = mapped.root_at();
        let said = |problem: &&crate::inspect::Problem| problem.what.contains(what);
        assert!(
            problems.iter().filter(said).any(|found| (found.segment, found.offset) == (segment, offset)),
            "{problems:#?}"
        );
    }
    let in_segments: [Change; 3] =
        [|root| root.segments[0].salt += 1, |root| root.segments[0].stream = Stream::Map, |root| root.segments.clear()];
    for change in in_segments {
        let mapped = Mapped::new();
        mapped.put_root(change);
        let problems = mapped.report().problems;
        assert!(
            problems.iter().any(|problem| problem.what == "the segment is not what the root says"),
            "{problems:#?}"
        );
    }
    let mapped = Mapped::new();
    mapped.put_root(|root| root.leaves[1].as_mut().unwrap().vacant = 1);
    mapped.assert_found(place(mapped.leaf(1)), "not what the root says");
}

#[test]
fn a_redo_point_inside_a_record_and_a_log_that_ends_below_what_is_proven_are_found() {
    let mapped = Mapped::new();
    let Root { redo, stable, .. } = mapped.checkpoint.root;
    let Entry::Data(pieces) = &mapped.last_leaf()[0] else { panic!("page 8 holds data") };
    let inside = Lsn(pieces[0].address().0 + 8);
    mapped.change_both(inside, stable);
    mapped.assert_found((0, inside.0), "inside a record");
    assert!(mapped.start().unwrap_err().is_corrupt());

    let mapped = Mapped::new();
    let end = mapped.report().evidence.end;
    mapped.change_both(redo, Lsn(end.0 + 8));
    mapped.assert_found((0, end.0), "a record that was stable is not there");
    assert!(is_corrupt(&mapped.start().unwrap_err(), Damage::StableMissing));
}

/// Only the superblock proves the last round of a store that was not closed.
#[test]
fn what_only_a_checkpoint_proves_to_be_stable_is_no_torn_end() {
    let mapped = Mapped::new();
    let stable = mapped.checkpoint.root.stable;
    let marks: Vec<u64> = (1..SIZE / 4096 - 1).map(|block| block * 4096).filter(|end| *end >= stable.0).collect();
    // Without what came after the checkpoint, and without the record before it.
    let file = mapped.storage.open(&name(Sequence(0)), crate::storage::OpenMode::ReadWrite).unwrap();
    for end in marks {
        crate::storage::write_all(file.as_ref(), &[0; 4096], end).unwrap();
    }
    let report = mapped.report();
    assert!(report.is_sound() && report.evidence.end >= stable, "{report:#?}");
    let Entry::Data(pieces) = &mapped.last_leaf()[1] else { panic!("page 9 holds data") };
    let last = pieces[0].address().0;
    mapped.flip(&name(Sequence(0)), last + 8);
    mapped.assert_found((0, last), "a record that was stable is not there");
}
