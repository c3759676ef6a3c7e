//! Spoilt files: an error that says what is wrong and where, or the right content; never a panic, never a silent loss.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use pagecache::{Corruption, Error};

use crate::harness::{Dir, Expected, Texts, check, config, copy, filled, right_or_typed, segments, within_a_minute};

const SEGMENT: u64 = 64 << 10;

/// A closed store of several segments, to be copied and spoilt.
struct Whole {
    dir: Dir,
    expected: Expected,
    turn: u32,
}

impl Whole {
    fn new() -> Whole {
        let dir = Dir::new();
        let expected = filled(&dir.join("whole"));
        assert!(segments(&dir.join("whole")).len() >= 5);
        Whole { dir, expected, turn: 0 }
    }

    /// A fresh copy and its segments.
    fn copy(&mut self) -> (PathBuf, Vec<PathBuf>) {
        let old = self.dir.join(&format!("spoilt{}", self.turn));
        let _ = fs::remove_dir_all(old);
        self.turn += 1;
        let path = self.dir.join(&format!("spoilt{}", self.turn));
        copy(&self.dir.join("whole"), &path);
        let segments = segments(&path);
        (path, segments)
    }

    fn right_or_typed(&self, path: &Path, what: &str) -> Result<(), Error> {
        right_or_typed(path, &self.expected, what)
    }

    fn corrupt(&self, path: &Path, what: &str) -> Corruption {
        match self.right_or_typed(path, what) {
            Err(Error::Corrupt(at)) => *at,
            other => panic!("{what}: {other:?}"),
        }
    }
}

fn set_len(path: &Path, len: u64) {
    OpenOptions::new().write(true).open(path).unwrap().set_len(len).unwrap();
}

fn write(path: &Path, bytes: &[u8], offset: u64) {
    OpenOptions::new().write(true).open(path).unwrap().write_all_at(bytes, offset).unwrap();
}

/// Class: header durable, file growth not (redb crash tests); torn journal unopenable, truncation dropped good writes (fjall
/// 68/112): a segment's length is durable before its name is, so a shorter file is damage and no torn tail.
#[test]
fn a_truncated_segment_is_damage_at_every_length_never_a_shorter_log() {
    within_a_minute(|| {
        let mut whole = Whole::new();
        let count = whole.copy().1.len();
        let mut lens: Vec<u64> = (0..SEGMENT).step_by(4096 - 8).collect();
        lens.extend([1, 8, 103, 104, 108, 512, 4095, 4096, 4097, 8191, 8192, SEGMENT - 4096, SEGMENT - 1]);
        for segment in [0, count / 2, count - 1] {
            for len in &lens {
                let (path, segments) = whole.copy();
                set_len(&segments[segment], *len);
                let at = whole.corrupt(&path, &format!("segment {segment} of {len} bytes"));
                assert_eq!((at.page, at.segment), (None, segment as u64), "{len}: {at:?}");
            }
        }
    });
}

#[test]
fn a_longer_segment_is_read_as_it_was() {
    let mut whole = Whole::new();
    let (path, segments) = whole.copy();
    for segment in segments {
        set_len(&segment, 3 * SEGMENT + 17);
    }
    whole.right_or_typed(&path, "longer").unwrap();
}

#[test]
fn an_empty_or_garbage_segment_is_damage() {
    let mut whole = Whole::new();
    let count = whole.copy().1.len();
    let garbage: Vec<u8> = (0..SEGMENT).map(|at| (at * 131 + at / 7) as u8).collect();
    for bytes in [&[][..], &[0; SEGMENT as usize], &garbage, b"seg"] {
        for segment in 0..count {
            let (path, segments) = whole.copy();
            fs::write(&segments[segment], bytes).unwrap();
            let at = whole.corrupt(&path, &format!("segment {segment} is {} bytes of garbage", bytes.len()));
            assert_eq!((at.page, at.segment), (None, segment as u64), "{at:?}");
        }
        // One more than there should be: it bears the name of a segment, so it was one.
        let (path, _) = whole.copy();
        fs::write(path.join("seg-00000000000000aa"), bytes).unwrap();
        let at = whole.corrupt(&path, "one more");
        assert_eq!((at.page, at.segment), (None, 0xaa));
        // The only file there is.
        let path = whole.dir.join("alone");
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).unwrap();
        fs::write(path.join("LOCK"), "").unwrap();
        fs::write(path.join("seg-0000000000000000"), bytes).unwrap();
        assert_eq!(whole.corrupt(&path, "alone").what, "no segment has a valid header");
        assert_eq!(fs::read(path.join("seg-0000000000000000")).unwrap(), bytes);
    }
}

#[test]
fn either_copy_of_a_header_suffices() {
    let mut whole = Whole::new();
    for offset in [0, SEGMENT - 4096] {
        let (path, segments) = whole.copy();
        for segment in segments {
            write(&segment, &[0; 4096], offset);
        }
        whole.right_or_typed(&path, "one copy").unwrap();
    }
    let (path, segments) = whole.copy();
    write(&segments[2], &[0; 4096], 0);
    write(&segments[2], &[0; 4096], SEGMENT - 4096);
    assert_eq!(whole.corrupt(&path, "no copy").segment, 2);
}

#[test]
fn a_newer_format_is_incompatible_and_nothing_is_touched() {
    let mut whole = Whole::new();
    let count = whole.copy().1.len();
    for newer in [0..1, count - 1..count, 0..count] {
        let (path, segments) = whole.copy();
        for segment in &segments[newer] {
            for offset in [0, SEGMENT - 4096] {
                write(segment, &7u32.to_le_bytes(), offset + 8);
            }
        }
        let before = crate::harness::seen(&path);
        match Texts::start(config(&path)) {
            Err(Error::Incompatible { found, expected }) => {
                assert!(found.ends_with("of format 7") && expected == "format 1", "{found}, {expected}");
            }
            other => panic!("{other:?}"),
        }
        assert!(crate::harness::seen(&path) == before, "something was touched");
    }
    // A flipped version in one copy is just damage of that copy.
    let (path, segments) = whole.copy();
    write(&segments[1], &7u32.to_le_bytes(), 8);
    whole.right_or_typed(&path, "one copy").unwrap();
}

#[test]
fn a_segment_of_another_store_is_incompatible_wherever_it_is_put() {
    let mut whole = Whole::new();
    let count = whole.copy().1.len();
    filled(&whole.dir.join("other"));
    let other = segments(&whole.dir.join("other"));
    for at in 0..count {
        let (path, own) = whole.copy();
        fs::copy(&other[at], &own[at]).unwrap();
        match whole.right_or_typed(&path, "foreign") {
            Err(Error::Incompatible { found, expected }) => {
                assert!(found.contains("of another store") && expected.starts_with("segments of store"), "{found}");
            }
            other => panic!("{at}: {other:?}"),
        }
    }
    // The other's newest, beside all of this one's.
    let (path, own) = whole.copy();
    let newest = other.last().unwrap();
    let renamed = path.join(format!("seg-{count:016x}"));
    assert!(!own.contains(&renamed));
    fs::copy(newest, renamed).unwrap();
    whole.right_or_typed(&path, "foreign under another name").unwrap_err();
}

/// Class: mid-log corruption taken for a torn tail (fjall 311).
#[test]
fn a_segment_that_is_missing_before_the_newest_is_damage() {
    let mut whole = Whole::new();
    let count = whole.copy().1.len();
    for missing in 0..count - 1 {
        let (path, segments) = whole.copy();
        fs::remove_file(&segments[missing]).unwrap();
        let at = whole.corrupt(&path, &format!("{missing} is missing"));
        assert_eq!((at.page, at.segment, at.what), (None, missing as u64, "a segment is missing"));
    }
    let (path, segments) = whole.copy();
    for segment in segments {
        fs::remove_file(segment).unwrap();
    }
    let only = Texts::start(crate::harness::small(&path).create(pagecache::Create::Existing).build());
    assert!(matches!(only, Err(Error::NotFound { .. })), "{only:?}");
}

/// A recycled file may keep its old name in a crash, but then nothing was written to its new life.
#[test]
fn a_segment_under_another_name_is_damage_and_stays_there() {
    let mut whole = Whole::new();
    let count = whole.copy().1.len();
    for segment in 0..count {
        for name in ["seg-00000000000000aa", "seg-0000000000000000", "seg-ffffffffffffffff"] {
            let (path, segments) = whole.copy();
            let to = path.join(name);
            if segments[segment] == to {
                continue;
            }
            fs::rename(&segments[segment], &to).unwrap();
            let error = whole.right_or_typed(&path, &format!("{segment} as {name}")).unwrap_err();
            assert!(matches!(error, Error::Corrupt(_)), "{error:?}");
            assert!(to.exists(), "{segment} as {name} was removed");
        }
    }
    // Two that changed places.
    let (path, segments) = whole.copy();
    fs::rename(&segments[1], path.join("x")).unwrap();
    fs::rename(&segments[2], &segments[1]).unwrap();
    fs::rename(path.join("x"), &segments[2]).unwrap();
    let error = whole.right_or_typed(&path, "exchanged").unwrap_err();
    assert!(matches!(error, Error::Corrupt(_)), "{error:?}");
}

/// Class: an 8-byte pointer becomes an 8 TiB allocation (redb 1331); recovery panics (sled 954).
#[test]
fn stretches_of_ones_and_zeros_anywhere_are_found() {
    within_a_minute(|| {
        let mut whole = Whole::new();
        let count = whole.copy().1.len();
        let mut found = 0;
        for segment in 0..count {
            for offset in (0..SEGMENT).step_by(4096 + 512 + 8) {
                for (bytes, len) in [(0xff, 16), (0x00, 4096), (0x7f, 1024)] {
                    let (path, segments) = whole.copy();
                    write(&segments[segment], &vec![bytes; len.min((SEGMENT - offset) as usize)], offset);
                    let what = format!("segment {segment}, {len} times {bytes:x} at {offset}");
                    // Behind the last record, in a pad or in one copy of a header nothing is lost. In the newest segment the
                    // mark of the close alone cannot be told from a torn one, and nothing is lost by it either.
                    if let Err(error) = whole.right_or_typed(&path, &what) {
                        assert!(matches!(error, Error::Corrupt(_)), "{what}: {error:?}");
                        found += 1;
                    }
                }
            }
        }
        assert!(found > 20 * count, "{found} of {count} segments");
    });
}

#[test]
fn an_untouched_copy_is_right() {
    let mut whole = Whole::new();
    let (path, _) = whole.copy();
    whole.right_or_typed(&path, "untouched").unwrap();
    check(&Texts::start(config(&path)).unwrap(), &whole.expected);
}
