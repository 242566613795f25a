//! What `[[user]]` lets an account do: its schemas, reads only, where it comes from; as the file says now, for clients that are in too.

use std::time::Duration;

use integration::accounts::APP;
use integration::driver::{connect, options, server_error};
use integration::proxy::Proxy;
use integration::wait::until_true;
use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use crate::world::cluster;

/// The server's number for the error of a statement, and its text; `(0, "")` when there is none.
async fn error(conn: &mut Conn, sql: &str) -> (u16, String) {
    match conn.query_drop(sql).await {
        Ok(()) => (0, String::new()),
        Err(error) => {
            let (code, _, text) = server_error(&error).unwrap_or_else(|| panic!("{sql}: {error}"));
            (code, text)
        }
    }
}

fn user(settings: &str) -> String {
    format!("[[user]]\nname = {:?}\n{settings}", APP.name)
}

#[tokio::test]
async fn an_account_stays_within_its_schemas() {
    let proxy = Proxy::before(cluster()).more(&user("schemas = [\"shop\"]")).start().await.unwrap();
    let mut conn = proxy.connect("shop").await.unwrap();
    // Each of these runs for the account at the servers.
    let mut direct = connect(options(cluster().server("db1").port(), APP).db_name(Some("shop"))).await.unwrap();
    for sql in [
        "SHOW TABLES FROM sbtest",
        "CREATE TABLE IF NOT EXISTS sbtest.bounds (a INT)",
        "SELECT * FROM sbtest.bounds",
        "INSERT INTO sbtest.bounds SELECT id FROM shop.items LIMIT 1",
        "SELECT COUNT(*) FROM items, sbtest.bounds",
        "USE sbtest",
    ] {
        direct.query_drop(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        let (code, text) = error(&mut conn, sql).await;
        assert_eq!(code, 1044, "{sql}: {text}");
        assert!(text.contains("'sbtest'") && text.contains("`schemas`"), "{sql}: {text}");
    }
    assert!(conn.exec_drop("SELECT * FROM sbtest.bounds WHERE a = ?", (1,)).await.is_err(), "prepared");
    for sql in [
        "SELECT COUNT(*) FROM items i JOIN shop.orders o ON i.id = o.id",
        "SELECT COUNT(*) FROM information_schema.tables",
        "SHOW FULL COLUMNS FROM items",
        "UPDATE items SET stock = stock WHERE id = 1",
        "USE information_schema",
        "USE shop",
        "START TRANSACTION",
        "COMMIT",
    ] {
        assert_eq!(error(&mut conn, sql).await, (0, String::new()), "{sql}");
    }
    conn.exec_drop("SELECT * FROM items WHERE id = ?", (1,)).await.unwrap();
    let name: Option<String> = conn.query_first("SELECT DATABASE()").await.unwrap();
    assert_eq!(name.as_deref(), Some("shop"));

    let route = proxy.admin("EXPLAIN ROUTE FOR USER app SELECT * FROM sbtest.bounds").await.unwrap();
    assert_eq!(route.column("target"), ["deny"]);
    assert!(route.column("reason")[0].starts_with("schema_not_allowed"), "{route:?}");
    let route = proxy.admin("EXPLAIN ROUTE FOR USER app SELECT * FROM shop.items").await.unwrap();
    assert_eq!(route.column("target"), ["replica"]);
    direct.query_drop("DROP TABLE sbtest.bounds").await.unwrap();
}

/// A result that another account has put into the cache, or this one before, is not shown either.
#[tokio::test]
async fn the_cache_shows_no_other_schema() {
    let mut proxy = Proxy::before(cluster()).set("cache.enabled", "true").set("cache.default", "\"all\"").start().await.unwrap();
    let mut conn = proxy.connect("shop").await.unwrap();
    let sql = "SELECT COUNT(*) FROM shop.items";
    until_true("it is answered from the cache", Duration::from_secs(20), async || {
        conn.query_drop(sql).await?;
        Ok(proxy.admin("SHOW CACHE").await?.column("hits") != ["0"])
    })
    .await
    .unwrap();
    proxy.reload_with(|config| config.more(&user("schemas = [\"sbtest\"]"))).await.unwrap();
    assert_eq!(error(&mut conn, sql).await.0, 1044);
}

#[tokio::test]
async fn a_reload_counts_for_clients_that_are_in() {
    let mut proxy = Proxy::before(cluster()).start().await.unwrap();
    let base = Proxy::before(cluster());
    let mut conn = proxy.connect("shop").await.unwrap();
    let write = "UPDATE items SET stock = stock WHERE id = 1";
    assert_eq!(error(&mut conn, write).await.0, 0);
    let change = async |proxy: &mut Proxy, settings: &str| {
        let config = base.clone().more(&user(settings));
        proxy.reload_with(|_| config).await.unwrap();
    };
    change(&mut proxy, "read_only = true").await;
    let (code, text) = error(&mut conn, write).await;
    assert!(code == 1290 && text.contains("read_only in Sluice's configuration"), "{code} {text}");
    assert_eq!(error(&mut conn, "SELECT COUNT(*) FROM items").await.0, 0);

    change(&mut proxy, "schemas = [\"sbtest\"]").await;
    assert_eq!(error(&mut conn, write).await.0, 1044, "it is in a schema that it may not use any more");
    assert_eq!(error(&mut conn, "USE sbtest").await.0, 0);
    assert_eq!(error(&mut conn, "USE shop").await.0, 1044);
    change(&mut proxy, "").await;
    assert_eq!(error(&mut conn, "USE shop").await.0, 0);
    assert_eq!(error(&mut conn, write).await.0, 0);

    change(&mut proxy, "hosts = [\"10.0.0.0/8\"]").await;
    until_true("the client is ended", Duration::from_secs(5), async || Ok(conn.query_drop("SELECT 1").await.is_err()))
        .await
        .unwrap();
    assert!(proxy.connect("shop").await.is_err(), "not from here");
    let events = proxy.admin("SELECT detail FROM events WHERE kind = 'reload'").await.unwrap();
    assert!(events.column("detail").iter().any(|text| text.contains("1 clients were ended")), "{events:?}");
}
