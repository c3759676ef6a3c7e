//! The parts that a store's files are made of.

/// Bytes of a store's files by what they are. Every byte is in exactly one part: together they are as long as the files.
///
/// A record *in use* is one that a page names: reading the page would read it. Records count as they were encoded, with their heads;
/// what fills them up to a multiple of 8 is padding. *Behind the redo LSN* is what no start replays: the log below it, and everything
/// outside of the log.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Parts {
    /// Whole pages in use: images, and what [`replace`](crate::PageCache::replace) has logged, wherever it is; of one too long for a
    /// record its pieces, too.
    pub live_images: u64,
    /// Changes to pages in use, which [`link`](crate::PageCache::link) has logged, wherever they are; pieces as above.
    pub live_deltas: u64,
    /// Records behind the redo LSN that no page names: what was replaced, folded, moved or freed since, frees, and what was given up.
    /// Images count so until the page goes there.
    pub dead: u64,
    /// The log from the redo LSN to the tail, what is in use of it left out: records that the next start replays although no page names
    /// them any more, marks and pads. What is not durable yet is all here.
    pub log: u64,
    /// Behind the redo LSN: what fills records up to a multiple of 8, blocks up to their ends, and segments where the next record had
    /// no room; and what a recovery cut off.
    pub padding: u64,
    /// Ready for records to come: the log's segments above the tail, and what is left of the segments that images and the map are
    /// written to now.
    pub unwritten: u64,
    /// The first and the last block of every segment, which say what it is.
    pub headers: u64,
    /// Leaves of the map and parts of the root that the last checkpoint names.
    pub map_live: u64,
    /// Leaves and roots of earlier checkpoints, and of failed ones.
    pub map_dead: u64,
    /// The two copies of the superblock.
    pub superblocks: u64,
    /// Files under scratch names: kept to be segments again, or on their way to be one; what another process has left of them, the next
    /// writer removes when it opens. With `unwritten` this is the reserve.
    pub spare: u64,
    /// Segments' files that the store does not know (any more): given back and not removed, cut off, or of a checkpoint that was not
    /// finished. The next writer removes them when it opens.
    pub leftovers: u64,
    /// From a record that should be there and cannot be read to its segment's end. This is damage: [`verify`](crate::inspect::verify)
    /// says where.
    pub unreadable: u64,
}

impl Parts {
    /// All parts together.
    pub fn total(&self) -> u64 {
        self.live() + self.rest()
    }

    /// Bytes in use by pages.
    pub fn live(&self) -> u64 {
        self.live_images + self.live_deltas
    }

    fn rest(&self) -> u64 {
        let of_pages = self.dead + self.log + self.padding + self.unwritten + self.headers + self.unreadable;
        of_pages + self.map_live + self.map_dead + self.superblocks + self.spare + self.leftovers
    }

    /// The share in use of what is written behind the redo LSN and of what is in use before it, where these are the parts of the
    /// segments of pages.
    pub(super) fn fill(&self) -> Option<f64> {
        let written = self.live() + self.dead + self.padding + self.headers + self.unreadable;
        (self.live() > 0).then(|| self.live() as f64 / written as f64)
    }

    pub(super) fn and(self, other: Parts) -> Parts {
        Parts {
            live_images: self.live_images + other.live_images,
            live_deltas: self.live_deltas + other.live_deltas,
            dead: self.dead + other.dead,
            log: self.log + other.log,
            padding: self.padding + other.padding,
            unwritten: self.unwritten + other.unwritten,
            headers: self.headers + other.headers,
            map_live: self.map_live + other.map_live,
            map_dead: self.map_dead + other.map_dead,
            superblocks: self.superblocks + other.superblocks,
            spare: self.spare + other.spare,
            leftovers: self.leftovers + other.leftovers,
            unreadable: self.unreadable + other.unreadable,
        }
    }
}
