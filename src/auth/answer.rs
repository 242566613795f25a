//! Sluice as the one who logs in: which packet answers which packet of a server. I/O is the caller's.

use zeroize::Zeroizing;

use super::caching_sha2::{FAST_OK, FULL_NEEDED, REQUEST_KEY, SHA256_REQUEST_KEY};
use super::rsa::{self, RsaError};
use super::{Credential, Plugin, Secret};
use crate::protocol::handshake::{AUTH_MORE_DATA, AuthSwitchRequest, Malformed, NONCE_LEN, ServerError};

/// How many times a server may switch the plugin in one login. Honest ones do it once.
pub const SWITCHES_MAX: u8 = 4;
/// How many packets a server may send in one login. The longest honest login has six.
pub const PACKETS_MAX: u8 = 16;

const NO_CHALLENGE: Malformed = Malformed { field: "authentication switch", why: "it carries no challenge" };

/// What comes after a server's packet.
#[derive(Debug)]
pub enum Step {
    /// Send this and read on.
    Send(Zeroizing<Vec<u8>>),
    /// Nothing to send; read on.
    Wait,
    /// Logged in; this was the OK packet.
    Done,
    /// The server refused.
    Refused(ServerError),
}

/// Why a login cannot go on, other than the server refusing it.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AnswerError {
    /// The account wants a plugin that is not spoken here.
    #[error("the account uses the authentication plugin {0}, which is not supported")]
    PluginNotSupported(String),
    /// The password would have to be sent in the clear, and the connection is not safe.
    #[error("{0} needs the password, which is only sent over TLS or a unix socket")]
    NotSecure(Plugin),
    /// Only SHA1(password) is known, and the plugin needs more.
    #[error("the account uses {0}, for which the password itself must be known")]
    PasswordUnknown(Plugin),
    /// The server's public key cannot be used.
    #[error(transparent)]
    Rsa(#[from] RsaError),
    /// The server does not follow the protocol.
    #[error(transparent)]
    Malformed(#[from] Malformed),
}

/// One login at a server.
#[derive(Debug)]
pub struct Answerer<'a> {
    credential: &'a Credential,
    secure: bool,
    plugin: Plugin,
    nonce: [u8; NONCE_LEN],
    switches: u8,
    packets: u8,
    waits_for_key: bool,
}

impl<'a> Answerer<'a> {
    /// Begins with what the server's greeting says. `secure`: TLS or a unix socket, where a password may be sent as it is.
    pub fn new(credential: &'a Credential, secure: bool, greeted_plugin: &str, nonce: [u8; NONCE_LEN]) -> Answerer<'a> {
        // The greeting names the server's default; the account's own may differ, and then the server switches. SHA1(password)
        // is good for the native plugin alone, so try nothing else with it.
        let plugin = match (Plugin::from_name(greeted_plugin), credential) {
            (_, Credential::NativeStage1(_)) => Plugin::Native,
            (Some(Plugin::CachingSha2), _) => Plugin::CachingSha2,
            _ => Plugin::Native,
        };
        Answerer { credential, secure, plugin, nonce, switches: 0, packets: 0, waits_for_key: false }
    }

    /// The plugin's name and the answer for the handshake response.
    pub fn first(&self) -> (&'static str, Zeroizing<Vec<u8>>) {
        let answer = match self.plugin {
            Plugin::CachingSha2 => self.credential.caching_sha2_answer(&self.nonce).unwrap_or_default(),
            _ => self.credential.native_answer(&self.nonce),
        };
        (self.plugin.name(), Zeroizing::new(answer))
    }

    /// Takes a packet of the server.
    ///
    /// # Errors
    /// See [`AnswerError`]. After one the connection is of no use.
    pub fn step(&mut self, packet: &[u8]) -> Result<Step, AnswerError> {
        const FIELD: &str = "login reply";
        self.packets += 1;
        if self.packets > PACKETS_MAX {
            return Err(Malformed { field: FIELD, why: "the server sends packet after packet" }.into());
        }
        match packet.split_first() {
            Some((0x00, _)) => Ok(Step::Done),
            Some((&ServerError::HEADER, _)) => Ok(Step::Refused(ServerError::parse(packet)?)),
            Some((&AuthSwitchRequest::HEADER, _)) => self.switch(AuthSwitchRequest::parse(packet)?),
            Some((&AUTH_MORE_DATA, data)) => self.more(data),
            _ => Err(Malformed { field: FIELD, why: "no packet that belongs into a login" }.into()),
        }
    }

    fn switch(&mut self, request: AuthSwitchRequest) -> Result<Step, AnswerError> {
        self.switches += 1;
        if self.switches > SWITCHES_MAX {
            return Err(Malformed { field: "authentication switch", why: "the server switches again and again" }.into());
        }
        self.plugin = Plugin::from_name(&request.plugin).ok_or(AnswerError::PluginNotSupported(request.plugin.clone()))?;
        self.waits_for_key = false;
        if !matches!(self.plugin, Plugin::Clear | Plugin::Ed25519) {
            self.nonce = request.nonce().ok_or(NO_CHALLENGE)?;
        }
        let answer = match self.plugin {
            Plugin::Native => self.credential.native_answer(&self.nonce),
            Plugin::CachingSha2 => {
                self.credential.caching_sha2_answer(&self.nonce).ok_or(AnswerError::PasswordUnknown(self.plugin))?
            }
            Plugin::Ed25519 => {
                let challenge = request.data.first_chunk().ok_or(NO_CHALLENGE)?;
                self.credential.ed25519_answer(challenge).ok_or(AnswerError::PasswordUnknown(self.plugin))?
            }
            Plugin::Sha256 => return self.send_password(SHA256_REQUEST_KEY),
            Plugin::Clear if self.secure => return self.clear(),
            Plugin::Clear => return Err(AnswerError::NotSecure(self.plugin)),
        };
        Ok(Step::Send(Zeroizing::new(answer)))
    }

    fn more(&mut self, data: &[u8]) -> Result<Step, AnswerError> {
        match (self.plugin, data) {
            (Plugin::CachingSha2 | Plugin::Sha256, pem) if self.waits_for_key => {
                self.waits_for_key = false;
                let encrypted = rsa::encrypt_password(self.password()?, &self.nonce, pem)?;
                Ok(Step::Send(Zeroizing::new(encrypted)))
            }
            (Plugin::CachingSha2, [FAST_OK]) => Ok(Step::Wait),
            (Plugin::CachingSha2, [FULL_NEEDED]) => self.send_password(REQUEST_KEY),
            _ => Err(Malformed { field: "AuthMoreData", why: "the plugin has no such packet" }.into()),
        }
    }

    /// Sends the password where that is safe, else asks for the key to encrypt it with.
    fn send_password(&mut self, key_request: u8) -> Result<Step, AnswerError> {
        if self.secure || matches!(self.credential, Credential::None) {
            return self.clear();
        }
        self.waits_for_key = true;
        Ok(Step::Send(Zeroizing::new(vec![key_request])))
    }

    /// The password and its NUL.
    fn clear(&self) -> Result<Step, AnswerError> {
        let password: &[u8] = match self.credential {
            Credential::None => &[],
            _ => self.password()?.expose(),
        };
        let mut text = Zeroizing::new(Vec::with_capacity(password.len() + 1));
        text.extend_from_slice(password);
        text.push(0);
        Ok(Step::Send(text))
    }

    fn password(&self) -> Result<&'a Secret, AnswerError> {
        match self.credential {
            Credential::Password(p) => Ok(p),
            _ => Err(AnswerError::PasswordUnknown(self.plugin)),
        }
    }
}

#[cfg(test)]
mod tests;
