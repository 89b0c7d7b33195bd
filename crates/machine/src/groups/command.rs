//! What a coordinator is told about its groups. A command that is proposed again, because its answer was
//! lost, does no harm and gets an answer that is as good.
//!
//! What is known of topics comes with the commands ([`Sight`]): applying one reads nothing but its own shard.

use crate::encoding::{Bad, Field, Reader, fields};
use flotilla_types::{
    GroupEpoch, GroupId, InstanceId, LogIndex, MemberId, Offset, PartitionId, Term, TimestampMs, TopicId,
    TopicName,
};
use std::collections::{BTreeMap, BTreeSet};

/// A command for a group.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// A client joins, as a new member or again: it has nothing in its hands now.
    Join(Box<Join>),
    /// A member wants other topics.
    Resubscribe {
        /// Its group.
        group: GroupId,
        /// The member.
        member: MemberId,
        /// The member epoch it sent.
        epoch: GroupEpoch,
        /// From now on.
        subscription: Subscription,
        /// What is known of these topics.
        sight: Sight,
        /// The leader's clock.
        now: TimestampMs,
    },
    /// A member has given up what it was told to.
    Acknowledge {
        /// Its group.
        group: GroupId,
        /// The member.
        member: MemberId,
        /// The member epoch it sent.
        epoch: GroupEpoch,
        /// [`super::Member::revision`] of the answer it acknowledges: the last one that this leader gave it.
        /// With any other nothing happens, because it has yet to see what it must give up.
        revision: LogIndex,
        /// What it still owns.
        owned: BTreeMap<TopicId, BTreeSet<PartitionId>>,
        /// The leader's clock.
        now: TimestampMs,
    },
    /// A member goes, by itself. Its partitions are given on at once.
    Leave {
        /// Its group.
        group: GroupId,
        /// The member.
        member: MemberId,
        /// The member epoch it sent; 0 if it does not know.
        epoch: GroupEpoch,
        /// A static member that will be back: its partitions wait for it.
        temporary: bool,
        /// The leader's clock.
        now: TimestampMs,
    },
    /// The leader has waited for a member for too long. Its partitions are given on.
    Expire {
        /// Its group.
        group: GroupId,
        /// The member.
        member: MemberId,
        /// The member's epoch when the leader decided.
        epoch: GroupEpoch,
        /// What the leader waited for.
        cause: Overdue,
        /// The leader's clock.
        now: TimestampMs,
    },
    /// Offsets up to which a member, or an administrator where the group is empty, has processed.
    Commit {
        /// The group. Without a member it is made if it is not there.
        group: GroupId,
        /// Who commits, with the member epoch it sent.
        member: Option<(MemberId, GroupEpoch)>,
        /// Rises with each call of a member; 0 = not numbered. What a later call of the same member has stored
        /// is not overwritten by an earlier one that was held up on its way.
        number: u64,
        /// What is committed.
        offsets: Vec<OffsetCommit>,
        /// The leader's clock.
        now: TimestampMs,
    },
    /// Moves offsets, also of a group with members: they read their positions again.
    Seek {
        /// The group.
        group: GroupId,
        /// Where to.
        offsets: Vec<OffsetCommit>,
        /// The leader's clock.
        now: TimestampMs,
    },
    /// Sets what belongs to the group itself, whole.
    Configure {
        /// The group.
        group: GroupId,
        /// Kept for whoever reads it.
        paused_until: Option<TimestampMs>,
        /// The leader's clock.
        now: TimestampMs,
    },
    /// Removes a group with its offsets.
    Delete {
        /// The group.
        group: GroupId,
        /// Also with members, which are fenced by it.
        force: bool,
        /// The leader's clock.
        now: TimestampMs,
    },
    /// Topics were made, deleted, made again or have grown; patterns match others than before.
    TopicsChanged {
        /// As the leader sees them now.
        sight: Sight,
        /// The leader's clock.
        now: TimestampMs,
    },
    /// Forgets groups that have been empty for too long, a bounded part of them at once.
    ExpireOffsets {
        /// Groups without members for longer than this are forgotten, in milliseconds.
        retention_ms: u64,
        /// The leader's clock.
        now: TimestampMs,
    },
}

/// A client that joins.
#[derive(Clone, Debug, PartialEq)]
pub struct Join {
    /// Which group. It is made if it is not there.
    pub group: GroupId,
    /// The client's name for itself.
    pub member: MemberId,
    /// A static member's.
    pub instance: Option<InstanceId>,
    /// Whether the leader has lost sight of the member that has this instance: then this one takes its
    /// place, with its partitions. Without it a holder that has not left keeps it.
    pub holder_gone: bool,
    /// What it wants.
    pub subscription: Subscription,
    /// Where it connects from, for people; cut to [`super::TEXT_MAX`] bytes.
    pub peer: String,
    /// Most members of the group; [`super::MEMBERS_MAX`] if that is less.
    pub members_max: u32,
    /// What is known of these topics.
    pub sight: Sight,
    /// The leader's clock.
    pub now: TimestampMs,
}

/// What a member wants to read, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subscription {
    /// Topics by name, whether they exist or not.
    pub topics: BTreeSet<TopicName>,
    /// Topics by pattern. Its text only: what it matches is told by a [`Sight`].
    pub pattern: Option<String>,
    /// How it wants partitions to be shared out; absent = whatever the others want.
    pub assignor: Option<Assignor>,
    /// Where it runs.
    pub rack: Option<String>,
    /// How long it may take to give partitions up, in milliseconds. For the leader's timer.
    pub rebalance_timeout_ms: u32,
    /// What the client calls itself, for people.
    pub client: String,
}

/// How partitions are shared out among a group's members.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Assignor {
    /// Evenly, and as many as can be stay where they are.
    #[default]
    Uniform = 1,
    /// Topic by topic in runs, so that equal numbers of several topics come to the same member.
    Range = 2,
}

/// What the leader waited for in vain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Overdue {
    /// A sign of life.
    Session = 1,
    /// That it gives up partitions.
    Revocation = 2,
    /// That it asks for records (it told so itself, or its client did for it).
    Poll = 3,
}

/// One offset commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetCommit {
    /// This life of the topic.
    pub topic: TopicId,
    /// Which partition.
    pub partition: PartitionId,
    /// The next record to read.
    pub offset: Offset,
    /// The term of the last record read.
    pub leader_epoch: Option<Term>,
    /// Free text, at most 4096 bytes.
    pub metadata: String,
}

/// What a coordinator's leader sees of topics, as of one moment of the controller's log. Older sights never
/// undo newer ones, topic by topic and pattern by pattern.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sight {
    /// The controller's applied index (`Controller::version` of the routes it was taken from).
    pub as_of: LogIndex,
    /// Topics that exist, and names of which none exists. Those that nobody subscribes to are passed over.
    pub topics: BTreeMap<TopicName, Option<TopicLife>>,
    /// What patterns match, from all topics.
    pub patterns: BTreeMap<String, BTreeSet<TopicName>>,
    /// Topic ids that exist no more: offsets bound to them go.
    pub gone: BTreeSet<TopicId>,
}

/// A topic as groups need to know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicLife {
    /// This life of it.
    pub id: TopicId,
    /// How many partitions it has.
    pub partitions: u32,
    /// The racks of each partition's replicas, from partition 0; empty, or cut short, where not known.
    pub racks: Vec<BTreeSet<String>>,
}

fields!(Join { group, member, instance, holder_gone, subscription, peer, members_max, sight, now });
fields!(Subscription { topics, pattern, assignor, rack, rebalance_timeout_ms, client });
fields!(OffsetCommit { topic, partition, offset, leader_epoch, metadata });
fields!(Sight { as_of, topics, patterns, gone });
fields!(TopicLife { id, partitions, racks });

impl Assignor {
    /// As the contract calls it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Range => "range",
        }
    }

    /// Reads what [`Assignor::name`] gives; [`super::Refusal::UnsupportedAssignor`] for anything else.
    pub fn parse(name: &str) -> Result<Self, super::Refusal> {
        match name {
            "uniform" => Ok(Self::Uniform),
            "range" => Ok(Self::Range),
            _ => Err(super::Refusal::UnsupportedAssignor { name: super::shown(name) }),
        }
    }
}

impl Field for Assignor {
    fn put(&self, out: &mut Vec<u8>) {
        out.push(*self as u8);
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, Bad> {
        match u8::take(reader)? {
            1 => Ok(Self::Uniform),
            2 => Ok(Self::Range),
            _ => Err(Bad("an assignor unknown to this build")),
        }
    }
}

impl Field for Overdue {
    fn put(&self, out: &mut Vec<u8>) {
        out.push(*self as u8);
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, Bad> {
        match u8::take(reader)? {
            1 => Ok(Self::Session),
            2 => Ok(Self::Revocation),
            3 => Ok(Self::Poll),
            _ => Err(Bad("a cause unknown to this build")),
        }
    }
}

/// The second byte of these commands.
mod kind {
    pub const JOIN: u8 = 64;
    pub const RESUBSCRIBE: u8 = 65;
    pub const ACKNOWLEDGE: u8 = 66;
    pub const LEAVE: u8 = 67;
    pub const EXPIRE: u8 = 68;
    pub const COMMIT: u8 = 69;
    pub const SEEK: u8 = 70;
    pub const CONFIGURE: u8 = 71;
    pub const DELETE: u8 = 72;
    pub const TOPICS_CHANGED: u8 = 73;
    pub const EXPIRE_OFFSETS: u8 = 74;
}

/// Writes the kind and the fields in the order given.
macro_rules! put {
    ($out:ident, $kind:expr, $($field:expr),*) => {{
        $out.push($kind);
        $($field.put($out);)*
    }};
}

/// Reads the fields in the order given.
macro_rules! take {
    ($reader:ident, $name:ident { $($field:ident),* }) => {
        Command::$name { $($field: Field::take($reader)?),* }
    };
}

impl Command {
    /// The leader's clock when it proposed.
    pub fn now(&self) -> TimestampMs {
        match self {
            Self::Join(join) => join.now,
            Self::Resubscribe { now, .. }
            | Self::Acknowledge { now, .. }
            | Self::Leave { now, .. }
            | Self::Expire { now, .. }
            | Self::Commit { now, .. }
            | Self::Seek { now, .. }
            | Self::Configure { now, .. }
            | Self::Delete { now, .. }
            | Self::TopicsChanged { now, .. }
            | Self::ExpireOffsets { now, .. } => *now,
        }
    }

    /// Kind and fields, after the version.
    pub(crate) fn encode_to(&self, out: &mut Vec<u8>) {
        match self {
            Self::Join(join) => put!(out, kind::JOIN, join),
            Self::Resubscribe { group, member, epoch, subscription, sight, now } => {
                put!(out, kind::RESUBSCRIBE, group, member, epoch, subscription, sight, now);
            }
            Self::Acknowledge { group, member, epoch, revision, owned, now } => {
                put!(out, kind::ACKNOWLEDGE, group, member, epoch, revision, owned, now);
            }
            Self::Leave { group, member, epoch, temporary, now } => {
                put!(out, kind::LEAVE, group, member, epoch, temporary, now);
            }
            Self::Expire { group, member, epoch, cause, now } => {
                put!(out, kind::EXPIRE, group, member, epoch, cause, now);
            }
            Self::Commit { group, member, number, offsets, now } => {
                put!(out, kind::COMMIT, group, member, number, offsets, now);
            }
            Self::Seek { group, offsets, now } => put!(out, kind::SEEK, group, offsets, now),
            Self::Configure { group, paused_until, now } => {
                put!(out, kind::CONFIGURE, group, paused_until, now);
            }
            Self::Delete { group, force, now } => put!(out, kind::DELETE, group, force, now),
            Self::TopicsChanged { sight, now } => put!(out, kind::TOPICS_CHANGED, sight, now),
            Self::ExpireOffsets { retention_ms, now } => put!(out, kind::EXPIRE_OFFSETS, retention_ms, now),
        }
    }

    /// The fields of a command of this kind; `None` if no such kind is known here.
    pub(crate) fn take(kind: u8, r: &mut Reader<'_>) -> Result<Option<Self>, Bad> {
        Ok(Some(match kind {
            kind::JOIN => Self::Join(Box::new(Field::take(r)?)),
            kind::RESUBSCRIBE => take!(r, Resubscribe { group, member, epoch, subscription, sight, now }),
            kind::ACKNOWLEDGE => take!(r, Acknowledge { group, member, epoch, revision, owned, now }),
            kind::LEAVE => take!(r, Leave { group, member, epoch, temporary, now }),
            kind::EXPIRE => take!(r, Expire { group, member, epoch, cause, now }),
            kind::COMMIT => take!(r, Commit { group, member, number, offsets, now }),
            kind::SEEK => take!(r, Seek { group, offsets, now }),
            kind::CONFIGURE => take!(r, Configure { group, paused_until, now }),
            kind::DELETE => take!(r, Delete { group, force, now }),
            kind::TOPICS_CHANGED => take!(r, TopicsChanged { sight, now }),
            kind::EXPIRE_OFFSETS => take!(r, ExpireOffsets { retention_ms, now }),
            _ => return Ok(None),
        }))
    }
}
