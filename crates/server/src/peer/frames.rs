//! Frames as they travel.

use flotilla_proto::peer::v1 as wire;
use flotilla_raft::{Frame, Lane};
use flotilla_types::ShardId;

/// Payloads are shared, not copied.
pub(super) fn to_wire(frame: Frame) -> wire::Frame {
    wire::Frame {
        shard: frame.shard.get(),
        call: frame.call,
        kind: u32::from(frame.kind),
        header: frame.header,
        payloads: frame.payloads,
    }
}

/// `None` for a kind that no version has; such a frame is dropped, as one of a newer version is.
pub(super) fn from_wire(frame: wire::Frame, lane: Lane) -> Option<Frame> {
    Some(Frame {
        shard: ShardId(frame.shard),
        call: frame.call,
        kind: u8::try_from(frame.kind).ok()?,
        lane,
        header: frame.header,
        payloads: frame.payloads,
    })
}
