//! The world of a run, in one folder: ports, certificates, the server's configuration, a user, policies, a token.

mod pki;
mod policies;

use std::fs;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use rustls::RootCertStore;
use serde::{Deserialize, Serialize};

pub(crate) use pki::SERVER_NAME;
pub(crate) use policies::AUDIENCE;

use crate::issuer;

/// The one person of the bench; tokens name it too.
const USER: &str = "alice";

/// Where everything is, as `world.json` says.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct World {
    /// The server's outer socket.
    pub(crate) server: SocketAddr,
    /// The server's health and metrics.
    pub(crate) admin: SocketAddr,
    pub(crate) issuer: SocketAddr,
    pub(crate) backend: SocketAddr,
    /// The plain proxy.
    pub(crate) plain: SocketAddr,
    /// The API's host.
    pub(crate) host: String,
    pub(crate) user: String,
    pub(crate) password: String,
    /// An RS256 token that names the user and the group.
    pub(crate) token: String,
    #[serde(skip)]
    folder: PathBuf,
}

impl World {
    pub(crate) fn read(folder: &Path) -> Result<Self> {
        let file = folder.join("world.json");
        let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        Ok(Self { folder: folder.to_owned(), ..serde_json::from_str(&text)? })
    }

    /// Makes the folder. `wicketgate` is the server's program: it adds the user itself.
    pub(crate) fn make(folder: &Path, wicketgate: &Path) -> Result<Self> {
        let tls = folder.join("tls");
        pki::write(&tls)?;
        let [server, admin, issuer, backend, plain] = free_addresses()?;
        let url = format!("https://localhost:{}", issuer.port());
        policies::write(&folder.join("policies"), &url, backend.port())?;
        fs::write(folder.join("wicketgate.toml"), config(server, admin))?;
        let token = issuer::token(&tls.join("token.key"), &url, USER, policies::GROUP)?;
        let password =
            format!("pw-{}", token.chars().rev().filter(char::is_ascii_alphanumeric).take(24).collect::<String>());
        let world = Self {
            server,
            admin,
            issuer,
            backend,
            plain,
            host: policies::host(),
            user: USER.to_owned(),
            password,
            token,
            folder: folder.to_owned(),
        };
        add_user(&world, wicketgate)?;
        fs::write(folder.join("world.json"), serde_json::to_string_pretty(&world)?)?;
        Ok(world)
    }

    /// The folder of certificates and keys.
    pub(crate) fn tls(&self) -> PathBuf {
        self.folder.join("tls")
    }

    /// What clients trust, outside and inside the tunnel.
    pub(crate) fn roots(&self) -> Result<RootCertStore> {
        pki::roots(&self.tls())
    }
}

/// Ports that were free a moment ago.
fn free_addresses() -> Result<[SocketAddr; 5]> {
    let listeners: Vec<_> =
        (0..5).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).collect::<std::io::Result<_>>()?;
    let addresses = listeners.iter().map(TcpListener::local_addr).collect::<std::io::Result<Vec<_>>>()?;
    addresses.try_into().ok().context("five addresses")
}

/// Everything that the product does by default is on; only the numbers that one client machine would reach are raised.
fn config(server: SocketAddr, admin: SocketAddr) -> String {
    format!(
        r#"[listen]
address                        = "{server}"
max_unauthenticated_per_source = 1000

[tls]
certificate = "tls/server.pem"
key         = "tls/server.key"

[tunnel]
max_sessions_per_user = 10_000
max_requests          = "1000000/s"

[network]
suffix = "{suffix}"

[users]

[services]
ca     = "tls/services-ca.pem"
ca_key = "tls/services-ca.key"

[authorities]
bench-ca = "tls/root.pem"

[policies]

[audit]
file = "audit.jsonl"

[admin]
address = "{admin}"
"#,
        suffix = policies::SUFFIX,
    )
}

fn add_user(world: &World, wicketgate: &Path) -> Result<()> {
    let mut child = Command::new(wicketgate)
        .args(["user", "add", &world.user, "--groups", policies::GROUP, "--config"])
        .arg(world.folder.join("wicketgate.toml"))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .with_context(|| wicketgate.display().to_string())?;
    let mut stdin = child.stdin.take().context("a pipe to the child")?;
    writeln!(stdin, "{}", world.password)?;
    drop(stdin);
    let status = child.wait()?;
    ensure!(status.success(), "`wicketgate user add` ended with {status}");
    Ok(())
}
