//! A shard of any kind: dispatches each entry to the rules of its kind and extends the hash chain.

use crate::chain::{Chain, Mark};
use crate::command::Command;
use crate::controller::Controller;
use crate::coordinator::Coordinator;
use crate::outcome::{Applied, Broken, Outcome, PurgeTo};
use crate::partitions::Partition;
use crate::row::{Row, RowKind};
use bytes::Bytes;
use flotilla_types::{ChangeSet, LogId, ShardId};
use xxhash_rust::xxh3::Xxh3;

/// What a shard is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Cluster metadata.
    Controller,
    /// Records.
    Partition,
    /// Groups.
    Coordinator,
}

impl Kind {
    /// What a shard of this number is for; `None` for numbers that are not in use.
    pub const fn of(shard: ShardId) -> Option<Self> {
        match shard {
            ShardId::CONTROLLER => Some(Self::Controller),
            shard if shard.is_partition() => Some(Self::Partition),
            _ => Some(Self::Coordinator),
        }
    }
}

/// The state of one shard, as of the last entry applied.
#[derive(Clone, Debug, PartialEq)]
pub struct Shard {
    chain: Chain,
    rules: Rules,
    /// Once broken, always broken: the state may be half changed and must not answer again.
    broken: Option<Broken>,
}

#[derive(Clone, Debug, PartialEq)]
enum Rules {
    Controller(Box<Controller>),
    Partition(Box<Partition>),
    Coordinator(Box<Coordinator>),
}

/// What the rules of a kind answer; the chain's rows are not in it yet.
pub(crate) struct Ruled {
    pub outcome: Outcome,
    pub changes: ChangeSet,
    pub checkpoint: bool,
    pub purge_to: Option<PurgeTo>,
}

impl Ruled {
    /// An answer that changes nothing.
    pub fn unchanged(outcome: Outcome) -> Self {
        Self { outcome, changes: ChangeSet::default(), checkpoint: false, purge_to: None }
    }
}

impl Shard {
    /// A shard that has applied nothing.
    pub fn new(kind: Kind) -> Self {
        let rules = match kind {
            Kind::Controller => Rules::Controller(Box::default()),
            Kind::Partition => Rules::Partition(Box::default()),
            Kind::Coordinator => Rules::Coordinator(Box::default()),
        };
        Self { chain: Chain::default(), rules, broken: None }
    }

    /// The shard whose [`Shard::rows`] these are, or whose change sets left these in the store. No rows
    /// make a new shard.
    pub fn load(kind: Kind, rows: &[(Bytes, Bytes)]) -> Result<Self, Broken> {
        let mut shard = Self::new(kind);
        for (key, value) in rows {
            let row = Row::read(key, value)?;
            match (&mut shard.rules, row.kind) {
                (_, RowKind::Position | RowKind::Mark) => shard.chain.load(row)?,
                (Rules::Controller(controller), _) => controller.load(row)?,
                (Rules::Partition(partition), _) => partition.load(row)?,
                (Rules::Coordinator(coordinator), _) => coordinator.load(row)?,
            }
        }
        match &mut shard.rules {
            Rules::Controller(controller) => controller.check_loaded()?,
            Rules::Partition(partition) => partition.check_loaded()?,
            Rules::Coordinator(coordinator) => coordinator.check_loaded()?,
        }
        if !rows.is_empty() && shard.chain.last().is_none() {
            return Err(Broken::new("state rows without a position"));
        }
        Ok(shard)
    }

    /// Applies the committed entry `at`, which must be the one after the last. After [`Broken`] every
    /// further call answers the same: load the shard again from a sound state.
    pub fn apply(&mut self, at: LogId, command: &Command) -> Result<Applied, Broken> {
        self.guarded(|shard| {
            shard.chain.check_follows(at)?;
            let ruled = match (command, &mut shard.rules) {
                (Command::Audit { at, chain }, _) => Ruled::unchanged(shard.chain.audit(*at, *chain)?),
                (Command::Controller(command), Rules::Controller(controller)) => {
                    controller.apply(at, command)?
                }
                (Command::Group(command), Rules::Coordinator(coordinator)) => coordinator.apply(at, command),
                (Command::Controller(_) | Command::Group(_), Rules::Partition(_))
                | (_, Rules::Controller(_) | Rules::Coordinator(_)) => Ruled::unchanged(Outcome::Misdirected),
                (command, Rules::Partition(partition)) => partition.apply(at, command)?,
            };
            Ok(shard.finish(at, Some(command), ruled))
        })
    }

    /// Passes over an entry of Raft's own (blank, membership): the chain is extended, nothing else happens.
    pub fn skip(&mut self, at: LogId) -> Result<Applied, Broken> {
        self.guarded(|shard| {
            shard.chain.check_follows(at)?;
            Ok(shard.finish(at, None, Ruled::unchanged(Outcome::Noop)))
        })
    }

    fn guarded(
        &mut self,
        step: impl FnOnce(&mut Self) -> Result<Applied, Broken>,
    ) -> Result<Applied, Broken> {
        if let Some(broken) = &self.broken {
            return Err(broken.clone());
        }
        step(self).inspect_err(|broken| self.broken = Some(broken.clone()))
    }

    fn finish(&mut self, at: LogId, command: Option<&Command>, ruled: Ruled) -> Applied {
        let Ruled { outcome, mut changes, checkpoint, purge_to } = ruled;
        self.chain.extend(at, command, &mut changes);
        Applied { outcome, changes, checkpoint, purge_to }
    }

    /// The whole state, in key order. What [`Shard::load`] takes, and a checkpoint's content.
    pub fn rows(&self) -> Vec<(Bytes, Bytes)> {
        let mut rows = Vec::new();
        self.chain.rows(&mut rows);
        match &self.rules {
            Rules::Controller(controller) => controller.rows(&mut rows),
            Rules::Partition(partition) => partition.rows(&mut rows),
            Rules::Coordinator(coordinator) => coordinator.rows(&mut rows),
        }
        rows
    }

    /// The last entry applied.
    pub fn applied(&self) -> Option<LogId> {
        self.chain.last()
    }

    /// The hash chain after the last entry; see [`crate::chain`].
    pub fn chain(&self) -> u128 {
        self.chain.value()
    }

    /// The chain at recent multiples of [`crate::chain::MARK_EVERY`], oldest first.
    pub fn marks(&self) -> impl Iterator<Item = Mark> {
        self.chain.marks()
    }

    /// The audit that the leader should propose now, until it or another of the same index is applied.
    pub fn audit_due(&self) -> Option<Command> {
        self.chain.unaudited().map(|Mark { at, chain }| Command::Audit { at, chain })
    }

    /// How far the log may be purged, as last answered by [`Shard::apply`]: to do it again after a restart.
    pub fn purge_to(&self) -> Option<PurgeTo> {
        match &self.rules {
            Rules::Controller(controller) => controller.purge_to(),
            Rules::Partition(partition) => partition.purge_to(),
            Rules::Coordinator(coordinator) => coordinator.purge_to(),
        }
    }

    /// A hash over all of the state. Costs as much as [`Shard::rows`].
    pub fn hash(&self) -> u128 {
        let mut hash = Xxh3::new();
        for (key, value) in self.rows() {
            for part in [key, value] {
                hash.update(&(part.len() as u32).to_le_bytes());
                hash.update(&part);
            }
        }
        hash.digest128()
    }

    /// What it is for.
    pub fn kind(&self) -> Kind {
        match self.rules {
            Rules::Controller(_) => Kind::Controller,
            Rules::Partition(_) => Kind::Partition,
            Rules::Coordinator(_) => Kind::Coordinator,
        }
    }

    /// The partition's state, if it is one.
    pub fn partition(&self) -> Option<&Partition> {
        match &self.rules {
            Rules::Partition(partition) => Some(partition),
            Rules::Controller(_) | Rules::Coordinator(_) => None,
        }
    }

    /// The controller's state, if it is one.
    pub fn controller(&self) -> Option<&Controller> {
        match &self.rules {
            Rules::Controller(controller) => Some(controller),
            Rules::Partition(_) | Rules::Coordinator(_) => None,
        }
    }

    /// The coordinator's state, if it is one.
    pub fn coordinator(&self) -> Option<&Coordinator> {
        match &self.rules {
            Rules::Coordinator(coordinator) => Some(coordinator),
            Rules::Partition(_) | Rules::Controller(_) => None,
        }
    }

    /// Why it stopped, if it has.
    pub fn broken(&self) -> Option<&Broken> {
        self.broken.as_ref()
    }
}
