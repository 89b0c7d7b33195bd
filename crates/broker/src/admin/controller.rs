//! What the controller's leader does with a call that reached it, and a partition's leader with its own.

use super::{Error, Topic, UpdateTopic, mask, validate};
use crate::broker::Broker;
use crate::disk::DiskState;
use crate::forward::{Answer, Call, TopicDto, checked_name};
use crate::planner::placement::{self, Candidate};
use flotilla_machine::controller::{Command, Controller, NodeSpec, Outcome, Refusal};
use flotilla_machine::{Command as Entry, Outcome as Applied};
use flotilla_raft::{ProposeError, Shard};
use flotilla_types::error::Describe;
use flotilla_types::topic::TopicConfig;
use flotilla_types::{NodeId, Offset, ShardId, TopicId, TopicName};
use std::collections::BTreeMap;
use std::sync::Arc;

impl Broker {
    /// Does what another node, or this one, asks.
    pub(crate) async fn carry_out(&self, call: Call) -> Result<Answer, Error> {
        match call {
            Call::CreateTopic { topic, validate_only, request } => {
                self.create_here(&topic, validate_only, request).await
            }
            Call::UpdateTopic { topic, id, fields, validate_only } => {
                let update = UpdateTopic {
                    name: checked_name(&topic.name)?,
                    id: id.map(TopicId),
                    fields,
                    config: (&topic.config).into(),
                    labels: topic.labels,
                    partition_count: topic.partition_count,
                    validate_only,
                };
                self.update_here(&update).await
            }
            Call::DeleteTopic { name, id } => self.delete_here(&name, id.map(TopicId)).await,
            Call::Trim { shard, before } => self.trim_here(ShardId(shard), before.map(Offset)).await,
            Call::RegisterNode { id, peer, client, rack, store } => {
                let node = NodeSpec { id: NodeId(id), peer, client, rack };
                self.command(Command::RegisterNode { node, store }).await.map(|_| self.done())
            }
            Call::AllocateProducerIds { count } => {
                match self.command(Command::AllocateProducerIds { count }).await? {
                    Outcome::ProducerIds { first, count } => {
                        Ok(Answer::ProducerIds { first: first.get(), count })
                    }
                    other => Err(unexpected(&other)),
                }
            }
            Call::Version => self.version_here().await,
            Call::Report { shards } => {
                let shards = shards.map(|shards| shards.into_iter().map(ShardId).collect());
                Ok(Answer::Report(Box::new(self.report(shards.as_ref()))))
            }
            Call::Transfer { shard, to } => self.transfer_here(ShardId(shard), to.map(NodeId)).await,
            Call::Ends { asked } => Ok(Answer::Ends(self.ends_here(asked).await)),
            Call::Group(call) => match self.coordinate(*call).await {
                Ok(answer) => Ok(Answer::Group(Box::new(answer))),
                Err(error) => Err(Error::Remote(Box::new(error.describe()))),
            },
            Call::Events { after, wait_ms } => Ok(self.events_here(after, wait_ms).await),
        }
    }

    async fn create_here(&self, dto: &TopicDto, validate_only: bool, request: u128) -> Result<Answer, Error> {
        let controller = self.controller()?;
        let wanted = dto.topic()?;
        if self.disk.state() != DiskState::Room {
            return Err(Error::DiskFull(self.info.id.get()));
        }
        let (existing, candidates, usable) = look(&controller, |intent| {
            (
                intent.topics().get(&wanted.name).map(|topic| topic.request),
                self.candidates(intent),
                usable(intent),
            )
        })?;
        if existing.is_some_and(|made_by| made_by != request) {
            return Err(Error::Exists(wanted.name.to_string()));
        }
        let partition_count =
            if wanted.partition_count == 0 { self.config.default_partitions } else { wanted.partition_count };
        let replication = match wanted.replication_factor {
            0 => self.config.default_replication.min(usable).max(1),
            asked => asked,
        };
        let placement = place(&candidates, partition_count, replication)?;
        let now = self.clock.wall();
        let mut topic = Topic { partition_count, replication_factor: replication, created_at: now, ..wanted };
        if !validate_only {
            let outcome = self
                .command(Command::CreateTopic {
                    name: topic.name.clone(),
                    config: topic.config.clone(),
                    labels: topic.labels.clone(),
                    placement,
                    now,
                    request,
                })
                .await?;
            match outcome {
                Outcome::TopicCreated { topic: id, shards } => {
                    topic.id = id;
                    topic.partition_count = shards.len() as u32;
                }
                other => return Err(unexpected(&other)),
            }
        }
        Ok(self.topic_answer(&topic))
    }

    async fn update_here(&self, update: &UpdateTopic) -> Result<Answer, Error> {
        let controller = self.controller()?;
        let (current, candidates) = look(&controller, |intent| {
            (intent.topics().get(&update.name).cloned(), self.candidates(intent))
        })?;
        let current =
            current.ok_or_else(|| Error::NotFound { what: "topic", name: update.name.to_string() })?;
        same(&update.name, current.id, update.id)?;
        mask::check(&update.fields)?;
        let (config, labels, count) = mask::merge(update, &current.config, &current.labels);
        config.check()?;
        validate::labels(&labels)?;
        let before = current.partitions.len() as u32;
        let after = count.unwrap_or(before);
        check_count(&config, before, after)?;
        let replicas = current.partitions.first().map_or(1, |placed| placed.replicas.len() as u32);
        let placement = place(&candidates, after - before, replicas)?;
        if !update.validate_only {
            if config != current.config || labels != current.labels {
                let (config, labels) = (config.clone(), labels.clone());
                self.command(Command::UpdateTopic { topic: current.id, config, labels }).await?;
            }
            if after > before {
                let from = before;
                self.command(Command::AddPartitions { topic: current.id, from, placement }).await?;
            }
        }
        let topic = Topic {
            name: update.name.clone(),
            id: current.id,
            partition_count: after,
            replication_factor: replicas,
            config,
            labels,
            created_at: current.created_at,
            partitions: Vec::new(),
        };
        Ok(self.topic_answer(&topic))
    }

    async fn delete_here(&self, name: &str, id: Option<TopicId>) -> Result<Answer, Error> {
        let controller = self.controller()?;
        let current = look(&controller, |intent| intent.topics().get(name).map(|topic| topic.id))?;
        let current = current.ok_or_else(|| Error::NotFound { what: "topic", name: name.to_owned() })?;
        same(&checked_name(name)?, current, id)?;
        self.command(Command::DeleteTopic { topic: current }).await?;
        Ok(self.done())
    }

    async fn trim_here(&self, id: ShardId, before: Option<Offset>) -> Result<Answer, Error> {
        let shard = self.shard(id).filter(|shard| shard.leadership().is_leader);
        let shard = shard.ok_or_else(|| Error::NoLeader("it moved".to_owned()))?;
        let end = shard.progress().high_watermark;
        let log_start = before.unwrap_or(end);
        if log_start > end {
            return Err(Error::OffsetOutOfRange { asked: log_start.get(), end: end.get() });
        }
        let trim = Entry::Trim { log_start, now: self.clock.wall() };
        match self.outcome(&shard, trim).await? {
            Applied::Trimmed { log_start } => Ok(Answer::Trimmed { log_start: log_start.get() }),
            Applied::TrimRefused { next_offset } => {
                Err(Error::OffsetOutOfRange { asked: log_start.get(), end: next_offset.get() })
            }
            other => Err(Error::Lost(format!("the partition answered {other:?} to a trim"))),
        }
    }

    /// Hands over the leadership of a shard that this node leads.
    async fn transfer_here(&self, id: ShardId, to: Option<NodeId>) -> Result<Answer, Error> {
        let shard = self.shard(id).filter(|shard| shard.leadership().is_leader);
        let shard = shard.ok_or_else(|| Error::NoLeader("it moved".to_owned()))?;
        let own = self.info.id;
        if to == Some(own) {
            return Ok(self.done());
        }
        let replicas = shard.replicas();
        let fit = replicas.iter().filter(|r| r.voter && r.node != own && self.is_online(r.node));
        let best = match to {
            None => fit.max_by_key(|r| r.matched).map(|r| r.node),
            Some(node) => fit.map(|r| r.node).find(|fit| *fit == node),
        };
        let Some(best) = best else {
            let node = to.unwrap_or(own).get();
            return Err(Error::NotTransferable {
                node,
                why: "it is no reachable voter of the partition".to_owned(),
            });
        };
        let moved = tokio::time::timeout(self.config.forward_timeout, shard.transfer_leadership(best)).await;
        match moved {
            Ok(Ok(())) => Ok(self.done()),
            Ok(Err(error)) => Err(Error::NotTransferable { node: best.get(), why: error.to_string() }),
            Err(_) => Err(Error::Lost("leadership did not move in time; it may yet".to_owned())),
        }
    }

    async fn version_here(&self) -> Result<Answer, Error> {
        let controller = self.controller()?;
        let confirmed = tokio::time::timeout(self.config.forward_timeout, controller.read_barrier()).await;
        match confirmed {
            Ok(Ok(_)) => {
                let version = look(&controller, |intent| intent.version().get())?;
                Ok(Answer::Version { version })
            }
            Ok(Err(error)) => Err(self.away(error)),
            Err(_) => Err(Error::ControllerAway("its majority did not answer in time".to_owned())),
        }
    }

    /// Proposes to the controller, which must be led here.
    pub(crate) async fn command(&self, command: Command) -> Result<Outcome, Error> {
        let controller = self.controller()?;
        match self.outcome(&controller, Entry::Controller(command)).await? {
            Applied::Controller(Outcome::Refused(refusal)) => Err(refused(refusal)),
            Applied::Controller(outcome) => Ok(outcome),
            other => Err(Error::Lost(format!("the controller answered {other:?}"))),
        }
    }

    /// Proposes and waits for the outcome, within the time of a control call.
    pub(crate) async fn outcome(&self, shard: &Shard, command: Entry) -> Result<Applied, Error> {
        let proposal = shard.propose(command, bytes::Bytes::new());
        match tokio::time::timeout(self.config.forward_timeout, proposal).await {
            Ok(Ok(outcome)) => Ok(outcome),
            Ok(Err(error)) => Err(self.away(error)),
            Err(_) => Err(Error::Lost("no outcome in time".to_owned())),
        }
    }

    fn away(&self, error: ProposeError) -> Error {
        match error {
            ProposeError::NotLeader { leader } => Error::NotController(self.routes().hint(leader)),
            error @ ProposeError::Lost { .. } => Error::Lost(error.to_string()),
            ProposeError::Broken { why } => Error::Refused(why),
            error => Error::ControllerAway(error.to_string()),
        }
    }

    fn controller(&self) -> Result<Arc<Shard>, Error> {
        self.leads_controller().ok_or_else(|| {
            let routes = self.routes();
            let other = routes.controller.filter(|(node, _)| *node != self.info.id);
            Error::NotController(routes.hint(other))
        })
    }

    fn done(&self) -> Answer {
        Answer::Done { version: self.version() }
    }

    fn version(&self) -> u64 {
        let controller = self.shard(ShardId::CONTROLLER);
        let version =
            controller.map(|shard| shard.read(|s| s.controller().map(|intent| intent.version().get())));
        version.flatten().unwrap_or(0)
    }

    fn topic_answer(&self, topic: &Topic) -> Answer {
        Answer::Topic { topic: topic.into(), version: self.version() }
    }

    /// Where replicas can go: nodes that are part of the cluster and reachable from here.
    fn candidates(&self, intent: &Controller) -> Vec<Candidate> {
        let mut loads: BTreeMap<NodeId, (u32, u32)> = BTreeMap::new();
        for topic in intent.topics().values() {
            for placed in &topic.partitions {
                for (place, node) in placed.nodes().enumerate() {
                    let load = loads.entry(node).or_default();
                    load.0 += 1;
                    load.1 += u32::from(place == 0);
                }
            }
        }
        let usable = intent.nodes().iter().filter(|(id, node)| !node.retired && self.is_online(**id));
        let candidate = |(id, node): (&NodeId, &flotilla_machine::controller::Node)| {
            let (replicas, leaders) = loads.get(id).copied().unwrap_or_default();
            Candidate { node: *id, rack: node.rack.clone().unwrap_or_default(), replicas, leaders }
        };
        usable.map(candidate).collect()
    }
}

fn place(candidates: &[Candidate], partitions: u32, replication: u32) -> Result<Vec<Vec<NodeId>>, Error> {
    placement::place(candidates, partitions, replication)
        .ok_or(Error::NotEnoughNodes { wanted: replication, nodes: candidates.len() as u32 })
}

fn usable(intent: &Controller) -> u32 {
    intent.nodes().values().filter(|node| !node.retired).count() as u32
}

fn look<T>(controller: &Shard, look: impl FnOnce(&Controller) -> T) -> Result<T, Error> {
    let looked = controller.read(|shard| shard.controller().map(look));
    looked.ok_or_else(|| Error::Refused("shard 0 is no controller".to_owned()))
}

fn same(name: &TopicName, found: TopicId, asked: Option<TopicId>) -> Result<(), Error> {
    match asked {
        Some(asked) if asked != found => {
            Err(Error::OtherTopic { name: name.to_string(), found: found.to_wire(), asked: asked.to_wire() })
        }
        _ => Ok(()),
    }
}

/// Partitions are only ever added, and not while message ids are remembered per partition: records of one
/// id would then go to another partition and be taken for new.
fn check_count(config: &TopicConfig, before: u32, after: u32) -> Result<(), Error> {
    if after < before {
        return Err(Error::invalid(
            "partition_count",
            after,
            format!("expected at least {before}, as it is"),
        ));
    }
    validate::partition_count(after)?;
    if after > before && config.dedup_window.is_some() {
        let expected = format!("expected {before} while config.dedup_window is set");
        return Err(Error::invalid("partition_count", after, expected));
    }
    Ok(())
}

fn refused(refusal: Refusal) -> Error {
    match refusal {
        Refusal::TopicExists { name, .. } => Error::Exists(name.to_string()),
        Refusal::TopicUnknown { topic } => Error::NotFound { what: "topic", name: topic.to_wire() },
        Refusal::NodeUnknown { node } => Error::NotFound { what: "node", name: node.to_string() },
        Refusal::InvalidConfig(error) => Error::Config(error),
        Refusal::NotBootstrapped => Error::ControllerAway(refusal.to_string()),
        other => Error::Rules(Box::new(other)),
    }
}

fn unexpected(outcome: &Outcome) -> Error {
    Error::Lost(format!("the controller answered {outcome:?}"))
}
