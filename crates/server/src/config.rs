//! What an operator may set: defaults, then the file, then `FLOTILLA_…`, then the command line.
//!
//! Each crate owns its own table; this file composes them and adds what is the process's own. Every key is
//! shown with its default and reason in `deploy/config/node.toml`.

mod check;
mod sources;
#[cfg(test)]
mod tests;

pub use check::InvalidConfig;
pub use sources::{LoadError, Overrides, keys, load};

use flotilla_types::bytesize::ByteSize;
use flotilla_types::{ClusterId, NodeId};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;
use uuid::Uuid;

/// Everything a node is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// This node's id, at least 1. Given by the operator and never reused: a lost disk comes back under a
    /// new id. No default (0 is refused).
    pub node_id: NodeId,
    /// The cluster's id, a UUID that all its nodes share. No default (the nil UUID is refused).
    pub cluster_id: ClusterId,
    /// Where everything is kept; mode 0700. Default `/var/lib/flotilla`.
    pub data_dir: PathBuf,
    /// Where the node stands; replicas are spread over racks. Default empty: unknown.
    pub rack: String,
    /// Every node of the new cluster, the same list on each. Read when the cluster starts for the first
    /// time; later it says where to find peers first.
    pub initial_nodes: Vec<InitialNode>,
    /// Where the node listens.
    pub listen: Listen,
    /// Bounds of the client listener.
    pub limits: Limits,
    /// The connections between nodes.
    pub peer: Peer,
    /// What the node says of itself.
    pub log: Log,
    /// The `[store]` table.
    pub store: flotilla_broker::store::Config,
    /// The `[raft]` table.
    pub raft: flotilla_raft::Config,
    /// The `[broker]` table.
    pub broker: flotilla_broker::Config,
}

/// One node of a new cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InitialNode {
    /// Its id.
    pub node_id: NodeId,
    /// Where other nodes reach it, `host:port`.
    pub peer: String,
    /// Where clients reach it, `host:port`; this is what they are told.
    pub client: String,
    /// Where it stands.
    #[serde(default)]
    pub rack: String,
}

/// Where the node listens, `host:port` each; port 0 takes a free one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Listen {
    /// gRPC for clients. Default `127.0.0.1:7401`: nothing is open to others until somebody says so.
    pub client: String,
    /// gRPC for other nodes. Default `127.0.0.1:7501`. A port of its own, so that bulk reads never delay votes.
    pub peer: String,
    /// Liveness, readiness and metrics. Default `127.0.0.1:7601`.
    pub http: String,
}

/// Bounds of the client listener. Each has a metric.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Connections at once; one more is closed as soon as it is accepted. Default 4096.
    pub connections: u32,
    /// How long a new connection may take to send the HTTP/2 preface. Default 5s, against clients that
    /// open connections and say nothing.
    #[serde(with = "flotilla_types::duration")]
    pub handshake_timeout: Duration,
    /// A connection without a call for this long is closed. Default 10m.
    #[serde(with = "flotilla_types::duration")]
    pub idle_timeout: Duration,
    /// How often a silent connection is pinged. Default 20s, below what load balancers forget after.
    #[serde(with = "flotilla_types::duration")]
    pub keepalive_interval: Duration,
    /// A ping that is not answered for this long closes the connection. Default 10s.
    #[serde(with = "flotilla_types::duration")]
    pub keepalive_timeout: Duration,
    /// Calls at once on one connection. Default 256.
    pub streams_per_connection: u32,
    /// Bytes of a call's headers. Default 16KiB.
    pub header_list_bytes: ByteSize,
    /// Largest message taken, besides 64KiB for what is around a batch. Default 4MiB. Topics whose
    /// `max_batch_bytes` is larger need more.
    pub message_bytes: ByteSize,
    /// Batches of one produce stream that wait for their answer; the stream is read no further before
    /// one is answered. Default 1024.
    pub produce_in_flight_stream: u32,
    /// The deadline of a call that brings none. Default 30s.
    #[serde(with = "flotilla_types::duration")]
    pub deadline: Duration,
    /// HTTP/2 window of one stream. Default 8MiB, a few batches: a smaller one would pace a producer by round trips.
    pub stream_window_bytes: ByteSize,
    /// HTTP/2 window of one connection. Default 16MiB.
    pub connection_window_bytes: ByteSize,
    /// How long a stopping node waits for calls to end before it closes connections. Default 5s.
    #[serde(with = "flotilla_types::duration")]
    pub drain_timeout: Duration,
}

/// The connections between nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Peer {
    /// Bytes waiting for one peer, per lane; who has more waits. Default 32MiB.
    pub queue_bytes: ByteSize,
    /// Frames are put together up to about this many bytes. Default 1MiB.
    pub packet_bytes: ByteSize,
    /// How long connecting, and the hello, may take. Default 2s.
    #[serde(with = "flotilla_types::duration")]
    pub connect_timeout: Duration,
    /// First pause after a lost connection. Default 50ms; doubled each time, with jitter.
    #[serde(with = "flotilla_types::duration")]
    pub reconnect_min: Duration,
    /// Longest such pause. Default 2s.
    #[serde(with = "flotilla_types::duration")]
    pub reconnect_max: Duration,
    /// How often a connection is pinged. Default 5s. Raft notices silence by itself, sooner.
    #[serde(with = "flotilla_types::duration")]
    pub keepalive_interval: Duration,
    /// A ping that is not answered for this long closes the connection. Default 5s.
    #[serde(with = "flotilla_types::duration")]
    pub keepalive_timeout: Duration,
    /// HTTP/2 window of one stream. Default 8MiB.
    pub stream_window_bytes: ByteSize,
    /// HTTP/2 window of one connection. Default 64MiB.
    pub connection_window_bytes: ByteSize,
    /// Connections taken from other nodes. Default 256: three per node, and room for half-dead ones.
    pub connections: u32,
    /// Threads that carry Raft and its traffic, and nothing else. Default 2.
    pub threads: u32,
}

/// What the node says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// `error`, `warn`, `info`, `debug` or `trace`, or targets with levels as in
    /// `info,flotilla_raft=debug`. Default `info,openraft=warn`: the consensus library tells of every
    /// step of every shard.
    pub level: String,
    /// `text` or `json`. Default `text`.
    pub format: LogFormat,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// Room around a batch in a message: names, ids, contexts.
pub const MESSAGE_SLACK_BYTES: usize = 64 << 10;

/// The cluster id of `--dev`: one node that talks to nobody needs no other.
pub const DEV_CLUSTER: ClusterId = ClusterId(Uuid::from_u128(0x666c_6f74_696c_6c61_0000_0000_0000_0de0));

impl Default for Config {
    fn default() -> Self {
        Self {
            node_id: NodeId(0),
            cluster_id: ClusterId(Uuid::nil()),
            data_dir: PathBuf::from("/var/lib/flotilla"),
            rack: String::new(),
            initial_nodes: Vec::new(),
            listen: Listen::default(),
            limits: Limits::default(),
            peer: Peer::default(),
            log: Log::default(),
            store: flotilla_broker::store::Config::default(),
            raft: flotilla_raft::Config::default(),
            broker: flotilla_broker::Config::default(),
        }
    }
}

impl Default for Listen {
    fn default() -> Self {
        let at = |port: u16| format!("127.0.0.1:{port}");
        Self { client: at(7401), peer: at(7501), http: at(7601) }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 4096,
            handshake_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(600),
            keepalive_interval: Duration::from_secs(20),
            keepalive_timeout: Duration::from_secs(10),
            streams_per_connection: 256,
            header_list_bytes: ByteSize(16 << 10),
            message_bytes: ByteSize(4 << 20),
            produce_in_flight_stream: 1024,
            deadline: Duration::from_secs(30),
            stream_window_bytes: ByteSize(8 << 20),
            connection_window_bytes: ByteSize(16 << 20),
            drain_timeout: Duration::from_secs(5),
        }
    }
}

impl Default for Peer {
    fn default() -> Self {
        Self {
            queue_bytes: ByteSize(32 << 20),
            packet_bytes: ByteSize(1 << 20),
            connect_timeout: Duration::from_secs(2),
            reconnect_min: Duration::from_millis(50),
            reconnect_max: Duration::from_secs(2),
            keepalive_interval: Duration::from_secs(5),
            keepalive_timeout: Duration::from_secs(5),
            stream_window_bytes: ByteSize(8 << 20),
            connection_window_bytes: ByteSize(64 << 20),
            connections: 256,
            threads: 2,
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info,openraft=warn".to_owned(), format: LogFormat::Text }
    }
}

impl Limits {
    /// Largest message that is decoded.
    pub fn decode_bytes(&self) -> usize {
        self.message_bytes.get() + MESSAGE_SLACK_BYTES
    }
}

impl Config {
    /// A single node for trying things out: replication factor 1, everything else as in production.
    #[must_use]
    pub fn dev(mut self, data_dir: PathBuf) -> Self {
        self.node_id = NodeId(1);
        self.cluster_id = DEV_CLUSTER;
        self.data_dir = data_dir;
        self.broker.default_replication = 1;
        self.initial_nodes.clear();
        self
    }

    /// The list every node of a new cluster is given; of a `--dev` node, itself.
    pub fn nodes(&self) -> Vec<InitialNode> {
        if !self.initial_nodes.is_empty() {
            return self.initial_nodes.clone();
        }
        vec![InitialNode {
            node_id: self.node_id,
            peer: self.listen.peer.clone(),
            client: self.listen.client.clone(),
            rack: self.rack.clone(),
        }]
    }

    /// The effective settings as TOML, secrets masked. (There are no secrets yet; what holds one will be
    /// shown as `"***"`.)
    pub fn to_toml(&self) -> String {
        toml::to_string_pretty(self).expect("settings are plain values")
    }
}
