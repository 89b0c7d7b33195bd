//! How full the disk is.

use crate::interface::DiskUsage;
use flotilla_types::{Clock, Monotonic};
use parking_lot::Mutex;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Sizes are added up again when they are older than this.
const FRESH: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Disk {
    root: PathBuf,
    clock: Arc<dyn Clock>,
    used: Mutex<Option<(Monotonic, u64)>>,
}

impl Disk {
    pub fn new(root: PathBuf, clock: Arc<dyn Clock>) -> Self {
        Self { root, clock, used: Mutex::new(None) }
    }

    /// What the file system says, and what the store takes of it. Free is 0 if the file system does not answer.
    pub fn usage(&self) -> DiskUsage {
        let used = self.used();
        match rustix::fs::statvfs(&self.root) {
            Ok(stat) => DiskUsage {
                total: stat.f_blocks * stat.f_frsize,
                // Without what is kept for root: a server does not run as root.
                free: stat.f_bavail * stat.f_frsize,
                used,
            },
            Err(error) => {
                tracing::error!(%error, path = %self.root.display(), "the file system does not say how full it is");
                DiskUsage { total: 0, free: 0, used }
            }
        }
    }

    fn used(&self) -> u64 {
        let now = self.clock.monotonic();
        let mut used = self.used.lock();
        match *used {
            Some((then, bytes)) if now.since(then) < FRESH => bytes,
            _ => {
                let bytes = size_of_files(&self.root) + size_of_files(&self.root.join("db"));
                *used = Some((now, bytes));
                bytes
            }
        }
    }
}

fn size_of_files(directory: &Path) -> u64 {
    // Files come and go meanwhile; what is gone takes nothing.
    let files = fs::read_dir(directory).into_iter().flatten().flatten();
    // Room kept for a full disk holds nothing of the store's.
    let files = files.filter(|file| file.file_name() != "ballast");
    files.filter_map(|file| file.metadata().ok()).filter(fs::Metadata::is_file).map(|data| data.len()).sum()
}
