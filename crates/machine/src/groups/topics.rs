//! What a coordinator knows of topics: told by its leader with commands, never looked up while applying.
//!
//! Known is what some member wants, by name or by pattern, and nothing else.

use super::command::{Sight, Subscription, TopicLife};
use super::member::Member;
use crate::encoding::fields;
use crate::row::{self, RowKind};
use bytes::Bytes;
use flotilla_types::limits::TOPIC_MAX_PARTITIONS;
use flotilla_types::{ChangeSet, GroupId, LogIndex, TopicId, TopicName};
use std::collections::{BTreeMap, BTreeSet};

/// Most topics that a pattern stands for; beyond it the first in order of names.
pub const PATTERN_TOPICS_MAX: usize = 10_000;

/// What is known of a topic's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// The controller's log index of the sight it is from.
    pub as_of: LogIndex,
    /// The topic; absent = there is none.
    pub life: Option<TopicLife>,
}

fields!(Known { as_of, life });

/// What a pattern matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matches {
    /// The controller's log index of the sight it is from.
    pub as_of: LogIndex,
    /// Names of topics.
    pub topics: BTreeSet<TopicName>,
}

fields!(Matches { as_of, topics });

/// Everything that is known, and who wants it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Topics {
    known: BTreeMap<TopicName, Known>,
    patterns: BTreeMap<String, Matches>,
    /// Names by id. Follows from what is known.
    names: BTreeMap<TopicId, TopicName>,
    /// How many members of each group name a topic. Follows from the members.
    by_name: BTreeMap<TopicName, BTreeMap<GroupId, u32>>,
    /// How many members of each group have a pattern. Follows from the members.
    by_pattern: BTreeMap<String, BTreeMap<GroupId, u32>>,
    /// How many patterns match a topic. Follows from the patterns.
    matched: BTreeMap<TopicName, u32>,
}

/// What a sight changed.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Groups with members that want something which is not as before.
    pub groups: BTreeSet<GroupId>,
    /// Lives of topics that are over.
    pub ended: BTreeSet<TopicId>,
}

impl Topics {
    pub fn known(&self) -> &BTreeMap<TopicName, Known> {
        &self.known
    }

    pub fn patterns(&self) -> &BTreeMap<String, Matches> {
        &self.patterns
    }

    pub fn name(&self, id: TopicId) -> Option<&TopicName> {
        self.names.get(&id)
    }

    pub fn life(&self, name: &TopicName) -> Option<&TopicLife> {
        self.known.get(name)?.life.as_ref()
    }

    /// Whether some member wants it.
    pub fn wanted(&self, name: &TopicName) -> bool {
        self.by_name.contains_key(name) || self.matched.contains_key(name)
    }

    pub fn wanted_names(&self) -> impl Iterator<Item = &TopicName> {
        self.by_name.keys()
    }

    pub fn wanted_patterns(&self) -> impl Iterator<Item = &str> {
        self.by_pattern.keys().map(String::as_str)
    }

    /// The topics that a member's subscription stands for, in order of their ids.
    pub fn lives<'a>(&'a self, member: &'a Member) -> BTreeMap<TopicId, &'a TopicLife> {
        let subscription = member.subscription();
        let pattern = subscription.pattern.as_ref().and_then(|pattern| self.patterns.get(pattern));
        let names = subscription.topics.iter().chain(pattern.iter().flat_map(|matches| &matches.topics));
        names.filter_map(|name| self.life(name)).map(|life| (life.id, life)).collect()
    }

    /// A member of this group wants this from now on.
    pub fn want(&mut self, group: &GroupId, subscription: &Subscription) {
        for name in &subscription.topics {
            *self.by_name.entry(name.clone()).or_default().entry(group.clone()).or_default() += 1;
        }
        if let Some(pattern) = &subscription.pattern {
            *self.by_pattern.entry(pattern.clone()).or_default().entry(group.clone()).or_default() += 1;
        }
    }

    /// The other way round; what nobody wants any more is forgotten.
    pub fn unwant(&mut self, group: &GroupId, subscription: &Subscription, changes: &mut ChangeSet) {
        for name in &subscription.topics {
            if release(&mut self.by_name, name, group) {
                self.forget(name, changes);
            }
        }
        if let Some(pattern) = &subscription.pattern
            && release(&mut self.by_pattern, pattern, group)
            && let Some(matches) = self.patterns.remove(pattern)
        {
            row::delete(changes, RowKind::TopicPattern, pattern.as_bytes());
            matches.topics.iter().for_each(|name| self.unmatch(name, changes));
        }
    }

    fn unmatch(&mut self, name: &TopicName, changes: &mut ChangeSet) {
        if let Some(patterns) = self.matched.get_mut(name) {
            *patterns = patterns.saturating_sub(1);
            if *patterns == 0 {
                self.matched.remove(name);
                self.forget(name, changes);
            }
        }
    }

    fn forget(&mut self, name: &TopicName, changes: &mut ChangeSet) {
        if self.wanted(name) {
            return;
        }
        if let Some(known) = self.known.remove(name) {
            if let Some(life) = known.life {
                self.names.remove(&life.id);
            }
            row::delete(changes, RowKind::KnownTopic, name.as_str().as_bytes());
        }
    }

    /// Takes in what the leader sees, where it is not older than what is known.
    pub fn see(&mut self, sight: &Sight, changes: &mut ChangeSet) -> Seen {
        let mut seen = Seen::default();
        // Before the patterns, so that the end of a topic is noticed before it is forgotten with the pattern that
        // matched it; and after them, for what they match only now.
        self.see_topics(sight, &mut seen, changes);
        for (pattern, topics) in &sight.patterns {
            self.see_pattern(sight.as_of, pattern, topics, &mut seen, changes);
        }
        self.see_topics(sight, &mut seen, changes);
        // Ids are controller indices: a later one was made since.
        let gone = |id: &&TopicId| id.get() <= sight.as_of.get() && !self.names.contains_key(id);
        seen.ended.extend(sight.gone.iter().filter(gone));
        seen
    }

    fn see_topics(&mut self, sight: &Sight, seen: &mut Seen, changes: &mut ChangeSet) {
        for (name, life) in &sight.topics {
            self.see_topic(sight.as_of, name, life.as_ref(), seen, changes);
        }
    }

    fn see_pattern(
        &mut self,
        as_of: LogIndex,
        pattern: &str,
        topics: &BTreeSet<TopicName>,
        seen: &mut Seen,
        changes: &mut ChangeSet,
    ) {
        let Some(groups) = self.by_pattern.get(pattern) else { return };
        let before = self.patterns.get(pattern);
        let topics: BTreeSet<_> = topics.iter().take(PATTERN_TOPICS_MAX).cloned().collect();
        if before.is_some_and(|before| {
            as_of < before.as_of || *before == Matches { as_of, topics: topics.clone() }
        }) {
            return;
        }
        if before.is_none_or(|before| before.topics != topics) {
            seen.groups.extend(groups.keys().cloned());
        }
        for name in &topics {
            *self.matched.entry(name.clone()).or_default() += 1;
        }
        let matches = Matches { as_of, topics };
        row::put(changes, RowKind::TopicPattern, pattern.as_bytes(), &matches);
        if let Some(before) = self.patterns.insert(pattern.to_owned(), matches) {
            before.topics.iter().for_each(|name| self.unmatch(name, changes));
        }
    }

    fn see_topic(
        &mut self,
        as_of: LogIndex,
        name: &TopicName,
        life: Option<&TopicLife>,
        seen: &mut Seen,
        changes: &mut ChangeSet,
    ) {
        if !self.wanted(name) || life.is_some_and(|life| self.is_other(name, life.id)) {
            return;
        }
        let before = self.known.get(name);
        if before.is_some_and(|before| as_of < before.as_of) {
            return;
        }
        let known = before.and_then(|before| before.life.as_ref());
        let mut life = life.cloned();
        if let (Some(known), Some(life)) = (known, &mut life) {
            // Ids are controller indices and partitions are never taken away: less is older.
            if life.id < known.id {
                return;
            }
            if life.id == known.id {
                life.partitions = life.partitions.max(known.partitions);
            }
        }
        // Also if it is as before it is newer: nothing from in between may undo it.
        if before.is_some_and(|before| before.as_of == as_of) && known == life.as_ref() {
            return;
        }
        let shape = |life: Option<&TopicLife>| life.map(|life| (life.id, life.partitions));
        let (was, is) = (shape(known), shape(life.as_ref()));
        if was != is {
            seen.groups.extend(self.groups_that_want(name));
        }
        if let Some((id, _)) = was
            && is.is_none_or(|(new, _)| new != id)
        {
            self.names.remove(&id);
            seen.ended.insert(id);
        }
        if let Some((id, _)) = is {
            self.names.insert(id, name.clone());
        }
        let known = Known { as_of, life };
        row::put(changes, RowKind::KnownTopic, name.as_str().as_bytes(), &known);
        self.known.insert(name.clone(), known);
    }

    /// Whether the id is known as that of another name: then the sight contradicts itself.
    fn is_other(&self, name: &TopicName, id: TopicId) -> bool {
        self.names.get(&id).is_some_and(|other| other != name)
    }

    fn groups_that_want(&self, name: &TopicName) -> BTreeSet<GroupId> {
        let named = self.by_name.get(name).into_iter().flat_map(BTreeMap::keys);
        let patterns = self.patterns.iter().filter(|(_, matches)| matches.topics.contains(name));
        let matched =
            patterns.filter_map(|(pattern, _)| self.by_pattern.get(pattern)).flat_map(BTreeMap::keys);
        named.chain(matched).cloned().collect()
    }

    pub fn rows(&self, out: &mut Vec<(Bytes, Bytes)>) {
        let known =
            |(name, known): (&TopicName, _)| row::row(RowKind::KnownTopic, name.as_str().as_bytes(), known);
        out.extend(self.known.iter().map(known));
        let pattern =
            |(text, matches): (&String, _)| row::row(RowKind::TopicPattern, text.as_bytes(), matches);
        out.extend(self.patterns.iter().map(pattern));
    }

    pub fn load_known(&mut self, name: TopicName, known: Known) -> Result<(), String> {
        if known.life.as_ref().is_some_and(|life| life.partitions > TOPIC_MAX_PARTITIONS) {
            return Err(format!("topic {name} has more partitions than there can be"));
        }
        if let Some(life) = &known.life
            && let Some(other) = self.names.insert(life.id, name.clone())
        {
            return Err(format!("topics {other} and {name} both have id {}", life.id));
        }
        self.known.insert(name, known);
        Ok(())
    }

    pub fn load_pattern(&mut self, pattern: String, matches: Matches) {
        for name in &matches.topics {
            *self.matched.entry(name.clone()).or_default() += 1;
        }
        self.patterns.insert(pattern, matches);
    }

    /// Says what is known though nobody wants it: members and topics contradict each other.
    pub fn check_loaded(&self) -> Result<(), String> {
        if let Some(name) = self.known.keys().find(|name| !self.wanted(name)) {
            return Err(format!("topic {name} is known and no member wants it"));
        }
        match self.patterns.keys().find(|pattern| !self.by_pattern.contains_key(*pattern)) {
            Some(pattern) => Err(format!("pattern {pattern:?} is known and no member has it")),
            None => Ok(()),
        }
    }
}

/// One member of the group less; whether nobody is left.
fn release<K: Ord + Clone>(
    wants: &mut BTreeMap<K, BTreeMap<GroupId, u32>>,
    key: &K,
    group: &GroupId,
) -> bool {
    let Some(groups) = wants.get_mut(key) else { return false };
    if let Some(members) = groups.get_mut(group) {
        *members = members.saturating_sub(1);
        if *members == 0 {
            groups.remove(group);
        }
    }
    if groups.is_empty() {
        wants.remove(key);
        return true;
    }
    false
}
