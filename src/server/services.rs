//! The certificates of the hosts inside the tunnel: issued by the services CA when a bundle loads, or given.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use x509_parser::extensions::GeneralName;

use crate::policy::VirtualHost;
use crate::proxy;

/// How long an issued certificate is valid.
const VALIDITY: Duration = Duration::from_secs(30 * 24 * 3600);

/// How long before its end an issued certificate is replaced.
const RENEW_BEFORE: Duration = Duration::from_secs(10 * 24 * 3600);

/// Clients' clocks may be this late.
const BACKDATE: Duration = Duration::from_secs(3600);

/// Longest common name (RFC 5280, ub-common-name); a longer host stands in the SAN alone.
const MAX_COMMON_NAME: usize = 64;

/// Why the hosts of a bundle cannot be served over TLS.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("the services CA cannot issue a certificate for {host}: {source}")]
    Issue { host: String, source: rcgen::Error },
    #[error("certificate and key of {host} do not work together: {source}")]
    Tls { host: String, source: rustls::Error },
    #[error("no certificate in [services] certificates names {host}")]
    NoCertificate { host: String },
}

/// Where certificates come from.
pub(super) enum Source {
    /// Our own CA, and the certificates that lead from it to the root that clients have.
    Authority(Box<Issuer<'static, KeyPair>>, Vec<CertificateDer<'static>>),
    /// Files, with the names that each certificate has.
    Given(Vec<Given>),
}

/// A given certificate.
pub(super) struct Given {
    pub(super) names: Vec<String>,
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
}

/// The certificates of one generation of hosts, kept over reloads as long as they are fresh.
#[derive(Clone, Default)]
pub(super) struct Services {
    issued: HashMap<Ipv4Addr, Issued>,
}

#[derive(Clone)]
struct Issued {
    host: Arc<str>,
    config: Arc<ServerConfig>,
    renew_at: SystemTime,
}

impl Services {
    /// The certificates of these hosts: those that are fresh, and new ones.
    pub(super) fn next(&self, source: &Source, hosts: &[VirtualHost], now: SystemTime) -> Result<Self, Error> {
        let mut issued = HashMap::with_capacity(hosts.len());
        for host in hosts {
            let issue = match self.issued.get(&host.address) {
                Some(fresh) if fresh.host == host.name && now < fresh.renew_at => fresh.clone(),
                Some(_) | None => source.certify(&host.name, now)?,
            };
            issued.insert(host.address, issue);
        }
        Ok(Self { issued })
    }

    /// The TLS of every host, by address.
    pub(super) fn by_address(&self) -> HashMap<Ipv4Addr, Arc<ServerConfig>> {
        self.issued.iter().map(|(address, issued)| (*address, Arc::clone(&issued.config))).collect()
    }

    /// When the first certificate wants to be replaced.
    pub(super) fn renew_at(&self) -> Option<SystemTime> {
        self.issued.values().map(|issued| issued.renew_at).min()
    }
}

impl Source {
    fn certify(&self, host: &Arc<str>, now: SystemTime) -> Result<Issued, Error> {
        let tls = |source| Error::Tls { host: host.to_string(), source };
        let issue = |source| Error::Issue { host: host.to_string(), source };
        match self {
            Self::Authority(authority, intermediates) => {
                let key = KeyPair::generate().map_err(issue)?;
                let certificate =
                    params(host, now).and_then(|params| params.signed_by(&key, authority)).map_err(issue)?;
                let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
                let config = proxy::server_config([&[certificate.der().clone()], &intermediates[..]].concat(), key)
                    .map_err(tls)?;
                Ok(Issued { host: Arc::clone(host), config: Arc::new(config), renew_at: now + VALIDITY - RENEW_BEFORE })
            }
            Self::Given(given) => {
                let found = given
                    .iter()
                    .find(|given| given.names.iter().any(|name| names(name, host)))
                    .ok_or_else(|| Error::NoCertificate { host: host.to_string() })?;
                let config = proxy::server_config(found.chain.clone(), found.key.clone_key()).map_err(tls)?;
                // A given certificate changes with its file, and then nothing that was issued is kept.
                Ok(Issued { host: Arc::clone(host), config: Arc::new(config), renew_at: now + VALIDITY })
            }
        }
    }
}

/// The DNS names of a certificate's SAN.
pub(super) fn dns_names(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok((_, certificate)) = x509_parser::parse_x509_certificate(certificate) else { return Vec::new() };
    let Ok(Some(names)) = certificate.subject_alternative_name() else { return Vec::new() };
    let dns =
        |name: &GeneralName<'_>| if let GeneralName::DNSName(name) = name { Some((*name).to_owned()) } else { None };
    names.value.general_names.iter().filter_map(dns).collect()
}

/// When a chain's leaf ends, in seconds since 1970.
pub(super) fn not_after(chain: &[CertificateDer<'_>]) -> Option<f64> {
    let (_, leaf) = x509_parser::parse_x509_certificate(chain.first()?).ok()?;
    #[expect(clippy::cast_precision_loss, reason = "seconds fit into 53 bits for longer than certificates last")]
    Some(leaf.validity().not_after.timestamp() as f64)
}

/// Whether a certificate names itself as its issuer, as roots do.
pub(super) fn is_self_signed(certificate: &CertificateDer<'_>) -> bool {
    x509_parser::parse_x509_certificate(certificate)
        .is_ok_and(|(_, certificate)| certificate.subject().as_raw() == certificate.issuer().as_raw())
}

/// Whether a certificate's name (perhaps a wildcard) is good for a host (perhaps a wildcard host).
fn names(certificate: &str, host: &str) -> bool {
    let same = certificate.eq_ignore_ascii_case(host);
    let below = certificate.strip_prefix("*.").zip(host.split_once('.'));
    same || below.is_some_and(|(parent, (_, rest))| parent.eq_ignore_ascii_case(rest))
}

fn params(host: &str, now: SystemTime) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(vec![host.to_owned()])?;
    params.distinguished_name = DistinguishedName::new();
    if host.len() <= MAX_COMMON_NAME {
        params.distinguished_name.push(DnType::CommonName, host);
    }
    params.not_before = (now - BACKDATE).into();
    params.not_after = (now + VALIDITY).into();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authority() -> Source {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        Source::Authority(Box::new(Issuer::new(params, key)), Vec::new())
    }

    fn host(name: &str, last: u8) -> VirtualHost {
        VirtualHost { name: name.into(), address: Ipv4Addr::new(198, 18, 7, last) }
    }

    #[test]
    fn a_fresh_certificate_outlives_reloads_and_is_replaced_in_time() {
        let (source, now) = (authority(), SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000));
        let hosts = [host("a.example", 130), host("*.b.example", 131)];
        let next = |services: &Services, after| services.next(&source, &hosts, now + after).expect("certificates");
        let first = next(&Services::default(), Duration::ZERO);
        let again = next(&first, Duration::from_secs(60));
        let later = next(&again, VALIDITY - RENEW_BEFORE);
        let [first, again, later] = [first, again, later].map(|services| services.by_address());
        for host in &hosts {
            assert!(Arc::ptr_eq(&first[&host.address], &again[&host.address]));
            assert!(!Arc::ptr_eq(&first[&host.address], &later[&host.address]));
        }
    }

    #[test]
    fn a_wildcard_certificate_is_good_for_one_label() {
        assert!(names("*.example", "a.example"));
        assert!(names("*.b.example", "*.b.example"));
        assert!(!names("*.example", "a.b.example"));
        assert!(!names("a.example", "b.example"));
    }
}
