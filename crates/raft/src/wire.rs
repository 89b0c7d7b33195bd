//! What frames say: kinds, and a header for each. Version in front, CRC32C behind. A header that does not
//! decode is an error, and its frame is dropped or refused, never trusted.

use crate::encoding::{Malformed, Reader, Writer, checked, decode_membership, encode_membership, versioned};
use crate::transport::{Frame, Lane};
use crate::types::{Data, Entry, LogId, Types, Vote};
use bytes::{BufMut, Bytes, BytesMut};
use flotilla_machine::Command;
use flotilla_types::{ShardId, Term};
use openraft::EntryPayload;
use openraft::raft::{
    AppendEntriesRequest, StreamAppendError, TransferLeaderRequest, VoteRequest, VoteResponse,
};

/// What a frame is about. The numbers are never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum FrameKind {
    /// Entries, or none for a heartbeat.
    Append = 1,
    /// May I lead?
    Vote = 2,
    /// Would you let me lead?
    PreVote = 3,
    /// A piece of a snapshot.
    Snapshot = 4,
    /// Lead, please.
    Transfer = 5,
    /// The answer to any of the above.
    Answer = 6,
    /// I live; this is what I lead. About the pair of nodes.
    Liveness = 7,
    /// Shards that could rest. About the pair of nodes.
    Rest = 8,
    /// Shards that must not rest. About the pair of nodes.
    Wake = 9,
}

impl FrameKind {
    /// Reads the number.
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Append),
            2 => Some(Self::Vote),
            3 => Some(Self::PreVote),
            4 => Some(Self::Snapshot),
            5 => Some(Self::Transfer),
            6 => Some(Self::Answer),
            7 => Some(Self::Liveness),
            8 => Some(Self::Rest),
            9 => Some(Self::Wake),
            _ => None,
        }
    }
}

fn seal(mut out: BytesMut) -> Bytes {
    let crc = crc32c::crc32c(&out);
    out.put_u32_le(crc);
    out.freeze()
}

fn open(header: &Bytes) -> Result<Reader, Malformed> {
    Reader::versioned(checked(header.clone())?)
}

/// A frame without an answer awaited, on the control lane.
pub(crate) fn frame(kind: FrameKind, shard: ShardId, header: Bytes) -> Frame {
    Frame { shard, call: 0, kind: kind as u8, lane: Lane::Control, header, payloads: Vec::new() }
}

const BLANK: u8 = 0;
const COMMAND: u8 = 1;
const MEMBERSHIP: u8 = 2;

/// `stream` names the run of requests whose order matters.
pub(crate) fn append(
    shard: ShardId,
    lane: Lane,
    stream: u64,
    request: &AppendEntriesRequest<Types>,
) -> Frame {
    let headers = request.entries.iter().map(|entry| match &entry.payload {
        EntryPayload::Normal(data) => data.header.len() + 32,
        _ => 64,
    });
    let mut out = versioned(96 + headers.sum::<usize>());
    out.put_u64_le(stream);
    out.put_vote(&request.vote);
    out.put_option_log_id(request.prev_log_id.as_ref());
    out.put_option_log_id(request.leader_commit.as_ref());
    out.put_u32_le(request.entries.len() as u32);
    let mut payloads = Vec::new();
    for entry in &request.entries {
        out.put_log_id(&entry.log_id);
        match &entry.payload {
            EntryPayload::Blank => out.put_u8(BLANK),
            EntryPayload::Normal(data) => {
                out.put_u8(COMMAND);
                out.put_sized(&data.header);
                out.put_flag(!data.payload.is_empty());
                if !data.payload.is_empty() {
                    payloads.push(data.payload.clone());
                }
            }
            EntryPayload::Membership(membership) => {
                out.put_u8(MEMBERSHIP);
                out.put_sized(&encode_membership(membership));
            }
        }
    }
    Frame { lane, payloads, ..frame(FrameKind::Append, shard, seal(out)) }
}

/// A request and the stream it belongs to. Every batch in it is whole: its CRC32C was checked.
pub(crate) fn read_append(frame: &Frame) -> Result<(u64, AppendEntriesRequest<Types>), Malformed> {
    const ENTRY_MIN_LEN: usize = 17;
    let mut header = open(&frame.header)?;
    let stream = header.u64()?;
    let vote = header.vote()?;
    let prev_log_id = header.option_log_id()?;
    let leader_commit = header.option_log_id()?;
    let mut payloads = frame.payloads.iter();
    // One that has no next index is nonsense; so is what follows it.
    let first = prev_log_id.map_or(0, |id| id.index.saturating_add(1));
    let count = header.count(ENTRY_MIN_LEN)?;
    let mut entries = Vec::with_capacity(count);
    for index in (first..).take(count) {
        let log_id = header.log_id()?;
        if log_id.index != index {
            return Err(Malformed("entries leave a hole"));
        }
        let payload = match header.u8()? {
            BLANK => EntryPayload::Blank,
            COMMAND => {
                let command = header.sized()?;
                let payload = if header.flag()? {
                    payloads.next().cloned().ok_or(Malformed("a batch is missing"))?
                } else {
                    Bytes::new()
                };
                check_batch(&command, &payload)?;
                EntryPayload::Normal(Data { header: command, payload })
            }
            MEMBERSHIP => EntryPayload::Membership(decode_membership(header.sized()?)?),
            _ => return Err(Malformed("unknown kind of entry")),
        };
        entries.push(Entry { log_id, payload });
    }
    if payloads.next().is_some() {
        return Err(Malformed("a batch belongs to no entry"));
    }
    header.end()?;
    Ok((stream, AppendEntriesRequest { vote, prev_log_id, leader_commit, entries }))
}

/// A batch must carry the CRC32C that its maker gave it. What this build cannot read it leaves to the
/// applier, which stops the shard before it applies it.
pub(crate) fn check_batch(command: &[u8], payload: &[u8]) -> Result<(), Malformed> {
    match Command::decode(command) {
        Ok(Command::Append(append)) if !append.batch.is_sound(payload) => {
            Err(Malformed("a batch does not match its CRC"))
        }
        _ => Ok(()),
    }
}

pub(crate) fn vote(kind: FrameKind, shard: ShardId, request: &VoteRequest<Types>) -> Frame {
    let mut out = versioned(48);
    out.put_vote(&request.vote);
    out.put_option_log_id(request.last_log_id.as_ref());
    out.put_flag(request.leadership_transfer);
    frame(kind, shard, seal(out))
}

pub(crate) fn read_vote(frame: &Frame) -> Result<VoteRequest<Types>, Malformed> {
    let mut header = open(&frame.header)?;
    let mut request = VoteRequest::new(header.vote()?, header.option_log_id()?);
    request.leadership_transfer = header.flag()?;
    header.end().map(|()| request)
}

pub(crate) fn transfer(shard: ShardId, request: &TransferLeaderRequest<Types>) -> Frame {
    let mut out = versioned(48);
    out.put_vote(request.from_leader());
    out.put_u32_le(*request.to_node_id() as u32);
    out.put_option_log_id(request.last_log_id());
    frame(FrameKind::Transfer, shard, seal(out))
}

pub(crate) fn read_transfer(frame: &Frame) -> Result<TransferLeaderRequest<Types>, Malformed> {
    let mut header = open(&frame.header)?;
    let request =
        TransferLeaderRequest::new(header.vote()?, u64::from(header.u32()?), header.option_log_id()?);
    header.end().map(|()| request)
}

/// One piece of a snapshot; the bytes are the frame's one payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SnapshotPiece {
    /// Names the transfer, within the sending node's incarnation.
    pub transfer: u64,
    pub vote: Vote,
    pub at: LogId,
    pub total_bytes: u64,
    pub offset: u64,
}

pub(crate) fn snapshot(shard: ShardId, piece: &SnapshotPiece, bytes: Bytes) -> Frame {
    let mut out = versioned(80);
    out.put_u64_le(piece.transfer);
    out.put_vote(&piece.vote);
    out.put_log_id(&piece.at);
    out.put_u64_le(piece.total_bytes);
    out.put_u64_le(piece.offset);
    Frame { lane: Lane::Data, payloads: vec![bytes], ..frame(FrameKind::Snapshot, shard, seal(out)) }
}

pub(crate) fn read_snapshot(frame: &Frame) -> Result<(SnapshotPiece, Bytes), Malformed> {
    let mut header = open(&frame.header)?;
    let piece = SnapshotPiece {
        transfer: header.u64()?,
        vote: header.vote()?,
        at: header.log_id()?,
        total_bytes: header.u64()?,
        offset: header.u64()?,
    };
    header.end()?;
    match frame.payloads.as_slice() {
        [bytes] => Ok((piece, bytes.clone())),
        _ => Err(Malformed("a snapshot's piece is one payload")),
    }
}

/// Why a node does not answer what it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[repr(u8)]
pub(crate) enum Refusal {
    #[error("unknown shard")]
    UnknownShard = 1,
    #[error("the shard stops")]
    Stopped = 2,
    #[error("the frame is malformed or damaged")]
    Malformed = 3,
    #[error("too much is waiting")]
    Busy = 4,
    #[error("the shard rests and its leader lives")]
    Resting = 5,
    #[error("its disk has no room for records")]
    Full = 6,
}

/// What came back.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Answer {
    Append(Result<Option<LogId>, StreamAppendError<Types>>),
    Vote(VoteResponse<Types>),
    Snapshot(Vote),
    Transferred(bool),
    /// The shards of a [`FrameKind::Rest`] that agree.
    Rest(Vec<ShardId>),
    Refused(Refusal),
}

pub(crate) fn answer(shard: ShardId, call: u64, answer: &Answer) -> Frame {
    let mut out = versioned(64);
    match answer {
        Answer::Append(Ok(matched)) => {
            out.put_u8(1);
            out.put_option_log_id(matched.as_ref());
        }
        Answer::Append(Err(StreamAppendError::Conflict(id))) => {
            out.put_u8(2);
            out.put_log_id(id);
        }
        Answer::Append(Err(StreamAppendError::HigherVote(vote))) => {
            out.put_u8(3);
            out.put_vote(vote);
        }
        Answer::Vote(response) => {
            out.put_u8(4);
            out.put_vote(&response.vote);
            out.put_flag(response.vote_granted);
            out.put_option_log_id(response.last_log_id.as_ref());
        }
        Answer::Snapshot(vote) => {
            out.put_u8(5);
            out.put_vote(vote);
        }
        Answer::Transferred(accepted) => {
            out.put_u8(6);
            out.put_flag(*accepted);
        }
        Answer::Rest(shards) => {
            out.put_u8(7);
            put_shards(&mut out, shards);
        }
        Answer::Refused(refusal) => {
            out.put_u8(8);
            out.put_u8(*refusal as u8);
        }
    }
    Frame { call, ..frame(FrameKind::Answer, shard, seal(out)) }
}

pub(crate) fn read_answer(frame: &Frame) -> Result<Answer, Malformed> {
    let mut header = open(&frame.header)?;
    let answer = match header.u8()? {
        1 => Answer::Append(Ok(header.option_log_id()?)),
        2 => Answer::Append(Err(StreamAppendError::Conflict(header.log_id()?))),
        3 => Answer::Append(Err(StreamAppendError::HigherVote(header.vote()?))),
        4 => {
            let (vote, granted) = (header.vote()?, header.flag()?);
            Answer::Vote(VoteResponse::new(vote, header.option_log_id()?, granted))
        }
        5 => Answer::Snapshot(header.vote()?),
        6 => Answer::Transferred(header.flag()?),
        7 => Answer::Rest(shards(&mut header)?),
        8 => Answer::Refused(match header.u8()? {
            1 => Refusal::UnknownShard,
            2 => Refusal::Stopped,
            3 => Refusal::Malformed,
            4 => Refusal::Busy,
            5 => Refusal::Resting,
            6 => Refusal::Full,
            _ => return Err(Malformed("unknown refusal")),
        }),
        _ => return Err(Malformed("unknown answer")),
    };
    header.end().map(|()| answer)
}

fn put_shards(out: &mut BytesMut, shards: &[ShardId]) {
    out.put_u32_le(shards.len() as u32);
    shards.iter().for_each(|shard| out.put_u32_le(shard.0));
}

fn shards(header: &mut Reader) -> Result<Vec<ShardId>, Malformed> {
    (0..header.count(4)?).map(|_| header.u32().map(ShardId)).collect()
}

/// A shard's leadership, as its leader tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Led {
    pub shard: ShardId,
    pub term: Term,
    /// Whether it is led (else: no longer by the sender).
    pub leads: bool,
    /// Whether it rests.
    pub rests: bool,
}

/// What a pair of nodes exchanges instead of every shard's heartbeats.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Liveness {
    /// Another number each time a node starts.
    pub incarnation: u64,
    /// The receiver's incarnation and how far the sender has its table.
    pub seen: (u64, u64),
    /// This frame brings the sender's table from one version to another.
    pub from_version: u64,
    pub to_version: u64,
    pub led: Vec<Led>,
}

pub(crate) fn liveness(liveness: &Liveness) -> Frame {
    let mut out = versioned(64 + liveness.led.len() * 13);
    out.put_u64_le(liveness.incarnation);
    out.put_u64_le(liveness.seen.0);
    out.put_u64_le(liveness.seen.1);
    out.put_u64_le(liveness.from_version);
    out.put_u64_le(liveness.to_version);
    out.put_u32_le(liveness.led.len() as u32);
    for led in &liveness.led {
        out.put_u32_le(led.shard.0);
        out.put_u64_le(led.term.0);
        out.put_u8(u8::from(led.leads) | u8::from(led.rests) << 1);
    }
    frame(FrameKind::Liveness, ShardId(0), seal(out))
}

pub(crate) fn read_liveness(frame: &Frame) -> Result<Liveness, Malformed> {
    let mut header = open(&frame.header)?;
    let liveness = Liveness {
        incarnation: header.u64()?,
        seen: (header.u64()?, header.u64()?),
        from_version: header.u64()?,
        to_version: header.u64()?,
        led: (0..header.count(13)?)
            .map(|_| {
                let (shard, term) = (ShardId(header.u32()?), Term(header.u64()?));
                match header.u8()? {
                    flags @ 0..=3 => Ok(Led { shard, term, leads: flags & 1 != 0, rests: flags & 2 != 0 }),
                    _ => Err(Malformed("unknown flags")),
                }
            })
            .collect::<Result<_, _>>()?,
    };
    header.end().map(|()| liveness)
}

/// A shard that could rest: its leader's term and the entry that every replica must have applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Restable {
    pub shard: ShardId,
    pub last: LogId,
    pub term: Term,
}

pub(crate) fn rest(shards: &[Restable]) -> Frame {
    let mut out = versioned(8 + shards.len() * 28);
    out.put_u32_le(shards.len() as u32);
    for shard in shards {
        out.put_u32_le(shard.shard.0);
        out.put_log_id(&shard.last);
        out.put_u64_le(shard.term.0);
    }
    frame(FrameKind::Rest, ShardId(0), seal(out))
}

pub(crate) fn read_rest(frame: &Frame) -> Result<Vec<Restable>, Malformed> {
    let mut header = open(&frame.header)?;
    let shards = (0..header.count(28)?)
        .map(|_| {
            Ok(Restable { shard: ShardId(header.u32()?), last: header.log_id()?, term: Term(header.u64()?) })
        })
        .collect::<Result<Vec<_>, Malformed>>()?;
    header.end().map(|()| shards)
}

pub(crate) fn wake(woken: &[ShardId]) -> Frame {
    let mut out = versioned(8 + woken.len() * 4);
    put_shards(&mut out, woken);
    frame(FrameKind::Wake, ShardId(0), seal(out))
}

pub(crate) fn read_wake(frame: &Frame) -> Result<Vec<ShardId>, Malformed> {
    let mut header = open(&frame.header)?;
    let woken = shards(&mut header)?;
    header.end().map(|()| woken)
}

#[cfg(test)]
mod tests;
