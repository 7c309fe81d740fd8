//! Commands that call each endpoint separately: `endpoint …` and `defrag`.
//!
//! Source: etcd v3.7.1 etcdctl/ctlv3/command/{ep,defrag}_command.go.

use crate::failure::{Code, CommandResult};
use crate::output;
use crate::printer::{Hash, Health, Status};
use crate::session::{Session, connect};
use cli::Format;
use cli::duration::GoDuration;
use client::{Client, Config};
use proto::etcdserverpb as pb;
use std::time::Instant;
use terminal::{Bar, Unit};

/// The endpoints to call, and the configuration to use with each of them.
async fn endpoints(session: &mut Session) -> CommandResult<(Vec<String>, Config)> {
    let config = session.open()?;
    if !session.flags.bool("cluster") {
        return Ok((session.endpoints.clone(), config));
    }
    let client = Client::connect(config.clone()).await?;
    let client = client.with_timeout(session.flags.duration("command-timeout"));
    let failed = |error| {
        let text = "failed to fetch endpoints from etcd cluster member list";
        Code::Error.with(format!("{text}: {error}"))
    };
    let request = pb::MemberListRequest { linearizable: true };
    let answer = client.member_list(request).await.map_err(failed)?;
    let urls = answer.members.into_iter().flat_map(|member| member.client_ur_ls).collect();
    Ok((urls, config))
}

async fn one(session: &Session, config: &Config, endpoint: &str) -> CommandResult<Client> {
    let mut config = config.clone();
    config.endpoints = vec![endpoint.to_string()];
    Ok(connect(config).await?.with_timeout(session.flags.duration("command-timeout")))
}

/// The time since `start`, in Go's notation.
fn since(start: Instant) -> String {
    GoDuration::from(start.elapsed()).to_string()
}

pub(crate) async fn health(mut session: Session) -> CommandResult {
    session.set_logger("client");
    let (endpoints, config) = endpoints(&mut session).await?;
    let mut checks = Vec::new();
    for endpoint in &endpoints {
        let client = one(&session, &config, endpoint).await?;
        checks.push(tokio::spawn(check(client, endpoint.clone())));
    }
    let mut list = Vec::new();
    for check in checks {
        list.push(check.await.map_err(|error| Code::Error.with(error))?);
    }
    if session.printer.format == Format::Simple {
        for one in list.iter().filter(|one| !one.error.is_empty()) {
            let (endpoint, error) = (&one.endpoint, &one.error);
            output::error_line(&format!(
                "{endpoint} is unhealthy: failed to commit proposal: {error}"
            ));
        }
    }
    output::out(&session.printer.health(&list)?);
    match list.iter().all(|one| one.error.is_empty()) {
        true => Ok(()),
        false => Err(Code::Error.with("unhealthy cluster")),
    }
}

/// An endpoint is healthy if it can read a key (or denies permission) and has no alarms.
async fn check(client: Client, endpoint: String) -> Health {
    let start = Instant::now();
    let request = pb::RangeRequest { key: "health".into(), ..Default::default() };
    let answer = client.range(request).await;
    let mut health = Health { endpoint, took: since(start), ..Health::default() };
    match answer {
        Ok(_) => {}
        Err(error) if error.message() == "etcdserver: permission denied" => {}
        Err(error) => {
            health.error = error.to_string();
            return health;
        }
    }
    match client.alarm(list_alarms()).await {
        Ok(answer) if answer.alarms.is_empty() => health.health = true,
        Ok(answer) => {
            health.error = "Active Alarm(s): ".to_string();
            for alarm in &answer.alarms {
                health.error.push_str(match pb::AlarmType::try_from(alarm.alarm) {
                    Ok(pb::AlarmType::Nospace) => "NOSPACE ",
                    Ok(pb::AlarmType::Corrupt) => "CORRUPT ",
                    Ok(pb::AlarmType::None) | Err(_) => "UNKNOWN ",
                });
            }
        }
        Err(_) => health.error = "Unable to fetch the alarm list".to_string(),
    }
    health
}

/// The request that asks for all alarms.
pub(crate) fn list_alarms() -> pb::AlarmRequest {
    pb::AlarmRequest {
        action: pb::alarm_request::AlarmAction::Get.into(),
        member_id: 0,
        alarm: pb::AlarmType::None.into(),
    }
}

pub(crate) async fn status(mut session: Session) -> CommandResult {
    let (endpoints, config) = endpoints(&mut session).await?;
    let (mut list, mut failed) = (Vec::new(), false);
    for endpoint in endpoints {
        let client = one(&session, &config, &endpoint).await?;
        match client.status(pb::StatusRequest {}).await {
            Ok(answer) => list.push(Status { endpoint, answer }),
            Err(error) => {
                failed = true;
                output::error_line(&format!(
                    "Failed to get the status of endpoint {endpoint} ({error})"
                ));
            }
        }
    }
    output::out(&session.printer.status(&list)?);
    if failed { Err(Code::Error.silent()) } else { Ok(()) }
}

pub(crate) async fn hashkv(mut session: Session) -> CommandResult {
    let (endpoints, config) = endpoints(&mut session).await?;
    let revision = session.flags.int("rev");
    let (mut list, mut failed) = (Vec::new(), None);
    for endpoint in endpoints {
        let client = one(&session, &config, &endpoint).await?;
        match client.hash_kv(pb::HashKvRequest { revision }).await {
            Ok(answer) => list.push(Hash { endpoint, answer }),
            Err(error) => {
                output::error_line(&format!(
                    "Failed to get the hash of endpoint {endpoint} ({error})"
                ));
                failed = Some(error);
            }
        }
    }
    output::out(&session.printer.hash(&list)?);
    failed.map_or(Ok(()), |error| Err(error.into()))
}

pub(crate) async fn defrag(mut session: Session) -> CommandResult {
    let (endpoints, config) = endpoints(&mut session).await?;
    let mut failed = false;
    for endpoint in endpoints {
        let client = one(&session, &config, &endpoint).await?;
        let start = Instant::now();
        // The server does not say how far it is.
        let bar = Bar::start(0, Unit::Steps);
        let answer = client.defragment(pb::DefragmentRequest {}).await;
        drop(bar);
        let took = since(start);
        match answer {
            Ok(_) => output::line(&format!(
                "Finished defragmenting etcd member[{endpoint}]. took {took}"
            )),
            Err(error) => {
                failed = true;
                output::error_line(&format!(
                    "Failed to defragment etcd member[{endpoint}]. took {took}. ({error})"
                ));
            }
        }
    }
    if failed { Err(Code::Error.silent()) } else { Ok(()) }
}
