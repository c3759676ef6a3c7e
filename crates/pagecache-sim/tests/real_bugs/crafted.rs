//! Records whose checksums are right and whose lengths cannot be.

use pagecache::{Error, Log, LogRead, Lsn};
use pagecache_sim::disk::SimDisk;

use crate::harness::{bytes, config, log};

/// A varint of three bytes at most, and how many they are.
fn varint(bytes: &[u8]) -> (usize, usize) {
    let count = 1 + bytes.iter().position(|byte| byte & 0x80 == 0).unwrap();
    let value = bytes[..count].iter().enumerate().map(|(at, byte)| usize::from(byte & 0x7F) << (7 * at)).sum();
    (value, count)
}

/// Changes the body of a record and gives it the checksum that it then has, as `docs/FORMAT.md` says.
fn change(disk: &SimDisk, lsn: Lsn, change: impl FnOnce(&mut [u8])) {
    let name = format!("seg-{:016x}", lsn.0 / (64 << 10));
    let mut file = disk.read_file(&name);
    let salt = salt(&file);
    let at = (lsn.0 % (64 << 10)) as usize;
    let kind = file[at + 4];
    let (len, count) = varint(&file[at + 5..]);
    let body = at + 5 + count..at + 5 + count + len;
    let sum = |body: &[u8]| {
        let mut sealed = body.to_vec();
        sealed.extend_from_slice(&salt.to_le_bytes());
        sealed.extend_from_slice(&lsn.0.to_le_bytes());
        sealed.extend_from_slice(&[kind, 0, 0, 0]);
        sealed.extend_from_slice(&(len as u32).to_le_bytes());
        crc32c::crc32c(&sealed).to_le_bytes()
    };
    assert_eq!(file[at..at + 4], sum(&file[body.clone()]), "the checksum is another one");
    change(&mut file[body.clone()]);
    let sum = sum(&file[body]);
    file[at..at + 4].copy_from_slice(&sum);
    disk.write_file(&name, &file);
}

/// The salt of a segment's life, from its header.
fn salt(file: &[u8]) -> u64 {
    u64::from_le_bytes(file[SALT..SALT + 8].try_into().unwrap())
}

const SALT: usize = 56;

/// redb 1331: eight bytes of a file were believed as a length, and 8 TiB were asked for. Here the length of a record in pieces is
/// checked against the log that would have to hold them.
#[test]
fn a_length_that_no_log_could_hold_is_damage_not_an_allocation() {
    let disk = SimDisk::new(1);
    let open = log(&disk);
    let long = open.write(&bytes(1, 40_000)).unwrap();
    let short = open.write(b"short").unwrap();
    open.close().unwrap();
    for len in [40_000, 39_999, 40_001, 1 << 20, 8 << 40, u64::MAX / 2, u64::MAX - 7, u64::MAX] {
        change(&disk, long, |body| body[16..24].copy_from_slice(&len.to_le_bytes()));
        let open = Log::start(config(&disk).build()).unwrap();
        match open.read(long) {
            Ok(LogRead::Record(record)) => assert!(len == 40_000 && record == bytes(1, 40_000), "{len}"),
            Err(Error::Corrupt(_)) => assert_ne!(len, 40_000),
            other => panic!("{len}: {other:?}"),
        }
        assert_eq!(open.read(short).unwrap(), LogRead::Record(b"short".to_vec()));
        open.close().unwrap();
    }
}
