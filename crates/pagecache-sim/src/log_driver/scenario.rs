//! What the exhaustive driver is given: an alphabet, and the states in which its sequences begin.

use pagecache::{Error, Log, Lsn};

use super::{End, INLINE_MAX, LogOp, SEGMENT, Which, builder, config};
use crate::disk::SimDisk;
use crate::driver::Step;
use crate::log_model::Records;
use crate::rng::Rng;

/// What short sequences are made of.
pub fn alphabet() -> Vec<Step<LogOp>> {
    vec![
        Step::Do(LogOp::Write(40)),
        Step::Do(LogOp::Write(INLINE_MAX + 1)),
        Step::Do(LogOp::Write(70_000)),
        Step::Do(LogOp::Reserve { len: 0, end: End::Completed }),
        Step::Do(LogOp::Reserve { len: 5000, end: End::Aborted }),
        Step::Do(LogOp::Flush),
        Step::Do(LogOp::Trim(Which::Stable)),
        Step::Do(LogOp::Tick),
        Step::Restart,
        Step::Kill,
    ]
}

/// Where sequences begin: each place is one that the first operations of a log do not reach.
pub fn preludes() -> Vec<(&'static str, Vec<Step<LogOp>>)> {
    let records_up_to = |granules: i16| Step::Do(LogOp::ToSegmentEnd(granules));
    let flush = || Step::Do(LogOp::Flush);
    vec![
        ("an empty log", Vec::new()),
        ("records up to the segment's last byte", vec![records_up_to(0)]),
        ("no room for a mark", vec![records_up_to(-3)]),
        ("a segment full after a flush", vec![records_up_to(-100), flush()]),
        ("room for one more mark", vec![records_up_to(-612), flush()]),
        (
            "room for the mark of a close, and no segment behind",
            // The marks of two restarts fill the blocks that records leave free.
            [LogOp::Write(8000); 4]
                .into_iter()
                .chain([LogOp::Flush])
                .map(Step::Do)
                .chain([Step::Restart, Step::Restart])
                .collect(),
        ),
        (
            "files to be reused, full of old records",
            vec![
                Step::Do(LogOp::Write(5000)),
                flush(),
                Step::Do(LogOp::Write(70_000)),
                Step::Do(LogOp::Write(70_000)),
                flush(),
                Step::Do(LogOp::Trim(Which::Stable)),
            ],
        ),
    ]
}

/// How a log was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// Closed cleanly.
    Closed,
    /// Its process died after a flush.
    Killed,
}

/// A log in one segment with records of many lengths, an extent, aborted ones and several flushes, the last of which is of
/// one record; and what it holds.
///
/// # Errors
/// What the log says: it does not fail on a disk without faults.
pub fn log_in_one_segment(left: Left) -> Result<(SimDisk, Records), Error> {
    let mut disk = SimDisk::new(11);
    let log = Log::start(config(&disk))?;
    let mut rng = Rng::new(11);
    for len in [0, 1, 3, 4, 20, 127, 128, 300, 16_500, 2500] {
        let mut body = vec![0; len];
        rng.fill(&mut body);
        let lsn = log.write(&body)?;
        match len {
            1 | 300 => drop(log.flush()?),
            20 => log.reserve(&body)?.abort(),
            4 => drop(log.trim(lsn)?),
            _ => {}
        }
    }
    log.flush()?;
    log.write(b"the last one")?;
    let end = log.flush()?;
    debug_assert!(end.0 < SEGMENT);
    match left {
        Left::Closed => log.close()?,
        Left::Killed => {
            let next = disk.kill();
            drop(log);
            disk = next;
        }
    }
    let log = Log::start(builder(&disk).read_only(true).build())?;
    let found: Result<Records, Error> = log.iter_from(Lsn(0)).collect();
    Ok((disk, found?))
}
