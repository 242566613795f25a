//! The admin port, the HTTP port and the commands of the program: what operators hold in their hands.

use integration::accounts::Account;
use integration::driver;
use integration::proxy::{ADMIN, Proxy};
use mysql_async::prelude::Queryable;

use crate::world::{cluster, flavour, proxy, schema};

#[tokio::test]
async fn every_table_has_its_columns() {
    for (sql, columns) in [
        (
            "SHOW SERVERS",
            "name address role state zone weight lag_ms gtid connections_used connections_idle connections_max queries errors latency_us since reason",
        ),
        ("SHOW CLIENTS", "id user host schema state server pin_reason statement age_ms queries tls"),
        ("SHOW POOLS", "server user used idle waiting opened closed reused wait_us_p99"),
        (
            "SHOW STATEMENTS",
            "digest text schema user class target count errors rows sum_us min_us avg_us p99_us max_us first_seen last_seen cached",
        ),
        ("SHOW EVENTS", "at kind server detail"),
    ] {
        let table = proxy().admin(sql).await.unwrap();
        assert_eq!(table.columns.join(" "), columns, "{sql}");
    }
    let servers = proxy().admin("SHOW SERVERS").await.unwrap();
    assert_eq!(servers.column("name"), ["db1", "db2", "db3", "db4"]);
    assert_eq!(servers.column("state"), ["online"; 4]);
    assert_eq!(servers.column("role"), ["master", "standby", "replica", "replica"]);
    assert_eq!(servers.column("address")[0], cluster().server("db1").address());
}

#[tokio::test]
async fn tables_are_joined_and_commands_carry_who_gave_them() {
    let conn = proxy().connect("shop").await.unwrap();
    let table = proxy()
        .admin(
            "SELECT s.name, s.role, COUNT(p.server) AS users, MAX(p.opened) AS opened FROM servers s LEFT JOIN pools p ON p.server = s.name \
             WHERE s.state = 'online' GROUP BY s.name ORDER BY s.name DESC",
        )
        .await
        .unwrap();
    assert_eq!(table.column("name"), ["db4", "db3", "db2", "db1"]);
    drop(conn);
    let columns = proxy()
        .admin("SELECT COUNT(*) AS n FROM information_schema.columns WHERE table_schema = 'sluice' AND table_name = 'servers'")
        .await
        .unwrap();
    assert_eq!(columns.column("n"), ["16"]);
    proxy().admin("SET SERVER db4 WEIGHT 1").await.unwrap();
    let events = proxy().admin("SELECT detail FROM events WHERE kind = 'command' ORDER BY at").await.unwrap();
    let said = "admin@127.0.0.1: SET SERVER db4 WEIGHT 1: db4 has weight 1";
    assert!(events.column("detail").iter().any(|detail| detail.starts_with(said)), "{events:?}");
    let theirs = proxy().admin("SELECT hostgroup_id, port, status FROM runtime_mysql_servers ORDER BY 1").await.unwrap();
    assert_eq!(theirs.column("hostgroup_id"), ["0", "1", "1", "1"]);
    let error = proxy().admin("LOAD MYSQL SERVERS TO RUNTIME").await.unwrap_err();
    assert!(format!("{error:#}").contains("RELOAD CONFIG"), "{error:#}");
}

#[tokio::test]
async fn version_help_and_wrong_commands() {
    let version = proxy().admin("SHOW VERSION").await.unwrap();
    assert!(format!("{version:?}").contains(env!("CARGO_PKG_VERSION")), "{version:?}");
    let help = proxy().admin("HELP").await.unwrap();
    for word in ["SHOW SERVERS", "EXPLAIN ROUTE"] {
        assert!(help.rows.iter().flatten().any(|cell| cell.contains(word)), "{word} in {help:?}");
    }
    let error = proxy().admin("SHOW SERVRES").await.unwrap_err();
    assert!(format!("{error:#}").to_uppercase().contains("SERVERS"), "what would have been right: {error:#}");
    proxy().admin("DROP TABLE students").await.unwrap_err();
}

/// Pools of Connector/Python, mysql2 and Connector/J change the user to make a session new.
#[tokio::test]
async fn the_user_changes_on_the_admin_port() {
    use mysql_async::{ChangeUserOpts, Conn};
    let to = |password: &str| ChangeUserOpts::new().with_user(Some(ADMIN.name.into())).with_pass(Some(password.to_owned()));
    let mut conn: Conn = driver::connect(driver::options(proxy().admin_port(), ADMIN)).await.unwrap();
    for schema in [Some("sluice".to_owned()), None] {
        conn.query_drop("SET SQL_SELECT_LIMIT = 1").await.unwrap();
        conn.change_user(to(ADMIN.password).with_db_name(schema.clone())).await.unwrap();
        assert_eq!(conn.query_first::<Option<String>, _>("SELECT DATABASE()").await.unwrap(), Some(schema));
        assert_eq!(conn.query::<String, _>("SELECT name FROM servers").await.unwrap().len(), 4, "a new session has no limit");
    }
    let refused = conn.change_user(to("wrong")).await.unwrap_err();
    assert!(refused.to_string().contains("1045"), "{refused}");
    conn.query_drop("SELECT 1").await.expect_err("who was refused has to go");
}

#[tokio::test]
async fn statements_are_counted_by_digest() {
    let schema = schema("admin_digest").await;
    let mut conn = proxy().connect(&schema).await.unwrap();
    conn.query_drop("CREATE TABLE counted (id INT)").await.unwrap();
    for n in 0..7 {
        conn.query_drop(format!("SELECT id FROM counted WHERE id = {n}")).await.unwrap();
    }
    let table = proxy().admin("SHOW STATEMENTS").await.unwrap();
    // One row for each target: right after the CREATE a read may have gone to the master.
    let rows: Vec<_> =
        table.rows.iter().filter(|row| row.iter().any(|cell| cell.to_lowercase().contains("from counted where"))).collect();
    let column = |name: &str| table.columns.iter().position(|column| column == name).unwrap();
    let count: u64 = rows.iter().map(|row| row[column("count")].parse::<u64>().unwrap()).sum();
    assert_eq!(count, 7, "{rows:?}");
    for row in rows {
        assert_eq!(row[column("errors")], "0", "{row:?}");
        assert!(row[column("text")].contains('?') && !row[column("text")].contains("= 3"), "{row:?}");
        assert_eq!(row[column("class")], "read");
    }
}

#[tokio::test]
async fn a_client_is_listed_while_it_is_there() {
    let mut conn = proxy().connect("shop").await.unwrap();
    // The login's answer is sent before the list has its schema.
    conn.ping().await.unwrap();
    let id = conn.id().to_string();
    let clients = proxy().admin("SHOW CLIENTS").await.unwrap();
    assert_eq!(clients.cell("id", &id, "user"), Some("app"), "{clients:?}");
    assert_eq!(clients.cell("id", &id, "schema"), Some("shop"));
    drop(conn);
    let gone = integration::wait::until_true("the client is gone", std::time::Duration::from_secs(5), async || {
        Ok(proxy().admin("SHOW CLIENTS").await?.cell("id", &id, "user").is_none())
    });
    gone.await.unwrap();
}

#[tokio::test]
async fn prepared_and_preamble_statements_of_tools_are_answered() {
    let mut conn = driver::connect(driver::options(proxy().admin_port(), ADMIN)).await.unwrap();
    for sql in ["SELECT 1", "SELECT @@version_comment LIMIT 1", "SET NAMES utf8mb4", "SELECT @@max_allowed_packet, @@wait_timeout"]
    {
        conn.query_drop(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }
}

/// Times are times for drivers, in both protocols: Grafana takes no text for one.
#[tokio::test]
async fn times_are_times() {
    use mysql_async::Value;
    use mysql_async::consts::ColumnType;
    let mut conn = driver::connect(driver::options(proxy().admin_port(), ADMIN)).await.unwrap();
    let sql = "SELECT at, kind FROM events ORDER BY at LIMIT 1";
    let text: mysql_async::Row = conn.query_first(sql).await.unwrap().unwrap();
    assert_eq!(text.columns_ref()[0].column_type(), ColumnType::MYSQL_TYPE_DATETIME);
    let said: String = text.get(0).unwrap();
    let prepared: mysql_async::Row = conn.exec_first(sql, ()).await.unwrap().unwrap();
    let Some(Value::Date(year, month, day, hour, minute, second, micros)) = prepared.as_ref(0) else { panic!("{prepared:?}") };
    let read = format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}.{:03}", micros / 1000);
    assert_eq!(read, said);
    let kind: String = prepared.get(1).unwrap();
    assert!(!kind.is_empty(), "what follows a time is read at its place");
}

#[tokio::test]
async fn the_admin_port_wants_its_password() {
    for account in [Account { name: "admin", password: "wrong" }, Account { name: "app", password: "password" }] {
        assert!(driver::connect(driver::options(proxy().admin_port(), account)).await.is_err(), "{account:?}");
    }
}

#[tokio::test]
async fn the_http_port_answers() {
    assert_eq!(proxy().get("/healthz").await.unwrap().0, 200);
    assert_eq!(proxy().get("/readyz").await.unwrap().0, 200);
    assert_eq!(proxy().get("/nothing/here").await.unwrap().0, 404);
    let mut conn = proxy().connect("shop").await.unwrap();
    conn.query_drop("SELECT COUNT(*) FROM items").await.unwrap();
    conn.query_drop("UPDATE items SET stock = stock WHERE id = 1").await.unwrap();
    let (status, body) = proxy().get("/metrics").await.unwrap();
    assert_eq!(status, 200);
    for name in [
        "sluice_queries_total",
        "sluice_query_duration_seconds_bucket",
        "sluice_proxy_overhead_seconds_bucket",
        "sluice_clients",
        "sluice_server_up",
        "sluice_server_role",
        "sluice_server_lag_seconds",
        "sluice_pool_connections",
        "sluice_logins_total",
        "sluice_errors_total",
        "sluice_build_info",
    ] {
        assert!(body.lines().any(|line| line.starts_with(name)), "{name} is missing");
    }
    assert_eq!(proxy().metric("sluice_server_up", &[]).await.unwrap() as u32, 4);
    let before = proxy().metric("sluice_queries_total", &["server=\"db1\""]).await.unwrap();
    conn.query_drop("UPDATE items SET stock = stock WHERE id = 1").await.unwrap();
    assert!(proxy().metric("sluice_queries_total", &["server=\"db1\""]).await.unwrap() > before);
}

#[tokio::test]
async fn the_programs_commands() {
    let (code, out, _) = Proxy::command(&["--version"]).await.unwrap();
    assert_eq!((code, out.trim().starts_with("sluice ")), (0, true), "{out}");
    let (code, out, _) = Proxy::command(&["--help"]).await.unwrap();
    assert!(code == 0 && out.contains("check") && out.contains("explain"), "{out}");
    let config = proxy().config_path().display().to_string();
    let (code, out, err) = Proxy::command(&["check", "--config", &config]).await.unwrap();
    assert_eq!(code, 0, "{out}{err}");
    let (code, out, err) = Proxy::command(&["check", "--config", &config, "--online"]).await.unwrap();
    assert_eq!(code, 0, "{out}{err}");
    let (code, ..) = Proxy::command(&["run", "--config", "/nowhere/sluice.toml"]).await.unwrap();
    assert_eq!(code, 2);
}

#[tokio::test]
async fn every_mistake_of_a_file_is_told_with_its_place() {
    let dir = integration::home::new_dir("wrong").unwrap();
    let file = dir.join("sluice.toml");
    std::fs::write(
        &file,
        "[proxy]\nlisten = [\"127.0.0.1:0\"]\nmax_client = 5\n[monitor]\nuser = \"x\"\nheartbeat_interval = \"soon\"\n\
         [[server]]\nname = \"db1\"\naddress = \"127.0.0.1:1\"\nrole = \"boss\"\n",
    )
    .unwrap();
    for command in ["check", "run"] {
        let (code, out, err) = Proxy::command(&[command, "--config", &file.display().to_string()]).await.unwrap();
        let said = out + &err;
        assert_eq!(code, 2, "{said}");
        for word in ["max_clients", "3:1", "heartbeat_interval", "boss"] {
            assert!(said.contains(word), "{command} does not say {word:?}:\n{said}");
        }
    }
    std::fs::remove_dir_all(dir).unwrap();
}

#[tokio::test]
async fn a_reload_applies_and_a_wrong_one_changes_nothing() {
    let mut proxy = Proxy::before(cluster()).start().await.unwrap();
    let mut conn = proxy.connect("shop").await.unwrap();
    proxy.reload_with(|config| config.server("db3", "weight", "7")).await.unwrap();
    let servers = proxy.admin("SHOW SERVERS").await.unwrap();
    assert_eq!(servers.cell("name", "db3", "weight"), Some("7"), "{}", flavour());
    proxy.reload_with(|config| config.server("db3", "weight", "\"heavy\"")).await.unwrap_err();
    let servers = proxy.admin("SHOW SERVERS").await.unwrap();
    assert_eq!(servers.cell("name", "db3", "weight"), Some("7"));
    conn.query_drop("SELECT 1").await.expect("no client was dropped");
    assert!(proxy.admin("SHOW EVENTS").await.unwrap().column("kind").contains(&"reload"));
}
