use super::*;
use crate::complaint::Severity;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType,
};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tempfile::TempDir;

/// 2026-06-01, in the middle of the certificates' year.
fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_780_272_000)
}

fn days(days: u64) -> Duration {
    Duration::from_secs(days * 86_400)
}

fn params() -> CertificateParams {
    let mut params = CertificateParams::new(vec!["vpn.corp.example".to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(2026, 1, 1);
    params.not_after = rcgen::date_time_ymd(2027, 1, 1);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params
}

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = params();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.distinguished_name.push(DnType::CommonName, "ca");
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn leaf(params: &CertificateParams) -> (CertificateDer<'static>, KeyPair) {
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    (certificate.der().clone(), key)
}

fn codes(findings: &[Finding]) -> Vec<(Severity, &'static str)> {
    findings.iter().map(|finding| (finding.severity, finding.code)).collect()
}

fn file(directory: &TempDir, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
    let path = directory.path().join(name);
    fs::write(&path, text).unwrap();
    path
}

#[test]
fn a_chain_and_its_key_are_read_and_fit() {
    let directory = tempfile::tempdir().unwrap();
    let authority = authority();
    let key = KeyPair::generate().unwrap();
    let leaf = params().signed_by(&key, &authority).unwrap();
    let chain = file(&directory, "chain.pem", leaf.pem() + &authority.pem());
    let key = file(&directory, "key.pem", key.serialize_pem());
    let chain = certificates(&chain).unwrap();
    assert_eq!(chain.len(), 2);
    assert_eq!(inspect_server(&chain, now()), []);
    assert_eq!(inspect_match(chain, super::key(&key).unwrap()), None);
}

#[test]
fn a_key_of_another_certificate_is_found() {
    let (certificate, _) = leaf(&params());
    let (_, other) = leaf(&params());
    let key = PrivateKeyDer::try_from(other.serialize_der()).unwrap();
    assert_eq!(inspect_match(vec![certificate], key).unwrap().code, "key-mismatch");
}

#[test]
fn every_broken_file_says_what_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let (der, key) = leaf(&params());
    let pem = params().self_signed(&key).unwrap().pem();
    let cases = [
        ("der", der.to_vec(), "no-certificate", "no-key"),
        ("empty", Vec::new(), "no-certificate", "no-key"),
        ("key", key.serialize_pem().into_bytes(), "no-certificate", ""),
        ("certificate", pem.clone().into_bytes(), "", "no-key"),
        ("half", pem.as_bytes()[..pem.len() / 2].to_vec(), "not-pem", "not-pem"),
        ("letters", pem.replace('M', "*").into_bytes(), "not-pem", "not-pem"),
        (
            "nonsense",
            b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_vec(),
            "bad-certificate",
            "no-key",
        ),
        (
            "encrypted",
            b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n".to_vec(),
            "no-certificate",
            "encrypted-key",
        ),
        ("large", vec![b'\n'; 2 << 20], "too-large", "too-large"),
    ];
    for (name, bytes, as_certificate, as_key) in cases {
        let path = file(&directory, name, bytes);
        assert_eq!(certificates(&path).map_or_else(|error| error.code(), |_| ""), as_certificate, "{name}");
        assert_eq!(super::key(&path).map_or_else(|error| error.code(), |_| ""), as_key, "{name}");
    }
    let missing = directory.path().join("missing");
    assert_eq!(certificates(&missing), Err(PemError::NotFound { path: missing }));
    assert_eq!(certificates(directory.path()).unwrap_err().code(), "unreadable");
}

#[test]
fn an_error_never_quotes_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let secret = "c2VjcmV0IGtleSBieXRlcw*";
    let path = file(&directory, "key", format!("-----BEGIN PRIVATE KEY-----\n{secret}\n-----END PRIVATE KEY-----\n"));
    let error = key(&path).unwrap_err();
    assert!(!format!("{error} {error:?}").contains("c2Vj"), "{error:?}");
}

#[test]
fn time_is_judged_at_both_ends() {
    let (certificate, _) = leaf(&params());
    let at = |time: SystemTime| codes(&inspect_server(std::slice::from_ref(&certificate), time));
    assert_eq!(at(now()), []);
    assert_eq!(at(now() + days(201)), [(Severity::Warning, "expires-soon")]);
    assert_eq!(at(now() + days(199)), []);
    assert_eq!(at(now() + days(215)), [(Severity::Error, "expired")]);
    assert_eq!(at(now() - days(152)), [(Severity::Error, "not-yet-valid")]);
    let message = &inspect_server(&[certificate], now() + days(215))[0].message;
    assert_eq!(message, "the certificate expired on 2027-01-01");
}

#[test]
fn the_authority_first_is_an_error_and_a_stranger_above_a_warning() {
    let authority = authority();
    let key = KeyPair::generate().unwrap();
    let leaf = params().signed_by(&key, &authority).unwrap().der().clone();
    let swapped = [authority.der().clone(), leaf.clone()];
    assert_eq!(codes(&inspect_client(&swapped, now())), [(Severity::Error, "leaf-not-first")]);
    let mut stranger = params();
    stranger.distinguished_name.push(DnType::CommonName, "stranger");
    let (stranger, _) = self::leaf(&stranger);
    assert_eq!(codes(&inspect_client(&[leaf, stranger], now())), [(Severity::Warning, "broken-chain")]);
}

#[test]
fn an_expired_certificate_above_the_leaf_is_named_by_its_number() {
    let mut old = params();
    old.not_after = rcgen::date_time_ymd(2026, 2, 1);
    let (old, _) = leaf(&old);
    let (young, _) = leaf(&params());
    let findings = inspect_client(&[young, old], now());
    assert_eq!(findings[0].message, "certificate 2 of this file: the certificate expired on 2026-02-01");
}

#[test]
fn a_server_needs_a_name_and_the_usage() {
    let mut nameless = params();
    nameless.subject_alt_names = Vec::new();
    nameless.distinguished_name = rcgen::DistinguishedName::new();
    assert_eq!(codes(&inspect_server(&[leaf(&nameless).0], now())), [(Severity::Error, "no-name")]);

    nameless.distinguished_name.push(DnType::CommonName, "vpn.corp.example");
    assert_eq!(codes(&inspect_server(&[leaf(&nameless).0], now())), [(Severity::Warning, "no-alternative-name")]);

    let mut by_address = params();
    by_address.subject_alt_names = vec![SanType::IpAddress("192.0.2.1".parse().unwrap())];
    assert_eq!(inspect_server(&[leaf(&by_address).0], now()), []);

    let mut silent = params();
    silent.extended_key_usages = Vec::new();
    assert_eq!(codes(&inspect_server(&[leaf(&silent).0], now())), [(Severity::Warning, "no-usage")]);

    let mut client = params();
    client.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let client = leaf(&client).0;
    assert_eq!(codes(&inspect_server(std::slice::from_ref(&client), now())), [(Severity::Error, "not-for-servers")]);
    assert_eq!(inspect_client(&[client], now()), []);
}

#[test]
fn only_an_authority_may_issue() {
    assert_eq!(inspect_authority(&[authority().der().clone()], now()), []);
    assert_eq!(codes(&inspect_authority(&[leaf(&params()).0], now())), [(Severity::Error, "not-an-authority")]);
    let mut signs_nothing = params();
    signs_nothing.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    signs_nothing.key_usages = vec![KeyUsagePurpose::CrlSign];
    assert_eq!(codes(&inspect_authority(&[leaf(&signs_nothing).0], now())), [(Severity::Error, "not-an-authority")]);
}

#[test]
fn what_only_upstreams_check_may_have_expired() {
    let mut old = params();
    old.not_after = rcgen::date_time_ymd(2026, 2, 1);
    let (old, _) = leaf(&old);
    assert_eq!(codes(&inspect_roots(std::slice::from_ref(&old), now())), [(Severity::Warning, "expired")]);
    assert_eq!(codes(&inspect_client(&[old], now())), [(Severity::Warning, "expired")]);
}

#[test]
fn a_key_that_others_may_read_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(&directory, "key", "secret");
    for (mode, found) in [(0o600, false), (0o400, false), (0o640, true), (0o604, true)] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!(inspect_mode(&path).is_some(), found, "{mode:o}");
    }
    assert_eq!(inspect_mode(&directory.path().join("missing")), None);
}
