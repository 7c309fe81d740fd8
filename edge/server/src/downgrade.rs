//! Downgrades of the cluster. Any member checks and proposes them; then the leader lowers the
//! cluster version (`state`).
//!
//! Source: etcd v3.7 server/etcdserver/v3_server.go (`Downgrade`), version/version.go.

use crate::error::Error;
use crate::request::EncodedRequest;
use crate::worker::Worker;
use auth::Caller;
use cluster::{ENTRIES_OF_3_5, InvalidDowngrade, Version};
use proto::etcdserverpb::InternalRaftRequest;
use proto::membershippb::DowngradeInfoSetRequest;

impl Worker {
    /// The version of the cluster.
    fn cluster_version(&self) -> Result<Version, Error> {
        let version = self.moment().published.cluster.version();
        version.ok_or(Error::Downgrade(InvalidDowngrade::VersionUnavailable))
    }

    /// Checks that the cluster can be downgraded to a version. Returns the cluster's version.
    ///
    /// # Errors
    /// [`Error::Downgrade`], and the errors of a linearizable read.
    pub async fn check_downgrade(&self, target: &str) -> Result<Version, Error> {
        let target = Version::parse_target(target).map_err(|_| InvalidDowngrade::Format)?;
        let version = self.cluster_version()?;
        self.linearizable_view().await?;
        self.moment().published.cluster.check_downgrade(target)?;
        Ok(version)
    }

    /// Begins a downgrade. Returns the cluster's version.
    ///
    /// # Errors
    /// As [`Worker::check_downgrade`], and the errors of a proposal.
    pub async fn enable_downgrade(&self, target: &str) -> Result<Version, Error> {
        let begin = async {
            self.check_downgrade(target).await?;
            let target = Version::parse_target(target).map_err(|_| InvalidDowngrade::Format)?;
            self.set_downgrade(Some(target)).await
        };
        begin.await.inspect_err(|error| tracing::warn!(%error, "reject downgrade request"))?;
        self.cluster_version()
    }

    /// Ends a downgrade. Returns the cluster's version. As in etcd, it succeeds without a
    /// downgrade, which is only logged.
    ///
    /// # Errors
    /// [`Error::Downgrade`] if the cluster has no version yet.
    pub async fn cancel_downgrade(&self) -> Result<Version, Error> {
        let end = async {
            self.linearizable_view().await?;
            let moment = self.moment();
            let cluster = &moment.published.cluster;
            // At version 3.4 the downgrade is completed, and members of 3.4 would crash at the
            // entry that ends it.
            let is_read = cluster.version().is_none_or(|version| version >= ENTRIES_OF_3_5);
            if !cluster.downgrade().enabled || !is_read {
                return Err(InvalidDowngrade::NoneInflight.into());
            }
            self.set_downgrade(None).await
        };
        if let Err(error) = end.await {
            tracing::warn!(%error, "failed to cancel downgrade");
        }
        self.cluster_version()
    }

    async fn set_downgrade(&self, target: Option<Version>) -> Result<(), Error> {
        let ver = target.map(|target| target.to_string()).unwrap_or_default();
        let set = DowngradeInfoSetRequest { enabled: target.is_some(), ver };
        let request = InternalRaftRequest { downgrade_info_set: Some(set), ..Default::default() };
        self.propose(Caller::default(), EncodedRequest::new(&request)).await.map(drop)
    }
}
