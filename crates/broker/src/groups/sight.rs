//! What coordinators are told of topics: applying a command reads its own shard only, so the leader sends along
//! what it sees, and proposes what it sees later.

use super::lead::look;
use super::pattern::Pattern;
use super::{Error, Groups};
use crate::broker::Broker;
use crate::routes::{Routes, TopicRoute};
use flotilla_machine::groups::{Command, Groups as Rules, Sight, Subscription, TopicLife};
use flotilla_types::{GroupId, TopicName};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// A burst of changes is told at once.
const GAP: Duration = Duration::from_millis(20);
/// What could not be told is tried again after this.
const AGAIN_AFTER: Duration = Duration::from_millis(500);

impl Broker {
    /// Tells coordinators that are led here what changed in the topics they know.
    pub(crate) async fn keep_coordinators_informed(self: Arc<Self>) {
        loop {
            self.groups.topics_changed.notified().await;
            tokio::time::sleep(GAP).await;
            while !self.inform_coordinators().await {
                tokio::time::sleep(AGAIN_AFTER).await;
            }
        }
    }

    /// Whether all of them know now.
    pub(super) async fn inform_coordinators(&self) -> bool {
        let mut told = true;
        for id in self.groups.memory.led() {
            let Some(shard) = self.led_coordinator(id) else { continue };
            let routes = self.routes();
            let Ok(sight) = look(&shard, |groups| self.news(groups, &routes)) else { continue };
            let Some(sight) = sight else { continue };
            let topics: Vec<_> = sight.topics.keys().take(10).map(ToString::to_string).collect();
            tracing::info!(shard = %id, as_of = %sight.as_of, topics = topics.join(", "), "groups are told of topics");
            let nobody = GroupId::new("topics").expect("it follows the rule of names");
            let command = Command::TopicsChanged { sight, now: self.clock.wall() };
            if let Err(error) = self.decide(&nobody, &shard, command).await {
                tracing::warn!(shard = %id, %error, "groups do not know of topics yet");
                told = false;
            }
        }
        told
    }

    /// What a coordinator knows otherwise than this node.
    fn news(&self, groups: &Rules, routes: &Routes) -> Option<Sight> {
        let racks = has_racks(routes);
        let mut sight = Sight { as_of: routes.version, ..Sight::default() };
        let mut names: BTreeSet<TopicName> = groups.wanted_topics().cloned().collect();
        for pattern in groups.wanted_patterns() {
            let known = groups.patterns().get(pattern);
            if known.is_some_and(|known| known.as_of >= routes.version) {
                continue;
            }
            let Ok(matches) = self.groups.matches(pattern, routes) else { continue };
            names.extend(matches.iter().cloned());
            if known.is_none_or(|known| matches != known.topics) {
                sight.patterns.insert(pattern.to_owned(), matches);
            }
        }
        names.extend(groups.topics().keys().cloned());
        for topic in names {
            let known = groups.topics().get(&topic);
            if known.is_some_and(|known| known.as_of >= routes.version) {
                continue;
            }
            let now = life(routes, &topic, racks);
            if known.is_none_or(|known| now != known.life) {
                sight.topics.insert(topic, now);
            }
        }
        let there: BTreeSet<_> = routes.topics.values().map(|topic| topic.id).collect();
        // A topic that was made after these routes is not gone.
        let gone = |id: &flotilla_types::TopicId| id.get() <= routes.version.get() && !there.contains(id);
        sight.gone = groups.offset_topics().into_iter().filter(gone).collect();
        self.groups.keep_patterns(|pattern| groups.patterns().contains_key(pattern));
        let nothing = sight.topics.is_empty() && sight.patterns.is_empty() && sight.gone.is_empty();
        (!nothing).then_some(sight)
    }

    /// What is known here of the topics that a member wants.
    pub(super) fn sight_of(&self, subscription: &Subscription) -> Result<Sight, Error> {
        let routes = self.routes();
        let racks = has_racks(&routes);
        let mut sight = Sight { as_of: routes.version, ..Sight::default() };
        let mut names = subscription.topics.clone();
        if let Some(pattern) = &subscription.pattern {
            let matches = self
                .groups
                .matches(pattern, &routes)
                .map_err(|why| Error::invalid("subscription.topic_regex", pattern, why))?;
            names.extend(matches.iter().cloned());
            sight.patterns.insert(pattern.clone(), matches);
        }
        sight.topics = names
            .into_iter()
            .map(|topic| {
                let life = life(&routes, &topic, racks);
                (topic, life)
            })
            .collect();
        Ok(sight)
    }
}

impl Groups {
    /// The topics that match. Patterns are compiled once.
    fn matches(&self, text: &str, routes: &Routes) -> Result<BTreeSet<TopicName>, String> {
        let known = self.patterns.lock().get(text).cloned();
        let pattern = match known {
            Some(pattern) => pattern,
            None => {
                let pattern = Pattern::new(text)?;
                self.patterns.lock().insert(text.to_owned(), pattern.clone());
                pattern
            }
        };
        Ok(routes.topics.keys().filter(|topic| pattern.matches(topic)).cloned().collect())
    }

    /// Patterns that no coordinator has any more are forgotten, once there are many.
    fn keep_patterns(&self, in_use: impl Fn(&str) -> bool) {
        const MANY: usize = 256;
        let mut patterns = self.patterns.lock();
        if patterns.len() > MANY {
            patterns.retain(|pattern, _| in_use(pattern));
        }
    }
}

/// Whether racks are worth telling.
fn has_racks(routes: &Routes) -> bool {
    routes.nodes.values().any(|node| !node.rack.is_empty())
}

fn life(routes: &Routes, topic: &TopicName, racks: bool) -> Option<TopicLife> {
    let route = routes.topics.get(topic)?;
    let racks = if racks { racks_of(routes, route) } else { Vec::new() };
    Some(TopicLife { id: route.id, partitions: route.partitions.len() as u32, racks })
}

fn racks_of(routes: &Routes, route: &TopicRoute) -> Vec<BTreeSet<String>> {
    let rack = |node| routes.nodes.get(node).map(|node| node.rack.clone()).filter(|rack| !rack.is_empty());
    route.partitions.iter().map(|placed| placed.replicas.iter().filter_map(rack).collect()).collect()
}
