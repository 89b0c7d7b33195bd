//! What comes back about groups.

use flotilla_broker::groups::{
    Assignment, Finding, Group, GroupState, Member, MemberState, OffsetCommit, PartitionFailure, Position,
    Seeked,
};
use flotilla_broker::routes::Routes;
use flotilla_proto::convert::{duration_to_wire, errors, timestamp_to_wire};
use flotilla_proto::v1;
use flotilla_proto::v1::group::State as WireState;
use flotilla_proto::v1::group::member::State as WireMemberState;
use flotilla_types::{PartitionId, TopicId, TopicName};

pub fn assignment_to_wire(routes: &Routes, assignment: Assignment) -> v1::Assignment {
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

pub fn failure_to_wire(failure: PartitionFailure) -> v1::PartitionError {
    v1::PartitionError {
        topic: failure.topic,
        partition: failure.partition,
        error: Some(errors::to_wire(&failure.failure)),
    }
}

pub fn offset_to_wire(offset: OffsetCommit) -> v1::OffsetCommit {
    v1::OffsetCommit {
        topic: offset.topic,
        partition: offset.partition,
        committed_offset: offset.offset,
        committed_leader_epoch: offset.leader_epoch,
        metadata: offset.metadata,
        topic_id: offset.topic_id.map(TopicId::to_wire),
    }
}

pub fn group_to_wire(group: Group) -> v1::Group {
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
        paused_until: group.paused_until.map(timestamp_to_wire),
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

pub fn seeked_to_wire(seeked: Seeked) -> v1::SeekGroupResponse {
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

pub fn finding_to_wire(finding: Finding) -> v1::explain_group_response::Finding {
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
