//! The start, in order: listeners, store, transport, Raft, broker, services.

use super::{Addresses, Node, StartError, blocking, own_entry, spec, watch};
use crate::config::{Config, InitialNode};
use crate::grpc;
use crate::http::{self, Pages, Readiness};
use crate::identity::{Book, Identity, KnownStores};
use crate::listener::{self, Settings};
use crate::metrics::Metrics;
use crate::peer::{PeerService, PeerTransport};
use crate::shutdown::{Phase, Phases};
use flotilla_broker::store::{Expected, OpenMode, Opened, RocksStore, Store};
use flotilla_broker::{Broker, BrokerObserver, NodeInfo, Parts, Serving};
use flotilla_raft::{Host, Inbound, Transport};
use flotilla_types::random::Seeded;
use flotilla_types::time::SystemClock;
use flotilla_types::{Clock, Random, StoreId};
use prometheus_client::registry::Registry;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

pub(super) async fn start(config: Config, mode: OpenMode) -> Result<Node, StartError> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let random: Arc<dyn Random> = Arc::new(Seeded::from_entropy());
    let phases = Phases::default();
    let metrics = Metrics::default();
    let broker_metrics = flotilla_broker::Metrics::default();
    let mut registry = Registry::default();
    metrics.register(&mut registry);
    broker_metrics.register(&mut registry);

    // An address that is taken should be said before anything is read from disk.
    let (client, client_at) = bind("listen.client", &config.listen.client)?;
    let (peer, peer_at) = bind("listen.peer", &config.listen.peer)?;
    let (http, http_at) = bind("listen.http", &config.listen.http)?;
    let addresses = Addresses { client: client_at, peer: peer_at, http: http_at };

    // Whoever supervises the process must not take reading a long log for death.
    let pages = Pages::default();
    let http = TcpListener::from_std(http).map_err(|error| StartError::System(error.to_string()))?;
    let mut probes = JoinSet::new();
    probes.spawn(http::serve(http, pages.clone(), phases.clone()));

    let opened = open(&config, mode, Arc::clone(&clock)).await?;
    let (store, quarantined, store_id) = match opened {
        Opened::Sound(store) => {
            store.metrics().register(&mut registry);
            let id = store.identity().store;
            (Some(Arc::new(store) as Arc<dyn Store>), None, id)
        }
        Opened::Quarantined(quarantine) => {
            let id = quarantine.identity.map_or(StoreId(uuid::Uuid::nil()), |identity| identity.store);
            (None, Some(quarantine.to_string()), id)
        }
    };

    let peer_runtime = peer_runtime(&config)?;
    let own = own_entry(&config, &addresses);
    let listed =
        if config.initial_nodes.is_empty() { vec![own.clone()] } else { config.initial_nodes.clone() };
    let me = Identity {
        cluster: config.cluster_id,
        node: config.node_id,
        store: store_id,
        incarnation: random.bits(),
    };
    let stores = match &store {
        Some(_) => KnownStores::open(&config.data_dir.join("peers")),
        None => Ok(KnownStores::default()),
    };
    let transport = PeerTransport::new(
        Book::new(me, stores.map_err(StartError::System)?),
        config.peer.clone(),
        metrics.clone(),
        Arc::clone(&random),
        peer_runtime.handle().clone(),
    );
    listed.iter().for_each(|node| transport.learn(node.node_id, &node.peer));

    let on_fatal = || Box::new(|why: &str| -> () { crate::exit::fatal(why) }) as flotilla_broker::OnFatal;
    let observer = BrokerObserver::new(&config.broker, broker_metrics, on_fatal());
    let serving = match &store {
        None => Err(quarantined.clone().unwrap_or_default()),
        Some(store) => {
            let host = Host::start(
                config.raft.clone(),
                config.node_id,
                Arc::clone(store),
                Arc::clone(&transport) as Arc<dyn Transport>,
                Arc::clone(&observer) as Arc<dyn flotilla_raft::Observer>,
                Arc::clone(&clock),
                Arc::clone(&random),
            );
            // There, so that whatever Raft starts runs there too.
            let host =
                peer_runtime.spawn(host).await.map_err(|error| StartError::System(error.to_string()))??;
            host.metrics().register(&mut registry);
            Ok(Serving { host, store: Arc::clone(store) })
        }
    };

    pages.show(registry);

    let service = PeerService::new(Arc::clone(&transport));
    if let Ok(serving) = &serving {
        transport.start(&(Arc::clone(&serving.host) as Arc<dyn Inbound>));
        serve_peers(peer, &config, &service, &phases, &metrics, &clock, &peer_runtime);
    }
    let broker = Broker::start(
        config.broker.clone(),
        Parts {
            info: node_info(&config, &listed, &own),
            serving,
            observer,
            transport: Arc::clone(&transport) as Arc<dyn Transport>,
            forward: Arc::clone(&transport) as Arc<dyn flotilla_broker::Forward>,
            clock: Arc::clone(&clock),
            random,
            work_in_place: false,
        },
    )
    .await?;
    service.answer_with(Arc::clone(&broker) as Arc<dyn crate::peer::Answer>);

    let (health, _) = tonic_health::server::health_reporter();
    grpc::report_health(&health, false).await;
    let api = grpc::Api {
        broker: Arc::clone(&broker),
        calls: grpc::call::Calls::new(Arc::clone(&clock), config.limits.deadline, metrics.clone()),
        limits: Arc::new(config.limits.clone()),
        phases: phases.clone(),
        metrics: metrics.clone(),
    };
    let routes = grpc::routes(api, health.clone()).map_err(|error| StartError::System(error.to_string()))?;
    let client = TcpListener::from_std(client).map_err(|error| StartError::System(error.to_string()))?;
    let mut tasks = JoinSet::new();
    let settings = Settings::client(&config.limits);
    tasks.spawn(listener::serve(client, routes, settings, phases.clone(), Phase::Closing, metrics, clock));
    tasks.spawn(watch::readiness(Arc::clone(&broker), pages.clone(), health, phases.clone()));
    tasks.spawn(watch::peers(Arc::clone(&broker), Arc::clone(&transport), phases.clone()));
    if let Some(why) = &quarantined {
        pages.set(Readiness::Not(format!("quarantined: {why}")));
    }
    tracing::info!(
        node = %config.node_id, client = %client_at, peer = %peer_at, http = %http_at,
        data = %config.data_dir.display(), "started"
    );
    let peer_runtime = Some(peer_runtime);
    Ok(Node { broker, addresses, quarantined, phases, pages, store, transport, tasks, probes, peer_runtime })
}

fn bind(
    key: &'static str,
    address: &str,
) -> Result<(std::net::TcpListener, std::net::SocketAddr), StartError> {
    let failed = |error| StartError::Listen { key, address: address.to_owned(), error };
    let listener = std::net::TcpListener::bind(address).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    let at = listener.local_addr().map_err(failed)?;
    Ok((listener, at))
}

async fn open(config: &Config, mode: OpenMode, clock: Arc<dyn Clock>) -> Result<Opened, StartError> {
    let settings = config.store.clone();
    let expected =
        Expected { path: config.data_dir.clone(), cluster: config.cluster_id, node: config.node_id, mode };
    let on_fatal = Arc::new(|why: &str| -> () { crate::exit::fatal(why) });
    Ok(blocking(move || RocksStore::open(&settings, &expected, on_fatal, clock)).await?)
}

fn peer_runtime(config: &Config) -> Result<tokio::runtime::Runtime, StartError> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(config.peer.threads as usize)
        .thread_name("raft")
        .enable_all()
        .build()
        .map_err(|error| StartError::System(error.to_string()))
}

fn serve_peers(
    listener: std::net::TcpListener,
    config: &Config,
    service: &PeerService,
    phases: &Phases,
    metrics: &Metrics,
    clock: &Arc<dyn Clock>,
    runtime: &tokio::runtime::Runtime,
) {
    let routes = tonic::service::Routes::new(service.clone().into_server());
    let settings = Settings::peer(&config.peer, &config.limits);
    let (phases, metrics, clock) = (phases.clone(), metrics.clone(), Arc::clone(clock));
    runtime.spawn(async move {
        let listener = TcpListener::from_std(listener).expect("a bound socket can be watched");
        listener::serve(listener, routes, settings, phases, Phase::Closing, metrics, clock).await;
    });
}

fn node_info(config: &Config, listed: &[InitialNode], own: &InitialNode) -> NodeInfo {
    NodeInfo {
        id: config.node_id,
        cluster: config.cluster_id,
        initial: listed.iter().map(spec).collect(),
        own: spec(own),
    }
}
