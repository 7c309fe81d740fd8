//! The role that each method requires of its client when authentication is enabled. It is checked
//! before the request is read. Permissions for keys are checked later, by the auth store.
//!
//! Source: etcd v3.7 server/etcdserver/api/v3rpc/{key,maintenance}.go, server/etcdserver/server.go
//! (`checkMembershipOperationPermission`), server/etcdserver/v3_server.go (`requireAuthInfo`).

/// What a method requires of its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Nothing yet: the auth store checks the keys or the account of the request later, or the
    /// method needs no protection.
    Nothing,
    /// A user.
    User,
    /// A user with the role `root`.
    Admin,
    /// A user with the role `root`, checked by the handler after it has looked at the request.
    AdminLater,
}

/// What the method at this path requires; `None` if there is no rule for it.
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
        // As in etcd, the URLs of a new member are checked before the role, and reading alarms
        // needs only a user.
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
            // These make calls on behalf of the client, which are checked in turn.
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
