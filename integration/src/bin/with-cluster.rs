//! `with-cluster [OPTIONS] COMMAND...`: four real servers with Sluice in front for as long as COMMAND runs; ends with its exit code.
//!
//! For suites that are not written in Rust. The command finds what it needs in its environment:
//!
//! - `DB_FLAVOUR` `mariadb` or `mysql`; `DB_USER`, `DB_PASSWORD` of an account with all privileges
//! - `DIRECT_PORT` the master's own port, `PROXY_PORT` Sluice's, `ADMIN_PORT` and `HTTP_PORT` Sluice's too, all on 127.0.0.1
//! - `REPLICA_PORTS` the other servers' ports, with spaces between; `DIRECT_SOCKET` the master's Unix socket
//! - `SLUICE_LOG` the file Sluice logs to, `SLUICE_PID` its process, `DB_BIN` the directory of the server's client programs

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use integration::accounts::Account;
use integration::cluster::Cluster;
use integration::flavour::Flavour;
use integration::proxy::Proxy;

/// Made on the master when the cluster runs, so that replication brings it to the others. It may do everything: suites of
/// drivers create schemas, accounts and procedures, and set global variables.
const SUPER: Account = Account { name: "driver", password: "driver" };

const USAGE: &str = "usage: with-cluster [--flavour mariadb|mysql] [--server --OPTION=VALUE]... [--set SECTION.KEY=TOML]...
                    [--every-server KEY=TOML]... [--more TOML] COMMAND...
  --server        an option of all four servers
  --set           a key of Sluice's configuration; --every-server: a key of every [[server]]; --more: text at its end";

#[derive(Debug)]
struct Options {
    flavour: Flavour,
    server: Vec<String>,
    set: Vec<(String, String)>,
    every_server: Vec<(String, String)>,
    more: String,
    command: Vec<String>,
}

impl Options {
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Self> {
        let mut options = Self {
            flavour: Flavour::from_env()?,
            server: vec![],
            set: vec![],
            every_server: vec![],
            more: String::new(),
            command: vec![],
        };
        let pair = |text: String| {
            let (key, value) = text.split_once('=').with_context(|| format!("{text:?} is not KEY=VALUE"))?;
            anyhow::Ok((key.to_owned(), value.to_owned()))
        };
        while let Some(arg) = args.next() {
            let mut value = || args.next().with_context(|| format!("{arg} needs a value\n{USAGE}"));
            match arg.as_str() {
                "--flavour" => options.flavour = Flavour::parse(&value()?)?,
                "--server" => options.server.push(value()?),
                "--set" => options.set.push(pair(value()?)?),
                "--every-server" => options.every_server.push(pair(value()?)?),
                "--more" => options.more = value()?,
                _ if arg.starts_with("--") => bail!("unknown argument {arg:?}\n{USAGE}"),
                _ => {
                    options.command.push(arg);
                    options.command.extend(args);
                    return Ok(options);
                }
            }
        }
        bail!("no command\n{USAGE}")
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let outcome = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => run(options).await,
        Err(error) => Err(error),
    };
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("with-cluster: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(options: Options) -> Result<u8> {
    Proxy::program()?;
    let server: Vec<&str> = options.server.iter().map(String::as_str).collect();
    let cluster = Cluster::start_with(options.flavour, &server, &|_| {}).await?;
    let master = cluster.server("db1");
    let create = format!("CREATE USER {}@'%' IDENTIFIED BY '{}'", SUPER.name, SUPER.password);
    master.run(&[&create, &format!("GRANT ALL ON *.* TO {}@'%' WITH GRANT OPTION", SUPER.name)]).await?;
    cluster.settle().await?;
    let mut proxy = Proxy::before(&cluster).more(&options.more);
    for (key, value) in &options.set {
        proxy = proxy.set(key, value);
    }
    for (key, value) in &options.every_server {
        proxy = proxy.every_server(key, value);
    }
    let proxy = proxy.start().await?;
    let replicas = cluster.servers().iter().filter(|server| server.name() != "db1");
    let replicas = replicas.map(|server| server.port().to_string()).collect::<Vec<_>>().join(" ");
    let programs = cluster.install.client.as_deref().and_then(std::path::Path::parent).unwrap_or("/usr/bin".as_ref());
    let (program, arguments) = options.command.split_first().context("a command")?;
    let mut command = tokio::process::Command::new(program);
    command
        .args(arguments)
        .env("DB_FLAVOUR", options.flavour.to_string())
        .env("DB_USER", SUPER.name)
        .env("DB_PASSWORD", SUPER.password)
        .env("DB_BIN", programs)
        .env("DIRECT_PORT", master.port().to_string())
        .env("DIRECT_SOCKET", master.socket())
        .env("REPLICA_PORTS", replicas)
        .env("PROXY_PORT", proxy.port().to_string())
        .env("ADMIN_PORT", proxy.admin_port().to_string())
        .env("HTTP_PORT", proxy.http_port().to_string())
        .env("SLUICE_LOG", proxy.log_path())
        .env("SLUICE_PID", proxy.id().to_string())
        .kill_on_drop(true);
    let status = command.status().await.with_context(|| format!("run {program}"))?;
    proxy.check_running().with_context(|| format!("its log ends with:\n{}", proxy.log_tail(40)))?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}
