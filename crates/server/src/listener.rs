//! Our own accept loop: the gRPC library bounds calls, not connections.
//!
//! A connection is counted before anything is read from it, must send its HTTP/2 preface in time, and is
//! closed when it has been idle for long or the node stops. Every bound is a setting and has a metric.

mod connection;
mod io;
#[cfg(test)]
mod tests;

use crate::metrics::{ListenerLabel, Metrics};
use crate::shutdown::{Phase, Phases};
use flotilla_types::Clock;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tonic::service::Routes;

/// Bounds of one listener.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `client` or `peer`, for metrics and logs.
    pub name: &'static str,
    /// Connections at once.
    pub connections: u32,
    /// How long the preface may take.
    pub handshake_timeout: Duration,
    /// A connection without a call for this long is closed.
    pub idle_timeout: Duration,
    /// How often a silent connection is pinged.
    pub keepalive_interval: Duration,
    /// A ping not answered for this long closes the connection.
    pub keepalive_timeout: Duration,
    /// Calls at once on one connection.
    pub streams: u32,
    /// Bytes of a call's headers.
    pub header_list_bytes: u32,
    /// HTTP/2 window of a stream.
    pub stream_window: u32,
    /// HTTP/2 window of a connection.
    pub connection_window: u32,
    /// How long connections may take to end when the node stops.
    pub drain_timeout: Duration,
}

impl Settings {
    /// The client listener's.
    pub fn client(limits: &crate::config::Limits) -> Self {
        Self {
            name: "client",
            connections: limits.connections,
            handshake_timeout: limits.handshake_timeout,
            idle_timeout: limits.idle_timeout,
            keepalive_interval: limits.keepalive_interval,
            keepalive_timeout: limits.keepalive_timeout,
            streams: limits.streams_per_connection,
            header_list_bytes: limits.header_list_bytes.0 as u32,
            stream_window: limits.stream_window_bytes.0 as u32,
            connection_window: limits.connection_window_bytes.0 as u32,
            drain_timeout: limits.drain_timeout,
        }
    }

    /// The peer listener's. Its streams stay for as long as the connection, so none of them is idle.
    pub fn peer(peer: &crate::config::Peer, limits: &crate::config::Limits) -> Self {
        Self {
            name: "peer",
            connections: peer.connections,
            keepalive_interval: peer.keepalive_interval,
            keepalive_timeout: peer.keepalive_timeout,
            stream_window: peer.stream_window_bytes.0 as u32,
            connection_window: peer.connection_window_bytes.0 as u32,
            drain_timeout: Duration::from_millis(500),
            // Calls that are held for others' members count too.
            streams: PEER_STREAMS,
            ..Self::client(limits)
        }
    }
}

/// Calls at once from one node: more than it may hold for members ([`flotilla_broker::Config`]).
const PEER_STREAMS: u32 = 65_536;

/// What a listener shares with its connections.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    pub(crate) settings: Arc<Settings>,
    pub(crate) phases: Phases,
    pub(crate) metrics: Metrics,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Shared {
    pub(crate) fn label(&self) -> ListenerLabel {
        ListenerLabel { listener: self.settings.name }
    }
}

/// Accepts and serves until the node reaches `stop_at`, then lets connections end for up to
/// [`Settings::drain_timeout`]. Owns every task it starts.
pub async fn serve(
    listener: TcpListener,
    routes: Routes,
    settings: Settings,
    phases: Phases,
    stop_at: Phase,
    metrics: Metrics,
    clock: Arc<dyn Clock>,
) {
    let room = Arc::new(Semaphore::new(settings.connections as usize));
    let shared = Shared { settings: Arc::new(settings), phases, metrics, clock };
    let routes = routes.prepare();
    let mut tasks = JoinSet::new();
    let stop = shared.phases.reached(stop_at);
    tokio::pin!(stop);
    loop {
        let accepted = tokio::select! {
            () = &mut stop => break,
            Some(_) = tasks.join_next(), if !tasks.is_empty() => continue,
            accepted = listener.accept() => accepted,
        };
        let (stream, remote) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, most likely: waiting is all that helps, and spinning would not.
                tracing::warn!(listener = shared.settings.name, "cannot accept: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(permit) = Arc::clone(&room).try_acquire_owned() else {
            shared.metrics.connections_refused.get_or_create(&shared.label()).inc();
            tracing::debug!(listener = shared.settings.name, %remote, "refused: too many connections");
            continue;
        };
        shared.metrics.connections_accepted.get_or_create(&shared.label()).inc();
        tasks.spawn(connection::serve(stream, remote, routes.clone(), shared.clone(), stop_at, permit));
    }
    drop(listener);
    let ended = async { while tasks.join_next().await.is_some() {} };
    if tokio::time::timeout(shared.settings.drain_timeout, ended).await.is_err() {
        tracing::info!(
            listener = shared.settings.name,
            left = tasks.len(),
            "closing connections that did not end"
        );
    }
    tasks.shutdown().await;
}

const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
