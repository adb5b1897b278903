//! The files of a small company: configuration, users, policies.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Result;
use wicketgate::identity::authn::UserFile;

use crate::issuer::AUDIENCE;
use crate::pki::{self, Pki};

/// Alice's password: this world ends with its folder.
pub(crate) const PASSWORD: &str = "correct horse battery staple";

/// The name that the server's certificate has.
pub(crate) const SERVER_NAME: &str = "vpn.example.test";

const POLICY_FILES: [(&str, &str); 4] = [
    ("_org.toml", include_str!("policies/_org.toml")),
    ("_identity.toml", include_str!("policies/_identity.toml")),
    ("inventory.toml", include_str!("policies/inventory.toml")),
    ("payroll.toml", include_str!("policies/payroll.toml")),
];

/// Writes everything below `folder` and gives back the path of the configuration.
pub(crate) fn write(
    folder: &Path,
    pki: &Pki,
    listen: SocketAddr,
    issuer: &str,
    inventory: SocketAddr,
    payroll: SocketAddr,
) -> Result<PathBuf> {
    pki.server("server", &[SERVER_NAME, "localhost"])?;
    let policies = folder.join("policies");
    fs::create_dir_all(&policies)?;
    for (name, text) in POLICY_FILES {
        let text = text
            .replace("https://login.example.test", issuer)
            .replace("http://inventory.internal", &format!("http://{inventory}"))
            .replace("http://payroll.internal", &format!("http://{payroll}"))
            .replace("quickstart-audience", AUDIENCE);
        fs::write(policies.join(name), text)?;
    }
    let config = folder.join("wicketgate.toml");
    fs::write(&config, configuration(listen))?;
    pki::private(&config)?;
    let users = UserFile::new(folder.join("users.toml"), folder.join("users.key"));
    users.add("alice", &["developers".to_owned()], PASSWORD)?;
    users.add("bob", &["developers".to_owned(), "warehouse".to_owned()], PASSWORD)?;
    Ok(config)
}

fn configuration(listen: SocketAddr) -> String {
    format!(
        r#"[listen]
address = "{listen}"

[tls]
certificate = "tls/server.pem"
key         = "tls/server.key"

[network]
suffix = "api.example.test"

[users]
file = "users.toml"
key  = "users.key"

[services]
ca     = "tls/services-ca.pem"
ca_key = "tls/services-ca.key"

[authorities]
quickstart-root = "tls/root.pem"

[policies]
directory = "policies"

[audit]
file = "audit.jsonl"

[admin]
address = "127.0.0.1:0"
socket  = "admin.sock"
"#
    )
}
