//! Every header comes back as it was, and no damage to one is taken for something else or panics: shown by
//! changing every bit and cutting at every byte.

use super::*;
use flotilla_machine::Append;
use flotilla_types::random::Seeded;
use flotilla_types::{BatchHeader, Compression, LogId as Id, LogIndex, Random};
use openraft::Membership;
use std::collections::BTreeSet;

const SHARD: ShardId = ShardId(1024);

fn id(term: u64, index: u64) -> LogId {
    crate::types::to_raft(Id { term: Term(term), index: LogIndex(index) })
}

fn vote_of(term: u64) -> Vote {
    Vote { leader_id: openraft::vote::leader_id_std::LeaderId { term, voted_for: 3 }, committed: true }
}

fn batch(body: &[u8]) -> Data {
    let batch = BatchHeader {
        record_count: 1,
        base_timestamp: 0,
        producer: None,
        transactional: false,
        compression: Compression::None,
        schema_id: None,
        crc32c: 0,
    };
    let append = Append {
        append_time: 1,
        expected_offset: None,
        batch: batch.seal(body),
        body_bytes: body.len() as u32,
        message_ids: Vec::new(),
        dedup_window_ms: None,
    };
    Data { header: Command::Append(append).encode(), payload: Bytes::copy_from_slice(body) }
}

fn request() -> AppendEntriesRequest<Types> {
    let nodes = crate::encoding::with_nothing(1..=4);
    let voters = vec![BTreeSet::from([1, 2, 3]), BTreeSet::from([2, 3, 4])];
    let membership = Membership::new(voters, nodes).unwrap();
    AppendEntriesRequest {
        vote: vote_of(7),
        prev_log_id: Some(id(6, 9)),
        leader_commit: Some(id(6, 8)),
        entries: vec![
            Entry { log_id: id(7, 10), payload: EntryPayload::Blank },
            Entry { log_id: id(7, 11), payload: EntryPayload::Normal(batch(b"some records")) },
            Entry { log_id: id(7, 12), payload: EntryPayload::Membership(membership) },
        ],
    }
}

/// Whether a frame can be read as what it was.
type IsRead = fn(&Frame) -> bool;

/// A frame of each kind, with its reader.
fn frames() -> Vec<(Frame, IsRead)> {
    let led = Led { shard: SHARD, term: Term(3), leads: true, rests: true };
    let told = Liveness { incarnation: 5, seen: (6, 7), from_version: 8, to_version: 9, led: vec![led] };
    let mut asked = VoteRequest::new(vote_of(2), Some(id(1, 5)));
    asked.leadership_transfer = true;
    let piece = SnapshotPiece { transfer: 1, vote: vote_of(2), at: id(2, 3), total_bytes: 4, offset: 0 };
    let offer = Restable { shard: SHARD, last: id(1, 2), term: Term(3) };
    vec![
        (append(SHARD, Lane::Data, 1, &request()), |frame| read_append(frame).is_ok()),
        (vote(FrameKind::Vote, SHARD, &asked), |frame| read_vote(frame).is_ok()),
        (transfer(SHARD, &TransferLeaderRequest::new(vote_of(2), 3, None)), |frame| {
            read_transfer(frame).is_ok()
        }),
        (snapshot(SHARD, &piece, Bytes::from_static(b"rows")), |frame| read_snapshot(frame).is_ok()),
        (liveness(&told), |frame| read_liveness(frame).is_ok()),
        (rest(&[offer]), |frame| read_rest(frame).is_ok()),
        (wake(&[SHARD]), |frame| read_wake(frame).is_ok()),
        (answer(SHARD, 1, &Answer::Rest(vec![SHARD])), |frame| read_answer(frame).is_ok()),
    ]
}

#[test]
fn requests_come_back_as_they_were() {
    let sent = request();
    let (stream, got) = read_append(&append(SHARD, Lane::Data, 42, &sent)).unwrap();
    assert_eq!((stream, got.vote, got.prev_log_id), (42, sent.vote, sent.prev_log_id));
    assert_eq!(got.leader_commit, sent.leader_commit);
    for (got, sent) in got.entries.into_iter().zip(sent.entries) {
        assert_eq!(crate::log_store::row_of(&got), crate::log_store::row_of(&sent));
    }
    for sent in [
        Answer::Append(Ok(None)),
        Answer::Append(Ok(Some(id(1, 2)))),
        Answer::Append(Err(StreamAppendError::Conflict(id(1, 2)))),
        Answer::Append(Err(StreamAppendError::HigherVote(vote_of(9)))),
        Answer::Vote(VoteResponse::new(vote_of(3), Some(id(1, 2)), true)),
        Answer::Snapshot(vote_of(4)),
        Answer::Transferred(true),
        Answer::Rest(vec![SHARD, ShardId(0)]),
        Answer::Refused(Refusal::UnknownShard),
    ] {
        assert_eq!(read_answer(&answer(SHARD, 7, &sent)).unwrap(), sent);
    }
}

#[test]
fn every_changed_bit_and_every_cut_is_noticed() {
    for (frame, is_read) in frames() {
        assert!(is_read(&frame), "{frame:?}");
        for bit in 0..frame.header.len() * 8 {
            let mut header = frame.header.to_vec();
            header[bit / 8] ^= 1 << (bit % 8);
            assert!(!is_read(&Frame { header: header.into(), ..frame.clone() }), "bit {bit} of {frame:?}");
        }
        for len in 0..frame.header.len() {
            assert!(!is_read(&Frame { header: frame.header.slice(..len), ..frame.clone() }));
        }
    }
}

/// With a right CRC, as a hostile or newer peer would send it: nonsense is refused or read, and never panics.
#[test]
fn nonsense_behind_a_right_crc_never_panics() {
    let random = Seeded::new(7);
    for (frame, is_read) in frames() {
        for _ in 0..3000 {
            let mut header = frame.header[..frame.header.len() - 4].to_vec();
            for _ in 0..=random.below(4) {
                let at = random.below(header.len() as u64) as usize;
                header[at] = random.bits() as u8;
            }
            header.truncate(
                header.len() - (random.below(3) * random.below(20)).min(header.len() as u64) as usize,
            );
            let header = seal(BytesMut::from(&header[..]));
            is_read(&Frame { header, ..frame.clone() });
        }
    }
}

#[test]
fn a_damaged_batch_is_refused() {
    let frame = append(SHARD, Lane::Data, 1, &request());
    for bit in 0..frame.payloads[0].len() * 8 {
        let mut payload = frame.payloads[0].to_vec();
        payload[bit / 8] ^= 1 << (bit % 8);
        let damaged = Frame { payloads: vec![payload.into()], ..frame.clone() };
        assert_eq!(read_append(&damaged).unwrap_err(), Malformed("a batch does not match its CRC"));
    }
    let missing = Frame { payloads: Vec::new(), ..frame.clone() };
    assert!(read_append(&missing).is_err());
    let surplus = Frame { payloads: vec![frame.payloads[0].clone(), Bytes::new()], ..frame };
    assert!(read_append(&surplus).is_err());
}

#[test]
fn checkpoints_come_back_and_damage_is_noticed() {
    use crate::encoding::Checkpoint;
    let checkpoint = Checkpoint {
        at: id(3, 9),
        membership: crate::types::StoredMembership::new(
            Some(id(1, 0)),
            match &request().entries[2].payload {
                EntryPayload::Membership(membership) => membership.clone(),
                _ => panic!("it is a membership"),
            },
        ),
        rows: vec![(Bytes::from_static(b"key"), Bytes::from_static(b"value")), (Bytes::new(), Bytes::new())],
    };
    let bytes = checkpoint.encode();
    assert_eq!(Checkpoint::decode(bytes.clone()).unwrap(), checkpoint);
    for bit in 0..bytes.len() * 8 {
        let mut damaged = bytes.to_vec();
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert!(Checkpoint::decode(damaged.into()).is_err());
    }
}
