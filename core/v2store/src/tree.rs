//! The v2 tree.
//!
//! | node | content |
//! |---|---|
//! | `/0/members/ID/raftAttributes` | a member's peer URLs and whether it is a learner, as JSON |
//! | `/0/members/ID/attributes` | its name and client URLs, as JSON, once published |
//! | `/0/removed_members/ID` | the id of a removed member |
//! | `/0/version` | the cluster version |
//! | `/1/…` | keys of users of the v2 API |
//! | `/2/…` | the v2 API's users and roles |
//!
//! Source: etcd v3.5 server/etcdserver/api/v2store/store.go; v3.7
//! server/etcdserver/api/membership/storev2.go.

use crate::expire_time;
use proto::NodeId;
use proto::etcdserverpb::Request;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;

/// The version of the JSON form that every etcd writes.
const FORM_VERSION: u64 = 2;

/// The v2 tree with the other fields of its JSON form.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct V2Tree {
    #[serde(rename = "Root")]
    root: Node,
    /// The last events, kept unchanged.
    #[serde(rename = "WatcherHub", default, skip_serializing_if = "Option::is_none")]
    watcher_hub: Option<Value>,
    #[serde(rename = "CurrentIndex")]
    current_index: u64,
    /// Counters, kept unchanged.
    #[serde(rename = "Stats", default, skip_serializing_if = "Option::is_none")]
    stats: Option<Value>,
    #[serde(rename = "CurrentVersion")]
    current_version: u64,
}

/// A leaf when it has no map of children.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Node {
    #[serde(rename = "Path")]
    path: String,
    #[serde(rename = "CreatedIndex")]
    created_index: u64,
    #[serde(rename = "ModifiedIndex")]
    modified_index: u64,
    #[serde(rename = "ExpireTime")]
    expire_time: String,
    #[serde(rename = "Value")]
    value: String,
    #[serde(rename = "Children")]
    children: Option<BTreeMap<String, Node>>,
}

/// Bytes that are not the JSON form of a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadV2Tree(
    /// What is wrong.
    pub String,
);

impl fmt::Display for BadV2Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "bad v2 store: {}", self.0)
    }
}

impl std::error::Error for BadV2Tree {}

/// The change that a v2 request makes outside of the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum V2Change {
    /// None.
    None,
    /// A member publishes its name and client URLs.
    MemberAttributes {
        /// The member.
        id: NodeId,
        /// The attributes as JSON.
        json: String,
    },
    /// The cluster version is set.
    ClusterVersion(String),
}

/// A request of a user of the v2 API, which is not supported yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotBuilt {
    /// The request's method.
    pub method: String,
    /// The node of the request.
    pub path: String,
}

impl fmt::Display for NotBuilt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the log has a request of the v2 API after the newest snapshot ({} {:?}), and the v2 \
             API is not built yet; to use this directory, have the etcd that wrote it take a \
             snapshot first",
            self.method, self.path
        )
    }
}

impl std::error::Error for NotBuilt {}

impl Node {
    fn dir(path: &str, index: u64) -> Node {
        Node { children: Some(BTreeMap::new()), ..Node::leaf(path, index, "") }
    }

    fn leaf(path: &str, index: u64, value: &str) -> Node {
        Node {
            path: path.to_owned(),
            created_index: index,
            modified_index: index,
            expire_time: expire_time::PERMANENT.to_owned(),
            value: value.to_owned(),
            children: None,
        }
    }

    fn child(&self, name: &str) -> Option<&Node> {
        self.children.as_ref()?.get(name)
    }

    fn children(&self) -> impl Iterator<Item = (&str, &Node)> {
        self.children.iter().flatten().map(|(name, node)| (name.as_str(), node))
    }

    /// The first node in this subtree whose expiry time is invalid.
    fn bad_expire_time(&self) -> Option<&Node> {
        if expire_time::unix_ns(&self.expire_time).is_none() {
            return Some(self);
        }
        self.children().find_map(|(_, node)| node.bad_expire_time())
    }

    /// A node in this subtree that expires by then.
    fn expires_by(&self, unix_ns: i128) -> Option<&Node> {
        let expires = self.expire_time != expire_time::PERMANENT
            && expire_time::unix_ns(&self.expire_time).is_some_and(|at| at <= unix_ns);
        if expires {
            return Some(self);
        }
        self.children().find_map(|(_, node)| node.expires_by(unix_ns))
    }
}

impl Default for V2Tree {
    /// An empty tree.
    fn default() -> V2Tree {
        let mut root = Node::dir("/", 0);
        let dirs = ["0", "1"].map(|name| (name.to_owned(), Node::dir(&format!("/{name}"), 0)));
        root.children = Some(dirs.into());
        V2Tree {
            root,
            watcher_hub: None,
            current_index: 0,
            stats: None,
            current_version: FORM_VERSION,
        }
    }
}

impl V2Tree {
    /// Reads the JSON form.
    ///
    /// # Errors
    /// When the JSON is not the form of a tree.
    pub fn parse(json: &[u8]) -> Result<V2Tree, BadV2Tree> {
        let tree: V2Tree =
            serde_json::from_slice(json).map_err(|error| BadV2Tree(error.to_string()))?;
        if tree.current_version != FORM_VERSION {
            return Err(BadV2Tree(format!("unknown version {}", tree.current_version)));
        }
        match tree.root.bad_expire_time() {
            Some(node) => Err(BadV2Tree(format!(
                "{:?} has the invalid expiry time {:?}",
                node.path, node.expire_time
            ))),
            None => Ok(tree),
        }
    }

    /// The JSON form, as Go writes it.
    #[must_use]
    pub fn to_json(&self) -> String {
        let json = serde_json::to_string(self);
        proto::go_json::escape(&json.expect("a tree of strings and numbers is always written"))
    }

    fn node(&self, path: &[&str]) -> Option<&Node> {
        path.iter().try_fold(&self.root, |node, name| node.child(name))
    }

    /// The members: id in hex, `raftAttributes`, `attributes`.
    pub fn members(&self) -> impl Iterator<Item = (&str, &str, Option<&str>)> {
        let members = self.node(&["0", "members"]).into_iter().flat_map(Node::children);
        members.map(|(id, node)| {
            let value = |name| node.child(name).map(|node: &Node| node.value.as_str());
            (id, value("raftAttributes").unwrap_or_default(), value("attributes"))
        })
    }

    /// The ids of removed members, in hex.
    pub fn removed_members(&self) -> impl Iterator<Item = &str> {
        let removed = self.node(&["0", "removed_members"]).into_iter().flat_map(Node::children);
        removed.map(|(id, _)| id)
    }

    /// The cluster version, once decided.
    #[must_use]
    pub fn version(&self) -> Option<&str> {
        self.node(&["0", "version"]).map(|node| node.value.as_str())
    }

    /// Whether there is anything but the members and the version of the cluster: keys of users, or
    /// users and roles of the v2 API. Their empty directories do not count.
    ///
    /// Source: etcd v3.5.30 server/etcdserver/api/membership/storev2.go `IsMetaStoreOnly`.
    #[must_use]
    pub fn has_user_data(&self) -> bool {
        let has_children = |node: &Node| node.children().next().is_some();
        self.root.children().any(|(name, node)| match name {
            "0" => false,
            "2" => node.children().any(|(_, below)| has_children(below)),
            _ => has_children(node),
        })
    }

    /// Generates `/0` from the cluster, as etcd does for each .snap since 3.6. The rest stays.
    pub fn set_cluster<'a>(
        &mut self,
        members: impl IntoIterator<Item = (&'a str, &'a str, Option<&'a str>)>,
        removed: impl IntoIterator<Item = &'a str>,
        version: Option<&str>,
    ) {
        let cluster = Node::dir("/0", 0);
        self.root.children.get_or_insert_default().insert("0".into(), cluster);
        for (id, raft_attributes, attributes) in members {
            self.set(&["0", "members", id, "raftAttributes"], raft_attributes);
            if let Some(attributes) = attributes {
                self.set(&["0", "members", id, "attributes"], attributes);
            }
        }
        for id in removed {
            self.set(&["0", "removed_members", id], "");
        }
        if let Some(version) = version {
            self.set(&["0", "version"], version);
        }
    }

    /// Sets a leaf, and creates the directories above it.
    fn set(&mut self, path: &[&str], value: &str) {
        self.current_index += 1;
        let mut node = &mut self.root;
        for name in path {
            let below = format!("{}/{name}", node.path.trim_end_matches('/'));
            let children = node.children.get_or_insert_default();
            let index = self.current_index;
            node = children.entry((*name).into()).or_insert_with(|| Node::dir(&below, index));
        }
        *node = Node::leaf(&node.path, self.current_index, value);
    }

    /// Applies a v2 request of the log.
    ///
    /// # Errors
    /// For all requests but etcd's own: member attributes, the cluster version, reads, and the
    /// clock of expiry (SYNC) while no node expires.
    pub fn apply(&mut self, request: &Request) -> Result<V2Change, NotBuilt> {
        let not_built = |path: &str| NotBuilt {
            method: request.method().to_owned(),
            path: path.chars().take(256).collect(),
        };
        match request.method() {
            "QGET" | "GET" | "HEAD" => Ok(V2Change::None),
            "SYNC" => match self.root.expires_by(request.time().into()) {
                Some(node) => Err(not_built(&node.path)),
                None => Ok(V2Change::None),
            },
            "PUT" if is_plain(request) => {
                self.put(request).ok_or_else(|| not_built(request.path()))
            }
            _ => Err(not_built(request.path())),
        }
    }

    fn put(&mut self, request: &Request) -> Option<V2Change> {
        let path: Vec<&str> = request.path().strip_prefix('/')?.split('/').collect();
        let effect = match path[..] {
            ["0", "version"] => V2Change::ClusterVersion(request.val().to_owned()),
            ["0", "members", id, "attributes"] => {
                let hex = (1..=16).contains(&id.len()) && id.bytes().all(|c| c.is_ascii_hexdigit());
                let id = hex.then(|| u64::from_str_radix(id, 16).ok()).flatten()?;
                V2Change::MemberAttributes { id: NodeId(id), json: request.val().to_owned() }
            }
            _ => return None,
        };
        self.set(&path, request.val());
        Some(effect)
    }
}

/// Whether a PUT has no condition and no time to live.
fn is_plain(request: &Request) -> bool {
    request.prev_exist.is_none()
        && request.refresh.is_none()
        && request.prev_index() == 0
        && request.prev_value().is_empty()
        && request.expiration() == 0
        && !request.dir()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(path: &str, val: &str) -> Request {
        Request {
            method: Some("PUT".into()),
            path: Some(path.into()),
            val: Some(val.into()),
            ..Request::default()
        }
    }

    fn sync(unix_ns: i64) -> Request {
        Request { method: Some("SYNC".into()), time: Some(unix_ns), ..Request::default() }
    }

    #[test]
    fn empty_directories_of_users_are_no_user_data() {
        let mut tree = V2Tree::default();
        tree.set_cluster([("a", "R", None)], [], Some("3.5.0"));
        assert!(!tree.has_user_data());
        tree.set(&["2", "enabled"], "false");
        tree.root.children.as_mut().unwrap().insert("1".into(), Node::dir("/1", 0));
        assert!(!tree.has_user_data());
        let with = |path: &[&str]| {
            let mut tree = tree.clone();
            tree.set(path, "x");
            tree.has_user_data()
        };
        assert!(with(&["1", "key"]) && with(&["2", "users", "u"]) && with(&["3", "key"]));
    }

    #[test]
    fn a_generated_tree_is_what_etcd_generates() {
        let mut tree = V2Tree::default();
        tree.set_cluster([("a", "R", Some("A<")), ("b", "S", None)], ["c"], Some("3.7.0"));
        let leaf = |path: &str, index: u64, value: &str| {
            format!(
                r#"{{"Path":"{path}","CreatedIndex":{index},"ModifiedIndex":{index},"ExpireTime":"0001-01-01T00:00:00Z","Value":"{value}","Children":null}}"#
            )
        };
        let dir = |path: &str, index: u64, children: &str| {
            leaf(path, index, "").replace("null", &format!("{{{children}}}"))
        };
        let a = format!(
            r#""attributes":{},"raftAttributes":{}"#,
            leaf("/0/members/a/attributes", 2, "A\\u003c"),
            leaf("/0/members/a/raftAttributes", 1, "R")
        );
        let b = format!(r#""raftAttributes":{}"#, leaf("/0/members/b/raftAttributes", 3, "S"));
        let members =
            format!(r#""a":{},"b":{}"#, dir("/0/members/a", 1, &a), dir("/0/members/b", 3, &b));
        let removed = format!(r#""c":{}"#, leaf("/0/removed_members/c", 4, ""));
        let cluster = format!(
            r#""members":{},"removed_members":{},"version":{}"#,
            dir("/0/members", 1, &members),
            dir("/0/removed_members", 4, &removed),
            leaf("/0/version", 5, "3.7.0")
        );
        let root = format!(r#""0":{},"1":{}"#, dir("/0", 0, &cluster), dir("/1", 0, ""));
        let all =
            format!(r#"{{"Root":{},"CurrentIndex":5,"CurrentVersion":2}}"#, dir("/", 0, &root));
        assert_eq!(tree.to_json(), all);
        assert_eq!(V2Tree::parse(all.as_bytes()), Ok(tree));
    }

    #[test]
    fn a_new_tree_has_no_members() {
        let tree = V2Tree::default();
        assert_eq!(tree.members().count() + tree.removed_members().count(), 0);
        assert_eq!(tree.version(), None);
    }

    #[test]
    fn etcds_own_puts_are_applied() {
        let mut tree = V2Tree::default();
        let json = r#"{"name":"n1","clientURLs":["http://x"]}"#;
        let change = tree.apply(&put("/0/members/a1/attributes", json));
        assert_eq!(change, Ok(V2Change::MemberAttributes { id: NodeId(0xa1), json: json.into() }));
        assert_eq!(tree.members().collect::<Vec<_>>(), [("a1", "", Some(json))]);
        let change = tree.apply(&put("/0/version", "3.5.0"));
        assert_eq!(change, Ok(V2Change::ClusterVersion("3.5.0".into())));
        assert_eq!(tree.version(), Some("3.5.0"));
        assert_eq!(tree.current_index, 2);
    }

    #[test]
    fn requests_of_users_are_refused_and_change_nothing() {
        let mut tree = V2Tree::default();
        let before = tree.clone();
        let with_method = |method: &str| Request { method: Some(method.into()), ..put("/1/k", "") };
        for request in [
            put("/1/key", "v"),
            put("/0/other", "v"),
            put("/0/members/xyz/attributes", "{}"),
            put("/0/members/+1/attributes", "{}"),
            put("0/version", "3.5.0"),
            Request { prev_exist: Some(false), ..put("/0/version", "3.5.0") },
            Request { prev_index: Some(4), ..put("/0/version", "3.5.0") },
            with_method("POST"),
            with_method("DELETE"),
            with_method(""),
        ] {
            let refused = tree.apply(&request).unwrap_err();
            assert_eq!(refused.path, request.path());
        }
        assert_eq!(tree, before);
        assert_eq!(tree.apply(&with_method("QGET")), Ok(V2Change::None));
    }

    #[test]
    fn a_sync_is_applied_while_no_node_expires() {
        let mut tree = V2Tree::default();
        tree.set(&["1", "dir", "k"], "v");
        assert_eq!(tree.apply(&sync(i64::MAX)), Ok(V2Change::None));
        let json = tree.to_json();
        let (start, end) = json.split_at(json.find(r#""/1/dir/k""#).unwrap());
        let end = end.replacen(expire_time::PERMANENT, "1970-01-01T00:00:05Z", 1);
        let mut tree = V2Tree::parse(format!("{start}{end}").as_bytes()).unwrap();
        assert_eq!(tree.apply(&sync(4_999_999_999)), Ok(V2Change::None));
        assert_eq!(tree.apply(&sync(5_000_000_000)).unwrap_err().path, "/1/dir/k");
    }

    #[test]
    fn other_texts_are_refused() {
        let good = V2Tree::default().to_json();
        for bad in [
            String::new(),
            "{}".into(),
            good.replace("\"CurrentVersion\":2", "\"CurrentVersion\":3"),
            good.replace(expire_time::PERMANENT, "yesterday"),
            good.replace("{\"Path\":\"/0\"", "{\"Path\":0"),
            good[..good.len() - 1].into(),
        ] {
            assert!(V2Tree::parse(bad.as_bytes()).is_err(), "{bad}");
        }
        let deep = r#"{"Root":{"Children":"#.to_owned() + &r#"{"a":"#.repeat(100_000);
        assert!(V2Tree::parse(deep.as_bytes()).is_err());
    }
}
