//! The path: nothing there, something else there, no permission; and what a store leaves there.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Stdio;

use pagecache::{Create, Error, Log, PageState, Version};

use crate::harness::{Dir, Texts, check, child, config, copy, filled, is_root, seen, segments, small, within_a_minute};

#[test]
fn a_store_that_must_exist_and_does_not_is_not_found_and_nothing_is_made() {
    let dir = Dir::new();
    let shown = dir.store().display().to_string();
    for there in [false, true] {
        if there {
            fs::create_dir(dir.store()).unwrap();
        }
        for config in [
            small(&dir.store()).create(Create::Existing).build(),
            small(&dir.store()).read_only(true).build(),
            small(&dir.store()).read_only(true).create(Create::Existing).build(),
        ] {
            match Texts::start(config) {
                Err(Error::NotFound { path }) => assert_eq!(path, shown),
                other => panic!("{other:?}"),
            }
            assert_eq!(dir.store().exists(), there);
            assert!(!there || seen(&dir.store()).len() == 1, "something was written");
        }
    }
}

#[test]
fn a_directory_of_other_files_is_incompatible_and_stays_as_it_is() {
    for foreign in ["notes.txt", "seg-1", "seg-00000000000000FF", "tmp-x", "tmp-0000000000000001x", ".hidden", "sub"] {
        let dir = Dir::new();
        fs::create_dir(dir.store()).unwrap();
        match foreign {
            "sub" => fs::create_dir(dir.store().join(foreign)).unwrap(),
            _ => fs::write(dir.store().join(foreign), "precious").unwrap(),
        }
        fs::write(dir.store().join("tmp-0000000000000001"), "precious too").unwrap();
        let before = seen(&dir.store());
        for create in [Create::Either, Create::New, Create::Existing] {
            match Texts::start(small(&dir.store()).create(create).build()) {
                Err(Error::Incompatible { found, expected }) => {
                    assert!(found.contains(foreign), "{found}");
                    assert_eq!(expected, "a store, or an empty directory");
                }
                other => panic!("{foreign} {create:?}: {other:?}"),
            }
            assert!(seen(&dir.store()) == before, "{foreign}, {create:?}: something was touched");
        }
        let read = Texts::start(small(&dir.store()).read_only(true).build());
        assert!(matches!(read, Err(Error::Incompatible { .. })), "{read:?}");
        let temporary = Texts::start(small(&dir.store()).temporary(true).build());
        assert!(matches!(temporary, Err(Error::Incompatible { .. })), "{temporary:?}");
        assert!(seen(&dir.store()) == before, "{foreign}: something was touched");
    }
}

#[test]
fn a_file_in_the_place_of_the_directory_is_incompatible() {
    let dir = Dir::new();
    fs::write(dir.store(), "precious").unwrap();
    for path in [dir.store(), dir.store().join("below")] {
        for create in [Create::Either, Create::New, Create::Existing] {
            match Texts::start(small(&path).create(create).build()) {
                Err(Error::Incompatible { found, expected }) => {
                    assert_eq!(expected, "a directory");
                    assert!(found.contains("store"), "{found}");
                }
                other => panic!("{create:?}: {other:?}"),
            }
        }
    }
    assert_eq!(fs::read(dir.store()).unwrap(), b"precious");
}

#[test]
fn a_bare_log_is_not_opened_as_pages_nor_the_other_way_round() {
    let dir = Dir::new();
    let log = Log::start(config(&dir.join("log"))).unwrap();
    let lsn = log.write(b"kept").unwrap();
    log.close().unwrap();
    filled(&dir.join("pages"));
    match Texts::start(config(&dir.join("log"))) {
        Err(Error::Incompatible { found, expected }) => {
            assert_eq!((&*found, &*expected), ("a bare log", "a page cache"))
        }
        other => panic!("{other:?}"),
    }
    match Log::start(config(&dir.join("pages"))) {
        Err(Error::Incompatible { found, expected }) => {
            assert_eq!((&*found, &*expected), ("a page cache", "a bare log"))
        }
        other => panic!("{other:?}"),
    }
    let log = Log::start(config(&dir.join("log"))).unwrap();
    assert_eq!(log.read(lsn).unwrap(), pagecache::LogRead::Record(b"kept".to_vec()));
}

#[test]
fn files_that_are_none_of_the_stores_do_not_disturb_it_and_stay() {
    let dir = Dir::new();
    let expected = filled(&dir.store());
    fs::write(dir.store().join("notes.txt"), "precious").unwrap();
    fs::create_dir(dir.store().join("sub")).unwrap();
    for _ in 0..2 {
        let pc = Texts::start(config(&dir.store())).unwrap();
        check(&pc, &expected);
        pc.close().unwrap();
    }
    assert_eq!(fs::read(dir.store().join("notes.txt")).unwrap(), b"precious");
    assert!(dir.store().join("sub").is_dir());
}

#[test]
fn what_stands_where_a_file_of_the_store_should_is_a_typed_error() {
    let dir = Dir::new();
    filled(&dir.join("whole"));
    let spoilt = |name: &str, spoil: &dyn Fn(&Path)| {
        let to = dir.join(name);
        copy(&dir.join("whole"), &to);
        spoil(&to);
        match Texts::start(config(&to)) {
            Err(Error::Io { op, path, source }) => (op, path, source.to_string()),
            other => panic!("{name}: {other:?}"),
        }
    };
    let (op, path, _) = spoilt("lock-dir", &|to| {
        fs::remove_file(to.join("LOCK")).unwrap();
        fs::create_dir(to.join("LOCK")).unwrap();
    });
    assert_eq!((op, path), ("lock", dir.join("lock-dir").display().to_string()));
    let (op, path, _) = spoilt("segment-dir", &|to| {
        fs::remove_file(&segments(to)[1]).unwrap();
        fs::create_dir(to.join("seg-0000000000000001")).unwrap();
    });
    assert_eq!((op, &*path), ("open", "seg-0000000000000001"));
    // No following of symlinks.
    let (op, path, _) = spoilt("segment-link", &|to| {
        let real = segments(to)[1].clone();
        fs::rename(&real, to.join("elsewhere")).unwrap();
        std::os::unix::fs::symlink(to.join("elsewhere"), &real).unwrap();
    });
    assert_eq!((op, &*path), ("open", "seg-0000000000000001"));
}

#[test]
fn a_new_store_takes_at_most_a_mebibyte_and_keeps_to_itself() {
    let dir = Dir::new();
    let deep = dir.join("made").join("on").join("the").join("way");
    let pc = Texts::start(pagecache::ConfigBuilder::new().path(&deep).build()).unwrap();
    let blocks = |path: &Path| -> u64 {
        fs::read_dir(path).unwrap().map(|entry| entry.unwrap().metadata().unwrap().blocks() * 512).sum()
    };
    assert!((1..=1 << 20).contains(&blocks(&deep)), "{} bytes of disk", blocks(&deep));
    assert!(pc.stats().disk_bytes <= 1 << 20);
    let guard = pc.pin();
    let id = pc.allocate(&guard);
    pc.replace_at(id, Version::NONE, "x".repeat(20 << 20), &guard).unwrap();
    drop(guard);
    pc.close().unwrap();
    assert!(segments(&deep).len() > 2);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    for made in ["made", "made/on", "made/on/the", "made/on/the/way"] {
        assert_eq!(mode(&dir.join(made)), 0o700, "{made}");
    }
    for entry in fs::read_dir(&deep).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
    let pc = Texts::start(config(&deep)).unwrap();
    assert_eq!(pc.get(id, &pc.pin()).unwrap().0.len(), 20 << 20);
}

/// Root may do everything, so there the checks run in a process of another user.
#[test]
fn no_permission_is_an_error_that_names_the_call_and_the_place() {
    within_a_minute(|| {
        let dir = Dir::new();
        if !is_root() {
            return without_permission(&dir.join("own"));
        }
        fs::set_permissions(dir.join("."), fs::Permissions::from_mode(0o777)).unwrap();
        let mut other = child("without permission", &dir.join("own"));
        match other.uid(65534).gid(65534).current_dir("/").stdout(Stdio::null()).status() {
            Ok(status) => assert!(status.success(), "{status}"),
            Err(error) => println!("skipped: permissions, because root may do everything and: {error}"),
        }
    });
}

/// To be run by someone who is not root.
pub fn without_permission(home: &Path) {
    fs::create_dir(home).unwrap();
    let store = home.join("store");
    let set = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    let denied = |result: Result<Texts, Error>, wanted: &str| match result {
        Err(Error::Io { op, source, .. }) => {
            assert_eq!((op, source.kind()), (wanted, std::io::ErrorKind::PermissionDenied));
        }
        other => panic!("{other:?}"),
    };
    set(home, 0o500);
    denied(Texts::start(config(&store)), "open");
    set(home, 0o700);
    let expected = filled(&store);
    set(&store, 0o000);
    denied(Texts::start(config(&store)), "list");
    set(&store, 0o500);
    // A writer needs the directory only for new files: it gets as far as it can and says which call failed.
    match Texts::start(config(&store)).and_then(|pc| {
        let guard = pc.pin();
        let id = pc.allocate(&guard);
        pc.replace_at(id, Version::NONE, "x".repeat(1 << 20), &guard).map_err(Error::from)?;
        Ok(())
    }) {
        Err(Error::Io { op, source, .. }) => {
            assert_eq!((op, source.kind()), ("create", std::io::ErrorKind::PermissionDenied));
        }
        other => panic!("{other:?}"),
    }
    // A reader needs no permission to write.
    for file in segments(&store).iter().chain([&store.join("LOCK")]) {
        set(file, 0o400);
    }
    let before = seen(&store);
    let pc = Texts::start(small(&store).read_only(true).build()).unwrap();
    check(&pc, &expected);
    pc.close().unwrap();
    assert!(seen(&store) == before);
    denied(Texts::start(config(&store)), "lock");
    for file in segments(&store).iter().chain([&store.join("LOCK")]) {
        set(file, 0o600);
    }
    set(&store, 0o700);
    let pc = Texts::start(config(&store)).unwrap();
    check(&pc, &expected);
    assert_eq!(pc.state(pagecache::PageId(u64::MAX), &pc.pin()).unwrap(), PageState::Unallocated);
}
