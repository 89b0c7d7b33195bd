//! Gives the space of purged entries back, in the background and one shard after another.
//!
//! A purge only leaves a mark that a range is gone. The compaction of that range drops its keys and
//! references; files of payloads go once nothing refers to them.

use crate::log_rows::LogRows;
use crate::log_writer::Breaker;
use crate::metrics::Metrics;
use flotilla_types::{LogIndex, ShardId};
use parking_lot::{Condvar, Mutex};
use rocksdb::{DB, properties};
use std::collections::BTreeMap;
use std::time::Duration;

/// How often the database is asked whether a flush or a compaction failed.
const WATCH: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(crate) struct Reclaimer {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Up to where each shard was purged and not compacted: one entry per shard, so it is bounded.
    waiting: BTreeMap<ShardId, LogIndex>,
    /// A shard is being compacted.
    busy: bool,
    stopped: bool,
}

impl Reclaimer {
    /// There is something to give back.
    pub fn purged(&self, shard: ShardId, upto: LogIndex) {
        let mut state = self.state.lock();
        let waiting = state.waiting.entry(shard).or_default();
        *waiting = upto.max(*waiting);
        self.changed.notify_all();
    }

    pub fn stop(&self) {
        self.state.lock().stopped = true;
        self.changed.notify_all();
    }

    /// Waits until everything purged so far is compacted.
    #[cfg(test)]
    pub fn wait(&self) {
        self.changed.wait_while(&mut self.state.lock(), |state| {
            !state.stopped && (state.busy || !state.waiting.is_empty())
        });
    }

    /// The thread's body.
    pub fn run(&self, db: &DB, log: &dyn LogRows, pause: Duration, metrics: &Metrics, breaker: &Breaker) {
        while let Some((shard, upto)) = self.next(|| background_error(db).is_none()) {
            if let Some(why) = background_error(db) {
                breaker.trip(&why);
                return;
            }
            let Some(shard) = shard else { continue };
            log.reclaim(shard, upto);
            metrics.compactions.inc();
            tracing::debug!(%shard, %upto, "compacted what was purged");
            let mut state = self.state.lock();
            state.busy = false;
            self.changed.notify_all();
            self.changed.wait_while_for(&mut state, |state| !state.stopped, pause);
        }
    }

    /// The next shard to compact, or none of them after a while or when the database is not sound.
    fn next(&self, sound: impl Fn() -> bool) -> Option<(Option<ShardId>, LogIndex)> {
        let mut state = self.state.lock();
        if !state.stopped && state.waiting.is_empty() {
            self.changed.wait_for(&mut state, WATCH);
        }
        if state.stopped {
            return None;
        }
        match sound().then(|| state.waiting.pop_first()).flatten() {
            Some((shard, upto)) => {
                state.busy = true;
                Some((Some(shard), upto))
            }
            None => Some((None, LogIndex(0))),
        }
    }
}

/// A flush or compaction that failed. RocksDB goes on by itself once there is space again, without a word
/// (measured); we would rather start again and look at everything.
fn background_error(db: &DB) -> Option<String> {
    match db.property_int_value(properties::BACKGROUND_ERRORS) {
        Ok(None | Some(0)) => None,
        Ok(Some(count)) => Some(format!("{count} flushes or compactions failed")),
        Err(error) => Some(format!("ask for background errors: {error}")),
    }
}
