//! The drivers find every bug that is planted in the log, and none where none is.

mod hunt;

use hunt::Driver;
use pagecache::canary::Canary;
use pagecache::inspect::verify;
use pagecache_sim::disk::SimDisk;
use pagecache_sim::driver::{Checked, Tally, Violation, World, claim};
use pagecache_sim::log_driver::{
    Flips, Left, LogOp, LogWorld, SEGMENT, alphabet, cases, config, flip_bits, log_in_one_segment, preludes,
};

/// Who finds what: a bug that only damage shows is not for the drivers of an undamaged disk, one in the handling of failures
/// not for those without faults, and a reservation that another thread holds is not in the alphabet.
const CANARIES: [(Canary, &[Driver]); 18] = [
    (Canary::SkippedSync, &[SEQUENCES, SEEDS]),
    (Canary::EarlyAcknowledgement, &[SEQUENCES, SEEDS]),
    (Canary::WrongCrcSeed, &[SEQUENCES, SEEDS]),
    (Canary::SegmentReusedEarly, &[SEQUENCES, SEEDS]),
    (Canary::OffByOneAtSegmentEnd, &[SEQUENCES, SEEDS]),
    (Canary::StableInsideRecord, &[SEEDS]),
    (Canary::UnsyncedBytesTrusted, &[SEQUENCES, SEEDS]),
    (Canary::SkippedDirectorySync, &[SEQUENCES, SEEDS]),
    (Canary::TornSegmentContinued, &[SEQUENCES, SEEDS]),
    (Canary::DamageTakenForTornTail, &[FLIPS]),
    (Canary::FailedWriteRepeated, &[STRIKES]),
    (Canary::FailedSyncRepeated, &[STRIKES, SEEDS]),
    (Canary::FullDiskForGood, &[STRIKES]),
    (Canary::SecondHeaderMissing, &[VERIFY]),
    (Canary::MarkProvesItself, &[SEQUENCES, SEEDS]),
    (Canary::PiecesFreedEarly, &[SEEDS]),
    (Canary::CloseUnmarked, &[FLIPS, VERIFY]),
    (Canary::TrimForgottenAtReplay, &[SEQUENCES, SEEDS]),
];

const SEQUENCES: Driver =
    ("every short sequence", |tally| hunt::every_short_sequence::<LogWorld>(preludes(), &alphabet(), tally));
const SEEDS: Driver = ("seeds", |tally| hunt::seeds::<LogWorld>(150, tally));
const STRIKES: Driver = ("every fault at every call", |tally| hunt::strikes::<LogWorld>(&cases(), tally));
const FLIPS: Driver = ("flips", flips);
const VERIFY: Driver = ("verify", verify_closed);

/// Some bits of each byte: all of them are turned over in a test of their own.
fn flips(tally: &mut Tally) -> Checked {
    let (disk, records) = log_in_one_segment(Left::Closed).map_err(|error| Violation::new(error.to_string()))?;
    let (names, mut flips) = (disk.file_names(), Flips::default());
    let flipped = flip_bits(&disk, &names[0], (0..SEGMENT * 8).step_by(61), &records, records.len(), &mut flips);
    tally.images += flips.tried;
    flipped
}

/// A log that was closed, seen from outside.
fn verify_closed(tally: &mut Tally) -> Checked {
    let mut world = LogWorld::new(SimDisk::new(1), 1);
    world.open()?;
    for op in [LogOp::Write(300), LogOp::Flush, LogOp::Write(70_000)] {
        world.apply(&op)?;
    }
    world.close()?;
    tally.images += 1;
    let report = verify(config(world.disk())).map_err(|error| Violation::new(error.to_string()))?;
    claim(report.is_sound(), || format!("{:?}", report.problems))?;
    claim(report.evidence.clean, || "a closed log does not say so".to_owned())
}

#[test]
fn every_planted_bug_is_found_and_none_where_none_is() {
    hunt::hunt(&CANARIES);
}
