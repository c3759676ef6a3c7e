//! `pagecache verify STORE`: is every byte of a store what was written?

use std::path::PathBuf;

use pagecache::ConfigBuilder;
use pagecache::inspect::{self, Purpose, Report};
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
    #[serde(flatten)]
    report: &'a Report,
}

pub(crate) fn run(args: &Args) -> Result<u8, Failure> {
    let report = inspect::verify(ConfigBuilder::new().path(&args.store).build())?;
    let sound = report.is_sound();
    if args.json {
        show::line(serde_json::to_string_pretty(&Answer { sound, report: &report })?);
    } else {
        show::line(format!("{}: {}", args.store.display(), summary(&report)));
        for problem in &report.problems {
            show::line(format!("  {problem}"));
        }
    }
    Ok(if sound { SOUND } else { DAMAGED })
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
