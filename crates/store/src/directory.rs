//! The data directory: its files, who may read them, one process at a time, and writes that survive.
//!
//! | file | what |
//! | --- | --- |
//! | `lock` | held while a process has the store open |
//! | `identity` | whose directory it is; `identity.unfinished` until the store is complete |
//! | `marker` | how far the log must come, see [`marker`](crate::marker) |
//! | `db/` | the database |
//! | `ballast` | room for the operator, see [`ballast`](crate::ballast) |
//! | `damaged-log-*/` | copies of a damaged log that was opened without its end |

use crate::error::OpenError;
use rustix::fs::{FlockOperation, flock};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Only the server's user reads records.
const DIRECTORY_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// The directory, locked.
#[derive(Debug)]
pub(crate) struct Directory {
    root: PathBuf,
    /// Held; the lock ends with it.
    _lock: File,
}

impl Directory {
    /// Locks the directory. `create` makes it where there is none.
    pub fn open(root: &Path, create: bool) -> Result<Self, OpenError> {
        if create && !root.exists() {
            let parent = root.parent().filter(|parent| !parent.as_os_str().is_empty());
            parent.map_or(Ok(()), fs::create_dir_all).map_err(io_error("create", root))?;
            fs::DirBuilder::new().mode(DIRECTORY_MODE).create(root).map_err(io_error("create", root))?;
            sync_directory(parent.unwrap_or(Path::new(".")))?;
        }
        let metadata = match fs::metadata(root) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(OpenError::Empty(root.to_owned()));
            }
            other => other.map_err(io_error("look at", root))?,
        };
        if metadata.permissions().mode() & 0o077 != 0 && holds_nothing_foreign(root)? {
            tracing::warn!(path = %root.display(), "others could read the data directory; closing it to them");
            let mode = fs::Permissions::from_mode(DIRECTORY_MODE);
            fs::set_permissions(root, mode).map_err(io_error("set permissions of", root))?;
        }
        if !create && !has_store(root) {
            return Err(OpenError::Empty(root.to_owned()));
        }
        let path = root.join("lock");
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(FILE_MODE)
            .open(&path)
            .map_err(io_error("open", &path))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { root: root.to_owned(), _lock: lock }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(OpenError::Locked(root.to_owned())),
            Err(error) => Err(io_error("lock", &path)(error.into())),
        }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn database(&self) -> PathBuf {
        self.root.join("db")
    }

    pub fn marker(&self) -> PathBuf {
        self.root.join("marker")
    }

    pub fn ballast(&self) -> PathBuf {
        self.root.join("ballast")
    }

    pub fn identity(&self) -> PathBuf {
        self.root.join("identity")
    }

    pub fn unfinished_identity(&self) -> PathBuf {
        self.root.join("identity.unfinished")
    }

    /// A file that is not ours, if there is one.
    pub fn foreign_file(&self) -> Result<Option<String>, OpenError> {
        foreign_file(&self.root)
    }

    /// Copies the write-ahead logs aside, for whoever wants to know what was in them.
    pub fn copy_logs_aside(&self, now_ms: i64) -> Result<PathBuf, OpenError> {
        let aside = self.root.join(format!("damaged-log-{now_ms}"));
        fs::DirBuilder::new().mode(DIRECTORY_MODE).create(&aside).map_err(io_error("create", &aside))?;
        let database = self.database();
        for file in fs::read_dir(&database).map_err(io_error("list", &database))? {
            let path = file.map_err(io_error("list", &database))?.path();
            if path.extension().is_some_and(|extension| extension == "log") {
                let copy = aside.join(path.file_name().unwrap_or_default());
                fs::copy(&path, &copy)
                    .and_then(|_| File::open(&copy)?.sync_all())
                    .map_err(io_error("copy", &path))?;
            }
        }
        sync_directory(&aside)?;
        sync_directory(&self.root)?;
        Ok(aside)
    }
}

/// Whether there is, or was, or should be a store.
fn has_store(root: &Path) -> bool {
    ["identity", "db", "marker"].iter().any(|name| root.join(name).exists())
}

fn holds_nothing_foreign(root: &Path) -> Result<bool, OpenError> {
    foreign_file(root).map(|found| found.is_none())
}

fn foreign_file(root: &Path) -> Result<Option<String>, OpenError> {
    // A fresh file system has a lost+found.
    const OURS: [&str; 7] =
        ["lock", "identity", "identity.unfinished", "marker", "db", "ballast", "lost+found"];
    for file in fs::read_dir(root).map_err(io_error("list", root))? {
        let name = file.map_err(io_error("list", root))?.file_name().to_string_lossy().into_owned();
        let ours = OURS.contains(&name.as_str())
            || name.starts_with("damaged-log-")
            || Path::new(&name).extension().is_some_and(|extension| extension == "new");
        if !ours {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

/// Writes a whole file so that after a power cut it is either as before or complete.
pub(crate) fn write_durably(path: &Path, bytes: &[u8]) -> Result<(), OpenError> {
    let fresh = path.with_extension("new");
    let write = || {
        let mut file =
            File::options().create(true).truncate(true).write(true).mode(FILE_MODE).open(&fresh)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(io_error("write", &fresh))?;
    rename_durably(&fresh, path)
}

/// Renames within one directory. Without the sync of the directory a rename may vanish (measured).
pub(crate) fn rename_durably(from: &Path, to: &Path) -> Result<(), OpenError> {
    fs::rename(from, to).map_err(io_error("rename", from))?;
    sync_directory(to.parent().unwrap_or(Path::new(".")))
}

pub(crate) fn sync_directory(path: &Path) -> Result<(), OpenError> {
    File::open(path).and_then(|directory| directory.sync_all()).map_err(io_error("sync", path))
}

pub(crate) fn io_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> OpenError {
    let path = path.to_owned();
    move |source| OpenError::Io { what, path, source }
}
