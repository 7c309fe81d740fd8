//! Before a member without data starts, it asks the other members whether it has been started
//! before, or, if it joins a cluster, for the list of members.
//!
//! Source: etcd v3.7 server/etcdserver/bootstrap.go, cluster_util.go (`isMemberBootstrapped`,
//! `GetClusterFromRemotePeers`, `isCompatibleWithCluster`), membership/cluster.go
//! (`ValidateClusterAndAssignIDs`).

use crate::initial::{self, Members};
use cluster::{CLUSTER_VERSION_MIN, InvalidChange, Member, SERVER_MINOR, Version};
use executor::{FirstMember, Founding};
use net::Url;
use peer::Dialer;
use peer::remote::{self, RemoteCluster};
use proto::NodeId;
use std::thread;
use std::time::Duration;
use wal::Metadata;

/// The time limit for the answer to whether this member has been started before.
const BOOTSTRAPPED_TIME_MAX: Duration = Duration::from_secs(1);
/// The time limit for each answer of a member of the cluster that is joined.
const JOIN_TIME_MAX: Duration = Duration::from_secs(10);

/// A new cluster.
///
/// # Errors
/// When another member says that this one has been started before: its data is lost, and with the
/// same id it could vote twice in one term.
pub(crate) fn found(
    name: &str,
    members: &Members,
    token: &str,
    dialer: &Dialer,
) -> Result<Founding, String> {
    let first = first_members(members);
    let id = |name: &str| {
        let urls = first.iter().find(|(other, _)| other == name).map(|(_, urls)| urls);
        urls.map_or(NodeId::NONE, |urls| cluster::member_id(urls, token, None))
    };
    let me = id(name);
    let others = members.iter().filter(|(other, _)| *other != name);
    let has_begun = thread::scope(|scope| {
        let asked: Vec<_> = others
            .map(|(_, urls)| scope.spawn(|| ask_members(dialer, urls, BOOTSTRAPPED_TIME_MAX)))
            .collect();
        let answers = asked.into_iter().filter_map(|thread| thread.join().ok()?.ok());
        answers
            .flat_map(|cluster| cluster.members)
            .any(|member| member.id == me && !member.client_urls.is_empty())
    });
    if has_begun {
        return Err(format!("member {me:x} has already been bootstrapped"));
    }
    Ok(Founding::New { name: name.to_owned(), members: first, token: token.to_owned() })
}

/// A new cluster, without a request to the other members: the member has a log already, which may
/// be empty.
pub(crate) fn found_again(name: &str, members: &Members, token: &str) -> Founding {
    let members = first_members(members);
    Founding::New { name: name.to_owned(), members, token: token.to_owned() }
}

fn first_members(members: &Members) -> Vec<FirstMember> {
    let texts = |urls: &[Url]| urls.iter().map(Url::to_string).collect();
    members.iter().map(|(name, urls)| (name.clone(), texts(urls))).collect()
}

/// The place of this member in a cluster that exists.
///
/// # Errors
/// When no member answers, or the members are not those of `--initial-cluster`, or the versions do
/// not fit.
pub(crate) fn join(
    name: &str,
    members: &Members,
    learners_max: usize,
    dialer: &Dialer,
) -> Result<Founding, String> {
    let others = members.iter().filter(|(other, _)| *other != name);
    let urls: Vec<Url> = others.flat_map(|(_, urls)| urls.clone()).collect();
    let existing = ask_members(dialer, &urls, JOIN_TIME_MAX).map_err(|_| {
        "cannot fetch cluster info from peer urls: could not retrieve cluster information from the \
         given URLs"
            .to_owned()
    })?;
    let member = place(name, members, &existing)
        .map_err(|why| format!("error validating peerURLs {}: {why}", text(&existing)))?;
    let version = cluster_version(dialer, &existing.members, member)?;
    let learners = existing.members.iter().filter(|member| member.is_learner).count();
    if learners > learners_max {
        return Err(InvalidChange::TooManyLearners.to_string());
    }
    let metadata = Metadata { node: member, cluster: existing.cluster };
    Ok(Founding::Join { metadata, version })
}

fn ask_members(
    dialer: &Dialer,
    urls: &[Url],
    time: Duration,
) -> Result<RemoteCluster, remote::RemoteError> {
    remote::blocking(remote::fetch_members(dialer, urls, time))
}

/// The id of this member in the existing cluster. The members of that cluster must be the given
/// ones; both lists are compared in the order of their URLs.
fn place(name: &str, members: &Members, existing: &RemoteCluster) -> Result<NodeId, String> {
    if members.len() != existing.members.len() {
        return Err("member count is unequal".to_owned());
    }
    let mut given: Vec<(&String, Vec<String>)> = members
        .iter()
        .map(|(name, urls)| (name, urls.iter().map(initial::resolve).collect()))
        .collect();
    given.sort_by(|(_, a), (_, b)| a.cmp(b));
    let resolved = |member: &Member| -> Result<Vec<String>, String> {
        let urls: Result<Vec<Url>, _> =
            member.peer_urls.iter().map(|url| Url::parse(url)).collect();
        let urls = urls.map_err(|error| error.to_string())?;
        let mut urls: Vec<String> = urls.iter().map(initial::resolve).collect();
        urls.sort();
        Ok(urls)
    };
    let mut known = Vec::new();
    for member in &existing.members {
        known.push((resolved(member)?, member));
    }
    known.sort_by(|(a, _), (b, _)| a.cmp(b));
    let mut found = None;
    for ((given_name, mut given_urls), (urls, member)) in given.into_iter().zip(known) {
        given_urls.sort();
        if given_urls != urls {
            return Err(format!(
                "unmatched member while checking PeerURLs (resolved urls: {urls:?} != \
                 {given_urls:?})"
            ));
        }
        if given_name == name {
            found = Some(member.id);
        }
    }
    found.ok_or_else(|| "unmatched member while checking PeerURLs".to_owned())
}

/// The version of the cluster, from the members that answer.
fn cluster_version(
    dialer: &Dialer,
    members: &[Member],
    me: NodeId,
) -> Result<Option<Version>, String> {
    let incompatible = || Err("incompatible with current running cluster".to_owned());
    let others = members.iter().filter(|member| member.id != me);
    let answers: Vec<_> = thread::scope(|scope| {
        let ask = |member: &Member| {
            let urls: Vec<Url> =
                member.peer_urls.iter().filter_map(|url| Url::parse(url).ok()).collect();
            remote::blocking(remote::fetch_version(dialer, &urls, JOIN_TIME_MAX)).ok()
        };
        let asked: Vec<_> = others.map(|member| scope.spawn(move || ask(member))).collect();
        asked.into_iter().filter_map(|thread| thread.join().ok()?).collect()
    });
    if answers.is_empty() {
        return incompatible();
    }
    let mut newest = None;
    for answer in answers {
        let Ok(version) = Version::parse(&answer.etcdcluster) else { continue };
        if version < CLUSTER_VERSION_MIN || version > SERVER_MINOR {
            return incompatible();
        }
        newest = newest.max(Some(version));
    }
    Ok(newest)
}

/// The cluster as Go prints it.
fn text(cluster: &RemoteCluster) -> String {
    let member = |member: &Member| {
        format!(
            "&{{ID:{:x} RaftAttributes:{{PeerURLs:[{}] IsLearner:{}}} Attributes:{{Name:{} \
             ClientURLs:[{}]}}}}",
            member.id,
            member.peer_urls.join(" "),
            member.is_learner,
            member.name,
            member.client_urls.join(" ")
        )
    };
    let members: Vec<String> = cluster.members.iter().map(member).collect();
    format!(
        "{{ClusterID:{:x} Members:[{}] RemovedMemberIDs:[]}}",
        cluster.cluster,
        members.join(" ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(members: &[(&str, &str)]) -> Members {
        members
            .iter()
            .map(|(name, urls)| ((*name).to_owned(), Url::parse_list(urls).unwrap()))
            .collect()
    }

    fn existing(members: &[(u64, &str)]) -> RemoteCluster {
        let members = members.iter().map(|(id, urls)| Member {
            id: NodeId(*id),
            peer_urls: urls.split(',').map(str::to_owned).collect(),
            ..Member::default()
        });
        RemoteCluster { cluster: 0xab, members: members.collect() }
    }

    #[test]
    fn a_member_finds_its_id_by_its_urls() {
        let given = given(&[("new", "http://127.0.0.1:1"), ("old", "http://127.0.0.1:2")]);
        let existing = existing(&[(7, "http://127.0.0.1:2"), (8, "http://localhost:1")]);
        assert_eq!(place("new", &given, &existing), Ok(NodeId(8)));
        assert_eq!(place("old", &given, &existing), Ok(NodeId(7)));
    }

    #[test]
    fn a_cluster_with_other_members_is_refused() {
        let given = given(&[("new", "http://127.0.0.1:1"), ("old", "http://127.0.0.1:2")]);
        let few = existing(&[(7, "http://127.0.0.1:2")]);
        assert_eq!(place("new", &given, &few), Err("member count is unequal".to_owned()));
        let others = existing(&[(7, "http://127.0.0.1:2"), (8, "http://127.0.0.1:3")]);
        let error = place("new", &given, &others).unwrap_err();
        assert!(error.starts_with("unmatched member while checking PeerURLs ("), "{error}");
    }

    #[test]
    fn a_cluster_is_shown_as_go_prints_it() {
        assert_eq!(
            text(&existing(&[(0x1f, "http://a:1,http://b:2")])),
            "{ClusterID:ab Members:[&{ID:1f RaftAttributes:{PeerURLs:[http://a:1 http://b:2] \
             IsLearner:false} Attributes:{Name: ClientURLs:[]}}] RemovedMemberIDs:[]}"
        );
    }

    #[test]
    fn a_new_cluster_whose_other_members_do_not_answer_begins() {
        let members = given(&[("a", "http://127.0.0.1:1"), ("b", "http://127.0.0.1:9")]);
        let dialer = Dialer::new(None, JOIN_TIME_MAX);
        let Ok(Founding::New { name, members, .. }) = found("a", &members, "t", &dialer) else {
            panic!("it begins")
        };
        assert_eq!((&*name, members.len()), ("a", 2));
    }
}
