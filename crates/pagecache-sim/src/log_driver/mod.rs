//! The bare log as a world: its operations done on a simulated disk and compared with the model.

mod cases;
mod check;
mod flips;
mod op;
mod scenario;
mod swarm;

pub use cases::cases;
pub use flips::{Flips, Outcome, flip_bits};
pub use op::{BLOCK, End, INLINE_MAX, LogOp, SEGMENT, Which};
pub use scenario::{Left, alphabet, log_in_one_segment, preludes};

use std::sync::mpsc::channel;

use pagecache::{Background, Config, ConfigBuilder, Error, Log, LogRead, Lsn};

use crate::disk::SimDisk;
use crate::driver::{Blind, Checked, Mood, Trust, Violation, World, claim};
use crate::log_model::{Body, LogModel};
use crate::rng::Rng;

type Answer<T> = Result<T, Error>;

/// A log, its disk and its model.
#[derive(Debug)]
pub struct LogWorld {
    disk: SimDisk,
    log: Option<Log>,
    model: LogModel,
    seed: u64,
    /// Records made so far: each has its own bytes.
    made: u64,
    trust: Trust,
    /// Files below may be gone: a trim up to here came to its end.
    released: Lsn,
}

/// The options of every log here.
pub fn config(disk: &SimDisk) -> Config {
    builder(disk).build()
}

fn builder(disk: &SimDisk) -> ConfigBuilder {
    ConfigBuilder::new().storage(disk.clone()).segment_size(SEGMENT).background(Background::Caller)
}

impl Drop for LogWorld {
    fn drop(&mut self) {
        self.die();
    }
}

impl World for LogWorld {
    type Op = LogOp;

    fn new(disk: SimDisk, seed: u64) -> LogWorld {
        let (model, released) = (LogModel::new(), Lsn(0));
        LogWorld { disk, log: None, model, seed, made: 0, trust: Trust::default(), released }
    }

    fn over(&self, disk: SimDisk) -> LogWorld {
        let mut other = LogWorld::new(disk, self.seed);
        (other.model, other.made, other.released) = (self.model.clone(), self.made, self.released);
        let mut trust = self.trust.clone();
        trust.look(&self.disk, self.model.stable());
        other.trust = trust.elsewhere();
        other
    }

    fn disk(&self) -> &SimDisk {
        &self.disk
    }

    fn is_open(&self) -> bool {
        self.log.is_some() && !self.disk.crashed()
    }

    fn trust(&self) -> &Trust {
        &self.trust
    }

    fn start(&mut self) -> Result<bool, Violation> {
        self.log = None;
        self.trust.look(&self.disk, self.model.stable());
        self.trust.opening(&self.disk);
        if self.trust.is_betrayed() {
            self.model.doubt(self.trust.promised(self.model.stable()));
        }
        let (calls, struck) = (self.disk.io_count(), self.disk.struck().len());
        let started = Log::start(config(&self.disk));
        let Some(log) = self.trust.excuse_start(&self.disk, started, self.model.stable())? else { return Ok(false) };
        let undisturbed = self.disk.struck().len() == struck;
        self.trust.opened(&self.disk);
        // What is found is judged on a disk that reads.
        self.disk.clear_faults();
        if !self.check_opened(&log)? {
            self.trust.lose();
            return Ok(false);
        }
        if undisturbed {
            self.check_calls_of_open(&log, calls)?;
        }
        self.log = Some(log);
        Ok(true)
    }

    fn close(&mut self) -> Checked {
        let Some(log) = self.log.take() else { return Ok(()) };
        let (tail, before) = (log.tail_lsn(), self.disk.struck().len());
        let closed = log.close();
        if self.excused(closed, before)?.is_some() {
            self.model.acknowledged(tail);
        }
        Ok(())
    }

    fn apply(&mut self, op: &LogOp) -> Checked {
        let Some(log) = self.log.take() else { return Err(Violation::new("an operation on a closed log")) };
        let before = self.disk.struck().len();
        let calls = self.disk.io_count();
        let done = self.perform(&log, *op).and_then(|()| self.check_after(&log, *op, before, calls));
        self.log = Some(log);
        done
    }

    fn prove(&mut self) -> Checked {
        let Some(log) = self.log.take() else { return Err(Violation::new("a closed log")) };
        let proven = self.write_and_read(&log);
        self.log = Some(log);
        proven
    }

    fn mood(&mut self) -> Result<Mood, Violation> {
        let Some(log) = self.log.take() else { return Err(Violation::new("a closed log")) };
        let (since, wrote) = (self.disk.struck().len(), self.write(&log, 40)?);
        let flushed = self.excused(log.flush(), since)?;
        self.log = Some(log);
        self.model.acknowledged(flushed.unwrap_or_default());
        Ok(match (wrote, flushed) {
            (Some(_), Some(_)) => Mood::Works,
            _ if self.trust.is_poisoned() => Mood::Poisoned,
            _ => Mood::Refuses,
        })
    }
}

impl LogWorld {
    /// The process dies: what the log does while it is dropped reaches no disk.
    fn die(&mut self) {
        if let Some(log) = self.log.take() {
            self.disk.crash_at(0);
            drop(log);
        }
    }

    /// The next record's bytes: random, or all the same, and told from all others where they are long enough.
    fn body(&mut self, len: u32) -> Body {
        self.made += 1;
        let mut rng = Rng::new(self.seed ^ self.made << 20);
        let mut bytes = vec![if rng.one_in(2) { 0 } else { 0xff }; len as usize];
        if !rng.one_in(4) {
            rng.fill(&mut bytes);
        }
        for (byte, number) in bytes.iter_mut().zip(self.made.to_le_bytes()) {
            *byte = number;
        }
        bytes.into()
    }

    fn lsn(&self, log: &Log, which: Which) -> Lsn {
        let entries = self.model.entries();
        match which {
            Which::Stable => log.stable_lsn(),
            Which::Newest(before) => {
                let at = entries.len().saturating_sub(before + 1);
                entries.get(at).map_or(log.tail_lsn(), |entry| entry.lsn)
            }
        }
    }

    fn perform(&mut self, log: &Log, op: LogOp) -> Checked {
        let before = self.disk.struck().len();
        match op {
            LogOp::Write(len) => self.write(log, len).map(drop),
            LogOp::Reserve { len, end } => self.reserve(log, len, end),
            LogOp::HeldElsewhere { len, beside, end } => self.hold_elsewhere(log, len, beside, end),
            LogOp::ToSegmentEnd(over) => self.fill(log, over),
            LogOp::Flush => {
                let tail = log.tail_lsn();
                match self.excused(log.flush(), before)? {
                    Some(stable) => claim(stable >= tail, || format!("a flush up to {tail} says {stable}")),
                    None => Ok(()),
                }
            }
            LogOp::MakeStable(which) => self.make_stable(log, which),
            LogOp::Trim(which) => self.trim(log, which),
            LogOp::Tick => self.excused(log.tick(), before).map(drop),
            LogOp::Check => self.check_all(log),
        }
    }

    /// The answer, or `None` where the call failed and may have. `since` is what had struck before it.
    fn excused<T>(&mut self, answer: Answer<T>, since: usize) -> Result<Option<T>, Violation> {
        self.trust.excuse(&self.disk, answer, since, self.model.stable(), Blind::Nothing)
    }

    fn write(&mut self, log: &Log, len: u32) -> Result<Option<Lsn>, Violation> {
        let (body, before) = (self.body(len), self.disk.struck().len());
        let wrote = self.excused(log.write(&body), before)?;
        claim(wrote.is_none() || !self.trust.is_poisoned(), || "a failed log takes records".to_owned())?;
        if let Some(lsn) = wrote {
            self.model.wrote(lsn, Some(body))?;
        }
        Ok(wrote)
    }

    fn make_stable(&mut self, log: &Log, which: Which) -> Checked {
        let before = self.disk.struck().len();
        let (lsn, tail) = (self.lsn(log, which), log.tail_lsn());
        match self.excused(log.make_stable(lsn), before)? {
            Some(stable) => claim(stable > lsn || stable >= tail, || format!("{lsn} made stable up to {stable}")),
            None => Ok(()),
        }
    }

    fn trim(&mut self, log: &Log, which: Which) -> Checked {
        let before = self.disk.struck().len();
        let to = self.lsn(log, which).min(log.stable_lsn());
        let moves = to > log.first_lsn();
        self.model.begun_trim(to);
        if let Some(first) = self.excused(log.trim(to), before)? {
            let expected = to.max(self.model.first());
            claim(first == expected, || format!("a trim to {to} answers {first} in place of {expected}"))?;
            if moves {
                self.model.trimmed(first);
                self.released = self.released.max(first);
            }
        }
        Ok(())
    }

    fn reserve(&mut self, log: &Log, len: u32, end: End) -> Checked {
        let (body, before) = (self.body(len), self.disk.struck().len());
        let Some(held) = self.excused(log.reserve(&body), before)? else { return Ok(()) };
        let lsn = held.lsn();
        if len <= INLINE_MAX {
            self.write(log, len / 2)?;
            let flushed = log.flush();
            let refused = matches!(flushed, Err(Error::WouldDeadlock { .. } | Error::Poisoned { .. }));
            claim(refused || self.disk.crashed(), || format!("a flush over an own reservation says {flushed:?}"))?;
            claim(log.stable_lsn() <= lsn, || format!("stable at {} over a held {lsn}", log.stable_lsn()))?;
        }
        self.finish(held, lsn, body, end)
    }

    fn finish(&mut self, held: pagecache::Reservation<'_>, lsn: Lsn, body: Body, end: End) -> Checked {
        match end {
            End::Completed => {
                held.complete();
                self.model.wrote(lsn, Some(body))
            }
            End::Aborted => {
                held.abort();
                self.model.wrote(lsn, None)
            }
        }
    }

    /// The other thread moves only while this one waits for it, so that runs repeat.
    fn hold_elsewhere(&mut self, log: &Log, len: u32, beside: u32, end: End) -> Checked {
        self.write(log, beside)?;
        let (body, before) = (self.body(len), self.disk.struck().len());
        let (tell, told) = channel();
        let (go, gone) = channel::<()>();
        let reserved = std::thread::scope(|scope| {
            let bytes = body.clone();
            let holder = scope.spawn(move || match log.reserve(&bytes) {
                Ok(held) => {
                    let _ = tell.send(Ok(held.lsn()));
                    let _ = gone.recv();
                    match end {
                        End::Completed => drop(held.complete()),
                        End::Aborted => held.abort(),
                    }
                }
                Err(error) => drop(tell.send(Err(error))),
            });
            let reserved = told.recv().map_err(|_| Violation::new("a thread died in a reservation"))?;
            let reserved = self.excused(reserved, before)?;
            let meanwhile = match reserved {
                Some(lsn) => self.while_held(log, lsn, beside),
                None => Ok(()),
            };
            drop(go);
            holder.join().map_err(|_| Violation::new("a thread died with a reservation"))?;
            meanwhile.map(|()| reserved)
        })?;
        match reserved {
            Some(lsn) => self.model.wrote(lsn, (end == End::Completed).then_some(body)),
            None => Ok(()),
        }
    }

    fn while_held(&mut self, log: &Log, held: Lsn, beside: u32) -> Checked {
        self.write(log, beside)?;
        let before = self.disk.struck().len();
        self.excused(log.tick(), before)?;
        claim(log.stable_lsn() <= held, || format!("stable at {} over a held {held}", log.stable_lsn()))?;
        claim(matches!(log.read(held), Ok(LogRead::Beyond { .. })), || format!("{held} is held and can be read"))
    }

    /// Records of a quarter of the ring at most, until one ends where it should.
    fn fill(&mut self, log: &Log, over: i16) -> Checked {
        let mut room = op::room_in_segment(log.tail_lsn());
        while room > u64::from(INLINE_MAX) - 64 {
            if self.write(log, 8000)?.is_none() {
                return Ok(());
            }
            room = op::room_in_segment(log.tail_lsn());
        }
        match op::body_of_record(room.saturating_add_signed(i64::from(over) * 8)) {
            Some(len) => self.write(log, len).map(drop),
            None => Ok(()),
        }
    }

    fn write_and_read(&mut self, log: &Log) -> Checked {
        let body = self.body(33);
        let lsn = log.write(&body).map_err(|error| Violation::new(format!("a write failed: {error}")))?;
        self.model.wrote(lsn, Some(body.clone()))?;
        let stable = log.make_stable(lsn).map_err(|error| Violation::new(format!("a flush failed: {error}")))?;
        claim(stable > lsn, || format!("{lsn} was made stable, up to {stable}"))?;
        self.model.acknowledged(stable);
        let read = log.read(lsn);
        claim(matches!(&read, Ok(LogRead::Record(read)) if **read == *body), || format!("{lsn} is read as {read:?}"))
    }
}
