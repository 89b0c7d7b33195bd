//! What the process counts: connections, calls, and the traffic between nodes.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use std::sync::Arc;

/// Label of the listeners: `client` or `peer`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ListenerLabel {
    /// Which.
    pub listener: &'static str,
}

/// Labels of failed calls.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ErrorLabels {
    /// The call: `CreateTopic`.
    pub call: &'static str,
    /// The contract's reason: `NOT_LEADER`.
    pub reason: &'static str,
}

/// Labels of the links to other nodes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct LinkLabels {
    /// The other node.
    pub peer: u32,
    /// `control` or `data`.
    pub lane: &'static str,
}

/// All of this crate's metrics. Cloning shares them.
#[derive(Clone, Debug, Default)]
pub struct Metrics(Arc<Inner>);

impl std::ops::Deref for Metrics {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

/// The metrics themselves.
#[derive(Debug, Default)]
#[expect(missing_docs, reason = "each one's help text is in `register`")]
pub struct Inner {
    pub connections: Family<ListenerLabel, Gauge>,
    pub connections_accepted: Family<ListenerLabel, Counter>,
    pub connections_refused: Family<ListenerLabel, Counter>,
    pub handshakes_failed: Family<ListenerLabel, Counter>,
    pub connections_idle_closed: Family<ListenerLabel, Counter>,
    pub call_errors: Family<ErrorLabels, Counter>,
    pub produce_streams: Gauge,
    pub link_up: Family<LinkLabels, Gauge>,
    pub link_losses: Family<LinkLabels, Counter>,
    pub link_sent: Family<LinkLabels, Counter>,
    pub link_packets: Family<LinkLabels, Counter>,
    pub link_frames: Family<LinkLabels, Counter>,
    pub link_queue: Family<LinkLabels, Gauge>,
    pub peer_received: Counter,
    pub peer_refused: Counter,
}

impl Metrics {
    /// Adds them to the page.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("flotilla_server_connections", "Connections that stand", self.connections.clone());
        registry.register(
            "flotilla_server_connections_accepted",
            "Connections accepted since start",
            self.connections_accepted.clone(),
        );
        registry.register(
            "flotilla_server_connections_refused",
            "Connections closed at once because of limits.connections",
            self.connections_refused.clone(),
        );
        registry.register(
            "flotilla_server_handshakes_failed",
            "Connections that did not send an HTTP/2 preface in time",
            self.handshakes_failed.clone(),
        );
        registry.register(
            "flotilla_server_connections_idle_closed",
            "Connections closed because of limits.idle_timeout",
            self.connections_idle_closed.clone(),
        );
        registry.register(
            "flotilla_server_call_errors",
            "Calls answered with an error, by call and reason",
            self.call_errors.clone(),
        );
        registry.register(
            "flotilla_server_produce_streams",
            "Produce streams that stand",
            self.produce_streams.clone(),
        );
        registry.register(
            "flotilla_server_link_up",
            "1 where the connection to a node stands",
            self.link_up.clone(),
        );
        registry.register(
            "flotilla_server_link_losses",
            "Connections to a node that were lost",
            self.link_losses.clone(),
        );
        registry.register_with_unit(
            "flotilla_server_link_sent",
            "Bytes of frames given to the connection",
            Unit::Bytes,
            self.link_sent.clone(),
        );
        registry.register(
            "flotilla_server_link_packets",
            "Packets given to the connection",
            self.link_packets.clone(),
        );
        registry.register("flotilla_server_link_frames", "Frames in those packets", self.link_frames.clone());
        registry.register_with_unit(
            "flotilla_server_link_queue",
            "Bytes of frames that wait for the connection",
            Unit::Bytes,
            self.link_queue.clone(),
        );
        registry.register_with_unit(
            "flotilla_server_peer_received",
            "Bytes of frames from other nodes",
            Unit::Bytes,
            self.peer_received.clone(),
        );
        registry.register(
            "flotilla_server_peer_refused",
            "Hellos of other nodes that were refused",
            self.peer_refused.clone(),
        );
    }
}
