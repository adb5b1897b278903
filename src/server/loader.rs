//! Reads what a reload replaces, and builds the next generation from the parts that are good.
//!
//! The parts are judged one by one: a bundle with a mistake keeps the old bundle in force, and does not keep a disabled
//! user alive.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use std::{fs, io};

use rustls::pki_types::CertificateDer;
use rustls::{RootCertStore, ServerConfig};

use super::services::{self, Given, Services, Source as ServicesSource};
use super::watched::Watched;
use crate::clock;
use crate::complaint::{Complaint, Severity};
use crate::config::{self, Config, KeyPair, pem};
use crate::identity::authn::{Alg, ClaimType, IssuerConfig, PersonRule, Tokens, UserFile, Users, fetch};
use crate::listener::tls::Certificate;
use crate::policy::{self, Bundle};
use crate::snapshot::Snapshot;
use crate::upstream::{Authorities, ClientCertificate, Target, TargetError};

/// Policy files of one bundle.
const MAX_FILES: usize = 512;

/// One policy file, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// How often the policies are read until two readings agree: then nobody writes them at this moment.
const MAX_READINGS: usize = 10;

/// The time between two readings: longer than it takes to write the next file of a set.
const BETWEEN_READINGS: Duration = Duration::from_millis(50);

/// Cures of what is wrong with the files that the configuration names.
const READABLE: &str = "the file must exist, and the server must be allowed to read it";
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

/// What happened to all parts.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) certificate: Outcome,
    pub(super) users: Outcome,
    pub(super) policies: Outcome,
    /// When the certificate that clients see ends, in seconds since 1970.
    pub(super) certificate_ends: Option<f64>,
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
    services: Services,
    last_sources: Option<Sources>,
}

/// The part that comes from the policy directory and the files that it names.
#[derive(Clone)]
struct Policies {
    bundle: Arc<Bundle>,
    tokens: Arc<Tokens>,
    services: HashMap<Ipv4Addr, Arc<ServerConfig>>,
    targets: HashMap<String, Arc<Target>>,
}

/// Everything that `Policies` is made of, as read: the same again is no change.
#[derive(Clone, PartialEq, Eq)]
struct Sources {
    files: Vec<policy::Source>,
    others: Vec<Named>,
}

/// A file with what the configuration calls it: two names that change their files are a change.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Named {
    name: String,
    path: PathBuf,
    bytes: Vec<u8>,
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
            services: Services::default(),
            last_sources: None,
        };
        let policies = loader.load_policies(clock::wall());
        let snapshot = loader.snapshot();
        let report = Report {
            certificate: Outcome::Replaced(Vec::new()),
            users: Outcome::Replaced(Vec::new()),
            policies,
            certificate_ends: services::not_after(&loader.chain),
        };
        Ok((loader, snapshot, report))
    }

    /// Reads everything again. `None`: nothing changed.
    pub(super) fn reload(&mut self) -> (Report, Option<Snapshot>) {
        let report = Report {
            certificate: self.load_certificate(),
            users: self.load_users(),
            policies: self.load_policies(clock::wall()),
            certificate_ends: services::not_after(&self.chain),
        };
        let changed = [&report.certificate, &report.users, &report.policies]
            .iter()
            .any(|outcome| matches!(outcome, Outcome::Replaced(_)));
        let snapshot = changed.then(|| self.snapshot());
        (report, snapshot)
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
        if config.services != self.config.services {
            self.services.forget();
        }
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
            services: policies.as_ref().map(|policies| policies.services.clone()).unwrap_or_default(),
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
        let text = fs::read(&self.config.users.file).unwrap_or_default();
        if text == self.users_text {
            return Outcome::Unchanged;
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
        let read = || Sources::read(&self.config);
        let pause = || std::thread::sleep(BETWEEN_READINGS);
        let sources = match settled(self.last_sources.as_ref(), read, pause) {
            Ok(Some(sources)) => sources,
            Ok(None) => {
                let message = "the files change while they are read".to_owned();
                let hint = "they are read again when they change the next time";
                return Outcome::Kept(vec![complaint(&self.config.policies, "unsettled", message, hint)]);
            }
            Err(complaints) => return Outcome::Kept(complaints),
        };
        let stale = self.services.renew_at().is_some_and(|renew_at| renew_at <= now);
        if self.last_sources.as_ref() == Some(&sources) && self.policies.is_some() && !stale {
            return Outcome::Unchanged;
        }
        let same_files = self.last_sources.as_ref().is_some_and(|last| last.others == sources.others);
        match self.build_policies(&sources.files, same_files, now) {
            Ok((policies, warnings)) => {
                self.policies = Some(policies);
                self.last_sources = Some(sources);
                Outcome::Replaced(warnings)
            }
            Err(complaints) => Outcome::Kept(complaints),
        }
    }

    fn build_policies(
        &mut self,
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
        let services = self
            .services
            .configure(&source, bundle.hosts(), now)
            .map_err(|error| vec![complaint(policies, "services", error.to_string(), SERVICES)])?;
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
    if config.users.file.exists()
        && let Err(more) = user_file(config).load()
    {
        complaints.extend(more);
    }
    let compiled = Sources::read(config).and_then(|sources| {
        let compiled = policy::compile(&sources.files, &environment(config), None)?;
        let authorities = authorities(config).map_err(|complaint| vec![*complaint])?;
        Target::all(&compiled.bundle, &authorities, None)
            .map_err(|(api, error)| unusable(&config.policies, &api, &error))?;
        let source = services_source(config).map_err(|complaint| vec![*complaint])?;
        Services::default()
            .configure(&source, compiled.bundle.hosts(), clock::wall())
            .map_err(|error| vec![complaint(&config.policies, "services", error.to_string(), SERVICES)])?;
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
    let mut files = vec![config.users.file.clone(), config.tls.certificate.clone(), config.tls.key.clone()];
    files.extend(named_files(config).into_iter().map(|(_, path)| path.clone()));
    Watched { files, folder: config.policies.clone() }
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
        .map_err(|error| vec![complaint(&pair.certificate, "certificate", error.to_string(), PAIR)])?;
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
            roots.add(anchor).map_err(|error| Box::new(complaint(path, "authority", error.to_string(), AUTHORITY)))?;
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
            let wrong =
                |error: rcgen::Error| Box::new(complaint(&pair.certificate, "services", error.to_string(), SERVICES));
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
    fs::read_to_string(path).map_err(|error| Box::new(complaint(path, "file", error.to_string(), READABLE)))
}

fn unusable(policies: &Path, api: &str, error: &TargetError) -> Vec<Complaint> {
    let hint = "certificates, keys and names of its `tls` must fit together";
    vec![complaint(policies, "unusable", format!("the upstream of {api}: {error}"), hint)]
}

fn pem_complaint(path: &Path, error: &pem::PemError) -> Box<Complaint> {
    Box::new(complaint(path, error.code(), error.to_string(), error.hint()))
}

fn complaint(path: &Path, code: &'static str, message: String, hint: &str) -> Complaint {
    Complaint {
        severity: Severity::Error,
        code,
        file: path.display().to_string().into(),
        text: Arc::from(""),
        span: 0..0,
        message,
        hint: Some(hint.to_owned()),
    }
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

impl Sources {
    /// Every file of the policy directory, and every other file that the policies depend on.
    fn read(config: &Config) -> Result<Self, Vec<Complaint>> {
        let files = policy_files(&config.policies)?;
        let mut others = Vec::new();
        for (name, path) in named_files(config) {
            let bytes = fs::read(path).map_err(|error| vec![complaint(path, "file", error.to_string(), READABLE)])?;
            others.push(Named { name, path: path.clone(), bytes });
        }
        Ok(Self { files, others })
    }
}

/// The files that the configuration names for the policies, with their names there.
fn named_files(config: &Config) -> Vec<(String, &PathBuf)> {
    let authorities = config.authorities.iter().map(|(name, path)| (format!("authorities.{name}"), path));
    let shown = config.client_certificates.iter();
    let shown = shown.flat_map(|(name, files)| both(format!("client_certificates.{name}"), files));
    let mut named: Vec<(String, &PathBuf)> = authorities.chain(shown).collect();
    match &config.services {
        config::Services::Authority(files) => named.extend(both("services.ca".to_owned(), files)),
        config::Services::Certificates(pairs) => {
            named.extend(pairs.iter().enumerate().flat_map(|(at, files)| both(format!("services.{at}"), files)));
        }
    }
    named
}

fn both(name: String, files: &KeyPair) -> [(String, &PathBuf); 2] {
    [(format!("{name}.certificate"), &files.certificate), (format!("{name}.key"), &files.key)]
}

/// Reads until two readings in a row agree, or the first one agrees with the last that was good. `None`: never.
fn settled<T: PartialEq, E>(
    last: Option<&T>,
    mut read: impl FnMut() -> Result<T, E>,
    mut pause: impl FnMut(),
) -> Result<Option<T>, E> {
    let mut before = read()?;
    if last == Some(&before) {
        return Ok(Some(before));
    }
    for _ in 1..MAX_READINGS {
        pause();
        let now = read()?;
        if now == before {
            return Ok(Some(now));
        }
        before = now;
    }
    Ok(None)
}

/// The `*.toml` files of a directory, sorted by name.
///
/// # Errors
///
/// Complaints about files that cannot be read, are no regular files, are too large, too many, or lead out of the directory.
pub fn policy_files(directory: &Path) -> Result<Vec<policy::Source>, Vec<Complaint>> {
    let wrong = |path: &Path, code, message: String, hint| vec![complaint(path, code, message, hint)];
    let unreadable = |path: &Path, error: &io::Error| wrong(path, "file", format!("cannot be read: {error}"), READABLE);
    let real = directory.canonicalize().map_err(|error| unreadable(directory, &error))?;
    let entries = fs::read_dir(directory).map_err(|error| unreadable(directory, &error))?;
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| unreadable(directory, &error))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.ends_with(".toml") && !name.starts_with('.') {
            paths.push(path);
        }
        if paths.len() > MAX_FILES {
            let hint = "describe small APIs of one host in one file";
            return Err(wrong(directory, "too-many-files", format!("more than {MAX_FILES} policy files"), hint));
        }
    }
    paths.sort();
    let mut files = Vec::with_capacity(paths.len());
    for path in paths {
        let target = path.canonicalize().map_err(|error| unreadable(&path, &error))?;
        if !target.starts_with(&real) {
            let hint = "put the file itself into the policy directory";
            return Err(wrong(&path, "outside", "a link that leads out of the policy directory".to_owned(), hint));
        }
        let metadata = fs::metadata(&target).map_err(|error| unreadable(&path, &error))?;
        if !metadata.is_file() {
            let hint = "a policy is a regular file: reading another kind may never end";
            return Err(wrong(&path, "not-a-file", "not a regular file".to_owned(), hint));
        }
        let size = metadata.len();
        if size > MAX_FILE {
            let message = format!("{size} bytes; a policy file has at most {MAX_FILE}");
            return Err(wrong(&path, "too-large", message, "make several APIs of it"));
        }
        let text = fs::read_to_string(&target).map_err(|error| unreadable(&path, &error))?;
        files.push(policy::Source { file: path.display().to_string().into(), text: text.into() });
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn what_is_no_regular_file_is_no_policy() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.toml");
        let codes = || policy_files(directory.path()).map_err(|all| all.into_iter().map(|one| one.code).collect());
        let refused: Result<Vec<policy::Source>, Vec<&str>> = Err(vec!["not-a-file"]);
        let socket = UnixListener::bind(&path).unwrap();
        assert_eq!(codes(), refused);
        drop(socket);
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert_eq!(codes(), refused);
        fs::remove_dir(&path).unwrap();
        fs::write(&path, "api = 1").unwrap();
        assert_eq!(codes().unwrap().len(), 1);
    }

    #[test]
    fn names_that_change_their_files_are_a_change() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::create_dir(at("policies")).unwrap();
        for name in ["s.pem", "s.key", "ca.pem", "ca.key", "one.pem", "two.pem"] {
            fs::write(at(name), name).unwrap();
        }
        let sources = |authorities: &str| {
            let text = format!(
                "[tls]\ncertificate = \"s.pem\"\nkey = \"s.key\"\n[network]\nsuffix = \"api.corp.example\"\n\
                 [services]\nca = \"ca.pem\"\nca_key = \"ca.key\"\n[policies]\ndirectory = \"policies\"\n\
                 [authorities]\n{authorities}\n"
            );
            fs::write(at("wicketgate.toml"), text).unwrap();
            let (config, _) = config::read(&at("wicketgate.toml")).unwrap();
            Sources::read(&config).unwrap()
        };
        let before = sources("a = \"one.pem\"\nb = \"two.pem\"");
        assert!(before == sources("b = \"two.pem\"\na = \"one.pem\""));
        assert!(before != sources("a = \"two.pem\"\nb = \"one.pem\""));
        assert!(sources("a = \"one.pem\"") != sources("b = \"one.pem\""));
        fs::write(at("two.pem"), "renewed").unwrap();
        assert!(before != sources("a = \"one.pem\"\nb = \"two.pem\""));
    }

    #[test]
    fn files_are_taken_when_two_readings_agree() {
        let readings = |values: &[u32], last: Option<u32>| {
            let (mut at, mut pauses) = (0, 0);
            let read = || {
                at += 1;
                values.get(at - 1).copied().ok_or("gone")
            };
            let settled = settled(last.as_ref(), read, || pauses += 1);
            (settled, pauses)
        };
        assert_eq!(readings(&[1, 2, 3, 3], None), (Ok(Some(3)), 3));
        assert_eq!(readings(&[1], Some(1)), (Ok(Some(1)), 0));
        assert_eq!(readings(&[2, 2], Some(1)), (Ok(Some(2)), 1));
        assert_eq!(readings(&[1, 2], None), (Err("gone"), 2));
        let restless: Vec<u32> = (0..100).collect();
        assert_eq!(readings(&restless, None), (Ok(None), MAX_READINGS - 1));
    }
}
