//! A bundle: everything that the policy files mean, in one immutable value.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use super::api::{Api, HttpOptions};
use super::issuer::Issuer;
use super::limit::Limit;
use super::rule::{Applied, Rule};
use super::selftest::Test;

/// A name inside the tunnel and its address. A wildcard host counts as one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VirtualHost {
    /// `orders.api.corp.example` or `*.tenants.api.corp.example`.
    pub name: Arc<str>,
    /// Its stable virtual address.
    pub address: Ipv4Addr,
}

/// What answers to one virtual host.
#[derive(Debug)]
pub(crate) struct HostEntry {
    pub(crate) host: VirtualHost,
    /// The longest `base` first.
    pub(crate) apis: Vec<Arc<Api>>,
}

impl HostEntry {
    /// The API that answers to a canonical path: the longest base wins.
    pub(crate) fn api(&self, path: &str) -> Option<&Arc<Api>> {
        self.apis.iter().find(|api| api.relative(path).is_some())
    }
}

/// What `_org.toml` means.
#[derive(Debug)]
pub(crate) struct Org {
    pub(crate) owner: Option<Arc<str>>,
    pub(crate) denies: Vec<Rule>,
    pub(crate) limits: Vec<Applied>,
}

/// The compiled policy files of one directory.
#[derive(Debug)]
pub struct Bundle {
    pub(crate) id: String,
    pub(crate) issuers: Vec<Issuer>,
    pub(crate) org: Org,
    /// In the order of their names.
    pub(crate) apis: Vec<Arc<Api>>,
    /// In the order of their names.
    pub(crate) hosts: Vec<VirtualHost>,
    pub(crate) exact: HashMap<Arc<str>, HostEntry>,
    /// By the name after `*.`.
    pub(crate) wildcard: HashMap<Box<str>, HostEntry>,
    /// The portal's name, which no wildcard takes.
    pub(crate) portal: Box<str>,
    pub(crate) asserted: Vec<String>,
    pub(crate) tests: Vec<Test>,
}

impl Bundle {
    /// SHA-256 of all files, in hexadecimal digits.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The issuers of tokens, in the order of their names.
    pub fn issuers(&self) -> &[Issuer] {
        &self.issuers
    }

    /// All hosts, in the order of their names.
    pub fn hosts(&self) -> &[VirtualHost] {
        &self.hosts
    }

    /// All APIs, in the order of their names.
    pub fn apis(&self) -> &[Arc<Api>] {
        &self.apis
    }

    /// The tests inside the files.
    pub fn tests(&self) -> &[Test] {
        &self.tests
    }

    /// All limits, the organisation's first.
    pub fn limits(&self) -> impl Iterator<Item = &Arc<Limit>> {
        let own = self.apis.iter().flat_map(|api| &api.limits);
        self.org.limits.iter().chain(own).map(|applied| &applied.limit)
    }

    /// All headers that some API asserts, in lower case with `-` for `_`. A client's are removed for every API.
    pub fn asserted_headers(&self) -> &[String] {
        &self.asserted
    }

    pub(crate) fn entry(&self, host: &str) -> Option<&HostEntry> {
        if let Some(entry) = self.exact.get(host) {
            return Some(entry);
        }
        let (label, parent) = host.split_once('.')?;
        if label.is_empty() || host == &*self.portal {
            return None;
        }
        self.wildcard.get(parent)
    }

    /// The virtual host that a name of a request belongs to: its own, else that of a wildcard one label above.
    pub fn host_for(&self, host: &str) -> Option<&VirtualHost> {
        self.entry(host).map(|entry| &entry.host)
    }

    /// The API that answers to a canonical host and path: an exact host beats a wildcard, then the longest base wins.
    pub fn api_for(&self, host: &str, path: &str) -> Option<&Arc<Api>> {
        self.entry(host)?.api(path)
    }

    /// How paths are read on a host; all its APIs agree about encoded slashes, double encoding and `;`.
    pub fn http_for(&self, host: &str) -> Option<&HttpOptions> {
        self.entry(host)?.apis.first().map(|api| &api.http)
    }
}
