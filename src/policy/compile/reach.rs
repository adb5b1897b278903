//! Rules against each other: twice the same, never reached, without effect, and collections that nobody covers.

use std::collections::HashMap;

use crate::policy::Source;
use crate::policy::api::Api;
use crate::policy::bundle::Org;
use crate::policy::pattern::Pattern;
use crate::policy::rule::Rule;
use crate::policy::syntax::api::ApiText;
use crate::policy::syntax::log::Log;
use crate::policy::syntax::org::OrgText;
use crate::policy::syntax::value::Flaw;

/// Compares all rules that could meet.
pub(crate) fn check(org_text: &OrgText, org: &Org, texts: &[ApiText], apis: &[Api], log: &mut Log) {
    find_twins(&org.denies, &org_text.source, log);
    for (text, api) in texts.iter().zip(apis) {
        find_twins(&api.allows, &text.source, log);
        find_twins(&api.denies, &text.source, log);
        for allow in &api.allows {
            let own = api.denies.iter().find(|deny| covers(deny, allow));
            let deny = own.or_else(|| org.denies.iter().find(|deny| covers_from_org(deny, allow, api)));
            if let Some(deny) = deny {
                let message = format!("`{}` denies all that this rule allows", deny.id);
                let flaw = Flaw::new("unreachable-allow", message, "remove the rule, or narrow the denial");
                log.error(&text.source, allow.span.clone(), flaw);
            }
        }
        for deny in &api.denies {
            if !api.allows.iter().any(|allow| deny.intersects(allow)) {
                let message = "no allow rule of this API meets this denial".to_owned();
                let flaw = Flaw::new("deny-without-effect", message, "what no rule allows is denied anyway");
                log.warn(&text.source, deny.span.clone(), flaw);
            }
        }
        find_bare_collections(api, &text.source, log);
    }
}

fn find_twins(rules: &[Rule], source: &Source, log: &mut Log) {
    let mut bodies: HashMap<String, &Rule> = HashMap::new();
    for rule in rules {
        let body = format!("{:?} {:?} {:?}", rule.methods, rule.paths, rule.who);
        if let Some(twin) = bodies.insert(body, rule) {
            let message = format!("this rule says the same as `{}`", twin.id);
            log.error(source, rule.span.clone(), Flaw::new("duplicate-rule", message, "remove one"));
        }
    }
}

fn covers(deny: &Rule, allow: &Rule) -> bool {
    deny.who.covers(&allow.who)
        && allow.is_within(&deny.methods, |path| deny.paths.iter().any(|denied| denied.covers(path)))
}

/// The organisation's rules see the path on the wire and the path below `base`.
fn covers_from_org(deny: &Rule, allow: &Rule, api: &Api) -> bool {
    let covered = |path: &Pattern| deny.paths.iter().any(|denied| denied.covers(path));
    deny.who.covers(&allow.who)
        && allow.is_within(&deny.methods, |path| covered(path) || path.under(api.prefix()).iter().all(covered))
}

fn find_bare_collections(api: &Api, source: &Source, log: &mut Log) {
    let rules = || api.allows.iter().chain(&api.denies);
    for allow in &api.allows {
        for collection in allow.paths.iter().filter_map(Pattern::collection) {
            if rules().any(|rule| rule.paths.iter().any(|path| path.intersects(&collection))) {
                continue;
            }
            let message = format!("no rule speaks about `{}` itself", collection.as_str());
            let hint = "`**` is one or more segments; add the path, or deny it to show that this is meant";
            log.warn(source, allow.span.clone(), Flaw::new("collection-not-covered", message, hint));
        }
    }
}
