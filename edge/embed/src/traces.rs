//! `--enable-distributed-tracing`: sends spans to a collector by OTLP over gRPC, without TLS as etcd.
//!
//! Spans wait in a bounded queue for one thread, which sends them in batches. A call never waits for
//! the collector: when the queue is full, its span is dropped and counted. A batch that cannot be sent
//! is dropped, too. Not here: which calls are recorded (`api`).
//!
//! Source: etcd server/embed/config_tracing.go @ v3.7.1; the sizes are those of OpenTelemetry's batch
//! processor.

mod otlp;

use crate::config::Tracing;
use api::{Span, Tracer};
use http::uri::PathAndQuery;
use server::metrics::Metrics;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::{Instant, timeout, timeout_at};
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;

/// Spans that wait to be sent.
const SPANS_MAX: usize = 2_048;
/// Spans in one message.
const BATCH_MAX: usize = 512;
/// How long spans are gathered for one message.
const GATHERING_TIME: Duration = Duration::from_secs(5);
/// The time limit for a message.
const SENDING_TIME_MAX: Duration = Duration::from_secs(10);
/// How long the end of the server waits for the spans in the queue.
const LAST_TIME_MAX: Duration = Duration::from_secs(1);

const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

/// A message to the thread.
enum ToExporter {
    Span(Box<Span>),
    /// Answer when all spans before are sent.
    Flush(SyncSender<()>),
}

/// The export of a running server's spans.
#[derive(Debug)]
pub(crate) struct TraceExport {
    queue: Sender<ToExporter>,
    per_million: u32,
    metrics: Arc<Metrics>,
}

impl TraceExport {
    /// Starts the thread. The collector need not be there.
    ///
    /// # Errors
    /// When the address is not valid, or there is no thread.
    pub(crate) fn start(options: &Tracing, metrics: &Arc<Metrics>) -> io::Result<TraceExport> {
        let address = &options.address;
        let endpoint = Endpoint::from_shared(format!("http://{address}"))
            .map_err(|error| io::Error::other(format!("address {address}: {error}")))?
            .connect_timeout(SENDING_TIME_MAX);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (queue, spans) = channel(SPANS_MAX);
        let resource = otlp::resource(&options.service, options.instance.as_deref());
        let counts = Arc::clone(metrics);
        let work = move || {
            runtime.block_on(async {
                let collector = TraceCollector { channel: endpoint.connect_lazy(), resource };
                export(spans, &collector, &counts).await;
            });
        };
        std::thread::Builder::new().name("trace-export".to_owned()).spawn(work)?;
        let per_million = options.per_million;
        Ok(TraceExport { queue, per_million, metrics: Arc::clone(metrics) })
    }

    /// Begins the spans of calls.
    pub(crate) fn tracer(&self) -> Tracer {
        let (queue, metrics) = (self.queue.clone(), Arc::clone(&self.metrics));
        Tracer::new(self.per_million, move |span| {
            if queue.try_send(ToExporter::Span(Box::new(span))).is_err() {
                metrics.requests.traces.dropped.inc();
            }
        })
    }

    /// Waits until the spans so far are sent, but not for long.
    pub(crate) fn flush(&self) {
        let (done, wait) = sync_channel(1);
        let is_queued = self.queue.try_send(ToExporter::Flush(done)).is_ok();
        if !is_queued || wait.recv_timeout(LAST_TIME_MAX).is_err() {
            tracing::warn!("the last spans are not sent to the collector of traces");
        }
    }
}

/// Sends spans until there is no sender.
async fn export(mut queue: Receiver<ToExporter>, collector: &TraceCollector, metrics: &Metrics) {
    let mut is_failing = false;
    while let Some(first) = queue.recv().await {
        let (batch, flushed) = gather(first, &mut queue).await;
        if !batch.is_empty() {
            let count = batch.len() as u64;
            match collector.send(&batch).await {
                Ok(rejected) => {
                    is_failing = false;
                    let rejected = rejected.min(count);
                    metrics.requests.traces.dropped.inc_by(rejected);
                    metrics.requests.traces.sent.inc_by(count - rejected);
                }
                Err(error) => {
                    metrics.requests.traces.dropped.inc_by(count);
                    if !std::mem::replace(&mut is_failing, true) {
                        tracing::warn!(error, "cannot send spans to the collector of traces");
                    }
                }
            }
        }
        if flushed.is_some_and(|done| done.send(()).is_err()) {
            tracing::debug!("nobody waits for the spans");
        }
    }
}

/// The spans for one message: as many as fit, or as come within [`GATHERING_TIME`].
async fn gather(
    first: ToExporter,
    queue: &mut Receiver<ToExporter>,
) -> (Vec<Span>, Option<SyncSender<()>>) {
    let end = Instant::now() + GATHERING_TIME;
    let (mut batch, mut next) = (Vec::new(), Some(first));
    while let Some(message) = next {
        match message {
            ToExporter::Span(span) => batch.push(*span),
            ToExporter::Flush(done) => return (batch, Some(done)),
        }
        let is_full = batch.len() >= BATCH_MAX;
        next = if is_full { None } else { timeout_at(end, queue.recv()).await.ok().flatten() };
    }
    (batch, None)
}

/// The way to the collector.
struct TraceCollector {
    channel: Channel,
    resource: otlp::OtlpResource,
}

impl TraceCollector {
    /// Sends spans. Returns how many of them the collector has refused.
    async fn send(&self, spans: &[Span]) -> Result<u64, String> {
        let request = tonic::Request::new(otlp::request(&self.resource, spans));
        let mut client = Grpc::new(self.channel.clone());
        let path = PathAndQuery::from_static(EXPORT);
        let call = async {
            client.ready().await.map_err(|error| root(&error))?;
            let answer: Result<tonic::Response<otlp::ExportResponse>, _> =
                client.unary(request, path, ProstCodec::default()).await;
            answer.map_err(|status| match std::error::Error::source(&status) {
                Some(error) => root(error),
                None => format!("{:?}: {}", status.code(), status.message()),
            })
        };
        let answer = timeout(SENDING_TIME_MAX, call).await;
        let answer = answer.map_err(|_| "there is no answer".to_owned())??.into_inner();
        let rejected = answer.partial_success.map_or(0, |partial| partial.rejected_spans);
        Ok(u64::try_from(rejected).unwrap_or(0))
    }
}

/// The innermost error, which says what has happened.
fn root(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

#[cfg(test)]
mod tests;
