//! What the benches take from the command line, and the place they run in.

use std::path::PathBuf;

use crate::report::Report;
use crate::rows::Bench;

/// How to run a bench.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Medians of so many runs.
    pub runs: usize,
    /// Where results go, as JSON lines, beside the table.
    pub out: Option<PathBuf>,
    /// Under which directory the files of a bench lie.
    pub dir: PathBuf,
    /// How much of the full work is done.
    pub scale: f64,
    /// Words that are no option: names of groups.
    pub words: Vec<String>,
}

/// The options, for a usage line.
pub const USAGE: &str = "[--runs N] [--out FILE.jsonl] [--dir DIR] [--scale X]";

impl Options {
    /// Reads the arguments behind the program's name.
    ///
    /// # Errors
    /// Says which argument is wrong.
    pub fn parse(mut args: impl Iterator<Item = String>) -> Result<Options, String> {
        let mut options = Options { runs: 5, out: None, dir: std::env::temp_dir(), scale: 1.0, words: Vec::new() };
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or(format!("{arg} wants a value"));
            match arg.as_str() {
                "--runs" => options.runs = value()?.parse().map_err(|_| "--runs wants a number")?,
                "--scale" => options.scale = value()?.parse().map_err(|_| "--scale wants a number")?,
                "--out" => options.out = Some(value()?.into()),
                "--dir" => options.dir = value()?.into(),
                option if option.starts_with('-') => return Err(format!("{option}: no such option")),
                _ => options.words.push(arg),
            }
        }
        Ok(options)
    }

    /// Runs rows in a directory of their own, which goes when they are done.
    ///
    /// # Panics
    /// Where there is no place for files.
    pub fn run(&self, name: &str, rows: impl FnOnce(&mut Bench)) {
        let dir = self.dir.join(format!("{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a place for files");
        println!("medians of {} runs, everyone in turn; files under {}", self.runs, dir.display());
        let report = Report::new(self.runs, self.out.as_deref()).expect("a place for results");
        rows(&mut Bench { report, dir: dir.clone(), scale: self.scale });
        std::fs::remove_dir_all(&dir).expect("the files go");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(args: &[&str]) -> Result<Options, String> {
        Options::parse(args.iter().map(|arg| (*arg).to_owned()))
    }

    #[test]
    fn what_is_no_option_is_refused_and_words_are_kept() {
        let options = parsed(&["get", "--runs", "3", "--scale", "0.5", "--out", "x", "link"]).unwrap();
        assert_eq!((options.runs, options.scale, options.out), (3, 0.5, Some("x".into())));
        assert_eq!(options.words, ["get", "link"]);
        for wrong in [&["--run", "3"][..], &["--runs"], &["--runs", "many"]] {
            assert!(parsed(wrong).is_err(), "{wrong:?}");
        }
    }
}
