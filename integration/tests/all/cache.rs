//! The cache: what is answered from it, what voids it, and that nothing older than a write that had returned is ever served.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use integration::accounts::{APP, REPORT};
use integration::cluster::Cluster;
use integration::driver;
use integration::proxy::{Proxy, ProxyBuilder};
use integration::wait::until_true;
use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use crate::world::{cluster, flavour, schema};

/// A configuration with a cache of all cacheable reads, told of nothing but what goes through it.
pub(crate) fn caching(before: ProxyBuilder) -> ProxyBuilder {
    before
        .set("cache.enabled", "true")
        .set("cache.default", "\"all\"")
        .set("cache.invalidate", "[\"proxy\"]")
        .set("failover.mode", "\"off\"")
}

/// A proxy of the test's own: a definition changed by another test's client would void everything in between.
pub(crate) async fn start(configure: impl FnOnce(ProxyBuilder) -> ProxyBuilder) -> Proxy {
    let proxy = configure(caching(Proxy::before(cluster()))).start().await.unwrap();
    on(&proxy).await;
    proxy
}

/// Waits until the master has told of its tables.
pub(crate) async fn on(proxy: &Proxy) {
    let told = until_true("the cache is on", Duration::from_secs(20), || async { Ok(figure(proxy, "state").await == "on") }).await;
    if told.is_err() {
        panic!("the cache is {}; {}", figure(proxy, "state").await, proxy.log_tail(20));
    }
}

pub(crate) async fn figure(proxy: &Proxy, name: &str) -> String {
    proxy.admin("SHOW CACHE").await.unwrap().column(name)[0].to_owned()
}

pub(crate) async fn hits(proxy: &Proxy) -> u64 {
    figure(proxy, "hits").await.parse().unwrap()
}

pub(crate) async fn cell(conn: &mut Conn, sql: &str) -> String {
    driver::cell(conn, sql).await.unwrap_or_else(|e| panic!("{sql}: {e}")).unwrap_or_else(|| "nothing".to_owned())
}

/// Whether the statement is answered from the cache now; run before it is, it may be afterwards.
pub(crate) async fn is_kept(proxy: &Proxy, conn: &mut Conn, sql: &str) -> bool {
    let before = hits(proxy).await;
    cell(conn, sql).await;
    hits(proxy).await > before
}

/// Does something between whose steps nothing of the cache may be lost. That happens when a definition that another test made past this
/// proxy is noticed just then, which it is once a minute: everything is void then, and it is done again.
async fn undisturbed<T>(proxy: &Proxy, mut what: impl AsyncFnMut() -> T) -> T {
    loop {
        on(proxy).await;
        let before = figure(proxy, "invalidations").await;
        let result = what().await;
        if figure(proxy, "state").await == "on" && figure(proxy, "invalidations").await == before {
            return result;
        }
    }
}

/// Runs the statement until it is kept.
pub(crate) async fn keep(proxy: &Proxy, conn: &mut Conn, sql: &str) {
    on(proxy).await;
    let deadline = Instant::now() + Duration::from_secs(15);
    while !is_kept(proxy, conn, sql).await {
        assert!(Instant::now() < deadline, "{sql} is never kept: {:?}", proxy.admin(&format!("EXPLAIN ROUTE {sql}")).await);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Runs statements at the master, past any proxy, and waits until all servers have them.
pub(crate) async fn behind_its_back(statements: &[&str]) {
    cluster().server("db1").run(statements).await.unwrap();
    cluster().settle().await.unwrap();
}

#[tokio::test]
async fn a_hit_is_as_a_read_in_all_that_a_client_can_tell() {
    let schema = schema("cache_hit").await;
    let t = format!("{schema}.t");
    let create =
        format!("CREATE TABLE {t} (id INT PRIMARY KEY, word VARCHAR(20), data MEDIUMBLOB, at DATETIME(3), d DECIMAL(9,2))");
    let insert = format!(
        "INSERT INTO {t} VALUES (1, 'ünï☃', x'00ff', '2020-02-29 23:59:59.125', 1.5), (2, NULL, NULL, NULL, NULL), (3, 'x', REPEAT('y', 70000), NULL, -1)"
    );
    behind_its_back(&[&create, &insert]).await;
    let proxy = start(|b| b).await;
    let mut through = proxy.connect(&schema).await.unwrap();
    let mut direct = driver::connect(driver::options(cluster().server("db1").port(), APP).db_name(Some(&schema))).await.unwrap();
    for sql in ["SELECT * FROM t ORDER BY id", "SELECT id FROM t WHERE id = 99", "SELECT COUNT(*), MAX(word) FROM t"] {
        let expected = driver::told(&mut direct, sql).await.unwrap();
        keep(&proxy, &mut through, sql).await;
        // something for the hit to overwrite
        through.query_drop("SELECT CAST('a' AS SIGNED)").await.unwrap();
        let (more, told) = undisturbed(&proxy, async || {
            let before = hits(&proxy).await;
            let told = driver::told(&mut through, sql).await.unwrap();
            (hits(&proxy).await - before, told)
        })
        .await;
        assert_eq!(more, 1, "{sql}");
        assert_eq!(told, expected, "{sql}: from the cache (left) and at the server (right)");
        for asks in ["SHOW WARNINGS", "SELECT ROW_COUNT()", "SELECT FOUND_ROWS()", "SELECT @@warning_count"] {
            driver::told(&mut direct, sql).await.unwrap();
            driver::told(&mut through, sql).await.unwrap();
            let (expected, told) =
                (driver::told(&mut direct, asks).await.unwrap(), driver::told(&mut through, asks).await.unwrap());
            assert_eq!(told.sets, expected.sets, "{asks} after {sql}");
        }
    }
    // Executions with equal parameters are one, with others are others, and text is apart from both.
    let by_id = through.prep("SELECT word, data FROM t WHERE id = ?").await.unwrap();
    let word = |rows: Vec<(Option<String>, Option<Vec<u8>>)>| rows;
    let mut second = proxy.connect(&schema).await.unwrap();
    let other = second.prep("SELECT word, data FROM t WHERE id = ?").await.unwrap();
    let mut different = 10;
    let counted = undisturbed(&proxy, async || {
        let first = word(through.exec(&by_id, (1,)).await.unwrap());
        let before = hits(&proxy).await;
        let mut counted = Vec::new();
        assert_eq!(word(through.exec(&by_id, (1,)).await.unwrap()), first);
        counted.push(hits(&proxy).await - before);
        // A row that nobody has asked for, also when this is done again.
        different += 1;
        assert_ne!(word(through.exec(&by_id, (different,)).await.unwrap()), first);
        counted.push(hits(&proxy).await - before);
        assert_eq!(word(second.exec(&other, (1,)).await.unwrap()), first);
        counted.push(hits(&proxy).await - before);
        counted
    })
    .await;
    assert_eq!(counted, [1, 1, 2], "the same parameters, others, another client's equal statement");
    // LAST_INSERT_ID() goes on over hits.
    through.query_drop("CREATE TABLE ids (id INT AUTO_INCREMENT PRIMARY KEY)").await.unwrap();
    on(&proxy).await;
    through.query_drop("INSERT INTO ids VALUES (NULL), (NULL)").await.unwrap();
    through.query_drop("INSERT INTO ids VALUES (NULL)").await.unwrap();
    let expected = through.last_insert_id().unwrap().to_string();
    keep(&proxy, &mut through, "SELECT COUNT(*) FROM t").await;
    assert_eq!(cell(&mut through, "SELECT LAST_INSERT_ID()").await, expected);
}

/// Everything through the proxy that may change rows, and whether what another client reads afterwards is what the master has.
#[tokio::test]
async fn every_kind_of_write_voids() {
    let schema = schema("cache_void").await;
    let mut statements = vec![format!("USE {schema}")];
    for statement in [
        "CREATE TABLE t (id INT PRIMARY KEY, n INT)",
        "CREATE TABLE other (id INT PRIMARY KEY, n INT)",
        "CREATE TABLE src (id INT PRIMARY KEY, n INT)",
        "CREATE TABLE parent (id INT PRIMARY KEY)",
        "CREATE TABLE child (id INT PRIMARY KEY, p INT, FOREIGN KEY (p) REFERENCES parent (id) ON DELETE CASCADE ON UPDATE SET NULL)",
        "CREATE TABLE watched (id INT PRIMARY KEY)",
        "CREATE TRIGGER tr AFTER INSERT ON watched FOR EACH ROW UPDATE t SET n = n + 1",
        "CREATE VIEW v AS SELECT id, n FROM t WHERE id < 100",
        "CREATE PROCEDURE p () UPDATE t SET n = n + 1",
        "CREATE FUNCTION f () RETURNS INT DETERMINISTIC MODIFIES SQL DATA BEGIN UPDATE t SET n = n + 1; RETURN 1; END",
        "INSERT INTO t VALUES (1, 0), (2, 0)",
        "INSERT INTO other VALUES (1, 0)",
        "INSERT INTO src VALUES (7, 7)",
        "INSERT INTO parent VALUES (1), (2)",
        "INSERT INTO child VALUES (1, 1), (2, 2)",
    ] {
        statements.push(statement.to_owned());
    }
    // The text of a view is told only to those who may read it.
    statements.push(format!("GRANT SELECT ON {schema}.v TO sluice"));
    behind_its_back(&statements.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let proxy = start(|b| b).await;
    let (mut writer, mut reader) = (proxy.connect(&schema).await.unwrap(), proxy.connect(&schema).await.unwrap());
    let mut direct = driver::connect(driver::options(cluster().server("db1").port(), APP).db_name(Some(&schema))).await.unwrap();
    let sum = "SELECT CONCAT(COUNT(*), '/', COALESCE(SUM(n), 'none')) FROM t";
    let through_view = "SELECT CONCAT(COUNT(*), '/', COALESCE(SUM(n), 'none')) FROM v";
    let children = "SELECT CONCAT(COUNT(*), '/', COALESCE(SUM(p), 'none')) FROM child";
    for (writes, read, changes) in [
        (&["UPDATE t SET n = n + 1 WHERE id = 1"][..], sum, true),
        (&["INSERT INTO t VALUES (3, 3)"], sum, true),
        (&["DELETE FROM t WHERE id = 3"], sum, true),
        (&["REPLACE INTO t VALUES (2, 5)"], sum, true),
        (&["INSERT INTO t SELECT id, n FROM src"], through_view, true),
        (&["INSERT INTO t (id, n) VALUES (7, 1) ON DUPLICATE KEY UPDATE n = 99"], through_view, true),
        (&["BEGIN", "UPDATE t SET n = n + 1", "UPDATE t SET n = n + 1", "COMMIT"], sum, true),
        (&["START TRANSACTION", "UPDATE t SET n = n + 1", "BEGIN", "ROLLBACK"], sum, true),
        (&["SET autocommit = 0", "UPDATE t SET n = n + 1", "SET autocommit = 1"], sum, true),
        (&["BEGIN", "UPDATE t SET n = n + 1", "COMMIT AND CHAIN", "UPDATE t SET n = n + 1", "COMMIT"], sum, true),
        (&["BEGIN", "UPDATE t SET n = n + 1", "ROLLBACK"], sum, false),
        (&["UPDATE t SET n = n + 1; SELECT 1; UPDATE t SET n = n + 1"], sum, true),
        (&["UPDATE v SET n = n + 1"], sum, true),
        (&["CALL p()"], sum, true),
        (&["SELECT f()"], through_view, true),
        (&["DO f()"], sum, true),
        (&["SET @x = f()"], sum, true),
        (&["PREPARE s FROM 'UPDATE t SET n = n + 1'", "EXECUTE s", "DEALLOCATE PREPARE s"], sum, true),
        (&["INSERT INTO watched VALUES (1)"], sum, true),
        (&["DELETE FROM parent WHERE id = 1"], children, true),
        (&["UPDATE parent SET id = 22 WHERE id = 2"], children, true),
        (&["UPDATE t JOIN other ON t.id = other.id SET t.n = 1000"], sum, true),
        (&["LOCK TABLES t WRITE", "UPDATE t SET n = n + 1", "UNLOCK TABLES"], sum, true),
        (&["ALTER TABLE t ADD COLUMN more INT", "UPDATE t SET n = n + 1"], sum, true),
        (&["CREATE TABLE t2 LIKE t", "INSERT INTO t2 VALUES (1, 11, 1)", "RENAME TABLE t TO t3, t2 TO t"], sum, true),
        (&["TRUNCATE TABLE t"], sum, true),
        (&["DROP TABLE t", "CREATE TABLE t (id INT PRIMARY KEY, n INT)", "INSERT INTO t VALUES (1, 5)"], sum, true),
    ] {
        keep(&proxy, &mut reader, read).await;
        let before = cell(&mut direct, read).await;
        for write in writes {
            writer.query_drop(*write).await.unwrap_or_else(|e| panic!("{write}: {e}"));
        }
        // A reader with another session than the writer's is sent to a replica, which may lag; what must not be is that the rows from
        // before are kept. So it is asked until all servers have the write, and once more.
        let _ = driver::cell(&mut reader, read).await;
        cluster().settle().await.unwrap();
        let (expected, found) = (cell(&mut direct, read).await, cell(&mut reader, read).await);
        assert_eq!(expected != before, changes, "{writes:?}: the master has {expected}, had {before}");
        assert_eq!(found, expected, "after {writes:?}");
        keep(&proxy, &mut reader, read).await;
        assert_eq!(cell(&mut reader, read).await, expected, "kept after {writes:?}");
    }
    // A prepared write, and one of another table that voids nothing of this one.
    keep(&proxy, &mut reader, sum).await;
    writer.exec_drop("UPDATE t SET n = ? WHERE id = 1", (77,)).await.unwrap();
    cluster().settle().await.unwrap();
    assert_eq!(cell(&mut reader, sum).await, "1/77");
    let stays = undisturbed(&proxy, async || {
        keep(&proxy, &mut reader, sum).await;
        writer.query_drop("UPDATE other SET n = n + 1").await.unwrap();
        is_kept(&proxy, &mut reader, sum).await
    })
    .await;
    assert!(stays, "a write of another table");
    let voided = proxy.metric("sluice_cache_invalidations_total", &[]).await.unwrap();
    writer.query_drop("UPDATE t SET n = 1").await.unwrap();
    assert!(proxy.metric("sluice_cache_invalidations_total", &[]).await.unwrap() > voided);
}

/// Definitions that no text of their own shows: behind them it is known what a view is of and which tables change with which.
pub(crate) async fn definitions_among_others(cluster: &Cluster, proxy: &Proxy, schema: &str) {
    let setup = [
        &format!("USE {schema}"),
        "CREATE TABLE a (n INT)",
        "CREATE TABLE b (n INT)",
        "INSERT INTO a VALUES (1000)",
        "INSERT INTO b VALUES (0)",
        "CREATE VIEW v AS SELECT n FROM a",
        "CREATE PROCEDURE redefine () BEGIN DROP VIEW v; CREATE VIEW v AS SELECT n FROM b; END",
        "CREATE PROCEDURE redefine_badly () BEGIN CALL redefine(); PREPARE bad FROM 'gibberish'; END",
        "CREATE PROCEDURE looks () SELECT n FROM a",
        "CREATE TABLE parent (id INT PRIMARY KEY)",
        "CREATE TABLE child (id INT PRIMARY KEY, p INT)",
        "INSERT INTO parent VALUES (1), (2)",
        "INSERT INTO child VALUES (1, 1), (2, 2)",
        &format!("GRANT SELECT ON {schema}.v TO sluice"),
    ];
    cluster.server("db1").run(&setup).await.unwrap();
    cluster.settle().await.unwrap();
    let (mut writer, mut reader) = (proxy.connect(schema).await.unwrap(), proxy.connect(schema).await.unwrap());
    let mut direct = driver::connect(driver::options(cluster.server("db1").port(), APP).db_name(Some(schema))).await.unwrap();
    let (of_view, of_child) = ("SELECT n FROM v", "SELECT COUNT(*) FROM child");
    for (define, write, read) in [
        (&["DROP VIEW v; CREATE VIEW v AS SELECT n FROM b"][..], "UPDATE b SET n = n + 1", of_view),
        (&["CALL redefine()"], "UPDATE b SET n = n + 1", of_view),
        (&["PREPARE s FROM 'CREATE OR REPLACE VIEW v AS SELECT n FROM b'", "EXECUTE s"], "UPDATE b SET n = n + 1", of_view),
        (&["PREPARE fails FROM 'CALL redefine_badly()'", "EXECUTE fails"], "UPDATE b SET n = n + 1", of_view),
        (
            &["SELECT 1; ALTER TABLE child ADD FOREIGN KEY (p) REFERENCES parent (id) ON DELETE CASCADE"],
            "DELETE FROM parent WHERE id = 1",
            of_child,
        ),
    ] {
        writer.query_drop("CREATE OR REPLACE VIEW v AS SELECT n FROM a").await.unwrap();
        cluster.settle().await.unwrap();
        keep(proxy, &mut reader, read).await;
        for sql in define {
            match writer.query_drop(*sql).await {
                Ok(()) => assert_ne!(*sql, "EXECUTE fails"),
                Err(error) => assert_eq!(*sql, "EXECUTE fails", "{error}"),
            }
        }
        cluster.settle().await.unwrap();
        keep(proxy, &mut reader, read).await;
        let before = cell(&mut reader, read).await;
        writer.query_drop(write).await.unwrap();
        cluster.settle().await.unwrap();
        let expected = cell(&mut direct, read).await;
        assert_ne!(expected, before, "{define:?}");
        assert_eq!(cell(&mut reader, read).await, expected, "behind {define:?}, {write}");
    }
    // A procedure that defines nothing closes the cache for a moment at most.
    writer.query_drop("CALL looks()").await.unwrap();
    keep(proxy, &mut reader, of_child).await;
}

#[tokio::test]
async fn a_definition_among_other_statements_is_seen() {
    let schema = schema("cache_define").await;
    definitions_among_others(cluster(), &start(|b| b).await, &schema).await;
}

#[tokio::test]
async fn a_transaction_sees_its_own_writes_and_others_the_rows_from_before() {
    let schema = schema("cache_transaction").await;
    let (create, insert) =
        (format!("CREATE TABLE {schema}.t (id INT PRIMARY KEY, n INT)"), format!("INSERT INTO {schema}.t VALUES (1, 0)"));
    behind_its_back(&[&create, &insert]).await;
    let proxy = start(|b| b).await;
    let (mut writer, mut reader) = (proxy.connect(&schema).await.unwrap(), proxy.connect(&schema).await.unwrap());
    let read = "SELECT n FROM t WHERE id = 1";
    keep(&proxy, &mut reader, read).await;
    writer.query_drop("BEGIN").await.unwrap();
    writer.query_drop("UPDATE t SET n = 1").await.unwrap();
    assert_eq!(cell(&mut writer, read).await, "1");
    assert_eq!(cell(&mut reader, read).await, "0");
    keep(&proxy, &mut reader, read).await;
    assert_eq!(cell(&mut writer, read).await, "1");
    writer.query_drop("COMMIT").await.unwrap();
    assert_eq!(cell(&mut writer, read).await, "1", "its own write, with what `consistency` promises");
    cluster().settle().await.unwrap();
    assert_eq!(cell(&mut reader, read).await, "1");
    // Dirty reads are nobody else's.
    writer.query_drop("BEGIN").await.unwrap();
    writer.query_drop("UPDATE t SET n = 2").await.unwrap();
    let mut dirty = proxy.connect(&schema).await.unwrap();
    dirty.query_drop("SET SESSION TRANSACTION ISOLATION LEVEL READ UNCOMMITTED").await.unwrap();
    let at_master = format!("/* sluice: master, cache=1m */ {read}");
    assert_eq!(cell(&mut dirty, &at_master).await, "2");
    assert!(!is_kept(&proxy, &mut dirty, &at_master).await);
    writer.query_drop("ROLLBACK").await.unwrap();
    assert_eq!(cell(&mut dirty, &at_master).await, "1");
    // Tables of one session alone.
    reader.query_drop("CREATE TEMPORARY TABLE t (id INT PRIMARY KEY, n INT)").await.unwrap();
    reader.query_drop("INSERT INTO t VALUES (1, 55)").await.unwrap();
    keep(&proxy, &mut writer, "SELECT n FROM t").await;
    assert_eq!(cell(&mut reader, read).await, "55");
    assert_ne!(cell(&mut writer, read).await, "55");
}

#[tokio::test]
async fn sessions_and_accounts_have_their_own() {
    let schema = schema("cache_session").await;
    let create = format!("CREATE TABLE {schema}.t (id INT PRIMARY KEY, at TIMESTAMP, word VARCHAR(20) CHARACTER SET utf8mb4)");
    let insert = format!("INSERT INTO {schema}.t VALUES (1, '2020-01-01 00:00:00', 'é')");
    behind_its_back(&[&create, &insert]).await;
    let proxy = start(|b| b).await;
    let (mut here, mut there) = (proxy.connect(&schema).await.unwrap(), proxy.connect(&schema).await.unwrap());
    for (set, read) in [
        ("SET time_zone = '+05:00'", "SELECT at FROM t"),
        ("SET NAMES latin1", "SELECT word FROM t"),
        ("SET sql_mode = 'ANSI_QUOTES'", "SELECT \"word\" FROM t"),
        ("SET group_concat_max_len = 4", "SELECT GROUP_CONCAT(at) FROM t"),
        ("SET sql_select_limit = 0", "SELECT id FROM t"),
    ] {
        keep(&proxy, &mut here, read).await;
        let kept = driver::told(&mut here, read).await.unwrap();
        there.query_drop(set).await.unwrap();
        let other = driver::told(&mut there, read).await.unwrap();
        assert_ne!(other.sets, kept.sets, "{set}");
        let again = driver::told(&mut there, read).await.unwrap();
        assert_eq!(again.sets, other.sets, "{set}");
        there = proxy.connect(&schema).await.unwrap();
    }
    // What one account may read is no other's; a right that is taken away is gone at once.
    let read = "SELECT name FROM shop.items WHERE id = 1";
    keep(&proxy, &mut here, read).await;
    let mut report = proxy.connect_with(proxy.options(REPORT)).await.unwrap();
    assert!(!is_kept(&proxy, &mut report, read).await);
    keep(&proxy, &mut report, read).await;
    let root = cluster().server("db1");
    let refused = format!("SELECT word FROM {schema}.t");
    keep(&proxy, &mut here, &refused).await;
    let error = report.query_drop(&refused).await.unwrap_err();
    assert_eq!(driver::server_error(&error).map(|e| e.0), Some(1142));
    // By an administrator through the proxy.
    let name = format!("revoked_{}", flavour().to_string().to_lowercase().replace(' ', "_"));
    root.run(&[
        &format!("DROP USER IF EXISTS {name}, {name}_admin"),
        &format!("CREATE USER {name} IDENTIFIED BY 'password'"),
        &format!("CREATE USER {name}_admin IDENTIFIED BY 'password'"),
        &format!("GRANT SELECT ON {schema}.t TO {name}"),
        &format!("GRANT ALL ON *.* TO {name}_admin WITH GRANT OPTION"),
    ])
    .await
    .unwrap();
    cluster().settle().await.unwrap();
    let as_user = |user: String| {
        let options = driver::options(proxy.port(), APP).user(Some(user)).db_name(Some(schema.clone()));
        async { driver::connect(options).await.unwrap() }
    };
    let (mut user, mut admin) = (as_user(name.clone()).await, as_user(format!("{name}_admin")).await);
    keep(&proxy, &mut user, "SELECT word FROM t").await;
    admin.query_drop(format!("REVOKE SELECT ON {schema}.t FROM {name}")).await.unwrap();
    cluster().settle().await.unwrap();
    let error = user.query_drop("SELECT word FROM t").await.unwrap_err();
    assert!(driver::server_error(&error).is_some_and(|e| matches!(e.0, 1044 | 1142)), "{error}");
    root.run(&[&format!("DROP USER {name}, {name}_admin")]).await.unwrap();
}

#[tokio::test]
async fn hints_rules_time_and_control() {
    let schema = schema("cache_control").await;
    let create = format!("CREATE TABLE {schema}.t (id INT PRIMARY KEY, n INT)");
    let old = format!("CREATE TABLE {schema}.old (id INT PRIMARY KEY) ENGINE = MyISAM");
    behind_its_back(&[
        &create,
        &old,
        &format!("INSERT INTO {schema}.t VALUES (1, 1)"),
        &format!("INSERT INTO {schema}.old VALUES (1)"),
    ])
    .await;
    let rule = "[[rule]]\npattern = \"ruled\"\naction = \"cache\"\n[[rule]]\npattern = \"unwanted\"\naction = \"nocache\"\n";
    let proxy = start(|b| b.set("cache.default", "\"opt_in\"").set("cache.ttl", "\"5s\"").more(rule)).await;
    let mut conn = proxy.connect(&schema).await.unwrap();
    for (sql, kept) in [
        ("SELECT n FROM t", false),
        ("/* sluice: cache=10s */ SELECT n FROM t", true),
        ("SELECT n AS ruled FROM t", true),
        ("SELECT n AS unwanted FROM t", false),
        ("/* sluice: nocache */ SELECT n AS ruled FROM t", false),
        ("/* sluice: cache=10s */ SELECT NOW() FROM t", false),
        ("/* sluice: cache=10s */ SELECT 1", false),
        ("/* sluice: cache=10s */ SELECT COUNT(*) FROM information_schema.tables", false),
        ("/* sluice: cache=10s */ SELECT id FROM old", false),
        ("/* sluice: cache=10s */ SELECT n FROM t FOR UPDATE", false),
    ] {
        let seen = undisturbed(&proxy, async || {
            cell(&mut conn, sql).await;
            is_kept(&proxy, &mut conn, sql).await
        })
        .await;
        assert_eq!(seen, kept, "{sql}");
    }
    for (sql, said) in [
        ("SELECT n FROM t", "yes, where a rule or a hint asks for it"),
        ("SELECT n AS ruled FROM t", "yes"),
        ("SELECT n AS unwanted FROM t", "no: rule 2"),
        ("SELECT NOW(), ruled FROM t", "no: time"),
        ("SELECT /*!99999 SQL_NO_CACHE, */ n AS ruled FROM t", "no: executable_comments"),
        ("SELECT id AS ruled FROM old", "no: table_engine"),
        ("SELECT id AS ruled FROM nowhere", "no: table_unknown"),
    ] {
        // the admin port has no schema of the client's
        let sql = sql
            .replace("FROM t", &format!("FROM {schema}.t"))
            .replace("FROM old", &format!("FROM {schema}.old"))
            .replace("FROM nowhere", &format!("FROM {schema}.nowhere"));
        let row = proxy.admin(&format!("EXPLAIN ROUTE {sql}")).await.unwrap();
        assert_eq!(row.column("cacheable"), [said], "{sql}");
    }
    // A changed row that nobody told of is seen when the time is over, and not before.
    let short = "/* sluice: cache=600ms */ SELECT n FROM t WHERE id = 1";
    keep(&proxy, &mut conn, short).await;
    behind_its_back(&[&format!("UPDATE {schema}.t SET n = 2")]).await;
    let until = Instant::now() + Duration::from_secs(5);
    while cell(&mut conn, short).await == "1" {
        assert!(Instant::now() < until, "it lives on");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // SHOW CACHE ENTRIES, FLUSH CACHE.
    let long = "SELECT n AS ruled FROM t WHERE id = 1";
    keep(&proxy, &mut conn, long).await;
    let entries = proxy.admin("SHOW CACHE ENTRIES").await.unwrap();
    let at = entries.column("statement").iter().position(|s| s.contains("ruled FROM t WHERE")).expect("it is listed");
    assert_eq!((entries.column("tables")[at], entries.column("user")[at]), (format!("{schema}.t").as_str(), "app"));
    assert!(proxy.metric("sluice_cache_bytes", &[]).await.unwrap() > 0.0);
    assert!(proxy.metric("sluice_queries_total", &["target=\"cache\""]).await.unwrap() > 0.0);
    assert_eq!(
        proxy.admin("SELECT cached FROM statements WHERE target = 'cache' LIMIT 1").await.unwrap().column("cached"),
        ["yes"]
    );
    // What is read often and not kept is advised.
    for _ in 0..12 {
        cell(&mut conn, "SELECT n, 'often' FROM t").await;
        cell(&mut conn, "SELECT NOW(), 'often' FROM t").await;
    }
    let advice = proxy.admin("SELECT text, cached FROM statements WHERE text LIKE '%, ? FROM t'").await.unwrap();
    let said = |of: &str| {
        let rows = advice.rows.iter().filter(|row| row[0].contains(of));
        rows.map(|row| row[1].clone()).collect::<Vec<_>>()
    };
    assert!(said("SELECT n").contains(&"advised".to_owned()), "{advice:?}");
    assert!(said("NOW()").iter().all(|cached| cached == "no"), "{advice:?}");
    proxy.admin(&format!("FLUSH CACHE TABLE {schema}.old")).await.unwrap();
    keep(&proxy, &mut conn, long).await;
    proxy.admin(&format!("FLUSH CACHE TABLE {schema}.t")).await.unwrap();
    assert!(!is_kept(&proxy, &mut conn, long).await);
    keep(&proxy, &mut conn, long).await;
    proxy.admin("FLUSH CACHE").await.unwrap();
    assert_eq!(figure(&proxy, "entries").await, "0");
    // Where the binlog is to be followed and nobody does, nothing is served.
    let proxy = caching(Proxy::before(cluster())).set("cache.invalidate", "[\"proxy\", \"binlog\"]").start().await.unwrap();
    let mut conn = proxy.connect(&schema).await.unwrap();
    assert!(figure(&proxy, "state").await.starts_with("bypassed: "), "{}", figure(&proxy, "state").await);
    cell(&mut conn, "SELECT n FROM t").await;
    assert!(!is_kept(&proxy, &mut conn, "SELECT n FROM t").await);
}

/// Sluice writes it past the cache, and nothing tells of it.
#[tokio::test]
async fn another_heartbeat_table_is_not_kept_from_its_reload_on() {
    let mut proxy = start(|b| b).await;
    let schema = schema("cache_heartbeat").await;
    let mut conn = proxy.connect("shop").await.unwrap();
    behind_its_back(&[
        &format!("CREATE TABLE {schema}.beats LIKE sluice.heartbeat"),
        &format!("GRANT SELECT, INSERT, UPDATE, CREATE ON {schema}.* TO sluice"),
    ])
    .await;
    // So that it asks which tables there are.
    conn.query_drop(format!("CREATE TABLE {schema}.told (id INT)")).await.unwrap();
    let read = &format!("SELECT COUNT(*) FROM {schema}.beats");
    keep(&proxy, &mut conn, read).await;
    proxy.reload_with(|config| config.set("monitor.heartbeat_table", &format!("\"{schema}.beats\""))).await.unwrap();
    until_true("it is not kept", Duration::from_secs(20), async || {
        let row = proxy.admin(&format!("EXPLAIN ROUTE {read}")).await?;
        Ok(row.column("cacheable") == ["no: not_a_plain_table"])
    })
    .await
    .unwrap();
    until_true("its row is seen", Duration::from_secs(20), async || {
        let mut conn = proxy.connect("shop").await?;
        Ok(driver::cell(&mut conn, read).await?.is_some_and(|count| count != "0"))
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn one_asks_for_many_and_memory_has_a_limit() {
    let schema = schema("cache_many").await;
    behind_its_back(&[
        &format!("CREATE TABLE {schema}.t (id INT PRIMARY KEY, w CHAR(250))"),
        &format!("INSERT INTO {schema}.t VALUES (1, 'x')"),
    ])
    .await;
    let proxy = start(|b| b.set("cache.max_memory", "\"4MiB\"")).await;
    let mut conn = proxy.connect("shop").await.unwrap();
    keep(&proxy, &mut conn, "SELECT COUNT(*) FROM items").await;
    let slow = "SELECT COUNT(*) FROM items a, items b, customers d WHERE a.id + b.id > d.id";
    let clients = 12;
    let (mut conns, mut waiting) = (Vec::new(), Vec::new());
    for _ in 0..clients {
        conns.push(proxy.connect("shop").await.unwrap());
    }
    for mut conn in conns {
        waiting.push(tokio::spawn(async move { cell(&mut conn, slow).await }));
    }
    let mut answers = Vec::new();
    for one in waiting {
        answers.push(one.await.unwrap());
    }
    answers.dedup();
    assert_eq!(answers.len(), 1);
    let digest = "SELECT SUM(count) AS n FROM statements WHERE text LIKE '%customers d%' AND target <> 'cache'";
    assert_eq!(proxy.admin(digest).await.unwrap().column("n"), ["1"], "one client asked, {} were answered", clients);
    // More than fits: the memory stays within its limit, and what is asked again and again stays.
    let mut conn = proxy.connect(&schema).await.unwrap();
    for n in 0..6000 {
        // Another digest each: of one, results that nobody comes back for are soon not kept any more.
        cell(&mut conn, &format!("SELECT w, REPEAT('y', 3000), {n} AS n{n} FROM t")).await;
    }
    let bytes: u64 = figure(&proxy, "bytes").await.parse().unwrap();
    assert!((1 << 20..=4 << 20).contains(&bytes), "{bytes}");
    assert!(figure(&proxy, "evictions").await.parse::<u64>().unwrap() > 1000);
    // Longer than is kept at all.
    let long = "SELECT REPEAT(w, 4000), REPEAT('z', 500000) FROM t";
    cell(&mut conn, long).await;
    assert!(!is_kept(&proxy, &mut conn, long).await);
}

/// A counter: what the last write that returned made it, and what the last one sent would make it.
#[derive(Default)]
struct Counter {
    returned: AtomicU64,
    sent: AtomicU64,
}

/// Clients count up and read counters through the proxy; each read must be no older than what had returned before it and no newer than
/// what was sent. `consistency = "global"`, so that this holds for reads that replicas answer, too, and whatever is older is the cache's.
async fn hunt(cluster: &Cluster, proxy: &Proxy, schema: &str, time: Duration) -> (u64, u64) {
    let counters: Arc<Vec<Counter>> = Arc::new((0..4).map(|_| Counter::default()).collect());
    let rows: Vec<String> = (0..counters.len()).map(|id| format!("({id}, 0)")).collect();
    let mut conn = proxy.connect(schema).await.unwrap();
    conn.query_drop("CREATE TABLE c (id INT PRIMARY KEY, n BIGINT)").await.unwrap();
    conn.query_drop(format!("INSERT INTO c VALUES {}", rows.join(", "))).await.unwrap();
    cluster.settle().await.unwrap();
    on(proxy).await;
    let (stop, started) = (Arc::new(AtomicBool::new(false)), Instant::now());
    let mut tasks = Vec::new();
    for id in 0..counters.len() {
        let (counters, stop) = (counters.clone(), stop.clone());
        let mut conn = proxy.connect(schema).await.unwrap();
        tasks.push(tokio::spawn(async move {
            let mut writes = 0;
            while !stop.load(Ordering::SeqCst) {
                let next = counters[id].sent.fetch_add(1, Ordering::SeqCst) + 1;
                let update = format!("UPDATE c SET n = {next} WHERE id = {id}");
                match (writes + id as u64) % 4 {
                    0 => conn.query_drop(&update).await.unwrap(),
                    1 => conn.exec_drop("UPDATE c SET n = ? WHERE id = ?", (next, id)).await.unwrap(),
                    2 => {
                        conn.query_drop("BEGIN").await.unwrap();
                        conn.query_drop(&update).await.unwrap();
                        conn.query_drop("COMMIT").await.unwrap();
                    }
                    _ => conn.query_drop(format!("{update}; DO 1")).await.unwrap(),
                }
                counters[id].returned.store(next, Ordering::SeqCst);
                writes += 1;
                tokio::time::sleep(Duration::from_millis(writes % 3 * 7)).await;
                // Now and then all pause, so that what is read is kept and served, however slow the machine.
                while started.elapsed().as_millis() / 500 % 2 == 1 && !stop.load(Ordering::SeqCst) {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
            0u64
        }));
    }
    for reader in 0..8 {
        let (counters, stop) = (counters.clone(), stop.clone());
        let mut conn = proxy.connect(schema).await.unwrap();
        tasks.push(tokio::spawn(async move {
            let mut reads = 0u64;
            while !stop.load(Ordering::SeqCst) {
                let id = (reads + reader) as usize % counters.len();
                let floor = counters[id].returned.load(Ordering::SeqCst);
                let found: u64 = if reader % 2 == 0 {
                    conn.query_first(format!("SELECT n FROM c WHERE id = {id}")).await.unwrap().unwrap()
                } else {
                    conn.exec_first("SELECT n FROM c WHERE id = ?", (id,)).await.unwrap().unwrap()
                };
                let ceiling = counters[id].sent.load(Ordering::SeqCst);
                assert!((floor..=ceiling).contains(&found), "counter {id}: read {found}, {floor} had returned, {ceiling} was sent");
                reads += 1;
            }
            reads
        }));
    }
    tokio::time::sleep(time).await;
    stop.store(true, Ordering::SeqCst);
    let mut reads = 0;
    for task in tasks {
        reads += task.await.unwrap();
    }
    (reads, hits(proxy).await)
}

#[tokio::test]
async fn nothing_stale_is_served() {
    let schema = schema("cache_hunt").await;
    let proxy = start(|b| b.set("routing.consistency", "\"global\"")).await;
    let (reads, hits) = hunt(cluster(), &proxy, &schema, Duration::from_secs(5)).await;
    assert!(reads > 200 && hits > 50, "{reads} reads, {hits} of them hits");
}

/// The same while one replica applies everything a second late: what it says must not be kept.
#[tokio::test]
async fn nothing_stale_is_served_with_a_replica_that_lags() {
    let cluster = Cluster::start(flavour()).await.unwrap();
    let proxy = caching(Proxy::before(&cluster)).set("routing.consistency", "\"global\"").start().await.unwrap();
    on(&proxy).await;
    let schema = crate::world::schema_on(&cluster, "cache_lag").await;
    cluster.delay("db3", 1).await.unwrap();
    let (reads, served) = hunt(&cluster, &proxy, &schema, Duration::from_secs(5)).await;
    assert!(reads > 200 && served > 50, "{reads} reads, {served} of them hits");
    // With no promise for reads from replicas the kept ones still are no older than the last write.
    let proxy = caching(Proxy::before(&cluster)).set("routing.consistency", "\"none\"").start().await.unwrap();
    on(&proxy).await;
    let mut conn = proxy.connect(&schema).await.unwrap();
    for n in 0..10 {
        conn.query_drop(format!("UPDATE c SET n = 1000000 + {n} WHERE id = 0")).await.unwrap();
        for _ in 0..20 {
            let before = hits(&proxy).await;
            let found = cell(&mut conn, "SELECT n FROM c WHERE id = 0").await;
            let from_cache = hits(&proxy).await > before;
            assert!(!from_cache || found == (1_000_000 + n).to_string(), "kept: {found}, written: {}", 1_000_000 + n);
        }
    }
}
