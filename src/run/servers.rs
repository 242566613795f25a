//! What the parts are told of the servers, at the start and when the configuration is read again.

use std::sync::Arc;

use crate::backend::ServerTls;
use crate::backend::pool::ServerPool;
use crate::backend::pools::Pools;
use crate::config::types::ProxyProtocol;
use crate::config::{Config, resolve};
use crate::metrics::Metrics;
use crate::monitor::{Account, MonitorSettings, MonitoredServer};
use crate::run::roster::Roster;
use crate::topology::ServerId;
use crate::topology::failover::Mode;

/// Makes the pools that there are not yet, and tells how all servers are reached. Nothing is opened. Servers that left are told too: each has its
/// number.
///
/// # Errors
/// TLS files that cannot be used; no pool was made then.
pub fn open_pools(roster: &Roster, config: &Config, pools: &Pools, metrics: &Metrics) -> Result<Vec<MonitoredServer>, String> {
    let mut new = Vec::new();
    let mut monitored = Vec::new();
    for (index, server) in roster.servers().iter().enumerate() {
        if let Some(pool) = pools.get(index).filter(|_| server.retired) {
            // Its files may be gone, too.
            monitored.push(MonitoredServer { address: pool.address().clone(), tls: ServerTls::clone(&pool.tls()) });
            continue;
        }
        let (address, tls) = (resolve::address(&server.address), resolve::server_tls(server)?);
        if pools.get(index).is_none() {
            let id = ServerId(u16::try_from(index).map_err(|_| "too many servers".to_owned())?);
            let (name, compression) = (server.name.as_str().into(), resolve::compression(server));
            let settings = resolve::pool(config);
            let pool = ServerPool::new(id, name, address.clone(), tls.clone(), compression, server.max_connections, settings);
            pool.tell_waits(metrics.pool_wait.clone());
            new.push(pool);
        }
        monitored.push(MonitoredServer { address, tls });
    }
    for pool in new {
        pools.add(pool);
    }
    Ok(monitored)
}

/// The servers whose file of authorities holds others than when their pool was told, with what to tell it.
pub fn renewed(monitored: &[MonitoredServer], pools: &Pools) -> Vec<(Arc<ServerPool>, ServerTls)> {
    let differs = |(pool, server): (&Arc<ServerPool>, &MonitoredServer)| {
        (!server.tls.trusts_as(&pool.tls())).then(|| (pool.clone(), server.tls.clone()))
    };
    pools.iter().zip(monitored).filter_map(differs).collect()
}

/// The servers' names as the metrics are told them; empty for those that left.
pub fn names(roster: &Roster) -> Vec<&str> {
    roster.servers().iter().map(|server| if server.retired { "" } else { server.name.as_str() }).collect()
}

/// Whether servers are told clients' addresses.
pub fn tells_addresses(config: &Config) -> bool {
    config.servers.iter().any(|s| s.proxy_protocol != ProxyProtocol::Off)
}

/// What the monitor is told. `run` names this process.
pub fn monitor_settings(numbered: &Config, run: u64) -> MonitorSettings {
    MonitorSettings {
        topology: resolve::topology(numbered),
        heartbeat: resolve::heartbeat(numbered),
        failover: resolve::failover(numbered),
        run,
    }
}

/// Takes from a monitor's settings all that two processes must not do at a time: the heartbeat and the replacing of masters.
pub fn only_watches(settings: &mut MonitorSettings) {
    settings.heartbeat = None;
    settings.failover.mode = Mode::Off;
}

/// The monitor's account.
pub fn monitor_account(config: &Config) -> Account {
    Account { user: config.monitor.user.clone(), password: resolve::monitor_password(config) }
}

/// New limits and times for all pools; those of servers that left lose their idle connections.
pub fn configure_pools(roster: &Roster, config: &Config, pools: &Arc<Pools>) {
    for (server, pool) in roster.servers().iter().zip(pools.iter()) {
        pool.configure(server.max_connections, resolve::pool(config));
        if server.retired {
            pool.close_idle(None);
        }
    }
}
