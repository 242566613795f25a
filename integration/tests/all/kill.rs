//! `KILL` by the numbers that clients see reaches the statement it is meant for, on whichever server, and no other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use integration::accounts::{APP, Account};
use integration::cluster::Cluster;
use integration::driver::{self, server_error};
use integration::flavour::Flavour;
use integration::proxy::Proxy;
use integration::raw::{RawClient, Reply};
use integration::server::Server;
use integration::wait;
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error};

use crate::world::{cluster, flavour, own, proxy, reads_on_a_replica, schema_on};

/// A read that runs until it is killed, if nobody stops it for ten seconds.
const LONG: &str = "SELECT SLEEP(10) FROM shop.items WHERE id = 1";

fn code(error: &Error) -> u16 {
    server_error(error).unwrap_or_else(|| panic!("not a server's error: {error:?}")).0
}

/// A killed `SLEEP` ends: MySQL's with a result, MariaDB's with an error.
fn interrupted(result: Result<Option<u32>, Error>) -> bool {
    match result {
        Ok(slept) => slept == Some(1),
        Err(error) => code(&error) == 1317,
    }
}

/// The number under which SHOW PROCESSLIST shows a client whose statement holds `text`.
async fn shown_as(conn: &mut Conn, text: &str) -> Option<u32> {
    let table = driver::table(conn, "SHOW FULL PROCESSLIST").await.unwrap();
    let ids = table.column("Id").into_iter().zip(table.column("Info"));
    ids.filter(|(_, info)| info.contains(text) && !info.contains("PROCESSLIST")).map(|(id, _)| id.parse().unwrap()).next()
}

#[tokio::test]
async fn greeting_connection_id_and_processlist_agree() {
    let mut conn = proxy().connect("shop").await.unwrap();
    let mut idle = proxy().connect("shop").await.unwrap();
    for _ in 0..3 {
        assert_eq!(conn.query_first::<u32, _>("SELECT CONNECTION_ID()").await.unwrap(), Some(conn.id()));
        let table = driver::table(&mut conn, "SHOW PROCESSLIST").await.unwrap();
        let mine = conn.id().to_string();
        assert_eq!(table.cell("Id", &mine, "Info"), Some("SHOW PROCESSLIST"), "{}", table.framed());
        assert_eq!(table.cell("Id", &mine, "db"), Some("shop"), "{}", table.framed());
        assert_eq!(table.cell("Id", &idle.id().to_string(), "Command"), Some("Sleep"), "{}", table.framed());
    }
    idle.query_drop("SELECT 1").await.unwrap();
    // The columns are the server's own.
    let mut direct = cluster().server("db1").connect(APP).await.unwrap();
    let columns = driver::table(&mut direct, "SHOW PROCESSLIST").await.unwrap().columns;
    assert_eq!(driver::table(&mut conn, "SHOW PROCESSLIST").await.unwrap().columns, columns);
}

/// A question to the server about its processes names a client by the number it was greeted with.
#[tokio::test]
async fn a_process_list_is_asked_about_a_client_by_its_number() {
    let mut busy = proxy().connect("shop").await.unwrap();
    let mut asks = proxy().connect("shop").await.unwrap();
    busy.query_drop("START TRANSACTION").await.unwrap();
    busy.query_drop("SELECT COUNT(*) FROM items WHERE id = 1 FOR UPDATE").await.unwrap();
    let question = format!("SELECT USER, COMMAND FROM information_schema.processlist WHERE ID = {}", busy.id());
    let row: Option<(String, String)> = asks.query_first(question).await.unwrap();
    assert_eq!(row, Some((APP.name.to_owned(), "Sleep".to_owned())));
    busy.query_drop("ROLLBACK").await.unwrap();
}

/// Clients are counted, however few connections serve them.
#[tokio::test]
async fn threads_connected_counts_clients() {
    let mut clients = Vec::new();
    for _ in 0..150 {
        clients.push(proxy().connect("shop").await.unwrap());
    }
    let mut direct = cluster().server("db1").connect(APP).await.unwrap();
    let mut counts = Vec::new();
    for conn in [&mut direct, clients.first_mut().unwrap()] {
        let told = driver::table(conn, "SHOW GLOBAL STATUS LIKE 'Threads_connected'").await.unwrap();
        assert_eq!(told.columns, ["Variable_name", "Value"]);
        counts.push(told.cell("Variable_name", "Threads_connected", "Value").unwrap().parse::<u64>().unwrap());
    }
    let ours = proxy().admin("SHOW SERVERS").await.unwrap();
    assert!(counts[1] >= 150, "{counts:?} {}", ours.framed());
}

#[tokio::test]
async fn a_statement_is_killed_by_each_of_its_numbers() {
    let mut killer = proxy().connect("shop").await.unwrap();
    for (round, pinned) in [(0, false), (1, false), (2, true), (3, false), (4, false), (5, false), (6, true)] {
        let mut victim = proxy().connect("shop").await.unwrap();
        if pinned {
            victim.query_drop("START TRANSACTION").await.unwrap();
        }
        let id = victim.id();
        let text = format!("/* victim {round} {id} */ {LONG}");
        let started = Instant::now();
        let mark = format!("victim {round} {id}");
        let running = tokio::spawn(async move { (victim.query_first::<u32, _>(text).await, victim) });
        let killer = &mut killer;
        let seen =
            wait::until("the statement is in the process list", Duration::from_secs(5), async || Ok(shown_as(killer, &mark).await));
        assert_eq!(seen.await.unwrap(), id, "the process list shows the client's number");
        match round {
            // MySQL's server has no parameter here.
            1 if flavour() == Flavour::MariaDb => {
                let prepared = killer.prep("KILL QUERY ?").await.unwrap();
                killer.exec_drop(&prepared, (id,)).await.unwrap();
            }
            3 => killer.query_drop(format!("/* tool */ kill query {id};")).await.unwrap(),
            4 => killer.exec_drop(format!("KILL QUERY {id}"), ()).await.unwrap(),
            5 => {
                killer.query_drop(format!("SET @victim = {id}")).await.unwrap();
                killer.query_drop("KILL QUERY @victim").await.unwrap();
            }
            6 => killer.query_drop(format!("KILL QUERY {} + 1", id - 1)).await.unwrap(),
            _ => killer.query_drop(format!("KILL QUERY {id}")).await.unwrap(),
        }
        let (result, mut victim) = running.await.unwrap();
        assert!(interrupted(result), "round {round}");
        assert!(started.elapsed() < Duration::from_secs(8), "round {round}");
        assert_eq!(victim.query_first::<u32, _>("SELECT 7").await.unwrap(), Some(7), "the session goes on");
    }
}

#[tokio::test]
async fn a_killed_client_is_closed_and_so_is_its_statement() {
    let mut killer = proxy().connect("shop").await.unwrap();
    let mut victim = proxy().connect("shop").await.unwrap();
    let id = victim.id();
    let mark = format!("closed with {id}");
    let text = format!("/* {mark} */ {LONG}");
    let running = tokio::spawn(async move { (victim.query_first::<u32, _>(text).await, victim) });
    wait::until_true("it runs", Duration::from_secs(5), async || Ok(shown_as(&mut killer, &mark).await == Some(id))).await.unwrap();
    killer.query_drop(format!("KILL {id}")).await.unwrap();
    let (result, mut victim) = running.await.unwrap();
    assert!(server_error(&result.unwrap_err()).is_none(), "as at a server, the connection just ends");
    assert!(victim.query_drop("SELECT 1").await.is_err());
    gone_from_the_servers(&mark).await;
    // An idle one, by COM_PROCESS_KILL.
    let mut idle = proxy().connect("shop").await.unwrap();
    let mut raw = RawClient::login(proxy().port()).await.unwrap();
    let refused = raw_kill(&mut raw, idle.id()).await;
    assert_eq!(refused.error().map(|e| e.0), Some(1095), "not one's own");
    idle.query_drop("SELECT 1").await.unwrap();
    killer.query_drop(format!("KILL CONNECTION {}", idle.id())).await.unwrap();
    assert!(idle.query_drop("SELECT 1").await.is_err());
    // Oneself.
    let own = killer.id();
    let error = killer.query_drop(format!("KILL QUERY {own}")).await.unwrap_err();
    assert_eq!(code(&error), 1317);
    let error = killer.query_drop(format!("KILL {own}")).await.unwrap_err();
    assert_eq!(code(&error), if flavour() == Flavour::MariaDb { 1927 } else { 1317 });
    assert!(killer.query_drop("SELECT 1").await.is_err());
}

#[tokio::test]
async fn kills_at_the_head_of_several_statements() {
    let mut killer = proxy().connect("shop").await.unwrap();
    let mut victims = [proxy().connect("shop").await.unwrap(), proxy().connect("shop").await.unwrap()];
    let [first, second] = [victims[0].id(), victims[1].id()];
    let mut replies = killer.query_iter(format!("KILL {first}; kill connection {second} ; SELECT 7")).await.unwrap();
    assert!(replies.collect::<u32>().await.unwrap().is_empty());
    assert!(replies.collect::<u32>().await.unwrap().is_empty());
    assert_eq!(replies.collect::<u32>().await.unwrap(), [7]);
    assert!(replies.is_empty(), "no more replies than statements");
    drop(replies);
    for victim in &mut victims {
        assert!(victim.query_drop("SELECT 1").await.is_err());
    }
    let error = killer.query_drop(format!("KILL {first}; SELECT 7")).await.unwrap_err();
    assert_eq!(code(&error), 1094, "it is gone");
    assert_eq!(killer.query_first::<u32, _>("SELECT 7").await.unwrap(), Some(7));
    // A word of MariaDB's; to MySQL it is a mistake, and nobody is killed.
    let mut victim = proxy().connect("shop").await.unwrap();
    let result = killer.query_drop(format!("KILL HARD {}; SELECT 7", victim.id())).await;
    let lives = victim.query_drop("SELECT 1").await.is_ok();
    match flavour() {
        Flavour::MariaDb => assert!(result.is_ok() && !lives, "{result:?}"),
        Flavour::MySql => assert!(code(&result.unwrap_err()) == 1064 && lives),
    }
}

async fn raw_kill(raw: &mut RawClient, id: u32) -> Reply {
    raw.send(0, &[&[0x0c], &id.to_le_bytes()[..]].concat()).await.unwrap();
    raw.receive().await.unwrap()
}

/// Waits until no server runs a statement with this text any more.
async fn gone_from_the_servers(mark: &str) {
    for server in cluster().servers() {
        wait::until_true("the statement is gone", Duration::from_secs(5), async || {
            let sql = format!(
                "SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE '%{mark}%' AND info NOT LIKE '%processlist%'"
            );
            Ok(server.value(&sql).await? == "0")
        })
        .await
        .unwrap();
    }
}

#[tokio::test]
async fn what_a_client_that_left_was_running_is_ended() {
    for (round, sql) in ["SELECT SLEEP(30)", "SELECT SLEEP(30) FROM shop.items WHERE id = 1 FOR UPDATE"].into_iter().enumerate() {
        let mut raw = RawClient::login(proxy().port()).await.unwrap();
        let mark = format!("left alone {round}");
        raw.send(0, &[&[3], format!("/* {mark} */ {sql}").as_bytes()].concat()).await.unwrap();
        let running = async || {
            let sql = format!(
                "SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE '%{mark}%' AND info NOT LIKE '%processlist%'"
            );
            let mut count = 0;
            for server in cluster().servers() {
                count += server.value(&sql).await?.parse::<u32>()?;
            }
            Ok(count == 1)
        };
        wait::until_true("it runs", Duration::from_secs(5), running).await.unwrap();
        drop(raw);
        gone_from_the_servers(&mark).await;
    }
}

/// One client is killed again and again at the moments when its statements end; nobody else must feel it.
#[tokio::test]
async fn a_late_kill_hits_nobody_else() {
    let proxy = Proxy::before(cluster()).every_server("max_connections", "2").start().await.unwrap();
    let (over, ran, kills) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)), AtomicU64::new(0));
    let mut bystanders = Vec::new();
    for n in 0..6 {
        let mut conn = proxy.connect("shop").await.unwrap();
        let (over, ran) = (over.clone(), ran.clone());
        bystanders.push(tokio::spawn(async move {
            while !over.load(Ordering::Relaxed) {
                let slept: Option<u32> =
                    conn.query_first("SELECT SLEEP(0.004)").await.unwrap_or_else(|e| panic!("bystander {n}: {e}"));
                assert_eq!(slept, Some(0), "bystander {n} was interrupted");
                ran.fetch_add(1, Ordering::Relaxed);
            }
        }));
    }
    let mut victim = proxy.connect("shop").await.unwrap();
    let mut killer = proxy.connect("shop").await.unwrap();
    let id = victim.id();
    let ended = over.clone();
    let killing = tokio::spawn(async move {
        let mut hits = 0;
        while !ended.load(Ordering::Relaxed) {
            let result: Result<Option<u32>, Error> = victim.query_first("SELECT SLEEP(0.003)").await;
            match result {
                Ok(slept) => hits += u32::from(slept == Some(1)),
                Err(error) => {
                    assert_eq!(code(&error), 1317, "{error}");
                    hits += 1;
                }
            }
        }
        hits
    });
    let until = Instant::now() + Duration::from_secs(4);
    while Instant::now() < until {
        killer.query_drop(format!("KILL QUERY {id}")).await.unwrap();
        kills.fetch_add(1, Ordering::Relaxed);
    }
    over.store(true, Ordering::Relaxed);
    let hits = killing.await.unwrap();
    for bystander in bystanders {
        bystander.await.expect("a bystander was disturbed");
    }
    assert!(hits > 0, "of {kills:?} kills none hit its victim");
    assert!(ran.load(Ordering::Relaxed) > 100);
}

#[tokio::test]
async fn who_may_kill_others_is_the_servers_to_say() {
    let mut root = cluster().server("db1").root().await.unwrap();
    let right = if flavour() == Flavour::MariaDb { "CONNECTION ADMIN" } else { "CONNECTION_ADMIN" };
    let (plain, strong) = (Account { name: "t_plain", password: "p" }, Account { name: "t_strong", password: "p" });
    for account in [plain, strong] {
        root.query_drop(format!("CREATE USER IF NOT EXISTS {}@'%' IDENTIFIED BY 'p'", account.name)).await.unwrap();
    }
    root.query_drop(format!("GRANT PROCESS, {right} ON *.* TO t_strong")).await.unwrap();
    cluster().settle().await.unwrap();
    let mut plain = proxy().connect_with(proxy().options(plain)).await.unwrap();
    let mut strong = proxy().connect_with(proxy().options(strong)).await.unwrap();
    for active in [true, false] {
        let mut victim = proxy().connect("shop").await.unwrap();
        let id = victim.id();
        let mark = format!("guarded {active} {id}");
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let text = format!("/* {mark} */ {LONG}");
        let running = tokio::spawn(async move {
            let result = if active { victim.query_first::<u32, _>(text).await } else { Ok(Some(1)) };
            let _ = stopped.await;
            (result, victim)
        });
        if active {
            wait::until_true("it runs", Duration::from_secs(5), async || Ok(shown_as(&mut strong, &mark).await == Some(id)))
                .await
                .unwrap();
            assert_eq!(shown_as(&mut plain, &mark).await, None, "without PROCESS one sees one's own");
        }
        for what in ["KILL QUERY", "KILL"] {
            let error = plain.query_drop(format!("{what} {id}")).await.unwrap_err();
            let told = server_error(&error).unwrap();
            assert_eq!((told.0, told.2.as_str()), (1095, format!("You are not owner of thread {id}").as_str()));
        }
        strong.query_drop(format!("KILL QUERY {id}")).await.unwrap();
        stop.send(()).unwrap();
        let (result, mut victim) = running.await.unwrap();
        assert!(interrupted(result));
        victim.query_drop("SELECT 1").await.unwrap();
        strong.query_drop(format!("KILL {id}")).await.unwrap();
        assert!(victim.query_drop("SELECT 1").await.is_err());
    }
}

#[tokio::test]
async fn a_connection_of_the_server_that_is_not_sluices_is_killed_by_the_servers_number() {
    let mut killer = proxy().connect("shop").await.unwrap();
    let mut direct = cluster().server("db1").connect(APP).await.unwrap();
    direct.query_drop("SELECT 1").await.unwrap();
    let id = direct.id();
    let table = driver::table(&mut killer, "SHOW PROCESSLIST").await.unwrap();
    assert_eq!(table.cell("Id", &id.to_string(), "User"), Some("app"), "{}", table.framed());
    killer.query_drop(format!("KILL {id}")).await.unwrap();
    assert!(direct.query_drop("SELECT 1").await.is_err());
    for (sql, expected) in [("KILL 1000000000", 1094), ("KILL 0", 1094), ("KILL 'x'", 1094)] {
        assert_eq!(code(&killer.query_drop(sql).await.unwrap_err()), expected, "{sql}");
    }
}

#[tokio::test]
async fn a_statement_that_waits_for_a_connection_is_killed_too() {
    let proxy = Proxy::before(cluster()).every_server("max_connections", "1").start().await.unwrap();
    let mut holder = proxy.connect("shop").await.unwrap();
    holder.query_drop("START TRANSACTION").await.unwrap();
    holder.query_drop("SELECT * FROM items WHERE id = 1 FOR UPDATE").await.unwrap();
    let mut waiter = proxy.connect("shop").await.unwrap();
    let id = waiter.id();
    let waiting = tokio::spawn(async move { (waiter.query_drop("SELECT * FROM items WHERE id = 2 FOR UPDATE").await, waiter) });
    wait::until_true("it waits", Duration::from_secs(5), async || {
        Ok(proxy.admin("SHOW CLIENTS").await?.cell("id", &id.to_string(), "state") == Some("waiting"))
    })
    .await
    .unwrap();
    let started = Instant::now();
    holder.query_drop(format!("KILL QUERY {id}")).await.unwrap();
    let (result, mut waiter) = waiting.await.unwrap();
    assert_eq!(code(&result.unwrap_err()), 1317);
    assert!(started.elapsed() < Duration::from_secs(3));
    holder.query_drop("COMMIT").await.unwrap();
    waiter.query_drop("SELECT 1").await.unwrap();
}

#[tokio::test]
async fn kill_user_ends_all_of_a_user() {
    if flavour() != Flavour::MariaDb {
        // MySQL has no such statement, and says so itself.
        let mut conn = proxy().connect("shop").await.unwrap();
        assert_eq!(code(&conn.query_drop("KILL USER app").await.unwrap_err()), 1064);
        return;
    }
    let crowd = Account { name: "t_crowd", password: "p" };
    cluster().server("db1").run(&["CREATE USER IF NOT EXISTS t_crowd@'%' IDENTIFIED BY 'p'"]).await.unwrap();
    cluster().settle().await.unwrap();
    let mut all = Vec::new();
    for _ in 0..3 {
        all.push(proxy().connect_with(proxy().options(crowd)).await.unwrap());
    }
    let mut other = proxy().connect("shop").await.unwrap();
    let _ = other.query_drop("KILL USER t_crowd").await;
    for conn in &mut all {
        conn.query_drop("SELECT 1").await.expect("somebody without the right kills nobody");
    }
    let error = all[0].query_drop("KILL USER t_crowd").await.unwrap_err();
    assert_eq!(code(&error), 1927);
    for conn in &mut all {
        assert!(conn.query_drop("SELECT 1").await.is_err());
    }
    other.query_drop("SELECT 1").await.unwrap();
}

/// Where statements with this text run: the server and its number for the connection.
async fn running(mark: &str) -> Vec<(&'static Server, u64)> {
    let sql = format!("SELECT id FROM information_schema.processlist WHERE info LIKE '%{mark}%' AND info NOT LIKE '%processlist%'");
    let mut found = Vec::new();
    for server in cluster().servers() {
        let ids = server.query(&sql).await.unwrap();
        found.extend(ids.rows.iter().map(|row| (server, row[0].parse().unwrap())));
    }
    found
}

/// A view that takes so many seconds to read, on all servers. `SLEEP` in a statement itself would send it to the master.
async fn slow(cluster: &Cluster, name: &str, seconds: u32) -> String {
    let schema = schema_on(cluster, name).await;
    cluster.server("db1").run(&[&format!("CREATE VIEW {schema}.slow AS SELECT SLEEP({seconds}) AS slept")]).await.unwrap();
    cluster.settle().await.unwrap();
    format!("SELECT slept FROM {schema}.slow")
}

/// Bug: a read that was killed at its server was begun again on each of the others.
#[tokio::test]
async fn a_read_that_is_killed_at_its_server_does_not_run_on_all_of_them() {
    let read = slow(cluster(), "kill_read", 30).await;
    let mut victim = proxy().connect("shop").await.unwrap();
    let mark = format!("runaway {}", victim.id());
    let text = format!("/* {mark} */ {read}");
    let mut reading = tokio::spawn(async move { (victim.query_first::<u32, _>(text).await, victim) });
    let (mut killed, started) = (Vec::new(), Instant::now());
    let (result, mut victim) = loop {
        assert!(started.elapsed() < Duration::from_secs(20), "killed on {killed:?}");
        match tokio::time::timeout(Duration::from_millis(300), &mut reading).await {
            Ok(ended) => break ended.unwrap(),
            Err(_) => {
                for (server, id) in running(&mark).await {
                    if server.run(&[&format!("KILL {id}")]).await.is_ok() {
                        killed.push(server.name());
                    }
                }
            }
        }
    };
    assert!(result.is_err(), "{result:?}");
    // MariaDB says that it was killed. Of a server that says nothing it is not known, and the read is tried once more.
    assert!(killed.len() <= 2, "killed on {killed:?}: {result:?}");
    assert_ne!(killed[0], "db1", "a read");
    victim.query_drop("SELECT 1").await.unwrap();
}

/// Bug: a server's number killed the client that used the connection with this number on another server than the master, and of one that
/// was idle on another server it was said that there is none.
#[tokio::test]
async fn a_servers_number_is_first_the_masters() {
    let (cluster, proxy) = own(|proxy| proxy).await;
    reads_on_a_replica(&mut proxy.connect("shop").await.unwrap()).await;
    let (master, others): (Vec<&Server>, Vec<&Server>) = cluster.servers().iter().partition(|server| server.name() == "db1");
    let number = async || u64::from(master[0].connect(APP).await.unwrap().id());
    // The others are to have given more numbers than the master, each to another height.
    let mut ahead = number().await + 30;
    for server in &others {
        ahead += 20;
        while u64::from(server.connect(APP).await.unwrap().id()) < ahead {}
    }
    let read = format!("/* elsewhere */ {}", slow(&cluster, "kill_number", 10).await);
    let mut busy = Vec::new();
    for _ in 0..12 {
        let (mut conn, read) = (proxy.connect("shop").await.unwrap(), read.clone());
        busy.push(tokio::spawn(async move { conn.query_first::<u32, _>(read).await }));
    }
    let numbers = wait::until("they run", Duration::from_secs(5), async || {
        let sql = "SELECT id FROM information_schema.processlist WHERE info LIKE '%elsewhere%' AND info NOT LIKE '%processlist%'";
        let mut numbers = Vec::new();
        for server in &others {
            numbers.extend(server.query(sql).await?.rows.into_iter().map(|row| row[0].parse::<u64>().unwrap()));
        }
        Ok((numbers.len() == 12).then_some(numbers))
    });
    let numbers = numbers.await.unwrap();
    let mut killer = proxy.connect("shop").await.unwrap();
    killer.query_drop("DO 1").await.unwrap();
    // A connection of the master that is not Sluice's, with the number of one that a client uses elsewhere.
    let (id, mut victim) = loop {
        let conn = master[0].connect(APP).await.unwrap();
        let id = u64::from(conn.id());
        assert!(numbers.iter().any(|other| *other >= id), "{id} is beyond {numbers:?}");
        if numbers.iter().filter(|other| **other == id).count() == 1 {
            break (id, conn);
        }
    };
    killer.query_drop(format!("KILL {id}")).await.unwrap();
    assert!(victim.query_drop("SELECT 1").await.is_err(), "the master's connection {id} is killed");
    // Now the master has none with this number.
    killer.query_drop(format!("KILL QUERY {id}")).await.unwrap();
    let mut ended = 0;
    for busy in busy {
        ended += usize::from(interrupted(busy.await.unwrap()));
    }
    assert_eq!(ended, 1, "the second KILL ended one statement, the first none");
}
