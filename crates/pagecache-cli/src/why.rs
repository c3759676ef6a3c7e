//! The answer of `pagecache stats STORE --why-space`: each part of the files, why it is there, and what would give it back.

use std::time::Duration;

use pagecache::{Memory, RestartBy, Space};

use crate::show;

/// A part's name, its bytes, and a line about it.
type Part = (&'static str, u64, &'static str);

fn parts(space: &Space) -> [Part; 13] {
    let parts = &space.parts;
    [
        (
            "live images",
            parts.live_images,
            "Whole pages that are in use. Given back when their pages are replaced or freed.",
        ),
        (
            "live deltas",
            parts.live_deltas,
            "Changes on top of them, in use. Folded into images when their segments are cleaned.",
        ),
        (
            "dead",
            parts.dead,
            "Records that no page names any more. Cleaning gives them back, as far as the fill target asks for.",
        ),
        (
            "log",
            parts.log,
            "What the next start replays, though no page names it. Dead with the next checkpoint: see log_limit.",
        ),
        (
            "padding",
            parts.padding,
            "Ends of records, blocks and segments; what a crash has cut off. Given back with its segment.",
        ),
        (
            "unwritten",
            parts.unwritten,
            "Ready for the next records. Filled by them: a store keeps a segment ahead of its log.",
        ),
        (
            "headers",
            parts.headers,
            "Two blocks of each segment that say what it is. Larger segments have fewer of them.",
        ),
        (
            "map, live",
            parts.map_live,
            "Where each page is, as of the last checkpoint. Fewer pages, or fewer records of each, take less.",
        ),
        (
            "map, dead",
            parts.map_dead,
            "Maps of earlier checkpoints. Given back when no leaf in their segment is needed any more.",
        ),
        ("superblocks", parts.superblocks, "Two copies of the block that names the last checkpoint. They stay."),
        (
            "spare",
            parts.spare,
            "Files kept to be segments again. Used by the next segments; removed when a writer opens.",
        ),
        ("leftovers", parts.leftovers, "Files of segments that are gone. Removed when a writer opens."),
        (
            "unreadable",
            parts.unreadable,
            "Behind damage: `pagecache verify` says where. Given back when the pages in there are replaced or freed.",
        ),
    ]
}

/// Prints the whole answer.
pub(crate) fn explain(store: &str, space: &Space, memory: &Memory) {
    let whole = space.files_bytes;
    show::line(format!("{store}: {} in {}\n", show::bytes(whole), show::many(space.files, "file")));
    for (name, bytes, why) in parts(space) {
        show::line(row(name, bytes, &show::share(bytes, whole)));
        show::line(format!("      {why}"));
    }
    show::line(format!("  {}", "-".repeat(row("", 0, "").len() - 2)));
    let total = space.parts.total();
    show::line(row("all parts", total, &show::share(total, whole)));
    let occupied = show::bytes(space.occupied_bytes);
    show::line(format!("{:40}  they occupy {occupied} of disk", row("the files' lengths", whole, "")));
    if space.foreign > 0 {
        show::line(format!("  not the store's, and not looked at: {}", show::many(space.foreign, "name")));
    }
    show::line("");
    outlook(space);
    of_memory(memory);
}

fn row(name: &str, bytes: u64, share: &str) -> String {
    format!("  {name:<20}{:>18}{share:>9}", show::count(bytes))
}

/// How full it is, what that will cost, and what the next start will.
fn outlook(space: &Space) {
    let target = format!("cleaning keeps up {:.2} by default", space.fill_target);
    match space.fill {
        Some(fill) => show::line(format!("  fill: {fill:.2} of the segments of pages is in use; {target}")),
        None => show::line(format!("  fill: no page is on disk; {target}")),
    }
    if let Some(moves) = space.predicted_moves {
        show::line(format!(
            "  cleaning at this fill copies {moves:.2} bytes for each that is written, where all pages are overwritten \
             equally often"
        ));
    }
    let lag = show::bytes(space.lag_bytes);
    let time = show::time(Duration::from_millis(space.restart_ms.max(1)));
    let by = match space.restart_by {
        RestartBy::ThisStart => "as it took just now",
        _ => "at 512 MiB a second: it was too little to measure",
    };
    show::line(format!("  restart: {lag} of log to replay, about {time}, {by}"));
}

/// What a start takes.
fn of_memory(memory: &Memory) {
    let kinds = [
        ("pages", memory.pages),
        ("garbage", memory.garbage),
        ("map", memory.map),
        ("queues", memory.queues),
        ("log", memory.log),
        ("segments", memory.segments),
        ("buffers", memory.buffers),
        ("reads", memory.reads),
    ];
    let kinds: Vec<_> = kinds
        .into_iter()
        .filter(|(_, bytes)| *bytes > 0)
        .map(|(kind, bytes)| format!("{kind} {}", show::bytes(bytes)))
        .collect();
    show::line(format!(
        "  memory: {} after a start that reads only: {}",
        show::bytes(memory.total()),
        kinds.join(", ")
    ));
}
