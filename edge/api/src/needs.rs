//! What each method asks of its client before anything else, while authentication is on. What a
//! request may do with keys is decided later, by the auth store.
//!
//! Source: etcd v3.7 server/etcdserver/api/v3rpc/{key,maintenance}.go, server/etcdserver/server.go
//! (`checkMembershipOperationPermission`), server/etcdserver/v3_server.go (`requireAuthInfo`).

/// What a method asks of its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Nothing here: the auth store decides about the keys or the account of the request, or there
    /// is nothing to protect.
    Nothing,
    /// A user.
    User,
    /// A user with the role `root`.
    Admin,
    /// A user with the role `root`, asked for by the handler after it has looked at the request.
    AdminLater,
}

/// What the method at this path asks; none if there is no rule for it.
pub(crate) fn need(path: &str) -> Option<Need> {
    let (service, method) = path.strip_prefix('/')?.split_once('/')?;
    Some(match (service, method) {
        ("etcdserverpb.KV", "Compact")
        | (
            "etcdserverpb.Maintenance",
            "Defragment" | "Hash" | "HashKV" | "MoveLeader" | "Snapshot" | "Downgrade",
        )
        | ("etcdserverpb.Cluster", "MemberRemove" | "MemberUpdate" | "MemberPromote") => {
            Need::Admin
        }
        // The URLs of the new member come first; reading alarms needs a user only.
        ("etcdserverpb.Cluster", "MemberAdd") | ("etcdserverpb.Maintenance", "Alarm") => {
            Need::AdminLater
        }
        ("etcdserverpb.Cluster", "MemberList") | ("etcdserverpb.Maintenance", "Status") => {
            Need::User
        }
        (
            "etcdserverpb.KV"
            | "etcdserverpb.Watch"
            | "etcdserverpb.Lease"
            | "etcdserverpb.Auth"
            | "grpc.health.v1.Health"
            // These make other calls in the name of their client.
            | "v3lockpb.Lock"
            | "v3electionpb.Election",
            _,
        ) => Need::Nothing,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_has_a_rule() {
        let metrics = server::metrics::Metrics::new(false);
        let paths: Vec<String> =
            metrics.grpc.methods().map(|method| method.path().to_owned()).collect();
        assert!(paths.len() > 40);
        for path in paths {
            assert!(need(&path).is_some(), "{path} has no rule");
        }
        assert_eq!(need("/etcdserverpb.Maintenance/NewOne"), None);
    }
}
