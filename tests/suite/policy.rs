//! The policy files that are shipped: they load as they are, and do what they say.

use std::path::{Path, PathBuf};

use wicketgate::policy::{self, Bundle, Persona, RequestText, Source, explain};
use wicketgate::server::loader::{lone_environment, policy_files};
use wicketgate::server::read_request;

fn folder(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn load(path: &str) -> Bundle {
    let sources = policy_files(&folder(path)).expect("files");
    let compiled = policy::compile(&sources, &lone_environment(), None)
        .unwrap_or_else(|complaints| panic!("{path}: {complaints:#?}"));
    compiled.bundle
}

fn explained(bundle: &Bundle, persona: &str, method: &str, url: &str) -> String {
    let text = RequestText::of_url(method, &format!("https://{url}")).expect("a URL");
    let persona = Persona::parse(persona).expect("a persona").play(bundle).expect("somebody");
    let request = persona.ask(bundle, &text, read_request).expect("a request");
    let text = explain(bundle, &persona.facts(&request)).to_string();
    text.replace(&bundle.id()[..12], "BUNDLE")
}

const SHIPPED: [(&str, usize); 2] = [("policies", 4), ("examples/quickstart/policies", 4)];

#[test]
fn every_shipped_file_loads() {
    for (path, files) in SHIPPED {
        assert_eq!(policy_files(&folder(path)).expect("files").len(), files, "{path}");
        assert!(!load(path).apis().is_empty(), "{path}");
    }
}

#[test]
fn every_test_inside_them_passes() {
    for (path, _) in SHIPPED {
        let bundle = load(path);
        assert!(!bundle.tests().is_empty(), "{path}");
        for test in bundle.tests() {
            let outcome = policy::run(&bundle, test, read_request);
            assert_eq!(outcome.failure, None, "{}: {}", test.file, test.name);
        }
    }
}

#[test]
fn every_limit_that_loads_can_be_counted() {
    let load = |rate: &str, burst: u64| {
        let text = format!("[[limit]]\nid = \"l\"\nkey = [\"user\"]\nrate = \"{rate}\"\nburst = {burst}\n");
        policy::compile(&[Source { file: "_org.toml".into(), text: text.into() }], &lone_environment(), None)
    };
    for rate in ["1/d", "7/d", "1/h", "1/m", "1/s", "3/s", "1000000000/d", "1000000000/s"] {
        let mut most = 1_000_000_000;
        while load(rate, most).is_err() {
            most -= most.div_ceil(100);
        }
        assert!(most > 1, "{rate}");
        let compiled = load(rate, most).expect("a bundle");
        for limit in compiled.bundle.limits() {
            assert!(wicketgate::proxy::quota(limit).is_ok(), "{rate} {most}");
        }
    }
}

#[test]
fn an_issuer_that_can_never_be_fetched_is_refused() {
    for (url, code) in [
        ("https://login.corp.example", None),
        ("https://127.0.0.1:8443/realms/corp", None),
        ("https://login.corp.example:99999", Some("bad-url")),
        ("https://169.254.169.254", Some("bad-url")),
    ] {
        let text =
            format!("[issuers.corp]\nurl = \"{url}\"\naudiences = [\"a\"]\nalgs = [\"ES256\"]\nperson = \"linked\"\n");
        let source = Source { file: "_identity.toml".into(), text: text.into() };
        let wrong = policy::compile(&[source], &lone_environment(), None).err();
        assert_eq!(wrong.map(|complaints| complaints[0].code), code, "{url}");
    }
}

#[test]
fn a_test_reads_its_request_as_traffic_does() {
    let text = |bearer: &str, asked: &str, expect: &str| {
        let rule =
            "[[allow]]\nid = \"all\"\nwho = \"anyone-authenticated\"\nmethods = [\"GET\"]\npaths = [\"/**\", \"/\"]\n";
        let test = format!(
            "[[test]]\nname = \"t\"\nas = {{ user = \"alice\" }}\nreq = \"GET {asked}\"\nexpect = \"{expect}\"\n"
        );
        format!(
            "api = \"orders\"\npolicy_version = 1\nowner = \"o\"\nhosts = [\"orders.example\"]\n{bearer}\n\
             [upstream]\nurl = \"https://orders.internal\"\n[http]\nencoded_slash = \"opaque\"\n{rule}{test}"
        )
    };
    for (bearer, asked, expect) in [
        ("", "https://orders.example/a%2Fb", "allow"),
        ("", "https://orders.example:443/a%2Fb", "allow"),
        ("", "https://Orders.Example./a%2Fb", "allow"),
        ("", "http://orders.example:80/a%2Fb", "allow"),
        ("", "https://orders.example:80/a%2Fb", "bad-request"),
        ("", "https://orders.example?x=1", "allow"),
        ("", "/a?access_token=x", "bad-request"),
        ("bearer = \"pass\"", "/a?access_token=x", "allow"),
        ("", "https://other.example/a?access_token=x", "deny"),
    ] {
        let source = Source { file: "orders.toml".into(), text: text(bearer, asked, expect).into() };
        let compiled = policy::compile(&[source], &lone_environment(), None);
        assert!(compiled.is_ok(), "{bearer} {asked}: {:?}", compiled.err());
    }
}

#[test]
fn a_bundle_has_one_id_for_one_content() {
    for (path, _) in SHIPPED {
        assert_eq!(load(path).id(), load(path).id());
    }
    let mut sources = policy_files(&folder("policies")).expect("files");
    sources.reverse();
    let reversed = policy::compile(&sources, &lone_environment(), None).expect("a bundle").bundle;
    assert_eq!(reversed.id(), load("policies").id(), "the order of files means nothing");
}

#[test]
fn an_admin_may_change_orders_and_is_told_why() {
    let bundle = load("policies");
    let text = explained(&bundle, "user=alice,groups=orders-admin", "DELETE", "orders.api.corp.example/v1/orders/42");
    insta::assert_snapshot!(text, @r"
    DELETE orders.api.corp.example /v1/orders/42      bundle BUNDLE
      as alice  groups=orders-admin  binding=keys  method=eap-mschapv2
    ALLOW  by orders/change
      api        orders
      holds      orders/change  path /v1/orders/**  orders-admin: yes
      other      orders/read  methods GET only  path /v1/orders/**  orders-admin: yes  orders-dev: no
      deny       _org/leavers  (inline): no
      deny       _org/actuators: no match
      charge     _org/tunnel-ceiling  tunnel=s-0000000000000000
      charge     orders/per-user  user=alice
    ");
}

#[test]
fn a_developer_may_not_and_sees_what_came_near() {
    let bundle = load("policies");
    let text = explained(&bundle, "user=bob,groups=orders-dev", "DELETE", "orders.api.corp.example/v1/orders/42");
    insta::assert_snapshot!(text, @r"
    DELETE orders.api.corp.example /v1/orders/42      bundle BUNDLE
      as bob  groups=orders-dev  binding=keys  method=eap-mschapv2
    DENY  no-rule-for-subject  404
      api        orders
      near miss  orders/change  path /v1/orders/**  orders-admin: no
      other      orders/read  methods GET only  path /v1/orders/**  orders-admin: no  orders-dev: yes
      deny       _org/leavers  (inline): no
      deny       _org/actuators: no match
    ");
}
