//! What the shards of this node tell the broker, as it happens: batches for the tail, news for the routes.
//!
//! Made before the shards are started, because they talk to it from their first entry on. Nothing here
//! blocks: it runs on the shards' own tasks.

use crate::config::Config;
use crate::events::Events;
use crate::fetch::FetchedBatch;
use crate::groups::Groups;
use crate::metrics::Metrics;
use crate::tail::Tail;
use flotilla_machine::{Append, Command, Outcome};
use flotilla_raft::{AppliedEntry, Host, Leadership, Observer};
use flotilla_types::{Clock, IndexRow, NodeId, Offset, ShardId};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock, Weak};
use tokio::sync::Notify;

/// Called when this process must not go on. It does not return to normal work.
pub type OnFatal = Box<dyn Fn(&str) + Send + Sync>;

/// The broker's ear. Give it to [`Host::start`], then to [`crate::Broker::start`].
pub struct BrokerObserver {
    pub(crate) tail: Tail,
    pub(crate) groups: Arc<Groups>,
    pub(crate) events: Events,
    pub(crate) leaders_changed: Notify,
    pub(crate) metrics: Metrics,
    /// Shards that stopped here, and why.
    pub(crate) broken: Mutex<BTreeMap<ShardId, String>>,
    /// Replicas that lost what they had acknowledged, and why.
    pub(crate) reverted: Mutex<BTreeMap<(ShardId, NodeId), String>>,
    /// Weak, because the host holds this: a node that stopped must let go of its store.
    host: OnceLock<Weak<Host>>,
    clock: OnceLock<Arc<dyn Clock>>,
    on_fatal: OnFatal,
}

impl std::fmt::Debug for BrokerObserver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BrokerObserver").field("tail_bytes", &self.tail.bytes()).finish_non_exhaustive()
    }
}

impl BrokerObserver {
    /// `on_fatal` ends the process.
    pub fn new(config: &Config, metrics: Metrics, on_fatal: OnFatal) -> Arc<Self> {
        Arc::new(Self {
            tail: Tail::new(config.tail_bytes.get(), metrics.clone()),
            groups: Arc::default(),
            events: Events::default(),
            leaders_changed: Notify::new(),
            metrics,
            broken: Mutex::default(),
            reverted: Mutex::default(),
            host: OnceLock::new(),
            clock: OnceLock::new(),
            on_fatal,
        })
    }

    /// From here on the tail may make room, because it can be asked what the store can read.
    pub(crate) fn attach(&self, host: &Arc<Host>, clock: &Arc<dyn Clock>) {
        let _ = self.host.set(Arc::downgrade(host));
        let _ = self.clock.set(clock.clone());
    }

    /// A coordinator that is led here changed groups: who waits for news of them is woken.
    fn groups_applied(&self, shard: ShardId, batch: &[AppliedEntry<'_>]) {
        let Some(clock) = self.clock.get() else { return };
        let mut news = false;
        for entry in batch {
            if let Outcome::Group(outcome) = entry.outcome {
                news |= self.groups.memory.applied(shard, outcome, clock.monotonic(), clock.wall());
            }
        }
        if news {
            self.groups.nudge();
        }
    }

    fn make_room(&self) {
        if let Some(host) = self.host.get().and_then(Weak::upgrade) {
            // A shard that is gone has nothing left to wait for.
            let all = Offset(u64::MAX);
            self.tail.evict(|shard| host.shard(shard).map_or(all, |shard| shard.stored_to()));
        }
    }
}

impl Observer for BrokerObserver {
    fn applied(&self, shard: ShardId, batch: &[AppliedEntry<'_>]) {
        if shard.is_coordinator() {
            return self.groups_applied(shard, batch);
        }
        let batches = batch.iter().filter_map(|entry| {
            let row = entry.index.first()?;
            match Command::decode(entry.header) {
                Ok(Command::Append(append)) => Some(fetched(row, &append, entry.payload.clone())),
                _ => None,
            }
        });
        let mut batches = batches.peekable();
        if batches.peek().is_some() {
            self.tail.push(shard, batches);
            self.make_room();
        }
    }

    fn leadership(&self, shard: ShardId, leadership: &Leadership) {
        tracing::debug!(%shard, leader = ?leadership.leader, term = %leadership.term, "leadership changed");
        self.leaders_changed.notify_one();
        if shard.is_coordinator() {
            if !leadership.is_leader {
                // Whoever waits here must look elsewhere.
                self.groups.memory.end(shard);
            }
            self.groups.nudge();
        }
    }

    fn installed(&self, shard: ShardId) {
        self.tail.forget(shard);
    }

    fn broken(&self, shard: ShardId, why: &str) {
        tracing::error!(%shard, why, "shard stopped on this node: its state or log contradicts itself");
        self.broken.lock().insert(shard, why.to_owned());
        self.metrics.broken_shards.set(self.broken.lock().len() as i64);
    }

    fn reverted(&self, shard: ShardId, peer: NodeId, why: &str) {
        tracing::error!(%shard, %peer, why, "replica lost entries that it had acknowledged");
        self.reverted.lock().insert((shard, peer), why.to_owned());
    }

    fn fatal(&self, shard: ShardId, why: &str) {
        tracing::error!(%shard, why, "consensus cannot go on in this process");
        (self.on_fatal)(why);
    }
}

/// A batch as readers get it: offsets from the index row, the rest from its maker.
pub(crate) fn fetched(row: &IndexRow, append: &Append, body: bytes::Bytes) -> FetchedBatch {
    FetchedBatch {
        base_offset: row.base_offset,
        term: row.term,
        append_time: row.append_time,
        header: append.batch,
        body,
    }
}
