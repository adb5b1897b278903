//! What comes of requests.

use super::*;
use crate::identity::StatedGroups;
use crate::request::{Raw, Target};

const HOST: &str = "hosts = [\"orders.api.corp.example\"]";

fn orders(top: &str, tables: &str) -> Arc<Bundle> {
    load(&[("_identity.toml", IDENTITY), ("orders.toml", &api("orders", &format!("{HOST}\n{top}"), tables))])
}

fn read_rule() -> String {
    rule("allow", "read", "\"dev\"", "\"GET\"", "\"/v1/orders\", \"/v1/orders/**\"")
}

#[track_caller]
fn answers(bundle: &Bundle, table: &[(&str, &str, &str, &str)]) {
    for (who, method, url, expected) in table {
        assert_eq!(answer(bundle, who, method, url), *expected, "{method} {url} by {who}");
    }
}

#[test]
fn the_shipped_policies_load_and_their_tests_pass() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies");
    let mut files: Vec<Source> = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        files.push(Source { file: path.to_str().unwrap().into(), text: text.into() });
    }
    let compiled = compile(&files, &environment(), None).unwrap_or_else(|error| panic!("{}", printed(&error)));
    assert_eq!(printed(&compiled.warnings), "");
    assert!(compiled.bundle.tests().len() >= 15);
    for test in compiled.bundle.tests() {
        assert_eq!(run(&compiled.bundle, test, read).failure, None, "{}", test.name);
    }
}

#[test]
fn nothing_is_allowed_without_a_rule() {
    let bundle = orders("", &read_rule());
    answers(
        &bundle,
        &[
            ("groups=dev", "GET", "orders.api.corp.example/v1/orders/42", "allow orders/read"),
            ("groups=dev", "GET", "orders.api.corp.example/v1/orders", "allow orders/read"),
            ("groups=dev", "GET", "orders.api.corp.example/v1", "403 no-rule"),
            ("groups=dev", "POST", "orders.api.corp.example/v1/orders", "403 no-rule"),
            ("groups=admin", "GET", "orders.api.corp.example/v1/orders", "404 no-such-api"),
            ("groups=dev", "GET", "nowhere.api.corp.example/v1/orders", "404 no-such-api"),
            ("", "GET", "orders.api.corp.example/v1/orders", "401 login-required"),
            ("", "GET", "orders.api.corp.example/v2", "403 no-rule"),
        ],
    );
    let empty = load(&[]);
    answers(&empty, &[("user=alice", "GET", "orders.api.corp.example/", "404 no-such-api")]);
    assert_eq!(
        visible(&empty, &Persona::parse("user=alice").unwrap().play(&empty).unwrap().facts(&get("/")).evidence()),
        []
    );
}

fn get(path: &str) -> CanonicalRequest {
    CanonicalRequest::for_test("GET", "orders.api.corp.example", path, None)
}

#[test]
fn nt_05_the_query_decides_nothing() {
    let bundle = orders("", &read_rule());
    let played = Persona::parse("groups=dev").unwrap().play(&bundle).unwrap();
    for (path, query, expected) in
        [("/v1/orders", "x=/v1/public", true), ("/admin", "/v1/orders/1", false), ("/admin", "x=/v1/orders", false)]
    {
        let judged = [None, Some(query)].map(|query| {
            let request = CanonicalRequest::for_test("GET", "orders.api.corp.example", path, query);
            match judge(&bundle, &played.facts(&request)) {
                Judgement::Allow(allowance) => (true, Some(allowance.rule().clone()), None),
                Judgement::Deny(denial) => (false, denial.rule().cloned(), Some(denial.reason())),
            }
        });
        assert_eq!(judged[0], judged[1], "{path} {query}");
        assert_eq!(judged[1].0, expected, "{path} {query}");
    }
}

#[test]
fn nt_07_nt_10_paths_are_compared_by_whole_segments_and_by_case() {
    let bundle = orders("", &read_rule());
    for path in
        ["/V1/Orders", "/v1/ORDERS/1", "/v1/orders-internal", "/v1/ordersX", "/v1/orders-internal/1", "/v1/orders/"]
    {
        assert_eq!(
            answer(&bundle, "groups=dev", "GET", &format!("orders.api.corp.example{path}")),
            "403 no-rule",
            "{path}"
        );
    }
}

#[test]
fn nt_25_unknown_methods_reach_no_rule() {
    let extra = "[http]\nmethods_extra = [\"REPORT\"]\n";
    let bundle = orders("", &format!("{extra}{}", rule("allow", "all", "\"dev\"", "\"GET\", \"REPORT\"", "\"/**\"")));
    for method in ["get", "Get", "GET\t", "PROPFIND", "TRACE", "CONNECT", "PRI", "", "report", "GETS", "GE"] {
        assert_eq!(answer(&bundle, "groups=dev", method, "orders.api.corp.example/x"), "403 no-rule", "{method:?}");
    }
    assert_eq!(answer(&bundle, "groups=dev", "REPORT", "orders.api.corp.example/x"), "allow orders/all");
}

#[test]
fn nt_26_get_implies_neither_head_nor_options() {
    let bundle = orders("", &read_rule());
    for method in ["HEAD", "OPTIONS"] {
        assert_eq!(answer(&bundle, "groups=dev", method, "orders.api.corp.example/v1/orders"), "403 no-rule");
    }
}

/// A request as the wire has it.
fn on_the_wire(target: &str) -> CanonicalRequest {
    let raw = Raw { method: "GET", target: Target::Http1 { target: target.as_bytes() }, port: 443 };
    CanonicalRequest::read(&raw, std::iter::once(("host", &b"orders.api.corp.example"[..]))).unwrap()
}

#[test]
fn no_spelling_of_a_path_leaves_its_base_or_finds_another_bucket() {
    let limit = "\n[[limit]]\nid = \"item\"\nkey = [\"path.id\"]\nrate = \"1/s\"\nmatch = { paths = [\"/{id}\"] }\n";
    for base in ["/svc:ops", "/svc%3Aops"] {
        let all = api("all", HOST, &rule("allow", "all", "\"dev\"", "\"GET\"", "\"/**\""));
        let tables = format!("{}{limit}", rule("allow", "ops", "\"dev\"", "\"GET\"", "\"/*\""));
        let ops = api("ops", &format!("{HOST}\nbase = \"{base}\""), &tables);
        let bundle = load(&[("_identity.toml", IDENTITY), ("all.toml", &all), ("ops.toml", &ops)]);
        let played = Persona::parse("groups=dev").unwrap().play(&bundle).unwrap();
        for target in ["/svc:ops/a:b", "/svc%3aops/a%3Ab", "/%73vc%3Aops/%61:b"] {
            let request = on_the_wire(target);
            match judge(&bundle, &played.facts(&request)) {
                Judgement::Allow(allowance) => {
                    assert_eq!(allowance.rule().as_str(), "ops/ops", "{target}");
                    assert_eq!(&*allowance.charges()[0].key, "path.id=a:b", "{target}");
                }
                Judgement::Deny(denial) => panic!("{target}: {denial:?}"),
            }
        }
    }
}

#[test]
fn a_trailing_slash_passes_no_denial() {
    let denies = rule("deny", "admin", "\"dev\"", "\"GET\"", "\"/v1/admin\", \"/v1/logs/**\"");
    let org = rule("deny", "metrics", "\"dev\"", "\"GET\"", "\"/metrics\", \"/debug/**\"");
    let file = api("orders", HOST, &format!("{}{denies}", rule("allow", "all", "\"dev\"", "\"GET\"", "\"/**\"")));
    let bundle = load(&[("_identity.toml", IDENTITY), ("_org.toml", &org), ("orders.toml", &file)]);
    for path in ["v1/admin", "v1/admin/", "v1/logs/1/", "metrics", "metrics/", "debug/1"] {
        assert_eq!(answer(&bundle, "groups=dev", "GET", &format!("orders.api.corp.example/{path}")), "403 denied-by");
    }
    for path in ["v1/admin/x", "v1/logs", "v1/logsx/", "metrics/x", "debug"] {
        let got = answer(&bundle, "groups=dev", "GET", &format!("orders.api.corp.example/{path}"));
        assert_eq!(got, "allow orders/all", "{path}");
    }
}

#[test]
fn a_trailing_slash_passes_no_limit() {
    let limit = "\n[[limit]]\nid = \"item\"\nkey = [\"path.id\"]\nrate = \"1/s\"\nmatch = { paths = [\"/v1/{id}\"] }\n";
    let bundle = orders("", &format!("{}{limit}", rule("allow", "all", "\"dev\"", "\"GET\"", "\"/**\"")));
    for (path, keys) in [("v1/7", vec!["path.id=7"]), ("v1/7/", vec!["path.id=7"]), ("v1/7/8", vec![]), ("v1/", vec![])]
    {
        assert_eq!(charged(&bundle, path), keys, "{path}");
    }
}

#[test]
fn one_resource_has_one_bucket_in_whatever_case_its_id_is_written() {
    let limit = "\n[[limit]]\nid = \"item\"\nkey = [\"path.id\"]\nrate = \"1/s\"\n\
                 match = { paths = [\"/u/{id:uuid}\", \"/h/{id:hex}\", \"/n/{id}\"] }\n";
    let bundle = orders("", &format!("{}{limit}", rule("allow", "all", "\"dev\"", "\"GET\"", "\"/**\"")));
    let uuid = "0192a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b";
    for (path, key) in [
        (format!("u/{}", uuid.to_uppercase()), format!("path.id={uuid}")),
        ("h/DEADbeef".to_owned(), "path.id=deadbeef".to_owned()),
        ("n/Name".to_owned(), "path.id=Name".to_owned()),
    ] {
        assert_eq!(charged(&bundle, &path), [key], "{path}");
    }
}

/// The keys of the buckets that a developer's request takes from.
fn charged(bundle: &Bundle, path: &str) -> Vec<String> {
    match judged(bundle, "user=alice,groups=dev", "GET", &format!("orders.api.corp.example/{path}")) {
        Judgement::Allow(allowance) => allowance.charges().iter().map(|charge| charge.key.to_string()).collect(),
        Judgement::Deny(denial) => panic!("{denial:?}"),
    }
}

#[test]
fn a_deny_wins_and_says_why() {
    let tables = format!(
        "{}{}why = \"Closed.\"\n",
        read_rule(),
        rule("deny", "frozen", "\"anyone-authenticated\"", "\"GET\"", "\"/v1/orders/9\"")
    );
    let org = format!("owner = \"security\"\n{}", rule("deny", "leavers", "\"leavers\"", "\"GET\"", "\"/**\", \"/\""));
    let file = api("orders", HOST, &tables);
    let bundle = load(&[("_identity.toml", IDENTITY), ("_org.toml", &org), ("orders.toml", &file)]);
    let denial = |who: &str, path: &str| match judged(&bundle, who, "GET", &format!("orders.api.corp.example{path}")) {
        Judgement::Deny(denial) => denial,
        Judgement::Allow(allowance) => panic!("{allowance:?}"),
    };
    let own = denial("groups=dev", "/v1/orders/9");
    assert_eq!(
        (own.reason(), own.status(), own.why(), own.owner()),
        (Reason::DeniedBy, 403, Some("Closed."), Some("orders-team"))
    );
    assert_eq!(own.rule().map(RuleId::as_str), Some("orders/frozen"));
    let leaver = denial("groups=dev+leavers", "/v1/orders/1");
    assert_eq!((leaver.rule().map(RuleId::as_str), leaver.owner()), (Some("_org/leavers"), Some("security")));
    assert!(!leaver.hidden());
}

#[test]
fn nt_53_what_is_unknown_never_helps() {
    let allow = rule("allow", "sales", "\"sales\"", "\"GET\"", "\"/**\"");
    let bundle = orders("", &allow);
    let url = "orders.api.corp.example/x";
    answers(
        &bundle,
        &[
            ("user=a,issuer=corp,claims.department=sales", "GET", url, "allow orders/sales"),
            ("user=a,issuer=corp,claims.department=it", "GET", url, "403 no-rule-for-subject"),
            ("user=a,issuer=corp", "GET", url, "403 no-rule-for-subject"),
            ("user=a,issuer=other", "GET", url, "403 no-rule-for-subject"),
            ("user=a", "GET", url, "403 no-rule-for-subject"),
        ],
    );
    let deny = format!(
        "{}{}",
        rule("allow", "all", "\"dev\"", "\"GET\"", "\"/**\""),
        rule("deny", "no", "\"sales\"", "\"GET\"", "\"/**\"")
    );
    let open = orders("", &deny);
    answers(
        &open,
        &[
            ("groups=dev,issuer=corp,claims.department=it,token-groups=dev", "GET", url, "allow orders/all"),
            ("groups=dev,issuer=corp,claims.department=sales", "GET", url, "403 denied-by"),
            ("groups=dev,issuer=corp", "GET", url, "403 deny-undetermined"),
            ("groups=dev", "GET", url, "403 deny-undetermined"),
        ],
    );
}

#[test]
fn a_claim_on_one_line_has_the_type_that_its_issuer_declares() {
    let identity = format!(
        "{IDENTITY}\n[subjects.senior]\nissuers = [\"corp\"]\n\
         claims = {{ level = [7], contractor = [false], roles = [\"b\"], department = [\"a+b\"] }}\n"
    );
    let text = api("orders", HOST, &rule("allow", "all", "\"senior\"", "\"GET\"", "\"/**\""));
    let bundle = load(&[("_identity.toml", &identity), ("orders.toml", &text)]);
    let who = "user=a,issuer=corp,claims.level=7,claims.contractor=false,claims.roles=a+b,claims.department=a+b";
    assert_eq!(answer(&bundle, who, "GET", "orders.api.corp.example/x"), "allow orders/all");
    for (claim, wrong) in [("level=7", "level=seven"), ("contractor=false", "contractor=no"), ("level=7", "levl=7")] {
        let played = Persona::parse(&who.replace(claim, wrong)).unwrap().play(&bundle);
        assert!(played.is_err_and(|error| error.contains(wrong.split('=').next().unwrap())), "{wrong}");
    }
}

#[test]
fn a_token_counts_only_where_its_issuer_is_named() {
    let identity = format!(
        "{IDENTITY}\n[subjects.dev-corp]\ngroups = [\"dev\"]\nissuers = [\"corp\"]\n\
         [subjects.mail-corp]\nemails = [\"Alice@corp.example\"]\nissuers = [\"corp\"]\n"
    );
    let tables = format!(
        "{}{}",
        rule("allow", "mail", "\"mail-corp\"", "\"GET\"", "\"/mail\""),
        rule("allow", "group", "\"dev-corp\"", "\"GET\"", "\"/group\"")
    );
    let bundle = load(&[("_identity.toml", &identity), ("orders.toml", &api("orders", HOST, &tables))]);
    let (mail, group) = ("orders.api.corp.example/mail", "orders.api.corp.example/group");
    answers(
        &bundle,
        &[
            ("user=a,issuer=corp,email=alice@corp.example", "GET", mail, "allow orders/mail"),
            ("user=a,issuer=corp,email=ALICE@corp.example", "GET", mail, "allow orders/mail"),
            ("user=a,issuer=corp,email=alicf@corp.example", "GET", mail, "403 no-rule-for-subject"),
            ("user=a,issuer=other,email=Alice@corp.example", "GET", mail, "403 no-rule-for-subject"),
            ("user=a,groups=dev,issuer=other", "GET", group, "allow orders/group"),
            ("user=a,issuer=corp,token-groups=dev", "GET", group, "allow orders/group"),
        ],
    );
    let both = api("orders", &format!("{HOST}\nlogin = [\"corp\", \"third\"]"), &tables);
    let third = "[issuers.third]\nurl = \"https://third.example\"\naudiences = [\"p\"]\nalgs = [\"ES256\"]\n\
                 groups_claim = \"g\"\ngroups = [\"dev\"]\nperson = \"linked\"\n";
    let bundle = load(&[("_identity.toml", &format!("{identity}{third}")), ("orders.toml", &both)]);
    answers(
        &bundle,
        &[
            ("user=a,issuer=third,token-groups=dev", "GET", group, "403 no-rule-for-subject"),
            ("user=a,issuer=corp,token-groups=dev", "GET", group, "allow orders/group"),
        ],
    );
}

#[test]
fn a_certain_denial_is_reported_before_an_undetermined_one() {
    for (first, second) in [("sales", "dev"), ("dev", "sales")] {
        let tables = format!(
            "{}{}{}",
            rule("allow", "all", "\"dev\"", "\"GET\"", "\"/**\""),
            rule("deny", "one", &format!("\"{first}\""), "\"GET\"", "\"/x\""),
            rule("deny", "two", &format!("\"{second}\""), "\"GET\"", "\"/x\"")
        );
        let bundle = orders("", &tables);
        assert_eq!(answer(&bundle, "groups=dev", "GET", "orders.api.corp.example/x"), "403 denied-by");
    }
}

#[test]
fn groups_of_a_token_join_those_of_the_user_file() {
    let tables = format!("{}{}", read_rule(), rule("allow", "change", "\"admin\"", "\"POST\"", "\"/v1/orders\""));
    let bundle = orders("login = [\"corp\"]", &tables);
    let url = "orders.api.corp.example/v1/orders";
    answers(
        &bundle,
        &[
            ("groups=dev", "GET", url, "401 login-required"),
            ("groups=dev,issuer=other", "GET", url, "401 login-required"),
            ("groups=dev,issuer=corp,token-groups=admin", "GET", url, "allow orders/read"),
            ("groups=dev,issuer=corp,token-groups=admin", "POST", url, "allow orders/change"),
            ("groups=dev,issuer=corp", "GET", url, "allow orders/read"),
            ("groups=dev,issuer=corp", "POST", url, "403 no-rule-for-subject"),
            ("user=x,issuer=corp,token-groups=dev", "GET", url, "allow orders/read"),
        ],
    );
    let near = match judged(&bundle, "groups=dev,issuer=corp", "POST", url) {
        Judgement::Deny(denial) => denial.near_misses().to_vec(),
        Judgement::Allow(allowance) => panic!("{allowance:?}"),
    };
    assert_eq!(near.len(), 1);
    assert_eq!((near[0].rule.as_str(), near[0].who), ("orders/change", Truth::Unknown));
}

#[test]
fn nt_62_an_issuer_cannot_state_what_is_not_its_own() {
    let identity = IDENTITY.replace("groups       = [\"dev\", \"admin\", \"leavers\"]", "groups_prefix = \"dev\"");
    let tables = format!("{}{}", read_rule(), rule("allow", "change", "\"admin\"", "\"POST\"", "\"/v1/orders\""));
    let file = api("orders", &format!("{HOST}\nlogin = [\"corp\"]"), &tables);
    let bundle = load(&[("_identity.toml", &identity), ("orders.toml", &file)]);
    let url = "orders.api.corp.example/v1/orders";
    answers(
        &bundle,
        &[
            ("user=x,issuer=corp,token-groups=dev+admin", "GET", url, "allow orders/read"),
            ("user=x,issuer=corp,token-groups=dev+admin", "POST", url, "403 no-rule-for-subject"),
        ],
    );
    let corp = &bundle.issuers()[0];
    assert!(corp.admits("dev") && corp.admits("developers") && !corp.admits("admin"));
    assert!(!bundle.issuers()[1].admits("dev"));
}

#[test]
fn the_strength_of_the_tunnel_is_visible_to_rules() {
    let identity = format!(
        "{IDENTITY}\n[subjects.strong-admin]\ngroups = [\"admin\"]\n\
         tunnel.binding = [\"keys\"]\ntunnel.method = [\"eap-mschapv2\", \"mschapv2\"]\n"
    );
    let file = api("orders", HOST, &rule("allow", "change", "\"strong-admin\"", "\"POST\"", "\"/x\""));
    let bundle = load(&[("_identity.toml", &identity), ("orders.toml", &file)]);
    let url = "orders.api.corp.example/x";
    answers(
        &bundle,
        &[
            ("groups=admin,binding=keys,method=mschapv2", "POST", url, "allow orders/change"),
            ("groups=admin,binding=zero,method=mschapv2", "POST", url, "404 no-such-api"),
            ("groups=admin,binding=keys,method=pap", "POST", url, "404 no-such-api"),
        ],
    );
    let request = CanonicalRequest::for_test("POST", "orders.api.corp.example", "/x", None);
    let played = Persona::parse("groups=admin").unwrap().play(&bundle).unwrap();
    let facts = Facts { binding: None, ..played.facts(&request) };
    let Judgement::Deny(denial) = judge(&bundle, &facts) else { panic!("an unknown binding is not enough") };
    assert_eq!(denial.reason(), Reason::NoRuleForSubject);
}

#[test]
fn an_address_is_compared_whole_and_a_client_is_nobody() {
    let tables = rule("allow", "people", "\"dev\", \"alice\", \"mailed\"", "\"GET\"", "\"/people\"");
    let org = rule("deny", "leavers", "\"leavers\"", "\"GET\"", "\"/**\"");
    let file = api("orders", HOST, &tables);
    let bundle = load(&[("_identity.toml", IDENTITY), ("_org.toml", &org), ("orders.toml", &file)]);
    let url = "orders.api.corp.example/people";
    answers(
        &bundle,
        &[
            ("user=alice", "GET", url, "allow orders/people"),
            ("user=bob,issuer=corp,email=alice@corp.example", "GET", url, "403 deny-undetermined"),
            ("user=bob,issuer=other,email=alice@corp.example", "GET", url, "allow orders/people"),
            ("user=bob,issuer=other,email=alice@corp.example.evil", "GET", url, "403 no-rule-for-subject"),
            ("user=bob,issuer=other,token-client=alice", "GET", url, "403 no-rule-for-subject"),
        ],
    );
}

#[test]
fn with_bearer_pass_a_token_is_no_evidence() {
    let tables = format!("{}{}", read_rule(), rule("allow", "mail", "\"mailed\"", "\"GET\"", "\"/mail\""));
    let bundle = orders("bearer = \"pass\"", &tables);
    answers(
        &bundle,
        &[
            ("user=x,issuer=corp,token-groups=dev", "GET", "orders.api.corp.example/v1/orders", "404 no-such-api"),
            (
                "groups=dev,issuer=other,email=alice@corp.example",
                "GET",
                "orders.api.corp.example/mail",
                "403 no-rule-for-subject",
            ),
        ],
    );
}

#[test]
fn hidden_routes_look_like_no_api() {
    let bundle = orders("hide_routes = true", &read_rule());
    let Judgement::Deny(denial) = judged(&bundle, "groups=dev", "GET", "orders.api.corp.example/x") else { panic!() };
    assert_eq!((denial.reason(), denial.told(), denial.status()), (Reason::NoRule, Reason::NoSuchApi, 404));
    assert!(denial.hidden());
}

#[test]
fn an_exact_host_beats_a_wildcard_and_the_longest_base_wins() {
    let all = |id: &str| rule("allow", id, "\"dev\"", "\"GET\"", "\"/**\", \"/\"");
    let wild = api("wild", "hosts = [\"*.api.corp.example\"]", &all("w"));
    let root = api("root", "hosts = [\"a.api.corp.example\"]", &all("r"));
    let deep = api("deep", "hosts = [\"a.api.corp.example\"]\nbase = \"/v1/x\"", &all("d"));
    let based = api("based", "hosts = [\"b.api.corp.example\"]\nbase = \"/v1\"", &all("b"));
    let files = [
        ("_identity.toml", IDENTITY),
        ("wild.toml", &*wild),
        ("root.toml", &root),
        ("deep.toml", &deep),
        ("based.toml", &based),
    ];
    let bundle = load(&files);
    answers(
        &bundle,
        &[
            ("groups=dev", "GET", "a.api.corp.example/v1/x", "allow deep/d"),
            ("groups=dev", "GET", "a.api.corp.example/v1/x/", "allow deep/d"),
            ("groups=dev", "GET", "a.api.corp.example/v1/x/y", "allow deep/d"),
            ("groups=dev", "GET", "a.api.corp.example/v1/xy", "allow root/r"),
            ("groups=dev", "GET", "a.api.corp.example/", "allow root/r"),
            ("groups=dev", "GET", "b.api.corp.example/v1", "allow based/b"),
            ("groups=dev", "GET", "b.api.corp.example/v2", "404 no-such-api"),
            ("groups=dev", "GET", "other.api.corp.example/x", "allow wild/w"),
            ("groups=dev", "GET", "x.y.api.corp.example/x", "404 no-such-api"),
            ("groups=dev", "GET", ".api.corp.example/x", "404 no-such-api"),
            ("groups=dev", "GET", "api.corp.example/x", "404 no-such-api"),
            ("groups=dev", "GET", "access.api.corp.example/x", "404 no-such-api"),
        ],
    );
    assert_eq!(bundle.host_for("other.api.corp.example").map(|host| &*host.name), Some("*.api.corp.example"));
    assert_eq!(bundle.host_for("access.api.corp.example"), None);
}

#[test]
fn the_organisation_denies_what_the_upstream_sees() {
    let org = rule("deny", "actuators", "\"anyone-authenticated\"", "\"GET\"", "\"/actuator/**\"");
    let file =
        api("orders", &format!("{HOST}\nbase = \"/v1\""), &rule("allow", "all", "\"dev\"", "\"GET\"", "\"/**\""));
    let file = file.replace("[upstream]\n", "[upstream]\nstrip_base = true\n");
    let bundle = load(&[("_identity.toml", IDENTITY), ("_org.toml", &org), ("orders.toml", &file)]);
    answers(
        &bundle,
        &[
            ("groups=dev", "GET", "orders.api.corp.example/v1/actuator/env", "403 denied-by"),
            ("groups=dev", "GET", "orders.api.corp.example/v1/x/actuator/env", "allow orders/all"),
        ],
    );
}

const LIMITS: &str = "
[[limit]]
id = \"b-per-item\"
match = { methods = [\"GET\"], paths = [\"/v1/orders/{id}\"] }
key = [\"user\", \"path.id\"]
rate = \"1/s\"

[[limit]]
id = \"a-per-client\"
match = { methods = [\"POST\"] }
key = [\"client\"]
rate = \"1/s\"
";

#[test]
fn every_limit_that_counts_the_request_is_charged() {
    let org = "[[limit]]\nid = \"all\"\nkey = [\"tunnel\", \"api\"]\nrate = \"5/s\"\nburst = 7\n";
    let tables = format!("{}{}{LIMITS}", read_rule(), rule("allow", "post", "\"dev\"", "\"POST\"", "\"/v1/orders\""));
    let file = api("orders", HOST, &tables);
    let bundle = load(&[("_identity.toml", IDENTITY), ("_org.toml", org), ("orders.toml", &file)]);
    let charged = |who: &str, method: &str, path: &str| match judged(
        &bundle,
        who,
        method,
        &format!("orders.api.corp.example{path}"),
    ) {
        Judgement::Allow(allowance) => {
            allowance.charges().iter().map(|charge| format!("{} {}", charge.limit.id, charge.key)).collect::<Vec<_>>()
        }
        Judgement::Deny(denial) => vec![format!("{} {:?}", denial.reason(), denial.rule())],
    };
    let tunnel = "_org/all tunnel=s-0000000000000000 api=orders";
    assert_eq!(
        charged("user=alice,groups=dev", "GET", "/v1/orders/4%202"),
        [tunnel, "orders/b-per-item user=alice path.id=4%25202"]
    );
    assert_eq!(charged("user=alice,groups=dev", "GET", "/v1/orders"), [tunnel]);
    assert_eq!(charged("user=alice,groups=dev", "POST", "/v1/orders"), ["limit-key-unknown Some(orders/a-per-client)"]);
    let client = "user=alice,groups=dev,issuer=corp,token-client=postman";
    assert_eq!(charged(client, "POST", "/v1/orders"), [tunnel, "orders/a-per-client client=postman"]);
    let ids: Vec<&str> = bundle.limits().map(|limit| limit.id.as_str()).collect();
    assert_eq!(ids, ["_org/all", "orders/a-per-client", "orders/b-per-item"]);
    let all = bundle.limits().next().unwrap();
    assert_eq!((all.rate.count, all.burst, all.status), (5, 7, 429));
}

fn permit(bundle: &Arc<Bundle>, who: &str, path: &str) -> Permit {
    let played = Persona::parse(who).unwrap().play(bundle).unwrap();
    let request = get(path);
    let facts = played.facts(&request);
    let judgement = judge(bundle, &facts);
    let Judgement::Allow(allowance) = &judgement else { panic!("{judgement:?}") };
    let asserted = judge::asserted(&allowance.api, &facts);
    match judge::conclude(bundle, judgement, asserted, request) {
        Decision::Allow(permit) => permit,
        Decision::Deny(denial) => panic!("{denial:?}"),
    }
}

#[test]
fn a_permit_carries_the_judged_request_and_what_is_asserted() {
    let tables = format!(
        "[assert.headers]\nX-User = \"user.id\"\nX-Groups = \"user.groups\"\n\
         X-Mail = \"user.email\"\nX-Roles = \"claims.roles\"\n{}",
        rule("allow", "all", "\"dev\"", "\"GET\"", "\"/**\", \"/\"")
    );
    let file = api("orders", &format!("{HOST}\nbase = \"/v1\"\nlogin = [\"corp\"]"), &tables);
    let keep = load(&[("_identity.toml", IDENTITY), ("orders.toml", &file)]);
    let file = file.replace("[upstream]\n", "[upstream]\nstrip_base = true\n");
    let strip = load(&[("_identity.toml", IDENTITY), ("orders.toml", &file)]);
    let who = "user=alice,groups=dev+a b,issuer=corp,token-groups=admin,email=a@corp.example";
    let kept = permit(&keep, who, "/v1/x");
    assert_eq!((kept.upstream_path(), kept.request().path()), ("/v1/x", "/v1/x"));
    let asserted: Vec<(&str, &str)> = kept.asserted_headers().collect();
    assert_eq!(asserted, [("x-groups", "a%20b,admin,dev"), ("x-mail", "a@corp.example"), ("x-user", "alice")]);
    assert_eq!(kept.rule().as_str(), "orders/all");
    assert_eq!(keep.asserted_headers(), ["x-groups", "x-mail", "x-roles", "x-user"]);
    for (path, upstream) in [("/v1/x", "/x"), ("/v1", "/"), ("/v1/", "/"), ("/v1/x/", "/x/")] {
        assert_eq!(permit(&strip, who, path).upstream_path(), upstream);
    }
}

#[test]
fn a_denial_keeps_its_request() {
    let bundle = orders("", &read_rule());
    let request = get("/x");
    let played = Persona::parse("groups=dev").unwrap().play(&bundle).unwrap();
    let judgement = judge(&bundle, &played.facts(&request));
    let Decision::Deny(denial) = judge::conclude(&bundle, judgement, Vec::new(), request.clone()) else { panic!() };
    assert_eq!(denial.request(), Some(&request));
}

fn seen(bundle: &Bundle, who: &str) -> Vec<String> {
    let played = Persona::parse(who).unwrap().play(bundle).unwrap();
    let request = get("/");
    visible(bundle, &played.facts(&request).evidence()).iter().map(|host| host.name.to_string()).collect()
}

#[test]
fn only_what_might_be_allowed_is_visible() {
    let one = |name: &str, top: &str, who: &str| {
        api(
            name,
            &format!("hosts = [\"{name}.api.corp.example\"]\n{top}"),
            &rule("allow", "x", who, "\"GET\"", "\"/x\""),
        )
    };
    let files = [
        ("group.toml", one("group", "", "\"dev\"")),
        ("login.toml", one("login", "login = [\"corp\"]", "\"dev\"")),
        ("foreign.toml", one("foreign", "login = [\"other\"]", "\"dev\"")),
        ("mail.toml", one("mail", "", "\"mailed\"")),
        ("pass.toml", one("pass", "bearer = \"pass\"", "\"mailed\"")),
        ("claim.toml", one("claim", "login = [\"corp\"]", "\"sales\"")),
        ("stated.toml", one("stated", "login = [\"other\"]", "\"sales\"")),
        ("user.toml", one("user", "", "\"alice\"")),
        ("strong.toml", one("strong", "", "\"strong\"")),
        ("all.toml", one("all", "", "\"anyone-authenticated\"")),
    ];
    let mut all = vec![("_identity.toml", IDENTITY)];
    all.extend(files.iter().map(|(file, text)| (*file, text.as_str())));
    let bundle = load(&all);
    let names = |who: &str| {
        seen(&bundle, who).iter().map(|host| host.split('.').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names("user=bob,binding=zero"), ["all", "claim", "login", "mail"]);
    assert_eq!(names("user=bob"), ["all", "claim", "login", "mail", "strong"]);
    assert_eq!(
        names("user=alice,groups=dev,binding=zero"),
        ["all", "claim", "foreign", "group", "login", "mail", "user"]
    );
    assert_eq!(names(""), Vec::<String>::new());
}

#[test]
fn a_token_may_state_groups_only_for_its_request() {
    let bundle = orders("login = [\"corp\"]", &read_rule());
    assert_eq!(seen(&bundle, "user=bob"), ["orders.api.corp.example"]);
    let request = get("/v1/orders");
    let played = Persona::parse("user=bob,issuer=corp,token-groups=admin").unwrap().play(&bundle).unwrap();
    let facts = played.facts(&request);
    assert!(matches!(facts.token.unwrap().groups, StatedGroups::Known(_)));
    let Judgement::Deny(denial) = judge(&bundle, &facts) else { panic!("seen, never let in") };
    assert_eq!(denial.reason(), Reason::NoRuleForSubject);
}

#[test]
fn the_bundle_id_is_the_content() {
    let file = api("orders", HOST, &read_rule());
    let one = load(&[("a/_identity.toml", IDENTITY), ("a/orders.toml", &file)]);
    let two = load(&[("b/orders.toml", &file), ("b/_identity.toml", IDENTITY)]);
    let three = load(&[("b/orders.toml", &format!("{file}# x\n")), ("b/_identity.toml", IDENTITY)]);
    assert_eq!(one.id(), two.id());
    assert_ne!(one.id(), three.id());
    let ending = |end: &str| load(&[("_identity.toml", IDENTITY), ("orders.toml", &format!("{file}{end}"))]);
    assert_ne!(ending("# a/x.toml").id(), ending("# b/x.toml").id());
    assert_eq!(one.id().len(), 64);
}

#[test]
fn every_reason_has_one_code() {
    for reason in Reason::ALL {
        assert_eq!(Reason::parse(reason.as_str()), Some(*reason));
        assert!((400..=599).contains(&reason.status()));
    }
    assert_eq!(Reason::parse("nonsense"), None);
}

fn explained(who: &str, method: &str, path: &str) -> Explanation {
    let tables = format!(
        "{}{}{}\n[[limit]]\nid = \"per-user\"\nkey = [\"user\"]\nrate = \"10/s\"\n",
        read_rule(),
        rule("allow", "change", "\"admin\"", "\"POST\", \"DELETE\"", "\"/v1/orders/**\""),
        rule("deny", "frozen", "\"leavers\"", "\"DELETE\"", "\"/v1/orders/9\"")
    );
    let bundle = orders("", &tables);
    let played = Persona::parse(who).unwrap().play(&bundle).unwrap();
    let request = CanonicalRequest::for_test(method, "orders.api.corp.example", path, None);
    let mut told = explain(&bundle, &played.facts(&request));
    told.bundle = "0123456789abcdef".into();
    told
}

#[test]
fn an_explanation_tells_every_rule() {
    insta::assert_snapshot!(explained("user=alice,groups=dev", "DELETE", "/v1/orders/42"), @r"
    DELETE orders.api.corp.example /v1/orders/42      bundle 0123456789ab
      as alice  groups=dev  binding=keys  method=eap-mschapv2
    DENY  no-rule-for-subject  403
      api        orders
      near miss  orders/change  path /v1/orders/**  admin: no
      other      orders/read  methods GET only  path /v1/orders/**  dev: yes
      deny       orders/frozen: no match
    ");
    insta::assert_snapshot!(explained("user=alice,groups=dev", "GET", "/v1/orders/42"), @r"
    GET orders.api.corp.example /v1/orders/42      bundle 0123456789ab
      as alice  groups=dev  binding=keys  method=eap-mschapv2
    ALLOW  by orders/read
      api        orders
      holds      orders/read  path /v1/orders/**  dev: yes
      other      orders/change  methods DELETE, POST only  path /v1/orders/**  admin: no
      deny       orders/frozen: no match
      charge     orders/per-user  user=alice
    ");
    insta::assert_snapshot!(explained("user=bob", "GET", "/v1/orders/42"), @r"
    GET orders.api.corp.example /v1/orders/42      bundle 0123456789ab
      as bob  groups=(none)  binding=keys  method=eap-mschapv2
    DENY  no-such-api  404
      api        orders  not visible to this identity
      near miss  orders/read  path /v1/orders/**  dev: no
      other      orders/change  methods DELETE, POST only  path /v1/orders/**  admin: no
      deny       orders/frozen: no match
    ");
}

#[test]
fn an_explanation_for_machines_carries_the_same() {
    let told = explained("user=alice,groups=dev", "DELETE", "/v1/orders/42");
    let json = told.to_json();
    assert_eq!(json["outcome"], "deny");
    assert_eq!(json["reason"], "no-rule-for-subject");
    assert_eq!(json["status"], 403);
    assert_eq!(json["allow"][0]["rule"], "orders/change");
    assert_eq!(json["allow"][0]["subjects"]["admin"], "no");
    assert_eq!(json["deny"][0]["path"], serde_json::Value::Null);
    assert!(!told.allowed());
}

#[test]
fn a_persona_is_read_from_one_line() {
    let persona = Persona::parse("user=alice, groups=a+b,groups=c,binding=zero,issuer=corp,claims.x=1").unwrap();
    assert_eq!(persona.groups, ["a", "b", "c"]);
    assert_eq!(persona.token.unwrap().untyped.len(), 1);
    assert!(!Persona::parse("").unwrap().logged_in);
    for text in ["alice", "colour=red", "user=Alice", "binding=weak", "client=b", "email=a"] {
        assert!(Persona::parse(text).is_err(), "{text}");
    }
}

#[test]
fn a_judgement_is_the_same_every_time_and_among_many_apis() {
    let mut files = vec![("_identity.toml".to_owned(), IDENTITY.to_owned())];
    for at in 0..40 {
        let rules: String = (0..5)
            .map(|rule_at| {
                rule("allow", &format!("r{rule_at}"), "\"dev\"", "\"GET\"", &format!("\"/v{rule_at}/x/**\""))
            })
            .collect();
        let name = format!("api{at}");
        files.push((format!("{name}.toml"), api(&name, &format!("hosts = [\"{name}.api.corp.example\"]"), &rules)));
    }
    let files: Vec<(&str, &str)> = files.iter().map(|(file, text)| (file.as_str(), text.as_str())).collect();
    let bundle = load(&files);
    let played = Persona::parse("user=alice,groups=a+b+c+d+dev").unwrap().play(&bundle).unwrap();
    let request = CanonicalRequest::for_test("GET", "api39.api.corp.example", "/v4/x/1", None);
    let facts = played.facts(&request);
    for _ in 0..100 {
        let Judgement::Allow(allowance) = judge(&bundle, &facts) else { panic!("a denial") };
        assert_eq!(allowance.rule().to_string(), "api39/r4");
    }
}
