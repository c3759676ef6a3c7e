//! Every refusal of the decoders is reached by stored bytes. The matches have no wildcard: a new one does not compile before it
//! is reached here.

use std::collections::BTreeSet;

use super::forge::{Forge, SIZE, header};
use super::map::Mapped;
use super::*;
use crate::base::damage::Damage;
use crate::base::error::Error;
use crate::base::ids::{Address, PageId, Sequence};
use crate::format::BLOCK;
use crate::format::leaf::LeafWriter;
use crate::format::mark::MarkKind;
use crate::format::piece::Piece;
use crate::format::segment::Purpose;
use crate::storage::{Storage, StorageFile, write_all};
use crate::{Log, PageCache};

fn closed_log(write: impl FnOnce(&mut Forge)) -> Forge {
    let mut forge = Forge::new(Purpose::Log);
    write(&mut forge);
    forge.close();
    forge
}

/// What a start says.
fn start(forge: &Forge) -> Error {
    forge.log().err().unwrap()
}

/// What the reading of one record of a log that opens says.
fn read(write: impl FnOnce(&mut Forge) -> Lsn) -> Error {
    let mut lsn = Lsn(0);
    let forge = closed_log(|forge| lsn = write(forge));
    forge.log().unwrap().read(lsn).unwrap_err()
}

/// What the reading of page 0 says, where its file is changed once the store is open.
fn get(write: impl FnOnce(&mut Forge), change: impl FnOnce(&mut Forge)) -> Error {
    let mut forge = Forge::new(Purpose::Pages);
    write(&mut forge);
    forge.close();
    let pages = forge.pages().unwrap();
    change(&mut forge);
    let guard = pages.pin();
    let error = pages.get(PageId(0), &guard).unwrap_err();
    assert!(matches!(&error, Error::Corrupt(at) if at.page == Some(PageId(0))), "{error:?}");
    error
}

fn wreck_headers(file: &dyn StorageFile) {
    for offset in [0, SIZE - BLOCK] {
        write_all(file, &[1; 104], offset).unwrap();
    }
}

/// Two segments, the second with something else in its header.
fn two(change: impl FnOnce(&mut SegmentHeader)) -> Forge {
    let mut forge = closed_log(|_| {});
    let end = forge.at;
    forge.segment(header(Purpose::Log, 1), |next| {
        next.previous.as_mut().unwrap().end = end;
        change(next);
    });
    forge
}

/// What a store says that bytes have brought to this.
fn reach(damage: Damage) -> Error {
    match damage {
        Damage::OtherName | Damage::NoNameFits => {
            let forge = Forge::new(Purpose::Log);
            // Nothing was ever written to a file whose rename was lost; where something was, it is no leftover.
            let mut forge = forge;
            if damage == Damage::OtherName {
                forge.raw(b"written");
            }
            forge.storage.rename(&name(Sequence(0)), &name(Sequence(5))).unwrap();
            start(&forge)
        }
        Damage::FileTooShort => {
            let forge = closed_log(|_| {});
            forge.file.set_len(SIZE - 8).unwrap();
            start(&forge)
        }
        Damage::NoHeader => {
            let forge = closed_log(|_| {});
            wreck_headers(forge.file.as_ref());
            start(&forge)
        }
        Damage::NewestHeader => {
            let forge = two(|_| {});
            wreck_headers(forge.file.as_ref());
            start(&forge)
        }
        Damage::NotPredecessor => start(&two(|next| next.previous.as_mut().unwrap().salt += 1)),
        Damage::SegmentMissing => {
            let forge = two(|_| {});
            forge.storage.remove(&name(Sequence(0))).unwrap();
            start(&forge)
        }
        Damage::Superblocks => {
            let mapped = Mapped::new();
            for copy in crate::format::segment::SUPERBLOCKS {
                let file = mapped.storage.open(copy, crate::storage::OpenMode::ReadWrite).unwrap();
                let mut byte = [0];
                assert_eq!(file.read_at(&mut byte, 20).unwrap(), 1);
                // Another byte, whatever stands there: it is of the store's number, which is random.
                write_all(file.as_ref(), &[!byte[0]], 20).unwrap();
            }
            mapped.start().unwrap_err()
        }
        Damage::RootElse => {
            let mapped = Mapped::new();
            mapped.put_superblock(|superblock| superblock.root = mapped.leaf(0));
            mapped.start().unwrap_err()
        }
        Damage::RootMalformed => {
            let mapped = Mapped::new();
            mapped.put_superblock(|superblock| superblock.redo.0 -= 8);
            mapped.start().unwrap_err()
        }
        Damage::RedoMissing => {
            let mapped = Mapped::new();
            mapped.put_root(|root| root.segments.clear());
            mapped.start().unwrap_err()
        }
        Damage::LeafElse => {
            let mapped = Mapped::new();
            mapped.put_leaf(1, 2, &[0, 4]);
            mapped.get(5)
        }
        Damage::LeafMalformed => {
            let mapped = Mapped::new();
            mapped.put_leaf(1, 1, &[0, 5]);
            mapped.get(4)
        }
        Damage::StableMissing => {
            let forge = closed_log(|forge| {
                let lsn = forge.raw(b"acknowledged");
                forge.mark(lsn, MarkKind::Round);
                write_all(forge.file.as_ref(), &[0; 24], lsn.0).unwrap();
            });
            start(&forge)
        }
        Damage::TrimAhead => start(&closed_log(|forge| _ = forge.trim(1 << 40))),
        Damage::NoPage => {
            let mut forge = Forge::new(Purpose::Pages);
            forge.record(Shape::plain(Kind::Replace), Head::new(), b"");
            forge.pages().unwrap_err()
        }
        Damage::MovesMalformed => {
            let reached = [Kind::Moves, Kind::GivenBack].map(|kind| {
                let mut forge = Forge::new(Purpose::Pages);
                forge.record(Shape::plain(kind), Head::new(), &[0x80]);
                forge.pages().unwrap_err()
            });
            assert!(matches!(&reached, [Error::Corrupt(a), Error::Corrupt(b)] if a.what == b.what));
            let [moves, _] = reached;
            moves
        }
        Damage::Misplaced => read(|forge| {
            let pad = forge.at;
            forge.mark(pad, MarkKind::Round);
            forge.extent(pad, pad, 6, 0)
        }),
        Damage::Checksum | Damage::TrimUnwalked => {
            let (mut first, mut second) = (Lsn(0), Lsn(0));
            let forge = closed_log(|forge| (first, second) = (forge.raw(b"first"), forge.raw(&[2; 100])));
            let log = forge.log().unwrap();
            write_all(forge.file.as_ref(), b"!", first.0 + 6).unwrap();
            match damage {
                Damage::Checksum => log.read(first).unwrap_err(),
                _ => log.trim(Lsn(second.0 + 16)).unwrap_err(),
            }
        }
        Damage::FirstMissing => {
            let forge = closed_log(|forge| {
                let whole = forge.raw(&[0; 100]);
                forge.trim(whole.0 + 16);
            });
            forge.log().unwrap().iter_from(Lsn(0)).next().unwrap().unwrap_err()
        }
        Damage::ExtentMalformed => {
            let shape = Shape { extent: true, ..Shape::plain(Kind::Raw) };
            let by_read = read(|forge| forge.record(shape, Head::new(), b"too short"));
            let forge = closed_log(|forge| _ = forge.record(shape, Head::new(), b"too short"));
            let by_walk = forge.log().unwrap().iter_from(Lsn(0)).next().unwrap().unwrap_err();
            assert!(matches!((&by_read, &by_walk), (Error::Corrupt(a), Error::Corrupt(b)) if a.what == b.what));
            by_walk
        }
        Damage::ExtentTooLong => read(|forge| {
            let piece = forge.piece(Lsn(0), b"one");
            forge.extent(piece, piece, 1 << 40, 0)
        }),
        Damage::PieceElse => read(|forge| {
            let piece = forge.raw(b"no piece of anything");
            forge.extent(piece, piece, 6, 0)
        }),
        Damage::PiecesTooLong => read(|forge| {
            let piece = forge.piece(Lsn(0), b"one");
            forge.extent(piece, piece, 2, 0)
        }),
        Damage::ChainBroken => read(|forge| {
            let piece = forge.piece(Lsn(0), b"one");
            forge.extent(piece, piece, 6, 0)
        }),
        Damage::ExtentChecksum => read(|forge| {
            let piece = forge.piece(Lsn(0), b"one");
            forge.extent(piece, piece, 3, crc32c::crc32c(b"one") + 1)
        }),
        Damage::SegmentGone => {
            let mapped = Mapped::new();
            let mut writer = LeafWriter::default();
            // Where a short piece is, so that the leaf is no longer than before.
            (0..4).for_each(|_| writer.data(1, std::iter::once(Piece::new(Address(9 * SIZE), 8))));
            mapped.put_leaf(2, 2, &writer.finish().0);
            mapped.get(8)
        }
        Damage::PageMisplaced => {
            let (mut first, mut second) = (Lsn(0), Lsn(0));
            let write =
                |forge: &mut Forge| (first, second) = (forge.page(Kind::Free, 1, 0), forge.page(Kind::Replace, 0, 0));
            get(write, |forge| {
                // One record over the places of both; what the slot names lies inside it.
                forge.at = Lsn(BLOCK);
                forge.raw(&[0; 100]);
            })
        }
        Damage::PageElse => get(
            |forge| _ = forge.page(Kind::Replace, 0, 0),
            |forge| {
                forge.at = Lsn(BLOCK);
                forge.raw(b"no page");
            },
        ),
        Damage::OtherPage => get(
            |forge| _ = forge.page(Kind::Replace, 0, 0),
            |forge| {
                forge.at = Lsn(BLOCK);
                forge.page(Kind::Replace, 1, 0);
            },
        ),
        Damage::OtherVersion => get(
            |forge| {
                let at = forge.page(Kind::Replace, 0, 0);
                forge.page(Kind::Link, 0, at.0 + 8);
            },
            |_| {},
        ),
    }
}

#[test]
fn every_damage_is_reached_by_stored_bytes() {
    for damage in Damage::ALL {
        let error = reach(*damage);
        let Error::Corrupt(at) = &error else { panic!("{damage:?}: {error:?}") };
        assert_eq!(at.what, damage.what());
        assert!(at.lsns.start <= at.lsns.end, "{at:?}");
    }
    println!("{} damages reached by stored bytes", Damage::ALL.len());
}

/// What a reader says of files that are intact and not for it.
fn incompatible() -> Vec<(&'static str, Error)> {
    let foreign = Forge::new(Purpose::Log);
    foreign.storage.rename(&name(Sequence(0)), "letter.txt").unwrap();
    let newer = Forge::new(Purpose::Log);
    for offset in [0, SIZE - BLOCK] {
        write_all(newer.file.as_ref(), &7u32.to_le_bytes(), offset + 8).unwrap();
    }
    // A record of kind 16 at the first place: as intact as any, and of a later format.
    let mut kind = closed_log(|_| {});
    let mut bytes = vec![0, 0, 0, 0, 16, 2, b'h', b'i'];
    repair_record(&mut bytes, BLOCK, header(Purpose::Log, 0).salt);
    write_all(kind.file.as_ref(), &bytes, BLOCK).unwrap();
    kind.at = Lsn(BLOCK);
    let later = Mapped::new();
    let mut block = later.checkpoint.superblock.encode();
    block[8] = 7;
    repair_superblock(&mut block);
    let copy = later.storage.open("super-b", crate::storage::OpenMode::ReadWrite).unwrap();
    write_all(copy.as_ref(), &block, 0).unwrap();
    let mixed = Mapped::new();
    mixed.put_superblock(|superblock| superblock.store += 1);
    mixed.put_header(|header| header.store += 1);
    let created = Log::start(foreign.config().create(crate::Create::Either).build());
    vec![
        ("with a file letter.txt", created.unwrap_err()),
        ("of format 7", start(&newer)),
        ("a superblock of format 7", later.start().unwrap_err()),
        ("a checkpoint of store", mixed.start().unwrap_err()),
        ("a record of kind 16", start(&kind)),
        ("of another store", start(&two(|next| next.store += 1))),
        ("a bare log", closed_log(|_| {}).pages().err().unwrap()),
        ("a page cache", Forge::new(Purpose::Pages).log().err().unwrap()),
    ]
}

/// Whether stored bytes alone bring an error about.
fn by_bytes(error: &Error) -> bool {
    match error {
        Error::Corrupt(_) | Error::Incompatible { .. } | Error::Decode { .. } => true,
        Error::NotFound { .. } | Error::NotARecord { .. } => true,
        // Of callers, of the system, of other openers.
        Error::Conflict { .. } | Error::NoPage { .. } | Error::TooLarge { .. } | Error::Encode { .. } => false,
        Error::Io { .. } | Error::Poisoned { .. } | Error::NoSpace { .. } | Error::Thread { .. } => false,
        Error::WouldDeadlock { .. } | Error::Held { .. } | Error::ForeignGuard | Error::ReadOnly => false,
        Error::Closed | Error::Locked { .. } | Error::Exists { .. } | Error::Config { .. } => false,
    }
}

#[test]
fn every_error_that_stored_bytes_bring_about_is_reached() {
    let mut errors = Vec::new();
    for (words, error) in incompatible() {
        let Error::Incompatible { found, .. } = &error else { panic!("{words}: {error:?}") };
        assert!(found.contains(words), "{words}: {found}");
        errors.push(error);
    }
    let mut forge = Forge::new(Purpose::Pages);
    forge.record(
        Shape::plain(Kind::Replace),
        PageHead { page: PageId(0), base: crate::Version::NONE }.encode(Kind::Replace),
        b"\x09short",
    );
    let pages = forge.pages().unwrap();
    let guard = pages.pin();
    errors.push(pages.get(PageId(0), &guard).unwrap_err());
    let recovering = PageCache::<super::forge::Concat<true>>::start;
    drop(guard);
    pages.close().unwrap();
    errors.push(recovering(forge.config().build()).unwrap_err());
    errors.push(read(|forge| Lsn(forge.raw(&[0; 100]).0 + 16)));
    let none = Forge::new(Purpose::Log);
    none.storage.remove(&name(Sequence(0))).unwrap();
    errors.push(start(&none));
    errors.push(reach(Damage::Checksum));
    assert!(errors.iter().all(by_bytes), "{errors:?}");
    let kinds: BTreeSet<String> =
        errors.iter().map(|error| format!("{error:?}").split([' ', '(']).next().unwrap().to_owned()).collect();
    println!("{} errors of {} kinds reached by stored bytes: {kinds:?}", errors.len(), kinds.len());
    assert_eq!(kinds.len(), 5);
}
