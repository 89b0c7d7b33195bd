//! The controller: what the cluster is meant to look like. Intent only: who leads and who lives is not here.

mod command;
mod coordinators;
mod features;
mod nodes;
mod outcome;
mod placement;
mod settings;
mod topics;

pub use command::{Command, NodeSpec};
pub use coordinators::PlacedCoordinator;
pub use nodes::{NODES_MAX, Node};
pub use outcome::{Outcome, Refusal};
pub use placement::{PlacedPartition, Replica};
pub use topics::{LABEL_VALUE_MAX, LABELS_MAX, PARTITIONS_MAX, Topic};

use crate::encoding::fields;
use crate::outcome::{Broken, Outcome as Answer, PurgeTo};
use crate::row::{self, Row, RowKind};
use crate::shard::Ruled;
use bytes::Bytes;
use coordinators::Coordinators;
use features::Features;
use flotilla_types::{
    ChangeSet, ClusterId, LogId, LogIndex, NodeId, Offset, PartitionId, ProducerId, ShardId, TopicId,
    TopicName,
};
use nodes::Nodes;
use settings::Settings;
use std::collections::BTreeMap;
use topics::{NewTopic, Topics};

/// A checkpoint of the whole state is made, and the log purged to it, after this many commands.
pub const CHECKPOINT_EVERY: u32 = 1024;
/// Most producer ids in one block.
pub const PRODUCER_ID_BLOCK_MAX: u32 = 100_000;

/// The controller's state.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Controller {
    head: Head,
    nodes: Nodes,
    topics: Topics,
    features: Features,
    settings: Settings,
    coordinators: Coordinators,
}

/// What every command changes.
#[derive(Clone, Debug, PartialEq)]
struct Head {
    /// Absent until bootstrap.
    cluster: Option<ClusterId>,
    /// The next partition's. Never goes back.
    next_shard: ShardId,
    /// The first that was not given out.
    next_producer: ProducerId,
    /// The last command that changed anything here but this row.
    version: LogIndex,
    /// Commands since the last checkpoint.
    commands: u32,
    /// The last checkpoint.
    checkpoint: Option<LogIndex>,
}

fields!(Head { cluster, next_shard, next_producer, version, commands, checkpoint });

impl Default for Head {
    fn default() -> Self {
        Self {
            cluster: None,
            next_shard: ShardId::FIRST_PARTITION,
            next_producer: ProducerId(1),
            version: LogIndex(0),
            commands: 0,
            checkpoint: None,
        }
    }
}

/// What the controller knows of a shard number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShardFate {
    /// A partition that is to be.
    Placed,
    /// It was a partition once and was deleted with its topic.
    Deleted,
    /// The controller never gave out this number.
    Unknown,
}

impl Controller {
    /// The cluster, once bootstrapped.
    pub fn cluster_id(&self) -> Option<ClusterId> {
        self.head.cluster
    }

    /// All nodes, retired ones included, by id.
    pub fn nodes(&self) -> &BTreeMap<NodeId, Node> {
        self.nodes.all()
    }

    /// All topics, by name.
    pub fn topics(&self) -> &BTreeMap<TopicName, Topic> {
        self.topics.all()
    }

    /// One topic.
    pub fn topic_by_id(&self, id: TopicId) -> Option<(&TopicName, &Topic)> {
        self.topics.by_id(id)
    }

    /// The partition a shard carries.
    pub fn partition_of(&self, shard: ShardId) -> Option<(&TopicName, PartitionId, &PlacedPartition)> {
        self.topics.by_shard(shard)
    }

    /// Partitions in all topics.
    pub fn partition_count(&self) -> usize {
        self.topics.partitions()
    }

    /// Whether a partition's shard is to be, is gone for good, or was never heard of.
    pub fn fate(&self, shard: ShardId) -> ShardFate {
        if self.topics.by_shard(shard).is_some() || self.coordinators.of(shard).is_some() {
            ShardFate::Placed
        } else if shard.is_partition() && shard < self.head.next_shard {
            ShardFate::Deleted
        } else {
            ShardFate::Unknown
        }
    }

    /// The coordinators, by number. Empty until they are placed.
    pub fn coordinators(&self) -> &[PlacedCoordinator] {
        self.coordinators.all()
    }

    /// One coordinator.
    pub fn coordinator(&self, shard: ShardId) -> Option<&PlacedCoordinator> {
        self.coordinators.of(shard)
    }

    /// The next partition's shard. Numbers below it are never given out again.
    pub fn next_shard_id(&self) -> ShardId {
        self.head.next_shard
    }

    /// The first producer id that was not given out.
    pub fn next_producer_id(&self) -> ProducerId {
        self.head.next_producer
    }

    /// Feature levels, by name.
    pub fn features(&self) -> &BTreeMap<String, u32> {
        self.features.all()
    }

    /// A feature's level; 0 if it was never set.
    pub fn feature(&self, name: &str) -> u32 {
        self.features.level(name)
    }

    /// Cluster-wide settings, by name.
    pub fn settings(&self) -> &BTreeMap<String, String> {
        self.settings.all()
    }

    /// The log index of the last command that changed anything.
    pub fn version(&self) -> LogIndex {
        self.head.version
    }

    /// How far the log may be purged.
    pub fn purge_to(&self) -> Option<PurgeTo> {
        self.head.checkpoint.map(purge_to)
    }

    pub(crate) fn apply(&mut self, at: LogId, command: &Command) -> Result<Ruled, Broken> {
        let mut changes = ChangeSet::default();
        let before = self.head.clone();
        let outcome = match self.dispatch(at.index, command, &mut changes) {
            Ok(outcome) => outcome,
            Err(_) if !changes.is_empty() || self.head != before => {
                return Err(Broken::new(format!("command at {at} was refused half way")));
            }
            Err(refusal) => Outcome::Refused(refusal),
        };
        if !changes.is_empty() || self.head != before {
            self.head.version = at.index;
        }
        self.head.commands = self.head.commands.saturating_add(1);
        let checkpoint = self.head.commands >= CHECKPOINT_EVERY;
        if checkpoint {
            self.head.commands = 0;
            self.head.checkpoint = Some(at.index);
        }
        row::put(&mut changes, RowKind::Controller, &[], &self.head);
        let purge_to = checkpoint.then(|| purge_to(at.index));
        Ok(Ruled { outcome: Answer::Controller(outcome), changes, checkpoint, purge_to })
    }

    /// Every arm checks before it changes anything.
    fn dispatch(
        &mut self,
        at: LogIndex,
        command: &Command,
        changes: &mut ChangeSet,
    ) -> Result<Outcome, Refusal> {
        if let Command::Bootstrap { cluster, nodes } = command {
            return self.bootstrap(*cluster, nodes, changes);
        }
        if self.head.cluster.is_none() {
            return Err(Refusal::NotBootstrapped);
        }
        let Self { head, nodes, topics, features, settings, coordinators } = self;
        match command {
            Command::Bootstrap { cluster, .. } => Ok(Outcome::Bootstrapped { cluster: *cluster }),
            Command::PlaceCoordinators { placement, now: _ } => {
                coordinators.place(at, placement, nodes, changes)
            }
            Command::RegisterNode { node, store } => nodes.register(node, *store, changes),
            Command::UpdateNode { node } => nodes.update(node, changes),
            Command::RetireNode { node } => nodes.retire(*node, topics.replicas_on(*node), changes),
            Command::CreateTopic { name, config, labels, placement, now, request } => {
                let new = NewTopic { name, config, labels, placement, now: *now, request: *request };
                topics.create(at, &new, nodes, &mut head.next_shard, changes)
            }
            Command::UpdateTopic { topic, config, labels } => topics.update(*topic, config, labels, changes),
            Command::AddPartitions { topic, from, placement } => {
                let next_shard = &mut head.next_shard;
                topics.add_partitions(at, (*topic, *from), placement, nodes, next_shard, changes)
            }
            Command::DeleteTopic { topic } => topics.delete(at, *topic, changes),
            Command::PlaceReplicas { shard, from, replicas } => {
                topics.place_replicas(at, *shard, from.as_deref(), replicas, nodes, changes)
            }
            Command::AllocateProducerIds { count } => allocate(&mut head.next_producer, *count),
            Command::SetFeature { name, level } => features.set(name, *level, changes),
            Command::SetSetting { name, value } => settings.set(name, value.as_deref(), changes),
        }
    }

    fn bootstrap(
        &mut self,
        given: ClusterId,
        nodes: &[NodeSpec],
        changes: &mut ChangeSet,
    ) -> Result<Outcome, Refusal> {
        match self.head.cluster {
            // Every initial node may propose it: the first one counts.
            Some(known) if known == given => {}
            Some(known) => return Err(Refusal::ClusterMismatch { known, given }),
            None => {
                self.nodes.bootstrap(nodes, changes)?;
                self.head.cluster = Some(given);
            }
        }
        Ok(Outcome::Bootstrapped { cluster: given })
    }

    pub(crate) fn rows(&self, out: &mut Vec<(Bytes, Bytes)>) {
        if self.head != Head::default() {
            out.push(row::row(RowKind::Controller, &[], &self.head));
        }
        self.nodes.rows(out);
        self.topics.rows(out);
        self.features.rows(out);
        self.settings.rows(out);
        self.coordinators.rows(out);
    }

    pub(crate) fn load(&mut self, row: Row<'_>) -> Result<(), Broken> {
        match row.kind {
            RowKind::Controller => row.id_none().and_then(|()| row.value().map(|head| self.head = head)),
            RowKind::Node => self.nodes.load(row),
            RowKind::Topic | RowKind::PlacedPartition => self.topics.load(row),
            RowKind::PlacedCoordinator => self.coordinators.load(row),
            RowKind::Feature => self.features.load(row),
            RowKind::Setting => self.settings.load(row),
            _ => Err(row.misplaced()),
        }
    }

    pub(crate) fn check_loaded(&mut self) -> Result<(), Broken> {
        self.topics.check_loaded(self.head.next_shard)
    }
}

fn purge_to(index: LogIndex) -> PurgeTo {
    PurgeTo { index, index_rows_below: Offset(0) }
}

fn allocate(next: &mut ProducerId, count: u32) -> Result<Outcome, Refusal> {
    let end = next.get().checked_add(u64::from(count));
    match end {
        Some(end) if (1..=PRODUCER_ID_BLOCK_MAX).contains(&count) && i64::try_from(end).is_ok() => {
            let first = std::mem::replace(next, ProducerId(end));
            Ok(Outcome::ProducerIds { first, count })
        }
        _ => Err(Refusal::Invalid {
            field: "count",
            value: count.to_string(),
            expected: "expected 1 to 100000 producer ids, as long as there are any",
        }),
    }
}
