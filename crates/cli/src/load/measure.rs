//! Latencies, rates and gaps of a run, and the line on stderr each second.

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
    first_end: Option<Monotonic>,
    last_end: Option<Monotonic>,
    longest_gap: Duration,
    sent_to: Duration,
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
    /// From the start to the last record's end.
    pub elapsed: Duration,
    /// From the start to the last record's sending.
    pub sending: Duration,
    /// The longest time between two ends.
    pub longest_gap: Duration,
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
    pub fn new(clock: Arc<dyn Clock>, shown: bool) -> Self {
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
            first_end: None,
            last_end: None,
            longest_gap: Duration::ZERO,
            sent_to: Duration::ZERO,
        };
        Self { clock, begun, shown, inner: Mutex::new(inner) }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Time since the start.
    pub fn elapsed(&self) -> Duration {
        self.clock.monotonic().since(self.begun)
    }

    /// A record was handed over.
    pub fn sent(&self) {
        let elapsed = self.elapsed();
        let mut inner = self.inner();
        inner.sent += 1;
        inner.sent_to = elapsed;
    }

    /// A record that was due then ended well just now.
    pub fn ended(&self, due: Duration, bytes: usize) {
        self.end(Some(due), bytes);
    }

    fn end(&self, due: Option<Duration>, bytes: usize) {
        let now = self.clock.monotonic();
        let mut inner = self.inner();
        if let Some(due) = due {
            let latency = now.since(self.begun).saturating_sub(due).as_micros() as u64;
            inner.whole.saturating_record(latency);
            inner.second.saturating_record(latency);
        }
        inner.ended += 1;
        inner.bytes += bytes as u64;
        let gap = now.since(inner.last_end.unwrap_or(now));
        inner.longest_gap = inner.longest_gap.max(gap);
        inner.first_end.get_or_insert(now);
        inner.last_end = Some(now);
    }

    /// A record was read without being due; only rates and gaps count.
    pub fn read(&self, bytes: usize) {
        self.end(None, bytes);
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
        let inner = self.inner();
        Measured {
            sent: inner.sent,
            ended: inner.ended,
            failed: inner.failed,
            unknown: inner.unknown,
            bytes: inner.bytes,
            elapsed: inner.last_end.map_or(Duration::ZERO, |end| end.since(self.begun)),
            sending: inner.sent_to,
            longest_gap: inner.longest_gap,
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
