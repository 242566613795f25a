//! From a login to a session: the account's place in the pools, the first state, the schema it wants to start in.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::auth::Credential;
use crate::auth::attributes::passed_on;
use crate::backend::ConnectError;
use crate::backend::connection::{ALWAYS_CAPABILITIES, CommandError, PoolKey, key_capabilities, own, with};
use crate::backend::pool::{CheckoutError, Lease, Wanted};
use crate::frontend::beginnings::{Beginner, Begins, Found};
use crate::frontend::client::{Account, Client, Gone, unknown_command};
use crate::frontend::login::{ChangeUserRequest, First, LoggedIn, Peer, change_user};
use crate::frontend::place::given_up;
use crate::frontend::registry::{ClientEntry, ClientState};
use crate::frontend::shared::Shared;
use crate::metrics::LoginResult;
use crate::net::{Stream, timer};
use crate::protocol::Capabilities;
use crate::protocol::command::Com;
use crate::protocol::errno::{self, Errno};
use crate::protocol::frame::HEADER_LEN;
use crate::protocol::handshake::ServerError;
use crate::protocol::ok_err_eof::ErrPacket;
use crate::session::machine::Session;
use crate::session::pin::PinReason;
use crate::session::state::{Change, State, charset_of_collation};
use crate::sql::lexer::{ByteCharset, LexMode};
use crate::topology::{Flavor, ServerId};

/// After this many refused COM_CHANGE_USER MariaDB takes no more of a client.
const FAILED_CHANGES_MAX: u8 = 3;
/// Marks pool keys of one client alone; generations of learned passwords are far below.
const LOGIN_ONLY: u64 = 1 << 63;

/// How long a login waits for a connection that tells what its sessions begin with.
const BEGINNING_WAIT: Duration = Duration::from_secs(1);

/// No server takes statements in these: the bytes of ASCII are others in them.
const NO_CLIENT_CHARSETS: [&str; 4] = ["ucs2", "utf16", "utf16le", "utf32"];

/// Makes a client of a login and tells it so.
///
/// # Errors
/// When it was refused after all (its schema), or went away. With `keep` the stream of one that was refused.
pub async fn enter(
    shared: Arc<Shared>,
    mut login: LoggedIn,
    peer: &Peer,
    entry: Arc<ClientEntry>,
    keep: bool,
) -> Result<Client, Option<Stream>> {
    let mut claim = None;
    if let Some(limit) = login.account.as_ref().and_then(|a| a.max_connections) {
        claim = shared.registry.claim(&entry, &login.user, limit);
        if claim.is_none() {
            let text = format!(
                "User {} has exceeded the 'max_connections' of Sluice's configuration (current value: {limit})",
                login.user
            );
            return Err(login.refuse(&server_error(errno::ER_USER_LIMIT_REACHED, &text), keep).await);
        }
    }
    let named = charset_of_collation(login.collation, shared.flavor() == Some(Flavor::MariaDb));
    if let Some((charset, _)) = named.filter(|(charset, _)| NO_CLIENT_CHARSETS.contains(&charset.as_str())) {
        let text = format!("Variable 'character_set_client' can't be set to the value of '{charset}'");
        return Err(login.refuse(&ServerError::new(errno::ER_WRONG_VALUE_FOR_VAR, text), keep).await);
    }
    let (account, held) = match login.credential.take() {
        Some(known) => (account(&shared, &login, known.credential, known.generation, peer), None),
        None => match live_on_first(&shared, &mut login, peer, entry.id).await {
            Ok((account, lease)) => (account, Some(lease)),
            Err(error) => return Err(login.refuse(&error, keep).await),
        },
    };
    let dialect = shared.dialect();
    let ignore_space = login.capabilities.has(Capabilities::IGNORE_SPACE);
    let charset = ByteCharset::from_collation_id(login.collation);
    let lex = LexMode { charset, dialect, ignore_space, ..LexMode::default() };
    let adopted = match login.first.take() {
        Some(first) => adopt(&shared, first, &account).await,
        None => None,
    };
    let told = held.as_ref().map(|lease| lease.begins.clone()).or(adopted);
    let begins = match told.or_else(|| shared.beginnings.known(&beginner(&account))) {
        Some(begins) => Some(begins),
        None => Box::pin(ask_beginning(&shared, &account)).await,
    };
    let session = begin(&shared, &account, begins, lex);
    let schema = login.schema.take().filter(|s| !s.is_empty());
    let capabilities = login.capabilities;
    // The session exists before the OK is sent, because its schema is tried with its own connections.
    let (mut session, mut held) = (session, held);
    if let Some(schema) = &schema {
        let entered = match &mut held {
            Some(lease) => use_schema(&shared, lease, schema.as_bytes())
                .await
                .unwrap_or_else(|broken| Err(server_error(errno::ER_SERVER_SHUTDOWN, &broken))),
            None => enter_schema(&shared, &account, &session, schema.as_bytes()).await,
        };
        match entered {
            Ok(()) => session.schema_at_login(schema.as_bytes()),
            Err(error) => return Err(login.refuse(&error, keep).await),
        }
    }
    session.share_state(|state| shared.share(state));
    {
        let mut view = entry.view.lock();
        view.user = account.key.user.clone();
        view.tls = login.tls;
        view.state = ClientState::Idle;
        view.since = Some(Instant::now());
    }
    *entry.account.lock() = Some(account.clone());
    if let Some(claim) = claim {
        claim.keep();
    }
    login.accept(session.status.0).await.map_err(|_| None)?;
    session.pins.set(PinReason::Login, held.is_some());
    let mut client = Client::new(shared, login.stream.take(), capabilities, login.max_packet, session, entry, account);
    client.held = held;
    client.begins_behind();
    client.challenge = login.challenge;
    client.show_schema();
    client.show_idle();
    Ok(client)
}

/// An account whose login cannot be repeated: its client is served on the connection on which the server accepted it.
async fn live_on_first(shared: &Shared, login: &mut LoggedIn, peer: &Peer, id: u32) -> Result<(Account, Lease), ServerError> {
    let gone = || server_error(errno::ER_SERVER_SHUTDOWN, "the server that accepted the login has gone");
    let first = login.first.take().ok_or_else(gone)?;
    let pool = shared.pools.get(first.server.index()).ok_or_else(gone)?;
    let mut account = account(shared, login, Arc::new(Credential::None), LOGIN_ONLY | u64::from(id), peer);
    account.login_only = true;
    let named = charset_of_collation(first.connected.collation, first.connected.flavor() == Flavor::MariaDb);
    let have = match named.filter(|_| first.connected.collation != account.collation) {
        Some((charset, collation)) => Arc::new(State::at_login(None, Some((&charset, &collation)))),
        None => account.fresh.clone(),
    };
    let full = || {
        let text = format!(
            "all connections to {} are in use, and this account's plugin gives each of its clients one of its own; raise max_connections",
            pool.name
        );
        server_error(errno::ER_TOO_MANY_USER_CONNECTIONS, &text)
    };
    let lease = pool.take_in(first.connected, &account.key, &have).await.ok_or_else(full)?;
    Ok((account, lease))
}

fn server_error(error: Errno, text: &str) -> ServerError {
    ServerError::new(error, format!("sluice: {text}"))
}

fn account(shared: &Shared, login: &LoggedIn, credential: Arc<Credential>, generation: u64, peer: &Peer) -> Account {
    let mariadb = shared.flavor() == Some(Flavor::MariaDb);
    let names = charset_of_collation(login.collation, mariadb);
    let named = names.as_ref().map(|(charset, collation)| (charset.as_str(), collation.as_str()));
    let user: Arc<str> = login.user.as_str().into();
    let mut account = Account {
        key: shared.share_key(PoolKey {
            user: user.clone(),
            generation,
            capabilities: key_capabilities(login.capabilities),
            client: peer.ip.filter(|_| shared.tells_addresses),
            raw_collation: if named.is_some() { 0 } else { login.collation },
        }),
        credential,
        collation: login.collation,
        fresh: shared.share(Arc::new(State::at_login(None, named))),
        attributes: shared.share_attributes(passed_on(&login.attributes)),
        ip: peer.ip,
        login_only: false,
        written: shared.account_writes.of(&user),
        read_only: false,
        schemas: Arc::default(),
        accounts_read: 0,
    };
    account.follow(&shared.login);
    account
}

/// A session that begins so. A reset runs no `init_connect`: of all that it comes back to what is the server's own.
fn begin(shared: &Shared, account: &Account, begins: Option<Arc<[Change]>>, lex: LexMode) -> Session {
    let Some(begins) = begins else { return Session::new(account.fresh.clone(), lex) };
    let own = own(&begins);
    let state = if own.is_empty() { account.fresh.clone() } else { Arc::new(with(&account.fresh, &own)) };
    let mut session = Session::new(state, lex);
    if own.len() < begins.len() {
        session.begins_in(Arc::new(with(&account.fresh, &begins)));
    }
    shared.beginnings.note(beginner(account), begins);
    session
}

/// What the account's sessions begin with (see [`Connection::begins`](crate::backend::connection::Connection::begins)), asked of a server that is up. What
/// none tells at once is taken for nothing, as with servers that are configured as most are. One login asks, and the others wait for what it is told.
async fn ask_beginning(shared: &Shared, account: &Account) -> Option<Arc<[Change]>> {
    let deadline = Instant::now() + BEGINNING_WAIT;
    loop {
        let now = Instant::now();
        let left = deadline.saturating_duration_since(now);
        match shared.beginnings.find(beginner(account), now, BEGINNING_WAIT) {
            Found::Told(begins) => return Some(begins),
            Found::Untold => return None,
            Found::Waits(flight) => timer::timeout(left, flight.wait()).await.ok()?,
            Found::Asks(asker) => match timer::timeout(BEGINNING_WAIT, a_beginning(shared, account)).await {
                Ok(Ok(begins)) => {
                    asker.told(begins.clone());
                    return Some(begins);
                }
                Ok(Err(None | Some(CheckoutError::Connect(_) | CheckoutError::Setup(_)))) => return None,
                // Whoever comes now would wait as long, for nothing.
                Ok(Err(Some(CheckoutError::Exhausted { .. }))) | Err(_) => {
                    asker.nobody(Instant::now());
                    return None;
                }
            },
        }
    }
}

fn beginner(account: &Account) -> Beginner {
    (account.key.user.clone(), account.collation, account.key.capabilities.has(Capabilities::IGNORE_SPACE))
}

/// What a connection of the account begins with. The error is `None` where no server is up.
async fn a_beginning(shared: &Shared, account: &Account) -> Result<Begins, Option<CheckoutError>> {
    let snapshot = shared.snapshot.load_full();
    let server = snapshot.writer().map(|master| master.id).or_else(|| snapshot.readers().map(|s| s.id).next());
    let pool = server.and_then(|server| shared.pools.get(server.index())).ok_or(None)?;
    let wanted = Wanted {
        key: &account.key,
        credential: &account.credential,
        collation: account.collation,
        state: &account.fresh,
        fresh: &account.fresh,
        attributes: &account.attributes,
        text: None,
    };
    let lease = pool.checkout(wanted).await?;
    let begins = lease.begins.clone();
    lease.give_back(Instant::now());
    Ok(begins)
}

/// Takes the login's connection into the pool when it is what the pool would have opened.
async fn adopt(shared: &Shared, first: First, account: &Account) -> Option<Arc<[Change]>> {
    let wanted = ALWAYS_CAPABILITIES | account.key.capabilities;
    let relevant = crate::backend::connection::KEY_CAPABILITIES | Capabilities::SESSION_TRACK | Capabilities::DEPRECATE_EOF;
    let offered = first.connected.greeting.capabilities;
    let same = (first.connected.capabilities & relevant) == (wanted & offered & relevant);
    if same
        && first.connected.collation == account.collation
        && let Some(pool) = shared.pools.get(first.server.index())
    {
        return pool.adopt(first.connected, &account.key, &account.fresh).await;
    }
    None
}

/// The servers that may be asked, the master first. While there is none (the proxy has just started, all were lost) a login waits
/// for one as a statement does, at most `failover.hold_timeout`.
async fn servers_to_ask(shared: &Shared) -> Vec<ServerId> {
    let deadline = Instant::now() + shared.settings.load().hold_timeout;
    let mut changed = shared.changed.clone();
    loop {
        changed.borrow_and_update();
        let snapshot = shared.snapshot.load_full();
        let mut servers: Vec<_> = snapshot.master.into_iter().chain(snapshot.readers().map(|s| s.id)).collect();
        servers.dedup();
        let left = deadline.saturating_duration_since(Instant::now());
        if !servers.is_empty() || !matches!(timer::timeout(left, changed.changed()).await, Ok(Ok(()))) {
            return servers;
        }
    }
}

/// The initial schema of a login, tried at a server unless one confirmed it a moment ago.
///
/// # Errors
/// What the server says against it, or that none could be asked.
async fn enter_schema(shared: &Shared, account: &Account, session: &Session, schema: &[u8]) -> Result<(), ServerError> {
    if shared.schema_confirmed(&account.key, schema, Instant::now()) {
        return Ok(());
    }
    let servers = servers_to_ask(shared).await;
    let mut last = "no server is up; see SHOW SERVERS on the admin port".to_owned();
    for server in servers {
        let Some(pool) = shared.pools.get(server.index()) else { continue };
        let wanted = Wanted {
            key: &account.key,
            credential: &account.credential,
            collation: account.collation,
            state: &session.state,
            fresh: &account.fresh,
            attributes: &account.attributes,
            text: None,
        };
        let entering = enter_schema_at(shared, pool.checkout(wanted), account, schema);
        let given_up = given_up(shared, server);
        let entered = tokio::select! {
            biased;
            entered = entering => entered,
            reason = given_up => Err(format!("it is given up: {reason}")),
        };
        match entered {
            Ok(entered) => return entered,
            Err(error) => last = format!("{}: {error}", pool.name),
        }
    }
    let text = format!("cannot tell whether the schema '{}' may be used: {last}", String::from_utf8_lossy(schema));
    Err(server_error(errno::ER_SERVER_SHUTDOWN, &text))
}

/// The same at one server. The outer error says why that one could not be asked.
async fn enter_schema_at(
    shared: &Shared,
    checkout: impl Future<Output = Result<Lease, CheckoutError>>,
    account: &Account,
    schema: &[u8],
) -> Result<Result<(), ServerError>, String> {
    let mut lease = match checkout.await {
        Ok(lease) => lease,
        Err(CheckoutError::Connect(error)) if error.is_retryable() => return Err(error.to_string()),
        Err(CheckoutError::Connect(error)) => {
            if error.is_access_denied() {
                shared.forget_password(&account.key);
            }
            return match error {
                ConnectError::Refused(refusal) => Ok(Err(refusal)),
                error => Err(error.to_string()),
            };
        }
        Err(error) => return Err(error.to_string()),
    };
    let entered = use_schema(shared, &mut lease, schema).await?;
    let is_there = entered.is_ok() && lease.have.schema() == Some(schema);
    lease.give_back(Instant::now());
    if is_there {
        shared.confirm_schema(&account.key, schema, Instant::now());
    }
    Ok(entered)
}

/// `COM_INIT_DB`. The outer error is a connection that broke.
async fn use_schema(shared: &Shared, lease: &mut Lease, schema: &[u8]) -> Result<Result<(), ServerError>, String> {
    match lease.command(Com::InitDb, schema).await {
        Ok(()) => {
            lease.have = shared.share(Arc::new(lease.have.changed(&[Change::Schema(Some(schema.into()))])));
            Ok(Ok(()))
        }
        // The login of an expired password, which a server lets into its schema: it is entered once the password is a new one.
        Err(CommandError::Refused(payload))
            if ErrPacket::parse(&payload).is_some_and(|e| Errno(e.errno) == errno::ER_MUST_CHANGE_PASSWORD) =>
        {
            lease.tainted = true;
            Ok(Ok(()))
        }
        Err(CommandError::Refused(payload)) => {
            Ok(Err(ServerError::parse(&payload).unwrap_or_else(|_| server_error(errno::ER_BAD_DB_ERROR, "Unknown database"))))
        }
        Err(error) => Err(error.to_string()),
    }
}

impl Client {
    /// `COM_CHANGE_USER`: a new login on the same socket; the session begins anew. One that is refused is closed, as MySQL does, or
    /// goes on as the user it was, in a new session, as MariaDB does.
    pub(super) async fn change_user(&mut self, packet: &[u8]) -> Result<(), Gone> {
        let mariadb = self.shared.flavor() == Some(Flavor::MariaDb);
        if mariadb && self.failed_changes >= FAILED_CHANGES_MAX {
            return self.refuse(unknown_command(Com::ChangeUser as u8)).await;
        }
        // What is held because the login cannot be repeated is all that the old user has.
        let keep = mariadb && !self.account.login_only;
        self.release_unseen().await;
        self.forget_session();
        let peer = Peer::new(self.account.ip);
        let request = ChangeUserRequest {
            packet: packet.get(HEADER_LEN..).unwrap_or(&[]),
            capabilities: self.capabilities,
            max_packet: self.max_packet,
            nonce: self.challenge,
        };
        let stream = self.stream.take();
        let kept = match change_user(stream, &peer, request, &self.shared.login, keep).await {
            Ok(login) => {
                self.shared.metrics.logins(LoginResult::Ok).inc();
                match Box::pin(enter(self.shared.clone(), login, &peer, self.entry.clone(), keep)).await {
                    Ok(fresh) => {
                        *self = fresh;
                        return Ok(());
                    }
                    Err(kept) => kept,
                }
            }
            Err((error, kept)) => {
                self.shared.note_login_error(&error, &peer.host);
                kept
            }
        };
        self.stream = kept.ok_or(Gone)?;
        self.failed_changes += 1;
        self.show_idle();
        Ok(())
    }
}
