//! Which data directory each peer has, kept across restarts in the file `peers`.
//!
//! A node that lost its disk and was set up anew under its old id does not have what it acknowledged. If it
//! could vote, it might elect a leader that lacks records. Whoever has met it before knows its store and
//! refuses the new one.
//!
//! The file is text, a line `node store` for each peer, replaced as a whole.

use flotilla_types::{NodeId, StoreId};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use uuid::Uuid;

/// Store ids by node, as first heard.
#[derive(Debug, Default)]
pub struct KnownStores {
    /// `None` = kept in memory only.
    path: Option<PathBuf>,
    stores: Mutex<BTreeMap<NodeId, StoreId>>,
}

impl KnownStores {
    /// Reads what was kept at `path`; nothing where there is no such file. `Err` where it is damaged:
    /// without it a peer that lost its records would be believed.
    pub fn open(path: &Path) -> Result<Self, String> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            Err(error) => return Err(format!("cannot read {}: {error}", path.display())),
        };
        let stores = text.lines().map(parse).collect::<Option<BTreeMap<_, _>>>();
        let stores = stores.ok_or_else(|| format!("{} is damaged", path.display()))?;
        Ok(Self { path: Some(path.to_owned()), stores: Mutex::new(stores) })
    }

    /// The store that `node` is known with; `store` is remembered if none is.
    pub fn meet(&self, node: NodeId, store: StoreId) -> Option<StoreId> {
        let mut stores = self.stores.lock();
        if let Some(known) = stores.get(&node) {
            return Some(*known);
        }
        stores.insert(node, store);
        // Once in a peer's life: the others may wait for the lock.
        if let Some(path) = &self.path
            && let Err(error) = write(path, &stores)
        {
            tracing::warn!(path = %path.display(), "stores of peers are not kept: {error}");
        }
        None
    }
}

fn parse(line: &str) -> Option<(NodeId, StoreId)> {
    let (node, store) = line.split_once(' ')?;
    Some((NodeId(node.parse().ok()?), StoreId(Uuid::parse_str(store).ok()?)))
}

/// Beside it, synced, renamed, directory synced: the old file or the new one, never half of one.
fn write(path: &Path, stores: &BTreeMap<NodeId, StoreId>) -> std::io::Result<()> {
    let mut text = String::new();
    for (node, store) in stores {
        writeln!(text, "{node} {store}").map_err(std::io::Error::other)?;
    }
    let fresh = path.with_extension("new");
    let mut file = File::create(&fresh)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&fresh, path)?;
    path.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_known_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("peers");
        let store = |number| StoreId(Uuid::from_u128(number));
        let stores = KnownStores::open(&path).unwrap();
        assert_eq!(stores.meet(NodeId(2), store(7)), None);
        assert_eq!(stores.meet(NodeId(3), store(8)), None);
        let again = KnownStores::open(&path).unwrap();
        assert_eq!(again.meet(NodeId(2), store(9)), Some(store(7)), "the lost disk is noticed");
        assert_eq!(again.meet(NodeId(3), store(8)), Some(store(8)));
    }

    #[test]
    fn a_damaged_file_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("peers");
        for damaged in ["2", "x 7f1b6c1e-5d3a-4d0e-9c55-0d8a3f9b7a11", "2 7f1b", "\0"] {
            std::fs::write(&path, damaged).unwrap();
            assert!(KnownStores::open(&path).is_err(), "{damaged}");
        }
    }
}
