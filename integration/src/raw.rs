//! A client that speaks bytes: for what no driver would send. Logs in as the account without a password, which every
//! authentication plugin accepts with an empty answer.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::accounts::EMPTY;

/// Longer than this, a peer that should answer or close counts as hanging. More than the login's limit of 10 s.
const LIMIT: Duration = Duration::from_secs(15);

/// How a connection answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// A packet: its sequence id and payload.
    Packet(u8, Vec<u8>),
    /// The peer closed the connection.
    Closed,
}

impl Reply {
    /// Number and message when this is an ERR packet.
    pub fn error(&self) -> Option<(u16, String)> {
        match self {
            Self::Packet(_, payload) if payload.len() >= 3 && payload[0] == 0xff => {
                let text = String::from_utf8_lossy(&payload[3..]).into_owned();
                Some((u16::from_le_bytes([payload[1], payload[2]]), text))
            }
            _ => None,
        }
    }

    /// Whether this is what a client that sends nonsense may get: an error or the end.
    pub fn is_refusal(&self) -> bool {
        *self == Self::Closed || self.error().is_some()
    }
}

/// A connection.
#[derive(Debug)]
pub struct RawClient {
    stream: TcpStream,
}

impl RawClient {
    /// Connects and reads nothing yet.
    pub async fn dial(port: u16) -> Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream })
    }

    /// Connects and logs in without a password, without a schema.
    pub async fn login(port: u16) -> Result<Self> {
        let mut client = Self::dial(port).await?;
        let greeting = client.receive().await?;
        if greeting.is_refusal() {
            bail!("instead of a greeting: {greeting:?}");
        }
        client.send(1, &Self::login_payload(EMPTY.name)).await?;
        loop {
            match client.receive().await? {
                Reply::Packet(_, payload) if payload.first() == Some(&0) => return Ok(client),
                Reply::Packet(sequence, payload) if payload.first() == Some(&0xfe) => {
                    client.send(sequence.wrapping_add(1), &[]).await?
                }
                Reply::Packet(_, payload) if payload.first() == Some(&1) => {} // caching_sha2_password: fast path succeeded
                other => bail!("login as {}: {other:?}", EMPTY.name),
            }
        }
    }

    /// A handshake response with an empty answer: protocol 4.1, secure connection, plugin auth, transactions, multi-results.
    pub fn login_payload(user: &str) -> Vec<u8> {
        let capabilities: u32 = 0x1 | 0x200 | 0x2000 | 0x8000 | 0x2_0000 | 0x8_0000;
        let mut payload = capabilities.to_le_bytes().to_vec();
        payload.extend((16u32 << 20).to_le_bytes());
        payload.push(45);
        payload.extend([0; 23]);
        payload.extend(user.as_bytes());
        payload.extend([0, 0]);
        payload.extend(b"mysql_native_password\0");
        payload
    }

    /// Sends one packet.
    pub async fn send(&mut self, sequence: u8, payload: &[u8]) -> Result<()> {
        self.send_bytes(&crate::fake_server::packet(sequence, payload)).await
    }

    /// Sends bytes as they are.
    pub async fn send_bytes(&mut self, bytes: &[u8]) -> Result<()> {
        tokio::time::timeout(LIMIT, self.stream.write_all(bytes)).await.context("the peer does not read")??;
        Ok(())
    }

    /// Sends a command, and reads all that comes until nothing does for a moment.
    pub async fn whole(&mut self, command: &[u8]) -> Result<Vec<u8>> {
        self.send_bytes(command).await?;
        let (mut all, mut piece) = (Vec::new(), vec![0; 64 << 10]);
        let mut limit = LIMIT;
        while let Ok(read) = tokio::time::timeout(limit, self.stream.read(&mut piece)).await {
            let read = read?;
            if read == 0 {
                bail!("the peer has closed the connection");
            }
            all.extend_from_slice(&piece[..read]);
            limit = Duration::from_millis(200);
        }
        Ok(all)
    }

    /// Sends a command, and reads a reply of a length that is known. For measuring: with no limit of time.
    pub async fn exchange(&mut self, command: &[u8], reply: &mut [u8]) -> Result<()> {
        self.stream.write_all(command).await?;
        self.stream.read_exact(reply).await?;
        Ok(())
    }

    /// Says that nothing more will be sent.
    pub async fn finish(&mut self) -> Result<()> {
        Ok(self.stream.shutdown().await?)
    }

    /// Reads one packet, or the end; an error when neither comes in time.
    pub async fn receive(&mut self) -> Result<Reply> {
        let read = async {
            let mut head = [0; 4];
            if self.stream.read_exact(&mut head).await.is_err() {
                return Reply::Closed;
            }
            let length = usize::from(head[0]) | usize::from(head[1]) << 8 | usize::from(head[2]) << 16;
            let mut payload = vec![0; length];
            match self.stream.read_exact(&mut payload).await {
                Ok(_) => Reply::Packet(head[3], payload),
                Err(_) => Reply::Closed,
            }
        };
        tokio::time::timeout(LIMIT, read).await.with_context(|| format!("no answer in {LIMIT:?}"))
    }

    /// Reads some bytes as they are, at most `most`; an error when none come in time.
    pub async fn receive_some(&mut self, most: usize) -> Result<usize> {
        let mut bytes = vec![0; most];
        // Behind two hundred others it takes longer than an answer may.
        let read = tokio::time::timeout(6 * LIMIT, self.stream.read(&mut bytes)).await.context("nothing comes")??;
        if read == 0 {
            bail!("the peer has closed");
        }
        Ok(read)
    }

    /// Sends a statement and reads the first packet of its answer.
    pub async fn query(&mut self, sql: &str) -> Result<Reply> {
        self.send(0, &[&[3], sql.as_bytes()].concat()).await?;
        self.receive().await
    }
}
