//! From what is written to what is meant: every default, every bound, every word, and all complaints at once.
//!
//! Where a value is broken, a default takes its place so that the rest can be judged too; whoever calls looks at the
//! complaints before using the result. Files are not opened here: what must be looked at is returned as a list of
//! [`FileCheck`].

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::{Range, RangeInclusive};
use std::path::{Component, Path, PathBuf};

use toml::Spanned;

use super::complaint::{Complaints, quoted, suggestion};
use super::files::{FileCheck, Role};
use super::raw::{self, Raw};
use super::reading::{Entry, Named};
use super::{Admin, Audit, Config, KeyPair, Listen, Services, Users, network, tunnel};
use crate::audit::OnFailure;

/// `sun_path` of Linux' `sockaddr_un` is 108 bytes with its final zero.
const MAX_SOCKET_PATH: usize = 107;

/// Above this, a number is more likely a slip than a wish: the file descriptors or the memory of one machine end first.
pub(super) const MAX_CONNECTIONS: i64 = 1_000_000;

/// A section: its name, and where it stands.
pub(super) struct Place {
    pub(super) name: &'static str,
    pub(super) span: Range<usize>,
    /// Whether the section itself was complained about, so that its missing keys are not told as well.
    broken: bool,
}

impl Place {
    fn of<T>(name: &'static str, entry: &Entry<T>) -> Self {
        let broken = match entry {
            Entry::Broken => true,
            Entry::Absent | Entry::Written(_) => false,
        };
        Self { name, span: entry.span().unwrap_or(0..0), broken }
    }
}

/// A key that has no default. Complains when it is missing.
pub(super) fn required<'a, T>(
    entry: &'a Entry<T>,
    place: &Place,
    key: &str,
    hint: &str,
    complaints: &mut Complaints,
) -> Option<(&'a T, Range<usize>)> {
    if entry.is_absent() && !place.broken {
        complaints.error("missing-key", &place.span, format!("`{}.{key}` is missing", place.name), hint);
    }
    entry.written()
}

/// A number within its bounds.
pub(super) fn number(
    entry: &Entry<i64>,
    name: &str,
    default: usize,
    range: RangeInclusive<i64>,
    complaints: &mut Complaints,
) -> usize {
    let Some((&number, span)) = entry.written() else { return default };
    if range.contains(&number)
        && let Ok(number) = usize::try_from(number)
    {
        return number;
    }
    complaints.error(
        "out-of-range",
        &span,
        format!("`{name}` is out of range"),
        format!("take a number from {} to {}", range.start(), range.end()),
    );
    default
}

/// The configuration that is meant, and the files that are named in it.
pub(super) fn validate(raw: &Raw, base: &Path, complaints: &mut Complaints) -> (Config, Vec<FileCheck>) {
    let mut validation = Validation { base, complaints, checks: Vec::new(), written: Vec::new() };
    let config = Config {
        listen: validation.listen(&raw.listen),
        tls: validation.tls(&raw.tls),
        tunnel: validation.tunnel(&raw.tunnel),
        network: validation.network(&raw.network),
        users: validation.users(&raw.users),
        services: validation.services(&raw.services),
        authorities: validation.authorities(&raw.authorities),
        client_certificates: validation.client_certificates(&raw.client_certificates),
        policies: validation.policies(&raw.policies),
        audit: validation.audit(&raw.audit),
        admin: validation.admin(&raw.admin),
    };
    validation.listeners_apart(&config, raw);
    validation.written_files_apart();
    let checks = validation.checks;
    (config, checks)
}

struct Validation<'a> {
    base: &'a Path,
    complaints: &'a mut Complaints,
    checks: Vec<FileCheck>,
    /// Files that the server writes: what they are, which, and where that is said.
    written: Vec<(&'static str, PathBuf, Range<usize>)>,
}

/// The keys of a section, with or without it in the file.
macro_rules! keys {
    ($entry:expr, $absent:ident) => {
        $entry.written().map_or(&$absent, |(keys, _)| keys)
    };
}

impl Validation<'_> {
    fn listen(&mut self, entry: &Entry<raw::Listen>) -> Listen {
        let absent = raw::Listen::default();
        let keys = keys!(entry, absent);
        if let Some((word, span)) = keys.proxy_protocol.written() {
            match word.as_str() {
                "off" => {}
                "required" => self.complaints.error(
                    "not-supported",
                    &span,
                    "`proxy_protocol = \"required\"` is not supported by this version",
                    "write \"off\", and let the balancer keep client addresses (DSR, or externalTrafficPolicy: Local)",
                ),
                other => self.complaints.error(
                    "unknown-word",
                    &span,
                    format!("`listen.proxy_protocol` cannot be {}", quoted(other)),
                    suggestion(other, &["off", "required"]),
                ),
            }
        }
        if let Some(span) = keys.trusted.span() {
            self.complaints.error(
                "not-supported",
                &span,
                "`listen.trusted` belongs to `proxy_protocol = \"required\"`, which this version does not support",
                "remove this line",
            );
        }
        let listen = Listen {
            address: self.socket_address(&keys.address, "listen.address", SocketAddr::from(([0, 0, 0, 0], 443))),
            max_unauthenticated: number(
                &keys.max_unauthenticated,
                "listen.max_unauthenticated",
                1000,
                1..=MAX_CONNECTIONS,
                self.complaints,
            ),
            max_unauthenticated_per_source: number(
                &keys.max_unauthenticated_per_source,
                "listen.max_unauthenticated_per_source",
                64,
                1..=MAX_CONNECTIONS,
                self.complaints,
            ),
        };
        if let Some(span) = keys.max_unauthenticated_per_source.span()
            && listen.max_unauthenticated_per_source > listen.max_unauthenticated
        {
            self.complaints.warning(
                "no-effect",
                &span,
                "more connections for one source than for all together",
                format!("`max_unauthenticated` is {}: one source can take it all", listen.max_unauthenticated),
            );
        }
        listen
    }

    fn socket_address(&mut self, entry: &Entry<String>, name: &str, default: SocketAddr) -> SocketAddr {
        let Some((text, span)) = entry.written() else { return default };
        text.parse().unwrap_or_else(|_| {
            self.complaints.error(
                "not-an-address",
                &span,
                format!("`{name}` must be an address and a port, not {}", quoted(text)),
                format!("as in \"{default}\" or \"[::]:{}\"; names are not looked up", default.port()),
            );
            default
        })
    }

    fn tls(&mut self, entry: &Entry<raw::KeyPair>) -> KeyPair {
        let place = Place::of("tls", entry);
        let absent = raw::KeyPair::default();
        self.key_pair(keys!(entry, absent), &place, Role::TunnelServer).unwrap_or_else(nowhere)
    }

    /// A certificate and its key, both required.
    fn key_pair(&mut self, keys: &raw::KeyPair, place: &Place, role: Role) -> Option<KeyPair> {
        let certificate = required(
            &keys.certificate,
            place,
            "certificate",
            "the PEM file of the certificate chain, leaf first, as in certificate = \"tls/server.pem\"",
            self.complaints,
        );
        let key = required(
            &keys.key,
            place,
            "key",
            "the PEM file of the private key, as in key = \"tls/server.key\"",
            self.complaints,
        );
        self.pair(certificate, key, role)
    }

    fn pair(
        &mut self,
        certificate: Option<(&String, Range<usize>)>,
        key: Option<(&String, Range<usize>)>,
        role: Role,
    ) -> Option<KeyPair> {
        let (certificate, certificate_at) = certificate?;
        let (key, key_at) = key?;
        let pair = KeyPair { certificate: self.path(certificate, &certificate_at), key: self.path(key, &key_at) };
        self.checks.push(FileCheck::Pair { pair: pair.clone(), certificate_at, key_at, role });
        Some(pair)
    }

    /// A path, relative to the file's directory.
    fn path(&mut self, text: &str, span: &Range<usize>) -> PathBuf {
        if text.is_empty() || text.contains('\0') {
            self.complaints.error(
                "not-a-path",
                span,
                format!("{} cannot be the name of a file", quoted(text)),
                "a path, absolute or relative to the directory of this file",
            );
        }
        self.base.join(text)
    }

    fn tunnel(&mut self, entry: &Entry<raw::Tunnel>) -> super::Tunnel {
        let absent = raw::Tunnel::default();
        tunnel::validate(keys!(entry, absent), self.complaints)
    }

    fn network(&mut self, entry: &Entry<raw::Network>) -> super::Network {
        let absent = raw::Network::default();
        network::validate(keys!(entry, absent), &Place::of("network", entry), self.complaints)
    }

    fn users(&mut self, entry: &Entry<raw::Users>) -> Users {
        let place = Place::of("users", entry);
        let absent = raw::Users::default();
        let keys = keys!(entry, absent);
        let (file, file_at) = self.path_or(&keys.file, "users.toml", &place);
        let (key, key_at) = self.path_or(&keys.key, "users.key", &place);
        self.written.push(("users.file", file.clone(), file_at.clone()));
        self.written.push(("users.key", key.clone(), key_at.clone()));
        self.checks.push(FileCheck::Users { file: file.clone(), file_at, key: key.clone(), key_at });
        Users { file, key }
    }

    fn path_or(&mut self, entry: &Entry<String>, default: &str, place: &Place) -> (PathBuf, Range<usize>) {
        match entry.written() {
            Some((text, span)) => (self.path(text, &span), span),
            None => (self.base.join(default), place.span.clone()),
        }
    }

    fn services(&mut self, entry: &Entry<raw::Services>) -> Services {
        let place = Place::of("services", entry);
        let absent = raw::Services::default();
        let keys = keys!(entry, absent);
        let authority_at = keys.ca.span().or_else(|| keys.ca_key.span());
        match (&keys.certificates, authority_at) {
            (Entry::Written(list), Some(_)) => {
                self.complaints.error(
                    "two-sources",
                    &list.span(),
                    "`services.certificates` and `services.ca` stand together",
                    "either an authority of our own (`ca` and `ca_key`), or given `certificates`",
                );
                Services::Certificates(Vec::new())
            }
            (Entry::Written(list), None) => {
                let certificates = self.service_certificates(list);
                if list.get_ref().is_empty() {
                    self.complaints.error(
                        "empty-list",
                        &list.span(),
                        "`services.certificates` is empty, so that no API could be reached by TLS",
                        "as in certificates = [{ certificate = \"tls/api.pem\", key = \"tls/api.key\" }]",
                    );
                }
                Services::Certificates(certificates)
            }
            (Entry::Broken, None) => Services::Certificates(Vec::new()),
            (Entry::Absent | Entry::Broken, _) => Services::Authority(self.authority(keys, &place)),
        }
    }

    fn authority(&mut self, keys: &raw::Services, place: &Place) -> KeyPair {
        let ca = required(
            &keys.ca,
            place,
            "ca",
            "an authority for the API hosts inside the tunnel: `ca` and `ca_key`, or given `certificates`",
            self.complaints,
        );
        let ca_key = required(
            &keys.ca_key,
            place,
            "ca_key",
            "the private key of `ca`, as in ca_key = \"tls/services-ca.key\"",
            self.complaints,
        );
        self.pair(ca, ca_key, Role::Authority).unwrap_or_else(nowhere)
    }

    fn service_certificates(&mut self, list: &Spanned<Vec<Entry<raw::KeyPair>>>) -> Vec<KeyPair> {
        list.get_ref()
            .iter()
            .filter_map(|entry| {
                let (keys, _) = entry.written()?;
                self.key_pair(keys, &Place::of("services.certificates", entry), Role::ServiceServer)
            })
            .collect()
    }

    fn authorities(&mut self, entry: &Entry<Named<String>>) -> BTreeMap<String, PathBuf> {
        let mut authorities = BTreeMap::new();
        let Some((named, _)) = entry.written() else { return authorities };
        for (name, entry) in &named.0 {
            self.name(name);
            if let Some((text, at)) = entry.written() {
                let path = self.path(text, &at);
                self.checks.push(FileCheck::Roots { path: path.clone(), at });
                authorities.insert(name.get_ref().clone(), path);
            }
        }
        authorities
    }

    fn client_certificates(&mut self, entry: &Entry<Named<raw::KeyPair>>) -> BTreeMap<String, KeyPair> {
        let mut certificates = BTreeMap::new();
        let Some((named, _)) = entry.written() else { return certificates };
        for (name, entry) in &named.0 {
            self.name(name);
            if let Some((keys, _)) = entry.written()
                && let Some(pair) = self.key_pair(keys, &Place::of("client_certificates", entry), Role::Client)
            {
                certificates.insert(name.get_ref().clone(), pair);
            }
        }
        certificates
    }

    /// A name that policies use: `policy-language.md` 3.4, `[a-z][a-z0-9-]{0,62}`.
    fn name(&mut self, name: &Spanned<String>) {
        let text = name.get_ref();
        let letters = text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        if !letters || text.len() > 63 || !text.starts_with(|first: char| first.is_ascii_lowercase()) {
            self.complaints.error(
                "not-a-name",
                &name.span(),
                format!("policies cannot use the name {}", quoted(text)),
                "a lower-case letter, then at most 62 lower-case letters, digits and hyphens",
            );
        }
    }

    fn policies(&mut self, entry: &Entry<raw::Policies>) -> PathBuf {
        let absent = raw::Policies::default();
        let place = Place::of("policies", entry);
        let (path, at) = self.path_or(&keys!(entry, absent).directory, "policies", &place);
        self.checks.push(FileCheck::Policies { path: path.clone(), at });
        path
    }

    fn audit(&mut self, entry: &Entry<raw::Audit>) -> Audit {
        let absent = raw::Audit::default();
        let keys = keys!(entry, absent);
        let place = Place::of("audit", entry);
        let (file, at) = self.path_or(&keys.file, "audit.jsonl", &place);
        self.written.push(("audit.file", file.clone(), at.clone()));
        self.checks.push(FileCheck::Written { path: file.clone(), at });
        let on_failure = match keys.on_failure.written() {
            None => OnFailure::Refuse,
            Some((word, span)) => match word.as_str() {
                "refuse" => OnFailure::Refuse,
                "drop" => OnFailure::Drop,
                other => {
                    self.complaints.error(
                        "unknown-word",
                        &span,
                        format!("`audit.on_failure` cannot be {}", quoted(other)),
                        suggestion(other, &["refuse", "drop"]),
                    );
                    OnFailure::Refuse
                }
            },
        };
        Audit { file, on_failure }
    }

    fn admin(&mut self, entry: &Entry<raw::Admin>) -> Admin {
        let absent = raw::Admin::default();
        let keys = keys!(entry, absent);
        let address = self.socket_address(&keys.address, "admin.address", SocketAddr::from(([127, 0, 0, 1], 9901)));
        let (socket, at) = self.path_or(&keys.socket, "admin.sock", &Place::of("admin", entry));
        if socket.as_os_str().len() > MAX_SOCKET_PATH {
            self.complaints.error(
                "path-too-long",
                &at,
                format!("the path of a socket has at most {MAX_SOCKET_PATH} bytes: {}", socket.display()),
                "take a short absolute path, as in \"/run/wicketgate/admin.sock\"",
            );
        }
        self.written.push(("admin.socket", socket.clone(), at.clone()));
        self.checks.push(FileCheck::Written { path: socket.clone(), at });
        Admin { address, socket }
    }

    /// The outer and the admin listener need different ports unless their addresses differ and neither is a wildcard.
    fn listeners_apart(&mut self, config: &Config, raw: &Raw) {
        let (outer, admin) = (config.listen.address, config.admin.address);
        let overlap = outer.ip() == admin.ip() || outer.ip().is_unspecified() || admin.ip().is_unspecified();
        if outer.port() != 0 && outer.port() == admin.port() && overlap {
            let written = |(keys, _): (&raw::Admin, _)| keys.address.span();
            let at = raw.admin.written().and_then(written).or_else(|| raw.admin.span()).unwrap_or(0..0);
            self.complaints.error(
                "same-address",
                &at,
                format!("the admin address {admin} is taken by `listen.address` {outer}"),
                "give it another port, as in \"127.0.0.1:9901\"",
            );
        }
    }

    /// The server writes to these files: no two of them may be one, nor may one be a file that it reads.
    fn written_files_apart(&mut self) {
        let mut seen: Vec<(String, PathBuf)> = Vec::new();
        for check in &self.checks {
            seen.extend(check.read_only().into_iter().map(|path| (path.display().to_string(), plain(path))));
        }
        for (name, path, at) in &self.written {
            let path = plain(path);
            if let Some((other, _)) = seen.iter().find(|(_, seen)| *seen == path) {
                self.complaints.error(
                    "same-file",
                    at,
                    format!("`{name}` is a file that is used for something else too: {other}"),
                    "the server writes to it, so it needs a file of its own",
                );
            }
            seen.push((format!("`{name}`"), path));
        }
    }
}

/// Stands where a pair of files was complained about.
fn nowhere() -> KeyPair {
    KeyPair { certificate: PathBuf::new(), key: PathBuf::new() }
}

/// A path without `.` in it, for comparing.
fn plain(path: &Path) -> PathBuf {
    path.components().filter(|component| *component != Component::CurDir).collect()
}
