//! A whole server in this process, on loopback: certificates, users, policies, two APIs behind it, and a real client.
//!
//! ```ignore
//! let world = World::start().await;
//! let alice = world.connect("alice").await;
//! assert_eq!(world.get(&alice, "/v1/items").await.status, 200);
//! ```
//!
//! Alice is a developer, Bob is one too and an admin, Carol does the payroll. Developers use the API `orders`, admins
//! may also delete; for both, `payroll` does not exist.

pub(crate) mod backend;
pub(crate) mod issuer;
pub(crate) mod ledger;
pub(crate) mod log;
pub(crate) mod pki;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use wicket_client::{Error, Http1, Method, Profile, Request, Resolved, Response, Settings, Stream, Tunnel};
use wicketgate::identity::authn::UserFile;
use wicketgate::server::{self, Orders};
use wicketgate::{clock, config, telemetry};

use backend::Backend;
use issuer::Issuer;
use ledger::Ledger;
use pki::{PKI, Pem};

/// The name in the server's certificate.
pub(crate) const SERVER_NAME: &str = "vpn.example.test";
/// Everybody's password.
pub(crate) const PASSWORD: &str = "correct horse battery staple";
/// The host that developers use.
pub(crate) const ORDERS: &str = "orders.api.example.test";
/// The host that exists for Carol only.
pub(crate) const PAYROLL: &str = "payroll.api.example.test";

/// The longest wait for something that happens at once on an idle machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// How long something that must not happen is waited for: many times what it takes when it happens.
pub(crate) const SILENCE: Duration = Duration::from_millis(300);
/// Within this, a reload and a revocation are done.
pub(crate) const A_SECOND: Duration = Duration::from_secs(1);

/// The policies of a new world; `{orders}`, `{payroll}`, `{issuer}` and `{partner}` become addresses.
const POLICIES: [(&str, &str); 4] = [
    ("_org.toml", "policy_version = 1\nowner = \"security@example.test\"\n"),
    ("_identity.toml", IDENTITY),
    ("orders.toml", ORDERS_POLICY),
    ("payroll.toml", PAYROLL_POLICY),
];

pub(crate) const IDENTITY: &str = r#"
[subjects.developers]
groups = ["developers"]

[subjects.admins]
groups = ["admins"]

[subjects.payroll]
groups = ["payroll"]
"#;

pub(crate) const ORDERS_POLICY: &str = r#"
api            = "orders"
policy_version = 1
owner          = "orders-team@example.test"
hosts          = ["orders.api.example.test"]

[upstream]
url      = "http://{orders}"
max_body = "64MiB"

[[allow]]
id      = "use"
who     = ["developers", "admins"]
methods = ["GET", "POST"]
paths   = ["/v1/**"]

[[allow]]
id      = "delete"
who     = "admins"
methods = ["DELETE"]
paths   = ["/v1/**"]
"#;

const PAYROLL_POLICY: &str = r#"
api            = "payroll"
policy_version = 1
owner          = "people-team@example.test"
hosts          = ["payroll.api.example.test"]

[upstream]
url = "http://{payroll}"

[[allow]]
id      = "read"
who     = "payroll"
methods = ["GET"]
paths   = ["/v1/**"]
"#;

/// An issuer that names persons and states groups.
pub(crate) const ISSUERS: &str = r#"
[issuers.corp]
url          = "{issuer}"
ca           = "root"
audiences    = ["wicketgate"]
algs         = ["ES256", "RS256"]
groups_claim = "groups"
groups       = ["admins"]
groups_absent = "empty"
person       = { claim = "preferred_username" }

[issuers.partner]
url          = "{partner}"
ca           = "root"
audiences    = ["wicketgate"]
algs         = ["ES256"]
groups_claim = "groups"
groups       = ["auditors"]
groups_absent = "empty"
person       = { claim = "preferred_username" }
"#;

/// What a test changes before the server starts.
pub(crate) struct Builder {
    policies: BTreeMap<String, String>,
    sections: BTreeMap<&'static str, String>,
    users: Vec<(&'static str, &'static [&'static str])>,
    issuers: bool,
}

impl Builder {
    /// Another policy file, or another text of one.
    #[must_use]
    pub(crate) fn policy(mut self, name: &str, text: &str) -> Self {
        self.policies.insert(name.to_owned(), text.to_owned());
        self
    }

    /// More lines of a section of the configuration.
    #[must_use]
    pub(crate) fn set(mut self, section: &'static str, lines: &str) -> Self {
        let section = self.sections.entry(section).or_default();
        section.push_str(lines);
        section.push('\n');
        self
    }

    /// One user more.
    #[must_use]
    pub(crate) fn user(mut self, name: &'static str, groups: &'static [&'static str]) -> Self {
        self.users.push((name, groups));
        self
    }

    /// With the issuers `corp` and `partner`.
    #[must_use]
    pub(crate) fn issuers(mut self) -> Self {
        self.issuers = true;
        self.policy("_identity.toml", &[ISSUERS, IDENTITY].concat())
    }

    /// Writes the files, without a server.
    pub(crate) async fn write(self) -> Files {
        log::keep();
        let folder = tempfile::tempdir().unwrap();
        let ledger = Arc::new(Mutex::new(Ledger::new(folder.path().join("audit.jsonl"))));
        let orders = Backend::start("orders", Arc::clone(&ledger)).await;
        let payroll = Backend::start("payroll", Arc::clone(&ledger)).await;
        let (issuer, partner) =
            if self.issuers { (Some(Issuer::start(0).await), Some(Issuer::start(1).await)) } else { (None, None) };
        let files = Files { folder, ledger, orders, payroll, issuer, partner };
        fs::create_dir(files.path("tls")).unwrap();
        files.write_server_certificate(&PKI.server);
        files.write_pem("tls/services-ca", &PKI.services);
        fs::write(files.path("tls/root.pem"), &PKI.root).unwrap();
        fs::create_dir(files.path("policies")).unwrap();
        for (name, text) in &self.policies {
            files.write_policy(name, text);
        }
        let mut text = String::new();
        for (section, lines) in &self.sections {
            write!(text, "[{section}]\n{lines}\n").unwrap();
        }
        fs::write(files.config(), text).unwrap();
        fs::set_permissions(files.config(), fs::Permissions::from_mode(0o600)).unwrap();
        for (name, groups) in &self.users {
            files.add_user(name, groups);
        }
        files
    }

    /// Starts the server and waits until it serves.
    pub(crate) async fn start(self) -> World {
        let issuers = self.issuers;
        let world = self.launch().await;
        if issuers {
            eventually("the keys of the issuers", async || world.admin("/readyz").await.status == 200).await;
        }
        world
    }

    /// Starts the server, ready or not.
    pub(crate) async fn launch(self) -> World {
        World::run(self.write().await).await
    }
}

/// The files of a world, and what runs beside the server.
pub(crate) struct Files {
    folder: TempDir,
    ledger: Arc<Mutex<Ledger>>,
    pub(crate) orders: Backend,
    pub(crate) payroll: Backend,
    issuer: Option<Issuer>,
    partner: Option<Issuer>,
}

impl Files {
    /// A file of this world.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.path("wicketgate.toml")
    }

    /// The issuer `corp`.
    pub(crate) fn issuer(&self) -> &Issuer {
        self.issuer.as_ref().expect("a world with issuers")
    }

    /// The issuer `partner`.
    pub(crate) fn partner(&self) -> &Issuer {
        self.partner.as_ref().expect("a world with issuers")
    }

    /// Puts a policy file in place, whole from one moment to the next.
    pub(crate) fn write_policy(&self, name: &str, text: &str) {
        put(&self.path("policies").join(name), &self.policy(text));
    }

    /// The text of a policy with the addresses of this world.
    pub(crate) fn policy(&self, text: &str) -> String {
        let url = |issuer: &Option<Issuer>| issuer.as_ref().map_or(String::new(), |issuer| issuer.url.clone());
        text.replace("{orders}", &self.orders.address.to_string())
            .replace("{payroll}", &self.payroll.address.to_string())
            .replace("{issuer}", &url(&self.issuer))
            .replace("{partner}", &url(&self.partner))
    }

    /// Puts another certificate in place: the key first, so that a reader in between sees a pair that does not fit.
    pub(crate) fn write_server_certificate(&self, pem: &Pem) {
        self.write_pem("tls/server", pem);
    }

    /// Puts a certificate and its key in place, the key first.
    pub(crate) fn write_pem(&self, name: &str, pem: &Pem) {
        let key = self.path(&format!("{name}.key"));
        put(&key, &pem.key);
        fs::set_permissions(key, fs::Permissions::from_mode(0o600)).unwrap();
        put(&self.path(&format!("{name}.pem")), &pem.certificate);
    }

    /// The user file, as `wicketgate user` changes it.
    pub(crate) fn users(&self) -> UserFile {
        UserFile::new(self.path("users.toml"), self.path("users.key"))
    }

    pub(crate) fn add_user(&self, name: &str, groups: &[&str]) {
        let groups: Vec<String> = groups.iter().map(ToString::to_string).collect();
        self.users().add(name, &groups, PASSWORD).unwrap();
    }

    /// Changes the user file by hand.
    pub(crate) fn edit_users(&self, change: impl FnOnce(&mut Vec<toml::Value>)) {
        let path = self.path("users.toml");
        let mut file: toml::Table = fs::read_to_string(&path).unwrap().parse().unwrap();
        change(file["user"].as_array_mut().unwrap());
        put(&path, &file.to_string());
    }

    /// Gives a person these groups and no others.
    pub(crate) fn set_groups(&self, name: &str, groups: &[&str]) {
        self.edit_users(|users| {
            let user = users.iter_mut().find(|user| user["name"].as_str() == Some(name)).unwrap();
            let groups: Vec<toml::Value> = groups.iter().map(|&group| group.into()).collect();
            user.as_table_mut().unwrap().insert("groups".to_owned(), groups.into());
        });
    }

    /// All audit records so far for which this holds.
    pub(crate) fn audit(&self, which: impl Fn(&Value) -> bool) -> Vec<Value> {
        self.ledger.lock().unwrap().records().iter().filter(|record| which(record)).cloned().collect()
    }

    /// All audit records of one kind.
    pub(crate) fn audited(&self, event: &str) -> Vec<Value> {
        self.audit(|record| record["event"] == event)
    }

    /// Waits for an audit record and gives the first.
    pub(crate) async fn record(&self, which: impl Fn(&Value) -> bool) -> Value {
        eventually("an audit record", async || !self.audit(&which).is_empty()).await;
        self.audit(&which).swap_remove(0)
    }
}

/// A running server and everything around it.
pub(crate) struct World {
    pub(crate) files: Files,
    /// Where clients connect.
    pub(crate) listen: SocketAddr,
    /// `[admin] address`.
    pub(crate) admin: SocketAddr,
    reload: mpsc::Sender<()>,
    stop: Option<oneshot::Sender<()>>,
    server: Option<JoinHandle<anyhow::Result<()>>>,
    relays: Mutex<JoinSet<()>>,
}

impl std::ops::Deref for World {
    type Target = Files;

    fn deref(&self) -> &Files {
        &self.files
    }
}

impl World {
    /// A world as the module describes it.
    pub(crate) async fn start() -> Self {
        Self::builder().start().await
    }

    pub(crate) fn builder() -> Builder {
        let builder = Builder {
            policies: POLICIES.iter().map(|&(name, text)| (name.to_owned(), text.to_owned())).collect(),
            sections: BTreeMap::new(),
            users: vec![("alice", &["developers"]), ("bob", &["developers", "admins"]), ("carol", &["payroll"])],
            issuers: false,
        };
        builder
            .set("listen", "address = \"127.0.0.1:0\"")
            .set("admin", "address = \"127.0.0.1:0\"")
            .set("tls", "certificate = \"tls/server.pem\"\nkey = \"tls/server.key\"")
            .set("network", "suffix = \"api.example.test\"")
            .set("services", "ca = \"tls/services-ca.pem\"\nca_key = \"tls/services-ca.key\"")
            .set("authorities", "root = \"tls/root.pem\"")
    }

    /// Serves these files.
    pub(crate) async fn run(files: Files) -> Self {
        let path = files.config();
        let (config, _) = config::load(&path).unwrap_or_else(|wrong| panic!("{}", config::complaint::text(&wrong)));
        let (stop, stopped) = oneshot::channel();
        let (reload, reloads) = mpsc::channel(1);
        let (ready, bound) = oneshot::channel();
        let server = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let orders = Orders { stop: stopped, reload: reloads };
            // A test that ended early does not listen.
            let ready = |bound| _ = ready.send(bound);
            runtime.block_on(server::run(path, config, 1, metrics(), orders, ready))
        });
        let bound = bound.await.expect("the server starts");
        Self {
            files,
            listen: bound.listen,
            admin: bound.admin,
            reload,
            stop: Some(stop),
            server: Some(server),
            relays: Mutex::default(),
        }
    }

    /// Orders the server to drain, waits for its end, and makes sure that no backend saw an unrecorded request.
    pub(crate) async fn stop(mut self) {
        drop(self.stop.take());
        let server = self.server.take().expect("a server is stopped once");
        let ended = tokio::task::spawn_blocking(|| server.join()).await.unwrap();
        ended.expect("no panic").expect("an orderly end");
        self.assert_all_audited();
    }

    /// Gives the order to drain, and does not wait.
    pub(crate) fn drain(&mut self) {
        drop(self.stop.take());
    }

    /// Whether `run` has returned.
    pub(crate) fn has_ended(&self) -> bool {
        self.server.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Nothing reached a backend whose decision was not in the audit file before.
    pub(crate) fn assert_all_audited(&self) {
        for seen in self.orders.seen().iter().chain(&self.payroll.seen()) {
            assert!(seen.audited, "not recorded before it was forwarded: {seen:?}");
        }
    }

    /// The honest profile of a person: Windows, EAP-MSCHAPv2, the right password.
    pub(crate) fn profile(&self, person: &str) -> Profile {
        profile(person)
    }

    /// A tunnel of an honest client.
    pub(crate) async fn connect(&self, person: &str) -> Tunnel {
        self.try_connect(self.profile(person)).await.unwrap_or_else(|error| panic!("{person}: {error}"))
    }

    pub(crate) async fn try_connect(&self, profile: Profile) -> Result<Tunnel, Error> {
        self.try_connect_with(profile, Settings::default()).await
    }

    pub(crate) async fn try_connect_with(&self, profile: Profile, settings: Settings) -> Result<Tunnel, Error> {
        Tunnel::connect_with(self.listen, PKI.roots.clone(), profile, settings).await
    }

    /// An address that leads to the server by way of `source`.
    pub(crate) async fn through(&self, source: Ipv4Addr) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, server) = (listener.local_addr().unwrap(), self.listen);
        self.relays.lock().unwrap().spawn(async move {
            let mut relays = JoinSet::new();
            while let Ok((mut near, _)) = listener.accept().await {
                relays.spawn(async move {
                    let socket = TcpSocket::new_v4().unwrap();
                    socket.bind(SocketAddr::new(IpAddr::V4(source), 0)).unwrap();
                    let Ok(mut far) = socket.connect(server).await else { return };
                    drop(tokio::io::copy_bidirectional(&mut near, &mut far).await);
                });
            }
        });
        address
    }

    /// A TCP connection to the listener.
    pub(crate) async fn tcp(&self) -> TcpStream {
        TcpStream::connect(self.listen).await.unwrap()
    }

    /// TLS to the listener, as an HTTPS client without a tunnel makes it.
    pub(crate) async fn tls(&self, alpn: &[&[u8]]) -> Result<wicket_client::http::TlsStream<TcpStream>, Error> {
        wicket_client::tls(self.tcp().await, PKI.roots.clone(), SERVER_NAME, alpn).await
    }

    /// A TCP stream inside a tunnel to a host by its name.
    pub(crate) async fn open(&self, tunnel: &Tunnel, host: &str, port: u16) -> Stream {
        tunnel.tcp(address_of(tunnel, host).await, port).await.unwrap()
    }

    /// An HTTP/1.1 connection inside a tunnel, on port 80.
    pub(crate) async fn http(&self, tunnel: &Tunnel, host: &str) -> Http1 {
        Http1::new(self.open(tunnel, host, 80).await).await.unwrap()
    }

    /// One request on a connection of its own.
    pub(crate) async fn send(&self, tunnel: &Tunnel, request: Request) -> Response {
        let mut http = self.http(tunnel, &request.host.clone()).await;
        http.send(request).await.unwrap()
    }

    /// GET of a path of `orders`.
    pub(crate) async fn get(&self, tunnel: &Tunnel, path: &str) -> Response {
        self.send(tunnel, Request::get(ORDERS, path)).await
    }

    /// GET on `[admin] address`.
    pub(crate) async fn admin(&self, path: &str) -> Response {
        let stream = TcpStream::connect(self.admin).await.unwrap();
        wicket_client::request(stream, Request::get("admin", path)).await.unwrap()
    }

    /// A request on the admin socket.
    pub(crate) async fn operate(&self, method: http::Method, path: &str) -> Response {
        let stream = UnixStream::connect(self.path("admin.sock")).await.unwrap();
        wicket_client::request(stream, Request::new(method, "admin", path)).await.unwrap()
    }

    /// The live sessions as the operator sees them.
    pub(crate) async fn sessions(&self) -> Vec<Value> {
        serde_json::from_slice(&self.operate(http::Method::GET, "/sessions").await.body).unwrap()
    }

    /// Changes a file, orders a reload, and waits for what the audit says of it.
    pub(crate) async fn reload_after(&self, change: impl FnOnce()) -> Value {
        let before = self.reloads().len();
        change();
        self.order_reload().await;
        eventually("a record of the reload", async || self.reloads().len() > before).await;
        self.reloads().swap_remove(before)
    }

    /// Orders a reload and does not wait.
    pub(crate) async fn order_reload(&self) {
        self.reload.send(()).await.unwrap();
    }

    /// What the audit says of reloads.
    fn reloads(&self) -> Vec<Value> {
        self.audit(|record| {
            matches!(record["event"].as_str(), Some("policy-loaded" | "policy-load-failed" | "reloaded"))
        })
    }
}

/// The honest profile of a person, see [`World::profile`].
pub(crate) fn profile(person: &str) -> Profile {
    Profile::new(SERVER_NAME, person, PASSWORD, Method::EapMsChapV2)
}

/// The virtual address of a host that exists for this person.
pub(crate) async fn address_of(tunnel: &Tunnel, host: &str) -> Ipv4Addr {
    let resolved = tunnel.resolve(host).await.unwrap();
    let Resolved::Addresses(addresses) = resolved else { panic!("{host} resolves to {resolved:?}") };
    addresses[0]
}

/// The reason code of a refusal.
pub(crate) fn reason(response: &Response) -> String {
    let problem: Value = serde_json::from_slice(&response.body).unwrap_or_default();
    problem["reason"].as_str().unwrap_or_default().to_owned()
}

/// Waits until something is so.
pub(crate) async fn eventually(what: &str, is_so: impl AsyncFn() -> bool) {
    let waiting = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("{what} did not come in {PATIENCE:?}"));
}

/// Waits for something that must come within a second, and says how long it took.
pub(crate) async fn within_a_second<T>(what: &str, work: impl Future<Output = T>) -> T {
    let began = clock::now();
    let done = tokio::time::timeout(PATIENCE, work).await.unwrap_or_else(|_| panic!("{what} did not come"));
    let took = clock::now() - began;
    assert!(took <= A_SECOND, "{what} took {took:?}");
    done
}

/// Replaces a file as a careful editor does.
pub(crate) fn put(path: &Path, text: &str) {
    put_bytes(path, text.as_bytes());
}

pub(crate) fn put_bytes(path: &Path, bytes: &[u8]) {
    let new = path.with_extension("new");
    fs::write(&new, bytes).unwrap();
    if let Ok(old) = fs::metadata(path) {
        fs::set_permissions(&new, old.permissions()).unwrap();
    }
    fs::rename(&new, path).unwrap();
}

/// One recorder for the process: every world counts into it.
pub(crate) fn metrics() -> PrometheusHandle {
    static HANDLE: LazyLock<PrometheusHandle> = LazyLock::new(|| telemetry::install_metrics().unwrap());
    HANDLE.clone()
}
