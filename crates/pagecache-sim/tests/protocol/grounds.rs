//! How much may happen in each exploration, and what it begins with: sizes that are gone through in seconds, each with a question of its
//! own.

use crate::bugs::{Beginning, Bounds, Kinds, Recycling, Rules};
use crate::state::{
    Bytes, CHECKPOINTS, Checkpoint, Copy, Doubt, IMAGES, Image, Kind, Left, Move, NEVER, PAGES, PIECES, Phase, Piece,
    RECORDS, Record, Slot, State, Update, Writing,
};

const LEAST: Bounds = Bounds {
    name: "",
    begin: Beginning::Checkpointed,
    pages: 1,
    leaf: 1,
    segment: 1,
    users: 1,
    updates: 1,
    kinds: Kinds::Replace,
    moves: 1,
    recycling: Recycling::ByCheckpoint,
    checkpoints: 2,
    failures: 0,
    crashes: 1,
};

/// Where the protocol is explored as it is.
pub const GROUNDS: [Bounds; 12] = [
    Bounds {
        name: "a new store with two leaves",
        begin: Beginning::Empty,
        pages: 2,
        updates: 3,
        kinds: Kinds::Free,
        ..LEAST
    },
    Bounds { name: "links on what is moved", updates: 2, kinds: Kinds::FreeAndLink, ..LEAST },
    Bounds {
        name: "a page that is moved twice, and two crashes",
        kinds: Kinds::FreeAndLink,
        moves: 2,
        crashes: 2,
        ..LEAST
    },
    Bounds { name: "a page that is freed and comes back", updates: 3, kinds: Kinds::Free, ..LEAST },
    Bounds { name: "the same with fewer updates and two crashes", updates: 2, kinds: Kinds::Free, crashes: 2, ..LEAST },
    Bounds { name: "two pages in a leaf, and two moves", pages: 2, leaf: 2, moves: 2, ..LEAST },
    Bounds { name: "two pages in two leaves, and two crashes", pages: 2, kinds: Kinds::Free, crashes: 2, ..LEAST },
    Bounds {
        name: "two records in a segment, and two moves",
        pages: 2,
        leaf: 2,
        segment: 2,
        kinds: Kinds::Free,
        moves: 2,
        ..LEAST
    },
    Bounds { name: "two users of a page", users: 2, updates: 2, kinds: Kinds::Free, ..LEAST },
    Bounds {
        name: "two users of two pages",
        begin: Beginning::Empty,
        pages: 2,
        leaf: 2,
        users: 2,
        updates: 2,
        kinds: Kinds::Free,
        moves: 0,
        ..LEAST
    },
    Bounds {
        name: "a failure among three checkpoints",
        kinds: Kinds::Link,
        checkpoints: 3,
        failures: 1,
        crashes: 2,
        ..LEAST
    },
    Bounds {
        name: "two failures among three checkpoints",
        updates: 2,
        moves: 0,
        checkpoints: 3,
        failures: 2,
        crashes: 2,
        ..LEAST
    },
];

const SAID: Bounds = Bounds { recycling: Recycling::ByLog, ..LEAST };

/// Where the rule of decision 0028 is explored.
pub const SAID_GROUNDS: [Bounds; 7] = [
    Bounds { name: "links on what is moved", updates: 2, kinds: Kinds::Link, ..SAID },
    Bounds { name: "a page that is moved twice", kinds: Kinds::Link, moves: 2, checkpoints: 1, ..SAID },
    Bounds { name: "a page that is freed and comes back", updates: 2, kinds: Kinds::Free, ..SAID },
    Bounds { name: "two crashes", kinds: Kinds::FreeAndLink, crashes: 2, ..SAID },
    Bounds { name: "two pages in a leaf", pages: 2, leaf: 2, ..SAID },
    Bounds { name: "two records in a segment", pages: 2, leaf: 2, segment: 2, kinds: Kinds::Free, ..SAID },
    Bounds { name: "a failure among three checkpoints", kinds: Kinds::Link, checkpoints: 3, failures: 1, ..SAID },
];

/// Where bugs are hunted, one after the other.
pub const HUNTS: [Bounds; 7] = [
    Bounds { name: "two updates", begin: Beginning::Empty, updates: 2, kinds: Kinds::Free, moves: 0, ..LEAST },
    Bounds { name: "an update and a move", kinds: Kinds::Free, ..LEAST },
    Bounds {
        name: "a checkpoint and two crashes",
        updates: 2,
        kinds: Kinds::Free,
        checkpoints: 1,
        crashes: 2,
        ..LEAST
    },
    Bounds { name: "failures", moves: 0, checkpoints: 3, failures: 2, crashes: 2, ..LEAST },
    Bounds { name: "links and a move", updates: 2, kinds: Kinds::Link, ..LEAST },
    Bounds { name: "an update and a move that is said", kinds: Kinds::FreeAndLink, ..SAID },
    Bounds { name: "the same and two crashes", kinds: Kinds::Link, crashes: 2, ..SAID },
];

/// With the bounds raised that the environment names.
pub fn raised(mut bounds: Bounds) -> Bounds {
    let asked = std::env::var("PAGECACHE_PROTOCOL_RAISE").unwrap_or_default();
    for name in asked.split(',').filter(|name| !name.is_empty()) {
        let bound = match name {
            "updates" => &mut bounds.updates,
            "moves" => &mut bounds.moves,
            "checkpoints" => &mut bounds.checkpoints,
            "failures" => &mut bounds.failures,
            "crashes" => &mut bounds.crashes,
            _ => panic!("no bound {name}"),
        };
        *bound += 1;
    }
    bounds
}

/// The state that an exploration begins with.
pub fn beginning(rules: &Rules) -> State {
    let bounds = rules.bounds;
    let left = Left {
        updates: bounds.updates,
        moves: bounds.moves,
        checkpoints: bounds.checkpoints,
        failures: bounds.failures,
        crashes: bounds.crashes,
    };
    let mut state = empty(left);
    assert!(bounds.pages as usize <= PAGES && bounds.moves as usize <= IMAGES, "room for what may happen");
    let moves = if rules.says_moves() { bounds.moves } else { 0 };
    assert!((bounds.pages + bounds.updates + moves) as usize <= RECORDS, "room for what may happen");
    // A whole page, or an image, and every link, those in the image included.
    assert!((bounds.updates as usize) < PIECES, "room for what may happen");
    if bounds.begin == Beginning::Empty {
        return state;
    }
    let count = bounds.pages;
    for page in 0..count {
        let lsn = page + 1;
        state.log[page as usize] = Record { kind: Kind::Replace, page, ..Record::default() };
        state.slots[page as usize] = Slot::data(lsn, Piece::Log(lsn));
        state.count(Piece::Log(lsn), 1, rules);
    }
    (state.drawn, state.synced, state.stable) = (count, count, count);
    state.acknowledged = count;
    let logs = (0..rules.segments(count)).fold(0, |logs, segment| logs | 1 << segment);
    let entries = state.slots.map(Slot::as_entry);
    let (root, leaves) = (Bytes::Durable, Bytes::Durable);
    state.checkpoints[0] = Checkpoint { root, leaves, redo: count, entries, logs, images: 0 };
    state.copies = [Copy::of(0); 2];
    (state.current, state.redo) = (0, count);
    state
}

/// A store in which nothing has happened.
fn empty(left: Left) -> State {
    State {
        log: [Record::default(); RECORDS],
        drawn: 0,
        synced: 0,
        gone: 0,
        images: [Image::default(); IMAGES],
        checkpoints: [Checkpoint::default(); CHECKPOINTS],
        copies: [Copy::of(NEVER); 2],
        phase: Phase::Open,
        slots: [Slot::default(); PAGES],
        dirty: 0,
        live: [0; RECORDS],
        stable: 0,
        current: NEVER,
        redo: 0,
        doubt: Doubt::None,
        users: [Update::default(); 2],
        moving: Move::default(),
        emptied: [0; RECORDS + IMAGES],
        writing: Writing::default(),
        acknowledged: 0,
        handed: [0; PAGES],
        left,
    }
}
