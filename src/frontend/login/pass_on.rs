//! A login that client and server settle between themselves: their packets are carried, until the server has decided.
//!
//! Who speaks next, the plugin knows and we do not; so both directions run side by side.

use std::sync::atomic::{AtomicU8, Ordering};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, split};

use super::client::LoginError;
use crate::auth::exchange::Verdict;
use crate::backend::packets::{PacketError, read_packet, write_packet};
use crate::net::Stream;
use crate::protocol::handshake::{LOGIN_PACKET_LEN_MAX, ServerError};

/// How many packets a client may send in such a login. A dialogue of PAM has a few questions; nobody answers this many.
const CLIENT_PACKETS_MAX: usize = 32;

/// A side of the login: its stream, and the number of its next packet, whoever sends it.
pub(super) struct Side<'a> {
    pub(super) stream: &'a mut Stream,
    pub(super) sequence: u8,
}

enum End {
    Client(LoginError),
    Server(PacketError),
    Decided(Vec<u8>),
}

/// Carries `first`, a packet of the server, to the client, and then everything. The server's OK or ERR is not carried: it is the
/// verdict. Leaves in `client_sequence` the number of the packet that tells the client.
///
/// # Errors
/// Those of the client's side.
pub(super) async fn pass_on(
    client: Side<'_>,
    server: Side<'_>,
    first: &[u8],
    client_sequence: &mut u8,
) -> Result<Verdict, LoginError> {
    let (client_next, server_next) = (AtomicU8::new(client.sequence), AtomicU8::new(server.sequence));
    let (mut client_reads, mut client_writes) = split(client.stream);
    let (mut server_reads, mut server_writes) = split(server.stream);
    write(&mut client_writes, &client_next, first).await.map_err(PacketError::Io)?;
    let upwards = async {
        for _ in 0..CLIENT_PACKETS_MAX {
            let packet = match read(&mut client_reads, &client_next).await {
                Ok(packet) => zeroize::Zeroizing::new(packet),
                Err(e) => return End::Client(e.into()),
            };
            if let Err(e) = write(&mut server_writes, &server_next, &packet).await {
                return End::Server(PacketError::Io(e));
            }
        }
        End::Client(LoginError::Malformed("the client sends packet after packet".to_owned()))
    };
    let downwards = async {
        loop {
            let packet = match read(&mut server_reads, &server_next).await {
                Ok(packet) => packet,
                Err(e) => return End::Server(e),
            };
            if matches!(packet.first(), None | Some(&(0 | ServerError::HEADER))) {
                return End::Decided(packet);
            }
            if let Err(e) = write(&mut client_writes, &client_next, &packet).await {
                return End::Client(LoginError::Gone(e));
            }
        }
    };
    let end = tokio::select! {
        biased;
        end = downwards => end,
        end = upwards => end,
    };
    *client_sequence = client_next.load(Ordering::Relaxed);
    match end {
        End::Client(error) => Err(error),
        End::Server(error) => Ok(Verdict::Unreachable(error.to_string())),
        End::Decided(packet) if packet.first() == Some(&0) => Ok(Verdict::Accepted),
        End::Decided(packet) => {
            Ok(ServerError::parse(&packet).map_or_else(|e| Verdict::Unreachable(e.to_string()), Verdict::Refused))
        }
    }
}

/// Reads a packet. Which number it must have is told only when it comes: meanwhile the other direction may have used some.
async fn read(stream: &mut (impl AsyncRead + Unpin), next: &AtomicU8) -> Result<Vec<u8>, PacketError> {
    let mut header = [0; 4];
    stream.read_exact(&mut header).await?;
    let mut sequence = next.load(Ordering::Relaxed);
    let packet = read_packet(&mut header.chain(stream), &mut sequence, LOGIN_PACKET_LEN_MAX).await?;
    next.store(sequence, Ordering::Relaxed);
    Ok(packet)
}

async fn write(stream: &mut (impl AsyncWrite + Unpin), next: &AtomicU8, payload: &[u8]) -> std::io::Result<()> {
    let mut sequence = next.load(Ordering::Relaxed);
    write_packet(stream, &mut sequence, payload).await?;
    next.store(sequence, Ordering::Relaxed);
    Ok(())
}
