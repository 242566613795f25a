//! The connection on which a server sends its log: opened, and read piece by piece, so that an event of any length needs one small buffer.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::time::timeout;

use crate::backend::packets::{PacketError, put_packet, read_packet};
use crate::backend::{AdminConnection, ConnectError, QueryError, connect_admin};
use crate::binlog::Dump;
use crate::monitor::{Account, MonitoredServer};
use crate::net::Stream;
use crate::protocol::handshake::ServerError;

/// Bytes read at a time.
const PIECE_LEN: usize = 32 << 10;
/// The longest error.
const ERROR_LEN_MAX: usize = 4 << 10;
/// A packet this long goes on in the next one.
const PACKET_LEN_MAX: usize = 0xFF_FFFF;

/// Why there is no log, or no more of it.
#[derive(Debug, thiserror::Error)]
pub(super) enum StreamError {
    /// No connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The server says no: at the beginning, or in the middle.
    #[error("{0}")]
    Refused(ServerError),
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Io(#[from] std::io::Error),
    /// Nothing came.
    #[error("nothing came for {0:?}")]
    Silence(Duration),
    /// The server ended the log, as when it shuts down.
    #[error("the server ended the log")]
    Ended,
    /// Not the protocol.
    #[error("{0}")]
    Protocol(String),
}

impl From<QueryError> for StreamError {
    fn from(error: QueryError) -> StreamError {
        match error {
            QueryError::Server(error) => StreamError::Refused(error),
            QueryError::Io(error) => StreamError::Io(error),
            QueryError::Timeout(limit) => StreamError::Silence(limit),
            other => StreamError::Protocol(other.to_string()),
        }
    }
}

impl From<PacketError> for StreamError {
    fn from(error: PacketError) -> StreamError {
        match error {
            PacketError::Io(error) => StreamError::Io(error),
            other => StreamError::Protocol(other.to_string()),
        }
    }
}

/// A log that is being sent.
pub(super) struct LogStream {
    stream: BufReader<Stream>,
    sequence: u8,
    /// Bytes of this packet that have not been read.
    left: usize,
    /// The next packet belongs to the same event.
    continues: bool,
    piece: Vec<u8>,
}

impl LogStream {
    /// Asks for the log; the first event has not been read.
    pub(super) async fn open(
        server: &MonitoredServer,
        account: &Account,
        dump: &Dump,
        limit: Duration,
    ) -> Result<LogStream, StreamError> {
        let MonitoredServer { address, tls } = server;
        let mut connection: AdminConnection = connect_admin(address, tls, &account.user, &account.password, limit).await?;
        for setting in dump.settings() {
            connection.query(&setting).await?;
        }
        let mut stream = connection.into_stream();
        let register = async {
            let mut out = Vec::new();
            put_packet(&mut out, &mut 0, &dump.register())?;
            stream.write_all(&out).await?;
            stream.flush().await?;
            let answer = read_packet(&mut stream, &mut 1, ERROR_LEN_MAX).await?;
            if answer.first() == Some(&ServerError::HEADER) {
                return Err(refused(&answer));
            }
            let mut out = Vec::new();
            put_packet(&mut out, &mut 0, &dump.command())?;
            stream.write_all(&out).await?;
            stream.flush().await?;
            Ok(())
        };
        timeout(limit, register).await.map_err(|_| StreamError::Silence(limit))??;
        Ok(LogStream { stream, sequence: 1, left: 0, continues: false, piece: vec![0; PIECE_LEN] })
    }

    /// The next bytes of an event, and whether they are its last. Must be waited for to its end.
    pub(super) async fn next(&mut self) -> Result<(&[u8], bool), StreamError> {
        if self.left == 0 {
            let first = !self.continues;
            let len = self.header().await?;
            self.continues = len == PACKET_LEN_MAX;
            self.left = len;
            if first {
                self.begin().await?;
            }
        }
        let len = self.left.min(self.piece.len());
        let piece = self.piece.get_mut(..len).unwrap_or_default();
        self.stream.read_exact(piece).await?;
        self.left -= len;
        Ok((piece, self.left == 0 && !self.continues))
    }

    async fn header(&mut self) -> Result<usize, StreamError> {
        let mut header = [0; 4];
        self.stream.read_exact(&mut header).await?;
        let [a, b, c, got] = header;
        if got != self.sequence {
            return Err(StreamError::Protocol(format!("packet number {got} came where {} belongs", self.sequence)));
        }
        self.sequence = got.wrapping_add(1);
        Ok(u32::from_le_bytes([a, b, c, 0]) as usize)
    }

    /// The byte before an event: 0, or what stands instead of an event.
    async fn begin(&mut self) -> Result<(), StreamError> {
        if self.left == 0 {
            return Err(StreamError::Protocol("an empty packet in the log".to_owned()));
        }
        let kind = self.stream.read_u8().await?;
        match kind {
            0 => {
                self.left -= 1;
                Ok(())
            }
            ServerError::HEADER => {
                let mut packet = vec![kind];
                (&mut self.stream).take(self.left.min(ERROR_LEN_MAX) as u64 - 1).read_to_end(&mut packet).await?;
                Err(refused(&packet))
            }
            0xFE => Err(StreamError::Ended),
            other => Err(StreamError::Protocol(format!("a packet of the log begins with {other}"))),
        }
    }
}

fn refused(packet: &[u8]) -> StreamError {
    match ServerError::parse(packet) {
        Ok(error) => StreamError::Refused(error),
        Err(error) => StreamError::Protocol(error.to_string()),
    }
}
