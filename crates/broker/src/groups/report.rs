//! What changed in groups, for people: log lines, events and metrics, told by the leader that saw it applied.

use super::memory::Changed;
use crate::broker::Broker;
use crate::events::{Event, kind};
use flotilla_machine::groups::{Cause, Change, GroupState};
use flotilla_types::{GroupId, Monotonic, ShardId, TopicId, TopicName};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// Moved partitions that an event names; all are counted.
const NAMED_MAX: usize = 100;

/// Rebalances under way.
pub(super) type Rebalances = BTreeMap<(ShardId, GroupId), Rebalance>;

/// From the first change until everybody owns what he is to own.
#[derive(Debug)]
pub(super) struct Rebalance {
    since: Monotonic,
    cause: &'static str,
    steps: u32,
    moved: usize,
}

impl Broker {
    pub(super) fn report_changes(&self, changes: VecDeque<Changed>) {
        let routes = self.routes();
        let names: BTreeMap<TopicId, &TopicName> =
            routes.topics.values().map(|topic| (topic.id, &topic.name)).collect();
        for Changed { shard, change, at, wall } in changes {
            let cause = change.cause.name();
            let is_step = matches!(change.cause, Cause::Acknowledged(_));
            self.metrics.group_change(cause);
            if is_step {
                tracing::debug!(group = %change.group, epoch = %change.epoch, cause, "partitions were given up");
            } else {
                self.report_change(&change, wall, &names);
            }
            let ended = self.follow(shard, &change, at);
            if let Some(rebalance) = ended {
                let took = at.since(rebalance.since);
                self.metrics.group_rebalance_seconds.observe(took.as_secs_f64());
                self.report_end(&change, wall, &rebalance, took);
            }
        }
        self.groups.rebalances.lock().retain(|(shard, _), _| self.groups.memory.is_led(*shard));
    }

    /// Notes a change; gives back the rebalance that it ends.
    fn follow(&self, shard: ShardId, change: &Change, at: Monotonic) -> Option<Rebalance> {
        let mut under_way = self.groups.rebalances.lock();
        let key = (shard, change.group.clone());
        let rebalance = under_way.entry(key.clone()).or_insert(Rebalance {
            since: at,
            cause: change.cause.name(),
            steps: 0,
            moved: 0,
        });
        rebalance.steps += 1;
        rebalance.moved += change.moved.len();
        if change.state == GroupState::Reconciling { None } else { under_way.remove(&key) }
    }

    fn report_change(&self, change: &Change, wall: i64, names: &BTreeMap<TopicId, &TopicName>) {
        let cause = change.cause.name();
        let member = change.cause.member().map(ToString::to_string).unwrap_or_default();
        tracing::info!(group = %change.group, epoch = %change.epoch, cause, member, state = change.state.name(),
            partitions_moved = change.moved.len(), members_revised = change.revised.len(),
            members_removed = change.removed.len(), "group rebalances");
        let named: Vec<String> = change
            .moved
            .iter()
            .take(NAMED_MAX)
            .map(|moved| {
                let topic =
                    names.get(&moved.topic).map_or_else(|| moved.topic.to_wire(), ToString::to_string);
                let who = |member: &Option<flotilla_types::MemberId>| {
                    member.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string)
                };
                format!("{topic}/{} {}>{}", moved.partition, who(&moved.from), who(&moved.to))
            })
            .collect();
        let mut attributes = vec![
            ("group".to_owned(), change.group.to_string()),
            ("cause".to_owned(), cause.to_owned()),
            ("group_epoch".to_owned(), change.epoch.to_string()),
            ("state".to_owned(), change.state.name().to_uppercase()),
            ("partitions_moved".to_owned(), change.moved.len().to_string()),
            ("members_revised".to_owned(), change.revised.len().to_string()),
            ("members_removed".to_owned(), change.removed.len().to_string()),
        ];
        if !member.is_empty() {
            attributes.push(("member".to_owned(), member));
        }
        if !named.is_empty() {
            attributes.push(("moved".to_owned(), named.join(", ")));
        }
        let (group, moved) = (&change.group, change.moved.len());
        let message = format!("group {group}: {cause}, {moved} partitions to move, epoch {}", change.epoch);
        self.publish_event(wall, kind::GROUP_REBALANCE, message, attributes);
    }

    fn report_end(&self, change: &Change, wall: i64, rebalance: &Rebalance, took: Duration) {
        let ms = took.as_millis();
        tracing::info!(group = %change.group, epoch = %change.epoch, cause = rebalance.cause, steps = rebalance.steps,
            partitions_moved = rebalance.moved, duration_ms = ms as u64, state = change.state.name(),
            "group has settled");
        let attributes = vec![
            ("group".to_owned(), change.group.to_string()),
            ("cause".to_owned(), rebalance.cause.to_owned()),
            ("group_epoch".to_owned(), change.epoch.to_string()),
            ("state".to_owned(), change.state.name().to_uppercase()),
            ("steps".to_owned(), rebalance.steps.to_string()),
            ("partitions_moved".to_owned(), rebalance.moved.to_string()),
            ("duration_ms".to_owned(), ms.to_string()),
        ];
        let message = format!(
            "group {}: {} after {ms} ms, {} partitions moved, epoch {}",
            change.group,
            change.state.name(),
            rebalance.moved,
            change.epoch
        );
        self.publish_event(wall, kind::GROUP_STABLE, message, attributes);
    }

    pub(crate) fn publish_event(
        &self,
        time: i64,
        kind: &str,
        message: String,
        attributes: Vec<(String, String)>,
    ) {
        let node = self.info.id;
        self.observer.events.publish(Event { time, kind: kind.to_owned(), node, message, attributes });
    }
}
