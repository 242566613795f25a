//! `capture-binlog`: what real servers write to their binary logs, for `src/binlog/fixtures.txt`. Prints the lines of the flavour in `FLAVOUR`.
//!
//! Each line: server, format, statements, what they change, and the bytes of a file of the log without its first four. What they change: tables, or
//! `!` and why everything; `+s` when logged as a statement, `+d` for definitions; transactions parted by `;`.

use anyhow::{Context, Result};
use integration::flavour::Flavour;
use integration::install::Install;
use integration::server::{Server, ServerOptions};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;

/// Statements, and what they change when rows are logged and when statements are. `-`: not in this format.
type Case = (&'static [&'static str], &'static str, &'static str);

const BOTH: &[Case] = &[
    (&["INSERT INTO a (id, n) VALUES (61, 1), (62, 2)"], "t.a", "t.a +s"),
    (&["UPDATE a SET n = n + 1"], "t.a", "t.a +s"),
    (&["DELETE FROM a WHERE id = 2"], "t.a", "t.a +s"),
    (&["UPDATE a JOIN b USING (id) SET a.n = 5, b.n = 6"], "t.a t.b", "t.a t.b +s"),
    (&["BEGIN", "INSERT INTO a (id) VALUES (8)", "INSERT INTO b VALUES (8, 8)", "COMMIT"], "t.a t.b", "t.a t.b +s"),
    (&["INSERT INTO a (id) VALUES (11)", "DELETE FROM b", "TRUNCATE a"], "t.a; t.b; t.a +d", "t.a +s; t.b +s; t.a +d"),
    (&["INSERT INTO triggered VALUES (1)"], "t.triggered t.written", "t.triggered +s"),
    (&["INSERT INTO a VALUES (30, 1, @x), (31, 2, UUID())"], "t.a", "t.a +s"),
    (
        &["CREATE TABLE c (id INT)", "ALTER TABLE c RENAME d", "DROP TABLE d"],
        "t.c +d; t.c t.d +d; t.d +d",
        "t.c +d; t.c t.d +d; t.d +d",
    ),
    (&["CREATE TABLE e AS SELECT id FROM a", "DROP TABLE e"], "t.e +d; t.e +d", "-"),
    (&["CREATE TEMPORARY TABLE tmp (id INT)", "DROP TEMPORARY TABLE tmp"], "", "-"),
    (&["CREATE VIEW v AS SELECT 1", "DROP VIEW v"], "!Ddl +d; !Ddl +d", "!Ddl +d; !Ddl +d"),
    (&["CREATE DATABASE u", "DROP DATABASE u"], "!Ddl +d; !Ddl +d", "!Ddl +d; !Ddl +d"),
    (&["CREATE USER x", "GRANT SELECT ON t.* TO x", "DROP USER x"], "!Grants; !Grants; !Grants", "!Grants; !Grants; !Grants"),
    (&["DO writes()"], "t.written", "!UnknownTables +d"),
    (&["XA START 'x'", "UPDATE a SET n = 9", "XA END 'x'", "XA PREPARE 'x'", "XA COMMIT 'x'"], "; t.a", "+s; t.a +s"),
];

const PACKED: &[Case] = &[
    (&["INSERT INTO a (id, n) VALUES (41, 1), (42, 2), (43, 3), (44, 4)"], "t.a", "t.a +s"),
    (&["BEGIN", "UPDATE a SET n = 7", "INSERT INTO b VALUES (41, 8)", "DELETE FROM a", "COMMIT"], "t.a t.b", "t.a t.b +s"),
    (&["ALTER TABLE a COMMENT 'long enough to be packed with the statement around it, and again'"], "t.a +d", "t.a +d"),
];

/// MySQL with GTIDs refuses transactions of tables that know none.
const MARIADB: &[Case] = &[(&["BEGIN", "UPDATE b SET n = 1", "INSERT INTO m VALUES (1)", "ROLLBACK"], "t.m", "-")];

const MYSQL: &[Case] = &[
    (&["SET gtid_next = 'AUTOMATIC:a_tag'", "INSERT INTO b VALUES (50, 1)", "SET gtid_next = AUTOMATIC"], "t.b", "t.b +s"),
    (
        &[
            "INSERT INTO j VALUES ('{\"a\": 1, \"b\": \"some text to make it longer\"}')",
            "SET binlog_row_value_options = PARTIAL_JSON",
            "UPDATE j SET j = JSON_SET(j, '$.a', 2)",
        ],
        "t.j; t.j",
        "-",
    ),
];

/// What every case begins with; not in the log.
const BASE: &[&str] = &[
    "SET sql_log_bin = 0",
    "DELETE FROM a",
    "DELETE FROM b",
    "DELETE FROM j",
    "DELETE FROM triggered",
    "INSERT INTO a (id, n) VALUES (2, 0), (5, 0)",
    "INSERT INTO b VALUES (2, 0), (5, 0)",
    "SET sql_log_bin = 1",
];

#[tokio::main]
async fn main() -> Result<()> {
    let flavour = Flavour::from_env()?;
    let install = Install::find(flavour)?;
    let template = integration::template::template(&install, &|_| {}).await?;
    let server = Server::start(&install, ServerOptions::new("capture", 1), &template)?;
    let mut conn = server.root().await?;
    for sql in [
        "CREATE DATABASE t",
        "USE t",
        "CREATE TABLE a (id INT PRIMARY KEY, n INT, s TEXT)",
        "CREATE TABLE b (id INT PRIMARY KEY, n INT)",
        "CREATE TABLE m (id INT) ENGINE = MyISAM",
        "CREATE TABLE j (j JSON)",
        "CREATE TABLE written (n INT)",
        "CREATE TABLE triggered (id INT PRIMARY KEY)",
        "CREATE TRIGGER t AFTER INSERT ON triggered FOR EACH ROW INSERT INTO written VALUES (NEW.id)",
        "CREATE FUNCTION writes() RETURNS INT BEGIN INSERT INTO written VALUES (1); RETURN 1; END",
        "SET @x = 'x'",
    ] {
        conn.query_drop(sql).await.with_context(|| sql.to_owned())?;
    }
    for format in ["ROW", "MIXED", "STATEMENT"] {
        conn.query_drop(format!("SET SESSION binlog_format = {format}")).await?;
        // What MIXED logs by rows depends on the server; it is told apart by one case that both log as a statement.
        let cases: Vec<&Case> = if format == "MIXED" { BOTH[..3].iter().collect() } else { BOTH.iter().collect() };
        capture(&server, &mut conn, format, "", &cases).await?;
        let own = if flavour == Flavour::MySql { MYSQL } else { MARIADB };
        capture(&server, &mut conn, format, "", &own.iter().collect::<Vec<_>>()).await?;
    }
    match flavour {
        Flavour::MySql => conn.query_drop("SET SESSION binlog_transaction_compression = ON").await?,
        Flavour::MariaDb => server.run(&["SET GLOBAL log_bin_compress_min_len = 10", "SET GLOBAL log_bin_compress = ON"]).await?,
    }
    for format in ["ROW", "STATEMENT"] {
        conn.query_drop(format!("SET SESSION binlog_format = {format}")).await?;
        capture(&server, &mut conn, format, " packed", &PACKED.iter().collect::<Vec<_>>()).await?;
    }
    server.run(&["SET GLOBAL binlog_checksum = NONE"]).await?;
    conn.query_drop("SET SESSION binlog_format = ROW").await?;
    capture(&server, &mut conn, "ROW", " without checksums", &PACKED.iter().collect::<Vec<_>>()).await
}

async fn capture(server: &Server, conn: &mut Conn, format: &str, how: &str, cases: &[&Case]) -> Result<()> {
    for (statements, rows, text) in cases {
        let expected = if format == "ROW" { rows } else { text };
        if *expected == "-" {
            continue;
        }
        for sql in BASE {
            conn.query_drop(*sql).await.with_context(|| (*sql).to_owned())?;
        }
        conn.query_drop("FLUSH BINARY LOGS").await?;
        let logs = server.query("SHOW BINARY LOGS").await?;
        let file = logs.rows.last().context("a file of the log")?[0].clone();
        for sql in *statements {
            conn.query_drop(*sql).await.with_context(|| (*sql).to_owned())?;
        }
        conn.query_drop("FLUSH BINARY LOGS").await?;
        let path = server.log().parent().context("a directory")?.join("data").join(file);
        let bytes = std::fs::read(&path).with_context(|| path.display().to_string())?;
        let hex: String = bytes.get(4..).unwrap_or_default().iter().map(|byte| format!("{byte:02x}")).collect();
        println!("{} | {format}{how} | {} | {expected} | {hex}", server.flavour(), statements.join("; "));
    }
    Ok(())
}
