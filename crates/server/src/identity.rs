//! Who this node is to other nodes, and who they must be: the hello of each connection between nodes.
//!
//! A node that was started with another cluster's data, under a number that is taken, or behind an address
//! that now belongs to somebody else must be refused before one frame of it reaches Raft.

mod stores;

pub use stores::KnownStores;

use flotilla_proto::peer::v1 as wire;
use flotilla_types::{ClusterId, NodeId, StoreId};
use uuid::Uuid;

/// The version of the protocol between nodes. A node talks to its own version and the one before.
pub const WIRE_VERSION: u32 = 1;
const OLDEST_WIRE_VERSION: u32 = 1;

/// Who this node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its cluster.
    pub cluster: ClusterId,
    /// Its id.
    pub node: NodeId,
    /// Its data directory.
    pub store: StoreId,
    /// Differs for each start of the process.
    pub incarnation: u64,
}

/// Why a hello is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Another protocol came first.
    #[error("the first packet carries no hello")]
    Missing,
    /// Too old or too new.
    #[error("wire version {theirs} is not supported, supported are {OLDEST_WIRE_VERSION} to {WIRE_VERSION}")]
    Version {
        /// As sent.
        theirs: u32,
    },
    /// A node of another cluster, or one that was set up anew.
    #[error("node {node} belongs to cluster {theirs:?}, this is cluster {ours}")]
    Cluster {
        /// Who says so.
        node: u32,
        /// As sent, at most 64 characters.
        theirs: String,
        /// This node's.
        ours: ClusterId,
    },
    /// Meant for somebody else: two nodes' addresses are mixed up.
    #[error("node {node} wants node {wanted}, this is node {ours}: an address is wrong")]
    Target {
        /// Who says so.
        node: u32,
        /// Who is meant.
        wanted: u32,
        /// This node's id.
        ours: NodeId,
    },
    /// Two processes with one id.
    #[error("node {0} calls itself by this node's id")]
    Myself(NodeId),
    /// A number that no node has.
    #[error("node {0} is not among the nodes of this cluster")]
    Unknown(u32),
    /// A known node with another disk. It does not have what it acknowledged.
    #[error(
        "node {node} comes with store {theirs}, it is known with store {ours}: a lost disk comes back under a new node id"
    )]
    Store {
        /// The node.
        node: NodeId,
        /// As sent.
        theirs: StoreId,
        /// As known.
        ours: StoreId,
    },
    /// Not a UUID.
    #[error("store id {0:?} is not a UUID")]
    StoreId(String),
}

/// This node's identity and what it knows of others'.
#[derive(Debug)]
pub struct Book {
    me: Identity,
    stores: KnownStores,
}

impl Book {
    /// `stores` is what was heard in earlier lives of this process.
    pub fn new(me: Identity, stores: KnownStores) -> Self {
        Self { me, stores }
    }

    /// This node.
    pub fn me(&self) -> &Identity {
        &self.me
    }

    /// What this node says first to `target`.
    pub fn hello(&self, target: NodeId, lane: wire::Lane) -> wire::Hello {
        wire::Hello {
            cluster_id: self.me.cluster.to_string(),
            node_id: self.me.node.get(),
            store_id: self.me.store.to_string(),
            target_node_id: target.get(),
            wire_version: WIRE_VERSION,
            incarnation: self.me.incarnation,
            lane: lane.into(),
        }
    }

    /// Takes the other side's hello; `known` says whether a node id is one of this cluster.
    pub fn check(&self, hello: &wire::Hello, known: impl Fn(NodeId) -> bool) -> Result<NodeId, Refused> {
        let node = NodeId(hello.node_id);
        if !(OLDEST_WIRE_VERSION..=WIRE_VERSION).contains(&hello.wire_version) {
            return Err(Refused::Version { theirs: hello.wire_version });
        }
        if Uuid::parse_str(&hello.cluster_id).ok() != Some(self.me.cluster.0) {
            let theirs = hello.cluster_id.chars().take(64).collect();
            return Err(Refused::Cluster { node: node.get(), theirs, ours: self.me.cluster });
        }
        if hello.target_node_id != self.me.node.get() {
            let wanted = hello.target_node_id;
            return Err(Refused::Target { node: node.get(), wanted, ours: self.me.node });
        }
        if node == self.me.node {
            return Err(Refused::Myself(node));
        }
        if !known(node) {
            return Err(Refused::Unknown(node.get()));
        }
        let store = Uuid::parse_str(&hello.store_id)
            .map(StoreId)
            .map_err(|_| Refused::StoreId(hello.store_id.chars().take(64).collect()))?;
        match self.stores.meet(node, store) {
            Some(ours) if ours != store => Err(Refused::Store { node, theirs: store, ours }),
            _ => Ok(node),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn book(node: u32) -> Book {
        let me = Identity {
            cluster: ClusterId(Uuid::from_u128(1)),
            node: NodeId(node),
            store: StoreId(Uuid::from_u128(100 + u128::from(node))),
            incarnation: 5,
        };
        Book::new(me, KnownStores::default())
    }

    #[test]
    fn a_hello_must_fit_in_every_part() {
        let (one, two) = (book(1), book(2));
        let hello = two.hello(NodeId(1), wire::Lane::Data);
        let known = |node: NodeId| node.get() < 4;
        assert_eq!(one.check(&hello, known), Ok(NodeId(2)));
        assert_eq!(one.check(&hello, known), Ok(NodeId(2)), "again");

        let with = |change: fn(&mut wire::Hello)| {
            let mut changed = hello.clone();
            change(&mut changed);
            one.check(&changed, known).unwrap_err()
        };
        assert!(matches!(with(|h| h.wire_version = 9), Refused::Version { theirs: 9 }));
        assert!(matches!(with(|h| h.wire_version = 0), Refused::Version { theirs: 0 }));
        let other = with(|h| h.cluster_id = Uuid::from_u128(2).to_string());
        assert!(matches!(other, Refused::Cluster { node: 2, .. }));
        assert!(matches!(with(|h| h.cluster_id = "\n".repeat(1000)), Refused::Cluster { .. }));
        assert!(matches!(with(|h| h.target_node_id = 3), Refused::Target { wanted: 3, .. }));
        assert!(matches!(with(|h| h.node_id = 1), Refused::Myself(NodeId(1))));
        assert!(matches!(with(|h| h.node_id = 9), Refused::Unknown(9)));
        assert!(matches!(with(|h| h.store_id = "x".to_owned()), Refused::StoreId(_)));
        let lost_disk = with(|h| h.store_id = Uuid::from_u128(7).to_string());
        assert!(matches!(lost_disk, Refused::Store { node: NodeId(2), .. }), "{lost_disk}");
    }
}
