//! The authorities that another server is known by, from a PEM file.

use std::{fs::File, io::Read, path::Path};

use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};

/// Largest file of authorities that is read.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The certificates in the file at `path`, at least one; the error says what is wrong with the file.
pub(crate) fn read(path: &Path) -> Result<RootCertStore, &'static str> {
    let mut text = Vec::new();
    let file = File::open(path).map_err(|_| "it cannot be read")?;
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut text).map_err(|_| "it cannot be read")?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err("it has more than 1 MiB");
    }
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&text) {
        let certificate = certificate.map_err(|_| "it is not PEM")?;
        roots.add(certificate).map_err(|_| "a certificate in it cannot be an authority")?;
    }
    if roots.is_empty() { Err("there is no certificate in it") } else { Ok(roots) }
}
