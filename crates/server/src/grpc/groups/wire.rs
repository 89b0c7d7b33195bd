//! Groups between the wire and the broker. Only form is checked here.

mod answers;
mod requests;

pub(super) use answers::{
    assignment_to_wire, failure_to_wire, finding_to_wire, group_to_wire, offset_to_wire, seeked_to_wire,
};
pub(super) use requests::{commit, fetch, group_id, heartbeat, seek, update};
