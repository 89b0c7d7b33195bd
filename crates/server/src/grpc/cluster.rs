//! `flotilla.v1.Cluster`: routes, health, partitions, leadership. Moves come later.

use crate::grpc::admin::{page_size, partition_to_wire};
use crate::grpc::call::Changes;
use crate::grpc::{Api, status};
use crate::shutdown::Phase;
use flotilla_broker::admin;
use flotilla_broker::health::{self, Health};
use flotilla_broker::partitions::{Filter, ListPartitions};
use flotilla_broker::routes::{Routes, TopicRoute};
use flotilla_proto::convert::cluster::{Route, route_to_wire};
use flotilla_proto::convert::{self, Invalid};
use flotilla_proto::v1;
use flotilla_proto::v1::cluster_server::Cluster;
use flotilla_types::TopicName;
use flotilla_types::error::Describe;
use futures::StreamExt;
use futures::stream::BoxStream;
use std::collections::BTreeSet;
use std::sync::Arc;
use tonic::{Request, Response, Status};

type Moves = BoxStream<'static, Result<v1::MoveProgress, Status>>;

#[tonic::async_trait]
impl Cluster for Api {
    async fn get_metadata(
        &self,
        request: Request<v1::GetMetadataRequest>,
    ) -> Result<Response<v1::Metadata>, Status> {
        let context = self.calls.context(&request);
        let wanted = Wanted::from_wire(&request.into_inner())
            .map_err(|invalid| self.calls.refuse("GetMetadata", &context, &invalid.describe()))?;
        Ok(Response::new(wanted.whole(&self.broker.routes())))
    }

    type WatchMetadataStream = BoxStream<'static, Result<v1::Metadata, Status>>;

    async fn watch_metadata(
        &self,
        request: Request<v1::GetMetadataRequest>,
    ) -> Result<Response<Self::WatchMetadataStream>, Status> {
        let context = self.calls.stream_context(&request);
        let wanted = Wanted::from_wire(&request.into_inner())
            .map_err(|invalid| self.calls.refuse("WatchMetadata", &context, &invalid.describe()))?;
        let watch = self.broker.watch_routes();
        let phases = self.phases.clone();
        let news = futures::stream::unfold(
            (watch, None::<Arc<Routes>>, wanted),
            |(mut watch, known, wanted)| async move {
                loop {
                    let Some(before) = &known else {
                        let now = watch.borrow_and_update().clone();
                        let whole = wanted.whole(&now);
                        return Some((Ok(whole), (watch, Some(now), wanted)));
                    };
                    watch.changed().await.ok()?;
                    let now = watch.borrow_and_update().clone();
                    if let Some(changed) = wanted.changed(before, &now) {
                        return Some((Ok(changed), (watch, Some(now), wanted)));
                    }
                }
            },
        );
        // A node that goes away says so by ending the stream: its watchers ask another.
        let stopping = async move { phases.reached(Phase::Draining).await };
        Ok(Response::new(news.take_until(stopping).boxed()))
    }

    async fn get_health(
        &self,
        request: Request<v1::GetHealthRequest>,
    ) -> Result<Response<v1::Health>, Status> {
        let context = self.calls.context(&request);
        let work = async { Ok::<_, admin::Error>(health_to_wire(self.broker.health(&context).await)) };
        self.calls.unary("GetHealth", &context, Changes::Nothing, work).await
    }

    async fn list_partitions(
        &self,
        request: Request<v1::ListPartitionsRequest>,
    ) -> Result<Response<v1::ListPartitionsResponse>, Status> {
        let context = self.calls.context(&request);
        let wire = request.into_inner();
        let page_size = page_size(wire.page_size)
            .map_err(|invalid| self.calls.refuse("ListPartitions", &context, &invalid.describe()))?;
        let filter: Filter = wire.filter.parse().map_err(|error: admin::Error| {
            self.calls.refuse("ListPartitions", &context, &error.describe())
        })?;
        let list = ListPartitions { filter, page_size, page_token: wire.page_token };
        let work = async {
            let page = self.broker.list_partitions(&context, list).await?;
            Ok::<_, admin::Error>(v1::ListPartitionsResponse {
                partitions: page.partitions.into_iter().map(partition_to_wire).collect(),
                next_page_token: page.next_page_token,
            })
        };
        self.calls.unary("ListPartitions", &context, Changes::Nothing, work).await
    }

    async fn transfer_leadership(
        &self,
        request: Request<v1::TransferLeadershipRequest>,
    ) -> Result<Response<v1::PartitionState>, Status> {
        let context = self.calls.context(&request);
        let wire = request.into_inner();
        let asked = || {
            let to = wire.to_node_id.filter(|node| *node != 0);
            let to = to.map(|node| convert::node_id("to_node_id", node)).transpose()?;
            Ok::<_, Invalid>((convert::topic_name(&wire.topic)?, convert::partition_id(wire.partition)?, to))
        };
        let (topic, partition, to) = asked()
            .map_err(|invalid| self.calls.refuse("TransferLeadership", &context, &invalid.describe()))?;
        let work = async {
            let state = self.broker.transfer_leadership(&context, &topic, partition, to).await?;
            Ok::<_, admin::Error>(partition_to_wire(state))
        };
        self.calls.unary("TransferLeadership", &context, Changes::State, work).await
    }

    type MoveReplicasStream = Moves;

    async fn move_replicas(&self, _: Request<v1::MoveReplicasRequest>) -> Result<Response<Moves>, Status> {
        Err(status::comes_later("flotilla.v1.Cluster/MoveReplicas", ""))
    }

    type DrainNodeStream = Moves;

    async fn drain_node(&self, _: Request<v1::DrainNodeRequest>) -> Result<Response<Moves>, Status> {
        Err(status::comes_later("flotilla.v1.Cluster/DrainNode", ""))
    }

    async fn add_node(&self, _: Request<v1::AddNodeRequest>) -> Result<Response<v1::Node>, Status> {
        Err(status::comes_later("flotilla.v1.Cluster/AddNode", ""))
    }

    type RemoveNodeStream = Moves;

    async fn remove_node(&self, _: Request<v1::RemoveNodeRequest>) -> Result<Response<Moves>, Status> {
        Err(status::comes_later("flotilla.v1.Cluster/RemoveNode", ""))
    }

    type WatchEventsStream = BoxStream<'static, Result<v1::Event, Status>>;

    async fn watch_events(
        &self,
        request: Request<v1::WatchEventsRequest>,
    ) -> Result<Response<Self::WatchEventsStream>, Status> {
        let context = self.calls.stream_context(&request);
        let wire = request.into_inner();
        let wanted = kinds(&wire)
            .map_err(|invalid| self.calls.refuse("WatchEvents", &context, &invalid.describe()))?;
        let events = self.broker.watch_events(wire.recent.clamp(0, RECENT_MAX) as usize);
        let phases = self.phases.clone();
        let told = futures::stream::unfold(events, |mut events| async move {
            events.recv().await.map(|event| (event, events))
        });
        let told = told.filter_map(move |event| {
            let passes = wanted.is_empty() || wanted.contains(&event.kind);
            std::future::ready(passes.then(|| Ok(event_to_wire(event))))
        });
        let stopping = async move { phases.reached(Phase::Draining).await };
        Ok(Response::new(told.take_until(stopping).boxed()))
    }
}

/// Events of the past that a watch may begin with.
const RECENT_MAX: i32 = 1024;

/// Which events are wanted; empty = all. Losses are always told.
fn kinds(wire: &v1::WatchEventsRequest) -> Result<BTreeSet<String>, Invalid> {
    if wire.recent < 0 {
        return Err(Invalid::new("recent", format!("is {}, expected at least 0", wire.recent)));
    }
    let known = flotilla_broker::events::kind::ALL;
    if let Some(unknown) = wire.kinds.iter().find(|kind| !known.contains(&kind.as_str())) {
        let shown: String = unknown.chars().take(80).collect();
        return Err(Invalid::new("kinds", format!("has {shown:?}, expected {}", known.join(", "))));
    }
    let mut kinds: BTreeSet<String> = wire.kinds.iter().cloned().collect();
    if !kinds.is_empty() {
        kinds.insert(flotilla_broker::events::kind::EVENTS_DROPPED.to_owned());
    }
    Ok(kinds)
}

fn event_to_wire(event: flotilla_broker::events::Event) -> v1::Event {
    v1::Event {
        time: Some(convert::timestamp_to_wire(event.time)),
        kind: event.kind,
        node_id: event.node.get() as i32,
        message: event.message,
        attributes: event.attributes.into_iter().collect(),
        trace_id: String::new(),
    }
}

/// Which topics a client wants to hear of.
#[derive(Debug)]
struct Wanted {
    /// Empty = all.
    topics: BTreeSet<TopicName>,
}

impl Wanted {
    fn from_wire(wire: &v1::GetMetadataRequest) -> Result<Self, Invalid> {
        let topics = wire.topics.iter().map(|name| convert::topic_name(name));
        Ok(Self { topics: topics.collect::<Result<_, Invalid>>()? })
    }

    fn wants(&self, topic: &TopicName) -> bool {
        self.topics.is_empty() || self.topics.contains(topic)
    }

    /// All there is.
    fn whole(&self, routes: &Routes) -> v1::Metadata {
        let topics = routes.topics.values().filter(|topic| self.wants(&topic.name));
        v1::Metadata {
            nodes: nodes_to_wire(routes),
            topics: topics.map(|topic| topic_to_wire(routes, topic)).collect(),
            ..head(routes)
        }
    }

    /// What differs; `None` if nothing that this client wants. Where an endpoint changed, every topic
    /// comes again, because leaders are named with theirs.
    fn changed(&self, before: &Routes, now: &Routes) -> Option<v1::Metadata> {
        let changes = now.changes_since(before);
        let moved = changes.nodes && endpoints(before) != endpoints(now);
        if moved {
            return Some(v1::Metadata { topics: self.with_gone(&changes.deleted, now), ..self.whole(now) });
        }
        let gone = changes.deleted.iter().filter(|topic| self.wants(&topic.name)).map(|topic| gone(topic));
        let fresh = changes.topics.iter().filter(|topic| self.wants(&topic.name));
        let topics: Vec<_> = gone.chain(fresh.map(|topic| topic_to_wire(now, topic))).collect();
        if topics.is_empty() && !changes.nodes {
            return None;
        }
        Some(v1::Metadata { nodes: nodes_to_wire(now), topics, ..head(now) })
    }

    fn with_gone(&self, deleted: &[Arc<TopicRoute>], now: &Routes) -> Vec<v1::metadata::TopicRoute> {
        let gone = deleted.iter().filter(|topic| self.wants(&topic.name)).map(|topic| gone(topic));
        gone.chain(self.whole(now).topics).collect()
    }
}

fn endpoints(routes: &Routes) -> Vec<(u32, &str)> {
    routes.nodes.iter().map(|(id, node)| (id.get(), node.client.as_str())).collect()
}

fn head(routes: &Routes) -> v1::Metadata {
    v1::Metadata {
        cluster_id: routes.cluster.map(|cluster| cluster.to_string()).unwrap_or_default(),
        controller_node_id: routes.controller.map_or(0, |(node, _)| node.get() as i32),
        metadata_epoch: routes.version.get() as i64,
        ..v1::Metadata::default()
    }
}

fn nodes_to_wire(routes: &Routes) -> Vec<v1::Node> {
    let node = |(id, node): (&flotilla_types::NodeId, &flotilla_broker::routes::Node)| v1::Node {
        node_id: id.get() as i32,
        endpoint: node.client.clone(),
        rack_id: node.rack.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        online: node.online,
        draining: false,
    };
    routes.nodes.iter().map(node).collect()
}

fn topic_to_wire(routes: &Routes, topic: &TopicRoute) -> v1::metadata::TopicRoute {
    route_to_wire(&Route {
        topic: topic.name.clone(),
        topic_id: Some(topic.id),
        leaders: topic.partitions.iter().map(|partition| routes.hint(partition.leader)).collect(),
        deleted: false,
    })
}

fn gone(topic: &TopicRoute) -> v1::metadata::TopicRoute {
    route_to_wire(&Route {
        topic: topic.name.clone(),
        topic_id: Some(topic.id),
        leaders: Vec::new(),
        deleted: true,
    })
}

fn health_to_wire(health: Health) -> v1::Health {
    let status = |status: health::Status| match status {
        health::Status::Healthy => v1::health::Status::Healthy,
        health::Status::Degraded => v1::health::Status::Degraded,
        health::Status::Unhealthy => v1::health::Status::Unhealthy,
    } as i32;
    let check = |check: health::Check| v1::health::Check {
        name: check.name.to_owned(),
        status: status(check.status),
        detail: check.detail,
        partitions: check
            .partitions
            .into_iter()
            .map(|(topic, partition)| v1::TopicPartition {
                topic: topic.as_str().to_owned(),
                partition: partition.get() as i32,
            })
            .collect(),
    };
    v1::Health { status: status(health.status), checks: health.checks.into_iter().map(check).collect() }
}
