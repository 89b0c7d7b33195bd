//! The heartbeat: one long poll after the other, through any node. The coordinator holds it and answers at
//! once when the assignment changes, so a rebalance takes round trips. What must be said now (an
//! acknowledgement, a leave) does not wait for a held one.

use super::coordinator::ANSWER_SLACK;
use super::member::{Entry, Request, State, Target};
use super::shared::Shared;
use crate::error::{Error, Result};
use crate::retry::Backoff;
use flotilla_proto::convert::errors::leader_from_wire;
use flotilla_proto::v1;
use flotilla_types::{Offset, PartitionId, TopicName};
use std::sync::Arc;
use std::time::Duration;

/// As long as the coordinator has not said how often.
const INTERVAL_FIRST: Duration = Duration::from_secs(5);
/// What a coordinator says is kept within these.
const INTERVAL_MIN: Duration = Duration::from_millis(50);
const INTERVAL_MAX: Duration = Duration::from_secs(60);
/// As long as the coordinator has not said how long a silent member lives.
const SESSION_FIRST: Duration = Duration::from_secs(45);

/// Runs for as long as the consumer lives.
pub(crate) async fn run(shared: Arc<Shared>) {
    let mut backoff = Backoff::default();
    let mut interval = INTERVAL_FIRST;
    let mut lives = SESSION_FIRST;
    loop {
        let request = shared.until(|inside| inside.member.request()).await;
        let begun = shared.clock().monotonic();
        let wire = shared.heartbeat(&request, interval);
        let answer = tokio::select! {
            // One that is not answered leaves time in the session for another.
            answer = shared.coordinator.heartbeat(&wire, ANSWER_SLACK.min(lives / 3)) => answer,
            () = outdated(&shared, &request) => {
                shared.change(|inside| inside.member.interrupted(&request));
                continue;
            }
        };
        match answer.and_then(|answer| read(&shared, answer)) {
            Ok(answer) => {
                interval = answer.interval.unwrap_or(interval).clamp(INTERVAL_MIN, INTERVAL_MAX);
                lives = answer.session.filter(|session| !session.is_zero()).unwrap_or(lives);
                backoff.reset();
                let news = shared.change(|inside| {
                    if inside.member.session() == request.session {
                        inside.session_ends = Some(begun.plus(lives));
                    }
                    inside.member.answered(&request, answer.epoch, answer.assignment)
                });
                let took = shared.clock().monotonic().since(begun);
                // A coordinator that does not hold heartbeats is not asked without pause.
                if !news && took < interval / 2 {
                    tokio::select! {
                        () = tokio::time::sleep(interval.saturating_sub(took)) => {}
                        () = outdated(&shared, &request) => {}
                    }
                }
            }
            Err(error) => {
                tracing::debug!(group = %shared.group, member = %shared.member_id, %error, "heartbeat failed");
                let pause = backoff.pause(&*shared.client.options.random, error.retry_after());
                shared.change(|inside| inside.member.failed(&request, &error));
                let leaving = |state| matches!(state, State::Leaving | State::Unsubscribed);
                let was_leaving = request.leave.is_some();
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = shared.until(|i| (leaving(i.member.state()) && !was_leaving).then_some(())) => {}
                }
            }
        }
    }
}

async fn outdated(shared: &Shared, sent: &Request) {
    shared.until(|inside| inside.member.is_outdated(sent).then_some(())).await;
}

/// What an answer says.
struct Answer {
    epoch: i64,
    assignment: Option<Target>,
    interval: Option<Duration>,
    session: Option<Duration>,
}

/// An answer that makes no sense is as good as none.
fn read(shared: &Shared, wire: v1::HeartbeatResponse) -> Result<Answer> {
    let interval = wire.heartbeat_interval.and_then(|interval| Duration::try_from(interval).ok());
    let assignment = wire.assignment.map(|assignment| {
        hear_leaders(shared, &assignment);
        assignment.entries.into_iter().map(entry).collect::<Result<Target>>()
    });
    let session = wire.session_timeout.and_then(|session| Duration::try_from(session).ok());
    Ok(Answer { epoch: wire.member_epoch, assignment: assignment.transpose()?, interval, session })
}

fn entry(wire: v1::assignment::Entry) -> Result<((TopicName, PartitionId), Entry)> {
    let what = || format!("assignment of {}/{}", wire.topic.escape_default(), wire.partition);
    let topic = TopicName::new(&wire.topic).map_err(|error| Error::lost(format!("{}: {error}", what())))?;
    let partition =
        u32::try_from(wire.partition).map_err(|error| Error::lost(format!("{}: {error}", what())))?;
    // Never taken for "no offset": that would begin elsewhere.
    let committed = wire.committed_offset.map(u64::try_from).transpose();
    let committed =
        committed.map_err(|_| Error::lost(format!("{}: committed offset is negative", what())))?;
    let entry = Entry {
        assignment_epoch: wire.assignment_epoch,
        committed: committed.map(Offset),
        topic_id: Some(wire.topic_id).filter(|id| !id.is_empty()),
    };
    Ok(((topic, PartitionId(partition)), entry))
}

/// An assignment names the leaders, which saves looking for them.
fn hear_leaders(shared: &Shared, assignment: &v1::Assignment) {
    let metadata = &shared.client.metadata;
    let routes = metadata.routes();
    let mut unknown = false;
    for entry in &assignment.entries {
        let partition = PartitionId(u32::try_from(entry.partition).unwrap_or(0));
        unknown |= routes.leadership(&entry.topic, partition).is_none();
        let leader = entry.leader.as_ref().and_then(leader_from_wire);
        metadata.hint(&entry.topic, partition, leader.as_ref());
    }
    if unknown {
        metadata.refresh();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire() -> v1::assignment::Entry {
        v1::assignment::Entry { topic: "orders".to_owned(), partition: 3, ..Default::default() }
    }

    /// platformatic/kafka 267: a failed look at the committed offset was taken for "no offset", and the
    /// consumer silently began at the end. Here only an absent offset is none; anything odd is an error.
    #[test]
    fn only_an_absent_offset_is_no_offset() {
        assert_eq!(entry(wire()).unwrap().1.committed, None);
        let with = |offset| entry(v1::assignment::Entry { committed_offset: Some(offset), ..wire() });
        assert_eq!(with(0).unwrap().1.committed, Some(Offset(0)));
        assert!(with(-1).is_err());
        assert!(entry(v1::assignment::Entry { topic: "no/name".to_owned(), ..wire() }).is_err());
        assert!(entry(v1::assignment::Entry { partition: -1, ..wire() }).is_err());
    }
}
