//! What can be tried here is said first; what cannot is a failure, not a silence.

use flotilla_tests::capabilities::{self, Capability};

/// Whether power cuts can be made. Panics where they cannot, unless `FLOTILLA_CHAOS_OPTIONAL=1`.
pub fn power_cuts() -> bool {
    let probed = capabilities::probe();
    println!("{}", capabilities::table(&probed));
    let missing: Vec<&Capability> = probed.iter().filter(|c| c.missing.is_some()).collect();
    if missing.is_empty() {
        return true;
    }
    assert!(
        std::env::var_os("FLOTILLA_CHAOS_OPTIONAL").is_some_and(|v| v == "1"),
        "power cuts need root, loop devices, ext4 and xfs; this machine lacks some of it:\n{}\
         Set FLOTILLA_CHAOS_OPTIONAL=1 to go on without.",
        capabilities::table(&probed)
    );
    println!("going on without: FLOTILLA_CHAOS_OPTIONAL=1");
    false
}

#[test]
fn this_machine_can_cut_power() {
    power_cuts();
}
