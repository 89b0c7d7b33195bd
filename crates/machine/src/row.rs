//! The table of state rows: what each kind of key holds.
//!
//! A key is its kind and then, big-endian, what it is about. A value is its version and then the fields.
//!
//! | Kind | Key after it | Value | Written |
//! | --- | --- | --- | --- |
//! | 1 position | | last entry, hash chain, last audit | by every entry |
//! | 2 mark | log index | the chain there | every 4096 entries |
//! | 16 partition | | offsets, times, bytes, counts | by every timed command |
//! | 17 partition settings | | limits of the partition | by `Configure` |
//! | 18 checkpoint | log index | offset, time and bytes there | with each checkpoint |
//! | 19 producer | producer id | epoch, next sequence, last batches | by that producer's batch |
//! | 20 message ids | base offset | one batch's ids | by a batch with ids |
//! | 32 controller | | cluster, counters, version | by every command |
//! | 33 node | node id | endpoints, rack, store | by that node's changes |
//! | 34 topic | topic id | name, configuration, labels | by that topic's changes |
//! | 35 placed partition | shard | topic, number, replicas | by that partition's changes |
//! | 36 feature | name | level | when set |
//! | 37 setting | name | value | when set |
//! | 38 placed coordinator | shard | replicas | by that coordinator's changes |
//! | 64 coordinator | | log time, counters, last epoch of groups that are gone | by every command |
//! | 65 group | name | epoch, pause, since when it is empty | by that group's epochs |
//! | 66 group member | group, 0, member | who it is, what it wants | when it joins, resubscribes, goes away |
//! | 67 group holding | group, 0, member | what it owns and is to own | when its partitions move |
//! | 68 group offset | group, 0, topic id, partition | offset commit | by each |
//! | 69 known topic | name | a topic as it was last seen | by sights, as long as some member wants it |
//! | 70 topic pattern | pattern | topics that it matches | by sights, as long as some member has it |

use crate::encoding::{Field, Reader};
use crate::outcome::Broken;
use bytes::Bytes;
use flotilla_types::{ChangeSet, StateWrite};

/// The first byte of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum RowKind {
    Position = 1,
    Mark = 2,
    Partition = 16,
    PartitionSettings = 17,
    Checkpoint = 18,
    Producer = 19,
    MessageIds = 20,
    Controller = 32,
    Node = 33,
    Topic = 34,
    PlacedPartition = 35,
    Feature = 36,
    Setting = 37,
    PlacedCoordinator = 38,
    Coordinator = 64,
    Group = 65,
    GroupMember = 66,
    GroupHolding = 67,
    GroupOffset = 68,
    KnownTopic = 69,
    TopicPattern = 70,
}

impl RowKind {
    const ALL: [Self; 21] = [
        Self::Position,
        Self::Mark,
        Self::Partition,
        Self::PartitionSettings,
        Self::Checkpoint,
        Self::Producer,
        Self::MessageIds,
        Self::Controller,
        Self::Node,
        Self::Topic,
        Self::PlacedPartition,
        Self::Feature,
        Self::Setting,
        Self::PlacedCoordinator,
        Self::Coordinator,
        Self::Group,
        Self::GroupMember,
        Self::GroupHolding,
        Self::GroupOffset,
        Self::KnownTopic,
        Self::TopicPattern,
    ];
}

/// The first byte of every value this build writes.
const VERSION: u8 = 1;

/// A row as it is read: its kind, the key after the kind, the value with its version.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    pub kind: RowKind,
    pub id: &'a [u8],
    value: &'a [u8],
}

impl<'a> Row<'a> {
    pub fn read(key: &'a [u8], value: &'a [u8]) -> Result<Self, Broken> {
        let (number, id) = key.split_first().ok_or_else(|| Broken::new("a state row has an empty key"))?;
        let kind = RowKind::ALL.into_iter().find(|kind| *kind as u8 == *number);
        let kind = kind.ok_or_else(|| Broken::new(format!("state row kind {number} is unknown here")))?;
        Ok(Self { kind, id, value })
    }

    /// The value, whole.
    pub fn value<T: Field>(&self) -> Result<T, Broken> {
        let kind = self.kind;
        match self.value.split_first() {
            Some((&VERSION, fields)) => {
                let mut reader = Reader::new(fields);
                let value = T::take(&mut reader).and_then(|value| reader.end().map(|()| value));
                value.map_err(|bad| Broken::new(format!("state row {kind:?} has {}", bad.0)))
            }
            Some((version, _)) => {
                Err(Broken::new(format!("state row {kind:?} has version {version}, unknown here")))
            }
            None => Err(Broken::new(format!("state row {kind:?} is empty"))),
        }
    }

    /// A key that is one number.
    pub fn id_u64(&self) -> Result<u64, Broken> {
        self.id.try_into().map(u64::from_be_bytes).map_err(|_| self.bad_key())
    }

    /// A key that is one small number.
    pub fn id_u32(&self) -> Result<u32, Broken> {
        self.id.try_into().map(u32::from_be_bytes).map_err(|_| self.bad_key())
    }

    /// A key that is a name.
    pub fn id_text(&self) -> Result<String, Broken> {
        std::str::from_utf8(self.id).map(str::to_owned).map_err(|_| self.bad_key())
    }

    /// A key that is the kind alone.
    pub fn id_none(&self) -> Result<(), Broken> {
        if self.id.is_empty() { Ok(()) } else { Err(self.bad_key()) }
    }

    /// A row of another kind of shard.
    pub fn misplaced(&self) -> Broken {
        Broken::new(format!("state row {:?} does not belong to this kind of shard", self.kind))
    }

    pub fn bad_key(&self) -> Broken {
        Broken::new(format!("state row {:?} has a key of {} bytes, unreadable", self.kind, self.id.len()))
    }
}

/// The key of one row.
pub fn key(kind: RowKind, id: &[u8]) -> Bytes {
    let mut key = Vec::with_capacity(1 + id.len());
    key.push(kind as u8);
    key.extend_from_slice(id);
    key.into()
}

/// The value of one row.
pub fn value(fields: &impl Field) -> Bytes {
    let mut value = vec![VERSION];
    fields.put(&mut value);
    value.into()
}

/// One row of a whole state.
pub fn row(kind: RowKind, id: &[u8], fields: &impl Field) -> (Bytes, Bytes) {
    (key(kind, id), value(fields))
}

/// Adds a written row to a change set.
pub fn put(changes: &mut ChangeSet, kind: RowKind, id: &[u8], fields: &impl Field) {
    changes.state.push(StateWrite { key: key(kind, id), value: Some(value(fields)) });
}

/// Adds a deleted row to a change set.
pub fn delete(changes: &mut ChangeSet, kind: RowKind, id: &[u8]) {
    changes.state.push(StateWrite { key: key(kind, id), value: None });
}
