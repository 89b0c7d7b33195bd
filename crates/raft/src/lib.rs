//! How a command becomes committed.
//!
//! A node hosts many shards, each a Raft group. [`Shard::propose`] queues a command; once a majority has it
//! on disk and this node has applied it, the outcome comes back. Shards share one store and one connection
//! per peer; idle ones rest, and one exchange per pair of nodes stands for all their heartbeats.
//!
//! Start with [`shard`] (the handle) and [`host`] (all of them), then [`transport`] and [`observer`], the
//! two seams.
//!
//! This crate does not know gRPC, or who asked. Its consensus library stays inside.

pub mod shard;
pub mod host;
pub mod status;
pub mod error;
pub mod transport;
pub mod observer;
pub mod config;
pub mod metrics;
mod proposal;
mod barrier;
mod membership;
mod rest;
mod liveness;
mod pulse;
mod wire;
mod links;
mod network;
mod inbound;
mod log_store;
mod recent;
mod applier;
mod replica;
mod health;
mod encoding;
mod types;
#[cfg(test)]
mod conformance;

pub use config::Config;
pub use error::{Error, ProposeError};
pub use host::Host;
pub use observer::{AppliedEntry, Observer};
pub use shard::{Proposal, Shard};
pub use metrics::Metrics;
pub use wire::FrameKind;
/// For who composes a process: the store that a [`Host`] is given.
pub use flotilla_store as store;
pub use status::{KnownLeaders, Leadership, Progress, ReplicaStatus};
pub use transport::{Frame, Inbound, Lane, PeerState, Transport, Unreachable};
