//! What may happen to a group, and how often.

use super::model::SLOTS;
use proptest::prelude::*;

/// What happens next.
#[derive(Clone, Debug)]
pub enum Op {
    Join {
        slot: usize,
        wish: usize,
        lost: bool,
    },
    Beat {
        slot: usize,
        lost: bool,
    },
    Wish {
        slot: usize,
        wish: usize,
    },
    Leave {
        slot: usize,
        temporary: bool,
    },
    Expire {
        slot: usize,
    },
    Overdue {
        slot: usize,
    },
    Work {
        slot: usize,
    },
    /// Sends a commit that arrives later.
    Send {
        slot: usize,
    },
    Arrive {
        which: usize,
    },
    Seek {
        which: usize,
        to: u64,
    },
    Topic {
        number: usize,
        partitions: u32,
    },
    Tell,
    NewLeader {
        behind: usize,
    },
}

/// Anything, with what matters most most often.
pub fn op() -> impl Strategy<Value = Op> {
    let slot = || 0..SLOTS;
    prop_oneof![
        4 => (slot(), 0..6usize, any::<bool>()).prop_map(|(slot, wish, lost)| Op::Join { slot, wish, lost }),
        12 => (slot(), prop::bool::weighted(0.2)).prop_map(|(slot, lost)| Op::Beat { slot, lost }),
        1 => (slot(), 0..6usize).prop_map(|(slot, wish)| Op::Wish { slot, wish }),
        2 => (slot(), any::<bool>()).prop_map(|(slot, temporary)| Op::Leave { slot, temporary }),
        1 => slot().prop_map(|slot| Op::Expire { slot }),
        1 => slot().prop_map(|slot| Op::Overdue { slot }),
        4 => slot().prop_map(|slot| Op::Work { slot }),
        4 => slot().prop_map(|slot| Op::Send { slot }),
        4 => (0..8usize).prop_map(|which| Op::Arrive { which }),
        1 => (0..20usize, 0..5u64).prop_map(|(which, to)| Op::Seek { which, to }),
        2 => (0..3usize, 0..6u32).prop_map(|(number, partitions)| Op::Topic { number, partitions }),
        2 => Just(Op::Tell),
        1 => (0..4usize).prop_map(|behind| Op::NewLeader { behind }),
    ]
}
