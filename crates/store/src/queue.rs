//! What waits for the writer: in order, bounded, with an eye on how long the patient ones have waited.

use crate::error::WriteError;
use crate::metrics::Metrics;
use crate::write::{Done, Write};
use flotilla_types::{Clock, Monotonic};
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// Most writes that wait. Who reserves room never gets here; beyond it writes are refused.
const WRITES_MAX: usize = 1 << 17;
/// Bytes that wait, as a multiple of what may be reserved, beyond which writes are refused.
const BYTES_SLACK: usize = 4;

pub(crate) struct Job {
    pub write: Write,
    pub done: Done,
}

pub(crate) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
    bytes_max: usize,
    apply_wait_max: Duration,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    bytes: usize,
    /// How many of `jobs` do not like to wait.
    urgent: usize,
    /// When the oldest of `jobs` came, if it is patient.
    since: Monotonic,
    /// Why no more are taken.
    stopped: Option<WriteError>,
}

impl Queue {
    pub fn new(
        queue_max_bytes: usize,
        apply_wait_max: Duration,
        clock: Arc<dyn Clock>,
        metrics: Metrics,
    ) -> Self {
        Self {
            state: Mutex::default(),
            changed: Condvar::new(),
            bytes_max: queue_max_bytes.saturating_mul(BYTES_SLACK),
            apply_wait_max,
            clock,
            metrics,
        }
    }

    /// Takes a write in, or tells `done` at once why not.
    pub fn push(&self, write: Write, done: Done) {
        let mut state = self.state.lock();
        let full = state.jobs.len() >= WRITES_MAX || state.bytes >= self.bytes_max;
        let refused = state.stopped.clone().or_else(|| {
            full.then_some(WriteError::QueueFull { queued: state.jobs.len(), queued_bytes: state.bytes })
        });
        if let Some(error) = refused {
            drop(state);
            done(Err(error));
            return;
        }
        let patient = write.is_patient();
        let wake = state.jobs.is_empty() || !patient;
        if state.jobs.is_empty() {
            state.since = self.clock.monotonic();
        }
        state.bytes += write.weight();
        state.urgent += usize::from(!patient);
        state.jobs.push_back(Job { write, done });
        self.show(&state);
        drop(state);
        if wake {
            self.changed.notify_one();
        }
    }

    /// Waits for the next commit's worth of writes, at most some `bytes` of them but at least one. `None`
    /// once there will be no more.
    pub fn take(&self, bytes: usize) -> Option<Vec<Job>> {
        let mut state = self.state.lock();
        loop {
            if state.jobs.is_empty() {
                if state.stopped.is_some() {
                    return None;
                }
                self.changed.wait(&mut state);
                continue;
            }
            let waited = self.clock.monotonic().since(state.since);
            let ready = state.urgent > 0 || state.bytes >= bytes || state.stopped.is_some();
            if ready || waited >= self.apply_wait_max {
                break;
            }
            self.changed.wait_for(&mut state, self.apply_wait_max.saturating_sub(waited));
        }
        let mut jobs = Vec::new();
        let mut taken = 0;
        while let Some(job) = state.jobs.pop_front() {
            taken += job.write.weight();
            state.urgent -= usize::from(!job.write.is_patient());
            jobs.push(job);
            let next = state.jobs.front().map_or(0, |job| job.write.weight());
            if taken + next > bytes {
                break;
            }
        }
        state.bytes -= taken;
        state.since = self.clock.monotonic();
        self.show(&state);
        Some(jobs)
    }

    /// Takes no more. What waits is still written.
    pub fn close(&self) {
        self.state.lock().stopped.get_or_insert(WriteError::Closed);
        self.changed.notify_all();
    }

    /// Takes no more, and gives back what waits: it will not be written. Whether this was the first to say so.
    pub fn fail(&self, why: &str) -> (bool, Vec<Job>) {
        let mut state = self.state.lock();
        let first = !matches!(state.stopped, Some(WriteError::Failed(_)));
        if first {
            state.stopped = Some(WriteError::Failed(why.into()));
        }
        let jobs = std::mem::take(&mut state.jobs).into();
        (state.bytes, state.urgent) = (0, 0);
        self.show(&state);
        self.changed.notify_all();
        (first, jobs)
    }

    /// Why no more are taken.
    pub fn stopped(&self) -> Option<WriteError> {
        self.state.lock().stopped.clone()
    }

    fn show(&self, state: &State) {
        self.metrics.queue_writes.set(state.jobs.len() as i64);
        self.metrics.queue_bytes.set(state.bytes as i64);
    }
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.state.lock();
        f.debug_struct("Queue")
            .field("writes", &state.jobs.len())
            .field("bytes", &state.bytes)
            .field("stopped", &state.stopped)
            .finish_non_exhaustive()
    }
}
