//! The certificate that SSTP clients see, and its hash for the crypto binding.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sha1::Digest as _;

use crate::sstp::CertificateHashes;

/// One certificate, ready to serve. A connection keeps the one it began with across a renewal.
#[derive(Debug)]
pub struct Certificate {
    config: Arc<ServerConfig>,
    sha1: [u8; 20],
    sha256: [u8; 32],
}

impl Certificate {
    /// `chain` has the leaf first.
    ///
    /// # Errors
    ///
    /// When the chain is empty, or the key is not the leaf's.
    pub fn new(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<Self, rustls::Error> {
        let leaf = chain.first().ok_or(rustls::Error::NoCertificatesPresented)?;
        let sha1 = sha1::Sha1::digest(leaf).into();
        let sha256 = sha2::Sha256::digest(leaf).into();
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        // A resumed client reports the hash of the certificate which it saw in the original handshake.
        config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.max_early_data_size = 0;
        Ok(Self { config: Arc::new(config), sha1, sha256 })
    }

    /// For the handshake. The same certificate answers every SNI and none.
    pub fn config(&self) -> &Arc<ServerConfig> {
        &self.config
    }

    /// For the crypto binding.
    pub fn hashes(&self) -> CertificateHashes {
        CertificateHashes { sha1: self.sha1, sha256: self.sha256 }
    }
}

/// Our cryptography: AES first, because it is three times as fast as ChaCha20 where the processor has it.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}
