//! A real Redis or memcached on a free port, in a directory of its own, that can be frozen, killed and started again (empty).

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::home::new_dir;
use crate::ports::free_port;
use crate::process::{Process, Signal};
use crate::wait::until_true;

/// Which store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreKind {
    /// `redis-server`.
    Redis,
    /// `redis-server` that is reached by TLS, too, with a certificate of its own.
    RedisTls,
    /// `memcached`.
    Memcached,
}

/// What a store with TLS shows, and who has signed it: itself.
const CERT: &str = "cert.pem";

/// See the module.
#[derive(Debug)]
pub struct Store {
    kind: StoreKind,
    dir: PathBuf,
    port: u16,
    /// By TLS.
    tls_port: u16,
    process: Process,
}

impl Store {
    /// Starts one, and waits until it answers.
    ///
    /// # Errors
    /// It is not installed, or does not come up.
    pub async fn start(kind: StoreKind) -> Result<Store> {
        let dir = new_dir("store")?;
        let mut last = None;
        // Between looking for a port and taking it another process may take it.
        for _ in 0..5 {
            let (port, tls_port) = (free_port()?, free_port()?);
            let mut store = Store { kind, dir: dir.clone(), port, tls_port, process: launch(kind, &dir, port, tls_port)? };
            match store.answers().await {
                Ok(()) => return Ok(store),
                Err(error) => last = Some(error.context(store.process.log_tail(5))),
            }
            store.process.kill();
        }
        Err(last.unwrap_or_else(|| anyhow::anyhow!("not tried")))
    }

    /// Where it is, for `cache.store`.
    pub fn url(&self) -> String {
        match self.kind {
            StoreKind::Redis => format!("redis://127.0.0.1:{}", self.port),
            StoreKind::RedisTls => format!("rediss://localhost:{}?ca={}", self.tls_port, self.dir.join(CERT).display()),
            StoreKind::Memcached => format!("memcached://127.0.0.1:{}", self.port),
        }
    }

    /// Sends its process a signal.
    ///
    /// # Errors
    /// It has ended.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        self.process.signal(signal)
    }

    /// Kills it, if it runs, and starts it on the same port, empty.
    ///
    /// # Errors
    /// It does not come up.
    pub async fn restart(&mut self) -> Result<()> {
        self.process.kill();
        self.process = launch(self.kind, &self.dir, self.port, self.tls_port)?;
        self.answers().await
    }

    async fn answers(&mut self) -> Result<()> {
        let (ask, answer): (&[u8], &str) = match self.kind {
            StoreKind::Redis | StoreKind::RedisTls => (b"PING\r\n", "+PONG"),
            StoreKind::Memcached => (b"version\r\n", "VERSION"),
        };
        let process = &mut self.process;
        let port = self.port;
        until_true("the store answers", Duration::from_secs(10), async || {
            if let Some(status) = process.ended() {
                bail!("it has ended: {status}");
            }
            Ok(said(port, ask).await.is_ok_and(|text| text.starts_with(answer)))
        })
        .await
    }

    /// Says something to it, and returns what it says within a moment.
    ///
    /// # Errors
    /// It cannot be reached.
    pub async fn say(&self, text: &[u8]) -> Result<String> {
        said(self.port, text).await
    }

    /// The names of what is kept there (Redis alone can tell).
    ///
    /// # Errors
    /// It cannot be reached.
    pub async fn names(&self) -> Result<Vec<String>> {
        let said = self.say(b"KEYS *\r\n").await?;
        Ok(said.lines().filter(|line| line.starts_with("sluice:")).map(str::to_owned).collect())
    }
}

fn launch(kind: StoreKind, dir: &Path, port: u16, tls_port: u16) -> Result<Process> {
    let port = port.to_string();
    let (program, arguments): (&str, Vec<&str>) = match kind {
        StoreKind::Redis | StoreKind::RedisTls => {
            ("redis-server", vec!["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--daemonize", "no"])
        }
        // Started by root it wants to be told whom to be.
        StoreKind::Memcached => ("memcached", vec!["-l", "127.0.0.1", "-p", &port, "-U", "0", "-u", "nobody", "-m", "64"]),
    };
    let path = Path::new("/usr/bin").join(program);
    if !path.exists() {
        bail!("no {program} on this machine. Run `tools/setup` (or: apt-get install {program})");
    }
    let mut arguments: Vec<String> = arguments.into_iter().map(str::to_owned).collect();
    if kind != StoreKind::Memcached {
        arguments.extend(["--dir".to_owned(), dir.display().to_string()]);
    }
    if kind == StoreKind::RedisTls {
        let (cert, key) = (dir.join(CERT), dir.join("key.pem"));
        if !cert.exists() {
            let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])?;
            std::fs::write(&key, made.signing_key.serialize_pem())?;
            std::fs::write(&cert, made.cert.pem())?;
        }
        let tls_port = tls_port.to_string();
        for (name, value) in [
            ("--tls-port", tls_port.as_str()),
            ("--tls-cert-file", &cert.display().to_string()),
            ("--tls-key-file", &key.display().to_string()),
            ("--tls-ca-cert-file", &cert.display().to_string()),
            ("--tls-auth-clients", "no"),
        ] {
            arguments.extend([name.to_owned(), value.to_owned()]);
        }
    }
    Process::start(&path, &arguments, &[], &dir.join(format!("{program}.log")))
}

async fn said(port: u16, text: &[u8]) -> Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.context("connect to the store")?;
    stream.write_all(text).await?;
    let mut all = Vec::new();
    let mut piece = [0u8; 4096];
    while let Ok(read) = tokio::time::timeout(Duration::from_millis(200), stream.read(&mut piece)).await {
        let read = read?;
        if read == 0 {
            break;
        }
        all.extend_from_slice(&piece[..read]);
    }
    Ok(String::from_utf8_lossy(&all).into_owned())
}
