//! Small binary forms: votes, log ids, memberships and checkpoints, as they stand on disk and in frames.
//!
//! Little-endian. What can stand alone begins with a version. Reading never trusts a length and never panics.

use crate::types::{LogId, Membership, StoredMembership, Vote, from_raft, to_raft};
use bytes::{BufMut, Bytes, BytesMut};
use flotilla_types::{self as types, LogIndex, Term};
use openraft::EmptyNode;
use openraft::vote::leader_id_std::LeaderId;
use std::collections::{BTreeMap, BTreeSet};

/// Bytes are not what they should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed: {0}")]
pub struct Malformed(pub &'static str);

const VERSION: u8 = 1;

/// Nodes as the library wants them: with whatever there is to say about each, which is nothing.
#[expect(clippy::zero_sized_map_values, reason = "the library's interface")]
pub(crate) fn with_nothing(nodes: impl IntoIterator<Item = u64>) -> BTreeMap<u64, EmptyNode> {
    nodes.into_iter().map(|id| (id, EmptyNode {})).collect()
}

/// Reads from the front; every read says if there is too little.
pub(crate) struct Reader {
    rest: Bytes,
}

impl Reader {
    pub fn new(bytes: Bytes) -> Self {
        Self { rest: bytes }
    }

    /// Past a version byte that must be ours.
    pub fn versioned(bytes: Bytes) -> Result<Self, Malformed> {
        let mut reader = Self::new(bytes);
        if reader.u8()? == VERSION { Ok(reader) } else { Err(Malformed("unknown version")) }
    }

    pub fn bytes(&mut self, len: usize) -> Result<Bytes, Malformed> {
        if len > self.rest.len() {
            return Err(Malformed("too short"));
        }
        Ok(self.rest.split_to(len))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let bytes = self.bytes(N)?;
        bytes.as_ref().try_into().map_err(|_| Malformed("too short"))
    }

    pub fn u8(&mut self) -> Result<u8, Malformed> {
        self.array().map(|[byte]| byte)
    }

    pub fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_le_bytes)
    }

    pub fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_le_bytes)
    }

    pub fn flag(&mut self) -> Result<bool, Malformed> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed("a flag is neither 0 nor 1")),
        }
    }

    /// A count of things that take at least `each` bytes.
    pub fn count(&mut self, each: usize) -> Result<usize, Malformed> {
        let count = self.u32()? as usize;
        if count.saturating_mul(each) > self.rest.len() {
            return Err(Malformed("a count is too large"));
        }
        Ok(count)
    }

    pub fn sized(&mut self) -> Result<Bytes, Malformed> {
        let len = self.u32()? as usize;
        self.bytes(len)
    }

    pub fn log_id(&mut self) -> Result<LogId, Malformed> {
        Ok(to_raft(types::LogId { term: Term(self.u64()?), index: LogIndex(self.u64()?) }))
    }

    pub fn option_log_id(&mut self) -> Result<Option<LogId>, Malformed> {
        if self.flag()? { self.log_id().map(Some) } else { Ok(None) }
    }

    pub fn vote(&mut self) -> Result<Vote, Malformed> {
        let leader_id = LeaderId { term: self.u64()?, voted_for: u64::from(self.u32()?) };
        Ok(Vote { leader_id, committed: self.flag()? })
    }

    fn nodes(&mut self) -> Result<BTreeSet<u64>, Malformed> {
        (0..self.count(4)?).map(|_| self.u32().map(u64::from)).collect()
    }

    pub fn membership(&mut self) -> Result<Membership, Malformed> {
        let configs = (0..self.count(4)?).map(|_| self.nodes()).collect::<Result<Vec<_>, _>>()?;
        Membership::new(configs, with_nothing(self.nodes()?))
            .map_err(|_| Malformed("the membership contradicts itself"))
    }

    pub fn end(&self) -> Result<(), Malformed> {
        if self.rest.is_empty() { Ok(()) } else { Err(Malformed("too long")) }
    }
}

/// Writes to the end.
pub(crate) trait Writer: BufMut {
    fn put_flag(&mut self, flag: bool) {
        self.put_u8(u8::from(flag));
    }

    fn put_sized(&mut self, bytes: &[u8]) {
        self.put_u32_le(bytes.len() as u32);
        self.put_slice(bytes);
    }

    fn put_log_id(&mut self, id: &LogId) {
        let id = from_raft(id);
        self.put_u64_le(id.term.0);
        self.put_u64_le(id.index.0);
    }

    fn put_option_log_id(&mut self, id: Option<&LogId>) {
        self.put_flag(id.is_some());
        if let Some(id) = id {
            self.put_log_id(id);
        }
    }

    fn put_vote(&mut self, vote: &Vote) {
        self.put_u64_le(vote.leader_id.term);
        self.put_u32_le(vote.leader_id.voted_for as u32);
        self.put_flag(vote.committed);
    }

    fn put_nodes(&mut self, nodes: impl ExactSizeIterator<Item = u64>) {
        self.put_u32_le(nodes.len() as u32);
        nodes.for_each(|node| self.put_u32_le(node as u32));
    }

    fn put_membership(&mut self, membership: &Membership) {
        let configs = membership.get_joint_config();
        self.put_u32_le(configs.len() as u32);
        for config in configs {
            self.put_nodes(config.iter().copied());
        }
        let nodes: Vec<u64> = membership.nodes().map(|(id, _)| *id).collect();
        self.put_nodes(nodes.into_iter());
    }
}

impl Writer for BytesMut {}

/// An empty buffer with the version in front.
pub(crate) fn versioned(capacity: usize) -> BytesMut {
    let mut out = BytesMut::with_capacity(capacity + 1);
    out.put_u8(VERSION);
    out
}

pub(crate) fn encode_vote(vote: &Vote) -> Bytes {
    let mut out = versioned(16);
    out.put_vote(vote);
    out.freeze()
}

pub(crate) fn decode_vote(bytes: Bytes) -> Result<Vote, Malformed> {
    let mut reader = Reader::versioned(bytes)?;
    let vote = reader.vote()?;
    reader.end().map(|()| vote)
}

pub(crate) fn encode_log_id(id: &LogId) -> Bytes {
    let mut out = versioned(16);
    out.put_log_id(id);
    out.freeze()
}

pub(crate) fn decode_log_id(bytes: Bytes) -> Result<LogId, Malformed> {
    let mut reader = Reader::versioned(bytes)?;
    let id = reader.log_id()?;
    reader.end().map(|()| id)
}

/// A membership as an entry's header.
pub(crate) fn encode_membership(membership: &Membership) -> Bytes {
    let mut out = versioned(64);
    out.put_membership(membership);
    out.freeze()
}

pub(crate) fn decode_membership(bytes: Bytes) -> Result<Membership, Malformed> {
    let mut reader = Reader::versioned(bytes)?;
    let membership = reader.membership()?;
    reader.end().map(|()| membership)
}

/// A membership with the entry that made it.
pub(crate) fn encode_stored_membership(stored: &StoredMembership) -> Bytes {
    let mut out = versioned(80);
    out.put_option_log_id(stored.log_id().as_ref());
    out.put_membership(stored.membership());
    out.freeze()
}

pub(crate) fn decode_stored_membership(bytes: Bytes) -> Result<StoredMembership, Malformed> {
    let mut reader = Reader::versioned(bytes)?;
    let log_id = reader.option_log_id()?;
    let membership = reader.membership()?;
    reader.end().map(|()| StoredMembership::new(log_id, membership))
}

/// A shard's small state as of an entry: what a checkpoint and a snapshot are made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Checkpoint {
    pub at: LogId,
    pub membership: StoredMembership,
    pub rows: Vec<(Bytes, Bytes)>,
}

impl Checkpoint {
    pub fn encode(&self) -> Bytes {
        let size = self.rows.iter().map(|(key, value)| key.len() + value.len() + 8).sum::<usize>();
        let mut out = versioned(size + 128);
        out.put_log_id(&self.at);
        out.put_sized(&encode_stored_membership(&self.membership));
        out.put_u32_le(self.rows.len() as u32);
        for (key, value) in &self.rows {
            out.put_sized(key);
            out.put_sized(value);
        }
        let crc = crc32c::crc32c(&out);
        out.put_u32_le(crc);
        out.freeze()
    }

    pub fn decode(bytes: Bytes) -> Result<Self, Malformed> {
        let body = checked(bytes)?;
        let mut reader = Reader::versioned(body)?;
        let at = reader.log_id()?;
        let membership = decode_stored_membership(reader.sized()?)?;
        let rows = (0..reader.count(8)?)
            .map(|_| Ok((reader.sized()?, reader.sized()?)))
            .collect::<Result<Vec<_>, Malformed>>()?;
        reader.end().map(|()| Self { at, membership, rows })
    }
}

/// Without the CRC32C at its end, which must be right.
pub(crate) fn checked(mut bytes: Bytes) -> Result<Bytes, Malformed> {
    let at = bytes.len().checked_sub(4).ok_or(Malformed("too short"))?;
    let crc = Reader::new(bytes.split_off(at)).u32()?;
    if crc32c::crc32c(&bytes) == crc { Ok(bytes) } else { Err(Malformed("the CRC does not match")) }
}
