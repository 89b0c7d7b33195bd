//! Topics, nodes, health, placement. Any node answers; it forwards what others decide.
//!
//! Reads go round the nodes until one answers. Changes are repeated only while it is certain that nothing
//! happened; a change whose answer was lost fails as outcome unknown, and the caller looks.

use crate::call::{Repeat, anywhere};
use crate::client::Inner;
use crate::config::Isolation;
use crate::connection::DECODE_MAX_BYTES;
use crate::error::{Error, Result};
use crate::offsets::{self, ListedOffset, OffsetQuery};
use flotilla_proto::convert::admin::config_to_wire;
use flotilla_proto::v1;
use flotilla_proto::v1::admin_client::AdminClient;
use flotilla_proto::v1::cluster_client::ClusterClient;
use flotilla_types::topic::TopicConfig;
use flotilla_types::{NodeId, Offset, PartitionId};
use std::collections::BTreeMap;
use std::sync::Arc;
use tonic::transport::Channel;

mod view;

pub use view::{Check, Cluster, Health, HealthStatus, Node, PartitionState, Replica, ReplicaRole, Topic};

/// Items per page of a list; the lists here are gathered whole.
const PAGE_SIZE: i32 = 1_000;

/// Administers a cluster. Made by [`crate::Client::admin`].
#[derive(Clone, Debug)]
pub struct Admin {
    client: Arc<Inner>,
}

/// A topic to make.
#[derive(Clone, Debug, PartialEq)]
pub struct NewTopic {
    /// Its name.
    pub topic: String,
    /// At least 1.
    pub partition_count: u32,
    /// At least 1; 0 = the cluster's default.
    pub replication_factor: u32,
    /// What is absent is left to the defaults.
    pub config: TopicConfig,
    /// For people and programs; the cluster does not look at them.
    pub labels: BTreeMap<String, String>,
}

impl NewTopic {
    /// A topic with the defaults.
    pub fn new(topic: impl Into<String>, partition_count: u32, replication_factor: u32) -> Self {
        Self {
            topic: topic.into(),
            partition_count,
            replication_factor,
            config: TopicConfig::default(),
            labels: BTreeMap::new(),
        }
    }
}

/// A change to a topic. Only what `mask` names is changed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TopicUpdate {
    /// Paths as in the contract: `partition_count`, `labels`, `config.retention` and so on.
    pub mask: Vec<String>,
    /// New settings; a named one that is absent goes back to its default.
    pub config: TopicConfig,
    /// New number of partitions; it only grows.
    pub partition_count: u32,
    /// New labels, as a whole.
    pub labels: BTreeMap<String, String>,
}

/// Which partitions a list names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PartitionFilter {
    /// All of them.
    #[default]
    All,
    /// Those without a leader.
    Leaderless,
    /// Those with a replica that is away or behind.
    UnderReplicated,
    /// Those with a replica on this node.
    OnNode(NodeId),
}

fn admin(channel: Channel) -> AdminClient<Channel> {
    AdminClient::new(channel).max_decoding_message_size(DECODE_MAX_BYTES)
}

fn cluster(channel: Channel) -> ClusterClient<Channel> {
    ClusterClient::new(channel).max_decoding_message_size(DECODE_MAX_BYTES)
}

/// A topic with its partitions.
pub(crate) async fn topic_of(client: &Inner, topic: &str) -> Result<Topic> {
    let request = v1::GetTopicRequest { topic: topic.to_owned() };
    let answer = anywhere(client, Repeat::Freely, |channel| {
        let request = request.clone();
        async move { admin(channel).get_topic(request).await }
    });
    Ok(Topic::from_wire(answer.await?))
}

impl Admin {
    pub(crate) fn new(client: Arc<Inner>) -> Self {
        Self { client }
    }

    pub(crate) fn inner(&self) -> &Inner {
        &self.client
    }

    /// All topics, by name, without their partitions.
    pub async fn topics(&self) -> Result<Vec<Topic>> {
        let mut topics = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = v1::ListTopicsRequest { page_size: PAGE_SIZE, page_token, filter: String::new() };
            let answer = anywhere(&self.client, Repeat::Freely, |channel| {
                let request = request.clone();
                async move { admin(channel).list_topics(request).await }
            });
            let page = answer.await?;
            topics.extend(page.topics.into_iter().map(Topic::from_wire));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return Ok(topics);
            }
        }
    }

    /// A topic with its partitions.
    pub async fn topic(&self, topic: &str) -> Result<Topic> {
        topic_of(&self.client, topic).await
    }

    /// Makes a topic; with `validate_only` it only says what would be made.
    pub async fn create_topic(&self, new: &NewTopic, validate_only: bool) -> Result<Topic> {
        let request = v1::CreateTopicRequest {
            topic: Some(v1::Topic {
                topic: new.topic.clone(),
                partition_count: new.partition_count as i32,
                replication_factor: new.replication_factor as i32,
                config: Some(config_to_wire(&new.config)),
                labels: new.labels.clone().into_iter().collect(),
                ..v1::Topic::default()
            }),
            validate_only,
        };
        let repeat = if validate_only { Repeat::Freely } else { Repeat::WhileNothingHappened };
        let answer = anywhere(&self.client, repeat, |channel| {
            let request = request.clone();
            async move { admin(channel).create_topic(request).await }
        });
        let made = answer.await?;
        self.client.metadata.refresh();
        Ok(Topic::from_wire(made))
    }

    /// Changes a topic; with `validate_only` it only says what the topic would be.
    pub async fn update_topic(
        &self,
        topic: &str,
        update: &TopicUpdate,
        validate_only: bool,
    ) -> Result<Topic> {
        let request = v1::UpdateTopicRequest {
            topic: Some(v1::Topic {
                topic: topic.to_owned(),
                partition_count: update.partition_count as i32,
                config: Some(config_to_wire(&update.config)),
                labels: update.labels.clone().into_iter().collect(),
                ..v1::Topic::default()
            }),
            update_mask: Some(prost_types::FieldMask { paths: update.mask.clone() }),
            validate_only,
        };
        // Settings are set, not added to: twice is once.
        let answer = anywhere(&self.client, Repeat::Freely, |channel| {
            let request = request.clone();
            async move { admin(channel).update_topic(request).await }
        });
        let updated = answer.await?;
        self.client.metadata.refresh();
        Ok(Topic::from_wire(updated))
    }

    /// Deletes a topic with all its records.
    pub async fn delete_topic(&self, topic: &str) -> Result<()> {
        let request = v1::DeleteTopicRequest { topic: topic.to_owned() };
        let answer = anywhere(&self.client, Repeat::WhileNothingHappened, |channel| {
            let request = request.clone();
            async move { admin(channel).delete_topic(request).await }
        });
        answer.await?;
        self.client.metadata.refresh();
        Ok(())
    }

    /// Removes records below the given offsets; returns the partitions where that failed, and why.
    pub async fn trim(
        &self,
        topic: &str,
        before: &[(PartitionId, Offset)],
    ) -> Result<Vec<(PartitionId, Error)>> {
        let trims = before.iter().map(|(partition, offset)| v1::trim_topic_request::Trim {
            topic: topic.to_owned(),
            partition: partition.get() as i32,
            before_offset: offset.get() as i64,
        });
        let request = v1::TrimTopicRequest { trims: trims.collect() };
        let answer = anywhere(&self.client, Repeat::Freely, |channel| {
            let request = request.clone();
            async move { admin(channel).trim_topic(request).await }
        });
        let failed = answer.await?.errors.into_iter();
        Ok(failed
            .filter_map(|e| Some((PartitionId(u32::try_from(e.partition).ok()?), Error::from_wire(e.error?))))
            .collect())
    }

    /// Where each partition of a topic starts, ends, or was at some time; asked at the leaders.
    pub async fn offsets(
        &self,
        topic: &str,
        query: OffsetQuery,
        isolation: Isolation,
    ) -> Result<Vec<ListedOffset>> {
        let count = self.client.metadata.topic(topic).await?.partitions.len() as u32;
        let timeout = self.client.options.call_timeout;
        let each = (0..count).map(|partition| {
            offsets::list(&self.client, topic, PartitionId(partition), query, isolation, timeout)
        });
        futures::future::join_all(each).await.into_iter().collect()
    }

    /// How the cluster is.
    pub async fn health(&self) -> Result<Health> {
        let answer = anywhere(&self.client, Repeat::Freely, |channel| async move {
            cluster(channel).get_health(v1::GetHealthRequest {}).await
        });
        Ok(Health::from_wire(answer.await?))
    }

    /// The nodes, and who leads the controller.
    pub async fn cluster(&self) -> Result<Cluster> {
        let answer = anywhere(&self.client, Repeat::Freely, |channel| async move {
            cluster(channel).get_metadata(v1::GetMetadataRequest::default()).await
        });
        Ok(Cluster::from_wire(answer.await?))
    }

    /// Partitions with their replicas.
    pub async fn partitions(&self, filter: PartitionFilter) -> Result<Vec<PartitionState>> {
        let filter = match filter {
            PartitionFilter::All => String::new(),
            PartitionFilter::Leaderless => "leaderless".to_owned(),
            PartitionFilter::UnderReplicated => "under_replicated".to_owned(),
            PartitionFilter::OnNode(node) => format!("node={node}"),
        };
        let mut partitions = Vec::new();
        let mut page_token = String::new();
        loop {
            let request =
                v1::ListPartitionsRequest { page_size: PAGE_SIZE, page_token, filter: filter.clone() };
            let answer = anywhere(&self.client, Repeat::Freely, |channel| {
                let request = request.clone();
                async move { cluster(channel).list_partitions(request).await }
            });
            let page = answer.await?;
            partitions.extend(page.partitions.into_iter().map(PartitionState::from_wire));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return Ok(partitions);
            }
        }
    }

    /// Moves a partition's leadership to a node that has a replica, or to one the cluster chooses.
    pub async fn transfer_leadership(
        &self,
        topic: &str,
        partition: PartitionId,
        to: Option<NodeId>,
    ) -> Result<PartitionState> {
        let request = v1::TransferLeadershipRequest {
            topic: topic.to_owned(),
            partition: partition.get() as i32,
            to_node_id: to.map(|node| node.get() as i32),
        };
        let repeat = if to.is_some() { Repeat::Freely } else { Repeat::WhileNothingHappened };
        let answer = anywhere(&self.client, repeat, |channel| {
            let request = request.clone();
            async move { cluster(channel).transfer_leadership(request).await }
        });
        Ok(PartitionState::from_wire(answer.await?))
    }
}
