//! Faults on demand: syncs that fail, take long, or are lost without a word.
//!
//! Only builds with the feature `fault` can have any. They read them from the environment variable
//! `FLOTILLA_FAULT`, one or more of these, separated by commas:
//!
//! - `no-sync`: every sync is answered without being done, as a disk that lies would. Whatever is meant to
//!   find lost records must find this.
//! - `fail-sync-after=N`: the sync after the first N fails, once. Its write may be on disk.
//! - `delay-sync-ms=N`: every sync takes N milliseconds longer.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Which faults to make. None in a plain build.
#[derive(Debug, Default)]
pub struct Faults {
    no_sync: bool,
    fail_sync_after: Option<u64>,
    delay_sync: Duration,
    syncs: AtomicU64,
}

/// What becomes of one sync.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sync {
    /// It is done.
    Done,
    /// It is not done, and nobody is told.
    Lost,
    /// It fails.
    Failed,
}

impl Faults {
    /// Name of the environment variable.
    pub const VARIABLE: &str = "FLOTILLA_FAULT";

    /// What the environment asks for; nothing in a build without the feature.
    pub(crate) fn from_environment() -> Result<Self, String> {
        match std::env::var(Self::VARIABLE) {
            Ok(text) if cfg!(feature = "fault") => {
                tracing::warn!(faults = text, "this build makes faults on demand; records may be lost");
                Self::parse(&text)
            }
            Ok(text) if !text.is_empty() => {
                tracing::warn!(faults = text, "this build makes no faults; the variable is ignored");
                Ok(Self::default())
            }
            _ => Ok(Self::default()),
        }
    }

    /// Reads what the variable says.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut faults = Self::default();
        for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            let (name, number) = word.split_once('=').map_or((word, None), |(name, n)| (name, Some(n)));
            let number = number.map(str::parse::<u64>).transpose().map_err(|_| refused(word))?;
            match (name, number) {
                ("no-sync", None) => faults.no_sync = true,
                ("fail-sync-after", Some(count)) => faults.fail_sync_after = Some(count),
                ("delay-sync-ms", Some(ms)) => faults.delay_sync = Duration::from_millis(ms),
                _ => return Err(refused(word)),
            }
        }
        Ok(faults)
    }

    /// Asked before each sync of the log.
    pub(crate) fn next_sync(&self) -> Sync {
        let before = self.syncs.fetch_add(1, Ordering::Relaxed);
        if !self.delay_sync.is_zero() {
            std::thread::sleep(self.delay_sync);
        }
        match self.fail_sync_after {
            Some(count) if count == before => Sync::Failed,
            _ if self.no_sync => Sync::Lost,
            _ => Sync::Done,
        }
    }

    /// Whether syncs are lost, the marker's too.
    pub(crate) fn loses_syncs(&self) -> bool {
        self.no_sync
    }
}

fn refused(word: &str) -> String {
    format!("{word:?} is none of no-sync, fail-sync-after=N, delay-sync-ms=N")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_read_from_their_words() {
        let faults = Faults::parse("fail-sync-after=1, delay-sync-ms=0").unwrap();
        let syncs: Vec<Sync> = (0..3).map(|_| faults.next_sync()).collect();
        assert_eq!(syncs, [Sync::Done, Sync::Failed, Sync::Done]);
        assert_eq!(Faults::parse("no-sync").unwrap().next_sync(), Sync::Lost);
        assert!(Faults::parse("no-syncs").is_err());
        assert!(Faults::parse("fail-sync-after=x").is_err());
    }
}
