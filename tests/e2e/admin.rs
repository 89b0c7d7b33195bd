//! Topics are made, described, listed, changed and deleted, by any node.

use flotilla_proto::v1;
use flotilla_tests::cluster::Cluster;
use flotilla_tests::wire::{self, Wire, told};
use std::time::Duration;
use tonic::Code;

fn topic(name: &str, partitions: i32) -> v1::Topic {
    v1::Topic {
        topic: name.to_owned(),
        partition_count: partitions,
        replication_factor: 3,
        labels: [("team".to_owned(), "payments".to_owned())].into(),
        ..v1::Topic::default()
    }
}

fn create(name: &str, partitions: i32, validate_only: bool) -> v1::CreateTopicRequest {
    v1::CreateTopicRequest { topic: Some(topic(name, partitions)), validate_only }
}

async fn names(wire: &mut Wire) -> Vec<String> {
    let list = v1::ListTopicsRequest { page_size: 100, ..v1::ListTopicsRequest::default() };
    let topics = wire.admin.list_topics(list).await.expect("an answer").into_inner().topics;
    topics.into_iter().map(|topic| topic.topic).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_lives_from_creation_to_deletion_whichever_node_is_asked() {
    let mut cluster = Cluster::start(3, "").await;
    let [mut one, mut two, mut three] = [0, 1, 2].map(|place| Wire::to(&cluster.nodes[place].client()));

    one.admin.create_topic(create("orders", 4, true)).await.expect("a dry run of what would work");
    assert!(names(&mut two).await.is_empty(), "a dry run changes nothing");
    let made = one.admin.create_topic(create("orders", 4, false)).await.expect("made").into_inner();
    assert_eq!((made.partition_count, made.replication_factor), (4, 3));
    let again = two.admin.create_topic(create("orders", 4, false)).await.expect_err("it is there");
    assert_eq!(told(&again), (Code::AlreadyExists, "ALREADY_EXISTS".to_owned()));
    assert_eq!(names(&mut three).await, ["orders"]);

    let get = v1::GetTopicRequest { topic: "orders".to_owned() };
    let described = three.admin.get_topic(get.clone()).await.expect("described").into_inner();
    assert_eq!(described.topic_id, made.topic_id);
    assert_eq!(described.labels["team"], "payments");
    assert_eq!(described.partitions.len(), 4);
    for partition in &described.partitions {
        assert_eq!(partition.replicas.len(), 3, "{partition:?}");
    }

    let mut update = v1::UpdateTopicRequest {
        topic: Some(v1::Topic {
            topic: "orders".to_owned(),
            partition_count: 6,
            config: Some(v1::TopicConfig { retention_bytes: 1 << 30, ..v1::TopicConfig::default() }),
            ..v1::Topic::default()
        }),
        update_mask: Some(prost_types::FieldMask {
            paths: vec!["partition_count".to_owned(), "config.retention_bytes".to_owned()],
        }),
        validate_only: false,
    };
    let updated = two.admin.update_topic(update.clone()).await.expect("updated").into_inner();
    assert_eq!((updated.partition_count, updated.config.expect("a config").retention_bytes), (6, 1 << 30));
    for partition in 0..6 {
        one.leader("orders", partition).await;
    }
    update.topic.as_mut().expect("a topic").partition_count = 5;
    let fewer = one.admin.update_topic(update).await.expect_err("partitions never go");
    assert_eq!(told(&fewer), (Code::InvalidArgument, "INVALID_ARGUMENT".to_owned()));

    let delete = v1::DeleteTopicRequest { topic: "orders".to_owned() };
    three.admin.delete_topic(delete.clone()).await.expect("deleted");
    let gone = one.admin.get_topic(get).await.expect_err("gone");
    assert_eq!(gone.code(), Code::NotFound);
    let twice = two.admin.delete_topic(delete).await.expect_err("gone");
    assert_eq!(twice.code(), Code::NotFound);
    let fresh = one.admin.create_topic(create("orders", 1, false)).await.expect("made again").into_inner();
    assert_ne!(fresh.topic_id, made.topic_id, "a topic made again is another topic");
    cluster.assert_healthy();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_made_again_holds_nothing_of_the_old_one() {
    let mut cluster = Cluster::start(3, "").await;
    let mut wire = Wire::to(&cluster.nodes[0].client());
    for round in 0..3 {
        wire.create_topic("orders", 1, 3, v1::TopicConfig::default()).await;
        let leader = cluster.leader("orders", 0).await;
        let mut at_leader = Wire::to(&cluster.nodes[leader as usize - 1].client());
        let answer = at_leader.produce_in_time(wire::request("orders", 0, wire::batch(&[b"x"]))).await;
        assert_eq!((answer.error, answer.base_offset), (None, 0), "round {round}");
        wire.admin
            .delete_topic(v1::DeleteTopicRequest { topic: "orders".to_owned() })
            .await
            .expect("deleted");
    }
    cluster.assert_healthy();
}

#[tokio::test(flavor = "multi_thread")]
async fn leadership_goes_where_it_is_asked_to_go_and_health_is_told() {
    let mut cluster = Cluster::start(3, "").await;
    let mut wire = Wire::to(&cluster.nodes[0].client());
    wire.create_topic("orders", 2, 3, v1::TopicConfig::default()).await;
    for to in [2, 3, 1] {
        wire.transfer("orders", 0, to).await;
    }
    let health = wire.cluster.get_health(v1::GetHealthRequest {}).await.expect("an answer").into_inner();
    assert_eq!(health.status(), v1::health::Status::Healthy, "{:?}", health.checks);

    cluster.node(3).kill();
    let mut status = health.status();
    for _ in 0..200 {
        let health = wire.cluster.get_health(v1::GetHealthRequest {}).await.expect("an answer").into_inner();
        status = health.status();
        if status == v1::health::Status::Degraded {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(status, v1::health::Status::Degraded, "with a node gone");
    let filter = |filter: &str| v1::ListPartitionsRequest {
        page_size: 10,
        filter: filter.to_owned(),
        ..v1::ListPartitionsRequest::default()
    };
    let mut under = Vec::new();
    for _ in 0..200 {
        let listed = wire.cluster.list_partitions(filter("under_replicated")).await.expect("an answer");
        under = listed.into_inner().partitions;
        if under.len() == 2 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(under.len(), 2, "{under:?}");
    let leaderless =
        wire.cluster.list_partitions(filter("leaderless")).await.expect("an answer").into_inner();
    assert!(leaderless.partitions.is_empty(), "{leaderless:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_later_version_brings_is_refused_plainly() {
    let cluster = Cluster::start(1, "").await;
    let channel = tonic::transport::Endpoint::from_shared(format!("http://{}", cluster.nodes[0].client()))
        .expect("an address")
        .connect_lazy();
    let mut groups = v1::groups_client::GroupsClient::new(channel.clone());
    let queue = v1::HeartbeatRequest {
        group_id: "g".to_owned(),
        group_type: v1::GroupType::Queue as i32,
        member_id: "m".to_owned(),
        ..Default::default()
    };
    let refused = groups.heartbeat(queue).await.expect_err("not served yet");
    assert_eq!(refused.code(), Code::Unimplemented, "{refused:?}");
    assert!(refused.message().len() > 10, "the message says why: {:?}", refused.message());
    let mut log = v1::log_client::LogClient::new(channel);
    let refused = log.consume(futures::stream::empty()).await.expect_err("not served yet");
    assert_eq!(refused.code(), Code::Unimplemented, "{refused:?}");
}
