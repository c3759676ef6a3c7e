//! The proof that the ledger would notice: the same writer, killed by itself at the moment of an acknowledgement, once as it is
//! and once with a planted bug that acknowledges before anything was written.
//!
//! A kill leaves alone what the operating system has already got. So the bug is one that acknowledges before the bytes leave
//! the process, the disk is made slow, and the writer dies on the first acknowledgement: the bytes are still on their way then,
//! unless the acknowledgement was right.

use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

use super::crash::{reopen, start};
use super::ledger::{Ledger, Outcome};
use super::place::Place;
use super::writer;
use crate::show::{count, many};
use crate::{Failure, tour::Say};

const FILLER: u64 = 1000;
const BATCH: u64 = 8;
/// Deaths of the writer as it is.
const HONEST: u64 = 5;
/// Deaths of the one that lies, until one of them hits the moment.
const LYING: u64 = 20;

/// What came of one kind of writer.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Deaths {
    pub(super) deaths: u64,
    #[serde(flatten)]
    pub(super) outcome: Outcome,
}

/// Both kinds.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Proof {
    pub(super) honest: Deaths,
    /// Nothing where the feature `canary` is off.
    pub(super) lying: Option<Deaths>,
}

pub(super) fn run(say: Say, place: &Place) -> Result<Proof, Failure> {
    let honest = die(place, false, HONEST)?;
    say.line(format!(
        "  killing itself as it acknowledges, on a slow disk, {}: {} acknowledged, {} lost",
        many(honest.deaths, "time"),
        count(honest.outcome.acknowledged),
        count(honest.outcome.lost)
    ));
    if !cfg!(feature = "canary") {
        say.line("  a store that lies: not run, built without the feature canary");
        return Ok(Proof { honest, lying: None });
    }
    let lying = die(place, true, LYING)?;
    let verdict = match lying.outcome.lost {
        0 => "the ledger has NOT caught it",
        _ => "the ledger catches a store that lies",
    };
    say.line(format!(
        "  the same, but it acknowledges too early (a planted bug), {}: {} acknowledged, {} lost: {verdict}",
        many(lying.deaths, "time"),
        count(lying.outcome.acknowledged),
        count(lying.outcome.lost)
    ));
    Ok(Proof { honest, lying: Some(lying) })
}

/// Lets writers die, each on a store of its own, until something is lost or there were enough.
fn die(place: &Place, lie: bool, most: u64) -> Result<Deaths, Failure> {
    let mut all = Deaths::default();
    while all.deaths < most && all.outcome.lost == 0 {
        let store = place.store(&format!("deaths-{lie}-{}", all.deaths));
        let args = writer::Args { store: store.clone(), filler: FILLER, batch: BATCH, die: true, lie };
        let ledger = Arc::new(Mutex::new(Ledger::default()));
        start(&args, &ledger)?.end()?;
        let ledger = ledger.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let outcome = reopen(&store, &ledger, FILLER, false, "by itself")?.outcome;
        std::fs::remove_dir_all(&store)?;
        all.deaths += 1;
        all.outcome.acknowledged += outcome.acknowledged;
        all.outcome.found += outcome.found;
        all.outcome.lost += outcome.lost;
        all.outcome.unacknowledged += outcome.unacknowledged;
    }
    Ok(all)
}
