//! A proxy with policies, people and an API behind it, and streams into it that come from no tunnel.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::DuplexStream;
use tokio::task::JoinSet;
use wicket_client::http::{Http2, TlsStream};
use wicketgate::audit::{Audit, DecisionIds, OnFailure};
use wicketgate::identity::authn::{self, Backoff, IssuerConfig, Tokens, UserFile};
use wicketgate::identity::{Binding, Method, SessionId, Tunnel};
use wicketgate::limits::{Limits, PreLimit, Quota};
use wicketgate::listener::tls::Certificate;
use wicketgate::policy::{self, Bundle, Source};
use wicketgate::proxy::{self, Caller, Dialled, Proxy, server_config};
use wicketgate::server::loader::lone_environment;
use wicketgate::shutdown::Drain;
use wicketgate::snapshot::{Snapshot, Snapshots};
use wicketgate::upstream::{Authorities, ClientCertificate, Target};
use wicketgate::{clock, entropy};

use super::backend::{Backend, Request};
use super::door::{Answer, Door};

pub(super) const ORDERS: &str = "orders.api.test";
pub(super) const BILLING: &str = "billing.api.test";

const IDENTITY: &str = r#"
[subjects.dev]
groups = ["dev"]
[subjects.admin]
groups = ["admin"]
[subjects.keepers]
groups = ["keepers"]
"#;

/// Rules by which developers may read and write orders.
pub(super) const RULES: &str = r#"
[[allow]]
id      = "use"
who     = "dev"
methods = ["GET", "POST"]
paths   = ["/v1/orders", "/v1/orders/**"]
"#;

/// An API file: `top` are its further first lines, `upstream` those of `[upstream]`.
pub(super) fn api(name: &str, top: &str, upstream: &str, rules: &str) -> String {
    format!(
        "api = \"{name}\"\npolicy_version = 1\nowner = \"{name}-team@corp.test\"\nhosts = [\"{name}.api.test\"]\n{top}\n\
         [upstream]\nurl = \"BACKEND\"\n{upstream}\n{rules}\n"
    )
}

/// What a bench is made of.
pub(super) struct Setup {
    files: BTreeMap<String, String>,
    backend: Option<Backend>,
    issuers: Vec<IssuerConfig>,
    authorities: BTreeMap<String, Arc<RootCertStore>>,
    certificates: BTreeMap<String, ClientCertificate>,
    own_listeners: Vec<SocketAddr>,
    audit: Option<PathBuf>,
    on_failure: OnFailure,
    prelimit: u32,
    buckets: usize,
    own_socket: Option<PathBuf>,
}

impl Setup {
    /// One API with these rules, and another beside it with the same.
    pub(super) fn new(rules: &str) -> Self {
        Self::of(&api("orders", "", "", rules)).file("billing.toml", &api("billing", "", "", RULES))
    }

    /// One API, by its whole file.
    pub(super) fn of(orders: &str) -> Self {
        let files = [("_identity.toml", IDENTITY), ("orders.toml", orders)];
        Self {
            files: files.map(|(name, text)| (name.to_owned(), text.to_owned())).into(),
            backend: None,
            issuers: Vec::new(),
            authorities: BTreeMap::new(),
            certificates: BTreeMap::new(),
            own_listeners: Vec::new(),
            audit: None,
            on_failure: OnFailure::Refuse,
            prelimit: 100_000,
            buckets: 1 << 12,
            own_socket: None,
        }
    }

    /// Another policy file; its text may say `BACKEND` for the API's URL.
    pub(super) fn file(mut self, name: &str, text: &str) -> Self {
        self.files.insert(name.to_owned(), text.to_owned());
        self
    }

    pub(super) fn backend(mut self, backend: Backend) -> Self {
        self.backend = Some(backend);
        self
    }

    /// Trusts an issuer, which `_identity.toml` gets to know too.
    pub(super) fn issuer(mut self, config: IssuerConfig) -> Self {
        let Some(identity) = self.files.get_mut("_identity.toml") else { return self };
        identity.push_str(&format!(
            "[issuers.{}]\nurl = \"{}\"\naudiences = [\"wicket\"]\nalgs = [\"ES256\", \"RS256\"]\n\
             groups_claim = \"groups\"\ngroups = [\"admin\", \"dev\"]\nperson = {{ claim = \"preferred_username\" }}\n",
            config.name, config.url
        ));
        self.issuers.push(config);
        self
    }

    pub(super) fn authority(mut self, name: &str, root: &CertificateDer<'static>) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(root.clone()).expect("a root");
        self.authorities.insert(name.to_owned(), Arc::new(roots));
        self
    }

    pub(super) fn certificate(mut self, name: &str, pair: Pair) -> Self {
        let (leaf, key) = pair;
        self.certificates.insert(name.to_owned(), ClientCertificate { chain: vec![leaf], key });
        self
    }

    /// The proxy listens there too, so no upstream may be there.
    pub(super) fn own_listener(mut self, address: SocketAddr) -> Self {
        self.own_listeners.push(address);
        self
    }

    /// Writes records there.
    pub(super) fn audit(mut self, path: &Path) -> Self {
        self.audit = Some(path.to_path_buf());
        self
    }

    /// What happens while records cannot be written.
    pub(super) fn on_failure(mut self, on_failure: OnFailure) -> Self {
        self.on_failure = on_failure;
        self
    }

    /// So many requests of one session in a second.
    pub(super) fn prelimit(mut self, requests: u32) -> Self {
        self.prelimit = requests;
        self
    }

    /// Room for so many buckets of rate limits.
    pub(super) fn buckets(mut self, buckets: usize) -> Self {
        self.buckets = buckets;
        self
    }

    /// Our own admin socket.
    pub(super) fn own_socket(mut self, path: &Path) -> Self {
        self.own_socket = Some(path.to_path_buf());
        self
    }

    pub(super) async fn start(self) -> Bench {
        let folder = tempfile::tempdir().expect("a folder");
        let users = UserFile::new(folder.path().join("users.toml"), folder.path().join("users.key"));
        for (name, group) in [("alice", "dev"), ("bob", "dev"), ("root", "admin")] {
            users.add(name, &[group.to_owned()], "password").expect("a new user");
        }
        let audit = self.audit.clone().unwrap_or_else(|| folder.path().join("audit.jsonl"));
        let backend = match self.backend.clone() {
            Some(backend) => backend,
            None => Backend::start().await,
        };
        let tokens = Arc::new(Tokens::new(self.issuers.clone(), None));
        let authority = authority();
        let parts = Parts {
            url: backend.url.clone(),
            tokens: Arc::clone(&tokens),
            authorities: Authorities {
                named: self.authorities,
                system: Arc::new(RootCertStore::empty()),
                certificates: self.certificates,
                own_listeners: self.own_listeners,
                own_socket: self.own_socket,
            },
            certificate: outer_certificate(&authority),
            authority,
        };
        let generation = Cell::new(0);
        let snapshots = Arc::new(Snapshots::new(parts.snapshot(&self.files, &users, &generation)));
        let writer = Audit::open(&audit, self.on_failure).expect("a file for records");
        let mut serving = JoinSet::new();
        if !self.issuers.is_empty() {
            serving.spawn(tokens.run());
            ready(&tokens).await;
        }
        let limits = Arc::new(Limits::new(self.buckets, clock::now()));
        let decisions = Arc::new(DecisionIds::new(entropy::number()));
        let drain = Drain::new();
        let proxy = Proxy::new(Arc::clone(&snapshots), limits, Arc::new(writer), decisions, drain.watch());
        let bench = Bench {
            backend,
            folder,
            files: RefCell::new(self.files),
            parts,
            users,
            generation,
            sessions: Cell::new(0),
            snapshots,
            proxy: Arc::new(proxy),
            serving: RefCell::new(serving),
            alice: RefCell::new(None),
            asked: Arc::default(),
            audit,
            prelimit: self.prelimit,
            drain,
        };
        *bench.alice.borrow_mut() = Some(bench.caller("alice"));
        bench
    }
}

/// Waits for the keys of all issuers.
async fn ready(tokens: &Tokens) {
    let waiting = async {
        while !tokens.without_keys(clock::now()).is_empty() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), waiting).await.expect("the issuer has keys");
}

/// What stays when a new generation is made.
struct Parts {
    url: String,
    tokens: Arc<Tokens>,
    authorities: Authorities,
    certificate: Arc<Certificate>,
    authority: CertifiedIssuer<'static, KeyPair>,
}

impl Parts {
    fn snapshot(&self, files: &BTreeMap<String, String>, users: &UserFile, generation: &Cell<u64>) -> Snapshot {
        generation.set(generation.get() + 1);
        let bundle = Arc::new(compile(files, &self.url));
        let tls = |host: &policy::VirtualHost| {
            let (leaf, key) = issue(&self.authority, &host.name, ExtendedKeyUsagePurpose::ServerAuth);
            (host.address, Arc::new(server_config(vec![leaf], key).expect("a pair")))
        };
        Snapshot {
            generation: generation.get(),
            users: Arc::new(users.load().expect("users")),
            tokens: Arc::clone(&self.tokens),
            certificate: Arc::clone(&self.certificate),
            services: bundle.hosts().iter().map(tls).collect(),
            targets: Target::all(&bundle, &self.authorities, None).expect("targets"),
            bundle: Some(bundle),
        }
    }
}

fn compile(files: &BTreeMap<String, String>, url: &str) -> Bundle {
    let source = |(name, text): (&String, &String)| Source {
        file: name.as_str().into(),
        text: text.replace("BACKEND", url).into(),
    };
    let sources: Vec<Source> = files.iter().map(source).collect();
    match policy::compile(&sources, &lone_environment(), None) {
        Ok(compiled) => compiled.bundle,
        Err(complaints) => panic!("{complaints:#?}"),
    }
}

pub(super) type Pair = (CertificateDer<'static>, PrivateKeyDer<'static>);

/// A certificate authority for a test.
pub(super) fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a root")
}

/// A certificate of this authority.
pub(super) fn issue(authority: &CertifiedIssuer<'static, KeyPair>, name: &str, usage: ExtendedKeyUsagePurpose) -> Pair {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
    params.extended_key_usages = vec![usage];
    let leaf = params.signed_by(&key, authority).expect("a certificate");
    (leaf.der().clone(), PrivatePkcs8KeyDer::from(key.serialize_der()).into())
}

fn outer_certificate(authority: &CertifiedIssuer<'static, KeyPair>) -> Arc<Certificate> {
    let (leaf, key) = issue(authority, "vpn.test", ExtendedKeyUsagePurpose::ServerAuth);
    Arc::new(Certificate::new(vec![leaf], key).expect("a pair"))
}

/// One shard's proxy.
pub(super) struct Bench {
    pub(super) backend: Backend,
    folder: TempDir,
    files: RefCell<BTreeMap<String, String>>,
    parts: Parts,
    users: UserFile,
    generation: Cell<u64>,
    sessions: Cell<u64>,
    snapshots: Arc<Snapshots>,
    proxy: Arc<Proxy>,
    serving: RefCell<JoinSet<()>>,
    alice: RefCell<Option<Arc<Caller>>>,
    asked: Arc<AtomicU64>,
    audit: PathBuf,
    prelimit: u32,
    drain: Drain,
}

impl Bench {
    /// Developers may use orders and billing.
    pub(super) async fn ordinary() -> Self {
        Setup::new(RULES).start().await
    }

    /// A new session of a person.
    pub(super) fn caller(&self, name: &str) -> Arc<Caller> {
        self.caller_from(name, [192, 0, 2, 60].into())
    }

    /// A new session of a person who connects from this address.
    pub(super) fn caller_from(&self, name: &str, source: IpAddr) -> Arc<Caller> {
        self.sessions.set(self.sessions.get() + 1);
        let tunnel = Tunnel {
            session: SessionId::from_random(self.sessions.get()),
            method: Method::MsChapV2,
            binding: Binding::Keys,
            source: (source, 50_000).into(),
            since: clock::wall(),
        };
        let users = self.users.load().expect("users");
        let mut backoff = Backoff::new([7; 16]);
        let source = tunnel.source.ip();
        let proven = authn::login(&users, &mut backoff, name.as_bytes(), source, clock::now(), |_| true);
        let identity = authn::tunnel_identity(proven.expect("a login"), Arc::new(tunnel));
        let count = NonZeroU32::new(self.prelimit).expect("at least one");
        let quota = Quota::new(count, Duration::from_secs(1), count).expect("a quota");
        Arc::new(Caller::new(identity, PreLimit::new(quota, clock::now()), self.asked()))
    }

    /// How many requests were asked in all sessions.
    pub(super) fn asked(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.asked)
    }

    /// The session that doors belong to where nothing else is said.
    pub(super) fn alice(&self) -> Arc<Caller> {
        self.alice.borrow().clone().expect("made at the start")
    }

    /// The address of a host.
    pub(super) fn address(&self, host: &str) -> Ipv4Addr {
        let snapshot = self.snapshots.load();
        let bundle = snapshot.bundle.as_ref().expect("a bundle");
        bundle.host_for(host).unwrap_or_else(|| panic!("no host {host}")).address
    }

    /// A stream to a port of a host.
    pub(super) fn stream(&self, caller: &Arc<Caller>, host: &str, port: u16) -> DuplexStream {
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        let dialled = Dialled { address: self.address(host), port };
        let serving = Arc::clone(&self.proxy).serve(theirs, Arc::clone(caller), dialled);
        self.serving.borrow_mut().spawn(async move {
            // What went wrong is what the client sees.
            let _: Result<(), proxy::Error> = serving.await;
        });
        ours
    }

    /// A door to the orders, port 80.
    pub(super) fn door(&self) -> Door<DuplexStream> {
        self.door_to(ORDERS)
    }

    pub(super) fn door_to(&self, host: &str) -> Door<DuplexStream> {
        self.door_of(&self.alice(), host)
    }

    pub(super) fn door_of(&self, caller: &Arc<Caller>, host: &str) -> Door<DuplexStream> {
        Door::new(self.stream(caller, host, 80))
    }

    /// TLS to a host.
    pub(super) async fn tls(&self, host: &str, alpn: &[&[u8]]) -> TlsStream<DuplexStream> {
        let mut roots = RootCertStore::empty();
        roots.add(self.parts.authority.der().clone()).expect("a root");
        let stream = self.stream(&self.alice(), host, 443);
        wicket_client::http::tls(stream, roots, host, alpn).await.expect("TLS")
    }

    /// HTTP/2 inside TLS.
    pub(super) async fn h2(&self, host: &str) -> Http2 {
        Http2::new(self.tls(host, &[b"h2"]).await).await.expect("HTTP/2")
    }

    /// A new generation with this file instead of the one with the same name.
    pub(super) fn store(&self, name: &str, text: &str) {
        self.snapshots.store(self.next(name, text));
    }

    /// The next generation, with this file, for whoever stores it.
    pub(super) fn next(&self, name: &str, text: &str) -> Snapshot {
        self.files.borrow_mut().insert(name.to_owned(), text.to_owned());
        self.parts.snapshot(&self.files.borrow(), &self.users, &self.generation)
    }

    /// A new generation of the same.
    pub(super) fn renew(&self) {
        self.snapshots.store(self.parts.snapshot(&self.files.borrow(), &self.users, &self.generation));
    }

    /// The current generation.
    pub(super) fn current(&self) -> Arc<Snapshot> {
        self.snapshots.load_full()
    }

    /// Where generations are stored, for another thread.
    pub(super) fn snapshots(&self) -> Arc<Snapshots> {
        Arc::clone(&self.snapshots)
    }

    /// Gives a person these groups and no others, from the next generation on.
    pub(super) fn set_groups(&self, name: &str, groups: &[&str]) {
        let path = self.folder.path().join("users.toml");
        let mut file: toml::Table = std::fs::read_to_string(&path).expect("users").parse().expect("TOML");
        let users = file["user"].as_array_mut().expect("users");
        let user = users.iter_mut().find(|user| user["name"].as_str() == Some(name)).expect("a user");
        let groups: Vec<toml::Value> = groups.iter().map(|&group| group.into()).collect();
        user.as_table_mut().expect("a table").insert("groups".to_owned(), groups.into());
        std::fs::write(path, file.to_string()).expect("a file");
    }

    /// A new generation without policies.
    pub(super) fn close(&self) {
        let files = self.files.borrow();
        let snapshot = self.parts.snapshot(&files, &self.users, &self.generation);
        self.snapshots.store(Snapshot { bundle: None, targets: HashMap::new(), ..snapshot });
    }

    /// Disables a person, in a new generation.
    pub(super) fn disable(&self, name: &str) {
        self.users.set_disabled(name, true).expect("a user");
        self.renew();
    }

    /// Tells the proxy that its open requests are its last.
    pub(super) fn drain(&self) {
        self.drain.signal();
    }

    /// All records so far.
    pub(super) fn audit(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.audit).expect("records");
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    /// The text of all records.
    pub(super) fn audit_text(&self) -> String {
        std::fs::read_to_string(&self.audit).expect("records")
    }

    /// The record of this decision.
    pub(super) fn decision(&self, id: &str) -> Value {
        self.record("decision", id)
    }

    /// The record of a forwarded request's end, once it is over.
    pub(super) async fn end(&self, id: &str) -> Value {
        for _ in 0..1000 {
            if self.audit().iter().any(|record| record["event"] == "end" && record["decision_id"] == id) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        self.record("end", id)
    }

    fn record(&self, event: &str, id: &str) -> Value {
        let records = self.audit();
        let mut found = records.iter().filter(|record| record["event"] == event && record["decision_id"] == id);
        let record = found.next().unwrap_or_else(|| panic!("no record `{event}` of {id} in {records:#?}")).clone();
        assert!(found.next().is_none(), "two records `{event}` of {id}");
        record
    }

    /// The user file.
    pub(super) fn users(&self) -> &UserFile {
        &self.users
    }

    /// Checks a refusal from all sides: the answer, the record, and that no API saw anything.
    pub(super) fn check_refused(&self, answer: &Answer, status: u16, reason: &str) {
        self.check_reply(answer, status, reason);
        let record = self.decision(&answer.decision());
        assert_eq!((&record["outcome"], &record["reason"]), (&"deny".into(), &reason.into()), "{record:#}");
        let seen = self.backend.requests();
        assert!(seen.is_empty(), "an API saw {seen:?}");
    }

    /// Checks that an answer is one of the proxy's own.
    pub(super) fn check_reply(&self, answer: &Answer, status: u16, reason: &str) {
        assert_eq!((answer.status, answer.reason().as_str()), (status, reason), "{answer:?}");
        assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{answer:?}");
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{answer:?}");
        assert_eq!(answer.problem()["status"], status, "{answer:?}");
        let known = ["content-type", "cache-control", "content-length", "date", "connection"];
        let told = ["www-authenticate", "retry-after", "ratelimit", "ratelimit-policy"];
        for (name, _) in &answer.headers {
            assert!(known.contains(&name.as_str()) || told.contains(&name.as_str()), "{name} in {answer:?}");
        }
    }

    /// Checks that an answer is the API's, and gives back what the API saw for it.
    pub(super) fn check_passed(&self, answer: &Answer) -> Request {
        assert_eq!(answer.status, 200, "{answer:?}");
        self.backend.last()
    }
}
