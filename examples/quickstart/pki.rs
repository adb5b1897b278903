//! Throw-away certificates: a root, a server, an issuer, and a CA for the hosts inside the tunnel.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};
use rustls::RootCertStore;

/// Where the certificates were written.
pub(crate) struct Pki {
    /// The root that clients must trust, outside and inside the tunnel.
    pub(crate) root_file: PathBuf,
    /// The same, ready for use.
    pub(crate) roots: RootCertStore,
    root: CertifiedIssuer<'static, KeyPair>,
    folder: PathBuf,
}

/// A certificate and its key, as PEM files and as text.
pub(crate) struct Issued {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Pki {
    /// Makes a root and the CA for API hosts (`services-ca.pem` and `.key`) in `folder`.
    pub(crate) fn make(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder)?;
        let root = CertifiedIssuer::self_signed(ca("Wicketgate quickstart root"), KeyPair::generate()?)?;
        let root_file = folder.join("root.pem");
        fs::write(&root_file, root.pem())?;
        let mut roots = RootCertStore::empty();
        roots.add(root.der().clone()).context("the root is a trust anchor")?;
        let pki = Self { root_file, roots, root, folder: folder.to_owned() };
        let services_key = KeyPair::generate()?;
        let services = ca("Wicketgate quickstart services").signed_by(&services_key, &pki.root)?;
        pki.write("services-ca", &services.pem(), &services_key.serialize_pem())?;
        Ok(pki)
    }

    /// A server certificate for these names, written as `NAME.pem` (leaf first) and `NAME.key`.
    pub(crate) fn server(&self, name: &str, hosts: &[&str]) -> Result<Issued> {
        let mut params = CertificateParams::new(hosts.iter().map(|&host| host.to_owned()).collect::<Vec<_>>())?;
        // sstpc looks at the common name alone.
        params.distinguished_name = named(hosts[0]);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.root)?;
        let issued = Issued { certificate: certificate.pem(), key: key.serialize_pem() };
        self.write(name, &issued.certificate, &issued.key)?;
        Ok(issued)
    }

    fn write(&self, name: &str, certificate: &str, key: &str) -> Result<()> {
        fs::write(self.folder.join(format!("{name}.pem")), certificate)?;
        let file = self.folder.join(format!("{name}.key"));
        fs::write(&file, key)?;
        private(&file)
    }
}

/// Readable by its owner alone.
pub(crate) fn private(file: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    Ok(fs::set_permissions(file, fs::Permissions::from_mode(0o600))?)
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
