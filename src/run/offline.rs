//! The commands that need no running proxy: `sluice explain`, `sluice check --online`; and the greeting made of what the
//! servers said.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use crate::admin::house::ExplainRow;
use crate::backend::connect_admin;
use crate::cli;
use crate::config::types::{FailoverMode, Invalidate};
use crate::config::{Config, resolve};
use crate::frontend::login::GreetingTemplate;
use crate::monitor::commands;
use crate::protocol::Capabilities;
use crate::run::explain::{ExplainParts, Who, explain};
use crate::sql::lexer::Dialect;
use crate::topology::settings::ConfiguredRole;
use crate::topology::snapshot::Snapshot;
use crate::topology::{Flavor, Role, State};

/// How long `check --online` waits for one server.
const CHECK_TIMEOUT: Duration = Duration::from_secs(5);

/// What the `sluice` program does for each command.
#[derive(Debug, Default)]
pub struct Program;

impl cli::Program for Program {
    fn run(&self, config: Config, file: PathBuf, takeover: bool) -> ExitCode {
        super::run(config, file, takeover)
    }

    fn explain(&self, config: &Config, sql: &str) -> Result<String, String> {
        let settings = resolve::frontend(config)?;
        let accounts = resolve::accounts(config);
        let snapshot = as_configured(config);
        let parts = ExplainParts {
            rules: &settings.rules,
            routing: &settings.routing,
            accounts: &accounts,
            dialect: Dialect::Either,
            known: None,
            cache: None,
        };
        Ok(lines(&explain(&snapshot, &parts, Who::default(), sql)))
    }

    fn check_online(&self, config: &Config) -> Vec<Result<String, String>> {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(e) => return vec![Err(format!("cannot start: {e}"))],
        };
        runtime.block_on(async {
            let mut said = Vec::new();
            for server in &config.servers {
                said.push(check(config, server).await.map_err(|e| format!("{}: {e}", server.name)));
            }
            said
        })
    }
}

/// The servers as if all were up and the first master peer of the file were the master: what `sluice explain` assumes, for it
/// asks nobody.
fn as_configured(config: &Config) -> Snapshot {
    let settings = resolve::topology(config);
    let mut snapshot = Snapshot::starting(&settings, None, SystemTime::UNIX_EPOCH);
    for server in &mut snapshot.servers {
        server.state = State::Online;
        server.read_ok = true;
        server.role = match server.configured_role {
            ConfiguredRole::Replica | ConfiguredRole::Retired => Role::Replica,
            ConfiguredRole::Master if snapshot.master.is_none() => {
                snapshot.master = Some(server.id);
                Role::Master
            }
            ConfiguredRole::Master => Role::Standby,
        };
    }
    snapshot.no_master = None;
    snapshot
}

fn lines(row: &ExplainRow) -> String {
    let ExplainRow { class, target, server, reason, tables, cacheable, digest, rule } = row;
    let none = "-".to_owned();
    [
        ("class", class),
        ("target", target),
        ("server", server.as_ref().unwrap_or(&none)),
        ("reason", reason),
        ("tables", tables),
        ("cacheable", cacheable),
        ("digest", digest),
        ("rule", rule.as_ref().unwrap_or(&none)),
    ]
    .iter()
    .map(|(name, value)| format!("{name:<10} {value}\n"))
    .collect()
}

/// Logs in at one server with Sluice's own account and looks whether it can see what it must.
async fn check(config: &Config, server: &crate::config::types::Server) -> Result<String, String> {
    let tls = resolve::server_tls(server)?;
    let password = resolve::monitor_password(config);
    let address = resolve::address(&server.address);
    let mut connection =
        connect_admin(&address, &tls, &config.monitor.user, &password, CHECK_TIMEOUT).await.map_err(|e| e.to_string())?;
    let (status, updates) = match connection.flavor() {
        Flavor::MariaDb => ("SHOW ALL SLAVES STATUS", "log_slave_updates"),
        Flavor::MySql => ("SHOW REPLICA STATUS", "log_replica_updates"),
    };
    let sql = format!("SELECT @@global.read_only AS f_ro, @@global.log_bin AND @@global.{updates} AS f_on");
    let seen = connection.query(&sql).await.map_err(|e| e.to_string())?;
    let cell = |column| seen.first().and_then(|result| result.get(0, column)).unwrap_or_default();
    let (read_only, sends_on) = (cell("f_ro"), cell("f_on") != "0");
    connection.query(status).await.map_err(|e| format!("{status}: {e}; the README lists the grants"))?;
    let granted = connection.query("SHOW GRANTS").await.map_err(|e| format!("SHOW GRANTS: {e}"))?;
    let lines: Vec<String> = granted.iter().flat_map(|r| r.rows.iter().filter_map(|row| row.first().cloned().flatten())).collect();
    let flavor = connection.flavor();
    let mut lacks = lacking(config, flavor, &lines);
    if config.cache.enabled {
        let sql = "SELECT DISTINCT PRIVILEGE_TYPE FROM information_schema.USER_PRIVILEGES WHERE PRIVILEGE_TYPE IN ('TRIGGER', 'SHOW VIEW')";
        let given = connection.query(sql).await.map_err(|e| format!("{sql}: {e}"))?;
        if given.first().is_none_or(|result| result.rows.len() < 2) {
            lacks.push("cache.enabled needs TRIGGER, SHOW VIEW ON *.*, else nothing is kept".to_owned());
        }
    }
    if !lacks.is_empty() {
        return Err(format!("{}; the README lists the grants", lacks.join("; ")));
    }
    let fails_over = config.failover.mode != FailoverMode::Off;
    let mut advice =
        commands::lacks_advised(flavor, &lines).filter(|_| fails_over).map(|lacks| format!("; {lacks}")).unwrap_or_default();
    let may_be_master = server.role == crate::config::types::ServerRole::Master || config.failover.promote_replicas;
    if fails_over && may_be_master && !sends_on {
        advice.push_str(&format!("; without log_bin and {updates} it cannot send on what it replicates, and should not be master"));
    }
    let writable = if read_only == "0" { "takes writes" } else { "read_only" };
    Ok(format!("{} ({address}): {} {}, {writable}{advice}", server.name, connection.flavor(), connection.version()))
}

/// What the configuration needs and the lines of `SHOW GRANTS` do not give: all of it, so that one round of grants will do.
fn lacking(config: &Config, flavor: Flavor, grants: &[String]) -> Vec<String> {
    let mut lacks = Vec::new();
    let table = &config.monitor.heartbeat_table;
    let missing = heartbeat_lacks(table, grants).join(", ");
    if !missing.is_empty() {
        let schema = table.split('.').next().unwrap_or_default();
        lacks.push(format!(
            "monitor.heartbeat_table = \"{table}\" needs {missing} ON {schema}.*; grant it, or set monitor.heartbeat_table = \"\""
        ));
    }
    let missing = commands::missing_privileges(flavor, grants).join(", ");
    if config.failover.mode != FailoverMode::Off && !missing.is_empty() {
        let mode = config.failover.mode.as_str();
        lacks.push(format!("failover.mode = \"{mode}\" needs {missing} ON *.*; grant it, or set failover.mode = \"off\""));
    }
    let missing = commands::missing_binlog_privileges(flavor, grants).join(", ");
    if config.cache.enabled && config.cache.invalidate.contains(&Invalidate::Binlog) && !missing.is_empty() {
        lacks.push(format!("\"binlog\" in cache.invalidate needs {missing} ON *.*, else nothing is served"));
    }
    lacks
}

/// What the heartbeat table needs and the lines of `SHOW GRANTS` do not give. What comes by a role is not seen.
fn heartbeat_lacks(table: &str, grants: &[String]) -> Vec<&'static str> {
    let Some((schema, table)) = table.split_once('.') else { return Vec::new() };
    // What a role gives, only the server knows.
    if grants.iter().any(|line| line.starts_with("GRANT ") && !line.contains(" ON ")) {
        return Vec::new();
    }
    let places = ["*.*".to_owned(), format!("{schema}.*"), format!("{schema}.{table}")];
    let given = |privilege: &str| {
        grants.iter().filter_map(|line| line.strip_prefix("GRANT ")?.split_once(" ON ")).any(|(privileges, rest)| {
            let place = rest.split(" TO ").next().unwrap_or_default().replace(['`', '\\'], "");
            // A pattern (`sluic%`) may mean it: nobody is told to grant what is granted.
            let here = places.contains(&place) || place.split('.').next().is_some_and(|name| name.contains('%'));
            here && privileges.split(',').any(|one| matches!(one.trim(), p if p == privilege || p == "ALL PRIVILEGES"))
        })
    };
    ["SELECT", "INSERT", "UPDATE", "CREATE"].into_iter().filter(|privilege| !given(privilege)).collect()
}

/// What clients are greeted with: what the master says (else any server), with only what every server that was seen can do.
pub fn greeting(snapshot: &Snapshot) -> Option<GreetingTemplate> {
    // Of a server that was too slow to greet in time only the version is known, and nothing of what it can do.
    let seen = || {
        snapshot.servers.iter().filter_map(|s| s.facts.as_ref().map(|f| (s.id, &f.greeting))).filter(|(_, g)| g.capabilities != 0)
    };
    let (_, first) = seen().find(|(id, _)| snapshot.master == Some(*id)).or_else(|| seen().next())?;
    let greeting = crate::protocol::handshake::Greeting {
        version: first.version.clone(),
        connection_id: 0,
        nonce: [b'x'; crate::protocol::handshake::NONCE_LEN],
        capabilities: Capabilities(first.capabilities),
        collation: first.collation as u8,
        status: 2,
        plugin: first.auth_plugin.clone(),
    };
    let template = GreetingTemplate::from_server(&greeting);
    let common = seen().fold(template.capabilities, |all, (_, g)| all & Capabilities(g.capabilities));
    Some(template.narrowed_to(common))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_lacking_is_told_at_once() {
        let mut config = Config::default();
        config.monitor.heartbeat_table = "sluice.heartbeat".to_owned();
        config.failover.mode = FailoverMode::Auto;
        config.cache.enabled = true;
        config.cache.invalidate = vec![Invalidate::Binlog];
        let grants = ["GRANT USAGE ON *.* TO `sluice`@`%`".to_owned()];
        let told = lacking(&config, Flavor::MariaDb, &grants).join(" | ");
        for wanted in ["monitor.heartbeat_table = ", "failover.mode = \"auto\" needs ", "\"binlog\" in cache.invalidate needs "] {
            assert!(told.contains(wanted), "{told}");
        }
        assert!(lacking(&config, Flavor::MariaDb, &["GRANT ALL PRIVILEGES ON *.* TO `sluice`@`%`".to_owned()]).is_empty());
    }

    #[test]
    fn rights_on_the_heartbeat_table() {
        let user = "GRANT SLAVE MONITOR ON *.* TO `sluice`@`%` IDENTIFIED BY PASSWORD 'x'";
        for (grants, lacks) in [
            (vec![user], "SELECT INSERT UPDATE CREATE"),
            (vec![user, "GRANT SELECT, INSERT, UPDATE, CREATE ON `sluice`.* TO `sluice`@`%`"], ""),
            (vec![user, "GRANT ALL PRIVILEGES ON `sluice`.* TO `sluice`@`%`"], ""),
            (vec!["GRANT SELECT, INSERT, UPDATE ON *.* TO `sluice`@`%`", "GRANT CREATE ON `sluice`.`heartbeat` TO `s`@`%`"], ""),
            (vec!["GRANT ALL PRIVILEGES ON `slu%`.* TO `sluice`@`%`"], ""),
            (
                vec!["GRANT SELECT, INSERT ON `sluice`.* TO `s`@`%`", "GRANT ALL PRIVILEGES ON `other`.* TO `s`@`%`"],
                "UPDATE CREATE",
            ),
        ] {
            let grants: Vec<String> = grants.into_iter().map(str::to_owned).collect();
            assert_eq!(heartbeat_lacks("sluice.heartbeat", &grants).join(" "), lacks, "{grants:?}");
            assert!(heartbeat_lacks("", &grants).is_empty());
        }
    }
}
