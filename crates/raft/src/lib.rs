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
//!
//! # Invariants
//!
//! - A refused command was never written; one that was written and lost is called lost, never refused
//!   (`tests/cluster.rs`, an isolated leader).
//! - Commands of one shard are applied in the order they were proposed (`proposal::tests`, `tests/order.rs`).
//! - What a majority acknowledged survives the death of any node and of all (`tests/cluster.rs`), and a store
//!   that stops writing ends the process (`tests/replicas.rs`).
//! - A leader that restarts does not go on in its old term (`tests/restart.rs`).
//! - Votes, entries and purges of a shard reach the disk in the order of decisions, also with a hundred
//!   shards interleaved (`conformance`).
//! - A follower that was behind the purge point ends with the same state as the others (`tests/replicas.rs`).
//! - A follower whose disk is full takes no records, votes, and resumes when there is room (`tests/full.rs`).
//! - A damaged frame or batch is refused before consensus sees it (`wire::tests`).
//! - A leader whose process is gone is replaced at once, one that is silent when its lease is over, and one
//!   that was wrongly taken for gone loses nothing (`tests/succession.rs`).
//! - Resting changes no leader, term or data (`tests/rest.rs`).

mod applier;
mod barrier;
pub mod config;
#[cfg(test)]
mod conformance;
mod encoding;
pub mod error;
mod health;
pub mod host;
mod inbound;
mod links;
mod liveness;
mod log_store;
mod membership;
pub mod metrics;
mod network;
pub mod observer;
mod proposal;
mod pulse;
mod recent;
mod replica;
mod rest;
pub mod shard;
pub mod status;
mod succession;
pub mod transport;
mod types;
mod wire;

pub use config::Config;
pub use error::{Error, ProposeError};
/// For who composes a process: the store that a [`Host`] is given.
pub use flotilla_store as store;
pub use host::Host;
pub use metrics::Metrics;
pub use observer::{AppliedEntry, Observer};
pub use shard::{Proposal, Shard};
pub use status::{KnownLeaders, Leadership, Progress, ReplicaStatus};
pub use transport::{Frame, Inbound, Lane, PeerState, Transport, Unreachable};
pub use wire::FrameKind;
