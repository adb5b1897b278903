//! The decider as a whole: files in, judgements out.

mod decisions;
mod load;
mod properties;

use std::sync::Arc;

use super::*;

/// The identity file of most tests.
pub(super) const IDENTITY: &str = r#"
[issuers.corp]
url          = "https://login.corp.example"
audiences    = ["proxy"]
algs         = ["ES256"]
groups_claim = "groups"
groups       = ["dev", "admin", "leavers"]
person       = { claim = "preferred_username" }
claims       = { department = "string", roles = "strings", level = "integer", contractor = "boolean" }

[issuers.other]
url       = "https://other.example"
audiences = ["proxy"]
algs      = ["RS256"]
person    = "linked"

[subjects]
dev     = { groups = ["dev"] }
admin   = { groups = ["admin"] }
leavers = { groups = ["leavers"] }
alice   = { users = ["alice"] }
strong  = { tunnel = { binding = ["keys"] } }
sales   = { issuers = ["corp"], claims = { department = ["sales"] } }
mailed  = { issuers = ["corp", "other"], emails = ["alice@corp.example"] }
"#;

/// A reader as strict as traffic meets, as far as these tests need it.
pub(super) fn read(_: &Bundle, text: &RequestText, _: bool) -> Result<CanonicalRequest, String> {
    let (path, query) = match text.target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (&*text.target, None),
    };
    let lower = path.to_ascii_lowercase();
    let doubtful = ["//", "/../", "/./", "%2e", "%2f", "%5c", "%25", ";", "#", "\\", " "];
    if !path.starts_with('/') || doubtful.iter().any(|sign| lower.contains(sign)) || lower.ends_with("/..") {
        return Err("no single reading".into());
    }
    Ok(CanonicalRequest::for_test(&text.method, &text.host, path, query))
}

pub(super) fn environment() -> Environment {
    Environment {
        services: "198.18.7.128/25".parse().unwrap(),
        suffix: "api.corp.example".into(),
        reserved: vec!["198.18.7.1".parse().unwrap(), "198.18.7.2".parse().unwrap()],
        authorities: Known::from_iter(["internal-ca"]),
        client_certificates: Known::from_iter(["proxy-identity"]),
        own_listeners: vec!["0.0.0.0:443".parse().unwrap(), "127.0.0.1:9901".parse().unwrap()],
        own_socket: Some("/run/wicketgate/admin.sock".into()),
        real_path: |path| Path::new("/run").join(path.strip_prefix("/var/run").unwrap_or(path)),
        can_fetch: |url| !url.contains("99999"),
        read,
    }
}

pub(super) fn sources(files: &[(&str, &str)]) -> Vec<Source> {
    files.iter().map(|(file, text)| Source { file: (*file).into(), text: (*text).into() }).collect()
}

pub(super) fn load(files: &[(&str, &str)]) -> Arc<Bundle> {
    match compile(&sources(files), &environment(), None) {
        Ok(compiled) => Arc::new(compiled.bundle),
        Err(complaints) => panic!("{}", printed(&complaints)),
    }
}

pub(super) fn printed(complaints: &[Complaint]) -> String {
    let line = |complaint: &Complaint| {
        let (line, column) = complaint.place();
        let hint = complaint.hint.as_deref().map_or_else(String::new, |hint| format!("\n  {hint}"));
        format!("{}:{line}:{column}: {}: {}{hint}", complaint.file, complaint.code, complaint.message)
    };
    complaints.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// An API file: `top` goes before its tables, `tables` after its upstream.
pub(super) fn api(name: &str, top: &str, tables: &str) -> String {
    format!(
        "api = \"{name}\"\npolicy_version = 1\nowner = \"{name}-team\"\n\
         {top}\n[upstream]\nurl = \"https://{name}.internal\"\n{tables}"
    )
}

/// A rule on one line per key.
pub(super) fn rule(kind: &str, id: &str, who: &str, methods: &str, paths: &str) -> String {
    format!("\n[[{kind}]]\nid = \"{id}\"\nwho = [{who}]\nmethods = [{methods}]\npaths = [{paths}]\n")
}

/// Judges a request by a persona in the words of [`Persona::parse`].
pub(super) fn judged(bundle: &Bundle, who: &str, method: &str, url: &str) -> Judgement {
    let (host, path) = url.split_once('/').unwrap();
    let request = CanonicalRequest::for_test(method, host, &format!("/{path}"), None);
    let played = Persona::parse(who).unwrap().play(bundle).unwrap();
    judge(bundle, &played.facts(&request))
}

/// `allow` and the rule, or the status and the reason.
pub(super) fn answer(bundle: &Bundle, who: &str, method: &str, url: &str) -> String {
    match judged(bundle, who, method, url) {
        Judgement::Allow(allowance) => format!("allow {}", allowance.rule()),
        Judgement::Deny(denial) => format!("{} {}", denial.status(), denial.reason()),
    }
}
