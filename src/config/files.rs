//! Opens what a valid configuration names, and complains at the place where it is named.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::KeyPair;
use super::complaint::Complaints;
use super::pem::{self, Finding};
use crate::complaint::Severity;

/// What a certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Shown to SSTP clients.
    TunnelServer,
    /// Shown inside the tunnel.
    ServiceServer,
    /// Issues the certificates that are shown inside the tunnel.
    Authority,
    /// Shown to upstreams.
    Client,
}

/// One thing to look at, with the places that name it.
#[derive(Debug)]
pub(super) enum FileCheck {
    /// A certificate chain and its key.
    Pair { pair: KeyPair, certificate_at: Range<usize>, key_at: Range<usize>, role: Role },
    /// Root certificates.
    Roots { path: PathBuf, at: Range<usize> },
    /// The directory of policies.
    Policies { path: PathBuf, at: Range<usize> },
    /// The user file and its key, both made by `wicketgate user`.
    Users { file: PathBuf, file_at: Range<usize>, key: PathBuf, key_at: Range<usize> },
    /// A file or socket that the server makes.
    Written { path: PathBuf, at: Range<usize> },
}

impl FileCheck {
    /// The files that the server only reads.
    pub(super) fn read_only(&self) -> Vec<&Path> {
        match self {
            Self::Pair { pair, .. } => vec![&pair.certificate, &pair.key],
            Self::Roots { path, .. } => vec![path],
            Self::Policies { .. } | Self::Users { .. } | Self::Written { .. } => Vec::new(),
        }
    }
}

/// Looks at all of them as they are at the time `now`.
pub(super) fn inspect(checks: &[FileCheck], now: SystemTime, complaints: &mut Complaints) {
    for check in checks {
        match check {
            FileCheck::Pair { pair, certificate_at, key_at, role } => {
                inspect_pair(pair, certificate_at, key_at, *role, now, complaints);
            }
            FileCheck::Roots { path, at } => match pem::certificates(path) {
                Ok(roots) => tell(pem::inspect_roots(&roots, now), path, at, complaints),
                Err(error) => complaints.error(error.code(), at, error.to_string(), error.hint()),
            },
            FileCheck::Policies { path, at } => inspect_policies(path, at, complaints),
            FileCheck::Users { file, file_at, key, key_at } => {
                inspect_users(file, file_at, key, key_at, complaints);
            }
            FileCheck::Written { path, at } => inspect_parent(path, at, complaints),
        }
    }
}

fn inspect_pair(
    pair: &KeyPair,
    certificate_at: &Range<usize>,
    key_at: &Range<usize>,
    role: Role,
    now: SystemTime,
    complaints: &mut Complaints,
) {
    let chain = pem::certificates(&pair.certificate)
        .map_err(|error| complaints.error(error.code(), certificate_at, error.to_string(), error.hint()));
    let key =
        pem::key(&pair.key).map_err(|error| complaints.error(error.code(), key_at, error.to_string(), error.hint()));
    if let Ok(chain) = &chain {
        let findings = match role {
            Role::TunnelServer | Role::ServiceServer => pem::inspect_server(chain, now),
            Role::Authority => pem::inspect_authority(chain, now),
            Role::Client => pem::inspect_client(chain, now),
        };
        tell(findings, &pair.certificate, certificate_at, complaints);
    }
    if let Some(finding) = pem::inspect_mode(&pair.key) {
        tell(vec![finding], &pair.key, key_at, complaints);
    }
    if let (Ok(chain), Ok(key)) = (chain, key)
        && let Some(finding) = pem::inspect_match(chain, key)
    {
        tell(vec![finding], &pair.key, key_at, complaints);
    }
}

/// Findings become complaints: the file that they are about is named in the message.
fn tell(findings: Vec<Finding>, path: &Path, at: &Range<usize>, complaints: &mut Complaints) {
    for Finding { severity, code, message, hint } in findings {
        complaints.push(severity, code, at, format!("{}: {message}", path.display()), hint);
    }
}

fn inspect_policies(path: &Path, at: &Range<usize>, complaints: &mut Complaints) {
    match fs::read_dir(path) {
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => complaints.error(
            "not-found",
            at,
            format!("{}: this directory does not exist", path.display()),
            "make it, with one TOML file for each API",
        ),
        Err(error) => complaints.error(
            "unreadable",
            at,
            format!("{}: {}", path.display(), error.kind()),
            "it must be a directory that the server may read",
        ),
    }
}

fn inspect_users(file: &Path, file_at: &Range<usize>, key: &Path, key_at: &Range<usize>, complaints: &mut Complaints) {
    if !file.exists() {
        complaints.warning(
            "no-users",
            file_at,
            format!("{}: there is no user file, so nobody can log in", file.display()),
            "`wicketgate user add NAME --groups a,b` makes it",
        );
    } else if !key.exists() {
        complaints.error(
            "not-found",
            key_at,
            format!("{}: the key of the user file does not exist", key.display()),
            "restore it from the backup: without it no password hash can be read",
        );
    }
    for (path, at) in [(file, file_at), (key, key_at)] {
        if let Some(finding) = pem::inspect_mode(path) {
            tell(vec![finding], path, at, complaints);
        }
    }
}

fn inspect_parent(path: &Path, at: &Range<usize>, complaints: &mut Complaints) {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let message = if path.is_dir() {
        format!("{}: this is a directory", path.display())
    } else if parent.is_dir() {
        return;
    } else {
        format!("{}: the directory {} does not exist", path.display(), parent.display())
    };
    complaints.push(
        Severity::Error,
        "not-found",
        at,
        message,
        "name a file in an existing directory where the server may write".to_owned(),
    );
}
