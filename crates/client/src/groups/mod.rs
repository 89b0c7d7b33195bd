//! Consumer groups: processes that share the partitions of topics.
//!
//! A [`GroupConsumer`] is one member. The coordinator gives every partition to one member at a time; when
//! one joins, leaves, hangs or dies, the others take over, and members that keep their partitions read on
//! without a pause. [`GroupConsumer::poll`] gives records, [`Listener`] and [`GroupConsumer::events`] say
//! what a rebalance did, and a [`GroupHandle`] commits, seeks and pauses from anywhere.
//!
//! # What is promised
//!
//! *At least once.* Every record is given to some member at least once, in order per partition as long as
//! the partition stays with one member. A record may be given again after a crash, a lost partition or a
//! seek: whoever needs each effect once makes the effect idempotent, for example by the record's offset.
//!
//! *Commit after processing.* A record counts as processed when the application asks for more: with the
//! next [`poll`](GroupConsumer::poll), the next item of [`records`](GroupConsumer::records), or
//! [`close`](GroupConsumer::close). Only processed records are committed, every
//! [`auto_commit`](GroupOptions::auto_commit), before a partition is given up, and on close. So work that
//! goes on after the next poll (in another task, in a buffer) must not rely on it: turn auto-commit off
//! and use [`commit_offsets`](GroupHandle::commit_offsets) when that work is done.
//!
//! *Committed offsets do not go back* without a seek, here ([`seek`](GroupHandle::seek)) or by an
//! administrator.
//!
//! *No silent start at the end.* Committed offsets come with the assignment. Only a partition without one
//! follows [`OffsetReset`], whose default is the first record; an error is never taken for "no offset".
//!
//! # A rebalance, as a member sees it
//!
//! 1. The held heartbeat is answered at once with what the member should own.
//! 2. Partitions to give up hand nothing more out. When the application polls again, it is done with what
//!    it had of them. The listener hears of them, processed offsets are committed.
//! 3. The member acknowledges; only then does anybody else get them.
//! 4. New partitions come with the answer, with their committed offsets.
//!
//! Steps 2 and 3 take no longer than the [`rebalance_timeout`](GroupOptions::rebalance_timeout). What the
//! application still had in hand then is [`Event::Lost`]: its next owner gets it again.
//!
//! An application that does not poll for [`max_poll_interval`](GroupOptions::max_poll_interval) leaves
//! its partitions to others, and joins again with its next poll.
//!
//! The coordinator says how long a silent member lives. One whose heartbeats have not been answered for so
//! long gives everything up as [`Event::Lost`] and joins again: its session may have ended, and others may
//! read its partitions. A process that was stopped finds that out before it hands anything out.
//!
//! # Invariants
//!
//! - A fenced member is silent until it has dropped everything (`member::tests`).
//! - A partition hands nothing out between its revocation and its next assignment (`ledger::tests`).
//! - Nothing is handed out after a session without an answer (`tests/group_sessions.rs`).
//! - An offset commit that was held up on its way does not undo a later one (`tests/group_sessions.rs`).
//! - Offset commits and heartbeats do not wait for one another (`tests/groups.rs`).
//! - A rebalance ends in bounded time, whatever becomes of the commits in it (`tests/groups.rs`).

pub mod admin;
mod builder;
mod commits;
mod config;
mod consumer;
mod coordinator;
mod event;
mod handle;
mod heartbeat;
mod ledger;
mod member;
mod reconcile;
mod shared;

pub use builder::GroupBuilder;
pub use config::{GroupOptions, OffsetReset};
pub use consumer::GroupConsumer;
pub use event::{Event, Listener, TopicPartition};
pub use handle::{CommitOffset, GroupHandle};
pub use member::State;
