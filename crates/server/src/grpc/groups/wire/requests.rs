//! What is asked about groups.

use flotilla_broker::groups::{
    CommitOffsets, FetchOffsets, Heartbeat, Leave, OffsetCommit, Seek, SeekTo, Subscription, UpdateGroup,
};
use flotilla_proto::convert::{self, Invalid, duration_from_wire, timestamp_from_wire};
use flotilla_proto::v1;
use flotilla_proto::v1::heartbeat_request as wire;
use flotilla_proto::v1::seek_group_request::To;
use flotilla_types::name::InvalidName;
use flotilla_types::{GroupId, InstanceId, MemberId, PartitionId, Reason, TopicName};
use std::time::Duration;

/// Longest text that is only shown to people, in bytes.
const TEXT_MAX: usize = 249;

pub fn group_id(group: &str) -> Result<GroupId, Invalid> {
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

pub fn heartbeat(wire: v1::HeartbeatRequest, peer: &str) -> Result<Heartbeat, Invalid> {
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

pub fn commit(wire: v1::CommitOffsetsRequest) -> Result<CommitOffsets, Invalid> {
    let member = match wire.member_id.is_empty() {
        true if wire.member_epoch > 0 => return Err(Invalid::missing("member_id")),
        true => None,
        false => Some((
            named("member_id", MemberId::new(&wire.member_id))?,
            epoch("member_epoch", wire.member_epoch)?,
        )),
    };
    let number = u64::try_from(wire.commit_number).map_err(|_| {
        Invalid::new("commit_number", format!("is {}, expected at least 0", wire.commit_number))
    })?;
    Ok(CommitOffsets {
        group: group_id(&wire.group_id)?,
        member,
        number,
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

pub fn fetch(wire: v1::FetchOffsetsRequest) -> Result<FetchOffsets, Invalid> {
    Ok(FetchOffsets {
        group: group_id(&wire.group_id)?,
        partitions: partitions(wire.partitions),
        member_epoch: wire.member_epoch.map(|number| epoch("member_epoch", number)).transpose()?,
    })
}

fn partitions(wire: Vec<v1::TopicPartition>) -> Vec<(String, i32)> {
    wire.into_iter().map(|p| (p.topic, p.partition)).collect()
}

pub fn seek(wire: v1::SeekGroupRequest) -> Result<Seek, Invalid> {
    let to = match wire.to {
        None => return Err(Invalid::missing("to")),
        Some(To::Earliest(true)) => SeekTo::Earliest,
        Some(To::Latest(true)) => SeekTo::Latest,
        Some(To::Earliest(false) | To::Latest(false)) => {
            return Err(Invalid::new("to", "is false, expected true or another position"));
        }
        Some(To::Time(time)) => SeekTo::Time(timestamp_from_wire("time", time)?),
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

pub fn update(wire: v1::UpdateGroupRequest) -> Result<UpdateGroup, Invalid> {
    let group = wire.group.ok_or_else(|| Invalid::missing("group"))?;
    group_type(group.group_type)?;
    Ok(UpdateGroup {
        group: named("group.group_id", GroupId::new(&group.group_id))?,
        fields: convert::admin::mask_from_wire(wire.update_mask)?,
        paused_until: group
            .paused_until
            .map(|time| timestamp_from_wire("group.paused_until", time))
            .transpose()?,
    })
}
