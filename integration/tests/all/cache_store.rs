//! The cache with a store that proxies share, a real Redis and a real memcached: what one has read another serves, what one has written
//! another does not serve from before it, and a store that is frozen, killed, emptied or full of nonsense costs hits and nothing else.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use integration::cluster::Cluster;
use integration::process::Signal;
use integration::proxy::{Proxy, ProxyBuilder};
use integration::store::{Store, StoreKind};
use integration::wait::until_true;
use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use crate::cache::{cell, figure, on};
use crate::world::{flavour, schema_on};

/// What the log may take on a busy machine; on an idle one it is milliseconds.
const DELAY: Duration = Duration::from_secs(3);

fn sharing(cluster: &Cluster, store: &Store) -> ProxyBuilder {
    Proxy::before(cluster)
        .set("cache.enabled", "true")
        .set("cache.default", "\"all\"")
        .set("cache.store", &format!("\"{}\"", store.url()))
        .set("routing.consistency", "\"global\"")
}

async fn started(builder: ProxyBuilder) -> Proxy {
    let proxy = builder.start().await.unwrap();
    on(&proxy).await;
    proxy
}

async fn count(proxy: &Proxy, name: &str) -> f64 {
    proxy.metric(&format!("sluice_cache_store_{name}"), &[]).await.unwrap()
}

/// The n-th of many statements that ask for the same.
fn same(n: u32) -> String {
    format!("SELECT n FROM t WHERE id = 1 AND {n} = {n}")
}

/// Reads through the first, and then through the second, until the second has it from the store. Statements are taken from `next` on.
async fn shares(from: &mut Conn, (to, conn): (&Proxy, &mut Conn), next: &mut u32, expected: &str) {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        *next += 1;
        let (sql, before) = (same(*next), count(to, "hits_total").await);
        for _ in 0..2 {
            assert_eq!(cell(from, &sql).await, expected);
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        let hits: u64 = figure(to, "hits").await.parse().unwrap();
        assert_eq!(cell(conn, &sql).await, expected);
        // Found there and void a moment later is no hit: definitions may just have been asked for.
        let hit = count(to, "hits_total").await > before;
        if hit && figure(to, "hits").await == (hits + 1).to_string() {
            assert_eq!(cell(conn, &sql).await, expected);
            return;
        }
        let told = ["misses_total", "unfit_total", "errors_total", "up"];
        let mut figures = Vec::new();
        for name in told {
            figures.push(format!("{name} {}", count(to, name).await));
        }
        assert!(Instant::now() < deadline, "nothing is shared: {figures:?}; {}", figure(to, "state").await);
    }
}

async fn a_table(cluster: &Cluster, name: &str) -> String {
    let schema = schema_on(cluster, name).await;
    let create = format!("CREATE TABLE {schema}.t (id INT PRIMARY KEY, n BIGINT)");
    cluster.server("db1").run(&[&create, &format!("INSERT INTO {schema}.t VALUES (1, 0)")]).await.unwrap();
    cluster.settle().await.unwrap();
    schema
}

#[tokio::test]
async fn two_proxies_share_what_they_have_read_and_not_what_was_before_a_write() {
    let cluster = Cluster::start(flavour()).await.unwrap();
    for kind in [StoreKind::Redis, StoreKind::Memcached] {
        let mut store = Store::start(kind).await.unwrap();
        let schema = a_table(&cluster, &format!("cache_store_{kind:?}").to_lowercase()).await;
        let (a, b) = (started(sharing(&cluster, &store)).await, started(sharing(&cluster, &store)).await);
        assert!(figure(&a, "store").await.starts_with(&store.url()));
        let (mut ca, mut cb) = (a.connect(&schema).await.unwrap(), b.connect(&schema).await.unwrap());
        // The first that an account reads: which account it is, is asked of the same connection, and takes nothing away.
        cell(&mut ca, "SELECT n + 'x' FROM t").await;
        let warnings: Vec<(String, u16, String)> = ca.query("SHOW WARNINGS").await.unwrap();
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        let mut next = 0;
        shares(&mut ca, (&b, &mut cb), &mut next, "0").await;
        shares(&mut cb, (&a, &mut ca), &mut next, "0").await;
        // A write through one: what is in the store is from before it. To the other's clients it is like a write at the master.
        let kept = next + 1;
        for n in kept..kept + 3 {
            assert_eq!(cell(&mut ca, &same(n)).await, "0");
        }
        ca.query_drop("UPDATE t SET n = 1").await.unwrap();
        for n in kept..kept + 3 {
            assert_eq!(cell(&mut ca, &same(n)).await, "1", "its own write");
        }
        let seen = until_true("the other sees it", DELAY, async || Ok(cell(&mut cb, &same(kept)).await == "1"));
        seen.await.unwrap();
        for n in kept..kept + 3 {
            assert_eq!(cell(&mut cb, &same(n)).await, "1", "once it is seen nothing older is");
        }
        next = kept + 10;
        shares(&mut ca, (&b, &mut cb), &mut next, "1").await;
        // A write through the second, over what the first has put there: nothing of it is served, not for a moment.
        for value in 2..8 {
            next += 1;
            let sql = same(next);
            for _ in 0..2 {
                assert_eq!(cell(&mut ca, &sql).await, (value - 1).to_string());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
            cb.query_drop(format!("UPDATE t SET n = {value}")).await.unwrap();
            assert_eq!(cell(&mut cb, &sql).await, value.to_string());
            until_true("the other sees it", DELAY, async || Ok(cell(&mut ca, &sql).await == value.to_string())).await.unwrap();
        }
        // Prepared, and what the account may not read.
        let prepared = ca.prep("SELECT n FROM t WHERE id = ?").await.unwrap();
        let one: Option<u64> = ca.exec_first(&prepared, (1,)).await.unwrap();
        assert_eq!(one, Some(7));
        let refused = format!("SELECT n FROM {schema}.t");
        assert_eq!(cell(&mut ca, &refused).await, "7");
        let mut report = b.connect_with(b.options(integration::accounts::REPORT)).await.unwrap();
        assert!(report.query_drop(&refused).await.is_err(), "a right is not shared");
        // Nonsense under our names.
        if kind == StoreKind::Redis {
            let names = store.names().await.unwrap();
            assert!(!names.is_empty());
            let unfit = count(&b, "unfit_total").await;
            b.admin("FLUSH CACHE").await.unwrap();
            for name in names {
                store.say(format!("SET {name} nonsense\r\n").as_bytes()).await.unwrap();
            }
            for n in 1..next {
                assert_eq!(cell(&mut cb, &same(n)).await, "7");
            }
            assert!(count(&b, "unfit_total").await > unfit);
        }
        // Frozen: no read waits for long, none fails, and after the first nobody asks it.
        store.signal(Signal::Stop).unwrap();
        for n in 0..20 {
            let before = Instant::now();
            assert_eq!(cell(&mut cb, &same(1000 + n)).await, "7");
            assert!(before.elapsed() < Duration::from_secs(1), "{:?}", before.elapsed());
        }
        let told = until_true("it is told", DELAY, async || Ok(figure(&b, "state").await.starts_with("on, without its store")));
        told.await.unwrap();
        assert_eq!(count(&b, "up").await, 0.0);
        store.signal(Signal::Cont).unwrap();
        on(&b).await;
        on(&a).await;
        // Killed and started again, empty.
        store.restart().await.unwrap();
        assert_eq!(cell(&mut cb, &same(2000)).await, "7");
        on(&a).await;
        on(&b).await;
        next = 3000;
        shares(&mut ca, (&b, &mut cb), &mut next, "7").await;
        let events = b.admin("SHOW EVENTS").await.unwrap();
        for kind in ["cache_store_down", "cache_store_up"] {
            assert!(events.column("kind").contains(&kind), "{kind}");
        }
    }
}

#[tokio::test]
async fn a_redis_by_tls_is_used_when_its_certificate_can_be_trusted_and_else_not() {
    let cluster = Cluster::start(flavour()).await.unwrap();
    let store = Store::start(StoreKind::RedisTls).await.unwrap();
    let schema = a_table(&cluster, "cache_store_tls").await;
    let (a, b) = (started(sharing(&cluster, &store)).await, started(sharing(&cluster, &store)).await);
    let (mut ca, mut cb) = (a.connect(&schema).await.unwrap(), b.connect(&schema).await.unwrap());
    shares(&mut ca, (&b, &mut cb), &mut 0, "0").await;
    assert!(!store.names().await.unwrap().is_empty(), "it is there");
    // By another name than the certificate's, and signed by nobody the system trusts: not one byte of a result goes there.
    let (with_ca, alone) = (store.url(), store.url().split('?').next().unwrap().to_owned());
    for url in [with_ca.replace("localhost", "127.0.0.1"), alone] {
        let proxy = sharing(&cluster, &store).set("cache.store", &format!("\"{url}\"")).start().await.unwrap();
        let mut conn = proxy.connect(&schema).await.unwrap();
        assert_eq!(cell(&mut conn, &same(1)).await, "0");
        let why = async || Ok(figure(&proxy, "state").await.contains("TLS: invalid peer certificate"));
        until_true("it is said why", DELAY, why).await.unwrap();
        assert_eq!(count(&proxy, "up").await, 0.0, "{url}");
    }
    // A file of authorities that is not there is said at the start.
    let absent = with_ca.replace("cert.pem", "absent.pem");
    let refused = sharing(&cluster, &store).set("cache.store", &format!("\"{absent}\"")).start().await.unwrap_err();
    assert!(format!("{refused:#}").contains("absent.pem"), "{refused:#}");
}

/// The newest master, as a proxy sees it.
async fn master(proxy: &Proxy) -> Option<String> {
    let servers = proxy.admin("SHOW SERVERS").await.ok()?;
    let place = servers.column("role").iter().position(|role| *role == "master")?;
    Some(servers.column("name")[place].to_owned())
}

/// What was written, by whom, and when it had returned.
type History = Arc<Mutex<Vec<(Instant, u64, usize)>>>;
/// Who writes at the master itself.
const PAST_US: usize = 9;

fn floor(history: &History, proxy: usize) -> u64 {
    let history = history.lock().unwrap();
    let known = |(at, _, by): &&(Instant, u64, usize)| *by == proxy || at.elapsed() > DELAY;
    history.iter().rev().find(known).map_or(0, |(_, n, _)| *n)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_stale_while_redis_and_the_master_die() {
    nothing_stale(StoreKind::Redis).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_stale_while_memcached_and_the_master_die() {
    nothing_stale(StoreKind::Memcached).await;
}

/// Whoever reads the master's binary log is cut off from it.
pub(crate) async fn cut_the_log(cluster: &Cluster, name: &str) {
    let server = cluster.server(name);
    let all = server.query("SELECT id, user, command FROM information_schema.processlist").await.unwrap();
    for dump in all.rows.iter().filter(|row| row[1] == "sluice" && row[2].starts_with("Binlog Dump")) {
        // It may have gone meanwhile.
        let _ = server.run(&[&format!("KILL {}", dump[0])]).await;
    }
}

/// A counter written through two proxies, in transactions and past both, read through both by many, while the store they share is frozen,
/// killed and filled with nonsense, the table is altered, the proxies are cut off from the binary log, and the master is killed with a
/// transaction open that is replayed. No read finds less than what its own proxy had acknowledged before it, or anybody else had
/// written [`DELAY`] before.
async fn nothing_stale(kind: StoreKind) {
    let cluster = Cluster::start(flavour()).await.unwrap();
    let schema = a_table(&cluster, "cache_store_hunt").await;
    let mut store = Store::start(kind).await.unwrap();
    let replaying = sharing(&cluster, &store).set("failover.transaction_replay", "true");
    let watching = sharing(&cluster, &store).set("failover.mode", "\"manual\"");
    let proxies = [started(replaying).await, started(watching).await];
    let (stop, history) = (Arc::new(AtomicBool::new(false)), History::default());
    let mut readers = Vec::new();
    for reader in 0..6u32 {
        let at = reader as usize % 2;
        let mut conn = proxies[at].connect(&schema).await.unwrap();
        let (stop, history) = (stop.clone(), history.clone());
        readers.push(tokio::spawn(async move {
            let mut reads = 0u32;
            while !stop.load(Ordering::SeqCst) {
                let floor = floor(&history, at);
                let sql = same(reads / 2 % 5);
                let found: u64 = conn.query_first(&sql).await.unwrap_or_else(|e| panic!("{sql}: {e}")).unwrap();
                assert!(found >= floor, "{sql} through proxy {at} found {found}, {floor} was there");
                reads += 1;
            }
            reads
        }));
    }
    let mut writers = [proxies[0].connect(&schema).await.unwrap(), proxies[1].connect(&schema).await.unwrap()];
    for n in 1..=60u64 {
        let by = [0, 1, PAST_US][n as usize % 3];
        let write = format!("UPDATE t SET n = {n} WHERE id = 1");
        match by {
            PAST_US => {
                let write = format!("UPDATE {schema}.t SET n = {n} WHERE id = 1");
                let name = master(&proxies[0]).await.unwrap();
                cluster.server(&name).run(&[&write]).await.unwrap();
            }
            by if n % 2 == 0 => {
                writers[by].query_drop("BEGIN").await.unwrap();
                writers[by].query_drop(&write).await.unwrap();
                if n == 36 {
                    // Nothing acknowledged is to be lost, or the counter would rightly go back.
                    cluster.settle().await.unwrap();
                    cluster.server("db1").kill().unwrap();
                }
                writers[by].query_drop("COMMIT").await.unwrap();
            }
            by => writers[by].query_drop(&write).await.unwrap(),
        }
        history.lock().unwrap().push((Instant::now(), n, by));
        match n {
            8 => store.signal(Signal::Stop).unwrap(),
            12 => store.signal(Signal::Cont).unwrap(),
            16 | 40 => store.restart().await.unwrap(),
            20 => writers[0].query_drop("ALTER TABLE t ADD COLUMN more INT").await.unwrap(),
            10 | 28 | 44 => {
                let name = master(&proxies[0]).await.unwrap();
                cut_the_log(&cluster, &name).await;
            }
            24 if kind == StoreKind::Redis => {
                for name in store.names().await.unwrap() {
                    store.say(format!("SET {name} nonsense\r\n").as_bytes()).await.unwrap();
                }
            }
            37 => {
                let sees = until_true("both see the new master", Duration::from_secs(20), async || {
                    Ok(master(&proxies[0]).await.as_deref() == Some("db2") && master(&proxies[1]).await.as_deref() == Some("db2"))
                });
                sees.await.unwrap();
            }
            _ => {}
        }
        // Long enough now and then that something is shared.
        tokio::time::sleep(Duration::from_millis(if n % 5 == 0 { 900 } else { 40 })).await;
    }
    tokio::time::sleep(Duration::from_secs(4)).await;
    stop.store(true, Ordering::SeqCst);
    let mut reads = 0;
    for reader in readers {
        reads += reader.await.unwrap();
    }
    let (mut shared, mut errors) = (0.0, 0.0);
    for proxy in &proxies {
        on(proxy).await;
        shared += count(proxy, "hits_total").await;
        errors += count(proxy, "errors_total").await;
        let mut conn = proxy.connect(&schema).await.unwrap();
        let last = until_true("the last is seen", DELAY, async || Ok(cell(&mut conn, &same(77)).await == "60"));
        last.await.unwrap();
    }
    println!("{reads} reads, {shared} from the store, {errors} errors of it");
    assert!(reads > 500 && shared > 5.0 && errors > 0.0, "{reads} reads, {shared} from the store, {errors} errors of it");
}
