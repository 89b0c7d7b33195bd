//! What belongs to a group itself is changed: until when it is paused. Only fields that are named change.
//!
//! While a group is paused its members are told that they have nothing to read. What they own stays their own, in
//! the same epochs, so that they may still store offsets, and go on with no rebalance when it ends.

use super::lead::look;
use super::{Answer, Call, Error, Group, UpdateGroup};
use crate::broker::Broker;
use crate::context::Context;
use flotilla_machine::groups::{Answer as Decided, Command};
use flotilla_types::TimestampMs;

/// The latest time that the contract can say: the end of the year 9999.
const LATEST: TimestampMs = 253_402_300_799_999;

impl Broker {
    /// Changes a group, by way of any node, and answers how it is then.
    pub async fn update_group(&self, context: &Context, update: UpdateGroup) -> Result<Group, Error> {
        let (group, until) = (update.group.clone(), update.paused_until);
        let answer = match check(&update) {
            Ok(()) => self.ask_coordinator(context, &group, Call::Update(update)).await,
            Err(error) => Err(error),
        };
        match self.counted_group(answer)? {
            Answer::Group(described) => {
                let client = &context.client;
                tracing::info!(%group, paused_until = until, %client, "group updated");
                Ok(*described)
            }
            other => Err(Error::Lost(format!("the coordinator answered {other:?}"))),
        }
    }

    pub(super) async fn update_group_here(&self, update: UpdateGroup) -> Result<Group, Error> {
        check(&update)?;
        let (group, paused_until) = (update.group, update.paused_until);
        let shard = self.coordinator(&group)?;
        let now = self.clock.wall();
        if let Some(until) = paused_until
            && until <= now
        {
            // Sent again after its time is over, what was set before is right.
            let before = look(&shard, |groups| groups.get(&group).and_then(|group| group.paused_until()))?;
            if before != Some(until) {
                let expected = format!("expected a time after {now} ms, or none to end a pause");
                return Err(Error::invalid("group.paused_until", &format!("{until} ms"), expected));
            }
        }
        let command = Command::Configure { group: group.clone(), paused_until, now };
        match self.decide(&group, &shard, command).await?.answer {
            Ok(Decided::Configured) => {
                self.groups.memory.wake(shard.id(), &group);
                self.describe_here(&group).await
            }
            Ok(other) => Err(Error::Lost(format!("the coordinator answered {other:?} to an update"))),
            Err(refusal) => Err(Error::Rules(Box::new(refusal))),
        }
    }
}

fn check(update: &UpdateGroup) -> Result<(), Error> {
    if update.fields.is_empty() {
        return Err(Error::invalid("update_mask", "", "expected paused_until"));
    }
    for field in &update.fields {
        match field.as_str() {
            "paused_until" => {}
            "queue_policy" => return Err(Error::Later("changing queue_policy, which queue groups have,")),
            unknown => return Err(Error::invalid("update_mask", unknown, "expected paused_until")),
        }
    }
    match update.paused_until.filter(|until| !(0..=LATEST).contains(until)) {
        None => Ok(()),
        Some(until) => {
            let expected = "expected a time between 1970 and 9999";
            Err(Error::invalid("group.paused_until", &format!("{until} ms"), expected))
        }
    }
}
