//! What is told to those who watch: `[http]` and `[tracing]`.

use std::path::PathBuf;

use serde::Serialize;

use super::address::Address;
use super::read::{Report, Section};
use super::secrets::{self, Outside};
use crate::metrics::otlp::Endpoint;

/// `[http]`: metrics, health, status page.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Http {
    /// Where it listens; `None` (empty in the file): nowhere.
    #[serde(serialize_with = "super::types::or_empty")]
    pub listen: Option<Address>,
}

impl Default for Http {
    fn default() -> Http {
        Http { listen: Some(Address::tcp("127.0.0.1", 6070)) }
    }
}

/// `[tracing]`: spans of statements, by OTLP.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Tracing {
    /// Where the collector takes them, `http://host:port/path`, or `https://` for TLS; empty: no spans are made.
    pub otlp_endpoint: String,
    /// Authorities that sign the collector's certificate; `None`: the system's.
    pub otlp_ca: Option<PathBuf>,
    /// Of the statements that belong to no trace yet, one in this many begins one; 0: none.
    pub sample_every: u64,
    /// What the collector shows them as.
    pub service_name: String,
}

impl Default for Tracing {
    fn default() -> Tracing {
        Tracing { otlp_endpoint: String::new(), otlp_ca: None, sample_every: 0, service_name: "sluice".to_owned() }
    }
}

/// Reads the section.
pub fn tracing(s: &Section<'_, '_>, r: &mut Report<'_>, outside: &dyn Outside) -> Tracing {
    let d = Tracing::default();
    let otlp_endpoint: String = s.get("otlp_endpoint", d.otlp_endpoint, r);
    let endpoint = Endpoint::parse(&otlp_endpoint);
    if !otlp_endpoint.is_empty() && endpoint.is_none() {
        // It may hold a password, which does not belong into a message.
        r.wrong(
            &s.path_of("otlp_endpoint"),
            "`otlp_endpoint` is no address of a collector",
            "write it like \"http://127.0.0.1:4318/v1/traces\", or with https:// for TLS",
        );
    }
    let ca = s.optional("otlp_ca", r);
    if ca.is_some() && endpoint.is_some_and(|endpoint| !endpoint.tls) {
        r.wrong(
            &s.path_of("otlp_ca"),
            "`otlp_ca` is not used without TLS",
            "write `otlp_endpoint` with https://, or leave `otlp_ca` out",
        );
    }
    Tracing {
        otlp_endpoint,
        otlp_ca: secrets::readable(r, &s.path_of("otlp_ca"), ca, outside),
        sample_every: s.number("sample_every", d.sample_every, 0..=1_000_000_000, r),
        service_name: s.get("service_name", d.service_name, r),
    }
}
