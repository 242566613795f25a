//! What accounts go through while Sluice has connections of theirs: changed users, changed and expired passwords, locks, limits, roles.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use integration::accounts::{APP, Account, EMPTY, REPORT};
use integration::driver::{self, server_error};
use integration::flavour::Flavour;
use integration::proxy::Proxy;
use mysql_async::prelude::Queryable;
use mysql_async::{ChangeUserOpts, Conn};

use crate::world::{cluster, flavour, proxy};

async fn on_db1(statements: &[&str]) {
    cluster().server("db1").run(statements).await.unwrap();
    cluster().settle().await.unwrap();
}

fn to(account: Account) -> ChangeUserOpts {
    ChangeUserOpts::default()
        .with_user(Some(account.name.into()))
        .with_pass(Some(account.password.into()))
        .with_db_name(Some("shop".into()))
}

async fn who(conn: &mut Conn) -> Result<(String, Option<u32>), mysql_async::Error> {
    Ok(conn.query_first("SELECT CURRENT_USER(), @mine").await?.expect("a row"))
}

#[tokio::test]
async fn change_user_to_every_account_and_back() {
    let native = if flavour() == Flavour::MariaDb { integration::accounts::NATIVE } else { integration::accounts::SHA2 };
    let mut accounts = vec![REPORT, EMPTY, native, APP, APP];
    if flavour() == Flavour::MariaDb {
        accounts.insert(2, integration::accounts::ED25519);
    }
    let mut conn = proxy().connect("shop").await.unwrap();
    let id = conn.id();
    for account in accounts {
        conn.query_drop("SET @mine = 1, SESSION group_concat_max_len = 4321").await.unwrap();
        conn.query_drop("CREATE TEMPORARY TABLE IF NOT EXISTS mine (id INT)").await.ok();
        conn.change_user(to(account)).await.unwrap_or_else(|e| panic!("{}: {e}", account.name));
        assert_eq!(who(&mut conn).await.unwrap(), (format!("{}@%", account.name), None));
        let length: u64 = conn.query_first("SELECT @@group_concat_max_len").await.unwrap().unwrap();
        assert_ne!(length, 4321, "{}", account.name);
        assert!(conn.query_drop("SELECT * FROM mine").await.is_err(), "{}: the temporary table is gone", account.name);
        conn.query_drop("SELECT COUNT(*) FROM items").await.unwrap();
        assert_eq!(conn.query_first::<u32, _>("SELECT CONNECTION_ID()").await.unwrap(), Some(id), "the number stays");
    }
}

/// Bug: `mysql_change_user()` of C libraries was refused always. They answer `mysql_native_password` with the challenge of the login,
/// and Sluice gave them a new one.
#[tokio::test]
async fn a_c_library_changes_its_user() {
    let native = integration::accounts::NATIVE;
    if flavour() == Flavour::MySql {
        return; // it has no such plugin
    }
    for port in [cluster().server("db1").port(), proxy().port()] {
        // so that Sluice knows the account
        drop(driver::connect(driver::options(port, native)).await.unwrap());
        let mut wire = integration::wire::Wire::login(port, sluice::protocol::Capabilities::DEPRECATE_EOF).await.unwrap();
        for _ in 0..2 {
            wire.change_user_as_c_does(native.name, native.password).await.unwrap();
            let shown = format!("{:?}", wire.query("SELECT CURRENT_USER()").await.unwrap());
            assert!(shown.contains("native@%"), "{shown}");
        }
        let refused = wire.change_user_as_c_does(native.name, "wrong").await;
        assert!(refused.is_err());
    }
}

/// Bug: MySQL Connector/J was asked for the password of an account that Sluice had not seen, in a plugin that it does not follow to
/// where the greeting begins with 5.5.5, and lost its connection.
#[tokio::test]
async fn connector_j_changes_to_an_account_that_was_never_seen() {
    use sluice::protocol::Capabilities;
    if flavour() == Flavour::MySql {
        return; // it has no such plugin, and does not call itself so
    }
    on_db1(&["CREATE OR REPLACE USER t_never_seen IDENTIFIED BY 'secret'", "GRANT SELECT ON shop.* TO t_never_seen"]).await;
    cluster().settle().await.unwrap();
    for port in [cluster().server("db1").port(), proxy().port()] {
        let wanted = Capabilities::DEPRECATE_EOF | Capabilities::CONNECT_ATTRS;
        let mut wire = integration::wire::Wire::login(port, wanted).await.unwrap();
        let refused = wire.change_user_as_java_does("t_never_seen", "wrong").await.unwrap_err().to_string();
        assert!(refused.contains("Access denied"), "{refused}");
        for _ in 0..2 {
            wire.change_user_as_java_does("t_never_seen", "secret").await.unwrap();
            let shown = format!("{:?}", wire.query("SELECT CURRENT_USER()").await.unwrap());
            assert!(shown.contains("t_never_seen@%"), "{shown}");
        }
    }
}

/// MySQL closes a client whose COM_CHANGE_USER it refuses; MariaDB goes on with the old user in a new session.
#[tokio::test]
async fn a_refused_change_of_the_user_ends_as_at_the_server() {
    let wrong = Account { password: "wrong", ..REPORT };
    let nowhere = to(REPORT).with_db_name(Some("t_no_such_schema".into()));
    for (what, change) in [("a wrong password", to(wrong)), ("an unknown schema", nowhere)] {
        let mut told = Vec::new();
        for port in [cluster().server("db1").port(), proxy().port()] {
            let mut conn = driver::connect(driver::options(port, APP).db_name(Some("shop"))).await.unwrap();
            conn.query_drop("SET @mine = 1").await.unwrap();
            let error = conn.change_user(change.clone()).await.expect_err(what);
            let after = who(&mut conn).await.map_err(|e| server_error(&e));
            told.push((server_error(&error), after));
        }
        let (through, direct) = (told.pop().unwrap(), told.pop().unwrap());
        assert_eq!(through, direct, "{what}");
    }
}

/// MariaDB takes three, and knows no such command after that.
#[tokio::test]
async fn who_is_refused_again_and_again_is_told_what_the_server_tells() {
    let mut told = Vec::new();
    for port in [cluster().server("db1").port(), proxy().port()] {
        let mut conn = driver::connect(driver::options(port, APP)).await.unwrap();
        let mut errors = Vec::new();
        for _ in 0..5 {
            let error = conn.change_user(to(Account { password: "wrong", ..REPORT })).await.expect_err("a wrong password");
            errors.push(server_error(&error).map(|told| told.0));
        }
        told.push((errors, who(&mut conn).await.ok().map(|(user, _)| user)));
    }
    assert_eq!(told[1], told[0]);
    let last = if flavour() == Flavour::MariaDb { Some(1047) } else { None };
    assert_eq!(told[1].0.last(), Some(&last), "{told:?}");
}

#[tokio::test]
async fn a_locked_account_is_refused_in_the_servers_words() {
    let account = Account { name: "t_locked", password: "p" };
    on_db1(&["CREATE USER IF NOT EXISTS t_locked IDENTIFIED BY 'p'", "ALTER USER t_locked ACCOUNT LOCK"]).await;
    let direct = cluster().server("db1").connect(account).await.expect_err("locked");
    let through = proxy().connect_with(proxy().options(account)).await.expect_err("locked");
    let (direct, through) = (server_error(direct.downcast_ref().unwrap()), server_error(through.downcast_ref().unwrap()));
    assert_eq!(through, direct);
    assert_eq!(through.unwrap().0, if flavour() == Flavour::MariaDb { 4151 } else { 3118 });
    on_db1(&["ALTER USER t_locked ACCOUNT UNLOCK"]).await;
    proxy().connect_with(proxy().options(account)).await.unwrap();
}

/// The command-line client, which can be told to handle expired passwords.
fn client(port: u16, account: Account, options: &[&str], sql: &str) -> Output {
    let mut command = Command::new("mariadb");
    command.args(["--no-defaults", "-h127.0.0.1", "-N", &format!("-P{port}"), &format!("-u{}", account.name)]);
    command.arg(format!("-p{}", account.password)).args(options);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut running = command.spawn().expect("the mariadb client");
    // One that is refused at its login reads nothing.
    let _ = running.stdin.take().expect("piped").write_all(sql.as_bytes());
    running.wait_with_output().expect("the mariadb client")
}

#[tokio::test]
async fn an_expired_password_can_be_replaced_through_sluice() {
    let (old, new) = (Account { name: "t_expired", password: "old" }, Account { name: "t_expired", password: "new" });
    let change = if flavour() == Flavour::MariaDb {
        "SET PASSWORD = PASSWORD('new')"
    } else {
        "ALTER USER CURRENT_USER() IDENTIFIED BY 'new'"
    };
    // The first statement is refused, and `-f` goes on with the next line. Without a schema it is refused for that. On MariaDB such a
    // login lives on its first connection, which is in no schema yet.
    let first = if flavour() == Flavour::MariaDb { "SELECT 6" } else { "SELECT id FROM items" };
    let sql = format!("{first};\n{change};\nSELECT 7;\nSELECT CURRENT_USER();\nSELECT DATABASE();\n");
    let create = [
        "DROP USER IF EXISTS t_expired",
        "CREATE USER t_expired IDENTIFIED BY 'old' PASSWORD EXPIRE",
        "GRANT SELECT ON shop.* TO t_expired",
    ];
    for login in [&["--connect-expired-password"][..], &["--connect-expired-password", "--database=shop"]] {
        let mut told = Vec::new();
        for port in [cluster().server("db1").port(), proxy().port()] {
            on_db1(&create).await;
            let sandbox = client(port, old, login, "SELECT 1");
            let changed = client(port, old, &[login, &["-f"]].concat(), &sql);
            let after = client(port, new, &[], "SELECT 8");
            let text = |output: Output| (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
            told.push((text(sandbox), text(changed), text(after)));
        }
        let (through, direct) = (told.pop().unwrap(), told.pop().unwrap());
        assert!(direct.0.1.contains("1820") && direct.1.0.contains('7') && direct.2.0.contains('8'), "{login:?}: {direct:?}");
        assert_eq!(through, direct, "{login:?}: {sql}");
    }
    // Who does not say that it can handle it is refused in the server's words.
    on_db1(&["DROP USER IF EXISTS t_expired", "CREATE USER t_expired IDENTIFIED BY 'old' PASSWORD EXPIRE"]).await;
    let port = cluster().server("db1").port();
    let (direct, through) = (client(port, old, &[], "SELECT 1"), client(proxy().port(), old, &[], "SELECT 1"));
    assert_eq!(String::from_utf8(through.stderr).unwrap(), String::from_utf8(direct.stderr).unwrap());
}

#[tokio::test]
async fn a_session_outlives_the_change_of_its_password() {
    let account = Account { name: "t_changed", password: "old" };
    on_db1(&["DROP USER IF EXISTS t_changed", "CREATE USER t_changed IDENTIFIED BY 'old'", "GRANT SELECT ON shop.* TO t_changed"])
        .await;
    let mut conn = proxy().connect_with(proxy().options(account)).await.unwrap();
    conn.query_drop("SELECT COUNT(*) FROM shop.items").await.unwrap();
    let change = if flavour() == Flavour::MariaDb { "SET PASSWORD = PASSWORD('new')" } else { "SET PASSWORD = 'new'" };
    conn.query_drop(change).await.unwrap();
    cluster().settle().await.unwrap();
    for _ in 0..8 {
        // Reads would need connections to replicas, which only the new password opens.
        conn.query_drop("SELECT COUNT(*) FROM shop.items").await.unwrap();
    }
    let mut again = proxy().connect_with(proxy().options(Account { password: "new", ..account })).await.unwrap();
    for _ in 0..4 {
        again.query_drop("SELECT COUNT(*) FROM shop.items").await.unwrap();
    }
}

#[tokio::test]
async fn a_user_that_may_have_one_connection_is_told_so_by_the_server() {
    let account = Account { name: "t_single", password: "p" };
    on_db1(&[
        "DROP USER IF EXISTS t_single",
        "CREATE USER t_single IDENTIFIED BY 'p' WITH MAX_USER_CONNECTIONS 1",
        "GRANT SELECT, UPDATE ON shop.* TO t_single",
    ])
    .await;
    let mut clients = Vec::new();
    for _ in 0..3 {
        clients.push(proxy().connect_with(proxy().options(account)).await.unwrap());
    }
    for conn in &mut clients {
        // One connection serves all three in turn.
        conn.query_drop("UPDATE shop.items SET stock = stock WHERE id = 1").await.unwrap();
    }
    let (first, rest) = clients.split_first_mut().unwrap();
    first.query_drop("START TRANSACTION").await.unwrap();
    first.query_drop("SELECT * FROM shop.items WHERE id = 1 FOR UPDATE").await.unwrap();
    let error = rest[0].query_drop("UPDATE shop.items SET stock = stock WHERE id = 2").await.unwrap_err();
    assert_eq!(server_error(&error).unwrap().0, 1226, "{error}");
    first.query_drop("COMMIT").await.unwrap();
    rest[0].query_drop("UPDATE shop.items SET stock = stock WHERE id = 2").await.unwrap();
}

#[tokio::test]
async fn roles_are_active_as_at_the_server() {
    let account = Account { name: "t_roled", password: "p" };
    let default = match flavour() {
        Flavour::MariaDb => "SET DEFAULT ROLE t_reader FOR t_roled",
        Flavour::MySql => "SET DEFAULT ROLE t_reader TO t_roled",
    };
    on_db1(&[
        "DROP ROLE IF EXISTS t_reader",
        "DROP USER IF EXISTS t_roled",
        "CREATE ROLE t_reader",
        "GRANT SELECT ON shop.* TO t_reader",
        "CREATE USER t_roled IDENTIFIED BY 'p'",
        "GRANT t_reader TO t_roled",
        default,
    ])
    .await;
    let mut conn = proxy().connect_with(proxy().options(account)).await.unwrap();
    for _ in 0..4 {
        conn.query_drop("SELECT COUNT(*) FROM shop.items").await.unwrap();
    }
    let mut other = proxy().connect_with(proxy().options(account)).await.unwrap();
    conn.query_drop("SET ROLE NONE").await.unwrap();
    for _ in 0..4 {
        let error = conn.query_drop("SELECT COUNT(*) FROM shop.items").await.unwrap_err();
        assert_eq!(server_error(&error).unwrap().0, 1142);
        other.query_drop("SELECT COUNT(*) FROM shop.items").await.unwrap();
    }
    conn.query_drop("SET ROLE t_reader").await.unwrap();
    conn.query_drop("SELECT COUNT(*) FROM shop.items").await.unwrap();
}

#[tokio::test]
async fn a_dropped_account_opens_nothing_more() {
    let account = Account { name: "t_dropped", password: "p" };
    on_db1(&["DROP USER IF EXISTS t_dropped", "CREATE USER t_dropped IDENTIFIED BY 'p'", "GRANT SELECT ON shop.* TO t_dropped"])
        .await;
    let mut conn = proxy().connect_with(proxy().options(account)).await.unwrap();
    conn.query_drop("SELECT COUNT(*) FROM shop.items").await.unwrap();
    on_db1(&["DROP USER t_dropped"]).await;
    // Connections that are open know what the server lets them know; each new one is refused, in the server's words, and from then
    // on nothing of the account is left.
    let mut refused = None;
    for _ in 0..10 {
        if let Err(error) = conn.query_drop("SELECT COUNT(*) FROM shop.items").await {
            refused = Some(error);
            break;
        }
    }
    if let Some(error) = refused {
        let code = server_error(&error).unwrap_or_else(|| panic!("{error}")).0;
        assert!(matches!(code, 1045 | 1142 | 1044), "{error}");
    }
    let _ = proxy().connect_with(proxy().options(account)).await;
    let refused = proxy().connect_with(proxy().options(account).db_name(Some("shop"))).await;
    if let Ok(mut conn) = refused {
        assert!(conn.query_drop("SELECT COUNT(*) FROM shop.items").await.is_err(), "an account that is gone reads");
    }
}

/// Bug: a session with a role that was revoked, or with a variable that its account may not set any more, failed at every statement from then
/// on, also at the one that would have mended it.
#[tokio::test]
async fn a_session_that_cannot_be_restored_goes_on_without_what_is_refused() {
    let account = Account { name: "t_demoted", password: "p" };
    let variable = if flavour() == Flavour::MariaDb { "binlog_format = 'STATEMENT'" } else { "sql_require_primary_key = 1" };
    let name = variable.split(' ').next().unwrap();
    on_db1(&["DROP USER IF EXISTS t_demoted", "DROP ROLE IF EXISTS t_role", "CREATE ROLE t_role"]).await;
    on_db1(&["CREATE USER t_demoted IDENTIFIED BY 'p'", "GRANT ALL ON *.* TO t_demoted", "GRANT t_role TO t_demoted"]).await;
    let proxy = Proxy::before(cluster()).every_server("max_connections", "1").start().await.unwrap();
    let default = cluster().server("db1").value(&format!("SELECT @@{name}")).await.unwrap();
    let revoke_all = ["REVOKE ALL PRIVILEGES, GRANT OPTION FROM t_demoted", "GRANT SELECT ON *.* TO t_demoted"];
    for (set, revoke, mend) in [
        ("SET ROLE t_role".to_owned(), &["REVOKE t_role FROM t_demoted"][..], "SET ROLE NONE".to_owned()),
        (format!("SET SESSION {variable}"), &revoke_all, format!("SET SESSION {name} = DEFAULT")),
    ] {
        let mut conn = proxy.connect_with(proxy.options(account)).await.unwrap();
        let mut other = proxy.connect_with(proxy.options(account)).await.unwrap();
        conn.query_drop("SET SESSION sort_buffer_size = 262144").await.unwrap();
        conn.query_drop(&set).await.unwrap();
        on_db1(revoke).await;
        // The connection that was brought there before is gone, and another's is there.
        let theirs =
            cluster().server("db1").query("SELECT id FROM information_schema.processlist WHERE user = 't_demoted'").await.unwrap();
        for row in &theirs.rows {
            let _ = cluster().server("db1").run(&[&format!("KILL {}", row[0])]).await;
        }
        let value: String =
            other.query_first(format!("/* sluice: master */ SELECT CAST(@@{name} AS CHAR)")).await.unwrap().unwrap();
        assert_eq!(value, default);
        let told = conn.query_drop("/* sluice: master */ SELECT 1").await.expect_err("it is told once");
        let errno = server_error(&told).map(|told| told.0);
        assert!(matches!(errno, Some(1227 | 1959 | 3530)), "{set}: {told}");
        for sql in ["/* sluice: master */ SELECT 1", "DO 1"] {
            conn.query_drop(sql).await.unwrap_or_else(|e| panic!("{set}, {sql}: {e}"));
        }
        let kept: u32 = conn.query_first("/* sluice: master */ SELECT @@sort_buffer_size").await.unwrap().unwrap();
        assert_eq!(kept, 262144, "what is not refused stays");
        let mended = conn.query_drop(&mend).await;
        assert!(mended.is_ok() || set.starts_with("SET SESSION"), "{mended:?}");
    }
}
