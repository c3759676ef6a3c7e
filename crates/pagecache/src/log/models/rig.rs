//! A whole log on a disk of its own, and what is looked at in every model: whole records below the prefix and on disk.

use std::sync::Arc;

use loom::thread::{JoinHandle, spawn};

use super::disk::Disk;
use super::{SEGMENT, START};
use crate::base::error::Result;
use crate::base::ids::{Lsn, Sequence};
use crate::format::BLOCK;
use crate::format::record::{Frame, Kind, Parsed, parse};
use crate::format::segment::Purpose;
use crate::log::append::Ticket;
use crate::log::core::{LogCore, Restart};
use crate::log::extents::Extents;
use crate::log::supply::Supply;
use crate::log::tail::Urgency;
use crate::storage::OpenMode;
use crate::store::birth::Birth;
use crate::store::handles::Handles;
use crate::store::limit::Claim;
use crate::store::pool::Pool;
use crate::store::segment::Identity;

/// A whole log on a disk of its own.
#[derive(Debug)]
pub(super) struct Rig {
    pub(super) log: Arc<LogCore>,
    pub(super) disk: Disk,
    pub(super) start: Lsn,
}

impl Rig {
    pub(super) fn at(start: Lsn) -> Arc<Rig> {
        let disk = Disk::default();
        let identity = Identity { purpose: Purpose::Log, store: 1 };
        let pool =
            Pool::new(Handles::new(Arc::new(disk.clone()), OpenMode::ReadWrite), identity, SEGMENT, [], Sequence(0));
        let birth = Birth {
            start: Lsn(0),
            previous: None,
            first: Lsn(0),
            claim: Claim::Upkeep,
            stable: Lsn(0),
            allocate: SEGMENT,
        };
        let segment = pool.birth(birth).unwrap();
        let restart = Restart {
            tail: start,
            first: start,
            supply: Some(Supply::new(segment, SEGMENT)),
            max_record: 64,
            read_only: false,
            extents: Extents::default(),
            redo: Lsn(0),
            checkpoint_every: None,
        };
        Arc::new(Rig { log: LogCore::new(pool, restart), disk, start })
    }

    pub(super) fn new() -> Arc<Rig> {
        Rig::at(START)
    }

    pub(super) fn spawn<T: 'static>(self: &Arc<Rig>, run: impl FnOnce(&Rig) -> T + 'static) -> JoinHandle<T> {
        let rig = Arc::clone(self);
        spawn(move || run(&rig))
    }

    /// Draws a record of `len` bytes in all, filled with `id`.
    pub(super) fn draw(&self, id: u8, len: u64, urgency: Urgency) -> Result<Ticket<'_>> {
        let payload = vec![id; len as usize - 6];
        let frame = Frame::bare(Kind::Raw, &payload);
        assert_eq!(frame.len(), len);
        self.log.draw(&frame, &payload, urgency)
    }

    pub(super) fn append(&self, id: u8, len: u64) -> Lsn {
        self.draw(id, len, Urgency::Normal).unwrap().complete()
    }

    /// The ids of the records in `[from, to)`, which must begin and end at records' ends, all of them whole.
    pub(super) fn walk(&self, from: Lsn, to: Lsn, read: impl Fn(Lsn, u64) -> Vec<u8>) -> Vec<u8> {
        let geometry = self.log.geometry;
        let (mut at, mut ids) = (from, Vec::new());
        while at < to {
            let end = geometry.data_end(at);
            if at == end {
                at = geometry.next_data_start(at);
                continue;
            }
            let bytes = read(at, to.min(end).0 - at.0);
            let salt = self.log.pool.at_lsn(at).unwrap().header.salt;
            match parse(&bytes, at, salt, bytes.len() as u64) {
                Parsed::Record { body, len, .. } => {
                    ids.push(body[0]);
                    at = Lsn(at.0 + len);
                }
                Parsed::PadBlock { len, .. } => at = Lsn(at.0 + len),
                Parsed::PadSegment => at = end,
                other => panic!("no whole record at {at} of {from}..{to}: {other:?}"),
            }
        }
        assert_eq!(at, to, "not a record's end");
        ids
    }

    /// Everything below the prefix is in the ring, whole; `from` may be no more than a ring below.
    pub(super) fn check_ring(&self, from: Lsn) -> (Lsn, Vec<u8>) {
        let prefix = self.log.prefix();
        let ids = self.walk(from, prefix, |at, len| {
            let mut bytes = Vec::new();
            // SAFETY: below the prefix, and the models that call this never let the ring go round; loom checks both.
            let shown = unsafe {
                self.log.ring.read::<()>(at, len, |piece| {
                    bytes.extend_from_slice(piece);
                    Ok(())
                })
            };
            shown.unwrap();
            bytes
        });
        (prefix, ids)
    }

    /// Everything below `stable` would survive a crash, whole.
    pub(super) fn check_disk(&self, stable: Lsn) -> Vec<u8> {
        assert!(stable.0.is_multiple_of(BLOCK), "{stable} is not a block's end");
        self.walk(self.start, stable, |at, len| self.disk.file(at).synced(at.0 % SEGMENT, len as usize))
    }

    pub(super) fn commit(&self, id: u8, len: u64) {
        self.settle(id, self.append(id, len));
    }

    /// Makes the record `id` at `lsn` stable and looks whether it is.
    pub(super) fn settle(&self, id: u8, lsn: Lsn) {
        let stable = self.log.make_stable(lsn).unwrap();
        assert!(stable > lsn, "acknowledged {lsn} at {stable}");
        assert!(self.check_disk(stable).contains(&id), "{id} at {lsn} is not on disk");
    }
}
