//! Calls as any program could make them, straight from the contract: for what the client library would
//! never send, and for asking one node in particular.

use bytes::Bytes;
use flotilla_proto::convert::errors;
use flotilla_proto::v1::admin_client::AdminClient;
use flotilla_proto::v1::cluster_client::ClusterClient;
use flotilla_proto::v1::log_client::LogClient;
use flotilla_proto::v1::{self, record_batch::Body};
use flotilla_types::{Batch, BatchHeader, Compression, compression};
use prost::Message;
use std::time::Duration;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tonic_types::StatusExt;

/// The services of one node.
#[derive(Clone, Debug)]
pub struct Wire {
    /// Records.
    pub log: LogClient<Channel>,
    /// Topics.
    pub admin: AdminClient<Channel>,
    /// Nodes and placement.
    pub cluster: ClusterClient<Channel>,
}

/// Longest wait for any one answer.
const CALL_LIMIT: Duration = Duration::from_secs(20);

impl Wire {
    /// Connects to `host:port` with the first call.
    pub fn to(address: &str) -> Self {
        let channel = Endpoint::from_shared(format!("http://{address}"))
            .expect("an address and a port")
            .connect_timeout(Duration::from_secs(5))
            .timeout(CALL_LIMIT)
            .connect_lazy();
        const MESSAGE: usize = 64 << 20;
        Self {
            log: LogClient::new(channel.clone())
                .max_decoding_message_size(MESSAGE)
                .max_encoding_message_size(MESSAGE),
            admin: AdminClient::new(channel.clone()).max_decoding_message_size(MESSAGE),
            cluster: ClusterClient::new(channel),
        }
    }

    /// Makes a topic and waits until each partition has a leader.
    pub async fn create_topic(
        &mut self,
        topic: &str,
        partitions: i32,
        replication: i32,
        config: v1::TopicConfig,
    ) {
        let request = v1::CreateTopicRequest {
            topic: Some(v1::Topic {
                topic: topic.to_owned(),
                partition_count: partitions,
                replication_factor: replication,
                config: Some(config),
                ..v1::Topic::default()
            }),
            validate_only: false,
        };
        self.admin.create_topic(request).await.unwrap_or_else(|e| panic!("topic {topic}: {e:?}"));
        for partition in 0..partitions {
            self.leader(topic, partition).await;
        }
    }

    /// The node that leads a partition, as soon as this node knows of one.
    pub async fn leader(&mut self, topic: &str, partition: i32) -> u32 {
        for _ in 0..1000 {
            if let Some(leader) = self.leader_now(topic, partition).await {
                return leader;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{topic}/{partition} has no leader after 20 s");
    }

    /// The node that leads a partition, if this node knows of one.
    pub async fn leader_now(&mut self, topic: &str, partition: i32) -> Option<u32> {
        self.leadership(topic, partition).await.map(|(_, node)| node)
    }

    /// The newest leadership of a partition that this node has heard of: its epoch, and who has it.
    pub async fn leadership(&mut self, topic: &str, partition: i32) -> Option<(i64, u32)> {
        let request = v1::GetMetadataRequest { topics: vec![topic.to_owned()] };
        let metadata = self.cluster.get_metadata(request).await.ok()?.into_inner();
        let route = metadata.topics.into_iter().find(|route| route.topic == topic)?;
        let leader = route.leaders.into_iter().nth(usize::try_from(partition).ok()?)?;
        let node = u32::try_from(leader.node_id).ok().filter(|id| *id != 0)?;
        Some((leader.leader_epoch, node))
    }

    /// One produce and its answer, on a stream of its own.
    pub async fn produce(&mut self, request: v1::ProduceRequest) -> Result<v1::ProduceResponse, Status> {
        let mut answers = self.log.produce(futures::stream::iter([request])).await?.into_inner();
        answers
            .message()
            .await?
            .ok_or_else(|| Status::new(Code::Unknown, "the stream ended without an answer"))
    }

    /// The same, again and again while the answer is that nothing happened and another try may do.
    pub async fn produce_in_time(&mut self, request: v1::ProduceRequest) -> v1::ProduceResponse {
        for _ in 0..100 {
            let answer = self.produce(request.clone()).await.expect("an answer");
            match &answer.error {
                Some(error) if !error.outcome_unknown && error.action() == v1::ErrorAction::Retry => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                _ => return answer,
            }
        }
        panic!("not taken within 5 s");
    }

    /// First kept offset and end of a partition, as this node says.
    pub async fn bounds(&mut self, topic: &str, partition: i32) -> Result<(u64, u64), Status> {
        use v1::list_offsets_request::{Query, query::Position};
        let query = |position| Query { topic: topic.to_owned(), partition, position: Some(position) };
        let request = v1::ListOffsetsRequest {
            queries: vec![query(Position::Earliest(true)), query(Position::Latest(true))],
            isolation_level: 0,
        };
        let results = self.log.list_offsets(request).await?.into_inner().results;
        let offset = |place: usize| -> Result<u64, Status> {
            let result: &v1::list_offsets_response::Result =
                results.get(place).ok_or_else(|| Status::internal("a query without an answer"))?;
            match &result.error {
                None => Ok(result.offset as u64),
                Some(error) => Err(Status::failed_precondition(error.message.clone())),
            }
        };
        Ok((offset(0)?, offset(1)?))
    }

    /// Reads `[from, end)` of a partition from this node: offset and value of each record.
    pub async fn read(
        &mut self,
        topic: &str,
        partition: i32,
        from: u64,
        end: u64,
    ) -> Result<Vec<(u64, Bytes)>, Status> {
        let mut records = Vec::new();
        let mut next = from;
        while next < end {
            let request = v1::FetchRequest {
                partitions: vec![v1::FetchPartition {
                    topic: topic.to_owned(),
                    partition,
                    fetch_offset: next as i64,
                    max_bytes: 4 << 20,
                    ..v1::FetchPartition::default()
                }],
                min_bytes: 1,
                max_bytes: 4 << 20,
                max_wait_ms: 1000,
                ..v1::FetchRequest::default()
            };
            let answer = self.log.fetch(request).await?.into_inner();
            let fetched =
                answer.partitions.into_iter().next().ok_or_else(|| Status::internal("no partition"))?;
            if let Some(error) = fetched.error {
                return Err(Status::failed_precondition(errors::from_wire(error).to_string()));
            }
            let before = next;
            for batch in fetched.batches {
                let base = batch.base_offset as u64;
                let values = values(&batch).map_err(Status::data_loss)?;
                let kept = values.into_iter().enumerate().map(|(at, value)| (base + at as u64, value));
                records.extend(kept.filter(|(offset, _)| *offset >= next && *offset < end));
            }
            next = fetched.next_offset as u64;
            if next <= before {
                return Err(Status::internal(format!("no progress at offset {next} of {end}")));
            }
        }
        Ok(records)
    }

    /// Asks for a partition's leadership to go to a node, and waits until it is there.
    pub async fn transfer(&mut self, topic: &str, partition: i32, to: u32) {
        let mut told = None;
        for _ in 0..200 {
            if self.leader(topic, partition).await == to {
                return;
            }
            let to_node_id = Some(to as i32);
            let request = v1::TransferLeadershipRequest { topic: topic.to_owned(), partition, to_node_id };
            told = self.cluster.transfer_leadership(request).await.err();
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("{topic}/{partition} did not go to node {to}: {told:?}");
    }
}

/// Values of a fetched batch, its seal checked.
fn values(batch: &v1::RecordBatch) -> Result<Vec<Bytes>, String> {
    let fetched =
        flotilla_proto::convert::records::fetched_from_wire(batch.clone()).map_err(|e| e.to_string())?;
    let Batch { header, body } = fetched.batch;
    if !header.is_sound(&body) {
        return Err(format!("the seal of the batch at offset {} is broken", batch.base_offset));
    }
    let mut plain = Vec::new();
    compression::decompress(header.compression, &body, &mut plain).map_err(|e| e.to_string())?;
    let records = v1::Records::decode(&plain[..]).map_err(|e| e.to_string())?;
    Ok(records.records.into_iter().map(|r| r.value.unwrap_or_default()).collect())
}

/// A batch of these values, sealed, as a producer without an identity sends it.
pub fn batch(values: &[&[u8]]) -> v1::RecordBatch {
    let records = values
        .iter()
        .map(|value| v1::Record { value: Some(value.to_vec().into()), ..v1::Record::default() })
        .collect();
    sealed(values.len() as u32, Compression::None, v1::Records { records }.encode_to_vec())
}

/// A batch with any body, sealed as it is.
pub fn sealed(record_count: u32, compression: Compression, body: Vec<u8>) -> v1::RecordBatch {
    let header = BatchHeader {
        record_count,
        base_timestamp: 0,
        producer: None,
        transactional: false,
        compression,
        schema_id: None,
        crc32c: 0,
    };
    let body = Bytes::from(body);
    let mut batch = v1::RecordBatch {
        record_count: record_count as i32,
        compression: i32::from(compression as u8),
        crc32c: Some(header.checksum(&body)),
        ..v1::RecordBatch::default()
    };
    batch.body = Some(match compression {
        Compression::None => Body::Records(body),
        _ => Body::CompressedRecords(body),
    });
    batch
}

/// A request for one batch.
pub fn request(topic: &str, partition: i32, batch: v1::RecordBatch) -> v1::ProduceRequest {
    v1::ProduceRequest {
        correlation_id: 1,
        topic: topic.to_owned(),
        partition,
        batch: Some(batch),
        timeout_ms: 10_000,
        ..v1::ProduceRequest::default()
    }
}

/// A status's code and the reason in its `ErrorInfo`.
pub fn told(status: &Status) -> (Code, String) {
    let reason =
        status.get_details_error_info().filter(|info| info.domain == errors::DOMAIN).map(|info| info.reason);
    (status.code(), reason.unwrap_or_default())
}
