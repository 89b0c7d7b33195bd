//! Real clusters for tests, what is done to them, and how what happened is judged.
//!
//! A [`cluster::Cluster`] is a few real server processes on loopback addresses of their own. A
//! [`workload`] writes and reads through the client library while a test kills, pauses or cuts power;
//! everything it was told goes into a [`history::History`]; afterwards each of the [`checkers`] looks
//! for one kind of lie in it.
//!
//! Start with [`history`] (what is recorded), then [`checkers`] (what is never allowed).
//!
//! This crate does not know the insides of a server: it sees what a client and an operator see.
//!
//! # Invariants
//!
//! - Only processes that a cluster started are ever signalled, by their own handle ([`node::Node`]).
//! - Every checker has been seen to reject a bad history (`tests` in each of [`checkers`]).

pub mod binaries;
pub mod capabilities;
pub mod checkers;
pub mod cluster;
pub mod digest;
pub mod disk;
pub mod history;
pub mod node;
pub mod wire;
pub mod workload;
