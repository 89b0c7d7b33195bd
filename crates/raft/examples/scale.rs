//! A thousand shards on three nodes in one process: elect, rest, wake, append through the shared writers.
//! Prints figures. `cargo run --release -p flotilla-raft --example scale [shards] [directory]`.

#![allow(clippy::disallowed_methods, reason = "a measurement has its own clock")]

#[path = "../tests/harness/mod.rs"]
mod harness;

use bytes::Bytes;
use flotilla_raft::store::{Expected, OpenMode, Opened, RocksStore, Store};
use flotilla_raft::{Config, Shard};
use flotilla_types::time::SystemClock;
use flotilla_types::{ClusterId, NodeId, ShardId};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use harness::{Cluster, command, eventually};
use hdrhistogram::Histogram;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

fn rocks(directory: &Path, node: NodeId) -> Arc<dyn Store> {
    let expected = Expected {
        path: directory.join(format!("node-{node}")),
        cluster: ClusterId(uuid::Uuid::from_u128(1)),
        node,
        mode: OpenMode::Init,
    };
    let on_fatal = Arc::new(|why: &str| panic!("{why}"));
    let config = flotilla_raft::store::Config::default();
    match RocksStore::open(&config, &expected, on_fatal, Arc::new(SystemClock::new())).expect("it opens") {
        Opened::Sound(store) => Arc::new(store),
        Opened::Quarantined(why) => panic!("{why:?}"),
    }
}

/// Processor time of this process, user and system.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let fields: Vec<&str> = stat.rsplit_once(')').expect("a stat line").1.split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap_or(0) + fields[12].parse::<u64>().unwrap_or(0);
    Duration::from_millis(ticks * 10)
}

fn memory_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("VmRSS")).expect("a size");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) / 1024
}

fn leader(cluster: &Cluster, shard: ShardId) -> Option<Arc<Shard>> {
    cluster.nodes.keys().map(|id| cluster.shard(*id, shard)).find(|shard| shard.leadership().is_leader)
}

async fn idle(what: &str, seconds: u64) {
    let (before, start) = (cpu(), Instant::now());
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let share = cpu().saturating_sub(before).as_secs_f64() / start.elapsed().as_secs_f64();
    println!("{what}: {share:.4} cores for all three nodes, {} MiB resident", memory_mib());
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let count: u32 = arguments.next().and_then(|count| count.parse().ok()).unwrap_or(1000);
    let scratch = tempfile::tempdir().expect("a directory");
    let directory = arguments.next().map_or(scratch.path().to_owned(), Into::into);
    let config = Config { rest_after_ms: 3000, ..Config::default() };
    let stores: BTreeMap<NodeId, Arc<dyn Store>> =
        (1..=3).map(NodeId).map(|id| (id, rocks(&directory, id))).collect();
    let cluster = Arc::new(Cluster::start_with(config, stores, 2).await);
    println!("{count} shards; {} MiB resident before", memory_mib());

    let (start, cpu_before) = (Instant::now(), cpu());
    let shards: Vec<ShardId> = (0..count).map(|number| ShardId(2000 + number)).collect();
    let mut starts: FuturesUnordered<_> = shards
        .iter()
        .map(|shard| {
            let cluster = cluster.clone();
            async move {
                cluster
                    .start_shard(*shard, &[shard.0 % 3 + 1, (shard.0 + 1) % 3 + 1, (shard.0 + 2) % 3 + 1])
                    .await;
            }
        })
        .collect();
    while starts.next().await.is_some() {}
    println!("all started after {:?}", start.elapsed());
    let mut missing = shards.clone();
    eventually("all leaders", || {
        missing.retain(|shard| leader(&cluster, *shard).is_none());
        missing.is_empty().then_some(())
    })
    .await;
    println!(
        "all leaders after {:?}, {:?} of processor time",
        start.elapsed(),
        cpu().saturating_sub(cpu_before)
    );
    idle("awake and idle, 2 s", 2).await;

    let resting = || -> usize {
        let of = |node: &harness::Node| node.host.shards().iter().filter(|shard| shard.is_resting()).count();
        cluster.nodes.values().map(of).sum()
    };
    let start = Instant::now();
    while resting() < 3 * count as usize && start.elapsed() < Duration::from_secs(30) {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    println!("{} of {} replicas rest after {:?}", resting(), 3 * count, start.elapsed());
    idle("at rest, 10 s", 10).await;

    let mut wake = Histogram::<u64>::new(3).expect("bounds");
    for shard in shards.iter().step_by((count as usize / 300).max(1)) {
        let shard = leader(&cluster, *shard).expect("a leader");
        let start = Instant::now();
        shard.propose(command(b"wake"), Bytes::from_static(b"wake")).await.expect("it is appended");
        wake.record(start.elapsed().as_micros() as u64).expect("it grows");
    }
    let percentile =
        |histogram: &Histogram<u64>, percent| histogram.value_at_percentile(percent) as f64 / 1000.0;
    println!(
        "first write after rest, one shard at a time ({}): p50 {:.2} ms, p99 {:.2} ms, max {:.2} ms",
        wake.len(),
        percentile(&wake, 50.0),
        percentile(&wake, 99.0),
        percentile(&wake, 100.0)
    );

    for (bytes, in_flight, seconds) in [(1024usize, 4u32, 5u64), (16 * 1024, 2, 5)] {
        let (done, latency) = (
            Arc::new(AtomicU64::new(0)),
            Arc::new(std::sync::Mutex::new(Histogram::<u64>::new(3).expect("bounds"))),
        );
        let refused = Arc::new(AtomicU64::new(0));
        let (start, cpu_before) = (Instant::now(), cpu());
        let tasks: FuturesUnordered<_> = shards
            .iter()
            .flat_map(|shard| std::iter::repeat_n(*shard, in_flight as usize))
            .map(|shard| {
                let (cluster, done, latency, refused) =
                    (cluster.clone(), done.clone(), latency.clone(), refused.clone());
                let body = Bytes::from(vec![7; bytes]);
                let append = command(&body);
                async move {
                    while start.elapsed() < Duration::from_secs(seconds) {
                        let Some(shard) = leader(&cluster, shard) else {
                            tokio::time::sleep(Duration::from_millis(10)).await;
                            continue;
                        };
                        let asked = Instant::now();
                        match shard.propose(append.clone(), body.clone()).await {
                            Ok(_) => {
                                done.fetch_add(1, Ordering::Relaxed);
                                latency
                                    .lock()
                                    .expect("whole")
                                    .record(asked.elapsed().as_micros() as u64)
                                    .expect("it grows");
                            }
                            Err(error) => {
                                refused.fetch_add(1, Ordering::Relaxed);
                                drop(error);
                                tokio::time::sleep(Duration::from_millis(50)).await;
                            }
                        }
                    }
                }
            })
            .collect();
        tasks.for_each(|()| async {}).await;
        let (done, seconds) = (done.load(Ordering::Relaxed) as f64, start.elapsed().as_secs_f64());
        let latency = latency.lock().expect("whole");
        println!(
            "append to all shards, {bytes} bytes, {in_flight} in flight each: {:.0}/s, {:.1} MB/s, p50 {:.1} ms, p99 {:.1} ms, {:.2} cores, {} MiB resident, {} refused",
            done / seconds,
            done * bytes as f64 / seconds / 1e6,
            percentile(&latency, 50.0),
            percentile(&latency, 99.0),
            cpu().saturating_sub(cpu_before).as_secs_f64() / seconds,
            memory_mib(),
            refused.load(Ordering::Relaxed)
        );
    }
    for node in cluster.nodes.values() {
        assert!(
            node.witness.fatal.lock().expect("whole").is_empty()
                && node.witness.broken.lock().expect("whole").is_empty()
        );
    }
}
