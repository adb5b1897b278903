//! Policy files: text in, a bundle or complaints out.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use ipnet::Ipv4Net;
use wicketgate::complaint::{Complaint, Severity};
use wicketgate::identity::authn::fetch::is_https;
use wicketgate::identity::{Binding, Group, Kind, Method, SessionId};
use wicketgate::policy::{
    Bundle, Compiled, Environment, Facts, Judgement, Source, compile, explain, judge, run, visible,
};
use wicketgate::request::{CanonicalRequest, Raw, Target};
use wicketgate::server::read_request;

/// A line that begins so names the file that follows; without one, all is `orders.toml`.
const FILE: &str = "#file ";

/// The files of a bundle. Whatever they say, complaints have places, order and repetition mean nothing, and whoever is
/// let in sees the host.
pub(crate) fn files(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let mut sources = sources(text);
    let environment = environment();
    let first = compile(&sources, &environment, None);
    sources.reverse();
    let second = compile(&sources, &environment, None);
    match (first, second) {
        (Ok(first), Ok(second)) => {
            assert_eq!(summary(&first), summary(&second));
            check_complaints(&first.warnings);
            check_again(&first, &sources, &environment);
            check_bundle(&first.bundle);
        }
        (Err(first), Err(second)) => {
            assert!(first.iter().any(|complaint| complaint.severity == Severity::Error));
            check_complaints(&first);
            check_complaints(&second);
        }
        (first, second) => panic!("the order of files decides: {:?} {:?}", first.err(), second.err()),
    }
}

fn sources(text: &str) -> Vec<Source> {
    let mut files: Vec<(&str, String)> = Vec::new();
    for line in text.split_inclusive('\n') {
        match (line.strip_prefix(FILE), files.last_mut()) {
            (Some(name), _) => files.push((name.trim_end(), String::new())),
            (None, Some((_, text))) => text.push_str(line),
            (None, None) => files.push(("orders.toml", line.to_owned())),
        }
    }
    files.into_iter().map(|(file, text)| Source { file: file.into(), text: text.into() }).collect()
}

fn environment() -> Environment {
    let Ok(services) = Ipv4Net::new(Ipv4Addr::new(198, 18, 7, 128), 25) else { unreachable!("25 bits are a prefix") };
    Environment {
        services,
        suffix: "api.corp.example".to_owned(),
        reserved: vec![Ipv4Addr::new(198, 18, 7, 1), Ipv4Addr::new(198, 18, 7, 2)],
        authorities: ["internal-ca"].into_iter().collect(),
        client_certificates: ["proxy-identity"].into_iter().collect(),
        own_listeners: vec![SocketAddr::from(([127, 0, 0, 1], 443))],
        own_socket: Some("/run/admin.sock".into()),
        real_path: Path::to_path_buf,
        can_fetch: is_https,
        read: read_request,
    }
}

fn summary(compiled: &Compiled) -> (&str, String, usize) {
    (compiled.bundle.id(), format!("{:?}", compiled.bundle.hosts()), compiled.warnings.len())
}

fn check_complaints(complaints: &[Complaint]) {
    for complaint in complaints {
        let Complaint { span, text, code, message, hint, .. } = complaint;
        assert!(text.get(span.clone()).is_some(), "{code}: {span:?} is no place in the text");
        let (line, column) = complaint.place();
        assert!(line >= 1 && column >= 1 && !code.is_empty() && !message.is_empty() && hint.is_some());
    }
}

/// The same files after themselves: no host moves.
fn check_again(compiled: &Compiled, sources: &[Source], environment: &Environment) {
    match compile(sources, environment, Some(&compiled.bundle)) {
        Ok(again) => assert_eq!(summary(&again), summary(compiled)),
        Err(complaints) => panic!("{complaints:?} after itself"),
    }
}

/// The tests inside pass, as they did when the bundle was compiled; and decisions agree with what is visible.
fn check_bundle(bundle: &Bundle) {
    for test in bundle.tests() {
        assert_eq!(run(bundle, test, read_request).failure, None);
    }
    let groups = ["orders-dev", "orders-admin"].map(Group::new);
    for subject in [None, Some("alice"), Some("bob")] {
        for host in bundle.hosts() {
            let name = host.name.replacen('*', "one", 1);
            for (method, path) in
                [("GET", "/"), ("GET", "/v1/orders/42"), ("DELETE", "/v1/orders"), ("POST", "/a;b/%2F")]
            {
                check_decision(bundle, subject, &groups, method, &name, path);
            }
        }
    }
}

fn check_decision(bundle: &Bundle, subject: Option<&str>, groups: &[Group], method: &str, host: &str, path: &str) {
    let raw = Raw { method, target: Target::Http1 { target: path.as_bytes() }, port: 443 };
    let Ok(request) = CanonicalRequest::read(&raw, [("host", host.as_bytes())].into_iter()) else { return };
    let facts = Facts {
        request: &request,
        subject,
        kind: Kind::Person,
        local_groups: if subject.is_some() { groups } else { &[] },
        token: None,
        binding: subject.map(|_| Binding::Keys),
        method: subject.map(|_| Method::EapMsChapV2),
        session: subject.map(|_| SessionId::from_random(7)),
    };
    let judgement = judge(bundle, &facts);
    assert_eq!(explain(bundle, &facts).allowed(), matches!(judgement, Judgement::Allow(_)));
    match judgement {
        Judgement::Allow(allowance) => {
            let host = bundle.host_for(request.host());
            let seen = visible(bundle, &facts.evidence());
            assert!(host.is_some_and(|host| seen.contains(host)), "{subject:?} may use {host:?} and does not see it");
            assert!(allowance.charges().iter().all(|charge| !charge.key.is_empty()));
        }
        Judgement::Deny(denial) => assert!((400..=503).contains(&denial.status()), "{denial:?}"),
    }
}
