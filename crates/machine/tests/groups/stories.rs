//! Bugs that others had, each with its story: the rules here are such that it cannot happen.
//!
//! What belongs to the client (when it heartbeats, drains, commits on revoke) is tested there, what belongs to
//! the whole (nothing is read twice without need) on real processes.

use crate::harness::groups::run;

#[track_caller]
fn told(script: &str) {
    let actual = run(script);
    assert!(actual == script, "told was\n{actual}");
}

/// platformatic/kafka 267: after a rebalance the new owner asked where to begin, was refused with
/// `STALE_MEMBER_EPOCH` because the group had moved on meanwhile, took that for "nothing was committed" and began
/// at the end of the log. All in between was skipped, and nobody noticed.
///
/// Here a member does not ask: where to begin comes with the assignment, also when the group has moved on, and
/// also for who takes over in the middle of a rebalance.
#[test]
fn where_to_begin_comes_with_the_assignment() {
    told(
        "\
topic orders partitions=2
join a topics=orders
commit a orders:0=70,1=80
join b topics=orders
commit a orders:1=85
join c topics=bills
ack a orders:0
show
join b topics=orders
----
seen
epoch 1: orders 0-1@1
  g epoch 1 stable by joined a; orders 0-1 ->a; tell a
committed
epoch 2: nothing
  g epoch 2 reconciling by joined b; orders 1 a>b; tell a b
committed
epoch 3: nothing
  g epoch 3 reconciling by joined c; tell c
epoch 3: orders 0@1, orders 0 from 70
  g epoch 3 stable by acknowledged a; tell a b
epoch 3 stable uniform
a at 3 STABLE: orders 0@1
b at 3 STABLE: orders 1@3
c at 3 STABLE: nothing
orders 0 committed 70 at 0
orders 1 committed 85 at 0
epoch 4: orders 1@3, orders 1 from 85
  g epoch 4 stable by rejoined b; tell b
",
    );
}

/// librdkafka 4672: a client left while a heartbeat of its was on its way. The answer had given it a newer epoch,
/// which it had not seen yet, or it had lost its own on closing; the leave was refused as fenced, and its
/// partitions stayed nobody's until its session was over.
///
/// Here a leave counts under any epoch of the member's life, or under none.
#[test]
fn a_leave_counts_though_the_member_has_not_heard_of_its_last_epoch() {
    told(
        "\
topic orders partitions=2
join a topics=orders
join b topics=orders
ack a orders:0
join c topics=bills
leave a epoch=1
show
leave b epoch=0
show
----
seen
epoch 1: orders 0-1@1
  g epoch 1 stable by joined a; orders 0-1 ->a; tell a
epoch 2: nothing
  g epoch 2 reconciling by joined b; orders 1 a>b; tell a b
epoch 2: orders 0@1
  g epoch 2 stable by acknowledged a; tell a b
epoch 3: nothing
  g epoch 3 stable by joined c; tell c
left
  g epoch 4 stable by left a; orders 0 ->b; tell b; out a
epoch 4 stable uniform
b at 4 STABLE: orders 0@4,1@2
c at 4 STABLE: nothing
left
  g epoch 5 stable by left b; out b
epoch 5 stable uniform
c at 5 STABLE: nothing
",
    );
}

/// Kafka 15392: a client that had been fenced went on sending heartbeats with its old epoch, and so did one that
/// had been removed: the group was kept busy by someone who was not in it.
///
/// Here such heartbeats are refused without any change, and what the same client had is with others already.
#[test]
fn who_was_removed_changes_nothing_by_going_on() {
    told(
        "\
topic orders partitions=2
join a topics=orders
join b topics=orders
expire a session
ack a orders:0 epoch=1
resubscribe a topics=bills epoch=1
commit a orders:0=5 epoch=1
join a topics=orders
ack a orders:0 epoch=1
resubscribe a topics=bills epoch=1
commit a orders:0=5 epoch=1
show
----
seen
epoch 1: orders 0-1@1
  g epoch 1 stable by joined a; orders 0-1 ->a; tell a
epoch 2: nothing
  g epoch 2 reconciling by joined b; orders 1 a>b; tell a b
expired
  g epoch 3 stable by session_expired a; orders 0 ->b; tell b; out a
refused: group g has no member a
refused: group g has no member a
refused: group g has no member a
epoch 4: nothing
  g epoch 4 reconciling by joined a; orders 1 b>a; tell a b
refused: member a sent epoch 1, expected 4 to 4
refused: member a sent epoch 1, expected 4 to 4
refused: member a sent epoch 1, expected 4 to 4
epoch 4 reconciling uniform
a at 4 UNRELEASED: nothing, to have orders 1
b at 3 UNREVOKED: orders 0@3, to give up orders 1@3, to have orders 0
",
    );
}

/// platformatic/kafka 370: automatic commits went on during a rebalance. Each was taken for a sign that the member
/// was still busy, and the rebalance never ended.
///
/// Here commits and the acknowledgement have nothing to do with each other: commits count until it comes, they
/// neither bring it nor put it off, and the wait for it is bounded whatever is committed.
#[test]
fn commits_do_not_put_off_a_revocation() {
    told(
        "\
topic orders partitions=2
join a topics=orders
join b topics=orders
commit a orders:0=1,1=1 number=1
commit a orders:0=2,1=2 number=2
ack a orders:0
commit a orders:0=3,1=3 number=3
show
----
seen
epoch 1: orders 0-1@1
  g epoch 1 stable by joined a; orders 0-1 ->a; tell a
epoch 2: nothing
  g epoch 2 reconciling by joined b; orders 1 a>b; tell a b
committed
committed
epoch 2: orders 0@1, orders 0 from 2
  g epoch 2 stable by acknowledged a; tell a b
not orders 1: partition 1 of topic 101 is not assigned to this member
epoch 2 stable uniform
a at 2 STABLE: orders 0@1
b at 2 STABLE: orders 1@2
orders 0 committed 3 at 0
orders 1 committed 2 at 0

join a topics=orders group=h
join b topics=orders group=h
commit a orders:0=1,1=1 number=1 group=h
expire a revocation group=h
show group=h
----
epoch 1: orders 0-1@1
  h epoch 1 stable by joined a; orders 0-1 ->a; tell a
epoch 2: nothing
  h epoch 2 reconciling by joined b; orders 1 a>b; tell a b
committed
expired
  h epoch 3 stable by revocation_expired a; orders 0 ->b; tell b; out a
epoch 3 stable uniform
b at 3 STABLE: orders 0-1@3
orders 0 committed 1 at 0
orders 1 committed 1 at 0
",
    );
}

/// apache/iggy 3527: a member left without waiting for what it had polled to be processed; the next owner read it
/// again. The client drains and commits before it leaves; what it sends later than that is too late, and must not
/// move the next owner's offset.
///
/// Iggy also had to put an end to revocations that nobody acknowledges, after 30 s: so do leaders here.
#[test]
fn what_is_committed_after_leaving_is_too_late() {
    told(
        "\
topic orders partitions=1
join a topics=orders
join b topics=orders
commit a orders:0=10
leave a
commit a orders:0=12 epoch=2
commit b orders:0=11
show
----
seen
epoch 1: orders 0@1
  g epoch 1 stable by joined a; orders 0 ->a; tell a
epoch 2: nothing
  g epoch 2 stable by joined b; tell b
committed
left
  g epoch 3 stable by left a; orders 0 ->b; tell b; out a
refused: group g has no member a
committed
epoch 3 stable uniform
b at 3 STABLE: orders 0@3
orders 0 committed 11 at 0
",
    );
}

/// icanbwell/fhir-server 2539: members of one group had different topics. The assignor, which ran on one of them,
/// gave partitions to members that did not want their topic; these ignored them, and the topic starved without
/// any error.
///
/// Here partitions go to those who want their topic, and a topic that nobody wants is not in the target at all.
#[test]
fn no_topic_starves_because_others_want_something_else() {
    told(
        "\
topic orders partitions=3
topic bills partitions=3
topic logs partitions=3
join a topics=orders
join b topics=bills
show
join c topics=logs,bills
ack b bills:0,1
show
leave b
show
----
seen
seen
seen
epoch 1: orders 0-2@1
  g epoch 1 stable by joined a; orders 0-2 ->a; tell a
epoch 2: bills 0-2@2
  g epoch 2 stable by joined b; bills 0-2 ->b; tell b
epoch 2 stable uniform
a at 2 STABLE: orders 0-2@1
b at 2 STABLE: bills 0-2@2
epoch 3: logs 0-2@3
  g epoch 3 stable by joined c; logs 0-2 ->c; tell c
epoch 3: bills 0-2@2
epoch 3 stable uniform
a at 3 STABLE: orders 0-2@1
b at 3 STABLE: bills 0-2@2
c at 3 STABLE: logs 0-2@3
left
  g epoch 4 stable by left b; bills 0-2 ->c; tell c; out b
epoch 4 stable uniform
a at 4 STABLE: orders 0-2@1
c at 4 STABLE: bills 0-2@4, logs 0-2@3
",
    );
}

/// Kafka 22045: when the last member of a group was fenced, the group's epoch stayed behind, so that the next
/// member was given an epoch that an earlier one had had; what that one had sent and was still on its way counted.
///
/// Here every member that goes ends an epoch, the last one too, and epochs never come back: not even in a group
/// that was deleted, or whose offsets expired, and is made again.
#[test]
fn no_epoch_comes_back() {
    told(
        "\
topic orders partitions=1
join a topics=orders
expire a session
join a topics=orders
commit a orders:0=5 epoch=1
leave a
forget after=0 time=1
show
join a topics=orders
commit a orders:0=5 epoch=3
delete force
join a topics=orders
commit a orders:0=5 epoch=5
show
----
seen
epoch 1: orders 0@1
  g epoch 1 stable by joined a; orders 0 ->a; tell a
expired
  g epoch 2 empty by session_expired a; out a
epoch 3: orders 0@3
  g epoch 3 stable by joined a; orders 0 ->a; tell a
refused: member a sent epoch 1, expected 3 to 3
left
  g epoch 4 empty by left a; out a
forgot 1 groups, 0 offsets
no such group
epoch 5: orders 0@5
  g epoch 5 stable by joined a; orders 0 ->a; tell a
refused: member a sent epoch 3, expected 5 to 5
deleted
  g epoch 6 empty by deleted; out a
epoch 7: orders 0@7
  g epoch 7 stable by joined a; orders 0 ->a; tell a
refused: member a sent epoch 5, expected 7 to 7
epoch 7 stable uniform
a at 7 STABLE: orders 0@7
",
    );
}

/// KIP-1251: Kafka counted a commit only under the very epoch that the member was at. A commit that crossed
/// with somebody else's join was refused, and a member that had kept its partition all the time was fenced for it.
///
/// Here it counts from the epoch in which the partition was assigned.
#[test]
fn a_commit_that_crosses_with_a_rebalance_counts() {
    told(
        "\
topic orders partitions=2
join a topics=orders
join b topics=orders
ack a orders:0
join c topics=bills
join d topics=bills
commit a orders:0=5 epoch=1
commit a orders:0=6 epoch=3
commit b orders:1=7 epoch=2
show
----
seen
epoch 1: orders 0-1@1
  g epoch 1 stable by joined a; orders 0-1 ->a; tell a
epoch 2: nothing
  g epoch 2 reconciling by joined b; orders 1 a>b; tell a b
epoch 2: orders 0@1
  g epoch 2 stable by acknowledged a; tell a b
epoch 3: nothing
  g epoch 3 stable by joined c; tell c
epoch 4: nothing
  g epoch 4 stable by joined d; tell d
committed
committed
committed
epoch 4 stable uniform
a at 4 STABLE: orders 0@1
b at 4 STABLE: orders 1@2
c at 4 STABLE: nothing
d at 4 STABLE: nothing
orders 0 committed 6 at 0
orders 1 committed 7 at 0
",
    );
}
