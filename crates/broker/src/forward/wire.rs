//! Forwarded calls as bytes: a version, then JSON. Small and rare, so that what is readable wins.

use crate::admin::{CreateTopic, Error, Topic, Trim, UpdateTopic};
use crate::events::Event;
use crate::groups::{self, End, Want};
use crate::partitions::{PartitionState, Replica, Role};
use crate::reports::NodeReport;
use bytes::Bytes;
use flotilla_machine::controller::NodeSpec;
use flotilla_types::error::Describe;
use flotilla_types::topic::{Retention, TopicConfig};
use flotilla_types::{
    Action, Failure, LeaderHint, LogIndex, NodeId, Offset, PartitionId, Reason, ShardId, StoreId, Term,
    TopicId, TopicName,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

const VERSION: u8 = 1;

/// What one node asks of another. Names and numbers on the wire are plain; they are checked when read.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Call {
    CreateTopic {
        topic: TopicDto,
        validate_only: bool,
        request: u128,
    },
    UpdateTopic {
        topic: TopicDto,
        id: Option<u64>,
        fields: Vec<String>,
        validate_only: bool,
    },
    DeleteTopic {
        name: String,
        id: Option<u64>,
    },
    Trim {
        shard: u32,
        before: Option<u64>,
    },
    RegisterNode {
        id: u32,
        peer: String,
        client: String,
        rack: Option<String>,
        store: StoreId,
    },
    AllocateProducerIds {
        count: u32,
    },
    /// What the controller's leader has applied, confirmed by a majority.
    Version,
    /// How the partitions that the asked node leads stand; all of them, or these.
    Report {
        shards: Option<Vec<u32>>,
    },
    Transfer {
        shard: u32,
        to: Option<u32>,
    },
    /// Where partitions that the asked node leads begin and end.
    Ends {
        asked: Vec<(u32, Want)>,
    },
    /// About a group that the asked node coordinates.
    Group(Box<groups::Call>),
    /// Events of the asked node after this number, as soon as there are any, at most after `wait_ms`.
    Events {
        after: Option<u64>,
        wait_ms: u64,
    },
}

/// What comes back.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    Topic { topic: TopicDto, version: u64 },
    Done { version: u64 },
    Trimmed { log_start: u64 },
    ProducerIds { first: u64, count: u32 },
    Version { version: u64 },
    Report(Box<NodeReport>),
    Ends(Vec<(u32, End)>),
    Group(Box<groups::Answer>),
    Events { events: Vec<Event>, last: u64 },
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct TopicDto {
    pub name: String,
    pub id: u64,
    pub partition_count: u32,
    pub replication_factor: u32,
    pub config: ConfigDto,
    pub labels: BTreeMap<String, String>,
    pub created_at: i64,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct ConfigDto {
    retention_ms: Option<u64>,
    retention_unlimited: bool,
    retention_bytes: Option<u64>,
    max_batch_bytes: Option<u32>,
    dedup_window_ms: Option<u64>,
    trace_sample_ratio: Option<f64>,
}

/// For `#[serde(with = ...)]` on a failure that is part of an answer.
pub(crate) mod failure {
    use super::{Failure, FailureDto};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<S: Serializer>(failure: &Failure, to: S) -> Result<S::Ok, S::Error> {
        FailureDto::from(failure).serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Failure, D::Error> {
        FailureDto::deserialize(from).map(|dto| Failure::from(&dto))
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct FailureDto {
    reason: i32,
    action: u8,
    message: String,
    retry_after_ms: Option<u64>,
    leader: Option<(u32, String, u64)>,
    metadata: Vec<(String, String)>,
    outcome_unknown: bool,
}

/// A partition's state between nodes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct StateDto {
    pub shard: u32,
    pub leader: Option<u32>,
    pub term: u64,
    pub replicas: Vec<ReplicaDto>,
    pub log_start: u64,
    pub last_stable: u64,
    pub high_watermark: u64,
    pub size_bytes: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ReplicaDto {
    pub node: u32,
    pub role: Role,
    pub matched: u64,
    pub lag_entries: u64,
    pub lag_ms: u64,
}

impl From<&TopicConfig> for ConfigDto {
    fn from(config: &TopicConfig) -> Self {
        Self {
            retention_ms: match config.retention {
                Some(Retention::For(time)) => Some(time.as_millis() as u64),
                _ => None,
            },
            retention_unlimited: config.retention == Some(Retention::Unlimited),
            retention_bytes: config.retention_bytes,
            max_batch_bytes: config.max_batch_bytes,
            dedup_window_ms: config.dedup_window.map(|window| window.as_millis() as u64),
            trace_sample_ratio: config.trace_sample_ratio,
        }
    }
}

impl From<&ConfigDto> for TopicConfig {
    fn from(config: &ConfigDto) -> Self {
        let retention = config.retention_ms.map(|ms| Retention::For(Duration::from_millis(ms)));
        Self {
            retention: if config.retention_unlimited { Some(Retention::Unlimited) } else { retention },
            retention_bytes: config.retention_bytes,
            max_batch_bytes: config.max_batch_bytes,
            dedup_window: config.dedup_window_ms.map(Duration::from_millis),
            trace_sample_ratio: config.trace_sample_ratio,
        }
    }
}

impl From<&Topic> for TopicDto {
    fn from(topic: &Topic) -> Self {
        Self {
            name: topic.name.to_string(),
            id: topic.id.get(),
            partition_count: topic.partition_count,
            replication_factor: topic.replication_factor,
            config: (&topic.config).into(),
            labels: topic.labels.clone(),
            created_at: topic.created_at,
        }
    }
}

impl TopicDto {
    pub fn topic(&self) -> Result<Topic, Error> {
        Ok(Topic {
            name: name(&self.name)?,
            id: TopicId(self.id),
            partition_count: self.partition_count,
            replication_factor: self.replication_factor,
            config: (&self.config).into(),
            labels: self.labels.clone(),
            created_at: self.created_at,
            partitions: Vec::new(),
        })
    }
}

/// A name that was checked where it came from and is checked again.
pub(crate) fn name(text: &str) -> Result<TopicName, Error> {
    TopicName::new(text).map_err(|error| Error::invalid("topic", text, error.to_string()))
}

impl Call {
    pub fn create(create: &CreateTopic, request: u128) -> Self {
        let topic = TopicDto {
            name: create.name.to_string(),
            partition_count: create.partition_count,
            replication_factor: create.replication_factor,
            config: (&create.config).into(),
            labels: create.labels.clone(),
            ..TopicDto::default()
        };
        Self::CreateTopic { topic, validate_only: create.validate_only, request }
    }

    pub fn update(update: &UpdateTopic) -> Self {
        let topic = TopicDto {
            name: update.name.to_string(),
            partition_count: update.partition_count,
            config: (&update.config).into(),
            labels: update.labels.clone(),
            ..TopicDto::default()
        };
        let id = update.id.map(TopicId::get);
        Self::UpdateTopic { topic, id, fields: update.fields.clone(), validate_only: update.validate_only }
    }

    pub fn trim(shard: ShardId, trim: &Trim) -> Self {
        Self::Trim { shard: shard.get(), before: trim.before.map(Offset::get) }
    }

    pub fn register(node: &NodeSpec, store: StoreId) -> Self {
        let NodeSpec { id, peer, client, rack } = node.clone();
        Self::RegisterNode { id: id.get(), peer, client, rack, store }
    }
}

impl StateDto {
    /// With what the asking node knows besides.
    pub fn state(
        &self,
        topic: &TopicName,
        partition: PartitionId,
        online: impl Fn(NodeId) -> bool,
    ) -> PartitionState {
        let replicas = self.replicas.iter().map(|replica| Replica {
            node: NodeId(replica.node),
            role: replica.role,
            matched: LogIndex(replica.matched),
            lag_entries: replica.lag_entries,
            lag: Duration::from_millis(replica.lag_ms),
            online: online(NodeId(replica.node)),
        });
        PartitionState {
            topic: topic.clone(),
            partition,
            shard: ShardId(self.shard),
            leader: self.leader.map(NodeId),
            term: Term(self.term),
            replicas: replicas.collect(),
            log_start: Offset(self.log_start),
            last_stable: Offset(self.last_stable),
            high_watermark: Offset(self.high_watermark),
            size_bytes: self.size_bytes,
            known: true,
        }
    }
}

pub(crate) fn encode_call(call: &Call) -> Bytes {
    encode(call)
}

pub(crate) fn decode_call(bytes: &[u8]) -> Result<Call, String> {
    decode(bytes)
}

pub(crate) fn encode_answer(answer: Result<Answer, Error>) -> Bytes {
    encode(&answer.map_err(|error| FailureDto::from(&error.describe())))
}

pub(crate) fn decode_answer(bytes: &[u8]) -> Result<Answer, Error> {
    let answer: Result<Answer, FailureDto> =
        decode(bytes).map_err(|why| Error::Lost(format!("the answer cannot be read: {why}")))?;
    answer.map_err(|failure| {
        let failure = Failure::from(&failure);
        match failure.reason {
            Reason::NotLeader => Error::NotController(failure.leader),
            Reason::RequestTimedOut if failure.outcome_unknown => Error::Lost(failure.message),
            _ => Error::Remote(Box::new(failure)),
        }
    })
}

fn encode<T: Serialize>(value: &T) -> Bytes {
    let mut out = vec![VERSION];
    serde_json::to_writer(&mut out, value).expect("these types have string keys only");
    out.into()
}

fn decode<T: for<'de> Deserialize<'de>>(bytes: &[u8]) -> Result<T, String> {
    match bytes.split_first() {
        Some((&VERSION, json)) => serde_json::from_slice(json).map_err(|error| error.to_string()),
        Some((version, _)) => Err(format!("version {version} is unknown")),
        None => Err("it is empty".to_owned()),
    }
}

/// Keys that failures carry between nodes; others are left out.
const KEYS: [&str; 13] = [
    "field",
    "resource",
    "topic_id",
    "high_watermark",
    "log_start_offset",
    "limit",
    "offset",
    "group_id",
    "member_id",
    "member_epoch",
    "assignment_epoch",
    "instance_id",
    "partition",
];

impl From<&Failure> for FailureDto {
    fn from(failure: &Failure) -> Self {
        Self {
            reason: failure.reason as i32,
            action: failure.action as i32 as u8,
            message: failure.message.clone(),
            retry_after_ms: failure.retry_after.map(|pause| pause.as_millis() as u64),
            leader: failure.leader.as_ref().map(|l| (l.node.get(), l.endpoint.clone(), l.term.get())),
            metadata: failure
                .metadata
                .iter()
                .map(|(key, value)| ((*key).to_owned(), value.clone()))
                .collect(),
            outcome_unknown: failure.outcome_unknown,
        }
    }
}

impl From<&FailureDto> for Failure {
    fn from(dto: &FailureDto) -> Self {
        let reason = Reason::from_number(dto.reason).unwrap_or(Reason::StorageFailure);
        let key = |key: &str| KEYS.into_iter().find(|known| *known == key);
        Self {
            reason,
            action: action(dto.action).unwrap_or(reason.action()),
            message: dto.message.clone(),
            retry_after: dto.retry_after_ms.map(Duration::from_millis),
            leader: dto.leader.as_ref().map(|(node, endpoint, term)| LeaderHint {
                node: NodeId(*node),
                endpoint: endpoint.clone(),
                term: Term(*term),
            }),
            metadata: dto.metadata.iter().filter_map(|(k, v)| Some((key(k)?, v.clone()))).collect(),
            outcome_unknown: dto.outcome_unknown,
        }
    }
}

fn action(number: u8) -> Option<Action> {
    Some(match number {
        1 => Action::Fail,
        2 => Action::Retry,
        3 => Action::RefreshMetadata,
        4 => Action::Rejoin,
        5 => Action::RefreshMember,
        6 => Action::AbortTransaction,
        7 => Action::ReinitProducer,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_and_answers_come_back_as_they_were() {
        let config = TopicConfig {
            retention: Some(Retention::Unlimited),
            dedup_window: Some(Duration::from_secs(60)),
            ..TopicConfig::default()
        };
        assert_eq!(TopicConfig::from(&ConfigDto::from(&config)), config);
        let create = CreateTopic {
            name: TopicName::new("orders").unwrap(),
            partition_count: 3,
            replication_factor: 1,
            config,
            labels: BTreeMap::from([("team".to_owned(), "blue".to_owned())]),
            validate_only: false,
        };
        let bytes = encode_call(&Call::create(&create, u128::MAX));
        let Ok(Call::CreateTopic { topic, request, .. }) = decode_call(&bytes) else { panic!("{bytes:?}") };
        assert_eq!((topic.partition_count, request), (3, u128::MAX));
        assert_eq!(TopicConfig::from(&topic.config), create.config);
        assert!(decode_call(b"\x02{}").is_err());
        assert!(decode_call(b"").is_err());
    }

    #[test]
    fn failures_come_back_with_reason_facts_and_doubt() {
        let error = Error::OffsetOutOfRange { asked: 9, end: 4 };
        let Err(Error::Remote(failure)) = decode_answer(&encode_answer(Err(error.clone()))) else { panic!() };
        assert_eq!(*failure, error.describe());
        let lost = decode_answer(&encode_answer(Err(Error::Lost("x".to_owned()))));
        assert!(matches!(lost, Err(Error::Lost(_))));
        assert!(matches!(decode_answer(b"?"), Err(Error::Lost(_))), "an answer nobody can read is no answer");
    }
}
