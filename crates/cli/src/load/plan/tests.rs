//! Bounds are said, and records are due by the rate alone.

use super::*;

#[test]
fn bounds_are_said_with_name_value_and_limit() {
    assert_eq!(window("1"), Ok(1));
    assert_eq!(window("0").unwrap_err(), "--window is 0, expected 1 to 65536");
    assert!(in_flight("6").unwrap_err().contains("expected 1 to 5"));
    assert!(rate("-1").is_err() && rate("inf").is_err() && rate("x").is_err());
    assert_eq!(rate("250/s"), Ok(250.0));
}

fn plan(rate_each: f64, records_each: u64) -> Plan {
    Plan {
        run: 1,
        topic: "load".to_owned(),
        partitions: 1,
        rate_each,
        rate: rate_each,
        duration: Duration::from_secs(1),
        window: WINDOW_MAX,
        records_each,
        producers: 1,
        size: 48,
        options: ProducerOptions::default(),
    }
}

/// Nothing drifts: after an hour as many are due as the rate says, and each at its time.
#[test]
fn records_are_due_by_the_rate_and_by_nothing_else() {
    let plan = plan(300.0, u64::MAX);
    assert!(plan.is_paced());
    assert_eq!((plan.due(Duration::ZERO), plan.due_at(0)), (1, Duration::ZERO));
    let hour = Duration::from_secs(3_600);
    assert_eq!(plan.due(hour), 300 * 3_600 + 1);
    assert_eq!(plan.due_at(300 * 3_600), hour);
    for number in [1, 299, 1_234_567] {
        let at = plan.due_at(number);
        let moment = Duration::from_micros(1);
        let (before, after) = (at.saturating_sub(moment), at + moment);
        assert_eq!((plan.due(before), plan.due(after)), (number, number + 1));
    }
}

#[test]
fn a_count_bounds_what_is_due_and_no_rate_means_all_at_once() {
    assert_eq!(plan(10.0, 3).due(Duration::from_secs(60)), 3);
    let flat_out = plan(0.0, 7);
    assert!(!flat_out.is_paced());
    assert_eq!((flat_out.due(Duration::ZERO), flat_out.due_at(6)), (7, Duration::ZERO));
}
