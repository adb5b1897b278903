//! Reads what a reload replaces, and builds the next generation from the parts that are good.
//!
//! The parts are judged one by one: a bundle with a mistake keeps the old bundle in force, and does not keep a disabled
//! user alive.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;

use super::services::{self, Given, Services, Source as ServicesSource};
use super::sources::{READABLE, Sources, named_files};
use super::watched::Watched;
use crate::clock;
use crate::complaint::Complaint;
use crate::config::{self, Config, KeyPair, pem};
use crate::identity::authn::{Alg, ClaimType, IssuerConfig, PersonRule, Tokens, UserFile, Users, fetch};
use crate::listener::tls::Certificate;
use crate::policy::{self, Bundle};
use crate::snapshot::Snapshot;
use crate::upstream::{Authorities, ClientCertificate, Target, TargetError};

pub use super::sources::policy_files;

/// How much is read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    /// The user file alone.
    Users,
    /// Every file that the configuration names.
    Files,
    /// The configuration, and these files.
    Everything,
}

/// Cures of what is wrong with the files that the configuration names.
const PAIR: &str = "certificate and key must belong together";
const AUTHORITY: &str = "an authority is the certificate of a CA, in PEM";
const SERVICES: &str = "see [services] of the configuration: its certificates must cover every host";

/// What happened to one part.
#[derive(Debug)]
pub(super) enum Outcome {
    /// As before.
    Unchanged,
    /// New, with warnings.
    Replaced(Vec<Complaint>),
    /// Wrong: the old one stays.
    Kept(Vec<Complaint>),
}

impl Outcome {
    pub(super) fn is_replaced(&self) -> bool {
        matches!(self, Self::Replaced(_))
    }
}

/// What happened to all parts.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) certificate: Outcome,
    pub(super) users: Outcome,
    pub(super) policies: Outcome,
    /// When the certificates end, in seconds since 1970, by their names in the configuration.
    pub(super) certificate_ends: Vec<(String, f64)>,
}

/// Keeps the parts of the current generation.
pub(super) struct Loader {
    config: Config,
    generation: u64,
    certificate: Arc<Certificate>,
    chain: Vec<CertificateDer<'static>>,
    users: Arc<Users>,
    /// The user file as it was read: the same again is no change.
    users_text: Vec<u8>,
    policies: Option<Policies>,
    last_sources: Option<Sources>,
}

/// The part that comes from the policy directory and the files that it names.
#[derive(Clone)]
struct Policies {
    bundle: Arc<Bundle>,
    tokens: Arc<Tokens>,
    services: Services,
    targets: HashMap<String, Arc<Target>>,
}

impl Loader {
    /// Reads everything for the first time. Certificate and users must be good; policies may be bad: then nothing is
    /// allowed until they are mended.
    pub(super) fn first(config: Config) -> Result<(Self, Snapshot, Report), Vec<Complaint>> {
        let (certificate, chain) = certificate(&config.tls)?;
        let users_text = fs::read(&config.users.file).unwrap_or_default();
        let users = Arc::new(user_file(&config).load()?);
        let mut loader = Self {
            config,
            generation: 0,
            certificate: Arc::new(certificate),
            chain,
            users,
            users_text,
            policies: None,
            last_sources: None,
        };
        let policies = loader.load_policies(clock::wall());
        let snapshot = loader.snapshot();
        let report = Report {
            certificate: Outcome::Replaced(Vec::new()),
            users: Outcome::Replaced(Vec::new()),
            policies,
            certificate_ends: loader.ends(),
        };
        Ok((loader, snapshot, report))
    }

    /// Reads files again, and publishes what changed. Users come first: whoever is taken out of the file does not stay
    /// until the policies are read, compiled and tested.
    pub(super) fn reload(&mut self, extent: Extent, now: SystemTime, publish: impl Fn(Snapshot)) -> Report {
        let users = self.load_users();
        if users.is_replaced() {
            publish(self.snapshot());
        }
        let (certificate, policies) = match extent {
            Extent::Users => (Outcome::Unchanged, Outcome::Unchanged),
            Extent::Files | Extent::Everything => (self.load_certificate(), self.load_policies(now)),
        };
        let renewed = matches!(policies, Outcome::Kept(_)) && self.renew(now);
        if certificate.is_replaced() || policies.is_replaced() || renewed {
            publish(self.snapshot());
        }
        Report { certificate, users, policies, certificate_ends: self.ends() }
    }

    /// Takes a configuration that was read again. What cannot change without a restart is kept and named.
    pub(super) fn reconfigure(&mut self, config: Config) -> Vec<&'static str> {
        let mut fixed = Vec::new();
        if config.listen != self.config.listen {
            fixed.push("[listen]");
        }
        if config.network != self.config.network {
            fixed.push("[network]");
        }
        if config.admin != self.config.admin {
            fixed.push("[admin]");
        }
        if config.tunnel != self.config.tunnel {
            fixed.push("[tunnel]");
        }
        if config.audit != self.config.audit {
            fixed.push("[audit]");
        }
        let Config { listen, network, admin, tunnel, audit, .. } = self.config.clone();
        self.config = Config { listen, network, admin, tunnel, audit, ..config };
        fixed
    }

    /// The files and the folder whose changes ask for a reload.
    pub(super) fn watched(&self) -> Watched {
        watched(&self.config)
    }

    fn snapshot(&mut self) -> Snapshot {
        self.generation += 1;
        let policies = self.policies.clone();
        let empty = || Arc::new(Tokens::new(Vec::new(), None));
        Snapshot {
            generation: self.generation,
            bundle: policies.as_ref().map(|policies| Arc::clone(&policies.bundle)),
            users: Arc::clone(&self.users),
            tokens: policies.as_ref().map_or_else(empty, |policies| Arc::clone(&policies.tokens)),
            certificate: Arc::clone(&self.certificate),
            services: policies.as_ref().map(|policies| policies.services.by_address()).unwrap_or_default(),
            targets: policies.map(|policies| policies.targets).unwrap_or_default(),
        }
    }

    fn load_certificate(&mut self) -> Outcome {
        match certificate(&self.config.tls) {
            Ok((_, chain)) if chain == self.chain => Outcome::Unchanged,
            Ok((certificate, chain)) => {
                self.certificate = Arc::new(certificate);
                self.chain = chain;
                Outcome::Replaced(Vec::new())
            }
            Err(complaints) => Outcome::Kept(complaints),
        }
    }

    fn load_users(&mut self) -> Outcome {
        let file = &self.config.users.file;
        let text = fs::read(file).unwrap_or_default();
        if text == self.users_text {
            return Outcome::Unchanged;
        }
        if !file.exists() {
            // Whoever wants everybody out writes an empty file: a missing one is rather a slip.
            let message = "the user file is gone".to_owned();
            let hint = "restore it, or write an empty one";
            return Outcome::Kept(vec![Complaint::of_file(file, "not-found", message, hint)]);
        }
        match user_file(&self.config).load() {
            Ok(users) => {
                self.users_text = text;
                self.users = Arc::new(users);
                Outcome::Replaced(Vec::new())
            }
            Err(complaints) => Outcome::Kept(complaints),
        }
    }

    fn load_policies(&mut self, now: SystemTime) -> Outcome {
        let sources = match Sources::read_settled(&self.config, self.last_sources.as_ref()) {
            Ok(sources) => sources,
            Err(complaints) => return Outcome::Kept(complaints),
        };
        if self.last_sources.as_ref() == Some(&sources) && self.policies.is_some() && !self.is_stale(now) {
            return Outcome::Unchanged;
        }
        let same_files = self.last_sources.as_ref().is_some_and(|last| last.same_files(&sources));
        match self.build_policies(&sources.files, same_files, now) {
            Ok((policies, warnings)) => {
                self.policies = Some(policies);
                self.last_sources = Some(sources);
                Outcome::Replaced(warnings)
            }
            Err(complaints) => Outcome::Kept(complaints),
        }
    }

    fn is_stale(&self, now: SystemTime) -> bool {
        let renew_at = self.policies.as_ref().and_then(|policies| policies.services.renew_at());
        renew_at.is_some_and(|renew_at| renew_at <= now)
    }

    /// Renews the certificates of the hosts in force, whatever is wrong with the policies on the disk.
    fn renew(&mut self, now: SystemTime) -> bool {
        let stale = self.is_stale(now);
        let (Some(policies), Ok(source)) = (&mut self.policies, services_source(&self.config)) else { return false };
        let next = stale.then(|| policies.services.next(&source, policies.bundle.hosts(), now));
        let Some(Ok(services)) = next else { return false };
        policies.services = services;
        true
    }

    fn ends(&self) -> Vec<(String, f64)> {
        let tls = services::not_after(&self.chain).map(|ends| ("tls".to_owned(), ends));
        tls.into_iter().chain(self.last_sources.iter().flat_map(Sources::ends)).collect()
    }

    fn build_policies(
        &self,
        files: &[policy::Source],
        same_files: bool,
        now: SystemTime,
    ) -> Result<(Policies, Vec<Complaint>), Vec<Complaint>> {
        let previous = self.policies.as_ref();
        let environment = environment(&self.config);
        let compiled = policy::compile(files, &environment, previous.map(|previous| &*previous.bundle))?;
        let bundle = Arc::new(compiled.bundle);
        let policies = &self.config.policies;
        let authorities = authorities(&self.config).map_err(|complaint| vec![*complaint])?;
        let kept = previous.filter(|_| same_files).map(|previous| &previous.targets);
        let targets =
            Target::all(&bundle, &authorities, kept).map_err(|(api, error)| unusable(policies, &api, &error))?;
        let source = services_source(&self.config).map_err(|complaint| vec![*complaint])?;
        let issued = previous.filter(|_| same_files).map(|previous| previous.services.clone()).unwrap_or_default();
        let services = issued
            .next(&source, bundle.hosts(), now)
            .map_err(|error| vec![Complaint::of_file(policies, "services", error.to_string(), SERVICES)])?;
        let mut issuers = Vec::with_capacity(bundle.issuers().len());
        for issuer in bundle.issuers() {
            issuers.push(issuer_config(issuer, &self.config).map_err(|complaint| vec![*complaint])?);
        }
        let tokens = Arc::new(Tokens::new(issuers, self.policies.as_ref().map(|previous| &*previous.tokens)));
        Ok((Policies { bundle, tokens, services, targets }, compiled.warnings))
    }
}

/// The bundle of a configuration, compiled as `serve` does it, without serving.
pub fn check(config: &Config) -> Result<(Bundle, Vec<Complaint>), Vec<Complaint>> {
    let mut complaints = Vec::new();
    if let Err(more) = user_file(config).load() {
        complaints.extend(more);
    }
    let compiled = Sources::read(config).and_then(|sources| {
        let compiled = policy::compile(&sources.files, &environment(config), None)?;
        let authorities = authorities(config).map_err(|complaint| vec![*complaint])?;
        Target::all(&compiled.bundle, &authorities, None)
            .map_err(|(api, error)| unusable(&config.policies, &api, &error))?;
        let source = services_source(config).map_err(|complaint| vec![*complaint])?;
        Services::default()
            .next(&source, compiled.bundle.hosts(), clock::wall())
            .map_err(|error| vec![Complaint::of_file(&config.policies, "services", error.to_string(), SERVICES)])?;
        Ok(compiled)
    });
    match compiled {
        Ok(compiled) if complaints.is_empty() => Ok((compiled.bundle, compiled.warnings)),
        Ok(compiled) => {
            complaints.extend(compiled.warnings);
            Err(complaints)
        }
        Err(more) => {
            complaints.extend(more);
            Err(complaints)
        }
    }
}

/// The files and the folder whose changes ask for a reload.
pub(super) fn watched(config: &Config) -> Watched {
    let users = vec![config.users.file.clone(), config.users.key.clone()];
    let mut files = vec![config.tls.certificate.clone(), config.tls.key.clone()];
    files.extend(named_files(config).into_iter().map(|(_, path)| path.clone()));
    Watched { users, files, folder: config.policies.clone() }
}

/// What policy files may refer to under this configuration.
pub fn environment(config: &Config) -> policy::Environment {
    policy::Environment {
        services: config.network.services,
        suffix: config.network.suffix.clone(),
        reserved: vec![config.network.gateway, config.network.client],
        authorities: config.authorities.keys().cloned().collect(),
        client_certificates: config.client_certificates.keys().cloned().collect(),
        own_listeners: own_listeners(config),
        own_socket: Some(config.admin.socket.clone()),
        real_path,
        can_fetch: fetch::is_https,
        read: super::read_request,
    }
}

/// What policy files may refer to where there is no configuration: the default network, and any name.
pub fn lone_environment() -> policy::Environment {
    policy::Environment {
        services: config::DEFAULT_SERVICES,
        suffix: "invalid".to_owned(),
        reserved: vec![config::DEFAULT_GATEWAY, config::DEFAULT_CLIENT],
        authorities: policy::Known::Any,
        client_certificates: policy::Known::Any,
        own_listeners: Vec::new(),
        own_socket: None,
        real_path,
        can_fetch: fetch::is_https,
        read: super::read_request,
    }
}

fn own_listeners(config: &Config) -> Vec<SocketAddr> {
    vec![config.listen.address, config.admin.address]
}

/// The path without links; one that does not exist is followed as far as its folder.
fn real_path(path: &Path) -> PathBuf {
    let folder = || Some(path.parent()?.canonicalize().ok()?.join(path.file_name()?));
    path.canonicalize().ok().or_else(folder).unwrap_or_else(|| path.to_path_buf())
}

fn user_file(config: &Config) -> UserFile {
    UserFile::new(&config.users.file, &config.users.key)
}

fn certificate(pair: &KeyPair) -> Result<(Certificate, Vec<CertificateDer<'static>>), Vec<Complaint>> {
    let (chain, key) = key_pair(pair).map_err(|complaint| vec![*complaint])?;
    let certificate = Certificate::new(chain.clone(), key)
        .map_err(|error| vec![Complaint::of_file(&pair.certificate, "certificate", error.to_string(), PAIR)])?;
    Ok((certificate, chain))
}

type Pair = (Vec<CertificateDer<'static>>, rustls::pki_types::PrivateKeyDer<'static>);

fn key_pair(pair: &KeyPair) -> Result<Pair, Box<Complaint>> {
    let chain = pem::certificates(&pair.certificate).map_err(|error| pem_complaint(&pair.certificate, &error))?;
    let key = pem::key(&pair.key).map_err(|error| pem_complaint(&pair.key, &error))?;
    Ok((chain, key))
}

fn authorities(config: &Config) -> Result<Authorities, Box<Complaint>> {
    let mut named = BTreeMap::new();
    for (name, path) in &config.authorities {
        let anchors = pem::certificates(path).map_err(|error| pem_complaint(path, &error))?;
        let mut roots = RootCertStore::empty();
        for anchor in anchors {
            roots
                .add(anchor)
                .map_err(|error| Box::new(Complaint::of_file(path, "authority", error.to_string(), AUTHORITY)))?;
        }
        named.insert(name.clone(), Arc::new(roots));
    }
    let mut certificates = BTreeMap::new();
    for (name, pair) in &config.client_certificates {
        let (chain, key) = key_pair(pair)?;
        certificates.insert(name.clone(), ClientCertificate { chain, key });
    }
    let mut system = RootCertStore::empty();
    system.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    Ok(Authorities {
        named,
        system: Arc::new(system),
        certificates,
        own_listeners: own_listeners(config),
        own_socket: Some(config.admin.socket.clone()),
    })
}

fn services_source(config: &Config) -> Result<ServicesSource, Box<Complaint>> {
    match &config.services {
        config::Services::Authority(pair) => {
            let (certificate, key) = (read_text(&pair.certificate)?, read_text(&pair.key)?);
            let wrong = |error: rcgen::Error| {
                Box::new(Complaint::of_file(&pair.certificate, "services", error.to_string(), SERVICES))
            };
            let key = rcgen::KeyPair::from_pem(&key).map_err(wrong)?;
            let authority = rcgen::Issuer::from_ca_cert_pem(&certificate, key).map_err(wrong)?;
            let chain =
                pem::certificates(&pair.certificate).map_err(|error| pem_complaint(&pair.certificate, &error))?;
            // A root that clients do not have already is of no use to them.
            let intermediates =
                chain.into_iter().filter(|certificate| !services::is_self_signed(certificate)).collect();
            Ok(ServicesSource::Authority(Box::new(authority), intermediates))
        }
        config::Services::Certificates(pairs) => {
            let mut given = Vec::with_capacity(pairs.len());
            for pair in pairs {
                let (chain, key) = key_pair(pair)?;
                let names = chain.first().map(|leaf| services::dns_names(leaf)).unwrap_or_default();
                given.push(Given { names, chain, key });
            }
            Ok(ServicesSource::Given(given))
        }
    }
}

fn read_text(path: &Path) -> Result<String, Box<Complaint>> {
    fs::read_to_string(path).map_err(|error| Box::new(Complaint::of_file(path, "file", error.to_string(), READABLE)))
}

fn unusable(policies: &Path, api: &str, error: &TargetError) -> Vec<Complaint> {
    let hint = "certificates, keys and names of its `tls` must fit together";
    vec![Complaint::of_file(policies, "unusable", format!("the upstream of {api}: {error}"), hint)]
}

fn pem_complaint(path: &Path, error: &pem::PemError) -> Box<Complaint> {
    Box::new(Complaint::of_file(path, error.code(), error.to_string(), error.hint()))
}

fn issuer_config(issuer: &policy::Issuer, config: &Config) -> Result<IssuerConfig, Box<Complaint>> {
    let roots = match issuer.ca.as_ref().and_then(|name| config.authorities.get(name)) {
        Some(path) => Some(pem::certificates(path).map_err(|error| pem_complaint(path, &error))?),
        None => None,
    };
    let (groups_allowed, groups_prefix) = match &issuer.groups {
        policy::Allowed::Nothing => (BTreeSet::new(), None),
        policy::Allowed::Listed(groups) => (groups.clone(), None),
        policy::Allowed::Prefixed(prefix) => (BTreeSet::new(), Some(prefix.clone())),
        policy::Allowed::All => (BTreeSet::from(["*".to_owned()]), None),
    };
    Ok(IssuerConfig {
        name: issuer.name.clone(),
        url: issuer.url.clone(),
        audiences: issuer.audiences.iter().cloned().collect(),
        algs: issuer.algs.iter().filter_map(|alg| Alg::parse(alg.as_str())).collect(),
        clock_skew: issuer.clock_skew,
        jwks_max_age: issuer.jwks_max_age,
        groups_claim: issuer.groups_claim.clone(),
        groups_allowed,
        groups_prefix,
        groups_absent_empty: issuer.groups_absent == policy::GroupsAbsent::Empty,
        person: match &issuer.person {
            policy::PersonClaim::Claim(claim) => PersonRule::Claim(claim.clone()),
            policy::PersonClaim::Linked => PersonRule::Linked,
        },
        claims: issuer
            .claims
            .iter()
            .map(|(path, kind)| {
                let kind = match kind {
                    policy::ClaimType::Text => ClaimType::Text,
                    policy::ClaimType::Texts => ClaimType::Texts,
                    policy::ClaimType::Number => ClaimType::Number,
                    policy::ClaimType::Flag => ClaimType::Flag,
                };
                (path.clone(), kind)
            })
            .collect(),
        roots,
    })
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair as Key};

    use super::*;

    const CONFIG: &str = r#"
[tls]
certificate = "ca.pem"
key = "ca.key"
[network]
suffix = "api.corp.example"
[services]
ca = "ca.pem"
ca_key = "ca.key"
"#;

    const POLICY: &str = r#"
api = "a"
policy_version = 1
owner = "a@corp.example"
hosts = ["a.api.corp.example"]
[upstream]
url = "http://127.0.0.1:1"
[[allow]]
id = "all"
who = "anyone-authenticated"
methods = ["GET"]
paths = ["/**"]
"#;

    #[test]
    fn certificates_are_renewed_while_a_bad_policy_lies_on_the_disk() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let mut ca = CertificateParams::new(vec!["ca.example".to_owned()]).unwrap();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = Key::generate().unwrap();
        fs::write(at("ca.pem"), ca.self_signed(&key).unwrap().pem()).unwrap();
        fs::write(at("ca.key"), key.serialize_pem()).unwrap();
        fs::create_dir(at("policies")).unwrap();
        fs::write(at("policies/a.toml"), POLICY).unwrap();
        fs::write(at("wicketgate.toml"), CONFIG).unwrap();
        let (config, _) = config::read(&at("wicketgate.toml")).unwrap();
        let (mut loader, _, report) = Loader::first(config).unwrap();
        assert!(matches!(report.policies, Outcome::Replaced(_)), "{report:?}");
        let shown =
            |loader: &Loader| loader.policies.as_ref().unwrap().services.by_address().into_values().next().unwrap();
        let first = shown(&loader);

        fs::write(at("policies/a.toml"), "this is no policy").unwrap();
        let published = std::cell::Cell::new(0);
        let mut reload = |now| loader.reload(Extent::Files, now, |_| published.set(published.get() + 1));
        let now = clock::wall();
        assert!(matches!(reload(now).policies, Outcome::Kept(_)) && published.get() == 0);
        let late = reload(now + std::time::Duration::from_secs(25 * 86_400));
        assert!(matches!(late.policies, Outcome::Kept(_)) && published.get() == 1);
        assert!(!Arc::ptr_eq(&shown(&loader), &first));
    }
}
