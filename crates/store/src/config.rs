//! What an operator may set in the table `[store]`. Everything else about the database is decided, with
//! its reason, in `database`.

use crate::error::OpenError;
use flotilla_types::bytesize::ByteSize;
use serde::{Deserialize, Serialize};
use std::time::Duration;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// The table `[store]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Memory for write buffers (half of it) and for blocks read (a quarter). Default 512MiB: four write
    /// buffers of 64MiB, beyond which throughput did not grow when it was measured. At least 16MiB.
    pub memory: ByteSize,
    /// Size of the write-ahead log after which the rows that hold its oldest file are flushed. Default
    /// 256MiB. Bounds the time a start takes, because all of it is read then. At least 1MiB.
    pub wal_max_bytes: ByteSize,
    /// Bytes in one commit. Default 1MiB: eight were measured to cost half a second at the 99th percentile.
    /// One larger write is still one commit. At least 64KiB.
    pub commit_max_bytes: ByteSize,
    /// Bytes that may wait for the writer; who appends waits for room. Default 64MiB. At least 1MiB, and no
    /// less than the largest batch.
    pub queue_max_bytes: ByteSize,
    /// How long applied changes wait for a commit they can ride in, before they are written alone. Default
    /// 20ms. At most 1s.
    #[serde(with = "flotilla_types::duration")]
    pub apply_wait_max: Duration,
    /// Threads for flushing and compacting. Default 2. Between 1 and 64.
    pub background_jobs: u32,
    /// Size of a file of payloads. Default 128MiB. Smaller files give space back sooner, larger ones are
    /// fewer to keep open. At least 1MiB.
    pub blob_file_bytes: ByteSize,
    /// Rows from this size on go to files of payloads, so that compaction moves their keys only. Default
    /// 512B. At least 1.
    pub blob_min_bytes: ByteSize,
    /// Share of the oldest payload files from which compaction moves what is still needed, in percent.
    /// Default 25. Higher gives space back sooner and writes more. At most 100.
    pub blob_gc_percent: u8,
    /// Pause between compactions that give purged space back. Default 10s. At most 1h.
    #[serde(with = "flotilla_types::duration")]
    pub compaction_pause: Duration,
    /// Files the database keeps open. Default 2048. At least 64.
    pub files_open_max: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            memory: ByteSize(512 * MIB),
            wal_max_bytes: ByteSize(256 * MIB),
            commit_max_bytes: ByteSize(MIB),
            queue_max_bytes: ByteSize(64 * MIB),
            apply_wait_max: Duration::from_millis(20),
            background_jobs: 2,
            blob_file_bytes: ByteSize(128 * MIB),
            blob_min_bytes: ByteSize(512),
            blob_gc_percent: 25,
            compaction_pause: Duration::from_secs(10),
            files_open_max: 2048,
        }
    }
}

impl Config {
    /// Refuses what cannot work.
    pub fn check(&self) -> Result<(), OpenError> {
        let least = [
            ("store.memory", self.memory, 16 * MIB),
            ("store.wal_max_bytes", self.wal_max_bytes, MIB),
            ("store.commit_max_bytes", self.commit_max_bytes, 64 * KIB),
            ("store.queue_max_bytes", self.queue_max_bytes, MIB),
            ("store.blob_file_bytes", self.blob_file_bytes, MIB),
            ("store.blob_min_bytes", self.blob_min_bytes, 1),
        ];
        for (key, size, least) in least {
            require(key, size.0 >= least, || format!("{size} is less than {}", ByteSize(least)))?;
        }
        let queue = self.queue_max_bytes;
        require("store.queue_max_bytes", queue.0 <= 1 << 30, || format!("{queue} is more than 1GiB"))?;
        let wait = self.apply_wait_max;
        require("store.apply_wait_max", wait <= Duration::from_secs(1), || {
            format!("{wait:?} is more than 1s")
        })?;
        let jobs = self.background_jobs;
        require("store.background_jobs", (1..=64).contains(&jobs), || format!("{jobs} is not 1 to 64"))?;
        let percent = self.blob_gc_percent;
        require("store.blob_gc_percent", percent <= 100, || format!("{percent} is more than 100"))?;
        let pause = self.compaction_pause;
        require("store.compaction_pause", pause <= Duration::from_secs(3600), || {
            format!("{pause:?} is more than 1h")
        })?;
        let files = self.files_open_max;
        require("store.files_open_max", (64..=1 << 30).contains(&files), || {
            format!("{files} is not 64 or more")
        })
    }

    /// One write buffer of the log: an eighth of the memory, at most 64 MiB.
    pub(crate) fn log_memtable_bytes(&self) -> usize {
        (self.memory.get() / 8).min(64 << 20)
    }

    /// One write buffer of each other column family: small, because their rows are.
    pub(crate) fn small_memtable_bytes(&self) -> usize {
        (self.memory.get() / 64).min(16 << 20)
    }

    /// For blocks read from index and state.
    pub(crate) fn cache_bytes(&self) -> usize {
        self.memory.get() / 4
    }
}

fn require(key: &'static str, holds: bool, why: impl FnOnce() -> String) -> Result<(), OpenError> {
    if holds { Ok(()) } else { Err(OpenError::Config { key, why: why() }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_unknown_settings_are_refused() {
        assert!(Config::default().check().is_ok());
        assert_eq!(toml::from_str::<Config>("").unwrap(), Config::default());
        let text = toml::to_string(&Config::default()).unwrap();
        assert_eq!(toml::from_str::<Config>(&text).unwrap(), Config::default());
        assert!(toml::from_str::<Config>("memroy = \"1GiB\"").is_err());
        let tiny: Config = toml::from_str("memory = \"1MiB\"").unwrap();
        assert!(tiny.check().unwrap_err().to_string().contains("store.memory"));
    }
}
