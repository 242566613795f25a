//! The configuration file's types into each room's own settings, so that no room knows the file.

use std::sync::Arc;
use std::time::Duration;

use super::types;
use crate::auth::{Accounts, Override, Secret, Source};
use crate::backend::pool::PoolSettings;
use crate::backend::{ServerAddress, ServerTls, TlsMode};
use crate::config::Config;
use crate::config::address::Address;
use crate::frontend::shared::FrontendSettings;
use crate::frontend::tls::{ClientTls, ClientTlsMode};
use crate::monitor::{HeartbeatRow, HeartbeatTable};
use crate::protocol::compress::{Algorithm, ZSTD_LEVEL_DEFAULT};
use crate::protocol::proxy_header::Version;
use crate::routing::balance::ReadBalance;
use crate::routing::decide::{Consistency, ReadFromMaster, RoutingSettings};
use crate::routing::rules::{Action, Rule, Rules};
use crate::topology::failover::{FailoverSettings, Mode};
use crate::topology::settings::{ConfiguredRole, ConfiguredServer, Settings};

/// How long a read may wait at a replica for the session's last write before it goes elsewhere. Replicas apply in
/// milliseconds; one that does not is behind, and the master is the better answer.
const WRITE_WAIT: Duration = Duration::from_millis(50);

/// `[routing]`, `[[rule]]` and what else statements are judged by.
///
/// # Errors
/// A pattern that the byte-wise regular expressions refuse although the file's check accepted it.
pub fn frontend(config: &Config) -> Result<FrontendSettings, String> {
    Ok(FrontendSettings {
        routing: RoutingSettings {
            read_balance: match config.routing.read_balance {
                types::ReadBalance::RoundRobin => ReadBalance::RoundRobin,
                types::ReadBalance::Weighted => ReadBalance::Weighted,
                types::ReadBalance::LeastConnections => ReadBalance::LeastConnections,
                types::ReadBalance::Fastest => ReadBalance::Fastest,
            },
            consistency: match config.routing.consistency {
                types::Consistency::None => Consistency::None,
                types::Consistency::Session => Consistency::Session,
                types::Consistency::Global => Consistency::Global,
            },
            read_from_master: match config.routing.read_from_master {
                types::ReadFromMaster::Never => ReadFromMaster::Never,
                types::ReadFromMaster::Fallback => ReadFromMaster::Fallback,
                types::ReadFromMaster::Always => ReadFromMaster::Always,
            },
            zone: config.routing.zone.as_str().into(),
        },
        rules: rules(config)?,
        hold_timeout: config.failover.hold_timeout.0,
        write_wait: WRITE_WAIT,
        max_clients: config.proxy.max_clients,
        slow_statement: Some(config.proxy.slow_statement.0).filter(|limit| !limit.is_zero()),
        proxy_protocol_from: config.proxy.proxy_protocol_from.clone(),
    })
}

fn rules(config: &Config) -> Result<Rules, String> {
    let rule = |(index, rule): (usize, &types::Rule)| {
        let pattern = rule.pattern.as_ref().map(|p| regex::bytes::Regex::new(p.0.as_str())).transpose();
        let digest = rule.digest.as_ref().map(|d| digest(d).ok_or_else(|| format!("rule {}: digest: not hexadecimal", index + 1)));
        Ok(Rule {
            user: rule.user.clone(),
            schema: rule.schema.clone(),
            pattern: pattern.map_err(|e| format!("rule {}: pattern: {e}", index + 1))?,
            digest: digest.transpose()?,
            client: rule.client,
            action: match &rule.action {
                types::RuleAction::Master => Action::Master,
                types::RuleAction::Replica => Action::Replica,
                types::RuleAction::Server(name) => Action::Server(name.clone()),
                types::RuleAction::Deny => Action::Deny,
                types::RuleAction::Cache => Action::Cache,
                types::RuleAction::NoCache => Action::NoCache,
            },
            message: rule.message.clone(),
            hits: Arc::default(),
        })
    };
    config.rules.iter().enumerate().map(rule).collect::<Result<_, String>>().map(Rules)
}

/// A digest as it is printed: up to sixteen hexadecimal digits, `0x` before them or not.
pub fn digest(text: &str) -> Option<u64> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    let fine = (1..=16).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_hexdigit());
    fine.then(|| u64::from_str_radix(digits, 16).ok()).flatten()
}

/// `[monitor]` and `[[server]]` for the diagnosis.
pub fn topology(config: &Config) -> Settings {
    Settings {
        heartbeat_interval: config.monitor.heartbeat_interval.0,
        heartbeat_timeout: config.monitor.heartbeat_timeout.0,
        max_lag: config.monitor.max_lag.0,
        promote_replicas: config.failover.promote_replicas,
        servers: config
            .servers
            .iter()
            .map(|server| ConfiguredServer {
                name: server.name.as_str().into(),
                address: server.address.to_string().into(),
                role: match server.role {
                    _ if server.retired => ConfiguredRole::Retired,
                    types::ServerRole::Master => ConfiguredRole::Master,
                    types::ServerRole::Replica => ConfiguredRole::Replica,
                },
                zone: server.zone.as_str().into(),
                weight: server.weight,
                max_connections: u32::try_from(server.max_connections).unwrap_or(u32::MAX),
            })
            .collect(),
    }
}

/// `[failover]`.
pub fn failover(config: &Config) -> FailoverSettings {
    FailoverSettings {
        mode: match config.failover.mode {
            types::FailoverMode::Auto => Mode::Auto,
            types::FailoverMode::Manual => Mode::Manual,
            types::FailoverMode::Off => Mode::Off,
        },
        topology: topology(config),
        hold_timeout: config.failover.hold_timeout.0,
        max_lost_transactions: match config.failover.max_lost_transactions {
            types::MaxLost::Any => None,
            types::MaxLost::None => Some(0),
        },
    }
}

/// Where a server is.
pub fn address(address: &Address) -> ServerAddress {
    match address {
        Address::Tcp { host, port } => ServerAddress::Tcp { host: host.clone(), port: *port },
        Address::Unix(path) => ServerAddress::Unix(path.clone()),
    }
}

/// How to speak TLS with a server, and the PROXY header before it.
///
/// # Errors
/// A CA file that cannot be used, with the server's name.
pub fn server_tls(server: &types::Server) -> Result<ServerTls, String> {
    let mode = match server.tls.mode {
        types::ServerTlsMode::Disabled => TlsMode::Disabled,
        types::ServerTlsMode::Preferred => TlsMode::Preferred,
        types::ServerTlsMode::Required => TlsMode::Required,
        types::ServerTlsMode::VerifyCa => TlsMode::VerifyCa,
        types::ServerTlsMode::VerifyIdentity => TlsMode::VerifyIdentity,
    };
    let header = match server.proxy_protocol {
        types::ProxyProtocol::Off => None,
        types::ProxyProtocol::V1 => Some(Version::V1),
        types::ProxyProtocol::V2 => Some(Version::V2),
    };
    let tls = ServerTls::new(mode, server.tls.ca.as_deref(), None, None);
    tls.map(|tls| tls.with_proxy_header(header)).map_err(|e| format!("server {}: tls: {e}", server.name))
}

/// How a server's connections are compressed.
pub fn compression(server: &types::Server) -> Option<Algorithm> {
    match server.compression {
        types::ServerCompression::Off => None,
        types::ServerCompression::Zlib => Some(Algorithm::Zlib),
        types::ServerCompression::Zstd => Some(Algorithm::Zstd { level: ZSTD_LEVEL_DEFAULT }),
    }
}

/// How to speak TLS with clients.
///
/// # Errors
/// A certificate, key or CA file that cannot be used.
pub fn client_tls(config: &Config) -> Result<ClientTls, String> {
    let tls = &config.proxy.tls;
    let mode = match tls.mode {
        types::ClientTlsMode::Disabled => ClientTlsMode::Disabled,
        types::ClientTlsMode::Preferred => ClientTlsMode::Preferred,
        types::ClientTlsMode::Required => ClientTlsMode::Required,
    };
    ClientTls::new(mode, tls.cert.as_deref(), tls.key.as_deref(), tls.client_ca.as_deref()).map_err(|e| format!("proxy.tls: {e}"))
}

/// `[auth]` and `[[user]]`.
pub fn accounts(config: &Config) -> Accounts {
    let source = match config.auth.source {
        types::AuthSource::Servers => Source::Servers,
        types::AuthSource::File => Source::File,
    };
    let entry = |user: &types::User| Override {
        name: user.name.clone(),
        password: user.secret.password.as_ref().map(|p| Secret::new(p.expose().as_bytes())),
        hosts: user.hosts.clone(),
        schemas: user.schemas.as_slice().into(),
        max_connections: (user.max_connections > 0).then(|| u32::try_from(user.max_connections).unwrap_or(u32::MAX)),
        read_only: user.read_only,
    };
    Accounts::new(source, config.users.iter().map(entry).collect())
}

/// `[pool]`.
pub fn pool(config: &Config) -> PoolSettings {
    PoolSettings {
        idle_timeout: config.pool.idle_timeout.0,
        max_lifetime: config.pool.max_lifetime.0,
        checkout_timeout: config.pool.checkout_timeout.0,
        max_prepared: usize::try_from(config.pool.max_prepared_per_connection).unwrap_or(usize::MAX),
        ..PoolSettings::default()
    }
}

/// The password of Sluice's own account.
pub fn monitor_password(config: &Config) -> Secret {
    Secret::new(config.monitor.secret.expose().as_bytes())
}

/// The heartbeat row, if one is written. Its name is this machine's and the first door's, so that it is the same after a restart
/// and differs between proxies.
pub fn heartbeat(config: &Config) -> Option<HeartbeatRow> {
    let table = HeartbeatTable::parse(&config.monitor.heartbeat_table)?;
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let door = config.proxy.listen.first().map(ToString::to_string).unwrap_or_default();
    Some(HeartbeatRow::new(table, &format!("{}:{door}", host.trim())))
}
