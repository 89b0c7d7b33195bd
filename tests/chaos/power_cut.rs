//! Every node on a disk of its own, and the power fails: of one node, and of all at once.
//!
//! Shown by cutting under load, again and again, and reading everything afterwards. That this would find
//! a loss is shown too: by a build whose syncs are answered without being done.

use crate::capabilities;
use flotilla_proto::v1::TopicConfig;
use flotilla_tests::binaries;
use flotilla_tests::checkers;
use flotilla_tests::cluster::{Cluster, START_LIMIT};
use flotilla_tests::disk::{Disk, Format};
use flotilla_tests::history::History;
use flotilla_tests::node::Node;
use flotilla_tests::wire::Wire;
use flotilla_tests::workload::{Load, Running, judge, scan, scan_replicas};
use std::time::Duration;
use tempfile::TempDir;

const TOPIC: &str = "orders";
const PARTITIONS: u32 = 3;
const PROGRESS: Duration = Duration::from_secs(30);

/// Small disks and small buffers: what a server would call full is plenty here, and files change often.
const SETTINGS: &str = "
[store]
memory = \"64MiB\"
wal_max_bytes = \"16MiB\"
blob_file_bytes = \"8MiB\"

[broker.disk]
soft_free_bytes = \"64MiB\"
hard_free_bytes = \"32MiB\"
";

/// A cluster on disks. Dropped in this order: processes end, disks are unmounted, images go.
struct Powered {
    cluster: Cluster,
    disks: Vec<Disk>,
    _images: TempDir,
}

impl Powered {
    async fn start(format: Format) -> Self {
        Self::start_with(format, |_| {}).await
    }

    async fn start_with(format: Format, prepare: impl Fn(&mut Node)) -> Self {
        let images =
            tempfile::Builder::new().prefix("flotilla-disks-").tempdir().expect("temporary directory");
        let disk = |id: u32| Disk::new(images.path(), &format!("disk-{id}"), format, 1024);
        let disks: Vec<Disk> = (1..=3).map(|id| disk(id).expect("capabilities were probed")).collect();
        // The file system's own `lost+found` stays beside the data.
        let data = |id: u32| Some(disks[id as usize - 1].path().join("data"));
        let mut cluster = Cluster::with_data(3, SETTINGS, data);
        cluster.nodes.iter_mut().for_each(prepare);
        cluster.start_all().await;
        Wire::to(&cluster.nodes[0].client())
            .create_topic(TOPIC, PARTITIONS as i32, 3, TopicConfig::default())
            .await;
        Self { cluster, disks, _images: images }
    }

    /// Cuts the power of these nodes, all in the same moment as far as they can tell, and mounts their
    /// disks again. The nodes do not run afterwards.
    fn cut(&mut self, nodes: &[u32], history: &History) {
        history.fault(format!("power of nodes {nodes:?} cut"));
        // First nobody moves: a sync that ran while the cut happened could report what the cut took.
        for id in nodes {
            self.cluster.node(*id).pause();
        }
        for id in nodes {
            self.disks[*id as usize - 1].cut_power().expect("the power can be cut");
        }
        for id in nodes {
            self.cluster.node(*id).kill();
        }
        for id in nodes {
            let disk = &mut self.disks[*id as usize - 1];
            disk.unmount().expect("nobody holds a file");
            disk.mount().expect("a file system survives a power cut");
        }
    }

    async fn start_again(&mut self, nodes: &[u32]) {
        for id in nodes {
            self.cluster.node(*id).start();
        }
        for id in nodes {
            self.cluster.node(*id).wait_ready(START_LIMIT).await;
        }
    }
}

/// Cuts of single nodes, each in turn.
const SINGLE: u32 = 12;
/// Cuts of all nodes at once.
const TOGETHER: u32 = 6;

async fn nothing_acknowledged_is_lost(format: Format) {
    if !capabilities::power_cuts() {
        return;
    }
    let mut powered = Powered::start(format).await;
    let load = Load { value_bytes: 1000, ..Load::to(TOPIC, PARTITIONS) };
    let running = Running::start(&powered.cluster, load).await;
    for round in 0..SINGLE {
        running.acknowledges(500, PROGRESS).await;
        tokio::time::sleep(Duration::from_millis(u64::from(round * 7))).await;
        let id = round % 3 + 1;
        powered.cut(&[id], &running.history);
        running.acknowledges(200, PROGRESS).await;
        powered.start_again(&[id]).await;
    }
    for round in 0..TOGETHER {
        running.acknowledges(500, PROGRESS).await;
        tokio::time::sleep(Duration::from_millis(u64::from(round * 7))).await;
        powered.cut(&[1, 2, 3], &running.history);
        powered.start_again(&[1, 2, 3]).await;
    }
    running.acknowledges(500, PROGRESS).await;
    let history = running.stop().await;
    scan(&powered.cluster, TOPIC, PARTITIONS, &history).await;
    scan_replicas(&powered.cluster, TOPIC, PARTITIONS, &[1, 2, 3], &history).await;
    judge(&powered.cluster, &history);
    powered.cluster.assert_healthy();
    println!(
        "figure: power on {}: {SINGLE} cuts of one node and {TOGETHER} of all three at once, {} records acknowledged, none lost",
        format.name(),
        history.acknowledged()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_records_survive_power_cuts_on_ext4() {
    nothing_acknowledged_is_lost(Format::Ext4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_records_survive_power_cuts_on_xfs() {
    nothing_acknowledged_is_lost(Format::Xfs).await;
}

/// The same cut, the same checks, and a build that does not sync: the loss must be found.
#[tokio::test(flavor = "multi_thread")]
async fn a_build_that_does_not_sync_is_found_out() {
    if !capabilities::power_cuts() {
        return;
    }
    let without_sync = |node: &mut Node| node.use_build(binaries::faulty(), &[("FLOTILLA_FAULT", "no-sync")]);
    let mut powered = Powered::start_with(Format::Ext4, without_sync).await;
    let running = Running::start(&powered.cluster, Load::to(TOPIC, PARTITIONS)).await;
    running.acknowledges(2000, PROGRESS).await;
    let history = running.stop().await;
    powered.cut(&[1, 2, 3], &history);
    for node in &mut powered.cluster.nodes {
        node.start();
    }
    // Whether they come back is not promised; that what they acknowledged is missed, is.
    let looked = tokio::time::timeout(Duration::from_secs(20), async {
        scan(&powered.cluster, TOPIC, PARTITIONS, &history).await;
    });
    let found = match looked.await {
        Ok(()) => checkers::check_all(&history.events()),
        Err(_) => vec!["acknowledged present: the nodes do not serve what they acknowledged".to_owned()],
    };
    println!(
        "figure: without sync, one cut of all nodes gives {} findings, such as {:?}",
        found.len(),
        found.first()
    );
    assert!(
        found.iter().any(|finding| finding.starts_with("acknowledged present")),
        "a build without sync lost nothing that was noticed: {found:?}"
    );
}
