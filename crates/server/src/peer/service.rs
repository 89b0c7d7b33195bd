//! The answering side: takes other nodes' packets and forwarded calls.

use crate::identity::Refused;
use crate::peer::link::PACKET_MAX_BYTES;
use crate::peer::{PeerTransport, frames};
use bytes::Bytes;
use flotilla_broker::Broker;
use flotilla_proto::peer::v1 as wire;
use flotilla_proto::peer::v1::peer_server::{Peer, PeerServer};
use flotilla_raft::Lane;
use flotilla_types::NodeId;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use std::sync::{Arc, OnceLock};
use tonic::{Request, Response, Status, Streaming};

/// Who carries out what another node passed on.
pub trait Answer: Send + Sync + 'static {
    /// The answer's bytes belong to the broker, as the request's do.
    fn answer(self: Arc<Self>, from: NodeId, request: Bytes) -> BoxFuture<'static, Bytes>;
}

impl Answer for Broker {
    fn answer(self: Arc<Self>, from: NodeId, request: Bytes) -> BoxFuture<'static, Bytes> {
        Box::pin(async move { self.answer_forward(from, request).await })
    }
}

/// Serves `flotilla.peer.v1.Peer`.
#[derive(Clone)]
pub struct PeerService {
    transport: Arc<PeerTransport>,
    /// Who carries out forwarded calls; set once the broker runs.
    answer: Arc<OnceLock<Arc<dyn Answer>>>,
}

impl std::fmt::Debug for PeerService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PeerService").field("transport", &self.transport).finish_non_exhaustive()
    }
}

impl PeerService {
    /// For the peer listener.
    pub fn new(transport: Arc<PeerTransport>) -> Self {
        Self { transport, answer: Arc::default() }
    }

    /// Forwarded calls go here. Once.
    pub fn answer_with(&self, answer: Arc<dyn Answer>) {
        assert!(self.answer.set(answer).is_ok(), "forwarded calls have one place to go");
    }

    /// Ready for a listener.
    pub fn into_server(self) -> PeerServer<Self> {
        PeerServer::new(self)
            .max_decoding_message_size(PACKET_MAX_BYTES)
            .max_encoding_message_size(PACKET_MAX_BYTES)
    }

    fn greet(&self, hello: Option<&wire::Hello>) -> Result<NodeId, Status> {
        let shared = &self.transport.shared;
        let checked = hello
            .ok_or(Refused::Missing)
            .and_then(|hello| shared.book.check(hello, |node| self.transport.knows(node)));
        checked.map_err(|refused| {
            shared.metrics.peer_refused.inc();
            tracing::warn!("refused a node: {refused}");
            Status::failed_precondition(refused.to_string())
        })
    }
}

#[tonic::async_trait]
impl Peer for PeerService {
    type ExchangeStream = BoxStream<'static, Result<wire::Receipt, Status>>;

    async fn exchange(
        &self,
        request: Request<Streaming<wire::Packet>>,
    ) -> Result<Response<Self::ExchangeStream>, Status> {
        let shared = Arc::clone(&self.transport.shared);
        let mut packets = request.into_inner();
        let first = tokio::time::timeout(shared.settings.connect_timeout, packets.message())
            .await
            .map_err(|_| Status::deadline_exceeded("no hello in time"))??;
        let hello = first.as_ref().and_then(|packet| packet.hello.as_ref());
        let from = self.greet(hello)?;
        let lane = match hello.map(wire::Hello::lane) {
            Some(wire::Lane::Control) => Lane::Control,
            Some(wire::Lane::Data) => Lane::Data,
            _ => return Err(Status::failed_precondition("the hello names no lane")),
        };
        let greeting = wire::Receipt {
            hello: Some(shared.book.hello(from, hello.map_or(wire::Lane::Control, wire::Hello::lane))),
        };
        let arrived = self.transport.arrive(from);
        // The answer's stream reads the packets: it is dropped with its connection, and nothing is left behind.
        let receipts = futures::stream::unfold(Some((packets, Some(greeting), arrived)), move |state| {
            let shared = Arc::clone(&shared);
            async move {
                let (mut packets, greeting, arrived) = state?;
                if let Some(greeting) = greeting {
                    return Some((Ok(greeting), Some((packets, None, arrived))));
                }
                loop {
                    match packets.message().await {
                        Ok(Some(packet)) => deliver(&shared, from, lane, packet),
                        Ok(None) => return None,
                        Err(status) => return Some((Err(status), None)),
                    }
                }
            }
        });
        Ok(Response::new(Box::pin(receipts)))
    }

    async fn forward(
        &self,
        request: Request<wire::ForwardRequest>,
    ) -> Result<Response<wire::ForwardResponse>, Status> {
        let request = request.into_inner();
        let from = self.greet(request.hello.as_ref())?;
        let answer =
            self.answer.get().ok_or_else(|| Status::failed_precondition("this node is still starting"))?;
        let response = Arc::clone(answer).answer(from, request.request).await;
        Ok(Response::new(wire::ForwardResponse { response }))
    }
}

fn deliver(shared: &crate::peer::Shared, from: NodeId, lane: Lane, packet: wire::Packet) {
    let Some(inbound) = shared.inbound() else { return };
    for frame in packet.frames {
        let Some(frame) = frames::from_wire(frame, lane) else { continue };
        shared.metrics.peer_received.inc_by(frame.weight() as u64);
        inbound.receive(from, frame);
    }
}
