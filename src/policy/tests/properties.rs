//! What holds for all bundles and requests.

use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::*;
use crate::identity::Claim;

const SUBJECTS: [&str; 9] =
    ["dev", "admin", "leavers", "alice", "strong", "sales", "mailed", "anyone-authenticated", "anonymous"];
const METHODS: [&str; 3] = ["GET", "POST", "DELETE"];
const PATTERNS: [&str; 8] = ["/", "/**", "/a", "/a/**", "/a/{id:int}", "/*/b", "/{x}", "/a/1"];
const PATHS: [&str; 9] = ["/", "/a", "/a/", "/a/1", "/a/x", "/b", "/c/b", "/a/1/2", "/a/b"];
const HOSTS: [&str; 3] = ["one.api.corp.example", "two.api.corp.example", "none.api.corp.example"];
const BASES: [&str; 3] = ["/", "/a", "/c"];
const LOGINS: [&str; 3] = ["", "login = [\"corp\"]\n", "bearer = \"pass\"\n"];

#[derive(Clone, Debug)]
struct RuleDraft {
    deny: bool,
    who: Vec<&'static str>,
    methods: Vec<&'static str>,
    paths: Vec<&'static str>,
}

#[derive(Clone, Debug)]
struct ApiDraft {
    host: &'static str,
    base: &'static str,
    login: &'static str,
    hide: bool,
    rules: Vec<RuleDraft>,
}

fn some<T: Clone + std::fmt::Debug + 'static>(all: &'static [T]) -> impl Strategy<Value = Vec<T>> {
    proptest::sample::subsequence(all, 1..=all.len().min(3))
}

fn rule_draft() -> impl Strategy<Value = RuleDraft> {
    (any::<bool>(), some(&SUBJECTS), some(&METHODS), some(&PATTERNS))
        .prop_map(|(deny, who, methods, paths)| RuleDraft { deny, who, methods, paths })
}

fn api_draft() -> impl Strategy<Value = ApiDraft> {
    (
        proptest::sample::select(&HOSTS[..2]),
        proptest::sample::select(&BASES[..]),
        proptest::sample::select(&LOGINS[..]),
        any::<bool>(),
        proptest::collection::vec(rule_draft(), 0..6),
    )
        .prop_map(|(host, base, login, hide, rules)| ApiDraft { host, base, login, hide, rules })
}

fn quoted(words: &[&str]) -> String {
    words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ")
}

fn rule_text(at: usize, draft: &RuleDraft) -> String {
    let kind = if draft.deny { "deny" } else { "allow" };
    rule(kind, &format!("r{at}"), &quoted(&draft.who), &quoted(&draft.methods), &quoted(&draft.paths))
}

/// The files of the drafts; `order` permutes them and the rules of each.
fn files(drafts: &[ApiDraft], org: &[RuleDraft], order: &[u32]) -> Vec<(String, String)> {
    let text = |rules: &[RuleDraft]| {
        let texts = rules.iter().enumerate().map(|(at, draft)| rule_text(at, draft)).collect();
        permuted(texts, order).concat()
    };
    let denies: Vec<RuleDraft> = org.iter().cloned().map(|draft| RuleDraft { deny: true, ..draft }).collect();
    let mut files = vec![("_identity.toml".to_owned(), IDENTITY.to_owned()), ("_org.toml".to_owned(), text(&denies))];
    for (at, draft) in drafts.iter().enumerate() {
        let top = format!(
            "hosts = [\"{}\"]\nbase = \"{}\"\n{}hide_routes = {}",
            draft.host, draft.base, draft.login, draft.hide
        );
        files.push((format!("api{at}.toml"), api(&format!("api{at}"), &top, &text(&draft.rules))));
    }
    permuted(files, order)
}

/// As they are written.
const IN_ORDER: [u32; 0] = [];

/// In the order of their keys; those without one keep their place behind each other.
fn permuted<T>(things: Vec<T>, keys: &[u32]) -> Vec<T> {
    let mut keyed: Vec<(Option<&u32>, T)> =
        things.into_iter().enumerate().map(|(at, thing)| (keys.get(at), thing)).collect();
    keyed.sort_by_key(|(key, _)| key.copied());
    keyed.into_iter().map(|(_, thing)| thing).collect()
}

/// Random files are often refused (a deny covers an allow, two APIs overlap); such cases say nothing here.
fn loaded(files: &[(String, String)]) -> Option<Bundle> {
    let files: Vec<(&str, &str)> = files.iter().map(|(file, text)| (file.as_str(), text.as_str())).collect();
    compile(&sources(&files), &environment(), None).ok().map(|compiled| compiled.bundle)
}

fn personas() -> impl Strategy<Value = Persona> {
    let groups = proptest::sample::subsequence(vec!["dev", "admin", "leavers"], 0..=2);
    let token = proptest::option::of((
        proptest::sample::select(&["corp", "other"][..]),
        proptest::option::of(proptest::sample::subsequence(vec!["dev", "admin", "leavers"], 0..=2)),
        any::<bool>(),
        proptest::option::of(proptest::sample::select(&["sales", "it"][..])),
    ));
    (any::<bool>(), groups, any::<bool>(), token).prop_map(|(alice, groups, zero, token)| Persona {
        logged_in: true,
        user: Some(if alice { "alice" } else { "bob" }.to_owned()),
        groups: groups.into_iter().map(str::to_owned).collect(),
        binding: Some(if zero { Binding::Zero } else { Binding::Keys }),
        method: None,
        token: token.map(|(issuer, groups, mail, department)| PersonaToken {
            issuer: Some(issuer.to_owned()),
            groups: groups.map(|groups| groups.into_iter().map(str::to_owned).collect()),
            email: mail.then(|| "alice@corp.example".to_owned()),
            client: None,
            claims: department
                .filter(|_| issuer == "corp")
                .map(|text| ("department".to_owned(), Claim::Text(text.to_owned())))
                .into_iter()
                .collect(),
            untyped: Default::default(),
        }),
    })
}

/// What an order must not change: the outcome, its reason and status, and the buckets.
fn outcome(bundle: &Bundle, persona: &Persona, method: &str, host: &str, path: &str) -> (bool, String) {
    let request = CanonicalRequest::for_test(method, host, path, None);
    let played = persona.play(bundle).unwrap();
    match judge(bundle, &played.facts(&request)) {
        Judgement::Allow(allowance) => (true, format!("{:?}", allowance.charges())),
        Judgement::Deny(denial) => (false, format!("{} {}", denial.reason(), denial.status())),
    }
}

/// All requests of the small world.
fn requests() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    let pairs = HOSTS.iter().flat_map(|host| PATHS.iter().map(move |path| (*host, *path)));
    pairs.flat_map(|(host, path)| METHODS.iter().map(move |method| (*method, host, path)))
}

const CASES: u32 = 96;

/// Runs a property that says whether its case loaded, and makes sure that enough of them did.
fn check<S: Strategy>(strategy: &S, at_least: u32, property: impl Fn(S::Value) -> Result<bool, TestCaseError>) {
    let mut runner = TestRunner::new(ProptestConfig { cases: CASES, failure_persistence: None, ..Default::default() });
    let loaded = std::cell::Cell::new(0);
    runner
        .run(strategy, |value| {
            loaded.set(loaded.get() + u32::from(property(value)?));
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error}"));
    println!("{} of {CASES} bundles were loaded", loaded.get());
    assert!(loaded.get() >= at_least, "only {} of {CASES} bundles were loaded", loaded.get());
}

#[test]
fn nt_56_the_order_of_files_and_rules_means_nothing() {
    let drafts = proptest::collection::vec(api_draft(), 1..3);
    let org = proptest::collection::vec(rule_draft(), 0..2);
    let order = proptest::array::uniform8(any::<u32>());
    check(&(drafts, org, order, personas()), 20, |(drafts, org, order, persona)| {
        let one = loaded(&files(&drafts, &org, &IN_ORDER));
        let two = loaded(&files(&drafts, &org, &order));
        prop_assert_eq!(one.is_some(), two.is_some());
        let (Some(one), Some(two)) = (one, two) else { return Ok(false) };
        for (method, host, path) in requests() {
            prop_assert_eq!(outcome(&one, &persona, method, host, path), outcome(&two, &persona, method, host, path));
        }
        Ok(true)
    });
}

#[test]
fn nt_57_a_deny_never_opens_and_an_allow_never_closes() {
    let drafts = proptest::collection::vec(api_draft(), 1..3);
    check(&(drafts, rule_draft(), personas()), 20, |(mut drafts, extra, persona)| {
        let before = loaded(&files(&drafts, &[], &IN_ORDER));
        drafts[0].rules.push(extra.clone());
        let after = loaded(&files(&drafts, &[], &IN_ORDER));
        let (Some(before), Some(after)) = (before, after) else { return Ok(false) };
        for (method, host, path) in requests() {
            let (was, _) = outcome(&before, &persona, method, host, path);
            let (is, _) = outcome(&after, &persona, method, host, path);
            if extra.deny {
                prop_assert!(was || !is, "the deny opened {} {}{}", method, host, path);
            } else {
                prop_assert!(is || !was, "the allow closed {} {}{}", method, host, path);
            }
        }
        Ok(true)
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whoever_is_let_in_sees_the_host(
        drafts in proptest::collection::vec(api_draft(), 1..3),
        org in proptest::collection::vec(rule_draft(), 0..2),
        persona in personas(),
    ) {
        if let Some(bundle) = loaded(&files(&drafts, &org, &IN_ORDER)) {
            let played = persona.play(&bundle).unwrap();
            for (method, host, path) in requests() {
                let request = CanonicalRequest::for_test(method, host, path, None);
                let facts = played.facts(&request);
                if matches!(judge(&bundle, &facts), Judgement::Allow(_)) {
                    let hosts = visible(&bundle, &facts.evidence());
                    prop_assert!(hosts.iter().any(|visible| &*visible.name == host), "{} {:?}", host, hosts);
                }
            }
        }
    }

    #[test]
    fn unknown_never_helps(
        drafts in proptest::collection::vec(api_draft(), 1..2),
        mut persona in personas(),
    ) {
        if let Some(bundle) = loaded(&files(&drafts, &[], &IN_ORDER)) {
            let Some(token) = persona.token.as_mut() else { return Ok(()) };
            token.issuer = Some("corp".into());
            token.groups = None;
            let unknown = persona.clone();
            for stated in [vec![], vec!["dev"], vec!["admin", "leavers"]] {
                if let Some(token) = persona.token.as_mut() {
                    token.groups = Some(stated.into_iter().map(str::to_owned).collect());
                }
                for (method, host, path) in requests() {
                    let (with_unknown, _) = outcome(&bundle, &unknown, method, host, path);
                    let (with_known, _) = outcome(&bundle, &persona, method, host, path);
                    prop_assert!(!with_unknown || with_known, "{} {}{}", method, host, path);
                }
            }
        }
    }

    #[test]
    fn any_text_compiles_or_complains(text in "(\\PC|\n){0,200}") {
        for file in ["_org.toml", "_identity.toml", "orders.toml"] {
            let _ = compile(&sources(&[(file, &text)]), &environment(), None);
        }
    }
}
