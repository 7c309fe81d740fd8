//! The headers of requests between members, and the checks of both ends in etcd's order.
//!
//! | header | value |
//! |---|---|
//! | `X-Server-From`, `X-Raft-To` | the ids of both members in hex |
//! | `X-Server-Version`, `X-Min-Cluster-Version` | versions; `2.0.0` where they are missing |
//! | `X-Etcd-Cluster-ID` | the cluster's id in hex |
//! | `X-PeerURLs` | the sender's URLs for peers |
//!
//! Source: etcd v3.7 rafthttp/{http,stream,util}.go.

use cluster::{CLUSTER_VERSION_MIN, Version, parse_hex_id};
use proto::NodeId;
use std::fmt;

/// The sender's id.
pub const FROM: &str = "X-Server-From";
/// The receiver's id.
pub const TO: &str = "X-Raft-To";
/// The sender's version.
pub const SERVER_VERSION: &str = "X-Server-Version";
/// The oldest version that the sender works with.
pub const CLUSTER_VERSION: &str = "X-Min-Cluster-Version";
/// The cluster's id.
pub const CLUSTER: &str = "X-Etcd-Cluster-ID";
/// The sender's URLs.
pub const PEER_URLS: &str = "X-PeerURLs";

/// The path below which the streams are.
const STREAMS: &str = "/raft/stream/";

/// The two streams of a pair of members in each direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StreamKind {
    /// Appends: the stream "msgapp", version 2.
    Append,
    /// All other messages: the stream "message".
    Message,
}

impl StreamKind {
    /// The path at which `member` reads the stream.
    #[must_use]
    pub fn path(self, member: NodeId) -> String {
        let name = match self {
            StreamKind::Append => "msgapp",
            StreamKind::Message => "message",
        };
        format!("{STREAMS}{name}/{member:x}")
    }

    /// etcd's name of the stream in its log.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            StreamKind::Append => "stream MsgApp v2",
            StreamKind::Message => "stream Message",
        }
    }
}

/// This member, as it presents itself to others.
#[derive(Clone, Debug)]
pub struct LocalPeer {
    /// Its id.
    pub member: NodeId,
    /// The cluster's id.
    pub cluster: u64,
    /// The version that it announces.
    pub version: Version,
    /// Its URLs for peers.
    pub peer_urls: Vec<String>,
}

impl LocalPeer {
    /// The headers of a request to `to`.
    #[must_use]
    pub fn request_headers(&self, to: NodeId) -> Vec<(&'static str, String)> {
        vec![
            (FROM, format!("{:x}", self.member)),
            (SERVER_VERSION, self.version.to_string()),
            (CLUSTER_VERSION, CLUSTER_VERSION_MIN.to_string()),
            (CLUSTER, format!("{:x}", self.cluster)),
            (TO, format!("{to:x}")),
            (PEER_URLS, self.peer_urls.join(",")),
        ]
    }

    /// The headers of every answer to a peer, errors included.
    #[must_use]
    pub fn response_headers(&self) -> [(&'static str, String); 2] {
        [(SERVER_VERSION, self.version.to_string()), (CLUSTER, format!("{:x}", self.cluster))]
    }

    /// Checks the versions and the cluster of a request.
    ///
    /// # Errors
    /// [`PeerRefusal`].
    pub fn check_compatible(&self, headers: &PeerHeaders) -> Result<(), PeerRefusal> {
        let version = |text: &Option<String>| Version::parse(text.as_deref().unwrap_or("2.0.0"));
        let server = version(&headers.server_version);
        let cluster = version(&headers.cluster_version);
        let (Ok(server), Ok(oldest)) = (server, cluster) else {
            return Err(PeerRefusal::IncompatibleVersion);
        };
        let is_too_old = server.of_cluster() < CLUSTER_VERSION_MIN;
        if is_too_old || oldest.of_cluster() > self.version.of_cluster() {
            return Err(PeerRefusal::IncompatibleVersion);
        }
        if headers.cluster.as_deref().unwrap_or("") != format!("{:x}", self.cluster) {
            return Err(PeerRefusal::ClusterMismatch);
        }
        Ok(())
    }

    /// Checks a request for a stream. Returns the reading member and the stream.
    ///
    /// # Errors
    /// [`PeerRefusal`].
    pub fn check_stream(
        &self,
        path: &str,
        headers: &PeerHeaders,
        roster: &impl Roster,
    ) -> Result<(StreamKind, NodeId), PeerRefusal> {
        self.check_compatible(headers)?;
        let (kind, from) = path
            .strip_prefix(STREAMS)
            .and_then(|rest| rest.split_once('/'))
            .ok_or(PeerRefusal::InvalidPath)?;
        let kind = match kind {
            "msgapp" => StreamKind::Append,
            "message" => StreamKind::Message,
            _ => return Err(PeerRefusal::InvalidPath),
        };
        let from = parse_hex_id(from).ok_or(PeerRefusal::InvalidFrom)?;
        if roster.is_removed(from) {
            return Err(PeerRefusal::Removed);
        }
        if !roster.is_peer(from) {
            return Err(PeerRefusal::SenderNotFound);
        }
        if headers.to.as_deref().unwrap_or("") != format!("{:x}", self.member) {
            return Err(PeerRefusal::ToMismatch);
        }
        Ok((kind, from))
    }
}

/// The other members, for the checks of requests.
pub trait Roster {
    /// Whether this member was removed from the cluster.
    fn is_removed(&self, member: NodeId) -> bool;
    /// Whether this is another member of the cluster.
    fn is_peer(&self, member: NodeId) -> bool;
}

/// The headers of a request, as they were sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerHeaders {
    /// [`FROM`].
    pub from: Option<String>,
    /// [`TO`].
    pub to: Option<String>,
    /// [`SERVER_VERSION`].
    pub server_version: Option<String>,
    /// [`CLUSTER_VERSION`].
    pub cluster_version: Option<String>,
    /// [`CLUSTER`].
    pub cluster: Option<String>,
    /// [`PEER_URLS`].
    pub peer_urls: Option<String>,
}

impl PeerHeaders {
    /// Takes the headers from `of`, which finds a header by its name.
    pub fn read(of: impl Fn(&str) -> Option<String>) -> PeerHeaders {
        PeerHeaders {
            from: of(FROM),
            to: of(TO),
            server_version: of(SERVER_VERSION),
            cluster_version: of(CLUSTER_VERSION),
            cluster: of(CLUSTER),
            peer_urls: of(PEER_URLS),
        }
    }

    /// The sender and its URLs, if the headers contain both.
    #[must_use]
    pub fn sender(&self) -> Option<(NodeId, Vec<String>)> {
        let from = parse_hex_id(self.from.as_deref()?)?;
        let urls = self.peer_urls.as_deref().filter(|urls| !urls.is_empty())?;
        Some((from, urls.split(',').map(str::to_owned).collect()))
    }
}

/// Why a request of a peer is refused, with etcd's status and text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerRefusal {
    /// The versions do not work together.
    IncompatibleVersion,
    /// The sender is in another cluster.
    ClusterMismatch,
    /// There is no such stream.
    InvalidPath,
    /// The sender's id in the path is invalid.
    InvalidFrom,
    /// The sender was removed from the cluster. It stops when it receives this.
    Removed,
    /// The sender is not known.
    SenderNotFound,
    /// The request is for another member.
    ToMismatch,
    /// The body could not be read.
    Reading,
    /// The body of a POST to `/raft` is not a message.
    Unmarshalling,
    /// The part before the database is not a message.
    Decoding(String),
    /// The message before the database is of another kind.
    WrongType,
    /// The database could not be saved.
    Saving(String),
    /// The message is from a removed member or for another member. The status is never 403, because
    /// a Go member stops when it receives that.
    Processing,
    /// The same for a message with a snapshot.
    ProcessingSnapshot(String),
}

impl PeerRefusal {
    /// The HTTP status.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            PeerRefusal::IncompatibleVersion
            | PeerRefusal::ClusterMismatch
            | PeerRefusal::ToMismatch => 412,
            PeerRefusal::InvalidPath | PeerRefusal::InvalidFrom | PeerRefusal::SenderNotFound => {
                404
            }
            PeerRefusal::Removed => 410,
            PeerRefusal::Reading
            | PeerRefusal::Unmarshalling
            | PeerRefusal::Decoding(_)
            | PeerRefusal::WrongType => 400,
            PeerRefusal::Saving(_)
            | PeerRefusal::Processing
            | PeerRefusal::ProcessingSnapshot(_) => 500,
        }
    }
}

impl fmt::Display for PeerRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PeerRefusal::IncompatibleVersion => "incompatible version",
            PeerRefusal::ClusterMismatch => "cluster ID mismatch",
            PeerRefusal::InvalidPath => "invalid path",
            PeerRefusal::InvalidFrom => "invalid from",
            PeerRefusal::Removed => "removed member",
            PeerRefusal::SenderNotFound => "error sender not found",
            PeerRefusal::ToMismatch => "to field mismatch",
            PeerRefusal::Reading => "error reading raft message",
            PeerRefusal::Unmarshalling => "error unmarshalling raft message",
            PeerRefusal::WrongType => "wrong raft message type",
            PeerRefusal::Processing => "error processing raft message",
            PeerRefusal::Decoding(why) => {
                return write!(f, "failed to decode raft message ({why})");
            }
            PeerRefusal::Saving(why) => return write!(f, "failed to save KV snapshot ({why})"),
            PeerRefusal::ProcessingSnapshot(why) => {
                return write!(f, "failed to process raft message ({why})");
            }
        })
    }
}

/// Why a stream could not be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamRefusal {
    /// This member was removed from the cluster.
    Removed,
    /// The other end does not speak this version of the stream.
    Unsupported,
    /// The other end does not know this member (yet).
    NotFound,
    /// The other end refuses the versions.
    IncompatibleVersion,
    /// The other end is in another cluster.
    ClusterMismatch,
    /// Any other answer.
    Other(u16, String),
}

impl fmt::Display for StreamRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            StreamRefusal::Removed => "the member has been permanently removed from the cluster",
            StreamRefusal::Unsupported => "unsupported stream type",
            StreamRefusal::NotFound => "peer failed to find local node",
            StreamRefusal::IncompatibleVersion => "incompatible version",
            StreamRefusal::ClusterMismatch => "cluster ID mismatch",
            StreamRefusal::Other(412, text) => {
                return write!(f, "unhandled error {text:?} when precondition failed");
            }
            StreamRefusal::Other(status, _) => return write!(f, "unhandled http status {status}"),
        })
    }
}

/// Checks the answer to a request for a stream: its status, its [`SERVER_VERSION`] and the text of
/// an error. Both streams exist since 2.1.
///
/// # Errors
/// [`StreamRefusal`].
pub fn check_stream_response(
    status: u16,
    server_version: Option<&str>,
    text: &str,
) -> Result<(), StreamRefusal> {
    let oldest = Version { major: 2, minor: 1, patch: 0 };
    match Version::parse(server_version.unwrap_or("2.0.0")) {
        Ok(version) if version.of_cluster() >= oldest => {}
        Ok(_) | Err(_) => return Err(StreamRefusal::Unsupported),
    }
    Err(match (status, text.trim_end_matches('\n')) {
        (200, _) => return Ok(()),
        (410, _) => StreamRefusal::Removed,
        (404, _) => StreamRefusal::NotFound,
        (412, "incompatible version") => StreamRefusal::IncompatibleVersion,
        (412, "cluster ID mismatch") => StreamRefusal::ClusterMismatch,
        (status, text) => StreamRefusal::Other(status, text.to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Others;

    impl Roster for Others {
        fn is_removed(&self, member: NodeId) -> bool {
            member == NodeId(0xdead)
        }

        fn is_peer(&self, member: NodeId) -> bool {
            member == NodeId(0xbbd3)
        }
    }

    fn local() -> LocalPeer {
        LocalPeer {
            member: NodeId(0xa),
            cluster: 0x1c,
            version: Version { major: 3, minor: 7, patch: 1 },
            peer_urls: vec!["http://a:1".into(), "http://a:2".into()],
        }
    }

    /// The headers of a member of `version`, as they arrive at [`local`].
    fn headers(version: &str) -> PeerHeaders {
        let version = Version::parse(version).unwrap();
        let sender = LocalPeer { member: NodeId(0xbbd3), version, ..local() };
        let sent = sender.request_headers(NodeId(0xa));
        PeerHeaders::read(|name| {
            sent.iter().find(|(sent, _)| *sent == name).map(|(_, value)| value.clone())
        })
    }

    fn refused(path: &str, headers: &PeerHeaders) -> (u16, String) {
        let refusal = local().check_stream(path, headers, &Others).unwrap_err();
        (refusal.status(), refusal.to_string())
    }

    const PATH: &str = "/raft/stream/msgapp/bbd3";

    #[test]
    fn streams_of_known_members_are_accepted() {
        for version in ["3.0.0", "3.4.45", "3.7.1", "3.8.0"] {
            let headers = headers(version);
            let check = |path| local().check_stream(path, &headers, &Others);
            assert_eq!(check(PATH), Ok((StreamKind::Append, NodeId(0xbbd3))));
            let path = StreamKind::Message.path(NodeId(0xbbd3));
            assert_eq!(path, "/raft/stream/message/bbd3");
            assert_eq!(check(&path), Ok((StreamKind::Message, NodeId(0xbbd3))));
        }
    }

    #[test]
    fn the_first_check_that_fails_decides() {
        let mut sent = headers("3.5.0");
        sent.to = Some("b".into());
        assert_eq!(refused(PATH, &sent), (412, "to field mismatch".into()));
        let unknown = "/raft/stream/msgapp/1";
        assert_eq!(refused(unknown, &sent), (404, "error sender not found".into()));
        let removed = "/raft/stream/msgapp/dead";
        assert_eq!(refused(removed, &sent), (410, "removed member".into()));
        assert_eq!(refused("/raft/stream/msgapp/x", &sent), (404, "invalid from".into()));
        assert_eq!(refused("/raft/stream/other/dead", &sent), (404, "invalid path".into()));
        assert_eq!(refused("/raft/stream", &sent), (404, "invalid path".into()));
        sent.cluster = Some("1d".into());
        assert_eq!(refused("/raft/stream", &sent), (412, "cluster ID mismatch".into()));
        for (server, oldest) in [
            (Some("2.3.0"), "3.0.0"),
            (None, "3.0.0"),
            (Some("3.9.0"), "3.8.0"),
            (Some("x"), "3.0.0"),
        ] {
            sent.server_version = server.map(str::to_owned);
            sent.cluster_version = Some(oldest.to_owned());
            assert_eq!(refused("/raft/stream", &sent), (412, "incompatible version".into()));
        }
    }

    #[test]
    fn a_sender_is_known_by_its_id_and_urls() {
        let (from, urls) = headers("3.7.0").sender().unwrap();
        assert_eq!((from, urls), (NodeId(0xbbd3), vec!["http://a:1".into(), "http://a:2".into()]));
        assert_eq!(PeerHeaders { from: None, ..headers("3.7.0") }.sender(), None);
        assert_eq!(
            PeerHeaders { peer_urls: Some(String::new()), ..headers("3.7.0") }.sender(),
            None
        );
    }

    #[test]
    fn answers_to_a_request_for_a_stream_are_told_apart() {
        let check = |status, text| check_stream_response(status, Some("3.5.30"), text);
        assert_eq!(check(200, ""), Ok(()));
        assert_eq!(check(410, "removed member\n"), Err(StreamRefusal::Removed));
        assert_eq!(check(404, "x"), Err(StreamRefusal::NotFound));
        assert_eq!(check(412, "incompatible version\n"), Err(StreamRefusal::IncompatibleVersion));
        assert_eq!(check(412, "cluster ID mismatch\n"), Err(StreamRefusal::ClusterMismatch));
        assert_eq!(check(500, "x"), Err(StreamRefusal::Other(500, "x".into())));
        assert_eq!(check_stream_response(410, None, ""), Err(StreamRefusal::Unsupported));
    }
}
