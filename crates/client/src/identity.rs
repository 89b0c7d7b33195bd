//! Who a producer is towards a partition: id, epoch and the next sequence.
//!
//! Retries are safe because a batch keeps its stamp. When stamps can no longer be trusted (a batch was
//! given up with its outcome unknown), the epoch is bumped and counting starts again at 0: the partition
//! then refuses every late copy under the older epoch, so what was given up cannot appear after what
//! follows it.

use flotilla_types::{ProducerEpoch, ProducerId, ProducerStamp, Random, Sequence};

/// One producer's standing with one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    id: ProducerId,
    epoch: ProducerEpoch,
    next: Sequence,
}

impl Identity {
    /// A new producer id, as long as the cluster gives none out: 63 random bits, epoch 0. A partition
    /// takes an id it does not know, starting at sequence 0, for a new producer; two producers draw the
    /// same id with probability 2⁻⁶³. Asking the cluster for an id replaces this function alone.
    pub(crate) fn allocate(random: &dyn Random) -> Self {
        Self { id: ProducerId(random.bits() >> 1), epoch: ProducerEpoch(0), next: Sequence(0) }
    }

    /// The stamp of the next `records` records.
    pub(crate) fn stamp(&mut self, records: u32) -> ProducerStamp {
        let stamp = ProducerStamp { id: self.id, epoch: self.epoch, base_sequence: self.next };
        self.next = Sequence(self.next.get() + u64::from(records));
        stamp
    }

    /// Fences all that was stamped before and starts counting again.
    pub(crate) fn bump(&mut self) {
        self.epoch = self.epoch.next();
        self.next = Sequence(0);
    }

    /// Goes back to `sequence`, because nothing from there on was stored or will be.
    pub(crate) fn rewind(&mut self, sequence: Sequence) {
        self.next = sequence;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flotilla_types::random::Seeded;

    #[test]
    fn sequences_count_records_and_a_bump_starts_again() {
        let mut identity = Identity::allocate(&Seeded::new(1));
        assert!(identity.id.get() < 1 << 63, "fits the contract's int64");
        assert_eq!(identity.stamp(3).base_sequence, Sequence(0));
        assert_eq!(identity.stamp(2).base_sequence, Sequence(3));
        identity.rewind(Sequence(3));
        assert_eq!(identity.stamp(1).base_sequence, Sequence(3));
        let before = identity.stamp(1);
        identity.bump();
        let after = identity.stamp(1);
        assert_eq!((after.base_sequence, after.epoch), (Sequence(0), before.epoch.next()));
        assert_eq!(after.id, before.id);
    }
}
