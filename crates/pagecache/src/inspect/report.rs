//! What a verification reports: counts, where the bytes are, what was proven, and what does not fit.

use serde::Serialize;

use crate::base::ids::Lsn;

/// What a store holds on disk and what is wrong with it. See [`verify`](super::verify).
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// What the store is; nothing where not one header can be read.
    pub purpose: Option<Purpose>,
    /// Bytes of a segment's file.
    pub segment_size: u64,
    /// The log's segments, oldest first.
    pub segments: Vec<SegmentReport>,
    /// Records by what they are, over all segments.
    pub records: Records,
    /// Bytes by what they are, over all segments of the log; they add up to these segments' sizes.
    pub bytes: Bytes,
    /// The segments of images, to which cleaning moves pages.
    pub images: Images,
    /// Bytes of the payload that the newest version of every page still needs; the rest is history. Nothing for a bare log,
    /// where a trim says what is needed.
    pub live_bytes: Option<u64>,
    /// Page ids by their state; all zero for a bare log.
    pub pages: Pages,
    /// What the store proves about itself.
    pub evidence: Evidence,
    /// The checkpoint that the next start replays from; nothing where there is none yet.
    pub checkpoint: Option<CheckpointReport>,
    /// Files that mean nothing any more, such as a segment whose removal a crash has undone. The next writer removes them, or gives them back with its next turn of cleaning.
    pub leftovers: Vec<String>,
    /// What does not fit, in the order it was met. Empty for a sound store.
    pub problems: Vec<Problem>,
}

impl Report {
    /// Whether nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.problems.is_empty()
    }

    /// Bytes of disk that the segments of the log and those of images occupy.
    pub fn allocated_bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.allocated).sum::<u64>() + self.images.allocated
    }

    /// Bytes by what they are, over all segments of the log and those of images.
    pub fn all_bytes(&self) -> Bytes {
        let mut bytes = self.bytes;
        bytes.add(self.images.bytes);
        bytes
    }
}

/// What a store is.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// A [`Log`](crate::Log).
    Log,
    /// A [`PageCache`](crate::PageCache).
    Pages,
}

/// One segment of the log.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct SegmentReport {
    /// Its sequence, as in its file's name.
    pub sequence: u64,
    /// The LSN of its first byte.
    pub start: Lsn,
    /// The LSN behind its last record.
    pub end: Lsn,
    /// Bytes of disk that its file occupies.
    pub allocated: u64,
    /// Its records, pads left out.
    pub records: u64,
    /// Its bytes.
    pub bytes: Bytes,
}

/// A checkpoint: the superblock that counts, its root, and its leaves of the map.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct CheckpointReport {
    /// Its number; they rise.
    pub number: u64,
    /// The LSN from which the log is replayed.
    pub redo: Lsn,
    /// One copy of the superblock is older, damaged or missing: sound after a crash, and made good by the next writer that opens.
    pub copies_differ: bool,
    /// Leaves of the map.
    pub leaves: u64,
    /// Segments that hold leaves or the root.
    pub segments: u64,
    /// Bytes of disk that these occupy.
    pub allocated: u64,
}

/// The segments of images: pages as of a version, each in one record.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Images {
    /// Segments that hold images.
    pub segments: u64,
    /// Images, with those that no page needs any more.
    pub records: u64,
    /// Bytes of disk that the segments occupy.
    pub allocated: u64,
    /// Their bytes; they add up to the segments' sizes.
    pub bytes: Bytes,
}

/// Records by what they are.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Records {
    /// Pages given whole.
    pub replace: u64,
    /// Fragments on top of pages.
    pub link: u64,
    /// Pages freed.
    pub free: u64,
    /// Records of a bare log's user.
    pub raw: u64,
    /// Pieces of payloads too long for one record.
    pub extent: u64,
    /// Trims.
    pub trim: u64,
    /// Records that say which pages cleaning has moved.
    pub moves: u64,
    /// Records that say which segments cleaning has given back.
    pub given_back: u64,
    /// Reservations that were given up.
    pub aborted: u64,
    /// Pads that end in a mark: one for each flush round, open and close.
    pub marks: u64,
}

impl Records {
    /// All but the marks.
    pub fn total(&self) -> u64 {
        self.replace
            + self.link
            + self.free
            + self.raw
            + self.extent
            + self.trim
            + self.moves
            + self.given_back
            + self.aborted
    }
}

/// Bytes by what they are. The parts add up to the segments' sizes.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Bytes {
    /// What users gave, as encoded.
    pub payload: u64,
    /// Heads of records: checksum, kind, length, page, version below, alignment; trims and references to extents whole.
    pub headers: u64,
    /// The blocks at both ends of every segment that say what it is.
    pub segment_headers: u64,
    /// Pads, marks included.
    pub padding: u64,
    /// Reservations that were given up.
    pub aborted: u64,
    /// Stretches in which a problem was found, up to where the log was understood again.
    pub damaged: u64,
    /// Behind the last record of a segment: not yet written, or cut off by a recovery.
    pub unused: u64,
}

impl Bytes {
    /// All parts together.
    pub fn total(&self) -> u64 {
        self.payload + self.headers + self.segment_headers + self.padding + self.aborted + self.damaged + self.unused
    }

    pub(super) fn add(&mut self, other: Bytes) {
        self.payload += other.payload;
        self.headers += other.headers;
        self.segment_headers += other.segment_headers;
        self.padding += other.padding;
        self.aborted += other.aborted;
        self.damaged += other.damaged;
        self.unused += other.unused;
    }
}

/// Page ids by what the log says of them. Every id below `high_water` is exactly one of the three; one that is allocated but
/// was never written is `unused` here, as it is after a restart.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Pages {
    /// They hold data.
    pub live: u64,
    /// They were freed.
    pub free: u64,
    /// Nothing was ever written under them.
    pub unused: u64,
    /// One more than the highest id in the log.
    pub high_water: u64,
}

/// What a store proves about itself.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Evidence {
    /// The highest LSN that a mark or a header says was stable: everything below must be there.
    pub stable: Lsn,
    /// The LSN behind the last record.
    pub end: Lsn,
    /// Everything below was trimmed.
    pub first: Lsn,
    /// The last writer closed it. A store that is not clean was not closed: that alone is no problem.
    pub clean: bool,
}

/// Something that does not fit.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The segment's sequence, as in its file's name; the highest number for what is in none, as the superblock is.
    pub segment: u64,
    /// The offset in that file, in bytes, of the record or header that does not fit.
    pub offset: u64,
    /// Its LSN, where it has one.
    pub lsn: Option<Lsn>,
    /// What does not fit.
    pub what: String,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.segment {
            u64::MAX => write!(f, "in no segment")?,
            segment => write!(f, "segment {segment:016x}, offset {}", self.offset)?,
        }
        if let Some(lsn) = self.lsn {
            write!(f, " ({lsn})")?;
        }
        write!(f, ": {}", self.what)
    }
}
