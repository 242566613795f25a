//! The states of [`Exchange`].

use std::sync::Arc;

use zeroize::Zeroizing;

use super::{Accepted, Action, Event, Ground, Probed, Start, Verdict};
use crate::auth::accounts::access_denied;
use crate::auth::caching_sha2::{FULL_NEEDED, REQUEST_KEY};
use crate::auth::credential::Stage1;
use crate::auth::secret::PASSWORD_LEN_MAX;
use crate::auth::{Credential, Plugin, Secret, native_password};
use crate::protocol::errno::{self, Errno};
use crate::protocol::handshake::{AUTH_MORE_DATA, AuthSwitchRequest, NONCE_LEN, ServerError};

/// Errors that speak of the account itself, not of the server's state: they end a login that was proved locally.
/// Access denied (two kinds), locked (MySQL, MariaDB), expired, plugin trouble.
const ABOUT_THE_ACCOUNT: &[Errno] = &[
    errno::ER_ACCESS_DENIED_ERROR,
    errno::ER_ACCESS_DENIED_NO_PASSWORD_ERROR,
    errno::ER_ACCOUNT_HAS_BEEN_LOCKED,
    errno::ER_MARIADB_ACCOUNT_HAS_BEEN_LOCKED,
    errno::ER_MUST_CHANGE_PASSWORD_LOGIN,
    errno::ER_NOT_SUPPORTED_AUTH_MODE,
    errno::ER_PLUGIN_IS_NOT_LOADED,
];

/// MariaDB's successor of `ed25519`: a signature too, which needs no TLS.
const PARSEC: &str = "parsec";

/// One client's login.
#[derive(Debug)]
pub struct Exchange {
    start: Start,
    /// The client's plugin, when it is one of ours.
    plugin: Option<Plugin>,
    state: State,
}

#[derive(Debug)]
enum State {
    Begin,
    /// AuthSwitchRequest is sent, to check the answer against what is known.
    SwitchedForKnown,
    /// A server is being asked for the account's plugin.
    Probing,
    /// AuthSwitchRequest to `mysql_native_password` with the server's challenge is sent.
    SwitchedForServer {
        nonce: [u8; NONCE_LEN],
    },
    /// The server judges the client's own answer.
    Judging {
        nonce: [u8; NONCE_LEN],
        answer: Vec<u8>,
    },
    /// The server accepted; its hash of the password is being read.
    ReadingHash {
        nonce: [u8; NONCE_LEN],
        answer: Vec<u8>,
    },
    /// Client and server speak with each other.
    PassedOn,
    /// AuthSwitchRequest to `caching_sha2_password` is sent, to get at the password.
    SwitchedForPassword,
    /// "Send the password" is sent.
    FullAsked,
    /// The public key is sent.
    KeySent,
    Decrypting,
    /// A server judges the password the client gave.
    Learning {
        credential: Arc<Credential>,
    },
    /// A server is asked whether what is known still counts; the client has proved that it knows it.
    Confirming {
        known: Arc<Credential>,
        fast: bool,
    },
    Over,
}

impl Exchange {
    /// A login that has not begun, and the first thing to do.
    pub fn begin(start: Start) -> (Exchange, Action) {
        // Without a name the client answered as MySQL 4.1 did.
        let named = if start.plugin.is_empty() { Plugin::Native.name() } else { &start.plugin };
        let plugin = Plugin::from_name(named);
        let mut exchange = Exchange { start, plugin, state: State::Begin };
        let action = exchange.first();
        (exchange, action)
    }

    fn first(&mut self) -> Action {
        let Some(known) = self.start.known.clone() else {
            return if self.start.ask_servers { self.probe() } else { self.deny() };
        };
        match self.fits(&known) {
            Some(true) => self.proved(known),
            // The password may have been changed, or an account may have two: only a server can refuse.
            Some(false) if self.start.ask_servers => self.probe(),
            Some(false) => self.deny(),
            // With SHA1(password) alone a switch would be spent on a check that settles nothing when it fails.
            None if matches!(*known, Credential::NativeStage1(_)) => self.probe(),
            None if self.start.can_switch => {
                // When servers decide, `caching_sha2_password` it is: from there the password can still be asked for.
                let native = !self.start.ask_servers && self.plugin == Some(Plugin::Native);
                let plugin = if native { Plugin::Native } else { Plugin::CachingSha2 };
                self.plugin = Some(plugin);
                self.state = State::SwitchedForKnown;
                self.switch(plugin, self.start.nonce)
            }
            None => self.refuse(cannot_switch(Plugin::CachingSha2)),
        }
    }

    /// Takes what happened. An event that does not belong to the state ends the login.
    pub fn step(&mut self, event: Event<'_>) -> Action {
        match (std::mem::replace(&mut self.state, State::Over), event) {
            (State::SwitchedForKnown, Event::Client(answer)) => {
                self.start.answer = Some(Zeroizing::new(answer.to_vec()));
                match self.start.known.clone() {
                    Some(known) if self.fits(&known) == Some(true) => self.proved(known),
                    _ if self.start.ask_servers => self.ask_password(),
                    _ => self.deny(),
                }
            }
            (State::Probing, Event::Probed(probed)) => self.probed(probed),
            (State::SwitchedForServer { nonce }, Event::Client(answer)) => {
                // Some clients write the empty answer as a single NUL.
                let answer = if answer == [0] { &[] } else { answer };
                // A server takes 20 bytes or none here. Anything else would count against our own host there.
                if !matches!(answer.len(), 0 | NONCE_LEN) {
                    return self.refuse(bad_handshake("a native answer has 20 bytes"));
                }
                self.state = State::Judging { nonce, answer: answer.to_vec() };
                Action::Relay(answer.to_vec())
            }
            (State::Judging { nonce, answer }, Event::Verdict(verdict)) => match verdict {
                Verdict::Accepted if answer.is_empty() => self.accept(Some(Arc::new(Credential::None)), false, true),
                Verdict::Accepted => {
                    self.state = State::ReadingHash { nonce, answer };
                    Action::ReadAccount
                }
                other => self.refused_by(other),
            },
            (State::PassedOn, Event::Verdict(verdict)) => match verdict {
                Verdict::Accepted => self.accept(None, false, true),
                other => self.refused_by(other),
            },
            (State::ReadingHash { nonce, answer }, Event::Account(statement)) => {
                let mut hashes = native_password::stage2_in_create_user(statement.as_deref().unwrap_or_default());
                let stage1 = hashes.find_map(|stage2| native_password::recover(&answer, &nonce, &stage2));
                self.accept(stage1.map(|s| Arc::new(Credential::NativeStage1(Stage1::new(s)))), false, true)
            }
            (State::SwitchedForPassword, Event::Client(answer)) => {
                self.plugin = Some(Plugin::CachingSha2);
                self.start.answer = Some(Zeroizing::new(answer.to_vec()));
                self.ask_password()
            }
            (State::FullAsked, Event::Client(packet)) => self.full_answer(packet),
            (State::KeySent, Event::Client(encrypted)) => {
                self.state = State::Decrypting;
                Action::Decrypt { encrypted: encrypted.to_vec(), nonce: self.start.nonce }
            }
            (State::Decrypting, Event::Decrypted(Ok(password))) => self.learn(password),
            (State::Decrypting, Event::Decrypted(Err(_))) => self.deny(),
            (State::Learning { credential }, Event::Verdict(verdict)) => match verdict {
                Verdict::Accepted => self.accept(Some(credential), false, true),
                other => self.refused_by(other),
            },
            (State::Confirming { known, fast }, Event::Verdict(verdict)) => self.confirmed(known, fast, verdict),
            (state, event) => {
                debug_assert!(false, "{event:?} in {state:?}");
                self.refuse(bad_handshake("the login is over"))
            }
        }
    }

    /// Whether the client's answer shows that it knows the credential. `None` when it cannot be told from this answer.
    fn fits(&self, known: &Credential) -> Option<bool> {
        let answer = self.answer()?;
        match self.plugin? {
            _ if answer.is_empty() => Some(*known == Credential::None),
            Plugin::Native => Some(known.verify_native(&self.start.nonce, answer)),
            Plugin::CachingSha2 => known.verify_caching_sha2(&self.start.nonce, answer),
            Plugin::Sha256 | Plugin::Ed25519 | Plugin::Clear => None,
        }
    }

    /// The answer to our challenge; the SHA-256 plugins write the empty one as a single NUL.
    fn answer(&self) -> Option<&[u8]> {
        match (self.plugin, self.start.answer.as_ref()?.as_slice()) {
            (Some(Plugin::CachingSha2 | Plugin::Sha256), [0]) => Some(&[]),
            (_, answer) => Some(answer),
        }
    }

    /// The client knows what is known.
    fn proved(&mut self, known: Arc<Credential>) -> Action {
        let fast = self.plugin == Some(Plugin::CachingSha2) && self.answer().is_some_and(|a| !a.is_empty());
        if self.start.confirm || self.start.borrowed {
            self.state = State::Confirming { known: known.clone(), fast };
            return Action::LogIn(known);
        }
        self.accept(Some(known), fast, false)
    }

    fn confirmed(&mut self, known: Arc<Credential>, fast: bool, verdict: Verdict) -> Action {
        match verdict {
            Verdict::Accepted => self.accept(Some(known), fast, true),
            Verdict::Refused(error) if ABOUT_THE_ACCOUNT.contains(&Errno(error.code)) => {
                Action::Refuse { error, ground: Ground::Stale }
            }
            Verdict::Refused(_) | Verdict::Unreachable(_) if self.start.borrowed => self.refused_by(verdict),
            // The server is full, gone or out of order: that is no reason to doubt a password that was right a while ago.
            Verdict::Refused(_) | Verdict::Unreachable(_) => self.accept(Some(known), fast, false),
            // The account has another plugin now. After the fast exchange the full one can follow, a switch cannot.
            Verdict::Unfit(_) if self.plugin == Some(Plugin::CachingSha2) => self.ask_password(),
            Verdict::Unfit(_) => self.probe(),
        }
    }

    fn probe(&mut self) -> Action {
        self.state = State::Probing;
        Action::Probe
    }

    fn probed(&mut self, probed: Probed) -> Action {
        let (name, nonce, shows_hash, server_secure) = match probed {
            Probed::Switch { plugin, nonce, shows_hash, secure } => (plugin, nonce, shows_hash, secure),
            Probed::Open => return self.accept(Some(Arc::new(Credential::None)), false, false),
            Probed::Refused(error) => return self.refuse(error),
            Probed::Unreachable(why) => return self.no_server(&why),
        };
        match (Plugin::from_name(&name), nonce) {
            // The empty answer fits any challenge. Asked once more, sqlx would scramble the empty password.
            (Some(Plugin::Native), Some(nonce))
                if self.plugin == Some(Plugin::Native) && self.answer().is_some_and(<[u8]>::is_empty) =>
            {
                self.state = State::Judging { nonce, answer: Vec::new() };
                Action::Relay(Vec::new())
            }
            // A library that leads with `caching_sha2_password` may have the old plugin no longer: MySQL's of 9.x loads it from a
            // file, where there is one. Inside TLS nothing speaks against asking it in its own plugin.
            (Some(Plugin::Native), Some(_)) if self.start.secure && self.plugin == Some(Plugin::CachingSha2) => self.ask_password(),
            // A client without switches has this plugin alone, and gives no password: where the hash stays hidden its login is carried. Some
            // that do not say so follow a switch all the same (`mysql` of Node.js). The others would be refused.
            (Some(Plugin::Native), Some(nonce)) if (shows_hash || !self.start.can_switch) && !self.start.keeps_challenge => {
                self.state = State::SwitchedForServer { nonce };
                self.switch(Plugin::Native, nonce)
            }
            (Some(Plugin::Native), _) if !self.start.can_switch => self.refuse(cannot_switch(Plugin::Native)),
            // Inside TLS the client may be asked for the password, and then everything works as with other plugins. Without TLS this
            // plugin's users trust that nobody gets at it.
            (Some(Plugin::Ed25519), _) if !self.start.secure && self.start.can_switch => self.pass_on(),
            (Some(_), _) => self.ask_password(),
            (None, _) if !self.start.can_switch => self.refuse(cannot_switch_to(&name)),
            // Some of these send passwords as they are, and the client may do so because it sees TLS.
            (None, _) if self.start.secure && !server_secure && name != PARSEC => self.refuse(ServerError::new(
                errno::ER_NOT_SUPPORTED_AUTH_MODE,
                format!(
                    "sluice: the account '{}' uses the authentication plugin {name}, which is carried to the server over TLS only; \
                     set tls.mode of its [[server]]",
                    self.start.user
                ),
            )),
            (None, _) => self.pass_on(),
        }
    }

    fn pass_on(&mut self) -> Action {
        self.state = State::PassedOn;
        Action::PassOn
    }

    /// Gets at the password: from what the client has sent, by going on with the exchange it is in, or by a switch.
    fn ask_password(&mut self) -> Action {
        match (self.plugin, self.answer()) {
            // The empty answer of any plugin says that there is no password.
            (Some(_), Some([])) => self.learn(Secret::new(Vec::new())),
            (Some(Plugin::Clear), Some(text)) if self.start.secure => {
                let password = Secret::new(text.strip_suffix(&[0]).unwrap_or(text));
                self.learn(password)
            }
            (Some(Plugin::CachingSha2), Some(_)) => {
                self.state = State::FullAsked;
                Action::Ask(vec![AUTH_MORE_DATA, FULL_NEEDED])
            }
            _ if self.start.can_switch => {
                self.state = State::SwitchedForPassword;
                self.switch(Plugin::CachingSha2, self.start.nonce)
            }
            _ => self.refuse(cannot_switch(Plugin::CachingSha2)),
        }
    }

    fn full_answer(&mut self, packet: &[u8]) -> Action {
        match packet {
            // In TLS a client sends its password at once; a password of one 0x02 byte still has its NUL.
            [REQUEST_KEY] => {
                self.state = State::KeySent;
                Action::SendKey
            }
            text if self.start.secure => match text {
                [password @ .., 0] => self.learn(Secret::new(password)),
                _ => self.refuse(bad_handshake("the password is not terminated")),
            },
            // Encrypted with a key the client has on file: not ours, unless it kept ours.
            encrypted => {
                self.state = State::Decrypting;
                Action::Decrypt { encrypted: encrypted.to_vec(), nonce: self.start.nonce }
            }
        }
    }

    fn learn(&mut self, password: Secret) -> Action {
        if password.expose().len() > PASSWORD_LEN_MAX || password.expose().contains(&0) {
            return self.deny();
        }
        let credential = Arc::new(Credential::from_password(password));
        self.state = State::Learning { credential: credential.clone() };
        Action::LogIn(credential)
    }

    fn switch(&self, plugin: Plugin, nonce: [u8; NONCE_LEN]) -> Action {
        let mut data = nonce.to_vec();
        data.push(0);
        let mut packet = Vec::with_capacity(48);
        AuthSwitchRequest { plugin: plugin.name().to_owned(), data }.write(&mut packet);
        Action::Ask(packet)
    }

    fn accept(&self, credential: Option<Arc<Credential>>, fast: bool, confirmed: bool) -> Action {
        Action::Accept(Accepted { credential, fast, confirmed })
    }

    fn refused_by(&self, verdict: Verdict) -> Action {
        match verdict {
            Verdict::Refused(error) => self.refuse(error),
            Verdict::Unreachable(why) => self.no_server(&why),
            Verdict::Unfit(why) => {
                let text = format!("sluice: cannot log in as '{}' at the server: {why}", self.start.user);
                self.refuse(ServerError::new(errno::ER_NOT_SUPPORTED_AUTH_MODE, text))
            }
            Verdict::Accepted => self.refuse(bad_handshake("the login is over")),
        }
    }

    /// ER_SERVER_SHUTDOWN, which drivers take for a lost connection and try again. The number that says it better, 2003,
    /// is a client's own: MariaDB's library takes an ERR packet with such a number for malformed.
    fn no_server(&self, why: &str) -> Action {
        let text = format!("sluice: no server can be asked whether '{}' may log in: {why}", self.start.user);
        Action::Refuse { error: ServerError::new(errno::ER_SERVER_SHUTDOWN, text), ground: Ground::NoServer }
    }

    fn refuse(&self, error: ServerError) -> Action {
        Action::Refuse { error, ground: Ground::Judged }
    }

    fn deny(&self) -> Action {
        let used_password = self.answer().is_none_or(|a| !a.is_empty());
        self.refuse(access_denied(&self.start.user, &self.start.host, used_password))
    }
}

fn bad_handshake(why: &str) -> ServerError {
    ServerError::new(errno::ER_HANDSHAKE_ERROR, format!("Bad handshake: {why}"))
}

fn cannot_switch(plugin: Plugin) -> ServerError {
    cannot_switch_to(plugin.name())
}

fn cannot_switch_to(plugin: &str) -> ServerError {
    let text = format!(
        "Client does not support authentication protocol requested by server; {plugin} is needed; consider upgrading the client"
    );
    ServerError::new(errno::ER_NOT_SUPPORTED_AUTH_MODE, text)
}
