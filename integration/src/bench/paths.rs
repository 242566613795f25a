//! The ways to the server: none between, HAProxy, MySQL Router, ProxySQL, a bare relay, Sluice. Each with a process whose CPU time and memory
//! can be read.

use std::path::{Path as FilePath, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::accounts;
use crate::ports::free_port;
use crate::process::Process;
use crate::proxy::Proxy;
use crate::server::Server;
use crate::wait::until_true;

/// A proxy must take clients within this.
const START_LIMIT: Duration = Duration::from_secs(20);
/// Clients each proxy is told to allow, above the idle clients of the benchmark.
const CLIENTS_MAX: u32 = 6000;

/// One way to the server.
#[derive(Debug)]
pub struct Path {
    /// `direct`, `haproxy`, `router`, `proxysql`, `relay`, `sluice`.
    pub name: &'static str,
    /// Where its clients connect.
    pub port: u16,
    /// Its process, except for `direct`.
    pub pid: Option<u32>,
    _keeps: Keeps,
}

#[derive(Debug)]
enum Keeps {
    Nothing,
    Process { _process: Box<Process> },
    Proxy { _proxy: Box<Proxy> },
}

/// All paths that can be had, and why the others cannot.
pub async fn all(server: &Server, threads: u32, wanted: impl Fn(&str) -> bool) -> Result<(Vec<Path>, Vec<String>)> {
    let (mut paths, mut missing) = (Vec::new(), Vec::new());
    if wanted("direct") {
        paths.push(Path { name: "direct", port: server.port(), pid: None, _keeps: Keeps::Nothing });
    }
    for name in ["haproxy", "router", "proxysql", "relay", "sluice"].into_iter().filter(|name| wanted(name)) {
        let made = match name {
            "haproxy" => haproxy(server, threads).await,
            "router" => router(server).await,
            "proxysql" => proxysql(server, threads).await,
            "relay" => relay(server, threads).await,
            _ => sluice(server, threads).await,
        };
        match made {
            Ok(path) => paths.push(path),
            // Without these there is nothing to compare.
            Err(error) if matches!(name, "haproxy" | "relay" | "sluice") => return Err(error.context(name)),
            Err(error) => missing.push(format!("{name}: {error:#}")),
        }
    }
    Ok((paths, missing))
}

async fn haproxy(server: &Server, threads: u32) -> Result<Path> {
    let program = find("haproxy", "HAPROXY", &["/usr/sbin/haproxy"])?;
    let (dir, port) = (crate::home::new_dir("haproxy")?, free_port()?);
    let config = format!(
        "global\n  nbthread {threads}\n  maxconn {CLIENTS_MAX}\ndefaults\n  mode tcp\n  maxconn {CLIENTS_MAX}\n  timeout connect 5s\n  \
         timeout client 1h\n  timeout server 1h\nlisten mysql\n  bind 127.0.0.1:{port}\n  server db1 {}\n",
        server.address()
    );
    started("haproxy", &program, &dir, "haproxy.cfg", &config, &["-f", "haproxy.cfg"], port).await
}

/// Passing bytes, as HAProxy does: its cheapest way.
async fn router(server: &Server) -> Result<Path> {
    let candidates: Vec<PathBuf> = crate::install::mysql_dirs().iter().map(|dir| dir.join("bin/mysqlrouter")).collect();
    let candidates: Vec<&str> = candidates.iter().filter_map(|path| path.to_str()).collect();
    let program = find("mysqlrouter", "MYSQLROUTER", &candidates)?;
    let (dir, port) = (crate::home::new_dir("router")?, free_port()?);
    // A Router that was unpacked somewhere looks for its plugins where its package would have put them.
    let unpacked = program.parent().and_then(FilePath::parent).map(|dir| dir.join("root/usr/lib/mysqlrouter/plugin"));
    let plugins = unpacked.filter(|dir| dir.is_dir()).map_or(String::new(), |dir| format!("plugin_folder={}\n", dir.display()));
    let config = format!(
        "[DEFAULT]\n{plugins}logging_folder=\nruntime_folder={0}\ndata_folder={0}\nmax_total_connections={CLIENTS_MAX}\n[logger]\nlevel=WARNING\n\
         [routing:mysql]\nbind_address=127.0.0.1\nbind_port={port}\ndestinations={1}\nrouting_strategy=first-available\nprotocol=classic\n\
         max_connections={CLIENTS_MAX}\nclient_ssl_mode=PASSTHROUGH\nserver_ssl_mode=AS_CLIENT\n",
        dir.display(),
        server.address()
    );
    started("router", &program, &dir, "router.conf", &config, &["-c", "router.conf"], port).await
}

async fn proxysql(server: &Server, threads: u32) -> Result<Path> {
    let program = find("proxysql", "PROXYSQL", &["/usr/bin/proxysql"])?;
    let (dir, port, admin) = (crate::home::new_dir("proxysql")?, free_port()?, free_port()?);
    let app = accounts::APP;
    let config = format!(
        "datadir=\"{}\"\nadmin_variables={{ mysql_ifaces=\"127.0.0.1:{admin}\" }}\nmysql_variables={{ threads={threads} max_connections={CLIENTS_MAX} \
         interfaces=\"127.0.0.1:{port}\" monitor_enabled=false have_ssl=false }}\nmysql_servers=( {{ address=\"127.0.0.1\", port={}, hostgroup=0, \
         max_connections=300 }} )\nmysql_users=( {{ username=\"{}\", password=\"{}\", default_hostgroup=0 }} )\n",
        dir.display(),
        server.port(),
        app.name,
        app.password
    );
    started("proxysql", &program, &dir, "proxysql.cnf", &config, &["-f", "-c", "proxysql.cnf"], port).await
}

async fn relay(server: &Server, threads: u32) -> Result<Path> {
    let (dir, port) = (crate::home::new_dir("relay")?, free_port()?);
    let args = ["--relay".to_owned(), format!("127.0.0.1:{port}"), server.address(), threads.to_string()];
    serving("relay", &std::env::current_exe()?, &args, &dir, port).await
}

async fn sluice(server: &Server, threads: u32) -> Result<Path> {
    let proxy = Proxy::before_address("db1", &server.address())
        .server("db1", "max_connections", "300")
        .server("db1", "tls", "{ mode = \"disabled\" }")
        .set("proxy.worker_threads", &threads.to_string())
        .set("proxy.max_clients", &CLIENTS_MAX.to_string())
        .start()
        .await?;
    Ok(Path { name: "sluice", port: proxy.port(), pid: Some(proxy.id()), _keeps: Keeps::Proxy { _proxy: Box::new(proxy) } })
}

async fn started(
    name: &'static str,
    program: &FilePath,
    dir: &FilePath,
    file: &str,
    config: &str,
    args: &[&str],
    port: u16,
) -> Result<Path> {
    let path = dir.join(file);
    std::fs::write(&path, config)?;
    let args: Vec<String> =
        args.iter().map(|arg| if *arg == file { path.display().to_string() } else { (*arg).to_owned() }).collect();
    serving(name, program, &args, dir, port).await
}

/// The process, once it takes clients.
async fn serving(name: &'static str, program: &FilePath, args: &[String], dir: &FilePath, port: u16) -> Result<Path> {
    let log = dir.join("log");
    let process = Process::start(program, args, &[], &log)?;
    let answers = until_true("it takes a client", START_LIMIT, async || {
        let options = crate::driver::options(port, accounts::APP);
        let conn = crate::driver::connect(options).await?;
        Ok(conn.disconnect().await.is_ok())
    });
    answers.await.with_context(|| format!("{name} does not serve; its log:\n{}", crate::process::tail(&log, 10)))?;
    Ok(Path { name, port, pid: Some(process.id()), _keeps: Keeps::Process { _process: Box::new(process) } })
}

/// The program a variable names, else one of these paths, else one on the PATH.
fn find(name: &str, variable: &str, places: &[&str]) -> Result<PathBuf> {
    let on_path = std::env::var("PATH").unwrap_or_default();
    let places = std::env::var(variable)
        .into_iter()
        .map(PathBuf::from)
        .chain(places.iter().map(PathBuf::from))
        .chain(on_path.split(':').map(|dir| FilePath::new(dir).join(name)));
    match places.into_iter().find(|path| path.is_file()) {
        Some(path) => Ok(path),
        None => bail!("not installed ({variable}=/path/to/{name} names one)"),
    }
}

/// CPU time of a process with all its threads, ended ones included, in user and in system mode. Counted in ticks of 10 ms, so a run must last seconds.
pub fn cpu(pid: u32) -> Result<(Duration, Duration)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).context("the proxy has ended")?;
    // Behind the program's name in brackets: state is the first field, utime the 12th, stime the 13th.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|f| f.parse::<u64>().ok()).context("an unknown form of /proc/PID/stat");
    let time = |ticks: u64| Duration::from_millis(ticks * 10);
    Ok((time(ticks(11)?), time(ticks(12)?)))
}

/// Memory of a process that is its own, bytes.
pub fn memory(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).context("the proxy has ended")?;
    let kib = status.lines().find_map(|line| line.strip_prefix("RssAnon:")?.split_whitespace().next()?.parse::<u64>().ok());
    Ok(kib.context("no RssAnon in /proc/PID/status")? * 1024)
}
