//! What a committed command does.
//!
//! Deterministic rules for partitions, producers, consumer groups and the controller, on state in memory.
//! Every replica of a shard applies the same entries and gets the same answers: [`Shard::apply`] takes a command and gives
//! back an outcome for whoever asked and a change set of rows for the store.
//!
//! Start with [`command`] (what may be asked) and [`outcome`] (what comes back), then [`shard`], which only
//! dispatches, then [`partitions`] and [`producers`], where records are decided upon, and [`groups`].
//!
//! This crate does not know storage, clocks, randomness, tasks or the network. Time is inside commands;
//! batch bodies never come here.
//!
//! # Invariants
//!
//! - Nothing here panics: what cannot be answered soundly is [`Broken`], and the shard stays so
//!   (`tests/hostile.rs`).
//! - `Shard::load(rows())` equals the shard, at any point of any log (`tests/model.rs`).
//! - The rows that a change set writes are exactly those by which `rows()` changed (`tests/model.rs`).
//! - Offsets are dense, append times never decrease, and a repeated batch gets the first copy's offset
//!   (`tests/model.rs`, against a model without any of this crate's code).
//! - A group's partition has one owner at any time, and no two clients have it in their hands; committed offsets
//!   go back by a seek only (`tests/groups/model.rs`).
//! - Applying a group's command reads its own shard only (`tests/groups/sights.rs`).
//! - A command that decodes encodes to the same bytes, in every build (`testdata/commands.golden`).

pub mod chain;
pub mod command;
pub mod controller;
pub mod coordinator;
mod encoding;
pub mod groups;
pub mod message_ids;
pub mod outcome;
pub mod partitions;
pub mod producers;
mod row;
pub mod shard;

pub use chain::Mark;
pub use command::{Append, Command, Malformed};
pub use outcome::{Applied, Broken, Outcome, PurgeTo};
pub use shard::{Kind, Shard};
