//! The check that names and URLs of a new cluster are consistent.
//!
//! Source: etcd v3.7.1 server/config/config.go `VerifyBootstrap`, client/pkg/types/urlsmap.go,
//! pkg/netutil/netutil.go.

use crate::failure::{Code, CommandResult};
use crate::output;
use cli::json::Object;
use cli::log::Level;
use net::{Scheme, Url};
use std::collections::{BTreeMap, BTreeSet};
use std::net::ToSocketAddrs as _;

/// The members of a new cluster: names and sorted peer URLs.
pub(crate) type Members = BTreeMap<String, Vec<String>>;

/// Reads `--initial-cluster` and compares it with `--initial-advertise-peer-urls`.
///
/// # Errors
/// When this member is missing or has other URLs, or a URL is invalid or occurs twice.
pub(crate) fn members(
    name: &str,
    peer_urls: &str,
    initial_cluster: &str,
) -> CommandResult<Members> {
    let advertised = urls(peer_urls.split(','))?;
    let members = parse(initial_cluster)?;
    let Some(own) = members.get(name) else {
        return Err(Code::Error.with(format!(
            "couldn't find local name {} in the initial cluster configuration",
            cli::go::quote(name.as_bytes())
        )));
    };
    compare(name, &advertised, own)?;
    let mut seen = BTreeSet::new();
    if !members.values().flatten().all(|url| seen.insert(url)) {
        let shown = shown(&members);
        return Err(Code::Error.with(format!("initial cluster {shown} has duplicate url")));
    }
    Ok(members)
}

fn urls<'a>(texts: impl Iterator<Item = &'a str>) -> CommandResult<Vec<String>> {
    let mut urls = Vec::new();
    for text in texts {
        let url = Url::parse(text.trim()).map_err(|why| Code::Error.with(why))?;
        urls.push(url.as_str().to_string());
    }
    urls.sort();
    Ok(urls)
}

/// `name=url,name=url`; a name may come more than once.
fn parse(text: &str) -> CommandResult<Members> {
    let mut members: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    let mut name = String::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let url = match part.split_once('=') {
            Some((new, url)) => {
                name = new.trim().to_string();
                url
            }
            None => part,
        };
        members.entry(name.clone()).or_default().push(url);
    }
    let read = members.into_iter().map(|(name, texts)| Ok((name, urls(texts.into_iter())?)));
    read.collect()
}

fn shown(members: &Members) -> String {
    let all =
        members.iter().flat_map(|(name, urls)| urls.iter().map(move |url| format!("{name}={url}")));
    all.collect::<Vec<_>>().join(",")
}

/// The URL with its host name replaced by an address, if it can be resolved.
fn resolved(text: &str) -> String {
    let Ok(url) = Url::parse(text) else { return text.to_string() };
    if matches!(url.scheme(), Scheme::Unix | Scheme::Unixs) || url.host() == "localhost" {
        return text.to_string();
    }
    let Some(address) = url.address().to_socket_addrs().ok().and_then(|mut found| found.next())
    else {
        return text.to_string();
    };
    let address = address.to_string();
    let fields = Object::zap()
        .string("url", text)
        .string("host", &url.address())
        .string("resolved-addr", &address);
    output::log(Level::Info, concat!(file!(), ":", line!()), "resolved URL Host", fields);
    format!("{}://{address}", url.scheme().name())
}

fn compare(name: &str, advertised: &[String], own: &[String]) -> CommandResult {
    if advertised == own {
        return Ok(());
    }
    let quoted = |urls: &[String]| {
        let urls: Vec<_> = urls.iter().map(|url| cli::go::quote(url.as_bytes())).collect();
        format!("[{}]", urls.join(" "))
    };
    let why = if advertised.len() == own.len() {
        let resolved = |urls: &[String]| {
            let mut urls: Vec<String> = urls.iter().map(|url| resolved(url)).collect();
            urls.sort();
            urls
        };
        let (a, b) = (resolved(advertised), resolved(own));
        match a.iter().zip(&b).find(|(a, b)| a != b) {
            None => return Ok(()),
            Some((a, b)) => {
                let quote = |url: &str| cli::go::quote(url.as_bytes());
                format!("resolved urls: {} != {}", quote(a), quote(b))
            }
        }
    } else {
        format!("len({}) != len({})", quoted(advertised), quoted(own))
    };
    let only = |these: &[String], those: &[String]| -> Vec<String> {
        these.iter().filter(|url| !those.contains(url)).cloned().collect()
    };
    let missing = only(own, advertised);
    if missing.is_empty() {
        let (missing, all): (Vec<_>, Vec<_>) =
            (only(advertised, own), advertised.iter().map(|url| format!("{name}={url}")).collect());
        return Err(Code::Error.with(format!(
            "--initial-advertise-peer-urls has {} but missing from --initial-cluster={}",
            missing.join(","),
            all.join(",")
        )));
    }
    let missing: Vec<_> = missing.iter().map(|url| format!("{name}={url}")).collect();
    Err(Code::Error.with(format!(
        "--initial-cluster has {} but missing from --initial-advertise-peer-urls={} ({why})",
        missing.join(","),
        advertised.join(",")
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_urls_must_agree() {
        let two = "a=http://127.0.0.1:2,b=http://127.0.0.1:3,a=http://127.0.0.1:1";
        let found = members("a", "http://127.0.0.1:1,http://127.0.0.1:2", two).unwrap();
        assert_eq!(found["a"], ["http://127.0.0.1:1", "http://127.0.0.1:2"]);
        let wrong = |name, urls, cluster| members(name, urls, cluster).unwrap_err().message;
        assert_eq!(
            wrong("c", "http://127.0.0.1:1", two),
            "couldn't find local name \"c\" in the initial cluster configuration"
        );
        assert_eq!(wrong("a", "foo", two), "URL scheme must be http, https, unix, or unixs: foo");
        assert_eq!(
            wrong("b", "http://localhost:2380", two),
            "--initial-cluster has b=http://127.0.0.1:3 but missing from \
             --initial-advertise-peer-urls=http://localhost:2380 (resolved urls: \
             \"http://127.0.0.1:3\" != \"http://localhost:2380\")"
                .replace(
                    "\"http://127.0.0.1:3\" != \"http://localhost:2380\"",
                    "\"http://localhost:2380\" != \"http://127.0.0.1:3\""
                )
        );
        let twice = "a=http://127.0.0.1:1,b=http://127.0.0.1:1";
        assert_eq!(
            wrong("a", "http://127.0.0.1:1", twice),
            format!("initial cluster {twice} has duplicate url")
        );
    }
}
