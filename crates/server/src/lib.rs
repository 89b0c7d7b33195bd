//! The process: configuration, listeners, identity, telemetry, shutdown.
//!
//! A node listens three times: for clients (gRPC), for other nodes (gRPC, on a runtime of its own, so that
//! bulk never delays votes) and for probes (HTTP). It turns wire messages into calls of the broker and
//! outcomes into answers, and it is the only place where a failure becomes a status.
//!
//! Start with [`node`] (all parts, in the order they start and stop), then [`grpc`] (the contract),
//! [`peer`] (node to node), [`listener`] (bounds of connections) and [`config`].
//!
//! This crate does not know RocksDB, nor the rules of the machine.
//!
//! # Invariants
//!
//! - Every connection is counted before anything is read from it (`listener::tests`).
//! - No frame of a node reaches Raft before its hello was checked (`identity::tests`, `peer::tests`).
//! - Answers of one partition and producer come in send order (`grpc::produce::answers::tests`).
//! - Every reason has exactly one status code (`grpc::status::tests`).

// A call's future holds, nested, those of the broker, of Raft and of the store.
#![recursion_limit = "256"]

pub mod command;
pub mod config;
pub mod exit;
pub mod grpc;
pub mod http;
pub mod identity;
pub mod listener;
pub mod metrics;
pub mod node;
pub mod peer;
pub mod shutdown;
pub mod telemetry;
