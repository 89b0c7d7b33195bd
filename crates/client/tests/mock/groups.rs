//! The mock's coordinator: one group's rules as the contract has them (KIP-848's reconciliation, one epoch
//! per assigned partition), in memory, with faults by script. It asserts what clients must never do.

use super::{Cluster, TOPIC};
use flotilla_proto::convert::errors::{DOMAIN, to_metadata, to_wire};
use flotilla_proto::v1;
use flotilla_proto::v1::groups_server::Groups;
use flotilla_types::{Failure, Reason};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Duration;
use tonic::{Request, Response, Status};
use tonic_types::{ErrorDetails, StatusExt};

pub const TOPIC_ID: &str = "0000000000000007";

/// What happens to one call instead of the usual.
#[derive(Clone, Debug)]
pub enum GroupFault {
    /// Refused; nothing is done.
    Refuse(Failure),
    /// Done, and the answer is lost.
    DoAndLose,
    /// Not done, and no answer.
    Lose,
    /// Never answered, and not done.
    Hang,
    /// A commit: no answer, and done only when [`Group::arrive`] says so.
    HoldUp,
}

#[derive(Clone, Debug, Default)]
pub struct Member {
    pub instance: Option<String>,
    pub epoch: i64,
    pub previous_epoch: i64,
    /// Partition and assignment epoch.
    pub assigned: BTreeMap<i32, i64>,
    pub revoking: BTreeMap<i32, i64>,
    pub target: BTreeSet<i32>,
    /// Rises with every change that the member must hear of.
    pub version: u64,
    pub told: u64,
    pub away: bool,
    pub subscription: v1::heartbeat_request::Subscription,
    revoking_for: Duration,
}

/// One group. All groups of a mock are this one, since tests use one.
#[derive(Debug)]
pub struct Group {
    pub epoch: i64,
    pub members: BTreeMap<String, Member>,
    pub offsets: BTreeMap<i32, i64>,
    /// Every offset commit that was stored, in order.
    pub history: Vec<(i32, i64)>,
    /// Heartbeats seen: member, epoch, full or not, leave.
    pub heartbeats: Vec<(String, i64, bool, bool)>,
    pub heartbeat_faults: VecDeque<GroupFault>,
    pub commit_faults: VecDeque<GroupFault>,
    /// Every commit is treated so, after the script.
    pub commits_always: Option<GroupFault>,
    pub down: bool,
    pub interval: Duration,
    /// What members are told about how long they live without a heartbeat.
    pub session: Option<Duration>,
    /// Commits that were held up on their way, to arrive with [`Group::arrive`].
    pub held_up: Vec<v1::CommitOffsetsRequest>,
    /// Per partition: under which assignment, and by which number, it was last committed.
    numbers: BTreeMap<i32, (i64, i64)>,
    /// A member that does not give partitions up within its timeout is thrown out.
    pub thrown_out: Vec<String>,
}

impl Default for Group {
    fn default() -> Self {
        Self {
            epoch: 0,
            members: BTreeMap::new(),
            offsets: BTreeMap::new(),
            history: Vec::new(),
            heartbeats: Vec::new(),
            heartbeat_faults: VecDeque::new(),
            commit_faults: VecDeque::new(),
            commits_always: None,
            down: false,
            interval: Duration::from_millis(2_000),
            session: None,
            held_up: Vec::new(),
            numbers: BTreeMap::new(),
            thrown_out: Vec::new(),
        }
    }
}

const TICK: Duration = Duration::from_millis(5);

impl Group {
    /// A sticky, balanced target for everybody.
    pub fn assign(&mut self, partitions: i32) {
        self.epoch += 1;
        let members: Vec<String> = self.members.keys().cloned().collect();
        if members.is_empty() {
            return;
        }
        let (share, mut larger) = (partitions as usize / members.len(), partitions as usize % members.len());
        let mut free: BTreeSet<i32> = (0..partitions).collect();
        let mut targets: HashMap<String, BTreeSet<i32>> = HashMap::new();
        for id in &members {
            let kept: BTreeSet<i32> =
                self.members[id].target.iter().copied().filter(|p| free.contains(p)).collect();
            let most = share + usize::from(larger > 0 && kept.len() > share);
            larger -= usize::from(most > share);
            let kept: BTreeSet<i32> = kept.into_iter().take(most).collect();
            free.retain(|p| !kept.contains(p));
            targets.insert(id.clone(), kept);
        }
        for id in &members {
            let target = targets.get_mut(id).unwrap();
            let most = share + usize::from(larger > 0 && target.len() <= share);
            while target.len() < most
                && let Some(next) = free.pop_first()
            {
                target.insert(next);
            }
            larger -= usize::from(target.len() > share && most > share && larger > 0);
        }
        for (id, target) in targets {
            self.members.get_mut(&id).unwrap().target = target;
        }
    }

    fn owners(&self, partition: i32) -> usize {
        let has = |m: &&Member| m.assigned.contains_key(&partition) || m.revoking.contains_key(&partition);
        self.members.values().filter(has).count()
    }

    /// One step of reconciliation.
    fn reconcile(&mut self, id: &str) {
        let epoch = self.epoch;
        let member = self.members.get_mut(id).unwrap();
        if member.epoch == epoch && member.assigned.keys().copied().eq(member.target.iter().copied()) {
            return;
        }
        let excess: Vec<i32> =
            member.assigned.keys().copied().filter(|p| !member.target.contains(p)).collect();
        for partition in &excess {
            let epoch = member.assigned.remove(partition).unwrap();
            member.revoking.insert(*partition, epoch);
        }
        if !excess.is_empty() {
            member.version += 1;
            member.revoking_for = Duration::ZERO;
        }
        if !member.revoking.is_empty() {
            return;
        }
        if member.epoch != epoch {
            member.previous_epoch = member.epoch;
            member.epoch = epoch;
            member.version += 1;
        }
        let wanted: Vec<i32> =
            member.target.iter().copied().filter(|p| !member.assigned.contains_key(p)).collect();
        let free: Vec<i32> = wanted.into_iter().filter(|p| self.owners(*p) == 0).collect();
        let member = self.members.get_mut(id).unwrap();
        for partition in free {
            member.assigned.insert(partition, epoch);
            member.version += 1;
        }
        for partition in 0..64 {
            assert!(self.owners(partition) <= 1, "partition {partition} has two owners");
        }
    }

    /// A member's session ends.
    pub fn throw_out(&mut self, id: &str, partitions: i32) {
        if self.members.remove(id).is_some() {
            self.thrown_out.push(id.to_owned());
            self.assign(partitions);
        }
    }

    /// An administrator moves offsets while members read.
    pub fn seek(&mut self, partition: i32, offset: i64) {
        self.epoch += 1;
        let epoch = self.epoch;
        self.offsets.insert(partition, offset);
        self.history.retain(|(p, _)| *p != partition);
        for member in self.members.values_mut() {
            if let Some(assigned) = member.assigned.get_mut(&partition) {
                *assigned = epoch;
                member.previous_epoch = member.epoch;
                member.epoch = epoch;
                member.version += 1;
            }
        }
    }

    fn step(&mut self, request: &v1::HeartbeatRequest, partitions: i32, first: bool) -> Result<(), Failure> {
        let id = &request.member_id;
        let unknown = || Failure::new(Reason::UnknownMemberId, format!("member {id} is unknown"));
        if let Some(leave) = request.leave {
            let member = self.members.get_mut(id).ok_or_else(unknown)?;
            if leave == v1::heartbeat_request::Leave::Temporarily as i32 {
                assert!(request.instance_id.is_some(), "only static members leave for a while");
                member.away = true;
                member.revoking.clear();
            } else {
                self.members.remove(id);
                self.assign(partitions);
            }
            return Ok(());
        }
        if request.member_epoch == 0 && first {
            let subscription = request.subscription.clone().expect("a join says what it reads");
            assert!(request.owned.as_ref().is_some_and(|o| o.partitions.is_empty()), "a join owns nothing");
            let same = |m: &Member| m.instance.is_some() && m.instance == request.instance_id;
            let twin = self.members.iter().find(|(other, m)| *other != id && same(m));
            if let Some((other, twin)) = twin {
                if !twin.away {
                    return Err(Failure::new(Reason::UnreleasedInstanceId, "instance is in use"));
                }
                let other = other.clone();
                let mut back = self.members.remove(&other).unwrap();
                back.away = false;
                back.version += 1;
                self.members.insert(id.clone(), back);
            } else if !self.members.contains_key(id) {
                let member =
                    Member { instance: request.instance_id.clone(), subscription, ..Default::default() };
                self.members.insert(id.clone(), member);
                self.assign(partitions);
            }
        }
        let member = self.members.get_mut(id).ok_or_else(unknown)?;
        let epoch = request.member_epoch;
        if first && epoch != 0 && epoch != member.epoch {
            // An answer was lost: the epoch before is taken if what is owned fits.
            let owned = request.owned.as_ref().map(|o| o.partitions.iter().map(|p| p.partition));
            let fits = owned.is_some_and(|mut o| {
                o.all(|p| member.assigned.contains_key(&p) || member.revoking.contains_key(&p))
            });
            if epoch != member.previous_epoch || !fits {
                let message = format!("epoch {epoch}, member is at {}", member.epoch);
                return Err(Failure::new(Reason::FencedMemberEpoch, message));
            }
        }
        if first && let Some(owned) = &request.owned {
            let owned: BTreeSet<i32> = owned.partitions.iter().map(|p| p.partition).collect();
            member.revoking.retain(|p, _| owned.contains(p));
        }
        if !member.revoking.is_empty() {
            let timeout = member.subscription.rebalance_timeout.and_then(|t| Duration::try_from(t).ok());
            member.revoking_for += TICK;
            if member.revoking_for > timeout.unwrap_or(Duration::from_secs(30)) {
                let id = id.clone();
                self.throw_out(&id, partitions);
                return Err(Failure::new(Reason::UnknownMemberId, "thrown out"));
            }
        }
        self.reconcile(id);
        Ok(())
    }

    fn answer(
        &mut self,
        request: &v1::HeartbeatRequest,
        cluster: &Cluster,
        last: bool,
    ) -> Option<v1::HeartbeatResponse> {
        let heartbeat_interval = prost_types::Duration::try_from(self.interval).ok();
        let session_timeout = self.session.and_then(|session| prost_types::Duration::try_from(session).ok());
        let base = v1::HeartbeatResponse { heartbeat_interval, session_timeout, ..Default::default() };
        if request.leave.is_some() {
            return Some(base);
        }
        let member = self.members.get_mut(&request.member_id)?;
        let full = request.subscription.is_some() || request.member_epoch != member.epoch;
        let news = full || member.version != member.told;
        if !news && !last {
            return None;
        }
        member.told = member.version;
        let entry = |(partition, epoch): (&i32, &i64)| v1::assignment::Entry {
            topic: TOPIC.to_owned(),
            partition: *partition,
            assignment_epoch: *epoch,
            leader: cluster.leader_of(*partition),
            committed_offset: self.offsets.get(partition).copied(),
            topic_id: TOPIC_ID.to_owned(),
        };
        let assignment =
            v1::Assignment { group_epoch: self.epoch, entries: member.assigned.iter().map(entry).collect() };
        Some(v1::HeartbeatResponse {
            member_epoch: member.epoch,
            assignment: news.then_some(assignment),
            ..base
        })
    }

    fn commit(
        &mut self,
        request: &v1::CommitOffsetsRequest,
        ends: &[u64],
    ) -> Result<Vec<v1::PartitionError>, Failure> {
        let id = &request.member_id;
        let member = self.members.get(id);
        let member = member.ok_or_else(|| Failure::new(Reason::UnknownMemberId, "unknown member"))?;
        if request.member_epoch > member.epoch {
            return Err(Failure::new(Reason::FencedMemberEpoch, "epoch from the future"));
        }
        let mut errors = Vec::new();
        for offset in &request.offsets {
            assert_eq!(offset.topic_id.as_deref(), Some(TOPIC_ID), "a commit belongs to one life of a topic");
            let partition = offset.partition;
            let epoch = member.assigned.get(&partition).or(member.revoking.get(&partition));
            let failure = match epoch {
                Some(epoch) if *epoch <= request.member_epoch => {
                    let end = ends[partition as usize] as i64;
                    (offset.committed_offset > end)
                        .then(|| Failure::new(Reason::OffsetOutOfRange, "beyond the high watermark"))
                }
                _ => Some(Failure::new(Reason::StaleMemberEpoch, format!("{partition} is not held so"))),
            };
            match failure {
                Some(failure) => errors.push(v1::PartitionError {
                    topic: offset.topic.clone(),
                    partition,
                    error: Some(to_wire(&failure)),
                }),
                None => {
                    let holding = epoch.copied().unwrap_or_default();
                    let (under, number) = self.numbers.get(&partition).copied().unwrap_or_default();
                    if under == holding && request.commit_number < number {
                        continue; // overtaken on its way
                    }
                    self.numbers.insert(partition, (holding, request.commit_number));
                    self.offsets.insert(partition, offset.committed_offset);
                    self.history.push((partition, offset.committed_offset));
                }
            }
        }
        Ok(errors)
    }

    /// What was held up arrives.
    pub fn arrive(&mut self, ends: &[u64]) {
        for request in std::mem::take(&mut self.held_up) {
            let _ = self.commit(&request, ends);
        }
    }

    /// Nobody's committed offsets went back (but by `seek`).
    pub fn assert_forward(&self) {
        let mut last: HashMap<i32, i64> = HashMap::new();
        for (partition, offset) in &self.history {
            let before = last.insert(*partition, *offset).unwrap_or(0);
            assert!(*offset >= before, "partition {partition}: {before} then {offset}");
        }
    }
}

pub fn status(failure: &Failure) -> Status {
    let code = match failure.reason {
        Reason::LeaderNotAvailable | Reason::CoordinatorLoading => tonic::Code::Unavailable,
        Reason::InvalidArgument | Reason::UnsupportedAssignor => tonic::Code::InvalidArgument,
        Reason::NotFound => tonic::Code::NotFound,
        Reason::NotCoordinator => tonic::Code::FailedPrecondition,
        _ => tonic::Code::Aborted,
    };
    let details = ErrorDetails::with_error_info(failure.reason.name(), DOMAIN, to_metadata(failure));
    Status::with_error_details(code, failure.message.clone(), details)
}

type Answer<T> = Result<Response<T>, Status>;

fn unavailable() -> Status {
    status(&Failure::new(Reason::LeaderNotAvailable, "the coordinator has no leader now"))
}

fn lost() -> Status {
    Status::unavailable("connection reset")
}

#[async_trait::async_trait]
impl Groups for super::services::Node {
    async fn heartbeat(&self, request: Request<v1::HeartbeatRequest>) -> Answer<v1::HeartbeatResponse> {
        let request = request.into_inner();
        let partitions = self.cluster.partitions.lock().len() as i32;
        let wait = Duration::from_millis(request.max_wait_ms as u64);
        let mut waited = Duration::ZERO;
        let fault = {
            let mut group = self.cluster.group.lock();
            let full = request.subscription.is_some();
            let seen = (request.member_id.clone(), request.member_epoch, full, request.leave.is_some());
            group.heartbeats.push(seen);
            group.heartbeat_faults.pop_front()
        };
        match &fault {
            Some(GroupFault::Refuse(failure)) => return Err(status(failure)),
            Some(GroupFault::Lose) => return Err(lost()),
            Some(GroupFault::Hang) => std::future::pending().await,
            _ => {}
        }
        loop {
            {
                let mut group = self.cluster.group.lock();
                if group.down {
                    return Err(unavailable());
                }
                group.step(&request, partitions, waited.is_zero()).map_err(|failure| status(&failure))?;
                if let Some(answer) = group.answer(&request, &self.cluster, waited >= wait) {
                    if matches!(fault, Some(GroupFault::DoAndLose)) {
                        drop(group);
                        return Err(lost());
                    }
                    return Ok(Response::new(answer));
                }
            }
            tokio::time::sleep(TICK).await;
            waited += TICK;
        }
    }

    async fn commit_offsets(
        &self,
        request: Request<v1::CommitOffsetsRequest>,
    ) -> Answer<v1::CommitOffsetsResponse> {
        let request = request.into_inner();
        let ends: Vec<u64> = self.cluster.partitions.lock().iter().map(|p| p.next_offset).collect();
        let fault = {
            let mut group = self.cluster.group.lock();
            if group.down {
                return Err(unavailable());
            }
            group.commit_faults.pop_front().or_else(|| group.commits_always.clone())
        };
        match &fault {
            Some(GroupFault::Refuse(failure)) => return Err(status(failure)),
            Some(GroupFault::Lose) => return Err(lost()),
            Some(GroupFault::Hang) => std::future::pending().await,
            Some(GroupFault::HoldUp) => {
                self.cluster.group.lock().held_up.push(request);
                return Err(lost());
            }
            _ => {}
        }
        let errors = self.cluster.group.lock().commit(&request, &ends).map_err(|failure| status(&failure))?;
        if matches!(fault, Some(GroupFault::DoAndLose)) {
            return Err(lost());
        }
        Ok(Response::new(v1::CommitOffsetsResponse { errors }))
    }

    async fn fetch_offsets(&self, _: Request<v1::FetchOffsetsRequest>) -> Answer<v1::FetchOffsetsResponse> {
        let group = self.cluster.group.lock();
        let offsets = group.offsets.iter().map(|(partition, offset)| v1::OffsetCommit {
            topic: TOPIC.to_owned(),
            partition: *partition,
            committed_offset: *offset,
            ..Default::default()
        });
        let offsets = offsets.collect();
        Ok(Response::new(v1::FetchOffsetsResponse { offsets, errors: Vec::new() }))
    }

    async fn list_groups(&self, request: Request<v1::ListGroupsRequest>) -> Answer<v1::ListGroupsResponse> {
        // Two pages, so that clients are seen to turn them.
        let group = v1::Group { state: v1::group::State::Stable as i32, ..Default::default() };
        let answer = match request.into_inner().page_token.as_str() {
            "" => v1::ListGroupsResponse {
                groups: vec![v1::Group { group_id: "a".to_owned(), ..group }],
                next_page_token: "more".to_owned(),
            },
            _ => v1::ListGroupsResponse {
                groups: vec![v1::Group { group_id: "b".to_owned(), ..group }],
                next_page_token: String::new(),
            },
        };
        Ok(Response::new(answer))
    }

    async fn get_group(&self, request: Request<v1::GetGroupRequest>) -> Answer<v1::Group> {
        let group = self.cluster.group.lock();
        let of = |partition: &i32| v1::TopicPartition { topic: TOPIC.to_owned(), partition: *partition };
        let member = |(id, m): (&String, &Member)| v1::group::Member {
            member_id: id.clone(),
            instance_id: m.instance.clone().unwrap_or_default(),
            member_epoch: m.epoch,
            state: v1::group::member::State::Stable as i32,
            assigned: m.assigned.keys().map(of).collect(),
            ..Default::default()
        };
        let position = |(partition, offset): (&i32, &i64)| v1::group::Position {
            topic: TOPIC.to_owned(),
            partition: *partition,
            committed_offset: *offset,
            end_offset: *offset + 5,
            lag: 5,
            time_lag: Some(prost_types::Duration { seconds: 3, nanos: 0 }),
            ..Default::default()
        };
        Ok(Response::new(v1::Group {
            group_id: request.into_inner().group_id,
            state: v1::group::State::Stable as i32,
            group_epoch: group.epoch,
            members: group.members.iter().map(member).collect(),
            positions: group.offsets.iter().map(position).collect(),
            ..Default::default()
        }))
    }

    async fn update_group(&self, request: Request<v1::UpdateGroupRequest>) -> Answer<v1::Group> {
        Ok(Response::new(request.into_inner().group.unwrap_or_default()))
    }

    async fn delete_group(
        &self,
        request: Request<v1::DeleteGroupRequest>,
    ) -> Answer<v1::DeleteGroupResponse> {
        let mut group = self.cluster.group.lock();
        if !group.members.is_empty() && !request.into_inner().force {
            return Err(status(&Failure::new(Reason::NonEmptyGroup, "group has members")));
        }
        group.offsets.clear();
        Ok(Response::new(v1::DeleteGroupResponse {}))
    }

    async fn seek_group(&self, request: Request<v1::SeekGroupRequest>) -> Answer<v1::SeekGroupResponse> {
        let request = request.into_inner();
        let mut group = self.cluster.group.lock();
        let offsets: Vec<(i32, i64)> = group.offsets.iter().map(|(p, o)| (*p, *o)).collect();
        let wanted =
            |p: i32| request.partitions.is_empty() || request.partitions.iter().any(|w| w.partition == p);
        let mut moves = Vec::new();
        for (partition, from) in offsets.into_iter().filter(|(p, _)| wanted(*p)) {
            let to = match &request.to {
                Some(v1::seek_group_request::To::ShiftBy(by)) => from + by,
                _ => 0,
            };
            if !request.validate_only {
                group.seek(partition, to);
            }
            moves.push(v1::seek_group_response::Move {
                topic: TOPIC.to_owned(),
                partition,
                from_offset: from,
                to_offset: to,
                clamped_from: None,
            });
        }
        Ok(Response::new(v1::SeekGroupResponse { moves, errors: Vec::new() }))
    }

    async fn explain_group(&self, _: Request<v1::ExplainGroupRequest>) -> Answer<v1::ExplainGroupResponse> {
        let finding = v1::explain_group_response::Finding {
            cause: "NO_MEMBERS".to_owned(),
            detail: "nobody reads".to_owned(),
            ..Default::default()
        };
        Ok(Response::new(v1::ExplainGroupResponse { findings: vec![finding] }))
    }
}
