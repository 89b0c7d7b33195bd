//! Topics and their partitions. A topic's id is the log index of the command that made it, so a topic that
//! is deleted and made again is another one; partitions' shards are numbered once and for all.

use super::nodes::Nodes;
use super::outcome::{Outcome, Refusal};
use super::placement::{self, PlacedPartition, Replica};
use crate::encoding::fields;
use crate::outcome::Broken;
use crate::row::{self, Row, RowKind};
use bytes::Bytes;
use flotilla_types::limits::TOPIC_MAX_PARTITIONS;
use flotilla_types::topic::TopicConfig;
use flotilla_types::{ChangeSet, LogIndex, NodeId, PartitionId, ShardId, TimestampMs, TopicId, TopicName};
use std::collections::BTreeMap;

/// Most partitions in all topics together.
pub const PARTITIONS_MAX: u64 = 200_000;
/// Most labels of a topic.
pub const LABELS_MAX: usize = 64;
/// Longest value of a label, in bytes. Keys follow the rule of names.
pub const LABEL_VALUE_MAX: usize = 1024;

/// A topic.
#[derive(Clone, Debug, PartialEq)]
pub struct Topic {
    /// This life of it.
    pub id: TopicId,
    /// Its settings.
    pub config: TopicConfig,
    /// Free text by key.
    pub labels: BTreeMap<String, String>,
    /// Its partitions, from 0.
    pub partitions: Vec<PlacedPartition>,
    /// The proposer's clock when it was made.
    pub created_at: TimestampMs,
    /// Which request made it; 0 = not said.
    pub request: u128,
}

/// A topic's row. Its partitions have rows of their own.
#[derive(Debug)]
struct StoredTopic {
    name: TopicName,
    config: TopicConfig,
    labels: BTreeMap<String, String>,
    created_at: TimestampMs,
    request: u128,
}

fields!(StoredTopic { name, config, labels, created_at, request });

/// A partition's row.
#[derive(Debug)]
struct StoredPartition {
    topic: TopicId,
    partition: PartitionId,
    replicas: Vec<Replica>,
}

fields!(StoredPartition { topic, partition, replicas });

/// All topics, found by name, by id and by a partition's shard.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Topics {
    by_name: BTreeMap<TopicName, Topic>,
    names: BTreeMap<TopicId, TopicName>,
    shards: BTreeMap<ShardId, (TopicId, PartitionId)>,
    /// Partitions read before their topic, while loading.
    loading: BTreeMap<(TopicId, PartitionId), PlacedPartition>,
}

/// What a topic is made of.
pub(super) struct NewTopic<'a> {
    pub name: &'a TopicName,
    pub config: &'a TopicConfig,
    pub labels: &'a BTreeMap<String, String>,
    pub placement: &'a [Vec<NodeId>],
    pub now: TimestampMs,
    pub request: u128,
}

impl Topics {
    pub fn all(&self) -> &BTreeMap<TopicName, Topic> {
        &self.by_name
    }

    pub fn by_id(&self, id: TopicId) -> Option<(&TopicName, &Topic)> {
        self.by_name.get_key_value(self.names.get(&id)?)
    }

    pub fn by_shard(&self, shard: ShardId) -> Option<(&TopicName, PartitionId, &PlacedPartition)> {
        let (topic, partition) = self.shards.get(&shard)?;
        let (name, topic) = self.by_id(*topic)?;
        Some((name, *partition, topic.partitions.get(partition.get() as usize)?))
    }

    /// How many partitions there are in all topics.
    pub fn partitions(&self) -> usize {
        self.shards.len()
    }

    /// How many replicas are placed on a node.
    pub fn replicas_on(&self, node: NodeId) -> usize {
        let partitions = self.by_name.values().flat_map(|topic| &topic.partitions);
        partitions.filter(|partition| partition.nodes().any(|other| other == node)).count()
    }

    pub fn create(
        &mut self,
        at: LogIndex,
        new: &NewTopic<'_>,
        nodes: &Nodes,
        next_shard: &mut ShardId,
        changes: &mut ChangeSet,
    ) -> Result<Outcome, Refusal> {
        if let Some(topic) = self.by_name.get(new.name) {
            if topic.request != 0 && topic.request == new.request {
                let shards = topic.partitions.iter().map(|partition| partition.shard).collect();
                return Ok(Outcome::TopicCreated { topic: topic.id, shards });
            }
            return Err(Refusal::TopicExists { name: new.name.clone(), topic: topic.id });
        }
        new.config.check()?;
        check_labels(new.labels)?;
        self.check_placement(0, new.placement, nodes, *next_shard)?;
        let id = TopicId(at.get());
        let topic = Topic {
            id,
            config: new.config.clone(),
            labels: new.labels.clone(),
            partitions: Vec::with_capacity(new.placement.len()),
            created_at: new.now,
            request: new.request,
        };
        put_topic(new.name, &topic, changes);
        self.by_name.insert(new.name.clone(), topic);
        self.names.insert(id, new.name.clone());
        Ok(Outcome::TopicCreated {
            topic: id,
            shards: self.place(id, at, new.placement, next_shard, changes),
        })
    }

    pub fn update(
        &mut self,
        id: TopicId,
        config: &TopicConfig,
        labels: &BTreeMap<String, String>,
        changes: &mut ChangeSet,
    ) -> Result<Outcome, Refusal> {
        let unknown = Refusal::TopicUnknown { topic: id };
        let Some(name) = self.names.get(&id) else { return Err(unknown) };
        let Some(topic) = self.by_name.get_mut(name) else { return Err(unknown) };
        config.check()?;
        check_labels(labels)?;
        if topic.config != *config || topic.labels != *labels {
            topic.config = config.clone();
            topic.labels = labels.clone();
            put_topic(name, topic, changes);
        }
        Ok(Outcome::TopicUpdated { topic: id })
    }

    pub fn add_partitions(
        &mut self,
        at: LogIndex,
        (id, from): (TopicId, u32),
        placement: &[Vec<NodeId>],
        nodes: &Nodes,
        next_shard: &mut ShardId,
        changes: &mut ChangeSet,
    ) -> Result<Outcome, Refusal> {
        let (_, topic) = self.by_id(id).ok_or(Refusal::TopicUnknown { topic: id })?;
        let actual = topic.partitions.len();
        // A repeat: the new ones are there already.
        if !placement.is_empty() && actual == (from as usize).saturating_add(placement.len()) {
            let added = topic.partitions.iter().skip(from as usize);
            return Ok(Outcome::PartitionsAdded { topic: id, shards: added.map(|p| p.shard).collect() });
        }
        if actual != from as usize {
            let (expected, actual) = (from, actual as u32);
            return Err(Refusal::PartitionCountChanged { topic: id, expected, actual });
        }
        self.check_placement(actual, placement, nodes, *next_shard)?;
        let shards = self.place(id, at, placement, next_shard, changes);
        Ok(Outcome::PartitionsAdded { topic: id, shards })
    }

    pub fn delete(&mut self, at: LogIndex, id: TopicId, changes: &mut ChangeSet) -> Result<Outcome, Refusal> {
        if id.get() >= at.get() {
            return Err(Refusal::TopicUnknown { topic: id });
        }
        let topic = self.names.remove(&id).and_then(|name| self.by_name.remove(&name));
        // Ids are never reused, so one that is not there is gone: the answer to a repeat.
        let Some(topic) = topic else { return Ok(Outcome::TopicDeleted { topic: id, shards: Vec::new() }) };
        row::delete(changes, RowKind::Topic, &id.get().to_be_bytes());
        let shards: Vec<ShardId> = topic.partitions.iter().map(|partition| partition.shard).collect();
        for shard in &shards {
            self.shards.remove(shard);
            row::delete(changes, RowKind::PlacedPartition, &shard.get().to_be_bytes());
        }
        Ok(Outcome::TopicDeleted { topic: id, shards })
    }

    pub fn place_replicas(
        &mut self,
        at: LogIndex,
        shard: ShardId,
        from: Option<&[NodeId]>,
        replicas: &[NodeId],
        nodes: &Nodes,
        changes: &mut ChangeSet,
    ) -> Result<Outcome, Refusal> {
        let unknown = Refusal::ShardUnknown { shard };
        let Some((_, _, placed)) = self.by_shard(shard) else { return Err(unknown) };
        placement::check(nodes, replicas)?;
        // A repeat finds them where they are to be, not where they were.
        if placed.nodes().eq(replicas.iter().copied()) {
            return Ok(Outcome::ReplicasPlaced { shard });
        }
        if from.is_some_and(|from| !placed.nodes().eq(from.iter().copied())) {
            return Err(Refusal::PlacementChanged { shard });
        }
        let places = placement::places(&placed.replicas, replicas, at);
        let Some((topic, partition)) = self.shards.get(&shard).copied() else { return Err(unknown) };
        let stored = StoredPartition { topic, partition, replicas: places.clone() };
        row::put(changes, RowKind::PlacedPartition, &shard.get().to_be_bytes(), &stored);
        if let Some(placed) = self.placed_mut(topic, partition) {
            placed.replicas = places;
        }
        Ok(Outcome::ReplicasPlaced { shard })
    }

    fn placed_mut(&mut self, topic: TopicId, partition: PartitionId) -> Option<&mut PlacedPartition> {
        let topic = self.by_name.get_mut(self.names.get(&topic)?)?;
        topic.partitions.get_mut(partition.get() as usize)
    }

    /// Refuses partitions that cannot be added to a topic that has `existing` ones.
    fn check_placement(
        &self,
        existing: usize,
        placement: &[Vec<NodeId>],
        nodes: &Nodes,
        next_shard: ShardId,
    ) -> Result<(), Refusal> {
        let count = existing.saturating_add(placement.len());
        if placement.is_empty() || count > TOPIC_MAX_PARTITIONS as usize {
            return Err(Refusal::Invalid {
                field: "partition_count",
                value: count.to_string(),
                expected: "expected at least one new partition and at most 10000",
            });
        }
        let added = placement.len() as u64;
        if self.shards.len() as u64 + added > PARTITIONS_MAX {
            return Err(Refusal::LimitReached { what: "partitions", limit: PARTITIONS_MAX });
        }
        if u64::from(next_shard.get()) + added > u64::from(u32::MAX) {
            return Err(Refusal::LimitReached { what: "shards", limit: u64::from(u32::MAX) });
        }
        placement.iter().try_for_each(|replicas| placement::check(nodes, replicas))
    }

    /// Adds partitions that were checked, and answers their shards.
    fn place(
        &mut self,
        id: TopicId,
        at: LogIndex,
        placement: &[Vec<NodeId>],
        next_shard: &mut ShardId,
        changes: &mut ChangeSet,
    ) -> Vec<ShardId> {
        let Some(topic) = self.names.get(&id).and_then(|name| self.by_name.get_mut(name)) else {
            return Vec::new();
        };
        let mut shards = Vec::with_capacity(placement.len());
        for nodes in placement {
            let partition = PartitionId(topic.partitions.len() as u32);
            let (shard, replicas) = (*next_shard, placement::places(&[], nodes, at));
            *next_shard = ShardId(shard.get().saturating_add(1));
            let stored = StoredPartition { topic: id, partition, replicas: replicas.clone() };
            row::put(changes, RowKind::PlacedPartition, &shard.get().to_be_bytes(), &stored);
            topic.partitions.push(PlacedPartition { shard, replicas });
            self.shards.insert(shard, (id, partition));
            shards.push(shard);
        }
        shards
    }

    pub fn rows(&self, out: &mut Vec<(Bytes, Bytes)>) {
        for (id, name) in &self.names {
            if let Some(topic) = self.by_name.get(name) {
                out.push(row::row(RowKind::Topic, &id.get().to_be_bytes(), &stored(name, topic)));
            }
        }
        for (shard, (topic, partition)) in &self.shards {
            if let Some((_, _, placed)) = self.by_shard(*shard) {
                let replicas = placed.replicas.clone();
                let stored = StoredPartition { topic: *topic, partition: *partition, replicas };
                out.push(row::row(RowKind::PlacedPartition, &shard.get().to_be_bytes(), &stored));
            }
        }
    }

    pub fn load(&mut self, row: Row<'_>) -> Result<(), Broken> {
        if row.kind == RowKind::Topic {
            let id = TopicId(row.id_u64()?);
            let StoredTopic { name, config, labels, created_at, request } = row.value()?;
            let topic = Topic { id, config, labels, partitions: Vec::new(), created_at, request };
            self.names.insert(id, name.clone());
            if let Some(other) = self.by_name.insert(name.clone(), topic) {
                return Err(Broken::new(format!("topics {} and {id} are both called {name}", other.id)));
            }
        } else {
            let shard = ShardId(row.id_u32()?);
            let StoredPartition { topic, partition, replicas } = row.value()?;
            self.shards.insert(shard, (topic, partition));
            self.loading.insert((topic, partition), PlacedPartition { shard, replicas });
        }
        Ok(())
    }

    /// Gives every partition that was read to its topic.
    pub fn check_loaded(&mut self, next_shard: ShardId) -> Result<(), Broken> {
        if let Some((last, _)) = self.shards.last_key_value()
            && *last >= next_shard
        {
            return Err(Broken::new(format!("shard {last} is placed, the next one is {next_shard}")));
        }
        let mut loaded = 0;
        for ((id, partition), placed) in std::mem::take(&mut self.loading) {
            let topic = self.names.get(&id).and_then(|name| self.by_name.get_mut(name));
            let topic = topic.ok_or_else(|| Broken::new(format!("partition of no topic {id}")))?;
            if topic.partitions.len() != partition.get() as usize {
                return Err(Broken::new(format!("topic {id} lacks a partition before {partition}")));
            }
            topic.partitions.push(placed);
            loaded += 1;
        }
        if loaded != self.shards.len() {
            return Err(Broken::new("two shards carry the same partition"));
        }
        Ok(())
    }
}

fn put_topic(name: &TopicName, topic: &Topic, changes: &mut ChangeSet) {
    row::put(changes, RowKind::Topic, &topic.id.get().to_be_bytes(), &stored(name, topic));
}

fn stored(name: &TopicName, topic: &Topic) -> StoredTopic {
    let Topic { config, labels, created_at, request, .. } = topic.clone();
    StoredTopic { name: name.clone(), config, labels, created_at, request }
}

fn check_labels(labels: &BTreeMap<String, String>) -> Result<(), Refusal> {
    if labels.len() > LABELS_MAX {
        return Err(Refusal::LimitReached { what: "labels", limit: LABELS_MAX as u64 });
    }
    for (key, value) in labels {
        if flotilla_types::name::check(key).is_err() || value.len() > LABEL_VALUE_MAX {
            let key: String = key.chars().take(80).collect();
            return Err(Refusal::Invalid {
                field: "labels",
                value: format!("{key:?} with {} bytes", value.len()),
                expected: "expected keys of A-Z a-z 0-9 . _ - and values of at most 1024 bytes",
            });
        }
    }
    Ok(())
}
