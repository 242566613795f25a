//! An OpenTelemetry collector that keeps what it is sent: OTLP over HTTP, read by the published messages.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A running collector; dropped, it is gone.
#[derive(Debug)]
pub struct Collector {
    port: u16,
    spans: Arc<Mutex<Vec<Span>>>,
    services: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Collector {
    /// Starts one on this port; 0: any.
    pub async fn start(port: u16) -> Result<Collector> {
        let listener = TcpListener::bind(("127.0.0.1", port)).await?;
        let port = listener.local_addr()?.port();
        let (spans, services) = (Arc::<Mutex<Vec<Span>>>::default(), Arc::<Mutex<Vec<String>>>::default());
        let (kept, named) = (spans.clone(), services.clone());
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                match receive(stream).await {
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
        Ok(Collector { port, spans, services, task })
    }

    /// Where it takes spans.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}/v1/traces", self.port)
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

async fn receive(mut stream: TcpStream) -> Result<ExportTraceServiceRequest> {
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
    Ok(request)
}
