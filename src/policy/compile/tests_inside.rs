//! The tests inside the files: made runnable, run, and compared with the rules that they should cover.

use std::collections::BTreeSet;
use std::ops::Range;

use crate::policy::api::Api;
use crate::policy::bundle::Bundle;
use crate::policy::decision::RuleId;
use crate::policy::judge::seen;
use crate::policy::rule::Rule;
use crate::policy::select::Truth;
use crate::policy::selftest::{Expectation, Test, run};
use crate::policy::syntax::Texts;
use crate::policy::syntax::api::ApiText;
use crate::policy::syntax::log::Log;
use crate::policy::syntax::table::{At, unknown};
use crate::policy::syntax::test::TestText;
use crate::policy::syntax::value::Flaw;
use crate::policy::{ReadRequest, RequestText, Source};

use super::guardrails::missing_test;

/// A test and its place.
pub(crate) struct Placed {
    pub(crate) test: Test,
    source: Source,
    span: Range<usize>,
}

/// All tests of all files; complains about those that name no host, or a rule that does not exist.
pub(crate) fn collect(texts: &Texts, log: &mut Log) -> Vec<Placed> {
    let mut ids: BTreeSet<RuleId> = rule_ids("_org", &texts.org.denies, &texts.org.limits);
    for api in &texts.apis {
        ids.extend(rule_ids(&api.api.value, &api.allows, &api.limits));
        ids.extend(rule_ids(&api.api.value, &api.denies, &[]));
    }
    let mut placed = Vec::new();
    for test in &texts.org.tests {
        placed.extend(place(test, "_org", None, &texts.org.source, &ids, log));
    }
    for api in &texts.apis {
        // A wildcard host is asked under a name that it covers.
        let host = api.hosts.first().map(|host| host.value.replacen('*', "test", 1));
        for test in &api.tests {
            placed.extend(place(test, &api.api.value, host.as_deref(), &api.source, &ids, log));
        }
    }
    placed
}

fn rule_ids(
    file: &str,
    rules: &[crate::policy::syntax::rule::RuleText],
    limits: &[crate::policy::syntax::rule::LimitText],
) -> BTreeSet<RuleId> {
    let rules = rules.iter().map(|rule| &rule.id);
    rules.chain(limits.iter().map(|limit| &limit.id)).map(|id| RuleId::new(file, &id.value)).collect()
}

fn place(
    text: &TestText,
    file: &str,
    host: Option<&str>,
    source: &Source,
    ids: &BTreeSet<RuleId>,
    log: &mut Log,
) -> Option<Placed> {
    let (method, target) = &text.request.value;
    let request = match (RequestText::of_url(method, target), host) {
        (Some(request), _) => request,
        (None, Some(host)) => {
            RequestText { method: method.clone(), host: host.to_owned(), target: target.clone(), port: 443 }
        }
        (None, None) => {
            let flaw = Flaw::new("bad-value", "which host is asked?".into(), "write \"GET https://host/path\"");
            log.error(source, text.request.span.clone(), flaw);
            return None;
        }
    };
    let rule = match &text.rule {
        None => None,
        Some(rule) => Some(find_rule(rule, file, source, ids, log)?),
    };
    let test = Test {
        file: source.file.clone(),
        name: text.name.clone(),
        persona: text.persona.clone(),
        request,
        repeat: text.repeat,
        expect: text.expect,
        rule,
        reason: text.reason,
    };
    Some(Placed { test, source: source.clone(), span: text.span.clone() })
}

fn find_rule(rule: &At<String>, file: &str, source: &Source, ids: &BTreeSet<RuleId>, log: &mut Log) -> Option<RuleId> {
    let (file, id) = rule.value.split_once('/').unwrap_or((file, &rule.value));
    let wanted = RuleId::new(file, id);
    if ids.contains(&wanted) {
        return Some(wanted);
    }
    let message = format!("there is no rule `{wanted}`");
    let known = ids.iter().map(RuleId::as_str).filter(|known| known.starts_with(&format!("{file}/")));
    log.error(source, rule.span.clone(), unknown("unknown-rule", message, wanted.as_str(), known));
    None
}

/// Runs all tests; complains about those that fail, and about rules without tests.
pub(crate) fn run_all(bundle: &Bundle, texts: &Texts, tests: &[Placed], read: ReadRequest, log: &mut Log) {
    let mut covered: BTreeSet<RuleId> = BTreeSet::new();
    let mut refused: BTreeSet<RuleId> = BTreeSet::new();
    for placed in tests {
        let outcome = run(bundle, &placed.test, read);
        if let Some(failure) = outcome.failure {
            let message = format!("the test \"{}\" fails: {failure}", placed.test.name);
            let hint = "`wicketgate policy explain` shows why";
            log.error(&placed.source, placed.span.clone(), Flaw::new("test-failed", message, hint));
            continue;
        }
        note(bundle, &placed.test, read, &mut covered, &mut refused);
    }
    for (text, api) in texts.apis.iter().zip(bundle.apis()) {
        check_coverage(texts, text, api, &covered, &refused, log);
    }
}

/// Notes which allow rules a passed test shows to hold, and which ones it shows to refuse a change.
fn note(
    bundle: &Bundle,
    test: &Test,
    read: ReadRequest,
    covered: &mut BTreeSet<RuleId>,
    refused: &mut BTreeSet<RuleId>,
) {
    let Ok(played) = test.persona.play(bundle) else { return };
    let Ok(request) = played.ask(bundle, &test.request, read) else { return };
    let Some(api) = bundle.api_for(request.host(), request.path()) else { return };
    let Some(relative) = api.relative(request.path()) else { return };
    let facts = played.facts(&request);
    let seen = seen(api, &facts);
    let spoken = |rule: &&Rule| rule.routes(request.method(), &[relative]);
    for rule in api.allows.iter().filter(spoken) {
        match test.expect {
            Expectation::Allow if rule.who.holds(&seen) == Truth::True => drop(covered.insert(rule.id.clone())),
            Expectation::Deny | Expectation::Login if !matches!(request.method(), "GET" | "HEAD") => {
                refused.insert(rule.id.clone());
            }
            Expectation::Allow
            | Expectation::Deny
            | Expectation::Login
            | Expectation::Limited
            | Expectation::BadRequest => {}
        }
    }
}

fn check_coverage(
    texts: &Texts,
    text: &ApiText,
    api: &Api,
    covered: &BTreeSet<RuleId>,
    refused: &BTreeSet<RuleId>,
    log: &mut Log,
) {
    for rule in &api.allows {
        if !covered.contains(&rule.id) {
            let message = format!("no test shows that `{}` allows something", rule.id);
            missing_test(&texts.org, &text.source, rule.span.clone(), &message, log);
        }
        if rule.mutates() && !refused.contains(&rule.id) {
            let message = format!("no test shows that somebody is refused what `{}` lets others change", rule.id);
            missing_test(&texts.org, &text.source, rule.span.clone(), &message, log);
        }
    }
}
