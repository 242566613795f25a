//! One real server: its own process, directory, port and socket.

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, OptsBuilder};

use crate::accounts::Account;
use crate::driver::{self, Table};
use crate::flavour::Flavour;
use crate::install::{Install, user_argument};
use crate::ports::free_port;
use crate::process::{Process, Signal, tail};

/// From start to greeting, crash recovery included, on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(60);
/// Ports tried when another process took ours between choosing and binding.
const PORT_TRIES: u32 = 5;

/// What a server is told at its start.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    name: String,
    id: u32,
    read_only: bool,
    binlog: bool,
    extra: Vec<String>,
}

impl ServerOptions {
    /// A writable server with a binary log. `id` is its `server_id` and must differ within a cluster.
    pub fn new(name: &str, id: u32) -> Self {
        Self { name: name.into(), id, read_only: false, binlog: true, extra: Vec::new() }
    }

    /// Starts (and starts again) with `read_only` on; on MySQL with `super_read_only` too.
    pub fn read_only(mut self) -> Self {
        self.read_only = true;
        self
    }

    /// Without a binary log.
    pub fn without_binlog(mut self) -> Self {
        self.binlog = false;
        self
    }

    /// One more command-line option, such as `--rpl-semi-sync-master-enabled=ON`.
    pub fn option(mut self, option: &str) -> Self {
        self.extra.push(option.into());
        self
    }
}

/// A server, running or not. Dropping it kills it and removes its directory.
#[derive(Debug)]
pub struct Server {
    flavour: Flavour,
    program: PathBuf,
    options: ServerOptions,
    port: u16,
    dir: PathBuf,
    data: PathBuf,
    process: Mutex<Option<Process>>,
}

impl Server {
    /// Starts a server over a copy of `template`.
    pub fn start(install: &Install, options: ServerOptions, template: &Path) -> Result<Self> {
        let data = crate::home::new_dir(&options.name)?.join("data");
        crate::template::copy(template, &data)?;
        Self::over(install, options, data)
    }

    /// Starts a server over an existing data directory, whose parent directory becomes the server's own.
    pub fn over(install: &Install, options: ServerOptions, data: PathBuf) -> Result<Self> {
        let dir = data.parent().context("a data directory has a parent")?.to_owned();
        let (flavour, program, process) = (install.flavour, install.server.clone(), Mutex::new(None));
        let mut server = Self { flavour, program, options, port: free_port()?, dir, data, process };
        for last in (1..=PORT_TRIES).map(|n| n == PORT_TRIES) {
            match server.launch() {
                Ok(()) => return Ok(server),
                Err(_) if !last && server.port_was_taken() => {
                    let _ = std::fs::remove_file(server.log());
                    server.port = free_port()?;
                }
                Err(error) => return Err(error),
            }
        }
        unreachable!("the last round returns")
    }

    /// Its name, `db1`.
    pub fn name(&self) -> &str {
        &self.options.name
    }

    /// Its family.
    pub fn flavour(&self) -> Flavour {
        self.flavour
    }

    /// Its `server_id`.
    pub fn id(&self) -> u32 {
        self.options.id
    }

    /// The id of its process while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.process.lock().ok()?.as_ref().map(Process::id)
    }

    /// The port it listens on, on 127.0.0.1; the same after a restart.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Its Unix socket.
    pub fn socket(&self) -> PathBuf {
        self.dir.join("mysql.sock")
    }

    /// Its error log.
    pub fn log(&self) -> PathBuf {
        self.dir.join("error.log")
    }

    /// Whether its process runs (a frozen one does).
    pub fn is_running(&self) -> bool {
        self.locked().as_mut().is_some_and(|process| process.ended().is_none())
    }

    /// `running`, `frozen` or `ended`.
    pub fn condition(&self) -> &'static str {
        let mut process = self.locked();
        let Some(process) = process.as_mut() else { return "ended" };
        if process.ended().is_some() {
            return "ended";
        }
        if is_frozen(process.id()) { "frozen" } else { "running" }
    }

    /// Ends it cleanly.
    pub fn stop(&self) -> Result<()> {
        let Some(mut process) = self.locked().take() else { return Ok(()) };
        process.signal(Signal::Term)?;
        process.wait(STOP_LIMIT).with_context(|| format!("stop {}", self.name()))?;
        Ok(())
    }

    /// Ends it as a power cut would (SIGKILL).
    pub fn kill(&self) -> Result<()> {
        match self.locked().take() {
            Some(mut process) => process.kill(),
            None => bail!("{} does not run", self.name()),
        }
        Ok(())
    }

    /// Freezes it (SIGSTOP): connections stay open, nothing answers, the kernel still accepts new ones. Returns when it has
    /// stopped: a thread in the middle of a write to the disk stops only behind it.
    pub fn freeze(&self) -> Result<()> {
        self.signal(Signal::Stop)?;
        let deadline = Instant::now() + STOP_LIMIT;
        while self.condition() == "running" {
            if Instant::now() > deadline {
                bail!("{} does not stop when told to", self.name());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Lets a frozen server go on.
    pub fn thaw(&self) -> Result<()> {
        self.signal(Signal::Cont)
    }

    /// Starts a stopped or killed server again, on its port and data.
    pub fn start_again(&self) -> Result<()> {
        if self.is_running() {
            bail!("{} is running", self.name());
        }
        self.launch()
    }

    /// Ends it cleanly and starts it again.
    pub fn restart(&self) -> Result<()> {
        self.stop()?;
        self.start_again()
    }

    /// A connection as root over the Unix socket: no proxy, no network, no limits on accounts.
    pub async fn root(&self) -> Result<Conn> {
        let options = OptsBuilder::default().socket(Some(self.socket().to_string_lossy().into_owned())).user(Some("root"));
        let options = options.max_allowed_packet(Some(64 << 20)).wait_timeout(Some(28_800));
        Conn::new(options).await.with_context(|| format!("log in at {} as root", self.name()))
    }

    /// A connection straight to the server over TCP.
    pub async fn connect(&self, account: Account) -> Result<Conn> {
        driver::connect(driver::options(self.port, account)).await
    }

    /// Runs a statement as root and returns its result set.
    pub async fn query(&self, sql: &str) -> Result<Table> {
        let mut root = self.root().await?;
        let table = driver::table(&mut root, sql).await.with_context(|| format!("{}: {sql}", self.name()))?;
        root.disconnect().await?;
        Ok(table)
    }

    /// Runs statements as root on one connection.
    pub async fn run(&self, statements: &[&str]) -> Result<()> {
        let mut root = self.root().await?;
        for sql in statements {
            root.query_drop(*sql).await.with_context(|| format!("{}: {sql}", self.name()))?;
        }
        Ok(root.disconnect().await?)
    }

    /// The first cell of a query as root.
    pub async fn value(&self, sql: &str) -> Result<String> {
        let table = self.query(sql).await?;
        table
            .rows
            .into_iter()
            .next()
            .and_then(|row| row.into_iter().next())
            .with_context(|| format!("{}: no row: {sql}", self.name()))
    }

    /// A number from `SHOW GLOBAL STATUS`, such as `Com_insert`.
    pub async fn status(&self, counter: &str) -> Result<u64> {
        let table = self.query(&format!("SHOW GLOBAL STATUS LIKE '{counter}'")).await?;
        let cell = table.rows.first().and_then(|row| row.get(1)).with_context(|| format!("no counter {counter}"))?;
        cell.parse().with_context(|| format!("{counter} is {cell:?}"))
    }

    /// How many transactions this server itself wrote to its binary log: those whose GTID carries its own identity. On a replica
    /// that nobody wrote to it is 0, however much it replicated.
    pub async fn own_transactions(&self) -> Result<u64> {
        match self.flavour {
            Flavour::MariaDb => {
                // one GTID per server id, `domain-server-sequence`; the sequence counts the domain's transactions of all
                // servers, so this tells whether there are any rather than how many
                let state = self.value("SELECT @@GLOBAL.gtid_binlog_state").await?;
                let mine = state.split(',').filter_map(|gtid| {
                    let mut parts = gtid.trim().split('-').skip(1);
                    let (server, sequence) = (parts.next()?, parts.next()?);
                    (server == self.id().to_string()).then(|| sequence.parse::<u64>().ok()).flatten()
                });
                Ok(mine.sum())
            }
            Flavour::MySql => {
                let (uuid, executed) =
                    (self.value("SELECT @@server_uuid").await?, self.value("SELECT @@GLOBAL.gtid_executed").await?);
                let mine = executed
                    .split(',')
                    .filter_map(|set| set.trim().strip_prefix(&uuid))
                    .flat_map(|ranges| ranges.split(':').skip(1));
                let count = |range: &str| {
                    let (first, last) = range.split_once('-').unwrap_or((range, range));
                    Some(last.parse::<u64>().ok()? - first.parse::<u64>().ok()? + 1)
                };
                Ok(mine.filter_map(count).sum())
            }
        }
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let mut process = self.locked();
        process.as_mut().with_context(|| format!("{} does not run", self.name()))?.signal(signal)
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, Option<Process>> {
        // a test that failed while it held the lock says nothing about the process
        self.process.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Starts the process and waits for its greeting.
    fn launch(&self) -> Result<()> {
        let _ = std::fs::remove_file(self.socket());
        let mut process = Process::start(&self.program, &self.arguments(), &[], &self.log())?;
        let start = Instant::now();
        while !greets(&self.socket()) {
            if let Some(status) = process.ended() {
                return Err(anyhow!("{} ended at its start ({status}):\n{}", self.name(), process.log_tail(15)));
            }
            if start.elapsed() > START_LIMIT {
                bail!("{} does not answer after {START_LIMIT:?}:\n{}", self.name(), process.log_tail(15));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        *self.locked() = Some(process);
        Ok(())
    }

    fn port_was_taken(&self) -> bool {
        let log = tail(&self.log(), 50);
        log.contains("Address already in use") || log.contains("Can't start server: Bind on TCP/IP port")
    }

    /// The whole command line: nothing is read from the machine's own my.cnf. Small buffers, since four servers share a small
    /// machine; no fsync, since a SIGKILL leaves the kernel's page cache alone and no test cuts the power.
    fn arguments(&self) -> Vec<String> {
        let mut args: Vec<String> = vec!["--no-defaults".into()];
        args.extend(user_argument().map(str::to_owned));
        for (option, path) in [
            ("datadir", self.data.clone()),
            ("socket", self.socket()),
            ("pid-file", self.dir.join("mysqld.pid")),
            ("tmpdir", self.dir.clone()),
        ] {
            args.push(format!("--{option}={}", path.display()));
        }
        args.push(format!("--port={}", self.port));
        args.push(format!("--report-port={}", self.port));
        args.push(format!("--server-id={}", self.options.id));
        args.extend(COMMON.iter().map(|option| (*option).to_owned()));
        let (own, log): (&[&str], &[&str]) = match self.flavour {
            Flavour::MariaDb => (MARIADB, MARIADB_LOG),
            Flavour::MySql => (MYSQL, MYSQL_LOG),
        };
        args.extend(own.iter().map(|option| (*option).to_owned()));
        if self.options.binlog {
            args.extend(log.iter().map(|option| (*option).to_owned()));
        } else {
            args.push("--skip-log-bin".into());
        }
        if self.options.read_only {
            args.push("--read-only=ON".into());
            if self.flavour == Flavour::MySql {
                args.push("--super-read-only=ON".into());
            }
        }
        args.extend(self.options.extra.iter().cloned());
        args
    }
}

const COMMON: &[&str] = &[
    "--bind-address=127.0.0.1",
    "--report-host=127.0.0.1",
    "--skip-name-resolve",
    "--character-set-server=utf8mb4",
    "--max-connections=1000",
    "--max-allowed-packet=64M",
    "--local-infile=ON",
    "--log-bin-trust-function-creators=ON",
    "--secure-file-priv=",
    "--performance-schema=OFF",
    "--innodb-buffer-pool-size=32M",
    "--innodb-flush-method=nosync",
    "--innodb-flush-log-at-trx-commit=2",
    "--table-open-cache=400",
];
const MARIADB: &[&str] =
    &["--innodb-log-file-size=8M", "--key-buffer-size=1M", "--aria-pagecache-buffer-size=4M", "--plugin-maturity=alpha"];
const MARIADB_LOG: &[&str] = &[
    "--log-bin=binlog",
    "--binlog-format=ROW",
    "--log-slave-updates=ON",
    "--gtid-domain-id=0",
    "--gtid-strict-mode=ON",
    "--relay-log=relay",
    "--relay-log-recovery=ON",
    "--slave-net-timeout=4",
    "--sync-binlog=0",
];
const MYSQL: &[&str] = &["--innodb-redo-log-capacity=16M", "--mysqlx=OFF"];
const MYSQL_LOG: &[&str] = &[
    "--log-bin=binlog",
    "--log-replica-updates=ON",
    "--gtid-mode=ON",
    "--enforce-gtid-consistency=ON",
    "--relay-log=relay",
    "--relay-log-recovery=ON",
    "--replica-net-timeout=4",
    "--sync-binlog=0",
];

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut process) = self.locked().take() {
            process.kill();
        }
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// Whether the socket's first packet is a greeting (protocol 10) and not an error.
fn greets(socket: &Path) -> bool {
    let Ok(mut stream) = UnixStream::connect(socket) else { return false };
    let _ = stream.set_read_timeout(Some(Duration::from_secs(2)));
    let mut head = [0u8; 5];
    stream.read_exact(&mut head).is_ok() && head[4] == 10
}
/// Whether all threads of a process are stopped: the third word of `/proc/PID/task/TID/stat`, after the program's name in
/// brackets, is T.
fn is_frozen(pid: u32) -> bool {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return false };
    threads.flatten().all(|thread| {
        let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().next()) == Some("T")
    })
}
