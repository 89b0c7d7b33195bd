//! Groups between the wire and the broker. Only form is checked here.

use flotilla_broker::groups::{
    Assignment, CommitOffsets, FetchOffsets, Finding, Group, GroupState, Heartbeat, Leave, Member,
    MemberState, OffsetCommit, PartitionFailure, Position, Seek, SeekTo, Seeked, Subscription,
};
use flotilla_broker::routes::Routes;
use flotilla_proto::convert::errors;
use flotilla_proto::convert::{self, Invalid, duration_from_wire, duration_to_wire, timestamp_to_wire};
use flotilla_proto::v1;
use flotilla_proto::v1::group::State as WireState;
use flotilla_proto::v1::group::member::State as WireMemberState;
use flotilla_proto::v1::heartbeat_request as wire;
use flotilla_proto::v1::seek_group_request::To;
use flotilla_types::name::InvalidName;
use flotilla_types::{GroupId, InstanceId, MemberId, PartitionId, Reason, TopicId, TopicName};
use std::time::Duration;

/// Longest text that is only shown to people, in bytes.
const TEXT_MAX: usize = 249;

pub(super) fn group_id(group: &str) -> Result<GroupId, Invalid> {
    named("group_id", GroupId::new(group))
}

fn named<T>(field: &'static str, name: Result<T, InvalidName>) -> Result<T, Invalid> {
    name.map_err(|error| Invalid::new(field, error.to_string()))
}

fn text(field: &'static str, text: String) -> Result<String, Invalid> {
    if text.len() > TEXT_MAX {
        return Err(Invalid::new(field, format!("has {} bytes, limit {TEXT_MAX}", text.len())));
    }
    Ok(text)
}

fn epoch(field: &'static str, number: i64) -> Result<u64, Invalid> {
    u64::try_from(number).map_err(|_| Invalid::new(field, format!("is {number}, expected at least 0")))
}

/// Consumer groups are what this version has.
fn group_type(number: i32) -> Result<(), Invalid> {
    match v1::GroupType::try_from(number) {
        Ok(v1::GroupType::Unspecified | v1::GroupType::Consumer) => Ok(()),
        Ok(v1::GroupType::Queue) => Err(Invalid {
            reason: Reason::UnsupportedVersion,
            ..Invalid::new("group_type", "is GROUP_TYPE_QUEUE: queue groups come in a later version")
        }),
        Err(_) => Err(Invalid::unknown("group_type", number)),
    }
}

pub(super) fn heartbeat(wire: v1::HeartbeatRequest, peer: &str) -> Result<Heartbeat, Invalid> {
    group_type(wire.group_type)?;
    let leave = match wire.leave {
        None => None,
        Some(number) => match wire::Leave::try_from(number) {
            Ok(wire::Leave::Unspecified) => None,
            Ok(wire::Leave::Forever) => Some(Leave::Forever),
            Ok(wire::Leave::Temporarily) => Some(Leave::Temporarily),
            Err(_) => return Err(Invalid::unknown("leave", number)),
        },
    };
    let max_wait = u64::try_from(wire.max_wait_ms)
        .map_err(|_| Invalid::new("max_wait_ms", format!("is {}, expected at least 0", wire.max_wait_ms)))?;
    let instance = wire.instance_id.filter(|id| !id.is_empty());
    Ok(Heartbeat {
        group: group_id(&wire.group_id)?,
        member: named("member_id", MemberId::new(&wire.member_id))?,
        member_epoch: epoch("member_epoch", wire.member_epoch)?,
        instance: instance.map(|id| named("instance_id", InstanceId::new(&id))).transpose()?,
        subscription: wire.subscription.map(subscription).transpose()?,
        owned: wire.owned.map(owned).transpose()?,
        leave,
        max_wait: Duration::from_millis(max_wait),
        peer: peer.to_owned(),
    })
}

fn subscription(wire: wire::Subscription) -> Result<Subscription, Invalid> {
    let topics = wire.topics.iter().map(|topic| topic_name("subscription.topics", topic));
    Ok(Subscription {
        topics: topics.collect::<Result<_, _>>()?,
        pattern: wire.topic_regex,
        assignor: text("subscription.assignor", wire.assignor)?,
        rack: text("subscription.rack_id", wire.rack_id)?,
        rebalance_timeout: wire
            .rebalance_timeout
            .map(|time| duration_from_wire("subscription.rebalance_timeout", time))
            .transpose()?
            .filter(|time| !time.is_zero()),
        client_id: text("subscription.client_id", wire.client_id)?,
    })
}

fn topic_name(field: &'static str, text: &str) -> Result<TopicName, Invalid> {
    named(field, TopicName::new(text))
}

fn owned(wire: v1::TopicPartitions) -> Result<Vec<(TopicName, PartitionId)>, Invalid> {
    let one =
        |p: &v1::TopicPartition| Ok((topic_name("owned", &p.topic)?, convert::partition_id(p.partition)?));
    wire.partitions.iter().map(one).collect()
}

pub(super) fn commit(wire: v1::CommitOffsetsRequest) -> Result<CommitOffsets, Invalid> {
    let member = match wire.member_id.is_empty() {
        true if wire.member_epoch > 0 => return Err(Invalid::missing("member_id")),
        true => None,
        false => Some((
            named("member_id", MemberId::new(&wire.member_id))?,
            epoch("member_epoch", wire.member_epoch)?,
        )),
    };
    Ok(CommitOffsets {
        group: group_id(&wire.group_id)?,
        member,
        offsets: wire.offsets.into_iter().map(offset).collect::<Result<_, _>>()?,
    })
}

fn offset(wire: v1::OffsetCommit) -> Result<OffsetCommit, Invalid> {
    Ok(OffsetCommit {
        topic_id: convert::topic_id(wire.topic_id.as_deref())?,
        topic: wire.topic,
        partition: wire.partition,
        offset: wire.committed_offset,
        leader_epoch: wire.committed_leader_epoch,
        metadata: wire.metadata,
    })
}

pub(super) fn fetch(wire: v1::FetchOffsetsRequest) -> Result<FetchOffsets, Invalid> {
    Ok(FetchOffsets {
        group: group_id(&wire.group_id)?,
        partitions: partitions(wire.partitions),
        member_epoch: wire.member_epoch.map(|number| epoch("member_epoch", number)).transpose()?,
    })
}

fn partitions(wire: Vec<v1::TopicPartition>) -> Vec<(String, i32)> {
    wire.into_iter().map(|p| (p.topic, p.partition)).collect()
}

pub(super) fn seek(wire: v1::SeekGroupRequest) -> Result<Seek, Invalid> {
    let to = match wire.to {
        None => return Err(Invalid::missing("to")),
        Some(To::Earliest(true)) => SeekTo::Earliest,
        Some(To::Latest(true)) => SeekTo::Latest,
        Some(To::Earliest(false) | To::Latest(false)) => {
            return Err(Invalid::new("to", "is false, expected true or another position"));
        }
        Some(To::Time(time)) => {
            let ms = time
                .seconds
                .checked_mul(1000)
                .and_then(|ms| ms.checked_add(i64::from(time.nanos) / 1_000_000));
            SeekTo::Time(ms.ok_or_else(|| Invalid::new("time", "is out of range"))?)
        }
        Some(To::ShiftBy(records)) => SeekTo::ShiftBy(records),
        Some(To::LikeGroup(group)) => SeekTo::LikeGroup(named("like_group", GroupId::new(&group))?),
        Some(To::Offsets(list)) => {
            SeekTo::Offsets(list.offsets.into_iter().map(offset).collect::<Result<_, _>>()?)
        }
    };
    Ok(Seek {
        group: group_id(&wire.group_id)?,
        partitions: partitions(wire.partitions),
        to,
        validate_only: wire.validate_only,
    })
}

/// What an update asks for is not there yet; says which part.
pub(super) fn update(wire: &v1::UpdateGroupRequest) -> Invalid {
    const KNOWN: [&str; 2] = ["queue_policy", "paused_until"];
    let paths = wire.update_mask.as_ref().map(|mask| mask.paths.as_slice()).unwrap_or_default();
    let Some(group) = &wire.group else { return Invalid::missing("group") };
    if let Err(invalid) = group_id(&group.group_id) {
        return invalid;
    }
    match paths.iter().find(|path| !KNOWN.contains(&path.as_str())) {
        _ if paths.is_empty() => Invalid::missing("update_mask"),
        Some(unknown) => {
            let shown: String = unknown.chars().take(80).collect();
            Invalid::new("update_mask", format!("has {shown:?}, expected queue_policy or paused_until"))
        }
        None => Invalid {
            reason: Reason::UnsupportedVersion,
            ..Invalid::new("update_mask", "asks for what a later version brings: pausing and queue policies")
        },
    }
}

pub(super) fn assignment_to_wire(routes: &Routes, assignment: Assignment) -> v1::Assignment {
    let entry = |assigned: flotilla_broker::groups::Assigned| {
        let placed = routes.find(&assigned.topic, assigned.partition, Some(assigned.topic_id));
        let leader = placed.ok().and_then(|(_, placed)| routes.hint(placed.leader));
        v1::assignment::Entry {
            topic: assigned.topic.as_str().to_owned(),
            partition: assigned.partition.get() as i32,
            assignment_epoch: assigned.assignment_epoch as i64,
            leader: leader.as_ref().map(errors::leader_to_wire),
            committed_offset: assigned.committed.map(|offset| offset as i64),
            topic_id: assigned.topic_id.to_wire(),
        }
    };
    v1::Assignment {
        group_epoch: assignment.group_epoch as i64,
        entries: assignment.entries.into_iter().map(entry).collect(),
    }
}

pub(super) fn failure_to_wire(failure: PartitionFailure) -> v1::PartitionError {
    v1::PartitionError {
        topic: failure.topic,
        partition: failure.partition,
        error: Some(errors::to_wire(&failure.failure)),
    }
}

pub(super) fn offset_to_wire(offset: OffsetCommit) -> v1::OffsetCommit {
    v1::OffsetCommit {
        topic: offset.topic,
        partition: offset.partition,
        committed_offset: offset.offset,
        committed_leader_epoch: offset.leader_epoch,
        metadata: offset.metadata,
        topic_id: offset.topic_id.map(TopicId::to_wire),
    }
}

pub(super) fn group_to_wire(group: Group) -> v1::Group {
    let state = match group.state {
        GroupState::Empty => WireState::Empty,
        GroupState::Reconciling => WireState::Reconciling,
        GroupState::Stable => WireState::Stable,
    };
    let mut patterns: Vec<&str> =
        group.members.iter().map(|m| m.pattern.as_str()).filter(|pattern| !pattern.is_empty()).collect();
    patterns.sort_unstable();
    patterns.dedup();
    v1::Group {
        topic_regex: patterns.join(" "),
        group_id: group.id.into(),
        group_type: v1::GroupType::Consumer as i32,
        state: state as i32,
        group_epoch: group.group_epoch as i64,
        // The target is made in the same step that raises the epoch.
        assignment_epoch: group.group_epoch as i64,
        assignor: group.assignor,
        coordinator_node_id: group.coordinator.get() as i32,
        member_count: group.member_count as i32,
        lag: group.lag.map(|lag| lag as i64),
        topics: names(&group.topics),
        members: group.members.into_iter().map(member_to_wire).collect(),
        positions: group.positions.into_iter().map(position_to_wire).collect(),
        queue_policy: None,
        paused_until: None,
    }
}

fn names(topics: &[TopicName]) -> Vec<String> {
    topics.iter().map(|topic| topic.as_str().to_owned()).collect()
}

fn member_to_wire(member: Member) -> v1::group::Member {
    let state = match member.state {
        MemberState::Stable => WireMemberState::Stable,
        MemberState::Unrevoked => WireMemberState::UnrevokedPartitions,
        MemberState::Unreleased => WireMemberState::UnreleasedPartitions,
    };
    v1::group::Member {
        topics: names(&member.topics),
        member_id: member.id.into(),
        instance_id: member.instance.map(String::from).unwrap_or_default(),
        client_id: member.client_id,
        peer_address: member.peer,
        member_epoch: member.epoch as i64,
        state: state as i32,
        assigned: member.assigned.iter().map(partition_to_wire).collect(),
        target: member.target.iter().map(partition_to_wire).collect(),
        last_heartbeat: member.last_heartbeat.map(timestamp_to_wire),
        rack_id: member.rack,
        topic_regex: member.pattern,
    }
}

fn partition_to_wire((topic, partition): &(TopicName, PartitionId)) -> v1::TopicPartition {
    v1::TopicPartition { topic: topic.as_str().to_owned(), partition: partition.get() as i32 }
}

/// -1 where something is not known or not there.
fn position_to_wire(position: Position) -> v1::group::Position {
    let number = |number: Option<u64>| number.map_or(-1, |number| number as i64);
    v1::group::Position {
        topic: position.topic.as_str().to_owned(),
        partition: position.partition.get() as i32,
        committed_offset: number(position.committed),
        end_offset: number(position.end),
        lag: number(position.lag),
        time_lag: position.time_lag.map(duration_to_wire),
        member_id: position.member.map(String::from).unwrap_or_default(),
        ..v1::group::Position::default()
    }
}

pub(super) fn seeked_to_wire(seeked: Seeked) -> v1::SeekGroupResponse {
    let moved = |moved: flotilla_broker::groups::Move| v1::seek_group_response::Move {
        topic: moved.topic.as_str().to_owned(),
        partition: moved.partition.get() as i32,
        from_offset: moved.from.map_or(-1, |offset| offset as i64),
        to_offset: moved.to as i64,
        clamped_from: moved.clamped_from,
    };
    v1::SeekGroupResponse {
        moves: seeked.moves.into_iter().map(moved).collect(),
        errors: seeked.errors.into_iter().map(failure_to_wire).collect(),
    }
}

pub(super) fn finding_to_wire(finding: Finding) -> v1::explain_group_response::Finding {
    let (topic, partition) = match finding.partition {
        Some((topic, partition)) => (topic.as_str().to_owned(), partition.get() as i32),
        None => (String::new(), -1),
    };
    v1::explain_group_response::Finding {
        topic,
        partition,
        cause: finding.cause,
        detail: finding.detail,
        since: finding.since.map(timestamp_to_wire),
    }
}
