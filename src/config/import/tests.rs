//! Files as ProxySQL's users have them, and what comes out; every result is a configuration that can be read.

use super::*;

const CNF: &str = r#"
# file
datadir="/var/lib/proxysql"
admin_variables=
{
	admin_credentials="admin:secret;radmin:radmin"
	mysql_ifaces="127.0.0.1:6032"
}
mysql_variables=
{
	threads=4
	max_connections=2048
	interfaces="0.0.0.0:6033;/tmp/proxysql.sock"
	monitor_username="monitor"
	monitor_password="mo\"n"
	monitor_ping_interval=10000
	default_query_delay=0
	connect_timeout_server_max=10000
}
mysql_servers =
(
	{ address="10.0.0.11" , port=3306 , hostgroup=10, max_connections=200, comment="alpha" },
	{ address="10.0.0.12" , port=3306 , hostgroup=10, status="OFFLINE_SOFT", comment="the old one" },
	{ address="10.0.0.11" , port=3306 , hostgroup=20, weight=1 },
	{ address="10.0.0.13" , port=3306 , hostgroup=20, weight=100, max_replication_lag=7, use_ssl=1 },
	{ address="10.0.0.14" , port=3306 , hostgroup=30 },
)
mysql_users: ( { username = "app" , password = "x" , default_hostgroup = 10 , max_connections=50 }, { username="b", password="" } )
mysql_query_rules:
(
	{ rule_id=2 active=1 match_pattern="^SELECT" destination_hostgroup=20 apply=1 },
	{ rule_id=1 active=1 match_pattern="^SELECT .* FOR UPDATE$" destination_hostgroup=10 apply=1 },
	{ rule_id=3 active=1 username="report" client_addr="10.1.%" match_digest="FROM \\baudit\\b" destination_hostgroup=30 timeout=500 },
	{ rule_id=4 active=1 match_pattern="^DROP" error_msg="no" },
	{ rule_id=5 active=0 match_pattern="^X" error_msg="no" },
	{ rule_id=6 active=1 match_pattern="a" replace_pattern="b" },
	{ rule_id=7 active=1 match_pattern="(?!x)" destination_hostgroup=10 }
)
mysql_replication_hostgroups= ( { writer_hostgroup=10 reader_hostgroup=20 comment="main" } )
scheduler= ( { id=1 filename="/bin/x" } )
"#;

#[test]
fn a_cache_and_what_was_passed_over_in_silence() {
    let imported = proxysql(
        r#"
mysql_variables= { query_cache_size_MB=64 ssl_p2s_ca="/etc/ca.pem" }
admin_variables= { restapi_port=6070 }
mysql_servers = ( { address="10.0.0.11", hostgroup=1 }, { address="10.0.0.12", hostgroup=2, weight=0 } )
mysql_replication_hostgroups= ( { writer_hostgroup=1 reader_hostgroup=2 } )
mysql_query_rules: (
	{ rule_id=1 active=1 match_digest="FROM items" cache_ttl=5000 apply=1 },
	{ rule_id=2 active=1 match_digest="FROM tags" cache_ttl=90000 apply=1 }
)
"#,
        None,
    )
    .unwrap();
    let config = readable(&imported);
    assert!(config.cache.enabled);
    assert_eq!(config.cache.ttl.0, std::time::Duration::from_secs(90));
    assert_eq!(config.cache.max_memory.0, 64 << 20);
    notes(
        &imported,
        &[
            "db2 has weight 0 there",
            "mysql-ssl_p2s_ca = /etc/ca.pem was not taken",
            "admin-restapi_port = 6070",
            "the same for all rules",
        ],
    );
    let without =
        proxysql("mysql_variables= { query_cache_size_MB=64 }\nmysql_servers= ( { address=\"10.0.0.11\" } )", None).unwrap();
    assert!(!readable(&without).cache.enabled);
    assert!(without.notes.iter().any(|note| note.contains("the cache stays off")), "{:?}", without.notes);
}

fn notes(imported: &Imported, said: &[&str]) {
    let all = imported.notes.join("\n");
    for note in said {
        assert!(all.contains(note), "{note}: {all}");
    }
}

fn readable(imported: &Imported) -> crate::config::Config {
    crate::config::parse(&imported.toml, "/etc/sluice/sluice.toml").unwrap_or_else(|mistakes| {
        let all: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
        panic!("{}\n{}", imported.toml, all.join("\n"))
    })
}

#[test]
fn a_cnf() {
    let imported = proxysql(CNF, None).unwrap();
    let config = readable(&imported);
    let servers: Vec<String> =
        config.servers.iter().map(|s| format!("{} {} {:?} {}", s.name, s.address, s.role, s.weight)).collect();
    assert_eq!(
        servers,
        [
            "alpha 10.0.0.11:3306 Master 1",
            "db2 10.0.0.12:3306 Master 1",
            "db3 10.0.0.13:3306 Replica 100",
            "db4 10.0.0.14:3306 Replica 1"
        ]
    );
    assert_eq!(config.proxy.max_clients, 2048);
    assert_eq!(config.proxy.listen.len(), 2);
    assert_eq!((config.admin.user.as_str(), config.admin.secret.expose()), ("admin", "secret"));
    assert_eq!(config.monitor.secret.expose(), "mo\"n");
    assert_eq!(config.users.len(), 1);
    let rules: Vec<String> =
        config.rules.iter().map(|r| format!("{:?} {:?} {:?}", r.user, r.client.map(|c| c.to_string()), r.action)).collect();
    assert_eq!(rules, ["Some(\"report\") Some(\"10.1.0.0/16\") Server(\"db4\")", "None None Deny"]);
    notes(
        &imported,
        &[
            "rule 1 was left out: it tells reads from writes",
            "rule 2 was left out: it tells reads from writes",
            "rule 3: timeout has no counterpart",
            "rule 3: match_digest is a `pattern` here",
            "rule 3: without apply = 1 later rules were looked at there",
            "user b: default_hostgroup 0 was dropped",
            "rule 6 was left out: replace_pattern has no counterpart",
            "rule 7 was left out: its pattern is not understood",
            "2 users were left out",
            "db2 is OFFLINE_SOFT there",
            "no counterpart: scheduler (1 rows)",
            "1 variables have no counterpart: mysql-default_query_delay",
            "the others were left out",
        ],
    );
}

#[test]
fn a_dump() {
    let imported = proxysql(
        "BEGIN;\nCREATE TABLE global_variables (variable_name VARCHAR NOT NULL PRIMARY KEY , variable_value VARCHAR NOT NULL);\n\
         INSERT INTO mysql_servers VALUES(0,'10.0.0.1',3306,0,'ONLINE',1,0,1000,0,0,0,''),(1,'10.0.0.2',3307,0,'ONLINE',5,0,1000,0,0,0,'it''s');\n\
         INSERT INTO main.mysql_users (username,password,default_hostgroup,max_connections) VALUES ('app',NULL,0,10000);\n\
         INSERT INTO global_variables VALUES('mysql-max_connections','100');\nCOMMIT;\n",
        None,
    )
    .unwrap();
    let config = readable(&imported);
    assert_eq!(config.proxy.max_clients, 100);
    let roles: Vec<String> = config.servers.iter().map(|s| format!("{} {:?} {}", s.name, s.role, s.weight)).collect();
    assert_eq!(roles, ["db1 Master 1", "db2 Replica 5"]);
    notes(&imported, &["nobody takes its place when it dies"]);
    assert!(config.users.is_empty());
}

#[test]
fn a_name_that_a_comment_has_taken_is_not_given_again() {
    let imported = proxysql(
        "mysql_servers = ( { address=\"a\", hostgroup=1, comment=\"db2\" }, { address=\"b\", hostgroup=1 },
         { address=\"c\", hostgroup=1, comment=\"db2\" }, { address=\"d\", hostgroup=1, comment=\"x y\" } )",
        None,
    )
    .unwrap();
    let names: Vec<String> = readable(&imported).servers.into_iter().map(|s| s.name).collect();
    assert_eq!(names, ["db2", "db3", "db4", "db5"]);
}

#[test]
fn what_is_no_configuration_is_told_so() {
    for (text, wanted) in [
        ("", "neither a proxysql.cnf nor a dump"),
        ("mysql_servers = ( { address=\"x }", "line 1: a \" does not end"),
        ("a = 1\nmysql_variables = {\n threads }", "line 3: `threads` is not followed by = or :"),
        ("mysql_servers = ( {", "a key or } is missing"),
        ("INSERT INTO mysql_servers (a", "a value is missing"),
    ] {
        let error = proxysql(text, None).unwrap_err();
        assert!(error.contains(wanted), "{text}: {error}");
    }
}

const TWO: &str = r#"
mysql_servers = (
	{ address="10.0.0.11", hostgroup=10 }, { address="10.0.0.12", hostgroup=20 },
	{ address="10.1.0.11", hostgroup=30 }, { address="10.1.0.12", hostgroup=40 }
)
mysql_replication_hostgroups= ( { writer_hostgroup=10 reader_hostgroup=20 }, { writer_hostgroup=30 reader_hostgroup=40 } )
mysql_users: ( { username="app", default_hostgroup=10, max_connections=5 }, { username="crm", default_hostgroup=30, max_connections=6 } )
mysql_query_rules: (
	{ rule_id=1 active=1 match_pattern="x" destination_hostgroup=30 apply=1 },
	{ rule_id=2 active=1 match_pattern="y" destination_hostgroup=20 apply=1 }
)
"#;

/// Harm: two clusters became one file with the masters of both.
#[test]
fn one_cluster_is_imported_at_a_time() {
    let error = proxysql(TWO, None).unwrap_err();
    assert!(error.contains("2 clusters (host groups 10 with 20, 30 with 40)") && error.contains("--hostgroup 10"), "{error}");
    assert!(proxysql(TWO, Some("50")).unwrap_err().contains("there are the host groups 10, 20, 30, 40"));
    for (group, addresses, user, rules) in [
        ("10", ["10.0.0.11:3306 Master", "10.0.0.12:3306 Replica"], "app", 1),
        ("20", ["10.0.0.11:3306 Master", "10.0.0.12:3306 Replica"], "app", 1),
        ("30", ["10.1.0.11:3306 Master", "10.1.0.12:3306 Replica"], "crm", 1),
    ] {
        let imported = proxysql(TWO, Some(group)).unwrap();
        let config = readable(&imported);
        let servers: Vec<String> = config.servers.iter().map(|s| format!("{} {:?}", s.address, s.role)).collect();
        assert_eq!(servers, addresses, "{group}");
        assert_eq!(config.users.iter().map(|u| u.name.as_str()).collect::<Vec<_>>(), [user], "{group}");
        assert_eq!(config.rules.len(), rules, "{group}");
        notes(&imported, &["are of other clusters and were left out", "was left out: default_hostgroup", "is of another cluster"]);
    }
    assert!(proxysql(CNF, Some("10")).is_ok());
}

/// Harm: what was denied or kept there was neither here, without a word.
#[test]
fn a_digest_is_translated_or_told() {
    let imported = proxysql(
        r#"
mysql_servers = ( { address="10.0.0.11", hostgroup=1 } )
mysql_query_rules: (
	{ rule_id=1 active=1 match_digest="^SELECT c FROM t WHERE id=\\?$" error_msg="no" apply=1 },
	{ rule_id=2 active=1 match_digest="a" match_pattern="b" error_msg="no" apply=1 },
	{ rule_id=3 active=1 match_digest="id=[\\?5]" error_msg="no" apply=1 }
)
"#,
        None,
    )
    .unwrap();
    let config = readable(&imported);
    assert!(!imported.notes.iter().any(|note| note.contains("takes its place")), "there is one server alone");
    assert_eq!(config.rules.len(), 1);
    assert!(config.rules[0].pattern.as_ref().unwrap().0.is_match("SELECT c FROM t WHERE id=5"), "{}", imported.toml);
    notes(
        &imported,
        &[
            "rule 1: match_digest is a `pattern` here",
            "was rewritten",
            "rule 2 was left out: it has match_pattern and match_digest",
            "rule 3 was left out: it looks for a literal",
        ],
    );
}

/// Harm: the pattern of a rule that denies had two backslashes where there was one, and matched nothing any more.
#[test]
fn a_dump_by_mysqldump_has_its_escapes() {
    let rules = "(4,1,'DROP\\\\s+TABLE','don\\'t \\\"x\\\"',1),(5,1,'a\\\\_b\\_c\\%',NULL,1);\n";
    for begin in ["", "-- MySQL dump 10.13  Distrib 8.0.36\n", "-- MariaDB dump 10.19\n"] {
        let quote = if begin.is_empty() { "`" } else { "" };
        let imported = proxysql(
            &format!(
                "{begin}INSERT INTO {quote}mysql_query_rules{quote} (rule_id,active,match_pattern,error_msg,apply) VALUES {rules}\
                 INSERT INTO mysql_servers (hostgroup_id,hostname) VALUES (1,'h');"
            ),
            None,
        )
        .unwrap();
        let config = readable(&imported);
        assert!(config.rules[0].pattern.as_ref().unwrap().0.is_match("drop  table t"), "{}", imported.toml);
        assert_eq!(config.rules[0].message.as_deref(), Some("don't \"x\""));
    }
    // What sqlite3 writes has none.
    let imported = proxysql(
        "INSERT INTO mysql_servers(hostgroup_id,hostname) VALUES(1,'h');
         INSERT INTO mysql_query_rules(rule_id,active,match_pattern,error_msg) VALUES(4,1,'DROP\\s+TABLE','a\\');
         INSERT INTO mysql_query_rules(rule_id,active,match_pattern,error_msg) VALUES(5,1,replace('x\\ny','\\n',char(10)),unistr('\\u00e4\\\\'));",
        None,
    )
    .unwrap();
    let config = readable(&imported);
    assert!(config.rules[0].pattern.as_ref().unwrap().0.is_match("drop  table t"), "{}", imported.toml);
    assert_eq!(config.rules[0].message.as_deref(), Some("a\\"));
    assert!(config.rules[1].pattern.as_ref().unwrap().0.is_match("X\nY"), "{}", imported.toml);
    assert_eq!(config.rules[1].message.as_deref(), Some("ä\\"));
}

/// Harm: the values of another version's dump went to the columns beside theirs.
#[test]
fn columns_stand_as_the_dump_creates_them() {
    let row = "INSERT INTO mysql_servers VALUES(10,'10.0.0.11',3306,'ONLINE',7,0,300,0,1,0,'a');";
    let imported = proxysql(
        &format!(
            "CREATE TABLE IF NOT EXISTS mysql_servers (hostgroup_id INT CHECK (hostgroup_id>=0) NOT NULL DEFAULT 0 , hostname VARCHAR NOT \
             NULL , port INT CHECK (port >= 0 AND port IN (1,2)) , status VARCHAR CHECK (UPPER(status) IN ('ONLINE','SHUNNED')) , `weight` INT \
             , compression INT , max_connections INT , max_replication_lag INT , use_ssl INT , max_latency_ms INT , comment VARCHAR NOT \
             NULL DEFAULT '' , PRIMARY KEY (hostgroup_id, hostname, port) );\n{row}"
        ),
        None,
    )
    .unwrap();
    let server = &readable(&imported).servers[0];
    assert_eq!((server.name.as_str(), server.weight, server.max_connections), ("a", 7, 300), "{}", imported.toml);
    let error = proxysql(row, None).unwrap_err();
    assert!(error.contains("line 1: mysql_servers has 12 columns and this row 11 values"), "{error}");
}

/// Harm: `sluice check` refused what was made.
#[test]
fn numbers_that_are_none_here_are_told() {
    let imported = proxysql(
        r#"
mysql_variables= { max_connections=0 }
admin_variables= { mysql_ifaces="(null)" }
mysql_servers = ( { address="a", hostgroup=1, max_connections=0 }, { address="b", hostgroup=2, weight=10000000, max_connections=200000 } )
mysql_users: ( { username="app", default_hostgroup=1, max_connections=0 } )
"#,
        None,
    )
    .unwrap();
    let config = readable(&imported);
    assert_eq!((config.servers[1].weight, config.servers[1].max_connections), (1_000_000, 100_000));
    assert!(!imported.toml.contains("(null)"), "{}", imported.toml);
    notes(
        &imported,
        &[
            "mysql-max_connections is 0 there, and was not taken: here it is a number from 1 to 1000000",
            "max_connections of db1 is 0 there",
            "max_connections of user app is 0 there",
            "the weight of db2 is 10000000 there; here it is 1000000",
            "max_connections of db2 is 200000 there; here it is 100000",
        ],
    );
    let error = proxysql("mysql_servers = ( { address=\"a\" } )\n@include \"users.cnf\"\n", None).unwrap_err();
    assert_eq!(error, "line 2: @include is not followed: put the text of users.cnf in the place of this line");
}
