//! A directory of arbitrary files as a log.

use pagecache::{Error, Log, LogRead, Lsn};

use super::{Sum, bound, config, full, place, sum, told};
use crate::disk::{Disk, Files};

/// The records in order, and what ended them before the end.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Contents {
    pub(super) records: Vec<(Lsn, Sum)>,
    pub(super) ended: Option<String>,
    first: Lsn,
}

pub(super) fn open(disk: &Disk, read_only: bool) -> Result<Log, String> {
    Log::start(config(disk).read_only(read_only).build()).map_err(|error| told(&error))
}

pub(super) fn contents(log: &Log) -> Contents {
    let mut contents = Contents { records: Vec::new(), ended: None, first: log.first_lsn() };
    let mut below = None;
    for found in log.iter_from(Lsn(0)) {
        match found {
            Ok((lsn, bytes)) => {
                assert!(below < Some(lsn) && lsn >= contents.first && lsn < log.tail_lsn());
                below = Some(lsn);
                // Each is found by its LSN too.
                assert!(matches!(log.read(lsn), Ok(LogRead::Record(again)) if again == bytes), "{lsn} is two records");
                contents.records.push((lsn, sum(&bytes)));
            }
            Err(Error::Corrupt(at)) => contents.ended = Some(place(&at)),
            Err(other) => panic!("no error for a damaged record: {other:?}"),
        }
    }
    contents
}

/// Checks a directory. Returns whether it was one worth keeping.
pub fn check(files: &Files) -> bool {
    let _bound = bound(files);
    let disk = Disk::of(files);
    let read = |disk: &Disk| open(disk, true).map(|log| contents(&log));
    let seen = read(&disk);
    assert_eq!(seen, read(&disk), "two readers see different logs");
    assert!(disk.files() == *files, "a reader has written");
    let log = open(&disk, false);
    let (log, seen) = match (log, seen) {
        (Ok(log), Ok(seen)) => (log, seen),
        (Err(one), Err(other)) => {
            assert_eq!(one, other);
            return true;
        }
        // A reader needs no room for another segment.
        (Err(error), Ok(_)) => {
            assert!(error.starts_with("NoSpace"), "a writer is refused: {error}");
            return true;
        }
        (Ok(_), Err(error)) => panic!("a reader is refused, a writer is not: {error}"),
    };
    assert_eq!(contents(&log), seen, "a writer sees another log than a reader");
    arbitrary_reads(&log);
    let Some(written) = write(&log) else { return true };
    log.close().expect("nothing is wrong with the disk");
    let mut expected = seen;
    if expected.ended.is_none() {
        expected.records.extend(written);
    }
    let log = open(&disk, false).expect("it was closed");
    assert_eq!(contents(&log), expected, "written, closed, opened again");
    trim(&log, &expected);
    true
}

/// Reads where records may be and where none are.
fn arbitrary_reads(log: &Log) {
    let (first, tail) = (log.first_lsn().0, log.tail_lsn().0);
    let from = first.max(tail.saturating_sub(1 << 17));
    for lsn in (from..tail + 64).step_by(1016).chain([0, 1, first, tail, u64::MAX]) {
        match log.read(Lsn(lsn)) {
            Ok(_) => {}
            Err(error) => assert!(
                error.is_corrupt() || matches!(error, Error::NotARecord { .. }),
                "no error for an arbitrary place: {error:?}"
            ),
        }
    }
}

/// Writes a record, one as an extent, and one that is given up. `None` where the numbers are at their end.
fn write(log: &Log) -> Option<Vec<(Lsn, Sum)>> {
    let mut written = Vec::new();
    for bytes in [&b"written"[..], &[7; 20_000]] {
        match log.write(bytes) {
            Ok(lsn) => written.push((lsn, sum(bytes))),
            Err(error) if full(&error) => return None,
            Err(error) => panic!("a log that opened is not written to: {error:?}"),
        }
    }
    match log.reserve(b"given up") {
        Ok(reservation) => reservation.abort(),
        Err(error) => assert!(full(&error), "{error:?}"),
    }
    match log.flush() {
        Ok(_) => Some(written),
        Err(error) if full(&error) => None,
        Err(error) => panic!("a log that opened is not flushed: {error:?}"),
    }
}

/// Forgets the older half.
fn trim(log: &Log, contents: &Contents) {
    let Some((to, _)) = contents.records.get(contents.records.len() / 2) else { return };
    match log.trim(*to) {
        Ok(first) => assert!(first <= *to || first == log.first_lsn()),
        Err(error) if full(&error) => return,
        // A trim walks what it forgets, and what is damaged there it says.
        Err(error) => assert!(error.is_corrupt(), "{error:?}"),
    }
    let first = log.first_lsn();
    let kept = super::log::contents(log);
    let expected = contents.records.iter().filter(|(lsn, _)| *lsn >= first);
    assert!(kept.records.iter().eq(expected), "a trim has taken more than it was asked to");
}
