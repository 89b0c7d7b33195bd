//! The task that keeps the table true: it wakes when intent or a leader changes, and now and then.

use super::{Routes, Source};
use crate::broker::Broker;
use crate::events::kind;
use flotilla_raft::KnownLeaders;
use flotilla_types::{NodeId, ShardId, Term};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

/// Peers coming and going are noticed at least this often.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// A burst of changes makes one table.
const GAP: Duration = Duration::from_millis(5);

type Leader = Option<(NodeId, Term)>;

impl Broker {
    pub(crate) async fn keep_routes(self: Arc<Self>) {
        let Ok(serving) = self.serving().cloned() else { return };
        let Some(controller) = serving.host.shard(ShardId::CONTROLLER) else { return };
        let mut intent = controller.watch_progress();
        let mut leaders = serving.host.known_leaders();
        loop {
            tokio::select! {
                changed = intent.changed() => if changed.is_err() { return },
                changed = leaders.changed() => if changed.is_err() { return },
                () = self.observer.leaders_changed.notified() => {}
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            intent.mark_unchanged();
            leaders.mark_unchanged();
            self.rebuild_routes();
            tokio::time::sleep(GAP).await;
        }
    }

    /// Publishes a new table, if anything changed.
    pub(crate) fn rebuild_routes(&self) {
        let Ok(serving) = self.serving() else { return };
        let Some(controller) = serving.host.shard(ShardId::CONTROLLER) else { return };
        let leaders = self.leaders();
        let before = self.routes();
        let online = |node| self.is_online(node);
        let source = Source { leaders: &leaders, online: &online };
        let mut routes = controller.read(|shard| {
            shard
                .controller()
                .map(|controller| Routes::build(&before, controller, &source))
                .unwrap_or_default()
        });
        if routes.nodes.is_empty() {
            // Not set up yet: at least the configured nodes are known.
            let nodes = self.info.initial.iter().map(|spec| (spec.id, self.node_of(spec))).collect();
            routes.nodes = Arc::new(nodes);
        }
        if routes != *before {
            let intent_changed = routes.version != before.version;
            self.note_leaders(&routes);
            self.tell_leaders(&before, &routes);
            self.publish(Arc::new(routes));
            if intent_changed {
                self.intent_changed.notify_one();
                self.groups.topics_changed.notify_one();
            }
        }
    }

    /// What nodes tell, and what the shards of this node know themselves; the later term counts.
    fn leaders(&self) -> KnownLeaders {
        let Ok(serving) = self.serving() else { return KnownLeaders::default() };
        let mut leaders = KnownLeaders::clone(&serving.host.known_leaders().borrow());
        for shard in serving.host.shards() {
            if let Some((node, term)) = shard.leadership().known() {
                let known = leaders.entry(shard.id()).or_insert((node, term));
                if term > known.1 {
                    *known = (node, term);
                }
            }
        }
        leaders
    }

    /// An event for every shard that this node leads since the last table. Each node tells of its own, so that
    /// the cluster tells once.
    fn tell_leaders(&self, before: &Routes, now: &Routes) {
        let tell =
            |shard: ShardId, what: &str, (was, is): (Leader, Leader), mut more: Vec<(String, String)>| {
                let Some((node, term)) = is.filter(|(node, _)| *node == self.info.id && was != is) else {
                    return;
                };
                let mut attributes = vec![
                    ("shard".to_owned(), shard.to_string()),
                    ("leader".to_owned(), node.to_string()),
                    ("term".to_owned(), term.to_string()),
                ];
                attributes.append(&mut more);
                let mut message = format!("{what}: led by node {node} in term {term}");
                if let Some((node, _)) = was.filter(|(was, _)| *was != node) {
                    attributes.push(("previous".to_owned(), node.to_string()));
                    let _ = write!(message, ", before by node {node}");
                }
                self.publish_event(self.clock.wall(), kind::LEADER_CHANGE, message, attributes);
            };
        let leaders = (before.controller, now.controller);
        tell(ShardId::CONTROLLER, "controller", leaders, vec![("role".to_owned(), "controller".to_owned())]);
        for (number, placed) in now.coordinators.iter().enumerate() {
            let was = before.coordinators.get(number).and_then(|placed| placed.leader);
            let role = vec![("role".to_owned(), "coordinator".to_owned())];
            tell(placed.shard, &format!("coordinator {}", placed.shard), (was, placed.leader), role);
        }
        for (name, topic) in &now.topics {
            let old = before.topics.get(name);
            if old.is_some_and(|old| Arc::ptr_eq(old, topic)) {
                continue;
            }
            for (number, placed) in topic.partitions.iter().enumerate() {
                let was =
                    old.and_then(|old| old.partitions.get(number)).filter(|was| was.shard == placed.shard);
                let leaders = (was.and_then(|was| was.leader), placed.leader);
                if leaders.0 == leaders.1 {
                    continue;
                }
                let attributes = vec![
                    ("role".to_owned(), "partition".to_owned()),
                    ("topic".to_owned(), name.to_string()),
                    ("partition".to_owned(), number.to_string()),
                ];
                tell(placed.shard, &format!("partition {name}/{number}"), leaders, attributes);
            }
        }
    }

    fn note_leaders(&self, routes: &Routes) {
        let (mut leaderless, mut led) = (0, 0);
        for (_, _, partition) in routes.partitions() {
            match partition.leader {
                None => leaderless += 1,
                Some((node, _)) if node == self.info.id => led += 1,
                Some(_) => {}
            }
        }
        self.metrics.leaderless_partitions.set(leaderless);
        self.metrics.leaders.set(led);
    }
}
