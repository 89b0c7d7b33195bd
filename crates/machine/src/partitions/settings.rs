//! Limits of one partition that every replica must agree on, so they come by command.

use crate::encoding::fields;

/// Limits of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// A producer is forgotten when it has appended nothing for this long, by log time, in milliseconds.
    /// Default 7 days.
    pub producer_expiry_ms: u64,
    /// Most producers remembered. Beyond it the longest idle one goes, if any is idle. Default 10,000.
    pub producers_max: u32,
    /// A checkpoint is made after this many bytes of bodies. Default 64 MiB.
    pub checkpoint_bytes: u64,
}

fields!(Settings { producer_expiry_ms, producers_max, checkpoint_bytes });

impl Default for Settings {
    fn default() -> Self {
        Self { producer_expiry_ms: 7 * 24 * 3600 * 1000, producers_max: 10_000, checkpoint_bytes: 64 << 20 }
    }
}
