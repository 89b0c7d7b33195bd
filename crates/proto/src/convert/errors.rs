//! `errors.proto`: what a failed call says, on the wire as an item's `Error` or in a status's details.
//!
//! A status carries the same facts as an `Error`: `ErrorInfo { reason, domain, metadata }`, where the
//! keys of [`keys`] hold action, outcome and leader, and `RetryInfo` for the pause.

use crate::convert::{duration_from_wire, duration_to_wire};
use crate::v1;
use flotilla_types::{Action, Failure, LeaderHint, NodeId, Reason, Term};
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

/// `ErrorInfo.domain` of everything this contract says.
pub const DOMAIN: &str = "flotilla.v1";

/// Keys of `ErrorInfo.metadata` that stand for fields of `Error`.
pub mod keys {
    /// The action's name: `REFRESH_METADATA`.
    pub const ACTION: &str = "action";
    /// `definite` or `indefinite`.
    pub const OUTCOME: &str = "outcome";
    /// `Leader.node_id`.
    pub const LEADER_NODE_ID: &str = "leader_node_id";
    /// `Leader.endpoint`.
    pub const LEADER_ENDPOINT: &str = "leader_endpoint";
    /// `Leader.leader_epoch`.
    pub const LEADER_EPOCH: &str = "leader_epoch";
}

/// An action as the contract spells it, without the enum's prefix.
pub const fn action_name(action: Action) -> &'static str {
    match action {
        Action::Fail => "FAIL",
        Action::Retry => "RETRY",
        Action::RefreshMetadata => "REFRESH_METADATA",
        Action::Rejoin => "REJOIN",
        Action::RefreshMember => "REFRESH_MEMBER",
        Action::AbortTransaction => "ABORT_TRANSACTION",
        Action::ReinitProducer => "REINIT_PRODUCER",
    }
}

const ACTIONS: [Action; 7] = [
    Action::Fail,
    Action::Retry,
    Action::RefreshMetadata,
    Action::Rejoin,
    Action::RefreshMember,
    Action::AbortTransaction,
    Action::ReinitProducer,
];

/// An item's error.
pub fn to_wire(failure: &Failure) -> v1::Error {
    v1::Error {
        reason: failure.reason as i32,
        action: failure.action as i32,
        message: failure.message.clone(),
        retry_after: failure.retry_after.map(duration_to_wire),
        leader: failure.leader.as_ref().map(leader_to_wire),
        metadata: failure.metadata.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect(),
        outcome_unknown: failure.outcome_unknown,
    }
}

/// `ErrorInfo.metadata` of a status that says the same.
pub fn to_metadata(failure: &Failure) -> HashMap<String, String> {
    let mut metadata: HashMap<String, String> =
        failure.metadata.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
    let mut put = |key: &str, value: String| metadata.insert(key.to_owned(), value);
    put(keys::ACTION, action_name(failure.action).to_owned());
    put(keys::OUTCOME, if failure.outcome_unknown { "indefinite" } else { "definite" }.to_owned());
    if let Some(leader) = &failure.leader {
        put(keys::LEADER_NODE_ID, leader.node.to_string());
        put(keys::LEADER_ENDPOINT, leader.endpoint.clone());
        put(keys::LEADER_EPOCH, leader.term.to_string());
    }
    metadata
}

/// Where a leader is.
pub fn leader_to_wire(leader: &LeaderHint) -> v1::Leader {
    v1::Leader {
        node_id: leader.node.get() as i32,
        endpoint: leader.endpoint.clone(),
        leader_epoch: leader.term.get() as i64,
    }
}

/// Where a leader is; `None` where the wire names none (node id 0).
pub fn leader_from_wire(wire: &v1::Leader) -> Option<LeaderHint> {
    let node = u32::try_from(wire.node_id).ok().filter(|n| *n > 0)?;
    Some(LeaderHint {
        node: NodeId(node),
        endpoint: wire.endpoint.clone(),
        term: Term(u64::try_from(wire.leader_epoch).unwrap_or(0)),
    })
}

/// A failure as the other side told it. Unlike a [`Failure`] it may carry a reason that this version
/// does not know; such a one is handled by its action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// What went wrong; `None` = newer than this version.
    pub reason: Option<Reason>,
    /// The reason as text: `NOT_LEADER`, or `REASON_97` for an unknown number.
    pub reason_name: String,
    /// What to do about it; an unknown action counts as [`Action::Fail`].
    pub action: Action,
    /// For people.
    pub message: String,
    /// Not before this has passed.
    pub retry_after: Option<Duration>,
    /// Who to ask instead.
    pub leader: Option<LeaderHint>,
    /// Facts for programs.
    pub metadata: BTreeMap<String, String>,
    /// The request may still take effect.
    pub outcome_unknown: bool,
}

impl std::fmt::Display for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.reason_name, self.message)
    }
}

impl std::error::Error for Told {}

/// Reads an item's error.
pub fn from_wire(wire: v1::Error) -> Told {
    let reason = Reason::from_number(wire.reason);
    Told {
        reason,
        reason_name: reason.map_or_else(|| unknown_reason(wire.reason), |known| known.name().to_owned()),
        action: ACTIONS.into_iter().find(|a| *a as i32 == wire.action).unwrap_or(Action::Fail),
        message: wire.message,
        retry_after: wire.retry_after.and_then(|pause| duration_from_wire("retry_after", pause).ok()),
        leader: wire.leader.as_ref().and_then(leader_from_wire),
        metadata: wire.metadata.into_iter().collect(),
        outcome_unknown: wire.outcome_unknown,
    }
}

/// Reads a status's details. `reason` and `metadata` are `ErrorInfo`'s, whose domain must be [`DOMAIN`]
/// (check it first); `retry_after` is `RetryInfo`'s.
pub fn from_details(
    reason: &str,
    metadata: HashMap<String, String>,
    retry_after: Option<Duration>,
    message: &str,
) -> Told {
    let mut metadata: BTreeMap<String, String> = metadata.into_iter().collect();
    let action = metadata.remove(keys::ACTION);
    let outcome = metadata.remove(keys::OUTCOME);
    let leader = v1::Leader {
        node_id: metadata.remove(keys::LEADER_NODE_ID).and_then(|n| n.parse().ok()).unwrap_or(0),
        endpoint: metadata.remove(keys::LEADER_ENDPOINT).unwrap_or_default(),
        leader_epoch: metadata.remove(keys::LEADER_EPOCH).and_then(|n| n.parse().ok()).unwrap_or(0),
    };
    Told {
        reason: Reason::ALL.into_iter().find(|known| known.name() == reason),
        reason_name: reason.to_owned(),
        action: ACTIONS
            .into_iter()
            .find(|known| Some(action_name(*known)) == action.as_deref())
            .unwrap_or(Action::Fail),
        message: message.to_owned(),
        retry_after,
        leader: leader_from_wire(&leader),
        metadata,
        // Silence about the outcome is not a promise that nothing happened.
        outcome_unknown: outcome.as_deref() != Some("definite"),
    }
}

fn unknown_reason(number: i32) -> String {
    match v1::ErrorReason::try_from(number) {
        Ok(known) => known.as_str_name().trim_start_matches("ERROR_REASON_").to_owned(),
        Err(_) => format!("REASON_{number}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure() -> Failure {
        Failure::new(Reason::NotLeader, "node 1 does not lead orders/3")
            .with("topic", "orders")
            .retry_after(Duration::from_millis(1500))
            .leader(Some(LeaderHint { node: NodeId(2), endpoint: "b:7402".to_owned(), term: Term(9) }))
    }

    #[test]
    fn items_and_statuses_tell_the_same() {
        for failure in [failure(), failure().indefinite(), Failure::new(Reason::CorruptBatch, "crc")] {
            let item = from_wire(to_wire(&failure));
            let status = from_details(
                failure.reason.name(),
                to_metadata(&failure),
                failure.retry_after,
                &failure.message,
            );
            assert_eq!(item, status);
            assert_eq!(item.reason, Some(failure.reason));
            assert_eq!(item.action, failure.action);
            assert_eq!(item.leader, failure.leader);
            assert_eq!(item.outcome_unknown, failure.outcome_unknown);
        }
    }

    #[test]
    fn our_numbers_and_names_are_the_contracts() {
        for reason in Reason::ALL {
            let wire = v1::ErrorReason::try_from(reason as i32).unwrap();
            assert_eq!(wire.as_str_name(), format!("ERROR_REASON_{}", reason.name()));
        }
        for action in ACTIONS {
            let wire = v1::ErrorAction::try_from(action as i32).unwrap();
            assert_eq!(wire.as_str_name(), format!("ERROR_ACTION_{}", action_name(action)));
        }
    }

    #[test]
    fn an_unknown_reason_keeps_its_action() {
        let wire = v1::Error { reason: 997, action: Action::Retry as i32, ..to_wire(&failure()) };
        let told = from_wire(wire);
        assert_eq!((told.reason, told.action), (None, Action::Retry));
        assert_eq!(told.reason_name, "REASON_997");
    }

    #[test]
    fn a_status_without_details_of_ours_is_indefinite() {
        assert!(from_details("GONE", HashMap::new(), None, "reset").outcome_unknown);
    }
}
