//! Certificates, made once for all worlds: keys cost more than anything else here.

use std::sync::LazyLock;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::SERVER_NAME;

/// A certificate and its key as PEM.
pub(crate) struct Pem {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

/// All of them, below one root.
pub(crate) struct Pki {
    pub(crate) root: String,
    pub(crate) roots: RootCertStore,
    /// What SSTP clients see.
    pub(crate) server: Pem,
    /// The same names, newer.
    pub(crate) renewed: Pem,
    /// Of servers outside the tunnel.
    pub(crate) localhost: Pem,
    /// Issues the certificates of API hosts.
    pub(crate) services: Pem,
    /// The same name, another key.
    pub(crate) renewed_services: Pem,
}

pub(crate) static PKI: LazyLock<Pki> = LazyLock::new(make);

fn make() -> Pki {
    let root = CertifiedIssuer::self_signed(ca("test root"), KeyPair::generate().unwrap()).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(root.der().clone()).unwrap();
    let leaf = |names: &[&str]| {
        let mut params = CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap();
        params.distinguished_name = named(names[0]);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().unwrap();
        Pem { certificate: params.signed_by(&key, &root).unwrap().pem(), key: key.serialize_pem() }
    };
    let issuer = || {
        let key = KeyPair::generate().unwrap();
        Pem { certificate: ca("test services").signed_by(&key, &root).unwrap().pem(), key: key.serialize_pem() }
    };
    Pki {
        root: root.pem(),
        roots,
        server: leaf(&[SERVER_NAME]),
        renewed: leaf(&[SERVER_NAME]),
        localhost: leaf(&["localhost"]),
        services: issuer(),
        renewed_services: issuer(),
    }
}

impl Pem {
    /// The leaf.
    pub(crate) fn der(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.certificate.as_bytes()).unwrap()
    }

    /// A TLS server with this certificate.
    pub(crate) fn server_config(&self) -> rustls::ServerConfig {
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap();
        rustls::ServerConfig::builder_with_provider(wicketgate::listener::tls::provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![self.der()], key)
            .unwrap()
    }
}

fn ca(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = named(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn named(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}
