//! PEM files: reading certificates and keys, and telling what is wrong with them before a client does.
//!
//! In goes a path; out come DER values for rustls, or an error that names the file, the fault and the cure. The
//! `inspect_*` functions judge what was read against a time that is passed in.

mod inspect;

pub use inspect::{
    Finding, inspect_authority, inspect_client, inspect_match, inspect_mode, inspect_roots, inspect_server,
};

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use rustls::pki_types::pem::{Error as SyntaxError, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer as _, X509Certificate};
use zeroize::Zeroizing;

/// The largest PEM file: the root store of a browser has 250 KiB.
const MAX_FILE: u64 = 1 << 20;

/// The most certificates of one file, for the same reason.
const MAX_CERTIFICATES: usize = 1000;

/// A PEM file that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PemError {
    /// There is no such file.
    #[error("{}: this file does not exist", .path.display())]
    NotFound {
        /// The file.
        path: PathBuf,
    },
    /// It is there, and cannot be read.
    #[error("{}: cannot be read: {kind}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        kind: std::io::ErrorKind,
    },
    /// It is too large to be a PEM file of ours.
    #[error("{}: larger than {limit} bytes, or more than {MAX_CERTIFICATES} certificates", .path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit.
        limit: u64,
    },
    /// A section does not end, or its base64 is broken.
    #[error("{}: this is not PEM: {fault}", .path.display())]
    NotPem {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        fault: &'static str,
    },
    /// PEM without a certificate.
    #[error("{}: there is no certificate in this file", .path.display())]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// PEM without a private key.
    #[error("{}: there is no private key in this file", .path.display())]
    NoKey {
        /// The file.
        path: PathBuf,
    },
    /// A private key under a passphrase.
    #[error("{}: the private key is encrypted with a passphrase", .path.display())]
    EncryptedKey {
        /// The file.
        path: PathBuf,
    },
    /// A section that says it is a certificate and is not.
    #[error("{}: certificate {number} of this file cannot be read", .path.display())]
    BadCertificate {
        /// The file.
        path: PathBuf,
        /// Which one, from 1.
        number: usize,
    },
}

impl PemError {
    /// The stable word for complaints.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotFound { .. } => "not-found",
            Self::Unreadable { .. } => "unreadable",
            Self::TooLarge { .. } => "too-large",
            Self::NotPem { .. } => "not-pem",
            Self::NoCertificate { .. } => "no-certificate",
            Self::NoKey { .. } => "no-key",
            Self::EncryptedKey { .. } => "encrypted-key",
            Self::BadCertificate { .. } => "bad-certificate",
        }
    }

    /// How to mend it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::NotFound { .. } => "paths are relative to the directory of the configuration file",
            Self::Unreadable { .. } => "the user that the server runs as must be allowed to read it",
            Self::TooLarge { .. } => "is this the file that you mean?",
            Self::NotPem { .. } => {
                "copy the file again, whole, with its BEGIN and END lines; `openssl x509 -inform der` converts DER"
            }
            Self::NoCertificate { .. } => "a section `-----BEGIN CERTIFICATE-----` is needed; are two files swapped?",
            Self::NoKey { .. } => "a section `-----BEGIN PRIVATE KEY-----` is needed; are two files swapped?",
            Self::EncryptedKey { .. } => {
                "take the passphrase off (`openssl pkey -in … -out …`) and protect the file by its mode 0600"
            }
            Self::BadCertificate { .. } => "ask whoever issued it for the file again",
        }
    }
}

/// Why a file was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReadError {
    NotFound,
    Unreadable(std::io::ErrorKind),
    TooLarge,
}

/// The bytes of a file that has at most `limit` of them; they are wiped when dropped, for there may be a key in them.
pub(super) fn read_bounded(path: &Path, limit: u64) -> Result<Zeroizing<Vec<u8>>, ReadError> {
    let fault = |error: std::io::Error| {
        let kind = error.kind();
        if kind == std::io::ErrorKind::NotFound { ReadError::NotFound } else { ReadError::Unreadable(kind) }
    };
    let file = File::open(path).map_err(fault)?;
    let length = file.metadata().map_err(fault)?.len();
    if length > limit {
        return Err(ReadError::TooLarge);
    }
    // With the capacity known beforehand the vector does not grow, and leaves no unwiped copy behind.
    let capacity = usize::try_from(length).map_err(|_| ReadError::TooLarge)?.saturating_add(1);
    let mut bytes = Zeroizing::new(Vec::with_capacity(capacity));
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(fault)?;
    if bytes.len() as u64 > limit {
        return Err(ReadError::TooLarge);
    }
    Ok(bytes)
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, PemError> {
    let path = path.to_path_buf();
    read_bounded(&path, MAX_FILE).map_err(|error| match error {
        ReadError::NotFound => PemError::NotFound { path },
        ReadError::Unreadable(kind) => PemError::Unreadable { path, kind },
        ReadError::TooLarge => PemError::TooLarge { path, limit: MAX_FILE },
    })
}

/// The words for what is wrong with PEM. The library's own quote the line, which may be a part of a key.
fn fault(error: &SyntaxError) -> &'static str {
    match error {
        SyntaxError::MissingSectionEnd { .. } => "a section has no END line",
        SyntaxError::IllegalSectionStart { .. } => "a BEGIN line is broken",
        SyntaxError::Base64Decode(_) => "its base64 is broken",
        SyntaxError::Io(_) | SyntaxError::NoItemsFound | SyntaxError::SectionTooLarge | _ => "it cannot be decoded",
    }
}

/// All certificates of a file, in its order; at least one, each readable.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let bytes = read(path)?;
    let mut chain = Vec::new();
    for (index, certificate) in CertificateDer::pem_slice_iter(&bytes).enumerate() {
        let certificate =
            certificate.map_err(|error| PemError::NotPem { path: path.to_path_buf(), fault: fault(&error) })?;
        if X509Certificate::from_der(&certificate).is_err() {
            return Err(PemError::BadCertificate { path: path.to_path_buf(), number: index + 1 });
        }
        if index >= MAX_CERTIFICATES {
            return Err(PemError::TooLarge { path: path.to_path_buf(), limit: MAX_FILE });
        }
        chain.push(certificate);
    }
    if chain.is_empty() { Err(PemError::NoCertificate { path: path.to_path_buf() }) } else { Ok(chain) }
}

/// The first private key of a file: PKCS#8, PKCS#1 or SEC 1.
pub fn key(path: &Path) -> Result<PrivateKeyDer<'static>, PemError> {
    let bytes = read(path)?;
    let path = path.to_path_buf();
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| {
        if !matches!(error, SyntaxError::NoItemsFound) {
            PemError::NotPem { path, fault: fault(&error) }
        } else if contains(&bytes, b"-----BEGIN ENCRYPTED PRIVATE KEY-----") {
            PemError::EncryptedKey { path }
        } else {
            PemError::NoKey { path }
        }
    })
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

#[cfg(test)]
mod tests;
