//! Opening a store: find out whose it is, look at all of it, and only then touch it.

use crate::ballast;
use crate::checks::{self, Sound};
use crate::config::Config;
use crate::database::{self, Access};
use crate::directory::{self, Directory};
use crate::error::OpenError;
use crate::fault::Faults;
use crate::identity::Identity;
use crate::log_writer::OnFatal;
use crate::marker;
use crate::metrics::Metrics;
use crate::quarantine::{Quarantine, Why};
use crate::reader::{Reader, family};
use crate::rocks::{Parts, RocksStore};
use crate::rows::{IDENTITY_KEY, batch_number, family};
use flotilla_types::{Clock, ClusterId, NodeId};
use rocksdb::{DB, WriteBatch, WriteOptions};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Whether a store may be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// Only one that is there. A directory that lost its contents must not come back as a new store.
    Existing,
    /// Make one in an empty directory. One that is there and ours is opened, with a note.
    Init,
}

/// What is to be opened.
#[derive(Clone, Debug)]
pub struct Expected {
    /// The data directory.
    pub path: PathBuf,
    /// Whose it must be.
    pub cluster: ClusterId,
    /// Whose it must be.
    pub node: NodeId,
    /// Whether it may be made.
    pub mode: OpenMode,
}

/// A store that was opened, or one that must not be.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one of them in a process")]
pub enum Opened {
    /// Ready.
    Sound(RocksStore),
    /// Not to be used. Its directory is left as it is, and not locked.
    Quarantined(Quarantine),
}

/// What the directory says of itself.
enum Found {
    Nothing,
    Unfinished(Identity),
    Finished(Identity),
    Broken(Why),
}

pub(crate) fn open(
    config: &Config,
    expected: &Expected,
    on_fatal: OnFatal,
    clock: Arc<dyn Clock>,
    faults: Faults,
) -> Result<Opened, OpenError> {
    config.check()?;
    let init = expected.mode == OpenMode::Init;
    let directory = Directory::open(&expected.path, init)?;
    let quarantine = |identity, why| {
        let quarantine = Quarantine { path: expected.path.clone(), identity, why };
        tracing::error!(path = %quarantine.path.display(), why = %quarantine.why, "the store is quarantined");
        Ok(Opened::Quarantined(quarantine))
    };
    let identity = match find(&directory)? {
        Found::Broken(why) => return quarantine(None, why),
        Found::Finished(identity) => {
            check_identity(&identity, expected)?;
            if init {
                tracing::info!(%identity, "the store exists already; opening it");
            }
            identity
        }
        Found::Unfinished(identity) if init => {
            check_identity(&identity, expected)?;
            finish(&directory, config, identity, &*clock)?
        }
        Found::Nothing if init => {
            if let Some(found) = directory.foreign_file()? {
                return Err(OpenError::NotOurs { path: expected.path.clone(), found });
            }
            let identity = Identity::new(expected.cluster, expected.node);
            directory::write_durably(&directory.unfinished_identity(), &identity.encode())?;
            finish(&directory, config, identity, &*clock)?
        }
        Found::Unfinished(_) | Found::Nothing => return Err(OpenError::Empty(expected.path.clone())),
    };
    let metrics = Metrics::default();
    let slowest = checks::self_test(&directory, &*clock)?;
    metrics.self_test_seconds.set(slowest.as_secs_f64());

    let sound = match checks::look(&directory, config, &identity) {
        Ok(sound) => sound,
        Err(why) => return quarantine(Some(identity), why),
    };
    let db = match open_to_write(&directory, config, &sound, &*clock)? {
        Ok(db) => db,
        Err(why) => return quarantine(Some(identity), why),
    };
    ballast::keep(&directory);
    tracing::info!(%identity, batch = sound.number, "the store is open");
    let Sound { tails, number, .. } = sound;
    let parts = Parts { identity, directory, db, tails, number, metrics, clock, on_fatal, faults };
    RocksStore::start(config, parts).map(Opened::Sound)
}

fn find(directory: &Directory) -> Result<Found, OpenError> {
    if let Some(bytes) = read_if_there(&directory.identity())? {
        return Ok(match Identity::decode(&bytes) {
            Ok(identity) => Found::Finished(identity),
            Err(error) => Found::Broken(Why::IdentityUnreadable(error.to_string())),
        });
    }
    if let Some(bytes) = read_if_there(&directory.unfinished_identity())? {
        return Ok(match Identity::decode(&bytes) {
            Ok(identity) => Found::Unfinished(identity),
            Err(error) => Found::Broken(Why::IdentityUnreadable(error.to_string())),
        });
    }
    if directory.database().exists() || directory.marker().exists() {
        return Ok(Found::Broken(Why::IdentityMissing));
    }
    Ok(Found::Nothing)
}

fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>, OpenError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(directory::io_error("read", path)(error)),
    }
}

fn check_identity(found: &Identity, expected: &Expected) -> Result<(), OpenError> {
    let path = expected.path.clone();
    if found.format > Identity::FORMAT {
        return Err(OpenError::TooNew { path, found: found.format, known: Identity::FORMAT });
    }
    if (found.cluster, found.node) != (expected.cluster, expected.node) {
        let expected = format!("node {} of cluster {}", expected.node, expected.cluster);
        return Err(OpenError::WrongIdentity { path, found: found.to_string(), expected });
    }
    Ok(())
}

/// Makes what a new store needs, in an order that can be cut anywhere: until the last rename it is
/// unfinished, and the next `Init` goes on with it.
fn finish(
    directory: &Directory,
    config: &Config,
    identity: Identity,
    clock: &dyn Clock,
) -> Result<Identity, OpenError> {
    let path = directory.database();
    let refused = |error: rocksdb::Error| OpenError::Database { path: path.clone(), why: error.to_string() };
    let db = Arc::new(database::open(&path, config, Access::Create).map_err(refused)?);
    let found = Reader::new(Arc::clone(&db), Metrics::default()).batch_number();
    let number = found.ok().flatten().unwrap_or(0) + 1;
    let log = family(&db, family::LOG);
    let mut batch = WriteBatch::default();
    batch.put_cf(log, IDENTITY_KEY, identity.encode());
    batch.put_cf(log, batch_number::KEY, batch_number::encode(number));
    let mut options = WriteOptions::default();
    options.set_sync(true);
    db.write_opt(batch, &options).map_err(refused)?;
    drop(db);
    marker::create(&directory.marker(), identity.store, number, clock.wall())?;
    directory::sync_directory(&path)?;
    directory::rename_durably(&directory.unfinished_identity(), &directory.identity())?;
    tracing::info!(%identity, path = %directory.root().display(), "made a new store");
    Ok(identity)
}

/// Opens what was found sound. It is looked at once more, because only now is it ours.
fn open_to_write(
    directory: &Directory,
    config: &Config,
    sound: &Sound,
    clock: &dyn Clock,
) -> Result<Result<Arc<DB>, Why>, OpenError> {
    let mut access = Access::Write;
    if sound.damaged_end {
        let aside = directory.copy_logs_aside(clock.wall())?;
        tracing::error!(
            copy = %aside.display(),
            "the end of the log is damaged, behind everything acknowledged; going on without it"
        );
        access = Access::WriteUpToDamage;
    }
    let db = match database::open(&directory.database(), config, access) {
        Ok(db) => Arc::new(db),
        Err(error) => return Ok(Err(Why::Database(error.to_string()))),
    };
    let number = Reader::new(Arc::clone(&db), Metrics::default()).batch_number();
    Ok(match number {
        Ok(Some(found)) if found == sound.number => Ok(db),
        Ok(found) => Err(Why::Behind { found: found.unwrap_or_default(), marker: sound.number }),
        Err(why) => Err(Why::Database(why)),
    })
}
