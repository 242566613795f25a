//! The one connection to a store, and the task that has it: finds the store, sends what is asked in one row, gives the answers out in the
//! same order, and leaves it alone when anything is wrong.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use parking_lot::Mutex;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;

use super::wire::{self, Answer, Expect};
use super::{Heard, Kind, Order, Place, State};

/// To connect, log in and hear that it is there.
const HELLO_MAX: Duration = Duration::from_secs(1);
/// A value that has not come by then will not, and nothing else will.
const GET_MAX: Duration = Duration::from_millis(100);
/// The same for a value that is put there, which may be long.
const PUT_MAX: Duration = Duration::from_secs(1);
/// How often that is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// The store is left alone for so long, then doubled up to [`PAUSE_MAX`] while it stays bad.
const PAUSE: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// Well for so long, it begins with [`PAUSE`] again.
const WELL: Duration = Duration::from_secs(10);
/// Commands are sent together up to so many bytes.
const PIECE: usize = 64 << 10;
/// A buffer that has grown beyond this is let go.
const BUFFER_KEPT: usize = 256 << 10;

/// What an answer is for, and since when it is waited for.
enum Waiting {
    Get(oneshot::Sender<Option<Vec<u8>>>, Instant),
    Put(Instant),
}

impl Waiting {
    fn is_late(&self) -> bool {
        match self {
            Waiting::Get(_, since) => since.elapsed() > GET_MAX,
            Waiting::Put(since) => since.elapsed() > PUT_MAX,
        }
    }
}

type Row = Mutex<VecDeque<Waiting>>;

/// Runs until nobody has the other end of `orders`.
pub(super) async fn run(
    place: Place,
    tls: Option<TlsConnector>,
    mut orders: mpsc::Receiver<Order>,
    state: Arc<State>,
    heard: Heard,
) {
    let mut pause = PAUSE;
    let mut told = String::new();
    loop {
        let why = match timeout(HELLO_MAX, connect(&place, tls.as_ref())).await {
            Ok(Ok((reader, writer))) => {
                state.up.store(true, Relaxed);
                heard("cache_store_up", &format!("{}:{} answers", place.host, place.port));
                let since = Instant::now();
                let why = serve(place.kind, reader, writer, &mut orders, &state).await;
                state.errors.fetch_add(1, Relaxed);
                if since.elapsed() > WELL {
                    pause = PAUSE;
                }
                told.clear();
                why
            }
            Ok(Err(why)) => why,
            Err(_) => format!("it does not answer within {HELLO_MAX:?}"),
        };
        why.clone_into(&mut state.why.lock());
        state.up.store(false, Relaxed);
        if told != why {
            heard("cache_store_down", &format!("{}:{}: {why}; results are kept in memory alone", place.host, place.port));
            told = why;
        }
        let until = Instant::now() + pause;
        // Whoever has asked already is told that nothing comes.
        loop {
            match timeout(until.saturating_duration_since(Instant::now()), orders.recv()).await {
                Ok(Some(order)) => forget(order, &state),
                Ok(None) => return,
                Err(_) => break,
            }
        }
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

fn forget(order: Order, state: &State) {
    if let Order::Put { value, .. } = order {
        state.queued.fetch_sub(value.len(), Relaxed);
    }
}

/// What is read from.
type Reader = Box<dyn AsyncRead + Send + Unpin>;
/// What is written to. Flushed after each piece: TLS keeps back what it is given.
type Writer = Box<dyn AsyncWrite + Send + Unpin>;

async fn connect(place: &Place, tls: Option<&TlsConnector>) -> Result<(Reader, Writer), String> {
    let stream = TcpStream::connect((place.host.as_str(), place.port)).await.map_err(|error| error.to_string())?;
    stream.set_nodelay(true).map_err(|error| error.to_string())?;
    let (mut reader, mut writer): (Reader, Writer) = match tls {
        None => {
            let (reader, writer) = stream.into_split();
            (Box::new(reader), Box::new(writer))
        }
        Some(tls) => {
            let name = ServerName::try_from(place.host.clone()).map_err(|error| error.to_string())?;
            let stream = tls.connect(name, stream).await.map_err(|error| format!("TLS: {error}"))?;
            let (reader, writer) = tokio::io::split(stream);
            (Box::new(reader), Box::new(writer))
        }
    };
    let mut out = Vec::new();
    let answers = wire::hello(&mut out, place);
    writer.write_all(&out).await.map_err(|error| error.to_string())?;
    writer.flush().await.map_err(|error| error.to_string())?;
    let mut buffer = BytesMut::new();
    for _ in 0..answers {
        loop {
            match wire::answer(place.kind, Expect::Done, &buffer, 0).map_err(|error| error.to_string())? {
                Some((Answer::Refused(why), _)) => return Err(format!("it says {why}")),
                Some((_, used)) => {
                    buffer.advance(used);
                    break;
                }
                None => {
                    if reader.read_buf(&mut buffer).await.map_err(|error| error.to_string())? == 0 {
                        return Err("it has closed the connection".to_owned());
                    }
                }
            }
        }
    }
    if buffer.is_empty() { Ok((reader, writer)) } else { Err("it says more than it was asked for".to_owned()) }
}

/// Until something is wrong; what that is.
async fn serve(kind: Kind, reader: Reader, writer: Writer, orders: &mut mpsc::Receiver<Order>, state: &State) -> String {
    let row = Row::default();
    tokio::select! {
        why = read(kind, reader, &row, state) => why,
        why = write(kind, writer, orders, &row, state) => why,
        () = watch(&row) => "it does not answer".to_owned(),
    }
}

async fn watch(row: &Row) {
    loop {
        sleep(LOOK_EVERY).await;
        if row.lock().front().is_some_and(Waiting::is_late) {
            return;
        }
    }
}

async fn write(kind: Kind, mut writer: Writer, orders: &mut mpsc::Receiver<Order>, row: &Row, state: &State) -> String {
    let mut out = Vec::new();
    loop {
        let Some(order) = orders.recv().await else { return "nobody asks".to_owned() };
        let mut next = Some(order);
        while let Some(order) = next {
            let now = Instant::now();
            match order {
                // Whoever asked has gone.
                Order::Get { answer, .. } if answer.is_closed() => {}
                Order::Get { name, answer } => {
                    wire::get(&mut out, kind, &name);
                    row.lock().push_back(Waiting::Get(answer, now));
                }
                Order::Put { name, value, ttl } => {
                    wire::set(&mut out, kind, &name, &value, ttl);
                    state.queued.fetch_sub(value.len(), Relaxed);
                    row.lock().push_back(Waiting::Put(now));
                }
            }
            next = if out.len() < PIECE { orders.try_recv().ok() } else { None };
        }
        if let Err(error) = writer.write_all(&out).await {
            return error.to_string();
        }
        if let Err(error) = writer.flush().await {
            return error.to_string();
        }
        out.clear();
        if out.capacity() > BUFFER_KEPT {
            out = Vec::new();
        }
    }
}

async fn read(kind: Kind, mut reader: Reader, row: &Row, state: &State) -> String {
    let mut buffer = BytesMut::new();
    loop {
        match reader.read_buf(&mut buffer).await {
            Ok(0) => return "it has closed the connection".to_owned(),
            Ok(_) => {}
            Err(error) => return error.to_string(),
        }
        loop {
            let expect = match row.lock().front() {
                Some(Waiting::Get(..)) => Expect::Value,
                Some(Waiting::Put(_)) => Expect::Done,
                None if buffer.is_empty() => break,
                None => return "it says more than it was asked for".to_owned(),
            };
            let (answer, used) = match wire::answer(kind, expect, &buffer, kind.value_max()) {
                Ok(Some(answer)) => answer,
                Ok(None) => break,
                Err(nonsense) => return nonsense.to_string(),
            };
            buffer.advance(used);
            let first = row.lock().pop_front();
            match (first, answer) {
                (Some(Waiting::Get(asker, _)), Answer::Value(value)) => _ = asker.send(Some(value)),
                (Some(Waiting::Get(asker, _)), Answer::Nothing) => _ = asker.send(None),
                (Some(Waiting::Put(_)), Answer::Done) => {}
                // It is full, or the value too long for it. What is there can be had all the same.
                (Some(Waiting::Put(_)), Answer::Refused(why)) => {
                    state.errors.fetch_add(1, Relaxed);
                    tracing::debug!(why, "the store does not keep a result");
                }
                (_, Answer::Refused(why)) => return format!("it says {why}"),
                (_, _) => return "its answer is another one's".to_owned(),
            }
        }
        if buffer.is_empty() && buffer.capacity() > BUFFER_KEPT {
            buffer = BytesMut::new();
        }
    }
}
