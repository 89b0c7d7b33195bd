//! What every call brings along: who asks, from where, until when.

use crate::grpc::status;
use flotilla_broker::Context;
use flotilla_types::error::Describe;
use flotilla_types::{Clock, Failure, Principal, Reason};
use std::sync::Arc;
use std::time::Duration;
use tonic::metadata::MetadataMap;
use tonic::transport::server::TcpConnectInfo;
use tonic::{Request, Response, Status};

/// Turns requests into contexts and outcomes into answers; the same for every service.
#[derive(Clone, Debug)]
pub struct Calls {
    clock: Arc<dyn Clock>,
    /// The deadline of a call that brings none.
    default_deadline: Duration,
    metrics: crate::metrics::Metrics,
}

impl Calls {
    /// For all services of a listener.
    pub fn new(clock: Arc<dyn Clock>, default_deadline: Duration, metrics: crate::metrics::Metrics) -> Self {
        Self { clock, default_deadline, metrics }
    }

    /// Who asks, from where, until when.
    pub fn context<T>(&self, request: &Request<T>) -> Context {
        self.context_with(request, Duration::ZERO)
    }

    /// The same for calls that wait on purpose: where they bring no deadline, `wait` is added to ours.
    pub fn context_with<T>(&self, request: &Request<T>, wait: Duration) -> Context {
        let client = request
            .extensions()
            .get::<TcpConnectInfo>()
            .and_then(TcpConnectInfo::remote_addr)
            .map_or_else(|| Arc::from("unknown"), |address| Arc::from(address.to_string()));
        let left = timeout(request.metadata()).unwrap_or(self.default_deadline + wait);
        Context { principal: Principal::Anonymous, deadline: Some(self.clock.monotonic().plus(left)), client }
    }

    /// The same for streams that stay: no deadline but what the call itself brings.
    pub fn stream_context<T>(&self, request: &Request<T>) -> Context {
        let deadline = timeout(request.metadata()).map(|left| self.clock.monotonic().plus(left));
        Context { deadline, ..self.context(request) }
    }

    /// Waits for the work, at most until the context's deadline. What was proposed by then may still
    /// happen, so a missed deadline is indefinite where the call changes something.
    pub async fn unary<T, E: Describe>(
        &self,
        call: &'static str,
        context: &Context,
        changes: Changes,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<Response<T>, Status> {
        let left = context.remaining(self.clock.monotonic(), Duration::from_secs(3600));
        let failure = match tokio::time::timeout(left, work).await {
            Ok(Ok(answer)) => return Ok(Response::new(answer)),
            Ok(Err(error)) => error.describe(),
            Err(_) => {
                let failure =
                    Failure::new(Reason::RequestTimedOut, format!("{call} was not done before its deadline"));
                if changes == Changes::State { failure.indefinite() } else { failure }
            }
        };
        Err(self.refuse(call, context, &failure))
    }

    /// Counts a failed call and makes its status.
    pub fn refuse(&self, call: &'static str, context: &Context, failure: &Failure) -> Status {
        self.count(call, failure);
        tracing::debug!(call, client = %context.client, "{failure}");
        status::from_failure(failure)
    }

    /// Counts a failure that is answered within a stream.
    pub fn count(&self, call: &'static str, failure: &Failure) {
        let labels = crate::metrics::ErrorLabels { call, reason: failure.reason.name() };
        self.metrics.call_errors.get_or_create(&labels).inc();
    }
}

/// Whether a call may leave something behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changes {
    /// It only looks.
    Nothing,
    /// It may.
    State,
}

/// `grpc-timeout`: at most eight digits and a unit. Anything else counts as absent.
fn timeout(metadata: &MetadataMap) -> Option<Duration> {
    let text = metadata.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(number * 3600)),
        "M" => Some(Duration::from_secs(number * 60)),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_are_read_as_grpc_writes_them() {
        let read = |text: &'static str| {
            let mut metadata = MetadataMap::new();
            metadata.insert("grpc-timeout", text.parse().unwrap());
            timeout(&metadata)
        };
        assert_eq!(read("100m"), Some(Duration::from_millis(100)));
        assert_eq!(read("2S"), Some(Duration::from_secs(2)));
        assert_eq!(read("1H"), Some(Duration::from_secs(3600)));
        assert_eq!(read("99999999n"), Some(Duration::from_nanos(99_999_999)));
        for bad in ["", "m", "100", "-1S", "123456789S", "1x", "1.5S"] {
            assert_eq!(read(bad), None, "{bad}");
        }
        assert_eq!(timeout(&MetadataMap::new()), None);
    }
}
