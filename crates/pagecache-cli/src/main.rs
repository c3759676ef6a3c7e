//! The binary `pagecache`: look at a store, and take the tour. One file per command.
#![forbid(unsafe_code)]

mod child;
mod kills;
mod show;
mod stats;
mod tour;
mod verify;
mod why;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// What a command answers to the shell.
pub(crate) const SOUND: u8 = 0;
/// The command could not do its work, or the tour lost something.
pub(crate) const FAILED: u8 = 1;
/// The store is damaged.
pub(crate) const DAMAGED: u8 = 2;

/// Anything that ends a command early.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Looks at pagecache stores.
#[derive(Parser)]
#[command(name = "pagecache", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Check every record of every segment; exit 2 on damage, named by segment and offset.
    Verify(verify::Args),
    /// Show where the bytes of a store are, and what they are.
    Stats(stats::Args),
    /// Index a directory, kill a writer three times, lose nothing; about 20 seconds, all in a temporary store.
    Tour(tour::Args),
    /// What the tour kills.
    #[command(hide = true)]
    TourWriter(tour::writer::Args),
    /// Kill a writer again and again, also while it recovers, and check everything that it acknowledged.
    #[command(hide = true)]
    Kills(kills::Args),
    /// What that kills.
    #[command(hide = true)]
    KillsWriter(kills::writer::Args),
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(help) => {
            // Not clap's own 2 for a wrong option: that says damage here.
            let code = if help.use_stderr() { FAILED } else { SOUND };
            let _ = help.print();
            return ExitCode::from(code);
        }
    };
    let done = match cli.command {
        Command::Verify(args) => verify::run(&args),
        Command::Stats(args) => stats::run(&args),
        Command::Tour(args) => tour::run(&args),
        Command::TourWriter(args) => tour::writer::run(&args),
        Command::Kills(args) => kills::run(&args),
        Command::KillsWriter(args) => kills::writer::run(&args),
    };
    match done {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(FAILED)
        }
    }
}
