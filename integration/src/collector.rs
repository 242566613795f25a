//! An OpenTelemetry collector that keeps what it is sent: OTLP over HTTP, read by the published messages.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::{TlsAcceptor, rustls};

/// A running collector; dropped, it is gone.
#[derive(Debug)]
pub struct Collector {
    port: u16,
    by_tls: bool,
    spans: Arc<Mutex<Vec<Span>>>,
    services: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Collector {
    /// Starts one on this port; 0: any.
    pub async fn start(port: u16) -> Result<Collector> {
        Collector::start_with(port, None).await
    }

    /// Starts one that is reached by TLS. Its certificate is made for `localhost` and signed by itself; the second is the file it stands in.
    pub async fn start_by_tls() -> Result<(Collector, PathBuf)> {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])?;
        let file = crate::home::new_dir("collector")?.join("cert.pem");
        std::fs::write(&file, made.cert.pem())?;
        let key = rustls::pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key.into())?;
        Ok((Collector::start_with(0, Some(TlsAcceptor::from(Arc::new(config)))).await?, file))
    }

    async fn start_with(port: u16, tls: Option<TlsAcceptor>) -> Result<Collector> {
        let by_tls = tls.is_some();
        let listener = TcpListener::bind(("127.0.0.1", port)).await?;
        let port = listener.local_addr()?.port();
        let (spans, services) = (Arc::<Mutex<Vec<Span>>>::default(), Arc::<Mutex<Vec<String>>>::default());
        let (kept, named) = (spans.clone(), services.clone());
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let received = match &tls {
                    None => receive(stream).await,
                    Some(tls) => match tls.accept(stream).await {
                        Ok(stream) => receive(stream).await,
                        Err(error) => Err(error.into()),
                    },
                };
                match received {
                    Ok(request) => {
                        for resource in request.resource_spans {
                            let attributes = resource.resource.map(|resource| resource.attributes).unwrap_or_default();
                            let name = attributes.iter().find(|pair| pair.key == "service.name");
                            if let Some(Value::StringValue(name)) = name.and_then(|pair| pair.value.as_ref()?.value.clone()) {
                                named.lock().unwrap_or_else(PoisonError::into_inner).push(name);
                            }
                            let all = resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
                            kept.lock().unwrap_or_else(PoisonError::into_inner).extend(all);
                        }
                    }
                    Err(error) => eprintln!("collector: {error:#}"),
                }
            }
        });
        Ok(Collector { port, by_tls, spans, services, task })
    }

    /// Where it takes spans.
    pub fn endpoint(&self) -> String {
        match self.by_tls {
            true => format!("https://localhost:{}/v1/traces", self.port),
            false => format!("http://127.0.0.1:{}/v1/traces", self.port),
        }
    }

    /// What has come so far.
    pub fn spans(&self) -> Vec<Span> {
        self.spans.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The services that sent them, one for each request.
    pub fn services(&self) -> Vec<String> {
        self.services.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A span's attribute as text.
pub fn attribute(span: &Span, key: &str) -> Option<String> {
    let pair = span.attributes.iter().find(|pair| pair.key == key)?;
    Some(match pair.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(number) => number.to_string(),
        other => format!("{other:?}"),
    })
}

async fn receive(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> Result<ExportTraceServiceRequest> {
    let mut bytes = Vec::new();
    let head = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        anyhow::ensure!(stream.read_buf(&mut bytes).await? > 0, "the request has no end");
    };
    let text = String::from_utf8_lossy(&bytes[..head]).to_ascii_lowercase();
    anyhow::ensure!(
        text.starts_with("post /v1/traces http/1.1") && text.contains("content-type: application/x-protobuf"),
        "{text}"
    );
    let length = text.lines().find_map(|line| line.strip_prefix("content-length: ")).context("no length")?;
    let whole = head + length.trim().parse::<usize>()?;
    while bytes.len() < whole {
        anyhow::ensure!(stream.read_buf(&mut bytes).await? > 0, "the body has no end");
    }
    let request = ExportTraceServiceRequest::decode(&bytes[head..whole])?;
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n").await?;
    stream.flush().await?;
    Ok(request)
}
