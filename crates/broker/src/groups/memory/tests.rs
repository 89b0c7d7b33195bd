//! Sessions, terms, who is gone.

use super::*;
use flotilla_types::LogIndex;

const SHARD: ShardId = ShardId(3);
const SESSION: Duration = Duration::from_secs(45);

fn place(member: &str) -> Place {
    (SHARD, GroupId::new("g").unwrap(), MemberId::new(member).unwrap())
}

fn at(seconds: u64) -> (Monotonic, TimestampMs) {
    (Monotonic(Duration::from_secs(seconds)), seconds as i64 * 1000)
}

#[test]
fn a_session_counts_from_the_last_sign_of_life() {
    let memory = Memory::default();
    assert!(!memory.heard(&place("a"), "", at(0), SESSION), "not led here: nothing is remembered");
    memory.begin(SHARD, Term(1));
    assert!(memory.heard(&place("a"), "", at(0), SESSION));
    memory.heard(&place("a"), "", at(10), SESSION);
    assert_eq!(memory.due(at(54).0), []);
    assert_eq!(memory.due(at(55).0), [Timer::Session(place("a"))]);
}

#[tokio::test]
async fn the_end_of_a_term_wakes_who_waits_and_forgets_all() {
    let memory = Memory::default();
    memory.begin(SHARD, Term(1));
    memory.heard(&place("a"), "", at(0), SESSION);
    memory.tell(&place("a"), Told { revision: LogIndex(7), paused: false });
    let mut news = memory.hold(&place("a")).unwrap();
    memory.begin(SHARD, Term(2));
    assert!(news.changed().await.is_err());
    assert!(!memory.knows(SHARD, Term(1)) && memory.knows(SHARD, Term(2)));
    assert_eq!((memory.told(&place("a")), memory.next_due()), (None, None));
    memory.end(SHARD);
    assert!(memory.led().is_empty());
}

#[test]
fn who_broke_off_or_is_silent_without_being_held_is_gone() {
    let memory = Memory::default();
    memory.begin(SHARD, Term(1));
    let gone = |seconds| memory.is_gone(&place("a"), at(seconds).0, Duration::from_secs(5));
    assert!(!gone(99), "never heard of in this term");
    memory.heard(&place("a"), "", at(0), SESSION);
    assert!(!gone(4) && gone(6));
    let _news = memory.hold(&place("a")).unwrap();
    assert!(!gone(6), "a heartbeat is held");
    memory.release(&place("a"), false);
    assert!(gone(1), "its connection broke");
    memory.heard(&place("a"), "", at(2), SESSION);
    assert!(!gone(3));
}
