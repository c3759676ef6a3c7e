//! A child process of this same binary that says in lines on a pipe how far it is, until it is killed: both ends.
//!
//! Every child says `opening` before it opens its store and `open` when it has; what else it says is its parent's business.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child as Process, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::Failure;

/// Nothing of a child takes longer, or it hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the child said so far.
#[derive(Default)]
pub(crate) struct Heard {
    pub(crate) opening: Option<Instant>,
    pub(crate) open: Option<Instant>,
    pub(crate) acknowledgements: u64,
    pub(crate) ended: bool,
}

/// A child process with a thread that listens to it.
pub(crate) struct Child {
    process: Process,
    listener: Option<JoinHandle<()>>,
    heard: Arc<(Mutex<Heard>, Condvar)>,
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Child {
    /// Starts this binary with other arguments. `note` hears what the child says beside how far it opened, and says whether that
    /// was an acknowledgement; it is over with what was said before a kill when [`kill`](Child::kill) returns.
    pub(crate) fn start(
        line: Vec<OsString>,
        note: impl FnMut(&[&str]) -> bool + Send + 'static,
    ) -> Result<Child, Failure> {
        let mut command = Command::new(std::env::current_exe()?);
        let mut process = command.args(line).stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let pipe = process.stdout.take().ok_or("the child has no pipe")?;
        let heard = Arc::new((Mutex::new(Heard::default()), Condvar::new()));
        let shared = Arc::clone(&heard);
        let listener = std::thread::spawn(move || listen(BufReader::new(pipe), note, &shared));
        Ok(Child { process, listener: Some(listener), heard })
    }

    pub(crate) fn heard(&self) -> MutexGuard<'_, Heard> {
        lock(&self.heard.0)
    }

    /// Waits until something was heard.
    pub(crate) fn wait(&self, what: &str, until: impl Fn(&Heard) -> bool) -> Result<(), Failure> {
        let (heard, news) = &*self.heard;
        let mut heard = lock(heard);
        let deadline = Instant::now() + PATIENCE;
        while !until(&heard) {
            if heard.ended || Instant::now() > deadline {
                return Err(format!("the child did not come to {what}").into());
            }
            heard = news.wait_timeout(heard, Duration::from_millis(100)).unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(())
    }

    /// Kills it with SIGKILL and hears out what it said before.
    pub(crate) fn kill(mut self) -> Result<Heard, Failure> {
        self.process.kill()?;
        self.end()
    }

    /// Waits for its end.
    pub(crate) fn end(mut self) -> Result<Heard, Failure> {
        self.process.wait()?;
        match self.listener.take().map(JoinHandle::join) {
            Some(Err(_)) => Err("the listener panicked".into()),
            _ => Ok(std::mem::take(&mut *self.heard())),
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // No child outlives its parent, whatever ended that.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn listen(mut pipe: impl BufRead, mut note: impl FnMut(&[&str]) -> bool, shared: &(Mutex<Heard>, Condvar)) {
    let (heard, news) = shared;
    let mut line = String::new();
    // A line without its end was cut off by the kill: it says nothing.
    while pipe.read_line(&mut line).is_ok_and(|len| len > 0) && line.ends_with('\n') {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["opening"] => lock(heard).opening = Some(Instant::now()),
            ["open"] => lock(heard).open = Some(Instant::now()),
            words => {
                if note(words) {
                    lock(heard).acknowledgements += 1;
                }
            }
        }
        news.notify_all();
        line.clear();
    }
    lock(heard).ended = true;
    news.notify_all();
}

/// The child's end: one line, in one write; where nobody listens, there is nothing left to do.
pub(crate) fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    if out.write_all(format!("{line}\n").as_bytes()).and_then(|()| out.flush()).is_err() {
        std::process::exit(0);
    }
}
