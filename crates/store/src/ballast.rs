//! Room that is kept for the operator: a file that can be deleted when the disk is full.
//!
//! Made when the store is opened and there is plenty of room; never deleted or made again by the node while
//! there is little, so that what an operator frees stays free.

use crate::directory::Directory;
use rustix::fs::{FallocateFlags, fallocate, statvfs};
use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;

/// Largest size in bytes.
const MAX_BYTES: u64 = 1 << 30;
/// Of the file system's size.
const PERCENT: u64 = 2;
/// What must be free besides, in percent of the file system's size.
const PLENTY_PERCENT: u64 = 10;

/// Bytes to keep on a file system of this size with so much free; `None` where there is too little.
fn size(total: u64, free: u64) -> Option<u64> {
    let bytes = (total / 100 * PERCENT).min(MAX_BYTES);
    (bytes > 0 && free >= total / 100 * PLENTY_PERCENT + 2 * bytes).then_some(bytes)
}

/// Makes the file if there is none and there is room. A node works without it, so a failure is only told.
pub(crate) fn keep(directory: &Directory) {
    let path = directory.ballast();
    if path.exists() {
        return;
    }
    let made = statvfs(directory.root()).map_err(std::io::Error::from).and_then(|stat| {
        let Some(bytes) = size(stat.f_blocks * stat.f_frsize, stat.f_bavail * stat.f_frsize) else {
            return Ok(None);
        };
        let file = File::options().create_new(true).write(true).mode(0o600).open(&path)?;
        // Taken from the file system, not only promised, and without writing it.
        fallocate(&file, FallocateFlags::empty(), 0, bytes).inspect_err(|_| {
            std::fs::remove_file(&path).ok();
        })?;
        Ok(Some(bytes))
    });
    match made {
        Ok(Some(bytes)) => tracing::info!(path = %path.display(), bytes, "room is kept for a full disk"),
        Ok(None) => {
            tracing::warn!(path = %path.display(), "too little room to keep some for a full disk");
        }
        Err(error) => tracing::warn!(path = %path.display(), %error, "no room is kept for a full disk"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::Directory;

    const GIB: u64 = 1 << 30;

    #[test]
    fn little_is_kept_of_a_small_disk_and_nothing_of_a_full_one() {
        assert_eq!(size(1000 * GIB, 500 * GIB), Some(GIB));
        assert_eq!(size(GIB, GIB / 2), Some(GIB / 100 * 2));
        assert_eq!(size(1000 * GIB, 101 * GIB), None);
        assert_eq!(size(0, 0), None);
    }

    #[test]
    fn the_file_takes_room_and_is_not_made_twice() {
        let place = tempfile::tempdir().unwrap();
        let directory = Directory::open(&place.path().join("data"), true).unwrap();
        keep(&directory);
        let Ok(made) = std::fs::metadata(directory.ballast()) else {
            // The machine's own disk is nearly full.
            return;
        };
        use std::os::unix::fs::MetadataExt;
        assert!(made.blocks() * 512 >= made.len(), "{} of {}", made.blocks() * 512, made.len());
        keep(&directory);
        assert_eq!(std::fs::metadata(directory.ballast()).unwrap().ino(), made.ino());
        assert_eq!(directory.foreign_file().unwrap(), None);
    }
}
