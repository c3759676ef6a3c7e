//! Asking the user's `recover` about every fragment in the log, in LSN order: at the start behind the redo point, later by each checkpoint
//! up to its own.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::base::aligned::AlignedBuf;
use crate::base::canary::{Canary, planted};
use crate::base::damage::Damage;
use crate::base::error::{Error, Result};
use crate::base::ids::{Lsn, PageId};
use crate::format::page::{PageHead, Payload};
use crate::format::record::{Kind, Shape};
use crate::log::core::LogCore;
use crate::log::scan::{Scanner, Step};
use crate::page::fragment::{Fragment, PageBytes};
use crate::page::materialize::Materializer;

/// The state that a user recovers, as of a place in the log.
pub(crate) struct Replayer<M: Materializer> {
    /// None where the materializer does not recover.
    materializer: Option<M>,
    state: Option<M::Recovery>,
    at: Lsn,
}

impl<M: Materializer> Replayer<M> {
    /// Begins at `at`, where the state is what a checkpoint says.
    ///
    /// # Errors
    /// `Decode` for a state that is none of this materializer's.
    pub(crate) fn new(at: Lsn, encoded: Option<&[u8]>) -> Result<Replayer<M>> {
        let decoded = encoded.filter(|_| M::RECOVERS).map(postcard::from_bytes).transpose();
        let state =
            decoded.map_err(|error| Error::Decode { page: None, what: format!("the recovered state: {error}") })?;
        let materializer = M::RECOVERS.then(|| M::new(&state));
        Ok(Replayer { materializer, state, at })
    }

    pub(crate) fn state(&self) -> &Option<M::Recovery> {
        &self.state
    }

    /// Goes on to `to`, and encodes the state as of there.
    ///
    /// # Errors
    /// `Corrupt`, `Decode`, `Io`; `Encode` where the state cannot be; `Decode` where `recover` panics.
    pub(crate) fn advance(&mut self, log: &LogCore, to: Lsn) -> Result<Option<Vec<u8>>> {
        if planted(Canary::StateNotAdvanced) {
            self.at = to;
        }
        let walked = catch_unwind(AssertUnwindSafe(|| self.walk(log, to)));
        let walked = walked.unwrap_or_else(|_| Err(Error::Decode { page: None, what: "recover panicked".to_owned() }));
        if walked.is_err() {
            // What was shown in vain is shown again by the next try, to one that has not seen it.
            self.materializer = self.materializer.take().map(|_| M::new(&self.state));
        }
        walked?;
        let encoded = self.state.as_ref().map(postcard::to_allocvec).transpose();
        encoded.map_err(|error| Error::Encode { what: format!("the recovered state: {error}") })
    }

    /// Shows the fragments up to `to` to the user's `recover`. The last `Some` wins.
    ///
    /// # Errors
    /// `Corrupt`, `Decode`, `Io`.
    pub(crate) fn walk(&mut self, log: &LogCore, to: Lsn) -> Result<()> {
        let Some(materializer) = &self.materializer else {
            self.at = to;
            return Ok(());
        };
        let mut last = None;
        for segment in log.pool.log() {
            if segment.data_end() <= self.at || segment.data_start() >= to {
                continue;
            }
            let from = self.at.max(segment.data_start());
            let mut scanner = Scanner::from(Arc::clone(&segment), from, to);
            loop {
                let (shape, body, body_at, lsn) = match scanner.step()? {
                    Step::Record { shape, body, body_at, lsn, .. } => (shape, body, body_at, lsn),
                    Step::Mark { .. } => continue,
                    Step::End => break,
                    // The log is whole up to here: to go on without the rest would recover an older state.
                    Step::Hole | Step::Unknown { .. } => {
                        let at = scanner.position();
                        return Err(log.corrupt_at(at, to, Damage::StableMissing));
                    }
                };
                if let Some((page, frag)) = fragment(log, shape, body, body_at, lsn)? {
                    let decoded = M::PageFrag::decode(frag)
                        .map_err(|what| Error::Decode { page: Some(page), what: format!("{what} ({lsn})") })?;
                    last = materializer.recover(&decoded).or(last);
                }
            }
        }
        self.at = to;
        self.state = last.or(self.state.take());
        Ok(())
    }
}

/// The page and the bytes of a record's fragment, where it has one.
fn fragment(log: &LogCore, shape: Shape, body: &[u8], body_at: usize, lsn: Lsn) -> Result<Option<(PageId, PageBytes)>> {
    if !matches!(shape.kind, Kind::Replace | Kind::Link) {
        return Ok(None);
    }
    let Some((head, payload)) = PageHead::decode(shape, body, body_at) else { return Ok(None) };
    let buf = match payload {
        Payload::Inline(at) => {
            let bytes = body.get(at..).unwrap_or_default();
            let mut buf = AlignedBuf::zeroed(bytes.len());
            buf.as_mut_slice().copy_from_slice(bytes);
            buf
        }
        Payload::Extent(extent, _) => log.read_extent(lsn, &extent)?,
    };
    let end = buf.as_slice().len();
    Ok(Some((head.page, PageBytes::new(buf, 0, end))))
}
