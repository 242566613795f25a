//! What the log and the events tell of statements and logins.

use integration::accounts::{APP, Account};
use integration::proxy::Proxy;
use mysql_async::prelude::Queryable;

use crate::world::cluster;

/// A slow statement is logged with the time at the server and that in the proxy apart, and without its literals.
#[tokio::test]
async fn slow_statements_are_logged_without_their_literals() {
    let proxy = Proxy::before(cluster()).set("proxy.slow_statement", "\"200ms\"").start().await.unwrap();
    let mut conn = proxy.connect("shop").await.unwrap();
    let id: u32 = conn.query_first("SELECT CONNECTION_ID()").await.unwrap().unwrap();
    conn.query_drop("SELECT 'a secret', SLEEP(0.3)").await.unwrap();
    conn.query_drop("SELECT 'quick'").await.unwrap();
    conn.exec_drop("SELECT ?, SLEEP(0.3)", ("another secret",)).await.unwrap();
    let log = std::fs::read_to_string(proxy.log_path()).unwrap();
    let slow: Vec<&str> = log.lines().filter(|line| line.contains("sluice::slow")).collect();
    assert_eq!(slow.len(), 2, "{log}");
    for line in &slow {
        assert!(!line.contains("secret"), "{line}");
        let field = |name: &str| {
            let value = line
                .split_whitespace()
                .find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
                .unwrap_or_else(|| panic!("no {name}: {line}"));
            value.trim_matches('"').to_owned()
        };
        assert_eq!(
            (field("client"), field("user"), field("schema")),
            (id.to_string(), APP.name.to_owned(), "shop".to_owned()),
            "{line}"
        );
        let ms = |name: &str| field(name).parse::<f64>().unwrap();
        let (total, server, in_proxy) = (ms("total_ms"), ms("server_ms"), ms("proxy_ms"));
        assert!(total >= 300.0 && server >= 290.0 && in_proxy < 100.0 && (total - server - in_proxy).abs() < 0.01, "{line}");
    }
    let diff = proxy.admin("SELECT Value FROM variables WHERE Variable_name = 'proxy.slow_statement'").await.unwrap();
    assert_eq!(diff.rows[0][0].trim_matches('"'), "200ms");
}

/// Whoever tries passwords is an event once a minute, and is counted each time.
#[tokio::test]
async fn refused_logins_are_events_that_do_not_flood() {
    let proxy = Proxy::before(cluster()).start().await.unwrap();
    for password in ["wrong", "wrong, too", "wrong again"] {
        let options = proxy.options(Account { name: APP.name, password });
        proxy.connect_with(options).await.expect_err("a wrong password is let in");
    }
    proxy.connect_with(proxy.options(Account { name: "nobody_at_all", password: "x" })).await.expect_err("a stranger is let in");
    let events = proxy.admin("SELECT detail FROM events WHERE kind = 'refused' ORDER BY at").await.unwrap();
    let details = events.column("detail");
    assert_eq!(details.len(), 2, "{details:?}");
    assert!(details[0].contains("127.0.0.1") && details[0].contains(APP.name), "{details:?}");
    assert!(details[1].contains("nobody_at_all"), "{details:?}");
    assert_eq!(proxy.metric("sluice_logins_total", &["result=\"refused\""]).await.unwrap(), 4.0);
}
