//! What the controller answers.

use flotilla_types::error::Describe;
use flotilla_types::topic::InvalidConfig;
use flotilla_types::{ClusterId, Failure, NodeId, ProducerId, Reason, ShardId, StoreId, TopicId, TopicName};

/// The answer to one command.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The cluster exists with this id.
    Bootstrapped {
        /// The cluster.
        cluster: ClusterId,
    },
    /// The node is known as the command says.
    NodeKnown {
        /// The node.
        node: NodeId,
    },
    /// The node is out for good.
    NodeRetired {
        /// The node.
        node: NodeId,
    },
    /// The topic exists.
    TopicCreated {
        /// Its id.
        topic: TopicId,
        /// Its partitions' shards, by partition.
        shards: Vec<ShardId>,
    },
    /// The topic has these settings and labels.
    TopicUpdated {
        /// Which topic.
        topic: TopicId,
    },
    /// The topic has these partitions.
    PartitionsAdded {
        /// Which topic.
        topic: TopicId,
        /// Shards of the partitions from the command's `from` on.
        shards: Vec<ShardId>,
    },
    /// The topic is not there (any more).
    TopicDeleted {
        /// Which topic.
        topic: TopicId,
        /// Shards that went with it; none if it was gone before.
        shards: Vec<ShardId>,
    },
    /// The partition's replicas are to be there.
    ReplicasPlaced {
        /// Which partition.
        shard: ShardId,
    },
    /// The coordinators are to be there.
    CoordinatorsPlaced {
        /// Their shards, by number.
        shards: Vec<ShardId>,
    },
    /// These ids are the caller's alone.
    ProducerIds {
        /// The first.
        first: ProducerId,
        /// How many, from the first.
        count: u32,
    },
    /// The feature has this level.
    FeatureSet {
        /// Its level now.
        level: u32,
    },
    /// The setting has this value.
    SettingSet,
    /// Nothing was changed. Definite.
    Refused(Refusal),
}

/// Why nothing was changed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// The first command must be `Bootstrap`.
    #[error("the cluster is not bootstrapped yet")]
    NotBootstrapped,
    /// This controller belongs to another cluster.
    #[error("the cluster is {known}, not {given}")]
    ClusterMismatch {
        /// This one.
        known: ClusterId,
        /// As given.
        given: ClusterId,
    },
    /// The id belongs to another data directory. A lost disk comes back under a new node id.
    #[error("node {node} has store {known}, not {given}: a new store needs a new node id")]
    StoreMismatch {
        /// The node.
        node: NodeId,
        /// The store it registered with first.
        known: StoreId,
        /// As given.
        given: StoreId,
    },
    /// The data directory belongs to another node id.
    #[error("store {store} belongs to node {owner}, not to node {given}")]
    StoreTaken {
        /// The store.
        store: StoreId,
        /// Who registered with it.
        owner: NodeId,
        /// Who tries to.
        given: NodeId,
    },
    /// No such node.
    #[error("node {node} is not known")]
    NodeUnknown {
        /// As given.
        node: NodeId,
    },
    /// The node was taken out; its id is never used again.
    #[error("node {node} is retired, its id cannot be used again")]
    NodeRetired {
        /// As given.
        node: NodeId,
    },
    /// Move its replicas away first.
    #[error("node {node} still carries {replicas} replicas")]
    NodeInUse {
        /// As given.
        node: NodeId,
        /// How many are placed on it.
        replicas: usize,
    },
    /// A field that cannot be right.
    #[error("{field} is {value}, {expected}")]
    Invalid {
        /// Which field.
        field: &'static str,
        /// As given.
        value: String,
        /// What would be right.
        expected: &'static str,
    },
    /// A topic setting that cannot be right.
    #[error(transparent)]
    InvalidConfig(#[from] InvalidConfig),
    /// A limit of the cluster is reached.
    #[error("{what} would be more than the limit {limit}")]
    LimitReached {
        /// Of what there are too many.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// The name is taken.
    #[error("topic {name} exists")]
    TopicExists {
        /// The name.
        name: TopicName,
        /// Who has it.
        topic: TopicId,
    },
    /// No such topic.
    #[error("topic {topic} is not known")]
    TopicUnknown {
        /// As given.
        topic: TopicId,
    },
    /// Somebody else changed the number of partitions meanwhile.
    #[error("topic {topic} has {actual} partitions, expected {expected}")]
    PartitionCountChanged {
        /// Which topic.
        topic: TopicId,
        /// As the command expected.
        expected: u32,
        /// As it is.
        actual: u32,
    },
    /// No such partition.
    #[error("shard {shard} is not a placed partition")]
    ShardUnknown {
        /// As given.
        shard: ShardId,
    },
    /// The replicas are no longer where they were when this was planned.
    #[error("replicas of shard {shard} are not where the plan expects them")]
    PlacementChanged {
        /// Which partition.
        shard: ShardId,
    },
    /// Levels never fall: state of the higher one may exist.
    #[error("feature {name} has level {current}, it cannot fall to {given}")]
    FeatureLevelFalls {
        /// Which feature.
        name: String,
        /// Its level.
        current: u32,
        /// As given.
        given: u32,
    },
}

impl Describe for Refusal {
    fn describe(&self) -> Failure {
        let reason = match self {
            Self::NotBootstrapped => Reason::LeaderNotAvailable,
            Self::ClusterMismatch { .. }
            | Self::StoreMismatch { .. }
            | Self::StoreTaken { .. }
            | Self::NodeRetired { .. }
            | Self::NodeInUse { .. }
            | Self::Invalid { .. }
            | Self::InvalidConfig(_)
            | Self::PartitionCountChanged { .. }
            | Self::PlacementChanged { .. }
            | Self::FeatureLevelFalls { .. } => Reason::InvalidArgument,
            Self::LimitReached { .. } => Reason::QuotaExceeded,
            Self::NodeUnknown { .. } | Self::TopicUnknown { .. } | Self::ShardUnknown { .. } => {
                Reason::NotFound
            }
            Self::TopicExists { .. } => Reason::AlreadyExists,
        };
        Failure::new(reason, self.to_string())
    }
}
