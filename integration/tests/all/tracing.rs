//! Spans: what a collector is sent for statements that belong to a trace, and that nobody waits for a collector.

use std::time::{Duration, Instant};

use integration::collector::{Collector, attribute};
use integration::flavour::Flavour;
use integration::proxy::Proxy;
use integration::wait::until_true;
use integration::wire::Wire;
use mysql_async::prelude::Queryable;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use sluice::protocol::reply::Expect;

use crate::protocol::{modern, with_attribute};
use crate::world::{cluster, flavour};

const LIMIT: Duration = Duration::from_secs(10);
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The spans of statements whose text has this in it, when there are some.
async fn of(collector: &Collector, text: &str) -> Vec<Span> {
    let found = || {
        let all = collector.spans();
        all.into_iter()
            .filter(|span| attribute(span, "db.query.text").is_some_and(|query| query.contains(text)))
            .collect::<Vec<_>>()
    };
    until_true(&format!("a span of {text}"), LIMIT, || async { Ok(!found().is_empty()) }).await.unwrap();
    found()
}

/// By TLS to a collector that proves who it is; another one is sent nothing.
#[tokio::test]
async fn a_collector_by_tls_is_believed_by_its_authority() {
    let (collector, ca) = Collector::start_by_tls().await.unwrap();
    let (endpoint, ca) = (collector.endpoint(), format!("{:?}", ca.display().to_string()));
    let other_name = endpoint.replace("localhost", "127.0.0.1");
    for (endpoint, ca, refused) in [(&endpoint, Some(&ca), false), (&other_name, Some(&ca), true), (&endpoint, None, true)] {
        let mut config = Proxy::before(cluster()).set("tracing.otlp_endpoint", &format!("{endpoint:?}"));
        if let Some(ca) = ca {
            config = config.set("tracing.otlp_ca", ca);
        }
        let proxy = config.start().await.unwrap();
        let mut conn = proxy.connect("shop").await.unwrap();
        let text = if refused { "to_nobody" } else { "by_tls" };
        conn.query_drop(format!("SELECT COUNT(*) AS {text} FROM items /*traceparent='00-{TRACE}-{PARENT}-01'*/")).await.unwrap();
        if !refused {
            of(&collector, text).await;
            continue;
        }
        let told = async || {
            let events = proxy.admin("SELECT detail FROM events WHERE kind = 'tracing'").await?;
            Ok(events.column("detail").iter().any(|detail| detail.contains("TLS: invalid peer certificate")))
        };
        until_true("it is said why", LIMIT, told).await.unwrap();
        let sent = collector.spans();
        assert!(sent.iter().all(|span| attribute(span, "db.query.text").is_none_or(|query| !query.contains(text))), "{endpoint}");
    }
}

#[tokio::test]
async fn statements_of_a_trace_are_told() {
    let collector = Collector::start(0).await.unwrap();
    let endpoint = format!("{:?}", collector.endpoint());
    let config = Proxy::before(cluster()).set("tracing.otlp_endpoint", &endpoint).set("tracing.service_name", "\"shop-db\"");
    let proxy = config.start().await.unwrap();
    let mut conn = proxy.connect("shop").await.unwrap();
    let before = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64;
    conn.query_drop(format!("SELECT name, SLEEP(0.05) FROM items WHERE id = 3 /*traceparent='00-{TRACE}-{PARENT}-01'*/"))
        .await
        .unwrap();
    conn.query_drop(format!("SELECT stock FROM items /*traceparent='00-{TRACE}-{PARENT}-00'*/")).await.unwrap();
    conn.query_drop("SELECT note FROM items").await.unwrap();
    let refused =
        conn.query_drop(format!("/* traceparent=00-{TRACE}-{PARENT}-01 */ INSERT INTO items (nothing) VALUES ('secret')")).await;
    refused.unwrap_err();
    let failed = of(&collector, "INSERT INTO").await.remove(0);
    assert_eq!(attribute(&failed, "db.response.status_code").as_deref(), Some("1054"));
    assert_eq!(failed.status.as_ref().map(|status| status.code), Some(2));
    assert_eq!(attribute(&failed, "sluice.target").as_deref(), Some("master"));
    let all = collector.spans();
    assert!(all.iter().all(|span| !format!("{span:?}").contains("secret")), "no literal is told");
    let texts: Vec<_> = all.iter().filter_map(|span| attribute(span, "db.query.text")).collect();
    assert!(!texts.iter().any(|text| text.contains("stock") || text.contains("note")), "not recorded, no trace: {texts:?}");
    let read = of(&collector, "SLEEP").await.remove(0);
    assert_eq!((hex(&read.trace_id), hex(&read.parent_span_id)), (TRACE.to_owned(), PARENT.to_owned()));
    assert_eq!((read.kind, read.name.to_ascii_uppercase()), (SpanKind::Server as i32, "SELECT".to_owned()));
    assert_eq!(attribute(&read, "sluice.user").as_deref(), Some("app"));
    assert_eq!(attribute(&read, "db.namespace").as_deref(), Some("shop"));
    assert_eq!(attribute(&read, "db.response.returned_rows").as_deref(), Some("1"));
    assert!(read.start_time_unix_nano > before - 1_000_000, "its time is a wall clock's");
    let took = read.end_time_unix_nano - read.start_time_unix_nano;
    assert!((50_000_000..5_000_000_000).contains(&took), "{took} ns");
    let children: Vec<_> = all.iter().filter(|span| span.parent_span_id == read.span_id).collect();
    let [wait, server] = children.as_slice() else { panic!("two children: {children:?}") };
    assert_eq!((wait.name.as_str(), server.name.as_str()), ("wait for a connection", "server"));
    assert_eq!(wait.start_time_unix_nano, read.start_time_unix_nano);
    assert_eq!(wait.end_time_unix_nano, server.start_time_unix_nano);
    assert_eq!(server.end_time_unix_nano, read.end_time_unix_nano);
    assert!(server.end_time_unix_nano - server.start_time_unix_nano >= 50_000_000, "the sleep was the server's");
    assert!(attribute(server, "sluice.server").is_some_and(|name| name.starts_with("db")));
    if flavour() == Flavour::MySql {
        let mut wire = Wire::login(proxy.port(), modern()).await.unwrap();
        let value = format!("00-{TRACE}-{PARENT}-01");
        wire.ask(&with_attribute("traceparent", &value, "SELECT COUNT(*) AS by_attribute FROM shop.items"), Expect::Query)
            .await
            .unwrap();
        let span = of(&collector, "by_attribute").await.remove(0);
        assert_eq!((hex(&span.trace_id), hex(&span.parent_span_id)), (TRACE.to_owned(), PARENT.to_owned()));
        // On top of a parameter; the second time its types are remembered, and its trace is another.
        wire.prepare("SELECT COUNT(*) AS by_execution FROM shop.items WHERE id > ?").await.unwrap();
        let types = [b"\x01\x03\0\0\xfe\0\x0b".as_slice(), b"traceparent"].concat();
        let other = TRACE.replace("4bf9", "5555");
        for (trace, types) in [(TRACE, types.as_slice()), (&other, b"\0")] {
            let value = format!("00-{trace}-{PARENT}-01");
            let values = [b"\x03\0\0\0".as_slice(), &[value.len() as u8], value.as_bytes()].concat();
            let head = [&[0x17][..], &wire.statement.to_le_bytes(), &[0x08, 1, 0, 0, 0, 2, 0]].concat();
            wire.ask(&[&head[..], types, &values].concat(), Expect::Execute).await.unwrap();
        }
        let both = async || Ok(of(&collector, "by_execution").await.len() == 2);
        until_true("both executions are told", LIMIT, both).await.unwrap();
        let told: std::collections::HashSet<_> =
            of(&collector, "by_execution").await.iter().map(|span| hex(&span.trace_id)).collect();
        assert_eq!(told, [TRACE.to_owned(), other].into());
    }
    assert!(collector.services().iter().all(|name| name == "shop-db"));
    let sent = async || Ok(proxy.metric("sluice_spans_total", &["result=\"sent\""]).await? >= 2.0);
    until_true("they are counted", LIMIT, sent).await.unwrap();
}

/// Traces that Sluice begins itself, switched on and off by a reload.
#[tokio::test]
async fn every_so_manieth_begins_a_trace() {
    let collector = Collector::start(0).await.unwrap();
    let endpoint = format!("{:?}", collector.endpoint());
    let mut proxy = Proxy::before(cluster()).start().await.unwrap();
    let mut conn = proxy.connect("shop").await.unwrap();
    conn.query_drop("SELECT id AS before_reload FROM items").await.unwrap();
    proxy.reload_with(|config| config.set("tracing.otlp_endpoint", &endpoint).set("tracing.sample_every", "5")).await.unwrap();
    for _ in 0..50 {
        conn.query_drop("SELECT id AS sampled FROM items").await.unwrap();
    }
    until_true("ten traces", LIMIT, || async { Ok(of(&collector, "sampled").await.len() >= 10) }).await.unwrap();
    let spans = of(&collector, "sampled").await;
    assert_eq!(spans.len(), 10);
    assert!(spans.iter().all(|span| span.parent_span_id.is_empty()));
    let traces: std::collections::HashSet<_> = spans.iter().map(|span| span.trace_id.clone()).collect();
    assert_eq!(traces.len(), 10);
    assert!(!collector.spans().iter().any(|span| format!("{span:?}").contains("before_reload")));
}

/// No collector, one that takes connections and says nothing: statements are as quick as ever, spans are dropped and counted, and told of once.
#[tokio::test]
async fn a_collector_that_is_not_there_costs_nothing() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = format!("\"http://{}/v1/traces\"", silent.local_addr().unwrap());
    let gone = format!("\"http://127.0.0.1:{}/v1/traces\"", integration::ports::free_port().unwrap());
    for endpoint in [gone, silent] {
        let config = Proxy::before(cluster()).set("tracing.otlp_endpoint", &endpoint).set("tracing.sample_every", "1");
        let proxy = config.start().await.unwrap();
        let mut conn = proxy.connect("shop").await.unwrap();
        // More than the queue and a batch hold.
        let mut slowest = Duration::ZERO;
        for _ in 0..6_000 {
            let start = Instant::now();
            conn.query_drop("DO 1").await.unwrap();
            slowest = slowest.max(start.elapsed());
        }
        assert!(slowest < Duration::from_secs(1), "a statement took {slowest:?}");
        until_true("spans are dropped", LIMIT, || async {
            Ok(proxy.metric("sluice_spans_total", &["result=\"dropped\""]).await? > 500.0)
        })
        .await
        .unwrap();
        let told = async || proxy.admin("SELECT detail FROM events WHERE kind = 'tracing'").await;
        until_true("it is told", LIMIT, || async { Ok(!told().await?.rows.is_empty()) }).await.unwrap();
        assert_eq!(told().await.unwrap().rows.len(), 1);
    }
}
