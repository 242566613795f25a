//! `RELOAD CONFIG`, SIGHUP and `SAVE CONFIG` while clients are at work: whole or not at all, and nobody notices.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use integration::accounts::APP;
use integration::flavour::Flavour;
use integration::link::{Link, Way};
use integration::process::Signal;
use integration::proxy::{Proxy, ProxyBuilder};
use integration::wait::until_true;
use mysql_async::SslOpts;
use mysql_async::prelude::Queryable;

use crate::world::{cluster, flavour};

/// Forty reloads under a load of reads, writes and transactions: no error, and every client keeps its connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reloads_under_load_are_not_noticed() {
    let mut proxy = Proxy::before(cluster()).start().await.unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let done = Arc::new(AtomicU64::new(0));
    let mut clients = Vec::new();
    for n in 0..6 {
        let mut conn = proxy.connect("shop").await.unwrap();
        let (stop, done) = (stop.clone(), done.clone());
        clients.push(tokio::spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                conn.query_drop("SELECT COUNT(*) FROM items").await?;
                conn.query_drop(format!("UPDATE items SET stock = stock WHERE id = {}", n + 1)).await?;
                conn.query_drop("BEGIN").await?;
                conn.query_drop("SELECT id FROM items WHERE id = 1").await?;
                conn.query_drop("COMMIT").await?;
                done.fetch_add(1, Ordering::Relaxed);
            }
            conn.disconnect().await
        }));
    }
    let rule = "[[rule]]\npattern = 'from nowhere'\naction = \"deny\"\n[[user]]\nname = \"somebody\"\nmax_connections = 3\n";
    for round in 0..20u32 {
        let weight = (round % 5 + 1).to_string();
        proxy
            .reload_with(|config| {
                let config = config.server("db3", "weight", &weight).set("proxy.max_clients", &(1000 + round).to_string());
                let config = config.set("pool.idle_timeout", &format!("\"{}s\"", 60 + round));
                if round == 0 { config.more(rule) } else { config }
            })
            .await
            .unwrap();
        proxy.signal(Signal::Hup).unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let rules = proxy.admin("SHOW RULES").await.unwrap();
    assert_eq!(rules.rows.len(), 1, "{rules:?}");
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap().expect("no client got an error");
    }
    assert!(done.load(Ordering::Relaxed) > 20, "the load was none: {done:?}");
}

/// Servers leave the file, come back, move to another address and are watched in another way, under load: no error, every client keeps its
/// connection, and reads go where they may.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_come_and_go_under_load() {
    let cluster = cluster();
    let db4 = cluster.server("db4");
    let link = Link::to(&db4.address()).unwrap();
    let start = Proxy::before(cluster).set("routing.consistency", "\"none\"").without("db4");
    let mut proxy = start.clone().start().await.unwrap();
    let all = |config: ProxyBuilder| config.with("db4", &db4.address(), "replica");
    let stop = Arc::new(AtomicBool::new(false));
    let mut clients = Vec::new();
    for n in 0..6 {
        let mut conn = proxy.connect("shop").await.unwrap();
        let stop = stop.clone();
        clients.push(tokio::spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                conn.query_drop("SELECT COUNT(*) FROM items").await?;
                conn.exec_drop("SELECT name FROM items WHERE id = ?", (n,)).await?;
                conn.query_drop(format!("UPDATE items SET stock = stock WHERE id = {}", n + 1)).await?;
                conn.query_drop("START TRANSACTION READ ONLY").await?;
                conn.query_drop("SELECT id FROM items WHERE id = 1").await?;
                conn.query_drop("COMMIT").await?;
            }
            conn.disconnect().await
        }));
    }
    let names = async |proxy: &Proxy| proxy.admin("SELECT name FROM servers ORDER BY name").await.unwrap().column("name").join(" ");
    let read_there = async |proxy: &Proxy, name: &str| {
        let count = async || -> anyhow::Result<u64> {
            let servers = proxy.admin("SHOW SERVERS").await?;
            Ok(servers.cell("name", name, "queries").unwrap_or("0").parse()?)
        };
        let before = count().await.unwrap();
        until_true("statements run there", Duration::from_secs(10), async || Ok(count().await? > before + 5)).await.unwrap();
    };
    assert_eq!(names(&proxy).await, "db1 db2 db3");
    for round in 0..3 {
        proxy.reload_with(all).await.unwrap();
        assert_eq!(names(&proxy).await, "db1 db2 db3 db4");
        read_there(&proxy, "db4").await;
        // to another address, without db3, and watched more often
        let interval = format!("\"{}ms\"", 100 + round);
        proxy
            .reload_with(|config| config.without("db3").reach("db4", &link.address()).set("monitor.heartbeat_interval", &interval))
            .await
            .unwrap();
        assert_eq!(names(&proxy).await, "db1 db2 db4");
        read_there(&proxy, "db4").await;
        let metrics = proxy.get("/metrics").await.unwrap().1;
        assert!(metrics.contains("sluice_server_up{server=\"db4\"} 1"), "{metrics}");
        assert!(!metrics.contains("server=\"db3\""), "{metrics}");
        let start = start.clone();
        proxy.reload_with(|_| start).await.unwrap();
        assert_eq!(names(&proxy).await, "db1 db2 db3");
        read_there(&proxy, "db3").await;
    }
    assert!(link.bytes(Way::Up) > 0, "nobody came by the other address");
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap().expect("no client got an error");
    }
    let events = proxy.admin("SELECT kind, detail FROM events WHERE kind IN ('no_master', 'failover')").await.unwrap();
    assert!(events.rows.is_empty(), "{events:?}");
}

#[tokio::test]
async fn the_master_does_not_leave_by_a_reload() {
    let mut proxy = Proxy::before(cluster()).start().await.unwrap();
    for (change, name) in [("leave", "db1"), ("address", "db1"), ("role", "db1")] {
        let changed = proxy.reload_with(|config| match change {
            "leave" => config.without(name),
            "address" => config.reach(name, "127.0.0.1:9"),
            _ => config.server(name, "role", "\"replica\""),
        });
        let error = format!("{:#}", changed.await.unwrap_err());
        assert!(error.contains("nothing was changed: db1 is the master") && error.contains("SWITCHOVER TO"), "{change}: {error}");
        assert_eq!(proxy.admin("SELECT name FROM servers").await.unwrap().rows.len(), 4);
        proxy.reload_with(|_| Proxy::before(cluster())).await.unwrap();
    }
    // The standby may.
    proxy.reload_with(|config| config.without("db2")).await.unwrap();
    let mut conn = proxy.connect("shop").await.unwrap();
    conn.query_drop("UPDATE items SET stock = stock WHERE id = 1").await.unwrap();
}

#[tokio::test]
async fn a_file_with_a_mistake_in_its_last_line_changes_nothing() {
    let mut proxy = Proxy::before(cluster()).start().await.unwrap();
    let error = proxy.reload_with(|config| config.server("db3", "weight", "9").more("[[user]]\nnam = \"x\"")).await.unwrap_err();
    assert!(format!("{error:#}").contains("did you mean `name`?"), "{error:#}");
    let servers = proxy.admin("SHOW SERVERS").await.unwrap();
    assert_eq!(servers.cell("name", "db3", "weight"), Some("1"));
    let events = proxy.admin("SELECT kind FROM events WHERE kind LIKE 'reload%'").await.unwrap();
    assert_eq!(events.column("kind"), ["reload_refused"]);
}

#[tokio::test]
async fn what_needs_a_restart_says_so_and_nothing_else_is_applied() {
    let mut proxy = Proxy::before(cluster()).start().await.unwrap();
    let changed = proxy.reload_with(|config| config.server("db3", "weight", "9").set("proxy.worker_threads", "3")).await;
    let error = format!("{:#}", changed.unwrap_err());
    assert!(error.contains("proxy.worker_threads: 0 -> 3 (needs a restart: the threads are started once)"), "{error}");
    let diff = proxy.admin("SHOW CONFIG DIFF").await.unwrap();
    assert_eq!(diff.column("name"), ["proxy.worker_threads", "server.db3.weight"]);
    assert_eq!(proxy.admin("SHOW SERVERS").await.unwrap().cell("name", "db3", "weight"), Some("1"));
}

#[tokio::test]
async fn save_config_writes_what_commands_changed_and_keeps_comments() {
    let proxy = Proxy::before(cluster()).start().await.unwrap();
    let path = proxy.config_path();
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("# mine\n{text}# the end\n")).unwrap();
    proxy.admin("SET SERVER db3 WEIGHT 9").await.unwrap();
    let diff = proxy.admin("SHOW CONFIG DIFF").await.unwrap();
    assert_eq!(diff.rows, [["server.db3.weight", "9", "1", ""].map(str::to_owned).to_vec()], "{diff:?}");
    for sql in ["SHOW CONFIG", "SHOW VARIABLES"] {
        let running = proxy.admin(sql).await.unwrap();
        assert!(running.rows.contains(&["server.db3.weight", "9"].map(str::to_owned).to_vec()), "{}", running.framed());
    }
    proxy.admin("DRAIN SERVER db4").await.unwrap();
    until_true("it is drained", Duration::from_secs(5), || async {
        Ok(proxy.admin("SHOW SERVERS").await?.cell("name", "db4", "state") == Some("draining"))
    })
    .await
    .unwrap();
    proxy.admin("SAVE CONFIG").await.unwrap();
    let told = format!("{:?}", proxy.admin("SELECT detail FROM events WHERE kind = 'command'").await.unwrap());
    assert!(told.contains("server.db3.weight = 9; not in the file: db4 is drained"), "{told}");
    let saved = std::fs::read_to_string(&path).unwrap();
    assert!(saved.starts_with("# mine\n") && saved.ends_with("# the end\n") && saved.contains("weight = 9\n"), "{saved}");
    assert_eq!(saved.lines().count(), text.lines().count() + 3, "{saved}");
    assert!(proxy.admin("SHOW CONFIG DIFF").await.unwrap().rows.is_empty());
    proxy.admin("RELOAD CONFIG").await.unwrap();
    assert_eq!(proxy.admin("SHOW SERVERS").await.unwrap().cell("name", "db3", "weight"), Some("9"));
    // What was not saved ends with the next reload.
    proxy.admin("SET SERVER db3 WEIGHT 2").await.unwrap();
    proxy.admin("RELOAD CONFIG").await.unwrap();
    assert_eq!(proxy.admin("SHOW SERVERS").await.unwrap().cell("name", "db3", "weight"), Some("9"));
}

/// A certificate renewed in its file is shown to new clients after a reload; those there stay.
#[tokio::test]
async fn a_renewed_certificate_is_taken_by_a_reload() {
    let dir = integration::home::new_dir("certificates").unwrap();
    let (cert, key) = (dir.join("cert.pem"), dir.join("key.pem"));
    let renew = |name: &str| {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        std::fs::write(&cert, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        let trusted = dir.join(name);
        std::fs::write(&trusted, made.cert.pem()).unwrap();
        trusted
    };
    let first = renew("first.pem");
    let tls = format!("{{ mode = \"required\", cert = {cert:?}, key = {key:?} }}");
    let proxy = Proxy::before(cluster()).set("proxy.tls", &tls).start().await.unwrap();
    let trusting = |root: &std::path::Path| {
        let ssl = SslOpts::default().with_root_certs(vec![root.to_owned().into()]).with_disable_built_in_roots(true);
        proxy.connect_with(proxy.options(APP).db_name(Some("shop")).ssl_opts(Some(ssl)))
    };
    let operator = |root: &std::path::Path| {
        let ssl = SslOpts::default().with_root_certs(vec![root.to_owned().into()]).with_disable_built_in_roots(true);
        let options = integration::driver::options(proxy.admin_port(), integration::proxy::ADMIN);
        integration::driver::connect(options.ssl_opts(Some(ssl)))
    };
    let mut old = trusting(&first).await.unwrap();
    operator(&first).await.unwrap();
    let second = renew("second.pem");
    trusting(&second).await.expect_err("the old certificate is shown until the reload");
    proxy.admin("RELOAD CONFIG").await.unwrap();
    trusting(&second).await.unwrap();
    trusting(&first).await.expect_err("the old certificate is shown after the reload");
    operator(&second).await.unwrap();
    operator(&first).await.expect_err("the old certificate is shown to operators after the reload");
    old.query_drop("SELECT 1").await.expect("who was there stays");
    std::fs::remove_dir_all(dir).unwrap();
}

/// `client_ca` is for clients: operators have an account of their own, and are asked for no certificate.
#[tokio::test]
async fn operators_need_no_certificate_of_the_clients() {
    let dir = integration::home::new_dir("client-ca").unwrap();
    let ca = dir.join("ca.pem");
    std::fs::write(&ca, rcgen::generate_simple_self_signed(vec!["ca".to_owned()]).unwrap().cert.pem()).unwrap();
    let tls = format!("{{ mode = \"required\", client_ca = {ca:?} }}");
    let proxy = Proxy::before(cluster()).set("proxy.tls", &tls).start().await.unwrap();
    let ssl = || Some(SslOpts::default().with_danger_accept_invalid_certs(true));
    proxy.connect_with(proxy.options(APP).ssl_opts(ssl())).await.expect_err("without a certificate");
    let options = integration::driver::options(proxy.admin_port(), integration::proxy::ADMIN);
    integration::driver::connect(options.ssl_opts(ssl())).await.unwrap();
    std::fs::remove_dir_all(dir).unwrap();
}

/// Authorities of the servers' certificates that are renewed in their file are believed after a reload, by the pools and by the monitor.
#[tokio::test]
async fn renewed_authorities_of_servers_are_taken_by_a_reload() {
    // MySQL makes itself an authority and a certificate; MariaDB 10.11 has neither.
    if flavour() != Flavour::MySql {
        return;
    }
    let dir = integration::home::new_dir("authorities").unwrap();
    let ca = dir.join("ca.pem");
    let of_db3 = || async {
        let server = cluster().server("db3");
        let mut conn = integration::driver::connect(integration::driver::options(server.port(), APP)).await.unwrap();
        let found: Option<String> = conn.query_first("SELECT @@datadir").await.unwrap();
        std::path::PathBuf::from(found.unwrap()).join("ca.pem")
    };
    // Another authority: its servers have been given certificates, and db3 has not, or the other way round.
    std::fs::write(&ca, rcgen::generate_simple_self_signed(vec!["ca".to_owned()]).unwrap().cert.pem()).unwrap();
    let tls = format!("{{ mode = \"verify_ca\", ca = {ca:?} }}");
    let proxy = Proxy::before(cluster()).server("db3", "tls", &tls).start().await.unwrap();
    let becomes = async |wanted: &str| {
        let state = async || Ok(proxy.admin("SHOW SERVERS").await?.cell("name", "db3", "state") == Some(wanted));
        until_true(wanted, Duration::from_secs(10), state).await.unwrap();
    };
    becomes("down").await;
    proxy.admin("RELOAD CONFIG").await.unwrap();
    std::fs::copy(of_db3().await, &ca).unwrap();
    proxy.admin("RELOAD CONFIG").await.unwrap();
    let told = proxy.admin("SELECT detail FROM events WHERE kind = 'reload'").await.unwrap();
    let wanted = ["nothing has changed", "nothing has changed in the file; new authorities for db3"];
    assert_eq!(told.column("detail"), wanted);
    becomes("online").await;
    let mut conn = proxy.connect("shop").await.unwrap();
    let at: Option<u32> = conn.query_first("/* sluice: server=db3 */ SELECT @@server_id FROM items WHERE id = 1").await.unwrap();
    assert_eq!(at, Some(3));
    std::fs::remove_dir_all(dir).unwrap();
}
