//! Lease keep-alive.
//!
//! Source: etcd v3.7.1 client/v3/lease.go.

use crate::Error;
use crate::call::Client;
use proto::etcdserverpb as pb;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataValue;
use tonic::{Code, Status};

const METHOD: &str = "/etcdserverpb.Lease/LeaseKeepAlive";
/// The pause before a broken stream is opened again.
const BACKOFF: Duration = Duration::from_millis(500);
/// How long to wait for the first response, while the TTL is not known.
const FIRST_TTL: Duration = Duration::from_secs(5);
/// Responses that are queued for [`KeepAlive::next`]. When the queue is full, no more requests are
/// sent, and the lease expires unless its owner reads.
const ANSWERS_MAX: usize = 16;

/// Keeps a lease alive until it is dropped; the lease then lives until its TTL ends.
///
/// ```no_run
/// # async fn example(client: client::Client) -> Result<(), client::Error> {
/// use proto::etcdserverpb::{LeaseGrantRequest, PutRequest};
///
/// let lease = client.lease_grant(LeaseGrantRequest { ttl: 30, id: 0 }).await?.id;
/// client.put(PutRequest { key: "alive".into(), lease, ..PutRequest::default() }).await?;
/// let mut keep_alive = client.keep_alive(lease);
/// while let Some(confirmed) = keep_alive.next().await? {
///     println!("{} s left", confirmed.ttl);
/// }
/// // The lease has expired, and its keys are deleted.
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct KeepAlive {
    answers: mpsc::Receiver<pb::LeaseKeepAliveResponse>,
    /// The task that renews the lease. `None` once [`KeepAlive::next`] has returned its result.
    task: Option<JoinHandle<()>>,
}

impl KeepAlive {
    /// The server's next confirmation. `None` once the lease has expired or was revoked, or if no
    /// server could be reached for the lease's TTL.
    ///
    /// # Errors
    /// When the task that renews the lease has failed.
    pub async fn next(&mut self) -> Result<Option<pb::LeaseKeepAliveResponse>, Error> {
        if let Some(answer) = self.answers.recv().await {
            return Ok(Some(answer));
        }
        match self.task.take() {
            Some(task) => task.await.map(|()| None).map_err(|failed| {
                Status::internal(format!("the client's task for leases has failed: {failed}"))
                    .into()
            }),
            None => Ok(None),
        }
    }
}

impl Client {
    /// Keeps a lease alive with a request each third of its TTL.
    #[must_use]
    pub fn keep_alive(&self, id: i64) -> KeepAlive {
        let (sender, answers) = mpsc::channel(ANSWERS_MAX);
        let task = tokio::spawn(run(self.clone(), id, sender));
        KeepAlive { answers, task: Some(task) }
    }

    /// Renews a lease once.
    ///
    /// # Errors
    /// When there is no such lease, or no response.
    pub async fn keep_alive_once(&self, id: i64) -> Result<pb::LeaseKeepAliveResponse, Error> {
        let answer = self.within_timeout(self.keep_alive_until_answered(id)).await?;
        if answer.ttl > 0 {
            return Ok(answer);
        }
        Err(Status::not_found("etcdserver: requested lease not found").into())
    }

    async fn keep_alive_until_answered(
        &self,
        id: i64,
    ) -> Result<pb::LeaseKeepAliveResponse, Status> {
        loop {
            // Keeps the sender, since the server ends the stream after the last request.
            let (_requests, outbox) = first_request(id);
            let answer = match self.keep_alive_stream(outbox).await {
                Ok(mut answers) => match answers.next().await {
                    Some(answer) => answer,
                    None => Err(Status::unavailable("error reading from server: EOF")),
                },
                Err(status) => Err(status),
            };
            match answer {
                Err(status) if is_passing(&status) => tokio::time::sleep(BACKOFF).await,
                answer => return answer,
            }
        }
    }

    async fn keep_alive_stream(
        &self,
        requests: mpsc::Receiver<pb::LeaseKeepAliveRequest>,
    ) -> Result<tonic::Streaming<pb::LeaseKeepAliveResponse>, Status> {
        self.renew_token_of_stream().await?;
        let mut request = self.request(ReceiverStream::new(requests), None)?;
        request.metadata_mut().insert("hasleader", MetadataValue::from_static("true"));
        self.stream(METHOD, request).await
    }
}

/// The queue of a stream's requests, which contains the first request. It has room for one, since a
/// request is sent only after the response to the last one.
fn first_request(
    id: i64,
) -> (mpsc::Sender<pb::LeaseKeepAliveRequest>, mpsc::Receiver<pb::LeaseKeepAliveRequest>) {
    let (requests, outbox) = mpsc::channel(1);
    let queued = requests.try_send(pb::LeaseKeepAliveRequest { id });
    assert!(queued.is_ok(), "a new queue has room");
    (requests, outbox)
}

fn is_passing(status: &Status) -> bool {
    matches!(status.code(), Code::Unavailable | Code::Internal)
}

async fn run(client: Client, id: i64, answers: mpsc::Sender<pb::LeaseKeepAliveResponse>) {
    let mut deadline = Instant::now() + FIRST_TTL;
    while deadline > Instant::now() && stream(&client, id, &answers, &mut deadline).await {
        tokio::time::sleep(BACKOFF).await;
    }
}

/// Sends renewals on one stream; returns true if another stream may be tried.
async fn stream(
    client: &Client,
    id: i64,
    answers: &mpsc::Sender<pb::LeaseKeepAliveResponse>,
    deadline: &mut Instant,
) -> bool {
    let (requests, outbox) = first_request(id);
    let mut incoming = match timeout_at(*deadline, client.keep_alive_stream(outbox)).await {
        Ok(Ok(incoming)) => incoming,
        Ok(Err(status)) => return is_passing(&status),
        Err(_) => return false,
    };
    loop {
        let answer = match timeout_at(*deadline, incoming.next()).await {
            Ok(Some(Ok(answer))) => answer,
            Ok(Some(Err(status))) => return is_passing(&status),
            Ok(None) => return true,
            Err(_) => return false,
        };
        let Ok(ttl @ 1..) = u64::try_from(answer.ttl) else { return false };
        let now = Instant::now();
        *deadline = now + Duration::from_secs(ttl);
        if answers.send(answer).await.is_err() {
            return false;
        }
        tokio::select! {
            () = tokio::time::sleep_until(now + Duration::from_secs(ttl) / 3) => {}
            () = answers.closed() => return false,
        }
        if requests.send(pb::LeaseKeepAliveRequest { id }).await.is_err() {
            return true;
        }
    }
}
