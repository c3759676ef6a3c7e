//! Every way in which stored bytes may not be what was written, in one list: the words of [`Corruption::what`].
//!
//! [`Corruption::what`]: super::error::Corruption::what

macro_rules! damages {
    ($($name:ident = $what:literal,)*) => {
        /// What does not fit.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Damage {
            $($name,)*
        }

        impl Damage {
            /// All of them, for the test that reaches each.
            #[cfg(all(test, not(loom)))]
            pub(crate) const ALL: &[Damage] = &[$(Damage::$name,)*];

            pub(crate) const fn what(self) -> &'static str {
                match self {
                    $(Damage::$name => $what,)*
                }
            }
        }
    };
}

damages! {
    // The directory and its segments, at an opening.
    OtherName = "a segment bears another one's name",
    FileTooShort = "a segment's file is too short",
    NoHeader = "no segment has a valid header",
    NoNameFits = "no segment is what its name says",
    NewestHeader = "the newest segment has no valid header",
    NotPredecessor = "a segment is not its successor's predecessor",
    SegmentMissing = "a segment is missing",
    // The checkpoint, at an opening; and a leaf of the map, when it is read.
    Superblocks = "both copies of the superblock are damaged",
    RootElse = "the root of a checkpoint is something else",
    RootMalformed = "the root of a checkpoint is malformed",
    RedoMissing = "the segment that replay starts in is not known",
    LeafElse = "a leaf of the map is something else",
    LeafMalformed = "a leaf of the map is malformed",
    // The records, at an opening.
    StableMissing = "a record below the stable LSN is not there",
    TrimAhead = "a trim forgets what comes after it",
    NoPage = "a page's record has no page",
    MovesMalformed = "a record of moved pages, or of segments given back, is malformed",
    // One record, when it is read.
    Misplaced = "a record is not where it should be",
    Checksum = "a record does not have its checksum",
    FirstMissing = "the first record that is kept is not there",
    TrimUnwalked = "records cannot be walked",
    // A record in pieces.
    ExtentMalformed = "an extent's record is malformed",
    ExtentTooLong = "an extent is longer than its pieces",
    PieceElse = "a piece of an extent is something else",
    PiecesTooLong = "an extent's pieces are longer than the extent",
    ChainBroken = "an extent's chain is broken",
    ExtentChecksum = "an extent's pieces do not add up to its checksum",
    // A page.
    SegmentGone = "the segment of a page is gone",
    PageMisplaced = "a page's record is not where it should be",
    PageElse = "a page's record is something else",
    OtherPage = "a record of another page stands in this one's place",
    OtherVersion = "a fragment does not go on the version below it",
}
