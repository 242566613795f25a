//! Whatever a client or a server sends, that connection gets an error or its end, and every other session goes on.

use std::time::{Duration, Instant};

use integration::fake_server::{FakeServer, OK, Step, greeting, packet};
use integration::link::{Link, Spoil};
use integration::proxy::Proxy;
use integration::raw::{RawClient, Reply};
use integration::wait::{until, until_true};
use mysql_async::prelude::Queryable;
use sluice::protocol::Capabilities;

use crate::world::{cluster, proxy, schema};

/// A well-behaved session that must not notice anything.
async fn others_go_on() {
    let mut conn = proxy().connect("shop").await.unwrap();
    assert_eq!(conn.query_first::<u32, _>("SELECT COUNT(*) FROM items").await.unwrap(), Some(100));
    proxy().check_running().unwrap();
}

#[tokio::test]
async fn a_raw_client_that_behaves_is_served() {
    let mut client = RawClient::login(proxy().port()).await.unwrap();
    assert!(matches!(client.query("SELECT 1").await.unwrap(), Reply::Packet(1, _)));
}

#[tokio::test]
async fn garbage_instead_of_a_login() {
    let login = RawClient::login_payload("nopass");
    let cut = |length: usize| packet(1, &login[..length]);
    for (what, bytes) in [
        ("an HTTP request", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
        ("an empty packet", packet(1, b"")),
        ("one byte", packet(1, &[0x8d])),
        ("capabilities only", cut(4)),
        ("cut before the user", cut(32)),
        ("cut in the user", cut(35)),
        ("no end of the user", packet(1, &[&login[..32], &[b'x'; 50][..]].concat())),
        ("a wrong sequence id", packet(77, &login)),
        ("a length of 16 MiB", vec![0xff, 0xff, 0xff, 1, 1, 2, 3]),
        ("a length no login has", [vec![0, 0, 0x40, 1], vec![b'x'; 0x40_0000]].concat()),
        ("an authentication answer longer than the packet", packet(1, &[&login[..39], &[0xfc, 0xff, 0xff][..]].concat())),
        ("zeros", vec![0; 4096]),
        ("ones", vec![0xff; 4096]),
    ] {
        let mut client = RawClient::dial(proxy().port()).await.unwrap();
        client.receive().await.unwrap();
        let _ = client.send_bytes(&bytes).await; // the peer may close while we still write
        let _ = client.finish().await;
        let reply = client.receive().await.unwrap_or_else(|error| panic!("{what}: {error:#}"));
        assert!(reply.is_refusal(), "{what}: {reply:?}");
    }
    others_go_on().await;
}

#[tokio::test]
async fn a_client_that_stalls_in_the_login_is_sent_away() {
    let start = Instant::now();
    let mut client = RawClient::dial(proxy().port()).await.unwrap();
    assert!(!client.receive().await.unwrap().is_refusal(), "the greeting");
    let reply = client.receive().await.unwrap();
    assert!(reply.is_refusal(), "{reply:?}");
    assert!((8..=14).contains(&start.elapsed().as_secs()), "after {:?}", start.elapsed());
}

#[tokio::test]
async fn malformed_commands() {
    for (what, sequence, payload) in [
        ("an empty command", 0, vec![]),
        ("an unknown command", 0, vec![0xee, 1, 2, 3]),
        ("a command a client may not send", 0, vec![0x0b]),
        ("a wrong sequence id", 9, b"\x03SELECT 1".to_vec()),
        ("EXECUTE of nothing", 0, vec![0x17]),
        ("EXECUTE of an unknown statement", 0, vec![0x17, 9, 9, 9, 9, 0, 1, 0, 0, 0]),
        ("FETCH of an unknown statement", 0, vec![0x1c, 9, 9, 9, 9, 1, 0, 0, 0]),
        ("RESET of half a number", 0, vec![0x1a, 1]),
        ("CHANGE_USER cut off", 0, vec![0x11, b'x']),
        ("SET_OPTION of nonsense", 0, vec![0x1b, 9, 9]),
        ("FIELD_LIST without an end", 0, vec![0x04, b'x']),
        ("a dump of the binlog", 0, vec![0x12, 4, 0, 0, 0, 0, 0, 9, 0, 0, 0]),
        ("a registration as a replica", 0, vec![0x15, 1]),
    ] {
        let mut client = RawClient::login(proxy().port()).await.unwrap();
        client.send(sequence, &payload).await.unwrap();
        let reply = client.receive().await.unwrap_or_else(|error| panic!("{what}: {error:#}"));
        assert!(reply.is_refusal(), "{what}: {reply:?}");
    }
    others_go_on().await;
}

#[tokio::test]
async fn malformed_executions_of_a_real_statement() {
    for (what, rest) in [
        ("no parameters", vec![0, 1, 0, 0, 0]),
        ("types cut off", vec![0, 1, 0, 0, 0, 0, 1, 0xfd]),
        (
            "a value longer than the packet",
            vec![0, 1, 0, 0, 0, 0, 1, 0xfd, 0, 0xfd, 0, 0xfe, 255, 255, 255, 255, 255, 255, 255, 255],
        ),
        ("an unknown type", vec![0, 1, 0, 0, 0, 0, 1, 0x7f, 0, 0x7f, 0, 1, 2, 3]),
    ] {
        let mut client = RawClient::login(proxy().port()).await.unwrap();
        client.send(0, b"\x16SELECT ?, ?").await.unwrap();
        let Reply::Packet(_, prepared) = client.receive().await.unwrap() else { panic!("closed") };
        assert_eq!(prepared[0], 0, "prepared");
        client.send(0, &[&[0x17][..], &prepared[1..5], &rest].concat()).await.unwrap();
        // the definitions of the preparation may still be on their way; what matters is that an answer or the end comes
        client.receive().await.unwrap_or_else(|error| panic!("{what}: {error:#}"));
    }
    others_go_on().await;
}

#[tokio::test]
async fn clients_that_leave_in_the_middle() {
    let schema = schema("bad_leave").await;
    let mut setup = proxy().connect(&schema).await.unwrap();
    setup.query_drop("CREATE TABLE t (id INT PRIMARY KEY)").await.unwrap();
    for round in 0..30 {
        let mut client = RawClient::login(proxy().port()).await.unwrap();
        match round % 5 {
            0 => client.send_bytes(&[100, 0, 0, 0, 3, b'S']).await.unwrap(),
            1 => client.send(0, b"\x03SELECT SLEEP(2)").await.unwrap(),
            2 => client.send(0, b"\x03SELECT a.* FROM shop.items a, shop.items b, shop.items c").await.unwrap(),
            3 => {
                client.query("BEGIN").await.unwrap();
                client.send(0, format!("\x03INSERT INTO {schema}.t VALUES (1)").as_bytes()).await.unwrap();
            }
            _ => client.send(0, b"\x16SELECT ?").await.unwrap(),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        drop(client);
    }
    let freed = integration::wait::until_true("their transactions are gone", Duration::from_secs(10), async || {
        let mut conn = proxy().connect(&schema).await?;
        conn.query_drop("SET innodb_lock_wait_timeout = 1").await?;
        Ok(conn.query_drop("INSERT INTO t VALUES (1)").await.is_ok())
    });
    freed.await.unwrap();
    others_go_on().await;
}

#[tokio::test]
async fn statements_built_to_exhaust_the_parser() {
    let nested = |open: &str, close: &str, depth: usize| format!("SELECT {}1{}", open.repeat(depth), close.repeat(depth));
    for sql in [
        format!("SELECT 1{}", "+1".repeat(100_000)),
        format!("SELECT {}1", "-".repeat(99_999)),
        format!("SELECT {}1", "NOT ".repeat(50_000)),
        nested("(", ")", 50_000),
        nested("(SELECT ", ")", 5_000),
        format!("SELECT '{}", "x".repeat(1 << 20)),
        format!("SELECT 1 {}", "/*".repeat(50_000)),
        format!("SELECT 1 IN ({}1)", "1,".repeat(200_000)),
        format!("SELECT 1{}", " UNION SELECT 1".repeat(3_000)),
    ] {
        let mut conn = proxy().connect("shop").await.unwrap();
        let work = tokio::time::timeout(Duration::from_secs(60), conn.query_drop(&sql));
        let _ = work.await.unwrap_or_else(|_| panic!("no answer to {sql:.40}…"));
        proxy().check_running().unwrap_or_else(|error| panic!("{sql:.40}…: {error}"));
    }
    others_go_on().await;
}

#[tokio::test]
async fn many_bad_clients_at_once_do_not_slow_a_good_one() {
    let bad: Vec<_> = (0..100)
        .map(|n: u8| {
            tokio::spawn(async move {
                let mut client = RawClient::dial(proxy().port()).await?;
                client.receive().await?;
                client.send_bytes(&[n; 200]).await?;
                client.receive().await
            })
        })
        .collect();
    let start = Instant::now();
    others_go_on().await;
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    for client in bad {
        let _ = client.await.unwrap();
    }
    assert!(proxy().metric("sluice_errors_total", &["source=\"client\""]).await.unwrap() > 0.0, "a counter rises");
}

#[tokio::test]
async fn servers_that_talk_nonsense() {
    let login = [Step::Send(greeting()), Step::Read, Step::Send(packet(2, OK))];
    let after_login = |step: Step| [&login[..], &[Step::Read, step]].concat();
    for (what, script) in [
        ("garbage", vec![Step::Send(vec![0xff; 64])]),
        ("an error instead of a greeting", vec![Step::Send(packet(0, b"\xff\x10\x04Too many connections"))]),
        ("a greeting cut off", vec![Step::Send(greeting()[..30].to_vec())]),
        ("silence", vec![Step::Hang]),
        ("a greeting, then silence", vec![Step::Send(greeting()), Step::Hang]),
        (
            "an unknown plugin",
            vec![Step::Send(greeting()), Step::Read, Step::Send(packet(2, b"\xfeno_such_plugin\0abc\0")), Step::Hang],
        ),
        ("nonsense after the login", after_login(Step::Send(vec![0xfe; 99]))),
        ("a result set without an end", after_login(Step::Send(packet(1, &[200])))),
        ("a column count beyond all limits", after_login(Step::Send(packet(1, &[0xfe, 255, 255, 255, 255, 255, 255, 255, 255])))),
        ("a wrong sequence id", after_login(Step::Send(packet(50, OK)))),
    ] {
        let fake = FakeServer::start(script).unwrap();
        let proxy =
            Proxy::before_address("db1", &fake.address()).set("failover.hold_timeout", "\"1s\"").start_unready().await.unwrap();
        let used = tokio::time::timeout(Duration::from_secs(20), async {
            let mut conn = proxy.connect("").await?;
            anyhow::Ok(conn.query_drop("SELECT 1").await?)
        });
        assert!(used.await.unwrap_or_else(|_| panic!("{what}: a client hangs")).is_err(), "{what}");
        assert!(fake.accepted() > 0, "{what}");
        assert_eq!(proxy.get("/healthz").await.unwrap().0, 200, "{what}");
        assert_eq!(proxy.get("/readyz").await.unwrap().0, 503, "{what}");
    }
}

/// Bug: what goes to a server first on a new connection had no limit of time, and nobody could end it: whoever wanted the connection waited
/// for as long as its server, which answered logins and no more, kept it.
#[tokio::test]
async fn a_server_that_is_silent_after_the_login() {
    use sluice::backend::connection::PoolKey;
    use sluice::backend::pool::{CheckoutError, PoolSettings, ServerPool, Wanted};
    use sluice::backend::{ConnectError, ServerTls};
    use std::sync::Arc;

    let fake = FakeServer::start(vec![Step::Send(greeting()), Step::Read, Step::Send(packet(2, OK)), Step::Hang]).unwrap();
    let pool = |connect_timeout| {
        let settings = PoolSettings { connect_timeout, ..PoolSettings::default() };
        ServerPool::new(
            sluice::topology::ServerId(0),
            "db1".into(),
            fake.address().parse().unwrap(),
            ServerTls::disabled(),
            None,
            1,
            settings,
        )
    };
    let key =
        Arc::new(PoolKey { user: "app".into(), generation: 0, capabilities: Capabilities::NONE, client: None, raw_collation: 0 });
    let (credential, fresh) = (Arc::new(sluice::auth::Credential::None), Arc::new(sluice::session::state::State::default()));
    let attributes: Arc<[_]> = [].into();
    let wanted = Wanted {
        key: &key,
        credential: &credential,
        collation: 45,
        state: &fresh,
        fresh: &fresh,
        attributes: &attributes,
        text: None,
    };
    let checkout = async |pool: &Arc<ServerPool>| {
        let got = tokio::time::timeout(Duration::from_secs(10), pool.checkout(wanted)).await.expect("an end in time");
        got.map(drop).expect_err("it has not answered")
    };
    let late = checkout(&pool(Duration::from_millis(300))).await;
    assert!(matches!(late, CheckoutError::Connect(ConnectError::Timeout { .. })), "{late}");
    let patient = pool(Duration::from_secs(100));
    let given_up = async {
        until_true("it is open", Duration::from_secs(5), async || Ok(patient.owns(7))).await.unwrap();
        patient.sever();
    };
    let (ended, ()) = tokio::join!(checkout(&patient), given_up);
    assert!(matches!(ended, CheckoutError::Setup(_)), "{ended}");
    assert_eq!(patient.counts().used, 0);
}

/// Whether its connection is found to be gone before a statement, as it is sent, or when nothing is answered: whoever had a transaction is told that it
/// was rolled back, and is in none. Once "before a statement was sent" was all that he was told when the connection was reset.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_whose_connection_is_lost_is_told_to_be_rolled_back() {
    let schema = schema("lost_transaction").await;
    cluster()
        .server("db1")
        .run(&[&format!("CREATE TABLE {schema}.t (n INT NOT NULL)"), &format!("INSERT INTO {schema}.t VALUES (0)")])
        .await
        .unwrap();
    let link = Link::to(&cluster().server("db1").address()).unwrap();
    let plain = Proxy::before_address("db1", &link.address()).every_server("tls", "{ mode = \"disabled\" }");
    let patient = plain.set("monitor.heartbeat_timeout", "\"30s\"").set("failover.mode", "\"off\"");
    let proxy = patient.start().await.unwrap();
    let begun = async || {
        let mut conn = proxy.connect(&schema).await?;
        conn.query_drop("BEGIN").await?;
        conn.query_drop("UPDATE t SET n = n + 1").await?;
        anyhow::Ok(conn)
    };
    for round in 0..40 {
        let mut conn = until("a client is served", Duration::from_secs(20), async || Ok(begun().await.ok())).await.unwrap();
        let lost = async {
            loop {
                // Of what is lost nothing must be found.
                if let Err(error) = conn.query_drop("UPDATE t SET n = n + 1").await {
                    return error.to_string();
                }
            }
        };
        let hang_up = async {
            tokio::time::sleep(Duration::from_micros(round * 150)).await;
            match round % 2 {
                0 => link.hang_up(),
                _ => link.reset(),
            }
        };
        let (error, ()) = tokio::join!(lost, hang_up);
        assert!(error.contains("rolled back"), "{round}: {error}");
        let left = until("it goes on", Duration::from_secs(20), async || {
            Ok(conn.query_first::<u8, _>("SELECT COUNT(*) FROM t WHERE n = 0").await.ok())
        });
        assert_eq!(left.await.unwrap(), Some(1), "{round}");
    }
}

/// A server's reply ends or turns into nonsense in the middle of a row, or of what comes before and behind the rows. That statement
/// fails with an error or its client's end, its connection is thrown away, and others that use the server at that moment go on.
#[tokio::test]
async fn a_reply_that_breaks_off_or_turns_to_nonsense() {
    let link = Link::to(&cluster().server("db1").address()).unwrap();
    let plain = Proxy::before_address("db1", &link.address()).every_server("tls", "{ mode = \"disabled\" }");
    // A machine that is too busy to answer heartbeats must not be taken for what is tried here.
    let patient = plain.set("monitor.heartbeat_timeout", "\"30s\"").set("failover.mode", "\"off\"");
    let proxy = patient.start().await.unwrap();
    let mut other = proxy.connect("shop").await.unwrap();
    other.query_drop("BEGIN").await.unwrap();
    other.query_drop("SELECT id FROM items WHERE id = 1 FOR UPDATE").await.unwrap();
    let closed = async || {
        let pools = proxy.admin("SHOW POOLS").await.unwrap();
        pools.column("closed").iter().map(|n| n.parse::<u64>().unwrap()).sum::<u64>()
    };
    // The marker is in no text of a statement, so that it shows in a reply only.
    let replies = [
        ("in the first row", "SELECT id, CONCAT('mar', 'ker'), REPEAT('x', 5000) FROM items"),
        ("in a definition", "SELECT 1 AS `marker`, 2"),
        ("behind the last row", "SELECT CONCAT('mar', 'ker')"),
        ("in a late row", "SELECT id, IF(id = 90, CONCAT('mar', 'ker'), ''), REPEAT('x', 5000) FROM items ORDER BY id"),
    ];
    for (what, sql) in replies {
        for spoil in [Spoil::Close, Spoil::Bytes(0xff), Spoil::Bytes(0xfe), Spoil::Bytes(0)] {
            let before = closed().await;
            let mut conn = proxy.connect("shop").await.unwrap();
            let whole: Vec<mysql_async::Row> = conn.query(sql).await.unwrap();
            link.spoil(b"marker", spoil);
            let spoiled = tokio::time::timeout(Duration::from_secs(20), conn.query::<mysql_async::Row, _>(sql));
            let spoiled = spoiled.await.unwrap_or_else(|_| panic!("{what}, {spoil:?}: the client hangs"));
            assert!(link.has_spoiled(), "{what}, {spoil:?}");
            // Of a read of which nothing has reached the client another server, or another connection, may have been asked.
            if let Ok(again) = spoiled {
                assert_ne!(what, "in a late row", "{spoil:?}: what was sent cannot be taken back");
                assert!(format!("{again:?}") == format!("{whole:?}"), "{what}, {spoil:?}: a reply that never was");
            }
            assert!(closed().await > before, "{what}, {spoil:?}: its connection is used again");
            assert_eq!(
                other.query_first::<u32, _>("SELECT 1 + 1").await.unwrap(),
                Some(2),
                "{what}, {spoil:?}: another's transaction"
            );
            let mut next = proxy.connect("shop").await.unwrap();
            assert_eq!(next.query_first::<u32, _>("SELECT COUNT(*) FROM items").await.unwrap(), Some(100));
            proxy.check_running().unwrap();
        }
    }
    other.query_drop("ROLLBACK").await.unwrap();
}

/// Bug: a client that stopped reading, or fell silent in the middle of a file, kept its server's connection for as long as it stayed.
#[tokio::test]
async fn clients_that_stand_still_are_closed() {
    use integration::wire::Wire;
    use sluice::protocol::reply::Expect;

    let schema = schema("bad_still").await;
    let mut setup = proxy().connect(&schema).await.unwrap();
    setup.query_drop("CREATE TABLE t (id INT)").await.unwrap();
    let closed = async |id: u32| {
        integration::wait::until_true("it is closed", Duration::from_secs(15), async || {
            Ok(proxy().admin("SHOW CLIENTS").await?.cell("id", &id.to_string(), "state").is_none())
        })
        .await
        .unwrap();
    };
    let mut silent = Wire::login(proxy().port(), crate::protocol::modern()).await.unwrap();
    silent.query("SET SESSION net_write_timeout = 1").await.unwrap();
    let long = "SELECT REPEAT('x', 1000000) FROM shop.items a, shop.items b LIMIT 200";
    let attributes: &[u8] = match silent.capabilities.has(sluice::protocol::Capabilities::QUERY_ATTRIBUTES) {
        true => &[0, 1],
        false => &[],
    };
    let query = |sql: &str| [&[3], attributes, sql.as_bytes()].concat();
    silent.send(&query(long)).await.unwrap();
    closed(silent.greeting.connection_id).await;

    let mut silent = Wire::login(proxy().port(), crate::protocol::modern()).await.unwrap();
    silent.query("SET SESSION net_read_timeout = 1").await.unwrap();
    silent.send(&query(&format!("LOAD DATA LOCAL INFILE 'x' INTO TABLE {schema}.t"))).await.unwrap();
    silent.reply(Expect::Query).await.unwrap();
    silent.send_more(&[&[6, 0, 0, 2][..], b"1\n2\n3\n"].concat()).await.unwrap();
    closed(silent.greeting.connection_id).await;
    others_go_on().await;
}

/// Bug: the end of a client was not seen behind what it had said before, and what it was running went on.
#[tokio::test]
async fn a_client_that_says_farewell_in_the_middle_of_a_statement_is_seen_to_go() {
    let mut client = RawClient::login(proxy().port()).await.unwrap();
    client.send(0, b"\x03/* farewell */ SELECT SLEEP(30) FROM shop.items WHERE id = 1").await.unwrap();
    let running = async || {
        let sql =
            "SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE '%farewell%' AND info NOT LIKE '%processlist%'";
        let mut count = 0;
        for server in cluster().servers() {
            count += server.value(sql).await?.parse::<u32>()?;
        }
        anyhow::Ok(count)
    };
    let limit = Duration::from_secs(10);
    integration::wait::until_true("it runs", limit, async || Ok(running().await? == 1)).await.unwrap();
    client.send(0, b"\x01").await.unwrap();
    integration::wait::until_true("it runs and nobody has seen the farewell", limit, async || Ok(running().await? == 1))
        .await
        .unwrap();
    drop(client);
    integration::wait::until_true("it is ended", limit, async || Ok(running().await? == 0)).await.unwrap();
}
