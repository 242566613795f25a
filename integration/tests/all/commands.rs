//! Long commands and replies stream, several results and cursors are the servers', and no command byte in any state does harm.

use std::time::Duration;

use integration::cluster::Cluster;
use integration::flavour::Flavour;
use integration::proxy::Proxy;
use integration::raw::{RawClient, Reply};
use integration::wire::{Seen, Wire};
use mysql_async::prelude::Queryable;
use sluice::protocol::Capabilities;
use sluice::protocol::reply::{Expect, ReplyTracker};

use crate::world::{WHERE_AM_I, cluster, flavour, own, proxy, schema, schema_on};

/// What a client of today asks for.
const MODERN: Capabilities = Capabilities::DEPRECATE_EOF
    .with(Capabilities::MULTI_STATEMENTS)
    .with(Capabilities::MULTI_RESULTS)
    .with(Capabilities::PS_MULTI_RESULTS)
    .with(Capabilities::LOCAL_FILES);

async fn both(wanted: Capabilities, schema: &str) -> (Wire, Wire) {
    both_at(proxy(), cluster(), wanted, schema).await
}

async fn both_at(proxy: &Proxy, cluster: &Cluster, wanted: Capabilities, schema: &str) -> (Wire, Wire) {
    let mut through = Wire::login(proxy.port(), wanted).await.unwrap();
    let mut direct = Wire::login(cluster.server("db1").port(), wanted).await.unwrap();
    for wire in [&mut through, &mut direct] {
        wire.query(&format!("USE {schema}")).await.unwrap();
    }
    (through, direct)
}

/// Sends the same to both; each may name its own statement.
async fn alike(through: &mut Wire, direct: &mut Wire, what: &str, command: impl Fn(u32) -> Vec<u8>, expect: Expect) -> Vec<Seen> {
    let expected = direct.ask(&command(direct.statement), expect).await.unwrap_or_else(|e| panic!("{what}, at the server: {e:#}"));
    let seen = through.ask(&command(through.statement), expect).await.unwrap_or_else(|e| panic!("{what}: {e:#}"));
    assert!(seen == expected, "{what}\nthrough Sluice {seen:?}\nat the server {expected:?}");
    seen
}

fn text(sql: &str) -> impl Fn(u32) -> Vec<u8> {
    let command = [b"\x03", sql.as_bytes()].concat();
    move |_| command.clone()
}

fn execute(flags: u8, rest: &[u8]) -> impl Fn(u32) -> Vec<u8> {
    let rest = rest.to_vec();
    move |id| [&[0x17][..], &id.to_le_bytes(), &[flags, 1, 0, 0, 0], &rest].concat()
}

/// A figure of the proxy's memory from `/proc`, in KiB.
fn memory_kib(proxy: &Proxy, what: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", proxy.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with(what)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

async fn where_am_i(wire: &mut Wire) -> String {
    format!("{:?}", wire.query(WHERE_AM_I).await.unwrap()[2])
}

#[tokio::test]
async fn long_commands_stream() {
    // What is written here keeps replicas busy for a while.
    let (cluster, proxy) = own(|proxy| proxy).await;
    let schema = schema_on(&cluster, "commands_long").await;
    let (mut through, mut direct) = both_at(&proxy, &cluster, MODERN, &schema).await;
    direct.query("CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, data LONGTEXT, more INT)").await.unwrap();
    cluster.settle().await.unwrap();
    let before = memory_kib(&proxy, "VmHWM");
    let long = "it''s; @a := ".repeat(40 << 20 >> 3).split_at(40 << 20).0.trim_end_matches(['\'', 't', 'i']).to_owned();
    for (what, sql, stays) in [
        ("one value", format!("INSERT INTO t (data) VALUES ('{long}')"), false),
        ("many values", format!("INSERT INTO t (more) VALUES (1){}", ", (2)".repeat(250_000)), false),
        ("a variable", format!("INSERT INTO t (data) VALUES ('{long}'), (@kept := 7)"), true),
        ("a read", format!("SELECT COUNT(*) FROM t WHERE id IN (1{})", ", 2".repeat(500_000)), false),
        ("an error at the end", format!("INSERT INTO t (data) VALUES ('{long}') nonsense"), false),
    ] {
        let (mut through, _) = both_at(&proxy, &cluster, MODERN, &schema).await;
        let seen = through.query(&sql).await.unwrap();
        let failed = matches!(seen.last(), Some(Seen::Err(..)));
        assert_eq!(failed, what == "an error at the end", "{what}: {:?}", seen.last());
        // A session that keeps its connection stays on the master, also when the replicas have what it wrote. Others leave it as
        // soon as a heartbeat has seen that the replicas are there again.
        cluster.settle().await.unwrap();
        if !stays {
            let leaves = integration::wait::until_true("the session reads from a replica", Duration::from_secs(30), async || {
                Ok(where_am_i(&mut through).await != "\"\\x011\"")
            });
            if let Err(error) = leaves.await {
                let servers = proxy.admin("SHOW SERVERS").await;
                panic!("{what}: {error:#}; {servers:?}; {:?}", proxy.admin("SHOW EVENTS").await);
            }
        } else {
            assert_eq!(where_am_i(&mut through).await, "\"\\x011\"", "{what}");
            assert_eq!(format!("{:?}", through.query("SELECT @kept").await.unwrap()[2]), "\"\\x017\"");
        }
    }
    let grown = memory_kib(&proxy, "VmHWM").saturating_sub(before);
    assert!(grown < 60 << 10, "five long statements cost {grown} KiB");
    let count = direct.query("SELECT COUNT(*), MAX(LENGTH(data)) > 30000000 FROM t").await.unwrap();
    assert_eq!(format!("{:?}", count[3]), "\"\\x06250004\\x011\"");

    // Longer than the server takes: its own error, and the session goes on.
    let limit = direct.query("SELECT @@max_allowed_packet").await.unwrap();
    let Seen::Bytes(limit) = &limit[2] else { panic!("{limit:?}") };
    let limit: usize = std::str::from_utf8(&limit[1..]).unwrap().parse().unwrap();
    let seen = through.query(&format!("SELECT LENGTH('{}')", "x".repeat(limit))).await.unwrap();
    assert!(matches!(&seen[..], [Seen::Err(1153, ..)]), "{seen:?}");
    assert!(matches!(through.query("SELECT 1").await.unwrap().last(), Some(Seen::Ok(..))));
}

#[tokio::test]
async fn long_parameters_stream() {
    let schema = schema("commands_params").await;
    let (mut through, mut direct) = both(MODERN, &schema).await;
    for wire in [&mut through, &mut direct] {
        wire.prepare("SELECT LENGTH(?), UPPER(?)").await.unwrap();
    }
    let value: Vec<u8> = (0..20u32 << 20).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let lenenc = [&[0xfd][..], &(value.len() as u32).to_le_bytes()[..3], &value].concat();
    let lenenc = if value.len() < 1 << 24 { lenenc } else { [&[0xfe][..], &(value.len() as u64).to_le_bytes(), &value].concat() };
    let typed = [b"\0\x01\xfc\0\xfc\0", &lenenc[..], b"\x01x"].concat();
    let untyped = [b"\0\0", &lenenc[..], b"\x01x"].concat();
    alike(&mut through, &mut direct, "types sent", execute(0, &typed), Expect::Execute).await;
    alike(&mut through, &mut direct, "types remembered", execute(0, &untyped), Expect::Execute).await;
    // Long data, in pieces of which one is longer than a packet.
    for wire in [&mut through, &mut direct] {
        let piece = |data: &[u8]| [&[0x18][..], &wire.statement.to_le_bytes(), &[0, 0], data].concat();
        let (first, second) = (piece(b"begin"), piece(&value));
        wire.send(&first).await.unwrap();
        wire.send(&second).await.unwrap();
    }
    let rest = b"\0\x01\xfc\0\xfc\0\x01x";
    let seen = alike(&mut through, &mut direct, "long data", execute(0, rest), Expect::Execute).await;
    assert!(!matches!(seen.last(), Some(Seen::Err(..))), "{seen:?}");
    alike(&mut through, &mut direct, "afterwards", text("SELECT 1"), Expect::Query).await;
}

#[tokio::test]
async fn long_rows_stream_to_clients_that_read_slowly() {
    let before = memory_kib(proxy(), "VmRSS");
    let mut clients = Vec::new();
    for _ in 0..12 {
        let mut client = RawClient::login(proxy().port()).await.unwrap();
        client.send(0, b"\x03SELECT REPEAT('x', 60000000)").await.unwrap();
        clients.push(client);
    }
    // Nobody reads: what the servers have ready must not pile up here.
    tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
    let grown = memory_kib(proxy(), "VmRSS").saturating_sub(before);
    assert!(grown < 40 << 10, "twelve rows of 57 MiB that nobody reads cost {grown} KiB");
}

/// Two hundred clients ask for a row of 4 MiB each and take their time; sixteen connections bring them. (How long a row is makes
/// no difference to what is kept of it: `long_rows_stream_to_clients_that_read_slowly` has longer ones.)
#[tokio::test]
async fn two_hundred_clients_read_long_rows() {
    const ROW: usize = 4_000_000;
    let proxy = Proxy::before(cluster()).every_server("max_connections", "4").set("pool.checkout_timeout", "\"100s\"");
    let proxy = std::sync::Arc::new(proxy.start().await.unwrap());
    let before = memory_kib(&proxy, "VmRSS");
    let clients: Vec<_> = (0..200)
        .map(|_| {
            let port = proxy.port();
            tokio::spawn(async move {
                let mut client = RawClient::login(port).await.unwrap();
                client.send(0, format!("\x03SELECT REPEAT('x', {ROW})").as_bytes()).await.unwrap();
                let mut read = 0;
                while read < ROW {
                    read += client.receive_some(64 << 10).await.unwrap();
                    tokio::time::sleep(std::time::Duration::from_millis(1)).await;
                }
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }
    let grown = memory_kib(&proxy, "VmHWM").saturating_sub(before);
    assert!(grown < 60 << 10, "two hundred clients cost {grown} KiB at most");
    println!("two hundred clients that read rows of 4 MiB: {grown} KiB");
}

/// Bug: the answer that a server gave before it had all of a command of several packets was numbered as if the client had sent no more either.
#[tokio::test]
async fn an_early_answer_is_numbered_behind_the_command() {
    use integration::raw::Reply;
    use sluice::protocol::frame::put_packet;

    let mut command = bytes::BytesMut::new();
    // Longer than the servers' max_allowed_packet.
    put_packet(&mut command, 0, &[b"\x03SELECT '", &vec![b'x'; 90 << 20][..], b"'"].concat());
    let mut client = RawClient::login(proxy().port()).await.unwrap();
    client.send_bytes(&command).await.unwrap();
    let reply = client.receive().await.unwrap();
    // Six packets, from 0 to 5.
    assert!(matches!(reply, Reply::Packet(6, _)) && reply.error().is_some_and(|(errno, _)| errno == 1153), "{reply:?}");
    assert!(matches!(client.query("SELECT 1").await.unwrap(), Reply::Packet(1, _)));
}

/// Bug: a header that announced a command of 16 MiB had Sluice make room for all of it, and wait for as long as its client liked.
#[tokio::test]
async fn a_command_that_does_not_come_costs_nothing_and_has_an_end() {
    let proxy = Proxy::before(cluster()).start().await.unwrap();
    let mut clients = Vec::new();
    for _ in 0..20 {
        let mut client = RawClient::login(proxy.port()).await.unwrap();
        client.query("SET SESSION net_read_timeout = 1").await.unwrap();
        clients.push(client);
    }
    let before = memory_kib(&proxy, "VmHWM");
    for client in &mut clients {
        // COM_STMT_PREPARE, which is read whole.
        client.send_bytes(b"\0\0\xf0\0\x16SELECT").await.unwrap();
    }
    for client in &mut clients {
        assert_eq!(client.receive().await.unwrap(), integration::raw::Reply::Closed);
    }
    let grown = memory_kib(&proxy, "VmHWM").saturating_sub(before);
    assert!(grown < 40 << 10, "twenty headers cost {grown} KiB");
}

#[tokio::test]
async fn several_results_cursors_and_out_parameters() {
    let schema = schema("commands_results").await;
    for wanted in [MODERN, MODERN - Capabilities::DEPRECATE_EOF] {
        let (mut through, mut direct) = both(wanted, &schema).await;
        for sql in [
            "DROP PROCEDURE IF EXISTS many",
            "DROP PROCEDURE IF EXISTS outs",
            "DROP PROCEDURE IF EXISTS own_cursor",
            "DROP PROCEDURE IF EXISTS longer",
            "CREATE PROCEDURE longer () BEGIN SELECT REPEAT('x', 60000), 1; SELECT 2; END",
            "DROP FUNCTION IF EXISTS fails",
            "CREATE FUNCTION fails (n INT) RETURNS INT DETERMINISTIC BEGIN IF n = 2 THEN SIGNAL SQLSTATE '45000'; END IF; RETURN n; END",
            "DROP FUNCTION IF EXISTS with_cursor",
            "CREATE FUNCTION with_cursor (n INT) RETURNS INT DETERMINISTIC BEGIN DECLARE m INT; DECLARE c CURSOR FOR SELECT n + 1; OPEN c; FETCH c INTO m; CLOSE c; RETURN m; END",
            "CREATE PROCEDURE own_cursor () BEGIN DECLARE c CURSOR FOR SELECT 7; OPEN c; CLOSE c; SELECT 1, 2; SELECT 3, 4; END",
            "CREATE PROCEDURE many () BEGIN SELECT 1; SELECT 2, 'x'; DO 1; SELECT NULL FROM shop.items WHERE id < 4; END",
            "CREATE PROCEDURE outs (IN a INT, OUT b INT, INOUT c VARCHAR(9)) BEGIN SELECT a; SET b = a + 1, c = CONCAT(c, '!'); END",
        ] {
            direct.query(sql).await.unwrap();
        }
        cluster().settle().await.unwrap();
        for sql in ["CALL many()", "SELECT 1; CALL many(); SELECT 2", "SELECT 1; SELECT nothing; SELECT 2", "CALL nothing()"] {
            alike(&mut through, &mut direct, sql, text(sql), Expect::Query).await;
        }
        for wire in [&mut through, &mut direct] {
            wire.prepare("CALL outs(?, ?, ?)").await.unwrap();
        }
        let rest = b"\0\x01\x03\0\x03\0\xfd\0\x05\0\0\0\0\0\0\0\x02hi";
        alike(&mut through, &mut direct, "OUT parameters", execute(0, rest), Expect::Execute).await;
        for wire in [&mut through, &mut direct] {
            wire.prepare("CALL many()").await.unwrap();
        }
        alike(&mut through, &mut direct, "many in binary", execute(0, b""), Expect::Execute).await;
        // Bug: MySQL tells of a cursor that a procedure had for itself, and the rows behind that were waited for in vain.
        for wire in [&mut through, &mut direct] {
            wire.prepare("CALL own_cursor()").await.unwrap();
        }
        for flags in [0, 1] {
            let seen = alike(&mut through, &mut direct, "a cursor of its own", execute(flags, b""), Expect::Execute).await;
            assert!(seen.len() > 8 && matches!(seen.last(), Some(Seen::Ok(..))), "{seen:?}");
        }
        alike(&mut through, &mut direct, "behind it", text("SELECT 1"), Expect::Query).await;
        // Where rows come later than their definitions, the EOF between them says all the same that more follows.
        for sql in
            ["CALL longer()", "SELECT REPEAT('x', 60000); SELECT 2", "SELECT REPEAT('x', 60000); DO 1; SELECT REPEAT('y', 60000)"]
        {
            alike(&mut through, &mut direct, sql, text(sql), Expect::Query).await;
        }
        for wire in [&mut through, &mut direct] {
            wire.prepare("CALL longer()").await.unwrap();
        }
        alike(&mut through, &mut direct, "longer in binary", execute(0, b""), Expect::Execute).await;
        // An error while a cursor is opened comes without an EOF behind the definitions.
        for wire in [&mut through, &mut direct] {
            wire.prepare("SELECT fails(id) FROM shop.items WHERE id < 4").await.unwrap();
        }
        for flags in [0, 1] {
            alike(&mut through, &mut direct, "an error in the rows", execute(flags, b""), Expect::Execute).await;
        }
        // MySQL tells of a function's cursor at the end of the rows, or of none, and a client believes that before them it is its own.
        for sql in ["SELECT with_cursor(id) FROM shop.items WHERE id < 3", "SELECT id FROM shop.items WHERE with_cursor(id) < 0"] {
            for wire in [&mut through, &mut direct] {
                wire.prepare(sql).await.unwrap();
            }
            alike(&mut through, &mut direct, sql, execute(0, b""), Expect::Execute).await;
        }
        // A cursor, its rows in portions, and the end of it.
        for wire in [&mut through, &mut direct] {
            wire.prepare("SELECT id, name FROM shop.items ORDER BY id LIMIT 5").await.unwrap();
        }
        let fetch = |rows: u32| move |id: u32| [&[0x1c][..], &id.to_le_bytes(), &rows.to_le_bytes()].concat();
        alike(&mut through, &mut direct, "open", execute(1, b""), Expect::Execute).await;
        alike(&mut through, &mut direct, "two rows", fetch(2), Expect::Fetch).await;
        alike(&mut through, &mut direct, "between", text("SELECT 1"), Expect::Query).await;
        alike(&mut through, &mut direct, "ten rows", fetch(10), Expect::Fetch).await;
        alike(&mut through, &mut direct, "again", execute(1, b""), Expect::Execute).await;
        alike(&mut through, &mut direct, "one row", fetch(1), Expect::Fetch).await;
        alike(&mut through, &mut direct, "reset", |id| [&[0x1a][..], &id.to_le_bytes()].concat(), Expect::Simple).await;
        // MySQL 9.7 itself then sends the definitions, an OK that no client takes for the end of rows, and nothing more.
        if flavour() == Flavour::MariaDb {
            alike(&mut through, &mut direct, "without a cursor", execute(0, b""), Expect::Execute).await;
        }
    }
}

#[tokio::test]
async fn load_data_that_fails() {
    let schema = schema("commands_load").await;
    let (mut through, mut direct) = both(MODERN, &schema).await;
    direct.query("CREATE TABLE t (id INT PRIMARY KEY)").await.unwrap();
    cluster().settle().await.unwrap();
    let load = "LOAD DATA LOCAL INFILE 'x' INTO TABLE t";
    for (what, sql, lines) in [
        ("a file the client refuses", load.to_owned(), None),
        ("an empty file", load.to_owned(), Some(String::new())),
        ("lines that are no numbers", load.to_owned(), Some("a\nb\n".repeat(20_000))),
        ("a table that is not there", load.replace("TABLE t", "TABLE nothing"), Some("1\n".repeat(20_000))),
        ("a duplicate that is an error", load.to_owned(), Some("7\n7\n8\n".to_owned())),
    ] {
        let mut told = Vec::new();
        for wire in [&mut direct, &mut through] {
            wire.query("TRUNCATE TABLE t").await.unwrap();
            wire.send(&[b"\x03", sql.as_bytes()].concat()).await.unwrap();
            let mut tracker = ReplyTracker::new(Expect::Query, wire.capabilities);
            let mut seen = wire.reply_of(&mut tracker).await.unwrap();
            if matches!(seen.last(), Some(Seen::Bytes(_))) {
                wire.send_file(lines.as_deref().unwrap_or("").as_bytes()).await.unwrap();
                seen.extend(wire.reply_of(&mut tracker).await.unwrap());
            }
            told.push(seen);
        }
        assert_eq!(told[1], told[0], "{what}");
        assert!(matches!(through.query("SELECT 1").await.unwrap().last(), Some(Seen::Ok(..))), "{what}: the session goes on");
    }
    // Half a file: nothing of it may stay, and the table is free again.
    let (mut leaver, _) = both(MODERN, &schema).await;
    leaver.query("TRUNCATE TABLE t").await.unwrap();
    leaver.send(&[b"\x03", load.as_bytes()].concat()).await.unwrap();
    leaver.reply(Expect::Query).await.unwrap();
    leaver.send_more(&[&[6, 0, 0, 2][..], b"1\n2\n3\n"].concat()).await.unwrap();
    drop(leaver);
    let gone = integration::wait::until_true("half a file is rolled back", std::time::Duration::from_secs(10), async || {
        let mut conn = proxy().connect(&schema).await?;
        conn.query_drop("SET innodb_lock_wait_timeout = 1, lock_wait_timeout = 1").await?;
        Ok(conn.query_drop("INSERT INTO t VALUES (1)").await.is_ok())
    });
    gone.await.unwrap();
}

#[tokio::test]
async fn commands_sent_before_the_reply_has_ended() {
    let (mut through, _) = both(MODERN, "shop").await;
    let sql = ["SELECT * FROM items", "SELEKT", "SELECT SLEEP(0.1)", "BEGIN", "SELECT 2; SELECT 3", "COMMIT"];
    for sql in sql {
        through.send(&[b"\x03", sql.as_bytes()].concat()).await.unwrap();
    }
    through.send(&[0x0e]).await.unwrap();
    for sql in sql {
        let seen = through.reply(Expect::Query).await.unwrap();
        assert_eq!(matches!(seen.last(), Some(Seen::Err(..))), sql == "SELEKT", "{sql}: {seen:?}");
    }
    assert!(matches!(&through.reply(Expect::Simple).await.unwrap()[..], [Seen::Ok(..)]));
}

/// `COM_DEBUG` and MariaDB's `COM_REFRESH` and `COM_PROCESS_INFO` are answered by a server, which knows who may.
#[tokio::test]
async fn administrative_commands_are_the_servers() {
    let db1 = cluster().server("db1");
    db1.run(&["CREATE USER commands_all@'%'", "GRANT ALL ON *.* TO commands_all@'%'"]).await.unwrap();
    let mut through = Wire::login_as(proxy().port(), "commands_all", MODERN).await.unwrap();
    let mut direct = Wire::login_as(db1.port(), "commands_all", MODERN).await.unwrap();
    let (mut small, mut small_direct) = both(MODERN, "shop").await;
    let mut commands: Vec<&[u8]> = vec![b"\x0d"];
    if flavour() == Flavour::MariaDb {
        // REFRESH_STATUS and REFRESH_TABLES.
        commands.extend([&b"\x07\x10"[..], b"\x07\x04"]);
    }
    for command in commands {
        let seen = alike(&mut through, &mut direct, "by who may", |_| command.to_vec(), Expect::Simple).await;
        assert!(!matches!(&seen[..], [Seen::Err(..)]), "{command:?}: {seen:?}");
        let seen = alike(&mut small, &mut small_direct, "by another", |_| command.to_vec(), Expect::Simple).await;
        assert!(matches!(&seen[..], [Seen::Err(..)]), "{command:?}: {seen:?}");
    }
    if flavour() == Flavour::MariaDb {
        let id = small.query("SELECT CONNECTION_ID()").await.unwrap();
        let shown = format!("{:?}", small.ask(b"\x0a", Expect::Query).await.unwrap());
        assert!(shown.contains("nopass"), "{shown} does not show {id:?}");
    }
}

/// Bug: the answer to `COM_SET_OPTION` of a session that was pinned, an EOF, was taken for nonsense, and the session ended.
#[tokio::test]
async fn several_statements_are_allowed_and_forbidden_in_any_state() {
    for wanted in [MODERN, MODERN - Capabilities::DEPRECATE_EOF] {
        let (mut through, mut direct) = both(wanted - Capabilities::MULTI_STATEMENTS, "shop").await;
        for state in ["DO 0", "BEGIN", "SELECT 1; SELEKT", "ROLLBACK"] {
            alike(&mut through, &mut direct, state, text(state), Expect::Query).await;
            for (option, allowed) in [(0, true), (1, false), (0, true)] {
                for wire in [&mut through, &mut direct] {
                    let seen = wire.ask(&[0x1b, option, 0], Expect::Simple).await.unwrap();
                    assert!(matches!(seen[..], [Seen::Ok(..) | Seen::Eof(..)]), "{state}: {seen:?}");
                }
                let seen = alike(&mut through, &mut direct, state, text("SELECT 1; SELECT 2"), Expect::Query).await;
                assert_eq!(!matches!(seen.last(), Some(Seen::Err(..))), allowed, "{state}: {seen:?}");
            }
        }
    }
}

/// Bug: a cursor was opened on a replica and held the session there, and what it wrote then went there, too; an account that may write
/// on read-only servers did so.
#[tokio::test]
async fn a_session_that_stays_somewhere_writes_on_the_master() {
    let schema = schema("commands_stays").await;
    cluster()
        .server("db1")
        .run(&[&format!("CREATE TABLE {schema}.t (id INT)"), &format!("INSERT INTO {schema}.t VALUES (1), (2)")])
        .await
        .unwrap();
    cluster().settle().await.unwrap();
    let mut wire = Wire::login(proxy().port(), MODERN).await.unwrap();
    wire.prepare(&format!("SELECT id FROM {schema}.t")).await.unwrap();
    let open = [&[0x17][..], &wire.statement.to_le_bytes(), &[1, 1, 0, 0, 0]].concat();
    wire.ask(&open, Expect::Execute).await.unwrap();
    let done = wire.query(&format!("INSERT INTO {schema}.t VALUES (3)")).await.unwrap();
    assert!(matches!(done[..], [Seen::Ok(1, ..)]), "{done:?}");
    // What SQL_CALC_FOUND_ROWS counted is known wherever it is asked.
    let mut wire = Wire::login(proxy().port(), MODERN).await.unwrap();
    wire.query(&format!("SELECT SQL_CALC_FOUND_ROWS id FROM {schema}.t LIMIT 1")).await.unwrap();
    let done = wire.query(&format!("INSERT INTO {schema}.t VALUES (4)")).await.unwrap();
    assert!(matches!(done[..], [Seen::Ok(1, ..)]), "{done:?}");
}

/// Bug: on MariaDB a statement without a table leaves the list of conditions as it finds it, and a text that asked for them within itself was shown those
/// of another session.
#[tokio::test]
async fn a_text_is_told_no_conditions_of_others() {
    let proxy = Proxy::before(cluster()).every_server("max_connections", "1").start().await.unwrap();
    let mut other = Wire::login(proxy.port(), MODERN).await.unwrap();
    let (mut through, mut direct) = both_at(&proxy, cluster(), MODERN, "shop").await;
    for asks in ["DO 1; SHOW WARNINGS", "SET @a = 1; SHOW COUNT(*) WARNINGS", "BEGIN; DO 2; SELECT @@warning_count"] {
        // On the master's connection and on a replica's.
        for left in ["DO CAST('other' AS SIGNED)", "SELECT CAST('other' AS SIGNED)", "SELECT CAST('other' AS SIGNED) FOR UPDATE"] {
            other.query(left).await.unwrap();
        }
        alike(&mut through, &mut direct, asks, text(asks), Expect::Query).await;
        alike(&mut through, &mut direct, asks, text("COMMIT"), Expect::Query).await;
    }
    // Its own are told, within the text and behind it.
    for asks in ["DO CAST('own' AS SIGNED); SHOW WARNINGS", "SHOW WARNINGS", "DO 1; SHOW WARNINGS"] {
        alike(&mut through, &mut direct, asks, text(asks), Expect::Query).await;
    }
}

/// What kind of first packet a command is answered with.
#[derive(PartialEq, Eq, Debug)]
enum Kind {
    Ok,
    Refusal,
    Other,
}

/// Sends a command and a PING behind it (for commands that have no answer) in a state, and tells the first answer.
async fn first_answer(port: u16, state: &str, command: &[u8]) -> anyhow::Result<Kind> {
    let mut client = RawClient::login(port).await?;
    match state {
        "in a transaction" => drop(client.query("BEGIN").await?),
        "pinned" => drop(client.query("SELECT GET_LOCK(CONCAT('c', CONNECTION_ID()), 0) INTO @l").await?),
        "with a cursor" => {
            client.send(0, b"\x16SELECT 1").await?;
            // The answer, the column, its EOF; then the cursor: count, definition, EOF.
            for _ in 0..3 {
                client.receive().await?;
            }
            client.send(0, b"\x17\x01\0\0\0\x01\x01\0\0\0").await?;
            for _ in 0..3 {
                client.receive().await?;
            }
        }
        _ => {}
    }
    client.send(0, command).await?;
    let _ = client.send(0, &[0x0e]).await;
    let reply = client.receive().await?;
    Ok(match &reply {
        _ if reply.is_refusal() => Kind::Refusal,
        Reply::Packet(_, payload) if payload.first() == Some(&0) => Kind::Ok,
        _ => Kind::Other,
    })
}

#[tokio::test]
async fn every_command_byte_in_every_state() {
    let db1 = cluster().server("db1").port();
    let mut differ = Vec::new();
    for state in ["fresh", "in a transaction", "pinned", "with a cursor"] {
        for byte in 0..=255u8 {
            let random = (0..40u8).map(|n| n.wrapping_mul(151).wrapping_add(byte)).collect();
            for (n, rest) in [vec![], vec![1, 2], random].iter().enumerate() {
                if n == 1 && state != "fresh" {
                    continue;
                }
                let command = [&[byte][..], rest].concat();
                let here = first_answer(proxy().port(), state, &command).await;
                let here = here.unwrap_or_else(|error| panic!("{state}, byte {byte:#04x}, payload {n}: {error:#}"));
                // SHUTDOWN is a privilege, and what a server does with half a COM_CHANGE_USER is its own matter.
                if state == "fresh" && ![0x08, 0x11].contains(&byte) {
                    let there = first_answer(db1, state, &command).await;
                    if !matches!(&there, Ok(there) if *there == here) {
                        differ.push(format!("byte {byte:#04x}, payload {n}: {here:?}, at the server {there:?}"));
                    }
                }
            }
        }
        proxy().check_running().unwrap();
    }
    let excused: &[&str] = match flavour() {
        Flavour::MariaDb => MARIADB_DIFFERS,
        Flavour::MySql => MYSQL_DIFFERS,
    };
    differ.retain(|line| !excused.iter().any(|known| line.starts_with(known)));
    assert!(differ.is_empty(), "{differ:#?}");
    let mut conn = proxy().connect("shop").await.unwrap();
    assert_eq!(conn.query_first::<u32, _>("SELECT COUNT(*) FROM items").await.unwrap(), Some(100));
    assert_eq!(conn.query_first::<Option<String>, _>("SELECT @l").await.unwrap(), Some(None), "nothing of another's is here");
}

/// Where Sluice answers otherwise, and why.
const MARIADB_DIFFERS: &[&str] = &[
    // The server reads an option that is not in the packet.
    "byte 0x1b, payload 0",
];
const MYSQL_DIFFERS: &[&str] = &[
    "byte 0x1b, payload 0",
    // Commands without an answer: a server answers them when they are too short, Sluice keeps to the protocol.
    "byte 0x18",
    "byte 0x19",
];

/// Bug: what a client had sent behind the end of a file was lost.
#[tokio::test]
async fn a_command_behind_a_file_is_the_next_one() {
    let schema = schema("commands_behind").await;
    let (mut through, mut direct) = both(MODERN, &schema).await;
    direct.query("CREATE TABLE t (id INT PRIMARY KEY)").await.unwrap();
    cluster().settle().await.unwrap();
    for wire in [&mut direct, &mut through] {
        wire.query("TRUNCATE TABLE t").await.unwrap();
        wire.send(b"\x03LOAD DATA LOCAL INFILE 'x' INTO TABLE t").await.unwrap();
        let mut tracker = ReplyTracker::new(Expect::Query, wire.capabilities);
        wire.reply_of(&mut tracker).await.unwrap();
        let commands =
            [&[4, 0, 0, 2][..], b"1\n2\n", &[0, 0, 0, 3], &[9, 0, 0, 0], b"\x03SELECT 7", &[9, 0, 0, 0], b"\x03SELECT 8"];
        wire.send_more(&commands.concat()).await.unwrap();
        let loaded = wire.reply_of(&mut tracker).await.unwrap();
        assert!(matches!(loaded.last(), Some(Seen::Ok(2, ..))), "{loaded:?}");
        for number in ["7", "8"] {
            let seen = wire.reply(Expect::Query).await.unwrap();
            assert!(seen.contains(&Seen::Bytes([&[1], number.as_bytes()].concat())), "{seen:?}");
        }
    }
}

/// Bug: the answer to a command of more than one packet was numbered as if it had been one.
#[tokio::test]
async fn answers_to_long_commands_are_numbered_behind_them() {
    use sluice::protocol::frame::put_packet;

    let builder = || Proxy::before(cluster()).more("[[rule]]\npattern = 'nowhere'\naction = \"deny\"\n");
    let proxies = [builder(), builder().every_server("compression", "\"zlib\"")];
    for proxy in proxies {
        let proxy = proxy.start().await.unwrap();
        let mut client = RawClient::login(proxy.port()).await.unwrap();
        for (length, packets) in [(20 << 20, 2), (1 << 20, 1), (0xff_ffff, 2), (33 << 20, 3)] {
            for (sql, errno) in [("SELECT LENGTH('')", None), ("SELECT * FROM nowhere WHERE name = ''", Some(1290))] {
                let sql = sql.replace("''", &format!("'{}'", "x".repeat(length)));
                let mut out = bytes::BytesMut::new();
                put_packet(&mut out, 0, &[b"\x03", sql.as_bytes()].concat());
                client.send_bytes(&out).await.unwrap();
                let first = client.receive().await.unwrap();
                assert_eq!(first.error().map(|e| e.0), errno, "{length}: {:?}", first.error());
                let mut reply = vec![first];
                // A definition, an EOF, a row, an EOF.
                while reply.len() < if errno.is_some() { 1 } else { 5 } {
                    reply.push(client.receive().await.unwrap());
                }
                let numbers: Vec<_> =
                    reply.iter().map(|packet| if let Reply::Packet(seq, _) = packet { *seq } else { 0 }).collect();
                let wanted: Vec<u8> = (packets..).take(reply.len()).collect();
                assert_eq!(numbers, wanted, "{length}: {errno:?}");
            }
        }
    }
}
