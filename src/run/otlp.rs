//! Sends spans to the collector: what waits in the queue, twice a second, by HTTP or HTTPS. A collector that is slow or gone costs spans, no
//! statement.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;

use crate::backend::{ServerTls, TlsMode};
use crate::clock::Clock;
use crate::config::Config;
use crate::frontend::shared::Shared;
use crate::metrics::otlp::{Endpoint, request};
use crate::metrics::spans::StatementSpan;

/// Statements of one request.
const BATCH_MAX: usize = 512;
/// Pause between two requests when there is no more than fits into one.
const EVERY: Duration = Duration::from_millis(500);
/// How long a request may take.
const LIMIT: Duration = Duration::from_secs(5);
/// Pause behind one that failed; what comes meanwhile waits in the queue, or is dropped.
const PAUSE: Duration = Duration::from_secs(1);

/// `[tracing]`, for whoever makes spans.
pub fn configure(shared: &Shared, config: &Config) {
    shared.spans.configure(!config.tracing.otlp_endpoint.is_empty(), config.tracing.sample_every);
}

/// Sends what comes out of the queue for as long as the proxy lives.
pub async fn run(mut queue: mpsc::Receiver<StatementSpan>, shared: Arc<Shared>, config: Arc<ArcSwap<Config>>) {
    let mut batch = Vec::new();
    let mut reached = true;
    let mut trust = Trust::default();
    while queue.recv_many(&mut batch, BATCH_MAX).await > 0 {
        let settings = config.load_full();
        let count = batch.len() as u64;
        let sent = match Endpoint::parse(&settings.tracing.otlp_endpoint) {
            None => Err("tracing.otlp_endpoint is empty".to_owned()),
            Some(endpoint) => {
                let unix_ns = Clock::wall_us().saturating_mul(1000);
                let body = request(&batch, &settings.tracing.service_name, Instant::now(), unix_ns);
                timeout(LIMIT, post(&endpoint, trust.of(&settings), body))
                    .await
                    .unwrap_or_else(|_| Err(format!("no answer within {LIMIT:?}")))
            }
        };
        batch.clear();
        match &sent {
            Ok(()) => shared.metrics.spans_sent.inc_by(count),
            Err(_) => shared.metrics.spans_dropped.inc_by(count),
        }
        // The change is told, not each failure.
        match (&sent, reached) {
            (Err(why), true) => {
                shared.events.push("tracing", None, format!("the collector takes no spans: {why}; they are dropped"))
            }
            (Ok(()), false) => shared.events.push("tracing", None, "the collector takes spans again".to_owned()),
            _ => {}
        }
        reached = sent.is_ok();
        if !reached {
            sleep(PAUSE).await;
        } else if queue.len() < BATCH_MAX {
            sleep(EVERY).await;
        }
    }
}

/// What collectors' certificates are checked with, as the configuration in force says. A renewed file is read at the next reload.
#[derive(Default)]
struct Trust(Option<(Arc<Config>, Result<ServerTls, String>)>);

impl Trust {
    fn of(&mut self, settings: &Arc<Config>) -> Result<&TlsConnector, String> {
        if self.0.as_ref().is_none_or(|(made_for, _)| !Arc::ptr_eq(made_for, settings)) {
            let made = ServerTls::new(TlsMode::VerifyIdentity, settings.tracing.otlp_ca.as_deref(), None, None);
            self.0 = Some((settings.clone(), made.map_err(|why| why.to_string())));
        }
        let (_, made) = self.0.as_ref().ok_or("nothing to check its certificate with")?;
        made.as_ref().map_err(Clone::clone)?.connector().ok_or_else(|| "no TLS".to_owned())
    }
}

async fn post(endpoint: &Endpoint, trust: Result<&TlsConnector, String>, body: Vec<u8>) -> Result<(), String> {
    let say = |e: &dyn std::fmt::Display| format!("{}: {e}", endpoint.authority);
    let stream = TcpStream::connect(&endpoint.authority).await.map_err(|e| say(&e))?;
    if !endpoint.tls {
        return send(stream, endpoint, body).await.map_err(|e| say(&e));
    }
    let name = ServerName::try_from(endpoint.host.clone()).map_err(|e| say(&e))?;
    let stream = trust?.connect(name, stream).await.map_err(|e| say(&format_args!("TLS: {e}")))?;
    send(stream, endpoint, body).await.map_err(|e| say(&e))
}

async fn send(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    endpoint: &Endpoint,
    body: Vec<u8>,
) -> Result<(), String> {
    let say = |e: &dyn std::fmt::Display| e.to_string();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| say(&e))?;
    let request = Request::post(&endpoint.path)
        .header("host", &endpoint.authority)
        .header("content-type", "application/x-protobuf")
        .header("connection", "close")
        .body(Full::new(Bytes::from(body)))
        .map_err(|e| say(&e))?;
    // Both in this task, so that nothing is left when the time is over. The connection may end in the same moment as the answer comes.
    let mut sending = std::pin::pin!(sender.send_request(request));
    let response = tokio::select! {
        biased;
        response = &mut sending => response.map_err(|e| say(&e))?,
        ended = connection => {
            ended.map_err(|e| say(&e))?;
            sending.await.map_err(|e| say(&e))?
        }
    };
    match response.status() {
        status if status.is_success() => Ok(()),
        status => Err(say(&format!("it answers {status}"))),
    }
}
