//! The page drivers find every bug that is planted in the handling of pages, and none where none is.

mod hunt;

use std::sync::atomic::{AtomicU64, Ordering};

use hunt::Driver;
use pagecache::canary::Canary;
use pagecache::crossbeam_epoch::Collector;
use pagecache::{Fragment, Materializer, PageBytes, PageCache, PagePtr, PageState, Version};
use pagecache_sim::disk::{Call, Effect, Fault, Rest, SimDisk, Survival, When};
use pagecache_sim::driver::{Checked, Tally, Violation, World, claim};
use pagecache_sim::page_driver::{
    Capped, Flips, Moment, PageWorld, SEGMENT, alphabet, builder, cases, closed_store, flip_bits, pinned,
    pinned_alphabet, preludes,
};

/// Those of pages, and those of the log that show through them. A stable LSN inside a record takes a reservation that another
/// thread holds, which no operation on pages does here.
const CANARIES: [(Canary, &[Driver]); 38] = [
    (Canary::IdReusedBeforeFreeStable, &[SEQUENCES, SEEDS]),
    (Canary::StaleTokenAccepted, &[SEQUENCES, SEEDS]),
    (Canary::FreeForgottenAtReplay, &[SEQUENCES, SEEDS]),
    (Canary::SkippedSync, &[SEQUENCES, SEEDS]),
    (Canary::EarlyAcknowledgement, &[SEQUENCES, SEEDS]),
    (Canary::UnsyncedBytesTrusted, &[SEQUENCES, SEEDS]),
    (Canary::SkippedDirectorySync, &[SEQUENCES, SEEDS]),
    (Canary::TornSegmentContinued, &[SEQUENCES, SEEDS]),
    (Canary::MarkProvesItself, &[SEQUENCES, SEEDS]),
    (Canary::FailedSyncRepeated, &[SEEDS]),
    (Canary::FailedWriteRepeated, &[STRIKES]),
    (Canary::VersionRolledBack, &[SEQUENCES, SEEDS]),
    (Canary::MissingPin, &[READER]),
    (Canary::LotFreedEarly, &[READER]),
    (Canary::DamageTakenForTornTail, &[FLIPS]),
    (Canary::LeafCapturedUnstable, &[SEQUENCES, SEEDS]),
    (Canary::SuperblockBeforeRoot, &[SEQUENCES, SEEDS]),
    (Canary::MapReleasedEarly, &[SEQUENCES, SEEDS]),
    (Canary::MarksLostWithCheckpoint, &[SEEDS]),
    (Canary::SuperblocksLeftDifferent, &[SEQUENCES, SEEDS]),
    (Canary::LeafOverReplay, &[SEQUENCES, SEEDS]),
    (Canary::ReplayAppliedTwice, &[SEQUENCES, SEEDS]),
    (Canary::FreedPageInLeaf, &[SEQUENCES, SEEDS]),
    (Canary::StateNotAdvanced, &[SEQUENCES, SEEDS]),
    (Canary::RecycledBeforeCheckpoint, &[SEQUENCES]),
    (Canary::ImageUnsynced, &[SEQUENCES, SEEDS]),
    (Canary::MoveNotMarked, &[SEQUENCES, SEEDS]),
    (Canary::MoveUnsaid, &[SEQUENCES, SEEDS]),
    (Canary::GivenBackUnstable, &[SEQUENCES, SEEDS]),
    (Canary::MoveReplayedUnmarked, &[SEEDS]),
    (Canary::MoveDoesNotWait, &[SEQUENCES, SEEDS]),
    (Canary::SweptByCheckpointAlone, &[SEQUENCES, SEEDS]),
    (Canary::ReplayedImagesReleased, &[LEFT_AGAIN]),
    (Canary::PiecesBelowMarker, &[SEEDS]),
    (Canary::PartsForgottenInLeaf, &[SEEDS]),
    (Canary::TornCopyLeft, &[COPIES]),
    (Canary::ReserveCountedAsSpace, &[BELOW_A_CAP]),
    (Canary::FilesPinIgnored, &[PINNED, SEEDS]),
];

const SEQUENCES: Driver =
    ("every short sequence", |tally| hunt::every_short_sequence::<PageWorld>(preludes(), &alphabet(), tally));
const SEEDS: Driver = ("seeds", |tally| hunt::seeds::<PageWorld>(400, tally));
const PINNED: Driver = ("every short sequence under a pin", |tally| {
    let under_it = vec![("a pin", pinned())];
    hunt::every_short_sequence::<PageWorld>(under_it, &pinned_alphabet(), tally)
});
const BELOW_A_CAP: Driver = ("seeds below a cap", |tally| hunt::seeds::<Capped>(200, tally));
const STRIKES: Driver = ("every fault at every call", |tally| hunt::strikes::<PageWorld>(&cases(), tally));
const FLIPS: Driver = ("flips", flips);
const COPIES: Driver = ("a copy of the superblock that may be torn", tear_both_copies);
const LEFT_AGAIN: Driver = ("images that pages have left again, on a disk that was full", leave_images_again);
const READER: Driver = ("a reader that holds its guard", hold_a_guard);

/// Some bits of each byte: all of them are turned over in a test of their own.
fn flips(tally: &mut Tally) -> Checked {
    let (world, mut flips) = (closed_store()?, Flips::default());
    let name = &world.disk().file_names()[0];
    let flipped = flip_bits(&world, name, (0..SEGMENT * 8).step_by(61), Moment::Closed, &mut flips);
    tally.images += flips.tried;
    flipped
}

/// The second copy of the superblock could not be written, half of it was on disk, and the checkpoint had failed. The next one began with the
/// first copy: a crash that tore this too left none whole, and the store did not open. The model of the protocol found it.
fn tear_both_copies(tally: &mut Tally) -> Checked {
    let failed = |error: &dyn std::fmt::Display| Violation::new(error.to_string());
    for call in 0.. {
        let disk = SimDisk::new(9);
        let pages = PageCache::<Joined>::start(builder(&disk).build()).map_err(|error| failed(&error))?;
        let guard = pages.pin();
        let id = pages.allocate(&guard);
        let mut at = Version::NONE;
        for round in 0..4 {
            at = pages.link_at(id, at, Counted(vec![round; 10]), &guard).map_err(|error| failed(&error))?;
            pages.flush().map_err(|error| failed(&error))?;
            match round {
                2 => {
                    disk.fault(Fault::new(Call::Write, When::Once(0), Effect::Eio).on("super-b"));
                    claim(pages.checkpoint().is_err(), || "a checkpoint without its second copy".to_owned())?;
                    disk.clear_faults();
                    let (old, new) = (disk.read_file("super-b"), disk.read_file("super-a"));
                    disk.write_file("super-b", &[&new[..50], &old[50..]].concat());
                }
                3 => disk.crash_at(disk.io_count() + call),
                _ => drop(pages.checkpoint().map_err(|error| failed(&error))?),
            }
        }
        let finished = pages.checkpoint().is_ok();
        let torn = disk.pending_writes().into_iter().flat_map(|(event, len)| {
            (0..len.min(80)).step_by(4).map(move |bytes| Survival::Torn { event, bytes, rest: Rest::Absent })
        });
        for survival in torn.chain(disk.images(16, call)) {
            tally.images += 1;
            let again = PageCache::<Joined>::start(builder(&disk.crash(survival)).build());
            let again = again.map_err(|error| Violation::new(format!("call {call}, {survival:?}: {error}")))?;
            let state = again.state(id, &again.pin()).map_err(|error| failed(&error))?;
            claim(state == PageState::Live(at), || format!("call {call}, {survival:?}: {state:?}"))?;
        }
        if finished {
            break;
        }
    }
    Ok(())
}

/// Pages with links that are not stable go to images, of which the log says so, and is not stable either, since the disk is full. Under a pin they leave these
/// again, of which it says nothing. The checkpoint that comes when there is room begins below all of it: who replays the log behind it goes through the images
/// that were left.
fn leave_images_again(tally: &mut Tally) -> Checked {
    const PAGES: usize = 168;
    let failed = |error: &dyn std::fmt::Display| Violation::new(error.to_string());
    let disk = SimDisk::new(5);
    let pages = PageCache::<Joined>::start(builder(&disk).build()).map_err(|error| failed(&error))?;
    let mut at = Vec::new();
    for _ in 0..PAGES {
        let guard = pages.pin();
        let id = pages.allocate(&guard);
        let made = pages.replace_at(id, Version::NONE, Counted(vec![1; 4000]), &guard);
        at.push((id, made.map_err(|error| failed(&error))?));
    }
    // A third of each segment stays.
    for (_, (id, at)) in at.iter_mut().enumerate().filter(|(nth, _)| !nth.is_multiple_of(3)) {
        *at = pages.replace_at(*id, *at, Counted(vec![2; 16]), &pages.pin()).map_err(|error| failed(&error))?;
    }
    pages.flush().map_err(|error| failed(&error))?;
    // So far there are no segments but the log's.
    let tail = format!("seg-{:016x}", pages.stats().tail.0 / SEGMENT);
    pages.checkpoint().map_err(|error| failed(&error))?;
    let stable = pages.stable_lsn();
    disk.fault(Fault::new(Call::Write, When::From(0), Effect::Enospc).on(tail));
    for (id, at) in at.iter_mut().step_by(12) {
        *at = pages.link_at(*id, *at, Counted(vec![3; 16]), &pages.pin()).map_err(|error| failed(&error))?;
    }
    claim(pages.clean().is_err(), || "a turn that is said on a full disk".to_owned())?;
    let moved = pages.stats().fold_bytes;
    claim(moved > SEGMENT && pages.stable_lsn() == stable, || format!("{moved} bytes were moved"))?;
    // Little is left of these images, so they are worth cleaning.
    let is_freed = |nth: usize| nth.is_multiple_of(3) && !nth.is_multiple_of(12);
    for (_, (id, at)) in at.iter_mut().enumerate().filter(|(nth, _)| is_freed(*nth)) {
        *at = pages.free_at(*id, *at, &pages.pin()).map_err(|error| failed(&error))?;
    }
    let pin = pages.pin_files();
    claim(pages.clean().is_err(), || "a turn that ends in a checkpoint on a full disk".to_owned())?;
    let moved = pages.stats().survivor_bytes;
    claim(moved > 0 && pages.stable_lsn() == stable, || format!("{moved} bytes of images were moved again"))?;
    drop(pin);
    disk.clear_faults();
    let redo = pages.checkpoint().map_err(|error| failed(&error))?;
    claim(redo == stable, || format!("a checkpoint at {redo}, and {stable} was stable"))?;
    pages.flush().map_err(|error| failed(&error))?;
    for survival in disk.images(16, 1) {
        tally.images += 1;
        let again = PageCache::<Joined>::start(builder(&disk.crash(survival)).build());
        let again = again.map_err(|error| Violation::new(format!("{survival:?}: {error}")))?;
        for (nth, (id, at)) in at.iter().enumerate() {
            let expected = if is_freed(nth) { PageState::Free(*at) } else { PageState::Live(*at) };
            let state = again.state(*id, &again.pin()).map_err(|error| failed(&error))?;
            claim(state == expected, || format!("{survival:?}: {id} is {state:?}, and was {expected:?}"))?;
            if nth.is_multiple_of(12) {
                let len = again.get(*id, &again.pin()).map_err(|error| failed(&error))?.0.0.len();
                claim(len == 4016, || format!("{survival:?}: {id} has {len} bytes"))?;
            }
        }
    }
    Ok(())
}

/// Fragments that were dropped. Counted, not looked at: what was freed is not touched.
static DROPPED: AtomicU64 = AtomicU64::new(0);

#[derive(Debug)]
struct Counted(Vec<u8>);

impl Drop for Counted {
    fn drop(&mut self) {
        DROPPED.fetch_add(1, Ordering::SeqCst);
    }
}

impl Fragment for Counted {
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), String> {
        out.extend_from_slice(&self.0);
        Ok(())
    }

    fn decode(bytes: PageBytes) -> Result<Counted, String> {
        Ok(Counted(bytes.to_vec()))
    }

    fn heap_size(&self) -> usize {
        self.0.capacity()
    }
}

struct Joined;

impl Materializer for Joined {
    type PageFrag = Counted;
    type Recovery = ();
    const RECOVERS: bool = false;

    fn new(_: &Option<()>) -> Joined {
        Joined
    }

    fn merge(&self, frags: &[&Counted]) -> Counted {
        Counted(frags.iter().flat_map(|frag| frag.0.iter().copied()).collect())
    }

    fn recover(&self, _: &Counted) -> Option<()> {
        None
    }
}

/// A reader sees a page, and keeps its guard while the page is replaced, freed, evicted and moved, and garbage is collected.
fn hold_a_guard(tally: &mut Tally) -> Checked {
    let failed = |error: &dyn std::fmt::Display| Violation::new(error.to_string());
    for change in 0..4 {
        // A collector of its own: what an earlier turn has left is not freed in this one.
        let config = builder(&SimDisk::new(1)).collector(Collector::new()).build();
        let pages = PageCache::<Joined>::start(config).map_err(|error| failed(&error))?;
        let guard = pages.pin();
        let id = pages.allocate(&guard);
        let token =
            pages.replace(id, PagePtr::null(), Counted(vec![1; 100]), &guard).map_err(|error| failed(&error))?;
        let (page, _) = pages.get(id, &guard).map_err(|error| failed(&error))?;
        let mut before = DROPPED.load(Ordering::SeqCst);
        match change {
            0 => drop(pages.replace(id, token, Counted(vec![2; 100]), &guard).map_err(|error| failed(&error))?),
            1 => drop(pages.free(id, token, &guard).map_err(|error| failed(&error))?),
            2 => {
                let other = pages.allocate(&guard);
                // Larger than the cache: everything else has to go.
                let at = pages.replace_at(other, Version::NONE, Counted(vec![3; 70_000]), &guard);
                at.map_err(|error| failed(&error))?;
            }
            _ => {
                // In each segment is little that is in use: the page that is read, or another.
                let (other, mut at) = (pages.allocate(&guard), Version::NONE);
                for nth in 0..10 * SEGMENT / 2000 {
                    let blob = Counted(vec![3; 2000]);
                    at = pages.replace_at(other, at, blob, &guard).map_err(|error| failed(&error))?;
                    if nth % (SEGMENT / 2000) == 0 {
                        let kept = pages.replace_at(pages.allocate(&guard), Version::NONE, Counted(vec![4]), &guard);
                        kept.map_err(|error| failed(&error))?;
                    }
                }
                pages.free_at(other, at, &guard).map_err(|error| failed(&error))?;
                pages.flush().map_err(|error| failed(&error))?;
                pages.checkpoint().map_err(|error| failed(&error))?;
                before = DROPPED.load(Ordering::SeqCst);
                let moved = pages.clean().map_err(|error| failed(&error))?;
                claim(moved > 0, || "nothing was moved".to_owned())?;
                for _ in 0..8 {
                    pages.clean().map_err(|error| failed(&error))?;
                }
            }
        }
        for _ in 0..1000 {
            pages.pin().flush();
        }
        tally.images += 1;
        let freed = DROPPED.load(Ordering::SeqCst) - before;
        claim(freed == 0, || format!("{freed} fragments were freed under a guard that saw them"))?;
        claim(page.0.len() == 100, || "another page".to_owned())?;
    }
    Ok(())
}

#[test]
fn every_planted_bug_is_found_and_none_where_none_is() {
    hunt::hunt(&CANARIES);
}
