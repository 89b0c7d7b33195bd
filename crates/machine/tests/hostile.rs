//! Bytes that are not what they should be: an error, never a panic, never a guess.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod harness;

use flotilla_machine::{Command, Kind, Shard};
use flotilla_types::{LogId, LogIndex, Term};
use proptest::prelude::*;

fn golden_commands() -> Vec<Vec<u8>> {
    let lines = include_str!("../testdata/commands.golden").lines();
    lines.map(|line| unhex(line.split_once(' ').unwrap().1)).collect()
}

fn golden_rows(kind: Kind) -> Vec<(bytes::Bytes, bytes::Bytes)> {
    let lines = include_str!("../testdata/rows.golden").lines();
    let rows = lines.filter_map(|line| line.strip_prefix(&format!("{kind:?} "))?.split_once(' '));
    rows.map(|(key, value)| (unhex(key).into(), unhex(value).into())).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

#[test]
fn commands_that_are_cut_short_or_too_long_are_corrupt() {
    for bytes in golden_commands() {
        for len in 0..bytes.len() {
            assert!(Command::decode(&bytes[..len]).is_err(), "cut at {len}");
        }
        let longer = [&bytes[..], &[0]].concat();
        assert!(Command::decode(&longer).is_err());
    }
}

#[test]
fn every_flipped_bit_of_a_command_is_an_error_or_another_command() {
    for bytes in golden_commands() {
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            if let Ok(command) = Command::decode(&flipped) {
                assert_eq!(command.encode(), flipped, "bit {bit}: one command, one encoding");
            }
        }
    }
}

#[test]
fn damaged_commands_never_panic_a_shard() {
    for kind in [Kind::Partition, Kind::Controller, Kind::Coordinator] {
        let shard = Shard::load(kind, &golden_rows(kind)).unwrap();
        let last = shard.applied().unwrap();
        let at = LogId { term: last.term, index: last.index.next() };
        for bytes in golden_commands() {
            for bit in 0..bytes.len() * 8 {
                let mut flipped = bytes.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                if let Ok(command) = Command::decode(&flipped) {
                    let mut shard = shard.clone();
                    let _ = shard.apply(at, &command);
                    let _ = (shard.rows(), shard.audit_due(), shard.purge_to());
                }
            }
        }
    }
}

#[test]
fn damaged_rows_are_broken_or_load_as_they_are() {
    for kind in [Kind::Partition, Kind::Controller, Kind::Coordinator] {
        let rows = golden_rows(kind);
        for row in 0..rows.len() {
            let (key, value) = &rows[row];
            for bit in 0..(key.len() + value.len()) * 8 {
                let mut key = key.to_vec();
                let mut value = value.to_vec();
                match bit.checked_sub(key.len() * 8) {
                    None => key[bit / 8] ^= 1 << (bit % 8),
                    Some(bit) => value[bit / 8] ^= 1 << (bit % 8),
                }
                let mut rows = rows.clone();
                rows[row] = (key.into(), value.into());
                if let Ok(mut shard) = Shard::load(kind, &rows) {
                    let _ = shard.rows();
                    let last = shard.applied().unwrap();
                    for (step, bytes) in (1u64..).zip(golden_commands()) {
                        let index = LogIndex(last.index.get().wrapping_add(step));
                        let _ =
                            shard.apply(LogId { term: last.term, index }, &Command::decode(&bytes).unwrap());
                    }
                }
            }
            let mut short = rows.clone();
            short.remove(row);
            let _ = Shard::load(kind, &short);
        }
    }
}

#[test]
fn rows_of_another_kind_or_version_stop_the_shard() {
    let partition = golden_rows(Kind::Partition);
    let broken = Shard::load(Kind::Controller, &partition).unwrap_err();
    assert!(broken.why.contains("does not belong to this kind of shard"), "{broken}");
    let later = vec![(partition[0].0.clone(), bytes::Bytes::from_static(&[2, 0]))];
    let broken = Shard::load(Kind::Partition, &later).unwrap_err();
    assert!(broken.why.contains("version 2"), "{broken}");
    let unknown = vec![(bytes::Bytes::from_static(&[99]), bytes::Bytes::from_static(&[1]))];
    let broken = Shard::load(Kind::Partition, &unknown).unwrap_err();
    assert!(broken.why.contains("kind 99"), "{broken}");
}

#[test]
fn a_log_with_a_hole_a_repeat_or_an_older_term_stops_the_shard() {
    for (term, index) in [(5, 12), (5, 10), (5, 9), (4, 11), (5, u64::MAX)] {
        let mut shard = Shard::new(Kind::Partition);
        for index in 1..=10 {
            shard.skip(LogId { term: Term(5), index: LogIndex(index) }).unwrap();
        }
        let at = LogId { term: Term(term), index: LogIndex(index) };
        let broken = shard.skip(at).unwrap_err();
        assert_eq!(shard.broken(), Some(&broken));
        let next = LogId { term: Term(5), index: LogIndex(11) };
        assert_eq!(shard.skip(next), Err(broken), "it stays so");
    }
    let first = LogId { term: Term(1), index: LogIndex(2) };
    assert!(Shard::new(Kind::Partition).skip(first).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn noise_is_no_command(bytes in proptest::collection::vec(any::<u8>(), 0..200), kind in 0u8..80) {
        let _ = Command::decode(&bytes);
        let _ = Command::decode(&[&[1, kind][..], &bytes].concat());
    }

    #[test]
    fn noise_is_no_state(
        rows in proptest::collection::vec(
            (proptest::collection::vec(any::<u8>(), 0..10), proptest::collection::vec(any::<u8>(), 0..60)),
            0..6,
        ),
        kind in 0u8..80,
    ) {
        let rows: Vec<_> = rows
            .into_iter()
            .map(|(key, value)| ([&[kind][..], &key].concat().into(), [&[1][..], &value].concat().into()))
            .collect();
        for kind in [Kind::Partition, Kind::Controller, Kind::Coordinator] {
            let _ = Shard::load(kind, &rows);
        }
    }
}
