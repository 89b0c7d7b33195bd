//! What is looked at before a store is used: without changing a byte of it.
//!
//! 1. The marker can be read, and the database's last batch is not behind it.
//! 2. Identity file and database agree.
//! 3. Of each shard: marks are sound, the log begins behind its purge point, its end is dense and sound, and
//!    nothing is applied that the log never had.
//!
//! What lies between a log's two ends was checked when it was written and is again when it is read.

use crate::config::Config;
use crate::database::{self, Access};
use crate::directory::{Directory, io_error};
use crate::error::{OpenError, ReadError};
use crate::identity::Identity;
use crate::log_rows::{BlobRows, LogRows};
use crate::marker;
use crate::metrics::Metrics;
use crate::quarantine::Why;
use crate::reader::Reader;
use crate::rows::{self, family};
use crate::tails::{Tail, Tails};
use flotilla_types::{Clock, LogIndex, ShardId};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

/// What a sound store looks like.
pub(crate) struct Sound {
    pub tails: Tails,
    /// Number of its last batch.
    pub number: u64,
    /// The write-ahead log is damaged, behind everything that was synced.
    pub damaged_end: bool,
}

/// How many entries at a log's end are looked at, and how many bytes of them.
const END_ROWS: u64 = 8;
const END_BYTES: usize = 64 << 10;

/// Looks at everything, or says why the store must not be used.
pub(crate) fn look(directory: &Directory, config: &Config, identity: &Identity) -> Result<Sound, Why> {
    let marker = marker::read(&directory.marker(), identity.store).map_err(Why::Marker)?;
    if marker.damaged_slots > 0 {
        tracing::warn!(path = %directory.marker().display(), "one slot of the marker is damaged; the other is used");
    }
    let path = directory.database();
    let (db, damaged_end) = match database::open(&path, config, Access::Look) {
        Ok(db) => (db, false),
        Err(error) => {
            tracing::error!(%error, path = %path.display(), "the database is damaged; looking how far it is sound");
            let damaged = |_| Why::Database(error.to_string());
            (database::open(&path, config, Access::LookUpToDamage).map_err(damaged)?, true)
        }
    };
    // Only counts what is looked at here; it is thrown away.
    let reader = Reader::new(Arc::new(db), Metrics::default());
    let number = reader.batch_number().map_err(Why::Database)?.unwrap_or_default();
    if number < marker.number {
        return Err(Why::Behind { found: number, marker: marker.number });
    }
    identities_agree(&reader, identity)?;
    let log = BlobRows::new(reader.clone());
    let mut tails = Tails::default();
    for shard in reader.shards()? {
        tails.set(shard, shard_is_sound(&reader, &log, shard)?);
    }
    Ok(Sound { tails, number, damaged_end })
}

fn identities_agree(reader: &Reader, file: &Identity) -> Result<(), Why> {
    let log = crate::reader::family(reader.db(), family::LOG);
    let row =
        reader.db().get_cf(log, rows::IDENTITY_KEY).map_err(|error| Why::Database(error.to_string()))?;
    let found = match row.as_deref().map(Identity::decode) {
        Some(Ok(found)) if found == *file => return Ok(()),
        Some(Ok(found)) => found.to_string(),
        Some(Err(error)) => format!("nothing readable: {error}"),
        None => "nothing".to_owned(),
    };
    Err(Why::IdentitiesDiffer { file: file.to_string(), database: found })
}

fn shard_is_sound(reader: &Reader, log: &dyn LogRows, shard: ShardId) -> Result<Tail, Why> {
    let marks = reader.marks(shard)?;
    let (first, last) = (log.first(shard)?, log.last_below(shard, None)?);
    let purged = marks.purged.map(|purged| purged.upto);
    if let Some(found) = first {
        let begins = purged.map_or(found.get() <= 1, |purged| purged.next() == found);
        if !begins {
            return Err(Why::Hole { shard, after: purged, found });
        }
    }
    if let (Some(first), Some(last)) = (first, last) {
        let from = first.max(LogIndex((last.index.get() + 1).saturating_sub(END_ROWS)));
        let end = match log.read(shard, from..last.index.next(), END_BYTES) {
            Err(error @ ReadError::Corrupt { .. }) => return Err(Why::Row(error)),
            other => other?,
        };
        if let Some(found) = end.first().map(|row| row.id.index).filter(|found| *found != from) {
            return Err(Why::Hole { shard, after: Some(from), found });
        }
    }
    let end = last.map(|id| id.index).max(purged);
    let applied = marks.applied.map(|applied| applied.id);
    match applied {
        Some(applied) if end.is_none_or(|end| end < applied.index) => {
            Err(Why::AppliedAhead { shard, applied, end })
        }
        _ => Ok(Tail { last, purged, applied: applied.map(|id| id.index) }),
    }
}

/// Slower than this a sync holds up everybody.
const SYNC_SLOW: Duration = Duration::from_millis(50);
const SELF_TESTS: u64 = 5;
/// Open files a busy node needs.
const FILES_WANTED: u64 = 65_536;

/// Writes and syncs a few blocks, and tells the slowest. Also warns of a low limit on open files.
pub(crate) fn self_test(directory: &Directory, clock: &dyn Clock) -> Result<Duration, OpenError> {
    let path = directory.root().join("self-test.new");
    let file = File::create(&path).map_err(io_error("create", &path))?;
    let mut slowest = Duration::ZERO;
    for block in 0..SELF_TESTS {
        let started = clock.monotonic();
        file.write_all_at(&[block as u8; 4096], block * 4096)
            .and_then(|()| file.sync_data())
            .map_err(io_error("write and sync", &path))?;
        slowest = slowest.max(clock.monotonic().since(started));
    }
    std::fs::remove_file(&path).map_err(io_error("remove", &path))?;
    if slowest > SYNC_SLOW {
        tracing::warn!(?slowest, path = %directory.root().display(), "syncs are slow on this disk");
    }
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    if let Some(files) = files.filter(|files| *files < FILES_WANTED) {
        tracing::warn!(files, wanted = FILES_WANTED, "the limit on open files is low");
    }
    Ok(slowest)
}
