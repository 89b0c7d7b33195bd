//! The durable-tail marker: a small file that says how far the write-ahead log must come at the next start.
//!
//! RocksDB opens a database whose last log file is gone or cut short without a word (measured). So every
//! batch carries its number as a row, and this file, beside the database and synced by itself, holds the
//! last one that was synced. A database that is behind its marker has lost what was acknowledged.
//!
//! | bytes | field |
//! | --- | --- |
//! | 0–51 | first slot: magic `marker01`, store id, batch number, wall clock in ms, batch number again, CRC32C |
//! | 2048–2099 | second slot, the same |
//!
//! The file has 4 KiB from the start, so that writing it changes no metadata. Slots are written in turn, so
//! one of them is whole whatever happens.

use crate::directory;
use crate::error::OpenError;
use crate::fault::Faults;
use flotilla_types::{Clock, StoreId};
use parking_lot::{Condvar, Mutex};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

const FILE_LEN: usize = 4096;
const SLOT_LEN: usize = 52;
const SLOTS_AT: [usize; 2] = [0, 2048];
const MAGIC: [u8; 8] = *b"marker01";
/// Pause after each write of it: with the write itself it is at most some 10 ms behind.
const PAUSE: Duration = Duration::from_millis(8);

/// What a marker file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Marker {
    /// The last batch known to be synced.
    pub number: u64,
    /// Slots that could not be read.
    pub damaged_slots: usize,
}

/// Reads the file, or says why it cannot be believed.
pub(crate) fn read(path: &Path, store: StoreId) -> Result<Marker, String> {
    let bytes = std::fs::read(path).map_err(|error| format!("it cannot be read: {error}"))?;
    if bytes.len() != FILE_LEN {
        return Err(format!("it has {} bytes instead of {FILE_LEN}", bytes.len()));
    }
    let slots = SLOTS_AT.map(|at| decode(&bytes[at..at + SLOT_LEN], store));
    let number = slots.iter().flatten().max().copied();
    let damaged_slots = slots.iter().filter(|slot| slot.is_err()).count();
    match (number, slots) {
        (Some(number), _) => Ok(Marker { number, damaged_slots }),
        (None, [Err(first), Err(second)]) => Err(format!("its slots are unreadable: {first}; {second}")),
        (None, _) => Err("it has no slot".to_owned()),
    }
}

/// Makes the file, both slots saying `number`.
pub(crate) fn create(path: &Path, store: StoreId, number: u64, now_ms: i64) -> Result<(), OpenError> {
    let mut bytes = vec![0; FILE_LEN];
    for at in SLOTS_AT {
        bytes[at..at + SLOT_LEN].copy_from_slice(&encode(store, number, now_ms));
    }
    directory::write_durably(path, &bytes)
}

fn encode(store: StoreId, number: u64, now_ms: i64) -> [u8; SLOT_LEN] {
    let mut slot = [0; SLOT_LEN];
    slot[..8].copy_from_slice(&MAGIC);
    slot[8..24].copy_from_slice(store.0.as_bytes());
    slot[24..32].copy_from_slice(&number.to_le_bytes());
    slot[32..40].copy_from_slice(&now_ms.to_le_bytes());
    slot[40..48].copy_from_slice(&number.to_le_bytes());
    let crc = crc32c::crc32c(&slot[..48]);
    slot[48..].copy_from_slice(&crc.to_le_bytes());
    slot
}

fn decode(slot: &[u8], store: StoreId) -> Result<u64, &'static str> {
    let word = |at: usize| slot[at..at + 8].try_into().map_or(0, u64::from_le_bytes);
    if crc32c::crc32c(&slot[..48]).to_le_bytes() != slot[48..52] {
        return Err("its checksum does not match");
    }
    if slot[..8] != MAGIC || word(24) != word(40) {
        return Err("it is no marker");
    }
    if slot[8..24] != *store.0.as_bytes() {
        return Err("it belongs to another store");
    }
    Ok(word(24))
}

/// Writes the marker behind the log writer's back, never on the way of an answer.
#[derive(Debug)]
pub(crate) struct MarkerWriter {
    path: PathBuf,
    file: File,
    store: StoreId,
    clock: Arc<dyn Clock>,
    faults: Arc<Faults>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Last batch that was synced.
    synced: u64,
    /// What the file says.
    marked: u64,
    stopped: bool,
}

impl MarkerWriter {
    pub fn open(
        path: &Path,
        store: StoreId,
        number: u64,
        clock: Arc<dyn Clock>,
        faults: Arc<Faults>,
    ) -> io::Result<Self> {
        let file = File::options().write(true).open(path)?;
        let state = Mutex::new(State { synced: number, marked: number, stopped: false });
        let path = path.to_owned();
        Ok(Self { path, file, store, clock, faults, state, changed: Condvar::new() })
    }

    /// A batch was synced.
    pub fn synced(&self, number: u64) {
        self.state.lock().synced = number;
        self.changed.notify_one();
    }

    /// No more will come; the thread ends.
    pub fn stop(&self) {
        self.state.lock().stopped = true;
        self.changed.notify_all();
    }

    /// The thread's body: returns when stopped, or with the error that ends all writing.
    pub fn run(&self, written: impl Fn()) -> Result<(), String> {
        let mut slot = 0;
        loop {
            let number = {
                let mut state = self.state.lock();
                while !state.stopped && state.synced == state.marked {
                    self.changed.wait(&mut state);
                }
                if state.stopped {
                    return Ok(());
                }
                state.synced
            };
            self.write(slot, number)?;
            written();
            slot = 1 - slot;
            let mut state = self.state.lock();
            state.marked = number;
            if !state.stopped {
                self.changed.wait_while_for(&mut state, |state| !state.stopped, PAUSE);
            }
        }
    }

    /// Leaves an exact marker, in both slots. For a clean end, after [`MarkerWriter::run`] returned.
    pub fn finish(&self, number: u64) -> Result<(), String> {
        (0..SLOTS_AT.len()).try_for_each(|slot| self.write(slot, number))
    }

    fn write(&self, slot: usize, number: u64) -> Result<(), String> {
        let bytes = encode(self.store, number, self.clock.wall());
        let written = self.file.write_all_at(&bytes, SLOTS_AT[slot] as u64);
        let synced =
            written.and_then(|()| if self.faults.loses_syncs() { Ok(()) } else { self.file.sync_data() });
        synced.map_err(|error| format!("write {}: {error}", self.path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    const STORE: StoreId = StoreId(Uuid::from_u128(7));

    #[test]
    fn a_marker_that_cannot_be_written_is_told() {
        let clock = Arc::new(flotilla_types::time::SystemClock::new());
        let full = Path::new("/dev/full");
        let marker = MarkerWriter::open(full, STORE, 1, clock, Arc::default()).unwrap();
        marker.synced(2);
        assert!(marker.run(|| panic!("nothing was written")).unwrap_err().contains("/dev/full"));
    }

    #[test]
    fn a_marker_survives_one_damaged_slot_but_not_two() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("marker");
        create(&path, STORE, 41, 0).unwrap();
        assert_eq!(read(&path, STORE), Ok(Marker { number: 41, damaged_slots: 0 }));
        assert!(read(&path, StoreId(Uuid::from_u128(8))).unwrap_err().contains("another store"));

        let sound = std::fs::read(&path).unwrap();
        for bit in 0..SLOT_LEN * 8 {
            let mut bytes = sound.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, &bytes).unwrap();
            assert_eq!(read(&path, STORE), Ok(Marker { number: 41, damaged_slots: 1 }), "bit {bit}");
            bytes[2048 + bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, &bytes).unwrap();
            assert!(read(&path, STORE).is_err(), "bit {bit}");
        }
        std::fs::write(&path, &sound[..4095]).unwrap();
        assert!(read(&path, STORE).is_err());
        std::fs::remove_file(&path).unwrap();
        assert!(read(&path, STORE).is_err());
    }
}
