//! What a soak is asked to do.

use std::path::PathBuf;

use super::hold;

/// What becomes of memory that was freed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// There is one heap, and the store has it trimmed where the process is too large.
    ByStore,
    /// The allocator does as it does.
    AsItIs,
}

/// What a soak is asked to do.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Seconds of the steady state.
    pub seconds: u64,
    /// Bytes of memory that the store may take.
    pub budget: u64,
    /// Bytes of pages for each byte of the budget.
    pub multiple: u64,
    /// Bytes of a segment.
    pub segment: u64,
    /// Bytes of log that a start may have to replay.
    pub log_limit: u64,
    /// Where the store's directory is made.
    pub dir: PathBuf,
    /// Whether memory that was freed is given back to the system, where the allocator is the system's.
    pub release: Release,
    /// Threads that use it.
    pub threads: usize,
    /// Seconds of the steady state for which a reader holds its guard; none for no such reader.
    pub hold: u64,
    /// What the draws begin with.
    pub seed: u64,
    /// Where a line for each sample goes.
    pub out: Option<PathBuf>,
    /// Where the chart goes.
    pub plot: Option<PathBuf>,
}

impl Options {
    /// # Errors
    /// Says which argument is wrong.
    pub fn parse(mut args: impl Iterator<Item = String>) -> Result<Options, String> {
        let dir = std::env::temp_dir();
        let (seconds, budget, multiple, threads) = (60, 512 << 20, 8, 2);
        // The store's own defaults.
        let (segment, log_limit, release) = (8 << 20, 64 << 20, Release::ByStore);
        let mut options = Options {
            seconds,
            budget,
            multiple,
            segment,
            log_limit,
            dir,
            release,
            threads,
            hold: 0,
            seed: 1,
            out: None,
            plot: None,
        };
        while let Some(arg) = args.next() {
            let value = args.next().ok_or(format!("{arg} wants a value"))?;
            let number = || match value.parse::<u64>() {
                Ok(number) if number > 0 => Ok(number),
                _ => Err(format!("{arg} wants a number from 1")),
            };
            match arg.as_str() {
                "--seconds" => options.seconds = number()?,
                "--budget" => options.budget = number()? << 20,
                "--segment" => options.segment = number()? << 20,
                "--log-limit" => options.log_limit = number()? << 20,
                "--multiple" => options.multiple = number()?,
                "--hold" => options.hold = number()?,
                "--threads" => options.threads = number()? as usize,
                "--seed" => options.seed = number()?,
                "--release" => {
                    options.release = match value.as_str() {
                        "by-store" => Release::ByStore,
                        "as-it-is" => Release::AsItIs,
                        _ => return Err(format!("{arg} wants by-store or as-it-is")),
                    }
                }
                "--dir" => options.dir = value.into(),
                "--out" => options.out = Some(value.into()),
                "--plot" => options.plot = Some(value.into()),
                _ => return Err(format!("{arg}: no such option")),
            }
        }
        // What it kept has to go while the store is in use.
        if options.hold > 0 && options.seconds < hold::seconds(options.hold) {
            return Err(format!("--seconds wants {} at least for that --hold", hold::seconds(options.hold)));
        }
        Ok(options)
    }

    /// Bytes that pages are to hold.
    pub fn data(&self) -> u64 {
        self.budget * self.multiple
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_option_is_refused() {
        let parsed = |args: &[&str]| Options::parse(args.iter().map(|arg| (*arg).to_owned()));
        let options = parsed(&["--budget", "64", "--seconds", "5", "--plot", "x.svg"]).unwrap();
        assert_eq!((options.data(), options.seconds, options.plot), (512 << 20, 5, Some("x.svg".into())));
        assert_eq!(parsed(&["--hold", "60", "--seconds", "130"]).unwrap().hold, 60);
        assert!(parsed(&["--hold", "60", "--seconds", "129"]).is_err());
        for wrong in
            [&["--budget"][..], &["--budget", "0"], &["--threads", "many"], &["--release", "yes"], &["--sec", "5"]]
        {
            assert!(parsed(wrong).is_err(), "{wrong:?}");
        }
    }
}
