//! Offsets are stored, read and moved.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn offsets_are_stored_refused_and_read() {
    let node = with_topic(2).await;
    let topic = TopicName::new("orders").unwrap();
    node.produce(batch(&topic, &["x", "y", "z"], None)).await.unwrap();
    let epoch = send(&node, join("a", &["orders"])).await.unwrap().member_epoch;
    let by = Some(("a", epoch));
    assert_eq!(commit(&node, by, vec![offset("orders", 0, 2)]).await, []);
    let many = vec![
        offset("orders", 0, 3),
        offset("orders", 0, 4),
        offset("orders", 0, -1),
        offset("orders", 7, 0),
        offset("nothing", 0, 0),
        offset("a/b", 0, 0),
        OffsetCommit { topic_id: Some(flotilla_types::TopicId(1)), ..offset("orders", 1, 0) },
        OffsetCommit { metadata: "x".repeat(5000), ..offset("orders", 1, 0) },
    ];
    let mut reasons = commit(&node, by, many).await;
    reasons.sort_by_key(|reason| *reason as i32);
    assert_eq!(
        reasons,
        [
            Reason::InvalidArgument,
            Reason::InvalidArgument,
            Reason::InvalidArgument,
            Reason::UnknownTopicOrPartition,
            Reason::UnknownTopicOrPartition,
            Reason::UnknownTopicOrPartition,
            Reason::OffsetOutOfRange,
        ]
    );
    assert_eq!(stored(&node).await, BTreeMap::from([(("orders".to_owned(), 0), 3)]));
    assert_eq!(
        commit(&node, Some(("a", epoch + 1)), vec![offset("orders", 0, 1)]).await,
        [Reason::FencedMemberEpoch]
    );
    assert_eq!(commit(&node, Some(("x", 1)), vec![offset("orders", 0, 1)]).await, [Reason::UnknownMemberId]);
    assert_eq!(commit(&node, None, vec![offset("orders", 0, 1)]).await, [Reason::NonEmptyGroup]);
    let ahead = FetchOffsets { group: group(), partitions: Vec::new(), member_epoch: Some(99) };
    assert_eq!(reason(node.broker.fetch_offsets(&context(), ahead).await), Reason::StaleMemberEpoch);
}

#[tokio::test(flavor = "multi_thread")]
async fn positions_are_moved_on_live_groups_within_the_log() {
    let node = with_topic(1).await;
    let topic = TopicName::new("orders").unwrap();
    for _ in 0..5 {
        node.produce(batch(&topic, &["x", "y"], None)).await.unwrap();
    }
    let a = send(&node, join("a", &["orders"])).await.unwrap();
    assert_eq!(commit(&node, Some(("a", a.member_epoch)), vec![offset("orders", 0, 6)]).await, []);
    let seek = |to, validate_only| Seek { group: group(), partitions: Vec::new(), to, validate_only };
    for (to, at, clamped) in [
        (SeekTo::Earliest, 0, None),
        (SeekTo::Latest, 10, None),
        (SeekTo::ShiftBy(-2), 4, None),
        (SeekTo::ShiftBy(100), 10, Some(106)),
        (SeekTo::ShiftBy(-100), 0, Some(-94)),
        (SeekTo::Time(0), 0, None),
        (SeekTo::Time(i64::MAX), 10, None),
        (SeekTo::Offsets(vec![offset("orders", 0, 3)]), 3, None),
    ] {
        let plan = node.broker.seek_group(&context(), seek(to.clone(), true)).await.unwrap();
        let moved = &plan.moves[0];
        assert_eq!((moved.from, moved.to, moved.clamped_from), (Some(6), at, clamped), "{to:?}");
    }
    assert_eq!(stored(&node).await.values().copied().collect::<Vec<_>>(), [6], "a dry run moves nothing");
    node.broker.seek_group(&context(), seek(SeekTo::ShiftBy(-2), false)).await.unwrap();
    let old = commit(&node, Some(("a", a.member_epoch)), vec![offset("orders", 0, 8)]).await;
    assert_eq!(old, [Reason::StaleMemberEpoch], "under the old assignment");
    let told = send(&node, beat("a", a.member_epoch, SOON)).await.unwrap();
    assert_eq!(told.assignment.unwrap().entries[0].committed, Some(4));
    assert_eq!(commit(&node, Some(("a", told.member_epoch)), vec![offset("orders", 0, 8)]).await, []);
    let missing = Seek { group: GroupId::new("none").unwrap(), ..seek(SeekTo::Earliest, false) };
    assert_eq!(reason(node.broker.seek_group(&context(), missing).await), Reason::NotFound);
    let same = seek(SeekTo::LikeGroup(group()), false);
    assert_eq!(reason(node.broker.seek_group(&context(), same).await), Reason::InvalidArgument);
    let like = Seek { group: GroupId::new("other").unwrap(), ..seek(SeekTo::LikeGroup(group()), false) };
    let copied = node.broker.seek_group(&context(), like).await.unwrap();
    assert_eq!((copied.moves[0].from, copied.moves[0].to), (None, 8));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_was_held_up_does_not_undo_a_later_one() {
    let node = with_topic(1).await;
    let topic = TopicName::new("orders").unwrap();
    node.produce(batch(&topic, &["x", "y", "z"], None)).await.unwrap();
    let epoch = send(&node, join("a", &["orders"])).await.unwrap().member_epoch;
    for (number, to) in [(1, 1), (3, 3), (2, 2)] {
        let member = Some((member("a"), epoch));
        let commit = CommitOffsets { group: group(), member, number, offsets: vec![offset("orders", 0, to)] };
        assert_eq!(node.broker.commit_offsets(&context(), commit).await.unwrap(), []);
    }
    assert_eq!(stored(&node).await, BTreeMap::from([(("orders".to_owned(), 0), 3)]));
}
