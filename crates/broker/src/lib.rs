//! What a node does with a request.
//!
//! A produce takes a permit, finds the partition's shard, is checked once and proposed; a fetch is answered
//! from memory or disk up to the watermark, or waits for it. Administrators' calls are passed to the
//! controller's leader. Beside requests, every node keeps its shards as the controller wants them, and
//! leaders propose what time brings: retention, checkpoints, audits.
//!
//! Start with [`broker`] (the parts, start and stop), then [`produce`] and [`fetch`]; [`routes`] says who
//! serves what, [`admission`] how much may be under way, `reconcile` and `planner` how intent becomes true.
//!
//! This crate does not know gRPC, HTTP, Kafka's protocol or TLS, nor how anything is stored or replicated.
//!
//! # Invariants
//!
//! - A permit's bytes are given back exactly when the batch's outcome is known
//!   (`admission::tests`, `produce::tests`).
//! - A batch leaves memory only when the store can read it (`tail::tests`).
//! - Nothing that intent never named is deleted (`reconcile`).
//! - An answer that is not certain is marked so ([`produce::Error::is_indefinite`]).

pub mod admin;
pub mod admission;
pub mod broker;
pub mod config;
pub mod context;
pub mod disk;
pub mod events;
pub mod fetch;
pub mod forward;
pub mod groups;
pub mod health;
mod locate;
pub mod metrics;
pub mod observer;
pub mod offsets;
pub mod partitions;
mod planner;
pub mod pool;
pub mod produce;
mod reconcile;
mod reports;
mod retention;
pub mod routes;
pub mod tail;
#[cfg(test)]
mod testing;

pub use broker::{Broker, NodeInfo, Parts, Serving};
pub use config::Config;
pub use context::Context;
pub use forward::{Forward, ForwardError};
pub use metrics::Metrics;
pub use observer::{BrokerObserver, OnFatal};

/// What a command does: for whoever names the nodes of a cluster.
pub use flotilla_machine::controller::NodeSpec;
/// What is on disk: for whoever opens the store and starts the broker on it.
pub use flotilla_store as store;
