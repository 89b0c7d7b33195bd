//! A coordinator: the groups that fall to it. Transactions come later.

use crate::encoding::fields;
use crate::groups::{Command, Groups, Outcome, Step};
use crate::outcome::{Broken, Outcome as Answer, PurgeTo};
use crate::row::{self, Row, RowKind};
use crate::shard::Ruled;
use bytes::Bytes;
use flotilla_types::{ChangeSet, GroupEpoch, LogId, LogIndex, Offset, TimestampMs};

/// A checkpoint of the whole state is made, and the log purged to it, after this many commands.
pub const CHECKPOINT_EVERY: u32 = 4096;

/// A coordinator's state.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Coordinator {
    head: Head,
    groups: Groups,
}

/// What every command changes.
#[derive(Clone, Debug, Default, PartialEq)]
struct Head {
    /// The latest time of any command. Never goes back.
    log_time: TimestampMs,
    /// Commands since the last checkpoint.
    commands: u32,
    /// The last checkpoint.
    checkpoint: Option<LogIndex>,
    /// The greatest epoch of any group that is gone.
    last_epoch: GroupEpoch,
}

fields!(Head { log_time, commands, checkpoint, last_epoch });

impl Coordinator {
    /// The groups it keeps.
    pub fn groups(&self) -> &Groups {
        &self.groups
    }

    /// The latest time of any command.
    pub fn log_time(&self) -> TimestampMs {
        self.head.log_time
    }

    /// How far the log may be purged.
    pub fn purge_to(&self) -> Option<PurgeTo> {
        self.head.checkpoint.map(purge_to)
    }

    pub(crate) fn apply(&mut self, at: LogId, command: &Command) -> Ruled {
        let mut changes = ChangeSet::default();
        self.head.log_time = self.head.log_time.max(command.now());
        let mut step = Step {
            at: at.index,
            now: self.head.log_time,
            last_epoch: &mut self.head.last_epoch,
            changes: &mut changes,
            events: Vec::new(),
        };
        let answer = self.groups.apply(&mut step, command);
        let outcome = Outcome { answer, changes: step.events };
        self.head.commands = self.head.commands.saturating_add(1);
        let checkpoint = self.head.commands >= CHECKPOINT_EVERY;
        if checkpoint {
            self.head.commands = 0;
            self.head.checkpoint = Some(at.index);
        }
        row::put(&mut changes, RowKind::Coordinator, &[], &self.head);
        let purge_to = checkpoint.then(|| purge_to(at.index));
        Ruled { outcome: Answer::Group(Box::new(outcome)), changes, checkpoint, purge_to }
    }

    pub(crate) fn rows(&self, out: &mut Vec<(Bytes, Bytes)>) {
        if self.head != Head::default() {
            out.push(row::row(RowKind::Coordinator, &[], &self.head));
        }
        self.groups.rows(out);
    }

    pub(crate) fn load(&mut self, row: Row<'_>) -> Result<(), Broken> {
        match row.kind {
            RowKind::Coordinator => row.id_none().and_then(|()| row.value().map(|head| self.head = head)),
            _ => self.groups.load(row),
        }
    }

    pub(crate) fn check_loaded(&mut self) -> Result<(), Broken> {
        self.groups.check_loaded()
    }
}

fn purge_to(index: LogIndex) -> PurgeTo {
    PurgeTo { index, index_rows_below: Offset(0) }
}
