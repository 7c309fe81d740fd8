//! `lease …`.
//!
//! Source: etcd v3.7.1 etcdctl/ctlv3/command/lease_command.go.

use crate::failure::{Code, CommandResult};
use crate::output;
use crate::session::Session;
use cli::{Format, go};
use proto::etcdserverpb as pb;

pub(crate) async fn grant(mut session: Session) -> CommandResult {
    let [ttl] = &session.words()[..] else {
        return Err(Code::BadArgs.with("lease grant command needs TTL argument"));
    };
    let bad = |why| Code::BadArgs.with(format!("bad TTL ({why})"));
    let ttl = go::parse_int(ttl, 10).map_err(bad)?;
    let client = session.client().await?;
    let answer = client.lease_grant(pb::LeaseGrantRequest { ttl, id: 0 }).await;
    let failed = |error| Code::Error.with(format!("failed to grant lease ({error})"));
    output::out(&session.printer.lease_grant(&answer.map_err(failed)?)?);
    Ok(())
}

pub(crate) async fn revoke(mut session: Session) -> CommandResult {
    let id = id(&session, "lease revoke command needs 1 argument")?;
    let client = session.client().await?;
    let answer = client.lease_revoke(pb::LeaseRevokeRequest { id }).await;
    let failed = |error| Code::Error.with(format!("failed to revoke lease ({error})"));
    output::out(&session.printer.lease_revoke(id, &answer.map_err(failed)?)?);
    Ok(())
}

pub(crate) async fn time_to_live(mut session: Session) -> CommandResult {
    one_argument(&session, "lease timetolive command needs lease ID as argument")?;
    let client = session.client().await?;
    let (id, keys) = (id(&session, "")?, session.flags.bool("keys"));
    let answer = client.lease_time_to_live(pb::LeaseTimeToLiveRequest { id, keys }).await;
    let answer = answer.map_err(|error| Code::BadConnection.with(error))?;
    output::out(&session.printer.time_to_live(&answer, keys)?);
    Ok(())
}

pub(crate) async fn list(mut session: Session) -> CommandResult {
    let client = session.client().await?;
    let answer = client.lease_leases(pb::LeaseLeasesRequest {}).await;
    let answer = answer.map_err(|error| Code::BadConnection.with(error))?;
    output::out(&session.printer.leases(&answer)?);
    Ok(())
}

pub(crate) async fn keep_alive(mut session: Session) -> CommandResult {
    let id = id(&session, "lease keep-alive command needs lease ID as argument")?;
    // The time limit holds for one renewal. Without `--once` the command runs until the lease ends.
    let client = session.client().await?;
    if session.flags.bool("once") {
        let answer = client.keep_alive_once(id).await;
        let answer = answer.map_err(|error| Code::BadConnection.with(error))?;
        output::out(&session.printer.keep_alive(&answer)?);
        return Ok(());
    }
    let mut answers = client.keep_alive(id);
    while let Some(answer) = answers.next().await? {
        output::out(&session.printer.keep_alive(&answer)?);
    }
    if session.printer.format == Format::Simple {
        output::line(&format!("lease {id:016x} expired or revoked."));
    }
    Ok(())
}

fn one_argument(session: &Session, usage: &str) -> CommandResult {
    if session.args.len() == 1 { Ok(()) } else { Err(Code::BadArgs.with(usage)) }
}

fn id(session: &Session, usage: &str) -> CommandResult<i64> {
    one_argument(session, usage)?;
    let bad = |why| Code::BadArgs.with(format!("bad lease ID arg ({why}), expecting ID in Hex"));
    go::parse_int(&session.words()[0], 16).map_err(bad)
}
