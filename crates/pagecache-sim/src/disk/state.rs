//! What the disk knows: durable files and names, what the process sees, and the list of what is pending between the two.
//!
//! - S1: while a file has not diverged, its durable content with its pending events applied in order is its current one.
//!   The same holds for the directory.
//! - S2: an event stands in `pending` from the call until a sync that covers it, in the order of the calls.
//! - S3: a file number is never used twice.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::sync::Arc;

use super::content::{Content, Gap};
use super::fault::{AfterSync, Call, Effect, Faults, eintr, eio, enospc};
use super::trace::Trace;
use crate::rng::Rng;

pub(super) type FileId = u64;
pub(super) type Names = BTreeMap<Arc<str>, FileId>;

/// Everything behind the one mutex.
pub(super) struct State {
    pub(super) files: BTreeMap<FileId, Node>,
    pub(super) dir: Directory,
    pub(super) pending: Vec<Event>,
    pub(super) next_file: FileId,
    /// -1 exclusive, 0 free, n shared.
    pub(super) holders: i64,
    pub(super) rng: Rng,
    pub(super) faults: Faults,
    pub(super) capacity: Option<u64>,
    pub(super) io_count: u64,
    pub(super) read_count: u64,
    pub(super) crash_at: Option<u64>,
    /// Syncs of files until the process stops.
    pub(super) crash_at_sync: Option<u64>,
    pub(super) crashed: bool,
    pub(super) trace: Trace,
}

#[derive(Clone, Default)]
pub(super) struct Directory {
    pub(super) durable: Names,
    pub(super) current: Names,
    pub(super) diverged: bool,
    pub(super) lies: bool,
}

#[derive(Clone)]
pub(super) struct Node {
    /// The current name, or the last one.
    pub(super) name: Arc<str>,
    pub(super) durable: Content,
    pub(super) current: Content,
    pub(super) diverged: bool,
    pub(super) lies: bool,
    pub(super) handles: usize,
    pub(super) unreadable: Vec<Range<u64>>,
}

/// One change that a crash may keep or lose.
#[derive(Clone)]
pub(super) enum Event {
    Write { file: FileId, offset: u64, bytes: Arc<[u8]> },
    SetLen { file: FileId, len: u64 },
    Allocate { file: FileId, offset: u64, len: u64 },
    Create { file: FileId, name: Arc<str> },
    Rename { file: FileId, from: Arc<str>, to: Arc<str> },
    Remove { file: FileId, name: Arc<str> },
}

impl Event {
    /// The file whose content this changes; `None` for a change of the directory.
    pub(super) fn content_of(&self) -> Option<FileId> {
        match self {
            Event::Write { file, .. } | Event::SetLen { file, .. } | Event::Allocate { file, .. } => Some(*file),
            Event::Create { .. } | Event::Rename { .. } | Event::Remove { .. } => None,
        }
    }

    fn file(&self) -> FileId {
        match self {
            Event::Create { file, .. } | Event::Rename { file, .. } | Event::Remove { file, .. } => *file,
            Event::Write { file, .. } | Event::SetLen { file, .. } | Event::Allocate { file, .. } => *file,
        }
    }

    /// Applies a change of content in full.
    pub(super) fn apply_to(&self, content: &mut Content, gap: Gap) {
        match self {
            Event::Write { offset, bytes, .. } => {
                content.grow(*offset, gap);
                content.write(bytes, *offset);
            }
            Event::SetLen { len, .. } => content.set_len(*len, gap),
            Event::Allocate { offset, len, .. } => content.allocate(*offset, *len, gap),
            Event::Create { .. } | Event::Rename { .. } | Event::Remove { .. } => {}
        }
    }

    /// Applies a change of the directory. Whatever else was lost, the file ends with one name at most.
    pub(super) fn apply_to_names(&self, names: &mut Names) {
        match self {
            Event::Create { file, name } => {
                names.insert(Arc::clone(name), *file);
            }
            Event::Rename { file, to, .. } => {
                names.retain(|_, named| named != file);
                names.insert(Arc::clone(to), *file);
            }
            Event::Remove { file, name } => {
                if names.get(name) == Some(file) {
                    names.remove(name);
                }
            }
            Event::Write { .. } | Event::SetLen { .. } | Event::Allocate { .. } => {}
        }
    }
}

impl State {
    pub(super) fn new(rng: Rng) -> State {
        State {
            files: BTreeMap::new(),
            dir: Directory::default(),
            pending: Vec::new(),
            next_file: 0,
            holders: 0,
            rng,
            faults: Faults::default(),
            capacity: None,
            io_count: 0,
            read_count: 0,
            crash_at: None,
            crash_at_sync: None,
            crashed: false,
            trace: Trace::new(),
        }
    }

    /// The same disk for the next process, with all that is pending still pending.
    pub(super) fn killed(&self) -> State {
        let mut next = State::new(self.rng.clone());
        next.files = self.files.clone();
        next.files.values_mut().for_each(|node| node.handles = 0);
        next.dir = self.dir.clone();
        next.pending = self.pending.clone();
        next.next_file = self.next_file;
        next.capacity = self.capacity;
        next.clear_faults();
        next.forget_lost_files();
        next
    }

    /// Fails where the process is already dead.
    pub(super) fn alive(&self) -> io::Result<()> {
        if self.crashed { Err(io::Error::other("crashed")) } else { Ok(()) }
    }

    /// What every call goes through first: the crash point, the count, the trace and the armed faults. Effects that are
    /// plain errors come back as such.
    pub(super) fn begin(
        &mut self,
        call: Call,
        name: &str,
        place: (u64, u64),
        data: &[u8],
    ) -> io::Result<Option<Effect>> {
        if call != Call::Read {
            self.crashed |= self.crash_at.is_some_and(|nth| self.io_count >= nth);
            if call == Call::SyncData {
                self.crashed |= self.crash_at_sync == Some(0);
                self.crash_at_sync = self.crash_at_sync.map(|left| left.saturating_sub(1));
            }
            self.alive()?;
            self.io_count += 1;
        }
        self.alive()?;
        self.read_count += u64::from(call == Call::Read);
        self.trace.word(call as u64);
        self.trace.bytes(name.as_bytes());
        self.trace.word(place.0);
        self.trace.word(place.1);
        self.trace.bytes(data);
        match self.faults.strike(call, name) {
            Some(Effect::Eio) => Err(eio()),
            Some(Effect::Enospc) => Err(enospc()),
            Some(Effect::Eintr) => Err(eintr()),
            effect => Ok(effect),
        }
    }

    pub(super) fn lookup(&self, name: &str) -> io::Result<FileId> {
        self.dir.current.get(name).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    pub(super) fn node(&mut self, file: FileId) -> &mut Node {
        self.files.get_mut(&file).expect("a named or open file is kept")
    }

    pub(super) fn new_file(&mut self, name: &Arc<str>, content: Content) -> FileId {
        let file = self.next_file;
        self.next_file += 1;
        self.files.insert(file, Node::new(Arc::clone(name), content));
        file
    }

    /// Applies a change to what the process sees and lets it wait for a sync.
    pub(super) fn change(&mut self, event: Event) {
        match event.content_of() {
            Some(file) => event.apply_to(&mut self.node(file).current, Gap::Zeros),
            None => {
                event.apply_to_names(&mut self.dir.current);
                if let Event::Rename { file, to, .. } = &event {
                    self.node(*file).name = Arc::clone(to);
                }
            }
        }
        self.pending.push(event);
    }

    /// Fails where the file cannot occupy the whole range.
    pub(super) fn make_room(&mut self, file: FileId, offset: u64, len: u64) -> io::Result<()> {
        let Some(capacity) = self.capacity else { return Ok(()) };
        let more = self.node(file).current.unallocated(offset, len);
        if more > 0 && self.used() + more > capacity { Err(enospc()) } else { Ok(()) }
    }

    /// Bytes occupied by all files that have a name or an open handle.
    pub(super) fn used(&self) -> u64 {
        let in_use = |(file, node): &(&FileId, &Node)| node.handles > 0 || self.is_named(**file, node);
        self.files.iter().filter(in_use).map(|(_, node)| node.current.allocated()).sum()
    }

    fn is_named(&self, file: FileId, node: &Node) -> bool {
        self.dir.current.get(&node.name) == Some(&file)
    }

    pub(super) fn sync_data(&mut self, file: FileId, effect: Option<Effect>) -> io::Result<()> {
        let covers = |event: &Event| event.content_of() == Some(file);
        let any = self.pending.iter().any(covers);
        match effect {
            Some(Effect::SyncFails(after)) => {
                let node = self.node(file);
                match after {
                    AfterSync::LaterSyncLies => {
                        node.lies = true;
                        return Err(eio());
                    }
                    AfterSync::KeptClean => node.diverged |= any,
                    AfterSync::Dropped => {
                        node.current = node.durable.clone();
                        node.diverged = false;
                    }
                }
                self.pending.retain(|event| !covers(event));
                Err(eio())
            }
            Some(Effect::LyingSync) => Ok(()),
            _ if self.node(file).lies => Ok(()),
            _ => {
                let node = self.files.get_mut(&file).expect("an open file is kept");
                if node.diverged {
                    let events = self.pending.iter().filter(|event| covers(event));
                    events.for_each(|event| event.apply_to(&mut node.durable, Gap::Zeros));
                } else {
                    node.durable = node.current.clone();
                }
                self.pending.retain(|event| !covers(event));
                Ok(())
            }
        }
    }

    pub(super) fn sync_dir(&mut self, effect: Option<Effect>) -> io::Result<()> {
        let covers = |event: &Event| event.content_of().is_none();
        let dir = &mut self.dir;
        let result = match effect {
            Some(Effect::SyncFails(AfterSync::LaterSyncLies)) => {
                dir.lies = true;
                return Err(eio());
            }
            Some(Effect::SyncFails(AfterSync::KeptClean)) => {
                dir.diverged |= self.pending.iter().any(covers);
                Err(eio())
            }
            Some(Effect::SyncFails(AfterSync::Dropped)) => {
                dir.current = dir.durable.clone();
                dir.diverged = false;
                for (name, file) in &dir.current {
                    self.files.get_mut(file).expect("a named file is kept").name = Arc::clone(name);
                }
                Err(eio())
            }
            Some(Effect::LyingSync) => return Ok(()),
            _ if dir.lies => return Ok(()),
            _ => {
                if dir.diverged {
                    let events = self.pending.iter().filter(|event| covers(event));
                    events.for_each(|event| event.apply_to_names(&mut dir.durable));
                } else {
                    dir.durable = dir.current.clone();
                }
                Ok(())
            }
        };
        self.pending.retain(|event| !covers(event));
        self.forget_lost_files();
        result
    }

    /// Drops a handle; the file goes with the last one if nothing can bring it back.
    pub(super) fn close(&mut self, file: FileId) {
        let node = self.node(file);
        node.handles -= 1;
        if node.handles == 0 && !self.is_named(file, &self.files[&file]) {
            self.forget_lost_files();
        }
    }

    /// Forgets files that have no handle and that no crash could bring back.
    fn forget_lost_files(&mut self) {
        let named = self.dir.durable.values().chain(self.dir.current.values()).copied();
        let waiting = self.pending.iter().filter(|event| event.content_of().is_none()).map(Event::file);
        let kept: BTreeSet<FileId> = named.chain(waiting).collect();
        self.files.retain(|file, node| node.handles > 0 || kept.contains(file));
        self.pending.retain(|event| self.files.contains_key(&event.file()));
    }

    pub(super) fn clear_faults(&mut self) {
        self.faults.disarm();
        self.dir.lies = false;
        for node in self.files.values_mut() {
            node.lies = false;
            node.unreadable.clear();
        }
    }
}

impl Node {
    /// A file whose content is durable.
    pub(super) fn new(name: Arc<str>, content: Content) -> Node {
        Node {
            name,
            durable: content.clone(),
            current: content,
            diverged: false,
            lies: false,
            handles: 0,
            unreadable: Vec::new(),
        }
    }
}
