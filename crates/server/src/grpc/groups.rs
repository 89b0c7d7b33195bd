//! `flotilla.v1.Groups`: consumer groups. Queue groups come later.

mod wire;

use crate::grpc::Api;
use crate::grpc::admin::page_size;
use crate::grpc::call::Changes;
use flotilla_broker::groups::{self, GroupPage, HeartbeatAnswer, ListGroups};
use flotilla_proto::convert::Invalid;
use flotilla_proto::v1;
use flotilla_proto::v1::groups_server::Groups;
use flotilla_types::GroupId;
use flotilla_types::error::Describe;
use std::time::Duration;
use tonic::{Request, Response, Status};

#[tonic::async_trait]
impl Groups for Api {
    async fn heartbeat(
        &self,
        request: Request<v1::HeartbeatRequest>,
    ) -> Result<Response<v1::HeartbeatResponse>, Status> {
        let wait = Duration::from_millis(request.get_ref().max_wait_ms.max(0) as u64);
        // A long poll may take as long as it says, on top of what any call may take.
        let context = self.calls.context_with(&request, wait);
        let heartbeat = wire::heartbeat(request.into_inner(), &context.client)
            .map_err(|invalid| self.calls.refuse("Heartbeat", &context, &invalid.describe()))?;
        let work = async {
            let HeartbeatAnswer { member_epoch, heartbeat_interval, session_timeout, assignment } =
                self.broker.heartbeat(&context, heartbeat).await?;
            let routes = self.broker.routes();
            Ok::<_, groups::Error>(v1::HeartbeatResponse {
                member_epoch: member_epoch as i64,
                heartbeat_interval: Some(flotilla_proto::convert::duration_to_wire(heartbeat_interval)),
                session_timeout: Some(flotilla_proto::convert::duration_to_wire(session_timeout)),
                assignment: assignment.map(|assignment| wire::assignment_to_wire(&routes, assignment)),
            })
        };
        self.calls.unary("Heartbeat", &context, Changes::State, work).await
    }

    async fn commit_offsets(
        &self,
        request: Request<v1::CommitOffsetsRequest>,
    ) -> Result<Response<v1::CommitOffsetsResponse>, Status> {
        let context = self.calls.context(&request);
        let commit = wire::commit(request.into_inner())
            .map_err(|invalid| self.calls.refuse("CommitOffsets", &context, &invalid.describe()))?;
        let work = async {
            let errors = self.broker.commit_offsets(&context, commit).await?;
            let errors = errors.into_iter().map(wire::failure_to_wire).collect();
            Ok::<_, groups::Error>(v1::CommitOffsetsResponse { errors })
        };
        self.calls.unary("CommitOffsets", &context, Changes::State, work).await
    }

    async fn fetch_offsets(
        &self,
        request: Request<v1::FetchOffsetsRequest>,
    ) -> Result<Response<v1::FetchOffsetsResponse>, Status> {
        let context = self.calls.context(&request);
        let fetch = wire::fetch(request.into_inner())
            .map_err(|invalid| self.calls.refuse("FetchOffsets", &context, &invalid.describe()))?;
        let work = async {
            let fetched = self.broker.fetch_offsets(&context, fetch).await?;
            Ok::<_, groups::Error>(v1::FetchOffsetsResponse {
                offsets: fetched.offsets.into_iter().map(wire::offset_to_wire).collect(),
                errors: fetched.errors.into_iter().map(wire::failure_to_wire).collect(),
            })
        };
        self.calls.unary("FetchOffsets", &context, Changes::Nothing, work).await
    }

    async fn list_groups(
        &self,
        request: Request<v1::ListGroupsRequest>,
    ) -> Result<Response<v1::ListGroupsResponse>, Status> {
        let context = self.calls.context(&request);
        let wire = request.into_inner();
        let page_size = page_size(wire.page_size)
            .map_err(|invalid| self.calls.refuse("ListGroups", &context, &invalid.describe()))?;
        let list = ListGroups { filter: wire.filter, page_size, page_token: wire.page_token };
        let work = async {
            let GroupPage { groups, next_page_token } = self.broker.list_groups(&context, list).await?;
            let groups = groups.into_iter().map(wire::group_to_wire).collect();
            Ok::<_, groups::Error>(v1::ListGroupsResponse { groups, next_page_token })
        };
        self.calls.unary("ListGroups", &context, Changes::Nothing, work).await
    }

    async fn get_group(&self, request: Request<v1::GetGroupRequest>) -> Result<Response<v1::Group>, Status> {
        let context = self.calls.context(&request);
        let group = self.group_of("GetGroup", &context, &request.into_inner().group_id)?;
        let work = async { self.broker.get_group(&context, group).await.map(wire::group_to_wire) };
        self.calls.unary("GetGroup", &context, Changes::Nothing, work).await
    }

    async fn update_group(
        &self,
        request: Request<v1::UpdateGroupRequest>,
    ) -> Result<Response<v1::Group>, Status> {
        let context = self.calls.context(&request);
        let update = wire::update(request.into_inner())
            .map_err(|invalid| self.calls.refuse("UpdateGroup", &context, &invalid.describe()))?;
        let work = async { self.broker.update_group(&context, update).await.map(wire::group_to_wire) };
        self.calls.unary("UpdateGroup", &context, Changes::State, work).await
    }

    async fn delete_group(
        &self,
        request: Request<v1::DeleteGroupRequest>,
    ) -> Result<Response<v1::DeleteGroupResponse>, Status> {
        let context = self.calls.context(&request);
        let wire = request.into_inner();
        let group = self.group_of("DeleteGroup", &context, &wire.group_id)?;
        let work = async {
            self.broker.delete_group(&context, group, wire.force).await?;
            Ok::<_, groups::Error>(v1::DeleteGroupResponse {})
        };
        self.calls.unary("DeleteGroup", &context, Changes::State, work).await
    }

    async fn seek_group(
        &self,
        request: Request<v1::SeekGroupRequest>,
    ) -> Result<Response<v1::SeekGroupResponse>, Status> {
        let context = self.calls.context(&request);
        let seek = wire::seek(request.into_inner())
            .map_err(|invalid| self.calls.refuse("SeekGroup", &context, &invalid.describe()))?;
        let changes = if seek.validate_only { Changes::Nothing } else { Changes::State };
        let work = async { self.broker.seek_group(&context, seek).await.map(wire::seeked_to_wire) };
        self.calls.unary("SeekGroup", &context, changes, work).await
    }

    async fn explain_group(
        &self,
        request: Request<v1::ExplainGroupRequest>,
    ) -> Result<Response<v1::ExplainGroupResponse>, Status> {
        let context = self.calls.context(&request);
        let group = self.group_of("ExplainGroup", &context, &request.into_inner().group_id)?;
        let work = async {
            let findings = self.broker.explain_group(&context, group).await?;
            let findings = findings.into_iter().map(wire::finding_to_wire).collect();
            Ok::<_, groups::Error>(v1::ExplainGroupResponse { findings })
        };
        self.calls.unary("ExplainGroup", &context, Changes::Nothing, work).await
    }
}

impl Api {
    fn group_of(
        &self,
        call: &'static str,
        context: &flotilla_broker::Context,
        group: &str,
    ) -> Result<GroupId, Status> {
        wire::group_id(group)
            .map_err(|invalid: Invalid| self.calls.refuse(call, context, &invalid.describe()))
    }
}
