//! Refuses settings that could not work, before anything is opened.

use super::Config;
use std::time::Duration;

/// Which setting is wrong and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key} is {value}, expected {expected}")]
pub struct InvalidConfig {
    /// As in the file, dotted.
    pub key: String,
    /// As given.
    pub value: String,
    /// What would be right.
    pub expected: String,
}

fn invalid(key: &str, value: impl ToString, expected: &str) -> InvalidConfig {
    InvalidConfig { key: key.to_owned(), value: value.to_string(), expected: expected.to_owned() }
}

impl Config {
    /// Refuses what could not work. The other crates' tables are checked by their own rules.
    pub fn check(&self) -> Result<(), InvalidConfig> {
        self.check_identity()?;
        self.check_addresses()?;
        self.check_bounds()?;
        self.broker.check().map_err(|e| invalid(&format!("broker.{}", e.key), e.value, e.expected))?;
        self.store.check().map_err(|error| invalid("[store]", "refused", &error.to_string()))?;
        self.raft.check().map_err(|error| invalid("[raft]", "refused", &error.to_string()))
    }

    fn check_identity(&self) -> Result<(), InvalidConfig> {
        if !(1..=i32::MAX as u32).contains(&self.node_id.get()) {
            return Err(invalid("node_id", self.node_id, "1 to 2147483647, different on each node"));
        }
        if self.cluster_id.0.is_nil() {
            return Err(invalid(
                "cluster_id",
                self.cluster_id,
                "a UUID, the same on each node of the cluster",
            ));
        }
        let me = self.node_id;
        if !self.initial_nodes.is_empty() && !self.initial_nodes.iter().any(|node| node.node_id == me) {
            return Err(invalid(
                "initial_nodes",
                format!("a list without node {me}"),
                "this node's own entry too",
            ));
        }
        for (place, node) in self.initial_nodes.iter().enumerate() {
            if !(1..=i32::MAX as u32).contains(&node.node_id.get()) {
                return Err(invalid("initial_nodes.node_id", node.node_id, "1 to 2147483647"));
            }
            if self.initial_nodes[..place].iter().any(|other| other.node_id == node.node_id) {
                return Err(invalid("initial_nodes.node_id", node.node_id, "each id once"));
            }
            if self.initial_nodes[..place].iter().any(|other| other.peer == node.peer) {
                return Err(invalid("initial_nodes.peer", &node.peer, "each address once"));
            }
        }
        Ok(())
    }

    fn check_addresses(&self) -> Result<(), InvalidConfig> {
        let listen = [
            ("listen.client", &self.listen.client),
            ("listen.peer", &self.listen.peer),
            ("listen.http", &self.listen.http),
        ];
        let nodes = self
            .initial_nodes
            .iter()
            .flat_map(|node| [("initial_nodes.peer", &node.peer), ("initial_nodes.client", &node.client)]);
        for (key, address) in listen.into_iter().chain(nodes) {
            let port = address.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port);
            if port.and_then(|port| port.parse::<u16>().ok()).is_none() {
                return Err(invalid(key, format!("{address:?}"), "host:port"));
            }
        }
        Ok(())
    }

    fn check_bounds(&self) -> Result<(), InvalidConfig> {
        let limits = &self.limits;
        let peer = &self.peer;
        let counts = [
            ("limits.connections", limits.connections),
            ("limits.streams_per_connection", limits.streams_per_connection),
            ("limits.produce_in_flight_stream", limits.produce_in_flight_stream),
            ("peer.connections", peer.connections),
            ("peer.threads", peer.threads),
        ];
        for (key, value) in counts {
            if value == 0 {
                return Err(invalid(key, value, "at least 1"));
            }
        }
        let waits = [
            ("limits.handshake_timeout", limits.handshake_timeout),
            ("limits.idle_timeout", limits.idle_timeout),
            ("limits.keepalive_interval", limits.keepalive_interval),
            ("limits.keepalive_timeout", limits.keepalive_timeout),
            ("limits.deadline", limits.deadline),
            ("peer.connect_timeout", peer.connect_timeout),
            ("peer.reconnect_min", peer.reconnect_min),
            ("peer.reconnect_max", peer.reconnect_max),
            ("peer.keepalive_interval", peer.keepalive_interval),
            ("peer.keepalive_timeout", peer.keepalive_timeout),
        ];
        for (key, value) in waits {
            if value < Duration::from_millis(10) {
                return Err(invalid(key, flotilla_types::duration::format(value), "at least 10ms"));
            }
        }
        if peer.reconnect_min > peer.reconnect_max {
            let value = flotilla_types::duration::format(peer.reconnect_min);
            return Err(invalid("peer.reconnect_min", value, "at most peer.reconnect_max"));
        }
        let windows = [
            ("limits.stream_window_bytes", limits.stream_window_bytes),
            ("limits.connection_window_bytes", limits.connection_window_bytes),
            ("peer.stream_window_bytes", peer.stream_window_bytes),
            ("peer.connection_window_bytes", peer.connection_window_bytes),
        ];
        for (key, value) in windows {
            if !(65_535..=(1 << 30)).contains(&value.0) {
                return Err(invalid(key, value, "64KiB to 1GiB"));
            }
        }
        let batch = flotilla_types::limits::BATCH_MAX_BYTES as u64;
        let sizes = [
            ("limits.message_bytes", limits.message_bytes, 64 << 10, 64 << 20),
            ("limits.header_list_bytes", limits.header_list_bytes, 4 << 10, 1 << 20),
            ("peer.packet_bytes", peer.packet_bytes, 64 << 10, 16 << 20),
            ("peer.queue_bytes", peer.queue_bytes, batch, 1 << 30),
        ];
        for (key, value, least, most) in sizes {
            if !(least..=most).contains(&value.0) {
                let [least, most] = [least, most].map(flotilla_types::bytesize::ByteSize);
                return Err(invalid(key, value, &format!("{least} to {most}")));
            }
        }
        crate::telemetry::filter(&self.log.level)
            .map(|_| ())
            .map_err(|why| invalid("log.level", format!("{:?}", self.log.level), &why))
    }
}
