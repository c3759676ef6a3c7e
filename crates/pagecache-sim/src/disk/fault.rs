//! Online faults: which call goes wrong, when, and how.

use std::io;
use std::sync::Arc;

use crate::rng::Rng;

/// A kind of call. All but `Read` are counted by [`io_count`](super::SimDisk::io_count).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Call {
    /// Positioned read.
    Read,
    /// Positioned write.
    Write,
    /// Sync of one file's data.
    SyncData,
    /// Sync of the directory.
    SyncDir,
    /// Setting aside space.
    Allocate,
    /// Setting a length.
    SetLen,
    /// Opening with `CreateNew`.
    Create,
    /// Renaming.
    Rename,
    /// Removing.
    Remove,
}

impl Call {
    /// Every kind of call.
    pub const ALL: [Call; 9] = [
        Call::Read,
        Call::Write,
        Call::SyncData,
        Call::SyncDir,
        Call::Allocate,
        Call::SetLen,
        Call::Create,
        Call::Rename,
        Call::Remove,
    ];
}

/// Which of the matching calls, counted from the arming of the fault, go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// The one with this number, from 0.
    Once(u64),
    /// The one with this number, from 0, and all after it.
    From(u64),
    /// Each with probability 1 / `one_in`.
    Chance {
        /// 1 is always, 0 is never.
        one_in: u64,
        /// Decides which.
        seed: u64,
    },
}

/// How a call goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// `EIO`, nothing done. What a sync was to make durable stays pending.
    Eio,
    /// `ENOSPC`, nothing done.
    Enospc,
    /// `EINTR`, nothing done.
    Eintr,
    /// A read or write transfers half of what was asked, at least one byte.
    Short,
    /// A sync fails with `EIO` and leaves this behind.
    SyncFails(AfterSync),
    /// A sync returns `Ok` and makes nothing durable; everything stays pending.
    LyingSync,
    /// A write returns `Ok` and its bytes go nowhere. The file's length still grows: the medium errs, not the file system.
    LostWrite,
    /// A write returns `Ok` and its bytes land elsewhere in the file. The length grows over both places.
    MisdirectedWrite {
        /// Bytes from the right place to the wrong one; the wrong one is never before the start of the file.
        delta: i64,
    },
}

impl Effect {
    /// Whether it makes a call of this kind return an error to whoever used the storage through the usual loops, which repeat
    /// short and interrupted transfers.
    pub fn fails(self, call: Call) -> bool {
        match self {
            Effect::Eio | Effect::Enospc | Effect::SyncFails(_) => true,
            Effect::Eintr => !matches!(call, Call::Read | Call::Write),
            Effect::Short | Effect::LyingSync | Effect::LostWrite | Effect::MisdirectedWrite { .. } => false,
        }
    }

    /// Whether it is a failed sync, of a file or of the directory.
    pub fn fails_sync(self, call: Call) -> bool {
        matches!(call, Call::SyncData | Call::SyncDir) && self.fails(call)
    }

    /// Whether a call says `Ok` and has not done what it says: acknowledged records may be lost then.
    pub fn lies(self) -> bool {
        matches!(self, Effect::LyingSync | Effect::LostWrite | Effect::MisdirectedWrite { .. })
    }
}

/// A call that a fault struck.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Strike {
    /// Its kind.
    pub call: Call,
    /// What went wrong.
    pub effect: Effect,
    /// The name that the file had then; empty for a sync of the directory.
    pub file: Arc<str>,
}

impl Strike {
    /// Whether the call returned an error that the usual loops do not repeat.
    pub fn fails(&self) -> bool {
        self.effect.fails(self.call)
    }

    /// Whether it is a failed sync, of a file or of the directory.
    pub fn fails_sync(&self) -> bool {
        self.effect.fails_sync(self.call)
    }
}

/// What a failed sync leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterSync {
    /// What was pending stays readable but counts as clean: no later sync writes it, and a crash loses it.
    KeptClean,
    /// What was pending is gone at once: reads see the durable state.
    Dropped,
    /// Everything stays pending, and all later syncs of this file (or of the directory) return `Ok` without effect.
    LaterSyncLies,
}

/// A fault to arm with [`SimDisk::fault`](super::SimDisk::fault).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The call that goes wrong.
    pub call: Call,
    /// Which of them.
    pub when: When,
    /// How.
    pub effect: Effect,
    /// Only on files whose name starts so; all when empty. A sync of the directory has the empty name.
    pub prefix: String,
}

impl Fault {
    /// A fault on all files.
    ///
    /// # Panics
    /// Where the effect means nothing for the call, such as a lying read.
    pub fn new(call: Call, when: When, effect: Effect) -> Fault {
        let fault = Fault { call, when, effect, prefix: String::new() };
        assert!(fault.is_meaningful(), "{effect:?} means nothing for {call:?}");
        fault
    }

    /// The same, only on files whose name starts with `prefix`.
    #[must_use]
    pub fn on(self, prefix: impl Into<String>) -> Fault {
        Fault { prefix: prefix.into(), ..self }
    }

    pub(super) fn is_meaningful(&self) -> bool {
        match self.effect {
            Effect::Eio | Effect::Enospc | Effect::Eintr => true,
            Effect::Short => matches!(self.call, Call::Read | Call::Write),
            Effect::SyncFails(_) | Effect::LyingSync => matches!(self.call, Call::SyncData | Call::SyncDir),
            Effect::LostWrite | Effect::MisdirectedWrite { .. } => self.call == Call::Write,
        }
    }
}

/// The armed faults.
#[derive(Default)]
pub(super) struct Faults {
    armed: Vec<Armed>,
    /// What went wrong so far; disarming does not forget it.
    pub(super) struck: Vec<Strike>,
}

struct Armed {
    fault: Fault,
    seen: u64,
    rng: Rng,
}

impl Faults {
    pub(super) fn arm(&mut self, fault: Fault) {
        let seed = if let When::Chance { seed, .. } = fault.when { seed } else { 0 };
        self.armed.push(Armed { fault, seen: 0, rng: Rng::new(seed) });
    }

    /// The effect on this call, of the first armed fault that strikes. All that match count the call.
    pub(super) fn strike(&mut self, call: Call, name: &str) -> Option<Effect> {
        let mut effect = None;
        for armed in &mut self.armed {
            if armed.fault.call == call && name.starts_with(&armed.fault.prefix) && armed.strikes() {
                effect = effect.or(Some(armed.fault.effect));
            }
        }
        self.struck.extend(effect.map(|effect| Strike { call, effect, file: name.into() }));
        effect
    }

    pub(super) fn disarm(&mut self) {
        self.armed.clear();
    }
}

impl Armed {
    fn strikes(&mut self) -> bool {
        let number = self.seen;
        self.seen += 1;
        match self.fault.when {
            When::Once(nth) => number == nth,
            When::From(nth) => number >= nth,
            When::Chance { one_in, .. } => self.rng.one_in(one_in),
        }
    }
}

pub(super) fn eio() -> io::Error {
    io::Error::from_raw_os_error(5)
}

pub(super) fn enospc() -> io::Error {
    io::Error::from_raw_os_error(28)
}

pub(super) fn eintr() -> io::Error {
    io::Error::from_raw_os_error(4)
}
