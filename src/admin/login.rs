//! Logging in at the admin port: one account, `caching_sha2_password` and `mysql_native_password`, TLS if there is a certificate.
//!
//! The password is known here in clear, so both plugins are verified at once: `caching_sha2_password` never needs its full
//! exchange, TLS or an RSA key. That is also why a ready-made MySQL server crate does not do: opensrv-mysql 0.7 cannot send
//! the packet `01 03` that clients of MySQL 8 and 9 wait for, and those of 9 have no other plugin built in.

use std::io;

use aws_lc_rs::{constant_time, digest, rand};
use tokio_rustls::TlsAcceptor;

use super::answer::AdminError;
use super::variables::SERVER_VERSION;
use super::wire::{CHALLENGE_BYTES, Wire};
use super::{Access, Session};
use crate::net::Stream;
use crate::protocol::Capabilities;
use crate::protocol::errno;
use crate::protocol::handshake::ChangeUser;

/// A handshake response is shorter: names of at most a few hundred bytes and connection attributes.
const LOGIN_PACKET_BYTES_MAX: usize = 64 * 1024;
const SHA2: &str = "caching_sha2_password";
const NATIVE: &str = "mysql_native_password";

/// Without `DEPRECATE_EOF`: an EOF behind the columns says that there is no cursor. Connector/J, when it has asked for one, takes what would
/// stand in its place for that word, and waits for a second end behind a result without rows.
const OFFERED: Capabilities = Capabilities::LONG_PASSWORD
    .with(Capabilities::FOUND_ROWS)
    .with(Capabilities::LONG_FLAG)
    .with(Capabilities::CONNECT_WITH_DB)
    .with(Capabilities::PROTOCOL_41)
    .with(Capabilities::TRANSACTIONS)
    .with(Capabilities::SECURE_CONNECTION)
    .with(Capabilities::MULTI_RESULTS)
    .with(Capabilities::PS_MULTI_RESULTS)
    .with(Capabilities::PLUGIN_AUTH)
    .with(Capabilities::CONNECT_ATTRS)
    .with(Capabilities::PLUGIN_AUTH_LENENC);

/// How a login ended.
pub enum Login {
    /// Logged in; the OK packet is sent.
    In(Wire<Stream>, Session),
    /// Refused, or no MySQL client: the reason, for the log. The client has been told what it can be told.
    Refused(String),
}

fn garbage(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

/// Twenty bytes that are neither 0 (they end the challenge) nor `$` (old servers used it as a separator).
fn challenge() -> io::Result<[u8; CHALLENGE_BYTES]> {
    let mut bytes = [0u8; CHALLENGE_BYTES];
    rand::fill(&mut bytes).map_err(|_| io::Error::other("the machine has no random numbers"))?;
    Ok(bytes.map(|b| match b & 0x7F {
        0 => 1,
        b'$' => b'%',
        b => b,
    }))
}

/// Protocol::HandshakeV10
fn greeting(connection_id: u32, challenge: &[u8; CHALLENGE_BYTES], offered: Capabilities) -> Vec<u8> {
    let bits = offered.mysql_bits().to_le_bytes();
    let mut p = vec![10];
    p.extend_from_slice(SERVER_VERSION.as_bytes());
    p.push(0);
    p.extend_from_slice(&connection_id.to_le_bytes());
    p.extend_from_slice(&challenge[..8]);
    p.push(0);
    p.extend_from_slice(&bits[..2]);
    // utf8mb4_general_ci, SERVER_STATUS_AUTOCOMMIT
    p.extend_from_slice(&[45, 2, 0]);
    p.extend_from_slice(&bits[2..]);
    p.push(CHALLENGE_BYTES as u8 + 1);
    p.extend_from_slice(&[0; 10]);
    p.extend_from_slice(&challenge[8..]);
    p.push(0);
    p.extend_from_slice(SHA2.as_bytes());
    p.push(0);
    p
}

/// What of Protocol::HandshakeResponse41 concerns us.
#[derive(Debug, PartialEq)]
struct Response {
    capabilities: Capabilities,
    user: String,
    proof: Vec<u8>,
    schema: Option<String>,
    plugin: Option<String>,
}

/// Reads forward through a packet; every read says whether there was enough.
struct Bytes<'p>(&'p [u8]);

impl<'p> Bytes<'p> {
    fn take(&mut self, count: usize) -> Option<&'p [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn until_zero(&mut self) -> Option<&'p [u8]> {
        let end = self.0.iter().position(|b| *b == 0)?;
        let taken = self.take(end)?;
        self.take(1)?;
        Some(taken)
    }

    fn length(&mut self) -> Option<usize> {
        let first = *self.take(1)?.first()?;
        let bytes = match first {
            0..=250 => return Some(usize::from(first)),
            0xFC => 2,
            0xFD => 3,
            0xFE => 8,
            _ => return None,
        };
        let mut value = [0u8; 8];
        value[..bytes].copy_from_slice(self.take(bytes)?);
        usize::try_from(u64::from_le_bytes(value)).ok()
    }
}

fn capabilities(packet: &[u8]) -> Option<Capabilities> {
    let bits: [u8; 4] = packet.get(..4)?.try_into().ok()?;
    Some(Capabilities(u64::from(u32::from_le_bytes(bits))))
}

fn response(packet: &[u8]) -> Option<Response> {
    let capabilities = capabilities(packet)?;
    let mut rest = Bytes(packet);
    // Capabilities, largest packet, collation, 23 bytes of nothing.
    rest.take(4 + 4 + 1 + 23)?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let user = text(rest.until_zero()?);
    let proof = if capabilities.has(Capabilities::PLUGIN_AUTH_LENENC) {
        let length = rest.length()?;
        rest.take(length)?
    } else if capabilities.has(Capabilities::SECURE_CONNECTION) {
        let length = usize::from(*rest.take(1)?.first()?);
        rest.take(length)?
    } else {
        rest.until_zero()?
    };
    let mut schema = None;
    if capabilities.has(Capabilities::CONNECT_WITH_DB) && !rest.0.is_empty() {
        schema = Some(text(rest.until_zero()?)).filter(|s| !s.is_empty());
    }
    let mut plugin = None;
    if capabilities.has(Capabilities::PLUGIN_AUTH) && !rest.0.is_empty() {
        plugin = Some(text(rest.until_zero().unwrap_or(rest.0)));
    }
    Some(Response { capabilities, user, proof: proof.to_vec(), schema, plugin })
}

fn hash(algorithm: &'static digest::Algorithm, parts: &[&[u8]]) -> Vec<u8> {
    let mut context = digest::Context::new(algorithm);
    parts.iter().for_each(|part| context.update(part));
    context.finish().as_ref().to_vec()
}

fn xor(a: &[u8], b: &[u8]) -> Vec<u8> {
    a.iter().zip(b).map(|(a, b)| a ^ b).collect()
}

/// What a client that knows the password answers to a challenge.
fn expected(plugin: &str, password: &[u8], challenge: &[u8]) -> Vec<u8> {
    if plugin == NATIVE {
        // SHA1(password) XOR SHA1(challenge + SHA1(SHA1(password)))
        let once = hash(&digest::SHA1_FOR_LEGACY_USE_ONLY, &[password]);
        let twice = hash(&digest::SHA1_FOR_LEGACY_USE_ONLY, &[&once]);
        return xor(&once, &hash(&digest::SHA1_FOR_LEGACY_USE_ONLY, &[challenge, &twice]));
    }
    // SHA256(password) XOR SHA256(SHA256(SHA256(password)) + challenge)
    let once = hash(&digest::SHA256, &[password]);
    let twice = hash(&digest::SHA256, &[&once]);
    xor(&once, &hash(&digest::SHA256, &[&twice, challenge]))
}

fn proves(plugin: &str, password: &[u8], challenge: &[u8], proof: &[u8]) -> bool {
    if password.is_empty() {
        // caching_sha2_password says "no password" with a single zero byte.
        return matches!(proof, [] | [0]);
    }
    constant_time::verify_slices_are_equal(&expected(plugin, password, challenge), proof).is_ok()
}

/// Talks a client through the login.
///
/// # Errors
/// Those of the stream, and `InvalidData` for packets that are none.
pub async fn log_in(stream: Stream, connection_id: u32, access: &Access, tls: Option<&TlsAcceptor>) -> io::Result<Login> {
    let host = stream.socket().map(crate::net::Socket::peer).unwrap_or_default();
    let host = host.rsplit_once(':').map_or(host.as_str(), |(host, _)| host).to_owned();
    let offered = if tls.is_some() { OFFERED.with(Capabilities::SSL) } else { OFFERED };
    let challenge = challenge()?;
    let mut wire = Wire::new(stream);
    wire.add(&greeting(connection_id, &challenge, offered));
    wire.send().await?;

    let hung_up = || garbage("hung up during the login");
    let mut packet = wire.read(LOGIN_PACKET_BYTES_MAX).await?.ok_or_else(hung_up)?;
    if let Some(tls) = tls
        && capabilities(&packet).is_some_and(|c| c.has(Capabilities::SSL))
    {
        let (stream, sequence) = wire.into_stream().ok_or_else(|| garbage("bytes before TLS"))?;
        let socket = stream.into_plain().ok_or_else(|| garbage("TLS within TLS"))?;
        let stream = tls.accept(socket).await?;
        wire = Wire::resume(Stream::Tls(Box::new(stream.into())), sequence);
        packet = wire.read(LOGIN_PACKET_BYTES_MAX).await?.ok_or_else(hung_up)?;
    }
    let protocol_41 = capabilities(&packet).is_some_and(|c| c.has(Capabilities::PROTOCOL_41));
    let Some(response) = Some(&packet).filter(|_| protocol_41).and_then(|p| response(p)) else {
        wire.error(&AdminError::new(errno::ER_HANDSHAKE_ERROR, "bad handshake"));
        wire.send().await?;
        return Ok(Login::Refused(format!("{host}: malformed handshake response")));
    };
    wire.capabilities = response.capabilities & offered;
    wire.challenge = challenge;

    // Clients that name no plugin are old enough for the native one.
    let plugin = response.plugin.as_deref().unwrap_or(NATIVE);
    let mut answer = Answer { plugin: if plugin == NATIVE { NATIVE } else { SHA2 }, proof: response.proof };
    let wrong_plugin = plugin != SHA2 && plugin != NATIVE;
    // The greeting spoke of another plugin: such clients send nothing yet and wait to be asked.
    let unasked = plugin == NATIVE && answer.proof.is_empty() && response.plugin.is_some() && !access.password.is_empty();
    if wrong_plugin || unasked {
        wire.challenge = self::challenge()?;
        answer = Answer::ask(&mut wire, answer.plugin).await?;
    }
    if let Err(why) = answer.judge(&mut wire, access, &response.user, &host).await? {
        return Ok(Login::Refused(why));
    }
    Ok(Login::In(wire, Session { user: response.user, host, schema: response.schema, connection_id, select_limit: None }))
}

/// `COM_CHANGE_USER`: the client proves itself anew, by the challenge of its login, and begins a new session. Refused, it has been told why and
/// has to go, as at a server.
///
/// # Errors
/// Those of the stream, and `InvalidData` for packets that are none.
pub async fn change_user(
    wire: &mut Wire<Stream>,
    packet: &[u8],
    session: &Session,
    access: &Access,
) -> io::Result<Result<Session, String>> {
    let host = session.host.clone();
    let Ok(request) = ChangeUser::parse(packet, wire.capabilities) else {
        wire.error(&AdminError::new(errno::ER_UNKNOWN_COM_ERROR, "malformed packet: COM_CHANGE_USER"));
        wire.send().await?;
        return Ok(Err(format!("{host}: malformed COM_CHANGE_USER")));
    };
    let answer = Answer::ask(wire, if request.plugin == NATIVE { NATIVE } else { SHA2 }).await?;
    let judged = answer.judge(wire, access, &request.user, &host).await?;
    let connection_id = session.connection_id;
    Ok(judged.map(|()| Session { user: request.user, host, schema: request.schema, connection_id, select_limit: None }))
}

/// What a client says to prove that it knows the password.
struct Answer {
    plugin: &'static str,
    proof: Vec<u8>,
}

impl Answer {
    /// Protocol::AuthSwitchRequest, and what comes back.
    async fn ask(wire: &mut Wire<Stream>, plugin: &'static str) -> io::Result<Answer> {
        let mut switch = vec![0xFE];
        switch.extend_from_slice(plugin.as_bytes());
        switch.push(0);
        switch.extend_from_slice(&wire.challenge);
        switch.push(0);
        wire.add(&switch);
        wire.send().await?;
        let proof = wire.read(LOGIN_PACKET_BYTES_MAX).await?.ok_or_else(|| garbage("hung up during the login"))?;
        Ok(Answer { plugin, proof })
    }

    /// Tells the client how its login ended; of a refusal also the log is told.
    async fn judge(self, wire: &mut Wire<Stream>, access: &Access, user: &str, host: &str) -> io::Result<Result<(), String>> {
        let known = constant_time::verify_slices_are_equal(access.user.as_bytes(), user.as_bytes()).is_ok();
        let proved = proves(self.plugin, access.password.as_bytes(), &wire.challenge, &self.proof);
        if !(known && proved) {
            let with = if matches!(self.proof.as_slice(), [] | [0]) { "NO" } else { "YES" };
            let message = format!("Access denied for user '{user}'@'{host}' (using password: {with}); this is the admin port");
            wire.error(&AdminError::new(errno::ER_ACCESS_DENIED_ERROR, message));
            wire.send().await?;
            return Ok(Err(format!("{host}: wrong user or password for {user:?}")));
        }
        if self.plugin == SHA2 && !access.password.is_empty() {
            // AuthMoreData, fast_auth_success
            wire.add(&[0x01, 0x03]);
        }
        wire.ok(0, "");
        wire.send().await?;
        Ok(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proofs_as_clients_make_them() {
        let challenge = *b"0123456789abcdefghij";
        for plugin in [SHA2, NATIVE] {
            let proof = expected(plugin, b"secret", &challenge);
            assert_eq!(proof.len(), if plugin == NATIVE { 20 } else { 32 });
            assert!(proves(plugin, b"secret", &challenge, &proof));
            assert!(!proves(plugin, b"other", &challenge, &proof));
            assert!(!proves(plugin, b"secret", b"another challenge 20", &proof));
            assert!(!proves(plugin, b"secret", &challenge, b""));
            assert!(!proves(plugin, b"", &challenge, &proof));
        }
        assert!(proves(SHA2, b"", &challenge, &[0]) && proves(NATIVE, b"", &challenge, b""));
    }

    #[test]
    fn responses_cut_anywhere_do_not_panic() {
        let mut packet = (OFFERED | Capabilities::CONNECT_WITH_DB).mysql_bits().to_le_bytes().to_vec();
        packet.extend_from_slice(&[0; 28]);
        packet.extend_from_slice(b"admin\0\x02ab\x73luice\0caching_sha2_password\0");
        let whole = response(&packet).unwrap();
        assert_eq!((whole.user.as_str(), whole.proof.as_slice()), ("admin", &b"ab"[..]));
        assert_eq!((whole.schema.as_deref(), whole.plugin.as_deref()), (Some("sluice"), Some(SHA2)));
        for cut in 0..packet.len() {
            let _ = response(&packet[..cut]);
        }
        packet[38] = 0xFE;
        assert_eq!(response(&packet), None);
    }
}
