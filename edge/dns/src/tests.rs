//! What the resolver makes of the answers of a name server.

use crate::{ClientEndpoint, Resolver, client_endpoints, service_name};
use nameserver::{Manner, Record};
use std::net::{SocketAddr, UdpSocket};

fn name_server(manner: Manner) -> SocketAddr {
    let record = |owner, port, target| Record { owner, port, target };
    let records = vec![
        record("_etcd-client._tcp.example", 2379, "a.example"),
        record("_etcd-client-ssl-blue._tcp.example", 2380, "b.example"),
        record("_etcd-client-blue._tcp.example", 2381, "c.example"),
    ];
    nameserver::start(records, manner).unwrap()
}

fn resolver(servers: &[SocketAddr]) -> Resolver {
    Resolver::parse(&nameserver::resolv_conf(servers))
}

fn urls(endpoints: &[ClientEndpoint]) -> Vec<&str> {
    endpoints.iter().map(|endpoint| &*endpoint.url).collect()
}

#[test]
fn the_endpoints_of_a_domain_are_found_with_and_without_tls() {
    let resolver = resolver(&[name_server(Manner::Datagram)]);
    let found = client_endpoints(&resolver, "example", "").unwrap();
    assert_eq!(urls(&found), ["http://a.example:2379"]);
    let found = client_endpoints(&resolver, "example", "blue").unwrap();
    assert_eq!(urls(&found), ["https://b.example:2380", "http://c.example:2381"]);
}

#[test]
fn a_domain_without_records_is_an_error_in_gos_words() {
    let server = name_server(Manner::Datagram);
    let error = client_endpoints(&resolver(&[server]), "absent", "").unwrap_err();
    assert_eq!(
        error,
        format!(
            "dns lookup errors: lookup _etcd-client-ssl._tcp.absent on {server}: no such host and \
             lookup _etcd-client._tcp.absent on {server}: no such host"
        )
    );
}

#[test]
fn a_truncated_answer_is_asked_for_again_by_tcp() {
    let resolver = resolver(&[name_server(Manner::Stream)]);
    let found = client_endpoints(&resolver, "example", "").unwrap();
    assert_eq!(urls(&found), ["http://a.example:2379"]);
}

#[test]
fn a_datagram_that_does_not_answer_the_question_is_ignored() {
    let resolver = resolver(&[name_server(Manner::Forged)]);
    let found = client_endpoints(&resolver, "example", "").unwrap();
    assert_eq!(urls(&found), ["http://a.example:2379"]);
}

#[test]
fn the_next_server_is_asked_after_one_that_fails_or_is_not_there() {
    let closed = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let failed = name_server(Manner::Failed);
    let error = resolver(&[closed, failed]).srv("_x._tcp.example").unwrap_err().to_string();
    assert_eq!(error, format!("lookup _x._tcp.example on {failed}: server misbehaving"));
    let good = name_server(Manner::Datagram);
    let found = client_endpoints(&resolver(&[closed, failed, good]), "example", "").unwrap();
    assert_eq!(urls(&found), ["http://a.example:2379"]);
}

#[test]
fn services_have_etcds_names() {
    assert_eq!(service_name("etcd-server", "", false), "etcd-server");
    assert_eq!(service_name("etcd-server", "", true), "etcd-server-ssl");
    assert_eq!(service_name("etcd-client", "blue", true), "etcd-client-ssl-blue");
}
