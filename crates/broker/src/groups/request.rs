//! What is asked about groups, and what comes back. All of it travels between nodes too.

mod heartbeat;
mod offsets;
mod seek;
mod view;

pub use heartbeat::{Assigned, Assignment, Heartbeat, HeartbeatAnswer, Leave, Subscription};
pub use offsets::{CommitOffsets, FetchOffsets, FetchedOffsets, OffsetCommit, PartitionFailure};
pub use seek::{Move, Seek, SeekTo, Seeked};
pub use view::{
    Finding, Group, GroupPage, GroupState, ListGroups, Member, MemberState, Position, UpdateGroup,
};
