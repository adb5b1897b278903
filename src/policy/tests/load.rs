//! Every complaint stands at its place.

use super::*;
use crate::complaint::Severity;

const HOST: &str = r#"hosts = ["orders.api.corp.example"]"#;
const READ: &str = "\n[[allow]]\nid = \"read\"\nwho = \"dev\"\nmethods = [\"GET\"]\npaths = [\"/x\"]\n";

/// Removes the marker `¦` and tells its line and column.
fn unmarked(text: &str) -> (String, Option<(usize, usize)>) {
    let Some(at) = text.find('¦') else { return (text.to_owned(), None) };
    let before = &text[..at];
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    (text.replacen('¦', "", 1), Some((line, column)))
}

fn complaints(files: &[(&str, &str)], severity: Severity) -> Vec<(String, (usize, usize), &'static str)> {
    let all = match compile(&sources(files), &environment(), None) {
        Ok(compiled) => compiled.warnings,
        Err(complaints) => complaints,
    };
    assert!(all.iter().all(|complaint| complaint.hint.is_some()), "{}", printed(&all));
    let all = all.into_iter().filter(|complaint| complaint.severity == severity);
    all.map(|complaint| (complaint.file.to_string(), complaint.place(), complaint.code)).collect()
}

/// Asserts that exactly one complaint of the severity arises, with the code, at the marker `¦` of one file.
#[track_caller]
fn complains(severity: Severity, code: &str, files: &[(&str, &str)]) {
    let mut clean: Vec<(&str, String)> = Vec::new();
    let mut expected = None;
    for (file, text) in files {
        let (text, place) = unmarked(text);
        if let Some(place) = place {
            expected = Some(((*file).to_owned(), place));
        }
        clean.push((file, text));
    }
    let (file, place) = expected.expect("no marker");
    let clean: Vec<(&str, &str)> = clean.iter().map(|(file, text)| (*file, text.as_str())).collect();
    let got = complaints(&clean, severity);
    let got: Vec<(&str, (usize, usize), &str)> =
        got.iter().map(|(file, at, code)| (file.as_str(), *at, *code)).collect();
    assert_eq!(got, [(file.as_str(), place, code)], "{files:#?}");
}

#[track_caller]
fn refuses(code: &str, text: &str) {
    complains(Severity::Error, code, &[("_identity.toml", IDENTITY), ("orders.toml", text)]);
}

#[track_caller]
fn refuses_identity(code: &str, text: &str) {
    complains(Severity::Error, code, &[("_identity.toml", text)]);
}

#[track_caller]
fn refuses_org(code: &str, text: &str) {
    let text = format!("policy_version = 1\nowner = \"security\"\n{text}");
    complains(Severity::Error, code, &[("_identity.toml", IDENTITY), ("_org.toml", &text)]);
}

fn orders(top: &str, tables: &str) -> String {
    api("orders", &format!("{HOST}\n{top}"), tables)
}

#[test]
fn nt_51_an_api_file_has_a_closed_schema() {
    let top = |line: &str| orders(line, READ);
    for (code, line) in [
        ("unknown-key", "¦banana = 1"),
        ("unknown-key", "¦strip_base = true"),
        ("unknown-key", "¦moed = \"enforce\""),
        ("not-supported", "¦openapi = \"orders.json\""),
        ("not-supported", "mode = ¦\"shadow\""),
        ("bad-value", "mode = ¦\"enforced\""),
        ("wrong-type", "hide_routes = ¦\"yes\""),
        ("bad-value", "bearer = ¦\"jugde\""),
        ("contradiction", "bearer = \"pass\"\nlogin = ¦[\"corp\"]"),
        ("unknown-issuer", "login = [¦\"crop\"]"),
        ("empty-list", "login = ¦[]"),
        ("duplicate-item", "login = [\"corp\", ¦\"corp\"]"),
        ("bad-path", "base = ¦\"v1\""),
        ("bad-path", "base = ¦\"/v1/\""),
        ("bad-path", "base = ¦\"/v1/{x}\""),
        ("bad-address", "address = ¦\"198.18.7\""),
        ("bad-address", "address = ¦\"198.18.7.128\""),
        ("bad-address", "address = ¦\"10.0.0.1\""),
        ("duplicate-key", "¦owner = \"again\""),
        ("syntax", "hide_routes = ¦yes"),
    ] {
        refuses(code, &top(line));
    }
    refuses("missing-key", "¦policy_version = 1\napi = \"orders\"\nhosts = [\"a.b\"]\n[upstream]\nurl = \"unix:/x\"\n");
    refuses(
        "not-supported",
        "api = \"orders\"\npolicy_version = ¦2\nowner = \"o\"\nhosts = [\"a.b\"]\n[upstream]\nurl = \"unix:/x\"\n",
    );
    refuses("file-name", &orders("", READ).replacen("\"orders\"", "¦\"order\"", 1));
    refuses("not-supported", &orders("", "[¦cors]\norigins = []\n"));
}

#[test]
fn what_this_version_does_not_build_is_said_not_ignored() {
    let keys = [
        "ops", "grpc", "safe", "graphql", "query", "header", "body", "require", "network", "networks", "time",
        "expires", "shadow", "when",
    ];
    for key in keys {
        refuses("not-supported", &orders("", &format!("{READ}¦{key} = 1\n")));
    }
    for key in ["cost", "concurrency", "quota", "scope", "on_store_down"] {
        let limit = format!("[[limit]]\nid = \"l\"\nkey = [\"user\"]\nrate = \"1/s\"\n¦{key} = 1\n");
        refuses("not-supported", &orders("", &limit));
    }
    for key in ["group", "device", "cert", "ip", "header.x"] {
        let limit = format!("[[limit]]\nid = \"l\"\nkey = [¦\"{key}\"]\nrate = \"1/s\"\n");
        refuses("not-supported", &orders("", &limit));
    }
    for key in ["retries", "lb", "health", "outlier"] {
        refuses("not-supported", &orders("", &format!("¦{key} = 1\n")));
    }
    for key in ["jwt", "audience", "ttl"] {
        refuses("not-supported", &orders("", &format!("[assert]\n¦{key} = 1\n")));
    }
    refuses("not-supported", &orders("", "[http]\n¦grpc = true\n"));
    for key in ["client", "acr", "amr", "auth_age", "cert", "token_bound", "network", "device", "at"] {
        let test = format!("[[test]]\nname = \"t\"\nreq = \"GET /x\"\nexpect = \"deny\"\nas = {{ ¦{key} = 1 }}\n");
        refuses("not-supported", &orders("", &test));
    }
    for key in ["headers", "body"] {
        let test = format!("[[test]]\nname = \"t\"\nreq = \"GET /x\"\nexpect = \"deny\"\n¦{key} = 1\n");
        refuses("not-supported", &orders("", &test));
    }
    refuses("not-supported", &orders("", "[[test]]\nname = \"t\"\nreq = \"GET /x\"\nexpect = ¦\"step-up\"\n"));
    for key in ["mutating_requires_any", "max_session", "max_rule_age"] {
        refuses_org("not-supported", &format!("[guardrails]\n¦{key} = 1\n"));
    }
    refuses_org("not-supported", "[[¦allow]]\nid = \"x\"\n");
    for key in ["requirements", "networks"] {
        refuses_identity("not-supported", &format!("[¦{key}]\nx = 1\n"));
    }
    for key in ["clients", "spiffe", "cert"] {
        refuses_identity("not-supported", &format!("[subjects.x]\ngroups = [\"a\"]\n¦{key} = 1\n"));
    }
    let text = orders("", &format!("{READ}¦require = [\"mfa\"]\n"));
    let (text, _) = unmarked(&text);
    let error = compile(&sources(&[("_identity.toml", IDENTITY), ("orders.toml", &text)]), &environment(), None);
    assert_eq!(error.unwrap_err()[0].message, "`require` is not supported by this version");
}

#[test]
fn nt_51_a_rule_is_whole() {
    let rule = |lines: &str| orders("", &format!("[[allow]]\n{lines}"));
    for (code, lines) in [
        ("unknown-key", "id = \"r\"\nwho = \"dev\"\n¦metods = [\"GET\"]\nmethods = [\"GET\"]\npaths = [\"/x\"]"),
        ("empty-list", "id = \"r\"\nwho = \"dev\"\nmethods = ¦[]\npaths = [\"/x\"]"),
        ("bad-method", "id = \"r\"\nwho = \"dev\"\nmethods = [¦\"get\"]\npaths = [\"/x\"]"),
        ("bad-method", "id = \"r\"\nwho = \"dev\"\nmethods = [\"GET\", ¦\"*\"]\npaths = [\"/x\"]"),
        ("bad-method", "id = \"r\"\nwho = \"dev\"\nmethods = [¦\"PROPFIND\"]\npaths = [\"/x\"]"),
        ("bad-path", "id = \"r\"\nwho = \"dev\"\nmethods = [\"GET\"]\npaths = [¦\"\"]"),
        ("bad-path", "id = \"r\"\nwho = \"dev\"\nmethods = [\"GET\"]\npaths = [¦\"/**/x\"]"),
        ("regex-in-path", "id = \"r\"\nwho = \"dev\"\nmethods = [\"GET\"]\npaths = [¦\"/x/.*\"]"),
        ("regex-in-path", "id = \"r\"\nwho = \"dev\"\nmethods = [\"GET\"]\npaths = [¦'^/x/\\d+$']"),
        ("empty-list", "id = \"r\"\nwho = \"dev\"\nmethods = [\"GET\"]\npaths = ¦[]"),
        ("wrong-type", "id = \"r\"\nwho = \"dev\"\nmethods = [\"GET\"]\npaths = ¦\"/x\""),
        ("unknown-subject", "id = \"r\"\nwho = ¦\"devs\"\nmethods = [\"GET\"]\npaths = [\"/x\"]"),
        ("unknown-subject", "id = \"r\"\nwho = [\"dev\", ¦\"everybody\"]\nmethods = [\"GET\"]\npaths = [\"/x\"]"),
        ("empty-list", "id = \"r\"\nwho = ¦[]\nmethods = [\"GET\"]\npaths = [\"/x\"]"),
        ("wrong-type", "id = \"r\"\nwho = ¦{ groups = [\"x\"] }\nmethods = [\"GET\"]\npaths = [\"/x\"]"),
        ("bad-name", "id = ¦\"Read\"\nwho = \"dev\"\nmethods = [\"GET\"]\npaths = [\"/x\"]"),
        ("wrong-type", "id = ¦1\nwho = \"dev\"\nmethods = [\"GET\"]\npaths = [\"/x\"]"),
        ("bad-value", "id = \"r\"\nwhy = ¦\"\"\nwho = \"dev\"\nmethods = [\"GET\"]\npaths = [\"/x\"]"),
    ] {
        refuses(code, &rule(lines));
    }
    for missing in ["id = \"r\"\n", "who = \"dev\"\n", "methods = [\"GET\"]\n", "paths = [\"/x\"]\n"] {
        let whole = "id = \"r\"\nwho = \"dev\"\nmethods = [\"GET\"]\npaths = [\"/x\"]\n";
        refuses("missing-key", &orders("", &format!("¦[[allow]]\n{}", whole.replace(missing, ""))));
    }
    refuses("wrong-type", &orders("", "¦[allow]\nid = \"r\"\n"));
}

#[test]
fn the_nearest_name_is_suggested() {
    let hint = |files: &[(&str, &str)]| {
        let errors = compile(&sources(files), &environment(), None).unwrap_err();
        errors
            .into_iter()
            .filter(|complaint| complaint.code != "missing-key")
            .find_map(|complaint| complaint.hint)
            .unwrap()
    };
    let devs = orders("", &READ.replace("\"dev\"", "\"devs\""));
    assert_eq!(hint(&[("_identity.toml", IDENTITY), ("orders.toml", &devs)]), "did you mean `dev`?");
    let typo = orders("", &READ.replace("paths", "path"));
    assert_eq!(hint(&[("_identity.toml", IDENTITY), ("orders.toml", &typo)]), "did you mean `paths`?");
    let strip = orders("strip_base = true", READ);
    assert_eq!(hint(&[("_identity.toml", IDENTITY), ("orders.toml", &strip)]), "it belongs in [upstream]");
}

#[test]
fn an_upstream_is_checked_at_load() {
    let upstream = |url: &str| orders("", READ).replace("\"https://orders.internal\"", &format!("¦\"{url}\""));
    for (code, url) in [
        ("bad-url", "ftp://x"),
        ("bad-url", "https://orders.internal/v1"),
        ("bad-url", "https://u:p@orders.internal"),
        ("bad-url", "http://2852039166"),
        ("upstream-off-limits", "http://169.254.169.254"),
        ("upstream-off-limits", "http://[fd00:ec2::254]"),
        ("upstream-off-limits", "http://[fe80::1]"),
        ("upstream-off-limits", "http://[::ffff:169.254.169.254]"),
        ("upstream-off-limits", "http://[fd20:ce::254]"),
        ("upstream-off-limits", "http://168.63.129.16"),
        ("upstream-off-limits", "http://100.100.100.200"),
        ("upstream-off-limits", "http://metadata.google.internal"),
        ("upstream-loop", "https://127.0.0.1:443"),
        ("upstream-loop", "https://[::1]:443"),
        ("upstream-loop", "https://localhost"),
        ("upstream-loop", "http://127.0.0.1:9901"),
        ("upstream-loop", "http://0.0.0.0:9901"),
        ("upstream-loop", "unix:/run/wicketgate/admin.sock"),
        ("upstream-loop", "unix:/var/run/wicketgate/admin.sock"),
    ] {
        refuses(code, &upstream(url));
    }
    for url in ["http://127.0.0.1:8080", "unix:/run/gateway.sock"] {
        load(&[("_identity.toml", IDENTITY), ("orders.toml", &unmarked(&upstream(url)).0)]);
    }
    for (code, line) in [
        ("unknown-authority", "tls = { ca = ¦\"internal-cb\" }"),
        ("unknown-certificate", "tls = { client_cert = ¦\"proxy\" }"),
        ("bad-duration", "timeout = ¦\"15\""),
        ("bad-duration", "timeout = ¦\"0s\""),
        ("wrong-type", "timeout = ¦15"),
        ("bad-size", "max_body = ¦\"4MB\""),
        ("out-of-range", "max_response_header = ¦\"2MiB\""),
        ("bad-value", "authorization = ¦\"drop\""),
        ("unknown-key", "¦ca = \"internal-ca\""),
    ] {
        refuses(code, &orders("", &format!("{line}\n{READ}")));
    }
    let plain =
        orders("", READ).replace("\"https://orders.internal\"", "\"http://gw\"\ntls = ¦{ ca = \"internal-ca\" }");
    refuses("contradiction", &plain);
    refuses("missing-key", "¦api = \"orders\"\npolicy_version = 1\nowner = \"o\"\nhosts = [\"a.b\"]\n");
}

#[test]
fn nt_54_a_host_has_one_spelling() {
    for host in ["Orders.api.corp.example", "orders.api.corp.example.", "bücher.api.corp.example", "10.0.0.1", "*"] {
        refuses("bad-host", &api("orders", &format!("hosts = [¦\"{host}\"]"), READ));
    }
    for host in ["access.api.corp.example", "api.corp.example"] {
        refuses("reserved-host", &api("orders", &format!("hosts = [¦\"{host}\"]"), READ));
    }
    refuses("duplicate-item", &api("orders", "hosts = [\"a.b\", ¦\"a.b\"]", READ));
    refuses("bad-address", &api("orders", "hosts = [\"a.b\", \"c.d\"]\naddress = ¦\"198.18.7.200\"", READ));
}

#[test]
fn nt_54_two_apis_with_one_host_need_different_bases() {
    let one = api("billing", HOST, READ);
    let two = api("orders", "hosts = [¦\"orders.api.corp.example\"]", READ);
    complains(
        Severity::Error,
        "host-overlap",
        &[("_identity.toml", IDENTITY), ("billing.toml", &one), ("orders.toml", &two)],
    );
    let two = api("orders", "hosts = [\"orders.api.corp.example\"]\nbase = \"/v1\"", READ);
    load(&[("_identity.toml", IDENTITY), ("billing.toml", &one), ("orders.toml", &two)]);
    let two =
        api("orders", "hosts = [¦\"orders.api.corp.example\"]\nbase = \"/v1\"", "[http]\nencoded_slash = \"opaque\"\n");
    complains(
        Severity::Error,
        "host-reading",
        &[("_identity.toml", IDENTITY), ("billing.toml", &one), ("orders.toml", &two)],
    );
    let one = api("billing", "hosts = [\"a.b\"]\naddress = \"198.18.7.200\"", READ);
    let two = api("orders", "hosts = [\"c.d\"]\naddress = ¦\"198.18.7.200\"", READ);
    complains(
        Severity::Error,
        "bad-address",
        &[("_identity.toml", IDENTITY), ("billing.toml", &one), ("orders.toml", &two)],
    );
}

#[test]
fn more_hosts_than_addresses_name_the_network() {
    let hosts: Vec<String> =
        (0..127).map(|at| format!("{}\"h{at:03}.example\"", if at == 126 { "¦" } else { "" })).collect();
    refuses("too-many-hosts", &api("orders", &format!("hosts = [{}]", hosts.join(", ")), READ));
}

#[test]
fn rules_are_compared_with_each_other() {
    let deny = |who: &str, paths: &str| rule("deny", "no", who, "\"GET\", \"POST\"", paths);
    let marked = READ.replace("\"read\"", "¦\"read\"");
    for (who, paths) in [
        ("\"dev\"", "\"/x\""),
        ("\"anyone-authenticated\"", "\"/*\""),
        ("\"admin\", \"dev\"", "\"/**\", \"/\""),
        ("\"anonymous\"", "\"/{a:slug}\""),
    ] {
        refuses("unreachable-allow", &orders("", &format!("{marked}{}", deny(who, paths))));
    }
    for (who, paths) in [("\"admin\"", "\"/x\""), ("\"dev\"", "\"/x/y\", \"/*/*/**\""), ("\"dev\"", "\"/{a:int}\"")] {
        load(&[("_identity.toml", IDENTITY), ("orders.toml", &orders("", &format!("{READ}{}", deny(who, paths))))]);
    }
    let org = rule("deny", "no", "\"dev\"", "\"GET\"", "\"/v1/**\"");
    let text = api("orders", &format!("{HOST}\nbase = \"/v1\""), &marked);
    complains(
        Severity::Error,
        "unreachable-allow",
        &[("_identity.toml", IDENTITY), ("_org.toml", &org), ("orders.toml", &text)],
    );
    refuses("duplicate-id", &orders("", &format!("{READ}{}", marked.replace("/x", "/y"))));
    refuses("duplicate-rule", &orders("", &format!("{READ}{}", READ.replace("\"read\"", "¦\"again\""))));
    let inline = |id: &str, group: &str| {
        format!("[[deny]]\nid = {id}\nwho = {{ groups = [{group}] }}\nmethods = [\"GET\"]\npaths = [\"/x\"]\n")
    };
    refuses_org("duplicate-rule", &format!("{}{}", inline("\"one\"", "\"a\""), inline("¦\"two\"", "\"a\"")));
    load(&[("_org.toml", &format!("{}{}", inline("\"one\"", "\"a\""), inline("\"two\"", "\"b\"")))]);
    let limit = "[[limit]]\nid = ¦\"read\"\nkey = [\"user\"]\nrate = \"1/s\"\n";
    refuses("duplicate-id", &orders("", &format!("{READ}{limit}")));
}

#[test]
fn a_limit_has_a_rate_and_a_key_that_every_path_binds() {
    let limit = |lines: &str| orders("", &format!("[[limit]]\nid = \"l\"\n{lines}"));
    for (code, lines) in [
        ("bad-rate", "key = [\"user\"]\nrate = ¦\"10\""),
        ("bad-rate", "key = [\"user\"]\nrate = ¦\"0/s\""),
        ("wrong-type", "key = [\"user\"]\nrate = ¦10"),
        ("out-of-range", "key = [\"user\"]\nrate = \"1/s\"\nburst = ¦0"),
        ("out-of-range", "key = [\"user\"]\nrate = \"1/s\"\nburst = ¦-1"),
        ("out-of-range", "key = [\"user\"]\nrate = \"1/s\"\nstatus = ¦200"),
        ("empty-list", "key = ¦[]\nrate = \"1/s\""),
        ("bad-value", "key = [¦\"usr\"]\nrate = \"1/s\""),
        ("unbound-parameter", "key = [¦\"path.id\"]\nrate = \"1/s\""),
        ("unbound-parameter", "key = [¦\"path.id\"]\nrate = \"1/s\"\nmatch = { paths = [\"/{id}\", \"/x/{other}\"] }"),
        ("unknown-key", "key = [\"user\"]\nrate = \"1/s\"\n¦paths = [\"/x\"]"),
        ("unknown-subject", "key = [\"user\"]\nrate = \"1/s\"\nmatch = { who = [¦\"nobody\"] }"),
    ] {
        refuses(code, &limit(lines));
    }
    refuses("missing-key", &orders("", "¦[[limit]]\nid = \"l\"\nkey = [\"user\"]\n"));
    refuses("out-of-range", &limit("key = [\"user\"]\nrate = \"1/d\"\nburst = ¦401"));
    load(&[("_identity.toml", IDENTITY), ("orders.toml", &limit("key = [\"user\"]\nrate = \"1/d\"\nburst = 400"))]);
}

#[test]
fn an_issuer_is_whole_and_asymmetric() {
    let issuer = |line: &str, instead: &str| {
        let whole =
            "[issuers.corp]\nurl = \"https://l\"\naudiences = [\"p\"]\nalgs = [\"ES256\"]\nperson = \"linked\"\n";
        if instead.is_empty() {
            format!("{whole}{line}\n")
        } else {
            let kept: Vec<&str> = whole.lines().filter(|kept| !kept.starts_with(instead)).collect();
            format!("{}\n{line}\n", kept.join("\n"))
        }
    };
    for (code, line, instead) in [
        ("bad-url", "url = ¦\"http://l\"", "url"),
        ("bad-url", "url = ¦\"https://l?x\"", "url"),
        ("bad-url", "url = ¦\"https://l:99999\"", "url"),
        ("empty-list", "audiences = ¦[]", "audiences"),
        ("empty-list", "algs = ¦[]", "algs"),
        ("symmetric-algorithm", "algs = [¦\"HS256\"]", "algs"),
        ("symmetric-algorithm", "algs = [\"ES256\", ¦\"none\"]", "algs"),
        ("bad-value", "algs = [¦\"ES265\"]", "algs"),
        ("bad-value", "person = ¦\"linkd\"", "person"),
        ("missing-key", "person = ¦{}", "person"),
        ("wrong-type", "person = ¦1", "person"),
        ("out-of-range", "clock_skew = ¦\"61s\"", ""),
        ("bad-duration", "clock_skew = ¦\"0\"", ""),
        ("out-of-range", "jwks_max_age = ¦\"1s\"", ""),
        ("issuer-groups", "groups_claim = ¦\"groups\"", ""),
        ("issuer-groups", "groups = ¦[\"a\"]", ""),
        ("issuer-groups", "groups_claim = \"g\"\ngroups = ¦[\"a\", \"*\"]", ""),
        ("issuer-groups", "groups_claim = \"g\"\ngroups = ¦[\"a\"]\ngroups_prefix = \"b\"", ""),
        ("bad-value", "groups_claim = \"g\"\ngroups_prefix = ¦\"\"", ""),
        ("bad-value", "groups_absent = ¦\"none\"", ""),
        ("bad-value", "claims = { x = ¦\"text\" }", ""),
        ("wrong-type", "claims = { x = ¦1 }", ""),
        ("unknown-authority", "ca = ¦\"internal\"", ""),
        ("not-supported", "¦introspect = true", ""),
        ("not-supported", "¦groups_max_age = \"1h\"", ""),
        ("unknown-key", "¦audience = \"p\"", ""),
    ] {
        refuses_identity(code, &issuer(line, instead));
    }
    load(&[("_identity.toml", &issuer("clock_skew = \"0s\"", ""))]);
    for missing in ["url", "audiences", "algs", "person"] {
        refuses_identity("missing-key", &format!("¦{}", issuer("", missing)));
    }
    let named = |text: String, name: &str| text.replace("corp", name).replace("https://l", &format!("https://{name}"));
    let unlimited =
        |name: &str, mark: &str| named(issuer(&format!("groups_claim = \"g\"\ngroups = {mark}[\"*\"]"), ""), name);
    refuses_identity("issuer-groups", &format!("{}{}", unlimited("a", ""), unlimited("b", "¦")));
    let typed = |name: &str, claims: &str| named(issuer(&format!("claims = {claims}"), ""), name);
    let two = format!("{}{}", typed("a", "{ x = \"string\" }"), typed("b", "¦{ x = \"strings\" }"));
    refuses_identity("claim-type", &two);
    let same = issuer("", "").replace("corp", "later").replace("\"https", "¦\"https");
    refuses_identity("duplicate-issuer", &format!("{}{same}", issuer("", "")));
}

#[test]
fn a_subject_asks_for_something_that_can_be() {
    let subject = |line: &str| format!("{IDENTITY}\n[subjects.x]\n{line}\n");
    for (code, line) in [
        ("bad-value", "users = [¦\"Alice\"]"),
        ("bad-value", "users = [¦'CORP\\alice']"),
        ("bad-value", "users = [¦\"alice \"]"),
        ("bad-value", "users = [¦\"\"]"),
        ("bad-value", &format!("users = [¦\"{}\"]", "a".repeat(129))),
        ("bad-value", "emails = [¦\"alice\"]"),
        ("bad-value", "emails = [¦\"a@xn--crp-emd.example\"]"),
        ("bad-value", "emails = [¦'corp\\a@corp.example']"),
        ("bad-value", "emails = [¦'\"a\"@corp.example']"),
        ("bad-value", "emails = [¦\"a@corp.example@evil\"]"),
        ("bad-value", "emails = [¦\"alice@CORP.example\"]"),
        ("bad-value", "groups = [¦\"\"]"),
        ("empty-list", "groups = ¦[]"),
        ("unknown-claim", "claims = { ¦departmnt = [\"x\"] }"),
        ("claim-type", "claims = { ¦department = [1] }"),
        ("claim-type", "claims = { ¦level = [\"1\"] }"),
        ("wrong-type", "claims = { level = ¦[1, true] }"),
        ("bad-value", "tunnel = { binding = [¦\"key\"] }"),
        ("bad-value", "tunnel = { method = [¦\"chap\"] }"),
        ("missing-key", "tunnel = ¦{}"),
        ("contradiction", "users = [\"a\"]\nissuers = ¦[\"corp\"]"),
        ("unknown-issuer", "groups = [\"a\"]\nissuers = [\"corp\", ¦\"crop\"]"),
        ("empty-list", "groups = [\"a\"]\nissuers = ¦[]"),
        ("contradiction", "issuers = ¦[\"corp\"]"),
        ("unknown-key", "¦group = [\"a\"]"),
    ] {
        refuses_identity(code, &subject(line));
    }
    refuses_identity("missing-key", "¦[subjects.x]\n");
    refuses_identity("bad-name", "[subjects.¦anonymous]\ngroups = [\"a\"]\n");
    refuses_identity("bad-name", "[subjects.¦X]\ngroups = [\"a\"]\n");
}

#[test]
fn where_issuers_are_many_somebody_says_whose_tokens_count() {
    let rule = |who: &str| rule("allow", "read", who, "\"GET\"", "\"/x\"");
    for facts in ["emails = [\"a@corp.example\"]", "claims = { department = [\"x\"] }"] {
        let subject = |more: &str| format!("{IDENTITY}\n[subjects.open]\n{facts}\n{more}\n");
        let orders = |top: &str, who: &str| orders(top, &rule(who));
        let files = [("_identity.toml", &*subject("")), ("orders.toml", &*orders("", "\"dev\", ¦\"open\""))];
        complains(Severity::Error, "any-issuer", &files);
        let limit = "[[limit]]\nid = \"l\"\nkey = [\"user\"]\nrate = \"1/s\"\nmatch = { who = ¦\"open\" }\n";
        let limited = format!("{}{limit}", orders("", "\"dev\""));
        complains(Severity::Error, "any-issuer", &[("_identity.toml", &subject("")), ("orders.toml", &limited)]);
        let org = format!("[[deny]]\nid = \"no\"\nmethods = [\"GET\"]\npaths = [\"/\"]\nwho = {{ {} }}\n", {
            let (key, values) = facts.split_once(" = ").unwrap();
            format!("{key} = ¦{values}")
        });
        complains(Severity::Error, "any-issuer", &[("_identity.toml", IDENTITY), ("_org.toml", &org)]);

        for top in ["login = [\"corp\"]", "bearer = \"pass\""] {
            load(&[("_identity.toml", &subject("")), ("orders.toml", &orders(top, "\"open\""))]);
        }
        let named = subject("issuers = [\"corp\"]");
        load(&[("_identity.toml", &named), ("orders.toml", &orders("", "\"open\""))]);
        let corp = IDENTITY.split("[issuers.other]").next().unwrap();
        let one = format!("{corp}[subjects]\ndev = {{ groups = [\"dev\"] }}\nopen = {{ {facts} }}\n");
        load(&[("_identity.toml", &one), ("orders.toml", &orders("", "\"open\""))]);
    }
}

#[test]
fn what_any_issuer_could_state_is_not_asserted() {
    for attribute in ["user.email", "client.id", "claims.department"] {
        let text =
            |top: &str, mark: &str| orders(top, &format!("[assert.headers]\nX-A = {mark}\"{attribute}\"\n{READ}"));
        refuses("any-issuer", &text("", "¦"));
        for top in ["login = [\"corp\"]", "bearer = \"pass\""] {
            load(&[("_identity.toml", IDENTITY), ("orders.toml", &text(top, ""))]);
        }
        let corp = IDENTITY.split("[issuers.other]").next().unwrap();
        let one = format!("{corp}[subjects]\ndev = {{ groups = [\"dev\"] }}\n");
        load(&[("_identity.toml", &one), ("orders.toml", &text("", ""))]);
    }
}

#[test]
fn asserted_headers_are_not_the_messages_own() {
    for (code, headers) in [
        ("bad-header", "{ ¦\"Content-Length\" = \"user.id\" }"),
        ("bad-header", "{ ¦Host = \"user.id\" }"),
        ("bad-header", "{ ¦X_User = \"user.id\" }"),
        ("bad-header", "{ ¦\"X User\" = \"user.id\" }"),
        ("bad-value", "{ X-User = ¦\"user.name\" }"),
        ("not-supported", "{ X-User = ¦\"auth.age\" }"),
        ("unknown-claim", "{ X-User = ¦\"claims.nothing\" }"),
        ("wrong-type", "{ X-User = ¦1 }"),
        ("duplicate-item", "{ X-User = \"user.id\", ¦x-user = \"user.id\" }"),
    ] {
        refuses(code, &orders("", &format!("[assert]\nheaders = {headers}\n{READ}")));
    }
}

#[test]
fn a_guardrail_names_itself_and_its_author() {
    let org = |rail: &str| format!("owner = \"security\"\n[guardrails]\n{rail}\n");
    let broken = |rail: &str, text: &str| {
        complains(
            Severity::Error,
            "guardrail",
            &[("_identity.toml", IDENTITY), ("_org.toml", &org(rail)), ("orders.toml", text)],
        );
    };
    broken("anonymous = \"forbid\"", &orders("", &READ.replace("\"dev\"", "[\"dev\", ¦\"anonymous\"]")));
    broken("every_api_needs_limit = true", &orders("", READ).replacen("\"orders\"", "¦\"orders\"", 1));
    broken("wildcard_hosts = \"forbid\"", &api("orders", "hosts = [¦\"*.x.example\"]", READ));
    broken(
        "upstream_plaintext = \"forbid\"",
        &orders("", READ).replace("\"https://orders.internal\"", "¦\"http://gw\""),
    );
    let files = [
        ("_identity.toml", IDENTITY),
        ("_org.toml", &org("every_api_needs_limit = true")),
        ("orders.toml", &orders("", READ)),
    ];
    let error = compile(&sources(&files), &environment(), None).unwrap_err();
    assert!(error[0].message.contains("every_api_needs_limit"), "{}", printed(&error));
    assert_eq!(error[0].hint.as_deref(), Some("the guardrail is set by security"));
    let files = [
        ("_identity.toml", IDENTITY),
        ("_org.toml", "[guardrails]\ntests = \"required\"\n"),
        ("orders.toml", &orders("", READ)),
    ];
    let error = compile(&sources(&files), &environment(), None).unwrap_err();
    let hint = "write a [[test]] in the same file: guardrail `tests`, set by the security team";
    assert_eq!(error[0].hint.as_deref(), Some(hint), "{}", printed(&error));
    refuses_org("bad-value", "[guardrails]\nanonymous = ¦\"forbidden\"\n");
    refuses_org("unknown-key", "[guardrails]\n¦anonymus = \"forbid\"\n");
    refuses_org("wrong-type", "[defaults]\nhide_routes = ¦1\n");
}

const TEST: &str = "\n[[test]]\nname = \"t\"\nas = { groups = [\"dev\"] }\nreq = \"GET /x\"\nexpect = \"allow\"\n";

#[test]
fn rules_without_tests_are_warned_of_or_refused() {
    let warns = |code: &str, text: &str| {
        complains(Severity::Warning, code, &[("_identity.toml", IDENTITY), ("orders.toml", text)]);
    };
    let marked = READ.replace("\"read\"", "¦\"read\"");
    warns("missing-test", &orders("", &marked));
    warns("missing-test", &orders("", &format!("{}{}", marked.replace("GET", "POST"), TEST.replace("GET", "POST"))));
    let refused = "\n[[test]]\nname = \"n\"\nas = { groups = [\"x\"] }\nreq = \"POST /x\"\nexpect = \"deny\"\n";
    let whole = format!("{}{}{refused}", READ.replace("GET", "POST"), TEST.replace("GET", "POST"));
    assert_eq!(
        complaints(&[("_identity.toml", IDENTITY), ("orders.toml", &orders("", &whole))], Severity::Warning),
        []
    );
    let org = "[guardrails]\ntests = \"required\"\n";
    complains(
        Severity::Error,
        "missing-test",
        &[("_identity.toml", IDENTITY), ("_org.toml", org), ("orders.toml", &orders("", &marked))],
    );
}

#[test]
fn odd_but_legal_things_are_warned_of() {
    let warns = |code: &str, files: &[(&str, &str)]| {
        let mut all = vec![("_identity.toml", IDENTITY)];
        all.extend(files);
        complains(Severity::Warning, code, &all);
    };
    let tested = format!("{READ}{TEST}");
    let deny = "\n[[deny]]\nid = ¦\"no\"\nwho = \"dev\"\nmethods = [\"GET\"]\npaths = [\"/y\"]\n";
    warns("deny-without-effect", &[("orders.toml", &orders("", &format!("{tested}{deny}")))]);
    let rest = tested.replace("[\"/x\"]", "[\"/x/**\"]").replace("GET /x", "GET /x/1").replace("\"read\"", "¦\"read\"");
    warns("collection-not-covered", &[("orders.toml", &orders("", &rest))]);
    let wild = api("wild", "hosts = [\"*.api.corp.example\"]", &tested);
    let exact = api("orders", "hosts = [¦\"orders.api.corp.example\"]", &tested);
    warns("exact-beats-wildcard", &[("wild.toml", &wild), ("orders.toml", &exact)]);
}

#[test]
fn a_host_that_would_move_is_warned_of() {
    let text = orders("", &format!("{READ}{TEST}"));
    let before = load(&[("_identity.toml", IDENTITY), ("orders.toml", &text)]);
    let old = before.hosts()[0].address;
    let pin = if old == "198.18.7.200".parse::<Ipv4Addr>().unwrap() { "198.18.7.201" } else { "198.18.7.200" };
    let text = orders(&format!("address = \"{pin}\""), &format!("{READ}{TEST}"));
    let files = sources(&[("_identity.toml", IDENTITY), ("orders.toml", &text)]);
    let after = compile(&files, &environment(), Some(&before)).unwrap();
    assert_eq!(after.bundle.hosts()[0].address.to_string(), pin);
    let codes: Vec<&str> = after.warnings.iter().map(|complaint| complaint.code).collect();
    assert_eq!(codes, ["address-moved"]);
    let message = format!("`orders.api.corp.example` moves from {old} to {pin}");
    assert_eq!(after.warnings[0].message, message);
}

/// Any text may be a group of an issuer or of the user file, so it is the files' own tests that know the names.
#[test]
fn nt_51_a_misspelt_group_fails_the_tests_of_the_file_that_needs_it() {
    let identity = IDENTITY.replacen("{ groups = [\"dev\"] }", "{ groups = [\"dve\"] }", 1);
    assert_ne!(identity, IDENTITY);
    let test = "\n¦[[test]]\nname = \"t\"\nas = { groups = [\"dev\"] }\nreq = \"GET /x\"\nexpect = \"allow\"\n";
    let api = orders("", &format!("{READ}{test}"));
    complains(Severity::Error, "test-failed", &[("_identity.toml", &identity), ("orders.toml", &api)]);
    let (api, _) = unmarked(&api);
    load(&[("_identity.toml", IDENTITY), ("orders.toml", &api)]);
}

#[test]
fn a_failing_test_refuses_the_bundle_and_says_what_came() {
    let test =
        |lines: &str| orders("", &format!("{READ}\n¦[[test]]\nname = \"t\"\nas = {{ groups = [\"dev\"] }}\n{lines}\n"));
    for lines in [
        "req = \"GET /x\"\nexpect = \"deny\"",
        "req = \"GET /y\"\nexpect = \"allow\"",
        "req = \"GET /y\"\nexpect = \"deny\"\nreason = \"denied-by\"",
        "req = \"GET /y\"\nexpect = \"deny\"\nrule = \"read\"",
        "req = \"GET /x\"\nexpect = \"limited\"",
        "req = \"GET /x/%2e%2e/y\"\nexpect = \"deny\"",
        "req = \"GET /x\"\nexpect = \"bad-request\"",
        "req = \"GET https://nowhere.example/x\"\nexpect = \"allow\"",
    ] {
        refuses("test-failed", &test(lines));
    }
    let limits = "[[limit]]\nid = \"a-short\"\nkey = [\"user\"]\nrate = \"1/s\"\nburst = 3\n\
                  [[limit]]\nid = \"b-long\"\nkey = [\"user\"]\nrate = \"1/m\"\nburst = 3\n\
                  [[limit]]\nid = \"c-wide\"\nkey = [\"user\"]\nrate = \"1/h\"\nburst = 4\n";
    let repeated = |times: u64, expected: &str| {
        let test =
            format!("{READ}{limits}{TEST}").replace("expect = \"allow\"", &format!("repeat = {times}\n{expected}"));
        load(&[("_identity.toml", IDENTITY), ("orders.toml", &orders("", &test))]);
    };
    repeated(3, "expect = \"allow\"");
    for times in [4, 10_000] {
        repeated(times, "expect = \"limited\"\nrule = \"b-long\"");
    }
    for (code, lines) in [
        ("bad-value", "req = ¦\"/x\"\nexpect = \"deny\""),
        ("bad-value", "req = \"GET /x\"\nexpect = ¦\"refuse\""),
        ("bad-value", "req = \"GET /x\"\nexpect = \"deny\"\nreason = ¦\"no-rules\""),
        ("unknown-rule", "req = \"GET /x\"\nexpect = \"allow\"\nrule = ¦\"reed\""),
        ("out-of-range", "req = \"GET /x\"\nexpect = \"allow\"\nrepeat = ¦0"),
    ] {
        let text = format!("{READ}\n[[test]]\nname = \"t\"\nas = {{ groups = [\"dev\"] }}\n{lines}\n");
        refuses(code, &orders("", &text));
    }
    let (text, _) = unmarked(&test("req = \"GET /y\"\nexpect = \"allow\""));
    let error = compile(&sources(&[("_identity.toml", IDENTITY), ("orders.toml", &text)]), &environment(), None);
    let errors = error.unwrap_err();
    let failed = errors.iter().find(|complaint| complaint.severity == Severity::Error).unwrap();
    assert_eq!(failed.message, "the test \"t\" fails: expected allow, got deny (no-rule)");
}

#[test]
fn nt_51_files_are_bounded() {
    let big = format!("#{}", "x".repeat(1 << 20));
    complains(Severity::Error, "file-too-large", &[("orders.toml", &format!("¦{big}"))]);
    let rules = "[[allow]]\n".repeat(1001);
    let text = format!("{}\n{rules}", orders("", ""));
    let got = complaints(&[("orders.toml", &text)], Severity::Error);
    assert_eq!(got.iter().map(|(_, _, code)| *code).collect::<Vec<_>>(), ["too-many-rules"]);
    let many: Vec<Source> = (0..501).map(|at| Source { file: format!("a{at}.toml").into(), text: "".into() }).collect();
    assert_eq!(compile(&many, &environment(), None).unwrap_err()[0].code, "too-many-files");
    for name in ["orders.yaml", "Orders.toml", "_other.toml", ".toml", "a b.toml"] {
        complains(Severity::Error, "file-name", &[(name, "¦")]);
    }
    complains(Severity::Error, "file-name", &[("a/_org.toml", ""), ("b/_org.toml", "¦")]);
}

#[test]
fn nt_51_what_is_compared_in_pairs_is_bounded() {
    let paths = |from: u32, to: u32| (from..to).map(|at| format!("\"/{at}\"")).collect::<Vec<_>>().join(",");
    let rules = |kind: &str, many: u32| {
        let who = if kind == "deny" { "\"admin\"" } else { "\"dev\"" };
        let rule = |at: u32| rule(kind, &format!("{kind}{at}"), who, "\"GET\"", &paths(at * 900, at * 900 + 900));
        (0..many).map(rule).collect::<String>()
    };
    let text = orders("", &format!("{}{}", rules("allow", 3), rules("deny", 3)));
    let got = complaints(&[("_identity.toml", IDENTITY), ("orders.toml", &text)], Severity::Error);
    assert_eq!(got.iter().map(|(_, _, code)| *code).collect::<Vec<_>>(), ["too-many-paths"]);
    let text = orders("", &format!("{}{}", rules("allow", 3), rules("deny", 2)));
    load(&[("_identity.toml", IDENTITY), ("orders.toml", &text)]);
}

#[test]
fn nt_51_a_flood_of_unknown_names_is_refused_at_once() {
    let subjects: String = (0..100).map(|at| format!("subject-{at:04} = {{ groups = [\"g\"] }}\n")).collect();
    let names = (0..500).map(|at| format!("\"subjecz-{at:04}\"")).collect::<Vec<_>>().join(",");
    let rules: String = (0..40).map(|at| rule("allow", &format!("r{at}"), &names, "\"GET\"", "\"/\"")).collect();
    let start = crate::clock::now();
    let files = [("_identity.toml", &*format!("[subjects]\n{subjects}")), ("orders.toml", &*orders("", &rules))];
    assert_eq!(complaints(&files, Severity::Error).len(), 500);
    assert!(start.elapsed() < std::time::Duration::from_secs(20), "{:?}", start.elapsed());
}

#[test]
fn nt_51_a_long_name_is_not_repeated_for_each_claim_below_it() {
    let long = "k".repeat(500_000);
    let leaves: String = (0..40_000).map(|at| format!("a{at} = 1\n")).collect();
    let got = complaints(&[("_identity.toml", &format!("[subjects.x.claims.{long}]\n{leaves}"))], Severity::Error);
    assert_eq!(got.iter().filter(|(_, _, code)| *code == "bad-value").count(), 1);
}

#[test]
fn nt_51_deep_nesting_and_long_garbage_are_only_errors() {
    let deep = [
        format!("x = {}{}", "[".repeat(100_000), "]".repeat(100_000)),
        format!("x = {}1{}", "{a=".repeat(100_000), "}".repeat(100_000)),
        format!("{}x = 1", "a.".repeat(100_000)),
        format!("[{}x]", "a.".repeat(100_000)),
        format!("[subjects.x.{}x]\n{}y = 1", "a.".repeat(70), "b.".repeat(70)),
        "\n".repeat(1_000_000),
        "a = 1\n".repeat(150_000),
        (0..80_000).map(|at| format!("k{at} = 1\n")).collect(),
        "\"\"\"".repeat(100_000),
    ];
    for text in &deep {
        for file in ["orders.toml", "_identity.toml", "_org.toml"] {
            let got = complaints(&[(file, text)], Severity::Error);
            assert!(got.len() <= 500, "{}", got.len());
            assert!(!got.is_empty() || text.trim().is_empty(), "{file} {}", &text[..40]);
        }
    }
}

#[test]
fn a_half_written_file_is_refused_unless_its_piece_is_a_whole_policy() {
    let whole = orders("", &format!("{READ}{TEST}"));
    let without_test = orders("", READ);
    // Where a piece may be a policy that somebody could have written: after a whole table, or what belongs to one.
    let mut loaded = Vec::new();
    for end in (0..whole.len()).filter(|end| whole.is_char_boundary(*end)) {
        let piece = &whole[..end];
        let files = sources(&[("_identity.toml", IDENTITY), ("orders.toml", piece)]);
        let Ok(compiled) = compile(&files, &environment(), None) else { continue };
        let (rules, tests) = (compiled.bundle.apis()[0].allows.len(), compiled.bundle.tests().len());
        assert_eq!(rules, usize::from(end >= without_test.trim_end().len()), "{piece}");
        loaded.push((end, rules, tests));
    }
    assert!(loaded.len() < 12, "{loaded:?} of {}", whole.len());
}

#[test]
fn all_complaints_come_at_once_and_in_order() {
    let text = orders("banana = 1", &format!("timeout = \"15\"\n{}", READ.replace("dev", "devs")));
    let files = sources(&[("_identity.toml", IDENTITY), ("orders.toml", &text)]);
    let error = compile(&files, &environment(), None).unwrap_err();
    insta::assert_snapshot!(printed(&error), @r#"
    orders.toml:5:1: unknown-key: `banana` is not a key of an API file
      known here: address, allow, api, assert, base, bearer, deny, hide_routes, hosts, http, limit, login, mode, owner, policy_version, test, upstream
    orders.toml:8:11: bad-duration: `15` is not a duration
      write an integer with its unit: "500ms", "15s", "10m", "12h", "7d"
    orders.toml:12:7: unknown-subject: there is no subject `devs`
      did you mean `dev`?
    "#);
}
