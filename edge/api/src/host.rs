//! The interface between the gRPC services and the member. In production it is implemented by a
//! worker's handle on the server, in tests by a small member in memory. Not here: gRPC.
//!
//! All calls are made on one thread, so nothing needs to be `Send`.

use crate::users::Admitted;
use bytes::Bytes;
use connection::{ConnectionFault, RefusedRequest};
use proto::answer::{Answer, Origin, RangeAnswer, TxnAnswer};
use proto::etcdserverpb::{
    AlarmMember, DowngradeRequest, HashKvResponse, HashResponse, InternalRaftRequest,
    LeaseTimeToLiveResponse, Member, PutRequest, RangeRequest, StatusResponse, TxnRequest,
    WatchRequest,
};
use rpc::Status;
use server::metrics::grpc::Method;
use std::rc::Rc;
use std::sync::Arc;
use watch::ConnectionId;

/// The member behind the services.
#[expect(async_fn_in_trait, reason = "used on one thread, where nothing has to be Send")]
pub trait Host: Clone + 'static {
    /// One stream of watches.
    type Watch: WatchStream;

    /// The host for a client with this token. It checks that the client has permission for each
    /// request.
    fn with_token(&self, token: &str) -> Self;

    /// The host for a client whose certificate was verified and has this common name.
    fn with_certificate_name(&self, name: &str) -> Self;

    /// Refuses a client without a user, if authentication is enabled.
    ///
    /// # Errors
    /// The status for the client.
    async fn require_user(&self) -> Result<(), Status>;

    /// Refuses a client whose user does not have the role `root`, if authentication is enabled.
    ///
    /// # Errors
    /// The status for the client.
    async fn require_admin(&self) -> Result<(), Status>;

    /// Takes a place among the requests of the client's user, for a request of so many bytes. The
    /// user is named if `names_user`, or if there is such a limit.
    ///
    /// # Errors
    /// The status for the client, when its user has too many requests, or too many bytes of them. A
    /// token that is not valid is refused later, so that the order of errors is etcd's.
    async fn admit(&self, names_user: bool, bytes: usize) -> Result<Admitted, Status>;

    /// The client's user, if authentication is enabled and it has one.
    async fn user(&self) -> Option<Rc<str>>;

    /// Creates a token for a user.
    ///
    /// # Errors
    /// The status for the client, also if the password is wrong.
    async fn authenticate(&self, name: String, password: String) -> Result<String, Status>;

    /// The hash of a password, as an entry holds it.
    ///
    /// # Errors
    /// The status for the client.
    async fn hashed(&self, password: String) -> Result<String, Status>;

    /// Whether all members read the hashed password of an entry. A member of 3.4 ignores it and
    /// would store an empty password.
    fn are_hashes_read(&self) -> bool;

    /// Whether authentication is enabled, and the auth revision. Linearizable.
    ///
    /// # Errors
    /// The status for the client.
    async fn auth_status(&self) -> Result<(bool, u64), Status>;

    /// Cluster, member and current term.
    fn origin(&self) -> Origin;

    /// The metrics of the method at `path`, if it has any.
    fn counters(&self, path: &str) -> Option<Arc<Method>>;

    /// Counts a call of this kind, `unary` or `stream`, of a client of this version.
    fn count_client(&self, kind: &'static str, version: &[u8]);

    /// Counts a stream of this API, `watch` or `lease-keepalive`, whose next request could not be
    /// received.
    fn count_stream_failure(&self, api: &'static str);

    /// Counts a request that was refused before it became a call.
    fn count_refused(&self, why: RefusedRequest);

    /// Counts a connection that was closed because its client broke a rule of HTTP/2.
    fn count_fault(&self, fault: &ConnectionFault);

    /// Counts the bytes of a received message.
    fn count_received(&self, bytes: usize);

    /// Counts the bytes of sent messages.
    fn count_sent(&self, bytes: usize);

    /// The revision of the published view.
    fn revision(&self) -> i64;

    /// Whether the member knows a leader.
    fn has_leader(&self) -> bool;

    /// Whether the member is a learner, which serves few methods.
    fn is_learner(&self) -> bool;

    /// Whether a request fits the quota. If it does not, the NOSPACE alarm is requested.
    fn fits_quota(&self, request: Growth<'_>) -> bool;

    /// Answers a range.
    ///
    /// # Errors
    /// The status for the client.
    async fn range(&self, request: RangeRequest) -> Result<RangeReply, Status>;

    /// Answers a range in chunks; each is one message of the stream.
    ///
    /// # Errors
    /// The status for the client.
    async fn range_stream(&self, request: RangeRequest) -> Result<Box<dyn RangeChunks>, Status>;

    /// Executes a transaction: a read-only one on a view, any other through the log.
    ///
    /// # Errors
    /// The status for the client.
    async fn txn(&self, request: TxnRequest) -> Result<TxnAnswer, Status>;

    /// Proposes a request and waits until it is applied. The host fills in the header.
    ///
    /// # Errors
    /// The status for the client.
    async fn propose(&self, request: InternalRaftRequest) -> Result<Answer, Status>;

    /// Renews a lease. Returns its TTL in seconds, 0 if there is no such lease.
    ///
    /// # Errors
    /// The status for the client.
    async fn lease_renew(&self, id: i64) -> Result<i64, Status>;

    /// The remaining time of a lease, without a header; `None` if there is no such lease.
    ///
    /// # Errors
    /// The status for the client.
    async fn lease_time_to_live(
        &self,
        id: i64,
        keys: bool,
    ) -> Result<Option<LeaseTimeToLiveResponse>, Status>;

    /// The ids of all leases, the first to expire first.
    ///
    /// # Errors
    /// The status for the client.
    async fn leases(&self) -> Result<Vec<i64>, Status>;

    /// Lists the members.
    ///
    /// # Errors
    /// The status for the client.
    async fn members(&self, linearizable: bool) -> Result<Vec<Member>, Status>;

    /// Adds a member with these peer URLs. Returns it and the new list of members.
    ///
    /// # Errors
    /// The status for the client.
    async fn member_add(
        &self,
        peer_urls: Vec<String>,
        is_learner: bool,
    ) -> Result<(Member, Vec<Member>), Status>;

    /// Removes a member. Returns the new list of members.
    ///
    /// # Errors
    /// The status for the client.
    async fn member_remove(&self, id: u64) -> Result<Vec<Member>, Status>;

    /// Changes the peer URLs of a member. Returns the new list of members.
    ///
    /// # Errors
    /// The status for the client.
    async fn member_update(&self, id: u64, peer_urls: Vec<String>) -> Result<Vec<Member>, Status>;

    /// Makes a learner a voter. Returns the new list of members.
    ///
    /// # Errors
    /// The status for the client.
    async fn member_promote(&self, id: u64) -> Result<Vec<Member>, Status>;

    /// Hands the leadership over to a voter, and waits until it leads.
    ///
    /// # Errors
    /// The status for the client.
    async fn move_leader(&self, to: u64) -> Result<(), Status>;

    /// Validates, enables or cancels a downgrade. Returns the cluster's version.
    ///
    /// # Errors
    /// The status for the client.
    async fn downgrade(&self, request: DowngradeRequest) -> Result<String, Status>;

    /// The alarms that are active.
    fn alarms(&self) -> Vec<AlarmMember>;

    /// The member's status, without header and alarms.
    fn status(&self) -> StatusResponse;

    /// Returns free space of the database file to the file system.
    ///
    /// # Errors
    /// The status for the client.
    async fn defragment(&self) -> Result<(), Status>;

    /// The hash of the whole file, without a header.
    ///
    /// # Errors
    /// The status for the client.
    async fn hash(&self) -> Result<HashResponse, Status>;

    /// The hash of the key space at a revision, its header with the current one.
    ///
    /// # Errors
    /// The status for the client.
    async fn hash_kv(&self, revision: i64) -> Result<HashKvResponse, Status>;

    /// The database as a file, as of now.
    ///
    /// # Errors
    /// The status for the client.
    async fn snapshot(&self) -> Result<Box<dyn SnapshotFile>, Status>;

    /// Opens a stream of watches of a connection. `deliver` receives its responses.
    fn watch(&self, connection: ConnectionId, deliver: Deliver) -> Self::Watch;
}

/// The answer to a range.
pub enum RangeReply {
    /// All of it.
    Answer(RangeAnswer),
    /// A long response, which is read while it is sent.
    Large(LargeRange),
}

/// An answer to a range whose length is known and whose items are read while it is sent.
pub struct LargeRange {
    /// The answer without its key-values.
    pub answer: RangeAnswer,
    /// The length of the key-values as fields of the answer, in bytes.
    pub items_len: usize,
    /// The key-values.
    pub items: Box<dyn Items>,
}

impl std::fmt::Debug for RangeReply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            RangeReply::Answer(answer) => answer.fmt(f),
            RangeReply::Large(large) => large.fmt(f),
        }
    }
}

impl std::fmt::Debug for LargeRange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.answer.fmt(f)
    }
}

/// Key-values one after the other.
pub trait Items {
    /// The next one.
    ///
    /// # Errors
    /// The status for the client.
    fn next(&mut self) -> Result<Item, Status>;
}

/// One step of reading a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// An encoded key-value.
    Next(Bytes),
    /// The time slice is used up: yield to other tasks and call again.
    Yield,
    /// There are no more.
    End,
}

/// A request that makes the database grow.
#[derive(Clone, Copy, Debug)]
pub enum Growth<'a> {
    /// A put.
    Put(&'a PutRequest),
    /// A transaction.
    Txn(&'a TxnRequest),
    /// The grant of a lease.
    Grant,
}

/// Receives responses, in order.
pub type Deliver = Rc<dyn Fn(Vec<watch::Response>)>;

/// One stream of watches. Dropping it ends every watch on it.
#[expect(async_fn_in_trait, reason = "used on one thread, where nothing has to be Send")]
pub trait WatchStream: 'static {
    /// Handles a request of the client: create, cancel or progress.
    ///
    /// # Errors
    /// When the request was refused; the client has been told so in the stream.
    async fn request(&self, request: WatchRequest) -> Result<(), Status>;

    /// The client has taken this many bytes.
    fn drained(&self, bytes: usize);
}

/// A range that is answered in several messages.
pub trait RangeChunks {
    /// The next chunk: key-values of about the requested size. Only the last chunk has `count`,
    /// `more` and the revision; in the others these are 0 and false.
    ///
    /// # Errors
    /// The status for the client.
    fn next(&mut self) -> Result<Option<RangeAnswer>, Status>;
}

/// The database as a file, to be read on a thread that may wait for the disk.
pub trait SnapshotFile: Send {
    /// The length of the file in bytes.
    fn size(&self) -> u64;

    /// The storage version recorded in the file; empty if there is none.
    fn version(&self) -> String;

    /// The next bytes of the file, empty at its end.
    ///
    /// # Errors
    /// A message, when the file cannot be read.
    fn next(&mut self) -> Result<Bytes, String>;
}
