//! Time comes from a clock that was given: real in a server, simulated in tests.

use std::time::Duration;

/// Milliseconds since the Unix epoch, by some node's wall clock. Never used for safety.
pub type TimestampMs = i64;

/// Time since an arbitrary start, which never goes back. For timers and durations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Monotonic(pub Duration);

impl Monotonic {
    /// Time from `earlier` to here; zero if `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    /// The moment `later` from here.
    #[must_use]
    pub fn plus(self, later: Duration) -> Self {
        Self(self.0 + later)
    }
}

/// Where time comes from. Sleeping is tokio's, whose clock tests can pause.
pub trait Clock: Send + Sync + std::fmt::Debug {
    /// For timers and durations.
    fn monotonic(&self) -> Monotonic;
    /// For people and for append times.
    fn wall(&self) -> TimestampMs;
}

/// The machine's own clocks.
#[derive(Debug)]
pub struct SystemClock {
    start: std::time::Instant,
}

impl SystemClock {
    /// Starts counting now.
    #[expect(clippy::disallowed_methods, clippy::new_without_default, reason = "the seam itself")]
    pub fn new() -> Self {
        Self { start: std::time::Instant::now() }
    }
}

impl Clock for SystemClock {
    fn monotonic(&self) -> Monotonic {
        Monotonic(self.start.elapsed())
    }

    #[expect(clippy::disallowed_methods, reason = "the seam itself")]
    fn wall(&self) -> TimestampMs {
        std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |since| since.as_millis() as TimestampMs)
    }
}
