//! Names that files use: issuers, subjects, claims, authorities.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;

use crate::identity::IssuerName;
use crate::policy::api::Attribute;
use crate::policy::issuer::{Allowed, ClaimType, Issuer};
use crate::policy::select::{Selector, Who};
use crate::policy::syntax::api::ApiText;
use crate::policy::syntax::identity::{IdentityText, SelectorText, unknown_claim};
use crate::policy::syntax::log::Log;
use crate::policy::syntax::rule::WhoText;
use crate::policy::syntax::table::{At, unknown};
use crate::policy::syntax::value::Flaw;
use crate::policy::{Environment, Source};

/// How a subject says whose tokens count.
const NAME_ISSUERS: &str = "name them: `issuers = [...]` in the subject, or `login = [...]` in the API";

/// What `_identity.toml` defines.
#[derive(Debug, Default)]
pub(crate) struct Names {
    pub(crate) issuers: Vec<Issuer>,
    issuer_names: Vec<String>,
    /// `None` for a flawed subject, whose complaint is already written.
    subjects: HashMap<String, Option<Arc<Selector>>>,
    claims: BTreeMap<String, ClaimType>,
}

/// Resolves `_identity.toml` itself.
pub(crate) fn resolve(text: Option<&IdentityText>, environment: &Environment, log: &mut Log) -> Names {
    let mut names = Names::default();
    let Some(text) = text else { return names };
    let source = &text.source;
    let mut unlimited: Option<&str> = None;
    for written in &text.issuers {
        names.issuer_names.push(written.name.value.clone());
        let Some(issuer) = &written.issuer else { continue };
        if !(environment.can_fetch)(&issuer.url) {
            let message = format!("nothing can be fetched from `{}`", issuer.url);
            let hint = "an issuer has a name or an address, and a port from 1 to 65535; metadata services are none";
            log.error(source, written.url.clone(), Flaw::new("bad-url", message, hint));
        }
        if let Some(ca) = issuer.ca.as_ref().filter(|ca| !environment.authorities.contains(ca)) {
            log.error(source, written.ca.clone(), unknown_authority(ca, environment));
        }
        if let Some(other) = names.issuers.iter().find(|other| other.url == issuer.url) {
            let message = format!("`{}` has this url already, so that a token would be of both", other.name);
            log.error(source, written.url.clone(), Flaw::new("duplicate-issuer", message, "make them one issuer"));
        }
        if issuer.groups == Allowed::All {
            if let Some(other) = unlimited {
                let message = format!("`{other}` already states all groups, and one issuer in a bundle may");
                let flaw = Flaw::new("issuer-groups", message, "list the groups that this one may state");
                log.error(source, written.groups.clone(), flaw);
            }
            unlimited = Some(&written.name.value);
        }
        for (path, kind) in &issuer.claims {
            let known = names.claims.entry(path.clone()).or_insert(*kind);
            if known != kind {
                let message = format!("the claim `{path}` is elsewhere declared as \"{}\"", known.as_str());
                let flaw = Flaw::new("claim-type", message, "all issuers declare one type for one claim");
                log.error(source, written.claims.clone(), flaw);
            }
        }
        names.issuers.push(issuer.clone());
    }
    for written in &text.subjects {
        let selector = written
            .selector
            .as_ref()
            .map(|selector| Arc::new(names.selector(&written.name.value, selector, source, log)));
        names.subjects.insert(written.name.value.clone(), selector);
    }
    names
}

/// The complaint about an authority that the configuration does not have.
pub(crate) fn unknown_authority(name: &str, environment: &Environment) -> Flaw {
    let message = format!("`{name}` is not in [authorities] of the configuration");
    unknown("unknown-authority", message, name, environment.authorities.iter())
}

fn boxed(texts: &[String]) -> Box<[Box<str>]> {
    texts.iter().map(|text| text.as_str().into()).collect()
}

impl Names {
    fn selector(&self, name: &str, text: &SelectorText, source: &Source, log: &mut Log) -> Selector {
        for issuer in &text.issuers {
            self.check_issuer(issuer, source, log);
        }
        for (path, values) in &text.claims {
            let flaw = match self.claims.get(&path.value) {
                None => unknown_claim(&path.value, self.claims.keys().map(String::as_str)),
                Some(kind) if !values.fits(*kind) => {
                    let message = format!("the claim `{}` is declared as \"{}\"", path.value, kind.as_str());
                    Flaw::new("claim-type", message, "compare it with values of that type")
                }
                Some(_) => continue,
            };
            log.error(source, path.span.clone(), flaw);
        }
        Selector {
            name: name.into(),
            issuers: text.issuers.iter().map(|name| IssuerName::new(name.value.as_str())).collect(),
            groups: boxed(&text.groups),
            users: boxed(&text.users),
            emails: boxed(&text.emails),
            claims: text.claims.iter().map(|(path, values)| (path.value.as_str().into(), values.clone())).collect(),
            bindings: text.bindings.clone().into(),
            methods: text.methods.clone().into(),
        }
    }

    /// Whether the issuer exists; complains if not.
    fn check_issuer(&self, name: &At<String>, source: &Source, log: &mut Log) -> bool {
        let known = self.issuer_names.contains(&name.value);
        if !known {
            let message = format!("there is no issuer `{}`", name.value);
            let names = self.issuer_names.iter().map(String::as_str);
            log.error(source, name.span.clone(), unknown("unknown-issuer", message, &name.value, names));
        }
        known
    }

    /// Complains about what believes every issuer: one may state the address that another has verified.
    fn check_open(&self, what: &str, hint: &str, place: Range<usize>, source: &Source, log: &mut Log) {
        if self.issuer_names.len() > 1 {
            let message = format!("{what} takes what it says of a token from every issuer of the bundle");
            log.error(source, place, Flaw::new("any-issuer", message, hint));
        }
    }

    /// Resolves a `who`; complains about subjects that do not exist, and about those that believe every issuer unless
    /// the API says whose tokens it takes.
    pub(crate) fn who(&self, text: &WhoText, tokens_named: bool, source: &Source, log: &mut Log) -> Who {
        let mut who = Who::default();
        let names = match text {
            WhoText::Inline(selector) => {
                if let Some(place) = selector.open.clone().filter(|_| !tokens_named) {
                    self.check_open("this selector", NAME_ISSUERS, place, source, log);
                }
                who.subjects.push(Arc::new(self.selector("(inline)", selector, source, log)));
                return who;
            }
            WhoText::Names(names) => names,
        };
        for name in names {
            if log.is_full() {
                break;
            }
            match name.value.as_str() {
                "anonymous" => who.anonymous = true,
                "anyone-authenticated" => who.authenticated = true,
                subject => match self.subjects.get(subject) {
                    Some(selector) => {
                        if !tokens_named && selector.as_ref().is_some_and(|selector| selector.believes_all()) {
                            self.check_open(&format!("`{subject}`"), NAME_ISSUERS, name.span.clone(), source, log);
                        }
                        who.subjects.extend(selector.clone());
                    }
                    None => {
                        let known = self.subjects.keys().map(String::as_str);
                        let known = known.chain(["anonymous", "anyone-authenticated"]);
                        let message = format!("there is no subject `{subject}`");
                        log.error(source, name.span.clone(), unknown("unknown-subject", message, subject, known));
                    }
                },
            }
        }
        who.subjects.sort_by(|one, two| one.name.cmp(&two.name));
        who
    }

    /// Resolves `login`; `None` when an issuer does not exist.
    pub(crate) fn logins(&self, text: &ApiText, log: &mut Log) -> Option<Vec<IssuerName>> {
        let mut whole = true;
        for name in &text.login {
            whole &= self.check_issuer(name, &text.source, log);
        }
        whole.then(|| text.login.iter().map(|name| IssuerName::new(name.value.as_str())).collect())
    }

    /// Complains about asserted claims that no issuer declares, and about what tokens state unless the API says whose
    /// tokens it takes.
    pub(crate) fn check_asserted(&self, text: &ApiText, tokens_named: bool, log: &mut Log) {
        for (header, attribute) in &text.assert_headers {
            if let Attribute::Claim(path) = &attribute.value
                && !self.claims.contains_key(path)
            {
                let flaw = unknown_claim(path, self.claims.keys().map(String::as_str));
                log.error(&text.source, attribute.span.clone(), flaw);
            } else if attribute.value.is_stated_by_tokens() && !tokens_named {
                let hint = "name them: `login = [...]` in the API";
                self.check_open(&format!("`{header}`"), hint, attribute.span.clone(), &text.source, log);
            }
        }
    }
}
