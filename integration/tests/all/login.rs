//! Whoever can log in at the server can log in at Sluice, and nobody else; refusals are the server's own.

use integration::accounts::{self, APP, Account, EMPTY, REPORT};
use integration::driver::{self, server_error};
use integration::flavour::Flavour;
use mysql_async::prelude::Queryable;
use mysql_async::{ChangeUserOpts, Compression, OptsBuilder, SslOpts};

use crate::world::{cluster, flavour, pair, proxy, same};

fn named_plugin() -> Account {
    if flavour() == Flavour::MariaDb { accounts::NATIVE } else { accounts::SHA2 }
}

/// TLS that trusts whatever certificate is shown: Sluice makes its own when none is configured.
fn tls(options: OptsBuilder) -> OptsBuilder {
    options.ssl_opts(Some(SslOpts::default().with_danger_accept_invalid_certs(true).with_danger_skip_domain_validation(true)))
}

#[tokio::test]
async fn every_account_of_the_servers_logs_in_with_its_password() {
    for account in [APP, EMPTY, REPORT, named_plugin()] {
        // three times: the first login of a caching_sha2_password account is the full one, later ones are fast
        for round in 0..3 {
            let conn = proxy().connect_with(proxy().options(account)).await;
            let mut conn = conn.unwrap_or_else(|error| panic!("{} round {round}: {error:#}", account.name));
            let user: String = conn.query_first("SELECT CURRENT_USER()").await.unwrap().unwrap();
            assert_eq!(user, format!("{}@%", account.name));
        }
    }
}

#[tokio::test]
async fn every_account_logs_in_over_tls() {
    for account in [APP, EMPTY, named_plugin()] {
        for _ in 0..2 {
            let mut conn = proxy().connect_with(tls(proxy().options(account))).await.unwrap();
            assert_eq!(conn.query_first::<u32, _>("SELECT 1").await.unwrap(), Some(1));
        }
    }
}

#[tokio::test]
async fn refusals_are_the_servers_own() {
    let wrong = |name, password| Account { name, password };
    // MySQL answers for a user that does not exist with a plugin drawn by the name, perhaps one that this driver lacks.
    let mut nobody = None;
    for name in ["nobody", "nobody2", "nobody3", "nobody4", "nobody5", "nobody6", "nobody7", "nobody8"] {
        let refused = driver::connect(driver::options(cluster().server("db1").port(), wrong(name, "password"))).await;
        let error = refused.expect_err("a user that does not exist");
        if error.downcast_ref().is_some_and(|e| server_error(e).is_some()) {
            nobody = Some(name);
            break;
        }
    }
    let nobody = nobody.expect("a name that the server refuses by itself");
    for (what, account, schema) in [
        ("wrong password", wrong("app", "wrong"), None),
        ("no password", wrong("app", ""), None),
        ("password where none is", wrong("nopass", "something"), None),
        ("unknown user", wrong(nobody, "password"), None),
        ("unknown schema", APP, Some("t_no_such_schema")),
        ("forbidden schema", REPORT, Some("sbtest")),
    ] {
        let options = |port| driver::options(port, account).db_name(schema);
        let refused = |error: anyhow::Error| {
            let of_server = server_error(error.downcast_ref().expect("a driver's error"));
            of_server.unwrap_or_else(|| panic!("{what}: not a server's error: {error:#}"))
        };
        let direct = refused(driver::connect(options(cluster().server("db1").port())).await.expect_err(what));
        let through = refused(proxy().connect_with(options(proxy().port())).await.expect_err(what));
        assert_eq!(through, direct, "{what}");
    }
    // and nobody else suffers
    proxy().connect("shop").await.unwrap();
}

#[tokio::test]
async fn a_changed_password_is_noticed() {
    let db1 = cluster().server("db1");
    let make = ["DROP USER IF EXISTS turncoat", "CREATE USER turncoat IDENTIFIED BY 'old'", "GRANT SELECT ON shop.* TO turncoat"];
    db1.run(&make).await.unwrap();
    cluster().settle().await.unwrap();
    let login = |password| proxy().connect_with(proxy().options(Account { name: "turncoat", password }));
    login("old").await.unwrap();
    login("old").await.unwrap();
    db1.run(&["ALTER USER turncoat IDENTIFIED BY 'new'"]).await.unwrap();
    cluster().settle().await.unwrap();
    // the old password may be believed for the one login that finds out, but no statement may run with it
    if let Ok(mut conn) = login("old").await {
        assert!(conn.query_drop("SELECT COUNT(*) FROM shop.items").await.is_err(), "a statement ran with the old password");
    }
    login("old").await.expect_err("the old password is forgotten");
    let mut conn = login("new").await.unwrap();
    conn.query_drop("SELECT COUNT(*) FROM shop.items").await.unwrap();
    db1.run(&["DROP USER turncoat"]).await.unwrap();
    cluster().settle().await.unwrap();
    if let Ok(mut conn) = login("new").await {
        assert!(conn.query_drop("SELECT COUNT(*) FROM shop.items").await.is_err(), "a statement ran for a user that is gone");
    }
}

/// Bug: for ten seconds after it was last seen, an old password was taken though the new one had been set through Sluice.
#[tokio::test]
async fn a_password_changed_through_sluice_is_the_only_one_at_once() {
    let make =
        ["DROP USER IF EXISTS changer", "CREATE USER changer IDENTIFIED BY 'c'", "GRANT ALL ON *.* TO changer WITH GRANT OPTION"];
    cluster().server("db1").run(&make).await.unwrap();
    cluster().settle().await.unwrap();
    let mut admin = proxy().connect_with(proxy().options(Account { name: "changer", password: "c" })).await.unwrap();
    let login = |password| proxy().connect_with(proxy().options(Account { name: "changed", password }).db_name(Some("shop")));
    for how in ["ALTER USER changed IDENTIFIED BY 'new'", "SET PASSWORD FOR changed = #", "DROP USER changed"] {
        let how = how.replace('#', if flavour() == Flavour::MySql { "'new'" } else { "PASSWORD('new')" });
        for sql in ["DROP USER IF EXISTS changed", "CREATE USER changed IDENTIFIED BY 'old'", "GRANT SELECT ON shop.* TO changed"] {
            admin.query_drop(sql).await.unwrap();
        }
        cluster().settle().await.unwrap();
        let mut conn = login("old").await.unwrap();
        conn.query_drop("SELECT COUNT(*) FROM items").await.unwrap();
        login("old").await.unwrap();
        admin.query_drop(&how).await.unwrap();
        let refused = login("old").await.expect_err(&how);
        assert_eq!(server_error(refused.downcast_ref().unwrap()).unwrap().0, 1045, "{how}");
        if how.contains("new") {
            login("new").await.unwrap();
        }
    }
}

/// Bug: what a connection was allowed everywhere when it was opened, it is allowed until it is closed. One that was in use at a REVOKE came
/// back to its pool and served sessions that began later.
#[tokio::test]
async fn a_session_that_begins_after_a_revoke_has_no_connection_from_before() {
    let make = [
        "DROP USER IF EXISTS revoker, revoked",
        "CREATE USER revoker IDENTIFIED BY 'r'",
        "GRANT ALL ON *.* TO revoker WITH GRANT OPTION",
        "CREATE USER revoked IDENTIFIED BY 'r'",
        "GRANT SELECT ON *.* TO revoked",
        "GRANT SELECT ON sbtest.* TO revoked",
    ];
    cluster().server("db1").run(&make).await.unwrap();
    cluster().settle().await.unwrap();
    let options = |name| proxy().options(Account { name, password: "r" }).db_name(Some("sbtest"));
    let mut admin = proxy().connect_with(options("revoker")).await.unwrap();
    let mut before = proxy().connect_with(options("revoked")).await.unwrap();
    before.query_drop("BEGIN").await.unwrap();
    before.query_drop("SELECT COUNT(*) FROM shop.items").await.unwrap();
    admin.query_drop("REVOKE SELECT ON *.* FROM revoked").await.unwrap();
    before.query_drop("SELECT COUNT(*) FROM shop.items").await.expect("the servers, too, look at it at the next login");
    before.query_drop("COMMIT").await.unwrap();
    let mut after = proxy().connect_with(options("revoked")).await.unwrap();
    after.query_drop("BEGIN").await.unwrap();
    let refused = after.query_drop("SELECT COUNT(*) FROM shop.items").await.unwrap_err();
    assert_eq!(server_error(&refused).unwrap().0, 1142);
}

#[tokio::test]
async fn the_greeting_is_the_servers() {
    let (through, direct) = pair("shop").await;
    assert_eq!(through.server_version(), direct.server_version());
    let (mut through, mut direct) = (through, direct);
    same(&mut through, &mut direct, "SELECT VERSION(), @@version_comment, DATABASE(), CURRENT_USER(), USER()").await;
    let id: u32 = through.query_first("SELECT CONNECTION_ID()").await.unwrap().unwrap();
    assert_eq!(id, through.id(), "CONNECTION_ID() is the greeting's id");
}

#[tokio::test]
async fn change_user_and_reset_bring_a_clean_session() {
    let mut conn = proxy().connect("shop").await.unwrap();
    conn.query_drop("SET @x = 1, SESSION group_concat_max_len = 4321").await.unwrap();
    conn.query_drop("CREATE TEMPORARY TABLE gone (id INT)").await.unwrap();
    conn.reset().await.unwrap();
    let left: (Option<u32>, u64) = conn.query_first("SELECT @x, @@group_concat_max_len").await.unwrap().unwrap();
    assert_eq!(left.0, None);
    assert_ne!(left.1, 4321);
    assert!(conn.query_drop("SELECT * FROM gone").await.is_err());

    let report = ChangeUserOpts::default().with_user(Some(REPORT.name.into())).with_pass(Some(REPORT.password.into()));
    conn.change_user(report.with_db_name(Some("shop".into()))).await.unwrap();
    let user: String = conn.query_first("SELECT CURRENT_USER()").await.unwrap().unwrap();
    assert_eq!(user, "report@%");
    let denied = conn.query_drop("DELETE FROM order_lines WHERE order_id = 0").await.unwrap_err();
    assert_eq!(server_error(&denied).unwrap().0, 1142);
}

#[tokio::test]
async fn a_user_that_must_use_tls_logs_in_over_tls_only() {
    let account = accounts::TLS_ONLY;
    let plain = driver::connect(driver::options(proxy().port(), account)).await.expect_err("without TLS");
    assert_eq!(server_error(plain.downcast_ref().unwrap()).unwrap().0, 1045);
    if flavour() == Flavour::MySql {
        // this MariaDB has no certificate, so there nobody can log in with this account
        let mut conn = proxy().connect_with(tls(proxy().options(account))).await.unwrap();
        conn.query_drop("SELECT COUNT(*) FROM shop.items").await.unwrap();
    }
}

/// Bug: who had logged in with TLS was asked for the password anew without it. Some clients (Connector/Python) cannot send it there, and a server, which
/// remembers it, does not ask.
#[tokio::test]
async fn a_password_seen_in_tls_needs_not_be_sent_without() {
    use integration::raw::{RawClient, Reply};
    use sluice::auth::{caching_sha2, native_password};
    use sluice::protocol::handshake::{Greeting, HandshakeResponse};

    let proxy = integration::proxy::Proxy::before(cluster()).start().await.unwrap();
    for account in [named_plugin(), accounts::TLS_ONLY] {
        if account.name == accounts::TLS_ONLY.name && flavour() == Flavour::MariaDb {
            continue; // as above
        }
        proxy.connect_with(tls(proxy.options(account))).await.unwrap();
        let mut client = RawClient::dial(proxy.port()).await.unwrap();
        let Reply::Packet(_, greeting) = client.receive().await.unwrap() else { panic!("closed") };
        let greeting = Greeting::parse(&greeting).unwrap();
        let password = account.password.as_bytes();
        let auth = match flavour() {
            Flavour::MariaDb => native_password::scramble(&native_password::stage1(password), &greeting.nonce).to_vec(),
            Flavour::MySql => caching_sha2::scramble(password, &greeting.nonce).to_vec(),
        };
        let response = HandshakeResponse {
            capabilities: integration::wire::BASE,
            max_packet: 1 << 24,
            collation: 45,
            user: account.name.to_owned(),
            auth,
            schema: None,
            plugin: greeting.plugin.clone(),
            attributes: Vec::new(),
            zstd_level: None,
        };
        let mut payload = Vec::new();
        response.write(&mut payload);
        client.send(1, &payload).await.unwrap();
        let Reply::Packet(_, mut said) = client.receive().await.unwrap() else { panic!("closed") };
        if account.name == accounts::TLS_ONLY.name {
            assert!(said.starts_with(b"\xff\x15\x04"), "1045: {}", said.escape_ascii());
            continue;
        }
        if flavour() == Flavour::MySql {
            assert_eq!(said, [1, 3], "it is not asked for the password");
            let Reply::Packet(_, next) = client.receive().await.unwrap() else { panic!("closed") };
            said = next;
        }
        assert_eq!(said.first(), Some(&0), "{}", said.escape_ascii());
    }
}

#[tokio::test]
async fn a_compressed_connection_works() {
    let options = proxy().options(APP).compression(Compression::default()).db_name(Some("shop"));
    let mut conn = proxy().connect_with(options).await.unwrap();
    let long: String = conn.query_first("SELECT REPEAT('sluice ', 200000)").await.unwrap().unwrap();
    assert_eq!(long.len(), 1_400_000);
}

#[tokio::test]
async fn two_hundred_logins_at_once() {
    let logins: Vec<_> = (0..200)
        .map(|n| {
            let account = if n % 2 == 0 { APP } else { named_plugin() };
            tokio::spawn(proxy().connect_with(proxy().options(account)))
        })
        .collect();
    for login in logins {
        let mut conn = login.await.unwrap().unwrap();
        conn.query_drop("SELECT 1").await.unwrap();
    }
}

#[tokio::test]
async fn configured_users_override() {
    let users = "[[user]]\nname = \"report\"\nschemas = [\"shop\"]\nhosts = [\"10.0.0.0/8\"]\n";
    let proxy = integration::proxy::Proxy::before(cluster()).more(users).start().await.unwrap();
    assert!(proxy.connect_with(proxy.options(REPORT)).await.is_err(), "not from 127.0.0.1");
    proxy.connect("shop").await.unwrap();
}

/// MariaDB's `ed25519`, from whose exchange nothing can be learned.
#[tokio::test]
async fn an_ed25519_account_logs_in_with_and_without_tls() {
    if flavour() != Flavour::MariaDb {
        // MySQL has no such plugin: the account does not exist, and the server says so.
        let refused = proxy().connect_with(proxy().options(accounts::ED25519)).await.expect_err("no such account");
        assert_eq!(server_error(refused.downcast_ref().unwrap()).unwrap().0, 1045);
        return;
    }
    let proxy = integration::proxy::Proxy::before(cluster()).every_server("max_connections", "3").start().await.unwrap();
    // Without TLS the client lives on the connection on which the server accepted it.
    let mut conn = proxy.connect_with(proxy.options(accounts::ED25519)).await.unwrap();
    for _ in 0..3 {
        assert_eq!(conn.query_first::<String, _>("SELECT CURRENT_USER()").await.unwrap().as_deref(), Some("ed@%"));
        conn.query_drop("SELECT COUNT(*) FROM shop.items").await.unwrap();
    }
    let clients = proxy.admin("SHOW CLIENTS").await.unwrap();
    assert_eq!(clients.cell("user", "ed", "pin_reason"), Some("login"), "{}", clients.framed());
    conn.query_drop("SET @x = 1, SESSION group_concat_max_len = 4321").await.unwrap();
    conn.query_drop("CREATE TEMPORARY TABLE shop.gone (id INT)").await.unwrap();
    conn.reset().await.unwrap();
    let left: (Option<u32>, u64, String) =
        conn.query_first("SELECT @x, @@group_concat_max_len, @@collation_connection").await.unwrap().unwrap();
    assert_eq!(left.0, None);
    assert_ne!(left.1, 4321);
    assert!(left.2.starts_with("utf8mb4"), "{left:?}");
    assert!(conn.query_drop("SELECT * FROM shop.gone").await.is_err());
    // Its schema is tried on it.
    let mut shop = proxy.connect_with(proxy.options(accounts::ED25519).db_name(Some("shop"))).await.unwrap();
    shop.query_drop("SELECT COUNT(*) FROM items").await.unwrap();
    let refused = proxy.connect_with(proxy.options(accounts::ED25519).db_name(Some("sbtest"))).await.expect_err("forbidden");
    assert_eq!(server_error(refused.downcast_ref().unwrap()).unwrap().0, 1044);
    // Each takes one of the server's connections; when they are all taken, that is said.
    let third = proxy.connect_with(proxy.options(accounts::ED25519)).await.unwrap();
    let full = proxy.connect_with(proxy.options(accounts::ED25519)).await.expect_err("three are in use");
    let (code, _, text) = server_error(full.downcast_ref().unwrap()).unwrap();
    assert!(code == 1203 && text.starts_with("sluice: all connections to db1 are in use"), "{code} {text}");
    drop((conn, shop, third));
    // Inside TLS the client is asked for the password, and connections are shared.
    for _ in 0..3 {
        let mut conn = proxy.connect_with(tls(proxy.options(accounts::ED25519))).await.unwrap();
        assert_eq!(conn.query_first::<String, _>("SELECT CURRENT_USER()").await.unwrap().as_deref(), Some("ed@%"));
        let clients = proxy.admin("SHOW CLIENTS").await.unwrap();
        assert_eq!(clients.cell("user", "ed", "pin_reason"), Some("NULL"), "{}", clients.framed());
    }
    let wrong = Account { name: accounts::ED25519.name, password: "wrong" };
    let direct = driver::connect(driver::options(cluster().server("db1").port(), wrong)).await.expect_err("wrong");
    let direct = server_error(direct.downcast_ref().unwrap());
    for options in [proxy.options(wrong), tls(proxy.options(wrong))] {
        let refused = proxy.connect_with(options).await.expect_err("wrong password");
        assert_eq!(server_error(refused.downcast_ref().unwrap()), direct);
    }
}

/// Bug: when a client had gone whose login cannot be repeated, Sluice tried to log in as its account to kill its statement, and was refused.
#[tokio::test]
async fn nobody_logs_in_for_a_client_that_has_gone_and_was_carried() {
    if flavour() != Flavour::MariaDb {
        return; // no plugin there whose exchange tells nothing
    }
    let (cluster, proxy) = crate::world::own(|proxy| proxy).await;
    let db1 = cluster.server("db1");
    let runs = async |mark: &str| {
        let sql = format!(
            "SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE '%{mark}%' AND info NOT LIKE '%processlist%'"
        );
        Ok(db1.value(&sql).await? == "1")
    };
    let refused = db1.status("Access_denied_errors").await.unwrap();
    // The second one's statement is killed, after the first had gone.
    for (account, mark, seconds) in [(accounts::ED25519, "carried", 2), (APP, "shared", 60)] {
        let mut conn = proxy.connect_with(proxy.options(account)).await.unwrap();
        let sql = format!("/* {mark} */ SELECT SLEEP({seconds}) FROM shop.items WHERE id = 1");
        let running = tokio::spawn(async move { conn.query_drop(sql).await });
        let limit = std::time::Duration::from_secs(10);
        integration::wait::until_true("it runs", limit, async || runs(mark).await).await.unwrap();
        running.abort();
        integration::wait::until_true("it has ended", limit, async || Ok(!runs(mark).await?)).await.unwrap();
    }
    assert_eq!(db1.status("Access_denied_errors").await.unwrap(), refused);
}

/// With the password in the file an account needs no server's word, whatever its plugin: ed25519 is served without TLS like others.
#[tokio::test]
async fn an_account_with_its_password_in_the_file_is_served_like_others() {
    let account = if flavour() == Flavour::MariaDb { accounts::ED25519 } else { accounts::SHA2 };
    let users = format!("[[user]]\nname = {:?}\npassword = {:?}\n", account.name, account.password);
    let proxy = integration::proxy::Proxy::before(cluster()).more(&users).start().await.unwrap();
    let mut conn = proxy.connect_with(proxy.options(account)).await.unwrap();
    conn.query_drop("SELECT COUNT(*) FROM shop.items").await.unwrap();
    let clients = proxy.admin("SHOW CLIENTS").await.unwrap();
    assert_eq!(clients.cell("user", account.name, "pin_reason"), Some("NULL"), "{}", clients.framed());
}

/// Bug: a login in a charset in which no statement can be read was taken, and failed at its first statement.
#[tokio::test]
async fn a_login_in_a_charset_for_results_only_is_refused() {
    use integration::wire::Wire;
    use sluice::protocol::Capabilities;
    // ucs2_general_ci, utf16_general_ci, utf16le_general_ci, utf32_general_ci
    for collation in [35, 54, 56, 60] {
        let mut told = Vec::new();
        for port in [cluster().server("db1").port(), proxy().port()] {
            let refused = Wire::login_with(port, Capabilities::DEPRECATE_EOF, collation, None).await;
            told.push(format!("{:#}", refused.expect_err("no client's charset")));
        }
        assert!(told[0].contains("1231") || told[0].contains("#42000Variable"), "{}", told[0]);
        assert_eq!(told[0], told[1], "{collation}");
    }
}

/// Bug: whatever a server said against a connection on which a login tried its schema, what was learned of the password was forgotten and
/// the account's idle connections were closed everywhere.
#[tokio::test]
async fn a_server_that_has_no_room_for_a_login_says_nothing_of_its_password() {
    let make = [
        "DROP USER IF EXISTS narrow",
        "CREATE USER narrow IDENTIFIED BY 'n' WITH MAX_USER_CONNECTIONS 1",
        "GRANT SELECT, UPDATE ON shop.* TO narrow",
    ];
    cluster().server("db1").run(&make).await.unwrap();
    cluster().settle().await.unwrap();
    let options = || proxy().options(Account { name: "narrow", password: "n" });
    let mut holder = proxy().connect_with(options()).await.unwrap();
    holder.query_drop("START TRANSACTION").await.unwrap();
    holder.query_drop("SELECT COUNT(*) FROM shop.items WHERE id = 1 FOR UPDATE").await.unwrap();
    let refused = proxy().connect_with(options().db_name(Some("shop"))).await.expect_err("its one connection is in use");
    assert_eq!(server_error(refused.downcast_ref().unwrap()).unwrap().0, 1226, "{refused:#}");
    let events = proxy().admin("SHOW EVENTS").await.unwrap();
    assert!(!events.framed().contains("of narrow"), "{}", events.framed());
    holder.query_drop("ROLLBACK").await.unwrap();
    drop(holder);
    proxy().connect_with(options().db_name(Some("shop"))).await.unwrap();
}

/// Bug: a client that does not say that it follows an AuthSwitchRequest, and does (`mysql` of Node.js), was refused until another had taught
/// Sluice the password.
#[tokio::test]
async fn a_client_without_plugins_logs_in_at_a_native_account() {
    use integration::accounts::NATIVE;
    use integration::raw::{RawClient, Reply};
    use sluice::auth::native_password::{scramble, stage1};
    use sluice::protocol::handshake::Greeting;

    let hash = stage1(NATIVE.password.as_bytes());
    // Protocol 4.1, secure connection, transactions.
    let response = |account: Account, nonce: &[u8; 20]| {
        let mut payload = (0x1u32 | 0x200 | 0x2000 | 0x8000).to_le_bytes().to_vec();
        payload.extend([0, 0, 0, 1, 45]);
        payload.extend([0; 23]);
        payload.extend(account.name.as_bytes());
        payload.extend([0, 20]);
        payload.extend(scramble(&hash, nonce));
        payload
    };
    let proxy = integration::proxy::Proxy::before(cluster()).start().await.unwrap();
    if flavour() != Flavour::MariaDb {
        // There are no native accounts, and what others need cannot be said to such a client.
        for port in [cluster().server("db1").port(), proxy.port()] {
            let mut client = RawClient::dial(port).await.unwrap();
            let Reply::Packet(_, greeting) = client.receive().await.unwrap() else { panic!("closed") };
            client.send(1, &response(APP, &Greeting::parse(&greeting).unwrap().nonce)).await.unwrap();
            let reply = client.receive().await.unwrap();
            let refused = matches!(&reply, Reply::Packet(_, error) if error.starts_with(b"\xff\xe3\x04"));
            assert!(refused, "1251 at {port}: {reply:?}");
        }
        return;
    }
    // The second time the password is known.
    for switched in [true, false] {
        let mut client = RawClient::dial(proxy.port()).await.unwrap();
        let Reply::Packet(_, greeting) = client.receive().await.unwrap() else { panic!("closed") };
        let greeting = Greeting::parse(&greeting).unwrap();
        client.send(1, &response(NATIVE, &greeting.nonce)).await.unwrap();
        let mut reply = client.receive().await.unwrap();
        if switched {
            let Reply::Packet(2, asked) = &reply else { panic!("{reply:?}") };
            let nonce = asked.strip_prefix(b"\xfemysql_native_password\0").and_then(|rest| rest.first_chunk());
            let answer = scramble(&hash, nonce.unwrap_or_else(|| panic!("{reply:?}")));
            client.send(3, &answer).await.unwrap();
            reply = client.receive().await.unwrap();
        }
        assert!(matches!(&reply, Reply::Packet(_, ok) if ok.first() == Some(&0)), "{reply:?}");
    }
}
