//! Guardrails: what `_org.toml` forbids every API file. The one about tests is kept where tests are run.

use std::ops::Range;

use crate::policy::Source;
use crate::policy::api::UpstreamUrl;
use crate::policy::syntax::api::ApiText;
use crate::policy::syntax::log::Log;
use crate::policy::syntax::org::OrgText;
use crate::policy::syntax::rule::WhoText;
use crate::policy::syntax::value::Flaw;

/// Complains about every API that breaks a guardrail.
pub(crate) fn check(org: &OrgText, apis: &[ApiText], log: &mut Log) {
    let rails = &org.guardrails;
    for api in apis {
        let mut broken = |span: Range<usize>, rail: &str, message: String| {
            log.error(&api.source, span, flaw(org, rail, &message));
        };
        if rails.forbid_anonymous {
            for rule in &api.allows {
                let WhoText::Names(names) = &rule.who else { continue };
                if let Some(name) = names.iter().find(|name| name.value == "anonymous") {
                    broken(name.span.clone(), "anonymous", "no rule may allow anybody without an identity".into());
                }
            }
        }
        if rails.every_api_needs_limit && api.limits.is_empty() {
            let message = format!("`{}` has no [[limit]] of its own", api.api.value);
            broken(api.api.span.clone(), "every_api_needs_limit", message);
        }
        if rails.forbid_wildcard_hosts {
            for host in api.hosts.iter().filter(|host| host.value.starts_with("*.")) {
                broken(host.span.clone(), "wildcard_hosts", format!("`{}` is a wildcard", host.value));
            }
        }
        let plaintext = matches!(api.upstream.url.value, UpstreamUrl::Http { .. });
        if rails.forbid_plaintext && plaintext {
            let message = format!("`{}` is spoken to without TLS", api.upstream.url.value);
            broken(api.upstream.url.span.clone(), "upstream_plaintext", message);
        }
    }
}

/// The complaint about a broken guardrail, with its author.
pub(crate) fn flaw(org: &OrgText, rail: &str, message: &str) -> Flaw {
    let message = format!("{message} (guardrail `{rail}`)");
    Flaw::new("guardrail", message, &format!("the guardrail is set by {}", author(org)))
}

fn author(org: &OrgText) -> &str {
    org.owner.as_deref().unwrap_or("the security team")
}

/// The complaint about a missing test: a broken guardrail, or advice.
pub(crate) fn missing_test(org: &OrgText, source: &Source, span: Range<usize>, message: &str, log: &mut Log) {
    let mut hint = "write a [[test]] in the same file".to_owned();
    if org.guardrails.tests_required {
        hint = format!("{hint}: guardrail `tests`, set by {}", author(org));
    }
    let flaw = Flaw::new("missing-test", message.to_owned(), &hint);
    if org.guardrails.tests_required {
        log.error(source, span, flaw);
    } else {
        log.warn(source, span, flaw);
    }
}
