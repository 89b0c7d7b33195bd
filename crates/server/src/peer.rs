//! Frames between nodes over gRPC: [`flotilla_raft::Transport`] outwards, [`flotilla_raft::Inbound`] inwards.
//!
//! To each peer a node keeps two streams, one per lane, on connections of their own, so that votes never
//! wait behind entries. A stream is one-way; answers to a frame come as frames on the peer's own streams.
//! Whatever waits for a peer leaves as one packet. The queue of a lane is bounded in bytes and forgotten
//! when the connection is lost: Raft sends again what still matters.

mod frames;
mod link;
mod queue;
mod service;
#[cfg(test)]
mod tests;

pub use service::{Answer, PeerService};

use crate::identity::Book;
use crate::metrics::Metrics;
use bytes::Bytes;
use flotilla_broker::{Forward, ForwardError};
use flotilla_proto::peer::v1 as wire;
use flotilla_raft::{Frame, Inbound, Lane, PeerState, Transport, Unreachable};
use flotilla_types::{NodeId, Random};
use futures::future::BoxFuture;
use link::{Arrived, Link};
use parking_lot::RwLock;
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock, Weak};

/// Bounds and waits of the links; see [`crate::config::Peer`].
pub type Settings = crate::config::Peer;

/// This node's links to all others. Tasks run on the runtime it was started on.
#[derive(Debug)]
pub struct PeerTransport {
    pub(crate) shared: Arc<Shared>,
    links: RwLock<BTreeMap<NodeId, Arc<Link>>>,
    runtime: tokio::runtime::Handle,
}

/// What all links share.
pub(crate) struct Shared {
    pub(crate) book: Book,
    pub(crate) settings: Settings,
    pub(crate) metrics: Metrics,
    pub(crate) random: Arc<dyn Random>,
    /// Weak, because who listens here also sends here.
    pub(crate) inbound: OnceLock<Weak<dyn Inbound>>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("book", &self.book)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl Shared {
    /// Who takes frames; nobody before the start and after the end.
    pub(crate) fn inbound(&self) -> Option<Arc<dyn Inbound>> {
        self.inbound.get()?.upgrade()
    }
}

impl PeerTransport {
    /// Knows its peers and talks to nobody yet. `runtime` will carry the links.
    pub fn new(
        book: Book,
        settings: Settings,
        metrics: Metrics,
        random: Arc<dyn Random>,
        runtime: tokio::runtime::Handle,
    ) -> Arc<Self> {
        let shared = Shared { book, settings, metrics, random, inbound: OnceLock::new() };
        Arc::new(Self { shared: Arc::new(shared), links: RwLock::default(), runtime })
    }

    /// Who takes frames and hears of lost peers; the caller keeps it. From here on links connect. Once.
    pub fn start(&self, inbound: &Arc<dyn Inbound>) {
        assert!(self.shared.inbound.set(Arc::downgrade(inbound)).is_ok(), "a transport is started once");
        for link in self.links.read().values() {
            link.start(&self.shared, &self.runtime);
        }
    }

    /// Where a peer is. A new address takes effect at the next connect; an unknown peer gets links.
    pub fn learn(&self, peer: NodeId, endpoint: &str) {
        if peer == self.shared.book.me().node {
            return;
        }
        let mut links = self.links.write();
        if let Some(link) = links.get(&peer) {
            link.moved_to(endpoint);
            return;
        }
        let link = Arc::new(Link::new(peer, endpoint, &self.shared.settings));
        if self.shared.inbound.get().is_some() {
            link.start(&self.shared, &self.runtime);
        }
        links.insert(peer, link);
    }

    /// Who this node is, and what it knows of others' stores.
    pub fn book(&self) -> &Book {
        &self.shared.book
    }

    /// Closes every link. Frames that still wait are forgotten.
    pub fn stop(&self) {
        for link in std::mem::take(&mut *self.links.write()).into_values() {
            link.stop();
        }
    }

    /// A peer has opened a stream to this node; see [`Link::arrive`].
    fn arrive(&self, peer: NodeId) -> Option<Arrived> {
        self.links.read().get(&peer).map(|link| link.arrive(&self.shared))
    }

    pub(crate) fn knows(&self, peer: NodeId) -> bool {
        self.links.read().contains_key(&peer)
    }

    fn link(&self, peer: NodeId) -> Result<Arc<Link>, Unreachable> {
        let unknown = || Unreachable { node: peer, why: "no such node is known".to_owned() };
        self.links.read().get(&peer).cloned().ok_or_else(unknown)
    }
}

impl Drop for PeerTransport {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Transport for PeerTransport {
    fn send(&self, to: NodeId, frame: Frame) -> BoxFuture<'_, Result<(), Unreachable>> {
        Box::pin(async move {
            let link = self.link(to)?;
            link.lane(frame.lane).push(frame).await.map_err(|why| Unreachable { node: to, why })
        })
    }

    fn state(&self, peer: NodeId) -> PeerState {
        self.links.read().get(&peer).map_or(PeerState::Down, |link| link.state())
    }

    fn peers(&self) -> Vec<NodeId> {
        self.links.read().keys().copied().collect()
    }
}

impl Forward for PeerTransport {
    fn call(&self, to: NodeId, request: Bytes) -> BoxFuture<'_, Result<Bytes, ForwardError>> {
        Box::pin(async move {
            let link = self.link(to).map_err(|e| ForwardError::Unreachable { node: to, why: e.why })?;
            link.forward(&self.shared, request).await
        })
    }
}

/// A lane as the wire names it.
const fn wire_lane(lane: Lane) -> wire::Lane {
    match lane {
        Lane::Control => wire::Lane::Control,
        Lane::Data => wire::Lane::Data,
    }
}

/// A lane as metrics name it.
const fn lane_name(lane: Lane) -> &'static str {
    match lane {
        Lane::Control => "control",
        Lane::Data => "data",
    }
}
