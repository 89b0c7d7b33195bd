//! Everything that calls about groups refuse: code, reason and what to do about it, one line each.

use super::*;
use flotilla_proto::v1::{ErrorAction as A, ErrorReason as R};

/// Code, reason and action, as a line says them.
type Expected = (Code, &'static str, &'static str);

/// What a line is about, the group, the mask's paths, what comes of it.
type Update<'a> = (&'a str, Option<v1::Group>, Option<Vec<&'a str>>, Expected);

const INVALID: Expected = (Code::InvalidArgument, "INVALID_ARGUMENT", "FAIL");
const UNKNOWN_MEMBER: Expected = (Code::Aborted, "UNKNOWN_MEMBER_ID", "REJOIN");
const FENCED: Expected = (Code::Aborted, "FENCED_MEMBER_EPOCH", "REJOIN");
const MISSING: Expected = (Code::NotFound, "NOT_FOUND", "FAIL");
const LATER: Expected = (Code::Unimplemented, "UNSUPPORTED_VERSION", "FAIL");

fn assert_told<T: std::fmt::Debug>(what: &str, answer: Result<T, tonic::Status>, expected: Expected) {
    let status = answer.expect_err(what);
    let (code, reason, action) = told(&status);
    assert_eq!((code, reason.as_str(), action.as_str()), expected, "{what}: {}", status.message());
    assert!(status.message().len() < 1024, "{what}: the answer is as long as the question");
}

fn long() -> String {
    "x".repeat(10_000)
}

fn wants(change: impl FnOnce(&mut Subscription)) -> v1::HeartbeatRequest {
    let mut request = join();
    change(request.subscription.as_mut().unwrap());
    request
}

fn with(
    mut request: v1::HeartbeatRequest,
    change: impl FnOnce(&mut v1::HeartbeatRequest),
) -> v1::HeartbeatRequest {
    change(&mut request);
    request
}

fn update(group: Option<v1::Group>, paths: Option<Vec<&str>>) -> v1::UpdateGroupRequest {
    let mut request =
        v1::UpdateGroupRequest { group, update_mask: paths.as_ref().map(|_| Default::default()) };
    if let (Some(mask), Some(paths)) = (&mut request.update_mask, paths) {
        mask.paths = paths.into_iter().map(str::to_owned).collect();
    }
    request
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_heartbeats_refuse() {
    let dev = dev_with(|config| config.broker.groups.members_max = 2).await;
    create(&dev.channel, "t", 1).await;
    let mut groups: Client = GroupsClient::new(dev.channel.clone());
    let first = with(join(), |r| r.instance_id = Some("i".to_owned()));
    let epoch = groups.heartbeat(first).await.unwrap().into_inner().member_epoch;
    let second = with(join(), |r| r.member_id = "n".to_owned());
    groups.heartbeat(second).await.unwrap();
    let now = epoch + 1;
    let queue = v1::GroupType::Queue as i32;
    let owned = |topic: String, partition| {
        let partitions = vec![v1::TopicPartition { topic, partition }];
        Some(v1::TopicPartitions { partitions })
    };
    let table: Vec<(&str, v1::HeartbeatRequest, Expected)> = vec![
        ("no group", with(join(), |r| r.group_id.clear()), INVALID),
        ("group's name", with(join(), |r| r.group_id = "a/b".to_owned()), INVALID),
        ("10 kB group", with(join(), |r| r.group_id = long()), INVALID),
        ("no member", with(join(), |r| r.member_id.clear()), INVALID),
        ("member's name", with(join(), |r| r.member_id = "a b".to_owned()), INVALID),
        ("10 kB member", with(join(), |r| r.member_id = long()), INVALID),
        ("10 kB instance", with(join(), |r| r.instance_id = Some(long())), INVALID),
        ("epoch below 0", beat(-1, 0), INVALID),
        ("wait below 0", beat(now, -1), INVALID),
        ("group type", with(join(), |r| r.group_type = 99), LATER),
        ("queue group", with(join(), |r| r.group_type = queue), LATER),
        ("leave", with(beat(now, 0), |r| r.leave = Some(99)), LATER),
        ("join without subscription", with(join(), |r| r.subscription = None), INVALID),
        ("empty subscription", wants(|s| s.topics.clear()), INVALID),
        ("huge subscription", wants(|s| s.topics = (0..1001).map(|n| format!("t{n}")).collect()), INVALID),
        ("topic's name", wants(|s| s.topics = vec!["a/b".to_owned()]), INVALID),
        ("10 kB topic", wants(|s| s.topics = vec![long()]), INVALID),
        ("no pattern", wants(|s| s.topic_regex = "(".to_owned()), INVALID),
        ("costly pattern", wants(|s| s.topic_regex = r"(\w{200}){200}".to_owned()), INVALID),
        ("10 kB pattern", wants(|s| s.topic_regex = long()), INVALID),
        ("10 kB client", wants(|s| s.client_id = long()), INVALID),
        ("10 kB rack", wants(|s| s.rack_id = long()), INVALID),
        (
            "assignor",
            wants(|s| s.assignor = "sticky".to_owned()),
            (Code::InvalidArgument, "UNSUPPORTED_ASSIGNOR", "FAIL"),
        ),
        ("10 kB assignor", wants(|s| s.assignor = long()), INVALID),
        ("10 kB owned topic", with(beat(now, 0), |r| r.owned = owned(long(), 0)), INVALID),
        ("owned partition", with(beat(now, 0), |r| r.owned = owned("t".to_owned(), -1)), INVALID),
        ("future epoch", beat(now + 1, 0), FENCED),
        ("unknown member", with(beat(3, 0), |r| r.member_id = "other".to_owned()), UNKNOWN_MEMBER),
        ("unknown group", with(beat(3, 0), |r| r.group_id = "other".to_owned()), UNKNOWN_MEMBER),
        ("leave with a future epoch", with(beat(99, 0), |r| r.leave = Some(Leave::Forever as i32)), FENCED),
        (
            "temporary leave of no instance",
            with(beat(now, 0), |r| {
                r.leave = Some(Leave::Temporarily as i32);
            }),
            INVALID,
        ),
        (
            "max members",
            with(join(), |r| r.member_id = "o".to_owned()),
            (Code::ResourceExhausted, "GROUP_MAX_SIZE_REACHED", "FAIL"),
        ),
        (
            "held instance",
            with(join(), |r| {
                r.member_id = "o".to_owned();
                r.instance_id = Some("i".to_owned());
            }),
            (Code::FailedPrecondition, "UNRELEASED_INSTANCE_ID", "RETRY"),
        ),
    ];
    for (what, request, expected) in table {
        assert_told(what, groups.heartbeat(request).await, expected);
    }
    // An epoch from before it joined again is not its own any more.
    let again = groups.heartbeat(join()).await.unwrap().into_inner().member_epoch;
    assert!(again > now);
    assert_told("stale epoch", groups.heartbeat(beat(epoch, 0)).await, FENCED);
    let gone = with(beat(3, 0), |r| {
        r.member_id = "never".to_owned();
        r.leave = Some(Leave::Forever as i32);
    });
    assert_eq!(groups.heartbeat(gone).await.unwrap().into_inner().member_epoch, 0, "a leave does no harm");
    dev.node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_offset_commits_refuse() {
    let dev = dev().await;
    create(&dev.channel, "t", 2).await;
    let other = create(&dev.channel, "other", 1).await;
    produce(&dev.channel, vec![request(1, "t", 0, &["a", "b", "c"])]).await;
    let mut groups: Client = GroupsClient::new(dev.channel.clone());
    let epoch = groups.heartbeat(join()).await.unwrap().into_inner().member_epoch;
    let at = |change: fn(&mut v1::OffsetCommit)| {
        let mut offset = offset(1);
        change(&mut offset);
        offset
    };
    let commit = async |request: v1::CommitOffsetsRequest| {
        groups.clone().commit_offsets(request).await.map(|answer| answer.into_inner().errors)
    };
    let none = || vec![offset(1)];
    let whole: Vec<(&str, v1::CommitOffsetsRequest, Expected)> = vec![
        ("no group", v1::CommitOffsetsRequest { group_id: String::new(), ..by(epoch, none()) }, INVALID),
        ("10 kB group", v1::CommitOffsetsRequest { group_id: long(), ..by(epoch, none()) }, INVALID),
        ("10 kB member", v1::CommitOffsetsRequest { member_id: long(), ..by(epoch, none()) }, INVALID),
        ("number below 0", v1::CommitOffsetsRequest { commit_number: -1, ..by(epoch, none()) }, INVALID),
        ("epoch below 0", by(-1, none()), INVALID),
        (
            "epoch of nobody",
            v1::CommitOffsetsRequest { member_id: String::new(), ..by(epoch, none()) },
            INVALID,
        ),
        ("topic's id", by(epoch, vec![at(|o| o.topic_id = Some("zz".to_owned()))]), INVALID),
        ("too many", by(epoch, (0..10_001).map(|_| offset(1)).collect()), INVALID),
        ("future epoch", by(epoch + 1, none()), FENCED),
        (
            "unknown member",
            v1::CommitOffsetsRequest { member_id: "x".to_owned(), ..by(1, none()) },
            UNKNOWN_MEMBER,
        ),
        (
            "unknown group",
            v1::CommitOffsetsRequest { group_id: "x".to_owned(), ..by(1, none()) },
            UNKNOWN_MEMBER,
        ),
        (
            "from outside, with members",
            v1::CommitOffsetsRequest { member_id: String::new(), ..by(0, none()) },
            (Code::FailedPrecondition, "NON_EMPTY_GROUP", "FAIL"),
        ),
    ];
    for (what, request, expected) in whole {
        assert_told(what, commit(request).await, expected);
    }
    let life = other.topic_id.clone();
    let single: Vec<(&str, v1::OffsetCommit, R, A)> = vec![
        ("below 0", offset(-1), R::InvalidArgument, A::Fail),
        ("beyond the high watermark", offset(4), R::OffsetOutOfRange, A::Fail),
        ("far beyond", offset(i64::MAX), R::OffsetOutOfRange, A::Fail),
        ("partition below 0", at(|o| o.partition = -1), R::InvalidArgument, A::Fail),
        ("no such partition", at(|o| o.partition = 9), R::UnknownTopicOrPartition, A::RefreshMetadata),
        ("no such topic", at(|o| o.topic = "no".to_owned()), R::UnknownTopicOrPartition, A::RefreshMetadata),
        ("10 kB topic", at(|o| o.topic = long()), R::InvalidArgument, A::Fail),
        ("10 kB metadata", at(|o| o.metadata = long()), R::InvalidArgument, A::Fail),
        ("leader's epoch", at(|o| o.committed_leader_epoch = Some(-1)), R::InvalidArgument, A::Fail),
        (
            "not owned",
            v1::OffsetCommit { topic: "other".to_owned(), ..offset(0) },
            R::StaleMemberEpoch,
            A::RefreshMember,
        ),
        (
            "another life",
            v1::OffsetCommit { topic_id: Some(life), ..offset(1) },
            R::UnknownTopicOrPartition,
            A::RefreshMetadata,
        ),
    ];
    for (what, offset, reason, action) in single {
        let errors =
            commit(by(epoch, vec![offset, v1::OffsetCommit { partition: 1, ..super::offset(0) }])).await;
        let errors = errors.expect(what);
        let told: Vec<_> =
            errors.iter().filter_map(|e| e.error.as_ref()).map(|e| (e.reason(), e.action())).collect();
        assert_eq!(told, [(reason, action)], "{what}: {errors:?}");
        assert!(errors[0].error.as_ref().unwrap().message.len() < 1024, "{what}");
    }
    // After a seek the partition is assigned anew: what was read before does not count.
    let seek = v1::SeekGroupRequest {
        group_id: "g".to_owned(),
        to: Some(v1::seek_group_request::To::Earliest(true)),
        ..Default::default()
    };
    groups.clone().seek_group(seek).await.unwrap();
    let stale = commit(by(epoch, vec![offset(2)])).await.unwrap().remove(0).error.unwrap();
    assert_eq!((stale.reason(), stale.action()), (R::StaleMemberEpoch, A::RefreshMember));
    dev.node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_other_calls_refuse() {
    let dev = dev().await;
    create(&dev.channel, "t", 1).await;
    let mut groups: Client = GroupsClient::new(dev.channel.clone());
    groups.heartbeat(join()).await.unwrap();
    let g = || "g".to_owned();

    for (what, group_id, expected) in [
        ("missing", "no".to_owned(), MISSING),
        ("name", "a/b".to_owned(), INVALID),
        ("10 kB", long(), INVALID),
    ] {
        let get = v1::GetGroupRequest { group_id: group_id.clone() };
        assert_told(what, groups.get_group(get).await, expected);
        let explain = v1::ExplainGroupRequest { group_id: group_id.clone() };
        assert_told(what, groups.explain_group(explain).await, expected);
        let delete = v1::DeleteGroupRequest { group_id: group_id.clone(), force: true };
        assert_told(what, groups.delete_group(delete).await, expected);
        let fetch = v1::FetchOffsetsRequest { group_id: group_id.clone(), ..Default::default() };
        assert_told(what, groups.fetch_offsets(fetch).await, expected);
        let to = Some(v1::seek_group_request::To::Latest(true));
        let seek = v1::SeekGroupRequest { group_id: group_id.clone(), to, ..Default::default() };
        assert_told(what, groups.seek_group(seek).await, expected);
        let group = Some(v1::Group { group_id, ..Default::default() });
        let update = update(group, Some(vec!["paused_until"]));
        assert_told(what, groups.update_group(update).await, expected);
    }

    let paused = |seconds: Option<i64>| {
        let paused_until = seconds.map(|seconds| {
            let mut time = flotilla_proto::convert::timestamp_to_wire(0);
            time.seconds = seconds;
            time
        });
        Some(v1::Group { group_id: g(), paused_until, ..Default::default() })
    };
    let (long, until) = (long(), Some(vec!["paused_until"]));
    let updates: Vec<Update<'_>> = vec![
        ("no group", None, until.clone(), INVALID),
        ("no mask", paused(None), None, INVALID),
        ("empty mask", paused(None), Some(vec![]), INVALID),
        ("field", paused(None), Some(vec!["state"]), INVALID),
        ("10 kB field", paused(None), Some(vec![&long]), INVALID),
        ("queue policy", paused(None), Some(vec!["queue_policy"]), LATER),
        ("the past", paused(Some(1)), until.clone(), INVALID),
        ("before all time", paused(Some(i64::MIN)), until.clone(), INVALID),
        ("after all time", paused(Some(1 << 50)), until.clone(), INVALID),
    ];
    for (what, group, paths, expected) in updates {
        assert_told(what, groups.update_group(update(group, paths)).await, expected);
    }

    let delete = v1::DeleteGroupRequest { group_id: g(), force: false };
    let has_members = (Code::FailedPrecondition, "NON_EMPTY_GROUP", "FAIL");
    assert_told("members", groups.delete_group(delete).await, has_members);
    let ahead = v1::FetchOffsetsRequest { group_id: g(), member_epoch: Some(99), ..Default::default() };
    let stale = (Code::Aborted, "STALE_MEMBER_EPOCH", "REFRESH_MEMBER");
    assert_told("future epoch", groups.fetch_offsets(ahead).await, stale);
    use v1::seek_group_request::{OffsetList, To};
    let list = |offset| To::Offsets(OffsetList { offsets: vec![offset] });
    let seeks: Vec<(&str, Option<To>, Expected)> = vec![
        ("nowhere", None, INVALID),
        ("earliest: false", Some(To::Earliest(false)), INVALID),
        ("like itself", Some(To::LikeGroup(g())), INVALID),
        ("like nobody", Some(To::LikeGroup("no".to_owned())), MISSING),
        ("like 10 kB", Some(To::LikeGroup(long.clone())), INVALID),
        ("offset below 0", Some(list(offset(-1))), INVALID),
        ("topic", Some(list(v1::OffsetCommit { topic: long.clone(), ..offset(0) })), INVALID),
    ];
    for (what, to, expected) in seeks {
        let seek = v1::SeekGroupRequest { group_id: g(), to, ..Default::default() };
        assert_told(what, groups.seek_group(seek).await, expected);
    }
    for (what, filter, page_token, page_size) in [
        ("filter", "lag=1".to_owned(), String::new(), 0),
        ("10 kB filter", long, String::new(), 0),
        ("page token", String::new(), "a/b".to_owned(), 0),
        ("page size", String::new(), String::new(), -1),
    ] {
        let list = v1::ListGroupsRequest { page_size, page_token, filter };
        assert_told(what, groups.list_groups(list).await, INVALID);
    }
    let unknown = v1::WatchEventsRequest { kinds: vec!["NOISE".to_owned()], recent: 0 };
    let watch = ClusterClient::new(dev.channel.clone()).watch_events(unknown).await;
    assert_told("kind", watch.map(|_| ()), INVALID);
    dev.node.stop().await;
}
