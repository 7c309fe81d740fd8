//! Discovery: the members of a new cluster find each other through the keys of another cluster.
//!
//! | key below `/_etcd/registry/TOKEN/` | value |
//! |---|---|
//! | `_config/size` | the number of members; somebody puts it before the first member starts |
//! | `members/ID` | a member's `name=url,name=url`; each member puts its own |
//!
//! The first members by their creation revisions, as many as the size says, are the cluster.
//!
//! Source: etcd server/etcdserver/api/v3discovery/discovery.go @ v3.7.1.

use crate::config::DiscoveryService;
use crate::initial;
use client::{Client, prefix_end};
use proto::NodeId;
use proto::etcdserverpb as pb;
use std::fmt;
use std::time::Duration;

const REGISTRY: &str = "_etcd/registry";
/// The largest cluster that is waited for. Without a limit, a mistyped size would be waited for for
/// ever; a cluster of this size would hardly commit anything.
const MEMBERS_MAX: usize = 100;
/// The pause before the n-th repetition is 2^n seconds; from this n on it does not grow.
const BACKOFF_EXPONENT_MAX: u32 = 8;

/// Why a member has not joined.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The cluster has all of its members.
    Full,
    /// Nobody has put a size.
    NoSize,
    /// The size is not a number, or not one that a cluster can have.
    BadSize,
    /// A member has put something else than its URLs.
    BadUrls,
    /// The service cannot be used.
    Service(String),
}

impl fmt::Display for Refusal {
    /// etcd's words.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("discovery: ")?;
        match self {
            Refusal::Full => f.write_str("cluster is full"),
            Refusal::NoSize => f.write_str("size key not found"),
            Refusal::BadSize => write!(f, "size key is bad; it must be from 1 to {MEMBERS_MAX}"),
            Refusal::BadUrls => f.write_str("invalid peer URL"),
            Refusal::Service(why) => f.write_str(why),
        }
    }
}

/// A member that has registered.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Registered {
    key: String,
    /// `name=url,name=url`.
    urls: String,
    created: i64,
}

/// The members that have registered, in the order of their registrations.
#[derive(Debug, Default)]
struct Registry {
    members: Vec<Registered>,
}

impl Registry {
    fn add(&mut self, pair: &proto::mvccpb::KeyValue) {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        let (key, urls) = (text(&pair.key), text(&pair.value));
        if !urls.contains('=') {
            let message = "invalid peer info returned from discovery service";
            tracing::warn!("memberKey" = key, "memberInfo" = urls, "{message}");
            return;
        }
        if self.members.iter().any(|member| member.key == key) {
            let message = "found duplicate peer from discovery service";
            tracing::warn!("memberKey" = key, "memberInfo" = urls, "{message}");
            return;
        }
        tracing::info!("memberKey" = key, "memberInfo" = urls, "found peer from discovery service");
        self.members.push(Registered { key, urls, created: pair.create_revision });
        self.members.sort_by_key(|member| member.created);
    }

    /// How many members have registered before this key.
    fn before(&self, key: &str) -> usize {
        let place = self.members.iter().position(|member| member.key == key);
        place.unwrap_or(self.members.len())
    }

    /// The first members as an initial cluster.
    fn initial_cluster(&self, size: usize) -> Result<String, Refusal> {
        let urls: Vec<&str> = self.members.iter().take(size).map(|member| &*member.urls).collect();
        let cluster = urls.join(",");
        initial::parse(&cluster).map(|_| cluster).map_err(|_| Refusal::BadUrls)
    }
}

/// The keys of a cluster at the service.
#[derive(Debug)]
struct Keys {
    size: String,
    members: String,
}

impl Keys {
    /// As in Go, `..` in a token leads out of the registry, but not above the root.
    fn of(token: &str) -> Keys {
        let mut parts = Vec::new();
        for part in REGISTRY.split('/').chain(token.split('/')) {
            match part {
                "" | "." => {}
                ".." => _ = parts.pop(),
                part => parts.push(part),
            }
        }
        let root: String = parts.iter().map(|part| format!("/{part}")).collect();
        Keys { size: format!("{root}/_config/size"), members: format!("{root}/members/") }
    }
}

fn parse_size(text: &[u8]) -> Result<usize, Refusal> {
    let size = std::str::from_utf8(text).ok().and_then(|text| text.parse::<i64>().ok());
    let size = size.and_then(|size| usize::try_from(size).ok());
    size.filter(|size| (1..=MEMBERS_MAX).contains(size)).ok_or(Refusal::BadSize)
}

/// Registers a member, and waits until all members have registered. Returns their initial cluster.
/// While the service cannot be reached, it is asked again and again.
///
/// # Errors
/// [`Refusal`].
pub(crate) fn join(
    service: &DiscoveryService,
    member: NodeId,
    urls: &str,
) -> Result<String, Refusal> {
    let failed = |error: &dyn fmt::Display| Refusal::Service(error.to_string());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let joined = runtime.map_err(|error| failed(&error))?.block_on(async {
        let client = Client::connect(service.client.clone()).await;
        let client = client.map_err(|error| failed(&error))?;
        let keys = Keys::of(&service.token);
        let own = format!("{}{member:x}", keys.members);
        let requests = client.with_timeout(service.request_timeout);
        let mut joining = Joining { client, requests, keys, own, repetitions: 0 };
        joining.join(urls).await
    });
    let (token, endpoints) = (&service.token, service.client.endpoints.join(","));
    match &joined {
        Ok(cluster) => tracing::info!(
            "discovery-token" = token,
            "discovery-endpoints" = endpoints,
            cluster,
            "discovery joined cluster successfully"
        ),
        Err(error) => tracing::error!(
            "discovery-token" = token,
            "discovery-endpoints" = endpoints,
            %error,
            "discovery failed to join cluster"
        ),
    }
    joined
}

struct Joining {
    /// Without a time limit for calls.
    client: Client,
    /// With one.
    requests: Client,
    keys: Keys,
    /// The key of this member.
    own: String,
    /// Repetitions since the last success.
    repetitions: u32,
}

/// What the service says.
struct Checked {
    registry: Registry,
    size: usize,
    revision: i64,
}

impl Joining {
    async fn join(&mut self, urls: &str) -> Result<String, Refusal> {
        self.check().await?;
        self.register(urls).await;
        loop {
            let mut checked = self.check().await?;
            self.wait(&mut checked).await;
            if checked.registry.members.len() >= checked.size {
                return checked.registry.initial_cluster(checked.size);
            }
            // The watch has ended.
            self.pause("wait for peers").await;
        }
    }

    /// Reads the size and the members.
    ///
    /// # Errors
    /// When there is no size, or as many members have registered before this one.
    async fn check(&mut self) -> Result<Checked, Refusal> {
        loop {
            match self.read().await {
                Ok(checked) => {
                    let checked = checked?;
                    self.repetitions = 0;
                    let is_full = checked.registry.before(&self.own) >= checked.size;
                    return if is_full { Err(Refusal::Full) } else { Ok(checked) };
                }
                Err(()) => self.pause("cluster status check").await,
            }
        }
    }

    /// One attempt of [`Joining::check`]; `Err` if the service does not answer.
    async fn read(&self) -> Result<Result<Checked, Refusal>, ()> {
        let key = &self.keys.size;
        let request = pb::RangeRequest { key: key.clone().into(), ..Default::default() };
        let answer = self.requests.range(request).await.map_err(|error| {
            let message = "failed to get cluster size from discovery service";
            tracing::warn!("clusterSizeKey" = key, error = %error, "{message}");
        })?;
        let size = answer.kvs.first().ok_or(Refusal::NoSize);
        let size = match size.and_then(|pair| parse_size(&pair.value)) {
            Ok(size) => size,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let prefix = &self.keys.members;
        let request = pb::RangeRequest {
            key: prefix.clone().into(),
            range_end: prefix_end(prefix.as_bytes()).into(),
            ..Default::default()
        };
        let answer = self.requests.range(request).await.map_err(|error| {
            let message = "failed to get cluster members from discovery service";
            tracing::warn!("membersKeyPrefix" = prefix, error = %error, "{message}");
        })?;
        let mut registry = Registry::default();
        answer.kvs.iter().for_each(|pair| registry.add(pair));
        let revision = answer.header.map_or(0, |header| header.revision);
        Ok(Ok(Checked { registry, size, revision }))
    }

    /// Puts this member's URLs.
    async fn register(&mut self, urls: &str) {
        let key = self.own.clone();
        loop {
            let put = pb::PutRequest {
                key: key.clone().into(),
                value: urls.to_owned().into(),
                ..Default::default()
            };
            match self.requests.put(put).await {
                Ok(_) => break,
                Err(error) => {
                    let message = "failed to register members itself to the discovery service";
                    tracing::warn!("memberKey" = key, error = %error, "{message}");
                }
            }
            self.pause("register member itself").await;
        }
        self.repetitions = 0;
        tracing::info!(
            "memberKey" = key,
            "memberInfo" = urls,
            "register member itself successfully"
        );
    }

    /// Waits until all members have registered, or the watch ends.
    async fn wait(&self, checked: &mut Checked) {
        let Checked { registry, size, revision } = checked;
        let found = registry.members.len();
        if found < *size {
            let message = "waiting for peers from discovery service";
            tracing::info!("clusterSize" = *size, "found-peers" = found, "{message}");
            let prefix = &self.keys.members;
            let request = pb::WatchCreateRequest {
                key: prefix.clone().into(),
                range_end: prefix_end(prefix.as_bytes()).into(),
                start_revision: *revision + 1,
                ..Default::default()
            };
            let mut watcher = self.client.watch(request).await;
            while registry.members.len() < *size {
                let Some(update) = watcher.next().await else { return };
                let events = update.response.events.iter();
                let puts =
                    events.filter(|event| event.r#type() == proto::mvccpb::event::EventType::Put);
                puts.filter_map(|event| event.kv.as_ref()).for_each(|pair| registry.add(pair));
            }
        }
        let found = registry.members.len();
        let message = "found all needed peers from discovery service";
        tracing::info!("clusterSize" = *size, "found-peers" = found, "{message}");
    }

    async fn pause(&mut self, reason: &str) {
        self.repetitions = (self.repetitions + 1).min(BACKOFF_EXPONENT_MAX);
        let backoff = Duration::from_secs(1 << self.repetitions);
        let shown = cli::duration::GoDuration::from(backoff).to_string();
        tracing::warn!(reason, backoff = shown, "retry connecting to discovery service");
        tokio::time::sleep(backoff).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::mvccpb::KeyValue;

    fn registry(rows: &[(&str, &str, i64)]) -> Registry {
        let mut registry = Registry::default();
        for (key, value, create_revision) in rows {
            registry.add(&KeyValue {
                key: (*key).to_owned().into(),
                value: (*value).to_owned().into(),
                create_revision: *create_revision,
                ..KeyValue::default()
            });
        }
        registry
    }

    #[test]
    fn the_keys_are_those_of_etcd() {
        let keys = Keys::of("t");
        assert_eq!(keys.size, "/_etcd/registry/t/_config/size");
        assert_eq!(keys.members, "/_etcd/registry/t/members/");
        assert_eq!(Keys::of("/a//b/./c/").size, "/_etcd/registry/a/b/c/_config/size");
        assert_eq!(Keys::of("../../../x").size, "/x/_config/size");
    }

    #[test]
    fn sizes_that_no_cluster_has_are_refused() {
        assert_eq!(parse_size(b"3"), Ok(3));
        assert_eq!(parse_size(b"100"), Ok(100));
        for bad in ["0", "-1", "-9223372036854775808", "101", "9223372036854775807", "", "x", "3 "]
        {
            assert_eq!(parse_size(bad.as_bytes()), Err(Refusal::BadSize), "{bad}");
        }
        assert_eq!(parse_size(b"\xff"), Err(Refusal::BadSize));
    }

    #[test]
    fn the_first_members_by_creation_are_the_cluster() {
        let registry = registry(&[
            ("m/1", "a=http://127.0.0.1:1", 30),
            ("m/2", "b=http://127.0.0.1:2", 10),
            ("m/3", "c=http://127.0.0.1:3,c=http://127.0.0.1:4", 20),
            ("m/2", "again=http://127.0.0.1:9", 40),
            ("m/4", "no urls", 5),
        ]);
        let three = "c=http://127.0.0.1:3,c=http://127.0.0.1:4";
        let first = format!("b=http://127.0.0.1:2,{three}");
        assert_eq!(registry.initial_cluster(2), Ok(first.clone()));
        assert_eq!(registry.initial_cluster(9), Ok(format!("{first},a=http://127.0.0.1:1")));
        let before = ["m/2", "m/3", "m/1", "m/5"].map(|key| registry.before(key));
        assert_eq!(before, [0, 1, 2, 3]);
    }

    #[test]
    fn urls_that_cannot_be_read_are_refused() {
        let registry = registry(&[("m/1", "a=x", 1)]);
        assert_eq!(registry.initial_cluster(1), Err(Refusal::BadUrls));
    }

    #[test]
    fn refusals_begin_with_etcds_words() {
        assert_eq!(Refusal::Full.to_string(), "discovery: cluster is full");
        assert_eq!(Refusal::NoSize.to_string(), "discovery: size key not found");
        assert!(Refusal::BadSize.to_string().starts_with("discovery: size key is bad"));
        assert_eq!(Refusal::BadUrls.to_string(), "discovery: invalid peer URL");
    }
}
