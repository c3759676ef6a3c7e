//! What is in the directory: segments and their chain, leftovers, and what has no business there.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::base::aligned::AlignedBuf;
use crate::base::damage::Damage;
use crate::base::error::{Corruption, Error, Result};
use crate::base::ids::{Lsn, Sequence};
use crate::format::BLOCK;
use crate::format::segment::{
    FORMAT, Found, Named, Purpose, SEGMENT_MAX, SEGMENT_MIN, SegmentHeader, name, parse_name,
};
use crate::log::scan::{Scanner, Step, evidence};
use crate::storage::{OpenMode, Storage, StorageFile, read_full};
use crate::store::pool::Segment;

/// The files of a store.
#[derive(Debug)]
pub(crate) struct Survey {
    /// The log's segments, oldest first, each the predecessor of the next.
    pub(crate) chain: Vec<Arc<Segment>>,
    /// Files that mean nothing any more: removed by a writer once the verdict is in.
    pub(crate) leftovers: Vec<String>,
    /// The first sequence that no file bears.
    pub(crate) next: Sequence,
    /// The first segment start above every segment seen.
    pub(crate) above: Lsn,
    /// The newest segment without a valid header.
    unreadable: Option<Sequence>,
}

fn damage(sequence: Sequence, lsns: std::ops::Range<Lsn>, what: Damage) -> Error {
    Error::Corrupt(Box::new(Corruption { page: None, segment: sequence.0, offset: 0, lsns, what: what.what() }))
}

/// The names in the directory, sorted by what they mean.
#[derive(Debug, Default)]
struct Names {
    sequences: Vec<Sequence>,
    scratch: Vec<String>,
}

/// Reads every name.
///
/// # Errors
/// `Incompatible` for a directory of something else.
fn names(storage: &dyn Storage) -> Result<Names> {
    let mut all = storage.list().map_err(|error| Error::io("list", storage.describe(), error))?;
    all.sort_unstable();
    let mut names = Names::default();
    let mut foreign = None;
    for file in all {
        match parse_name(&file) {
            Named::Segment(sequence) => names.sequences.push(sequence),
            Named::Scratch => names.scratch.push(file),
            Named::Foreign => foreign = Some(file),
        }
    }
    match foreign.filter(|_| names.sequences.is_empty()) {
        Some(file) => Err(Error::Incompatible {
            found: format!("{} with a file {file}", storage.describe()),
            expected: "a store, or an empty directory".to_owned(),
        }),
        None => Ok(names),
    }
}

/// Whether there is a store, by the names alone: to be asked before the lock, which writes a file, is taken in a place that
/// may be somebody else's. What it says may be old once the lock is held.
///
/// # Errors
/// `Incompatible` for a directory of something else.
pub(crate) fn is_store(storage: &dyn Storage) -> Result<bool> {
    Ok(!names(storage)?.sequences.is_empty())
}

/// Reads every name and header. `None` where there is no store.
///
/// # Errors
/// `Incompatible` for a directory of something else, `Corrupt` for a segment that cannot be what it should.
pub(crate) fn survey(storage: &dyn Storage, purpose: Purpose, read_only: bool) -> Result<Option<Survey>> {
    let Names { sequences, scratch: leftovers } = names(storage)?;
    if sequences.is_empty() {
        return Ok(None);
    }
    let mut survey = Survey { chain: Vec::new(), leftovers, next: Sequence(0), above: Lsn(0), unreadable: None };
    let mut segments: BTreeMap<Sequence, Segment> = BTreeMap::new();
    for sequence in sequences {
        survey.next = survey.next.max(Sequence(sequence.0.saturating_add(1)));
        let file_name = name(sequence);
        let mode = if read_only { OpenMode::ReadOnly } else { OpenMode::ReadWrite };
        let file = storage.open(&file_name, mode).map_err(|error| Error::io("open", &file_name, error))?;
        match header(file.as_ref(), &file_name)? {
            Found::Valid(header) if header.sequence == sequence => {
                survey.above = survey.above.max(Lsn(header.start.0 + header.segment_size));
                segments.insert(sequence, Segment::found(header, file, None));
            }
            Found::Valid(header) => {
                let segment = Arc::new(Segment::found(header, file, None));
                if holds_records(&segment)? {
                    let lsns = segment.header.start..segment.data_end();
                    return Err(damage(sequence, lsns, Damage::OtherName));
                }
                // A recycled file whose rename was lost: the life under this name is over, the other never began.
                survey.leftovers.push(file_name);
            }
            Found::Newer(version) => {
                return Err(Error::Incompatible {
                    found: format!("segment {file_name} of format {version}"),
                    expected: format!("format {FORMAT}"),
                });
            }
            Found::Nothing => survey.unreadable = survey.unreadable.max(Some(sequence)),
        }
    }
    survey.link(segments, purpose)?;
    Ok(Some(survey))
}

/// Whether anything of this life was ever written behind its header.
pub(crate) fn holds_records(segment: &Arc<Segment>) -> Result<bool> {
    let mut scanner = Scanner::new(Arc::clone(segment), segment.data_end());
    let begun = !matches!(scanner.step()?, Step::Hole);
    Ok(begun || evidence(segment, segment.data_start())?.is_some())
}

/// The header of a segment: its first copy, else the last.
fn header(file: &dyn StorageFile, file_name: &str) -> Result<Found> {
    let io = |error| Error::io("read", file_name, error);
    let mut block = AlignedBuf::zeroed(BLOCK as usize);
    read_full(file, block.as_mut_slice(), 0).map_err(io)?;
    let first = SegmentHeader::decode(block.as_slice());
    if matches!(first, Found::Valid(_)) {
        return Ok(first);
    }
    // Where the first copy is gone the size is not known: the last copy lies one block before a power of two, which is
    // the length of an undamaged file. A longer or shorter file is looked through for every size there may be.
    let mut size = SEGMENT_MIN;
    while size <= SEGMENT_MAX {
        let mut block = AlignedBuf::zeroed(BLOCK as usize);
        read_full(file, block.as_mut_slice(), size - BLOCK).map_err(io)?;
        if let Found::Valid(header) = SegmentHeader::decode(block.as_slice())
            && header.segment_size == size
        {
            return Ok(Found::Valid(header));
        }
        size *= 2;
    }
    Ok(first)
}

/// Damage, where a segment's file has become shorter: its whole length was durable before it got its name (P1 of the pool),
/// so this is no torn tail, and the marks that would prove it may be among what is gone.
fn check_length(segment: &Segment) -> Result<()> {
    let len = segment.file.len().map_err(|error| Error::io("len", segment.name(), error))?;
    if len >= segment.header.segment_size {
        return Ok(());
    }
    Err(Error::Corrupt(Box::new(Corruption {
        page: None,
        segment: segment.header.sequence.0,
        offset: len,
        lsns: Lsn(segment.header.start.0 + len)..Lsn(segment.header.start.0 + segment.header.segment_size),
        what: Damage::FileTooShort.what(),
    })))
}

impl Survey {
    /// Follows the predecessors back from the newest segment.
    fn link(&mut self, mut segments: BTreeMap<Sequence, Segment>, purpose: Purpose) -> Result<()> {
        let Some((newest, last)) = segments.last_key_value() else {
            let sequence = self.unreadable.unwrap_or_default();
            return Err(match self.unreadable {
                Some(_) => damage(sequence, Lsn(0)..Lsn(0), Damage::NoHeader),
                None => damage(sequence, Lsn(0)..Lsn(0), Damage::NoNameFits),
            });
        };
        let identity = last.header;
        if let Some(lost) = self.unreadable.filter(|lost| lost > newest) {
            let from = identity.start.0 + identity.segment_size;
            return Err(damage(lost, Lsn(from)..Lsn(from + identity.segment_size), Damage::NewestHeader));
        }
        if let Some(other) = segments.values().find(|segment| {
            segment.header.store != identity.store
                || segment.header.segment_size != identity.segment_size
                || segment.header.purpose != identity.purpose
        }) {
            return Err(Error::Incompatible {
                found: format!("segment {} of another store", other.name()),
                expected: format!("segments of store {:032x}", identity.store),
            });
        }
        if identity.purpose != purpose {
            let say = |purpose| if purpose == Purpose::Log { "a bare log" } else { "a page cache" };
            return Err(Error::Incompatible {
                found: say(identity.purpose).to_owned(),
                expected: say(purpose).to_owned(),
            });
        }
        let mut at = Some(*newest);
        let mut next: Option<SegmentHeader> = None;
        while let Some(mut segment) = at.take().and_then(|sequence| segments.remove(&sequence)) {
            check_length(&segment)?;
            if let Some(next) = next {
                let Some(previous) = next.previous else { break };
                let sound = previous.salt == segment.header.salt
                    && segment.header.start < next.start
                    && previous.end >= segment.data_start()
                    && previous.end <= segment.data_end();
                if !sound {
                    return Err(damage(segment.header.sequence, previous.end..next.start, Damage::NotPredecessor));
                }
                segment.cut = (previous.end < segment.data_end()).then_some(previous.end);
            }
            next = Some(segment.header);
            at = segment.header.previous.map(|previous| previous.sequence);
            self.chain.push(Arc::new(segment));
        }
        self.chain.reverse();
        self.leftovers.extend(segments.into_keys().map(name));
        Ok(())
    }

    /// Damage, where segments before the chain are missing that no trim up to `first` has forgotten.
    pub(crate) fn check_beginning(&self, first: Lsn) -> Result<()> {
        match self.chain.first().and_then(|oldest| Some((oldest.header, oldest.header.previous?))) {
            Some((header, previous)) if first < previous.end => {
                Err(damage(previous.sequence, first..header.start, Damage::SegmentMissing))
            }
            _ => Ok(()),
        }
    }
}
