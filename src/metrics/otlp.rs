//! Spans as OTLP's protobuf: `ExportTraceServiceRequest`.
//! Source: <https://github.com/open-telemetry/opentelemetry-proto> v1, `trace/v1/trace.proto`; the names of attributes are those of
//! OpenTelemetry's conventions for database clients.

use std::time::{Duration, Instant};

use super::spans::{StatementSpan, mixed};

/// A statement's text is sent up to here.
const TEXT_BYTES_MAX: usize = 2048;
/// `SPAN_KIND_INTERNAL`, `SPAN_KIND_SERVER`, `SPAN_KIND_CLIENT`
const INTERNAL: u64 = 1;
const SERVER: u64 = 2;
const CLIENT: u64 = 3;
/// `STATUS_CODE_ERROR`
const ERROR: u64 = 2;

/// Where a collector listens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Endpoint {
    /// `host:port`
    pub authority: String,
    /// The path, from `/` on.
    pub path: String,
}

impl Endpoint {
    /// Reads `http://host[:port][/path]`; without a path it is OTLP's own.
    pub fn parse(url: &str) -> Option<Endpoint> {
        let rest = url.strip_prefix("http://")?;
        let (host, path) = rest.split_once('/').map_or((rest, "v1/traces"), |(host, path)| (host, path));
        let fine = |c: char| c.is_ascii_graphic() && !matches!(c, '@' | '?' | '#');
        if host.is_empty() || !host.chars().all(fine) || !path.chars().all(|c| c.is_ascii_graphic()) {
            return None;
        }
        let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let is_v6 = host.starts_with('[') && host.ends_with(']');
        if !has_port && host.contains(':') && !is_v6 {
            return None;
        }
        let authority = if has_port { host.to_owned() } else { format!("{host}:80") };
        let path = if path.is_empty() { "v1/traces" } else { path };
        Some(Endpoint { authority, path: format!("/{path}") })
    }
}

/// A message that is being written.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value.to_le_bytes()[0] | 0x80);
            value >>= 7;
        }
        self.0.push(value.to_le_bytes()[0]);
    }

    fn number(&mut self, field: u64, value: u64) {
        self.varint(field << 3);
        self.varint(value);
    }

    fn fixed(&mut self, field: u64, value: u64) {
        self.varint(field << 3 | 1);
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn bytes(&mut self, field: u64, value: &[u8]) {
        self.varint(field << 3 | 2);
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
    }

    fn message(&mut self, field: u64, write: impl FnOnce(&mut Message)) {
        let mut inner = Message::default();
        write(&mut inner);
        self.bytes(field, &inner.0);
    }

    /// A `KeyValue` with text.
    fn text(&mut self, field: u64, key: &str, value: &str) {
        self.message(field, |pair| {
            pair.bytes(1, key.as_bytes());
            pair.message(2, |any| any.bytes(1, value.as_bytes()));
        });
    }

    /// A `KeyValue` with a number.
    fn count(&mut self, field: u64, key: &str, value: u64) {
        self.message(field, |pair| {
            pair.bytes(1, key.as_bytes());
            pair.message(2, |any| any.number(3, value));
        });
    }
}

/// The request that carries these statements. `now` and `unix_ns` are the same moment.
pub fn request(spans: &[StatementSpan], service: &str, now: Instant, unix_ns: u64) -> Vec<u8> {
    let ns = |d: Duration| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX);
    let at = |moment: Instant| unix_ns.saturating_sub(ns(now.saturating_duration_since(moment)));
    let mut request = Message::default();
    request.message(1, |resource_spans| {
        resource_spans.message(1, |resource| {
            resource.text(1, "service.name", service);
            resource.text(1, "service.version", env!("CARGO_PKG_VERSION"));
        });
        resource_spans.message(2, |scope_spans| {
            scope_spans.message(1, |scope| scope.bytes(1, b"sluice"));
            for span in spans {
                statement(scope_spans, span, &at);
            }
        });
    });
    request.0
}

fn statement(out: &mut Message, span: &StatementSpan, at: &dyn Fn(Instant) -> u64) {
    let id = |n: u64| mixed(span.number.wrapping_add(n)).max(1).to_be_bytes();
    let own = id(0);
    out.message(2, |message| {
        head(message, span, own, span.parent);
        let verb: String = span.statement.digest_text.split(' ').next().unwrap_or_default().chars().take(32).collect();
        message.bytes(5, if verb.is_empty() { b"statement" } else { verb.as_bytes() });
        message.number(6, SERVER);
        message.fixed(7, at(span.began));
        message.fixed(8, at(span.ended));
        message.text(9, "db.system.name", "mysql");
        let text: &str = &span.statement.digest_text;
        let end = (0..=text.len().min(TEXT_BYTES_MAX)).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        message.text(9, "db.query.text", text.get(..end).unwrap_or_default());
        message.text(9, "db.query.summary", span.statement.class.as_str());
        message.text(9, "db.namespace", &span.schema);
        message.text(9, "sluice.user", &span.user);
        message.text(9, "sluice.digest", &format!("{:016x}", span.statement.digest_hash));
        message.text(9, "sluice.target", span.target);
        if !span.server.is_empty() {
            message.text(9, "sluice.server", &span.server);
        }
        message.count(9, "db.response.returned_rows", span.rows);
        failure(message, span);
    });
    let Some(sent) = span.sent else { return };
    out.message(2, |message| {
        head(message, span, id(1), Some(own));
        message.bytes(5, b"wait for a connection");
        message.number(6, INTERNAL);
        message.fixed(7, at(span.began));
        message.fixed(8, at(sent));
    });
    out.message(2, |message| {
        head(message, span, id(2), Some(own));
        message.bytes(5, b"server");
        message.number(6, CLIENT);
        message.fixed(7, at(sent));
        message.fixed(8, at(span.ended));
        message.text(9, "sluice.server", &span.server);
        failure(message, span);
    });
}

fn head(message: &mut Message, span: &StatementSpan, id: [u8; 8], parent: Option<[u8; 8]>) {
    message.bytes(1, &span.trace);
    message.bytes(2, &id);
    if let Some(parent) = parent {
        message.bytes(4, &parent);
    }
}

fn failure(message: &mut Message, span: &StatementSpan) {
    if let Some(errno) = span.errno {
        message.text(9, "db.response.status_code", &errno.to_string());
        message.message(15, |status| {
            status.bytes(2, format!("error {errno}").as_bytes());
            status.number(3, ERROR);
        });
    }
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
        for wrong in ["", "collector:4318", "https://collector", "http://", "http://a b/", "http://u@h/", "http://h:port/"] {
            assert_eq!(parsed(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn numbers_as_protobuf_has_them() {
        let mut message = Message::default();
        message.number(1, 150);
        message.bytes(2, b"testing");
        // The examples of protobuf's own description of its encoding.
        assert_eq!(message.0, b"\x08\x96\x01\x12\x07testing");
        let mut message = Message::default();
        message.fixed(7, 1);
        message.number(15, u64::MAX);
        assert_eq!(message.0, b"\x39\x01\0\0\0\0\0\0\0\x78\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01");
    }
}
