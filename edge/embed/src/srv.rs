//! DNS discovery: the members of a new cluster from the SRV records of a domain.
//!
//! Source: etcd client/pkg/srv/srv.go `GetCluster` and server/embed/config.go `GetDNSClusterNames`
//! @ v3.7.1.

use dns::{Resolver, service_name};
use net::Url;
use std::collections::BTreeMap;
use std::net::{SocketAddr, ToSocketAddrs as _};

/// The domain that names the members.
#[derive(Clone, Debug)]
pub struct Domain {
    /// Its name.
    pub name: String,
    /// The suffix to the name of the service; empty for none.
    pub suffix: String,
}

/// A member that is named by the records.
struct Asking<'a> {
    resolver: &'a Resolver,
    domain: &'a Domain,
    /// The name of this member.
    name: &'a str,
    /// Its peer URLs.
    advertised: &'a [Url],
    /// How many other members have got a name.
    named: usize,
}

/// The initial cluster, as `name=url,name=url`. The member whose address is advertised by this one has
/// its name, the others are numbered.
///
/// # Errors
/// When the records name no member. If only those of one kind, with TLS or without, are missing, the
/// others count.
pub(crate) fn initial_cluster(
    resolver: &Resolver,
    domain: &Domain,
    name: &str,
    advertised: &[Url],
) -> Result<String, String> {
    let mut asking = Asking { resolver, domain, name, advertised, named: 0 };
    let (mut nodes, mut errors) = (Vec::new(), Vec::new());
    for is_secure in [true, false] {
        match asking.nodes(is_secure) {
            Ok(found) => nodes.extend(found),
            Err(error) => errors.push(error),
        }
    }
    if !errors.is_empty() {
        let error = errors.join("\n");
        tracing::warn!(error, "failed to resolve during SRV discovery");
    }
    if nodes.is_empty() {
        return Err(errors.join("\n"));
    }
    for node in &nodes {
        tracing::info!(node, "got bootstrap from DNS for etcd-server");
    }
    Ok(nodes.join(","))
}

impl Asking<'_> {
    /// The members that the records of one kind name.
    fn nodes(&mut self, is_secure: bool) -> Result<Vec<String>, String> {
        let service = service_name("etcd-server", &self.domain.suffix, is_secure);
        let scheme = if is_secure { "https" } else { "http" };
        let found = self.ask(&service, scheme);
        let found =
            found.map_err(|error| format!("error querying DNS SRV records for _{service} {error}"));
        let urls: Vec<&str> = self.advertised.iter().map(Url::as_str).collect();
        tracing::info!(
            "service-scheme" = scheme,
            "service-name" = service,
            "server-name" = self.name,
            "discovery-srv" = self.domain.name,
            "advertise-peer-urls" = ?urls,
            "found-cluster" = ?found.as_deref().unwrap_or_default(),
            error = found.as_ref().err(),
            "get cluster for {service} SRV"
        );
        found
    }

    fn ask(&mut self, service: &str, scheme: &str) -> Result<Vec<String>, String> {
        let mut own = BTreeMap::new();
        for url in self.advertised {
            let port = url.port().parse().unwrap_or(0);
            own.insert(address(url.host(), port)?, url);
        }
        let records = self.resolver.service(service, &self.domain.name);
        let records = records.map_err(|error| error.to_string())?;
        let (mut nodes, mut last) = (Vec::new(), String::new());
        for record in records {
            let url = format!("{scheme}://{}:{}", record.target, record.port);
            let mine = match address(&record.target, record.port) {
                Ok(address) => own.get(&address),
                Err(error) => {
                    last = error;
                    continue;
                }
            };
            let name = match mine {
                Some(_) => self.name.to_owned(),
                None => self.next_name(),
            };
            match mine {
                Some(mine) if mine.scheme().name() != scheme => {
                    last = format!(
                        "bootstrap at {url} from DNS for {service} has scheme mismatch with \
                         expected peer {mine}"
                    );
                }
                _ => nodes.push(format!("{name}={url}")),
            }
        }
        if nodes.is_empty() { Err(last) } else { Ok(nodes) }
    }

    /// The name of another member. Only this member's own start uses it.
    fn next_name(&mut self) -> String {
        loop {
            let name = self.named.to_string();
            self.named += 1;
            if name != self.name {
                return name;
            }
        }
    }
}

/// The address that Go chooses: the first one of IPv4, or else the first one.
fn address(host: &str, port: u16) -> Result<SocketAddr, String> {
    let failed = || format!("lookup {host}: no such host");
    let found: Vec<SocketAddr> = (host, port).to_socket_addrs().map_err(|_| failed())?.collect();
    let first = found.iter().find(|address| address.is_ipv4()).or_else(|| found.first());
    first.copied().ok_or_else(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nameserver::{Manner, Record};

    const HTTP: &str = "_etcd-server._tcp.example";
    const HTTPS: &str = "_etcd-server-ssl._tcp.example";

    fn find(rows: &[(&'static str, u16, &'static str)], name: &str) -> Result<String, String> {
        let record = |(owner, port, target): &(&'static str, u16, &'static str)| Record {
            owner,
            port: *port,
            target,
        };
        let server = nameserver::start(rows.iter().map(record).collect(), Manner::Datagram);
        let resolver = Resolver::parse(&nameserver::resolv_conf(&[server.unwrap()]));
        let domain = Domain { name: "example".to_owned(), suffix: String::new() };
        let advertised = Url::parse_list("http://127.0.0.1:2").unwrap();
        initial_cluster(&resolver, &domain, name, &advertised)
    }

    #[test]
    fn the_member_with_the_advertised_address_has_its_name_and_others_are_numbered() {
        let rows = [(HTTP, 1, "localhost"), (HTTP, 2, "localhost"), (HTTPS, 3, "localhost")];
        let mut nodes: Vec<String> =
            find(&rows, "1").unwrap().split(',').map(str::to_owned).collect();
        nodes.sort();
        let wanted = ["0=https://localhost:3", "1=http://localhost:2", "2=http://localhost:1"];
        assert_eq!(nodes, wanted, "no other member has the name of this one");
    }

    #[test]
    fn a_record_of_this_member_with_another_scheme_does_not_count() {
        let error = find(&[(HTTPS, 2, "localhost")], "a").unwrap_err();
        let wanted = "error querying DNS SRV records for _etcd-server-ssl bootstrap at \
                      https://localhost:2 from DNS for etcd-server-ssl has scheme mismatch with \
                      expected peer http://127.0.0.1:2";
        assert!(error.starts_with(wanted), "{error}");
        let found = find(&[(HTTPS, 2, "localhost"), (HTTPS, 3, "localhost")], "a").unwrap();
        assert_eq!(found, "0=https://localhost:3");
    }

    #[test]
    fn a_domain_without_records_is_an_error() {
        let error = find(&[], "a").unwrap_err();
        for service in ["etcd-server-ssl", "etcd-server"] {
            let text = format!(
                "error querying DNS SRV records for _{service} lookup _{service}._tcp.example on"
            );
            assert!(error.contains(&text), "{error}");
        }
    }
}
