//! From a directory to an open log: the verdict carried out.

use std::sync::Arc;

use super::decide::{Verdict, decide};
use super::rebuild::Rebuild;
use super::replay::{Findings, replay};
use super::survey::{Survey, Surveyor};
use crate::base::aligned::AlignedBuf;
use crate::base::canary::{Canary, planted};
use crate::base::damage::Damage;
use crate::base::error::{Corruption, Error, Result};
use crate::base::ids::{Lsn, Sequence};
use crate::checkpoint::load::{Checkpoint, Copies, equalize, find};
use crate::config::Create;
use crate::format::BLOCK;
use crate::format::mark::MarkKind;
use crate::format::segment::{Named, Purpose, parse_name};
use crate::log::core::{LogCore, Restart};
use crate::log::extents::Extents;
use crate::log::read::unknown_kind;
use crate::log::supply::Supply;
use crate::storage::{OpenMode, Storage, read_full, write_all};
use crate::store::birth::Birth;
use crate::store::handles::Handles;
use crate::store::limit::Claim;
use crate::store::pool::Pool;
use crate::store::segment::{Identity, Segment};

/// How to open.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    pub(crate) purpose: Purpose,
    /// Bytes, for a new store; an existing one keeps its own, and another explicit size is refused.
    pub(crate) segment_size: Option<u64>,
    pub(crate) default_segment_size: u64,
    pub(crate) max_record: u64,
    /// Bytes of log from one checkpoint to the next, where there are any.
    pub(crate) checkpoint_every: u64,
    pub(crate) create: Create,
    pub(crate) read_only: bool,
    /// Segments walked at once; 1 keeps everything on the caller's thread.
    pub(crate) threads: usize,
}

/// What the opening found, for those who ask.
#[derive(Clone, Debug, Default)]
pub(crate) struct Recovered {
    /// Bytes of log that were walked.
    pub(crate) walked: u64,
    /// The last close was clean.
    pub(crate) clean: bool,
    /// What the walk started from.
    pub(crate) checkpoint: Option<Checkpoint>,
}

/// Opens or creates, and makes again what `rebuild` keeps of the log.
///
/// # Errors
/// See [`load`](crate::checkpoint::load), [`survey`](super::survey) and [`decide`](super::decide).
pub(crate) fn open(
    storage: Arc<dyn Storage>,
    options: Options,
    rebuild: &mut impl Rebuild,
) -> Result<(Arc<LogCore>, Recovered)> {
    let mode = if options.read_only { OpenMode::ReadOnly } else { OpenMode::ReadWrite };
    let handles = Handles::new(Arc::clone(&storage), mode);
    let checkpoint = find(&handles)?;
    let surveyor = Surveyor { handles: &handles, purpose: options.purpose, checkpoint: checkpoint.as_ref() };
    match surveyor.survey()? {
        None if options.read_only || options.create == Create::Existing => {
            Err(Error::NotFound { path: storage.describe() })
        }
        None => create(handles, options, rebuild).map(|log| (log, Recovered::default())),
        Some(_) if options.create == Create::New => Err(Error::Exists { path: storage.describe() }),
        Some(survey) => resume(handles, options, survey, checkpoint, rebuild),
    }
}

fn create(handles: Arc<Handles>, options: Options, rebuild: &mut impl Rebuild) -> Result<Arc<LogCore>> {
    let storage = Arc::clone(&handles);
    sweep(storage.as_ref(), &[])?;
    let size = options.segment_size.unwrap_or(options.default_segment_size);
    rebuild.begin(size, None)?;
    let store = u128::from(storage.entropy()) << 64 | u128::from(storage.entropy());
    let identity = Identity { purpose: options.purpose, store };
    let pool = Pool::new(handles, identity, size, [], Sequence(0));
    let grown = Supply::first_step(size, 0);
    let birth =
        Birth { start: Lsn(0), previous: None, first: Lsn(0), claim: Claim::Upkeep, stable: Lsn(0), allocate: grown };
    let segment = pool.birth(birth)?;
    let tail = segment.data_start();
    start(pool, tail, Lsn(0), Lsn(0), Supply::new(segment, grown), options)
}

/// Removes scratch files and the given leftovers, durably.
fn sweep(storage: &dyn Storage, leftovers: &[String]) -> Result<()> {
    let names = storage.list().map_err(|error| Error::io("list", storage.describe(), error))?;
    let scratch = names.into_iter().filter(|name| parse_name(name) == Named::Scratch);
    let mut any = false;
    for name in scratch.chain(leftovers.iter().filter(|name| parse_name(name) != Named::Scratch).cloned()) {
        match storage.remove(&name) {
            Ok(()) => any = true,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::io("remove", &name, error)),
        }
    }
    match any {
        true => storage.sync_dir().map_err(|error| Error::io("sync_dir", storage.describe(), error)),
        false => Ok(()),
    }
}

fn start(pool: Pool, tail: Lsn, first: Lsn, redo: Lsn, supply: Supply, options: Options) -> Result<Arc<LogCore>> {
    let restart = Restart {
        tail,
        first,
        supply: Some(supply),
        max_record: options.max_record,
        read_only: false,
        extents: Extents::default(),
        redo,
        checkpoint_every: (options.purpose == Purpose::Pages).then_some(options.checkpoint_every),
    };
    let log = LogCore::new(pool, restart);
    // From here on the tail may be torn: say so before anything else is written.
    log.mark(MarkKind::Open)?;
    Ok(log)
}

fn resume(
    handles: Arc<Handles>,
    options: Options,
    mut survey: Survey,
    checkpoint: Option<Checkpoint>,
    rebuild: &mut impl Rebuild,
) -> Result<(Arc<LogCore>, Recovered)> {
    let storage = Arc::clone(&handles);
    let Some(newest) = survey.chain.last().map(|newest| newest.header) else {
        return Err(Error::NotFound { path: storage.describe() });
    };
    if let Some(asked) = options.segment_size.filter(|asked| *asked != newest.segment_size) {
        return Err(Error::Config {
            option: "segment_size",
            found: asked.to_string(),
            allowed: format!("{} (what the store was made with), or left out", newest.segment_size),
        });
    }
    rebuild.begin(newest.segment_size, checkpoint.as_ref().map(|checkpoint| &checkpoint.root))?;
    let mut findings = replay(&survey, options.threads, rebuild)?;
    let verdict = decide(findings.stop, findings.evidence, findings.last);
    if verdict == Verdict::Cut {
        // A segment without a record may have a name only in the cache, after a failed sync of the directory: nothing
        // that lasts may name it.
        while let Some(segment) = survey.chain.get(findings.index)
            && segment.data_start() == findings.at
            && let Some(before) = findings.index.checked_sub(1).and_then(|index| survey.chain.get(index))
        {
            findings.index -= 1;
            findings.at = before.records_end();
        }
    }
    let torn = survey.chain.get(findings.index).map(Arc::clone);
    let Some(torn) = torn else { return Err(Error::NotFound { path: storage.describe() }) };
    match verdict {
        Verdict::Newer => return Err(unknown_kind(findings.unknown_kind)),
        Verdict::Damaged => {
            return Err(Error::Corrupt(Box::new(Corruption {
                page: None,
                segment: torn.header.sequence.0,
                offset: torn.offset(findings.at),
                lsns: findings.at..findings.proven,
                what: Damage::StableMissing.what(),
            })));
        }
        Verdict::Continue | Verdict::Cut => {}
    }
    survey.check_beginning(findings.trimmed)?;
    survey.settle(rebuild)?;
    let oldest = survey.chain.first().map_or(findings.at, |oldest| oldest.header.start.max(survey.redo));
    let walked = findings.at.0.saturating_sub(oldest.0);
    let recovered = Recovered { walked, clean: verdict == Verdict::Continue, checkpoint };
    let identity = Identity { purpose: newest.purpose, store: newest.store };
    if options.read_only {
        let mut segments = survey.known.clone();
        segments.extend(survey.chain.iter().take(findings.index).map(Arc::clone));
        segments.push(cut(&torn, findings.at, &handles)?);
        if verdict == Verdict::Continue {
            // Made ready ahead of the close: a writer would go on there.
            segments.extend(survey.chain.iter().skip(findings.index + 1).map(Arc::clone));
        }
        let pool = Pool::new(handles, identity, newest.segment_size, segments, survey.next);
        let restart = Restart {
            tail: findings.at,
            first: findings.trimmed,
            supply: None,
            max_record: options.max_record,
            read_only: true,
            extents: Extents::default(),
            redo: survey.redo,
            checkpoint_every: None,
        };
        return Ok((LogCore::new(pool, restart), recovered));
    }
    let going_on = GoingOn { handles, identity, options, checkpoint: recovered.checkpoint.as_ref() };
    let log = match verdict {
        Verdict::Continue => going_on.behind_a_close(&survey, findings)?,
        _ => going_on.behind_a_cut(survey, findings, &torn)?,
    };
    Ok((log, recovered))
}

fn cut(segment: &Arc<Segment>, at: Lsn, handles: &Arc<Handles>) -> Result<Arc<Segment>> {
    let mut whole = Segment::found(segment.header, segment.file()?, handles);
    whole.cut = (at < segment.data_end()).then_some(at);
    Ok(Arc::new(whole))
}

/// How a writer goes on once the verdict is in.
struct GoingOn<'a> {
    handles: Arc<Handles>,
    identity: Identity,
    options: Options,
    checkpoint: Option<&'a Checkpoint>,
}

impl GoingOn<'_> {
    /// After a clean close: right behind its mark.
    fn behind_a_close(self, survey: &Survey, findings: Findings) -> Result<Arc<LogCore>> {
        let storage = Arc::clone(&self.handles);
        // The close mark itself may be only in the cache of the operating system: its round may never have been synced (V2).
        rewrite(survey, findings)?;
        // So may the name of the newest segment, where the process that made it died before it synced the directory.
        storage.sync_dir().map_err(|error| Error::io("sync_dir", storage.describe(), error))?;
        self.equalize(Verdict::Continue)?;
        sweep(storage.as_ref(), &survey.leftovers)?;
        let Some(newest) = survey.chain.last().map(Arc::clone) else {
            return Err(Error::NotFound { path: storage.describe() });
        };
        // Whole records only: what was torn and continued would be a canary's doing.
        let tail = Lsn(findings.at.0.next_multiple_of(BLOCK));
        let size = newest.header.segment_size;
        let offset = if survey.chain.len() == findings.index + 1 { newest.offset(tail) } else { 0 };
        let grown = Supply::first_step(size, offset);
        newest.file()?.allocate(0, grown).map_err(|error| Error::io("allocate", newest.name(), error))?;
        let segments = survey.known.iter().chain(&survey.chain).map(Arc::clone);
        let pool = Pool::new(self.handles, self.identity, size, segments, survey.next);
        start(pool, tail, findings.trimmed, survey.redo, Supply::new(newest, grown), self.options)
    }

    /// After anything else: what was accepted is made durable, the rest is cut off, and a new segment follows.
    fn behind_a_cut(self, mut survey: Survey, findings: Findings, torn: &Arc<Segment>) -> Result<Arc<LogCore>> {
        let storage = Arc::clone(&self.handles);
        if !planted(Canary::UnsyncedBytesTrusted) {
            rewrite(&survey, findings)?;
            storage.sync_dir().map_err(|error| Error::io("sync_dir", storage.describe(), error))?;
        }
        self.equalize(Verdict::Cut)?;
        let discarded = survey.chain.split_off(findings.index + 1);
        survey.leftovers.extend(discarded.iter().map(|segment| segment.name()));
        survey.chain.pop();
        let mut segments = std::mem::take(&mut survey.known);
        segments.append(&mut survey.chain);
        // As in `resume`: nothing that lasts may name a segment without a record, not even where it is the first one.
        let previous = match findings.at == torn.data_start() {
            true => {
                survey.leftovers.push(torn.name());
                None
            }
            false => {
                let last = cut(torn, findings.at, &self.handles)?;
                segments.push(Arc::clone(&last));
                Some(last.as_previous(findings.at))
            }
        };
        let size = torn.header.segment_size;
        let pool = Pool::new(self.handles, self.identity, size, segments, survey.next);
        let grown = Supply::first_step(size, 0);
        let birth = Birth {
            start: survey.above,
            previous,
            first: findings.trimmed,
            claim: Claim::Upkeep,
            stable: findings.at,
            allocate: grown,
        };
        let segment = pool.birth(birth)?;
        // Only now: removals may survive a crash in any order, and what is left must not look like a chain with a gap, nor may a
        // later opening give out the numbers of what is discarded again.
        sweep(storage.as_ref(), &survey.leftovers)?;
        let tail = segment.data_start();
        start(pool, tail, findings.trimmed, survey.redo, Supply::new(segment, grown), self.options)
    }

    /// Makes both copies of the superblock say what was opened by, before anything is removed that the other may need. After an
    /// end that was not clean the copies may be in the cache of the operating system only.
    fn equalize(&self, verdict: Verdict) -> Result<()> {
        match self.checkpoint {
            Some(checkpoint) if checkpoint.copies == Copies::Differ || verdict == Verdict::Cut => {
                if planted(Canary::SuperblocksLeftDifferent) {
                    return Ok(());
                }
                equalize(self.handles.storage(), &checkpoint.superblock)
            }
            _ => Ok(()),
        }
    }
}

/// Writes what was accepted above the last proven stable LSN again, byte for byte, and syncs it (V2).
fn rewrite(survey: &Survey, findings: Findings) -> Result<()> {
    let mut buf = AlignedBuf::zeroed(256 << 10);
    for segment in survey.chain.iter().take(findings.index + 1) {
        let mut at = Lsn(findings.proven.0 / BLOCK * BLOCK).max(segment.data_start());
        let end = segment.records_end().min(findings.at);
        // The header too: its birth was synced before it got its name, so only records are in doubt.
        if at >= end {
            continue;
        }
        let file = segment.file()?;
        while at < end {
            let count = (end.0 - at.0).min(buf.as_slice().len() as u64) as usize;
            let bytes = buf.as_mut_slice().get_mut(..count).unwrap_or_default();
            let io = |op| move |error| Error::io(op, segment.name(), error);
            read_full(file.as_ref(), bytes, segment.offset(at)).map_err(io("read"))?;
            write_all(file.as_ref(), bytes, segment.offset(at)).map_err(io("write"))?;
            at = Lsn(at.0 + count as u64);
        }
        file.sync_data().map_err(|error| Error::io("sync", segment.name(), error))?;
    }
    Ok(())
}
