//! How full the disk is, and what is refused because of it.
//!
//! At the soft limit produce and topic creation stop, at the hard limit every append. Reads, deletes and
//! retention go on, they are what makes room. A limit is left only when there is clearly room again.

use crate::broker::Broker;
use crate::config::DiskConfig;
use crate::metrics::Metrics;
use flotilla_store::DiskUsage;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// How full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[repr(u8)]
pub enum DiskState {
    /// There is room.
    Room = 0,
    /// Below the soft limit: no produce, no new topics.
    NearlyFull = 1,
    /// Below the hard limit: no appends at all.
    Full = 2,
}

/// Watches one disk.
#[derive(Debug)]
pub(crate) struct Disk {
    config: DiskConfig,
    state: AtomicU8,
    usage: Mutex<DiskUsage>,
    metrics: Metrics,
}

impl Disk {
    pub fn new(config: DiskConfig, metrics: Metrics) -> Self {
        Self { config, state: AtomicU8::new(0), usage: Mutex::default(), metrics }
    }

    pub fn state(&self) -> DiskState {
        match self.state.load(Ordering::Relaxed) {
            0 => DiskState::Room,
            1 => DiskState::NearlyFull,
            _ => DiskState::Full,
        }
    }

    pub fn usage(&self) -> DiskUsage {
        *self.usage.lock()
    }

    /// Bytes that must be free for produce.
    pub fn soft_limit(&self) -> u64 {
        self.config.soft(self.usage().total)
    }

    /// Takes a new look into account and says what it comes to, and whether that is news.
    pub fn observe(&self, usage: DiskUsage) -> (DiskState, bool) {
        let before = self.state();
        let now = self.config.judge(usage, before);
        *self.usage.lock() = usage;
        self.state.store(now as u8, Ordering::Relaxed);
        self.metrics.disk_state.set(now as i64);
        self.metrics.disk_free_bytes.set(usage.free as i64);
        (now, now != before)
    }
}

impl DiskConfig {
    /// Bytes that must be free for produce and topic creation.
    pub(crate) fn soft(&self, total: u64) -> u64 {
        (total / 100 * u64::from(self.soft_free_percent)).max(self.soft_free_bytes.0)
    }

    /// Bytes that must be free for any append.
    pub(crate) fn hard(&self, total: u64) -> u64 {
        (total / 100 * u64::from(self.hard_free_percent)).max(self.hard_free_bytes.0)
    }

    fn judge(&self, usage: DiskUsage, before: DiskState) -> DiskState {
        if usage.total == 0 {
            return DiskState::Room;
        }
        let margin = usage.total / 100 * u64::from(self.hysteresis_percent);
        let below = |limit: u64, state: DiskState| {
            usage.free < limit || (before >= state && usage.free < limit.saturating_add(margin))
        };
        if below(self.hard(usage.total), DiskState::Full) {
            DiskState::Full
        } else if below(self.soft(usage.total), DiskState::NearlyFull) {
            DiskState::NearlyFull
        } else {
            DiskState::Room
        }
    }
}

impl Broker {
    pub(crate) async fn keep_watching_disk(self: Arc<Self>) {
        loop {
            tokio::time::sleep(self.config.disk.interval).await;
            self.look_at_disk().await;
        }
    }

    pub(crate) async fn look_at_disk(&self) {
        let Ok(serving) = self.serving() else { return };
        let store = serving.store.clone();
        let Ok(usage) = self.pool.run(move || store.disk()).await else { return };
        let (state, news) = self.disk.observe(usage);
        serving.host.set_full(state == DiskState::Full);
        if news {
            let free = usage.free;
            match state {
                DiskState::Room => tracing::info!(free, "disk has room again"),
                DiskState::NearlyFull => {
                    tracing::warn!(
                        free,
                        limit = self.disk.soft_limit(),
                        "disk is nearly full: produce is refused"
                    );
                }
                DiskState::Full => tracing::error!(free, "disk is full: no appends at all"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flotilla_types::bytesize::ByteSize;

    const GIB: u64 = 1 << 30;

    fn usage(free: u64) -> DiskUsage {
        DiskUsage { total: 100 * GIB, free, used: 0 }
    }

    #[test]
    fn limits_are_entered_at_once_and_left_with_a_margin() {
        let disk = Disk::new(DiskConfig::default(), Metrics::default());
        assert_eq!(disk.observe(usage(11 * GIB)), (DiskState::Room, false));
        assert_eq!(disk.observe(usage(10 * GIB - 1)), (DiskState::NearlyFull, true));
        assert_eq!(disk.observe(usage(11 * GIB)), (DiskState::NearlyFull, false), "within the margin");
        assert_eq!(disk.observe(usage(4 * GIB)), (DiskState::Full, true));
        assert_eq!(disk.observe(usage(6 * GIB)), (DiskState::Full, false));
        assert_eq!(disk.observe(usage(8 * GIB)), (DiskState::NearlyFull, true));
        assert_eq!(disk.observe(usage(13 * GIB)), (DiskState::Room, true));
    }

    #[test]
    fn on_a_small_disk_the_bytes_decide() {
        let config = DiskConfig { soft_free_bytes: ByteSize(3 * GIB), ..DiskConfig::default() };
        assert_eq!(config.soft(10 * GIB), 3 * GIB);
        assert_eq!(config.soft(1000 * GIB), 100 * GIB);
        assert_eq!(config.hard(1000 * GIB), 50 * GIB);
    }
}
