//! A file system for each node, made of a file, whose power can be cut.
//!
//! The cut is the file system's own `goingdown` without flushing its log: every byte that was not synced
//! is gone, and every later call fails. Processes must stand still meanwhile, or an `fdatasync` that is
//! under way may answer success for what the cut took.

use rustix::fd::AsRawFd;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Which file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// ext4
    Ext4,
    /// XFS
    Xfs,
}

impl Format {
    /// As `mount` calls it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
        }
    }
}

/// A mounted file system in an image file. Dropped, it is unmounted and its loop device is free again.
#[derive(Debug)]
pub struct Disk {
    mount: PathBuf,
    image: PathBuf,
    format: Format,
    mounted: bool,
}

impl Disk {
    /// Makes a file system of `mebibytes` in `directory` and mounts it there.
    pub fn new(directory: &Path, name: &str, format: Format, mebibytes: u64) -> Result<Self, String> {
        let (image, mount) = (directory.join(format!("{name}.img")), directory.join(name));
        let file = File::create(&image).map_err(|e| format!("{}: {e}", image.display()))?;
        file.set_len(mebibytes << 20).map_err(|e| format!("{}: {e}", image.display()))?;
        std::fs::create_dir(&mount).map_err(|e| format!("{}: {e}", mount.display()))?;
        let make: &[&str] = match format {
            Format::Ext4 => &["mkfs.ext4", "-q", "-F"],
            Format::Xfs => &["mkfs.xfs", "-q", "-f"],
        };
        run(Command::new(make[0]).args(&make[1..]).arg(&image))?;
        let mut disk = Self { mount, image, format, mounted: false };
        disk.mount()?;
        Ok(disk)
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.mount
    }

    /// Mounts it, which replays the file system's own log.
    pub fn mount(&mut self) -> Result<(), String> {
        assert!(!self.mounted, "{} is mounted", self.mount.display());
        run(Command::new("mount")
            .args(["-t", self.format.name(), "-o", "loop"])
            .arg(&self.image)
            .arg(&self.mount))?;
        self.mounted = true;
        Ok(())
    }

    /// Unmounts it. Nobody may have files open there.
    pub fn unmount(&mut self) -> Result<(), String> {
        run(Command::new("umount").arg(&self.mount))?;
        self.mounted = false;
        Ok(())
    }

    /// Cuts the power: what was not synced is gone, and nothing can be written any more.
    #[expect(unsafe_code, reason = "the file system's own request has no wrapper")]
    pub fn cut_power(&self) -> Result<(), String> {
        /// `XFS_IOC_GOINGDOWN`, which ext4 knows by the same number.
        const GOING_DOWN: libc::c_ulong = 0x8004_587d;
        /// The log is not flushed either.
        const NO_LOG_FLUSH: u32 = 2;
        let place = File::open(&self.mount).map_err(|e| format!("{}: {e}", self.mount.display()))?;
        let flag = NO_LOG_FLUSH;
        // SAFETY: the request reads one u32 through the pointer, which outlives the call.
        let answer = unsafe { libc::ioctl(place.as_raw_fd(), GOING_DOWN, &raw const flag) };
        match answer {
            0 => Ok(()),
            _ => Err(format!("goingdown: {}", std::io::Error::last_os_error())),
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.mounted && self.unmount().is_err() {
            // Whoever still holds a file keeps it alive until they let go; the name is free at once.
            run(Command::new("umount").arg("-l").arg(&self.mount)).ok();
        }
    }
}

/// Runs a program to its end; what it says on failure is the error.
pub fn run(command: &mut Command) -> Result<String, String> {
    let path = std::env::var("PATH").unwrap_or_default();
    // Where administrators' programs are is not on every user's path.
    let done = command.env("PATH", format!("{path}:/usr/sbin:/sbin")).output();
    let done = done.map_err(|e| format!("{}: {e}", command.get_program().display()))?;
    if done.status.success() {
        return Ok(String::from_utf8_lossy(&done.stdout).into_owned());
    }
    Err(format!("{command:?}: {}", String::from_utf8_lossy(&done.stderr).trim()))
}
