//! What many groups, and a large one, cost. Figures are printed; only what must hold on any machine is asserted.
//! Run alone: `cargo test --release -p flotilla-broker --lib scale -- --ignored --nocapture --test-threads 1`.

#![expect(
    clippy::disallowed_methods,
    clippy::unchecked_time_subtraction,
    reason = "it measures this process"
)]

use super::*;
use futures::future::join_all;
use std::time::Instant;

/// Processor time of this process so far.
fn spent() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let after = stat.rsplit(')').next().unwrap();
    let fields: Vec<u64> = after.split_whitespace().skip(11).take(2).map(|f| f.parse().unwrap()).collect();
    // In hundredths of a second.
    Duration::from_millis(fields.iter().sum::<u64>() * 10)
}

/// Memory of this process, in KiB.
fn resident() -> i64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// The part of a core that is spent while nothing else is done.
async fn share(over: Duration) -> f64 {
    let (begun, before) = (Instant::now(), spent());
    tokio::time::sleep(over).await;
    (spent() - before).as_secs_f64() / begun.elapsed().as_secs_f64()
}

fn member_of(number: usize) -> Heartbeat {
    let group = GroupId::new(&format!("group-{number}")).unwrap();
    Heartbeat { group, ..join("m", &["orders"]) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures for a minute"]
async fn two_thousand_idle_groups() {
    const GROUPS: usize = 2000;
    let node = Arc::new(with_topic(8).await);
    let none = share(Duration::from_secs(10)).await;
    let memory = resident();
    let begun = Instant::now();
    let joined = join_all((0..GROUPS).map(|n| send(&node, member_of(n)))).await;
    println!("{GROUPS} groups were made in {:?}", begun.elapsed());
    let mut members = tokio::task::JoinSet::new();
    for (number, answer) in joined.into_iter().enumerate() {
        let (node, mut epoch) = (node.clone(), answer.unwrap().member_epoch);
        members.spawn(async move {
            let mut told = 0;
            loop {
                // As clients do it: held for the interval that nodes tell.
                let beat = Heartbeat {
                    member_epoch: epoch,
                    subscription: None,
                    max_wait: Duration::from_secs(5),
                    ..member_of(number)
                };
                let answer = send(&node, beat).await.unwrap();
                epoch = answer.member_epoch;
                told += u32::from(answer.assignment.is_some());
                assert!(told < 2, "nothing changes");
            }
        });
    }
    tokio::time::sleep(Duration::from_secs(6)).await;
    let applied = || -> u64 {
        let coordinators = node.broker.routes().coordinators.clone();
        coordinators
            .iter()
            .map(|c| node.broker.shard(c.shard).unwrap().progress().applied.map_or(0, |at| at.index.get()))
            .sum()
    };
    let before = applied();
    let idle = share(Duration::from_secs(30)).await;
    assert_eq!(applied(), before, "heartbeats that change nothing write nothing");
    assert!(members.try_join_next().is_none(), "all members live");
    let held = node.broker.metrics.group_heartbeats_held.get();
    println!(
        "{GROUPS} idle groups: {:.2} % of a core (members' own tasks included; without groups {:.2} %), {} KiB more, \
         {held} heartbeats held",
        idle * 100.0,
        none * 100.0,
        resident() - memory
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures for a minute"]
async fn five_hundred_members_share_a_thousand_partitions() {
    const MEMBERS: usize = 500;
    let node = Arc::new(with_topic(1000).await);
    let none = share(Duration::from_secs(10)).await;
    let memory = resident();
    let id = |n: usize| format!("member-{n:03}");
    let begun = Instant::now();
    let before = spent();
    let steps = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let largest = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let mut members = tokio::task::JoinSet::new();
    let begin = |number: usize, members: &mut tokio::task::JoinSet<()>| {
        let (node, steps, largest) = (node.clone(), steps.clone(), largest.clone());
        members.spawn(async move {
            let mut next = join(&id(number), &["orders"]);
            loop {
                // It left.
                let Ok(answer) = send(&node, next).await else { return };
                steps.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                next = beat(&id(number), answer.member_epoch, Duration::from_secs(5));
                if answer.assignment.is_some() {
                    let bytes = serde_json::to_vec(&answer).unwrap().len();
                    largest.fetch_max(bytes, std::sync::atomic::Ordering::Relaxed);
                    next.owned = Some(owned(&answer));
                }
            }
        });
    };
    for number in 0..MEMBERS {
        begin(number, &mut members);
    }
    let settled = async |count: usize| {
        let shard = node.broker.coordinator(&group()).unwrap();
        let is_so = || {
            lead::look(&shard, |groups| {
                groups.get(&group()).is_some_and(|group| {
                    group.members().len() == count
                        && group.state() == flotilla_machine::groups::GroupState::Stable
                })
            })
            .unwrap()
        };
        let wait = async {
            while !is_so() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(120), wait).await.expect("it settles");
    };
    settled(MEMBERS).await;
    let heartbeats = || steps.load(std::sync::atomic::Ordering::Relaxed);
    println!(
        "{MEMBERS} members at once: settled after {:?}, {:?} of processors, {} heartbeats, {} KiB more",
        begun.elapsed(),
        spent() - before,
        heartbeats(),
        resident() - memory
    );
    let (begun, before, sent) = (Instant::now(), spent(), heartbeats());
    begin(MEMBERS, &mut members);
    settled(MEMBERS + 1).await;
    println!(
        "one more: settled after {:?}, {:?} of processors, {} heartbeats",
        begun.elapsed(),
        spent() - before,
        heartbeats() - sent
    );
    let (begun, before, sent) = (Instant::now(), spent(), heartbeats());
    send(&node, Heartbeat { leave: Some(Leave::Forever), ..beat(&id(7), 0, SOON) }).await.unwrap();
    settled(MEMBERS).await;
    println!(
        "one less: settled after {:?}, {:?} of processors, {} heartbeats",
        begun.elapsed(),
        spent() - before,
        heartbeats() - sent
    );
    let sent = heartbeats();
    let idle = share(Duration::from_secs(10)).await;
    println!(
        "at rest: {:.2} % of a core (without the group {:.2} %), {} heartbeats in 10 s; the largest answer between \
         nodes had {} bytes",
        idle * 100.0,
        none * 100.0,
        heartbeats() - sent,
        largest.load(std::sync::atomic::Ordering::Relaxed)
    );
}
