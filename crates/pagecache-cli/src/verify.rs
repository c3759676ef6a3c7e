//! `pagecache verify STORE`: is every byte of a store what was written?

use std::path::PathBuf;

use pagecache::inspect::{self, Purpose, Report};
use pagecache::{ConfigBuilder, Lsn};
use serde::Serialize;

use crate::{DAMAGED, Failure, SOUND, show};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The directory of the store.
    store: PathBuf,
    /// Print the whole report as JSON.
    #[arg(long)]
    json: bool,
}

/// The report, with the answer on top.
#[derive(Serialize)]
struct Answer<'a> {
    sound: bool,
    /// Bytes of log that the next start replays.
    replay_bytes: u64,
    #[serde(flatten)]
    report: &'a Report,
}

pub(crate) fn run(args: &Args) -> Result<u8, Failure> {
    let report = inspect::verify(ConfigBuilder::new().path(&args.store).build())?;
    let sound = report.is_sound();
    if args.json {
        show::line(serde_json::to_string_pretty(&Answer {
            sound,
            replay_bytes: replay_bytes(&report),
            report: &report,
        })?);
    } else {
        show::line(format!("{}: {}", args.store.display(), summary(&report)));
        if let Some(checkpoint) = checkpoint(&report) {
            show::line(format!("  {checkpoint}"));
        }
        if let Some(images) = images(&report) {
            show::line(format!("  {images}"));
        }
        for problem in &report.problems {
            show::line(format!("  {problem}"));
        }
    }
    Ok(if sound { SOUND } else { DAMAGED })
}

/// Bytes of log from the redo point on, or from the beginning where there is no checkpoint.
pub(crate) fn replay_bytes(report: &Report) -> u64 {
    let oldest = report.segments.first().map_or(Lsn(0), |oldest| oldest.start);
    let redo = report.checkpoint.map_or(oldest.max(report.evidence.first), |checkpoint| checkpoint.redo);
    report.evidence.end.0.saturating_sub(redo.0)
}

/// The checkpoint that the next start replays from, in a line. Nothing of a bare log, which has none.
pub(crate) fn checkpoint(report: &Report) -> Option<String> {
    let behind = show::bytes(replay_bytes(report));
    match (report.checkpoint, report.purpose) {
        (Some(checkpoint), _) => Some(format!(
            "checkpoint {}: replay from {}, {behind} of log behind it; {} in {} of {}{}",
            checkpoint.number,
            checkpoint.redo,
            match checkpoint.leaves {
                1 => "1 leaf".to_owned(),
                leaves => format!("{} leaves", show::count(leaves)),
            },
            show::bytes(checkpoint.allocated),
            show::many(checkpoint.segments, "segment"),
            if checkpoint.copies_differ {
                "; one copy of the superblock, or its root, is older or damaged"
            } else {
                ""
            },
        )),
        (None, Some(Purpose::Pages)) => Some(format!("no checkpoint: replay from the beginning, {behind} of log")),
        _ => None,
    }
}

/// The segments of images, in a line. Nothing where there are none.
pub(crate) fn images(report: &Report) -> Option<String> {
    let images = report.images;
    (images.segments > 0).then(|| {
        let (payload, allocated) = (show::bytes(images.bytes.payload), show::bytes(images.allocated));
        let (count, segments) = (show::many(images.records, "image"), show::many(images.segments, "segment"));
        format!("{count} of {payload} in {allocated} of {segments}")
    })
}

/// What was checked and what came of it, in a line.
pub(crate) fn summary(report: &Report) -> String {
    let what = match report.purpose {
        Some(Purpose::Pages) => format!("{} in ", show::many(report.pages.live, "page")),
        _ => String::new(),
    };
    let closed = if report.evidence.clean { "closed" } else { "not closed by its last writer" };
    let checked = format!(
        "{what}{} and {} of {}, {closed}",
        show::many(report.records.total(), "record"),
        show::many(report.records.marks, "mark"),
        show::many(report.segments.len() as u64, "segment"),
    );
    match report.problems.len() as u64 {
        0 => format!("sound ({checked})"),
        problems => format!("DAMAGED, {} ({checked})", show::many(problems, "problem")),
    }
}
