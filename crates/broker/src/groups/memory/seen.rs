//! A member as its coordinator's leader sees it, besides what is replicated.

use flotilla_types::{LogIndex, Monotonic, TimestampMs};
use tokio::sync::watch;

/// A member as its coordinator's leader sees it.
#[derive(Debug)]
pub struct Seen {
    /// Changes whenever its heartbeats must be looked at again.
    pub news: watch::Sender<u64>,
    pub told: Option<Told>,
    pub heard: Option<(Monotonic, TimestampMs)>,
    pub peer: String,
    /// Heartbeats of it that are held.
    pub held: u32,
    /// Its last heartbeat was given up by the caller before it was answered.
    pub broken_off: bool,
}

impl Default for Seen {
    fn default() -> Self {
        Self {
            news: watch::Sender::new(0),
            told: None,
            heard: None,
            peer: String::new(),
            held: 0,
            broken_off: false,
        }
    }
}

/// What a member was answered last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// The revision of its assignment.
    pub revision: LogIndex,
    /// That it has nothing to read meanwhile.
    pub paused: bool,
}

/// When a member was heard of last, and from where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    pub at: Option<TimestampMs>,
    pub peer: String,
}
