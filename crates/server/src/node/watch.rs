//! What the node learns from its broker: whether it is ready, and where its peers are.

use crate::grpc::report_health;
use crate::http::{Pages, Readiness};
use crate::peer::PeerTransport;
use crate::shutdown::{Phase, Phases};
use flotilla_broker::Broker;
use std::sync::Arc;
use std::time::Duration;
use tonic_health::server::HealthReporter;

/// Readiness is looked at when routes change, and this often besides.
const LOOK: Duration = Duration::from_millis(100);

/// Keeps the probe's page and the health service true until the node drains.
pub(super) async fn readiness(broker: Arc<Broker>, pages: Pages, health: HealthReporter, phases: Phases) {
    let mut routes = broker.watch_routes();
    while phases.now() < Phase::Draining {
        let ready = broker.is_ready();
        let readiness = match broker.quarantined() {
            Some(why) => Readiness::Not(format!("quarantined: {why}")),
            None if ready => match broker.groups_away() {
                None => Readiness::Ready,
                Some(why) => Readiness::ReadyBut(format!("coordinators: {why}")),
            },
            None => Readiness::Not("the cluster's controller has no leader yet".to_owned()),
        };
        if pages.set(readiness.clone()) {
            report_health(&health, ready).await;
            tracing::info!("readiness: {readiness:?}");
        }
        if ready {
            phases.reach(Phase::Serving);
        }
        tokio::select! {
            () = phases.reached(Phase::Draining) => break,
            changed = routes.changed() => if changed.is_err() { break },
            () = tokio::time::sleep(LOOK) => {}
        }
    }
    pages.set(Readiness::Not("stopping".to_owned()));
    report_health(&health, false).await;
}

/// Tells the transport of every node of the cluster, as the controller names them.
pub(super) async fn peers(broker: Arc<Broker>, transport: Arc<PeerTransport>, phases: Phases) {
    let mut routes = broker.watch_routes();
    loop {
        let nodes = Arc::clone(&routes.borrow_and_update().nodes);
        for (id, node) in nodes.iter() {
            transport.learn(*id, &node.peer);
        }
        tokio::select! {
            () = phases.reached(Phase::Closing) => return,
            changed = routes.changed() => if changed.is_err() { return },
        }
    }
}
