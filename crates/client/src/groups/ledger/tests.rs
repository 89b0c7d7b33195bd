//! What the ledger promises, without a network.

use super::*;

fn key(partition: u32) -> Key {
    (TopicName::new("orders").unwrap(), PartitionId(partition))
}

fn begin(committed: Option<u64>) -> Begin {
    Begin {
        assignment_epoch: 3,
        topic_id: None,
        committed: committed.map(Offset),
        otherwise: Some(Position::Start),
    }
}

fn reading(ledger: &Ledger, partition: u32) -> u64 {
    ledger.readable()[&key(partition)].number
}

/// Hands out up to `next`.
fn hand_out(ledger: &mut Ledger, partition: u32, next: u64) -> bool {
    let Some(reading) = ledger.readable().get(&key(partition)).map(|r| r.number) else { return false };
    ledger.hand_out(&key(partition), reading, Offset(next), Term(1))
}

fn offsets(pending: &[Pending]) -> Vec<(u32, u64)> {
    pending.iter().map(|p| (p.key.1.get(), p.offset.get())).collect()
}

fn with(partitions: u32, committed: Option<u64>) -> Ledger {
    let mut ledger = Ledger::default();
    (0..partitions).for_each(|p| ledger.assign(key(p), begin(committed)));
    ledger.activate();
    ledger
}

#[test]
fn a_record_is_processed_when_more_is_asked_for_and_not_before() {
    let mut ledger = with(1, Some(5));
    assert_eq!(ledger.readable()[&key(0)].start, Some(Position::Offset(Offset(5))));
    assert!(hand_out(&mut ledger, 0, 8));
    assert_eq!(ledger.processed(|_| true), []);
    assert!(!ledger.all_processed(), "nobody waits for it");
    assert_eq!(offsets(&ledger.processed(|_| true)), [(0, 8)]);
    let pending = ledger.processed(|_| true);
    ledger.stored(&pending[0]);
    assert_eq!(ledger.processed(|_| true), [], "what is stored is not stored again");
    assert_eq!(ledger.committed(&key(0)), Some(Offset(8)));
}

#[test]
fn nothing_is_read_before_the_listener_has_heard_of_it() {
    let mut ledger = Ledger::default();
    ledger.assign(key(0), begin(None));
    assert!(ledger.readable().is_empty());
    ledger.activate();
    assert_eq!(ledger.readable().len(), 1);
}

#[test]
fn a_draining_partition_hands_nothing_out_and_is_drained_by_the_next_poll() {
    let mut ledger = with(2, Some(0));
    assert!(hand_out(&mut ledger, 0, 4));
    let before = reading(&ledger, 0);
    ledger.drain(|k| *k == key(0));
    assert!(!ledger.hand_out(&key(0), before, Offset(9), Term(1)));
    assert!(hand_out(&mut ledger, 1, 1), "others go on");
    assert!(!ledger.is_drained(&key(0)));
    assert!(ledger.all_processed());
    assert!(ledger.is_drained(&key(0)));
    assert_eq!(offsets(&ledger.processed(|k| *k == key(0))), [(0, 4)]);
}

#[test]
fn committed_offsets_go_back_only_after_a_seek() {
    let mut ledger = with(1, Some(50));
    let serial = ledger.serial(&key(0)).unwrap();
    assert_eq!(ledger.explicit(&key(0), serial, Offset(40), ""), None);
    assert_eq!(ledger.explicit(&key(0), serial, Offset(50), ""), None);
    assert!(ledger.explicit(&key(0), serial, Offset(51), "").is_some());
    assert!(ledger.seek(&key(0), Position::Offset(Offset(10))));
    assert_eq!(offsets(&ledger.processed(|_| true)), [(0, 10)]);
    ledger.stored(&ledger.processed(|_| true)[0].clone());
    assert_eq!(ledger.committed(&key(0)), Some(Offset(10)));
    assert_eq!(ledger.explicit(&key(0), serial, Offset(9), ""), None, "the seek allowed one step back");
}

#[test]
fn an_answer_that_comes_after_a_seek_does_not_undo_it() {
    let mut ledger = with(1, Some(0));
    hand_out(&mut ledger, 0, 20);
    ledger.all_processed();
    let on_its_way = ledger.processed(|_| true);
    let old = reading(&ledger, 0);
    ledger.seek(&key(0), Position::Offset(Offset(5)));
    assert!(!ledger.hand_out(&key(0), old, Offset(30), Term(1)), "fetched for the place before");
    ledger.stored(&on_its_way[0]);
    assert_eq!(offsets(&ledger.processed(|_| true)), [(0, 5)]);
}

#[test]
fn an_answer_for_an_earlier_holding_is_forgotten() {
    let mut ledger = with(1, Some(0));
    hand_out(&mut ledger, 0, 20);
    ledger.all_processed();
    let late = ledger.processed(|_| true);
    ledger.assign(key(0), begin(Some(7)));
    ledger.activate();
    ledger.stored(&late[0]);
    assert_eq!(ledger.committed(&key(0)), Some(Offset(7)));
    assert_eq!(ledger.explicit(&key(0), late[0].serial, Offset(30), ""), None);
}

#[test]
fn a_start_at_the_end_is_kept_so_that_the_next_owner_leaves_nothing_out() {
    let mut ledger = Ledger::default();
    ledger.assign(key(0), Begin { otherwise: Some(Position::End), ..begin(None) });
    ledger.activate();
    ledger.began(&key(0), reading(&ledger, 0), Offset(100));
    assert_eq!(offsets(&ledger.processed(|_| true)), [(0, 100)]);
}

#[test]
fn a_pause_lasts_over_a_seek() {
    let mut ledger = with(1, Some(0));
    assert!(ledger.pause(&key(0), true));
    ledger.seek(&key(0), Position::Offset(Offset(9)));
    assert!(ledger.readable()[&key(0)].paused);
    assert!(!ledger.pause(&key(7), true), "not held");
}
