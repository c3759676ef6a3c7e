//! The door itself: what it calls decoded is, and a repair makes of changed bytes what a reader takes.

use super::*;
use crate::storage::{MemoryStorage, OpenMode, Storage, read_full, write_all};
use crate::{Background, ConfigBuilder, Log};

/// Every record of a segment is changed and repaired; the log opens with all of them.
#[test]
fn a_repaired_segment_is_read_with_what_was_changed() {
    let storage = MemoryStorage::new();
    let config = || ConfigBuilder::new().storage(storage.clone()).segment_size(64 << 10).background(Background::Caller);
    let log = Log::start(config().build()).unwrap();
    let lsns: Vec<Lsn> = (0..5).map(|_| log.write(b"before").unwrap()).collect();
    log.close().unwrap();
    let file = storage.open("seg-0000000000000000", OpenMode::ReadWrite).unwrap();
    let mut bytes = vec![0; 64 << 10];
    read_full(file.as_ref(), &mut bytes, 0).unwrap();
    for lsn in &lsns {
        let at = lsn.0 as usize + 6;
        assert_eq!(&bytes[at..at + 6], b"before");
        bytes[at..at + 6].copy_from_slice(b"behind");
    }
    // The store's number, in both headers.
    bytes[20] ^= 1;
    bytes[(60 << 10) + 20] ^= 1;
    write_all(file.as_ref(), &bytes, 0).unwrap();
    assert!(Log::start(config().build()).is_err(), "nothing was changed");
    repair_segment(&mut bytes);
    write_all(file.as_ref(), &bytes, 0).unwrap();
    let log = Log::start(config().build()).unwrap();
    let found: Vec<_> = log.iter_from(Lsn(0)).map(|found| found.unwrap()).collect();
    assert_eq!(found, lsns.into_iter().map(|lsn| (lsn, b"behind".to_vec())).collect::<Vec<_>>());
}
