//! One connection: preface, calls, silence, end.

use super::Shared;
use super::io::Greeted;
use crate::shutdown::Phase;
use flotilla_types::{Clock, Monotonic};
use http_body::{Frame, SizeHint};
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::Mutex;
use prometheus_client::metrics::gauge::Gauge;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tonic::body::Body;
use tonic::service::Routes;
use tonic::transport::server::{Connected, TcpConnectInfo};
use tower::Service as _;

/// Serves a connection until it ends, is idle for too long, or the node reaches `stop_at`. The permit is
/// its place among the connections.
pub(super) async fn serve(
    stream: TcpStream,
    remote: SocketAddr,
    routes: Routes,
    shared: Shared,
    stop_at: Phase,
    permit: OwnedSemaphorePermit,
) {
    let _open = Open::new(&shared);
    // Small answers must not wait for larger company.
    stream.set_nodelay(true).ok();
    let info = stream.connect_info();
    match tokio::time::timeout(shared.settings.handshake_timeout, Greeted::read(stream)).await {
        Ok(Ok(greeted)) => converse(greeted, info, remote, routes, &shared, stop_at).await,
        Ok(Err(_)) | Err(_) => {
            shared.metrics.handshakes_failed.get_or_create(&shared.label()).inc();
        }
    }
    drop(permit);
}

/// A connection in the gauge, also when its task is ended from outside.
struct Open(Gauge);

impl Open {
    fn new(shared: &Shared) -> Self {
        let open = shared.metrics.connections.get_or_create_owned(&shared.label());
        open.inc();
        Self(open)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}

async fn converse(
    greeted: Greeted,
    info: TcpConnectInfo,
    remote: SocketAddr,
    routes: Routes,
    shared: &Shared,
    stop_at: Phase,
) {
    let settings = &shared.settings;
    let activity = Arc::new(Activity::new(Arc::clone(&shared.clock)));
    let calls = Arc::clone(&activity);
    let service = hyper::service::service_fn(move |mut request: http::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(info.clone());
        let under_way = UnderWay::new(&calls);
        let answer = routes.clone().call(request);
        async move {
            let answer = answer.await?;
            Ok::<_, Infallible>(answer.map(|body| Counted { body, _under_way: under_way }))
        }
    });
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(settings.streams)
        .max_header_list_size(settings.header_list_bytes)
        .initial_stream_window_size(settings.stream_window)
        .initial_connection_window_size(settings.connection_window)
        .max_send_buf_size(SEND_BUFFER)
        .keep_alive_interval(settings.keepalive_interval)
        .keep_alive_timeout(settings.keepalive_timeout)
        .serve_connection(TokioIo::new(greeted), service);
    tokio::pin!(connection);
    let stop = shared.phases.reached(stop_at);
    tokio::pin!(stop);
    let mut look = tokio::time::interval(settings.idle_timeout / IDLE_LOOKS);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut ending = false;
    loop {
        tokio::select! {
            done = connection.as_mut() => {
                if let Err(error) = done {
                    tracing::debug!(listener = settings.name, %remote, "connection ended: {error}");
                }
                return;
            }
            () = &mut stop, if !ending => {
                ending = true;
                connection.as_mut().graceful_shutdown();
            }
            _ = look.tick(), if !ending => if activity.idle() >= settings.idle_timeout {
                ending = true;
                shared.metrics.connections_idle_closed.get_or_create(&shared.label()).inc();
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

/// How often within the idle timeout a connection is looked at: it is closed at most this part later.
const IDLE_LOOKS: u32 = 8;
/// Answers' bytes waiting in one stream for the socket.
const SEND_BUFFER: usize = 1 << 20;

/// Calls under way on a connection, and since when there are none.
#[derive(Debug)]
struct Activity {
    clock: Arc<dyn Clock>,
    state: Mutex<(u32, Monotonic)>,
}

impl Activity {
    fn new(clock: Arc<dyn Clock>) -> Self {
        let now = clock.monotonic();
        Self { clock, state: Mutex::new((0, now)) }
    }

    fn idle(&self) -> Duration {
        let (calls, since) = *self.state.lock();
        if calls > 0 { Duration::ZERO } else { self.clock.monotonic().since(since) }
    }
}

/// One call, until the last byte of its answer is gone or nobody wants it.
#[derive(Debug)]
struct UnderWay(Arc<Activity>);

impl UnderWay {
    fn new(activity: &Arc<Activity>) -> Self {
        activity.state.lock().0 += 1;
        Self(Arc::clone(activity))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        *state = (state.0 - 1, self.0.clock.monotonic());
    }
}

/// An answer that counts as under way until it is dropped.
struct Counted {
    body: Body,
    _under_way: UnderWay,
}

impl http_body::Body for Counted {
    type Data = bytes::Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
