//! TLS towards servers: the five modes of MySQL's `--ssl-mode`.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio_rustls::TlsConnector;

use crate::protocol::proxy_header;

/// Where Linux distributions keep the certificate authorities they trust, tried in this order when no `ca` is given.
const SYSTEM_CA_FILES: &[&str] =
    &["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem"];

/// Whether a connection to a server uses TLS, and what is checked (MySQL manual, `--ssl-mode`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum TlsMode {
    /// Never.
    Disabled,
    /// When the server offers it; any certificate will do.
    #[default]
    Preferred,
    /// Always; any certificate will do.
    Required,
    /// Always, and the certificate must be signed by the authority.
    VerifyCa,
    /// Always, signed by the authority, and made for the host name that was asked for.
    VerifyIdentity,
}

impl TlsMode {
    /// The words of the configuration file.
    pub const WORDS: &'static [&'static str] = &["disabled", "preferred", "required", "verify_ca", "verify_identity"];

    /// The word in the configuration file.
    pub fn as_str(self) -> &'static str {
        match self {
            TlsMode::Disabled => "disabled",
            TlsMode::Preferred => "preferred",
            TlsMode::Required => "required",
            TlsMode::VerifyCa => "verify_ca",
            TlsMode::VerifyIdentity => "verify_identity",
        }
    }

    /// Whether a connection without TLS is refused.
    pub fn is_mandatory(self) -> bool {
        !matches!(self, TlsMode::Disabled | TlsMode::Preferred)
    }
}

impl FromStr for TlsMode {
    type Err = String;
    fn from_str(word: &str) -> Result<TlsMode, String> {
        [TlsMode::Disabled, TlsMode::Preferred, TlsMode::Required, TlsMode::VerifyCa, TlsMode::VerifyIdentity]
            .into_iter()
            .find(|mode| mode.as_str() == word)
            .ok_or_else(|| format!("`{word}` is no TLS mode; there are {}", TlsMode::WORDS.join(", ")))
    }
}

impl fmt::Display for TlsMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A key, certificate or authority that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsSetupError {
    /// A file cannot be read, or holds no such thing.
    #[error("{what} {}: {why}", path.display())]
    File {
        /// What the file should hold.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A verifying mode without any authority to verify with.
    #[error("no `ca` is given and this system has no list of trusted authorities ({})", SYSTEM_CA_FILES.join(", "))]
    NoAuthority,
    /// `cert` without `key`, or the other way round.
    #[error("`cert` and `key` belong together; only one is given")]
    HalfIdentity,
    /// rustls refuses the parts (a key that does not belong to the certificate).
    #[error(transparent)]
    Rustls(#[from] rustls::Error),
}

/// What stands around the protocol towards one server: TLS, and a PROXY header before it. Cheap to clone.
#[derive(Clone)]
pub struct ServerTls {
    /// The mode.
    pub mode: TlsMode,
    /// The PROXY header that tells the server whom a connection is for; `None`: none is sent.
    pub proxy_header: Option<proxy_header::Version>,
    connector: Option<TlsConnector>,
    /// The authorities of the file it was told.
    authorities: Arc<[CertificateDer<'static>]>,
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServerTls({})", self.mode)
    }
}

impl ServerTls {
    /// Never TLS.
    pub fn disabled() -> ServerTls {
        ServerTls { mode: TlsMode::Disabled, proxy_header: None, connector: None, authorities: Arc::default() }
    }

    /// The same, but never TLS.
    #[must_use]
    pub fn without_tls(&self) -> ServerTls {
        ServerTls { proxy_header: self.proxy_header, ..ServerTls::disabled() }
    }

    /// The same, with that PROXY header in front.
    #[must_use]
    pub fn with_proxy_header(mut self, version: Option<proxy_header::Version>) -> ServerTls {
        self.proxy_header = version;
        self
    }

    /// Reads the files and makes a connector. `ca`: PEM file of authorities (default: the system's, for the modes that
    /// verify); `identity`: PEM files of certificate and key that Sluice shows to the server.
    ///
    /// # Errors
    /// See [`TlsSetupError`].
    pub fn new(mode: TlsMode, ca: Option<&Path>, cert: Option<&Path>, key: Option<&Path>) -> Result<ServerTls, TlsSetupError> {
        let identity = match (cert, key) {
            (Some(cert), Some(key)) => Some((read_certs(cert)?, read_key(key)?)),
            (None, None) => None,
            _ => return Err(TlsSetupError::HalfIdentity),
        };
        let provider = provider();
        let authorities: Arc<[_]> = ca.map(read_certs).transpose()?.unwrap_or_default().into();
        let roots = match (mode, ca) {
            (TlsMode::VerifyCa | TlsMode::VerifyIdentity, None) => Some(system_roots()?),
            (_, Some(ca)) => Some(roots_of(ca, authorities.to_vec())?),
            _ => None,
        };
        if mode == TlsMode::Disabled {
            return Ok(ServerTls::disabled());
        }
        let builder = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
        let builder = match (mode, roots) {
            (TlsMode::VerifyIdentity, Some(roots)) => builder.with_root_certificates(roots),
            (mode, roots) => {
                let roots = roots.filter(|_| mode == TlsMode::VerifyCa);
                builder.dangerous().with_custom_certificate_verifier(Arc::new(ChainOnly { provider, roots }))
            }
        };
        let mut config = match identity {
            Some((certs, key)) => builder.with_client_auth_cert(certs, key)?,
            None => builder.with_no_client_auth(),
        };
        // Pooled connections live long; tickets would only be kept and never used.
        config.resumption = rustls::client::Resumption::disabled();
        Ok(ServerTls { mode, proxy_header: None, connector: Some(TlsConnector::from(Arc::new(config))), authorities })
    }

    /// Whether the file of authorities held the same when both were made.
    pub fn trusts_as(&self, other: &ServerTls) -> bool {
        self.authorities == other.authorities
    }

    /// The connector; `None` when the mode is `disabled`.
    pub fn connector(&self) -> Option<&TlsConnector> {
        self.connector.as_ref()
    }
}

/// Checks the chain when it has authorities and nothing when it has none; never the name.
#[derive(Debug)]
struct ChainOnly {
    provider: Arc<CryptoProvider>,
    roots: Option<RootCertStore>,
}

impl ServerCertVerifier for ChainOnly {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if let Some(roots) = &self.roots {
            let algorithms = self.provider.signature_verification_algorithms.all;
            verify_server_cert_signed_by_trust_anchor(
                &ParsedCertificate::try_from(end_entity)?,
                roots,
                intermediates,
                now,
                algorithms,
            )?;
        }
        Ok(ServerCertVerified::assertion())
    }

    // The peer must always prove that it owns the certificate it shows.
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// The cryptography, named explicitly: a process-wide default would depend on which crate set it first.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn file_error(what: &'static str, path: &Path, why: impl ToString) -> TlsSetupError {
    TlsSetupError::File { what, path: path.to_owned(), why: why.to_string() }
}

/// The certificates of a PEM file, the first one being the holder's.
pub(crate) fn read_certs(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsSetupError> {
    const WHAT: &str = "certificate";
    let error = |why: String| file_error(WHAT, path, why);
    let certs: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).map_err(|e| error(pem_error(&e)))?.collect();
    let certs = certs.map_err(|e| error(pem_error(&e)))?;
    if certs.is_empty() { Err(error("the file holds no certificate in PEM".to_owned())) } else { Ok(certs) }
}

/// The first private key of a PEM file.
pub(crate) fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsSetupError> {
    PrivateKeyDer::from_pem_file(path).map_err(|e| file_error("private key", path, pem_error(&e)))
}

/// The authorities of a PEM file.
pub(crate) fn read_roots(path: &Path) -> Result<RootCertStore, TlsSetupError> {
    roots_of(path, read_certs(path)?)
}

fn roots_of(path: &Path, certs: Vec<CertificateDer<'static>>) -> Result<RootCertStore, TlsSetupError> {
    let mut roots = RootCertStore::empty();
    let (added, ignored) = roots.add_parsable_certificates(certs);
    if added == 0 {
        return Err(file_error("certificate authority", path, format!("none of its {ignored} certificates can be used")));
    }
    Ok(roots)
}

fn system_roots() -> Result<RootCertStore, TlsSetupError> {
    let file = SYSTEM_CA_FILES.iter().map(Path::new).find(|p| p.exists()).ok_or(TlsSetupError::NoAuthority)?;
    read_roots(file)
}

fn pem_error(e: &rustls::pki_types::pem::Error) -> String {
    match e {
        rustls::pki_types::pem::Error::NoItemsFound => "nothing of that kind is in it (PEM is expected)".to_owned(),
        other => other.to_string(),
    }
}
