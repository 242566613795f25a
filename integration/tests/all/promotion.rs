//! Who takes over when it is not simply the peer: a replica, or a peer that has to fetch from others first. And what the account needs for all of it.

use std::time::Duration;

use integration::cluster::Cluster;
use integration::flavour::Flavour;
use integration::link::{Link, Way};
use integration::proxy::Proxy;
use integration::wait::until_true;
use mysql_async::prelude::Queryable;

use crate::failover::{becomes, events, marked, marks, of};
use crate::world::flavour;

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_replica_takes_over_when_no_peer_is_left_and_promote_replicas_is_on() {
    let (cluster, proxy) = marked(|proxy| proxy.set("failover.promote_replicas", "true")).await;
    let mut conn = proxy.connect("shop").await.unwrap();
    conn.query_drop("INSERT INTO marks VALUES (1)").await.unwrap();
    cluster.settle().await.unwrap();
    cluster.server("db2").kill().unwrap();
    becomes(&proxy, "db2", "state", "down", Duration::from_secs(5)).await;
    cluster.kill_with_nothing_to_lose("db1").await.unwrap();
    let promoted = until_true("a replica is master", Duration::from_secs(8), async || {
        let servers = proxy.admin("SHOW SERVERS").await?;
        Ok(matches!(servers.cell("role", "master", "name"), Some("db3" | "db4")))
    });
    promoted.await.unwrap();
    conn.query_drop("INSERT INTO marks VALUES (2)").await.unwrap();
    let servers = proxy.admin("SHOW SERVERS").await.unwrap();
    let master = servers.cell("role", "master", "name").unwrap().to_owned();
    let other = if master == "db3" { "db4" } else { "db3" };
    let told = events(&proxy).await;
    assert!(told.contains("not the others: ") && told.contains(&format!("{other}: ")), "{told}");
    // The other replica follows it; so does the old master, which comes back writable.
    for name in ["db1", "db2"] {
        cluster.server(name).start_again().unwrap();
        becomes(&proxy, name, "state", "online", Duration::from_secs(20)).await;
        // Nobody waits for a GTID there before it is told whom it follows: on MariaDB that would hold the telling up.
        let follows = format!(
            "SELECT COUNT(*) AS n FROM events WHERE kind = 'repoint' AND server = '{name}' AND detail LIKE 'it replicates from %'"
        );
        let told = until_true("it is told whom it follows", Duration::from_secs(20), async || {
            Ok(proxy.admin(&follows).await?.rows[0][0] != "0")
        });
        told.await.unwrap();
    }
    becomes(&proxy, other, "state", "online", Duration::from_secs(10)).await;
    cluster.settle_behind(&master).await.unwrap();
    for server in cluster.servers() {
        assert_eq!(marks(&cluster, server.name()).await, [1, 2], "{}", server.name());
        let read_only = if server.name() == master { "0" } else { "1" };
        assert_eq!(server.value("SELECT @@GLOBAL.read_only").await.unwrap(), read_only, "{}", server.name());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn without_it_writes_wait_for_a_peer() {
    let (cluster, proxy) = marked(|proxy| proxy.set("failover.hold_timeout", "\"1500ms\"")).await;
    cluster.server("db2").kill().unwrap();
    becomes(&proxy, "db2", "state", "down", Duration::from_secs(5)).await;
    cluster.server("db1").kill().unwrap();
    becomes(&proxy, "db1", "state", "down", Duration::from_secs(5)).await;
    let mut conn = proxy.connect("shop").await.unwrap();
    let error = conn.query_drop("INSERT INTO marks VALUES (1)").await.unwrap_err().to_string();
    assert!(error.contains("1290") && error.contains("waited 1500 ms"), "{error}");
    let told = events(&proxy).await;
    assert!(told.contains("db3: a replica, and failover.promote_replicas is off"), "{told}");
    for name in ["db3", "db4"] {
        assert_eq!(cluster.server(name).value("SELECT @@GLOBAL.read_only").await.unwrap(), "1", "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_peer_fetches_what_a_replica_has_more_before_it_becomes_writable() {
    let (cluster, proxy) = marked(|proxy| proxy).await;
    let stop = match flavour() {
        Flavour::MariaDb => "STOP SLAVE IO_THREAD",
        Flavour::MySql => "STOP REPLICA IO_THREAD",
    };
    cluster.server("db2").run(&[stop]).await.unwrap();
    let mut conn = proxy.connect("shop").await.unwrap();
    conn.query_drop("INSERT INTO marks VALUES (1), (2), (3)").await.unwrap();
    for name in ["db3", "db4"] {
        let there = until_true("it is there", Duration::from_secs(10), async || Ok(marks(&cluster, name).await.len() == 3));
        there.await.unwrap();
    }
    assert_eq!(marks(&cluster, "db2").await, [0; 0], "the peer has stopped fetching");
    cluster.server("db1").kill().unwrap();
    becomes(&proxy, "db2", "role", "master", Duration::from_secs(10)).await;
    // At the moment of its first write it has all that any survivor had.
    conn.query_drop("INSERT INTO marks VALUES (4)").await.unwrap();
    let told = events(&proxy).await;
    assert_eq!(marks(&cluster, "db2").await, [1, 2, 3, 4], "{told}");
    assert!(told.contains("has more: db2 fetches it"), "{told}");
    for name in ["db3", "db4"] {
        becomes(&proxy, name, "state", "online", Duration::from_secs(10)).await;
    }
    cluster.settle_behind("db2").await.unwrap();
    assert_eq!(marks(&cluster, "db3").await, [1, 2, 3, 4]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_master_that_answers_and_cannot_commit_is_replaced() {
    let (cluster, proxy) = marked(|proxy| proxy).await;
    let mut conn = proxy.connect("shop").await.unwrap();
    conn.query_drop("INSERT INTO marks VALUES (1)").await.unwrap();
    cluster.settle().await.unwrap();
    let mut root = cluster.server("db1").root().await.unwrap();
    root.query_drop("FLUSH TABLES WITH READ LOCK").await.unwrap();
    becomes(&proxy, "db2", "role", "master", Duration::from_secs(6)).await;
    conn.query_drop("INSERT INTO marks VALUES (2)").await.unwrap();
    let told = events(&proxy).await;
    assert!(told.contains("it answers, and cannot write"), "{told}");
    root.query_drop("UNLOCK TABLES").await.unwrap();
    becomes(&proxy, "db1", "state", "online", Duration::from_secs(15)).await;
    cluster.settle_behind("db2").await.unwrap();
    assert_eq!(marks(&cluster, "db1").await, [1, 2]);
    assert_eq!(cluster.server("db1").value("SELECT @@GLOBAL.read_only").await.unwrap(), "1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_lock_on_the_heartbeats_table_replaces_nobody() {
    for lock in ["READ", "WRITE"] {
        let (cluster, proxy) = marked(|proxy| proxy).await;
        let there = until_true("the heartbeat's table is there", Duration::from_secs(10), async || {
            Ok(cluster.server("db1").value("SELECT COUNT(*) FROM sluice.heartbeat").await.is_ok_and(|count| count != "0"))
        });
        there.await.unwrap();
        let mut root = cluster.server("db1").root().await.unwrap();
        root.query_drop(format!("LOCK TABLES sluice.heartbeat {lock}")).await.unwrap();
        let mut conn = proxy.connect("shop").await.unwrap();
        for n in 0..30 {
            conn.query_drop(format!("INSERT INTO marks VALUES ({n})")).await.unwrap();
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let told = events(&proxy).await;
        assert!(told.contains("master_writes_blocked"), "{told}");
        assert!(!told.contains("a new master") && !told.contains("writes are held"), "{lock}: {told}");
        assert_eq!(cluster.server("db1").value("SELECT @@GLOBAL.read_only").await.unwrap(), "0");
    }
}

/// Harm: with a table of other columns in the heartbeat's place all servers were down for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_table_of_another_making_in_the_heartbeats_place_is_told_and_takes_nobody_down() {
    let (cluster, first) = marked(|proxy| proxy.set("monitor.heartbeat_table", "\"\"")).await;
    first.kill();
    let table = "CREATE TABLE shop.beats (id INT PRIMARY KEY, proxy INT)";
    cluster.server("db1").run(&[table, "GRANT SELECT, INSERT, UPDATE, CREATE ON shop.* TO sluice"]).await.unwrap();
    cluster.settle().await.unwrap();
    let proxy = Proxy::before(&cluster).set("monitor.heartbeat_table", "\"shop.beats\"").start().await.unwrap();
    let mut conn = proxy.connect("shop").await.unwrap();
    for n in 0..20 {
        conn.query_drop(format!("INSERT INTO marks VALUES ({n})")).await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    for name in ["db1", "db2", "db3", "db4"] {
        becomes(&proxy, name, "state", "online", Duration::from_secs(1)).await;
    }
    let told = events(&proxy).await;
    assert!(told.contains("the heartbeat cannot be read") && told.contains("no heartbeat is written"), "{told}");
    assert!(!told.contains("master_writes_blocked"), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_clients_own_read_lock_replaces_nobody() {
    let (cluster, proxy) = marked(|proxy| proxy).await;
    cluster.server("db1").run(&["GRANT RELOAD ON *.* TO app"]).await.unwrap();
    cluster.settle().await.unwrap();
    let mut backup = proxy.connect("shop").await.unwrap();
    backup.query_drop("FLUSH TABLES WITH READ LOCK").await.unwrap();
    let told = until_true("it is told", Duration::from_secs(10), async || {
        let told = events(&proxy).await;
        Ok(told.contains("master_writes_blocked") && told.contains("hold a global read lock there"))
    });
    told.await.unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(backup.query_first::<u64, _>("SELECT COUNT(*) FROM marks").await.unwrap(), Some(0));
    let waiting = {
        let mut conn = proxy.connect("shop").await.unwrap();
        tokio::spawn(async move { conn.query_drop("INSERT INTO marks VALUES (1)").await })
    };
    tokio::time::sleep(Duration::from_millis(300)).await;
    backup.query_drop("UNLOCK TABLES").await.unwrap();
    waiting.await.unwrap().unwrap();
    backup.query_drop("INSERT INTO marks VALUES (2)").await.unwrap();
    let told = events(&proxy).await;
    assert!(!told.contains("a new master"), "{told}");
    assert_eq!(marks(&cluster, "db1").await, [1, 2]);
}

/// Harm: the command that makes a server read-only waited there for a table lock that nobody here knew of, and all writes behind it, until the master
/// was taken for one that cannot write.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_switchover_that_somebodys_table_lock_stops_leaves_nothing_behind() {
    let (cluster, proxy) = marked(|proxy| proxy).await;
    let mut conn = proxy.connect("shop").await.unwrap();
    conn.query_drop("INSERT INTO marks VALUES (1)").await.unwrap();
    // Not through the proxy, so that it is not waited for.
    let mut root = cluster.server("db1").root().await.unwrap();
    root.query_drop("LOCK TABLES shop.items WRITE").await.unwrap();
    let refused = format!("{:#}", proxy.admin("SWITCHOVER TO db2").await.unwrap_err());
    assert!(refused.contains("db1 stays master") && refused.contains("did not become read-only"), "{refused}");
    let write = conn.query_drop("INSERT INTO marks VALUES (2)");
    tokio::time::timeout(Duration::from_secs(2), write).await.expect("writes wait at db1").unwrap();
    root.query_drop("UNLOCK TABLES").await.unwrap();
    // What waited for the lock would happen now.
    for n in 3..10 {
        conn.query_drop(format!("INSERT INTO marks VALUES ({n})")).await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let told = events(&proxy).await;
    assert!(!told.contains("a new master") && !told.contains("master_writes_blocked"), "{told}");
    assert_eq!(cluster.server("db1").value("SELECT @@GLOBAL.read_only").await.unwrap(), "0");
    proxy.admin("SWITCHOVER TO db2").await.unwrap();
    becomes(&proxy, "db2", "role", "master", Duration::from_secs(1)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_check_online_names_what_the_account_lacks() {
    let (cluster, proxy) = marked(|proxy| proxy).await;
    let config = proxy.config_path().display().to_string();
    let check = async || Proxy::command(&["check", "--config", &config, "--online"]).await.unwrap();
    let (code, out, err) = check().await;
    assert_eq!(code, 0, "{out}{err}");
    let (revoke, named) = match flavour() {
        Flavour::MariaDb => {
            ("REVOKE READ_ONLY ADMIN, CONNECTION ADMIN ON *.* FROM sluice", ["READ_ONLY ADMIN", "CONNECTION ADMIN"])
        }
        Flavour::MySql => {
            ("REVOKE SYSTEM_VARIABLES_ADMIN, CONNECTION_ADMIN ON *.* FROM sluice", ["SYSTEM_VARIABLES_ADMIN", "CONNECTION_ADMIN"])
        }
    };
    cluster.server("db1").run(&[revoke]).await.unwrap();
    cluster.settle().await.unwrap();
    let (code, out, err) = check().await;
    let all = format!("{out}{err}");
    assert_ne!(code, 0, "{all}");
    for name in named {
        assert!(all.contains(name), "{name}: {all}");
    }
    // Reading the binlog for the cache is asked for where there is a cache, and no right of failover's where there is none.
    let sluice = |more: &'static [(&'static str, &'static str)]| {
        let mut builder = Proxy::before(&cluster).set("failover.mode", "\"off\"").set("cache.enabled", "true");
        for (key, value) in more {
            builder = builder.set(key, value);
        }
        builder.start()
    };
    let following = sluice(&[]).await.unwrap();
    let alone = sluice(&[("cache.invalidate", "[\"proxy\"]")]).await.unwrap();
    let check_of = async |proxy: &Proxy| {
        let config = proxy.config_path().display().to_string();
        let (code, out, err) = Proxy::command(&["check", "--config", &config, "--online"]).await.unwrap();
        (code, format!("{out}{err}"))
    };
    let (code, said) = check_of(&following).await;
    assert_eq!(code, 0, "{said}");
    let (revoke, named): (&str, &[&str]) = match flavour() {
        Flavour::MariaDb => {
            ("REVOKE REPLICATION SLAVE, BINLOG MONITOR ON *.* FROM sluice", &["REPLICATION SLAVE", "BINLOG MONITOR"])
        }
        Flavour::MySql => ("REVOKE REPLICATION SLAVE ON *.* FROM sluice", &["REPLICATION SLAVE"]),
    };
    cluster.server("db1").run(&[revoke]).await.unwrap();
    cluster.settle().await.unwrap();
    let (code, said) = check_of(&following).await;
    assert!(code != 0 && named.iter().all(|name| said.contains(name)), "{said}");
    let (code, said) = check_of(&alone).await;
    assert_eq!(code, 0, "{said}");
    cluster.server("db4").kill().unwrap();
    let (code, out, err) = check().await;
    assert!(code != 0 && format!("{out}{err}").contains("db4"), "{out}{err}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn the_rows_of_a_transaction_that_broke_off_half_sent_are_free_on_the_new_master() {
    let (cluster, proxy) = marked(|proxy| proxy).await;
    let db1 = cluster.server("db1");
    db1.run(&[
        "CREATE TABLE shop.big (id INT NOT NULL PRIMARY KEY AUTO_INCREMENT, n INT NOT NULL DEFAULT 0, pad VARCHAR(2000) CHARSET latin1)",
        "INSERT INTO shop.big (pad) VALUES (REPEAT('x', 2000))",
    ])
    .await
    .unwrap();
    for _ in 0..13 {
        db1.run(&["INSERT INTO shop.big (pad) SELECT pad FROM shop.big"]).await.unwrap();
    }
    // They receive so slowly that there is a middle to be in.
    let link = Link::to(&db1.address()).unwrap();
    let follow = flavour().follow(link.port(), 0);
    for name in ["db2", "db3", "db4"] {
        cluster.server(name).run(&[flavour().stop_replica(), &follow, flavour().start_replica()]).await.unwrap();
    }
    cluster.settle().await.unwrap();
    link.delay(Way::Down, Duration::from_millis(20));
    let mut root = db1.root().await.unwrap();
    let large = tokio::spawn(async move { root.query_drop("UPDATE shop.big SET n = n + 1, pad = REPEAT('y', 1990)").await });
    let begun = until_true("the peer has begun to apply it", Duration::from_secs(30), async || {
        // What the table says is renewed only when nobody has read it for 100 ms.
        tokio::time::sleep(Duration::from_millis(150)).await;
        let changed = "SELECT COUNT(*) FROM information_schema.innodb_trx WHERE trx_rows_modified > 100";
        Ok(cluster.server("db2").value(changed).await? != "0")
    });
    begun.await.unwrap();
    db1.kill().unwrap();
    drop(large);
    becomes(&proxy, "db2", "role", "master", Duration::from_secs(15)).await;
    let applied = cluster.server("db2").value("SELECT SUM(n) FROM shop.big").await.unwrap();
    assert_eq!(applied, "0", "it had all of it: what this is about did not happen");
    let mut conn = proxy.connect("shop").await.unwrap();
    let write = conn.query_drop("UPDATE big SET n = 7");
    let told = tokio::time::timeout(Duration::from_secs(10), write).await;
    told.unwrap_or_else(|_| panic!("its rows are still locked")).unwrap();
    // Back, the old master has it all and nobody else does.
    db1.start_again().unwrap();
    becomes(&proxy, "db1", "state", "quarantined", Duration::from_secs(20)).await;
    for name in ["db3", "db4"] {
        becomes(&proxy, name, "state", "online", Duration::from_secs(20)).await;
    }
}

/// Without its own log of what it replicates, a peer can give others nothing of that when it is master.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_peer_that_does_not_log_what_it_replicates_is_named() {
    let (option, purged) = match flavour() {
        Flavour::MariaDb => ("--log-slave-updates=OFF", None),
        // What it takes for having left its log, so that it counts as nothing that others can have from it.
        Flavour::MySql => ("--log-replica-updates=OFF", Some("SELECT GTID_SUBTRACT(@@GLOBAL.gtid_executed, @@GLOBAL.gtid_purged)")),
    };
    let own = |name: &str| if name == "db2" { vec![option.to_owned()] } else { Vec::new() };
    let cluster = Cluster::start_each(flavour(), &[], &own, &|_| {}).await.unwrap();
    let proxy = Proxy::before(&cluster).start().await.unwrap();
    let named = until_true("db2 is named", Duration::from_secs(10), async || {
        Ok(of(&proxy, "db2", "reason").await?.contains("not in its binary log")
            && events(&proxy).await.contains("updates_not_logged"))
    });
    named.await.unwrap();
    assert!(!of(&proxy, "db1", "reason").await.unwrap().contains("binary log"));
    if let Some(purged) = purged {
        assert_eq!(cluster.server("db2").value(purged).await.unwrap(), "");
    }
    let config = proxy.config_path().display().to_string();
    let (code, out, err) = Proxy::command(&["check", "--config", &config, "--online"]).await.unwrap();
    assert!(code == 0 && out.matches("cannot send on what it replicates").count() == 1, "{out}{err}");
}

/// Harm: three events at each try, four times a second, for as long as nobody noticed.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn an_account_that_may_not_promote_is_told_of_once() {
    let (cluster, proxy) = marked(|proxy| proxy).await;
    let revoke = match flavour() {
        Flavour::MariaDb => "REVOKE READ_ONLY ADMIN, REPLICATION SLAVE ADMIN ON *.* FROM sluice",
        Flavour::MySql => "REVOKE SYSTEM_VARIABLES_ADMIN, REPLICATION_SLAVE_ADMIN ON *.* FROM sluice",
    };
    cluster.server("db1").run(&[revoke]).await.unwrap();
    cluster.settle().await.unwrap();
    // A connection keeps the rights that it was opened with.
    for server in cluster.servers() {
        let ours = server.query("SELECT id FROM information_schema.processlist WHERE user = 'sluice'").await.unwrap();
        for row in &ours.rows {
            // It may have ended by itself.
            let _ = server.run(&[&format!("KILL {}", row[0])]).await;
        }
    }
    becomes(&proxy, "db1", "state", "online", Duration::from_secs(10)).await;
    cluster.server("db1").kill().unwrap();
    let tried = until_true("it was tried five times", Duration::from_secs(30), async || {
        Ok(proxy.metric("sluice_failovers_total", &["kind=\"failover\"", "result=\"failed\""]).await? >= 5.0)
    });
    tried.await.unwrap();
    let told = events(&proxy).await;
    let failed: Vec<&str> = told.lines().filter(|line| line.contains("promote took")).collect();
    assert!(failed.len() == 1 && failed[0].contains("1227"), "{told}");
    assert!(told.matches("fence took").count() <= 2 && told.matches("apply took").count() <= 2, "{told}");
}
