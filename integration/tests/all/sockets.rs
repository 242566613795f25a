//! On io_uring and on epoll sessions find the same, while their connections go from thread to thread, with TLS and without.

use integration::cluster::Cluster;
use integration::proxy::Proxy;
use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use crate::world::{cluster, schema};

const CLIENTS: usize = 12;
const ROUNDS: usize = 40;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_that_share_two_connections_find_their_own() {
    let schema = schema("sockets_share").await;
    cluster().server("db1").run(&[&format!("CREATE TABLE {schema}.t (client INT, n INT, PRIMARY KEY (client, n))")]).await.unwrap();
    cluster().settle().await.unwrap();
    for (io_uring, tls) in [("true", "disabled"), ("true", "preferred"), ("false", "disabled"), ("false", "preferred")] {
        let proxy = shared_by_few(cluster(), io_uring, tls).await;
        let what = format!("io_uring = {io_uring}, tls {tls}");
        cluster().server("db1").run(&[&format!("DELETE FROM {schema}.t")]).await.unwrap();
        let mut tasks = Vec::new();
        for client in 0..CLIENTS {
            let mut conn = proxy.connect(&schema).await.unwrap();
            tasks.push(tokio::spawn(async move {
                conn.query_drop(format!("SET @mine = {client}, lc_time_names = '{}'", ["de_DE", "fr_FR", "es_ES"][client % 3]))
                    .await?;
                for n in 0..ROUNDS {
                    conn.query_drop("BEGIN").await?;
                    conn.exec_drop("INSERT INTO t VALUES (@mine, ?)", (n,)).await?;
                    conn.query_drop(if n % 4 == 3 { "ROLLBACK" } else { "COMMIT" }).await?;
                    let row: (usize, usize, String) = conn
                        .exec_first("SELECT @mine, COUNT(*), DATE_FORMAT('2026-05-01', '%M') FROM t WHERE client = ?", (client,))
                        .await?
                        .expect("one row");
                    let month = ["Mai", "mai", "mayo"][client % 3];
                    anyhow::ensure!(row == (client, n + 1 - (n + 1) / 4, month.to_owned()), "client {client}, round {n}: {row:?}");
                    // Longer than what is copied for the ring, and than its buffers.
                    let length = 1000 << (n % 10);
                    let long: Option<String> = conn.query_first(format!("SELECT REPEAT('{}', {length})", client % 10)).await?;
                    let long = long.unwrap_or_default();
                    anyhow::ensure!(long.len() == length && long.bytes().all(|b| usize::from(b - b'0') == client % 10), "{length}");
                }
                anyhow::Ok(())
            }));
        }
        for task in tasks {
            task.await.unwrap().unwrap_or_else(|e| panic!("{what}: {e:#}\n{}", proxy.log_tail(10)));
        }
        // Bug: with TLS on a ring, connections were closed instead of going back to their pool.
        let pools = proxy.admin("SELECT SUM(opened), SUM(reused) FROM pools").await.unwrap();
        let [opened, reused] = [0, 1].map(|column| pools.rows[0][column].parse::<usize>().unwrap());
        assert!(
            opened < CLIENTS * ROUNDS / 5 && reused > CLIENTS * ROUNDS,
            "{what}: {opened} connections opened, reused {reused} times"
        );
        let log = std::fs::read_to_string(proxy.log_path()).unwrap();
        let told = if io_uring == "true" {
            ["the sockets are on io_uring", "io_uring cannot be had"]
        } else {
            ["proxy.io_uring = false"; 2]
        };
        assert!(told.iter().any(|told| log.contains(told)), "{what}: the log does not say what drives the sockets");
        proxy.check_running().unwrap();
    }
}

async fn shared_by_few(cluster: &Cluster, io_uring: &str, tls: &str) -> Proxy {
    let proxy = Proxy::before(cluster).every_server("max_connections", "2").every_server("tls", &format!("{{ mode = \"{tls}\" }}"));
    proxy.set("proxy.worker_threads", "3").set("proxy.io_uring", io_uring).start().await.unwrap()
}

/// More often than a connection must be wanted by one thread before it stays there.
const OFTEN: usize = 20;

/// A connection that is at home with the clients of one thread goes to those of another, and one that its server has closed there is not used.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_goes_to_another_thread_when_it_is_wanted_there() {
    let master = cluster().server("db1");
    let schema = schema("sockets_home").await;
    master
        .run(&[&format!("CREATE TABLE {schema}.t (n INT PRIMARY KEY)"), &format!("INSERT INTO {schema}.t VALUES (7)")])
        .await
        .unwrap();
    let ours = format!("SELECT id FROM information_schema.processlist WHERE db = '{schema}'");
    let mut direct = master.root().await.unwrap();
    for tls in ["disabled", "preferred"] {
        let proxy = shared_by_few(cluster(), "true", tls).await;
        // Each goes to the thread that has fewest.
        let mut clients = [proxy.connect(&schema).await.unwrap(), proxy.connect(&schema).await.unwrap()];
        let mut used: Vec<u64> = Vec::new();
        for round in 0..4 {
            for client in &mut clients {
                for _ in 0..OFTEN {
                    let n: Option<u64> = client.query_first("/* sluice: master */ SELECT n FROM t").await.unwrap();
                    assert_eq!(n, Some(7));
                }
                client.query_drop("BEGIN").await.unwrap();
                for n in 0..OFTEN {
                    let sum: Option<usize> = client.query_first(format!("SELECT n + {n} FROM t")).await.unwrap();
                    assert_eq!(sum, Some(7 + n));
                }
                client.query_drop("COMMIT").await.unwrap();
                used.extend(processes(&mut direct, &ours).await);
            }
            used.dedup();
            if round == 1 {
                assert_eq!(used.len(), 1, "{tls}: one connection serves both: {used:?}");
                // Idle, it is closed by its server.
                direct.query_drop(format!("KILL {}", used[0])).await.unwrap();
                while processes(&mut direct, &ours).await.contains(&used[0]) {
                    tokio::time::sleep(std::time::Duration::from_millis(10)).await;
                }
            }
        }
        assert_eq!(used.len(), 2, "{tls}: one after the other: {used:?}");
        drop((clients, proxy));
    }
}

/// MySQL's list cannot be read while another test runs a text that is not UTF-8.
async fn processes(direct: &mut Conn, sql: &str) -> Vec<u64> {
    loop {
        match direct.query(sql).await {
            Ok(ids) => return ids,
            Err(mysql_async::Error::Server(error)) if error.code == 3854 => {
                tokio::time::sleep(std::time::Duration::from_millis(10)).await
            }
            Err(error) => panic!("{error}"),
        }
    }
}
