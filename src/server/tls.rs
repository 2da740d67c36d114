//! TLS: the certificate that the server shows, the ones that it asks for, and reading them again while it runs.
//!
//! rustls with ring, versions 1.2 and 1.3, and HTTP/1.1 as the only protocol, which is what the loop in `connection.rs`
//! speaks. The files are PEM. No error repeats what a file says, since one of them is a private key.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use rustls::{
    Error, InconsistentKeys, RootCertStore, ServerConfig,
    crypto::{CryptoProvider, ring},
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject},
    },
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
    sign::{CertifiedKey, SingleCertAndKey},
};
use tokio_rustls::TlsAcceptor;

/// Bytes of a PEM file. Default 1 MiB, which holds all the root certificates that browsers trust.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// What a client may ask for in the handshake.
const PROTOCOL: &[u8] = b"http/1.1";

/// Where certificates and keys are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The server's certificate, and behind it those that lead to a root which clients trust.
    pub cert: PathBuf,
    /// The private key of the server's certificate, not encrypted.
    pub key: PathBuf,
    /// Certificates of the authorities that sign for clients; with it, nobody gets in without a certificate of theirs.
    pub client_ca: Option<PathBuf>,
}

/// What handshakes are made with, which may be read again while the server runs.
#[derive(Debug)]
pub struct Tls {
    files: TlsFiles,
    config: RwLock<Arc<ServerConfig>>,
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// [`TlsError`], naming the file.
    pub fn open(files: TlsFiles) -> Result<Self, TlsError> {
        let config = RwLock::new(Arc::new(read(&files)?));
        Ok(Self { files, config })
    }

    /// Reads the files again, for the connections to come; those that are open go on. Whoever has been here before has
    /// to show a certificate again, as no session of theirs is resumed.
    ///
    /// # Errors
    /// [`TlsError`]; everything is then as it was.
    pub fn reload(&self) -> Result<(), TlsError> {
        let config = Arc::new(read(&self.files)?);
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = config;
        Ok(())
    }

    /// Makes handshakes by the files as they were last read.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        self.config.read().unwrap_or_else(PoisonError::into_inner).clone().into()
    }
}

/// Why the server cannot speak TLS with these files.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// A file is larger than any list of certificates.
    #[error("{} has more than {limit} bytes, which is all that is read of certificates and keys", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Bytes that are read.
        limit: u64,
    },
    /// A file is not PEM.
    #[error("{} is not PEM: {reason}", path.display())]
    NotPem {
        /// The file.
        path: PathBuf,
        /// What is wrong; never what the file says.
        reason: &'static str,
    },
    /// A file that should hold certificates holds none.
    #[error("there is no certificate in {}: no line says BEGIN CERTIFICATE", path.display())]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// The file that should hold a private key holds none.
    #[error("there is no private key in {} that can be read; an encrypted one cannot", path.display())]
    NoKey {
        /// The file.
        path: PathBuf,
    },
    /// A certificate cannot be used.
    #[error("a certificate in {} cannot be used: {source}", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What rustls said.
        #[source]
        source: Error,
    },
    /// The private key is of a kind that cannot be used.
    #[error("the private key in {} cannot be used: it has to be RSA of 2048 bits or more, ECDSA or Ed25519", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// What rustls said.
        #[source]
        source: Error,
    },
    /// The private key belongs to another certificate.
    #[error("the private key in {} is not that of the first certificate in {}", key.display(), cert.display())]
    Mismatch {
        /// The file with the key.
        key: PathBuf,
        /// The file with the certificate.
        cert: PathBuf,
    },
    /// rustls cannot be set up as this module does it.
    #[error("TLS cannot be set up: {reason}")]
    Setup {
        /// What rustls said.
        reason: String,
    },
}

fn read(files: &TlsFiles) -> Result<ServerConfig, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let shown = certified(files, &provider)?;
    let asked = files.client_ca.as_deref().map(|path| client_verifier(path, &provider)).transpose()?;
    let builder = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(|error| TlsError::Setup { reason: error.to_string() })?;
    let builder = match asked {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(shown)));
    config.alpn_protocols = vec![PROTOCOL.into()];
    Ok(config)
}

/// The server's certificate with its key, which belong together.
fn certified(files: &TlsFiles, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
    let chain = certificates(&files.cert)?;
    let text = read_file(&files.key)?;
    let key = PrivateKeyDer::from_pem_slice(&text).map_err(|error| match error {
        pem::Error::NoItemsFound => TlsError::NoKey { path: files.key.clone() },
        error => not_pem(&files.key, &error),
    })?;
    let key = provider.key_provider.load_private_key(key);
    let key = key.map_err(|source| TlsError::Key { path: files.key.clone(), source })?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        // Unknown: the kind of key cannot say; a handshake would.
        Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(certified),
        Err(Error::InconsistentKeys(_)) => Err(TlsError::Mismatch { key: files.key.clone(), cert: files.cert.clone() }),
        Err(source) => Err(TlsError::Certificate { path: files.cert.clone(), source }),
    }
}

/// What asks every client for a certificate, and refuses those that no authority in the file has signed for.
fn client_verifier(path: &Path, provider: &Arc<CryptoProvider>) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|source| TlsError::Certificate { path: path.into(), source })?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .build()
        .map_err(|error| TlsError::Setup { reason: error.to_string() })
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = read_file(path)?;
    let found = CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>();
    let found = found.map_err(|error| not_pem(path, &error))?;
    if found.is_empty() { Err(TlsError::NoCertificate { path: path.into() }) } else { Ok(found) }
}

fn not_pem(path: &Path, error: &pem::Error) -> TlsError {
    let reason = match error {
        pem::Error::MissingSectionEnd { .. } => "a section has no line that says END",
        pem::Error::IllegalSectionStart { .. } => "a line that says BEGIN does not end as it should",
        pem::Error::Base64Decode(_) => "a section is not base64",
        _ => "it cannot be read as sections of base64",
    };
    TlsError::NotPem { path: path.into(), reason }
}

fn read_file(path: &Path) -> Result<Vec<u8>, TlsError> {
    let failed = |source| TlsError::Read { path: path.into(), source };
    let mut bytes = Vec::new();
    File::open(path).map_err(failed)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(TlsError::TooLarge { path: path.into(), limit: FILE_BYTES_MAX });
    }
    Ok(bytes)
}
