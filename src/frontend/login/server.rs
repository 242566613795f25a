//! The servers' end of a login: asking which plugin an account uses, and having a proof judged.

use std::net::IpAddr;
use std::time::Duration;

use crate::net::tasks::beside;
use crate::net::timer::timeout;
use crate::protocol::errno;

use super::ask::{Word, ask_in_turn};
use super::client::{Client, LoginError};
use super::pass_on::{Side, pass_on};
use super::{First, LoginRoom, LoginServer};
use crate::auth::Credential;
use crate::auth::answer::{Answerer, SWITCHES_MAX, Step};
use crate::auth::attributes::passed_on;
use crate::auth::exchange::{Probed, Verdict};
use crate::backend::client::run_query;
use crate::backend::connect::is_busy;
use crate::backend::connection::{ALWAYS_CAPABILITIES, key_capabilities};
use crate::backend::handshake::{Opening, broken};
use crate::backend::packets::PacketError;
use crate::backend::tls::{ServerTls, TlsMode};
use crate::backend::{ConnectError, Login, ServerAddress, connect};
use crate::protocol::Capabilities;
use crate::protocol::handshake::{AuthSwitchRequest, ServerError};
use crate::topology::Flavor;

/// The plugin servers are told first. None has it, so each answers by naming the account's own.
const PROBE_PLUGIN: &str = "sluice_probe";
/// How long a server may take to hear that a probe has come to nothing.
const ABANDON_TIMEOUT: Duration = Duration::from_secs(2);
/// MariaDB shows a user his own password hash; MySQL shows `<secret>` without a right to `mysql.user`.
const READ_ACCOUNT: &str = "SHOW CREATE USER CURRENT_USER()";

/// How the user is to be logged in at servers: as the client will be, but without schema.
pub(super) struct AtServers<'a> {
    room: &'a LoginRoom,
    login: Login,
    secure: bool,
    probe: Probe,
    pub(super) first: Option<First>,
}

/// A server that waits for a proof. When it is dropped unanswered the server is given an empty one: a login broken off
/// in the middle counts there against our host (`max_connect_errors`), a refused one does not.
struct Probe(Option<(LoginServer, Opening, Vec<u8>)>);

/// What a probe leaves beside its answer.
enum Found {
    /// The account needs no proof: its connection.
    First(First),
    /// The server waits for the proof.
    Waits(Probe),
    Nobody,
}

impl Drop for Probe {
    fn drop(&mut self) {
        if let Some((_, mut opening, _)) = self.0.take() {
            beside(async move {
                let _ = timeout(ABANDON_TIMEOUT, async {
                    opening.write(&[]).await.ok()?;
                    opening.read().await.ok()
                })
                .await;
            });
        }
    }
}

impl<'a> AtServers<'a> {
    #[allow(clippy::too_many_arguments)]
    pub(super) fn new(
        room: &'a LoginRoom,
        user: &str,
        secure: bool,
        capabilities: Capabilities,
        collation: u16,
        attributes: &[(String, String)],
        client: Option<IpAddr>,
    ) -> AtServers<'a> {
        let login = Login {
            user: user.to_owned(),
            credential: Credential::None,
            schema: None,
            collation,
            // As the pools open their connections, so that this one can be kept.
            capabilities: ALWAYS_CAPABILITIES | key_capabilities(capabilities),
            compression: None,
            attributes: passed_on(attributes),
            client,
        };
        AtServers { room, login, secure, probe: Probe(None), first: None }
    }

    /// A client without TLS is judged on a connection without TLS where the settings leave that open, so that an account that
    /// requires TLS is refused as it would be at the server.
    fn tls_with(&self, server: &LoginServer) -> ServerTls {
        if !self.secure && server.tls.mode == TlsMode::Preferred { server.tls.without_tls() } else { server.tls.clone() }
    }

    /// Asks the servers for the account's plugin (see [`super::ask`]).
    pub(super) async fn probe(&mut self) -> Probed {
        let servers = (self.room.servers)();
        let this = &*self;
        let word = ask_in_turn(&servers, self.room.limits.server, |server| async move {
            let probed = this.probe_one(server).await;
            probed.map_or_else(word_of, |(probed, found)| Word::Said((probed, found)))
        });
        match word.await {
            Word::Said((probed, found)) => {
                match found {
                    Found::First(first) => self.first = Some(first),
                    Found::Waits(probe) => self.probe = probe,
                    Found::Nobody => {}
                }
                probed
            }
            Word::Refused(error) => Probed::Refused(error),
            Word::Nothing(why) => Probed::Unreachable(why),
        }
    }

    async fn probe_one(&self, server: &LoginServer) -> Result<(Probed, Found), ConnectError> {
        let lost = |source| ConnectError::Lost { address: server.address.clone(), source };
        let mut opening = Opening::greet(&server.address, &self.tls_with(server), &self.login).await?;
        opening.respond(&self.login, PROBE_PLUGIN, &[]).await.map_err(lost)?;
        let packet = opening.read().await.map_err(|e| broken(&server.address, e))?;
        match packet.first() {
            // Asked over a unix socket, an account that trusts the socket (`unix_socket`, `auth_socket`) lets in the user whom Sluice
            // runs as, whoever the client is.
            Some(0) if matches!(server.address, ServerAddress::Unix(_)) => {
                Ok((Probed::Refused(trusts_the_socket(&self.login.user)), Found::Nobody))
            }
            Some(0) => Ok((Probed::Open, Found::First(First { server: server.id, connected: opening.finish() }))),
            Some(&ServerError::HEADER) => Err(ConnectError::Refused(ServerError::parse(&packet)?)),
            _ => {
                let request = AuthSwitchRequest::parse(&packet)?;
                let nonce = request.nonce();
                let shows_hash = Flavor::from_version(&opening.greeting().version) == Flavor::MariaDb;
                let secure = opening.is_secure();
                let probe = Probe(Some((server.clone(), opening, packet)));
                Ok((Probed::Switch { plugin: request.plugin, nonce, shows_hash, secure }, Found::Waits(probe)))
            }
        }
    }

    fn through_a_socket(&self) -> bool {
        (self.room.servers)().iter().any(|server| matches!(server.address, ServerAddress::Unix(_)))
    }

    /// Gives the probed server the client's own answer.
    pub(super) async fn relay(&mut self, answer: &[u8]) -> Verdict {
        let Some((server, mut opening, _)) = self.probe.0.take() else {
            return Verdict::Unreachable("the server is gone".to_owned());
        };
        let judge = async {
            opening.write(answer).await?;
            let mut packet = opening.read().await?;
            // MariaDB tries an account's other plugins when the first does not fit ("… OR ed25519"). The client cannot be
            // asked again, so they get an empty answer, and the client the server's last word.
            for _ in 0..SWITCHES_MAX {
                if packet.first() != Some(&AuthSwitchRequest::HEADER) {
                    break;
                }
                opening.write(&[]).await?;
                packet = opening.read().await?;
            }
            Ok::<_, PacketError>(packet)
        };
        let packet = match timeout(self.room.limits.server, judge).await {
            Ok(Ok(packet)) => packet,
            Ok(Err(e)) => return Verdict::Unreachable(format!("{}: {e}", server.address)),
            Err(_) => return Verdict::Unreachable(format!("{} did not answer", server.address)),
        };
        if packet.first() == Some(&0) {
            self.first = Some(First { server: server.id, connected: opening.finish() });
            return Verdict::Accepted;
        }
        ServerError::parse(&packet).map_or_else(|e| Verdict::Unreachable(format!("{}: {e}", server.address)), Verdict::Refused)
    }

    /// Has client and server settle the login between themselves.
    pub(super) async fn pass_on(&mut self, client: &mut Client) -> Result<Verdict, LoginError> {
        let Some((server, mut opening, packet)) = self.probe.0.take() else {
            return Ok(Verdict::Unreachable("the server is gone".to_owned()));
        };
        let sequence = client.sequence;
        let mut next = sequence;
        let stream = client.stream.as_mut().ok_or_else(|| std::io::Error::from(std::io::ErrorKind::NotConnected))?;
        let (server_stream, server_sequence) = opening.parts();
        let sides = (Side { stream, sequence }, Side { stream: server_stream, sequence: server_sequence });
        let verdict = pass_on(sides.0, sides.1, &packet, &mut next).await;
        client.sequence = next;
        let verdict = verdict?;
        if verdict == Verdict::Accepted {
            self.first = Some(First { server: server.id, connected: opening.finish() });
        }
        Ok(verdict)
    }

    /// Logs in with a credential: on the probed connection when there is one, else on a new one.
    pub(super) async fn log_in(&mut self, credential: &Credential) -> Verdict {
        let limit = self.room.limits.server;
        if let Some((server, opening, packet)) = self.probe.0.take() {
            let late = ConnectError::Timeout { address: server.address.clone(), after: limit };
            let went = timeout(limit, go_on(&server, opening, &packet, credential)).await.unwrap_or(Err(late));
            return self.verdict(went);
        }
        if self.through_a_socket() {
            // The plain login would succeed with any password where the account trusts the socket.
            match self.probe().await {
                Probed::Switch { .. } => return Box::pin(self.log_in(credential)).await,
                Probed::Refused(e) => return Verdict::Refused(e),
                Probed::Open => return Verdict::Accepted,
                Probed::Unreachable(why) => return Verdict::Unreachable(why),
            }
        }
        self.login.credential = credential.clone();
        let servers = (self.room.servers)();
        let this = &*self;
        let word = ask_in_turn(&servers, limit, |server| async move {
            let went = connect(&server.address, &this.tls_with(server), &this.login, limit).await;
            match went.map(|connected| First { server: server.id, connected }) {
                Err(e) if is_unfit(&e) => Word::Said(Err(e)),
                went => went.map_or_else(word_of, |first| Word::Said(Ok(first))),
            }
        });
        match word.await {
            Word::Said(went) => self.verdict(went),
            Word::Refused(error) => Verdict::Refused(error),
            Word::Nothing(why) => Verdict::Unreachable(why),
        }
    }

    fn verdict(&mut self, went: Result<First, ConnectError>) -> Verdict {
        match went {
            Ok(first) => {
                self.first = Some(first);
                Verdict::Accepted
            }
            Err(ConnectError::Refused(e)) if !is_busy(&e) => Verdict::Refused(e),
            Err(e) if is_unfit(&e) => Verdict::Unfit(e.to_string()),
            Err(e) => Verdict::Unreachable(e.to_string()),
        }
    }

    /// What the server says of the account, on the connection that has just been accepted.
    pub(super) async fn account(&mut self) -> Option<String> {
        let connected = &mut self.first.as_mut()?.connected;
        let ask = run_query(&mut connected.stream, READ_ACCOUNT, connected.capabilities);
        match timeout(self.room.limits.server, ask).await {
            Ok(Ok(results)) => results.into_iter().next()?.rows.into_iter().next()?.into_iter().next()?,
            // The server has said no: the connection is as good as before.
            Ok(Err(crate::backend::QueryError::Server(_))) => None,
            _ => {
                self.first = None;
                None
            }
        }
    }
}

/// Answers the switch that a probe has brought about.
async fn go_on(server: &LoginServer, mut opening: Opening, switch: &[u8], credential: &Credential) -> Result<First, ConnectError> {
    let lost = |source| ConnectError::Lost { address: server.address.clone(), source };
    let greeting = opening.greeting();
    let mut answerer = Answerer::new(credential, opening.is_secure(), &greeting.plugin, greeting.nonce);
    let mut packet = switch.to_vec();
    loop {
        match answerer.step(&packet)? {
            Step::Send(payload) => opening.write(&payload).await.map_err(lost)?,
            Step::Wait => {}
            Step::Done => return Ok(First { server: server.id, connected: opening.finish() }),
            Step::Refused(e) => return Err(ConnectError::Refused(e)),
        }
        packet = opening.read().await.map_err(|e| broken(&server.address, e))?;
    }
}

fn trusts_the_socket(user: &str) -> ServerError {
    let text = format!(
        "sluice: Access denied for user '{user}': the account trusts the server's unix socket, and over it the server would judge Sluice \
         instead of the client; log in at the server itself, or give the account a password alone"
    );
    ServerError::new(errno::ER_ACCESS_DENIED_NO_PASSWORD_ERROR, text)
}

/// What a server's failure says of the user.
fn word_of<T>(error: ConnectError) -> Word<T> {
    match error {
        ConnectError::Refused(refusal) if !is_busy(&refusal) => Word::Refused(refusal),
        error => Word::Nothing(error.to_string()),
    }
}

/// The account is one that what is known of the user cannot answer for, whichever server is asked.
fn is_unfit(error: &ConnectError) -> bool {
    matches!(error, ConnectError::PluginNotSupported { .. } | ConnectError::CannotAnswer(_))
}
