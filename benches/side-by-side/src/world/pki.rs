//! Throw-away certificates: one root for everything outside, and a CA of its own for the hosts inside the tunnel.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, PKCS_RSA_SHA256, RsaKeySize,
};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

/// The name that clients dial.
pub(crate) const SERVER_NAME: &str = "vpn.bench.example";

/// Writes `root.pem`, `server.pem`, `server.key`, `services-ca.pem`, `services-ca.key` and the token key `token.key`.
pub(super) fn write(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)?;
    let root = CertifiedIssuer::self_signed(authority("bench root"), KeyPair::generate()?)?;
    fs::write(folder.join("root.pem"), root.pem())?;

    let mut params = CertificateParams::new([SERVER_NAME.to_owned(), "localhost".to_owned()])?;
    params.distinguished_name.push(DnType::CommonName, SERVER_NAME);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate()?;
    fs::write(folder.join("server.pem"), params.signed_by(&key, &root)?.pem())?;
    private(&folder.join("server.key"), &key.serialize_pem())?;

    let key = KeyPair::generate()?;
    fs::write(folder.join("services-ca.pem"), authority("bench services").signed_by(&key, &root)?.pem())?;
    private(&folder.join("services-ca.key"), &key.serialize_pem())?;

    let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048)?;
    private(&folder.join("token.key"), &key.serialize_pem())
}

/// The root, as a client trusts it.
pub(crate) fn roots(folder: &Path) -> Result<RootCertStore> {
    let file = folder.join("root.pem");
    let root = CertificateDer::from_pem_file(&file).with_context(|| file.display().to_string())?;
    let mut roots = RootCertStore::empty();
    roots.add(root)?;
    Ok(roots)
}

fn private(file: &Path, text: &str) -> Result<()> {
    fs::write(file, text)?;
    Ok(fs::set_permissions(file, fs::Permissions::from_mode(0o600))?)
}

fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}
