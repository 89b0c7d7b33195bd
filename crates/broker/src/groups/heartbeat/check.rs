//! What is wrong with a heartbeat by itself.

use super::super::pattern::Pattern;
use super::super::{Error, Heartbeat, Leave};
use flotilla_types::limits;

/// What is refused without asking anybody.
pub(super) fn check(heartbeat: &Heartbeat) -> Result<(), Error> {
    if heartbeat.leave == Some(Leave::Temporarily) && heartbeat.instance.is_none() {
        return Err(Error::invalid("leave", "LEAVE_TEMPORARILY", "expected an instance_id with it"));
    }
    let Some(subscription) = &heartbeat.subscription else {
        if heartbeat.member_epoch == 0 && heartbeat.leave.is_none() {
            return Err(Error::invalid("subscription", "", "expected when joining"));
        }
        return Ok(());
    };
    let count = subscription.topics.len();
    if count > limits::SUBSCRIPTION_MAX_TOPICS {
        let expected = format!("expected at most {}", limits::SUBSCRIPTION_MAX_TOPICS);
        return Err(Error::invalid("subscription.topics", &count.to_string(), expected));
    }
    if count == 0 && subscription.pattern.is_empty() {
        return Err(Error::invalid("subscription.topics", "", "expected topics or a pattern"));
    }
    if !subscription.pattern.is_empty() {
        Pattern::new(&subscription.pattern)
            .map_err(|why| Error::invalid("subscription.topic_regex", &subscription.pattern, why))?;
    }
    Ok(())
}
