//! The task that keeps the table true: it wakes when intent or a leader changes, and now and then.

use super::{Routes, Source};
use crate::broker::Broker;
use flotilla_raft::KnownLeaders;
use flotilla_types::ShardId;
use std::sync::Arc;
use std::time::Duration;

/// Peers coming and going are noticed at least this often.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// A burst of changes makes one table.
const GAP: Duration = Duration::from_millis(5);

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
