//! A new process takes the place of the old one: nobody is refused, sessions go on, and whatever fails leaves one that works.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use integration::accounts;
use integration::process::{Process, Signal};
use integration::proxy::{Proxy, ProxyBuilder};
use integration::wait::until_true;
use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use crate::world::{cluster, own, schema};

const LIMIT: Duration = Duration::from_secs(20);

/// A directory for sockets, removed at the end.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Place {
        let path = std::env::temp_dir().join(format!("sluice-up-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Place(path)
    }

    fn join(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }

    fn configure(&self, config: ProxyBuilder) -> ProxyBuilder {
        config.set("proxy.upgrade_socket", &format!("{:?}", self.join("upgrade.sock")))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Clients that come and go all the time, by TCP and by a unix socket, and some that stay: all that goes wrong is an error.
struct Load {
    stop: Arc<AtomicBool>,
    came: Arc<AtomicU64>,
    tasks: Vec<tokio::task::JoinHandle<Result<()>>>,
}

impl Load {
    async fn start(proxy: &Proxy, schema: &str, socket: Option<String>) -> Load {
        let (stop, came) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut tasks = Vec::new();
        let work = async |conn: &mut Conn, n: i32| -> Result<()> {
            conn.query_drop("SELECT COUNT(*) FROM shop.items").await?;
            conn.query_drop("BEGIN").await?;
            conn.query_drop(format!("INSERT INTO t (who) VALUES ({n})")).await?;
            conn.query_drop("COMMIT").await?;
            Ok(())
        };
        for n in 0..4 {
            let options = proxy.options(accounts::APP).db_name(Some(schema));
            let options = if n % 2 == 1
                && let Some(socket) = &socket
            {
                options.socket(Some(socket.clone()))
            } else {
                options
            };
            let (stop, came) = (stop.clone(), came.clone());
            tasks.push(tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let mut conn = integration::driver::connect(options.clone()).await.context("a new client")?;
                    work(&mut conn, n).await.context("a new client's work")?;
                    conn.disconnect().await.context("a goodbye")?;
                    came.fetch_add(1, Ordering::Relaxed);
                }
                Ok(())
            }));
        }
        for n in 4..6 {
            let mut conn = proxy.connect(schema).await.unwrap();
            let stop = stop.clone();
            tasks.push(tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    work(&mut conn, n).await.context("a client that stays")?;
                }
                Ok(())
            }));
        }
        // Prometheus and an operator, too.
        let (http, stopped) = (proxy.http_port(), stop.clone());
        tasks.push(tokio::spawn(async move {
            while !stopped.load(Ordering::Relaxed) {
                let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", http)).await.context("a scrape")?;
                tokio::io::AsyncWriteExt::write_all(&mut stream, b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                    .await?;
                let mut answer = String::new();
                tokio::io::AsyncReadExt::read_to_string(&mut stream, &mut answer).await.context("a scrape's answer")?;
                anyhow::ensure!(answer.starts_with("HTTP/1.1 200"), "a scrape was answered {answer:?}");
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            Ok(())
        }));
        Load { stop, came, tasks }
    }

    async fn came(&self, more: u64) {
        let until = self.came.load(Ordering::Relaxed) + more;
        let enough = until_true("clients come", LIMIT, || async { Ok(self.came.load(Ordering::Relaxed) >= until) }).await;
        if let Err(error) = enough {
            let ended = self.tasks.iter().filter(|task| task.is_finished()).count();
            panic!("{ended} clients have met an error; {error:#}");
        }
    }

    async fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.unwrap().unwrap();
        }
    }
}

async fn ends(process: &mut Process) {
    let start = Instant::now();
    while start.elapsed() < LIMIT {
        if let Some(status) = process.ended() {
            assert_eq!(status.code(), Some(0), "{}", process.log_tail(20));
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the old process does not end: {}", process.log_tail(20));
}

/// Three upgrades in a row under load, clients on TCP and on a unix socket coming and going: no error anywhere. Sessions stay where they
/// are, with their transactions and variables, and the old processes end when their last client has gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_upgrades_under_load() {
    let place = Place::new("three");
    let schema = schema("upgrade").await;
    cluster().server("db1").run(&[&format!("CREATE TABLE {schema}.t (id INT AUTO_INCREMENT PRIMARY KEY, who INT)")]).await.unwrap();
    cluster().settle().await.unwrap();
    let (tcp, unix) = (integration::ports::free_port().unwrap(), place.join("clients.sock"));
    let listen = format!("[\"127.0.0.1:{tcp}\", \"unix:{unix}\"]");
    let (admin, http) = (integration::ports::free_port().unwrap(), integration::ports::free_port().unwrap());
    let config = place.configure(Proxy::before(cluster())).set("proxy.listen", &listen).on_ports(tcp, admin, http);
    let proxy = config.start().await.unwrap();
    let mode = std::fs::metadata(place.join("upgrade.sock")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let load = Load::start(&proxy, &schema, Some(unix.clone())).await;
    load.came(10).await;
    let mut stays = proxy.connect(&schema).await.unwrap();
    stays.query_drop("SET @mark = 'of the first process'").await.unwrap();
    stays.query_drop("BEGIN").await.unwrap();
    stays.query_drop("INSERT INTO t (who) VALUES (77)").await.unwrap();
    let mut gone = Vec::new();
    for round in 1..=3 {
        let old = proxy.take_over(&format!("upgrade-{round}")).await.unwrap();
        gone.push(old);
        load.came(20).await;
        // The new process is who is asked now, and acts.
        let events = proxy.admin("SELECT detail FROM events WHERE kind = 'upgrade'").await.unwrap();
        assert!(format!("{events:?}").contains("has taken over from another"), "{events:?}");
    }
    let numbers: Vec<u32> = {
        let mut new = proxy.connect(&schema).await.unwrap();
        let one: u32 = new.query_first("SELECT CONNECTION_ID()").await.unwrap().unwrap();
        let other: u32 = stays.query_first("SELECT CONNECTION_ID()").await.unwrap().unwrap();
        vec![one, other]
    };
    assert!(numbers[0] > numbers[1] + 20, "numbers of clients go on behind those given: {numbers:?}");
    load.end().await;
    stays.query_drop("INSERT INTO t (who) VALUES (78)").await.unwrap();
    stays.query_drop("COMMIT").await.unwrap();
    let mark: Option<String> = stays.query_first("SELECT @mark").await.unwrap();
    assert_eq!(mark.as_deref(), Some("of the first process"));
    let count: Option<u32> = stays.query_first("SELECT COUNT(*) FROM t WHERE who IN (77, 78)").await.unwrap();
    assert_eq!(count, Some(2));
    assert!(gone[0].ended().is_none(), "it has a client");
    stays.disconnect().await.unwrap();
    for old in &mut gone {
        ends(old).await;
    }
    let mut by_socket = proxy.connect_with(proxy.options(accounts::APP).socket(Some(unix.clone()))).await.unwrap();
    by_socket.query_drop("SELECT 1").await.unwrap();
    drop(by_socket);
    proxy.stop().unwrap();
    assert!(!std::path::Path::new(&unix).exists() && !std::path::Path::new(&place.join("upgrade.sock")).exists());
}

/// A new process with a wrong file, one that finds no master, one that is killed while it gets ready: the old one goes on, acts, and can
/// be taken over from all the same. A second proxy that is started by mistake is told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_fails_leaves_the_old_one_at_work() {
    let place = Place::new("fails");
    let (cluster, proxy) = own(|config| place.configure(config)).await;
    let text = std::fs::read_to_string(proxy.config_path()).unwrap();
    let file = |name: &str, text: &str| {
        let path = proxy.config_path().with_file_name(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let mut stays = proxy.connect("shop").await.unwrap();
    let wrong = file("wrong.toml", &text.replace("drain_timeout", "drain_tmeout"));
    let mut new = proxy.successor(&wrong, "wrong").unwrap();
    assert_eq!(new.wait(LIMIT).unwrap().code(), Some(2));
    let taken = format!("127.0.0.1:{}", cluster.server("db2").port());
    let elsewhere = file("elsewhere.toml", &text.replace(&format!("127.0.0.1:{}", proxy.http_port()), &taken));
    let mut new = proxy.successor(&elsewhere, "elsewhere").unwrap();
    assert_eq!(new.wait(LIMIT).unwrap().code(), Some(1));
    assert!(new.log_tail(5).contains("http.listen"), "{}", new.log_tail(5));
    // Its account is refused: it sees no master, and waits.
    let blind = file("blind.toml", &text.replace("[monitor]\n", "[monitor]\n#").replace("password = ", "password = \"wrong\" #"));
    let mut new = proxy.successor(&blind, "blind").unwrap();
    until_true("it asks", LIMIT, || async { Ok(proxy.log_tail(200).contains("asks for the listening sockets")) }).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    stays.query_drop("SELECT 1").await.unwrap();
    new.kill();
    // Without --takeover.
    let args = ["run", "--config", &proxy.config_path().display().to_string()].map(str::to_owned);
    let mut second =
        Process::start(&Proxy::program().unwrap(), &args, &[], &proxy.config_path().with_file_name("second.log")).unwrap();
    assert_eq!(second.wait(LIMIT).unwrap().code(), Some(1));
    assert!(second.log_tail(3).contains("--takeover"), "{}", second.log_tail(3));
    drop(proxy.connect("shop").await.unwrap());
    // It still acts: a switchover is carried out, and then the next process carries out one too.
    proxy.admin("SWITCHOVER TO db2").await.unwrap();
    stays.query_drop("UPDATE items SET stock = stock WHERE id = 1").await.unwrap();
    let mut old = proxy.take_over("right").await.unwrap();
    proxy.admin("SWITCHOVER TO db1").await.unwrap();
    // The old process only watches, and its sessions follow.
    stays.query_drop("UPDATE items SET stock = stock + 1 WHERE id = 1").await.unwrap();
    // One process beats: the row changes hands once, and not back and forth.
    let mut runs = std::collections::HashSet::new();
    for _ in 0..40 {
        runs.insert(cluster.server("db1").value("SELECT GROUP_CONCAT(run) FROM sluice.heartbeat").await.unwrap());
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    assert_eq!(runs.len(), 1, "{runs:?}");
    stays.disconnect().await.unwrap();
    ends(&mut old).await;
    drop(proxy.connect("shop").await.unwrap());
}

/// The old process is killed when it has handed over: its sessions end, nobody else notices. And one that is killed while a new one gets
/// ready leaves its doors to that one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_process_that_is_killed() {
    let place = Place::new("killed");
    let proxy = place.configure(Proxy::before(cluster())).start().await.unwrap();
    let mut stays = proxy.connect("shop").await.unwrap();
    let mut old = proxy.take_over("next").await.unwrap();
    // Whoever looks for a client of the old one is told where it is.
    until_true("the new one is told of it", LIMIT, || async {
        let status = proxy.admin("SHOW STATUS LIKE 'Clients_of_old_process'").await?;
        Ok(status.cell("Variable_name", "Clients_of_old_process", "Value") == Some("1"))
    })
    .await
    .unwrap();
    let admin = integration::driver::options(proxy.admin_port(), integration::proxy::ADMIN);
    let mut operator = integration::driver::connect(admin).await.unwrap();
    operator.query_drop("SHOW CLIENTS").await.unwrap();
    assert_eq!(operator.get_warnings(), 1);
    let warnings = integration::driver::table(&mut operator, "SHOW WARNINGS").await.unwrap();
    let there = format!("process {}, from which this one took over, still serves 1 clients", old.id());
    assert!(warnings.column("Message")[0].contains(&there), "{}", warnings.framed());
    let error = operator.query_drop(format!("KILL {}", stays.id())).await.unwrap_err();
    let (code, text) = integration::driver::server_error(&error).map(|(code, _, text)| (code, text)).unwrap();
    assert!(code == 1094 && text.contains(&there), "{code} {text}");
    operator.query_drop("SHOW SERVERS").await.unwrap();
    assert_eq!(operator.get_warnings(), 0);
    stays.query_drop("SELECT 1").await.unwrap();
    old.kill();
    assert!(stays.query_drop("SELECT 1").await.is_err(), "its session was the old one's");
    let mut conn = proxy.connect("shop").await.unwrap();
    conn.query_drop("UPDATE items SET stock = stock WHERE id = 2").await.unwrap();
    until_true("the new one hears of it", LIMIT, || async {
        let events = proxy.admin("SELECT detail FROM events WHERE kind = 'upgrade'").await?;
        Ok(format!("{events:?}").contains("the old process has ended"))
    })
    .await
    .unwrap();
    operator.query_drop("SHOW CLIENTS").await.unwrap();
    assert_eq!(operator.get_warnings(), 0);
    // Frozen, the process cannot hand over; then it is killed.
    proxy.signal(Signal::Stop).unwrap();
    let mut next = proxy.successor(&proxy.config_path(), "heir").unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(next.ended().is_none(), "{}", next.log_tail(5));
    proxy.kill();
    // It never got the sockets, and says so.
    assert_eq!(next.wait(LIMIT).unwrap().code(), Some(1), "{}", next.log_tail(5));
}

/// SIGUSR2 starts the program again, which takes over; the service manager is told whom to follow.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigusr2_and_the_service_manager() {
    let place = Place::new("usr2");
    let socket = std::os::unix::net::UnixDatagram::bind(place.join("notify")).unwrap();
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    let config = place.configure(Proxy::before(cluster())).env("NOTIFY_SOCKET", &place.join("notify"));
    let proxy = config.set("proxy.upgrade_timeout", "\"300ms\"").start().await.unwrap();
    let said = |word: &str| {
        let mut buffer = [0; 100];
        let start = Instant::now();
        while start.elapsed() < LIMIT {
            let read = socket.recv(&mut buffer).unwrap();
            let text = String::from_utf8_lossy(&buffer[..read]).into_owned();
            assert!(!text.contains("STOPPING"), "the service does not stop");
            if text.starts_with(word) {
                return text;
            }
        }
        panic!("nothing was said of {word}");
    };
    said("READY=1");
    let mut idle = proxy.connect("shop").await.unwrap();
    proxy.signal(Signal::Usr2).unwrap();
    let told = said("MAINPID=");
    let pid = told.trim_start_matches("MAINPID=").to_owned();
    assert_ne!(pid, proxy.id().to_string());
    let kill = |signal: &str| std::process::Command::new("kill").args([signal, &pid]).status().unwrap();
    let result = async {
        drop(proxy.connect("shop").await?);
        // An idle session is kept for upgrade_timeout, and let go then.
        until_true("the old process ends", LIMIT, || async { Ok(proxy.check_running().is_err()) }).await?;
        anyhow::ensure!(idle.query_drop("SELECT 1").await.is_err(), "its process is gone");
        drop(proxy.connect("shop").await?);
        anyhow::Ok(())
    };
    let result = result.await;
    kill("-TERM");
    result.unwrap();
    until_true("the new process ends", LIMIT, || async { Ok(proxy.get("/healthz").await.is_err()) }).await.unwrap();
}

/// A link that leads to another version by now: that one is started.
#[tokio::test]
async fn sigusr2_starts_the_path_that_was_started() {
    let place = Place::new("link");
    let proxy = place.configure(Proxy::before(cluster())).start().await.unwrap();
    proxy.stop().unwrap();
    let (link, told) = (place.0.join("sluice"), place.0.join("told"));
    std::os::unix::fs::symlink(Proxy::program().unwrap(), &link).unwrap();
    let args = ["run".to_owned(), "--config".to_owned(), proxy.config_path().display().to_string()];
    let mut process = Process::start(&link, &args, &[], &place.0.join("log")).unwrap();
    until_true("it is ready", LIMIT, || async { Ok(proxy.get("/readyz").await?.0 == 200) }).await.unwrap();
    let next = place.0.join("next");
    std::fs::write(&next, format!("#!/bin/sh\necho \"$@\" > {}\n", told.display())).unwrap();
    std::fs::set_permissions(&next, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink(&next, &link).unwrap();
    process.signal(Signal::Usr2).unwrap();
    until_true("the other version is started", LIMIT, || async {
        Ok(std::fs::read_to_string(&told).is_ok_and(|said| said == format!("{} --takeover\n", args.join(" "))))
    })
    .await
    .unwrap();
}

/// While two processes serve clients, neither answers from its cache: each would miss the other's writes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_keep_nothing() {
    let place = Place::new("cache");
    let schema = schema("upgrade_cache").await;
    cluster()
        .server("db1")
        .run(&[&format!("CREATE TABLE {schema}.t (a INT PRIMARY KEY)"), &format!("INSERT INTO {schema}.t VALUES (1)")])
        .await
        .unwrap();
    cluster().settle().await.unwrap();
    let config = place.configure(Proxy::before(cluster())).set("cache.enabled", "true").set("cache.default", "\"all\"");
    let proxy = config.start().await.unwrap();
    let state = async |wanted: &str| {
        until_true(&format!("the cache is {wanted}"), LIMIT, || async {
            let table = proxy.admin("SELECT state FROM cache").await?;
            Ok(format!("{table:?}").contains(wanted))
        })
        .await
        .unwrap();
    };
    state("\"on").await;
    let mut old_client = proxy.connect(&schema).await.unwrap();
    let sum = "SELECT SUM(a) FROM t";
    for _ in 0..5 {
        let _: Option<i64> = old_client.query_first(sum).await.unwrap();
    }
    let _old = proxy.take_over("next").await.unwrap();
    state("bypassed: another process").await;
    let mut new_client = proxy.connect(&schema).await.unwrap();
    for n in 2..30i64 {
        let (writer, reader) = if n % 2 == 0 { (&mut old_client, &mut new_client) } else { (&mut new_client, &mut old_client) };
        writer.query_drop(format!("INSERT INTO t VALUES ({n})")).await.unwrap();
        // From the master, so that only a cache could be behind.
        let seen: Option<i64> = reader.query_first("/* sluice: master */ SELECT SUM(a) FROM t").await.unwrap();
        assert_eq!(seen, Some(n * (n + 1) / 2));
    }
    old_client.disconnect().await.unwrap();
    state("\"on").await;
}

/// A new process that was given the clients and hangs is ended, and so is one that says what nobody understands: the old one serves
/// again, whoever came meanwhile too, and can be taken over from.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_process_that_hangs_is_ended() {
    let place = Place::new("hangs");
    let proxy = place.configure(Proxy::before(cluster())).start().await.unwrap();
    let mut stays = proxy.connect("shop").await.unwrap();
    let admin = integration::driver::options(proxy.admin_port(), integration::proxy::ADMIN);
    let mut operator = integration::driver::connect(admin).await.unwrap();
    let start = |instead: &str| {
        let args = [place.join("upgrade.sock"), instead.to_owned()];
        let program = std::path::Path::new(env!("CARGO_BIN_EXE_mute-successor"));
        Process::start(program, &args, &[], &proxy.config_path().with_file_name("mute.log")).unwrap()
    };
    let mut mute = start("");
    until_true("it is given the clients", LIMIT, || async { Ok(mute.log_tail(5).contains("was given the clients")) })
        .await
        .unwrap();
    let began = Instant::now();
    let options = proxy.options(accounts::APP);
    let waits = tokio::spawn(async move {
        integration::driver::connect(options).await?.query_drop("SELECT 1").await?;
        anyhow::Ok(())
    });
    stays.query_drop("UPDATE shop.items SET stock = stock WHERE id = 1").await.unwrap();
    for order in ["DRAIN SERVER db3", "SWITCHOVER TO db2", "RELOAD CONFIG", "SAVE CONFIG", "PAUSE", "SHUTDOWN", "FLUSH CACHE"] {
        let error = operator.query_drop(order).await.unwrap_err().to_string();
        assert!(error.contains("another process takes the place of this one"), "{order}: {error}");
    }
    assert!(!waits.is_finished(), "nobody accepts");
    waits.await.unwrap().unwrap();
    assert!(began.elapsed() > Duration::from_secs(5), "{:?}", began.elapsed());
    let status = mute.wait(LIMIT).unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9), "{status}");
    let events = format!("{:?}", proxy.admin("SELECT detail FROM events WHERE kind = 'upgrade'").await.unwrap());
    assert!(events.contains("it was ended") && events.contains("this one goes on"), "{events}");
    // It acts again, for the operator who has stayed too.
    operator.query_drop("DRAIN SERVER db4").await.unwrap();
    operator.query_drop("OFFLINE SERVER db3").await.unwrap();
    let mut mute = start("served");
    let status = mute.wait(LIMIT).unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9), "{status}");
    drop(proxy.connect("shop").await.unwrap());
    stays.query_drop("SELECT 1").await.unwrap();
    let mut old = proxy.take_over("right").await.unwrap();
    stays.disconnect().await.unwrap();
    ends(&mut old).await;
    drop(proxy.connect("shop").await.unwrap());
    // What an operator has taken out stays out.
    let servers = proxy.admin("SHOW SERVERS").await.unwrap();
    assert_eq!(servers.cell("name", "db4", "state"), Some("draining"));
    assert_eq!(servers.cell("name", "db3", "state"), Some("offline"));
    // Told to end while it waits, it does not wait.
    let mut mute = start("");
    until_true("it is given the clients", LIMIT, || async { Ok(mute.log_tail(5).contains("was given the clients")) })
        .await
        .unwrap();
    proxy.stop().unwrap();
    mute.kill();
}
