//! Spans as OTLP's protobuf: `ExportTraceServiceRequest`, and where they are sent.
//! The names of attributes are those of OpenTelemetry's conventions for database clients.

use std::time::{Duration, Instant};

use hyper::Uri;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use prost::Message;

use super::spans::{StatementSpan, mixed};

/// A statement's text is sent up to here.
const TEXT_BYTES_MAX: usize = 2048;
/// The name of a span is a statement's first word, up to here.
const NAME_LETTERS_MAX: usize = 32;
/// The ports of `http://` and `https://` when none is named.
const HTTP_PORT: u16 = 80;
const HTTPS_PORT: u16 = 443;
/// OTLP's own path, when none is named.
const PATH: &str = "/v1/traces";

/// Where a collector listens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Endpoint {
    /// `host:port`
    pub authority: String,
    /// The host alone, an IPv6 address without its brackets: whose certificate it must be.
    pub host: String,
    /// By TLS.
    pub tls: bool,
    /// The path, from `/` on.
    pub path: String,
}

impl Endpoint {
    /// Reads `http://host[:port][/path]`, or `https://` for TLS; without a path it is OTLP's own.
    pub fn parse(url: &str) -> Option<Endpoint> {
        let uri: Uri = url.parse().ok()?;
        let authority = uri.authority()?;
        // The parser takes what is no port for none, and leaves a fragment out.
        let said = match authority.port() {
            Some(port) => format!("{}:{port}", authority.host()),
            None => authority.host().to_owned(),
        };
        let is_plain = authority.as_str() == said && !authority.host().is_empty() && !url.contains('#');
        let (tls, default_port) = match uri.scheme_str() {
            Some("http") => (false, HTTP_PORT),
            Some("https") => (true, HTTPS_PORT),
            _ => return None,
        };
        if !is_plain {
            return None;
        }
        let path = match uri.path() {
            "/" => PATH,
            _ => uri.path_and_query()?.as_str(),
        };
        let port = authority.port_u16().unwrap_or(default_port);
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        Some(Endpoint { authority: format!("{}:{port}", authority.host()), host, tls, path: path.to_owned() })
    }
}

/// The request that carries these statements. `now` and `unix_ns` are the same moment.
pub fn request(spans: &[StatementSpan], service: &str, now: Instant, unix_ns: u64) -> Vec<u8> {
    let ns = |d: Duration| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX);
    let at = |moment: Instant| unix_ns.saturating_sub(ns(now.saturating_duration_since(moment)));
    let attributes = vec![text("service.name", service), text("service.version", env!("CARGO_PKG_VERSION"))];
    let scope = InstrumentationScope { name: "sluice".to_owned(), ..InstrumentationScope::default() };
    let scope_spans = ScopeSpans {
        scope: Some(scope),
        spans: spans.iter().flat_map(|span| statement(span, &at)).collect(),
        ..ScopeSpans::default()
    };
    let resource_spans = ResourceSpans {
        resource: Some(Resource { attributes, ..Resource::default() }),
        scope_spans: vec![scope_spans],
        ..ResourceSpans::default()
    };
    ExportTraceServiceRequest { resource_spans: vec![resource_spans] }.encode_to_vec()
}

/// The statement, the time it waited for a connection, and its time at the server.
fn statement(span: &StatementSpan, at: &dyn Fn(Instant) -> u64) -> Vec<Span> {
    let id = |n: u64| mixed(span.number.wrapping_add(n)).max(1).to_be_bytes();
    let own = id(0);
    let made = |n: u64, parent: Option<[u8; 8]>, name: &str, kind: SpanKind, (from, to): (Instant, Instant)| Span {
        trace_id: span.trace.to_vec(),
        span_id: id(n).to_vec(),
        parent_span_id: parent.map(|parent| parent.to_vec()).unwrap_or_default(),
        name: name.to_owned(),
        kind: kind.into(),
        start_time_unix_nano: at(from),
        end_time_unix_nano: at(to),
        ..Span::default()
    };
    let query: &str = &span.statement.digest_text;
    let verb: String = query.split(' ').next().unwrap_or_default().chars().take(NAME_LETTERS_MAX).collect();
    let name = if verb.is_empty() { "statement" } else { &verb };
    let end = (0..=query.len().min(TEXT_BYTES_MAX)).rev().find(|end| query.is_char_boundary(*end)).unwrap_or(0);
    let mut whole = made(0, span.parent, name, SpanKind::Server, (span.began, span.ended));
    whole.attributes = vec![
        text("db.system.name", "mysql"),
        text("db.query.text", query.get(..end).unwrap_or_default()),
        text("db.query.summary", span.statement.class.as_str()),
        text("db.namespace", &span.schema),
        text("sluice.user", &span.user),
        text("sluice.digest", &format!("{:016x}", span.statement.digest_hash)),
        text("sluice.target", span.target),
    ];
    if !span.server.is_empty() {
        whole.attributes.push(text("sluice.server", &span.server));
    }
    let rows = Value::IntValue(i64::try_from(span.rows).unwrap_or(i64::MAX));
    whole.attributes.push(attribute("db.response.returned_rows", rows));
    failure(&mut whole, span);
    let Some(sent) = span.sent else { return vec![whole] };
    let wait = made(1, Some(own), "wait for a connection", SpanKind::Internal, (span.began, sent));
    let mut server = made(2, Some(own), "server", SpanKind::Client, (sent, span.ended));
    server.attributes.push(text("sluice.server", &span.server));
    failure(&mut server, span);
    vec![whole, wait, server]
}

fn failure(out: &mut Span, span: &StatementSpan) {
    if let Some(errno) = span.errno {
        out.attributes.push(text("db.response.status_code", &errno.to_string()));
        out.status = Some(Status { message: format!("error {errno}"), code: StatusCode::Error.into() });
    }
}

fn text(key: &str, value: &str) -> KeyValue {
    attribute(key, Value::StringValue(value.to_owned()))
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints() {
        let parsed = |url: &str| Endpoint::parse(url).map(|e| format!("{} {}", e.authority, e.path));
        assert_eq!(parsed("http://127.0.0.1:4318/v1/traces").unwrap(), "127.0.0.1:4318 /v1/traces");
        assert_eq!(parsed("http://collector").unwrap(), "collector:80 /v1/traces");
        assert_eq!(parsed("http://collector:4318/").unwrap(), "collector:4318 /v1/traces");
        assert_eq!(parsed("http://[::1]:4318/x").unwrap(), "[::1]:4318 /x");
        assert_eq!(parsed("http://[::1]").unwrap(), "[::1]:80 /v1/traces");
        assert_eq!(parsed("https://collector").unwrap(), "collector:443 /v1/traces");
        let by_tls = Endpoint::parse("https://[::1]:4318/x").unwrap();
        assert_eq!((by_tls.authority.as_str(), by_tls.host.as_str(), by_tls.tls), ("[::1]:4318", "::1", true));
        assert_eq!(parsed("http://collector/x?token=1").unwrap(), "collector:80 /x?token=1");
        let wrong =
            ["", "/", "collector", "collector:4318", "ftp://collector", "http://", "http:///x", "http://:4318/", "http://a b/"];
        let too =
            ["http://u@h/", "http://u:p@h:1/", "http://h:port/", "http://h:70000/", "http://h:/", "http://::1/", "http://h/#x"];
        for wrong in wrong.into_iter().chain(too) {
            assert_eq!(parsed(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_statement_is_three_spans_and_a_long_text_is_cut_at_a_letter() {
        let now = Instant::now();
        let sql = format!("SELECT {} FROM t", "ä".repeat(TEXT_BYTES_MAX));
        let span = |sent| StatementSpan {
            trace: [1; 16],
            parent: Some([2; 8]),
            number: 7,
            statement: std::sync::Arc::new(crate::sql::classify::classify(sql.as_bytes(), crate::sql::lexer::LexMode::default())),
            target: "replica",
            server: "db3".into(),
            user: "app".into(),
            schema: "shop".to_owned(),
            rows: u64::MAX,
            errno: Some(1054),
            began: now,
            sent,
            ended: now + Duration::from_millis(1),
        };
        let (unix_ns, later) = (1_000_000_000_000_000_000, now + Duration::from_millis(1));
        let bytes = request(&[span(Some(now)), span(None)], "shop-db", later, unix_ns);
        let read = ExportTraceServiceRequest::decode(&*bytes).unwrap();
        let spans = &read.resource_spans[0].scope_spans[0].spans;
        assert_eq!(spans.len(), 4);
        assert_eq!((spans[0].start_time_unix_nano, spans[0].end_time_unix_nano), (unix_ns - 1_000_000, unix_ns));
        assert_eq!(spans[1].parent_span_id, spans[0].span_id);
        assert_eq!(spans[0].parent_span_id, [2; 8]);
        let value = |key: &str| spans[0].attributes.iter().find(|pair| pair.key == key).and_then(|pair| pair.value.clone());
        let Some(AnyValue { value: Some(Value::StringValue(query)) }) = value("db.query.text") else { panic!("no text") };
        assert!(query.len() <= TEXT_BYTES_MAX && query.len() > TEXT_BYTES_MAX - 4, "{}", query.len());
        assert_eq!(value("db.response.returned_rows"), Some(AnyValue { value: Some(Value::IntValue(i64::MAX)) }));
        assert_eq!(spans[2].status.as_ref().unwrap().message, "error 1054");
    }
}
