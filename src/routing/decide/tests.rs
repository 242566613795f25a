//! Where statements go, as a table that reads like PRODUCT's chapter on routing.

use std::time::{Duration, SystemTime};

use super::*;
use crate::routing::rules::Rule;
use crate::sql::classify::classify;
use crate::sql::lexer::{Dialect, LexMode};
use crate::topology::{ConfiguredRole, ConfiguredServer, Flavor, Settings, State};

/// db1 is the master, db2 its standby, db3 and db4 are replicas; db3 stands in zone a.
fn servers() -> Snapshot {
    let server = |name: &str, role, zone: &str| ConfiguredServer {
        name: name.into(),
        address: format!("{name}:3306").into(),
        role,
        zone: zone.into(),
        weight: 1,
        max_connections: 10,
    };
    let settings = Settings {
        promote_replicas: false,
        heartbeat_interval: Duration::from_millis(250),
        heartbeat_timeout: Duration::from_secs(1),
        max_lag: Duration::from_secs(5),
        servers: vec![
            server("db1", ConfiguredRole::Master, "b"),
            server("db2", ConfiguredRole::Master, "b"),
            server("db3", ConfiguredRole::Replica, "a"),
            server("db4", ConfiguredRole::Replica, "b"),
        ],
    };
    let mut snapshot = Snapshot::starting(&settings, None, SystemTime::UNIX_EPOCH);
    for server in &mut snapshot.servers {
        server.state = State::Online;
        server.read_ok = true;
        server.lag_ms = Some(0);
    }
    snapshot.servers[0].role = Role::Master;
    snapshot.servers[1].role = Role::Standby;
    snapshot.master = Some(ServerId(0));
    snapshot.no_master = None;
    snapshot
}

#[derive(Default)]
struct Case<'a> {
    sql: &'a str,
    /// `shop` when empty.
    schema: &'a str,
    pinned: Option<(ServerId, PinReason)>,
    autocommit_off: bool,
    stays: bool,
    read_only_transaction: bool,
    read_only: bool,
    schemas: Vec<String>,
    rules: Vec<Rule>,
    settings: RoutingSettings,
    written: Option<&'a str>,
    defined: bool,
    set_global: bool,
    /// Who has it.
    has: &'a [u16],
    prefer: Option<ServerId>,
    /// What others must be able to see in the answer.
    shared: Option<&'a str>,
    failed: &'a [ServerId],
    turn: u64,
}

fn ask(snapshot: &Snapshot, case: &Case<'_>) -> Decision {
    let mode = LexMode { dialect: Dialect::MariaDb, ..LexMode::default() };
    let mut buffer = crate::sql::digest::DigestBuf::default();
    crate::sql::digest::digest(case.sql.as_bytes(), mode, &mut buffer);
    let statement = classify(case.sql.as_bytes(), mode);
    let gtids = |text| GtidSet::parse(Flavor::MariaDb, text).expect("a GTID");
    let (written, shared) = (case.written.map(gtids), case.shared.map(gtids));
    decide(&Question {
        statement: &statement,
        sql: case.sql.as_bytes(),
        hint: buffer.hint.as_ref(),
        user: "app",
        client: Some("10.1.2.3".parse().expect("an address")),
        schema: Some(if case.schema.is_empty() { b"shop" } else { case.schema.as_bytes() }),
        pinned: case.pinned,
        stays: case.stays,
        in_read_only_transaction: case.read_only_transaction,
        autocommit: !case.autocommit_off,
        completes_plainly: true,
        read_only_account: case.read_only,
        schemas: Schemas { allowed: &case.schemas, lex: mode, whole: true },
        must_have: shared.as_ref().map_or(MustHave::Any, MustHave::Gtid),
        written: written.as_ref(),
        defined: case.defined,
        set_global: case.set_global,
        snapshot,
        rules: &Rules(case.rules.clone()),
        settings: &case.settings,
        prefer: case.prefer,
        failed: case.failed,
        turn: case.turn,
        load: &|_| Load::default(),
        has: &|server, _| case.has.contains(&server.0),
    })
}

fn told(decision: &Decision) -> String {
    let server = decision.server.map_or("-".to_owned(), |s| format!("db{}", s.0 + 1));
    format!("{} {server} {}", decision.target.as_str(), decision.reason)
}

/// With `autocommit = 0` a read begins a transaction, and what follows in it may write. That must hold, too, for a read whose
/// tables nobody could tell: here because of a form that the parser does not know.
#[test]
fn without_autocommit_what_may_read_a_table_is_for_the_master() {
    for (sql, expected) in [
        ("SELECT * FROM t", "master db1 autocommit_off"),
        ("SELECT a MOD 2 FROM t", "master db1 autocommit_off"),
        ("SELECT /*!50000 a */ FROM t", "master db1 autocommit_off"),
        ("TABLE t", "master db1 autocommit_off"),
        ("SELECT 1", "replica db2 read"),
        ("SELECT 7 MOD 2", "replica db2 read"),
        ("SHOW TABLES", "master db1 autocommit_off"),
        ("DESCRIBE t", "master db1 autocommit_off"),
    ] {
        assert_eq!(told(&ask(&servers(), &Case { sql, autocommit_off: true, ..Case::default() })), expected, "{sql}");
    }
}

/// A write must not follow a session to the server it is pinned to, when that is a replica: an account with the privilege would
/// write there.
#[test]
fn a_write_goes_to_no_replica_that_a_session_is_pinned_to() {
    let pinned = |sql, server, pin, read_only_transaction| {
        told(&ask(&servers(), &Case { sql, pinned: Some((ServerId(server), pin)), read_only_transaction, ..Case::default() }))
    };
    for sql in ["INSERT INTO t VALUES (1)", "DROP TABLE t", "CALL p()", "SELECT 1; DELETE FROM t"] {
        assert_eq!(pinned(sql, 2, PinReason::Cursor, false), "deny - pinned_elsewhere", "{sql}");
        assert_eq!(pinned(sql, 0, PinReason::Cursor, false), "server db1 pinned: cursor", "{sql}");
    }
    assert_eq!(
        pinned("INSERT INTO t VALUES (1)", 2, PinReason::Transaction, true),
        "server db3 pinned: transaction",
        "the server refuses it"
    );
    for sql in ["SELECT GET_LOCK('a', 0)", "SELECT IS_FREE_LOCK('a')", "SET GLOBAL max_connections = 5"] {
        assert_eq!(pinned(sql, 2, PinReason::Transaction, true), "deny - pinned_elsewhere", "{sql}");
        assert_eq!(pinned(sql, 0, PinReason::Transaction, true), "server db1 pinned: transaction", "{sql}");
    }
    assert_eq!(pinned("SELECT * FROM t", 2, PinReason::Cursor, false), "server db3 pinned: cursor");
    // These would let the next transaction write where nothing else may.
    for sql in ["SET TRANSACTION READ WRITE", "SET @@tx_read_only = 0", "START TRANSACTION READ WRITE"] {
        assert_eq!(pinned(sql, 2, PinReason::Cursor, false), "deny - pinned_elsewhere", "{sql}");
    }
    for sql in ["SET SESSION TRANSACTION READ WRITE", "SET sql_mode = ''", "START TRANSACTION"] {
        assert_eq!(pinned(sql, 2, PinReason::Cursor, false), "server db3 pinned: cursor", "{sql}");
    }
    let case = Case { sql: "SELECT * FROM t", stays: true, ..Case::default() };
    assert_eq!(told(&ask(&servers(), &case)), "master db1 stays");
}

#[test]
fn by_class() {
    for (sql, expected) in [
        ("SELECT * FROM t", "replica db2 read"),
        ("SELECT * FROM t FOR UPDATE", "master db1 locking_read"),
        ("SELECT * FROM t\nLOCK IN SHARE MODE", "master db1 locking_read"),
        ("INSERT INTO t VALUES (1)", "master db1 write"),
        ("SELECT my_function(1)", "master db1 write"),
        ("SELECT 1; DELETE FROM t", "master db1 write"),
        ("CREATE TABLE t (a INT)", "master db1 ddl"),
        ("BEGIN", "master db1 transaction"),
        ("START TRANSACTION", "master db1 transaction"),
        ("START TRANSACTION READ ONLY", "replica db2 read_only_transaction"),
        ("SET NAMES utf8mb4", "master db1 session"),
        ("nonsense", "master db1 unknown"),
        // Each server has its own, and the master's is the one that SET GLOBAL changes. Who asks for a name wants to see it differ.
        ("SELECT @@global.max_connections", "master db1 server_state"),
        ("SELECT @@datadir", "master db1 server_state"),
        ("SHOW GLOBAL VARIABLES", "master db1 server_state"),
        ("SELECT * FROM information_schema.processlist", "master db1 server_state"),
        ("SELECT @@server_id", "replica db2 read"),
        ("/* sluice: replica */ SELECT @@datadir", "replica db2 hint"),
        // Nothing is open, so there is nothing to commit.
        ("COMMIT", "proxy - answered"),
        ("ROLLBACK", "proxy - answered"),
        // These begin something or end the session: not ours to answer.
        ("COMMIT AND CHAIN", "master db1 transaction"),
        ("COMMIT RELEASE", "master db1 transaction"),
    ] {
        assert_eq!(told(&ask(&servers(), &Case { sql, ..Case::default() })), expected, "{sql}");
    }
}

#[test]
fn reads_take_turns_over_everything_but_the_master() {
    let mut shares = [0; 4];
    for turn in 0..300 {
        shares[ask(&servers(), &Case { sql: "SELECT 1", turn, ..Case::default() }).server.unwrap().index()] += 1;
    }
    assert_eq!(shares, [0, 100, 100, 100]);
}

/// Bug: that server was taken over the decision's head, even one that lacked what the answer was to be kept for, so that it was not kept.
#[test]
fn where_a_statement_was_prepared_it_is_executed_if_that_is_as_good() {
    let mut snapshot = servers();
    snapshot.servers[2].weight = 0;
    let case = |prefer| Case { sql: "SELECT * FROM t WHERE id = ?", prefer: Some(ServerId(prefer)), ..Case::default() };
    for (what, case, expected) in [
        ("a replica", case(3), "replica db4 read"),
        ("one that takes no reads", case(2), "replica db2 read"),
        ("the master", case(0), "replica db2 read"),
        ("one that failed", Case { failed: &[ServerId(3)], ..case(3) }, "replica db2 read"),
        (
            "one that lacks the session's write",
            Case { written: Some("0-1-7"), has: &[1], ..case(3) },
            "replica db2 read_your_writes",
        ),
        ("one that has it", Case { written: Some("0-1-7"), has: &[1, 3], ..case(3) }, "replica db4 read_your_writes"),
        ("one that lacks what the answer is kept for", Case { shared: Some("0-1-7"), has: &[1], ..case(3) }, "replica db2 read"),
        ("one that has that", Case { shared: Some("0-1-7"), has: &[1, 3], ..case(3) }, "replica db4 read"),
        ("a hint", Case { sql: "/* sluice: master */ SELECT 1", ..case(3) }, "master db1 hint"),
    ] {
        assert_eq!(told(&ask(&snapshot, &case)), expected, "{what}");
    }
}

#[test]
fn a_pin_comes_before_hint_and_rule() {
    let pinned = Some((ServerId(0), PinReason::Transaction));
    let case = Case { sql: "/* sluice: replica */ SELECT 1", pinned, ..Case::default() };
    assert_eq!(told(&ask(&servers(), &case)), "server db1 pinned: transaction");
}

#[test]
fn hints_never_send_a_write_to_a_replica() {
    for (sql, expected) in [
        ("/* sluice: master */ SELECT 1", "master db1 hint"),
        ("/* sluice: replica */ SELECT 1", "replica db2 hint"),
        ("/* sluice: server=db4 */ SELECT 1", "server db4 hint"),
        ("/* sluice: server=db1 */ SELECT 1", "master db1 hint"),
        ("/* sluice: server=db9 */ SELECT 1", "replica db2 hint_unusable"),
        ("/* sluice: replica */ UPDATE t SET a = 1", "master db1 hint_unusable"),
        ("/* sluice: server=db4 */ SELECT * FROM t FOR UPDATE", "master db1 hint_unusable"),
        // Whoever names the server vouches for the function; the replica is read-only anyway.
        ("/* sluice: replica */ SELECT my_function(1)", "replica db2 hint"),
    ] {
        assert_eq!(told(&ask(&servers(), &Case { sql, ..Case::default() })), expected, "{sql}");
    }
}

fn rule(action: Action) -> Rule {
    Rule { user: None, schema: None, pattern: None, digest: None, client: None, action, message: None, hits: Arc::default() }
}

#[test]
fn the_first_rule_that_matches_decides() {
    let rules = vec![
        Rule { user: Some("other".to_owned()), ..rule(Action::Deny) },
        Rule { pattern: Some(regex::bytes::Regex::new("(?i)from audit").unwrap()), ..rule(Action::Server("db4".to_owned())) },
        Rule { client: Some("10.1.0.0/16".parse().unwrap()), schema: Some("shop".to_owned()), ..rule(Action::Master) },
        rule(Action::Deny),
    ];
    for (sql, expected) in [
        ("SELECT * FROM audit", "server db4 rule 2"),
        ("DELETE FROM audit", "master db1 write"),
        ("SELECT * FROM t", "master db1 rule 3"),
    ] {
        assert_eq!(told(&ask(&servers(), &Case { sql, rules: rules.clone(), ..Case::default() })), expected, "{sql}");
    }
    let deny = vec![rule(Action::Deny)];
    let pinned = Some((ServerId(0), PinReason::Transaction));
    let case = Case { sql: "SELECT 1", rules: deny, pinned, ..Case::default() };
    assert_eq!(told(&ask(&servers(), &case)), "deny - rule 1", "what is refused is refused even when pinned");
}

/// The master has the new value, and replicas have not.
#[test]
fn whoever_sets_a_global_variable_reads_where_it_was_set() {
    for (sql, expected) in [
        ("SELECT * FROM t", "master db1 server_state"),
        ("SELECT 1", "master db1 server_state"),
        ("START TRANSACTION READ ONLY", "master db1 transaction"),
        ("/* sluice: replica */ SELECT * FROM t", "replica db2 hint"),
    ] {
        assert_eq!(told(&ask(&servers(), &Case { sql, set_global: true, ..Case::default() })), expected, "{sql}");
    }
}

/// Names without a schema are those of the current one.
#[test]
fn what_servers_have_of_their_own_is_the_masters_in_the_current_schema_too() {
    for (schema, sql, expected) in [
        ("mysql", "SELECT * FROM slow_log", "master db1 server_state"),
        ("performance_schema", "SELECT * FROM threads", "master db1 server_state"),
        ("INFORMATION_SCHEMA", "SELECT * FROM global_variables", "master db1 server_state"),
        ("sys", "SHOW TABLES", "replica db2 read"),
        ("mysql", "SELECT 1", "replica db2 read"),
        ("shop", "SELECT * FROM slow_log", "replica db2 read"),
    ] {
        assert_eq!(told(&ask(&servers(), &Case { sql, schema, ..Case::default() })), expected, "{schema}: {sql}");
    }
}

#[test]
fn a_session_reads_its_own_writes() {
    let case = |has| Case { sql: "SELECT * FROM t", written: Some("0-1-9"), has, ..Case::default() };
    assert_eq!(told(&ask(&servers(), &case(&[3]))), "replica db4 read_your_writes");
    let waits = ask(&servers(), &case(&[]));
    assert_eq!(told(&waits), "replica db2 read_your_writes_wait");
    assert!(waits.wait_for_write);
    let defined = Case { defined: true, ..case(&[]) };
    assert_eq!(
        told(&ask(&servers(), &defined)),
        "master db1 replicas_behind",
        "a definition takes a replica as long as the master"
    );
    assert_eq!(told(&ask(&servers(), &Case { defined: true, ..case(&[3]) })), "replica db4 read_your_writes");
    let one_failed = Case { failed: &[ServerId(1)], ..case(&[]) };
    assert_eq!(told(&ask(&servers(), &one_failed)), "master db1 replicas_behind", "waited for one in vain");
    let master_failed = Case { failed: &[ServerId(0)], ..case(&[]) };
    assert_eq!(told(&ask(&servers(), &master_failed)), "replica db2 read_your_writes_wait", "the master cannot answer either");
    let mut behind = servers();
    for server in &mut behind.servers[1..] {
        server.lag_ms = Some(WAITING_LAG_MS_MAX + 1);
    }
    assert_eq!(told(&ask(&behind, &case(&[]))), "master db1 replicas_behind");
    let none = RoutingSettings { consistency: Consistency::None, ..RoutingSettings::default() };
    assert_eq!(told(&ask(&servers(), &Case { settings: none, ..case(&[]) })), "replica db2 read");
}

#[test]
fn whose_history_may_have_forked_is_not_believed_to_have_a_write() {
    let case = |has| Case { sql: "SELECT * FROM t", written: Some("0-1-9"), has, ..Case::default() };
    let mut forked = servers();
    forked.servers[3].causal = false;
    assert_eq!(told(&ask(&forked, &case(&[3]))), "replica db2 read_your_writes_wait", "db4 says it has it, and is not asked");
    for server in &mut forked.servers[1..] {
        server.causal = false;
    }
    assert_eq!(told(&ask(&forked, &case(&[1, 2, 3]))), "master db1 replicas_behind");
    assert_eq!(told(&ask(&forked, &Case { sql: "SELECT * FROM t", ..Case::default() })), "replica db2 read", "who wrote nothing");
}

#[test]
fn when_replicas_are_gone() {
    let mut alone = servers();
    for server in &mut alone.servers[1..] {
        server.read_ok = false;
    }
    let case = |read_from_master| Case {
        sql: "SELECT 1",
        settings: RoutingSettings { read_from_master, ..RoutingSettings::default() },
        ..Case::default()
    };
    assert_eq!(told(&ask(&alone, &case(ReadFromMaster::Fallback))), "master db1 no_replica");
    assert_eq!(told(&ask(&alone, &case(ReadFromMaster::Never))), "replica - no_replica_allowed");
    assert_eq!(told(&ask(&alone, &case(ReadFromMaster::Always))), "master db1 read_from_master");
    let failed = [ServerId(1), ServerId(2), ServerId(3)];
    assert_eq!(told(&ask(&servers(), &Case { sql: "SELECT 1", failed: &failed, ..Case::default() })), "master db1 no_replica");
    alone.master = None;
    assert_eq!(
        told(&ask(&alone, &Case { sql: "UPDATE t SET a = 1", ..Case::default() })),
        "master - write",
        "it waits for a master"
    );
}

#[test]
fn the_own_zone_comes_first() {
    let settings = RoutingSettings { zone: "a".into(), ..RoutingSettings::default() };
    for turn in 0..5 {
        let case = Case { sql: "SELECT 1", settings: settings.clone(), turn, ..Case::default() };
        assert_eq!(told(&ask(&servers(), &case)), "replica db3 read");
    }
    let failed = [ServerId(2)];
    let case = Case { sql: "SELECT 1", settings, failed: &failed, ..Case::default() };
    assert_eq!(told(&ask(&servers(), &case)), "replica db2 read", "spills over when the zone has none left");
}

#[test]
fn without_autocommit_reads_of_tables_begin_a_transaction_on_the_master() {
    let case = |sql| Case { sql, autocommit_off: true, ..Case::default() };
    assert_eq!(told(&ask(&servers(), &case("SELECT * FROM t"))), "master db1 autocommit_off");
    assert_eq!(told(&ask(&servers(), &case("SELECT 1"))), "replica db2 read");
}

#[test]
fn a_read_only_account_reads() {
    let case = |sql| Case { sql, read_only: true, ..Case::default() };
    assert_eq!(told(&ask(&servers(), &case("SELECT * FROM t"))), "replica db2 read");
    assert_eq!(told(&ask(&servers(), &case("DELETE FROM t"))), "deny - read_only_account");
    assert_eq!(told(&ask(&servers(), &case("SELECT * FROM t FOR UPDATE"))), "deny - read_only_account");
}

/// Pinned or not: what is refused is refused everywhere.
#[test]
fn an_account_stays_within_its_schemas() {
    for pinned in [None, Some((ServerId(0), PinReason::Transaction))] {
        for (sql, expected) in [
            ("SELECT * FROM t", None),
            ("SELECT * FROM secret.t", Some("deny - schema_not_allowed")),
            ("/* sluice: master */ SELECT * FROM secret.t", Some("deny - schema_not_allowed")),
            ("USE secret", Some("deny - schema_not_allowed")),
            ("USE shop", None),
        ] {
            let case = Case { sql, pinned, schemas: vec!["shop".to_owned()], ..Case::default() };
            let decision = ask(&servers(), &case);
            let refused = (decision.target == Target::Deny).then(|| told(&decision));
            assert_eq!(refused.as_deref(), expected, "{sql} {pinned:?}");
        }
    }
}
