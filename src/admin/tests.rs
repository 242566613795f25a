//! The statements of the admin port against a made-up house, as tables.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

use super::house::StepRow;
use super::*;

/// A house with two servers, and a note of every command it was given.
#[derive(Default)]
pub(super) struct Model {
    pub(super) commands: Mutex<Vec<Command>>,
    pub(super) notes: Mutex<Vec<String>>,
    /// How often its servers were read.
    pub(super) read: AtomicU32,
    /// Several events happened in one millisecond.
    is_busy: bool,
}

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

fn server(name: &str, role: &str, lag_ms: Option<u64>, queries: u64) -> ServerRow {
    ServerRow {
        name: name.into(),
        address: "127.0.0.1:3307".into(),
        role: Some(role.into()),
        state: "online".into(),
        zone: "a".into(),
        weight: 1,
        lag_ms,
        gtid: "0-1-15".into(),
        connections_used: 1,
        connections_idle: 4,
        connections_max: 100,
        queries,
        errors: 0,
        latency_us: Some(210),
        since: at(1_795_381_445),
        reason: String::new(),
    }
}

fn statement(text: &str, class: &str, count: u64, sum_us: u64) -> StatementRow {
    StatementRow {
        digest: format!("{:016x}", text.len()),
        text: text.into(),
        schema: "shop".into(),
        user: "app".into(),
        class: class.into(),
        target: "replica".into(),
        count,
        errors: 1,
        rows: count,
        sum_us,
        min_us: 1,
        avg_us: sum_us / count,
        p99_us: 900,
        max_us: 1000,
        first_seen: at(0),
        last_seen: at(60),
        cached: "no".into(),
    }
}

#[async_trait::async_trait]
impl House for Model {
    fn servers(&self) -> Vec<ServerRow> {
        self.read.fetch_add(1, Relaxed);
        vec![server("db1", "master", None, 100), server("db2", "standby", Some(12), 70), server("db3", "replica", Some(7), 300)]
    }
    fn clients(&self) -> Vec<ClientRow> {
        vec![ClientRow {
            id: 9,
            user: "app".into(),
            host: "10.0.0.5:4711".into(),
            schema: Some("shop".into()),
            state: "active".into(),
            server: Some("db1".into()),
            pin_reason: Some("transaction".into()),
            statement: Some("UPDATE items SET n = ?".into()),
            age_ms: 2500,
            queries: 3,
            tls: None,
        }]
    }
    fn pools(&self) -> Vec<PoolRow> {
        Vec::new()
    }
    fn statements(&self) -> Vec<StatementRow> {
        vec![
            statement("SELECT a", "read", 10, 5000),
            statement("SELECT bb", "read", 5, 9000),
            statement("UPDATE c", "write", 2, 700),
        ]
    }
    fn events(&self) -> Vec<EventRow> {
        let event =
            |kind: &str, detail: &str| EventRow { at: at(0), kind: kind.into(), server: Some("db1".into()), detail: detail.into() };
        match self.is_busy {
            true => ["first", "second", "third"].map(|detail| event("command", detail)).to_vec(),
            false => vec![event("suspect", "no heartbeat for 1s")],
        }
    }
    fn rules(&self) -> Vec<RuleRow> {
        Vec::new()
    }
    fn users(&self) -> Vec<UserRow> {
        Vec::new()
    }
    fn config_text(&self) -> String {
        "[proxy]\nlisten = [\"0.0.0.0:3306\"]\nmax_clients = 10\n[[server]]\nname = \"db1\"\n".to_owned()
    }
    fn status(&self) -> Vec<(String, String)> {
        vec![("Uptime".into(), "12".into()), ("Questions".into(), "470".into())]
    }
    fn variables(&self) -> Vec<(String, String)> {
        vec![("max_clients".into(), "10".into()), ("monitor.max_lag".into(), "\"5s\"".into())]
    }
    fn metrics_text(&self) -> String {
        "# HELP sluice_server_up x\n# TYPE sluice_server_up gauge\nsluice_server_up{server=\"db1\"} 1\nsluice_held_statements 0\n"
            .to_owned()
    }
    fn explain_route(&self, user: Option<&str>, client: Option<std::net::IpAddr>, schema: Option<&str>, sql: &str) -> ExplainRow {
        ExplainRow {
            class: "read".into(),
            target: "replica".into(),
            server: Some("db3".into()),
            reason: format!("user {user:?} from {client:?} schema {schema:?} statement {sql}"),
            tables: "shop.items".into(),
            cacheable: "yes".into(),
            digest: "00".into(),
            rule: None,
        }
    }
    fn ready(&self) -> Result<(), String> {
        Err("no master is known".to_owned())
    }
    fn note(&self, who: &str, what: &str) {
        self.notes.lock().push(format!("{who} {what}"));
    }
    async fn command(&self, command: Command) -> Result<String, AdminError> {
        self.commands.lock().push(command);
        Ok("done".to_owned())
    }
    async fn steps(&self, command: Command) -> Result<Vec<StepRow>, AdminError> {
        if let Command::Switchover { dry_run: false, .. } = command {
            return Err(AdminError::failed("db2 is 12000 ms behind"));
        }
        self.commands.lock().push(command);
        let step = StepRow { step: "fence".into(), server: Some("db1".into()), took_ms: 7, detail: "it is read-only".into() };
        Ok(vec![step])
    }
}

fn run(sql: &str) -> Answer {
    run_in(sql, &mut Session::default(), &Model::default())
}

fn run_in(sql: &str, session: &mut Session, house: &Model) -> Answer {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(execute_in(sql, session, house))
}

/// A table as `a b | 1 2 | 3 4`.
pub(super) fn shown(answer: &Answer) -> String {
    match answer {
        Answer::Table(table) => {
            let mut lines = vec![table.columns.iter().map(|c| c.name.clone()).collect::<Vec<_>>().join(" ")];
            for row in &table.rows {
                assert_eq!(row.len(), table.columns.len());
                lines.push(row.iter().map(|v| v.text().unwrap_or_else(|| "NULL".into())).collect::<Vec<_>>().join(" "));
            }
            lines.join(" | ")
        }
        Answer::Ok { info, .. } => format!("OK {info}").trim_end().to_owned(),
        Answer::Error(e) => format!("{} {} {}", e.errno, e.sqlstate, e.message),
    }
}

fn all(cases: &[(&str, &str)]) {
    for (sql, wanted) in cases {
        assert_eq!(shown(&run(sql)), *wanted, "{sql}");
    }
}

#[test]
fn tables_have_the_columns_of_the_contract() {
    let columns = |sql: &str| shown(&run(sql)).split(" | ").next().unwrap_or_default().to_owned();
    for (sql, wanted) in [
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
        ("EXPLAIN ROUTE SELECT 1", "class target server reason tables cacheable digest rule"),
        ("SHOW COLUMNS FROM cache", "Field Type Null Key Default Extra"),
    ] {
        assert_eq!(columns(sql), wanted);
    }
    let cache = shown(&run("SELECT COLUMN_NAME FROM information_schema.columns WHERE TABLE_NAME = 'cache'"));
    assert_eq!(
        cache,
        "COLUMN_NAME | entries | bytes | hits | misses | stores | evictions | invalidations | hit_ratio | store | state"
    );
}

#[test]
fn shows() {
    all(&[
        ("SHOW STATUS", "Variable_name Value | Uptime 12 | Questions 470"),
        ("show global status like 'up%'", "Variable_name Value | Uptime 12"),
        ("SHOW VARIABLES LIKE 'max_c%';", "Variable_name Value | max_clients 10"),
        (
            "SHOW VARIABLES WHERE Variable_name = 'max_clients' OR Variable_name = 'license'",
            "Variable_name Value | license Apache-2.0 | max_clients 10",
        ),
        ("SHOW CONFIG", "name value | proxy.listen [\"0.0.0.0:3306\"] | proxy.max_clients 10 | server.db1.name db1"),
        ("SHOW METRICS", "name labels value | sluice_server_up server=\"db1\" 1 | sluice_held_statements  0"),
        (
            "SHOW PROCESSLIST",
            "Id User Host db Command Time State Info | 9 app 10.0.0.5:4711 shop Query 2 active, pinned: transaction UPDATE items SET n = ?",
        ),
        ("SHOW EVENTS", "at kind server detail | 1970-01-01 00:00:00.000 suspect db1 no heartbeat for 1s"),
        ("SHOW VERSION", concat!("name version | sluice ", env!("CARGO_PKG_VERSION"))),
        ("SHOW DATABASES", "Database | information_schema | sluice"),
        ("SHOW FULL TABLES LIKE 'po%'", "Tables_in_sluice Table_type | pools BASE TABLE"),
        ("SHOW TABLES FROM information_schema", "Tables_in_information_schema"),
        ("SHOW TABLES FROM mysql", "Tables_in_mysql"),
        ("SHOW TABLES FROM main LIKE 'po%'", "Tables_in_main | pools"),
        (
            "SHOW TABLES FROM shop",
            "1049 42000 sluice: no schema is called `shop` on the admin port; there are sluice and information_schema",
        ),
        (
            "SHOW TABLE STATUS FROM shop",
            "1049 42000 sluice: no schema is called `shop` on the admin port; there are sluice and information_schema",
        ),
        (
            "DESCRIBE events",
            "Field Type Null Key Default Extra | at datetime(3) YES  NULL  | kind varchar(255) YES  NULL  | server varchar(255) YES  NULL  | detail varchar(255) YES  NULL ",
        ),
        ("SHOW WARNINGS", "Level Code Message"),
        (
            "SHOW SERVERS WHERE lag_ms > 10 ",
            "name address role state zone weight lag_ms gtid connections_used connections_idle connections_max queries errors latency_us since reason | db2 127.0.0.1:3307 standby online a 1 12 0-1-15 1 4 100 70 0 210 2026-11-22 21:04:05.000 ",
        ),
        ("SHOW CACHE", "1235 42000 sluice: SHOW CACHE is not available in this version"),
        ("SHOW CONFIG DIFF", "1235 42000 sluice: SHOW CONFIG DIFF is not available in this version"),
    ]);
}

#[test]
fn commands_reach_the_house() {
    let house = Model::default();
    let mut session = Session::default();
    for (sql, wanted) in [
        ("DRAIN SERVER db3", Command::DrainServer("db3".into())),
        ("online server `db 3`;", Command::OnlineServer("db 3".into())),
        ("OFFLINE SERVER 'db3'", Command::OfflineServer("db3".into())),
        ("SET SERVER db3 WEIGHT 5", Command::SetWeight { server: "db3".into(), weight: 5 }),
        ("PAUSE", Command::Pause),
        ("RESUME", Command::Resume),
        ("FLUSH CACHE", Command::FlushCache(None)),
        ("FLUSH CACHE TABLE shop.items", Command::FlushCache(Some("shop.items".into()))),
        ("FLUSH STATEMENTS", Command::FlushStatements),
        ("KILL 9", Command::Kill { id: 9, query: false }),
        ("KILL CONNECTION 9", Command::Kill { id: 9, query: false }),
        ("/* tool */ kill query 9", Command::Kill { id: 9, query: true }),
        ("RELOAD CONFIG", Command::ReloadConfig),
        ("SAVE CONFIG", Command::SaveConfig),
        ("SHUTDOWN", Command::Shutdown),
    ] {
        assert_eq!(shown(&run_in(sql, &mut session, &house)), "OK done", "{sql}");
        assert_eq!(house.commands.lock().pop(), Some(wanted), "{sql}");
    }
}

#[test]
fn replacing_the_master_answers_with_the_steps() {
    let house = Model::default();
    let mut session = Session::default();
    for (sql, wanted) in [
        ("SWITCHOVER TO db2 DRY RUN", Command::Switchover { to: "db2".into(), dry_run: true }),
        ("FAILOVER TO db2", Command::Failover { to: "db2".into(), force: false }),
        ("FAILOVER TO db2 FORCE", Command::Failover { to: "db2".into(), force: true }),
        ("REJOIN SERVER db1", Command::RejoinServer("db1".into())),
    ] {
        let told = shown(&run_in(sql, &mut session, &house));
        assert_eq!(told, "step server took_ms detail | fence db1 7 it is read-only", "{sql}");
        assert_eq!(house.commands.lock().pop(), Some(wanted), "{sql}");
    }
    let refused = shown(&run_in("SWITCHOVER TO db2", &mut session, &house));
    assert_eq!(refused, "1105 HY000 sluice: db2 is 12000 ms behind");
}

#[test]
fn wrong_statements_say_what_would_have_been_right() {
    all(&[
        ("SHWO SERVERS", "1064 42000 sluice: unknown statement `SHWO SERVERS`; did you mean SHOW SERVERS?"),
        ("SHOW SERVRES", "1064 42000 sluice: unknown statement `SHOW SERVRES`; did you mean SHOW SERVERS?"),
        ("SHOW banana", "1064 42000 sluice: unknown statement `SHOW BANANA`; HELP lists what there is"),
        ("SHOW SERVERS now", "1064 42000 sluice: `now` cannot follow SHOW SERVERS; LIKE 'pattern', WHERE, ORDER BY and LIMIT can"),
        ("DRIAN SERVER db3", "1064 42000 sluice: unknown statement `DRIAN SERVER db3`; did you mean DRAIN SERVER server?"),
        ("DRAIN db3", "1064 42000 sluice: SERVER is missing; write DRAIN SERVER db3"),
        ("DRAIN SERVER", "1064 42000 sluice: the server is missing at the end of `DRAIN SERVER`"),
        ("DRAIN SERVER db3 now", "1064 42000 sluice: `now` is too much; write DRAIN SERVER db3"),
        ("SET SERVER db3 WEIGHT 0", "1064 42000 sluice: a weight is a number from 1 to 1000000; OFFLINE SERVER takes a server out"),
        ("SET SERVR db3 WEIGHT 5", "1064 42000 sluice: SET what? SET SERVER db3 WEIGHT 5"),
        ("SET GLOBAL x = 1", "1235 42000 sluice: settings are changed in the configuration file, then RELOAD CONFIG"),
        ("SWITCHOVER db2", "1064 42000 sluice: TO is missing; write SWITCHOVER TO db2 [DRY RUN]"),
        ("FLUSH TABLES", "1064 42000 sluice: FLUSH what? FLUSH CACHE [TABLE shop.items] or FLUSH STATEMENTS"),
        ("KILL abc", "1064 42000 sluice: a number is missing; write KILL [QUERY] id; SHOW CLIENTS lists the ids"),
        ("", "1065 42000 sluice: the statement is empty; HELP lists what there is"),
        (" ; ", "1065 42000 sluice: the statement is empty; HELP lists what there is"),
        ("PAUSE; RESUME", "1064 42000 sluice: one statement at a time, please: there is text after a `;`"),
        (
            "INSERT INTO t VALUES (1)",
            "1064 42000 sluice: unknown statement `INSERT INTO t VALUES (1)`; this is the proxy's admin port; statements for the servers go to the port of the clients",
        ),
        ("DESCRIBE server", "1146 42S02 sluice: no table is called `server`; did you mean `servers`?"),
        (
            "EXPLAIN ROUTE",
            "1064 42000 sluice: EXPLAIN ROUTE needs a statement: EXPLAIN ROUTE [FOR USER name] [FROM address] SELECT 1",
        ),
    ]);
}

#[test]
fn explain_route_passes_the_statement_untouched() {
    let reason = |sql: &str, session: &mut Session| match run_in(sql, session, &Model::default()) {
        Answer::Table(table) => table.rows[0][3].text().unwrap(),
        other => panic!("{other:?}"),
    };
    let mut session = Session::default();
    assert_eq!(
        reason("EXPLAIN ROUTE SELECT 'it''s; here';", &mut session),
        "user None from None schema None statement SELECT 'it''s; here'"
    );
    run_in("USE shop", &mut session, &Model::default());
    assert_eq!(
        reason("explain route for user app /* sluice: master */ SELECT 1", &mut session),
        "user Some(\"app\") from None schema Some(\"shop\") statement /* sluice: master */ SELECT 1"
    );
    assert_eq!(
        reason("EXPLAIN ROUTE FOR USER 'a b' garbage 'with an open quote", &mut session),
        "user Some(\"a b\") from None schema Some(\"shop\") statement garbage 'with an open quote"
    );
    for statement in ["SELECT /*!40001 SQL_NO_CACHE */ 1", "/*!50000 SELECT */ 1", "/*! SELECT 1"] {
        assert_eq!(
            reason(&format!("/* a tool */ EXPLAIN ROUTE {statement}"), &mut session),
            format!("user None from None schema Some(\"shop\") statement {statement}")
        );
    }
    run_in("USE sluice", &mut session, &Model::default());
    assert_eq!(
        reason("EXPLAIN ROUTE FOR USER app FROM '10.1.2.3' SELECT 1", &mut Session::default()),
        "user Some(\"app\") from Some(10.1.2.3) schema None statement SELECT 1"
    );
    assert_eq!(
        reason("EXPLAIN ROUTE FROM ::1 SELECT 1", &mut Session::default()),
        "user None from Some(::1) schema None statement SELECT 1"
    );
    all(&[(
        "EXPLAIN ROUTE FROM here SELECT 1",
        "1064 42000 sluice: `here` is no address; EXPLAIN ROUTE FROM '10.1.2.3' statement",
    )]);
    assert_eq!(reason("EXPLAIN ROUTE SELECT 1", &mut session), "user None from None schema None statement SELECT 1");
}

#[test]
fn preambles_of_clients() {
    all(&[
        ("select @@version_comment limit 1", "@@version_comment | Sluice admin"),
        ("SELECT 1", "1 | 1"),
        ("SELECT DATABASE()", "DATABASE() | NULL"),
        ("SELECT USER()", "USER() | admin@localhost"),
        ("select USER(), 'a' AS b", "USER() b | admin@localhost a"),
        ("SELECT @@session.tx_isolation, @@max_allowed_packet AS p", "@@session.tx_isolation p | REPEATABLE-READ 1048576"),
        ("SELECT 1 FROM dual", "1 | 1"),
        ("SET NAMES utf8mb4", "OK"),
        ("SET autocommit=1, sql_mode = concat(@@sql_mode,',STRICT_TRANS_TABLES')", "OK"),
        ("SET character_set_results = NULL", "OK"),
        ("set session transaction read only", "OK"),
        ("SET @@session.time_zone := '+00:00'", "OK"),
        ("USE sluice", "OK"),
        ("START TRANSACTION", "OK"),
        ("COMMIT", "OK"),
        (
            "SELECT @@maxallowed_packet",
            "1193 HY000 sluice: unknown system variable `maxallowed_packet`; did you mean `@@max_allowed_packet`?",
        ),
    ]);
    // Connector/J 8 and 9
    let jdbc = "/* mysql-connector-j-9.1.0 (Revision: x) */SELECT  @@session.auto_increment_increment AS auto_increment_increment, \
        @@character_set_client AS character_set_client, @@character_set_connection AS character_set_connection, \
        @@character_set_results AS character_set_results, @@character_set_server AS character_set_server, \
        @@collation_server AS collation_server, @@collation_connection AS collation_connection, @@init_connect AS init_connect, \
        @@interactive_timeout AS interactive_timeout, @@license AS license, @@lower_case_table_names AS lower_case_table_names, \
        @@max_allowed_packet AS max_allowed_packet, @@net_write_timeout AS net_write_timeout, \
        @@performance_schema AS performance_schema, @@query_cache_size AS query_cache_size, @@query_cache_type AS query_cache_type, \
        @@sql_mode AS sql_mode, @@system_time_zone AS system_time_zone, @@time_zone AS time_zone, \
        @@transaction_isolation AS transaction_isolation, @@wait_timeout AS wait_timeout";
    let answer = shown(&run(jdbc));
    assert!(answer.ends_with(" 28800") && answer.starts_with("auto_increment_increment character_set_client"), "{answer}");
}

/// Harm: whoever asked for the newest events first read those of one millisecond in the wrong order.
#[test]
fn events_of_one_millisecond_are_in_their_order_both_ways() {
    let house = Model { is_busy: true, ..Model::default() };
    let mut session = Session::default();
    let mut ask = |sql: &str| shown(&run_in(sql, &mut session, &house));
    let down = "detail | third | second | first";
    for sql in [
        "SELECT detail FROM events ORDER BY at DESC",
        "SELECT detail FROM sluice.events e WHERE kind = 'command' ORDER BY e.at DESC LIMIT 10",
        "SELECT detail FROM events ORDER BY kind, at DESC",
    ] {
        assert_eq!(ask(sql), down, "{sql}");
    }
    assert!(ask("SELECT at AS time, detail FROM events ORDER BY time DESC").ends_with("first"));
    assert_eq!(ask("SELECT detail FROM events ORDER BY at"), "detail | first | second | third");
    assert_eq!(ask("SELECT DISTINCT kind FROM events ORDER BY at DESC"), "kind | command");
    assert_eq!(ask("SELECT at, COUNT(*) AS n FROM events GROUP BY at ORDER BY at DESC"), "at n | 1970-01-01 00:00:00.000 3");
    assert!(ask("SHOW EVENTS ORDER BY at DESC").contains("third | "), "{}", ask("SHOW EVENTS ORDER BY at DESC"));
    assert_eq!(ask("WITH events AS (SELECT 1 AS at) SELECT at FROM events ORDER BY at DESC"), "at | 1");
    assert_eq!(ask("SELECT e.detail FROM events e JOIN events f ON e.detail = f.detail ORDER BY e.at DESC LIMIT 0"), "detail");
}

/// JDBC's `setMaxRows`.
#[test]
fn a_session_may_limit_its_selects() {
    let house = Model::default();
    let mut session = Session::default();
    let mut ask = |sql: &str| shown(&run_in(sql, &mut session, &house));
    for set in ["SET SQL_SELECT_LIMIT=1", "SET @@session.sql_select_limit := 1", "SET NAMES utf8mb4, SESSION SQL_SELECT_LIMIT = 1"]
    {
        assert_eq!(ask(set), "OK", "{set}");
        assert_eq!(ask("SELECT name FROM servers ORDER BY name DESC"), "name | db3", "{set}");
        assert_eq!(ask("SELECT name FROM servers LIMIT 2"), "name | db1 | db2");
        assert_eq!(ask("SELECT COUNT(*) AS n FROM servers WHERE name IN (SELECT name FROM servers)"), "n | 3");
        assert_eq!(ask("SHOW SERVERS").matches(" | ").count(), 3);
        assert_eq!(ask("SET SQL_SELECT_LIMIT = DEFAULT"), "OK");
        assert_eq!(ask("SELECT name FROM servers"), "name | db1 | db2 | db3");
    }
    assert_eq!(ask("SET SQL_SELECT_LIMIT = 18446744073709551615"), "OK");
    assert_eq!(ask("SELECT name FROM servers"), "name | db1 | db2 | db3");
    assert_eq!(ask("SET SQL_SELECT_LIMIT = 'x'"), "1232 42000 sluice: SQL_SELECT_LIMIT is a number of rows or DEFAULT");
}

/// What tools send when they connect and draw their trees, as their own logs show it: all of it is answered, none refused.
#[test]
fn tools_connect_and_find_the_tables() {
    let mut session = Session::default();
    for (tool, statements) in [
        (
            "HeidiSQL",
            &[
                "/*!40101 SET NAMES utf8mb4 */",
                "SET SQL_SAFE_UPDATES=0",
                "SHOW VARIABLES",
                "SHOW /*!50002 GLOBAL */ STATUS",
                "SELECT NOW()",
                "SHOW DATABASES",
                "USE `sluice`",
                "SHOW TABLE STATUS FROM `sluice`",
                "SHOW FUNCTION STATUS WHERE `Db`='sluice'",
                "SHOW PROCEDURE STATUS WHERE `Db`='sluice'",
                "SHOW TRIGGERS FROM `sluice`",
                "SELECT `DEFAULT_COLLATION_NAME` FROM `information_schema`.`SCHEMATA` WHERE `SCHEMA_NAME`='sluice'",
                "SELECT *, EVENT_SCHEMA AS `Db`, EVENT_NAME AS `Name` FROM information_schema.`EVENTS` WHERE `EVENT_SCHEMA`='sluice'",
                "SELECT * FROM `information_schema`.`COLUMNS` WHERE TABLE_SCHEMA='sluice' AND TABLE_NAME='servers' ORDER BY ORDINAL_POSITION",
                "SHOW INDEXES FROM `servers` FROM `sluice`",
                "SELECT * FROM information_schema.REFERENTIAL_CONSTRAINTS WHERE CONSTRAINT_SCHEMA='sluice' AND TABLE_NAME='servers' AND REFERENCED_TABLE_NAME IS NOT NULL",
                "SELECT * FROM `sluice`.`servers` LIMIT 1000",
                "SHOW CREATE TABLE `sluice`.`servers`",
                "SHOW COLLATION",
                "SHOW ENGINES",
            ][..],
        ),
        (
            "Workbench",
            &[
                "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ",
                "SELECT current_user()",
                "SET CHARACTER SET utf8",
                "SET NAMES utf8",
                "SHOW SESSION STATUS LIKE 'Ssl_cipher'",
                "SHOW SESSION VARIABLES LIKE 'lower_case_table_names'",
                "SHOW SESSION VARIABLES LIKE 'sql_mode'",
                "SHOW DATABASES",
                "SHOW FULL TABLES FROM `sluice`",
                "SHOW FULL COLUMNS FROM `sluice`.`servers`",
                "SHOW INDEXES FROM `sluice`.`servers`",
                "SELECT `CONSTRAINT_NAME` FROM `information_schema`.`table_constraints` WHERE table_schema = 'sluice'",
                "SHOW GRANTS",
                "SHOW PLUGINS",
                "SHOW PRIVILEGES",
            ],
        ),
        (
            "DBeaver",
            &[
                "SET SESSION sql_mode = 'ANSI'",
                "SELECT @@GLOBAL.character_set_server,@@GLOBAL.collation_server",
                "SELECT DATABASE()",
                "SHOW CHARSET",
                "SHOW COLLATION",
                "SELECT * FROM information_schema.SCHEMATA ORDER BY SCHEMA_NAME",
                "SHOW FULL TABLES FROM `sluice` WHERE Table_type <> 'VIEW'",
                "SELECT * FROM information_schema.PARTITIONS WHERE TABLE_SCHEMA='sluice'",
                "SELECT * FROM information_schema.KEY_COLUMN_USAGE WHERE TABLE_SCHEMA='sluice' AND REFERENCED_TABLE_NAME IS NOT NULL",
                "SELECT x.* FROM sluice.servers x LIMIT 0, 200",
                "SHOW WARNINGS",
            ],
        ),
        (
            "Grafana",
            &[
                "SELECT 1",
                "SELECT DISTINCT TABLE_SCHEMA from information_schema.TABLES where TABLE_TYPE != 'SYSTEM VIEW' ORDER BY TABLE_SCHEMA",
                "SELECT DISTINCT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'sluice' ORDER BY TABLE_NAME",
                "SELECT column_name, data_type FROM information_schema.columns WHERE table_schema = database() OR table_name = 'events' ORDER BY column_name",
                "SELECT UNIX_TIMESTAMP(at) DIV 60 * 60 AS \"time\", count(*) AS value FROM events \
                 WHERE at BETWEEN FROM_UNIXTIME(1) AND FROM_UNIXTIME(1795381445) GROUP BY 1 ORDER BY 1",
            ],
        ),
        (
            "MariaDB Connector/J",
            &[
                "SELECT @@max_allowed_packet, @@system_time_zone, @@time_zone, @@auto_increment_increment, @@tx_isolation AS tx_isolation from dual",
                "select TABLE_SCHEMA TABLE_CAT, NULL  TABLE_SCHEM,  TABLE_NAME, IF(TABLE_TYPE='BASE TABLE' or TABLE_TYPE = 'SYSTEM VERSIONED', \
                 'TABLE', TABLE_TYPE) as TABLE_TYPE, TABLE_COMMENT REMARKS, NULL TYPE_CAT, NULL TYPE_SCHEM, NULL TYPE_NAME, NULL \
                 SELF_REFERENCING_COL_NAME,  NULL REF_GENERATION FROM INFORMATION_SCHEMA.TABLES WHERE (TABLE_SCHEMA = 'sluice') \
                 ORDER BY TABLE_TYPE, TABLE_SCHEMA, TABLE_NAME",
            ],
        ),
        (
            "MySQL Connector/J",
            &[
                "SELECT TABLE_SCHEMA AS TABLE_CAT, NULL AS TABLE_SCHEM, TABLE_NAME, CASE WHEN TABLE_TYPE='BASE TABLE' THEN CASE WHEN \
                 TABLE_SCHEMA = 'mysql' OR TABLE_SCHEMA = 'performance_schema' THEN 'SYSTEM TABLE' ELSE 'TABLE' END WHEN \
                 TABLE_TYPE='TEMPORARY' THEN 'LOCAL_TEMPORARY' ELSE TABLE_TYPE END AS TABLE_TYPE, TABLE_COMMENT AS REMARKS, NULL AS \
                 TYPE_CAT, NULL AS TYPE_SCHEM, NULL AS TYPE_NAME, NULL AS SELF_REFERENCING_COL_NAME, NULL AS REF_GENERATION FROM \
                 INFORMATION_SCHEMA.TABLES WHERE TABLE_SCHEMA = 'sluice' HAVING TABLE_TYPE IN ('TABLE',null,null,null,null) ORDER BY \
                 TABLE_TYPE, TABLE_SCHEMA, TABLE_NAME",
                "SELECT TABLE_SCHEMA, NULL, TABLE_NAME, COLUMN_NAME, NULL AS GRANTOR, GRANTEE, PRIVILEGE_TYPE AS PRIVILEGE, \
                 IS_GRANTABLE FROM INFORMATION_SCHEMA.COLUMN_PRIVILEGES WHERE TABLE_SCHEMA='sluice' AND TABLE_NAME ='servers' AND \
                 COLUMN_NAME LIKE '%' ORDER BY COLUMN_NAME, PRIVILEGE_TYPE",
                "SELECT host,db,table_name,grantor,user,table_priv FROM mysql.tables_priv WHERE db = 'sluice' AND table_name LIKE '%'",
                "SELECT DISTINCT A.REFERENCED_TABLE_SCHEMA AS PKTABLE_CAT,NULL AS PKTABLE_SCHEM, A.REFERENCED_TABLE_NAME AS PKTABLE_NAME, \
                 A.TABLE_NAME AS FKTABLE_NAME, A.ORDINAL_POSITION AS KEY_SEQ,CASE WHEN R.UPDATE_RULE='CASCADE' THEN 0 WHEN \
                 R.UPDATE_RULE='SET NULL' THEN 2 ELSE 1 END  AS UPDATE_RULE, A.CONSTRAINT_NAME AS FK_NAME, TC.CONSTRAINT_NAME AS \
                 PK_NAME,7 AS DEFERRABILITY FROM INFORMATION_SCHEMA.KEY_COLUMN_USAGE A JOIN INFORMATION_SCHEMA.TABLE_CONSTRAINTS B \
                 USING (TABLE_SCHEMA, TABLE_NAME, CONSTRAINT_NAME) JOIN INFORMATION_SCHEMA.REFERENTIAL_CONSTRAINTS R ON \
                 (R.CONSTRAINT_NAME = B.CONSTRAINT_NAME AND R.TABLE_NAME = B.TABLE_NAME AND R.CONSTRAINT_SCHEMA = B.TABLE_SCHEMA)  \
                 LEFT JOIN INFORMATION_SCHEMA.TABLE_CONSTRAINTS TC ON (A.REFERENCED_TABLE_SCHEMA = TC.TABLE_SCHEMA  AND \
                 A.REFERENCED_TABLE_NAME = TC.TABLE_NAME  AND TC.CONSTRAINT_TYPE IN ('UNIQUE', 'PRIMARY KEY'))WHERE \
                 B.CONSTRAINT_TYPE = 'FOREIGN KEY' AND A.REFERENCED_TABLE_SCHEMA='sluice' AND A.REFERENCED_TABLE_NAME='servers' AND \
                 A.TABLE_NAME='pools' ORDER BY FKTABLE_NAME, FKTABLE_NAME, KEY_SEQ",
                "SELECT DISTINCT A.REFERENCED_TABLE_SCHEMA AS PKTABLE_CAT, R.UNIQUE_CONSTRAINT_NAME AS PK_NAME FROM \
                 INFORMATION_SCHEMA.KEY_COLUMN_USAGE A JOIN INFORMATION_SCHEMA.TABLE_CONSTRAINTS B USING (CONSTRAINT_SCHEMA, \
                 CONSTRAINT_NAME, TABLE_NAME) JOIN INFORMATION_SCHEMA.REFERENTIAL_CONSTRAINTS R ON (R.CONSTRAINT_NAME = \
                 B.CONSTRAINT_NAME AND R.TABLE_NAME = B.TABLE_NAME AND R.CONSTRAINT_SCHEMA = B.TABLE_SCHEMA) WHERE B.CONSTRAINT_TYPE = \
                 'FOREIGN KEY' AND A.TABLE_NAME='servers' AND A.REFERENCED_TABLE_SCHEMA IS NOT NULL ORDER BY \
                 A.REFERENCED_TABLE_SCHEMA, A.REFERENCED_TABLE_NAME, A.ORDINAL_POSITION",
                "SELECT TABLE_SCHEMA AS TABLE_CAT, NULL AS TABLE_SCHEM, TABLE_NAME, NON_UNIQUE, NULL AS INDEX_QUALIFIER, INDEX_NAME,3 AS \
                 TYPE, SEQ_IN_INDEX AS ORDINAL_POSITION, COLUMN_NAME,COLLATION AS ASC_OR_DESC, CARDINALITY, 0 AS PAGES, NULL AS \
                 FILTER_CONDITION FROM INFORMATION_SCHEMA.STATISTICS WHERE TABLE_SCHEMA = 'sluice' AND TABLE_NAME = 'servers' AND \
                 NON_UNIQUE=0  ORDER BY NON_UNIQUE, INDEX_NAME, SEQ_IN_INDEX",
                "SELECT TABLE_SCHEMA AS TABLE_CAT, NULL AS TABLE_SCHEM, TABLE_NAME, COLUMN_NAME, SEQ_IN_INDEX AS KEY_SEQ, 'PRIMARY' AS \
                 PK_NAME FROM INFORMATION_SCHEMA.STATISTICS WHERE TABLE_SCHEMA = 'sluice' AND TABLE_NAME = 'servers' AND \
                 INDEX_NAME='PRIMARY' ORDER BY TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME, SEQ_IN_INDEX",
                "SELECT ROUTINE_SCHEMA AS PROCEDURE_CAT, NULL AS PROCEDURE_SCHEM, ROUTINE_NAME AS PROCEDURE_NAME, NULL AS RESERVED_1, \
                 ROUTINE_COMMENT AS REMARKS, CASE WHEN ROUTINE_TYPE = 'PROCEDURE' THEN 1 WHEN ROUTINE_TYPE='FUNCTION' THEN 2 ELSE 0 \
                 END AS PROCEDURE_TYPE, ROUTINE_NAME AS SPECIFIC_NAME FROM INFORMATION_SCHEMA.ROUTINES WHERE ROUTINE_SCHEMA = \
                 'sluice' ORDER BY ROUTINE_SCHEMA, ROUTINE_NAME, ROUTINE_TYPE",
                "SELECT ROUTINE_SCHEMA AS FUNCTION_CAT, NULL AS FUNCTION_SCHEM, ROUTINE_NAME AS FUNCTION_NAME, ROUTINE_COMMENT AS \
                 REMARKS, 1 AS FUNCTION_TYPE, ROUTINE_NAME AS SPECIFIC_NAME FROM INFORMATION_SCHEMA.ROUTINES WHERE ROUTINE_TYPE LIKE \
                 'FUNCTION' AND ROUTINE_SCHEMA = 'sluice' ORDER BY FUNCTION_CAT, FUNCTION_SCHEM, FUNCTION_NAME, SPECIFIC_NAME",
                "SELECT WORD FROM INFORMATION_SCHEMA.KEYWORDS WHERE RESERVED=1 ORDER BY WORD",
            ],
        ),
        (
            "mysql-connector-python",
            &["SET NAMES 'utf8mb4' COLLATE 'utf8mb4_0900_ai_ci'", "SET @@session.autocommit = OFF", "COMMIT"],
        ),
        ("PyMySQL", &["SET AUTOCOMMIT = 0", "SHOW FULL TABLES", "SELECT VERSION()"]),
    ] {
        for sql in statements {
            let answer = run_in(sql, &mut session, &Model::default());
            assert!(!matches!(answer, Answer::Error(_)), "{tool}: {sql}: {}", shown(&answer));
        }
    }
    all(&[
        ("SHOW DATABASES LIKE 'slu%'", "Database | sluice"),
        ("SHOW TABLES WHERE Tables_in_sluice LIKE 'p%' ORDER BY 1 DESC LIMIT 1", "Tables_in_sluice | processlist"),
        ("SHOW COLUMNS FROM events WHERE Field = 'at'", "Field Type Null Key Default Extra | at datetime(3) YES  NULL "),
        ("SHOW STATUS LIKE '%' WHERE Value > '300'", "Variable_name Value | Questions 470"),
        ("SELECT COUNT(*) FROM information_schema.tables", "COUNT(*) | 17"),
    ]);
}

#[test]
fn words_of_other_proxies() {
    let house = Model::default();
    let mut session = Session::default();
    for (theirs, ours) in [
        ("PROXYSQL PAUSE;", Command::Pause),
        ("proxysql resume", Command::Resume),
        ("PROXYSQL FLUSH QUERY CACHE", Command::FlushCache(None)),
        ("PROXYSQL SHUTDOWN SLOW", Command::Shutdown),
        ("RELOAD", Command::ReloadConfig),
        ("SET SERVER db3 maintenance", Command::OfflineServer("db3".into())),
        ("BAN db3", Command::OfflineServer("db3".into())),
        ("MAINTENANCE ON", Command::Pause),
        ("clear server db3 maintenance", Command::OnlineServer("db3".into())),
        ("FLUSH CACHE TABLE `shop`.`items`", Command::FlushCache(Some("shop.items".into()))),
        ("FLUSH CACHE TABLE `shop`.items", Command::FlushCache(Some("shop.items".into()))),
    ] {
        assert_eq!(shown(&run_in(theirs, &mut session, &house)), "OK done", "{theirs}");
        assert_eq!(house.commands.lock().pop(), Some(ours), "{theirs}");
    }
    for (theirs, ours) in [
        ("SHOW MYSQL SERVERS", "SHOW SERVERS"),
        ("SHOW MYSQL VARIABLES LIKE 'max_c%'", "SHOW VARIABLES LIKE 'max_c%'"),
        ("SHOW PINNED SESSIONS", "SHOW CLIENTS"),
        ("LIST SERVERS", "SHOW SERVERS"),
        ("SHOW SESSIONS", "SHOW CLIENTS"),
        ("SHOW TOTALS", "SHOW STATUS"),
        ("/*!40101 SHOW /*!50002 GLOBAL */ STATUS */", "SHOW STATUS"),
        ("SHOW GRANTS FOR 'admin'@'%'", "SHOW GRANTS"),
        ("SELECT * FROM information_schema.PROCESSLIST", "SHOW PROCESSLIST"),
    ] {
        assert_eq!(run(theirs), run(ours), "{theirs}");
    }
    for (theirs, instead) in [
        ("LOAD MYSQL SERVERS TO RUNTIME", "SET SERVER db3 WEIGHT 5"),
        ("LOAD MYSQL VARIABLES TO RUNTIME", "RELOAD CONFIG"),
        ("SAVE MYSQL USERS TO DISK", "SAVE CONFIG"),
        ("UPDATE mysql_servers SET status='OFFLINE_SOFT' WHERE hostname='x'", "DRAIN SERVER"),
        ("INSERT INTO mysql_users (username) VALUES ('x')", "whoever may log in at the servers"),
        ("SET mysql-max_connections=200", "`proxy.max_clients`"),
        ("set mysql-default_charset='utf8'", "no counterpart"),
        ("SELECT * FROM monitor.mysql_server_ping_log", "SHOW SERVERS has what is known"),
        ("SELECT * FROM stats_mysql_commands_counters", "GROUP BY class"),
        ("SELECT * FROM stats_mysql_query_digest_reset", "then FLUSH STATEMENTS"),
        ("PROXYSQL RESTART", "systemctl restart sluice"),
        ("SELECT * FROM runtime_mysql_replication_hostgroups", "no hostgroups"),
        ("INSERT INTO mysql_servers(hostgroup_id,hostname) VALUES (1,'x')", "[[server]] in the file"),
        ("insert ignore into main.`mysql_servers` values (1)", "[[server]] in the file"),
        ("TRUNCATE TABLE mysql_query_rules", "[[rule]]"),
        ("UPDATE servers SET weight = 5 WHERE name = 'db3'", "SET SERVER db3 WEIGHT 5"),
        ("DELETE FROM sluice.statements", "FLUSH STATEMENTS"),
        ("SHOW SLAVE STATUS", "SHOW SERVERS"),
        ("SHOW FDS", "SHOW POOLS"),
        ("DISABLE shop", "PAUSE"),
        ("EXPLAIN SELECT * FROM servers", "EXPLAIN ROUTE SELECT"),
        ("EXPLAIN ROUT SELECT 1", "EXPLAIN ROUTE"),
        ("SET monitor.max_lag = '9s'", "monitor.max_lag is changed in the configuration file"),
        ("SET SESSION max_lag = 9", "monitor.max_lag is changed in the configuration file"),
        ("DRAIN db4", "write DRAIN SERVER db4"),
        ("call command mariadbmon switchover monitor db2", "write SWITCHOVER TO db2"),
    ] {
        let answer = shown(&run(theirs));
        assert!(answer.contains(instead) && matches!(run(theirs), Answer::Error(_)), "{theirs}: {answer}");
    }
    assert!(house.commands.lock().is_empty());
}

#[test]
fn who_gave_a_command_is_noted() {
    let house = Model::default();
    let mut session = Session { user: "alice".into(), host: "10.0.0.9".into(), ..Session::default() };
    run_in("SET  SERVER db3\n WEIGHT 5;", &mut session, &house);
    run_in("SWITCHOVER TO db2", &mut session, &house);
    run_in("SHOW SERVERS", &mut session, &house);
    let notes = house.notes.lock().clone();
    assert_eq!(
        notes,
        [
            "alice@10.0.0.9 SET SERVER db3 WEIGHT 5: done",
            "alice@10.0.0.9 SWITCHOVER TO db2: refused: sluice: db2 is 12000 ms behind",
        ]
    );
}

#[test]
fn http_answers() {
    use hyper::Method;
    let ask = |method: &Method, path: &str| {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let response = http::answer(method, path, &Model::default());
        let status = response.status().as_u16();
        let body = runtime.block_on(http_body_util::BodyExt::collect(response.into_body())).unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    };
    assert_eq!(ask(&Method::GET, "/healthz"), (200, "ok\n".to_owned()));
    assert_eq!(ask(&Method::GET, "/readyz"), (503, "not ready: no master is known\n".to_owned()));
    assert!(ask(&Method::GET, "/metrics").1.contains("sluice_server_up{server=\"db1\"} 1"));
    assert_eq!(ask(&Method::GET, "/nothing").0, 404);
    assert_eq!(ask(&Method::POST, "/").0, 405);
    let (status, json) = ask(&Method::GET, "/status.json");
    assert!(status == 200 && json.contains("\"servers\":[{\"name\":\"db1\""), "{json}");
    let (_, page) = ask(&Method::GET, "/");
    assert!(!page.contains("http://www") || page.matches("http://").count() == page.matches("http://www.w3.org/").count());
    assert!(!page.contains("src=") && !page.contains("href="));
}

fn access() -> arc_swap::ArcSwap<Access> {
    arc_swap::ArcSwap::from_pointee(Access::new("admin", "admin"))
}

/// Harm: peers that had died kept their places for ever, and the port let nobody in any more.
#[tokio::test]
async fn who_says_nothing_for_too_long_leaves_the_port() {
    let (here, there) = tokio::net::UnixStream::pair().unwrap();
    let (_standing, closing) = tokio::sync::watch::channel(super::listen::Standing::Serves);
    let wire = super::wire::Wire::new(crate::net::Stream::from(here));
    let closing = super::listen::Closing(closing);
    let idle = std::time::Duration::from_millis(1);
    super::server::converse(wire, Session::default(), &Model::default(), &access(), closing, idle).await.unwrap();
    drop(there);
}

/// Harm: who asked and did not read kept his place for ever.
#[tokio::test]
async fn who_does_not_read_his_answer_leaves_the_port() {
    use tokio::io::AsyncWriteExt;
    let moment = Duration::from_millis(50);
    let limit = Duration::from_secs(20);
    let (_standing, closing) = tokio::sync::watch::channel(super::listen::Standing::Serves);
    let closing = super::listen::Closing(closing);

    let (here, mut there) = tokio::net::UnixStream::pair().unwrap();
    let mut wire = super::wire::Wire::new(crate::net::Stream::from(here));
    wire.patience = moment;
    let (house, access) = (Model::default(), access());
    let talk = super::server::converse(wire, Session::default(), &house, &access, closing.clone(), limit * 2);
    let query = b"\x03HELP";
    let asks = async {
        let packet = [&[query.len() as u8, 0, 0, 0], &query[..]].concat();
        while there.write_all(&packet).await.is_ok() {}
        std::future::pending::<()>().await;
    };
    let ended = tokio::time::timeout(limit, async {
        tokio::select! { ended = talk => ended, () = asks => unreachable!() }
    });
    assert_eq!(ended.await.unwrap().unwrap_err().kind(), std::io::ErrorKind::TimedOut);

    let (here, mut there) = tokio::io::duplex(64);
    there.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let talk = http::converse(here, std::sync::Arc::new(Model::default()), closing, moment);
    let error = tokio::time::timeout(limit, talk).await.unwrap().unwrap_err();
    assert!(format!("{error:?}").contains("has read nothing of its answer"), "{error:?}");
}

#[tokio::test]
async fn the_system_watches_over_connections() {
    let bound = Bound::bind("127.0.0.1:0", "admin.listen").await.unwrap();
    let _peer = tokio::net::TcpStream::connect(bound.address()).await.unwrap();
    let crate::net::Stream::Plain(crate::net::Socket::Tcp(socket)) = bound.accept().await.unwrap() else {
        panic!("no TLS was begun")
    };
    assert!(socket2::SockRef::from(&socket).keepalive().unwrap());
}

#[tokio::test]
async fn a_taken_port_is_told_clearly() {
    let first = Bound::bind("127.0.0.1:0", "admin.listen").await.unwrap();
    let error = Bound::bind(&first.address(), "admin.listen").await.unwrap_err();
    assert!(error.contains("(admin.listen): Address already in use; another program listens there"), "{error}");
}

#[test]
fn the_documentation_has_every_command_and_table() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/admin.md")).unwrap();
    let rows: Vec<&str> = page.lines().filter(|line| line.starts_with("| `")).collect();
    let all = tables::HELP.iter().chain(tables::TABLES);
    for (name, meaning) in all.clone() {
        let row = format!("| `{name}` | {meaning} |");
        assert!(rows.contains(&row.as_str()), "docs/admin.md lacks the row {row}");
    }
    assert_eq!(rows.len(), all.count(), "docs/admin.md has rows that are neither command nor table");
}
