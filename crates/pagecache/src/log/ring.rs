//! The ring: the bytes of the log between a reservation and its write, at LSN modulo the ring's size.
//!
//! Who may touch what follows from L2; the methods are unsafe because only the caller knows that it holds.

use crate::base::ids::Lsn;
use crate::base::sync::UnsafeCell;
use crate::format::record::Prefix;

type Granule = [u8; 8];

/// Where the first byte of the ring lies, so that a storage can write whole blocks from it without a copy, in bytes.
#[cfg(not(loom))]
const ALIGN: usize = crate::format::BLOCK as usize;

#[derive(Debug)]
pub(crate) struct Ring {
    cells: Box<[UnsafeCell<Granule>]>,
    /// Granules of `cells` before the first of the ring.
    #[cfg(not(loom))]
    skip: usize,
    len: u64,
}

// SAFETY: every access goes through the methods below, whose callers promise that no two threads touch the same bytes at
// the same time unless both read (L2).
unsafe impl Sync for Ring {}
// SAFETY: the cells own plain bytes.
unsafe impl Send for Ring {}

impl Ring {
    /// A ring of `len` bytes, a power of two.
    #[cfg(not(loom))]
    pub(crate) fn new(len: u64) -> Ring {
        // Zeroed by the allocator, so that an unused ring costs no memory.
        let cells = std::mem::ManuallyDrop::new(vec![[0u8; 8]; (len as usize + ALIGN) / 8]);
        let (pointer, count, capacity) = (cells.as_ptr(), cells.len(), cells.capacity());
        // SAFETY: `UnsafeCell<Granule>` is `repr(transparent)` over `Granule`; the vector is not dropped.
        let cells = unsafe { Vec::from_raw_parts(pointer.cast_mut().cast::<UnsafeCell<Granule>>(), count, capacity) };
        // The allocator gives multiples of 8 at least; where it cannot be told, any place serves.
        let skip = (pointer.addr().wrapping_neg() % ALIGN) / 8;
        Ring { cells: cells.into_boxed_slice(), skip, len }
    }

    #[cfg(loom)]
    pub(crate) fn new(len: u64) -> Ring {
        Ring { cells: (0..len / 8).map(|_| UnsafeCell::new([0; 8])).collect(), len }
    }

    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// The first byte. Derived from the slice of cells, so it may write all of them.
    #[cfg(not(loom))]
    fn base(&self) -> *mut u8 {
        // SAFETY: `skip` is less than the cells that `new` added, so this is within the slice.
        unsafe { self.cells.as_ptr().add(self.skip) }.cast::<u8>().cast_mut()
    }

    /// Where an LSN is, and how many of `len` bytes lie there before the ring goes round.
    fn split(&self, at: Lsn, len: usize) -> (usize, usize) {
        let start = (at.0 & (self.len() - 1)) as usize;
        (start, len.min(self.len() as usize - start))
    }

    /// Copies bytes in at `at`.
    ///
    /// # Safety
    /// `[at, at + bytes.len())` belongs to an open ticket of the caller (L2), and is no longer than the ring.
    pub(crate) unsafe fn write(&self, at: Lsn, bytes: &[u8]) {
        let (start, first) = self.split(at, bytes.len());
        let (now, wrapped) = bytes.split_at(first);
        self.put(start, now);
        self.put(0, wrapped);
    }

    /// Puts a record in its place: what it begins with, its head, its payload, and zeros up to its end.
    ///
    /// # Safety
    /// `[start, end)` belongs to an open ticket of the caller (L2), is no longer than the ring, and the parts fill it up to its
    /// last granule.
    #[inline]
    pub(crate) unsafe fn put_record(&self, start: Lsn, end: Lsn, prefix: Prefix, head: &[u8], payload: &[u8]) {
        let (low, high) = (prefix.granule(0), prefix.granule(1));
        let head_at = Lsn(start.0 + prefix.len as u64);
        // Whole granules first, each overwritten where more is known: what is left of the last one are its zeros.
        self.put_granule(Lsn(end.0 - 8), [0; 8]);
        self.put_granule(start, low);
        if prefix.len > 8 {
            self.put_granule(Lsn(start.0 + 8), high);
        }
        if !head.is_empty() {
            // SAFETY: behind the prefix, within the record.
            unsafe { self.write(head_at, head) };
        }
        // SAFETY: behind the head, within the record.
        unsafe { self.write(Lsn(head_at.0 + head.len() as u64), payload) };
    }

    /// A granule never goes round the ring's end.
    #[inline]
    fn put_granule(&self, at: Lsn, granule: Granule) {
        self.put((at.0 & (self.len() - 1)) as usize, &granule);
    }

    /// Fills with zeros from `at`.
    ///
    /// # Safety
    /// As for [`write`](Self::write).
    pub(crate) unsafe fn zero(&self, at: Lsn, len: u64) {
        const ZEROS: [u8; 4096] = [0; 4096];
        let mut done = 0;
        while done < len {
            let step = (len - done).min(ZEROS.len() as u64);
            let zeros = ZEROS.get(..step as usize).unwrap_or_default();
            // SAFETY: a part of the caller's stretch.
            unsafe { self.write(Lsn(at.0 + done), zeros) };
            done += step;
        }
    }

    #[cfg(not(loom))]
    #[inline]
    fn put(&self, start: usize, bytes: &[u8]) {
        debug_assert!(start + bytes.len() <= self.len as usize);
        // SAFETY: within the ring (asserted; `split` sees to it), and the callers of `write` own these bytes (L2).
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.base().add(start), bytes.len()) };
    }

    #[cfg(loom)]
    #[allow(clippy::indexing_slicing)]
    fn put(&self, start: usize, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let (at, within) = (start + bytes.len() - rest.len(), (start + bytes.len() - rest.len()) % 8);
            let (now, later) = rest.split_at(rest.len().min(8 - within));
            // SAFETY: loom checks the claim of L2 at every granule.
            self.cells[at / 8]
                .with_mut(|cell| unsafe { (&mut *cell)[within..within + now.len()].copy_from_slice(now) });
            rest = later;
        }
    }

    /// Shows the bytes of a stretch, in at most two pieces.
    ///
    /// # Safety
    /// The stretch lies below the prefix, is not longer than the ring, and the ring cannot go round over it before this
    /// returns (L2): nothing raises the written LSN above `at` meanwhile.
    #[cfg(not(loom))]
    pub(crate) unsafe fn read<E>(
        &self,
        at: Lsn,
        len: u64,
        mut show: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let (start, first) = self.split(at, len as usize);
        for (start, len) in [(start, first), (0, len as usize - first)] {
            if len > 0 {
                debug_assert!(start + len <= self.len as usize);
                // SAFETY: within the ring, initialized, and nobody writes there meanwhile (the caller's promise).
                show(unsafe { std::slice::from_raw_parts(self.base().add(start), len) })?;
            }
        }
        Ok(())
    }

    /// As above; loom sees every granule that is read.
    #[cfg(loom)]
    #[allow(clippy::indexing_slicing)]
    pub(crate) unsafe fn read<E>(
        &self,
        at: Lsn,
        len: u64,
        mut show: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let (start, first) = self.split(at, len as usize);
        for (start, len) in [(start, first), (0, len as usize - first)] {
            if len > 0 {
                let cells = &self.cells[start / 8..(start + len).div_ceil(8)];
                // SAFETY: loom checks the caller's promise at every granule.
                let bytes: Vec<u8> = cells.iter().flat_map(|cell| cell.with(|cell| unsafe { *cell })).collect();
                show(&bytes[start % 8..start % 8 + len])?;
            }
        }
        Ok(())
    }
}
