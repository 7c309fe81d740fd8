//! `--initial-cluster`: the first members, and the check that this member is one of them with its
//! advertised URLs.
//!
//! Source: etcd client/pkg/types/urlsmap.go and server/config/config.go `VerifyBootstrap`
//! @ v3.7.1.

use crate::config::Config;
use net::Url;
use std::collections::{BTreeMap, BTreeSet};
use std::net::ToSocketAddrs;

/// The members of a new cluster by name, with their URLs sorted.
pub type Members = BTreeMap<String, Vec<Url>>;

/// Reads and checks the members of a new cluster.
///
/// # Errors
/// etcd's message.
pub fn members(config: &Config) -> Result<Members, String> {
    let members = parse(&config.bootstrap.initial_cluster)
        .map_err(|e| format!("error setting up initial cluster: {e}"))?;
    let name = &config.member.name;
    let Some(urls) = members.get(name) else {
        return Err(format!(
            "couldn't find local name {name:?} in the initial cluster configuration"
        ));
    };
    advertised(name, urls, &config.urls.advertise_peer)?;
    let all: Vec<&Url> = members.values().flatten().collect();
    if all.iter().collect::<BTreeSet<_>>().len() < all.len() {
        return Err(format!("initial cluster {} has duplicate url", text(&members)));
    }
    Ok(members)
}

pub(crate) fn parse(text: &str) -> Result<Members, String> {
    let mut members = Members::new();
    for pair in text.split(',').filter(|pair| !pair.is_empty()) {
        let (name, url) = pair.split_once('=').unwrap_or((pair, ""));
        let url = Url::parse(url).map_err(|e| e.to_string())?;
        members.entry(name.to_owned()).or_default().push(url);
    }
    for urls in members.values_mut() {
        urls.sort();
    }
    Ok(members)
}

/// The members as `name=url`, sorted.
pub fn text(members: &Members) -> String {
    let mut pairs: Vec<String> = members
        .iter()
        .flat_map(|(name, urls)| urls.iter().map(move |url| format!("{name}={url}")))
        .collect();
    pairs.sort();
    pairs.join(",")
}

/// Whether the URLs of the initial cluster are those that are advertised; `localhost` and its
/// address are the same.
fn advertised(name: &str, initial: &[Url], advertise: &[Url]) -> Result<(), String> {
    let mut resolved: Vec<String> = advertise.iter().map(resolve).collect();
    let mut wanted: Vec<String> = initial.iter().map(resolve).collect();
    resolved.sort();
    wanted.sort();
    if resolved == wanted {
        return Ok(());
    }
    let why = if resolved.len() == wanted.len() {
        let (a, b) =
            resolved.iter().zip(&wanted).find(|(a, b)| a != b).unwrap_or((&wanted[0], &wanted[0]));
        format!("resolved urls: {a:?} != {b:?}")
    } else {
        format!("len([{}]) != len([{}])", quoted(advertise), quoted(initial))
    };
    let only = |of: &[Url], not_in: &[Url]| -> Vec<String> {
        of.iter().filter(|url| !not_in.contains(url)).map(Url::to_string).collect()
    };
    let missing = only(initial, advertise);
    if missing.is_empty() {
        let extra = only(advertise, initial).join(",");
        let shown: Vec<_> = initial.iter().map(|url| format!("{name}={url}")).collect();
        let shown = shown.join(",");
        return Err(format!(
            "--initial-advertise-peer-urls has {extra} but missing from --initial-cluster={shown} ({why})"
        ));
    }
    let missing: Vec<_> = missing.iter().map(|url| format!("{name}={url}")).collect();
    Err(format!(
        "--initial-cluster has {} but missing from --initial-advertise-peer-urls={} ({why})",
        missing.join(","),
        crate::validate::join(advertise),
    ))
}

fn quoted(urls: &[Url]) -> String {
    urls.iter().map(|url| format!("{:?}", url.as_str())).collect::<Vec<_>>().join(" ")
}

/// The URL with its host's first address, or as it is when that is unknown. A unix socket has none.
pub(crate) fn resolve(url: &Url) -> String {
    if url.scheme().is_unix() {
        return url.to_string();
    }
    let Ok(port) = url.port().parse::<u16>() else { return url.to_string() };
    let found = (url.host(), port).to_socket_addrs().ok().and_then(|all| {
        let all: Vec<_> = all.collect();
        all.iter().find(|a| a.is_ipv4()).or_else(|| all.first()).copied()
    });
    found.map_or_else(|| url.to_string(), |address| format!("{}://{address}", url.scheme().name()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str, cluster: &str) -> Result<String, String> {
        let mut config = Config::new();
        name.clone_into(&mut config.member.name);
        cluster.clone_into(&mut config.bootstrap.initial_cluster);
        config.urls.advertise_peer = Url::parse_list("http://127.0.0.1:31380").unwrap();
        members(&config).map(|members| text(&members))
    }

    #[test]
    fn one_member_with_its_own_url_begins() {
        let alone = "default=http://127.0.0.1:31380";
        assert_eq!(of("default", alone).unwrap(), alone);
        let named = of("default", "default=http://localhost:31380").unwrap();
        assert_eq!(named, "default=http://localhost:31380");
    }

    #[test]
    fn refusals_have_etcds_words() {
        for (cluster, error) in [
            (
                "foo",
                "error setting up initial cluster: URL scheme must be http, https, unix, or unixs: ",
            ),
            (
                "a=http://127.0.0.1:31380",
                "couldn't find local name \"default\" in the initial cluster configuration",
            ),
            (
                "default=http://127.0.0.1:31381",
                "--initial-cluster has default=http://127.0.0.1:31381 but missing from \
                 --initial-advertise-peer-urls=http://127.0.0.1:31380 (resolved urls: \
                 \"http://127.0.0.1:31380\" != \"http://127.0.0.1:31381\")",
            ),
            (
                "default=http://127.0.0.1:31380,default=http://127.0.0.1:31381",
                "--initial-cluster has default=http://127.0.0.1:31381 but missing from \
                 --initial-advertise-peer-urls=http://127.0.0.1:31380 \
                 (len([\"http://127.0.0.1:31380\"]) != len([\"http://127.0.0.1:31380\" \
                 \"http://127.0.0.1:31381\"]))",
            ),
            (
                "default=http://127.0.0.1:31380,b=http://127.0.0.1:31380",
                "initial cluster b=http://127.0.0.1:31380,default=http://127.0.0.1:31380 has \
                 duplicate url",
            ),
        ] {
            assert_eq!(of("default", cluster).unwrap_err(), error, "{cluster}");
        }
    }
}
