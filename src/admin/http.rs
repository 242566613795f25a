//! The HTTP port: `/metrics`, `/healthz`, `/readyz`, and a status page at `/` that needs nothing from outside.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;

use super::house::House;
use super::listen::{Bound, Closing};
use super::patience::{PATIENCE, Patient};
use super::{json, tables};

/// Connections at one time: scrapers, probes, a few browsers.
const CONNECTIONS_MAX: usize = 256;
/// A peer that has not sent its headers by then is closed; idle connections too.
const HEADERS_TIMEOUT: Duration = Duration::from_secs(30);
/// After accept(2) failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Events on the status page.
const EVENTS_SHOWN: usize = 50;
/// Statements on the status page, those that took most time in all.
const STATEMENTS_SHOWN: usize = 15;
/// Pinned sessions on the status page, those pinned longest.
const PINNED_SHOWN: usize = 30;
const PAGE: &str = include_str!("status.html");

/// Serves the HTTP port until the task is dropped, or until it is told to accept nobody: the port is closed then, and who is
/// there stays.
pub async fn serve(bound: Bound, house: Arc<dyn House>, mut closing: Closing) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut tasks = tokio::task::JoinSet::new();
    loop {
        while tasks.try_join_next().is_some() {}
        // Unlike an operator's command, a scrape can wait its turn.
        let next = async {
            let slot = slots.clone().acquire_owned().await.ok()?;
            Some((slot, bound.accept().await))
        };
        let (slot, accepted) = tokio::select! {
            Some(next) = next => next,
            () = closing.accepts_nobody() => break,
        };
        let stream = match accepted {
            Ok(stream) => stream,
            Err(e) => {
                tracing::warn!("http port: accept failed: {e}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let served = converse(stream, house.clone(), closing.clone(), PATIENCE);
        tasks.spawn(async move {
            let _slot = slot;
            if let Err(e) = served.await {
                tracing::debug!("http port: {e}");
            }
        });
    }
    tasks.detach_all();
}

/// Answers one peer's requests, which may take nothing of an answer for as long as `patience`.
pub(super) async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    house: Arc<dyn House>,
    mut closing: Closing,
    patience: Duration,
) -> hyper::Result<()> {
    let answered = Arc::new(AtomicBool::new(false));
    let (told, noted) = (closing.clone(), answered.clone());
    let service = service_fn(move |request: Request<Incoming>| {
        let mut response = answer(request.method(), request.uri().path(), house.as_ref());
        noted.store(true, Ordering::Relaxed);
        if told.is_told() {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        async move { Ok::<_, Infallible>(response) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_TIMEOUT)
        .max_buf_size(16 * 1024)
        .serve_connection(TokioIo::new(Patient::new(stream, patience)), service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        served = connection.as_mut() => served,
        () = closing.told() => {
            // Who has just come in is about to ask something; the answer then ends the connection.
            if answered.load(Ordering::Relaxed) {
                connection.as_mut().graceful_shutdown();
            }
            connection.await
        }
    }
}

/// The answer to a request.
pub fn answer(method: &Method, path: &str, house: &dyn House) -> Response<Full<Bytes>> {
    const TEXT: &str = "text/plain; charset=utf-8";
    if method != Method::GET && method != Method::HEAD {
        let mut response = make(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET\n".to_owned());
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match path {
        "/metrics" => make(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", house.metrics_text()),
        "/healthz" => make(StatusCode::OK, TEXT, "ok\n".to_owned()),
        "/readyz" => match house.ready() {
            Ok(()) => make(StatusCode::OK, TEXT, "ready\n".to_owned()),
            Err(why) => make(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("not ready: {why}\n")),
        },
        "/" => make(StatusCode::OK, "text/html; charset=utf-8", PAGE.to_owned()),
        "/status.json" => make(StatusCode::OK, "application/json", status(house)),
        _ => make(StatusCode::NOT_FOUND, TEXT, "not here; there are / /metrics /healthz /readyz /status.json\n".to_owned()),
    }
}

fn make(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // The page shows text that clients sent; even if its escaping failed, nothing could be loaded or sent elsewhere.
    headers.insert(
        CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(
            "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; img-src data:",
        ),
    );
    response
}

/// What the status page asks for, twice a second. Statements are digests: no literal, no password.
fn status(house: &dyn House) -> String {
    let mut events = house.events();
    let skip = events.len().saturating_sub(EVENTS_SHOWN);
    events.drain(..skip);
    let mut statements = house.statements();
    statements.sort_by_key(|s| std::cmp::Reverse(s.sum_us));
    let count = statements.iter().map(|s| s.count).sum::<u64>();
    let errors = statements.iter().map(|s| s.errors).sum::<u64>();
    statements.truncate(STATEMENTS_SHOWN);
    let clients = house.clients();
    let active = clients.iter().filter(|c| !matches!(c.state.as_str(), "idle" | "login")).count();
    let mut pinned: Vec<_> = clients.iter().filter(|c| c.pin_reason.is_some()).cloned().collect();
    let pinned_count = pinned.len();
    pinned.sort_by_key(|c| std::cmp::Reverse(c.age_ms));
    pinned.truncate(PINNED_SHOWN);
    let ready = house.ready();
    format!(
        "{{\"version\":{},\"now_ms\":{},\"ready\":{},\"reason\":{},\"clients\":{{\"all\":{},\"active\":{active},\"pinned\":{pinned_count}}},\
         \"statements_total\":{count},\"statement_errors\":{errors},\"servers\":{},\"pools\":{},\"pinned\":{},\"statements\":{},\"events\":{}}}",
        json::string(env!("CARGO_PKG_VERSION")),
        crate::clock::Clock::wall_us() / 1000,
        ready.is_ok(),
        json::string(ready.as_ref().err().map_or("", String::as_str)),
        clients.len(),
        json::table(&tables::of(&house.servers())),
        json::table(&tables::of(&house.pools())),
        json::table(&tables::of(&pinned)),
        json::table(&tables::of(&statements)),
        json::table(&tables::of(&events)),
    )
}
