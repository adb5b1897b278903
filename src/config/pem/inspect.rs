//! Judging certificates and keys that could be read, against a time that is passed in.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::{ASN1Time, FromDer as _, X509Certificate};

use crate::complaint::Severity;

/// How long before its end a certificate is worth a warning: renewals are due before, and two weeks leave time.
const EXPIRES_SOON: Duration = Duration::from_secs(14 * 86_400);

const EXPIRED: &str = "expired";
const NOT_YET_VALID: &str = "not-yet-valid";

/// Something that was found in a file that can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How much it weighs.
    pub severity: Severity,
    /// A stable word.
    pub code: &'static str,
    /// What was found.
    pub message: String,
    /// How to mend it.
    pub hint: String,
}

impl Finding {
    fn error(code: &'static str, message: impl Into<String>, hint: &str) -> Self {
        Self { severity: Severity::Error, code, message: message.into(), hint: hint.to_owned() }
    }

    fn warning(code: &'static str, message: impl Into<String>, hint: &str) -> Self {
        Self { severity: Severity::Warning, code, message: message.into(), hint: hint.to_owned() }
    }

    /// The same, but no error when it is about the time.
    fn about_time_only_warns(self) -> Self {
        let severity = if [EXPIRED, NOT_YET_VALID].contains(&self.code) { Severity::Warning } else { self.severity };
        Self { severity, ..self }
    }
}

/// A server's chain: leaf first and complete, valid now, with a name, and allowed to be a server.
pub fn inspect_server(chain: &[CertificateDer<'_>], now: SystemTime) -> Vec<Finding> {
    let mut findings = inspect_chain(chain, now);
    if let Some(leaf) = parsed(chain).first() {
        findings.extend(inspect_names(leaf));
        findings.extend(inspect_server_usage(leaf));
    }
    findings
}

/// A client's chain: leaf first and complete. One that is not valid now fails at the upstreams that ask for it, and must
/// not keep all others from being served.
pub fn inspect_client(chain: &[CertificateDer<'_>], now: SystemTime) -> Vec<Finding> {
    inspect_chain(chain, now).into_iter().map(Finding::about_time_only_warns).collect()
}

/// An authority that issues: valid now, and allowed to issue.
pub fn inspect_authority(chain: &[CertificateDer<'_>], now: SystemTime) -> Vec<Finding> {
    let certificates = parsed(chain);
    let mut findings: Vec<Finding> =
        certificates.first().and_then(|ca| inspect_validity(ca, now)).into_iter().collect();
    if let Some(ca) = certificates.first()
        && !(ca.is_ca() && may_sign(ca))
    {
        findings.push(Finding::error(
            "not-an-authority",
            "this certificate may not issue others",
            "a certificate with CA:TRUE and the key usage keyCertSign is needed, as `wicketgate pki init` makes it",
        ));
    }
    findings
}

/// Root certificates. One that is not valid now fails for the upstreams below it alone.
pub fn inspect_roots(roots: &[CertificateDer<'_>], now: SystemTime) -> Vec<Finding> {
    let findings = parsed(roots).into_iter().filter_map(|root| inspect_validity(&root, now));
    findings.map(Finding::about_time_only_warns).collect()
}

fn parsed<'a>(chain: &'a [CertificateDer<'_>]) -> Vec<X509Certificate<'a>> {
    chain.iter().filter_map(|der| X509Certificate::from_der(der).ok()).map(|(_, certificate)| certificate).collect()
}

fn inspect_chain(chain: &[CertificateDer<'_>], now: SystemTime) -> Vec<Finding> {
    let certificates = parsed(chain);
    let mut findings = Vec::new();
    for (index, certificate) in certificates.iter().enumerate() {
        findings.extend(inspect_validity(certificate, now).map(|finding| numbered(index, finding)));
    }
    let Some((leaf, above)) = certificates.split_first() else { return findings };
    if leaf.is_ca() && above.iter().any(|certificate| !certificate.is_ca()) {
        findings.push(Finding::error(
            "leaf-not-first",
            "the first certificate is an authority's, and the leaf comes later",
            "put the leaf first, then each certificate before the one that issued it",
        ));
        return findings;
    }
    for (index, pair) in certificates.windows(2).enumerate() {
        if let [issued, issuer] = pair
            && issued.issuer().as_raw() != issuer.subject().as_raw()
        {
            findings.push(Finding::warning(
                "broken-chain",
                format!("certificate {} was not issued by certificate {}", index + 1, index + 2),
                "put the leaf first, then each certificate before the one that issued it",
            ));
        }
    }
    findings
}

/// A finding about a certificate that is not the first one says so.
fn numbered(index: usize, finding: Finding) -> Finding {
    if index == 0 {
        return finding;
    }
    Finding { message: format!("certificate {} of this file: {}", index + 1, finding.message), ..finding }
}

fn inspect_validity(certificate: &X509Certificate<'_>, now: SystemTime) -> Option<Finding> {
    let validity = certificate.validity();
    let now = i64::try_from(crate::clock::unix(now)).unwrap_or(i64::MAX);
    let soon = now.saturating_add(EXPIRES_SOON.as_secs().cast_signed());
    if validity.not_after.timestamp() < now {
        Some(Finding::error(
            EXPIRED,
            format!("the certificate expired on {}", day(validity.not_after)),
            "renew it; it is refused wherever it is checked",
        ))
    } else if validity.not_before.timestamp() > now {
        Some(Finding::error(
            NOT_YET_VALID,
            format!("the certificate is valid only from {}", day(validity.not_before)),
            "is the clock of this machine right?",
        ))
    } else if validity.not_after.timestamp() < soon {
        Some(Finding::warning(
            "expires-soon",
            format!("the certificate expires on {}", day(validity.not_after)),
            "renew it now; the server takes a new file without a restart",
        ))
    } else {
        None
    }
}

/// `2026-11-23`
fn day(time: ASN1Time) -> String {
    let time = time.to_datetime();
    format!("{:04}-{:02}-{:02}", time.year(), u8::from(time.month()), time.day())
}

fn inspect_names(leaf: &X509Certificate<'_>) -> Option<Finding> {
    let alternatives = leaf.subject_alternative_name().ok().flatten();
    if alternatives.is_some_and(|names| !names.value.general_names.is_empty()) {
        return None;
    }
    let hint = "issue it with the subject alternative name that clients dial, as in DNS:vpn.corp.example";
    Some(if leaf.subject().iter_common_name().next().is_some() {
        Finding::warning(
            "no-alternative-name",
            "the certificate has a common name only; modern clients ignore it",
            hint,
        )
    } else {
        Finding::error("no-name", "the certificate names no host", hint)
    })
}

fn inspect_server_usage(leaf: &X509Certificate<'_>) -> Option<Finding> {
    let hint = "issue it with the extended key usage serverAuth: Windows refuses it otherwise";
    match leaf.extended_key_usage().ok().flatten() {
        Some(usage) if usage.value.server_auth || usage.value.any => None,
        Some(_) => Some(Finding::error("not-for-servers", "the certificate may not be used by servers", hint)),
        None => Some(Finding::warning("no-usage", "the certificate does not say that it is for servers", hint)),
    }
}

fn may_sign(certificate: &X509Certificate<'_>) -> bool {
    certificate.key_usage().ok().flatten().is_none_or(|usage| usage.value.key_cert_sign())
}

/// Whether the key is the key of the first certificate, and one that rustls can sign with.
pub fn inspect_match(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Option<Finding> {
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    match rustls::sign::CertifiedKey::from_der(chain, key, &provider) {
        Ok(_) => None,
        Err(rustls::Error::InconsistentKeys(_)) => Some(Finding::error(
            "key-mismatch",
            "this is not the key of the certificate",
            "the two come from different requests: take the key that the certificate was issued for",
        )),
        Err(_) => Some(Finding::error(
            "unusable-key",
            "TLS cannot sign with this key",
            "take an ECDSA key on P-256 or P-384, Ed25519, or RSA with 2048 bits or more",
        )),
    }
}

/// Whether others than the owner may read a secret file. Nothing is found in a file that is not there.
pub fn inspect_mode(path: &Path) -> Option<Finding> {
    let mode = fs::metadata(path).ok()?.permissions().mode() & 0o777;
    (mode & 0o077 != 0).then(|| {
        Finding::warning(
            "readable-by-others",
            format!("a secret file with mode {mode:04o}"),
            "`chmod 600` it, so that only the server's user reads it",
        )
    })
}
