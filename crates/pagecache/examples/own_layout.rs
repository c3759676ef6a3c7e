//! A page layout of one's own, without copies: sorted cells of fixed width that are searched where they were read from disk.
//!
//! The fragment keeps the bytes that the store read, aligned to 8, and looks into them. Writing hands the same bytes to the log.
//! Nothing is decoded or encoded, however large the page.
//!
//! `cargo run -p pagecache --example own_layout`

use pagecache::{ConfigBuilder, Error, Fragment, Materializer, PageBytes, PageCache, PageId, Version};

/// Bytes of a cell: a key and a value, little-endian.
const CELL: usize = 16;

/// Cells sorted by key, each key once.
struct Cells {
    bytes: PageBytes,
}

impl Cells {
    fn of(cells: impl ExactSizeIterator<Item = (u64, u64)>) -> Cells {
        let mut bytes = PageBytes::zeroed(cells.len() * CELL);
        for (place, (key, value)) in bytes.as_mut_slice().chunks_exact_mut(CELL).zip(cells) {
            place[..8].copy_from_slice(&key.to_le_bytes());
            place[8..].copy_from_slice(&value.to_le_bytes());
        }
        Cells { bytes }
    }

    fn len(&self) -> usize {
        self.bytes.len() / CELL
    }

    fn cell(&self, at: usize) -> (u64, u64) {
        let word = |at: usize| u64::from_le_bytes(self.bytes[at..at + 8].try_into().expect("8 bytes"));
        (word(at * CELL), word(at * CELL + 8))
    }

    fn iter(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        (0..self.len()).map(|at| self.cell(at))
    }

    /// The value of a key, by binary search in the bytes.
    fn find(&self, key: u64) -> Option<u64> {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low.midpoint(high);
            match self.cell(middle).0.cmp(&key) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => return Some(self.cell(middle).1),
            }
        }
        None
    }
}

impl Fragment for Cells {
    fn as_bytes(&self) -> Option<&[u8]> {
        Some(&self.bytes)
    }

    fn encode(&self, out: &mut Vec<u8>) -> Result<(), String> {
        out.extend_from_slice(&self.bytes);
        Ok(())
    }

    fn decode(bytes: PageBytes) -> Result<Cells, String> {
        // Known to be what was written: checked for what this code relies on, not for damage.
        match bytes.len().is_multiple_of(CELL) {
            true => Ok(Cells { bytes }),
            false => Err(format!("{} bytes are no cells", bytes.len())),
        }
    }

    fn heap_size(&self) -> usize {
        self.bytes.heap_size()
    }
}

struct Table;

impl Materializer for Table {
    type PageFrag = Cells;
    type Recovery = ();
    const RECOVERS: bool = false;

    fn new(_: &Option<()>) -> Self {
        Table
    }

    fn merge(&self, frags: &[&Cells]) -> Cells {
        let merged: std::collections::BTreeMap<u64, u64> = frags.iter().flat_map(|frag| frag.iter()).collect();
        Cells::of(merged.into_iter())
    }

    fn recover(&self, _: &Cells) -> Option<()> {
        None
    }
}

pub fn main() -> Result<(), Error> {
    const PAGES: u64 = 50;
    const CELLS: u64 = 1000;
    // A cache with room for a few of these pages: most reads come from the files.
    let pc = PageCache::<Table>::start(ConfigBuilder::new().temporary(true).cache_capacity(64 << 10).build())?;
    let ids: Vec<PageId> = (0..PAGES)
        .map(|page| {
            let guard = pc.pin();
            let id = pc.allocate(&guard);
            let even = (0..CELLS).map(|at| (2 * at, page));
            let whole = pc.replace_at(id, Version::NONE, Cells::of(even.collect::<Vec<_>>().into_iter()), &guard)?;
            // One cell more, as a change of 16 bytes.
            pc.link_at(id, whole, Cells::of([(7, 1000 + page)].into_iter()), &guard)?;
            Ok(id)
        })
        .collect::<Result<_, Error>>()?;
    pc.flush()?;

    for (page, id) in (0..).zip(&ids) {
        let guard = pc.pin();
        let (cells, _) = pc.get(*id, &guard)?;
        assert_eq!(cells.bytes.as_ptr().addr() % 8, 0, "words can be read in place");
        assert_eq!((cells.len() as u64, cells.find(7)), (CELLS + 1, Some(1000 + page)));
        assert_eq!((cells.find(1998), cells.find(1999)), (Some(page), None));
        // Again, while it is resident: the very same bytes, not a copy.
        let again = pc.get(*id, &guard)?.0;
        assert!(!again.is_borrowed() || !cells.is_borrowed() || again.bytes.as_ptr() == cells.bytes.as_ptr());
    }
    let stats = pc.stats();
    println!(
        "{PAGES} pages of {CELLS} cells searched in place: {} KiB on disk, {} KiB of them in memory",
        stats.written_bytes >> 10,
        stats.resident_bytes >> 10
    );
    assert!(stats.resident_bytes < stats.written_bytes);
    pc.close()
}
