//! The members of a new cluster, if they are not in `--initial-cluster`: from SRV records, or from a
//! discovery service.
//!
//! Source: etcd server/embed/config.go `PeerURLsMapAndToken`, server/etcdserver/bootstrap.go
//! `bootstrapNewClusterNoWAL` @ v3.7.1.

use super::failure::StartFailure;
use crate::config::{Config, Discovery, DiscoveryService};
use crate::discovery;
use crate::initial::{self, Members};
use crate::srv::{self, Domain};
use crate::system;
use dns::Resolver;

/// The configuration with the members that are found. A member that has data does not look for others.
///
/// # Errors
/// When the members are not found.
pub(super) fn with_members(config: &Config, has_data: bool) -> Result<Config, StartFailure> {
    let mut found = config.clone();
    match &config.bootstrap.discovery {
        Discovery::Srv(domain) if !has_data => {
            let set_up = find(&mut found, domain);
            set_up.map_err(|error| format!("error setting up initial cluster: {error}"))?;
        }
        Discovery::Service(service) if !has_data => join(&mut found, service)?,
        Discovery::Service(_) => {
            let wal_dir = super::options::wal_dir(config).display().to_string();
            let message = "discovery token is ignored since cluster already initialized; valid logs \
                           are found";
            tracing::warn!("wal-dir" = wal_dir, "{message}");
        }
        Discovery::Srv(_) | Discovery::Off => {}
    }
    Ok(found)
}

fn find(config: &mut Config, domain: &Domain) -> Result<(), String> {
    let (name, advertised) = (&config.member.name, &config.urls.advertise_peer);
    let cluster = system::with_signals(|| {
        srv::initial_cluster(&Resolver::system(), domain, name, advertised)
    })
    .map_err(|error| format!("cannot unblock signals: {error}"))??;
    let members = initial::parse(&cluster)?;
    if !members.contains_key(name) {
        return Err(format!("cannot find local etcd member {name:?} in SRV records"));
    }
    let peers = &mut config.urls.tls.peers;
    if cluster.contains("https://") && peers.trusted_ca.is_none() {
        peers.server_name = Some(domain.name.trim_end_matches('.').to_owned());
    }
    config.bootstrap.initial_cluster = cluster;
    Ok(())
}

fn join(config: &mut Config, service: &DiscoveryService) -> Result<(), StartFailure> {
    if !config.bootstrap.new_cluster {
        let text = "discovery URL should not be set when joining existing initial cluster";
        return Err(StartFailure::Other(text.to_owned()));
    }
    let (name, urls) = (config.member.name.clone(), config.urls.advertise_peer.clone());
    let texts: Vec<String> = urls.iter().map(ToString::to_string).collect();
    let member = cluster::member_id(&texts, &service.token, None);
    let own = initial::text(&Members::from([(name, urls)]));
    tracing::info!("Bootstrapping cluster using v3 discovery.");
    let joined = system::with_signals(|| discovery::join(service, member, &own));
    let joined = joined.map_err(|error| format!("cannot unblock signals: {error}"))?;
    config.bootstrap.initial_cluster = joined.map_err(|refusal| StartFailure::Discovery {
        is_full: refusal == discovery::Refusal::Full,
        token: service.token.clone(),
        endpoints: service.client.endpoints.clone(),
        error: format!("failed to join discovery cluster ({refusal})"),
    })?;
    config.bootstrap.token.clone_from(&service.token);
    Ok(())
}
