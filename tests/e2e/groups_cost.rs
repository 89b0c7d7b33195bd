//! What idle groups, and a large one, cost real nodes. Measured, not asserted: `cargo test --release -p flotilla-tests
//! --test e2e groups_cost -- --ignored --nocapture`.

#![expect(clippy::disallowed_methods, reason = "it measures with the machine's own clock")]

use flotilla_proto::v1::groups_client::GroupsClient;
use flotilla_proto::v1::heartbeat_request::Subscription;
use flotilla_proto::v1::{self, HeartbeatRequest, TopicPartition, TopicPartitions};
use flotilla_tests::cluster::Cluster;
use flotilla_tests::wire::Wire;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tonic::transport::{Channel, Endpoint};

type Groups = GroupsClient<Channel>;

/// Connections per node: a node takes 256 calls at once on each.
const CONNECTIONS: usize = 8;

fn clients(cluster: &Cluster) -> Vec<Groups> {
    let addresses = cluster.nodes.iter().map(|node| node.client());
    let all = addresses.flat_map(|address| std::iter::repeat_n(address, CONNECTIONS));
    let connect = |address: String| {
        let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address and a port");
        GroupsClient::new(endpoint.connect_lazy())
    };
    all.map(connect).collect()
}

fn join(group: String, member: String) -> HeartbeatRequest {
    let subscription = Subscription { topics: vec!["orders".to_owned()], ..Default::default() };
    HeartbeatRequest {
        group_id: group,
        member_id: member,
        subscription: Some(subscription),
        ..Default::default()
    }
}

fn spent(cluster: &Cluster) -> Vec<Duration> {
    let of = |pid: u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
        let times = stat.rsplit(')').next().expect("fields").split_whitespace().skip(11).take(2);
        // In hundredths of a second.
        Duration::from_millis(times.map(|time| time.parse::<u64>().expect("a number")).sum::<u64>() * 10)
    };
    cluster.nodes.iter().map(|node| of(node.pid().expect("it runs"))).collect()
}

/// Per node, in percent of a core.
async fn shares(cluster: &Cluster, over: Duration) -> Vec<String> {
    let before = spent(cluster);
    tokio::time::sleep(over).await;
    let pairs = spent(cluster).into_iter().zip(before);
    let share = |(after, before): (Duration, Duration)| {
        format!("{:.2} %", after.saturating_sub(before).as_secs_f64() / over.as_secs_f64() * 100.0)
    };
    pairs.map(share).collect()
}

fn resident(cluster: &Cluster) -> Vec<u64> {
    cluster.nodes.iter().map(|node| node.resident_bytes() >> 20).collect()
}

/// What members did, all together.
#[derive(Default)]
struct Counts {
    heartbeats: AtomicU64,
    refused: AtomicU64,
    owned: AtomicUsize,
}

/// A member that keeps to the contract and does nothing else.
async fn live(mut client: Groups, mut next: HeartbeatRequest, counts: Arc<Counts>) {
    let (group, member) = (next.group_id.clone(), next.member_id.clone());
    let mut owns = 0;
    loop {
        let answer = client.heartbeat(next.clone()).await;
        counts.heartbeats.fetch_add(1, Relaxed);
        let Ok(answer) = answer.map(tonic::Response::into_inner) else {
            counts.refused.fetch_add(1, Relaxed);
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let owned = answer.assignment.map(|assignment| {
            counts.owned.fetch_add(assignment.entries.len(), Relaxed);
            counts.owned.fetch_sub(owns, Relaxed);
            owns = assignment.entries.len();
            let one = |e: v1::assignment::Entry| TopicPartition { topic: e.topic, partition: e.partition };
            TopicPartitions { partitions: assignment.entries.into_iter().map(one).collect() }
        });
        next = HeartbeatRequest {
            group_id: group.clone(),
            member_id: member.clone(),
            member_epoch: answer.member_epoch,
            max_wait_ms: 5000,
            owned,
            ..Default::default()
        };
    }
}

async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !is_so().await {
        assert!(begun.elapsed() < Duration::from_secs(120), "waited 120 s for {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "measures for a minute"]
async fn two_thousand_idle_groups() {
    const GROUPS: usize = 2000;
    let mut cluster = Cluster::start(3, "").await;
    Wire::to(&cluster.nodes[0].client()).create_topic("orders", 8, 3, v1::TopicConfig::default()).await;
    let clients = clients(&cluster);
    tokio::time::sleep(Duration::from_secs(5)).await;
    let (none, memory) = (shares(&cluster, Duration::from_secs(10)).await, resident(&cluster));
    let (counts, mut members) = (Arc::new(Counts::default()), JoinSet::new());
    let begun = Instant::now();
    for number in 0..GROUPS {
        let client = clients[number % clients.len()].clone();
        let first = join(format!("group-{number}"), format!("member-{number}"));
        members.spawn(live(client, first, counts.clone()));
    }
    until("all groups", async || counts.owned.load(Relaxed) == GROUPS * 8).await;
    println!("figure: {GROUPS} groups of one member stood after {:?}", begun.elapsed());
    tokio::time::sleep(Duration::from_secs(6)).await;
    let before = counts.heartbeats.load(Relaxed);
    let idle = shares(&cluster, Duration::from_secs(30)).await;
    println!(
        "figure: {GROUPS} idle groups on three nodes: {idle:?} of a core (without groups {none:?}), {:?} MiB \
         (without {memory:?}), {} heartbeats in 30 s, {} refused in all",
        resident(&cluster),
        counts.heartbeats.load(Relaxed) - before,
        counts.refused.load(Relaxed)
    );
    cluster.assert_healthy();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "measures for a minute"]
async fn five_hundred_members_share_a_thousand_partitions() {
    const MEMBERS: usize = 500;
    const PARTITIONS: i32 = 1000;
    let mut cluster = Cluster::start(3, "").await;
    Wire::to(&cluster.nodes[0].client())
        .create_topic("orders", PARTITIONS, 3, v1::TopicConfig::default())
        .await;
    let clients = clients(&cluster);
    let mut outside = clients[0].clone();
    tokio::time::sleep(Duration::from_secs(10)).await;
    let (none, memory) = (shares(&cluster, Duration::from_secs(10)).await, resident(&cluster));
    let (counts, mut members) = (Arc::new(Counts::default()), JoinSet::new());
    let mut add = |number: usize| {
        let first = join("g".to_owned(), format!("member-{number}"));
        members.spawn(live(clients[number % clients.len()].clone(), first, counts.clone()));
    };
    let mut settled = async |members: usize| {
        until("a stable group", async || {
            let list = v1::ListGroupsRequest { filter: "state=STABLE".to_owned(), ..Default::default() };
            let found = outside.list_groups(list).await.map(|answer| answer.into_inner().groups);
            found.is_ok_and(|groups| groups.iter().any(|group| group.member_count == members as i32))
        })
        .await;
        until("all partitions", async || counts.owned.load(Relaxed) == PARTITIONS as usize).await;
    };
    for (what, range) in [("at once", 0..MEMBERS), ("one more", MEMBERS..MEMBERS + 1)] {
        let (begun, before) = (Instant::now(), spent(&cluster));
        let until_now = range.end;
        range.for_each(&mut add);
        settled(until_now).await;
        let took = begun.elapsed();
        let cost: Vec<_> =
            spent(&cluster).into_iter().zip(before).map(|(a, b)| a.saturating_sub(b)).collect();
        println!(
            "figure: {MEMBERS} members and {PARTITIONS} partitions, {what}: {took:?}, {cost:?} of processors"
        );
    }
    tokio::time::sleep(Duration::from_secs(6)).await;
    let idle = shares(&cluster, Duration::from_secs(10)).await;
    println!(
        "figure: that group at rest: {idle:?} of a core (without it {none:?}), {:?} MiB (without {memory:?})",
        resident(&cluster)
    );
    cluster.assert_healthy();
}
