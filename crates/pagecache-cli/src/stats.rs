//! `pagecache stats STORE`: where the bytes are, and what they are. Needs no user type and writes nothing.

use std::path::PathBuf;

use pagecache::inspect::{self, Purpose, Report};
use pagecache::{Config, ConfigBuilder, Space, Stats};
use serde::Serialize;

use crate::show::{self, Table};
use crate::{Failure, SOUND, verify, why};

/// Segments shown in full; of more, the first and the last half of these.
const SHOWN: usize = 16;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The directory of the store.
    store: PathBuf,
    /// Print everything as one JSON object.
    #[arg(long)]
    json: bool,
    /// Say of every part of the files why it is there and what would give it back.
    #[arg(long)]
    why_space: bool,
}

#[derive(Serialize)]
struct Answer<'a> {
    /// Bytes of disk that the segments of the log and those of images occupy; those of the map are in `checkpoint`.
    disk_bytes: u64,
    /// Bytes that the files are long.
    file_bytes: u64,
    /// Bytes of log that the next start replays.
    replay_bytes: u64,
    /// Where every byte of every file is, and what that costs: fill now and target, what cleaning is predicted to copy, how far the last checkpoint
    /// lags behind and how long a start takes.
    /// Nothing of a bare log, and of a store that is too damaged to be opened.
    space: Option<Space>,
    /// What a start that reads only says of itself: its memory by kind, too. Nothing where `space` is nothing. What counts since the start is nothing or nearly so:
    /// `PageCache::stats` says it of a store that is open.
    stats: Option<Stats>,
    #[serde(flatten)]
    report: &'a Report,
}

pub(crate) fn run(args: &Args) -> Result<u8, Failure> {
    let config = || ConfigBuilder::new().path(&args.store).build();
    if args.why_space && !args.json {
        let (stats, space) = inspect::stats(config())?;
        why::explain(&args.store.display().to_string(), &space, &stats.memory);
        return Ok(SOUND);
    }
    let report = inspect::verify(config())?;
    let (disk_bytes, file_bytes) = (report.allocated_bytes(), report.all_bytes().total());
    if args.json {
        let replay_bytes = verify::replay_bytes(&report);
        let (stats, space) = open(&report, config())?.unzip();
        let answer = Answer { disk_bytes, file_bytes, replay_bytes, space, stats, report: &report };
        show::line(serde_json::to_string_pretty(&answer)?);
        return Ok(SOUND);
    }
    show::line(format!("{}: {}", args.store.display(), verify::summary(&report)));
    let evidence = report.evidence;
    show::line(format!("  log from {} to {}, proven stable to {}", evidence.first, evidence.end, evidence.stable));
    if let Some(checkpoint) = verify::checkpoint(&report) {
        show::line(format!("  {checkpoint}"));
    }
    if let Some(images) = verify::images(&report) {
        show::line(format!("  {images}"));
    }
    if report.purpose == Some(Purpose::Pages) {
        let pages = report.pages;
        let (live, free, unused) = (show::count(pages.live), show::count(pages.free), show::count(pages.unused));
        show::line(format!(
            "  page ids: {live} live, {free} free, {unused} never written, below {}",
            show::count(pages.high_water)
        ));
    }
    show::line(format!("  disk: {} occupied, files {} long\n", show::bytes(disk_bytes), show::bytes(file_bytes)));
    show::line(bytes(&report).render());
    show::line(records(&report).render());
    show::line(segments(&report).render().trim_end());
    Ok(SOUND)
}

/// What an opening says, where there can be one.
fn open(report: &Report, config: Config) -> Result<Option<(Stats, Space)>, Failure> {
    match report.purpose {
        Some(Purpose::Pages) if report.is_sound() => Ok(Some(inspect::stats(config)?)),
        Some(Purpose::Pages) => Ok(inspect::stats(config).ok()),
        _ => Ok(None),
    }
}

fn bytes(report: &Report) -> Table {
    let bytes = report.all_bytes();
    let whole = bytes.total();
    let mut table = Table::new(["where the bytes are", "bytes", "share"]);
    let mut row = |what: &str, part: u64| table.row([what.to_owned(), show::count(part), show::share(part, whole)]);
    row("payload", bytes.payload);
    if let Some(live) = report.live_bytes {
        row("  of live pages", live);
        row("  of their past", bytes.payload.saturating_sub(live));
    }
    row("heads of records", bytes.headers);
    row("pads and marks", bytes.padding);
    row("given up", bytes.aborted);
    row("heads of segments", bytes.segment_headers);
    row("damaged", bytes.damaged);
    row("not used", bytes.unused);
    row("all segments", whole);
    table
}

fn records(report: &Report) -> Table {
    let records = report.records;
    let mut table = Table::new(["records", "count"]);
    for (what, number) in [
        ("replace", records.replace),
        ("link", records.link),
        ("free", records.free),
        ("raw", records.raw),
        ("piece of an extent", records.extent),
        ("trim", records.trim),
        ("pages moved", records.moves),
        ("segments given back", records.given_back),
        ("given up", records.aborted),
        ("mark", records.marks),
        ("image", report.images.records),
    ] {
        if number > 0 {
            table.row([what.to_owned(), show::count(number)]);
        }
    }
    table
}

fn segments(report: &Report) -> Table {
    let mut table = Table::new(["segment", "from", "to", "records", "payload", "not used", "on disk"]);
    let count = report.segments.len();
    for (nth, segment) in report.segments.iter().enumerate() {
        if count > SHOWN && (SHOWN / 2..count - SHOWN / 2).contains(&nth) {
            if nth == SHOWN / 2 {
                let left_out = show::many((count - SHOWN) as u64, "more segment");
                table.row([format!("... {left_out}")]);
            }
            continue;
        }
        table.row([
            format!("{:016x}", segment.sequence),
            segment.start.0.to_string(),
            segment.end.0.to_string(),
            show::count(segment.records),
            show::bytes(segment.bytes.payload),
            show::bytes(segment.bytes.unused),
            show::bytes(segment.allocated),
        ]);
    }
    table
}
