//! Why a group does not advance: what stands between each of its partitions and a member that reads it.

use super::describe::{Timed, by_id, stands, subscribed, wanted};
use super::lead::look;
use super::{Answer, Call};
use super::{Error, Finding};
use crate::broker::Broker;
use crate::context::Context;
use flotilla_machine::groups::MemberState;
use flotilla_types::{GroupId, MemberId, PartitionId, TimestampMs, TopicId, TopicName};
use std::collections::BTreeMap;

/// Causes of findings.
pub mod cause {
    /// Nobody is in the group.
    pub const NO_MEMBERS: &str = "NO_MEMBERS";
    /// The group has offsets of the partition, but no member subscribes to its topic: nobody can own it.
    pub const NOT_SUBSCRIBED: &str = "NOT_SUBSCRIBED";
    /// A member subscribes to a topic that does not exist.
    pub const NO_TOPIC: &str = "NO_TOPIC";
    /// The partition's next owner waits for the present one to give it up.
    pub const UNREVOKED: &str = "UNREVOKED";
    /// Nobody owns the partition, though somebody subscribes to its topic.
    pub const UNASSIGNED: &str = "UNASSIGNED";
    /// Its owner is a static member that is away and is expected back.
    pub const AWAY: &str = "AWAY";
    /// Nobody leads the partition: it cannot be read.
    pub const NO_LEADER: &str = "NO_LEADER";
    /// The partition has records that its owner does not consume: nothing was committed for a while.
    pub const NOT_POLLING: &str = "NOT_POLLING";
    /// The group is paused.
    pub const PAUSED: &str = "PAUSED";
}

/// An owner that has records to read and has committed nothing for this long does not seem to read.
const SILENCE_MS: i64 = 60_000;

/// What is looked up of a partition under the lock.
struct Looked {
    findings: Vec<Finding>,
    /// Partitions that are owned, and since when nothing was committed.
    owned: BTreeMap<(TopicName, PartitionId), (MemberId, Option<TimestampMs>)>,
}

impl Broker {
    /// What keeps a group from advancing, by way of any node. Empty = nothing that can be seen from here.
    pub async fn explain_group(&self, context: &Context, group: GroupId) -> Result<Vec<Finding>, Error> {
        let call = Call::Explain { group: group.clone() };
        match self.counted_group(self.ask_coordinator(context, &group, call).await)? {
            Answer::Explained(findings) => Ok(findings),
            other => Err(Error::Lost(format!("the coordinator answered {other:?}"))),
        }
    }

    pub(super) async fn explain_here(&self, id: &GroupId) -> Result<Vec<Finding>, Error> {
        let shard = self.coordinator(id)?;
        self.settled(id, &shard).await?;
        let routes = self.routes();
        let now = self.clock.wall();
        let looked = look(&shard, |groups| {
            let group = groups.get(id)?;
            let mut looked = Looked { findings: Vec::new(), owned: BTreeMap::new() };
            let mut find =
                |partition: Option<(&TopicName, PartitionId)>, cause: &str, detail: String, since| {
                    let partition = partition.map(|(topic, partition)| (topic.clone(), partition));
                    looked.findings.push(Finding { partition, cause: cause.to_owned(), detail, since });
                };
            if let Some(until) = group.paused_until().filter(|until| *until > now) {
                find(None, cause::PAUSED, format!("paused until {until} ms"), None);
            }
            if group.members().is_empty() {
                find(None, cause::NO_MEMBERS, "nobody is in the group".to_owned(), group.empty_since());
            }
            let topics = subscribed(groups, group);
            for (name, member) in group.members() {
                for topic in wanted(groups, member) {
                    if !routes.topics.contains_key(&topic) {
                        let detail = format!("member {name} subscribes to {topic}, which does not exist");
                        find(Some((&topic, PartitionId(0))), cause::NO_TOPIC, detail, None);
                    }
                }
            }
            let stands = stands(groups, group, (&routes, &by_id(&routes)));
            for stand in &stands {
                let at = Some((&stand.topic, stand.partition));
                let leader = stand.leader.filter(|leader| self.is_online(*leader));
                if leader.is_none() {
                    find(at, cause::NO_LEADER, "nobody who can be reached leads it".to_owned(), None);
                }
                if group.members().is_empty() {
                    continue;
                }
                if !topics.contains(&stand.topic) {
                    let detail = "the group has an offset of it, but no member subscribes to its topic";
                    find(at, cause::NOT_SUBSCRIBED, detail.to_owned(), None);
                    continue;
                }
                let Some(owner) = &stand.owner else {
                    let target = group.target_of(stand.topic_id, stand.partition);
                    let detail = match target {
                        Some(target) => format!("it is to be member {target}'s, which has not got it yet"),
                        None => "no member is to have it".to_owned(),
                    };
                    find(at, cause::UNASSIGNED, detail, None);
                    continue;
                };
                let Some(member) = group.members().get(owner) else { continue };
                let holds = |topic: TopicId| {
                    member.revoking().get(&topic).is_some_and(|all| all.contains_key(&stand.partition))
                };
                if group.member_state(member) == MemberState::UnrevokedPartitions && holds(stand.topic_id) {
                    let next = group.target_of(stand.topic_id, stand.partition);
                    let next = next.map_or_else(|| "nobody".to_owned(), ToString::to_string);
                    let detail = format!("member {owner} has not given it up yet, it goes to {next}");
                    find(at, cause::UNREVOKED, detail, None);
                } else if member.away() {
                    let detail = format!("member {owner} is away and is expected back");
                    find(at, cause::AWAY, detail, None);
                } else {
                    let committed = group.offset(stand.topic_id, stand.partition);
                    let committed_at = committed.map(|committed| committed.committed_at);
                    looked
                        .owned
                        .insert((stand.topic.clone(), stand.partition), (owner.clone(), committed_at));
                }
            }
            Some((looked, stands))
        })?;
        let (Looked { mut findings, owned }, stands) = looked.ok_or_else(|| Error::NotFound(id.clone()))?;
        for position in self.positions(stands, Timed::Yes).await {
            let key = (position.topic.clone(), position.partition);
            let Some((owner, committed_at)) = owned.get(&key) else { continue };
            let waits = position.time_lag.map_or(0, |lag| lag.as_millis() as i64);
            let silent = committed_at.map_or(waits, |at| now.saturating_sub(at));
            if position.lag.is_some_and(|lag| lag > 0) && waits > SILENCE_MS && silent > SILENCE_MS {
                let lag = position.lag.unwrap_or(0);
                let detail =
                    format!("member {owner} owns it, {lag} records wait, nothing was committed lately");
                let since = Some(now.saturating_sub(silent));
                findings.push(Finding {
                    partition: Some(key),
                    cause: cause::NOT_POLLING.to_owned(),
                    detail,
                    since,
                });
            }
        }
        Ok(findings)
    }
}
