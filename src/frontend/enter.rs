//! From a login to a session: the account's place in the pools, the first state, the schema it wants to start in.

use std::sync::Arc;
use std::time::Instant;

use crate::auth::Credential;
use crate::backend::connection::{ALWAYS_CAPABILITIES, PoolKey, key_capabilities};
use crate::frontend::client::{Account, Client, Gone};
use crate::frontend::login::{ChangeUserRequest, First, LoggedIn, Peer, change_user, nonce};
use crate::frontend::registry::{ClientEntry, ClientState};
use crate::frontend::shared::Shared;
use crate::metrics::LoginResult;
use crate::protocol::Capabilities;
use crate::protocol::frame::HEADER_LEN;
use crate::protocol::handshake::ServerError;
use crate::session::machine::Session;
use crate::session::state::{State, charset_of_collation};
use crate::sql::lexer::{ByteCharset, LexMode};
use crate::topology::Flavor;

/// Makes a client of a login and tells it so. `None`: it was refused after all (its schema), or went away.
pub async fn enter(shared: Arc<Shared>, mut login: LoggedIn, peer: &Peer, entry: Arc<ClientEntry>) -> Option<Client> {
    let Some(known) = login.credential.take() else {
        let text = "this account's plugin lets Sluice log in once but not again; use mysql_native_password, caching_sha2_password, or a [[user]] entry";
        login.refuse(&server_error(1251, "08004", text)).await;
        return None;
    };
    if let Some(limit) = login.account.as_ref().and_then(|a| a.max_connections) {
        let mine = shared.registry.all().iter().filter(|c| *c.view.lock().user == *login.user).count();
        if mine >= limit as usize {
            let text = format!(
                "User {} has exceeded the 'max_connections' of Sluice's configuration (current value: {limit})",
                login.user
            );
            login.refuse(&server_error(1226, "42000", &text)).await;
            return None;
        }
    }
    let account = account(&shared, &login, known.credential, known.generation, peer);
    let dialect = shared.dialect();
    let ignore_space = login.capabilities.has(Capabilities::IGNORE_SPACE);
    let charset = ByteCharset::from_collation_id(login.collation);
    let lex = LexMode { charset, dialect, ignore_space, ..LexMode::default() };
    let session = Session::new(account.fresh.clone(), lex);
    if let Some(first) = login.first.take() {
        adopt(&shared, first, &account).await;
    }
    {
        let mut view = entry.view.lock();
        view.user = account.key.user.clone();
        view.tls = login.tls;
        view.state = ClientState::Idle;
        view.since = Some(Instant::now());
    }
    *entry.account.lock() = Some(account.clone());
    let schema = login.schema.take().filter(|s| !s.is_empty());
    let capabilities = login.capabilities;
    // The session exists before the OK is sent, because its schema is tried with its own connections.
    let mut session = session;
    if let Some(schema) = &schema {
        match enter_schema(&shared, &account, &session, schema.as_bytes()).await {
            Ok(()) => session.schema_at_login(schema.as_bytes()),
            Err(error) => {
                login.refuse(&error).await;
                return None;
            }
        }
    }
    session.share_state(|state| shared.share(state));
    login.accept(session.status.0).await.ok()?;
    let client = Client::new(shared, login.stream.take(), capabilities, login.max_packet, session, entry, account);
    client.show_schema();
    Some(client)
}

fn server_error(code: u16, sqlstate: &str, text: &str) -> ServerError {
    ServerError::new(code, sqlstate, format!("sluice: {text}"))
}

fn account(shared: &Shared, login: &LoggedIn, credential: Arc<Credential>, generation: u64, peer: &Peer) -> Account {
    let mariadb = shared.flavor() == Some(Flavor::MariaDb);
    let names = charset_of_collation(login.collation, mariadb);
    let named = names.as_ref().map(|(charset, collation)| (charset.as_str(), collation.as_str()));
    Account {
        key: shared.share_key(PoolKey {
            user: login.user.as_str().into(),
            generation,
            capabilities: key_capabilities(login.capabilities),
            raw_collation: if named.is_some() { 0 } else { login.collation },
        }),
        credential,
        collation: login.collation,
        fresh: shared.share(Arc::new(State::at_login(None, named))),
        ip: peer.ip,
        read_only: login.account.as_ref().is_some_and(|a| a.read_only),
        schemas: login.account.as_ref().map_or_else(|| Vec::new().into(), |a| a.schemas.clone().into()),
    }
}

/// Takes the login's connection into the pool when it is what the pool would have opened.
async fn adopt(shared: &Shared, first: First, account: &Account) {
    let wanted = ALWAYS_CAPABILITIES | account.key.capabilities;
    let relevant = crate::backend::connection::KEY_CAPABILITIES | Capabilities::SESSION_TRACK;
    let offered = first.connected.greeting.capabilities;
    let same = (first.connected.capabilities & relevant) == (wanted & offered & relevant);
    if same
        && first.connected.collation == account.collation
        && let Some(pool) = shared.pools.get(first.server.index())
    {
        pool.adopt(first.connected, &account.key, &account.fresh).await;
    }
}

/// The initial schema of a login, tried at a server unless one confirmed it a moment ago.
///
/// # Errors
/// What the server says against it, or that none could be asked.
async fn enter_schema(shared: &Shared, account: &Account, session: &Session, schema: &[u8]) -> Result<(), ServerError> {
    use crate::backend::connection::CommandError;
    use crate::backend::pool::{CheckoutError, Wanted};
    use crate::protocol::command::Com;

    let user = &account.key.user;
    if shared.schema_confirmed(user, schema, Instant::now()) {
        return Ok(());
    }
    let snapshot = shared.snapshot.load_full();
    let mut servers: Vec<_> = snapshot.master.into_iter().chain(snapshot.readers().map(|s| s.id)).collect();
    servers.dedup();
    let mut last = "no server is up; see SHOW SERVERS on the admin port".to_owned();
    for server in servers {
        let Some(pool) = shared.pools.get(server.index()) else { continue };
        let wanted = Wanted {
            key: &account.key,
            credential: &account.credential,
            collation: account.collation,
            state: &session.state,
            fresh: &account.fresh,
            text: None,
        };
        let mut lease = match pool.checkout(wanted).await {
            Ok(lease) => lease,
            Err(CheckoutError::Connect(crate::backend::ConnectError::Refused(error))) => {
                shared.forget_password(&account.key);
                return Err(error);
            }
            Err(error) => {
                last = format!("{}: {error}", pool.name);
                continue;
            }
        };
        match lease.command(Com::InitDb, schema).await {
            Ok(()) => {
                lease.have =
                    shared.share(Arc::new(lease.have.changed(&[crate::session::state::Change::Schema(Some(schema.into()))])));
                lease.give_back(Instant::now());
                shared.confirm_schema(user, schema, Instant::now());
                return Ok(());
            }
            Err(CommandError::Refused(payload)) => {
                lease.give_back(Instant::now());
                return Err(ServerError::parse(&payload).unwrap_or_else(|_| server_error(1049, "42000", "Unknown database")));
            }
            Err(error) => last = format!("{}: {error}", pool.name),
        }
    }
    let text = format!("cannot tell whether the schema '{}' may be used: {last}", String::from_utf8_lossy(schema));
    Err(server_error(1053, "08S01", &text))
}

impl Client {
    /// `COM_CHANGE_USER`: a new login on the same socket; the session begins anew.
    pub(super) async fn change_user(&mut self, packet: &[u8]) -> Result<(), Gone> {
        self.forget_session();
        let peer = Peer::new(self.account.ip);
        let request = ChangeUserRequest {
            packet: packet.get(HEADER_LEN..).unwrap_or(&[]),
            capabilities: self.capabilities,
            max_packet: self.max_packet,
            nonce: nonce().map_err(|_| Gone)?,
        };
        let stream = self.stream.take();
        let login = match change_user(stream, &peer, request, &self.shared.login).await {
            Ok(login) => login,
            Err(error) => {
                self.shared.note_login_error(&error, &peer.host);
                return Err(Gone);
            }
        };
        self.shared.metrics.logins(LoginResult::Ok).inc();
        let Some(fresh) = Box::pin(enter(self.shared.clone(), login, &peer, self.entry.clone())).await else {
            return Err(Gone);
        };
        *self = fresh;
        Ok(())
    }
}
