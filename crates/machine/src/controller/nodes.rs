//! The nodes of the cluster. A node id stands for one data directory and is never used again.

use super::command::NodeSpec;
use super::outcome::{Outcome, Refusal};
use super::placement::list;
use crate::encoding::fields;
use crate::outcome::Broken;
use crate::row::{self, Row, RowKind};
use bytes::Bytes;
use flotilla_types::{ChangeSet, NodeId, StoreId};
use std::collections::BTreeMap;

/// Most nodes ever, retired ones included.
pub const NODES_MAX: usize = 10_000;
/// Longest endpoint or rack, in bytes.
const TEXT_MAX: usize = 255;

/// A node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Where peers reach it, `host:port`.
    pub peer: String,
    /// Where clients reach it, `host:port`.
    pub client: String,
    /// What it shares its fate with.
    pub rack: Option<String>,
    /// Its data directory, once it has registered.
    pub store: Option<StoreId>,
    /// Out for good: it carries nothing and its id is not accepted.
    pub retired: bool,
}

fields!(Node { peer, client, rack, store, retired });

impl Node {
    fn new(spec: &NodeSpec, store: Option<StoreId>) -> Self {
        let NodeSpec { id: _, peer, client, rack } = spec.clone();
        Self { peer, client, rack, store, retired: false }
    }
}

/// All of them, by id.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Nodes(BTreeMap<NodeId, Node>);

impl Nodes {
    pub fn all(&self) -> &BTreeMap<NodeId, Node> {
        &self.0
    }

    /// Refuses a node that cannot be given replicas.
    pub fn check_usable(&self, node: NodeId) -> Result<&Node, Refusal> {
        match self.0.get(&node) {
            None => Err(Refusal::NodeUnknown { node }),
            Some(known) if known.retired => Err(Refusal::NodeRetired { node }),
            Some(known) => Ok(known),
        }
    }

    /// The nodes a cluster begins with.
    pub fn bootstrap(&mut self, specs: &[NodeSpec], changes: &mut ChangeSet) -> Result<(), Refusal> {
        let expected = "expected at least one node, each once";
        let ids: std::collections::BTreeSet<_> = specs.iter().map(|spec| spec.id).collect();
        if specs.is_empty() || ids.len() != specs.len() {
            return Err(invalid("nodes", list(specs.iter().map(|spec| spec.id)), expected));
        }
        if specs.len() > NODES_MAX {
            return Err(Refusal::LimitReached { what: "nodes", limit: NODES_MAX as u64 });
        }
        specs.iter().try_for_each(check_spec)?;
        specs.iter().for_each(|spec| self.put(spec.id, Node::new(spec, None), changes));
        Ok(())
    }

    pub fn register(
        &mut self,
        spec: &NodeSpec,
        store: StoreId,
        changes: &mut ChangeSet,
    ) -> Result<Outcome, Refusal> {
        check_spec(spec)?;
        let node = spec.id;
        if self.0.contains_key(&node) {
            let known = self.check_usable(node)?;
            if let Some(known) = known.store
                && known != store
            {
                return Err(Refusal::StoreMismatch { node, known, given: store });
            }
        } else if self.0.len() >= NODES_MAX {
            return Err(Refusal::LimitReached { what: "nodes", limit: NODES_MAX as u64 });
        }
        let owner = self.0.iter().find(|(id, other)| **id != node && other.store == Some(store));
        if let Some((owner, _)) = owner {
            return Err(Refusal::StoreTaken { store, owner: *owner, given: node });
        }
        self.put(node, Node::new(spec, Some(store)), changes);
        Ok(Outcome::NodeKnown { node })
    }

    pub fn update(&mut self, spec: &NodeSpec, changes: &mut ChangeSet) -> Result<Outcome, Refusal> {
        check_spec(spec)?;
        let store = self.check_usable(spec.id)?.store;
        self.put(spec.id, Node::new(spec, store), changes);
        Ok(Outcome::NodeKnown { node: spec.id })
    }

    pub fn retire(
        &mut self,
        node: NodeId,
        replicas: usize,
        changes: &mut ChangeSet,
    ) -> Result<Outcome, Refusal> {
        let known = self.0.get(&node).ok_or(Refusal::NodeUnknown { node })?;
        if replicas > 0 {
            return Err(Refusal::NodeInUse { node, replicas });
        }
        self.put(node, Node { retired: true, ..known.clone() }, changes);
        Ok(Outcome::NodeRetired { node })
    }

    /// Writes a node's row if it is not so already.
    fn put(&mut self, id: NodeId, node: Node, changes: &mut ChangeSet) {
        if self.0.get(&id) != Some(&node) {
            row::put(changes, RowKind::Node, &id.get().to_be_bytes(), &node);
            self.0.insert(id, node);
        }
    }

    pub fn rows(&self, out: &mut Vec<(Bytes, Bytes)>) {
        out.extend(self.0.iter().map(|(id, node)| row::row(RowKind::Node, &id.get().to_be_bytes(), node)));
    }

    pub fn load(&mut self, row: Row<'_>) -> Result<(), Broken> {
        self.0.insert(NodeId(row.id_u32()?), row.value()?);
        Ok(())
    }
}

fn check_spec(spec: &NodeSpec) -> Result<(), Refusal> {
    let expected = "expected 1 to 2147483647";
    if !(1..=i32::MAX as u32).contains(&spec.id.get()) {
        return Err(invalid("node_id", spec.id.to_string(), expected));
    }
    let rack = spec.rack.as_deref().map(|rack| ("rack", rack));
    for (field, text) in [("peer", &*spec.peer), ("client", &*spec.client)].into_iter().chain(rack) {
        if text.is_empty() || text.len() > TEXT_MAX || !text.bytes().all(|b| b.is_ascii_graphic()) {
            let shown: String = text.chars().take(TEXT_MAX).collect();
            return Err(invalid(field, format!("{shown:?}"), "expected 1 to 255 visible ASCII characters"));
        }
    }
    Ok(())
}

fn invalid(field: &'static str, value: String, expected: &'static str) -> Refusal {
    Refusal::Invalid { field, value, expected }
}
