//! The mock's gRPC side: only what the client's promises need; everything else is unimplemented.

use super::{Cluster, Handled, TOPIC};
use flotilla_proto::v1;
use flotilla_proto::v1::admin_server::{Admin, AdminServer};
use flotilla_proto::v1::cluster_server::{Cluster as ClusterService, ClusterServer};
use flotilla_proto::v1::groups_server::GroupsServer;
use flotilla_proto::v1::log_server::{Log, LogServer};
use futures::stream::BoxStream;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};

type Answer<T> = Result<Response<T>, Status>;
type Stream<T> = BoxStream<'static, Result<T, Status>>;

pub(super) struct Node {
    pub(super) cluster: Arc<Cluster>,
    pub(super) node: usize,
}

pub(super) fn serve(
    cluster: Arc<Cluster>,
    node: usize,
    listener: std::net::TcpListener,
) -> tokio::runtime::Runtime {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    listener.set_nonblocking(true).unwrap();
    runtime.spawn(async move {
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        let node = Arc::new(Node { cluster, node });
        tonic::transport::Server::builder()
            .add_service(LogServer::from_arc(Arc::clone(&node)).max_decoding_message_size(16 << 20))
            .add_service(ClusterServer::from_arc(Arc::clone(&node)))
            .add_service(GroupsServer::from_arc(Arc::clone(&node)))
            .add_service(AdminServer::from_arc(node))
            .serve_with_incoming(TcpListenerStream::new(listener))
            .await
            .unwrap();
    });
    runtime
}

#[async_trait::async_trait]
impl Log for Node {
    type ProduceStream = Stream<v1::ProduceResponse>;
    type ConsumeStream = Stream<v1::ConsumeResponse>;

    async fn produce(&self, request: Request<Streaming<v1::ProduceRequest>>) -> Answer<Self::ProduceStream> {
        let mut requests = request.into_inner();
        let (answers, stream) = tokio::sync::mpsc::channel(64);
        let (cluster, node) = (Arc::clone(&self.cluster), self.node);
        tokio::spawn(async move {
            while let Ok(Some(request)) = requests.message().await {
                let mut handled = cluster.handle(node, &request, true);
                if let Handled::Later(time) = handled {
                    tokio::time::sleep(time).await;
                    handled = cluster.handle(node, &request, false);
                }
                let answer = match handled {
                    Handled::Answer(answer) => Ok(*answer),
                    Handled::Silence | Handled::Later(_) => continue,
                    Handled::Break => Err(Status::unavailable("connection reset")),
                };
                let ends = answer.is_err();
                if answers.send(answer).await.is_err() || ends {
                    return;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }

    async fn fetch(&self, request: Request<v1::FetchRequest>) -> Answer<v1::FetchResponse> {
        let request = request.into_inner();
        let wait = Duration::from_millis(request.max_wait_ms as u64);
        let asked = request.partitions.first().cloned().unwrap();
        let mut waited = Duration::ZERO;
        loop {
            let fetched = self.cluster.fetch(self.node, &asked);
            if fetched.error.is_some() || !fetched.batches.is_empty() || waited >= wait {
                return Ok(Response::new(v1::FetchResponse {
                    partitions: vec![fetched],
                    throttle_time_ms: 0,
                }));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
            waited += Duration::from_millis(5);
        }
    }

    async fn consume(&self, _: Request<Streaming<v1::ConsumeRequest>>) -> Answer<Self::ConsumeStream> {
        Err(Status::unimplemented("later"))
    }

    async fn list_offsets(
        &self,
        request: Request<v1::ListOffsetsRequest>,
    ) -> Answer<v1::ListOffsetsResponse> {
        use v1::list_offsets_request::query::Position;
        let partitions = self.cluster.partitions.lock();
        let results = request.into_inner().queries.into_iter().map(|query| {
            let partition = &partitions[query.partition as usize];
            let offset = match query.position {
                Some(Position::Earliest(_)) => partition.log_start,
                Some(Position::TimestampMs(time)) => partition
                    .batches
                    .iter()
                    .find(|(_, _, batch)| batch.header.base_timestamp >= time)
                    .map_or(partition.next_offset, |(base, ..)| *base),
                _ => partition.next_offset,
            };
            let error = (partition.leader != Some(self.node))
                .then(|| flotilla_proto::convert::errors::to_wire(&self.cluster.not_leader(partition)));
            v1::list_offsets_response::Result {
                topic: query.topic,
                partition: query.partition,
                error,
                offset: offset as i64,
                ..Default::default()
            }
        });
        Ok(Response::new(v1::ListOffsetsResponse { results: results.collect() }))
    }
}

#[async_trait::async_trait]
impl ClusterService for Node {
    type WatchMetadataStream = Stream<v1::Metadata>;
    type MoveReplicasStream = Stream<v1::MoveProgress>;
    type DrainNodeStream = Stream<v1::MoveProgress>;
    type RemoveNodeStream = Stream<v1::MoveProgress>;
    type WatchEventsStream = Stream<v1::Event>;

    async fn get_metadata(&self, _: Request<v1::GetMetadataRequest>) -> Answer<v1::Metadata> {
        Ok(Response::new(self.cluster.metadata()))
    }

    async fn watch_metadata(&self, _: Request<v1::GetMetadataRequest>) -> Answer<Self::WatchMetadataStream> {
        let cluster = Arc::clone(&self.cluster);
        let changes = tokio_stream::wrappers::WatchStream::new(cluster.changed.subscribe());
        let mut first = true;
        let news = changes.filter_map(move |_| {
            let silent = cluster.watch_is_silent.load(Ordering::Relaxed) && !std::mem::take(&mut first);
            (!silent).then(|| Ok(cluster.metadata()))
        });
        Ok(Response::new(Box::pin(news)))
    }

    async fn get_health(&self, _: Request<v1::GetHealthRequest>) -> Answer<v1::Health> {
        Ok(Response::new(v1::Health { status: v1::health::Status::Healthy as i32, checks: Vec::new() }))
    }

    async fn list_partitions(
        &self,
        _: Request<v1::ListPartitionsRequest>,
    ) -> Answer<v1::ListPartitionsResponse> {
        Err(Status::unimplemented("not here"))
    }
    async fn transfer_leadership(
        &self,
        _: Request<v1::TransferLeadershipRequest>,
    ) -> Answer<v1::PartitionState> {
        Err(Status::unimplemented("not here"))
    }
    async fn move_replicas(&self, _: Request<v1::MoveReplicasRequest>) -> Answer<Self::MoveReplicasStream> {
        Err(Status::unimplemented("not here"))
    }
    async fn drain_node(&self, _: Request<v1::DrainNodeRequest>) -> Answer<Self::DrainNodeStream> {
        Err(Status::unimplemented("not here"))
    }
    async fn add_node(&self, _: Request<v1::AddNodeRequest>) -> Answer<v1::Node> {
        Err(Status::unimplemented("not here"))
    }
    async fn remove_node(&self, _: Request<v1::RemoveNodeRequest>) -> Answer<Self::RemoveNodeStream> {
        Err(Status::unimplemented("not here"))
    }
    async fn watch_events(&self, _: Request<v1::WatchEventsRequest>) -> Answer<Self::WatchEventsStream> {
        Err(Status::unimplemented("not here"))
    }
}

#[async_trait::async_trait]
impl Admin for Node {
    async fn get_topic(&self, request: Request<v1::GetTopicRequest>) -> Answer<v1::Topic> {
        let topic = request.into_inner().topic;
        if topic != TOPIC {
            return Err(Status::not_found("no such topic"));
        }
        let partition_count = self.cluster.partitions.lock().len() as i32;
        Ok(Response::new(v1::Topic { topic, partition_count, ..Default::default() }))
    }

    async fn create_topic(&self, _: Request<v1::CreateTopicRequest>) -> Answer<v1::Topic> {
        Err(Status::unimplemented("not here"))
    }
    async fn list_topics(&self, _: Request<v1::ListTopicsRequest>) -> Answer<v1::ListTopicsResponse> {
        Err(Status::unimplemented("not here"))
    }
    async fn update_topic(&self, _: Request<v1::UpdateTopicRequest>) -> Answer<v1::Topic> {
        Err(Status::unimplemented("not here"))
    }
    async fn delete_topic(&self, _: Request<v1::DeleteTopicRequest>) -> Answer<v1::DeleteTopicResponse> {
        Err(Status::unimplemented("not here"))
    }
    async fn trim_topic(&self, _: Request<v1::TrimTopicRequest>) -> Answer<v1::TrimTopicResponse> {
        Err(Status::unimplemented("not here"))
    }
    async fn set_quota(&self, _: Request<v1::SetQuotaRequest>) -> Answer<v1::Quota> {
        Err(Status::unimplemented("not here"))
    }
    async fn list_quotas(&self, _: Request<v1::ListQuotasRequest>) -> Answer<v1::ListQuotasResponse> {
        Err(Status::unimplemented("not here"))
    }
    async fn create_acl(&self, _: Request<v1::CreateAclRequest>) -> Answer<v1::Acl> {
        Err(Status::unimplemented("not here"))
    }
    async fn list_acls(&self, _: Request<v1::ListAclsRequest>) -> Answer<v1::ListAclsResponse> {
        Err(Status::unimplemented("not here"))
    }
    async fn delete_acl(&self, _: Request<v1::DeleteAclRequest>) -> Answer<v1::DeleteAclResponse> {
        Err(Status::unimplemented("not here"))
    }
}
