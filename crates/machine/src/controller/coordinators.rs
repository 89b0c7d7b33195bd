//! Where coordinators' replicas are to be: placed once, by number.

use super::nodes::Nodes;
use super::outcome::{Outcome, Refusal};
use super::placement::{Replica, check, places};
use crate::outcome::Broken;
use crate::row::{self, Row, RowKind};
use bytes::Bytes;
use flotilla_types::{ChangeSet, LogIndex, NodeId, ShardId};

/// A coordinator and where its replicas are to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacedCoordinator {
    /// Its shard.
    pub shard: ShardId,
    /// Its replicas; the first is the preferred leader.
    pub replicas: Vec<Replica>,
}

/// All of them, by number.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Coordinators(Vec<PlacedCoordinator>);

impl Coordinators {
    pub fn all(&self) -> &[PlacedCoordinator] {
        &self.0
    }

    pub fn of(&self, shard: ShardId) -> Option<&PlacedCoordinator> {
        self.0.iter().find(|placed| placed.shard == shard)
    }

    /// What is placed already counts.
    pub fn place(
        &mut self,
        at: LogIndex,
        placement: &[Vec<NodeId>],
        nodes: &Nodes,
        changes: &mut ChangeSet,
    ) -> Result<Outcome, Refusal> {
        if self.0.is_empty() {
            let most = ShardId::FIRST_PARTITION.get() as usize - 1;
            if placement.is_empty() || placement.len() > most {
                return Err(Refusal::Invalid {
                    field: "placement",
                    value: placement.len().to_string(),
                    expected: "expected 1 to 1023 coordinators",
                });
            }
            placement.iter().try_for_each(|replicas| check(nodes, replicas))?;
            for (number, replicas) in (0u32..).zip(placement) {
                let Some(shard) = ShardId::coordinator(number) else { break };
                let placed = PlacedCoordinator { shard, replicas: places(&[], replicas, at) };
                row::put(changes, RowKind::PlacedCoordinator, &shard.get().to_be_bytes(), &placed.replicas);
                self.0.push(placed);
            }
        }
        Ok(Outcome::CoordinatorsPlaced { shards: self.0.iter().map(|placed| placed.shard).collect() })
    }

    pub fn rows(&self, out: &mut Vec<(Bytes, Bytes)>) {
        out.extend(self.0.iter().map(|placed| {
            row::row(RowKind::PlacedCoordinator, &placed.shard.get().to_be_bytes(), &placed.replicas)
        }));
    }

    pub fn load(&mut self, row: Row<'_>) -> Result<(), Broken> {
        let shard = ShardId(row.id_u32()?);
        self.0.push(PlacedCoordinator { shard, replicas: row.value()? });
        Ok(())
    }
}
