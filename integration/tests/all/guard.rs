//! Nothing that writes runs on a server that is not the master, not even for an account that may write there: views that write when they
//! are read, and all that a client can say before or around it.

use integration::accounts::Account;
use integration::cluster::Cluster;
use integration::driver::{self, told};
use integration::flavour::Flavour;
use integration::proxy::Proxy;
use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use crate::world::{WHERE_AM_I, flavour, own, reads_on_a_replica, schema_on, where_am_i};

/// May write on a read-only server, where the flavour lets anybody (MariaDB: READ ONLY ADMIN is among its privileges).
const MIGHTY: Account = Account { name: "t_mighty", password: "may do everything" };
const MASTER: u32 = 1;

/// The variable by its name in this flavour.
fn read_only() -> &'static str {
    match flavour() {
        Flavour::MariaDb => "tx_read_only",
        Flavour::MySql => "transaction_read_only",
    }
}

/// Views that write when they are read, and the account.
async fn prepare(cluster: &Cluster, name: &str) -> String {
    let schema = schema_on(cluster, name).await;
    let body = "BEGIN INSERT INTO seen (server) VALUES (@@server_id); RETURN @@server_id; END";
    let freed = format!("BEGIN SET SESSION {} = 0; RETURN 1; END", read_only());
    let mut statements = vec![
        format!("CREATE USER {} IDENTIFIED BY '{}'", MIGHTY.name, MIGHTY.password),
        format!("GRANT ALL PRIVILEGES ON *.* TO {}", MIGHTY.name),
        format!("USE {schema}"),
        "CREATE TABLE seen (id INT AUTO_INCREMENT PRIMARY KEY, server INT)".to_owned(),
        "CREATE TABLE kept (id INT PRIMARY KEY, n INT) ENGINE=MyISAM".to_owned(),
        format!("CREATE FUNCTION note () RETURNS INT NOT DETERMINISTIC MODIFIES SQL DATA {body}"),
        format!("CREATE FUNCTION freed () RETURNS INT NOT DETERMINISTIC MODIFIES SQL DATA {freed}"),
        "CREATE FUNCTION keep () RETURNS INT NOT DETERMINISTIC MODIFIES SQL DATA BEGIN REPLACE INTO kept VALUES (1, @@server_id); RETURN 1; END"
            .to_owned(),
        "CREATE VIEW innocent AS SELECT note() AS server".to_owned(),
        "CREATE VIEW kept_too AS SELECT keep() AS one".to_owned(),
        "CREATE VIEW frees AS SELECT freed() AS one".to_owned(),
        "CREATE VIEW harmless AS SELECT COUNT(*) AS n FROM seen".to_owned(),
    ];
    if flavour() == Flavour::MariaDb {
        statements.push("CREATE SEQUENCE numbers".to_owned());
        statements.push("CREATE VIEW next_number AS SELECT NEXTVAL(numbers) AS n".to_owned());
    }
    let statements: Vec<&str> = statements.iter().map(String::as_str).collect();
    cluster.server("db1").run(&statements).await.unwrap();
    cluster.settle().await.unwrap();
    schema
}

async fn mighty(proxy: &Proxy, schema: &str) -> Conn {
    proxy.connect_with(proxy.options(MIGHTY).db_name(Some(schema))).await.unwrap()
}

/// What servers other than `master` wrote themselves, and that they still replicate.
async fn others_wrote(cluster: &Cluster, master: &str) -> u64 {
    let mut all = 0;
    for server in cluster.servers().iter().filter(|server| server.name() != master) {
        all += server.own_transactions().await.unwrap();
        assert!(cluster.replicates(server).await.unwrap(), "{}: {}", server.name(), cluster.replication(server).await.unwrap());
    }
    all
}

#[tokio::test]
async fn a_view_that_writes_is_read_on_the_master_whoever_asks() {
    let (cluster, proxy) = own(|proxy| proxy.every_server("max_connections", "3")).await;
    let schema = prepare(&cluster, "guard").await;
    let before = others_wrote(&cluster, "db1").await;
    // One new client for each way of asking: what one text taught must not be what makes the next one right.
    let mut expected = 0;
    let ways = [
        "SELECT server FROM innocent",
        "SELECT server AS a FROM innocent",
        "/* sluice: replica */ SELECT server, 1 FROM innocent",
        "/* sluice: server=db3 */ SELECT server, 2 FROM innocent",
        "/* sluice: server=db3 */ SELECT note()",
        "SELECT server, 3 FROM innocent WHERE server > 0 AND EXISTS (SELECT 1 FROM DUAL)",
        "SELECT SQL_CALC_FOUND_ROWS server, 4 FROM innocent",
        "WITH w AS (SELECT * FROM innocent) SELECT server, 5 FROM w",
    ];
    for sql in ways {
        let mut conn = mighty(&proxy, &schema).await;
        for _ in 0..2 {
            let (server,): (u32,) = match conn.query_first::<mysql_async::Row, _>(sql).await {
                Ok(Some(row)) => (row.get(0).unwrap(),),
                other => panic!("{sql}: {other:?}"),
            };
            assert_eq!(server, MASTER, "{sql}");
            expected += 1;
        }
        if sql.contains("SQL_CALC") {
            // Its count is known on the master alone.
            continue;
        }
        // Its session goes on on replicas.
        reads_on_a_replica(&mut conn).await;
    }
    // Prepared.
    let mut conn = mighty(&proxy, &schema).await;
    for _ in 0..2 {
        let read: Option<u32> = conn.exec_first("SELECT server FROM innocent WHERE ? = 1", (1,)).await.unwrap();
        assert_eq!(read, Some(MASTER));
        expected += 1;
    }
    // Behind a statement whose count keeps the session on its replica.
    conn.query_drop("SELECT SQL_CALC_FOUND_ROWS id FROM shop.items LIMIT 1").await.unwrap();
    let read: Option<u32> = conn.query_first("SELECT server + 0 FROM innocent").await.unwrap();
    assert_eq!(read, Some(MASTER));
    expected += 1;
    // Behind what takes the guard away.
    for first in [
        format!("SET SESSION {} = 0", read_only()),
        "SET SESSION TRANSACTION READ WRITE".to_owned(),
        "SET TRANSACTION READ WRITE".to_owned(),
        format!("SET @@{} = 0", read_only()),
    ] {
        let mut conn = mighty(&proxy, &schema).await;
        where_am_i(&mut conn).await;
        conn.query_drop(&first).await.unwrap();
        for n in 0..3 {
            let read: Option<u32> = conn.query_first(format!("SELECT server AS a{expected} FROM innocent")).await.unwrap();
            assert_eq!(read, Some(MASTER), "{first}, read {n}");
            expected += 1;
        }
    }
    // A function that took it away unseen keeps its session on the replica, where nothing is written all the same.
    let mut conn = mighty(&proxy, &schema).await;
    // A session begins behind what its account wrote, and replicas may not have that yet.
    reads_on_a_replica(&mut conn).await;
    conn.query_drop("SELECT one FROM frees").await.unwrap();
    let refused = told(&mut conn, "SELECT server, 6 FROM innocent").await.unwrap().error.unwrap();
    assert!(refused.0 == 1290 && refused.2.contains("bound to"), "{refused:?}");
    let mut conn = mighty(&proxy, &schema).await;
    let several = driver::told(&mut conn, "SELECT COUNT(*) FROM shop.items; SELECT server, 7 FROM innocent").await.unwrap();
    assert!(several.error.is_none(), "{several:?}");
    expected += 1;
    conn.query_drop("SELECT one FROM kept_too").await.unwrap();
    if flavour() == Flavour::MariaDb {
        for n in 1..=4 {
            let mut conn = mighty(&proxy, &schema).await;
            let next: Option<u32> = conn.query_first("SELECT n FROM next_number").await.unwrap();
            assert_eq!(next, Some(n));
        }
        let statement = "SET STATEMENT tx_read_only = 0 FOR SELECT server FROM innocent";
        assert_eq!(conn.query_first::<u32, _>(statement).await.unwrap(), Some(MASTER));
        expected += 1;
    }
    let written: Vec<u32> = conn.query("/* sluice: master */ SELECT server FROM seen").await.unwrap();
    assert_eq!(written, vec![MASTER; expected], "each ran once, on the master");
    cluster.settle().await.unwrap();
    for name in ["db3", "db4"] {
        let rows = cluster.server(name).value(&format!("SELECT COUNT(*) FROM {schema}.seen")).await.unwrap();
        assert_eq!(rows, expected.to_string(), "{name} has what was replicated and no more");
        assert_eq!(cluster.server(name).value(&format!("SELECT n FROM {schema}.kept")).await.unwrap(), "1", "{name}");
    }
    assert_eq!(others_wrote(&cluster, "db1").await, before);
}

/// What the client sees of its own `transaction_read_only`, and of definitions, is what the server shows.
#[tokio::test]
async fn nothing_of_the_guard_shows() {
    let (cluster, proxy) = own(|proxy| proxy.every_server("max_connections", "3")).await;
    let schema = prepare(&cluster, "guarded").await;
    let direct = driver::options(cluster.server("db1").port(), MIGHTY).db_name(Some(schema.clone()));
    let (mut through, mut direct) = (mighty(&proxy, &schema).await, driver::connect(direct).await.unwrap());
    let variable = read_only();
    let asks = [format!("SELECT @@{variable}, @@session.{variable}"), format!("SHOW VARIABLES LIKE '{variable}'")];
    let definitions = [
        "SHOW FULL TABLES",
        "SHOW TABLE STATUS LIKE 'innocent'",
        "DESCRIBE innocent",
        "SHOW COLUMNS FROM innocent",
        "SHOW FULL COLUMNS FROM kept_too",
        "SHOW CREATE VIEW innocent",
        "SELECT table_name, table_type, table_comment FROM information_schema.tables WHERE table_schema = DATABASE() ORDER BY 1",
        "SELECT table_name, column_name, data_type FROM information_schema.columns WHERE table_schema = DATABASE() ORDER BY 1, 2",
        "SELECT table_name, is_updatable, view_definition FROM information_schema.views WHERE table_schema = DATABASE() ORDER BY 1",
        "SELECT c.column_name FROM information_schema.columns c, harmless WHERE table_schema = DATABASE() AND table_name = 'innocent'",
        "SHOW WARNINGS",
    ];
    let before = ["", "SET SESSION TRANSACTION READ ONLY", "SET SESSION TRANSACTION READ WRITE", "START TRANSACTION READ ONLY"];
    for before in before {
        for conn in [&mut through, &mut direct] {
            conn.query_drop("COMMIT").await.unwrap();
            if !before.is_empty() {
                conn.query_drop(before).await.unwrap();
            }
        }
        for _ in 0..2 {
            for sql in definitions.iter().copied().chain(asks.iter().map(String::as_str)) {
                // Its connection is guarded again.
                through.query_drop(WHERE_AM_I).await.unwrap();
                direct.query_drop(WHERE_AM_I).await.unwrap();
                let (here, there) = (told(&mut through, sql).await.unwrap(), told(&mut direct, sql).await.unwrap());
                assert_eq!(here, there, "{before}; {sql}");
            }
        }
        for sql in ["SELECT server FROM innocent", "SELECT server FROM innocent FOR UPDATE", "INSERT INTO seen (server) VALUES (0)"]
        {
            let (here, there) = (told(&mut through, sql).await.unwrap(), told(&mut direct, sql).await.unwrap());
            assert_eq!(here.error, there.error, "{before}; {sql}");
        }
    }
    for conn in [&mut through, &mut direct] {
        conn.query_drop("COMMIT").await.unwrap();
        conn.query_drop("USE information_schema").await.unwrap();
    }
    let sql = format!("SELECT table_name, column_name FROM columns WHERE table_schema = '{schema}' ORDER BY 1, 2");
    assert_eq!(told(&mut through, &sql).await.unwrap(), told(&mut direct, &sql).await.unwrap());
    assert_eq!(others_wrote(&cluster, "db1").await, 0, "asking for definitions writes nothing");
}

/// The guard is set once for a connection, and is no statement of its own after that.
#[tokio::test]
async fn a_guarded_connection_costs_nothing_more() {
    let (cluster, proxy) = own(|proxy| proxy.every_server("max_connections", "1")).await;
    let mut conn = proxy.connect("shop").await.unwrap();
    let sets = async || {
        let mut all = 0;
        for name in ["db2", "db3", "db4"] {
            all += cluster.server(name).status("Com_set_option").await.unwrap();
        }
        all
    };
    for _ in 0..6 {
        where_am_i(&mut conn).await;
    }
    let before = sets().await;
    for _ in 0..60 {
        assert_ne!(where_am_i(&mut conn).await, MASTER);
        let _: Option<u32> = conn.exec_first("SELECT id FROM items WHERE id = ?", (1,)).await.unwrap();
    }
    // The drivers of this test itself set some.
    let asked = sets().await - before;
    assert!(asked < 60, "{asked} SETs for 120 statements");
}

/// Connections that were guarded write when their server is master, and those of the old one do not any more.
#[tokio::test]
async fn the_guard_goes_with_the_masters_role() {
    let (cluster, proxy) = own(|proxy| proxy.every_server("max_connections", "2")).await;
    let schema = prepare(&cluster, "guard_moves").await;
    let mut conn = mighty(&proxy, &schema).await;
    conn.query_drop("/* sluice: server=db2 */ SELECT 1 FROM shop.items LIMIT 1").await.unwrap();
    conn.query_drop("INSERT INTO seen (server) VALUES (@@server_id)").await.unwrap();
    proxy.admin("SWITCHOVER TO db2").await.unwrap();
    conn.query_drop("INSERT INTO seen (server) VALUES (@@server_id)").await.unwrap();
    for sql in ["SELECT server FROM innocent", "/* sluice: server=db1 */ SELECT server, 1 FROM innocent"] {
        let row: mysql_async::Row = conn.query_first(sql).await.unwrap().unwrap();
        assert_eq!(row.get::<u32, _>(0), Some(2), "{sql}");
    }
    conn.query_drop("BEGIN").await.unwrap();
    conn.query_drop("INSERT INTO seen (server) VALUES (@@server_id)").await.unwrap();
    conn.query_drop("COMMIT").await.unwrap();
    let written: Vec<u32> = conn.query("/* sluice: master */ SELECT server FROM seen").await.unwrap();
    assert_eq!(written, [1, 2, 2, 2, 2]);
    cluster.settle_behind("db2").await.unwrap();
    for server in cluster.servers() {
        assert!(cluster.replicates(server).await.unwrap(), "{}", server.name());
    }
}
