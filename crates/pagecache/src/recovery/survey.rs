//! What is in the directory: segments and their chain, leftovers, and what has no business there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::rebuild::Rebuild;
use crate::base::aligned::AlignedBuf;
use crate::base::canary::{Canary, planted};
use crate::base::damage::Damage;
use crate::base::error::{Corruption, Error, Result};
use crate::base::ids::{Lsn, Sequence};
use crate::checkpoint::load::Checkpoint;
use crate::format::BLOCK;
use crate::format::root::Known;
use crate::format::segment::{
    FORMAT, Found, Named, Purpose, SEGMENT_MAX, SEGMENT_MIN, SegmentHeader, Stream, name, parse_name,
};
use crate::log::scan::{Scanner, Step, evidence};
use crate::storage::{Storage, StorageFile, read_full};
use crate::store::handles::Handles;
use crate::store::segment::{Identity, Segment};
use crate::store::stream::corrupt;

/// The files of a store.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    /// The log's segments from the redo point on, oldest first, each the predecessor of the next.
    pub(crate) chain: Vec<Arc<Segment>>,
    /// Segments that the checkpoint knows and that need not be looked at: of the log below the redo point, and of the map.
    pub(crate) known: Vec<Arc<Segment>>,
    /// Segments of images that the checkpoint does not know: made since, for pages that the log says have moved there, or by a turn that did not come so far.
    pub(crate) images: Vec<Arc<Segment>>,
    /// Those that the checkpoint knows and that are not there, with the LSNs that they held: the log has to say that they were given back since.
    pub(crate) missing: Vec<(Sequence, std::ops::Range<Lsn>)>,
    /// Replay starts here.
    pub(crate) redo: Lsn,
    /// What the checkpoint says was stable.
    pub(crate) stable: Lsn,
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
            // Alone it is what is left of a store, which an opening tells.
            Named::Superblock(_) => {}
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

/// What an opening looks at first.
#[derive(Debug)]
pub(crate) struct Surveyor<'a> {
    pub(crate) handles: &'a Arc<Handles>,
    pub(crate) purpose: Purpose,
    pub(crate) checkpoint: Option<&'a Checkpoint>,
}

impl Surveyor<'_> {
    /// Reads every name, and the header of every segment that the checkpoint does not spare. `None` where there is no store.
    ///
    /// # Errors
    /// `Incompatible` for a directory of something else, `Corrupt` for a segment that cannot be what it should.
    pub(crate) fn survey(&self) -> Result<Option<Survey>> {
        let Names { sequences, scratch: leftovers } = names(self.handles.storage())?;
        if sequences.is_empty() {
            return Ok(None);
        }
        let mut survey = Survey { leftovers, ..Survey::default() };
        let mut newer = sequences.clone();
        if let Some(checkpoint) = self.checkpoint {
            newer = self.spare(&mut survey, checkpoint, &sequences)?;
        }
        let mut segments: BTreeMap<Sequence, Segment> = BTreeMap::new();
        // Above every name: also above those of the root's own segments, which no root knows of.
        let highest = sequences.iter().max().copied().unwrap_or_default();
        survey.next = survey.next.max(Sequence(highest.0.saturating_add(1)));
        for sequence in newer {
            self.look(&mut survey, sequence, &mut segments)?;
        }
        survey.link(segments, self.purpose, self.checkpoint)?;
        Ok(Some(survey))
    }

    /// Takes what the checkpoint knows from it. Returns the sequences whose headers are to be read: of what it does not know below its next sequence, too. Images
    /// that were being written then may have got their names since.
    fn spare(&self, survey: &mut Survey, checkpoint: &Checkpoint, sequences: &[Sequence]) -> Result<Vec<Sequence>> {
        let Checkpoint { superblock, root, holds_root, lost_root, .. } = checkpoint;
        (survey.redo, survey.stable, survey.next) = (root.redo, root.stable, root.next_sequence);
        let identity = Identity { purpose: self.purpose, store: superblock.store };
        let size = superblock.segment_size;
        let mut spared = BTreeSet::new();
        for known in &root.segments {
            let end = Lsn(known.start.0.saturating_add(size));
            let lsns = if known.stream == Stream::Log { known.start..end } else { Lsn(0)..Lsn(0) };
            survey.above = survey.above.max(lsns.end);
            // From the redo point on headers count: they prove what was stable, and where the one before was cut. One that is missing
            // was empty and cut off by a recovery, or is missed by its successor.
            if known.stream == Stream::Log && end > root.redo {
                continue;
            }
            if sequences.binary_search(&known.sequence).is_err() {
                survey.missing.push((known.sequence, lsns));
                continue;
            }
            spared.insert(known.sequence);
            if !holds_root.iter().any(|segment| segment.header.sequence == known.sequence) {
                survey.known.push(Arc::new(Segment::known(known, identity, size, self.handles)));
            }
        }
        spared.extend(holds_root.iter().map(|segment| segment.header.sequence));
        survey.known.extend(holds_root.iter().map(Arc::clone));
        survey.known.sort_unstable_by_key(|segment| segment.header.sequence);
        let is_lost_root = |sequence: &Sequence| {
            let known = root.segments.binary_search_by_key(sequence, |known| known.sequence).is_ok();
            *lost_root == Some(*sequence) && !known
        };
        let rest = sequences.iter().copied().filter(|sequence| !spared.contains(sequence));
        let (lost, newer) = rest.partition(is_lost_root);
        let lost: Vec<Sequence> = lost;
        survey.leftovers.extend(lost.into_iter().map(name));
        Ok(newer)
    }

    /// Reads the header of one segment.
    fn look(&self, survey: &mut Survey, sequence: Sequence, segments: &mut BTreeMap<Sequence, Segment>) -> Result<()> {
        let file_name = name(sequence);
        let opened = self.handles.open(&file_name, self.handles.mode());
        let file = opened.map_err(|error| Error::io("open", &file_name, error))?;
        let found = header(file.as_ref(), &file_name)?;
        let is_own = |header: &SegmentHeader| {
            let own = self.checkpoint.map(|known| (known.superblock.store, known.superblock.segment_size));
            header.sequence == sequence && own.is_none_or(|own| own == (header.store, header.segment_size))
        };
        let is_of_images = |header: &SegmentHeader| matches!(header.stream, Stream::Folds | Stream::Survivors);
        match found {
            Found::Valid(header) if is_own(&header) && is_of_images(&header) => {
                survey.images.push(Arc::new(Segment::found(header, file, self.handles)));
            }
            // Given back since, or before, and not removed yet.
            _ if self.is_dead(sequence) => survey.leftovers.push(file_name),
            // What the checkpoint does not know outside the log belongs to one that was not finished.
            Found::Valid(header) if header.sequence == sequence && header.stream != Stream::Log => {
                survey.leftovers.push(file_name);
            }
            Found::Valid(header) if header.sequence == sequence => {
                survey.above = survey.above.max(Lsn(header.start.0 + header.segment_size));
                segments.insert(sequence, Segment::found(header, file, self.handles));
            }
            Found::Valid(header) => {
                let segment = Arc::new(Segment::found(header, file, self.handles));
                if header.stream == Stream::Log && holds_records(&segment)? {
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
        Ok(())
    }
}

impl Surveyor<'_> {
    /// Whether a segment of the log or of the map with this number would be known to the checkpoint, and is not.
    fn is_dead(&self, sequence: Sequence) -> bool {
        self.checkpoint.is_some_and(|Checkpoint { root, .. }| {
            sequence < root.next_sequence
                && root.segments.binary_search_by_key(&sequence, |known| known.sequence).is_err()
        })
    }
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

impl Survey {
    /// Follows the predecessors back from the newest segment.
    fn link(
        &mut self,
        mut segments: BTreeMap<Sequence, Segment>,
        purpose: Purpose,
        checkpoint: Option<&Checkpoint>,
    ) -> Result<()> {
        let begins = checkpoint.map(|checkpoint| self.begins(checkpoint)).transpose()?;
        let Some((newest, last)) = segments.last_key_value() else {
            let sequence = self.unreadable.unwrap_or_default();
            return Err(match self.unreadable {
                Some(_) => damage(sequence, Lsn(0)..Lsn(0), Damage::NoHeader),
                None => damage(sequence, Lsn(0)..Lsn(0), Damage::NoNameFits),
            });
        };
        let identity = last.header;
        if let Some(checkpoint) = checkpoint
            && (checkpoint.superblock.store, checkpoint.superblock.segment_size)
                != (identity.store, identity.segment_size)
        {
            return Err(Error::Incompatible {
                found: format!("a checkpoint of store {:032x}", checkpoint.superblock.store),
                expected: format!("one of store {:032x}", identity.store),
            });
        }
        if checkpoint.is_some() && identity.purpose == Purpose::Log {
            return Err(Error::Incompatible {
                found: "a checkpoint beside a bare log".to_owned(),
                expected: "a page cache's segments beside it".to_owned(),
            });
        }
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
        // Without a checkpoint nobody has looked whose they are.
        let is_own =
            |header: &SegmentHeader| (header.store, header.segment_size) == (identity.store, identity.segment_size);
        let (own, others): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.images).into_iter().partition(|images| is_own(&images.header));
        self.images = own;
        self.leftovers.extend(others.iter().map(|images| images.name()));
        let mut at = Some(*newest);
        let mut next: Option<SegmentHeader> = None;
        while let Some(mut segment) = at.take().and_then(|sequence| segments.remove(&sequence)) {
            segment.check_length()?;
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
            // Below the segment of the redo point the checkpoint says what there is.
            let before = segment.header.previous.filter(|_| begins != Some(segment.header.sequence));
            at = before.map(|previous| previous.sequence);
            self.chain.push(Arc::new(segment));
        }
        self.chain.reverse();
        self.leftovers.extend(segments.into_keys().map(name));
        match (begins, self.chain.first()) {
            (Some(begins), Some(oldest)) if oldest.header.sequence != begins => {
                Err(damage(begins, self.redo..oldest.header.start, Damage::SegmentMissing))
            }
            _ => Ok(()),
        }
    }

    /// The segment that the redo point lies in.
    fn begins(&self, checkpoint: &Checkpoint) -> Result<Sequence> {
        let (size, redo) = (checkpoint.superblock.segment_size, checkpoint.root.redo);
        let holds = |known: &&Known| {
            // Behind the header's block there is a record, the Open mark, before anything is stable.
            known.stream == Stream::Log && known.start.0 + BLOCK < redo.0 && redo.0 < known.start.0 + size
        };
        let found = checkpoint.root.segments.iter().find(holds).map(|known| known.sequence);
        found.ok_or_else(|| corrupt(size, checkpoint.superblock.root.address(), Damage::RedoMissing))
    }

    /// Takes what the log says was given back from what is known: it may be there or not. Images that are there otherwise are kept: who needs them is known once the leaves
    /// are read, and those that nobody does are given back as any others. All that is missing is told here, before anything is written (V4).
    ///
    /// # Errors
    /// `Corrupt` where a segment is missing that was not given back.
    pub(crate) fn settle(&mut self, said: &impl Rebuild) -> Result<()> {
        // P3: what a later replay meets under a number is what it is of now.
        let highest = said.highest_named();
        self.next = self.next.max(highest.map_or(Sequence(0), |highest| Sequence(highest.0.saturating_add(1))));
        let gave_back = |sequence| said.gave_back(sequence);
        if let Some((sequence, lsns)) = self.missing.iter().find(|(sequence, _)| !gave_back(*sequence)) {
            return Err(damage(*sequence, lsns.clone(), Damage::SegmentMissing));
        }
        // Whatever has become of its headers: what is in it can be saved by somebody else.
        self.leftovers.retain(|name| match parse_name(name) {
            Named::Segment(sequence) => gave_back(sequence) || !said.moved_to(sequence),
            _ => true,
        });
        let is_gone = |segment: &Arc<Segment>| gave_back(segment.header.sequence);
        let swept = planted(Canary::SweptByCheckpointAlone);
        let (images, unknown) = std::mem::take(&mut self.images).into_iter().partition(|_| !swept);
        let (images, unknown): (Vec<Arc<Segment>>, Vec<Arc<Segment>>) = (images, unknown);
        let (gone, known): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.known).into_iter().chain(images).partition(is_gone);
        self.known = known;
        self.known.sort_unstable_by_key(|segment| segment.header.sequence);
        self.leftovers.extend(gone.iter().chain(&unknown).map(|segment| segment.name()));
        let is_known = |sequence: Sequence| {
            let known = self.known.binary_search_by_key(&sequence, |segment| segment.header.sequence).is_ok();
            known || self.chain.iter().any(|segment| segment.header.sequence == sequence)
        };
        said.check_moved(is_known)
    }

    /// Damage, where segments before the chain are missing that no trim up to `first` has forgotten.
    pub(crate) fn check_beginning(&self, first: Lsn) -> Result<()> {
        match self.chain.first().and_then(|oldest| Some((oldest.header, oldest.header.previous?))) {
            // Where there is a checkpoint, the chain begins where it says.
            Some((header, previous)) if first < previous.end && self.redo == Lsn(0) => {
                Err(damage(previous.sequence, first..header.start, Damage::SegmentMissing))
            }
            _ => Ok(()),
        }
    }
}
