//! TLS towards clients.

use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use tokio_rustls::TlsAcceptor;

use crate::backend::tls::{TlsSetupError, provider, read_certs, read_key, read_roots};

/// Whether clients may, or must, use TLS (`proxy.tls.mode`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum ClientTlsMode {
    /// Not offered.
    Disabled,
    /// Offered.
    #[default]
    Preferred,
    /// Clients without it are refused, but on a unix socket, which is safe by itself (as the servers see it too).
    Required,
}

impl ClientTlsMode {
    /// The words of the configuration file.
    pub const WORDS: &'static [&'static str] = &["disabled", "preferred", "required"];

    /// The word in the configuration file.
    pub fn as_str(self) -> &'static str {
        match self {
            ClientTlsMode::Disabled => "disabled",
            ClientTlsMode::Preferred => "preferred",
            ClientTlsMode::Required => "required",
        }
    }
}

impl FromStr for ClientTlsMode {
    type Err = String;
    fn from_str(word: &str) -> Result<ClientTlsMode, String> {
        [ClientTlsMode::Disabled, ClientTlsMode::Preferred, ClientTlsMode::Required]
            .into_iter()
            .find(|mode| mode.as_str() == word)
            .ok_or_else(|| format!("`{word}` is no TLS mode for clients; there are {}", ClientTlsMode::WORDS.join(", ")))
    }
}

/// How to speak TLS with clients. Cheap to clone.
#[derive(Clone)]
pub struct ClientTls {
    /// The mode.
    pub mode: ClientTlsMode,
    acceptor: Option<TlsAcceptor>,
    without_client_ca: Option<TlsAcceptor>,
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClientTls({})", self.mode.as_str())
    }
}

impl ClientTls {
    /// Not offered.
    pub fn disabled() -> ClientTls {
        ClientTls { mode: ClientTlsMode::Disabled, acceptor: None, without_client_ca: None }
    }

    /// Reads the files and makes an acceptor. Without `cert` and `key` a self-signed certificate is made, new at each
    /// start; it hides the traffic and proves nothing. With `client_ca`, a certificate that a client shows must be signed
    /// by it, and under `required` every client in TLS must show one.
    ///
    /// # Errors
    /// See [`TlsSetupError`].
    pub fn new(
        mode: ClientTlsMode,
        cert: Option<&Path>,
        key: Option<&Path>,
        client_ca: Option<&Path>,
    ) -> Result<ClientTls, TlsSetupError> {
        let identity = match (cert, key) {
            (Some(cert), Some(key)) => Some((read_certs(cert)?, read_key(key)?)),
            (None, None) => None,
            _ => return Err(TlsSetupError::HalfIdentity),
        };
        let client_roots = client_ca.map(read_roots).transpose()?;
        if mode == ClientTlsMode::Disabled {
            return Ok(ClientTls::disabled());
        }
        let (certs, key) = identity.map_or_else(self_signed, Ok)?;
        let asks_nobody = acceptor(certs.clone(), key.clone_key(), None)?;
        let accepts = match client_roots {
            None => asks_nobody.clone(),
            Some(roots) => {
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
                let verifier = if mode == ClientTlsMode::Required { verifier } else { verifier.allow_unauthenticated() };
                let verifier = verifier.build().map_err(|e| rustls::Error::General(e.to_string()))?;
                acceptor(certs, key, Some(verifier))?
            }
        };
        Ok(ClientTls { mode, acceptor: Some(accepts), without_client_ca: Some(asks_nobody) })
    }

    /// The acceptor; `None` when TLS is not offered.
    pub fn acceptor(&self) -> Option<&TlsAcceptor> {
        self.acceptor.as_ref()
    }

    /// The same certificate for who is no client: nobody is asked for one.
    pub fn without_client_ca(&self) -> Option<&TlsAcceptor> {
        self.without_client_ca.as_ref()
    }
}

fn acceptor(
    certs: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    verifier: Option<Arc<dyn ClientCertVerifier>>,
) -> Result<TlsAcceptor, TlsSetupError> {
    let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    let builder = match verifier {
        None => builder.with_no_client_auth(),
        Some(verifier) => builder.with_client_cert_verifier(verifier),
    };
    let mut config = builder.with_single_cert(certs, key)?;
    // MySQL's clients do not resume sessions by themselves: tickets would cost every login bytes and memory.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn self_signed() -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsSetupError> {
    let failed = |e: rcgen::Error| rustls::Error::General(format!("no self-signed certificate could be made: {e}"));
    let names = vec!["localhost".to_owned(), "sluice".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).map_err(failed)?;
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).map_err(|e| rustls::Error::General(e.to_owned()))?;
    Ok((vec![made.cert.der().clone()], key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_files_a_certificate_is_made() {
        for mode in [ClientTlsMode::Preferred, ClientTlsMode::Required] {
            assert!(ClientTls::new(mode, None, None, None).expect("self-signed").acceptor().is_some());
        }
        assert!(ClientTls::new(ClientTlsMode::Disabled, None, None, None).expect("nothing to do").acceptor().is_none());
    }

    #[test]
    fn wrong_files_are_named_even_when_tls_is_off() {
        let nowhere = Path::new("/nonexistent/cert.pem");
        for mode in [ClientTlsMode::Disabled, ClientTlsMode::Preferred] {
            let half = ClientTls::new(mode, Some(nowhere), None, None).expect_err("no key");
            assert!(matches!(half, TlsSetupError::HalfIdentity));
            let missing = ClientTls::new(mode, Some(nowhere), Some(nowhere), None).expect_err("no file");
            assert!(missing.to_string().starts_with("certificate /nonexistent/cert.pem: "), "{missing}");
        }
    }

    #[test]
    fn modes_as_they_are_written() {
        for word in ClientTlsMode::WORDS {
            assert_eq!(word.parse::<ClientTlsMode>().map(ClientTlsMode::as_str), Ok(*word));
        }
        assert!("verify_ca".parse::<ClientTlsMode>().expect_err("not for clients").contains("preferred"));
    }
}
