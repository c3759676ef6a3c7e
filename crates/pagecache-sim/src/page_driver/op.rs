//! What is done to pages, each operation whole in itself, and what pages are made of.

use pagecache::{Fragment, Materializer, PageBytes, PageId};

/// Which page is meant: so many before the one with the highest id, around. Where no page is allocated, one is.
pub type Pick = usize;

/// A kind of update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Update {
    /// The whole page.
    Replace,
    /// A fragment on top.
    Link,
    /// The end of the page.
    Free,
}

/// Which version is named in place of the page's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// One that the page had, so many updates before; none where it had fewer.
    Old(usize),
    /// That of a page without data.
    Null,
    /// That of another page, or one never drawn.
    Foreign,
}

/// One operation on pages. Lengths are those of fragments, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageOp {
    /// An id, and nothing written.
    Alloc,
    /// A new page with a fragment of this length.
    New(u32),
    /// The whole page.
    Replace(Pick, u32),
    /// A fragment on top.
    Link(Pick, u32),
    /// So many small fragments on top, one by one.
    LinkMany(Pick, u32),
    /// An update that names a wrong version, which must be refused.
    Stale(Pick, Update, Wrong),
    /// Everything that can be asked of pages that are free and of ids that nobody has, which must be refused.
    Missing,
    /// The page, merged.
    Get(Pick),
    /// The page, unmerged.
    Fragments(Pick),
    /// The page is freed.
    Free(Pick),
    /// New pages of this length, until they are more than the cache holds.
    Flood(u32),
    /// Everything becomes durable.
    Flush,
    /// A page's last update becomes durable.
    MakeStable(Pick),
    /// What the background would do.
    Tick,
    /// Where every page is becomes durable, and replay starts there.
    Checkpoint,
    /// Pages are moved out of segments that hold few of them.
    Clean,
    /// The same until nothing is moved any more, and a checkpoint.
    Settle,
    /// All files are to stay, as for a backup.
    Pin,
    /// They may go again; what a backup has copied is opened and compared.
    Unpin,
    /// All is read and compared.
    Check,
}

/// Turns of cleaning after which nothing is moved any more.
pub(super) const SETTLED: u64 = 32;

/// Turns of cleaning in a tick where there is too little room: each makes a little.
const TICK_TURNS: u64 = 16;

impl PageOp {
    /// How many checkpoints it writes at most, with a turn of cleaning or without.
    pub(super) fn turns_max(self, cap: Option<u64>) -> u64 {
        match self {
            PageOp::Tick if cap.is_some() => TICK_TURNS,
            PageOp::Checkpoint | PageOp::Clean | PageOp::Tick => 1,
            PageOp::Settle => SETTLED + 1,
            _ => 0,
        }
    }
}

/// Bytes of a fragment's head, its least length.
pub const FRAGMENT_MIN: u32 = 16;

/// The bytes of a fragment: its number, its page, its length, and a filling.
pub(super) fn write_head(bytes: &mut [u8], number: u64, page: PageId) {
    let len = bytes.len() as u32;
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    bytes[8..12].copy_from_slice(&(page.0 as u32).to_le_bytes());
    bytes[12..16].copy_from_slice(&len.to_le_bytes());
}

/// The numbers and pages of the fragments that were merged, as far as they can be told.
pub(super) fn outline(mut bytes: &[u8]) -> Vec<(u64, u32)> {
    let mut heads = Vec::new();
    while let Some((number, page, len)) = head(bytes) {
        heads.push((number, page));
        bytes = bytes.get(len.max(1)..).unwrap_or_default();
    }
    heads
}

fn head(bytes: &[u8]) -> Option<(u64, u32, usize)> {
    let word = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    Some((u64::from(word(0)?) | u64::from(word(4)?) << 32, word(8)?, word(12)? as usize))
}

/// The number of the newest fragment of those that were merged.
pub(super) fn last_number(mut bytes: &[u8]) -> Option<u64> {
    loop {
        let (number, _, len) = head(bytes)?;
        match bytes.get(len.max(1)..) {
            Some(rest) if !rest.is_empty() => bytes = rest,
            _ => return Some(number),
        }
    }
}

/// Bytes of a page. Those with an odd first byte are stored as they lie in memory, the others are encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bytes(pub Vec<u8>);

impl Fragment for Bytes {
    fn as_bytes(&self) -> Option<&[u8]> {
        (self.0.first()? & 1 == 1).then_some(&self.0)
    }

    fn encode(&self, out: &mut Vec<u8>) -> Result<(), String> {
        out.extend_from_slice(&self.0);
        Ok(())
    }

    fn decode(bytes: PageBytes) -> Result<Bytes, String> {
        Ok(Bytes(bytes.to_vec()))
    }

    fn heap_size(&self) -> usize {
        self.0.capacity()
    }
}

/// Pages that are their fragments, one behind the other; recovers the number of the newest one.
#[derive(Debug)]
pub struct Concat;

impl Materializer for Concat {
    type PageFrag = Bytes;
    type Recovery = u64;

    fn new(_: &Option<u64>) -> Concat {
        Concat
    }

    fn merge(&self, frags: &[&Bytes]) -> Bytes {
        let mut merged = Vec::with_capacity(frags.iter().map(|frag| frag.0.len()).sum());
        frags.iter().for_each(|frag| merged.extend_from_slice(&frag.0));
        Bytes(merged)
    }

    fn recover(&self, frag: &Bytes) -> Option<u64> {
        last_number(&frag.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merged_fragments_can_be_told_apart() {
        let [mut one, mut two] = [vec![0xff; 16], vec![0; 40]];
        write_head(&mut one, 7, PageId(1));
        write_head(&mut two, 1 << 40, PageId(2));
        let merged = Concat.merge(&[&Bytes(one), &Bytes(two)]);
        assert_eq!(outline(&merged.0), [(7, 1), (1 << 40, 2)]);
        assert_eq!(last_number(&merged.0), Some(1 << 40));
        assert_eq!(last_number(&[]), None);
    }
}
