//! All shards of this node: start, stop, list; frames in; liveness.

use crate::config::Config;
use crate::error::Error;
use crate::observer::Observer;
use crate::shard::Shard;
use crate::status::KnownLeaders;
use crate::transport::{Frame, Inbound, PeerState, Transport};
use flotilla_machine::Kind;
use flotilla_store::Store;
use flotilla_types::{Clock, NodeId, Random, ShardId};
use std::sync::Arc;
use tokio::sync::watch;

/// All shards of this node.
#[derive(Debug)]
pub struct Host {}

impl Host {
    /// Starts the part that all shards share. Shards are started one by one. Connect the transport's
    /// incoming side to the host afterwards.
    pub async fn start(
        config: Config,
        node: NodeId,
        store: Arc<dyn Store>,
        transport: Arc<dyn Transport>,
        observer: Arc<dyn Observer>,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Result<Arc<Self>, Error> {
        let _ = (config, node, store, transport, observer, clock, random);
        unimplemented!()
    }

    /// Starts a shard from what the store has of it, or returns the one that runs. `voters`, in the order
    /// of placement, initialise a shard that has never run here: the first of them campaigns at once.
    /// `None` waits to be told by a leader (a learner to be).
    pub async fn start_shard(
        self: &Arc<Self>,
        shard: ShardId,
        kind: Kind,
        voters: Option<Vec<NodeId>>,
    ) -> Result<Arc<Shard>, Error> {
        let _ = (shard, kind, voters);
        unimplemented!()
    }

    /// Stops a shard here; its rows stay.
    pub async fn stop_shard(&self, shard: ShardId) {
        let _ = shard;
        unimplemented!()
    }

    /// Stops a shard here and removes all its rows.
    pub async fn destroy_shard(&self, shard: ShardId) -> Result<(), Error> {
        let _ = shard;
        unimplemented!()
    }

    /// A shard of this node.
    pub fn shard(&self, shard: ShardId) -> Option<Arc<Shard>> {
        let _ = shard;
        unimplemented!()
    }

    /// All shards of this node, by id.
    pub fn shards(&self) -> Vec<Arc<Shard>> {
        unimplemented!()
    }

    /// Who leads which shard, for all shards of the cluster, as the leaders told. May be late, never
    /// wrong about a term.
    pub fn known_leaders(&self) -> watch::Receiver<Arc<KnownLeaders>> {
        unimplemented!()
    }

    /// Hands over leadership where it can, within [`Config::handover_timeout_ms`], then stops every shard.
    pub async fn shutdown(&self) {
        unimplemented!()
    }
}

impl Inbound for Host {
    fn receive(&self, from: NodeId, frame: Frame) {
        let _ = (from, frame);
        unimplemented!()
    }

    fn peer_changed(&self, peer: NodeId, state: PeerState) {
        let _ = (peer, state);
        unimplemented!()
    }
}
