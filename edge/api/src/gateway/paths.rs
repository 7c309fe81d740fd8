//! The paths of the gateway and their gRPC methods.
//!
//! Source: etcd v3.7 api/etcdserverpb/rpc.proto, server/etcdserver/api/{v3lock,v3election}
//! (`google.api.http`).

/// Path below `/v3`, method. RangeStream and the health service have no path.
const PATHS: &[(&str, &str)] = &[
    ("/kv/range", "/etcdserverpb.KV/Range"),
    ("/kv/put", "/etcdserverpb.KV/Put"),
    ("/kv/deleterange", "/etcdserverpb.KV/DeleteRange"),
    ("/kv/txn", "/etcdserverpb.KV/Txn"),
    ("/kv/compaction", "/etcdserverpb.KV/Compact"),
    ("/watch", "/etcdserverpb.Watch/Watch"),
    ("/lease/grant", "/etcdserverpb.Lease/LeaseGrant"),
    ("/lease/revoke", "/etcdserverpb.Lease/LeaseRevoke"),
    ("/kv/lease/revoke", "/etcdserverpb.Lease/LeaseRevoke"),
    ("/lease/keepalive", "/etcdserverpb.Lease/LeaseKeepAlive"),
    ("/lease/timetolive", "/etcdserverpb.Lease/LeaseTimeToLive"),
    ("/kv/lease/timetolive", "/etcdserverpb.Lease/LeaseTimeToLive"),
    ("/lease/leases", "/etcdserverpb.Lease/LeaseLeases"),
    ("/kv/lease/leases", "/etcdserverpb.Lease/LeaseLeases"),
    ("/cluster/member/add", "/etcdserverpb.Cluster/MemberAdd"),
    ("/cluster/member/remove", "/etcdserverpb.Cluster/MemberRemove"),
    ("/cluster/member/update", "/etcdserverpb.Cluster/MemberUpdate"),
    ("/cluster/member/list", "/etcdserverpb.Cluster/MemberList"),
    ("/cluster/member/promote", "/etcdserverpb.Cluster/MemberPromote"),
    ("/maintenance/alarm", "/etcdserverpb.Maintenance/Alarm"),
    ("/maintenance/status", "/etcdserverpb.Maintenance/Status"),
    ("/maintenance/defragment", "/etcdserverpb.Maintenance/Defragment"),
    ("/maintenance/hash", "/etcdserverpb.Maintenance/Hash"),
    ("/maintenance/hashkv", "/etcdserverpb.Maintenance/HashKV"),
    ("/maintenance/snapshot", "/etcdserverpb.Maintenance/Snapshot"),
    ("/maintenance/transfer-leadership", "/etcdserverpb.Maintenance/MoveLeader"),
    ("/maintenance/downgrade", "/etcdserverpb.Maintenance/Downgrade"),
    ("/auth/enable", "/etcdserverpb.Auth/AuthEnable"),
    ("/auth/disable", "/etcdserverpb.Auth/AuthDisable"),
    ("/auth/status", "/etcdserverpb.Auth/AuthStatus"),
    ("/auth/authenticate", "/etcdserverpb.Auth/Authenticate"),
    ("/auth/user/add", "/etcdserverpb.Auth/UserAdd"),
    ("/auth/user/get", "/etcdserverpb.Auth/UserGet"),
    ("/auth/user/list", "/etcdserverpb.Auth/UserList"),
    ("/auth/user/delete", "/etcdserverpb.Auth/UserDelete"),
    ("/auth/user/changepw", "/etcdserverpb.Auth/UserChangePassword"),
    ("/auth/user/grant", "/etcdserverpb.Auth/UserGrantRole"),
    ("/auth/user/revoke", "/etcdserverpb.Auth/UserRevokeRole"),
    ("/auth/role/add", "/etcdserverpb.Auth/RoleAdd"),
    ("/auth/role/get", "/etcdserverpb.Auth/RoleGet"),
    ("/auth/role/list", "/etcdserverpb.Auth/RoleList"),
    ("/auth/role/delete", "/etcdserverpb.Auth/RoleDelete"),
    ("/auth/role/grant", "/etcdserverpb.Auth/RoleGrantPermission"),
    ("/auth/role/revoke", "/etcdserverpb.Auth/RoleRevokePermission"),
    ("/lock/lock", "/v3lockpb.Lock/Lock"),
    ("/lock/unlock", "/v3lockpb.Lock/Unlock"),
    ("/election/campaign", "/v3electionpb.Election/Campaign"),
    ("/election/proclaim", "/v3electionpb.Election/Proclaim"),
    ("/election/leader", "/v3electionpb.Election/Leader"),
    ("/election/observe", "/v3electionpb.Election/Observe"),
    ("/election/resign", "/v3electionpb.Election/Resign"),
];

/// The gRPC path for a path of the gateway. Like etcd, it also accepts the old prefix `/v3beta`.
pub(super) fn grpc(path: &str) -> Option<&'static str> {
    let below = path.strip_prefix("/v3beta").or_else(|| path.strip_prefix("/v3"))?;
    // No path has a character that must be escaped, but a client may escape a slash.
    let below = below.replace("%2F", "/").replace("%2f", "/");
    PATHS.iter().find(|(path, _)| *path == below).map(|(_, method)| *method)
}

/// A path without empty segments and dots; `None` if it has none. Only the path of a gateway's
/// method matters, so escaped bytes are left as they are.
pub(super) fn cleaned(path: &str) -> Option<String> {
    let rest = path.strip_prefix('/')?;
    let (inner, last) = rest.rsplit_once('/').unwrap_or(("", rest));
    let is_dotted = |segment: &str| matches!(segment, "." | "..");
    let is_unclean = |segment: &str| segment.is_empty() || is_dotted(segment);
    if (!rest.contains('/') || !inner.split('/').any(is_unclean)) && !is_dotted(last) {
        return None;
    }
    let mut segments = Vec::new();
    for segment in rest.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            _ => segments.push(segment),
        }
    }
    let slash = if last.is_empty() && !segments.is_empty() { "/" } else { "" };
    Some(format!("/{}{slash}", segments.join("/")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_with_empty_segments_or_dots_are_cleaned() {
        for (path, clean) in [
            ("//v3/kv/range", Some("/v3/kv/range")),
            ("/v3//kv/range", Some("/v3/kv/range")),
            ("/v3/kv/../kv/range", Some("/v3/kv/range")),
            ("/v3/./kv/range/", Some("/v3/kv/range/")),
            ("/v3/kv/..", Some("/v3")),
            ("//", Some("/")),
            ("/../..", Some("/")),
            ("/v3/kv/range", None),
            ("/v3/kv/range/", None),
            ("/v3/..kv/range.", None),
            ("/version", None),
            ("/", None),
            ("*", None),
        ] {
            assert_eq!(cleaned(path).as_deref(), clean, "{path}");
        }
    }

    #[test]
    fn each_method_but_two_has_a_path_and_each_path_a_method() {
        let mut methods: Vec<String> = crate::gateway::json::all_methods();
        methods.retain(|method| !method.starts_with("/grpc.health.v1."));
        methods.retain(|method| method != "/etcdserverpb.KV/RangeStream");
        methods.sort();
        let mut reached: Vec<&str> = PATHS.iter().map(|(_, method)| *method).collect();
        reached.sort_unstable();
        reached.dedup();
        assert_eq!(reached, methods);
        assert_eq!(grpc("/v3beta/kv/put"), Some("/etcdserverpb.KV/Put"));
        assert_eq!(grpc("/v3/kv/put/"), None);
    }

    #[test]
    fn all_paths_and_methods_of_etcd_are_there() {
        let paths: Vec<&str> =
            include_str!("../../testdata/etcd-3.7.1-paths.txt").lines().collect();
        let methods: Vec<&str> =
            include_str!("../../testdata/etcd-3.7.1-methods.txt").lines().collect();
        assert_eq!((paths.len(), methods.len()), (51, 52), "the lists are whole");
        let no_path: Vec<&&str> = paths.iter().filter(|path| grpc(path).is_none()).collect();
        assert!(no_path.is_empty(), "{no_path:#?}");
        let ours = crate::gateway::json::all_methods();
        let absent = |method: &&&str| !ours.iter().any(|ours| ours == **method);
        let no_method: Vec<&&str> = methods.iter().filter(absent).collect();
        assert!(no_method.is_empty(), "{no_method:#?}");
    }
}
