//! Topics as the controller has them over time, and as a leader that lags behind sees them.

use super::topic;
use flotilla_machine::groups::{Assignor, Groups, Sight, Subscription, TopicLife};
use flotilla_types::{LogIndex, TopicId, TopicName};
use std::collections::{BTreeMap, BTreeSet};

/// Topics at one moment.
pub type Topics = BTreeMap<TopicName, TopicLife>;

/// All moments so far; the place in the list is the controller's log index.
#[derive(Debug)]
pub struct World(Vec<Topics>);

impl World {
    pub fn new() -> Self {
        Self(vec![Topics::new()])
    }

    /// Now.
    pub fn latest(&self) -> usize {
        self.0.len() - 1
    }

    pub fn at(&self, moment: usize) -> &Topics {
        &self.0[moment]
    }

    /// Makes a topic, or another life of it, or lets it grow, or deletes it.
    pub fn change(&mut self, number: usize, partitions: u32) {
        let mut topics = self.0[self.latest()].clone();
        let id = TopicId(self.0.len() as u64);
        let there = topics.get(&topic(number)).map(|life| life.partitions);
        if partitions == 0 {
            topics.remove(&topic(number));
        } else if let Some(life) = topics.get_mut(&topic(number))
            && there.is_some_and(|there| there < partitions)
        {
            life.partitions = partitions;
        } else {
            // Replicas are here or there, of the last partitions nobody knows where.
            let rack =
                |partition: u32| ["x", "y", "z"][(id.get() as usize + partition as usize) % 3].to_owned();
            let racks = (0..partitions.min(3)).map(|partition| [rack(partition)].into()).collect();
            topics.insert(topic(number), TopicLife { id, partitions, racks });
        }
        self.0.push(topics);
    }

    /// What a leader tells about these names and patterns, as of a moment. Patterns are `all` or `even` here.
    pub fn sight<'a>(
        &self,
        moment: usize,
        names: impl Iterator<Item = &'a TopicName>,
        patterns: impl Iterator<Item = &'a str>,
    ) -> Sight {
        let topics = self.at(moment);
        let patterns: BTreeMap<String, BTreeSet<TopicName>> = patterns
            .map(|pattern| {
                let matches =
                    topics.keys().filter(|name| pattern == "all" || name.as_str().ends_with(['0', '2']));
                (pattern.to_owned(), matches.cloned().collect())
            })
            .collect();
        let names = names.cloned().chain(patterns.values().flatten().cloned());
        let topics = names.map(|name| (name.clone(), topics.get(&name).cloned())).collect();
        Sight { as_of: LogIndex(moment as u64), topics, patterns, gone: BTreeSet::new() }
    }

    /// What goes with a member's wish.
    pub fn sight_of(&self, moment: usize, wish: &Subscription) -> Sight {
        self.sight(moment, wish.topics.iter(), wish.pattern.as_deref().into_iter())
    }

    /// All that a coordinator may not know.
    pub fn news(&self, moment: usize, groups: &Groups) -> Sight {
        let names = groups.wanted_topics().chain(groups.topics().keys());
        let sight = self.sight(moment, names, groups.wanted_patterns());
        let there: BTreeSet<TopicId> = self.at(moment).values().map(|life| life.id).collect();
        let gone = groups.offset_topics().into_iter().filter(|id| !there.contains(id)).collect();
        Sight { gone, ..sight }
    }
}

/// Some wishes that members have.
pub fn wish(number: usize) -> Subscription {
    let named = |numbers: &[usize]| Subscription {
        topics: numbers.iter().map(|number| topic(*number)).collect(),
        rack: ["x", "y"].get(number % 3).map(|rack| (*rack).to_owned()),
        ..Subscription::default()
    };
    match number {
        0 => named(&[0, 1]),
        1 => Subscription { assignor: Some(Assignor::Range), ..named(&[0, 1]) },
        2 => named(&[1, 2]),
        3 => named(&[2]),
        4 => Subscription { pattern: Some("all".to_owned()), ..Subscription::default() },
        _ => Subscription { pattern: Some("even".to_owned()), ..named(&[1]) },
    }
}
