//! The member's states, and the stories of members that went wrong elsewhere.

use super::*;
use flotilla_types::{PartitionId, TopicName};

fn key(partition: u32) -> Key {
    (TopicName::new("orders").unwrap(), PartitionId(partition))
}

fn target(partitions: &[(u32, i64)]) -> Target {
    let entry = |epoch| Entry { assignment_epoch: epoch, committed: None, topic_id: None };
    partitions.iter().map(|(p, epoch)| (key(*p), entry(*epoch))).collect()
}

fn refused(action: Action) -> Error {
    let mut told = flotilla_proto::convert::errors::from_wire(flotilla_proto::v1::Error::default());
    told.action = action;
    Error::from_told(told)
}

/// Does what there is to do, as the reconciler would.
fn reconcile(member: &mut Member) {
    let Some(Work::Reconcile { revoke, take }) = member.work() else { panic!("{:?}", member.work()) };
    let mut owned = member.owned.clone();
    owned.retain(|key, _| !revoke.contains(key));
    owned.extend(take.iter().map(|(key, entry)| (key.clone(), entry.assignment_epoch)));
    member.reconciled(owned);
}

fn joined(partitions: &[(u32, i64)]) -> Member {
    let mut member = Member::new(Subscription { topics: vec!["orders".to_owned()], ..Default::default() });
    member.start();
    let join = member.request().unwrap();
    assert!(join.epoch == 0 && join.subscription.is_some() && join.owned == Some(Vec::new()));
    assert!(member.answered(&join, 1, Some(target(partitions))));
    if member.state() == State::Reconciling {
        reconcile(&mut member);
        acknowledge(&mut member, 1);
    }
    assert_eq!(member.state(), State::Stable);
    member
}

fn acknowledge(member: &mut Member, epoch: i64) {
    assert_eq!(member.state(), State::Acknowledging);
    let request = member.request().unwrap();
    assert_eq!(request.owned.as_ref().map(Vec::len), Some(member.owned.len()));
    member.answered(&request, epoch, None);
}

#[test]
fn a_member_joins_takes_acknowledges_and_then_only_renews() {
    let mut member = joined(&[(0, 1), (1, 1)]);
    let renewal = member.request().unwrap();
    assert_eq!((renewal.epoch, renewal.subscription.clone(), renewal.owned.clone()), (1, None, None));
    assert!(!member.answered(&renewal, 1, None));
    assert_eq!(member.request().unwrap(), renewal);
}

#[test]
fn a_revocation_is_acknowledged_before_what_replaces_it_is_taken() {
    let mut member = joined(&[(0, 1), (1, 1)]);
    let renewal = member.request().unwrap();
    assert!(member.answered(&renewal, 1, Some(target(&[(0, 1)]))));
    assert_eq!(member.work(), Some(Work::Reconcile { revoke: vec![key(1)], take: Target::new() }));
    let during = member.request().unwrap();
    assert_eq!(during.owned, None, "the session is kept alive, nothing is acknowledged yet");
    reconcile(&mut member);
    assert!(member.is_outdated(&during), "the acknowledgement does not wait for a held heartbeat");
    let acknowledgement = member.request().unwrap();
    assert_eq!(acknowledgement.owned, Some(vec![key(0)]));
    assert!(member.answered(&acknowledgement, 2, Some(target(&[(0, 1), (5, 2)]))));
    assert_eq!(member.state(), State::Reconciling);
    reconcile(&mut member);
    acknowledge(&mut member, 2);
    assert_eq!((member.state(), member.epoch()), (State::Stable, 2));
}

#[test]
fn an_assignment_that_comes_while_another_is_worked_on_is_next() {
    let mut member = joined(&[(0, 1), (1, 1)]);
    let renewal = member.request().unwrap();
    member.answered(&renewal, 1, Some(target(&[(0, 1)])));
    let work = member.work();
    let renewal = member.request().unwrap();
    member.answered(&renewal, 1, Some(target(&[])));
    assert_ne!(member.work(), work);
    // The reconciler finishes what it began.
    member.reconciled([(key(0), 1)].into());
    let acknowledgement = member.request().unwrap();
    assert_eq!(acknowledgement.owned, Some(vec![key(0)]));
    member.answered(&acknowledgement, 2, None);
    assert_eq!(member.work(), Some(Work::Reconcile { revoke: vec![key(0)], take: Target::new() }));
}

#[test]
fn a_partition_under_a_new_assignment_is_read_again_from_where_the_coordinator_says() {
    let mut member = joined(&[(0, 1), (1, 1)]);
    let renewal = member.request().unwrap();
    member.answered(&renewal, 2, Some(target(&[(0, 1), (1, 2)])));
    assert_eq!(member.work(), Some(Work::Reconcile { revoke: Vec::new(), take: target(&[(1, 2)]) }));
}

/// Kafka 15392: heartbeats went on while the member was fenced, and the join was confused by them.
#[test]
fn a_fenced_member_is_silent_until_it_has_dropped_everything() {
    let mut member = joined(&[(0, 1)]);
    let on_its_way = member.request().unwrap();
    member.fence(on_its_way.session);
    assert_eq!((member.state(), member.request()), (State::Fenced, None));
    assert!(member.is_outdated(&on_its_way));
    assert!(!member.answered(&on_its_way, 9, Some(target(&[(7, 9)]))), "a late answer changes nothing");
    member.failed(&on_its_way, &refused(Action::Rejoin));
    assert_eq!((member.state(), member.work()), (State::Fenced, Some(Work::Drop)));
    member.dropped();
    let join = member.request().unwrap();
    assert_eq!((member.state(), join.epoch, join.owned), (State::Joining, 0, Some(Vec::new())));
    member.fence(on_its_way.session);
    assert_eq!(member.state(), State::Joining, "an old refusal does not harm the new membership");
}

/// librdkafka 4672: the epoch was lost when a member left while a heartbeat was on its way, so the
/// coordinator took the leave for a stranger's and the partitions waited for the session's end.
#[test]
fn a_leave_during_a_heartbeat_carries_the_newest_epoch() {
    let mut member = joined(&[(0, 1)]);
    let held = member.request().unwrap();
    assert!(member.prepare_to_leave());
    assert!(!member.is_outdated(&held), "draining goes on under it");
    assert!(member.answered(&held, 4, Some(target(&[(0, 1), (1, 4)]))));
    assert_eq!((member.state(), member.work()), (State::PreparingToLeave, None));
    let held = member.request().unwrap();
    member.leave(Leave::Forever);
    assert!(member.is_outdated(&held), "the leave is said at once");
    member.interrupted(&held);
    let leave = member.request().unwrap();
    assert_eq!((leave.epoch, leave.leave), (4, Some(Leave::Forever)));
    member.failed(&leave, &refused(Action::Retry));
    assert_eq!(member.request().unwrap().leave, Some(Leave::Forever), "said again");
    member.failed(&leave, &refused(Action::Rejoin));
    assert_eq!(member.state(), State::Unsubscribed, "the coordinator had heard it the first time");
}

#[test]
fn a_leave_does_not_overtake_a_join() {
    let mut member = Member::new(Subscription::default());
    member.start();
    let join = member.request().unwrap();
    member.prepare_to_leave();
    member.leave(Leave::Forever);
    assert!(!member.is_outdated(&join));
    member.answered(&join, 7, Some(Target::new()));
    assert_eq!(member.request().unwrap().epoch, 7);
}

#[test]
fn after_a_lost_answer_everything_is_said_again_with_the_same_epoch() {
    let mut member = joined(&[(0, 1)]);
    let renewal = member.request().unwrap();
    member.failed(&renewal, &Error::lost("no answer"));
    let full = member.request().unwrap();
    assert_eq!((full.epoch, full.owned.clone()), (1, Some(vec![key(0)])));
    assert!(full.subscription.is_some());
    // The lost answer had moved the epoch and the assignment; this one says so again.
    assert!(member.answered(&full, 2, Some(target(&[(0, 1), (1, 2)]))));
    assert_eq!((member.state(), member.epoch()), (State::Reconciling, 2));
}

#[test]
fn an_acknowledgement_is_repeated_until_it_is_answered() {
    let mut member = joined(&[(0, 1), (1, 1)]);
    let renewal = member.request().unwrap();
    member.answered(&renewal, 1, Some(target(&[(0, 1)])));
    reconcile(&mut member);
    for _ in 0..2 {
        let acknowledgement = member.request().unwrap();
        assert_eq!(acknowledgement.owned, Some(vec![key(0)]));
        member.failed(&acknowledgement, &refused(Action::RefreshMetadata));
        assert_eq!(member.state(), State::Acknowledging);
    }
}

#[test]
fn an_answer_older_than_what_is_known_is_forgotten() {
    let mut member = joined(&[(0, 1)]);
    let renewal = member.request().unwrap();
    member.answered(&renewal, 5, None);
    assert!(!member.answered(&renewal, 4, Some(target(&[]))));
    assert_eq!((member.epoch(), member.state()), (5, State::Stable));
}

#[test]
fn who_stops_polling_leaves_for_good_and_comes_back_with_the_next_poll() {
    let mut member = joined(&[(0, 1)]);
    assert!(!member.polled());
    member.go_stale();
    let leave = member.request().unwrap();
    assert_eq!(leave.leave, Some(Leave::Forever));
    assert!(!member.polled(), "first the leave");
    member.answered(&leave, 0, None);
    assert_eq!((member.state(), member.work()), (State::Stale, Some(Work::Drop)));
    assert_eq!(member.request(), None);
    member.dropped();
    assert_eq!(member.state(), State::Stale);
    assert!(member.polled());
    assert_eq!(member.state(), State::Joining);
}

#[test]
fn what_can_never_work_is_fatal_and_what_may_pass_is_not() {
    for action in [Action::Retry, Action::RefreshMetadata, Action::RefreshMember] {
        let mut member = joined(&[]);
        let request = member.request().unwrap();
        member.failed(&request, &refused(action));
        assert_eq!(member.state(), State::Stable, "{action:?}");
    }
    let mut member = joined(&[]);
    let request = member.request().unwrap();
    let mut told = flotilla_proto::convert::errors::from_wire(flotilla_proto::v1::Error::default());
    told.action = Action::Fail;
    member.failed(&request, &Error::from_told(told));
    assert_eq!((member.state(), member.request()), (State::Fatal, None));
    assert!(member.fatal().is_some());
}

#[test]
fn a_changed_subscription_is_said_at_once_and_once() {
    let mut member = joined(&[]);
    let held = member.request().unwrap();
    member.subscribe(Subscription { topics: vec!["payments".to_owned()], ..Default::default() });
    assert!(member.is_outdated(&held));
    member.interrupted(&held);
    let changed = member.request().unwrap();
    assert_eq!(changed.subscription.as_ref().map(|s| s.topics.clone()), Some(vec!["payments".to_owned()]));
    member.answered(&changed, 2, None);
    assert_eq!(member.request().unwrap().subscription, None);
}
