//! The sandbox: `make demo`. Four real servers with Sluice in front, a light workload, a live table, and commands to break
//! things with. [`run`] is the whole of it; [`screen`] draws, [`command`] reads what is typed, [`workload`] keeps clients busy.

pub mod command;
pub mod screen;
pub mod view;
pub mod workload;

use std::io::BufRead;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::accounts::APP;
use crate::cluster::Cluster;
use crate::driver;
use crate::flavour::Flavour;
use crate::ports::free_port_from;
use crate::proxy::{ADMIN, Proxy};
use command::{Act, Command};
use screen::Screen;
use view::View;
use workload::Workload;

/// How often the table is drawn on a terminal, and how often it is printed elsewhere.
const REDRAW: Duration = Duration::from_millis(500);
const REPRINT: Duration = Duration::from_secs(5);

/// What was asked for on the command line.
#[derive(Debug, Clone)]
pub struct Options {
    /// Which servers.
    pub flavour: Flavour,
    /// Whether clients are busy from the start.
    pub workload: bool,
    /// The port clients use, or the next free one above it.
    pub port: u16,
    /// End by itself after this time.
    pub once: Option<Duration>,
}

impl Options {
    /// Reads the arguments (without the program's name) and the environment variable `FLAVOUR`.
    pub fn parse(args: impl Iterator<Item = String>) -> Result<Self> {
        let mut options = Self { flavour: Flavour::from_env()?, workload: true, port: 3306, once: None };
        let mut args = args;
        while let Some(arg) = args.next() {
            let mut value = |what: &str| args.next().with_context(|| format!("{arg} needs {what}"));
            match arg.as_str() {
                "--no-workload" => options.workload = false,
                "--port" => options.port = value("a port")?.parse().context("--port: not a port")?,
                "--once" => options.once = Some(Duration::from_secs(value("seconds")?.parse().context("--once: not seconds")?)),
                "--flavour" => options.flavour = Flavour::parse(&value("mariadb or mysql")?)?,
                _ => anyhow::bail!("unknown argument {arg:?}\n{USAGE}"),
            }
        }
        Ok(options)
    }
}

/// What `--help` prints.
pub const USAGE: &str = "usage: sandbox [--flavour mariadb|mysql] [--port N] [--no-workload] [--once SECONDS]
  four real servers on this machine with Sluice in front; Ctrl-C ends them and leaves nothing behind";

/// Starts everything, serves commands until told to end, ends everything.
pub async fn run(options: Options) -> Result<()> {
    Proxy::program()?; // before anything is started in vain
    let begun = Instant::now();
    let screen = Arc::new(Screen::new());
    let mut ends = Ends::listen(options.once)?;
    let start = async {
        screen.say(&screen.strong(&format!("Starting the Sluice sandbox on {}", options.flavour.title())));
        let step = Arc::clone(&screen);
        let progress = move |text: &str| step.say(&format!("  {} {text}", step.good("✓")));
        let cluster = Arc::new(Cluster::start_with(options.flavour, &[], &progress).await?);
        let ports = (free_port_from(options.port)?, free_port_from(6032)?, free_port_from(6070)?);
        let proxy = Arc::new(Proxy::before(&cluster).on_ports(ports.0, ports.1, ports.2).start().await?);
        progress(&format!("Sluice is ready on 127.0.0.1:{}", ports.0));
        anyhow::Ok((cluster, proxy))
    };
    let (cluster, proxy) = tokio::select! {
        started = start => started?,
        why = ends.next() => {
            screen.say(&format!("{why}: ending what had been started"));
            return Ok(());
        }
    };
    let mut view = View::new(Arc::clone(&cluster), Arc::clone(&proxy), begun);
    let workload = Workload::start(proxy.options(APP).db_name(Some("shop")).into(), options.workload);
    screen.enter(view.height());
    screen.say(&format!("Ready after {:.1} s.", begun.elapsed().as_secs_f32()));
    introduce(&screen, &options, &cluster, &proxy);
    screen.prompt();

    let (sender, receiver) = mpsc::channel(16);
    read_commands(sender);
    let work = serve(receiver, Arc::clone(&screen), Arc::clone(&cluster), Arc::clone(&proxy), Arc::clone(&workload));
    let mut work = std::pin::pin!(work);
    let mut redraw = tokio::time::interval(if screen.is_live() { REDRAW } else { REPRINT });
    let why = loop {
        tokio::select! {
            why = ends.next() => break why,
            () = &mut work => break "quit".to_owned(),
            _ = redraw.tick() => {
                if let Err(error) = proxy.check_running() {
                    screen.say(&format!("{}; its log ends with:\n{}", screen.bad(&format!("{error:#}")), proxy.log_tail(20)));
                    break "Sluice has ended".to_owned();
                }
                let lines = view.lines(&screen, &workload).await;
                screen.draw(&lines);
            }
        }
    };
    screen.leave();
    println!("\n{why}: ending …");
    workload.set(false);
    let stopped = tokio::task::spawn_blocking(move || proxy.stop());
    tokio::select! {
        stopped = stopped => { let _ = stopped.context("stop")?; }
        _ = ends.next() => {} // asked twice: do not wait for the drain
    }
    drop(view);
    drop(cluster);
    println!("All servers and Sluice have ended; nothing is left behind.");
    Ok(())
}

/// What is worth pasting.
fn introduce(screen: &Screen, options: &Options, cluster: &Cluster, proxy: &Proxy) {
    let (port, user, password) = (proxy.port(), APP.name, APP.password);
    if port != options.port {
        screen.say(&screen.bad(&format!("Port {} is taken, so Sluice listens on {port}.", options.port)));
    }
    let client = cluster.install.client.as_ref().map_or_else(|| "mysql".into(), |path| path.display().to_string());
    let mysql = if options.flavour == Flavour::MySql { client } else { "mysql".into() };
    let admin = if options.flavour == Flavour::MySql { mysql.as_str() } else { "mariadb" };
    for (what, line) in [
        ("mariadb", format!("mariadb -h127.0.0.1 -P{port} -u{user} -p{password} shop")),
        ("mysql", format!("{mysql} -h127.0.0.1 -P{port} -u{user} -p{password} shop")),
        ("URL", format!("mysql://{user}:{password}@127.0.0.1:{port}/shop")),
        (
            "Python",
            format!("pymysql.connect(host=\"127.0.0.1\", port={port}, user=\"{user}\", password=\"{password}\", db=\"shop\")"),
        ),
        ("admin", format!("{admin} -h127.0.0.1 -P{} -u{} -p{}", proxy.admin_port(), ADMIN.name, ADMIN.password)),
        ("status page", format!("http://127.0.0.1:{}/", proxy.http_port())),
    ] {
        screen.say(&format!("  {what:<11} {}", screen.strong(&line)));
    }
    screen.say(command::HELP);
}

/// Hands each typed line to `sender`. A thread, since a blocking read of standard input cannot be called off; when the input
/// ends (there was none, say), the sandbox stays up.
fn read_commands(sender: mpsc::Sender<String>) {
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
        loop {
            std::thread::park(); // keeps the channel open
        }
    });
}

/// Carries out typed commands one after the other; returns when told to quit.
async fn serve(
    mut lines: mpsc::Receiver<String>,
    screen: Arc<Screen>,
    cluster: Arc<Cluster>,
    proxy: Arc<Proxy>,
    workload: Arc<Workload>,
) {
    while let Some(line) = lines.recv().await {
        let answer = match Command::parse(&line) {
            Ok(None) => Ok(String::new()),
            Ok(Some(Command::Quit)) => return,
            Ok(Some(Command::Help)) => Ok(command::HELP.to_owned()),
            Ok(Some(Command::Workload(on))) => {
                workload.set(on);
                Ok(format!("the workload is {}", if on { "on" } else { "off" }))
            }
            Ok(Some(Command::Server(act, name))) => act_on(&cluster, act, name).await,
            Ok(Some(Command::Sql(sql))) => query(proxy.options(APP).db_name(Some("shop")), &sql).await,
            Ok(Some(Command::Admin(sql))) => query(driver::options(proxy.admin_port(), ADMIN), &sql).await,
            Err(error) => Err(error),
        };
        match answer {
            Ok(text) if text.is_empty() => {}
            Ok(text) => screen.say(text.trim_end()),
            Err(error) => screen.say(&screen.bad(&format!("{error:#}"))),
        }
        screen.prompt();
    }
}

async fn act_on(cluster: &Arc<Cluster>, act: Act, name: String) -> Result<String> {
    let cluster = Arc::clone(cluster);
    tokio::task::spawn_blocking(move || {
        let server = cluster.find(&name)?;
        match act {
            Act::Kill => server.kill()?,
            Act::Stop => server.stop()?,
            Act::Freeze => server.freeze()?,
            Act::Thaw => server.thaw()?,
            Act::Start => server.start_again()?,
        }
        Ok(format!("{name} is {}", act.done()))
    })
    .await?
}

async fn query(options: mysql_async::OptsBuilder, sql: &str) -> Result<String> {
    let begun = Instant::now();
    let mut conn = driver::connect(options).await?;
    let table = driver::table(&mut conn, sql).await?;
    let (affected, took) = (conn.affected_rows(), begun.elapsed().as_secs_f64() * 1000.0);
    let _ = conn.disconnect().await;
    Ok(match table.columns.len() {
        0 => format!("OK, {affected} rows affected ({took:.1} ms)"),
        _ => format!("{}{} row{} ({took:.1} ms)", table.framed(), table.rows.len(), if table.rows.len() == 1 { "" } else { "s" }),
    })
}

/// Why the sandbox should end.
struct Ends {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    hang_up: tokio::signal::unix::Signal,
    deadline: Option<tokio::time::Instant>,
}

impl Ends {
    fn listen(once: Option<Duration>) -> Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
            deadline: once.map(|time| tokio::time::Instant::now() + time),
        })
    }

    async fn next(&mut self) -> String {
        let deadline = self.deadline;
        let time_is_up = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => "Ctrl-C".into(),
            _ = self.terminate.recv() => "SIGTERM".into(),
            _ = self.hang_up.recv() => "the terminal has gone".into(),
            () = time_is_up => "the time is up".into(),
        }
    }
}
