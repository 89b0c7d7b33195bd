//! A group goes, with its offsets.

use super::Error;
use super::{Answer, Call};
use crate::broker::Broker;
use crate::context::Context;
use flotilla_machine::groups::Command;
use flotilla_types::GroupId;

impl Broker {
    /// Deletes a group, by way of any node. With `force` also one that has members, which are fenced.
    pub async fn delete_group(&self, context: &Context, group: GroupId, force: bool) -> Result<(), Error> {
        let call = Call::Delete { group: group.clone(), force };
        match self.counted_group(self.ask_coordinator(context, &group, call).await)? {
            Answer::Deleted => {
                tracing::info!(%group, force, client = %context.client, "group deleted");
                Ok(())
            }
            other => Err(Error::Lost(format!("the coordinator answered {other:?}"))),
        }
    }

    pub(super) async fn delete_group_here(&self, group: GroupId, force: bool) -> Result<(), Error> {
        let shard = self.coordinator(&group)?;
        let command = Command::Delete { group: group.clone(), force, now: self.clock.wall() };
        match self.decide(&group, &shard, command).await?.answer {
            Ok(_) => Ok(()),
            Err(refusal) => Err(Error::Rules(Box::new(refusal))),
        }
    }
}
