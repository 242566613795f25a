//! The reader of the binlog, at real servers: what it tells the cache of writes that nobody sent through Sluice.

use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use integration::accounts::MONITOR;
use integration::cluster::Cluster;
use integration::flavour::Flavour;
use integration::install::Install;
use integration::server::{Server, ServerOptions};
use integration::wait::until_true;
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use sluice::backend::{ServerAddress, ServerTls};
use sluice::cache::{Changes, VoidReason};
use sluice::monitor::binlog::{BinlogHandle, BinlogReader, BinlogSettings, BinlogState, BinlogStatus};
use sluice::monitor::{Account, HeartbeatTable, MonitoredServer, Report};
use sluice::topology::ServerId;
use tokio::sync::watch;

use crate::world::flavour;

/// What is told within this is told at once, on a busy machine.
const SOON: Duration = Duration::from_secs(10);

/// One call.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Told {
    Tables(Vec<String>),
    Everything(VoidReason),
    Lost(String),
    Following(bool),
}

/// The cache's place.
#[derive(Default)]
struct Heard {
    told: Mutex<Vec<Told>>,
    /// When tables were told.
    at: Mutex<Vec<Instant>>,
}

impl Changes for Heard {
    fn tables_changed(&self, tables: &[(&str, &str)], gtid: Option<&str>) {
        assert!(gtid.is_some_and(|gtid| !gtid.is_empty()), "every transaction has a name here");
        self.at.lock().unwrap().push(Instant::now());
        let tables = tables.iter().map(|(schema, table)| format!("{schema}.{table}")).collect();
        self.told.lock().unwrap().push(Told::Tables(tables));
    }

    fn everything_changed(&self, reason: VoidReason, _: Option<&str>) {
        self.told.lock().unwrap().push(Told::Everything(reason));
    }

    /// Told as it is told first, so that both can be counted.
    fn tables_seen(&self, tables: &[(&str, &str)], gtid: Option<&str>) {
        self.tables_changed(tables, gtid);
    }

    fn everything_seen(&self, reason: VoidReason, gtid: Option<&str>) {
        self.everything_changed(reason, gtid);
    }

    fn lost(&self, reason: &str) {
        self.told.lock().unwrap().push(Told::Lost(reason.to_owned()));
    }

    fn following(&self, missed: bool) {
        self.told.lock().unwrap().push(Told::Following(missed));
    }
}

impl Report for Heard {
    fn report(&self, _: &'static str, server: Option<&str>, _: &str) {
        assert_ne!(server, Some(""));
    }

    fn replaced(&self, _: &'static str, _: &'static str, _: Option<Duration>) {}
}

/// A reader, and who is master for it.
struct Following {
    heard: Arc<Heard>,
    handle: BinlogHandle,
    master: Arc<AtomicU16>,
    epochs: watch::Sender<u64>,
}

/// Nobody is master.
const NOBODY: u16 = u16::MAX;

impl Following {
    fn start(servers: &[&Server]) -> Following {
        let heard = Arc::new(Heard::default());
        let master = Arc::new(AtomicU16::new(0));
        let epochs = watch::Sender::new(0);
        let at = |server: &&Server| MonitoredServer {
            address: ServerAddress::Tcp { host: "127.0.0.1".to_owned(), port: server.port() },
            tls: ServerTls::disabled(),
        };
        let reader = BinlogReader {
            settings: BinlogSettings {
                heartbeat: Duration::from_millis(200),
                silence: Duration::from_secs(3),
                behind_max: Duration::from_secs(30),
                ignored: HeartbeatTable::parse("sluice.heartbeat"),
                run: u64::from(std::process::id()) << 16 | u64::from(servers[0].port()),
            },
            servers: Arc::new(servers.iter().map(at).collect()),
            names: servers.iter().map(|server| server.name().to_owned()).collect(),
            account: Arc::new(Account { user: MONITOR.name.to_owned(), password: MONITOR.password.into() }),
            master: {
                let master = master.clone();
                Arc::new(move || Some(master.load(Ordering::SeqCst)).filter(|id| *id != NOBODY).map(ServerId))
            },
            epochs: epochs.subscribe(),
            changes: heard.clone(),
            report: heard.clone(),
        };
        Following { heard, handle: reader.spawn(), master, epochs }
    }

    fn set_master(&self, index: u16) {
        self.master.store(index, Ordering::SeqCst);
        self.epochs.send_modify(|epoch| *epoch += 1);
    }

    fn status(&self) -> BinlogStatus {
        self.handle.status()
    }

    fn heard(&self) -> Vec<Told> {
        self.heard.told.lock().unwrap().clone()
    }

    fn forget(&self) {
        self.heard.told.lock().unwrap().clear();
        self.heard.at.lock().unwrap().clear();
    }

    async fn hears(&self, what: &Told) {
        self.hears_that(&format!("{what:?}"), |told| told.contains(what)).await;
    }

    async fn hears_that(&self, what: &str, right: impl Fn(&[Told]) -> bool) {
        let asked = until_true(what, SOON, async || {
            let told = self.heard();
            if right(&told) { Ok(true) } else { Err(anyhow::anyhow!("{told:?}, {:?}", self.status())) }
        });
        asked.await.unwrap();
    }

    async fn follows(&self) {
        // What stood at the end of the log when it began is told a second time when it can surely be seen.
        let missed = Told::Everything(VoidReason::Missed);
        let right = |told: &[Told]| {
            let at = told.iter().rposition(|one| matches!(one, Told::Following(_)));
            at.is_some_and(|at| told[at] == Told::Following(false) || told[at..].contains(&missed))
        };
        self.hears_that("it follows", right).await;
        assert_eq!(self.status().state, BinlogState::Following);
    }

    /// Nothing is under way.
    async fn rests(&self) {
        let what = "nothing is unsettled";
        until_true(what, SOON, async || Ok(self.status().unsettled == 0)).await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn server(options: &[&str]) -> Server {
    let install = Install::find(flavour()).unwrap();
    let template = integration::template::template(&install, &|_| {}).await.unwrap();
    let with = options.iter().fold(ServerOptions::new("db1", 1), |with, option| with.option(option));
    Server::start(&install, with, &template).unwrap()
}

fn tables(names: &[&str]) -> Told {
    let mut names: Vec<String> = names.iter().map(|name| format!("t_b.{name}")).collect();
    names.sort();
    Told::Tables(names)
}

/// Runs statements, which are one transaction, and requires that just this is told, when it is logged and when it can be seen.
async fn tells(following: &Following, conn: &mut Conn, statements: &[&str], expected: &Told) {
    let mut wrong = Vec::new();
    tells_or(&mut wrong, following, conn, statements, expected).await;
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The same, but tells at the end of a list what was wrong in all of it.
async fn tells_or(wrong: &mut Vec<String>, following: &Following, conn: &mut Conn, statements: &[&str], expected: &Told) {
    following.rests().await;
    following.forget();
    for sql in statements {
        conn.query_drop(*sql).await.unwrap_or_else(|error| panic!("{sql:.300}: {error}"));
    }
    let what = format!("{statements:.200?} tells {expected:?} twice");
    following.hears_that(&what, |told| told.len() >= 2).await;
    let heard = following.heard();
    if heard.iter().any(|told| told != expected) {
        wrong.push(format!("{statements:.200?}\ntells {heard:?}\nand not {expected:?}"));
    }
}

const SCHEMA: [&str; 10] = [
    "CREATE DATABASE t_b",
    "USE t_b",
    "CREATE TABLE a (id INT PRIMARY KEY, n INT, s TEXT)",
    "CREATE TABLE b (id INT PRIMARY KEY, n INT)",
    "CREATE TABLE parent (id INT PRIMARY KEY)",
    "CREATE TABLE child (id INT PRIMARY KEY, p INT, FOREIGN KEY (p) REFERENCES parent (id) ON DELETE CASCADE)",
    "CREATE TABLE written (n INT)",
    "CREATE TABLE triggered (id INT PRIMARY KEY)",
    "CREATE TRIGGER t AFTER INSERT ON triggered FOR EACH ROW INSERT INTO written VALUES (NEW.id)",
    "CREATE TABLE `süß-1` (id INT PRIMARY KEY)",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_are_told_by_their_tables() {
    let server = server(&[]).await;
    let mut conn = server.root().await.unwrap();
    let following = Following::start(&[&server]);
    following.follows().await;
    let missed = Told::Everything(VoidReason::Missed);
    assert_eq!(following.heard(), [missed.clone(), Told::Following(true), missed]);
    for sql in SCHEMA {
        conn.query_drop(sql).await.unwrap();
    }
    let mut wrong = Vec::new();
    let mut tell = async |statements: &[&str], expected: Told| {
        tells_or(&mut wrong, &following, &mut conn, statements, &expected).await;
    };
    tell(&["INSERT INTO a (id, n) VALUES (1, 1), (2, 2)"], tables(&["a"])).await;
    tell(&["UPDATE a SET n = n + 1"], tables(&["a"])).await;
    tell(&["DELETE FROM a WHERE id = 2"], tables(&["a"])).await;
    tell(&["INSERT INTO b SELECT id, n FROM a"], tables(&["b"])).await;
    tell(&["UPDATE a JOIN b USING (id) SET a.n = 7, b.n = 8"], tables(&["a", "b"])).await;
    tell(&["BEGIN", "UPDATE a SET n = 0", "SAVEPOINT x", "UPDATE b SET n = 0", "ROLLBACK TO x", "COMMIT"], tables(&["a"])).await;
    tell(&["BEGIN", "UPDATE a SET n = 1", "UPDATE b SET n = 1", "COMMIT"], tables(&["a", "b"])).await;
    tell(&["INSERT INTO triggered VALUES (1)"], tables(&["triggered", "written"])).await;
    tell(&["BEGIN", "INSERT INTO parent VALUES (1)", "INSERT INTO child VALUES (1, 1)", "COMMIT"], tables(&["parent", "child"]))
        .await;
    tell(&["DELETE FROM parent"], tables(&["parent", "child"])).await;
    tell(&["INSERT INTO `süß-1` VALUES (1)"], tables(&["süß-1"])).await;
    tell(&["CREATE TABLE child2 (p INT, FOREIGN KEY (p) REFERENCES `süß-1` (id) ON UPDATE CASCADE)"], tables(&["child2"])).await;
    tell(&["UPDATE `süß-1` SET id = 5"], tables(&["süß-1", "child2"])).await;
    tell(&["XA START 'x'", "UPDATE a SET n = 2", "XA END 'x'", "XA COMMIT 'x' ONE PHASE"], tables(&["a"])).await;
    tell(
        &["XA START 'x','y',5", "UPDATE b SET n = 2", "XA END 'x','y',5", "XA PREPARE 'x','y',5", "XA COMMIT 'x','y',5"],
        tables(&["b"]),
    )
    .await;
    // Definitions.
    tell(&["TRUNCATE TABLE a"], tables(&["a"])).await;
    tell(&["CREATE TABLE c LIKE a"], tables(&["c"])).await;
    tell(&["ALTER TABLE c ADD COLUMN m INT, RENAME TO d"], tables(&["c", "d"])).await;
    tell(&["RENAME TABLE d TO c, b TO e, e TO b"], tables(&["b", "c", "d", "e"])).await;
    tell(&["CREATE INDEX i ON c (n)"], tables(&["c"])).await;
    tell(&["CREATE TABLE f AS SELECT * FROM a"], tables(&["f"])).await;
    tell(&["DROP TABLE c, f"], tables(&["c", "f"])).await;
    let ddl = Told::Everything(VoidReason::Ddl);
    tell(&["CREATE VIEW v AS SELECT * FROM a"], ddl.clone()).await;
    tell(&["CREATE FUNCTION f() RETURNS INT RETURN 1"], ddl.clone()).await;
    tell(&["CREATE DATABASE t_c"], ddl.clone()).await;
    tell(&["DROP DATABASE t_c"], ddl).await;
    let grants = Told::Everything(VoidReason::Grants);
    tell(&["CREATE USER nobody"], grants.clone()).await;
    tell(&["GRANT SELECT ON t_b.a TO nobody"], grants.clone()).await;
    tell(&["REVOKE SELECT ON t_b.a FROM nobody"], grants.clone()).await;
    tell(&["DROP USER nobody"], grants).await;
    // Nobody asks for the heartbeat's table.
    following.rests().await;
    following.forget();
    server
        .run(&["CREATE DATABASE IF NOT EXISTS sluice", "CREATE TABLE IF NOT EXISTS sluice.heartbeat (n INT PRIMARY KEY)"])
        .await
        .unwrap();
    following.rests().await;
    following.forget();
    server.run(&["INSERT INTO sluice.heartbeat VALUES (1)", "UPDATE sluice.heartbeat SET n = 2"]).await.unwrap();
    tell(&["INSERT INTO a VALUES (9, 9, '')"], tables(&["a"])).await;
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A reader at one server with the schema of [`SCHEMA`], and a connection there.
async fn followed(options: &[&str]) -> (Server, Conn, Following) {
    let server = server(options).await;
    let mut conn = server.root().await.unwrap();
    for sql in SCHEMA {
        conn.query_drop(sql).await.unwrap();
    }
    let following = Following::start(&[&server]);
    following.follows().await;
    (server, conn, following)
}

/// Without the right to see triggers and views, any statement in the log may have written anywhere; with it, given later, its tables are believed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statements_are_believed_where_triggers_can_be_seen() {
    let server = server(&[]).await;
    server.run(&["REVOKE TRIGGER, SHOW VIEW ON *.* FROM sluice"]).await.unwrap();
    let mut conn = server.root().await.unwrap();
    for sql in SCHEMA {
        conn.query_drop(sql).await.unwrap();
    }
    let following = Following::start(&[&server]);
    following.follows().await;
    conn.query_drop("SET SESSION binlog_format = STATEMENT").await.unwrap();
    tells(&following, &mut conn, &["INSERT INTO a (id, n) VALUES (1, 1)"], &Told::Everything(VoidReason::UnknownTables)).await;
    server.run(&["GRANT TRIGGER ON *.* TO sluice", "CREATE TABLE t_b.sees (id INT)"]).await.unwrap();
    tells(&following, &mut conn, &["INSERT INTO a (id, n) VALUES (2, 1)"], &tables(&["a"])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statements_are_told_by_their_text() {
    let (server, mut conn, following) = followed(&[]).await;
    conn.query_drop("CREATE FUNCTION writes() RETURNS INT BEGIN INSERT INTO written VALUES (1); RETURN 1; END").await.unwrap();
    conn.query_drop("CREATE VIEW v AS SELECT * FROM b").await.unwrap();
    conn.query_drop("CREATE TABLE part (id INT) PARTITION BY HASH (id) PARTITIONS 2").await.unwrap();
    let unknown = Told::Everything(VoidReason::UnknownTables);
    conn.query_drop("INSERT INTO a (id, n) VALUES (1, 1)").await.unwrap();
    let mut wrong = Vec::new();
    for format in ["STATEMENT", "MIXED"] {
        conn.query_drop(format!("SET SESSION binlog_format = {format}")).await.unwrap();
        let mut tell = async |statements: &[&str], expected: Told| {
            tells_or(&mut wrong, &following, &mut conn, statements, &expected).await;
        };
        tell(&["REPLACE INTO a (id, n) VALUES (2, 2), (3, (SELECT 3))"], tables(&["a"])).await;
        tell(&["UPDATE a SET s = CONCAT(s, 'x'), n = IF(n > 1, 2, 3) WHERE id IN (1, 2)"], tables(&["a"])).await;
        // Where it may, a server logs the rows of what is not safe as a statement.
        let named: &[&str] = if format == "MIXED" { &["b"] } else { &["a", "b"] };
        let insert = "INSERT INTO b (id, n) SELECT id, n FROM a ON DUPLICATE KEY UPDATE n = VALUES(n)";
        tell(&[insert], tables(named)).await;
        // Two tables without a JOIN: the parser does not read that.
        tell(&["UPDATE a, b SET a.n = 7, b.n = 8 WHERE a.id = b.id"], unknown.clone()).await;
        tell(&["DELETE a FROM a JOIN b ON a.id = b.id WHERE a.id = 3"], tables(&["a", "b"])).await;
        tell(&["BEGIN", "UPDATE a SET n = 1", "UPDATE b SET n = 1", "COMMIT"], tables(&["a", "b"])).await;
        tell(&["INSERT INTO parent VALUES (1)"], tables(&["parent", "child"])).await;
        tell(&["DELETE FROM parent"], tables(&["parent", "child"])).await;
        tell(&["INSERT INTO part VALUES (1), (2)"], tables(&["part"])).await;
        tell(&["ALTER TABLE part TRUNCATE PARTITION p0"], tables(&["part"])).await;
        tell(&["INSERT INTO triggered VALUES (1)"], unknown.clone()).await;
        tell(&["DELETE FROM triggered"], unknown.clone()).await;
        tell(&["UPDATE v SET n = 3"], unknown.clone()).await;
        tell(&["TRUNCATE written"], tables(&["written"])).await;
        tell(&["UPDATE b SET n = writes() + n WHERE id = 1"], unknown.clone()).await;
        tell(&["XA START 'x'", "UPDATE a SET n = 4", "XA END 'x'", "XA PREPARE 'x'", "XA COMMIT 'x'"], tables(&["a"])).await;
        tell(&["DROP TABLE IF EXISTS c, `d.e`"], tables(&["c", "d.e"])).await;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let file = std::env::temp_dir().join(format!("sluice-binlog-{}-{}", std::process::id(), server.port()));
    std::fs::write(&file, "101\t1\n102\t2\n").unwrap();
    let load = format!("LOAD DATA INFILE '{}' INTO TABLE b (id, n)", file.display());
    conn.query_drop("SET SESSION binlog_format = STATEMENT").await.unwrap();
    tells(&following, &mut conn, &[&load], &tables(&["b"])).await;
    std::fs::remove_file(&file).unwrap();
    // A statement too long to be kept is something that changed.
    let long = format!("INSERT INTO a VALUES (77, 1, '{}')", "x".repeat(17 << 20));
    conn.query_drop("ALTER TABLE a MODIFY s LONGTEXT").await.unwrap();
    tells(&following, &mut conn, &[&long], &unknown).await;
    conn.query_drop("SET NAMES latin1").await.unwrap();
    tells(&following, &mut conn, &["UPDATE a SET n = 9"], &tables(&["a"])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn packed_and_long_transactions_are_told_by_their_tables() {
    let (server, mut conn, following) = followed(&[]).await;
    conn.query_drop("CREATE TABLE big (id INT PRIMARY KEY, s LONGTEXT)").await.unwrap();
    conn.query_drop("ALTER TABLE a MODIFY s LONGTEXT").await.unwrap();
    for n in 0..60 {
        conn.query_drop(format!("CREATE TABLE many{n} (n INT)")).await.unwrap();
    }
    let names: Vec<String> = (0..60).map(|n| format!("many{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut all: Vec<String> = names.iter().map(|name| format!("INSERT INTO {name} VALUES (1)")).collect();
    all.insert(0, "BEGIN".to_owned());
    all.push("COMMIT".to_owned());
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    for (packed, id) in [(false, 1), (true, 2)] {
        if packed {
            match flavour() {
                Flavour::MySql => conn.query_drop("SET SESSION binlog_transaction_compression = ON").await.unwrap(),
                Flavour::MariaDb => {
                    server.run(&["SET GLOBAL log_bin_compress_min_len = 10", "SET GLOBAL log_bin_compress = ON"]).await.unwrap();
                }
            }
        }
        tells(&following, &mut conn, &all, &tables(&names)).await;
        let insert = format!("INSERT INTO big VALUES ({id}, REPEAT('x', 20 << 20))");
        tells(&following, &mut conn, &[&insert], &tables(&["big"])).await;
        // Three packets, that cannot be packed.
        let insert = format!("INSERT INTO big SELECT {id} + 10, GROUP_CONCAT(SHA2(RAND(), 512) SEPARATOR '') FROM seq");
        conn.query_drop("SET SESSION group_concat_max_len = 64 << 20").await.ok();
        conn.query_drop("SET SESSION group_concat_max_len = 67108864").await.unwrap();
        conn.query_drop("CREATE TABLE IF NOT EXISTS seq (n INT)").await.unwrap();
        conn.query_drop("SET SESSION cte_max_recursion_depth = 400000").await.ok();
        conn.query_drop("SET SESSION max_recursive_iterations = 400000").await.ok();
        conn.query_drop("DELETE FROM seq").await.unwrap();
        let fill =
            "INSERT INTO seq WITH RECURSIVE s (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < 300000) SELECT n FROM s";
        conn.query_drop(fill).await.unwrap();
        // A packed transaction that is too long to be kept is something that changed; MariaDB packs rows, and not what is around them.
        let long =
            if packed && flavour() == Flavour::MySql { Told::Everything(VoidReason::UnknownTables) } else { tables(&["big"]) };
        tells(&following, &mut conn, &[&insert], &long).await;
        tells(
            &following,
            &mut conn,
            &[
                "BEGIN",
                "UPDATE a SET n = 1",
                "INSERT INTO a VALUES (1, 1, 'x') ON DUPLICATE KEY UPDATE n = n + 1",
                "DELETE FROM b",
                "COMMIT",
            ],
            &tables(&["a"]),
        )
        .await;
        tells(
            &following,
            &mut conn,
            &["ALTER TABLE big COMMENT 'a comment that is long enough to be packed with the statement around it'"],
            &tables(&["big"]),
        )
        .await;
    }
    conn.query_drop("SET SESSION binlog_format = STATEMENT").await.unwrap();
    server.run(&["GRANT TRIGGER ON *.* TO sluice"]).await.unwrap();
    tells(&following, &mut conn, &["CREATE TABLE sees (n INT)"], &tables(&["sees"])).await;
    tells(
        &following,
        &mut conn,
        &["UPDATE a SET s = 'a text that is long enough to be packed, and again: long enough'"],
        &tables(&["a"]),
    )
    .await;
    assert_eq!(following.status().state, BinlogState::Following);
    assert!(!following.heard().iter().any(|told| matches!(told, Told::Lost(_))));
}

/// Ends the connections on which the log is sent.
async fn kill_dumps(server: &Server) -> usize {
    let table = server.query("SELECT id FROM information_schema.processlist WHERE command LIKE 'Binlog Dump%'").await.unwrap();
    for row in &table.rows {
        server.run(&[&format!("KILL {}", row[0])]).await.unwrap();
    }
    table.rows.len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_was_killed_goes_on_where_it_was() {
    let (server, mut conn, following) = followed(&[]).await;
    for round in 0..5 {
        following.rests().await;
        following.forget();
        assert_eq!(kill_dumps(&server).await, 1);
        conn.query_drop(format!("INSERT INTO b VALUES ({round}, 1)")).await.unwrap();
        following.hears(&Told::Following(false)).await;
        following.hears(&tables(&["b"])).await;
        let heard = following.heard();
        assert!(matches!(heard[0], Told::Lost(_) | Told::Tables(_)), "{heard:?}");
        assert!(heard.iter().any(|told| matches!(told, Told::Lost(_))), "{heard:?}");
        assert!(!heard.contains(&Told::Following(true)), "{heard:?}");
    }
    // The server starts anew: what was read from it before may be gone.
    following.rests().await;
    following.forget();
    drop(conn);
    server.restart().unwrap();
    following.hears(&Told::Following(true)).await;
    let mut conn = server.root().await.unwrap();
    tells(&following, &mut conn, &["INSERT INTO t_b.b VALUES (100, 1)"], &tables(&["b"])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_purged_is_missed() {
    let (server, mut conn, following) = followed(&[]).await;
    following.set_master(NOBODY);
    following.hears_that("lost", |told| told.iter().any(|one| matches!(one, Told::Lost(_)))).await;
    until_true("the dump has ended", SOON, async || Ok(kill_dumps(&server).await == 0)).await.unwrap();
    conn.query_drop("INSERT INTO b VALUES (1, 1)").await.unwrap();
    conn.query_drop("FLUSH BINARY LOGS").await.unwrap();
    conn.query_drop("INSERT INTO b VALUES (2, 1)").await.unwrap();
    conn.query_drop("FLUSH BINARY LOGS").await.unwrap();
    let logs = server.query("SHOW BINARY LOGS").await.unwrap();
    let last = logs.rows.last().unwrap()[0].clone();
    until_true("only the last file is left", SOON, async || {
        server.run(&[&format!("PURGE BINARY LOGS TO '{last}'")]).await?;
        Ok(server.query("SHOW BINARY LOGS").await?.rows.len() == 1)
    })
    .await
    .unwrap();
    following.forget();
    following.set_master(0);
    following.hears(&Told::Following(true)).await;
    let heard = following.heard();
    assert!(heard.iter().any(|told| matches!(told, Told::Lost(why) if why.contains("1236"))), "{heard:?}");
    tells(&following, &mut conn, &["UPDATE b SET n = 5"], &tables(&["b"])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_failover_the_peer_is_followed_at_the_right_place() {
    let cluster = Cluster::start(flavour()).await.unwrap();
    let (db1, db2) = (cluster.server("db1"), cluster.server("db2"));
    let mut conn = db1.root().await.unwrap();
    for sql in SCHEMA {
        conn.query_drop(sql).await.unwrap();
    }
    let following = Following::start(&[db1, db2]);
    following.follows().await;
    tells(&following, &mut conn, &["INSERT INTO b VALUES (1, 1)"], &tables(&["b"])).await;
    cluster.settle().await.unwrap();
    following.rests().await;
    following.forget();
    db1.kill().unwrap();
    following.set_master(NOBODY);
    let writable = match flavour() {
        Flavour::MySql => "SET GLOBAL super_read_only = OFF, GLOBAL read_only = OFF",
        Flavour::MariaDb => "SET GLOBAL read_only = OFF",
    };
    // Written before the reader comes.
    db2.run(&[writable, "INSERT INTO t_b.a VALUES (1, 1, '')", "INSERT INTO t_b.parent VALUES (1)"]).await.unwrap();
    following.hears_that("lost", |told| told.iter().any(|one| matches!(one, Told::Lost(_)))).await;
    following.set_master(1);
    // All that was read from the dead master may be rows that nobody has any more.
    following.hears(&Told::Following(true)).await;
    let heard = following.heard();
    let place = |what: &Told| heard.iter().position(|told| told == what).unwrap_or_else(|| panic!("{what:?} in {heard:?}"));
    let follows = place(&Told::Following(true));
    assert!(place(&tables(&["a"])) < place(&tables(&["child", "parent"])) && place(&tables(&["child", "parent"])) < follows);
    assert!(!heard.contains(&tables(&["b"])), "what was told is not told again: {heard:?}");
    let mut conn = db2.root().await.unwrap();
    tells(&following, &mut conn, &["UPDATE t_b.a SET n = 5"], &tables(&["a"])).await;
    assert_eq!(following.status().server, Some(ServerId(1)));
}

/// From now on a commit at this server is in the log for so many milliseconds before others see it, unless a replica acknowledges it. Returns the name of
/// the counter of replicas that do.
async fn wait_for_a_replica(server: &Server, timeout_ms: u32) -> &'static str {
    let (names, point, plugin) = match flavour() {
        Flavour::MySql => ("rpl_semi_sync_source", "AFTER_SYNC", "INSTALL PLUGIN rpl_semi_sync_source SONAME 'semisync_source.so'"),
        Flavour::MariaDb => ("rpl_semi_sync_master", "AFTER_SYNC", "DO 0"),
    };
    let timeout = format!("SET GLOBAL {names}_timeout = {timeout_ms}");
    let (point, enabled) = (format!("SET GLOBAL {names}_wait_point = {point}"), format!("SET GLOBAL {names}_enabled = ON"));
    server.run(&[plugin, &timeout, &point, &enabled]).await.unwrap();
    match flavour() {
        Flavour::MySql => "Rpl_semi_sync_source_clients",
        Flavour::MariaDb => "Rpl_semi_sync_master_clients",
    }
}

/// Until a replica has acknowledged, or nobody does for the time that is set, nobody else sees a commit that is in the log already.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_waits_for_a_replica_is_told_again_when_it_is_seen() {
    let (server, mut conn, following) = followed(&[]).await;
    let clients = wait_for_a_replica(&server, 2000).await;
    kill_dumps(&server).await;
    following.hears(&Told::Following(false)).await;
    following.rests().await;
    following.forget();
    assert_eq!(server.status(clients).await.unwrap(), 0, "the reader acknowledges nothing");
    let began = Instant::now();
    conn.query_drop("INSERT INTO b VALUES (1, 1)").await.unwrap();
    let committed = Instant::now();
    assert!(committed - began > Duration::from_millis(1500), "the commit did not wait");
    following.hears_that("told twice", |told| told.len() >= 2).await;
    let at = following.heard.at.lock().unwrap().clone();
    assert!(at[0] - began < Duration::from_secs(1), "told when it was logged");
    // What the client is told comes a moment behind the moment when others see it.
    assert!(at[1] + Duration::from_millis(100) > committed, "told again {:?} before it was seen", committed - at[1]);
    assert_eq!(following.heard(), [tables(&["b"]), tables(&["b"])]);
}

/// What was logged at a master that died before anybody saw it is waited for nowhere: its successor never has it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_dead_master_had_only_logged_is_not_waited_for() {
    let (db1, db2) = (server(&[]).await, server(&[]).await);
    let mut conns = [db1.root().await.unwrap(), db1.root().await.unwrap(), db2.root().await.unwrap()];
    for at in [0, 2] {
        for sql in SCHEMA {
            conns[at].query_drop(sql).await.unwrap();
        }
    }
    conns[1].query_drop("USE t_b").await.unwrap();
    wait_for_a_replica(&db1, 600_000).await;
    let following = Following::start(&[&db1, &db2]);
    following.follows().await;
    following.rests().await;
    following.forget();
    let [mut first, mut second, mut conn] = conns;
    // One is asked about, and one is queued behind it.
    let first = tokio::spawn(async move { first.query_drop("INSERT INTO b VALUES (1, 1)").await });
    following.hears(&tables(&["b"])).await;
    until_true("it is asked about", SOON, async || Ok(following.status().unsettled == 1)).await.unwrap();
    let second = tokio::spawn(async move { second.query_drop("INSERT INTO a VALUES (1, 1, '')").await });
    following.hears(&tables(&["a"])).await;
    db1.kill().unwrap();
    assert!(first.await.unwrap().is_err() && second.await.unwrap().is_err(), "neither was seen");
    following.set_master(1);
    following.hears(&Told::Following(true)).await;
    tells(&following, &mut conn, &["INSERT INTO b VALUES (2, 2)"], &tables(&["b"])).await;
    following.hears_that("told twice", |told| told.iter().filter(|one| **one == tables(&["b"])).count() >= 2).await;
    following.rests().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn why_a_log_cannot_be_followed() {
    let install = Install::find(flavour()).unwrap();
    let template = integration::template::template(&install, &|_| {}).await.unwrap();
    let without = Server::start(&install, ServerOptions::new("db1", 1).without_binlog(), &template).unwrap();
    let filtered = Server::start(&install, ServerOptions::new("db2", 2).option("--binlog-do-db=shop"), &template).unwrap();
    let refusing = Server::start(&install, ServerOptions::new("db3", 3), &template).unwrap();
    refusing.run(&["REVOKE REPLICATION SLAVE ON *.* FROM sluice"]).await.unwrap();
    let following = Following::start(&[&without, &filtered, &refusing]);
    for (index, why) in [(0, "log_bin"), (1, "Binlog_Do_DB: shop"), (2, "it takes REPLICATION SLAVE")] {
        following.set_master(index);
        let lost = |told: &[Told]| told.iter().any(|one| matches!(one, Told::Lost(reason) if reason.contains(why)));
        following.hears_that(why, lost).await;
        assert!(following.status().reason.contains(why));
    }
    assert!(!following.heard().iter().any(|told| matches!(told, Told::Following(_))));
    refusing.run(&["GRANT REPLICATION SLAVE ON *.* TO sluice"]).await.unwrap();
    following.hears(&Told::Following(true)).await;
}
