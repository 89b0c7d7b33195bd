//! `flotilla.v1.Admin`: topics. Quotas and access rules come later.

use crate::grpc::call::Changes;
use crate::grpc::{Api, status};
use flotilla_broker::admin::{self, CreateTopic, ListTopics, Trim, UpdateTopic};
use flotilla_broker::partitions::{PartitionState, Role};
use flotilla_proto::convert::{self, Invalid, errors, timestamp_to_wire};
use flotilla_proto::v1;
use flotilla_proto::v1::admin_server::Admin;
use flotilla_proto::v1::partition_state::replica::Role as WireRole;
use flotilla_types::error::Describe;
use flotilla_types::{Offset, TopicId};
use tonic::{Request, Response, Status};

#[tonic::async_trait]
impl Admin for Api {
    async fn create_topic(
        &self,
        request: Request<v1::CreateTopicRequest>,
    ) -> Result<Response<v1::Topic>, Status> {
        let context = self.calls.context(&request);
        let create = create_from_wire(request.into_inner())
            .map_err(|invalid| self.calls.refuse("CreateTopic", &context, &invalid.describe()))?;
        let work = async { self.broker.create_topic(&context, create).await.map(topic_to_wire) };
        self.calls.unary("CreateTopic", &context, Changes::State, work).await
    }

    async fn get_topic(&self, request: Request<v1::GetTopicRequest>) -> Result<Response<v1::Topic>, Status> {
        let context = self.calls.context(&request);
        let name = convert::topic_name(&request.get_ref().topic)
            .map_err(|invalid| self.calls.refuse("GetTopic", &context, &invalid.describe()))?;
        let work = async { self.broker.get_topic(&context, &name).await.map(topic_to_wire) };
        self.calls.unary("GetTopic", &context, Changes::Nothing, work).await
    }

    async fn list_topics(
        &self,
        request: Request<v1::ListTopicsRequest>,
    ) -> Result<Response<v1::ListTopicsResponse>, Status> {
        let context = self.calls.context(&request);
        let wire = request.into_inner();
        let page_size = page_size(wire.page_size)
            .map_err(|invalid| self.calls.refuse("ListTopics", &context, &invalid.describe()))?;
        let list = ListTopics { filter: wire.filter, page_size, page_token: wire.page_token };
        let work = async {
            let page = self.broker.list_topics(&context, list).await?;
            Ok::<_, admin::Error>(v1::ListTopicsResponse {
                topics: page.topics.into_iter().map(topic_to_wire).collect(),
                next_page_token: page.next_page_token,
            })
        };
        self.calls.unary("ListTopics", &context, Changes::Nothing, work).await
    }

    async fn update_topic(
        &self,
        request: Request<v1::UpdateTopicRequest>,
    ) -> Result<Response<v1::Topic>, Status> {
        let context = self.calls.context(&request);
        let update = update_from_wire(request.into_inner())
            .map_err(|invalid| self.calls.refuse("UpdateTopic", &context, &invalid.describe()))?;
        let work = async { self.broker.update_topic(&context, update).await.map(topic_to_wire) };
        self.calls.unary("UpdateTopic", &context, Changes::State, work).await
    }

    async fn delete_topic(
        &self,
        request: Request<v1::DeleteTopicRequest>,
    ) -> Result<Response<v1::DeleteTopicResponse>, Status> {
        let context = self.calls.context(&request);
        let name = convert::topic_name(&request.get_ref().topic)
            .map_err(|invalid| self.calls.refuse("DeleteTopic", &context, &invalid.describe()))?;
        let work = async {
            self.broker.delete_topic(&context, &name, None).await?;
            Ok::<_, admin::Error>(v1::DeleteTopicResponse {})
        };
        self.calls.unary("DeleteTopic", &context, Changes::State, work).await
    }

    async fn trim_topic(
        &self,
        request: Request<v1::TrimTopicRequest>,
    ) -> Result<Response<v1::TrimTopicResponse>, Status> {
        let context = self.calls.context(&request);
        let trims = request.into_inner().trims.into_iter().map(trim_from_wire);
        let trims = trims
            .collect::<Result<Vec<Trim>, Invalid>>()
            .map_err(|invalid| self.calls.refuse("TrimTopic", &context, &invalid.describe()))?;
        let work = async {
            let failed = self.broker.trim(&context, trims).await;
            let errors = failed.into_iter().map(|failed| v1::PartitionError {
                topic: failed.topic.as_str().to_owned(),
                partition: failed.partition.get() as i32,
                error: Some(errors::to_wire(&failed.failure)),
            });
            Ok::<_, admin::Error>(v1::TrimTopicResponse { errors: errors.collect() })
        };
        self.calls.unary("TrimTopic", &context, Changes::State, work).await
    }

    async fn set_quota(&self, _: Request<v1::SetQuotaRequest>) -> Result<Response<v1::Quota>, Status> {
        Err(status::comes_later("flotilla.v1.Admin/SetQuota", ""))
    }

    async fn list_quotas(
        &self,
        _: Request<v1::ListQuotasRequest>,
    ) -> Result<Response<v1::ListQuotasResponse>, Status> {
        Err(status::comes_later("flotilla.v1.Admin/ListQuotas", ""))
    }

    async fn create_acl(&self, _: Request<v1::CreateAclRequest>) -> Result<Response<v1::Acl>, Status> {
        Err(status::comes_later("flotilla.v1.Admin/CreateAcl", ""))
    }

    async fn list_acls(
        &self,
        _: Request<v1::ListAclsRequest>,
    ) -> Result<Response<v1::ListAclsResponse>, Status> {
        Err(status::comes_later("flotilla.v1.Admin/ListAcls", ""))
    }

    async fn delete_acl(
        &self,
        _: Request<v1::DeleteAclRequest>,
    ) -> Result<Response<v1::DeleteAclResponse>, Status> {
        Err(status::comes_later("flotilla.v1.Admin/DeleteAcl", ""))
    }
}

pub(super) fn page_size(number: i32) -> Result<u32, Invalid> {
    u32::try_from(number).map_err(|_| Invalid::new("page_size", format!("is {number}, expected at least 0")))
}

fn counted(field: &'static str, number: i32) -> Result<u32, Invalid> {
    u32::try_from(number).map_err(|_| Invalid::new(field, format!("is {number}, expected at least 0")))
}

fn create_from_wire(wire: v1::CreateTopicRequest) -> Result<CreateTopic, Invalid> {
    let topic = wire.topic.ok_or_else(|| Invalid::missing("topic"))?;
    Ok(CreateTopic {
        name: convert::topic_name(&topic.topic)?,
        partition_count: counted("topic.partition_count", topic.partition_count)?,
        replication_factor: counted("topic.replication_factor", topic.replication_factor)?,
        config: convert::admin::config_from_wire(&topic.config.unwrap_or_default())?,
        labels: topic.labels.into_iter().collect(),
        validate_only: wire.validate_only,
    })
}

fn update_from_wire(wire: v1::UpdateTopicRequest) -> Result<UpdateTopic, Invalid> {
    let topic = wire.topic.ok_or_else(|| Invalid::missing("topic"))?;
    Ok(UpdateTopic {
        name: convert::topic_name(&topic.topic)?,
        id: convert::topic_id(Some(&topic.topic_id))?,
        fields: convert::admin::mask_from_wire(wire.update_mask)?,
        config: convert::admin::config_from_wire(&topic.config.unwrap_or_default())?,
        labels: topic.labels.into_iter().collect(),
        partition_count: counted("topic.partition_count", topic.partition_count)?,
        validate_only: wire.validate_only,
    })
}

/// -1 keeps nothing.
fn trim_from_wire(wire: v1::trim_topic_request::Trim) -> Result<Trim, Invalid> {
    let before = match wire.before_offset {
        -1 => None,
        offset => Some(Offset(u64::try_from(offset).map_err(|_| {
            Invalid::new("before_offset", format!("is {offset}, expected an offset, or -1 for the end"))
        })?)),
    };
    Ok(Trim {
        topic: convert::topic_name(&wire.topic)?,
        partition: convert::partition_id(wire.partition)?,
        before,
    })
}

fn topic_to_wire(topic: admin::Topic) -> v1::Topic {
    v1::Topic {
        topic: topic.name.as_str().to_owned(),
        topic_id: if topic.id == TopicId(0) { String::new() } else { topic.id.to_wire() },
        partition_count: topic.partition_count as i32,
        replication_factor: topic.replication_factor as i32,
        config: Some(convert::admin::config_to_wire(&topic.config)),
        labels: topic.labels.into_iter().collect(),
        create_time: Some(timestamp_to_wire(topic.created_at)),
        partitions: topic.partitions.into_iter().map(partition_to_wire).collect(),
    }
}

pub(super) fn partition_to_wire(state: PartitionState) -> v1::PartitionState {
    let replica = |replica: flotilla_broker::partitions::Replica| v1::partition_state::Replica {
        node_id: replica.node.get() as i32,
        role: match replica.role {
            Role::Leader => WireRole::Leader,
            Role::Follower => WireRole::Follower,
            Role::Learner => WireRole::Learner,
            Role::Missing => WireRole::Unspecified,
        } as i32,
        match_index: replica.matched.get() as i64,
        lag: Some(convert::duration_to_wire(replica.lag)),
        online: replica.online,
    };
    v1::PartitionState {
        topic: state.topic.as_str().to_owned(),
        partition: state.partition.get() as i32,
        leader_node_id: state.leader.map_or(0, |node| node.get() as i32),
        leader_epoch: state.term.get() as i64,
        replicas: state.replicas.into_iter().map(replica).collect(),
        log_start_offset: state.log_start.get() as i64,
        last_stable_offset: state.last_stable.get() as i64,
        high_watermark: state.high_watermark.get() as i64,
        log_end_offset: state.high_watermark.get() as i64,
        size_bytes: state.size_bytes as i64,
    }
}
