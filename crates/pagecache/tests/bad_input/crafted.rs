//! Stores whose checksums are right and whose numbers cannot be: found by fuzzing, refused with a type, never believed.

use pagecache::storage::{MemoryStorage, OpenMode, Storage, read_full, write_all};
use pagecache::{Background, Config, ConfigBuilder, Create, Error, Log, Lsn, Result};

const BLOCK: usize = 4096;
const SIZE: usize = 64 << 10;

/// A log of one segment, and the LSNs of its records.
fn log() -> (MemoryStorage, Vec<Lsn>) {
    let storage = MemoryStorage::new();
    let log = Log::start(config(&storage).segment_size(SIZE as u64).build()).unwrap();
    let lsns: Vec<Lsn> = (0..10u8).map(|nth| log.write(&[nth; 100]).unwrap()).collect();
    log.flush().unwrap();
    log.trim(lsns[3]).unwrap();
    log.close().unwrap();
    (storage, lsns)
}

fn config(storage: &MemoryStorage) -> ConfigBuilder {
    ConfigBuilder::new().storage(storage.clone()).background(Background::Caller)
}

fn existing(storage: &MemoryStorage) -> Config {
    config(storage).create(Create::Existing).build()
}

fn change(storage: &MemoryStorage, name: &str, change: impl FnOnce(&mut [u8])) {
    let file = storage.open(name, OpenMode::ReadWrite).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    read_full(file.as_ref(), &mut bytes, 0).unwrap();
    change(&mut bytes);
    write_all(file.as_ref(), &bytes, 0).unwrap();
}

/// Puts a number into both headers, with the checksum it then has.
fn header(bytes: &mut [u8], field: usize, number: u64) {
    for copy in [0, SIZE - BLOCK] {
        let block = &mut bytes[copy..copy + BLOCK];
        block[field..field + 8].copy_from_slice(&number.to_le_bytes());
        let sum = crc32c::crc32c(&block[..104]);
        block[104..108].copy_from_slice(&sum.to_le_bytes());
    }
}

/// The only segment, under another number if need be, with a number in its headers.
fn with_header(field: usize, number: u64) -> Result<Log> {
    let (storage, _) = log();
    let name = "seg-0000000000000000";
    change(&storage, name, |bytes| header(bytes, field, number));
    if field == 40 {
        storage.rename(name, &format!("seg-{number:016x}")).unwrap();
    }
    Log::start(existing(&storage))
}

#[test]
fn a_header_is_believed_when_its_checksum_and_its_numbers_are_right() {
    assert!(with_header(88, 0).is_ok(), "nothing was changed");
}

/// Its addresses did not fit a page's piece: an assertion failed when a page was replayed.
#[test]
fn a_sequence_beyond_every_address_is_refused() {
    let error = with_header(40, (1 << 57) / SIZE as u64).unwrap_err();
    assert!(error.is_corrupt(), "{error:?}");
}

/// The first record to be written would have been below the first that is kept: acknowledged, then gone.
#[test]
fn a_header_that_trims_what_is_yet_to_be_written_is_refused() {
    let error = with_header(96, 1 << 49).unwrap_err();
    assert!(error.is_corrupt(), "{error:?}");
}

#[test]
fn a_header_that_calls_stable_what_is_yet_to_be_written_is_refused() {
    let error = with_header(88, 1 << 49).unwrap_err();
    assert!(error.is_corrupt(), "{error:?}");
}

/// Two encodings of one header: the salt of a previous segment where there is none.
#[test]
fn a_header_with_a_salt_of_no_segment_is_refused() {
    for field in [72, 80] {
        let error = with_header(field, 8).unwrap_err();
        assert!(error.is_corrupt(), "{error:?}");
    }
}

/// As with the header: records written after it would have been forgotten.
#[test]
fn a_trim_that_names_what_is_yet_to_be_written_is_damage_there() {
    let (storage, lsns) = log();
    let mut at = 0;
    change(&storage, "seg-0000000000000000", |bytes| {
        let salt: [u8; 8] = bytes[56..64].try_into().unwrap();
        let body = lsns[3].0.to_le_bytes();
        // A trim is its checksum, kind 6, length 8, then the LSN.
        at = bytes.windows(10).position(|window| window[..2] == [6, 8] && window[2..] == body).unwrap() - 4;
        bytes[at + 6..at + 14].copy_from_slice(&(1u64 << 49).to_le_bytes());
        let place = [&bytes[at + 6..at + 14], &salt, &(at as u64).to_le_bytes(), &[6, 0, 0, 0, 8, 0, 0, 0]].concat();
        let sum = crc32c::crc32c(&place);
        bytes[at..at + 4].copy_from_slice(&sum.to_le_bytes());
    });
    match Log::start(existing(&storage)) {
        Err(Error::Corrupt(found)) => {
            assert_eq!((found.segment, found.offset), (0, at as u64));
            assert_eq!(found.what, "a trim forgets what comes after it");
        }
        other => panic!("{other:?}"),
    }
}
