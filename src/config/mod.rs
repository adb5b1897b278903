//! The configuration of the server: one TOML file, read once, checked whole.
//!
//! In goes the path of a file; out comes a [`Config`] in which nothing is optional that is needed, or every complaint
//! there is, each with its place and its cure. Four steps, each in its own file: `raw` mirrors the file,
//! `validate` turns what is written into what is meant, `files` opens what the configuration names, [`complaint`]
//! prints what is wrong. `product.md` 3.2 rules names and defaults; `deploy/wicketgate.toml` shows them all.
//!
//! No station imports this module: the wiring takes a [`Config`] apart and gives each station its own words.

pub mod complaint;
pub mod pem;

mod files;
mod network;
mod raw;
mod reading;
mod tunnel;
mod units;
mod validate;

#[cfg(test)]
mod tests;

pub use network::{DEFAULT_CLIENT, DEFAULT_GATEWAY, DEFAULT_SERVICES};
pub use units::Rate;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use ipnet::Ipv4Net;

use crate::complaint::{Complaint, Severity};
use crate::identity::Method;

use complaint::Complaints;

/// Where the configuration is when `--config` does not say it, in the order of looking.
pub const DEFAULT_FILES: [&str; 2] = ["wicketgate.toml", "/etc/wicketgate/wicketgate.toml"];

/// The largest configuration file. The template, which shows everything, has 6 KiB; a thousand times `authorities`
/// fits as well; a device or a disk image given by mistake does not.
const MAX_FILE: u64 = 1 << 20;

/// A valid configuration. Every path is absolute or relative to the working directory, no longer to the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// `[listen]`
    pub listen: Listen,
    /// `[tls]`: the certificate which SSTP clients see.
    pub tls: KeyPair,
    /// `[tunnel]`
    pub tunnel: Tunnel,
    /// `[network]`
    pub network: Network,
    /// `[users]`
    pub users: Users,
    /// `[services]`: TLS inside the tunnel.
    pub services: Services,
    /// `[authorities]`: files of root certificates, by the name that policies use.
    pub authorities: BTreeMap<String, PathBuf>,
    /// `[client_certificates]`: what is shown to upstreams, by the name that policies use.
    pub client_certificates: BTreeMap<String, KeyPair>,
    /// `[policies] directory`
    pub policies: PathBuf,
    /// `[audit]`
    pub audit: Audit,
    /// `[admin]`
    pub admin: Admin,
}

/// `[listen]`: the outer socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// Where TLS connections are accepted.
    pub address: SocketAddr,
    /// Connections that are not yet logged in.
    pub max_unauthenticated: usize,
    /// The same, of one source address.
    pub max_unauthenticated_per_source: usize,
}

/// A certificate chain, leaf first, and its private key: two PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPair {
    /// The file of the chain.
    pub certificate: PathBuf,
    /// The file of the key.
    pub key: PathBuf,
}

/// The hash of the certificate in SSTP's crypto binding (MS-SSTP 2.2.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum BindingHash {
    /// CERT_HASH_PROTOCOL_SHA256.
    Sha256,
    /// CERT_HASH_PROTOCOL_SHA1.
    Sha1,
}

/// `[tunnel]`: what a client may ask for, and how much of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tunnel {
    /// Login methods in the order of the offer; not empty, no duplicates.
    pub methods: Vec<Method>,
    /// Methods for which an all-zero binding key is accepted; a subset of `methods`.
    pub zero_binding: Vec<Method>,
    /// Hashes that the server offers for the crypto binding; not empty.
    pub binding_hash: Vec<BindingHash>,
    /// Logged-in tunnels of the whole process.
    pub max_sessions: usize,
    /// Logged-in tunnels of one person; one more ends the oldest.
    pub max_sessions_per_user: usize,
    /// The longest life of one tunnel.
    pub max_session: Duration,
    /// Open TCP streams of one tunnel.
    pub max_streams: usize,
    /// Requests of one tunnel, before any policy work.
    pub max_requests: Rate,
}

/// `[network]`: the addresses inside the tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// The PPP peer address and DNS server.
    pub gateway: Ipv4Addr,
    /// The address of every client.
    pub client: Ipv4Addr,
    /// The virtual addresses of the APIs' hosts.
    pub services: Ipv4Net,
    /// The DNS suffix, in lower case, without dots at its ends.
    pub suffix: String,
}

/// `[users]`: the local user file and the key that encrypts its hashes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Users {
    /// The user file.
    pub file: PathBuf,
    /// The key file.
    pub key: PathBuf,
}

/// `[services]`: where the certificates of the APIs' hosts come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Services {
    /// Our own authority issues them.
    Authority(KeyPair),
    /// They are given; not empty.
    Certificates(Vec<KeyPair>),
}

/// `[audit]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audit {
    /// The file that records are appended to.
    pub file: PathBuf,
    /// What happens to requests while it cannot be written.
    pub on_failure: crate::audit::OnFailure,
}

/// `[admin]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// `/healthz`, `/readyz`, `/metrics`.
    pub address: SocketAddr,
    /// The unix socket for `wicketgate session`.
    pub socket: PathBuf,
}

/// No configuration file where one is looked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no configuration: looked for {}; name one with --config", .looked.join(", "))]
pub struct NotLocated {
    /// The places.
    pub looked: Vec<String>,
}

/// The configuration file: the one that `--config` names, else the first that exists of [`DEFAULT_FILES`].
pub fn locate(flag: Option<PathBuf>) -> Result<PathBuf, NotLocated> {
    first_existing(flag, &DEFAULT_FILES.map(Path::new))
}

fn first_existing(flag: Option<PathBuf>, candidates: &[&Path]) -> Result<PathBuf, NotLocated> {
    flag.or_else(|| candidates.iter().find(|path| path.exists()).map(|path| path.to_path_buf()))
        .ok_or_else(|| NotLocated { looked: candidates.iter().map(|path| path.display().to_string()).collect() })
}

/// Reads and checks a configuration and every file that it names: the configuration with its warnings, or everything
/// that is wrong, warnings included.
pub fn load(path: &Path) -> Result<(Config, Vec<Complaint>), Vec<Complaint>> {
    let text = text_of(path)?;
    parse(path, &text, Some(crate::clock::wall()))
}

/// Like [`load`], but looks only at what is written, not at the files that it names: for commands that need one path of
/// the configuration and must work while a certificate has expired.
pub fn read(path: &Path) -> Result<(Config, Vec<Complaint>), Vec<Complaint>> {
    let text = text_of(path)?;
    parse(path, &text, None)
}

/// Checks the text of a configuration that stands at `path`. With a time, the files that it names are opened, and their
/// certificates must be valid at that time.
fn parse(path: &Path, text: &str, now: Option<SystemTime>) -> Result<(Config, Vec<Complaint>), Vec<Complaint>> {
    let mut complaints = Complaints::new(path, text);
    let base = path.parent().unwrap_or_else(|| Path::new(""));
    let config = raw::read(text, &mut complaints).map(|raw| {
        let (config, checks) = validate::validate(&raw, base, &mut complaints);
        if let Some(now) = now {
            files::inspect(&checks, now, &mut complaints);
        }
        config
    });
    let complaints = complaints.sorted();
    match config {
        Some(config) if complaints.iter().all(|complaint| complaint.severity < Severity::Error) => {
            Ok((config, complaints))
        }
        Some(_) | None => Err(complaints),
    }
}

/// The text of a configuration file.
fn text_of(path: &Path) -> Result<String, Vec<Complaint>> {
    let complain = |code, message, hint: &str| vec![Complaint::of_file(path, code, message, hint)];
    let bytes = pem::read_bounded(path, MAX_FILE).map_err(|error| match error {
        pem::ReadError::NotFound => complain(
            "not-found",
            "this configuration file does not exist".to_owned(),
            "begin with the template `deploy/wicketgate.toml`, or name another file with --config",
        ),
        pem::ReadError::Unreadable(kind) => {
            complain("unreadable", format!("cannot be read: {kind}"), "the process must be allowed to read this file")
        }
        pem::ReadError::TooLarge => complain(
            "too-large",
            format!("larger than {MAX_FILE} bytes"),
            "a configuration is small: is this the file that you mean?",
        ),
    })?;
    String::from_utf8(bytes.to_vec()).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        complain("not-utf8", format!("byte {at} is not UTF-8"), "save the file as UTF-8 without a byte order mark")
    })
}
