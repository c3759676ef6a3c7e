//! The world of the model: disk, memory, how far each actor has come, and what the promises are measured by.
//!
//! Everything is a small number, so that a state is a value that is copied, compared and hashed. Images are never numbered twice, as in
//! the kit. LSNs are, above what a crash leaves of the log: an opening checks that nothing that is left names one.

use crate::bugs::Rules;

/// Pages, records, images and checkpoints that a state has room for. Where the log has so many records no update begins any more.
pub const PAGES: usize = 2;
pub const RECORDS: usize = 8;
pub const IMAGES: usize = 4;
pub const CHECKPOINTS: usize = 6;
/// Records that a page may be in.
pub const PIECES: usize = 6;

/// A place in the log, counted in records from 1; 0 is none. A page's version is the LSN of its last record.
pub type Lsn = u8;

/// A set of small numbers.
pub type Set = u8;

/// Where a record is on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Piece {
    #[default]
    None,
    Log(Lsn),
    Image(u8),
}

/// What a page is. A leaf's entry is the same, without the version of a page that has data: its records say that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Slot {
    pub holds: Holds,
    pub version: Lsn,
    /// Oldest first.
    pub pieces: [Piece; PIECES],
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Holds {
    #[default]
    Nothing,
    /// Freed.
    Free,
    /// Freed, and its id handed out again.
    Empty,
    Data,
}

impl Slot {
    /// With an image in place of everything up to a record, if that is here.
    pub fn moved(&self, upto: Piece, image: u8) -> Option<Slot> {
        let at = self.pieces().position(|piece| piece == upto)?;
        let first = Slot::data(self.version, Piece::Image(image));
        Some(self.pieces().skip(at + 1).fold(first, Slot::and))
    }

    pub fn data(version: Lsn, first: Piece) -> Slot {
        let mut pieces = [Piece::None; PIECES];
        pieces[0] = first;
        Slot { holds: Holds::Data, version, pieces }
    }

    pub fn free(version: Lsn) -> Slot {
        Slot { holds: Holds::Free, version, ..Slot::default() }
    }

    pub fn pieces(&self) -> impl Iterator<Item = Piece> + '_ {
        self.pieces.iter().copied().take_while(|piece| *piece != Piece::None)
    }

    /// With one more record.
    pub fn and(mut self, piece: Piece) -> Slot {
        let place = self.pieces.iter_mut().find(|place| **place == Piece::None);
        *place.expect("room for what a page may be in") = piece;
        self
    }

    /// As a leaf says it.
    pub fn as_entry(self) -> Slot {
        match self.holds {
            Holds::Nothing => Slot::default(),
            Holds::Free | Holds::Empty => Slot::free(self.version),
            Holds::Data => Slot { version: 0, ..self },
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Given up, or cut off by a recovery.
    #[default]
    Void,
    Replace,
    Link,
    Free,
    /// A page has gone to an image: only where moves are said in the log.
    Move,
}

/// A record of the log. Kept for the promises when its segment is long gone: `State::gone` says what can be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Record {
    pub kind: Kind,
    pub page: u8,
    /// The version that it goes on.
    pub base: Lsn,
    /// Of a move: the last of the records that the image stands for, and the image.
    pub upto: Piece,
    pub image: u8,
}

impl Record {
    /// Whether it changes what a page is, not only where.
    pub fn is_update(&self) -> bool {
        !matches!(self.kind, Kind::Void | Kind::Move)
    }
}

/// How durable bytes are. A sync makes all that is written durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Bytes {
    /// There is no such file, or not any more.
    #[default]
    Gone,
    /// In the cache of the operating system.
    Written,
    Durable,
    /// Lost by a crash; the file is there.
    Lost,
}

impl Bytes {
    pub fn can_be_read(self) -> bool {
        matches!(self, Bytes::Written | Bytes::Durable)
    }
}

/// A segment of images, with one image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Image {
    pub bytes: Bytes,
    pub page: u8,
    pub version: Lsn,
    /// Records in use, and whether more may come.
    pub live: u8,
    pub growing: bool,
}

/// A checkpoint on disk: its root, and the leaves that it names, also those of earlier checkpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Checkpoint {
    pub root: Bytes,
    pub leaves: Bytes,
    pub redo: Lsn,
    pub entries: [Slot; PAGES],
    /// The segments that it knows, of the log and of images.
    pub logs: Set,
    pub images: Set,
}

/// What a copy of the superblock may say, beside the number of a checkpoint.
pub const TORN: u8 = 6;
pub const NEVER: u8 = 7;

/// A copy of the superblock: what a read finds now, and what a crash may leave. A write adds to that, a sync leaves one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Copy {
    pub now: u8,
    pub may: Set,
}

impl Copy {
    pub fn of(now: u8) -> Copy {
        Copy { now, may: 1 << now }
    }

    /// The same bytes over the same bytes change nothing, whatever is torn.
    pub fn write(&mut self, checkpoint: u8) {
        if self.may != 1 << checkpoint {
            self.now = checkpoint;
            self.may |= 1 << checkpoint | 1 << TORN;
        }
    }

    /// A write that fails half way.
    pub fn tear(&mut self) {
        self.now = TORN;
        self.may |= 1 << TORN;
    }

    pub fn sync(&mut self) {
        self.may = 1 << self.now;
    }
}

/// How far an update has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    #[default]
    Idle,
    /// It has looked at the slot, and has its LSN.
    Drawn,
    Published,
    Marked,
    Completed,
    /// Only where bugs are planted: marked and not published; completed and not marked.
    MarkedFirst,
    MarkedLast,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Update {
    pub stage: Stage,
    pub kind: Kind,
    pub page: u8,
    pub lsn: Lsn,
    /// What the slot said when it looked.
    pub found: Slot,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum MoveStage {
    #[default]
    Idle,
    Written,
    Swapped,
    Marked,
    /// Only where moves are said in the log.
    Said,
    /// Only where bugs are planted: said and not swapped; counted and not said.
    SaidFirst,
    Counted,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Move {
    pub stage: MoveStage,
    pub page: u8,
    pub image: u8,
    /// What was copied.
    pub copied: Slot,
}

/// How far a checkpoint has come: what it does next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Next {
    #[default]
    Begin,
    NoteEmptied,
    TakeMark(u8),
    Look(u8),
    /// Only where a bug is planted.
    TakeMarkLate(u8),
    AwaitStable,
    SyncMended,
    WriteSecond,
    SyncSecond,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Writing {
    pub next: Next,
    pub redo: Lsn,
    pub logs: Set,
    pub images: Set,
    pub taken: Set,
    /// The tail as of the end of the scan.
    pub tail: Lsn,
    pub entries: [Slot; PAGES],
    /// Its place among the checkpoints, once a superblock names it.
    pub checkpoint: u8,
}

/// What a checkpoint that failed leaves of the superblock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Doubt {
    /// Both copies name the checkpoint that the store goes on from.
    #[default]
    None,
    /// The first may say anything, or name a checkpoint that failed.
    First,
    /// The second may say anything; the first names the checkpoint that failed.
    Second,
}

/// Whether the store is open, or what an opening does next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Phase {
    #[default]
    Open,
    /// What is there was found: the log is made durable, the first copy of the superblock written.
    Found,
    FirstWritten,
    SecondWritten,
}

/// What is left of the bounds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Left {
    pub updates: u8,
    pub moves: u8,
    pub checkpoints: u8,
    pub failures: u8,
    pub crashes: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct State {
    // On disk.
    pub log: [Record; RECORDS],
    pub drawn: Lsn,
    /// What is complete above may be written too: who writes, and when, nobody but a crash could tell.
    pub synced: Lsn,
    /// Segments of the log whose files were given back. Worst case: what a file held can be read no more from then on, as if the next
    /// life had begun in it at once.
    pub gone: Set,
    pub images: [Image; IMAGES],
    /// By number: a later one has a higher place.
    pub checkpoints: [Checkpoint; CHECKPOINTS],
    pub copies: [Copy; 2],
    // In memory.
    pub phase: Phase,
    pub slots: [Slot; PAGES],
    pub dirty: Set,
    /// Accounts of the log's segments.
    pub live: [u8; RECORDS],
    pub stable: Lsn,
    /// The checkpoint that the store goes on from, and its redo point.
    pub current: u8,
    pub redo: Lsn,
    pub doubt: Doubt,
    pub users: [Update; 2],
    pub moving: Move,
    /// Where the log's tail was when a segment of the log, or of images, was seen to be empty, and one more: where moves are said in the log.
    pub emptied: [Lsn; RECORDS + IMAGES],
    pub writing: Writing,
    // For the promises.
    pub acknowledged: Lsn,
    /// The free after which a page's id was handed out again.
    pub handed: [Lsn; PAGES],
    pub left: Left,
}

impl State {
    pub fn record(&self, lsn: Lsn) -> Record {
        self.log[lsn as usize - 1]
    }

    /// Changes the account of what a piece is in.
    pub fn count(&mut self, piece: Piece, change: i8, rules: &Rules) {
        let live = match piece {
            Piece::None => return,
            Piece::Log(lsn) => &mut self.live[rules.segment(lsn)],
            Piece::Image(image) => &mut self.images[image as usize].live,
        };
        *live = live.saturating_add_signed(change);
    }
}
