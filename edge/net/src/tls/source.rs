//! Whether a peer's certificate fits the address that the peer comes from.
//!
//! Source: etcd client/pkg/transport/listener_tls.go @ v3.7.1 (`checkCertSAN`, `isHostInDNS`).

use super::names::Names;
use std::net::IpAddr;

/// Checks the names of a certificate against an address. A certificate without names fits all.
///
/// The addresses in the certificate are compared first. Then the host names in the certificate are
/// compared with the names of the address, and the addresses of those host names with the address.
/// `*.` at the start of a name stands for any name below.
///
/// # Errors
/// etcd's message.
pub(super) async fn check(names: Names, from: IpAddr) -> Result<(), String> {
    let from = from.to_canonical();
    if names.addresses.contains(&from) || names.addresses.is_empty() && names.dns.is_empty() {
        return Ok(());
    }
    if names.dns.is_empty() {
        let listed: Vec<String> = names.addresses.iter().map(ToString::to_string).collect();
        return Err(format!("x509: certificate is valid for {}, not {from}", listed.join(", ")));
    }
    // The resolver of the operating system blocks.
    let dns = names.dns.clone();
    let found = tokio::task::spawn_blocking(move || {
        let of_address = || dns_lookup::lookup_addr(&from).ok();
        let of_name = |name: &str| {
            dns_lookup::lookup_host(name).map(Iterator::collect::<Vec<_>>).unwrap_or_default()
        };
        is_named(&dns, from, of_address, of_name)
    });
    if found.await.unwrap_or(false) {
        return Ok(());
    }
    Err(format!("tls: {:?} does not match any of DNSNames {:?}", from.to_string(), names.dns))
}

fn is_named(
    dns: &[String],
    from: IpAddr,
    of_address: impl FnOnce() -> Option<String>,
    of_name: impl Fn(&str) -> Vec<IpAddr>,
) -> bool {
    let reverse = of_address().map(|name| name.trim_end_matches('.').to_owned());
    let has_reverse = reverse.is_some_and(|reverse| {
        dns.iter().any(|name| match name.strip_prefix('*') {
            Some(below) if below.starts_with('.') => reverse.ends_with(below),
            _ => reverse == *name,
        })
    });
    has_reverse
        || dns
            .iter()
            .filter(|name| !name.starts_with("*."))
            .any(|name| of_name(name).contains(&from))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(dns: &[&str], reverse: Option<&str>, forward: &[(&str, &str)]) -> bool {
        let dns: Vec<String> = dns.iter().map(|name| (*name).to_owned()).collect();
        let of_name = |name: &str| {
            let found = forward.iter().filter(|(known, _)| *known == name);
            found.map(|(_, address)| address.parse().unwrap()).collect()
        };
        is_named(&dns, "10.0.0.1".parse().unwrap(), || reverse.map(str::to_owned), of_name)
    }

    #[test]
    fn a_name_fits_by_reverse_or_by_forward_look_up() {
        for (dns, reverse, forward, fits) in [
            (&["a.org"][..], Some("a.org."), &[][..], true),
            (&["b.org", "a.org"], Some("a.org"), &[], true),
            (&["*.a.org"], Some("x.y.a.org."), &[], true),
            (&["*.a.org"], Some("a.org."), &[], false),
            (&["*.a.org"], Some("xa.org."), &[], false),
            (&["a.org"], Some("x.a.org."), &[], false),
            (&["a.org"], None, &[("a.org", "10.0.0.1")], true),
            (&["a.org"], None, &[("a.org", "10.0.0.2")], false),
            (&["*.a.org"], None, &[("*.a.org", "10.0.0.1")], false),
            (&["a.org"], None, &[], false),
        ] {
            assert_eq!(named(dns, reverse, forward), fits, "{dns:?} {reverse:?} {forward:?}");
        }
    }
}
