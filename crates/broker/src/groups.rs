//! Consumer groups: any node takes a call and passes it to the leader of the group's coordinator, who decides by
//! replicated rules and keeps the time.
//!
//! Start with `request` (what is asked), then `coordinate` (from a group's name to who decides), `lead` (what that
//! node does), `heartbeat` (members) and `memory` (what a leader remembers of them). `watch` is the one task behind all groups of a node:
//! it ends sessions, tells of rebalances and shows topics to coordinators. A group in which nothing happens costs
//! an entry in a set of deadlines.

mod call;
mod commit;
mod coordinate;
mod delete;
mod describe;
mod ends;
mod error;
mod explain;
mod heartbeat;
mod housekeeping;
mod lead;
mod list;
mod memory;
mod offsets;
mod pattern;
mod report;
mod request;
mod seek;
mod sight;
mod timers;
mod update;
mod watch;

pub use error::Error;
pub use explain::cause;
pub use request::{
    Assigned, Assignment, CommitOffsets, FetchOffsets, FetchedOffsets, Finding, Group, GroupPage, GroupState,
    Heartbeat, HeartbeatAnswer, Leave, ListGroups, Member, MemberState, Move, OffsetCommit, PartitionFailure,
    Position, Seek, SeekTo, Seeked, Subscription, UpdateGroup,
};

pub(crate) use call::{Answer, Call};
pub(crate) use ends::{End, Want};

use ends::Watermarks;
use memory::Memory;
use parking_lot::Mutex;
use pattern::Pattern;
use prometheus_client::metrics::gauge::Gauge;
use report::Rebalances;
use std::collections::BTreeMap;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;
use tokio::sync::Notify;

/// What a node keeps for groups besides the replicated state.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    pub watermarks: Watermarks,
    pub memory: Memory,
    /// Something is there for `watch`: a change, an earlier deadline, another leader.
    pub work: Notify,
    /// Topics changed, or a coordinator was taken over.
    pub topics_changed: Notify,
    /// Heartbeats held here as coordinator.
    held: AtomicU32,
    /// Heartbeats held that were passed to another node.
    forwards_held: AtomicU32,
    /// Patterns that are in use, compiled.
    patterns: Mutex<BTreeMap<String, Pattern>>,
    rebalances: Mutex<Rebalances>,
}

/// Counts itself among what is held, for as long as it lives.
#[derive(Debug)]
struct Room<'a> {
    count: &'a AtomicU32,
    shown: &'a Gauge,
}

impl<'a> Room<'a> {
    /// `None` = the bound is reached.
    fn take(count: &'a AtomicU32, most: u32, shown: &'a Gauge) -> Option<Self> {
        count.fetch_update(Relaxed, Relaxed, |held| (held < most).then_some(held + 1)).ok()?;
        shown.inc();
        Some(Self { count, shown })
    }
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Relaxed);
        self.shown.dec();
    }
}

#[cfg(test)]
mod tests;
