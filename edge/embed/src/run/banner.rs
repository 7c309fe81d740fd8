//! The log lines of start and stop, with etcd's messages in etcd's order.
//!
//! Source: etcd server/embed/etcd.go `print`, server/etcdserver/{bootstrap,server}.go @ v3.7.1.

use crate::config::{Config, Discovery};
use crate::help;
use crate::initial::{Members, text};
use cli::duration::GoDuration;
use executor::{AutoCompaction, Booted};
use net::Url;
use serde_json::json;
use server::Handle;
use std::time::Duration;

fn shown(urls: &[Url]) -> Vec<String> {
    urls.iter().map(Url::to_string).collect()
}

fn millis(ms: u64) -> String {
    GoDuration::from_millis(i64::try_from(ms).unwrap_or(i64::MAX)).to_string()
}

fn go(duration: Duration) -> String {
    GoDuration::from(duration).to_string()
}

/// Logs the effective configuration.
pub(super) fn starting(config: &Config, members: Option<&Members>, has_data: bool) {
    let fields = effective(config, members, has_data);
    tracing::info!(%fields, "starting an etcd server");
}

fn effective(config: &Config, members: Option<&Members>, has_data: bool) -> serde_json::Value {
    let (member, urls) = (&config.member, &config.urls);
    let (os, arch) = help::platform();
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let (mode, retention) = match config.commits.auto_compaction {
        AutoCompaction::Off => ("periodic", "0s".to_owned()),
        AutoCompaction::Periodic(time) => ("periodic", go(time)),
        AutoCompaction::Revision(count) => ("revision", format!("{count}ns")),
    };
    let gates: Vec<String> = config
        .gates
        .all()
        .iter()
        .filter(|(_, stage, on)| *on != (*stage == crate::gates::Stage::Beta))
        .map(|(name, _, on)| format!("{name}={on}"))
        .collect();
    let quota = match config.limits.quota_given {
        0 => crate::config::DEFAULT_QUOTA,
        given => given,
    };
    let mut fields = json!({
        "etcd-version": help::ETCD_VERSION,
        "git-sha": help::GIT_SHA,
        "go-version": format!("none (retcd {}, {})", help::RETCD_VERSION, help::RUSTC),
        "go-os": os,
        "go-arch": arch,
        "max-cpu-set": cores,
        "max-cpu-available": cores,
        "member-initialized": has_data,
        "name": member.name,
        "data-dir": member.data_dir.display().to_string(),
        "wal-dir": member.wal_dir.as_ref().map_or(String::new(), |d| d.display().to_string()),
        "wal-dir-dedicated": member.wal_dir.as_ref().map_or(String::new(), |d| d.display().to_string()),
        "member-dir": member.data_dir.join("member").display().to_string(),
        "force-new-cluster": config.bootstrap.forces_new_cluster,
        "heartbeat-interval": millis(member.tick_ms),
        "election-timeout": millis(member.election_ticks() * member.tick_ms),
        "initial-election-tick-advance": member.initial_election_tick_advance,
        "snapshot-count": member.snapshot_count,
        "max-wals": member.max_wals,
        "max-snapshots": member.max_snapshots,
        "snapshot-catchup-entries": member.snapshot_catchup_entries,
        "initial-advertise-peer-urls": shown(&urls.advertise_peer),
        "listen-peer-urls": shown(&urls.listen_peer),
        "advertise-client-urls": shown(&urls.advertise_client),
        "listen-client-urls": shown(&urls.listen_client),
        "listen-metrics-urls": shown(&urls.listen_metrics),
        "local-address": crate::listening::local_address(config).map_or(String::new(), |it| it.to_string()),
        "initial-cluster": members.map_or(String::new(), text),
        "initial-cluster-state": if config.bootstrap.new_cluster { "new" } else { "existing" },
        "initial-cluster-token": if has_data { "" } else { &config.bootstrap.token },
        "quota-backend-bytes": quota,
        "max-request-bytes": config.limits.max_request_bytes,
        "max-concurrent-streams": config.limits.max_concurrent_streams,
        "backend-cache-bytes": config.limits.backend_cache_bytes,
        "pre-vote": config.bootstrap.pre_vote,
        "feature-gates": gates.join(","),
        "auto-compaction-mode": mode,
        "auto-compaction-retention": retention,
        "auto-compaction-interval": retention,
        "v2-deprecation": "write-only",
    });
    if let Discovery::Service(service) = &config.bootstrap.discovery {
        fields["discovery-token"] = json!(service.token);
        fields["discovery-endpoints"] = json!(service.client.endpoints.join(","));
    }
    let watchers = config.limits.watchers;
    fields["max-watchers-per-stream"] = json!(watchers.stream);
    fields["max-watchers-per-connection"] = json!(watchers.connection);
    fields["max-watchers"] = json!(watchers.total);
    fields
}

/// Warns that bcrypt does not permit the cost that was given.
pub(super) fn bcrypt_cost(config: &Config) {
    let auth = &config.member.auth;
    if u64::from(auth.bcrypt_cost) == auth.bcrypt_cost_given {
        return;
    }
    tracing::warn!(
        "min-cost" = *api::BCRYPT_COSTS.start(),
        "max-cost" = *api::BCRYPT_COSTS.end(),
        "default-cost" = auth.bcrypt_cost,
        "given-cost" = auth.bcrypt_cost_given,
        "use default bcrypt cost instead of the invalid given cost"
    );
}

/// Logs that the data is open.
pub(super) fn opened(config: &Config, booted: &Booted, took: Duration) {
    let path = config.member.data_dir.join("member").join("snap").join("db");
    tracing::info!(path = %path.display(), took = go(took), "opened backend db");
    let member = format!("{:x}", booted.metadata.node);
    let cluster = format!("{:x}", booted.metadata.cluster);
    if booted.is_new {
        let message = "starting local member";
        tracing::info!("local-member-id" = member, "cluster-id" = cluster, "{message}");
    } else {
        let message = "restarting local member";
        let commit = booted.member.commit().0;
        tracing::info!(
            "cluster-id" = cluster,
            "local-member-id" = member,
            "commit-index" = commit,
            "{message}"
        );
    }
    let local_member_id = member;
    tracing::info!(
        "local-member-id" = local_member_id,
        "local-server-version" = help::ETCD_VERSION,
        "starting etcd server"
    );
}

/// Logs that the member's attributes are published.
pub(super) fn published(config: &Config, handle: &Handle) {
    let urls = crate::validate::join(&config.urls.advertise_client).replace(',', " ");
    let identity = handle.identity();
    tracing::info!(
        "local-member-id" = format!("{:x}", identity.member),
        "local-member-attributes" = format!("{{Name:{} ClientURLs:[{urls}]}}", config.member.name),
        "cluster-id" = format!("{:x}", identity.cluster),
        "publish-timeout" = go(config.member.request_timeout()),
        "published local member to cluster through raft"
    );
}

/// Logs the start or the end of the shutdown.
pub(super) fn end(config: &Config, message: &str) {
    let peers = shown(&config.urls.advertise_peer);
    let clients = shown(&config.urls.advertise_client);
    tracing::info!(
        name = config.member.name,
        "data-dir" = %config.member.data_dir.display(),
        "advertise-peer-urls" = ?peers,
        "advertise-client-urls" = ?clients,
        "{message}"
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;
    use crate::{flags, validate};

    fn effective_of(given: &[(&str, &str)]) -> serde_json::Value {
        let mut settings = Settings::default();
        for (name, value) in given {
            let flag = flags::find(name).unwrap();
            settings.set(flag, flag.kind.parse(value).unwrap());
        }
        effective(&validate::check(&settings).0.unwrap(), None, false)
    }

    #[test]
    fn the_line_of_the_start_has_the_values_in_use() {
        let fields = effective_of(&[]);
        assert_eq!(
            (&fields["pre-vote"], &fields["quota-backend-bytes"]),
            (&json!(true), &json!(2_147_483_648_u64))
        );
        let fields = effective_of(&[("pre-vote", "false"), ("quota-backend-bytes", "-1")]);
        assert_eq!(
            (&fields["pre-vote"], &fields["quota-backend-bytes"]),
            (&json!(false), &json!(-1))
        );
        let fields = effective_of(&[("quota-backend-bytes", "77")]);
        assert_eq!(fields["quota-backend-bytes"], json!(77));
    }
}
