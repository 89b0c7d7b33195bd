//! Latencies, rates and gaps of a run, and the line on stderr each second. What was due while it warmed up
//! does not count.

use super::gaps::{Blow, Gaps};
use flotilla_types::{Clock, Monotonic};
use hdrhistogram::Histogram;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Latencies above this count as this.
const LATENCY_MAX_US: u64 = 600_000_000;

/// What a run has measured so far.
#[derive(Debug)]
pub struct Measure {
    clock: Arc<dyn Clock>,
    begun: Monotonic,
    warm_up: Duration,
    shown: bool,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    whole: Histogram<u64>,
    second: Histogram<u64>,
    sent: u64,
    ended: u64,
    failed: u64,
    unknown: u64,
    bytes: u64,
    last_error: Option<String>,
    last_end: Option<Monotonic>,
    gaps: Gaps,
}

/// What a run came to.
#[derive(Clone, Debug)]
pub struct Measured {
    /// Records sent.
    pub sent: u64,
    /// Records acknowledged, or read where that ends a record.
    pub ended: u64,
    /// Records that certainly were not stored.
    pub failed: u64,
    /// Records of which nobody knows.
    pub unknown: u64,
    /// Bytes of the values that ended well.
    pub bytes: u64,
    /// From the end of the warm-up to the last record's end.
    pub elapsed: Duration,
    /// The longest time without an end.
    pub longest_gap: Duration,
    /// The same within one partition.
    pub partition_gap: Duration,
    /// What followed each blow.
    pub blows: Vec<Blow>,
    /// Microseconds from due to end.
    pub latency: Histogram<u64>,
    /// The last failure.
    pub last_error: Option<String>,
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_max(LATENCY_MAX_US, 3).expect("the bounds are constants that fit")
}

impl Measure {
    /// Begins now; `shown` = lines on stderr.
    pub fn new(clock: Arc<dyn Clock>, warm_up: Duration, shown: bool) -> Self {
        let begun = clock.monotonic();
        let inner = Inner {
            whole: histogram(),
            second: histogram(),
            sent: 0,
            ended: 0,
            failed: 0,
            unknown: 0,
            bytes: 0,
            last_error: None,
            last_end: None,
            gaps: Gaps::default(),
        };
        Self { clock, begun, warm_up, shown, inner: Mutex::new(inner) }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Time since the start.
    pub fn elapsed(&self) -> Duration {
        self.clock.monotonic().since(self.begun)
    }

    /// A record that was due then is handed over.
    pub fn sent(&self, due: Duration) {
        if due >= self.warm_up {
            let mut inner = self.inner();
            inner.sent += 1;
            inner.gaps.begin(self.begun.plus(due));
        }
    }

    /// A record that was due then ended well just now.
    pub fn ended(&self, due: Duration, bytes: usize, partition: u32) {
        if due >= self.warm_up {
            self.end(Some(due), bytes, partition);
        }
    }

    fn end(&self, due: Option<Duration>, bytes: usize, partition: u32) {
        let now = self.clock.monotonic();
        let mut inner = self.inner();
        if let Some(due) = due {
            let latency = now.since(self.begun).saturating_sub(due).as_micros() as u64;
            inner.whole.saturating_record(latency);
            inner.second.saturating_record(latency);
        }
        inner.ended += 1;
        inner.bytes += bytes as u64;
        inner.last_end = Some(now);
        inner.gaps.ended(now, partition, due.map(|due| self.begun.plus(due)));
    }

    /// A record was read without being due; only rates and gaps count.
    pub fn read(&self, bytes: usize, partition: u32) {
        if self.elapsed() >= self.warm_up {
            self.end(None, bytes, partition);
        }
    }

    /// A blow begins to be dealt.
    pub fn blow(&self) {
        let now = self.clock.monotonic();
        self.inner().gaps.blow(now);
    }

    /// The blow has been dealt.
    pub fn dealt(&self) {
        let now = self.clock.monotonic();
        self.inner().gaps.dealt(now);
    }

    /// A record failed.
    pub fn failed(&self, unknown: bool, error: &impl std::fmt::Display) {
        let mut inner = self.inner();
        if unknown {
            inner.unknown += 1;
        } else {
            inner.failed += 1;
        }
        inner.last_error = Some(error.to_string());
    }

    /// What it came to.
    pub fn done(&self) -> Measured {
        let now = self.clock.monotonic();
        let mut inner = self.inner();
        let waiting = inner.sent > inner.ended;
        inner.gaps.over(now, waiting);
        Measured {
            sent: inner.sent,
            ended: inner.ended,
            failed: inner.failed,
            unknown: inner.unknown,
            bytes: inner.bytes,
            elapsed: inner.last_end.map_or(Duration::ZERO, |end| end.since(self.begun.plus(self.warm_up))),
            longest_gap: inner.gaps.longest(),
            partition_gap: inner.gaps.partition_longest(),
            blows: inner.gaps.blows().to_vec(),
            latency: inner.whole.clone(),
            last_error: inner.last_error.clone(),
        }
    }

    /// Prints a line each second, for as long as it is polled.
    pub async fn lines(&self, asked: f64) {
        let mut before = 0;
        let mut at = self.elapsed();
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let now = self.elapsed();
            let mut inner = self.inner();
            let rate = (inner.ended - before) as f64 / now.saturating_sub(at).as_secs_f64();
            let asked = if asked > 0.0 { format!("asked {asked:.0}/s ") } else { String::new() };
            let asked = if now < self.warm_up { format!("warming up, {asked}") } else { asked };
            let failures = match &inner.last_error {
                Some(error) => format!(" failed {} unknown {} ({error})", inner.failed, inner.unknown),
                None => String::new(),
            };
            let waiting = inner.sent.saturating_sub(inner.ended + inner.failed + inner.unknown);
            let latency = match (inner.second.len(), inner.sent) {
                (0, 0) => String::new(),
                (0, _) => format!(" nothing ended, waiting {waiting}"),
                _ => format!(
                    " p50 {} p99 {} max {} us, waiting {waiting}",
                    inner.second.value_at_quantile(0.5),
                    inner.second.value_at_quantile(0.99),
                    inner.second.max(),
                ),
            };
            if self.shown {
                eprintln!("{:3.0}s {asked}reached {rate:.0}/s{latency}{failures}", now.as_secs_f64());
            }
            before = inner.ended;
            at = now;
            inner.second.reset();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flotilla_types::TimestampMs;
    use std::sync::atomic::{AtomicU64, Ordering};

    /// Stands where it is set, in milliseconds.
    #[derive(Debug, Default)]
    struct Hand(AtomicU64);

    impl Clock for Hand {
        fn monotonic(&self) -> Monotonic {
            Monotonic(Duration::from_millis(self.0.load(Ordering::Relaxed)))
        }

        fn wall(&self) -> TimestampMs {
            0
        }
    }

    /// A hundred records a second; the cluster stands still for a second. Counted from when each was due, a
    /// hundred records were late, not one.
    #[test]
    fn a_stall_is_as_long_for_every_record_that_was_due_in_it() {
        let clock = Arc::new(Hand::default());
        let measure = Measure::new(Arc::clone(&clock) as Arc<dyn Clock>, Duration::ZERO, false);
        let due = |n: u64| Duration::from_millis(n * 10);
        for n in 0..300 {
            // Those due in the second second end at its end, the others 2 ms after they were due.
            let ends = if (100..200).contains(&n) { 2_000 } else { n * 10 + 2 };
            clock.0.store(ends, Ordering::Relaxed);
            measure.sent(due(n));
            measure.ended(due(n), 1_000, 0);
        }
        let done = measure.done();
        assert_eq!((done.sent, done.ended, done.bytes), (300, 300, 300_000));
        assert_eq!(done.latency.value_at_quantile(0.5) / 1_000, 2);
        let p90 = done.latency.value_at_quantile(0.9) / 1_000;
        assert!((690..=710).contains(&p90), "{p90} ms");
        assert_eq!(done.latency.max() / 1_000, 1_000);
        assert_eq!(done.longest_gap.as_millis(), 1_008);
        assert_eq!(done.elapsed.as_millis(), 2_992);
    }

    #[test]
    fn what_was_due_while_it_warmed_up_does_not_count() {
        let clock = Arc::new(Hand::default());
        let measure = Measure::new(Arc::clone(&clock) as Arc<dyn Clock>, Duration::from_millis(500), false);
        for n in 0..100 {
            let due = Duration::from_millis(n * 10);
            clock.0.store(n * 10 + if n < 50 { 400 } else { 1 }, Ordering::Relaxed);
            measure.sent(due);
            measure.ended(due, 1, 0);
        }
        let done = measure.done();
        assert_eq!((done.sent, done.ended, done.latency.max() / 1_000), (50, 50, 1));
        assert_eq!(done.elapsed.as_millis(), 491, "from the warm-up's end");
    }
}
