//! The services of a cluster, and the client URLs of its members.
//!
//! Source: etcd client/pkg/srv/srv.go @ v3.7.1 (`GetClient`, `GetSRVService`).

use crate::{Resolver, SrvRecord};

/// A member's endpoint for clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientEndpoint {
    /// `https://host:port` or `http://host:port`.
    pub url: String,
    /// The record that names it.
    pub record: SrvRecord,
}

/// The name of a service: `etcd-client`, with `-ssl` for servers with TLS, and with the suffix of
/// `--discovery-srv-name`, unless that is empty.
#[must_use]
pub fn service_name(service: &str, suffix: &str, is_secure: bool) -> String {
    let secure = if is_secure { "-ssl" } else { "" };
    let dash = if suffix.is_empty() { "" } else { "-" };
    format!("{service}{secure}{dash}{suffix}")
}

/// The name whose SRV records are asked for.
pub(crate) fn record_name(service: &str, domain: &str) -> String {
    format!("_{service}._tcp.{domain}")
}

impl Resolver {
    /// The SRV records of a service of a domain.
    ///
    /// # Errors
    /// As [`Resolver::srv`].
    pub fn service(
        &self,
        service: &str,
        domain: &str,
    ) -> Result<Vec<SrvRecord>, crate::LookupError> {
        self.srv(&record_name(service, domain))
    }
}

/// The endpoints that a domain's records name, those with TLS first.
///
/// # Errors
/// etcd's message, if neither kind of records is found.
pub fn client_endpoints(
    resolver: &Resolver,
    domain: &str,
    suffix: &str,
) -> Result<Vec<ClientEndpoint>, String> {
    let ask = |is_secure| resolver.service(&service_name("etcd-client", suffix, is_secure), domain);
    let (secure, plain) = (ask(true), ask(false));
    if let (Err(secure), Err(plain)) = (&secure, &plain) {
        return Err(format!("dns lookup errors: {secure} and {plain}"));
    }
    let endpoints = |scheme: &'static str, records: Vec<SrvRecord>| {
        records.into_iter().map(move |record| ClientEndpoint {
            url: format!("{scheme}://{}:{}", record.target, record.port),
            record,
        })
    };
    let secure = endpoints("https", secure.unwrap_or_default());
    Ok(secure.chain(endpoints("http", plain.unwrap_or_default())).collect())
}
