//! The proxy under test: a `sluice` process with a configuration of its own, and the ways to ask it something.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use mysql_async::{Conn, OptsBuilder};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::accounts::{self, Account};
use crate::cluster::Cluster;
use crate::driver::{self, Table};
use crate::ports::free_port;
use crate::process::{Process, Signal, tail};

/// The account of the admin port, in every configuration the harness writes.
pub const ADMIN: Account = Account { name: "admin", password: "admin" };

/// From start to ready. A debug build on a busy machine, servers all up.
const READY_LIMIT: Duration = Duration::from_secs(20);
/// From SIGTERM to the end; more than the `proxy.drain_timeout` the harness sets.
const STOP_LIMIT: Duration = Duration::from_secs(20);

/// One `[[server]]` of the configuration.
#[derive(Debug, Clone)]
struct Entry {
    name: String,
    settings: BTreeMap<String, String>,
}

/// A configuration being written, and then the start.
#[derive(Debug, Clone)]
pub struct ProxyBuilder {
    sections: BTreeMap<String, BTreeMap<String, String>>,
    servers: Vec<Entry>,
    more: String,
    ports: Option<(u16, u16, u16)>,
    env: Vec<(String, String)>,
    unread: bool,
}

impl ProxyBuilder {
    /// Sets one key, `section.key`, to a value as TOML spells it: `.set("pool.idle_timeout", "\"1s\"")`.
    pub fn set(mut self, key: &str, value: &str) -> Self {
        let (section, key) = key.split_once('.').expect("a key is section.key");
        self.sections.entry(section.into()).or_default().insert(key.into(), value.into());
        self
    }

    /// Sets one key of one `[[server]]`: `.server("db3", "weight", "5")`.
    pub fn server(mut self, name: &str, key: &str, value: &str) -> Self {
        let entry = self.servers.iter_mut().find(|entry| entry.name == name).unwrap_or_else(|| panic!("no server {name}"));
        entry.settings.insert(key.into(), value.into());
        self
    }

    /// One more `[[server]]`.
    pub fn with(mut self, name: &str, address: &str, role: &str) -> Self {
        let settings = [("address", address), ("role", role)];
        let settings = settings.map(|(key, value)| (key.to_owned(), format!("{value:?}"))).into();
        self.servers.push(Entry { name: name.into(), settings });
        self
    }

    /// Leaves one `[[server]]` out.
    pub fn without(mut self, name: &str) -> Self {
        let count = self.servers.len();
        self.servers.retain(|entry| entry.name != name);
        assert!(self.servers.len() < count, "no server {name}");
        self
    }

    /// Sets one key of every `[[server]]`.
    pub fn every_server(mut self, key: &str, value: &str) -> Self {
        for entry in &mut self.servers {
            entry.settings.insert(key.into(), value.into());
        }
        self
    }

    /// Lets the proxy reach a server at another address, such as a [`crate::link::Link`]'s.
    pub fn reach(self, name: &str, address: &str) -> Self {
        self.server(name, "address", &format!("{address:?}"))
    }

    /// More TOML at the end: `[[rule]]`s, `[[user]]`s.
    pub fn more(mut self, toml: &str) -> Self {
        self.more.push_str(toml);
        self.more.push('\n');
        self
    }

    /// Client, admin and HTTP port instead of any free ones.
    pub fn on_ports(mut self, client: u16, admin: u16, http: u16) -> Self {
        self.ports = Some((client, admin, http));
        self
    }

    /// One more environment variable of the process.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Its log goes into a pipe that nobody reads any more: no line of it can be written.
    pub fn log_unread(mut self) -> Self {
        self.unread = true;
        self
    }

    /// The configuration's text for these ports.
    fn toml(&self, (client, admin, http): (u16, u16, u16), dir: &Path) -> String {
        let mut sections = self.sections.clone();
        let mut put = |section: &str, key: &str, value: String| {
            sections.entry(section.into()).or_default().entry(key.into()).or_insert(value);
        };
        put("proxy", "listen", format!("[\"127.0.0.1:{client}\"]"));
        put("proxy", "drain_timeout", "\"5s\"".into());
        put("monitor", "user", format!("{:?}", accounts::MONITOR.name));
        put("monitor", "password", format!("{:?}", accounts::MONITOR.password));
        put("admin", "listen", format!("\"127.0.0.1:{admin}\""));
        put("admin", "user", format!("{:?}", ADMIN.name));
        put("admin", "password_file", format!("{:?}", dir.join("admin.password").display().to_string()));
        put("http", "listen", format!("\"127.0.0.1:{http}\""));
        let mut out = String::new();
        for (section, keys) in &sections {
            let _ = writeln!(out, "[{section}]");
            for (key, value) in keys {
                let _ = writeln!(out, "{key} = {value}");
            }
            out.push('\n');
        }
        for entry in &self.servers {
            let _ = writeln!(out, "[[server]]\nname = {:?}", entry.name);
            for (key, value) in &entry.settings {
                let _ = writeln!(out, "{key} = {value}");
            }
            out.push('\n');
        }
        out.push_str(&self.more);
        out
    }

    /// Starts the proxy and waits for `/readyz` to say 200.
    pub async fn start(self) -> Result<Proxy> {
        let proxy = self.start_unready().await?;
        let ready = crate::wait::until_true("the proxy is ready", READY_LIMIT, || async {
            proxy.check_running()?;
            match proxy.get("/readyz").await? {
                (200, _) => Ok(true),
                (status, body) => Err(anyhow!("/readyz says {status}: {body}")),
            }
        });
        ready.await.with_context(|| format!("its log ends with:\n{}", proxy.log_tail(30)))?;
        Ok(proxy)
    }

    /// Starts the proxy and waits until its HTTP port answers, ready or not.
    pub async fn start_unready(self) -> Result<Proxy> {
        let dir = crate::home::new_dir("proxy")?;
        std::fs::write(dir.join("admin.password"), ADMIN.password)?;
        const TRIES: u32 = 4;
        for last in (1..=TRIES).map(|n| n == TRIES) {
            let ports = match self.ports {
                Some(ports) => ports,
                None => (free_port()?, free_port()?, free_port()?),
            };
            let config = dir.join("sluice.toml");
            std::fs::write(&config, self.toml(ports, &dir))?;
            let mut proxy = Proxy::launch(self.clone(), ports, dir.clone(), self.env.clone())?;
            let answers = crate::wait::until_true("the proxy's HTTP port answers", READY_LIMIT, || async {
                if proxy.check_running().is_err() {
                    return Ok(true); // told apart below: it has ended
                }
                Ok(proxy.get("/healthz").await.is_ok())
            });
            let answers = answers.await;
            match proxy.check_running().and(answers) {
                Ok(()) => return Ok(proxy),
                Err(error) => {
                    proxy.keep_dir = true;
                    let log = proxy.log_tail(40);
                    if last || self.ports.is_some() || !log.contains("in use") {
                        return Err(error.context(format!("the proxy did not start; its log:\n{log}")));
                    }
                    let _ = std::fs::remove_file(proxy.log_path());
                }
            }
        }
        unreachable!("the last round returns")
    }
}

/// A running proxy. Dropping it kills it; when the test is failing, the end of its log is printed first.
#[derive(Debug)]
pub struct Proxy {
    builder: ProxyBuilder,
    process: Mutex<Process>,
    dir: PathBuf,
    keep_dir: bool,
    port: u16,
    admin_port: u16,
    http_port: u16,
}

impl Proxy {
    /// A configuration for the proxy in front of a cluster: every server by its name, db1 and db2 as masters.
    pub fn before(cluster: &Cluster) -> ProxyBuilder {
        let mut servers = Vec::new();
        for server in cluster.servers() {
            let role = if matches!(server.name(), "db1" | "db2") { "master" } else { "replica" };
            let settings = [("address", format!("{:?}", server.address())), ("role", format!("{role:?}"))];
            let settings = settings.map(|(key, value)| (key.to_owned(), value)).into();
            servers.push(Entry { name: server.name().into(), settings });
        }
        let builder =
            ProxyBuilder { sections: BTreeMap::new(), servers, more: String::new(), ports: None, env: Vec::new(), unread: false };
        if cluster.undisturbed { builder.set("monitor.heartbeat_timeout", "\"5s\"") } else { builder }
    }

    /// A configuration with one master at any address, such as a [`crate::fake_server::FakeServer`]'s.
    pub fn before_address(name: &str, address: &str) -> ProxyBuilder {
        let settings = [("address".to_owned(), format!("{address:?}")), ("role".to_owned(), "\"master\"".to_owned())].into();
        let servers = vec![Entry { name: name.into(), settings }];
        ProxyBuilder { sections: BTreeMap::new(), servers, more: String::new(), ports: None, env: Vec::new(), unread: false }
    }

    /// The program: `SLUICE_BIN`, else `sluice` beside this program or in the other profile's directory next to it.
    pub fn program() -> Result<PathBuf> {
        if let Some(path) = std::env::var_os("SLUICE_BIN") {
            let path = PathBuf::from(path);
            return if path.is_file() { Ok(path) } else { Err(anyhow!("SLUICE_BIN={}: no such file", path.display())) };
        }
        let exe = std::env::current_exe()?;
        let dir = exe.parent().context("a program lies in a directory")?;
        let profile = if dir.ends_with("deps") { dir.parent().context("deps lies in a profile's directory")? } else { dir };
        let target = profile.parent().unwrap_or(profile);
        let places = [profile.join("sluice"), target.join("release/sluice"), target.join("debug/sluice")];
        let found = places.iter().find(|path| path.is_file());
        found.cloned().with_context(|| format!("no sluice program in {}: cargo build --bin sluice", profile.display()))
    }

    /// Runs the program with arguments to its end: exit code, standard output, standard error.
    pub async fn command(args: &[&str]) -> Result<(i32, String, String)> {
        let output = tokio::process::Command::new(Self::program()?).args(args).kill_on_drop(true).output();
        let output = tokio::time::timeout(READY_LIMIT, output).await.context("the command does not end")??;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok((output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr)))
    }

    fn launch(builder: ProxyBuilder, ports: (u16, u16, u16), dir: PathBuf, env: Vec<(String, String)>) -> Result<Self> {
        let args = ["run".to_owned(), "--config".to_owned(), dir.join("sluice.toml").display().to_string()];
        let (mut program, mut args) = (Self::program()?, args.to_vec());
        if builder.unread {
            // Opened for both directions, so that opening it to write does not wait; then the reading end is closed.
            let script = "mkfifo $0 && exec 3<>$0 && exec 2>$0 3<&- && rm $0 && exec \"$@\"".to_owned();
            let pipe = dir.join("unread").display().to_string();
            args.splice(0..0, ["-c".to_owned(), script, pipe, program.display().to_string()]);
            program = "sh".into();
        }
        let process = Process::start(&program, &args, &env, &dir.join("sluice.log"))?;
        let (port, admin_port, http_port) = ports;
        Ok(Self { builder, process: Mutex::new(process), dir, keep_dir: false, port, admin_port, http_port })
    }

    /// The port clients use.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The admin port.
    pub fn admin_port(&self) -> u16 {
        self.admin_port
    }

    /// The HTTP port.
    pub fn http_port(&self) -> u16 {
        self.http_port
    }

    /// The configuration file.
    pub fn config_path(&self) -> PathBuf {
        self.dir.join("sluice.toml")
    }

    /// What the proxy writes to standard error.
    pub fn log_path(&self) -> PathBuf {
        self.dir.join("sluice.log")
    }

    /// The last lines of its log.
    pub fn log_tail(&self, lines: usize) -> String {
        tail(&self.log_path(), lines)
    }

    /// The process id, for `/proc`.
    pub fn id(&self) -> u32 {
        self.locked().id()
    }

    /// Driver options for a client of the proxy.
    pub fn options(&self, account: Account) -> OptsBuilder {
        driver::options(self.port, account)
    }

    /// A client logged in as [`accounts::APP`] with `schema` current; none when empty.
    pub async fn connect(&self, schema: &str) -> Result<Conn> {
        let schema = Some(schema).filter(|schema| !schema.is_empty());
        self.connect_with(self.options(accounts::APP).db_name(schema)).await
    }

    /// A client with options of its own.
    pub async fn connect_with(&self, options: OptsBuilder) -> Result<Conn> {
        driver::connect(options).await
    }

    /// Runs a statement on the admin port.
    pub async fn admin(&self, sql: &str) -> Result<Table> {
        let mut conn = driver::connect(driver::options(self.admin_port, ADMIN)).await?;
        let table = driver::table(&mut conn, sql).await.with_context(|| format!("admin: {sql}"))?;
        let _ = conn.disconnect().await;
        Ok(table)
    }

    /// `GET path` on the HTTP port: status and body.
    pub async fn get(&self, path: &str) -> Result<(u16, String)> {
        let work = async {
            let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", self.http_port)).await?;
            let request = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await?;
            let mut reply = Vec::new();
            stream.read_to_end(&mut reply).await?;
            anyhow::Ok(String::from_utf8_lossy(&reply).into_owned())
        };
        let reply = tokio::time::timeout(Duration::from_secs(5), work).await.context("no answer in 5 s")??;
        let (head, body) = reply.split_once("\r\n\r\n").context("not an HTTP reply")?;
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).context("no HTTP status")?;
        Ok((status, body.to_owned()))
    }

    /// The sum of a metric's samples whose label part contains every one of `labels` (`server="db1"`); 0 when there is none.
    pub async fn metric(&self, name: &str, labels: &[&str]) -> Result<f64> {
        let (_, body) = self.get("/metrics").await?;
        let samples = body.lines().filter_map(|line| line.strip_prefix(name)).filter_map(|rest| {
            let (have, value) = match rest.strip_prefix('{') {
                Some(rest) => rest.split_once("} ")?,
                None => ("", rest.strip_prefix(' ')?),
            };
            labels.iter().all(|label| have.contains(label)).then(|| value.trim().parse::<f64>().ok()).flatten()
        });
        Ok(samples.sum())
    }

    /// SIGTERM; waits for the end, which must be exit code 0.
    pub fn stop(&self) -> Result<Duration> {
        let start = Instant::now();
        let mut process = self.locked();
        process.signal(Signal::Term)?;
        let status = process.wait(STOP_LIMIT).with_context(|| format!("SIGTERM; its log:\n{}", process.log_tail(20)))?;
        if status.code() != Some(0) {
            bail!("the proxy ended with {status} after SIGTERM; its log:\n{}", process.log_tail(20));
        }
        Ok(start.elapsed())
    }

    /// SIGKILL.
    pub fn kill(&self) {
        self.locked().kill();
    }

    /// Starts the program again after [`Proxy::kill`] or [`Proxy::stop`], with the same file and ports; waits until its HTTP port answers.
    pub async fn start_again(&self) -> Result<()> {
        let args = ["run".to_owned(), "--config".to_owned(), self.config_path().display().to_string()];
        let process = Process::start(&Self::program()?, &args, &self.builder.env, &self.log_path())?;
        *self.locked() = process;
        crate::wait::until_true("the proxy's HTTP port answers", READY_LIMIT, || async {
            self.check_running()?;
            Ok(self.get("/healthz").await.is_ok())
        })
        .await
    }

    /// Starts the program with `--takeover` and a file, without waiting for anything; its log is `NAME.log` in the proxy's directory.
    pub fn successor(&self, config: &Path, name: &str) -> Result<Process> {
        let args = ["run".to_owned(), "--takeover".to_owned(), "--config".to_owned(), config.display().to_string()];
        Process::start(&Self::program()?, &args, &self.builder.env, &self.dir.join(format!("{name}.log")))
    }

    /// A new process takes over, and is this proxy's process from now on; what is returned goes on with the sessions it has.
    pub async fn take_over(&self, name: &str) -> Result<Process> {
        let mut new = self.successor(&self.config_path(), name)?;
        crate::wait::until_true("the new process serves clients", READY_LIMIT, || async {
            let log = std::fs::read_to_string(self.dir.join(format!("{name}.log"))).unwrap_or_default();
            Ok(log.contains("clients are served"))
        })
        .await
        .with_context(|| format!("its log:\n{}\nthe old one's:\n{}", new.log_tail(30), self.log_tail(30)))?;
        if let Some(status) = new.ended() {
            bail!("the new process has ended with {status}");
        }
        Ok(std::mem::replace(&mut *self.locked(), new))
    }

    /// Sends a signal, such as HUP.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.locked().signal(signal)
    }

    /// Changes keys of the file as [`ProxyBuilder::set`] does and tells the proxy to `RELOAD CONFIG`.
    pub async fn reload_with(&mut self, change: impl FnOnce(ProxyBuilder) -> ProxyBuilder) -> Result<Table> {
        self.builder = change(self.builder.clone());
        let ports = (self.port, self.admin_port, self.http_port);
        std::fs::write(self.config_path(), self.builder.toml(ports, &self.dir))?;
        self.admin("RELOAD CONFIG").await
    }

    /// An error when the process has ended.
    pub fn check_running(&self) -> Result<()> {
        match self.locked().ended() {
            Some(status) => Err(anyhow!("the proxy has ended: {status}")),
            None => Ok(()),
        }
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, Process> {
        self.process.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the proxy's log ends with ---\n{}\n---", self.log_tail(40));
        }
        self.kill();
        if !self.keep_dir {
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }
}
