//! How long work is going: one line on stderr every five seconds, and one at the end.

use flotilla_types::{Clock, Monotonic, bytesize::ByteSize};
use std::sync::Arc;
use std::time::Duration;

/// A line at most this often.
pub const EVERY: Duration = Duration::from_secs(5);

/// Counts records and bytes, and says so.
#[derive(Debug)]
pub struct Progress {
    verb: &'static str,
    shown: bool,
    clock: Arc<dyn Clock>,
    begun: Monotonic,
    last: Monotonic,
    last_records: u64,
    /// Records so far.
    pub records: u64,
    /// Bytes of keys and values so far.
    pub bytes: u64,
}

impl Progress {
    /// Begins to count; `verb` as in "produced".
    pub fn new(verb: &'static str, shown: bool, clock: Arc<dyn Clock>) -> Self {
        let begun = clock.monotonic();
        Self { verb, shown, clock, begun, last: begun, last_records: 0, records: 0, bytes: 0 }
    }

    /// Counts one record.
    pub fn count(&mut self, bytes: usize) {
        self.records += 1;
        self.bytes += bytes as u64;
    }

    /// Prints a line if it is time.
    pub fn tick(&mut self) {
        let now = self.clock.monotonic();
        let since = now.since(self.last);
        if !self.shown || since < EVERY {
            return;
        }
        let rate = (self.records - self.last_records) as f64 / since.as_secs_f64();
        eprintln!("{} {} records, {rate:.0}/s", self.verb, self.records);
        self.last = now;
        self.last_records = self.records;
    }

    /// Time since the beginning.
    pub fn elapsed(&self) -> Duration {
        self.clock.monotonic().since(self.begun)
    }

    /// Prints the last line.
    pub fn finish(&self, detail: &str) {
        if !self.shown {
            return;
        }
        let elapsed = self.elapsed().as_secs_f64();
        let rate = self.records as f64 / elapsed.max(0.001);
        let mib = self.bytes as f64 / f64::from(1 << 20);
        let size = if mib >= 1.0 { format!("{mib:.1}MiB") } else { ByteSize(self.bytes).to_string() };
        eprintln!("{} {} records, {size}, {elapsed:.1}s, {rate:.0}/s{detail}", self.verb, self.records);
    }
}
