//! Records outside the log: appended in bulk by whoever works in the background, named by address, read back one by one.
//!
//! - W1. A block that was synced is not written again: what is synced ends at a block's end.
//! - W2. After a write that failed, nothing is appended to that segment any more.

use std::sync::Arc;

use crate::base::aligned::AlignedBuf;
use crate::base::damage::Damage;
use crate::base::error::{Corruption, Error, Result};
use crate::base::ids::{Address, Lsn};
use crate::format::BLOCK;
use crate::format::piece::Piece;
use crate::format::record::{Frame, HEAD, Head, Kind, Parsed, Shape, pad_segment, parse, peek};
use crate::format::segment::Stream;
use crate::storage::{StorageFile, read_full, write_all};
use crate::store::pool::Pool;
use crate::store::segment::Segment;

/// Bytes gathered before they are written.
const CHUNK: usize = 1 << 20;

/// The end of a stream.
#[derive(Debug)]
pub(crate) struct Writer {
    stream: Stream,
    /// The segment that is appended to, and its file, which must not change between a write and its sync.
    open: Option<(Arc<Segment>, Arc<dyn StorageFile>)>,
    /// What is not written yet, and where it goes.
    gathered: Vec<u8>,
    from: u64,
    /// It was written to since it was synced.
    touched: bool,
    /// Other files with writes that no sync has covered.
    dirty: Vec<(Arc<Segment>, Arc<dyn StorageFile>)>,
    /// Segments that are not named yet: they are with the next sync, all at once.
    unnamed: Vec<Arc<Segment>>,
    /// Segments left behind since the last [`settle`](Writer::settle).
    left: Vec<Arc<Segment>>,
    /// Bytes handed to the storage.
    written: u64,
}

/// Writes and syncs everything that was put into some streams, and names the segments that it is in, those of all at once: so there is one sync of the directory.
///
/// # Errors
/// As [`Writer::sync`].
pub(crate) fn sync<const N: usize>(mut writers: [&mut Writer; N], pool: &Pool) -> Result<()> {
    writers.iter_mut().try_for_each(|writer| writer.sync_data())?;
    name(writers, pool)
}

/// Names the segments of some streams. Without a sync before it this is a planted bug.
///
/// # Errors
/// As [`Pool::name`].
pub(crate) fn name<const N: usize>(writers: [&mut Writer; N], pool: &Pool) -> Result<()> {
    let unnamed: Vec<_> = writers.iter().flat_map(|writer| &writer.unnamed).map(Arc::clone).collect();
    pool.name(&unnamed)?;
    writers.into_iter().for_each(|writer| writer.unnamed.clear());
    Ok(())
}

/// A record that was read.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) shape: Shape,
    buf: AlignedBuf,
    body_at: usize,
    body_len: usize,
}

impl Found {
    /// The buffer, and where its body is.
    pub(crate) fn into_parts(self) -> (AlignedBuf, usize, usize) {
        (self.buf, self.body_at, self.body_len)
    }

    /// Where the body starts in its record.
    pub(crate) fn body_at(&self) -> usize {
        self.body_at
    }

    /// The address behind its body, where it begins at `address`.
    pub(crate) fn end(&self, address: Address) -> Address {
        Address(address.0 + (self.body_at + self.body_len) as u64)
    }

    pub(crate) fn body(&self) -> &[u8] {
        self.buf.as_slice().get(self.body_at..self.body_at + self.body_len).unwrap_or_default()
    }
}

/// The longest payload of a record in a segment of this size, in bytes.
pub(crate) fn payload_max(segment_size: u64) -> u64 {
    // As in the log, so that whoever walks a segment knows how long a record may be.
    segment_size.min(8 << 20) / 4 - 128
}

impl Writer {
    /// At the end of nothing: the first record starts a segment.
    pub(crate) fn new(stream: Stream) -> Writer {
        Writer {
            stream,
            open: None,
            gathered: Vec::new(),
            from: 0,
            touched: false,
            dirty: Vec::new(),
            unnamed: Vec::new(),
            left: Vec::new(),
            written: 0,
        }
    }

    /// Appends a record. `stable` is what the log says when a segment has to be made for it.
    ///
    /// # Errors
    /// `TooLarge`, `NoSpace`, `Io`. After one, [`give_up`](Self::give_up).
    pub(crate) fn put(
        &mut self,
        pool: &Pool,
        stable: Lsn,
        shape: Shape,
        mut head: Head,
        payload: &[u8],
    ) -> Result<Piece> {
        self.put_frame(pool, stable, &Frame::new(shape, &mut head, payload), payload)
    }

    /// Appends a record that is laid out already.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub(crate) fn put_frame(&mut self, pool: &Pool, stable: Lsn, frame: &Frame<'_>, payload: &[u8]) -> Result<Piece> {
        let max = payload_max(pool.segment_size());
        if payload.len() as u64 > max {
            return Err(Error::TooLarge { len: payload.len() as u64, max });
        }
        let segment = match self.room(frame.len()) {
            Some(segment) => segment,
            None => self.next_segment(pool, stable)?,
        };
        let at = self.from + self.gathered.len() as u64;
        let place = Lsn(segment.header.start.0 + at);
        self.push(frame, payload, place, segment.header.salt);
        if self.gathered.len() >= CHUNK {
            self.write()?;
        }
        Ok(Piece::new(segment.address(place), frame.len()))
    }

    /// The segment, if so many bytes have room in it.
    fn room(&self, len: u64) -> Option<Arc<Segment>> {
        let (segment, _) = self.open.as_ref()?;
        let end = segment.header.segment_size - BLOCK;
        (self.from + self.gathered.len() as u64 + len <= end).then(|| Arc::clone(segment))
    }

    fn push(&mut self, frame: &Frame<'_>, payload: &[u8], place: Lsn, salt: u64) {
        let end = self.gathered.len() + frame.len() as usize;
        let prefix = frame.prefix(place, salt);
        self.gathered.extend_from_slice(prefix.bytes.get(..prefix.len).unwrap_or_default());
        self.gathered.extend_from_slice(frame.head());
        self.gathered.extend_from_slice(payload);
        self.gathered.resize(end, 0);
    }

    /// Ends the segment and makes the next.
    fn next_segment(&mut self, pool: &Pool, stable: Lsn) -> Result<Arc<Segment>> {
        if let Some((segment, _)) = &self.open {
            let at = self.from + self.gathered.len() as u64;
            let rest = segment.header.segment_size - BLOCK - at;
            if rest > 0 {
                self.gathered.extend_from_slice(&pad_segment(Lsn(segment.header.start.0 + at), segment.header.salt));
            }
            self.write()?;
            if let Some((segment, file)) = self.open.take() {
                self.left.push(Arc::clone(&segment));
                self.dirty.push((segment, file));
            }
            self.touched = false;
        }
        let (segment, file) = pool.begin(self.stream, stable)?;
        self.unnamed.push(Arc::clone(&segment));
        self.open = Some((Arc::clone(&segment), file));
        self.from = BLOCK;
        Ok(segment)
    }

    fn write(&mut self) -> Result<()> {
        let Some((segment, file)) = self.open.as_ref().filter(|_| !self.gathered.is_empty()) else { return Ok(()) };
        write_all(file.as_ref(), &self.gathered, self.from)
            .map_err(|error| Error::io("write", segment.name(), error))?;
        // While the next piece is gathered this one goes to the disk.
        file.begin_sync(self.from, self.gathered.len() as u64);
        self.from += self.gathered.len() as u64;
        self.written += self.gathered.len() as u64;
        self.touched = true;
        self.gathered.clear();
        Ok(())
    }

    /// Writes and syncs everything that was put, and names the segments that it is in.
    ///
    /// # Errors
    /// `NoSpace`, `Io`; an `Io` of a `sync` says that nothing is known of what is on disk.
    pub(crate) fn sync(&mut self, pool: &Pool) -> Result<()> {
        sync([self], pool)
    }

    /// Writes and syncs everything that was put.
    fn sync_data(&mut self) -> Result<()> {
        self.end_block();
        self.write()?;
        // Where nothing was written since, there is nothing to wait for.
        let open = self.open.as_ref().filter(|_| std::mem::take(&mut self.touched));
        let open = open.map(|(segment, file)| (Arc::clone(segment), Arc::clone(file)));
        for (segment, file) in self.dirty.drain(..).chain(open) {
            file.sync_data().map_err(|error| Error::sync("sync", segment.name(), error))?;
        }
        Ok(())
    }

    /// Fills the block with a record that means nothing (W1): what is put next begins in another.
    pub(crate) fn end_block(&mut self) {
        let Some((segment, _)) = &self.open else { return };
        let at = self.from + self.gathered.len() as u64;
        let rest = at.next_multiple_of(BLOCK) - at;
        if rest == 0 {
            return;
        }
        // Checksum, kind and a length of one byte, or of two.
        let body = vec![0; rest.saturating_sub(if rest <= 128 { 6 } else { 7 }) as usize];
        let (place, salt) = (Lsn(segment.header.start.0 + at), segment.header.salt);
        let frame = Frame::bare(Kind::Aborted, &body);
        debug_assert_eq!(frame.len(), rest);
        self.push(&frame, &body, place, salt);
    }

    /// Leaves the segment behind (W2). The next record starts another.
    pub(crate) fn give_up(&mut self, pool: &Pool) {
        pool.abandon(&std::mem::take(&mut self.unnamed));
        self.left.extend(self.open.take().map(|(segment, _)| segment));
        self.settle();
        *self = Writer { written: self.written, ..Writer::new(self.stream) };
    }

    /// What was put is counted now, or will never be: segments that were left behind grow no more.
    pub(crate) fn settle(&mut self) {
        self.left.drain(..).for_each(|segment| segment.account.set_growing(false));
    }

    /// Bytes of memory.
    pub(crate) fn memory(&self) -> u64 {
        self.gathered.capacity() as u64
    }

    /// The segment that is appended to.
    pub(crate) fn segment(&self) -> Option<&Arc<Segment>> {
        self.open.as_ref().map(|(segment, _)| segment)
    }

    /// Bytes handed to the storage so far.
    pub(crate) fn written(&self) -> u64 {
        self.written
    }
}

/// Damage at an address.
pub(crate) fn corrupt(segment_size: u64, address: Address, what: Damage) -> Error {
    Error::Corrupt(Box::new(Corruption {
        page: None,
        segment: address.0 / segment_size,
        offset: address.0 % segment_size,
        lsns: Lsn(0)..Lsn(0),
        what: what.what(),
    }))
}

/// Reads the record that a piece names.
///
/// # Errors
/// `Corrupt` where none is there; `Io`.
pub(crate) fn read(segment: &Segment, piece: Piece) -> Result<Found> {
    let size = segment.header.segment_size;
    let offset = piece.address().0 % size;
    let damaged = || corrupt(size, piece.address(), Damage::Checksum);
    let room = (size - BLOCK).checked_sub(offset).filter(|_| offset >= BLOCK).ok_or_else(damaged)?;
    let mut buf = AlignedBuf::zeroed(piece.len_max().min(room) as usize);
    read_full(segment.file()?.as_ref(), buf.as_mut_slice(), offset)
        .map_err(|error| Error::io("read", segment.name(), error))?;
    let place = Lsn(segment.header.start.0 + offset);
    match parse(buf.as_slice(), place, segment.header.salt, room) {
        Parsed::Record { shape, body, body_at, .. } => {
            let body_len = body.len();
            Ok(Found { shape, buf, body_at, body_len })
        }
        _ => Err(damaged()),
    }
}

/// Bytes in which a record's head is.
const FRONT: usize = HEAD + 16;

/// Shows what the first bytes of a record say that it is, and of its body what is among them. Nothing of it was checked.
///
/// # Errors
/// `Io`.
pub(crate) fn look<T>(
    segment: &Segment,
    piece: Piece,
    show: impl FnOnce(Shape, &[u8]) -> Option<T>,
) -> Result<Option<T>> {
    let size = segment.header.segment_size;
    let offset = piece.address().0 % size;
    let mut front = [0; FRONT];
    let front = front.get_mut(..(piece.len_max().min(size - offset) as usize).min(FRONT)).unwrap_or_default();
    let count =
        read_full(segment.file()?.as_ref(), front, offset).map_err(|error| Error::io("read", segment.name(), error))?;
    Ok(peek(front.get(..count).unwrap_or_default()).and_then(|(shape, body)| show(shape, body)))
}
