//! What a group consumer's tasks and its application share: one short lock over the pure parts, and a
//! number that rises with every change, so that nobody misses one.

use super::commits::Commits;
use super::config::GroupOptions;
use super::coordinator::Coordinator;
use super::event::{Event, Listener, TopicPartition};
use super::ledger::{Key, Ledger};
use super::member::{Leave, Member, Request, Subscription};
use crate::client::Inner;
use flotilla_proto::v1;
use flotilla_types::{Clock, Monotonic};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{broadcast, watch};

/// Events that a slow reader of the stream may be behind.
const EVENTS_MAX: usize = 256;

/// Everything behind the lock. Nothing is awaited while it is held.
#[derive(Debug)]
pub(crate) struct Inside {
    pub(crate) member: Member,
    pub(crate) ledger: Ledger,
    /// The application is inside `poll` now.
    pub(crate) polling: bool,
    /// When it last was.
    pub(crate) polled_at: Monotonic,
    /// Until then the coordinator counts this as a member, counted from the sending of the last heartbeat
    /// that was answered. `None`: no heartbeat was answered since it joined.
    pub(crate) session_ends: Option<Monotonic>,
    /// The last membership ended because no heartbeat was answered.
    pub(crate) silenced: bool,
}

impl Inside {
    /// Whether others may have this member's partitions by now.
    fn is_over(&self, now: Monotonic) -> bool {
        self.member.is_joined() && self.session_ends.is_some_and(|ends| now >= ends)
    }
}

pub(crate) struct Shared {
    pub(crate) client: Arc<Inner>,
    pub(crate) options: GroupOptions,
    pub(crate) group: String,
    /// Made once; a member that joins again keeps it.
    pub(crate) member_id: String,
    pub(crate) coordinator: Coordinator,
    pub(crate) commits: Commits,
    pub(crate) listener: Arc<dyn Listener>,
    pub(crate) events: broadcast::Sender<Event>,
    inside: Mutex<Inside>,
    version: watch::Sender<u64>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("group", &self.group)
            .field("member_id", &self.member_id)
            .finish_non_exhaustive()
    }
}

impl Shared {
    pub(crate) fn new(
        client: Arc<Inner>,
        group: String,
        subscription: Subscription,
        options: GroupOptions,
        listener: Arc<dyn Listener>,
    ) -> Self {
        let random = &client.options.random;
        let member_id = uuid(random.bits(), random.bits());
        let mut member = Member::new(subscription);
        member.start();
        let polled_at = client.options.clock.monotonic();
        let inside = Inside {
            member,
            ledger: Ledger::default(),
            polling: false,
            polled_at,
            session_ends: None,
            silenced: false,
        };
        Self {
            coordinator: Coordinator::new(Arc::clone(&client)),
            client,
            options: options.bounded(),
            group,
            member_id,
            commits: Commits::default(),
            listener,
            events: broadcast::Sender::new(EVENTS_MAX),
            inside: Mutex::new(inside),
            version: watch::Sender::new(0),
        }
    }

    pub(crate) fn clock(&self) -> &dyn Clock {
        &*self.client.options.clock
    }

    /// Looks, and changes nothing that anybody waits for.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&mut Inside) -> T) -> T {
        look(&mut self.inside.lock())
    }

    /// Changes something, and wakes whoever waits.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Inside) -> T) -> T {
        let changed = change(&mut self.inside.lock());
        self.version.send_modify(|version| *version += 1);
        changed
    }

    /// Changes to come.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// Waits until `check` gives something.
    pub(crate) async fn until<T>(&self, mut check: impl FnMut(&mut Inside) -> Option<T>) -> T {
        let mut versions = self.version.subscribe();
        loop {
            versions.borrow_and_update();
            if let Some(found) = self.look(&mut check) {
                return found;
            }
            // The sender lives in `self`.
            let _ = versions.changed().await;
        }
    }

    /// The coordinator does not know a membership any more: nothing is handed out from now on.
    pub(crate) fn fence(&self, session: u64) {
        self.change(|inside| {
            inside.member.fence(session);
            if inside.member.session() != session {
                inside.ledger.drain(|_| true);
            }
        });
    }

    /// Gives up a membership whose session has ended as far as this side can know: a process that was
    /// stopped, or cut off, must not believe that it has what others read by now.
    pub(crate) fn check_session(&self) {
        let now = self.clock().monotonic();
        if let Some(session) = self.look(|inside| inside.is_over(now).then(|| inside.member.session())) {
            tracing::warn!(
                group = %self.group, member = %self.member_id,
                "no heartbeat was answered for a whole session; dropping what was assigned"
            );
            self.change(|inside| inside.silenced = true);
            self.fence(session);
        }
    }

    /// Ends when the session has ended.
    pub(crate) async fn session_over(&self) {
        loop {
            let ends = self.until(|inside| inside.session_ends.filter(|_| inside.member.is_joined())).await;
            let left = ends.since(self.clock().monotonic());
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left).await;
        }
    }

    /// Tells everybody who reads the stream of events.
    pub(crate) fn tell(&self, event: Event) {
        tracing::debug!(group = %self.group, member = %self.member_id, ?event, "rebalanced");
        let _ = self.events.send(event);
    }

    /// A heartbeat as it travels.
    pub(crate) fn heartbeat(&self, request: &Request, max_wait: Duration) -> v1::HeartbeatRequest {
        let options = &self.options;
        let leave = |leave| match leave {
            Leave::Forever => v1::heartbeat_request::Leave::Forever as i32,
            Leave::Temporarily => v1::heartbeat_request::Leave::Temporarily as i32,
        };
        let subscription = |wanted: &Subscription| v1::heartbeat_request::Subscription {
            topics: wanted.topics.clone(),
            topic_regex: wanted.pattern.clone(),
            assignor: options.assignor.clone(),
            rack_id: options.rack_id.clone(),
            rebalance_timeout: prost_types::Duration::try_from(options.rebalance_timeout).ok(),
            client_id: options.client_id.clone(),
        };
        v1::HeartbeatRequest {
            group_id: self.group.clone(),
            group_type: v1::GroupType::Consumer as i32,
            member_id: self.member_id.clone(),
            member_epoch: request.epoch,
            instance_id: options.instance_id.clone(),
            subscription: request.subscription.as_ref().map(subscription),
            owned: request
                .owned
                .as_ref()
                .map(|owned| v1::TopicPartitions { partitions: owned.iter().map(to_wire).collect() }),
            leave: request.leave.map(leave),
            max_wait_ms: if request.leave.is_some() { 0 } else { max_wait.as_millis() as i32 },
        }
    }
}

fn to_wire((topic, partition): &Key) -> v1::TopicPartition {
    v1::TopicPartition { topic: topic.as_str().to_owned(), partition: partition.get() as i32 }
}

/// Partitions as people know them.
pub(crate) fn named<'a>(keys: impl IntoIterator<Item = &'a Key>) -> Vec<TopicPartition> {
    keys.into_iter().map(TopicPartition::from).collect()
}

/// A random UUID (version 4) from the chance that was given.
fn uuid(high: u64, low: u64) -> String {
    let high = (high & !0xf000) | 0x4000;
    let low = (low & !(0b11 << 62)) | (0b10 << 62);
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        high >> 32,
        (high >> 16) & 0xffff,
        high & 0xffff,
        low >> 48,
        low & 0xffff_ffff_ffff
    )
}

#[cfg(test)]
mod tests {
    #[test]
    fn member_ids_are_uuids() {
        let id = super::uuid(u64::MAX, u64::MAX);
        assert_eq!(id, "ffffffff-ffff-4fff-bfff-ffffffffffff");
        assert_eq!(super::uuid(0, 0), "00000000-0000-4000-8000-000000000000");
    }
}
