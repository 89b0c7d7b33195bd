//! One node: its parts, in the order they start and, reversed, stop.

mod start;
#[cfg(test)]
mod tests;
mod watch;

use crate::config::{Config, InitialNode};
use crate::http::Pages;
use crate::peer::PeerTransport;
use crate::shutdown::{Phase, Phases};
use flotilla_broker::Broker;
use flotilla_broker::store::{OpenMode, Store};
use flotilla_types::NodeId;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// A node that runs.
#[derive(Debug)]
pub struct Node {
    /// Does what is asked.
    pub broker: Arc<Broker>,
    /// Where it listens.
    pub addresses: Addresses,
    /// Why it serves no data, if so.
    pub quarantined: Option<String>,
    phases: Phases,
    pages: Pages,
    store: Option<Arc<dyn Store>>,
    transport: Arc<PeerTransport>,
    /// The client listener and what watches the broker.
    tasks: JoinSet<()>,
    /// The http listener: answers until the end.
    probes: JoinSet<()>,
    /// Raft and its traffic. `None` only while stopping.
    peer_runtime: Option<tokio::runtime::Runtime>,
}

/// Where a node listens: as bound, so with real ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// gRPC for clients.
    pub client: SocketAddr,
    /// gRPC for nodes.
    pub peer: SocketAddr,
    /// Health and metrics.
    pub http: SocketAddr,
}

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address is taken or not ours.
    #[error("cannot listen on {address} ({key}): {error}")]
    Listen {
        /// The setting.
        key: &'static str,
        /// Its value.
        address: String,
        /// The system's reason.
        error: std::io::Error,
    },
    /// The data directory cannot be used.
    #[error("{0}")]
    Store(#[from] flotilla_broker::store::OpenError),
    /// Raft did not start.
    #[error("{0}")]
    Raft(#[from] flotilla_raft::Error),
    /// A thread pool could not be made, and the like.
    #[error("cannot start: {0}")]
    System(String),
}

impl Node {
    /// Starts everything. Returns when the node serves what it can; it is ready when the cluster is.
    pub async fn start(config: Config, mode: OpenMode) -> Result<Self, StartError> {
        start::start(config, mode).await
    }

    /// Returns once clients may be sent here, or `limit` has passed: whether it is ready.
    pub async fn wait_ready(&self, limit: Duration) -> bool {
        tokio::time::timeout(limit, self.phases.reached(Phase::Serving)).await.is_ok()
    }

    /// How far it is.
    pub fn phases(&self) -> &Phases {
        &self.phases
    }

    /// Stops: not ready any more, answers in flight come, leadership goes to others, connections close, the
    /// store leaves an exact marker.
    pub async fn stop(mut self) {
        self.pages.set(crate::http::Readiness::Not("stopping".to_owned()));
        self.phases.reach(Phase::Draining);
        self.broker.shutdown().await;
        self.phases.reach(Phase::Closing);
        while self.tasks.join_next().await.is_some() {}
        self.transport.stop();
        if let Some(store) = self.store.take() {
            let closed = blocking(move || store.close()).await;
            if let Err(error) = closed {
                tracing::error!("the store was not closed: {error}");
            }
        }
        self.probes.shutdown().await;
        if let Some(runtime) = self.peer_runtime.take() {
            blocking(move || runtime.shutdown_timeout(PEER_RUNTIME_STOP)).await;
        }
    }
}

/// Its tasks have been told to end; this is how long they may take to hear it.
const PEER_RUNTIME_STOP: Duration = Duration::from_secs(1);

impl Drop for Node {
    fn drop(&mut self) {
        // A runtime must not be dropped within another.
        if let Some(runtime) = self.peer_runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Work that blocks, at start and stop only; the rest is the broker's pool's.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    #[expect(clippy::disallowed_methods, reason = "opening and closing the store happen once each")]
    let done = tokio::task::spawn_blocking(work).await;
    match done {
        Ok(value) => value,
        // The panic has ended the process already, or the test that made it.
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// This node's entry of the list; made from where it listens, if it is not in it.
fn own_entry(config: &Config, addresses: &Addresses) -> InitialNode {
    let listed = config.initial_nodes.iter().find(|node| node.node_id == config.node_id).cloned();
    listed.unwrap_or_else(|| InitialNode {
        node_id: config.node_id,
        peer: addresses.peer.to_string(),
        client: addresses.client.to_string(),
        rack: config.rack.clone(),
    })
}

/// A node as the broker names it.
fn spec(node: &InitialNode) -> flotilla_broker::NodeSpec {
    flotilla_broker::NodeSpec {
        id: NodeId(node.node_id.get()),
        peer: node.peer.clone(),
        client: node.client.clone(),
        rack: (!node.rack.is_empty()).then(|| node.rack.clone()),
    }
}
