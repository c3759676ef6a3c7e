//! A directory of arbitrary files, verified.

use pagecache::inspect::{self, Purpose, Report};

use super::{IDS_MAX, bound, config, log, page, told};
use crate::archive::SUPERBLOCKS;
use crate::disk::{Disk, Files};

/// Checks a directory. Returns whether it was one worth keeping: not, where an id is beyond what is looked at.
pub fn check(files: &Files) -> bool {
    let _bound = bound(files);
    let disk = Disk::of(files);
    let verify = || inspect::verify(config(&disk).build()).map_err(|error| told(&error));
    let report = verify();
    assert_eq!(report, verify(), "two verifications say different things");
    assert!(disk.files() == *files, "a verification has written");
    match report {
        Ok(report) if report.pages.high_water > IDS_MAX => return false,
        Ok(report) => return compare(&disk, &report),
        // What cannot be verified does not open: there is no store, or one of a later format. Below a redo point no opening looks.
        Err(error) => {
            let below = error.starts_with("Incompatible") && SUPERBLOCKS.iter().any(|copy| files.contains_key(*copy));
            assert!(log::open(&disk, true).is_err());
            assert!(below || page::open::<false>(&disk, true).is_err());
        }
    }
    true
}

fn compare(disk: &Disk, report: &Report) -> bool {
    let sizes = report.segments.len() as u64 * report.segment_size;
    assert_eq!(report.bytes.total(), sizes, "bytes are nowhere, or in two places");
    assert_eq!(report.pages.live + report.pages.free + report.pages.unused, report.pages.high_water);
    match report.purpose {
        Some(Purpose::Log) => match log::open(disk, true) {
            Ok(log) => {
                let contents = log::contents(&log);
                if report.is_sound() {
                    assert_eq!(contents.ended, None, "sound, and cannot be read");
                    assert!(contents.records.len() as u64 <= report.records.raw);
                    // An opening steps back over a segment without a record.
                    assert!(log.tail_lsn() <= report.evidence.end);
                    assert_eq!(log.first_lsn(), report.evidence.first);
                }
            }
            Err(error) => assert!(!report.is_sound(), "sound, and does not open: {error}"),
        },
        Some(Purpose::Pages) => match page::open::<false>(disk, true) {
            // A root may know of higher ids than the log does.
            Ok(pages) if pages.stats().ids_high_water > IDS_MAX => {
                assert!(!report.is_sound());
                return false;
            }
            Ok(pages) => {
                let contents = page::contents(&pages);
                if report.is_sound() {
                    assert_eq!(contents.len() as u64, report.pages.live);
                    assert_eq!(pages.stats().ids_high_water, report.pages.high_water);
                    let damaged =
                        contents.iter().find(|(_, (_, found))| found.as_ref().is_err_and(|e| e.starts_with("damaged")));
                    assert_eq!(damaged, None, "sound, and cannot be read");
                }
            }
            Err(error) => assert!(!report.is_sound(), "sound, and does not open: {error}"),
        },
        _ => assert!(!report.is_sound(), "sound, and nothing"),
    }
    true
}
