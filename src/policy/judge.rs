//! The evaluation of one request: pure, order-free, closed unless a rule opens.

use std::sync::Arc;

use crate::identity::{Group, Identity, StatedGroups};
use crate::request::CanonicalRequest;

use super::api::{Api, Attribute, Bearer};
use super::bundle::Bundle;
use super::decision::{Allowance, Charge, Decision, Denial, Judgement, NearMiss, Permit, Reason, RuleId};
use super::limit::{self, KeyPart};
use super::rule::{Applied, Counted, Rule};
use super::select::{Seen, Truth, View as _};
use super::{Facts, visibility};

/// Most near misses that a denial lists.
const MAX_NEAR_MISSES: usize = 4;

/// Judges the facts of one request.
///
/// In this order: is there an API, and may this person know of it; does it need a token; does a deny rule match, or
/// might it; does an allow rule hold; which limits count the request.
pub fn judge(bundle: &Bundle, facts: &Facts<'_>) -> Judgement {
    let request = facts.request;
    let Some(api) = bundle.api_for(request.host(), request.path()) else {
        return deny(Reason::NoSuchApi, None);
    };
    let Some(relative) = api.relative(request.path()) else { return deny(Reason::NoSuchApi, None) };
    if facts.subject.is_some() && !visibility::is_visible(bundle, api, &facts.evidence()) {
        return deny(Reason::NoSuchApi, Some(api));
    }
    let seen = seen(api, facts);
    if !api.login.is_empty() && !seen.token.is_some_and(|token| api.login.contains(&token.issuer)) {
        return deny(Reason::LoginRequired, Some(api));
    }
    if let Some(denial) = denied(bundle, api, &seen, relative) {
        return Judgement::Deny(denial);
    }
    let holds = |rule: &&Rule| rule.routes(request.method(), &[relative]) && rule.who.holds(&seen) == Truth::True;
    let Some(rule) = api.allows.iter().find(holds) else {
        return Judgement::Deny(no_rule(api, &seen, relative));
    };
    match charges(bundle, api, &seen, relative) {
        Ok(charges) => Judgement::Allow(Allowance { api: api.clone(), rule: rule.id.clone(), charges }),
        Err(limit) => {
            let mut denial = denial(Reason::LimitKeyUnknown, Some(api));
            denial.rule = Some(limit);
            Judgement::Deny(denial)
        }
    }
}

/// What the evidence of this request states, as far as the API takes it as evidence.
pub(crate) fn seen<'a>(api: &Api, facts: &'a Facts<'a>) -> Seen<'a> {
    let token = match api.bearer {
        Bearer::Judge => facts.token.filter(|_| facts.subject.is_some()),
        Bearer::Pass => None,
    };
    Seen { facts, token }
}

/// The readings of the path that the organisation's rules look at: the one on the wire, and the one below `base`,
/// which is what the upstream sees when the API strips it. Without a base they are one.
pub(crate) fn readings<'r, 'p>(both: &'r [&'p str; 2]) -> &'r [&'p str] {
    let [path, relative] = both;
    if path.len() == relative.len() { &both[..1] } else { both }
}

fn denial(reason: Reason, api: Option<&Arc<Api>>) -> Denial {
    Denial {
        reason,
        status: reason.status(),
        api: api.cloned(),
        rule: None,
        owner: api.map(|api| api.owner.clone()),
        why: None,
        near_misses: Vec::new(),
        request: None,
    }
}

fn deny(reason: Reason, api: Option<&Arc<Api>>) -> Judgement {
    Judgement::Deny(denial(reason, api))
}

fn denied(bundle: &Bundle, api: &Arc<Api>, seen: &Seen<'_>, relative: &str) -> Option<Denial> {
    let request = seen.facts.request;
    let both = [request.path(), relative];
    let both = readings(&both);
    let org = bundle.org.denies.iter().filter(|rule| rule.routes(request.method(), both));
    let own = api.denies.iter().filter(|rule| rule.routes(request.method(), &[relative]));
    let org = org.map(|rule| (rule, bundle.org.owner.as_ref().unwrap_or(&api.owner)));
    let own = own.map(|rule| (rule, &api.owner));
    let mut undetermined = None;
    for (rule, owner) in org.chain(own) {
        match rule.who.holds(seen) {
            Truth::True => return Some(denied_by(Reason::DeniedBy, api, rule, owner)),
            Truth::Unknown => undetermined = undetermined.or(Some((rule, owner))),
            Truth::False => {}
        }
    }
    undetermined.map(|(rule, owner)| denied_by(Reason::DenyUndetermined, api, rule, owner))
}

fn denied_by(reason: Reason, api: &Arc<Api>, rule: &Rule, owner: &Arc<str>) -> Denial {
    let why = rule.why.clone();
    Denial { rule: Some(rule.id.clone()), why, owner: Some(owner.clone()), ..denial(reason, Some(api)) }
}

/// The refusal for lack of a rule, with the rules that came near: first those that missing evidence could make hold.
fn no_rule(api: &Arc<Api>, seen: &Seen<'_>, relative: &str) -> Denial {
    let request = seen.facts.request;
    let mut near: Vec<(Truth, &Rule)> = api
        .allows
        .iter()
        .filter(|rule| rule.routes(request.method(), &[relative]))
        .map(|rule| (rule.who.holds(seen), rule))
        .collect();
    near.sort_by_key(|(who, _)| std::cmp::Reverse(*who));
    let reason = match near.is_empty() {
        true => Reason::NoRule,
        false if seen.authenticated() => Reason::NoRuleForSubject,
        false => Reason::LoginRequired,
    };
    let mut denial = denial(reason, Some(api));
    if api.hide_routes && reason != Reason::LoginRequired {
        denial.status = 404;
    }
    denial.why = near.iter().find(|(who, _)| *who == Truth::Unknown).and_then(|(_, rule)| rule.why.clone());
    let misses = near.into_iter().take(MAX_NEAR_MISSES);
    denial.near_misses = misses.map(|(who, rule)| NearMiss { rule: rule.id.clone(), who }).collect();
    denial
}

/// The buckets of all limits that count the request, or the limit with an unknown key.
fn charges(bundle: &Bundle, api: &Arc<Api>, seen: &Seen<'_>, relative: &str) -> Result<Vec<Charge>, RuleId> {
    let request = seen.facts.request;
    let both = [request.path(), relative];
    let both = readings(&both);
    let mut charges = Vec::with_capacity(bundle.org.limits.len() + api.limits.len());
    for applied in &bundle.org.limits {
        charges.extend(charge(applied, api, seen, both)?);
    }
    for applied in &api.limits {
        charges.extend(charge(applied, api, seen, &[relative])?);
    }
    Ok(charges)
}

fn charge(applied: &Applied, api: &Api, seen: &Seen<'_>, paths: &[&str]) -> Result<Option<Charge>, RuleId> {
    let Some(counted) = applied.counts(seen.facts.request.method(), paths) else { return Ok(None) };
    if applied.who.as_ref().is_some_and(|who| who.holds(seen) == Truth::False) {
        return Ok(None);
    }
    let unknown = || applied.limit.id.clone();
    let mut key = String::with_capacity(48);
    for part in &applied.limit.key {
        match part {
            KeyPart::User => limit::append(&mut key, part, seen.facts.subject.ok_or_else(unknown)?),
            KeyPart::Client => {
                let client = seen.token.and_then(|token| token.client_id.as_deref());
                limit::append(&mut key, part, client.ok_or_else(unknown)?);
            }
            KeyPart::Tunnel => {
                let session = seen.facts.session.ok_or_else(unknown)?;
                let session = session.text();
                limit::append(&mut key, part, std::str::from_utf8(&session).map_err(|_| unknown())?);
            }
            KeyPart::Api => limit::append(&mut key, part, &api.name),
            KeyPart::Path(name) => {
                let value = match counted {
                    Counted::Whole => None,
                    Counted::Path(pattern, path) => pattern.bind(name, path),
                };
                limit::append(&mut key, part, &value.ok_or_else(unknown)?);
            }
        }
    }
    Ok(Some(Charge { limit: applied.limit.clone(), key }))
}

/// Decides one request of one identity. The only way to a permit.
pub fn decide(bundle: &Arc<Bundle>, identity: &Identity, request: CanonicalRequest) -> Decision {
    let facts = Facts::of(identity, &request);
    let judgement = judge(bundle, &facts);
    let asserted = match &judgement {
        Judgement::Allow(allowance) => asserted(&allowance.api, &facts),
        Judgement::Deny(_) => Vec::new(),
    };
    conclude(bundle, judgement, asserted, request)
}

/// Joins a judgement and the request that was judged.
pub(super) fn conclude(
    bundle: &Arc<Bundle>,
    judgement: Judgement,
    asserted: Vec<(usize, Box<str>)>,
    request: CanonicalRequest,
) -> Decision {
    match judgement {
        Judgement::Allow(allowance) => Decision::Allow(Permit { request, bundle: bundle.clone(), allowance, asserted }),
        Judgement::Deny(mut denial) => {
            denial.request = Some(request);
            Decision::Deny(denial)
        }
    }
}

/// The values of the API's asserted headers that are known, with their places in its list.
pub(crate) fn asserted(api: &Api, facts: &Facts<'_>) -> Vec<(usize, Box<str>)> {
    if api.assert_headers.is_empty() {
        return Vec::new();
    }
    let seen = seen(api, facts);
    let known = api.assert_headers.iter().enumerate();
    known.filter_map(|(at, (_, attribute))| Some((at, attribute_value(attribute, &seen)?.into()))).collect()
}

fn attribute_value(attribute: &Attribute, seen: &Seen<'_>) -> Option<String> {
    use crate::identity::{Claim, Kind};
    let facts = seen.facts;
    match attribute {
        Attribute::UserId => facts.subject.map(header_text),
        Attribute::UserEmail => seen.token?.email.as_deref().map(header_text),
        Attribute::UserGroups => Some(groups_text(seen)),
        Attribute::UserKind => Some(match facts.kind {
            Kind::Person => "person".to_owned(),
            Kind::Client => "client".to_owned(),
        }),
        Attribute::ClientId => seen.token?.client_id.as_deref().map(header_text),
        Attribute::TunnelId => facts.session.map(|session| session.to_string()),
        Attribute::TunnelBinding => facts.binding.map(|binding| binding.as_str().to_owned()),
        Attribute::TunnelMethod => facts.method.map(|method| method.as_str().to_owned()),
        Attribute::Claim(path) => match seen.token?.claims.get(path)? {
            Claim::Text(text) => Some(header_text(text)),
            Claim::Texts(texts) => Some(texts.iter().map(|text| header_text(text)).collect::<Vec<_>>().join(",")),
            Claim::Number(number) => Some(number.to_string()),
            Claim::Flag(flag) => Some(flag.to_string()),
        },
    }
}

fn groups_text(seen: &Seen<'_>) -> String {
    let stated = match seen.token.map(|token| &token.groups) {
        Some(StatedGroups::Known(groups)) => groups.as_slice(),
        Some(StatedGroups::NotStated | StatedGroups::Unknown) | None => &[],
    };
    let mut names: Vec<&str> = seen.facts.local_groups.iter().chain(stated).map(Group::as_str).collect();
    names.sort_unstable();
    names.dedup();
    names.into_iter().map(header_text).collect::<Vec<_>>().join(",")
}

/// A value that a header can carry and that a comma cannot split: all but visible ASCII, and `,` and `%`, is
/// percent-encoded.
fn header_text(text: &str) -> String {
    use std::fmt::Write as _;
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_graphic() && !matches!(byte, b',' | b'%') {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}
