//! Five wrong logs lose acknowledged records or return others, and a right one never does, over all crash points of all
//! short scripts.

use std::io;

use pagecache_sim::disk::SimDisk;

use crate::logs::{Log, Mistake};

#[derive(Clone, Copy, Debug)]
enum Step {
    Small,
    /// Over a sector's end.
    Large,
    Reset,
}

const STEPS: [Step; 3] = [Step::Small, Step::Large, Step::Reset];
const SCRIPT_LEN: u32 = 5;
const IMAGES_MAX: usize = 32;

#[derive(Debug, Default)]
struct Tally {
    points: u64,
    images: u64,
    violations: u64,
    /// Images in which fewer records were found than acknowledged.
    losses: u64,
}

/// How far a run came: the records after each step that began, and how many steps were acknowledged.
struct Progress {
    states: Vec<Vec<Vec<u8>>>,
    acknowledged: usize,
}

fn script(number: usize) -> Vec<Step> {
    (0..SCRIPT_LEN).map(|at| STEPS[number / STEPS.len().pow(at) % STEPS.len()]).collect()
}

fn payload(step: usize, len: usize) -> Vec<u8> {
    (0..len).map(|at| (step * 37 + at) as u8).collect()
}

/// Runs the steps until the disk crashes.
fn run(disk: &SimDisk, mistake: Mistake, steps: &[Step], progress: &mut Progress) -> io::Result<()> {
    let (mut log, _) = Log::open(disk, mistake)?;
    for (number, step) in steps.iter().enumerate() {
        let mut next = progress.states.last().cloned().unwrap_or_default();
        let len = if matches!(step, Step::Small) { 24 } else { 700 };
        let payload = payload(number, len);
        if matches!(step, Step::Reset) {
            next.clear()
        } else {
            next.push(payload.clone())
        }
        progress.states.push(next);
        match step {
            Step::Small | Step::Large => log.append(&payload)?,
            Step::Reset => log.reset()?,
        }
        progress.acknowledged += 1;
    }
    Ok(())
}

/// Crashes before every call and after the last, recovers from every image, and compares.
fn crash_everywhere(mistake: Mistake, steps: &[Step], tally: &mut Tally) {
    for point in 0.. {
        let disk = SimDisk::new(point);
        disk.crash_at(point);
        let mut progress = Progress { states: vec![Vec::new()], acknowledged: 0 };
        let ended = run(&disk, mistake, steps, &mut progress);
        assert_eq!(ended.is_err(), disk.crashed());
        tally.points += 1;
        for survival in disk.images(IMAGES_MAX, point) {
            let image = disk.crash(survival);
            let (mut log, found) = Log::open(&image, mistake).expect("recovery meets no faults");
            let allowed = &progress.states[progress.acknowledged..];
            let holds = allowed.contains(&found);
            assert!(holds || mistake != Mistake::None, "{steps:?} at {point}, {survival:?}: {found:?}");
            tally.images += 1;
            tally.violations += u64::from(!holds);
            tally.losses += u64::from(found.len() < allowed.iter().map(Vec::len).min().unwrap_or(0));
            if mistake == Mistake::None {
                goes_on(&image, &mut log, found);
            }
        }
        if ended.is_ok() {
            break;
        }
    }
}

/// A recovered log takes another record and keeps it.
fn goes_on(disk: &SimDisk, log: &mut Log, mut records: Vec<Vec<u8>>) {
    records.push(b"after the crash".to_vec());
    log.append(b"after the crash").unwrap();
    for survival in disk.images(4, 0) {
        let (_, found) = Log::open(&disk.crash(survival), Mistake::None).unwrap();
        assert_eq!(found, records);
    }
}

fn tally(mistake: Mistake) -> Tally {
    let mut tally = Tally::default();
    for number in 0..STEPS.len().pow(SCRIPT_LEN) {
        crash_everywhere(mistake, &script(number), &mut tally);
    }
    println!("{mistake:?}: {tally:?}");
    assert!(tally.images > 0);
    tally
}

#[test]
fn a_right_log_never_loses_what_it_acknowledged() {
    assert_eq!(tally(Mistake::None).violations, 0);
}

#[test]
fn a_log_that_does_not_sync_loses_data() {
    assert!(tally(Mistake::NoSync).losses > 0);
}

#[test]
fn a_log_that_does_not_sync_its_directory_loses_data() {
    assert!(tally(Mistake::NoDirSync).losses > 0);
}

#[test]
fn a_log_that_acknowledges_before_the_sync_loses_data() {
    assert!(tally(Mistake::EarlyAck).losses > 0);
}

#[test]
fn a_log_that_does_not_sync_its_length_loses_data() {
    assert!(tally(Mistake::LengthNotSynced).losses > 0);
}

#[test]
fn a_log_that_trusts_a_stale_tail_returns_what_was_forgotten() {
    assert!(tally(Mistake::StaleTail).violations > 0);
}
