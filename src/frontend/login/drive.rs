//! From an accepted socket, or a COM_CHANGE_USER, to a client that is who it says.

use std::net::IpAddr;
use std::sync::Arc;

use crate::net::timer::timeout;
use crate::protocol::errno;
use zeroize::Zeroizing;

use super::client::{Client, LoginError};
use super::server::AtServers;
use super::{Arrival, ChangeUserRequest, LoggedIn, LoginRoom, Peer, greeting, now};
use crate::auth::accounts::Source;
use crate::auth::exchange::{Accepted, Action, Event, Exchange, Ground, Start};
use crate::auth::{Known, Plugin, Secret};
use crate::frontend::tls::ClientTlsMode;
use crate::net::{Socket, Stream};
use crate::protocol::Capabilities;
use crate::protocol::compress::Algorithm;
use crate::protocol::handshake::{AUTH_MORE_DATA, ChangeUser, HandshakeResponse, Malformed, NONCE_LEN, ServerError, SslRequest};

/// Greets a client, takes it into TLS when it wants that, and finds out whether it is who it says. A client that is not
/// has been told why, and is closed, when this returns.
///
/// # Errors
/// See [`LoginError`].
pub async fn log_in(stream: Stream, arrival: &Arrival, room: &LoginRoom) -> Result<LoggedIn, LoginError> {
    let mut client = Client { stream: Some(stream), sequence: 0, challenge: [0; NONCE_LEN] };
    match timeout(room.limits.login, arrive(&mut client, arrival, room)).await.unwrap_or(Err(LoginError::Stalled)) {
        Ok(asked) => finish(client, asked),
        Err(error) => {
            client.close_with(&error).await;
            Err(error)
        }
    }
}

/// COM_CHANGE_USER: the same in a running session. As servers do it, the challenge is the one the client was given last: C libraries
/// answer that one in `mysql_native_password`, even when a switch brings them another.
///
/// # Errors
/// See [`LoginError`]; with it, when `keep` says so, the stream of a client that was refused and whose old session goes on.
pub async fn change_user(
    stream: Stream,
    peer: &Peer,
    request: ChangeUserRequest<'_>,
    room: &LoginRoom,
    keep: bool,
) -> Result<LoggedIn, (LoginError, Option<Stream>)> {
    let mut client = Client { stream: Some(stream), sequence: 1, challenge: request.nonce };
    match timeout(room.limits.login, change(&mut client, peer, request, room)).await.unwrap_or(Err(LoginError::Stalled)) {
        Ok(asked) => finish(client, asked).map_err(|error| (error, None)),
        Err(error) if keep => {
            let stream = client.keep_with(&error).await;
            Err((error, stream))
        }
        Err(error) => {
            client.close_with(&error).await;
            Err((error, None))
        }
    }
}

/// What the client said of itself, and what became of it.
struct Asked {
    peer: Peer,
    user: String,
    schema: Option<String>,
    collation: u16,
    capabilities: Capabilities,
    max_packet: u32,
    attributes: Vec<(String, String)>,
    compression: Option<Algorithm>,
    outcome: Option<Outcome>,
}

struct Outcome {
    credential: Option<Known>,
    account: Option<Arc<crate::auth::Override>>,
    first: Option<super::First>,
    fast: bool,
}

fn finish(client: Client, asked: Asked) -> Result<LoggedIn, LoginError> {
    let (Some(stream), Some(outcome)) = (client.stream, asked.outcome) else {
        return Err(LoginError::Gone(std::io::ErrorKind::NotConnected.into()));
    };
    Ok(LoggedIn {
        tls: stream.is_tls(),
        stream,
        user: asked.user,
        host: asked.peer.host,
        schema: asked.schema,
        collation: asked.collation,
        capabilities: asked.capabilities,
        max_packet: asked.max_packet,
        attributes: asked.attributes,
        credential: outcome.credential,
        account: outcome.account,
        first: outcome.first,
        sequence: client.sequence,
        challenge: client.challenge,
        fast: outcome.fast,
        compression: asked.compression,
    })
}

async fn arrive(client: &mut Client, arrival: &Arrival, room: &LoginRoom) -> Result<Asked, LoginError> {
    let tls = room.tls.load_full();
    let nonce = greeting::nonce()?;
    let greeting = room.greeting.load().greet(arrival.connection_id, nonce, tls.acceptor().is_some());
    let mut packet = Vec::with_capacity(128);
    greeting.write(&mut packet);
    client.challenge = nonce;
    client.write(&packet).await?;

    let mut packet = client.read().await?;
    let head = SslRequest::parse(&packet)?;
    if let (Some(_), Some(acceptor)) = (head, tls.acceptor()) {
        let socket = client.stream.take().and_then(Stream::into_plain);
        let socket = socket.ok_or(Malformed { field: "TLS request", why: "TLS is on already" })?;
        let stream = acceptor.accept(socket).await.map_err(|e| LoginError::Tls(e.to_string()))?;
        client.stream = Some(Stream::Tls(Box::new(stream.into())));
        packet = client.read().await?;
    }
    let mut response = HandshakeResponse::parse(&packet)?;
    let is_tls = client.stream.as_ref().is_some_and(Stream::is_tls);
    let secure = is_secure(client);
    if tls.mode == ClientTlsMode::Required && !secure {
        // ER_SECURE_TRANSPORT_REQUIRED, word for word.
        let text = "Connections using insecure transport are prohibited while --require_secure_transport=ON.";
        return Err(LoginError::Refused {
            user: response.user,
            error: ServerError::new(errno::ER_SECURE_TRANSPORT_REQUIRED, text),
        });
    }
    // What the client wants and was offered; SSL only when it came true.
    let agreed = (response.capabilities & greeting.capabilities).without(Capabilities::SSL) | Capabilities::LONG_PASSWORD;
    let asked = Asked {
        peer: arrival.peer.clone(),
        user: std::mem::take(&mut response.user),
        schema: response.schema.take(),
        collation: u16::from(response.collation),
        capabilities: if is_tls { agreed | Capabilities::SSL } else { agreed },
        max_packet: response.max_packet,
        attributes: std::mem::take(&mut response.attributes),
        compression: Algorithm::agreed(agreed, response.zstd_level),
        outcome: None,
    };
    let answer = Zeroizing::new(std::mem::take(&mut response.auth));
    // A library whose plugin is not the greeted one has no challenge for it: it sends nothing and waits for a switch.
    let waits = answer.is_empty() && !response.plugin.is_empty() && response.plugin != greeting.plugin;
    let answer = if waits { None } else { Some(answer) };
    exchange(client, asked, &response.plugin, answer, nonce, room, false).await
}

async fn change(client: &mut Client, peer: &Peer, request: ChangeUserRequest<'_>, room: &LoginRoom) -> Result<Asked, LoginError> {
    let command = ChangeUser::parse(request.packet, request.capabilities)?;
    let asked = Asked {
        peer: peer.clone(),
        user: command.user,
        schema: command.schema,
        collation: command.collation.unwrap_or(0),
        capabilities: request.capabilities,
        max_packet: request.max_packet,
        attributes: command.attributes,
        // The session's stream stays as it is.
        compression: None,
        outcome: None,
    };
    // Other plugins answer what a switch brings, and what they send before it says nothing.
    let native = command.plugin.is_empty() || Plugin::from_name(&command.plugin) == Some(Plugin::Native);
    let answer = native.then(|| Zeroizing::new(command.auth));
    let keeps_challenge = native && !answers_switches(&asked.attributes);
    exchange(client, asked, &command.plugin, answer, request.nonce, room, keeps_challenge).await
}

/// Whether a client is known to answer the challenge that a switch brings, also in a COM_CHANGE_USER: by the name it gives itself. Where it
/// takes the server for older than MySQL 5.5.16, by MariaDB's `5.5.5-`, Connector/J follows to no `caching_sha2_password`.
fn answers_switches(attributes: &[(String, String)]) -> bool {
    attributes.iter().any(|(name, value)| name == "_client_name" && value.ends_with("Connector/J"))
}

/// Under which name a user's credential is remembered. What a server accepted over TLS says nothing about a client without it:
/// the account may `REQUIRE SSL`. Where servers are told clients' addresses (`client`), one name may be several accounts.
pub(crate) fn remembered_as(user: &str, secure: bool, client: Option<IpAddr>) -> String {
    let plain = if secure { "" } else { "\0plain" };
    match client {
        Some(ip) => format!("{user}{plain}\0{ip}"),
        None => format!("{user}{plain}"),
    }
}

fn is_secure(client: &Client) -> bool {
    client.stream.as_ref().is_some_and(|s| s.is_tls() || matches!(s.socket(), Some(Socket::Unix(_))))
}

/// Drives the machine to its end.
async fn exchange(
    client: &mut Client,
    mut asked: Asked,
    plugin: &str,
    answer: Option<Zeroizing<Vec<u8>>>,
    nonce: [u8; NONCE_LEN],
    room: &LoginRoom,
    keeps_challenge: bool,
) -> Result<Asked, LoginError> {
    let accounts = room.accounts.load_full();
    let refused = |user: &str, error: ServerError| LoginError::Refused { user: user.to_owned(), error };
    accounts
        .admit(&asked.user, asked.peer.ip, &asked.peer.host, asked.schema.as_deref())
        .map_err(|error| refused(&asked.user, error))?;
    let ask_servers = accounts.source() == Source::Servers;
    let told = asked.peer.ip.filter(|_| room.tells_addresses);
    let name = remembered_as(&asked.user, is_secure(client), told);
    let learned = if ask_servers { room.credentials.get(&name) } else { None };
    let mut known = accounts.configured(&asked.user).or(learned);
    // A server that has seen the password in TLS knows it without, too, and a client may rely on it that cannot send it otherwise.
    let borrowed = ask_servers && known.is_none();
    if borrowed {
        known = room.credentials.get(&remembered_as(&asked.user, !is_secure(client), told));
    }
    let start = Start {
        user: asked.user.clone(),
        host: asked.peer.host.clone(),
        plugin: plugin.to_owned(),
        answer,
        nonce,
        keeps_challenge,
        secure: is_secure(client),
        can_switch: asked.capabilities.has(Capabilities::PLUGIN_AUTH),
        known: known.as_ref().map(|k| k.credential.clone()),
        confirm: ask_servers && known.as_ref().is_some_and(|k| k.is_due(now(), room.limits.confirm_after)),
        borrowed,
        ask_servers,
    };
    let mut at_servers =
        AtServers::new(room, &asked.user, is_secure(client), asked.capabilities, asked.collation, &asked.attributes, told);
    let (mut machine, mut action) = Exchange::begin(start);
    loop {
        action = match action {
            Action::Ask(packet) => {
                client.write(&packet).await?;
                machine.step(Event::Client(&client.read().await?))
            }
            Action::SendKey => {
                let key = room.password_key().await.map_err(|e| no_key(&asked.user, &e))?;
                let mut packet = vec![AUTH_MORE_DATA];
                packet.extend_from_slice(key.public_pem());
                client.write(&packet).await?;
                machine.step(Event::Client(&client.read().await?))
            }
            Action::Decrypt { encrypted, nonce } => {
                let key = room.password_key().await.map_err(|e| no_key(&asked.user, &e))?;
                let opened: Result<Secret, _> = key.decrypt_password(&encrypted, &nonce);
                machine.step(Event::Decrypted(opened))
            }
            Action::Probe => machine.step(Event::Probed(at_servers.probe().await)),
            Action::Relay(answer) => machine.step(Event::Verdict(at_servers.relay(&answer).await)),
            Action::PassOn => machine.step(Event::Verdict(at_servers.pass_on(client).await?)),
            Action::LogIn(credential) => machine.step(Event::Verdict(at_servers.log_in(&credential).await)),
            Action::ReadAccount => machine.step(Event::Account(at_servers.account().await)),
            Action::Accept(Accepted { credential, fast, confirmed }) => {
                let credential = match (credential, known) {
                    (Some(c), Some(known)) if known.generation == 0 && *known.credential == *c => Some(known),
                    (Some(c), _) if confirmed => Some(room.credentials.learn(&name, (*c).clone(), now())),
                    (Some(c), Some(known)) if *known.credential == *c => Some(known),
                    (Some(c), _) => Some(Known::configured(c)),
                    (None, _) => None,
                };
                let account = accounts.entry(&asked.user).cloned();
                asked.outcome = Some(Outcome { credential, account, first: at_servers.first.take(), fast });
                return Ok(asked);
            }
            Action::Refuse { error, ground } => {
                if let (Ground::Stale, Some(known)) = (ground, &known) {
                    room.credentials.forget(&name, known.generation);
                }
                let user = asked.user;
                return Err(match ground {
                    Ground::NoServer => LoginError::NoServer { user, error },
                    Ground::Judged | Ground::Stale => LoginError::Refused { user, error },
                });
            }
        };
    }
}

fn no_key(user: &str, e: &crate::auth::rsa::RsaError) -> LoginError {
    let text = format!("sluice: the password cannot be taken without TLS: {e}");
    LoginError::Refused { user: user.to_owned(), error: ServerError::new(errno::ER_UNKNOWN_ERROR, text) }
}
