//! When to try again: full-jitter backoff, the server's own pause, and a budget that keeps retries few.

use flotilla_types::Random;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// First pause's upper bound; doubles with each failure in a row.
pub const BACKOFF_FIRST: Duration = Duration::from_millis(50);
/// No pause is longer, unless the server asks for one.
pub const BACKOFF_MAX: Duration = Duration::from_secs(2);
/// A server's `retry_after` beyond this is cut: it is advice, and a wrong one must not stop a client.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(30);

/// Counts failures in a row and draws the pause before the next try.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The pause after one more failure: even between zero and the bound, which doubles each time, and
    /// never less than the server asked for.
    pub(crate) fn pause(&mut self, random: &dyn Random, retry_after: Option<Duration>) -> Duration {
        let bound = BACKOFF_FIRST.saturating_mul(1 << self.failures.min(10)).min(BACKOFF_MAX);
        self.failures = self.failures.saturating_add(1);
        let jitter = Duration::from_micros(random.below(bound.as_micros() as u64 + 1));
        jitter.max(retry_after.unwrap_or_default().min(RETRY_AFTER_MAX))
    }

    /// Failures since the last success.
    pub(crate) fn failures(self) -> u32 {
        self.failures
    }

    /// Something worked.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }
}

/// Tenths of a retry: one success earns one tenth, one retry costs ten.
const BUDGET_MAX_TENTHS: u64 = 1_000;
const RETRY_COSTS_TENTHS: u64 = 10;

/// Retries may be a tenth of what succeeds, plus a hundred to begin with. An empty budget does not fail
/// a call, because the delivery timeout decides that; it makes every further pause the longest one, so a
/// cluster in trouble is not asked more often the worse it gets.
#[derive(Debug)]
pub(crate) struct Budget {
    tenths: AtomicU64,
}

impl Budget {
    /// A full one.
    pub(crate) fn new() -> Self {
        Self { tenths: AtomicU64::new(BUDGET_MAX_TENTHS) }
    }

    /// A call succeeded.
    pub(crate) fn earn(&self) {
        let _ = self
            .tenths
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |t| (t < BUDGET_MAX_TENTHS).then_some(t + 1));
    }

    /// Takes one retry; false if none is left.
    pub(crate) fn spend(&self) -> bool {
        self.tenths
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |t| t.checked_sub(RETRY_COSTS_TENTHS))
            .is_ok()
    }

    /// The pause before a retry, lengthened when the budget is empty.
    pub(crate) fn pause(&self, drawn: Duration) -> Duration {
        if self.spend() { drawn } else { drawn.max(BACKOFF_MAX) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flotilla_types::random::Seeded;

    #[test]
    fn pauses_grow_to_the_bound_and_stay_under_it() {
        let random = Seeded::new(7);
        let mut backoff = Backoff::default();
        for failure in 0..20u32 {
            let bound = (BACKOFF_FIRST * (1 << failure.min(10))).min(BACKOFF_MAX);
            assert!(backoff.pause(&random, None) <= bound, "failure {failure}");
        }
        backoff.reset();
        assert!(backoff.pause(&random, None) <= BACKOFF_FIRST);
    }

    #[test]
    fn the_servers_pause_is_honoured_within_reason() {
        let random = Seeded::new(7);
        let mut backoff = Backoff::default();
        let second = Duration::from_secs(1);
        assert!(backoff.pause(&random, Some(second)) >= second);
        let day = Duration::from_secs(86_400);
        assert_eq!(backoff.pause(&random, Some(day)), RETRY_AFTER_MAX);
    }

    #[test]
    fn an_empty_budget_means_the_longest_pause() {
        let budget = Budget::new();
        for _ in 0..100 {
            assert_eq!(budget.pause(Duration::ZERO), Duration::ZERO);
        }
        assert_eq!(budget.pause(Duration::ZERO), BACKOFF_MAX);
        (0..10).for_each(|_| budget.earn());
        assert_eq!(budget.pause(Duration::ZERO), Duration::ZERO);
    }
}
