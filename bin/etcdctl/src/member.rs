//! `member …`.
//!
//! Source: etcd v3.7.1 etcdctl/ctlv3/command/member_command.go.

use crate::failure::{Code, CommandResult};
use crate::printer::MemberChange;
use crate::session::Session;
use crate::{kv, output};
use cli::{Format, go};
use proto::etcdserverpb as pb;

pub(crate) async fn add(mut session: Session) -> CommandResult {
    let words = session.words();
    let name = match &words[..] {
        [] => return Err(Code::BadArgs.with("member name not provided")),
        [name] => name.clone(),
        many => {
            let mut text = "too many arguments".to_string();
            for url in many.iter().filter(|word| word.to_lowercase().starts_with("http")) {
                text.push_str(&format!(", did you mean --peer-urls={url}"));
            }
            return Err(Code::BadArgs.with(text));
        }
    };
    let peer_ur_ls = peer_urls(&session)?;
    let is_learner = session.flags.bool("learner");
    let client = session.client().await?;
    check_urls(&peer_ur_ls)?;
    let answer = client.member_add(pb::MemberAddRequest { peer_ur_ls, is_learner }).await?;
    output::out(&session.printer.member_add(&answer)?);
    if session.printer.format == Format::Simple {
        let urls = session.flags.text("peer-urls");
        let quote = |text: &str| go::quote(text.as_bytes());
        output::line(&format!(
            "\nETCD_NAME={}\nETCD_INITIAL_CLUSTER={}\nETCD_INITIAL_ADVERTISE_PEER_URLS={}\n\
             ETCD_INITIAL_CLUSTER_STATE=\"existing\"",
            quote(&name),
            quote(&initial_cluster(&answer, &name)),
            quote(&urls)
        ));
    }
    Ok(())
}

/// The value of `--initial-cluster` for the new member.
fn initial_cluster(answer: &pb::MemberAddResponse, name: &str) -> String {
    let added = answer.member.as_ref().map_or(0, |member| member.id);
    let mut parts = Vec::new();
    for member in &answer.members {
        let name = if member.id == added { name } else { &member.name };
        parts.extend(member.peer_ur_ls.iter().map(|url| format!("{name}={url}")));
    }
    parts.join(",")
}

pub(crate) async fn remove(mut session: Session) -> CommandResult {
    let id = id(&session)?;
    let answer = session.client().await?.member_remove(pb::MemberRemoveRequest { id }).await?;
    let change = MemberChange::Removed(id);
    let header = answer.header.as_ref();
    output::out(&session.printer.member_change(change, header, &answer.members)?);
    Ok(())
}

pub(crate) async fn update(mut session: Session) -> CommandResult {
    let id = id(&session)?;
    let peer_ur_ls = peer_urls(&session)?;
    let client = session.client().await?;
    check_urls(&peer_ur_ls)?;
    let answer = client.member_update(pb::MemberUpdateRequest { id, peer_ur_ls }).await?;
    let change = MemberChange::Updated(id);
    let header = answer.header.as_ref();
    output::out(&session.printer.member_change(change, header, &answer.members)?);
    Ok(())
}

pub(crate) async fn promote(mut session: Session) -> CommandResult {
    let id = id(&session)?;
    let answer = session.client().await?.member_promote(pb::MemberPromoteRequest { id }).await?;
    let change = MemberChange::Promoted(id);
    let header = answer.header.as_ref();
    output::out(&session.printer.member_change(change, header, &answer.members)?);
    Ok(())
}

pub(crate) async fn list(mut session: Session) -> CommandResult {
    let linearizable = !kv::is_serializable(&session.flags)?;
    let client = session.client().await?;
    let answer = client.member_list(pb::MemberListRequest { linearizable }).await?;
    output::out(&session.printer.member_list(&answer)?);
    Ok(())
}

/// `move-leader`. Only the leader can execute it, so each endpoint is asked whether it leads.
pub(crate) async fn move_leader(mut session: Session) -> CommandResult {
    let [target] = &session.words()[..] else {
        return Err(Code::BadArgs.with("move-leader command needs 1 argument"));
    };
    let target_id = go::parse_uint(target, 16).map_err(|why| Code::BadArgs.with(why))?;
    let config = session.open()?;
    let timeout = session.flags.duration("command-timeout");
    for endpoint in session.endpoints.clone() {
        let mut one = config.clone();
        one.endpoints = vec![endpoint];
        let client = crate::session::connect(one).await?.with_timeout(timeout);
        let status = client.status(pb::StatusRequest {}).await?;
        let id = status.header.map_or(0, |header| header.member_id);
        if id == status.leader {
            let request = pb::MoveLeaderRequest { target_id };
            let answer = client.move_leader(request).await?;
            output::out(&session.printer.move_leader((id, target_id), &answer)?);
            return Ok(());
        }
    }
    let endpoints = session.endpoints.join(" ");
    Err(Code::BadArgs.with(format!("no leader endpoint given at [{endpoints}]")))
}

fn peer_urls(session: &Session) -> CommandResult<Vec<String>> {
    let urls = session.flags.text("peer-urls");
    if urls.is_empty() {
        return Err(Code::BadArgs.with("member peer urls not provided"));
    }
    Ok(urls.split(',').map(str::to_string).collect())
}

/// Checks the URLs before the request is sent, as Go's client does.
fn check_urls(urls: &[String]) -> CommandResult {
    for url in urls {
        net::Url::parse(url).map_err(|error| Code::Error.with(error))?;
    }
    Ok(())
}

fn id(session: &Session) -> CommandResult<u64> {
    let [id] = &session.words()[..] else {
        return Err(Code::BadArgs.with("member ID is not provided"));
    };
    let bad = |why| Code::BadArgs.with(format!("bad member ID arg ({why}), expecting ID in Hex"));
    go::parse_uint(id, 16).map_err(bad)
}
