//! The standard gRPC health service. The only known service has the empty name and is serving.
//!
//! Source: grpc-go 1.82 health/server.go, as etcd v3.7 uses it.

use crate::call::Call;
use crate::host::Host;
use prost::Message as _;
use proto::healthpb::health_check_response::ServingStatus;
use proto::healthpb::{
    HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse,
};
use rpc::body::{Reply, encoded, stream};
use rpc::queue::queue;
use rpc::{Code, Status};

const SERVING: HealthCheckResponse = HealthCheckResponse { status: ServingStatus::Serving as i32 };
const UNKNOWN: HealthCheckResponse =
    HealthCheckResponse { status: ServingStatus::ServiceUnknown as i32 };

pub(crate) async fn check<H: Host>(call: Call<H>) -> Result<Reply, Status> {
    let (_, request) = call.request(|_: &HealthCheckRequest| false).await?;
    if !request.service.is_empty() {
        return Err(Status::new(Code::NotFound, "unknown service"));
    }
    Ok(encoded(&SERVING))
}

pub(crate) async fn list<H: Host>(call: Call<H>) -> Result<Reply, Status> {
    call.request(|_: &HealthListRequest| false).await?;
    let statuses = std::iter::once((String::new(), SERVING)).collect();
    Ok(encoded(&HealthListResponse { statuses }))
}

/// Sends the status once; it never changes.
pub(crate) async fn watch<H: Host>(call: Call<H>) -> Result<Reply, Status> {
    let deadline = call.deadline;
    let requires_leader = call.requires_leader();
    let (tally, request) = call.stream_request::<HealthCheckRequest>(false).await?;
    let (feeder, receiver) = queue();
    let answer = if request.service.is_empty() { &SERVING } else { &UNKNOWN };
    tally.sent(1, answer.encoded_len());
    feeder.encoded(answer);
    net::tasks::spawn_local("health watch", async move {
        let gone = async { while feeder.drained().await.is_some() {} };
        tokio::select! {
            () = gone => {}
            status = crate::cancellation::wait(&tally.service, deadline, requires_leader) => {
                tally.end(status.code);
                feeder.end(status);
            }
        }
    });
    Ok(stream(receiver))
}
